"""What dbt is told of the labels of its jobs: the variable ``credix``, which dbt/macros/query_comment.sql reads."""

from collections.abc import Iterable
from typing import Any

from services.core.labels import job_labels, label
from services.core.tables import Table


def dbt_labels(stage: str, tables: Iterable[Table] = ()) -> dict[str, Any]:
    """The variable's value: what is the same in every run (services/transformer/dbt_jobs.py adds the run).

    Args:
        stage: what the jobs are for.
        tables: the declared tables, which jobs on their bronze models are about.
    """
    labels = {key: value for key, value in job_labels(stage).items() if key != "credix_run"}
    return {"labels": labels, "tables": {table.bronze_model: label(table.name) for table in tables}}
