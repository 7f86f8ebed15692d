"""What became of one run."""

import traceback
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What a run measured, or why it failed.

    Args:
        run: its number.
        measured: dict from name to array; None if it failed.
        message: why it failed.
        frames: where: (file, line, function) of each call, the innermost last. Without the lines of code, which may be
            a notebook's, that a worker does not know.
    """

    run: int
    measured: dict | None = None
    message: str = ""
    frames: tuple = ()

    @classmethod
    def failed(cls, run, error):
        """Return the outcome of a run that raised an error."""
        frames = tuple(
            (frame.filename, frame.lineno, frame.name) for frame in traceback.extract_tb(error.__traceback__)
        )
        return cls(run, message=f"{type(error).__name__}: {error}", frames=frames)
