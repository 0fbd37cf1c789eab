"""Parquet files that unpack to far more than they are, and files with bytes changed at random.

``python -m tests.integration.strange_files SEED SECONDS`` reads one mutant after the other, each in a process forked
for it, and says how many ended how.
"""

import io
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from services.core.errors import DataError
from services.core.settings import LoaderSettings
from services.loader.files.conversion import Conversion
from services.loader.files.process import limit
from tests.integration.bad_input_cases import declared, parquet, rows_of, stamped

TABLE = declared("orders_archive")


def _notes(notes: pa.Array | pa.DictionaryArray) -> pa.Table:
    return pa.table({"id": pa.array(range(len(notes)), pa.int64()), "note": notes})


def _repeated(times: int, length: int) -> pa.Table:
    return _notes(pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array(["x" * length])))


def _plain(texts: list[str], **options: Any) -> bytes:
    return parquet(_notes(pa.array(texts)), compression="zstd", use_dictionary=False, **options)


def _footer(*fields: bytes) -> bytes:
    """A file that is all metadata: Thrift's compact form of FileMetaData, field by field."""
    metadata = b"".join(fields) + b"\0"
    return b"PAR1" + metadata + len(metadata).to_bytes(4, "little") + b"PAR1"


_VERSION, _NO_ROWS = b"\x15\x02", b"\x16\x00"
_EMPTY_ROOT = b"\x19\x1c\x48\x01r\x15\x00\x00"


def _structs(count: int, each: bytes, delta: int = 1) -> bytes:
    """A field that is a list of structs, all alike."""
    size = b""
    number = count
    while number > 0x7F:
        size += bytes([number & 0x7F | 0x80])
        number >>= 7
    return bytes([delta << 4 | 9, 0xFC]) + size + bytes([number]) + each * count


_COLUMN_CHUNK = b"\x26\x00\x00"
_KEY_VALUE = b"\x18\x00\x00"
_ROW_GROUP = b"\x19\x0c\x16\x00\x16\x00\x00"
_SCHEMA_ELEMENT = b"\x48\x00\x00"
_MANY = 900_000

BOMBS: dict[str, Callable[[], bytes]] = {
    "dictionary_of_100_kB": lambda: parquet(_repeated(16_384, 100_000), compression="zstd"),
    "dictionary_of_5_MB": lambda: parquet(_repeated(600, 5_000_000), compression="zstd"),
    "dictionary_of_categories": lambda: parquet(_repeated(16_384, 100_000), store_schema=True),
    "one_text_of_200_MB": lambda: _plain(["x" * 200_000_000]),
    "one_page_of_400_MB": lambda: _plain(["x" * 4_000_000] * 100, data_page_size=2**30),
    "pages_of_1_MB_texts": lambda: _plain(["x" * 1_000_000] * 400),
    "equal_prefixes": lambda: _plain(["x" * 100_000] * 4_000, column_encoding={"note": "DELTA_BYTE_ARRAY"}),
    "empty_texts": lambda: _plain(
        [""] * 5_000_000, column_encoding={"note": "DELTA_LENGTH_BYTE_ARRAY"}, data_page_size=2**30
    ),
    "nulls": lambda: parquet(_notes(pa.nulls(5_000_000, pa.string())), compression="zstd"),
    "columns": lambda: parquet(pa.table({f"c{number}": [1] for number in range(20_000)})),
    "row_groups": lambda: parquet(_notes(pa.array(["x"] * 5_000)), row_group_size=1, store_schema=False),
    "footer_of_texts": lambda: parquet(rows_of("orders_archive").replace_schema_metadata({"k": "v" * 7_000_000})),
    "footer_of_12_MB": lambda: parquet(
        rows_of("orders_archive").replace_schema_metadata({f"k{n}": "v" * 20 for n in range(150_000)})
    ),
    "footer_of_schema": lambda: _footer(_VERSION, _structs(_MANY, _SCHEMA_ELEMENT), _NO_ROWS, b"\x19\x0c"),
    "footer_of_row_groups": lambda: _footer(_VERSION, _EMPTY_ROOT, _NO_ROWS, _structs(_MANY, _ROW_GROUP)),
    "footer_of_chunks": lambda: _footer(
        _VERSION, _EMPTY_ROOT, _NO_ROWS, b"\x19\x1c", _structs(_MANY, _COLUMN_CHUNK), b"\x16\x00\x16\x00\x00"
    ),
    "footer_of_pairs": lambda: _footer(_VERSION, _EMPTY_ROOT, _NO_ROWS, b"\x19\x0c", _structs(_MANY, _KEY_VALUE)),
}
"""Small files that unpack to hundreds of megabytes and more, by what in them does."""


