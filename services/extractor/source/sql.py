"""SQL text: identifiers and literals that stay what they are, whatever characters they have."""

from services.core.tables import Table


def quoted(identifier: str) -> str:
    """A PostgreSQL identifier, always quoted: reserved words, upper case and blanks keep their meaning."""
    escaped = identifier.replace('"', '""')
    return f'"{escaped}"'


def text_literal(value: str) -> str:
    """A PostgreSQL text literal, right under either setting of ``standard_conforming_strings``.

    Raises:
        ValueError: the text has a NUL, which no PostgreSQL text can hold.
    """
    if "\0" in value:
        raise ValueError("a PostgreSQL text cannot hold NUL")
    escaped = value.replace("'", "''")
    if "\\" not in value:
        return f"'{escaped}'"
    doubled = escaped.replace("\\", "\\\\")
    return f"E'{doubled}'"


def bracketed(expression: str) -> str:
    """An SQL expression in brackets; a comment in it ends with its line and swallows nothing of what follows."""
    return f"(\n{expression}\n)" if "--" in expression else f"({expression})"


def relation_sql(table: Table) -> str:
    """A table's source relation, quoted."""
    return f"{quoted(table.schema_name)}.{quoted(table.relation_name)}"
