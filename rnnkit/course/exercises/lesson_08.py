"""What is known of the exercises of lesson 08, stacked RNNs."""

import functools
import math
from numbers import Integral, Real

import numpy as np

from rnnkit.course.exercises import Exercise, Mistake, NotYet, choice, close, quiz, reject_known_mistakes

# --- paths through the grid ---------------------------------------------------------------------------------------


def count_paths(layers, steps):
    """Count the ways from the lowest layer's first state to the highest layer's last one."""
    ways = np.ones((layers, steps), dtype=int)
    for layer in range(1, layers):
        for t in range(1, steps):
            ways[layer, t] = ways[layer - 1, t] + ways[layer, t - 1]
    return int(ways[-1, -1])


_PATHS_MISTAKES = (
    Mistake(
        "that is the length of a path, the moves on it. How many paths of that length are there.",
        lambda layers, steps: layers + steps - 2,
    ),
    Mistake(
        "that is the number of states in the grid, not of the ways through it.", lambda layers, steps: layers * steps
    ),
    Mistake(
        "that counts every row of moves up or on, also those that leave the grid. Of its moves, "
        "exactly layers - 1 go up.",
        lambda layers, steps: 2 ** (layers + steps - 2),
    ),
    Mistake(
        "that is a grid one line larger each way: from layer 1 to layer 4 there are 3 moves up.",
        lambda layers, steps: math.comb(layers + steps, layers),
    ),
    Mistake(
        "that is one layer too many: from layer 1 to layer 4 there are 3 moves up, not 4.",
        lambda layers, steps: math.comb(layers + steps - 1, layers),
    ),
    Mistake(
        "that is one step too many: from step 1 to step 6 there are 5 moves on, not 6.",
        lambda layers, steps: math.comb(layers + steps - 1, steps),
    ),
    Mistake(
        "that chooses `steps` of the moves. From step 1 to step 6 there are 5 moves on, steps - 1.",
        lambda layers, steps: math.comb(layers + steps - 2, steps),
    ),
    Mistake(
        "that chooses `layers` of the moves. From layer 1 to layer 4 there are 3 moves up, layers - 1.",
        lambda layers, steps: math.comb(layers + steps - 2, layers),
    ),
    Mistake(
        "that counts the orders of all moves, as if each were another one. Two moves up are the same move, so divide.",
        lambda layers, steps: math.factorial(layers + steps - 2),
    ),
)


def _examine_paths(answer):
    for layers, steps in ((4, 6), (3, 5), (2, 7)):
        received = np.asarray(answer(layers, steps))
        if received.shape != ():
            raise NotYet(f"the number of paths is one number; received an array of shape {received.shape}.")
        received, expected = float(received), count_paths(layers, steps)
        if not np.isclose(received, expected):  # where a wrong formula gives the right number, it is no mistake
            reject_known_mistakes(received, _PATHS_MISTAKES, layers, steps)
        close(expected, what=f"the count for {layers} layers and {steps} steps")(received)
    if float(np.asarray(answer(1, 9))) != 1 or float(np.asarray(answer(9, 1))) != 1:
        raise NotYet("with one layer, or with one step, there is exactly one path. Yours gives another number there.")


# --- skips, wired by hand -----------------------------------------------------------------------------------------


def wire(x, layers, skips):
    """Put layers on top of each other, with the skips asked for."""
    from rnnkit._backend import keras

    reads = x
    for place, layer in enumerate(layers):
        says = layer(reads)
        if skips == "residual" and place > 0:
            reads = keras.layers.add([reads, says])
        elif skips == "dense":
            reads = keras.layers.concatenate([reads, says])
        else:
            reads = says
    return reads


def _fake_layer(seed, units=4):
    """Return a function (batch, time, any width) -> (batch, time, units), in place of a recurrent layer."""
    from rnnkit._backend import keras

    def layer(reads):
        kernel = np.random.default_rng(seed).normal(size=(reads.shape[-1], units)).astype("float32")
        return keras.ops.tanh(keras.ops.matmul(reads, kernel))

    return layer


def _tensor(x):
    from rnnkit._backend import keras

    return keras.ops.convert_to_tensor(x)


