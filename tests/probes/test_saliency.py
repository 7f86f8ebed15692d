"""Saliency against central finite differences of what the model says."""

import keras
import numpy as np
import pytest

from rnnkit import probes

BATCH, TIME, FEATURES, WORDS = 3, 5, 2, 7


def numbers(seed=0):
    return np.random.default_rng(seed).normal(size=(BATCH, TIME, FEATURES)).astype(keras.config.floatx())


def tokens():
    return np.random.default_rng(1).integers(1, WORDS, size=(BATCH, TIME))


def shaken(model):
    for place, variable in enumerate(model.trainable_variables):
        variable.assign(np.random.default_rng(place).normal(0, 0.7, variable.shape))
    return model


def classifier(*first, units=3, inputs=(TIME, FEATURES)):
    layers = keras.layers.LSTM(4, return_sequences=True), keras.layers.GRU(3), keras.layers.Dense(units)
    return shaken(keras.Sequential([keras.Input(inputs), *first, *layers]))


def differences(score, x, digits):
    """Central differences of `score`, one number an example, by every entry of x."""
    gradient = np.zeros(x.shape)
    for place in np.ndindex(x.shape[1:]):
        nudge = np.zeros_like(x)
        nudge[(slice(None), *place)] = digits.step
        gradient[(slice(None), *place)] = (score(x + nudge) - score(x - nudge)) / (2 * digits.step)
    return gradient


def said(model, x):
    return keras.ops.convert_to_numpy(model(x))


def close(measured, expected, digits):
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(measured, expected, rtol=10 * digits.rtol, atol=10 * digits.atol)


@pytest.mark.parametrize("output", [0, 2, -1])
def test_one_unit_is_differentiated_by_every_number_read(output, digits):
    model, x = classifier(), numbers()
    gradient = probes.saliency(model, x, output=output, norm=False)
    close(gradient, differences(lambda x: said(model, x)[:, output], x, digits), digits)
    np.testing.assert_allclose(probes.saliency(model, x, output=output), np.linalg.norm(gradient, axis=-1), rtol=1e-5)


def test_by_default_it_is_the_unit_that_each_example_predicts(digits):
    model, x = classifier(), numbers()
    head = model.layers[-1]
    head.bias.assign_sub(said(model, x).mean(axis=0))
    chosen = said(model, x).argmax(axis=1)
    assert len(set(chosen)) > 1
    measured = probes.saliency(model, x, norm=False)
    for example, unit in enumerate(chosen):
        np.testing.assert_allclose(
            measured[example], probes.saliency(model, x, output=unit, norm=False)[example], rtol=1e-5
        )


@pytest.mark.parametrize("flat", [False, True])
def test_a_single_unit_needs_no_name(flat, digits):
    model, x = classifier(units=1), numbers()
    if flat:
        model.add(keras.layers.Reshape(()))
    close(
        probes.saliency(model, x, norm=False), differences(lambda x: said(model, x).reshape(BATCH), x, digits), digits
    )


def test_one_unit_of_one_step_of_a_sequence(digits):
    layers = keras.layers.SimpleRNN(4, return_sequences=True), keras.layers.Dense(3)
    model, x = shaken(keras.Sequential([keras.Input((TIME, FEATURES)), *layers])), numbers()
    measured = probes.saliency(model, x, output=(2, 1), norm=False)
    close(measured, differences(lambda x: said(model, x)[:, 2, 1], x, digits), digits)
    assert (measured[:, 3:] == 0).all(), "what is read later has no influence"
    with pytest.raises(
        ValueError, match=r"a pair \(time step, unit\). Received: output=None .*\(3, 5, 3\).*output=\(-1, 0\)"
    ):
        probes.saliency(model, x)


def test_with_targets_it_is_the_loss_as_fit_minimises_it(digits):
    model, x = classifier(), numbers()
    model.compile(loss="mse")
    y = np.random.default_rng(2).normal(size=(BATCH, 3))
    expected = differences(lambda x: ((said(model, x) - y) ** 2).mean(axis=1) / BATCH, x, digits)
    close(probes.saliency(model, x, y, norm=False), expected, digits)


