"""What is known of the exercises of lesson 05, exploding gradients and clipping."""

import numpy as np

from rnnkit.course.exercises import (
    Exercise,
    Mistake,
    NotYet,
    choice,
    close,
    explained,
    quiz,
    reject_known_mistakes,
    unguarded,
)

# --- clipping -----------------------------------------------------------------------------------------------------


def clip_by_global_norm(gradients, threshold):
    """Scale all gradients by one factor if their common norm exceeds the threshold."""
    norm = np.sqrt(sum(np.sum(gradient**2) for gradient in gradients))
    if norm <= threshold:
        return gradients
    return [gradient * (threshold / norm) for gradient in gradients]


def _norm(gradients):
    return np.sqrt(sum(np.sum(np.square(gradient)) for gradient in gradients))


def _norms(gradients):
    return [np.linalg.norm(gradient) for gradient in gradients]


def _divided_by(size):
    """Return an answer that scales all gradients by threshold / size(gradients)."""
    return lambda gradients, threshold: [gradient * (threshold / size(gradients)) for gradient in gradients]


_CLIP_MISTAKES = (
    Mistake(
        "you return the gradients as they were, though their norm exceeds the threshold.",
        lambda gradients, threshold: gradients,
    ),
    Mistake(
        "each array is scaled by its own norm: that is `clipnorm`, and it turns the step. One norm, and one factor, "
        "for all arrays together.",
        lambda gradients, threshold: [g * min(1, threshold / np.linalg.norm(g)) for g in gradients],
    ),
    Mistake(
        "each number is cut on its own: that is clipping by value, and it turns the step.",
        lambda gradients, threshold: [np.clip(g, -threshold, threshold) for g in gradients],
    ),
    Mistake(
        "the square root is missing: the norm is the root of the sum of squares.",
        _divided_by(lambda gradients: _norm(gradients) ** 2),
    ),
    Mistake(
        "the norms of the arrays are added up. Add their squares, then take the root.",
        _divided_by(lambda gradients: sum(_norms(gradients))),
    ),
    Mistake(
        "the norm is not the largest number, but the root of the sum of all squares.",
        _divided_by(lambda gradients: max(np.abs(gradient).max() for gradient in gradients)),
    ),
    Mistake(
        "the norm is not the largest of the arrays' norms. Add up their squares, then take the root.",
        _divided_by(lambda gradients: max(_norms(gradients))),
    ),
    Mistake(
        "the norms of the arrays are averaged. Add up their squares, then take the root.",
        _divided_by(lambda gradients: np.mean(_norms(gradients))),
    ),
    Mistake(
        "the factor is threshold / norm, without anything added to the norm.",
        _divided_by(lambda gradients: _norm(gradients) + 1),
    ),
    Mistake(
        "the squares are averaged. The norm is the root of their sum.",
        _divided_by(lambda gradients: _norm(gradients) / np.sqrt(sum(gradient.size for gradient in gradients))),
    ),
    Mistake(
        "the absolute values are added up. Add the squares, then take the root.",
        _divided_by(lambda gradients: sum(np.abs(gradient).sum() for gradient in gradients)),
    ),
    *(
        Mistake(
            f"that is the norm of one of the arrays, number {place}. Add up the squares of all, then take the root.",
            _divided_by(lambda gradients, place=place: _norms(gradients)[place]),
        )
        for place in range(3)
    ),
    Mistake(
        "the root is taken twice: the norm is the root of the sum of squares.",
        _divided_by(lambda gradients: np.sqrt(_norm(gradients))),
    ),
    Mistake(
        "the factor stands upside down: it is threshold / norm.",
        lambda gradients, threshold: [g * (_norm(gradients) / threshold) for g in gradients],
    ),
)


