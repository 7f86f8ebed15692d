"""The gradient of the loss with respect to the state at every time step."""

from collections.abc import Callable

import numpy as np

from rnnkit import _backend
from rnnkit._backend import keras, ops
from rnnkit._instrument import gate_capture, perturbation, precision, rnn_loop
from rnnkit._instrument.batch import as_batch
from rnnkit._instrument.checks import recurrent_layers
from rnnkit._instrument.model_loss import require_compiled, require_loss, spare_loss


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
