"""`credix declare`: a table's entry for tables.yaml, proposed from the source's catalog."""

import os
from typing import Any

import psycopg
import yaml

from services.core.errors import ConfigurationError, PipelineError
from services.core.settings import SourceSettings, read_settings
from services.core.tables import Column, ColumnType, Mode, SchemaDrift, Table
from services.extractor.contract.declare import declaration
from services.extractor.planning.key import look_at_key
from services.extractor.source.catalog import SourceRelation
from services.extractor.source.connection import conninfo, environment
from services.extractor.source.database import Source, open_source


def propose(source: str) -> str:
    """The entry of a relation, as YAML.

    Args:
        source: ``schema.relation``, unquoted.

    Raises:
        ConfigurationError: the relation is not there, this role may not read it, or the source's settings are wrong.
        PipelineError: the source cannot be reached.
    """
    schema, _, name = source.partition(".")
    if not schema or not name or "." in name:
        raise ConfigurationError(f"{source} is not schema.relation; neither name can have a dot")
    settings = read_settings(SourceSettings)
    os.environ.update(environment(settings))
    # Evolve reads every column, so that every one is asked for.
    everything = Table(
        name="declared",
        source=source,
        mode=Mode.SNAPSHOT,
        bronze_model="declared",
        schema_drift=SchemaDrift.EVOLVE,
        columns=[Column(name="any", type=ColumnType.STRING)],
    )
    try:
        with open_source(conninfo(settings)) as opened:
            relation = opened.relation(everything)
            entry, note = _entry(opened, relation, schema, name)
    except psycopg.OperationalError as error:
        raise PipelineError(f"the source cannot be reached: {error}") from error
    return note + _as_yaml(entry)


def _entry(opened: Source, relation: SourceRelation, schema: str, name: str) -> tuple[dict[str, Any], str]:
    """The entry, and a comment where its primary key can be no key in bronze: then it has none, which is right, too."""
    entry = declaration(relation, schema, name, opened.primary_key(schema, name))
    try:
        look_at_key(opened, Table.model_validate(entry), relation)
    except ConfigurationError as error:
        return declaration(relation, schema, name, []), f"# No key, though it has a primary key: {error}\n"
    return entry, ""


def _as_yaml(entry: dict[str, Any]) -> str:
    """YAML as people write it in tables.yaml: one line a column."""
    columns = "".join(
        f"  - {yaml.safe_dump(column, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)}"
        for column in entry["columns"]
    )
    facts = {name: value for name, value in entry.items() if name != "columns"}
    text = yaml.safe_dump([facts], sort_keys=False, allow_unicode=True) + "  columns:\n"
    return text + "".join(f"  {line}\n" for line in columns.splitlines())
