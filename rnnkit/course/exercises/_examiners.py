"""Examiners that lessons share: of numbers, of letters, and of what goes wrong in a known way."""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from rnnkit.course.exercises._exercise import CORRECT, MARKS, NOT_ATTEMPTED, NOT_YET, NotYet, WrongNumbers, is_open


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
        rnnkit...NotYet: part 1 of your answer has the opposite sign of what it should have.
    """

    def examine(answer):
        if isinstance(expected, list | tuple):
            if not hasattr(answer, "__len__") or len(answer) != len(expected):
                received = f"{len(answer)} parts" if hasattr(answer, "__len__") else repr(answer)
                raise NotYet(f"{what} should have {len(expected)} parts; received {received}.")
            for index, (part, wanted) in enumerate(zip(answer, expected, strict=True)):
                close(wanted, rtol=rtol, atol=atol, what=f"part {index} of {what}")(part)
            return
        if is_open(answer):
            raise NotYet(f"{what} should be numbers; received {answer!r}.")
        try:
            received = np.asarray(answer, dtype=float)
        except (TypeError, ValueError):
            raise NotYet(f"{what} should be numbers; received {type(answer).__name__}.") from None
        _compare(received, np.asarray(expected, dtype=float), rtol, atol, what)

    return examine


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


class Mistake(NamedTuple):
    """A wrong answer that people really give.

    Args:
        message: What to tell them: what is wrong, and what to do instead.
        wrong: What they answer: a function of what the learner's function is given, or a value where that is asked for.
    """

    message: str
    wrong: object


def reject_known_mistakes(received, mistakes, *inputs, rtol=1e-5, atol=1e-8):
    """Say in an examiner which mistake it is that gives the numbers received, if one of them does.

    Args:
        received: What the learner's answer gave: a number, an array, or a list or tuple of them.
        mistakes: `Mistake`s; the first that fits is told.
        *inputs: What the learner's function was given.
        rtol: Relative tolerance.
        atol: Absolute tolerance.

    Raises:
        NotYet: With the message of the mistake.

    Example:
        >>> mistakes = [Mistake("that is the sum. Divide it by their number.", np.sum)]
        >>> reject_known_mistakes(2.0, mistakes, np.array([1.0, 3.0]))
        >>> reject_known_mistakes(4.0, mistakes, np.array([1.0, 3.0]))
        Traceback (most recent call last):
        ...
        rnnkit...NotYet: that is the sum. Divide it by their number.
    """
    for message, wrong in mistakes:
        if _agree(received, wrong(*inputs) if callable(wrong) else wrong, rtol, atol):
            raise NotYet(message)


def _agree(received, wrong, rtol, atol):
    """Tell whether an answer is the same as another one, part by part if both have parts."""
    if isinstance(received, list | tuple) and isinstance(wrong, list | tuple):
        pairs = zip(received, wrong, strict=False)
        return len(received) == len(wrong) and all(_agree(part, other, rtol, atol) for part, other in pairs)
    try:
        numbers = np.asarray(received)
        if not np.iscomplexobj(numbers):
            numbers = numbers.astype(float)
    except (TypeError, ValueError):  # `close` says what numbers should look like
        return False
    return numbers.shape == np.shape(wrong) and np.allclose(numbers, wrong, rtol=rtol, atol=atol)


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
        rnnkit...NotYet: Go through the list.
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
            if not is_open(answer):
                try:
                    status, remark = CORRECT, question(answer)
                    right += 1
                except NotYet as why:
                    status, remark = NOT_YET, why
            lines.append(f"{MARKS[status]} Question {number}: {status}." + (f" {remark}" if remark else ""))
        feedback = "\n".join([f"{right} of {len(questions)} correct.", *lines])
        if right < len(questions):
            raise NotYet(feedback)
        return feedback

    return examine
