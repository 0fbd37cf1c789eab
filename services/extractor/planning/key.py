"""Asks the source whether the declared key is one: by its catalog, and by counting where that does not say so."""

import structlog

from services.core.tables import Table
from services.extractor.contract.keys import check_key_types, doubled_statement, key_columns, not_unique, unproven
from services.extractor.source.catalog import SourceRelation
from services.extractor.source.database import Source

log = structlog.get_logger()


def look_at_key(source: Source, table: Table, relation: SourceRelation) -> str | None:
    """What is not certain of the key, for people; None where the source keeps it unique, or there is none.

    Raises:
        ConfigurationError: a column of it can be no key.
    """
    if not table.key:
        return None
    facts = source.key(relation, [column.name_in_source for column in key_columns(table)])
    check_key_types(table, relation, facts)
    found = unproven(table, relation, facts)
    if found is not None:
        log.warning("key.unproven", reason=found)
    return found


def refuse_doubled(source: Source, table: Table, condition: str) -> None:
    """Count the keys that several of the rows that are read have.

    Raises:
        DataError: there are any.
    """
    if count := source.count(doubled_statement(table, condition)):
        raise not_unique(table, count)
