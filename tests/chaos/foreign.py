"""What nobody of the pipeline wrote, dropped into landing/: rubbish, odd names, forged manifests, files out of time.

None of it may stop anything, or change what is in bronze for good. Rows that come with it have keys of their own: some
that the source does not have, and some that it has and no writer touches. A batch that is taken like a file may show
them until the next snapshot.
"""

import io
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from local.comparison import Comparison
from local.cycle import Client
from services.core.arrow import arrow_schema
from services.core.batch import Batch, BatchState
from services.core.manifest import ManifestColumn, Part
from services.core.naming import manifest_object, new_batch_id, part_object
from services.core.storage import StoredObject
from services.core.tables import EXTRACTED_AT, Mode, Table
from services.core.window import Window

PREFIX = "ZZ-FOREIGN-"
"""Of all keys that such rows have. It sorts behind the sample's keys, the first of which the writers share."""
OF_THE_SOURCE = [f"{PREFIX}{number}" for number in range(5)]
"""Keys that are rows of the source, too."""

FUTURE = datetime(2099, 1, 1, tzinfo=UTC)
LAST_YEAR = datetime(9999, 12, 31, tzinfo=UTC)
OUT_OF_TIME = 2**62
"""Microseconds since 1970 that are no year that anybody can write."""

PARQUET = "application/vnd.apache.parquet"

ODD_NAMES = [
    "pedidos😀.parquet",
    "{table}-😀.parquet",
    "{table}-{{{{ 1/0 }}}}.parquet",
    "{table}-{{% raw %}}.parquet",
    "{table}-'; DROP TABLE x; --.parquet",
    '{table}-"quoted" <script>.parquet',
    "{table}-ünï-çodé.parquet",
    "{table}-\u202egnp.parquet",
    "{table}-tab\there.parquet",
    "{table}-control\u0001.parquet",
    "{table}-a#b?c%2Fd&e=f+g.parquet",
    "{table}-back\\slash.parquet",
    "{table}-$(id)`id`.parquet",
    "{table}-" + "x" * 190 + ".parquet",
    " leading space.txt",
    "no_extension",
    "{table}",
    "{table}.manifest.json",
    "{table}-.error.json",
    "..parquet",
]


