"""What is known of the exercises of lesson 04, GRU and the rule of thumb."""

import functools

import numpy as np

from rnnkit.course.exercises import Exercise, Mistake, NotYet, choice, close, quiz, reject_known_mistakes

# --- one step of a GRU --------------------------------------------------------------------------------------------


def gru_step(x, h, U, W, b):
    """Take one step as Keras does: z keeps, and the reset gate acts after the product with the kernel."""
    from rnnkit._backend import ops

    x_z, x_r, x_g = ops.split(x @ U + b[0], 3, axis=-1)
    h_z, h_r, h_g = ops.split(h @ W + b[1], 3, axis=-1)
    z = ops.sigmoid(x_z + h_z)
    r = ops.sigmoid(x_r + h_r)
    g = ops.tanh(x_g + r * h_g)
    return z * h + (1 - z) * g


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


def _numpy_step(
    x, h, U, W, b, order="zrg", keeps=True, reset="after", gate=_sigmoid, squash=np.tanh, odd="zr", rows=(1, 1)
):
    """Take one step in NumPy, right or with one of the usual mistakes."""
    b = b * np.reshape(rows, (2, 1))
    from_x = dict(zip(order, np.split(x @ U + b[0], 3, axis=-1), strict=True))
    from_h = dict(zip(order, np.split(h @ W + b[1], 3, axis=-1), strict=True))
    z, r = ((gate if name in odd else _sigmoid)(from_x[name] + from_h[name]) for name in "zr")
    W_g = np.split(W, 3, axis=-1)[order.index("g")]
    d_g = np.split(b[1], 3)[order.index("g")]
    state = {
        "after": r * from_h["g"],
        "before": (r * h) @ W_g + d_g,
        "no": from_h["g"],
        "kernel only": r * (h @ W_g) + d_g,
        "all": None,
    }[reset]
    g = squash(r * (from_x["g"] + from_h["g"])) if reset == "all" else squash(from_x["g"] + state)
    return z * h + (1 - z) * g if keeps else (1 - z) * h + z * g


_STEP_MISTAKES = (
    Mistake(
        "z stands the wrong way round. In Keras's convention z keeps: h_t = z * h + (1 - z) * g.",
        functools.partial(_numpy_step, keeps=False),
    ),
    Mistake(
        "the reset gate acts too early. In this form it multiplies the product, r * (h W_g + d_g), not h before it.",
        functools.partial(_numpy_step, reset="before"),
    ),
    Mistake("the reset gate is missing: the state's part of g is r * h_g.", functools.partial(_numpy_step, reset="no")),
    Mistake(
        "the reset gate also multiplies the input's part of g. It gates the state only: x_g + r * h_g.",
        functools.partial(_numpy_step, reset="all"),
    ),
    Mistake(
        "the second bias row belongs inside the reset gate's product: r * (h W_g + d_g).",
        functools.partial(_numpy_step, reset="kernel only"),
    ),
    Mistake(
        "z and r are mixed up. Keras keeps them in the order z, r, g.", functools.partial(_numpy_step, order="rzg")
    ),
    Mistake(
        "the candidate g comes out of a sigmoid. It is a value, not a gate: tanh.",
        functools.partial(_numpy_step, squash=_sigmoid),
    ),
    Mistake(
        "the gates come out of tanh. They lie between 0 and 1: sigmoid.", functools.partial(_numpy_step, gate=np.tanh)
    ),
    Mistake(
        "the update gate z comes out of tanh. A gate lies between 0 and 1: sigmoid.",
        functools.partial(_numpy_step, gate=np.tanh, odd="z"),
    ),
    Mistake(
        "the reset gate r comes out of tanh. A gate lies between 0 and 1: sigmoid.",
        functools.partial(_numpy_step, gate=np.tanh, odd="r"),
    ),
    Mistake(
        "the gates have no sigmoid around them, which brings them between 0 and 1.",
        functools.partial(_numpy_step, gate=np.asarray),
    ),
    Mistake(
        "the candidate g has no tanh around it, which brings it between -1 and 1.",
        functools.partial(_numpy_step, squash=np.asarray),
    ),
    Mistake(
        "the second bias row is missing: what comes from h is h @ W + b[1].",
        functools.partial(_numpy_step, rows=(1, 0)),
    ),
    Mistake(
        "the first bias row is missing: what comes from x is x @ U + b[0].",
        functools.partial(_numpy_step, rows=(0, 1)),
    ),
    Mistake(
        "both bias rows are missing: b[0] goes with what comes from x, b[1] with what comes from h.",
        functools.partial(_numpy_step, rows=(0, 0)),
    ),
)


