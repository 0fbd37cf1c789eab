"""A pipeline without its services: what they would do, a test does by hand, with jobs."""

import json
import os
import subprocess
import sys
import time
from typing import Any

from local.cycle import Client, extract
from local.source import connect
from local.stack.options import REPOSITORY
from services.core.batch import Batch

TABLE = "cnpj_ws"
"""The table that is changed and extracted."""


def change(client: Client) -> None:
    """Change a company in the source; every time another value."""
    with connect(client.stack.postgres) as source:
        source.execute(
            "UPDATE oltp.business_case_cnpj_ws SET city = %s, updated_at = clock_timestamp() WHERE buyer_tax_id = "
            "(SELECT min(buyer_tax_id) FROM oltp.business_case_cnpj_ws)",
            [f"changed {time.time_ns()}"],
        )


def start(client: Client, *command: str, **variables: str) -> subprocess.Popen[str]:
    """Start a program of the services as a job."""
    log = client.stack.home / "logs" / "jobs.log"
    with log.open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, *command],
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **client.variables, **variables},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )


def job(client: Client, *command: str, **variables: str) -> tuple[int, dict[str, Any]]:
    """Run a program of the services to its end; its exit code and what it reports."""
    process = start(client, *command, **variables)
    output, _ = process.communicate(timeout=120)
    lines = output.strip().splitlines()
    return process.returncode, json.loads(lines[-1]) if lines else {}


def sweep(client: Client, grace: str | None = "0") -> dict[str, Any]:
    """Run the sweep as a job; what it did, by name."""
    code, report = job(client, "-m", "services.loader", "--sweep", **({"SWEEP_GRACE": grace} if grace else {}))
    assert (code, report["problems"]) == (0, [])
    done: dict[str, Any] = report["done"]
    return done


def transform(client: Client) -> None:
    code, report = job(client, "-m", "services.transformer")
    assert code == 0, report


def extracted(client: Client) -> Batch:
    """Change the source and extract it; the batch is in landing/."""
    change(client)
    [entry] = extract(client, ["--table", TABLE])["tables"]
    return known(client, entry["batch_id"])


def known(client: Client, batch_id: str) -> Batch:
    batch = client.state.batch(batch_id)
    assert batch is not None
    return batch


def at_rest(client: Client) -> None:
    """Source and bronze are equal, nothing is in landing/, no hashed table is left, every lease is free."""
    assert [str(c) for c in client.compare() if not c.equal] == []
    assert client.landed() == []
    assert client.hashed_tables() == []
    deadline = time.monotonic() + 20
    while held := [d.id for d in client.state.store.query("leases", {}) if d.data["holder"] is not None]:
        assert time.monotonic() < deadline, held
        time.sleep(0.2)


def comes_home(client: Client) -> None:
    """The sweep and the transformer's job alone finish all that is open."""
    sweep(client)
    transform(client)
    at_rest(client)
