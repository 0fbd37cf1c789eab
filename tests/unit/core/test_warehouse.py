"""BigQuery's client: what it does without being told."""

import pytest

from services.core.warehouse import bigquery_client


@pytest.mark.parametrize(("variable", "most"), [("1000000", 1_000_000), ("", None)])
def test_a_query_is_refused_beyond_the_bytes_that_the_environment_allows(
    monkeypatch: pytest.MonkeyPatch, variable: str, most: int | None
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("BIGQUERY_MAX_BYTES_BILLED", variable)
    usual = bigquery_client("p", "US").default_query_job_config
    assert (usual.maximum_bytes_billed if usual else None) == most
