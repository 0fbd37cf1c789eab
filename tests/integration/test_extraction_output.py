"""What the extractor shows and what it keeps to itself: dry run, progress, masks and their secret."""

import hashlib
import hmac
import json
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from local.stack.options import PYTHON
from services.core.state.state import TableProgress
from tests.integration.extractor_harness import (
    PAGED,
    ROLE,
    Bench,
    Columns,
    Row,
    Running,
    Server,
    declared,
    incremental,
    own_server,
)

SECRET = "the key of the masks"  # noqa: S105 - made for this test


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It logs every statement."""
    with own_server(tmp_path_factory.mktemp("server"), log_statement="all") as server:
        yield server


def documents(bench: Bench) -> list[tuple[object, ...]]:
    with sqlite3.connect(bench.folder / "state.sqlite") as connection:
        return connection.execute("SELECT * FROM documents ORDER BY 1, 2").fetchall()


def looks(bench: Bench) -> dict[str, Row]:
    """A dry run's answer, by table."""
    return {look["table"]: look for look in json.loads(bench.extract("--dry-run").stdout)["tables"]}


def test_a_dry_run_says_what_a_run_would_do_and_writes_nothing(bench: Bench) -> None:
    database = bench.database
    database.paged_table("big", rows=7_100)
    database.paged_table("small", rows=70)
    database.run("UPDATE src.big SET changed_at = '2026-01-01' WHERE id < 7000", "VACUUM FULL ANALYZE src.big")
    cursor = {"expression": "coalesce(changed_at, '2020-01-01')", "type": "timestamp", "lookback": "PT1H"}
    bench.declare(incremental("big", cursor=cursor), declared("small"), declared("absent"))
    low = datetime(2026, 2, 1, tzinfo=UTC)
    progress = TableProgress(watermark=low, extracted_at=low)
    bench.state.store.create("tables", "big", progress.model_dump(mode="json"))
    before = documents(bench)
    finished = bench.start("--dry-run").finish()
    assert finished.exit_code == 1, "of one table, it can say nothing but why"
    found = {look["table"]: look for look in json.loads(finished.stdout)["tables"]}
    big, small, absent = found["big"], found["small"], found["absent"]
    assert (datetime.fromisoformat(big["window_low"]), big["mode"]) == (low, "incremental")
    assert timedelta(0) < datetime.now(UTC) - datetime.fromisoformat(big["window_high"]) < timedelta(minutes=1)
    assert "'2026-01-31 23:00:00.000000+00:00'" in big["statement"], "reading starts the lookback below low"
    assert big["missing_index"] == 'CREATE INDEX CONCURRENTLY ON "src"."big" ((coalesce(changed_at, \'2020-01-01\')))'
    assert (big["chunks"], small["chunks"]) == (21, 1), "without an index, all 1,015 pages are read"
    assert (small["mode"], small["window_low"], small["estimated_rows"]) == ("snapshot", None, 70)
    assert small["statement"] == 'SELECT "id" AS c0, "v" AS c1 FROM "src"."small"'
    assert "src.absent does not exist" in absent["error"]
    bench.declare(incremental("big", cursor=CHANGED), declared("small"))
    database.run(str(looks(bench)["big"]["missing_index"]), "ANALYZE src.big")
    indexed = looks(bench)["big"]
    assert (indexed["missing_index"], indexed["chunks"]) == (None, 1)
    assert 50 <= indexed["estimated_rows"] <= 250, "about the hundred rows that changed"
    assert documents(bench) == before
    assert [path for path in bench.bucket.rglob("*") if path.is_file()] == []
    with database.connect(user=ROLE, password="a-password-that-nobody-prints") as extractor:  # noqa: S106
        assert len(extractor.execute(indexed["statement"]).fetchall()) == 101, "it can be run as it is"


CHANGED = {"expression": "changed_at", "type": "timestamp"}


