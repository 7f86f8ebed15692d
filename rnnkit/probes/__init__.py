"""One-shot measurements on a model and a batch: gradients and Jacobians of the states, as NumPy arrays."""

import math
from collections.abc import Callable

import numpy as np

from rnnkit import _backend
from rnnkit._backend import keras, ops
from rnnkit._instrument import gate_capture, perturbation, precision, rnn_loop
from rnnkit._instrument.batch import as_batch
from rnnkit._instrument.checks import only_recurrent_layer, recurrent_layers
from rnnkit._instrument.model_loss import require_compiled, require_loss, spare_loss
from rnnkit._names import unknown_name
from rnnkit.probes import _graded_svd
from rnnkit.probes._saliency import prepare_saliency, saliency

__all__ = [
    "gate_statistics",
    "gates",
    "lyapunov_exponents",
    "prepare_gates",
    "prepare_saliency",
    "prepare_state_gradients",
    "prepare_state_jacobians",
    "saliency",
    "singular_values",
    "state_gradient_norms",
    "state_gradients",
    "state_jacobians",
]
_ENTRIES = 2**22  # of Jacobians, computed at once


def state_gradients(model, x, y=None, *, layers=None, sample_weight=None, training=False, dtype=None):
    """Measure dL/dh_t, the total derivative of the loss by the state at every time step, in one backward pass.

    The gradient of the loss by a layer's *output sequence* holds only the direct path: when just the last output is
    used, it is zero at every earlier step. Here a zero perturbation is added to each state inside the recurrence, and
    the loss is differentiated with respect to that; the derivative then holds every path, through all later steps.

    L is the loss that `fit` minimises, as the model's `compute_loss` returns it: the loss it was compiled with, and
    what layers add with `add_loss`. It is a mean over the batch, so one example's gradient carries a factor 1/batch.
    Weights, metrics and the states of stateful layers stay as they were. Each call traces the model, so that it sees
    every change of it; to measure again and again, use `prepare_state_gradients`.

    Over a few hundred steps a gradient that vanishes leaves the range of float32, and comes out as an exact 0 that is
    none: with `dtype="float64"` it does not. Dropout then drops the same units. What the model itself casts to a
    smaller type (in a Lambda layer, a loss function of your own) stays small, and other random layers, such as
    GaussianNoise, may draw other numbers. Under 1e-308 float64 ends too: `singular_values(..., log10=True)` does not.

    Args:
        model: a built and compiled Keras model with at least one recurrent layer.
        x: inputs (batch, time, ...), as for `model.fit`: arrays, tensors or pandas objects, a list or dict of them, or
            a data set, of which the first batch is read with its targets and weights. (A `tf.data.Dataset` that
            shuffles in each pass counts this as a pass: training then sees another order.)
        y: targets, as for `model.fit`; None if the data set or the model itself has what the loss needs.
        layers: name, or list of names, of the recurrent layers to measure; all by default.
        sample_weight: weights of the examples, as for `model.fit`.
        training: whether the model runs as in training (dropout on) or as in inference.
        dtype: `"float64"` runs the whole model, forwards and backwards, in double precision on the weights it has, so
            that no gradient over 1e-308 becomes 0; None in its own, where float32 makes 0 of all under 1e-45.

    Returns:
        dict from layer name to `{"h": array (batch, time, units)}`, with `"c"` too for an LSTM. Index t of the time
        axis is the state after reading x[:, t], also in a layer that reads backwards. Masked steps are 0: the state
        there is that of the step before. Cells of a stack are called `layer/cell_0`, `layer/cell_1`... Of a layer that
        the model runs several times (shared, or inside `TimeDistributed`), the later calls are `layer/call_2`... Give
        layers a name to look them up by: Keras numbers unnamed ones through all models of a process, so that the
        second model's `lstm` is called `lstm_1`.

        In a custom cell, h_t is its first state as it is handed on to step t+1, and the others are `"state_1"`,
        `"state_2"`... If the cell's output is not one of its new states but computed from them, what the loss reads
        there directly is not a part of dL/dh_t. A state that is a matrix has its own axes, (batch, time, rows,
        columns). A subclass of an LSTM cell is checked on the batch: c_t = forget * c_{t-1} + input * candidate must
        hold, to rounding. dL/dc_t then includes all that reads c_t in step t, such as peepholes.

    Raises:
        ValueError: if the model is unbuilt, uncompiled or without recurrent layer, a name is unknown, the batch is
            empty, not finite or of the wrong shape, or `dtype` is another one; if a subclass of an LSTM cell computes
            c_t in another way; with float64, if the model is quantized or the device has none (Apple's mps).

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(4, name="rnn"), keras.layers.Dense(1)])
        >>> model.compile(loss="mse")
        >>> x, y = rnnkit.tasks.adding_problem(n=8, length=20, seed=0)
        >>> gradients = rnnkit.probes.state_gradients(model, x, y)
        >>> gradients["rnn"]["h"].shape, gradients["rnn"]["c"].shape
        ((8, 20, 4), (8, 20, 4))
        >>> x, y = rnnkit.tasks.adding_problem(n=2, length=800, seed=0)
        >>> [int((rnnkit.probes.state_gradients(model, x, y, dtype=dtype)["rnn"]["h"] == 0).sum() > 0)
        ...  for dtype in (None, "float64")]
        [1, 0]

    Source: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks", equations 3-5.
    """
    measure = prepare_state_gradients(
        model, x, y, layers=layers, sample_weight=sample_weight, training=training, dtype=dtype
    )
    return measure()


