"""Seeding, changing and loading folders, seen from PostgreSQL."""

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from local.sample import parquet_folder
from local.sample.changes import NEW_INSTALLMENTS, PAYMENTS, NotSeededError, SourceChanges, changes
from local.sample.cnpj import is_valid
from local.sample.companies import companies
from local.sample.installments import installments
from local.sample.parquet_folder import FolderReport, load_folder
from local.sample.seeding import COMPANIES, INSTALLMENTS, create_schema, seed
from local.sample.spec import SampleSpec

AS_OF = date(2025, 6, 1)
TODAY = date(2025, 6, 2)
SPEC = SampleSpec(2_000, 42, AS_OF)
FOLDER = "folder_test"
Rows = list[tuple[Any, ...]]


@pytest.fixture
def connection(postgres_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("SET TIME ZONE 'Asia/Tokyo'")  # nothing may depend on it
        connection.execute("DROP SCHEMA IF EXISTS oltp CASCADE")
        connection.execute("DROP SCHEMA IF EXISTS folder_test CASCADE")
        connection.commit()
        yield connection
        connection.rollback()
        connection.execute("DROP SCHEMA IF EXISTS oltp CASCADE")
        connection.execute("DROP SCHEMA IF EXISTS folder_test CASCADE")


def select(connection: psycopg.Connection, query: LiteralString) -> Rows:
    """Rows of a query, with no transaction left open."""
    with connection.transaction():
        return connection.execute(query).fetchall()


def content(connection: psycopg.Connection) -> tuple[Rows, Rows]:
    return (
        select(connection, "SELECT * FROM oltp.business_case_cnpj_ws ORDER BY buyer_tax_id"),
        select(connection, "SELECT * FROM oltp.business_case_installments ORDER BY asset_id"),
    )


def generated(spec: SampleSpec) -> tuple[Rows, Rows]:
    firms = [tuple(row.values()) for batch in companies(spec) for row in batch.to_pylist()]
    receivables = [tuple(row.values()) for batch in installments(spec) for row in batch.to_pylist()]
    return sorted(firms, key=lambda row: str(row[0])), receivables


# ---- schema and seed


def test_tables_are_the_ones_of_the_data_model(connection: psycopg.Connection) -> None:
    create_schema(connection)
    create_schema(connection)
    columns = select(
        connection,
        "SELECT c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY attnum)"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0"
        " WHERE c.relnamespace = 'oltp'::regnamespace AND c.relkind = 'r' GROUP BY 1 ORDER BY 1",
    )
    assert columns == [
        (
            "business_case_cnpj_ws",
            "buyer_tax_id text, share_capital numeric(18,2), company_size text, legal_nature text, "
            "company_status text, main_cnae text, state text, uf text, city text, zipcode text, "
            "simples_option boolean, is_mei boolean, is_main_company boolean, is_active boolean, "
            "created_at timestamp with time zone, updated_at timestamp with time zone",
        ),
        (
            "business_case_installments",
            "asset_id text, invoice_id text, buyer_tax_id text, buyer_main_tax_id text, "
            "original_amount_in_cents bigint, expected_amount_in_cents bigint, paid_amount_in_cents bigint, "
            "due_date date, paid_date date, invoice_issue_date date",
        ),
    ]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (
            "EXPLAIN SELECT * FROM oltp.business_case_cnpj_ws WHERE greatest(created_at, updated_at) > '2025-05-30'",
            "business_case_cnpj_ws_cursor",
        ),
        (
            "EXPLAIN SELECT * FROM oltp.business_case_installments"
            " WHERE greatest(paid_date, invoice_issue_date) > '2025-05-30'",
            "business_case_installments_cursor",
        ),
        (
            "EXPLAIN SELECT * FROM oltp.business_case_installments"
            " WHERE greatest(paid_date, invoice_issue_date) IS NULL",
            "business_case_installments_cursor",
        ),
    ],
)
def test_a_window_of_the_cursor_is_read_by_index(
    connection: psycopg.Connection, query: LiteralString, index: str
) -> None:
    seed(connection, SPEC)
    connection.execute("SET enable_seqscan = off")
    assert index in str(select(connection, query))


