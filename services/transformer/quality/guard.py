"""What makes a statement that takes rows in test them, too."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """What makes of a SELECT of rows one that raises an error unless all tests pass on them: what stands around it.

    It has the rows' columns, whichever they are. As a part of another query it needs brackets.
    """

    before: str
    after: str

    def around(self, rows: str) -> str:
        """The guarded SELECT."""
        return f"{self.before}{rows}{self.after}"
