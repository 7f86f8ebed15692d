"""The gradient clinic of lesson 09: eight training runs that are ill, three unseen tasks, and how a cure is examined.

A patient is a function of a seed that makes a compiled model. The model and its optimizer are the learner's to change;
the data, the batches and what may be spent on training belong to the clinic.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rnnkit import probes, recorders, tasks
from rnnkit._backend import keras

__all__ = ["PATIENTS", "UNSEEN", "Case", "accuracy", "chart", "compiled", "data", "trial", "unchanged", "updates"]

BATCH = 32
_CURVES, _STEPS = 5, 60  # of a chart: at most so many weights, and places at which a gradient is looked at


@dataclass(frozen=True)
class Case:
    """Something to be learned, and what a model for it is held to.

    Args:
        title: what is to be learned, in a few words.
        make: function of a seed that returns the compiled model of a patient; None for an unseen task.
        sets: function that returns ((x, y), (x_test, y_test)).
        updates: training steps, at most; each sees a batch of 32.
        enough: accuracy on the test set that proves a cure.
        weights: how many weights a model may have.
        budget: weights times updates, for those who train within a budget: the smaller model trains for longer.
        watched: the weights whose gradient norms a chart shows.
        shown: layer whose outputs a chart looks at.
        trace: function of model, x and y that returns what a chart's last panel shows, one number a step or layer.
        unknown_future: whether a model is scored on what it can know: with all that is yet to come replaced.
    """

    title: str
    make: Callable | None
    sets: Callable
    updates: int
    enough: float
    weights: int = 25_000
    budget: int | None = None
    watched: tuple[str, ...] = ("rnn/kernel", "rnn/recurrent_kernel", "head/kernel")
    shown: str = "rnn"
    trace: Callable | None = None
    unknown_future: bool = False


# --- data -----------------------------------------------------------------------------------------------------------


def _digits(brightness=1, flat=False):
    x, y = tasks.digits_by_row()
    x = brightness * (x.reshape(len(x), -1) if flat else x)
    return (x[:1400], y[:1400]), (x[1400:], y[1400:])


def _recall(length):
    return tuple(tasks.first_symbol_recall(n, length, symbols=4, seed=seed) for n, seed in ((1_600, 0), (500, 1)))


def _order(length, n):
    return tuple(tasks.temporal_order(n, length, seed=seed) for n, seed in ((n, 0), (500, 1)))


def _short_words(n, seed, length=40):
    """Return rows of 4 to 7 letters out of 12, padded with 0, and which group of three letters the first is of."""
    draw = np.random.default_rng(seed)
    letters = draw.integers(1, 13, size=(n, length))
    letters[np.arange(length) >= draw.integers(4, 8, size=(n, 1))] = 0
    return letters.astype("int32"), ((letters[:, 0] - 1) // 3).astype("int32")


def _text():
    return tuple(tasks.python_text(n, 20, split, seed=0) for n, split in ((8_000, "train"), (1_000, "test")))


def _next_mark(n, seed, length=24):
    """Return symbols 0 to 7, and at each step the next 0 or 1 to come, itself included; 2 if none comes."""
    draw = np.random.default_rng(seed)
    x = draw.integers(2, 8, size=(n, length))
    marks = draw.random((n, length)) < 0.12
    x[marks] = draw.integers(0, 2, marks.sum())
    y, coming = np.empty_like(x), np.full(n, 2)
    for step in range(length - 1, -1, -1):
        y[:, step] = coming = np.where(x[:, step] < 2, x[:, step], coming)
    return x.astype("int32"), y.astype("int32")


def _sum_of_sums(n, seed):
    """Return digits 0 to 2, and at each step the sum of all sums so far, modulo 3."""
    x, y = tasks.double_sum(n, length=16, seed=seed)
    return x.argmax(axis=-1).astype("int32"), y


# --- the broken cells -----------------------------------------------------------------------------------------------


def compiled(layers, optimizer):
    """Return a model that classifies from logits, as all models of the clinic do."""
    model = keras.Sequential(layers)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def patient_1(seed):
    """Read digits row by row; pixels go from 0 to 255."""
    keras.utils.set_random_seed(seed)
    rnn = keras.layers.SimpleRNN(32, name="rnn")
    head = keras.layers.Dense(10, name="head")
    return compiled([keras.Input((8, 8)), rnn, head], keras.optimizers.SGD(0.1))


def patient_2(seed):
    """Tell digits apart, all pixels at once, with sixteen layers."""
    keras.utils.set_random_seed(seed)
    stack = []
    for number in range(1, 17):
        small = keras.initializers.RandomNormal(stddev=0.1)  # a new one each: used twice it gives the same numbers
        stack.append(keras.layers.Dense(32, "tanh", kernel_initializer=small, name=f"dense_{number}"))
    head = keras.layers.Dense(10, name="head")
    return compiled([keras.Input((64,)), *stack, head], keras.optimizers.SGD(0.02, momentum=0.9))


def patient_3(seed):
    """Predict the next character of a text."""
    keras.utils.set_random_seed(seed)
    embed = keras.layers.Embedding(96, 16, name="embed")
    rnn = keras.layers.Bidirectional(keras.layers.GRU(32, return_sequences=True), name="rnn")
    head = keras.layers.Dense(96, name="head")
    return compiled([keras.Input((20,), dtype="int32"), embed, rnn, head], keras.optimizers.Adam(0.01))


def patient_4(seed):
    """Recall the first of twenty-four symbols."""
    keras.utils.set_random_seed(seed)
    small = keras.initializers.RandomNormal(stddev=0.03)
    rnn = keras.layers.SimpleRNN(32, recurrent_initializer=small, name="rnn")
    head = keras.layers.Dense(4, name="head")
    return compiled([keras.Input((24, 4)), rnn, head], keras.optimizers.Adam(0.003, global_clipnorm=1.0))


def patient_5(seed):
    """Read digits row by row; pixels go from 0 to 1."""
    keras.utils.set_random_seed(seed)
    rnn = keras.layers.GRU(32, name="rnn")
    head = keras.layers.Dense(10, name="head")
    return compiled([keras.Input((8, 8)), rnn, head], keras.optimizers.SGD(0.3, global_clipnorm=0.001))


def patient_6(seed):
    """Name the group of the first letter of short words, padded with zeros to forty."""
    keras.utils.set_random_seed(seed)
    embed = keras.layers.Embedding(13, 8, name="embed")
    rnn = keras.layers.GRU(32, name="rnn")
    head = keras.layers.Dense(4, name="head")
    return compiled([keras.Input((40,), dtype="int32"), embed, rnn, head], keras.optimizers.Adam(0.01))


def patient_7(seed):
    """Name two marks among twenty symbols, in their order."""
    keras.utils.set_random_seed(seed)
    large = keras.initializers.Orthogonal(gain=1.5)
    rnn = keras.layers.SimpleRNN(32, recurrent_initializer=large, name="rnn")
    head = keras.layers.Dense(4, name="head")
    return compiled([keras.Input((20, 6)), rnn, head], keras.optimizers.SGD(0.3))


def patient_8(seed):
    """Recall the first of thirty symbols."""
    keras.utils.set_random_seed(seed)
    rnn = keras.layers.LSTM(32, unit_forget_bias=False, name="rnn")
    head = keras.layers.Dense(4, name="head")
    return compiled([keras.Input((30, 4)), rnn, head], keras.optimizers.Adam(0.005))


# --- what a chart shows ---------------------------------------------------------------------------------------------


def _by_step(model, x, y):
    """Norm of dL/dh_t at each step of the recurrent layer."""
    (states,) = probes.state_gradients(model, x[:64], y[:64]).values()
    return np.linalg.norm(states["h"].astype("float64"), axis=-1).mean(axis=0)


def _by_input(model, x, y):
    """Norm of the gradient of the output in the middle by the input at each step."""
    middle = x.shape[1] // 2
    return probes.saliency(model, x[:16], output=(middle, int(y[0, middle]))).mean(axis=0)


PATIENTS = {
    1: Case("digits, row by row", patient_1, lambda: _digits(255), 450, 0.7, trace=_by_step),
    2: Case(
        "digits, all at once",
        patient_2,
        lambda: _digits(flat=True),
        450,
        0.6,
        watched=("dense_1/bias", "dense_6/bias", "dense_11/bias", "dense_16/bias", "head/bias"),
        shown="dense_1",
    ),
    3: Case(
        "the next character",
        patient_3,
        _text,
        250,
        0.25,
        watched=("embed/embeddings", "head/kernel"),
        trace=_by_input,
        unknown_future=True,
    ),
    4: Case("the first of 24 symbols", patient_4, lambda: _recall(24), 600, 0.7, trace=_by_step),
    5: Case("digits, row by row", patient_5, _digits, 450, 0.7, trace=_by_step),
    6: Case(
        "the first of a few letters",
        patient_6,
        lambda: (_short_words(1_600, 0), _short_words(500, 1)),
        250,
        0.8,
        trace=_by_step,
    ),
    7: Case("two marks in their order", patient_7, lambda: _order(20, 3_200), 500, 0.8, trace=_by_step),
    8: Case("the first of 30 symbols", patient_8, lambda: _recall(30), 350, 0.7, trace=_by_step),
}

UNSEEN = {
    "far": Case("two marks in their order, fifty steps", None, lambda: _order(50, 9_600), 300, 0.8, budget=1_600_000),
    "ahead": Case(
        "at each step, the next mark to come",
        None,
        lambda: (_next_mark(3_200, 0), _next_mark(500, 1)),
        300,
        0.95,
        budget=600_000,
    ),
    "sums": Case(
        "at each step, the sum of all sums so far, modulo 3",
        None,
        lambda: (_sum_of_sums(12_800, 0), _sum_of_sums(500, 1)),
        400,
        0.9,
        budget=2_000_000,
    ),
}
CASES = PATIENTS | UNSEEN


# --- training and scoring -------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def data(name):
    """Return ((x, y), (x_test, y_test)) of a case: the training set, and the one that cures are scored on."""
    return CASES[name].sets()


def updates(name, model):
    """Return how many training steps a model gets: all of them, or as many as the budget pays for."""
    case = CASES[name]
    return min(case.updates, case.budget // model.count_params()) if case.budget else case.updates


def _train(model, name, seed, callbacks=()):
    (x, y), _ = data(name)
    draw, wanted = np.random.default_rng(seed), BATCH * updates(name, model)
    rows = np.concatenate([draw.permutation(len(x)) for _ in range(-(-wanted // len(x)))])[:wanted]
    model.fit(x[rows], y[rows], batch_size=BATCH, shuffle=False, verbose=0, callbacks=list(callbacks))


def _answers(model, x):
    return model.predict(x, batch_size=len(x), verbose=0).argmax(axis=-1)


def accuracy(name, model):
    """Return the part of the test set's answers that a model gets right."""
    x, y = data(name)[1]
    if not CASES[name].unknown_future:
        return float((_answers(model, x) == y).mean())
    draw, row = np.random.default_rng(0), np.arange(len(x))
    now = draw.integers(0, x.shape[1], size=len(x))
    known = np.where(np.arange(x.shape[1]) <= now[:, None], x, x[draw.permutation(row)])
    return float((_answers(model, known) == y)[row, now].mean())


