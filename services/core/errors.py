"""Errors, grouped by what the caller does about them.

PipelineError
 ├── ConfigurationError   a person corrects settings or tables.yaml; nothing has started
 │    └── SourceChanged   the source or its declaration is not what the watermark rests on: a person has to say so
 ├── TransientError       the same call may work later: do not acknowledge, retry with backoff
 │    ├── LeaseBusy       somebody else does this work now
 │    └── LeaseLost       this process held a lease and no longer does: stop before the next write
 └── DataError            this batch or object cannot be loaded as it is: to failed/, reported, acknowledged
"""

_MOST_CHARACTERS = 4_000
"""Of a message: it goes into the state, an alert and a reason, which all have a limit."""


class PipelineError(Exception):
    """An error that this pipeline raises itself."""


class ConfigurationError(PipelineError):
    """Settings, tables.yaml or the source's schema do not fit; nothing was read or written."""


class SourceChanged(ConfigurationError):
    """The source, or its declaration, is no longer what the watermark rests on, and a person has to accept that."""


class TransientError(PipelineError):
    """The same call may work later."""


class LeaseBusy(TransientError):
    """Another holder has the lease."""


class LeaseLost(TransientError):
    """The lease passed to another holder; nothing may be written under it any more."""


class DataError(PipelineError):
    """A batch or object that no retry can cure.

    Attributes:
        code: machine-readable reason, lower case with underscores.
        table: declared table, where known.
        batch_id: batch, where known.
        object_name: object in the bucket, where known.
        column: column, where known.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        table: str | None = None,
        batch_id: str | None = None,
        object_name: str | None = None,
        column: str | None = None,
    ) -> None:
        super().__init__(_cut(message))
        self.code = code
        self.table = table
        self.batch_id = batch_id
        self.object_name = object_name
        self.column = column if column is None else _cut(column)


def _cut(text: str) -> str:
    more = len(text) - _MOST_CHARACTERS
    return f"{text[:_MOST_CHARACTERS]}… ({more} characters more)" if more > 0 else text
