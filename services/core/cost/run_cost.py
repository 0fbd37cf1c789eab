"""What a run's jobs cost, summed by what they were for; small enough to be kept with the run in the state."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

MOST_LINES = 200
"""Lines of one kind that a run keeps. A document of the state has at most 1 MiB, and a line has less than 0.6 KB."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class JobCost:
    """What BigQuery says of one job that has ended."""

    labels: Mapping[str, str]
    billed: int | None
    """Bytes; None when BigQuery does not say."""
    processed: int | None
    slot_ms: int


class CostLine(BaseModel):
    """The jobs of one model or test in a stage, or of several where no name is kept."""

    model_config = ConfigDict(frozen=True)

    stage: str
    """What the jobs were for (services/core/labels.py)."""
    layer: str | None = None
    """bronze, silver, gold; several for a test that reads more than one; elementary."""
    table: str | None = None
    """The declared table that they were about, if it was one."""
    model: str | None = None
    """The model that was built, or that a test is of."""
    node: str | None = None
    """The model or test."""
    kind: str | None = None
    """model, test, operation: dbt's word."""
    jobs: int = 1
    untold: int = 0
    """Those of them whose bytes BigQuery does not tell; they are in no sum."""
    billed: int = 0
    """Bytes."""
    processed: int = 0
    """Bytes."""
    slot_ms: int = 0

    @property
    def part(self) -> str:
        """The layer; the stage of what is of none."""
        return self.layer or f"({self.stage})"

    @property
    def about(self) -> str:
        """The model, with its tests; a test of several models by its own name; the stage of what has no name."""
        return self.model or self.node or f"({self.stage})"

    def like(self, other: "CostLine") -> "CostLine":
        """This line and another as one that has the other's names."""
        return other.model_copy(
            update={name: getattr(self, name) + getattr(other, name) for name in _SUMMED},
        )


_SUMMED = ("jobs", "untold", "billed", "processed", "slot_ms")


class RunCost(BaseModel):
    """What a run cost, as far as it is known."""

    model_config = ConfigDict(frozen=True)

    lines: list[CostLine] = Field(default_factory=list)
    unknown: str | None = None
    """Why it, or what came after these lines, is not known."""

    @property
    def total(self) -> CostLine:
        """All of it in one line."""
        return added(self.lines)


def added(lines: Iterable[CostLine]) -> CostLine:
    """Lines as one without names."""
    total = CostLine(stage="", jobs=0)
    for line in lines:
        total = line.like(total)
    return total


def grouped(lines: Iterable[CostLine], key: Callable[[CostLine], K]) -> dict[K, CostLine]:
    """Lines as one per key, the dearest first."""
    groups: dict[K, list[CostLine]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    sums = {name: added(group) for name, group in groups.items()}
    return dict(sorted(sums.items(), key=lambda item: _dearness(item[1]), reverse=True))


def run_cost(jobs: Iterable[JobCost]) -> RunCost:
    """Sum jobs. The dearest models and tests keep their names; the sums are exact, however many there are."""
    exact = _merged(map(_line, jobs), lambda line: line)
    named, rest = exact[:MOST_LINES], exact[MOST_LINES:]
    tables = _merged(rest, lambda line: CostLine(stage=line.stage, layer=line.layer, table=line.table))
    known, rest = tables[:MOST_LINES], tables[MOST_LINES:]
    return RunCost(lines=[*named, *known, *_merged(rest, lambda line: CostLine(stage=line.stage))])


def _line(job: JobCost) -> CostLine:
    return CostLine(
        stage=job.labels.get("credix_stage", "other"),
        layer=job.labels.get("credix_layer"),
        table=job.labels.get("credix_table"),
        model=job.labels.get("credix_model"),
        node=job.labels.get("credix_node"),
        kind=job.labels.get("credix_kind"),
        untold=int(job.billed is None),
        billed=job.billed or 0,
        processed=job.processed or 0,
        slot_ms=job.slot_ms,
    )


def _merged(lines: Iterable[CostLine], named: Callable[[CostLine], CostLine]) -> list[CostLine]:
    """Lines of the same names as one, the dearest first."""
    sums: dict[Hashable, CostLine] = {}
    for line in lines:
        names = named(line)
        key = (names.stage, names.layer, names.table, names.model, names.node, names.kind)
        blank = names.model_copy(update=dict.fromkeys(_SUMMED, 0))
        sums[key] = line.like(sums.get(key, blank))
    return sorted(sums.values(), key=_dearness, reverse=True)


def _dearness(line: CostLine) -> tuple[int, int, int]:
    return line.billed, line.processed, line.slot_ms
