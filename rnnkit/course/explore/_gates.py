"""How long a gate's bias lets a fresh LSTM or GRU remember: the half-life of a memory."""

import functools
from typing import NamedTuple

import numpy as np

from rnnkit import tasks
from rnnkit.course.explore._fresh import glorot, orthogonal, sigmoid

UNITS, START = 32, 10  # the memory is nudged after step 10
CELLS = ("LSTM", "GRU")
_BLOCKS = {"LSTM": 4, "GRU": 3}


class Memory(NamedTuple):
    """What was measured: how much of a nudge is left 0, 1, ... steps later, and the prediction."""

    cell: str
    bias: float
    own: np.ndarray  # (steps + 1,), in the unit itself: the mean over the units of the diagonal of dc_(10+n)/dc_10
    all_roads: np.ndarray  # (steps + 1,), in all units: the root mean square stretch of the same matrix
    predicted: np.ndarray  # (steps + 1,), sigmoid(bias)**n

    @property
    def half_life(self):
        """Steps after which the gate alone, at sigmoid(bias), has halved a memory."""
        return np.log(0.5) / np.log(sigmoid(self.bias))

    @property
    def measured_half_life(self):
        """The first step, between two if need be, at which the units hold half of their own content; else infinite."""
        below = np.flatnonzero(self.own < 0.5)
        if not len(below):
            return np.inf
        after = below[0]
        return after - (0.5 - self.own[after]) / (self.own[after - 1] - self.own[after])


@functools.cache
def weights(cell, scale):
    """Return kernel (2, blocks * units) and recurrent kernel (units, blocks * units), gates in Keras's order."""
    draw, columns = np.random.default_rng(0), _BLOCKS[cell] * UNITS
    return glorot(draw, 2, columns), scale * orthogonal(draw, UNITS, columns)


@functools.cache
def data(steps):
    """Return one sequence of the adding problem, (10 + 1 + steps, 2)."""
    return tasks.adding_problem(n=1, length=START + 1 + steps, seed=0)[0][0].astype("float64")


def measure(cell, bias, steps, scale):
    """Measure a fresh network whose gate that keeps has this bias (all other biases are 0), in double precision.

    The product of the one-step Jacobians, written out; equal to `rnnkit.probes.state_jacobians` of the same network
    in Keras, and tested so.
    """
    jacobians = {"LSTM": _lstm, "GRU": _gru}[cell](data(steps), *weights(cell, scale), bias)
    memory = slice(-UNITS, None)  # c, of h and c; all there is of a GRU
    product = np.eye(jacobians.shape[-1])
    own, all_roads = np.empty(steps + 1), np.empty(steps + 1)
    for n in range(steps + 1):
        if n:
            product = jacobians[START + n] @ product
        part = product[memory, memory]
        own[n], all_roads[n] = np.diag(part).mean(), np.linalg.norm(part) / np.sqrt(UNITS)
    return Memory(cell, bias, own, all_roads, sigmoid(bias) ** np.arange(steps + 1))


def _lstm(x, U, W, bias):
    """Return the Jacobians (time, 2 * units, 2 * units) of h and c by h and c."""
    Wi, Wf, Wg, Wo = np.split(W.T, 4)
    h = c = np.zeros(UNITS)
    jacobians = np.empty((len(x), 2 * UNITS, 2 * UNITS))
    for t, fed in enumerate(x @ U):
        i, f, g, o = np.split(fed + h @ W, 4)
        i, f, g, o = sigmoid(i), sigmoid(f + bias), np.tanh(g), sigmoid(o)
        c_by_h = (c * f * (1 - f))[:, None] * Wf + (g * i * (1 - i))[:, None] * Wi + (i * (1 - g**2))[:, None] * Wg
        c = f * c + i * g
        shown = np.tanh(c)
        through = (o * (1 - shown**2))[:, None]  # from c to h
        h = o * shown
        jacobians[t] = np.block(
            [[through * c_by_h + (shown * o * (1 - o))[:, None] * Wo, through * np.diag(f)], [c_by_h, np.diag(f)]]
        )
    return jacobians


def _gru(x, U, W, bias):
    """Return the Jacobians (time, units, units) of h by h, in Keras's convention, `reset_after=True`."""
    Wz, Wr, Wg = np.split(W.T, 3)
    h = np.zeros(UNITS)
    jacobians = np.empty((len(x), UNITS, UNITS))
    for t, fed in enumerate(x @ U):
        (z, r, g), (hz, hr, hg) = np.split(fed, 3), np.split(h @ W, 3)
        z, r = sigmoid(z + hz + bias), sigmoid(r + hr)
        g = np.tanh(g + r * hg)
        g_by_h = (1 - g**2)[:, None] * (r[:, None] * Wg + (hg * r * (1 - r))[:, None] * Wr)
        jacobians[t] = np.diag(z) + ((h - g) * z * (1 - z))[:, None] * Wz + (1 - z)[:, None] * g_by_h
        h = z * h + (1 - z) * g
    return jacobians


def draw(ax, memory):
    """Draw what is left against the steps, the prediction as circles, and the half-life where it crosses one half."""
    n = np.arange(len(memory.own))
    ax.plot(n, memory.own, label="its own content")
    ax.plot(n, memory.all_roads, label="by all roads")
    every = max(1, len(n) // 25)
    ax.plot(
        n[::every], memory.predicted[::every], linestyle="", marker="o", markersize=5, markerfacecolor="white",
        color="0.2", label="σ(bias)ⁿ",
    )  # fmt: skip
    ax.axhline(0.5, color="0.4", linewidth=1, linestyle=":")
    if memory.half_life <= n[-1]:
        ax.plot([memory.half_life] * 2, [0, 0.5], color="0.2", linewidth=1)
        ax.annotate(
            f"half-life {memory.half_life:.1f} steps", (memory.half_life, 0.5), (8, 8), textcoords="offset points"
        )
    top = max(1.0, np.ceil(memory.all_roads.max()))
    ax.set(xlim=(0, n[-1]), ylim=(min(-0.05, 1.2 * memory.own.min()), 1.06 * top))
    ax.set(xlabel="steps later, $n$", ylabel="part of a nudge still there")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return ax


def words(memory):
    """Return what the picture shows, for those who cannot see it, and what it says, for all."""
    steps = len(memory.own) - 1
    article, gate = ("an", "forget") if memory.cell == "LSTM" else ("a", "update")
    alt = (
        f"Part of a nudge to the memory of {article} {memory.cell} that is still there, 0 to {steps} steps later. In "
        f"the unit itself {memory.own[-1]:.2f} at the end, circles for the gate's bias alone "
        f"{memory.predicted[-1]:.2f}, by all roads {memory.all_roads[-1]:.2f}."
    )
    measured = memory.measured_half_life
    found = f"after {measured:.1f} steps" if np.isfinite(measured) else f"not within {steps} steps"
    return alt, (
        f"A bias of {memory.bias:g} sets the {gate} gate at {sigmoid(memory.bias):.3f}: half-life by the formula "
        f"{memory.half_life:.1f} steps. Measured, a unit holds less than half of its own content {found}; after all "
        f"{steps} steps, {memory.all_roads[-1]:.2f} of a nudge is there by all roads."
    )
