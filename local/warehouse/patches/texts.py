"""Values as text, and text as values, as BigQuery writes and reads them.

``CAST(… AS STRING)`` and ``TO_JSON_STRING`` are DuckDB's in bqemulator: NUMERIC with all its nine decimals, fractions
of a second without the zeros that BigQuery writes, a TIMESTAMP in JSON without its T and Z, large numbers without the
quotes that keep them exact, BYTES as escapes. Text that BigQuery refuses as a number (``1_0``, ``1.5`` as INT64, ``t``
as BOOL) is taken. Now both are BigQuery's, for every type but JSON values and arrays of structs in ``TO_JSON_STRING``.
"""

import re
from typing import Any

from sqlglot import exp

from local.warehouse.patches import typed_expressions
from local.warehouse.patches.numerics import BIGNUMERIC, FLOAT64, INT64, NUMERIC, STRING
from local.warehouse.patches.typed_expressions import bigquery_type, call, is_type, set_type, type_of

BOOL, BYTES, DATE, TIME = exp.DType.BOOLEAN, exp.DType.BINARY, exp.DType.DATE, exp.DType.TIME
DATETIME, TIMESTAMP = exp.DType.DATETIME, exp.DType.TIMESTAMPTZ
_TYPE_NAMES = {
    INT64: "int64",
    FLOAT64: "float64",
    NUMERIC: "numeric",
    BIGNUMERIC: "numeric",
    BOOL: "bool",
    STRING: "string",
    BYTES: "bytes",
    DATE: "date",
    TIME: "time",
    DATETIME: "datetime",
    TIMESTAMP: "timestamp",
}
_NO_LIMIT = 2**32 - 1
_INTEGER = r"[ \t\n\v\f\r]*[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)[ \t\n\v\f\r]*"
_HOURS = "NOT regexp_matches(t, '(^|[tT ])24:')"
_PLAIN = {
    INT64: re.compile(r"[+-]?[0-9]+"),
    NUMERIC: re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"),
    TIME: re.compile(r"[01][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"),
    DATETIME: re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][01][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?)?"),
    TIMESTAMP: re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][012][0-35-9]:[0-5][0-9]:[0-5][0-9].*)?"),
}
"""Literals that both read alike."""

