"""The loader and the transformer as Cloud Run would run them: functions-framework, configured by variables alone."""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from local.stack.component import Component, HttpProbe
from local.stack.home import Home
from local.stack.options import PYTHON, REPOSITORY
from local.stack.ports import HOST
from services.core.settings import LoaderSettings, TransformerSettings

SERVER_VARIABLES = {
    "WORKERS": "1",
    "THREADS": "8",
    "CLOUD_RUN_TIMEOUT_SECONDS": "0",
    "GUNICORN_LOG_LEVEL": "info",
}
"""What functions-framework 3.10 hands to gunicorn. Timeout 0 is none: the bus's ack deadline rules."""

CLIENT_VARIABLES = frozenset(
    {
        "STORAGE_EMULATOR_HOST",
        "PUBSUB_EMULATOR_HOST",
        "FIRESTORE_EMULATOR_HOST",
        "BIGQUERY_EMULATOR_HOST",
        "GOOGLE_CLOUD_PROJECT",
    }
)
"""Read by Google's clients themselves."""


def service_variables(settings: type[BaseSettings], variables: Mapping[str, str]) -> dict[str, str]:
    """Return those of the variables that a service with these settings, Google's clients, or dbt read."""
    own = {alias for name in settings.model_fields for alias in _aliases(settings, name)}
    dbt = "dbt_target" in settings.model_fields
    return {
        name: value
        for name, value in variables.items()
        if name in own or name in CLIENT_VARIABLES or (dbt and name.startswith("DBT_"))
    }


def loader(home: Home, source: Path, port: int, variables: Mapping[str, str]) -> Component:
    """Plan the loader."""
    return _service("loader", LoaderSettings, home, source, port, variables)


def transformer(home: Home, source: Path, port: int, variables: Mapping[str, str]) -> Component:
    """Plan the transformer."""
    return _service("transformer", TransformerSettings, home, source, port, variables)


def _service(
    name: str, settings: type[BaseSettings], home: Home, source: Path, port: int, variables: Mapping[str, str]
) -> Component:
    return Component(
        name=name,
        argv=(
            *(str(PYTHON), "-m", "functions_framework"),
            *("--target", "handle"),
            *("--source", str(source)),
            *("--signature-type", "cloudevent"),
            *("--host", HOST, "--port", str(port)),
        ),
        env={
            "PATH": f"{PYTHON.parent}{os.pathsep}{os.defpath}",
            "HOME": str(home.homes / name),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONUNBUFFERED": "1",
            **SERVER_VARIABLES,
            **service_variables(settings, variables),
        },
        cwd=REPOSITORY,
        ports={name: port},
        # A CloudEvent function takes only POST: GET is refused (405) before the function is called.
        probe=HttpProbe(url=f"http://{HOST}:{port}/", any_status=True),
        log=home.log_of(name),
    )


def _aliases(settings: type[BaseSettings], name: str) -> list[str]:
    alias = settings.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [str(alias) if alias else name.upper()]
