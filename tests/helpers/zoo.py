"""The zoo: a model of every kind that there is, small, with a batch of its own and what its owner calls its parts."""

from typing import NamedTuple

import keras
import numpy as np
from fast import EAGER
from slow_reference import fill, numpy

BATCH, TIME, FEATURES, UNITS, WORDS = 3, 4, 2, 3, 6
layers, ops = keras.layers, keras.ops
LEARNING_RATE = 0.25  # of plain gradient descent


class Specimen(NamedTuple):
    """A model, a batch, and what its owner would call its parts."""

    model: keras.Model
    x: object
    y: object
    weights: list  # what each trainable weight is called, in Keras's order
    recurrent: dict  # the recurrent layers by name


ZOO = {}


def specimen(builder):
    """Put a function that makes a specimen into the zoo."""
    ZOO[builder.__name__.replace("_", " ")] = builder
    return builder


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(keras.config.floatx())


def words():
    """Sequences of words, padded with 0 to the right, to the left, on both sides with a gap."""
    return np.array([[1, 2, 0, 0], [0, 3, 3, 5], [0, 4, 0, 1]])


def names(*lines):
    """`names("rnn kernel bias")` is `["rnn/kernel", "rnn/bias"]`."""
    return [f"{layer}/{weight}" for layer, *weights in map(str.split, lines) for weight in weights]


def compiled(model, **options):
    model.compile(keras.optimizers.SGD(LEARNING_RATE), **({"loss": "mse"} | EAGER | options))
    fill(model)
    return model


def stack(*parts, head=True, weights=(), x=None, y=None, **recurrent):
    """Make a specimen of a Sequential model that ends in a Dense layer."""
    x = numbers(BATCH, TIME, FEATURES) if x is None else x
    parts = [*parts, layers.Dense(1, name="head")] if head else parts
    model = compiled(keras.Sequential([keras.Input(x.shape[1:]), *parts]))
    y = numbers(*model.compute_output_shape(x.shape)) if y is None else y
    return Specimen(model, x, y, names(*weights, *(["head kernel bias"] if head else [])), recurrent)


@specimen
def sequential():
    rnn = layers.LSTM(UNITS, name="rnn")
    return stack(rnn, weights=["rnn kernel recurrent_kernel bias"], rnn=rnn)


@specimen
def functional_with_several_inputs_and_outputs():
    left, right = keras.Input((TIME, FEATURES), name="left"), keras.Input((TIME, 4), name="right")
    reads_left, reads_right = layers.GRU(UNITS, name="reads_left"), layers.LSTM(2, name="reads_right")
    both = layers.Concatenate()([reads_left(left), reads_right(right)])
    heads = {"value": layers.Dense(1, name="value")(both), "kind": layers.Dense(3, "softmax", name="kind")(both)}
    model = compiled(
        keras.Model({"left": left, "right": right}, heads),
        loss={"value": "mse", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"value": 0.5, "kind": 2.0},
    )
    weights = names(
        "reads_left kernel recurrent_kernel bias",
        "reads_right kernel recurrent_kernel bias",
        "kind kernel bias",
        "value kernel bias",
    )
    x = {"left": numbers(BATCH, TIME, FEATURES), "right": numbers(BATCH, TIME, 4)}
    y = {"value": numbers(BATCH, 1), "kind": np.array([0, 2, 1])}
    return Specimen(model, x, y, weights, {"reads_left": reads_left, "reads_right": reads_right})


