"""The loader's sweep as a job: ``python -m services.loader --sweep``.

Exit codes: 0 all that was left behind is finished or cleared away; 1 something could not be done, the next sweep tries
again; 2 settings, tables.yaml or the command line are wrong.
"""

import argparse
import json
import sys

from services.core.errors import ConfigurationError
from services.core.service import end_on_sigterm, start
from services.core.settings import LoaderSettings
from services.loader.sweep import Sweep
from services.loader.wiring import open_loader


def main(argv: list[str] | None = None) -> int:
    """Sweep once; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.loader", description="The loader's sweep.")
    parser.add_argument("--sweep", action="store_true", required=True, help="finish or clear away what is left behind")
    parser.parse_args(argv)
    end_on_sigterm()
    try:
        loader = open_loader(*start(LoaderSettings, "loader"))
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    swept = Sweep(loader).run()
    loader.state.store.close()
    print(json.dumps(swept.report()))  # noqa: T201
    return 1 if swept.problems else 0


if __name__ == "__main__":
    sys.exit(main())
