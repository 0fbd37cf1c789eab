"""What is written down about a stack and the processes it names: nobody else's process is ever ended."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from local.stack.component import Component, HttpProbe
from local.stack.errors import ComponentError, StackBusyError, StackError, log_tail
from local.stack.home import Home
from local.stack.lock import locked
from local.stack.options import StackOptions
from local.stack.postgres import Cluster, PostgresAccess
from local.stack.process import ProcessId, find, kill, memory_bytes, spawn, stop
from local.stack.readiness import wait_until_ready
from local.stack.record import Keepsake, Stack, read_keepsake, read_stack, write_record
from local.stack.steps import Progress, Step, run_steps


def component(tmp_path: Path, program: str, **changes: object) -> Component:
    values = {
        "name": "thing",
        "argv": (sys.executable, "-c", program),
        "env": {"PATH": os.defpath},
        "cwd": tmp_path,
        "ports": {"thing": 1},
        "probe": HttpProbe(url="http://127.0.0.1:1/"),
        "log": tmp_path / "logs" / "thing.log",
    }
    return Component.model_validate(values | changes)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ProcessId]:
    process = spawn(component(tmp_path, "import time; time.sleep(60)"))
    yield process
    kill(process)


def wait_for(text: str, log: Path) -> None:
    limit = time.monotonic() + 10
    while text not in log.read_text():
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.02)


def test_a_record_comes_back_as_it_was_and_only_its_owner_reads_it(tmp_path: Path, sleeper: ProcessId) -> None:
    stack = Stack(
        options=StackOptions(home=tmp_path, profile="emulators", ephemeral=True),
        ports={"bus": 1},
        postgres=PostgresAccess(
            host="h", port=5, database="d", user="u", password=SecretStr("secret"), sslmode="disable"
        ),
        components=(component(tmp_path, "pass", stop_signal=signal.SIGINT),),
        processes={"thing": sleeper},
        started=datetime.now(UTC),
        complete=True,
    )
    path = tmp_path / "stack.json"
    write_record(path, stack)
    assert read_stack(path) == stack
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" not in repr(stack)

    keepsake = Keepsake(
        ports={"bus": 1},
        cluster=Cluster(
            folder=tmp_path, user=None, superuser_password=SecretStr("super"), password=SecretStr("secret")
        ),
    )
    write_record(path, keepsake)
    assert read_keepsake(path) == keepsake
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_record_is_none_and_a_foreign_one_is_named(tmp_path: Path) -> None:
    assert read_stack(tmp_path / "stack.json") is None
    (tmp_path / "stack.json").write_text('{"pids": [1]}')
    with pytest.raises(StackError, match=r"stack\.json"):
        read_stack(tmp_path / "stack.json")


def test_a_recycled_pid_is_not_signalled(sleeper: ProcessId) -> None:
    earlier = ProcessId(pid=sleeper.pid, created=sleeper.created - 60)
    assert find(earlier) is None
    assert stop(earlier, signal.SIGTERM, 1.0)
    kill(earlier)
    assert memory_bytes(earlier) is None
    assert find(sleeper) is not None


def test_a_process_is_stopped_when_asked(sleeper: ProcessId) -> None:
    assert stop(sleeper, signal.SIGTERM, 5.0)
    assert find(sleeper) is None
    assert stop(sleeper, signal.SIGTERM, 5.0)


def test_a_process_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    program = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, 'child', flush=True); "
        "time.sleep(60)"
    )
    stubborn = component(tmp_path, program)
    process = spawn(stubborn)
    wait_for(" child", stubborn.log)
    (child,) = psutil.Process(process.pid).children()
    assert not stop(process, signal.SIGTERM, 0.3)
    assert find(process) is None
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_component_outlives_its_starter_and_writes_to_its_log_only(tmp_path: Path) -> None:
    thing = component(tmp_path, "import time; print('hello', flush=True); time.sleep(60)")
    starter = "import sys; from local.stack.component import Component; from local.stack.process import spawn; "
    starter += "print(spawn(Component.model_validate_json(sys.argv[1])).model_dump_json())"
    done = subprocess.run(
        [sys.executable, "-c", starter, thing.model_dump_json()], capture_output=True, text=True, check=True, timeout=30
    )
    process = ProcessId.model_validate_json(done.stdout)
    try:
        assert find(process) is not None
        assert os.getsid(process.pid) == process.pid
        wait_for("hello", thing.log)
        assert done.stderr == ""
    finally:
        kill(process)
    assert find(process) is None


def test_a_component_that_ends_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    thing = component(tmp_path, "for n in range(50): print('line', n)\nraise SystemExit(3)")
    began = time.monotonic()
    with pytest.raises(ComponentError, match="thing ended before it was ready") as caught:
        wait_until_ready(thing, spawn(thing), threading.Event())
    assert time.monotonic() - began < 5
    message = str(caught.value)
    assert "line 49" in message
    assert "line 29" not in message
    assert str(thing.log) in message
    assert sys.executable in message


def test_a_component_that_never_answers_is_reported(tmp_path: Path) -> None:
    thing = component(tmp_path, "import time; time.sleep(60)", ready_seconds=0.3)
    process = spawn(thing)
    try:
        with pytest.raises(ComponentError, match="did not answer within 0 s"):
            wait_until_ready(thing, process, threading.Event())
    finally:
        kill(process)


def test_a_program_that_is_missing_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match=r"could not be started: .*No such file"):
        spawn(component(tmp_path, "", argv=("/no/such/program",)))


def test_the_tail_of_no_log_is_empty(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "none.log") == ""


def test_the_lock_is_held_by_one_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "stack.lock"
    with locked(path, 0.1):
        with pytest.raises(StackBusyError, match=r"stack\.lock"), locked(path, 0.3):
            pytest.fail("two hold the lock")
        path.unlink()  # a `down` that removes the data
    with locked(path, 0.1):
        pass


def test_removing_data_leaves_other_people_s_files(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    home.make()
    (home.root / "notes.txt").write_text("mine")
    for file in (home.state, home.bus, home.keepsake, home.lock, home.logs / "a.log", home.storage / "b"):
        file.write_text("x")
    home.remove_data(keep_logs=True)
    assert {path.name for path in home.root.iterdir()} == {"notes.txt", "logs"}
    (home.root / "notes.txt").unlink()
    home.remove_data()
    assert not home.root.exists()


def test_steps_wait_for_what_they_need_and_run_together_otherwise() -> None:
    both_at_work = threading.Barrier(2, timeout=5)
    done: list[str] = []

    def together(name: str) -> Step:
        def action(cancel: threading.Event) -> None:
            both_at_work.wait()
            done.append(name)

        return Step(name, action)

    seen: list[Progress] = []
    after = Step("c", lambda cancel: done.append("c"), frozenset({"a", "b", "already there"}))
    run_steps([after, together("a"), together("b")], seen.append)
    assert done[-1] == "c"
    assert {(progress.name, progress.state) for progress in seen} == {
        (name, state) for name in "abc" for state in ("starting", "ready")
    }


def test_a_failed_step_cancels_the_others_and_waits_for_them() -> None:
    ended = threading.Event()

    def slow(cancel: threading.Event) -> None:
        assert cancel.wait(10)
        time.sleep(0.2)
        ended.set()

    def fail(cancel: threading.Event) -> None:
        raise StackError("broken")

    never = Step("never", lambda cancel: pytest.fail("was started"), frozenset({"fails"}))
    seen: list[Progress] = []
    with pytest.raises(StackError, match="broken"):
        run_steps([Step("slow", slow), Step("fails", fail), never], seen.append)
    assert ended.is_set()
    assert "failed" in {progress.state for progress in seen if progress.name == "fails"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_component_runs_as_its_user_and_with_no_group_of_the_caller_s(tmp_path: Path) -> None:
    thing = component(
        tmp_path,
        "",
        argv=("sh", "-c", "id -un; id -Gn; sleep 60"),
        cwd=Path("/"),
        user="nobody",
    )
    process = spawn(thing)
    try:
        wait_for("nobody\nnogroup\n", thing.log)
        assert psutil.Process(process.pid).username() == "nobody"
    finally:
        kill(process)
