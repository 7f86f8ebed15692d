"""How the gradient flows back through a plain recurrent network: spectral radius, length, activation, kernel."""

import functools
from typing import NamedTuple

import numpy as np

from rnnkit import plot, tasks
from rnnkit.course.explore._axis import about, plain_powers, stand_still
from rnnkit.course.explore._fresh import glorot, orthogonal, sigmoid

UNITS, EXAMPLES = 32, 16
FLOAT32_ENDS = 1e-45  # what is smaller is exactly 0 in float32

# Each with its slope as a function of its value.
ACTIVATIONS = {
    "tanh": (np.tanh, lambda h: 1 - h**2),
    "relu": (lambda a: np.maximum(a, 0), lambda h: (h > 0).astype("float64")),
    "sigmoid": (sigmoid, lambda h: h * (1 - h)),
    "linear": (lambda a: a, np.ones_like),
}
KERNELS = ("orthogonal", "Gaussian", "identity", "chain")


class Flow(NamedTuple):
    """What was measured: a gradient and a stretch at each time step, and two numbers of the kernel."""

    gradient: np.ndarray  # (time,), the mean over the batch of the norm of dL/dh_t
    stretch: np.ndarray  # (time,), the largest singular value of dh_T/dh_t along the first example
    radius: float
    singular: float  # the kernel's largest singular value


@functools.cache
def network():
    """Return the weights that no slider moves: input kernel (2, units), head (units, 1)."""
    draw = np.random.default_rng(0)
    return glorot(draw, 2, UNITS), glorot(draw, UNITS, 1)


@functools.cache
def _unscaled(kernel):
    draw = np.random.default_rng(1)
    if kernel == "orthogonal":
        return orthogonal(draw, UNITS, UNITS)
    if kernel == "identity":
        return np.eye(UNITS)
    matrix = draw.normal(size=(UNITS, UNITS))
    return matrix / np.abs(np.linalg.eigvals(matrix)).max()


def recurrent_kernel(kernel, radius):
    """Return W (units, units). All eigenvalues of a chain are `radius`, and each unit gives 0.7 to its neighbour."""
    if kernel == "chain":
        return radius * np.eye(UNITS) + 0.7 * np.eye(UNITS, k=1)
    return radius * _unscaled(kernel)


@functools.cache
def data(length):
    """Return the adding problem of that length, (examples, length, 2) and (examples, 1)."""
    return tuple(array.astype("float64") for array in tasks.adding_problem(n=EXAMPLES, length=length, seed=0))


def measure(radius, length, activation, kernel):
    """Measure a fresh network, in double precision.

    Backpropagation through time as lesson 00 does it by hand; equal to `rnnkit.probes.state_gradients` and
    `singular_values` of the same network in Keras (which would first have to compile each length), and tested so.
    """
    (U, V), (x, y) = network(), data(length)
    W = recurrent_kernel(kernel, radius)
    function, slope = ACTIVATIONS[activation]
    h, state = np.empty((length, EXAMPLES, UNITS)), np.zeros((EXAMPLES, UNITS))
    for t in range(length):
        h[t] = state = function(x[:, t] @ U + state @ W)
    slopes = slope(h)
    back = 2 * (h[-1] @ V - y) / EXAMPLES * V.T
    gradient = np.empty(length)
    product = np.empty((length, UNITS, UNITS))
    product[-1] = np.eye(UNITS)
    for t in range(length - 1, -1, -1):
        size = np.abs(back).max() or 1.0  # squared, numbers over 1e154 or under 1e-162 would leave float64
        gradient[t] = size * np.linalg.norm(back / size, axis=-1).mean()
        back = (back * slopes[t]) @ W.T
        if t:
            product[t - 1] = product[t] @ (slopes[t, 0, :, None] * W.T)
    stretch = np.linalg.svd(product, compute_uv=False)[:, 0]
    return Flow(gradient, stretch, radius, float(np.linalg.svd(W, compute_uv=False)[0]))


def draw(ax, flow):
    """Draw both relative to their last step, so that all begin at 1 there, with the spectral radius's own line."""
    distance = np.arange(len(flow.gradient))[::-1]
    curves = {
        "loss: $dL/dh_t$": flow.gradient / flow.gradient[-1],
        "state: $dh_T/dh_t$": flow.stretch,
        "radius$^{\\,T-t}$": flow.radius**distance,
    }
    stand_still(ax, curves.values())
    plot.gradient_flow(curves, ax)
    plain_powers(ax)
    ax.set_ylabel("norm, relative to the last step")
    return ax


def words(flow):
    """Return what the picture shows, for those who cannot see it, and what it says, for all."""
    last = len(flow.gradient) - 1
    relative = flow.gradient[0] / flow.gradient[-1]
    alt = (
        f"Norm of dL/dh and largest stretch of dh_T/dh_t against time steps 0 to {last}, log axis, relative to the "
        f"last step. At step 0: gradient {about(relative)}, stretch {about(flow.stretch[0])}, spectral radius to the "
        f"power {last} {about(flow.radius**last)}."
    )
    return alt, " ".join(filter(None, (_verdict(relative, last), _kernel(flow), _float32(flow.gradient))))


def _verdict(relative, steps):
    if relative == 0:
        return f"Nothing at all of the gradient is left {steps} steps back: it is exactly 0."
    does = "vanishes" if relative < 0.5 else "explodes" if relative > 2 else "keeps its size"
    rate = relative ** (1 / steps)
    return f"The gradient {does}: {steps} steps back it is {about(relative)} of what it was, {rate:.2f} a step."


def _kernel(flow):
    return f"The kernel's spectral radius is {flow.radius:.2f}, its largest singular value {flow.singular:.2f}."


def _float32(gradient):
    lost = (gradient < FLOAT32_ENDS).sum()
    return f"At {lost} of the {len(gradient)} steps float32 would hold an exact 0." if lost else ""
