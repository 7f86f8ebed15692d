"""The page about claims' margins, docs/reports/margins.md."""

import datetime
import json
import math
import statistics
from collections import defaultdict
from itertools import count
from typing import NamedTuple

from benchmarks.child import versions
from benchmarks.page import machine

from rnnkit.course.claims import Claim, short

CLOSE = 0.2
WORDS = ("clear", "exact", "close", "fails")
_HEAD = f"""# How far the claims hold

Each solution was run again with other seeds: networks, data, order of batches, all moved by 100, 200, and so on. The
tables have, for each claim, the worst of all the values that were measured there, beside what was needed. *Room* is
its distance from the bound in parts of the bound; for a share with a bound of a half or more, in parts of what is left
to 1; where the bound is 0, in parts of the median. Where a claim needs only a part of the values, the worst of each
round's best part counts, and *values* tells how many of all of them held. A room below {CLOSE:.0%} is *close*;
*exact* is what came out as the bound itself, each time.

A value is one seed's, unless a claim is about several seeds together, such as a median: then it is one round's.

<!-- Made by `make margins ARGS=publish`. -->
"""


class Margin(NamedTuple):
    """How a claim fared in all rounds together."""

    statement: str
    needed: str
    values: int
    held: int
    worst: float
    room: float

    @property
    def word(self):
        """The verdict, one of `WORDS`."""
        if self.room == 0:
            return "exact"
        if self.room < 0:
            return "fails"
        return "clear" if self.room >= CLOSE else "close"

    def __str__(self):
        statement = self.statement.rstrip(".").replace("|", "\\|")
        said = f"{self.room:.0%}" if self.room < 10 else f"{self.room:.0e}"
        mark = {"clear": said, "exact": "exact"}.get(self.word, f"**{said}, {self.word}**")
        values = self.values if self.held == self.values else f"{self.held} of {self.values}"
        return f"| {statement} | {self.needed} | {values} | {short(self.worst, 3)} | {mark} |"


def page(folder):
    """Return the page as Markdown.

    Args:
        folder: where the rounds' files lie, `NN_name-ROUND.jsonl`.
    """
    tables, every = [], []
    for lesson in sorted({path.name[:2] for path in folder.glob("*.jsonl")}):
        rounds = sorted(folder.glob(f"{lesson}_*.jsonl"))
        found = margins(rounds)
        every += found
        tables += ["", f"## Lesson {lesson}, {len(rounds)} rounds", ""]
        tables += ["| claim | needed | values | worst | room |", "|---|---|---|---|---|", *map(str, found)]
    told = ", ".join(f"{sum(one.word == word for one in every)} {word}" for word in WORDS)
    libraries = ", ".join(f"{name} {version}" for name, version in versions().items())
    measured = f"Measured until {datetime.date.today().isoformat()} with {libraries}; {machine()}."
    return "\n".join([_HEAD, measured, "", f"{len(every)} claims: {told}.", *tables]) + "\n"


def margins(rounds):
    """Return the `Margin` of each claim of a lesson, from the files of its rounds."""
    claims = defaultdict(list)
    for path in rounds:
        places = defaultdict(count)  # a statement may be made of two things in turn
        for line in path.read_text(encoding="utf-8").splitlines():
            claim = Claim(**json.loads(line))
            claims[claim.statement, next(places[claim.statement])].append(claim)
    return [margin(found) for found in claims.values()]


def margin(claims):
    """Return the `Margin` of one claim, a list of `Claim`, one a round."""
    first = claims[0]
    values = [value for claim in claims for value in claim.values]
    sign = 1 if first.relation in (">", ">=") else -1
    share = sign > 0 and first.bound >= 0.5 and all(0 <= value <= 1 for value in values)
    size = abs(statistics.median(values)) or 1.0

    def room(value, bound):
        return sign * (value - bound) / (1 - bound if share and bound < 1 else abs(bound) or size)

    ranked = [sorted(((room(value, claim.bound), value) for value in claim.values), reverse=True) for claim in claims]
    least, worst = min(best_first[claim.runs_needed - 1] for claim, best_first in zip(claims, ranked, strict=True))
    if least == 0 and (max(ranked)[0][0] != 0 or first.relation in "<>"):
        least = math.copysign(1e-9, -1 if first.relation in "<>" else 1)  # at the bound, where others were not
    held = sum(claim.runs_held for claim in claims)
    return Margin(first.statement, first.needed, len(values), held, worst, least)
