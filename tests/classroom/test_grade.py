"""`rnnkit grade`, in front of a class in which some are honest, some are wrong and some are hostile."""

import collections
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import cloudpickle
import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest

from rnnkit import commands as cli
from rnnkit import exercises
from rnnkit.classroom import grading
from rnnkit.classroom.grading import _channel, _confine, _data, _examiner, _layers, _magics, _slicing

ROOT = Path(__file__).resolve().parents[2]
SETUP = "import numpy as np\n\nimport rnnkit"
CLIP = (
    "def clip_by_global_norm(gradients, threshold):\n{}\n\n\nrnnkit.check('clip_by_global_norm', clip_by_global_norm)"
)
THRESHOLD = "def threshold_from(norms, times=1.0):\n{}\n\n\nrnnkit.check('threshold_from', threshold_from)"
LETTER = "letter = {}\nrnnkit.check('three_times_the_rate', letter)"
RIGHT_CLIP = (
    "    norm = np.sqrt(sum(np.sum(g**2) for g in gradients))\n"
    "    return [g * min(1, threshold / norm) if norm else g for g in gradients]"
)
RIGHT_THRESHOLD = "    norms = np.asarray(norms)\n    return times * norms[np.isfinite(norms)].mean()"
NAMES = ("clip_by_global_norm", "threshold_from", "three_times_the_rate")
CORRECT, NOT_YET, OPEN = "correct", "not yet", "not attempted yet"


def cells(clip=RIGHT_CLIP, threshold=RIGHT_THRESHOLD, letter="'b'", **others):
    """Return a notebook's cells, {id: source}; a value of None leaves a cell out, other names are further cells."""
    own = {
        "setup": SETUP,
        "demonstration": "import os\nos._exit(7)  # a demonstration is not run",
        "clip": CLIP.format(clip),
        "threshold": THRESHOLD.format(threshold),
        "letter": LETTER.format(letter),
    }
    return {name: source for name, source in (own | others).items() if source is not None}


def notebook(sources):
    made = [nbformat.v4.new_code_cell(source, id=name) for name, source in sources.items()]
    return nbformat.writes(nbformat.v4.new_notebook(cells=made))


STUB = cells("    ...", "    ...", "...")
EVERY_FD = """
import os
for number in range(3, 30):
    try:
        os.write(number, {})
    except OSError:
        pass

"""
FORGED = EVERY_FD.format(r"""b'{"row": ["clip_by_global_norm", "correct", ""]}\n' * 3""")
CHECK = "\n\n\nrnnkit.check('clip_by_global_norm', clip_by_global_norm)"
TAKEN = "clip_by_global_norm = rnnkit.use_or_reference('clip_by_global_norm', ...)"
ALWAYS_EQUAL = """
class Anything(float):
    def __eq__(self, other):
        return True
    def __sub__(self, other):
        return 0.0
    __rsub__ = __ne__ = __lt__ = __gt__ = __abs__ = __sub__

def clip_by_global_norm(gradients, threshold):
    return [Anything() for _ in gradients]
"""
PATCHED = """
import sys
import rnnkit.course.exercises
from rnnkit.course.exercises import Outcome
rnnkit.check = lambda name, answer: print(f"✓ {name}: correct.")
rnnkit.exercises.evaluate = lambda name, answer: Outcome("correct")
for module in list(sys.modules.values()):
    for name in ("evaluate", "outcome_of", "isclose", "allclose", "array_equal"):
        if hasattr(module, name):
            setattr(module, name, lambda *args, **kwargs: Outcome("correct"))
print('{"row": ["clip_by_global_norm", "correct", ""]}', flush=True)
"""
WATCHING = """
import inspect
def clip_by_global_norm(gradients, threshold):
    for frame in inspect.stack():
        for name in ("expected", "answer", "norm", "large"):
            if name in frame.frame.f_locals and frame.function == "_examine_clip":
                raise SystemExit
    return gradients
"""
LEFT_RUNNING = """
import os, sys
if os.fork() == 0:
    os.setsid()
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(987.25)"])
"""

