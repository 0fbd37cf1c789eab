"""Rows that are read again and are no news do not land: with the real extractor, bucket and PostgreSQL.

``Bench.merge`` does what loader and transformer would; fingerprints count for batches in bronze only.
"""

from collections.abc import Iterator

import httpx
import pytest

from services.core.batch import Batch, BatchError, BatchState, Step
from services.core.settings import CoreSettings
from tests.integration.extractor_harness import (
    LANDING,
    ROLE,
    SCHEMA,
    Bench,
    Finished,
    Place,
    incremental,
    place_on,
    wait_until,
)

FINGERPRINTS = str(CoreSettings.model_fields["fingerprints_prefix"].default)
TABLE = "paid"
COLUMNS = {"id": "INT64", "v": "INT64", "due": "DATE", "amount": "NUMERIC", "note": "STRING"}
DAYS = {"expression": "due", "type": "date", "time_zone": "UTC", "lookback": "P1D"}


@pytest.fixture(scope="module")
def place(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Of one version of PostgreSQL: what differs between them is looked at elsewhere."""
    with place_on(postgres_dsn, tmp_path_factory.mktemp("place")) as place:
        yield place


BY_STATEMENT, BY_CHUNKS = "by one statement", "by chunks"


@pytest.fixture
def paid(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    """A table of 1,000 rows of today, 20 of the day after tomorrow, 10 without a day, 500 of long ago.

    By one statement over an index, and by chunks, because nothing but reading all pages finds the rows.
    """
    bench.database.run(
        f"CREATE TABLE {SCHEMA}.{TABLE} (id bigint PRIMARY KEY, v int NOT NULL DEFAULT 0, due date,"
        " amount numeric(18,2), note text)",
        f"INSERT INTO {SCHEMA}.{TABLE} SELECT g, 0, current_date, g / 100.0, 'row ' || g FROM"
        " generate_series(1, 1000) g",
        f"INSERT INTO {SCHEMA}.{TABLE} SELECT g, 0, current_date + 2, g, NULL FROM generate_series(1001, 1020) g",
        f"INSERT INTO {SCHEMA}.{TABLE} SELECT g, 0, NULL, NULL, '' FROM generate_series(1021, 1030) g",
        f"INSERT INTO {SCHEMA}.{TABLE} SELECT g, 0, '2020-01-01', g, 'old' FROM generate_series(2001, 2500) g",
        f"GRANT SELECT ON {SCHEMA}.{TABLE} TO {ROLE}",
    )
    if getattr(request, "param", BY_STATEMENT) == BY_STATEMENT:
        bench.database.run(f"CREATE INDEX ON {SCHEMA}.{TABLE} (due)")
    else:
        bench.variables["EXTRACT_CHUNK_PAGES"] = "2"
    bench.declare(incremental(TABLE, COLUMNS, DAYS))
    return bench


both_ways = pytest.mark.parametrize("paid", [BY_STATEMENT, BY_CHUNKS], indirect=True)
only_by_chunks = pytest.mark.parametrize("paid", [BY_CHUNKS], indirect=True)


def _landed(bench: Bench) -> list[int]:
    return sorted(row["id"] for row in bench.only_batch().rows())


def _void(finished: Finished) -> list[str]:
    return [str(line["reason"]) for line in finished.events("fingerprints.void")]


def _put(bench: Bench, name: str, content: bytes) -> None:
    """Put an object by hand."""
    to = f"{bench.storage_url}/upload/storage/v1/b/{bench.bucket.name}/o?uploadType=media&name={name}"
    httpx.post(to, content=content, trust_env=False).raise_for_status()


def _settled(bench: Bench) -> Batch:
    """After a first run that is in bronze: the newest batch."""
    assert bench.extract().outcome()["rows"] == 1530
    bench.merge()
    return bench.batches(TABLE)[-1]


@both_ways
def test_a_second_run_without_changes_lands_nothing_and_leaves_nothing(paid: Bench) -> None:
    """On the boundary day of a date cursor, with null and future cursors; before, it landed 1,030 rows every time."""
    first = _settled(paid)
    assert first.fingerprints is not None
    assert (first.fingerprints.rows, first.fingerprints.ahead) == (1030, 20)
    assert paid.objects(FINGERPRINTS) == [f"{FINGERPRINTS}/{TABLE}/{first.id}.parquet"]
    before = paid.objects("business_case")
    for _ in range(3):
        finished = paid.extract()
        assert finished.outcome()["outcome"] == "no_changes"
        assert finished.outcome()["rows_known"] == 1030
        assert finished.events("extraction.finished")[0]["rows_known"] == 1030
        assert paid.objects("business_case") == before
        assert [batch.id for batch in paid.batches(TABLE)] == [first.id]
    paid.at_rest()


@both_ways
def test_of_a_thousand_rows_that_are_read_again_the_forty_that_changed_land(paid: Bench) -> None:
    _settled(paid)
    paid.database.run(f"UPDATE {SCHEMA}.{TABLE} SET v = 1 WHERE id % 25 = 0 AND id <= 1000")
    outcome = paid.extract().outcome()
    assert (outcome["rows"], outcome["rows_known"]) == (40, 990)
    assert _landed(paid) == list(range(25, 1001, 25))
    paid.merge()
    batch = paid.batches(TABLE)[-1]
    assert (batch.rows, batch.rows_known) == (40, 990)
    assert batch.fingerprints is not None
    assert batch.fingerprints.rows == 1030, "those of the rows that did not land go on with this batch"
    assert paid.objects(FINGERPRINTS) == [f"{FINGERPRINTS}/{TABLE}/{batch.id}.parquet"], "the older are deleted"
    assert paid.extract().outcome()["outcome"] == "no_changes"


@pytest.mark.parametrize(
    ("changed", "back"),
    [("note = NULL", "note = ''"), ("due = current_date", "due = NULL")],
)
def test_a_row_that_changes_and_changes_back_lands_both_times(paid: Bench, changed: str, back: str) -> None:
    _settled(paid)
    for change in (changed, back, changed):
        paid.database.run(f"UPDATE {SCHEMA}.{TABLE} SET {change} WHERE id = 1025")
        assert paid.extract().outcome()["rows"] == 1
        assert _landed(paid) == [1025]
        paid.merge()
    assert paid.extract().outcome()["outcome"] == "no_changes"


@both_ways
def test_a_batch_that_is_not_in_bronze_does_not_count(paid: Bench) -> None:
    """It can still fail; with a day's window, a later batch would hide the gap that it leaves."""
    paid.extract()
    [first] = paid.batches(TABLE)
    finished = paid.extract()
    assert (finished.outcome()["rows"], finished.outcome()["rows_known"]) == (1030, 0)
    assert _void(finished) == ["their batch is not in bronze yet"]
    assert first.state is BatchState.LANDED
    paid.merge()
    assert paid.extract().outcome()["outcome"] == "no_changes"


@both_ways
def test_after_a_batch_that_failed_all_that_is_read_again_lands(paid: Bench) -> None:
    _settled(paid)
    paid.database.run(f"UPDATE {SCHEMA}.{TABLE} SET v = 1 WHERE id = 1")
    assert paid.extract().outcome()["rows"] == 1
    [_, second] = paid.batches(TABLE)
    paid.state.step(second.id, Step.REJECT, error=BatchError(code="corrupt_parquet", message="of the test"))
    for name in paid.objects(LANDING):
        (paid.bucket / name).unlink()
    finished = paid.extract()
    assert finished.outcome()["rows"] == 1030
    assert _void(finished) == ["the table was read since: by a snapshot, or by a batch that failed"]
    paid.merge()
    assert paid.extract().outcome()["outcome"] == "no_changes"


@both_ways
def test_a_snapshot_lands_all_rows_and_keeps_what_the_next_window_reads_again(paid: Bench) -> None:
    _settled(paid)
    assert paid.extract("--mode", "snapshot").outcome()["rows"] == 1530
    paid.merge()
    outcome = paid.extract().outcome()
    assert (outcome["outcome"], outcome["rows_known"]) == ("no_changes", 1030)


@pytest.mark.parametrize("noted", [False, True], ids=["in landing", "noted"])
def test_after_a_file_all_that_is_read_again_lands(paid: Bench, noted: bool) -> None:
    """The file's rows are newer than what bronze had, and older than this run."""
    _settled(paid)
    if noted:
        paid.state.note_unannounced(TABLE, "20261126T000000000000Z-00000000")
    else:
        _put(paid, f"{LANDING}/by_hand/{TABLE}-corrected.parquet", b"whatever")
    finished = paid.extract()
    assert finished.outcome()["rows"] == 1030
    [reason] = _void(finished)
    assert "came since" in reason
    paid.merge()
    assert paid.extract().outcome()["outcome"] == "no_changes"


@pytest.mark.parametrize("damage", ["gone", "cut", "foreign"])
def test_fingerprints_that_are_damaged_or_gone_are_void_and_stop_nothing(paid: Bench, damage: str) -> None:
    _settled(paid)
    [name] = paid.objects(FINGERPRINTS)
    content = (paid.bucket / name).read_bytes()
    if damage == "gone":
        (paid.bucket / name).unlink()
    else:
        _put(paid, name, content[:-1] if damage == "cut" else b"PAR1 no fingerprints PAR1")
    finished = paid.extract()
    assert finished.outcome()["rows"] == 1030
    [reason] = _void(finished)
    assert ("is gone" if damage == "gone" else "is not what its batch has put") in reason
    paid.merge()
    assert paid.extract().outcome()["outcome"] == "no_changes"


def test_under_another_declaration_all_that_is_read_again_lands(paid: Bench) -> None:
    """The same values under other names, or masked: bronze has to get them."""
    _settled(paid)
    columns = {name: type_ for name, type_ in COLUMNS.items() if name != "note"}
    paid.declare(incremental(TABLE, columns, DAYS))
    finished = paid.extract()
    assert finished.outcome()["rows"] == 1030
    assert _void(finished) == ["the source or its declaration is another"]
    paid.merge()
    assert paid.extract().outcome()["outcome"] == "no_changes"


def test_more_fingerprints_than_are_kept_are_none_and_the_log_says_what_to_do(paid: Bench) -> None:
    finished = paid.extract(EXTRACT_FINGERPRINTS="1029")
    [said] = finished.events("fingerprints.too_many")
    assert said["most"] == 1029
    assert "EXTRACT_FINGERPRINTS" in said["cure"]
    assert paid.objects(FINGERPRINTS) == []
    paid.merge()
    assert paid.extract(EXTRACT_FINGERPRINTS="1030").outcome()["rows"] == 1030
    paid.merge()
    assert paid.extract(EXTRACT_FINGERPRINTS="1030").outcome()["outcome"] == "no_changes"


@both_ways
@pytest.mark.parametrize(
    "point",
    [
        *("extractor.batch_noted", "extractor.read", "extractor.fingerprints_kept"),
        *("extractor.manifest_announced", "extractor.manifest_landed", "extractor.landed"),
    ],
)
def test_a_death_anywhere_leaves_no_fingerprints_of_rows_that_did_not_land(paid: Bench, point: str) -> None:
    _settled(paid)
    paid.database.run(f"UPDATE {SCHEMA}.{TABLE} SET v = 1 WHERE id = 1")
    faults = paid.folder / "faults"
    faults.write_text(point)
    died = paid.start(FAULT_FILE=str(faults)).finish()
    assert died.exit_code == -9
    assert not faults.exists()
    landed = _versions(paid)
    paid.merge()  # what had landed by then
    wait_until("the lease's end", lambda: not paid.is_held(f"extract-{TABLE}"))
    paid.extract()
    paid.at_rest(killed=True)
    assert [*landed, *_versions(paid)][-1:] == [1], "the change has landed, before the death or after it"
    paid.merge()
    assert paid.extract().outcome()["outcome"] == "no_changes"
    paid.database.run(f"UPDATE {SCHEMA}.{TABLE} SET v = 2 WHERE id = 1")
    assert paid.extract().outcome()["rows"] == 1
    newest = paid.batches(TABLE)[-1]
    assert paid.objects(FINGERPRINTS) == [f"{FINGERPRINTS}/{TABLE}/{newest.id}.parquet"], "nothing older is left"


def _versions(bench: Bench) -> list[int]:
    """Of the row that changed, what is in landing/."""
    return [row["v"] for batch in bench.landed() for row in batch.rows() if row["id"] == 1]


# --- by chunks only -------------------------------------------------------------------------------------------------


def chunks_of(bench: Bench) -> set[str]:
    """Numbers of the chunks that the newest batch's parts come from."""
    return {part.object_name.split(".part-")[1][:5] for part in bench.only_batch().manifest.parts}


@only_by_chunks
def test_a_run_by_chunks_drops_and_keeps_in_every_chunk(paid: Bench) -> None:
    assert paid.extract().outcome()["rows"] == 1530
    assert len(chunks_of(paid)) >= 4
    paid.merge()
    paid.database.run(f"UPDATE {SCHEMA}.{TABLE} SET v = 1 WHERE id IN (1, 500, 1025)")
    for _ in range(2):  # the second one has the rows' new places
        outcome = paid.extract().outcome()
        assert (outcome["rows"], outcome["rows_known"]) == (3, 1027)
        paid.merge()
        assert paid.extract().outcome()["outcome"] == "no_changes"
        paid.database.run(f"UPDATE {SCHEMA}.{TABLE} SET v = v + 1 WHERE id IN (1, 500, 1025)")


@only_by_chunks
def test_what_is_written_while_the_window_is_planned_lands_whatever_was_kept(paid: Bench) -> None:
    """Not all snapshots of the window may see it: where one does not, the version before can have landed."""
    _settled(paid)
    with paid.database.connect() as running:
        running.execute("BEGIN")
        running.execute("SELECT pg_current_xact_id()")
        paid.database.run(f"UPDATE {SCHEMA}.{TABLE} SET v = v WHERE id = 1")
        outcome = paid.extract().outcome()
        assert (outcome["rows"], outcome["rows_known"]) == (1, 1029)
        paid.merge()
        running.execute("ROLLBACK")
    assert paid.extract().outcome()["outcome"] == "no_changes"


@only_by_chunks
def test_all_tasks_drop_what_is_no_news_and_what_they_have_read_together_keeps_nothing(paid: Bench) -> None:
    """Each read under a snapshot of its own: a row can be in the batch as two versions, of which bronze takes one."""
    paid.database.gate_table(TABLE)
    paid.declare(incremental(TABLE, COLUMNS, DAYS))
    _settled(paid)
    paid.database.run(f"UPDATE {SCHEMA}.{TABLE} SET v = 1 WHERE id = 1")
    tasks = {"CLOUD_RUN_EXECUTION": "one", "CLOUD_RUN_TASK_COUNT": "2", "EXTRACT_READERS": "1"}
    with paid.database.gate(200) as gate:
        owner = paid.start(**tasks, CLOUD_RUN_TASK_INDEX="0")
        gate.wait()
        helper = paid.start(**tasks, CLOUD_RUN_TASK_INDEX="1")
        helper.wait_for("extraction.helped")
        gate.open()
    finished = owner.finish()
    assert (finished.exit_code, helper.finish().exit_code) == (0, 0)
    assert (finished.outcome()["rows"], finished.outcome()["rows_known"]) == (1, 1029)
    assert len(finished.events("fingerprints.none")) == 1
    paid.merge()
    assert paid.extract().outcome()["rows"] == 1030
    paid.merge()
    assert paid.extract().outcome()["outcome"] == "no_changes"
    paid.at_rest()
