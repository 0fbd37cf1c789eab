"""The run of tests/chaos/soak.py, short: writers, extractors and random faults (all invariants)."""

import shutil
from pathlib import Path

from tests.chaos.command import Options
from tests.chaos.soak import run
from tests.pipeline import little_dbt


def test_after_random_faults_all_is_home_and_bronze_is_equal_to_the_source(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # the server may run as another user
    report = run(Options(seconds=30, writers=4, seed=7), tmp_path, little_dbt(tmp_path / "dbt"))
    assert report.equal, (report.found, report.left_behind)
    assert (report.lost, report.doubled, report.different, report.not_deleted) == (0, 0, 0, 0)
    # Otherwise nothing was tested.
    assert report.rows_compared > 2 * 4_000
    assert report.transactions > 100
    assert report.troubles.total() >= 5
    assert report.extractions["landed"] > 4
    shutil.rmtree(tmp_path / "logs")
