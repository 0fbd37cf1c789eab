"""A run's artifacts in a bucket of their own: ``runs/<run id>/<stage>/run_results.json`` and the dbt log."""

from dataclasses import dataclass

import structlog

from services.core.settings import TransformerSettings
from services.core.storage import ObjectStore

log = structlog.get_logger()


@dataclass(frozen=True)
class BucketArtifacts:
    """Uploads what dbt wrote."""

    settings: TransformerSettings
    objects: ObjectStore

    def keep(self, run_id: str, stage: str) -> None:
        """Keep what dbt wrote in the stage that just ended."""
        files = {
            self.settings.dbt_target_path / "run_results.json": "application/json",
            self.settings.dbt_target_path / "manifest.json": "application/json",
            self.settings.dbt_log_path / "dbt.log": "text/plain",
        }
        for path, content_type in files.items():
            if path.exists():
                name = f"runs/{run_id}/{stage}/{path.name}"
                try:
                    self.objects.replace(self.settings.artifact_bucket, name, path.read_bytes(), content_type)
                except Exception:
                    # What has been merged is merged: a bucket that is away must not hold back the watermark.
                    log.exception("artifact.not_kept", object=name)
