"""Bronze after its MERGEs: the local warehouse and Google's reference implementation leave the same rows."""

import datetime as dt
import itertools
import random
from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Any

import pytest
from google.cloud.bigquery import SchemaField

from local.googlesql import compiled
from local.googlesql.analysis import GoogleSql
from services.transformer.bronze.tables import BASE
from tests.integration.bronze_feed import BY_ID, ITEM, Batch, Feed, at, random_batches, random_runs
from tests.integration.merge_by_google import merged
from tests.integration.test_dbt_bronze import DAYS, RESERVED
from tests.integration.test_rows_by_google import held
from tests.integration.warehouse_fixture import PROJECT, BronzeModel, Dbt, Warehouse, bronze_project

Row = dict[str, Any]

VALUES: dict[str, list[Any]] = {
    "STRING": ["a", "ß é \U0001f600", ""],
    "INT64": [2**63 - 1, -(2**63), 2**53 + 1],
    "NUMERIC": [Decimal("1.50"), Decimal("-0.01"), Decimal("9999999999999999.99")],
    "FLOAT64": [0.1, -1e300, 2.0],
    "BOOL": [True, False, True],
    "DATE": [dt.date(2026, 3, 1), dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    "TIMESTAMP": [
        at(0),
        dt.datetime(1, 1, 1, tzinfo=dt.UTC),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC),
    ],
    "DATETIME": [dt.datetime(2026, 3, 1, 1, 2, 3, 456789), dt.datetime(2026, 3, 2), dt.datetime(1970, 1, 1, 12)],
    "TIME": [dt.time(1, 2, 3, 456789), dt.time(0), dt.time(23, 59, 59)],
    "BYTES": [b"\x00\xff", b"a", b""],
}
BIG = [Decimal(text) for text in ("1.5", "-0.000000000000000001", "1e19", "0", "0.10", f"{10**20 - 1}.5")]
TEXTS_OF: dict[str, list[Any]] = {
    "STRING": ['"', "\\", "/", "<", "é", "\u2028", "\x7f", "\x01", "\n", "😀", "", "a", "Z"],
    "INT64": [1, 2, 10, -1, 2**53, 2**53 + 1, -(2**53), -(2**53) - 1, 2**63 - 1],
    "NUMERIC": [Decimal(text) for text in ("1.50", "1.45", "15.00", "-1.50", "0.10", "9999999999999999.99", "0.00")],
    "FLOAT64": [1.0, 1.5, 1e15, 1e16, 1e21, 1e-5, 1e-7, 0.1, -0.0, 1e300, 123456789.125],
    "BOOL": [True, False, None],
    "DATE": [dt.date(2026, 3, 1), dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    "TIMESTAMP": [
        dt.datetime(2026, 3, 1, 12, 0, 0, micros, tzinfo=dt.UTC)
        for micros in (0, 100_000, 100, 120_000, 123_000, 123_456, 1, 10)
    ],
    "DATETIME": [dt.datetime(2026, 3, 1, 12, 0, 0, micros) for micros in (0, 100_000, 100, 120_000, 123_456, 1, 10)],
    "TIME": [dt.time(12, 0, 0, micros) for micros in (0, 100_000, 100, 120_000, 123_456, 1, 10)],
    "BYTES": [b"\x00\xff", b"a", b"", b"\xfb\xff", b"~~~"],
}
"""Values whose texts in JSON are ordered otherwise than they are, or are written in several ways."""
EVERY = [SchemaField(f"v_{type_.lower()}", type_) for type_ in VALUES]
KEYS = [SchemaField(f"k_{type_.lower()}", type_) for type_ in VALUES if type_ != "FLOAT64"]
_EXACT = Context(prec=100)
RANDOM, STEPS = 4, 4
"""Models with histories of their own, and the runs of each that are compared: the first ones."""


@pytest.fixture(scope="module")
def google() -> GoogleSql:
    compiled.compile_once()
    return GoogleSql()


@pytest.fixture(scope="module")
def project(warehouse_endpoint: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    models = {
        "every": BronzeModel([SchemaField("id", "INT64"), *EVERY], ["id"]),
        "keys": BronzeModel([*KEYS, SchemaField("v", "INT64")], [key.name for key in KEYS]),
        "twice": BronzeModel([SchemaField("of", "STRING"), SchemaField("id", "INT64"), *EVERY], ["of", "id"]),
        "big": BronzeModel([SchemaField("k", "BIGNUMERIC"), SchemaField("v", "BIGNUMERIC")], ["k"]),
        "whole": BronzeModel(EVERY, []),
        "reserved": BronzeModel(RESERVED, ["order", "Group"]),
        "by_day": BronzeModel(DAYS, ["id", "day"], {"field": "day", "data_type": "date", "granularity": "month"}),
    } | {f"case_{n}": BronzeModel(ITEM, ["id"], BY_ID if n % 2 else None) for n in range(RANDOM)}
    return bronze_project(warehouse_endpoint, tmp_path_factory.mktemp("bronze"), "by_google", models)


def merge_and_compare(google: GoogleSql, project: Dbt, runs: dict[Feed, list[Batch]]) -> int:
    """Merge on the local warehouse, and by Google what was merged; returns how many rows were compared."""
    before = {}
    for feed, batches in runs.items():
        target = f"{PROJECT}.{project.datasets.bronze}.{feed.model}{BASE}"
        if not any(table.table_id == feed.model for table in project.client.list_tables(project.datasets.bronze)):
            project.run("run", "--select", feed.model)
        before[feed] = [held(project, name) for name in (target, *sorted({batch["table"] for batch in batches}))]
    variable = {feed.model: feed.known(batches) for feed, batches in runs.items()}
    project.run("run", "--select", *variable, batches=variable)
    compared = 0
    for feed, tables in before.items():
        by_google = comparable(merged(google, project.executed(feed.model), with_new_columns(tables, feed)))
        here = comparable(feed.rows())
        differing = [pair for pair in itertools.zip_longest(here, by_google) if pair[0] != pair[1]]
        assert not differing, f"{feed.model}: {len(differing)} rows differ, such as {differing[:2]}"
        compared += len(here)
    return compared


def with_new_columns(tables: list[Row], feed: Feed) -> list[Row]:
    """The target with the columns that it has now: they were added before the MERGE."""
    now = held(feed.project, tables[0]["id"])
    return [tables[0] | {"fields": now["fields"]}, *tables[1:]]


def comparable(rows: Iterable[Row]) -> list[str]:
    """Rows as texts, in order, but for the time of the MERGE."""

    def text(value: Any) -> str:
        # 1.50 and 1.5 are one value; of all else the texts differ where the values do.
        return f"Decimal {value.normalize(_EXACT):f}" if isinstance(value, Decimal) else repr(value)

    return sorted(
        str(sorted((name, text(value)) for name, value in row.items() if name != "_loaded_at")) for row in rows
    )


def every(number: int) -> Row:
    """A row of every type."""
    return {column.name: VALUES[column.field_type][number] for column in EVERY}


def keyed(number: int) -> Row:
    """A row whose key has every type."""
    return {key.name: VALUES[key.field_type][number] for key in KEYS}


def test_random_histories(google: GoogleSql, project: Dbt) -> None:
    chance = random.Random(20261126)  # noqa: S311  reproducible, not secret
    feeds = [Feed(project, f"case_{n}", {"deletes": "soft", "deleted_at": "removed_on"}) for n in range(RANDOM)]
    histories = [random_batches(chance) for _ in feeds]
    loaded = [
        {
            each.id: feed.load(each.id, each.minutes, [v.row() for v in each.rows], snapshot=each.snapshot)
            for each in history
        }
        for feed, history in zip(feeds, histories, strict=True)
    ]
    compared = 0
    steps = itertools.zip_longest(*(list(random_runs(chance, history)) for history in histories))
    for step in itertools.islice(steps, STEPS):
        runs = {
            feed: ([batches[each.id] for each in run[0]], run[1])
            for feed, batches, run in zip(feeds, loaded, step, strict=True)
            if run is not None
        }
        compared += merge_and_compare(google, project, {feed: batches for feed, (batches, _) in runs.items()})
        for feed, (batches, noted) in runs.items():
            if noted:
                feed.note(batches)
    assert compared > 40


def test_every_type_as_value_and_as_key(google: GoogleSql, project: Dbt) -> None:
    values, keys, whole = (
        Feed(project, "every", {"deletes": "soft", "deleted_at": "v_date"}),
        Feed(project, "keys", {"deletes": "soft", "deleted_at": "k_datetime"}),
        Feed(project, "whole"),
    )
    columns = [SchemaField("id", "INT64"), *EVERY]
    of_keys = [*KEYS, SchemaField("v", "INT64")]
    nulls: Row = dict.fromkeys(column.name for column in EVERY)
    first = {
        values: [
            values.snapshot("a", 0, [{"id": n, **every(n)} for n in range(3)] + [{"id": 3, **nulls}], columns=columns)
        ],
        keys: [keys.snapshot("a", 0, [{**keyed(n), "v": n} for n in range(3)], columns=of_keys)],
        whole: [whole.snapshot("a", 0, [every(0), every(0), nulls], columns=EVERY)],
    }
    assert merge_and_compare(google, project, first) == 10
    for feed, batches in first.items():
        feed.note(batches)
    more = [SchemaField("added", "STRING")]
    second = {
        values: [
            values.load("b", 1, [{"id": 0, **every(1)}, {"id": 4, **every(2), "added": "new"}], columns, extra=more),
            values.snapshot("c", 2, [{"id": 1, **every(2)}], columns=columns),
        ],
        keys: [
            keys.load("b", 1, [{**keyed(0), "v": 7}], of_keys),
            keys.snapshot("c", 2, [{**keyed(1), "v": 8}], columns=of_keys),
        ],
        whole: [whole.snapshot("b", 1, [every(1), every(2), {**nulls, "added": "x"}], columns=EVERY, extra=more)],
    }
    assert merge_and_compare(google, project, second) == 11


def test_names_partitions_and_columns_of_other_types(google: GoogleSql, project: Dbt) -> None:
    reserved, by_day = Feed(project, "reserved", {"deletes": "soft"}), Feed(project, "by_day")
    rows = [{column.name: n for column in RESERVED} | {"order": n, "Group": 0} for n in range(3)]
    names = [SchemaField("from", "INT64"), SchemaField("Where", "NUMERIC"), SchemaField("a b", "STRING")]
    days = [{"id": 1, "day": dt.date(2026, month, 3), "value": month} for month in range(1, 6)]
    first = {
        reserved: [
            reserved.snapshot(
                "a", 0, [row | {"a b": "é", "Where": Decimal("1.5")} for row in rows], columns=RESERVED, extra=names
            )
        ],
        by_day: [by_day.load("a", 0, days, DAYS)],
    }
    assert merge_and_compare(google, project, first) == 8
    narrow = [SchemaField("Where", "INT64"), SchemaField("A B", "TIMESTAMP")]
    again = [row | {"held": 9, "Where": 2**53 + 1, "A B": VALUES["TIMESTAMP"][row["order"]]} for row in rows]
    second = {
        reserved: [
            reserved.load("b", 1, again, RESERVED, extra=narrow),
            reserved.load("c", 2, [rows[1] | {"a b": VALUES["DATE"][1]}], RESERVED, extra=[SchemaField("a b", "DATE")]),
        ],
        by_day: [by_day.load("b", 1, [{**row, "value": 70} for row in days[1:3]], DAYS)],
    }
    assert merge_and_compare(google, project, second) == 8
    assert "between" in project.executed("by_day")


def test_of_a_key_that_comes_twice_the_same_row_is_kept(google: GoogleSql, project: Dbt) -> None:
    """It is that whose JSON text is the greatest."""
    feed = Feed(project, "twice")
    rows = [
        {"of": type_, "id": number, f"v_{type_.lower()}": value}
        for type_, values in TEXTS_OF.items()
        for number, pair in enumerate(itertools.combinations(values, 2))
        for value in pair
    ]
    columns = [SchemaField("of", "STRING"), SchemaField("id", "INT64"), *EVERY]
    assert merge_and_compare(google, project, {feed: [feed.load("a", 0, rows, columns)]}) == len(rows) / 2


def test_bignumeric_as_key_and_as_value(google: GoogleSql, project: Dbt) -> None:
    feed = Feed(project, "big")
    columns = [SchemaField("k", "BIGNUMERIC"), SchemaField("v", "BIGNUMERIC")]
    twice = [{"k": key, "v": value} for key in BIG for value in BIG]
    assert merge_and_compare(google, project, {feed: [feed.load("a", 0, twice, columns)]}) == len(BIG)
    again = [{"k": key, "v": BIG[0]} for key in BIG[:3]]
    assert merge_and_compare(google, project, {feed: [feed.load("b", 1, again, columns)]}) == len(BIG)