def test_seeded_rows_are_the_generated_ones(connection: psycopg.Connection) -> None:
    assert seed(connection, SPEC) == {COMPANIES: 100, INSTALLMENTS: 2_000}
    assert content(connection) == generated(SPEC)


def test_seeding_is_committed(connection: psycopg.Connection, postgres_dsn: str) -> None:
    seed(connection, SPEC)
    with psycopg.connect(postgres_dsn) as other:
        assert len(content(other)[1]) == 2_000


def test_seeding_again_gives_the_same_and_replaces_everything(connection: psycopg.Connection) -> None:
    seed(connection, SampleSpec(5_000, 1, AS_OF))
    seed(connection, SPEC)
    changes(connection, SPEC, today=TODAY)
    assert content(connection) != generated(SPEC)
    for _ in range(2):
        seed(connection, SPEC)
        assert content(connection) == generated(SPEC)


def test_a_failed_seed_leaves_everything_as_it_was(connection: psycopg.Connection) -> None:
    seed(connection, SPEC)
    before = content(connection)

    def fail(table: str, _: int) -> None:
        if table == INSTALLMENTS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seed(connection, SampleSpec(3_000, 7, AS_OF), fail)
    assert content(connection) == before
    indexes = select(connection, "SELECT count(*) FROM pg_indexes WHERE schemaname = 'oltp'")
    assert indexes == [(4,)]


def test_progress_is_told_chunk_by_chunk(connection: psycopg.Connection) -> None:
    told: list[tuple[str, int]] = []
    seed(connection, SampleSpec(70_000, 1, AS_OF), lambda table, rows: told.append((table, rows)))
    assert told == [(COMPANIES, 3_500), (INSTALLMENTS, 60_000), (INSTALLMENTS, 70_000)]


# ---- changes


def difference(before: Rows, after: Rows) -> tuple[tuple[str, ...], tuple[str, ...]]:
    old = {row[0]: row for row in before}
    new = {row[0]: row for row in after}
    assert old.keys() <= new.keys()
    return (
        tuple(sorted(new.keys() - old.keys())),
        tuple(sorted(key for key in old if old[key] != new[key])),
    )


def test_changes_are_what_they_say(connection: psycopg.Connection) -> None:
    seed(connection, SPEC)
    before = content(connection)
    start = datetime.now(UTC)
    done = changes(connection, SPEC, today=TODAY)
    after = content(connection)

    assert (done.companies.inserted, done.companies.updated) == difference(before[0], after[0])
    assert (done.installments.inserted, done.installments.updated) == difference(before[1], after[1])
    assert [len(done.companies.inserted), len(done.companies.updated)] == [1, 1]
    assert [len(done.installments.inserted), len(done.installments.updated)] == [NEW_INSTALLMENTS, PAYMENTS] == [25, 15]

    firms = {row[0]: row for row in after[0]}
    (suspended,) = done.companies.updated
    assert next(row for row in before[0] if row[0] == suspended)[4] == "Ativa"
    assert firms[suspended][4] == "Suspensa"
    assert firms[suspended][13] is False
    (founded,) = done.companies.inserted
    assert is_valid(founded)
    assert firms[founded][4] == "Ativa"
    for key in (suspended, founded):
        assert start - timedelta(minutes=1) < firms[key][15] <= datetime.now(UTC) + timedelta(minutes=1)

    known = {row[0] for row in before[0]}
    invoices = {row[1] for row in before[1]}
    receivables = {row[0]: row for row in after[1]}
    for key in done.installments.inserted:
        _, invoice, buyer, main, original, expected, paid, due, paid_on, issued = receivables[key]
        assert buyer in known
        assert is_valid(main)
        assert main[:12] == buyer[:8] + "0001"
        assert invoice not in invoices
        assert original == expected > 0
        assert (paid, paid_on, issued) == (None, None, TODAY)
        assert due > TODAY
    old = {row[0]: row for row in before[1]}
    for key in done.installments.updated:
        assert old[key][8] is None
        assert old[key][7] < TODAY
        assert receivables[key] == (*old[key][:6], old[key][5], old[key][7], TODAY, old[key][9])
        assert old[key][5] > 0