# student: (cells, outcomes in the order of NAMES, a piece of a message or "", whether a remark on tampering is made)
CLASS = {
    "right": (cells(), (CORRECT, CORRECT, CORRECT), "", False),
    "stub": (STUB, (OPEN, OPEN, OPEN), "", False),
    "wrong": (
        cells("    return [np.clip(g, -1, 1) for g in gradients]", "    return np.median(norms)", "'a'"),
        (NOT_YET, NOT_YET, NOT_YET),
        "clipping by value",
        False,
    ),
    "writes-into-the-argument": (
        cells(RIGHT_CLIP.replace("return [", "gradients[:] = [") + "\n    return gradients"),
        (NOT_YET, CORRECT, CORRECT),
        "the gradients that you were given have changed",
        False,
    ),
    "raises": (
        cells("    return [1 / 0 for gradient in gradients]"),
        (NOT_YET, CORRECT, CORRECT),
        "your code raised ZeroDivisionError: division by zero, at line 2: `return [1 / 0 for gradient in gradients]`",
        False,
    ),
    "forgot-to-return": (cells("    norm = 1"), (NOT_YET, CORRECT, CORRECT), "your function returned None", False),
    "dots-left": (
        cells("    norm = ...\n    return [g / norm for g in gradients]"),
        (OPEN, CORRECT, CORRECT),
        "still stands",
        False,
    ),
    "no-such-syntax": (cells("    return return"), (NOT_YET, CORRECT, CORRECT), "SyntaxError", False),
    "own-import": (
        cells("    return [g * min(1, threshold / root(gradients)) for g in gradients]", mine=None, setup=SETUP)
        | {
            "helpers": "from math import sqrt\n\ndef root(gradients):\n"
            "    return sqrt(sum(np.sum(g**2) for g in gradients)) or 1.0"
        },
        (CORRECT, CORRECT, CORRECT),
        "",
        False,
    ),
    "worked-in-a-copy": (
        STUB | {"clip-copy": CLIP.format(RIGHT_CLIP), "letter-copy": LETTER.format("'b'")},
        (CORRECT, OPEN, CORRECT),
        "",
        False,
    ),
    "lost-the-ids": (
        {f"x{number}": source for number, source in enumerate(cells().values())},
        (CORRECT, CORRECT, CORRECT),
        "",
        False,
    ),
    "magics": (
        cells("    %time pass\n" + RIGHT_CLIP, setup="%matplotlib inline\n" + SETUP),
        (CORRECT, CORRECT, CORRECT),
        "",
        False,
    ),
    "cell-gone": (cells() | {"clip": "pass"}, (NOT_YET, CORRECT, CORRECT), "is not defined", False),
    "hangs": (cells("    while True: pass"), ("timed out", CORRECT, CORRECT), "more than 6 s", False),
    "exits": (cells("    import os; os._exit(3)"), ("crashed", CORRECT, CORRECT), "ended", False),
    "segfaults": (
        cells("    import ctypes; ctypes.string_at(0)"),
        ("crashed", CORRECT, CORRECT),
        "ended",
        False,
    ),
    "eats-memory": (
        cells("    held = []\n    while True: held.append(np.empty(10_000_000))"),
        ("out of memory", CORRECT, CORRECT),
        "memory",
        False,
    ),
    "prints-a-gigabyte": (
        cells("    for _ in range(1000): print('x' * 1_000_000)\n" + RIGHT_CLIP),
        ("printed too much", CORRECT, CORRECT),
        "more than 10 MB",
        False,
    ),
    "returns-a-gigabyte": (
        cells("    return [np.zeros(20_000_000)] * 3"),
        (NOT_YET, CORRECT, CORRECT),
        "larger than 17 MB",
        False,
    ),
    "equals-everything": (
        cells() | {"clip": ALWAYS_EQUAL + CHECK},
        (NOT_YET, CORRECT, CORRECT),
        "",
        False,
    ),
    "patches-the-checks": (
        cells("    return 0", "    return 0", "'a'") | {"clip": PATCHED + CLIP.format("    return 0")},
        (NOT_YET, NOT_YET, NOT_YET),
        "",
        True,
    ),
    "looks-up-the-stack": (
        cells() | {"clip": WATCHING + CHECK},
        (NOT_YET, CORRECT, CORRECT),
        "you return the gradients as they were",
        False,
    ),
    "speaks-for-the-examiner": (
        cells() | {"clip": FORGED + CLIP.format("    return 0")},
        ("crashed", CORRECT, CORRECT),
        "in another form",
        False,
    ),
    "talks-nonsense": (
        cells() | {"clip": EVERY_FD.format(r"b'[\n'") + CLIP.format(RIGHT_CLIP)},
        ("crashed", CORRECT, CORRECT),
        "in another form",
        False,
    ),
    "takes-the-reference": (
        STUB | {"clip": TAKEN + CHECK},
        (OPEN, OPEN, OPEN),
        "",
        False,
    ),
    "edits-the-check": (
        STUB | {"letter": "letter = 'a'\nrnnkit.check('three_times_the_rate', 'b')"},
        (OPEN, OPEN, CORRECT),
        "",
        False,
    ),
    "spreadsheet": (
        cells("    raise ValueError('=1+1 \\n\\x00' + 'x' * 5000)"),
        (NOT_YET, CORRECT, CORRECT),
        "=1+1",
        False,
    ),
    "nested": (
        cells() | {"clip": "x = " + "(" * 5000 + CHECK, "letter": "x = " + "f().a" * 1 + "()" * 5000},
        (NOT_YET, CORRECT, NOT_YET),
        "cannot be read",
        False,
    ),
    "long": (cells() | {"clip": "#" * 200_000 + CHECK}, (NOT_YET, CORRECT, CORRECT), "100,000 characters", False),
    "submits-too-much": (
        STUB | {"letter": "rnnkit.check('three_times_the_rate', np.zeros(40_000_000))"},
        (OPEN, OPEN, NOT_YET),
        "larger than 17 MB",
        False,
    ),
    "bomb": (
        cells("    import os, time\n    while os.fork(): pass\n    time.sleep(60)"),
        (("out of memory", "crashed"), CORRECT, CORRECT),
        "",
        False,
    ),
    "leaves-a-process": (cells() | {"clip": LEFT_RUNNING + CLIP.format(RIGHT_CLIP)}, (CORRECT,) * 3, "", False),
}
RIGHT = f"def clip_by_global_norm(gradients, threshold):\n{RIGHT_CLIP}\n"
MINE = RIGHT.replace("clip_by_global_norm", "my_clip")
LIMITED = RIGHT.replace("min(1,", "min(limit,") + CHECK  # with a `limit` of 1 that stands elsewhere
# Cells for an answer that a notebook calls correct, as they are written in class.
SAID_TO_BE_CORRECT = {
    "percent-in-brackets": RIGHT.replace(
        "    return", "    text = (\n        '%.3f'\n        % norm\n    )\n    return"
    )
    + CHECK,
    "unequal-in-brackets": RIGHT.replace("    return", "    odd = (\n        norm\n        != norm\n    )\n    return")
    + CHECK,
    "display": f"{RIGHT}{CHECK}\ndisplay(clip_by_global_norm([np.ones(2)], 1.0))",
    "display-in-the-answer": RIGHT.replace("    return", "    display(norm)\n    return") + CHECK,
    "display-imported": f"from IPython.display import Markdown, display\n{RIGHT}{CHECK}\ndisplay(Markdown('# So'))",
    "help": f"{RIGHT}{CHECK}\n?np.clip\nnp.clip??",
    "shell": f"!pip install -q keras\nfiles = !ls | head\nprint(files.n)\nif files:\n    !ls\n{RIGHT}{CHECK}",
    "input": f"n = int(input('how many? '))\n{RIGHT}{CHECK}",
    "getpass": f"import getpass\ngetpass.getpass('key')\n{RIGHT}{CHECK}",
    "await": f"import asyncio\nasync def one():\n    return 1\nlimit = await one()\n{LIMITED}\nawait asyncio.sleep(0)",
    "async-for": f"async def some():\n    yield 1\nlimit = [one async for one in some()][0]\n{LIMITED}",
    "time-cell": f"%%time\n{RIGHT}{CHECK}",
    "prun-cell": f"%%prun -s cumulative\n{RIGHT}{CHECK}",
    "magics-upon-each-other": f"%%time\n%%capture out\n%matplotlib inline\n{RIGHT}{CHECK}",
    "time-line": f"%time limit = 1\n{LIMITED}",
    "time-line-continued": f"%time limit = 0 \\\n    + 1\n{LIMITED}",
    "magic-assigned": f"here = %pwd\n{RIGHT}{CHECK}",
    "magics-of-others": f"%load_ext lab_black\n%autoreload 2\n%pip install tqdm\n{RIGHT}{CHECK}",
    "get-ipython": f"from IPython import get_ipython\nget_ipython().run_line_magic('time', '1')\n{RIGHT}{CHECK}",
    "prompts": "\n".join(("... " if line[:1] == " " else ">>> ") + line for line in f"{RIGHT}{CHECK}".split("\n")),
    "history": f"{RIGHT}{CHECK}\n1\n_, len(In), Out",
    "widgets": f"from ipywidgets import interact\n@interact(x=3)\ndef show(x):\n    print(x)\n{RIGHT}{CHECK}",
    "future-and-hints": f"from __future__ import annotations\n{RIGHT.replace('d):', 'd: Far) -> list:')}{CHECK}",
    "star": f"from math import *\n{RIGHT.replace('np.sqrt', 'sqrt')}{CHECK}",
    "global-state": f"limit = 0\ndef begin():\n    global limit\n    limit = 1\nbegin()\n{LIMITED}",
    "lambda": "clip_by_global_norm = lambda gs, most: (lambda n: [g * min(1, most / n) if n else g for g in gs])(\n"
    f"    np.sqrt(sum(np.sum(g**2) for g in gs))\n){CHECK}",
    "crlf": f"{RIGHT}{CHECK}".replace("\n", "\r\n"),
    "keywords": f"{RIGHT}\nrnnkit.check(answer=clip_by_global_norm, name='clip_by_global_norm')",
    "imported-check": f"from rnnkit import check as c\n{RIGHT}\nc('clip_by_global_norm', clip_by_global_norm)",
    "imported-as": f"import rnnkit as rk\n{RIGHT}\nrk.check('clip_by_global_norm', clip_by_global_norm)",
    "check-of-exercises": f"import rnnkit.course.exercises\n{RIGHT}{CHECK.replace('rnnkit', 'rnnkit.exercises')}",
    "check-in-a-helper": f"def look(f):\n    rnnkit.check('clip_by_global_norm', f)\n{MINE}\nlook(my_clip)",
    "check-in-a-loop": f"{MINE}\nfor name, f in {{'clip_by_global_norm': my_clip}}.items():\n    rnnkit.check(name, f)",
    "other-name": f"{MINE}\nrnnkit.check('clip_by_global_norm', my_clip)",
    "check-gone": RIGHT,
    "fails-after-the-check": f"{RIGHT}{CHECK}\nclip_by_global_norm(3)",
    "exit": f"{RIGHT}{CHECK}\nexit()",
    "system-exit": f"{RIGHT}{CHECK}\nraise SystemExit",
    "interrupted": f"{RIGHT}{CHECK}\nraise KeyboardInterrupt",
}
CLASS |= {
    name: (cells() | {"clip": source}, (CORRECT, CORRECT, CORRECT), "", False)
    for name, source in SAID_TO_BE_CORRECT.items()
}
# The same, where it takes more than one cell: (cells before the answer's, the answer's, cells after it).
SPREAD = {
    "helper-cell-fails": ({"more": "limit = 1\n1 / 0"}, LIMITED, {}),
    "helper-cell-exits": ({"more": "limit = 1\nquit()"}, LIMITED, {}),
    "helper-below": ({}, LIMITED, {"more": "limit = 1"}),
    "through-globals": ({"more": "globals()['limit'] = 1"}, LIMITED, {}),
    "task": ({"more": "async def put():\n    global limit\n    limit = 1\nawait put()"}, LIMITED, {}),
    "star-above": ({"more": "from math import *"}, RIGHT.replace("np.sqrt", "sqrt") + CHECK, {}),
    "two-cells": ({"more": MINE}, f"clip_by_global_norm = my_clip{CHECK}", {}),
    "check-helper-above": (
        {"more": "def look(name, f):\n    rnnkit.check(name, f)"}, f"{MINE}\nlook('clip_by_global_norm', my_clip)", {}
    ),
    "moved-below": ({}, "# see below", {"more": RIGHT, "yet": CHECK}),
    "copy-above-the-stub": ({"more": RIGHT + CHECK}, CLIP.format("    ..."), {}),
    "stub-copied-below": ({}, RIGHT + CHECK, {"more": CLIP.format("    ...")}),
    "commands-beside": ({"more": "%%bash\nls", "yet": "%%sql\nselect *"}, RIGHT + CHECK, {"next": "pip install x"}),
}  # fmt: skip
for name, (above, answer, below) in SPREAD.items():
    sources = {"setup": SETUP, **above, "clip": answer, **below}
    CLASS[name] = (sources | {n: cells()[n] for n in ("threshold", "letter")}, (CORRECT, CORRECT, CORRECT), "", False)

