"""Claims that a notebook states, measures and is held to."""

import math
import numbers
import operator
import statistics
from dataclasses import dataclass

import numpy as np

from rnnkit import _display
from rnnkit.course.lecture import SENTENCES

_RELATIONS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


class ClaimError(AssertionError):
    """The measurement does not bear the claim out."""


@dataclass(frozen=True)
class Claim:
    """A statement and what was measured to test it.

    Args:
        statement: The claim in words, true if it holds.
        values: What was measured, one number a run (a seed, usually): a number, a sequence or an array.
        relation: `">="`, `">"`, `"<="` or `"<"`, between each measured value and `bound`.
        bound: The number that the claim needs.
        fraction: How large a part of the values has to satisfy the relation, in (0, 1].
        floor: Numbers closer to 0 than this are rounding, and are shown as such.
        lecture: Key of the lecture's sentence that is measured, one of `rnnkit.lecture.SENTENCES`.
        supports: Whether the claim speaks for that sentence.

    Raises:
        ValueError: If the claim cannot be tested: nothing measured, a NaN, an unknown relation or sentence.

    Example:
        >>> Claim("halving three times gives an eighth", [0.5**3], "<=", 0.125).held
        True
    """

    statement: str
    values: tuple[float, ...]
    relation: str
    bound: float
    fraction: float = 1.0
    floor: float = 0.0
    lecture: str | None = None
    supports: bool = True

    def __post_init__(self):
        if not isinstance(self.statement, str) or not self.statement.strip():
            raise ValueError(f"A claim is a sentence that is true if it holds; received {self.statement!r}. Write one.")
        if not isinstance(self.relation, str) or self.relation not in _RELATIONS:
            raise ValueError(
                f"A claim needs one of the relations {', '.join(_RELATIONS)}; received {self.relation!r}. "
                "To claim that two numbers agree, measure their difference and bound it with '<='."
            )
        bound = _numbers("bound", self.bound)
        if len(bound) != 1:
            raise ValueError(f"A claim has one bound; received {len(bound)}. Give one number, or make several claims.")
        if not isinstance(self.fraction, numbers.Real) or not 0 < self.fraction <= 1:
            raise ValueError(
                f"A claim's fraction lies in (0, 1]; received {self.fraction!r}. "
                "Give the part of the runs that must hold, such as 0.8, or leave it out to need them all."
            )
        if not isinstance(self.floor, numbers.Real) or not 0 <= self.floor < np.inf:
            raise ValueError(
                f"A claim's floor is a number of at least 0; received {self.floor!r}. Try 1e-6, or leave it out."
            )
        if self.lecture is not None and self.lecture not in [*SENTENCES]:
            raise ValueError(
                f"A claim measures one of the lecture's sentences {', '.join(SENTENCES)}, or none of them; "
                f"received lecture={self.lecture!r}."
            )
        object.__setattr__(self, "values", _numbers("measured", self.values))
        object.__setattr__(self, "bound", bound[0])

    @property
    def runs_held(self):
        """How many of the values satisfy the relation."""
        return sum(_RELATIONS[self.relation](value, self.bound) for value in self.values)

    @property
    def runs_needed(self):
        """How many of the values have to satisfy the relation."""
        # The tolerance is for fractions such as 0.56 of 25 runs, which is 14.000000000000002 in floating point.
        return math.ceil(self.fraction * len(self.values) - 1e-9)

    @property
    def held(self):
        """Whether enough of the values satisfy the relation."""
        return self.runs_held >= self.runs_needed

    @property
    def verdict(self):
        """`"Claim holds"` or `"Claim does not hold"`."""
        return "Claim holds" if self.held else "Claim does not hold"

    @property
    def measured(self):
        """What was measured, in words: one number, or median and range and of how many runs."""
        digits = _digits(self)
        low, middle, high = (
            f"under {self.floor:g}" if abs(value) < self.floor else short(value, digits)
            for value in (min(self.values), statistics.median(self.values), max(self.values))
        )
        if len(self.values) == 1:
            return middle
        return f"{middle if low == high else f'{middle} (median; range {low} to {high})'} over {len(self.values)} runs"

    @property
    def needed(self):
        """What the claim needs, in words."""
        part = "" if self.fraction == 1 else f" in {100 * self.fraction:g} % of them"
        return f"{self.relation} {short(self.bound, 6)}{part}"

    def __str__(self):
        count = len(self.values)
        held = f": true of {self.runs_held} of {count}" if count > 1 else ""
        return f"{self.statement.rstrip('.')}. Measured {self.measured}; needed {self.needed}{held}."

    def as_record(self):
        """Return what the ledger of claims keeps, a dict of texts."""
        return {
            "kind": "claim",
            "statement": self.statement.rstrip("."),
            "measured": self.measured,
            "needed": self.needed,
            "verdict": self.verdict,
            "lecture": self.lecture,
            "supports": self.supports,
        }


