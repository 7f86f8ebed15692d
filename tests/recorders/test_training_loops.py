"""Every loop that docs/training-loops.md names: its code runs, and what it records is what the weights did.

What a gradient was is told by plain gradient descent at a rate of 1: the change of the weights, and nothing else.
"""

import copy
import gc
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from fast import EAGER, FAST
from slow_reference import numpy

import rnnkit

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training-loops.md"
BACKEND = keras.backend.backend()
BATCHES, BATCH, LENGTH = 4, 8, 5
layers, ops = keras.layers, keras.ops


def data(seed=0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(BATCHES * BATCH, LENGTH, 2)).astype("float32")
    return x, draw.normal(size=(BATCHES * BATCH, 1)).astype("float32")


def batches():
    x, y = data()
    return [(x[start : start + BATCH], y[start : start + BATCH]) for start in range(0, len(x), BATCH)]


def build(optimizer=None, model=keras.Model, **compiling):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((LENGTH, 2))
    made = model(inputs, layers.Dense(1, name="head")(layers.SimpleRNN(3, name="rnn")(inputs)))
    made.compile(optimizer or keras.optimizers.SGD(1.0), "mse", **(FAST | compiling))
    return made


def ours_on(*owners):
    """What rnnkit has put on models and optimizers: nothing, once they are let go of."""
    values = [value for owner in owners for value in vars(owner).values()]
    return [value for value in values if "rnnkit" in (getattr(value, "__module__", None) or type(value).__module__)]


class Moves:
    """The weights of a model after each update, and the norms of what each update changed."""

    def __init__(self, model):
        self.model, self.seen = model, [numpy(model.trainable_variables)]

    def note(self):
        self.seen.append(numpy(self.model.trainable_variables))

    def norms(self):
        pairs = zip(self.seen, self.seen[1:], strict=False)
        return [[np.linalg.norm(new - old) for old, new in zip(*pair, strict=True)] for pair in pairs]


def assert_recorded(recorded, norms):
    """Compare what was recorded, `{weight: (steps,)}`, with the norms of each step's changes."""
    assert len(norms) == len(next(iter(recorded.values())))
    np.testing.assert_allclose(np.transpose(list(recorded.values())), norms, rtol=1e-3, atol=1e-6)


# --- the page ----------------------------------------------------------------------------------------------------


