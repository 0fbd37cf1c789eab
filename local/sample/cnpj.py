"""Company tax ids (CNPJ): eight digits of root, four of establishment, two check digits."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

ROOTS = 10**8
"""How many roots there are."""

_FIRST_WEIGHTS = (5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
_SECOND_WEIGHTS = (6, *_FIRST_WEIGHTS)

Ints = npt.NDArray[np.int64]


def tax_ids(roots: Ints, establishments: Ints) -> pa.Array:
    """Complete tax ids, 14 digits without punctuation.

    Args:
        roots: 0 to 99,999,999.
        establishments: 1 (the head office) to 9,999.

    Raises:
        ValueError: a number is outside its range.
    """
    if len(roots) and not (roots.min() >= 0 and roots.max() < ROOTS):
        raise ValueError(f"a CNPJ root has eight digits; got {roots.min()} to {roots.max()}")
    if len(establishments) and not (establishments.min() >= 1 and establishments.max() <= 9999):
        raise ValueError(f"a CNPJ establishment is 1 to 9999; got {establishments.min()} to {establishments.max()}")
    base = roots * 10_000 + establishments
    first = _check_digits(base, _FIRST_WEIGHTS)
    second = _check_digits(base * 10 + first, _SECOND_WEIGHTS)
    return pc.utf8_lpad(pa.array(base * 100 + first * 10 + second).cast(pa.string()), 14, "0")


def is_valid(tax_id: str) -> bool:
    """Whether a text is 14 digits, not all the same, with the right check digits."""
    if len(tax_id) != 14 or not tax_id.isascii() or not tax_id.isdigit() or len(set(tax_id)) == 1:
        return False
    digits = [int(digit) for digit in tax_id]
    return digits[12] == _check_digit(digits[:12], _FIRST_WEIGHTS) and digits[13] == _check_digit(
        digits[:13], _SECOND_WEIGHTS
    )


def head_office(tax_id: str) -> str:
    """The tax id of the head office (establishment 0001) of the same company.

    Raises:
        ValueError: the text does not start with eight digits.
    """
    return str(tax_ids(np.array([int(tax_id[:8])]), np.array([1]))[0].as_py())


def _check_digit(digits: list[int], weights: tuple[int, ...]) -> int:
    rest = sum(digit * weight for digit, weight in zip(digits, weights, strict=True)) % 11
    return 0 if rest < 2 else 11 - rest


def _check_digits(numbers: Ints, weights: tuple[int, ...]) -> Ints:
    total = np.zeros_like(numbers)
    left = numbers
    for weight in reversed(weights):
        total += left % 10 * weight
        left = left // 10
    rest = total % 11
    return np.where(rest < 2, 0, 11 - rest)
