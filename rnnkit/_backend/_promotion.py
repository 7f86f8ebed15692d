"""What comes of float64 in Keras's operations, where the backend is JAX or torch."""

from contextlib import contextmanager

from keras.src.backend.common import dtypes


@contextmanager
def float64_kept(on=True):
    """While the block runs, let Keras's type promotion leave float64 as it is; it makes float32 of it otherwise."""
    table = dtypes.BIT64_TO_BIT32_DTYPE
    before, table["float64"] = table["float64"], "float64" if on else "float32"
    try:
        yield
    finally:
        table["float64"] = before
