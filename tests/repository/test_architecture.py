"""The rules that keep the library's parts apart, and its start quiet and light."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rnnkit
from rnnkit._backend import quiet_stderr

PACKAGE = Path(__file__).resolve().parents[2] / "rnnkit"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("probes/_saliency.py", "from tensorflow import GradientTape"),
        ("recorders/_recording.py", "def late():\n    from rnnkit.course import claims"),
        ("plot/__init__.py", "from rnnkit import sweeps"),
        ("tasks/classic.py", "import keras"),
        ("new_room.py", ""),
    ],
)
def test_an_import_that_is_not_allowed_is_found(file, line, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "rnnkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE.parent / "pyproject.toml", tmp_path)
    with open(tmp_path / "rnnkit" / file, "a", encoding="utf-8") as module:
        module.write(f"{line}\n")
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert f"rnnkit.{Path(file).with_suffix('').as_posix().removesuffix('/__init__').replace('/', '.')}" in done.stdout


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


@pytest.mark.slow
def test_a_lesson_starts_without_a_line_on_stderr(lesson):
    said, stderr = lesson
    assert (said.split()[0], stderr) == ("0", "")


@pytest.mark.slow
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
