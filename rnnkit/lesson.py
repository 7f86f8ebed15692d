"""The first line of every notebook: a quiet, repeatable start."""

import os
import sys

from rnnkit import _display, _next_step, doctor


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
    from rnnkit._backend import keras

    keras.utils.set_random_seed(seed)
    import matplotlib.pyplot as plt

    plt.style.use("rnnkit.course")
    if _display.in_a_notebook():
        _next_step.follow(sys.modules["IPython"].get_ipython())
        for finding in doctor.glance():
            if finding.fix:
                _display.show(f"{finding.name}:", f"{finding.found}. {finding.fix}")
