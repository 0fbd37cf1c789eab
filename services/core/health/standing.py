"""How every test stands: by the newest audit, and by what the row tests of batches found since. Pure functions."""

from collections.abc import Iterable
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from services.core.state.quality import WORST, Audit, RowTests, Status


class Standing(BaseModel):
    """How a test stands."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Status
    failures: int | None
    """Rows that it complains of: of everything, or of a batch."""
    message: str
    as_of: AwareDatetime
    """When that was found."""
    found_by: Literal["audit", "batch"]
    table: str | None = None
    """Of a batch: its table."""


def standings(audit: Audit | None, batches: Iterable[RowTests]) -> list[Standing]:
    """Every test, the worst first.

    A test that found something in a batch stands so until an audit finds it whole: of the two, the worse is told, and
    of the same the audit's, which is about everything.

    Args:
        audit: the newest one.
        batches: what the row tests found since.
    """
    found = {standing.name: standing for standing in _of_audit(audit)} if audit else {}
    for rows in batches:
        for name, row_test in rows.tests.items():
            known = found.get(name)
            if known is None or WORST.index(row_test.status) > WORST.index(known.status):
                found[name] = Standing(
                    name=name, status=row_test.status, failures=row_test.failures, message=row_test.message,
                    as_of=row_test.at, found_by="batch", table=rows.table,
                )  # fmt: skip
    return sorted(found.values(), key=lambda test: (-WORST.index(test.status), test.name))


def _of_audit(audit: Audit) -> Iterable[Standing]:
    return (Standing(**test.model_dump(), as_of=audit.at, found_by="audit") for test in audit.tests)
