"""Whether the dbt project's bronze models fit the declared tables. Pure functions.

tables.yaml is the truth: bronze's columns and key come from it. A model's yml describes and tests them; where the two
disagree, a test or a description would be of something else than the data, so the table is refused by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.core.tables import BRONZE_COLUMNS, MOST_CLUSTERED, NOT_CLUSTERED, Table, Tables
from services.transformer.bronze.handover import MOST_CHARACTERS, characters

MATERIALIZATION = "bronze"

_TEXTS = ("_source_table", "_batch_id")


@dataclass(frozen=True)
class BronzeModel:
    """A dbt model as the project declares it."""

    name: str
    materialized: str
    columns: Mapping[str, str]
    """Data types by name, as the yml writes them."""
    cluster_by: Sequence[str] = ()
    """Columns that the model's config names."""


def disagreements(table: Table, model: BronzeModel | None) -> list[str]:
    """How a table's bronze model is not what tables.yaml declares; nothing when they agree."""
    if model is None:
        return [
            f"bronze_model {table.bronze_model} is not in the dbt project; "
            f"add models/bronze/{table.bronze_model}.sql, or correct the name"
        ]
    found = []
    if model.materialized != MATERIALIZATION:
        found.append(
            f"model {model.name} is materialized as {model.materialized!r}, not as {MATERIALIZATION!r}: only that one "
            "never replaces the table; put it below models/bronze/"
        )
    expected = {column.name: column.type.value for column in table.landed_columns}
    expected |= {name: "STRING" if name in _TEXTS else "TIMESTAMP" for name in BRONZE_COLUMNS}
    found += _clustering(model, expected)
    described = {name: _standard(type_) for name, type_ in model.columns.items()}
    if not described:
        found.append(f"model {model.name} has no columns in any yml; is the model's name misspelt there?")
        return found
    if lacking := [name for name in expected if name not in described]:
        found.append(f"the yml of model {model.name} lacks {', '.join(lacking)}")
    if beyond := [name for name in described if name not in expected]:
        found.append(f"the yml of model {model.name} has {', '.join(beyond)}, which tables.yaml does not declare")
    found += [
        f"column {name} is {type_} in tables.yaml, {described[name] or 'without data_type'} in the yml of {model.name}"
        for name, type_ in expected.items()
        if name in described and described[name] != type_
    ]
    if (size := characters(table, [])) > MOST_CHARACTERS:
        found.append(
            f"its {len(table.landed_columns)} columns make a MERGE of up to {size:,} characters, and BigQuery takes "
            "about 1,000,000; declare fewer columns, or shorter names"
        )
    return found


def _clustering(model: BronzeModel, columns: Mapping[str, str]) -> list[str]:
    """What BigQuery would refuse of the columns by which the model is clustered, with the types of all columns."""
    types = {name.lower(): type_ for name, type_ in columns.items()}
    found = []
    if len(model.cluster_by) > MOST_CLUSTERED:
        found.append(
            f"model {model.name} has {len(model.cluster_by)} columns in cluster_by, and BigQuery takes {MOST_CLUSTERED}"
        )
    for name in model.cluster_by:
        type_ = types.get(name.lower())
        if type_ is None:
            found.append(f"model {model.name} is clustered by {name}, which tables.yaml does not declare")
        elif type_ in NOT_CLUSTERED:
            found.append(
                f"model {model.name} is clustered by {name}, a {type_}, by which BigQuery clusters no table; "
                "leave it out of cluster_by"
            )
    return found


def refused(tables: Tables, models: Mapping[str, BronzeModel]) -> dict[str, str]:
    """The tables whose bronze model is not what is declared, with the reason."""
    reasons = {table.name: disagreements(table, models.get(table.bronze_model)) for table in tables.tables}
    return {name: "; ".join(reason) for name, reason in reasons.items() if reason}


def _standard(name: str) -> str:
    legacy = {"BOOLEAN": "BOOL", "INTEGER": "INT64", "FLOAT": "FLOAT64"}
    return legacy.get(name.upper(), name.upper())
