"""What people use now to see gradients while a model trains, each beside GradientRecorder and the plain fit."""

import importlib
import os
import tempfile

import numpy as np

import rnnkit
from benchmarks import models, paired
from benchmarks.rows import Row, Setting, missing
from rnnkit._backend import keras

APART = True  # tools that hook into everything: a process each
TITLE = "`GradientRecorder` against what people use now"
TEXT = (
    "LSTM, T=50. Each tool is put on the same Keras fit, but for cockpit, which needs a training loop of its own: "
    "there both costs are over the plain loop of their kind. *It costs* is the other tool's epoch by the plain one; "
    "the ratio is ours by the other's."
)
_BY = {
    "tape": "a second tape in a callback, compiled",
    "eager tape": "a second tape in a callback, eager",
    "run_eagerly": "`run_eagerly=True` and a `train_step` that looks at its gradients",
    "histogram_freq": "`TensorBoard(histogram_freq=1)`: weights, once an epoch",
    "gradient histograms": "a second tape in a callback and `tf.summary.histogram`",
    "hooks": "torch: a hook on each parameter that keeps the norm",
    "wandb": "torch: `wandb.watch(log_freq=1)`, offline",
    "cockpit": "torch: cockpit's `GradNorm`",
}
ROWS = {
    name: Row(
        "`GradientRecorder()`",
        against,
        1.03 if name in ("hooks", "histogram_freq") else 1.0,
        {
            "hooks": "A hook hears the gradient before clipping, and nothing else: ours measures the norm after "
            "clipping and of all gradients together too.",
            "histogram_freq": "It looks at the weights once an epoch, not at gradients: it has less to do, the longer "
            "an epoch is.",
        }.get(name, "The other tool does less on each step than it seems."),
    )
    for name, against in _BY.items()
}
_TORCH = ("hooks", "wandb", "cockpit")


def settings(quick):
    size = {"steps": 20, "units": 8} if quick else {}
    return [
        Setting("torch", False, variant=peer, **size) if peer in _TORCH else Setting(variant=peer, **size)
        for peer in _BY
    ]


def measure(setting, quick=False):
    theirs = _PEERS[setting.variant]
    package = {"wandb": "wandb", "cockpit": "cockpit", "histogram_freq": "tensorboard"}.get(setting.variant)
    if package:
        try:
            importlib.import_module(package)
        except ImportError as error:
            return {setting.variant: missing(f"{package} is not to be had here: {error}")}
    slow = setting.variant in ("eager tape", "run_eagerly", "gradient histograms")
    count = 6 if slow else models.batches(setting)
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "plain": models.fitting(setting, count=count),
            "ours": models.fitting(setting, lambda network, x, y: [rnnkit.GradientRecorder()], count=count),
            **theirs(setting, count, folder),
        }
        times = paired.fits(ways, "plain", epochs=5 if quick else 8 if slow else 9)
    cost = times.ratio("theirs", "their plain" if "their plain" in ways else "plain")
    result = times.ratio("ours", "theirs")
    if "their plain" in ways:
        ours, plain, other, their_plain = (
            np.array(times.seconds[name]) for name in ("ours", "plain", "theirs", "their plain")
        )
        result |= paired.summary(ours / plain, other / their_plain)
    return {setting.variant: result | {"cost": cost, "ours": times.ratio("ours")}}


# --- on TensorFlow -----------------------------------------------------------------------------------------------


class _SecondTape(keras.callbacks.Callback):
    """The recipe of many answers on the web: differentiate a batch again before each step."""

    def __init__(self, x, y, compiled, write=None):
        super().__init__()
        self.x, self.y, self.compiled, self.write = x, y, compiled, write
        self.norms = []

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        network, x, y = self.model, tf.convert_to_tensor(self.x), tf.convert_to_tensor(self.y)

        def gradients():
            with tf.GradientTape() as tape:
                loss = network.compute_loss(x, y, network(x, training=True))
            found = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
            return found if self.write else tf.stack([tf.norm(gradient) for gradient in found])

        self.measure = tf.function(gradients) if self.compiled else gradients

    def on_train_batch_begin(self, batch, logs=None):
        if self.write:
            self.write(self.model, self.measure())
        else:
            self.norms.append(self.measure().numpy())


def _tape(compiled):
    def theirs(setting, count, folder):
        return {"theirs": models.fitting(setting, lambda network, x, y: [_SecondTape(x, y, compiled)], count=count)}

    return theirs


