"""What is known of the exercises of lesson 01, vanishing gradients: the cause."""

import functools

import numpy as np

from rnnkit.course.exercises import Exercise, Mistake, NotYet, choice, close, quiz, reject_known_mistakes

# --- the chain rule, step by step ---------------------------------------------------------------------------------


def backpropagate_states(last, h, W):
    """Walk dL/dh_t back through h_t = tanh(h_{t-1} @ W + ...), from the last step to the first."""
    gradients = [last]
    for state in h[:0:-1]:
        gradients.append((gradients[-1] * (1 - state**2)) @ W.T)
    return np.stack(gradients[::-1])


def _step_back(gradient, state, W):
    return (gradient * (1 - state**2)) @ W.T


def _back(last, h, W, slope=lambda state: 1 - state**2, shift=0, kernel_first=False):
    """Backpropagate with one of the usual mistakes."""
    gradients = [last]
    for t in range(len(h) - 1, 0, -1):
        factor = slope(h[t - shift])
        gradients.append((gradients[-1] @ W.T) * factor if kernel_first else (gradients[-1] * factor) @ W.T)
    return np.stack(gradients[::-1])


def _each_from_last(last, h, W):
    return np.stack([*(_step_back(last, state, W) for state in h[1:]), last])


def _without_row_0(last, h, W):
    gradients = backpropagate_states(last, h, W)
    gradients[0] = 0
    return gradients


def _down_to_step_0(last, h, W):
    gradients = backpropagate_states(last, h, W)
    gradients[-1] = _step_back(gradients[0], h[0], W)
    return gradients


def _one_step_too_many(last, h, W):
    gradients = backpropagate_states(last, h, W)
    return np.stack([_step_back(gradient, state, W) for gradient, state in zip(gradients, h, strict=True)])


def _last_two_rows(last, h, W):
    gradients = backpropagate_states(last, h, W)
    gradients[:-2] = 0
    return gradients


_BACKPROPAGATION_MISTAKES = (
    Mistake(
        "the order is reversed: row 0 should be the gradient at the first step, row -1 should be `last`.",
        lambda *given: backpropagate_states(*given)[::-1],
    ),
    Mistake(
        "W stands the wrong way round. Forward, h_{t-1} is multiplied by W from the right; going back, by W.T.",
        lambda last, h, W: _back(last, h, W.T),
    ),
    Mistake(
        "the slopes are missing. Before the kernel, the gradient passes through tanh, whose slope is 1 - h_t**2.",
        functools.partial(_back, slope=np.ones_like),
    ),
    Mistake(
        "the slope is taken at the wrong step: from h_t to h_{t-1} the gradient passes tanh at step t, not t-1.",
        functools.partial(_back, shift=1),
    ),
    Mistake("the slope of tanh is 1 - h**2, with a minus.", functools.partial(_back, slope=lambda state: 1 + state**2)),
    Mistake("the slope of tanh is 1 - h**2; yours is h**2 alone.", functools.partial(_back, slope=np.square)),
    Mistake("every row starts again from `last`. Row t - 1 is made of row t.", _each_from_last),
    Mistake("the slope of tanh is 1 - h**2, not 1 - h.", functools.partial(_back, slope=lambda state: 1 - state)),
    Mistake(
        "h has been through tanh already: the slope is 1 - h**2, without another tanh.",
        functools.partial(_back, slope=lambda state: 1 - np.tanh(state) ** 2),
    ),
    Mistake(
        "the kernel comes before the slope. Going back, the slope 1 - h_t**2 is met first, then W.T.",
        functools.partial(_back, kernel_first=True),
    ),
    Mistake(
        "the kernel comes before the slope, and the slope is that of h_{t-1}. Going back, the slope 1 - h_t**2 is met "
        "first, then W.T.",
        functools.partial(_back, shift=1, kernel_first=True),
    ),
    Mistake(
        "the Jacobian is not transposed. Going back, the gradient is multiplied by the transpose of dh_t/dh_{t-1}.",
        lambda last, h, W: _back(last, h, W.T, kernel_first=True),
    ),
    Mistake("row 0 is empty: the loop stops one step early. It has to reach t = 1, which fills row 0.", _without_row_0),
    Mistake(
        "the last row should be `last`. A loop that reaches t = 0 writes into row t - 1 = -1, and that is the last.",
        _down_to_step_0,
    ),
    Mistake(
        "`last` has gone through a step already. It is the gradient at the last step itself: row -1.",
        _one_step_too_many,
    ),
    Mistake(
        "all rows are 0: nothing was put into the last one, `last`, before the loop.",
        lambda last, h, W: np.zeros_like(h),
    ),
    Mistake(
        "only the last two rows are filled. Either the loop runs forwards, though row t - 1 is made of row t, or its "
        "`return` stands inside it.",
        _last_two_rows,
    ),
)


