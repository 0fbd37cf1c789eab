"""A table's turn: the job that is about to write its bronze is noted first, and asked afterwards how it ended."""

from dataclasses import dataclass
from datetime import timedelta

from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from services.core.errors import LeaseLost, TransientError
from services.core.jobs import Settled, settle, take_turn
from services.core.state.lease import Lease
from services.core.state.state import PipelineState
from services.transformer.bronze.notes import Failure

JOB_WAIT = timedelta(minutes=30)
"""For a job to end; dbt gives one up after as long (dbt/profiles.yml)."""


@dataclass(frozen=True)
class Turns:
    """Takes turns, under the transformer's lease."""

    state: PipelineState
    client: bigquery.Client
    lease: Lease

    def not_taken(self, table: str, job_id: str) -> Failure | None:
        """Note the job that is about to be sent; why that could not be done, if it could not.

        Raises:
            LeaseLost: another process is at it.
        """
        try:
            take_turn(
                self.client,
                job_id,
                lambda: self.state.progress(table).merge_job,
                lambda new, after: self.state.note_merge_job(table, new, self.lease.token, after),
                JOB_WAIT,
            )
        except LeaseLost:
            raise
        except (TransientError, GoogleAPICallError) as error:
            return Failure(str(error), lasting=False)
        return None

    def ended(self, job_id: str) -> Settled | Failure:
        """How a noted job ended; it does not run any more. Whoever sent it may have got no answer, or a wrong one."""
        try:
            return settle(self.client, job_id, JOB_WAIT)
        except (TransientError, GoogleAPICallError) as error:
            return Failure(str(error), lasting=False)
