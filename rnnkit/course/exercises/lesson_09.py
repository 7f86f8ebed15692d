"""What is known of the exercises of lesson 09, the gradient clinic."""

import inspect
import re
import textwrap

import numpy as np

from rnnkit.course.exercises import Exercise, Mistake, NotYet, choice, close, quiz, reject_known_mistakes

SEEDS = (0, 1)  # of the two trainings by which a model is examined


# --- diagnoses ------------------------------------------------------------------------------------------------------

DIAGNOSES = {1: "d", 2: "g", 3: "i", 4: "a", 5: "e", 6: "h", 7: "b", 8: "c"}

# For each patient what its charts show, without its diagnosis.
_SIGNS = {
    1: "the norms of its weights, which jump about, and the note in its last panel: where do its states stand?",
    2: "the norms of its weights: what happens to them from layer to layer?",
    3: "its loss, which is too good for what it is asked, and its last panel, to the right of the middle.",
    4: "its last panel: by which factor does the gradient fall at each step, from the very first backward step on?",
    5: "the dotted lines: what is left of the gradient after clipping?",
    6: "the grey band in its last panel: over which steps does the gradient have to travel, and what is there to read?",
    7: "its loss, and which way its last panel slopes.",
    8: "its last panel: about 0.6 of the gradient is left at each step. Which cell has a gate that starts at one half?",
}


def _examine_diagnoses(answer):
    if isinstance(answer, str | list | tuple):
        answer = dict(enumerate(answer, start=1))
    if not isinstance(answer, dict) or set(answer) != set(DIAGNOSES):
        raise NotYet("give a dict from the number of each patient, 1 to 8, to the letter of its illness.")
    given = {n: a.strip(" ().").lower() if isinstance(a, str) else a for n, a in answer.items()}
    for number, letter in given.items():
        if letter not in (*"abcdefghij", ..., None):
            raise NotYet(f"an illness is one of the letters a to j; received {letter!r} for patient {number}.")
    right = [n for n, letter in given.items() if letter == DIAGNOSES[n]]
    lines = [f"{len(right)} of 8 are right: {', '.join(map(str, right)) or 'none'}."]
    wrong = [n for n in given if n not in right]
    lines += [f"Patient {n}: look at {_SIGNS[n]}" for n in wrong]
    if wrong:
        raise NotYet("\n".join(lines))
    return "All eight. Now cure them."


# --- models, trained and scored -------------------------------------------------------------------------------------


def _built(answer):
    """Return the learner's own function and a model of it; refuse what cannot be trained."""
    import keras

    if not callable(answer) or isinstance(answer, keras.Model):
        raise NotYet("pass the function that makes the model, without calling it.")
    model = answer(0)  # guarded: a stub is no attempt, and an exception is told with its line
    if not isinstance(model, keras.Model):
        raise NotYet(f"the function should return a compiled Keras model; it returned a {type(model).__name__}.")
    if getattr(model, "optimizer", None) is None:
        raise NotYet("the model is not compiled. End with model.compile(...) and return model.")
    return inspect.unwrap(answer), model


def _trained(name, function, model):
    """Train a model of a case with two seeds in worker processes; return the accuracies."""
    from rnnkit import sweeps
    from rnnkit.course import clinic

    case = clinic.CASES[name]
    if not model.built or not model.weights:
        raise NotYet("the model has no weights yet. Begin with keras.Input, as the patient does.")
    if model.count_params() > case.weights:
        raise NotYet(f"the model has {model.count_params():,} weights; {case.weights:,} are allowed here.")
    expected, received = clinic.data(name)[0][0].shape[1:], tuple(model.input_shape[1:])
    if len(expected) != len(received) or any(r not in (None, e) for e, r in zip(expected, received, strict=True)):
        raise NotYet(f"the model reads {received} each; the data are {expected}. The data are not yours to change.")
    try:
        result = sweeps.sweep(clinic.trial, seeds=SEEDS, name=[name], make=[function])
    except sweeps.SweepError as error:
        raise NotYet(f"the model could not be trained: {error.failures[0][2]}") from None
    if not result.values("finite").all():
        raise NotYet("it ends in NaN: the gradient still explodes.")
    return result.values("accuracy")


def _percent(accuracies):
    return " and ".join(f"{100 * value:.0f} %" for value in accuracies)


