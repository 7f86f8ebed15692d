"""Recorders against hand-made gradients, and against runs without a recorder."""

import keras
import numpy as np
import pytest
from fast import EAGER, FAST
from training import Weights, clip_each, clip_together

import rnnkit
from rnnkit import probes

LENGTH, FEATURES, BATCH, EXAMPLES = 7, 2, 8, 32
STEPS = EXAMPLES // BATCH


def data(seed=0):
    draw = np.random.default_rng(seed)
    return (
        draw.normal(size=(EXAMPLES, LENGTH, FEATURES)).astype("float32"),
        draw.normal(size=(EXAMPLES, 1)).astype("float32"),
    )


def build(optimizer=None, cell=keras.layers.SimpleRNN, **compiling):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((LENGTH, FEATURES)), cell(4, name="rnn"), keras.layers.Dense(1, name="head")])
    model.compile(optimizer or keras.optimizers.SGD(0.1), "mse", **(FAST | compiling))
    return model


def fit(model, *callbacks, epochs=2, **options):
    x, y = data()
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **options)


def backpropagate(weights, x, y):
    """Gradients of the mean squared error of h_t = tanh(x_t U + h_{t-1} W + b), prediction h_T V + d, in NumPy."""
    U, W, b, V, d = (weight.astype("float64") for weight in weights)
    states = [np.zeros((len(x), len(W)))]
    for t in range(LENGTH):
        states.append(np.tanh(x[:, t] @ U + states[-1] @ W + b))
    error = 2 * (states[-1] @ V + d - y) / y.size
    gradients = [np.zeros_like(weight) for weight in (U, W, b)] + [states[-1].T @ error, error.sum(0)]
    delta = error @ V.T
    for t in reversed(range(LENGTH)):
        before = delta * (1 - states[t + 1] ** 2)
        gradients[0] += x[:, t].T @ before
        gradients[1] += states[t].T @ before
        gradients[2] += before.sum(0)
        delta = before @ W.T
    return gradients


def each_gradient(rate=0.0, steps=STEPS, clip=lambda gradients: gradients):
    """Gradients of each step of plain gradient descent from the weights of `build()`, before clipping."""
    weights, (x, y), seen = [numpy(variable) for variable in build().trainable_variables], data(), []
    for step in range(steps):
        rows = slice(step % STEPS * BATCH, (step % STEPS + 1) * BATCH)
        seen.append(backpropagate(weights, x[rows], y[rows]))
        weights = [weight - rate * gradient for weight, gradient in zip(weights, clip(seen[-1]), strict=True)]
    return seen


def numpy(value):
    return keras.ops.convert_to_numpy(value)


def weights_of(model):
    variables = model.trainable_variables + model.optimizer.variables
    return [numpy(variable) for variable in variables]


CLIPPING = {
    "none": ({}, lambda gradients: gradients),
    "clipnorm": ({"clipnorm": 0.2}, lambda gradients: clip_each(gradients, 0.2)),
    "global_clipnorm": ({"global_clipnorm": 0.3}, lambda gradients: clip_together(gradients, 0.3)),
    "clipvalue": ({"clipvalue": 0.05}, lambda gradients: [np.clip(g, -0.05, 0.05) for g in gradients]),
}


@pytest.fixture(scope="module", params=CLIPPING)
def clipped_run(request):
    """The rule, a recorder that saw a run under it, and the true gradients of its steps."""
    setting, clip = CLIPPING[request.param]
    recorder = rnnkit.GradientRecorder()
    fit(build(keras.optimizers.SGD(0.1, **setting)), recorder)
    return request.param, recorder, each_gradient(0.1, 2 * STEPS, clip)


