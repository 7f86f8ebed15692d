"""How the price of a measurement changes with the size of what is measured."""

import rnnkit
from benchmarks import models, paired
from benchmarks.rows import Row, Setting
from rnnkit import probes

TITLE = "How the cost grows"
TEXT = (
    "On JAX, whose training step is the shortest, so that what is added to it shows most: a GRU of 32 units, T=100, "
    "batch of 32, two weights after it; one of the four is changed at a time. The ratio here is the largest of "
    "the ratios by the smallest: 1 is flat."
)
_FLAT = 1.25
_WHY = (
    "A step of a small model is mostly the start of its operations, one of a large model arithmetic, and a "
    "measurement does not have the two in the same proportion."
)
ROWS = {
    "recorder": Row("`GradientRecorder()` over a plain fit", "the same at another size", _FLAT, _WHY),
    "state gradients": Row("`probes.state_gradients` over a training step", "the same at another size", _FLAT, _WHY),
    "memory": Row("bytes of a recorded step at T=200", "at T=20", 1.0),
}
_BASE = Setting("jax", True, "GRU", steps=100, units=32, batch=32)
_AXES = {"steps": (25, 100, 400), "units": (8, 32, 128), "dense": (1, 10, 40), "batch": (8, 32, 128)}
_SAID = {"steps": "T", "units": "units", "dense": "dense layers", "batch": "batch"}


def settings(quick):
    return [_BASE._replace(variant=axis) for axis in (("batch",) if quick else _AXES)] + [
        _BASE._replace(variant="memory")
    ]


def measure(setting, quick=False):
    if setting.variant == "memory":
        return {"memory": _memory(setting)}
    axis = setting.variant
    recorded, probed = {}, {}
    for value in (8, 16) if quick else _AXES[axis]:
        one = setting._replace(**{axis: value})
        ways = {
            "plain": models.fitting(one),
            "recorder": models.fitting(one, lambda network, x, y: [rnnkit.GradientRecorder()]),
        }
        recorded[value] = paired.fits(ways, "plain", epochs=5 if quick else 9).ratio("recorder")["ratio"]
        network, (x, y) = models.model(one), models.data(one)
        ways = {
            "step": models.training_step(network, x, y),
            "probe": probes.state_gradient_norms(network, x, y, jit_compile=True),
        }
        probed[value] = paired.calls(ways, "step", turns=31, seconds=2).ratio("probe")["ratio"]
    return {"recorder": _spread(recorded, _SAID[axis]), "state gradients": _spread(probed, _SAID[axis])}


def _spread(ratios, said):
    """Return the largest by the smallest, and each."""
    each = ", ".join(f"{value}: {ratio:.2f}" for value, ratio in ratios.items())
    return {"ratio": max(ratios.values()) / min(ratios.values()), "detail": f"{said} {each}"}


def _memory(setting):
    """Count the bytes of what is kept for a step, at two lengths."""
    sizes = []
    for steps in (20, 200):
        one = setting._replace(steps=steps)
        recorder = rnnkit.GradientRecorder()
        models.fitting(one, lambda network, x, y, recorder=recorder: [recorder], count=4)(1, [])
        kept = [
            *recorder.history.values(),
            *recorder.clipped.values(),
            recorder.global_norm,
            recorder.clipped_global_norm,
            recorder.clip_angle,
            recorder.steps,
        ]
        sizes.append(sum(numbers.nbytes for numbers in kept) / len(recorder.steps))
    return {"ratio": sizes[1] / sizes[0], "detail": f"{sizes[1]:.0f} bytes a step, {len(recorder.history)} weights"}
