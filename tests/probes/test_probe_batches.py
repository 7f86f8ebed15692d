"""Probes read what `fit` reads, by name, from data sets, from any framework; what they cannot, they say plainly."""

import keras
import numpy as np
import pytest
from fast import EAGER, FAST

import rnnkit
from rnnkit import probes

BATCH, TIME, FEATURES = 4, 5, 2
layers, ops = keras.layers, keras.ops
X = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype("float32")
Y = np.random.default_rng(1).normal(size=(BATCH, 1)).astype("float32")
WEIGHTS = np.array([1, 2, 0, 3], "float32")


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


def compiled(model, loss="mse", **options):
    model.compile("sgd", loss, **(EAGER | options))
    return model


def plain(**options):
    return compiled(keras.Sequential([keras.Input((TIME, FEATURES)), layers.LSTM(3, name="rnn"), layers.Dense(1)]))


def assert_same(measured, expected):
    assert list(measured) == list(expected)
    for key, values in expected.items():
        if isinstance(values, dict):
            assert_same(measured[key], values)
        else:
            np.testing.assert_allclose(measured[key], values, rtol=1e-5, atol=1e-7, err_msg=key)


# --- names -----------------------------------------------------------------------------------------------------------


def two_inputs(as_dict=False):
    title, tags = keras.Input((None, FEATURES), name="title"), keras.Input((3,), name="tags")
    joined = layers.Concatenate()([layers.LSTM(3, name="rnn")(title), tags])
    inputs = {"title": title, "tags": tags} if as_dict else [title, tags]
    return compiled(keras.Model(inputs, layers.Dense(1)(joined)))


@pytest.mark.parametrize("as_dict", [False, True])
def test_inputs_are_found_by_their_names_in_any_order(as_dict):
    model, tags = two_inputs(as_dict), np.ones((BATCH, 3), "float32")
    ordered = {"tags": tags, "title": X} if as_dict else [X, tags]
    expected = probes.state_gradients(model, ordered, Y), probes.gates(model, ordered)
    jacobians, norms = probes.state_jacobians(model, ordered), probes.saliency(model, ordered)
    more = [] if as_dict else [{"other": np.ones(BATCH), "title": X, "tags": tags}]  # Keras warns of a name too many
    for x in ({"title": X, "tags": tags}, {"tags": tags, "title": X}, *more):
        model.fit(x, Y, verbose=0, epochs=0)
        assert_same(probes.state_gradients(model, x, Y), expected[0])
        assert_same(probes.gates(model, x), expected[1])
        np.testing.assert_allclose(probes.state_jacobians(model, x), jacobians, rtol=1e-6)
        measured = probes.saliency(model, x)
        assert set(measured) == set(x)
        np.testing.assert_allclose(measured["title"], norms["title"] if as_dict else norms[0], rtol=1e-5)


def test_nested_dicts_are_read_by_name_and_an_optional_input_may_be_none():
    series = keras.Input((TIME, FEATURES), name="series")
    given = {"series": series, "rest": {"b": keras.Input((2,), name="b"), "c": keras.Input((1,), name="c")}}
    given["maybe"] = keras.Input((3,), name="maybe", optional=True)
    joined = layers.Concatenate()([layers.GRU(3, name="rnn")(series), given["rest"]["b"], given["rest"]["c"]])
    model = compiled(keras.Model(given, layers.Dense(1)(joined)))
    x = {"rest": {"c": Y, "b": np.ones((BATCH, 2))}, "maybe": None, "series": X}
    assert probes.state_gradients(model, x, Y)["rnn"]["h"].shape == (BATCH, TIME, 3)
    measured = probes.saliency(model, x)
    assert measured["series"].shape == (BATCH, TIME)
    assert measured["maybe"] is None


def test_a_dict_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"inputs, \['title', 'tags'\]. Received: a dict with \['title'\]. Name its"):
        probes.gates(two_inputs(), {"title": X})


@pytest.mark.parametrize("wrong", [{"title": X[..., :1], "tags": np.ones((BATCH, 3))}, {"title": X, "tags": X}])
def test_the_shape_of_each_named_array_is_checked(wrong):
    with pytest.raises(ValueError, match=r"^A probe batch must have the shape of the model's input"):
        probes.gates(two_inputs(), wrong)


