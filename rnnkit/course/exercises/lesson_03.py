"""What is known of the exercises of lesson 03, the LSTM."""

import functools

import numpy as np

from rnnkit.course.exercises import Exercise, Mistake, NotYet, choice, close, quiz, reject_known_mistakes

# --- the cell -----------------------------------------------------------------------------------------------------


def lstm_step(x, h, c, U, W, b):
    """Take one step of an LSTM: gates from x and h, then the memory, then the state."""
    from rnnkit._backend import keras

    ops = keras.ops
    i, f, g, o = ops.split(x @ U + h @ W + b, 4, axis=-1)
    c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
    h = ops.sigmoid(o) * ops.tanh(c)
    return h, c


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


def _step(
    x, h, c, U, W, b, order="ifgo", gate=_sigmoid, squash=np.tanh, out=np.tanh, mix=None, recurrent=True, new=True
):
    """Take the step with one of the usual mistakes."""
    total = x @ U + (h @ W if recurrent else 0) + b
    raw = dict(zip(order, np.split(total, 4, axis=-1), strict=True))
    i, f, o, g = gate(raw["i"]), gate(raw["f"]), gate(raw["o"]), squash(raw["g"])
    after = mix(i, f, g, c) if mix else f * c + i * g
    return o * out(after if new else c), after


_STEP_MISTAKES = (
    Mistake("h and c are in the wrong order. Return h first, then c.", lambda *given: _step(*given)[::-1]),
    *(
        Mistake(
            "the gates are taken in another order. Keras lays them side by side as i, f, g, o; `ops.split` gives them "
            "in that order.",
            functools.partial(_step, order=order),
        )
        for order in ("fiog", "ifog", "ofig", "giof")
    ),
    Mistake(
        "f and i are mixed up: f scales the old c, i scales the candidate g.",
        functools.partial(_step, mix=lambda i, f, g, c: i * c + f * g),
    ),
    Mistake(
        "the candidate g went through a sigmoid. It is what is written, not a gate: tanh, so that it can be negative.",
        functools.partial(_step, squash=_sigmoid),
    ),
    Mistake("the candidate g misses its tanh: i * tanh(g) is written.", functools.partial(_step, squash=lambda g: g)),
    Mistake(
        "you took f = 1 - i. That is the GRU's way (lesson 04); an LSTM's forget gate is computed by itself.",
        functools.partial(_step, mix=lambda i, f, g, c: (1 - i) * c + i * g),
    ),
    Mistake(
        "a gate went through tanh. Gates are fractions between 0 and 1: sigmoid.",
        functools.partial(_step, gate=np.tanh),
    ),
    Mistake("h misses a tanh: h = o * tanh(c).", functools.partial(_step, out=lambda c: c)),
    Mistake(
        "h is made of the old c. First c is renewed, then h = o * tanh(c) of the new one.",
        functools.partial(_step, new=False),
    ),
    Mistake("h_{t-1} is missing: the gates look at x U + h W + b.", functools.partial(_step, recurrent=False)),
    Mistake("the bias b is missing.", lambda x, h, c, U, W, b: _step(x, h, c, U, W, 0 * b)),
    Mistake("the old c is not kept: c = f * c + i * g.", functools.partial(_step, mix=lambda i, f, g, c: i * g)),
    Mistake(
        "the forget gate is missing: c = f * c + i * g, not c + i * g.",
        functools.partial(_step, mix=lambda i, f, g, c: c + i * g),
    ),
)


