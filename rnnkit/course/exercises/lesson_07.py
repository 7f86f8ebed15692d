"""What is known of the exercises of lesson 07, bidirectional RNNs."""

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

# --- both ways ----------------------------------------------------------------------------------------------------


def both_ways(read, read_back, x):
    """Return the states of both readers side by side, at each step those that belong to it."""
    forward = read(x)
    backward = read_back(x[:, ::-1])[:, ::-1]
    return np.concatenate([forward, backward], axis=-1)


def _reader(seed):
    """Return a small recurrent layer in NumPy: (batch, time, 2) to its state after each step, (batch, time, 3)."""
    draw = np.random.default_rng(seed)
    W, U = draw.normal(size=(2, 3)), 0.6 * draw.normal(size=(3, 3))

    def read(x):
        x = np.asarray(x, dtype=float)
        if x.ndim != 3 or x.shape[2] != 2:
            raise NotYet(f"a reader reads (batch, time, features), here (4, 5, 2); it was given shape {x.shape}.")
        h, states = np.zeros((len(x), 3)), []
        for t in range(x.shape[1]):
            h = np.tanh(x[:, t] @ W + h @ U)
            states.append(h)
        return np.stack(states, axis=1)

    return read


def _turned(x):
    """Turn time round."""
    return x[:, ::-1]


def _beside(one, other):
    return np.concatenate([one, other], axis=-1)


_BOTH_WAYS_MISTAKES = (
    Mistake(
        "the backward states come in the order of reading: the state at position 0 belongs to the *last* word. Turn "
        "them round once more, [:, ::-1].",
        lambda read, read_back, x: _beside(read(x), read_back(_turned(x))),
    ),
    Mistake(
        "the second reader has read from the left as well. Give it x[:, ::-1]; x[::-1] would turn round the batch, "
        "not the time.",
        lambda read, read_back, x: _beside(read(x), read_back(x)),
    ),
    Mistake(
        "the second reader has read from the left, and its states are turned round: position 0 has what it knew at the "
        "end. Turn the words round before it reads, too.",
        lambda read, read_back, x: _beside(read(x), _turned(read_back(x))),
    ),
    Mistake(
        "the first reader has read both ways. The second has its own weights: use read_back.",
        lambda read, read_back, x: _beside(read(x), _turned(read(_turned(x)))),
    ),
    Mistake(
        "the backward states stand first. Put the forward ones first, as Keras does.",
        lambda read, read_back, x: _beside(_turned(read_back(_turned(x))), read(x)),
    ),
    Mistake(
        "the features were turned round. Time is axis 1: x[:, ::-1].",
        lambda read, read_back, x: _beside(read(x), _turned(read_back(x[..., ::-1]))),
    ),
    Mistake(
        "the features were turned round, and so were those of the states. Time is axis 1: [:, ::-1].",
        lambda read, read_back, x: _beside(read(x), read_back(x[..., ::-1])[..., ::-1]),
    ),
    Mistake(
        "the whole of both is turned round: only the backward states were in the wrong order.",
        lambda read, read_back, x: _turned(_beside(read(x), read_back(_turned(x)))),
    ),
)


def _examine_both_ways(answer):
    read, read_back = _reader(1), _reader(2)
    x = np.random.default_rng(0).normal(size=(4, 5, 2))
    received = answer(read, read_back, x)
    if isinstance(received, list | tuple) and len(received) == 2:
        raise NotYet("return one array: np.concatenate([..., ...], axis=-1) of the two.")
    received = np.asarray(received, dtype=float)
    reject_known_mistakes(received, _BOTH_WAYS_MISTAKES, read, read_back, x)
    if received.shape == (4, 10, 3):
        raise NotYet("the two follow each other in time. Side by side means along the units: axis=-1.")
    if received.shape == (8, 5, 3):
        raise NotYet("the two lie one below the other in the batch. Side by side means along the units: axis=-1.")
    if received.shape == (4, 5, 3):
        raise NotYet("the two are merged into as many numbers as one has. Lay them side by side: np.concatenate.")
    close(both_ways(read, read_back, x), what="the result")(received)


# --- four reviews -------------------------------------------------------------------------------------------------