def prepare_state_gradients(
    model: keras.Model,
    x,
    y=None,
    *,
    layers: str | list[str] | None = None,
    sample_weight=None,
    training: bool = False,
    dtype: str | None = None,
    jit_compile: bool = False,
) -> Callable[..., dict[str, dict[str, np.ndarray]]]:
    """Prepare `state_gradients`, to be measured again and again while the weights change.

    `state_gradients` traces the model in each call, which takes longer than running it: 10 to 80 training steps. Here
    this is done once. After that, a call takes 1.0 to 1.2 training steps of the same batch on TensorFlow, and 0.8 to
    1.1 with XLA (LSTM and GRU, 64 units, batch of 64, 50 and 200 steps).

    Args:
        model: as for `state_gradients`.
        x: as for `state_gradients`.
        y: as for `state_gradients`.
        layers: as for `state_gradients`.
        sample_weight: as for `state_gradients`.
        training: as for `state_gradients`.
        dtype: as for `state_gradients`.
        jit_compile: whether TensorFlow has XLA compile the measurement: seconds, once, after which each call takes
            about half as long. JAX compiles always, torch never.

    Returns:
        A function. Each call returns what `state_gradients` does, for the values that the model's weights have at that
        moment; called with a batch, `measure(x, y)`, for that one. What else has changed since (a layer, its
        activation, a new `compile`, weights added) it does not see: prepare it again then.

    Raises:
        ValueError: as `state_gradients`.

    Example:
        >>> measure = rnnkit.probes.prepare_state_gradients(model, x, y)
        >>> before = measure()["rnn"]["h"]
        >>> training = model.fit(x, y, verbose=0)
        >>> before.shape, bool((measure()["rnn"]["h"] == before).all())
        ((64, 10, 4), False)
    """
    batch, shapes, gradients = _state_gradient_function(model, x, y, sample_weight, layers, training, dtype)
    run = precision.compiled(model, gradients, dtype, jit_compile)

    def measure(*other):
        result = {}
        for (layer, state), gradient in run(*(as_batch(model, *other) if other else batch)).items():
            whole = gradient.reshape(*gradient.shape[:2], *shapes[layer, state])  # a matrix is a matrix again
            result.setdefault(layer, {})[state] = whole
        return result

    return measure


