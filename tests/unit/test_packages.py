"""Each service runs with its own lock file's packages alone: an image holds nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

_IMPORT = """
import importlib, importlib.metadata, json, sys
locked = set(json.loads(sys.argv[1]))
owners = importlib.metadata.packages_distributions()

class OnlyLocked:
    def find_spec(self, name, path=None, target=None):
        # A namespace package (google) has many owners: one of them is enough.
        mine = owners.get(name.split('.')[0], [])
        if mine and not any(owner.lower().replace('_', '-') in locked for owner in mine):
            raise ModuleNotFoundError(f'{name} is not in the lock file', name=name)
        return None

sys.meta_path.insert(0, OnlyLocked())
for name in sys.argv[2:]:
    importlib.import_module(name)
"""

SERVICES = {
    "extractor": ["services.extractor.__main__", "services.core.state.sqlite", "services.core.state.firestore"],
    "loader": [
        "services.loader.loading",
        "services.loader.files.process",
        "services.core.state.firestore",
        "functions_framework",
    ],
    "transformer": ["services.transformer.reconcile", "services.transformer.wiring", "services.core.state.firestore"],
}


def locked(service: str) -> dict[str, str]:
    """Names and versions in a lock file."""
    text = (REPOSITORY / "requirements" / f"{service}.txt").read_text()
    return {
        name.lower(): version for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE)
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_only_what_its_lock_file_has(service: str) -> None:
    """The packages of the other services are hidden from the import, as they are absent from the image."""
    visible = json.dumps([*locked(service), "credix-data-pipeline"])
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, visible, *SERVICES[service]], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_package_is_noticed() -> None:
    """The check itself: without its own packages the extractor does not import."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _IMPORT,
            json.dumps([*locked("loader"), "credix-data-pipeline"]),
            *SERVICES["extractor"],
        ],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.returncode != 0
    assert "is not in the lock file" in done.stderr


@pytest.mark.parametrize("service", [*SERVICES, "local", "dev", "setup"])
def test_a_lock_file_has_hashes_and_no_address(service: str) -> None:
    text = (REPOSITORY / "requirements" / f"{service}.txt").read_text()
    assert "://" not in text
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("service", [*SERVICES, "local"])
def test_what_is_tested_is_what_is_deployed(service: str) -> None:
    tested = locked("dev")
    assert {name: version for name, version in locked(service).items() if tested.get(name) != version} == {}
