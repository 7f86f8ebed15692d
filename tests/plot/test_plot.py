"""Figures say what the numbers say; their fingerprint changes with the numbers and with nothing else."""

import base64
import io
import re
import subprocess
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image

from rnnkit import plot
from rnnkit.plot._curves import dark_shade


@pytest.fixture(autouse=True)
def _figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def curves(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines}


def words(ax):
    return [text.get_text() for text in ax.texts]


def marks(ax, words):
    (line,) = (line for line in ax.lines if line.get_label().endswith(words))
    assert line.get_marker() == "x"
    return list(line.get_xdata())


class TestGradientNorms:
    def test_draws_every_weight_on_a_log_axis(self):
        ax = plot.gradient_norms({"rnn/kernel": [1.0, 0.5], "head/kernel": [2.0, 3.0]})
        assert ax.get_yscale() == "log"
        np.testing.assert_array_equal(curves(ax)["head/kernel"], [2, 3])
        assert sorted(words(ax)) == ["head/kernel", "rnn/kernel"]
        assert ax.get_legend() is None

    def test_names_that_would_crowd_go_into_a_legend_in_the_order_of_the_ends(self):
        ax = plot.gradient_norms({f"layer_{n}/kernel": [1e6, 1 + 0.001 * n] for n in range(12)})
        assert [text.get_text() for text in ax.get_legend().get_texts()][::11] == ["layer_11/kernel", "layer_0/kernel"]
        assert not words(ax)

    def test_takes_a_recording_its_steps_and_its_clipped_norms(self):
        recording = SimpleNamespace(steps=[0, 2], history={"a/b": [4.0, 5.0]}, clipped={"a/b": [1.0, 1.0]})
        given = plt.subplots()[1]
        assert plot.gradient_norms(recording, ax=given) is given
        np.testing.assert_array_equal(given.lines[0].get_xdata(), [0, 2])
        np.testing.assert_array_equal(curves(plot.gradient_norms(recording, clipped=True))["a/b"], [1, 1])

    def test_what_a_log_axis_cannot_hold_is_a_gap_and_a_mark(self):
        ax = plot.gradient_norms({"a": [1.0, 0.0, 2.0, np.inf, 3.0, np.nan, 4.0, 5.0]})
        np.testing.assert_array_equal(curves(ax)["a"], [1, np.nan, 2, np.nan, 3, np.nan, 4, 5])
        assert marks(ax, "exactly 0") == [1]
        assert marks(ax, "inf or NaN") == [3, 5]
        assert {"a: exactly 0", "a: inf or NaN"} < set(words(ax))
        assert ax.lines[0].get_markevery() == [0, 2, 4]  # points without a neighbour, which no line would show
        assert all(1 <= tick <= 5 for tick in ax.get_yticks())

    def test_nothing_but_zeros_still_says_so(self):
        ax = plot.gradient_norms({"a": [0.0, 0.0]})
        assert marks(ax, "exactly 0") == [0, 1]
        assert words(ax) == ["exactly 0", "a"]

    def test_many_steps_are_drawn_each_and_smoothed(self):
        norms = np.exp(np.random.default_rng(0).normal(size=400))
        norms[50] = 0
        ax = plot.gradient_norms({"a": norms})
        np.testing.assert_array_equal(np.nan_to_num(curves(ax)["_a: all"]), norms)
        assert np.isnan(curves(ax)["a"][50])
        for step, window in (0, norms[:11]), (200, norms[190:211]), (399, norms[389:]):
            assert curves(ax)["a"][step] == np.median(window)
        assert ax.texts[-1].xy == (399, np.median(norms[389:]))  # the name stands at the end of the smooth line

    def test_of_a_very_long_run_the_smooth_line_has_no_more_points_than_can_be_seen(self):
        norms = np.exp(np.random.default_rng(0).normal(size=30_001))
        norms[[700, 30_000]] = np.nan, 0
        ax = plot.gradient_norms({"a": norms})
        (line,) = (line for line in ax.lines if line.get_label() == "a")
        steps, smooth = line.get_data()
        assert len(steps) <= 1001
        assert steps[0] == 0
        for step in steps[[0, 20, 500, -2]]:
            window = norms[max(0, step - 750) : step + 751]
            assert smooth[steps == step] == np.median(window[window > 0])
        assert ax.texts[-1].xy[0] == 30_000  # beside the mark of the zero

    def test_a_long_run_that_ends_in_nan_is_named_beside_its_marks(self):
        ax = plot.gradient_norms({"a": [1.0] * 300 + [np.nan] * 5})
        assert marks(ax, "inf or NaN") == list(range(300, 305))
        (name,) = (text for text in ax.texts if text.get_text() == "a")
        assert name.xy[0] == 304
        assert 0.9 < name.xy[1] < 1

    def test_names_beside_the_axes_are_on_the_page(self):
        ax = plot.gradient_norms({"a_layer_with_a_very_long_name/recurrent_kernel": [1.0, 0.5]})
        ax.figure.draw_without_rendering()
        assert ax.texts[0].get_window_extent().x1 <= ax.figure.bbox.x1

    def test_one_name_and_clipping_of_a_dict(self):
        assert list(curves(plot.gradient_norms({"a": [1.0], "b": [1.0]}, weights="b"))) == ["b"]
        with pytest.raises(ValueError, match="clipped=True and a dict"):
            plot.gradient_norms({"a": [1.0]}, clipped=True)

    def test_unknown_weight_and_empty_recording(self):
        with pytest.raises(ValueError, match=r"weight must be one of \['rnn/kernel'\].*Did you mean 'rnn/kernel'"):
            plot.gradient_norms({"rnn/kernel": [1.0]}, weights=["rnn/kernl"])
        for nothing in ({}, {"a": []}):
            with pytest.raises(ValueError, match="after fit has run"):
                plot.gradient_norms(nothing)


