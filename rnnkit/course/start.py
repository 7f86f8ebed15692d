"""The first line of every notebook: a quiet, repeatable start."""

import os
import sys

from rnnkit import _display
from rnnkit.course import advice, doctor


def start_lesson(seed=0):
    """Start Keras without its log lines, fix the seeds and use the course's figure style.

    Call it before `import keras`: the switch that makes TensorFlow's results repeat from run to run is read on
    import only. In a notebook it also says if Keras runs on another backend than the lessons do or memory is short,
    and from then on, below errors that learners meet, what to do next.

    Args:
        seed: integer from which Python, NumPy and the Keras backend draw their random numbers.

    Example:
        >>> import rnnkit
        >>> rnnkit.start_lesson(seed=0)
    """
    # oneDNN reorders sums with the number of threads, so that the last digits would change from run to run.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    from rnnkit._backend import keras, quiet_first_use

    quiet_first_use()
    keras.utils.set_random_seed(seed)
    import matplotlib.pyplot as plt

    plt.style.use("rnnkit.course")
    if _display.in_a_notebook():
        advice.follow(sys.modules["IPython"].get_ipython())
        for finding in doctor.glance():
            if finding.fix:
                _display.show(f"{finding.name}:", f"{finding.found}. {finding.fix}")


def track(things, of="runs"):
    """Go through something that takes long, and show meanwhile how many are done; nothing of it stays.

    In a notebook it is a bar below the cell, in a terminal a line. Where the environment variable `RNNKIT_EXPECT` is
    set (a notebook that is run to be compared with what it stores), nothing is shown.

    Args:
        things: what to go through, such as seeds.
        of: what they are called, in the plural.

    Returns:
        iterator over the same things, in the same order.

    Example:
        >>> [seed**2 for seed in rnnkit.track(range(4), "seeds")]
        [0, 1, 4, 9]
    """
    things = list(things)
    with _display.Progress(len(things), of) as show:
        for done, thing in enumerate(things):
            show(done)
            yield thing
