"""The examples in docstrings and in the README run, and give what they say."""

import base64
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from public_names import offered

import rnnkit

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(rnnkit.__path__, "rnnkit.")
    # The one runs when imported, the others can be imported where their backend is installed.
    if not info.name.startswith(("rnnkit.__main__", "rnnkit._backend."))
)
EXAMPLES = [
    example
    for module in MODULES
    for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module), module)
    if example.examples
]


@pytest.fixture
def names():
    """What a reader of an example has at hand: the imports, some data, and a compiled model."""
    plt.switch_backend("agg")
    x, y = rnnkit.tasks.adding_problem(n=64, length=10, seed=0)
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(4, name="rnn"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    yield {"rnnkit": rnnkit, "keras": keras, "np": np, "plt": plt, "x": x, "y": y, "model": model}
    plt.close("all")


SLOW = ("StateGradientRecorder", "GradientRecorder.attach", "prepare_state_gradients", "LivePlot")


def marked(example):
    """The doctor finds all well where the lessons run: on TensorFlow."""
    marks = [pytest.mark.slow] if example.name.endswith(SLOW) else []
    if example.name.startswith("rnnkit.course.doctor."):
        marks.append(pytest.mark.tensorflow)
    return pytest.param(example, id=example.name, marks=marks)


@pytest.mark.parametrize("example", [marked(example) for example in EXAMPLES])
def test_docstring(example, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example.globs |= names
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)


def test_every_public_name_has_an_example():
    shown = {example.name.rsplit(".", 1)[-1] for example in EXAMPLES}
    modules = ("probes", "sweeps", "tasks", "layers", "initializers", "plot", "explore")
    public = set(rnnkit._NAMES) | {name for module in modules for name in offered(module)}
    assert public - shown == {"ClaimError", "SweepError"}  # exceptions: shown by what raises them


@pytest.mark.slow
def test_readme(tmp_path, monkeypatch):
    """The README's code runs as it stands, in order, and no panel of its figure covers another's labels."""
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names = {}
    for code in blocks:
        exec(compile(code, "README.md", "exec"), names)
    figure = names["figure"]
    left, right = (axes.get_tightbbox() for axes in figure.axes)
    assert not left.overlaps(right)
    assert all(figure.bbox.contains(*corner) for box in (left, right) for corner in (box.min, box.max))
    assert {path.name for path in tmp_path.iterdir()} >= {"run.npz", "gradients.png"}
    plt.close("all")


def test_the_picture_in_the_readme_is_that_of_lesson_01():
    lesson = nbformat.read(ROOT / "solutions" / "01_vanishing_gradients.ipynb", as_version=4)
    (cell,) = (cell for cell in lesson.cells if cell.id == "five-kernels-figure")
    (output,) = cell.outputs
    stored = base64.b64decode(output.data["image/png"])
    assert (ROOT / "docs" / "five-kernels.png").read_bytes() == stored, "copy it again: see CONTRIBUTING.md"