def state_gradient_norms(model, x, y=None, *, layers=None, dtype=None, jit_compile=False):
    """Prepare a cheap repeated measurement of |dL/dh_t| on one probe batch; used while a model trains.

    Args:
        model: a built and compiled Keras model.
        x: probe inputs, as for `state_gradients`.
        y: their targets.
        layers: name, or list of names, of the recurrent layers; all by default.
        dtype: `"float64"`, or None for the model's own, as for `state_gradients`.
        jit_compile: whether TensorFlow has XLA compile the measurement: seconds, once, after which each call takes
            about half as long, so that it pays from some hundred calls on. JAX compiles always, torch never.

    Returns:
        A function without arguments. Each call gives, for the model's weights at that moment, a dict from layer name
        to an array (time,): the mean over the batch of the norm over the units of dL/dh_t; and `"layer/c"` for an
        LSTM's dL/dc_t.

    Raises:
        ValueError: as `state_gradients`.

    Example:
        >>> import keras, rnnkit
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(4, name="rnn"), keras.layers.Dense(1)])
        >>> model.compile(loss="mse")
        >>> measure = rnnkit.probes.state_gradient_norms(model, *rnnkit.tasks.adding_problem(n=8, length=20))
        >>> measure()["rnn"].shape
        (20,)
    """
    batch, _, gradients = _state_gradient_function(model, x, y, None, layers, dtype=dtype)

    def norms(values, x, y, sample_weight):
        return {
            perturbation.state_key(*state): ops.mean(_backend.norm(g, axis=-1), axis=0)
            for state, g in gradients(values, x, y, sample_weight).items()
        }

    measure = precision.compiled(model, norms, dtype, jit_compile)
    return lambda: measure(*batch)


def _state_gradient_function(model, x, y, sample_weight, layers, training=False, dtype=None):
    """Check all that can be wrong, then return the batch, the shapes of the states, and what measures them.

    Returns:
        the batch; a dict that gets `{(layer, state): shape}`, without batch and time, when the measurement is traced;
        and `measure(values, *batch)`, which returns `{(layer, state): tensor (batch, time, entries)}`.
    """
    layers = recurrent_layers(model, layers)
    batch = as_batch(model, x, y, sample_weight)
    require_compiled(model, batch.y)
    precision.require_known(model, dtype)
    orders = gate_capture.orders(model, layers, batch.x, training, gate_capture.has_own_step, of_states=True)
    shapes = {}

    def measure(values, x, y, sample_weight):
        def loss(watch):
            with (
                spare_loss(model),
                perturbation.perturbed(layers, watch, orders, shapes),
                precision.computing(model, dtype),
                _backend.scratch(values),
            ):
                prediction = model(x, training=training)
                require_loss(model)
                return _backend.whole_batch(model.compute_loss(x, y, prediction, sample_weight))

        gradients = _backend.tap_gradients(loss)
        rnn_loop.require_reached(layers, [layer for layer, _ in gradients])
        return gradients

    return batch, shapes, measure