_WHOLE: list[Callable[[pa.Table], bytes]] = [
    lambda rows: parquet(rows, compression="none", use_dictionary=False),
    lambda rows: parquet(rows, compression="snappy"),
    lambda rows: parquet(rows, compression="zstd", data_page_version="2.0"),
    lambda rows: parquet(rows, compression="gzip", row_group_size=5),
    lambda rows: parquet(rows, compression="lz4", store_schema=False),
    lambda rows: parquet(rows, compression="brotli", version="1.0"),
    lambda rows: parquet(rows, compression="none", write_page_index=True, write_page_checksum=True),
    lambda rows: parquet(
        rows,
        compression="none",
        use_dictionary=False,
        column_encoding={
            "id": "DELTA_BINARY_PACKED",
            "name": "DELTA_BYTE_ARRAY",
            "raw": "DELTA_LENGTH_BYTE_ARRAY",
            "ratio": "BYTE_STREAM_SPLIT",
        },
    ),
]
"""Ways to write a file: every type is in it, in every encoding."""


def mutant(chance: random.Random, whole: bytes) -> bytes:
    """The file with a few bytes changed, taken away, put in or copied, more often in its metadata."""
    changed = bytearray(whole)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        length = len(changed)
        footer = int.from_bytes(changed[-8:-4], "little")
        first = length - 8 - footer if 0 < footer < length - 8 and chance.random() < 0.6 else 0
        at = chance.randrange(first, length)
        match chance.randrange(6):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                changed[at] ^= 1 << chance.randrange(8)
            case 2:
                changed[at : at + chance.randrange(1, 9)] = bytes([chance.choice((0, 1, 0x7F, 0x80, 0xFF))])
            case 3 if length > 100:
                del changed[at : at + chance.randrange(1, 20)]
            case 4:
                changed[at:at] = chance.randbytes(chance.randrange(1, 10))
            case _:
                other = chance.randrange(length)
                changed[at : at + 20] = changed[other : other + chance.randrange(1, 40)]
    return bytes(changed)


def _ended(content: bytes) -> str:
    """How the reading of a file ended, in a process forked for it."""
    answer, tell = os.pipe()
    process = os.fork()
    if process == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        limit(int(LoaderSettings.model_fields["load_file_memory"].default))
        signal.alarm(20)  # in the loader, LOAD_TIMEOUT
        try:
            for _ in Conversion(declared("orders"), datetime.now(UTC), 2**32).parts(io.BytesIO(content), len(content)):
                pass
            said = "read"
        except DataError as error:
            said = f"refused: {error.code}"
        except MemoryError:
            said = "refused: memory"
        except BaseException as error:  # noqa: BLE001 - what it is, is the question
            said = f"{type(error).__name__}: {error}"
        os.write(tell, said.encode()[:1_000])
        os._exit(0)
    os.close(tell)
    with os.fdopen(answer, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(process, 0)
    return f"ended: {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else said


def mutate(seed: int, seconds: float) -> dict[str, Any]:
    """Read mutants for some time: how many ended how, and for each way one seed."""
    many = pa.concat_tables([rows_of("orders")] * 50)
    whole = [write(rows) for write in _WHOLE for rows in (rows_of("orders"), stamped(rows_of("orders")), many)]
    ends: Counter[str] = Counter()
    first: dict[str, int] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        chance = random.Random(seed)  # noqa: S311 - no secret
        end = _ended(mutant(chance, chance.choice(whole)))
        ends[end] += 1
        first.setdefault(end, seed)
        seed += 1
    return {"ends": ends, "first": first}


if __name__ == "__main__":
    pa.set_io_thread_count(1)
    print(json.dumps(mutate(int(sys.argv[1]), float(sys.argv[2]))))  # noqa: T201
