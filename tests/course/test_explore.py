"""The explorers: what each measures is what the library's probes and Keras measure, what is drawn is what was measured,
and every place of every slider has a picture and words of its own."""

import html
import importlib.util
import itertools
import math
import re

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fast import EAGER
from matplotlib.figure import Figure

import rnnkit
from rnnkit import _display, explore
from rnnkit.course.explore import _cliff, _depth, _flow, _gates, _panel

STARTS = {
    "gradient_flow": (explore._FLOW, {"radius": 0.9, "length": 100, "activation": "tanh", "kernel": "orthogonal"}),
    "gates": (explore._GATES, {"cell": "LSTM", "bias": 1.0, "steps": 40, "scale": 1.0}),
    "cliff": (explore._CLIFF, {"w": 4.9, "b": -2.2, "rate": 0.1, "threshold": 0.5, "steps": 60}),
    "depth": (explore._DEPTH, {"depth": 20, "spread": 0.1, "gate_bias": -2.0, "shown": "all three"}),
}
NAMES = list(STARTS)


def ends(control):
    """The first and the last place of a control."""
    return control.options if isinstance(control, _panel.Choice) else (control.low, control.high)


def drawn(draw, measured):
    """The lines of the picture, by label: (x, y)."""
    ax = draw(Figure().add_subplot(), measured)
    return {line.get_label(): line.get_data() for line in ax.lines}


