"""The DuckDB extensions that bqemulator loads, taken from the package index instead of DuckDB's own server."""

from pathlib import Path

import duckdb
from duckdb_extensions import import_extension

EXTENSIONS = ("spatial", "avro")
"""``spatial`` is needed to start at all, ``avro`` for Avro files (bqemulator 1.4.0, ``storage/engine.py``)."""


def install_extensions(home: Path) -> None:
    """Install every missing extension below ``home/.duckdb``, where DuckDB looks when HOME is ``home``.

    Safe when several emulators share one ``home``: DuckDB moves a finished file into place.
    """
    with duckdb.connect() as connection:
        for name in EXTENSIONS:
            if not any(home.glob(f".duckdb/extensions/v{duckdb.__version__}/*/{name}.duckdb_extension")):
                import_extension(name, con=connection)
