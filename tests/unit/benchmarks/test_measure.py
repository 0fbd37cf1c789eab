"""What the benchmarks say of a command is the command's own."""

import sys
from pathlib import Path

import pytest

from benchmarks.measure import CommandFailed, measure


def test_the_peak_is_not_that_of_the_process_that_measures() -> None:
    held = bytearray(400_000_000)
    held[::4096] = b"x" * len(held[::4096])
    small = measure([sys.executable, "-c", "print(1)"])
    large = measure([sys.executable, "-c", "held = b'x' * 200_000_000"])
    assert small.peak_bytes < 100_000_000
    assert 200_000_000 < large.peak_bytes < 300_000_000


def test_seconds_and_cpu_are_the_commands() -> None:
    slept = measure([sys.executable, "-S", "-c", "import time; time.sleep(0.5); print('done')"])
    assert slept.output == "done\n"
    assert slept.seconds >= 0.5
    assert slept.cpu_seconds < 0.4


def test_a_command_that_fails_says_why() -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('no luck')"]
    with pytest.raises(CommandFailed, match="ended with 1: no luck"):
        measure(failing)
    assert measure(failing, codes=(0, 1)).output == ""
    with pytest.raises(CommandFailed, match="not run"):
        measure(["/no/such/program"])


def test_what_was_compiled_once_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "some_module.py").write_text("x = 1")
    measure([sys.executable, "-c", "import some_module"], folder=tmp_path)
    assert list(tmp_path.glob("__pycache__/some_module.*.pyc"))