def _examine_step(answer):
    draw = np.random.default_rng(0)
    sizes = (5, 3), (5, 4), (3, 12), (4, 12), (2, 12)
    given = [draw.normal(size=size).astype("float32") for size in sizes]
    received = np.asarray(answer(*given), dtype=float)
    reject_known_mistakes(received, _STEP_MISTAKES, *given, atol=1e-5)
    close(_numpy_step(*given), rtol=1e-4, atol=1e-5, what="h_t")(received)


# --- from one convention to the other -----------------------------------------------------------------------------


def to_lecture(weights):
    """Negate what feeds the update gate: sigmoid(-a) is 1 - sigmoid(a)."""
    turned = [np.array(weight) for weight in weights]
    units = len(turned[1])
    for weight in turned:
        weight[..., :units] *= -1
    return turned


def _negated(weights, gates="z", which=(True, True, True)):
    """Negate the columns of some gates, z, r or g, in some of the three weights."""
    columns = np.repeat([name in gates for name in "zrg"], len(weights[1]))
    return [
        weight * np.where(columns, -1, 1) if chosen else weight for weight, chosen in zip(weights, which, strict=True)
    ]


def _one_minus_update_gate(weights):
    columns = np.repeat([True, False, False], len(weights[1]))
    return [np.where(columns, 1 - weight, weight) for weight in weights]


_TO_LECTURE_MISTAKES = (
    Mistake(
        "nothing has changed. In the lecture's convention these weights would keep what they should overwrite.",
        lambda weights: weights,
    ),
    Mistake(
        "all columns are negated. Reset gate and candidate mean the same in both conventions.",
        functools.partial(_negated, gates="zrg"),
    ),
    Mistake(
        "the bias still belongs to the other convention: its first columns feed the update gate too.",
        functools.partial(_negated, which=(True, True, False)),
    ),
    Mistake(
        "the recurrent kernel still belongs to the other convention.",
        functools.partial(_negated, which=(True, False, True)),
    ),
    Mistake(
        "the kernel still belongs to the other convention.", functools.partial(_negated, which=(False, True, True))
    ),
    Mistake("that is the reset gate. The update gate's columns come first.", functools.partial(_negated, gates="r")),
    Mistake("it is the gate that becomes 1 - z, not the weights.", _one_minus_update_gate),
)


def _examine_to_lecture(answer):
    draw = np.random.default_rng(1)
    weights = [draw.normal(size=size) for size in ((3, 12), (4, 12), (2, 12))]
    received = answer(weights)
    if not isinstance(received, list | tuple) or len(received) != 3:
        raise NotYet("return a list of the three weights, as `get_weights` gives them: kernel, recurrent kernel, bias.")
    received = [np.asarray(weight, dtype=float) for weight in received]
    reject_known_mistakes(received, _TO_LECTURE_MISTAKES, weights)
    close(to_lecture(weights), what="the list of weights")(received)


# --- a layer of your own ------------------------------------------------------------------------------------------

LENGTH, UPDATES, MOST = 40, 500, 2_000


def my_layer():
    """Make a small GRU whose update gate starts out keeping."""
    from rnnkit import initializers
    from rnnkit._backend import keras

    return keras.layers.GRU(16, bias_initializer=initializers.GateBias(update=3.0))


