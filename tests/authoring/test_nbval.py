"""nbval, as the course runs it, catches what it should and lets pass what it should: shown on small notebooks.

One notebook is run to store its outputs, some of its cells are then changed, and nbval runs it again.
"""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
NBVAL = ["--nbval", "--nbval-current-env", f"--nbval-sanitize-with={ROOT / 'tests' / 'nbval_sanitize.cfg'}"]

SETUP = """
import matplotlib.pyplot as plt
import rnnkit, rnnkit.plot
from rnnkit.course.exercises import Exercise, catalogue, close
catalogue()["half"] = Exercise("half", ("a", "b"), 0.5, close(0.5))

def card(here, verdict="reproduced"):
    setting = ("there", "here")
    rnnkit.replication("s", source="A paper", setting=setting, published=1, here=here, verdict=verdict)

ALT = "The squares of 1, 2 and 3 rise faster and faster."

def draw(values=(1, 4, 9), title="Squares", alt=ALT, about=False, words="", **style):
    figure, ax = plt.subplots()
    ax.plot(values, **style)
    ax.text(0, 0, words)
    ax.set_title(title)
    rnnkit.plot.show(figure, alt=alt, about=about)
"""

SAME, DIFFERENT, RAISED = "passes", "Cell outputs differ", "Cell execution caused an exception"
# what is shown: (the cell when its output was stored, the cell when nbval runs it, what nbval says)
CASES = {
    "a printed result": ("print(3.1)", "print(3.1)", SAME),
    "another printed result": ("print(3.1)", "print(3.2)", DIFFERENT),
    "a result no longer printed": ("print(3.1)", "pass", DIFFERENT),
    "another value of a cell": ("2 + 2", "2 + 3", DIFFERENT),
    "text on stderr": ("pass", "import sys; print('W0000', file=sys.stderr)", DIFFERENT),
    "a figure": ("draw()", "draw()", SAME),
    "another curve": ("draw()", "draw((1, 4, 8))", DIFFERENT),
    "another point inside a curve": ("draw()", "draw((1, 5, 9))", DIFFERENT),
    "another title": ("draw()", "draw(title='Cubes')", DIFFERENT),
    "another colour": ("draw(color='C0')", "draw(color='C3')", SAME),
    "another alt text": ("draw()", "draw(alt='The squares of 1, 2 and 3 rise ever more slowly.')", DIFFERENT),
    "a claim": ("rnnkit.claim('s', [2, 3], '>=', 1)", "rnnkit.claim('s', [2.001, 3], '>=', 1)", SAME),
    "a claim measured otherwise": ("rnnkit.claim('s', [2, 3], '>=', 1)", "rnnkit.claim('s', [4, 9], '>=', 1)", SAME),
    "a claim with another bound": ("rnnkit.claim('s', 2, '>=', 1)", "rnnkit.claim('s', 2, '>=', 2)", DIFFERENT),
    "another claim": ("rnnkit.claim('s', 2, '>=', 1)", "rnnkit.claim('not s', 2, '>=', 1)", DIFFERENT),
    "a claim that one more run meets": (
        "rnnkit.claim('s', [2, 2, 0], '>=', 1, fraction=0.6)",
        "rnnkit.claim('s', [2, 2, 2], '>=', 1, fraction=0.6)",
        SAME,
    ),
    "a card measured otherwise": ("card([2, 3])", "card([3, 4])", SAME),
    "a card with another verdict": ("card([2, 3])", "card([2, 3], 'not reproduced')", DIFFERENT),
    "a number that is called approximate": ("print('median ≈ 3 steps')", "print('median ≈ 400 steps')", SAME),
    "other words before it": ("print('median ≈ 3')", "print('mean ≈ 3')", DIFFERENT),
    "a trained curve": ("draw(about=True)", "draw((1, 4, 8, 9), about=True)", SAME),
    "a count in a trained figure": ("draw(about=True, words='3/5')", "draw(about=True, words='4/5')", SAME),
    "a word in a trained figure": ("draw(about=True, words='few')", "draw(about=True, words='most')", DIFFERENT),
    "a count in an exact figure": ("draw(words='3/5')", "draw(words='4/5')", DIFFERENT),
    "a trained curve with another title": ("draw(about=True)", "draw(about=True, title='Cubes')", DIFFERENT),
    "a claim that fails": ("rnnkit.claim('s', 2, '>=', 1)", "rnnkit.claim('s', 0, '>=', 1)", RAISED),
    "a right solution": ("rnnkit.check('half', 0.5)", "rnnkit.check('half', 1 / 2)", SAME),
    "a wrong solution": ("rnnkit.check('half', 0.5)", "rnnkit.check('half', 0.6)", RAISED),
    "an address": ("print(object())", "keep = object(); print(object())", SAME),
    "a kernel's file": (
        "print('/tmp/ipykernel_12/34.py')",
        "print('/tmp/ipykernel_56/78.py')",
        SAME,
    ),
    "a terminal colour": ("print('\\x1b[31mred')", "print('\\x1b[32mred')", SAME),
    "Keras's bar": ("print('5/5 ━━ 1s 2ms/step - loss: 0.5')", "print('5/5 ━━ 0s 31us/step - loss: 0.5')", SAME),
    "Keras's coloured bar": (
        "print('5/5 \\x1b[1m1s\\x1b[0m 2ms/step - loss: 0.5')",
        "print('4/5 \\x1b[1m1s\\x1b[0m 3ms/step\\r5/5 \\x1b[1m0s\\x1b[0m 31us/step - loss: 0.5')",
        SAME,
    ),
    "another loss": (
        "print('5/5 ━━ 0s 2ms/step - loss: 0.5')",
        "print('5/5 ━━ 0s 2ms/step - loss: 0.6')",
        DIFFERENT,
    ),
    "tqdm's bar": (
        "print('50%|##   | 1/2 [00:01<00:01, 1.00it/s]')",
        "print('50%|##   | 1/2 [00:02<00:02, 2.00s/it]')",
        SAME,
    ),
}