class TestLossSurface:
    across, up = np.linspace(-1, 1, 20), np.linspace(-2, 2, 30)
    loss = across**2 + up[:, None] ** 2
    path = ((0.5, 1, 1.25), (0.1, 0.5, 0.26), (3, 0, 9))

    def test_from_above_is_a_map_with_the_paths_in_the_plane(self):
        ax = plot.loss_surface(self.across, self.up, self.loss, paths={"plain": self.path, "clipped": self.path[:1]})
        np.testing.assert_array_equal(curves(ax)["plain"], [1, 0.5, 0])
        assert (ax.get_xlim(), ax.get_ylim()) == ((-1, 1), (-2, 2))  # a jump off the map does not shrink it
        filled = [collection for collection in ax.collections if collection.get_array() is not None]
        assert filled[0].get_array().max() == pytest.approx(5, rel=0.05)

    def test_in_three_dimensions_paths_lie_at_their_loss_and_end_at_the_border(self):
        ax = plt.figure().add_subplot(projection="3d")
        assert (
            plot.loss_surface(
                self.across, self.up, self.loss, ax=ax, paths={"plain": self.path, "clipped": self.path[:1]}
            )
            is ax
        )
        (line,) = (line for line in ax.lines if line.get_label() == "plain")
        np.testing.assert_array_equal(line.get_data_3d(), np.array([[0.5, 1, 1.25], [0.1, 0.5, 0.26], [np.nan] * 3]).T)
        assert ax.get_zlabel() == "loss $L$"

    def test_the_first_weight_lies_across(self):
        loss = np.zeros((30, 20))
        loss[25:, :] = 1  # far up: the second weight is large
        ax = plot.loss_surface(self.across, self.up, loss)
        (filled,) = (collection for collection in ax.collections if collection.get_array() is not None)
        high = filled.get_paths()[-1].vertices
        assert high[:, 1].min() > 1
        assert (high[:, 0].min(), high[:, 0].max()) == (-1, 1)

    def test_without_paths_nothing_is_drawn_on_it(self):
        assert not plot.loss_surface(self.across, self.up, self.loss).lines

    def test_what_cannot_be_drawn_is_refused(self):
        for loss in self.loss.T, self.loss[0], np.where(self.loss > 4, np.inf, self.loss):
            with pytest.raises(ValueError, match=r"finite loss of shape \(rows, columns\)"):
                plot.loss_surface(self.across, self.up, loss)
        for path in np.zeros(3), np.zeros((4, 2)), np.zeros((0, 3)):
            with pytest.raises(ValueError, match=r"'plain', shape .* array \(points, 3\)"):
                plot.loss_surface(self.across, self.up, self.loss, paths={"plain": path})