class ForeignObjects:
    """Drops them, each under another name."""

    def __init__(self, client: Client, chosen: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self.batches: set[str] = set()
        """Ids that manifests were forged for."""
        self._client, self._random = client, chosen
        self._number = 0
        self._kinds: dict[str, Callable[[Table], None]] = {
            "random bytes": self._rubbish,
            "odd name": self._odd_name,
            "odd name, good file": self._odd_name_of_a_good_file,
            "manifest that is none": self._no_manifest,
            "forged manifest without its part": self._forged_without_part,
            "forged manifest of the last year": self._forged_last_year,
            "forged snapshot without rows": self._forged_snapshot,
            "forged manifest with rows of the future": self._forged_rows,
            "forged manifest of a known batch": self._forged_known,
            "file of the future": self._file_of_the_future,
            "file out of time": self._file_out_of_time,
            "part of a merged batch again": self._part_again,
        }

    def drop(self) -> None:
        """Drop one of them."""
        kind = self._random.choice(list(self._kinds))
        self._number += 1
        self._kinds[kind](self._random.choice(self._client.tables.tables))
        self.counts[kind] += 1

    def tolerated(self, comparison: Comparison) -> Comparison:
        """A comparison without what such rows may have changed before the next snapshot."""
        return replace(
            comparison,
            foreign=[key for key in comparison.foreign if not str(key[0]).startswith(PREFIX)],
            different=[each for each in comparison.different if not str(each[0][0]).startswith(PREFIX)],
        )

    def _put(self, name: str, content: bytes, content_type: str = PARQUET) -> StoredObject:
        settings = self._client.settings
        return self._client.objects.create(settings.landing_bucket, name, io.BytesIO(content), content_type)

    def _by_hand(self, name: str, content: bytes) -> None:
        self._put(f"{self._client.settings.landing_prefix}/by_hand/{self._number}/{name}", content)

    # rubbish and names

    def _rubbish(self, table: Table) -> None:
        self._by_hand(f"{table.name}.parquet", self._random.randbytes(self._random.randint(0, 5_000)))

    def _odd_name(self, table: Table) -> None:
        name = self._random.choice(ODD_NAMES).format(table=table.name)
        self._by_hand(name, self._random.choice([b"", b"{}", b"PAR1", self._random.randbytes(100)]))

    def _odd_name_of_a_good_file(self, table: Table) -> None:
        """Its rows are older than all that is in bronze; its name goes through every grammar that a batch's does."""
        stamp = datetime(2020, 1, 1, tzinfo=UTC)
        self._by_hand(self._random.choice(ODD_NAMES).format(table=table.name), _rows(table, OF_THE_SOURCE, stamp))

    # manifests

    def _no_manifest(self, table: Table) -> None:
        batch = self._batch(table, Mode.INCREMENTAL, None)
        content = self._random.choice([b"", b"{", b"[]", b'{"version": 1}', b"\xff\xfe", json.dumps("😀").encode()])
        self._put(self._manifest_name(batch), content, "application/json")

    def _forged_without_part(self, table: Table) -> None:
        batch = self._batch(table, Mode.INCREMENTAL, LAST_YEAR)
        part = Part(
            object_name=part_object(self._client.settings.landing_prefix, table.name, batch.id, 0),
            rows=10,
            size=1_000,
            crc32c="AAAAAA==",
        )
        self._announce(table, batch, [part])

    def _forged_last_year(self, table: Table) -> None:
        batch = self._batch(table, Mode.INCREMENTAL, LAST_YEAR)
        self._announce(table, batch, [self._part(batch, _rows(table, [], FUTURE), 0)])

    def _forged_snapshot(self, table: Table) -> None:
        batch = self._batch(table, Mode.SNAPSHOT, LAST_YEAR)
        self._announce(table, batch, [self._part(batch, _rows(table, [], FUTURE), 0)])

    def _forged_rows(self, table: Table) -> None:
        batch = self._batch(table, self._random.choice(list(Mode)), LAST_YEAR)
        keys = [*OF_THE_SOURCE, f"{PREFIX}never-{self._number}"]
        self._announce(table, batch, [self._part(batch, _rows(table, keys, FUTURE), len(keys))])

    def _forged_known(self, table: Table) -> None:
        """Of a batch that is merged, or on its way."""
        known = self._client.state.batches_of_table(table.name)
        if known:
            batch = self._random.choice(known).model_copy(update={"window": Window(low=None, high=LAST_YEAR)})
            settings = self._client.settings
            if self._client.objects.stat(settings.landing_bucket, self._manifest_name(batch)) is None:
                self._announce(table, batch, [])

    def _batch(self, table: Table, mode: Mode, high: datetime | None) -> Batch:
        now = datetime.now(UTC)
        batch = Batch(
            id=new_batch_id(now),
            run_id="forged",
            table=table.name,
            mode=mode,
            window=Window(low=None, high=high) if high else None,
            extracted_at=self._random.choice([now, FUTURE]),
            started_at=now,
        )
        self.batches.add(batch.id)
        return batch

    def _part(self, batch: Batch, content: bytes, rows: int) -> Part:
        name = part_object(self._client.settings.landing_prefix, batch.table, batch.id, 0)
        stored = self._put(name, content)
        return Part(object_name=stored.name, rows=rows, size=stored.size, crc32c=stored.crc32c)

    def _manifest_name(self, batch: Batch) -> str:
        return manifest_object(self._client.settings.landing_prefix, batch.table, batch.id)

    def _announce(self, table: Table, batch: Batch, parts: list[Part]) -> None:
        manifest = batch.manifest(table, _columns(table), parts)
        self._put(self._manifest_name(batch), manifest.model_dump_json().encode(), "application/json")

    # files

    def _file_of_the_future(self, table: Table) -> None:
        keys = [*OF_THE_SOURCE, f"{PREFIX}never-{self._number}"]
        stamp = self._random.choice([FUTURE, datetime.now(UTC) + timedelta(hours=1)])
        self._by_hand(f"{table.name}-future.parquet", _rows(table, keys, stamp))

    def _file_out_of_time(self, table: Table) -> None:
        self._by_hand(f"{table.name}-never.parquet", _rows(table, OF_THE_SOURCE, OUT_OF_TIME))

    def _part_again(self, table: Table) -> None:
        """Under the name of a part that is in the archive, with other content: it must not be put over that."""
        merged = [b for b in self._client.state.batches_of_table(table.name) if b.state is BatchState.MERGED]
        if merged:
            settings, batch = self._client.settings, self._random.choice(merged)
            name = part_object(settings.landing_prefix, table.name, batch.id, 0)
            if self._client.objects.stat(settings.landing_bucket, name) is None:
                self._put(name, self._random.randbytes(500))


def _columns(table: Table) -> list[ManifestColumn]:
    return [ManifestColumn(name=c.name, type=c.type, required=c.required) for c in table.landed_columns]


def _rows(table: Table, keys: list[str], stamp: datetime | int) -> bytes:
    """A Parquet file with these keys, nulls for all else, and this time of reading."""
    schema = arrow_schema(_columns(table))
    data: dict[str, Any] = {name: [None] * len(keys) for name in schema.names}
    data[table.key[0]] = keys
    if isinstance(stamp, int):
        times = pc.cast(pa.array([stamp] * len(keys), pa.int64()), schema.field(EXTRACTED_AT.name).type)
    else:
        times = pa.array([stamp] * len(keys), schema.field(EXTRACTED_AT.name).type)
    columns = [times if n == EXTRACTED_AT.name else pa.array(data[n], schema.field(n).type) for n in schema.names]
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), sink)
    return sink.getvalue()