def test_norms_are_those_of_the_gradients_used_before_and_after_clipping(clipped_run):
    rule, recorder, true = clipped_run
    _, clip = CLIPPING[rule]
    assert list(recorder.history) == ["rnn/kernel", "rnn/recurrent_kernel", "rnn/bias", "head/kernel", "head/bias"]
    for step, gradients in enumerate(true):
        pairs = [
            (recorder.history, recorder.global_norm, gradients),
            (recorder.clipped, recorder.clipped_global_norm, clip(gradients)),
        ]
        for measured, together, expected in pairs:
            norms = [np.linalg.norm(gradient) for gradient in expected]
            np.testing.assert_allclose([norm[step] for norm in measured.values()], norms, rtol=1e-4)
            np.testing.assert_allclose(together[step], np.linalg.norm(norms), rtol=1e-4)
    assert recorder.steps.tolist() == list(range(2 * STEPS))


COMPILING = {
    "auto": {"jit_compile": "auto"},
    "jit": {"jit_compile": True},
    "graph": {"jit_compile": False},
    "eager": {"run_eagerly": True},
    "several steps": {"steps_per_execution": 3},
}
# Each way to run a step and each rule; where the recorder does the clipping again itself, the most ways.
ENOUGH = {
    ("auto", "none"), ("auto", "clipnorm"), ("jit", "clipvalue"), ("graph", "clipvalue"), ("graph", "global_clipnorm"),
    ("eager", "clipnorm"), ("several steps", "global_clipnorm"),
}  # fmt: skip


def how_often(way, rule):
    """Return the marks of a case: a step that XLA compiles, or several in one, is not for every day."""
    if (way, rule) not in ENOUGH:
        return pytest.mark.thorough
    return () if way in ("graph", "eager") else pytest.mark.slow


@pytest.mark.parametrize(
    ("way", "rule"),
    [pytest.param(way, rule, marks=how_often(way, rule)) for way in COMPILING for rule in CLIPPING],
)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_recorded_training_is_the_same_to_the_bit(way, rule):
    options = COMPILING[way]
    one_step_a_call_on_torch(options)
    setting, _ = CLIPPING[rule]
    plain, recorded = (build(keras.optimizers.Adam(0.01, **setting), **options) for _ in range(2))
    history = fit(plain).history
    recorder = rnnkit.GradientRecorder()
    assert fit(recorded, recorder, rnnkit.StateGradientRecorder(*data(), every=3)).history == history
    for expected, weight in zip(weights_of(plain), weights_of(recorded), strict=True):
        np.testing.assert_array_equal(expected, weight)
    assert recorder.steps.tolist() == list(range(2 * STEPS))


def test_a_repeated_index_of_an_embedding_is_summed_before_the_norm():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Embedding(3, 2, name="words"), keras.layers.GRU(2)])
    model.compile(keras.optimizers.SGD(1.0), "mse", **FAST)
    x, y = np.array([[0, 1, 1, 1, 2]] * 4), np.ones((4, 2))
    before = numpy(model.layers[0].embeddings)
    recorder = rnnkit.GradientRecorder()
    model.fit(x, y, callbacks=[recorder], verbose=0)
    change = np.linalg.norm(numpy(model.layers[0].embeddings) - before)  # at a learning rate of 1: the gradient
    np.testing.assert_allclose(recorder.history["words/embeddings"], [change], rtol=1e-5)


def test_a_norm_survives_where_its_squares_would_underflow_or_overflow():
    reference = rnnkit.GradientRecorder()
    fit(build(), reference, epochs=1, steps_per_epoch=1)
    for scale in (1e-30, 1e30):
        recorder = rnnkit.GradientRecorder()
        fit(build(loss_weights=[scale]), recorder, epochs=1, steps_per_epoch=1)
        np.testing.assert_allclose(recorder.global_norm[0] / np.float64(scale), reference.global_norm[0], rtol=1e-5)


def test_a_gradient_that_is_not_finite_is_recorded_as_such():
    x, y = data()
    x[0, 0, 0] = np.nan
    recorder = rnnkit.GradientRecorder()
    model = build(keras.optimizers.SGD(0.1, global_clipnorm=1.0), **EAGER)
    model.fit(x, y, callbacks=[recorder], verbose=0)
    assert np.isnan(recorder.history["rnn/kernel"]).all()
    assert np.isnan(recorder.clipped_global_norm).all()


