"""The variables that make a shell, a service or a test a client of a stack."""

from collections.abc import Mapping

from local.stack.home import Home
from local.stack.options import PROJECT, StackOptions
from local.stack.ports import HOST
from local.stack.postgres import PostgresAccess
from local.stack.record import Stack
from services.core.settings import TransformerSettings

_NAMED_BY_SETTINGS = (
    "landing_bucket",
    "landing_prefix",
    "failed_prefix",
    "archive_bucket",
    "archive_prefix",
    "report_bucket",
    "artifact_bucket",
    "bigquery_location",
    "dataset_temp",
    "dataset_bronze",
    "dataset_silver",
    "dataset_gold",
    "dataset_elementary",
    "batch_loaded_topic",
    "state_namespace",
)
"""Settings whose defaults hold here: the names are the same as on Google Cloud."""


def environment(stack: Stack) -> dict[str, str]:
    """Return every variable that a client of the stack needs, the source database's password among them."""
    return pipeline_variables(stack.options, stack.ports) | source_variables(stack.postgres)


def source_variables(access: PostgresAccess) -> dict[str, str]:
    """Return the variables of `SourceSettings`."""
    return {
        "POSTGRES_HOST": access.host,
        "POSTGRES_PORT": str(access.port),
        "POSTGRES_DB": access.database,
        "POSTGRES_USER": access.user,
        "POSTGRES_PASSWORD": access.password.get_secret_value(),
        "POSTGRES_SSLMODE": access.sslmode,
    }


def pipeline_variables(options: StackOptions, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the variables of everything but the source database; none is a secret."""
    home = Home.at(options.home)
    names = {name.upper(): str(TransformerSettings.model_fields[name].default) for name in _NAMED_BY_SETTINGS}
    return {
        "GCP_PROJECT": PROJECT,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "STORAGE_EMULATOR_HOST": f"http://{HOST}:{ports['storage']}",
        "PUBSUB_EMULATOR_HOST": f"{HOST}:{ports['bus']}",
        "BIGQUERY_EMULATOR_HOST": f"http://{HOST}:{ports['warehouse-rest']}",
        "TABLES_FILE": str(options.tables_file),
        "FAULT_FILE": str(home.fault),
        "DBT_TARGET": "emulator",
        "DBT_PROJECT_DIR": str(options.dbt_project),
        "DBT_PROFILES_DIR": str(options.dbt_project),
        "DBT_TARGET_PATH": str(home.dbt / "target"),
        "DBT_LOG_PATH": str(home.dbt / "logs"),
        **names,
        **_state_variables(options, home, ports),
        **options.variables,
    }


def _state_variables(options: StackOptions, home: Home, ports: Mapping[str, int]) -> dict[str, str]:
    if options.profile == "embedded":
        return {"STATE_BACKEND": "sqlite", "STATE_SQLITE_PATH": str(home.state)}
    return {"STATE_BACKEND": "firestore", "FIRESTORE_EMULATOR_HOST": f"{HOST}:{ports['state']}"}
