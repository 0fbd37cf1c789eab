"""``python -m tests.simulation --minutes 60``: schedules by the thousand, on all cores; a failing one is told shortly.

``--seed 1997`` plays one schedule, ``--mutants`` puts known faults back and tells how soon each is found. Exit code 1
when a schedule failed, or a mutant was not found that is to be found.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import pytest
import typer
from rich.console import Console
from rich.table import Table

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.playing import Found, play, told_shortly
from tests.simulation.world import simulated

_TOGETHER = 50
"""Schedules that a process plays before it looks at the clock."""


def failing(first: int, count: int) -> Found | None:
    """The first of some schedules that fails."""
    with simulated():
        return next((found for seed in range(first, first + count) if (found := play(seed)) is not None), None)


def schedules(minutes: float, first: int, processes: int) -> tuple[int, Found | None]:
    """Play schedules for a while; how many, and the first that failed."""
    deadline, played = time.monotonic() + 60 * minutes, 0

    def firsts() -> Iterator[int]:
        seed = first
        while time.monotonic() < deadline:
            yield seed
            seed += _TOGETHER

    with ProcessPoolExecutor(processes) as pool:
        waiting = []
        for seed in firsts():
            waiting.append(pool.submit(failing, seed, _TOGETHER))
            while len(waiting) > processes:
                found = waiting.pop(0).result()
                played += _TOGETHER
                if found is not None:
                    pool.shutdown(cancel_futures=True)
                    return played, found
        for each in waiting:
            found = each.result()
            played += _TOGETHER
            if found is not None:
                return played, found
    return played, None


def searched(mutant: Mutant, seconds: float, first: int = 0) -> tuple[int, float, Found | None]:
    """Put a fault back and look for it: schedules played, CPU seconds, and what failed."""
    began, seed = time.process_time(), first
    with simulated(), pytest.MonkeyPatch.context() as patch:
        mutant.put_in(patch)
        while time.process_time() - began < seconds:
            found = play(seed)
            seed += 1
            if found is not None:
                return seed - first, time.process_time() - began, found
    return seed - first, time.process_time() - began, None


def tell(found: Found) -> None:
    """Print a failing schedule as a story, and as a test."""
    with simulated():
        short = told_shortly(found)
    print(f"seed {found.seed}: {type(short.error).__name__}: {short.error}\n", *short.story, sep="\n")  # noqa: T201
    print(f"\ndef test_seed_{short.seed}() -> None:\n    assert play({short.seed}, {short.made}) is None")  # noqa: T201


def main(
    minutes: Annotated[float, typer.Option(help="For how long schedules are played.")] = 1.0,
    first: Annotated[int | None, typer.Option(help="The first seed; another one each time if not given.")] = None,
    seed: Annotated[int | None, typer.Option(help="Play this schedule only, and tell it.")] = None,
    mutants: Annotated[bool, typer.Option(help="Put known faults back, one at a time.")] = False,
    seconds: Annotated[float, typer.Option(help="CPU seconds for each mutant.")] = 60.0,
) -> None:
    """Play."""
    if seed is not None:
        with simulated():
            found = play(seed)
        if found is not None:
            tell(found)
        sys.exit(0 if found is None else 1)
    if mutants:
        sys.exit(0 if look_for_mutants(seconds) else 1)
    began, begin = time.monotonic(), int(time.time()) if first is None else first
    played, found = schedules(minutes, begin, os.cpu_count() or 1)
    rate = 60 * played / (time.monotonic() - began)
    print(json.dumps({"first_seed": begin, "schedules": played, "per_minute": round(rate)}))  # noqa: T201
    if found is not None:
        tell(found)
    sys.exit(0 if found is None else 1)


def look_for_mutants(seconds: float) -> bool:
    """Print how soon each mutant is found; whether all are that are to be."""
    table = Table("mutant", "schedules", "CPU s", "found by", title="Known faults, put back", title_justify="left")
    missed = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        asked = [pool.submit(searched, mutant, seconds) for mutant in MUTANTS]
        for mutant, each in zip(MUTANTS, asked, strict=True):
            played, took, found = each.result()
            said = str(found.error).splitlines()[0][:100] if found else "not found"
            table.add_row(mutant.name, str(played), f"{took:.1f}", said)
            if found is None and mutant.hidden is None:
                missed.append(mutant.name)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if missed:
        print(f"not found: {', '.join(missed)}")  # noqa: T201
    return not missed


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    typer.run(main)