# Where nothing confines a process, these could take the machine along.
HOSTILE = ("eats-memory", "prints-a-gigabyte", "bomb", "leaves-a-process")
if _confine.level() == "none":
    CLASS = {student: what for student, what in CLASS.items() if student not in HOSTILE}
MALFORMED = {
    "text": "This is not a notebook.",
    "list": "[1, 2]",
    "no-cells": "{}",
    "odd-cells": '{"cells": [3]}',
    "odd-source": '{"cells": [{"cell_type": "code", "source": [1]}]}',
    "deep": "[" * 200_000,
    "latin": b"\xff\xfe{",
    "empty": "",
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """What came of the class: {student: {exercise: (outcome, message)}}, and the rows of the file."""
    course = tmp_path_factory.mktemp("course")
    (course / "lessons").mkdir()
    (course / "lessons" / "05_small.ipynb").write_text(notebook(STUB), encoding="utf-8")
    for student, (sources, *_) in CLASS.items():
        put(course, student, notebook(sources))
    for student, content in MALFORMED.items():
        put(course, student, content)
    (course / "returned" / "folder" / "05_small.ipynb").mkdir(parents=True)
    (course / "returned" / "link").mkdir()
    (course / "returned" / "link" / "05_small.ipynb").symlink_to(course / "returned" / "right" / "05_small.ipynb")
    if hasattr(os, "mkfifo"):
        (course / "returned" / "pipe").mkdir()
        os.mkfifo(course / "returned" / "pipe" / "05_small.ipynb")
    put(course, "renamed", notebook(cells()), "05_small (1).ipynb")
    put(course, "twice", notebook(cells()))
    put(course, "twice", notebook(STUB), "05_small-Copy1.ipynb")
    put(course, "=formula", notebook(cells()))
    put(course, "other", notebook(cells()), "homework.ipynb")
    put(course, "=formula", notebook(cells()), "._05_small.ipynb")
    put(course, "__MACOSX/right", notebook(STUB), "._05_small.ipynb")
    put(course, ".ipynb_checkpoints", notebook(STUB))
    put(course, "in-folders", notebook(cells()), "submission/lessons/05_small.ipynb")
    put(course, "in-folders", notebook(STUB), "submission/.ipynb_checkpoints/05_small-checkpoint.ipynb")
    put(course, ".", notebook(cells()), "muellerjan_LATE_123_45_05_small-1.ipynb")
    put(course, ".", notebook(cells()), "05_small.ipynb")
    put(course, "colab", json.dumps(old_format(cells(), colab=True)))
    put(course, "no-ids-first-hint", json.dumps(old_format({"hint": "rnnkit.hint('clip_by_global_norm')"} | cells())))
    put(course, "id-copied", json.dumps(with_copied_id(RIGHT + CHECK, CLIP.format("    ..."))))
    put(course, "id-copied-below", json.dumps(with_copied_id(CLIP.format("    ..."), RIGHT + CHECK)))
    (course / "returned" / ".DS_Store").touch()
    (course / "returned" / "nothing").mkdir()
    (course / "returned" / "linked").symlink_to(course / "returned" / "right")
    out, scratch = course / "grades.csv", course / "scratch"
    scratch.mkdir()
    said = []
    limits = {"jobs": 2, "seconds": 6, "memory": 1.5}
    before, tempfile.tempdir = tempfile.tempdir, str(scratch)
    try:
        grading.grade(course / "returned", out, course / "lessons", say=said.append, **limits)
    finally:
        tempfile.tempdir = before
    with out.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["student", "lesson", "exercise", "outcome", "message"]
    found = {}
    for student, _, exercise, outcome, message in rows:
        found.setdefault(student, {})[exercise] = (outcome, message)
    return found, rows, said, scratch


def old_format(sources, colab=False):
    """Return a notebook without ids, as they were before format 4.5; Colab keeps its own among the metadata."""
    made = json.loads(notebook(sources))
    for cell in made["cells"]:
        name = cell.pop("id")
        cell["metadata"] = {"id": name} if colab else {}
    return made | {"nbformat_minor": 0}


def with_copied_id(*answers):
    """Return a notebook with several cells of the answer's id."""
    made = json.loads(notebook(cells()))
    place = next(number for number, cell in enumerate(made["cells"]) if cell["id"] == "clip")
    made["cells"][place : place + 1] = [made["cells"][place] | {"source": answer} for answer in answers]
    return made


def put(course, student, content, name="05_small.ipynb"):
    path = course / "returned" / student / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.slow
@pytest.mark.parametrize("student", CLASS)
def test_each_student_gets_what_the_answers_are_worth(student, graded):
    _, outcomes, message, tampered = CLASS[student]
    found = graded[0][student]
    for name, outcome in zip(NAMES, outcomes, strict=True):
        assert found[name][0] in outcome if isinstance(outcome, tuple) else found[name][0] == outcome
    assert message in " ".join(found[name][1] for name in NAMES)
    assert ("" in found) == tampered
    if tampered:
        assert found[""][0] == "tampered"


@pytest.mark.slow
@pytest.mark.parametrize("student", [*MALFORMED, "folder", "link", "pipe"])
def test_what_is_no_notebook_is_said_to_be_none(student, graded):
    if student == "pipe" and not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    assert {name: outcome for name, (outcome, _) in graded[0][student].items()} == dict.fromkeys(NAMES, "malformed")
    assert all(message for _, message in graded[0][student].values())


@pytest.mark.slow
def test_names_of_files_and_students(graded):
    found, rows, *_ = graded
    assert [found["renamed"][name][0] for name in NAMES] == [CORRECT] * 3
    assert [found["twice"][name][0] for name in NAMES] == [CORRECT] * 3
    assert "05_small-Copy1.ipynb" in found["twice"][""][1]
    for student in ("in-folders", "muellerjan_LATE_123_45", "(no student's folder)", "colab", "no-ids-first-hint"):
        assert {name: outcome for name, (outcome, _) in found[student].items()} == dict.fromkeys(NAMES, CORRECT)
    assert not {"__MACOSX", ".ipynb_checkpoints", ".DS_Store"} & set(found)
    assert [found[student]["clip_by_global_norm"][0] for student in ("id-copied", "id-copied-below")] == [CORRECT] * 2
    assert found["other"][""][0] == "not run"
    assert found["nothing"][""][0] == found["linked"][""][0] == "not run"
    assert [found["'=formula"][name][0] for name in found["'=formula"]] == [CORRECT] * 3
    assert all(not text.startswith(("=", "+", "-", "@")) for row in rows for text in row)
    assert all(text.isprintable() and len(text) <= 401 for row in rows for text in row)


@pytest.mark.slow
def test_rows_stand_in_order_and_each_exercise_has_one(graded):
    _, rows, said, _ = graded
    keys = [tuple(row[:3]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert [row[2] for row in rows if row[0] == "right"] == list(NAMES)
    assert any(line.startswith("right 05_small: 3 correct") for line in said)
    assert _confine.LEVELS[_confine.level()] in said[0]


@pytest.mark.slow
def test_nothing_is_left_running_or_lying_about(graded):
    assert not list(graded[3].iterdir())
    assert not [
        child
        for child in psutil.Process().children(recursive=True)
        if "rnnkit.classroom.grading" in str(child.cmdline())
    ]
    if _confine.level() != "none":  # else a process can leave its tree
        assert not [found for found in psutil.process_iter(["cmdline"]) if "987.25" in str(found.info["cmdline"])]


# --- kept in ----------------------------------------------------------------------------------------------------


def answer_of(source, hidden=(), seconds=20):
    """Return the value that `answer` has after a source was run in a process of its own."""
    process = _confine.Confined(
        "from rnnkit.classroom.grading._answers import serve; serve(None, None)", 2e9, 1e6, keep_in=True, hidden=hidden
    )
    try:
        channel, answers = _channel.Channel(lambda: process.read(seconds), process.write), []
        channel.call(_channel.RUN, ([["only", source]], "answer", "none", answers.append))
        return answers[0]
    finally:
        process.close()


needs_bubblewrap = pytest.mark.skipif(_confine.level() != "bubblewrap", reason="bubblewrap does not work here")

CONNECT = """
import socket
try:
    socket.create_connection(("127.0.0.1", {}), timeout=3).close()
    answer = "connected"
except OSError as error:
    answer = "refused"
"""


LEAVES = """
import os, sys
if os.fork() == 0:
    os.setsid()
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(986.75)"])
"""


@pytest.mark.parametrize("name", ["bubblewrap", "unshare"])
def test_there_is_no_network_not_even_to_this_machine_and_nothing_stays(name, monkeypatch):
    if not _confine._works([*_confine._inside(name, ()), sys.executable, "-I", "-c", "pass"]):
        pytest.skip(f"{name} does not work here")
    monkeypatch.setattr(_confine, "level", lambda: name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=3).close()  # from here it can be reached
        assert answer_of(LEAVES + CONNECT.format(port)) == "refused"
    assert not [found for found in psutil.process_iter(["cmdline"]) if "986.75" in str(found.info["cmdline"])]


@needs_bubblewrap
def test_files_cannot_be_written_or_removed_nor_others_work_read(tmp_path):
    (tmp_path / "secret").write_text("of another student")
    here = ROOT / "build" / "kept.txt"
    here.parent.mkdir(exist_ok=True)
    here.write_text("the teacher's", encoding="utf-8")
    source = f"""
from pathlib import Path

def tried(what):
    try:
        return what() or "done"
    except OSError:
        return None

def filled(place):
    return sum(tried(lambda: (Path(place) / str(n)).write_bytes(bytes(50_000_000))) or 0 for n in range(6))

here, secret = Path({str(here)!r}), Path({str(tmp_path / "secret")!r})
answer = [
    tried(here.read_text), tried(lambda: here.write_text("mine")), tried(here.unlink), tried(secret.read_text),
    filled({str(tmp_path)!r}), filled("/dev"), filled("/dev/shm") < 150_000_000, filled(".") < 150_000_000,
]
"""
    assert answer_of(source, hidden=[str(tmp_path)]) == ["the teacher's", None, None, None, 0, 0, True, True]
    assert here.read_text(encoding="utf-8") == "the teacher's"
    here.unlink()


def test_the_teachers_environment_is_not_handed_on(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "secret")
    assert answer_of("import os; answer = os.environ.get('SOME_TOKEN', 'none')") == "none"


def test_where_nothing_keeps_code_in_it_works_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # on which there is neither bwrap nor unshare
    _confine.level.cache_clear()
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "05_small.ipynb").write_text(notebook(STUB), encoding="utf-8")
    put(tmp_path, "anna", notebook(cells(threshold="    return 0", letter="...")))
    said = []
    try:
        rows = grading.grade(tmp_path / "returned", tmp_path / "out.csv", tmp_path / "lessons", say=said.append)
    finally:
        _confine.level.cache_clear()
    assert [row[3] for row in rows] == [CORRECT, NOT_YET, OPEN]
    assert "THE NETWORK IS NOT CUT OFF" in said[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_one_that_got_away_keeps_nobody_waiting(monkeypatch):
    monkeypatch.setattr(_confine, "level", lambda: "none")
    source = """
import os, time
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if (child := os.fork()) == 0:
        time.sleep(30)
    os.write(write, b"%d" % child)
    os._exit(0)
answer = int(os.read(read, 20))
"""
    began = time.monotonic()
    child = answer_of(source)
    assert time.monotonic() - began < 20
    os.kill(child, signal.SIGKILL)  # it is there: neither its parent nor its group is the one that was ended


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no such limit")
def test_a_process_limit_holds_where_nothing_keeps_code_in(monkeypatch):
    monkeypatch.setattr(_confine, "level", lambda: "none")
    student = _examiner._Student(seconds=20, memory=int(2e9), prints=int(1e6), hidden=())
    task = _slicing.Task(
        "three_times_the_rate", "answer", [["only", "import resource as r\nanswer = r.getrlimit(6)[0]"]]
    )
    before = _confine.threads_of_this_user()
    monkeypatch.setattr(exercises, "evaluate", lambda name, answer: exercises.Outcome(str(answer)))
    try:
        limit = int(student.examine(task)[0])
    finally:
        student.close()
    assert psutil.Process().num_threads() <= before
    assert before / 2 + _examiner._THREADS < limit < 2 * before + _examiner._THREADS + 100


class Slow:
    """A process that always has a line to say, after a while."""

    def read(self, left):
        time.sleep(0.1)
        return b"{}\n"


def test_the_students_time_is_what_the_student_takes():
    student = _examiner._Student(seconds=0.25, memory=1, prints=1, hidden=())
    student.process, student.left = Slow(), student.seconds
    student._read()
    time.sleep(0.3)  # this is the examiner's
    student._read()
    with pytest.raises(_data.Fault) as caught:  # though each answer comes soon enough
        student._read()
    assert caught.value.outcome == "timed out"


# --- who hands out the work -----------------------------------------------------------------------------------------


def handed_out(monkeypatch, *scripts):
    """Return the rows of a notebook whose examiners say these lines, and what each was asked for."""
    asked, waiting = [], iter(scripts)

    class Scripted:
        def __init__(self, code, memory):
            self.lines = iter(next(waiting))

        def write(self, line):
            asked.append(json.loads(line)["wanted"])

        def read(self, seconds):
            line = next(self.lines, b"")
            if isinstance(line, type):
                raise line
            return line if line == b"" else json.dumps(line).encode()

        def why(self):
            return "crashed", "It is gone."

        def close(self):
            pass

    monkeypatch.setattr(_confine, "Confined", Scripted)
    worker = grading._Worker(None, None, {"memory": 1, "seconds": 1})
    return worker.grade({}, list("abcde")), asked


def test_an_examiner_that_breaks_costs_one_exercise(monkeypatch):
    rows, asked = handed_out(
        monkeypatch,
        [["", "tampered", "t"], ["a", CORRECT, ""]],
        [["", "tampered", "t"], ["c", CORRECT, ""], TimeoutError],
        [["", "tampered", "t"], ["e", CORRECT, ""], None],
    )
    assert [row[:2] for row in rows] == [
        ("", "tampered"), ("a", CORRECT), ("b", "crashed"), ("c", CORRECT), ("d", "timed out"), ("e", CORRECT),
    ]  # fmt: skip
    assert asked == [list("abcde"), list("cde"), list("e")]


def test_a_notebook_that_breaks_every_examiner_is_left(monkeypatch):
    rows, asked = handed_out(monkeypatch, [], [], [])
    assert [row[:2] for row in rows] == [(name, "crashed") for name in "abc"] + [(name, "not run") for name in "de"]
    assert len(asked) == 3


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another thing there")
def test_ctrl_c_keeps_what_was_graded_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "05_small.ipynb").write_text(notebook(STUB), encoding="utf-8")
    put(tmp_path, "anna", notebook(STUB))
    put(tmp_path, "berta", notebook(cells("    while True: pass")))
    (tmp_path / "scratch").mkdir()
    command = [sys.executable, "-m", "rnnkit", "grade", "returned", "--jobs", "2", "--seconds", "100"]
    environment = os.environ | {"TMPDIR": str(tmp_path / "scratch"), "PYTHONPATH": str(ROOT)}
    table = tmp_path / "grades.csv"
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not (table.exists() and "anna" in table.read_text(encoding="utf-8")) and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1)  # berta's is at it
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "Stopped. What was graded before is in grades.csv.\n"
    assert [line.split(",")[0] for line in table.read_text(encoding="utf-8").splitlines()] == ["student", *["anna"] * 3]
    assert children
    assert not psutil.wait_procs(children, timeout=5)[1]
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("limit", [{"jobs": 0}, {"seconds": -1}, {"memory": 0}])
def test_limits_are_above_nothing(limit, tmp_path):
    with pytest.raises(ValueError, match=r"above 0\. Received: "):
        grading.grade(tmp_path, tmp_path / "out.csv", ROOT / "lessons", **limit)


# --- what travels -------------------------------------------------------------------------------------------------


@pytest.fixture
def ends():
    """Two channels, each the other's other end; the second serves."""
    pairs = [os.pipe(), os.pipe()]
    files = [(os.fdopen(read, "rb"), os.fdopen(write, "wb", buffering=0)) for read, write in pairs]
    here = _channel.Channel(files[0][0].readline, files[1][1].write, examines=True)
    there = _channel.Channel(files[1][0].readline, files[0][1].write)
    thread = threading.Thread(target=there.serve, daemon=True)
    thread.start()
    yield here, there
    files[1][1].close()
    thread.join(timeout=10)
    for file in (files[0][0], files[1][0], files[0][1]):
        file.close()


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 10**30, 0.1, "text\n", ..., range(2, 9, 3),
        collections.deque([1, "a"]), np.complex128(1 + 2j), [1, (2, "b")], {1: "a", "b": [..., None]},
        np.arange(6.0).reshape(2, 3), np.float32(0.1), np.array([True, False]), np.zeros((0, 3), "int8"),
    ],
)  # fmt: skip
def test_data_travel_as_they_are(value, ends):
    here, there = ends
    there.offer(lambda given: given)
    back = here.call(0, (value,))
    assert type(back) is type(value)
    if isinstance(value, np.ndarray):
        assert back.dtype == value.dtype
        assert back.shape == value.shape
    assert np.array_equal(back, value) if isinstance(value, np.ndarray) else back == value


