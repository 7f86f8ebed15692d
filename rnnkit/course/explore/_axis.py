"""A log axis that stands still while sliders move, and is quick to draw."""

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def stand_still(ax, curves, by=5):
    """Fix the limits of a log axis to whole steps of `by` decades round the curves: small moves leave it as it is."""
    sizes = np.concatenate([np.ravel(curve) for curve in curves])
    decades = np.log10(sizes[(sizes > 0) & np.isfinite(sizes)])
    low, high = (by * np.floor(decades.min() / by), by * np.ceil(decades.max() / by)) if len(decades) else (-by, 0)
    ax.set_yscale("log")
    ax.set_ylim(10.0**low / 2, 10.0 ** max(high, low + by) * 2)


def plain_powers(ax):
    """Write the powers of ten in plain letters: typeset, they take as long as all the rest of the picture."""
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
    ax.yaxis.set_minor_locator(NullLocator())


def power(value):
    """Return the power of ten nearest to a positive number: 10⁻⁵."""
    exponent = round(np.log10(value))
    return f"10{str(exponent).translate(_RAISED)}" if exponent else "1"


def about(value):
    """Return a number of at least 0 in words: two digits near 1, else the nearest power of ten."""
    return "exactly 0" if value == 0 else f"{value:.2g}" if 0.01 <= value < 99 else f"about {power(value)}"
