"""What spares tests time and changes nothing of what they look at."""

import keras
import pytest

_ON_JAX = keras.backend.backend() == "jax"  # which has to compile, and keeps what it compiled for the next time

# For `compile`: what XLA compiles comes on top of tracing. TensorFlow and torch can do without.
FAST = {} if _ON_JAX else {"jit_compile": False}

# For `compile`, where a few steps are taken and it is not the point how: to trace one costs as much as to run ten.
EAGER = {} if _ON_JAX else {"run_eagerly": True}


def slow_but(quick, cases):
    """Cases for `parametrize`, marked slow but for the quick ones: those are enough for every day."""
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]
