"""Tasks against brute force: what they say must be in the data, and the baselines must be what guessing gives."""

import numpy as np
import pytest

from rnnkit import tasks


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


def test_digits_by_row_are_scikit_learns_images():
    from sklearn.datasets import load_digits

    x, y = tasks.digits_by_row()
    np.testing.assert_allclose(x * 16, load_digits().images)
    np.testing.assert_array_equal(y, load_digits().target)


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
        (lambda: tasks.first_symbol_recall(n=1, length=3, symbols=1), "`symbols` must be a whole number of at least 2"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
