"""The rules that keep the library's parts apart, and its start quiet and light."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rnnkit
from rnnkit._backend import quiet_stderr

PACKAGE = Path(__file__).resolve().parents[1] / "rnnkit"

# What each module may import of this package. Only commands import exercises, and plot only where a recorder meets a
# reader.
# fmt: off
ALLOWED = {
    "__init__": set(),
    "__main__": {"doctor", "_handout", "_notebooks", "_records", "_reference", "exercises", "grading"},
    "_backend": set(),
    "_batch": {"_backend", "_model"},
    "_display": set(),
    "_export": set(),
    "_fingerprint": set(),
    "_gates": {"_backend", "_loop", "_model", "layers"},
    "_gradient_rows": {"_backend", "_model", "_optimizer_hook", "_recording", "_row_reader"},
    "_handout": {"_export"},
    "_loop": {"_backend"},
    "_model": {"_backend", "_names"},
    "_names": set(),
    "_next_step": {"_display"},
    "_notebooks": {"_export"},
    "_perturbation": {"_backend", "_gates", "_loop", "layers"},
    "_precision": {"_backend", "_model"},
    "_optimizer_hook": {"_backend", "_model"},
    "_recording": {"_export", "_names"},
    "_row_reader": {"_backend"},
    "_records": {"lecture"},
    "_reference": set(),
    "_tensorboard": set(),
    "_spectrum": set(),
    "_saliency": {"_backend", "_batch", "_model"},
    "clinic": {"_backend", "probes", "recorders", "tasks"},
    "claims": {"_display", "lecture"},
    "doctor": set(),
    "initializers": {"_backend"},
    "lecture": set(),
    "lesson": {"_backend", "_display", "_next_step", "doctor"},
    "live": {"_backend", "_display", "plot", "recorders"},
    "plot": {"_fingerprint", "_names"},
    "probes": {
        "_backend", "_batch", "_gates", "_loop", "_model", "_names", "_perturbation", "_precision", "_saliency",
        "_spectrum",
    },
    "published": {"_display", "claims"},
    "recorders": {
        "_backend", "_gradient_rows", "_model", "_names", "_optimizer_hook", "_recording", "_tensorboard",
        "_training_states", "_training_step", "probes",
    },
    "sweeps": {"_display", "_sweep_cache", "_workers"},
    "_sweep_cache": {"_backend", "_export", "_workers"},
    "_training_states": {"_backend", "_loop", "_model", "_perturbation", "_row_reader", "_training_step"},
    "_training_step": {"_backend", "_optimizer_hook"},
    "_workers": {"_backend"},
}
# fmt: on


def imported(path):
    """Return the modules of this package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rnnkit":
            inside = node.module.split(".")[1:]
            found |= {inside[0]} if inside else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("rnnkit.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_a_module_imports_only_what_is_below_it(path):
    assert imported(path) <= ALLOWED[path.stem]


def test_layers_import_initializers_and_the_backend_alone():
    for path in (PACKAGE / "layers").glob("*.py"):
        assert imported(path) <= {"_backend", "initializers", "layers"}


def test_tasks_are_numpy_alone():
    for path in (PACKAGE / "tasks").glob("*.py"):
        assert imported(path) <= {"tasks"}
        assert "keras" not in path.read_text(encoding="utf-8").split("import")[0]


def test_explorers_measure_in_numpy_and_draw_with_plot():
    for path in (PACKAGE / "explore").glob("*.py"):
        assert imported(path) <= {"_display", "explore", "plot", "tasks"}
        assert path.stem == "_panel" or "import ipywidgets" not in path.read_text(encoding="utf-8")


def test_only_the_backend_module_knows_which_backend_runs():
    for path in PACKAGE.rglob("*.py"):
        if "_backend" not in path.parts and path.stem != "doctor":
            names = set()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names.add((node.module or "").split(".")[0])
            assert not names & {"tensorflow", "jax", "torch"}, path


def python(code, **environment):
    """Run code in a fresh Python; return what it printed and what came on stderr, C libraries included."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_importing_rnnkit_imports_nothing_heavy():
    code = "import sys, rnnkit; print(*({'keras', 'tensorflow', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    assert python(code) == ("", "")


def test_all_that_is_promised_is_there():
    assert all(getattr(rnnkit, name) for name in rnnkit.__all__)
    assert set(rnnkit.__all__) <= set(dir(rnnkit))


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(AttributeError, match=r"'GradientRecoder'.*GradientRecorder"):
        rnnkit.GradientRecoder  # noqa: B018


LESSON = """
import rnnkit; rnnkit.start_lesson(seed=3)
import keras, os
x, y = rnnkit.tasks.adding_problem(64, 20)
model = keras.Sequential([keras.Input((20, 2)), keras.layers.GRU(8), keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(x, y, verbose=0)
print(os.environ["TF_ENABLE_ONEDNN_OPTS"], model.get_weights()[0].tobytes().hex())
"""


@pytest.fixture(scope="module")
def lesson():
    return python(LESSON)


def test_a_lesson_starts_without_a_line_on_stderr(lesson):
    said, stderr = lesson
    assert (said.split()[0], stderr) == ("0", "")


def test_a_lesson_repeats_itself_to_the_bit(lesson):
    assert len(lesson[0].split()[1]) == 8 * 2 * (3 * 8)  # hexadecimal digits of a kernel of float32
    assert python(LESSON) == lesson


def test_another_backend_is_refused_with_the_next_step():
    code = "import rnnkit\ntry: rnnkit.probes\nexcept ImportError as error: print(error)"
    said, _ = python(code, KERAS_BACKEND="numpy")
    assert "KERAS_BACKEND='numpy'" in said
    assert "Set KERAS_BACKEND=tensorflow" in said


def test_a_backend_that_is_not_installed_is_answered_with_the_next_step():
    code = (
        "import sys; sys.modules['jax'] = None; import rnnkit\n"
        "try: rnnkit.probes\nexcept ImportError as error: print(error)"
    )
    said, _ = python(code, KERAS_BACKEND="jax")
    assert "KERAS_BACKEND='jax', with which `import keras` says: " in said
    assert 'pip install "rnnkit[' in said


def test_what_was_held_back_is_shown_when_the_start_fails(capfd):
    def start():
        with quiet_stderr():
            os.write(2, b"the reason")
            raise ImportError("broken")

    with pytest.raises(ImportError, match="broken"):
        start()
    assert capfd.readouterr().err == "the reason"


def test_what_was_held_back_is_dropped_when_the_start_succeeds(capfd):
    with quiet_stderr():
        os.write(2, b"a line of a log")
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"