def gates(model, x, *, layers=None, training=False):
    """Measure the gates of LSTM and GRU layers at every time step, in one forward pass.

    The values are those that the layer's own cell computes, captured where it applies its activations; of the cells in
    `rnnkit.layers`, and of others made from them, what their method `gates` returns. With * for the elementwise
    product, Keras's conventions are

        LSTM: c_t = forget * c_{t-1} + input * candidate,   h_t = output * activation(c_t)
        GRU:  h_t = update * h_{t-1} + (1 - update) * candidate

    so that a GRU whose update gate is near 1 *keeps* its state (in Cho et al. too; other texts swap the two terms, and
    so does `rnnkit.layers.GRUCell(convention="lecture")`).
    The reset gate scales what the candidate sees of h_{t-1}: after its product with the recurrent kernel (Keras's
    default, `reset_after=True`) or before it. A subclass of Keras's cells is checked on the batch: its gates get the
    names with which these equations hold, to rounding. Each call traces the model, so that it sees every change of it;
    to measure again and again, use `prepare_gates`.

    Args:
        model: a built Keras model with at least one LSTM or GRU layer.
        x: inputs (batch, time, ...), as for `model.predict`; of a data set, the inputs of its first batch.
        layers: name, or list of names, of the layers to measure; by default all that have gates.
        training: whether the model runs as in training (dropout on) or as in inference.

    Returns:
        dict from layer name to a dict of arrays (batch, time, units): `"input"`, `"forget"`, `"output"` and
        `"candidate"` for an LSTM, `"update"`, `"reset"` and `"candidate"` for a GRU. Gates lie between 0 (closed) and 1
        (open), the candidate between -1 and 1, unless the layer has other activations. Index t of the time axis is the
        step that reads x[:, t], also in a layer that reads backwards. Masked steps are NaN: there the state is carried
        over and no gate is used. Cells of a stack are called `layer/cell_0`, `layer/cell_1`..., later calls of a
        shared layer `layer/call_2`...

    Raises:
        ValueError: if the model is unbuilt or has no gates, a name is unknown or of a layer without gates, the batch
            is empty, not finite or of the wrong shape, or a subclass of Keras's cells does not satisfy the equations.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(4, name="rnn"), keras.layers.Dense(1)])
        >>> gates = rnnkit.probes.gates(model, np.ones((8, 20, 2)))
        >>> gates["rnn"]["forget"].shape
        (8, 20, 4)

    Source: Gers, Schmidhuber & Cummins (2000), "Learning to forget: continual prediction with LSTM"; Cho et al. (2014),
    "Learning phrase representations using RNN encoder-decoder for statistical machine translation", equations 5-8.
    """
    return prepare_gates(model, x, layers=layers, training=training)()


def prepare_gates(
    model: keras.Model,
    x,
    *,
    layers: str | list[str] | None = None,
    training: bool = False,
    jit_compile: bool = False,
) -> Callable[..., dict[str, dict[str, np.ndarray]]]:
    """Prepare `gates`, to be measured again and again while the weights change.

    `gates` traces the model in each call. Here this is done once; after that, a call takes about half a training step
    of the same batch on TensorFlow, with XLA or without (64 units, batch of 64, 50 and 200 steps).

    Args:
        model: as for `gates`.
        x: as for `gates`.
        layers: as for `gates`.
        training: as for `gates`.
        jit_compile: whether TensorFlow has XLA compile the forward pass: seconds, once. JAX compiles always, torch
            never.

    Returns:
        A function. Each call returns what `gates` does, for the values that the model's weights have at that moment;
        called with a batch, `measure(x)`, for that one. What else has changed since (a layer, its activation, weights
        added) it does not see: prepare it again then.

    Raises:
        ValueError: as `gates`.

    Example:
        >>> measure = rnnkit.probes.prepare_gates(model, x)
        >>> measure()["rnn"]["update"].shape
        (64, 10, 4)
    """
    gated = gate_capture.gated_layers(model, layers)
    batch = as_batch(model, x)
    orders = gate_capture.orders(model, gated, batch.x, training, gate_capture.has_own_computation)

    def capture(values, x):
        captured = {}
        with (
            rnn_loop.replaced(gated, lambda key, layer: gate_capture.listening_loop(key, layer, captured, orders)),
            _backend.scratch(values),
        ):
            model(x, training=training)
        rnn_loop.require_reached(gated, captured)
        return captured

    run = _backend.compiled(model, capture, jit_compile)
    return lambda *other: run(as_batch(model, *other).x if other else batch.x)


