"""Probes, called once compiled, against a training step, a forward pass, and the naive way to the same numbers."""

import numpy as np

from benchmarks import models, paired
from benchmarks.rows import Row, grid, with_jit
from rnnkit import _backend, probes
from rnnkit._backend import keras

TITLE = "Probes, against a training step and against the naive way"
TEXT = (
    "A call of the probe, compiled before, is divided by one training step of the same model (`train_on_batch`, batch "
    "of 64). *Multiplied*: by NumPy, in float64. *One copy a unit*: the loss of each copy of the sequence is one unit "
    "of h_T, so that one backward pass gives all rows of dh_T/dh_t, in float32. `singular_values`, and what is called "
    "*as a reader would*, trace the model in each call. *One tape per time step*: the states are given, the loss is "
    "differentiated by one of them in a compiled function; three of the T are timed, and the time taken as that of "
    "all. *One backward pass per unit*: dh_T/dh_0 of one sequence, a row by each pass, compiled too; 8 of the 64 are "
    "timed."
)
ROWS = {
    "state gradients": Row(
        "`probes.state_gradients`: dL/dh_t for all t, batch of 64",
        "a training step",
        with_jit(0.85, 1.25),
        "The backward pass is that of a training step without the gradients of the weights; what grows with T is "
        "the perturbation and its gradient, which are written and read at every time step.",
    ),
    "small probe": Row(
        "the same on a probe batch of 8",
        "a training step, batch of 64",
        lambda setting: 0.30 if setting.jit else None,
        "At a batch of 8 the time goes into starting T steps one after the other, not into arithmetic.",
    ),
    "tape per step": Row(
        "`probes.state_gradients`: dL/dh_t for all t",
        "one tape per time step",
        lambda setting: 1 / (0.3 * setting.steps),
        "The tape of step t runs only the steps after it, half of them on average, in the layer's own fastest loop.",
    ),
    "jacobians": Row(
        "dh_T/dh_t for all t, one sequence (`state_jacobians`, multiplied)",
        "one backward pass per unit, for a single t",
        0.1,
        "On JAX all 64 passes take no more than one to four training steps, a tenth of which is less than what is "
        "measured here takes in any way; else as in the next row.",
    ),
    "jacobians by step": Row(
        "dh_T/dh_t for all t, one sequence (`state_jacobians`, multiplied)",
        "a training step, batch of 64",
        1.2,
        "A step of an LSTM is copied once for every unit of h and of c, 128 times, where the training step has 64 "
        "examples; a matrix a step is then made float64 and multiplied by NumPy, whose threads wait for those that the "
        "backend still holds: with `OPENBLAS_NUM_THREADS=1` an LSTM at T=50 took 1.3 on TensorFlow with jit and 1.4 on "
        "JAX, on a busy machine where it took 10 and 2.5 otherwise. One copy a unit does without the matrices.",
    ),
    "copies": Row(
        "dh_T/dh_t for all t, one sequence (`state_gradients`, one copy a unit)",
        "one backward pass per unit, for a single t",
        0.1,
        "As above; it costs what the state gradients of a batch of 64 do.",
    ),
    "copies by step": Row(
        "dh_T/dh_t for all t, one sequence (`state_gradients`, one copy a unit)",
        "a training step, batch of 64",
        1.2,
        "It costs what the state gradients of a batch of 64 do.",
    ),
    "jacobians as called": Row("`probes.state_jacobians`, one sequence, as a reader would call it", "a training step"),
    "singular values": Row("`probes.singular_values` of dh_T/dh_t, all of them for all t", "a training step"),
    "gates": Row(
        "`probes.gates`, all gates at all t",
        "a forward pass (`predict_on_batch`)",
        1.2,
        "The gates are overheard in the layer's own cell, run by Keras's general loop, which keeps four more numbers "
        "per unit and step than the forward pass does. Tried on an LSTM, T=50: each gate an output of its own, not "
        "all in one longer tensor, which made 1.7 to 1.5 without jit, 1.5 to 1.3 with it, 1.5 to 1.4 on JAX, left "
        "torch at 5.4, and does not fit what Keras does at masked steps; keeping h and c, and running the cell once "
        "more on all steps at once, 2.0, 1.6, 2.2 and 5.8.",
    ),
}


def settings(quick):
    return grid(quick)