def _examine_clip(answer):
    draw = np.random.default_rng(0)
    large = [3 * draw.normal(size=shape) for shape in ((2, 4), (4, 4), (4,))]
    small = [0.01 * gradient for gradient in large]
    a_list = (
        "Python says: {error}. `gradients` is a list of arrays, not one array to calculate with. Go through it: `for "
        "gradient in gradients`."
    )
    different_shapes = (
        "the arrays have different shapes, so NumPy cannot make one array of the list. "
        "Go through the list: add up np.sum(gradient**2) of each, then take the root."
    )
    with explained(TypeError, "list", a_list), explained(ValueError, "inhomogeneous", different_shapes):
        received = _as_list(answer(large, 1.0), large)
    norm = _norm(large)
    reject_known_mistakes(received, _CLIP_MISTAKES, large, 1.0)
    close([gradient / norm for gradient in large], what="what you return")(received)
    halved = _as_list(answer(large, 0.5), large)
    if np.allclose(_norm(halved), 0.25):
        raise NotYet("with a threshold of 0.5 the norm comes out as 0.25: the factor is threshold / norm, no square.")
    if np.allclose(_norm(halved), 1):
        raise NotYet("with a threshold of 0.5 the norm comes out as 1: the factor is threshold / norm, not 1 / norm.")
    close([0.5 * gradient / norm for gradient in large], what="what you return for a threshold of 0.5")(halved)
    kept = _as_list(answer(small, 1.0), small)
    if np.allclose(_norm(kept), 1):
        raise NotYet("gradients shorter than the threshold are made longer. They should come back as they are.")
    close(small, what="what you return for gradients shorter than the threshold")(kept)
    with np.errstate(all="ignore"):
        nothing = _as_list(answer([np.zeros(3), np.zeros(2)], 1.0), [np.zeros(3), np.zeros(2)])
    if not all(np.array_equal(part, 0 * part) for part in nothing):
        raise NotYet("gradients of zero come back as NaN: 0 / 0. Only divide when the norm exceeds the threshold.")
    passed = [gradient.copy() for gradient in large]
    unguarded(answer)(passed, 1.0)
    if len(passed) != len(large) or not all(map(np.array_equal, passed, large)):
        raise NotYet(
            "the gradients that you were given have changed: `*=` or an assignment into the list writes into what "
            "belongs to the caller, who may compare before and after. Return new arrays, gradient * factor."
        )


def _as_list(received, gradients):
    if not isinstance(received, list | tuple) or len(received) != len(gradients):
        raise NotYet(f"return a list of arrays, one for each of the {len(gradients)} that come in.")
    received = [np.asarray(part, dtype=float) for part in received]
    for part, gradient in zip(received, gradients, strict=True):
        if part.shape != gradient.shape:
            raise NotYet(f"each array keeps its shape: received {part.shape} for one of {gradient.shape}.")
    return received


# --- a threshold from a recording ---------------------------------------------------------------------------------


def threshold_from(norms, times=1.0):
    """Return so many times the mean of the recorded norms that are numbers."""
    norms = np.asarray(norms)
    return times * norms[np.isfinite(norms)].mean()


_THRESHOLD_MISTAKES = (
    Mistake("that is the median. The rule that is tested here uses the mean, which large norms pull up.", np.median),
    Mistake("that is the largest norm: then nothing would ever be clipped.", np.max),
    Mistake("that is the root mean square. Take the plain mean.", lambda norms: np.sqrt(np.mean(norms**2))),
    Mistake("that is the last norm of the recording. Average over all of them.", lambda norms: norms[-1]),
    Mistake("that is the sum. Divide it by the number of norms.", np.sum),
    Mistake(
        "you leave out the last norm. Not every recording ends in NaN: ask each norm whether it is a number, with "
        "np.isfinite.",
        lambda norms: norms[:-1].mean(),
    ),
)
_TIMES_MISTAKES = (
    Mistake(
        "`times` has no effect: five times the mean was asked for, and once came back.",
        lambda norms, times: norms.mean(),
    ),
    Mistake(
        "the mean is divided by `times`. For times=5, five times the mean is asked for.",
        lambda norms, times: norms.mean() / times,
    ),
    Mistake(
        "`times` is added to the mean. For times=5, five times the mean is asked for.",
        lambda norms, times: times + norms.mean(),
    ),
)


