"""Event files for TensorBoard, written without TensorFlow. Import it only where a log is asked for."""

import contextlib
import itertools
import os
import time
import warnings
from pathlib import Path

import numpy as np

# TensorBoard's records are used, but neither its background thread nor its layer for files, which would import
# TensorFlow where it is installed, whatever backend Keras runs on.
try:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.histogram import metadata as histogram_metadata
    from tensorboard.summary.writer.record_writer import RecordWriter
    from tensorboard.util.tensor_util import make_tensor_proto
except ImportError as error:
    raise ImportError(
        f"A log for TensorBoard is written with the package tensorboard. Received: log_dir, and no such package "
        f'({error}). Install it: pip install "rnnkit[tensorboard]", or leave log_dir out.'
    ) from error


class EventWriter:
    """Write scalars and histograms into a folder where TensorBoard finds them.

    Each call hands its rows to the operating system before it returns: a process killed later leaves all of them.
    Should writing fail later on, as on a full disk, it warns and writes no more; training goes on.

    Args:
        log_dir: the folder, made if need be. TensorBoard takes each folder for a run of its own.

    Raises:
        OSError: if no file can be written there.
    """

    def __init__(self, log_dir):
        self._moment = time.time()
        try:
            if "://" in os.fspath(log_dir):  # a bucket, which would become a folder of that name
                raise OSError("it is an address, not a folder")
            self._file = _new_file(Path(log_dir), self._moment)
        except OSError as error:
            raise OSError(
                f"`log_dir` must be a folder of this machine in which files can be made. Received: "
                f"log_dir={os.fspath(log_dir)!r}, where that failed: {error}. Name another, such as 'logs/run1'."
            ) from error
        self._records = RecordWriter(self._file)
        self._write([Event(wall_time=self._moment, file_version="brain.Event:2")])

    def scalars(self, values, steps):
        """Write one scalar a step for each tag.

        Rows read back together have no moments of their own: they are spread evenly over the time since the last ones.

        Args:
            values: dict from tag to an array (n,). TensorBoard groups tags by what stands before a slash.
            steps: array (n,), the training steps.
        """
        now = max(time.time(), self._moment)
        moments = np.linspace(self._moment, now, len(steps) + 1)[1:].tolist()
        self._moment = now
        columns = [np.asarray(column, "float32").tolist() for column in values.values()]
        self._write(
            Event(wall_time=moment, step=step, summary=Summary(value=map(_scalar, values, row)))
            for moment, step, *row in zip(moments, np.asarray(steps).tolist(), *columns, strict=True)
        )

    def histogram(self, tag, edges, counts, step):
        """Write one histogram that is already counted.

        TensorBoard draws it on a linear axis: of numbers on a log scale, give the logarithms of the edges.

        Args:
            tag: its name.
            edges: array (n + 1,), finite and increasing.
            counts: array (n,), how many numbers lie between one edge and the next.
            step: the training step.

        Raises:
            ValueError: if edges and counts make no histogram.
        """
        edges, counts = np.asarray(edges, "float64"), np.asarray(counts, "float64")
        increasing = edges.ndim == 1 and np.isfinite(edges).all() and (np.diff(edges) > 0).all()
        if not increasing or counts.shape != (len(edges) - 1,) or not (counts >= 0).all():
            raise ValueError(
                "A histogram has n + 1 finite edges, each above the one before, and n counts of at least 0. "
                f"Received: for {tag!r} edges {edges.tolist()} and counts {counts.tolist()}. "
                "Pass what numpy.histogram returns."
            )
        buckets = make_tensor_proto(np.column_stack([edges[:-1], edges[1:], counts]))
        about = histogram_metadata.create_summary_metadata(display_name=None, description=None)
        value = Summary.Value(tag=tag, tensor=buckets, metadata=about)
        self._write([Event(wall_time=time.time(), step=int(step), summary=Summary(value=[value]))])

    def close(self):
        """Close the file. To close it again, or to write after that, does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, events):
        if self._file is None:
            return
        step = 0
        try:
            for event in events:
                step = event.step
                self._records.write(event.SerializeToString())
            self._file.flush()
        except OSError as error:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):  # closing tries once more to write what is left
                file.close()
            warnings.warn(
                f"The TensorBoard log {file.name} ends before training step {step}: {error}. "
                "Training goes on, and the recorder itself still keeps every step.",
                RuntimeWarning,
                stacklevel=3,
            )


def _scalar(tag, value):
    return Summary.Value(tag=tag, simple_value=value)


def _new_file(folder, moment):
    """Open an event file that was not there before. TensorBoard reads those of a folder in the order of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        with contextlib.suppress(FileExistsError):  # made within the same second
            return open(folder / f"events.out.tfevents.{int(moment):010d}.{os.getpid()}.{number}", "xb")
