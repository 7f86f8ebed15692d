"""What each tool returns for dL/dh_t when only the last step is used, beside finite differences."""

import numpy as np

import rnnkit
from benchmarks.rows import Row, Setting, missing
from rnnkit._backend import keras

TITLE = "Right, side by side"
TEXT = (
    "A `SimpleRNN` of 8 units reads 12 steps; the loss uses its last output alone. Asked for is dL/dh_t at the eleven "
    "steps before. The truth is found without differentiating: every unit of every state is nudged up and down in a "
    "forward pass written in NumPy, in float64. The error is the largest, by the largest entry of the truth."
)
ANSWERS = True  # a table of what is returned, not of ratios
_TOTAL, _DIRECT = "the total derivative", "the direct term alone: zeros"
ROWS = {
    "rnnkit": Row("`rnnkit.probes.state_gradients`", "finite differences"),
    "retain_grad": Row("torch: `retain_grad()` on the output sequence of `nn.RNN`", "finite differences"),
    "hook": Row("torch: a backward hook on `nn.RNN` (its `grad_output`)", "finite differences"),
    "by hand": Row(
        "torch: a loop over `nn.RNNCell` written by hand, `retain_grad()` on each state", "finite differences"
    ),
    "captum": Row(
        "captum: `LayerGradientXActivation` of the outputs of `nn.RNN`, by the activation", "finite differences"
    ),
    "nnsight": Row("nnsight: `.grad` of the output of `nn.RNN` in a trace", "finite differences"),
    "see-rnn": Row("see-rnn: `get_gradients` by the layer's outputs", "finite differences"),
}
_STEPS, _UNITS, _BATCH = 12, 8, 4


def settings(quick):
    on = [Setting(backend, jit, "SimpleRNN", _STEPS, _UNITS, _BATCH, variant="rnnkit") for backend, jit in _RUNS]
    torch = Setting("torch", False, "SimpleRNN", _STEPS, _UNITS, _BATCH)
    # see-rnn is of Keras 2 and TensorFlow.
    return on + [
        torch._replace(variant=name, backend="tensorflow" if name == "see-rnn" else "torch") for name in list(ROWS)[1:]
    ]


_RUNS = (("tensorflow", False), ("jax", True), ("torch", False))


def data():
    draw = np.random.default_rng(0)
    return draw.normal(size=(_BATCH, _STEPS, 2)).astype("float32"), draw.normal(size=(_BATCH, 1)).astype("float32")


def truth(weights, x, y, step=1e-5):
    """Return dL/dh_t, an array (batch, time, units), by central differences of a forward pass.

    Args:
        weights: kernel, recurrent kernel, bias; kernel and bias of the head.
        x: inputs.
        y: targets.
        step: how far to nudge.
    """
    kernel, recurrent, bias, head, last = (np.asarray(weight, "float64") for weight in weights)
    x, y = x.astype("float64"), y.astype("float64")

    def losses(at, nudge):  # of each example by itself, so that all are nudged at once
        h = np.zeros((len(x), len(recurrent)))
        for t in range(x.shape[1]):
            h = np.tanh(x[:, t] @ kernel + h @ recurrent + bias) + (nudge if t == at else 0)
        return np.mean((h @ head + last - y) ** 2, axis=-1) / len(x)

    slopes = np.zeros((*x.shape[:2], len(recurrent)))
    for t in range(x.shape[1]):
        for unit, nudge in enumerate(step * np.eye(len(recurrent))):
            slopes[:, t, unit] = (losses(t, nudge) - losses(t, -nudge)) / (2 * step)
    return slopes


def compared(found, true):
    """Say what was returned for the steps before the last."""
    found, true = found[:, :-1], true[:, :-1]
    error = float(np.abs(found - true).max() / np.abs(true).max())
    if not found.any():
        return {"verdict": "not dL/dh_t", "detail": _DIRECT}
    kind = _TOTAL if error < 1e-3 else "something else"
    return {"verdict": "right" if error < 1e-3 else "not dL/dh_t", "detail": f"{kind}; largest error {error:.0e}"}


