"""What holds for the exercises of every lesson; what is particular to one is in tests/test_lesson_NN.py."""

import itertools

import pytest

from rnnkit.exercises import catalogue, evaluate

NAMES = list(catalogue())
QUIZZES = [name for name in NAMES if name.startswith("quiz_")]


@pytest.mark.parametrize("name", NAMES)
def test_hints_lead_to_a_solution(name):
    exercise = catalogue()[name]
    assert len(exercise.hints) >= 2
    assert exercise.solution_text()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stub", [..., [...] * 5])
def test_a_stub_is_not_attempted_yet(name, stub):
    assert evaluate(name, stub).status == "not attempted yet"


@pytest.mark.parametrize("name", QUIZZES)
def test_every_wrong_option_of_a_quiz_is_explained(name):
    right = catalogue()[name].reference
    for number, correct in enumerate(right):
        for letter in sorted(set("abc") - {correct}):
            outcome = evaluate(name, [*right[:number], letter, *right[number + 1 :]])
            assert outcome.status == "not yet"
            (line,) = (line for line in outcome.message.splitlines() if line.startswith("✗"))
            assert line.startswith(f"✗ Question {number + 1}: not yet. ({letter}) ")
            assert len(line.split()) > 12, line


@pytest.mark.parametrize("name", QUIZZES)
def test_a_quiz_takes_its_letters_in_more_than_one_style(name):
    letters = catalogue()[name].reference
    for answers in (letters, tuple(letters), "".join(letters), [f"({letter})".upper() for letter in letters]):
        assert evaluate(name, answers).status == "correct"


def test_each_lesson_has_three_to_five_exercises_and_a_quiz():
    for lesson in {exercise.lesson for exercise in catalogue().values()}:
        names = [name for name, exercise in catalogue().items() if exercise.lesson == lesson]
        assert f"quiz_{lesson}" in names
        assert 3 <= len(names) - 1 <= 5, names


def test_neighbouring_quizzes_do_not_share_their_row_of_letters():
    rows = ["".join(catalogue()[name].reference) for name in sorted(QUIZZES)]
    assert all(one != other for one, other in itertools.pairwise(rows)), rows
