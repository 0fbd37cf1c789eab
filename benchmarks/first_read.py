"""The extractor, with a watch on its first rows: prints the seconds from the process's start until they were read."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil

from services.extractor import __main__ as extractor
from services.extractor.reading import reader


def main() -> int:
    """Run the extractor's command line with the watch."""
    read = reader.Reader.read
    first: dict[str, Any] = {}

    def watched(self: reader.Reader, *arguments: Any, **named: Any) -> Iterator[Any]:
        for batch in read(self, *arguments, **named):
            if not first:
                first.update(seconds_to_first_rows=time.time() - psutil.Process().create_time(), rows=batch.num_rows)
            yield batch

    reader.Reader.read = watched  # type: ignore[method-assign]
    code = extractor.main(sys.argv[1:])
    print(json.dumps(first))  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
