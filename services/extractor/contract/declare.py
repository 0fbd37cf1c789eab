"""A first declaration of a table, proposed from the catalog for a person to complete."""

import re
from typing import Any

from services.core.errors import ConfigurationError
from services.core.tables import ColumnType, Mode
from services.extractor.contract.bigquery_names import bigquery_names
from services.extractor.contract.mapping import default_type
from services.extractor.source.catalog import SourceColumn, SourceRelation

_NAME_LENGTH = 40


def declaration(relation: SourceRelation, schema_name: str, relation_name: str, key: list[str]) -> dict[str, Any]:
    """An entry of tables.yaml that reads every column, with the type that says most.

    It is a snapshot: which column grows with every change is not in the catalog, and a wrong cursor loses rows.

    Args:
        relation: the relation as the catalog has it.
        schema_name: its schema.
        relation_name: its name within the schema.
        key: columns that identify a row, by their names in the source; empty for none.

    Raises:
        ConfigurationError: it has no columns.

    Returns:
        The entry as ``services.core.tables.Table`` takes it; fields that have their default are left out.
    """
    if not relation.columns:
        raise ConfigurationError(
            f"{schema_name}.{relation_name} has no columns: there is nothing to declare or extract"
        )
    names = bigquery_names(relation.columns, ())
    name = _pipeline_name(relation_name)
    return {
        "name": name,
        "source": f"{schema_name}.{relation_name}",
        **({"key": [names[column] for column in key]} if key else {}),
        "mode": Mode.SNAPSHOT.value,
        "bronze_model": name,
        "columns": [_column(names[source.name], source, source.name in key) for source in relation.columns.values()],
    }


def _column(name: str, source: SourceColumn, in_key: bool) -> dict[str, Any]:
    type_ = default_type(source)
    if in_key and type_ is ColumnType.FLOAT64:
        type_ = ColumnType.STRING  # tables.yaml says why
    return {
        "name": name,
        "type": type_.value,
        **({"source_column": source.name} if name != source.name else {}),
        "source_type": source.declared,
        **({"required": True} if in_key or not source.nullable else {}),
    }


def _pipeline_name(relation_name: str) -> str:
    """The relation's name as the pipeline's own names have to be: small letters, digits and underscores."""
    (name,) = bigquery_names([relation_name], ()).values()
    return re.sub(r"_+$", "", name.lower()[:_NAME_LENGTH]) or "table"
