"""Settings that would let one step destroy another's work are refused before anything starts."""

import pytest

from services.core.errors import ConfigurationError
from services.core.settings import CoreSettings, LoaderSettings, OpsSettings, TransformerSettings, read_settings

WITH_DATASETS = [LoaderSettings, TransformerSettings, OpsSettings]


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCP_PROJECT", "p")


@pytest.mark.parametrize("settings", [CoreSettings, *WITH_DATASETS])
def test_the_defaults_are_right(settings: type[CoreSettings]) -> None:
    assert read_settings(settings).gcp_project == "p"


@pytest.mark.parametrize("settings", WITH_DATASETS)
@pytest.mark.parametrize("layer", ["BRONZE", "SILVER", "GOLD"])
@pytest.mark.parametrize("name", ["business_case_temp", "Business_Case_TEMP"])
def test_the_datasets_are_different_ones(
    monkeypatch: pytest.MonkeyPatch, settings: type[CoreSettings], layer: str, name: str
) -> None:
    monkeypatch.setenv(f"DATASET_{layer}", name)
    with pytest.raises(
        ConfigurationError, match=f"DATASET_TEMP and DATASET_{layer} are both {name}: every layer needs"
    ):
        read_settings(settings)


@pytest.mark.parametrize(
    ("elementary", "says"),
    [
        ("business_case_gold", "DATASET_GOLD and DATASET_ELEMENTARY are both business_case_gold"),
        ("x", "DATASET_BRONZE and its tests' dataset are both x__tests"),
    ],
)
def test_elementary_has_datasets_of_its_own(monkeypatch: pytest.MonkeyPatch, elementary: str, says: str) -> None:
    monkeypatch.setenv("DATASET_BRONZE", "x__tests")
    monkeypatch.setenv("DATASET_ELEMENTARY", elementary)
    with pytest.raises(ConfigurationError, match=says):
        read_settings(TransformerSettings)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"FAILED_PREFIX": "business_case/landing/failed"}, "FAILED_PREFIX .* lies within LANDING_PREFIX"),
        ({"FAILED_PREFIX": "business_case/landing"}, "lies within"),
        ({"FINGERPRINTS_PREFIX": "business_case/landing/again"}, "FINGERPRINTS_PREFIX .* lies within LANDING_PREFIX"),
        ({"LANDING_PREFIX": "business_case/failed/landing"}, "LANDING_PREFIX .* lies within FAILED_PREFIX"),
        (
            {"ARCHIVE_BUCKET": "data_lake_credix", "ARCHIVE_PREFIX": "business_case/landing/done"},
            "ARCHIVE_PREFIX .* lies within LANDING_PREFIX",
        ),
        ({"ARCHIVE_BUCKET": "data_lake_credix", "ARCHIVE_PREFIX": "business_case"}, "lies within ARCHIVE_PREFIX"),
        ({"LANDING_PREFIX": "business_case/landing/"}, "LANDING_PREFIX: "),
        ({"LANDING_PREFIX": "/"}, "LANDING_PREFIX: "),
        ({"FAILED_PREFIX": "business_case//failed"}, "FAILED_PREFIX: "),
        ({"ARCHIVE_PREFIX": "/archive"}, "ARCHIVE_PREFIX: "),
    ],
)
def test_the_prefixes_are_apart(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=says):
        read_settings(LoaderSettings)


@pytest.mark.parametrize(
    "variables",
    [
        {"FAILED_PREFIX": "business_case/landing_failed"},
        {"ARCHIVE_PREFIX": "business_case/landing/archive"},
        {"LANDING_PREFIX": "landing", "FAILED_PREFIX": "failed"},
    ],
    ids=["a name that begins alike", "another bucket", "one folder"],
)
def test_prefixes_that_are_apart_are_taken(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    read_settings(LoaderSettings)