def test_the_same_sample_and_day_give_the_same_changes(connection: psycopg.Connection) -> None:
    results: list[SourceChanges] = []
    contents: list[Rows] = []
    for _ in range(2):
        seed(connection, SPEC)
        results.append(changes(connection, SPEC, today=TODAY))
        contents.append(content(connection)[1])
    assert results[0] == results[1]
    assert contents[0] == contents[1]


def test_every_call_is_a_further_cycle(connection: psycopg.Connection) -> None:
    seed(connection, SPEC)
    first = changes(connection, SPEC, today=TODAY)
    second = changes(connection, SPEC)
    for before, after in ((first.companies, second.companies), (first.installments, second.installments)):
        assert not {*before.inserted, *before.updated} & {*after.inserted, *after.updated}
        assert len(after.inserted) == len(before.inserted)
    issued = select(connection, "SELECT max(invoice_issue_date) FROM oltp.business_case_installments")
    assert issued == [(datetime.now(UTC).date(),)]


def test_the_smallest_sample_can_change(connection: psycopg.Connection) -> None:
    spec = SampleSpec(40, 1, AS_OF)
    seed(connection, spec)
    done = changes(connection, spec, today=TODAY)
    assert len(done.installments.inserted) == NEW_INSTALLMENTS
    assert len(done.installments.updated) <= PAYMENTS


def test_nothing_to_change_is_said(connection: psycopg.Connection) -> None:
    create_schema(connection)
    with pytest.raises(NotSeededError, match="seed it first"):
        changes(connection, SPEC)
    assert content(connection) == ([], [])


# ---- folders of Parquet


NASTY = ["", None, "\\N", "\\.", "a\tb\nc\rd\\", "NULL", '"', "é😀", " x ", "\\.\n\\.", "\x01\x7f"]
INSTANT = datetime(2024, 2, 29, 23, 59, 59, 999999, UTC)
STRUCT = {"a": 1, "t": 'x"\\', "d": Decimal("1.50"), "n": None, "l": [1, None]}

