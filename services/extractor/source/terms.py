"""The terms of every transaction at the source: settings that decide which rows are seen, and as which texts.

They are set inside the transaction and read back there. A startup option would be cheaper, but a pooler may drop it, or
keep it for its own connection; and SET LOCAL ends with the transaction, so that a connection which a pooler gives to
somebody else is as it was.
"""

import secrets
from collections.abc import Sequence

from services.core.errors import ConfigurationError
from services.core.tables import Mask, Table
from services.extractor.source.locks import WAIT
from services.extractor.source.sql import text_literal

APPLICATION = "credix-extractor"

TERMS = {
    "quote_all_identifiers": "off",  # first: the next one's text depends on it
    # Functions and operators are PostgreSQL's own: nobody can put one of the same name before them. Texts of regclass
    # and its kin have their schema.
    "search_path": "pg_catalog, pg_temp",
    # PostgreSQL refuses to read what its policies hide from this role, and does not leave rows out.
    "row_security": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "client_encoding": "UTF8",  # a SQL_ASCII database would give names and texts as bytes
    "lock_timeout": WAIT,
    # A session holds the snapshot of a long read open without a statement of its own.
    "idle_in_transaction_session_timeout": "0",
    # By which windows know the pipeline's own transactions, which write nothing.
    "application_name": APPLICATION,
}
"""One text per value, whatever the server's, the database's, the role's or the pooler's defaults."""

_LISTS = {"search_path"}
"""Settings whose value is a list of names: in quotes it would be one name."""

MARK = "credix.process"
PROCESS = secrets.token_hex(8)
"""A startup option and its value, this process's own: a session that has it has the process's other options, too."""


def hashed(table: Table) -> list[str]:
    """The columns of a table that are masked by hash, which needs a key in the session."""
    return [column.name for column in table.columns if column.mask is Mask.HASH]


def set_terms() -> list[str]:
    """The statements that set the terms, until the transaction's end; they take no snapshot."""
    return [f"SET LOCAL {name} = {value if name in _LISTS else text_literal(value)}" for name, value in TERMS.items()]


def read_terms() -> str:
    """The SELECT of one row: the terms as they are, and whose options the session has."""
    values = [f"pg_catalog.current_setting({text_literal(name)})" for name in TERMS]
    values.append(f"pg_catalog.current_setting({text_literal(MARK)}, true)")
    return f"SELECT {', '.join(f'{value} AS c{number}' for number, value in enumerate(values))}"


def check_terms(found: Sequence[object]) -> None:
    """Compare the terms with what ``read_terms`` gave.

    Raises:
        ConfigurationError: names each setting that differs, and says what to do.
    """
    differing = [
        f"{name} is {value}, not {wanted}"
        for (name, wanted), value in zip(TERMS.items(), found, strict=False)
        if not _kept(name, wanted, value)
    ]
    if differing:
        raise ConfigurationError(
            f"the source's session does not keep its settings: {'; '.join(differing)}. Values would arrive as other "
            "texts, or rows be missing. Something between here and PostgreSQL undoes SET LOCAL: connect to PostgreSQL "
            "itself (POSTGRES_HOST, POSTGRES_PORT), or to a pooler in session or transaction mode"
        )


def _kept(name: str, wanted: str, found: object) -> bool:
    if name == "DateStyle":  # the order of day and month, which only reading dates needs, stays the source's
        return str(found).split(",")[0] == wanted
    return found == wanted


def check_options(found: Sequence[object], table: str, columns: Sequence[str]) -> None:
    """See that a session has this process's startup options, which bring the key of hash masks.

    Args:
        found: what ``read_terms`` gave.
        table: for the message.
        columns: those that are masked by hash; with none, the options do not matter.

    Raises:
        ConfigurationError: it has not.
    """
    if columns and found[len(TERMS)] != PROCESS:
        raise ConfigurationError(
            f"table {table}: the key that masks {', '.join(columns)} by hash did not reach the source's session. It "
            "goes there as a startup option, so that no statement and no log shows it, and a pooler drops or refuses "
            "those: connect to PostgreSQL itself (POSTGRES_HOST, POSTGRES_PORT), or declare 'mask: redact' or 'partial'"
        )
