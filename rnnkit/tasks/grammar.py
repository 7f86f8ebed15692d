"""Small English grammars in which one word hangs on another, far before it."""

import numpy as np

from rnnkit.tasks._sizes import generator, require_sizes

_OBJECTS = ["tickets", "letters", "forms", "photos", "tables", "maps", "poems", "labels"]
_OPENING, _ENDING = ["when", "she", "tried", "to", "print", "her"], ["she", "finally", "printed", "her"]
_FILLER = (  # noqa: SIM905  (thirty words are read more easily in lines than in a column)
    "printer toner paper ink store clerk tray cable screen desk found bought opened closed asked waited carried paid "
    "empty broken cheap slow loud again then soon there and but because"
).split()
# The words of `tickets`, in the order of their numbers: the objects come first.
TICKETS_WORDS = tuple(dict.fromkeys([*_OBJECTS, *_OPENING, *_ENDING, *_FILLER]))
TICKETS_BASELINE = 1 / len(_OBJECTS)

_NOUNS = ["writer", "book", "teacher", "student", "doctor", "house", "garden", "letter"]
_PREPOSITIONS = ["of", "near", "behind", "with"]
# The words of `agreement`, in the order of their numbers: padding, "the", prepositions, singular nouns, plural nouns.
AGREEMENT_WORDS = ("", "the", *_PREPOSITIONS, *_NOUNS, *(noun + "s" for noun in _NOUNS))
_FIRST_NOUN = AGREEMENT_WORDS.index(_NOUNS[0])


def tickets(n, distance, length=None, seed=0):
    """Make sentences such as "when she tried to print her tickets ... she finally printed her tickets".

    Between the two stand random words out of 30. Only who remembers which of the eight objects it was can name it
    again; guessing is right one time in eight (`TICKETS_BASELINE`). Both x and y are for a language model: at each
    step, the word to read and the word that follows. `y[:, -1]` is the object.

    Args:
        n: number of sentences.
        distance: steps between the object that is read and the end of the sentence, where it is asked for; at least 4.
        length: steps of all sentences, at least `distance + 7`, which is the default; a longer one begins with other
            words. Sentences of several distances but one length can share a model that has been compiled for it.
        seed: integer; the same seed gives the same data.

    Returns:
        x, int32 (n, length): the words read, as indices into `TICKETS_WORDS`; y, int32 (n, length): the
        words that follow.

    Raises:
        ValueError: if `n` is under 1, `distance` under 4, or `length` under `distance + 7`.

    Example:
        >>> x, y = rnnkit.tasks.tickets(n=100, distance=6, seed=0)
        >>> print(*(rnnkit.tasks.TICKETS_WORDS[word] for word in [*x[0], y[0, -1]]))
        when she tried to print her poems opened again she finally printed her poems

    Source: the example is that of Manning's course CS224n; the form, a fixed distance of unrelated words, that of
    Hochreiter & Schmidhuber (1997), section 5.2.
    """
    require_sizes(n=(n, 1), distance=(distance, len(_ENDING)))
    shortest = len(_OPENING) + 1 + distance
    length = shortest if length is None else length
    require_sizes(length=(length, shortest))
    number = {word: index for index, word in enumerate(TICKETS_WORDS)}
    draw = generator(seed)
    objects = draw.integers(0, len(_OBJECTS), size=(n, 1))
    before, between = (
        np.array([number[word] for word in _FILLER])[draw.integers(0, len(_FILLER), size=(n, words))]
        for words in (length - shortest, distance - len(_ENDING))
    )
    opening, ending = (np.tile([number[word] for word in words], (n, 1)) for words in (_OPENING, _ENDING))
    sentences = np.concatenate([before, opening, objects, between, ending, objects], axis=1).astype("int32")
    return sentences[:, :-1], sentences[:, 1:]


