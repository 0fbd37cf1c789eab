"""The process that reads one dropped file: ``python -m services.loader.files.process FD``, started by ``reader``."""

import io
import json
import resource
import sys
from datetime import UTC, datetime
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any

from services.core.errors import DataError
from services.core.tables import Table
from services.loader.files import MOST_PART_BYTES, RANGE_BYTES
from services.loader.files.conversion import Conversion

_KEPT_RANGES = 32


class Ranges(io.RawIOBase):
    """The file, of which ranges are asked for over the pipe; the last ones are kept, as columns lie side by side."""

    def __init__(self, pipe: Connection, size: int) -> None:
        self._pipe, self._size, self._at = pipe, size, 0
        self._range = lru_cache(_KEPT_RANGES)(self._fetch)

    def _fetch(self, number: int) -> bytes:
        self._pipe.send_bytes(json.dumps({"kind": "range", "offset": number * RANGE_BYTES}).encode())
        return self._pipe.recv_bytes(RANGE_BYTES)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; returns it."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes, or what is left."""
        end = self._size if size < 0 else min(self._size, self._at + size)
        pieces = []
        while self._at < end:
            number, within = divmod(self._at, RANGE_BYTES)
            piece = self._range(number)[within : within + end - self._at]
            if not piece:
                raise EOFError(f"the file ends before byte {self._size}")
            pieces.append(piece)
            self._at += len(piece)
        return b"".join(pieces)


def _answer(pipe: Connection, request: dict[str, Any]) -> dict[str, Any]:
    """Read the file and hand over its parts; returns the last message."""
    conversion = Conversion(
        Table.model_validate_json(request["table"]),
        datetime.fromisoformat(request["arrived_at"]).astimezone(UTC),
        request["unpacked"],
    )
    try:
        for data, rows in conversion.parts(Ranges(pipe, request["size"]), request["size"]):
            content = data.getbuffer()
            if content.nbytes > MOST_PART_BYTES:
                raise DataError("file_too_large", f"a row takes more than {MOST_PART_BYTES} bytes")
            pipe.send_bytes(json.dumps({"kind": "part", "rows": rows}).encode())
            pipe.send_bytes(content)
    except DataError as error:
        return {"kind": "refused", "code": error.code, "message": str(error), "column": error.column}
    except MemoryError:
        message = (
            f"reading the file takes more than the {request['memory']} bytes of LOAD_FILE_MEMORY at once; "
            "write it with smaller pages and row groups"
        )
        return {"kind": "refused", "code": "file_too_large", "message": message, "column": None}
    earliest = conversion.earliest
    return {"kind": "done", "earliest": earliest.isoformat() if earliest else None}


def main() -> None:
    """Take the request from the pipe and answer it."""
    pipe = Connection(int(sys.argv[1]))
    request = json.loads(pipe.recv_bytes())
    limit(request["memory"])
    pipe.send_bytes(json.dumps({"kind": "ready"}).encode())
    pipe.send_bytes(json.dumps(_answer(pipe, request)).encode())


def limit(memory: int) -> None:
    """Give this process no more than so many bytes of memory, and let it leave nothing behind when it falls over."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
