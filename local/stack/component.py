"""A component: one process of the stack, as a value. `process` runs it, `readiness` looks at it."""

import shlex
import signal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HttpProbe(_Value):
    """Ready when the URL answers: with any status, or with 200 to 399 when `any_status` is false."""

    kind: Literal["http"] = "http"
    url: str
    any_status: bool = False


class PostgresProbe(_Value):
    """Ready when the server accepts connections (libpq's PQping, which needs no password)."""

    kind: Literal["postgres"] = "postgres"
    host: str
    port: int


class PubSubProbe(_Value):
    """Ready when ListTopics answers."""

    kind: Literal["pubsub"] = "pubsub"
    address: str
    project: str


Probe = Annotated[HttpProbe | PostgresProbe | PubSubProbe, Field(discriminator="kind")]


class Component(_Value):
    """One process: what to run, where it listens, and how to tell that it is ready."""

    name: str
    argv: tuple[str, ...] = Field(description="Program and arguments; holds no secret.")
    env: dict[str, str] = Field(description="The whole environment: nothing is inherited. Holds no secret.")
    cwd: Path
    ports: dict[str, int] = Field(description="Port per purpose, all on 127.0.0.1.")
    probe: Probe
    log: Path
    user: str | None = Field(default=None, description="Run as this user; None is the user who starts the stack.")
    stop_signal: int = Field(default=signal.SIGTERM, description="The signal that asks for a clean end.")
    stop_seconds: float = Field(default=10.0, description="How long a clean end may take before SIGKILL.")
    ready_seconds: float = Field(default=60.0, description="How long the start may take.")

    @property
    def command(self) -> str:
        """The command line as one would type it."""
        return shlex.join(self.argv)
