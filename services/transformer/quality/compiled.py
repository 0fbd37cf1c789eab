"""The project's data tests, and the models that they read, as dbt compiles them: once for each process."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from services.transformer.dbt_project import DbtProject

SELECTED = ("test_type:data", "resource_type:model")
"""What is compiled. Unit tests are of the rules, not of the data; a test that is disabled is none."""


@dataclass(frozen=True)
class Model:
    """A model of the project."""

    id: str
    name: str
    relation: str
    """As compiled SQL names it: `project`.`dataset`.`name`."""
    sql: str | None
    """Its SELECT; None when dbt could not compile it."""
    reads: frozenset[str] = frozenset()
    """Ids of the models and sources that it is made from."""
    materialized: str = "view"
    rows_of: str | None = None
    """The bronze model of which each of its rows is made from one row alone: ``meta: {rows_of: …}``."""


@dataclass(frozen=True)
class DataTest:
    """A data test as dbt runs it."""

    name: str
    sql: str | None
    """The rows that it complains of; None when dbt could not compile it."""
    why_not: str = ""
    """Why dbt could not."""
    reads: frozenset[str] = frozenset()
    """Ids of the models and sources that it reads."""
    about: str | None = None
    """The model that it is declared with; None for one that stands alone."""
    kind: str | None = None
    """Name of the generic test that it is; None for one that stands alone, or comes from a package."""
    row_test: bool | None = None
    """What its config says in ``meta: {row_test: …}``."""
    severity: Literal["error", "warn"] = "error"
    fail_calc: str = "count(*)"
    warn_if: str = "!= 0"
    error_if: str = "!= 0"
    limit: int | None = None


@dataclass(frozen=True)
class Compiled:
    """The project as dbt compiled it."""

    models: dict[str, Model] = field(default_factory=dict)
    """By id."""
    tests: list[DataTest] = field(default_factory=list)
    """By name."""

    def model(self, name: str) -> Model | None:
        """The model of that name, or None."""
        return next((model for model in self.models.values() if model.name == name), None)


def compiled_project(project: DbtProject) -> Compiled:
    """Compile the tests and models of a project; one that dbt cannot compile says why.

    Raises:
        DbtError: dbt ended without results.
    """
    return of_results(project.compiled(*SELECTED))


def compiled_row_tests(project: DbtProject, *tests: str) -> Compiled:
    """What a project has, with the SQL of some tests and of the models that row tests can read.

    Compiling takes milliseconds for each, and most of a project is of no use here.

    Args:
        project: the project.
        tests: which, as dbt's ``--select`` names them; the others are left out.

    Raises:
        DbtError: dbt ended without results.
    """
    nodes = [node for node in project.parsed().nodes.values() if str(node.resource_type) == "model"]
    models = {node.unique_id: _model(node) for node in nodes}
    found = of_results(project.compiled(*tests, *(model.name for model in models.values() if model.rows_of)))
    return Compiled(models | found.models, found.tests)


def of_results(results: Iterable[Any]) -> Compiled:
    """What dbt's results of compiling say."""
    models, tests = {}, []
    for result in results:
        node = result.node
        if str(node.resource_type) == "model":
            models[node.unique_id] = _model(node)
        elif str(node.resource_type) == "test":
            tests.append(_test(node, str(result.message or "dbt did not compile it")))
    return Compiled(models, sorted(tests, key=lambda test: test.name))


def _model(node: Any) -> Model:
    return Model(
        id=node.unique_id,
        name=node.name,
        relation=node.relation_name or "",
        sql=node.compiled_code,
        reads=frozenset(node.depends_on.nodes),
        materialized=str(node.config.materialized),
        rows_of=(node.config.meta or {}).get("rows_of"),
    )


def _test(node: Any, message: str) -> DataTest:
    config, metadata = node.config, getattr(node, "test_metadata", None)
    attached = getattr(node, "attached_node", None)
    return DataTest(
        name=node.name,
        sql=node.compiled_code,
        why_not="" if node.compiled_code else message,
        reads=frozenset(node.depends_on.nodes),
        about=attached.rsplit(".", 1)[-1] if attached else None,
        kind=metadata.name if metadata and not metadata.namespace else None,
        row_test=(config.meta or {}).get("row_test"),
        severity="warn" if config.severity.lower() == "warn" else "error",
        fail_calc=config.fail_calc,
        warn_if=config.warn_if,
        error_if=config.error_if,
        limit=config.limit,
    )
