"""Schema drift: how the source's columns differ from the declared ones, and what the table's policy makes of it."""

from dataclasses import dataclass, replace
from enum import StrEnum

from services.core.errors import ConfigurationError
from services.core.tables import Column, SchemaDrift, Table
from services.extractor.contract.bigquery_names import bigquery_names
from services.extractor.contract.mapping import Holds, default_type, holds
from services.extractor.contract.typechange import same_type, what_changed
from services.extractor.source.catalog import RelationKind, SourceColumn, SourceRelation
from services.extractor.source.exclusion import excluded


class DifferenceKind(StrEnum):
    """How a column differs."""

    ADDED = "added"
    """In the source, not declared and not excluded."""
    GONE = "gone"
    """Declared, not in the source; a renamed column is gone and added."""
    TYPE = "type"
    """The source's type is not the declared ``source_type``, or no longer fits the declared BigQuery type."""
    NULLABILITY = "nullability"
    """Declared ``required``, and a table's column that may be null."""


@dataclass(frozen=True)
class Difference:
    """One difference between a declared table and its source."""

    kind: DifferenceKind
    column: str
    """Declared name; the source's name for an added column."""
    message: str
    """For people, log and manifest."""
    blocking: bool
    """Whether it keeps the table from being read whatever the policy: nothing could be read rightly."""


@dataclass(frozen=True)
class Settled:
    """What is read after the policy was applied."""

    columns: list[tuple[Column, SourceColumn | None]]
    """The columns that land, in order, each with the source's; None where it is gone and comes as null."""
    differences: list[str]
    """The differences that the policy allows."""


def differences(table: Table, relation: SourceRelation) -> list[Difference]:
    """Every difference, in the order of the declared columns, then of the source's."""
    found = [
        difference
        for column in table.columns
        for difference in _of_column(table, column, relation.columns.get(column.name_in_source), relation.kind)
    ]
    found += [
        Difference(DifferenceKind.ADDED, source.name, f"{source.name} ({source.shown}) is not declared", blocking=False)
        for source in _added(table, relation)
    ]
    return _kept_hidden(table, _with_rename(table, relation, found))


def settle(table: Table, relation: SourceRelation) -> Settled:
    """Apply the table's policy.

    Raises:
        ConfigurationError: the policy forbids a difference, or one cannot be read whatever the policy; it lists every
            difference and says what to do. Also for a declared column that is excluded.
    """
    if hidden := [c.name for c in table.columns if excluded(c.name_in_source, table)]:
        raise ConfigurationError(
            f"table {table.name}: declared and excluded: {', '.join(hidden)}; take them out of 'columns' or 'exclude'"
        )
    found = differences(table, relation)
    forbidden = found if table.schema_drift is SchemaDrift.FREEZE else [d for d in found if d.blocking]
    if forbidden:
        lines = "".join(f"\n  {d.kind}: {d.message}" for d in found)
        raise ConfigurationError(
            f"table {table.name}: {table.source} is not as declared (schema_drift: {table.schema_drift}):{lines}\n"
            f"{_advice(table, forbidden)}"
        )
    columns: list[tuple[Column, SourceColumn | None]] = [
        (column, relation.columns.get(column.name_in_source)) for column in table.columns
    ]
    if table.schema_drift is SchemaDrift.EVOLVE:
        columns += _evolved(table, relation)
    return Settled(columns, [f"{d.kind}: {d.message}" for d in found])


