"""Whether a key is one: what proves it, how it is counted, and which types can be in it."""

from collections.abc import Sequence

import pytest

from services.core.errors import ConfigurationError
from services.core.tables import Column, ColumnType, Mask, Mode, Table
from services.extractor.contract.keys import (
    MOST_COUNTED,
    canonical,
    check_key_types,
    doubled_statement,
    not_unique,
    unproven,
)
from services.extractor.contract.mapping import reads
from services.extractor.source.catalog import RelationKind, SourceColumn, SourceRelation, TypeKind
from services.extractor.source.keys import KeyFacts, ValueType


def table(*key: str, **facts: object) -> Table:
    column = Column(name="a", type=ColumnType.STRING, source_column='Big "A"', required=True)
    return Table(
        name="t",
        source="shop.t",
        key=list(key),
        mode=Mode.SNAPSHOT,
        bronze_model="t",
        columns=[column.model_copy(update=facts), Column(name="b", type=ColumnType.INT64, required=True)],
    )


def relation(kind: RelationKind = RelationKind.TABLE, type_: str = "text", modifier: int = -1) -> SourceRelation:
    columns = [SourceColumn('Big "A"', type_, modifier, f"shown_{type_}"), SourceColumn("b", "int8")]
    return SourceRelation(kind, {column.name: column for column in columns})


def unique(*indexes: Sequence[str], children: bool = False) -> KeyFacts:
    return KeyFacts({}, [frozenset(columns) for columns in indexes], children)


# --- what proves it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("facts", [unique(['Big "A"']), unique(["b"]), unique(["x"], ["b", 'Big "A"'])])
def test_an_index_over_the_key_or_a_part_of_it_proves_it(facts: KeyFacts) -> None:
    for kind in (RelationKind.TABLE, RelationKind.PARTITIONED, RelationKind.MATERIALIZED_VIEW):
        assert unproven(table("b", "a"), relation(kind), facts) is None
    partitioned = KeyFacts({}, facts.unique, children=True)
    assert unproven(table("b", "a"), relation(RelationKind.PARTITIONED), partitioned) is None


def test_a_table_without_a_key_needs_no_proof() -> None:
    assert unproven(table(), relation(), unique()) is None


@pytest.mark.parametrize(
    ("kind", "facts", "why"),
    [
        (
            RelationKind.TABLE,
            unique(["b", "x"]),
            'no unique index covers it; CREATE UNIQUE INDEX CONCURRENTLY ON "shop"."t" ("b", "Big ""A""")',
        ),
        (
            RelationKind.PARTITIONED,
            unique(children=True),
            'no unique index covers it; CREATE UNIQUE INDEX ON "shop"."t" ("b", "Big ""A""")',
        ),
        (
            RelationKind.TABLE,
            unique(["b"], children=True),
            "other tables inherit from shop.t, and no index covers all of them",
        ),
        (RelationKind.VIEW, unique(), "a view has no index"),
        (RelationKind.FOREIGN, unique(), "a foreign table has no index here"),
    ],
)
def test_what_is_unproven_says_what_would_prove_it(kind: RelationKind, facts: KeyFacts, why: str) -> None:
    assert unproven(table("b", "a"), relation(kind), facts) == f"whether the key (b, a) is unique: {why}"


# --- counting -----------------------------------------------------------------------------------------------------


def test_the_count_groups_by_the_source_columns_and_stops() -> None:
    assert doubled_statement(table("b", "a"), "(x > 1)") == (
        'SELECT pg_catalog.count(*) FROM (SELECT 1 FROM "shop"."t" WHERE (x > 1) GROUP BY "b", "Big ""A""" '
        'HAVING pg_catalog.count(*) > 1 AND pg_catalog.num_nulls("b", "Big ""A""") = 0 LIMIT 1000) AS doubled'
    )
    assert " WHERE " not in doubled_statement(table("b"), "")


def test_what_is_not_unique_is_told_with_how_many_and_what_to_do() -> None:
    error = not_unique(table("b", "a"), 3)
    assert (error.code, error.table) == ("key_not_unique", "t")
    assert str(error).startswith("the key (b, a) is not unique in shop.t: 3 key(s) have several rows, ")
    assert str(error).endswith('which GROUP BY "b", "Big ""A""" HAVING count(*) > 1 finds')
    assert "1,000 or more keys" in str(not_unique(table("b", "a"), MOST_COUNTED))


# --- types --------------------------------------------------------------------------------------------------------

BASE, EXTENSION = TypeKind.BASE, TypeKind.EXTENSION


def check(*types: ValueType, key: Table | None = None) -> None:
    check_key_types(key or table("a"), relation(), KeyFacts({'Big "A"': types}))


