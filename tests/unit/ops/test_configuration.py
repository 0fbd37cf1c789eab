"""The documented settings are the ones that the code reads."""

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from services.core.errors import ConfigurationError
from services.core.settings import ExtractorSettings, read_settings
from services.ops.configuration import SERVICES, table

REPOSITORY = Path(__file__).parents[3]


def test_the_page_is_what_the_code_says() -> None:
    assert (REPOSITORY / "docs" / "configuration.md").read_text() == table(), "make docs"


@pytest.mark.parametrize("settings", SERVICES.values())
def test_every_setting_is_described(settings: type[BaseSettings]) -> None:
    assert [name for name, field in settings.model_fields.items() if not field.description] == []


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GCP_PROJECT", "GOOGLE_CLOUD_PROJECT", "POSTGRES_HOST", "POSTGRES_USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POSTGRES_PORT", "many")
    with pytest.raises(ConfigurationError) as caught:
        read_settings(ExtractorSettings)
    for name in ("GCP_PROJECT", "POSTGRES_HOST", "POSTGRES_USER", "POSTGRES_PORT"):
        assert name in str(caught.value)


def test_google_cloud_project_will_do_and_the_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GCP_PROJECT", raising=False)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    monkeypatch.setenv("POSTGRES_HOST", "h")
    monkeypatch.setenv("POSTGRES_USER", "u")
    monkeypatch.setenv("POSTGRES_PASSWORD", "hidden-secret")
    settings = read_settings(ExtractorSettings)
    assert settings.gcp_project == "p"
    assert "hidden-secret" not in repr(settings)
