"""What a gradient recorder has seen: plain NumPy arrays that can be read, tabled, saved and loaded."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np


class Recording:
    """The gradient norms of a training run, one row a step.

    Args:
        weights: names of the weights, `layer/weight`.
        clipping: how the optimizer clips: `(None, None)`, or one of `"clipnorm"`, `"global_clipnorm"`, `"clipvalue"`
            with its bound.
        accumulated: whether the optimizer accumulates gradients over several steps before it clips.
    """

    def __init__(self, weights, clipping=(None, None), accumulated=False):
        self.weights = list(weights)
        self.clipping = clipping
        self.accumulated = accumulated
        self._steps = np.empty(0, "int64")
        self._rows = np.empty((0, self.columns), "float32")
        self._count = 0

    @property
    def columns(self):
        """Numbers a row: each weight's norm, the global norm, and under clipvalue each weight's norm once clipped."""
        return len(self.weights) + 1 + (len(self.weights) if self.clipping[0] == "clipvalue" else 0)

    def append(self, steps, rows):
        """Add rows (n, columns) seen at the given steps (n,)."""
        needed = self._count + len(steps)
        if needed > len(self._steps):  # doubling keeps a million steps at a few dozen copies
            size = max(needed, 2 * len(self._steps), 256)
            self._steps = np.resize(self._steps, size) if self._count else np.empty(size, "int64")
            grown = np.empty((size, self.columns), "float32")
            grown[: self._count] = self._rows[: self._count]
            self._rows = grown
        self._steps[self._count : needed] = steps
        self._rows[self._count : needed] = rows
        self._count = needed

    @property
    def steps(self):
        """Index of the training step of each row, from 0: how many steps had been taken before it."""
        return self._steps[: self._count]

    @property
    def history(self):
        """Norm of each weight's gradient before clipping, `{"layer/weight": array (steps,)}`."""
        return {name: self._rows[: self._count, place] for place, name in enumerate(self.weights)}

    @property
    def global_norm(self):
        """Norm of all gradients together before clipping, array (steps,)."""
        return self._rows[: self._count, len(self.weights)]

    @property
    def clipped(self):
        """Norm of each weight's gradient after clipping, `{"layer/weight": array (steps,)}`.

        Raises:
            ValueError: under gradient accumulation, where the optimizer clips a mean that no single step shows.
        """
        rule, bound = self._clipping_seen()
        if rule == "clipvalue":
            start = len(self.weights) + 1
            return {name: self._rows[: self._count, start + place] for place, name in enumerate(self.weights)}
        if rule == "clipnorm":
            return {name: np.minimum(norms, np.float32(bound)) for name, norms in self.history.items()}
        if rule == "global_clipnorm":
            return {name: norms * self._global_scale() for name, norms in self.history.items()}
        return self.history

    @property
    def clipped_global_norm(self):
        """Norm of all gradients together after clipping, array (steps,).

        Raises:
            ValueError: under gradient accumulation, as `clipped`.
        """
        rule, _ = self._clipping_seen()
        if rule is None:
            return self.global_norm
        if rule == "global_clipnorm":
            return self.global_norm * self._global_scale()
        squares = [np.square(norms, dtype="float64") for norms in self.clipped.values()]
        total = np.sqrt(np.nansum(squares, axis=0)).astype("float32")  # NaN: a weight the step did not train
        return np.where(np.isfinite(self.global_norm), total, self.global_norm)

    def _global_scale(self):
        """Return the factor that global_clipnorm puts on every gradient; NaN where Keras's would be."""
        bound, norms = np.float32(self.clipping[1]), self.global_norm
        scale = bound / np.maximum(norms, bound)
        return np.where(np.isfinite(norms), scale, np.float32("nan"))

    def _clipping_seen(self):
        if self.accumulated and self.clipping[0] is not None:
            raise ValueError(
                "Under gradient accumulation the optimizer clips the mean of several gradients, which no recorded step "
                f"shows. Received: {self.clipping[0]}={self.clipping[1]} with gradient_accumulation_steps. "
                "Read `history` (each step before clipping), or train without accumulation."
            )
        return self.clipping

    def to_frame(self):
        """Return a tidy pandas table with the columns step, layer, weight, norm and clipped_norm."""
        import pandas as pd

        clipped = self.clipped
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "step": self.steps,
                        "layer": name.rpartition("/")[0],
                        "weight": name.rpartition("/")[2],
                        "norm": norms,
                        "clipped_norm": clipped[name],
                    }
                )
                for name, norms in self.history.items()
            ],
            ignore_index=True,
        )

    def save(self, path):
        """Write the recording to an .npz file; an older file of that name stays whole until the new one is complete.

        Args:
            path: where to write; the ending .npz is added if it is missing.

        Returns:
            The path written, a `pathlib.Path`.
        """
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
        about = {"weights": self.weights, "clipping": self.clipping, "accumulated": self.accumulated}
        handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, about=json.dumps(about), steps=self.steps, rows=self._rows[: self._count])
            os.replace(scratch, path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
        return path


def load(path):
    """Read a recording that `GradientRecorder.save` wrote.

    Args:
        path: an .npz file. Nothing in it is ever executed (no pickle).

    Returns:
        A `Recording` with the recorder's `steps`, `history`, `clipped`, `global_norm`, `clipped_global_norm`,
        `to_frame` and `save`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not such a recording.

    Example:
        >>> recorder = rnnkit.GradientRecorder()
        >>> history = model.fit(x, y, epochs=1, callbacks=[recorder], verbose=0)
        >>> path = recorder.save("run.npz")
        >>> bool((rnnkit.load(path).steps == recorder.steps).all())
        True
    """
    try:
        # Opened here: np.load would leave a broken archive open.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            about, steps, rows = json.loads(str(file["about"])), file["steps"], file["rows"]
        recording = Recording(about["weights"], tuple(about["clipping"]), about["accumulated"])
        if rows.shape != (len(steps), recording.columns):
            raise ValueError(f"{rows.shape} rows for {len(steps)} steps and {recording.columns} columns")
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            "A recording must be an .npz file written by GradientRecorder.save. "
            f"Received: {os.fspath(path)!r}, which cannot be read as one ({error}). Record and save the run again."
        ) from error
    recording.append(steps, rows)
    return recording
