"""The sample's companies: rows of oltp.business_case_cnpj_ws."""

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from local.sample import columns, population
from local.sample.columns import Ints
from local.sample.reference import CNAES, LEGAL_NATURES, MEI_LEGAL_NATURE, SIZES, STATES, STATUSES
from local.sample.spec import CHUNK_ROWS, ODD_SHARE, SampleSpec, chunks, sliced

SCHEMA = pa.schema(
    [
        pa.field("buyer_tax_id", pa.string(), nullable=False),
        pa.field("share_capital", columns.MONEY),
        *(
            pa.field(name, pa.string())
            for name in (
                "company_size",
                "legal_nature",
                "company_status",
                "main_cnae",
                "state",
                "uf",
                "city",
                "zipcode",
            )
        ),
        *(pa.field(name, pa.bool_()) for name in ("simples_option", "is_mei", "is_main_company", "is_active")),
        pa.field("created_at", columns.INSTANT),
        pa.field("updated_at", columns.INSTANT),
    ]
)


class CompanyOddity(IntEnum):
    """What can be odd about a company. Every sample has each kind at least once, the first at company ODD_FROM."""

    NULL_CAPITAL = 1
    NEGATIVE_CAPITAL = 2
    NULL_ZIPCODE = 3
    SHORT_ZIPCODE = 4
    LONG_ZIPCODE = 5
    NULL_CNAE = 6
    NULL_STATE = 7
    PADDED_STATE = 8
    LOWER_CASE_UF = 9
    NULL_CREATED_AT = 10
    NULL_UPDATED_AT = 11
    NULL_CURSOR = 12
    FUTURE_UPDATED_AT = 13


ODD_FROM = 5
"""The companies before it show every status and every size instead."""

_STREAM = 1
_DAY = 86_400_000_000
_HISTORY_DAYS = 3_650

_CITIES = [(state, city) for state in STATES for city in state.cities]
_FIRST_CITY = np.cumsum([0, *(len(state.cities) for state in STATES)])
_ZIPCODES = np.array([state.zipcodes for state in STATES])
_SIZE_WEIGHTS = [weight for _, weight, _ in SIZES]
_MEDIAN_CAPITAL_CENTS = np.array([reais * 100 for _, _, reais in SIZES])


def _spellings(name: str) -> tuple[str, ...]:
    """The same name as different people type it; the weights are _SPELLING_WEIGHTS."""
    return (name, name.upper(), name.lower(), f" {name}", f"{name}  ", f"\t{name.upper()} ")


_SPELLING_WEIGHTS = (76, 10, 6, 3, 3, 2)
_PADDED = 4
_STATE_SPELLINGS = [spelling for state in STATES for spelling in _spellings(state.name)]
_UF_SPELLINGS = [spelling for state in STATES for spelling in (state.uf, state.uf.lower(), f" {state.uf} ")]
_UF_WEIGHTS = (90, 7, 3)
_CITY_SPELLINGS = [spelling for _, city in _CITIES for spelling in _spellings(city)]


def companies(spec: SampleSpec, *, batch_rows: int = CHUNK_ROWS) -> Iterator[pa.RecordBatch]:
    """All companies of a sample, in a fixed order.

    Args:
        spec: the sample.
        batch_rows: most rows in a batch; the values do not depend on it.
    """
    for chunk, first, rows in chunks(spec.companies):
        yield from sliced(_chunk(spec, spec.random(_STREAM, chunk), first, rows), batch_rows)


def company(spec: SampleSpec, number: int) -> dict[str, object]:
    """One ordinary, active company with a number the sample may not have reached; column name to value."""
    generator = spec.random(_STREAM + 100, number)
    zero = np.zeros(1, np.int64)
    batch = _rows(spec, generator, np.array([number]), zero, zero, columns.weighted(generator, _SIZE_WEIGHTS, 1))
    row: dict[str, object] = batch.to_pylist()[0]
    return row


def _chunk(spec: SampleSpec, generator: np.random.Generator, first: int, rows: int) -> pa.RecordBatch:
    numbers = np.arange(first, first + rows)
    odd = columns.odd_rows(generator, ODD_SHARE, len(CompanyOddity), rows)
    status = columns.weighted(generator, [weight for _, weight in STATUSES], rows)
    size = columns.weighted(generator, _SIZE_WEIGHTS, rows)
    if first == 0:
        odd[:ODD_FROM] = 0
        odd[ODD_FROM : ODD_FROM + len(CompanyOddity)] = list(CompanyOddity)
        status[: len(STATUSES)] = range(len(STATUSES))
        size[: len(SIZES)] = range(len(SIZES))
    return _rows(spec, generator, numbers, odd, status, size)


