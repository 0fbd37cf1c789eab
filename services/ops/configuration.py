"""The table of all settings, written from the settings classes: ``python -m services.ops.configuration``."""

import sys
from datetime import timedelta
from typing import Any

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from services.core.settings import ExtractorSettings, LoaderSettings, OpsSettings, TransformerSettings

SERVICES: dict[str, type[BaseSettings]] = {
    "extractor": ExtractorSettings,
    "loader": LoaderSettings,
    "transformer": TransformerSettings,
    "credix": OpsSettings,
}

_HEAD = """# Configuration

Every service reads its settings from environment variables and nothing else. This page is written from the code
(`make docs`); a test fails when the two differ. Durations are ISO 8601 (`PT5M`) or seconds.

Google's own clients read `STORAGE_EMULATOR_HOST`, `PUBSUB_EMULATOR_HOST`, `FIRESTORE_EMULATOR_HOST` and
`BIGQUERY_EMULATOR_HOST` (this one with `http://`); unset, they go to Google Cloud. dbt's profiles and the
services' own queries read `BIGQUERY_MAX_BYTES_BILLED`, too. functions-framework reads `PORT`, `WORKERS` and `THREADS`.

| variable | default | extractor | loader | transformer | credix | meaning |
|---|---|---|---|---|---|---|
"""


def variable(name: str, field: FieldInfo) -> str:
    """The environment variable of a field."""
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else name.upper()


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is PydanticUndefined:
        return "**required**"
    if isinstance(value, timedelta):
        return f"`{value.total_seconds():.0f}`"
    if isinstance(value, SecretStr) or value in ("", None):
        return "–"
    return f"`{value}`"


def table() -> str:
    """The page, as Markdown."""
    fields = {
        variable(name, field): field for settings in SERVICES.values() for name, field in settings.model_fields.items()
    }
    lines = []
    for name, field in fields.items():
        marks = [
            "●" if name in {variable(n, f) for n, f in settings.model_fields.items()} else ""
            for settings in SERVICES.values()
        ]
        lines.append(f"| `{name}` | {_default(field)} | {' | '.join(marks)} | {field.description} |")
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
