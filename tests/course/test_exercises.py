import doctest
import importlib
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

import rnnkit
from rnnkit import exercises
from rnnkit.course.exercises import Exercise, Mistake, NotYet, choice, close, evaluate, reject_known_mistakes
from rnnkit.course.exercises._evaluate import guarded

LESSON = '''
import numpy as np

from rnnkit.course.exercises import Exercise, NotYet, choice, close, quiz


def scale_to(vector, length):
    """Scale a vector to a length."""
    return vector * (length / np.linalg.norm(vector))


def examine_scale_to(answer):
    vector = np.array([3.0, 4.0])
    close([[0.6, 0.8]][0], what="the scaled vector")(answer(vector, 1.0))
    if vector[0] != 3.0:
        raise NotYet("the examiner's own vector was changed")
    close(np.array([6.0, 8.0]), what="the scaled vector")(answer(vector, 10.0))
    return "Its length is right for both targets."


def examine_gate(answer):
    close(0.5, what="the gate at 0")(answer(4).value(0.0))


class Gate:
    def __init__(self, units):
        self.units = units

    def value(self, x):
        return 1 / (1 + np.exp(-x))


HINTS = ("Divide by the length it has.", "`np.linalg.norm` gives that length.")
EXERCISES = (
    Exercise("scale_to", HINTS, scale_to, examine_scale_to),
    Exercise("gate", HINTS, Gate, examine_gate),
    Exercise("baseline", HINTS, 1 / 6, close(1 / 6, rtol=1e-2), solution="1 / 6, the variance of a sum"),
    Exercise("careless", HINTS, 1, lambda answer: answer == 1),
    Exercise(
        "quiz_99",
        HINTS,
        ["b", "a"],
        quiz(choice("b", {"a": "That is forward.", "b": "Indeed."}), choice("a", {"b": "No.", "c": "Nor this."})),
    ),
)
'''


@pytest.fixture(autouse=True)
def lesson(tmp_path, monkeypatch):
    """A course with one lesson, 99."""
    (tmp_path / "lesson_99.py").write_text(LESSON)
    monkeypatch.setattr(exercises, "__path__", [str(tmp_path)])
    monkeypatch.setattr(exercises, "_hints_shown", {})
    exercises.catalogue.cache_clear()
    yield tmp_path
    exercises.catalogue.cache_clear()
    for name in [name for name in sys.modules if name.startswith("rnnkit.course.exercises.")]:
        if name[-2:] in ("98", "99"):
            del sys.modules[name]


def right(vector, length):
    return vector * length / np.linalg.norm(vector)


def stub_dots(vector, length):
    """Scale a vector."""
    ...


def stub_pass(vector, length):
    pass


def stub_none(vector, length):
    return None


def stub_raises(vector, length):
    raise NotImplementedError


def stub_returns_dots(vector, length):
    norm = np.linalg.norm(vector)  # noqa: F841
    return ...


def stub_middle(vector, length):
    factor = ...
    return vector * factor


def stub_ufunc(vector, length):
    return np.sqrt(...)


def stub_attribute(vector, length):
    norm = ...
    return vector / norm.item()


def stub_pair(vector, length):
    return ..., ...


@pytest.mark.parametrize(
    "answer",
    [
        ...,
        None,
        [..., ...],
        {"a": None},
        stub_dots,
        stub_pass,
        stub_none,
        stub_raises,
        stub_returns_dots,
        stub_middle,
        stub_ufunc,
        stub_attribute,
        stub_pair,
        lambda vector, length: ...,
    ],
)
def test_a_stub_is_not_attempted_yet(answer):
    assert evaluate("scale_to", answer).status == "not attempted yet"


def test_a_right_answer_is_correct_and_may_earn_a_remark():
    outcome = evaluate("scale_to", right)
    assert outcome.status == "correct"
    assert outcome.message == "Its length is right for both targets."
    assert evaluate("baseline", 0.1667) == exercises.Outcome("correct", "")


def divides_by_zero(vector, length):
    factor = length / 0
    return vector * factor


def fails_in_numpy(vector, length):
    return np.linalg.norm(vector, axis="x")


def forgets_return(vector, length):
    vector * length / np.linalg.norm(vector)


