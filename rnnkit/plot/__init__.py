"""Figures from plain arrays and recordings: each function takes an `ax` and returns it; `show` puts one in a page."""

import base64
import html
import io
import itertools
import sys

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator
from PIL import Image  # comes with matplotlib, which writes its pictures through it

from rnnkit._names import unknown_name
from rnnkit.plot._fingerprint import fingerprint

_STATE_GRADIENT = r"$\|\partial L\,/\,\partial h_t\|$"
_MANY = 100  # steps whose line is a smear, which needs a smooth one to be read
_SMOOTH = 1000  # points of that line at most, so that the time to draw it does not grow as the square of the steps
_PATHS = (  # descents on a dark and bright map: light with dots, dark with crosses, told apart in grey too
    {"color": "white", "linestyle": "-", "linewidth": 1.4, "marker": "o", "markersize": 3},
    {"color": "#D55E00", "linestyle": "-", "linewidth": 1.4, "marker": "x", "markersize": 5},
)
_ROW = 0.06  # height of a row of marks, for what has no place on a log axis, as a fraction of the axes


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
    history = {name: _numbers(norms, name) for name, norms in history.items()}
    if not history or not all(norms.ndim == 1 and len(norms) for norms in history.values()):
        shapes = {name: norms.shape for name, norms in history.items()}
        raise ValueError(
            f"Gradient norms are drawn from one number a step for each weight. Received: shapes {shapes}. "
            "Pass a GradientRecorder after fit has run."
        )
    names = list(history) if weights is None else [weights] if isinstance(weights, str) else list(weights)
    for name in names:
        if name not in history:
            raise ValueError(unknown_name("weight", name, history))
    ax = _axes(ax)
    drawn = _draw_curves(ax, {name: history[name] for name in names}, getattr(recording, "steps", None))
    for name, (line, (end, y, where)) in drawn.items():
        steps, norms = line.get_data()
        if len(norms) > _MANY:
            thin = {"color": line.get_color(), "linestyle": "-", "linewidth": 0.6, "alpha": 0.5, "zorder": 1.9}
            ax.plot(steps, norms, label=f"_{name}: all", **thin)
            places = np.unique([*np.linspace(0, len(norms) - 1, _SMOOTH, dtype=int), *np.flatnonzero(steps == end)])
            places = places if len(norms) > _SMOOTH else np.arange(len(norms))
            smooth = _running_median(norms, places, len(norms) // 20)
            line.set_data(steps[places], smooth)
            drawn[name] = line, (end, smooth[steps[places] == end][0] if where == "data" else y, where)
    ax.set_xlabel("training step")
    ax.set_ylabel("norm of the gradient" + (", clipped" if clipped else ""))
    _name_curves(ax, drawn)
    return ax


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
    ax = _axes(ax)
    smallest = 5e-324  # where float64 ends: a zero lies further down than anything else
    first, last = (
        np.ptp([np.log10(np.clip(norms[end], smallest, 1e308)) for norms in curves.values()]) for end in (0, -1)
    )
    named_at = 0 if first >= last else -1
    drawn = _draw_curves(ax, curves, named_at=named_at)
    ax.set_xlabel("time step $t$")
    ax.set_ylabel(_STATE_GRADIENT)
    if named_at == 0:
        ax.yaxis.set_label_position("right")
        ax.yaxis.tick_right()
        ax.spines["right"].set_visible(True)
        ax.spines["left"].set_visible(False)
    _name_curves(ax, drawn, named_at)
    return ax


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
    values = _numbers(values)
    if values.ndim not in (2, 3) or not values.size or np.isnan(values).any():
        raise ValueError(
            "Singular values are drawn from an array (batch, time, units) or (time, units) without NaN. "
            f"Received: {_described(values)}. Pass what rnnkit.probes.singular_values returned."
        )
    rates = np.atleast_1d(_numbers([] if rate is None else rate, "rate"))
    if not (rates > 0).all():
        raise ValueError(
            "A rate is the positive factor by which the largest singular value changes each step back. "
            f"Received: {rate!r}. Pass for instance the largest singular value of the recurrent kernel."
        )
    by_distance = values.reshape(-1, *values.shape[-2:])[:, ::-1]
    largest, median, smallest = (
        np.median(over_units(by_distance, axis=-1), axis=0) for over_units in (np.max, np.median, np.min)
    )
    ax = _axes(ax)
    named = f"{label}: largest" if label else "largest"
    drawn = _draw_curves(ax, {named: largest})
    line, _ = drawn[named]
    distance = np.arange(len(largest))
    floor = _positive(1e-14 * largest)
    ax.plot(
        distance, np.fmax(median, floor), color=line.get_color(), linewidth=1, linestyle=line.get_linestyle(),
        label=f"{label}: median" if label else "median",
    )  # fmt: skip
    ax.fill_between(distance, np.fmax(smallest, floor), _positive(largest), color=line.get_color(), alpha=0.15, lw=0)
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
    history = _numbers(history)
    steps = np.arange(len(history) if history.ndim else 0) if steps is None else np.asarray(steps)
    fits = steps.dtype.kind in "iuf" and steps.shape == history.shape[:1]
    if history.ndim != 2 or not history.size or not fits or not np.isfinite(history).all():
        raise ValueError(
            "A flow over training is drawn from a finite array (records, time) and one step for each record. "
            f"Received: {_described(history)}, and steps of shape {steps.shape}. "
            "Pass flow.history['rnn'] and flow.steps; of a run that diverged, the records before it did."
        )
    ax = _axes(ax)
    ax.grid(False)
    zeros = {"facecolor": "0.9", "edgecolor": "0.5", "hatch": "////", "linewidth": 0}
    ax.patch.set(**zeros)
    image = ax.pcolormesh(np.arange(history.shape[1]), steps, np.log10(_positive(history)), shading="nearest")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.figure.colorbar(image, ax=ax, label=r"$\log_{10}$ " + _STATE_GRADIENT)
    if (history == 0).any():
        ax.legend(
            handles=[Patch(label="exactly 0", **zeros)], loc="upper right", bbox_to_anchor=(1, -0.09), borderpad=0
        )
    ax.set_xlabel("time step $t$")
    ax.set_ylabel("training step")
    return ax


def loss_surface(across, up, loss, ax=None, *, paths=None):
    """Draw a loss over two weights, as a landscape on 3-D axes or as a map on flat ones, with descents on it.

    Args:
        across: array (columns,), the values of the first weight.
        up: array (rows,), the values of the second.
        loss: array (rows, columns), finite.
        ax: matplotlib axes to draw on, flat or made with `projection="3d"`; new flat ones by default.
        paths: dict from label to an array (points, 3): first weight, second weight and loss of each point. The first
            point gets a dot, the first path lies on top. What lies outside the surface is not drawn.

    Returns:
        The axes.

    Raises:
        ValueError: if the shapes do not fit together, or the loss is not finite.

    Example:
        >>> import numpy as np
        >>> across, up = np.linspace(-1, 1, 40), np.linspace(-2, 2, 50)
        >>> descent = np.array([[0.8, 1.5, 2.89], [0.2, 0.4, 0.2]])
        >>> ax = rnnkit.plot.loss_surface(across, up, across**2 + up[:, None] ** 2, paths={"descent": descent})

    Source: after Pascanu, Mikolov & Bengio (2013), figure 6.
    """
    across, up, loss = map(_numbers, (across, up, loss))
    if loss.shape != (*up.shape, *across.shape) or loss.ndim != 2 or not np.isfinite(loss).all():
        raise ValueError(
            "A loss surface is drawn from two arrays of weights and a finite loss of shape (rows, columns). "
            f"Received: across {across.shape}, up {up.shape}, loss {_described(loss)}. "
            "Pass loss[row, column] = L(across[column], up[row])."
        )
    paths = {label: _numbers(path, label) for label, path in (paths or {}).items()}
    for label, path in paths.items():
        if path.ndim != 2 or path.shape[1] != 3 or not len(path):
            raise ValueError(
                "A path on a loss surface has a row for each point: first weight, second weight, loss. "
                f"Received: {label!r}, shape {path.shape}. Pass an array (points, 3)."
            )
    ax = _axes(ax)
    solid = ax.name == "3d"
    if solid:
        ax.computed_zorder = False  # or a path vanishes in the surface that it lies on
        ax.plot_surface(across, up[:, None], loss, cmap="cividis", rcount=200, ccount=200, linewidth=0)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))  # seen at an angle, more would overlap
        ax.zaxis.set_rotate_label(False)
        ax.set_zlabel("loss $L$", rotation=90, labelpad=8)
    else:
        ax.grid(False)
        filled = ax.contourf(across, up, loss, np.linspace(loss.min(), loss.max(), 25), cmap="cividis")
        ax.figure.colorbar(filled, ax=ax, label="loss $L$", ticks=MaxNLocator(5))
        ax.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
    for below, ((label, path), style) in enumerate(zip(paths.items(), itertools.cycle(_PATHS))):
        first, second = path.T[:2]
        outside = (first < across.min()) | (first > across.max()) | (second < up.min()) | (second > up.max())
        if solid:
            path = np.where(outside[:, None], np.nan, path)
        coordinates = path.T if solid else path.T[:2]
        edge = [Stroke(linewidth=style["linewidth"] + 1.2, foreground="black"), Normal()]  # seen on any ground
        ax.plot(*coordinates, label=label, zorder=5 - below / len(paths), path_effects=edge, **style)
        ax.plot(*coordinates[:, :1], "o", color="white", markeredgecolor="black", markersize=7, zorder=6)
    return ax


