"""Other ways to bring a table into Parquet, each in a process of its own, in .venv-benchmark.

    python -m benchmarks.engines ENGINE DSN SQL FILE [--no-upload]

Every one reads the same SELECT, writes one Parquet file with the extractor's own settings for Parquet, and uploads it
into the same bucket, unless told not to.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 65_536


def _write(batches: Iterable[pa.RecordBatch], path: str) -> int:
    rows, writer = 0, None
    for batch in batches:
        if writer is None:
            writer = pq.ParquetWriter(
                path, batch.schema, compression="zstd", use_dictionary=False, write_statistics=False
            )
        writer.write_batch(batch)
        rows += batch.num_rows
    if writer is not None:
        writer.close()
    return rows


def connectorx(dsn: str, sql: str, path: str) -> int:
    """ConnectorX: the whole result as Arrow, then Parquet."""
    import connectorx as cx

    table: Any = cx.read_sql(dsn, sql, return_type="arrow")
    return _write(table.to_batches(BATCH_ROWS), path)


def adbc(dsn: str, sql: str, path: str) -> int:
    """ADBC's PostgreSQL driver: a stream of Arrow batches."""
    import adbc_driver_postgresql.dbapi as dbapi

    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return _write(cursor.fetch_record_batch(), path)


def pandas(dsn: str, sql: str, path: str) -> int:
    """pandas.read_sql through SQLAlchemy and psycopg, then to_parquet."""
    import pandas as pd
    from sqlalchemy import create_engine

    frame: pd.DataFrame = pd.read_sql(sql, create_engine(dsn.replace("postgresql://", "postgresql+psycopg://")))
    frame.to_parquet(path, compression="zstd")
    return int(frame.shape[0])


ENGINES: dict[str, Callable[[str, str, str], int]] = {"connectorx": connectorx, "adbc": adbc, "pandas": pandas}


def upload(path: str, name: str) -> None:
    """Put the file where the extractor's parts go."""
    from google.cloud.storage import Client

    blob = Client(project="benchmark").bucket("data_lake_credix").blob(f"{name}.parquet")
    blob.upload_from_filename(path, checksum="crc32c")


if __name__ == "__main__":
    _, name, dsn, sql, path, *rest = sys.argv
    rows = ENGINES[name](dsn, sql, path)
    if rest != ["--no-upload"]:
        upload(path, name)
    print(rows)  # noqa: T201