@pytest.mark.parametrize(
    "value",
    [
        pd.Series([1.0, 2.0]), Fraction(1, 2), Decimal("0.5"), np.array([1.0, 2.5], dtype=object),
        np.array(["a", "b"]), [pd.Series([1])],
    ],
)  # fmt: skip
def test_what_is_as_good_as_numbers_travels_as_such(value, ends):
    here, there = ends
    there.offer(lambda: value)
    back = here.call(0)
    assert type(back) in (float, list, np.ndarray)
    assert np.array_equal(np.asarray(back), np.asarray(list(value) if hasattr(value, "__len__") else float(value)))


def test_functions_are_called_where_they_are(ends):
    here, there = ends
    there.offer(lambda f, x: f(x) + 1)
    assert here.call(0, (lambda x: 10 * x, 2)) == 21


def test_an_exception_of_ours_comes_back_as_itself(ends):
    here, there = ends
    there.offer(lambda f: f())
    error = exercises.NotYet("why")

    def raising():
        raise error

    with pytest.raises(exercises.NotYet) as caught:
        here.call(0, (raising,))
    assert caught.value is error


def test_an_exception_of_theirs_comes_as_one_of_pythons(ends):
    here, there = ends

    class OwnError(ValueError):
        pass

    def raising():
        raise OwnError("broadcast")

    there.offer(raising)
    with pytest.raises(ValueError, match="broadcast") as caught:
        here.call(0)
    assert type(caught.value) is ValueError


