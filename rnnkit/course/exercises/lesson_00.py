"""The exercises of lesson 00, Start here."""

import numpy as np

from rnnkit.course.exercises import (
    Exercise,
    Mistake,
    NotYet,
    WrongNumbers,
    choice,
    close,
    explained,
    quiz,
    reject_known_mistakes,
)

_DIGITS = {"rtol": 1e-4, "atol": 1e-9}  # to which an answer has to be that of a mistake

# --- an RNN in the lecture's notation: h_t = tanh(W_h h_{t-1} + W_x x_t + b) ------------------------------------


def _states(W_h, W_x, b, x):
    """Return h_0 ... h_T, (steps + 1, units)."""
    h = [np.zeros(len(W_h))]
    for x_t in x:
        h.append(np.tanh(W_h @ h[-1] + W_x @ x_t + b))
    return np.array(h)


def _slope(h):
    """Return the slope of tanh where it gave h."""
    return 1 - h**2


def _example(units=2, features=1, steps=6, seed=0):
    draw = np.random.default_rng(seed).normal
    W_h, W_x, b = draw(size=(units, units)), draw(size=(units, features)), draw(size=units)
    return W_h, W_x, b, draw(size=(steps, features))


def _from_the_end(right, received):
    """Examine dL/dh_t, a row for each step; say which wrong row was filled first, and the others from it."""
    try:
        close(right, what="your array of dL/dh_t")(received)
    except WrongNumbers as why:
        last = np.flatnonzero(why.wrong.any(axis=1)).max()
        where = f"row {last}" if last < len(right) - 1 else f"row {last}, which is dL/dh_T itself"
        raise NotYet(f"row by row from the end, where the sweep begins, the first wrong one is {where}.") from None


# --- to_keras ---------------------------------------------------------------------------------------------------


def to_keras(W_x, W_h, b):
    """Return the weights of a Keras SimpleRNN that computes tanh(W_h h + W_x x + b)."""
    return [W_x.T, W_h.T, b]


_KERNEL_MISTAKES = (
    Mistake(
        "`kernel` is W_x as it stands. Keras computes x @ kernel: what must be done to W_x?", lambda W_x, W_h, b: W_x
    ),
)
_RECURRENT_KERNEL_MISTAKES = (
    Mistake(
        "`recurrent_kernel` is W_h as it stands. It is square, so Keras takes it without a word and computes "
        "W_h transposed times h.",
        lambda W_x, W_h, b: W_h,
    ),
    Mistake(
        "`recurrent_kernel` is the inverse of W_h. Swapping rows and columns is enough.",
        lambda W_x, W_h, b: np.linalg.inv(W_h),
    ),
)
_BIAS_MISTAKES = (
    Mistake("`bias` is a column; Keras wants it flat, of shape (units,).", lambda W_x, W_h, b: b[:, None]),
)


def _examine_to_keras(answer):
    W_h, W_x, b, _ = _example(units=3, features=2)
    weights = answer(W_x, W_h, b)
    if not isinstance(weights, list | tuple) or len(weights) != 3:
        parts = f"{len(weights)} parts" if isinstance(weights, list | tuple) else type(weights).__name__
        raise NotYet(
            f"`to_keras` should return a list of three arrays: kernel, recurrent_kernel, bias; received {parts}. "
            "(PyTorch has two biases; Keras's SimpleRNN has one.)"
        )
    kernel, recurrent_kernel, bias = weights
    if np.shape(kernel) == W_h.shape and np.shape(recurrent_kernel) == W_x.T.shape:
        raise NotYet("the first two arrays are in the wrong order: Keras lists the input's `kernel` first.")
    reject_known_mistakes(kernel, _KERNEL_MISTAKES, W_x, W_h, b, **_DIGITS)
    reject_known_mistakes(recurrent_kernel, _RECURRENT_KERNEL_MISTAKES, W_x, W_h, b, **_DIGITS)
    reject_known_mistakes(bias, _BIAS_MISTAKES, W_x, W_h, b, **_DIGITS)
    close([W_x.T, W_h.T, b], what="your list of weights")(weights)


