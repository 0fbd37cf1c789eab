"""Types of REST schemas as GoogleSQL's, and back."""

from collections.abc import Mapping
from typing import Any

from zetasql.wasi._pb2.zetasql.public import type_pb2

Field = Mapping[str, Any]
"""A column as BigQuery's REST API writes it: ``name``, ``type``, ``mode``, ``fields``."""

_KINDS = {
    "STRING": "TYPE_STRING",
    "INT64": "TYPE_INT64",
    "FLOAT64": "TYPE_DOUBLE",
    "NUMERIC": "TYPE_NUMERIC",
    "BIGNUMERIC": "TYPE_BIGNUMERIC",
    "BOOL": "TYPE_BOOL",
    "DATE": "TYPE_DATE",
    "TIMESTAMP": "TYPE_TIMESTAMP",
    "DATETIME": "TYPE_DATETIME",
    "TIME": "TYPE_TIME",
    "BYTES": "TYPE_BYTES",
    "JSON": "TYPE_JSON",
    "GEOGRAPHY": "TYPE_GEOGRAPHY",
    "INTERVAL": "TYPE_INTERVAL",
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
STANDARD_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
"""Standard SQL's names of types for those that the API uses."""
REST_NAMES = {standard: name for name, standard in STANDARD_NAMES.items()}
"""And the other way round."""


def type_of(field: Field) -> Any:
    """GoogleSQL's type of a column.

    Raises:
        KeyError: BigQuery has no such type.
    """
    name = field["type"].upper()
    name = STANDARD_NAMES.get(name, name)
    if name == "STRUCT":
        type_ = type_pb2.TypeProto(type_kind=type_pb2.TYPE_STRUCT)
        for inner in field["fields"]:
            type_.struct_type.field.add(field_name=inner["name"], field_type=type_of(inner))
    elif name == "RANGE":
        type_ = type_pb2.TypeProto(type_kind=type_pb2.TYPE_RANGE)
        type_.range_type.element_type.CopyFrom(type_of(field["rangeElementType"]))
    else:
        type_ = type_pb2.TypeProto(type_kind=type_pb2.TypeKind.Value(_KINDS[name]))
    if field.get("mode") != "REPEATED":
        return type_
    array = type_pb2.TypeProto(type_kind=type_pb2.TYPE_ARRAY)
    array.array_type.element_type.CopyFrom(type_)
    return array


def field_of(name: str, type_: Any) -> dict[str, Any]:
    """A column of a REST schema, by its name and GoogleSQL's type."""
    if type_.type_kind == type_pb2.TYPE_ARRAY:
        return field_of(name, type_.array_type.element_type) | {"mode": "REPEATED"}
    if type_.type_kind == type_pb2.TYPE_STRUCT:
        inner = [field_of(each.field_name, each.field_type) for each in type_.struct_type.field]
        return {"name": name, "type": "STRUCT", "fields": inner}
    if type_.type_kind == type_pb2.TYPE_RANGE:
        return {"name": name, "type": "RANGE", "rangeElementType": field_of("", type_.range_type.element_type)}
    kind = type_pb2.TypeKind.Name(type_.type_kind)
    return {"name": name, "type": _NAMES.get(kind, kind)}


def name_of(field: Field) -> str:
    """A column's type, as SQL writes it."""
    name = field["type"].upper()
    name = STANDARD_NAMES.get(name, name)
    if name == "STRUCT":
        inner = ", ".join(f"{each['name']} {name_of(each)}".strip() for each in field["fields"])
        name = f"STRUCT<{inner}>"
    elif name == "RANGE":
        name = f"RANGE<{name_of(field['rangeElementType'])}>"
    return f"ARRAY<{name}>" if field.get("mode") == "REPEATED" else name
