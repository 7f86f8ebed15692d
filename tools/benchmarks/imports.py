"""What importing rnnkit takes, in fresh processes that take turns."""

import subprocess
import sys

from benchmarks import paired
from benchmarks.rows import Row, Setting

TITLE = "Importing"
TEXT = (
    "Fresh processes in turn, Keras on TensorFlow, the start of Python included. `import rnnkit` imports nothing else "
    "until a name is used; so the recorders, probes, tasks, layers and sweeps are asked for."
)
_ALL = "import rnnkit; rnnkit.GradientRecorder, rnnkit.probes, rnnkit.tasks, rnnkit.layers, rnnkit.sweeps"
_LATER = ("pandas", "ipywidgets", "sklearn", "matplotlib")
ROWS = {
    "name": Row("`import rnnkit`", "`import keras`", 1.05),
    "all": Row(
        "`import rnnkit` and its recorders, probes, tasks, layers, sweeps",
        "`import keras`",
        1.05,
        "What is over is TensorFlow's first use of its device and of XLA, a small function compiled on import, so that "
        "the lines it logs then can be held back; without rnnkit the first model pays for it.",
    ),
    "later": Row(f"how many of {', '.join(_LATER)} it imports that Keras does not", "one", 0),
}


def settings(quick):
    return [Setting("tensorflow", True, "", 0, 0)]


def _python(code):
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def measure(setting, quick=False):
    ways = {"keras": _python("import keras"), "name": _python("import rnnkit"), "all": _python(_ALL)}
    turns = 2 if quick else 3
    times = paired.calls(ways, "keras", turns=turns, at_least=turns, warm_up=1)
    look = f"import sys; print(*(set({_LATER}) & set(sys.modules)))"
    ours, keras = (set(_python(f"{code}; {look}")().split()) for code in (_ALL, "import keras"))
    # Keras looks for them by itself: it imports those that are installed.
    by_keras = f"; Keras itself imports {', '.join(sorted(keras))}" if keras else ""
    later = {"ratio": len(ours - keras), "detail": (", ".join(sorted(ours - keras)) or "none") + by_keras}
    return {"name": times.ratio("name"), "all": times.ratio("all"), "later": later}