def _numbers(tensor):
    from rnnkit._backend import keras

    return np.asarray(keras.ops.convert_to_numpy(tensor), dtype=float)


def _says(layer, reads):
    """Return what a layer says to what it reads, computed in its float32."""
    return _numbers(layer(_tensor(reads.astype("float32"))))


def _stacked(x, layers):
    """Stack the layers plainly; return x and what each layer says."""
    said = [x.astype(float)]
    for layer in layers:
        said.append(_says(layer, said[-1]))
    return said


def _beside(*things):
    return np.concatenate(things, axis=-1)


def _summed(x, layers, first):
    """Wire with sums from layer `first` on; return what comes out, or None if the widths are not equal."""
    reads = x.astype(float)
    for place, layer in enumerate(layers):
        says = _says(layer, reads)
        if place >= first and says.shape != reads.shape:
            return None
        reads = reads + says if place >= first else says
    return reads


def _last_sum_missing(x, layers):
    return _says(layers[-1], _summed(x, layers[:-1], first=1))


def _sum_on_top_only(x, layers):
    *_, below, top = _stacked(x, layers)
    return below + top


def _top_layer_only(x, layers):
    heard = [x.astype(float)]
    for layer in layers:
        heard.append(_says(layer, _beside(*heard)))
    return heard[-1]


def _without_x(x, layers):
    said = [_says(layers[0], x)]
    for layer in layers[1:]:
        said.append(_says(layer, _beside(*said)))
    return _beside(*said)


def _newest_first(x, layers):
    reads = x.astype(float)
    for layer in layers:
        reads = _beside(_says(layer, reads), reads)
    return reads


def _latest_pair(x, layers):
    pair = says = x.astype(float)
    for layer in layers:
        before, says = says, _says(layer, pair)
        pair = _beside(before, says)
    return pair


_WIRE_MISTAKES = {
    "none": (
        Mistake(
            'skips="none": without skips the layers only stand on each other; nothing is added.',
            functools.partial(_summed, first=1),
        ),
    ),
    "residual": (
        Mistake(
            'skips="residual": nothing is skipped, this is the plain stack.', lambda x, layers: _stacked(x, layers)[-1]
        ),
        Mistake(
            'skips="residual": the last sum is missing: what the highest layer reads is added to what *it* says, too.',
            _last_sum_missing,
        ),
        Mistake(
            'skips="residual": only what comes out on top gets something added. Each layer but the first has its own '
            "skip, and the next layer reads the sum.",
            _sum_on_top_only,
        ),
        Mistake(
            'skips="residual": a skip goes around the first layer too. That one reads x, which is no state: leave it '
            "out.",
            functools.partial(_summed, first=0),
        ),
    ),
    "dense": (
        Mistake(
            'skips="dense": nothing is skipped, this is the plain stack.', lambda x, layers: _stacked(x, layers)[-1]
        ),
        Mistake(
            'skips="dense": only the highest layer\'s own states come out. What comes out on top is everything side by '
            "side, so that the head too has a short way to each layer.",
            _top_layer_only,
        ),
        Mistake(
            'skips="dense": x itself is left out. It is what the lowest layer reads, and all others read it too.',
            _without_x,
        ),
        Mistake(
            'skips="dense": the right parts, in the other order. Put what was read first and what is said after it: '
            "`concatenate([reads, says])`.",
            _newest_first,
        ),
        Mistake(
            'skips="dense": things are put side by side only at the end. Each layer already reads all that is below '
            "it.",
            lambda x, layers: _beside(*_stacked(x, layers)),
        ),
        Mistake(
            'skips="dense": each layer reads only the two latest things. A dense stack forgets nothing: x and all '
            "layers below.",
            _latest_pair,
        ),
    ),
}


def _examine_wire(answer):
    draw = np.random.default_rng(0)
    layers = [_fake_layer(seed) for seed in range(3)]
    for width in (4, 3):  # with 4, a skip around the first layer shows as a number and not as an error
        x = draw.normal(size=(2, 5, width)).astype("float32")
        for skips in ("none", "residual", "dense"):
            if width == 3 and skips == "residual":
                received = _called(answer, x, layers, skips)
            else:
                received = _as_numbers(answer, x, layers, skips)
            reject_known_mistakes(received, _WIRE_MISTAKES[skips], x, layers, atol=1e-5)
            expected = _numbers(wire(_tensor(x), layers, skips))
            if skips == "dense" and sorted(received[0, 0]) == sorted(expected[0, 0]):
                continue  # the same things side by side, in another order
            close(expected, what=f'what comes out for skips="{skips}"')(received)


