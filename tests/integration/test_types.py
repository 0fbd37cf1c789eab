"""Every type of PostgreSQL, from the source to the warehouse and back: exact, or as declared; nothing changes silently.

Each edge value of each type is declared as each BigQuery type that takes it, under each policy. What psql would print
is the truth to which the warehouse's value is compared (``type_outcomes``). A BIGNUMERIC of more digits than the local
warehouse holds (docs/emulator.md) is compared in the Parquet.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from services.core.errors import ConfigurationError, DataError
from services.core.tables import Column, ColumnType, Mode, Table, Unrepresentable
from services.extractor.contract.mapping import Holds, default_type, holds
from services.extractor.source.catalog import SourceColumn, read_relation
from tests.integration.postgres_versions import VERSIONS, Server, served
from tests.integration.type_cases import CASES, SETUP, WITHOUT_VALUES, Case
from tests.integration.type_outcomes import NOT_HELD
from tests.integration.type_probe import Probe
from tests.integration.type_reading import ROW, Pipe
from tests.integration.warehouse_fixture import Warehouse

TOGETHER = 40
"""Probes that are read by one statement: one statement for each would take minutes."""


@dataclass
class Result:
    """What became of one type."""

    number: int
    """The case's place in CASES."""
    column: SourceColumn
    values: int = 0
    """Values that went all the way, once for each type and policy they were declared with."""
    wrong: list[str] = field(default_factory=list)


@dataclass
class Matrix:
    """Results, and why this server lacks some types; by the case's place in CASES."""

    results: dict[int, Result]
    lacking: dict[int, str]


@pytest.fixture(scope="module", params=[False, True], ids=["by vectors", "by bytes"])
def by_bytes(request: pytest.FixtureRequest) -> bool:
    """Whether rows are read as wide ones are; each time on a server of its own."""
    return bool(request.param)


@pytest.fixture(scope="module", params=VERSIONS, ids=[f"postgresql{version}" for version in VERSIONS])
def server(request: pytest.FixtureRequest, by_bytes: bool) -> Iterator[Server]:
    with served(request.param) as started:
        yield started


@pytest.fixture(scope="module")
def pipe(server: Server, by_bytes: bool, warehouse_endpoint: Warehouse) -> Iterator[Pipe]:
    opened = Pipe(server, warehouse_endpoint, by_bytes)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="module")
def matrix(pipe: Pipe, request: pytest.FixtureRequest) -> Matrix:
    """Every value of every type, all the way."""
    for statement in SETUP:
        pipe.connection.execute(statement.encode())
    lacks = {number: lacking(pipe, case) for number, case in enumerate(CASES)}
    cases = {number: case for number, case in enumerate(CASES) if lacks[number] is None}
    for case in cases.values():
        for statement in case.setup:
            pipe.connection.execute(statement.encode())
    everything = pipe.create([(f"v{number}", case.type, [*case.values, None]) for number, case in cases.items()])
    columns = read_relation(pipe.connection, declared_as(everything)).columns
    results = {number: Result(number, columns[f"v{number}"]) for number in cases}
    read_all(pipe, everything, cases, results)
    made = Matrix(results, {number: reason for number, reason in lacks.items() if reason is not None})
    request.config.pluginmanager.register(Summary(pipe.server.version, made))
    return made


@dataclass(eq=False)
class Summary:
    """Says at the end of the test run what was compared (a plugin of pytest)."""

    version: int
    matrix: Matrix

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        results, version = self.matrix.results, self.version
        total = sum(result.values for result in results.values())
        terminalreporter.write_sep("-", f"PostgreSQL {version}: {total} values of {len(results)} types")
        terminalreporter.write_line(", ".join(f"{CASES[n].type} {result.values}" for n, result in results.items()))
        for number, reason in self.matrix.lacking.items():
            terminalreporter.write_line(f"PostgreSQL {version} lacks {CASES[number].type}: {reason}")


def declared_as(name: str) -> Table:
    columns = [Column(name=ROW, type=ColumnType.INT64)]
    return Table(name="t", source=f"public.{name}", mode=Mode.SNAPSHOT, bronze_model="t", columns=columns)


def lacking(pipe: Pipe, case: Case) -> str | None:
    """Why this server does not have the type, or None."""
    version = pipe.server.version
    if version < case.since:
        return f"{case.since} has it"
    if case.needs == "libxml":
        try:
            pipe.connection.execute("SELECT xmlparse(CONTENT '<a/>')")
        except psycopg.errors.FeatureNotSupported:
            return "this server was built without libxml"
    elif case.needs is not None:
        try:
            pipe.connection.execute(f"CREATE EXTENSION IF NOT EXISTS {case.needs}".encode())
        except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported):
            return f"extension {case.needs} is not installed"
    return None


