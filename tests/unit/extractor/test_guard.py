"""When a session has reached the server and the rows that its plan was made for."""

import pytest

from services.core.errors import TransientError
from services.extractor.planning.plan import Plan
from services.extractor.reading.guard import SourceRewritten, check_server, check_storage
from services.extractor.source.server import Server, answered, asking
from services.extractor.source.storage import Storage

PRIMARY = Server(database=5, in_recovery=False, system="71", timeline=1, position=1_000)
REPLICA = PRIMARY.model_copy(update={"in_recovery": True})


def plan(server: Server | None = PRIMARY, layout: str = "1/10 2/20") -> Plan:
    return Plan(
        batch_id="b", table="t", execution="", select="SELECT 1", condition="", columns=[], flags=[], bounds=[0],
        layout=layout, server=server, estimated_rows=1,
    )  # fmt: skip


def storage(layout: str, *filled: str) -> Storage:
    return Storage(1, 1, 8192, 1.0, by_pages=True, layout=layout, filled=frozenset(filled))


@pytest.mark.parametrize("planned", [PRIMARY, REPLICA])
def test_the_same_server_later(planned: Server) -> None:
    check_server(plan(planned), planned)
    check_server(plan(planned), planned.model_copy(update={"position": 2_000}))


@pytest.mark.parametrize("silent", ["system", "timeline", "position"])
def test_what_a_server_does_not_say_is_not_compared(silent: str) -> None:
    quiet = PRIMARY.model_copy(update={silent: None})
    check_server(plan(quiet), PRIMARY)
    check_server(plan(PRIMARY), quiet)


def test_a_plan_of_an_earlier_release_knows_no_server() -> None:
    check_server(plan(None), PRIMARY)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (REPLICA, "it was a primary and is a replica"),
        (PRIMARY.model_copy(update={"database": 6}), "another database"),
        (PRIMARY.model_copy(update={"system": "72"}), "another cluster"),
        (PRIMARY.model_copy(update={"timeline": 2, "position": 2_000}), "its timeline was 1 and is 2"),
        (PRIMARY.model_copy(update={"position": 900}), "100 bytes of WAL behind"),
    ],
)
def test_another_server(found: Server, why: str) -> None:
    with pytest.raises(SourceRewritten, match=why):
        check_server(plan(), found)


def test_a_replica_that_is_behind_gets_there() -> None:
    with pytest.raises(TransientError, match="100 bytes of WAL behind") as raised:
        check_server(plan(REPLICA), REPLICA.model_copy(update={"position": 900}))
    assert not isinstance(raised.value, SourceRewritten), "it is tried again"


def test_only_what_was_answered_is_asked_again() -> None:
    statement = asking(PRIMARY.model_copy(update={"system": None}))
    assert "pg_control_system" not in statement
    assert "pg_walfile_name" in statement
    assert answered((5, False, None, 1, 1_000)) == PRIMARY.model_copy(update={"system": None})


def test_the_same_rows_in_the_same_places() -> None:
    check_storage(plan(), storage("1/10 2/20", "1/10", "2/20"))
    check_storage(plan(), storage("1/10 2/20 3/30", "1/10", "2/20"))


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (storage("1/10 2/21", "1/10", "2/21"), "1 relation.s. were moved or taken out"),
        (storage("1/10", "1/10"), "1 relation.s. were moved or taken out"),
        (storage("1/10 2/20 3/30", "1/10", "2/20", "3/30"), "1 partition.s. with rows were attached"),
    ],
)
def test_other_places(found: Storage, why: str) -> None:
    with pytest.raises(SourceRewritten, match=why):
        check_storage(plan(), found)