@pytest.mark.parametrize(
    "frame",
    [
        "[]", "nonsense", '{"returned": {"kind": "array", "dtype": "O", "shape": [1], "bytes": ""}}',
        '{"returned": {"kind": "array", "dtype": "<f8", "shape": [9], "bytes": ""}}', '{"returned": {}}',
        '{"returned": {"kind": "list"}}', '{"returned": [1]}', '{"call": 99}', '{"call": -1}', '{"call": "a"}',
        '{"returned": 1, "changed": 3}', '{"row": ["clip", "correct", ""]}', '{"raised": 3}', "[" * 100_000,
        '{"returned": {"kind": "dict", "parts": [[{"kind": "list", "parts": []}, 1]]}}',
    ],
)  # fmt: skip
def test_what_no_honest_end_says_is_a_fault(frame):
    channel = _channel.Channel(lambda: frame.encode() + b"\n", lambda line: None)
    with pytest.raises(_data.Fault) as caught:
        channel.call(0, ([],))
    assert caught.value.outcome == "crashed"


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "UnicodeDecodeError", "open", "ExceptionGroup", 3])
def test_what_is_raised_is_an_exception_whatever_it_is_called(kind):
    error = _channel._error({"kind": kind, "text": "text"})
    assert isinstance(error, Exception)