def _gradient_histograms(setting, count, folder):
    import tensorflow as tf

    writer, step = tf.summary.create_file_writer(folder), iter(range(10**9))

    def write(network, gradients):
        with writer.as_default(step=next(step)):
            for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
                tf.summary.histogram(variable.path, gradient)

    return {"theirs": models.fitting(setting, lambda network, x, y: [_SecondTape(x, y, True, write)], count=count)}


def _run_eagerly(setting, count, folder):
    import tensorflow as tf

    class Watched(keras.Sequential):
        norms = []  # noqa: RUF012  (Keras would track an instance's)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, [variable.value for variable in self.trainable_variables])
            self.norms.append([float(tf.norm(gradient)) for gradient in gradients])
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    def make(setting):
        return models.model(setting, Watched, run_eagerly=True, jit_compile=False)

    return {"theirs": models.fitting(setting, make=make, count=count)}


def _histogram_freq(setting, count, folder):
    def callbacks(network, x, y):
        return [keras.callbacks.TensorBoard(folder, histogram_freq=1, write_graph=False)]

    return {"theirs": models.fitting(setting, callbacks, count=count)}


# --- on torch ----------------------------------------------------------------------------------------------------


class _Hooks(keras.callbacks.Callback):
    """What one writes oneself on torch."""

    def on_train_begin(self, logs=None):
        self.norms, self.kept = [], []
        self.hooks = [
            variable.value.register_hook(lambda gradient: self.kept.append(gradient.norm()))
            for variable in self.model.trainable_variables
        ]

    def on_epoch_end(self, epoch, logs=None):
        self.norms += [float(norm) for norm in self.kept]
        self.kept.clear()

    def on_train_end(self, logs=None):
        for hook in self.hooks:
            hook.remove()


def _hooks(setting, count, folder):
    return {"theirs": models.fitting(setting, lambda network, x, y: [_Hooks()], count=count)}


class _Watch(keras.callbacks.Callback):
    """wandb, as its guide says: watch the model, log at every step."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs=None):
        import wandb

        self.run = wandb.init(mode="offline", dir=self.folder, settings=wandb.Settings(silent=True))
        self.run.watch(self.model, log="gradients", log_freq=1)

    def on_train_batch_end(self, batch, logs=None):
        self.run.log({"batch": batch})

    def on_train_end(self, logs=None):
        self.run.unwatch()
        self.run.finish()


def _wandb(setting, count, folder):
    os.environ["WANDB_SILENT"] = "true"
    return {"theirs": models.fitting(setting, lambda network, x, y: [_Watch(folder)], count=count)}


def torch_loop(setting, count, observe=None):
    """Return `fit(epochs, callbacks)`, a plain torch training loop over the same sizes as the Keras model.

    Args:
        setting: the sizes.
        count: batches an epoch.
        observe: makes a context manager round `loss.backward()`, from the parameters; called once.
    """
    import torch

    x, y = map(torch.from_numpy, models.data(setting, count))

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            kind = {"SimpleRNN": torch.nn.RNN, "GRU": torch.nn.GRU, "LSTM": torch.nn.LSTM}[setting.cell]
            self.rnn, self.head = kind(2, setting.units, batch_first=True), torch.nn.Linear(setting.units, 1)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    def fit(epochs, callbacks):
        torch.manual_seed(0)
        network = Network()
        optimizer = torch.optim.Adam(network.parameters())
        around = observe(network) if observe else None
        for epoch in range(epochs):
            for callback in callbacks:
                callback.on_epoch_begin(epoch)
            for inputs, targets in zip(x.split(setting.batch), y.split(setting.batch), strict=True):
                optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(network(inputs), targets)
                if around:
                    around(loss, targets, optimizer)
                else:
                    loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
            for callback in callbacks:
                callback.on_epoch_end(epoch)

    return fit


def _cockpit(setting, count, folder):
    from cockpit import Cockpit
    from cockpit.quantities import GradNorm

    def observe(network):
        observer, step = Cockpit(network.parameters(), [GradNorm(track_schedule=lambda step: True)]), iter(range(10**9))

        def backward(loss, targets, optimizer):
            info = {"batch_size": len(targets), "individual_losses": loss[None], "loss": loss, "optimizer": optimizer}
            with observer(next(step), info=info):
                loss.backward(create_graph=observer.create_graph(0))

        return backward

    return {"their plain": torch_loop(setting, count), "theirs": torch_loop(setting, count, observe)}


_PEERS = {
    "tape": _tape(compiled=True),
    "eager tape": _tape(compiled=False),
    "run_eagerly": _run_eagerly,
    "histogram_freq": _histogram_freq,
    "gradient histograms": _gradient_histograms,
    "hooks": _hooks,
    "wandb": _wandb,
    "cockpit": _cockpit,
}