class TestGradientFlow:
    def test_is_the_mean_over_the_batch_of_the_norm_over_the_units(self):
        gradients = np.random.default_rng(0).normal(size=(5, 7, 3))
        expected = [np.mean([np.sqrt((gradients[b, t] ** 2).sum()) for b in range(5)]) for t in range(7)]
        np.testing.assert_allclose(curves(plot.gradient_flow({"a": gradients}))["a"], expected)

    def test_small_float32_gradients_do_not_vanish_in_the_drawing(self):
        gradients = np.full((1, 2, 2), 1e-30, "float32")
        np.testing.assert_allclose(curves(plot.gradient_flow({"a": gradients}))["a"], np.sqrt(2) * 1e-30, rtol=1e-6)

    def test_exact_zeros_are_marked_and_named(self):
        ax = plot.gradient_flow({"dead": [0.0, 0.0, 1.0], "alive": [1.0, 1.0, 1.0]})
        assert sorted(words(ax)) == ["alive", "dead", "exactly 0"]
        assert marks(ax, "_dead: exactly 0") == [0, 1]

    def test_the_row_of_zeros_lies_below_the_smallest_float32(self):
        norms = np.geomspace(1e-60, 1, 61).astype("float32")
        ax = plot.gradient_flow({"a": norms})
        assert marks(ax, "exactly 0") == list(range(15))  # 1e-46 is nothing in float32
        low, high = np.log10(ax.get_ylim())
        (row,) = {y for line in ax.lines if "exactly" in line.get_label() for y in line.get_ydata()}
        assert low + row * (high - low) < -45.5 < low + 0.15 * (high - low)
        assert min(ax.get_yticks()) > 1e-46

    def test_an_overflow_is_marked_on_top(self):
        ax = plot.gradient_flow({"a": [np.inf, 1e30, 1.0], "b": [1.0, 1.0, 1.0]})
        assert marks(ax, "inf or NaN") == [0]

    @pytest.mark.parametrize(("end", "axis"), [(0, "right"), (-1, "left")])
    def test_names_stand_where_the_curves_part_and_the_axis_on_the_other_side(self, end, axis):
        rising, level = np.array([1e-3, 1e-2, 1.0]), np.ones(3)
        ax = plot.gradient_flow({"a": rising if end == 0 else rising[::-1], "b": level})
        assert {text.get_text(): text.xy for text in ax.texts} == {"a": ([0, 2][end], 1e-3), "b": ([0, 2][end], 1)}
        assert ax.yaxis.get_label_position() == axis
        assert ax.spines[axis].get_visible()

    def test_names_keep_apart_and_in_order(self):
        ends = {"a": 1.0, "b": 1.05, "c": 1.1, "d": 1e-6}
        ax = plot.gradient_flow({label: [end, 1.0] for label, end in ends.items()})
        ax.figure.draw_without_rendering()
        boxes = {text.get_text(): text.get_window_extent() for text in ax.texts}
        drawn = {label: text.get_bbox_patch() for label, text in zip(boxes, ax.texts, strict=True)}
        assert set(drawn.values()) == {None}
        middles = {label: (box.y0 + box.y1) / 2 for label, box in boxes.items()}
        assert sorted(middles, key=middles.get) == ["d", "a", "b", "c"]

    @pytest.mark.parametrize("bad", [np.ones((2, 3)), [], [1.0, np.nan]])
    def test_what_is_no_flow_is_refused(self, bad):
        with pytest.raises(
            ValueError, match=r"gradients \(batch, time, units\) or norms \(time,\).*'a'.*state_gradients"
        ):
            plot.gradient_flow({"a": bad})
        for nothing in ({}, np.ones(3)):
            with pytest.raises(ValueError, match="at least one array"):
                plot.gradient_flow(nothing)