# column: Arrow values, PostgreSQL type, values as psycopg gives them (None: the same as Arrow's)
TYPES: dict[str, tuple[pa.Array, str, list[Any] | None]] = {
    "int8": (pa.array([-128, None, 127], pa.int8()), "smallint", None),
    "int16": (pa.array([-(2**15), None, 2**15 - 1], pa.int16()), "smallint", None),
    "int32": (pa.array([-(2**31), None, 2**31 - 1], pa.int32()), "integer", None),
    "int64": (pa.array([-(2**63), None, 2**63 - 1], pa.int64()), "bigint", None),
    "uint8": (pa.array([0, None, 255], pa.uint8()), "smallint", None),
    "uint16": (pa.array([0, None, 2**16 - 1], pa.uint16()), "integer", None),
    "uint32": (pa.array([0, None, 2**32 - 1], pa.uint32()), "bigint", None),
    "uint64": (pa.array([0, None, 2**64 - 1], pa.uint64()), "numeric(20,0)", None),
    "float": (pa.array([0.1, None, 3.4028234663852886e38], pa.float32()), "real", None),
    "half": (pa.array([0.1, None, 65504.0], pa.float16()), "real", None),
    "double": (pa.array([0.1 + 0.2, math.inf, 5e-324], pa.float64()), "double precision", None),
    "minus": (pa.array([-0.0, -math.inf, 1.7976931348623157e308], pa.float64()), "double precision", None),
    "bool": (pa.array([True, None, False]), "boolean", None),
    "money": (
        pa.array([Decimal("-9999999999999999.99"), None, Decimal("0.01")], pa.decimal128(18, 2)),
        "numeric(18,2)",
        None,
    ),
    "tiny": (pa.array([Decimal("1e-30"), None, Decimal("-1.5")], pa.decimal128(38, 30)), "numeric(38,30)", None),
    "wide": (pa.array([Decimal(10) ** 60, None, Decimal(-1)], pa.decimal256(70, 5)), "numeric(70,5)", None),
    "string": (pa.array(["", None, "\\N"]), "text", None),
    "large": (pa.array(["a\tb", None, "é"], pa.large_string()), "text", None),
    "category": (pa.array(["b", None, "b"]).dictionary_encode(), "text", None),
    "binary": (pa.array([b"", None, bytes(range(256))]), "bytea", None),
    "fixed": (pa.array([b"\x00\x01", None, b"\\N"], pa.binary(2)), "bytea", None),
    "date": (pa.array([date(1, 1, 1), None, date(9999, 12, 31)]), "date", None),
    "second": (
        pa.array([-1, None, 0], pa.timestamp("ms")),
        "timestamp without time zone",
        [datetime(1969, 12, 31, 23, 59, 59, 999000), None, datetime(1970, 1, 1)],
    ),
    "naive": (pa.array([INSTANT.replace(tzinfo=None), None, datetime.min]), "timestamp without time zone", None),  # noqa: DTZ901
    "instant": (
        pa.array([INSTANT, None, INSTANT], pa.timestamp("us", "America/Sao_Paulo")),
        "timestamp with time zone",
        None,
    ),
    "nano": (
        pa.array([1_000, None, 0], pa.timestamp("ns", "UTC")),
        "timestamp with time zone",
        [datetime(1970, 1, 1, 0, 0, 0, 1, UTC), None, datetime(1970, 1, 1, tzinfo=UTC)],
    ),
    "time": (pa.array([time(0), None, time(23, 59, 59, 999999)]), "time without time zone", None),
    "clock": (pa.array([1, None, 86_399_999], pa.time32("ms")), "time without time zone", None),
    "nothing": (pa.nulls(3), "text", None),
    "integers": (pa.array([[1, None], None, []], pa.list_(pa.int32())), "integer[]", None),
    "texts": (pa.array([NASTY, None, ["NULL", "{}"]], pa.large_list(pa.string())), "text[]", None),
    "instants": (
        pa.array([[INSTANT], None, []], pa.list_(pa.timestamp("us", "UTC"))),
        "timestamp with time zone[]",
        None,
    ),
    "blobs": (pa.array([[b"\\", None], None, []], pa.list_(pa.binary())), "bytea[]", None),
    "pair": (pa.array([[1.5, 2.5], None, [0.1, math.inf]], pa.list_(pa.float64(), 2)), "double precision[]", None),
    "struct": (
        pa.array([{**STRUCT, "d": Decimal("1.50")}, None, STRUCT]),
        "jsonb",
        [{**STRUCT, "d": 1.5}, None, {**STRUCT, "d": 1.5}],
    ),
    "structs": (pa.array([[{"a": "x"}, None], None, []]), "jsonb[]", None),
    "map": (
        pa.array([[("k", 1), ("", None)], None, []], pa.map_(pa.string(), pa.int64())),
        "jsonb",
        [{"k": 1, "": None}, None, {}],
    ),
    "lists": (pa.array([[[1, 2], [3], None], None, []]), "jsonb", None),
    "uuid": (
        pa.array([UUID(int=1).bytes, None, UUID(int=2**128 - 1).bytes], pa.uuid()),
        "uuid",
        [UUID(int=1), None, UUID(int=2**128 - 1)],
    ),
}


def write(folder: Path, name: str, columns: dict[str, Any], **options: Any) -> Path:
    path = folder / name
    pq.write_table(pa.table(columns), path, **options)
    return path


