"""What a hurried user passes by mistake, and what each public function answers: the rule, what came, the next step."""

import re

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fast import EAGER, FAST, slow_but

import rnnkit
from rnnkit import claims, initializers, layers, plot, probes, sweeps, tasks

BATCH, TIME, FEATURES = 4, 5, 2


def model(*below, cell=keras.layers.GRU, features=FEATURES, **settings):
    keras.utils.set_random_seed(0)
    stack = [keras.Input((None, features)), *below, cell(3, name="rnn", **settings), keras.layers.Dense(1)]
    made = keras.Sequential(stack)
    made.compile("sgd", "mse", **EAGER)
    return made


@pytest.fixture(scope="module")
def plain():
    return model()


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape or (BATCH, TIME, FEATURES)).astype("float32")


def with_one(value, dtype="float32"):
    array = numbers().astype(dtype)
    array[1, 2, 0] = value
    return array


X, Y = numbers(), numbers(BATCH, 1)

# --- probes and recorders ------------------------------------------------------------------------------------------

PROBES = {
    "state_gradients": lambda model, x, **given: probes.state_gradients(model, x, Y, **given),
    "state_gradient_norms": lambda model, x, **given: probes.state_gradient_norms(model, x, Y, **given),
    "gates": probes.gates,
    "gate_statistics": probes.gate_statistics,
    "state_jacobians": probes.state_jacobians,
    "singular_values": probes.singular_values,
    "lyapunov_exponents": probes.lyapunov_exponents,
    "saliency": probes.saliency,
}
RAGGED = np.empty(BATCH, object)
RAGGED[:] = [np.ones((length, FEATURES)) for length in range(1, BATCH + 1)]
BATCHES = {
    "NaN": (with_one(np.nan), "must be finite.*Received: 1 NaN"),
    "infinite": (with_one(-np.inf), "must be finite.*Received: 1 NaN"),
    "NaN in half precision": (with_one(np.nan, "float16"), "must be finite.*Received: 1 NaN"),
    "no example": (X[:0], r"at least one example.*shape \(0, 5, 2\)"),
    "no time step": (X[:, :0], r"at least one example and one time step.*\(4, 0, 2\)"),
    "no feature": (X[..., :0], r"\(4, 5, 0\)"),
    "one example alone": (X[0], r"shape of the model's input.*Received: shape \(5, 2\).*x\[:1\]"),
    "an axis too many": (X[None], r"shape of the model's input.*\(1, 4, 5, 2\)"),
    "a number": (np.float32(3), r"at least one example.*shape \(\)"),
    "too many features": (numbers(BATCH, TIME, 7), r"shape of the model's input.*\(4, 5, 7\)"),
    "words": (np.full((BATCH, TIME, FEATURES), "word"), "array of numbers. Received: type <U4"),
    "bytes": (np.full((BATCH, TIME, FEATURES), b"word"), r"array of numbers. Received: type \|S4"),
    "complex numbers": (X + 1j, "array of numbers. Received: type complex"),
    "dates": (np.full((BATCH, TIME, FEATURES), "2020-01-01", "datetime64[D]"), "numbers. Received: type datetime"),
    "records": (np.zeros((BATCH, TIME, FEATURES), [("a", "f4")]), "array of numbers. Received: type "),
    "sequences of several lengths": (RAGGED, "array of Python objects.*pad_sequences"),
    "objects": (X.astype(object), "array of Python objects"),
    "two inputs": ([X, X], r"an array for each of the model's 1 inputs.*Received: 2"),
    "a list of lists": (X[0].tolist(), "an array|at least one example"),
    "nothing": (None, "array of Python objects|at least one example"),
    "a file's name": ("x.npy", "Received: type|at least one example"),
}  # fmt: skip


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("probe", PROBES)
def test_a_batch_that_is_none_is_refused(probe, batch, plain):
    x, told = BATCHES[batch]
    with pytest.raises(ValueError, match=rf"(?s)^A probe batch .*{told}"):
        PROBES[probe](plain, x)