def over_embedded(model, place):
    """The part of a Sequential above its Embedding, as a function of the embedded vectors and the mask."""

    def rest(vectors, mask=None):
        for layer in model.layers[place + 1 :]:
            vectors = layer(vectors, mask=mask) if isinstance(layer, keras.layers.RNN) else layer(vectors)
        return keras.ops.convert_to_numpy(vectors)

    return rest


@pytest.mark.parametrize("dtype", ["int32", pytest.param("float32", marks=pytest.mark.slow)])
def test_of_words_it_is_the_gradient_by_their_vectors_and_padding_is_zero(dtype, digits):
    model = classifier(keras.layers.Embedding(WORDS, 2, mask_zero=True), units=1, inputs=(TIME,))
    x = tokens().astype(dtype)
    x[0, 3:], x[1, :2] = 0, 0
    vectors = keras.ops.convert_to_numpy(model.layers[0](x))
    rest = over_embedded(model, 0)
    mask = keras.ops.convert_to_tensor(x != 0)
    measured = probes.saliency(model, x, norm=False)
    close(measured, differences(lambda v: rest(v, mask)[:, 0], vectors, digits), digits)
    assert (measured[x == 0] == 0).all()
    assert (probes.saliency(model, x)[x == 0] == 0).all()
    assert (probes.saliency(model, x)[x != 0] > 0).all()


def test_masked_steps_of_numbers_are_zero():
    model, x = classifier(keras.layers.Masking()), numbers()
    x[0, 3:] = 0
    measured = probes.saliency(model, x)
    assert (measured[0, 3:] == 0).all()
    assert (np.delete(measured, 0, axis=0) > 0).all()


class Positions(keras.layers.Layer):
    """Adds a vector for each position, as Transformers do."""

    def __init__(self):
        super().__init__()
        self.vectors = keras.layers.Embedding(TIME, 2, name="positions")

    def call(self, inputs):
        return inputs + self.vectors(keras.ops.arange(TIME))


def test_an_embedding_of_positions_is_not_taken_for_one_of_words():
    words = keras.layers.Embedding(WORDS, 2, name="words")
    model = classifier(words, Positions(), inputs=(TIME,))
    x = np.tile(np.arange(TIME), (BATCH, 1))
    assert probes.saliency(model, x, norm=False).shape == (BATCH, TIME, 2)
    plain = classifier(words, inputs=(TIME,))
    plain.set_weights([*model.get_weights()[:1], *model.get_weights()[2:]])
    model.layers[1].vectors.set_weights([np.zeros((TIME, 2))])
    np.testing.assert_allclose(probes.saliency(model, x), probes.saliency(plain, x), rtol=1e-5)


def test_several_inputs_each_have_their_own_and_two_embeddings_of_one_stand_side_by_side(digits):
    said_words, measured_numbers = keras.Input((TIME,), name="words"), keras.Input((TIME, FEATURES), name="numbers")
    narrow, wide = keras.layers.Embedding(WORDS, 1), keras.layers.Embedding(WORDS, 3)
    joined = keras.layers.Concatenate()([narrow(said_words), measured_numbers, wide(said_words)])
    rest = keras.Sequential([keras.Input((TIME, 1 + FEATURES + 3)), keras.layers.GRU(4), keras.layers.Dense(1)])
    model = shaken(keras.Model({"words": said_words, "numbers": measured_numbers}, rest(joined)))
    x = {"words": tokens(), "numbers": numbers()}
    vectors = [keras.ops.convert_to_numpy(layer(x["words"])) for layer in (narrow, wide)]
    read = np.concatenate([vectors[0], x["numbers"], vectors[1]], axis=-1)
    expected = differences(lambda read: said(rest, read)[:, 0], read, digits)
    measured = probes.saliency(model, x, norm=False)
    assert set(measured) == set(x)
    close(measured["numbers"], expected[..., 1 : 1 + FEATURES], digits)
    close(measured["words"], np.delete(expected, range(1, 1 + FEATURES), axis=-1), digits)
    norms = probes.saliency(model, x)
    assert {name: array.shape for name, array in norms.items()} == dict.fromkeys(x, (BATCH, TIME))


