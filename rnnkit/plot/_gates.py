"""The gates of a layer: over time steps, or over training."""

import numpy as np

from rnnkit._names import unknown_name
from rnnkit.plot._arrays import described, real_numbers
from rnnkit.plot._curves import axes_or_new, name_curves


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
    ax = axes_or_new(ax)
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
    name_curves(ax, drawn)
    return ax


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
    values = real_numbers(values, name)
    if values.ndim != 3 or not values.size or np.isinf(values).any():
        raise ValueError(
            "A gate is drawn from its values (batch, time, units). "
            f"Received: {name!r}, {described(values)}. Pass for instance rnnkit.probes.gates(model, x)['rnn']."
        )
    steps = [column[~np.isnan(column)] for column in np.moveaxis(values, 1, 0)]
    return np.array([[kept.mean(), *np.quantile(kept, [0.1, 0.9])] if kept.size else [np.nan] * 3 for kept in steps]).T
