"""One reconcile as a job: ``python -m services.transformer``.

Exit codes: 0 all that was due is done, or another process is at it; 1 something could not be done, the log says what;
2 settings or tables.yaml are wrong.
"""

import json
import os
import socket
import sys

import structlog

from services.core.errors import ConfigurationError, PipelineError
from services.core.service import end_on_sigterm, start
from services.core.settings import TransformerSettings
from services.transformer.wiring import open_transformer

log = structlog.get_logger()


def main() -> int:
    """Reconcile once; returns the exit code."""
    end_on_sigterm()
    try:
        transformer = open_transformer(*start(TransformerSettings, "transformer"))
        reports = transformer.reconcile_or_leave(f"{socket.gethostname()}-{os.getpid()}")
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except PipelineError as error:
        log.error("reconcile.failed", reason=str(error))
        return 1
    passes = [{"run_id": r.run_id, "outcome": r.outcome(), "merges": r.merges} for r in reports or []]
    print(json.dumps({"left_to_another": reports is None, "passes": passes}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