def run_nbval(folder, expect):
    """Return what nbval says of each code cell of the notebooks in a folder, by file and cell number."""
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", *NBVAL, "-p", "no:cacheprovider", "--color=no", f"--junitxml={report}"]
    done = subprocess.run(
        [*command, "-c", ROOT / "pyproject.toml", "--rootdir", folder, folder],
        env={**os.environ, "RNNKIT_EXPECT": expect},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    said = {}
    for case in ElementTree.parse(report).iter("testcase"):
        trouble = [*case.findall("failure"), *case.findall("error")]
        said[case.get("classname").split(".")[-1], case.get("name")] = trouble[0].text if trouble else SAME
    assert said, done.stdout + done.stderr
    return said


@pytest.fixture(scope="module")
def solution(tmp_path_factory):
    """What nbval says of a solution's cells after they were changed, in the order of CASES."""
    folder = tmp_path_factory.mktemp("solutions")
    notebook = new_notebook(cells=[new_code_cell(source) for source in (SETUP, *(case[0] for case in CASES.values()))])
    NotebookClient(notebook, kernel_name="python3").execute()
    for cell, (_, source, _) in zip(notebook.cells[1:], CASES.values(), strict=True):
        cell.source = source
    nbformat.write(notebook, folder / "solution.ipynb")
    setup, *said = run_nbval(folder, "correct").values()
    assert setup == SAME
    return dict(zip(CASES, said, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_solutions_are_held_to_what_they_show(case, solution):
    assert CASES[case][2] in solution[case]


LESSON = {
    "a cell that runs": ("print('never compared, for lessons store no outputs')", SAME),
    "a cell that raises": ("1 / 0", RAISED),
    "an open exercise": ("rnnkit.check('half', ...)", SAME),
    "an answer leaked": ("rnnkit.check('half', 0.5)", RAISED),
}


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What nbval says of the cells of a lesson, which were never run."""
    folder = tmp_path_factory.mktemp("lessons")
    sources = [SETUP.replace("import rnnkit, rnnkit.plot", "import rnnkit"), *(source for source, _ in LESSON.values())]
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), folder / "lesson.ipynb")
    setup, *said = run_nbval(folder, "open").values()
    assert setup == SAME
    return dict(zip(LESSON, said, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", LESSON)
def test_lessons_run_though_they_store_no_outputs(case, lesson):
    assert LESSON[case][1] in lesson[case]
