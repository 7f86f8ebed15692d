"""Recorders under all that `fit` offers: the run ends as an unrecorded one, and the norms are those of its steps.

What a gradient was is found out by one step of plain gradient descent from the same weights on the same batch.
"""

import functools
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from fast import EAGER, FAST, slow_but
from slow_reference import numpy
from training import Stops, Weights, clip_each, clip_together

import rnnkit

LENGTH, FEATURES, BATCH, EXAMPLES = 5, 2, 4, 16
STEPS = EXAMPLES // BATCH
KEYS = ["rnn/kernel", "rnn/recurrent_kernel", "rnn/bias", "head/kernel", "head/bias"]
BACKEND = keras.backend.backend()
layers, ops, optimizers = keras.layers, keras.ops, keras.optimizers


def data(classes=False):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(EXAMPLES, LENGTH, FEATURES)).astype("float32")
    y = draw.normal(size=(EXAMPLES, 1)).astype("float32")
    return x, (y > 0).astype("float32") if classes else y


def build(optimizer=None, model=keras.Model, cell=layers.GRU, dropout=0.0, **compiling):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((LENGTH, FEATURES))
    hidden = cell(4, dropout=dropout, recurrent_dropout=dropout, name="rnn")(inputs)
    if dropout:
        hidden = layers.Dropout(dropout)(hidden)
    outputs = layers.Dense(1, name="head")(hidden)
    made = model(inputs, outputs)
    made.compile(optimizer or optimizers.SGD(0.1), **({"loss": "mse"} | FAST | compiling))
    return made


def fit(model, *callbacks, epochs=1, **options):
    x, y = data()
    options = {"x": x, "y": y, "batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    if not isinstance(options["x"], np.ndarray):
        options.pop("y"), options.pop("batch_size")
    return model.fit(epochs=epochs, callbacks=list(callbacks), **options).history


@functools.cache
def plain_descent(loss):
    """A model that moves by its gradient alone: one for all tests, for each sets its weights."""
    return build(optimizers.SGD(1.0), loss=loss, **EAGER)


def gradients_at(weights, batches, loss="mse"):
    """Return each step's gradients, from one step of plain gradient descent at the given weights."""
    model, found = plain_descent(loss), []
    for before, batch in zip(weights, batches, strict=True):
        for variable, value in zip(model.trainable_variables, before, strict=True):
            variable.assign(value)
        model.train_on_batch(*batch)
        found.append([old - new for old, new in zip(before, numpy(model.trainable_variables), strict=True)])
    return found


def batches(*arrays, epochs=1):
    return [[array[start : start + BATCH] for array in arrays] for start in range(0, EXAMPLES, BATCH)] * epochs


def assert_norms(recorded, gradients, rtol=1e-4, atol=1e-6):
    assert sorted(recorded) == sorted(KEYS)
    for place, key in enumerate(KEYS):
        expected = [np.linalg.norm(step[place]) for step in gradients]
        assert max(expected) > 1e-2
        np.testing.assert_allclose(recorded[key], expected, rtol=rtol, atol=atol, err_msg=key)


def end_of(model):
    """All that training leaves behind: numbers, attributes, and what the random streams will give next."""
    numbers = numpy([*model.variables, *model.optimizer.variables, *model.metrics_variables])
    numbers += [numpy(keras.random.normal((3,))), np.random.random(3)]  # noqa: NPY002 (the one that Keras shuffles by)
    held = [sorted(vars(layer)) for layer in model._flatten_layers()] + [sorted(vars(model.optimizer))]
    return numbers, held


def trained(make, *callbacks, **options):
    """Build and train from the same seeds; return the history and all else that is left behind."""
    model = make()
    history = fit(model, *callbacks, **options)
    return history, *end_of(model)


def assert_same_end(plain, recorded):
    (history, numbers, held), (recorded_history, recorded_numbers, recorded_held) = plain, recorded
    np.testing.assert_equal(recorded_history, history)
    for expected, number in zip(numbers, recorded_numbers, strict=True):
        np.testing.assert_array_equal(expected, number)
    assert held == recorded_held


OPTIMIZERS = {
    "SGD": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "schedule": lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)),
    "Adam": lambda: optimizers.Adam(0.05, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.05, weight_decay=0.1),
    "Nadam": lambda: optimizers.Nadam(0.05),
    "Adamax": lambda: optimizers.Adamax(0.05),
    "Adagrad": lambda: optimizers.Adagrad(0.05),
    "Adadelta": lambda: optimizers.Adadelta(1.0),
    "RMSprop": lambda: optimizers.RMSprop(0.05, momentum=0.5, centered=True),
    "Lion": lambda: optimizers.Lion(0.01),
    "Ftrl": lambda: optimizers.Ftrl(0.05),
    "Lamb": lambda: optimizers.Lamb(0.05),
    "Adafactor": lambda: optimizers.Adafactor(0.05),
    "Muon": lambda: optimizers.Muon(0.05),
    "loss scaling": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.05), initial_scale=2.0**10),
    "loss scaled by hand": lambda: optimizers.Adam(0.05, loss_scale_factor=64.0),
    "moving average": lambda: optimizers.Adam(0.05, use_ema=True, ema_overwrite_frequency=2),
    "moving average, overwritten at the end": lambda: optimizers.Adam(0.05, use_ema=True),
    "weight decay": lambda: optimizers.SGD(0.1, weight_decay=0.1),
    "accumulation": lambda: optimizers.Adam(0.05, gradient_accumulation_steps=2),
    "accumulation, momentum, loss scaling": lambda: optimizers.LossScaleOptimizer(
        optimizers.SGD(0.05, momentum=0.9, gradient_accumulation_steps=2), initial_scale=2.0**10
    ),
}