# What is still wrong, in the words of the lesson that treats it.
_ADVICE = {
    1: "Look at the states before training: how many are at -1 or 1? Pixels of a hundred times a kernel of 0.3 "
    "saturate any tanh. A smaller learning rate does not bring them back.",
    2: "Compare the gradient of the first layer with that of the last. It needs another way round the sixteen layers, "
    "or to be brought back to size at each, or fewer layers.",
    3: "Scored as a language model is used, with the future replaced by something else. Does any layer still read from "
    "right to left, or look ahead?",
    4: "Look at dL/dh_1 against dL/dh_24: is there a path over 23 steps? A different learning rate makes none.",
    5: "What is left of a gradient after clipping, times the rate, times 450 updates: how far can a weight travel?",
    6: "Between the last letter and the answer lie over thirty zeros. Skip them, or give the gradient a way past them.",
    7: "Look at the recorded norms: which steps are far longer than the others? Or at each step's factor.",
    8: "What is left of a memory after 29 steps? At a forget gate of one half, 0.5^29 is about 2e-9. Even 0.73^29, "
    "from Keras's bias of 1, is only about 1e-4: it passes with some seeds. The bias of that gate is what counts.",
}


def _examine_patient(number):
    def examine(answer):
        from rnnkit.course import clinic  # here, for the list of exercises does without Keras

        case = clinic.PATIENTS[number]
        function, model = _built(answer)
        if clinic.unchanged(number, model):
            raise NotImplementedError("This is the patient as it came in. Change its model or its optimizer.")
        accuracies = _trained(number, function, model)
        if min(accuracies) < case.enough:
            raise NotYet(
                f"on held-out data {_percent(accuracies)} are right, with two seeds; "
                f"{100 * case.enough:.0f} % prove a cure. " + _ADVICE[number]
            )
        return f"Proved: at least {100 * case.enough:.0f} % right on held-out data with both seeds."

    return examine


_DESIGN_ADVICE = {
    "far": "The first mark lies up to 45 steps back. Which cell, with which initial values, carries a gradient so far?",
    "ahead": "What is asked lies to the right of where it is asked. Which direction do you read in? "
    "(A layer with go_backwards returns its outputs in the order in which it read: flip them back, or use "
    "Bidirectional.)",
    "sums": "A machine that knows both sums modulo 3 has nine states. Which cell counts well? "
    "Is a second layer worth its weights here, and a plain stack worth its way back?",
}


def _examine_unseen(name):
    def examine(answer):
        from rnnkit.course import clinic

        case = clinic.UNSEEN[name]
        function, model = _built(answer)
        steps = clinic.updates(name, model)
        if steps < 20:
            raise NotYet(
                f"{model.count_params():,} weights leave {steps} updates of a budget of {case.budget:,}. "
                "Make it smaller."
            )
        accuracies = _trained(name, function, model)
        spent = f"{model.count_params():,} weights, {steps} updates"
        if min(accuracies) < case.enough:
            raise NotYet(
                f"with {spent}, {_percent(accuracies)} of the held-out answers are right; "
                f"{100 * case.enough:.0f} % are asked for. {_DESIGN_ADVICE[name]}"
            )
        return f"{spent}: at least {100 * case.enough:.0f} % right on held-out data with both seeds."

    return examine


# --- the cures ------------------------------------------------------------------------------------------------------