@pytest.mark.parametrize("batch", ["NaN", "words", "no example", "too many features"])
def test_a_recorder_refuses_it_before_the_first_step(batch):
    x, told = BATCHES[batch]
    for recorder in (rnnkit.StateGradientRecorder(x, Y), rnnkit.GateRecorder(x)):
        made = model()
        before = made.get_weights()
        with pytest.raises(ValueError, match=told):
            made.fit(X, Y, callbacks=[recorder], verbose=0)
        np.testing.assert_array_equal(made.get_weights()[0], before[0])


@pytest.mark.parametrize("y", [np.full((BATCH, 1), "a"), Y[:2], Y[:0], np.full((BATCH, 1), np.nan), Y.astype(object)])
def test_targets_that_are_none_are_refused(y, plain):
    for probe in (probes.state_gradients, probes.state_gradient_norms, probes.saliency):
        with pytest.raises(ValueError, match=r"(?s)probe batch must.*Received: "):
            probe(plain, X, y)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (np.ones(3), r"each of the 4 examples. Received: type float64, shape \(3,\)"),
        (1.0, r"Received: type float64, shape \(\)"),
        (np.array(["a"] * BATCH), "Received: type <U1"),
        (np.array([1, np.nan, 1, np.inf]), "must be finite.*Received: 2 NaN"),
        (np.ones(BATCH, object), "Received: type object"),
    ],
)
def test_sample_weights_that_are_none_are_refused(weights, told, plain):
    with pytest.raises(ValueError, match=told):
        probes.state_gradients(plain, X, Y, sample_weight=weights)


@pytest.mark.parametrize(
    "layers", ["rn", "", "rnn\0", "层", "n" * 100_000, 5, 0, [], ["rnn", "x"], [["rnn"]], [None], {}]
)
def test_a_name_of_no_layer_is_refused(layers, plain):
    for probe in (PROBES["state_gradients"], PROBES["state_gradient_norms"], probes.gates, probes.gate_statistics):
        with pytest.raises(ValueError, match=r"(?s)layer .*\['rnn'\].*Received: "):
            probe(plain, X, layers=layers)
    for callback in (rnnkit.StateGradientRecorder(X, Y, layers=layers), rnnkit.StateGradientRecorder(layers=layers)):
        with pytest.raises(ValueError, match=r"(?s)layer .*\['rnn'\].*Received: "):
            model().fit(X, Y, callbacks=[callback], verbose=0)


@pytest.mark.parametrize("layer", ["rn", 5, [], ["rnn", "x"], [["rnn"]]])
@pytest.mark.parametrize("probe", ["state_jacobians", "singular_values", "lyapunov_exponents"])
def test_a_name_of_no_single_layer_is_refused(probe, layer, plain):
    with pytest.raises(ValueError, match=r"(?s)layer .*\['rnn'\].*Received: "):
        PROBES[probe](plain, X, layer=layer)


@pytest.mark.parametrize("state", ["c", "", 5, None, ["h"]])
def test_a_state_that_the_layer_has_not_is_refused(state, plain):
    with pytest.raises(ValueError, match=r"state must be one of \['h', 'all'\]. Received: "):
        probes.state_jacobians(plain, X, state=state)


@pytest.mark.parametrize("thing", [None, "model", keras.layers.GRU(3), keras.Sequential, [1]])
@pytest.mark.parametrize("probe", PROBES)
def test_what_is_no_model_is_refused(probe, thing):
    with pytest.raises(TypeError, match=r"A Keras model is needed. Received: .* of type .*Pass a keras.Model"):
        PROBES[probe](thing, X)


@pytest.mark.parametrize("dtype", ["float32", "double", "float16", 5, np.float64, ["float64"]])
def test_a_precision_that_is_none_is_refused(dtype, plain):
    for probe in ("state_gradients", "state_gradient_norms"):
        with pytest.raises(ValueError, match=r"`dtype` must be None.* or 'float64'. Received: dtype="):
            PROBES[probe](plain, X, dtype=dtype)