def claim(statement, measured, relation, bound, *, fraction=1.0, floor=0.0, lecture=None, supports=True):
    """State a claim, show what was measured, and fail if it does not hold.

    Shows one line: the statement, the measurement (median and range when there are several runs), what was
    needed, and the verdict in words. Two digits are shown, more only where two would hide on which side of
    the bound a value lies: a notebook's text must survive another processor's rounding.

    Args:
        statement: The claim in words.
        measured: A number, or a sequence or array of them, one a run (a seed, usually).
        relation: `">="`, `">"`, `"<="` or `"<"`, between each measured value and `bound`.
        bound: The number that the claim needs.
        fraction: How large a part of the values has to satisfy the relation, in (0, 1]; all of them unless told.
        floor: Numbers closer to 0 than this are rounding, which differs from run to run: they are shown as
            "under 1e-06", if that is the floor.
        lecture: The sentence of the lecture that is measured, a key of `rnnkit.lecture.SENTENCES`; None for a claim of
            the lesson's own.
        supports: False if the claim, when it holds, speaks against that sentence.

    Raises:
        ClaimError: If the claim does not hold. It carries the line that was shown.
        ValueError: If the claim cannot be tested: nothing measured, a NaN, an unknown relation or sentence.

    Example:
        >>> claim("halving ten times shrinks a number 1000-fold", 1 / 0.5**10, ">=", 1000)
        ✓ Claim holds: halving ten times shrinks a number 1000-fold. Measured 1000; needed >= 1000.
    """
    record = Claim(statement, measured, relation, bound, fraction, floor, lecture, supports)
    _display.show(f"{'✓' if record.held else '✗'} {record.verdict}:", str(record), record=record.as_record())
    if not record.held:
        raise ClaimError(f"{record.verdict}: {record}")


def _numbers(what, given):
    """Return a number, sequence or array as a tuple of floats."""
    try:
        values = np.asarray(given).ravel()
    except ValueError:  # a ragged list
        values = np.array([None])
    if values.size and values.dtype.kind not in "biuf":
        raise ValueError(
            f"A claim's {what} must be numbers; received {given!r}. "
            "Pass a number, or a list or array of numbers of one shape."
        )
    if values.size == 0:
        raise ValueError(f"A claim's {what} must hold at least one number; received none. Did any run finish?")
    if np.isnan(values).any():
        raise ValueError(
            f"A claim's {what} must not be NaN, which is neither above nor below any bound; "
            f"received {np.isnan(values).sum()} NaN of {values.size}. Find the run that gave it, "
            "or count the NaN and claim something about their number."
        )
    return tuple(values.astype(float).tolist())


def _digits(claim):
    """Return the fewest significant digits, two at least, that leave each value on its side of the bound."""
    relation = _RELATIONS[claim.relation]
    for digits in range(2, 17):
        if all(
            relation(value, claim.bound) == relation(_rounded(value, digits), claim.bound) for value in claim.values
        ):
            break
    return digits


def _rounded(value, digits):
    return float(f"{value:.{digits - 1}e}")


def short(value, digits=2):
    """Return a number as a person would write it, rounded to so many digits.

    Example:
        >>> short(1234), short(0.000123), short(2.51e-6)
        ('1200', '0.00012', '2.5e-06')
    """
    return f"{_rounded(value, digits):.{max(digits, 6)}g}"
