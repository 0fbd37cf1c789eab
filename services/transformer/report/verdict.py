"""The page's verdict: how many of what are wrong, and how bad the worst of it is."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from services.core.batch import BatchState
from services.core.health.attention import DECIDED, SOFT, Cause
from services.core.health.standing import Standing
from services.core.words import counted
from services.transformer.report.facts import Facts

Tone = Literal["good", "way", "bad"]

_WORDS: dict[Cause, tuple[str, str]] = {
    Cause.UNSEEN: ("thing cannot be looked at", "things cannot be looked at"),
    Cause.EXTRACTION_FAILED: ("table cannot be extracted", "tables cannot be extracted"),
    Cause.EXTRACTION_INTERRUPTED: ("extraction was interrupted", "extractions were interrupted"),
    Cause.BATCH_HELD: ("batch waits for a person", "batches wait for a person"),
    Cause.BATCH_FAILED: ("batch failed", "batches failed"),
    Cause.BATCH_IN_TROUBLE: ("batch is tried again and again", "batches are tried again and again"),
    Cause.EXTRACTION_IN_TROUBLE: ("extraction reads again what broke off", "extractions read again what broke off"),
    Cause.BATCH_WAITS: ("batch does not get on", "batches do not get on"),
    Cause.DEAD_LETTERS: ("subscription has dead letters", "subscriptions have dead letters"),
    Cause.OBJECTS_FAILED: ("object in failed/ is of no batch", "objects in failed/ are of no batch"),
    Cause.OBJECTS_WAIT: ("object lies in landing/", "objects lie in landing/"),
    Cause.LATE: ("table is late", "tables are late"),
    Cause.AUDIT_FAILED: ("test, or audit, could not be run", "tests, or audits, could not be run"),
    Cause.AUDIT_LATE: ("audit is late", "audits are late"),
    Cause.NEVER_EXTRACTED: ("table was never extracted", "tables were never extracted"),
}
"""For one, and for several."""


@dataclass(frozen=True)
class Verdict:
    """How the pipeline is."""

    tone: Tone
    """The worst that is the case."""
    sentence: str


def verdict(facts: Facts) -> Verdict:
    """Count what needs a person, and what the tests found."""
    said: list[str] = []
    tone: Tone = "good"
    run = facts.runs[-1] if facts.runs else None
    if run is not None and run.outcome == "failed":
        problems = "; ".join(map(str, run.details.get("problems", []))) or "the log says why"
        said, tone = [f"the last run failed: {problems}"], "bad"
    counts: Counter[Cause] = Counter()
    failing = len(_with(facts, "fail"))
    for need in facts.needs:
        if need.cause is Cause.TESTS_FAILED:
            failing = max(failing, need.count)  # told below
        elif need.cause is not Cause.DOWNSTREAM_FAILED:  # that is the last run, or is told below
            counts[need.cause] += need.count
        elif not said:
            said, tone = [need.what], "bad"
    for cause in Cause:
        if number := counts[cause]:
            said.append(counted(number, *_WORDS[cause]))
            tone = _worse(tone, "way" if cause in SOFT else "bad")
    if failing:
        said.append(f"{counted(failing, 'test fails', 'tests fail')}{_rows(_with(facts, 'fail'))}")
        tone = "bad"
    if warning := _with(facts, "warn"):
        said.append(f"{counted(len(warning), 'test warns', 'tests warn')}{_rows(warning)}")
        tone = _worse(tone, "way")
    return Verdict(tone, _sentence(said) if said else _good(facts))


def _sentence(said: list[str]) -> str:
    text = ", ".join(said)
    return f"{text[0].upper()}{text[1:]}"


def _worse(one: Tone, other: Tone) -> Tone:
    order: list[Tone] = ["good", "way", "bad"]
    return max(one, other, key=order.index)


def _with(facts: Facts, status: str) -> list[Standing]:
    return [test for test in facts.tests if test.status == status]


def _rows(tests: list[Standing]) -> str:
    rows = sum(test.failures or 0 for test in tests)
    return f" ({counted(rows, 'row')})" if rows else ""


def _good(facts: Facts) -> str:
    tests = "all tests pass" if facts.tests else "no test has run"
    failed = [
        batch
        for batch in facts.batches
        if batch.state is BatchState.FAILED and not (batch.error is not None and batch.error.code in DECIDED)
    ]
    words = ("failed batch was made up for", "failed batches were made up for")
    made_up = f"; {counted(len(failed), *words)}" if failed else ""
    return f"All tables are up to date, {tests}{made_up}"
