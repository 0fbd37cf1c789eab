"""A snapshot that would delete a large share of its table: it waits for a person instead.

An empty source, a restored backup or a filter that somebody put on a view look like a table whose rows were deleted.
"""

from dataclasses import dataclass

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from services.core.batch import Batch, BatchError
from services.core.labels import job_labels
from services.core.tables import Mode, Table
from services.core.warehouse import REQUEST_SECONDS, RETRY
from services.transformer.bronze.batch_rows import Loaded


@dataclass(frozen=True)
class Shrinkage:
    """What a snapshot would do to the rows that bronze holds."""

    there: int
    """Rows that are not deleted."""
    gone: int
    """Those of them that the snapshot does not have."""

    def too_much(self, table: Table) -> BatchError | None:
        """Why the snapshot waits for a person, or None when it may be merged."""
        if self.gone <= table.max_deleted_share * self.there:
            return None
        share = 100 * self.gone / self.there
        return BatchError(
            code="too_many_deleted",
            message=f"the snapshot lacks {self.gone:,} of the {self.there:,} rows that bronze holds ({share:.0f} %), "
            f"max_deleted_share is {table.max_deleted_share:g}; look at {table.source}, then release or discard it",
        )


def deletes(table: Table, batch: Batch) -> bool:
    """Whether merging the batch can delete rows that nobody has seen deleted."""
    return batch.mode is Mode.SNAPSHOT and (table.deletes == "soft" or not table.key)


def shrinkage(client: bigquery.Client, table: Table, bronze: str, loaded: Loaded) -> Shrinkage:
    """Ask how many rows a snapshot would delete; reads the key's columns of both tables.

    Args:
        client: BigQuery.
        table: the declared table.
        bronze: its bronze table, project.dataset.table.
        loaded: the snapshot.
    """
    older = "`bronze row`._extracted_at < @at OR (`bronze row`._extracted_at = @at AND `bronze row`._batch_id < @id)"
    if table.key:
        keys = ", ".join(f"`{name}`" for name in table.key)
        same = " AND ".join(f"`bronze row`.`{name}` = `snapshot row`.`{name}`" for name in table.key)
        statement = (
            f"SELECT COUNT(*), COUNTIF(`snapshot row`.`{table.key[0]}` IS NULL AND ({older})) "  # noqa: S608 - checked names
            f"FROM `{bronze}` AS `bronze row` "
            f"LEFT JOIN (SELECT DISTINCT {keys} FROM `{loaded.temp.id}`) AS `snapshot row` ON {same} "
            "WHERE `bronze row`._deleted_at IS NULL"
        )
    else:
        statement = f"SELECT COUNT(*), COUNTIF({older}) FROM `{bronze}` AS `bronze row`"  # noqa: S608 - checked names
    config = bigquery.QueryJobConfig(
        query_parameters=[
            bigquery.ScalarQueryParameter("at", "TIMESTAMP", loaded.batch.extracted_at),
            bigquery.ScalarQueryParameter("id", "STRING", loaded.batch.id),
        ],
        labels=job_labels("hold", table.name),
    )
    try:
        [(there, gone)] = client.query(statement, job_config=config, retry=RETRY, timeout=REQUEST_SECONDS).result(
            retry=RETRY
        )
    except NotFound:
        return Shrinkage(0, 0)  # nothing was merged yet
    if not table.key:
        gone = max(0, gone - loaded.temp.rows)
    return Shrinkage(int(there), int(gone))
