"""Recurrent cells that read like their equations, with the weights of Keras's own cells."""

import numbers

from rnnkit._backend import keras, ops
from rnnkit.initializers import GateBias


class _Cell(keras.Layer):
    """What the cells share: three weights in Keras's order, for `blocks` gates side by side."""

    blocks = 1
    bias_rows = ()

    def __init__(
        self,
        units,
        activation="tanh",
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(units, numbers.Integral) or isinstance(units, bool) or units < 1:
            raise ValueError(f"`units` must be a whole number of at least 1. Received: units={units!r}. Try 32.")
        self.units = self.output_size = self.state_size = int(units)  # one of NumPy's cannot be saved
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        """Make kernel U (features, blocks * units), recurrent kernel W (units, blocks * units) and bias b."""
        width = self.blocks * self.units
        self.kernel = self.add_weight((input_shape[-1], width), self.kernel_initializer, name="kernel")
        self.recurrent_kernel = self.add_weight(
            (self.units, width), self.recurrent_initializer, name="recurrent_kernel"
        )
        self.bias = self.add_weight((*self.bias_rows, width), self.bias_initializer, name="bias")

    def get_config(self):
        """Return what is needed to make it again."""
        initializers = ("kernel_initializer", "recurrent_initializer", "bias_initializer")
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            **{name: keras.initializers.serialize(getattr(self, name)) for name in initializers},
        }


class _GatedCell(_Cell):
    """A cell with gates. What its `gates` returns, `rnnkit.probes.gates` measures; subclasses may change it.

    `gate_names` are the keys of what `gates` returns.
    """

    gate_names = ()

    def __init__(self, units, recurrent_activation="sigmoid", **kwargs):
        super().__init__(units, **kwargs)
        self.recurrent_activation = keras.activations.get(recurrent_activation)

    def get_config(self):
        """Return what is needed to make it again."""
        activation = keras.activations.serialize(self.recurrent_activation)
        return {**super().get_config(), "recurrent_activation": activation}


@keras.saving.register_keras_serializable(package="rnnkit")
class SimpleRNNCell(_Cell):
    """The plain recurrent cell, h_t = tanh(x_t U + h_{t-1} W + b), for `keras.layers.RNN`.

    Its three weights are those of `keras.layers.SimpleRNN`, so that `set_weights` copies from one to the other.

    Args:
        units: size of the state.
        activation: what stands for tanh.
        kernel_initializer, recurrent_initializer, bias_initializer: of U (features, units), W (units, units) and b
            (units,); as in Keras, W starts orthogonal.
        **kwargs: of `keras.Layer`, such as `name` and `dtype`.

    Returns:
        When called with x_t (batch, features) and the states [h_{t-1}], (batch, units): h_t and [h_t].

    Raises:
        ValueError: if `units` is not a whole number of at least 1.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> layer = keras.layers.RNN(rnnkit.layers.SimpleRNNCell(4))
        >>> tuple(layer(np.ones((8, 20, 2))).shape)
        (8, 4)

    Source: Elman (1990), "Finding structure in time".
    """

    def call(self, inputs, states):
        """Take one step."""
        (h,) = states
        h = self.activation(inputs @ self.kernel + h @ self.recurrent_kernel + self.bias)
        return h, [h]


@keras.saving.register_keras_serializable(package="rnnkit")
class LSTMCell(_GatedCell):
    r"""The LSTM cell as its equations say it, for `keras.layers.RNN`.

    With \* for the elementwise product and s for the sigmoid,

        i = s(x U_i + h W_i + b_i)        f = s(x U_f + h W_f + b_f)        o = s(x U_o + h W_o + b_o)
        g = tanh(x U_g + h W_g + b_g)     c_t = f * c_{t-1} + i * g         h_t = o * tanh(c_t)

    Its three weights are those of `keras.layers.LSTM`, gates side by side in the order i, f, g, o, so that
    `set_weights` copies from one to the other. A subclass that overrides `gates` is another kind of LSTM; the probes
    measure that one too.

    Args:
        units: size of the states h and c.
        recurrent_activation: what stands for the sigmoid.
        activation: what stands for tanh.
        kernel_initializer, recurrent_initializer, bias_initializer: of U (features, 4 * units), W (units, 4 * units)
            and b (4 * units,). Unless given, b is 1 for the forget gate and else 0, as in Keras.
        **kwargs: of `keras.Layer`, such as `name` and `dtype`.

    Returns:
        When called with x_t (batch, features) and the states [h_{t-1}, c_{t-1}], (batch, units) each: h_t and
        [h_t, c_t].

    Raises:
        ValueError: if `units` is not a whole number of at least 1.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> ours = keras.layers.RNN(rnnkit.layers.LSTMCell(4))
        >>> theirs = keras.layers.LSTM(4)
        >>> x = np.ones((8, 20, 2))
        >>> ours.build(x.shape), theirs.build(x.shape)
        (None, None)
        >>> ours.set_weights(theirs.get_weights())
        >>> difference = keras.ops.convert_to_numpy(ours(x) - theirs(x))
        >>> bool(abs(difference).max() < 1e-6)
        True

    Source: Hochreiter & Schmidhuber (1997), "Long short-term memory"; Gers, Schmidhuber & Cummins (2000), "Learning to
    forget: continual prediction with LSTM", for the forget gate.
    """

    blocks = 4
    gate_names = ("input", "forget", "candidate", "output")

    def __init__(self, units, bias_initializer=None, **kwargs):
        super().__init__(units, bias_initializer=bias_initializer or GateBias(forget=1.0), **kwargs)
        self.state_size = [units, units]

    def gates(self, inputs, states):
        """Compute `{name: (batch, units)}`: input, forget and output gate, and the candidate."""
        h, _ = states
        i, f, g, o = ops.split(inputs @ self.kernel + h @ self.recurrent_kernel + self.bias, 4, axis=-1)
        open_, squash = self.recurrent_activation, self.activation
        return {"input": open_(i), "forget": open_(f), "candidate": squash(g), "output": open_(o)}

    def call(self, inputs, states):
        """Take one step."""
        _, c = states
        gate = self.gates(inputs, states)
        c = gate["forget"] * c + gate["input"] * gate["candidate"]
        h = gate["output"] * self.activation(c)
        return h, [h, c]


