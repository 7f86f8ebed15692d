"""Recorders while `fit` runs, against the same fit without them."""

import rnnkit
from benchmarks import models, paired
from benchmarks.rows import Row, grid, with_jit

TITLE = "Recorders, against the same fit without them"
TEXT = (
    "An epoch of the fit that records is divided by the epoch of the fit that does not, run next to it. Epochs are "
    "short, 1,000 time steps of a batch (3,000 on JAX) and two batches at least, and what was recorded is read back "
    "when each ends, so that reading weighs more here than in a training run."
)
ROWS = {
    "recorder": Row(
        "`GradientRecorder()`, every weight at every step",
        "the same fit",
        1.03,
        "Where it is over the goal, the distance is to be read beside the noise, plain against plain. What there is to "
        "spare was spared: no synchronisation in a step, one row of numbers written inside the compiled step, read "
        "back every 256 steps and at the end of an epoch. The norms themselves read every gradient once more, which "
        "weighs most where a step is shortest.",
    ),
    "training batch": Row(
        "`StateGradientRecorder(every=1)`, dL/dh_t of the training batch itself",
        "the same fit",
        with_jit(1.15, 1.25),
        "It takes a perturbation of every state through the loop, and keeps its gradient; without XLA each is an "
        "operation of its own at each time step, and a fused kernel of the layer is not used.",
    ),
    "every ten": Row(
        "`StateGradientRecorder` on a probe batch of 8, every ten steps",
        "the same fit",
        1.03,
        "A batch of 8 takes as many time steps, one after the other, as one of 64: on short steps it is not eight "
        "times cheaper.",
    ),
}


def settings(quick):
    return grid(quick, torch=(50,))


def measure(setting, quick=False):
    recorder = rnnkit.StateGradientRecorder

    def every_ten(network, x, y):
        return [recorder(x[:8], y[:8], every=10, jit_compile=setting.jit)]

    ways = {
        "plain": models.fitting(setting),
        "recorder": models.fitting(setting, lambda network, x, y: [rnnkit.GradientRecorder()]),
        "training batch": models.fitting(setting, lambda network, x, y: [recorder(every=1)]),
        "every ten": models.fitting(setting, every_ten),
    }
    times = paired.fits(ways, "plain", epochs=5 if quick else 8 if setting.steps >= 1000 else 9)
    return {name: times.ratio(name) for name in ways if name != "plain"}
