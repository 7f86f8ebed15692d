"""Seconds of the course: each lesson run as a student would, cell by cell, on an idle machine."""

import json
import os
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SLOW_CELL, SLOWEST_CELL, SLOWEST_LESSON, FIRST_FIGURE = 2, 30, 90, 10  # seconds; the first is what is worth a line


class _Timed(NotebookClient):
    """Notes when each cell was begun and done, and when the first picture came, from before the kernel's start."""

    def run(self):
        self.started, self.cells, self.first_figure = time.perf_counter(), [], None
        self.on_cell_execute = self._begin
        self.on_cell_executed = self._end
        self.execute()
        return {
            "seconds": time.perf_counter() - self.started,
            "first_figure": self.first_figure,
            "cells": self.cells,
        }

    def _begin(self, cell, cell_index):
        self.begun = time.perf_counter()

    def _end(self, cell, cell_index, execute_reply):
        now = time.perf_counter()
        self.cells.append({"cell": cell.get("id", str(cell_index)), "seconds": now - self.begun})
        if self.first_figure is None and _shows_figure(cell):
            self.first_figure = now - self.started


def _shows_figure(cell):
    """Tell whether a cell shows a picture or something to move."""
    kinds = {kind for output in cell.get("outputs", ()) for kind in output.get("data", ())}
    return bool(kinds & {"image/png", "application/vnd.jupyter.widget-view+json"})


def measure(folder, file, names=()):
    """Run the lessons in a folder one after the other, and write their seconds to a file.

    Args:
        folder: with the notebooks.
        file: gets JSON, rewritten after each.
        names: only those; all if empty.
    """
    os.environ.pop("RNNKIT_SWEEP_CACHE", None)  # a student has none
    os.environ.pop("RNNKIT_EXPECT", None)
    taken = {}
    for path in sorted(Path(folder).glob("*.ipynb")):
        if not names or path.stem in names:
            notebook = nbformat.read(path, 4)
            client = _Timed(notebook, kernel_name="python3", timeout=600, resources={"metadata": {"path": str(folder)}})
            taken[path.stem] = client.run()
            print(f"{path.stem:28} {taken[path.stem]['seconds']:6.0f} s", flush=True)
            file.write_text(json.dumps(taken, indent=1), encoding="utf-8")


def table(taken):
    """Return the lines of the page about the lessons."""
    lines = [
        "Each lesson run once from top to bottom, exercises open, in a fresh kernel on an otherwise idle machine; "
        f"worker processes start from nothing. Goals: no cell over {SLOWEST_CELL} s, no lesson over "
        f"{SLOWEST_LESSON} s, its first figure within {FIRST_FIGURE} s of *Run All*, the start of the kernel included.",
        "",
        "| lesson | seconds | first figure | slowest cell | goals |",
        "|---|---|---|---|---|",
    ]
    slow = []
    for name, one in taken.items():
        slowest = max(one["cells"], key=lambda cell: cell["seconds"])
        first = one["first_figure"]
        missed = [
            said
            for said, over in (
                (f"lesson over {SLOWEST_LESSON} s", one["seconds"] > SLOWEST_LESSON),
                (f"a cell over {SLOWEST_CELL} s", slowest["seconds"] > SLOWEST_CELL),
                (f"figure after {FIRST_FIGURE} s", first is not None and first > FIRST_FIGURE),
            )
            if over
        ]
        figure = "none" if first is None else f"{first:.1f}"
        goals = f"**missed**: {', '.join(missed)}" if missed else "met"
        last = f"`{slowest['cell']}` {slowest['seconds']:.1f}"
        lines.append(f"| {name} | {one['seconds']:.0f} | {figure} | {last} | {goals} |")
        slow += [(name, cell) for cell in one["cells"] if cell["seconds"] > SLOW_CELL]
    lines += ["", f"Cells over {SLOW_CELL} s:", "", "| lesson | cell | seconds |", "|---|---|---|"]
    lines += [f"| {name} | `{cell['cell']}` | {cell['seconds']:.1f} |" for name, cell in slow]
    return lines