def indexes_wrongly(vector, length):
    return vector[..., ...]


def recurses(vector, length):
    return recurses(vector, length)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda vector, length: vector, "too large"),
        (lambda vector, length: right(vector, length)[:1], "2 parts; received 1 parts"),
        (lambda vector, length: 3, "2 parts; received 3"),
        (lambda vector, length: "ab", "should be numbers; received str"),
        (lambda vector, length: -right(vector, length), "opposite sign"),
        (lambda vector, length: right(vector, length) * np.nan, "NaN or infinite"),
        (divides_by_zero, "your code raised ZeroDivisionError: "),
        (divides_by_zero, "`factor = length / 0`"),
        (fails_in_numpy, '`return np.linalg.norm(vector, axis="x")`'),
        (forgets_return, "returned None. Is there a `return`"),
        (recurses, "RecursionError"),
        (indexes_wrongly, "IndexError: an index can only have a single ellipsis"),
        (lambda: 3, "TypeError"),
        (7, "your answer, 7, could not be examined (TypeError: 'int' object is not callable)"),
        (np.zeros(99), "your answer, a ndarray, could not be examined"),
    ],
)
def test_a_wrong_answer_is_not_yet_and_why(answer, told):
    outcome = evaluate("scale_to", answer)
    assert outcome.status == "not yet"
    assert told in outcome.message


def test_the_line_told_is_the_learners_own():
    line = divides_by_zero.__code__.co_firstlineno + 1
    assert f"at line {line}:" in evaluate("scale_to", divides_by_zero).message


def test_the_line_told_is_the_deepest_of_their_code():
    def outer(vector, length):
        return divides_by_zero(vector, length)

    assert "`factor = length / 0`" in evaluate("scale_to", outer).message


def test_only_plain_functions_are_wrapped():
    """A model is callable too, and an examiner may want its attributes."""

    class Model:
        def __call__(self, x):
            return x

    model = Model()
    assert guarded(model) is model
    assert guarded(Unfinished) is Unfinished
    assert guarded(right) is not right
    assert guarded(right).__name__ == "right"


def test_changing_its_input_cannot_spoil_the_check():
    def in_place(vector, length):
        vector *= length / np.linalg.norm(vector)
        return vector

    assert evaluate("scale_to", in_place).status == "correct"
    nested = [np.ones(2), {"w": np.ones(2)}]

    def zero(parts):
        parts[0][:] = 0
        parts[1]["w"][:] = 0
        return parts

    guarded(zero)(nested)
    assert nested[0].all()
    assert nested[1]["w"].all()


def test_what_it_prints_is_left_for_the_learner_to_see(capsys):
    def talkative(vector, length):
        print("here", length)
        return right(vector, length)

    rnnkit.check("scale_to", talkative)
    assert capsys.readouterr().out.startswith("here 1.0\nhere 10.0\n✓ scale_to: correct.")


class Unfinished:
    def __init__(self, units):
        self.units = units

    def value(self, x):
        return 1 / (1 + np.exp(...))


class Broken(Unfinished):
    def value(self, x):
        return self.weights * x


def test_a_class_can_be_an_answer():
    reference = exercises.catalogue()["gate"].reference
    assert evaluate("gate", reference).status == "correct"
    assert evaluate("gate", Unfinished).status == "not attempted yet"
    broken = evaluate("gate", Broken)
    assert broken.status == "not yet"
    assert "AttributeError" in broken.message
    assert "`return self.weights * x`" in broken.message


def test_an_examiner_that_returns_a_verdict_is_caught():
    """Returning False must not count as correct."""
    assert evaluate("careless", 2).status == "not yet"
    assert "raises NotYet" in evaluate("careless", 1).message


# --- check, and its strict modes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (right, "✓ scale_to: correct. Its length is right for both targets.\n"),
        (
            ...,
            "○ scale_to: not attempted yet. Replace the `...` with your answer and run this cell again. "
            "Stuck? `rnnkit.hint('scale_to')`\n",
        ),
        (stub_middle, "○ scale_to: not attempted yet. A `...` still stands in it. Stuck? `rnnkit.hint('scale_to')`\n"),
        (lambda vector, length: -vector, "✗ scale_to: not yet. part 0 of the scaled vector is too small.\n"),
    ],
)
def test_check_says_the_outcome_in_a_word(answer, told, capsys):
    assert rnnkit.check("scale_to", answer) is None
    assert capsys.readouterr().out == told


