"""What a data set refuses: sizes that make no sense, seeds that are none, and halves that there are not."""

import numpy as np


def require_sizes(**sizes):
    """Refuse a size that is not a whole number of at least the one given with it.

    Args:
        sizes: name = (value, the least that makes sense).

    Raises:
        ValueError: naming the first that is too small or not whole.
    """
    for name, (value, least) in sizes.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise ValueError(f"`{name}` must be a whole number of at least {least}. Received: {name}={value!r}.")


def generator(seed):
    """Return NumPy's generator of random numbers for a seed.

    Args:
        seed: whole number of at least 0.

    Raises:
        ValueError: if it is anything else; None, with which every data set would be another one, too.
    """
    require_sizes(seed=(seed, 0))
    return np.random.default_rng(seed)


def require_split(split):
    """Refuse a part of the data that is neither for training nor for testing.

    Args:
        split: `"train"` or `"test"`.

    Raises:
        ValueError: if it is anything else.
    """
    if split not in ("train", "test"):
        raise ValueError(f"`split` is 'train' or 'test'. Received: split={split!r}.")
