"""GradientRecorder(log_dir=...): what TensorBoard's own reader finds is what the recorder holds."""

import builtins

import keras
import numpy as np
import pytest
from fast import EAGER
from training import Stops

import rnnkit

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util.tensor_util import make_ndarray


def read(folder):
    everything = dict.fromkeys((event_accumulator.SCALARS, event_accumulator.TENSORS), 0)
    return event_accumulator.EventAccumulator(str(folder), size_guidance=everything).Reload()


def scalars(seen, tag):
    events = seen.Scalars(tag)
    return [event.step for event in events], np.array([event.value for event in events], "float32")


def train(recorder, epochs=2, callbacks=(), **clipping):
    keras.utils.set_random_seed(0)
    x, y = rnnkit.tasks.adding_problem(n=40, length=6, seed=0)
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="rnn"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, **clipping), "mse", **EAGER)
    model.fit(x, y, batch_size=8, epochs=epochs, callbacks=[recorder, *callbacks], verbose=0)
    return model


def test_tensorboard_reads_every_step(tmp_path):
    recorder = rnnkit.GradientRecorder(measures=["max", "update_ratio"], log_dir=tmp_path)
    train(recorder, global_clipnorm=0.05)
    seen = read(tmp_path)
    expected = {
        "global_norm": recorder.global_norm,
        "clipped_global_norm": recorder.clipped_global_norm,
        "clip_angle": recorder.clip_angle,
        **{f"norm/{name}": norms for name, norms in recorder.history.items()},
        **{f"clipped_norm/{name}": norms for name, norms in recorder.clipped.items()},
        **{f"max/{name}": values for name, values in recorder.measured["max"].items()},
        **{f"update_ratio/{name}": values for name, values in recorder.measured["update_ratio"].items()},
    }
    assert sorted(seen.Tags()["scalars"]) == sorted(expected)
    for tag, values in expected.items():
        steps, found = scalars(seen, tag)
        assert steps == recorder.steps.tolist() == list(range(10))
        np.testing.assert_array_equal(found, values.astype("float32"))


def test_where_nothing_is_clipped_nothing_is_written_twice(tmp_path):
    train(rnnkit.GradientRecorder(log_dir=tmp_path))
    assert not [tag for tag in read(tmp_path).Tags()["scalars"] if "clip" in tag]


def test_a_histogram_an_epoch(tmp_path):
    recorder = rnnkit.GradientRecorder(measures="histogram", log_dir=tmp_path)
    train(recorder)
    seen = read(tmp_path)
    for name, fractions in recorder.measured["histogram"].items():
        events = seen.Tensors(f"log10_gradient/{name}")
        assert [event.step for event in events] == [4, 9]
        for event in events:
            buckets = make_ndarray(event.tensor_proto)
            np.testing.assert_allclose(buckets[:, 2], fractions[event.step])
            np.testing.assert_array_equal(buckets[1:, 0], recorder.histogram_edges)
            np.testing.assert_array_equal(buckets[:-1, 1], recorder.histogram_edges)


def test_the_trained_weights_are_those_of_an_unlogged_run(tmp_path):
    logged, plain = train(rnnkit.GradientRecorder(log_dir=tmp_path)), train(rnnkit.GradientRecorder())
    for one, other in zip(logged.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_interrupted_fit_logs_what_was_recorded_and_the_next_one_a_file_of_its_own(tmp_path):
    recorder = rnnkit.GradientRecorder(log_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(recorder, callbacks=[Stops(KeyboardInterrupt, at=2)])
    assert len(recorder.global_norm) == 3  # asking for it reads it, and writes no file
    recorder.flush()
    assert scalars(read(tmp_path), "global_norm")[0] == [0, 1, 2]
    train(recorder, epochs=1)
    assert len(list(tmp_path.iterdir())) == 2
    assert recorder.steps.tolist() == list(range(5))


def test_a_folder_that_cannot_be_written_stops_fit_before_the_first_step(tmp_path):
    (tmp_path / "file").touch()
    recorder = rnnkit.GradientRecorder(log_dir=tmp_path / "file")
    with pytest.raises(OSError, match=r"`log_dir` must be a folder"):
        train(recorder)
    assert not len(recorder.steps)


def test_a_missing_package_is_named_before_training(monkeypatch, tmp_path):
    plain = builtins.__import__

    def without(name, *arguments, **settings):
        if name == "rnnkit.recorders._tensorboard":
            raise ImportError('Install it: pip install "rnnkit[tensorboard]"')
        return plain(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="rnnkit\\[tensorboard\\]"):
        rnnkit.GradientRecorder(log_dir=tmp_path)
    rnnkit.GradientRecorder()
