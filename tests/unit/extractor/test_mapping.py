"""Which BigQuery type takes which PostgreSQL type, and what PostgreSQL is asked to compute (invariant 7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import ConfigurationError
from services.core.tables import Column, ColumnType, Mask, Mode, Table, Unrepresentable
from services.extractor.contract.mapping import Holds, Read, default_type, holds, reads
from services.extractor.contract.numerics import ROOM, Digits, engine_type, numeric_digits, outside
from services.extractor.source.catalog import SourceColumn, TypeKind
from services.extractor.source.sql import quoted, text_literal

TABLE = Table(
    name="t",
    source="shop.orders",
    mode=Mode.SNAPSHOT,
    bronze_model="t",
    columns=[Column(name="id", type=ColumnType.INT64)],
)


def modifier(precision: int, scale: int) -> int:
    """As PostgreSQL 15 makes it (make_numeric_typmod)."""
    return ((precision << 16) | (scale & 0x7FF)) + 4


def numeric(precision: int, scale: int) -> SourceColumn:
    return SourceColumn("c", "numeric", modifier(precision, scale), f"numeric({precision},{scale})")


UNCONSTRAINED = SourceColumn("c", "numeric", -1, "numeric")


def read(
    type_: ColumnType, source: SourceColumn | None, policy: Unrepresentable = Unrepresentable.FAIL
) -> list[tuple[str, str, str | None]]:
    found = reads(Column(name="c", type=type_, on_unrepresentable=policy), source, TABLE)
    return [(r.column.name, r.expression, r.unrepresentable) for r in found]


# --- SQL text -----------------------------------------------------------------------------------------------------


def test_identifiers_are_always_quoted() -> None:
    assert [quoted(name) for name in ("order", 'na"me', "Preço líquido")] == ['"order"', '"na""me"', '"Preço líquido"']


def test_a_literal_is_right_whatever_the_server_makes_of_backslashes() -> None:
    assert [text_literal(text) for text in ("", "it's", "a\\b'")] == ["''", "'it''s'", "E'a\\\\b'''"]
    with pytest.raises(ValueError, match="NUL"):
        text_literal("a\0b")


# --- a numeric's digits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "scale", "digits", "engine"),
    [
        (18, 2, Digits(16, 2), "numeric(18,2)"),
        (38, 0, Digits(38, 0), "numeric(38,0)"),
        (38, 38, Digits(0, 38), "numeric(38,38)"),
        (3, -2, Digits(5, 0), "numeric(5,0)"),  # 12300
        (3, 5, Digits(0, 5), "numeric(5,5)"),  # 0.00123
        (39, 0, Digits(39, 0), None),
        (1000, -1000, Digits(2000, 0), None),
        (1, 1000, Digits(0, 1000), None),
    ],
)
def test_a_modifier_says_how_many_digits_there_are(
    precision: int, scale: int, digits: Digits, engine: str | None
) -> None:
    assert numeric_digits(modifier(precision, scale)) == digits
    assert engine_type(digits) == engine


def test_without_a_modifier_there_may_be_any_number_of_digits() -> None:
    assert numeric_digits(-1) is None
    assert engine_type(None) is None


def test_a_modifier_of_postgresql_14_has_the_same_digits() -> None:
    """There the scale has 16 bits and is never negative."""
    assert numeric_digits(((1000 << 16) | 1000) + 4) == Digits(0, 1000)


@given(st.integers(1, 1000), st.integers(-1000, 1000))
def test_digits_hold_the_largest_value_of_the_type(precision: int, scale: int) -> None:
    digits = numeric_digits(modifier(precision, scale))
    assert digits is not None
    # The largest value is (10^precision - 1) * 10^-scale.
    assert 10**precision - 1 < 10 ** (digits.integer + scale) if digits.integer + scale >= 0 else False
    assert digits.fraction >= scale


def test_the_condition_of_a_numeric_that_always_fits_is_about_nan_only() -> None:
    room = Digits(29, 9)
    assert outside("c", Digits(29, 9), room) == "c = 'NaN'::numeric"
    for digits in (None, Digits(30, 0), Digits(1, 10)):
        assert outside("c", digits, room) == "NOT (abs(c) < 1e29 AND c = round(c, 9))"


# --- which types go together --------------------------------------------------------------------------------------

TOGETHER = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), "INT64 NUMERIC BIGNUMERIC"),
    "money": "NUMERIC BIGNUMERIC",
    **dict.fromkeys(("float4", "float8"), "FLOAT64"),
    "bool": "BOOL",
    "bytea": "BYTES",
    "numeric": "NUMERIC? BIGNUMERIC?",
    "date": "DATE?",
    "timestamptz": "TIMESTAMP?",
    "timestamp": "DATETIME?",
    "time": "TIME?",
}
"""Besides STRING; with a question mark, values are checked."""

TEXT_ONLY = (  # noqa: SIM905 - a list would be fifty lines
    "text varchar bpchar char name uuid json jsonb xml jsonpath interval timetz bit varbit inet cidr macaddr macaddr8 "
    "point line lseg box path polygon circle tsvector tsquery pg_lsn xid xid8 cid tid txid_snapshot pg_snapshot "
    "regclass regproc regprocedure regoper regoperator regtype regrole regnamespace regconfig regdictionary "
    "regcollation int2vector oidvector refcursor aclitem pg_node_tree"
).split()


@pytest.mark.parametrize("source", [*TOGETHER, *TEXT_ONLY])
def test_every_pair_of_types_is_decided(source: str) -> None:
    fitting = TOGETHER.get(source, "").split()
    for type_ in ColumnType:
        if type_ is ColumnType.STRING or type_ in fitting:
            expected = Holds.ALWAYS
        else:
            expected = Holds.CHECKED if f"{type_}?" in fitting else Holds.NEVER
        assert holds(SourceColumn("c", source), type_) is expected, type_


@pytest.mark.parametrize("kind", [kind for kind in TypeKind if kind is not TypeKind.BASE])
def test_a_type_that_only_has_a_built_in_name_is_a_text(kind: TypeKind) -> None:
    source = SourceColumn("c", "int4", kind=kind, declared='shop."int4"')
    assert holds(source, ColumnType.INT64) is Holds.NEVER
    assert holds(source, ColumnType.STRING) is Holds.ALWAYS
    assert default_type(source) is ColumnType.STRING
    assert read(ColumnType.STRING, source) == [("c", '"c"::text', None)]


@pytest.mark.parametrize("source", [*TOGETHER, *TEXT_ONLY])
def test_the_default_type_can_always_be_read(source: str) -> None:
    column = SourceColumn("c", source)
    assert holds(column, default_type(column)) is not Holds.NEVER
    if source in TEXT_ONLY:
        assert default_type(column) is ColumnType.STRING


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (numeric(38, 9), ColumnType.NUMERIC),
        (numeric(29, 0), ColumnType.NUMERIC),
        (numeric(3, -2), ColumnType.NUMERIC),
        (numeric(30, 0), ColumnType.BIGNUMERIC),
        (numeric(18, 10), ColumnType.BIGNUMERIC),
        (numeric(76, 38), ColumnType.BIGNUMERIC),
        (numeric(39, 0), ColumnType.STRING),
        (numeric(3, 39), ColumnType.STRING),
        (UNCONSTRAINED, ColumnType.STRING),
    ],
)
def test_a_numerics_default_type_has_room_for_its_digits(source: SourceColumn, expected: ColumnType) -> None:
    assert default_type(source) is expected


# --- what PostgreSQL computes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expression"),
    [
        ("text", '"c"'),
        ("varchar", '"c"'),
        ("bpchar", 'textin(bpcharout("c"))'),
        ("bytea", "E'\\\\x' || encode(\"c\", 'hex')"),
        ("inet", 'textin(inet_out("c"))'),
        ("cidr", '"c"::text'),
        ("jsonb", '"c"::text'),
        ("interval", '"c"::text'),
        ("numeric", '"c"::text'),
    ],
)
def test_any_type_can_be_read_as_its_text(source: str, expression: str) -> None:
    for policy in Unrepresentable:
        assert read(ColumnType.STRING, SourceColumn("c", source), policy) == [("c", expression, None)]


@pytest.mark.parametrize(
    ("type_", "source", "expression"),
    [
        (ColumnType.INT64, "int2", '"c"'),
        (ColumnType.INT64, "oid", '"c"::bigint'),
        (ColumnType.BIGNUMERIC, "int4", '"c"::bigint'),
        (ColumnType.NUMERIC, "money", '("c"::numeric)::numeric(29,10)'),
        (ColumnType.FLOAT64, "float4", '"c"::double precision'),
        (ColumnType.FLOAT64, "float8", '"c"'),
        (ColumnType.BOOL, "bool", '"c"'),
        (ColumnType.BYTES, "bytea", '"c"'),
    ],
)
def test_what_always_fits_is_read_the_same_under_every_policy(type_: ColumnType, source: str, expression: str) -> None:
    for policy in Unrepresentable:
        found = read(type_, SourceColumn("c", source), policy)
        assert found[0] == ("c", expression, None)
        assert found[1:] == ([("c_text", "NULL::text", None)] if policy is Unrepresentable.STRING else [])


CALENDAR = [
    (ColumnType.DATE, "date", "\"c\" NOT BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'"),
    (
        ColumnType.TIMESTAMP,
        "timestamptz",
        "\"c\" NOT BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'",
    ),
    (
        ColumnType.DATETIME,
        "timestamp",
        "\"c\" NOT BETWEEN TIMESTAMP '0001-01-01 00:00:00' AND TIMESTAMP '9999-12-31 23:59:59.999999'",
    ),
    (ColumnType.TIME, "time", "\"c\" = TIME '24:00:00'"),
]


@pytest.mark.parametrize(("type_", "source", "condition"), CALENDAR)
def test_dates_and_times_cost_the_server_nothing_unless_a_policy_needs_it(
    type_: ColumnType, source: str, condition: str
) -> None:
    column = SourceColumn("c", source)
    held = f'CASE WHEN {condition} THEN NULL ELSE "c" END'
    assert read(type_, column) == [("c", '"c"', None)]
    assert read(type_, column, Unrepresentable.NULL_AND_COUNT) == [("c", held, condition)]
    assert read(type_, column, Unrepresentable.STRING) == [
        ("c", held, condition),
        ("c_text", f'CASE WHEN {condition} THEN "c"::text END', None),
    ]


@pytest.mark.parametrize(
    ("source", "type_", "travels_as"),
    [
        (numeric(18, 2), ColumnType.NUMERIC, "numeric(18,2)"),
        (numeric(3, -2), ColumnType.NUMERIC, "numeric(5,0)"),
        (numeric(38, 20), ColumnType.NUMERIC, "numeric(38,9)"),
        (numeric(38, 0), ColumnType.NUMERIC, "numeric(38,9)"),
        (numeric(38, 20), ColumnType.BIGNUMERIC, "numeric(38,20)"),
        (numeric(100, 2), ColumnType.NUMERIC, "numeric(38,9)"),
        (numeric(60, 30), ColumnType.BIGNUMERIC, "text"),
        (UNCONSTRAINED, ColumnType.NUMERIC, "numeric(38,9)"),
        (UNCONSTRAINED, ColumnType.BIGNUMERIC, "text"),
    ],
)
@pytest.mark.parametrize("policy", [p for p in Unrepresentable if p is not Unrepresentable.EXACT])
def test_a_numeric_travels_with_its_precision_or_as_text(
    source: SourceColumn, type_: ColumnType, travels_as: str, policy: Unrepresentable
) -> None:
    """Otherwise the engine reads floating point."""
    expression = read(type_, source, policy)[0][1]
    assert expression.endswith(f"END)::{travels_as}")
    assert expression.startswith("trim_scale(" if travels_as == "text" else "(CASE")


@given(st.none() | st.tuples(st.integers(1, 1000), st.integers(-1000, 1000)), st.sampled_from(list(ROOM)))
def test_no_numeric_leaves_postgresql_that_the_type_has_no_room_for(
    constraint: tuple[int, int] | None, type_: ColumnType
) -> None:
    """Arrow's casts cannot be trusted with those."""
    source = UNCONSTRAINED if constraint is None else numeric(*constraint)
    digits, room = numeric_digits(source.modifier), ROOM[type_]
    checks_all = digits is not None and digits.fit(room)
    condition = "= 'NaN'::numeric" if checks_all else f'NOT (abs("c") < 1e{room.integer} AND'
    for policy in (Unrepresentable.FAIL, Unrepresentable.NULL_AND_COUNT, Unrepresentable.STRING):
        assert condition in read(type_, source, policy)[0][1]


