"""What is known of the exercises of lesson 06, residual, dense and highway connections."""

import numpy as np

from rnnkit.course.exercises import Exercise, Mistake, NotYet, choice, close, quiz, reject_known_mistakes

# --- from a recording to a curve ----------------------------------------------------------------------------------


def by_depth(history, weight):
    """Return the norm of the first step's gradient of each middle layer's weight, from the lowest layer on."""
    names = sorted(name for name in history if name.startswith("layer_") and "gate" not in name)
    return np.array([history[name][0] for name in names if name.endswith(f"/{weight}")])


def _recording(gates):
    """Make a history of twelve middle layers in no particular order, three steps each."""
    draw = np.random.default_rng(0)
    middle = [f"layer_{number:02}" for number in range(1, 13)]
    names = [f"{layer}/{weight}" for layer in ("first", *middle, "head") for weight in ("kernel", "bias")]
    if gates:
        names += [f"{layer}/gate/{weight}" for layer in middle for weight in ("kernel", "bias")]
    return {name: draw.lognormal(size=3) for name in draw.permutation(names).tolist()}


def _of_middle_layers(history, weight):
    """Return all steps of the middle layers, (layers, steps)."""
    return np.array([history[f"layer_{number:02}/{weight}"] for number in range(1, 13)])


_BY_DEPTH_MISTAKES = (
    Mistake(
        "these are the norms of the last step. Take the first, at index 0.",
        lambda history, weight: _of_middle_layers(history, weight)[:, -1],
    ),
    Mistake(
        "these are means over the steps. Take the first step, at index 0.",
        lambda history, weight: _of_middle_layers(history, weight).mean(axis=1),
    ),
    Mistake(
        "the layers are in the wrong order: begin with layer_01.",
        lambda history, weight: _of_middle_layers(history, weight)[::-1, 0],
    ),
)


def _examine_by_depth(answer):
    plain = _recording(gates=False)
    for weight in ("bias", "kernel"):
        received = _as_numbers(answer(plain, weight), 12, "one for each middle layer")
        reject_known_mistakes(received, _BY_DEPTH_MISTAKES, plain, weight)
        other = "bias" if weight == "kernel" else "kernel"
        if np.allclose(received, by_depth(plain, other)):
            raise NotYet(f"`weight` has no effect: the {weight} was asked for, and the other came back.")
        expected = by_depth(plain, weight)
        if not np.allclose(received, expected) and np.allclose(np.sort(received), np.sort(expected)):
            raise NotYet(
                "these are the right norms in another order. A history need not be in the order of the layers: take "
                "the names in order, with sorted(...)."
            )
        close(expected, what=f"what you return for {weight!r}")(received)
    gated = _recording(gates=True)
    received = _as_numbers(answer(gated, "bias"), 12, "one for each middle layer, though they have gates now", gated)
    close(by_depth(gated, "bias"), what="what you return for layers that have gates")(received)


def _as_numbers(received, count, which, history=None):
    received = np.asarray(received, dtype=float)
    if received.ndim == 2 and received.shape == (count, 3):
        raise NotYet("you return all steps of each layer. Take the first, at index 0.")
    if received.ndim == 1 and len(received) == 2 * count:
        what = "the gates too" if history else "kernels and biases"
        raise NotYet(f"{2 * count} numbers for {count} layers: that is {what}. Keep those that were asked for.")
    if received.ndim == 1 and len(received) in (count + 2, 2 * count + 2):
        raise NotYet("`first` and `head` are not in the middle. Keep the names that begin with layer_.")
    if received.shape != (count,):
        raise NotYet(f"return {count} numbers, {which}; received shape {received.shape}.")
    return received


# --- a highway layer from a GRU -----------------------------------------------------------------------------------


def highway_from_gru(W, b):
    """Return [W_H, b_H, W_T, b_T] of the highway layer that does what a step of the GRU does."""
    units = len(W)
    return [W[:, 2 * units :], b[2 * units :], -W[:, :units], -b[:units]]