class Subclassed(keras.Model):
    """Layers held as attributes, in a list and in a dict."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.first = layers.SimpleRNN(UNITS, return_sequences=True, name="first")
        self.middle = [layers.GRU(UNITS, return_sequences=True, name="second"), layers.LayerNormalization(name="norm")]
        self.last = {"rnn": layers.LSTM(2, name="third"), "head": layers.Dense(1, name="head")}

    def call(self, x):
        x = self.first(x)
        for layer in self.middle:
            x = layer(x)
        return self.last["head"](self.last["rnn"](x))


@specimen
def subclassed():
    model, x = Subclassed(), numbers(BATCH, TIME, FEATURES)
    model(x)
    weights = names(
        "first kernel recurrent_kernel bias",
        "second kernel recurrent_kernel bias",
        "norm gamma beta",
        "third kernel recurrent_kernel bias",
        "head kernel bias",
    )
    recurrent = {"first": model.first, "second": model.middle[0], "third": model.last["rnn"]}
    return Specimen(compiled(model), x, numbers(BATCH, 1), weights, recurrent)


@specimen
def nested():
    inner = keras.Sequential(
        [keras.Input((TIME, UNITS)), layers.GRU(UNITS, return_sequences=True, name="rnn"), layers.Dense(2, name="out")],
        name="inner",
    )
    inputs = keras.Input((TIME, UNITS))
    middle = keras.Model(inputs, layers.LSTM(2, name="rnn")(inner(inputs)), name="middle")
    rnn = layers.SimpleRNN(UNITS, return_sequences=True, name="rnn")
    return stack(
        rnn,
        middle,
        weights=[
            "rnn kernel recurrent_kernel bias",
            "middle/inner/rnn kernel recurrent_kernel bias",
            "middle/inner/out kernel bias",
            "middle/rnn kernel recurrent_kernel bias",
        ],
        **{"rnn": rnn, "middle/inner/rnn": inner.layers[0], "middle/rnn": middle.layers[-1]},
    )


@specimen
def shared_embedding_and_dense():
    left, right = keras.Input((TIME,)), keras.Input((TIME,))
    embed, project = layers.Embedding(WORDS, 2, name="words"), layers.Dense(2, name="project")
    one, two = layers.GRU(UNITS, name="one"), layers.GRU(UNITS, name="two")
    both = layers.Add()([one(project(embed(left))), two(project(embed(right)))])
    model = compiled(keras.Model([left, right], layers.Dense(1, name="head")(both)))
    weights = names(
        "words embeddings",
        "project kernel bias",
        "one kernel recurrent_kernel bias",
        "two kernel recurrent_kernel bias",
        "head kernel bias",
    )
    return Specimen(model, [words(), words()[::-1]], numbers(BATCH, 1), weights, {"one": one, "two": two})


@specimen
def embedding_with_mask():
    rnn = layers.LSTM(UNITS, name="rnn")
    embed = layers.Embedding(WORDS, 2, mask_zero=True, name="words")
    return stack(embed, rnn, x=words(), weights=["words embeddings", "rnn kernel recurrent_kernel bias"], rnn=rnn)


@specimen
def embedding_with_mask_and_an_empty_sequence():
    rnn = layers.GRU(UNITS, return_sequences=True, name="rnn")
    embed, x = layers.Embedding(WORDS, 2, mask_zero=True, name="words"), words()
    x[1] = 0
    return stack(embed, rnn, x=x, weights=["words embeddings", "rnn kernel recurrent_kernel bias"], rnn=rnn)


@specimen
def ragged_lengths_by_a_mask_input():
    inputs, present = keras.Input((TIME, FEATURES)), keras.Input((TIME,), dtype="bool")
    rnn = layers.GRU(UNITS, name="rnn")
    model = compiled(keras.Model([inputs, present], layers.Dense(1, name="head")(rnn(inputs, mask=present))))
    x = [numbers(BATCH, TIME, FEATURES), np.arange(TIME) < np.array([[4], [2], [3]])]
    return Specimen(
        model, x, numbers(BATCH, 1), names("rnn kernel recurrent_kernel bias", "head kernel bias"), {"rnn": rnn}
    )


def bidirectional(merge_mode, cell=layers.LSTM, masked=False, **options):
    both = layers.Bidirectional(cell(UNITS, name="rnn", **options), merge_mode=merge_mode, name="both")
    return stack(
        *([layers.Embedding(WORDS, 2, mask_zero=True, name="words")] if masked else []),
        both,
        x=words() if masked else None,
        weights=[
            *(["words embeddings"] if masked else []),
            "both/forward_rnn kernel recurrent_kernel bias",
            "both/backward_rnn kernel recurrent_kernel bias",
        ],
        **{"both/forward_rnn": both.forward_layer, "both/backward_rnn": both.backward_layer},
    )


for merge_mode in ("concat", "sum", "ave", "mul"):
    ZOO[f"bidirectional, {merge_mode}"] = lambda merge_mode=merge_mode: bidirectional(merge_mode)
ZOO["bidirectional, sequences, masked"] = lambda: bidirectional("concat", layers.GRU, True, return_sequences=True)


@specimen
def bidirectional_without_merging():
    inputs = keras.Input((TIME, FEATURES))
    both = layers.Bidirectional(layers.GRU(UNITS, name="rnn"), merge_mode=None, name="both")
    forward, backward = both(inputs)
    outputs = layers.Dense(1, name="head")(layers.Subtract()([forward, backward]))
    weights = names(
        "both/forward_rnn kernel recurrent_kernel bias",
        "both/backward_rnn kernel recurrent_kernel bias",
        "head kernel bias",
    )
    recurrent = {"both/forward_rnn": both.forward_layer, "both/backward_rnn": both.backward_layer}
    x = numbers(BATCH, TIME, FEATURES)
    return Specimen(compiled(keras.Model(inputs, outputs)), x, numbers(BATCH, 1), weights, recurrent)


@specimen
def bidirectional_with_a_backward_layer_of_its_own():
    both = layers.Bidirectional(
        layers.GRU(UNITS, name="ahead"), backward_layer=layers.LSTM(UNITS, go_backwards=True, name="back"), name="both"
    )
    return stack(
        both,
        weights=["both/forward_ahead kernel recurrent_kernel bias", "both/back kernel recurrent_kernel bias"],
        **{"both/forward_ahead": both.forward_layer, "both/back": both.backward_layer},
    )


@specimen
def stacked_cells():
    rnn = layers.RNN([layers.LSTMCell(2), layers.GRUCell(UNITS), layers.SimpleRNNCell(2)], name="rnn")
    cells = (f"rnn/cell_{place} kernel recurrent_kernel bias" for place in range(3))
    return stack(rnn, weights=cells, rnn=rnn)


@specimen
def stacked_cells_with_mask():
    """Of one size, so that an output of the wrong cell would go unnoticed."""
    rnn = layers.RNN([layers.SimpleRNNCell(UNITS), layers.LSTMCell(UNITS)], name="rnn")
    embed = layers.Embedding(WORDS, 2, mask_zero=True, name="words")
    cells = (f"rnn/cell_{place} kernel recurrent_kernel bias" for place in range(2))
    return stack(embed, rnn, x=words(), weights=["words embeddings", *cells], rnn=rnn)


class TwoTempi(layers.Layer):
    """A cell with two states, whose output is neither of them."""

    def __init__(self, **options):
        super().__init__(**options)
        self.state_size, self.output_size = [UNITS, 2], 4

    def build(self, shape):
        self.fast = self.add_weight(shape=(shape[-1] + UNITS + 2, UNITS), name="fast")
        self.slow = self.add_weight(shape=(UNITS + 2, 2), name="slow")
        self.read = self.add_weight(shape=(shape[-1] + UNITS + 2, 4), name="read")

    def call(self, inputs, states):
        fast, slow = states
        output = ops.matmul(ops.concatenate([inputs, fast, slow], axis=-1), self.read)
        quick = ops.tanh(ops.matmul(ops.concatenate([inputs, fast, slow], axis=-1), self.fast))
        tardy = 0.9 * slow + 0.1 * ops.tanh(ops.matmul(ops.concatenate([fast, slow], axis=-1), self.slow))
        return output, [quick, tardy]


@specimen
def custom_cell():
    rnn = layers.RNN(TwoTempi(), return_sequences=True, name="rnn")
    return stack(rnn, weights=["rnn fast slow read"], rnn=rnn)


@specimen
def go_backwards():
    rnn, top = layers.LSTM(UNITS, go_backwards=True, return_sequences=True, name="rnn"), layers.GRU(2, name="top")
    weights = ["rnn kernel recurrent_kernel bias", "top kernel recurrent_kernel bias"]
    return stack(rnn, top, weights=weights, rnn=rnn, top=top)


@specimen
def go_backwards_with_mask():
    rnn = layers.LSTM(UNITS, go_backwards=True, name="rnn")
    embed = layers.Embedding(WORDS, 2, mask_zero=True, name="words")
    return stack(embed, rnn, x=words(), weights=["words embeddings", "rnn kernel recurrent_kernel bias"], rnn=rnn)


@specimen
def stateful():
    rnn, top = (layers.GRU(UNITS, stateful=True, return_sequences=n == 0, name=f"rnn_{n}") for n in range(2))
    inputs = keras.Input(batch_shape=(BATCH, TIME, FEATURES))
    model = compiled(keras.Model(inputs, layers.Dense(1, name="head")(top(rnn(inputs)))))
    x = numbers(BATCH, TIME, FEATURES)
    model.predict(x, verbose=0)  # so that it starts from a state that is not zero
    weights = names("rnn_0 kernel recurrent_kernel bias", "rnn_1 kernel recurrent_kernel bias", "head kernel bias")
    return Specimen(model, x, numbers(BATCH, 1), weights, {"rnn_0": rnn, "rnn_1": top})


@specimen
def encoder_and_decoder():
    """The decoder starts from the states that the encoder returns."""
    source, target = keras.Input((TIME, FEATURES)), keras.Input((TIME, 1))
    encoder = layers.LSTM(UNITS, return_state=True, name="encoder")
    decoder = layers.LSTM(UNITS, return_sequences=True, return_state=True, name="decoder")
    _, *states = encoder(source)
    outputs, *_ = decoder(target, initial_state=states)
    model = compiled(keras.Model([source, target], layers.Dense(1, name="head")(outputs)))
    weights = names("encoder kernel recurrent_kernel bias", "decoder kernel recurrent_kernel bias", "head kernel bias")
    x = [numbers(BATCH, TIME, FEATURES), numbers(BATCH, TIME, 1)]
    return Specimen(model, x, numbers(BATCH, TIME, 1, seed=1), weights, {"encoder": encoder, "decoder": decoder})


@specimen
def initial_state_made_from_an_input():
    inputs, context = keras.Input((TIME, FEATURES)), keras.Input((4,))
    rnn = layers.GRU(UNITS, name="rnn")
    hidden = rnn(inputs, initial_state=layers.Dense(UNITS, "tanh", name="start")(context))
    model = compiled(keras.Model([inputs, context], layers.Dense(1, name="head")(hidden)))
    weights = names("start kernel bias", "rnn kernel recurrent_kernel bias", "head kernel bias")
    return Specimen(
        model, [numbers(BATCH, TIME, FEATURES), numbers(BATCH, 4)], numbers(BATCH, 1), weights, {"rnn": rnn}
    )


@specimen
def dropout():
    """With seeds of its own, for without them torch draws other masks at each call."""
    rates = {"dropout": 0.3, "recurrent_dropout": 0.3}
    rnn = layers.LSTM(UNITS, **rates, seed=1, return_sequences=True, name="rnn")
    top = layers.GRU(UNITS, **rates, seed=2, name="top")
    weights = ["rnn kernel recurrent_kernel bias", "top kernel recurrent_kernel bias"]
    return stack(rnn, layers.Dropout(0.3, seed=3), top, weights=weights, rnn=rnn, top=top)


@specimen
def normalisation():
    rnn, top = layers.GRU(UNITS, return_sequences=True, name="rnn"), layers.LSTM(UNITS, name="top")
    return stack(
        rnn,
        layers.BatchNormalization(name="over_batch"),
        layers.LayerNormalization(name="over_units"),
        top,
        weights=[
            "rnn kernel recurrent_kernel bias",
            "over_batch gamma beta",
            "over_units gamma beta",
            "top kernel recurrent_kernel bias",
        ],
        rnn=rnn,
        top=top,
    )


@specimen
def time_distributed():
    rnn = layers.SimpleRNN(UNITS, return_sequences=True, name="rnn")
    each = layers.TimeDistributed(layers.Dense(2, name="inner"), name="each")
    weights = ["rnn kernel recurrent_kernel bias", "each/inner kernel bias"]
    return stack(rnn, each, layers.GlobalAveragePooling1D(), weights=weights, rnn=rnn)


@specimen
def regularizers():
    """Those of the activity see every output, so that they reach every state."""
    rnn = layers.GRU(UNITS, activity_regularizer="l2", kernel_regularizer="l2", name="rnn", return_sequences=True)
    top = layers.GRU(2, activity_regularizer="l2", name="top")
    weights = ["rnn kernel recurrent_kernel bias", "top kernel recurrent_kernel bias"]
    return stack(rnn, top, weights=weights, rnn=rnn, top=top)


@specimen
def masked_outputs_of_zero():
    rnn = layers.LSTM(UNITS, zero_output_for_mask=True, name="rnn")  # 0 for the sequence that ends masked
    embed = layers.Embedding(WORDS, 2, mask_zero=True, name="words")
    return stack(embed, rnn, x=words(), weights=["words embeddings", "rnn kernel recurrent_kernel bias"], rnn=rnn)


@specimen
def unrolled():
    rnn = layers.LSTM(UNITS, unroll=True, return_sequences=True, name="rnn")
    embed = layers.Embedding(WORDS, 2, mask_zero=True, name="words")
    return stack(embed, rnn, x=words(), weights=["words embeddings", "rnn kernel recurrent_kernel bias"], rnn=rnn)


@specimen
def without_bias():
    rnn = layers.GRU(UNITS, use_bias=False, reset_after=False, name="rnn")
    return stack(rnn, weights=["rnn kernel recurrent_kernel"], rnn=rnn)


@specimen
def attention_with_a_way_around():
    inputs = keras.Input((TIME, FEATURES))
    rnn = layers.LSTM(FEATURES, return_sequences=True, name="rnn")
    hidden = layers.Add()([inputs, rnn(inputs)])
    summary = layers.GlobalAveragePooling1D()(layers.Attention(use_scale=True, name="look")([hidden, hidden]))
    model = compiled(keras.Model(inputs, layers.Dense(1, name="head")(summary)))
    weights = names("rnn kernel recurrent_kernel bias", "look scale", "head kernel bias")
    return Specimen(model, numbers(BATCH, TIME, FEATURES), numbers(BATCH, 1), weights, {"rnn": rnn})


class Block(layers.Layer):
    """A layer of one's own with recurrent layers inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.rnn = layers.SimpleRNN(UNITS, return_sequences=True, name="rnn")
        self.towers = {"deep": [layers.Dense(UNITS, name="dense"), layers.GRU(UNITS, name="gru")]}

    def build(self, shape):
        self.scale = self.add_weight(shape=(UNITS,), name="scale")
        super().build(shape)

    def call(self, inputs):
        dense, gru = self.towers["deep"]
        return gru(dense(self.rnn(inputs) * self.scale))