def _examine_backpropagation(answer):
    draw = np.random.default_rng(0)
    h, W, last = np.tanh(draw.normal(size=(6, 3))), draw.normal(size=(3, 3)), draw.normal(size=3)
    received = np.asarray(answer(last, h, W), dtype=float)
    if received.shape == (5, 3):
        raise NotYet("you return 5 gradients for 6 steps. The last step has one too: it is `last` itself.")
    reject_known_mistakes(received, _BACKPROPAGATION_MISTAKES, last, h, W)
    close(backpropagate_states(last, h, W), what="what you return")(received)


# --- a rate from the kernel ---------------------------------------------------------------------------------------


def predicted_rate(W, h):
    """Predict the factor per step: spectral radius of the kernel times the mean slope of tanh."""
    return np.abs(np.linalg.eigvals(W)).max() * np.mean(1 - h**2)


def _radius(W):
    return np.abs(np.linalg.eigvals(W)).max()


def _slope(h):
    return np.mean(1 - h**2)


_RATE_MISTAKES = (
    Mistake(
        "that is the largest singular value times the slope. The spectral radius is about eigenvalues.",
        lambda W, h: np.linalg.svd(W)[1][0] * _slope(h),
    ),
    Mistake(
        "that takes the root of the sum of all squares of W, which is no eigenvalue. The spectral radius is the "
        "largest absolute value of np.linalg.eigvals(W).",
        lambda W, h: np.linalg.norm(W) * _slope(h),
    ),
    Mistake(
        "the slopes are added up. Average them, for a rate is what one step does.",
        lambda W, h: _radius(W) * np.sum(1 - h**2),
    ),
    Mistake(
        "that is the spectral radius alone. Each step also passes through tanh: multiply by the mean slope.",
        lambda W, h: _radius(W),
    ),
    Mistake("that is the mean slope alone. Each step also passes through the kernel.", lambda W, h: _slope(h)),
    Mistake(
        "that takes the largest real part. Eigenvalues are complex: the radius is the largest absolute value.",
        lambda W, h: np.linalg.eigvals(W).real.max() * _slope(h),
    ),
    Mistake(
        "that is one of the eigenvalues, but not the largest: they come in no order, and `max` goes by real parts. "
        "Take absolute values first, then the largest.",
        lambda W, h: np.abs(np.linalg.eigvals(W).max()) * _slope(h),
    ),
    Mistake(
        "`eigvalsh` is for symmetric matrices, which a kernel is not. Use np.linalg.eigvals.",
        lambda W, h: np.abs(np.linalg.eigvalsh(W)).max() * _slope(h),
    ),
    Mistake(
        "`eig` returns two things, and that takes the second, the vectors. The eigenvalues come first.",
        lambda W, h: np.abs(np.linalg.eig(W)[1]).max() * _slope(h),
    ),
    Mistake(
        "that averages the absolute eigenvalues. The largest one wins in the long run.",
        lambda W, h: np.abs(np.linalg.eigvals(W)).mean() * _slope(h),
    ),
    Mistake("the slope of tanh is 1 - h**2, not 1 - h.", lambda W, h: _radius(W) * np.mean(1 - h)),
    Mistake(
        "the slope of tanh is 1 - h**2, with a square instead of the absolute value.",
        lambda W, h: _radius(W) * np.mean(1 - np.abs(h)),
    ),
    Mistake("that takes the largest slope. Average them.", lambda W, h: _radius(W) * np.max(1 - h**2)),
    Mistake(
        "that averages the slopes at the last step only. Average over all steps.",
        lambda W, h: _radius(W) * _slope(h[:, -1]),
    ),
    Mistake(
        "h has been through tanh already: the slope is 1 - h**2, without another tanh.",
        lambda W, h: _radius(W) * _slope(np.tanh(h)),
    ),
    Mistake(
        "average the slopes 1 - h**2; that is not 1 minus the square of the average.",
        lambda W, h: _radius(W) * (1 - np.mean(h) ** 2),
    ),
)