def gates(measured, ax=None, *, layer=None, names=None):
    """Draw the gates of a layer against the time step, or how they change while a model trains.

    A line is the mean over batch and units; its band reaches from the 10 % to the 90 % quantile, and holds most of the
    units. Masked steps do not count.

    Args:
        measured: the gates of one layer, a dict from name to an array (batch, time, units), as in
            `rnnkit.probes.gates(model, x)["rnn"]`; or a `GateRecorder`, of which the mean over the time steps is drawn,
            of the means as of the quantiles, against the training step.
        ax: matplotlib axes to draw on; new ones by default.
        layer: name of the layer, where `measured` holds several.
        names: names of the gates to draw, or one name; by default all but the candidate, which is no gate.

    Returns:
        The axes.

    Raises:
        ValueError: if there is nothing to draw, there are several layers and none is named, or a name is unknown.

    Example:
        >>> import numpy as np
        >>> forget = np.random.default_rng(0).uniform(0.5, 1, size=(8, 20, 4))
        >>> ax = rnnkit.plot.gates({"forget": forget})
    """
    curves, at, axis = _gate_curves(measured, layer)
    if names is None:
        names = [name for name in curves if name != "candidate"]
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in curves:
            raise ValueError(unknown_name("gate", name, curves))
        if not np.isfinite(curves[name][0]).any():
            raise ValueError(
                f"A gate is drawn where it is a number. Received: {name!r}, NaN at every step. "
                "Either every step is masked, or the weights are NaN: look at them with model.get_weights()."
            )
    if not names:
        raise ValueError(f"A gate at least is drawn, of {list(curves)}. Received: none. Leave out `names` for all.")
    ax = _axes(ax)
    drawn = {}
    for name in names:
        mean, low, high = curves[name]
        alone = "o" if np.isfinite(mean).sum() == 1 else None  # a line through a single point is not to be seen
        (line,) = ax.plot(at, mean, label=name, marker=alone)
        ax.fill_between(at, low, high, color=line.get_color(), alpha=0.15, lw=0)
        end = np.flatnonzero(np.isfinite(mean))[-1]
        drawn[name] = line, (at[end], mean[end], "data")
    if all(np.nanmin(curves[name]) >= 0 and np.nanmax(curves[name]) <= 1 for name in names):
        ax.set_ylim(-0.02, 1.02)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel(axis)
    ax.set_ylabel("value of the gate")
    _name_curves(ax, drawn)
    return ax


