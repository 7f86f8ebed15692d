"""The measuring of claims on other seeds, `python -m margins`."""

import ast
import inspect
import pickle
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import keras
import nbformat
import numpy as np
import pytest
from margins import page, shift
from margins.shift import SEEDED, shifted, with_shifted_seed, with_shifted_start

import rnnkit
from rnnkit.course.claims import Claim

SOLUTIONS = sorted((Path(__file__).parents[2] / "solutions").rglob("*.ipynb"))
# What else has an argument `seed` and stands in a solution: it is never passed there, see the last test.
WITHOUT_A_SEED = {
    **dict.fromkeys(["SimpleRNN", "LSTM", "LSTMCell", "GRU", "GRUCell"], "of dropout, which follows set_random_seed"),
    "MultiHeadAttention": "of dropout, which follows set_random_seed",
}


def rounds(*values, relation=">=", bound=0.9, fraction=1.0):
    return [Claim("a claim", given, relation, bound, fraction) for given in values]


@pytest.mark.parametrize(
    ("claims", "worst", "room", "word"),
    [
        (rounds([0.95, 0.99], [0.92]), 0.92, 0.2, "clear"),  # a share: a fifth of the tenth that is allowed to be wrong
        (rounds([0.95, 0.91]), 0.91, 0.1, "close"),
        (rounds([3, 20], relation=">", bound=10), 3, -0.7, "fails"),
        (rounds([1e-9, 1e-6], relation="<", bound=1e-3), 1e-6, 0.999, "clear"),
        (rounds([3, 4], [5], relation=">", bound=0), 3, 0.75, "clear"),  # in parts of the median
        (rounds([0, 0], relation="<=", bound=0), 0, 0, "exact"),
        (rounds([10, 10], [10], bound=10), 10, 0, "exact"),
        (rounds([10, 11], bound=10), 10, 0, "close"),
        (rounds([10, 10], relation=">", bound=10), 10, 0, "fails"),
        (rounds([1, 30, 40], [50, 60, 5], relation=">", bound=10, fraction=0.6), 30, 2, "clear"),
        (rounds([1, 2, 40], [50, 60, 70], relation=">", bound=10, fraction=0.6), 2, -0.8, "fails"),  # it did, once
    ],
)
def test_margin_of_a_claim(claims, worst, room, word):
    margin = page.margin(claims)

    assert margin.worst == worst
    assert margin.room == pytest.approx(room, abs=1e-6)
    assert margin.word == word
    assert margin.values == sum(len(claim.values) for claim in claims)
    assert margin.held == sum(claim.runs_held for claim in claims)


def test_page_has_a_row_for_each_claim_of_each_lesson(tmp_path):
    line = '{{"statement": "{}.", "values": [{}], "relation": "<", "bound": 1, "fraction": 1.0}}\n'
    (tmp_path / "01_a-1.jsonl").write_text(line.format("twice | said", 0.5) + line.format("twice | said", 0.9))
    (tmp_path / "01_a-2.jsonl").write_text(line.format("twice | said", 0.7) + line.format("twice | said", 2))
    (tmp_path / "02_b-1.jsonl").write_text(line.format("other", 0.1))

    text = page.page(tmp_path)

    assert "## Lesson 01, 2 rounds" in text
    assert "| twice \\| said | < 1 | 2 | 0.7 | 30% |\n| twice \\| said | < 1 | 1 of 2 | 2 | **-100%, fails** |" in text
    assert "| other | < 1 | 1 | 0.1 | 90% |" in text
    assert "3 claims: 2 clear, 0 exact, 0 close, 1 fails." in text


FUNCTION = """
def train(seed):
    drawn = keras.initializers.GlorotUniform()((1, 1))
    return {"drawn": float(drawn[0, 0]), "passed": np.random.default_rng(seed).normal()}
"""


