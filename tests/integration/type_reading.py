"""Tables read as the extractor reads them, landed as Parquet, loaded into the warehouse and read back."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from google.api_core.retry import Retry
from google.cloud import bigquery
from psycopg import sql

from local.warehouse.parquet_schema import ParquetSchemaError, narrowed
from services.core.manifest import ManifestColumn
from services.core.parquet import parquet_parts, whole_file
from services.core.tables import Column, ColumnType, Mode, SchemaDrift, Table
from services.extractor.contract.drift import settle
from services.extractor.contract.mapping import reads
from services.extractor.planning.plan import Plan
from services.extractor.planning.window import select_list
from services.extractor.reading.diagnosis import cause
from services.extractor.reading.engine import Engine
from services.extractor.reading.failure import EngineFailed
from services.extractor.reading.reader import Reader
from services.extractor.source.catalog import read_relation
from tests.integration.postgres_versions import Server
from tests.integration.type_cases import Sql
from tests.integration.warehouse_fixture import PROJECT, Warehouse

DATASET = "types"
READ_AT = datetime(2026, 11, 22, tzinfo=UTC)
ROW = "row_number_"


@dataclass
class Arrived:
    """What came of a table."""

    rows: list[dict[str, Any]]
    """By row number, as the warehouse's client gives them; with a BIGNUMERIC of more digits than the local warehouse
    holds, as the Parquet has them."""
    unrepresentable: Counter[str]
    drift: list[str]
    columns: list[ManifestColumn]


@dataclass
class Pipe:
    """One server and the warehouse."""

    server: Server
    warehouse: Warehouse
    by_bytes: bool = False
    """Whether rows are read as wide ones are."""
    _tables: int = 0

    def __post_init__(self) -> None:
        self.connection = self.server.connect()
        self.client = self.warehouse.client()
        self.client.create_dataset(DATASET, exists_ok=True)
        self._engine = Engine(self.server.dsn)
        if self.by_bytes:
            self._engine.read_by_bytes("t")
        self._reader = Reader(self._engine)

    def close(self) -> None:
        self._reader.close()
        self._engine.close()
        self.connection.close()

    def new_name(self) -> str:
        self._tables += 1
        return f"t{self.server.version}{'b' if self.by_bytes else 'v'}_{self._tables}"

    def create(self, columns: Sequence[tuple[str, str, Sequence[str | Sql | None]]]) -> str:
        """Make a table of (name, type, values) and return its name; its rows are numbered from 0."""
        name = self.new_name()
        types = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(type_)) for column, type_, _ in columns
        )
        self.connection.execute(
            sql.SQL("CREATE TABLE {} ({} integer NOT NULL, {})").format(
                sql.Identifier(name), sql.Identifier(ROW), types
            )
        )
        self.fill(name, [(type_, values) for _, type_, values in columns])
        return name

    def fill(self, name: str, columns: Sequence[tuple[str, Sequence[str | Sql | None]]]) -> None:
        """Insert columns of values that PostgreSQL reads as texts."""
        height = max(len(values) for _, values in columns)
        if height == 0:
            return

        def cell(type_: str, value: str | Sql | None) -> sql.Composable:
            if isinstance(value, Sql):
                return sql.SQL(value.expression)
            return sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(type_))

        rows = [
            sql.SQL("({}, {})").format(
                sql.Literal(row),
                sql.SQL(", ").join(
                    cell(type_, values[row] if row < len(values) else None) for type_, values in columns
                ),
            )
            for row in range(height)
        ]
        statement = sql.SQL("INSERT INTO {} VALUES {}").format(sql.Identifier(name), sql.SQL(", ").join(rows))
        self.connection.execute(statement)

    def printed(self, table: str, column: str) -> list[str | None]:
        """What psql would print of a column, by row number: PostgreSQL's own output, no client's idea of a type."""
        query = sql.SQL("SELECT {} FROM {} ORDER BY {}").format(*map(sql.Identifier, (column, table, ROW)))
        result = self.connection.pgconn.exec_(query.as_bytes(self.connection))
        values = [result.get_value(row, 0) for row in range(result.ntuples)]
        return [None if value is None else bytes(value).decode() for value in values]

    def arrive(
        self,
        source: str,
        columns: Sequence[Column],
        *,
        drift: SchemaDrift = SchemaDrift.IGNORE,
        condition: str = "",
        load: bool = True,
    ) -> Arrived:
        """Read declared columns of a table (``schema.name``) all the way.

        Args:
            source: relation, with a column ``ROW``.
            columns: the declared ones, but for the row number.
            drift: what happens to the others.
            condition: SQL condition of the rows.
            load: into the warehouse, if it holds all digits (docs/emulator.md); False to read the Parquet.
        """
        numbered = Column(name=ROW, type=ColumnType.INT64, required=True)
        table = Table(
            name="t",
            source=source,
            mode=Mode.SNAPSHOT,
            schema_drift=drift,
            bronze_model="t",
            columns=[numbered, *columns],
        )
        settled = settle(table, read_relation(self.connection, table))
        found = [
            (read, source_column)
            for column, source_column in settled.columns
            for read in reads(column, source_column, table)
        ]
        select, flags = select_list(table, [read for read, _ in found])
        manifest = [
            ManifestColumn(
                name=read.column.name,
                type=read.column.type,
                required=read.column.required,
                source_type=source_column.declared if source_column else None,
            )
            for read, source_column in found
        ]
        plan = Plan.model_construct(
            table="t", select=select, condition=condition, columns=manifest, flags=flags, bounds=[],
            relation=source, checks={read.column.name: read.refused for read, _ in found if read.refused is not None},
        )  # fmt: skip
        counts: Counter[str] = Counter()
        try:
            batches = self._reader.read(plan, plan.statement(), None, READ_AT, counts)
            parts = [content.getvalue() for content, _ in parquet_parts(batches, 1_000_000)]
        except EngineFailed as failed:
            raise cause(self.server.dsn, plan, plan.statement(), None, failed) from None
        assert len(parts) == 1
        landed = whole_file(parts[0])
        if load and _held(landed, [c.name for c in manifest if c.type is ColumnType.BIGNUMERIC]):
            rows = self._loaded(parts[0], manifest)
        else:
            rows = landed.drop(["_extracted_at"]).to_pylist()
        return Arrived(sorted(rows, key=lambda row: int(row[ROW])), +counts, settled.differences, manifest)

    def _loaded(self, content: bytes, columns: list[ManifestColumn]) -> list[dict[str, Any]]:
        name = self.new_name()
        path = self.warehouse.gcs_root / "lake" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        schema = [bigquery.SchemaField(c.name, c.type.value, "REQUIRED" if c.required else "NULLABLE") for c in columns]
        config = bigquery.LoadJobConfig(
            source_format="PARQUET", schema=[*schema, bigquery.SchemaField("_extracted_at", "TIMESTAMP", "REQUIRED")]
        )
        table = f"{PROJECT}.{DATASET}.{name}"
        # Few retries: the emulator's errors don't pass.
        retry = Retry(timeout=5)
        self.client.load_table_from_uri(f"gs://lake/{path.name}", table, job_config=config, retry=retry).result()
        names = ", ".join(f"`{column.name}`" for column in columns)
        rows = [dict(row) for row in self.client.query_and_wait(f"SELECT {names} FROM `{table}`")]
        path.unlink()
        self.client.delete_table(table)
        return rows


def _held(landed: pa.Table, bignumerics: list[str]) -> bool:
    """Whether the local warehouse has the digits for these columns."""
    try:
        for batch in landed.to_batches():
            narrowed(batch, bignumerics)
    except ParquetSchemaError:
        return False
    return True
