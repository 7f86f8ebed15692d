"""The measuring of claims on other seeds, `python -m margins`."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from margins import page

from rnnkit.course.claims import Claim

STARTUP = Path(__file__).parents[2] / "tools" / "margins" / "startup"


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


def test_a_shift_moves_every_kind_of_seed_once():
    draw = """
import numpy as np, keras, rnnkit
keras.utils.set_random_seed({0})
orthogonal = keras.initializers.Orthogonal(seed={0})
copied = keras.initializers.Orthogonal.from_config(orthogonal.get_config())
drawn = [
    np.random.default_rng({0}).normal(), float(keras.random.normal(())), np.random.normal(),
    float(orthogonal((3, 3))[0, 0]), float(copied((3, 3))[0, 0]),
    float(rnnkit.initializers.SpectralRadius(0.9, seed={0})((3, 3))[0, 0]),
    float(keras.layers.Dense(1).build((1, 1)) or keras.initializers.GlorotUniform()((3, 3))[0, 0]),
    float(rnnkit.tasks.adding_problem(2, 5, seed={0})[0][0, 0, 0]),
]
print(*drawn)
"""
    shifted = {"PYTHONPATH": f"{STARTUP}{os.pathsep}{STARTUP.parents[2]}", "MARGINS_SHIFT": "300"}
    written, moved, meant = (
        np.array(
            subprocess.run(
                [sys.executable, "-c", draw.format(seed)],
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split(),
            float,
        )
        for seed, environment in ((4, {}), (4, shifted), (304, {}))
    )

    np.testing.assert_array_equal(moved, meant)
    assert not np.isclose(written, moved).any()