def blocks():
    """The page's pieces of code: their language, and what stands in them."""
    return re.findall(r"^```python ?(\w*)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("backend", "code"), [block for block in blocks() if block[0] in ("", BACKEND)])
def test_the_code_on_the_page_records_every_update(backend, code):
    x, y = data()
    names = {"keras": keras, "rnnkit": rnnkit, "copy": copy, "x": x, "y": y, "batches": batches(), "model": build()}
    if backend == "tensorflow":
        import tensorflow

        names["tf"] = tensorflow
    if backend == "jax":
        import jax

        names["jax"] = jax
    if backend == "torch":
        import torch

        names["torch"] = torch
    exec(code, names)
    recorder = names["recorder"] if not names["recorder"].copies else names["recorder"].copies[0]
    count = BATCHES if not names["recorder"].copies else 1
    assert recorder.steps.tolist() == list(range(count))
    assert all(np.isfinite(norms).all() and norms.min() > 0 for norms in recorder.history.values())


def test_every_backend_has_code_on_the_page():
    assert {language for language, _ in blocks()} == {"", "tensorflow", "jax", "torch"}


# --- loops that call Keras's own steps ---------------------------------------------------------------------------


def test_train_on_batch_with_a_list_of_callbacks():
    model, recorder = build(), rnnkit.GradientRecorder()
    moves = Moves(model)
    callbacks = keras.callbacks.CallbackList([recorder], model=model)
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for step, batch in enumerate(batches()):
            callbacks.on_train_batch_begin(step)
            callbacks.on_train_batch_end(step, model.train_on_batch(*batch, return_dict=True))
            moves.note()
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    assert_recorded(recorder.history, moves.norms())
    assert ours_on(model, model.optimizer) == []


def test_train_on_batch_in_a_block_leaves_the_model_its_own_train_function():
    model, recorder = build(), rnnkit.GradientRecorder()
    model.train_on_batch(*batches()[0])
    own = model.train_function
    moves = Moves(model)
    with recorder.attach(model) as attached:
        assert attached is recorder
        for batch in batches():
            model.train_on_batch(*batch)
            moves.note()
    assert_recorded(recorder.history, moves.norms())
    assert model.train_function is own
    assert ours_on(model, model.optimizer) == []
    model.train_on_batch(*batches()[0])
    assert len(recorder.steps) == BATCHES


@pytest.mark.filterwarnings("ignore:A gradient recorder sees")
def test_a_model_that_is_compiled_in_a_block_goes_on_as_compiled():
    model, recorder = build(), rnnkit.GradientRecorder()
    model.train_on_batch(*batches()[0])
    with recorder.attach(model):
        model.get_layer("rnn").trainable = False
        model.compile(keras.optimizers.SGD(1.0), "mse", **EAGER)
    before = numpy(model.get_layer("rnn").variables)
    model.train_on_batch(*batches()[0])
    for old, new in zip(before, numpy(model.get_layer("rnn").variables), strict=True):
        np.testing.assert_array_equal(old, new)


def steps_by_hand(model):
    """Call `model.train_step` on each batch, as the docstring of `keras.callbacks.Callback` does."""
    if BACKEND != "jax":
        for x, y in batches():
            yield model.train_step((ops.convert_to_tensor(x), ops.convert_to_tensor(y)))
        return
    model.optimizer.build(model.trainable_variables)
    parts = ("trainable_variables", "non_trainable_variables", "metrics_variables")
    for x, y in batches():
        model.evaluate(x, y, verbose=0)  # builds the metrics
        trainable, others, metrics = ([variable.value for variable in getattr(model, part)] for part in parts)
        optimizer = [variable.value for variable in model.optimizer.variables]
        logs, state = model.train_step((trainable, others, optimizer, metrics), (x, y))
        for variable, value in zip(model.trainable_variables, state[0], strict=True):
            variable.assign(value)
        yield logs


def test_train_step_by_hand_in_a_block():
    model, recorder = build(), rnnkit.GradientRecorder()
    moves = Moves(model)
    with recorder.attach(model):
        for _ in steps_by_hand(model):
            moves.note()
    assert_recorded(recorder.history, moves.norms())
    model.fit(*data(), verbose=0)


def test_train_step_by_hand_between_callbacks_is_refused_and_nothing_is_left():
    """The hook stands where `fit` calls a step, and this loop does not."""
    model, recorder, states = build(), rnnkit.GradientRecorder(), rnnkit.StateGradientRecorder()
    callbacks = keras.callbacks.CallbackList([recorder, states], model=model)
    callbacks.on_train_begin()
    callbacks.on_train_batch_begin(0)
    next(steps_by_hand(model))
    with pytest.warns(UserWarning, match=r"of model .*a first batch without any.*recorder\.attach\(model, optimizer\)"):
        callbacks.on_train_batch_end(0)
    callbacks.on_train_end()
    assert ours_on(model, model.optimizer) == []
    assert repr(recorder).startswith("<GradientRecorder: empty; no update of the weights of model")
    model.fit(*data(), verbose=0)


ORDERS = [
    ["on_train_batch_begin", "on_train_batch_begin", "on_train_batch_end"],
    ["on_train_batch_end", "on_train_begin", "on_train_batch_end"],
    ["on_train_begin", "on_train_batch_begin", "on_train_end"],
    ["on_train_begin", "on_train_batch_begin", "on_train_begin", "on_train_end"],
    ["on_epoch_end", "on_train_end", "on_train_end"],
]


@pytest.mark.filterwarnings("ignore:A gradient recorder sees")
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "-".join(name.removeprefix("on_train_") for name in order))
def test_whatever_the_order_of_events_nothing_stays_on_the_model(order):
    model, recorder, states = build(), rnnkit.GradientRecorder(), rnnkit.StateGradientRecorder()
    for callback in (recorder, states):
        callback.set_model(model)
        for name in order:
            getattr(callback, name)(0)
    assert ours_on(model, model.optimizer) == []
    model.fit(*data(), verbose=0)
    assert len(recorder.steps) == 0


