"""Every type of PostgreSQL, from the source to the warehouse and back: exact, or as declared; nothing changes silently.

Each edge value of each type is declared as each BigQuery type that may take it, under each policy. What psql would
print is the truth to which the warehouse's value is compared (``type_outcomes``). BIGNUMERIC is compared in the
Parquet, because the emulator has no decimals of so many digits.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from services.core.errors import ConfigurationError, DataError
from services.core.tables import Column, ColumnType, Mode, Table, Unrepresentable
from services.extractor.catalog import SourceRelation, read_relation
from services.extractor.mapping import Holds, default_type, holds
from tests.integration.postgres_versions import Server
from tests.integration.type_cases import CASES, SETUP, WITHOUT_VALUES, Case, Sql
from tests.integration.type_outcomes import NOT_HELD, arriving, same
from tests.integration.type_reading import Arrived, Pipe
from tests.integration.warehouse_fixture import Warehouse

pytest_plugins = ["tests.integration.postgres_versions"]

EXACT, FAIL = Unrepresentable.EXACT, Unrepresentable.FAIL
NULL, TEXT = Unrepresentable.NULL_AND_COUNT, Unrepresentable.STRING
WIDTH = 40
"""Columns of the tables in which probes are read together."""


@dataclass(frozen=True)
class Probe:
    """One type, declared in one way."""

    number: int
    case: Case
    into: ColumnType
    policy: Unrepresentable
    values: list[str | Sql | None]
    printed: list[str | None]
    """What psql prints of them."""
    outcomes: list[Any]
    """What must arrive; NOT_HELD where the policy decides."""

    @property
    def name(self) -> str:
        """Column in the source and in the warehouse."""
        return f"c{self.number}"

    @property
    def column(self) -> Column:
        return Column(name=self.name, type=self.into, on_unrepresentable=self.policy)

    def __str__(self) -> str:
        return f"{self.case.type} as {self.into} under {self.policy}"


@pytest.fixture(scope="module")
def pipe(server: Server, warehouse_endpoint: Warehouse) -> Iterator[Pipe]:
    opened = Pipe(server, warehouse_endpoint)
    try:
        yield opened
    finally:
        opened.close()


@dataclass
class Checked:
    """What became of one type's values."""

    relation: SourceRelation
    probes: list[Probe]
    wrong: list[str]
    values: int


@dataclass
class Matrix:
    """Results by type, and the types that this server lacks."""

    checked: dict[int, Checked]
    missing: dict[int, str]


def key(case: Case) -> int:
    return CASES.index(case)


@pytest.fixture(scope="module")
def matrix(pipe: Pipe) -> Matrix:
    """Every probe of every type, read in few tables: one for each type would take minutes."""
    for statement in SETUP:
        pipe.connection.execute(statement.encode())
    missing: dict[int, str] = {}
    for case in CASES:
        if reason := lacking(pipe, case):
            missing[key(case)] = reason
        else:
            for statement in case.setup:
                pipe.connection.execute(statement.encode())
    cases = [case for case in CASES if key(case) not in missing]
    typed = pipe.create([(f"v{key(case)}", case.type, [*case.values, None]) for case in cases])
    relation = relation_of(pipe, typed)
    numbers = itertools.count()
    checked = {}
    for case in cases:
        printed = pipe.printed(typed, f"v{key(case)}")[: len(case.values) + 1]
        probes = [probe for into in case.declared for probe in probes_of(case, into, printed, numbers)]
        checked[key(case)] = Checked(relation, probes, [], 0)
    everything = [probe for found in checked.values() for probe in found.probes]
    for loaded in (True, False):
        some = [probe for probe in everything if (probe.into is not ColumnType.BIGNUMERIC) is loaded]
        for start in range(0, len(some), WIDTH):
            check_together(pipe, some[start : start + WIDTH], checked)
    for probe in everything:
        if probe.policy is FAIL and NOT_HELD in probe.outcomes:
            check_failing(pipe, probe, checked[key(probe.case)])
    return Matrix(checked, missing)


def relation_of(pipe: Pipe, name: str) -> SourceRelation:
    columns = [Column(name="row_number_", type=ColumnType.INT64)]
    table = Table(name="t", source=f"public.{name}", mode=Mode.SNAPSHOT, bronze_model="t", columns=columns)
    return read_relation(pipe.connection, table)


def lacking(pipe: Pipe, case: Case) -> str | None:
    """Why this server does not have the type."""
    if pipe.server.version < case.since:
        return f"PostgreSQL {pipe.server.version} does not have it, {case.since} does"
    if case.needs == "libxml":
        try:
            pipe.connection.execute("SELECT '<a/>'::xml")
        except psycopg.errors.FeatureNotSupported:
            return f"this PostgreSQL {pipe.server.version} was built without libxml"
    elif case.needs is not None:
        try:
            pipe.connection.execute(f"CREATE EXTENSION IF NOT EXISTS {case.needs}".encode())
        except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported):
            return f"extension {case.needs} is not installed with this PostgreSQL {pipe.server.version}"
    return None


def probes_of(
    case: Case, into: ColumnType, printed: list[str | None], numbers: "itertools.count[int]"
) -> Iterator[Probe]:
    outcomes = [arriving(text, into, case.type) for text in printed]
    values = [*case.values, None]
    for policy in (FAIL, NULL, TEXT):
        yield Probe(next(numbers), case, into, policy, values, printed, outcomes)
    if NOT_HELD not in outcomes and into not in CHECKED:
        yield Probe(next(numbers), case, into, EXACT, values, printed, outcomes)


CHECKED = {
    ColumnType.NUMERIC: ("numeric", "price"),
    ColumnType.DATE: (),
}


def check_together(pipe: Pipe, probes: list[Probe], checked: dict[int, Checked]) -> None:
    pass
