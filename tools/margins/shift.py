"""A copy of a notebook's code that draws other random numbers.

A seed passes through a notebook as an argument, a loop's variable, a key of a dict, and ends in a function of NumPy,
Keras or rnnkit. It is moved there, where it is used, and nowhere else: in the copy

    np.random.default_rng(seed)                 is  with_shifted_seed(np.random.default_rng, 100)(seed)
    rnnkit.sweeps.sweep(train, seeds=range(3))  is  rnnkit.sweeps.sweep(with_shifted_start(train, 100), seeds=range(3))

so that `runs[0]`, a result's seeds and all else in the notebook keep their numbers. What draws without a seed of its
own, such as a layer's weights or the order of batches, follows `set_random_seed`. What has no seed in the notebook
stays: the examples of `rnnkit.check` and of the explorers, and the patients' data, `clinic.data`.
"""

import ast
import functools
import inspect
import numbers

# The functions and classes with an argument `seed` that solutions use; a test sees that none is missing.
SEEDED = {
    *("default_rng", "set_random_seed", "start_lesson", "chart"),
    *("Chrono", "GlorotUniform", "Orthogonal", "RandomNormal", "SpectralRadius"),
    *("adding_problem", "agreement", "copy_memory", "digit_images", "double_sum", "first_symbol_recall"),
    *("python_assignments", "python_brackets", "python_names", "python_text"),
    *("temporal_order", "terribly_exciting", "tickets"),
}


def shifted(source, by):
    """Return a cell's code with each seed moved by a number."""
    return ast.unparse(_Shift(by).visit(ast.parse(source)))


class _Shift(ast.NodeTransformer):
    def __init__(self, by):
        self.by = by

    def visit_Attribute(self, node):
        self.generic_visit(node)
        return self._wrapped(with_shifted_seed, node) if node.attr in SEEDED else node

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "sweep":
            node.args[0] = self._wrapped(with_shifted_start, node.args[0])
        return node

    def _wrapped(self, wrapper, function):
        return ast.Call(ast.Name(wrapper.__name__, ast.Load()), [function, ast.Constant(self.by)], [])


def with_shifted_seed(function, by):
    """Return a function (or class) that takes its `seed` moved, passed or default; None and generators as they are."""
    signature = inspect.signature(function)

    @functools.wraps(function, updated=())
    def called(*given, **named):
        arguments = signature.bind(*given, **named)
        arguments.apply_defaults()
        if isinstance(arguments.arguments["seed"], numbers.Integral):
            arguments.arguments["seed"] += by
        return function(*arguments.args, **arguments.kwargs)

    return called


def with_shifted_start(train, by):
    """Return a sweep's function that starts from its seed moved; a sweep itself starts it from the seed as it is."""

    @functools.wraps(train)
    def called(seed, **settings):
        import keras  # late: the notebook's first cell starts it quietly

        keras.utils.set_random_seed(seed + by)
        return train(seed=seed, **settings)

    return called
