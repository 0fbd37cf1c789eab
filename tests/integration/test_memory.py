"""What an extractor holds is bounded by bytes: neither many rows nor wide ones make it grow."""

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass

import pytest

from local.stack.options import PYTHON
from tests.integration.extractor_harness import ROLE, Bench, declared

MB = 1_000_000
LIMIT = 250 * MB
"""What a process may take more than one that reads a single short row: parts, batches, uploads."""


@dataclass(frozen=True)
class Wide:
    """A table, or a view of it."""

    text: str
    rows: int
    packed: bool = True
    view: bool = False


CASES = {
    "rows of 100 kB": Wide("repeat(md5(n::text), 3200)", 2_000, packed=False),
    "rows that PostgreSQL has packed to a hundredth": Wide("repeat(n::text || 'x', 40000)", 2_000),
    "a view, of which nobody knows the size": Wide("repeat(n::text || 'x', 40000)", 2_000, view=True),
    "narrow rows, then wide ones": Wide("CASE WHEN n < 50000 THEN n::text ELSE repeat('x', 100000) END", 51_500),
}


_IN_BETWEEN = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
print(done.stdout.decode())
sys.exit(done.returncode)
"""
"""A small process between this one and the command: Linux counts to a process's peak what it was forked from."""


def peak(bench: Bench, table: str) -> tuple[int, int]:
    """Peak memory in bytes of a snapshot of a table, and its rows."""
    command = [str(PYTHON), "-m", "services.extractor", "--table", table]
    environment = {**os.environ, **bench.environment({"EXTRACT_CHUNK_PAGES": "8192", "PYTHONPATH": str(bench.folder)})}
    done = subprocess.run(
        [str(PYTHON), "-c", _IN_BETWEEN, *command], env=environment, stdout=subprocess.PIPE, check=True
    )
    kibibytes, output = done.stdout.decode().split("\n", 1)
    [outcome] = json.loads(output)["tables"]
    return int(kibibytes) * 1024, int(outcome["rows"])


@pytest.mark.parametrize("wide", CASES.values(), ids=CASES)
def test_wide_rows_take_no_more_memory(bench: Bench, wide: Wide) -> None:
    bench.database.run(
        "CREATE TABLE src.short (id int PRIMARY KEY, body text)",
        "INSERT INTO src.short VALUES (1, 'x')",
        "CREATE TABLE src.stored (id int PRIMARY KEY, body text)",
        f"ALTER TABLE src.stored ALTER body SET STORAGE {'EXTENDED' if wide.packed else 'EXTERNAL'}",
        f"INSERT INTO src.stored SELECT n, {wide.text} FROM generate_series(1, {wide.rows}) n",
        "CREATE VIEW src.seen AS SELECT * FROM src.stored",
        "ANALYZE src.stored",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA src TO {ROLE}",
    )
    columns = {"id": "INT64", "body": "STRING"}
    name = "seen" if wide.view else "stored"
    bench.declare(declared("short", columns), declared(name, columns))
    least, _ = peak(bench, "short")
    most, rows = peak(bench, name)
    assert rows == wide.rows
    assert most - least < LIMIT, f"{(most - least) / MB:.0f} MB more"
    landed = bench.only_batch(name).rows()
    stored = bench.database.rows("SELECT id, md5(body) FROM src.stored")
    assert {(row["id"], _md5(row["body"])) for row in landed} == set(stored)
    assert len(landed) == wide.rows


def test_one_row_of_200_mb_is_read(bench: Bench) -> None:
    """It is in memory as a whole, some times over, and nothing refuses it."""
    bench.database.run(
        "CREATE TABLE src.huge (id int PRIMARY KEY, body text)",
        "INSERT INTO src.huge SELECT n, n::text FROM generate_series(1, 5000) n",
        "INSERT INTO src.huge SELECT 0, repeat('0123456789', 20000000)",
        f"GRANT SELECT ON src.huge TO {ROLE}",
    )
    bench.declare(declared("huge", {"id": "INT64", "body": "STRING"}))
    most, rows = peak(bench, "huge")
    assert rows == 5001
    assert most < 2_000 * MB
    [longest] = [row for row in bench.only_batch("huge").rows() if row["id"] == 0]
    assert longest["body"] == "0123456789" * 20_000_000


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