@pytest.mark.parametrize(
    "types",
    [
        [ValueType("text", BASE)],
        [ValueType("int4", BASE)],
        [ValueType("bpchar", BASE, modifier=9)],
        [ValueType("bpchar", BASE)],  # without the blanks at its end
        [ValueType("numeric", BASE)],  # without the zeros at its end
        [ValueType("float8", BASE)],  # without the sign of 0
        [ValueType("colour", TypeKind.ENUM, builtin=False)],
        [ValueType("_numeric", TypeKind.ARRAY), ValueType("numeric", BASE, modifier=1_000, inside=True)],
        [ValueType("int4range", TypeKind.RANGE), ValueType("int4", BASE, inside=True)],
        [ValueType("pair", TypeKind.COMPOSITE, builtin=False), ValueType("uuid", BASE, inside=True)],
        [ValueType("ltree", EXTENSION, builtin=False, extension="ltree")],
    ],
)
def test_types_of_one_text_for_equal_values_can_be_keys(types: list[ValueType]) -> None:
    check(*types)


@pytest.mark.parametrize(
    ("types", "why", "instead"),
    [
        ([ValueType("citext", EXTENSION, builtin=False)], "several texts (a equals A)", 'lower("Big ""A"""::text)'),
        ([ValueType("text", BASE, deterministic=False)], "not deterministic", 'lower("Big ""A""") COLLATE "C"'),
        ([ValueType("interval", BASE)], "several texts (a day equals", 'justify_interval("Big ""A""")::text'),
        ([ValueType("jsonb", BASE)], "several texts (1.0 equals 1)", '"Big ""A"""::text'),
        ([ValueType("json", BASE)], "which PostgreSQL cannot compare", '"Big ""A"""::text'),
        ([ValueType("point", BASE)], "which PostgreSQL cannot compare", '"Big ""A"""::text'),
        (
            [ValueType("_numeric", TypeKind.ARRAY), ValueType("numeric", BASE, inside=True)],
            "with numeric in it, of which equal values can have several texts",
            '"Big ""A"""::text',
        ),
        ([ValueType("bpchar", BASE, inside=True)], "blanks at the end", "::text"),
        ([ValueType("float4", BASE, inside=True)], "-0 equals 0", "::text"),
        ([ValueType("interval", BASE, inside=True)], "a day equals", '("Big ""A"""::text)'),
        ([ValueType("floats", TypeKind.RANGE, builtin=False)], "not known whether equal values", "::text"),
        ([ValueType("regclass", BASE)], "not known whether equal values", "::text"),
        ([ValueType("ltree", EXTENSION, builtin=False)], "not known whether equal values", "::text"),
        ([ValueType("anyarray", TypeKind.PSEUDO)], "not known whether equal values", "::text"),
    ],
)
def test_all_others_are_refused_with_what_to_declare(types: list[ValueType], why: str, instead: str) -> None:
    for key in (table("a"), table("b", "a", mask=Mask.HASH)):
        with pytest.raises(ConfigurationError) as refused:
            check(*types, key=key)
        assert "table t: key column a is shown_text, " in str(refused.value)
        assert why in str(refused.value)
        assert instead in str(refused.value)


def test_what_bigquery_compares_by_value_is_no_text() -> None:
    check(ValueType("numeric", BASE), key=table("a", type=ColumnType.NUMERIC))
    check_key_types(table(), relation(), KeyFacts({}))


# --- one text -----------------------------------------------------------------------------------------------------

SCALED = ((18 << 16) | 2) + 4

CANONICAL = [
    ("numeric", -1, 'trim_scale("Big ""A""")'),
    ("numeric", SCALED, '"Big ""A"""'),
    ("float4", -1, '("Big ""A""" + 0::real)'),
    ("float8", -1, '("Big ""A""" + 0::double precision)'),
    ("bpchar", -1, 'rtrim("Big ""A""")'),
    ("bpchar", 9, '"Big ""A"""'),
    ("text", -1, '"Big ""A"""'),
]


@pytest.mark.parametrize(("type_", "modifier", "expected"), CANONICAL)
def test_a_keys_text_and_every_hash_are_of_the_value_that_equal_ones_share(
    type_: str, modifier: int, expected: str
) -> None:
    source = SourceColumn('Big "A"', type_, modifier)
    assert canonical(source) == expected
    as_key, otherwise = (table(*key) for key in (["a"], ["b"]))
    [key] = reads(as_key.columns[0], source, as_key)
    [other] = reads(otherwise.columns[0], source, otherwise)
    if expected == '"Big ""A"""':
        assert key == other
    else:
        assert key.expression == f"{expected}::text"
        assert expected not in other.expression, "a column that is no key keeps every digit"
    for hashed in (table("a", mask=Mask.HASH), table("b", mask=Mask.HASH)):
        [read] = reads(hashed.columns[0], source, hashed)
        assert f"convert_to({expected}::text, 'UTF8')" in read.expression
    built = SourceColumn('Big "A"', type_, modifier, kind=EXTENSION)
    assert canonical(built) == '"Big ""A"""', "another schema's type of the same name may mean anything"
