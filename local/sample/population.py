"""Which companies there are, as pure functions of a company's number: any chunk can ask about any company."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from local.sample import cnpj
from local.sample.spec import SampleSpec

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

UNKNOWN_COMPANIES = 50
"""How many companies installments refer to that no company row exists for."""

_BRANCH_EVERY, _BRANCH_AT = 12, 11
_SILENT_EVERY, _SILENT_AT = 25, 7
_ROOT_STEP = 61_803_397  # odd and no multiple of 5: a permutation of the roots


def is_branch(numbers: Ints) -> npt.NDArray[np.bool_]:
    """Whether a company is a branch; its head office is the company before it."""
    return np.equal(numbers % _BRANCH_EVERY, _BRANCH_AT)


def tax_ids(spec: SampleSpec, numbers: Ints) -> pa.Array:
    """The companies' own tax ids, all different."""
    branch = is_branch(numbers)
    return cnpj.tax_ids(_roots(spec, numbers - branch), 1 + branch.astype(np.int64))


def main_tax_ids(spec: SampleSpec, numbers: Ints) -> pa.Array:
    """The tax ids of the companies' head offices."""
    return cnpj.tax_ids(_roots(spec, numbers - is_branch(numbers)), np.ones_like(numbers))


def unknown(draws: Ints) -> Ints:
    """Numbers of companies that are in no sample."""
    return cnpj.ROOTS - 1 - draws % UNKNOWN_COMPANIES * _BRANCH_EVERY


def with_installments(companies: int, draws: Floats) -> Ints:
    """Companies drawn by numbers in [0, 1): a few have many installments, one in 25 never has any."""
    silent = max(0, (companies - 1 - _SILENT_AT) // _SILENT_EVERY + 1)
    active = companies - silent
    nth = np.minimum((draws**1.5 * active).astype(np.int64), active - 1)
    number: Ints = nth + (nth + _SILENT_EVERY - 1 - _SILENT_AT) // (_SILENT_EVERY - 1)
    return number


def punctuality(spec: SampleSpec, numbers: Ints) -> Floats:
    """How well a company pays: 0 never on time, 1 always; two thirds on average."""
    return np.sqrt(_uniform(spec, numbers, 1))


def scale(spec: SampleSpec, numbers: Ints) -> Floats:
    """Size of a company's typical installment relative to the median company: 0.2 to 5."""
    factor: Floats = np.exp((2 * _uniform(spec, numbers, 2) - 1) * np.log(5.0))
    return factor


def _roots(spec: SampleSpec, numbers: Ints) -> Ints:
    return (numbers * _ROOT_STEP + spec.seed % cnpj.ROOTS * 7_919 + 1_000_003) % cnpj.ROOTS


def _uniform(spec: SampleSpec, numbers: Ints, stream: int) -> Floats:
    """A number in [0, 1) per company, from a hash (splitmix64) of seed, stream and company."""
    mask = 2**64 - 1
    start = np.uint64((spec.seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) & mask)
    mixed = (numbers.astype(np.uint64) + start) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53