def _examine_rate(answer):
    draw = np.random.default_rng(1)
    W, h = draw.normal(size=(8, 8)), draw.normal(size=(4, 10, 8))
    h = np.tanh(h + 0.3 * np.sign(h))  # no slope is 1
    # Eigenvalues 3 + i, -3 + 4i and their conjugates: the largest is not the first, nor has it the largest real part.
    W[:4] = 0
    W[:2, :2], W[2:4, 2:4] = [[3, 1], [-1, 3]], [[-3, 4], [-4, -3]]
    received = np.asarray(answer(W, h), dtype=complex)
    if received.shape != ():
        raise NotYet(
            f"the rate is one number; received an array of shape {received.shape}. Average over all axes of h."
        )
    reject_known_mistakes(received, _RATE_MISTAKES, W, h)
    if abs(received.imag) > 1e-9:
        raise NotYet("the rate came out complex. Take the absolute value of the eigenvalues first.")
    close(predicted_rate(W, h), what="the rate")(received.real)


# --- a kernel of your own -----------------------------------------------------------------------------------------


def my_kernel(units, seed):
    """Draw an orthogonal matrix and scale it by 1.2: the gain makes up for the slopes of tanh."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(units, units)))
    return 1.2 * q * np.sign(np.diag(r))


def kernel_ratio(kernel, seed):
    """Measure an untrained tanh SimpleRNN with this recurrent kernel: |dL/dh_0| / |dL/dh_99|, and its mean slope."""
    from rnnkit import probes, tasks
    from rnnkit._backend import keras

    x, y = tasks.adding_problem(n=32, length=100, seed=seed)
    glorot = [keras.initializers.GlorotUniform(seed=seed + offset) for offset in (0, 1000)]
    rnn = keras.layers.SimpleRNN(len(kernel), kernel_initializer=glorot[0], name="rnn")
    model = keras.Sequential([keras.Input((100, 2)), rnn, keras.layers.Dense(1, kernel_initializer=glorot[1])])
    model.compile(loss="mse")
    weights = rnn.get_weights()
    rnn.set_weights([weights[0], kernel, weights[2]])
    norms = probes.state_gradient_norms(model, x, y)()["rnn"]
    h, slopes = np.zeros((len(x), len(kernel))), []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ weights[0] + h @ kernel + weights[2])
        slopes.append(np.mean(1 - h**2))
    return float(norms[0] / norms[-1]), np.mean(slopes)


def _examine_kernel(answer):
    kernels = [answer(32, seed) for seed in range(5)]
    if any(map(callable, kernels)):
        raise NotYet("that is an initializer, not yet a kernel. Call it: initializer((units, units)).")
    kernels = [np.asarray(kernel, dtype=float) for kernel in kernels]
    for kernel in kernels:
        if kernel.shape != (32, 32):
            raise NotYet(f"return a matrix (units, units), here (32, 32); received shape {kernel.shape}.")
        if not np.isfinite(kernel).all():
            raise NotYet("the matrix holds NaN or infinite numbers.")
    if np.shape(answer(8, 0)) != (8, 8):
        raise NotYet("asked for 8 units, it returns a matrix of another size. Use `units`, for other networks.")
    if not np.array_equal(np.asarray(answer(32, 0), dtype=float), kernels[0]):
        raise NotYet("asked twice with the same seed, it returns two different matrices. Draw them from `seed`.")
    ratios, slopes = np.transpose([kernel_ratio(kernel, seed) for seed, kernel in enumerate(kernels)])
    middle, slope = np.median(ratios), np.median(slopes)
    shown = f"first over last is {middle:.1g} in the median of five seeds"
    if middle < 1 / 30 and kernel_ratio(1.2 * kernels[0], 0)[0] <= ratios[0]:
        raise NotYet(
            f"{shown}: it still vanishes, and 1.2 times this matrix does no better. (The slopes of tanh are "
            f"{slope:.2g} in the mean.) Try another kind of matrix, one that turns the state."
        )
    if middle < 1 / 30:
        raise NotYet(
            f"{shown}: it still vanishes. The slopes of tanh take a factor of {slope:.2g} at each step, in the mean. "
            "Try a larger gain, or another kind of matrix."
        )
    if middle > 30:
        raise NotYet(f"{shown}: it explodes. Try a smaller gain.")
    same = all(np.array_equal(kernel, kernels[0]) for kernel in kernels)
    return f"Measured, {shown}." + (" (All five seeds give the same matrix.)" if same else "")


EXERCISES = (
    Exercise(
        "backpropagate_states",
        (
            "Start from `last` and a list that holds it; loop over t from the last step down to 1.",
            "One step back is: times the slope 1 - h[t]**2, then `@ W.T`. Append it; at the end reverse the list.",
        ),
        backpropagate_states,
        _examine_backpropagation,
    ),
    Exercise(
        "predicted_rate",
        (
            "The spectral radius is the largest absolute value among `np.linalg.eigvals(W)`.",
            "The mean slope is `np.mean(1 - h**2)`, over every example, step and unit. Return the product.",
        ),
        predicted_rate,
        _examine_rate,
    ),
    Exercise(
        "gain_of_two",
        (
            "Each step multiplies the gradient by the kernel *and* by the slopes 1 - h**2. What does a larger "
            "kernel do to h?",
            "A larger kernel drives the units towards -1 and 1, where the slope is small; but not all of them at once.",
        ),
        "b",
        choice(
            "b",
            {
                "a": "That is the kernel alone. A larger kernel also pushes the units towards -1 and 1, where the "
                "slope of tanh is small: part of the factor 2 is lost at every step.",
                "b": "The slopes take back most of the factor 2, but not all. The next cell measures what is left.",
                "c": "Units do saturate, but never all of them at once; the gradient passes through those that do not.",
            },
        ),
    ),
    Exercise(
        "my_kernel",
        (
            "An orthogonal matrix loses a few percent a step to the slopes of tanh. What if it were a little larger?",
            "`q, r = np.linalg.qr(rng.normal(size=(units, units)))`: q is orthogonal. Try gains from 1 to 1.5.",
        ),
        my_kernel,
        _examine_kernel,
    ),
    Exercise(
        "quiz_01",
        (
            "Each question has its answer in the section whose heading it echoes.",
            "The letters, in some order, are two b, one a and two c.",
        ),
        ["b", "c", "a", "c", "b"],
        quiz(
            choice(
                "b",
                {
                    "b": "The later states are held fixed there; the total derivative goes through all of them.",
                    "a": "It is right as far as it goes: the derivative with other outputs held fixed, a direct path.",
                    "c": "Float32 is fine there; the zeros stay in float64, because no direct path exists.",
                },
            ),
            choice(
                "c",
                {
                    "c": "No vector is stretched by more than the largest singular value at any step.",
                    "a": "A radius below 1 speaks of the long run only. The chain of this lesson grew for 50 steps.",
                    "b": "It is the other way round: the largest singular value below 1 makes vanishing certain.",
                },
            ),
            choice(
                "a",
                {
                    "a": "A larger kernel makes larger states, and those have smaller slopes.",
                    "b": "1.5 is the kernel's factor. Saturated units have small slopes, which take most of it back.",
                    "c": "They saturate in part only; measured, the gradient grew.",
                },
            ),
            choice(
                "c",
                {
                    "c": "The same matrix acts at every step, and its gradient is the sum of all their shares.",
                    "a": "The sum adds up near and far; its size says nothing of how it is made up.",
                    "b": "Far steps do contribute, but where the gradient vanishes by far too little to be seen.",
                },
            ),
            choice(
                "b",
                {
                    "b": "Training enlarges the gradient of the early steps itself; until it has, nothing is learned.",
                    "a": "It did learn, late: training itself enlarged the gradient. Vanishing is a delay, one that "
                    "grows fast with the distance.",
                    "c": "Nothing was changed but the recurrent kernel's initial values.",
                },
            ),
        ),
    ),
)
