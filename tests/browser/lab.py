"""JupyterLab in a real browser: what a learner does there, for the tests to do.

The browser is the chromium of the system, or the one that Playwright has installed; Playwright drives it. All that is
pressed is keys. Of JupyterLab's own objects only the state is asked: what is shown, what has been run.
"""

import importlib.util
import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path

import nbformat
from serving import lab

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "build" / "browser"  # where screenshots go, to be looked at
LESSONS = sorted(path.name for path in (ROOT / "lessons").glob("*.ipynb"))
START, RUN = 120_000, 600_000  # milliseconds of patience: with JupyterLab and a kernel's start, with a whole lesson
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

# The kernel's first "idle" comes before the page is connected to it, and what is run in between is lost.
_READY = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    const panel = app.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    const kernel = panel.sessionContext.session.kernel;
    await kernel.info;
    while (kernel.connectionStatus !== "connected" || kernel.status !== "idle")
        await new Promise(done => setTimeout(done, 50));
}"""
_PANEL = "window.jupyterapp.shell.currentWidget"
_CELLS = f"{_PANEL}.content.widgets.filter(cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim())"
_STATE = f"""() => {_CELLS}.map(cell => ({{
    id: cell.model.id,
    count: cell.model.executionCount,
    outputs: cell.model.outputs.toJSON(),
    images: [...cell.outputArea.node.querySelectorAll("img")].map(
        image => ({{alt: image.alt, width: image.complete ? image.naturalWidth : 0}})),
}}))"""
# Idle, and each cell has a number; or one has failed, after which JupyterLab runs no more.
_DONE = f"""() => {_PANEL}.sessionContext.session.kernel.status === "idle" && (
    {_CELLS}.every(cell => cell.model.executionState !== "running" && cell.model.executionCount)
    || {_CELLS}.some(cell => cell.model.outputs.toJSON().some(output => output.output_type === "error")))"""


def missing():
    """Return what a test in a browser lacks here, with the next step; empty if nothing."""
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed: `make test-browser` brings it"
    if _executable() is None:
        return (
            "no chromium here: `apt install chromium` on Debian, `brew install chromium` on a Mac, or, for one that "
            "Playwright alone uses, `.venv/bin/python -m playwright install chromium`"
        )
    return ""


def _executable():
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found:
        return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


@contextmanager
def chromium():
    """Yield a browser without a window."""
    from playwright.sync_api import sync_playwright

    executable = _executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def course(folder):
    """Yield a function from a lesson's name to its address, in a JupyterLab on a copy of the lessons."""
    shutil.copytree(ROOT / "lessons", folder / "lessons")
    token = secrets.token_hex()
    with lab(folder, "--LabApp.expose_app_in_browser=True", token=token) as address:
        yield lambda name: f"{address}/lab/tree/{name}?reset&token={token}"


@contextmanager
def opened(browser, address, **view):
    """Yield the notebook at an address, ready to be run; its kernel ends with it.

    Args:
        browser: a Playwright browser.
        address: where JupyterLab shows the notebook.
        view: how the page is seen, as `browser.new_page` takes it.
    """
    page = browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | view))
    page.set_default_timeout(START)
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function("() => window.jupyterapp")
    page.evaluate(_READY)
    try:
        yield Notebook(page)
    finally:
        page.evaluate(f"() => {_PANEL}.sessionContext.shutdown()")
        page.close()


