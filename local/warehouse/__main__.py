"""The launcher: ``python -m local.warehouse --rest-port P --grpc-port G --data-dir D --gcs-root R [--home H]``.

Everything bqemulator reads from its environment is set here, before it or DuckDB is imported. It is ready when
``GET /readyz`` answers 200. SIGTERM and SIGINT end it after closing the database.
"""

import argparse
import gc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local.warehouse.analysis.analyzer import Counts


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the launcher's options; paths are absolute, ``home`` defaults to a folder inside the data folder."""
    parser = argparse.ArgumentParser(prog="python -m local.warehouse", description="BigQuery's API on DuckDB.")
    parser.add_argument("--host", default="127.0.0.1", help="address of both ports")
    parser.add_argument("--rest-port", type=int, required=True, help="port of the REST API")
    parser.add_argument("--grpc-port", type=int, required=True, help="port of the Storage Read and Write API")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the database, kept over restarts")
    parser.add_argument("--gcs-root", type=Path, required=True, help="folder in which gs://b/o is the file b/o")
    parser.add_argument("--home", type=Path, help="folder of the DuckDB extensions; worth sharing between databases")
    parser.add_argument("--project", default="credix-local", help="project of a request that names none")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    parser.add_argument(
        "--analyzer",
        default="auto",
        choices=["auto", "on", "off"],
        help="Google's SQL analyzer in front: if it is installed, always, or never",
    )
    options = parser.parse_args(arguments)
    options.data_dir = options.data_dir.resolve()
    options.gcs_root = options.gcs_root.resolve()
    options.home = (options.home or options.data_dir / "home").resolve()
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the folders, the extensions and the patches, then serve until a signal comes."""
    options = parse_arguments(arguments)
    for folder in (options.data_dir, options.gcs_root, options.home):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"HOME": str(options.home), "BQEMU_GCS_LOCAL_ROOT": str(options.gcs_root)}

    from local.warehouse.extensions import install_extensions

    install_extensions(options.home)

    from bqemulator.cli import main as bqemulator
    from bqemulator.config import LogFormat, LogLevel
    from bqemulator.observability.logging_ import configure_logging

    configure_logging(level=LogLevel(options.log_level), fmt=LogFormat.JSON)

    from local.warehouse.patches import apply_patches

    apply_patches()
    counts = put_analyzer_in_front(options.analyzer)
    # Every statement is parsed some twenty times into trees of thousands of nodes: by default a third of the
    # processor time goes into looking for garbage among them.
    gc.set_threshold(200_000, 20, 100)
    try:
        bqemulator(
            [
                "start",
                "--persistent",
                f"--data-dir={options.data_dir}",
                f"--rest-host={options.host}",
                f"--rest-port={options.rest_port}",
                f"--grpc-host={options.host}",
                f"--grpc-port={options.grpc_port}",
                f"--project={options.project}",
                f"--log-level={options.log_level}",
            ]
        )
    finally:
        if counts is not None:
            sys.stdout.write(f"{json.dumps({'event': 'analysis', **counts.as_json()}, sort_keys=True)}\n")


def put_analyzer_in_front(how: str) -> "Counts | None":
    """Put Google's analyzer in front, or say once why it is not; what it counts.

    Raises:
        EngineMissing: it must be there, and is not.
    """
    from local.googlesql.compiled import EngineMissing, kept_path

    if how == "off":
        return None
    try:
        # Its modules can be imported only where the wheel is.
        kept_path()
        from local.googlesql.analysis import GoogleSql
        from local.warehouse.patches import google

        return google.apply(GoogleSql())
    except EngineMissing as missing:
        if how == "on":
            raise
        sys.stdout.write(f"Google's analyzer checks no statements here, and no job says its cost: {missing}\n")
        return None


if __name__ == "__main__":
    main()