@pytest.mark.parametrize(
    "draw",
    [
        "np.random.default_rng({}).normal()",
        "draw_with = np.random.default_rng; draw_with(seed={}).normal()",
        "keras.utils.set_random_seed({}); float(keras.initializers.GlorotUniform()((1, 1))[0, 0])",
        "keras.utils.set_random_seed({}); np.random.normal()",
        "rnnkit.start_lesson(seed={}); float(keras.random.normal(()))",
        "float(keras.initializers.Orthogonal(gain=2, seed={})((3, 3))[0, 0])",
        "begun = keras.initializers.Orthogonal(seed={}); float(begun.from_config(begun.get_config())((3, 3))[0, 0])",
        "Chrono = rnnkit.initializers.Chrono; float(Chrono(100, seed={})((8,))[0])",
        "rnnkit.tasks.adding_problem(1, 5, seed={})[0][0, 0, 0]",
        "rnnkit.tasks.adding_problem(1, 5, {})[0][0, 0, 0]",
        "tasks = rnnkit.tasks; (lambda n, seed: tasks.adding_problem(n, 5, seed))(1, {})[0][0, 0, 0]",
        "make = [rnnkit.tasks.adding_problem][0]; make(1, 5, seed={})[0][0, 0, 0]",
        FUNCTION + "rnnkit.sweeps.sweep(train, workers=0, seeds=[{}]).values('drawn')[0]",
        FUNCTION + "rnnkit.sweeps.sweep(train, workers=0, seeds=[{}]).values('passed')[0]",
        "rnnkit.sweeps.sweep(clinic.chart, workers=0, seeds=[{}]).values('passed')[0]",
    ],
)
def test_a_shift_moves_every_kind_of_seed_once(draw):
    written, meant = draw.replace("{}", "4"), draw.replace("{}", "304")

    assert value(shifted(written, 300)) == value(meant) != value(written)


def value(code):
    """What the last line of a cell is, here always a number."""
    *lines, last = ast.parse(code).body
    clinic = SimpleNamespace(chart=lambda seed: {"passed": np.random.default_rng(seed).normal()})  # a library's code
    names = {**vars(shift), "clinic": clinic, "keras": keras, "np": np, "rnnkit": rnnkit}
    exec(ast.unparse(lines), names)
    return eval(ast.unparse(last), names)


def test_a_default_seed_moves_and_none_stays():
    images = rnnkit.tasks.digit_images

    np.testing.assert_array_equal(with_shifted_seed(images, 300)()[1], images(seed=300)[1])
    assert with_shifted_seed(lambda seed=None: seed, 300)() is None


def test_a_shift_of_nothing_changes_no_number_and_no_seed_that_is_only_a_name():
    code = "seed = 0\nruns = {seed: np.random.default_rng(seed).normal()}\nlist(runs)[0] + runs[0]"

    assert value(shifted(code, 0)) == value(code)
    assert "runs = {seed: " in shifted(code, 300)
    assert "runs[0]" in shifted(code, 300)


def test_what_is_shifted_travels_to_workers():
    default_rng = with_shifted_seed(np.random.default_rng, 300)
    train = with_shifted_start(lambda seed: default_rng(seed).normal(), 300)

    assert pickle.loads(cloudpickle.dumps(train))(seed=4) == np.random.default_rng(304).normal()


def code(path):
    """A notebook's code, parsed."""
    cells = nbformat.read(path, 4).cells
    return ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))


def takes_a_seed(thing):
    try:
        return callable(thing) and "seed" in inspect.signature(thing).parameters
    except ValueError:  # some of NumPy's tell no arguments
        return False


def test_functions_with_a_seed_that_solutions_use_are_known():
    used = set()
    for node in (node for path in SOLUTIONS for node in ast.walk(code(path))):
        used |= {node.attr} if isinstance(node, ast.Attribute) else set()
        used |= {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
    modules = [np.random, keras, keras.initializers, keras.layers, keras.utils, rnnkit]
    modules += [getattr(rnnkit, name) for name in rnnkit._MODULES]

    seeded = {name for name in used for module in modules if takes_a_seed(getattr(module, name, None))}

    assert seeded == SEEDED | WITHOUT_A_SEED.keys()


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_each_seed_of_a_solution_is_shifted_once(path):
    tree = ast.parse(shifted(ast.unparse(code(path)), 300))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    wrappers = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "with_shifted_seed"]
    starts = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "with_shifted_start"]
    seeded = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in SEEDED]
    sweeps = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "sweep"]
    passed_by_name = [call for call in calls if any(keyword.arg == "seed" for keyword in call.keywords)]
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}

    assert {call.args[0] for call in wrappers} == set(seeded)
    assert {call.args[0] for call in sweeps} == set(starts)
    for call in passed_by_name:  # to what is shifted, or to a function that the notebook itself defines
        assert isinstance(call.func, ast.Name) or call.func in wrappers, ast.unparse(call)
    assert not imported & SEEDED
