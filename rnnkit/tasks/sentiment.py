"""Little film reviews, in which what a word means hangs on the words on both sides of it."""

import re

import numpy as np

from rnnkit.tasks._sizes import generator, require_sizes

_THINGS = ["movie", "plot", "acting", "music", "ending", "photography", "dialogue", "cast"]
_BOTH_WAYS = ["terribly", "awfully", "wickedly", "insanely", "dreadfully", "ridiculously"]
_PRAISE = ["exciting", "funny", "clever", "moving", "charming", "fresh", "gripping", "beautiful"]
_BLAME = ["dull", "clumsy", "boring", "flat", "stale", "silly", "tiresome", "shallow"]
_ASIDES = [["if", "you", "ask", "me"], ["to", "my", "taste"], ["from", "start", "to", "finish"]]
# The words of `terribly_exciting`, in the order of their numbers; word 0 is padding.
SENTIMENT_WORDS = (
    "",
    *_THINGS,
    *_BOTH_WAYS,
    *_PRAISE,
    *_BLAME,
    *dict.fromkeys(word for aside in _ASIDES for word in aside),
    *["the", "was", "not", ",", "and", "!"],
)
SENTIMENT_BASELINE = 1 / 2

_NOT = 1 / 3  # how many clauses have a "not": few enough that the adjective alone says something
_ONE_OF = ["|".join(group) for group in (_THINGS, _BOTH_WAYS, map(" ".join, _ASIDES), _PRAISE + _BLAME)]
_CLAUSES = "the ({}) was (not )?({}) (, ({}) , )?({})".format(*_ONE_OF)
_REVIEW = re.compile(f"{_CLAUSES}( and {_CLAUSES})* !")
_NUMBER_OF = {word: number for number, word in enumerate(SENTIMENT_WORDS)}
_CLAUSE = 2 + 1 + 1 + 1 + 2 + 4 + 1  # "the movie", "was", "not", "terribly", two commas, the longest aside, "exciting"


def terribly_exciting(n, clauses=3, length=None, seed=0):
    """Make reviews such as "the plot was not awfully clever and the movie was terribly , to my taste , exciting !".

    Each clause speaks of one thing and praises or blames it. Whether it does is nowhere in a single word: "terribly
    exciting" is praise, "terribly dull" is blame, and a "not", in one clause of three, turns both round. So at the
    word "terribly", where the "not" has been read and the adjective has not, praise and blame are equally likely
    (`SENTIMENT_BASELINE`). Who reads from the right has the "not" still before him, and is right two times in three by
    betting that there is none.

    Args:
        n: number of reviews.
        clauses: the most clauses of a review; 1 up to so many are equally likely. At most 8, one for each thing.
        length: words of all reviews, filled up with 0 at the back; by default as many as the longest possible has.
        seed: integer; the same seed gives the same data.

    Returns:
        x, int32 (n, length): words as indices into `SENTIMENT_WORDS`; senses, int32 (n, length): at each word of a
        clause 1 if the clause blames, 2 if it praises, and 0 at "and", "!" and padding; y, int32 (n,): what the review
        says of the *movie*, of which one clause in each speaks, 1 for praise.

    Raises:
        ValueError: if `n` or `clauses` is under 1, `clauses` over 8, or `length` under the longest possible review.

    Example:
        >>> x, senses, y = rnnkit.tasks.terribly_exciting(n=100, clauses=1, seed=3)
        >>> print(*(rnnkit.tasks.SENTIMENT_WORDS[word] for word in x[0] if word), ["(blame)", "(praise)"][y[0]])
        the movie was terribly , from start to finish , clever ! (praise)

    Source: the example is that of Manning's course CS224n on bidirectional networks.
    """
    require_sizes(n=(n, 1), clauses=(clauses, 1))
    if clauses > len(_THINGS):
        raise ValueError(
            f"There are {len(_THINGS)} things to speak of, each at most once. Received: clauses={clauses}. "
            "Ask for fewer."
        )
    longest = (_CLAUSE + 1) * clauses
    length = longest if length is None else length
    require_sizes(length=(length, longest))
    draw = generator(seed)
    x, senses = np.zeros((2, n, length), "int32")
    y = np.zeros(n, "int32")
    for row in range(n):
        count = draw.integers(1, clauses + 1)
        things = [_THINGS[0], *draw.permutation(_THINGS[1:])[: count - 1]]
        words, meant = [], []
        for place, thing in enumerate(draw.permutation(things)):
            clause, praise = _clause(draw, thing)
            ending = "!" if place == count - 1 else "and"
            words += [*clause, ending]
            meant += [1 + praise] * len(clause) + [0]
            if thing == _THINGS[0]:
                y[row] = praise
        x[row, : len(words)] = [_NUMBER_OF[word] for word in words]
        senses[row, : len(words)] = meant
    return x, senses, y


def _clause(draw, thing):
    """Return the words of a clause about a thing, and whether they praise it."""
    turned, good = int(draw.random() < _NOT), int(draw.integers(2))
    aside = draw.integers(2 * len(_ASIDES))  # none in every second clause
    middle = [",", *_ASIDES[aside], ","] if aside < len(_ASIDES) else []
    adjective = draw.choice(_PRAISE if good else _BLAME)
    words = ["the", thing, "was", *["not"] * turned, draw.choice(_BOTH_WAYS), *middle, adjective]
    return words, turned ^ good


def is_review(words):
    """Say whether words are a whole review by the grammar of `terribly_exciting`, its sense aside.

    Args:
        words: sequence of int, indices into `SENTIMENT_WORDS`; what follows the first "!" does not count.

    Returns:
        bool: whether clauses, each of the right form, are joined by "and" and end in "!".

    Example:
        >>> number = rnnkit.tasks.SENTIMENT_WORDS.index
        >>> [rnnkit.tasks.is_review([number(word) for word in text.split()])
        ...  for text in ("the movie was not awfully dull !", "the movie was awfully awfully !")]
        [True, False]
    """
    text = " ".join(SENTIMENT_WORDS[word] for word in words)
    return bool(_REVIEW.match(text))