def recall_updates(seed, make):
    """Train a layer on first-symbol recall over 40 steps; return its parameters and the updates that it needed."""
    from rnnkit import tasks
    from rnnkit._backend import keras

    class Watch(keras.callbacks.Callback):
        total, updates = 0.0, np.nan

        def on_train_batch_end(self, batch, logs=None):
            if (batch + 1) % 25 == 0:
                total, before, self.total = logs["loss"] * (batch + 1), self.total, logs["loss"] * (batch + 1)
                if (total - before) / 25 < 0.1:
                    self.updates, self.model.stop_training = batch + 1, True

    x, y = tasks.first_symbol_recall(32 * UPDATES, LENGTH, 4, seed)
    layer, watch = make(), Watch()
    model = keras.Sequential([keras.Input(x.shape[1:]), layer, keras.layers.Dense(4)])
    parameters = layer.count_params()
    if parameters <= MOST:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=1.0), loss)
        model.fit(x, y, batch_size=32, shuffle=False, verbose=0, callbacks=[watch])
    return {"parameters": parameters, "updates": watch.updates}


def _starting_bias(layer):
    """Return the mean bias of the gate that keeps, in Keras's sense; None if no such gate is known."""
    from rnnkit import layers
    from rnnkit._backend import keras

    cell = getattr(layer, "cell", None)
    if isinstance(cell, keras.layers.LSTMCell | layers.LSTMCell):
        columns = slice(cell.units, 2 * cell.units)
    elif isinstance(cell, keras.layers.GRUCell | layers.GRUCell):
        columns = slice(0, cell.units)
    else:
        return None
    if cell.bias is None:
        return 0.0
    bias = np.asarray(keras.ops.convert_to_numpy(cell.bias), dtype=float).reshape(-1, cell.bias.shape[-1]).sum(axis=0)
    mean = float(bias[columns].mean())
    return -mean if getattr(cell, "convention", "keras") == "lecture" else mean


def _why_unsolved(layer):
    """Return what a learner whose layer did not solve the task should look at."""
    from rnnkit import layers
    from rnnkit._backend import keras

    cell = getattr(layer, "cell", None)
    if isinstance(cell, keras.layers.SimpleRNNCell | layers.SimpleRNNCell):
        return (
            "A plain RNN has no gate to start well: what keeps the symbol is its kernel, and at this length that "
            "was not enough. Take a cell with gates."
        )
    start = _starting_bias(layer)
    if start is not None and start < 0:
        return (
            f"The gate that keeps starts at a bias of {start:.2g}, below zero, and so overwrites. The sign is the "
            "wrong way round: in Keras's convention a large bias keeps."
        )
    if start is not None and start > 1:
        half_life = np.log(0.5) / -np.logaddexp(0, -start)
        return (
            f"The right idea: the gate that keeps starts at a bias of {start:.2g}, a half-life of about "
            f"{half_life:.0f} steps. The symbol lies {LENGTH - 1} steps back. Go further, or try the other gated cell."
        )
    return "What does its gate do with the first symbol, before anything is learned? Look at the half-lives again."


def _examine_layer(answer):
    from rnnkit import sweeps
    from rnnkit._backend import keras

    layer = answer()
    if not isinstance(layer, keras.layers.Layer):
        raise NotYet(f"return a Keras layer, freshly made; received {type(layer).__name__}.")
    if isinstance(layer, keras.Model):
        raise NotYet("return the recurrent layer alone; the check puts a Dense layer behind it.")
    probe = layer(np.zeros((2, LENGTH, 4), "float32"))
    if len(probe.shape) != 2:
        raise NotYet("the layer gives a sequence. Its last state is wanted: leave return_sequences out.")
    if layer.count_params() > MOST:
        raise NotYet(f"it has {layer.count_params():,} parameters; {MOST:,} are allowed. Take fewer units.")
    result = sweeps.sweep(functools.partial(recall_updates, make=answer), seeds=range(3))
    updates = result.values("updates")
    solved = int((updates <= UPDATES).sum())
    if solved < 3:
        raise NotYet(f"it solved {solved} of 3 seeds within {UPDATES} updates. {_why_unsolved(layer)}")
    return f"Solved with all three seeds, with {layer.count_params():,} parameters."