# --- what is measured -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "kernel", "radius"),
    [
        ("tanh", "orthogonal", 1.4),
        ("relu", "identity", 1.0),
        ("sigmoid", "Gaussian", 0.9),
        ("linear", "chain", 0.5),
    ],
)
def test_the_flow_is_what_the_probes_measure(activation, kernel, radius):
    length = 20
    flow = _flow.measure(radius, length, activation, kernel)
    W = _flow.recurrent_kernel(kernel, radius)
    assert max(abs(np.linalg.eigvals(W))) == pytest.approx(radius, rel=1e-6)
    rnn = keras.layers.SimpleRNN(_flow.UNITS, activation, use_bias=False, name="rnn")
    model = keras.Sequential([keras.Input((length, 2)), rnn, keras.layers.Dense(1, use_bias=False)])
    U, V = _flow.network()
    model.set_weights([U, W, V])
    model.compile(loss="mse", **EAGER)
    x, y = rnnkit.tasks.adding_problem(n=_flow.EXAMPLES, length=length, seed=0)
    gradients = rnnkit.probes.state_gradients(model, x, y)["rnn"]["h"].astype("float64")
    np.testing.assert_allclose(flow.gradient, np.linalg.norm(gradients, axis=-1).mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(flow.stretch, rnnkit.probes.singular_values(model, x[:1])[0].max(axis=-1), rtol=1e-3)
    assert flow.singular == pytest.approx(np.linalg.norm(W, 2))


def test_only_what_float32_could_not_hold_is_said_to_be_lost_there():
    lost, kept = (_flow.measure(0.2, length, "sigmoid", "orthogonal") for length in (100, 10))
    number = int((lost.gradient < 2.0**-149).sum())
    assert number > 50
    assert f"At {number} of the 100 steps float32" in _flow.words(lost)[1]
    assert "float32" not in _flow.words(kept)[1]
    assert (lost.gradient > 0).all()


@pytest.mark.parametrize(("cell", "bias", "scale"), [("LSTM", 3.0, 1.0), ("GRU", 2.0, 1.5), ("LSTM", -1.0, 2.0)])
def test_the_memory_is_what_the_jacobians_of_keras_make_of_it(cell, bias, scale):
    steps, units = 15, _gates.UNITS
    memory = _gates.measure(cell, bias, steps, scale)
    gate = {"LSTM": {"forget": bias}, "GRU": {"update": bias}}[cell]
    options = {"unit_forget_bias": False} if cell == "LSTM" else {}
    layer = getattr(keras.layers, cell)(
        units, bias_initializer=rnnkit.initializers.GateBias(**gate), name="rnn", **options
    )
    model = keras.Sequential([keras.Input((None, 2)), layer])
    model.set_weights([*_gates.weights(cell, scale), layer.get_weights()[2]])
    jacobians = rnnkit.probes.state_jacobians(model, _gates.data(steps)[None], state="all")[0]
    for n in (0, 1, 7, steps):
        product = np.linalg.multi_dot(
            [np.eye(len(jacobians[0])), *jacobians[11 : 11 + n][::-1], np.eye(len(jacobians[0]))]
        )
        part = product[-units:, -units:]
        assert memory.own[n] == pytest.approx(part.trace() / units, rel=1e-3, abs=1e-5)
        assert memory.all_roads[n] == pytest.approx(math.sqrt((part**2).sum() / units), rel=1e-3)


def test_with_no_other_road_the_bias_is_all_there_is_as_long_as_the_input_says_nothing():
    memory = _gates.measure("LSTM", 3.0, 30, scale=0.0)
    np.testing.assert_allclose(memory.own, memory.predicted, rtol=0.5)
    assert memory.half_life == pytest.approx(14.27, abs=0.01)
    assert memory.predicted[14] > 0.5 > memory.predicted[15]


def test_a_measured_half_life_lies_where_the_units_hold_half():
    memory = _gates.Memory("LSTM", 0.0, np.array([1, 0.7, 0.3, 0.1]), np.ones(4), np.ones(4))
    assert memory.measured_half_life == pytest.approx(1.5)
    assert memory._replace(own=np.full(4, 0.9)).measured_half_life == np.inf
    assert "not within 3 steps" in _gates.words(memory._replace(own=np.full(4, 0.9)))[1]


def loss(w, b):
    """The loss of the one-unit network, one step after the other."""
    x = 0.5
    for _ in range(50):
        x = w / (1 + math.exp(-x)) + b
    return (1 / (1 + math.exp(-x)) - 0.7) ** 2


def slope(w, b, epsilon=1e-6):
    """Its gradient by small differences."""
    return np.array([loss(w + epsilon, b) - loss(w - epsilon, b), loss(w, b + epsilon) - loss(w, b - epsilon)]) / (
        2 * epsilon
    )


def test_the_surface_is_the_loss():
    for row, column in itertools.product((0, 60, 180), (0, 50, 120)):
        assert _cliff.surface()[row, column] == pytest.approx(loss(_cliff.ACROSS[column], _cliff.UP[row]), abs=1e-12)


def test_each_step_of_both_descents_follows_the_gradient():
    descents = _cliff.measure(4.9, -2.2, 0.1, 0.5, 60)
    was_clipped = False
    for path, threshold in ((descents.plain, math.inf), (descents.clipped, 0.5)):
        assert path.shape == (61, 3)
        assert tuple(path[0, :2]) == (4.9, -2.2)
        np.testing.assert_allclose(path[:, 2], [loss(*point) for point in path[:, :2]], rtol=1e-9)
        for before, after in itertools.pairwise(path[:, :2]):
            step = -0.1 * slope(*before)
            length = np.linalg.norm(step)
            was_clipped |= length > 0.1 * threshold
            step *= min(1, 0.1 * threshold / length)
            np.testing.assert_allclose(after - before, step, rtol=1e-3, atol=1e-7)
    assert was_clipped
    assert np.linalg.norm(np.diff(descents.plain[:, :2], axis=0), axis=1).max() > 1


WRAP = {
    "plain": lambda layer, name, bias: layer,
    "residual": lambda layer, name, bias: rnnkit.layers.Residual(layer, name=name),
    "dense": lambda layer, name, bias: rnnkit.layers.DenselyConnected(layer, name=name),
    "highway": lambda layer, name, bias: rnnkit.layers.Highway(layer, gate_bias=bias, name=name),
}


@pytest.mark.parametrize("way", _depth.WAYS)
def test_the_depth_is_what_a_recorder_records_in_the_first_step(way):
    depth, spread, bias = 6, 0.15, -1.0
    pixels, labels = _depth.data()
    first, kernels, gates, head = _depth.weights(way, depth)
    body = []
    for number in range(1, depth + 1):
        width = _depth.GROWTH if way == "dense" else _depth.WIDTH
        layer = keras.layers.Dense(width, "tanh", name=f"layer_{number}")
        body.append(WRAP[way](layer, f"layer_{number}", bias))
    start = keras.layers.Dense(_depth.WIDTH, "tanh", use_bias=False, name="first")
    end = keras.layers.Dense(_depth.CLASSES, use_bias=False, name="head")
    model = keras.Sequential([keras.Input((64,)), start, *body, end])
    start.set_weights([first])
    end.set_weights([head])
    for block, kernel, gate in zip(body, kernels, gates, strict=True):
        layer = block if way == "plain" else block.layer
        layer.set_weights([spread * kernel, np.zeros(kernel.shape[1])])
        if way == "highway":
            block.gate.set_weights([spread * gate, np.full(kernel.shape[1], bias)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), **EAGER)
    recorder = rnnkit.GradientRecorder()
    model.fit(pixels, labels, batch_size=len(pixels), verbose=0, callbacks=[recorder])
    recorded = [recorder.history[f"layer_{number}/bias"][0] for number in range(1, depth + 1)]
    measured = _depth.measure(depth, spread, bias, way if way != "plain" else "residual")
    np.testing.assert_allclose(measured.norms[way], recorded, rtol=1e-3)


@pytest.mark.parametrize(("shown", "drawn"), [("all three", list(_depth.WAYS)), ("dense", ["plain", "dense"])])
def test_plain_is_there_to_compare_with(shown, drawn):
    assert list(_depth.measure(3, 0.1, -2.0, shown).norms) == drawn


# --- what is drawn and said -----------------------------------------------------------------------------------


def test_the_flow_is_drawn_relative_to_its_last_step():
    flow = _flow.measure(0.9, 50, "tanh", "Gaussian")
    lines = drawn(_flow.draw, flow)
    by_loss, by_state, alone = (y for _, y in list(lines.values())[:3])
    np.testing.assert_allclose(by_loss, flow.gradient / flow.gradient[-1])
    np.testing.assert_allclose(by_state, flow.stretch)
    np.testing.assert_allclose(alone, 0.9 ** np.arange(49, -1, -1))


def test_the_memory_is_drawn_with_its_prediction_and_its_half_life():
    memory = _gates.measure("GRU", 2.0, 20, 1.0)
    ax = _gates.draw(Figure().add_subplot(), memory)
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_array_equal(lines["its own content"], memory.own)
    np.testing.assert_array_equal(lines["by all roads"], memory.all_roads)
    np.testing.assert_array_equal(lines["σ(bias)ⁿ"], memory.predicted)
    assert [text.get_text() for text in ax.texts] == ["half-life 5.5 steps"]
    assert _gates.draw(Figure().add_subplot(), memory._replace(bias=6.0)).texts[:] == []  # it lies outside


def test_the_descents_are_drawn_on_the_map():
    descents = _cliff.measure(4.9, -2.2, 0.1, 0.5, 60)
    lines = drawn(_cliff.draw, descents)
    np.testing.assert_array_equal(np.transpose(lines["plain (dots)"]), descents.plain[:, :2])
    np.testing.assert_array_equal(np.transpose(lines["clipped (crosses)"]), descents.clipped[:, :2])


def test_the_depth_is_drawn_from_layer_one():
    depth = _depth.measure(7, 0.1, -2.0, "highway")
    lines = drawn(_depth.draw, depth)
    for way in ("plain", "highway"):
        np.testing.assert_array_equal(lines[way][0], np.arange(1, 8))
        np.testing.assert_array_equal(lines[way][1], depth.norms[way])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((0.9, 100, "tanh", "orthogonal"), "The gradient vanishes: 99 steps back it is about 10⁻"),
        ((1.0, 100, "linear", "orthogonal"), "The gradient keeps its size: 99 steps back it is 1 of what it was"),
        (
            (1.5, 50, "linear", "orthogonal"),
            "The gradient explodes: 49 steps back it is about 10⁹ of what it was, 1.50",
        ),
    ],
)
def test_the_flow_says_what_happens(settings, said):
    assert said in _flow.words(_flow.measure(*settings))[1]