# --- backward ---------------------------------------------------------------------------------------------------


def backward(W_h, h, dL_dh_T):
    """Return dL/dh_t for t = 0 ... T, by one sweep from the last step to the first."""
    g = np.zeros_like(h)
    g[-1] = dL_dh_T
    for t in reversed(range(1, len(h))):
        g[t - 1] = W_h.T @ ((1 - h[t] ** 2) * g[t])
    return g


def _sweep(step):
    """Return a sweep from the last row to the first in which `step(W_h, h, t, g)` gives row t - 1."""

    def answer(W_h, h, dL_dh_T):
        g = np.zeros_like(h)
        g[-1] = dL_dh_T
        for t in reversed(range(1, len(h))):
            g[t - 1] = step(W_h, h, t, g)
        return g

    return answer


_BACKWARD_MISTAKES = (
    Mistake(
        "it multiplies by W_h; the chain rule needs its transpose.",
        _sweep(lambda W_h, h, t, g: W_h @ (_slope(h[t]) * g[t])),
    ),
    Mistake(
        "the slope is one step off: the step from h[t-1] to h[t] has the slope of its result, 1 - h[t]**2.",
        _sweep(lambda W_h, h, t, g: W_h.T @ (_slope(h[t - 1]) * g[t])),
    ),
    Mistake("the slope of tanh, 1 - h[t]**2, is missing.", _sweep(lambda W_h, h, t, g: W_h.T @ g[t])),
    Mistake(
        "the slope of tanh is 1 - h[t]**2; yours lacks the square.",
        _sweep(lambda W_h, h, t, g: W_h.T @ ((1 - h[t]) * g[t])),
    ),
    Mistake(
        "h[t] is already the tanh: its slope is 1 - h[t]**2, without another tanh.",
        _sweep(lambda W_h, h, t, g: W_h.T @ (_slope(np.tanh(h[t])) * g[t])),
    ),
    Mistake(
        "slope and matrix are in the wrong order: going backwards one meets the tanh first, then the matrix.",
        _sweep(lambda W_h, h, t, g: _slope(h[t]) * (W_h.T @ g[t])),
    ),
    Mistake(
        "slope and matrix are in the wrong order, and the slope is that of h[t-1]: going backwards one meets "
        "the tanh of h[t] first, then the matrix.",
        _sweep(lambda W_h, h, t, g: _slope(h[t - 1]) * (W_h.T @ g[t])),
    ),
    Mistake(
        "every row starts again from dL/dh_T; use the row computed just before, g[t].",
        _sweep(lambda W_h, h, t, g: W_h.T @ (_slope(h[t]) * g[-1])),
    ),
    Mistake("only the last row is filled. Fill row t - 1 from row t.", _sweep(lambda W_h, h, t, g: 0 * g[t])),
    Mistake(
        "the slope of tanh is 1 - h[t]**2, with a minus.",
        _sweep(lambda W_h, h, t, g: W_h.T @ ((1 + h[t] ** 2) * g[t])),
    ),
    Mistake(
        "the slope of tanh is 1 - h[t]**2; yours is h[t]**2 alone.",
        _sweep(lambda W_h, h, t, g: W_h.T @ (h[t] ** 2 * g[t])),
    ),
    Mistake(
        "the rows run backwards in time: row t should belong to h[t], so that the last is dL/dh_T.",
        lambda *given: backward(*given)[::-1],
    ),
    Mistake(
        "there should be a row for every row of h, also for h[0], the state before the first step.",
        lambda *given: backward(*given)[1:],
    ),
    Mistake("the last row, dL/dh_T, is missing.", lambda *given: backward(*given)[:-1]),
    Mistake(
        "units run down the rows; there should be a row for each step and a column for each unit.",
        lambda *given: backward(*given).T,
    ),
)


