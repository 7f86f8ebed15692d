"""Cards for published results that a lesson measured again: what was found there, what here, and the verdict."""

import json
from pathlib import Path

import numpy as np

from rnnkit import _display
from rnnkit.course import claims

VERDICTS = ("reproduced", "reproduced in part", "not reproduced", "not comparable")
# Gathered from the solutions' stored outputs by `rnnkit records`; part of the package, for a learner has no solutions.
GATHERED = Path(__file__).with_name("replications.json")


def replication(result, *, source, setting, published, here, verdict):
    """Show and record what became of one published result.

    Args:
        result: What was found, in words.
        source: Where it stands: authors, year, and table or figure.
        setting: Pair of texts: the setting there, and the setting here.
        published: What was found there: a text or number, or a dict of them, one for each row of a table.
        here: What was measured here, in the same form. A sequence or array holds one number a run, and is shown as
            median and range.
        verdict: Begins with "reproduced", "reproduced in part", "not reproduced" or "not comparable", then says why.

    Raises:
        ValueError: If the verdict begins otherwise, a text or a setting is missing, what was found is neither text nor
            number, or the rows of both sides differ.

    Example:
        >>> replication(
        ...     "clipping rescues training",
        ...     source="A paper (2013), table 1",
        ...     setting=("200 steps", "20 steps"),
        ...     published={"plain": "fails", "clipped": 0.99},
        ...     here={"plain": "fails", "clipped": [0.97, 0.98, 1.0]},
        ...     verdict="reproduced, at a tenth of the length",
        ... )
        Replication: clipping rescues training. A paper (2013), table 1
         | published | here
        setting | 200 steps | 20 steps
        plain | fails | fails
        clipped | 0.99 | 0.98 (median; range 0.97 to 1 over 3 runs)
        Verdict: reproduced, at a tenth of the length.
    """
    for name, text in (("result", result), ("source", source)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"`{name}` is a text, shown on the card; received {text!r}. Write one.")
    if not isinstance(verdict, str) or not verdict.startswith(VERDICTS):
        raise ValueError(f"A verdict begins with one of {', '.join(map(repr, VERDICTS))}; received {verdict!r}.")
    if isinstance(setting, str) or len(setting) != 2:
        raise ValueError(f"`setting` is a pair of texts, the setting there and the one here; received {setting!r}.")
    there, ours = (_by_row(side) for side in (published, here))
    if list(there) != list(ours):
        raise ValueError(
            f"`published` and `here` need the same rows in the same order; received {list(there)} and {list(ours)}."
        )
    record = {
        "kind": "replication",
        "result": result.rstrip("."),
        "source": source,
        "setting": list(setting),
        # A list: a stored notebook sorts the keys of a dict.
        "rows": [[name, there[name], ours[name]] for name in there],
        "verdict": verdict.rstrip("."),
    }
    _show(record)


def replications():
    """Show a card for each published result that a lesson of this course measured again.

    Returns:
        list of dicts: one a card, with the keys `lesson`, `result`, `source`, `setting` (pair), `published` and `here`
        (dicts by row), `verdict`.

    Example:
        >>> cards = replications()  # doctest: +ELLIPSIS
        Lesson 02...
        >>> cards[0]["lesson"]
        '02'
    """
    cards = json.loads(GATHERED.read_text(encoding="utf-8"))
    for card in cards:
        _show(card, f"Lesson {card['lesson']}", keep=False)
        rows = card.pop("rows")
        card["published"] = {name: there for name, there, _ in rows}
        card["here"] = {name: ours for name, _, ours in rows}
    return cards


def _show(record, lead="Replication", keep=True):
    _display.table(
        f"{lead}: {record['result']}. {record['source']}",
        ("", "published", "here"),
        [("setting", *record["setting"]), *record["rows"]],
        f"Verdict: {record['verdict']}.",
        record=record if keep else None,
    )


def _by_row(side):
    """Return one side of a card as a dict of texts."""
    rows = side if isinstance(side, dict) else {"result": side}
    return {str(name): _said(value) for name, value in rows.items()}


def _said(value):
    if isinstance(value, str):
        return value
    try:
        values = np.ravel(value).astype(float)
    except (TypeError, ValueError):  # None, say, or a list of lists of several lengths
        values = np.array([np.nan])
    if values.size == 0 or np.isnan(values).any():
        raise ValueError(f"A card shows numbers, at least one and none of them NaN; received {value!r}.")
    if values.size == 1:
        return f"{values[0]:.4g}"
    low, middle, high = map(claims.short, (values.min(), np.median(values), values.max()))
    spread = f"all of {values.size} runs" if low == high else f"median; range {low} to {high} over {values.size} runs"
    return f"{middle} ({spread})"