def test_loss_scaling_gives_true_norms_and_no_row_for_a_skipped_step():
    # At a learning rate of 0 every epoch sees the same gradients; a scale of 2**127 overflows at first.
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0), initial_scale=2.0**127)
    recorder, reference = rnnkit.GradientRecorder(), rnnkit.GradientRecorder()
    fit(build(optimizer, loss_weights=[16.0]), recorder, epochs=3)
    fit(build(keras.optimizers.SGD(0.0), loss_weights=[16.0]), reference, epochs=1)
    assert recorder.steps[0] > 0
    assert recorder.steps[-1] == 3 * STEPS - 1
    assert (np.diff(recorder.steps) > 0).all()
    np.testing.assert_allclose(recorder.global_norm, reference.global_norm[recorder.steps % STEPS], rtol=1e-5)


@pytest.mark.parametrize(
    ("rule", "compiling"), [("none", EAGER), ("clipnorm", EAGER), ("global_clipnorm", FAST), ("clipvalue", EAGER)]
)
def test_accumulation_shows_each_step_and_what_became_of_their_mean(rule, compiling):
    """At a learning rate of 0 every step sees the same weights, so that the mean can be taken by hand."""
    setting, clip = CLIPPING[rule]
    recorder = rnnkit.GradientRecorder()
    fit(build(keras.optimizers.SGD(0.0, gradient_accumulation_steps=2, **setting), **compiling), recorder, epochs=1)
    gradients = each_gradient()
    for step in range(STEPS):
        norms = [np.linalg.norm(gradient) for gradient in gradients[step]]
        np.testing.assert_allclose([norm[step] for norm in recorder.history.values()], norms, rtol=1e-4)
        clipped = [norm[step] for norm in recorder.clipped.values()]
        if step % 2 == 0:  # nothing but added up
            assert np.isnan(clipped).all()
            assert np.isnan(recorder.clip_angle[step])
            continue
        mean = [(one + two) / 2 for one, two in zip(gradients[step - 1], gradients[step], strict=True)]
        left = clip(mean)
        np.testing.assert_allclose(clipped, [np.linalg.norm(gradient) for gradient in left], rtol=1e-4)
        np.testing.assert_allclose(recorder.clipped_global_norm[step], np.linalg.norm(clipped), rtol=1e-4)
        np.testing.assert_allclose(recorder.clip_angle[step], angle(mean, left), atol=1e-3)


def angle(before, after):
    before, after = (np.concatenate([np.ravel(g) for g in gs]).astype("float64") for gs in (before, after))
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    return np.degrees(np.arccos(min(cosine, 1)))


def test_angle_between_the_step_before_clipping_and_after(clipped_run):
    rule, recorder, true = clipped_run
    expected = [angle(gradients, CLIPPING[rule][1](gradients)) for gradients in true]
    np.testing.assert_allclose(recorder.clip_angle, expected, atol=0.03)  # arccos is blunt near 1
    assert rule not in ("clipnorm", "clipvalue") or max(expected) > 1


def one_step_a_call_on_torch(options):
    if keras.backend.backend() == "torch" and options.get("steps_per_execution", 1) > 1:
        pytest.skip("Keras runs one step a call on torch")


def test_measures_are_those_of_the_gradients_and_of_the_change():
    model, recorder = build(), rnnkit.GradientRecorder(["max", "zero_fraction", "update_ratio", "histogram"])
    weights = Weights()
    fit(model, recorder, weights, epochs=1)
    edges = recorder.histogram_edges
    for step, gradients in enumerate(each_gradient(rate=0.1)):
        before, after = weights.seen[step : step + 2]
        for place, (name, gradient) in enumerate(zip(recorder.history, gradients, strict=True)):
            at = {measure: arrays[name][step] for measure, arrays in recorder.measured.items()}
            np.testing.assert_allclose(at["max"], np.abs(gradient).max(), rtol=1e-4)
            assert at["zero_fraction"] == 0
            with np.errstate(divide="ignore"):
                ratio = np.linalg.norm(after[place] - before[place]) / np.linalg.norm(before[place])
            np.testing.assert_allclose(at["update_ratio"], ratio, rtol=1e-3)
            counts = np.bincount(np.searchsorted(edges, np.log10(np.abs(gradient)).ravel(), "right"), minlength=26)
            np.testing.assert_allclose(at["histogram"], counts / gradient.size, atol=1e-6)


