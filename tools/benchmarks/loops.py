"""The course's training loops on each backend of Keras, against a plain loop in torch."""

from benchmarks import models, paired
from benchmarks.peers import torch_loop
from benchmarks.rows import Row, Setting, missing

TITLE = "The training loops of the course against torch.nn"
TEXT = (
    "32 units, batch of 64, Adam, clipping by the global norm. An epoch of Keras's `fit` is divided by an epoch of a "
    "plain torch loop over `nn.RNN`, `nn.GRU` or `nn.LSTM`, run next to it in the same process."
)
ROWS = {
    "loop": Row(
        "Keras's `fit`",
        "a plain torch loop over torch.nn",
        1.0,
        "torch.nn runs all steps of a layer in one C++ operation; Keras's loop over time starts several operations at "
        "each step. XLA fuses them (jit), which is Keras's default; JAX compiles the whole training step, and is why "
        "the course's sweeps run on it.",
    )
}


def settings(quick):
    length, cells = (20, ("GRU",)) if quick else (50, ("SimpleRNN", "GRU", "LSTM"))
    return [
        Setting(backend, backend != "torch", cell, length, 8 if quick else 32)
        for backend in ("tensorflow", "jax", "torch")
        for cell in cells
    ]


def measure(setting, quick=False):
    try:
        import torch
    except ImportError as error:
        return {"loop": missing(f"torch is not installed beside {setting.runs_on}: {error}")}
    torch.set_num_threads(torch.get_num_threads())  # its pool is started now, and not in an epoch
    ways = {"keras": models.fitting(setting, count=20), "torch": torch_loop(setting, count=20)}
    return {"loop": paired.fits(ways, "torch", epochs=5 if quick else 9).ratio("keras")}
