"""`credix status`: the first line says what needs a person; readable at 80 columns; JSON says the same."""

import io
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from services.core.batch import Batch, BatchError, BatchState
from services.core.errors import TransientError
from services.core.health.attention import Cause
from services.core.health.overview import Objects, Overview, TableOverview
from services.core.settings import OpsSettings
from services.core.state.extractions import ExtractionError, LastExtractions
from services.core.state.lease import LeaseView
from services.core.storage import StoredObject
from services.core.tables import Column, ColumnType, Mode, Table
from services.core.window import Window
from services.ops.dead_letters import DeadLetters
from services.ops.questions import Question
from services.ops.status import WORDS, Status, judged, not_seen
from services.ops.status_text import print_status

NOW = datetime(2026, 11, 23, 6, 24, tzinfo=UTC)
SETTINGS = OpsSettings.model_validate({"GCP_PROJECT": "p"})
LONG = "a_table_with_a_name_of_forty_characters_"


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def batch(state: BatchState = BatchState.MERGED, **facts: object) -> Batch:
    at = ago(hours=2)
    return Batch.model_validate(
        {
            "id": f"{at:%Y%m%dT%H%M%S%f}Z-00000000",
            "run_id": "r",
            "table": "t",
            "mode": Mode.SNAPSHOT,
            "window": Window(low=None, high=at),
            "extracted_at": at,
            "started_at": at,
            f"{state}_at": at,
            "state": state,
            "open": False,
            "rows": 4_844_529,
        }
        | facts
    )


def table(name: str = "cnpj_ws", *batches: Batch, failing: bool = False) -> TableOverview:
    declared = Table(
        name=name, source="s.t", key=["id"], mode=Mode.SNAPSHOT, bronze_model="t",
        columns=[Column(name="id", type=ColumnType.INT64, required=True)],
    )  # fmt: skip
    last = LastExtractions.first(name, "r", ago(hours=5, minutes=4)).succeeded(ago(hours=5, minutes=4), "b", None)
    if failing:
        why = ExtractionError(kind="OperationalError", message="[red]password authentication failed[/] for [user]")
        last = last.begun("r2", ago(hours=5, minutes=4)).failed(ago(hours=5, minutes=4), why, None)
    return TableOverview(declared, ago(hours=2), list(batches) or [batch()], last, LeaseView(None, 1, ago(hours=1)))


def seen(*tables: TableOverview, failed: int = 0) -> Overview:
    objects = [StoredObject("b", f"{SETTINGS.failed_prefix}/x{number}.txt", 1, 1, "c", NOW) for number in range(failed)]
    return Overview(NOW, SETTINGS.late_after, list(tables), Objects([], objects), left=False, last_run=None)


def status(*tables: TableOverview, letters: tuple[DeadLetters, ...] = (), failed: int = 0) -> Status:
    return judged(SETTINGS, seen(*tables, failed=failed), list(letters), [])


