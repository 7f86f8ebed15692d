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


def test_digits_by_row_are_scikit_learns_images():
    from sklearn.datasets import load_digits

    x, y = tasks.digits_by_row()
    np.testing.assert_allclose(x * 16, load_digits().images)
    np.testing.assert_array_equal(y, load_digits().target)


@pytest.mark.parametrize("task", [tasks.adding_problem, tasks.first_symbol_recall])
def test_seed_decides_the_data(task):
    for same, other in zip(task(5, 6, seed=1), task(5, 6, seed=1), strict=True):
        np.testing.assert_array_equal(same, other)
    assert not np.array_equal(task(5, 6, seed=1)[0], task(5, 6, seed=2)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks.adding_problem(n=0, length=10), "`n` must be a whole number of at least 1. Received: n=0"),
        (lambda: tasks.adding_problem(n=1, length=1), "`length` must be a whole number of at least 2"),
        (lambda: tasks.adding_problem(n=2.5, length=10), "Received: n=2.5"),
        (lambda: tasks.first_symbol_recall(n=1, length=3, symbols=1), "`symbols` must be a whole number of at least 2"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
