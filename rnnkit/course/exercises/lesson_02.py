"""What is known of the exercises of lesson 02, why vanishing is a problem: long-range dependencies."""

import itertools
import math

import numpy as np

from rnnkit.course.exercises import Exercise, Mistake, NotYet, choice, close, explained, quiz, reject_known_mistakes

# --- accuracy, range by range -------------------------------------------------------------------------------------


def accuracy_by(right, value, edges):
    """Average `right` over the examples whose `value` lies in each range [edges[k], edges[k + 1])."""
    ranges = itertools.pairwise(edges)
    return np.array([right[(value >= low) & (value < high)].mean() for low, high in ranges])


def _in_each_range(score):
    """Return an answer that gives each range a score by (right, value, low, high)."""

    def answer(right, value, edges):
        return np.array([score(right, value, low, high) for low, high in itertools.pairwise(edges)])

    return answer


def _with_the_last_edge(right, value, edges):
    last = right[(value >= edges[-2]) & (value <= edges[-1])].mean()
    return np.array([*accuracy_by(right, value, edges)[:-1], last])


_ACCURACY_MISTAKES = (
    Mistake(
        "the upper end belongs to the next range. A value equal to edges[k + 1] is counted in range k too: use `<`.",
        _in_each_range(lambda right, value, low, high: right[(value >= low) & (value <= high)].mean()),
    ),
    Mistake(
        "the lower end belongs to the range. A value equal to edges[k] is left out: use `>=`.",
        _in_each_range(lambda right, value, low, high: right[(value > low) & (value < high)].mean()),
    ),
    Mistake(
        "each range is shifted up by one: a value equal to edges[k] belongs to range k.",
        _in_each_range(lambda right, value, low, high: right[(value > low) & (value <= high)].mean()),
    ),
    Mistake(
        "that is the number of right answers. Divide by the number of examples in the range.",
        _in_each_range(lambda right, value, low, high: right[(value >= low) & (value < high)].sum()),
    ),
    Mistake(
        "you divide by the number of all examples. Divide by the number in the range.",
        _in_each_range(lambda right, value, low, high: right[(value >= low) & (value < high)].sum() / len(right)),
    ),
    Mistake(
        "your last range has its upper end in it, as the last bin of np.histogram has. Leave the values equal to the "
        "last edge out.",
        _with_the_last_edge,
    ),
    Mistake("that is the share of wrong answers.", lambda *given: 1 - accuracy_by(*given)),
    Mistake(
        "that is accuracy up to each distance, with all nearer ones in it. Cut off the lower end too.",
        _in_each_range(lambda right, value, low, high: right[value < high].mean()),
    ),
)


def _examine_accuracy_by(answer):
    draw = np.random.default_rng(0)
    value, edges = draw.integers(0, 20, size=400), [1, 4, 8, 16]
    right = draw.random(400) < 0.95 - 0.04 * value
    parentheses = (
        "put each comparison in parentheses, with `&` between them: `(value >= low) & (value < high)`. Without them, "
        "or with `and`, NumPy is asked whether a whole array is true."
    )
    with explained(ValueError, "truth value", parentheses):
        received = np.asarray(answer(right, value, edges), dtype=float)
    if received.shape == (4,):
        raise NotYet("4 edges are the ends of 3 ranges; you return 4 numbers. The last edge only ends the last range.")
    reject_known_mistakes(received, _ACCURACY_MISTAKES, right, value, edges)
    close(accuracy_by(right, value, edges), what="what you return")(received)


# --- what guessing costs ------------------------------------------------------------------------------------------


_ALWAYS_ONE_MISTAKES = (
    Mistake(
        "that is the number in print, and it is not what the data say. Take 100,000 sums of two uniform numbers and "
        "measure it.",
        0.1767,
    ),
    Mistake("that is the variance of one uniform number. The answer is a sum of two.", 1 / 12),
    Mistake("that is the standard deviation of the sum, not its square.", math.sqrt(1 / 6)),
    Mistake("that is the mean absolute error, not the squared one.", 1 / 3),
    Mistake("that is the error of always answering 0. The task says: always 1.", 7 / 6),
)


