"""Run a program as another user."""

import pwd
import shutil
from collections.abc import Sequence

from local.stack.options import PYTHON

_BECOME = """
import os, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
os.execv(sys.argv[3], sys.argv[3:])  # nothing may be imported any more: the user may not be able to read it
"""


def as_user(argv: Sequence[str], user: str | None) -> list[str]:
    """Return the command that runs another one as a user, in the same process; None is the caller.

    `subprocess` can change the user by itself, but then forks instead of using vfork, and gRPC, at work in another
    thread of this process, complains about every fork on stderr.
    """
    if user is None:
        return list(argv)
    account = pwd.getpwnam(user)
    program = shutil.which(argv[0]) or argv[0]
    return [str(PYTHON), "-ISc", _BECOME, str(account.pw_uid), str(account.pw_gid), program, *argv[1:]]
