"""Settings: one class per service, read from environment variables and nothing else.

A field's environment variable is its name in upper case (``landing_bucket`` is ``LANDING_BUCKET``). Google's clients
read the emulators' variables themselves (``STORAGE_EMULATOR_HOST``, ``PUBSUB_EMULATOR_HOST``,
``FIRESTORE_EMULATOR_HOST``, ``BIGQUERY_EMULATOR_HOST``): the services have no setting of their own for those.
"""

import itertools
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.core.errors import ConfigurationError

_PREFIX = r"^[^/]+(/[^/]+)*$"
"""Names between single slashes, none before the first or after the last."""


def _seconds(value: object) -> object:
    return float(value) if isinstance(value, str) and value.isdecimal() else value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]
"""ISO 8601 (``PT5M``), or a number of seconds, which pydantic takes for nothing when it is a text."""


class CoreSettings(BaseSettings):
    """What every service needs to know: project, tables, buckets, state, logs."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    gcp_project: str = Field(
        validation_alias=AliasChoices("GCP_PROJECT", "GOOGLE_CLOUD_PROJECT"),
        description="Google Cloud project id.",
    )
    tables_file: Path = Field(default=Path("config/tables.yaml"), description="The declared tables.")

    landing_bucket: str = Field(default="data_lake_credix", description="Bucket of the landing and failed prefixes.")
    landing_prefix: str = Field(
        default="business_case/landing", pattern=_PREFIX, description="Prefix where batches land."
    )
    failed_prefix: str = Field(
        default="business_case/failed", pattern=_PREFIX, description="Prefix of what could not be loaded."
    )
    fingerprints_prefix: str = Field(
        default="business_case/fingerprints",
        pattern=_PREFIX,
        description="Prefix, in the landing bucket, of the fingerprints of rows that are read again.",
    )
    archive_bucket: str = Field(default="data_lake_credix_archive", description="Bucket of loaded objects.")
    archive_prefix: str = Field(
        default="business_case/archive", pattern=_PREFIX, description="Prefix of loaded objects."
    )

    state_backend: Literal["firestore", "sqlite"] = Field(
        default="firestore", description="Where the state is kept; sqlite is for one machine."
    )
    state_sqlite_path: Path = Field(default=Path(".credix/state.sqlite"), description="File of the sqlite state.")
    state_namespace: str = Field(default="credix", description="Prefix of the state's collections.")
    firestore_database: str = Field(default="(default)", description="Firestore database id.")

    late_after: Duration = Field(
        default=timedelta(hours=26),
        description="How far bronze may be behind the source before status and report say so; a day and some hours for "
        "a table that is extracted every day (ISO 8601, or seconds).",
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least level logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto is console on a terminal and JSON elsewhere."
    )
    fault_file: Path | None = Field(
        default=None, description="Tests only: file that names the fault point at which a process kills itself."
    )

    @model_validator(mode="after")
    def _prefixes_apart(self) -> "CoreSettings":
        """What is swept is not what was swept: a failed/ inside landing/ would be refused anew for ever."""
        places = {
            "LANDING_PREFIX": f"{self.landing_bucket}/{self.landing_prefix}/",
            "FAILED_PREFIX": f"{self.landing_bucket}/{self.failed_prefix}/",
            "FINGERPRINTS_PREFIX": f"{self.landing_bucket}/{self.fingerprints_prefix}/",
            "ARCHIVE_PREFIX": f"{self.archive_bucket}/{self.archive_prefix}/",
        }
        for (name, place), (other, within) in itertools.permutations(places.items(), 2):
            if within.startswith(place):
                raise ValueError(f"{other} (gs://{within}) lies within {name} (gs://{place}); they have to be apart")
        return self


class SourceSettings(BaseSettings):
    """Where the source database is; libpq's meaning for every field."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    postgres_host: str = Field(description="Host name, or the folder of a socket (Cloud SQL: /cloudsql/INSTANCE).")
    postgres_port: PositiveInt = Field(default=5432, description="Port.")
    postgres_db: str = Field(default="credix_transactions", description="Database.")
    postgres_user: str = Field(description="User; needs SELECT on the tables, and pg_read_all_stats (docs/windows.md).")
    postgres_password: SecretStr = Field(default=SecretStr(""), description="Password; empty for none.")
    postgres_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="prefer", description="libpq's sslmode."
    )


