"""Every term is defined once, in order, and stands in the lessons that its entry points to."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| term ")
]
LINK = re.compile(r"\[(\d\d)\]\(\.\./solutions/(\1_\w+\.ipynb)\)")


def prose(notebook):
    cells = nbformat.read(ROOT / "solutions" / notebook, 4).cells
    return " ".join(" ".join(cell.source.split()) for cell in cells).lower()


def test_terms_are_in_order_and_defined_once():
    terms = [term.lower() for term, _, _ in ROWS]
    assert terms == sorted(terms)
    assert len(set(terms)) == len(terms)


@pytest.mark.parametrize(("term", "meaning", "lessons"), ROWS, ids=[row[0] for row in ROWS])
def test_a_term_stands_in_the_lessons_it_points_to(term, meaning, lessons):
    assert meaning.endswith(".")
    found = LINK.findall(lessons)
    assert found
    for _, notebook in found:
        assert term.lower().rstrip("s") in prose(notebook), notebook


def test_each_lesson_is_pointed_to():
    pointed = {number for _, _, lessons in ROWS for number, _ in LINK.findall(lessons)}
    assert pointed == {path.name[:2] for path in (ROOT / "solutions").glob("[0-9][0-9]_*.ipynb")}
