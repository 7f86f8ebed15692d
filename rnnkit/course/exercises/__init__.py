"""Exercises with three outcomes: correct, not yet (and why), not attempted yet.

What is known of the exercises of lesson NN is in `lesson_NN.py` beside this file, as a tuple `EXERCISES`; those
files are imported when a name is first looked up. A learner needs `check`, `hint`, `solution`, `use_or_reference` and
`progress`, which stand here; a lesson's author needs `Exercise`, `NotYet` and the examiners; tests and graders need
`catalogue` and `evaluate`.
"""

import os

from rnnkit import _display
from rnnkit.course.exercises import _progress
from rnnkit.course.exercises._catalogue import catalogue, exists, unknown
from rnnkit.course.exercises._evaluate import complaint, does_nothing, evaluate, outcome_of, unguarded
from rnnkit.course.exercises._examiners import Mistake, choice, close, explained, quiz, reject_known_mistakes
from rnnkit.course.exercises._exercise import (
    CORRECT,
    MARKS,
    NOT_ATTEMPTED,
    NOT_YET,
    Exercise,
    NotAttempted,
    NotYet,
    Outcome,
    WrongNumbers,
)

__all__ = [
    "CORRECT",
    "NOT_ATTEMPTED",
    "NOT_YET",
    "Exercise",
    "Mistake",
    "NotAttempted",
    "NotYet",
    "Outcome",
    "WrongNumbers",
    "catalogue",
    "check",
    "choice",
    "close",
    "complaint",
    "does_nothing",
    "evaluate",
    "explained",
    "hint",
    "outcome_of",
    "progress",
    "quiz",
    "reject_known_mistakes",
    "solution",
    "unguarded",
    "use_or_reference",
]

_EXPECTED = {"correct": CORRECT, "open": NOT_ATTEMPTED}
_hints_shown = {}


def check(name, answer):
    """Say whether an answer is correct, not yet (and why), or not attempted yet.

    Args:
        name: The exercise's name, as the lesson gives it.
        answer: The learner's function or value; `...` or None where there is none yet.

    Raises:
        AssertionError: Never in front of a learner. Only where the environment variable RNNKIT_EXPECT asks for
            it, as in the course's own tests: `correct` or `open` (nothing attempted).

    Example:
        >>> check("no_such_exercise", ...)  # doctest: +ELLIPSIS
        ? There is no exercise called `no_such_exercise`. ...
    """
    if not _known(name):
        return
    outcome = evaluate(name, answer)
    text = outcome.message
    if outcome.status == NOT_ATTEMPTED:
        text = f"{text or 'Replace the `...` with your answer and run this cell again.'} Stuck? `rnnkit.hint({name!r})`"
    _display.show(f"{MARKS[outcome.status]} {name}: {outcome.status}.", text)
    if outcome.status == CORRECT:
        _progress.note(name)
    expected = _expected()
    if expected not in (None, outcome.status):
        raise AssertionError(f"Exercise {name} should be {expected!r} here; it is {outcome.status!r}. {text}")


def hint(name, number=None):
    """Show the next hint of an exercise, or a particular one.

    Args:
        name: The exercise's name.
        number: Which hint, from 1; unless given, the one after the last that was shown.

    Example:
        >>> hint("no_such_exercise")  # doctest: +ELLIPSIS
        ? There is no exercise called `no_such_exercise`. ...
    """
    if not _known(name):
        return
    hints = catalogue()[name].hints
    following = number is None
    if following:
        number = _hints_shown[name] = _hints_shown.get(name, 0) + 1
    if number in range(1, len(hints) + 1):
        _display.show(f"Hint {number} of {len(hints)} for {name}:", hints[number - 1])
    elif following:
        _display.show(
            f"No more hints for {name}.",
            f"See one again with `rnnkit.hint({name!r}, 1)`, or the answer with `rnnkit.solution({name!r})`.",
        )
    else:
        _display.show("?", f"The hints for `{name}` are numbered 1 to {len(hints)}; there is no hint {number!r}.")


