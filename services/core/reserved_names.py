"""The names that BigQuery keeps for itself (https://cloud.google.com/bigquery/docs/schemas#column_names)."""

RESERVED_PREFIXES = ("_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER")
"""No column's name begins so, whatever the case of its letters."""

LONGEST_NAME = 300
"""Characters that a column's name has at most."""


def is_reserved(name: str) -> bool:
    """Whether BigQuery refuses a column of this name."""
    return name.upper().startswith(RESERVED_PREFIXES)