@keras.saving.register_keras_serializable(package="rnnkit")
class GRUCell(_GatedCell):
    r"""The GRU cell as its equations say it, in either convention, for `keras.layers.RNN`.

    With \* for the elementwise product and s for the sigmoid,

        z = s(x U_z + h W_z + b_z)        r = s(x U_r + h W_r + b_r)
        g = tanh(x U_g + b_g + r * (h W_g + d_g))     with `reset_after=True`, Keras's default
        g = tanh(x U_g + (r * h) W_g + b_g)           with `reset_after=False`, as in Cho et al. (2014)
        h_t = z * h_{t-1} + (1 - z) * g               with `convention="keras"`: z keeps
        h_t = (1 - z) * h_{t-1} + z * g               with `convention="lecture"`: z updates

    The two conventions are one family of networks: with U_z, W_z and b_z negated, one computes what the other does.

    Its three weights are those of `keras.layers.GRU`, gates side by side in the order z, r, g, so that `set_weights`
    copies from one to the other. With `reset_after=True` the bias has two rows: b for the inputs, d for the state.

    Args:
        units: size of the state.
        convention: `"keras"` or `"lecture"`, see above.
        reset_after: whether the reset gate acts after the product with W_g, or before it.
        recurrent_activation: what stands for the sigmoid.
        activation: what stands for tanh.
        kernel_initializer, recurrent_initializer, bias_initializer: of U (features, 3 * units), W (units, 3 * units)
            and the bias, (2, 3 * units) or (3 * units,); zeros unless given, as in Keras.
        **kwargs: of `keras.Layer`, such as `name` and `dtype`.

    Returns:
        When called with x_t (batch, features) and the states [h_{t-1}], (batch, units): h_t and [h_t].

    Raises:
        ValueError: if `units` is not a whole number of at least 1, or the convention is unknown.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> layer = keras.layers.RNN(rnnkit.layers.GRUCell(4, convention="lecture"))
        >>> tuple(layer(np.ones((8, 20, 2))).shape)
        (8, 4)

    Source: Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder for statistical machine
    translation", equations 5-8 (where z keeps); Chung et al. (2014), "Empirical evaluation of gated recurrent neural
    networks on sequence modeling", equations 5-8 (where z updates).
    """

    blocks = 3
    gate_names = ("update", "reset", "candidate")

    def __init__(self, units, convention="keras", reset_after=True, **kwargs):
        super().__init__(units, **kwargs)
        if convention not in ("keras", "lecture"):
            raise ValueError(
                "A GRU's `convention` says what its update gate does: 'keras' (z keeps the state) or 'lecture' "
                f"(z updates it). Received: convention={convention!r}. Leave it out for Keras's."
            )
        self.convention, self.reset_after = convention, bool(reset_after)
        self.bias_rows = (2,) if self.reset_after else ()

    def gates(self, inputs, states):
        """Compute `{name: (batch, units)}`: update and reset gate, and the candidate."""
        (h,) = states
        bias = ops.convert_to_tensor(self.bias)
        b, d = (bias[0], bias[1]) if self.reset_after else (bias, ops.zeros_like(bias))
        x_z, x_r, x_g = ops.split(inputs @ self.kernel + b, 3, axis=-1)
        W_z, W_r, W_g = ops.split(ops.convert_to_tensor(self.recurrent_kernel), 3, axis=-1)
        d_z, d_r, d_g = ops.split(d, 3)
        z = self.recurrent_activation(x_z + h @ W_z + d_z)
        r = self.recurrent_activation(x_r + h @ W_r + d_r)
        g = self.activation(x_g + (r * (h @ W_g + d_g) if self.reset_after else (r * h) @ W_g))
        return {"update": z, "reset": r, "candidate": g}

    def call(self, inputs, states):
        """Take one step."""
        (h,) = states
        gate = self.gates(inputs, states)
        keep = gate["update"] if self.convention == "keras" else 1 - gate["update"]
        h = keep * h + (1 - keep) * gate["candidate"]
        return h, [h]

    def get_config(self):
        """Return what is needed to make it again."""
        return {**super().get_config(), "convention": self.convention, "reset_after": self.reset_after}
