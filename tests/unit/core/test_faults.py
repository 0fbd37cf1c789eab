"""Fault points: the list and the code agree, and a point is without effect unless it is armed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.core.faults import FAULT_POINTS, fault_point

SERVICES = Path(__file__).parents[3] / "services"


def test_every_point_is_in_the_code_once_and_every_call_is_in_the_list() -> None:
    calls = [
        name
        for file in SERVICES.rglob("*.py")
        for name in re.findall(r'fault_point\("([a-z_.]+)"\)', file.read_text(encoding="utf-8"))
    ]
    assert sorted(calls) == sorted(FAULT_POINTS)


def test_a_point_that_is_not_armed_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAULT_FILE", raising=False)
    fault_point("loader.loaded")
    monkeypatch.setenv("FAULT_FILE", str(tmp_path / "fault"))
    fault_point("loader.loaded")
    (tmp_path / "fault").write_text("loader.archived")
    fault_point("loader.loaded")
    assert (tmp_path / "fault").exists()


def test_an_armed_point_ends_the_process_once(tmp_path: Path) -> None:
    file = tmp_path / "fault"
    file.write_text("loader.archived\nloader.loaded")
    command = [sys.executable, "-c", "from services.core.faults import fault_point; fault_point('loader.loaded')"]
    environment = {"FAULT_FILE": str(file), "PYTHONPATH": str(SERVICES.parent)}
    assert subprocess.run(command, env=environment, check=False).returncode == -9
    assert file.read_text() == "loader.archived"
    assert subprocess.run(command, env=environment, check=False).returncode == 0
