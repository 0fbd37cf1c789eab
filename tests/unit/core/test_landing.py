"""Where objects go: nothing that is in the archive or in failed/ is ever written over."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.core.landing import archive, free_name
from services.core.settings import CoreSettings
from services.core.storage import ObjectStore, StoredObject

AT = datetime(2026, 11, 22, tzinfo=UTC)
NAME = "business_case/landing/x/installments.parquet"
TARGET = "business_case/archive/x/installments.parquet"


@dataclass
class Buckets:
    """Objects by bucket and name, each with its content as checksum."""

    objects: dict[tuple[str, str], str] = field(default_factory=dict)

    def stat(self, bucket: str, name: str) -> StoredObject | None:
        content = self.objects.get((bucket, name))
        return None if content is None else StoredObject(bucket, name, 7, len(content), content, AT)

    def move(self, stored: StoredObject, to_bucket: str, to_name: str) -> bool:
        self.objects[to_bucket, to_name] = self.objects.pop((stored.bucket, stored.name))
        return True


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> CoreSettings:
    monkeypatch.setenv("GCP_PROJECT", "p")
    return CoreSettings()  # type: ignore[call-arg]  # from the environment


@pytest.mark.parametrize(
    ("there", "expected"), [(None, TARGET), ("new", TARGET), ("old", f"{TARGET}~7")], ids=["free", "same", "another"]
)
def test_an_object_finds_its_place(settings: CoreSettings, there: str | None, expected: str) -> None:
    buckets = Buckets({(settings.landing_bucket, NAME): "new"})
    if there is not None:
        buckets.objects[settings.archive_bucket, TARGET] = there
    stored = buckets.stat(settings.landing_bucket, NAME)
    assert stored is not None
    archive(cast(ObjectStore, buckets), settings, stored)
    assert buckets.objects[settings.archive_bucket, expected] == "new"
    assert buckets.objects[settings.archive_bucket, TARGET] == (there or "new")
    assert (settings.landing_bucket, NAME) not in buckets.objects


def test_the_place_is_the_same_after_a_crash_between_copy_and_delete() -> None:
    stored = StoredObject("landing", NAME, 7, 3, "new", AT)
    buckets: Any = Buckets({("b", TARGET): "old"})
    first = free_name(buckets, stored, "b", TARGET)
    buckets.objects["b", first] = "new"
    assert free_name(buckets, stored, "b", TARGET) == first