def test_the_last_axis_of_a_univariate_series_may_be_left_out():
    model = compiled(keras.Sequential([keras.Input((TIME, 1)), layers.GRU(3, name="rnn"), layers.Dense(1)]))
    x = X[..., 0]
    model.fit(x, Y, verbose=0, epochs=1)
    assert_same(probes.state_gradients(model, x, Y), probes.state_gradients(model, x[..., None], Y))
    np.testing.assert_allclose(probes.saliency(model, x), probes.saliency(model, x[..., None]), rtol=1e-6)


# --- other arrays ----------------------------------------------------------------------------------------------------


def tensorflow_tensors(*arrays):
    tf = pytest.importorskip("tensorflow")
    return [tf.constant(array) for array in arrays]


def torch_tensors(*arrays):
    torch = pytest.importorskip("torch")
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def jax_arrays(*arrays):
    return [pytest.importorskip("jax").numpy.asarray(array) for array in arrays]


ARRAYS = {
    "keras": lambda *arrays: [ops.convert_to_tensor(array) for array in arrays],
    "tensorflow": tensorflow_tensors,
    "torch": torch_tensors,
    "jax": jax_arrays,
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_tensors_of_any_framework_mean_the_same(kind):
    model = plain()
    x, y, weights = ARRAYS[kind](X, Y, WEIGHTS)
    assert_same(
        probes.state_gradients(model, x, y, sample_weight=weights),
        probes.state_gradients(model, X, Y, sample_weight=WEIGHTS),
    )
    assert_same(probes.gates(model, x), probes.gates(model, X))
    np.testing.assert_allclose(probes.saliency(model, x, y), probes.saliency(model, X, Y), rtol=1e-5)
    np.testing.assert_allclose(probes.state_jacobians(model, x), probes.state_jacobians(model, X), rtol=1e-6)


def test_pandas_objects_mean_the_same():
    pandas = pytest.importorskip("pandas")
    model, expected = plain(), None
    expected = probes.state_gradients(model, X, Y, sample_weight=WEIGHTS)
    for y in (pandas.DataFrame(Y), pandas.Series(Y[:, 0])):
        assert_same(probes.state_gradients(model, X, y, sample_weight=pandas.Series(WEIGHTS)), expected)
    flow = rnnkit.StateGradientRecorder(X, pandas.DataFrame(Y))
    model.fit(X, pandas.DataFrame(Y), verbose=0, callbacks=[flow])
    assert flow.history["rnn"].shape == (1, TIME)


def reader_of_words():
    vectorize = layers.TextVectorization(vocabulary=["good", "bad"], output_sequence_length=4, name="vectorize")
    text = keras.Input((1,), dtype="string")
    embedded = layers.Embedding(4, 2)(vectorize(text))
    return compiled(keras.Model(text, layers.Dense(1)(layers.LSTM(3, name="rnn")(embedded))))


@pytest.mark.tensorflow
def test_words_are_read_as_strings_objects_and_tensors():
    model, words = reader_of_words(), np.array([["good bad"], ["bad"], ["fine"], ["good"]])
    expected = probes.state_gradients(model, words, Y)
    for x in (words.astype(object), words[:, 0].astype(object), words.astype(bytes), *tensorflow_tensors(words)):
        assert_same(probes.state_gradients(model, x, Y), expected)
        assert_same(probes.gates(model, x), probes.gates(model, words))
    with pytest.raises(ValueError, match=r"There is no gradient by words.*keras.Model\(model.get_layer\(NAME\).output"):
        probes.saliency(model, words)
    vectorize = model.get_layer("vectorize")
    rest = keras.Model(vectorize.output, model.outputs[0])  # what the message says
    assert probes.saliency(rest, vectorize(words)).shape == (BATCH, 4)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="on TensorFlow Keras reads words")
def test_words_are_refused_where_fit_refuses_them():
    model, words = reader_of_words(), np.array([["good bad"]] * BATCH)
    with pytest.raises(ValueError, match="Invalid dtype"):
        model.fit(words, Y, verbose=0)
    for ask in (probes.gates, probes.saliency, lambda *given: probes.state_gradients(*given, Y)):
        with pytest.raises(
            ValueError, match=r"must be an array of numbers. Received: type <U8.*Turn words into numbers"
        ):
            ask(model, words)


