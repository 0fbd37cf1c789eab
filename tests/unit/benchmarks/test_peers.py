"""What is said of a contender's table, and what of ours ends the benchmark with exit code 1."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.contenders import Brought
from benchmarks.equality import Source, SourceColumn
from benchmarks.peers import Line, difference, wrongly_landed
from benchmarks.tables import SourceTable

TABLE = SourceTable("bench.t", "id", "a table")


def _source() -> Source:
    def column(name: str, values: list[str]) -> SourceColumn:
        texts = pa.chunked_array([pa.array(values, pa.string())])
        return SourceColumn(name, "text", texts, pa.chunked_array([pa.nulls(len(values), pa.string())]))

    return Source("id", {"id": column("id", ["a", "b"]), "note": column("note", ["x", "y"])})


def _brought(folder: Path, *parts: dict[str, list[str]]) -> Brought:
    files = []
    for number, part in enumerate(parts):
        files.append(folder / f"{number}.parquet")
        pq.write_table(pa.table(part), files[-1])
    return Brought(None, {TABLE.name: files}, {})


def test_files_together_are_the_table(tmp_path: Path) -> None:
    brought = _brought(tmp_path, {"id": ["b"], "note": ["y"]}, {"id": ["a"], "note": ["x"]})
    assert difference(_source(), brought, TABLE, None) == "equal"


def test_a_changed_value_is_told_with_its_column(tmp_path: Path) -> None:
    brought = _brought(tmp_path, {"id": ["a", "b"], "note": ["x", "z"]})
    assert difference(_source(), brought, TABLE, None) == "note: 1 of 2 changed (y → z)"


def test_rows_that_are_not_there_are_told(tmp_path: Path) -> None:
    half = _brought(tmp_path, {"id": ["a"], "note": ["x"]})
    assert difference(_source(), half, TABLE, None) == "1 rows missing, 0 rows that the source does not have"
    assert difference(_source(), _brought(tmp_path), TABLE, None) == "no file, 2 rows missing"


def test_a_failure_is_told_in_one_line() -> None:
    brought = Brought(None, {}, {TABLE.name: "no\n  luck"})
    assert difference(_source(), brought, TABLE, None) == "fails: no luck"


def test_only_what_we_landed_wrongly_counts() -> None:
    def line(contender: str, result: str) -> Line:
        return Line("a table", contender, 1, 1.0, 1.0, 1.0, 1, result)

    fine = [line("credix", "equal"), line("dlt", "1 of 2 changed"), line("credix, no bucket", "not kept")]
    refused = {"NaN": {"credix": "fails: DataError", "credix, string": "equal", "dlt": "1 of 2 null"}}
    assert wrongly_landed(fine, refused) == []
    assert wrongly_landed([line("credix", "fails: lost")], {}) == ["a table"]
    assert wrongly_landed(fine, {"NaN": {"credix": "1 of 2 null"}}) == ["NaN (credix)"]
    assert wrongly_landed(fine, {"NaN": {"credix, string": "1 of 2 changed"}}) == ["NaN (credix, string)"]
