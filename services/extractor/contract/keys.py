"""Whether a declared key is one: no two rows have it, and equal values land as one. Pure functions and data.

Bronze has one row per key, as it lands. BigQuery compares texts by their bytes, and PostgreSQL many types more
generously: 1.0 equals 1, A equals a in a citext. A unique index keeps such values apart as PostgreSQL compares them. A
row whose key changes from one to the other is the same row at the source, and would be two in bronze.
"""

from services.core.errors import ConfigurationError, DataError
from services.core.tables import Column, ColumnType, Table
from services.extractor.source.catalog import RelationKind, SourceColumn, SourceRelation, TypeKind
from services.extractor.source.keys import KeyFacts, ValueType
from services.extractor.source.sql import quoted, relation_sql

MOST_COUNTED = 1_000
"""Keys with several rows that are counted; more are as bad."""

_TEXTS = {"text", "varchar", "bpchar", "name"}

_ONE_TEXT = {
    *("int2", "int4", "int8", "oid", "bool", "char", "bytea", "uuid", "money", "bit", "varbit"),
    *("date", "time", "timetz", "timestamp", "timestamptz"),
    *("inet", "cidr", "macaddr", "macaddr8", "pg_lsn", "xid", "xid8"),
}
"""Built-in types of which equal values always have one text. tests/integration/test_keys.py asks PostgreSQL."""

_ONE_TEXT_OF_EXTENSIONS = {"hstore", "ltree"}
"""The same, each of the extension of its name."""

_SEVERAL_TEXTS = {
    "numeric": "1.0 equals 1",
    "float4": "-0 equals 0",
    "float8": "-0 equals 0",
    "interval": "a day equals 24 hours",
    "jsonb": "1.0 equals 1",
    "citext": "a equals A",
    "bpchar": "blanks at the end do not count",
}
"""Of these, equal values can have several texts, for example."""

_INCOMPARABLE = {"json", "xml", "jsonpath", "point", "lseg", "line", "box", "path", "polygon", "circle"}
"""Built-in types by which PostgreSQL cannot group."""

_INSTEAD = {"citext": "lower({0}::text)", "interval": "justify_interval({0})::text"}
"""What a view can have in a type's place, one text for equal values."""


def key_columns(table: Table) -> list[Column]:
    """The declared columns of the key, in the key's order."""
    by_name = {column.name: column for column in table.columns}
    return [by_name[name] for name in table.key]


def canonical(source: SourceColumn) -> str:
    """SQL of a column's value, so that equal values have one text where PostgreSQL can see to that."""
    name = quoted(source.name)
    if source.kind is TypeKind.BASE:
        match source.type:
            case "numeric" if source.modifier < 0:
                return f"trim_scale({name})"
            case "float4":
                return f"({name} + 0::real)"  # -0 becomes 0
            case "float8":
                return f"({name} + 0::double precision)"
            case "bpchar" if source.modifier < 0:
                return f"rtrim({name})"  # blanks at its end do not count
    return name


def check_key_types(table: Table, relation: SourceRelation, facts: KeyFacts) -> None:
    """Refuse a key column of which equal values could land as several texts.

    Raises:
        ConfigurationError: names the column and why, and says what to declare.
    """
    for column in key_columns(table):
        if column.type is not ColumnType.STRING:
            continue  # BigQuery's other types compare values, not texts
        source = relation.columns[column.name_in_source]
        for type_ in facts.types[source.name]:
            if (why := _why_not(type_)) is not None:
                shown = f"{source.shown}, " if not type_.inside else f"{source.shown}, with {type_.name} in it, "
                raise ConfigurationError(
                    f"table {table.name}: key column {column.name} is {shown}{why}; make a view of {table.source} that "
                    f"has a text in its place, one for equal values ({_instead(type_, quoted(source.name))}), and "
                    "declare that"
                )


def _instead(type_: ValueType, name: str) -> str:
    """SQL of what a view can have in a column's place, for people."""
    if not type_.deterministic:
        return f'{name}::text COLLATE "C"' if type_.inside else f'lower({name}) COLLATE "C"'
    return _INSTEAD.get("" if type_.inside else type_.name, "{0}::text").format(name)