# Functions of the GRU's kernel and bias, each as {"z": columns, "r": columns, "h": columns}.
_HIGHWAY_MISTAKES = (
    Mistake(
        "T has the weights of z, so that it opens where the GRU keeps. z says keep and T says transform: T = 1 - z, "
        "and 1 - sigmoid(a) = sigmoid(-a).",
        lambda W, b: [W["h"], b["h"], W["z"], b["z"]],
    ),
    Mistake(
        "W_T has its sign turned, b_T has not: 1 - sigmoid(a) = sigmoid(-a), for all of a.",
        lambda W, b: [W["h"], b["h"], -W["z"], b["z"]],
    ),
    Mistake(
        "b_T has its sign turned, W_T has not: 1 - sigmoid(a) = sigmoid(-a), for all of a.",
        lambda W, b: [W["h"], b["h"], W["z"], -b["z"]],
    ),
    Mistake(
        "1 - sigmoid(a) is sigmoid(-a), not sigmoid(1 - a).",
        lambda W, b: [W["h"], b["h"], 1 - W["z"], 1 - b["z"]],
    ),
    Mistake(
        "the bias of the gate is 1 - b_z; but 1 - sigmoid(a) = sigmoid(-a).",
        lambda W, b: [W["h"], b["h"], -W["z"], 1 - b["z"]],
    ),
    Mistake(
        "T has the columns of the reset gate, the second; z has the first.",
        lambda W, b: [W["h"], b["h"], -W["r"], -b["r"]],
    ),
    Mistake(
        "H has the columns of the reset gate. The order is z, r, candidate.",
        lambda W, b: [W["r"], b["r"], -W["z"], -b["z"]],
    ),
    Mistake(
        "H and T are in each other's place: return H's weights first.",
        lambda W, b: [-W["z"], -b["z"], W["h"], b["h"]],
    ),
    Mistake(
        "H has its sign turned too. Only the gate's changes.",
        lambda W, b: [-W["h"], -b["h"], -W["z"], -b["z"]],
    ),
    Mistake(
        "the kernels are transposed. Keras computes x @ W for both layers, so that they stay as they are.",
        lambda W, b: [W["h"].T, b["h"], -W["z"].T, -b["z"]],
    ),
)


def _examine_highway(answer):
    draw = np.random.default_rng(0)
    units = 4
    W, b = draw.normal(size=(units, 3 * units)), draw.normal(size=3 * units)
    received = answer(W, b)
    if not isinstance(received, list | tuple) or len(received) != 4:
        raise NotYet("return a list of four arrays, [W_H, b_H, W_T, b_T].")
    received = [np.asarray(part, dtype=float) for part in received]
    for name, part, shape in zip(("W_H", "b_H", "W_T", "b_T"), received, ((units, units), (units,)) * 2, strict=True):
        if part.shape != shape:
            raise NotYet(f"{name} should have the shape {shape}; received {part.shape}.")
    columns = (dict(zip("zrh", np.split(weight, 3, axis=-1), strict=True)) for weight in (W, b))
    reject_known_mistakes(received, _HIGHWAY_MISTAKES, *columns)
    right = highway_from_gru(W, b)
    for name, part, wanted in zip(("W_H", "b_H", "W_T", "b_T"), received, right, strict=True):
        close(wanted, what=name)(part)


# --- a block of one's own -----------------------------------------------------------------------------------------


def my_block(layer):
    """Return a highway layer that is nearly closed."""
    from rnnkit.layers import Highway

    return Highway(layer, gate_bias=-4.0)


