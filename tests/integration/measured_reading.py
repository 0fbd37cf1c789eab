"""Reads a file as the loader does, and says how it ended and how much memory it took.

``python -m tests.integration.measured_reading TABLE FILE``. Imports
little: a process begins with the peak of the one that started it.
"""

import io
import json
import re
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path

from services.core.errors import DataError
from services.core.settings import LoaderSettings
from services.core.storage import StoredObject
from services.core.tables import Table
from services.loader.files.reader import FileReader


def main(table: Path, file: Path) -> dict[str, object]:
    """Read a file; its outcome, and the peaks of both processes in bytes."""
    content = file.read_bytes()
    stored = StoredObject("b", file.name, 1, len(content), "", datetime.now(UTC))
    settings = LoaderSettings.model_validate({"GCP_PROJECT": "p", "load_file_unpacked_bytes": 2**32})
    code, message, rows = None, "", 0
    try:
        with FileReader(io.BytesIO(content), stored, Table.model_validate_json(table.read_text()), settings) as reader:
            rows = sum(count for _, count in reader.parts())
    except DataError as error:
        code, message = error.code, str(error)
    own = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"code": code, "message": message, "rows": rows, "reader": peak * 1024, "loader": int(own[0]) * 1024}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))  # noqa: T201
