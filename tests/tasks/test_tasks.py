"""Tasks against brute force: what they say must be in the data, and the baselines must be what guessing gives."""

import importlib
import io
import json
import keyword
import re
import sys
import tokenize
from pathlib import Path

import numpy as np
import pytest

from rnnkit import tasks
from rnnkit.tasks import source


@pytest.mark.parametrize("length", [2, 5, 60])
def test_adding_problem_marks_one_step_in_each_half_and_asks_for_their_sum(length):
    x, y = tasks.adding_problem(n=500, length=length, seed=1)
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((500, length, 2), (500, 1), np.float32, np.float32)
    for sequence, target in zip(x, y, strict=True):
        marked = np.flatnonzero(sequence[:, 1])
        assert len(marked) == 2
        assert marked[0] < length // 2 <= marked[1]
        np.testing.assert_allclose(target, sequence[marked, 0].sum(), rtol=1e-6)


def test_adding_baseline_is_the_error_of_always_answering_one():
    _, y = tasks.adding_problem(n=200_000, length=4, seed=0)
    assert np.mean((y - 1) ** 2) == pytest.approx(tasks.ADDING_BASELINE, abs=0.002)
    assert min(np.mean((y - guess) ** 2) for guess in np.linspace(0, 2, 81)) > tasks.ADDING_BASELINE - 0.002


def test_every_step_of_a_half_is_marked_as_often_as_any_other():
    x, _ = tasks.adding_problem(n=60_000, length=6, seed=0)
    np.testing.assert_allclose(x[..., 1].mean(axis=0), 1 / 3, atol=0.01)


def test_first_symbol_recall_asks_for_the_first_symbol_and_nothing_else_tells_it():
    x, y = tasks.first_symbol_recall(n=40_000, length=5, symbols=3, seed=0)
    assert (x.shape, y.shape, y.dtype) == ((40_000, 5, 3), (40_000,), np.int32)
    assert (x.sum(axis=-1) == 1).all()
    agree = (x.argmax(axis=-1) == y[:, None]).mean(axis=0)
    assert agree[0] == 1
    np.testing.assert_allclose(agree[1:], 1 / 3, atol=0.01)
    np.testing.assert_allclose(np.bincount(y) / len(y), 1 / 3, atol=0.01)


@pytest.mark.parametrize(("length", "modulus"), [(1, 2), (7, 3), (12, 5)])
def test_double_sum_weighs_each_digit_by_how_long_ago_it_was(length, modulus):
    x, y = tasks.double_sum(n=200, length=length, modulus=modulus, seed=1)
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((200, length, modulus), (200, length), np.float32, np.int32)
    assert (x.sum(axis=-1) == 1).all()
    for digits, answers in zip(x.argmax(axis=-1).tolist(), y.tolist(), strict=True):
        for t, answer in enumerate(answers):
            assert answer == sum((t - s + 1) * digits[s] for s in range(t + 1)) % modulus


@pytest.mark.parametrize(("length", "modulus"), [(1, 3), (6, 3), (9, 4)])
def test_double_sum_baseline_is_what_the_best_table_from_digit_to_answer_reaches(length, modulus):
    x, y = tasks.double_sum(n=60_000, length=length, modulus=modulus, seed=0)
    digits = x.argmax(axis=-1)
    best = sum(np.bincount(y[digits == digit], minlength=modulus).max() for digit in range(modulus)) / y.size
    assert best == pytest.approx(tasks.double_sum_baseline(length, modulus), abs=0.004)


