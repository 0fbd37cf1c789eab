"""The DuckDB extensions that bqemulator loads, taken from the package index instead of DuckDB's own server."""

from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

EXTENSIONS = ("spatial", "avro")
"""``spatial`` is needed to start at all, ``avro`` for Avro files (bqemulator 1.4.0, ``storage/engine.py``)."""


def install_extensions(home: Path) -> None:
    """Link every missing extension into ``home/.duckdb``, where DuckDB looks when HOME is ``home``.

    A copy would be 93 MB and most of a second of processor time for every new ``home``. Safe when several emulators
    share one: a finished link is moved into place.

    Raises:
        FileNotFoundError: the installed packages have no extension for this version of DuckDB.
    """
    with duckdb.connect() as connection:
        [platform] = connection.execute("PRAGMA platform").fetchone() or ("",)
    version = f"v{duckdb.__version__}"
    folder = home / ".duckdb" / "extensions" / version / platform
    folder.mkdir(parents=True, exist_ok=True)
    for name in EXTENSIONS:
        link = folder / f"{name}.duckdb_extension"
        if link.exists():
            continue
        source = Path(str(files(f"duckdb_extension_{name}"))) / "extensions" / version / link.name
        if not source.exists():
            raise FileNotFoundError(
                f"duckdb-extension-{name} has no extension for DuckDB {version}: pin the same version"
            )
        with TemporaryDirectory(dir=folder) as beside:
            made = Path(beside) / link.name
            made.symlink_to(source)
            made.replace(link)
