"""Connections that let a network be deep: each wraps a layer, and gives what came in a way round it."""

from rnnkit._backend import keras, ops


class _Connection(keras.Layer):
    """A layer and a way round it. The weights of the layer go by the name of the connection, as in `block_3/kernel`."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(layer, keras.Layer):
            raise ValueError(
                f"A connection goes round a Keras layer. Received: {layer!r}. "
                f"Pass one, as in {type(self).__name__}(keras.layers.Dense(32))."
            )
        self.supports_masking = True
        self.layer = layer

    @property
    def goes_by_my_name(self):
        """The layer whose weights recorders and probes list under the name of this one."""
        return self.layer

    def build(self, input_shape):
        """Build the layer, and see that what comes out of it fits what went in."""
        if not self.layer.built:
            self.layer.build(input_shape)
        self._require_fit(tuple(input_shape), tuple(self.layer.compute_output_shape(input_shape)))

    def _require_fit(self, into, out):
        if into != out:
            raise ValueError(
                f"A {type(self).__name__} connection adds a layer's output to its input, so that both have one shape. "
                f"Received: {into} in, {out} out of layer {self.layer.name!r}. "
                "Give the layer as many units or filters as its input has, or change the width before, by a layer "
                "without a connection."
            )

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return tuple(input_shape)

    def get_config(self):
        """Return what is needed to make it again."""
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        """Make it again."""
        layers = {
            name: keras.saving.deserialize_keras_object(config[name]) for name in ("layer", "gate") if name in config
        }
        return cls(**{**config, **layers})


@keras.saving.register_keras_serializable(package="rnnkit")
class Residual(_Connection):
    """A residual connection, y = x + H(x): the layer H learns what to change, and x is kept unless it does.

    The Jacobian of y by x is 1 + dH/dx, so that a gradient reaches x whatever H does to it.

    Args:
        layer: H, any layer or `keras.Sequential` whose output has the shape of its input; a recurrent one with
            `return_sequences=True` too.
        **kwargs: of `keras.Layer`, such as `name`.

    Returns:
        When called with x: y, of the same shape.

    Raises:
        ValueError: if `layer` is no layer; when built, if it changes the shape.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> block = rnnkit.layers.Residual(keras.layers.Dense(4, "tanh", kernel_initializer="zeros"), name="block")
        >>> x = np.ones((8, 4), "float32")
        >>> bool(keras.ops.all(block(x) == x))
        True

    Source: He, Zhang, Ren & Sun (2016), "Deep residual learning for image recognition", equation 1.
    """

    def call(self, inputs):
        """Add the layer's output to its input."""
        return inputs + self.layer(inputs)


@keras.saving.register_keras_serializable(package="rnnkit")
class DenselyConnected(_Connection):
    """A dense connection, y = [x, H(x)]: the layer's features are put beside all that came before.

    Of a chain of these, each layer reads the input of the chain and the features of every layer before it, and
    each hands its own to every layer after it.

    Args:
        layer: H, whose output has the shape of its input but for the last axis; its width is the growth rate.
        **kwargs: of `keras.Layer`, such as `name`.

    Returns:
        When called with x (..., width): y (..., width + growth rate).

    Raises:
        ValueError: if `layer` is no layer; when built, if it changes another axis than the last.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> block = rnnkit.layers.DenselyConnected(keras.layers.Dense(3, "tanh"), name="block")
        >>> tuple(block(np.ones((8, 4), "float32")).shape)
        (8, 7)

    Source: Huang, Liu, van der Maaten & Weinberger (2017), "Densely connected convolutional networks", equation 2.
    """

    def _require_fit(self, into, out):
        if into[:-1] != out[:-1]:
            raise ValueError(
                "A dense connection puts a layer's output beside its input, along the last axis. "
                f"Received: {into} in, {out} out of layer {self.layer.name!r}. "
                'Keep the other axes: padding="same" for a convolution, return_sequences=True for a recurrent layer.'
            )

    def call(self, inputs):
        """Put the layer's output beside its input."""
        return ops.concatenate([inputs, ops.cast(self.layer(inputs), inputs.dtype)], axis=-1)

    def compute_output_shape(self, input_shape):
        """Return the shape of the input, wider by the layer's features."""
        out = self.layer.compute_output_shape(input_shape)
        return (*input_shape[:-1], input_shape[-1] + out[-1])