class TestSingularValues:
    def test_runs_over_the_distance_with_the_largest_on_top(self):
        values = np.array([[4.0, 1.0], [9.0, 3.0], [1.0, 1.0]])
        ax = plot.singular_values(values[None], rate=2)
        np.testing.assert_array_equal(curves(ax)["largest"], [1, 9, 4])
        np.testing.assert_array_equal(curves(ax)[r"predicted, $2^{\,T-t}$"], [1, 2, 4])

    def test_of_a_batch_the_median_is_drawn(self):
        batch = np.array([1.0, 5.0, 2.0])[:, None, None] * np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
        ax = plot.singular_values(batch, label="x")
        np.testing.assert_array_equal(curves(ax)["x: largest"], [2, 6])
        np.testing.assert_array_equal(curves(ax)["x: median"], [2, 4])

    def test_the_band_ends_at_the_smallest_or_where_float64_does(self):
        ax = plot.singular_values([[1.0, 0.5, 0.0], [1.0, 0.5, 0.25]])
        assert sorted({y for x, y in ax.collections[0].get_paths()[0].vertices}) == pytest.approx([1e-14, 0.25, 1])

    @pytest.mark.parametrize("bad", [np.ones(3), np.ones((0, 2)), np.full((2, 2), np.nan)])
    def test_what_are_no_singular_values_is_refused(self, bad):
        with pytest.raises(ValueError, match=r"\(batch, time, units\).*Received: shape \("):
            plot.singular_values(bad)
        with pytest.raises(ValueError, match=r"positive factor.*\[0\.9, 0\]"):
            plot.singular_values(np.ones((2, 2)), rate=[0.9, 0])


class TestFlowOverTraining:
    def test_maps_the_logarithm_and_leaves_zeros_out(self):
        ax = plot.flow_over_training([[1.0, 0.1], [0.0, 10.0]], steps=[0, 50])
        drawn = ax.collections[0].get_array()
        np.testing.assert_allclose(np.ma.filled(drawn, -99).reshape(2, 2), [[0, -1], [-99, 1]])

        (legend,) = ax.get_legend().get_texts()
        assert legend.get_text() == "exactly 0"
        assert plot.flow_over_training([[1.0, 0.1]]).get_legend() is None

    def test_takes_a_recorder_of_one_layer(self):
        recorder = SimpleNamespace(history={"rnn": np.ones((2, 3))}, steps=[0, 50])
        assert plot.flow_over_training(recorder).get_ylim() == (-25, 75)
        recorder.history["other"] = recorder.history["rnn"]
        with pytest.raises(ValueError, match=r"one layer.*\['rnn', 'other'\].*flow.history\[name\]"):
            plot.flow_over_training(recorder)

    @pytest.mark.parametrize("bad", [np.ones((2, 2)), np.ones(3), np.ones((0, 2)), np.full((3, 1), np.nan), 1.0])
    def test_what_is_no_flow_over_training_is_refused(self, bad):
        with pytest.raises(ValueError, match=r"finite array \(records, time\).*Received: shape .*\(3,\)"):
            plot.flow_over_training(bad, steps=[1, 2, 3])


