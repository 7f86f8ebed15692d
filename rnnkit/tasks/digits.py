"""Real handwriting: the digits that come with scikit-learn."""

from rnnkit.tasks._sizes import generator, require_sizes


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


def digit_images(n_new=597, seed=0):
    """Load scikit-learn's 1,797 handwritten digits as images, in a random order, the last of them kept apart.

    The data come with scikit-learn; nothing is downloaded. The images stand in their file in the order of their
    writers; they are shuffled, so that training and new images come from the same writers.

    Args:
        n_new: how many images to keep apart; at least 1 and at most 1,796.
        seed: integer; the same seed gives the same order.

    Returns:
        x, float32 (1797 - n_new, 8, 8, 1): pixels scaled to [0, 1], one channel; y, int32 (1797 - n_new,): the digit;
        x_new, y_new: the same of the images kept apart.

    Raises:
        ModuleNotFoundError: if scikit-learn is not installed.
        ValueError: if `n_new` is no whole number from 1 to 1,796.

    Example:
        >>> x, y, x_new, y_new = rnnkit.tasks.digit_images()
        >>> x.shape, x_new.shape
        ((1200, 8, 8, 1), (597, 8, 8, 1))

    Source: Alpaydin & Kaynak (1998), "Optical recognition of handwritten digits", UCI repository (its test set).
    """
    x, y = digits_by_row()
    require_sizes(n_new=(n_new, 1))
    if n_new >= len(x):
        raise ValueError(f"There are {len(x)} images, of which one must stay. Received: n_new={n_new}. Try 597.")
    order = generator(seed).permutation(len(x))
    kept, new = order[: len(x) - n_new], order[len(x) - n_new :]
    return x[kept, ..., None], y[kept], x[new, ..., None], y[new]