def _examine_always_one(answer):
    try:
        received = float(answer)
    except (TypeError, ValueError):
        raise NotYet(f"give one number; received {answer!r}.") from None
    reject_known_mistakes(received, _ALWAYS_ONE_MISTAKES, rtol=0, atol=6e-4)
    if 0.003 < abs(received - 1 / 6) < 0.03:
        raise NotYet(f"{received:.4g} is close, and may be chance: take more samples, 100,000 or more.")
    if abs(received - 1 / 6) > 0.003:
        raise NotYet(f"{received:.4g} is not it. Simulate: the mean of (a + b - 1)**2 for many uniform a and b.")
    return "2/12 = .1667: twice the variance of one uniform number. The .1767 in print has a digit wrong."


def copy_memory_cost(delay):
    """Return 10 ln 8 / (delay + 20): ten symbols guessed among eight, all other steps free."""
    return 10 * math.log(8) / (delay + 20)


_COPY_COST_MISTAKES = (
    Mistake(
        "that is in bits. Keras's cross entropy uses the natural logarithm.",
        lambda delays: 10 * np.log2(8) / (delays + 20),
    ),
    Mistake(
        "that is with the decimal logarithm. Keras's cross entropy uses the natural one, `np.log`.",
        lambda delays: 10 * np.log10(8) / (delays + 20),
    ),
    Mistake("only the ten steps at the end cost something, not twenty.", lambda delays: 20 * np.log(8) / (delays + 20)),
    Mistake(
        "1/8 is the probability of guessing right. Its cost is -ln(1/8) = ln 8.", lambda delays: 10 / 8 / (delays + 20)
    ),
    Mistake("`//` rounds down to whole numbers. Divide with `/`.", lambda delays: 10 * np.log(8) // (delays + 20)),
    Mistake("a cost is positive: ln 8, which is -ln(1/8).", lambda delays: -10 * np.log(8) / (delays + 20)),
    Mistake(
        "that is the cost of the ten steps alone. Keras averages over all `delay + 20` steps.",
        lambda delays: np.full(len(delays), np.log(8)),
    ),
    Mistake(
        "that is the cost of a whole sequence. Keras averages over all `delay + 20` steps.",
        lambda delays: np.full(len(delays), 10 * np.log(8)),
    ),
    Mistake(
        "the sequence has `delay + 20` steps: ten symbols, the wait with the go sign, and ten more.",
        lambda delays: 10 * np.log(8) / delays,
    ),
    Mistake("the sequence has `delay + 20` steps, not `delay + 10`.", lambda delays: 10 * np.log(8) / (delays + 10)),
    Mistake(
        "a network that has learned when to write never guesses a blank or a go: there are 8 symbols, not 10.",
        lambda delays: 10 * np.log(10) / (delays + 20),
    ),
    Mistake(
        "a network that has learned when to write never guesses a blank: there are 8 symbols, not 9.",
        lambda delays: 10 * np.log(9) / (delays + 20),
    ),
    Mistake(
        "you charge every step. Blanks cost nothing once it knows when to write.",
        lambda delays: np.full(len(delays), np.log(9)),
    ),
    Mistake("there are ten symbols to write, not one.", lambda delays: np.log(8) / (delays + 20)),
)


def _examine_copy_cost(answer):
    delays = np.array([1, 30, 100, 1000])
    received = np.array([float(answer(int(delay))) for delay in delays])
    reject_known_mistakes(received, _COPY_COST_MISTAKES, delays, rtol=1e-3)
    for delay, cost in zip(delays, received, strict=True):
        expected = copy_memory_cost(delay)
        if not np.isclose(cost, expected, rtol=1e-3):
            size = "too small" if cost < expected else "too large" if cost > expected else "not a number"
            raise NotYet(
                f"at delay {delay}, your cost is {size}. How many steps cost something, how much does each, and over "
                "how many is it averaged?"
            )


# --- a sentence that sets a trap ----------------------------------------------------------------------------------


def my_sentence():
    """Return a beginning of a sentence whose last noun would give the wrong verb."""
    return "the letters of the doctor near the garden"


def _examine_sentence(answer):
    from rnnkit import tasks

    if not isinstance(answer, str):
        raise NotYet(f"give the sentence as text, without the verb; received a {type(answer).__name__}.")
    words = answer.lower().replace(".", "").split()
    if words and words[-1] in ("is", "are"):
        raise NotYet("leave the verb out: it is what the network is asked for.")
    known = tasks.AGREEMENT_WORDS[1:]
    strange = [word for word in words if word not in known]
    if strange:
        raise NotYet(f"the network does not know {strange[0]!r}. Its words: {' '.join(known)}.")
    nouns = known[5:]
    prepositions = known[1:5]
    shape = [*(["the", "noun"] if words else []), *["preposition", "the", "noun"] * ((len(words) - 2) // 3)]
    kinds = ["noun" if word in nouns else "preposition" if word in prepositions else word for word in words]
    if not words or kinds != shape:
        raise NotYet("build it as: the NOUN, then any number of times: PREPOSITION the NOUN.")
    if len(words) > 14:
        raise NotYet("the network has seen four nouns after the subject at most; take fewer.")
    plural = [word.endswith("s") for word in words if word in nouns]
    if len(plural) == 1:
        raise NotYet("there is no noun between subject and verb, and so no trap. Add a preposition and a noun.")
    if plural[-1] == plural[0]:
        raise NotYet("here the last noun has the subject's number: who goes by the last noun is right all the same.")
    attractors = sum(number != plural[0] for number in plural[1:])
    verb = "are" if plural[0] else "is"
    few = " The LSTM often resists one or two: if yours does, try three or four." if attractors < 3 else ""
    plurals = "s" if attractors > 1 else ""
    return f"{attractors} attractor{plurals}; right is {verb!r}, the last noun says otherwise.{few}"


EXERCISES = (
    Exercise(
        "accuracy_by",
        (
            "For one range: which examples have `value >= low` and `value < high`? The mean of `right` over them.",
            "`right[(value >= low) & (value < high)].mean()`, for each pair in `zip(edges, edges[1:])`.",
        ),
        accuracy_by,
        _examine_accuracy_by,
    ),
    Exercise(
        "attractors_at_test",
        (
            "Which rule is right for most of the sentences it is trained on, and needs a memory of one word?",
            "Going by the last noun is right for 97 % of them. How often is it right if every noun is an attractor?",
        ),
        "c",
        choice(
            "c",
            {
                "a": "That would need the rule that the *first* noun decides. The training sentences hardly ask for "
                "it: in 97 of 100 of them the last noun says the same.",
                "b": "A half is what a network without any rule gets. Is there a rule that serves well in training?",
                "c": "Few sentences in training tell the first noun's rule from others, and four nouns outvote one.",
            },
        ),
    ),
    Exercise(
        "my_sentence",
        (
            "The subject is the first noun. Choose a last noun of the other number.",
            'Such as "the writer of the books", but one attractor rarely turns the LSTM round. Try three or four.',
        ),
        my_sentence(),
        _examine_sentence,
        solution='my_sentence = "the letters of the doctor near the garden"  # right: are; the last noun says: is',
    ),
    Exercise(
        "always_one",
        (
            "Simulate it: a, b = rng.uniform(size=(2, 100_000)); what is the mean of (a + b - 1)**2?",
            "On paper: the variance of a uniform number on [0, 1] is 1/12, and variances of independent numbers add.",
        ),
        1 / 6,
        _examine_always_one,
    ),
    Exercise(
        "copy_memory_cost",
        (
            "How many steps cost something, and how much is a guess among 8? Over how many steps is it averaged?",
            "Ten steps at ln 8 each, averaged over delay + 20 steps.",
        ),
        copy_memory_cost,
        _examine_copy_cost,
    ),
    Exercise(
        "quiz_02",
        (
            "Each question has its answer in the section whose heading it echoes.",
            "The letters, in some order, are two b, two c and one a.",
        ),
        ["b", "c", "b", "a", "c"],
        quiz(
            choice(
                "b",
                {
                    "a": "It did look like that, on both data sets; but one of them had the dependency.",
                    "c": "The gradient is computed correctly. It is a fact about these weights, not an error.",
                },
            ),
            choice(
                "c",
                {
                    "a": "The orthogonal RNN remembered over 30 words, and one LSTM did not: compare the two LSTMs.",
                    "b": "The data were the same for all of them; only networks differed.",
                },
            ),
            choice(
                "b",
                {
                    "a": "At the same distance, with nouns in between that agree, it was right nearly always: the "
                    "number of those nouns is what makes the difference.",
                    "c": "It knew the words: with no noun between, or nouns that agree, it was right nearly always.",
                },
            ),
            choice(
                "a",
                {
                    "b": "Far openers with nothing nested were among the easiest. What lies between counted for more.",
                    "c": "The score is the mean of the three kinds, each by itself: frequency alone is worth a third.",
                },
            ),
            choice(
                "c",
                {
                    "a": "The loss is small because most steps are blanks. Compare it with 10 ln 8 / (T + 20).",
                    "b": "More training may help, but the number does not say so: it is that of no memory at all.",
                },
            ),
        ),
    ),
)