def load(connection: psycopg.Connection, folder: Path) -> FolderReport:
    return load_folder(connection, folder, schema=FOLDER)


def the_reason(connection: psycopg.Connection, folder: Path) -> str:
    """The reason that the folder's only file is bad; it has left no table."""
    report = load(connection, folder)
    assert not report.ok
    assert not report.loaded
    (bad,) = report.bad
    assert select(connection, "SELECT relname FROM pg_class WHERE relnamespace = 'folder_test'::regnamespace") == []
    return bad.reason


def test_every_type_comes_back_value_by_value(connection: psycopg.Connection, tmp_path: Path) -> None:
    write(tmp_path, "types.parquet", {name: values for name, (values, _, _) in TYPES.items()})
    report = load(connection, tmp_path)
    assert report.bad == ()
    assert [(file.file, file.table, file.rows) for file in report.loaded] == [("types.parquet", "types", 3)]
    assert report.ok
    types: dict[str, str] = dict(
        select(
            connection,
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'folder_test.types'::regclass AND attnum > 0",
        )
    )
    assert types == {name: kind for name, (_, kind, _) in TYPES.items()}
    rows = select(connection, "SELECT * FROM folder_test.types")
    for place, (name, (values, _, expected)) in enumerate(TYPES.items()):
        got = [row[place] for row in rows]
        if name in ("float", "half"):  # psycopg reads real as its shortest text
            got = pa.array(got, pa.float32()).to_pylist()
        wanted = values.to_pylist() if expected is None else expected
        assert got == wanted, name
        if name in ("double", "minus", "money", "tiny"):  # as texts 0.0 and -0.0 differ, 1.5 and 1.50 too
            assert str(got) == str(wanted), name


def test_nan_and_texts_come_back(connection: psycopg.Connection, tmp_path: Path) -> None:
    write(tmp_path, "t.parquet", {"n": list(range(len(NASTY))), "t": NASTY, "f": [math.nan] * len(NASTY)})
    assert load(connection, tmp_path).ok
    rows = select(connection, "SELECT t, f FROM folder_test.t ORDER BY n")
    assert [text for text, _ in rows] == NASTY
    assert all(math.isnan(number) for _, number in rows)


def test_json_numbers_keep_their_digits(connection: psycopg.Connection, tmp_path: Path) -> None:
    value = {"d": Decimal("12345678901234567890.123456789"), "f": 1e22}
    write(tmp_path, "t.parquet", {"j": [value]})
    assert load(connection, tmp_path).ok
    got = select(connection, "SELECT j->>'d', (j->>'f')::float8 FROM folder_test.t")
    assert got == [("12345678901234567890.123456789", 1e22)]


def test_names_are_taken_as_they_are(connection: psycopg.Connection, tmp_path: Path) -> None:
    write(tmp_path, "Order.parquet", {'say "hi"; --': [1], "SELECT": [2], "ção": [3]})
    write(tmp_path, "empty.parquet", {"a": pa.array([], pa.int64())})
    assert load(connection, tmp_path).ok
    assert select(connection, 'SELECT "say ""hi""; --", "SELECT", "ção" FROM folder_test."Order"') == [(1, 2, 3)]
    assert select(connection, "SELECT count(*) FROM folder_test.empty") == [(0,)]


def test_loading_again_replaces_the_content(connection: psycopg.Connection, tmp_path: Path) -> None:
    path = write(tmp_path, "t.parquet", {"a": [1, 2, 3]})
    for _ in range(2):
        assert load(connection, tmp_path).ok
        assert select(connection, "SELECT a FROM folder_test.t ORDER BY a") == [(1,), (2,), (3,)]
    path.unlink()
    write(tmp_path, "t.parquet", {"a": [4]})
    assert load(connection, tmp_path).ok
    assert select(connection, "SELECT a FROM folder_test.t") == [(4,)]