def _called(answer, x, layers, skips):
    """Run an answer where a sum of unequal widths would be an error."""
    try:
        return _as_numbers(answer, x, layers, skips)
    except (ValueError, TypeError, NotYet):
        raise
    except Exception:
        raise NotYet(
            'skips="residual" does not run when x is not as wide as the layers. What the first layer reads is of '
            "another kind: no skip goes around it."
        ) from None


def _as_numbers(answer, x, layers, skips):
    try:
        received = answer(_tensor(x), layers, skips)
    except ValueError as error:
        if skips == "residual" and "shape" in str(error):
            raise NotYet(
                'skips="residual" adds things of unequal width. What the first layer reads is of another kind, x: no '
                "skip goes around it."
            ) from None
        raise
    if isinstance(received, list | tuple):
        raise NotYet("you return a list. Return what comes out on top: one tensor (batch, time, width).")
    return _numbers(received)


# --- a linear probe -----------------------------------------------------------------------------------------------


def linear_probe(states, labels):
    """Fit a linear read-out on the first half of the sequences; return its accuracy on the second half."""
    half = len(states) // 2
    inputs = np.concatenate([states, np.ones((*states.shape[:2], 1))], axis=-1)
    train, test = (part.reshape(-1, part.shape[-1]) for part in (inputs[:half], inputs[half:]))
    wanted, truth = labels[:half].ravel(), labels[half:].ravel()
    weights = np.linalg.lstsq(train, np.eye(labels.max() + 1)[wanted], rcond=None)[0]
    return float(np.mean((test @ weights).argmax(axis=-1) == truth))


def _examine_probe(answer):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, size=(60, 5))
    clear = np.eye(3)[labels] @ draw.normal(size=(3, 6)) + 4 + 0.01 * draw.normal(size=(60, 5, 6))
    received = np.asarray(answer(clear, labels))
    if received.shape != ():
        raise NotYet(f"the accuracy is one number; received an array of shape {received.shape}.")
    if np.isclose(received, 100):
        raise NotYet("give the accuracy as a fraction from 0 to 1, not in percent.")
    if not np.isclose(received, 1):
        if np.isclose(received, 0, atol=0.02):
            raise NotYet(
                f"on states from which the label can be read without an error, you return {received:.2f}: that is the "
                "error. Return the accuracy, the share of right answers."
            )
        if 0 <= received < 0.7:
            raise NotYet(
                f"on states from which the label can be read linearly, you reach {received:.2f} and not 1. Is a column "
                "of ones among the inputs? Does the largest of the three outputs decide?"
            )
        raise NotYet(
            f"on states from which the label can be read without an error, you return {received:.3g} and not 1."
        )
    # Noise, with more inputs than it takes to learn every label of the first half by heart.
    noise = draw.normal(size=(40, 2, 60))
    chance = float(answer(noise, draw.integers(0, 3, size=(40, 2))))
    if chance > 0.8:
        raise NotYet(
            f"on pure noise you report an accuracy of {chance:.2f}: the probe is scored on the sequences it was fitted "
            "on. Fit on the first half, score on the second."
        )
    # The second half lacks a class: who fits on it does not know that one.
    fewer = np.concatenate([labels[:30], labels[30:] % 2])
    known = np.eye(3)[fewer] @ draw.normal(size=(3, 6)) + 0.01 * draw.normal(size=(60, 5, 6))
    if float(answer(known, fewer)) < 0.9:
        raise NotYet("you fit on the second half and score on the first. Fit on the first half, score on the second.")
    # Each state as loud as it likes: the largest of three outputs is right, one rounded number is not.
    loud = np.eye(3)[labels] * draw.uniform(0.2, 3, size=(60, 5, 1))
    if float(answer(loud, labels)) < 0.85:
        raise NotYet(
            "you fit one number to the label and round it, as if class 1 lay between 0 and 2. Give each class an "
            "output of its own (one-hot labels), and let the largest decide."
        )
    # Early and late steps use other units: who fits on the early ones does not know the late ones.
    moved = np.zeros((60, 5, 6))
    moved[:, :2, :3], moved[:, 2:, 3:] = np.eye(3)[labels[:, :2]], np.eye(3)[labels[:, 2:]]
    if float(answer(moved + 0.01 * draw.normal(size=moved.shape), labels)) < 0.85:
        raise NotYet(
            "you fit on the first half of the *time steps*. Fit on the first half of the sequences, all their steps, "
            "and score on the other sequences."
        )
    bent = np.abs(labels - 1.0)[..., None] + 0.01 * draw.normal(size=(60, 5, 1))
    if float(answer(bent, labels)) > 0.85:
        raise NotYet(
            "you read labels that no *linear* read-out can tell apart. A probe with a hidden layer computes a feature "
            "itself; what is asked is whether the layer has done so."
        )
    close(linear_probe(clear[:, :, :2], labels), rtol=0.12, what="the accuracy on states of two units")(
        float(answer(clear[:, :, :2], labels))
    )


