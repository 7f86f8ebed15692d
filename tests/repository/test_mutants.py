"""The mutants of `make test-hard` fit the library as it is: they cannot rot unnoticed."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutants.catalogue import MUTANTS, Mutant, found

TESTS = Path(__file__).resolve().parents[1]
PACKAGE = TESTS.parent / "rnnkit"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_a_mutant_is_one_change_that_python_can_read(mutant, tmp_path):
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(PACKAGE / mutant.file, copy)
    mutant.apply(tmp_path)
    before, after = (ast.dump(ast.parse(path.read_text("utf-8"))) for path in (PACKAGE / mutant.file, copy))
    assert before != after


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_the_tests_that_should_catch_it_are_there(mutant):
    assert mutant.tests
    for test in mutant.tests:
        file, *names = test.split("::")
        code = found(file).read_text(encoding="utf-8")
        for name in names:
            assert re.search(rf"^ *(def|class) {name.partition('[')[0]}\b", code, re.MULTILINE), test


def collected(marked):
    """Ids of the tests that pytest finds in the files named for mutants, each beginning with its file's name."""
    files = {found(test.partition("::")[0]) for mutant in MUTANTS for test in mutant.tests}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", marked]
    done = subprocess.run(
        [*command, *sorted(files)], cwd=TESTS.parent, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.partition("::") for line in done.stdout.splitlines() if "::" in line]
    return [f"{Path(file).name}::{name}" for file, _, name in lines]


@pytest.mark.slow
def test_make_test_alone_notices_nearly_all():
    """Of the tests named for a mutant, one at least is not slow."""
    quick = collected("not slow and not thorough")
    missed = [
        mutant.what
        for mutant in MUTANTS
        if not any(
            name == test or name.startswith((f"{test}::", f"{test}[")) for test in mutant.tests for name in quick
        )
    ]
    assert len(missed) <= 5, missed


def test_no_two_are_the_same():
    assert len({mutant.what for mutant in MUTANTS}) == len({mutant[1:4] for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize(("text", "times"), [("a = 1\n", 0), ("a = 2\nb = 2\n", 2)])
def test_an_old_text_that_is_gone_or_not_alone_is_told(text, times, tmp_path):
    (tmp_path / "module.py").write_text(text)
    with pytest.raises(ValueError, match=f"exactly once.*'a mistake', whose text stands {times} times in module.py"):
        Mutant("a mistake", "module.py", "= 2", "= 3", ("test_x.py",)).apply(tmp_path)
    assert (tmp_path / "module.py").read_text() == text