CURES = {
    1: (
        (
            "What do states of exactly -1 and 1 say about what goes into the tanh?",
            "Pixels of a hundred drive the tanh to its ends. Which layer of Keras multiplies its input by a constant?",
            "keras.layers.Rescaling(1 / 255) before the rnn.",
        ),
        """
        def patient_1(seed):
            keras.utils.set_random_seed(seed)
            rescale = keras.layers.Rescaling(1 / 255)
            rnn = keras.layers.SimpleRNN(32)
            layers = [keras.Input((8, 8)), rescale, rnn, keras.layers.Dense(10)]
            return compiled(layers, keras.optimizers.SGD(0.1))
        """,
    ),
    2: (
        (
            "Lesson 06 has three answers; leaving layers out is a fourth.",
            "The residual one: what does a layer have to give besides layer(h), so that a gradient can pass unchanged?",
            "Add each layer's input to its output: x = x + dense(x).",
        ),
        """
        def patient_2(seed):
            keras.utils.set_random_seed(seed)
            x = keras.Input((64,))
            h = keras.layers.Dense(32, "tanh")(x)
            for _ in range(15):
                small = keras.initializers.RandomNormal(stddev=0.1)
                h = h + keras.layers.Dense(32, "tanh", kernel_initializer=small)(h)
            model = keras.Model(x, keras.layers.Dense(10)(h))
            model.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss)
            return model
        """,
    ),
    3: (
        (
            "Which character does the backward layer read just before it is asked at step t?",
            "It has read the very one it is to predict. Which part of the model reads from right to left?",
            "Take Bidirectional away.",
        ),
        """
        def patient_3(seed):
            keras.utils.set_random_seed(seed)
            embed, rnn = keras.layers.Embedding(96, 16), keras.layers.GRU(32, return_sequences=True)
            layers = [keras.Input((20,), dtype="int32"), embed, rnn, keras.layers.Dense(96)]
            return compiled(layers, keras.optimizers.Adam(0.01))
        """,
    ),
    4: (
        (
            "Lesson 01: which kernels do not shrink a gradient?",
            "The kernel that is ill was set by hand. What would Keras have put in its place?",
            "Keras's own orthogonal kernel: leave recurrent_initializer out.",
        ),
        """
        def patient_4(seed):
            keras.utils.set_random_seed(seed)
            layers = [keras.Input((24, 4)), keras.layers.SimpleRNN(32), keras.layers.Dense(4)]
            return compiled(layers, keras.optimizers.Adam(0.003, global_clipnorm=1.0))
        """,
    ),
    5: (
        (
            "Rate times threshold is the longest step.",
            "The norms before clipping are near 0.3. Which threshold would leave nearly all of them as they are?",
            "global_clipnorm=1.0",
        ),
        """
        def patient_5(seed):
            keras.utils.set_random_seed(seed)
            layers = [keras.Input((8, 8)), keras.layers.GRU(32), keras.layers.Dense(10)]
            return compiled(layers, keras.optimizers.SGD(0.3, global_clipnorm=1.0))
        """,
    ),
    6: (
        (
            "Lesson 07: what should a recurrent layer do where there is nothing to read?",
            "It should skip them. The layer that first sees the zeros can mark them for the others: which argument?",
            "mask_zero=True in the Embedding.",
        ),
        """
        def patient_6(seed):
            keras.utils.set_random_seed(seed)
            embed, rnn = keras.layers.Embedding(13, 8, mask_zero=True), keras.layers.GRU(32)
            layers = [keras.Input((40,), dtype="int32"), embed, rnn, keras.layers.Dense(4)]
            return compiled(layers, keras.optimizers.Adam(0.01))
        """,
    ),
    7: (
        (
            "Lesson 05: the step is too long. What shortens it without turning it?",
            "Clipping by the global norm does. Which argument of the optimizer, and which threshold is far below the "
            "peaks of the second chart, but not below an ordinary step?",
            "global_clipnorm=1.0, at a rate of 0.1",
        ),
        """
        def patient_7(seed):
            keras.utils.set_random_seed(seed)
            rnn = keras.layers.SimpleRNN(32, recurrent_initializer=keras.initializers.Orthogonal(1.5))
            layers = [keras.Input((20, 6)), rnn, keras.layers.Dense(4)]
            return compiled(layers, keras.optimizers.SGD(0.1, global_clipnorm=1.0))
        """,
    ),
    8: (
        (
            "Lesson 03: which gate decides what stays, and where does it start?",
            "The forget gate, at sigmoid(0) = 0.5. Which bias makes it start at 0.95? (Lesson 03 set it by an "
            "initializer of rnnkit.)",
            "bias_initializer=rnnkit.initializers.GateBias(forget=3.0), unit_forget_bias=False",
        ),
        """
        def patient_8(seed):
            keras.utils.set_random_seed(seed)
            bias = rnnkit.initializers.GateBias(forget=3.0)
            rnn = keras.layers.LSTM(32, unit_forget_bias=False, bias_initializer=bias)
            layers = [keras.Input((30, 4)), rnn, keras.layers.Dense(4)]
            return compiled(layers, keras.optimizers.Adam(0.005))
        """,
    ),
}