# --- loops of the user's own -------------------------------------------------------------------------------------


class Loop:
    """A loop of one's own with plain descent, and what one step of it does to the weights."""

    def __init__(self, compiled=False, optimizer=None):
        self.model = build()
        self.optimizer = optimizer or keras.optimizers.SGD(1.0)
        self.moves = Moves(self.model)
        self.step = {"tensorflow": self._tape, "jax": self._stateless, "torch": self._backward}[BACKEND](compiled)

    def run(self):
        for x, y in batches():
            self.step(x, y)
            self.moves.note()

    def _tape(self, compiled):
        import tensorflow as tf

        def step(x, y):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.model(x, training=True) - y) ** 2)
            gradients = tape.gradient(loss, self.model.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))

        return tf.function(step) if compiled else step

    def _stateless(self, compiled):
        import jax

        self.optimizer.build(self.model.trainable_variables)
        variables = self.model.trainable_variables, self.optimizer.variables

        def loss(trainable, x, y):
            others = [variable.value for variable in self.model.non_trainable_variables]
            prediction, _ = self.model.stateless_call(trainable, others, x, training=True)
            return ops.mean((prediction - y) ** 2)

        def step(trainable, optimizer, x, y):
            return self.optimizer.stateless_apply(optimizer, jax.grad(loss)(trainable, x, y), trainable)

        step = jax.jit(step) if compiled else step

        def run(x, y):
            state = ([variable.value for variable in each] for each in variables)
            for each, values in zip(variables, step(*state, x, y), strict=True):
                for variable, value in zip(each, values, strict=True):
                    variable.assign(value)

        return run

    def _backward(self, compiled):
        import torch

        def step(x, y):
            self.model.zero_grad()
            ((self.model(x, training=True) - torch.as_tensor(y)) ** 2).mean().backward()
            variables = self.model.trainable_variables
            with torch.no_grad():
                self.optimizer.apply([variable.value.grad for variable in variables], variables)

        return step


@pytest.mark.parametrize("compiled", [False, True] if BACKEND != "torch" else [False])
def test_a_loop_of_ones_own(compiled):
    loop, recorder = Loop(compiled), rnnkit.GradientRecorder(measures=["update_ratio"])
    with recorder.attach(loop.model, loop.optimizer):
        loop.run()
    assert recorder.steps.tolist() == list(range(BATCHES))
    assert_recorded(recorder.history, loop.moves.norms())
    assert ours_on(loop.model, loop.optimizer) == []
    for place, ratios in enumerate(recorder.measured["update_ratio"].values()):
        before = [np.linalg.norm(weights[place]) for weights in loop.moves.seen[1:-1]]  # a bias is 0 at first
        moved = [norms[place] for norms in loop.moves.norms()[1:]]
        np.testing.assert_allclose(ratios[1:], np.divide(moved, before), rtol=1e-3)


def test_a_loop_ends_the_same_with_a_recorder():
    plain, recorded = (Loop(True, keras.optimizers.Adam(0.01, global_clipnorm=0.1)) for _ in range(2))
    plain.run()
    with rnnkit.GradientRecorder().attach(recorded.model, recorded.optimizer):
        recorded.run()
    for loop in (plain, recorded):
        assert len(loop.moves.seen) == BATCHES + 1
    for expected, weight in zip(plain.moves.seen[-1], recorded.moves.seen[-1], strict=True):
        np.testing.assert_array_equal(expected, weight)