def test_the_cliff_says_how_the_descents_end():
    thrown, gentle = (_cliff.words(_cliff.measure(4.9, -2.2, 0.1, 0.5, steps)) for steps in (60, 2))
    assert re.search(
        r"plain one, dots, ends at w 5[^,]*, b -1[^,]*, loss .*; the clipped one, crosses, ends at w 4", thrown[0]
    )
    assert re.search(r"\d\d times the median step; clipped at 0.5, it is 0.05\.", thrown[1])
    far, *_ = _cliff.words(_cliff.measure(4.9, -2.2, 0.5, 0.5, 60))
    assert re.search(r"plain one, dots, ends .*, outside the map, loss .*; the clipped one", far)
    assert "times the median step" not in gentle[1]


@pytest.mark.parametrize("name", NAMES)
def test_wherever_the_sliders_stand_there_is_a_picture_and_words(name):
    """In every corner: nothing overflows (warnings are errors), no number is missing, and the words can be read."""
    explorer, _ = STARTS[name]
    for corner in itertools.product(*map(ends, explorer.controls.values())):
        measured = explorer.measure(**dict(zip(explorer.controls, corner, strict=True)))
        for said in explorer.words(measured):
            assert not re.search(r"\b(nan|inf|None|e[-+]\d\d)\b", said), (corner, said)
        arrays = measured.norms.values() if name == "depth" else [a for a in measured if isinstance(a, np.ndarray)]
        assert all(np.isfinite(array).all() for array in arrays), corner
    figure, *_ = _panel.picture(explorer, dict(zip(explorer.controls, corner, strict=True)))
    figure.draw_without_rendering()