@pytest.mark.parametrize("length", [10, 17, 50])
def test_temporal_order_hides_two_marks_where_it_says_and_asks_for_them_in_order(length):
    x, y = tasks.temporal_order(n=4_000, length=length, seed=1)
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((4_000, length, 6), (4_000,), np.float32, np.int32)
    assert (x.sum(axis=-1) == 1).all()
    names = {"XX": 0, "XY": 1, "YX": 2, "YY": 3}
    places = set()
    for sequence, answer in zip(x.argmax(axis=-1), y, strict=True):
        first, second = np.flatnonzero(sequence >= 4)
        places |= {(0, first), (1, second)}
        assert answer == names["".join("abcdXY"[symbol] for symbol in sequence[[first, second]])]
    firsts, seconds = (sorted(place for which, place in places if which == mark) for mark in (0, 1))
    assert firsts == list(range(length // 10, length // 5 + 1))
    assert seconds == list(range(4 * length // 10, length // 2 + 1))


def test_temporal_order_baseline_is_the_cross_entropy_of_guessing():
    x, y = tasks.temporal_order(n=40_000, length=10, seed=0)
    frequency = np.bincount(y, minlength=4) / len(y)
    np.testing.assert_allclose(frequency, 1 / 4, atol=0.01)
    assert -np.mean(np.log(frequency[y])) == pytest.approx(tasks.TEMPORAL_ORDER_BASELINE, abs=1e-3)
    # Brute force: given the last mark, one of two answers remains.
    last = np.array([sequence[sequence >= 4][-1] for sequence in x.argmax(axis=-1)])
    given = np.array([np.bincount(y[last == mark], minlength=4) / (last == mark).sum() for mark in (4, 5)])
    assert -np.mean(np.log(given[last - 4, y])) == pytest.approx(np.log(2), abs=1e-3)


def test_copy_memory_shows_waits_says_go_and_asks_for_all_of_it():
    x, y = tasks.copy_memory(n=300, delay=7, copied=3, symbols=4, seed=1)
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((300, 13, 6), (300, 13), np.float32, np.int32)
    for sequence, written in zip(x.argmax(axis=-1).tolist(), y.tolist(), strict=True):
        row = sequence[:3]
        assert set(row) <= {0, 1, 2, 3}
        assert sequence[3:] == [4] * 6 + [5] + [4] * 3  # delay - 1 blanks, go, as many blanks as there are symbols
        assert written == [4] * 10 + row


@pytest.mark.parametrize(("delay", "copied", "symbols"), [(1, 2, 3), (12, 10, 8)])
def test_copy_memory_baseline_is_the_cross_entropy_of_the_best_guess_at_each_step(delay, copied, symbols):
    _, y = tasks.copy_memory(n=30_000, delay=delay, copied=copied, symbols=symbols, seed=0)
    spent = []
    for step in y.T:
        frequency = np.bincount(step, minlength=symbols + 1) / len(step)
        spent.append(-np.mean(np.log(frequency[step])))
    assert np.mean(spent) == pytest.approx(tasks.copy_memory_baseline(delay, copied, symbols), rel=2e-3)


# --- tickets and agreement ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("distance", "length"), [(4, None), (9, None), (9, 30)])
def test_tickets_are_named_at_the_distance_and_asked_for_at_the_end(distance, length):
    x, y = tasks.tickets(400, distance, length, seed=1)
    assert x.shape == y.shape == (400, length or distance + 7)
    assert (x.dtype, y.dtype) == (np.int32, np.int32)
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    objects = {"tickets", "letters", "forms", "photos", "tables", "maps", "poems", "labels"}
    for read, answer in zip(x, y[:, -1], strict=True):
        words = [tasks.TICKETS_WORDS[word] for word in read]
        assert " ".join(words[-4:]) == "she finally printed her"
        (place,) = (place for place, word in enumerate(words) if word in objects)
        assert len(words) - 1 - place == distance
        assert words[place] == tasks.TICKETS_WORDS[answer]
        assert " ".join(words[place - 6 : place]) == "when she tried to print her"


def test_tickets_baseline_is_the_best_guess_without_the_object():
    _, y = tasks.tickets(40_000, 4, seed=0)
    frequency = np.bincount(y[:, -1]) / len(y)
    np.testing.assert_allclose(frequency, tasks.TICKETS_BASELINE, atol=0.01)


def parsed(row):
    """The numbers of the nouns of a sentence, True for plural, read from its words."""
    words = [tasks.AGREEMENT_WORDS[word] for word in row if word]
    assert words[0] == "the"
    assert all(before in {"of", "near", "behind", "with"} for before in words[2::3])
    assert all(article == "the" for article in words[3::3])
    return [noun.endswith("s") for noun in words[1::3]]


def test_agreement_is_with_the_first_noun_and_every_noun_between_clashes_if_told_to():
    for clash in (0, 1):
        for between in range(4):
            x, y = tasks.agreement(200, between, clash, seed=between)
            assert (x.shape, y.shape, x.dtype, y.dtype) == ((200, 2 + 3 * between), (200,), np.int32, np.int32)
            for row, plural in zip(x, y, strict=True):
                subject, *others = parsed(row)
                assert subject == plural
                assert others == [subject ^ bool(clash)] * between


def test_agreement_draws_numbers_of_nouns_and_pads_at_the_front():
    chances = [0.5, 0.3, 0.2]
    x, y = tasks.agreement(20_000, chances, clash=0.4, seed=0)
    assert x.shape == (20_000, 8)
    nouns = [parsed(row) for row in x]
    counts = np.bincount([len(row) - 1 for row in nouns]) / len(x)
    np.testing.assert_allclose(counts, chances, atol=0.015)
    assert all(row[-1] for row in x)
    assert (np.diff((x > 0).astype(int), axis=1) >= 0).all()
    clashes = [noun != row[0] for row in nouns for noun in row[1:]]
    assert np.mean(clashes) == pytest.approx(0.4, abs=0.015)
    assert np.mean(y) == pytest.approx(0.5, abs=0.015)
    # Brute force: how often is the last noun's number the answer?
    last = np.mean([row[-1] == plural for row, plural in zip(nouns, y, strict=True)])
    assert last == pytest.approx(tasks.last_noun_baseline(chances, 0.4), abs=0.01)


# --- source code ----------------------------------------------------------------------------------------------------


def tokens_by_tokenize(source):
    """The same tokens from Python's own tokenizer."""
    kinds = {tokenize.NAME: "NAME", tokenize.NUMBER: "NUMBER", tokenize.STRING: "STRING"}
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            found.append(token.string if keyword.iskeyword(token.string) else kinds[token.type])
        elif token.type == tokenize.OP:
            found.append(token.string)
    return found


@pytest.mark.parametrize("module", [tokenize, io, keyword, json, "random", "ast", "decimal", "_pydecimal", "shutil"])
def test_tokens_are_those_of_pythons_own_tokenizer(module):
    module = importlib.import_module(module) if isinstance(module, str) else module
    source = Path(module.__file__).read_text(encoding="utf-8")
    if re.search(r"""\b[fF][rR]?["']""", source) and sys.version_info >= (3, 12):
        pytest.skip("since 3.12 Python's tokenizer cuts f-strings up")
    found = [tasks.SOURCE_TOKENS[token] for token in tasks.tokens_of(source)]
    assert found == tokens_by_tokenize(source)


@pytest.mark.parametrize("source", ["x = 'open", "price = 3 $", 's = """never closed'])
def test_what_is_no_token_is_refused(source):
    assert tasks.tokens_of(source) is None


def brackets_slowly(tokens):
    """For each token inside a bracket, rescan the file from its start."""
    pairs = dict(zip("([{", ")]}", strict=True))
    for end in range(len(tokens)):
        waiting, closed_at = [], []
        for place, token in enumerate(tokens[: end + 1]):
            if token in pairs:
                waiting.append(place)
            elif token in pairs.values():
                closed_at.append(waiting.pop())
        if waiting:
            opener = waiting[-1]
            nested = sum(place > opener for place in closed_at)
            yield end, "([{".index(tokens[opener]), end - opener, nested


def test_open_brackets_against_a_rescan_of_the_file():
    source = "f(a[0], {1: (2, [3]), 4: g()}, [h(i) for i in (5, 6)])[7] = {}; x = (1)"
    tokens = tasks.tokens_of(source)
    assert tasks.open_brackets(tokens) == list(brackets_slowly([tasks.SOURCE_TOKENS[token] for token in tokens]))
    assert tasks.open_brackets(tasks.tokens_of("(]")) is None
    assert tasks.open_brackets(tasks.tokens_of("(")) is None


def test_python_brackets_asks_for_what_the_window_shows_and_balances_kinds_and_distances():
    x, y, distance, nested = tasks.python_brackets(240, length=32, bins=(1, 8, 16), seed=1)
    assert (x.shape, x.dtype, y.dtype) == ((240, 32), np.int32, np.int32)
    for window, answer, far, pairs in zip(x, y, distance, nested, strict=True):
        tokens = [tasks.SOURCE_TOKENS[token] for token in window[len(window) - 1 - far :]]
        assert list(brackets_slowly(tokens))[-1] == (far, answer, far, pairs)
    cells = np.bincount(3 * (np.digitize(distance, [1, 8, 16]) - 1) + y, minlength=9)
    assert cells.tolist() == [27] * 6 + [26] * 3


def test_brackets_baseline_is_what_the_most_frequent_kind_gives_at_every_distance():
    _, y, distance, _ = tasks.python_brackets(900, seed=0)
    ranges = np.digitize(distance, [1, 8, 16, 32])
    for place in range(1, 5):
        best = np.bincount(y[ranges == place]).max() / (ranges == place).sum()
        assert best == pytest.approx(tasks.BRACKETS_BASELINE, abs=0.01)


def test_a_file_is_for_training_or_for_testing():
    train, test = (set(source._files(split)) for split in ("train", "test"))
    assert train
    assert test
    assert not train & test


def test_digits_by_row_are_scikit_learns_images():
    from sklearn.datasets import load_digits

    x, y = tasks.digits_by_row()
    np.testing.assert_allclose(x * 16, load_digits().images)
    np.testing.assert_array_equal(y, load_digits().target)


def test_digit_images_are_all_of_them_in_two_parts():
    x, y, x_new, y_new = tasks.digit_images(n_new=500, seed=2)
    assert (x.shape, x_new.shape, y.shape, y_new.shape) == ((1297, 8, 8, 1), (500, 8, 8, 1), (1297,), (500,))
    rows, labels = tasks.digits_by_row()

    def known(images, digits):
        return sorted((digit, *image.ravel().tolist()) for image, digit in zip(images, digits, strict=True))

    assert known(np.concatenate([x, x_new]), np.concatenate([y, y_new])) == known(rows, labels)
    assert min(np.bincount(y_new, minlength=10)) > 30
    np.testing.assert_array_equal(tasks.digit_images(n_new=500, seed=2)[0], x)
    assert not np.array_equal(tasks.digit_images(n_new=500, seed=3)[0], x)


@pytest.mark.parametrize("n_new", [0, 1797, 2.5])
def test_digit_images_refuses_a_part_that_is_none(n_new):
    with pytest.raises(ValueError, match=f"Received: n_new={n_new}"):
        tasks.digit_images(n_new=n_new)


@pytest.mark.parametrize(
    "task", [tasks.adding_problem, tasks.first_symbol_recall, tasks.temporal_order, tasks.copy_memory]
)
def test_seed_decides_the_data(task):
    for same, other in zip(task(5, 10, seed=1), task(5, 10, seed=1), strict=True):
        np.testing.assert_array_equal(same, other)
    assert not np.array_equal(task(5, 10, seed=1)[0], task(5, 10, seed=2)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks.adding_problem(n=0, length=10), "`n` must be a whole number of at least 1. Received: n=0"),
        (lambda: tasks.adding_problem(n=1, length=1), "`length` must be a whole number of at least 2"),
        (lambda: tasks.adding_problem(n=2.5, length=10), "Received: n=2.5"),
        (lambda: tasks.temporal_order(n=1, length=9), "`length` must be a whole number of at least 10"),
        (lambda: tasks.copy_memory(n=1, delay=0), "`delay` must be a whole number of at least 1"),
        (lambda: tasks.copy_memory_baseline(delay=1, symbols=1), "`symbols` must be a whole number of at least 2"),
        (lambda: tasks.tickets(n=1, distance=3), "`distance` must be a whole number of at least 4"),
        (lambda: tasks.tickets(n=1, distance=5, length=11), "`length` must be a whole number of at least 12"),
        (lambda: tasks.agreement(n=1, between=-1, clash=0), "`between` must be a whole number of at least 0"),
        (lambda: tasks.agreement(n=1, between=[0.5, 0.4], clash=0), "which sum to 1"),
        (lambda: tasks.agreement(n=1, between=1, clash=1.5), "`clash` must be a probability"),
        (lambda: tasks.python_brackets(n=3, split="both"), "`split` is 'train' or 'test'"),
        (lambda: tasks.python_brackets(n=3, bins=(8, 1)), "`bins` must be whole numbers that rise"),
        (lambda: tasks.python_brackets(n=10_000_000), "Ask for fewer"),
        (lambda: tasks.first_symbol_recall(n=1, length=3, symbols=1), "`symbols` must be a whole number of at least 2"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- text -----------------------------------------------------------------------------------------------------------


def test_text_is_that_of_help_and_what_follows_follows():
    from pydoc_data.topics import topics

    x, y = tasks.python_text(n=200, length=30, seed=2)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((200, 30), np.int32, (200, 30), np.int32)
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    squeezed = re.sub(r"[^a-z]", "", "".join(topics.values()).lower())
    found = [
        re.sub(r"[^a-z]", "", "".join(tasks.TEXT_CHARACTERS[n] for n in window).lower()) in squeezed for window in x
    ]
    assert np.mean(found) > 0.95  # the rest straddle two paragraphs between which another one was left out


def test_text_of_training_and_test_share_no_paragraph():
    def paragraphs(split):
        text = "".join(tasks.TEXT_CHARACTERS[number] for number in tasks.whole_text(split))
        return {" ".join(part.split()) for part in text.split("\n\n")} - {""}

    train, test = paragraphs("train"), paragraphs("test")
    assert len(train) > len(test) > 50
    assert not train & test


def test_text_refuses_what_makes_no_sense(monkeypatch):
    with pytest.raises(ValueError, match="'train' or 'test'"):
        tasks.python_text(10, split="valid")
    with pytest.raises(ValueError, match="`length`"):
        tasks.python_text(10, length=0)
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    tasks.whole_text.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"Use a Python that has them"):
        tasks.python_text(10)
    tasks.whole_text.cache_clear()