# --- a stack of one's own -----------------------------------------------------------------------------------------

MOST_PARAMETERS = 5_000
UPDATES = 300
LENGTH = 12
ENOUGH = 0.95

my_stack = {"depth": 1, "skips": "none", "units": 32, "rate": 0.02}


def parameters(depth, skips, units):
    """Count the weights of a stack of GRUs that reads three digits."""
    total, reads = 0, 3
    for _ in range(depth):
        total += 3 * units * (reads + units + 2)
        reads = reads + units if skips == "dense" else units
    return total


def train_stack(seed, depth, skips, units, rate):
    """Train on the double sum, as the lesson does; return the accuracy on fresh sequences."""
    import rnnkit
    from rnnkit._backend import keras

    layers = [keras.layers.GRU(units, return_sequences=True) for _ in range(depth)]
    stack = rnnkit.layers.StackedRNN(layers, skips)
    model = keras.Sequential([keras.Input((LENGTH, 3)), stack, keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), loss)
    x, y = rnnkit.tasks.double_sum(n=3_000, length=LENGTH, seed=seed)
    model.fit(x, y, batch_size=50, epochs=UPDATES // 60, verbose=0)
    x, y = rnnkit.tasks.double_sum(n=1_000, length=LENGTH, seed=1_000_000)
    return {"accuracy": np.mean(model.predict(x, batch_size=1_000, verbose=0).argmax(axis=-1) == y)}


@functools.cache
def accuracy_of(depth, skips, units, rate):
    """Return the accuracy of two seeds, trained in worker processes."""
    from rnnkit import sweeps

    settings = {"depth": [depth], "skips": [skips], "units": [units], "rate": [rate]}
    return tuple(sweeps.sweep(train_stack, seeds=[0, 1], **settings).values("accuracy").tolist())


def _examine_stack(answer):
    names = list(my_stack)
    if not isinstance(answer, dict) or sorted(answer) != sorted(names):
        raise NotYet(f"give a dict with the keys {', '.join(names)}; received {answer!r}.")
    depth, skips, units, rate = (answer[name] for name in names)
    whole = all(isinstance(size, Integral) and not isinstance(size, bool) and size >= 1 for size in (depth, units))
    if not whole or skips not in ("none", "residual", "dense") or not isinstance(rate, Real) or not rate > 0:
        raise NotYet(
            f'depth and units are whole numbers, skips is "none", "residual" or "dense", rate is above 0; '
            f"received {answer!r}."
        )
    weights = parameters(depth, skips, units)
    if weights > MOST_PARAMETERS:
        more = " In a dense stack each layer reads all below it: that is where they go." if skips == "dense" else ""
        raise NotYet(f"this stack has {weights:,} weights; at most {MOST_PARAMETERS:,} are allowed.{more}")
    reached = accuracy_of(depth, skips, units, float(rate))
    shown = f"{weights:,} weights; measured accuracy of two seeds, {reached[0]:.2f} and {reached[1]:.2f}"
    if min(reached) < ENOUGH:
        if max(reached) < 0.45 and depth >= 5 and skips == "none":
            advice = "so deep, and without skips, the lesson's stacks learned nothing in 300 updates"
        elif max(reached) < 0.45 and rate > 0.03:
            advice = "that rate is too high to settle"
        elif rate < 0.006:
            advice = f"{UPDATES} updates are few for so low a rate"
        else:
            advice = "try more units in fewer layers, a rate between 0.01 and 0.02, or other skips"
        raise NotYet(f"{shown}; both have to reach {ENOUGH}. Look at your choice once more: {advice}.")
    return f"{shown}."


EXERCISES = (
    Exercise(
        "count_paths",
        (
            "Two moves lead into a state: from the state on its left, and from the one below. Add up the ways.",
            "Make an array of ones, (layers, steps). For each layer from 1 on and each step from 1 on: "
            "`ways[layer, t] = ways[layer - 1, t] + ways[layer, t - 1]`. (Or use math.comb.)",
        ),
        count_paths,
        _examine_paths,
    ),
    Exercise(
        "wire",
        (
            "Start from the plain loop. What does the next layer read: what this one says, a sum, or both together?",
            "For residual, from the second layer on, `reads = keras.layers.add([reads, says])`; for dense, always, "
            "`reads = keras.layers.concatenate([reads, says])`.",
        ),
        wire,
        _examine_wire,
    ),
    Exercise(
        "linear_probe",
        (
            "Each state of each sequence is one example: reshape to (examples, units), add a column of ones.",
            "`np.linalg.lstsq(train, np.eye(3)[labels], rcond=None)[0]` fits; the largest of the three outputs "
            "decides. Fit on the first half of the sequences, score on the second. (Or use LogisticRegression.)",
        ),
        linear_probe,
        _examine_probe,
    ),
    Exercise(
        "one_layer_faster",
        (
            "What did the low rate do to one layer: keep it from *representing* the answer, or from getting there?",
            "A recurrent layer of 24 units has room for nine cases. What it lacked was progress per update.",
        ),
        "c",
        choice(
            "c",
            {
                "a": "That would be so if one layer had no room for the answer. It is nine cases, two sums of three "
                "values each, and 24 units have room for them.",
                "b": "Too high a rate does harm, but 0.01 and 0.02 are not too high for one layer. Look at the sweep.",
                "c": "One layer has room for nine cases; at the lower rate it had not got there yet.",
            },
        ),
    ),
    Exercise(
        "my_stack",
        (
            "Few layers leave more weights for each. What did one layer reach at other rates, and which skips did well "
            "at two?",
            "One layer of 32 units has 3,552 weights, and at a rate of 0.02 it is enough: "
            '{"depth": 1, "skips": "none", "units": 32, "rate": 0.02}.',
        ),
        my_stack,
        _examine_stack,
    ),
    Exercise(
        "quiz_08",
        (
            "Each question has its answer in the section whose heading it echoes.",
            "Ask of each answer: which printed number or which figure of this lesson speaks for it, and which against?",
        ),
        ["b", "b", "a", "c", "b"],
        quiz(
            choice(
                "b",
                {
                    "a": "A fresh network is far from saturated, at any step. What differs between the two is the "
                    "number of paths that lead to them.",
                    "c": "It is some thousandth of the top layer's: small, but far above what float32 rounds to zero.",
                },
            ),
            choice(
                "b",
                {
                    "a": "Within a layer the way through time has one factor for each step, with skips as without.",
                    "c": "A residual connection skips a layer at one step; it does not skip any steps.",
                },
            ),
            choice(
                "a",
                {
                    "b": "Any number of units will do. The time axis is missing: the lower layer gave one state only.",
                    "c": "More layers would read just the same thing. What is missing is the time axis.",
                },
            ),
            choice(
                "c",
                {
                    "a": "At the lower rate the second layer did help. One comparison at one rate shows just that.",
                    "b": "One layer solved it as soon as the rate was higher, so it has room enough.",
                },
            ),
            choice(
                "b",
                {
                    "a": "That was the decoder. The encoder with 8 plain layers trained, and reached 21.32.",
                    "c": "It trained, but it was not the best: the lecture itself names 2 to 4 layers for an encoder.",
                },
            ),
        ),
    ),
)
