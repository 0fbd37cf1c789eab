"""What must arrive for a value, computed from what psql would print, without the extractor's help."""

import re
import struct
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from enum import Enum
from typing import Any

from services.core.tables import ColumnType


class NotHeld(Enum):
    """Stands for a value that the BigQuery type cannot hold."""

    NOT_HELD = "not held"


NOT_HELD = NotHeld.NOT_HELD
_EXACT = Context(prec=200_000)
_ROOM = {ColumnType.NUMERIC: (29, 9), ColumnType.BIGNUMERIC: (38, 38)}


def arriving(printed: str | None, type_: ColumnType, source: str) -> Any:
    """The value in BigQuery, as its client gives it, or NOT_HELD.

    Args:
        printed: PostgreSQL's output of the value, in ISO style and UTC.
        type_: type in BigQuery.
        source: PostgreSQL's type, as a column is declared.
    """
    if printed is None:
        return None
    match type_:
        case ColumnType.STRING:
            # The one text that is not what psql prints: BigQuery's casts, like PostgreSQL's own, know true and false.
            return {"t": "true", "f": "false"}[printed] if source == "boolean" else printed
        case ColumnType.INT64:
            return int(printed)
        case ColumnType.FLOAT64:
            single = source in ("real", "single")
            return struct.unpack("f", struct.pack("f", float(printed)))[0] if single else float(printed)
        case ColumnType.BOOL:
            return {"t": True, "f": False}[printed]
        case ColumnType.BYTES:
            return bytes.fromhex(printed.removeprefix("\\x"))
        case ColumnType.NUMERIC | ColumnType.BIGNUMERIC:
            return _decimal(printed.replace("$", "").replace(",", ""), *_ROOM[type_])
        case ColumnType.TIME:
            return NOT_HELD if printed.startswith("24:") else time.fromisoformat(printed)
    return _calendar(printed, type_)


def same(arrived: Any, expected: Any) -> bool:
    """Whether two values are the same to the last bit: -0.0 is not 0.0, and NaN is NaN."""
    if isinstance(expected, Decimal):
        return isinstance(arrived, Decimal) and arrived == expected
    if isinstance(expected, datetime) and isinstance(arrived, datetime):
        # The client and Arrow have different objects for UTC.
        return arrived.utcoffset() == expected.utcoffset() and arrived == expected
    return type(arrived) is type(expected) and repr(arrived) == repr(expected)


def _decimal(printed: str, integer_digits: int, fraction_digits: int) -> Any:
    value = _EXACT.create_decimal(printed)
    if not value.is_finite() or value.copy_abs() >= Decimal(10) ** integer_digits:
        return NOT_HELD
    exponent = value.normalize(_EXACT).as_tuple().exponent
    assert isinstance(exponent, int)
    return value if value == 0 or -exponent <= fraction_digits else NOT_HELD


def _calendar(printed: str, type_: ColumnType) -> Any:
    if "infinity" in printed or printed.endswith(" BC") or not re.match(r"\d{4}-", printed):
        return NOT_HELD
    if type_ is ColumnType.DATE:
        return date.fromisoformat(printed)
    if type_ is ColumnType.DATETIME:
        return datetime.fromisoformat(printed)
    return datetime.fromisoformat(printed).astimezone(UTC)
