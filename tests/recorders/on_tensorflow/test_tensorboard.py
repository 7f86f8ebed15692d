"""Event files against TensorBoard's own reader, and against a parser of the bytes."""

import os
import signal
import struct
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.util.tensor_util import make_ndarray

from rnnkit.recorders._tensorboard import EventWriter

NORMS = {
    "norm/rnn/kernel": np.array([0.1, 1e-45, 3.4e38], "float32"),
    "norm/Größe/bias": np.array([np.nan, np.inf, 0.0], "float32"),
}
STEPS = np.array([2, 3, 2**40])


def read(folder):
    """What TensorBoard itself reads there, every point of it."""
    everything = dict.fromkeys((event_accumulator.SCALARS, event_accumulator.TENSORS), 0)
    return event_accumulator.EventAccumulator(str(folder), size_guidance=everything).Reload()


def parse(folder):
    """The events of the only file there, with nothing but the format: length, crc, bytes, crc."""
    (path,) = folder.iterdir()
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def test_scalars_come_back_to_the_bit(tmp_path):
    writer = EventWriter(tmp_path)
    writer.scalars(NORMS, STEPS)
    writer.scalars({tag: norms[::-1] for tag, norms in NORMS.items()}, STEPS + 5)
    writer.close()
    seen = read(tmp_path)
    assert sorted(seen.Tags()["scalars"]) == sorted(NORMS)
    for tag, norms in NORMS.items():
        events = seen.Scalars(tag)
        assert [event.step for event in events] == [*STEPS, *(STEPS + 5)]
        np.testing.assert_array_equal(np.array([event.value for event in events], "float32"), [*norms, *norms[::-1]])


def test_moments_lie_in_order_between_the_calls(tmp_path):
    before = time.time()
    writer = EventWriter(tmp_path)
    time.sleep(0.05)
    writer.scalars(NORMS, STEPS)
    between = time.time()
    writer.scalars(NORMS, STEPS + 5)
    writer.close()
    moments = [event.wall_time for event in read(tmp_path).Scalars("norm/rnn/kernel")]
    assert moments == sorted(moments)
    assert len(set(moments[:3])) == 3
    assert before < moments[0] < moments[2] <= between <= moments[5]
    np.testing.assert_allclose(np.diff(moments[:3]), moments[1] - moments[0], rtol=0.01)


def test_a_histogram_keeps_its_edges_and_counts(tmp_path):
    counts, edges = np.histogram(np.random.default_rng(0).normal(size=100), bins=[-9, -1, 0, 0.5, 9])
    writer = EventWriter(tmp_path)
    writer.histogram("gradient/rnn", edges, counts, step=7)
    writer.close()
    seen = read(tmp_path)
    (event,) = seen.Tensors("gradient/rnn")
    assert event.step == 7
    np.testing.assert_array_equal(make_ndarray(event.tensor_proto), np.stack([edges[:-1], edges[1:], counts], axis=1))
    assert list(seen.PluginTagToContent("histograms")) == ["gradient/rnn"]


@pytest.mark.parametrize(
    ("edges", "counts"),
    [([0, 1, 2], [1]), ([0, 0, 1], [1, 1]), ([0, np.inf], [1]), ([0, 1], [-1]), ([0, 1], [np.nan]), (1.0, [])],
)
def test_what_is_no_histogram_is_answered(edges, counts, tmp_path):
    writer = EventWriter(tmp_path)
    with pytest.raises(ValueError, match=r"n \+ 1 finite edges.*Received: for 'h' edges.*numpy\.histogram"):
        writer.histogram("h", edges, counts, step=0)
    writer.close()


def test_the_bytes_are_one_event_a_step(tmp_path):
    writer = EventWriter(tmp_path)
    writer.scalars(NORMS, STEPS)
    writer.close()
    first, *events = parse(tmp_path)
    assert first.file_version == "brain.Event:2"
    assert [event.step for event in events] == STEPS.tolist()
    assert [[value.tag for value in event.summary.value] for event in events] == [list(NORMS)] * 3


def test_no_row_and_no_tag_write_nothing_wrong(tmp_path):
    writer = EventWriter(tmp_path)
    writer.scalars({"norm": np.empty(0)}, np.empty(0, "int64"))
    writer.close()
    assert len(parse(tmp_path)) == 1


def test_values_that_do_not_match_the_steps_are_refused(tmp_path):
    writer = EventWriter(tmp_path)
    with pytest.raises(ValueError, match="zip"):
        writer.scalars({"norm": np.ones(2)}, STEPS)
    writer.close()


def test_after_close_nothing_is_written(tmp_path):
    writer = EventWriter(tmp_path)
    writer.close()
    writer.close()
    writer.scalars(NORMS, STEPS)
    assert len(parse(tmp_path)) == 1


def test_two_writers_of_a_folder_keep_apart(tmp_path):
    first, second = EventWriter(tmp_path), EventWriter(tmp_path)
    first.scalars({"a": [1.0]}, [0])
    second.scalars({"b": [2.0]}, [0])
    first.close(), second.close()
    seen = read(tmp_path)
    assert [seen.Scalars(tag)[0].value for tag in "ab"] == [1.0, 2.0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGKILL")
def test_a_killed_process_leaves_what_it_was_given(tmp_path):
    code = (
        "import os, signal, sys, numpy as np\n"
        "from rnnkit.recorders._tensorboard import EventWriter\n"
        "writer = EventWriter(sys.argv[1])\n"
        "writer.scalars({'norm': np.arange(300)}, np.arange(300))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -signal.SIGKILL
    assert [event.value for event in read(tmp_path).Scalars("norm")] == list(range(300))


@pytest.mark.skipif(find_spec("jax") is None, reason="needs another backend than TensorFlow")
def test_on_another_backend_tensorflow_is_not_imported(tmp_path):
    code = (
        "import sys, rnnkit.recorders._tensorboard as t; w = t.EventWriter(sys.argv[1]); w.scalars({'a': [1.0]}, [0]); "
        "w.histogram('h', [0, 1], [1], 0); w.close(); print('tensorflow' in sys.modules)"
    )
    on_jax = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=on_jax)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_a_folder_that_cannot_be_written_is_answered(tmp_path):
    (tmp_path / "file").touch()
    for log_dir in (tmp_path / "file", tmp_path / "file" / "logs", "gs://bucket/logs"):
        with pytest.raises(OSError, match=r"`log_dir` must be a folder.*Received: log_dir='.*Name another"):
            EventWriter(log_dir)
    assert not os.path.exists("gs:")


def test_a_full_disk_ends_the_log_with_a_warning_and_nothing_else(tmp_path):
    resource = pytest.importorskip("resource")  # a limit on the size of files fails as a full disk does: while writing
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = EventWriter(tmp_path)
    writer.scalars({"norm": np.ones(100)}, np.arange(100))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.warns(RuntimeWarning, match=r"ends before training step \d+: .*File too large.*Training goes on"):
            writer.scalars({"norm": np.ones(1000)}, np.arange(100, 1100))
        writer.scalars({"norm": np.ones(1)}, [1100])  # says nothing more
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.close()
    assert [event.step for event in read(tmp_path).Scalars("norm")][:100] == list(range(100))


def test_without_tensorboard_the_next_step_is_named():
    code = (
        "import sys; sys.modules['tensorboard'] = None\n"
        "try: import rnnkit.recorders._tensorboard\nexcept ImportError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'pip install "rnnkit[tensorboard]"' in said