@pytest.mark.skipif(BACKEND == "torch", reason="nothing is traced on torch")
def test_a_step_that_was_traced_before_the_block_is_named_at_its_end():
    loop, recorder = Loop(compiled=True), rnnkit.GradientRecorder()
    loop.run()
    with (
        pytest.warns(UserWarning, match=r"a block in which 4 of 4 were not seen.*inside the block"),
        recorder.attach(loop.model, loop.optimizer),
    ):
        loop.run()
    assert len(recorder.steps) == 0


@pytest.mark.skipif(BACKEND == "torch", reason="nothing is traced on torch")
def test_a_step_that_was_traced_in_the_block_may_be_called_afterwards_and_is_not_recorded():
    loop, recorder = Loop(compiled=True), rnnkit.GradientRecorder()
    with recorder.attach(loop.model, loop.optimizer):
        loop.run()
    loop.run()
    assert_recorded(recorder.history, loop.moves.norms()[:BATCHES])
    again = rnnkit.GradientRecorder()
    with pytest.warns(UserWarning, match="4 of 4 were not seen"), again.attach(loop.model, loop.optimizer):
        loop.run()
    assert len(again.steps) == 0
    del recorder, again
    gc.collect()
    loop.run()  # what it writes into is still there


def stopped(loop, recorder, error):
    with recorder.attach(loop.model, loop.optimizer):
        loop.run()
        raise error


def test_an_exception_in_the_block_leaves_nothing_and_the_rows_are_there():
    loop, recorder = Loop(), rnnkit.GradientRecorder()
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error):
            stopped(loop, recorder, error)
        assert ours_on(loop.model, loop.optimizer) == []
        assert len(recorder.steps) == BATCHES


@pytest.mark.skipif(BACKEND != "jax", reason="what JAX's loops are like")
def test_a_scan_over_many_steps():
    import jax

    model, recorder = build(), rnnkit.GradientRecorder()
    optimizer = keras.optimizers.SGD(1.0, clipvalue=0.01)
    optimizer.build(model.trainable_variables)
    x, y = (np.stack(arrays) for arrays in zip(*batches(), strict=True))

    def loss(trainable, x, y):
        others = [variable.value for variable in model.non_trainable_variables]
        return ops.mean((model.stateless_call(trainable, others, x)[0] - y) ** 2)

    def step(state, batch):
        trainable, others = state
        state = optimizer.stateless_apply(others, jax.grad(loss)(trainable, *batch), trainable)
        return state, state[0]

    with recorder.attach(model, optimizer):
        start = [variable.value for variable in model.trainable_variables]
        _, after = jax.jit(lambda state: jax.lax.scan(step, state, (x, y)))(
            (start, [variable.value for variable in optimizer.variables])
        )
    weights = [
        np.concatenate([np.asarray(one)[None], np.asarray(each)]) for one, each in zip(start, after, strict=True)
    ]
    taken = [np.linalg.norm(np.diff(each, axis=0).reshape(BATCHES, -1), axis=1) for each in weights]
    assert recorder.steps.tolist() == list(range(BATCHES))
    assert_recorded(recorder.clipped, np.transpose(taken))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere there is always room")
def test_rows_that_find_no_room_are_counted(monkeypatch):
    monkeypatch.setattr(rnnkit.recorders._gradients, "_ATTACHED_ROWS", 3)
    loop, recorder = Loop(compiled=True), rnnkit.GradientRecorder()
    lost = pytest.warns(UserWarning, match="keeps 4 updates.*8 at once, of which the first 4 are lost")
    with lost, recorder.attach(loop.model, loop.optimizer):
        loop.run(), loop.run()
    assert recorder.steps.tolist() == [4, 5, 6, 7]
    assert_recorded(recorder.history, loop.moves.norms()[4:])