@pytest.mark.parametrize("output", [1, -2, 1.5, "0", True, (0, 0), [], [None]])
def test_a_unit_that_the_output_has_not_is_refused(output, plain):
    with pytest.raises(ValueError, match=r"(?s)`output` is the place of one unit.*Received: output="):
        probes.saliency(plain, X, output=output)


@pytest.mark.parametrize("every", [0, -1, 1.0, "2", None, np.nan, [1]])
def test_an_interval_that_is_none_is_refused(every):
    for make in (
        lambda **given: rnnkit.StateGradientRecorder(X, Y, **given),
        lambda **given: rnnkit.GateRecorder(X, **given),
    ):
        with pytest.raises(ValueError, match=r"`every` must be a whole number of at least 1. Received: every="):
            make(every=every)


@pytest.mark.parametrize("measures", ["maximum", "", 5, None, ["max", 3], [["max"]], [None]])
def test_a_measure_that_is_none_is_refused(measures):
    with pytest.raises(ValueError, match=r"measure must be one of \['max', .*Received: "):
        rnnkit.GradientRecorder(measures=measures)


# --- masks, names, lengths -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_where_every_step_is_masked_there_is_nothing_and_no_warning():
    for cell in (keras.layers.GRU, keras.layers.LSTM):
        made, x = model(keras.layers.Masking(), cell=cell), X.copy()
        x[1] = 0
        for gradients in probes.state_gradients(made, x, Y)["rnn"].values():
            assert (gradients[1] == 0).all()
            assert (gradients[0] != 0).any()
        np.testing.assert_array_equal(probes.state_jacobians(made, x)[1], np.tile(np.eye(3), (TIME, 1, 1)))
        np.testing.assert_allclose(probes.singular_values(made, x)[1], 1)
        np.testing.assert_allclose(probes.lyapunov_exponents(made, x)[1], 0, atol=1e-12)
        assert (probes.saliency(made, x)[1] == 0).all()
        for gate in probes.gates(made, x)["rnn"].values():
            assert np.isnan(gate[1]).all()
            assert np.isfinite(gate[0]).all()
        everything = probes.gate_statistics(made, 0 * x)()["rnn"]
        assert all(np.isnan(gate).all() for gate in everything.values())
        with pytest.raises(ValueError, match=r"NaN at every step. Either every step is masked"):
            plot.gates(probes.gates(made, 0 * x)["rnn"])


def test_a_batch_of_masked_steps_alone_trains_and_is_recorded():
    made, recorder, flow = (
        model(keras.layers.Masking()),
        rnnkit.GradientRecorder(),
        rnnkit.StateGradientRecorder(every=1),
    )
    made.fit(0 * X, Y, callbacks=[recorder, flow], verbose=0)
    assert recorder.history["rnn/kernel"].tolist() == [0]
    assert list(recorder.history.values())[-1][0] > 0  # the bias of the head
    assert (flow.history["rnn"] == 0).all()


NAMES = ["层", "größe_μ", "a b", "$h_t", "_under", "100%", "#1"]