def gate_statistics(model, x, *, layers=None, jit_compile=False):
    """Prepare a cheap repeated measurement of the gates on one probe batch; used while a model trains.

    Args:
        model: a built Keras model with at least one LSTM or GRU layer.
        x: probe inputs, as for `gates`.
        layers: name, or list of names, of the layers; by default all that have gates.
        jit_compile: whether TensorFlow has XLA compile the forward pass, which takes seconds, and pays when some
            hundred calls follow. JAX compiles always, torch never.

    Returns:
        A function without arguments. Each call gives, for the model's weights at that moment, a dict from layer name to
        a dict from gate to an array (5, time), all over batch and units: the mean, the 10 % and the 90 % quantile, the
        fraction of values under 0.1 and over 0.9. Masked steps do not count.

    Raises:
        ValueError: as `gates`.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(4, name="rnn"), keras.layers.Dense(1)])
        >>> measure = rnnkit.probes.gate_statistics(model, np.ones((8, 20, 2)))
        >>> measure()["rnn"]["update"].shape
        (5, 20)
    """
    measure = prepare_gates(model, x, layers=layers, jit_compile=jit_compile)
    return lambda: {
        layer: {gate: gate_capture.statistics(values) for gate, values in gates_by_name.items()}
        for layer, gates_by_name in measure().items()
    }


def state_jacobians(model, x, layer=None, *, state="h"):
    """Measure the one-step Jacobians dh_t/dh_{t-1} of a recurrent layer along its own trajectory.

    Entry [b, t, i, j] is the derivative of unit i of the state after step t by unit j of the state before it. (With
    the convention h_t = tanh(h_{t-1} W + ...), that is the *transpose* of W times the slopes.)

    Each call traces the model, so that it sees every change of it; to measure again and again, use
    `prepare_state_jacobians`.

    Args:
        model: a built Keras model; inference mode.
        x: inputs (batch, time, ...), as for `model.predict`; of a data set, the inputs of its first batch.
        layer: name of the recurrent layer; may be left out when there is only one.
        state: `"h"` or `"c"` for the Jacobian of that state by itself, the other state held; `"all"` for the joint
            Jacobian of all states (for an LSTM h then c), the one whose products give derivatives over several steps.
            A SimpleRNN and a GRU have only h, so that `"h"` and `"all"` are the same. The states of a custom cell are
            `"h"`, `"state_1"`, `"state_2"`...; of a matrix, the units are its entries, row by row.

    Returns:
        array (batch, time, units, units), or (batch, time, total, total) for `state="all"`, total the sum of the
        sizes of the states. Index t = 0 is the derivative by the initial state. Masked steps are the identity. In a
        layer that reads backwards, "before" means before in reading order.

    Raises:
        ValueError: if the model is unbuilt or without recurrent layer, several layers qualify, the layer or state name
            is unknown, or the batch is empty, not finite or of the wrong shape.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.SimpleRNN(4, name="rnn")])
        >>> rnnkit.probes.state_jacobians(model, np.ones((1, 20, 2)), layer="rnn").shape
        (1, 20, 4, 4)

    Source: Pascanu, Mikolov & Bengio (2013), equation 5.
    """
    recurrent, batch, measure = _jacobian_function(model, x, layer, once=True)
    block = _state_slice(recurrent, state)
    return measure(batch.x)[..., block, block]


