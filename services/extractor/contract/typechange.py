"""Two PostgreSQL types as format_type() writes them: the same, wider, narrower, or something else."""

import math
import re

_TYPE = re.compile(r"(?P<name>[^(]+?)(?:\((?P<first>\d+)(?:,(?P<second>-?\d+))?\))?(?P<rest>[^()]*)")
_LADDERS = (("smallint", "integer", "bigint"), ("real", "double precision"))
_WITH_LENGTH = {"character varying": "text", "text": "text", "bit varying": "bit varying"}
_WITH_PRECISION = {
    "timestamp with time zone",
    "timestamp without time zone",
    "time with time zone",
    "time without time zone",
    "interval",
}


def same_type(declared: str, found: str) -> bool:
    """Whether two types are the same; a schema may stand before one of them.

    format_type() writes the schema only where the session's search_path does not lead to the type.
    """
    return declared == found or declared.endswith(f".{found}") or found.endswith(f".{declared}")


def what_changed(before: str, after: str) -> str:
    """``was widened``, ``was narrowed``, or ``changed`` where neither type holds every value of the other."""
    (family, old), (other_family, new) = _room(before), _room(after)
    if family != other_family or old == new:
        return "changed"
    if all(a <= b for a, b in zip(old, new, strict=True)):
        return "was widened"
    return "was narrowed" if all(a >= b for a, b in zip(old, new, strict=True)) else "changed"


def keeps_texts(before: str, after: str) -> bool:
    """Whether every value has the same text after a change of its type: not with more digits of its own, or blanks."""
    if {before, after} <= {"text", "character varying"}:
        return True
    if what_changed(before, after) != "was widened" or before == "real":
        return False
    old, new = _TYPE.fullmatch(before), _TYPE.fullmatch(after)
    return old is not None and new is not None and (old["name"] != "numeric" or old["second"] == new["second"])


def _room(type_: str) -> tuple[str, tuple[float, ...]]:
    """The family of a type, and how much its values have room for; comparable within the family."""
    parts = _TYPE.fullmatch(type_)
    if parts is None:
        return type_, ()
    name = f"{parts['name']}{parts['rest']}"
    first = float(parts["first"]) if parts["first"] else None
    for ladder in _LADDERS:
        if name in ladder:
            return ladder[0], (ladder.index(name),)
    if name == "numeric":
        scale = float(parts["second"] or 0)
        return name, (math.inf, math.inf) if first is None else (first - scale, scale)
    if name in _WITH_LENGTH:
        return _WITH_LENGTH[name], (math.inf if first is None else first,)
    if name in _WITH_PRECISION:
        return name, (6 if first is None else first,)
    return type_, ()