@pytest.mark.filterwarnings("ignore:Glyph")  # the font of the figures has no Chinese
@pytest.mark.parametrize("name", slow_but(NAMES, [*NAMES, "n" * 500, "a.b-c"]))
def test_a_layer_may_have_any_name_that_keras_takes(name, tmp_path):
    made = keras.Sequential([keras.Input((None, FEATURES)), keras.layers.GRU(3, name=name), keras.layers.Dense(1)])
    made.compile("sgd", "mse", **FAST)
    try:
        made.fit(X, Y, verbose=0)
    except ValueError as error:  # TensorFlow takes few characters but letters and digits, unless it runs eagerly
        pytest.skip(f"Keras does not: {error}")
    recorder, flow, gates = rnnkit.GradientRecorder(), rnnkit.StateGradientRecorder(X, Y), rnnkit.GateRecorder(X)
    made.fit(X, Y, callbacks=[recorder, flow, gates], verbose=0)
    key = f"{name}/recurrent_kernel"
    assert rnnkit.load(recorder.save(tmp_path / "run")).history[key].tolist() == recorder.history[key].tolist()
    assert name in recorder.to_csv(tmp_path / "run.csv").read_text(encoding="utf-8")
    assert list(flow.history) == list(gates.history) == [name]
    assert probes.state_jacobians(made, X, layer=name).shape == (BATCH, TIME, 3, 3)
    with pytest.raises(ValueError, match=r"Did you mean"):
        probes.gates(made, X, layers=name + "x")
    plot.gradient_norms(recorder).figure.savefig(tmp_path / "norms.png")
    plot.gates(gates).figure.savefig(tmp_path / "gates.png")
    plt.close("all")


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["größe μ", "层", "100%"])
def test_a_name_that_no_graph_can_have_is_refused_in_plain_words(name):
    """Such a model can be trained eagerly, and its gradients recorded; what runs a graph of its own cannot."""
    made = keras.Sequential([keras.Input((None, FEATURES)), keras.layers.GRU(3, name=name), keras.layers.Dense(1)])
    made.compile("sgd", "mse", run_eagerly=True)
    recorder = rnnkit.GradientRecorder()
    made.fit(X, Y, callbacks=[recorder], verbose=0)
    assert recorder.history[f"{name}/kernel"].shape == (1,)
    for measure in (probes.state_gradients, probes.state_gradient_norms):
        with pytest.raises(ValueError, match=rf"letters A to Z.*Received: {re.escape(repr(name))}"):
            measure(made, X, Y)()
    with pytest.raises(ValueError, match="letters A to Z"):
        made.fit(X, Y, callbacks=[rnnkit.StateGradientRecorder(X, Y)], verbose=0)
    made.fit(X, Y, verbose=0)


@pytest.mark.slow
def test_one_step_and_one_example_are_enough():
    for cell in (keras.layers.SimpleRNN, keras.layers.GRU, keras.layers.LSTM):
        made, x, y = model(cell=cell), X[:1, :1], Y[:1]
        assert probes.state_gradients(made, x, y)["rnn"]["h"].shape == (1, 1, 3)
        np.testing.assert_allclose(probes.singular_values(made, x), np.ones((1, 1, 3)))
        assert probes.lyapunov_exponents(made, x).shape[0] == 1
        assert probes.saliency(made, x).shape == (1, 1)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "uint8", "bool"])
def test_numbers_of_another_type_mean_the_same(dtype, plain):
    x = (X > 0).astype(dtype)
    for probe in (PROBES["state_gradients"], probes.gates):
        measured, expected = (next(iter(probe(plain, array)["rnn"].values())) for array in (x, x.astype("float32")))
        np.testing.assert_allclose(measured, expected, rtol=1e-6)


# --- tasks, layers, initializers -----------------------------------------------------------------------------------

MAKERS = {
    "adding_problem": lambda n=5, seed=0: tasks.adding_problem(n, 20, seed),
    "first_symbol_recall": lambda n=5, seed=0: tasks.first_symbol_recall(n, 20, seed=seed),
    "temporal_order": lambda n=5, seed=0: tasks.temporal_order(n, 20, seed),
    "copy_memory": lambda n=5, seed=0: tasks.copy_memory(n, 20, seed=seed),
    "double_sum": lambda n=5, seed=0: tasks.double_sum(n, 20, seed=seed),
    "tickets": lambda n=5, seed=0: tasks.tickets(n, 6, seed=seed),
    "agreement": lambda n=5, seed=0: tasks.agreement(n, 2, 0.5, seed=seed),
    "terribly_exciting": lambda n=5, seed=0: tasks.terribly_exciting(n, seed=seed),
    "python_brackets": lambda n=12, seed=0: tasks.python_brackets(n, 32, bins=(1, 8), seed=seed),
    "python_text": lambda n=5, seed=0: tasks.python_text(n, 20, seed=seed),
    "digit_images": lambda n=5, seed=0: tasks.digit_images(n, seed=seed),
}


