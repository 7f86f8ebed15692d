"""The cliff in the loss of a one-unit recurrent network, and two descents on it."""

import functools
import math
from typing import NamedTuple

import numpy as np

from rnnkit import plot
from rnnkit.course.explore._fresh import sigmoid

RECURRENCES, FROM, TARGET = 50, 0.5, 0.7
ACROSS, UP = np.linspace(4.2, 5.4, 121), np.linspace(-2.8, -1.0, 181)


class Descents(NamedTuple):
    """What was measured: the points that two descents visit, each (steps + 1, 3): w, b and the loss there."""

    plain: np.ndarray
    clipped: np.ndarray
    threshold: float


@functools.cache
def surface():
    """Return the loss (rows, columns) over the map's `ACROSS` and `UP`; the same whatever the sliders say."""
    w, b = np.meshgrid(ACROSS, UP)
    x = np.full_like(w, FROM)
    for _ in range(RECURRENCES):
        x = w * sigmoid(x) + b
    return (sigmoid(x) - TARGET) ** 2


def loss_and_gradient(w, b):
    """Return L, dL/dw and dL/db at one point; on plain numbers, which is ten times as fast as arrays of one."""
    x, by_w, by_b = FROM, 0.0, 0.0
    for _ in range(RECURRENCES):
        s = 0.5 * (1 + math.tanh(x / 2))
        factor = w * s * (1 - s)
        x, by_w, by_b = w * s + b, s + factor * by_w, 1 + factor * by_b
    s = 0.5 * (1 + math.tanh(x / 2))
    slope = 2 * (s - TARGET) * s * (1 - s)
    return (s - TARGET) ** 2, slope * by_w, slope * by_b


def measure(w, b, rate, threshold, steps):
    """Descend twice from one start: with the gradient as it is, and scaled down to `threshold` where it is longer."""
    return Descents(*(_descend(w, b, rate, limit, steps) for limit in (math.inf, threshold)), threshold)


def _descend(w, b, rate, limit, steps):
    path = []
    for _ in range(steps):
        loss, by_w, by_b = loss_and_gradient(w, b)
        path.append((w, b, loss))
        norm = math.hypot(by_w, by_b)
        scale = rate * min(1.0, limit / norm) if norm else rate
        w, b = w - scale * by_w, b - scale * by_b
    return np.array([*path, (w, b, loss_and_gradient(w, b)[0])])


def draw(ax, descents):
    """Draw the loss as a map with both descents on it."""
    paths = {"plain (dots)": descents.plain, "clipped (crosses)": descents.clipped}
    plot.loss_surface(ACROSS, UP, surface(), ax, paths=paths)
    ax.locator_params(nbins=4)  # writing the ticks takes longer than all the rest
    ax.set(xlabel="w", ylabel="b")
    ax.legend(labelcolor="white", loc="upper left")
    return ax


def words(descents):
    """Return what the picture shows, for those who cannot see it, and what it says, for all."""
    (w, b, loss), steps = descents.plain[0], len(descents.plain) - 1
    alt = (
        f"Map of the loss over w and b: a low and a high plateau with a wall between them. Two descents of {steps} "
        f"steps start at w {w:.2f}, b {b:.2f}, loss {loss:.3f}. The plain one, dots, {_end(descents.plain)}; the "
        f"clipped one, crosses, {_end(descents.clipped)}."
    )
    longest, short = (_leaps(path).max() for path in (descents.plain, descents.clipped))
    usual = np.median(_leaps(descents.plain))
    thrown = longest > 10 * max(usual, short / 10)
    times = f"{longest / usual:,.0f}" if longest < 1e4 * usual else "over ten thousand"
    jump = f", {times} times the median step" if thrown and usual else ""
    return alt, (
        f"The longest step of the plain descent is {longest:.2g}{jump}; clipped at {descents.threshold:.2g}, it is "
        f"{short:.2g}. The loss at the end: plain {descents.plain[-1, 2]:.3f}, clipped {descents.clipped[-1, 2]:.3f}."
    )


def _leaps(path):
    return np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1)


def _end(path):
    w, b, loss = path[-1]
    inside = ACROSS[0] <= w <= ACROSS[-1] and UP[0] <= b <= UP[-1]
    return f"ends at w {w:.2f}, b {b:.2f}{'' if inside else ', outside the map'}, loss {loss:.3f}"