def test_loads_into_the_sample_s_own_tables_in_oltp(connection: psycopg.Connection, tmp_path: Path) -> None:
    create_schema(connection)
    for table, batches in ((COMPANIES, companies(SPEC)), (INSTALLMENTS, installments(SPEC))):
        pq.write_table(pa.Table.from_batches(batches), tmp_path / f"{table}.parquet")
    assert load_folder(connection, tmp_path).ok
    assert content(connection) == generated(SPEC)


def test_columns_are_matched_by_name(connection: psycopg.Connection, tmp_path: Path) -> None:
    write(tmp_path, "t.parquet", {"a": [1], "b": ["x"], "c": [None]})
    connection.execute("CREATE SCHEMA folder_test")
    connection.execute("CREATE TABLE folder_test.t (c date, b varchar, a numeric(10,2))")
    connection.commit()
    assert load(connection, tmp_path).ok
    assert select(connection, "SELECT a, b, c FROM folder_test.t") == [(Decimal("1.00"), "x", None)]


def test_memory_holds_one_batch(
    connection: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "t.parquet", {"a": list(range(50_000))}, row_group_size=30_000)
    told: list[int] = []
    load_folder(connection, tmp_path, schema=FOLDER, on_progress=lambda _, rows: told.append(rows))
    assert told == [16_384, 30_000, 46_384, 50_000]
    monkeypatch.setattr(parquet_folder, "BATCH_BYTES", 50_000)
    told.clear()
    load_folder(connection, tmp_path, schema=FOLDER, on_progress=lambda _, rows: told.append(rows))
    assert max(after - before for before, after in zip([0, *told], told, strict=False)) < 10_000
    assert select(connection, "SELECT count(*), sum(a) FROM folder_test.t") == [(50_000, 1_249_975_000)]


def test_bad_files_are_named_and_the_others_loaded(connection: psycopg.Connection, tmp_path: Path) -> None:
    write(tmp_path, "good.parquet", {"a": [1]})
    (tmp_path / "corrupt.parquet").write_bytes(b"PAR1 not really PAR1")
    (tmp_path / "empty_file.parquet").touch()
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "notes.txt").write_text("not looked at")
    write(tmp_path, "interval.parquet", {"a": pa.array([1], pa.duration("s"))})
    write(tmp_path, "bad-name.parquet", {"a": [1]})
    write(tmp_path, "1st.parquet", {"a": [1]})
    write(tmp_path, f"{'x' * 64}.parquet", {"a": [1]})
    write(tmp_path, "Twice.parquet", {"a": [1]})
    write(tmp_path, "twice.parquet", {"a": [1]})
    report = load(connection, tmp_path)
    assert not report.ok
    assert [file.file for file in report.loaded] == ["good.parquet"]
    reasons = {bad.file: bad.reason for bad in report.bad}
    assert reasons.keys() == {
        "corrupt.parquet",
        "empty_file.parquet",
        "folder.parquet",
        "interval.parquet",
        "bad-name.parquet",
        "1st.parquet",
        f"{'x' * 64}.parquet",
        "Twice.parquet",
        "twice.parquet",
    }
    assert "arquet" in reasons["corrupt.parquet"]
    assert "folder" in reasons["folder.parquet"]
    assert "'a'" in reasons["interval.parquet"]
    assert "duration" in reasons["interval.parquet"]
    assert "table name" in reasons["bad-name.parquet"]
    assert "upper and lower case" in reasons["twice.parquet"]
    tables = select(connection, "SELECT relname FROM pg_class WHERE relnamespace = 'folder_test'::regnamespace")
    assert tables == [("good",)]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"a": pa.array([1_000, 1], pa.timestamp("ns"))}, "lose data"),
        ({"a": pa.array([[1]], pa.list_(pa.time64("ns")))}, "lose data"),
        ({"a": pa.array([-800_000], pa.date32())}, "year 1"),
        ({"a": ["ok", "nul\0"]}, "PostgreSQL refuses it"),
        ({"a": [1], "A": [2]}, "more than one column is named 'a'"),
        ({"x" * 64: [1]}, "no column name"),
        ({"é" * 32: [1]}, "no column name"),
        ({"": [1]}, "no column name"),
        ({"ctid": [1]}, "PostgreSQL refuses it"),
        ({}, "no columns"),
        ({f"c{n}": [1] for n in range(1_601)}, "1600 columns"),
        ({"a": [{"b": math.nan}]}, "JSON"),
    ],
)
def test_what_postgresql_cannot_hold_exactly_is_refused(
    connection: psycopg.Connection, tmp_path: Path, columns: dict[str, Any], reason: str
) -> None:
    write(tmp_path, "t.parquet", columns)
    assert reason in the_reason(connection, tmp_path)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"a": [1]}, "missing ['b']"),
        ({"a": [1], "b": ["x"], "c": [1]}, "unknown ['c']"),
        ({"A": [1], "b": ["x"]}, "missing ['a'], unknown ['A']"),
        ({"a": [0.125], "b": ["x"]}, "cannot hold double precision exactly"),
        ({"a": [10**17], "b": ["x"]}, "overflow"),
        ({"a": [1], "b": [None]}, "null value"),
    ],
)
def test_a_table_that_does_not_take_the_file_keeps_its_content(
    connection: psycopg.Connection, tmp_path: Path, columns: dict[str, Any], reason: str
) -> None:
    connection.execute("CREATE SCHEMA folder_test")
    connection.execute("CREATE TABLE folder_test.t (a numeric(18,2), b text NOT NULL)")
    connection.execute("INSERT INTO folder_test.t VALUES (7, 'kept')")
    connection.commit()
    write(tmp_path, "t.parquet", columns)
    (bad,) = load(connection, tmp_path).bad
    assert reason in bad.reason
    assert select(connection, "SELECT * FROM folder_test.t") == [(Decimal("7.00"), "kept")]