def _examine_threshold(answer):
    norms = np.random.default_rng(0).lognormal(sigma=1.5, size=200)
    if np.shape(answer(norms)) != ():
        raise NotYet(f"a threshold is one number; received an array of shape {np.shape(answer(norms))}.")
    reject_known_mistakes(float(answer(norms)), _THRESHOLD_MISTAKES, norms)
    close(norms.mean(), what="the threshold for times=1")(answer(norms))
    reject_known_mistakes(float(answer(norms, 5.0)), _TIMES_MISTAKES, norms, 5.0)
    close(5 * norms.mean(), what="the threshold for times=5")(answer(norms, 5.0))
    broken = [np.inf, np.nan]
    with np.errstate(all="ignore"):
        received = float(answer(np.concatenate([norms, broken])))
        only_nan = float(answer(np.concatenate([norms, broken[1:]])))
    if not np.isfinite(received):
        what = "Inf" if np.isfinite(only_nan) else "Inf or NaN"
        raise NotYet(f"a recording that ends in {what} gives no threshold. Keep norms[np.isfinite(norms)] only.")
    if np.isclose(received, norms.sum() / (len(norms) + len(broken))):
        raise NotYet("norms that are Inf or NaN are left out of the sum but still counted. Leave them out of both.")
    close(norms.mean(), what="the threshold from a recording with Inf and NaN")(received)


# --- a rule of one's own ------------------------------------------------------------------------------------------


def my_step(point, gradient):
    """Take a step of 0.2 times the gradient, clipped to a norm of 0.5."""
    norm = np.sqrt(np.sum(gradient**2))
    return point - 0.2 * gradient * min(1, 0.5 / norm)


def cliff(w, b, steps=50):
    """Return the loss of the one-unit network and its gradient (dL/dw, dL/db)."""
    x, by_w, by_b = 0.5 + 0 * w, 0 * w, 0 * w
    for _ in range(steps):
        s = _sigmoid(x)
        factor = w * s * (1 - s)
        x, by_w, by_b = w * s + b, s + factor * by_w, 1 + factor * by_b
    s = _sigmoid(x)
    return (s - 0.7) ** 2, 2 * (s - 0.7) * s * (1 - s) * np.stack([by_w, by_b])


def _sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))  # does not overflow, wherever a descent ends


def descents(rule, steps=400):
    """Let a rule descend from the twenty starts; return the losses at the end and the longest step."""
    draw = np.random.default_rng(0)
    points, longest = np.array([draw.uniform(4.7, 5.2, 20), draw.uniform(-2.4, -1.7, 20)]), 0.0
    for _ in range(steps):
        gradients = cliff(*points)[1]
        pairs = zip(points.T.copy(), gradients.T.copy(), strict=True)
        moved = np.array([np.asarray(rule(point, gradient), dtype=float) for point, gradient in pairs])
        if moved.shape != (20, 2):
            raise NotYet(f"return the next point, an array of two numbers; received shape {moved.shape[1:]}.")
        longest = max(longest, np.abs(moved.T - points).max())
        points = moved.T
    return cliff(*points)[0], longest


def _step_on_the_wall(rule):
    """Return the length of a rule's step where the gradient is long, and the angle between the two in degrees."""
    point, gradient = np.array([4.5, -2.303]), np.array([-81.7, -134.0])
    step = point - np.asarray(rule(point, gradient), dtype=float)
    lengths = np.linalg.norm(step) * np.linalg.norm(gradient)
    turned = np.degrees(np.arccos(np.clip(step @ gradient / lengths, -1, 1))) if lengths else 0.0
    return np.linalg.norm(step), turned


def _examine_own_rule(answer):
    point, gradient = np.array([4.8, -2.0]), np.array([0.03, 0.04])
    first_of_a_list = (
        "Python says: {error}. `clip` takes a list of gradients and returns a list; the one that you gave it is its "
        "first: clip([gradient], threshold)[0]."
    )
    with explained(TypeError, "list", first_of_a_list):
        following = np.asarray(answer(point, gradient), dtype=float)
    if following.shape == (2,) and np.linalg.norm(following) < 1:
        raise NotYet("you return the step. Return the next point: the point minus the step.")
    if following.shape == (2,) and (following - point) @ gradient > 0:
        raise NotYet("you go uphill: the step goes against the gradient, so subtract it.")
    with np.errstate(all="ignore"):
        losses, longest = descents(answer)
    arrived = int((losses < 1e-3).sum())
    shown = f"{arrived} of 20 descents end below 0.001"
    if arrived < 18:
        on_the_wall, turned = _step_on_the_wall(answer)
        if not on_the_wall and np.any(following != point):
            advice = (
                "on the wall your rule takes no step, so the next gradient is the same and you stay stuck there. "
                "Shorten the step, but take it"
            )
        elif longest > 0.5:
            advice = f"one of the steps is {longest:.2g} long. Limit what the wall can do"
        elif turned > 5:
            advice = (
                f"on the wall your step turns {turned:.0f} degrees from the gradient. Shorten it without turning it"
            )
        elif not longest:
            advice = "every step is 0 long: you stay where you are. Subtract something of the gradient"
        else:
            falling = np.mean(descents(answer, steps=800)[0] < losses)
            still = (
                "After 800 steps the losses are lower still: yours are too short for 400"
                if falling > 0.9
                else "800 steps bring no more: yours may be too long to settle at the foot of the wall"
            )
            advice = f"no step is over {longest:.2g} long, so that none is thrown off. {still}"
        raise NotYet(f"{shown}; {advice}.")
    return f"Measured, {shown}; the longest step is {longest:.2g}."