class TestGates:
    forget = np.random.default_rng(0).uniform(0, 1, (4, 6, 5))

    def band(self, ax, place=0):
        """Lower and upper edge of a band at each step."""
        edges = {}
        for x, y in ax.collections[place].get_paths()[0].vertices:
            edges.setdefault(float(x), []).append(y)
        return [[cut(edges[x]) for x in sorted(edges)] for cut in (min, max)]

    def test_draws_the_mean_and_a_band_over_batch_and_units(self):
        ax = plot.gates({"input": self.forget / 2, "forget": self.forget, "candidate": self.forget - 1})
        assert list(curves(ax)) == ["input", "forget"]
        np.testing.assert_allclose(curves(ax)["forget"], self.forget.mean(axis=(0, 2)))
        np.testing.assert_allclose(self.band(ax, 1), np.quantile(self.forget, [0.1, 0.9], axis=(0, 2)))
        assert sorted(words(ax)) == ["forget", "input"]
        assert ax.get_ylim() == (-0.02, 1.02)
        assert ax.get_xlabel() == "time step $t$"

    def test_names_choose_and_the_candidate_has_room(self):
        ax = plot.gates({"reset": self.forget, "candidate": 2 * self.forget - 1}, names="candidate")
        assert list(curves(ax)) == ["candidate"]
        assert ax.get_ylim()[0] < curves(ax)["candidate"].min() - 0.1

    def test_masked_steps_are_gaps_and_do_not_count(self):
        padded = self.forget.copy()
        padded[0, 2:] = np.nan
        padded[:, 5] = np.nan
        ax = plot.gates({"forget": padded})
        expected = [*self.forget[:, :2].mean(axis=(0, 2)), *self.forget[1:, 2:5].mean(axis=(0, 2)), np.nan]
        np.testing.assert_allclose(curves(ax)["forget"], expected)
        assert ax.texts[0].xy == pytest.approx((4, expected[4]))

    def test_a_single_step_is_seen(self):
        assert plot.gates({"forget": self.forget[:, :1]}).lines[0].get_marker() == "o"

    def test_takes_a_recorder_and_draws_over_the_training(self):
        history = np.array([[0.2, 0.4, np.nan], [0.5, 0.9, np.nan]])
        recorder = SimpleNamespace(
            history={"rnn": {"forget": history}},
            spread={"rnn": {"forget": np.stack([history - 0.1, history + 0.1])}},
            steps=[0, 50],
        )
        given = plt.subplots()[1]
        ax = plot.gates(recorder, ax=given)
        assert ax is given
        np.testing.assert_allclose(ax.lines[0].get_data(), [[0, 50], [0.3, 0.7]])
        np.testing.assert_allclose(self.band(ax), [[0.2, 0.6], [0.4, 0.8]])
        assert ax.get_xlabel() == "training step"

    def test_one_layer_of_several(self):
        of_two = {"lower": {"forget": self.forget}, "upper": {"update": self.forget}}
        assert list(curves(plot.gates(of_two, layer="upper"))) == ["update"]
        assert list(curves(plot.gates({"upper": of_two["upper"]}))) == ["update"]
        with pytest.raises(ValueError, match=r"one layer.*\['lower', 'upper'\].*layer="):
            plot.gates(of_two)
        with pytest.raises(ValueError, match=r"layer must be one of.*Received: 'uper'. Did you mean 'upper'"):
            plot.gates(of_two, layer="uper")

    def test_what_are_no_gates_is_refused(self):
        for bad in (np.ones((2, 3)), np.ones((0, 2, 3)), np.full((1, 1, 1), np.inf)):
            with pytest.raises(ValueError, match=r"\(batch, time, units\).*Received: 'forget', shape .*probes.gates"):
                plot.gates({"forget": bad})
        diverged = SimpleNamespace(
            history={"rnn": {"forget": np.full((2, 3), np.nan)}},
            spread={"rnn": {"forget": np.full((2, 2, 3), np.nan)}},
            steps=[0, 1],
        )
        for nan in ({"forget": np.full((1, 2, 3), np.nan)}, diverged):
            with pytest.raises(ValueError, match="'forget', NaN at every step"):
                plot.gates(nan)
        with pytest.raises(ValueError, match=r"gate must be one of \['forget'\]. Received: 'forgt'"):
            plot.gates({"forget": self.forget}, names="forgt")
        for nothing in ({}, SimpleNamespace(history={}, steps=[]), self.forget):
            with pytest.raises(ValueError, match="gates of one layer"):
                plot.gates(nothing)


# --- the fingerprint ---------------------------------------------------------------------------------------------