@pytest.mark.parametrize("name", NAMES)
def test_every_control_changes_picture_and_words(name):
    explorer, start = STARTS[name]
    before = _panel._page(explorer, start)
    for control in explorer.controls:
        places = [value for value in ends(explorer.controls[control]) if value != start[control]]
        pages = [_panel._page(explorer, {**start, control: value}) for value in places]
        assert any(alt_of(page) != alt_of(before) for page in pages), control
        assert any(source_of(page) != source_of(before) for page in pages), control


def alt_of(page):
    return html.unescape(re.search(r'<img alt="(.*?)" src', page)[1]) + caption_of(page)


def caption_of(page):
    return html.unescape(re.search(r"<figcaption.*?>(.*)</figcaption>", page)[1])


def source_of(page):
    return re.search(r'src="data:image/png;base64,(.*?)"', page)[1]


# --- sliders, and what stands in their place ------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_outside_a_notebook_the_words_are_printed(name, capsys):
    explorer, start = STARTS[name]
    getattr(explore, name)()
    said = capsys.readouterr().out
    alt, sentence = explorer.words(explorer.measure(**start))
    assert said.startswith(f"{alt}\n{sentence} Made with the settings ")
    assert "Run this cell in JupyterLab" in said


@pytest.mark.parametrize("missing", ["ipywidgets", "a reader"])
def test_where_nobody_can_move_them_the_picture_stands_alone(missing, monkeypatch):
    shown = []
    monkeypatch.setattr(_panel.plot, "show", lambda figure, alt, caption: shown.append((figure, alt, caption)))
    monkeypatch.setattr(_display, "in_a_notebook", lambda: missing != "a reader")
    if missing == "ipywidgets":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    explore.gates(bias=2.0)
    ((figure, alt, caption),) = shown
    assert len(figure.axes) == 1
    assert "bias of the gate that keeps 2.0" in caption
    assert "an LSTM" in alt


@pytest.fixture
def ipywidgets():
    return pytest.importorskip("ipywidgets", reason="the sliders need ipywidgets: pip install rnnkit[course]")


@pytest.mark.parametrize("name", NAMES)
def test_moving_a_control_redraws(name, ipywidgets):
    explorer, start = STARTS[name]
    *controls, shown = _panel.widget(explorer, start).children
    assert [control.description for control in controls] == [c.label for c in explorer.controls.values()]
    assert [control.value for control in controls] == pytest.approx(list(start.values()))
    assert shown.value == _panel._page(explorer, start)
    for control, (key, place) in zip(controls, explorer.controls.items(), strict=True):
        control.value = next(value for value in ends(place) if value != start[key])
        now = {name: control.value for name, control in zip(explorer.controls, controls, strict=True)}
        assert shown.value == _panel._page(explorer, now)


def test_a_notebook_gets_the_panel_and_keeps_the_picture(ipywidgets, monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(_display, "in_a_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    explore.cliff(steps=10)
    (data,) = shown
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "Two descents of 10 steps" in data["text/plain"]
    assert "Two descents of 10 steps" in alt_of(data["text/html"])


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("gradient_flow", {"radius": 3}, "`radius` must be a number from 0.2 to 2.0. Received: radius=3"),
        ("gradient_flow", {"length": 20.5}, "`length` must be a whole number from 10 to 200. Received: length=20.5"),
        ("gradient_flow", {"kernel": "random"}, "`kernel` must be one of ['orthogonal', "),
        ("gates", {"bias": True}, "Received: bias=True"),
        ("cliff", {"rate": float("nan")}, "Received: rate=nan"),
        ("depth", {"depth": 1}, "`depth` must be a whole number from 2 to 60. Received: depth=1. Try depth=2."),
    ],
)
def test_a_setting_that_no_slider_has_is_refused(name, wrong, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        getattr(explore, name)(**wrong)


def test_no_figure_stays_open():
    for explorer, start in STARTS.values():
        _panel._page(explorer, start)
    assert plt.get_fignums() == []