def prepare_state_jacobians(
    model: keras.Model, x, layer: str | None = None, *, state: str = "h", jit_compile: bool = False
) -> Callable[..., np.ndarray]:
    """Prepare `state_jacobians`, to be measured again and again while the weights change.

    `state_jacobians` traces the model in each call. Here this is done once; after that, a call for one sequence takes
    about as long as one or two training steps of a batch of 64 on TensorFlow (64 units, 50 and 200 steps). The time
    grows with the number of sequences and with the square of the units.

    Args:
        model: as for `state_jacobians`.
        x: as for `state_jacobians`.
        layer: as for `state_jacobians`.
        state: as for `state_jacobians`.
        jit_compile: whether TensorFlow has XLA compile the measurement: seconds, once. JAX compiles always, torch
            never.

    Returns:
        A function. Each call returns what `state_jacobians` does, for the values that the model's weights have at that
        moment; called with a batch, `measure(x)`, for that one. What else has changed since (a layer, its activation,
        weights added) it does not see: prepare it again then.

    Raises:
        ValueError: as `state_jacobians`.

    Example:
        >>> measure = rnnkit.probes.prepare_state_jacobians(model, x[:1])
        >>> measure().shape
        (1, 10, 4, 4)
    """
    recurrent, batch, measure = _jacobian_function(model, x, layer, jit_compile=jit_compile)
    block = _state_slice(recurrent, state)
    return lambda *other: measure(as_batch(model, *other).x if other else batch.x)[..., block, block]


def singular_values(model, x, layer=None, *, log10=False):
    """Measure the singular values of dh_T/dh_t: by how much a change of h_t can be stretched or shrunk until the end.

    All of them are right, however small and however far apart: a basis is led through the one-step Jacobians and made
    orthonormal again at every step, and the sizes are kept apart as powers of two. As plain numbers, those under 1e-308
    become 0, and those over 1e308 infinite; ask for `log10=True` then.

    What limits them is the Jacobians, computed in the model's own precision. In float32 their entries are off by some
    1e-7, and the singular values by about as much for every step in between; by more where a Jacobian is nearly
    singular. Build the model with `dtype="float64"` for more. An exact 0 comes out where units are dead or unconnected
    (rows or columns of zeros); a kernel that is singular in another way is so only up to rounding.

    Args:
        model: a built Keras model; inference mode.
        x: inputs (batch, time, ...), as for `model.predict`.
        layer: name of the recurrent layer; may be left out when there is only one.
        log10: whether to return the decimal logarithms, -inf for an exact 0.

    Returns:
        array (batch, time, units), descending along the last axis: at index t the singular values of dh_T/dh_t, T the
        last step read. At t = T they are all 1. For an LSTM: of h by h, through both h and c of all later steps.

    Raises:
        ValueError: as `state_jacobians`, or if a Jacobian is not finite.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(4, name="rnn")])
        >>> rnnkit.probes.singular_values(model, np.ones((1, 20, 2)))[0, -1]
        array([1., 1., 1., 1.])
        >>> rnnkit.probes.singular_values(model, np.ones((1, 20, 2)), log10=True).shape
        (1, 20, 4)

    Source: Pascanu, Mikolov & Bengio (2013), section 2.1; G. W. Stewart (1995), "On graded QR decompositions of
    products of matrices", for the way to compute them.
    """
    recurrent, jacobians = _finite_jacobians(model, x, layer)
    if isinstance(recurrent.cell, keras.layers.StackedRNNCells):
        raise ValueError(
            "Singular values of dh_T/dh_t are measured of a layer with one cell. "
            f"Received: layer {recurrent.name!r}, a stack of {len(recurrent.cell.cells)}. Multiply "
            'state_jacobians(..., state="all") yourself, or give each cell a keras.layers.RNN of its own.'
        )
    # The first Jacobian is by the initial state, which is none of h_0 ... h_T.
    logs = _graded_svd.log_singular_values(jacobians[:, 1:], _state_slice(recurrent, "h"))
    logs = logs[:, ::-1] if recurrent.go_backwards else logs
    if log10:
        return logs / np.log(10)
    with np.errstate(over="ignore"):
        return np.exp(logs)


