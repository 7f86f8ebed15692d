import json

import numpy as np
import pytest

import rnnkit
from rnnkit.course import replications

CARD = {
    "source": "A paper (2013), table 1",
    "setting": ("large", "small"),
    "published": {"plain": 0.31, "clipped": "works"},
    "here": {"plain": [0.1, 0.2, 0.4], "clipped": "works, 9 of 9"},
    "verdict": "reproduced in part: smaller",
}


def card(**changed):
    rnnkit.replication("clipping helps", **CARD | changed)


def test_a_card_shows_both_sides_row_by_row_and_the_verdict(capsys):
    card()
    assert capsys.readouterr().out.splitlines() == [
        "Replication: clipping helps. A paper (2013), table 1",
        " | published | here",
        "setting | large | small",
        "plain | 0.31 | 0.2 (median; range 0.1 to 0.4 over 3 runs)",
        "clipped | works | works, 9 of 9",
        "Verdict: reproduced in part: smaller.",
    ]


def test_a_result_may_be_not_comparable(capsys):
    card(verdict="not comparable: another task")
    assert "Verdict: not comparable: another task." in capsys.readouterr().out


def test_one_result_needs_no_rows(capsys):
    card(published=22.37, here=np.array([1.0, 1.0]))
    assert "result | 22.37 | 1 (all of 2 runs)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"verdict": "yes"}, "A verdict begins with"),
        ({"setting": "small"}, "pair of texts"),
        ({"setting": ("a", "b", "c")}, "pair of texts"),
        ({"here": {"clipped": "works", "plain": 1}}, "same rows in the same order"),
        ({"here": {"plain": [np.nan], "clipped": "works"}}, "none of them NaN"),
        ({"here": {"plain": [], "clipped": "works"}}, "at least one"),
    ],
)
def test_a_card_that_cannot_be_read_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        card(**changed)


def test_the_gathered_cards_are_shown_again_and_returned(monkeypatch, tmp_path, capsys):
    stored = {"lesson": "05", "result": "clipping helps", "source": "A paper (2013), table 1", "verdict": "reproduced"}
    rows = {"setting": ["large", "small"], "rows": [["plain", "a", "b"], ["clipped", "c", "d"]]}
    monkeypatch.setattr(replications, "GATHERED", tmp_path / "cards.json")
    replications.GATHERED.write_text(json.dumps([stored | rows]), encoding="utf-8")
    (read,) = rnnkit.replications()
    sides = {"published": {"plain": "a", "clipped": "c"}, "here": {"plain": "b", "clipped": "d"}}
    assert read == stored | {"setting": ["large", "small"]} | sides
    assert capsys.readouterr().out.startswith("Lesson 05: clipping helps. A paper (2013), table 1\n")
