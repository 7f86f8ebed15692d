"""Each explorer moved by keyboard: the picture follows the slider, and how long that takes."""

import nbformat
import pytest

from browser.lab import PICTURES, opened

pytest.importorskip("rnnkit.explore", reason="this rnnkit has no explorers")
pytest.importorskip("ipywidgets", reason="explorers move with ipywidgets only")

from rnnkit import explore

MOVES = 5
# From the key to the next picture: decoded, so that the browser can paint it.
WATCH = """cell => {
    const times = window.redraws = [];
    const source = () => cell.querySelector("figure img")?.src;
    let pressed = null, shown = source();
    cell.addEventListener("keydown", () => { pressed = performance.now(); }, true);
    new MutationObserver(async () => {
        // The slider's own number changes too, and before the picture.
        if (pressed === null || !source() || source() === shown) return;
        const since = pressed;
        pressed = null;
        shown = source();
        await cell.querySelector("figure img").decode();
        times.push(performance.now() - since);
    }).observe(cell, {childList: true, subtree: true, attributes: true, attributeFilter: ["src"]});
}"""


@pytest.fixture(scope="module")
def explorers(folder, address, browser):
    """A notebook with a cell for each explorer, run."""
    cells = [nbformat.v4.new_code_cell("import rnnkit\nrnnkit.start_lesson()", id="setup")]
    cells += [nbformat.v4.new_code_cell(f"rnnkit.explore.{name}()", id=name) for name in explore.__all__]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "lessons" / "explorers.ipynb")
    with opened(browser, address("explorers.ipynb")) as notebook:
        notebook.run_all()
        assert notebook.troubles() == []
        yield notebook


@pytest.mark.parametrize("name", explore.__all__)
def test_a_picture_follows_its_slider(name, explorers):
    cell = explorers.go_to(name)
    source = "cell => cell.querySelector('figure img').src"
    before = cell.evaluate(source)
    cell.evaluate(WATCH)
    cell.wait_for_selector("[role=slider]").focus()
    for move in range(MOVES):
        explorers.press("ArrowRight")
        explorers.page.wait_for_function(f"() => window.redraws.length > {move}")
    assert cell.evaluate(source) != before
    assert len(cell.evaluate("cell => cell.querySelector('figure img').alt")) > 40
    explorers.picture(f"explore-{name}", name)
    times = sorted(explorers.page.evaluate("() => window.redraws"))
    with (PICTURES / "redraws.txt").open("a") as file:
        file.write(f"{name}: {times[MOVES // 2]:.0f} ms from key to picture, at most {times[-1]:.0f}\n")
