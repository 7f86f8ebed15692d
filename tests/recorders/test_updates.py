"""One row for each update that was made, and no other; what is called clipped is what the optimizer applied."""

import keras
import numpy as np
import pytest
from fast import EAGER, FAST
from slow_reference import numpy

import rnnkit

BACKEND = keras.backend.backend()
LENGTH, BATCH, EXAMPLES = 4, 4, 22  # the last batch is a smaller one
STEPS = -(-EXAMPLES // BATCH)
layers, ops, optimizers = keras.layers, keras.ops, keras.optimizers
COMPILING = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "compiled": {"jit_compile": True},
    "several steps at once": {"steps_per_execution": 4, "jit_compile": BACKEND == "jax"},
}


def skip_what_keras_cannot(way):
    if BACKEND == "torch" and way != "eager":
        pytest.skip("Keras on torch runs one step at a time; torch.compile is tried by hand")
    if BACKEND == "jax" and way == "graph":
        pytest.skip("on JAX a step that is not compiled runs eagerly")


def data():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(EXAMPLES, LENGTH, 2)).astype("float32")
    return x, draw.normal(size=(EXAMPLES, 1)).astype("float32")


def build(optimizer=None, **compiling):
    keras.utils.set_random_seed(2)
    inputs = keras.Input((None, 2))
    outputs = layers.Dense(1, name="head")(layers.SimpleRNN(3, name="rnn")(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(optimizer or optimizers.Adam(0.01), "mse", **(FAST | compiling))
    return model


# --- data of unknown size ----------------------------------------------------------------------------------------


def batches():
    x, y = data()
    for start in range(0, EXAMPLES, BATCH):
        yield x[start : start + BATCH], y[start : start + BATCH]


def filtered():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(data()).filter(lambda x, y: tf.reduce_sum(x) < 1e9).batch(BATCH)


def from_generator():
    tf = pytest.importorskip("tensorflow")
    signature = tf.TensorSpec((None, LENGTH, 2)), tf.TensorSpec((None, 1))
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


SOURCES = {"a generator": batches, "filter": filtered, "from_generator": from_generator}
OUT_OF_DATA = pytest.mark.filterwarnings("ignore:Your input ran out of data", "ignore:`shuffle=True` was passed")


@OUT_OF_DATA
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", COMPILING)
def test_data_that_ends_when_it_ends_has_a_row_for_each_batch(way, source):
    skip_what_keras_cannot(way)
    if source != "filter" and way in ("graph", "compiled"):
        pytest.skip("as for the others: what differs is how the data ends")
    epochs = 1 if source == "a generator" else 3
    plain, recorded = build(**COMPILING[way]), build(**COMPILING[way])
    recorder, states = rnnkit.GradientRecorder(stop_on_nonfinite=True), rnnkit.StateGradientRecorder(every=1)
    losses = plain.fit(SOURCES[source](), epochs=epochs, verbose=0).history
    callbacks = [recorder, states] if BACKEND == "tensorflow" and way != "compiled" else [recorder]
    assert recorded.fit(SOURCES[source](), epochs=epochs, verbose=0, callbacks=callbacks).history == losses
    assert recorder.steps.tolist() == list(range(epochs * STEPS))
    assert recorder.nonfinite is None
    if states in callbacks:
        assert states.steps.tolist() == list(range(epochs * STEPS))
    for expected, weight in zip(numpy(plain.weights), numpy(recorded.weights), strict=True):
        np.testing.assert_array_equal(expected, weight)


@OUT_OF_DATA
@pytest.mark.tensorflow
def test_buckets_of_sequences_of_one_length_each():
    import tensorflow as tf

    x, y = data()
    lengths = np.random.default_rng(1).integers(1, LENGTH + 1, EXAMPLES)

    def sequences():
        for one, target, length in zip(x, y, lengths, strict=True):
            yield one[:length], target

    def buckets():
        signature = tf.TensorSpec((None, 2)), tf.TensorSpec((1,))
        return tf.data.Dataset.from_generator(sequences, output_signature=signature).bucket_by_sequence_length(
            lambda one, target: tf.shape(one)[0], bucket_boundaries=[2, 3, 4], bucket_batch_sizes=[BATCH] * 4
        )

    size, recorder = len(list(buckets())), rnnkit.GradientRecorder()
    build().fit(buckets(), epochs=2, verbose=0, callbacks=[recorder])
    assert recorder.steps.tolist() == list(range(2 * size))
    assert np.isfinite(recorder.global_norm).all()


@OUT_OF_DATA
def test_many_more_steps_than_the_buffer_holds():
    def many():
        for _ in range(120):
            yield from batches()

    recorder = rnnkit.GradientRecorder()
    build(optimizers.SGD(0.0)).fit(many(), verbose=0, callbacks=[recorder])
    assert recorder.steps.tolist() == list(range(120 * STEPS))
    np.testing.assert_array_equal(recorder.global_norm, np.tile(recorder.global_norm[:STEPS], 120))


# --- what a callback does in the middle --------------------------------------------------------------------------


class AtStep(keras.callbacks.Callback):
    """Do something to the model before a step, once."""

    def __init__(self, what, step, epoch_begin=False):
        super().__init__()
        self.what, self.step, self.count = what, step, 0
        self.epoch_begin = epoch_begin

    def maybe(self):
        if self.count == self.step:
            self.what(self.model)
        self.count += 1

    def on_epoch_begin(self, epoch, logs=None):
        if self.epoch_begin:
            self.maybe()

    def on_train_batch_begin(self, batch, logs=None):
        if not self.epoch_begin:
            self.maybe()


def compile_anew(model, optimizer):
    model.compile(optimizer, "mse", **FAST)
    optimizer.build(model.trainable_variables)  # while fit runs, Keras on JAX leaves that to the caller
    model.make_train_function()


def thaw(model):
    model.get_layer("rnn").trainable = True
    compile_anew(model, optimizers.SGD(0.5))


def freeze(model):
    model.get_layer("head").trainable = False
    compile_anew(model, optimizers.SGD(0.5, clipvalue=0.01))


def make_anew(model):
    model.make_train_function(force=True)


def swap_optimizer(model):
    model.optimizer = optimizers.SGD(0.01, clipnorm=0.01)
    model.optimizer.build(model.trainable_variables)


def slow_down(model):
    model.optimizer.learning_rate = 0.001


def scale_and_make_anew(model):
    model.get_layer("scaled").by = 3.0
    model.make_train_function(force=True)


def scale(model):
    model.get_layer("scaled").by = 3.0


class Scaled(layers.Layer):
    """A layer whose step reads a Python value."""

    by = 1.0

    def call(self, x):
        return x * self.by


def changing(what):
    keras.utils.set_random_seed(2)
    inputs = keras.Input((LENGTH, 2))
    hidden = Scaled(name="scaled")(layers.SimpleRNN(3, name="rnn")(inputs))
    model = keras.Model(inputs, layers.Dense(1, name="head")(hidden))
    model.get_layer("rnn").trainable = what is not thaw
    model.compile(optimizers.SGD(0.5), "mse", **FAST)
    return model


CHANGES = [thaw, freeze, make_anew, swap_optimizer, slow_down, scale, scale_and_make_anew]


ORDERS = ["before the recorder", "after the recorder", "as an epoch begins"]


@pytest.mark.parametrize(
    ("change", "order"),
    [
        pytest.param(
            change,
            order,
            marks=() if order == "after the recorder" or change in (thaw, make_anew) else pytest.mark.thorough,
            id=f"{change.__name__}-{order}",
        )
        for change in CHANGES
        for order in ORDERS
    ],
)
def test_what_a_callback_changes_changes_the_same_with_a_recorder(change, order):
    if BACKEND == "jax" and change is swap_optimizer:
        pytest.skip("Keras on JAX hands the other optimizer's state to the step of the first")
    if BACKEND == "jax" and change in (thaw, freeze) and order != "as an epoch begins":
        pytest.skip("Keras on JAX keeps the weights in another order while an epoch runs")
    at = (1, True) if order == "as an epoch begins" else (2, False)
    ends = []
    for recorders in ([], [rnnkit.GradientRecorder(), rnnkit.GradientRecorder(measures=["max"])]):
        model, changer = changing(change), AtStep(change, *at)
        x, y = data()
        callbacks = [changer, *recorders] if order == "before the recorder" else [*recorders, changer]
        history = model.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0, callbacks=callbacks).history
        ends.append((history, numpy(model.weights)))
    (plain_history, plain), (history, recorded) = ends
    assert history == plain_history
    for expected, weight in zip(plain, recorded, strict=True):
        np.testing.assert_array_equal(expected, weight)
    changed_at = STEPS if order == "as an epoch begins" else 2
    for recorder in recorders:
        assert recorder.steps.tolist() == list(range(2 * STEPS))
        finite = {name: np.isfinite(norms) for name, norms in recorder.history.items()}
        if change is thaw:
            assert finite["rnn/kernel"].tolist() == [False] * changed_at + [True] * (2 * STEPS - changed_at)
            assert finite["head/kernel"].all()
        elif change is freeze:
            assert finite["head/kernel"].tolist() == [True] * changed_at + [False] * (2 * STEPS - changed_at)
            assert finite["rnn/kernel"].all()
            left = np.array(list(recorder.clipped.values()))[:3]
            assert (left[:, :changed_at] > 0.03).any()
            assert (left[:, changed_at:] <= 0.01 * np.sqrt([[6], [9], [3]]) + 1e-6).all()
        else:
            assert all(each.all() for each in finite.values())


# --- what is called clipped --------------------------------------------------------------------------------------

RULES = {
    "none": {},
    "clipnorm": {"clipnorm": 0.05},
    "global_clipnorm": {"global_clipnorm": 0.1},
    "clipvalue": {"clipvalue": 0.01},
}


def words(optimizer, **compiling):
    """A model whose weights are zero, so that a step of plain descent is to be seen without rounding."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12,))
    read = layers.Dense(1, trainable=False, use_bias=False, name="fixed")
    hidden = layers.GlobalAveragePooling1D()(
        layers.Embedding(5, 4, embeddings_initializer="zeros", name="words")(inputs)
    )
    outputs = layers.Add()([read(hidden), layers.Dense(1, kernel_initializer="zeros", name="head")(ops.sin(inputs))])
    model = keras.Model(inputs, outputs)
    model.compile(optimizer, "mse", **(FAST | compiling))
    return model, np.random.default_rng(0).integers(0, 5, (16, 12)), np.random.default_rng(1).normal(size=(16, 1))


def assert_step_taken(recorder, before, after, rate=1.0):
    """Compare what is called clipped with the first step of plain descent."""
    moved = [np.linalg.norm(new - old) / rate for old, new in zip(before, after, strict=True)]
    assert min(moved) > 1e-3
    np.testing.assert_allclose([norms[0] for norms in recorder.clipped.values()], moved, rtol=1e-5)
    np.testing.assert_allclose(recorder.clipped_global_norm[0], np.linalg.norm(moved), rtol=1e-5)


class Lookahead(optimizers.Optimizer):
    """An optimizer that has another one make its updates."""

    def __init__(self, inner):
        super().__init__(learning_rate=0.0)
        self.inner = inner

    def build(self, variables):
        super().build(variables)
        self.inner.build(variables)

    @property
    def variables(self):
        return self._variables + self.inner.variables

    def apply(self, grads, trainable_variables=None):
        self.inner.apply(grads, trainable_variables)
        self._iterations.assign_add(1)


WRAPPED = {
    "plain": lambda **rule: optimizers.SGD(1.0, **rule),
    "loss scaling": lambda **rule: optimizers.LossScaleOptimizer(optimizers.SGD(1.0, **rule), initial_scale=8.0),
    "several": lambda **rule: optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD(1.0, **rule))),
    "lookahead": lambda **rule: Lookahead(optimizers.SGD(1.0, **rule)),
    "accumulation": lambda **rule: optimizers.SGD(1.0, gradient_accumulation_steps=2, **rule),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("rule", RULES)
def test_clipped_is_what_plain_descent_takes_from_the_weights(rule, wrapped):
    model, x, y = words(WRAPPED[wrapped](**RULES[rule]), **(FAST if wrapped in ("plain", "accumulation") else EAGER))
    before, recorder = numpy(model.trainable_variables), rnnkit.GradientRecorder()
    steps = 2 if wrapped == "accumulation" else 1
    model.fit(np.tile(x, (steps, 1)), np.tile(y, (steps, 1)), batch_size=16, verbose=0, callbacks=[recorder])
    if wrapped == "accumulation":
        assert np.isnan(recorder.clipped["words/embeddings"][0])
        recorder = recorder.recording.since(1)
    assert_step_taken(recorder, before, numpy(model.trainable_variables))
    if rule == "none":
        assert recorder.clip_angle[0] == pytest.approx(0, abs=0.05)


class Named(optimizers.SGD):
    """A subclass that leaves to Keras what becomes of the gradients."""


@pytest.mark.tensorflow
@pytest.mark.parametrize("rule", ["clipnorm", "global_clipnorm"])
def test_reading_what_was_clipped_does_not_change_how_tensorflow_rounds(rule):
    """If anybody reads a clipped gradient, TensorFlow no longer merges its factor with the learning rate."""
    for make in (lambda: Named(0.3, **RULES[rule]), lambda: optimizers.SGD(0.3, **RULES[rule])):
        ends = []
        for callbacks in ([], [rnnkit.GradientRecorder()]):
            model, x, y = words(make(), jit_compile=False)
            model.fit(x, y, batch_size=4, epochs=6, shuffle=False, verbose=0, callbacks=callbacks)
            ends.append(numpy(model.weights))
        for expected, weight in zip(*ends, strict=True):
            np.testing.assert_array_equal(expected, weight)


class Direct(optimizers.SGD):
    """An optimizer that goes its own way from the first method that `fit` calls."""

    def _go(self, gradients, variables):
        for gradient, variable in zip(gradients, variables, strict=True):
            variable.assign(variable - 0.1 * ops.convert_to_tensor(gradient))

    def apply_gradients(self, grads_and_vars):
        self._go(*zip(*grads_and_vars, strict=True))

    def apply(self, grads, trainable_variables=None):
        self._go(grads, trainable_variables or self._trainable_variables)


class Centered(optimizers.SGD):
    """An optimizer that changes the gradients before it clips them."""

    def apply(self, grads, trainable_variables=None):
        return super().apply([gradient - ops.mean(gradient) for gradient in grads], trainable_variables)


class Adaptive(optimizers.SGD):
    """An optimizer whose clipping remembers something: doing it twice would change what is trained."""

    def build(self, variables):
        super().build(variables)
        self.largest = self.add_variable((), name="largest")

    def _clip_gradients(self, grads):
        total = ops.sqrt(sum(ops.sum(ops.square(gradient)) for gradient in grads))
        self.largest.assign(self.largest + total)
        return [gradient / (1.0 + self.largest) for gradient in grads]


def once(optimizer, **compiling):
    model, recorder, (x, y) = build(optimizer, **compiling), rnnkit.GradientRecorder(), data()
    before = numpy(model.trainable_variables)
    model.fit(x, y, batch_size=EXAMPLES, verbose=0, callbacks=[recorder])
    return before, numpy(model.trainable_variables), recorder


def true_gradients():
    before, after, _ = once(optimizers.SGD(1.0))
    return [np.linalg.norm(new - old) for old, new in zip(before, after, strict=True)]


@pytest.mark.parametrize("compiling", [EAGER, FAST], ids=["eager", "traced"])
def test_a_custom_optimizer_shows_the_gradients_that_it_is_handed(compiling):
    for make in (lambda: Direct(0.1), lambda: Centered(1.0), lambda: Adaptive(1.0)):
        before, after, recorder = once(make(), **compiling)
        np.testing.assert_allclose([norms[0] for norms in recorder.history.values()], true_gradients(), rtol=1e-4)
        moved = [np.linalg.norm(new - old) for old, new in zip(before, after, strict=True)]
        clipped = [norms[0] for norms in recorder.clipped.values()]
        if isinstance(make(), Direct):  # what it has used, it alone knows
            assert np.isnan([*clipped, recorder.clipped_global_norm[0], recorder.clip_angle[0]]).all()
        else:
            np.testing.assert_allclose(clipped, moved, rtol=1e-3, atol=1e-6)


def test_clipping_that_remembers_is_done_once():
    ends = []
    for callbacks in ([], [rnnkit.GradientRecorder()]):
        model, (x, y) = build(Adaptive(0.5)), data()
        model.fit(x, y, batch_size=BATCH, shuffle=False, epochs=2, verbose=0, callbacks=callbacks)
        ends.append(numpy([*model.weights, *model.optimizer.variables]))
    for expected, number in zip(*ends, strict=True):
        np.testing.assert_array_equal(expected, number)


class ByHand(optimizers.SGD):
    """An optimizer that clips in a branch of the graph, where no other tensor may go."""

    def apply(self, grads, trainable_variables=None):
        variables = trainable_variables or self._trainable_variables
        self._iterations.assign_add(1)
        even = ops.equal(ops.convert_to_tensor(self._iterations) % 2, 0)
        change = ops.cond(
            even, lambda: self._clip_gradients(grads), lambda: [ops.zeros_like(gradient) for gradient in grads]
        )
        for variable, part in zip(variables, change, strict=True):
            variable.assign(variable - 0.1 * part)


def test_clipping_in_a_branch_is_unknown_and_training_is_the_same():
    ends = []
    recorder = rnnkit.GradientRecorder()
    for callbacks in ([], [recorder]):
        model, (x, y) = build(ByHand(0.1, clipnorm=0.1)), data()
        model.fit(x, y, batch_size=BATCH, shuffle=False, epochs=2, verbose=0, callbacks=callbacks)
        ends.append(numpy(model.weights))
    for expected, weight in zip(*ends, strict=True):
        np.testing.assert_array_equal(expected, weight)
    assert np.isfinite(recorder.history["rnn/kernel"]).all()
    if BACKEND != "torch":
        assert np.isnan(recorder.clipped["rnn/kernel"]).all()


@pytest.mark.filterwarnings("ignore")
def test_what_keras_overwrites_with_a_gradient_is_no_gradient():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4, 2)), layers.LSTM(8, name="rnn"), layers.Dense(4, name="head")])
    model.get_layer("head").quantize("float8")
    model.compile(optimizers.SGD(1.0, global_clipnorm=0.2), "mse", **FAST)
    x, y = data()[0], np.random.default_rng(3).normal(size=(EXAMPLES, 4))
    before, recorder = numpy(model.get_layer("rnn").variables[:3]), rnnkit.GradientRecorder()
    model.fit(x, y, batch_size=EXAMPLES, verbose=0, callbacks=[recorder])
    assert list(recorder.history) == ["rnn/kernel", "rnn/recurrent_kernel", "rnn/bias", "head/kernel", "head/bias"]
    moved = [
        np.linalg.norm(new - old) for old, new in zip(before, numpy(model.get_layer("rnn").variables), strict=False)
    ]
    np.testing.assert_allclose([norms[0] for norms in recorder.clipped.values()][:3], moved, rtol=1e-4)
    np.testing.assert_allclose(recorder.clipped_global_norm, [0.2], rtol=1e-5)