def _why_not(type_: ValueType) -> str | None:
    """Why a type cannot be in a key that lands as a text; None when it can."""
    several = "of which equal values can have several texts ({}): one row could have two keys"
    match type_.kind:
        case TypeKind.ENUM | TypeKind.ARRAY | TypeKind.COMPOSITE:
            return None  # what is in them is looked at by itself
        case TypeKind.RANGE | TypeKind.MULTIRANGE if type_.builtin:
            return None
        case TypeKind.BASE if type_.name in _TEXTS and not type_.deterministic:
            return several.format("its collation is not deterministic")
        case TypeKind.BASE if type_.name in _ONE_TEXT or _is_made_one(type_):
            return None
        case TypeKind.BASE if type_.name in _INCOMPARABLE:
            return "which PostgreSQL cannot compare: no row is found by it"
        case TypeKind.BASE if type_.name in _SEVERAL_TEXTS:
            return several.format(_SEVERAL_TEXTS[type_.name])
        case TypeKind.EXTENSION if type_.name in _ONE_TEXT_OF_EXTENSIONS and type_.extension == type_.name:
            return None
        case TypeKind.EXTENSION if type_.name in _SEVERAL_TEXTS:
            return several.format(_SEVERAL_TEXTS[type_.name])
    return "of which it is not known whether equal values have one text"


def _is_made_one(type_: ValueType) -> bool:
    """Whether texts of equal values are the same by the type's modifier, or are made the same (``canonical``)."""
    match type_.name:
        case "text" | "varchar" | "name":
            return True
        case "bpchar" | "numeric":
            return type_.modifier >= 0 or not type_.inside
        case "float4" | "float8":
            return not type_.inside
    return False


def unproven(table: Table, relation: SourceRelation, facts: KeyFacts) -> str | None:
    """Why nothing at the source keeps the key unique, for people; None for a table without a key, or where it does."""
    names = {column.name_in_source for column in key_columns(table)}
    key = f"whether the key ({', '.join(table.key)}) is unique"
    inherited = relation.kind is RelationKind.TABLE and facts.children
    if not names or (any(index <= names for index in facts.unique) and not inherited):
        return None
    columns = ", ".join(quoted(column.name_in_source) for column in key_columns(table))
    match relation.kind:
        case RelationKind.TABLE if inherited:
            return f"{key}: other tables inherit from {table.source}, and no index covers all of them"
        case RelationKind.VIEW:
            return f"{key}: a view has no index"
        case RelationKind.FOREIGN:
            return f"{key}: a foreign table has no index here"
        case RelationKind.PARTITIONED:
            create = "CREATE UNIQUE INDEX"
        case _:
            create = "CREATE UNIQUE INDEX CONCURRENTLY"
    return f"{key}: no unique index covers it; {create} ON {relation_sql(table)} ({columns})"


def doubled_statement(table: Table, condition: str) -> str:
    """Counts the keys that several rows have, ``MOST_COUNTED`` at most; a null in a key is another mistake.

    Args:
        table: one with a key.
        condition: SQL condition of the rows that are read; empty for all.
    """
    columns = ", ".join(quoted(column.name_in_source) for column in key_columns(table))
    return (
        f"SELECT pg_catalog.count(*) FROM (SELECT 1 FROM {relation_sql(table)}"  # noqa: S608
        f"{f' WHERE {condition}' if condition else ''} GROUP BY {columns} "
        f"HAVING pg_catalog.count(*) > 1 AND pg_catalog.num_nulls({columns}) = 0 LIMIT {MOST_COUNTED}) AS doubled"
    )


def not_unique(table: Table, count: int) -> DataError:
    """The error for keys that several rows have."""
    columns = ", ".join(quoted(column.name_in_source) for column in key_columns(table))
    counted = f"{count:,} or more keys" if count >= MOST_COUNTED else f"{count:,} key(s)"
    found_by = f"GROUP BY {columns} HAVING count(*) > 1"
    return DataError(
        "key_not_unique",
        f"the key ({', '.join(table.key)}) is not unique in {table.source}: {counted} have several rows, of which "
        "bronze would keep one; declare the columns that identify a row, or no key (then snapshots replace the table), "
        f"or correct the rows, which {found_by} finds",
        table=table.name,
    )