def test_a_shared_embedding_read_by_two_inputs_keeps_them_apart(digits):
    first, second = keras.Input((TIME,)), keras.Input((TIME,))
    words, top = keras.layers.Embedding(WORDS, 2), keras.layers.LSTM(3)
    model = shaken(keras.Model([first, second], keras.layers.Dense(1)(top(words(first) * words(second)))))
    x = [tokens(), tokens()[::-1].copy()]
    a, b = (keras.ops.convert_to_numpy(words(one)) for one in x)
    dense = model.layers[-1]
    score = lambda a, b: keras.ops.convert_to_numpy(dense(top(a * b)))[:, 0]  # noqa: E731
    measured = probes.saliency(model, x, norm=False)
    close(measured[0], differences(lambda a: score(a, b), a, digits), digits)
    close(measured[1], differences(lambda b: score(a, b), b, digits), digits)


def test_a_nested_and_a_subclassed_model(digits):
    inner = classifier(keras.layers.Embedding(WORDS, 2), units=1, inputs=(TIME,))

    class Owner(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, inputs, training=False):
            return self.inner(inputs, training=training)

    model, x = Owner(), tokens()
    model(x)
    np.testing.assert_allclose(probes.saliency(model, x), probes.saliency(inner, x), rtol=1e-6)


def test_the_model_is_as_it_was():
    model = classifier(keras.layers.Embedding(WORDS, 2), keras.layers.Dropout(0.5, seed=0), inputs=(TIME,))
    model.compile("sgd", "mse")
    before = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    attributes = set(vars(model)), set(vars(model.layers[0]))
    probes.saliency(model, tokens(), np.ones((BATCH, 3)), training=True)
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))
    assert (set(vars(model)), set(vars(model.layers[0]))) == attributes
    model(tokens())


class TestErrors:
    """Each names the rule, what was received and the next step."""

    def test_integers_that_no_embedding_reads(self):
        with pytest.raises(ValueError, match=r"no gradient by integers.*int64.*\(3, 5, 2\).*x.astype\('float32'\)"):
            probes.saliency(classifier(), np.ones((BATCH, TIME, FEATURES), "int64"))

    def test_a_unit_that_is_not_there(self):
        for output in (3, -4, (0, 0), "a", 1.5, True):
            with pytest.raises(ValueError, match=r"place of one unit.*Received: output=.*\(3, 3\).*output=0"):
                probes.saliency(classifier(), numbers(), output=output)

    def test_targets_and_a_unit(self):
        model = classifier()
        with pytest.raises(ValueError, match=r"Either the loss or one unit.*output=0. Leave one"):
            probes.saliency(model, numbers(), np.ones((BATCH, 3)), output=0)
        with pytest.raises(ValueError, match=r"compiled with a loss.*model.compile"):
            probes.saliency(model, numbers(), np.ones((BATCH, 3)))

    def test_several_outputs(self):
        inputs = keras.Input((TIME, FEATURES))
        hidden = keras.layers.GRU(3)(inputs)
        model = keras.Model(inputs, [keras.layers.Dense(1)(hidden), keras.layers.Dense(2)(hidden)])
        with pytest.raises(ValueError, match=r"One output .* 2 outputs and no targets.*model.outputs\[0\]"):
            probes.saliency(model, numbers())
        assert probes.saliency(keras.Model(model.inputs, model.outputs[1]), numbers()).shape == (BATCH, TIME)

    def test_an_unbuilt_model_and_a_batch_that_does_not_fit(self):
        with pytest.raises(ValueError, match="must be built"):
            probes.saliency(keras.Sequential([keras.layers.GRU(3)]), numbers())
        with pytest.raises(ValueError, match=r"shape of the model's input"):
            probes.saliency(classifier(), numbers()[0])