# What more than one line of arithmetic stands between the gradients and the weights.
COMPILED = ["Adam", "Muon", "loss scaling", "moving average", "accumulation, momentum, loss scaling"]
# What differs from others in Keras's `update_step` alone, which comes after all that the recorder sees.
ALIKE = ["nesterov", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Lion", "Ftrl", "Lamb"]


def how_often(name, compiling):
    """Return the marks of an optimizer's case: every day it takes its steps eagerly."""
    if name in ALIKE or (compiling is FAST and name not in COMPILED):
        return pytest.mark.thorough
    return pytest.mark.slow if compiling is FAST else ()


@pytest.mark.parametrize(
    ("name", "compiling"),
    [
        pytest.param(
            name,
            compiling,
            marks=how_often(name, compiling),
            id=f"{name}-{'traced' if compiling is FAST else 'eager'}",
        )
        for name in OPTIMIZERS
        for compiling in ([FAST] if name in COMPILED or FAST == EAGER else [EAGER, FAST])
    ],
)
def test_every_optimizer_trains_as_without_a_recorder_and_shows_its_gradients(name, compiling):
    def make():
        return build(OPTIMIZERS[name](), **compiling)

    weights, recorder = Weights(), rnnkit.GradientRecorder()
    assert_same_end(trained(make, weights), trained(make, recorder))
    assert recorder.steps.tolist() == list(range(STEPS))
    assert_norms(recorder.history, gradients_at(weights.before, batches(*data())))


@pytest.mark.parametrize(
    ("setting", "clip"),
    [
        ({"clipnorm": 0.2}, lambda gradients: clip_each(gradients, 0.2)),
        ({"global_clipnorm": 0.3}, lambda gradients: clip_together(gradients, 0.3)),
        ({"clipvalue": 0.05}, lambda gradients: [np.clip(gradient, -0.05, 0.05) for gradient in gradients]),
    ],
    ids=["clipnorm", "global_clipnorm", "clipvalue"],
)
def test_clipping_by_an_optimizer_with_a_memory(setting, clip):
    def make():
        return build(optimizers.Adam(0.05, **setting), **EAGER)

    weights, recorder = Weights(), rnnkit.GradientRecorder()
    assert_same_end(trained(make, weights), trained(make, recorder))
    gradients = gradients_at(weights.before, batches(*data()))
    assert_norms(recorder.history, gradients)
    assert_norms(recorder.clipped, [clip(step) for step in gradients])


WAYS = {
    "as usual": {},
    "compiled": {"jit_compile": True, "cell": layers.SimpleRNN},  # XLA takes longer over a GRU
    "eagerly": {"run_eagerly": True},
    "several steps at once": {"steps_per_execution": 3},
}


@pytest.mark.parametrize("way", slow_but(["eagerly"], WAYS))
def test_dropout_metrics_and_random_streams_end_the_same(way):
    if way == "several steps at once" and BACKEND == "torch":
        pytest.skip("Keras takes one step at a time on torch")
    if way == "compiled" and BACKEND == "torch":
        pytest.skip("torch.compile takes minutes")

    def make():
        return build(optimizers.Adam(0.05), dropout=0.3, metrics=["mae"], **WAYS[way])

    recorders = rnnkit.GradientRecorder(), rnnkit.GradientRecorder(), rnnkit.StateGradientRecorder(*data(), every=2)
    epochs = 1 if way == "eagerly" else 2  # for time
    options = {"epochs": epochs, "shuffle": True, "validation_data": data()}
    assert_same_end(trained(make, **options), trained(make, *recorders, **options))
    assert recorders[0].steps.tolist() == list(range(epochs * STEPS))
    np.testing.assert_array_equal(recorders[0].global_norm, recorders[1].global_norm)


PROBES = {
    "state_gradients": lambda model: rnnkit.probes.state_gradients(model, *data()),
    "state_gradients in training": lambda model: rnnkit.probes.state_gradients(model, *data(), training=True),
    "state_jacobians": lambda model: rnnkit.probes.state_jacobians(model, data()[0][:3]),
}


@functools.cache
def trained_after(cell, probe=None):
    """Train with dropout, after a measurement or after none; return what `trained` does."""
    model = build(dropout=0.3, cell=cell)
    if probe:
        PROBES[probe](model)
    return fit(model), *end_of(model)


@pytest.mark.parametrize("cell", slow_but([layers.SimpleRNN], [layers.SimpleRNN, layers.GRU]))
@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_uses_up_no_random_numbers_and_leaves_no_dropout_mask(probe, cell):
    (history, numbers, _), (probed_history, probed_numbers, _) = trained_after(cell), trained_after(cell, probe)
    assert history == probed_history
    for expected, number in zip(numbers, probed_numbers, strict=True):
        np.testing.assert_array_equal(expected, number)


def test_a_refused_layer_trains_on():
    """It had drawn its dropout masks when it was refused."""
    convolutional = layers.ConvLSTM1D(2, 1, dropout=0.3, recurrent_dropout=0.3, name="rnn")
    reshape = layers.Reshape((LENGTH, FEATURES, 1))
    model = keras.Sequential(
        [keras.Input((LENGTH, FEATURES)), reshape, convolutional, layers.Flatten(), layers.Dense(1)]
    )
    model.compile("sgd", "mse", **FAST)
    x, y = data()
    with pytest.raises(
        ValueError, match=r"\(batch, time, features\)\. Received: layer 'rnn', whose input has the shape"
    ):
        rnnkit.probes.state_gradients(model, x, y, training=True)
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_shows_norms_in_true_units(policy):
    def make():
        return build(optimizers.SGD(0.1), **FAST)

    weights, recorder = Weights(), rnnkit.GradientRecorder()
    keras.config.set_dtype_policy(policy)
    try:
        plain, recorded = trained(make, weights), trained(make, recorder)
    finally:
        keras.config.set_dtype_policy("float32")
    assert_same_end(plain, recorded)
    seen = [weights.before[step] for step in recorder.steps]
    taken = [batches(*data())[step] for step in recorder.steps]
    assert_norms(recorder.history, gradients_at(seen, taken), rtol=0.1, atol=0.01)


@pytest.mark.parametrize("weighting", ["class_weight", "sample_weight"])
def test_weights_of_classes_and_examples_count(weighting):
    x, y = data(classes=True)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    by_example = np.where(y[:, 0] > 0, 5.0, 0.5).astype("float32")
    given = {"class_weight": {0: 0.5, 1: 5.0}} if weighting == "class_weight" else {"sample_weight": by_example}

    def make():
        return build(loss=keras.losses.BinaryCrossentropy(from_logits=True), **EAGER)

    weights, recorder = Weights(), rnnkit.GradientRecorder()
    assert_same_end(trained(make, weights, y=y, **given), trained(make, recorder, y=y, **given))
    assert_norms(recorder.history, gradients_at(weights.before, batches(x, y, by_example), loss=loss))


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return STEPS

    def __getitem__(self, place):
        return tuple(batches(*data())[place])


def generator():
    while True:
        yield from map(tuple, batches(*data()))


def pipeline():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(data()).batch(BATCH)


@pytest.mark.parametrize(("source", "compiling"), [(Batches, EAGER), (generator, FAST), (pipeline, EAGER)])
def test_every_kind_of_input(source, compiling):
    def make():
        return build(**compiling)

    weights, recorder = Weights(), rnnkit.GradientRecorder()
    options = {"steps_per_epoch": STEPS, "epochs": 2}
    plain, recorded = (trained(make, callback, x=source(), **options) for callback in (weights, recorder))
    assert_same_end(plain, recorded)
    assert_norms(recorder.history, gradients_at(weights.before, batches(*data(), epochs=2)))


class Doubled(keras.Model):
    """A model with a training step of its own: it minimises twice the loss."""

    if BACKEND == "tensorflow":

        def train_step(self, data):
            import tensorflow as tf

            x, y = data
            with tf.GradientTape() as tape:
                loss = 2 * self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            self._loss_tracker.update_state(loss)
            return {"loss": self._loss_tracker.result()}

    elif BACKEND == "jax":

        def train_step(self, state, data):
            import jax

            trainable, others, optimizer, metrics = state
            x, y = data

            def doubled(trainable, others):
                prediction, others = self.stateless_call(trainable, others, x, training=True)
                return 2 * self.compute_loss(x, y, prediction), others

            (loss, others), gradients = jax.value_and_grad(doubled, has_aux=True)(trainable, others)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
            return {"loss": loss}, (trainable, others, optimizer, metrics)

    else:

        def train_step(self, data):
            import torch

            x, y = data
            self.zero_grad()
            loss = 2 * self.compute_loss(x, y, self(x, training=True))
            loss.backward()
            variables = list(self.trainable_weights)
            with torch.no_grad():
                self.optimizer.apply([variable.value.grad for variable in variables], variables)
            return {"loss": loss}


def test_a_training_step_of_ones_own():
    def make():
        return build(model=Doubled)

    weights, recorder = Weights(), rnnkit.GradientRecorder()
    assert_same_end(trained(make, weights), trained(make, recorder))
    gradients = gradients_at(weights.before, batches(*data()))
    assert_norms(recorder.history, [[2 * gradient for gradient in step] for step in gradients])


@pytest.mark.slow
def test_frozen_between_two_fits_and_thawed_for_a_third():
    def train(callbacks):
        model = build()
        for trainable in (True, False, True):
            model.get_layer("rnn").trainable = trainable
            model.compile(optimizers.SGD(0.1), "mse", **FAST)
            fit(model, *callbacks)
            yield model

    recorder, weights = rnnkit.GradientRecorder(), Weights()
    *_, plain = train([weights])
    told = [(len(recorder.history), model) for model in train([recorder])]
    assert [weights for weights, _ in told] == [5, 2, 5]
    recorded = told[-1][1]
    for expected, weight in zip(plain.get_weights(), recorded.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, weight)
    assert_norms(recorder.history, gradients_at(weights.before, batches(*data())))


@pytest.mark.parametrize(("factor", "found"), [(np.nan, np.isnan), (1e30, np.isinf)], ids=["NaN", "infinite"])
def test_a_gradient_that_is_not_finite(factor, found):
    """The loss of the second batch is NaN, or its gradient 1e60 times too large for the numbers there are."""
    wrong = np.ones(EXAMPLES, "float32")
    wrong[BATCH] = factor

    def make():
        return build(loss=lambda y, prediction: ops.mean(prediction, axis=-1) * y[:, 0] * y[:, 0], **EAGER)

    recorder = rnnkit.GradientRecorder()
    assert_same_end(trained(make, y=wrong[:, None]), trained(make, recorder, y=wrong[:, None]))
    assert found(recorder.history["head/bias"]).tolist()[:2] == [False, True]
    assert recorder.steps.tolist() == list(range(STEPS))


def entries(path):
    """Return name and size of all that a .keras or .h5 file holds; the archive itself stores times."""
    import h5py

    found = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".h5"):
                with archive.open(entry) as stored, h5py.File(stored) as file:
                    file.visititems(lambda name, item: found.update({name: getattr(item, "shape", None)}))
            elif entry.filename == "config.json":
                found[entry.filename] = len(archive.read(entry))
            else:
                found[entry.filename] = None
    return found


