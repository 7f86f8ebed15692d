"""Residual, dense and highway connections against their equations in NumPy, saved and loaded, recorded and masked."""

import keras
import numpy as np
import pytest

import rnnkit
from rnnkit.layers import DenselyConnected, Highway, Residual

WIDTH = 5
KINDS = {"residual": Residual, "dense": DenselyConnected, "highway": Highway}
each_kind = pytest.mark.parametrize("connect", KINDS.values(), ids=KINDS)


def batch(*shape):
    return np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")


def dense(**settings):
    return keras.layers.Dense(WIDTH, "tanh", kernel_initializer="random_normal", **settings)


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def by_hand(connect, x, kernel, bias, gate_kernel=None, gate_bias=None):
    """Do what the equation says."""
    out = np.tanh(x @ kernel + bias)
    if connect is Residual:
        return x + out
    if connect is DenselyConnected:
        return np.concatenate([x, out], axis=-1)
    gate = 1 / (1 + np.exp(-(x @ gate_kernel + gate_bias)))
    return gate * out + (1 - gate) * x


@each_kind
@pytest.mark.parametrize("shape", [(WIDTH,), (3, WIDTH)])
def test_a_connection_computes_its_equation(connect, shape):
    x, block = batch(*shape), connect(dense())
    block.build((None, *shape))
    draw = np.random.default_rng(1)
    block.set_weights([draw.normal(size=weight.shape) for weight in block.get_weights()])
    np.testing.assert_allclose(array(block(x)), by_hand(connect, x, *block.get_weights()), atol=1e-5)
    assert block.compute_output_shape((None, *shape)) == (None, *array(block(x)).shape[1:])


@each_kind
def test_recorders_list_the_layers_weights_by_the_connections_name(connect):
    block = connect(dense(), name="block")
    model = keras.Sequential([keras.Input((WIDTH,)), block, keras.layers.Dense(1, name="head")])
    model.compile("sgd", "mse")
    recorder = rnnkit.GradientRecorder()
    model.fit(batch(WIDTH), np.ones((4, 1)), callbacks=[recorder], verbose=0)
    gate = {"block/gate/kernel", "block/gate/bias"} if connect is Highway else set()
    assert set(recorder.history) == {"block/kernel", "block/bias", "head/kernel", "head/bias"} | gate


def test_what_is_inside_a_sequential_keeps_its_own_name():
    inside = keras.Sequential([keras.layers.LayerNormalization(name="norm"), dense(name="layer")])
    model = keras.Sequential([keras.Input((WIDTH,)), Residual(inside, name="block"), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    recorder = rnnkit.GradientRecorder()
    model.fit(batch(WIDTH), np.ones((4, 1)), callbacks=[recorder], verbose=0)
    assert {"block/norm/gamma", "block/layer/kernel"} <= set(recorder.history)


@each_kind
def test_a_saved_model_computes_the_same(connect, tmp_path):
    model = keras.Sequential([keras.Input((WIDTH,)), connect(dense(name="h"), name="block"), keras.layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(model(batch(WIDTH))), array(again(batch(WIDTH))))
    assert again.get_layer("block").layer.name == "h"


@each_kind
def test_convolutions_can_be_connected(connect):
    images = batch(6, 6, 3)
    block = connect(keras.layers.Conv2D(3, 3, padding="same", activation="tanh"))
    received, plain = array(block(images)), array(block.layer(images))
    expected = {
        Residual: lambda: images + plain,
        DenselyConnected: lambda: np.concatenate([images, plain], axis=-1),
        Highway: lambda: (gate := array(block.gate(images))) * plain + (1 - gate) * images,
    }[connect]()
    np.testing.assert_allclose(received, expected, atol=1e-6)


@each_kind
def test_masks_are_passed_on(connect):
    x = batch(6, WIDTH)
    x[:, 4:] = 0
    gate = {"gate": keras.layers.Dense(WIDTH, "sigmoid")} if connect is Highway else {}
    block = connect(keras.layers.SimpleRNN(WIDTH, return_sequences=True), **gate)
    inputs = keras.Input((None, WIDTH))
    outputs = keras.layers.SimpleRNN(2)(block(keras.layers.Masking()(inputs)))
    model = keras.Model(inputs, outputs)
    np.testing.assert_allclose(array(model(x)), array(model(x[:, :4])), atol=1e-6)


def test_state_gradients_reach_through_a_residual_connection():
    model = keras.Sequential(
        [
            keras.Input((None, WIDTH)),
            Residual(keras.layers.GRU(WIDTH, return_sequences=True), name="lower"),
            keras.layers.GRU(WIDTH, name="upper"),
        ]
    )
    model.compile(loss="mse")
    found = rnnkit.probes.state_gradients(model, batch(7, WIDTH), np.zeros((4, WIDTH)))
    assert found["lower"]["h"].shape == (4, 7, WIDTH)


def test_the_gate_starts_where_its_bias_puts_it_and_differs_from_the_layer():
    seeded = keras.initializers.RandomNormal(seed=3)
    block = Highway(keras.layers.Dense(WIDTH, "tanh", kernel_initializer=seeded, use_bias=False), gate_bias=-1.0)
    block.build((None, WIDTH))
    np.testing.assert_array_equal(array(block.gate.bias), -np.ones(WIDTH, "float32"))
    assert not np.allclose(array(block.gate.kernel), array(block.layer.kernel))
    assert block.gate.activation is keras.activations.sigmoid


def test_a_gate_of_ones_own_is_used():
    block = Highway(dense(), gate=keras.layers.Dense(WIDTH, bias_initializer="ones", kernel_initializer="zeros"))
    x = batch(WIDTH)
    np.testing.assert_allclose(array(block(x)), array(block.layer(x)), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Residual(lambda x: x), r"Pass one, as in Residual\(keras.layers.Dense"),
        (lambda: Residual(keras.layers.Dense(3)).build((None, WIDTH)), r"\(None, 5\) in, \(None, 3\) out"),
        (lambda: Highway(keras.layers.Dense(3)).build((None, WIDTH)), "Give the layer as many units"),
        (lambda: DenselyConnected(keras.layers.Conv2D(3, 3)).build((None, 8, 8, 1)), 'padding="same"'),
        (lambda: Highway(keras.layers.GRU(3, return_sequences=True)), "Pass the gate yourself"),
        (lambda: Highway(keras.layers.LayerNormalization()), "Pass the gate yourself"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_next_step(make, words):
    with pytest.raises(ValueError, match=words):
        make()
