"""Real handwriting: the digits that come with scikit-learn."""


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