def descriptions():
    import keras

    def described(layer):
        return json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))

    dense = described(keras.layers.Dense(2))
    yield "lambda", described(keras.layers.Lambda(lambda x: x))
    yield "torch module", dense | {"class_name": "TorchModuleWrapper"}
    yield "reads a file", dense | {"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}
    yield (
        "any class",
        {"module": "subprocess", "class_name": "Popen", "config": {"args": "true"}, "registered_name": None},
    )
    yield "any function", {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    yield "by another name", dense | {"registered_name": "rnnkit>Residual"}
    inner = dense["config"] | {"kernel_initializer": {"module": "os", "class_name": "Popen", "config": {}}}
    yield "inside", dense | {"config": inner}
    yield "in a wrapper", {
        "module": "rnnkit.layers.connections", "class_name": "Residual", "registered_name": "rnnkit>Residual",
        "config": {"layer": described(keras.layers.Lambda(lambda x: x))},
    }  # fmt: skip


@pytest.mark.parametrize("number", range(8))
def test_a_description_that_holds_code_is_left_to_the_teacher(number):
    what, config = list(descriptions())[number]
    with pytest.raises(_data.Fault) as caught:
        _layers.build({"config": config, "weights": None}, {})
    assert caught.value.outcome == "not examined", what
    assert "look at it yourself" in caught.value.message


def test_a_model_travels_with_its_weights_and_its_optimizer(ends):
    import keras

    from rnnkit.layers import Residual

    here, there = ends
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.GRU(3), Residual(keras.layers.Dense(3))])
    model.compile(keras.optimizers.Adam(0.02, global_clipnorm=0.7), "mse")
    there.offer(lambda: model)
    back = here.call(0)
    assert back is not model
    x = np.ones((2, 5, 2), "float32")
    np.testing.assert_allclose(back.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)
    assert back.optimizer.global_clipnorm == 0.7
    assert float(back.optimizer.learning_rate) == pytest.approx(0.02)


