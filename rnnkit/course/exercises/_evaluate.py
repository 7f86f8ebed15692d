"""What an answer is worth, without a word to anybody, and without an exception that gets out."""

import dis
import functools
import inspect
import linecache
import re
import textwrap
import traceback

import numpy as np

from rnnkit.course.exercises._catalogue import catalogue, exists, unknown
from rnnkit.course.exercises._exercise import CORRECT, NOT_ATTEMPTED, NOT_YET, NotAttempted, NotYet, Outcome, is_open


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
    if not exists(name):
        raise ValueError(unknown(name))
    if is_open(answer):
        return Outcome(NOT_ATTEMPTED)
    try:
        remark = catalogue()[name].examine(guarded(answer))
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
    if isinstance(error, NotAttempted | NotImplementedError):
        return Outcome(NOT_ATTEMPTED, str(error))
    # Whatever is done with a `...` left in the middle of a function, the complaint names its type. (NumPy's
    # own errors about an ellipsis in an index or in einsum do not call it a type.)
    if re.search(r"'ellipsis'|type ellipsis", str(error)):
        return Outcome(NOT_ATTEMPTED, "A `...` still stands in it.")
    return Outcome(NOT_YET, complaint(error, answer))


def complaint(error, answer):
    """Tell a learner about an exception: where in their own code it arose, if it did.

    Args:
        error: What the answer, or its examiner, raised. Its attribute `told`, if it has one, is what this function
            said of it in another process, where the learner's code ran.
        answer: The answer.

    Returns:
        A sentence or two.

    Example:
        >>> complaint(ValueError("no"), 7)
        'your answer, 7, could not be examined (ValueError: no). Is it of the kind that was asked for?'
    """
    if told := getattr(error, "told", ""):
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


def guarded(answer):
    """Wrap a learner's function: copies go in, and a stub's `...` or a forgotten return does not come out.

    Args:
        answer: What the learner gave. Models and classes are callable too, but an examiner may want their attributes:
            they stay as they are.

    Returns:
        The wrapped function, or the answer itself. `unguarded` gives back what was wrapped.
    """
    if not inspect.isroutine(answer):
        return answer

    @functools.wraps(answer)
    def call(*args, **kwargs):
        result = answer(*_copied(args), **_copied(kwargs))
        if result is None and not does_nothing(answer):
            raise NotYet("your function returned None. Is there a `return` on every way out of it?")
        if is_open(result):
            raise NotAttempted
        return result

    call.unguarded = answer
    return call


def unguarded(answer):
    """Return the learner's own function, in an examiner that looks at what becomes of its arguments.

    Args:
        answer: What the examiner was given.

    Returns:
        The function, to which the arguments go as they are; or the answer, if it was not wrapped.

    Example:
        >>> numbers = [2, 1]
        >>> unguarded(guarded(list.sort))(numbers)
        >>> numbers
        [1, 2]
    """
    return getattr(answer, "unguarded", answer)


def _copied(value):
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) in (list, tuple):
        return type(value)(_copied(part) for part in value)
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return value


def _operations(code):
    return {step.opname for step in dis.get_instructions(code)}


# Of the Python that runs, for each has its own. (The source would tell as well, but there is none in a `%%time` cell.)
_OF_AN_EMPTY_FUNCTION = {"NOP", *_operations((lambda: None).__code__)}


def does_nothing(function):
    """Tell whether a function's body is only a docstring, `...` or `pass`.

    Args:
        function: The learner's, or a wrapper of it.

    Returns:
        bool.

    Example:
        >>> does_nothing(lambda vector: None), does_nothing(lambda vector: vector.sort())
        (True, False)
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and _operations(code) <= _OF_AN_EMPTY_FUNCTION