def lyapunov_exponents(model, x, layer=None):
    """Measure the Lyapunov exponents of a recurrent layer on its trajectory: the rates at which small changes grow.

    They are the natural logarithms of the singular values of the derivative of all last states by all initial states,
    divided by the number of steps. (Over finite time: the exponents proper are the limit for ever longer sequences.)
    Below 0 a change fades, above it grows; the largest one being near 0 is what lets gradients travel far.

    Args:
        model: a built Keras model; inference mode.
        x: inputs (batch, time, ...), as for `model.predict`.
        layer: name of the recurrent layer; may be left out when there is only one.

    Returns:
        array (batch, total), descending, per time step; total the sum of the sizes of the layer's states (for an LSTM
        those of h and c). -inf stands for a direction that is lost exactly. Masked steps count, as rates of 0.

    Raises:
        ValueError: as `singular_values`.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> halving = keras.layers.SimpleRNN(3, "linear", recurrent_initializer=keras.initializers.Identity(gain=0.5))
        >>> model = keras.Sequential([keras.Input((None, 2)), halving])
        >>> rnnkit.probes.lyapunov_exponents(model, np.ones((1, 50, 2))).round(3)
        array([[-0.693, -0.693, -0.693]])

    Source: Benettin, Galgani, Giorgilli & Strelcyn (1980), "Lyapunov characteristic exponents for smooth dynamical
    systems and for Hamiltonian systems; a method for computing all of them"; Engelken, Wolf & Abbott (2020), "Lyapunov
    spectra of chaotic recurrent neural networks", arXiv:2006.02427.
    """
    _, jacobians = _finite_jacobians(model, x, layer)
    return _graded_svd.last_log_singular_values(jacobians) / jacobians.shape[1]


def _jacobian_function(model, x, name, *, once=False, jit_compile=False):
    """Check all that can be wrong, then return the recurrent layer, the batch and `measure(x)`.

    Args:
        model: a built Keras model.
        x: inputs like those that will be measured.
        name: of the layer, or None.
        once: whether `measure` is called but once, so that nothing is compiled that runs faster than it compiles.
        jit_compile: whether TensorFlow has XLA compile the measurement.

    Returns:
        the layer, the batch, and a function that returns the Jacobians of all states by all states, (batch, time,
        total, total).
    """
    recurrent = only_recurrent_layer(model, name)
    batch = as_batch(model, x)
    shapes = [shape for *_, shape in perturbation.states("", recurrent.cell)]
    total = sum(map(math.prod, shapes))
    trajectory = _backend.compiled(model, _trajectory(model, recurrent), jit_compile)
    of_steps = _backend.compiled(model, _cell_jacobians(recurrent.cell, shapes), jit_compile, once=once)

    def measure(x):
        sequences, mask, before = trajectory(x)
        jacobians = _in_parts(of_steps, sequences, before)
        jacobians[~mask] = np.eye(total)
        return jacobians[:, ::-1] if recurrent.go_backwards else jacobians

    return recurrent, batch, measure


def _finite_jacobians(model, x, name):
    """Return the recurrent layer and its Jacobians, in reading order; refuse what has no singular values."""
    recurrent, batch, measure = _jacobian_function(model, x, name, once=True)
    jacobians = measure(batch.x)
    jacobians = jacobians[:, ::-1] if recurrent.go_backwards else jacobians
    finite = np.isfinite(jacobians).all(axis=(0, 2, 3))
    if not finite.all():
        raise ValueError(
            "The Jacobians of a recurrent layer must be finite for their product to have singular values. "
            f"Received: NaN or infinite entries from step {finite.argmin()} on (in reading order), in layer "
            f"{recurrent.name!r}. Its weights have probably diverged: look at them with model.get_weights()."
        )
    return recurrent, jacobians


