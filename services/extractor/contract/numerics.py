"""PostgreSQL's numeric: its digits from the catalog's modifier, and the SQL that brings it without rounding."""

from dataclasses import dataclass

from services.core.tables import ColumnType

ENGINE_DIGITS = 38
"""The most digits of a decimal that the engine reads from PostgreSQL (DuckDB's DECIMAL)."""


@dataclass(frozen=True)
class Digits:
    """How many digits a decimal has room for before and after its point; neither is negative."""

    integer: int
    fraction: int

    @property
    def all(self) -> int:
        """Digits together; at least one."""
        return max(self.integer + self.fraction, 1)

    def fit(self, room: "Digits") -> bool:
        """Whether every value of so many digits has room."""
        return self.integer <= room.integer and self.fraction <= room.fraction


ROOM = {ColumnType.NUMERIC: Digits(29, 9), ColumnType.BIGNUMERIC: Digits(38, 38)}
"""What BigQuery's types hold whole. BIGNUMERIC has room for a part of the 39th digit, which Parquet's decimals, of 76
digits at most in Arrow, do not reach (https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types)."""


def numeric_digits(modifier: int) -> Digits | None:
    """The digits of a numeric by its type modifier; None when it is not constrained.

    The modifier is ((precision << 16) | scale) + 4, the scale signed in its lowest 11 bits: since PostgreSQL 15 it
    may be negative, numeric(3,-2), or larger than the precision (numerictypmodin in PostgreSQL's numeric.c).
    """
    if modifier < 4:
        return None
    precision = ((modifier - 4) >> 16) & 0xFFFF
    scale = (((modifier - 4) & 0x7FF) ^ 0x400) - 0x400
    return Digits(max(precision - scale, 0), max(scale, 0))


def engine_type(digits: Digits | None) -> str | None:
    """The PostgreSQL type as which the engine reads such a numeric exactly; None when there is none.

    Without a precision the engine would read floating point, and of more than 38 digits too (DuckDB 1.5.5).
    """
    if digits is None or digits.all > ENGINE_DIGITS:
        return None
    return f"numeric({digits.all},{digits.fraction})"


def outside(expression: str, digits: Digits | None, room: Digits) -> str:
    """SQL condition: a numeric that has no room, or is NaN or an infinity. Unknown for a null.

    NaN is larger than every other number (https://www.postgresql.org/docs/current/datatype-numeric.html).
    """
    if digits is not None and digits.fit(room):
        return f"{expression} = 'NaN'::numeric"  # a numeric with a precision cannot be infinite
    return f"NOT (abs({expression}) < 1e{room.integer} AND {expression} = round({expression}, {room.fraction}))"
