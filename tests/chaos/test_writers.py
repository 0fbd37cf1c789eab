"""Writers and extractions at once, for a short while; ``python -m tests.chaos.writers`` runs for as long as asked."""

from pathlib import Path

from tests.chaos.writers import Options, run


def test_source_and_bronze_are_equal_after_writers_and_extractions_at_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # the server may run as another user
    report = run(Options(seconds=20, writers=8, seed=1, profile="embedded"), tmp_path)
    assert report.found == []
    assert report.equal
    assert report.transactions["committed"] > 100
    assert report.batches["incremental"] > 3
    assert report.rows_compared > 5_000
