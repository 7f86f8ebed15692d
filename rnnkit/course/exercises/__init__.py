"""Exercises with three outcomes: correct, not yet (and why), not attempted yet.

What is known of the exercises of lesson NN is in `lesson_NN.py` beside this file, as a tuple `EXERCISES`; those
files are imported when a name is first looked up. A lesson's author needs `Exercise`, `NotYet` and the examiners
`close`, `choice` and `quiz`; a learner needs `check`, `hint`, `solution` and `use_or_reference`.
"""

import difflib
import dis
import functools
import inspect
import linecache
import os
import pkgutil
import re
import textwrap
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from rnnkit import _display
from rnnkit.course.exercises import _progress

CORRECT = "correct"
NOT_YET = "not yet"
NOT_ATTEMPTED = "not attempted yet"

_MARKS = {CORRECT: "✓", NOT_YET: "✗", NOT_ATTEMPTED: "○"}
_EXPECTED = {"correct": CORRECT, "open": NOT_ATTEMPTED}
_hints_shown = {}


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


class _NotAttempted(Exception):  # noqa: N818
    """Raised when an answer turns out to be the stub that the lesson came with."""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson.

    Args:
        name: snake_case, unique in the course: what the learner passes to `check`.
        lesson: The lesson's two digits, `"01"`.
        hints: Two or more, from a nudge to nearly the answer.
        reference: A right answer, the one that `use_or_reference` carries on with: a function or a value.
        examine: Called with an attempted answer. Raises `NotYet(why)` when it is not right, and
            `NotImplementedError(what to do)` when it is still what the lesson came with; otherwise it is correct,
            and a returned string is told to the learner as a remark. A learner's function arrives wrapped: what it
            is passed is copied, so that it cannot spoil the examiner's data.
        solution: The text that `solution` shows; unless given, the reference's source code or its value.

    Raises:
        ValueError: If a field breaks one of these rules.

    Example:
        >>> Exercise("half", "00", ("A half is 1 / 2.", "As a decimal, it starts with 0."), 0.5, close(0.5)).lesson
        '00'
    """

    name: str
    lesson: str
    hints: tuple[str, ...]
    reference: object
    examine: Callable[[object], str | None]
    solution: str = ""

    def __post_init__(self):
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", self.name):
            raise ValueError(f"An exercise's name is snake_case; received {self.name!r}. Rename it.")
        if not re.fullmatch(r"\d\d", self.lesson):
            raise ValueError(f"Exercise {self.name}: the lesson is two digits, such as '01'; received {self.lesson!r}.")
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


# --- what a learner calls -------------------------------------------------------------------------------------


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
    _display.show(f"{_MARKS[outcome.status]} {name}: {outcome.status}.", text)
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


# --- what tests and graders call ------------------------------------------------------------------------------


def evaluate(name, answer):
    """Examine an answer without showing anything. No exception of the learner's code gets out.

    Args:
        name: The exercise's name.
        answer: The learner's function or value.

    Returns:
        The `Outcome`.

    Raises:
        ValueError: If there is no such exercise.

    Example:
        >>> evaluate("no_such_exercise", 3)
        Traceback (most recent call last):
        ...
        ValueError: There is no exercise called `no_such_exercise`. ...
    """
    if not _exists(name):
        raise ValueError(_unknown(name))
    if _is_open(answer):
        return Outcome(NOT_ATTEMPTED)
    try:
        remark = catalogue()[name].examine(_guarded(answer))
        if not isinstance(remark, str | None):
            raise TypeError(f"`examine` returns None or a remark, and raises NotYet; it returned {remark!r}")
        return Outcome(CORRECT, remark or "")
    except Exception as error:
        return outcome_of(error, answer)


def outcome_of(error, answer=None):
    """Say what an exception tells of an answer.

    Args:
        error: What the answer, or its examiner, raised.
        answer: The answer, for its place in the learner's code.

    Returns:
        The `Outcome`.

    Example:
        >>> outcome_of(NotYet("the sign is wrong.")).status
        'not yet'
    """
    if isinstance(error, NotYet):
        return Outcome(NOT_YET, str(error))
    if isinstance(error, _NotAttempted | NotImplementedError):
        return Outcome(NOT_ATTEMPTED, str(error))
    # Whatever is done with a `...` left in the middle of a function, the complaint names its type. (NumPy's
    # own errors about an ellipsis in an index or in einsum do not call it a type.)
    if re.search(r"'ellipsis'|type ellipsis", str(error)):
        return Outcome(NOT_ATTEMPTED, "A `...` still stands in it.")
    return Outcome(NOT_YET, _complaint(error, answer))


@functools.cache
def catalogue():
    """Return every exercise of the course by name, from the lesson files beside this one.

    Returns:
        A dict from name to `Exercise`, in the order of the lessons.

    Raises:
        ValueError: If two exercises share a name, or one stands in another lesson's file.

    Example:
        >>> all(exercise.name == name for name, exercise in catalogue().items())
        True
    """
    found = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        if not module.startswith("lesson_"):
            continue
        for exercise in import_module(f"{__name__}.{module}").EXERCISES:
            if exercise.name in found:
                raise ValueError(
                    f"Exercise names are unique in the course; {exercise.name!r} is in lessons "
                    f"{found[exercise.name].lesson} and {exercise.lesson}. Rename one."
                )
            if module != f"lesson_{exercise.lesson}":
                raise ValueError(
                    f"Exercise {exercise.name!r} of lesson {exercise.lesson} stands in {module}.py. "
                    f"Move it to lesson_{exercise.lesson}.py, or correct its lesson."
                )
            found[exercise.name] = exercise
    return found


# --- examiners that lessons share -----------------------------------------------------------------------------


def close(expected, *, rtol=1e-4, atol=1e-7, what="your answer"):
    """Return an examiner of numbers: equal to what is expected, to rounding.

    It says what kind of difference there is (shape, NaN, sign, a constant factor, where), not the expected
    numbers. It serves inside other examiners too: `close(3.0, what="the norm")(answer(x))`.

    Args:
        expected: A number, an array, or a list or tuple of them, which is compared part by part.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        what: What to call the answer in messages.

    Returns:
        A function of the answer that raises `NotYet` or returns None.

    Example:
        >>> close([1.0, 2.0])([1.0, 2.0])
        >>> close([1.0, 2.0])([1.0, -2.0])
        Traceback (most recent call last):
        ...
        rnnkit.course.exercises.NotYet: part 1 of your answer has the opposite sign of what it should have.
    """

    def examine(answer):
        if isinstance(expected, list | tuple):
            if not hasattr(answer, "__len__") or len(answer) != len(expected):
                received = f"{len(answer)} parts" if hasattr(answer, "__len__") else repr(answer)
                raise NotYet(f"{what} should have {len(expected)} parts; received {received}.")
            for index, (part, wanted) in enumerate(zip(answer, expected, strict=True)):
                close(wanted, rtol=rtol, atol=atol, what=f"part {index} of {what}")(part)
            return
        if _is_open(answer):
            raise NotYet(f"{what} should be numbers; received {answer!r}.")
        try:
            received = np.asarray(answer, dtype=float)
        except (TypeError, ValueError):
            raise NotYet(f"{what} should be numbers; received {type(answer).__name__}.") from None
        _compare(received, np.asarray(expected, dtype=float), rtol, atol, what)

    return examine


@contextmanager
def explained(kind, word, why):
    """Say in an examiner what an error of the learner's code, raised in the block, comes from.

    Args:
        kind: The error's class.
        word: What its message has to hold; others are raised as they are.
        why: What to tell the learner instead.

    Raises:
        NotYet: In its place.

    Example:
        >>> with explained(TypeError, "list", "Go through the list."):
        ...     [1, 2] / 2
        Traceback (most recent call last):
        ...
        rnnkit.course.exercises.NotYet: Go through the list.
    """
    try:
        yield
    except kind as error:
        if word not in str(error):
            raise
        raise NotYet(why.format(error=error)) from None


def choice(correct, because):
    """Return an examiner of a multiple-choice question that explains the option picked.

    Args:
        correct: The letter of the right option.
        because: A dict from each option's letter to what to tell the learner who picks it: why it is wrong and,
            if there is something to add, why the right one is right.

    Returns:
        A function of the answer (a letter) that raises `NotYet` or returns a remark.

    Raises:
        ValueError: If no wrong option is explained.

    Example:
        >>> choice("b", {"a": "That is the forward pass.", "b": "The chain rule at work."})("b")
        'The chain rule at work.'
    """
    letters = sorted({correct, *because})
    if len(letters) < 2:
        raise ValueError(
            f"A multiple-choice question explains each wrong option; received {because!r}. Add them to `because`."
        )

    def examine(answer):
        picked = answer.strip(" ().").lower() if isinstance(answer, str) else answer  # options are printed as (b)
        if picked not in letters:
            raise NotYet(f"answer with one of the letters {', '.join(letters)}; received {answer!r}.")
        if picked != correct:
            raise NotYet(f"({picked}) {because[picked]}")
        return because.get(correct)

    return examine


def quiz(*questions):
    """Return an examiner of a quiz: one letter a question, one line of feedback each.

    Args:
        questions: What `choice` returns, one a question.

    Returns:
        A function of the answers (a list with a letter or `...` for each question, or a string of letters).

    Example:
        >>> examine = quiz(choice("b", {"a": "No."}), choice("a", {"b": "No."}))
        >>> print(examine(["b", "a"]))
        2 of 2 correct.
        ✓ Question 1: correct.
        ✓ Question 2: correct.
    """

    def examine(answers):
        if not isinstance(answers, str | list | tuple) or len(answers) != len(questions):
            raise NotYet(f"give a list of {len(questions)} letters, one a question; received {answers!r}.")
        lines, right = [], 0
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True), start=1):
            status, remark = NOT_ATTEMPTED, None
            if not _is_open(answer):
                try:
                    status, remark = CORRECT, question(answer)
                    right += 1
                except NotYet as why:
                    status, remark = NOT_YET, why
            lines.append(f"{_MARKS[status]} Question {number}: {status}." + (f" {remark}" if remark else ""))
        feedback = "\n".join([f"{right} of {len(questions)} correct.", *lines])
        if right < len(questions):
            raise NotYet(feedback)
        return feedback

    return examine


# --- the machinery --------------------------------------------------------------------------------------------


def _expected():
    """Return the status that the environment demands of every check, or None."""
    asked = os.environ.get("RNNKIT_EXPECT")
    if asked and asked not in _EXPECTED:
        raise ValueError(f"RNNKIT_EXPECT is one of {', '.join(_EXPECTED)}; received {asked!r}. Set or unset it.")
    return _EXPECTED.get(asked)


def _known(name):
    """Return whether there is such an exercise; if not, say so (a test run fails)."""
    if _exists(name):
        return True
    if _expected():
        raise ValueError(_unknown(name))
    _display.show("?", _unknown(name))
    return False


def _exists(name):
    return isinstance(name, str) and name in catalogue()


def _unknown(name):
    near = difflib.get_close_matches(str(name), catalogue(), n=3)
    names = f"Did you mean {' or '.join(f'`{match}`' for match in near)}?" if near else "Its cell names it."
    return f"There is no exercise called `{name}`. {names}"


def _is_open(answer):
    """Return whether an answer is a placeholder: `...`, None, or a list, tuple or dict of nothing else."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, list | tuple):
        return len(answer) > 0 and all(_is_open(part) for part in answer)
    return answer is None or answer is ...


