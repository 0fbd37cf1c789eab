"""dbt's docs of the project ``credix`` as one page."""

from pathlib import Path

import structlog

from services.transformer.observability.commands import DBT, CommandFailed, Commands, dbt_arguments

log = structlog.get_logger()


def generate(commands: Commands) -> Path:
    """Make the page; returns its file.

    Raises:
        CommandFailed: there is none. A page without all of the warehouse's sizes and types is one.
    """
    target = commands.folder / "docs"
    arguments = ["docs", "generate", "--static", *dbt_arguments(commands, commands.settings.dbt_project_dir, target)]
    code = commands.run("docs", DBT, arguments, accept=(0, 1))
    page = target / "static_index.html"
    if not page.exists():
        raise CommandFailed("docs: dbt docs generate wrote no page")
    if code:
        log.warning("docs.catalog_incomplete", reason="the warehouse did not answer all that dbt asks for its catalog")
    return page
