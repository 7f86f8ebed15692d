"""Keras's layers and models as data: weights, and a configuration that names only what Keras and rnnkit define.

No code travels. What a layer of a student's own class does, only its code says: such an answer is left to the teacher.
"""

import json

from rnnkit.classroom.grading._data import Fault, decode_array, encode_array

# Layers that are data: what they do is said by their configuration, and reading that opens no file.
_LAYERS = {
    "Activation", "ActivityRegularization", "Add", "AdditiveAttention", "AlphaDropout", "Attention", "Average",
    "AveragePooling1D", "BatchNormalization", "Bidirectional", "Concatenate", "Conv1D", "Cropping1D", "Dense",
    "DepthwiseConv1D", "Dot", "Dropout", "ELU", "EinsumDense", "Embedding", "Flatten", "GRU", "GRUCell",
    "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D", "GlobalMaxPooling1D", "GroupNormalization",
    "GroupQueryAttention", "Identity", "InputLayer", "LSTM", "LSTMCell", "LayerNormalization", "LeakyReLU",
    "Masking", "MaxPooling1D", "Maximum", "Minimum", "MultiHeadAttention", "Multiply", "PReLU", "Permute",
    "RMSNormalization", "RNN", "ReLU", "RepeatVector", "Rescaling", "Reshape", "SeparableConv1D", "SimpleRNN",
    "SimpleRNNCell", "Softmax", "SpatialDropout1D", "StackedRNNCells", "Subtract", "TimeDistributed",
    "UnitNormalization", "UpSampling1D", "ZeroPadding1D",
}  # fmt: skip
_MODELS = {"Sequential", "Functional", "Model"}
_OURS = {"Residual", "DenselyConnected", "Highway", "StackedRNN", "SimpleRNNCell", "LSTMCell", "GRUCell"}
_OUR_INITIALIZERS = {"SpectralRadius", "GateBias", "Chrono"}
_PARTS = {
    "keras.activations",
    "keras.constraints",
    "keras.initializers",
    "keras.losses",
    "keras.metrics",
    "keras.optimizers",
    "keras.optimizers.schedules",
    "keras.regularizers",
}
_DATA = {"__tuple__", "__slice__", "__ellipsis__", "__bytes__", "__keras_tensor__"}
_LENT = "rnnkit_lent"
_BY_HAND = "The answer holds code of its own, {}. Only what Keras and rnnkit define is examined: look at it yourself."


def describe(layer, name=None):
    """Return a layer or model as JSON can hold it.

    Args:
        layer: A layer or model.
        name: Another name for it.

    Returns:
        {"config", "weights"}; the configuration is None if Keras cannot write it down, the weights if it has none yet.
    """
    from rnnkit._backend import keras

    try:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    except Exception:
        return {"config": None, "weights": None, "name": type(layer).__name__}
    if name:
        config["config"]["name"] = name
    return {"config": config, "weights": list(map(encode_array, layer.get_weights())) if layer.built else None}


def build(description, lent):
    """Make a layer or model.

    Args:
        description: What `describe` returned.
        lent: {name: layer}; where the configuration names one of these, the very layer is put.

    Returns:
        The layer or model, compiled if it was.

    Raises:
        Fault: "not examined", if the configuration names anything that is not on the lists of what is data.
    """
    from rnnkit import initializers, layers  # noqa: F401  (registers what they define)
    from rnnkit._backend import keras

    class Lent:
        @staticmethod
        def from_config(config):
            return lent[config["name"]]

    if description["config"] is None:
        name = str(description.get("name"))[:80]
        raise Fault("not examined", _BY_HAND.format(f"`{name}`, which Keras cannot write down"))
    config = _allowed(description["config"], lent)
    try:
        made = keras.saving.deserialize_keras_object(config, custom_objects={_LENT: Lent}, safe_mode=True)
        if description["weights"] is not None and not any(made is layer for layer in lent.values()):
            made.set_weights(list(map(decode_array, description["weights"])))
    except Exception as error:
        what = f"{type(error).__name__}: {error}"[:200]
        raise Fault("not examined", f"Keras cannot make the answer from its description ({what}).") from error
    return made


def _allowed(node, lent):
    """Return a configuration with lent layers in their places; refuse whatever is not on the lists."""
    if isinstance(node, list):
        return [_allowed(part, lent) for part in node]
    if not isinstance(node, dict):
        return node
    name, inner = node.get("class_name"), node.get("config")
    if name is not None and not _harmless(name, node):
        raise Fault("not examined", _BY_HAND.format(f"`{str(name)[:80]}`"))
    layer = lent.get(inner.get("name")) if name in _LAYERS and isinstance(inner, dict) else None
    if type(layer).__name__ == name:
        return {"class_name": _LENT, "registered_name": _LENT, "config": {"name": inner["name"]}}
    allowed = {key: _allowed(part, lent) for key, part in node.items()}
    if isinstance(allowed.get("compile_config"), dict):
        # How TensorFlow, over there, would run it; JAX, in the workers of a sweep, crawls unless it compiles.
        allowed["compile_config"] |= {"jit_compile": "auto", "run_eagerly": False}
    return allowed


def _harmless(name, node):
    """Whether what a part of a configuration names is on the lists."""
    module = node.get("module")
    if node.get("registered_name") not in (None, name, f"rnnkit>{name}"):  # by which Keras looks first
        return False
    if name in _DATA:
        return True
    if name == "function":  # by its name, which Keras looks up among its own
        return module == "builtins" and str(node.get("config")).isidentifier()
    if name == "DTypePolicy" and module == "keras":
        return True
    if module == "keras.layers":
        return name in _LAYERS
    if module in ("keras", "keras.models") or str(module).startswith("keras.src.models."):
        return name in _MODELS
    if str(module).startswith("rnnkit.layers."):
        return name in _OURS
    if module == "rnnkit.initializers":
        return name in _OUR_INITIALIZERS
    return module in _PARTS or str(module).startswith("keras.src.ops.")