def trial(seed, name, make):
    """Train one model of a case and score it: {"accuracy": ..., "finite": ...}. For `rnnkit.sweeps.sweep`."""
    model = make(seed)
    _train(model, name, seed)
    finite = all(np.isfinite(weight).all() for weight in model.get_weights())
    return {"accuracy": accuracy(name, model), "finite": finite}


class _Losses(keras.callbacks.Callback):
    """Keep the loss of each batch; what Keras hands over is the mean so far."""

    def on_train_begin(self, logs=None):
        self.means = []

    def on_train_batch_end(self, batch, logs=None):
        self.means.append(float(logs["loss"]))

    @property
    def losses(self):
        count = np.arange(1, len(self.means) + 1)
        return np.diff(count * np.asarray(self.means), prepend=0.0)


def chart(seed, name):
    """Train a patient as it is and record it. For `rnnkit.sweeps.sweep`: arrays of one size, filled up with NaN.

    Args:
        seed: of the initial weights and the batches.
        name: number of the patient.

    Returns:
        dict: `loss` (updates,); `norms` and `used` (weights, updates), the norms of the gradients before clipping and
        after; `trace` (steps,); `saturated`, the fraction of outputs of the layer shown that are within 0.01 of -1 or
        1; `plain` and `accuracy`, on the test set, as trained and with the future unknown.
    """
    case = CASES[name]
    (x, y), (x_test, y_test) = data(name)
    model = case.make(seed)
    trace = case.trace(model, x, y) if case.trace else []
    outputs = keras.Model(model.inputs[0], model.get_layer(case.shown).output)(x[:64])
    saturated = np.mean(np.abs(keras.ops.convert_to_numpy(outputs)) > 0.99)
    recorder, losses = recorders.GradientRecorder(), _Losses()
    _train(model, name, seed, [recorder, losses])
    longest = max(case.updates for case in PATIENTS.values())
    plain = float((_answers(model, x_test) == y_test).mean())
    return {
        "loss": _filled(losses.losses, longest),
        "norms": _filled([recorder.history[weight] for weight in case.watched], _CURVES, longest),
        "used": _filled([recorder.clipped[weight] for weight in case.watched], _CURVES, longest),
        "trace": _filled(trace, _STEPS),
        "saturated": saturated,
        "plain": plain,
        "accuracy": accuracy(name, model) if case.unknown_future else plain,
    }


