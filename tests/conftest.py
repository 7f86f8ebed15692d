"""What all tests share."""

import os
from typing import NamedTuple

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # no test opens a window


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
