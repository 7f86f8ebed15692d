"""The pages for the teacher speak of what is in the notebooks, and their minutes add up."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/instructor").glob("[0-9][0-9].md"))
PARTS = ["Minutes", "Live, shown, skipped", "Questions to ask", "Misconceptions", "What should come out", "On stage"]


def notebook(page):
    (path,) = (ROOT / "solutions").glob(f"{page.stem}_*.ipynb")
    return {cell["id"]: "".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]}


def part(page, heading):
    """Return the lines under a heading of a page."""
    return page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0].strip().splitlines()


def rows(page, heading):
    """Return the rows of the table under a heading, lists of cells, without its head."""
    table = [line for line in part(page, heading) if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[2:]]


def test_each_lesson_has_a_page():
    assert [page.stem for page in PAGES] == [path.name[:2] for path in sorted((ROOT / "solutions").glob("*.ipynb"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_parts_in_order(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == PARTS
    title = next(source for source in notebook(page).values() if source.startswith("# ")).splitlines()[0]
    (said,) = re.findall(rf"^# {page.stem} (.*): for the teacher$", text.splitlines()[0])
    assert said in title


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_minutes_add_up(page):
    *parts, total = rows(page, "Minutes")
    assert [cell.strip("*") for cell in total] == ["all", "50", "90", "180"]
    for column, all_of_it in enumerate((50, 90, 180), start=1):
        assert sum(int(row[column]) for row in parts if row[column] != "–") == all_of_it


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_cells_that_a_page_names_are_there_under_their_headings(page):
    cells = notebook(page)
    for name, *_ in rows(page, "Minutes")[:-1]:
        if found := re.match(r"`([\w-]+)` (.*)", name):
            assert f"## {found[2]}" in cells[found[1]].splitlines(), name
    for heading in ("Live, shown, skipped", "Misconceptions", "What should come out"):
        for name in re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", "\n".join(part(page, heading))):
            assert name in cells, f"{heading}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_questions_have_the_answers_to_expect(page):
    text = "\n".join(part(page, "Questions to ask"))
    assert re.findall(r"^(\d)\.", text, re.MULTILINE) == ["1", "2", "3"]
    assert text.count("Expect:") == text.count("Then:") == 3
    assert len(rows(page, "Misconceptions")) >= 3
    assert len(rows(page, "What should come out")) >= 4
