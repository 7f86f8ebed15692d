"""Measure the lessons' claims on further seeds, and tell how far from its bound the worst one lies.

    PYTHONPATH=tools python -m margins                # each solution once more, with seeds that no run had before
    PYTHONPATH=tools python -m margins 02 06 x3       # these lessons, three rounds
    PYTHONPATH=tools python -m margins publish        # nothing is run: writes docs/reports/margins.md

A round runs a copy of each solution in which every seed is moved by 100 times the round's number: those of networks, of
data, of batches' order (`margins.shift`). Nothing is raised where a claim fails there; its values are kept in
build/margins/, a file for each lesson and round, and all rounds together make build/margins/page.md.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from margins import page
from margins.shift import shifted

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "margins"
_FIRST_CELL = """
import margins.keep
from margins.shift import with_shifted_seed, with_shifted_start
margins.keep.claims_in({!r})
"""


def main(words):
    """Run the rounds that are asked for and write the page; return how many cells failed."""
    publish = "publish" in words
    failed = [] if publish else measure(words)
    written = ROOT / "docs" / "reports" / "margins.md" if publish else KEPT / "page.md"
    written.write_text(page.page(KEPT), encoding="utf-8")
    print(f"See {written.relative_to(ROOT)}.")
    return len(failed)


def measure(words):
    """Run the next rounds, `x3` of them, of the lessons that are named, or of all; return what went wrong."""
    rounds = next((int(word[1:]) for word in words if word.startswith("x")), 1)
    lessons = [word for word in words if word.isdigit()]
    KEPT.mkdir(parents=True, exist_ok=True)
    solutions = sorted((ROOT / "solutions").glob("[0-9]*.ipynb"))
    notebooks = [path for path in solutions if not lessons or path.name[:2] in lessons]
    first = {path: 1 + len([*KEPT.glob(f"{path.stem}-*.jsonl")]) for path in notebooks}
    jobs = [(path, first[path] + further) for further in range(rounds) for path in notebooks]
    failed = []
    with ThreadPoolExecutor(int(os.environ.get("WORKERS", "2"))) as pool:
        for (path, number), errors in zip(jobs, pool.map(lambda job: run(*job), jobs), strict=True):
            print(f"{path.stem}, round {number}: {'; '.join(errors) or 'ran'}", flush=True)
            failed += errors
    return failed


def run(path, number):
    """Run a solution with the seeds of a round; return what went wrong, a text for each cell."""
    part = KEPT / f"{path.stem}-{number}.part"
    part.unlink(missing_ok=True)
    notebook = copy(path, 100 * number, part)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")]),
        "KERAS_BACKEND": "tensorflow",
        "RNNKIT_EXPECT": "correct",
        "RNNKIT_PROGRESS": "off",
    }
    environment.pop("RNNKIT_SWEEP_CACHE", None)
    client = NotebookClient(notebook, timeout=600, allow_errors=True, resources={"metadata": {"path": ROOT}})
    client.execute(env=environment)
    part.rename(part.with_suffix(".jsonl"))  # a round counts when it has come to its end
    return [
        f"{cell.id}: {output.ename}: {output.evalue[:200]}"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]


def copy(path, by, kept):
    """Return a solution whose seeds are moved by a number, and whose claims are kept in a file."""
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = shifted(cell.source, by)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(_FIRST_CELL.format(str(kept))))
    return notebook


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
