"""The declared tables: what is accepted, and how a mistake is reported."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.core.errors import ConfigurationError
from services.core.tables import load_tables

REPOSITORY = Path(__file__).parents[3]


def _table(**changes: Any) -> dict[str, Any]:
    table: dict[str, Any] = {
        "name": "orders",
        "source": "shop.orders",
        "key": ["id"],
        "cursor": {"expression": "updated_at", "type": "timestamp"},
        "bronze_model": "orders",
        "columns": [{"name": "id", "type": "INT64", "required": True}, {"name": "updated_at", "type": "TIMESTAMP"}],
    }
    return {**table, **changes}


def _columns(**facts: Any) -> list[dict[str, Any]]:
    return [{"name": "id", "type": "INT64", "required": True}, {"name": "c", "type": "NUMERIC", **facts}]


def _write(tmp_path: Path, *tables: dict[str, Any]) -> Path:
    path = tmp_path / "tables.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "tables": list(tables)}))
    return path


def test_the_repositorys_own_tables_are_valid() -> None:
    tables = load_tables(REPOSITORY / "config" / "tables.yaml")
    assert tables.names() == ["cnpj_ws", "installments"]
    assert [len(table.columns) for table in tables.tables] == [16, 10]


def test_a_minimal_table_is_accepted(tmp_path: Path) -> None:
    [table] = load_tables(_write(tmp_path, _table())).tables
    assert (table.schema_name, table.relation_name) == ("shop", "orders")
    assert table.cursor is not None
    assert (table.cursor.nulls, table.cursor.future) == ("every_run", "every_run")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"nmae": "x"}, "table orders, field nmae"),
        ({"name": "Orders"}, "table Orders, field name"),
        ({"source": "orders"}, "table orders, field source"),
        ({"key": []}, "mode incremental needs a key"),
        ({"key": [], "mode": "snapshot", "deletes": "soft"}, "deletes: soft needs a key"),
        ({"deleted_at": "nope"}, "deleted_at is one of the columns"),
        ({"deleted_at": "id"}, "deleted_at is one of the columns, a TIMESTAMP, DATETIME or DATE"),
        ({"schema_drift": "adapt"}, "table orders, field schema_drift"),
        ({"columns": _columns(mask="hash")}, "a masked column is a STRING, declared NUMERIC"),
        ({"columns": _columns(on_unrepresentable="round")}, "field columns.c.on_unrepresentable"),
        (
            {"columns": _columns(required=True, on_unrepresentable="string")},
            "'required: true' and on_unrepresentable: string contradict each other",
        ),
        (
            {"columns": [*_columns(on_unrepresentable="string"), {"name": "c_text", "type": "STRING"}]},
            "on_unrepresentable: string adds these columns itself: c_text",
        ),
        (
            {
                "key": ["c"],
                "columns": [{"name": "c", "type": "STRING", "required": True, "mask": "partial"}],
            },
            "a key can only be masked by hash: c",
        ),
        ({"key": ["nope"]}, "key columns that are not among the columns: nope"),
        ({"key": ["id", "id"]}, "key columns named twice: id"),
        ({"key": ["updated_at"]}, "key columns must be 'required: true': updated_at"),
        ({"mode": "sometimes"}, "table orders, field mode"),
        ({"cursor": None}, "mode incremental needs a cursor"),
        ({"cursor": {"expression": "d", "type": "date"}}, "table orders, field cursor"),
        ({"cursor": {"expression": "d", "type": "date", "lookback": "PT36H"}}, "whole number of days"),
        ({"cursor": {"expression": "d", "type": "timestamp", "lag": "-PT1H"}}, "must not be negative"),
        ({"cursor": {"expression": "d", "type": "timestamp", "nulls": "maybe"}}, "field cursor.nulls"),
        ({"columns": [{"name": "id", "type": "INTEGER", "required": True}]}, "field columns.id.type"),
        ({"columns": [{"name": "id", "type": "INT64", "required": True}, {"name": "ID", "type": "INT64"}]}, "twice"),
        (
            {"columns": [{"name": "id", "type": "INT64", "required": True}, {"name": "_batch_id", "type": "STRING"}]},
            "itself",
        ),
        *(
            ({"columns": [*_columns(), {"name": name, "type": "STRING"}]}, f"__ROOT__, _COLIDENTIFIER: {name}")
            for name in ("_table_", "_FILE_x", "_partitiontime", "_Row_Timestamp", "__root__x", "_COLIDENTIFIER_1")
        ),
        (
            {"columns": _columns(name="c" * 296, on_unrepresentable="string")},
            f"columns that on_unrepresentable: string adds have too long a name: {'c' * 296}_text",
        ),
        (
            {"key": ["id", "c"], "columns": _columns(type="FLOAT64", required=True)},
            "key columns cannot be FLOAT64, by which BigQuery does not group, and of which NaN equals nothing; "
            "declare STRING: c",
        ),
    ],
)
def test_a_mistake_names_file_table_and_field(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    path = _write(tmp_path, _table(**changes))
    with pytest.raises(ConfigurationError) as caught:
        load_tables(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    path = _write(tmp_path, _table(key=[]), _table(name="other", bronze_model="other", source="x"))
    with pytest.raises(ConfigurationError, match="2 mistake") as caught:
        load_tables(path)
    assert "table orders" in str(caught.value)
    assert "table other" in str(caught.value)


def test_names_are_unique(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="name used by more than one table: orders"):
        load_tables(_write(tmp_path, _table(), _table(bronze_model="other")))


def test_an_absent_file_says_which_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="TABLES_FILE"):
        load_tables(tmp_path / "nowhere.yaml")


def test_text_that_is_no_yaml(tmp_path: Path) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text("tables: [")
    with pytest.raises(ConfigurationError, match="is not YAML"):
        load_tables(path)


DOUBLED = """\
version: 1
x: &shared
  required: true
  mask: hash
  mask: redact