def shown(found: Status, width: int = 80) -> list[str]:
    """The lines as a terminal of a width shows them."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_status(found, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def test_the_first_lines_say_what_needs_a_person() -> None:
    lines = shown(status(table(failing=True)))
    assert " ".join(lines[:3]) == (
        "cnpj_ws: the last extraction failed 5 h 4 min ago (2026-11-23 01:20 UTC): OperationalError: "
        "[red]password authentication failed[/] for [user]. Correct that, then: credix extract --table cnpj_ws"
    ), "brackets are no markup"
    assert lines[3] == ""


def test_the_first_line_says_when_nothing_needs_a_person() -> None:
    assert shown(status(table()))[0] == "Nothing needs a person: 1 table, the furthest behind is cnpj_ws, by 2 h."


def test_a_row_is_what_people_ask_for() -> None:
    row = next(line for line in shown(status(table())) if line.startswith("cnpj_ws "))
    assert row.split() == ["cnpj_ws", "merged", "2", "h", "2026-11-23", "04:24", "4,844,529", "0", "0"]


@pytest.mark.parametrize("name", ["t", LONG])
def test_eighty_columns_are_enough(name: str) -> None:
    held = batch(BatchState.HELD, open=True, hold=BatchError(code="too_many_deletes", message="m"), drift=["x" * 100])
    found = status(table(name, batch(rows=9_007_199_254), held, failing=True), table("u", failing=True), failed=12)
    lines = shown(found)
    assert [line for line in lines if len(line) > 80] == []
    [heading] = [line for line in lines if line.startswith("table ")]
    assert heading.split() == ["table", "state", "behind", "complete", "up", "to", "rows", "on", "way", "failed"]
    cells = [line for line in lines if "failing" in line and "2026-11-23 04:24" in line]
    assert len(cells) == 2, "no cell is broken in two"


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(status(table(failing=True), table("u")).model_dump_json())
    [need] = told["needs_attention"]
    assert (need["cause"], need["table"], need["since"]) == ("extraction_failed", "cnpj_ws", "2026-11-23T01:20:00Z")
    assert need["sentence_now"].startswith("cnpj_ws: the last extraction failed 5 h 4 min ago")
    assert {row["table"]: row["state"] for row in told["tables"]} == {"cnpj_ws": "failing", "u": "merged"}
    assert told["tables"][0]["extractions"]["failures"] == 1


def test_dead_letters_and_what_cannot_be_looked_at_need_a_person() -> None:
    letters = (
        DeadLetters(subscription="landing", messages=2, objects=["landing/x", "landing/y"]),
        DeadLetters(subscription="loaded", messages=0, objects=[], error="404 not there"),
        DeadLetters(subscription="fine", messages=0, objects=[]),
    )
    found = status(table(), letters=letters).needs_attention
    assert [(need.cause, need.about) for need in found] == [(Cause.UNSEEN, "loaded"), (Cause.DEAD_LETTERS, "landing")]
    assert found[1].sentence_now.startswith(
        "landing: 2 events could not be handled in all attempts: landing/x, landing/y."
    )


def test_what_did_not_answer_comes_first() -> None:
    unseen = [not_seen("state", TransientError("no answer within 25 s"))]
    found = judged(SETTINGS, seen(failed=1), [], unseen)
    assert [need.cause for need in found.needs_attention] == [Cause.UNSEEN, Cause.OBJECTS_FAILED]
    assert shown(found)[0].startswith("state: it could not be looked at: TransientError: no answer within 25 s.")


def test_every_cause_of_a_table_is_a_word() -> None:
    of_no_table = {Cause.UNSEEN, Cause.DOWNSTREAM_FAILED, Cause.DEAD_LETTERS, Cause.OBJECTS_FAILED, Cause.OBJECTS_WAIT}
    of_no_table |= {Cause.TESTS_FAILED, Cause.AUDIT_FAILED, Cause.AUDIT_LATE}
    assert set(WORDS) == set(Cause) - of_no_table


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"lease": LeaseView("r9", 2, NOW + timedelta(seconds=9))}, "extracting"),
        ({"batches": [batch(BatchState.LOADED, open=True, loaded_at=ago(minutes=1))]}, "loaded"),
        ({"batches": []}, "no changes"),
    ],
)
def test_a_table_that_needs_nobody_is_told_by_what_it_does(facts: dict[str, object], word: str) -> None:
    [row] = status(replace(table(), **facts)).tables  # type: ignore[arg-type]
    assert row.state == word


def test_objects_are_counted_by_table() -> None:
    found = status(table(), failed=3)
    assert (found.tables[0].failed_objects, found.unknown_failed_objects) == (0, 3)
    assert "Objects of no declared table: 0 in landing/, 3 in failed/" in shown(found)


def test_a_question_that_is_not_answered_in_time_says_so() -> None:
    slow = Question(lambda: time.sleep(5))
    with pytest.raises(TransientError, match="no answer within 0 s"):
        slow.answer(0.1)
    assert Question(lambda: 7).answer() == 7

    def fails() -> int:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError, match="away"):
        Question(fails).answer()
