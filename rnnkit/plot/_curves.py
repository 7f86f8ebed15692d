"""Curves on a log axis, with marks for what has no place on it, and names at their ends."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb

_ROW = 0.06  # height of a row of marks, for what has no place on a log axis, as a fraction of the axes


def axes_or_new(ax):
    """Return axes to draw on: those given, or new ones."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax  # makes room for names beside the axes


def positive(values):
    """Return a copy with a gap where a number has no place on a log axis."""
    values = np.array(values, "float64")
    values[~((values > 0) & np.isfinite(values))] = np.nan
    return values


def draw_curves(ax, curves, x=None, named_at=-1):
    """Draw curves on a log axis and, in rows below and above them, marks for the points that have no place on one.

    Returns:
        dict from label to (line, anchor); the anchor is the end to name: x, y and the coordinates they are in.
    """
    drawn = {}
    below = []
    above = []
    ax.set_yscale("log")
    for label, values in curves.items():
        at = np.arange(len(values)) if x is None else np.asarray(x)
        (line,) = ax.plot(at, positive(values), label=label)
        shown = np.pad(np.isfinite(line.get_ydata()), 1)
        alone = np.flatnonzero(shown[1:-1] & ~shown[:-2] & ~shown[2:])
        if len(alone):  # a line through a single point is not to be seen
            line.set(marker="o", markevery=list(alone))
        on_line = np.flatnonzero(shown[1:-1])
        end = on_line[named_at] if len(on_line) else None
        drawn[label] = line, None if end is None else (at[end], values[end], "data")
        for rows, where in (below, values == 0), (above, ~np.isfinite(values)):
            if where.any():
                rows.append((label, line, at[where], where[named_at]))
    if below or above:
        _make_room(ax, below, above)
    for rows, words, start, step in (below, "exactly 0", 0, _ROW), (above, "inf or NaN", 1, -_ROW):
        for number, (label, line, at, named_here) in enumerate(rows, 1):
            y = start + step * (number - 0.4)
            _draw_marks(ax, f"_{label}: {words}", at, y, line.get_color())
            if named_here:
                drawn[label] = line, (at[named_at], y, ax.get_xaxis_transform())
            _beside_marks(ax, words if named_here else f"{_fitting(label)}: {words}", at, y, line.get_color())
    return drawn


def _make_room(ax, below, above):
    """Widen a log axis by rows of marks, beside which it measures nothing."""
    low, high = np.log10(ax.get_ylim())
    down, up = (_ROW * (len(rows) + 0.5) if rows else 0.0 for rows in (below, above))
    height = (high - low) / (1 - down - up)
    ax.set_ylim(10 ** (low - down * height), 10 ** (high + up * height))
    apart = next(step for step in (1, 2, 5, 10, 20, 50, 100) if high - low <= 8 * step)
    decades = apart * np.arange(np.ceil(low / apart), high // apart + 1)
    ax.set_yticks(10.0**decades)
    ax.yaxis.minorticks_off()


def _draw_marks(ax, label, at, y, colour):
    """Draw a row of marks at a height given as a fraction of the axes."""
    marks = {"color": colour, "marker": "x", "markersize": 5, "markeredgewidth": 1.5}
    marks |= {"markevery": len(at) // 20 + 1, "linestyle": "", "transform": ax.get_xaxis_transform()}
    ax.plot(at, np.full(len(at), y), label=label, **marks)


def _beside_marks(ax, words, at, y, colour):
    """Write beside a row of marks where there is room: after it, before it or, if it fills the axes, upon it."""
    low, high = ax.get_xlim()
    after, before = at[-1] < low + 0.7 * (high - low), at[0] > low + 0.3 * (high - low)
    place, align, shift = (
        (at[-1], "left", 8) if after else (at[0], "right", -8) if before else (np.mean(at), "center", 0)
    )
    ax.annotate(
        words, (place, y), (shift, 0), xycoords=ax.get_xaxis_transform(), textcoords="offset points", ha=align,
        va="center", color=dark_shade(colour), size="small", bbox={"facecolor": "white", "linewidth": 0, "pad": 4},
        zorder=2.4,  # over marks and grid, under the axis
    )  # fmt: skip


def name_curves(ax, drawn, named_at=-1):
    """Write each curve's name at its end; where the names would crowd, give a legend in the order of the ends."""
    ax.get_xlim(), ax.get_ylim()  # brings the limits up to date, on which the places on the page depend
    pixels = ax.figure.dpi / 72
    line_height = 1.3 * plt.rcParams["font.size"] * pixels
    place = {
        label: (ax.transData if where == "data" else where).transform((x, y))[1]
        for label, (_, (x, y, where)) in drawn.items()
    }
    ordered = sorted(place, key=place.get)
    apart = dict(zip(ordered, _spread([place[label] for label in ordered], line_height), strict=True))
    if any(abs(apart[label] - place[label]) > 2 * line_height for label in ordered):
        handles, names = [drawn[label][0] for label in ordered[::-1]], map(_fitting, ordered[::-1])
        ax.legend(handles, names, loc="upper left", bbox_to_anchor=(1, 1))
        return
    side, align = (-1, "right") if named_at == 0 else (1, "left")
    for label in ordered:
        line, (x, y, where) = drawn[label]
        shift = (apart[label] - place[label]) / pixels
        leader = {"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.8, "shrinkA": 0, "shrinkB": 2}
        offset = side * (20 if abs(shift) > 2 else 9), shift
        ax.annotate(
            _fitting(label), (x, y), offset, xycoords=where, textcoords="offset points",
            ha=align, va="center", color=dark_shade(line.get_color()), arrowprops=leader if abs(shift) > 2 else None,
            annotation_clip=False,
        )  # fmt: skip


def _fitting(label):
    """Return a name that leaves room for the figure; of a very long one, how it begins and ends."""
    return label if len(label) <= 60 else f"{label[:29]} … {label[-28:]}"


def _spread(places, gap):
    """Move sorted places at least a gap apart, as little as can be: least squares, by pool adjacent violators.

    Without the gaps that come before each, the places asked for are the nondecreasing sequence that is nearest to those
    given: isotonic regression.
    """
    pools = []
    for number, place in enumerate(places):
        pools.append((place - number * gap, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, n), (other, m) = pools.pop(), pools.pop()
            pools.append(((one * n + other * m) / (n + m), n + m))
    return np.repeat(*zip(*pools, strict=True)) + gap * np.arange(len(places))


def dark_shade(colour):
    """Return a colour's dark shade, in which words on white have the contrast that WCAG asks of text."""
    return tuple(0.6 * channel for channel in to_rgb(colour))