def _cell_jacobians(cell, shapes):
    """Return a function of steps, what is read (n, features) and the states (n, total), to (n, total, total).

    It differentiates every new state of the cell by every old one, in one backward pass.
    """

    def jacobians(values, inputs, states):
        count, total = ops.shape(states)
        # One copy of each step per unit, each asking for the gradient of its own unit.
        inputs, states = (ops.repeat(one, total, axis=0) for one in (inputs, states))
        one_unit_each = ops.tile(ops.eye(total, dtype=states.dtype), (count, 1))

        def step(flat):
            parts = perturbation.split(flat, [math.prod(shape) for shape in shapes])
            before = [perturbation.unflattened(part, shape) for part, shape in zip(parts, shapes, strict=True)]
            return perturbation.flattened(perturbation.call_cell(cell, inputs, before, False)[1])

        with _backend.scratch(values):
            found = _backend.vector_jacobian(step, states, one_unit_each)
            rnn_loop.forget_dropout_masks(cell)
        return ops.reshape(found, (count, total, total))

    return jacobians


def _in_parts(of_steps, sequences, before):
    """Return the Jacobians at all steps of all examples, float64; in parts, which bounds the memory of the copies."""
    batch, time, total = before.shape
    steps = batch * time
    inputs, states = sequences.reshape(steps, -1), before.reshape(steps, total)
    parts = -(-steps // max(1, _ENTRIES // total**2))
    size = -(-steps // parts)
    jacobians = np.empty((steps, total, total))
    for part in range(parts):
        # All parts have one size, for which the function is compiled once: the last may begin within the one before.
        start = min(part * size, steps - size)
        jacobians[start : start + size] = of_steps(inputs[start : start + size], states[start : start + size])
    return jacobians.reshape(batch, time, total, total)


def _trajectory(model, layer):
    """Return a function that runs the model in inference, to what the cell reads at each step, in the order of reading.

    Returns:
        function of the weights' values and x, to inputs (batch, time, features), whether the step counts (batch, time),
        joint states (batch, time, total), which mean nothing where it does not.
    """

    def collect(values, x):
        seen = {}

        def make(key, layer):
            def inner_loop(sequences, initial_state, mask, training):
                def cell(inputs, states):
                    _, *states = states
                    _, new = perturbation.call_cell(layer.cell, inputs, states, training)
                    joint = perturbation.flattened(states)
                    return joint, [joint, *new]  # what it puts out is what it was given

                states = keras.tree.flatten(initial_state)
                joint = perturbation.flattened(states)
                _, before, _ = rnn_loop.keras_loop(
                    layer, cell, sequences, [joint, *states], mask, return_sequences=True, zero_output_for_mask=False
                )
                present = ops.ones(ops.shape(sequences)[:2], "bool") if mask is None else keras.tree.flatten(mask)[0]
                read = (sequences, present)
                seen[key] = *(ops.flip(one, axis=1) if layer.go_backwards else one for one in read), before
                return type(layer).inner_loop(layer, sequences, initial_state, mask, training=training)

            return inner_loop

        with rnn_loop.replaced({layer.name: layer}, make), _backend.scratch(values):
            model(x, training=False)
        if not seen:
            raise ValueError(
                "A recurrent layer must be reached by the model's own call, through keras.layers.RNN.call. "
                f"Received: layer {layer.name!r}, which the forward pass did not run."
            )
        if len(seen) > 1:
            raise ValueError(
                "Jacobians are measured along the one trajectory of a layer that the model runs once. "
                f"Received: layer {layer.name!r}, which runs {len(seen)} times (shared, or inside TimeDistributed). "
                "Pass a keras.Model that runs it on one of its inputs."
            )
        return seen[layer.name]

    return collect


def _state_slice(layer, state):
    """Return where a state lies in the joint state of a layer's cell."""
    if state == "all":
        return slice(None)
    states = perturbation.states("", layer.cell)
    names = [name for _, name, _ in states]
    if isinstance(layer.cell, keras.layers.StackedRNNCells) or state not in names:
        known = ["all"] if isinstance(layer.cell, keras.layers.StackedRNNCells) else [*names, "all"]
        raise ValueError(unknown_name("state", state, known))
    sizes = [math.prod(shape) for *_, shape in states]
    start = sum(sizes[: names.index(state)])
    return slice(start, start + sizes[names.index(state)])