@pytest.mark.tensorflow
def test_ragged_sequences_are_refused():
    tf = pytest.importorskip("tensorflow")
    ragged = tf.RaggedTensor.from_row_lengths(X.reshape(-1, FEATURES), [5, 4, 6, 5])
    with pytest.raises(ValueError, match=r"one length. Received: a RaggedTensor. Pad it with x.to_tensor\(\)"):
        probes.gates(plain(), ragged)


# --- data sets -------------------------------------------------------------------------------------------------------


class Halves(keras.utils.PyDataset):
    """Two batches."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 2

    def __getitem__(self, place):
        return tuple(part[2 * place : 2 * place + 2] for part in self.parts)


def pipeline(*parts):
    return pytest.importorskip("tensorflow").data.Dataset.from_tensor_slices(parts).batch(2)


def loader(*parts, **options):
    data = pytest.importorskip("torch").utils.data
    return data.DataLoader(data.TensorDataset(*torch_tensors(*parts)), batch_size=2, **options)


@pytest.mark.parametrize("make", [Halves, pipeline, loader])
def test_of_a_data_set_the_first_batch_is_read(make):
    model, data = plain(), make(X, Y)
    expected = probes.state_gradients(model, X[:2], Y[:2])
    assert_same(probes.state_gradients(model, data), expected)
    assert_same(probes.state_gradients(model, data, None), expected)
    weighted = probes.state_gradients(model, X[:2], Y[:2], sample_weight=WEIGHTS[:2])
    assert_same(probes.state_gradients(model, make(X, Y, WEIGHTS)), weighted)
    assert_same(probes.gates(model, data), probes.gates(model, X[:2]))
    np.testing.assert_allclose(probes.state_jacobians(model, data), probes.state_jacobians(model, X[:2]), rtol=1e-6)
    np.testing.assert_allclose(probes.saliency(model, data), probes.saliency(model, X[:2]), rtol=1e-5)
    flow, gates = rnnkit.StateGradientRecorder(data), rnnkit.GateRecorder(data)
    model.fit(X, Y, verbose=0, callbacks=[flow, gates])
    assert flow.history["rnn"].shape == gates.history["rnn"]["forget"].shape == (1, TIME)
    with pytest.raises(ValueError, match=r"^A probe batch from a data set has the targets.*Leave them out"):
        probes.state_gradients(model, data, Y)


@pytest.mark.parametrize("own", [False, True])
def test_a_shuffling_loader_goes_on_as_if_it_had_not_been_read(own):
    torch = pytest.importorskip("torch")

    def order(probe):
        torch.manual_seed(0)
        data = loader(X, Y, shuffle=True, generator=torch.Generator().manual_seed(1) if own else None)
        if probe:
            probes.gates(plain(), data)
        return np.concatenate([batch[1].detach().numpy() for batch in data])

    np.testing.assert_array_equal(order(probe=True), order(probe=False))


def test_an_iterator_is_left_whole():
    batches = iter([(X, Y)])
    with pytest.raises(ValueError, match=r"without taking it from training.*Received: a list_iterator"):
        probes.state_gradients(plain(), batches)
    assert len(list(batches)) == 1


# --- targets and losses ----------------------------------------------------------------------------------------------


def two_heads(loss):
    inputs = keras.Input((TIME, FEATURES))
    hidden = layers.LSTM(3, name="rnn")(inputs)
    heads = {name: layers.Dense(1, name=name)(hidden) for name in ("q", "p")}
    return compiled(keras.Model(inputs, heads), loss)


def test_an_output_without_loss_has_a_target_of_none():
    model = two_heads({"p": "mse", "q": None})
    expected = compiled(keras.Model(model.inputs, model.output["p"]))
    measured = probes.state_gradients(model, X, {"q": None, "p": Y})
    assert_same(measured, probes.state_gradients(expected, X, Y))


def test_targets_are_found_by_their_names_in_any_order():
    model = two_heads({"p": "mse", "q": "mae"})
    expected = probes.state_gradients(model, X, {"p": Y, "q": 2 * Y})
    assert_same(probes.state_gradients(model, X, {"q": 2 * Y, "p": Y}), expected)


class Endpoint(layers.Layer):
    """Adds the loss itself, as in Keras's guide on layers and models of one's own."""

    def call(self, targets, predicted):
        self.add_loss(ops.mean((targets - predicted) ** 2))
        return predicted


def endpoint():
    inputs, targets = keras.Input((TIME, FEATURES)), keras.Input((1,))
    predicted = layers.Dense(1)(layers.LSTM(3, name="rnn")(inputs))
    return keras.Model(inputs, predicted), compiled(
        keras.Model([inputs, targets], Endpoint()(targets, predicted)), None
    )


@pytest.mark.parametrize("dtype", [None, "float64"])
def test_a_loss_that_a_layer_adds_is_enough(dtype):
    bare, model = endpoint()
    expected = probes.state_gradients(compiled(bare), X, Y, dtype=dtype)
    assert_same(probes.state_gradients(model, [X, Y], dtype=dtype), expected)
    assert_same(probes.state_gradient_norms(model, [X, Y], dtype=dtype)(), probes.state_gradient_norms(bare, X, Y)())


class OwnLoss(keras.Model):
    """Computes its loss itself, without targets."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.square(y_pred - 1))