def _examine_step(answer):
    from rnnkit import _backend
    from rnnkit._backend import keras

    draw = np.random.default_rng(0)
    shapes = {"x": (2, 3), "h": (2, 4), "c": (2, 4), "U": (3, 16), "W": (4, 16), "b": (16,)}
    arrays = {name: draw.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    tensors = {name: keras.ops.convert_to_tensor(array) for name, array in arrays.items()}
    received = answer(*tensors.values())
    if not isinstance(received, (list, tuple)) or len(received) != 2:
        raise NotYet("return two things, the new h and the new c: `return h, c`.")
    parts = [np.asarray(keras.ops.convert_to_numpy(part), dtype=float) for part in received]
    reject_known_mistakes(parts, _STEP_MISTAKES, *arrays.values(), atol=1e-4)
    close(list(_step(**arrays)), rtol=1e-4, atol=1e-5, what="what you return, (h, c),")(parts)
    rest = [tensors[name] for name in ("c", "U", "W", "b")]
    try:
        gradient = _backend.vector_jacobian(
            lambda h: answer(tensors["x"], h, *rest)[0], arrays["h"], np.ones_like(arrays["h"])
        )
    except Exception:
        gradient = None
    if gradient is None:
        raise NotYet(
            "the numbers are right, but no gradient comes through. NumPy's functions stop it: use those of "
            "`keras.ops` (`ops.sigmoid`, `ops.tanh`, `ops.split`)."
        )


# --- the direct path ----------------------------------------------------------------------------------------------


def forget_product(last, f):
    """Walk dL/dc_t back along the memory alone, from c_t to c_{t-1} through the forget gate f_t."""
    gradients = [last]
    for gate in f[:0:-1]:
        gradients.append(gradients[-1] * gate)
    return np.stack(gradients[::-1])


def _at_each_step(factor):
    """Return an answer that scales `last` at each step t by a factor of (f, t)."""
    return lambda last, f: np.stack([last * factor(f, t) for t in range(len(f))])


_PRODUCT_MISTAKES = (
    Mistake(
        "the order is reversed: row 0 belongs to the first step, row -1 is `last`.",
        lambda last, f: forget_product(last, f)[::-1],
    ),
    Mistake(
        "one factor too many. From c_t to c_T the memory passes the forget gates of steps t+1 to T: f_t itself scaled "
        "what came *before* c_t, and the last row is `last`, unscaled.",
        lambda last, f: last * np.cumprod(f[::-1], axis=0)[::-1],
    ),
    Mistake(
        "that multiplies the gates from the first step on. The gradient comes from the end: the first row has all "
        "factors, the last row none.",
        lambda last, f: last * np.cumprod(f, axis=0),
    ),
    Mistake(
        "the gate is taken at the wrong step: from c_t to c_{t-1} the gradient passes f_t, not f_{t-1}.",
        _at_each_step(lambda f, t: np.prod(f[t:-1], axis=0)),
    ),
    Mistake("`last` is missing: the product scales it.", lambda last, f: forget_product(np.ones_like(last), f)),
    Mistake(
        "that is a power of the mean gate. Each unit has its own gate at each step.",
        _at_each_step(lambda f, t: f.mean() ** (len(f) - 1 - t)),
    ),
    Mistake("that adds the gates up. A chain rule multiplies.", _at_each_step(lambda f, t: f[t + 1 :].sum(axis=0))),
)


def _examine_product(answer):
    draw = np.random.default_rng(0)
    last, f = draw.normal(size=3), draw.uniform(0.3, 0.95, size=(6, 3))
    received = np.asarray(answer(last, f), dtype=float)
    if received.shape == (5, 3):
        raise NotYet("you return 5 gradients for 6 steps. The last step has one too: it is `last` itself.")
    reject_known_mistakes(received, _PRODUCT_MISTAKES, last, f)
    close(forget_product(last, f), what="what you return")(received)


# --- half-lives ---------------------------------------------------------------------------------------------------


def bias_for_half_life(steps):
    """Return the bias at which a forget gate halves the memory in so many steps."""
    f = 0.5 ** (1 / steps)
    return np.log(f / (1 - f))


_HALF_LIFE_MISTAKES = (
    Mistake(
        "that is the gate itself, f. The bias is what the sigmoid turns into f: b = ln(f / (1 - f)).",
        lambda steps: 0.5 ** (1 / steps),
    ),
    Mistake(
        "the sign is turned round: a long memory needs a *positive* forget bias.",
        lambda steps: -bias_for_half_life(steps),
    ),
    Mistake(
        "that is the bias for a memory that falls to 1/e. A half-life asks for f**steps = 1/2.",
        lambda steps: np.log(np.exp(-1 / steps) / (1 - np.exp(-1 / steps))),
    ),
    Mistake(
        "that is the half-life of a bias; asked for is the bias of a half-life.",
        lambda steps: np.log(0.5) / np.log(_sigmoid(steps)),
    ),
    Mistake("ln(steps) is close for long memories, but not the half-life: solve sigmoid(b)**steps = 1/2.", np.log),
    Mistake(
        "a half-life of n steps means f**n = 1/2, not f = 1 - 1 / (2 n).",
        lambda steps: np.log((1 - 0.5 / steps) / (0.5 / steps)),
    ),
    Mistake(
        "that is the lesson's approximation for large biases, turned round. At short half-lives it is off; solve "
        "sigmoid(b)**steps = 1/2 itself.",
        lambda steps: np.log(steps / np.log(2)),
    ),
    Mistake(
        "that is what a gate of one half leaves after so many steps. Asked for is the gate with f**steps = 1/2, "
        "0.5 ** (1 / steps), and then its bias.",
        lambda steps: 0.5**steps,
    ),
    Mistake(
        "f**steps = 1/2 gives f = 0.5 ** (1 / steps), the root, not 0.5 ** steps.",
        lambda steps: -np.log(2**steps - 1),
    ),
    Mistake(
        "that is the logarithm of f; the inverse of the sigmoid is ln(f / (1 - f)).",
        lambda steps: np.log(0.5 ** (1 / steps)),
    ),
)


def _examine_half_life(answer):
    steps = np.array([1.0, 2.5, 14.0, 25.0])
    with np.errstate(all="ignore"):
        received = np.array([np.asarray(answer(one), dtype=float) for one in steps])
    if received.shape != steps.shape:
        raise NotYet("return one number, the bias.")
    reject_known_mistakes(received, _HALF_LIFE_MISTAKES, steps, rtol=1e-3)
    if np.allclose(received[1:], np.log(0.5) / np.log(steps[1:]), rtol=1e-3):
        raise NotYet(
            "that is the formula with the half-life in the bias's place, and without the sigmoid. Solve "
            "sigmoid(b)**steps = 1/2 for b."
        )
    expected = bias_for_half_life(steps)
    close(expected, atol=1e-6, rtol=1e-3, what="the biases for half-lives of 1, 2.5, 14 and 25 steps")(received)


# --- a bias of your own -------------------------------------------------------------------------------------------


def my_lstm_bias(units, length, seed):
    """Draw the memories of the units between one step and the whole length, and close the input gates to match."""
    memory = np.random.default_rng(seed).uniform(1, length - 1, size=units)
    nothing = np.zeros(units)
    return np.concatenate([-np.log(memory), np.log(memory), nothing, nothing])


LENGTH = 200


def memory_ratios(biases):
    """Measure |dL/dc_0| / |dL/dc_T| over 200 steps of fresh Keras LSTMs with these biases, one a seed."""
    from rnnkit import probes, tasks
    from rnnkit._backend import keras

    units = len(biases[0]) // 4
    x, y = tasks.adding_problem(n=16, length=LENGTH, seed=0)
    rnn = keras.layers.LSTM(units, name="rnn")
    model = keras.Sequential([keras.Input((LENGTH, 2)), rnn, keras.layers.Dense(1)])
    model.compile(loss="mse")
    measure = probes.state_gradient_norms(model, x, y)
    glorot, orthogonal = keras.initializers.GlorotUniform, keras.initializers.Orthogonal
    ratios = []
    for seed, bias in enumerate(biases):
        kernels = (glorot(seed=seed)((2, 4 * units)), orthogonal(seed=seed)((units, 4 * units)))
        model.set_weights([*map(np.asarray, kernels), bias, np.asarray(glorot(seed=seed)((units, 1))), np.zeros(1)])
        norms = measure()["rnn/c"].astype("float64")
        ratios.append(float(norms[0] / norms[-1]))
    return ratios


def _examine_bias(answer):
    biases = [answer(32, LENGTH, seed) for seed in range(5)]
    if any(map(callable, biases)):
        raise NotYet("that is an initializer, not yet a bias. Call it: initializer((4 * units,)).")
    biases = [np.asarray(bias, dtype=float) for bias in biases]
    for bias in biases:
        if bias.shape != (128,):
            raise NotYet(
                f"return the whole bias, (4 * units,), here (128,), gates in the order i, f, g, o; received shape "
                f"{bias.shape}."
            )
        if not np.isfinite(bias).all():
            raise NotYet("the bias holds NaN or infinite numbers.")
    middle = np.median(memory_ratios(biases))
    shown = f"first over last of dL/dc is {middle:.1g} in the median of five seeds"
    parts = np.array(biases).reshape(5, 4, 32)
    if middle < 0.1:
        message = f"{shown}: over {LENGTH} steps it still vanishes. The forget gate is f = sigmoid(bias[32:64])"
        if parts[:, 0].mean() > 1 > parts[:, 1].mean():
            message += ", but the large values stand in bias[:32], for the input gate: the order is i, f, g, o"
        raise NotYet(message + ".")
    if middle > 10:
        raise NotYet(f"{shown}: it grows, by what comes through h. Smaller input gates, bias[:32], let less of it in.")
    own = np.mean(_sigmoid(parts[:, 1]) ** LENGTH)
    if own < 0.01:
        raise NotYet(
            f"{shown}, but by the roads through h: the forget gates alone keep {own:.1g} over {LENGTH} steps, in "
            "the mean over units. A hundredth is needed: more forget bias, with smaller input gates, lest it grow."
        )
    return f"Measured, {shown}."


EXERCISES = (
    Exercise(
        "lstm_step",
        (
            "One product makes all four parts, (batch, 4 * units). Three are gates, fractions between 0 and 1; the "
            "fourth is what is written, and may be negative. Which function squashes which?",
            "`i, f, g, o = ops.split(x @ U + h @ W + b, 4, axis=-1)`; `ops.sigmoid` for i, f and o, `ops.tanh` for g; "
            "then c = f * c + i * g and h = o * ops.tanh(c).",
        ),
        lstm_step,
        _examine_step,
    ),
    Exercise(
        "forget_product",
        (
            "As in lesson 01: start from `last`, walk back. If c_t = f_t * c_{t-1}, what is dc_t / dc_{t-1}?",
            "Loop over t from the last step down to 1; one step back is `gradients[-1] * f[t]`. At the end reverse.",
        ),
        forget_product,
        _examine_product,
    ),
    Exercise(
        "bias_for_half_life",
        (
            "After `steps` steps half is left: f**steps = 1/2. Solve for f first.",
            "The sigmoid's inverse is b = ln(f / (1 - f)): `np.log(f / (1 - f))`, with `f = 0.5 ** (1 / steps)`.",
        ),
        bias_for_half_life,
        _examine_half_life,
    ),
    Exercise(
        "without_forget_gate",
        (
            "With f = 1 the memory is a running sum, c_t = c_{t-1} + i_t * g_t. Which task needs something to go away?",
            "Keeping needs no forgetting. To replace an old symbol by a new one, the old must be taken out of the sum.",
        ),
        "b",
        choice(
            "b",
            {
                "a": "Without a forget gate nothing is ever lost from the memory. Keeping is what it can do.",
                "b": "It keeps; what it learns slowly is to let go.",
                "c": "To replace a symbol the old one must go. With f = 1 it stays in the sum; it can only be "
                "drowned by what comes after, which takes longer to learn.",
            },
        ),
    ),
    Exercise(
        "my_lstm_bias",
        (
            "You know which forget bias has a half-life of the order of 200 steps, and that what comes through h adds "
            "to it. Which gate decides how much is written, and so how much of h comes back into c?",
            "Chrono: `memory = rng.uniform(1, length - 1, units)`, forget bias `np.log(memory)`, input bias minus "
            "that, zeros for the rest; `np.concatenate` them in the order i, f, g, o.",
        ),
        my_lstm_bias,
        _examine_bias,
    ),
    Exercise(
        "quiz_03",
        (
            "Each question has its answer in the section whose heading it echoes.",
            "The letters, in some order, are one a, two b and two c.",
        ),
        ["b", "c", "a", "b", "c"],
        quiz(
            choice(
                "b",
                {
                    "a": "Measured, at bias 3 both survive: h_t goes into c_{t+1}, and from there on along the "
                    "memory's road.",
                    "c": "h shows c through a gate and a tanh, and gets back into c through the kernels: measured, "
                    "dL/dh was smaller, by a factor between two and five with plain biases.",
                },
            ),
            choice(
                "c",
                {
                    "a": "In four of five seeds it was the other way round: the default's forget gate stands at .73, "
                    "and .73 to the power of 99 is nothing.",
                    "b": "With most seeds they differ by orders of magnitude; look at the two curves again.",
                },
            ),
            choice(
                "a",
                {
                    "b": "The half-life at bias 1 is about two steps; a gate at .73 halves very fast.",
                    "c": "That is the half-life at a bias of 3; the steps count goes up steeply with the bias.",
                },
            ),
            choice(
                "b",
                {
                    "a": "The gates' product is one path of many. The others came on top; at bias 1 they won by far.",
                    "c": "They agree where little comes back through h: with a kernel W of zero, or with chrono.",
                },
            ),
            choice(
                "c",
                {
                    "a": "The lesson measured one that vanishes to exactly nothing and one that explodes.",
                    "b": "Clipping shortens a gradient that is too long; one that has vanished is not brought back.",
                },
            ),
        ),
    ),
)
