"""A loss over two weights."""

import itertools

import numpy as np
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator

from rnnkit.plot._arrays import described, real_numbers
from rnnkit.plot._curves import axes_or_new

_PATHS = (  # descents on a dark and bright map: light with dots, dark with crosses, told apart in grey too
    {"color": "white", "linestyle": "-", "linewidth": 1.4, "marker": "o", "markersize": 3},
    {"color": "#D55E00", "linestyle": "-", "linewidth": 1.4, "marker": "x", "markersize": 5},
)


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
    across, up, loss = map(real_numbers, (across, up, loss))
    if loss.shape != (*up.shape, *across.shape) or loss.ndim != 2 or not np.isfinite(loss).all():
        raise ValueError(
            "A loss surface is drawn from two arrays of weights and a finite loss of shape (rows, columns). "
            f"Received: across {across.shape}, up {up.shape}, loss {described(loss)}. "
            "Pass loss[row, column] = L(across[column], up[row])."
        )
    paths = {label: real_numbers(path, label) for label, path in (paths or {}).items()}
    for label, path in paths.items():
        if path.ndim != 2 or path.shape[1] != 3 or not len(path):
            raise ValueError(
                "A path on a loss surface has a row for each point: first weight, second weight, loss. "
                f"Received: {label!r}, shape {path.shape}. Pass an array (points, 3)."
            )
    ax = axes_or_new(ax)
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