def test_a_loss_that_the_model_computes_itself_is_enough():
    bare, _ = endpoint()
    model = OwnLoss(bare.inputs, bare.outputs[0])
    model.compile("sgd", **EAGER)
    assert_same(probes.state_gradients(model, X), probes.state_gradients(compiled(bare), X, np.ones_like(Y)))


def test_no_loss_at_all_is_refused_with_a_step_that_leaves_the_model_as_it_is():
    model, _ = endpoint()
    model.compile("sgd", **EAGER)
    with pytest.raises(ValueError, match=r"^A loss is needed .*twin = keras.Model\(model.inputs, model.outputs\)"):
        probes.state_gradients(model, X, Y)
    twin = keras.Model(model.inputs, model.outputs)  # what the message says
    twin.compile(loss="mse")
    assert list(probes.state_gradients(twin, X, Y)) == ["rnn"]
    assert model.loss is None
    model.compiled = False
    with pytest.raises(ValueError, match=r"must be compiled with a loss.*which is not compiled"):
        probes.state_gradients(model, X, Y)


def test_targets_left_out_are_asked_for():
    with pytest.raises(ValueError, match=r"compares its output with targets. Received: y=None .*loss='mse'"):
        probes.state_gradients(plain(), X)


# --- other models ----------------------------------------------------------------------------------------------------


class WithoutCall(keras.Model):
    """Its train_step runs a part of it, as models of GANs and of contrastive learning do."""

    def __init__(self):
        super().__init__(name="bare")
        self.part = keras.Sequential(
            [keras.Input((TIME, FEATURES)), layers.LSTM(3, name="rnn"), layers.Dense(1)], name="part"
        )


def test_of_a_model_without_call_the_part_is_measured():
    model = WithoutCall()
    model.compile("sgd", "mse")
    for ask in (probes.gates, probes.saliency, lambda *given: probes.state_gradients(*given, Y)):
        with pytest.raises(ValueError, match=r"^A model must have a `call`.*'bare' of class WithoutCall.*\['part'\]"):
            ask(model, X)
    assert list(probes.state_gradients(compiled(model.part), X, Y)) == ["rnn"]


def stateful(size=2):
    inputs = keras.Input(batch_shape=(size, TIME, FEATURES))
    return compiled(keras.Model(inputs, layers.Dense(1)(layers.LSTM(3, stateful=True, name="rnn")(inputs))))


def test_the_fixed_batch_size_of_a_stateful_model_is_named():
    for ask in (
        probes.gates,
        probes.state_jacobians,
        probes.saliency,
        lambda *given: probes.state_gradients(*given, Y),
    ):
        with pytest.raises(ValueError, match=r"fixed batch size .*built with, 2. Received: 4 .*x\[:2\], y\[:2\]"):
            ask(stateful(), X)
    assert probes.gates(stateful(), X[:2])["rnn"]["forget"].shape == (2, TIME, 3)


