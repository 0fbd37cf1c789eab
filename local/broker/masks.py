"""Field masks of update requests."""

from collections.abc import Set
from typing import Any

from local.broker.errors import InvalidArgumentError


def merge(request: Any, source: Any, target: Any, changeable: Set[str]) -> None:
    """Copy the fields that `request.update_mask` names from one proto-plus message into another.

    Raises:
        InvalidArgumentError: the mask is empty or names a field that is not among the changeable.
    """
    mask = type(request).pb(request).update_mask
    if not mask.paths:
        raise InvalidArgumentError("The update_mask must be set and must contain a non-empty paths list.")
    for path in mask.paths:
        if path not in changeable:
            raise InvalidArgumentError(f"Invalid update_mask: {path!r} is not one of {sorted(changeable)}.")
    mask.MergeMessage(type(source).pb(source), type(target).pb(target), True, True)
