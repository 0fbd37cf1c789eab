"""What the unit tests of the transformer share."""

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from services.core.settings import TransformerSettings
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.transformer.dbt_project import DbtProject
from services.transformer.reconcile import Transformer
from tests.unit.transformer.reconcile_world import TABLES, Client, Dbt, NoArtifacts, NoReports, Tests, World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("GCP_PROJECT", "p")
    settings = TransformerSettings(transform_lease=timedelta(seconds=1.5))  # type: ignore[call-arg]
    state = PipelineState(SqliteStore(tmp_path / "state.sqlite"))
    client = Client()
    dbt = Dbt(client)
    alerts: list[str] = []
    tester = Tests(client)
    transformer = Transformer(
        settings,
        TABLES,
        state,
        cast(Any, client),
        cast(DbtProject, dbt),
        tester,
        NoArtifacts(),
        NoReports(),
        lambda batch: alerts.append(batch.id),
    )
    return World(transformer, state, dbt, client, alerts, tester)