def test_entries_that_are_zero_are_counted():
    """An input that is always 0 leaves its row of the kernel without gradient."""
    x, y = data()
    x[..., 0] = 0
    recorder = rnnkit.GradientRecorder(measures=["zero_fraction", "histogram"])
    build(**EAGER).fit(x, y, callbacks=[recorder], verbose=0)
    np.testing.assert_array_equal(recorder.measured["zero_fraction"]["rnn/kernel"], 0.5)
    np.testing.assert_array_equal(recorder.measured["histogram"]["rnn/kernel"][:, 0], 0.5)
    np.testing.assert_array_equal(recorder.measured["zero_fraction"]["rnn/recurrent_kernel"], 0)


def test_an_unknown_measure_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"measure must be one of.*'maximum'"):
        rnnkit.GradientRecorder(measures="maximum")


def test_training_can_stop_at_the_first_gradient_that_is_not_finite(capsys):
    x, y = data()
    x[2 * BATCH, 0, 0] = np.inf
    recorder = rnnkit.GradientRecorder(stop_on_nonfinite=True)
    build(**EAGER).fit(x, y, batch_size=BATCH, shuffle=False, epochs=3, callbacks=[recorder], verbose=0)
    assert recorder.nonfinite == (2, "rnn/kernel")
    assert recorder.steps.tolist() == [0, 1, 2]
    assert "the gradient of rnn/kernel is not finite at step 2" in capsys.readouterr().out


def test_several_recorders_see_the_same():
    first, second = rnnkit.GradientRecorder(), rnnkit.GradientRecorder()
    fit(build(**EAGER), first, second, epochs=1)
    np.testing.assert_array_equal(first.global_norm, second.global_norm)
    assert len(first.steps) == len(second.steps) == STEPS


def test_each_fit_begins_a_new_recording_and_frozen_layers_drop_out():
    model, recorder = build(**EAGER), rnnkit.GradientRecorder()
    fit(model, recorder, epochs=1)
    assert len(recorder.history) == 5
    model.get_layer("head").trainable = False
    model.compile("sgd", "mse", **EAGER)
    fit(model, recorder, epochs=1)
    assert list(recorder.history) == ["rnn/kernel", "rnn/recurrent_kernel", "rnn/bias"]
    assert recorder.steps.tolist() == list(range(STEPS))


def test_a_long_run_is_read_back_before_the_log_is_full():
    many, (x, y) = rnnkit.GradientRecorder(), data()
    x, y = np.tile(x, (18, 1, 1)), np.tile(y, (18, 1))
    build().fit(x, y, batch_size=1, epochs=1, shuffle=False, callbacks=[many], verbose=0)
    assert many.steps.tolist() == list(range(18 * EXAMPLES))
    assert np.isfinite(many.global_norm).all()


def test_a_model_that_only_training_builds_is_recorded_from_its_first_step():
    built, unbuilt = rnnkit.GradientRecorder(), rnnkit.GradientRecorder()
    fit(build(), built)
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.layers.SimpleRNN(4, name="rnn"), keras.layers.Dense(1, name="head")])
    model.compile(keras.optimizers.SGD(0.1), "mse", **FAST)
    fit(model, unbuilt)
    assert list(unbuilt.history) == list(built.history)
    np.testing.assert_array_equal(unbuilt.global_norm, built.global_norm)


class Breaks(keras.callbacks.Callback):
    """Raise in the middle of training."""

    def __init__(self, hook, error, at=5):
        super().__init__()
        self.count, self.at, self.error = 0, at, error
        setattr(self, hook, self.maybe)

    def maybe(self, *_, **__):
        self.count += 1
        if self.count == self.at:
            raise self.error("stopped here")


