"""Random networks against the published equations, written out in NumPy and differentiated by central differences.

`HYPOTHESIS=thorough` tries many more networks, other ones each time.
"""

import os
from typing import NamedTuple

import keras
import numpy as np
import pytest
from fast import EAGER
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from slow_reference import fill, numpy

import rnnkit

layers = keras.layers
EPSILON = 1e-5
SMOOTH = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
}
sigmoid = SMOOTH["sigmoid"]

COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
# Each example costs a second, so that looking for a smaller one that fails too is left to the thorough run.
settings.register_profile("usual", max_examples=8, derandomize=True, phases=[Phase.generate], **COMMON)
settings.register_profile("thorough", max_examples=150, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS", "usual"))


# --- the equations ---------------------------------------------------------------------------------------------------


def simple_rnn(weights, act, x, states, nudge):
    """Elman (1990): h_t = act(x_t U + h_{t-1} W + b)."""
    (U, W, b), (h,) = weights, states
    return [act(x @ U + h @ W + b) + nudge.get("h", 0)]


def lstm(weights, act, x, states, nudge):
    """Hochreiter & Schmidhuber (1997) with the forget gate of Gers, Schmidhuber & Cummins (2000)."""
    (U, W, b), (h, c) = weights, states
    i, f, g, o = np.split(x @ U + h @ W + b, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * act(g) + nudge.get("c", 0)
    return [sigmoid(o) * act(c) + nudge.get("h", 0), c]


def gru(weights, act, x, states, nudge):
    """Cho et al. (2014): the reset gate acts on h_{t-1}; z keeps the old state, as in Keras."""
    (U, W, b), (h,) = weights, states
    (Uz, Ur, Ug), (Wz, Wr, Wg), (bz, br, bg) = (np.split(array, 3, axis=-1) for array in (U, W, b))
    z, r = sigmoid(x @ Uz + h @ Wz + bz), sigmoid(x @ Ur + h @ Wr + br)
    return [z * h + (1 - z) * act(x @ Ug + (r * h) @ Wg + bg) + nudge.get("h", 0)]


def gru_reset_after(weights, act, x, states, nudge):
    """The variant of Keras and cuDNN: the reset gate acts on h_{t-1} W + b', where each product has its own bias."""
    (U, W, b), (h,) = weights, states
    (xz, xr, xg), (hz, hr, hg) = np.split(x @ U + b[0], 3, axis=-1), np.split(h @ W + b[1], 3, axis=-1)
    z, r = sigmoid(xz + hz), sigmoid(xr + hr)
    return [z * h + (1 - z) * act(xg + r * hg) + nudge.get("h", 0)]


class Kind(NamedTuple):
    """A recurrent cell: its equations, its states, and how Keras makes it as a layer and as a cell."""

    equations: object
    states: tuple
    layer: object
    cell: object
    options: dict
    gates: int


KINDS = {
    "SimpleRNN": Kind(simple_rnn, ("h",), layers.SimpleRNN, layers.SimpleRNNCell, {}, 1),
    "LSTM": Kind(lstm, ("h", "c"), layers.LSTM, layers.LSTMCell, {}, 4),
    "GRU": Kind(gru, ("h",), layers.GRU, layers.GRUCell, {"reset_after": False}, 3),
    "GRU, reset after": Kind(gru_reset_after, ("h",), layers.GRU, layers.GRUCell, {"reset_after": True}, 3),
}


# --- random networks -------------------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """One cell of a random network."""

    kind: str
    units: int
    activation: str
    use_bias: bool

    def options(self):
        """What Keras calls these."""
        given = {"units": self.units, "activation": self.activation, "use_bias": self.use_bias}
        return given | KINDS[self.kind].options


class Level(NamedTuple):
    """One layer of a random network: a recurrent layer, both halves of a bidirectional one, or a stack of cells."""

    wrap: str
    cells: tuple
    go_backwards: bool


class Network(NamedTuple):
    """A random network and the shape of its batch."""

    levels: tuple
    batch: int
    time: int
    features: int
    sequences: bool
    mask: np.ndarray | None


@st.composite
def networks(draw):
    cells = st.builds(
        Cell, st.sampled_from(list(KINDS)), st.integers(1, 5), st.sampled_from(list(SMOOTH)), st.booleans()
    )
    levels = []
    for _ in range(draw(st.integers(1, 3))):
        wrap = draw(st.sampled_from(["layer", "layer", "both ways", "stack"]))
        count = draw(st.integers(2, 3)) if wrap == "stack" else 1
        backwards = draw(st.booleans()) and wrap != "both ways"
        levels.append(Level(wrap, tuple(draw(cells) for _ in range(count)), backwards))
    batch, time = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    mask = None
    if draw(st.booleans()):
        row = st.lists(st.booleans(), min_size=time, max_size=time)
        mask = np.array(draw(st.lists(row, min_size=batch, max_size=batch)))
    return Network(tuple(levels), batch, time, draw(st.integers(1, 3)), draw(st.booleans()), mask)


def in_keras(network):
    """Make the Keras model of a random network, with random weights."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((network.time, network.features))
    present = keras.Input((network.time,), dtype="bool")
    hidden, mask = inputs, None if network.mask is None else present
    for place, level in enumerate(network.levels):
        last = place == len(network.levels) - 1
        options = {"return_sequences": network.sequences or not last}
        made = [KINDS[cell.kind] for cell in level.cells]
        if level.wrap == "stack":
            cells = [kind.cell(**cell.options()) for kind, cell in zip(made, level.cells, strict=True)]
            layer = layers.RNN(cells, go_backwards=level.go_backwards, name=f"level_{place}", **options)
        elif level.wrap == "both ways":
            layer = layers.Bidirectional(
                made[0].layer(**level.cells[0].options(), name="half", **options), name=f"level_{place}"
            )
        else:
            options |= {"go_backwards": level.go_backwards, "name": f"level_{place}"}
            layer = made[0].layer(**level.cells[0].options(), **options)
        hidden = layer(hidden, mask=mask)
    model = keras.Model([inputs, present], layers.Dense(1, name="head")(hidden))
    model.compile(keras.optimizers.SGD(1.0), "mse", **EAGER)
    fill(model)
    return model


def batch_of(network, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(network.batch, network.time, network.features))
    y = draw.normal(size=(network.batch, *([network.time] if network.sequences else []), 1))
    mask = np.ones(x.shape[:2], bool) if network.mask is None else network.mask
    return [x.astype(keras.config.floatx()), mask], y.astype(keras.config.floatx())


# --- the same network in NumPy ---------------------------------------------------------------------------------------


def weights_of(network, model):
    """Return the weights by the names that their owner knows, in float64; zeros for a bias that is not there."""
    values = iter(np.array(array, "float64") for array in model.get_weights())
    found = {}
    for key, cell in keys_of(network):
        kernel, recurrent = next(values), next(values)
        width = KINDS[cell.kind].gates * cell.units
        shape = (2, width) if cell.kind == "GRU, reset after" else (width,)
        found[f"{key}/kernel"], found[f"{key}/recurrent_kernel"] = kernel, recurrent
        found[f"{key}/bias"] = next(values) if cell.use_bias else np.zeros(shape)
    return found | {"head/kernel": next(values), "head/bias": next(values)}


def keys_of(network):
    """Yield `(key, cell)` in Keras's order of weights."""
    for place, (wrap, cells, _) in enumerate(network.levels):
        if wrap == "stack":
            yield from ((f"level_{place}/cell_{number}", cell) for number, cell in enumerate(cells))
        elif wrap == "both ways":
            yield from ((f"level_{place}/{half}_half", cells[0]) for half in ("forward", "backward"))
        else:
            yield f"level_{place}", cells[0]


def run(cells, keys, weights, x, mask, backwards, nudge):
    """Run cells on top of each other over a sequence; return their last outputs and all, in reading order."""
    states = [[np.zeros((len(x), cell.units)) for _ in KINDS[cell.kind].states] for cell in cells]
    outputs = []
    for t in range(x.shape[1])[::-1] if backwards else range(x.shape[1]):
        seen, present = x[:, t], mask[:, t, None]
        for place, (cell, key) in enumerate(zip(cells, keys, strict=True)):
            here = {state: amount for (name, state, step), amount in nudge.items() if (name, step) == (key, t)}
            mine = [weights[f"{key}/{name}"] for name in ("kernel", "recurrent_kernel", "bias")]
            new = KINDS[cell.kind].equations(mine, SMOOTH[cell.activation], seen, states[place], here)
            states[place] = [np.where(present, after, before) for after, before in zip(new, states[place], strict=True)]
            seen = new[0]
        outputs.append(states[-1][0])
    return outputs[-1], np.stack(outputs, axis=1)


def loss_in_numpy(network, weights, x, y, nudge):
    """Return the mean squared error of a random network; `nudge` is `{(key, state, step): amount}`."""
    (hidden, mask), keys = x, iter(keys_of(network))
    for place, (wrap, cells, backwards) in enumerate(network.levels):
        names = [next(keys)[0] for _ in range(2 if wrap == "both ways" else len(cells))]
        if wrap == "both ways":
            forward, all_forward = run(cells, names[:1], weights, hidden, mask, False, nudge)
            back, all_back = run(cells, names[1:], weights, hidden, mask, True, nudge)
            last = np.concatenate([forward, back], axis=-1)
            hidden = np.concatenate([all_forward, all_back[:, ::-1]], axis=-1)
        else:
            last, hidden = run(cells, names, weights, hidden, mask, backwards, nudge)
        if place == len(network.levels) - 1 and not network.sequences:
            hidden = last
    squares = np.mean((hidden @ weights["head/kernel"] + weights["head/bias"] - y) ** 2, axis=-1)
    if network.sequences and network.mask is not None:  # Keras's mean over what is not masked
        return (squares * mask).sum() / (mask.sum() + 1e-7)
    return squares.mean()


def central_difference(function):
    return (function(EPSILON) - function(-EPSILON)) / (2 * EPSILON)


@pytest.fixture
def tolerance(digits):
    """The gradients have as many digits as the backend computes with; the differences are in float64."""
    return {"rtol": 1e-5, "atol": 1e-8} if digits.step < 1e-3 else {"rtol": 1e-3, "atol": 2e-5}


@pytest.mark.slow
@given(network=networks())
def test_state_gradients_are_those_of_the_published_equations(network, tolerance):
    model, (x, y) = in_keras(network), batch_of(network)
    weights, draw = weights_of(network, model), np.random.default_rng(1)
    reported = model.evaluate(x, y, batch_size=network.batch, verbose=0)
    np.testing.assert_allclose(loss_in_numpy(network, weights, x, y, {}), reported, rtol=1e-5, atol=1e-6)
    measured = rnnkit.probes.state_gradients(model, x, y)
    assert list(measured) == [key for key, _ in keys_of(network)]
    for key, cell in keys_of(network):
        assert tuple(measured[key]) == KINDS[cell.kind].states
        for state, gradients in measured[key].items():
            assert gradients.shape == (network.batch, network.time, cell.units)
            for step in range(network.time):
                direction = draw.normal(size=(network.batch, cell.units))
                expected = central_difference(
                    lambda size, at=(key, state, step), d=direction: loss_in_numpy(
                        network, weights, x, y, {at: size * d}
                    )
                )
                found = (gradients[:, step] * direction).sum()
                np.testing.assert_allclose(found, expected, err_msg=f"{key} {state} {step}", **tolerance)


@pytest.mark.slow
@given(network=networks())
def test_recorded_norms_are_slopes_of_the_published_equations(network, tolerance):
    """Along the step that a weight takes, the loss falls by the norm of its gradient."""
    model, (x, y), recorder = in_keras(network), batch_of(network), rnnkit.GradientRecorder()
    before = weights_of(network, model)
    model.fit(x, y, batch_size=network.batch, callbacks=[recorder], verbose=0)
    steps = {key: before[key] - after for key, after in weights_of(network, model).items()}
    assert {key: array.shape for key, array in steps.items() if key in recorder.history} == {
        key: numpy(variable).shape for key, variable in zip(recorder.history, model.trainable_variables, strict=True)
    }
    for key, (norm,) in recorder.history.items():
        length = np.linalg.norm(steps[key])
        if length > 1e-4:  # else rounding hides where it goes
            expected = central_difference(
                lambda size, key=key, way=steps[key] / length: loss_in_numpy(
                    network, before | {key: before[key] + size * way}, x, y, {}
                )
            )
            np.testing.assert_allclose(norm, expected, err_msg=key, **tolerance)
        else:
            assert norm < 2e-4


@pytest.mark.slow
@given(network=networks(), seed=st.integers(0, 9))
def test_jacobians_are_those_of_the_published_equations(network, seed, tolerance):
    """Of the lowest layer, whose inputs are known: one cell, its states all known from the step before."""
    level = network.levels[0]
    assume(level.wrap != "stack")
    model, (x, _) = in_keras(network), batch_of(network, seed)
    weights, (key, cell) = weights_of(network, model), next(iter(keys_of(network)))
    jacobians = rnnkit.probes.state_jacobians(model, x, layer=key, state="all")
    kind, units = KINDS[cell.kind], cell.units
    size = units * len(kind.states)
    assert jacobians.shape == (network.batch, network.time, size, size)
    joint, (inputs, mask) = np.zeros((network.batch, size)), x
    mine = [weights[f"{key}/{name}"] for name in ("kernel", "recurrent_kernel", "bias")]

    def step(t, joint):
        states = np.split(joint, len(kind.states), axis=-1)
        new = np.concatenate(kind.equations(mine, SMOOTH[cell.activation], inputs[:, t], states, {}), axis=-1)
        return np.where(mask[:, t, None], new, joint)

    for t in range(network.time)[::-1] if level.go_backwards else range(network.time):
        for unit in range(size):
            expected = central_difference(lambda e, t=t, u=unit, j=joint: step(t, j + e * np.eye(size)[u]))
            np.testing.assert_allclose(jacobians[:, t, :, unit], expected, err_msg=f"step {t}", **tolerance)
        joint = step(t, joint)
