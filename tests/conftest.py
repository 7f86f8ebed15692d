"""What all tests share, and which of them run on which backend."""

import os
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # no test opens a window
os.environ["RNNKIT_PROGRESS"] = "off"  # nor counts as what the learner at this machine has done
# A shell has what it runs in the background ignore Ctrl-C, which some tests press, here and in what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
ON_TENSORFLOW = os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow"


# The rooms whose tests run on every backend. What does without Keras is the same everywhere, so that once is enough.
EVERY_BACKEND = {"backend", "instrument", "layers", "live", "probes", "public", "recorders"}
TESTS = Path(__file__).resolve().parent
# Tests, or files of them, that `make slow-tests` found to take over two CPU seconds; reviewed by hand.
SLOW = frozenset((TESTS / "slow.txt").read_text(encoding="utf-8").splitlines())


def needs_tensorflow(path):
    """Tell whether the tests in a file run on the TensorFlow backend only: its folder says so."""
    room, *inside = Path(path).relative_to(TESTS).parts
    return room not in EVERY_BACKEND or "on_tensorflow" in inside


def pytest_ignore_collect(collection_path):
    """Leave out, on other backends, the files that need TensorFlow: where it is missing they cannot be imported."""
    return True if not ON_TENSORFLOW and collection_path.suffix == ".py" and needs_tensorflow(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the tests in those files, for `-m "not tensorflow"`; skip, on other backends, single tests so marked.

    Mark the slow ones too, for `-m "not slow"`.
    """
    for item in items:
        if not SLOW.isdisjoint((item.nodeid, item.nodeid.partition("::")[0])):
            item.add_marker("slow")
        if needs_tensorflow(item.path):
            item.add_marker("tensorflow")
        if not ON_TENSORFLOW and item.get_closest_marker("tensorflow"):
            item.add_marker(pytest.mark.skip(reason="needs Keras's TensorFlow backend"))


class Digits(NamedTuple):
    """How exact numbers can be: the step of a central difference, and the tolerances of what is compared."""

    step: float
    atol: float
    rtol: float


@pytest.fixture
def digits():
    """Make and run models as exactly as the backend can: on JAX and torch Keras computes in float32 at most."""
    import keras

    if keras.backend.backend() != "tensorflow":
        yield Digits(step=1e-2, atol=3e-4, rtol=2e-4)
        return
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    yield Digits(step=1e-5, atol=1e-9, rtol=1e-10)
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True)
def _no_expectation(monkeypatch):
    """Checks behave as they do in front of a learner unless a test asks otherwise."""
    monkeypatch.delenv("RNNKIT_EXPECT", raising=False)
