"""SQL text: identifiers and literals that stay what they are, whatever characters they have."""


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