def show(figure, alt, caption="", about=False):
    """Put a figure into the notebook with alt text and a visible caption, and close it.

    Three forms are given. `text/html`, a `<figure>` whose picture has the alt text, is what JupyterLab and exported
    pages take. `image/png`, the bare picture, is for viewers that drop HTML. `text/plain` holds the words and the
    figure's `fingerprint`: nbval compares it between two runs. Outside IPython the words are printed; to keep the
    picture there, call `figure.savefig` before.

    Args:
        figure: matplotlib figure, or axes of it.
        alt: what the figure shows, in a sentence, for those who cannot see it.
        caption: what to take away from it, shown under the figure.
        about: whether what is drawn comes from training, where another processor's rounding grows into other numbers;
            the fingerprint then says so (see there), and nbval compares the figure's words alone.

    Raises:
        ValueError: if there is no alt text.

    Example:
        >>> ax = rnnkit.plot.gradient_norms({"rnn/kernel": [1.0, 0.5, 0.7]})
        >>> rnnkit.plot.show(ax, alt="The norm falls from 1 to 0.5 and rises again.")
        The norm falls from 1 to 0.5 and rises again.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(
            "A figure's alt text says in a sentence what it shows, for those who cannot see it. "
            f"Received: alt={alt!r}. Write what is drawn and what it does: 'The norm falls from 1 to 0.5.'"
        )
    figure = getattr(figure, "figure", figure)
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(*filter(None, (alt, caption)), sep="\n")
    else:
        from IPython.display import display

        bundle, metadata = _bundle(figure, alt, caption, about)
        display(bundle, metadata=metadata, raw=True)
    plt.close(figure)


def _bundle(figure, alt, caption, about=False):
    """Return the figure by MIME type, and the size at which to show its picture."""
    opened = io.BytesIO()
    figure.savefig(opened, format="png")
    packed = io.BytesIO()  # with a palette of 256 colours, a third of the size: the notebook holds each picture twice
    Image.open(opened).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(packed, "png", optimize=True)
    picture = base64.b64encode(packed.getvalue()).decode()
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    image = (
        f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{picture}" width="{width}" '
        'style="max-width:100%;height:auto">'
    )
    bundle = {
        "text/html": f'<figure style="margin:0">{image}{below}</figure>',
        "image/png": picture,
        "text/plain": "\n".join(filter(None, (alt, caption, fingerprint(figure, about=about)))),
    }
    return bundle, {"image/png": {"alt": alt, "width": width, "height": height}}


def _axes(ax):
    return plt.subplots(layout="constrained")[1] if ax is None else ax  # makes room for names beside the axes


def _positive(values):
    """Return a copy with a gap where a number has no place on a log axis."""
    values = np.array(values, "float64")
    values[~((values > 0) & np.isfinite(values))] = np.nan
    return values


def _draw_curves(ax, curves, x=None, named_at=-1):
    """Draw curves on a log axis and, in rows below and above them, marks for the points that have no place on one.

    Returns:
        dict from label to (line, anchor); the anchor is the end to name: x, y and the coordinates they are in.
    """
    drawn, below, above = {}, [], []
    ax.set_yscale("log")
    for label, values in curves.items():
        at = np.arange(len(values)) if x is None else np.asarray(x)
        (line,) = ax.plot(at, _positive(values), label=label)
        shown = np.pad(np.isfinite(line.get_ydata()), 1)
        alone = np.flatnonzero(shown[1:-1] & ~shown[:-2] & ~shown[2:])
        if len(alone):  # a line through a single point is not to be seen
            line.set(marker="o", markevery=list(alone))
        on_line = np.flatnonzero(shown[1:-1])
        end = on_line[named_at] if len(on_line) else None
        drawn[label] = line, None if end is None else (at[end], values[end], "data")
        for rows, where in (below, values == 0), (above, ~np.isfinite(values)):
            if where.any():
                rows.append((label, line, at[where], where[named_at]))
    if not below and not above:
        return drawn
    low, high = np.log10(ax.get_ylim())
    down, up = (_ROW * (len(rows) + 0.5) * bool(rows) for rows in (below, above))
    height = (high - low) / (1 - down - up)
    ax.set_ylim(10 ** (low - down * height), 10 ** (high + up * height))
    apart = next(step for step in (1, 2, 5, 10, 20, 50, 100) if high - low <= 8 * step)
    decades = apart * np.arange(np.ceil(low / apart), high // apart + 1)
    ax.set_yticks(10.0**decades)  # none beside the rows, where the axis measures nothing
    ax.yaxis.minorticks_off()
    for rows, words, start, step in (below, "exactly 0", 0, _ROW), (above, "inf or NaN", 1, -_ROW):
        for number, (label, line, at, named_here) in enumerate(rows, 1):
            y = start + step * (number - 0.4)
            in_row = ax.get_xaxis_transform()
            marks = {"color": line.get_color(), "marker": "x", "markersize": 5, "markeredgewidth": 1.5}
            marks |= {"markevery": len(at) // 20 + 1, "linestyle": "", "transform": in_row}
            ax.plot(at, np.full(len(at), y), label=f"_{label}: {words}", **marks)
            if named_here:
                drawn[label] = line, (at[named_at], y, in_row)
            _beside_marks(ax, words if named_here else f"{_fitting(label)}: {words}", at, y, line.get_color())
    return drawn


def _beside_marks(ax, words, at, y, colour):
    """Write beside a row of marks where there is room: after it, before it or, if it fills the axes, upon it."""
    low, high = ax.get_xlim()
    after, before = at[-1] < low + 0.7 * (high - low), at[0] > low + 0.3 * (high - low)
    place, align, shift = (
        (at[-1], "left", 8) if after else (at[0], "right", -8) if before else (np.mean(at), "center", 0)
    )
    ax.annotate(
        words, (place, y), (shift, 0), xycoords=ax.get_xaxis_transform(), textcoords="offset points", ha=align,
        va="center", color=_dark(colour), size="small", bbox={"facecolor": "white", "linewidth": 0, "pad": 4},
        zorder=2.4,  # over marks and grid, under the axis
    )  # fmt: skip


def _running_median(values, places, width):
    """Return the median of the window round the values at some places, leaving gaps where they are."""
    padded = np.pad(values, width // 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width // 2 * 2 + 1)
    known = places[~np.isnan(values[places])]
    smooth = np.full(len(values), np.nan)
    for part in np.array_split(known, 1 + len(known) * width // 2**20):  # what is copied at once, is copied whole
        smooth[part] = np.nanmedian(windows[part], axis=1)
    return smooth[places]


def _name_curves(ax, drawn, named_at=-1):
    """Write each curve's name at its end; where the names would crowd, give a legend in the order of the ends."""
    ax.get_xlim(), ax.get_ylim()  # brings the limits up to date, on which the places on the page depend
    pixels = ax.figure.dpi / 72
    line_height = 1.3 * plt.rcParams["font.size"] * pixels
    place = {
        label: (ax.transData if where == "data" else where).transform((x, y))[1]
        for label, (_, (x, y, where)) in drawn.items()
    }
    ordered = sorted(place, key=place.get)
    apart = dict(zip(ordered, _spread([place[label] for label in ordered], line_height), strict=True))
    if any(abs(apart[label] - place[label]) > 2 * line_height for label in ordered):
        handles, names = [drawn[label][0] for label in ordered[::-1]], map(_fitting, ordered[::-1])
        ax.legend(handles, names, loc="upper left", bbox_to_anchor=(1, 1))
        return
    side, align = (-1, "right") if named_at == 0 else (1, "left")
    for label in ordered:
        line, (x, y, where) = drawn[label]
        shift = (apart[label] - place[label]) / pixels
        leader = {"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.8, "shrinkA": 0, "shrinkB": 2}
        offset = side * (20 if abs(shift) > 2 else 9), shift
        ax.annotate(
            _fitting(label), (x, y), offset, xycoords=where, textcoords="offset points",
            ha=align, va="center", color=_dark(line.get_color()), arrowprops=leader if abs(shift) > 2 else None,
            annotation_clip=False,
        )  # fmt: skip


def _fitting(label):
    """Return a name that leaves room for the figure; of a very long one, how it begins and ends."""
    return label if len(label) <= 60 else f"{label[:29]} … {label[-28:]}"


def _spread(places, gap):
    """Move sorted places apart, as little as can be (least squares, by pooling those that are too close)."""
    pools = []
    for number, place in enumerate(places):
        pools.append((place - number * gap, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, n), (other, m) = pools.pop(), pools.pop()
            pools.append(((one * n + other * m) / (n + m), n + m))
    return np.repeat(*zip(*pools, strict=True)) + gap * np.arange(len(places))


def _dark(colour):
    """Return a colour's dark shade, in which words on white have the contrast that WCAG asks of text."""
    return tuple(0.6 * channel for channel in to_rgb(colour))


def _flow(label, values):
    values = _numbers(values, label)  # in float32 the squares of small gradients would underflow
    if values.ndim not in (1, 3) or not values.size or np.isnan(values).any():
        raise ValueError(
            "A gradient flow is drawn from gradients (batch, time, units) or norms (time,), without NaN. "
            f"Received: {label!r}, {_described(values)}. "
            "Pass for instance rnnkit.probes.state_gradients(model, x, y)['rnn']['h']."
        )
    return np.linalg.norm(values, axis=-1).mean(axis=0) if values.ndim == 3 else values


def _gate_curves(measured, layer):
    """Return `{gate: (mean, low, high)}`, where they are drawn, and the name of that axis."""
    recorded = hasattr(measured, "history")
    layers = measured.history if recorded else measured if isinstance(measured, dict) else {}
    layers = {name: of_layer for name, of_layer in layers.items() if not isinstance(of_layer, dict) or of_layer}
    if layers and not any(isinstance(of_layer, dict) for of_layer in layers.values()):
        layers, layer = {None: layers}, None  # already those of one layer
    elif layer is None and len(layers) == 1:
        (layer,) = layers
    elif layer is None:
        received = f"the layers {list(layers)}" if layers else "none"
        raise ValueError(
            f"The gates of one layer are drawn at a time. Received: {received}. Name one of several with layer=...; "
            "pass rnnkit.probes.gates(model, x)['rnn'], or a GateRecorder after fit has run."
        )
    if layer not in layers:
        raise ValueError(unknown_name("layer", layer, layers))
    if recorded:
        curves = {
            name: [
                np.ma.masked_invalid(part).mean(axis=1).filled(np.nan) for part in (mean, *measured.spread[layer][name])
            ]
            for name, mean in layers[layer].items()
        }
        return curves, np.asarray(measured.steps), "training step"
    curves = {name: _over_units(name, values) for name, values in layers[layer].items()}
    return curves, np.arange(max(mean.size for mean, *_ in curves.values())), "time step $t$"


def _over_units(name, values):
    """Return the mean, the 10 % and the 90 % quantile over batch and units at each step; NaN where there is nothing."""
    values = _numbers(values, name)
    if values.ndim != 3 or not values.size or np.isinf(values).any():
        raise ValueError(
            "A gate is drawn from its values (batch, time, units). "
            f"Received: {name!r}, {_described(values)}. Pass for instance rnnkit.probes.gates(model, x)['rnn']."
        )
    steps = [column[~np.isnan(column)] for column in np.moveaxis(values, 1, 0)]
    return np.array([[kept.mean(), *np.quantile(kept, [0.1, 0.9])] if kept.size else [np.nan] * 3 for kept in steps]).T


def _numbers(values, label=None):
    """Return real numbers as an array of float64; raise ValueError for what is none."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in "biuf" or array.dtype.type.__module__ == "ml_dtypes" or not array.size:
            return array.astype("float64")
        received = f"an array of type {array.dtype}"
    except ValueError:  # a list of lists of several lengths
        received = "a list of parts of several lengths"
    of = "" if label is None else f" of {label!r}"
    raise ValueError(
        f"Figures are drawn from arrays of real numbers. Received{of}: {received}. "
        "Pass what a probe returned or a recorder holds."
    )


def _described(values):
    nans = np.isnan(values).sum()
    infinite = np.isinf(values).sum()
    return f"shape {values.shape}" + f" with {nans} NaN" * bool(nans) + f" with {infinite} inf" * bool(infinite)