EXERCISES = (
    Exercise(
        "gru_step",
        (
            "Each gate is `ops.sigmoid` of what comes from x plus what comes from h; the candidate is an `ops.tanh`.",
            "The reset gate multiplies the state's part only, g = tanh(x_g + r * h_g). z keeps: z * h + (1 - z) * g.",
        ),
        gru_step,
        _examine_step,
        solution="""
        def gru_step(x, h, U, W, b):
            ops = keras.ops
            x_z, x_r, x_g = ops.split(x @ U + b[0], 3, axis=-1)
            h_z, h_r, h_g = ops.split(h @ W + b[1], 3, axis=-1)
            z = ops.sigmoid(x_z + h_z)
            r = ops.sigmoid(x_r + h_r)
            g = ops.tanh(x_g + r * h_g)
            return z * h + (1 - z) * g
        """,
    ),
    Exercise(
        "to_lecture",
        (
            "The lecture's gate must be 1 - z. What do you have to do to a for sigmoid to give 1 - sigmoid(a)?",
            "sigmoid(-a) = 1 - sigmoid(a): negate the first `units` columns of all three weights. Copy them first.",
        ),
        to_lecture,
        _examine_to_lecture,
    ),
    Exercise(
        "recall_first",
        (
            "The first symbol is not learned before a gradient reaches it. Look at the figure of six fresh networks.",
            "One of the three, as Keras starts it, loses far less there than the two others. That one leads; between "
            "the two others the figure does not decide.",
        ),
        "c",
        choice(
            "c",
            {
                "a": "Its forget gate starts at .73, Keras's default bias of 1: of a memory, .73 to the power 19, a "
                "quarter of a percent, is left. Most of its seeds did not solve the task within 500 updates.",
                "b": "Its update gate starts at .5: by that path 2 to the power -19 of a memory is left. At the "
                "smaller learning rate the default GRU does not learn this at all.",
                "c": "The plain RNN, whose orthogonal kernel keeps lengths. It has a third of the GRU's parameters.",
            },
        ),
    ),
    Exercise(
        "my_layer",
        (
            "The default GRU hears nothing of the first symbol; what mends that costs no parameter.",
            "Look at the table of half-lives: which update bias keeps something over 40 steps? A layer takes it as "
            "`bias_initializer`, and `rnnkit.initializers.GateBias` makes it.",
        ),
        my_layer,
        _examine_layer,
        solution="""
        def my_layer():
            return keras.layers.GRU(16, bias_initializer=rnnkit.initializers.GateBias(update=3.0))
        """,
    ),
    Exercise(
        "quiz_04",
        (
            "Each question has its answer in the section whose heading it echoes.",
            "The letters, in some order, are one a, two b and two c.",
        ),
        ["a", "c", "b", "b", "c"],
        quiz(
            choice(
                "a",
                {
                    "b": "That would turn the reset gate round as well, which means the same in both conventions.",
                    "c": "The gate becomes 1 - z when its argument is negated; one minus a weight is something else.",
                },
            ),
            choice(
                "c",
                {
                    "a": "They agree at the first step only, where the state is zero.",
                    "b": "It has more: the second row of the bias, 3 x units numbers.",
                },
            ),
            choice(
                "b",
                {
                    "a": "That is an LSTM's forget gate with Keras's bias of 1. Keras gives the GRU no such bias.",
                    "c": "It would be so with a large bias, which Keras does not set.",
                },
            ),
            choice(
                "b",
                {
                    "a": "It has two gates and a candidate to compute: several times the plain RNN's work.",
                    "c": "Parameters are three quarters; the time was not, as the table's ratios show.",
                },
            ),
            choice(
                "c",
                {
                    "a": "It did hold: the GRU solved every length it was trained on.",
                    "b": "The LSTM has more parameters, but what counts here is a cell state without a bound.",
                },
            ),
        ),
    ),
)