def test_a_view_is_no_table(connection: psycopg.Connection, tmp_path: Path) -> None:
    connection.execute("CREATE SCHEMA folder_test")
    connection.execute("CREATE VIEW folder_test.t AS SELECT 1 AS a")
    connection.commit()
    write(tmp_path, "t.parquet", {"a": [1]})
    (bad,) = load(connection, tmp_path).bad
    assert "is not a table" in bad.reason


def test_a_file_damaged_in_the_middle_changes_nothing(connection: psycopg.Connection, tmp_path: Path) -> None:
    path = write(tmp_path, "t.parquet", {"a": ["before"]})
    assert load(connection, tmp_path).ok
    write(
        tmp_path,
        "t.parquet",
        {"a": [f"value {n}" for n in range(40_000)]},
        row_group_size=20_000,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    data = bytearray(path.read_bytes())
    place = data.index(b"value 30000")
    data[place] ^= 1  # still a text: only the checksum tells
    path.write_bytes(data)
    told: list[int] = []
    report = load_folder(connection, tmp_path, schema=FOLDER, on_progress=lambda _, rows: told.append(rows))
    assert told  # the first row group had been copied
    assert [bad.file for bad in report.bad] == ["t.parquet"]
    assert select(connection, "SELECT a FROM folder_test.t") == [("before",)]


def test_a_database_in_trouble_is_no_bad_file(
    connection: psycopg.Connection, tmp_path: Path, postgres_dsn: str
) -> None:
    write(tmp_path, "t.parquet", {"a": [1]})
    assert load(connection, tmp_path).ok
    connection.execute("SET lock_timeout = '50ms'")
    connection.commit()
    with psycopg.connect(postgres_dsn) as other:
        other.execute("LOCK TABLE folder_test.t")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            load(connection, tmp_path)


def test_no_folder_and_nothing_in_it(connection: psycopg.Connection, tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="absent"):
        load(connection, tmp_path / "absent")
    report = load(connection, tmp_path)
    assert not report.ok
    assert report == FolderReport((), ())
