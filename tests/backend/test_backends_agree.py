"""On the same weights and data, Keras's backends give the same measurements, to rounding."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

BACKEND = keras.backend.backend()
REFERENCE = "tensorflow"

MEASURE = """
import sys
import keras
import numpy as np
import rnnkit

draw = np.random.default_rng(0)
x, y = rnnkit.tasks.adding_problem(n=24, length=9, seed=0)
layers = [
    keras.Input((None, 2)),
    keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True), name="both"),
    keras.layers.GRU(4, name="top"),
    keras.layers.Dense(1, name="head"),
]
model = keras.Sequential(layers)
model.set_weights([draw.normal(scale=0.5, size=weight.shape) for weight in model.get_weights()])
model.compile(keras.optimizers.SGD(0.05, clipvalue=0.1), "mse")

found = {}
for layer, states in rnnkit.probes.state_gradients(model, x, y).items():
    found |= {f"state_gradients {layer} {state}": values for state, values in states.items()}
for layer, gates in rnnkit.probes.gates(model, x).items():
    found |= {f"gates {layer} {gate}": values for gate, values in gates.items()}
found["state_jacobians"] = rnnkit.probes.state_jacobians(model, x, "top")
found["singular_values"] = rnnkit.probes.singular_values(model, x, "top", log10=True)
found["saliency"] = rnnkit.probes.saliency(model, x)

recorder = rnnkit.GradientRecorder(measures=["max", "update_ratio"])
flow = rnnkit.StateGradientRecorder(x[:8], y[:8], every=2)
model.fit(x, y, batch_size=8, epochs=2, shuffle=False, callbacks=[recorder, flow], verbose=0)
found |= {f"norm {name}": norms for name, norms in recorder.history.items()}
found |= {f"clipped {name}": norms for name, norms in recorder.clipped.items()}
found |= {f"flow {name}": norms for name, norms in flow.history.items()}
for measure, arrays in recorder.measured.items():
    found |= {f"{measure} {name}": values for name, values in arrays.items()}
found["clip_angle"] = recorder.clip_angle
np.savez(sys.argv[1], **{name.replace("/", "|"): values for name, values in found.items()})
"""


def measured(backend, path):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(path) as file:
        return dict(file)


@pytest.mark.skipif(BACKEND == REFERENCE, reason="the other backends are compared with TensorFlow")
def test_the_backend_measures_what_tensorflow_does(tmp_path):
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow, the reference, is not installed")
    ours, theirs = measured(BACKEND, tmp_path / "ours.npz"), measured(REFERENCE, tmp_path / "theirs.npz")
    assert list(ours) == list(theirs)
    assert len(ours) > 40
    for name, expected in theirs.items():
        largest = np.abs(expected).max()
        np.testing.assert_allclose(ours[name], expected, rtol=1e-4, atol=2e-5 * largest, err_msg=name)
