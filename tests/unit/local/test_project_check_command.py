"""What ``python -m local.project_check`` says, and its exit codes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.googlesql import analysis, compiled
from local.project_check import __main__ as command
from local.project_check import check as checks
from local.project_check.check import Findings
from services.core.errors import ConfigurationError

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Findings:
    """What the two checks find, each."""
    found = Findings(analyzed=3, merges=1, compared=5, problems=[])
    monkeypatch.setattr(analysis, "GoogleSql", lambda: None)
    monkeypatch.setattr(command, "start", lambda *_: (None, None))
    for name in ("check_project", "check_shapes"):
        monkeypatch.setattr(checks, name, lambda *_: found)
    return found


def test_all_is_well(found: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main() == 0
    assert "6 statements, 2 of them MERGEs; 10 columns compared; 0 problem(s)" in capsys.readouterr().out


def test_every_problem_is_said(found: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    found.problems.append("model a: Google's words")
    assert command.main() == 1
    assert capsys.readouterr().out.startswith("model a: Google's words\n")


def test_wrong_settings_are_told_apart(
    found: Findings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: Any) -> Any:
        raise ConfigurationError("GCP_PROJECT is missing")

    monkeypatch.setattr(command, "start", start)
    assert command.main() == 2
    assert capsys.readouterr().err == "GCP_PROJECT is missing\n"


def test_without_the_engine_the_transformers_own_check_is_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiled, "kept_path", lambda: tmp_path / "none.cwasm")
    monkeypatch.setattr(command, "transformer", lambda arguments: {("--check",): 7}[tuple(arguments)])
    assert command.main() == 7
    assert "SQL is not analyzed: it is not compiled yet" in capsys.readouterr().out


def test_without_the_wheel_the_command_is_there() -> None:
    blocked = "import sys; sys.modules['zetasql'] = None; import local.project_check.__main__"
    subprocess.run([sys.executable, "-c", blocked], check=True, cwd=REPOSITORY, timeout=60)