@pytest.mark.slow
def test_files_of_a_recorded_run_hold_what_others_hold_and_load_without_rnnkit(tmp_path):
    for name in ("plain", "recorded"):
        keras.backend.clear_session()  # names of layers start anew
        recorders = [rnnkit.GradientRecorder(), rnnkit.StateGradientRecorder(*data())] if name == "recorded" else []
        model = build(optimizers.Adam(0.05, use_ema=True))
        fit(model, *recorders, keras.callbacks.ModelCheckpoint(tmp_path / f"{name}_check.keras"))
        model.save(tmp_path / f"{name}.keras")
    for which in ("", "_check"):
        plain, recorded = (entries(tmp_path / f"{name}{which}.keras") for name in ("plain", "recorded"))
        assert plain == recorded
        assert any("optimizer" in name for name in plain)
    sizes = {(tmp_path / f"{name}.keras").stat().st_size for name in ("plain", "recorded")}
    assert max(sizes) - min(sizes) < 16
    program = """
import sys, keras
model = keras.models.load_model(sys.argv[1])
assert not any(name.startswith("rnnkit") for name in sys.modules)
print(int(model.optimizer.iterations))
"""
    command = [sys.executable, "-c", program, tmp_path / "recorded.keras"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=False)
    assert loaded.stdout.strip() == str(STEPS), loaded.stderr


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_stopped_run_goes_on_from_its_backup_without_a_recorder(tmp_path, error):
    recorder = rnnkit.GradientRecorder()
    backup = keras.callbacks.BackupAndRestore(tmp_path, save_freq=2)
    with pytest.raises(error, match="stopped here"):
        fit(build(optimizers.Adam(0.05), **EAGER), backup, recorder, Stops(error, at=2), epochs=2)
    assert recorder.steps.tolist() == [0, 1, 2]
    assert list(tmp_path.rglob("*.h5"))
    resumed = build(optimizers.Adam(0.05), **EAGER)
    fit(resumed, keras.callbacks.BackupAndRestore(tmp_path, save_freq=2), epochs=2)
    assert int(numpy(resumed.optimizer.iterations)) > STEPS


@pytest.mark.parametrize(
    ("error", "compiling"), [pytest.param(RuntimeError, FAST, marks=pytest.mark.slow), (KeyboardInterrupt, EAGER)]
)
def test_nothing_remains_after_a_stop_and_what_was_recorded_is_there(error, compiling):
    def stopped(*callbacks):
        model = build(optimizers.Adam(0.05), dropout=0.3, **compiling)
        with pytest.raises(error, match="stopped here"):
            fit(model, *callbacks, Stops(error, at=2))
        return {}, *end_of(model)

    recorder, flow = rnnkit.GradientRecorder(), rnnkit.StateGradientRecorder(*data(), every=2)
    assert_same_end(stopped(), stopped(recorder, flow))
    assert recorder.steps.tolist() == [0, 1, 2]
    assert np.isfinite(recorder.global_norm).all()
    assert flow.history["rnn"].shape == (2, LENGTH)
