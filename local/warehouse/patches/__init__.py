"""What bqemulator 1.4.0 does unlike BigQuery, and is made to do, so that the services can rely on it everywhere.

=============================== ==========================================================================
:mod:`.one_thread`              no two requests share the database connection at the same time
:mod:`.query_errors`            a query that fails is an error and not an empty result
:mod:`.job_ids`                 a job id is accepted once: 409 ``duplicate`` the second time
:mod:`.job_list`                jobs keep their labels, and are listed by time, state and parent, page by page
:mod:`.load_jobs`               Parquet: by column name, checked against the schema, all or nothing, 404
:mod:`.copy_jobs`               the destination is replaced whole, with its schema; WRITE_EMPTY is the default
:mod:`.table_changes`           ``numRows`` after every write, no copy of the table per write, changed columns
:mod:`.layouts`                 a table that SQL has made is known with its partitions and clusters
:mod:`.numerics`                NUMERIC has 38 digits, 9 of them decimals, and is divided exactly
:mod:`.trimming`                TRIM removes every kind of white space
:mod:`.contracts`               CREATE TABLE with columns AS a query in parentheses, as dbt contracts write it
:mod:`.translation`             a statement is parsed and translated once; only faster
=============================== ==========================================================================

Each module has one ``apply()`` that replaces functions of bqemulator; they are looked up there by name, so a version of
bqemulator without them fails at start, loudly.
"""

from local.warehouse.patches import (
    contracts,
    copy_jobs,
    job_ids,
    job_list,
    layouts,
    load_jobs,
    numerics,
    one_thread,
    query_errors,
    table_changes,
    translation,
    trimming,
)

PATCHES = (
    *(one_thread, query_errors, load_jobs, copy_jobs, table_changes, layouts, numerics, trimming, contracts),
    *(job_list, translation, job_ids),
)
"""In the order in which they are applied: the last two wrap what the others put there."""


def apply_patches() -> None:
    """Replace the functions of bqemulator named above, in this process, once, before its server starts."""
    for patch in PATCHES:
        patch.apply()