def test_what_is_no_model_or_no_optimizer_is_refused():
    model, recorder = build(), rnnkit.GradientRecorder()
    with pytest.raises(TypeError, match=r"attached to a Keras model\. Received: a int"), recorder.attach(5):
        pass
    with pytest.raises(TypeError, match=r"Received: a builtins\.str\. Train with"), recorder.attach(model, "sgd"):
        pass
    bare = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    with pytest.raises(ValueError, match="without one"), recorder.attach(bare):
        pass
    model.trainable = False
    with pytest.raises(ValueError, match="trainable weights"), recorder.attach(model):
        pass
    model.trainable = True
    with pytest.raises(ValueError, match="one loop at a time"), recorder.attach(model):
        model.fit(*data(), callbacks=[recorder], verbose=0)


# --- several updates, several optimizers --------------------------------------------------------------------------


class Twice(keras.Model):
    """A model that updates its weights `TIMES` times per batch."""

    TIMES = 3

    if BACKEND == "tensorflow":

        def train_step(self, data):
            import tensorflow as tf

            x, y = data
            for _ in range(self.TIMES):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
                gradients = tape.gradient(loss, self.trainable_variables)
                self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"loss": loss}

    elif BACKEND == "jax":

        def train_step(self, state, data):
            import jax

            trainable, others, optimizer, metrics = state
            x, y = data

            def loss_of(trainable):
                return ops.mean((self.stateless_call(trainable, others, x, training=True)[0] - y) ** 2)

            for _ in range(self.TIMES):
                loss, gradients = jax.value_and_grad(loss_of)(trainable)
                trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
            return {"loss": loss}, (trainable, others, optimizer, metrics)

    else:

        def train_step(self, data):
            import torch

            x, y = data
            for _ in range(self.TIMES):
                self.zero_grad()
                loss = ((self(x, training=True) - y) ** 2).mean()
                loss.backward()
                variables = list(self.trainable_weights)
                with torch.no_grad():
                    self.optimizer.apply([variable.value.grad for variable in variables], variables)
            return {"loss": loss}


def test_several_updates_per_batch():
    """At a rate of 0 every update of a batch sees the same gradient."""
    model, recorder = build(keras.optimizers.SGD(0.0), Twice), rnnkit.GradientRecorder()
    states, once = rnnkit.StateGradientRecorder(every=1), rnnkit.GradientRecorder()
    model.fit(*data(), batch_size=BATCH, shuffle=False, verbose=0, epochs=2, callbacks=[recorder, states])
    assert recorder.steps.tolist() == states.steps.tolist() == list(range(2 * 3 * BATCHES))
    build(keras.optimizers.SGD(0.0)).fit(*data(), batch_size=BATCH, shuffle=False, verbose=0, callbacks=[once])
    for name, norms in once.history.items():
        np.testing.assert_allclose(recorder.history[name], np.tile(np.repeat(norms, 3), 2), rtol=1e-4)
    assert states.history["rnn"].shape == (2 * 3 * BATCHES, LENGTH)
    np.testing.assert_allclose(states.history["rnn"][0], states.history["rnn"][2], rtol=1e-5)


@pytest.mark.skipif(BACKEND == "torch", reason="there is always room on torch")
def test_more_updates_in_a_call_than_there_is_room_for_are_counted_and_the_rest_is_kept(monkeypatch):
    monkeypatch.setattr(rnnkit.recorders._row_reader, "_ROWS", 5)
    monkeypatch.setattr(Twice, "TIMES", 7)
    model, recorder = build(keras.optimizers.SGD(0.0), Twice), rnnkit.GradientRecorder()
    with pytest.warns(UserWarning, match="keeps 5 updates.*7 at once, of which the first 2 are lost") as warned:
        model.fit(*data(), batch_size=BATCH, shuffle=False, verbose=0, callbacks=[recorder])
    assert len([one for one in warned if "lost" in str(one.message)]) == 1, "from then on there is room"
    assert recorder.steps.tolist() == list(range(2, 7 * BATCHES))
    assert np.isfinite(recorder.global_norm).all()