tables:
  - name: t
    source: shop.t
    deletes: soft
    cursor: {type: date, expression: a, type: timestamp}
    columns:
      - {name: id, type: INT64, "type": STRING}
      - {name: a, <<: *shared}
      - {type: STRING, type: DATE}
    deletes: keep
    deletes: keep
version: 1
"""


def test_keys_that_are_written_twice_are_all_told(tmp_path: Path) -> None:
    """YAML's last one would count, without a word."""
    path = tmp_path / "tables.yaml"
    path.write_text(DOUBLED)
    with pytest.raises(ConfigurationError) as caught:
        load_tables(path)
    assert str(caught.value).splitlines() == [
        f"{path}: 6 mistake(s)",
        "  the whole file, field version: written 2 times (lines 1, 17); keep one",
        "  the whole file, field x.mask: written 2 times (lines 4, 5); keep one",
        "  table t, field deletes: written 3 times (lines 9, 15, 16); keep one",
        "  table t, field cursor.type: written 2 times (lines 10, 10); keep one",
        "  table t, field columns.id.type: written 2 times (lines 12, 12); keep one",
        "  table t, field columns.#3.type: written 2 times (lines 14, 14); keep one",
    ]


def test_what_a_merge_brings_can_be_overruled(tmp_path: Path) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text("""\
version: 1
tables:
  - &first
    name: a
    source: shop.a
    mode: snapshot
    deletes: soft
    key: [id]
    bronze_model: a
    columns: &columns
      - {name: id, type: INT64, required: true}
  - {<<: *first, name: b, source: shop.b, bronze_model: b, deletes: keep}
  - {name: c, source: shop.c, mode: snapshot, bronze_model: c, columns: *columns}
""")
    found = load_tables(path).tables
    assert [(table.name, table.deletes, len(table.columns)) for table in found] == [
        ("a", "soft", 1),
        ("b", "keep", 1),
        ("c", "keep", 1),
    ]


def test_an_empty_file_and_one_with_two_documents_are_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text("# nothing")
    with pytest.raises(ConfigurationError, match="the whole file"):
        load_tables(path)
    path.write_text("a: 1\n---\na: 2\n")
    with pytest.raises(ConfigurationError, match="is not YAML"):
        load_tables(path)


def test_select_names_the_unknown_table(tmp_path: Path) -> None:
    tables = load_tables(_write(tmp_path, _table()))
    assert [t.name for t in tables.select([])] == ["orders"]
    with pytest.raises(ConfigurationError, match="unknown table nope; declared are orders"):
        tables.select(["nope"])


def test_a_table_without_a_key_is_read_by_snapshots(tmp_path: Path) -> None:
    [table] = load_tables(_write(tmp_path, _table(key=[], mode="snapshot"))).tables
    assert table.key == []


def test_the_policy_string_lands_a_second_column(tmp_path: Path) -> None:
    [table] = load_tables(_write(tmp_path, _table(columns=_columns(on_unrepresentable="string")))).tables
    assert [(c.name, c.type.value) for c in table.landed_columns] == [
        ("id", "INT64"),
        ("c", "NUMERIC"),
        ("c_text", "STRING"),
    ]
