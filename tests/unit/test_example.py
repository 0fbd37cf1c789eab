"""The example's own project is made from the repository's, whatever is installed in that."""

from pathlib import Path

from examples.nycflights13.prepare import copy_project


def test_a_package_that_is_a_link_to_the_project_is_left_out(tmp_path: Path) -> None:
    source, target = tmp_path / "dbt", tmp_path / "copy"
    packages = source / "observability" / "dbt_packages"
    for folder in (packages / "elementary", source / "models", source / "macros"):
        folder.mkdir(parents=True)
    (source / "dbt_project.yml").touch()
    (packages / "elementary" / "dbt_project.yml").touch()
    (packages / "credix").symlink_to(source, target_is_directory=True)
    copy_project(source, target)
    copied = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert copied == ["dbt_project.yml", "observability/dbt_packages/elementary/dbt_project.yml"]