_SCALARS = """
CREATE OR REPLACE MACRO credix_padded(t, seconds) AS CASE
    WHEN length(t) = seconds THEN t
    WHEN length(t) <= seconds + 4 THEN rpad(t, seconds + 4, '0')
    ELSE rpad(t, seconds + 7, '0')
END;
CREATE OR REPLACE MACRO credix_text_time(x) AS credix_padded(CAST(x AS VARCHAR), 8);
CREATE OR REPLACE MACRO credix_text_datetime(x) AS credix_padded(CAST(x AS VARCHAR), 19);
CREATE OR REPLACE MACRO credix_text_timestamp(x) AS credix_padded(CAST(CAST(x AS TIMESTAMP) AS VARCHAR), 19) || '+00';
CREATE OR REPLACE MACRO credix_text_numeric(x) AS rtrim(rtrim(CAST(x AS VARCHAR), '0'), '.');
CREATE OR REPLACE MACRO credix_text_float64(x) AS CASE
    WHEN x = 0 THEN '0'
    WHEN CAST(printf('%.15g', CAST(x AS DOUBLE)) AS DOUBLE) = x THEN printf('%.15g', CAST(x AS DOUBLE))
    ELSE printf('%.17g', CAST(x AS DOUBLE))
END;
CREATE OR REPLACE MACRO credix_substr(t, start, n) AS CASE
    WHEN n < 0 THEN credix_refuse('Third argument in SUBSTR() cannot be negative')
    ELSE substring(t, CASE WHEN start = 0 OR start < -length(t) THEN 1 ELSE start END, n)
END;
CREATE OR REPLACE MACRO credix_valid_json(t) AS CASE WHEN json_valid(t) THEN t END;
CREATE OR REPLACE MACRO credix_text_bytes(x) AS decode(x);
CREATE OR REPLACE MACRO credix_bytes_string(x) AS encode(x);
CREATE OR REPLACE MACRO credix_json_int64(x) AS CASE
    WHEN x BETWEEN -9007199254740992 AND 9007199254740992 THEN CAST(x AS VARCHAR) ELSE '"' || CAST(x AS VARCHAR) || '"'
END;
CREATE OR REPLACE MACRO credix_json_numeric(x) AS CASE
    WHEN instr(credix_text_numeric(x), '.') = 0 AND x BETWEEN -9007199254740992 AND 9007199254740992
    THEN credix_text_numeric(x)
    ELSE '"' || credix_text_numeric(x) || '"'
END;
CREATE OR REPLACE MACRO credix_json_float64(x) AS CASE
    WHEN isnan(CAST(x AS DOUBLE)) THEN '"NaN"'
    WHEN isinf(CAST(x AS DOUBLE)) THEN CASE WHEN x > 0 THEN '"Infinity"' ELSE '"-Infinity"' END
    ELSE credix_text_float64(x)
END;
CREATE OR REPLACE MACRO credix_json_bool(x) AS CAST(x AS VARCHAR);
CREATE OR REPLACE MACRO credix_json_string(x) AS
    replace(replace(CAST(to_json(CAST(x AS VARCHAR)) AS VARCHAR), chr(8232), '\\u2028'), chr(8233), '\\u2029');
CREATE OR REPLACE MACRO credix_json_bytes(x) AS '"' || base64(x) || '"';
CREATE OR REPLACE MACRO credix_json_date(x) AS '"' || CAST(x AS VARCHAR) || '"';
CREATE OR REPLACE MACRO credix_json_time(x) AS '"' || credix_text_time(x) || '"';
CREATE OR REPLACE MACRO credix_json_datetime(x) AS '"' || replace(credix_text_datetime(x), ' ', 'T') || '"';
CREATE OR REPLACE MACRO credix_json_timestamp(x) AS
    '"' || replace(credix_text_datetime(CAST(x AS TIMESTAMP)), ' ', 'T') || 'Z"';
CREATE OR REPLACE MACRO credix_json_member(name, value) AS concat(name, ':', coalesce(value, 'null'));
CREATE OR REPLACE MACRO credix_json_object(members) AS concat('{', array_to_string(members, ','), '}');
CREATE OR REPLACE MACRO credix_json_or_null(value) AS coalesce(value, 'null');
"""
_ARRAYS = "".join(
    f"CREATE OR REPLACE MACRO credix_json_array_{name}(x) AS CASE WHEN x IS NULL THEN 'null' ELSE "
    "concat('[', array_to_string("
    f"list_transform(x, lambda e: coalesce(credix_json_{name}(e), 'null')), ','), ']') END;\n"
    for name in sorted(set(_TYPE_NAMES.values()))
)
_READ = {
    "int64": (f"regexp_full_match(t, '{_INTEGER}')", "BIGINT"),
    "bool": ("lower(t) IN ('true', 'false')", "BOOLEAN"),
    "numeric": ("instr(t, '_') = 0", "DECIMAL(38, 9)"),
    "time": (_HOURS, "TIME"),
    "datetime": (_HOURS, "TIMESTAMP"),
    "timestamp": (_HOURS, "TIMESTAMPTZ"),
}
"""By type, whether text is one, and DuckDB's type."""
_READERS = "".join(
    f"CREATE OR REPLACE MACRO credix_{name}_string(t) AS "
    f"CASE WHEN {test} THEN CAST(t AS {kind}) "
    f"WHEN t IS NOT NULL THEN CAST(credix_refuse('Bad {name} value') AS {kind}) END;\n"
    f"CREATE OR REPLACE MACRO credix_safe_{name}_string(t) AS CASE WHEN {test} THEN TRY_CAST(t AS {kind}) END;\n"
    for name, (test, kind) in _READ.items()
)


def apply() -> None:
    """Add the functions and the rewritings."""
    typed_expressions.add(REWRITINGS, _SCALARS + _ARRAYS + _READERS)


def type_name(node: Any) -> str | None:
    """Return the name of an expression's scalar type as the functions have it."""
    kind = type_of(node)
    return None if kind is None else _TYPE_NAMES.get(kind.this)


def _cast(node: Any) -> Any:
    target, source = bigquery_type(node.to).this, type_name(node.this)
    if target == STRING:
        return _as_text(node.this, source)
    if source == "string" and target == BYTES:
        return call("credix_bytes_string", node.this)
    if source == "string" and _TYPE_NAMES.get(target) in _READ and not _is_plain(node.this, target):
        safe = "safe_" if isinstance(node, exp.TryCast) else ""
        return call(f"credix_{safe}{_TYPE_NAMES[target]}_string", node.this)
    if source == "float64" and target == INT64:
        rounded = exp.Anonymous(this="round", expressions=[node.this.copy()])
        copy = node.copy()
        copy.set("this", set_type(rounded, "FLOAT64"))
        return copy
    return None


def _string(node: Any) -> Any:
    return None if node.args.get("zone") else _as_text(node.this, type_name(node.this))


def _is_plain(node: Any, target: Any) -> bool:
    return isinstance(node, exp.Literal) and target in _PLAIN and _PLAIN[target].fullmatch(node.this) is not None


def _as_text(value: Any, source: str | None) -> Any:
    if source in ("time", "datetime", "timestamp", "numeric", "float64", "bytes"):
        return call(f"credix_text_{source}", value)
    return None


