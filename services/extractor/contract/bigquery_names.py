"""Names that BigQuery takes, for source columns whose own name it does not."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from services.core.reserved_names import LONGEST_NAME, is_reserved
from services.core.tables import BRONZE_COLUMNS

_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")


def bigquery_names(source_names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """A name in BigQuery for each source column, unique without regard to case.

    A name that BigQuery takes stays. Of another one the letters, digits and underscores stay, accents go, and where
    that is taken already, eight digits that depend on the source's name alone follow. Columns are named in the given
    order, so a column added later never changes an older one's name.

    Args:
        source_names: names in the source, in the relation's order.
        taken: names that are used already.
    """
    used = {name.lower() for name in (*taken, *BRONZE_COLUMNS)}
    names = {}
    for source_name in source_names:
        name = _nearest(source_name)
        if name.lower() in used:
            name = f"{name[:291]}_{_digits(source_name)}"
        used.add(name.lower())
        names[source_name] = name
    return names


def _nearest(source_name: str) -> str:
    """The most readable name that BigQuery takes."""
    if _SAFE.fullmatch(source_name) and not is_reserved(source_name):
        return source_name
    without_accents = unicodedata.normalize("NFKD", source_name).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_]+", "_", without_accents).strip("_")
    if not name:
        return f"column_{_digits(source_name)}"
    return name if _SAFE.fullmatch(name) and not is_reserved(name) else f"column_{name}"[:LONGEST_NAME]


def _digits(source_name: str) -> str:
    """Eight hexadecimal digits of a name."""
    return hashlib.sha256(source_name.encode()).hexdigest()[:8]