@pytest.mark.tensorflow
@pytest.mark.parametrize("task", MAKERS)
@pytest.mark.parametrize("wrong", [0, -1, 2.0, "5", None, np.nan, True, [5]])
def test_a_number_of_examples_that_is_none_is_refused(wrong, task):
    with pytest.raises(ValueError, match=r"must be a whole number of at least .*Received: "):
        MAKERS[task](n=wrong)


@pytest.mark.tensorflow
@pytest.mark.parametrize("task", MAKERS)
@pytest.mark.parametrize("wrong", [-1, 2.0, "5", None, np.nan, True, [5]])
def test_a_seed_that_is_none_is_refused(wrong, task):
    with pytest.raises(ValueError, match=r"`seed` must be a whole number of at least 0. Received: seed="):
        MAKERS[task](seed=wrong)


@pytest.mark.tensorflow
@pytest.mark.parametrize("task", ["adding_problem", "copy_memory", "double_sum"])
def test_a_batch_too_large_for_the_memory_is_named_by_its_size(task):
    with pytest.raises(MemoryError, match=r"Unable to allocate .* with shape"):
        MAKERS[task](n=10**14)


@pytest.mark.parametrize("units", [0, -1, 2.0, "3", None, True, [3]])
@pytest.mark.parametrize("cell", [layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell])
def test_units_that_are_none_are_refused(cell, units):
    with pytest.raises(ValueError, match=r"`units` must be a whole number of at least 1. Received: units="):
        cell(units)


def test_units_may_be_a_number_of_numpy():
    cell = rnnkit.layers.GRUCell(np.int64(3))
    assert cell.get_config()["units"] == 3
    assert type(cell.get_config()["units"]) is int  # or it could not be saved


@pytest.mark.parametrize("inside", [None, "dense", 3, keras.layers.Dense, []])
def test_a_connection_round_nothing_is_refused(inside):
    for connection in (layers.Residual, layers.DenselyConnected, layers.Highway):
        with pytest.raises(ValueError, match=r"goes round a Keras layer. Received: "):
            connection(inside)
    with pytest.raises(ValueError, match=r"Received: "):
        layers.StackedRNN(inside)


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf, "0.9", None, [0.9]])
def test_a_number_that_no_initializer_takes_is_refused(value):
    for make in (initializers.SpectralRadius, initializers.Chrono):
        with pytest.raises(ValueError, match=r"must be a finite number .*Received: "):
            make(value)
    if value != 0 and value != -1:
        with pytest.raises(ValueError, match=r"must be a finite number. Received: forget="):
            initializers.GateBias(forget=value)


# --- claims, sweeps, figures ---------------------------------------------------------------------------------------


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "changed",
    [
        {"statement": None},
        {"statement": " "},
        {"statement": 5},
        {"measured": []},
        {"measured": np.nan},
        {"measured": [1, [2, 3]]},
        {"measured": "many"},
        {"measured": None},
        {"measured": 1j},
        {"measured": np.array([1, "a"], object)},
        {"relation": "=="},
        {"relation": None},
        {"relation": [">="]},
        {"bound": [1, 2]},
        {"bound": "1"},
        {"bound": np.nan},
        {"fraction": 0},
        {"fraction": "all"},
        {"fraction": np.nan},
        {"floor": -1},
        {"floor": "small"},
        {"floor": np.nan},
        {"lecture": "grue"},
        {"lecture": ["gru"]},
    ],
    ids=str,
)
def test_a_claim_that_cannot_be_tested_is_refused(changed, capsys):
    right = {"statement": "it holds", "measured": [1, 2], "relation": ">=", "bound": 1}
    with pytest.raises(ValueError, match=r"received "):
        claims.claim(**(right | changed))
    assert capsys.readouterr().out == ""
    claims.claim(**right)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("settings", "seeds", "measured"),
    [
        ({}, [], []),
        ({}, [0], []),
        ({}, [0, 1], [None, None]),
        ({"units": [1, 2]}, [0, 1], [{"a": 1}] * 3),
        ({"units": []}, [0], [{"a": 1}]),
        ({}, [0, 1], [{"a": 1}, {"b": 1}]),
    ],
)
def test_runs_that_are_no_sweep_are_refused(settings, seeds, measured):
    with pytest.raises(ValueError, match=r"Received: "):
        sweeps.Sweep(settings, seeds, measured)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("relation", "bound"), [("=>", 1), (None, 1), ([">="], 1), (">=", "1"), (">=", None), (">=", [1])]
)
def test_a_success_that_is_none_is_refused(relation, bound):
    with pytest.raises(ValueError, match=r"Received: "):
        sweeps.Sweep({}, [0, 1], [{"a": 1}, {"a": 2}]).success("a", relation, bound)


