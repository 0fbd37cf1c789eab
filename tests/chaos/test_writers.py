"""The run of tests/chaos/writers.py, short: eight writers against a running pipeline (invariants 1 to 4)."""

import shutil
from pathlib import Path

from tests.chaos.command import Options
from tests.chaos.writers import run


def test_after_writers_of_all_kinds_bronze_is_equal_to_the_source(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # the server may run as another user
    report = run(Options(seconds=25, writers=8, seed=1), tmp_path)
    assert report.equal, report.found
    assert (report.lost, report.doubled, report.different, report.not_deleted) == (0, 0, 0, 0)
    # Otherwise nothing was tested.
    assert report.rows_compared > 2 * 12_000
    assert report.transactions["committed"] > 100
    assert report.transactions["rolled back"] > 5
    assert report.longest_open > 1
    assert report.extractions["landed"] > 4
    assert report.batches["failed"] == 0
    shutil.rmtree(tmp_path / "logs")