def four_reviews():
    """Return four reviews such that neither side of the adverb tells the verdict."""
    return [f"the plot was {turn}wickedly {how} !" for turn in ("", "not ") for how in ("clever", "silly")]


def _examine_four_reviews(answer):
    from rnnkit.tasks import SENTIMENT_WORDS, is_review
    from rnnkit.tasks.sentiment import _BOTH_WAYS, _PRAISE

    if isinstance(answer, str) or len(answer) != 4 or not all(isinstance(review, str) for review in answer):
        raise NotYet("give a list of four strings, one for each review.")
    reviews = [review.lower().replace("!", " ! ").replace(",", " , ").split() for review in answer]
    for review in reviews:
        shown = " ".join(review)
        unknown = [word for word in review if word not in SENTIMENT_WORDS]
        if unknown:
            raise NotYet(f"{unknown[0]!r} is not among the words of the reviews: print(WORDS) shows them.")
        if not is_review([SENTIMENT_WORDS.index(word) for word in review]) or review.count("!") > 1:
            raise NotYet(f"{shown!r} is no review of the form 'the plot was (not) wickedly clever !'.")
        if "and" in review:
            raise NotYet(f"{shown!r} has several clauses. One each is asked for.")
    adverbs = {word for review in reviews for word in review if word in _BOTH_WAYS}
    if len(adverbs) > 1:
        raise NotYet(f"the four have different adverbs, {', '.join(sorted(adverbs))}: the word itself gives them away.")
    sides = []
    for review in reviews:
        place = next(place for place, word in enumerate(review) if word in _BOTH_WAYS)
        praise = any(word in _PRAISE for word in review) ^ ("not" in review)
        sides.append((tuple(review[:place]), tuple(review[place:]), praise))
    for side, name, hint in ((0, "before", "adjective"), (1, "after", '"not"')):
        for own in sides:
            twins = [other for other in sides if other[side] == own[side] and other[2] != own[2]]
            if not twins:
                seen, whole = " ".join(own[side]), " ".join(own[0] + own[1])
                raise NotYet(
                    f"what stands {name} the adverb gives one of them away. Who sees only {seen!r} knows the verdict "
                    f"of {whole!r}, for none with the opposite verdict looks the same from there. Another one is "
                    f"needed, with another {hint}."
                )
    return "From either side alone each of the four could be praise or blame."


# --- the largest over real words ----------------------------------------------------------------------------------


def max_over_words(states, mask):
    """Return the largest value of each unit over the steps that the mask marks as real."""
    states = np.where(mask[:, :, None], states, -np.inf)
    return states.max(axis=1)


def _filled(states, mask, value):
    """Put a value in the place of the padding."""
    return np.where(mask[:, :, None], states, value)


_MAX_MISTAKES = (
    Mistake("the padding has been taken along.", lambda states, mask: states.max(axis=1)),
    Mistake(
        "the padding was set to 0, which is larger than any negative state. Set it to -np.inf.",
        lambda states, mask: _filled(states, mask, 0).max(axis=1),
    ),
    Mistake(
        "the padding was set to -1, and -1 is not below every number: only -np.inf is.",
        lambda states, mask: _filled(states, mask, -1).max(axis=1),
    ),
    Mistake(
        "that is the mean over real words; the largest was asked for.",
        lambda states, mask: _filled(states, mask, 0).sum(axis=1) / mask.sum(axis=1)[:, None],
    ),
    Mistake("that is the mean over all steps.", lambda states, mask: states.mean(axis=1)),
    Mistake(
        "that is the state of the last real word.",
        lambda states, mask: states[np.arange(len(states)), mask.sum(axis=1) - 1],
    ),
    Mistake(
        "the mask is upside down: it is True at the real words.",
        lambda states, mask: _filled(states, ~mask, -np.inf).max(axis=1),
    ),
    Mistake("that is the smallest.", lambda states, mask: _filled(states, mask, np.inf).min(axis=1)),
)