@pytest.mark.tensorflow
@pytest.mark.parametrize("train", [None, 5, {"loss": 1}, "train"])
def test_what_is_no_training_function_is_refused_before_a_worker_starts(train, monkeypatch):
    monkeypatch.setattr(sweeps._pool, "_hired", lambda count: pytest.fail("a worker was started"))
    with pytest.raises(TypeError, match=r"calls a function that trains once.*Received: .*without parentheses"):
        sweeps.sweep(train, seeds=range(2))


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "changed",
    [{"result": None}, {"source": " "}, {"verdict": None}, {"setting": "x"}, {"here": None}, {"here": [1, [2, 3]]}],
    ids=str,
)
def test_a_card_that_says_nothing_is_refused(changed, capsys):
    right = {"result": "it holds", "source": "A (2013)", "setting": ("a", "b"), "published": 1, "here": 2.0}
    right["verdict"] = "reproduced"
    with pytest.raises(ValueError, match=r"received "):
        rnnkit.replication(**(right | changed))
    assert capsys.readouterr().out == ""


DRAWN = {
    "gradient_norms": lambda values: plot.gradient_norms({"a/b": values}),
    "gradient_flow": lambda values: plot.gradient_flow({"a": values}),
    "singular_values": plot.singular_values,
    "flow_over_training": plot.flow_over_training,
    "loss_surface": lambda values: plot.loss_surface(np.arange(3), np.arange(3), values),
    "a path": lambda values: plot.loss_surface(np.arange(2), np.arange(2), np.eye(2), paths={"p": values}),
    "gates": lambda values: plot.gates({"forget": values}),
}


@pytest.mark.tensorflow
@pytest.mark.parametrize("figure", DRAWN)
@pytest.mark.parametrize(
    "values",
    ["words", ["a", "b"], None, [1, [2, 3]], [[1j, 2], [3, 4]], np.array([1, "a"], object), {}, np.zeros((2, 0)), 5.0],
    ids=str,
)
def test_what_cannot_be_drawn_is_refused_and_leaves_no_figure(values, figure):
    before = plt.get_fignums()
    with pytest.raises(ValueError, match=r"Received"):
        DRAWN[figure](values)
    assert plt.get_fignums() == before


@pytest.mark.tensorflow
@pytest.mark.parametrize("thing", [None, 5, "run.npz", [1, 2], np.ones(3)])
def test_what_is_no_recording_is_refused(thing):
    for draw in (plot.gradient_norms, plot.gradient_flow, plot.gates):
        with pytest.raises(ValueError, match=r"Received: "):
            draw(thing)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["", "no_such", "层", "n" * 10_000, 5, None, ["a"], ..., np.zeros(2)])
def test_a_learner_who_misspells_an_exercise_is_told_and_sees_no_traceback(name, capsys):
    for ask in (lambda: rnnkit.check(name, 1), lambda: rnnkit.hint(name), lambda: rnnkit.solution(name)):
        ask()
        assert "There is no exercise called" in capsys.readouterr().out
    assert rnnkit.use_or_reference(name, 3) == 3
