"""What all runs of a sweep measured."""

import itertools
import math
import numbers
import operator

import numpy as np

_RELATIONS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


class SweepError(RuntimeError):
    """Some runs of a sweep failed.

    Attributes:
        result: a `Sweep` of the runs that did not; it holds NaN for those that did.
        failures: list of (settings, seed, message), one a run that failed.
    """

    def __init__(self, message, result, failures):
        super().__init__(message)
        self.result = result
        self.failures = failures


class Sweep:
    """What a training function measured for each combination of settings and each seed.

    Args:
        settings: dict from name to its list of values, in order.
        seeds: list of seeds.
        measured: list of dicts from name to array, one a run: combinations in order, the last setting varying fastest,
            and for each all seeds; None for a run that failed.

    Attributes:
        settings: dict from name to list of values.
        seeds: list of seeds.
        names: what was measured.

    Raises:
        ValueError: if runs measured different things, or their number is another one.

    Example:
        >>> runs = [{"loss": 0.5}, {"loss": 0.3}, {"loss": 0.2}, {"loss": 0.1}]
        >>> result = rnnkit.sweeps.Sweep({"units": [8, 16]}, [0, 1], runs)
        >>> result.values("loss", units=16)
        array([0.2, 0.1])
        >>> result.success("loss", "<=", 0.3)
        array([0.5, 1. ])
    """

    def __init__(self, settings, seeds, measured):
        self.settings = settings
        self.seeds = seeds
        self._measured = measured
        count = len(seeds) * math.prod(map(len, settings.values()))
        if len(measured) != count or all(run is None for run in measured):
            raise ValueError(
                f"A sweep has a run for each combination of settings and each seed, {count} here, one of them at least "
                f"that did not fail. Received: {sum(run is not None for run in measured)} of {len(measured)}. "
                "Let rnnkit.sweeps.sweep make it."
            )
        first = next(run for run in measured if run is not None)
        self.names = list(first)
        odd = next((run for run in measured if run is not None and run.keys() != first.keys()), None)
        if odd:
            raise ValueError(
                f"Every run measures the same things. Received: {self.names} of one and {list(odd)} of another. "
                "Return all names from every run, with NaN for what it has not."
            )

    def __repr__(self):
        axes = " x ".join([*(f"{len(values)} {name}" for name, values in self.settings.items())] or ["1 setting"])
        return f"<Sweep of {axes} x {len(self.seeds)} seeds: {', '.join(self.names)}>"

    def values(self, name, /, **where):
        """Return what was measured, as an array.

        Args:
            name: what, one of `names`.
            **where: a value for each setting, which picks the matching runs.

        Returns:
            Array (seeds, ...), in the order of the seeds. A setting with several values that `where` leaves open gets
            an axis of its own before the seeds, in the order of the settings. NaN where a run failed.

        Raises:
            ValueError: if the name, a setting or its value is unknown, or runs measured arrays of different shapes.
        """
        if name not in self.names:
            raise ValueError(f"What was measured is {self.names}. Received: {name!r}. Name one of them.")
        picks = self._picks(where)
        shapes = {np.shape(run[name]) for run in self._measured if run is not None}
        if len(shapes) > 1:
            raise ValueError(
                f"Arrays of every run have the same shape, to be compared. Received: {name!r} of shapes "
                f"{sorted(shapes)}. Let `train` pad them, or return a number."
            )
        (shape,) = shapes
        rows = [np.full(shape, np.nan) if run is None else np.asarray(run[name]) for run in self._measured]
        table = np.stack(rows).reshape(*map(len, self.settings.values()), len(self.seeds), *shape)
        return table[tuple(picks)]

    def median(self, name, /, **where):
        """Return the median over the seeds: a number, or an array of the other axes of `values`."""
        return _plain(np.median(self.values(name, **where), axis=self._seed_axis(where)))

    def spread(self, name, /, **where):
        """Return (lowest, highest) over the seeds, each as `median` does."""
        values, axis = self.values(name, **where), self._seed_axis(where)
        return _plain(values.min(axis=axis)), _plain(values.max(axis=axis))

    def success(self, name, relation, bound, /, **where):
        """Return the fraction of the seeds, from 0 to 1, whose value satisfies a relation; a failed run does not.

        Args:
            name: what, one of `names`.
            relation: `">="`, `">"`, `"<="` or `"<"`, between the value and `bound`.
            bound: the number that success needs.
            **where: as for `values`.

        Returns:
            A number, or an array of the other axes of `values`.

        Raises:
            ValueError: if the relation is unknown, or the bound no number; and as for `values`.
        """
        if not isinstance(relation, str) or relation not in _RELATIONS:
            raise ValueError(f"A success is one of {', '.join(_RELATIONS)} a bound. Received: {relation!r}.")
        if not isinstance(bound, numbers.Real):
            raise ValueError(f"The bound of a success is a number. Received: {bound!r}. Pass for instance 0.1.")
        held = _RELATIONS[relation](self.values(name, **where), bound)
        return _plain(held.mean(axis=self._seed_axis(where)))

    def to_frame(self):
        """Return a pandas DataFrame: a row a run, with its settings, its seed and what it measured (numbers only)."""
        import pandas as pd

        rows = itertools.product(itertools.product(*self.settings.values()), self.seeds)
        numbers = [name for name in self.names if all(np.ndim(run[name]) == 0 for run in self._measured if run)]
        return pd.DataFrame(
            [
                {
                    **dict(zip(self.settings, values, strict=True)),
                    "seed": seed,
                    **{name: np.nan if run is None else _plain(run[name]) for name in numbers},
                }
                for (values, seed), run in zip(rows, self._measured, strict=True)
            ]
        )

    def _picks(self, where):
        """Return one index for each setting: the place of the value that `where` gives, or a slice."""
        for name in where:
            if name not in self.settings:
                raise ValueError(f"The settings are {list(self.settings)}. Received: {name}={where[name]!r}.")
        picks = []
        for name, options in self.settings.items():
            if name not in where:
                picks.append(0 if len(options) == 1 else slice(None))
                continue
            matching = [place for place, option in enumerate(options) if same(option, where[name])]
            if not matching:
                raise ValueError(f"Setting {name!r} had the values {options}. Received: {where[name]!r}.")
            picks.append(matching[0])
        return picks

    def _seed_axis(self, where):
        return sum(isinstance(pick, slice) for pick in self._picks(where))


def _plain(value):
    return value.item() if np.ndim(value) == 0 else value


def same(one, other):
    """Whether two values of a setting, arrays perhaps, are equal."""
    if one is other:
        return True
    equal = one == other
    return bool(np.all(equal)) and np.shape(one) == np.shape(other)
