"""How far something long is: seen while it lasts, and nothing of it afterwards."""

import io
import sys

import pytest

import rnnkit
from rnnkit import _display


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that each look moves on by a second."""
    now = iter(range(1_000))
    monkeypatch.setattr(_display.time, "monotonic", lambda: float(next(now)))


def test_the_same_things_come_in_the_same_order():
    assert list(rnnkit.track("abc")) == ["a", "b", "c"]
    assert list(rnnkit.track(number**2 for number in range(4))) == [0, 1, 4, 9]
    assert list(rnnkit.track([])) == []


@pytest.mark.usefixtures("clock")
def test_a_terminal_sees_how_many_are_done_and_keeps_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    for number in rnnkit.track(range(3), "seeds"):
        assert sys.stderr.getvalue().rpartition("\r")[2].startswith(f"{number} of 3 seeds, ")
    assert sys.stderr.getvalue().endswith("\r\x1b[K")


@pytest.mark.usefixtures("clock")
def test_a_loop_that_is_left_early_keeps_nothing_either(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    things = rnnkit.track(range(3))
    next(things)
    things.close()
    assert sys.stderr.getvalue().endswith("\r\x1b[K")


def test_a_script_says_nothing(capsys):
    assert list(rnnkit.track(range(2))) == [0, 1]
    assert capsys.readouterr() == ("", "")


def test_a_notebook_stores_nothing_of_it():
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    seen = "import rnnkit\nfor number in rnnkit.track(range(2)): pass"
    compared = "import os; os.environ['RNNKIT_EXPECT'] = 'correct'"
    notebook = new_notebook(cells=[new_code_cell(source) for source in (seen, compared, seen)])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert [[output.data for output in cell.outputs] for cell in notebook.cells] == [[{}], [], []]


def test_the_bar_in_a_notebook_has_words(monkeypatch):
    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(data)

    def display(data, **_):
        shown.append(data)
        return Handle()

    monkeypatch.setattr(_display, "in_a_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", display)
    assert list(rnnkit.track([7], "weights & biases")) == [7]
    first, *_, last = shown
    assert first["text/plain"] == "0 of 1 weights & biases, 0 s"
    assert '<progress value="0" max="1" aria-label="weights &amp; biases"></progress>' in first["text/html"]
    assert last == {}