@pytest.mark.parametrize("name", ["scale_too", "", None, 3, ["scale_to"]])
@pytest.mark.parametrize("ask", [lambda name: rnnkit.check(name, right), rnnkit.hint, rnnkit.solution])
def test_an_unknown_name_is_answered_not_raised(name, ask, capsys):
    ask(name)
    assert f"There is no exercise called `{name}`" in capsys.readouterr().out


def test_close_names_are_suggested(capsys):
    rnnkit.check("scale_too", right)
    assert "Did you mean `scale_to`?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("expect", "answer"),
    [("correct", right), ("open", ...), ("open", stub_dots)],
)
def test_strict_checks_pass(expect, answer, monkeypatch):
    monkeypatch.setenv("RNNKIT_EXPECT", expect)
    rnnkit.check("scale_to", answer)


@pytest.mark.parametrize(
    ("expect", "answer"),
    [
        ("correct", ...),
        ("correct", divides_by_zero),
        ("open", right),  # a leaked answer
        ("open", divides_by_zero),  # a stub that is taken for an attempt
    ],
)
def test_strict_checks_fail(expect, answer, monkeypatch):
    monkeypatch.setenv("RNNKIT_EXPECT", expect)
    with pytest.raises(AssertionError, match="Exercise scale_to should be"):
        rnnkit.check("scale_to", answer)


def test_strict_checks_refuse_unknown_names_and_modes(monkeypatch):
    monkeypatch.setenv("RNNKIT_EXPECT", "open")
    for ask in (lambda: rnnkit.check("nil", ...), lambda: rnnkit.hint("nil"), lambda: rnnkit.solution("nil")):
        with pytest.raises(ValueError, match="no exercise called `nil`"):
            ask()
    monkeypatch.setenv("RNNKIT_EXPECT", "perfect")
    with pytest.raises(ValueError, match="one of correct, open; received 'perfect'"):
        rnnkit.check("scale_to", right)


def test_evaluate_refuses_unknown_names():
    with pytest.raises(ValueError, match="Did you mean `gate`"):
        evaluate("gates", ...)


# --- hint, solution, use_or_reference -------------------------------------------------------------------------


def test_hints_come_one_at_a_time_and_end(capsys):
    for _ in range(4):
        rnnkit.hint("scale_to")
    assert capsys.readouterr().out.splitlines() == [
        "Hint 1 of 2 for scale_to: Divide by the length it has.",
        "Hint 2 of 2 for scale_to: `np.linalg.norm` gives that length.",
        *["No more hints for scale_to. See one again with `rnnkit.hint('scale_to', 1)`, or the answer with "
          "`rnnkit.solution('scale_to')`."] * 2,
    ]  # fmt: skip


def test_a_particular_hint(capsys):
    rnnkit.hint("scale_to", 2)
    rnnkit.hint("scale_to")  # the count is not touched
    for number in (0, 3, "first"):
        rnnkit.hint("scale_to", number)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:11] for line in lines[:2]] == ["Hint 2 of 2", "Hint 1 of 2"]
    assert lines[2:] == [
        f"? The hints for `scale_to` are numbered 1 to 2; there is no hint {number}."
        for number in ("0", "3", "'first'")
    ]


def test_solution_is_the_references_source_its_value_or_a_text(capsys):
    rnnkit.solution("scale_to")
    assert capsys.readouterr().out == (
        "A solution of scale_to. Others may be as good.\n\n"
        'def scale_to(vector, length):\n    """Scale a vector to a length."""\n'
        "    return vector * (length / np.linalg.norm(vector))\n"
    )
    rnnkit.solution("gate")
    assert "\n\nclass Gate:\n" in capsys.readouterr().out
    rnnkit.solution("baseline")
    assert capsys.readouterr().out.endswith("\n\n1 / 6, the variance of a sum\n")
    rnnkit.solution("quiz_99")
    assert capsys.readouterr().out.endswith("\n\n['b', 'a']\n")


