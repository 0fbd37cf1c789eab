"""Masks, computed inside PostgreSQL with nothing but its built-in functions: what leaves it is masked already."""

import hashlib
import hmac

from pydantic import SecretStr

from services.core.tables import Mask

INNER_SETTING = "credix.mask_inner"
OUTER_SETTING = "credix.mask_outer"

_BLOCK_BYTES = 64
"""Block size of SHA-256."""


def mask_settings(secret: SecretStr) -> dict[str, str]:
    """The session settings that ``hash`` needs: RFC 2104's two pads of the secret, in hexadecimal digits.

    They are given when the session starts: a statement shows in pg_stat_activity, in the server's log and in
    ``--dry-run``, and the secret must not. Who has the pads can compute the hashes, so they are as secret as it is.

    Raises:
        ValueError: the secret is empty.
    """
    key = secret.get_secret_value().encode()
    if not key:
        raise ValueError("the secret for masks is empty")
    if len(key) > _BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    block = key.ljust(_BLOCK_BYTES, b"\0")
    return {
        INNER_SETTING: bytes(byte ^ 0x36 for byte in block).hex(),
        OUTER_SETTING: bytes(byte ^ 0x5C for byte in block).hex(),
    }


def secret_digits(secret: str) -> str:
    """Eight hexadecimal digits that change with the secret, and say no more of it than a masked value does."""
    return hmac.new(secret.encode(), b"credix", hashlib.sha256).hexdigest()[:8]


def masked(mask: Mask, expression: str, keep: int) -> str:
    """SQL expression of a masked value, a text; a null stays null.

    Args:
        mask: how.
        expression: SQL expression of the value, of any type; its text is what is masked.
        keep: characters that ``partial`` leaves.
    """
    match mask:
        case Mask.HASH:
            return _hmac(f"pg_catalog.convert_to({expression}::text, 'UTF8')")
        case Mask.REDACT:
            # Not IS NULL, which a composite with a null inside answers in its own way.
            return f"CASE WHEN pg_catalog.num_nulls({expression}) = 0 THEN '***'::text END"
        case Mask.PARTIAL:
            text = f"{expression}::text"
            return (
                f"CASE WHEN pg_catalog.length({text}) > {keep} "
                f"THEN pg_catalog.repeat('*', pg_catalog.length({text}) - {keep}) || pg_catalog.right({text}, {keep}) "
                f"ELSE pg_catalog.repeat('*', pg_catalog.length({text})) END"
            )


def _hmac(message: str) -> str:
    """HMAC-SHA-256 of a bytea, in lower-case hexadecimal digits: sha256(outer || sha256(inner || message))."""
    inner, outer = _pad(INNER_SETTING), _pad(OUTER_SETTING)
    return f"pg_catalog.encode(pg_catalog.sha256({outer} || pg_catalog.sha256({inner} || {message})), 'hex')"


def _pad(setting: str) -> str:
    """A pad from the session, as a subquery that does not depend on the row: computed once per statement.

    A session without the setting fails the statement.
    """
    return f"(SELECT pg_catalog.decode(pg_catalog.current_setting('{setting}'), 'hex'))"
