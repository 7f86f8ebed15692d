"""The site and the slides: what goes into them, and, where they were built, what came out."""

import importlib.util
import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "tools" / "site"
SOLUTIONS = sorted((ROOT / "solutions").glob("*.ipynb"))


def module(name):
    """Import a file of tools/site, which is no package."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", SITE / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


built, decks, sources = module("built"), module("decks"), module("sources")


def each_solution(function):
    return pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)(function)


def read(path):
    return nbformat.read(path, as_version=4)


# --- the pages -------------------------------------------------------------------------------------------------


def test_the_first_page_leads_to_every_page():
    front = (SITE / "index.md").read_text(encoding="utf-8")
    entries = []
    for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", front, re.MULTILINE | re.DOTALL):
        lines = [line for line in tree.splitlines() if line and not line.startswith(":")]
        entries += [re.sub(r".*<(.*)>", r"\1", line) for line in lines]
    pages = [path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    pages += [f"solutions/{path.stem}" for path in SOLUTIONS] + ["README", "CONTRIBUTING", "CHANGELOG"]
    assert [page for page in pages if not any(fnmatch(page, entry) for entry in entries)] == []
    assert [entry for entry in entries if not any(fnmatch(page, entry) for page in pages)] == []


def test_the_first_page_shows_what_a_lesson_has_stored():
    front = (SITE / "index.md").read_text(encoding="utf-8")
    asked = sources._OUTPUT.findall(front)
    assert len(asked) == front.count("{stored-output}")
    shown = [sources.stored_output(ROOT / "solutions", *each) for each in asked]
    assert any(re.search('<img alt="[^"]+', output) for output in shown)
    assert any("Claim holds" in output and "Measured" in output for output in shown)


@pytest.mark.parametrize(
    ("cell", "number", "told"),
    [("five-kernel-figure", 0, "has no cell 'five-kernel-figure', but .*five-kernels-figure"), ("rate", 0, "shows 0")],
)
def test_an_output_that_is_not_there_is_asked_for_in_vain(cell, number, told):
    with pytest.raises(ValueError, match=told):
        sources.stored_output(ROOT / "solutions", "01_vanishing_gradients", cell, number)


@each_solution
def test_on_the_site_exercises_are_open_and_answers_folded(path):
    solution, page = read(path), sources.lesson_page(read(path), path.name)
    exercises = [cell for cell in solution.cells if "### BEGIN SOLUTION" in cell.source]
    folded = {cell.id: cell for cell in page.cells if "hide-cell" in cell.metadata.get("tags", [])}
    assert list(folded) == [cell.id for cell in exercises]
    lesson = {cell.id: cell for cell in read(ROOT / "lessons" / path.name).cells}
    opened = {cell.id: cell for cell in page.cells}
    for cell in exercises:
        assert opened[f"{cell.id}-open"].source == lesson[cell.id].source
        assert opened[f"{cell.id}-open"].outputs == []
        assert folded[cell.id].outputs == cell.outputs
        assert "###" not in folded[cell.id].source
    assert f"<../lessons/{path.name}>`" in page.cells[1].source
    nbformat.validate(page)


def test_what_a_site_needs_otherwise_in_a_page(monkeypatch, tmp_path):
    drawing = SimpleNamespace(render=lambda diagram: SimpleNamespace(svg=lambda: f"<svg>{diagram}</svg>"))
    monkeypatch.setitem(sys.modules, "mmdr", drawing)
    diagram = "```mermaid\nflowchart\n  accDescr: Two boxes.\n```\n"
    text = f'<a id="rnnkit.a.B"></a>\n\n### `B`\n\n[B](#rnnkit.a.B), [00](lessons/00.ipynb)\n{diagram}end'
    page = sources.page_text(text, tmp_path / "map.md")
    picture = "![Two boxes.](map.svg)\n"
    assert page == f"(rnnkit.a.-B)=\n\n### `B`\n\n[B](#rnnkit.a.-B), [00](solutions/00.ipynb)\n{picture}end"
    assert "accDescr" in (tmp_path / "map.svg").read_text(encoding="utf-8")


def test_a_diagram_without_words_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"map\.md: .*accDescr.*received 'flowchart TD'"):
        sources.page_text("```mermaid\nflowchart TD\n  A --> B\n```\n", tmp_path / "map.md")


# --- the slides ------------------------------------------------------------------------------------------------


@each_solution
def test_a_lesson_has_its_slides(path):
    solution = read(path)
    shown = decks.deck(solution).cells
    kinds = [cell.metadata.slideshow.slide_type for cell in shown]
    assert set(kinds) <= {"slide", "fragment"}
    assert 8 <= kinds.count("slide") <= 14
    assert shown[0].source.startswith("# ")
    assert kinds[0] == "slide"
    outputs = [output.get("data", {}).get("text/html", "") for cell in shown for output in cell.get("outputs", [])]
    assert sum("<img" in output for output in outputs) >= 3
    assert any("Claim holds" in output for output in outputs)


@each_solution
def test_slides_tell_no_answer(path):
    lesson = {cell.id: cell.source for cell in read(ROOT / "lessons" / path.name).cells}
    solution = {cell.id: cell.source for cell in read(path).cells}
    for cell in decks.deck(read(path)).cells:
        assert lesson[cell.id] == solution[cell.id], "an exercise, which the slides would show solved"
        assert "Exercise" not in cell.source


@each_solution
def test_lessons_know_nothing_of_slides(path):
    assert '"slideshow"' not in (ROOT / "lessons" / path.name).read_text(encoding="utf-8")


def marked(cell, kind):
    cell.metadata.slideshow = {"slide_type": kind}
    return cell


def small_deck():
    figure = new_output("display_data", {"text/html": '<img alt="a line" src="data:,">'})
    cells = [
        marked(new_markdown_cell("# Title\n\nA question."), "slide"),
        new_markdown_cell("## Part\n\nNot shown."),
        marked(new_code_cell("draw()", outputs=[figure]), "slide"),
        marked(new_code_cell("print(1)", outputs=[new_output("stream", text="1")]), "fragment"),
        marked(new_markdown_cell("**Compare.** So it is.\n\n## Next\n\nPredict.\n\n### Exercise 1\n\nDo."), "slide"),
        marked(new_code_cell("secret()"), "skip"),
    ]
    return decks.deck(new_notebook(cells=cells))


def test_a_deck_is_cut_out_of_a_notebook():
    deck = small_deck()
    assert deck.metadata.title == "Title"
    assert [cell.source for cell in deck.cells] == [
        "# Title\n\nA question.",
        "draw()",
        "print(1)",
        "## Next\n\nPredict.",
    ]
    title, figure, printed, text = (cell.metadata for cell in deck.cells)
    assert figure == {"slideshow": {"slide_type": "slide"}, "transient": {"remove_source": True}, "part": "Part"}
    assert printed == {"slideshow": {"slide_type": "fragment"}}
    assert "part" not in title
    assert "part" not in text


def test_templates_fetch_nothing():
    for path in [*(SITE / "deck").iterdir(), *(SITE / "static").iterdir(), SITE / "slides.py", SITE / "conf.py"]:
        assert not re.search(r"https?://", path.read_text(encoding="utf-8")), path.name


# --- what was built --------------------------------------------------------------------------------------------

GOOD = """<html><head><link rel="stylesheet" href="style.css"><style>b { background: url(data:,x) }</style></head><body>
<h1 id="top">A page</h1><img alt="A line" src="data:image/png;base64,AA=="><a href="#top">up</a>
<a href="other/">other</a><a href="other/index.html#there">there</a><a href="https://example.org">elsewhere</a>
<script src="run.js"></script></body></html>
"""


@pytest.fixture
def pages(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text('<p id="there">', encoding="utf-8")
    (tmp_path / "style.css").write_text("@import 'more.css';", encoding="utf-8")
    (tmp_path / "run.js").touch()
    (tmp_path / "index.html").write_text(GOOD, encoding="utf-8")
    return tmp_path


def test_a_good_page_has_no_fault(pages):
    assert built.faults(pages) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('src="run.js"', 'src="https://cdn.example/run.js"', "fetches https://cdn.example/run.js"),
        ('href="style.css"', 'href="//cdn.example/x.css"', "fetches //cdn.example/x.css"),
        ("url(data:,x)", "url('http://cdn.example/x.png')", "fetches http://cdn.example/x.png"),
        ("<body>", "<body style='background: url(https://x.example)'>", "fetches https://x.example"),
        ('src="run.js">', '>import x from "https://cdn.example/x.mjs"', "fetches https://cdn.example/x.mjs"),
        ("data:image/png;base64,AA==", "https://x.example/a.png", "fetches https://x.example/a.png"),
        ('alt="A line"', 'alt=" "', "an image without alternative text: data:image/png"),
        ('alt="A line"', "", "an image without alternative text"),
        ('href="#top"', 'href="#bottom"', "links to #bottom, which is not there"),
        ('href="other/"', 'href="others/"', "links to others/, which is not there"),
        ("#there", "#here", "links to other/index.html#here, which is not there"),
        ('src="run.js"', 'src="walk.js"', "links to walk.js, which is not there"),
    ],
)
def test_each_fault_of_a_page_is_found(pages, old, new, told):
    assert old in GOOD
    (pages / "index.html").write_text(GOOD.replace(old, new), encoding="utf-8")
    (fault,) = built.faults(pages)
    assert fault.startswith("index.html ")
    assert told in fault


def test_a_style_sheet_that_fetches_is_found(pages):
    (pages / "style.css").write_text("@import url(https://fonts.example/a);", encoding="utf-8")
    assert built.faults(pages) == ["style.css fetches https://fonts.example/a"]


def test_nothing_built_is_no_success(tmp_path):
    with pytest.raises(ValueError, match="it has no page"):
        built.faults(tmp_path)


@pytest.mark.parametrize(("what", "place"), [("site", "solutions/{}.html"), ("slides", "{}.html")])
def test_what_was_built_is_whole_and_works_offline(what, place):
    folder = ROOT / "build" / what
    if not (folder / "index.html").exists():
        pytest.skip(f"build/{what} is not there: make {what}")
    assert built.faults(folder) == []
    for path in SOLUTIONS:
        assert (folder / place.format(path.stem)).is_file()