def test_a_nan_fails_in_postgresql_with_the_columns_name() -> None:
    column = Column(name="it", source_column="It's", type=ColumnType.NUMERIC)
    (found,) = reads(column, SourceColumn("It's", "numeric", modifier(5, 2)), TABLE)
    assert found.expression == (
        "(CASE WHEN \"It's\" = 'NaN'::numeric THEN "
        "('column it: BigQuery''s NUMERIC has no ' || \"It's\"::text)::numeric "
        'ELSE "It\'s" END)::numeric(5,2)'
    )


# --- policies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("type_", "source"), [(t, SourceColumn("c", s)) for t, s, _ in CALENDAR])
def test_exact_refuses_what_may_not_fit(type_: ColumnType, source: SourceColumn) -> None:
    with pytest.raises(ConfigurationError, match=rf"table t, column c: .*exact.*{type_}.*{source.type}.*STRING"):
        read(type_, source, Unrepresentable.EXACT)


def test_exact_says_what_a_numeric_has_that_bigquery_has_not() -> None:
    with pytest.raises(ConfigurationError, match=r"every numeric\(18,2\) of shop.orders \(NaN\)"):
        read(ColumnType.NUMERIC, numeric(18, 2), Unrepresentable.EXACT)
    with pytest.raises(ConfigurationError, match=r"\(NaN, infinity, more digits\)"):
        read(ColumnType.NUMERIC, UNCONSTRAINED, Unrepresentable.EXACT)