def _examine_backward(answer):
    W_h, W_x, b, x = _example()
    h = _states(W_h, W_x, b, x)
    last = np.array([1.0, 2.0])
    entry_by_entry = "Is a matrix multiplied with *? That goes entry by entry; a matrix times a vector is W @ v."
    with explained(ValueError, "broadcast", f"NumPy refuses: {{error}}. {entry_by_entry}"):
        received = answer(W_h, h, last)
    reject_known_mistakes(received, _BACKWARD_MISTAKES, W_h, h, last, **_DIGITS)
    _from_the_end(backward(W_h, h, last), received)
    W_h, W_x, b, x = _example(units=3, steps=4)
    h = _states(W_h, W_x, b, x)
    close(backward(W_h, h, np.ones(3)), what="with three units, your array of dL/dh_t")(answer(W_h, h, np.ones(3)))


# --- recurrent_weight_gradient ----------------------------------------------------------------------------------


def recurrent_weight_gradient(h, g):
    """Return dL/dW_h: what every step contributes, added up."""
    return ((1 - h[1:] ** 2) * g[1:]).T @ h[:-1]


def _added(slope, g, h):
    """Add up over the steps what this slope, this g and this h contribute."""
    return (slope * g).T @ h


def _shares(h, g):
    """Return what each step contributes, (steps, units, units)."""
    return np.array([np.outer(_slope(h[t]) * g[t], h[t - 1]) for t in range(1, len(h))])


_GRADIENT_MISTAKES = (
    Mistake(
        "it is transposed: entry [i, j] belongs to the weight from unit j to unit i.",
        lambda h, g: recurrent_weight_gradient(h, g).T,
    ),
    Mistake(
        "the steps are averaged. The same W_h acts at every step, and derivatives add up.",
        lambda h, g: _shares(h, g).mean(axis=0),
    ),
    Mistake("it pairs g[t] with h[t]; W_h saw h[t-1].", lambda h, g: _added(_slope(h[1:]), g[1:], h[1:])),
    Mistake(
        "it pairs g[t-1] with h[t-1]; the step that W_h takes from h[t-1] ends in h[t], so use g[t].",
        lambda h, g: _added(_slope(h[:-1]), g[:-1], h[:-1]),
    ),
    Mistake(
        "the slope is one step off: use that of h[t], the result of the step.",
        lambda h, g: _added(_slope(h[:-1]), g[1:], h[:-1]),
    ),
    Mistake("the slope of tanh, 1 - h[t]**2, is missing.", lambda h, g: _added(1, g[1:], h[:-1])),
    Mistake("that is the last step's share alone. Add up the shares of all steps.", lambda h, g: _shares(h, g)[-1]),
    Mistake("that is the first step's share alone. Add up the shares of all steps.", lambda h, g: _shares(h, g)[0]),
    Mistake("those are the shares of the steps, one by one. Add them up.", _shares),
    Mistake(
        "the last step's share is missing: h has T + 1 rows, so that t runs from 1 to len(h) - 1.",
        lambda h, g: _shares(h, g)[:-1].sum(axis=0),
    ),
    Mistake(
        "the first step's share is missing: the step from h[0] to h[1] used W_h as well.",
        lambda h, g: _shares(h, g)[1:].sum(axis=0),
    ),
    Mistake(
        "there is a share of t = 0 too, paired with h[-1], which in Python is the last row. Begin at t = 1.",
        lambda h, g: recurrent_weight_gradient(h, g) + np.outer(_slope(h[0]) * g[0], h[-1]),
    ),
    Mistake(
        "g is one step off: the step from h[t-1] ends in h[t], so use g[t].",
        lambda h, g: _added(_slope(h[1:]), g[:-1], h[:-1]),
    ),
    Mistake("the slope of tanh is 1 - h[t]**2; yours lacks the square.", lambda h, g: _added(1 - h[1:], g[1:], h[:-1])),
    Mistake("it pairs g[t] with h[t], and the slope of tanh is missing: W_h saw h[t-1].", lambda h, g: g.T @ h),
    Mistake(
        "h[t] is already the tanh: its slope is 1 - h[t]**2, without another tanh.",
        lambda h, g: _added(_slope(np.tanh(h[1:])), g[1:], h[:-1]),
    ),
    Mistake("the slope of tanh is 1 - h[t]**2, with a minus.", lambda h, g: _added(1 + h[1:] ** 2, g[1:], h[:-1])),
    Mistake(
        "that multiplies two sums over time. Multiply at each step, then add up.",
        lambda h, g: np.outer((_slope(h[1:]) * g[1:]).sum(axis=0), h[:-1].sum(axis=0)),
    ),
)


