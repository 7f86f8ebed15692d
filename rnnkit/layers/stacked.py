"""Recurrent layers on top of each other, with or without connections that skip some of them."""

from rnnkit._backend import keras, ops

SKIPS = ("none", "residual", "dense")


@keras.saving.register_keras_serializable(package="rnnkit")
class StackedRNN(keras.Layer):
    """Recurrent layers one on top of the other: each reads, at every step, what the one below it says at that step.

    With `skips="none"` a layer reads the layer below. With `"residual"` what a layer reads is added to what it says,
    and the next one reads the sum; around the first layer, which reads features of another kind, there is no such
    connection. With `"dense"` a layer reads the stack's input and what *all* layers below it say, side by side; the
    stack says all of that too.

    The layers stay what they are: `rnnkit.probes` and the recorders find each by its name, below that of the stack.

    Args:
        layers: list of Keras recurrent layers (SimpleRNN, GRU, LSTM, RNN; or Bidirectional), from the lowest up, each
            with `return_sequences=True`.
        skips: `"none"`, `"residual"` or `"dense"`.
        return_sequences: whether to return all steps, or the last one only: of a masked sequence, the last that is not
            masked.
        **kwargs: of `keras.Layer`, such as `name` and `dtype`.

    Returns:
        When called with x (batch, time, features): (batch, time, width), or (batch, width) of the last step. The width
        is that of the highest layer; of a dense stack, the sum of the features and the widths of all layers.

    Raises:
        ValueError: if there is no layer, one is not recurrent, returns no sequence or other things too, reads
            backwards, or stands there twice; if `skips` is unknown; or, once the stack is built, if a residual stack's
            layers are not all equally wide.

    Example:
        >>> import keras
        >>> layers = [keras.layers.GRU(8, return_sequences=True, name=f"rnn_{k}") for k in (1, 2, 3)]
        >>> stack = rnnkit.layers.StackedRNN(layers, skips="residual", name="stack")
        >>> model = keras.Sequential([keras.Input((20, 2)), stack, keras.layers.Dense(1)])
        >>> model.compile(loss="mse")
        >>> x, y = rnnkit.tasks.adding_problem(n=4, length=20)
        >>> list(rnnkit.probes.state_gradients(model, x, y[:, None]))
        ['stack/rnn_1', 'stack/rnn_2', 'stack/rnn_3']

    Source: Graves, Mohamed & Hinton (2013), "Speech recognition with deep recurrent neural networks", equation 11, for
    the stack; Wu et al. (2016), "Google's neural machine translation system", section 3.1, for the residual one; Huang,
    Liu, van der Maaten & Weinberger (2017), "Densely connected convolutional networks", for the dense one.
    """

    def __init__(self, layers, skips="none", return_sequences=True, **kwargs):
        super().__init__(**kwargs)
        if skips not in SKIPS:
            raise ValueError(f"`skips` must be one of {', '.join(SKIPS)}. Received: skips={skips!r}.")
        self.layers = _checked(layers)
        self.skips = skips
        self.return_sequences = return_sequences
        self.supports_masking = True

    def build(self, input_shape):
        """Build each layer for what it will read."""
        for layer, width in zip(self.layers, self._widths(input_shape), strict=False):
            if not layer.built:  # else it would get new weights: it may stand in another stack too
                layer.build((*input_shape[:2], width))

    def compute_output_shape(self, input_shape):
        """Return (batch, time, width), or (batch, width) when only the last step goes out."""
        shape = input_shape[:2] if self.return_sequences else input_shape[:1]
        return (*shape, self._widths(input_shape)[-1])

    def _widths(self, input_shape):
        """Return how wide that is which each layer reads, and at the end what the stack says."""
        widths = [input_shape[-1]]
        for place, layer in enumerate(self.layers):
            says = layer.compute_output_shape((*input_shape[:2], widths[-1]))[-1]
            if self.skips == "residual" and place and says != widths[-1]:
                raise ValueError(
                    "All layers of a residual stack must be equally wide, for what a layer reads is added to what it "
                    f"says. Received: layer {layer.name!r}, {says} wide, on top of {widths[-1]}. "
                    "Give all the same number of units, or use skips='dense'."
                )
            widths.append(widths[-1] + says if self.skips == "dense" else says)
        return widths

    def call(self, inputs, mask=None, training=False):
        """Run the stack; see the class."""
        reads = inputs
        for place, layer in enumerate(self.layers):
            says = layer(reads, mask=mask, training=training)
            if self.skips == "dense":
                reads = ops.concatenate([reads, says], axis=-1)
            elif self.skips == "residual" and place:
                reads = reads + says
            else:
                reads = says
        return reads if self.return_sequences else _last(reads, mask)

    def compute_mask(self, inputs, mask=None):
        """Return the mask that came in, or None when only the last step goes out."""
        return mask if self.return_sequences else None

    def get_config(self):
        """Return what is needed to make it again."""
        return {
            **super().get_config(),
            "layers": [keras.saving.serialize_keras_object(layer) for layer in self.layers],
            "skips": self.skips,
            "return_sequences": self.return_sequences,
        }

    @classmethod
    def from_config(cls, config):
        """Make it again."""
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config["layers"]]
        return cls(**{**config, "layers": layers})


def _last(sequence, mask):
    """Return the last step of each sequence that is not masked."""
    if mask is None:
        return sequence[:, -1]
    steps = ops.arange(1, ops.shape(mask)[1] + 1)
    last = ops.argmax(ops.where(mask, steps, 0), axis=1)
    return ops.take_along_axis(sequence, last[:, None, None], axis=1)[:, 0]


def _checked(layers):
    """Return the layers as a list, if they can be stacked."""
    layers = list(layers) if isinstance(layers, list | tuple) else [layers]
    if not layers:
        raise ValueError("A stack has at least one recurrent layer. Received: an empty list.")
    for layer in layers:
        ends = [layer]
        if isinstance(layer, keras.layers.Bidirectional):
            ends = [layer.forward_layer]
        if not all(isinstance(end, keras.layers.RNN) for end in ends):
            raise ValueError(
                "A stack is made of recurrent layers: keras.layers.SimpleRNN, GRU, LSTM, RNN or Bidirectional. "
                f"Received: {layer!r}. For a cell, write keras.layers.RNN(cell, return_sequences=True)."
            )
        (end,) = ends
        if not end.return_sequences or end.return_state or end.go_backwards:
            raise ValueError(
                "Each layer of a stack must return its whole sequence, and that only, in the order of time. Received: "
                f"layer {layer.name!r} with return_sequences={end.return_sequences}, return_state={end.return_state}, "
                f"go_backwards={end.go_backwards}. Set return_sequences=True and leave out the others."
            )
    if len({id(layer) for layer in layers}) < len(layers):
        raise ValueError(
            "Each layer of a stack is another one, with weights of its own. "
            f"Received: {[layer.name for layer in layers]}. Make them in a loop: [GRU(8) for _ in range(3)] has three."
        )
    return layers