class TwoPlayers(keras.Model):
    """Two networks, each trained by an optimizer of its own; `compile` gets another that trains nothing."""

    def __init__(self):
        super().__init__()
        self.first = keras.Sequential([keras.Input((LENGTH, 2)), layers.SimpleRNN(3, name="rnn"), layers.Dense(1)])
        self.second = keras.Sequential([keras.Input((LENGTH, 2)), layers.SimpleRNN(2, name="other"), layers.Dense(1)])
        self.built = True

    def call(self, x):
        return self.first(x) - self.second(x)

    def compile(self, first, second, **options):
        super().compile(**options)
        self.optimizers = {"first": first, "second": second}
        for player in ("first", "second"):
            self.optimizers[player].build(getattr(self, player).trainable_variables)

    if BACKEND == "tensorflow":

        def train_step(self, data):
            import tensorflow as tf

            x, y = data
            for player in ("first", "second"):
                variables = getattr(self, player).trainable_variables
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((self(x) - y) ** 2)
                self.optimizers[player].apply(tape.gradient(loss, variables), variables)
            return {"loss": loss}

    elif BACKEND == "torch":

        def train_step(self, data):
            import torch

            x, y = data
            for player in ("first", "second"):
                self.zero_grad()
                variables = getattr(self, player).trainable_variables
                loss = ((self(x) - y) ** 2).mean()
                loss.backward()
                with torch.no_grad():
                    self.optimizers[player].apply([variable.value.grad for variable in variables], variables)
            return {"loss": loss}


@pytest.mark.skipif(BACKEND == "jax", reason="Keras on JAX hands one optimizer's state through a step")
def test_two_optimizers_make_two_rows_per_batch():
    keras.utils.set_random_seed(0)
    model, recorder = TwoPlayers(), rnnkit.GradientRecorder()
    model.compile(keras.optimizers.SGD(1.0), keras.optimizers.SGD(1.0, clipnorm=0.05), **FAST)
    first, second = (Moves(player) for player in (model.first, model.second))

    class Notes(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            first.note(), second.note()

    model.fit(*data(), batch_size=BATCH, shuffle=False, verbose=0, callbacks=[Notes(), recorder])
    assert recorder.steps.tolist() == list(range(2 * BATCHES))
    weights = list(recorder.history)
    for names, rows, moves in ((weights[:5], slice(0, None, 2), first), (weights[5:], slice(1, None, 2), second)):
        assert_recorded({name: recorder.clipped[name][rows] for name in names}, moves.norms())
        for name in set(weights) - set(names):
            assert np.isnan(recorder.history[name][rows]).all()
    assert max(max(norms) for norms in second.norms()) < 0.0501 < recorder.history[weights[5]][1]
    assert recorder.nonfinite is None


@pytest.mark.skipif(BACKEND == "jax", reason="Keras on JAX hands one optimizer's state through a step")
def test_the_weight_whose_gradient_is_not_finite_is_named_among_those_that_were_left_alone():
    keras.utils.set_random_seed(0)
    model, recorder = TwoPlayers(), rnnkit.GradientRecorder()
    model.compile(keras.optimizers.SGD(1.0), keras.optimizers.SGD(1.0), **EAGER)
    x, y = data()
    y[2 * BATCH] = np.nan
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[recorder])
    assert recorder.nonfinite == (4, next(iter(recorder.history)))


def test_weights_that_an_optimizer_out_of_sight_trains_are_named():
    model, recorder, part = build(), rnnkit.GradientRecorder(), keras.optimizers.SGD(1.0)
    head = model.get_layer("head").trainable_variables
    with recorder.attach(model, part):
        part.apply([ops.ones_like(variable.value) for variable in head], head)
    assert np.isnan(recorder.history["rnn/kernel"]).all()
    np.testing.assert_allclose(recorder.history["head/kernel"], [np.sqrt(3)], rtol=1e-6)
    assert "none of rnn/kernel, rnn/recurrent_kernel, rnn/bias>" in repr(recorder)