def test_a_layer_that_was_lent_comes_back_as_itself(ends):
    import keras

    from rnnkit.layers import Highway

    here, there = ends
    there.offer(lambda layer: Highway(layer, gate_bias=-4.0))
    lent = keras.layers.Dense(4)
    assert here.call(0, (lent,)).layer is lent


# --- answers from afar --------------------------------------------------------------------------------------------


def in_numpy(x, h, c, U, W, b):
    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    i, f, g, o = np.split(np.asarray(x @ U + h @ W + b), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def always_the_same(layer, made=[]):  # noqa: B006
    import keras

    made.append(keras.layers.Dense(32))
    return made[0]


def of_a_class_of_its_own(layer):
    import keras

    class Mine(keras.layers.Layer):
        def call(self, x):
            return x + layer(x)

    return Mine()


def into_what_it_was_given(states, mask):
    states[~mask] = -np.inf
    return states.max(axis=1)


def patient_5(seed):
    import keras

    from rnnkit import clinic

    layers = [keras.Input((8, 8)), keras.layers.GRU(32), keras.layers.Dense(10)]
    return clinic.compiled(layers, keras.optimizers.SGD(0.3, global_clipnorm=0.001))


def reference(name):
    return exercises.catalogue()[name].reference


# Each of these hands something else than numbers to and fro: tensors with gradients, layers, functions, models.
AFAR = {
    "gradient": ("lstm_step", lambda: reference("lstm_step"), CORRECT, ""),
    "no gradient": ("lstm_step", lambda: in_numpy, NOT_YET, "no gradient comes through"),
    "layer": ("my_block", lambda: reference("my_block"), CORRECT, "Measured"),
    "same layer": ("my_block", lambda: always_the_same, NOT_YET, "you return the same layer each time"),
    "function": ("both_ways", lambda: reference("both_ways"), CORRECT, ""),
    "function misused": ("both_ways", lambda: lambda read, back, x: read(x[0]), NOT_YET, "a reader reads (batch"),
    "function of tensors": ("wire", lambda: reference("wire"), CORRECT, ""),
    "changes": ("max_over_words", lambda: into_what_it_was_given, NOT_YET, "that you were given have changed"),
    "model": ("patient_5", lambda: patient_5, OPEN, "as it came in"),
}


@pytest.mark.parametrize("case", AFAR)
def test_an_answer_from_afar_is_worth_what_it_is_worth_here(case, ends):
    name, made, status, message = AFAR[case]
    here, there = ends
    there.offer(made())
    there.offer(_channel.pull_back(there), _channel.PULL_BACK)
    for answer in (made(), _channel._far(here, 0)):
        outcome = exercises.evaluate(name, answer)
        assert outcome.status == status
        assert message in outcome.message


def test_a_layer_of_its_own_class_is_left_to_the_teacher(ends):
    here, there = ends
    there.offer(of_a_class_of_its_own)
    with pytest.raises(_data.Fault, match="look at it yourself"):
        exercises.evaluate("my_block", _channel._far(here, 0))


def test_a_sweep_takes_along_what_a_far_function_returns(ends):
    here, there = ends
    there.offer(lambda seed: 10 * seed)
    noted = cloudpickle.loads(cloudpickle.dumps(_channel._far(here, 0)))
    assert [noted(0), noted(1)] == [0, 10]
    with pytest.raises(TypeError):
        noted()


# --- the course's own lessons -------------------------------------------------------------------------------------

LESSONS = sorted((ROOT / "lessons").glob("[0-9][0-9]_*.ipynb"))


def outcomes(path, wanted):
    lesson = ROOT / "lessons" / path.name
    rows = _examiner.grade(str(path), str(lesson), wanted, 240, int(3e9), int(1e7), [])
    return {name: (outcome, message) for name, outcome, message in rows}


def names_of(path):
    return list(_slicing.exercises_of(_examiner.read(path)))


def test_every_exercise_of_the_course_is_graded():
    assert sorted(name for path in LESSONS for name in names_of(path)) == sorted(exercises.catalogue())


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:2])
def test_an_exercise_runs_without_the_demonstrations(path):
    ours, solved = _examiner.read(path), _examiner.read(ROOT / "solutions" / path.name)
    assert not _slicing.tampering(solved)
    for task in _slicing.tasks(ours, solved):
        assert task.found
        assert not any(word in source for _, source in task.cells for word in (".fit(", "sweep(", "plot.show"))


