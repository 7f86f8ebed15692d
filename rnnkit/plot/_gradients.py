"""Gradients and how far they carry: over training steps, over time steps, and over both."""

import itertools

import numpy as np
from matplotlib.patches import Patch

from rnnkit._names import unknown_name
from rnnkit.plot._arrays import described, real_numbers
from rnnkit.plot._curves import axes_or_new, draw_curves, name_curves, positive

_STATE_GRADIENT = r"$\|\partial L\,/\,\partial h_t\|$"
_MANY = 100  # steps whose line is a smear, which needs a smooth one to be read
_SMOOTH = 1000  # points of that line at most, so that the time to draw it does not grow as the square of the steps


def gradient_norms(recording, ax=None, *, weights=None, clipped=False):
    """Draw the gradient norm of each weight against the training step, on a log axis.

    What has no place on a log axis is marked in rows of its own: exact zeros below the curves, inf and NaN above.
    Of more than 100 steps, a thin line shows each and a thick one the median of a moving window, a 20th of them; at
    1,000 places, if there are more.

    Args:
        recording: a `GradientRecorder`, what `rnnkit.load` returns, or a dict from name to norms (steps,).
        ax: matplotlib axes to draw on; new ones by default.
        weights: names of the weights to draw, or one name; all by default.
        clipped: whether to draw the norms after clipping.

    Returns:
        The axes.

    Raises:
        ValueError: if nothing was recorded, a name is unknown, or the norms after clipping are asked of a dict.

    Example:
        >>> ax = rnnkit.plot.gradient_norms({"rnn/kernel": [1.0, 0.5, 0.7]})
    """
    history = _norms_of(recording, clipped)
    names = list(history) if weights is None else [weights] if isinstance(weights, str) else list(weights)
    for name in names:
        if name not in history:
            raise ValueError(unknown_name("weight", name, history))
    ax = axes_or_new(ax)
    drawn = draw_curves(ax, {name: history[name] for name in names}, getattr(recording, "steps", None))
    for name, (line, end) in drawn.items():
        if len(history[name]) > _MANY:
            drawn[name] = line, _smooth(ax, name, line, end)
    ax.set_xlabel("training step")
    ax.set_ylabel("norm of the gradient" + (", clipped" if clipped else ""))
    name_curves(ax, drawn)
    return ax


def _norms_of(recording, clipped):
    """Return the norms of a recording, or of a dict, `{"layer/weight": array (steps,)}`."""
    if clipped and isinstance(recording, dict):
        raise ValueError(
            "Norms after clipping are drawn from a recording, which holds both. Received: clipped=True and a dict. "
            "Pass the recorder itself, or its dict `clipped` without clipped=True."
        )
    if not isinstance(recording, dict) and not hasattr(recording, "history"):
        raise ValueError(
            f"Gradient norms are drawn from a recording, or a dict of norms. Received: {recording!r}. "
            "Pass a GradientRecorder, what rnnkit.load returns, or {'layer/weight': norms}."
        )
    history = recording if isinstance(recording, dict) else recording.clipped if clipped else recording.history
    history = {name: real_numbers(norms, name) for name, norms in history.items()}
    if not history or not all(norms.ndim == 1 and len(norms) for norms in history.values()):
        shapes = {name: norms.shape for name, norms in history.items()}
        raise ValueError(
            f"Gradient norms are drawn from one number a step for each weight. Received: shapes {shapes}. "
            "Pass a GradientRecorder after fit has run."
        )
    return history