def _examine_max(answer):
    draw = np.random.default_rng(0)
    states = draw.normal(size=(3, 5, 2)) - 1.5
    mask = np.arange(5) < np.array([[5], [3], [1]])
    third_axis = "the mask is (batch, time), the states have one axis more. Give it a third: mask[:, :, None]."
    with explained(ValueError, "broadcast", third_axis):
        received = np.asarray(answer(states, mask), dtype=float)
    reject_known_mistakes(received, _MAX_MISTAKES, states, mask)
    if received.shape == (3, 5):
        raise NotYet("that is the largest over the units. Take it over time, axis=1.")
    if received.shape == (2,):
        raise NotYet("the reviews of the batch have been pooled together. Each keeps its own: (batch, units).")
    close(max_over_words(states, mask), what="the result")(received)
    passed = states.copy()
    unguarded(answer)(passed, mask)
    if not np.array_equal(passed, states):
        raise NotYet("the states that you were given have changed: states[~mask] = ... writes into them. Copy first.")


EXERCISES = (
    Exercise(
        "both_ways",
        (
            "`x[:, ::-1]` turns the words round. Which word does the first of read_back's states then belong to?",
            "Turn its states round in the same way as the words, then lay them beside those of read.",
            "`read_back(x[:, ::-1])[:, ::-1]` has the backward states in the right order; np.concatenate with axis=-1 "
            "puts them beside read(x).",
        ),
        both_ways,
        _examine_both_ways,
    ),
    Exercise(
        "no_hidden_layer",
        (
            "A linear output adds a number for what the left half knows and one for what the right half knows.",
            "Praise: plain + good, not + bad. Blame: plain + bad, not + good. No sum of two numbers gets all four "
            "right. How often does a 'not' speak for praise, how often against?",
        ),
        "b",
        choice(
            "b",
            {
                "a": "They are in its states, but a linear output can only add them, and a 'not' turns round instead "
                "of adding.",
                "b": "It adds what the halves say. A 'not' speaks for praise as often as against it, so it gets no "
                "weight, and the network goes by the adjective.",
                "c": "It has more than the left half: the adjective is known, and right in the two clauses of three "
                "that have no 'not'.",
            },
        ),
    ),
    Exercise(
        "four_reviews",
        (
            "Two things decide: the 'not' and the adjective. Two values each make four reviews.",
            "Each review needs one partner that differs only in the adjective, and one that differs only in the 'not'.",
            "With one thing and one adverb: clever, silly, not ... clever, not ... silly.",
        ),
        four_reviews(),
        _examine_four_reviews,
    ),
    Exercise(
        "max_over_words",
        (
            "What must the padding be replaced by, so that it is never the largest?",
            "np.where chooses between two arrays. The mask is (batch, time): it needs a third axis.",
            "`np.where(mask[:, :, None], states, -np.inf)`, then `.max(axis=1)`.",
        ),
        max_over_words,
        _examine_max,
    ),
    Exercise(
        "quiz_07",
        (
            "Each question has its answer in the section whose heading it echoes.",
            "The letters, in some order, are two a, one b and two c.",
        ),
        ["a", "c", "c", "b", "a"],
        quiz(
            choice(
                "a",
                {
                    "b": "In the order of reading the first state belongs to the last word: position t would pair what "
                    "was read of two different words.",
                    "c": "Turning round the batch would give each review the backward states of another one. It is the "
                    "time that was turned.",
                },
            ),
            choice(
                "c",
                {
                    "a": "That was the exercise without a hidden layer: it stayed far from 1, though both facts were "
                    "in its states.",
                    "b": "It can weigh what the two say against each other, which neither half could do by itself. But "
                    "it only adds.",
                },
            ),
            choice(
                "c",
                {
                    "a": "Masks are passed on to every layer, but not every layer heeds them: Keras only warns, and "
                    "the pool moved with the padding.",
                    "b": "It drops the mask, and the zeros that stand at masked steps become the largest values of "
                    "units that are negative at every word.",
                },
            ),
            choice(
                "b",
                {
                    "a": "All four networks were right in the end, and one of them read forwards only: at the end it "
                    "has read everything.",
                    "c": "The whole text is there when its verdict is asked for. Looking ahead is cheating where what "
                    "follows is to be predicted.",
                },
            ),
            choice(
                "a",
                {
                    "b": "2.2 was the lowest perplexity possible for these reviews. No knowledge of the language goes "
                    "below that; only knowing the answer does.",
                    "c": "More units may bring a model nearer to the lowest perplexity possible, never below it.",
                },
            ),
        ),
    ),
)