def agreement(n, between, clash, seed=0):
    """Make beginnings of sentences such as "the writer of the books", which go on with "is" or with "are".

    The verb agrees with the first noun, however many others stand between. One of those whose number differs from the
    first noun's is called an attractor: it tempts a reader who goes by the last noun (sequential recency) and not by
    the one that governs the verb (syntactic recency). With `clash=1` all nouns between are attractors.

    Args:
        n: number of sentences.
        between: how many nouns stand between subject and verb: a number, or the probabilities of 0, 1, 2, ...
        clash: probability, in [0, 1], that a noun between differs in number from the subject, for each by itself.
        seed: integer; the same seed gives the same data.

    Returns:
        x, int32 (n, 2 + 3 * most): the words as indices into `AGREEMENT_WORDS`, with `most` the largest number of
        nouns between, padded with 0 at the front; y, int32 (n,): 0 for "is", 1 for "are".

    Raises:
        ValueError: if `n` is under 1, `between` is negative or not probabilities, or `clash` is not one.

    Example:
        >>> x, y = rnnkit.tasks.agreement(n=100, between=1, clash=1, seed=0)
        >>> print(*(rnnkit.tasks.AGREEMENT_WORDS[word] for word in x[0]), ["is", "are"][y[0]])
        the writer with the students is

    Source: Linzen, Dupoux & Goldberg (2016), "Assessing the ability of LSTMs to learn syntax-sensitive dependencies",
    who take their sentences from Wikipedia and score by the number of attractors.
    """
    probabilities = _checked_agreement(between, clash)
    require_sizes(n=(n, 1))
    draw = generator(seed)
    most = len(probabilities) - 1
    count = draw.choice(most + 1, size=n, p=probabilities)
    plural = draw.integers(0, 2, size=n)
    clashing = draw.random(size=(n, most)) < clash
    numbers = np.concatenate([plural[:, None], plural[:, None] ^ clashing], axis=1)
    nouns = _FIRST_NOUN + draw.integers(0, len(_NOUNS), size=(n, most + 1)) + len(_NOUNS) * numbers
    prepositions = AGREEMENT_WORDS.index(_PREPOSITIONS[0]) + draw.integers(0, len(_PREPOSITIONS), size=(n, most + 1))
    # Each noun with what stands before it: a preposition (which the subject has not) and "the".
    phrases = np.stack([prepositions, np.full_like(nouns, AGREEMENT_WORDS.index("the")), nouns], axis=-1)
    words = phrases.reshape(n, -1)[:, 1:]
    x = np.zeros_like(words)
    for length in range(most + 1):
        rows, end = count == length, 2 + 3 * length
        x[rows, words.shape[1] - end :] = words[rows, :end]
    return x.astype("int32"), plural.astype("int32")


def last_noun_baseline(between, clash):
    """Return how often the last noun's number is right: what sequential recency alone achieves on `agreement`.

    It is wrong exactly where there is a noun between and that noun clashes with the subject.

    Args:
        between: as in `agreement`.
        clash: as in `agreement`.

    Returns:
        float: accuracy, from 0 to 1.

    Raises:
        ValueError: as in `agreement`.

    Example:
        >>> round(rnnkit.tasks.last_noun_baseline(between=[0.75, 0.25], clash=0.3), 3)
        0.925
    """
    probabilities = _checked_agreement(between, clash)
    return float(1 - (1 - probabilities[0]) * clash)


def _checked_agreement(between, clash):
    """Return the probabilities of 0, 1, 2, ... nouns between."""
    if not (isinstance(clash, (int, float, np.number)) and 0 <= clash <= 1):
        raise ValueError(f"`clash` must be a probability, from 0 to 1. Received: clash={clash!r}.")
    if np.ndim(between) == 0:
        require_sizes(between=(between, 0))
        return np.eye(int(between) + 1)[-1]
    probabilities = np.asarray(between, dtype=float)
    if (
        probabilities.ndim != 1
        or not len(probabilities)
        or (probabilities < 0).any()
        or abs(probabilities.sum() - 1) > 1e-6
    ):
        raise ValueError(
            "`between` must be a whole number of at least 0, or the probabilities of 0, 1, 2, ... nouns, which sum "
            f"to 1. Received: between={between!r}."
        )
    return probabilities / probabilities.sum()
