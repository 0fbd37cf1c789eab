"""Whether the source is still what a plan was made for: the same server, its rows in the same places."""

from services.core.errors import TransientError
from services.extractor.planning.plan import Plan
from services.extractor.source.server import Server
from services.extractor.source.storage import Storage


class SourceRewritten(TransientError):
    """The table was rewritten, or another server took over, while it was read: it is planned and read anew."""


def check_server(plan: Plan, found: Server) -> None:
    """A session has reached the server that the plan was made on, with everything that it had then.

    Another server may lack transactions that the plan counts on, and may have given their ids to others.

    Raises:
        SourceRewritten: it has not.
        TransientError: it is a replica that has not replayed as much yet.
    """
    if plan.server is None:
        return
    told = f"table {plan.table}: another server answers than the one that the read began on"
    if why := _another(plan.server, found):
        raise SourceRewritten(f"{told}: {why}")
    if plan.server.position is not None and found.position is not None and found.position < plan.server.position:
        behind = f"{told}, or it lost transactions: it is {plan.server.position - found.position} bytes of WAL behind"
        raise TransientError(behind) if found.in_recovery else SourceRewritten(behind)


def _another(planned: Server, found: Server) -> str | None:
    if planned.in_recovery != found.in_recovery:
        roles = {True: "a replica", False: "a primary"}
        return f"it was {roles[planned.in_recovery]} and is {roles[found.in_recovery]}"
    if planned.database != found.database:
        return "another database"
    if None not in (planned.system, found.system) and planned.system != found.system:
        return "another cluster"
    if None not in (planned.timeline, found.timeline) and planned.timeline != found.timeline:
        return f"its timeline was {planned.timeline} and is {found.timeline}"
    return None


def check_storage(plan: Plan, found: Storage) -> None:
    """Ranges of pages still mean what they meant when the plan was made; a partition that is empty changes nothing.

    Raises:
        SourceRewritten: they do not.
    """
    planned, now = set(plan.layout.split()), set(found.layout.split())
    if lost := planned - now:
        rewriting = "VACUUM FULL, CLUSTER, TRUNCATE, ALTER TABLE"
        what = f"the rows of {len(lost)} relation(s) were moved or taken out ({rewriting})"
    elif gained := (now - planned) & found.filled:
        what = f"{len(gained)} partition(s) with rows were attached"
    else:
        return
    raise SourceRewritten(f"table {plan.table}: while it was read, {what}")
