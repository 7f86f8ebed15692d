"""What an exercise is, and what examining an answer to it can give."""

import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

CORRECT = "correct"
NOT_YET = "not yet"
NOT_ATTEMPTED = "not attempted yet"
MARKS = {CORRECT: "✓", NOT_YET: "✗", NOT_ATTEMPTED: "○"}


class NotYet(Exception):  # noqa: N818  (an outcome, not an error)
    """Raised by an examiner: the answer is not right yet, and this is why."""


class WrongNumbers(NotYet):
    """Raised by `close` where numbers are wrong in no way that has a name.

    Attributes:
        wrong: bool array, of the answer's shape.
    """

    def __init__(self, message, wrong):
        super().__init__(message)
        self.wrong = wrong


class NotAttempted(Exception):  # noqa: N818
    """Raised when an answer turns out to be the stub that the lesson came with."""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson.

    Args:
        name: snake_case, unique in the course: what the learner passes to `check`.
        hints: Two or more, from a nudge to nearly the answer.
        reference: A right answer, the one that `use_or_reference` carries on with: a function or a value.
        examine: Called with an attempted answer. Raises `NotYet(why)` when it is not right, and
            `NotImplementedError(what to do)` when it is still what the lesson came with; otherwise it is correct,
            and a returned string is told to the learner as a remark. A learner's function arrives wrapped: what it
            is passed is copied, so that it cannot spoil the examiner's data.
        solution: The text that `solution` shows; unless given, the reference's source code or its value.
        lesson: The lesson's two digits, `"01"`: not to be given, for the catalogue takes them from the file's name.

    Raises:
        ValueError: If a field breaks one of these rules.

    Example:
        >>> hints = ("A half is 1 / 2.", "As a decimal, it starts with 0.")
        >>> Exercise("half", hints, 0.5, rnnkit.exercises.close(0.5)).solution_text()
        '0.5'
    """

    name: str
    hints: tuple[str, ...]
    reference: object
    examine: Callable[[object], str | None]
    solution: str = ""
    lesson: str = ""

    def __post_init__(self):
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", self.name):
            raise ValueError(f"An exercise's name is snake_case; received {self.name!r}. Rename it.")
        if isinstance(self.hints, str) or len(self.hints) < 2:
            raise ValueError(
                f"Exercise {self.name} needs a tuple of two hints or more; received {self.hints!r}. "
                "Write a nudge first, then nearly the answer."
            )
        if not callable(self.examine):
            raise ValueError(
                f"Exercise {self.name}: `examine` is a function of the answer; received {self.examine!r}. "
                "For a plain number or array pass `close(expected)`."
            )

    def solution_text(self):
        """Return what `solution` shows."""
        if self.solution:
            return textwrap.dedent(self.solution).strip()
        if inspect.isroutine(self.reference) or inspect.isclass(self.reference):
            return textwrap.dedent(inspect.getsource(self.reference)).strip()
        return repr(self.reference)


@dataclass(frozen=True)
class Outcome:
    """What examining an answer gave.

    Args:
        status: `"correct"`, `"not yet"` or `"not attempted yet"`.
        message: Why not yet, or a remark on a correct answer; may be empty.
    """

    status: str
    message: str = ""


def is_open(answer):
    """Tell whether an answer is a placeholder: `...`, None, or a list, tuple or dict of nothing else."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, list | tuple):
        return len(answer) > 0 and all(is_open(part) for part in answer)
    return answer is None or answer is ...
