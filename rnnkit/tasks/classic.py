"""The classic tests of memory, each with the score that takes none: made of random numbers, of any length."""

import math

import numpy as np

from rnnkit.tasks._sizes import generator, require_sizes

# Predicting 1 for every sequence: the variance of the sum of two independent uniform numbers on [0, 1], 2/12.
ADDING_BASELINE = 1 / 6
# Four answers, all equally likely: guessing costs ln 4 nats. Who saw the second of the two marks alone still pays ln 2.
TEMPORAL_ORDER_BASELINE = math.log(4)


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
    require_sizes(n=(n, 1), length=(length, 2))
    draw = generator(seed)
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
    require_sizes(n=(n, 1), length=(length, 1), symbols=(symbols, 2))
    drawn = generator(seed).integers(0, symbols, size=(n, length))
    return np.eye(symbols, dtype="float32")[drawn], drawn[:, 0].astype("int32")


def temporal_order(n, length, seed=0):
    """Make temporal order: two marks, each an X or a Y, come far apart among distractors; name both, in their order.

    The first mark comes after 10 to 20 % of the steps, the second after 40 to 50 %: both have to be kept until the
    end. Guessing is right one time in four, at a cross entropy of ln 4 (`TEMPORAL_ORDER_BASELINE`); a network that
    keeps only one of the two marks is right one time in two, at ln 2.

    Args:
        n: number of sequences.
        length: time steps of each; at least 10.
        seed: integer; the same seed gives the same data.

    Returns:
        x, float32 (n, length, 6): one-hot symbols, the distractors a, b, c, d, then X and Y; y, int32 (n,): 0 for XX,
        1 for XY, 2 for YX, 3 for YY.

    Raises:
        ValueError: if `n` is under 1 or `length` under 10.

    Example:
        >>> x, y = rnnkit.tasks.temporal_order(n=2_000, length=50, seed=0)
        >>> x.shape, sorted(set(y.tolist()))
        ((2000, 50, 6), [0, 1, 2, 3])

    Source: Hochreiter & Schmidhuber (1997), "Long short-term memory", section 5.6, task 6a; at any length as in
    Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks".
    """
    require_sizes(n=(n, 1), length=(length, 10))
    draw = generator(seed)
    symbols = draw.integers(0, 4, size=(n, length))
    marks = draw.integers(0, 2, size=(n, 2))
    rows = np.arange(n)
    symbols[rows, draw.integers(length // 10, 2 * length // 10, size=n, endpoint=True)] = 4 + marks[:, 0]
    symbols[rows, draw.integers(4 * length // 10, 5 * length // 10, size=n, endpoint=True)] = 4 + marks[:, 1]
    return np.eye(6, dtype="float32")[symbols], (2 * marks[:, 0] + marks[:, 1]).astype("int32")


def copy_memory(n, delay, copied=10, symbols=8, seed=0):
    """Make copy memory: see a row of symbols, wait, and write the row out again when told to.

    The input is `copied` random symbols, `delay - 1` blanks, one "go", and `copied` blanks: `delay + 2 * copied` steps.
    The target is blank at every step but the last `copied`, which are the symbols in their order. Each lies
    `delay + copied` steps after its original. What guessing costs: `copy_memory_baseline`.

    Args:
        n: number of sequences.
        delay: steps between the last symbol seen and the first one asked for; at least 1.
        copied: how many symbols to copy; at least 1.
        symbols: how many different ones there are, all equally likely; at least 2.
        seed: integer; the same seed gives the same data.

    Returns:
        x, float32 (n, delay + 2 * copied, symbols + 2): one-hot; the last two are blank and "go"; y, int32
        (n, delay + 2 * copied): what to write at each step, a symbol or, as index `symbols`, a blank.

    Raises:
        ValueError: if a size is too small.

    Example:
        >>> x, y = rnnkit.tasks.copy_memory(n=100, delay=30, seed=0)
        >>> x.shape, y.shape, bool((x[:, :10].argmax(axis=-1) == y[:, -10:]).all())
        ((100, 50, 10), (100, 50), True)

    Source: Hochreiter & Schmidhuber (1997) had its like; this form is that of Arjovsky, Shah & Bengio (2016), "Unitary
    evolution recurrent neural networks", section 4.1.
    """
    require_sizes(n=(n, 1), delay=(delay, 1), copied=(copied, 1), symbols=(symbols, 2))
    blank, go = symbols, symbols + 1
    row = generator(seed).integers(0, symbols, size=(n, copied))
    seen = np.full((n, delay + 2 * copied), blank)
    written = seen.copy()
    seen[:, :copied] = row
    seen[:, copied + delay - 1] = go
    written[:, copied + delay :] = row
    return np.eye(symbols + 2, dtype="float32")[seen], written.astype("int32")


def copy_memory_baseline(delay, copied=10, symbols=8):
    """Return what copy memory costs a network that remembers no symbol, only how to count.

    It knows when to write, and then each symbol is as likely as any other: ln(symbols) nats at `copied` of the
    `delay + 2 * copied` steps, and nothing at the others.

    Args:
        delay: as in `copy_memory`.
        copied: as in `copy_memory`.
        symbols: as in `copy_memory`.

    Returns:
        float: cross entropy in nats a step, averaged over all steps as Keras does it.

    Raises:
        ValueError: if a size is too small.

    Example:
        >>> round(rnnkit.tasks.copy_memory_baseline(delay=100), 4)
        0.1733

    Source: Arjovsky, Shah & Bengio (2016), section 4.1: 10 ln 8 / (T + 20).
    """
    require_sizes(delay=(delay, 1), copied=(copied, 1), symbols=(symbols, 2))
    return copied * math.log(symbols) / (delay + 2 * copied)


def double_sum(n, length, modulus=3, seed=0):
    """Make the double cumulative sum: at every step, the running sum of the running sum of all digits so far.

    Both sums are taken modulo `modulus`, on digits 0 ... `modulus` - 1. It is a task of two floors: a layer that keeps
    the first sum makes the second one as easy to learn as the first. Every digit counts, at every later step, with a
    weight that depends on how long ago it was. What a network without memory can reach: `double_sum_baseline`.

    Args:
        n: number of sequences.
        length: time steps of each; at least 1.
        modulus: how many digits there are, all equally likely at every step; at least 2.
        seed: integer; the same seed gives the same data.

    Returns:
        x, float32 (n, length, modulus): one-hot digits; y, int32 (n, length): the double sum at each step.

    Raises:
        ValueError: if a size is too small.

    Example:
        >>> x, y = rnnkit.tasks.double_sum(n=1, length=6, seed=1)
        >>> x.argmax(axis=-1), y
        (array([[1, 1, 2, 2, 0, 0]]), array([[1, 0, 1, 1, 1, 1]], dtype=int32))
    """
    require_sizes(n=(n, 1), length=(length, 1), modulus=(modulus, 2))
    digits = generator(seed).integers(0, modulus, size=(n, length))
    once = digits.cumsum(axis=1) % modulus
    return np.eye(modulus, dtype="float32")[digits], (once.cumsum(axis=1) % modulus).astype("int32")


def double_sum_baseline(length, modulus=3):
    """Return the accuracy, over all steps, of the best answer to the double sum that takes no memory.

    That is the digit just read: right at the first step, and otherwise one time in `modulus`. (If that is even, two
    times in `modulus` at the second step, where twice the first digit has only half as many values.)

    Args:
        length: as in `double_sum`.
        modulus: as in `double_sum`.

    Returns:
        float: accuracy from 0 to 1.

    Raises:
        ValueError: if a size is too small.

    Example:
        >>> round(rnnkit.tasks.double_sum_baseline(length=12), 3)
        0.389
    """
    require_sizes(length=(length, 1), modulus=(modulus, 2))
    right = 1 + (length - 1) / modulus + (length > 1 and modulus % 2 == 0) / modulus
    return right / length
