"""Lesson 00 for those who see it large, dark or not at all: in JupyterLab, and exported as a page."""

import subprocess
import sys

import pytest
from axe_playwright_python.sync_playwright import Axe

from browser.lab import LESSONS, PICTURES, ROOT, opened

NAME = "00_start_here.ipynb"
# Ours is what stands in the cells: prose, code's outputs with their figures, tables and boxes. The rest (toolbars,
# prompts, editors, the collapsers beside the cells) JupyterLab draws, and CodeMirror.
OURS = ".jp-RenderedHTMLCommon, .jp-RenderedText, .jp-OutputArea-output"
# Wider than the place they have. Tables and formulas may be, if they can be scrolled: they have no other shape.
CUT_OFF = """ours => [...document.querySelectorAll(ours)]
    .filter(part => part.clientWidth && part.scrollWidth > part.clientWidth + 1)
    .filter(part => !(part.querySelector("table, mjx-container[display]")
        && ["auto", "scroll"].includes(getComputedStyle(part).overflowX)))
    .map(part => [part.scrollWidth, part.clientWidth, part.textContent.slice(0, 200)])"""
OPAQUE = """() => [...document.querySelectorAll("figure img")].map(image => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0);
    return pen.getImageData(0, 0, canvas.width, canvas.height).data.every((value, at) => at % 4 < 3 || value === 255);
})"""


def violations(page, ours):
    """Return what axe-core finds in those parts of a page that a selector names."""
    found = Axe().run(page, context={"include": [[part] for part in ours.split(", ")]})
    return [
        (each["id"], each["help"], [node["html"][:200] for node in each["nodes"]])
        for each in found.response["violations"]
    ]


@pytest.fixture(scope="module")
def notebook(browser, address):
    """Lesson 00, run."""
    with opened(browser, address(NAME)) as lesson:
        lesson.run_all()
        assert lesson.troubles() == []
        yield lesson
        lesson.theme("JupyterLab Light")  # a setting, which would stay


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing_in_the_cells(theme, notebook):
    notebook.theme(theme)
    notebook.picture(theme.lower().replace(" ", "-"), "tour-flow")
    assert violations(notebook.page, OURS) == []


def test_figures_bring_their_own_background(notebook):
    opaque = notebook.page.evaluate(OPAQUE)
    assert opaque
    assert all(opaque)


def test_at_200_percent_nothing_is_cut_off(notebook):
    notebook.page.set_viewport_size({"width": 640, "height": 450})
    notebook.press("Escape", "Control+B")  # the list of files makes room
    notebook.picture("zoom-200", "tour-flow")
    assert notebook.page.evaluate(CUT_OFF, ".jp-MarkdownCell .jp-RenderedHTMLCommon, figure, .jp-RenderedHTML") == []


@pytest.mark.parametrize("name", LESSONS)
def test_axe_finds_nothing_in_an_exported_page(name, browser, tmp_path):
    solution = ROOT / "solutions" / name
    convert = [sys.executable, "-m", "nbconvert", "--to", "html", str(solution), "--output-dir", str(tmp_path)]
    subprocess.run(convert, check=True, capture_output=True)
    page = browser.new_page()
    page.route("http*://**", lambda route: route.abort())  # MathJax, which is not ours
    page.goto((tmp_path / name).with_suffix(".html").as_uri())
    page.screenshot(path=PICTURES / f"exported-{name.removesuffix('.ipynb')}.png")
    assert violations(page, OURS) == []
    page.close()
