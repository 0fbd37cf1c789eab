"""Where a stack keeps its files: one folder, by default `.credix`."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The files and folders of one stack. Paths only; nothing is read or made before `make`."""

    root: Path

    @classmethod
    def at(cls, folder: Path) -> "Home":
        """Return the home in a folder, as an absolute path."""
        return cls(folder.absolute())

    @property
    def lock(self) -> Path:
        """Held while a stack is started, stopped or changed."""
        return self.root / "stack.lock"

    @property
    def record(self) -> Path:
        """What runs now: see `record.Stack`. Mode 0600."""
        return self.root / "stack.json"

    @property
    def keepsake(self) -> Path:
        """What outlives a stop: see `record.Keepsake`. Mode 0600."""
        return self.root / "keepsake.json"

    @property
    def logs(self) -> Path:
        """One log per component."""
        return self.root / "logs"

    @property
    def postgres(self) -> Path:
        """Folder of the database cluster, unless the server's user cannot reach it (see `postgres.cluster_folder`)."""
        return self.root / "postgres"

    @property
    def storage(self) -> Path:
        """Root of the buckets: object `o` of bucket `b` is the file `b/o`."""
        return self.root / "storage"

    @property
    def warehouse(self) -> Path:
        """The warehouse's database."""
        return self.root / "warehouse"

    @property
    def bus(self) -> Path:
        """The broker's database."""
        return self.root / "bus.sqlite"

    @property
    def state(self) -> Path:
        """The pipeline's state, in the embedded profile."""
        return self.root / "state.sqlite"

    @property
    def fault(self) -> Path:
        """Names the fault point at which a service kills itself; only tests write it."""
        return self.root / "fault"

    @property
    def dbt(self) -> Path:
        """Artifacts and logs of dbt."""
        return self.root / "dbt"

    @property
    def homes(self) -> Path:
        """A HOME folder per component, as each would have in its own container."""
        return self.root / "homes"

    def log_of(self, component: str) -> Path:
        """Return a component's log file."""
        return self.logs / f"{component}.log"

    def make(self) -> None:
        """Make the folders that must exist before a component starts."""
        for folder in (self.root, self.logs, self.storage, self.warehouse, self.dbt, self.homes):
            folder.mkdir(parents=True, exist_ok=True)

    def remove_data(self, keep_logs: bool = False) -> None:
        """Remove what a stack wrote here, by name, and the folder itself when nothing else is in it.

        The lock file goes last: the caller holds it (see `lock.locked`).
        """
        for folder in (self.postgres, self.storage, self.warehouse, self.dbt, self.homes):
            shutil.rmtree(folder, ignore_errors=True)
        if not keep_logs:
            shutil.rmtree(self.logs, ignore_errors=True)
        for database in (self.bus, self.state):
            for suffix in ("", "-wal", "-shm", "-journal"):
                database.with_name(database.name + suffix).unlink(missing_ok=True)
        for file in (self.fault, self.record, self.keepsake, self.lock):
            file.unlink(missing_ok=True)
        if not any(self.root.iterdir()):
            self.root.rmdir()
