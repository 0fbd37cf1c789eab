"""Whatever bytes are dropped into landing/ as a file: they are read or refused, in little memory, and end nobody else.

CREDIX_FILE_SECONDS says for how long mutants are made (20).
"""

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.bad_input_cases import declared, parquet, rows_of
from tests.integration.strange_files import BOMBS

REPOSITORY = Path(__file__).parents[2]
MEGABYTE = 1024**2
READ = {
    *("dictionary_of_100_kB", "dictionary_of_5_MB", "dictionary_of_categories", "empty_texts", "nulls", "row_groups"),
    *("footer_of_texts", "footer_of_12_MB"),
}
"""Bombs that are read all the same, a little at a time."""


def run(module: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.integration.{module}", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"},
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def measured(content: bytes, folder: Path) -> dict[str, Any]:
    table, file = folder / "table.json", folder / "orders_archive.parquet"
    table.write_text(declared("orders_archive").model_dump_json())
    file.write_bytes(content)
    return run("measured_reading", str(table), str(file))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Reading a file of six rows: what the libraries take."""
    return measured(parquet(rows_of("orders_archive")), tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_little_memory(name: str, usual: dict[str, Any], tmp_path: Path) -> None:
    content = BOMBS[name]()
    assert len(content) < 20 * MEGABYTE
    found = measured(content, tmp_path)
    assert (found["code"] is None) == (name in READ), found
    assert found["code"] in (None, "file_too_large", "corrupt_parquet", "unexpected_column", "missing_column")
    assert found["reader"] - usual["reader"] < 300 * MEGABYTE
    assert found["loader"] - usual["loader"] < 100 * MEGABYTE


def test_mutants_are_read_or_refused() -> None:
    seed, seconds = secrets.randbelow(2**40), os.environ.get("CREDIX_FILE_SECONDS", "20")
    found = run("strange_files", str(seed), seconds)
    strange = [
        end for end in found["ends"] if not re.match(r"read$|refused: |ended: SIG(ABRT|SEGV|BUS|FPE|ALRM)$", end)
    ]
    assert not strange, found
    assert sum(found["ends"].values()) > 50, "mutants were read at all"
    assert found["ends"]["refused: corrupt_parquet"] > 0