def read_all(pipe: Pipe, everything: str, cases: dict[int, Case], results: dict[int, Result]) -> None:
    """Read every value declared in every way, and note what is wrong."""
    names = (f"p{number}" for number in itertools.count())
    probes: list[tuple[Result, Probe]] = []
    for number, case in cases.items():
        printed = pipe.printed(everything, f"v{number}")[: len(case.values) + 1]
        for into, policy in itertools.product(case.declared, Unrepresentable):
            probe = Probe(next(names), f"v{number}", case.type, into, policy, printed)
            probes.append((results[number], probe))

    lossless = [p for p in probes if p[1].policy not in (Unrepresentable.FAIL, Unrepresentable.EXACT)]
    exact = [p for p in probes if p[1].policy is Unrepresentable.EXACT]
    lossless += [p for p in exact if p[1].into in cases[p[0].number].holding]
    read_together(pipe, everything, lossless)
    for result, probe in exact:
        if probe.into not in cases[result.number].holding:
            read_refused(pipe, everything, probe, result)

    failing = [p for p in probes if p[1].policy is Unrepresentable.FAIL]
    held = pipe.create([(p.name, p.type, values_held(cases[result.number], p)) for result, p in failing])
    read_together(pipe, held, failing, without=True)
    for result, probe in failing:
        for row, outcome in enumerate(probe.outcomes):
            if outcome is NOT_HELD:
                read_failing(pipe, everything, row, probe, result)


def values_held(case: Case, probe: Probe) -> list[Any]:
    """The values, those that cannot be held replaced by null."""
    values = zip([*case.values, None], probe.outcomes, strict=True)
    return [None if outcome is NOT_HELD else value for value, outcome in values]


def read_together(pipe: Pipe, source: str, probes: list[tuple[Result, Probe]], *, without: bool = False) -> None:
    for loaded in (True, False):
        some = [(r, p) for r, p in probes if (p.into is not ColumnType.BIGNUMERIC) is loaded]
        for start in range(0, len(some), TOGETHER):
            group = some[start : start + TOGETHER]
            columns = [p.column.model_copy(update={"source_column": p.name}) if without else p.column for _, p in group]
            arrived = pipe.arrive(f"public.{source}", columns)
            for result, probe in group:
                result.wrong += probe.wrong(arrived, without=without)
                result.values += sum(o is not NOT_HELD for o in probe.outcomes) if without else len(probe.outcomes)


def read_refused(pipe: Pipe, source: str, probe: Probe, result: Result) -> None:
    """``exact``, where the type has values that BigQuery lacks."""
    result.values += len(probe.outcomes)
    try:
        pipe.arrive(f"public.{source}", [probe.column])
    except ConfigurationError as refused:
        if f"column {probe.name}: on_unrepresentable is exact" in str(refused):
            return
    result.wrong.append(f"{probe} was not refused")


def read_failing(pipe: Pipe, source: str, row: int, probe: Probe, result: Result) -> None:
    """``fail``, for one value that cannot be held."""
    result.values += 1
    try:
        arrived = pipe.arrive(f"public.{source}", [probe.column], condition=f"{ROW} = {row}", load=False)
    except DataError as error:
        if (error.code, error.column) != ("value_does_not_fit", probe.name):
            result.wrong.append(f"{probe}: {probe.printed[row]!r} failed as {error.code} of {error.column}: {error}")
    else:
        result.wrong.append(f"{probe}: {probe.printed[row]!r} arrived as {arrived.rows[0][probe.name]!r}")


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{case.type}-{case.since}" for case in CASES])
def test_every_value_arrives_exactly_or_as_declared(matrix: Matrix, number: int) -> None:
    if number in matrix.lacking:
        pytest.skip(matrix.lacking[number])
    assert matrix.results[number].wrong == []
    assert matrix.results[number].values > 0


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{case.type}-{case.since}" for case in CASES])
def test_the_catalog_tells_what_a_type_can_be_declared_as(matrix: Matrix, number: int) -> None:
    if number in matrix.lacking:
        pytest.skip(matrix.lacking[number])
    case, column = CASES[number], matrix.results[number].column
    assert {type_ for type_ in ColumnType if holds(column, type_) is not Holds.NEVER} == set(case.declared)
    assert default_type(column) is case.into[0]


def test_no_built_in_type_is_missing(pipe: Pipe, matrix: Matrix) -> None:
    """Those that a column can have: base types, ranges and multiranges."""
    rows = pipe.connection.execute(
        "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') "
        "AND NOT (typcategory = 'A' AND typname LIKE '\\_%')"
    ).fetchall()
    lacking_here = {"xml"} & {CASES[number].type for number in matrix.lacking}
    covered = {result.column.type for result in matrix.results.values()}
    assert {name for (name,) in rows} - covered - lacking_here == set(WITHOUT_VALUES)