def _guarded(answer):
    """Wrap a learner's function: copies go in, and a stub's `...` or a forgotten return does not come out."""
    if not inspect.isroutine(answer):
        return answer

    @functools.wraps(answer)
    def call(*args, **kwargs):
        result = answer(*_copied(args), **_copied(kwargs))
        if result is None and not _does_nothing(answer):
            raise NotYet("your function returned None. Is there a `return` on every way out of it?")
        if _is_open(result):
            raise _NotAttempted
        return result

    return call


def _copied(value):
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) in (list, tuple):
        return type(value)(_copied(part) for part in value)
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return value


def _does_nothing(function):
    """Return whether a function's body is only a docstring, `...` or `pass`."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
    return code is not None and {step.opname for step in dis.get_instructions(code)} <= idle


def _complaint(error, answer):
    """Tell the learner about an exception: where in their own code it arose, if it did."""
    if told := getattr(error, "told", ""):  # in the process of the answer, by this function
        return told
    what = textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...").rstrip(":")
    own = {"__main__"}  # a notebook's cells
    if inspect.isroutine(answer) or inspect.isclass(answer):
        own.add(answer.__module__)
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_globals.get("__name__") in own:
            source = linecache.getline(frame.f_code.co_filename, line, frame.f_globals).strip()
            return f"your code raised {what}, at line {line}: `{source}`" if source else f"your code raised {what}"
    return f"your answer, {_brief(answer)}, could not be examined ({what}). Is it of the kind that was asked for?"


def _brief(answer):
    text = repr(answer)
    return text if len(text) <= 40 else f"a {type(answer).__name__}"


def _compare(received, expected, rtol, atol, what):
    """Raise NotYet with the kind of difference between two arrays of numbers."""

    def same(candidate):
        return np.allclose(received, candidate, rtol=rtol, atol=atol)

    if received.shape != expected.shape:
        turned = " Are two axes swapped?" if received.T.shape == expected.shape else ""
        raise NotYet(f"{what} should have shape {expected.shape}; received {received.shape}.{turned}")
    broken = ~np.isfinite(received) & np.isfinite(expected)
    if broken.any():
        raise NotYet(f"{what} has {broken.sum()} of {broken.size} numbers that are NaN or infinite.")
    if same(expected):
        return
    if same(-expected):
        raise NotYet(f"{what} has the opposite sign of what it should have.")
    if received.size == 1:  # any two numbers differ by some factor, which would give the answer away
        raise NotYet(f"{what} is too {'large' if (received > expected).all() else 'small'}.")
    peak = np.argmax(np.abs(expected))
    factor = received.flat[peak] / expected.flat[peak] if expected.flat[peak] else 0.0
    if factor and same(factor * expected):
        raise NotYet(f"{what} is {factor:.4g} times what it should be.")
    wrong = ~np.isclose(received, expected, rtol=rtol, atol=atol)
    where = np.argwhere(wrong)[0].tolist()
    raise WrongNumbers(f"{what} is wrong in {wrong.sum()} of {wrong.size} numbers, first at index {where}.", wrong)
