"""Reads a dropped file in a process of its own: whatever its bytes do, that process bears it.

A file is somebody's bytes. It can be made to unpack into any amount of memory, to never come to an end, or to make the
library that reads it fall over, and no look at its metadata tells: they can lie. So a process without a bucket, a
warehouse or a state reads it, with a limit on its memory and its time. It asks this one for ranges of the file, and
hands back finished parts, or the reason why there are none.

Messages are JSON objects with a ``kind``; a part and a range follow theirs as bytes.
"""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO

import services
from services.core.errors import DataError, TransientError
from services.core.settings import LoaderSettings
from services.core.storage import StoredObject
from services.core.tables import Table
from services.loader.files import MOST_PART_BYTES, RANGE_BYTES

_PASSING = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
"""Ends that come from outside: the machine stops, or is out of memory."""

_END_SECONDS = 5
"""For a process to end that has closed its side of the pipe."""

_ONE_AT_A_TIME = threading.Lock()
"""A container has memory for one such process beside itself."""


class FileReader:
    """The process that reads one file, from this side. Use it as a context: it ends with the block.

    Attributes:
        earliest: the earliest time in the file's ``_extracted_at``, once all parts are there; None without the column.
    """

    def __init__(self, content: BinaryIO, stored: StoredObject, table: Table, settings: LoaderSettings) -> None:
        self._content, self._stored, self._table, self._settings = content, stored, table, settings
        self._expired = self._ready = False
        self.earliest: datetime | None = None

    def __enter__(self) -> "FileReader":
        seconds = self._settings.load_timeout.total_seconds()
        if not _ONE_AT_A_TIME.acquire(timeout=seconds):
            raise TransientError(f"another file was being read for {seconds:.0f} s; this one is tried again")
        try:
            self._pipe, theirs = Pipe()
            with theirs:
                self._process = _start(theirs)
        except BaseException:
            _ONE_AT_A_TIME.release()
            raise
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        _ONE_AT_A_TIME.release()

    def _expire(self) -> None:
        self._expired = True
        self._process.kill()

    def parts(self) -> Iterator[tuple[io.BytesIO, int]]:
        """The file's rows as finished parts: content and rows.

        Raises:
            DataError: the file cannot become rows of the table.
            TransientError: the process ended for a reason that is not the file's.
        """
        self._send(
            {
                "table": self._table.model_dump_json(),
                "size": self._stored.size,
                "arrived_at": self._stored.created_at.astimezone(UTC).isoformat(),
                "memory": self._settings.load_file_memory,
                "unpacked": self._settings.load_file_unpacked_bytes,
            }
        )
        while True:
            message = self._receive()
            match message["kind"]:
                case "ready":
                    self._ready = True
                case "range":
                    self._send_range(int(message["offset"]))
                case "part":
                    yield io.BytesIO(self._receive_bytes(MOST_PART_BYTES)), int(message["rows"])
                case "done":
                    self.earliest = datetime.fromisoformat(message["earliest"]) if message["earliest"] else None
                    return
                case _:
                    raise DataError(message["code"], message["message"], column=message["column"])

    def _send_range(self, offset: int) -> None:
        self._content.seek(offset)
        content = self._content.read(RANGE_BYTES)
        try:
            self._pipe.send_bytes(content)
        except OSError as error:
            raise self._end() from error

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._pipe.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise self._end() from error

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._receive_bytes(RANGE_BYTES))
        return message

    def _receive_bytes(self, most: int) -> bytes:
        try:
            return self._pipe.recv_bytes(most)
        except (EOFError, OSError) as error:
            raise self._end() from error

    def _end(self) -> Exception:
        """What it means that the process has ended before it was done."""
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._expired:
            seconds = self._settings.load_timeout.total_seconds()
            return DataError(
                "file_too_large", f"reading the file takes longer than {seconds:.0f} s; cut it into several"
            )
        if not self._ready or code in _PASSING:
            return TransientError(f"the process that reads the file ended with {code}; the file is tried again")
        what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return DataError(
            "corrupt_parquet",
            f"the file cannot be read as Parquet: its reader ended with {what}; it is damaged, or needs more than the "
            f"{self._settings.load_file_memory} bytes of LOAD_FILE_MEMORY at once",
        )


def _start(theirs: Connection) -> subprocess.Popen[bytes]:
    code = str(Path(services.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "services.loader.files.process", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # what a library says of a value when it falls over belongs into no log
        # Arrow's own allocator reserves a gigabyte at once, which the limit on memory would count.
        env=os.environ | {"PYTHONPATH": code, "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"},
    )