def test_a_refusal_inside_a_layer_is_not_wrapped():
    class Uncounted(layers.LSTMCell):
        def call(self, inputs, states, training=False):
            return states[0] + inputs[:, :1], states

    model = compiled(keras.Sequential([keras.Input((TIME, FEATURES)), layers.RNN(Uncounted(3)), layers.Dense(1)]))
    for ask in (probes.gates, lambda *given: probes.state_gradients(*given, Y)):
        with pytest.raises(ValueError, match=r"^A cell must compute its gates") as raised:
            ask(model, X)
        assert "Exception encountered" not in str(raised.value)


def test_singular_values_of_a_stack_say_what_can_be_measured():
    cells = [layers.GRUCell(2), layers.SimpleRNNCell(3)]
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layers.RNN(cells, name="rnn")])
    with pytest.raises(
        ValueError, match=r'^Singular values .* one cell. Received: layer \'rnn\', a stack of 2.*state="all"'
    ):
        probes.singular_values(model, X)
    assert probes.state_jacobians(model, X, state="all").shape == (BATCH, TIME, 5, 5)


# --- prepared --------------------------------------------------------------------------------------------------------

PREPARED = {
    "state_gradients": (probes.state_gradients, probes.prepare_state_gradients, (X, Y)),
    "gates": (probes.gates, probes.prepare_gates, (X,)),
    "saliency": (probes.saliency, probes.prepare_saliency, (X,)),
    "saliency of the loss": (probes.saliency, probes.prepare_saliency, (X, Y)),
    "state_jacobians": (probes.state_jacobians, probes.prepare_state_jacobians, (X,)),
}


def flat(measured):
    return [np.asarray(array) for array in keras.tree.flatten(measured)]


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.tensorflow)])
@pytest.mark.parametrize("name", PREPARED)
def test_a_prepared_probe_measures_the_weights_of_the_moment(name, jit_compile):
    once, prepare, batch = PREPARED[name]
    model = plain()
    measure = prepare(model, *batch, jit_compile=jit_compile)
    first = flat(measure())
    for other in (batch, batch, [part[::-1] + 1 for part in batch]):
        model.fit(X, Y, verbose=0)
        measured = measure() if other is batch else measure(*other)
        for found, expected in zip(flat(measured), flat(once(model, *other)), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert not np.allclose(first[0], flat(measure())[0], rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="must be finite"):
        measure(np.nan * X, *batch[1:])


def test_a_probe_called_once_sees_all_that_has_changed():
    """There is no hidden cache: a new loss, another activation, another layer count at once."""
    model = plain()
    before = probes.state_gradients(model, X, Y)["rnn"]["h"]
    model.compile("sgd", lambda y, p: 3 * ops.mean(ops.square(y - p), axis=-1), **EAGER)
    np.testing.assert_allclose(probes.state_gradients(model, X, Y)["rnn"]["h"], 3 * before, rtol=1e-4)
    model.get_layer("rnn").cell.activation = keras.activations.linear
    assert not np.allclose(probes.state_gradients(model, X, Y)["rnn"]["h"], 3 * before, rtol=1e-3)
    gates = probes.gates(model, X)["rnn"]["candidate"]
    model.get_layer("rnn").cell.activation = keras.activations.tanh
    assert not np.allclose(probes.gates(model, X)["rnn"]["candidate"], gates, rtol=1e-3)


@pytest.mark.parametrize("compiling", [EAGER, FAST])
def test_measuring_while_a_model_trains_changes_nothing(compiling):
    trained = []
    for measuring in (False, True):
        keras.utils.set_random_seed(5)
        model = compiled(
            keras.Sequential([keras.Input((TIME, FEATURES)), layers.LSTM(3, dropout=0.3), layers.Dense(1)]), **compiling
        )
        if measuring:
            for _, prepare, batch in PREPARED.values():
                prepare(model, *batch)()
        model.fit(X, Y, verbose=0, batch_size=2)
        trained.append(model.get_weights())
    for plain_weight, measured in zip(*trained, strict=True):
        np.testing.assert_array_equal(plain_weight, measured)
