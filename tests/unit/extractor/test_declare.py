"""What is proposed for tables.yaml can be declared as it is."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import ConfigurationError
from services.core.tables import ColumnType, SchemaDrift, Table
from services.extractor.contract.declare import declaration
from services.extractor.contract.drift import settle
from services.extractor.source.catalog import RelationKind, SourceColumn, SourceRelation, TypeKind


def relation(*columns: SourceColumn, kind: RelationKind = RelationKind.TABLE) -> SourceRelation:
    return SourceRelation(kind, {column.name: column for column in columns})


def test_a_declaration_says_what_the_catalog_says_and_nothing_else() -> None:
    source = relation(
        SourceColumn("id", "int8", declared="bigint", nullable=False),
        SourceColumn("Preço", "numeric", ((18 << 16) | 2) + 4, "numeric(18,2)"),
        SourceColumn("state", "state", declared="shop.state", kind=TypeKind.ENUM, nullable=False),
    )
    assert declaration(source, "shop", "Order Lines", ["id"]) == {
        "name": "order_lines",
        "source": "shop.Order Lines",
        "key": ["id"],
        "mode": "snapshot",
        "bronze_model": "order_lines",
        "columns": [
            {"name": "id", "type": "INT64", "source_type": "bigint", "required": True},
            {"name": "Preco", "type": "NUMERIC", "source_column": "Preço", "source_type": "numeric(18,2)"},
            {"name": "state", "type": "STRING", "source_type": "shop.state", "required": True},
        ],
    }


def test_a_views_key_is_required_though_the_catalog_cannot_know() -> None:
    source = relation(SourceColumn("id", "int8", declared="bigint"), kind=RelationKind.VIEW)
    assert Table.model_validate(declaration(source, "shop", "v", ["id"])).columns[0].required


def test_a_table_without_a_key_has_none() -> None:
    assert "key" not in declaration(relation(SourceColumn("a", "text", declared="text")), "shop", "t", [])


def test_a_float_in_the_key_is_proposed_as_a_text() -> None:
    """BigQuery groups by no FLOAT64."""
    source = relation(
        SourceColumn("k", "float8", declared="double precision", nullable=False),
        SourceColumn("v", "float8", declared="double precision"),
    )
    table = Table.model_validate(declaration(source, "shop", "t", ["k"]))
    assert [column.type for column in table.columns] == [ColumnType.STRING, ColumnType.FLOAT64]


def test_a_relation_without_columns_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"shop\.nothing has no columns"):
        declaration(relation(), "shop", "nothing", [])


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=63)
TYPES = st.sampled_from(["text", "int4", "date", "bytea", "numeric", "interval", "uuid", "float4", "float8"])


@given(st.dictionaries(NAMES, TYPES, min_size=1, max_size=8), NAMES.filter(lambda name: "." not in name))
def test_any_relation_has_a_declaration_that_fits_it(columns: dict[str, str], relation_name: str) -> None:
    """Also after a way through a file; and nothing about it is drift."""
    source = relation(*(SourceColumn(name, type_, declared=type_, nullable=False) for name, type_ in columns.items()))
    proposed = declaration(source, "shop", relation_name, list(columns)[:1])
    table = Table.model_validate(yaml.safe_load(yaml.safe_dump(proposed)))
    frozen = table.model_copy(update={"schema_drift": SchemaDrift.FREEZE})
    assert [found for _, found in settle(frozen, source).columns] == list(source.columns.values())