def _of_column(table: Table, column: Column, source: SourceColumn | None, relation: RelationKind) -> list[Difference]:
    """The differences of one declared column."""
    if source is None:
        return [
            Difference(
                DifferenceKind.GONE,
                column.name,
                f"{column.name_in_source} is not in {table.source}",
                blocking=table.schema_drift is not SchemaDrift.EVOLVE or _is_needed(column, table),
            )
        ]
    found = []
    fits = column.mask is not None or holds(source, column.type) is not Holds.NEVER
    if column.source_type is not None and not same_type(column.source_type, source.declared):
        change = what_changed(column.source_type, source.declared)
        unfit = "" if fits else f", which {column.type} cannot take"
        message = f"{column.name} {change} from {column.source_type} to {source.declared}{unfit}"
        found.append(Difference(DifferenceKind.TYPE, column.name, message, blocking=not fits))
    elif not fits:
        message = f"{column.name} is {source.shown}, which the declared {column.type} cannot take"
        found.append(Difference(DifferenceKind.TYPE, column.name, message, blocking=True))
    # A view's columns are nullable whatever the tables below, and a foreign table's constraint is only a promise.
    enforced = relation in (RelationKind.TABLE, RelationKind.PARTITIONED)
    if column.required and source.nullable and enforced:
        message = f"{column.name} is declared 'required: true' but may be null in {table.source}"
        found.append(Difference(DifferenceKind.NULLABILITY, column.name, message, blocking=False))
    return found


def _is_needed(column: Column, table: Table) -> bool:
    """Whether nulls cannot stand for the column: without its ``deleted_at``, deleted rows would come back to life."""
    return column.required or column.name == table.deleted_at


def _added(table: Table, relation: SourceRelation) -> list[SourceColumn]:
    """The source's columns that are neither declared nor excluded."""
    declared = {column.name_in_source for column in table.columns}
    return [c for c in relation.columns.values() if c.name not in declared and not excluded(c.name, table)]


def _evolved(table: Table, relation: SourceRelation) -> list[tuple[Column, SourceColumn | None]]:
    """The undeclared columns as columns that land: nullable, with the type that says most."""
    added = _added(table, relation)
    names = bigquery_names((c.name for c in added), (c.name for c in table.landed_columns))
    return [
        (
            Column(
                name=names[source.name],
                type=default_type(source),
                source_column=source.name if names[source.name] != source.name else None,
            ),
            source,
        )
        for source in added
    ]


def _with_rename(table: Table, relation: SourceRelation, found: list[Difference]) -> list[Difference]:
    """Say so where one column is gone and one of the same type was added: the catalog does not keep old names."""
    gone = [d for d in found if d.kind is DifferenceKind.GONE]
    added = [d for d in found if d.kind is DifferenceKind.ADDED]
    if len(gone) != 1 or len(added) != 1:
        return found
    column = next(c for c in table.columns if c.name == gone[0].column)
    source = relation.columns[added[0].column]
    if column.source_type is not None:
        alike = same_type(column.source_type, source.declared)
    else:
        alike = column.type is default_type(source)
    if not alike:
        return found
    hint = f"; it looks renamed to {source.name}: then declare 'source_column: {source.name}'"
    renamed = Difference(gone[0].kind, gone[0].column, gone[0].message + hint, gone[0].blocking)
    return [renamed if d is gone[0] else d for d in found]


def _kept_hidden(table: Table, found: list[Difference]) -> list[Difference]:
    """Bring no new column while a masked one is gone: renamed, whatever its type, it would arrive in clear."""
    gone = {difference.column for difference in found if difference.kind is DifferenceKind.GONE}
    masked = [column.name for column in table.columns if column.mask is not None and column.name in gone]
    if table.schema_drift is not SchemaDrift.EVOLVE or not masked:
        return found
    hint = f"; {', '.join(masked)} is masked and gone, and this could be it, in clear"
    return [
        replace(difference, message=difference.message + hint, blocking=True)
        if difference.kind is DifferenceKind.ADDED
        else difference
        for difference in found
    ]


def _advice(table: Table, forbidden: list[Difference]) -> str:
    """What a person can do about the differences."""
    kinds = {d.kind for d in forbidden}
    advice = []
    if DifferenceKind.ADDED in kinds:
        advice.append("declare an added column or put it in 'exclude'")
    if DifferenceKind.GONE in kinds:
        advice.append("take a column that is gone out of 'columns'")
    if DifferenceKind.TYPE in kinds:
        advice.append("declare the type that the source has now")
    if DifferenceKind.NULLABILITY in kinds:
        advice.append("declare 'required: false', or SET NOT NULL in the source")
    if table.schema_drift is SchemaDrift.FREEZE and not all(d.blocking for d in forbidden):
        advice.append("or choose another schema_drift")
    return "; ".join(advice)
