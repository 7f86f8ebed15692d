"""A recorder on several devices: two virtual CPUs, which a process has to ask for before TensorFlow starts."""

import json
import os
import subprocess
import sys

import pytest

TRAINING = """
import contextlib, json, sys
import numpy as np
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras
import rnnkit

x, y = rnnkit.tasks.adding_problem(n=64, length=10, seed=0)
settings = json.loads(sys.argv[1])


def trained(strategy, callbacks):
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        layers = [keras.Input((None, 2)), keras.layers.GRU(8, name="rnn"), keras.layers.Dense(1, name="out")]
        model = keras.Sequential(layers)
        optimizer = keras.optimizers.SGD(0.1)
        if settings["loss_scaling"]:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, "mse", run_eagerly=settings["run_eagerly"])
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, callbacks=callbacks, verbose=0)
    return model.get_weights()


strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
one, two = rnnkit.GradientRecorder(measures=["update_ratio"]), rnnkit.GradientRecorder(measures=["update_ratio"])
trained(None, [one])
recorded, plain = trained(strategy, [two]), trained(strategy, [])


def apart(of):
    return max(float(np.abs(of(two)[name] / of(one)[name] - 1).max()) for name in one.history)


print(json.dumps({
    "replicas": strategy.num_replicas_in_sync,
    "steps": two.steps.tolist(),
    "apart": [apart(lambda r: r.history), apart(lambda r: r.clipped), apart(lambda r: r.measured["update_ratio"])],
    "unrecorded": all(np.array_equal(a, b) for a, b in zip(recorded, plain, strict=True)),
}))
"""


@pytest.mark.tensorflow
@pytest.mark.parametrize(("run_eagerly", "loss_scaling"), [(False, False), (True, False), (False, True)])
def test_two_replicas_record_the_gradient_of_the_whole_batch(run_eagerly, loss_scaling):
    """Each replica sees half of the batch: only the sum over both has the norm that one device has."""
    settings = json.dumps({"run_eagerly": run_eagerly, "loss_scaling": loss_scaling})
    # A time limit: replicas that wait for one another wait for ever.
    ended = subprocess.run(
        [sys.executable, "-c", TRAINING, settings],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["replicas"] == 2
    assert found["steps"] == list(range(8))
    assert max(found["apart"]) < 2e-5
    assert found["unrecorded"]