def test_a_right_answer_is_used(capsys):
    assert rnnkit.use_or_reference("scale_to", right) is right
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("answer", "status"), [(..., "not attempted yet"), (divides_by_zero, "not yet correct")])
def test_the_reference_stands_in_and_says_so(answer, status, capsys):
    used = rnnkit.use_or_reference("scale_to", answer)
    assert used is exercises.catalogue()["scale_to"].reference
    np.testing.assert_allclose(used(np.array([3.0, 4.0]), 5.0), [3, 4])
    assert capsys.readouterr().out == (
        f"Carrying on with the reference answer of scale_to: yours is {status}, and that is fine.\n"
    )


def test_an_unknown_name_leaves_the_answer_as_it_is(capsys):
    assert rnnkit.use_or_reference("nil", 3) == 3
    assert "no exercise called `nil`" in capsys.readouterr().out


# --- examiners ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (2.0, 2),
        (2.0, np.float32(2.00001)),
        (np.arange(3), [0, 1, 2]),
        ([np.ones(2), np.ones((2, 2))], (np.ones(2), np.ones((2, 2)))),
        (np.array([np.inf, 1]), np.array([np.inf, 1])),
        (np.zeros(2), np.full(2, 1e-9)),
    ],
)
def test_close_accepts(expected, answer):
    assert close(expected)(answer) is None


@pytest.mark.parametrize(
    ("expected", "answer", "told"),
    [
        (2.0, 2.1, "the norm is too large."),
        (2.0, 1.9, "the norm is too small."),
        (2.0, -2.0, "the norm has the opposite sign of what it should have."),
        (2.0, math.inf, "the norm has 1 of 1 numbers that are NaN or infinite."),
        (2.0, "two", "the norm should be numbers; received str."),
        (2.0, None, "the norm should be numbers; received None."),
        (2.0, [2.0], "the norm should have shape (); received (1,)."),
        (np.ones((2, 3)), np.ones((3, 2)), "should have shape (2, 3); received (3, 2). Are two axes swapped?"),
        (np.array([1.0, 2]), np.array([np.nan, 2]), "the norm has 1 of 2 numbers that are NaN or infinite."),
        (np.array([1.0, 2]), np.array([0.5, 1]), "the norm is 0.5 times what it should be."),
        (np.array([1.0, 2, 3]), np.array([1.0, 2, 4]), "the norm is wrong in 1 of 3 numbers, first at index [2]."),
        (np.zeros(2), np.ones(2), "the norm is wrong in 2 of 2 numbers, first at index [0]."),
        (np.ones(2), np.zeros(2), "the norm is wrong in 2 of 2 numbers, first at index [0]."),
        ([np.ones(2)] * 2, [np.ones(2)], "the norm should have 2 parts; received 1 parts."),
        ([np.ones(2)] * 2, 3.0, "the norm should have 2 parts; received 3.0."),
        ([np.ones(2)] * 2, [np.ones(2), 2 * np.ones(2)], "part 1 of the norm is 2 times what it should be."),
    ],
)
def test_close_tells_the_kind_of_difference(expected, answer, told):
    with pytest.raises(NotYet) as why:
        close(expected, what="the norm")(answer)
    assert told in str(why.value)


def test_choice_explains_the_option_picked():
    examine = choice("b", {"a": "That is forward.", "c": "Too short."})
    for written in ("b", "B ", "(b)", "b)", "b."):
        assert examine(written) is None
    assert examine("b") is None
    assert examine(" B ") is None
    with pytest.raises(NotYet, match=r"^\(c\) Too short\.$"):
        examine("c")
    for answer in ("e", 2, ["b"], "ab"):
        with pytest.raises(NotYet, match="one of the letters a, b, c; received"):
            examine(answer)


def test_choice_needs_explanations():
    with pytest.raises(ValueError, match="explains each wrong option"):
        choice("b", {})