def _examine_recurrent_weight_gradient(answer):
    W_h, W_x, b, x = _example(steps=5, seed=1)
    h = _states(W_h, W_x, b, x)
    h[0] = 0.3, -0.4  # not 0: the first step's share must be seen to be there
    g = backward(W_h, h, np.array([1.0, -2.0]))
    received = answer(h, g)
    reject_known_mistakes(received, _GRADIENT_MISTAKES, h, g, **_DIGITS)
    close(recurrent_weight_gradient(h, g), what="your dL/dW_h")(received)


# --- growing_gradient -------------------------------------------------------------------------------------------


def _examine_growing_gradient(answer):
    try:
        W_h = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        raise NotYet(f"W_h should be a 2 by 2 array of numbers; received {type(answer).__name__}.") from None
    if W_h.shape != (2, 2):
        raise NotYet(f"W_h should be a 2 by 2 array of numbers; received shape {W_h.shape}.")
    if not np.isfinite(W_h).all():
        raise NotYet("W_h should hold finite numbers; received NaN or infinite ones.")
    h = _states(W_h, np.full((2, 1), 0.01), np.zeros(2), np.ones((8, 1)))
    norms = np.linalg.norm(backward(W_h, h, np.ones(2)), axis=1)
    growth, radius = norms[0] / norms[-1], np.abs(np.linalg.eigvals(W_h)).max()
    if growth < 10:
        linear = np.linalg.norm(np.linalg.matrix_power(W_h.T, 8) @ np.ones(2)) / np.sqrt(2)
        raise NotYet(
            f"|dL/dh_0| is {growth:.2g} times |dL/dh_T|; 10 times is asked for. "
            + (
                f"Your W_h, transposed, makes it {linear:.2g} times in eight steps. It is the slopes of tanh that take "
                f"this away: the states run into its flat ends (up to {np.abs(h).max():.2f}). Try smaller weights, or "
                "weights that turn the state round instead of pushing it outwards."
                if linear >= 10
                else f"Even without tanh your W_h, transposed and multiplied eight times over, makes only {linear:.2g} "
                "times of it. Which matrix stretches at each step what the last step has left?"
            )
        )
    if radius < 1:
        return (
            f"It grows {growth:.2g}-fold although every eigenvalue of yours is under 1 in size ({radius:.2g} at most). "
            "You have met a non-normal matrix; lesson 01 comes back to it."
        )
    return f"It grows {growth:.2g}-fold; the largest eigenvalue of yours is {radius:.2g} in size."


_GROWING_SOLUTION = """
# Turn by 90 degrees and stretch by half: eight steps back give about 1.5**8, some 25-fold.
growing = 1.5 * np.array([[0.0, -1.0], [1.0, 0.0]])
"""

# --- the gate and the quiz --------------------------------------------------------------------------------------

_examine_gate_held_open = choice(
    "a",
    {
        "a": "Keras's z multiplies the old state. In the lecture, u = 1 would have overwritten it.",
        "b": "That is the lecture's u = 1. Keras writes h = z * h_prev + (1 - z) * hh: which term is left at z = 1?",
        "c": "The reset gate, not the update gate, takes the old state out of the candidate. Put z = 1 into "
        "h = z * h_prev + (1 - z) * hh.",
    },
)

