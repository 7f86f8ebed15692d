"""What a data set refuses: sizes that make no sense."""

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