def plain(shown: str) -> str:
    """What a terminal shows, without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def test_a_terminal_gets_tables_and_a_live_display_and_a_pipe_gets_lines(bench: Bench) -> None:
    database = bench.database
    database.paged_table("big")
    database.paged_table("slow", gated=True)
    bench.declare(declared("big"), declared("slow"))
    table = plain(bench.on_terminal("--dry-run", "--table", "big"))
    assert "dry run: nothing is read or written" in table
    assert re.search(r"big +│ snapshot +│ the beginning +│ 20.* │ +3,500 │ +10", table), table
    assert 'SELECT "id" AS c0, "v" AS c1 FROM "src"."big"' in table
    with database.gate(3_400) as gate:

        def open_late() -> None:
            gate.wait()
            gate.open()

        shown = plain(bench.on_terminal("--table", "slow", during=open_late))
    assert re.search(r"slow .*━.* \d+/\d+ +rows +[\d,]+/s +0\.0 MB +left", shown), shown
    assert "3500/3500" in shown
    quick = "import sys, services.extractor.progress as p; p.LOG_SECONDS = 0; import services.extractor.__main__ as m"
    command = [str(PYTHON), "-c", f"{quick}; sys.exit(m.main(['--table', 'big']))"]
    finished = Running(command, bench.environment({})).finish()
    lines = finished.events("extraction.progress")
    assert len(lines) == 10, "one for each part, if they need not be some seconds apart"
    assert (lines[-1]["rows"], lines[-1]["estimated_rows"], lines[-1]["seconds_left"]) == (3_500, 3_500, 0)
    assert lines[0]["rows_per_second"] > 0
    assert "━" not in finished.stderr
    assert "extraction.progress" not in bench.extract("--table", "big").stderr, "a short read is not worth a line"


def test_masked_values_leave_the_database_masked_and_the_secret_leaves_nothing(bench: Bench, server: Server) -> None:
    """Not in the server's activity and log, not in this log, not in a dry run, not in the state or the bucket."""
    database = bench.database
    database.run(
        "CREATE TABLE src.people (id int PRIMARY KEY, tax_id text, mail text, phone text)",
        "INSERT INTO src.people SELECT g, 'tax' || g, 'm' || g || '@x.org', '+55 11 9' || (1000000 + g)"
        " FROM generate_series(1, 300) g",
        "INSERT INTO src.people VALUES (301, NULL, NULL, NULL), (302, '', '', '12')",
        f"GRANT SELECT ON src.people TO {ROLE}",
    )
    database.gate_table("people")
    masks: Columns = {
        "tax_id": {"type": "STRING", "mask": "hash"},
        "mail": {"type": "STRING", "mask": "redact"},
        "phone": {"type": "STRING", "mask": "partial", "mask_keep": 3},
    }
    bench.declare(declared("people", {"id": "INT64", **masks}))
    bench.variables["EXTRACT_MASK_SECRET"] = SECRET
    with database.gate(200) as gate:
        running = bench.start()
        gate.wait()
        activity = str(database.rows("SELECT * FROM pg_stat_activity WHERE application_name = 'credix-extractor'"))
    finished = running.finish()
    assert finished.exit_code == 0, finished.stderr
    assert "sha256" in activity, "the statement shows that there is a hash"
    rows = {row["id"]: row for row in bench.only_batch().rows()}
    for id, tax_id, phone in ((7, "tax7", f"{'*' * 12}007"), (302, "", "**")):
        expected = hmac.new(SECRET.encode(), tax_id.encode(), hashlib.sha256).hexdigest()
        assert (rows[id]["tax_id"], rows[id]["mail"], rows[id]["phone"]) == (expected, "***", phone)
    assert [rows[301][name] for name in masks] == [None, None, None]
    dry = bench.extract("--dry-run")
    assert "sha256" in dry.stdout
    key = SECRET.encode().ljust(64, b"\0")
    pads = [bytes(byte ^ pad for byte in key).hex() for pad in (0x36, 0x5C)]
    written = b"".join(path.read_bytes() for path in [*bench.bucket.rglob("*.*"), *bench.folder.glob("state*")])
    places = {
        "pg_stat_activity": activity,
        "the server's log": server.log.read_text(errors="replace"),
        "the log": finished.stderr + finished.stdout,
        "a dry run": dry.stdout + dry.stderr,
        "state and bucket": written.decode("latin-1"),
    }
    assert "src" in places["the server's log"], "it does log statements"
    assert [name for name, text in places.items() for secret in (SECRET, *pads) if secret in text] == []
    assert "tax7" not in places["state and bucket"]


def test_masking_by_hash_without_a_secret_starts_nothing(bench: Bench) -> None:
    bench.declare(declared("people", {**PAGED, "v": {"type": "STRING", "mask": "hash"}}))
    finished = bench.start().finish()
    assert finished.exit_code == 2
    assert "EXTRACT_MASK_SECRET is not set, and masks these columns: people.v" in finished.stderr
    assert finished.stdout == ""
    assert documents(bench) == []