_examine_quiz = quiz(
    choice(
        "b",
        {
            "a": "The figure cannot know. The same data had a larger gradient before training and after it; only the "
            "weights were different.",
            "b": "A gradient speaks of the weights that the network has now, not of what the data hold.",
            "c": "Clipping multiplies the gradients of the weights by one factor, in the optimizer; dL/dh_t is "
            "measured before any of that, and one factor would not change its shape over t.",
        },
    ),
    choice(
        "c",
        {
            "a": "PyTorch multiplies W_hh h, as the lecture does; Keras multiplies h @ recurrent_kernel. Square "
            "matrices fit both ways, so that no error would tell you.",
            "b": "The inverse undoes a matrix. Here the same matrix is only written the other way round.",
            "c": "And add PyTorch's two biases into Keras's one.",
        },
    ),
    choice(
        "a",
        {
            "a": "h = z * h_prev + (1 - z) * hh, so z near 1 keeps.",
            "b": "In the lecture's notation, yes; Keras and PyTorch write the gate the other way round.",
            "c": "No gate of a GRU multiplies the whole new state: z shares it out between the old state and the new.",
        },
    ),
    choice(
        "b",
        {
            "a": "At this step size central differences in float64 promise nine digits or so; half of them are "
            "missing, which is what a small bug looks like.",
            "b": "Look first at the time index and at a missing term.",
            "c": "At 1e-13 the subtraction cancels nearly every digit: in the figure that is far down the right slope.",
        },
    ),
    choice(
        "c",
        {
            "a": "`clipvalue` cuts each number by itself, which turns the gradient's direction.",
            "b": "`clipnorm` shortens each weight's gradient by itself, so that their proportions change.",
            "c": "One factor for everything: the direction stays. PyTorch's `clip_grad_norm_` does the same.",
        },
    ),
)

EXERCISES = (
    Exercise(
        "to_keras",
        (
            "A SimpleRNN computes tanh(x @ kernel + h @ recurrent_kernel + bias), with x and h as rows. Transpose the "
            "lecture's W_h h.",
            "(W_h h) transposed is h.T @ W_h.T. So what stands where Keras has `recurrent_kernel`?",
            "Three arrays in the order kernel, recurrent_kernel, bias. In NumPy, `A.T` is A transposed.",
        ),
        to_keras,
        _examine_to_keras,
    ),
    Exercise(
        "gate_held_open",
        (
            "Look at the row 'new state' of the table: which letter multiplies the old state in Keras?",
            "Put z = 1 into h = z * h_prev + (1 - z) * hh. What is left?",
        ),
        "a",
        _examine_gate_held_open,
        solution="'a': with z = 1, h = 1 * h_prev + 0 * hh = h_prev.",
    ),
    Exercise(
        "backward",
        (
            "One step forwards is: multiply by W_h, add, tanh. Backwards the same things happen in the opposite "
            "order: first the slope of tanh, then the matrix, transposed.",
            "The slope of tanh at the point where it gave h[t] is 1 - h[t]**2, one number a unit.",
            "g[t - 1] = W_h.T @ (slope * g[t])",
        ),
        backward,
        _examine_backward,
    ),
    Exercise(
        "recurrent_weight_gradient",
        (
            "At step t the weight [i, j] is multiplied by h[t-1][j], and moves unit i before its tanh.",
            "One step's share is np.outer(slope_t * g[t], h[t-1]), with slope_t = 1 - h[t]**2.",
            "Add the shares of t = 1 ... T: in a loop, or in one product of h[1:], g[1:] and h[:-1].",
        ),
        recurrent_weight_gradient,
        _examine_recurrent_weight_gradient,
    ),
    Exercise(
        "growing_gradient",
        (
            "The inputs are so small that tanh is nearly the identity at first: a step backwards multiplies by "
            "W_h.T, eight times over.",
            "1.5**8 is about 25. But where the states grow as well, tanh flattens: a matrix that turns the state as "
            "it stretches keeps it small for longer.",
        ),
        1.5 * np.array([[0.0, -1.0], [1.0, 0.0]]),
        _examine_growing_gradient,
        solution=_GROWING_SOLUTION,
    ),
    Exercise(
        "quiz_00",
        (
            "Each question is answered somewhere above: in the flow figure, the table (twice), the figure of the step "
            "size, and the experiment with two clipping rules.",
            "Check your answers anyway: every wrong one is explained.",
        ),
        ["b", "c", "a", "b", "c"],
        _examine_quiz,
    ),
)
