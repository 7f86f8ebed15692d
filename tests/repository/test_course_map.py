"""The one-page map says of each lesson what its first cell says."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "course-map.md").read_text(encoding="utf-8")
ROWS = re.findall(
    r"^\| \[(\d\d) .*?\]\(\.\./solutions/(\S+?)\) \| (.*?) \| .*? \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE
)


def test_every_lesson_is_on_the_map_in_order():
    assert [notebook for _, notebook, *_ in ROWS] == sorted(path.name for path in (ROOT / "solutions").glob("*.ipynb"))


@pytest.mark.parametrize(("number", "notebook", "needs", "minutes", "seconds"), ROWS, ids=[row[0] for row in ROWS])
def test_minutes_and_seconds_are_the_lessons_own(number, notebook, needs, minutes, seconds):
    first = nbformat.read(ROOT / "solutions" / notebook, 4).cells[0].source
    assert re.findall(r"[Aa]bout (\d+)\s+(minutes|seconds)", first) == [(minutes, "minutes"), (seconds, "seconds")]


def test_a_lesson_builds_on_earlier_ones_only():
    for number, _, needs, *_ in ROWS:
        assert all(need < number for need in re.findall(r"\d\d", needs))
