"""Masks: the secret never reaches a statement, and the pads are RFC 2104's."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.core.tables import Mask
from services.extractor.contract.masking import INNER_SETTING, OUTER_SETTING, mask_settings, masked


def hmac_of(message: bytes, settings: dict[str, str]) -> str:
    """What the SQL expression computes."""
    inner, outer = bytes.fromhex(settings[INNER_SETTING]), bytes.fromhex(settings[OUTER_SETTING])
    return hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).hexdigest()


@given(st.text(min_size=1, max_size=200).filter(lambda s: s.isprintable()), st.binary(max_size=200))
def test_the_pads_make_hmac_sha_256(secret: str, message: bytes) -> None:
    """Also of keys longer than a block of 64 bytes."""
    expected = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    assert hmac_of(message, mask_settings(SecretStr(secret))) == expected


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_keys_around_the_block_size(length: int) -> None:
    secret = "k" * length
    expected = hmac.new(secret.encode(), b"value", hashlib.sha256).hexdigest()
    assert hmac_of(b"value", mask_settings(SecretStr(secret))) == expected


def test_an_empty_secret_is_none() -> None:
    with pytest.raises(ValueError, match="empty"):
        mask_settings(SecretStr(""))


def test_the_statement_has_the_settings_names_and_no_value() -> None:
    statement = masked(Mask.HASH, '"c"', 4)
    inner = "(SELECT pg_catalog.decode(pg_catalog.current_setting('credix.mask_inner'), 'hex'))"
    outer = "(SELECT pg_catalog.decode(pg_catalog.current_setting('credix.mask_outer'), 'hex'))"
    once = f"pg_catalog.sha256({inner} || pg_catalog.convert_to(\"c\"::text, 'UTF8'))"
    assert statement == f"pg_catalog.encode(pg_catalog.sha256({outer} || {once}), 'hex')"


def test_settings_are_safe_in_libpqs_options() -> None:
    """PGOPTIONS splits at blanks and knows backslashes."""
    settings = mask_settings(SecretStr("a b\\c 'd'"))
    assert all(len(value) == 128 and set(value) <= set("0123456789abcdef") for value in settings.values())