class ExtractorSettings(CoreSettings, SourceSettings):
    """Settings of the extractor."""

    extract_tables: str = Field(default="", description="Comma separated table names; empty for all declared tables.")
    extract_part_rows: PositiveInt = Field(default=1_000_000, description="Most rows in a Parquet part.")
    extract_safety_lag: Duration = Field(
        default=timedelta(minutes=15),
        description="How far a window stays behind now when open transactions cannot be seen (ISO 8601, or seconds).",
    )
    extract_readers: Annotated[int, Field(ge=1, le=32)] = Field(
        default=2, description="Connections that read a large table side by side."
    )
    extract_chunk_pages: PositiveInt = Field(
        default=8192,
        description="Pages (of 8 KiB) of a table in a chunk, the unit of reading side by side and of trying again.",
    )
    extract_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=8, description="Most attempts at a read that breaks off; the pauses grow to half a minute."
    )
    extract_fingerprints: NonNegativeInt = Field(
        default=500_000,
        description="Most rows of a table that the next run reads again and whose fingerprints are kept, so that those "
        "which are no news do not land again; with more, none are kept. A run holds 100 bytes for each; 0 is none.",
    )
    extract_mask_secret: SecretStr = Field(
        default=SecretStr(""), description="Key of `mask: hash`; another key gives other hashes."
    )
    cloud_run_execution: str = Field(default="", description="Set by Cloud Run: the execution's name.")
    cloud_run_task_index: Annotated[int, Field(ge=0)] = Field(default=0, description="Set by Cloud Run: this task.")
    cloud_run_task_count: PositiveInt = Field(
        default=1, description="Set by Cloud Run: tasks that share the tables, and the pages of large ones."
    )
    cloud_run_task_attempt: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Set by Cloud Run: which try of this task it is, from 0."
    )
    extract_lease: Duration = Field(
        default=timedelta(seconds=60), description="How long a dead extractor holds its table (ISO 8601, or seconds)."
    )


class WarehouseSettings(BaseSettings):
    """Where the warehouse is."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    bigquery_location: str = Field(default="US", description="Location of the datasets.")
    dataset_temp: str = Field(default="business_case_temp", description="Dataset of the hashed and stable tables.")
    dataset_bronze: str = Field(default="business_case_bronze", description="Dataset of the merged tables.")
    dataset_silver: str = Field(default="business_case_silver", description="Dataset of the cleaned tables.")
    dataset_gold: str = Field(default="business_case_gold", description="Dataset of the business's tables.")
    batch_loaded_topic: str = Field(
        default="credix-batch-loaded", description="Topic on which the loader announces a loaded batch."
    )
    alert_topic: str = Field(
        default="credix-alerts", description="Topic for what was refused, and for batches that wait for a person."
    )

    @model_validator(mode="after")
    def _datasets_apart(self) -> "WarehouseSettings":
        """Each layer has a dataset of its own; some tools take names that differ in case alone for one."""
        for (name, dataset), (other, another) in itertools.combinations(self._datasets().items(), 2):
            if dataset.casefold() == another.casefold():
                raise ValueError(
                    f"{name} and {other} are both {another}: every layer needs a dataset of its own, "
                    "as tables of the temp dataset are dropped and written over"
                )
        return self

    def _datasets(self) -> dict[str, str]:
        """The datasets that are written, by what names them."""
        return {
            "DATASET_TEMP": self.dataset_temp,
            "DATASET_BRONZE": self.dataset_bronze,
            "DATASET_SILVER": self.dataset_silver,
            "DATASET_GOLD": self.dataset_gold,
        }


class LoaderSettings(CoreSettings, WarehouseSettings):
    """Settings of the loader."""

    temp_table_days: PositiveInt = Field(default=7, description="Days after which a hashed table expires.")
    load_timeout: Duration = Field(
        default=timedelta(minutes=9),
        description="Longest wait for one load job, or for the reading of one dropped file (ISO 8601, or seconds).",
    )
    load_file_bytes: PositiveInt = Field(
        default=1024**3, description="Largest Parquet file that may be dropped into landing/ by hand, in bytes."
    )
    load_file_unpacked_bytes: PositiveInt = Field(
        default=16 * 1024**3, description="Most bytes that the rows of such a file may take, unpacked."
    )
    load_file_memory: Annotated[int, Field(ge=256 * 1024**2)] = Field(
        default=400 * 1024**2,
        description="Most memory, in bytes, of the process that reads such a file; there is one at a time.",
    )
    sweep_grace: Duration = Field(
        default=timedelta(minutes=15),
        description="How long the sweep leaves alone what may still be somebody's work (ISO 8601, or seconds).",
    )


class PriceSettings(BaseSettings):
    """What BigQuery's queries cost."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    bigquery_usd_per_tib: NonNegativeFloat = Field(
        default=6.25,
        description="On-demand price of a TiB that queries bill, in USD, as costs are told by it; the default is the "
        "list price in the US (docs/operations.md, What it costs).",
    )