# --- what public loops have brought up ---------------------------------------------------------------------------


@pytest.mark.skipif(BACKEND != "tensorflow", reason="what tf.function is like")
def test_a_train_step_that_is_a_tf_function_of_its_own_trains_on():
    """Its trace holds the buffer of a recording that is over; TensorFlow fails if that is gone."""
    import tensorflow as tf

    class Traced(Twice):
        train_step = tf.function(Twice.train_step)

    model, recorder = build(keras.optimizers.SGD(0.0), Traced), rnnkit.GradientRecorder()
    model.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[recorder])
    assert len(recorder.steps) == 3 * BATCHES
    del recorder
    gc.collect()
    model.fit(*data(), batch_size=BATCH, verbose=0)


@pytest.mark.skipif(BACKEND != "jax", reason="what JAX's steps are like")
class TestStepsOnJax:
    def test_a_step_without_an_optimizer_is_told_of(self):
        import jax

        class ByHand(keras.Model):
            def train_step(self, state, data):
                trainable, *others = state
                x, y = data

                def loss(trainable):
                    return ops.mean((self.stateless_call(trainable, others[0], x)[0] - y) ** 2)

                value, gradients = jax.value_and_grad(loss)(trainable)
                moved = [weight - 0.1 * gradient for weight, gradient in zip(trainable, gradients, strict=True)]
                return {"loss": value}, (moved, *others)

        recorder = rnnkit.GradientRecorder()
        with pytest.warns(UserWarning, match="a first batch without any"):
            build(model=ByHand).fit(*data(), batch_size=BATCH, verbose=0, callbacks=[recorder])
        assert len(recorder.steps) == 0

    def test_updates_in_the_step_and_in_a_branch_of_it_come_in_order(self):
        import jax

        class Mixed(keras.Model):
            def train_step(self, state, data):
                trainable, others, optimizer, metrics = state
                x, y = data
                gradients = jax.grad(lambda w: ops.mean((self.stateless_call(w, others, x)[0] - y) ** 2))(trainable)

                def again(trainable, optimizer):
                    double = [2 * gradient for gradient in gradients]
                    return self.optimizer.stateless_apply(optimizer, double, trainable)

                trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
                trainable, optimizer = jax.lax.cond(
                    ops.mean(x) < 9, again, lambda *unchanged: unchanged, trainable, optimizer
                )
                return {"loss": ops.mean(x)}, (trainable, others, optimizer, metrics)

        recorder = rnnkit.GradientRecorder()
        model = build(keras.optimizers.SGD(0.0), Mixed)
        model.fit(*data(), batch_size=BATCH, shuffle=False, epochs=2, verbose=0, callbacks=[recorder])
        assert recorder.steps.tolist() == list(range(4 * BATCHES))
        np.testing.assert_allclose(recorder.global_norm[1::2], 2 * recorder.global_norm[::2], rtol=1e-5)


def test_a_model_compiled_in_a_block_is_followed():
    model, recorder = build(), rnnkit.GradientRecorder()
    moves = Moves(model)
    with recorder.attach(model):
        for batch in batches():
            model.train_on_batch(*batch)
            moves.note()
            model.compile(keras.optimizers.SGD(1.0), "mse", **FAST)
    assert_recorded(recorder.history, moves.norms())
    assert ours_on(model, model.optimizer) == []


def test_a_model_in_a_model_is_followed_in_each_block():
    inner = build()
    outer = keras.Sequential([keras.Input((LENGTH, 2)), inner, layers.Dense(1)])
    outer.compile(keras.optimizers.SGD(0.1), "mse", **FAST)
    for _ in range(2):
        recorder = rnnkit.GradientRecorder()
        with recorder.attach(outer):
            inner.train_on_batch(*batches()[0])
            outer.train_on_batch(*batches()[1])
        assert len(recorder.steps) == 2
        assert ours_on(inner, outer, inner.optimizer, outer.optimizer) == []