DESIGNS = {
    "far": (
        "A GRU whose update gate starts by keeping, its gradient clipped: GateBias(update=2.0).",
        """
        def design_far(seed):
            keras.utils.set_random_seed(seed)
            rnn = keras.layers.GRU(32, bias_initializer=rnnkit.initializers.GateBias(update=2.0))
            layers = [keras.Input((50, 6)), rnn, keras.layers.Dense(4)]
            return compiled(layers, keras.optimizers.Adam(0.01, global_clipnorm=1.0))
        """,
    ),
    "ahead": (
        "A small GRU in both directions: keras.layers.Bidirectional.",
        """
        def design_ahead(seed):
            keras.utils.set_random_seed(seed)
            rnn = keras.layers.Bidirectional(keras.layers.GRU(12, return_sequences=True))
            layers = [keras.Input((24,), dtype="int32"), keras.layers.Embedding(8, 8), rnn]
            return compiled([*layers, keras.layers.Dense(3)], keras.optimizers.Adam(0.01))
        """,
    ),
    "sums": (
        "One GRU of 24 units, its gradient clipped, does it.",
        """
        def design_sums(seed):
            keras.utils.set_random_seed(seed)
            rnn = keras.layers.GRU(24, return_sequences=True)
            layers = [keras.Input((16,), dtype="int32"), keras.layers.Embedding(3, 24), rnn]
            optimizer = keras.optimizers.Adam(0.01, global_clipnorm=1.0)
            return compiled([*layers, keras.layers.Dense(3)], optimizer)
        """,
    ),
}


def _reference(text):
    """Return a model's function of the seed, made when it is called from the text that is shown."""

    def make(seed):
        import keras

        import rnnkit
        from rnnkit.course import clinic

        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        scope = {"keras": keras, "rnnkit": rnnkit, "compiled": clinic.compiled, "loss": loss}
        exec(textwrap.dedent(text), scope)
        return scope[re.search(r"def (\w+)", text)[1]](seed)

    return make


# --- a character drawn ----------------------------------------------------------------------------------------------


def draw_character(scores, temperature, u):
    """Draw the index whose share of [0, 1] holds u; the shares are the softmax of scores / temperature."""
    weights = np.exp((scores - scores.max()) / temperature)
    return int(np.searchsorted(np.cumsum(weights / weights.sum()), u))


def _softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def _between(ends):
    """Return how often an index comes by np.searchsorted(ends, u), where the ends may go beyond 1."""
    return np.diff(np.clip(ends, 0, 1), prepend=0)


# How often each index comes, by scores and temperature.
_DRAW_MISTAKES = (
    Mistake(
        "the temperature has no effect: divide the scores by it, before exp. Dividing probabilities changes nothing "
        "once they add up to 1.",
        lambda scores, temperature: _softmax(scores),
    ),
    Mistake(
        "the temperature is upside down: divide the scores by it, do not multiply.",
        lambda scores, temperature: _softmax(scores * temperature),
    ),
    Mistake(
        "you divide the probabilities by the temperature, and then they no longer add up to 1. Divide the scores, "
        "before exp.",
        lambda scores, temperature: _between(np.cumsum(_softmax(scores)) / temperature),
    ),
    Mistake(
        "the shares do not add up to 1: divide each exp by the sum of all.",
        lambda scores, temperature: _between(np.cumsum(np.exp((scores - scores.max()) / temperature))),
    ),
)


