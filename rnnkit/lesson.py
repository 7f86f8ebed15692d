"""The first line of every notebook: a quiet, repeatable start."""

import os


def start_lesson(seed=0):
    """Start Keras without its log lines, fix the seeds and use the course's figure style.

    Call it before `import keras`: the switch that makes TensorFlow's results repeat from run to run is read on
    import only.

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
