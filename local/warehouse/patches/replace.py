"""The one way in which a patch takes a function's place."""

from typing import Any


def replace(owner: Any, name: str, replacement: object) -> None:
    """Put ``replacement`` where ``owner`` (a module or class) has ``name``.

    Raises:
        AttributeError: there is nothing to replace; this version of the package is not the one that was patched.
    """
    getattr(owner, name)
    setattr(owner, name, replacement)