EXERCISES = (
    Exercise(
        "clip_by_global_norm",
        (
            "One norm for everything: add up the squares of all numbers of all arrays, then take the square root.",
            "If norm <= threshold, return the gradients. Otherwise multiply each array by threshold / norm.",
        ),
        clip_by_global_norm,
        _examine_clip,
    ),
    Exercise(
        "threshold_from",
        (
            "`np.isfinite(norms)` is True where a norm is a number. The mean of those, and nothing else.",
            "`norms[np.isfinite(norms)].mean()`, times `times`.",
        ),
        threshold_from,
        _examine_threshold,
    ),
    Exercise(
        "three_times_the_rate",
        (
            "How long is a step whose gradient was clipped?",
            "A clipped step is exactly rate times threshold long. With 0.1 it was the long steps that failed.",
        ),
        "b",
        choice(
            "b",
            {
                "a": "The gradient does not say how far one may go. A clipped step is rate times threshold long, "
                "so three times the rate makes every clipped step three times longer.",
                "b": "A clipped step is rate times threshold long. Three times the rate leaves room for a third of "
                "the threshold.",
                "c": "A higher rate makes every step longer, those on the wall too; a larger threshold longer still.",
            },
        ),
    ),
    Exercise(
        "my_step",
        (
            "On the wall the gradient is hundreds of times longer than elsewhere. What may a step be at most?",
            "`point - 0.2 * clip([gradient], 0.5)[0]` is one answer. Steps could also shrink as the gradient grows: "
            "divide the gradient by (1 + its norm).",
        ),
        my_step,
        _examine_own_rule,
    ),
    Exercise(
        "quiz_05",
        (
            "Each question has its answer in the section whose heading it echoes.",
            "The letters, in some order, are one a, two b and two c.",
        ),
        ["c", "b", "b", "a", "c"],
        quiz(
            choice(
                "c",
                {
                    "c": "At the edge it was 0.235 w, a little over 1, at every one of the steps.",
                    "a": "Nothing overflows there: the steepest slope was about 1000, in float64. It is a product.",
                    "b": "The surface has its cliff before anyone descends on it; the rate decides who falls off.",
                },
            ),
            choice(
                "b",
                {
                    "b": "One norm and one factor for all weights together, so that the direction stays.",
                    "a": "`clipvalue` cuts each number by itself, and so turns the step: by some 30 degrees, measured.",
                    "c": "The name suggests it, but `clipnorm` scales each weight's gradient by itself: that turns "
                    "the step.",
                },
            ),
            choice(
                "b",
                {
                    "b": "That is why an epoch's best weights were kept.",
                    "a": "Whatever is computed with NaN is NaN; clipping has nothing left to scale. Go back first.",
                    "c": "Whatever is computed with NaN is NaN, at any learning rate. Go back to earlier weights.",
                },
            ),
            choice(
                "a",
                {
                    "a": "With both threefold, one step could go nine times as far.",
                    "b": "The norms hardly depend on it, but the longest step does: it is rate times threshold.",
                    "c": "Then the longest step, rate times threshold, would be nine times as long.",
                },
            ),
            choice(
                "c",
                {
                    "c": "The gradients there were short already, and a common factor cancels in a ratio.",
                    "a": "It multiplies near and far steps by one number, so that the near ones drown the far ones as "
                    "before.",
                    "b": "Clipping was hardly ever active there, and a common factor changes no ratio.",
                },
            ),
        ),
    ),
)