INDEX = np.arange(40)
SMOOTH = 3 + np.sin(INDEX / 8)
NOISY = SMOOTH + np.random.default_rng(0).normal(size=40)
ARTISTS = {
    "line": lambda ax, y, **style: ax.plot(y, **style),
    "log line": lambda ax, y, **style: ax.semilogy(1000.0**y, **style),
    "line with x": lambda ax, y, **style: ax.plot(y, INDEX, **style),
    "scatter": lambda ax, y, **style: ax.scatter(INDEX, y, **style),
    "coloured scatter": lambda ax, y, **style: ax.scatter(INDEX, INDEX, c=y),
    "bars": lambda ax, y, **style: ax.bar(INDEX, y, **style),
    "lying bars": lambda ax, y, **style: ax.barh(INDEX, y, **style),
    "histogram": lambda ax, y, **style: ax.stairs(y, **style),
    "band": lambda ax, y, **style: ax.fill_between(INDEX, y, **style),
    "error bars": lambda ax, y, **style: ax.errorbar(INDEX, 0 * INDEX, yerr=y, **style),
    "arrows": lambda ax, y, **style: ax.quiver(INDEX, INDEX, y, INDEX, **style),
    "surface": lambda ax, y, **style: ax.figure.add_subplot(projection="3d").plot_surface(
        *np.meshgrid(range(8), range(5)), y.reshape(5, 8)
    ),
    "image": lambda ax, y, **style: ax.imshow(y.reshape(5, 8)),
    "mesh": lambda ax, y, **style: ax.pcolormesh(y.reshape(5, 8)),
    "second axis": lambda ax, y, **style: ax.twinx().plot(y, **style),
    "other axes": lambda ax, y, **style: ax.figure.add_axes((0, 0, 0.1, 0.1)).plot(y, **style),
}


def drawn(artist, y, **style):
    ax = plt.subplots()[1]
    ARTISTS[artist](ax, y, **style)
    return plot.fingerprint(ax.figure)


@pytest.mark.parametrize("place", [0, 17, 39])
@pytest.mark.parametrize("artist", ARTISTS)
def test_a_changed_number_changes_the_fingerprint(artist, place):
    for numbers, change in (SMOOTH, 0.1), (NOISY, 1.5):  # the curves are 2 and 5 high
        changed = numbers.copy()
        changed[place] += change
        assert drawn(artist, changed) != drawn(artist, numbers)


@pytest.mark.parametrize("artist", ARTISTS)
def test_the_order_of_the_numbers_counts(artist):
    swapped = SMOOTH.copy()
    swapped[[10, 20]] = swapped[[20, 10]]
    assert drawn(artist, swapped) != drawn(artist, SMOOTH)


@pytest.mark.parametrize("artist", ARTISTS)
def test_looks_and_rounding_errors_do_not_count(artist):
    assert drawn(artist, SMOOTH, color="red", linewidth=3) == drawn(artist, SMOOTH * (1 + 1e-7), color="blue")


def test_a_straight_line_does_not_bend_by_its_rounding_errors():
    assert "path=1 bend=0\n" in drawn("line", 0.1 * np.arange(40) + 1e-9 * NOISY) + "\n"
    assert "bend" not in drawn("line", 1 + 1e-6 * NOISY).splitlines()[-1]


def test_on_a_log_axis_small_numbers_count_as_large_ones_do():
    numbers = np.geomspace(1e-8, 1, 40)
    prints = []
    for factor in (1, 100):
        changed = numbers.copy()
        changed[5] *= factor
        ax = plot.gradient_flow({"a": changed})
        prints.append(plot.fingerprint(ax.figure))
    assert prints[0] != prints[1]


def test_words_count_too():
    def fingerprint(setting, words):
        figure, ax = plt.subplots()
        {
            "title": ax.set_title,
            "x": ax.set_xlabel,
            "y": ax.set_ylabel,
            "figure": figure.suptitle,
            "note": lambda words: ax.text(0, 0, words),
            "line": lambda words: ax.plot([1], [1], label=words),
            "bar": lambda words: ax.bar([words], [1]),
            "tick": lambda words: ax.set_xticks([0], [words]),
        }[setting](words)
        return plot.fingerprint(figure)

    for setting in ("title", "x", "y", "figure", "note", "line", "bar", "tick"):
        assert fingerprint(setting, "a") != fingerprint(setting, "b"), setting


def test_a_log_scale_counts():
    linear, log = plt.subplots()[1], plt.subplots()[1]
    for ax in (linear, log):
        ax.plot([1, 2])
    log.set_yscale("log")
    assert plot.fingerprint(linear.figure) != plot.fingerprint(log.figure)


def test_missing_numbers_are_counted_and_nothing_at_all_is_said():
    assert "n=3 missing=1" in drawn("line", np.array([1.0, np.nan, 2.0]))
    assert "n=2 missing=2" in drawn("line", np.array([np.nan, np.nan]))
    assert "n=0" in drawn("line", np.array([]))