@specimen
def layers_inside_a_layer():
    block = Block(name="block")
    return stack(
        block,
        weights=[
            "block scale",
            "block/rnn kernel recurrent_kernel bias",
            "block/dense kernel bias",
            "block/gru kernel recurrent_kernel bias",
        ],
        **{"block/rnn": block.rnn, "block/gru": block.towers["deep"][1]},
    )


@specimen
def partly_frozen():
    rnn, top = layers.GRU(UNITS, return_sequences=True, name="rnn"), layers.LSTM(UNITS, name="top")
    rnn.trainable = False
    return stack(rnn, top, weights=["top kernel recurrent_kernel bias"], rnn=rnn, top=top)


def shared_recurrent_layer():
    left, right = keras.Input((TIME, FEATURES)), keras.Input((TIME, FEATURES))
    rnn = layers.GRU(UNITS, name="rnn")
    both = layers.Subtract()([rnn(left), rnn(right)])
    model = compiled(keras.Model([left, right], layers.Dense(1, name="head")(both)))
    x = [numbers(BATCH, TIME, FEATURES, seed=seed) for seed in (0, 1)]
    return Specimen(model, x, numbers(BATCH, 1), names("rnn kernel recurrent_kernel bias", "head kernel bias"), {})


# Models of which only the weights are looked at.
ONLY_WEIGHTS = {
    "convolutional state": lambda: stack(
        layers.Reshape((TIME, FEATURES, 1)),
        layers.ConvLSTM1D(2, 1, name="conv"),
        layers.Flatten(),
        weights=["conv kernel recurrent_kernel bias"],
    ),
    "recurrent layer over each of several sequences": lambda: stack(
        layers.TimeDistributed(layers.GRU(UNITS, name="rnn"), name="each"),
        x=numbers(BATCH, 2, TIME, FEATURES),
        weights=["each/rnn kernel recurrent_kernel bias"],
    ),
    "shared recurrent layer": shared_recurrent_layer,
    "no recurrent layer": lambda: stack(layers.Conv1D(2, 2, name="conv"), weights=["conv kernel bias"]),
}


# Those that compute otherwise in training.
IN_TRAINING = ("dropout", "normalisation", "stateful")


def everything(model):
    """Every number and every attribute that belongs to a model."""
    variables = model.variables + model.metrics_variables + model.optimizer.variables
    held = {layer.path: sorted(vars(layer)) for layer in model._flatten_layers()}
    return numpy(variables), held, sorted(vars(model.optimizer))
