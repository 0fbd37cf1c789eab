"""DuckDB finds the extensions in a new home, and they are not copied there."""

import os
from pathlib import Path

import duckdb

from local.warehouse.extensions import EXTENSIONS, install_extensions


def linked(home: Path) -> list[Path]:
    return sorted(home.glob(".duckdb/extensions/*/*/*"))


def test_a_new_home_has_links_that_duckdb_loads(tmp_path: Path) -> None:
    install_extensions(tmp_path)
    links = linked(tmp_path)
    assert [link.name for link in links] == [f"{name}.duckdb_extension" for name in sorted(EXTENSIONS)]
    assert all(link.is_symlink() for link in links)
    with duckdb.connect(config={"extension_directory": str(links[0].parents[2])}) as connection:
        for name in EXTENSIONS:
            connection.execute(f"LOAD {name}")


def test_a_link_whose_package_moved_is_made_anew(tmp_path: Path) -> None:
    install_extensions(tmp_path)
    [first, _] = linked(tmp_path)
    there = first.readlink()
    first.unlink()
    first.symlink_to(tmp_path / "gone")
    install_extensions(tmp_path)
    assert first.readlink() == there


def test_a_link_that_is_there_stays(tmp_path: Path) -> None:
    install_extensions(tmp_path)
    before = [os.lstat(link).st_ino for link in linked(tmp_path)]
    install_extensions(tmp_path)
    assert [os.lstat(link).st_ino for link in linked(tmp_path)] == before