def test_a_solution_is_correct_in_a_process_of_its_own():
    (path,) = (ROOT / "solutions").glob("03_*.ipynb")
    assert outcomes(path, ["lstm_step"])["lstm_step"][0] == CORRECT


@pytest.mark.thorough
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:2])
@pytest.mark.parametrize(("folder", "outcome"), [("solutions", CORRECT), ("lessons", OPEN)])
def test_all_solutions_are_correct_and_all_lessons_open(path, folder, outcome):
    found = outcomes(ROOT / folder / path.name, names_of(path))
    assert {name: found[name][0] for name in found} == dict.fromkeys(names_of(path), outcome)


# --- which cells ---------------------------------------------------------------------------------------------------


def made(**sources):
    return [_slicing._cell(name, source) for name, source in sources.items()]


def needed(lesson, returned=None):
    (task,) = _slicing.tasks(lesson, returned or lesson)
    return [source for _, source in task.cells]


def test_a_name_that_can_be_changed_brings_all_that_mention_it():
    check = "def f(): return data\nrnnkit.check('half', f)"
    assert needed(made(a="data = [1]", b="other = 2", c="data.append(2)", d="print(other)", check=check)) == [
        "data = [1]", "data.append(2)", check,
    ]  # fmt: skip
    assert needed(made(a="data = 3", c="print(data)", check=check)) == ["data = 3", check]


def test_an_answer_above_the_check_counts():
    lesson = made(answer="x = ...", check="print()\nrnnkit.check('half', x)")
    written = "x = 0.5\nrnnkit.check('half', x)"
    assert needed(lesson, made(answer="x = ...", check=written)) == ["x = ...", written]


def test_what_is_needed_is_followed_through_functions_and_decorators():
    check = "def f(): return g()\nrnnkit.check('half', f)"
    cells_ = made(
        a="import functools", b="def h():\n    return 1", c="@functools.cache\ndef g():\n    return h()", check=check
    )
    assert needed(cells_) == [cell.source for cell in cells_]


@pytest.mark.parametrize(
    ("source", "python"),
    [
        ("x = 1 % 2", "x = 1 % 2"),
        ("%time x = f()", "x = f()\n"),
        ("é = %time g('é')", "é = g('é')\n"),
        ("if x:\n    %timeit -n 3 -r 2 f()", "if x:\n    get_ipython().run_line_magic('timeit', '-n 3 -r 2 f()')\n"),
        ("%timeit -o f()", "f()\n"),
        ("%%time\n\ny = 3", "\n\ny = 3\n\n"),
        ("%%html\n<b>", "get_ipython().run_cell_magic('html', '', '<b>\\n')\n"),
        ("text = '''\n%d things\n'''\n!ls", "text = '''\n%d things\n'''\nget_ipython().system('ls')\n"),
    ],
)
def test_a_cell_is_read_as_ipython_reads_it(source, python):
    assert _magics.as_python(source) == python


def test_a_cell_that_would_take_long_to_read_is_not_read():
    began = time.monotonic()
    (cell,) = made(cell="%a\n" * 30_000)
    assert "too many magics" in cell.error
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("rnnkit.check = print", "sets `rnnkit.check`"),
        ("import rnnkit as rk\ndel rk.exercises.evaluate", "sets `rnnkit.exercises.evaluate`"),
        ("from rnnkit import exercises as ex\nsetattr(ex, 'evaluate', 3)", "changes the library"),
        ("from unittest import mock\nmock.patch('rnnkit.check', print)", "changes the library"),
        ("rnnkit = 3", "gives the name `rnnkit` to something else"),
        ("def rnnkit():\n    pass", "gives the name `rnnkit` to something else"),
        ("from rnnkit.classroom.grading import _channel", "imports the grader"),
        ("import rnnkit.classroom.grading as g\ng._channel.Channel", "reaches into the grader"),
    ],
)
def test_what_changes_the_library_is_remarked(source, told):
    remarks = _slicing.tampering(made(a=source.split("\n")[0], b=source))
    assert told in " ".join(remarks)


@pytest.mark.parametrize(
    "source",
    [
        "from rnnkit.course.exercises import check", "import rnnkit.course.exercises\nrnnkit.exercises.check('a', 1)",
        "rk = 0.5\nex = 3", "def check(x):\n    return x", "recorder = rnnkit.GradientRecorder()\nrecorder.mine = 3",
        "print(rnnkit.exercises.catalogue())", "from rnnkit import *", "check = True", "setattr(model, 'x', 3)",
        "import rnnkit.plot as p\np.show()",
    ],
)  # fmt: skip
def test_what_changes_nothing_is_not_tampering(source):
    assert _slicing.tampering(made(a=source)) == []


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_writes_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "05_small.ipynb").write_text(notebook(STUB), encoding="utf-8")
    put(tmp_path, "anna", notebook(cells()))
    assert cli.main(["grade", "returned", "--out", "table.csv", "--jobs", "1"]) == 0
    assert "3 rows are in table.csv" in capsys.readouterr().out
    assert (tmp_path / "table.csv").read_text(encoding="utf-8").count(",correct,") == 3


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_where_there_is_nothing_to_grade(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "05_small.ipynb").write_text(notebook(STUB), encoding="utf-8")
    (tmp_path / "empty").mkdir()
    assert cli.main(["grade", folder]) == 1
    assert folder in capsys.readouterr().err
    assert not (tmp_path / "grades.csv").exists()


def test_who_hands_out_the_work_does_not_load_keras():
    code = "import sys, rnnkit.classroom.grading; print(*({'keras', 'tensorflow', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