class Notebook:
    """A notebook open in JupyterLab.

    Attributes:
        page: the Playwright page.
    """

    def __init__(self, page):
        self.page = page

    def press(self, *keys):
        """Press one key after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def command(self, words):
        """Choose a command from JupyterLab's palette, by keyboard; its words are those of the menus."""
        self.press("Escape", "Control+Shift+C")
        self.page.keyboard.type(words)
        self.page.wait_for_selector(".lm-CommandPalette-item.lm-mod-active")
        self.press("Enter")

    def go_to(self, id):
        """Go to a cell with the arrow keys, and return its element."""
        self.press("Escape")
        # A slider keeps the arrow keys to itself, and Escape does not leave it; Tab does, backwards.
        while self.page.evaluate("() => Boolean(document.activeElement.closest('.jp-OutputArea'))"):
            self.press("Shift+Tab")
        here, there = self.page.evaluate(f"() => {_PANEL}.content.activeCellIndex"), self.place(id)
        way = 1 if there > here else -1
        for place in range(here + way, there + way, way) if there != here else ():
            self.press("ArrowDown" if way > 0 else "ArrowUp")
            self.page.wait_for_function(f"place => {_PANEL}.content.activeCellIndex === place", arg=place)
        cell = self.cell(id)
        focused = "cell => cell.contains(document.activeElement)"
        self.page.wait_for_function(focused, arg=cell, timeout=5000)  # else the keyboard does not reach it
        return cell

    def run(self, id):
        """Go to a cell, run it and wait until it is done; return what it then shows, as text."""
        cell = self.go_to(id)
        (before,) = (cell["count"] for cell in self.cells() if cell["id"] == id)
        self.press("Control+Enter")
        done = f"""([id, before]) => {_PANEL}.sessionContext.session.kernel.status === "idle" && {_CELLS}.some(
            cell => cell.model.id === id && cell.model.executionState !== "running"
                && cell.model.executionCount > before)"""
        self.page.wait_for_function(done, arg=[id, before or 0])
        return cell.query_selector(".jp-OutputArea").inner_text()

    def run_all(self):
        """Run all cells, by the menu's words, and wait until the kernel is done with them."""
        self.command("Run All Cells")
        self.page.wait_for_function(_DONE, timeout=RUN)

    def theme(self, name):
        """Have JupyterLab drawn in one of its themes."""
        self.page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")

    def cells(self):
        """Return each code cell's id, execution count, outputs (as a notebook stores them) and images, in order."""
        return self.page.evaluate(_STATE)

    def place(self, id):
        """Return how many cells stand before one."""
        return self.page.evaluate(f"id => {_PANEL}.content.widgets.findIndex(cell => cell.model.id === id)", id)

    def cell(self, id):
        """Return the element of one cell."""
        find = f"id => {_PANEL}.content.widgets.find(cell => cell.model.id === id).node"
        return self.page.evaluate_handle(find, id).as_element()

    def troubles(self):
        """Return what no learner should see: errors, lines on stderr, cells that were not run."""
        found = []
        for cell in self.cells():
            for output in cell["outputs"]:
                if output["output_type"] == "error":
                    found.append((cell["id"], output["ename"], output["evalue"]))
                elif output.get("name") == "stderr":
                    found.append((cell["id"], "stderr", output["text"]))
            if not cell["count"]:
                found.append((cell["id"], "not run"))
        return found

    def picture(self, name, id):
        """Save in build/browser what is seen around the end of a cell."""
        self.cell(id).evaluate("cell => cell.scrollIntoView({block: 'end'})")
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")


def pictured(name):
    """Return the ids of the cells that show a figure in the stored solution of a lesson."""
    solution = nbformat.read(ROOT / "solutions" / name, as_version=4)
    return {
        cell.id
        for cell in solution.cells
        for output in cell.get("outputs", ())
        if "<img " in "".join(output.get("data", {}).get("text/html", ""))
        and "solution-only" not in cell.metadata.get("tags", ())
    }


def look(notebook, name):
    """Run a lesson from top to bottom and see that all of it is there: no error, each figure with words for it."""
    notebook.run_all()
    assert notebook.troubles() == []
    images = {cell["id"]: cell["images"] for cell in notebook.cells()}
    for id in pictured(name):
        assert images[id], f"{id} shows no figure"
    for id, shown in images.items():
        for image in shown:
            assert image["width"] > 100, f"{id} has a picture that is not to be seen"
            assert len(image["alt"]) > 40, f"{id} has a picture without words: {image['alt']!r}"
