"""``python -m local.project_check``: is all SQL of the project BigQuery's, and has it the declared types?

Reads settings, tables.yaml and the dbt project as the transformer does (``python -m services.transformer --check``),
and gives every statement that dbt would send to Google's analyzer. Nothing outside this process is asked.

Exit codes: 0 all is well; 1 something was found, it says what and where; 2 settings or tables.yaml are wrong.
"""

import sys
import time

from local.googlesql import compiled
from services.core.errors import ConfigurationError, PipelineError
from services.core.service import start
from services.core.settings import TransformerSettings
from services.transformer.__main__ import main as transformer


def main() -> int:
    """Check the project; returns the exit code."""
    started = time.monotonic()
    try:
        compiled.kept_path()
        # Imported only where the wheel is.
        from local.googlesql.analysis import GoogleSql
        from local.project_check.check import check_project, check_shapes
        from local.project_check.shapes import every_shape

        google = GoogleSql()
    except compiled.EngineMissing as missing:
        sys.stdout.write(f"The project's SQL is not analyzed: {missing}\n")
        return transformer(["--check"])
    try:
        settings, tables = start(TransformerSettings, "transformer")
        found = check_project(settings, tables, google) + check_shapes(settings, every_shape(), google)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except PipelineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{problem}\n" for problem in found.problems))
    sys.stdout.write(
        f"Google's analyzer: {found.analyzed} statements, {found.merges} of them MERGEs; {found.compared} columns "
        f"compared; {len(found.problems)} problem(s); {time.monotonic() - started:.0f} s\n"
    )
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