def test_the_numbers_of_a_trained_figure_stand_behind_a_sign_for_about():
    ax = plot.gradient_norms({"rnn/kernel": [1.0, 0.5, 0.7]})
    exact, about = (plot.fingerprint(ax.figure, about=about).splitlines() for about in (False, True))
    assert [line for line in about if "≈" not in line] == [line for line in exact if " n=" not in line]
    assert [line.replace("≈ ", "") for line in about] == exact


def test_so_do_words_in_a_trained_figure_that_hold_a_number():
    ax = plt.subplots()[1]
    for words in ("4/5", "LSTM", "10/15", "a word"):
        ax.text(0, 0, words)
    exact, about = (plot.fingerprint(ax.figure, about=about).splitlines()[2:] for about in (False, True))
    assert exact == ["  text '10/15'", "  text '4/5'", "  text 'LSTM'", "  text 'a word'"]
    assert about == ["  text 'LSTM'", "  text 'a word'", "  text ≈ '10/15'", "  text ≈ '4/5'"]


# --- in a notebook -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown():
    """A notebook that shows one figure, executed."""
    source = (
        "import matplotlib.pyplot as plt\nfrom rnnkit import plot\nplt.style.use('rnnkit.course')\n"
        "ax = plot.gradient_norms({'a': [1, 2]})\n"
        "plot.show(ax, alt='A line that rises <steeply> from 1 to 2.', caption='It rises & rises.')"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    return NotebookClient(notebook, kernel_name="python3").execute()


def test_a_figure_is_shown_once_with_alt_text_caption_and_fingerprint(shown):
    (output,) = shown.cells[0].outputs
    assert set(output.data) == {"text/html", "image/png", "text/plain"}
    assert 'alt="A line that rises &lt;steeply&gt; from 1 to 2."' in output.data["text/html"]
    assert "<figcaption>It rises &amp; rises.</figcaption>" in output.data["text/html"]
    assert "min=1 max=2" in output.data["text/plain"]
    assert output.data["text/plain"].startswith("A line that rises <steeply> from 1 to 2.\nIt rises & rises.\nfigure")
    with Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))) as picture:
        assert picture.size == (1036, 604)  # finer than it is shown
    assert f"base64,{output.data['image/png'].strip()}" in output.data["text/html"]
    assert 'width="720"' in output.data["text/html"]
    assert output.metadata["image/png"]["width"] == 720


def test_an_exported_page_has_one_picture_with_its_alt_text(shown):
    page, _ = HTMLExporter().from_notebook_node(shown)
    pictures = re.findall(r"<img[^>]*?alt=\"([^\"]*)\"", page)
    assert pictures == ["A line that rises &lt;steeply&gt; from 1 to 2."]


def test_outside_a_notebook_the_words_are_printed(capsys):
    plot.show(plt.figure(), alt="Nothing at all is drawn.", caption="So be it.")
    assert capsys.readouterr().out == "Nothing at all is drawn.\nSo be it.\n"
    assert not plt.get_fignums()


@pytest.mark.parametrize("alt", ["", "  ", None])
def test_a_figure_without_alt_text_is_refused(alt):
    with pytest.raises(ValueError, match="alt text says in a sentence what it shows"):
        plot.show(plt.figure(), alt=alt)


def test_the_style_tells_lines_apart_in_grey_and_needs_no_keras():
    code = (
        "import sys, matplotlib.pyplot as plt; plt.style.use('rnnkit.course');"
        "cycle = plt.rcParams['axes.prop_cycle'].by_key();"
        "looks = [*zip(cycle['color'], map(str, cycle['linestyle']))];"
        "assert len({style for _, style in looks[:7]}) == 7, 'the first seven have a line style each';"
        "assert len(set(looks)) == len(looks) == 14, 'fourteen lines, no two alike';"
        "assert 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_words_in_the_colour_of_their_line_can_be_read():
    with plt.style.context("rnnkit.course"):
        colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    for colour in colours:
        channels = np.array(dark_shade(colour))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5  # WCAG 2.2, 1.4.3: contrast with white