@pytest.mark.parametrize(
    ("error", "hook"),
    [
        (RuntimeError, "on_train_batch_begin"),
        (KeyboardInterrupt, "on_train_batch_end"),
        pytest.param(RuntimeError, "on_train_batch_end", marks=pytest.mark.thorough),
        pytest.param(KeyboardInterrupt, "on_train_batch_begin", marks=pytest.mark.thorough),
    ],
)
def test_after_an_exception_nothing_is_left_behind_and_the_rows_are_there(error, hook):
    model, plain = build(), build()
    with pytest.raises(error):
        fit(plain, Breaks(hook, error))
    recorder = rnnkit.GradientRecorder()
    callbacks = [Breaks(hook, error), recorder] if hook == "on_train_batch_begin" else [recorder, Breaks(hook, error)]
    with pytest.raises(error, match="stopped here"):
        fit(model, *callbacks)
    assert recorder.steps.tolist() == list(range(5 if hook == "on_train_batch_end" else 4))
    assert set(vars(model)) == set(vars(plain))
    assert set(vars(model.optimizer)) == set(vars(plain.optimizer))
    assert "rnnkit" not in type(model.train_function).__module__
    fit(model)
    assert len(recorder.steps) < 2 * STEPS, "a later fit without the recorder is not recorded"
    fit(model, recorder)
    assert recorder.steps.tolist() == list(range(2 * STEPS))


def test_an_exception_between_arming_and_the_step_heals_at_the_next_step():
    model, recorder = build(), rnnkit.GradientRecorder()
    with pytest.raises(RuntimeError):
        fit(model, recorder, Breaks("on_train_batch_begin", RuntimeError))
    fit(model, epochs=1)
    assert "rnnkit" not in type(model.train_function).__module__
    assert "apply" not in vars(model.optimizer)
    other = rnnkit.GradientRecorder()
    with pytest.raises(RuntimeError):
        fit(model, other, Breaks("on_train_batch_begin", RuntimeError, at=1))
    fit(model, recorder)
    assert recorder.steps.tolist() == list(range(2 * STEPS))


def test_checkpoints_of_a_recorded_run_load_without_rnnkit(tmp_path):
    plain, recorded = build(keras.optimizers.Adam(), **EAGER), build(keras.optimizers.Adam(), **EAGER)
    fit(plain, keras.callbacks.ModelCheckpoint(tmp_path / "plain.keras"), epochs=1)
    fit(recorded, keras.callbacks.ModelCheckpoint(tmp_path / "recorded.keras"), rnnkit.GradientRecorder(), epochs=1)
    again = keras.models.load_model(tmp_path / "recorded.keras")
    for expected, weight in zip(weights_of(plain), weights_of(again), strict=True):
        np.testing.assert_array_equal(expected, weight)
    sizes = [(tmp_path / f"{name}.keras").stat().st_size for name in ("plain", "recorded")]
    assert abs(sizes[0] - sizes[1]) < 50  # the archive stores times and names


def test_recording_is_saved_loaded_and_tabled(tmp_path):
    recorder = rnnkit.GradientRecorder()
    fit(build(keras.optimizers.SGD(0.1, clipnorm=0.2), **EAGER), recorder, epochs=1)
    path = recorder.save(tmp_path / "run")
    assert path.name == "run.npz"
    loaded = rnnkit.load(path)
    for name in recorder.history:
        np.testing.assert_array_equal(loaded.history[name], recorder.history[name])
        np.testing.assert_array_equal(loaded.clipped[name], recorder.clipped[name])
    np.testing.assert_array_equal(loaded.clipped_global_norm, recorder.clipped_global_norm)
    frame = loaded.to_frame()
    assert list(frame.columns) == ["step", "layer", "weight", "norm", "clipped_norm"]
    assert len(frame) == 5 * STEPS
    kernel = frame.query("layer == 'rnn' and weight == 'kernel'")
    np.testing.assert_array_equal(kernel["norm"], recorder.history["rnn/kernel"])
    np.testing.assert_array_equal(kernel["clipped_norm"], recorder.clipped["rnn/kernel"])
    assert (kernel["norm"] > kernel["clipped_norm"]).any()


