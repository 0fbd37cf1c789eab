"""Sends fused statements. One that BigQuery refuses is halved until it is known which of its parts is broken."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery

from services.core import machine
from services.core.telling import told
from services.core.warehouse import REQUEST_SECONDS, RETRY
from services.transformer.quality.fused import Answered, Part, answered

_REFUSED = (BadRequest, NotFound)
"""What BigQuery answers when a statement itself is wrong, or too much; anything else may pass."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Answer:
    """What became of a part."""

    rows: list[Answered]
    seconds: float
    """Its share of the time that its statement took."""
    refused: str | None = None
    """Why it could not be asked."""


def ask(
    client: bigquery.Client, parts: Sequence[Part], statement: Callable[[Sequence[Part]], str], labels: dict[str, str]
) -> list[Answer]:
    """Ask all parts, in one statement if BigQuery takes it; the answers are in the parts' order.

    Args:
        client: BigQuery.
        parts: tests that are compiled, and groups.
        statement: the statement that asks some of them.
        labels: of the jobs.

    Raises:
        GoogleAPICallError: BigQuery does not answer, or refuses for another reason than the statement.
    """
    answers: dict[int, Answer] = {}
    waiting = deque([range(len(parts))] if parts else [])
    while waiting:
        places = waiting.popleft()
        chosen = [parts[place] for place in places]
        started = machine.monotonic()
        try:
            found = answered(_rows(client, statement(chosen), labels))
        except _REFUSED as error:
            if len(places) > 1:
                middle = len(places) // 2
                waiting.extendleft([places[middle:], places[:middle]])
            else:
                why = _why(client, statement(chosen), error)
                answers[places[0]] = Answer([], machine.monotonic() - started, why)
        else:
            share = (machine.monotonic() - started) / len(places)
            answers |= {place: Answer(found.get(number, []), share) for number, place in enumerate(places)}
    return [answers[place] for place in range(len(parts))]


def _rows(client: bigquery.Client, statement: str, labels: dict[str, str]) -> list[bigquery.Row]:
    config = bigquery.QueryJobConfig(labels=labels)
    job = client.query(statement, job_config=config, retry=RETRY, timeout=REQUEST_SECONDS)
    return list(job.result(retry=RETRY))


def _why(client: bigquery.Client, statement: str, error: Exception) -> str:
    """Why one part was refused, without a value of a row.

    What BigQuery says of a statement that it has not run is about the statement. When it runs, it quotes values
    ("Bad int64 value: …"), so then only the kind of error is told.
    """
    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    try:
        client.query(statement, job_config=config, retry=RETRY, timeout=REQUEST_SECONDS)
    except _REFUSED as refused:
        return told(refused)
    reason = next((each.get("reason") for each in getattr(error, "errors", []) or []), None)
    return (
        f"BigQuery could not compute it from these rows ({reason or type(error).__name__}); what it says may quote a "
        "value, so it is not kept here: run the test by hand, dbt test --select <its name>"
    )
