"""Values of rows: Python's, or their texts, to the reference implementation's, and back."""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Any

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2
from zetasql.wasi._pb2.zetasql.public import type_pb2, value_pb2

from local.googlesql.types import STANDARD_NAMES, Field

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCALE = {"NUMERIC": 9, "BIGNUMERIC": 38}


def decoded(value: Any, type_: Any) -> Any:
    """The engine's value of a type as Python's: decimals, aware times; an array as a list, a STRUCT as a dict."""
    which = value.WhichOneof("value")
    if which is None:
        return None
    raw = getattr(value, which)
    if type_.type_kind == type_pb2.TYPE_ARRAY:
        return [decoded(each, type_.array_type.element_type) for each in raw.element]
    if type_.type_kind == type_pb2.TYPE_STRUCT:
        names = type_.struct_type.field
        return {name.field_name: decoded(each, name.field_type) for name, each in zip(names, raw.field, strict=True)}
    if which == "numeric_value":
        return _scaled(raw, _SCALE["NUMERIC"])
    if which == "bignumeric_value":
        return _scaled(raw, _SCALE["BIGNUMERIC"])
    if which == "date_value":
        return _EPOCH.date() + timedelta(days=raw)
    if which == "timestamp_value":
        return _EPOCH + timedelta(seconds=raw.seconds, microseconds=raw.nanos // 1000)
    if which == "datetime_value":
        bits = raw.bit_field_datetime_seconds
        day = date(bits >> 26, bits >> 22 & 15, bits >> 17 & 31)
        return datetime.combine(day, _time(bits & 0x1FFFF, raw.nanos))
    if which == "time_value":
        return _time(raw >> 30, raw & 0x3FFFFFFF)
    return raw


def _time(bits: int, nanoseconds: int) -> time:
    return time(bits >> 12 & 31, bits >> 6 & 63, bits & 63, nanoseconds // 1000)


def _scaled(data: bytes, scale: int) -> Decimal:
    number = int.from_bytes(data, "little", signed=True)
    return Decimal((int(number < 0), tuple(map(int, str(abs(number)))), -scale))


def encoded(value: Any, field: Field) -> Any:
    """Python's value of a column, or its text, as the engine's.

    Raises:
        ValueError: it is none of the column's type.
    """
    proto = value_pb2.ValueProto()
    if field.get("mode") == "REPEATED":
        proto.array_value.SetInParent()
        proto.array_value.element.extend(encoded(each, {**field, "mode": "NULLABLE"}) for each in value or ())
    elif value is not None:
        name = field["type"].upper()
        _fill(proto, STANDARD_NAMES.get(name, name), value, field)
    return proto


def _fill(proto: Any, name: str, value: Any, field: Field) -> None:
    plain = {"STRING": str, "INT64": int, "FLOAT64": float, "BOOL": bool}
    attributes = {"STRING": "string_value", "INT64": "int64_value", "FLOAT64": "double_value", "BOOL": "bool_value"}
    if name in plain:
        setattr(proto, attributes[name], plain[name](value))
    elif name in _SCALE:
        setattr(proto, f"{name.lower()}_value", _unscaled(Decimal(value), _SCALE[name]))
    elif name == "DATE":
        proto.date_value = ((date.fromisoformat(value) if isinstance(value, str) else value) - _EPOCH.date()).days
    elif name == "TIMESTAMP":
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
        proto.timestamp_value.seconds = since.days * 86_400 + since.seconds
        proto.timestamp_value.nanos = since.microseconds * 1_000
    elif name == "DATETIME":
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        day = moment.year << 26 | moment.month << 22 | moment.day << 17
        proto.datetime_value.bit_field_datetime_seconds = day | _bits(moment)
        proto.datetime_value.nanos = moment.microsecond * 1_000
    elif name == "TIME":
        moment = time.fromisoformat(value) if isinstance(value, str) else value
        proto.time_value = _bits(moment) << 30 | moment.microsecond * 1_000
    elif name == "BYTES":
        proto.bytes_value = base64.b64decode(value) if isinstance(value, str) else value
    elif name == "JSON":
        proto.json_value = value if isinstance(value, str) else json.dumps(value)
    elif name == "STRUCT":
        proto.struct_value.SetInParent()
        proto.struct_value.field.extend(encoded(value.get(each["name"]), each) for each in field["fields"])
    else:
        raise ValueError(f"no values of type {name} can be given to the reference implementation")


def _bits(moment: datetime | time) -> int:
    return moment.hour << 12 | moment.minute << 6 | moment.second


def _unscaled(value: Decimal, scale: int) -> bytes:
    exact = Context(prec=100)
    number = exact.scaleb(value, scale)
    if not number.is_finite() or number != exact.to_integral_value(number):
        raise ValueError(f"{value} is no number of {scale} decimals")
    whole = int(number)
    return whole.to_bytes(max(1, (whole.bit_length() + 8) // 8), "little", signed=True)


def content_of(rows: Iterable[Mapping[str, Any]], fields: Iterable[Field]) -> Any:
    """Rows as the content of a table of the engine."""
    content = local_service_pb2.TableContent()
    content.table_data.SetInParent()
    fields = list(fields)
    for row in rows:
        cells = content.table_data.row.add()
        cells.cell.extend(encoded(row.get(field["name"]), field) for field in fields)
    return content