def _smooth(ax, name, line, anchor):
    """Draw a line thin, then have it show a running median; return where its end is now."""
    steps, norms = line.get_data()
    thin = {"color": line.get_color(), "linestyle": "-", "linewidth": 0.6, "alpha": 0.5, "zorder": 1.9}
    ax.plot(steps, norms, label=f"_{name}: all", **thin)
    end, y, where = anchor
    places = np.unique([*np.linspace(0, len(norms) - 1, _SMOOTH, dtype=int), *np.flatnonzero(steps == end)])
    places = places if len(norms) > _SMOOTH else np.arange(len(norms))
    median = _running_median(norms, places, len(norms) // 20)
    line.set_data(steps[places], median)
    return end, median[steps[places] == end][0] if where == "data" else y, where


def _running_median(values, places, width):
    """Return the median of the window round the values at some places, leaving gaps where they are."""
    padded = np.pad(values, width // 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width // 2 * 2 + 1)
    known = places[~np.isnan(values[places])]
    smooth = np.full(len(values), np.nan)
    for part in np.array_split(known, 1 + len(known) * width // 2**20):  # what is copied at once, is copied whole
        smooth[part] = np.nanmedian(windows[part], axis=1)
    return smooth[places]


def gradient_flow(gradients, ax=None):
    r"""Draw how much of the loss's gradient reaches each time step: $\|dL/dh_t\|$ against t, on a log axis.

    The curves are named at the end where they lie furthest apart. As a rule that is the first time step, for the
    gradient travels from the last to the first; the axis of the norms then stands on the right. A gradient that is
    exactly zero (in float32, anything under 1e-45) has no place on a log axis: such steps are marked in a row of
    their own below the curves, and those that overflowed to infinity above.

    Args:
        gradients: dict from label to an array: gradients (batch, time, units), whose norm over the units is averaged
            over the batch, or norms (time,) as they are.
        ax: matplotlib axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ValueError: if there is nothing to draw, an array has another shape, or one holds NaN.

    Example:
        >>> import numpy as np
        >>> ax = rnnkit.plot.gradient_flow({"shrinks by half": 0.5 ** np.arange(50)[::-1]})

    Source: after Pascanu, Mikolov & Bengio (2013), section 2.1.
    """
    if not isinstance(gradients, dict) or not gradients:
        received = "none" if isinstance(gradients, dict) else f"a {type(gradients).__name__}"
        raise ValueError(
            f"A gradient flow needs at least one array, by its label. Received: {received}. Pass {{'label': array}}."
        )
    curves = {label: _flow(label, values) for label, values in gradients.items()}
    ax = axes_or_new(ax)
    smallest = 5e-324  # where float64 ends: a zero lies further down than anything else
    first, last = (
        np.ptp([np.log10(np.clip(norms[end], smallest, 1e308)) for norms in curves.values()]) for end in (0, -1)
    )
    named_at = 0 if first >= last else -1
    drawn = draw_curves(ax, curves, named_at=named_at)
    ax.set_xlabel("time step $t$")
    ax.set_ylabel(_STATE_GRADIENT)
    if named_at == 0:
        ax.yaxis.set_label_position("right")
        ax.yaxis.tick_right()
        ax.spines["right"].set_visible(True)
        ax.spines["left"].set_visible(False)
    name_curves(ax, drawn, named_at)
    return ax


def _flow(label, values):
    values = real_numbers(values, label)  # in float32 the squares of small gradients would underflow
    if values.ndim not in (1, 3) or not values.size or np.isnan(values).any():
        raise ValueError(
            "A gradient flow is drawn from gradients (batch, time, units) or norms (time,), without NaN. "
            f"Received: {label!r}, {described(values)}. "
            "Pass for instance rnnkit.probes.state_gradients(model, x, y)['rnn']['h']."
        )
    return np.linalg.norm(values, axis=-1).mean(axis=0) if values.ndim == 3 else values


def singular_values(values, ax=None, *, rate=None, label=None):
    r"""Draw how far a change of a state carries: the singular values of dh_T/dh_t against the distance T - t.

    Args:
        values: array (batch, time, units) from `rnnkit.probes.singular_values`, of which the median over the batch is
            drawn, or (time, units) of one example.
        ax: matplotlib axes to draw on; new ones by default.
        rate: factor by which the largest is predicted to change each step back, or a list of them; drawn as dotted
            lines with circles.
        label: name of the curves; needed to tell several calls on one axes apart.

    Returns:
        The axes. The thick line is the largest, the thin one the median, and the band reaches down to the smallest.
        Median and band are drawn no lower than 1e-14 times the largest: values further apart would flatten the curve
        of the largest, which is the one to read.

    Raises:
        ValueError: if the array has another rank, is empty or holds NaN, or a rate is not positive.

    Example:
        >>> import numpy as np
        >>> ax = rnnkit.plot.singular_values(0.9 ** np.arange(50)[::-1, None] * np.ones((50, 4)), rate=0.9)
    """
    values = real_numbers(values)
    if values.ndim not in (2, 3) or not values.size or np.isnan(values).any():
        raise ValueError(
            "Singular values are drawn from an array (batch, time, units) or (time, units) without NaN. "
            f"Received: {described(values)}. Pass what rnnkit.probes.singular_values returned."
        )
    rates = np.atleast_1d(real_numbers([] if rate is None else rate, "rate"))
    if not (rates > 0).all():
        raise ValueError(
            "A rate is the positive factor by which the largest singular value changes each step back. "
            f"Received: {rate!r}. Pass for instance the largest singular value of the recurrent kernel."
        )
    by_distance = values.reshape(-1, *values.shape[-2:])[:, ::-1]
    largest, median, smallest = (
        np.median(over_units(by_distance, axis=-1), axis=0) for over_units in (np.max, np.median, np.min)
    )
    ax = axes_or_new(ax)
    named = f"{label}: largest" if label else "largest"
    drawn = draw_curves(ax, {named: largest})
    line, _ = drawn[named]
    distance = np.arange(len(largest))
    floor = positive(1e-14 * largest)
    ax.plot(
        distance, np.fmax(median, floor), color=line.get_color(), linewidth=1, linestyle=line.get_linestyle(),
        label=f"{label}: median" if label else "median",
    )  # fmt: skip
    ax.fill_between(distance, np.fmax(smallest, floor), positive(largest), color=line.get_color(), alpha=0.15, lw=0)
    for factor, marker in zip(rates, itertools.cycle("osD^v")):
        ax.plot(
            distance, largest[0] * float(factor) ** distance, color="0.15", linewidth=1, linestyle=":", marker=marker,
            markersize=5, markerfacecolor="white", markevery=max(1, len(distance) // 12),
            label=f"predicted, ${factor:.3g}^{{\\,T-t}}$",
        )  # fmt: skip
    ax.set_xlabel("distance $T - t$")
    ax.set_ylabel(r"singular values of $\partial h_T\,/\,\partial h_t$")
    ax.legend()
    return ax


def flow_over_training(history, steps=None, ax=None):
    """Draw dL/dh_t for every time step (across) over the training (upwards), as a map of its logarithm.

    Args:
        history: a `StateGradientRecorder` of one layer, or an entry of its history, an array (records, time).
        steps: array (records,), the training step of each record; a recorder's own, or their numbers, by default.
        ax: matplotlib axes to draw on; new ones by default.

    Returns:
        The axes. Where the gradient is exactly zero, they are hatched in grey.

    Raises:
        ValueError: if the array is not (records, time) or not finite, or the recorder watched several layers.

    Example:
        >>> import numpy as np
        >>> ax = rnnkit.plot.flow_over_training(np.geomspace(1e-6, 1, 30) * np.ones((5, 1)), steps=range(0, 50, 10))
    """
    if hasattr(history, "history"):
        if len(history.history) != 1:
            raise ValueError(
                f"A flow over training is drawn of one layer. Received: a recorder of {list(history.history)}. "
                "Pass flow.history[name] and flow.steps."
            )
        steps = history.steps if steps is None else steps
        (history,) = history.history.values()
    history = real_numbers(history)
    steps = np.arange(len(history) if history.ndim else 0) if steps is None else np.asarray(steps)
    fits = steps.dtype.kind in "iuf" and steps.shape == history.shape[:1]
    if history.ndim != 2 or not history.size or not fits or not np.isfinite(history).all():
        raise ValueError(
            "A flow over training is drawn from a finite array (records, time) and one step for each record. "
            f"Received: {described(history)}, and steps of shape {steps.shape}. "
            "Pass flow.history['rnn'] and flow.steps; of a run that diverged, the records before it did."
        )
    ax = axes_or_new(ax)
    ax.grid(False)
    zeros = {"facecolor": "0.9", "edgecolor": "0.5", "hatch": "////", "linewidth": 0}
    ax.patch.set(**zeros)
    image = ax.pcolormesh(np.arange(history.shape[1]), steps, np.log10(positive(history)), shading="nearest")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.figure.colorbar(image, ax=ax, label=r"$\log_{10}$ " + _STATE_GRADIENT)
    if (history == 0).any():
        ax.legend(
            handles=[Patch(label="exactly 0", **zeros)], loc="upper right", bbox_to_anchor=(1, -0.09), borderpad=0
        )
    ax.set_xlabel("time step $t$")
    ax.set_ylabel("training step")
    return ax
