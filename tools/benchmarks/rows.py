"""What a row of the benchmark is: something compared with something else, in a setting, with a goal."""

from typing import NamedTuple


class Setting(NamedTuple):
    """Where something is measured. `variant` tells apart what else there is to choose."""

    backend: str = "tensorflow"
    jit: bool = True
    cell: str = "LSTM"
    steps: int = 50
    units: int = 64
    batch: int = 64
    dense: int = 1
    variant: str = ""

    @property
    def runs_on(self):
        """The backend as a reader knows it."""
        name = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}[self.backend]
        return name if self.backend != "tensorflow" else f"{name}, jit" if self.jit else f"{name}, no jit"


class Row(NamedTuple):
    """What is compared.

    Args:
        what: ours, in Markdown.
        against: what it is divided by.
        goal: the ratio should be this at most; a number, a function of the setting, or None for no goal.
        why: what is known about missing it: the reason, and what was tried.
    """

    what: str
    against: str
    goal: object = None
    why: str = ""

    def bound(self, setting):
        """Return the goal in a setting, or None."""
        return self.goal(setting) if callable(self.goal) else self.goal


def missing(reason):
    """Return the result of what could not be measured."""
    return {"missing": reason}


def with_jit(there, without):
    """Return a goal that is another one where the step is not compiled by XLA."""
    return lambda setting: there if setting.jit else without


def grid(quick, *, torch=(50, 200)):
    """Return the settings of the rows about one model; sparse, because each takes half a minute.

    The LSTM, the course's main character and the dearest, is measured at every length on every backend; the two other
    cells at the shortest, where XLA compiles.
    """
    if quick:
        return [Setting(backend, jit, steps=20, units=8) for backend, jit in _RUNS]
    lengths = {backend: torch if backend == "torch" else (50, 200, 1000) for backend, _ in _RUNS}
    found = [Setting(backend, jit, "LSTM", steps) for backend, jit in _RUNS for steps in lengths[backend]]
    found += [Setting(backend, True, cell, 50) for cell in ("SimpleRNN", "GRU") for backend, jit in _RUNS if jit]
    return found


_RUNS = (("tensorflow", True), ("tensorflow", False), ("jax", True), ("torch", False))