def _rows(
    spec: SampleSpec, generator: np.random.Generator, numbers: Ints, odd: Ints, status: Ints, size: Ints
) -> pa.RecordBatch:
    rows = len(numbers)

    capital = _MEDIAN_CAPITAL_CENTS[size] * generator.lognormal(0.0, 1.0, rows)
    capital = np.maximum(np.where(generator.random(rows) < 0.7, capital // 100_000 * 100_000, capital), 100_00)
    cents = capital.astype(np.int64)
    cents = np.where(odd == CompanyOddity.NEGATIVE_CAPITAL, -cents, cents)

    mei = (size == 0) & (generator.random(rows) < 0.35)
    legal_nature = columns.texts(
        [name for name, _ in LEGAL_NATURES], columns.weighted(generator, [weight for _, weight in LEGAL_NATURES], rows)
    )
    cnae = columns.texts(CNAES, generator.integers(0, len(CNAES), rows))
    state, uf, city, zipcode = _places(generator, odd)
    created, updated = _instants(spec, generator, odd)
    return pa.record_batch(
        [
            population.tax_ids(spec, numbers),
            columns.money(cents, odd == CompanyOddity.NULL_CAPITAL),
            columns.texts([name for name, _, _ in SIZES], size),
            columns.replaced(legal_nature, mei, pa.scalar(MEI_LEGAL_NATURE)),
            columns.texts([name for name, _ in STATUSES], status),
            columns.replaced(cnae, odd == CompanyOddity.NULL_CNAE, pa.scalar(None, pa.string())),
            state,
            uf,
            city,
            zipcode,
            pa.array(mei | ((size <= 1) & (generator.random(rows) < 0.6))),
            pa.array(mei),
            pa.array(~population.is_branch(numbers)),
            pa.array(status == 0),
            columns.instants(created, columns.is_any(odd, CompanyOddity.NULL_CREATED_AT, CompanyOddity.NULL_CURSOR)),
            columns.instants(updated, columns.is_any(odd, CompanyOddity.NULL_UPDATED_AT, CompanyOddity.NULL_CURSOR)),
        ],
        schema=SCHEMA,
    )


def _places(generator: np.random.Generator, odd: Ints) -> tuple[pa.Array, pa.Array, pa.Array, pa.Array]:
    """State, uf, city and zipcode, spelt in different ways."""
    rows = len(odd)
    state = columns.weighted(generator, [s.weight for s in STATES], rows)
    city = _FIRST_CITY[state] + generator.integers(0, 1_000_000, rows) % np.diff(_FIRST_CITY)[state]
    spelling = columns.weighted(generator, _SPELLING_WEIGHTS, rows)
    spelling = np.where(odd == CompanyOddity.PADDED_STATE, _PADDED, spelling)
    uf_spelling = columns.weighted(generator, _UF_WEIGHTS, rows)
    uf_spelling = np.where(odd == CompanyOddity.LOWER_CASE_UF, 1, uf_spelling)
    city_spelling = columns.weighted(generator, _SPELLING_WEIGHTS, rows)

    low, high = _ZIPCODES[state, 0], _ZIPCODES[state, 1]
    prefix = low + generator.integers(0, 1_000_000, rows) % (high - low + 1)
    zipcode = pc.utf8_lpad(pa.array(prefix * 1000 + generator.integers(0, 900, rows)).cast(pa.string()), 8, "0")
    with_hyphen = pc.binary_join_element_wise(
        pc.utf8_slice_codeunits(zipcode, 0, 5), pc.utf8_slice_codeunits(zipcode, 5), "-"
    )
    no_text = pa.scalar(None, pa.string())
    zipcode = columns.replaced(zipcode, odd == CompanyOddity.NULL_ZIPCODE, no_text)
    zipcode = columns.replaced(zipcode, odd == CompanyOddity.LONG_ZIPCODE, with_hyphen)
    zipcode = columns.replaced(zipcode, odd == CompanyOddity.SHORT_ZIPCODE, pc.utf8_slice_codeunits(zipcode, 1))

    unknown = odd == CompanyOddity.NULL_STATE
    return (
        columns.replaced(columns.texts(_STATE_SPELLINGS, state * len(_SPELLING_WEIGHTS) + spelling), unknown, no_text),
        columns.replaced(columns.texts(_UF_SPELLINGS, state * len(_UF_WEIGHTS) + uf_spelling), unknown, no_text),
        columns.texts(_CITY_SPELLINGS, city * len(_SPELLING_WEIGHTS) + city_spelling),
        zipcode,
    )


def _instants(spec: SampleSpec, generator: np.random.Generator, odd: Ints) -> tuple[Ints, Ints]:
    """When the row was created and last updated: both before `as_of` begins, unless odd."""
    today = spec.as_of_day * _DAY
    age = (generator.random(len(odd)) * (_HISTORY_DAYS - 1) * _DAY).astype(np.int64) + _DAY
    since_update = (generator.random(len(odd)) ** 3 * age).astype(np.int64)
    future = generator.integers(2 * _DAY, 30 * _DAY, len(odd))
    return today - age, today + np.where(odd == CompanyOddity.FUTURE_UPDATED_AT, future, -since_update)
