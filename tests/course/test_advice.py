"""Below an error that learners meet stands what to do; below others, nothing."""

import contextlib
import errno
import os
import time

import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from rnnkit import doctor
from rnnkit.course import advice

LATER = time.time() + 3600  # rnnkit imported then would be newer than its files


def raised(code):
    with pytest.raises(BaseException) as caught:  # noqa: PT011  (whatever the code raises)
        exec(code, {})
    return caught.value


# what a cell does: words of what to do about it
CASES = {
    "x + model": ("makes `x`", "Run All Above Selected Cell", "spelling"),
    "answers = [b, 'c']": ('it needs quotes: "b"', "makes `b`"),
    "import seaborne": ("no `seaborne`", "`rnnkit doctor`", "`%pip install seaborne`"),
    "from seaborne.plots import lines": ("no `seaborne`",),
    "raise MemoryError": ("no memory left", "Shut down the kernels", "restart this kernel"),
    "class ResourceExhaustedError(Exception): pass\nraise ResourceExhaustedError('OOM')": ("no memory left",),
    f"raise OSError({errno.EACCES}, 'Permission denied')": ("Nothing can be written there", "`rnnkit handout DIR`"),
    f"raise OSError({errno.EROFS}, 'Read-only file system')": (os.getcwd(), os.path.expanduser("~")),
    f"raise OSError({errno.ENOSPC}, 'No space left on device')": ("The disk is full",),
}


@pytest.mark.parametrize("code", CASES)
def test_an_error_that_learners_meet_is_answered_with_what_to_do(code):
    text = advice.advice(raised(code), since=LATER)
    for words in CASES[code]:
        assert words in text


@pytest.mark.parametrize(
    "code",
    ["1 / 0", "def f():\n    y += 1\n    y = 0\nf()", "open('nowhere/at/all')", "raise KeyboardInterrupt", "'a' + 1"],
)
def test_of_other_errors_nobody_knows_more_than_the_learner(code):
    assert advice.advice(raised(code), since=LATER) is None


def test_only_the_name_of_an_answer_is_told_of_quotes():
    assert "quotes" not in advice.advice(raised("x + model"), since=LATER)


def test_a_library_changed_since_the_kernel_imported_it_is_named_whatever_the_error():
    text = advice.advice(ZeroDivisionError(), since=0)
    assert "rnnkit has changed on disk" in text
    assert "Restart Kernel" in text


def run(*sources, **environment):
    """Run cells in a kernel, the error of the last included; return the outputs of each."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    client = NotebookClient(notebook, kernel_name="python3")
    with contextlib.suppress(CellExecutionError):
        client.execute(env={**os.environ, **environment})
    return [cell.outputs for cell in notebook.cells]


@pytest.mark.slow
def test_a_notebook_shows_the_error_then_once_what_to_do():
    start = "import rnnkit\nrnnkit.start_lesson()"
    *_, outputs = run(start, start, "x")
    kinds = [output.output_type for output in outputs]
    assert kinds == ["error", "display_data"]
    assert "Run All Above" in outputs[1].data["text/plain"]


@pytest.mark.slow
def test_a_notebook_under_test_shows_the_error_alone():
    *_, outputs = run("import rnnkit\nrnnkit.start_lesson()", "x", RNNKIT_EXPECT="open")
    assert [output.output_type for output in outputs] == ["error"]


@pytest.mark.slow
def test_a_lesson_on_another_backend_is_told_so_at_its_start():
    pytest.importorskip("jax")
    (outputs,) = run("import rnnkit\nrnnkit.start_lesson()", KERAS_BACKEND="jax")
    assert "on jax" in outputs[0].data["text/plain"]
    assert "unset the environment variable KERAS_BACKEND" in outputs[0].data["text/plain"]


@pytest.mark.parametrize(("free", "told"), [(0.5, ["Memory"]), (1.5, [])])
def test_a_lesson_that_lacks_memory_is_told_so_at_its_start(free, told, monkeypatch):
    import keras  # noqa: F401  (the doctor's glance is for when it is loaded)

    monkeypatch.setattr(doctor, "_read_memory", lambda: (4 * 2**30, int(free * 2**30)))
    assert [finding.name for finding in doctor.glance() if finding.fix] == told