def solution(name):
    """Show a solution of an exercise.

    Args:
        name: The exercise's name.

    Example:
        >>> solution("no_such_exercise")  # doctest: +ELLIPSIS
        ? There is no exercise called `no_such_exercise`. ...
    """
    if _known(name):
        _display.show(f"A solution of {name}.", "Others may be as good.", code=catalogue()[name].solution_text())


def use_or_reference(name, answer):
    """Return the answer when it is correct, otherwise the reference answer, and say so.

    Args:
        name: The exercise's name.
        answer: The learner's function or value, attempted or not.

    Returns:
        What the rest of the lesson can go on with.

    Example:
        >>> use_or_reference("no_such_exercise", 3)  # doctest: +ELLIPSIS
        ? There is no exercise called `no_such_exercise`. ...
        3
    """
    if not _known(name):
        return answer
    outcome = evaluate(name, answer)
    if outcome.status == CORRECT:
        return answer
    status = "not yet correct" if outcome.status == NOT_YET else outcome.status
    _display.show(f"Carrying on with the reference answer of {name}:", f"yours is {status}, and that is fine.")
    return catalogue()[name].reference


def progress(lesson=None):
    """Show which exercises are done, as far as they were found correct in a notebook on this machine.

    It is kept in a small file that can be deleted, `~/.rnnkit/progress.txt`, or the one that the environment variable
    RNNKIT_PROGRESS names (`off`: none). Nothing leaves the machine.

    Args:
        lesson: The lesson's two digits; unless given, all of them.

    Raises:
        ValueError: If there is no such lesson.

    Example:
        >>> progress("no such lesson")
        Traceback (most recent call last):
        ...
        ValueError: Lessons are two digits, ...; received 'no such lesson'.
    """
    lessons = {}
    for exercise in catalogue().values():
        lessons.setdefault(exercise.lesson, []).append(exercise.name)
    if lesson not in (None, *lessons):
        raise ValueError(f"Lessons are two digits, {min(lessons)!r} to {max(lessons)!r}; received {lesson!r}.")
    if _expected():  # a run of the course's own, which must say the same each time and on each machine
        _display.show("Your progress:", "shown here when you work through the lesson, and kept on your machine only.")
        return
    path, done, trouble = _progress.file(), {}, ""
    try:
        done = _progress.read(path)
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        trouble = str(error)
    shown = lessons if lesson is None else {lesson: lessons[lesson]}
    rows = [
        (
            f"lesson {number}",
            f"{sum(name in done for name in names)} of {len(names)}",
            ", ".join(name for name in names if name not in done) or "none",
        )
        for number, names in shown.items()
    ]
    count, total = (sum(name in done for name in catalogue()), len(catalogue()))
    _display.table(
        f"{count} of the course's {total} exercises are done.", ("", "done", "open"), rows, _kept(path, trouble)
    )


def _kept(path, trouble):
    """Return where the progress is kept, and what is wrong there."""
    if path is None:
        return f"It is not kept: {_progress.VARIABLE} is off, or there is no home folder."
    if trouble:
        return f"{path} cannot be read, so that nothing counts as done ({trouble}). Delete it to begin anew."
    return f"Kept in {path} on this machine only; delete it to begin anew."


def _expected():
    """Return the status that the environment demands of every check, or None."""
    asked = os.environ.get("RNNKIT_EXPECT")
    if asked and asked not in _EXPECTED:
        raise ValueError(f"RNNKIT_EXPECT is one of {', '.join(_EXPECTED)}; received {asked!r}. Set or unset it.")
    return _EXPECTED.get(asked)


def _known(name):
    """Return whether there is such an exercise; if not, say so (a test run fails)."""
    if exists(name):
        return True
    if _expected():
        raise ValueError(unknown(name))
    _display.show("?", unknown(name))
    return False