def measure(setting, quick=False):
    try:
        return {setting.variant: _TOOLS[setting.variant](setting)}
    except ImportError as error:
        return {setting.variant: missing(f"not to be had here: {error}")}


def _rnnkit(setting):
    x, y = data()
    network = keras.Sequential(
        [keras.Input((None, 2)), keras.layers.SimpleRNN(_UNITS, name="rnn"), keras.layers.Dense(1)]
    )
    network.compile(loss="mse", jit_compile=setting.jit)
    return compared(rnnkit.probes.state_gradients(network, x, y)["rnn"]["h"], truth(network.get_weights(), x, y))


def _torch_model():
    """Return a torch model whose loss uses the last step, its inputs and targets, and the truth."""
    import torch

    torch.manual_seed(0)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = torch.nn.RNN(2, _UNITS, batch_first=True), torch.nn.Linear(_UNITS, 1)
            self.sequence = torch.nn.Identity()  # captum takes no layer that also returns what the loss does not use

        def forward(self, x):
            self.outputs = self.sequence(self.rnn(x)[0])
            return self.head(self.outputs[:, -1])

    network, (x, y) = Network(), data()
    kernel, recurrent, *biases = (weight.detach().numpy() for weight in network.rnn.parameters())
    head, last = (weight.detach().numpy() for weight in network.head.parameters())
    true = truth([kernel.T, recurrent.T, sum(biases), head.T, last], x, y)
    return network, torch.from_numpy(x), torch.from_numpy(y), true


def _loss(prediction, y):
    return ((prediction - y) ** 2).mean()


def _retain_grad(setting):
    network, x, y, true = _torch_model()
    prediction = network(x)
    network.outputs.retain_grad()
    _loss(prediction, y).backward()
    return compared(network.outputs.grad.numpy(), true)


def _hook(setting):
    network, x, y, true = _torch_model()
    heard = []
    network.rnn.register_full_backward_hook(lambda module, inputs, outputs: heard.append(outputs[0]))
    _loss(network(x), y).backward()
    return compared(heard[0].numpy(), true)


def _by_hand(setting):
    import torch

    network, x, y, true = _torch_model()
    cell = torch.nn.RNNCell(2, _UNITS)
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in network.rnn.state_dict().items()})
    states, h = [], torch.zeros(len(x), _UNITS)
    for inputs in x.unbind(1):
        h = cell(inputs, h)
        h.retain_grad()
        states.append(h)
    _loss(network.head(h), y).backward()
    return compared(torch.stack([h.grad for h in states], dim=1).numpy(), true)


def _captum(setting):
    from captum.attr import LayerGradientXActivation

    network, x, y, true = _torch_model()
    asked = LayerGradientXActivation(lambda x: ((network(x) - y) ** 2).mean(-1) / len(x), network.sequence)
    return compared((asked.attribute(x) / network.outputs).detach().numpy(), true)


def _nnsight(setting):
    from nnsight import NNsight

    network, x, y, true = _torch_model()
    watched = NNsight(network)
    with watched.trace(x):
        outputs = watched.rnn.output[0]
        loss = ((watched.output - y) ** 2).mean()
        with loss.backward():
            gradient = outputs.grad.save()
    return compared(gradient.detach().numpy(), true)


def _see_rnn(setting):
    import see_rnn

    if not hasattr(see_rnn, "get_gradients"):
        raise ImportError(
            "see-rnn is installed, but leaves out its functions for gradients where it does not find "
            "tensorflow.python.keras, which TensorFlow no longer has"
        )
    x, y = data()
    network = keras.Sequential(
        [keras.Input((_STEPS, 2)), keras.layers.SimpleRNN(_UNITS, name="rnn"), keras.layers.Dense(1)]
    )
    network.compile("sgd", "mse")
    found = see_rnn.get_gradients(network, "rnn", input_data=x, labels=y, mode="outputs")
    return compared(np.asarray(found), truth(network.get_weights(), x, y))


_TOOLS = {
    "rnnkit": _rnnkit,
    "retain_grad": _retain_grad,
    "hook": _hook,
    "by hand": _by_hand,
    "captum": _captum,
    "nnsight": _nnsight,
    "see-rnn": _see_rnn,
}