def test_a_fit_within_a_fit_with_the_same_recorder_is_told_of():
    recorder = rnnkit.GradientRecorder()

    class Inner(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                build(**EAGER).fit(*data(), batch_size=BATCH, verbose=0, callbacks=[recorder])

    with pytest.warns(UserWarning, match="one training run at a time.*Give each `fit` a recorder"):
        build(**EAGER).fit(*data(), batch_size=BATCH, epochs=2, verbose=0, callbacks=[recorder, Inner()])


def test_blocks_may_end_in_any_order():
    model, first, second = build(), rnnkit.GradientRecorder(), rnnkit.GradientRecorder()
    one, other = first.attach(model), second.attach(model)
    one.__enter__(), other.__enter__()
    model.train_on_batch(*batches()[0])
    one.__exit__(None, None, None)
    model.train_on_batch(*batches()[1])
    other.__exit__(None, None, None)
    assert ours_on(model, model.optimizer) == []
    assert (len(first.steps), len(second.steps)) == (1, 2)


def test_an_optimizer_of_two_models_is_no_reason_to_warn():
    optimizer = keras.optimizers.SGD(1.0)
    models = [build(), build()]
    optimizer.build([variable for model in models for variable in model.trainable_variables])
    recorder = rnnkit.GradientRecorder()
    with recorder.attach(models[0], optimizer):
        for model in models:
            optimizer.apply([ops.ones_like(v.value) for v in model.trainable_variables], model.trainable_variables)
    assert len(recorder.steps) == 1


# --- copies ------------------------------------------------------------------------------------------------------


def test_what_copies_have_recorded_is_found_from_the_recorder():
    recorder = rnnkit.GradientRecorder(measures=["max"])
    assert repr(recorder).startswith("<GradientRecorder: empty; pass it to model.fit")
    for _ in range(2):
        (trial,) = copy.deepcopy([recorder])
        (again,) = copy.deepcopy([trial])
        build(**EAGER).fit(*data(), batch_size=BATCH, verbose=0, callbacks=[again])
    assert [len(one.steps) for one in recorder.copies] == [0, BATCHES, 0, BATCHES]
    assert list(recorder.copies[1].measured) == ["max"]
    assert "recorder.copies" in repr(recorder)
    assert repr(recorder.copies[1]).startswith(f"<GradientRecorder: {BATCHES} updates of 5 weights of model")


def test_an_unknown_weight_is_answered_with_the_nearest():
    recorder = rnnkit.GradientRecorder()
    with pytest.raises(KeyError, match="Nothing is recorded yet"):
        recorder.history["rnn/kernel"]
    build(**EAGER).fit(*data(), verbose=0, callbacks=[recorder])
    with pytest.raises(KeyError, match=r"Received: 'rnn/recurent_kernel'. Did you mean 'rnn/recurrent_kernel'"):
        recorder.clipped["rnn/recurent_kernel"]
    assert repr(recorder.recording) == "<Recording: 1 updates of 5 weights>"


def test_probe_recorders_tell_what_they_hold():
    states, gates = rnnkit.StateGradientRecorder(*data(), every=2), rnnkit.GateRecorder(data()[0])
    assert repr(gates).startswith("<GateRecorder: 0 records of nothing: pass it to model.fit")
    build(**EAGER).fit(*data(), batch_size=BATCH, verbose=0, callbacks=[states])
    assert repr(states) == "<StateGradientRecorder: 2 records of rnn>"
    with pytest.raises(KeyError, match="Did you mean 'rnn'"):
        states.history["rnm"]
    with pytest.raises(KeyError, match="Nothing is recorded yet"):
        gates.history["rnn"]
