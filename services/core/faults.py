"""Fault points: places between two steps where a test makes a process die as if its machine had gone.

``FAULT_FILE`` names a file with one name a line; a process that reaches a point whose name is there removes the line
and ends itself with SIGKILL, once. Without the variable, as everywhere but in tests, a point is one look at the
environment.
"""

import os
import signal
from pathlib import Path

FAULT_POINTS = {
    "extractor.remembered": "it is remembered what the batch rests on, the state does not know the batch",
    "extractor.batch_noted": "the state knows the batch, nothing is in the bucket",
    "extractor.part_landed": "a part is in landing/",
    "extractor.read": "all parts are in landing/, the manifest is not",
    "extractor.fingerprints_kept": "the fingerprints are in the bucket, no batch names them, there is no manifest",
    "extractor.manifest_announced": "the state knows which manifest comes, it is not in landing/",
    "extractor.manifest_landed": "the manifest is in landing/, the state does not know",
    "extractor.landed": "the state says landed, the plan of the read is still there",
    "loader.file_part_landed": "a file dropped by hand was made a part, there is no manifest",
    "loader.file_noted": "the state knows a file's batch, its manifest is not in landing/",
    "loader.file_landed": "a file dropped by hand was made a batch, which is not loaded",
    "loader.load_started": "BigQuery has the load job",
    "loader.load_done": "the hashed table is there, its expiration is not set",
    "loader.stable_noted": "the copy to the stable table is noted, and not sent",
    "loader.stable_copied": "the stable table has the batch, the state does not name it",
    "loader.loaded_unnoted": "the stable table is there, the state does not say loaded",
    "loader.loaded": "the state says loaded, all objects are in landing/",
    "loader.object_archived": "one object is in the archive, the others are in landing/",
    "loader.archived": "all objects are in the archive, nobody was told",
    "loader.failed_noted": "the state says failed, the objects are in landing/",
    "loader.object_rejected": "one object is in failed/, the others are in landing/",
    "transformer.downstream_noted": "silver and gold are noted as due, the views of bronze are not made",
    "transformer.merge_noted": "the merge's job is noted, and not sent",
    "transformer.tested": "the batches are tested and that is noted, nothing is in bronze",
    "transformer.append_noted": "the append's job is noted, and not sent",
    "transformer.appended": "the delta has the rows, the state says loaded",
    "transformer.base_merged": "the base has the rows, the delta has them still",
    "transformer.bronze_built": "bronze has the rows, the state says loaded",
    "transformer.merged": "the state says merged, the hashed table is there",
    "transformer.hashed_dropped": "the hashed table is dropped, the watermark has not moved",
    "transformer.advanced": "the watermark has moved; silver and gold, if they are due, are not built",
    "transformer.downstream_built": "silver and gold are built, the state says that they are due",
    "transformer.run_unnoted": "all is done, the run is not in the history",
}
"""Every fault point, with what is done when a process dies there."""


def fault_point(name: str) -> None:
    """Die here when the fault file says so."""
    path = os.environ.get("FAULT_FILE")
    if not path:
        return
    file = Path(path)
    try:
        names = file.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return
    if name not in FAULT_POINTS:
        raise ValueError(f"{name} is not in FAULT_POINTS")
    if name in names:
        names.remove(name)
        rest = file.with_suffix(f".{os.getpid()}")
        rest.write_text("\n".join(names), encoding="utf-8")
        if names:
            rest.replace(file)  # whole at every moment: another process may look
        else:
            rest.unlink()
            file.unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGKILL)
