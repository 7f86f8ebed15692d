"""Hold back what C++ libraries write to stderr while they start."""

import os
import sys
import tempfile
from contextlib import contextmanager


@contextmanager
def quiet_stderr():
    """Hold back what C++ code writes to file descriptor 2; show it after all if the block raises.

    TensorFlow logs there when it is imported and when it first touches a device, whatever
    `TF_CPP_MIN_LOG_LEVEL` says, and Jupyter shows those lines as errors.
    """
    sys.stderr.flush()
    try:
        real = os.dup(2)
    except OSError:  # no stderr at all (a GUI or a service): nothing to hold back
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
