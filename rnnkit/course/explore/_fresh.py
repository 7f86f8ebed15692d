"""Fresh weights as Keras draws them, in NumPy and always the same: only what a slider moves may change a picture."""

import numpy as np


def glorot(draw, rows, columns):
    """Return Keras's default for input kernels, uniform: (rows, columns)."""
    return draw.uniform(-1, 1, (rows, columns)) * np.sqrt(6 / (rows + columns))


def orthogonal(draw, rows, columns):
    """Return Keras's default for recurrent kernels, (rows, columns), rows <= columns: its rows are orthonormal."""
    q, r = np.linalg.qr(draw.normal(size=(columns, rows)))
    return (q * np.sign(np.diag(r))).T


def sigmoid(a):
    """Return 1 / (1 + exp(-a)), without an overflow on the way."""
    return 0.5 * (1 + np.tanh(a / 2))
