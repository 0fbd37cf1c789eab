"""What one asks of a stack."""

import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

REPOSITORY = Path(__file__).resolve().parents[2]
"""The folder that holds `services/`, `local/`, `config/` and `dbt/`."""

PYTHON = Path(sys.prefix) / "bin" / "python"
"""This environment's interpreter, by the same name in every shell: a component's command must not change."""

PROJECT = "credix-local"
"""The Google Cloud project id of every local stack."""


class StackOptions(BaseModel):
    """What to start, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    profile: Literal["embedded", "emulators"] = Field(
        default="embedded",
        description="embedded: the project's own broker and a SQLite state; emulators: Google's Pub/Sub and Firestore.",
    )
    home: Path = Field(default=Path(".credix"), description="Folder of data, logs and records; made absolute.")
    postgres_dsn: str | None = Field(
        default=None, exclude=True, repr=False, description="libpq connection string of a database to use instead."
    )
    tables_file: Path = Field(default=REPOSITORY / "config" / "tables.yaml", description="Made absolute.")
    dbt_project: Path = Field(default=REPOSITORY / "dbt", description="Made absolute.")
    analyzer: Literal["auto", "on", "off"] = Field(
        default="auto", description="Google's SQL analyzer in front of the warehouse: if it is there, always, or never."
    )
    services: bool = Field(default=True, description="Start the loader and the transformer.")
    loader_source: Path = Field(default=REPOSITORY / "services" / "loader" / "main.py", description="Made absolute.")
    transformer_source: Path = Field(
        default=REPOSITORY / "services" / "transformer" / "main.py", description="Made absolute."
    )
    variables: dict[str, str] = Field(
        default_factory=dict,
        description="Settings of the services that are not the defaults, for example EXTRACT_LEASE.",
    )
    ephemeral: bool = Field(default=False, description="Remove the data when the stack goes down.")

    @field_validator("home", "tables_file", "dbt_project", "loader_source", "transformer_source")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()
