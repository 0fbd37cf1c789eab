"""What bqemulator 1.4.0 does unlike BigQuery, and is made to do, so that the services can rely on it everywhere.

=============================== ==========================================================================
:mod:`.one_thread`              no two requests share the database connection at the same time
:mod:`.query_errors`            a query that fails is an error and not an empty result
:mod:`.job_ids`                 a job id is accepted once: 409 ``duplicate`` the second time
:mod:`.job_list`                jobs keep their labels, and are listed by time, state and parent, page by page
:mod:`.load_jobs`               Parquet: by column name, checked against the schema, all or nothing, 404
:mod:`.copy_jobs`               the destination is replaced whole, with its schema; WRITE_EMPTY is the default
:mod:`.table_changes`           ``numRows`` after every write, no copy of all; changed columns and names, deleted views
:mod:`.table_facts`             ``numBytes`` of tables, description and labels of views
:mod:`.layouts`                 a table that SQL has made is known with its partitions and clusters
:mod:`.literals`                literals by BigQuery's lexical rules; illegal escapes are refused
:mod:`.typed_expressions`       expressions are rewritten by their types, as the next four say
:mod:`.numerics`                NUMERIC and BIGNUMERIC are exact, INT64 ends where it ends
:mod:`.texts`                   values as text and JSON, text as values
:mod:`.moments`                 weeks, parts and differences of moments
:mod:`.floats`                  NaN equals nothing and is the least
:mod:`.metadata_tables`         ``__TABLES__`` and COLUMN_FIELD_PATHS, for the catalog of dbt's docs
:mod:`.trimming`                TRIM removes every kind of white space
:mod:`.contracts`               CREATE TABLE with columns AS a query in parentheses, as dbt contracts write it
:mod:`.translation`             a statement is parsed and translated once; only faster
:mod:`.catalog_writes`          records of tables and jobs are written by the cheapest statement; only faster
=============================== ==========================================================================

Each module has one ``apply()`` that replaces functions of bqemulator; they are looked up there by name, so a version of
bqemulator without them fails at start, loudly. docs/emulator.md tells what still differs.
"""

from local.warehouse.patches import (
    catalog_writes,
    contracts,
    copy_jobs,
    floats,
    job_ids,
    job_list,
    layouts,
    literals,
    load_jobs,
    metadata_tables,
    moments,
    numerics,
    one_thread,
    query_errors,
    table_changes,
    table_facts,
    texts,
    translation,
    trimming,
    typed_expressions,
)

PATCHES = (
    *(
        one_thread,
        query_errors,
        load_jobs,
        copy_jobs,
        table_changes,
        layouts,
        table_facts,
        trimming,
        contracts,
        metadata_tables,
    ),
    *(literals, numerics, texts, moments, floats, typed_expressions, job_list, translation, catalog_writes, job_ids),
)
"""In the order in which they are applied: the last ones wrap what the others put there."""


def apply_patches() -> None:
    """Replace the functions of bqemulator named above, in this process, once, before its server starts."""
    for patch in PATCHES:
        patch.apply()