def _filled(values, *shape):
    whole = np.full(shape, np.nan)
    values = np.asarray(values, dtype=float)
    if values.size:
        whole[tuple(slice(size) for size in values.shape)] = values
    return whole


# --- is it still the patient? -----------------------------------------------------------------------------------------


def unchanged(number, model):
    """Return whether a model is the patient as it came in, by whatever names: it answers alike, and steps alike.

    Args:
        number: of the patient.
        model: a compiled model.
    """
    patient = PATIENTS[number].make(0)
    shapes = [weight.shape for weight in patient.get_weights()]
    if [weight.shape for weight in model.get_weights()] != shapes or _optimizer(model) != _optimizer(patient):
        return False
    if len(model.trainable_weights) != len(patient.trainable_weights) or _starts(model) != _starts(patient):
        return False
    patient.set_weights(model.get_weights())
    x = data(number)[0][0][:8]
    for training in (False, True):  # dropout shows in training alone
        answers = [keras.ops.convert_to_numpy(each(x, training=training)) for each in (model, patient)]
        if answers[0].shape != answers[1].shape or not np.allclose(*answers, rtol=1e-4, atol=1e-6):
            return False
    return True


def _optimizer(model):
    config = model.optimizer.get_config() | {"name": "", "loss_scale_factor": None}
    return json.dumps(config, sort_keys=True, default=str)


def _starts(model):
    """Return how the weights of each layer start, as its configuration says it."""

    def found(config):
        if isinstance(config, (list, tuple)):
            return [start for part in config for start in found(part)]
        if not isinstance(config, dict):
            return []
        if "initializers" in str(config.get("module")):
            return [f"{config['class_name']} { ({**config['config'], 'seed': None}) }"]
        flags = [f"{key} {value}" for key, value in sorted(config.items()) if key in ("use_bias", "unit_forget_bias")]
        return flags + found([config[key] for key in sorted(config)])

    layers = [layer for layer in model.layers if layer.weights]
    return [found(layer.get_config()) for layer in layers]
