"""Data sets as NumPy arrays, made on the spot, with the score that needs no memory at all."""

import numpy as np

# Predicting 1 for every sequence: the variance of the sum of two independent uniform numbers on [0, 1], 2/12.
ADDING_BASELINE = 1 / 6


def adding_problem(n, length, seed=0):
    """Make the adding problem: report the sum of the two marked numbers of a sequence.

    Each step shows a number drawn evenly from [0, 1] and a mark; one step of the first half and one of the second are
    marked. Always answering 1 gives a mean squared error of 2/12 (`ADDING_BASELINE`): a network must beat that to
    have remembered anything.

    Args:
        n: number of sequences.
        length: time steps of each; at least 2.
        seed: integer; the same seed gives the same data.

    Returns:
        x, float32 (n, length, 2): number and mark; y, float32 (n, 1): the sum.

    Raises:
        ValueError: if `n` is under 1 or `length` under 2.

    Example:
        >>> x, y = rnnkit.tasks.adding_problem(n=2_000, length=60, seed=0)
        >>> x.shape, y.shape
        ((2000, 60, 2), (2000, 1))

    Source: Hochreiter & Schmidhuber (1997), "Long short-term memory", section 5.4; the form with one mark in each half
    is that of Arjovsky, Shah & Bengio (2016), section 4.2.
    """
    _require_sizes(n=(n, 1), length=(length, 2))
    draw = np.random.default_rng(seed)
    numbers = draw.uniform(size=(n, length))
    marks = np.zeros((n, length))
    rows = np.arange(n)
    marks[rows, draw.integers(0, length // 2, size=n)] = 1
    marks[rows, draw.integers(length // 2, length, size=n)] = 1
    x = np.stack([numbers, marks], axis=-1).astype("float32")
    return x, (x[..., 0] * x[..., 1]).sum(axis=1, keepdims=True)


def first_symbol_recall(n, length, symbols=4, seed=0):
    """Make first-symbol recall: name, at the end of a sequence of noise, the symbol it began with.

    The one task whose answer lies entirely at one known distance. Guessing is right one time in `symbols`, at a cross
    entropy of ln(symbols).

    Args:
        n: number of sequences.
        length: time steps of each; at least 1. The symbol to remember is `length - 1` steps from the end.
        symbols: how many different ones there are, all equally likely at every step; at least 2.
        seed: integer; the same seed gives the same data.

    Returns:
        x, float32 (n, length, symbols): one-hot symbols; y, int32 (n,): index of the first.

    Raises:
        ValueError: if a size is too small.

    Example:
        >>> x, y = rnnkit.tasks.first_symbol_recall(n=100, length=20, symbols=4, seed=0)
        >>> x.shape, bool((x[:, 0].argmax(axis=-1) == y).all())
        ((100, 20, 4), True)
    """
    _require_sizes(n=(n, 1), length=(length, 1), symbols=(symbols, 2))
    drawn = np.random.default_rng(seed).integers(0, symbols, size=(n, length))
    return np.eye(symbols, dtype="float32")[drawn], drawn[:, 0].astype("int32")


def digits_by_row():
    """Load scikit-learn's 1,797 handwritten digits, to be read row by row: eight steps of eight pixels.

    The data come with scikit-learn; nothing is downloaded.

    Returns:
        x, float32 (1797, 8, 8): rows from top to bottom, pixels scaled to [0, 1]; y, int32 (1797,): the digit.

    Raises:
        ModuleNotFoundError: if scikit-learn is not installed.

    Example:
        >>> x, y = rnnkit.tasks.digits_by_row()
        >>> x.shape, float(x.max())
        ((1797, 8, 8), 1.0)

    Source: Alpaydin & Kaynak (1998), "Optical recognition of handwritten digits", UCI repository (its test set).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images / 16).astype("float32"), digits.target.astype("int32")


def _require_sizes(**sizes):
    for name, (value, least) in sizes.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise ValueError(f"`{name}` must be a whole number of at least {least}. Received: {name}={value!r}.")
