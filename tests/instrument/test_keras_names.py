"""All of Keras that rnnkit leans on without Keras's promising it, in one place; each with a test that tells its change.

`PRIVATE` are names that begin with an underscore, or live below `keras.src`. `UNDOCUMENTED` are public by name, but
not in Keras's documentation, or used for more than it says. When a test here fails with a new version of Keras, the
text beside the name says what in rnnkit has to follow.
"""

import ast
import inspect
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from fast import EAGER

PACKAGE = Path(__file__).resolve().parents[2] / "rnnkit"
BACKEND = keras.backend.backend()
# Names with an underscore that are not Keras's: of Python, its modules and cloudpickle.
OTHERS = {"_getframe", "_exit", "_abc_impl", "_cloudpickle_submodules", "_replace", "_repr_mimebundle_"}

PRIVATE = {
    "_compile_loss": "Model: the loss as compiled; model_loss.spare_loss and precision put another in its place",
    "_user_loss": "CompileLoss: what was passed to compile; model_loss.spare_loss makes another loss of it",
    "_user_loss_weights": "CompileLoss: the same of loss_weights",
    "_flat_losses": "CompileLoss: the losses of the outputs, with `loss`; precision changes their type",
    "_aggregate_additional_loss": "Model: makes a number of a regularizer's loss; precision casts it",
    "_dtype_policy": "Layer: decides compute_dtype; precision shadows it",
    "_dtype": "KerasTensor and Loss: decides dtype; precision shadows it",
    "_trainable_variables": "Optimizer: the variables in the order of the gradients; read by optimizer_hook",
    "_gradient_accumulator": "Optimizer: end of the name of an accumulator; optimizer_hook finds it by that",
    "_clip_gradients": "Optimizer: makes the gradients that are used of those that are given; optimizer_hook",
    "keras.src.backend.common": "dtypes.BIT64_TO_BIT32_DTYPE makes float32 of float64; _backend._promotion changes it",
}
UNDOCUMENTED = {
    "inner_loop": "RNN: the loop over time of each recurrent layer; rnn_loop replaces it, and gives it what it reads",
    "train_function": "Model: what fit calls for a step, kept if it is not None; training_step stands in for it",
    "make_train_function": "Model: makes it anew under force=True, or if it is None; training_step, _backend",
    "apply": "Optimizer: takes a step's gradients; optimizer_hook hooks it, and apply_gradients, which calls it",
    "stateless_apply": "Optimizer: the same on JAX; optimizer_hook hooks it",
    "overwrite_with_gradient": "Variable: its gradient is its new value, and no gradient; traversal, optimizer_hook",
    "inner_optimizer": "LossScaleOptimizer: the one that takes unscaled gradients, and clips; optimizer_hook",
    "dynamic_scale": "LossScaleOptimizer: the scale of the step, initial_scale before it is built; optimizer_hook",
    "iteration": "Optimizer: name of the variable that counts updates; optimizer_hook reads it",
    "reset_dropout_mask": "cells with dropout: forgets the mask that get_dropout_mask has made and kept; rnn_loop",
    "unit_forget_bias": "LSTMCell: asks for the bias in pieces, itself, if this holds; initializers refuse that",
    "jax_state_sync": "Model: puts the weights back where they can be read while fit runs; _backend.jax",
    "distribute_strategy": "Model: on TensorFlow, says on how many devices it trains; _backend.tensorflow",
}


def used():
    """Return the names with an underscore, and modules below keras.src, that rnnkit uses and does not define."""
    defined, found = set(), set()
    for path in PACKAGE.rglob("*.py"):
        defined.add(path.stem)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
            elif isinstance(node, ast.alias):
                defined.add(node.asname or node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    defined.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                found.add(node.value)  # as in shadowed(layer, "_dtype", ...)
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras.src"):
                found.add(node.module)
    return {
        name
        for name in found - defined
        if name.startswith("keras.") or (name.startswith("_") and name[1:2].isalpha() and not name.startswith("__"))
    }


def test_every_private_name_that_is_used_stands_in_the_list():
    ends_of_names = {"_mask"}  # get_dropout_mask is put together
    assert used() - OTHERS - ends_of_names == set(PRIVATE)


def test_what_stands_in_the_list_is_used():
    code = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert [name for name in UNDOCUMENTED if name not in code] == []


def compiled(optimizer="sgd", layer=None, **settings):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4, 2)), layer or keras.layers.GRU(3, name="rnn"), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **(EAGER | settings))
    return model