@pytest.mark.parametrize(
    ("type_", "source", "suggested"),
    [
        (ColumnType.INT64, "numeric", "NUMERIC or BIGNUMERIC"),
        (ColumnType.DATE, "timestamptz", "TIMESTAMP"),
        (ColumnType.TIMESTAMP, "timestamp", "DATETIME"),
        (ColumnType.BOOL, "text", "STRING"),
        (ColumnType.NUMERIC, "float8", "FLOAT64"),
        (ColumnType.FLOAT64, "box", "STRING"),
    ],
)
def test_a_type_that_does_not_fit_is_refused_with_one_that_does(type_: ColumnType, source: str, suggested: str) -> None:
    for policy in Unrepresentable:
        with pytest.raises(
            ConfigurationError, match=f"table t, column c: declared {type_}.*orders has {source}; declare {suggested}$"
        ):
            read(type_, SourceColumn("c", source), policy)


@pytest.mark.parametrize("type_", ColumnType)
def test_a_column_that_is_gone_is_null(type_: ColumnType) -> None:
    ((name, expression, condition),) = read(type_, None)
    assert (name, expression[:6], condition) == ("c", "NULL::", None)


def test_a_gone_columns_text_is_null_too() -> None:
    assert [name for name, _, _ in read(ColumnType.DATE, None, Unrepresentable.STRING)] == ["c", "c_text"]


def test_a_masked_column_never_shows_its_value() -> None:
    column = Column(name="c", type=ColumnType.STRING, mask=Mask.REDACT)
    assert reads(column, SourceColumn("c", "date"), TABLE) == [
        Read(column, "CASE WHEN pg_catalog.num_nulls(\"c\") = 0 THEN '***'::text END")
    ]


def test_what_lands_is_what_the_table_says() -> None:
    """The loader makes its schema from ``landed_columns``; the extractor's columns are the same ones."""
    columns = [Column(name="d", type=ColumnType.DATE, on_unrepresentable=Unrepresentable.STRING)]
    table = TABLE.model_copy(update={"columns": columns})
    landed = [r.column for c in columns for r in reads(c, SourceColumn("d", "date"), table)]
    assert landed == table.landed_columns
