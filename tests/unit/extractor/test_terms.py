"""Settings that were read back are compared with those that were set, and what differs is refused by name."""

import pytest

from services.core.errors import ConfigurationError
from services.core.tables import Column, ColumnType, Mask, Mode, Table
from services.extractor.source.terms import (
    PROCESS,
    TERMS,
    check_options,
    check_terms,
    hashed,
    read_terms,
    set_terms,
)


def read_back(**differing: object) -> list[object]:
    """What a session gives that keeps all but these."""
    kept = {**TERMS, "DateStyle": "ISO, DMY", **differing}
    return [*kept.values(), None]


def test_every_term_is_set_for_the_transaction_only_and_read_back() -> None:
    assert all(statement.startswith("SET LOCAL ") for statement in set_terms())
    assert len(set_terms()) == len(TERMS)
    assert all(f"pg_catalog.current_setting('{name}')" in read_terms() for name in TERMS)
    assert "SET LOCAL search_path = pg_catalog, pg_temp" in set_terms(), "a list, not one name with a comma in it"


def test_a_session_that_keeps_the_terms_is_taken() -> None:
    check_terms(read_back())


@pytest.mark.parametrize("name", TERMS)
def test_a_session_that_does_not_keep_one_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is other, not .*connect to PostgreSQL itself"):
        check_terms(read_back(**{name: "other"}))


def test_only_a_table_with_hash_masks_needs_the_processs_startup_options() -> None:
    columns = [Column(name=name, type=ColumnType.STRING, mask=mask) for name, mask in (("a", None), ("b", Mask.HASH))]
    table = Table(name="t", source="s.t", mode=Mode.SNAPSHOT, bronze_model="t", columns=columns)
    assert hashed(table) == ["b"]
    check_options(read_back(), "t", [])
    check_options([*TERMS.values(), PROCESS], "t", ["b"])
    for mark in (None, "another process's"):
        with pytest.raises(ConfigurationError, match="table t: the key that masks b by hash did not reach"):
            check_options([*TERMS.values(), mark], "t", ["b"])
