"""What may be drawn: arrays of real numbers."""

import numpy as np


def real_numbers(values, label=None):
    """Return real numbers as an array of float64; raise ValueError for what is none."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in "biuf" or array.dtype.type.__module__ == "ml_dtypes" or not array.size:
            return array.astype("float64")
        received = f"an array of type {array.dtype}"
    except ValueError:  # a list of lists of several lengths
        received = "a list of parts of several lengths"
    of = "" if label is None else f" of {label!r}"
    raise ValueError(
        f"Figures are drawn from arrays of real numbers. Received{of}: {received}. "
        "Pass what a probe returned or a recorder holds."
    )


def described(values):
    """Return the shape of an array in words, and how many of its entries are not finite."""
    words = f"shape {values.shape}"
    nans = np.isnan(values).sum()
    infinite = np.isinf(values).sum()
    if nans:
        words += f" with {nans} NaN"
    if infinite:
        words += f" with {infinite} inf"
    return words
