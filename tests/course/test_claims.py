import doctest
import subprocess
import sys

import numpy as np
import pytest

from rnnkit import claims
from rnnkit.course.claims import Claim, ClaimError, claim


def test_examples_in_docstrings_run():
    assert doctest.testmod(claims).attempted
    assert doctest.testmod(claims).failed == 0


@pytest.mark.parametrize(
    ("relation", "below", "at", "above"),
    [
        (">=", False, True, True),
        (">", False, False, True),
        ("<=", True, True, False),
        ("<", True, False, False),
    ],
)
def test_relations_at_and_around_the_bound(relation, below, at, above):
    assert [Claim("s", value, relation, 2).held for value in (1.9, 2, 2.1)] == [below, at, above]


@pytest.mark.parametrize(
    "measured",
    [3, 3.0, np.float32(3), np.array(3), [3], (3,), np.array([3]), np.array([[3, 3]]), [np.float64(3)], [True]],
)
def test_takes_numbers_sequences_and_arrays(measured):
    record = Claim("s", measured, ">=", np.array(1))
    assert record.held
    assert all(type(value) is float for value in (*record.values, record.bound))


def test_every_run_must_hold_unless_a_fraction_is_named():
    values = [5, 5, 5, 5, 1]
    assert not Claim("s", values, ">=", 2).held
    assert Claim("s", values, ">=", 2, fraction=0.8).held
    assert not Claim("s", values, ">=", 2, fraction=0.81).held
    assert Claim("s", [5] * 14 + [1] * 11, ">=", 2, fraction=0.56).held  # 0.56 * 25 rounds to above 14
    assert not Claim("s", [5] * 13 + [1] * 12, ">=", 2, fraction=0.56).held


def test_shows_statement_measurement_need_and_verdict(capsys):
    assert claim("It shrinks.", [1234, 4321, 2345], ">=", 1e3) is None  # nothing for a notebook to echo
    assert capsys.readouterr().out == (
        "✓ Claim holds: It shrinks. Measured 2300 (median; range 1200 to 4300) over 3 runs; "
        "needed >= 1000: true of 3 of 3.\n"
    )


def test_a_single_measurement_has_no_range(capsys):
    claim("Small", 2.51e-6, "<", 1e-5, fraction=1)
    assert capsys.readouterr().out == "✓ Claim holds: Small. Measured 2.5e-06; needed < 1e-05.\n"


def test_names_the_fraction(capsys):
    claim("Mostly", [1, 2, 3, 4], ">", 1.5, fraction=0.75)
    assert "needed > 1.5 in 75 % of them: true of 3 of 4." in capsys.readouterr().out


def test_raises_with_what_it_shows_when_it_does_not_hold(capsys):
    with pytest.raises(ClaimError) as error:
        claim("Large", [1, 5], ">=", 2)
    shown = capsys.readouterr().out
    assert shown.startswith("✗ Claim does not hold: Large.")
    assert "true of 1 of 2" in shown
    assert shown == f"✗ {error.value}\n"
    assert issubclass(ClaimError, AssertionError)


@pytest.mark.parametrize(
    ("value", "relation", "bound", "printed"),
    [
        (0.1234567, ">", 0, "0.12"),
        (0.30000000000000004, "<", 1, "0.3"),
        (123456, ">", 0, "120000"),
        (1234567, ">", 0, "1.2e+06"),
        (0.00012345, ">", 0, "0.00012"),
        (float("inf"), ">", 0, "inf"),
        (0.0, "<=", 0, "0"),
        (0.996, "<", 1, "0.996"),  # two digits would say 1, which is not below 1
        (0.1349, ">", 0.13, "0.135"),
        (0.1351, "<", 0.15, "0.14"),
    ],
)
def test_prints_two_digits_or_as_many_as_tell_the_side(value, relation, bound, printed):
    assert f"Measured {printed};" in str(Claim("s", value, relation, bound))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((float("nan"), ">", 0), "NaN"),
        (([1.0, np.nan], ">", 0), "1 NaN of 2"),
        (([], ">", 0), "received none"),
        (("3", ">", 0), "must be numbers; received '3'"),
        ((None, ">", 0), "must be numbers; received None"),
        (([[1], [1, 2]], ">", 0), "one shape"),
        ((1, "==", 0), "received '=='. To claim that two numbers agree"),
        ((1, ">", float("nan")), "bound must not be NaN"),
        ((1, ">", [1, 2]), "one bound; received 2"),
        ((1, ">", "high"), "bound must be numbers"),
    ],
)
def test_refuses_what_cannot_be_tested(arguments, told, capsys):
    with pytest.raises(ValueError, match=told.replace("(", r"\(")):
        claim("s", *arguments)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("fraction", [0, -1, 1.1, float("nan")])
def test_refuses_a_fraction_outside_its_range(fraction):
    with pytest.raises(ValueError, match="received"):
        claim("s", 1, ">", 0, fraction=fraction)


def test_a_notebook_gets_html_with_the_same_words_in_plain_text(monkeypatch):
    bundles = shown_in_a_notebook(monkeypatch, lambda: claim("a < b & `c`", 1, ">", 0))
    (bundle,) = bundles
    assert bundle["text/plain"] == "✓ Claim holds: a < b & `c`. Measured 1; needed > 0."
    assert "<b>✓ Claim holds:</b> a &lt; b &amp; <code>c</code>. Measured 1; needed &gt; 0." in bundle["text/html"]
    assert "color:" not in bundle["text/html"].replace("currentColor", "")  # legible on light and dark pages


def test_claims_need_no_keras():
    code = "import sys, rnnkit; rnnkit.claim('s', 1, '>', 0); assert not {'keras', 'IPython'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def shown_in_a_notebook(monkeypatch, action):
    """Return the MIME bundles that an action displays when a notebook's shell is there."""
    import IPython

    bundles = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda bundle, **_: bundles.append(bundle))
    action()
    return bundles


def test_what_is_below_the_floor_is_shown_as_rounding(capsys):
    claim("equal", [2.1e-8, 0.0, -3e-7, 2e-6], "<", 1e-4, floor=1e-6)
    assert "Measured under 1e-06 (median; range under 1e-06 to 2e-06) over 4 runs" in capsys.readouterr().out
    claim("equal", 1.9e-8, "<", 1e-4, floor=1e-6)
    assert "Measured under 1e-06; needed < 0.0001." in capsys.readouterr().out


def test_a_claim_names_a_sentence_of_the_lecture_or_none():
    assert Claim("s", 1, ">", 0, lecture="gru").as_record()["lecture"] == "gru"
    with pytest.raises(ValueError, match=r"one of the lecture's sentences vanishing-cause, .* received lecture='gur'"):
        Claim("s", 1, ">", 0, lecture="gur")


def test_a_notebook_keeps_a_claims_record_where_programs_find_it(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda *_, metadata, **__: shown.append(metadata))
    claim("It holds.", 1, ">", 0, lecture="gru", supports=False)
    (record,) = shown
    assert record["rnnkit"]["statement"] == "It holds"
    assert record["rnnkit"]["lecture"] == "gru"
    assert record["rnnkit"]["supports"] is False