def data():
    return np.ones((4, 4, 2), "float32"), np.ones((4, 1), "float32")


def test_the_compiled_loss():
    model = compiled(loss_weights=[2.0])
    loss = model._compile_loss
    assert (loss._user_loss, loss._user_loss_weights, loss.built) == ("mse", [2.0], False)
    assert {"loss", "loss_weights", "reduction", "output_names"} <= set(inspect.signature(type(loss)).parameters)
    again = type(loss)(loss._user_loss, loss._user_loss_weights, loss.reduction, loss.output_names)
    model.evaluate(*data(), verbose=0)
    assert [part.loss.dtype for part in model._compile_loss._flat_losses] == ["float32"]
    ones, zeros = keras.ops.ones((4, 1)), keras.ops.zeros((4, 1))
    assert float(again(ones, zeros)) == float(model._compile_loss(ones, zeros)) == 2
    assert list(inspect.signature(model._aggregate_additional_loss).parameters) == ["loss"]


def test_the_loss_of_a_regularizer_passes_through_aggregate_additional_loss(monkeypatch):
    model, passed = compiled(layer=keras.layers.GRU(3, kernel_regularizer="l2")), []
    monkeypatch.setattr(model, "_aggregate_additional_loss", lambda loss: passed.append(loss) or keras.ops.sum(loss))
    x, y = data()
    model.compute_loss(x, y, model(x))
    assert len(passed) == 1


def test_types_are_told_by_what_is_shadowed():
    layer = keras.layers.Dense(1)
    vars(layer)["_dtype_policy"] = keras.DTypePolicy("float16")
    assert (layer.compute_dtype, layer.dtype_policy.quantization_mode) == ("float16", None)
    tensor, loss = keras.Input((2,)), keras.losses.MeanSquaredError()
    for thing in (tensor, loss):
        assert thing.dtype == "float32"
        vars(thing)["_dtype"] = "float16"
        assert thing.dtype == "float16"


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow keeps float64 whatever the table says")
def test_the_table_that_makes_float32_of_float64():
    from keras.src.backend.common import dtypes

    assert dtypes.BIT64_TO_BIT32_DTYPE["float64"] == "float32"
    assert keras.backend.result_type("float64", "float32") == "float32"


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.SimpleRNN(3),
        keras.layers.GRU(3),
        keras.layers.LSTM(3),
        keras.layers.RNN([keras.layers.GRUCell(3), keras.layers.LSTMCell(2)]),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_each_recurrent_layer_passes_through_inner_loop(layer):
    seen, own = [], type(layer).inner_loop

    def inner_loop(sequences, initial_state, mask, training=False):
        seen.append((tuple(sequences.shape), mask is None, training))
        return own(layer, sequences, initial_state, mask, training)

    vars(layer)["inner_loop"] = inner_loop
    layer(data()[0], training=True)
    layer(data()[0], mask=np.ones((4, 4), bool))
    assert [shape for shape, *_ in seen] == [(4, 4, 2)] * 2
    assert [without for _, without, _ in seen] == [True, False]
    assert seen[0][2] is True


def test_the_loop_reads_nothing_of_its_layer_but_these():
    tree = ast.parse(textwrap.dedent(inspect.getsource(keras.layers.RNN.inner_loop)))
    read = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "self"}
    assert read <= {"cell", "go_backwards", "unroll", "zero_output_for_mask", "return_sequences", "stateful"}


def test_a_train_function_that_is_there_is_called_and_another_one_made_by_force():
    model, calls = compiled(), []
    assert model.train_function is None
    model.fit(*data(), verbose=0)
    own = model.train_function
    model.train_function = lambda *arguments: calls.append(1) or own(*arguments)
    model.fit(*data(), verbose=0)
    assert calls == [1]
    model.make_train_function(force=True)
    assert model.train_function not in (None, own)


