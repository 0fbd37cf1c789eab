"""Tax ids against known ones and against the rule, written out a second time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.sample import cnpj

KNOWN = (
    "11222333000181",  # the example of every textbook
    "00000000000191",  # Banco do Brasil
    "33000167000101",  # Petrobras
    "60701190000104",  # Itaú
    "00394460005887",  # Receita Federal, an establishment other than the first
)


def made(root: int, establishment: int) -> str:
    return str(cnpj.tax_ids(np.array([root]), np.array([establishment]))[0].as_py())


@pytest.mark.parametrize("tax_id", KNOWN)
def test_known_tax_ids_are_made_and_accepted(tax_id: str) -> None:
    assert made(int(tax_id[:8]), int(tax_id[8:12])) == tax_id
    assert cnpj.is_valid(tax_id)


@given(st.integers(0, 10**8 - 1), st.integers(1, 9999))
def test_made_tax_ids_have_the_right_check_digits(root: int, establishment: int) -> None:
    tax_id = made(root, establishment)
    digits = [int(digit) for digit in tax_id]
    for length in (12, 13):
        total = sum(digit * (2 + place % 8) for place, digit in enumerate(reversed(digits[:length])))
        assert digits[length] == (11 - total % 11 if total % 11 > 1 else 0)
    assert len(tax_id) == 14
    assert int(tax_id[:8]) == root
    assert int(tax_id[8:12]) == establishment
    assert cnpj.is_valid(tax_id)


@given(st.integers(0, 10**8 - 1), st.integers(0, 13), st.integers(1, 9))
def test_one_wrong_digit_is_noticed(root: int, place: int, by: int) -> None:
    tax_id = made(root, 1)
    wrong = tax_id[:place] + str((int(tax_id[place]) + by) % 10) + tax_id[place + 1 :]
    # A rest of 0 and of 1 give the same check digit, so a wrong digit before them may go unnoticed only then.
    assert not cnpj.is_valid(wrong) or "0" in tax_id[12:]


@pytest.mark.parametrize(
    "text",
    ["", "1122233300018", "112223330001811", "11.222.333/0001-81", "1" * 14, "0" * 14, "1122233300018a", "٣" * 14],
)
def test_other_texts_are_no_tax_ids(text: str) -> None:
    assert not cnpj.is_valid(text)


def test_head_office() -> None:
    assert cnpj.head_office(made(11222333, 7)) == "11222333000181"


@pytest.mark.parametrize(("root", "establishment"), [(-1, 1), (10**8, 1), (1, 0), (1, 10_000)])
def test_numbers_out_of_range_are_refused(root: int, establishment: int) -> None:
    with pytest.raises(ValueError, match="CNPJ"):
        made(root, establishment)