class TransformerSettings(CoreSettings, WarehouseSettings, PriceSettings):
    """Settings of the transformer."""

    dbt_project_dir: Path = Field(default=Path("dbt"), description="Folder of the dbt project.")
    dbt_target: Literal["emulator", "gcp"] = Field(default="gcp", description="dbt target of profiles.yml.")
    dbt_target_path: Path = Field(default=Path("/tmp/dbt/target"), description="Where dbt writes its artifacts.")  # noqa: S108
    dbt_log_path: Path = Field(default=Path("/tmp/dbt/logs"), description="Where dbt writes its log.")  # noqa: S108
    report_bucket: str = Field(default="credix-elementary-report", description="Bucket of the reports.")
    artifact_bucket: str = Field(
        default="credix-dbt-artifacts", description="Bucket of dbt's artifacts and log of each run; never public."
    )
    transform_lease: Duration = Field(
        default=timedelta(seconds=60), description="How long a dead transformer blocks the next (ISO 8601, or seconds)."
    )
    observe: Literal["off", "job", "run"] = Field(
        default="job",
        description="Who publishes Elementary's report and dbt's docs: nobody; only `--observe`; also each transformer "
        "after its work (docs/observability.md).",
    )
    observe_interval: Duration = Field(
        default=timedelta(hours=1),
        description="With `OBSERVE=run`: how old the published report has to be (ISO 8601, or seconds).",
    )
    observe_timeout: Duration = Field(
        default=timedelta(minutes=9), description="How long all of it may take (ISO 8601, or seconds)."
    )
    dataset_elementary: str = Field(
        default="business_case_elementary",
        description="Dataset of Elementary's tables; its tests also use `<it>__tests`.",
    )
    dbt_packages_folder: Path | None = Field(
        default=None,
        description="Folder of Elementary's dbt packages; `observability/dbt_packages` in the dbt project if not set.",
    )
    slack_webhook: SecretStr = Field(
        default=SecretStr(""), description="Where Elementary's alerts go, in the form of Slack's incoming webhooks."
    )
    teams_webhook: SecretStr = Field(
        default=SecretStr(""), description="Where they go instead, in the form of Microsoft Teams' webhooks."
    )

    def dbt_variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What has to be set in an environment, so that the dbt project and its profile read these settings from it.

        Nothing that it says already, or that is the project's own default: dbt takes a variable that is set for another
        than one that is not, and would not go on from the parse state of the image.
        """
        values = {
            "DBT_TARGET": self.dbt_target,
            "GCP_PROJECT": self.gcp_project,
            "BIGQUERY_LOCATION": self.bigquery_location,
            "DATASET_ELEMENTARY": self.dataset_elementary,
            **super()._datasets(),
        }
        defaults = {name: type(self).model_fields[name.lower()].default for name in values}
        return {name: value for name, value in values.items() if environment.get(name, defaults[name]) != value}

    def _datasets(self) -> dict[str, str]:
        elementary = self.dataset_elementary
        return super()._datasets() | {"DATASET_ELEMENTARY": elementary, "its tests' dataset": f"{elementary}__tests"}

    @field_validator("teams_webhook")
    @classmethod
    def _one_webhook(cls, teams: SecretStr, others: ValidationInfo) -> SecretStr:
        slack = others.data.get("slack_webhook")
        if teams.get_secret_value() and slack is not None and slack.get_secret_value():
            raise ValueError("Elementary sends its alerts to one place: set SLACK_WEBHOOK or TEAMS_WEBHOOK")
        return teams


class OpsSettings(CoreSettings, WarehouseSettings, PriceSettings):
    """Settings of the `credix` command."""

    dead_letter_subscriptions: str = Field(
        default="credix-landing-dead-letter,credix-batch-loaded-dead-letter",
        description="Comma separated subscriptions that keep the events which no attempt could handle; may be empty.",
    )


S = TypeVar("S", bound=BaseSettings)


def read_settings(settings: type[S]) -> S:
    """Read a service's settings from the environment.

    Raises:
        ConfigurationError: a variable is missing or wrong; names every such variable.
    """
    try:
        return settings()
    except ValidationError as error:
        problems = "; ".join(": ".join([*(str(at).upper() for at in p["loc"][:1]), p["msg"]]) for p in error.errors())
        raise ConfigurationError(f"settings of {settings.__name__}: {problems}") from error