def _as_json(node: Any) -> Any:
    if node.args.get("to_json") or node.args.get("options"):
        return None
    text = _json(node.this, type_of(node.this))
    return None if text is None else call("credix_json_or_null", text)


def _json(value: Any, kind: Any) -> Any:
    """Return the JSON text of a value, null for null; None when there is no rewriting for its type."""
    if kind is None:
        return None
    kind = bigquery_type(kind)
    if kind.this == exp.DType.STRUCT:
        return _json_of_struct(value, kind)
    if kind.this == exp.DType.ARRAY and kind.expressions:
        name = _TYPE_NAMES.get(bigquery_type(kind.expressions[0]).this)
        return name and call(f"credix_json_array_{name}", value)
    name = _TYPE_NAMES.get(kind.this)
    return name and call(f"credix_json_{name}", value)


def _json_of_struct(value: Any, kind: Any) -> Any:
    if isinstance(value, exp.Struct):
        members = [(_name_of(field), _value_of(field), type_of(_value_of(field))) for field in value.expressions]
        return _json_of_members(members)
    fields = [
        (
            field.name,
            exp.Dot(this=value.copy(), expression=exp.to_identifier(field.name, quoted=True)),
            field.args.get("kind"),
        )
        for field in kind.expressions
        if isinstance(field, exp.ColumnDef)
    ]
    if not fields or len(fields) != len(kind.expressions):
        return None
    text = _json_of_members(fields)
    if text is None:
        return None
    return exp.Case(ifs=[exp.If(this=exp.Is(this=value.copy(), expression=exp.Not(this=exp.Null())), true=text)])


def _json_of_members(members: list[tuple[str, Any, Any]]) -> Any:
    made = []
    for name, value, kind in members:
        text = _json(value, kind)
        if text is None:
            return None
        made.append(call("credix_json_member", exp.Literal.string(_quoted(name)), text))
    return exp.Anonymous(this="credix_json_object", expressions=[exp.Array(expressions=made)])


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _name_of(field: Any) -> str:
    if isinstance(field, exp.PropertyEQ | exp.Alias):
        return str(field.this.name if isinstance(field, exp.PropertyEQ) else field.alias)
    return str(field.name) if isinstance(field, exp.Column | exp.Dot) else ""


def _value_of(field: Any) -> Any:
    if isinstance(field, exp.PropertyEQ):
        return field.expression
    return field.this if isinstance(field, exp.Alias) else field


def _formatted(node: Any) -> Any:
    """FORMAT with a literal: DuckDB's printf, with what ``%t`` stands for as text."""
    if not isinstance(node.this, exp.Literal):
        return None
    operands = [operand.copy() for operand in node.expressions]
    specifiers = re.findall(r"%[-+ #0-9.*]*[a-zA-Z%]", node.this.this)
    used = [specifier for specifier in specifiers if specifier != "%%"]
    if len(used) != len(operands) or any("*" in specifier or specifier[-1] == "T" for specifier in used):
        return None
    for number, (specifier, operand) in enumerate(zip(used, node.expressions, strict=True)):
        if specifier[-1] == "t":
            operands[number] = _as_text(operand, type_name(operand)) or exp.cast(
                operand.copy(), "STRING", dialect="bigquery"
            )
    pattern = re.sub(r"(%[-+ #0-9.]*)t", r"\1s", node.this.this)
    return exp.Anonymous(this="printf", expressions=[exp.Literal.string(pattern), *operands])


def _part(node: Any) -> Any:
    """SUBSTR counts from 1; 0 is 1, too, and so is what lies before the first character."""
    start, length = node.args["start"], node.args.get("length")
    if isinstance(start, exp.Literal) and start.this != "0" and (length is None or isinstance(length, exp.Literal)):
        return None
    if not is_type(node.this, STRING):
        return None
    return call("credix_substr", node.this, start, length or exp.Literal.number(_NO_LIMIT))


def _from_json(node: Any) -> Any:
    """What is no JSON has nothing in it."""
    if not is_type(node.this, STRING):
        return None
    node.this.replace(set_type(call("credix_valid_json", node.this), "STRING"))
    return node


def _bytes(node: Any) -> Any:
    octets = re.sub(r"\\x([0-9a-f]{2})", r"\1", node.this)
    return exp.Anonymous(this="unhex", expressions=[exp.Literal.string(octets)])


REWRITINGS: dict[Any, typed_expressions.Rewriting] = {
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.String: _string,
    exp.JSONFormat: _as_json,
    exp.Format: _formatted,
    exp.ByteString: _bytes,
    exp.Substring: _part,
    exp.JSONExtract: _from_json,
    exp.JSONExtractScalar: _from_json,
}