def measure_blocks(block, depth=40, seed=0):
    """Put a column of blocks together and take one training step.

    Returns:
        How long the gradient is below the blocks, as a multiple of what it is above them; the root mean square of the
        values that come out at the top; and the number of layers handed to `block` that the model uses.
    """
    import keras

    from rnnkit.recorders import GradientRecorder

    keras.utils.set_random_seed(seed)
    draw = np.random.default_rng(seed)
    x, y = draw.uniform(size=(100, 64)).astype("float32"), draw.integers(0, 10, size=100)
    given = [
        keras.layers.Dense(32, "tanh", kernel_initializer=keras.initializers.RandomNormal(stddev=0.1))
        for _ in range(depth)
    ]
    same = keras.initializers.Identity()
    blocks = [block(layer) for layer in given]
    for made in blocks:
        if not isinstance(made, keras.Layer):
            raise NotYet(f"return a Keras layer, such as rnnkit.layers.Residual(layer); received {made!r}.")
    if len({id(made) for made in blocks}) < depth:
        raise NotYet(
            "you return the same layer each time. Make a new one in every call, round the layer you are given."
        )
    body = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, "tanh"),
            keras.layers.Dense(32, kernel_initializer=same, name="below"),  # their biases' gradients are what passes
            *blocks,
            keras.layers.Dense(32, kernel_initializer=same, name="above"),
        ]
    )
    model = keras.Sequential([body, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=keras.backend.backend() != "jax")
    recorder = GradientRecorder()
    model.fit(x, y, batch_size=100, callbacks=[recorder], verbose=0)
    norms = {
        name.split("/")[-2]: float(values[0]) for name, values in recorder.history.items() if name.endswith("bias")
    }
    out = keras.ops.convert_to_numpy(body(x, training=True))
    below, above = norms["below"], norms["above"]
    used = sum(layer.built for layer in given)
    return below / above if above else 0.0, float(np.sqrt(np.mean(np.square(out)))), used


def _examine_block(answer):
    with np.errstate(all="ignore"):
        passed, size, used = measure_blocks(answer)
    shown = f"Measured: the gradient below is {passed:.2g} times the one above, the values at the top are {size:.2g}"
    if used < 40:
        raise NotYet("the layer that you are given is not used: put it into the block.")
    if not np.isfinite([passed, size]).all():
        raise NotYet("the values or the gradient are not finite any more: forty blocks explode.")
    if passed < 0.2:
        raise NotYet(
            f"{shown}. It fades: give it a way round the layer, open wide enough, with nothing on it that shrinks."
        )
    if passed > 5:
        raise NotYet(
            f"{shown}. The gradient explodes: let each block add less, by a normalisation, a factor or a gate."
        )
    if size > 20:
        raise NotYet(f"{shown}. They are too large: let each block add less.")
    return f"{shown}."


EXERCISES = (
    Exercise(
        "by_depth",
        (
            "The names of the middle layers' weights begin with `layer_`; those of gates have a `gate` in them. "
            "What does sorted(...) do with the rest?",
            "For each name in sorted(history) that begins with layer_, holds no gate and ends with the weight, take "
            "history[name][0]; make an array of these.",
        ),
        by_depth,
        _examine_by_depth,
    ),
    Exercise(
        "gate_bias_of_minus_four",
        (
            "How much of the gradient is left after 40 layers that each pass on 88 %? And 98 %?",
            "0.88 to the power of 40 is 0.006; 0.982 to the power of 40 is 0.48. And each layer still adds its 2 %.",
        ),
        "b",
        choice(
            "b",
            {
                "a": "Two percent of forty layers is not nothing, and training can open the gates. What was missing "
                "was the signal: 0.88 to the 40th power is 0.006, 0.982 to the 40th is 0.48.",
                "b": "Each layer does little at first, but the signal comes through: 0.982 to the 40th power is 0.48.",
                "c": "The two parts of a highway layer share one unit between them, T and 1 - T: what comes out is a "
                "mean of x and H(x), and no larger than the larger of the two.",
            },
        ),
    ),
    Exercise(
        "highway_from_gru",
        (
            "With the reset gate open the candidate is tanh(h W_h + b_h). Which of T and 1 - T is z?",
            "T = 1 - z, and 1 - sigmoid(a) = sigmoid(-a): so W_T and b_T are the first third of W and b, with the sign "
            "turned. W_H and b_H are the last third.",
        ),
        highway_from_gru,
        _examine_highway,
    ),
    Exercise(
        "my_block",
        (
            "Twenty residual layers gained five- to tenfold, so that forty gain too much. What makes each add less? "
            "And how much does a highway layer pass on, if its gate starts at -4?",
            "rnnkit.layers.Highway(layer, gate_bias=-4.0) is one answer. Another: a residual connection round the "
            "layer and a keras.layers.Rescaling(0.3) after it.",
        ),
        my_block,
        _examine_block,
        solution="""
        def my_block(layer):
            return Highway(layer, gate_bias=-4.0)

        # or
        def my_block(layer):
            return Residual(keras.Sequential([layer, keras.layers.Rescaling(0.3)]))
        """,
    ),
    Exercise(
        "quiz_06",
        (
            "Each question has its answer in the section whose heading it echoes.",
            "The letters, in some order, are two a, two b and one c.",
        ),
        ["c", "a", "b", "b", "a"],
        quiz(
            choice(
                "c",
                {
                    "a": "It is, and that spares the slopes; but it does not say why layer 1 and layer 20 come out "
                    "alike. A kernel's gradient is a product of two signals.",
                    "b": "The recorder shows gradients before the optimizer has seen them. A kernel's gradient is a "
                    "product of two signals.",
                },
            ),
            choice(
                "a",
                {
                    "b": "Then a smaller rate would make it worse, not better. Recorded, the lowest layers heard "
                    "several times what the highest heard.",
                    "c": "In the figure the residual curve rises towards layer 1: each Jacobian is 1 + H', and a "
                    "product of them grows.",
                },
            ),
            choice(
                "b",
                {
                    "a": "Overfitting lowers the training error and raises the other one. Here the training error "
                    "itself was larger.",
                    "c": "They used batch normalisation in all networks and checked that neither signal vanished "
                    "(section 4.1).",
                },
            ),
            choice(
                "b",
                {
                    "a": "Keras's z says how much is kept; T says how much is transformed. They are each other's "
                    "complement.",
                    "c": "H is the new content, which corresponds to the candidate. The update gate decides how much "
                    "of it is taken.",
                },
            ),
            choice(
                "a",
                {
                    "b": "All matrices were drawn from the same distribution. With different ones, stretching and "
                    "shrinking even out.",
                    "c": "There was no tanh in that experiment: only products of matrices. The luck of one matrix is "
                    "repeated.",
                },
            ),
        ),
    ),
)
