"""A recorder on several devices: two virtual CPUs, which a process has to ask for before its backend starts."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "several-devices.md"
BACKEND = keras.backend.backend()

START = """
import contextlib, json, sys
"""

MIRRORED = (
    START
    + """
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@contextlib.contextmanager
def building(devices):
    with strategy.scope() if devices == 2 else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def training(devices):
    with strategy.scope() if devices == 2 and SETTINGS.get("fit_inside") else contextlib.nullcontext():
        yield


def devices_of(model):
    return model.distribute_strategy.num_replicas_in_sync
"""
)

SHARDED = (
    START
    + """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import keras


@contextlib.contextmanager
def building(devices):
    keras.distribution.set_distribution(keras.distribution.DataParallel() if devices == 2 else None)
    yield


training = contextlib.nullcontext


def devices_of(model):
    return len(model.trainable_variables[0].value.sharding.device_set)
"""
)

# For each of the settings: the same training on one device, on two with recorders, and on two without. The layer is
# the cheapest: what two devices make of a gradient does not depend on whose it is.
COMPARED = """
import numpy as np
import rnnkit

x, y = rnnkit.tasks.adding_problem(n=64, length=5, seed=0)


def trained(devices, callbacks):
    keras.utils.set_random_seed(0)
    with building(devices):
        layers = [keras.Input((None, 2)), keras.layers.SimpleRNN(8, name="rnn"), keras.layers.Dense(1, name="out")]
        model = keras.Sequential(layers)
        optimizer = keras.optimizers.SGD(0.1, **SETTINGS.get("clipping", {}))
        if SETTINGS.get("loss_scaling"):
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, "mse", **SETTINGS.get("compile", {}))
    with training(devices):
        model.fit(x, y, batch_size=16, epochs=2, shuffle=False, callbacks=callbacks, verbose=0)
    return model


def recorders():
    return rnnkit.GradientRecorder(measures=["update_ratio"]), rnnkit.StateGradientRecorder(x[:7], y[:7], every=3)


def apart(one, two):
    # Relative to a weight's mean norm: a step's own may be a small difference of large numbers.
    return max(float(np.abs(two[name] - norms).max() / norms.mean()) for name, norms in one.items())


for SETTINGS in json.loads(sys.argv[1]):
    one, flow_of_one = recorders()
    two, flow_of_two = recorders()
    trained(1, [one, flow_of_one])
    recorded, plain = trained(2, [two, flow_of_two]), trained(2, [])
    print(json.dumps({
        "devices": devices_of(recorded),
        "steps": two.steps.tolist(),
        "apart": {
            "norm": apart(one.history, two.history),
            "clipped": apart(one.clipped, two.clipped),
            "update_ratio": apart(one.measured["update_ratio"], two.measured["update_ratio"]),
            "flow": float(np.abs(flow_of_two.history["rnn"] / flow_of_one.history["rnn"] - 1).max()),
        },
        "unrecorded": all(map(np.array_equal, recorded.get_weights(), plain.get_weights())),
    }))
"""


def run(code, *arguments):
    # A time limit: replicas that wait for one another wait for ever.
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "KERAS_BACKEND": BACKEND},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


def compared(devices, settings):
    """Run all settings in one process, for it takes longer to start than they do; return what each found."""
    lines = run(devices + COMPARED, json.dumps(list(settings.values()))).splitlines()[-len(settings) :]
    return dict(zip(settings, map(json.loads, lines), strict=True))


def require_the_whole_batch(found):
    """Each device sees half of the batch: only both together have the norm that one device has."""
    assert found["devices"] == 2
    assert found["steps"] == list(range(8))
    assert max(found["apart"].values()) < 2e-5
    assert found["unrecorded"]


REPLICAS = {
    "compiled": {"compile": {"jit_compile": False}},
    "eager": {"compile": {"run_eagerly": True}},
    "loss_scaling": {"loss_scaling": True, "compile": {"jit_compile": False}},
    "fit_inside_the_scope": {"fit_inside": True},
}


@pytest.fixture(scope="module")
def replicas():
    return compared(MIRRORED, REPLICAS)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("settings", REPLICAS)
def test_two_replicas_record_the_gradient_of_the_whole_batch(settings, replicas):
    require_the_whole_batch(replicas[settings])


SHARDS = {
    "plain": {},
    "global_clipnorm": {"clipping": {"global_clipnorm": 0.3}},
    "clipvalue_and_loss_scaling": {"clipping": {"clipvalue": 0.1}, "loss_scaling": True},
    "steps_per_execution": {"compile": {"steps_per_execution": 2}},
    "without_jit": {"compile": {"jit_compile": False}},
}


@pytest.fixture(scope="module")
def shards():
    return compared(SHARDED, SHARDS)


@pytest.mark.skipif(BACKEND != "jax", reason="DataParallel spreads a model over devices on JAX")
@pytest.mark.parametrize("settings", SHARDS)
def test_two_shards_record_the_gradient_of_the_whole_batch(settings, shards):
    require_the_whole_batch(shards[settings])


@pytest.mark.parametrize(
    ("place", "backend"), [(0, "tensorflow"), (1, "jax")], ids=["mirrored_strategy", "data_parallel"]
)
def test_the_documented_examples_run(place, backend):
    if backend != BACKEND:
        pytest.skip(f"the example is for {backend}")
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 2
    norms = run(examples[place] + "\nprint(len(recorder.steps))").splitlines()
    assert norms[-1] == "8"