@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_pass_through_the_optimizers_apply(scaled, monkeypatch):
    optimizer = keras.optimizers.SGD(0.1)
    outer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
    model, calls = compiled(outer), []
    name = "stateless_apply" if BACKEND == "jax" else "apply"
    plain = getattr(outer, name)
    monkeypatch.setattr(outer, name, lambda *arguments: calls.append(len(arguments)) or plain(*arguments))
    model.fit(*data(), verbose=0)
    assert calls == [3 if BACKEND == "jax" else 2]
    assert [v.path for v in optimizer._trainable_variables] == [v.path for v in model.trainable_variables]
    assert optimizer.loss_scale_factor is None
    assert getattr(outer, "inner_optimizer", outer) is optimizer
    if scaled:
        assert float(outer.dynamic_scale.value) == outer.initial_scale == 2.0**15
        assert "finite" in outer.check_finite.__name__


@pytest.mark.parametrize("rule", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_gradients_are_clipped_in_one_method(rule, monkeypatch):
    optimizer, seen = keras.optimizers.SGD(1.0, **{rule: 1e-3}), []
    own = optimizer._clip_gradients
    monkeypatch.setattr(optimizer, "_clip_gradients", lambda gradients: seen.append(own(gradients)) or seen[-1])
    model = compiled(optimizer)
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    model.fit(*data(), verbose=0)
    if BACKEND == "jax":
        assert len(seen) == 1
        return
    for variable, old, clipped in zip(model.trainable_variables, before, seen[0], strict=True):
        moved = old - keras.ops.convert_to_numpy(variable)
        np.testing.assert_allclose(moved, keras.ops.convert_to_numpy(clipped), atol=1e-6)


def test_accumulators_are_known_by_their_names():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model = compiled(optimizer)
    model.fit(*data(), verbose=0)
    names = [variable.name for variable in optimizer.variables]
    for variable in model.trainable_variables:
        assert names.count(f"{variable.path.replace('/', '_')}_gradient_accumulator") == 1
    (taken,) = (variable for variable in optimizer.variables if variable.name == "iteration")
    assert int(taken.value) == 1
    assert optimizer.gradient_accumulation_steps == 2


@pytest.mark.parametrize("cell", [keras.layers.SimpleRNNCell, keras.layers.GRUCell, keras.layers.LSTMCell])
def test_a_cell_keeps_its_dropout_masks_until_told(cell):
    cell, x = cell(3, dropout=0.5, recurrent_dropout=0.5, seed=0), np.ones((4, 2), "float32")

    def drawn(get):
        return [keras.ops.convert_to_numpy(mask).tolist() for mask in keras.tree.flatten(get(x))]

    for kind in ("dropout", "recurrent_dropout"):
        get, reset = getattr(cell, f"get_{kind}_mask"), getattr(cell, f"reset_{kind}_mask")
        first = drawn(get)
        assert drawn(get) == first
        reset()
        assert any(drawn(get) != first or reset() for _ in range(9))  # another one, sooner or later


def test_an_lstm_asks_for_its_bias_in_pieces_itself_and_for_a_whole_one_its_variable_does():
    asked = []

    class Notes(keras.initializers.Initializer):
        def __call__(self, shape, dtype=None):
            asked.append((tuple(shape), sys._getframe(1).f_locals["self"]))
            return keras.ops.zeros(shape, dtype)

    for cell, shapes in (
        (keras.layers.LSTMCell(3, bias_initializer=Notes()), [(3,), (6,)]),
        (keras.layers.LSTMCell(3, bias_initializer=Notes(), unit_forget_bias=False), [(12,)]),
        (keras.layers.GRUCell(3, bias_initializer=Notes()), [(2, 9)]),
    ):
        asked.clear()
        cell.build((None, 2))
        in_pieces = getattr(cell, "unit_forget_bias", False)
        assert asked == [(shape, cell if in_pieces else cell.bias) for shape in shapes]


def test_where_the_weights_are_while_fit_runs():
    model = compiled()
    if BACKEND == "jax":
        assert not inspect.signature(model.jax_state_sync).parameters
    elif BACKEND == "tensorflow":
        assert model.distribute_strategy.num_replicas_in_sync == 1