@pytest.mark.parametrize("content", [b"", b"not a recording", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_recording_is_refused(tmp_path, content):
    (tmp_path / "run.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"written by GradientRecorder.save.*run.npz"):
        rnnkit.load(tmp_path / "run.npz")


def test_a_failed_save_leaves_the_older_file_whole(tmp_path, monkeypatch):
    recorder = rnnkit.GradientRecorder()
    fit(build(**EAGER), recorder, epochs=1)
    path = recorder.save(tmp_path / "run.npz")
    before = path.read_bytes()

    def disk_full(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", disk_full)
    with pytest.raises(OSError, match="No space"):
        recorder.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_without_trainable_weights_is_refused():
    model = build()
    model.trainable = False
    model.compile("sgd", "mse", **FAST)
    with pytest.raises(ValueError, match=r"trainable weights.*Unfreeze"):
        fit(model, rnnkit.GradientRecorder())


class TestStateGradientRecorder:
    def test_records_the_probe_before_the_steps_it_names(self):
        x, y = data()
        frozen = build(keras.optimizers.SGD(0.0), keras.layers.LSTM, **EAGER)
        flow = rnnkit.StateGradientRecorder(x[:6], y[:6], every=3)
        fit(frozen, flow)
        gradients = probes.state_gradients(frozen, x[:6], y[:6])["rnn"]
        assert flow.steps.tolist() == [0, 3, 6]
        for name, state in (("rnn", "h"), ("rnn/c", "c")):
            expected = np.linalg.norm(gradients[state], axis=-1).mean(axis=0)
            np.testing.assert_allclose(flow.history[name], np.tile(expected, (3, 1)), rtol=1e-4)

    def test_first_record_is_the_untrained_model_and_later_ones_are_not(self):
        x, y = data()
        flow = rnnkit.StateGradientRecorder(x, y, every=4)
        fit(build(**EAGER), flow)
        untrained = np.linalg.norm(probes.state_gradients(build(), x, y)["rnn"]["h"], axis=-1).mean(axis=0)
        np.testing.assert_allclose(flow.history["rnn"][0], untrained, rtol=1e-4)
        assert not np.allclose(flow.history["rnn"][1], untrained, rtol=1e-2)

    def test_several_steps_an_execution_record_at_the_next_chance(self):
        one_step_a_call_on_torch({"steps_per_execution": 2})
        flow = rnnkit.StateGradientRecorder(*data(), every=3)
        fit(build(steps_per_execution=2), flow)
        assert flow.steps.tolist() == [0, 4, 6]

    def test_no_record_yet(self):
        flow = rnnkit.StateGradientRecorder(*data())
        assert flow.history == {}
        assert flow.steps.tolist() == []

    def test_bad_settings(self):
        with pytest.raises(ValueError, match=r"`every` must be a whole number of at least 1. Received: every=0"):
            rnnkit.StateGradientRecorder(*data(), every=0)
        with pytest.raises(ValueError, match="Did you mean 'rnn'"):
            fit(build(**EAGER), rnnkit.StateGradientRecorder(*data(), layers="rn"))


def test_csv_holds_what_the_table_does(tmp_path):
    pd = pytest.importorskip("pandas")
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="rnn"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, clipnorm=0.01), "mse", **EAGER)
    recorder = rnnkit.GradientRecorder(measures=["max", "update_ratio"])
    model.fit(np.ones((8, 4, 2)), np.ones((8, 1)), batch_size=4, callbacks=[recorder], verbose=0)
    written = pd.read_csv(recorder.to_csv(tmp_path / "norms.csv"))
    table = recorder.to_frame()
    assert list(written.columns) == list(table.columns)
    pd.testing.assert_frame_equal(written, table, check_dtype=False)
