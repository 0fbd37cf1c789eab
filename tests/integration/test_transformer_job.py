"""``python -m services.transformer --check``, a smoke job; and that it goes on from the image's parse state."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from local.stack.options import REPOSITORY

DBT = Path(sys.executable).parent / "dbt"


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("job")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GCP_PROJECT": "credix-test",
        "DBT_TARGET": "emulator",
        "BIGQUERY_EMULATOR_HOST": "http://127.0.0.1:9",
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
        "DBT_PARTIAL_PARSE_FILE_PATH": str(folder / "state" / "partial_parse.msgpack"),
    }


def check(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.transformer", "--check"]
    return subprocess.run(command, cwd=REPOSITORY, env=variables, capture_output=True, text=True, timeout=120)


def test_the_images_parse_state_is_used(variables: dict[str, str]) -> None:
    state = Path(variables["DBT_PARTIAL_PARSE_FILE_PATH"])
    build = [str(DBT), "parse", "--quiet", "--target", "emulator", "--project-dir", "dbt", "--profiles-dir", "dbt"]
    paths = ["--target-path", str(state.parent), "--log-path", variables["DBT_LOG_PATH"]]
    without = {name: value for name, value in variables.items() if name != "DBT_PARTIAL_PARSE_FILE_PATH"}
    subprocess.run([*build, *paths], cwd=REPOSITORY, env=without, check=True)
    done = check(variables)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"checked": ["cnpj_ws", "installments"], "parse_state": "used"}


def test_a_table_without_a_model_is_a_wrong_configuration(variables: dict[str, str], tmp_path: Path) -> None:
    tables = yaml.safe_load((REPOSITORY / "config" / "tables.yaml").read_text())
    tables["tables"][0]["bronze_model"] = "nowhere"
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump(tables))
    done = check(variables | {"TABLES_FILE": str(tmp_path / "tables.yaml")})
    assert done.returncode == 2, done.stderr
    name = tables["tables"][0]["name"]
    assert f"table {name}: bronze_model nowhere is not in the dbt project; add models/bronze/nowhere.sql" in done.stderr
