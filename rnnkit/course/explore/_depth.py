"""How the gradient flows down a deep network, with and without ways round its layers."""

import functools
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from rnnkit import plot, tasks
from rnnkit.course.explore._axis import about, plain_powers, stand_still
from rnnkit.course.explore._fresh import glorot, sigmoid

WIDTH, GROWTH, EXAMPLES, CLASSES = 32, 8, 100, 10
WAYS = ("plain", "residual", "dense", "highway")
ALL = "all three"


class Depth(NamedTuple):
    """What was measured: for each way, the norm of dL/db_l at each of its layers, (depth,)."""

    norms: dict
    spread: float


@functools.cache
def data():
    """Return a batch of handwritten digits: pixels (examples, 64) and labels (examples,)."""
    images, labels, *_ = tasks.digit_images()
    return images[:EXAMPLES].reshape(EXAMPLES, -1).astype("float64"), labels[:EXAMPLES]


@functools.cache
def weights(way, depth):
    """Return the first kernel, that of each layer and of its gate (for a spread of 1), and the head's."""
    draw = np.random.default_rng(0)
    dense = way == "dense"
    first = glorot(draw, 64, WIDTH)
    layers, gates = [], []
    for number in range(depth):
        shape = (WIDTH + GROWTH * number, GROWTH) if dense else (WIDTH, WIDTH)
        layers.append(draw.normal(size=shape))
        gates.append(draw.normal(size=shape) if way == "highway" else None)
    return first, layers, gates, glorot(draw, WIDTH + GROWTH * depth if dense else WIDTH, CLASSES)


def measure(depth, spread, gate_bias, shown):
    """Measure dL/db_l in fresh networks of tanh layers, plain and with the ways round that are shown.

    Backpropagation written out, in double precision; equal to what `rnnkit.GradientRecorder` records in the first
    training step of the same networks in Keras (which would first have to compile each depth), and tested so.
    """
    ways = WAYS if shown == ALL else ("plain", shown)
    return Depth({way: _norms(way, depth, spread, gate_bias) for way in ways}, spread)


def _norms(way, depth, spread, gate_bias):
    first, kernels, gate_kernels, head = weights(way, depth)
    (x, labels), norms, tape = data(), np.empty(depth), []
    x = np.tanh(x @ first)
    for kernel, gate_kernel in zip(kernels, gate_kernels, strict=True):
        H = np.tanh(x @ (spread * kernel))
        T = sigmoid(x @ (spread * gate_kernel) + gate_bias) if way == "highway" else None
        tape.append((x, H, T))
        x = {
            "plain": lambda x, H, T: H,
            "residual": lambda x, H, T: x + H,
            "dense": lambda x, H, T: np.concatenate([x, H], axis=1),
            "highway": lambda x, H, T: T * H + (1 - T) * x,
        }[way](x, H, T)
    logits = x @ head
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    back = (chances - np.eye(CLASSES)[labels]) / EXAMPLES @ head.T
    for layer in range(depth - 1, -1, -1):
        x, H, T = tape[layer]
        to_layer = back[:, x.shape[1] :] if way == "dense" else T * back if way == "highway" else back
        signal = to_layer * (1 - H**2)
        norms[layer] = np.linalg.norm(signal.sum(axis=0))
        through = signal @ (spread * kernels[layer].T)
        if way == "plain":
            back = through
        elif way == "residual":
            back = back + through
        elif way == "dense":
            back = back[:, : x.shape[1]] + through
        else:
            by_gate = back * (H - x) * T * (1 - T)
            back = (1 - T) * back + through + by_gate @ (spread * gate_kernels[layer].T)
    return norms


def draw(ax, depth):
    """Draw the norms against the layer, on a log axis."""
    stand_still(ax, depth.norms.values(), by=2)
    layers = np.arange(1, 1 + len(depth.norms["plain"]))
    plot.gradient_norms(SimpleNamespace(history=depth.norms, steps=layers), ax)
    plain_powers(ax)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="layer $l$  (the loss is at the right end)", ylabel=r"norm of $\partial L\,/\,\partial b_l$")
    return ax


def words(depth):
    """Return what the picture shows, for those who cannot see it, and what it says, for all."""
    layers = len(depth.norms["plain"])
    heard = {way: norms[0] / norms[-1] for way, norms in depth.norms.items()}
    listed = ", ".join(f"{way} from {about(norms[-1])} to {about(norms[0])}" for way, norms in depth.norms.items())
    alt = (
        f"Norm of the gradient of the bias against the layer, log axis. From layer {layers} down to layer 1: {listed}."
    )
    parts = ", ".join(f"{way} {about(ratio)}" for way, ratio in heard.items())
    return alt, f"What layer 1 hears of the loss, as a part of what layer {layers} hears: {parts}."