def measure(setting, quick=False):
    network = models.model(setting)
    x, y = models.data(setting)
    turns = {"turns": 3, "at_least": 3} if quick else {}
    found = {}

    def norms(size):
        return probes.state_gradient_norms(network, x[:size], y[:size], jit_compile=setting.jit)

    ways = {
        "step": models.training_step(network, x, y),
        "state gradients": norms(setting.batch),
        "small probe": norms(8),
    }
    times = paired.calls(ways, "step", **turns)
    found |= {name: times.ratio(name) for name in ways if name != "step"}

    if "gates" in _asked(setting):
        gates = probes.prepare_gates(network, x, jit_compile=setting.jit)
        forward = {"gates": gates, "forward": lambda: network.predict_on_batch(x)}
        found["gates"] = paired.calls(forward, "forward", **turns).ratio("gates")
    few = turns or {"turns": 5, "at_least": 3}
    if "naive" in _asked(setting):
        ours = {"ours": ways["state gradients"], "naive": _tape_per_step(network, x, y)}
        times = paired.calls(ours, "naive", **few).times("naive", setting.steps / 3)
        found["tape per step"] = times.ratio("ours")
        jacobians = probes.prepare_state_jacobians(network, x[:1], state="all", jit_compile=setting.jit)
        ways = {
            "step": models.training_step(network, x, y),
            "jacobians": lambda: _products(jacobians(), setting.units),
            "copies": _one_copy_a_unit(network, x[:1], setting),
            "jacobians as called": lambda: probes.state_jacobians(network, x[:1], state="all"),
            "singular values": lambda: probes.singular_values(network, x[:1]),
            "naive": _pass_per_unit(network, x[:1]),
        }
        times = paired.calls(ways, "step", **few).times("naive", setting.units / 8)
        for name in ("jacobians", "copies"):
            found[name] = times.ratio(name, "naive")
            found[f"{name} by step"] = times.ratio(name)
        found |= {name: times.ratio(name) for name in ("jacobians as called", "singular values")}
    return found


def _asked(setting):
    """Return which of the dearer comparisons a setting has: those that take minutes at T=1000 stay short."""
    asked = {"naive"} if setting.steps <= 200 else set()
    return asked | ({"gates"} if setting.cell != "SimpleRNN" else set())


def _products(jacobians, units):
    """Return dh_T/dh_t for all t, an array (batch, time, units, units); h comes first among the states."""
    batch, time, total, _ = jacobians.shape
    products = np.empty((batch, time, units, total))
    products[:, -1] = np.eye(units, total)
    for t in range(time - 2, -1, -1):
        products[:, t] = products[:, t + 1] @ jacobians[:, t + 1]
    return products[..., :units]


def _one_copy_a_unit(network, x, setting):
    """Return a function that finds the same, (units, time, units), as state gradients of copies of one sequence."""
    tail = keras.Model(network.inputs, network.get_layer("rnn").output)
    # Times the units, by which the mean over the batch divides.
    tail.compile(loss=lambda unit, last: setting.units * keras.ops.sum(unit * last, axis=-1))
    copies, unit_of_each = np.repeat(x, setting.units, axis=0), np.eye(setting.units, dtype="float32")
    measure = probes.prepare_state_gradients(tail, copies, unit_of_each, jit_compile=setting.jit)
    return lambda: measure()["rnn"]["h"]


def _tail(network, sequences, *, head):
    """Return a model that goes on from given states: what is left to read, and the states, to the last h or the output.

    With it the naive ways are what a careful user would write: Keras's own layer, its `initial_state`, a gradient.
    """
    layer = network.get_layer("rnn")
    twin = type(layer).from_config(layer.get_config() | {"return_state": True, "name": "tail"})
    states = [keras.Input((size,)) for size in keras.tree.flatten(layer.cell.state_size)]
    rest = keras.Input((None, sequences.shape[-1]))
    last = twin(rest, initial_state=states)[0]
    twin.set_weights(layer.get_weights())
    for one in network.layers[1:] if head else ():
        last = one(last)
    return keras.Model([rest, *states], last)


def _derivative(tail, of=lambda output: output):
    """Return a compiled `f(sequences, cotangent)`: the derivative by h of the tail's output, or of a function of it.

    The states to start from are zeros: the time does not depend on them.
    """

    def measure(values, sequences, cotangent, h, *others):
        with _backend.scratch(values):
            return _backend.vector_jacobian(lambda h: of(tail([sequences, h, *others])), h, cotangent)

    run, sizes = _backend.compiled(tail, measure), [one.shape[-1] for one in tail.inputs[1:]]
    return lambda sequences, cotangent: run(
        sequences, cotangent, *(np.zeros((len(sequences), size), "float32") for size in sizes)
    )


def _tape_per_step(network, x, y):
    """Return a function that finds dL/dh_t for three of the t, by a gradient each."""
    steps, y = x.shape[1], keras.ops.convert_to_tensor(y)
    gradient = _derivative(_tail(network, x, head=True), lambda output: keras.ops.mean(keras.ops.square(output - y)))
    return lambda: [gradient(x[:, t:], np.float32(1)) for t in (steps // 4, steps // 2, 3 * steps // 4)]


def _pass_per_unit(network, x):
    """Return a function that finds 8 rows of dh_T/dh_0 by a backward pass each."""
    derivative = _derivative(_tail(network, x, head=False))
    rows = np.eye(network.get_layer("rnn").units, dtype="float32")[:8]
    return lambda: [derivative(x[:, 1:], row[None]) for row in rows]