@keras.saving.register_keras_serializable(package="rnnkit")
class Highway(_Connection):
    """A highway connection, y = T(x) * H(x) + (1 - T(x)) * x: a gate decides, unit by unit, how much is transformed.

    The transform gate T is a layer with a sigmoid, of the kind and size of H. It starts nearly closed, so that a fresh
    highway network passes on what it gets.

    Args:
        layer: H, a layer whose output has the shape of its input, such as a `Dense` or a convolution.
        gate: T. Unless given, a layer made from H's settings, with a sigmoid for its activation and `gate_bias` for
            its bias (and the seed of H's kernel plus 1, if that has one).
        gate_bias: the value at which the bias of T starts; at -2 the gate is 12 % open.
        **kwargs: of `keras.Layer`, such as `name`.

    Attributes:
        gate: T. `block.gate(x)` are its values, between 0 (carry) and 1 (transform). Recorders list its weights as
            `block/gate/kernel`.

    Returns:
        When called with x: y, of the same shape.

    Raises:
        ValueError: if `layer` is no layer, or no gate can be made of its settings; when built, if it changes the shape.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> block = rnnkit.layers.Highway(keras.layers.Dense(4, "tanh"), gate_bias=-3.0, name="block")
        >>> x = np.zeros((8, 4), "float32")
        >>> block(x).shape == x.shape, round(float(keras.ops.mean(block.gate(x))), 3)
        (True, 0.047)

    Source: Srivastava, Greff & Schmidhuber (2015), "Training very deep networks", equation 3 and section 2.2.
    """

    def __init__(self, layer, gate=None, gate_bias=-2.0, **kwargs):
        super().__init__(layer, **kwargs)
        self.gate = _gate_like(layer, gate_bias) if gate is None else gate
        self.gate_bias = gate_bias

    def build(self, input_shape):
        """Build the layer and its gate."""
        super().build(input_shape)
        if not self.gate.built:
            self.gate.build(input_shape)

    def call(self, inputs):
        """Mix the layer's output and its input, as the gate says."""
        transform = self.gate(inputs)
        return transform * self.layer(inputs) + (1 - transform) * inputs

    def get_config(self):
        """Return what is needed to make it again."""
        gate = keras.saving.serialize_keras_object(self.gate)
        return {**super().get_config(), "gate": gate, "gate_bias": self.gate_bias}


def _gate_like(layer, bias):
    """Return a layer with the settings of another, but a sigmoid and a constant bias."""
    config = layer.get_config()
    needed = {"activation", "bias_initializer", "kernel_initializer"}
    if isinstance(layer, keras.layers.RNN) or not needed <= set(config):
        raise ValueError(
            "A gate can be made of a layer's settings where these have a kernel, a bias and an activation, as those of "
            f"a Dense or a convolution. Received: layer {layer.name!r}, a {type(layer).__name__}. Pass the gate "
            'yourself, as in Highway(layer, gate=keras.layers.Dense(32, "sigmoid", bias_initializer=...)).'
        )
    kernel = keras.initializers.get(config["kernel_initializer"])
    settings = kernel.get_config()
    if isinstance(settings.get("seed"), int):  # with the same seed T and H would start with the same kernel
        kernel = type(kernel).from_config({**settings, "seed": settings["seed"] + 1})
    changed = {
        "name": "gate",
        "activation": "sigmoid",
        "use_bias": True,
        "kernel_initializer": kernel,
        "bias_initializer": keras.initializers.Constant(bias),
    }
    return type(layer).from_config({**config, **changed})