@pytest.mark.parametrize(
    ("answer", "status", "lines"),
    [
        (["b", "a"], "correct", ["2 of 2 correct.", "✓ Question 1: correct. Indeed.", "✓ Question 2: correct."]),
        ("ba", "correct", None),
        (
            ["a", ...],
            "not yet",
            ["0 of 2 correct.", "✗ Question 1: not yet. (a) That is forward.", "○ Question 2: not attempted yet."],
        ),
        (
            ("b", "c"),
            "not yet",
            ["1 of 2 correct.", "✓ Question 1: correct. Indeed.", "✗ Question 2: not yet. (c) Nor this."],
        ),
        (["b"], "not yet", ["give a list of 2 letters, one a question; received ['b']."]),
        (3, "not yet", ["give a list of 2 letters, one a question; received 3."]),
        ([..., ...], "not attempted yet", [""]),
    ],
)
def test_quiz_gives_a_line_a_question(answer, status, lines):
    outcome = evaluate("quiz_99", answer)
    assert outcome.status == status
    assert lines is None or outcome.message.split("\n") == lines


MISTAKES = (
    Mistake("that is the sum.", lambda numbers: sum(numbers)),
    Mistake("that is half of each.", lambda numbers: [number / 2 for number in numbers]),
    Mistake("that is the number in print.", 0.5),
    Mistake("this comes too late.", 0.5),
)
GIVEN = [np.ones(2), np.arange(2.0)]


@pytest.mark.parametrize(
    ("received", "told"),
    [
        (np.array([1.0, 2.0]), "the sum"),
        (np.array([1.0, 2.0 + 1e-6]), "the sum"),
        (np.array([1.0 + 0j, 2.0]), "the sum"),
        ([1, 2], "the sum"),
        ((np.array([0.5, 0.5]), [0.0, 0.5]), "half of each"),
        (np.array([[0.5, 0.5], [0.0, 0.5]]), "half of each"),
        (Fraction(1, 2), "in print"),
    ],
)
def test_a_known_mistake_is_told(received, told):
    with pytest.raises(NotYet, match=told):
        reject_known_mistakes(received, MISTAKES, GIVEN)


@pytest.mark.parametrize(
    "received",
    [
        np.array([1.0, 2.1]), np.array([[1.0, 2.0]]), np.array([1.0 + 1j, 2.0]), np.full(2, np.nan),
        [np.array([0.5, 0.5])], [np.ones(2), np.ones(3)], "sum", None, ...,
    ],
)  # fmt: skip
def test_what_is_no_known_mistake_is_passed_over(received):
    reject_known_mistakes(received, MISTAKES, GIVEN)


# --- the catalogue --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "Scale-To"}, "snake_case; received 'Scale-To'"),
        ({"hints": ("one",)}, "two hints or more"),
        ({"hints": "a string"}, "two hints or more"),
        ({"examine": 3}, "function of the answer; received 3"),
    ],
)
def test_an_exercise_keeps_the_rules(change, told):
    fields = {"name": "x", "hints": ("a", "b"), "reference": 1, "examine": close(1)}
    Exercise(**fields)
    with pytest.raises(ValueError, match=told):
        Exercise(**(fields | change))


def test_names_are_unique_in_the_course(lesson):
    (lesson / "lesson_98.py").write_text(LESSON)
    with pytest.raises(ValueError, match="'scale_to' is in lessons 98 and 99"):
        exercises.catalogue()


def test_an_exercise_is_of_the_lesson_in_whose_file_it_stands(lesson):
    (lesson / "lesson_98.py").write_text("""
from rnnkit.course.exercises import Exercise, close

EXERCISES = (Exercise("a_third", ("Divide.", "1 / 3"), 1 / 3, close(1 / 3)),)
""")
    found = {name: exercise.lesson for name, exercise in exercises.catalogue().items()}
    assert next(iter(found)) == "a_third"
    assert found.pop("a_third") == "98"
    assert set(found.values()) == {"99"}


@pytest.mark.parametrize("part", ["", "._exercise", "._evaluate", "._examiners", "._catalogue"])
def test_examples_in_docstrings_run(part):
    module = importlib.import_module(f"rnnkit.course.exercises{part}")
    results = doctest.testmod(module, extraglobs={"rnnkit": rnnkit}, optionflags=doctest.ELLIPSIS)
    assert results.attempted
    assert results.failed == 0


def test_exercises_need_no_keras():
    code = "import sys, rnnkit; rnnkit.check('nil', 1); assert 'keras' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
