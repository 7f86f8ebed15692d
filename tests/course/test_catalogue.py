"""What holds for the exercises of every lesson; what is particular to one is in tests/course/test_lesson_NN.py."""

import itertools
import re
from collections import Counter

import pytest

from rnnkit.course.exercises import catalogue, evaluate

NAMES = list(catalogue())
FUNCTIONS = [name for name in NAMES if callable(catalogue()[name].reference)]
QUIZZES = sorted(name for name in NAMES if name.startswith("quiz_"))
# A check of these trains for a while: their references are examined in tests/course/test_lesson_NN.py.
TRAINED = {"my_layer", *(name for name in NAMES if name.startswith(("patient_", "unseen_")))}


@pytest.mark.parametrize("name", NAMES)
def test_hints_lead_to_a_solution(name):
    exercise = catalogue()[name]
    assert len(exercise.hints) >= 2
    assert exercise.solution_text()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TRAINED])
def test_the_reference_is_correct(name):
    outcome = evaluate(name, catalogue()[name].reference)
    assert outcome.status == "correct", outcome.message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stub", [..., None, [...] * 5])
def test_a_stub_is_not_attempted_yet(name, stub):
    assert evaluate(name, stub).status == "not attempted yet"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_with_a_stub_is_not_attempted_yet(name):
    assert evaluate(name, lambda *arguments: ...).status == "not attempted yet"


@pytest.mark.parametrize("name", QUIZZES)
def test_every_wrong_option_of_a_quiz_is_explained(name):
    right = catalogue()[name].reference
    for number, correct in enumerate(right):
        for letter in sorted(set("abc") - {correct}):
            outcome = evaluate(name, [*right[:number], letter, *right[number + 1 :]])
            assert outcome.status == "not yet"
            assert "4 of 5 correct" in outcome.message
            (line,) = (line for line in outcome.message.splitlines() if line.startswith("✗"))
            assert line == outcome.message.splitlines()[number + 1]
            assert line.startswith(f"✗ Question {number + 1}: not yet. ({letter}) ")
            assert len(line) > 40
            assert len(line.split()) > 12, line


@pytest.mark.parametrize("name", QUIZZES)
def test_a_quiz_takes_its_letters_in_more_than_one_style(name):
    letters = catalogue()[name].reference
    for answers in (letters, tuple(letters), "".join(letters), [f"({letter})".upper() for letter in letters]):
        assert evaluate(name, answers).status == "correct"


@pytest.mark.parametrize("name", QUIZZES)
def test_a_hint_that_counts_the_letters_of_a_quiz_counts_them_right(name):
    exercise = catalogue()[name]
    told = re.findall(r"(one|two|three) ([abc])\b", exercise.hints[-1])
    counted = {letter: ("one", "two", "three").index(count) + 1 for count, letter in told}
    assert counted in ({}, Counter(exercise.reference))


def test_each_lesson_has_three_to_five_exercises_and_a_quiz():  # the capstone, lesson 09, is made of exercises
    for lesson in {exercise.lesson for exercise in catalogue().values()}:
        names = [name for name, exercise in catalogue().items() if exercise.lesson == lesson]
        assert f"quiz_{lesson}" in names
        assert 3 <= len(names) - 1 <= (5 if lesson < "09" else 14), names


def test_a_quiz_is_not_answered_by_the_letters_of_another():
    rows = [tuple(catalogue()[name].reference) for name in QUIZZES]
    assert len(set(rows[1:])) == len(rows[1:]), rows
    assert all(one != other for one, other in itertools.pairwise(rows)), rows
