"""Schema drift: every difference is seen, and the policy decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import ConfigurationError
from services.core.tables import BRONZE_COLUMNS, Column, ColumnType, Mask, Mode, SchemaDrift, Table, Unrepresentable
from services.extractor.contract.bigquery_names import bigquery_names
from services.extractor.contract.drift import DifferenceKind, differences, settle
from services.extractor.contract.typechange import keeps_texts, same_type, what_changed
from services.extractor.source.catalog import RelationKind, SourceColumn, SourceRelation
from services.extractor.source.exclusion import excluded

ID = Column(name="id", type=ColumnType.INT64, required=True, source_type="bigint")
NAME = Column(name="name", type=ColumnType.STRING, source_type="text")
SOURCE_ID = SourceColumn("id", "int8", declared="bigint", nullable=False)
SOURCE_NAME = SourceColumn("name", "text", declared="text")


def table(*columns: Column, drift: SchemaDrift = SchemaDrift.FREEZE, **changes: object) -> Table:
    document = {
        "name": "t",
        "source": "shop.orders",
        "mode": Mode.SNAPSHOT,
        "bronze_model": "t",
        "columns": list(columns),
        "schema_drift": drift,
        **changes,
    }
    return Table.model_validate(document)


def relation(*columns: SourceColumn, kind: RelationKind = RelationKind.TABLE) -> SourceRelation:
    return SourceRelation(kind, {column.name: column for column in columns})


def kinds(declared: Table, source: SourceRelation) -> list[tuple[DifferenceKind, str]]:
    return [(d.kind, d.column) for d in differences(declared, source)]


# --- what differs -------------------------------------------------------------------------------------------------


def test_as_declared_there_is_no_difference() -> None:
    declared, source = table(ID, NAME), relation(SOURCE_ID, SOURCE_NAME)
    assert differences(declared, source) == []
    assert settle(declared, source).columns == [(ID, SOURCE_ID), (NAME, SOURCE_NAME)]


def test_another_order_of_columns_is_no_difference() -> None:
    assert differences(table(ID, NAME), relation(SOURCE_NAME, SOURCE_ID)) == []


def test_every_kind_of_difference_is_seen() -> None:
    amount = Column(name="amount", type=ColumnType.NUMERIC, source_type="numeric(10,2)", required=True)
    source = relation(
        SOURCE_ID,
        SourceColumn("amount", "numeric", ((18 << 16) | 2) + 4, "numeric(18,2)", nullable=True),
        SourceColumn("extra", "jsonb", declared="jsonb"),
    )
    assert kinds(table(ID, NAME, amount), source) == [
        (DifferenceKind.GONE, "name"),
        (DifferenceKind.TYPE, "amount"),
        (DifferenceKind.NULLABILITY, "amount"),
        (DifferenceKind.ADDED, "extra"),
    ]


def test_excluded_columns_are_no_difference() -> None:
    source = relation(SOURCE_ID, SourceColumn("secret_a", "text"), SourceColumn("Secret_b", "text"))
    assert kinds(table(ID, exclude=["secret_*"]), source) == [(DifferenceKind.ADDED, "Secret_b")]


def test_only_asterisk_and_question_mark_are_wildcards() -> None:
    declared = table(ID, exclude=["a[bc]", "x?"])
    assert [name for name in ("a[bc]", "ab", "x1", "x", "x12") if excluded(name, declared)] == ["a[bc]", "x1"]


@pytest.mark.parametrize("kind", RelationKind)
def test_nullability_is_a_tables_business(kind: RelationKind) -> None:
    source = relation(SourceColumn("id", "int8", declared="bigint", nullable=True), kind=kind)
    tables = (RelationKind.TABLE, RelationKind.PARTITIONED)
    assert kinds(table(ID), source) == ([(DifferenceKind.NULLABILITY, "id")] if kind in tables else [])


def test_a_type_that_cannot_be_read_is_a_difference_without_a_declared_source_type() -> None:
    declared = table(ID, Column(name="name", type=ColumnType.DATE))
    assert kinds(declared, relation(SOURCE_ID, SOURCE_NAME)) == [(DifferenceKind.TYPE, "name")]
    masked = table(ID, Column(name="name", type=ColumnType.STRING, mask=Mask.HASH))
    assert kinds(masked, relation(SOURCE_ID, SourceColumn("name", "date"))) == []


def test_a_renamed_column_is_recognised() -> None:
    renamed = relation(SOURCE_ID, SourceColumn("full_name", "text", declared="text"))
    for column in (NAME, Column(name="name", type=ColumnType.STRING)):
        gone, added = differences(table(ID, column), renamed)
        assert "looks renamed to full_name" in gone.message
        assert "renamed" not in added.message


@pytest.mark.parametrize(
    "source",
    [
        (SourceColumn("full_name", "date", declared="date"),),
        (SourceColumn("a", "text", declared="text"), SourceColumn("b", "text", declared="text")),
    ],
)
def test_what_may_be_no_rename_is_not_called_one(source: tuple[SourceColumn, ...]) -> None:
    assert not any("renamed" in d.message for d in differences(table(ID, NAME), relation(SOURCE_ID, *source)))


def test_a_renamed_column_that_is_declared_so_is_none() -> None:
    column = Column(name="name", source_column="Full Name", type=ColumnType.STRING)
    source = SourceColumn("Full Name", "text", declared="text")
    assert settle(table(ID, column), relation(SOURCE_ID, source)).columns[1] == (column, source)


# --- policies -----------------------------------------------------------------------------------------------------

WIDER = relation(SOURCE_ID, SourceColumn("name", "varchar", 14, "character varying(10)"), SourceColumn("x", "int4"))


def test_freeze_lists_every_difference_and_what_to_do() -> None:
    with pytest.raises(ConfigurationError) as refused:
        settle(table(ID, NAME), WIDER)
    assert str(refused.value).splitlines() == [
        "table t: shop.orders is not as declared (schema_drift: freeze):",
        "  type: name was narrowed from text to character varying(10)",
        "  added: x (int4) is not declared",
        "declare an added column or put it in 'exclude'; declare the type that the source has now; "
        "or choose another schema_drift",
    ]


def test_ignore_reads_the_declared_columns_and_reports() -> None:
    settled = settle(table(ID, NAME, drift=SchemaDrift.IGNORE), WIDER)
    assert [column.name for column, _ in settled.columns] == ["id", "name"]
    assert settled.differences == [
        "type: name was narrowed from text to character varying(10)",
        "added: x (int4) is not declared",
    ]


def test_evolve_brings_what_is_new_after_the_declared_columns() -> None:
    settled = settle(table(ID, NAME, drift=SchemaDrift.EVOLVE), WIDER)
    column, source = settled.columns[-1]
    assert column == Column(name="x", type=ColumnType.INT64)
    assert source == SourceColumn("x", "int4")
    assert len(settled.differences) == 2


def test_evolve_never_brings_what_is_excluded() -> None:
    declared = table(ID, NAME, drift=SchemaDrift.EVOLVE, exclude=["x"])
    assert [column.name for column, _ in settle(declared, WIDER).columns] == ["id", "name"]


def test_evolve_lets_a_column_that_is_gone_be_null() -> None:
    settled = settle(table(ID, NAME, drift=SchemaDrift.EVOLVE), relation(SOURCE_ID))
    assert settled.columns == [(ID, SOURCE_ID), (NAME, None)]
    assert settled.differences == ["gone: name is not in shop.orders"]


def test_evolve_brings_nothing_new_while_a_masked_column_is_gone() -> None:
    """Renamed, and perhaps of another type, it would arrive in clear."""
    secret = NAME.model_copy(update={"mask": Mask.HASH})
    declared = table(ID, secret, drift=SchemaDrift.EVOLVE)
    settle(declared, relation(SOURCE_ID))
    for renamed in (SourceColumn("full_name", "text", declared="text"), SourceColumn("n", "varchar", declared="v")):
        with pytest.raises(ConfigurationError, match=r"name is masked and gone, and this could be it, in clear"):
            settle(declared, relation(SOURCE_ID, renamed))
        excluding = table(ID, secret, drift=SchemaDrift.EVOLVE, exclude=[renamed.name])
        assert [column.name for column, _ in settle(excluding, relation(SOURCE_ID, renamed)).columns] == ["id", "name"]
        ignoring = table(ID, secret, drift=SchemaDrift.IGNORE)
        with pytest.raises(ConfigurationError, match="name is not in"):
            settle(ignoring, relation(SOURCE_ID, renamed))


@pytest.mark.parametrize("drift", [SchemaDrift.IGNORE, SchemaDrift.FREEZE])
def test_without_evolve_a_column_that_is_gone_fails(drift: SchemaDrift) -> None:
    with pytest.raises(ConfigurationError, match="gone: name is not in"):
        settle(table(ID, NAME, drift=drift), relation(SOURCE_ID))


def test_a_required_column_that_is_gone_always_fails() -> None:
    with pytest.raises(ConfigurationError, match="gone: id is not in"):
        settle(table(ID, NAME, drift=SchemaDrift.EVOLVE), relation(SOURCE_NAME))


def test_deleted_rows_do_not_come_back_when_their_mark_is_gone() -> None:
    gone = Column(name="gone_at", type=ColumnType.TIMESTAMP)
    declared = table(ID, gone, drift=SchemaDrift.EVOLVE, deleted_at="gone_at")
    with pytest.raises(ConfigurationError, match="gone: gone_at is not in"):
        settle(declared, relation(SOURCE_ID))


@pytest.mark.parametrize("drift", SchemaDrift)
def test_a_type_that_cannot_be_read_always_fails(drift: SchemaDrift) -> None:
    declared = table(ID, drift=drift)
    source = relation(SourceColumn("id", "uuid", declared="uuid", nullable=False))
    with pytest.raises(ConfigurationError, match="id changed from bigint to uuid, which INT64 cannot take"):
        settle(declared, source)


def test_nullability_is_reported_and_frozen() -> None:
    source = relation(SourceColumn("id", "int8", declared="bigint", nullable=True))
    message = "nullability: id is declared 'required: true' but may be null in shop.orders"
    for drift in (SchemaDrift.IGNORE, SchemaDrift.EVOLVE):
        assert settle(table(ID, drift=drift), source).differences == [message]
    with pytest.raises(ConfigurationError, match="SET NOT NULL"):
        settle(table(ID), source)


@pytest.mark.parametrize("drift", SchemaDrift)
def test_declared_and_excluded_is_a_contradiction(drift: SchemaDrift) -> None:
    with pytest.raises(ConfigurationError, match="declared and excluded: name"):
        settle(table(ID, NAME, drift=drift, exclude=["n*"]), relation(SOURCE_ID, SOURCE_NAME))


# --- types --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("integer", "bigint", "was widened"),
        ("bigint", "smallint", "was narrowed"),
        ("real", "double precision", "was widened"),
        ("numeric(10,2)", "numeric(18,2)", "was widened"),
        ("numeric(10,2)", "numeric", "was widened"),
        ("numeric(18,2)", "numeric(18,4)", "changed"),  # more decimals, fewer digits before the point
        ("numeric(3,-2)", "numeric(5)", "was widened"),
        ("character varying(20)", "text", "was widened"),
        ("text", "character varying(20)", "was narrowed"),
        ("character varying", "text", "changed"),
        ("timestamp(3) with time zone", "timestamp with time zone", "was widened"),
        ("timestamp with time zone", "timestamp without time zone", "changed"),
        ("integer[]", "bigint[]", "changed"),
        ("shop.mood", "text", "changed"),
    ],
)
def test_a_change_of_type_is_named(before: str, after: str, expected: str) -> None:
    assert what_changed(before, after) == expected


@pytest.mark.parametrize(
    ("declared", "found", "same"),
    [
        ("numeric(18,2)", "numeric(18,2)", True),
        ("citext", "public.citext", True),
        ("public.citext", "citext", True),
        ("text", "citext", False),
        ("integer", "integer[]", False),
    ],
)
def test_the_search_path_makes_no_other_type(declared: str, found: str, same: bool) -> None:
    assert same_type(declared, found) is same


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("created_at", "created_at"),
        ("CamelCase", "CamelCase"),
        ("Preço líquido (R$)", "Preco_liquido_R"),
        ("2nd line", "column_2nd_line"),
        ("_PARTITIONTIME", "PARTITIONTIME"),
        ("_table_x", "table_x"),
        ("__root__", "root"),
        ("?", "column_8a8de823"),
        ("a.b-c", "a_b_c"),
    ],
)
def test_a_name_stays_as_readable_as_bigquery_lets_it(source: str, expected: str) -> None:
    assert bigquery_names([source], []) == {source: expected}


def test_names_are_kept_apart_and_older_columns_keep_theirs() -> None:
    older = bigquery_names(["Name", "preço", "価格", "数量"], ["id"])
    assert list(older.values())[:2] == ["Name", "preco"]
    newer = bigquery_names(["Name", "preço", "価格", "数量", "NAME", "preco", "ID", "_batch_id"], ["id"])
    assert {name: newer[name] for name in older} == older
    assert len({name.lower() for name in newer.values()} | {"id", *BRONZE_COLUMNS}) == len(newer) + 1 + len(
        BRONZE_COLUMNS
    )


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=63), unique=True))
def test_any_names_become_columns_of_one_table(names: list[str]) -> None:
    found = bigquery_names(names, ["id", "name_text"])
    columns = [Column(name=found[name], type=ColumnType.STRING, source_column=name) for name in names]
    assert len(table(ID, *columns).columns) == len(names) + 1


def test_an_added_column_keeps_clear_of_the_texts_of_policies() -> None:
    day = Column(name="day", type=ColumnType.DATE, on_unrepresentable=Unrepresentable.STRING)
    declared = table(ID, day, drift=SchemaDrift.EVOLVE)
    source = relation(SOURCE_ID, SourceColumn("day", "date"), SourceColumn("day_text", "text"))
    column, _ = settle(declared, source).columns[-1]
    assert column.name.startswith("day_text_")
    assert column.source_column == "day_text"


@pytest.mark.parametrize(
    ("before", "after", "keeps"),
    [
        ("integer", "bigint", True),
        ("character varying(9)", "text", True),
        ("text", "character varying", True),
        ("timestamp(0) with time zone", "timestamp with time zone", True),
        ("numeric(9,2)", "numeric(12,2)", True),
        ("numeric(9,2)", "numeric(12,3)", False),  # 1.50 becomes 1.500
        ("numeric(9,2)", "numeric", False),
        ("real", "double precision", False),  # 0.1 becomes 0.10000000149011612
        ("character(3)", "character(5)", False),
        ("text", "character varying(9)", False),
        ("bigint", "uuid", False),
    ],
)
def test_texts_that_stay_when_a_type_changes(before: str, after: str, keeps: bool) -> None:
    assert keeps_texts(before, after) is keeps