def _examine_draw(answer):
    scores, draw = np.array([1.0, 3.0, 2.0, -1.0]), np.random.default_rng(0)

    def shares(answer, temperature, scores=scores):
        drawn = [answer(scores, temperature, u) for u in np.linspace(0.0005, 0.9995, 1000)]
        for index in drawn:
            if np.shape(index) != () or int(index) != index:
                raise NotYet(f"return one index, a whole number; received {index!r}.")
        outside = [index for index in drawn if not 0 <= index < len(scores)]
        if outside:
            raise NotYet(f"an index lies from 0 to {len(scores) - 1}; received {outside[0]}.")
        return np.bincount(np.asarray(drawn, int), minlength=len(scores)) / 1000

    found = shares(answer, 0.5)
    if found[0] == 1:
        raise NotYet(
            "you always return index 0, though `u` goes from 0 to 1. If the shares are exp(scores / temperature), the "
            "first alone is larger than 1: divide each by the sum of all, so that they add up to 1."
        )
    if found.max() == 1 or (shares(answer, 0.5) != found).any():
        raise NotYet(
            "`u` has no effect. Return the index in whose share `u` lies: not always that of the largest score, and "
            "not one that you draw with a random number of your own."
        )
    reject_known_mistakes(found, _DRAW_MISTAKES, scores, 0.5, rtol=0, atol=0.01)
    close(_softmax(scores / 0.5), rtol=0, atol=0.005, what="how often each index comes, at temperature 0.5,")(found)
    with np.errstate(all="ignore"):
        high = shares(answer, 1.0, np.array([1000.0, 1001.0]))
    if np.abs(high - _softmax(np.array([0.0, 1.0]))).max() > 0.01:
        raise NotYet("scores of 1000 overflow in exp. Subtract the largest score first; it changes no probability.")
    many = draw.normal(size=96)
    close(_softmax(many), rtol=0, atol=0.005, what="how often each of 96 indices comes")(shares(answer, 1.0, many))


EXERCISES = (
    Exercise(
        "diagnoses",
        (
            "Begin with the loss: is it flat, wild, or too good? Then the norms of the weights, then the last panel.",
            "A straight line on a log axis is a factor a step. Each of 1, 3, 5, 6 carries its sign openly: saturated "
            "states, an output that hangs on what is still to come, dotted lines far below, a grey band.",
        ),
        DIAGNOSES,
        _examine_diagnoses,
    ),
    *(
        Exercise(f"patient_{number}", hints, _reference(text), _examine_patient(number), solution=text)
        for number, (hints, text) in CURES.items()
    ),
    *(
        Exercise(
            f"unseen_{name}",
            (_DESIGN_ADVICE[name], hint),
            _reference(text),
            _examine_unseen(name),
            solution=text,
        )
        for name, (hint, text) in DESIGNS.items()
    ),
    Exercise(
        "draw_character",
        (
            "Softmax of scores / temperature gives each index a share of [0, 1], side by side. In whose does u lie?",
            "np.cumsum gives the right ends of the shares; np.searchsorted(ends, u) the first that reaches u.",
        ),
        draw_character,
        _examine_draw,
    ),
    Exercise(
        "twice_as_long",
        (
            "How many steps does the gradient take from the loss to the first input? And among how many does attention "
            "share it out?",
            "A softmax over 100 places that does not yet know what to look for gives each a hundredth.",
        ),
        "b",
        choice(
            "b",
            {
                "a": "The path stays one step long, but attention's weights add up to 1: each of twice as many "
                "places gets half.",
                "b": "The path is one step long however long the sequence; the weight, 1/T for each place, halves.",
                "c": "That would be a factor for every further step, as in an RNN. Here the path does not grow.",
            },
        ),
    ),
    Exercise(
        "quiz_09",
        (
            "Each question has its answer in the charts, in the cures or in the last section.",
            "The letters, in some order, are two a, one b and two c.",
        ),
        ["c", "b", "a", "a", "c"],
        quiz(
            choice(
                "c",
                {
                    "a": "A flat loss alone does not say why. Six of the eight patients had one, for six reasons.",
                    "b": "A smaller rate makes every step shorter; where no gradient arrives that helps nobody.",
                },
            ),
            choice(
                "b",
                {
                    "a": "Better optimisation lowers the loss a little, never below what the past can tell. "
                    "Ask what the model can see.",
                    "c": "Overfitting shows as a gap between training and test. This one was as good on the test set.",
                },
            ),
            choice(
                "a",
                {
                    "b": "It was the gradient *after* clipping that was small. Before, its norm was ordinary.",
                    "c": "Its slope over time was harmless; the weights simply were not allowed to move.",
                },
            ),
            choice(
                "a",
                {
                    "b": "A long memory does not help: what is asked has not been read yet.",
                    "c": "Clipping changes the length of a step and nothing about what the network may read.",
                },
            ),
            choice(
                "c",
                {
                    "a": "It is still a product of T factors. What it lacks is a matrix in it and a nonlinearity.",
                    "b": "It passes through every step in between; attention is the one that jumps.",
                },
            ),
        ),
    ),
)
