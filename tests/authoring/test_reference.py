"""The reference page shows what is public, and nothing else; it says what the docstrings say."""

import inspect
import re
from functools import reduce

import pytest
from public_names import public_names

import rnnkit
from rnnkit.authoring import reference


@pytest.fixture(scope="module")
def page():
    return reference.render()


def test_everything_public_has_one_entry_and_one_line_in_the_contents(page):
    """Asked of the running package here, of the source there."""
    shown = re.findall(r"^### `(.*)`$", page, re.MULTILINE)
    listed = re.findall(r"^- \[`(.*?)`\]", page, re.MULTILINE)
    assert sorted(shown) == sorted(public_names())
    assert shown == listed


def test_nothing_private_is_shown(page):
    named = re.findall(r"^(?:### |- )`([\w.]+)", page, re.MULTILINE)
    assert named
    assert not [name for name in named if any(part.startswith("_") for part in name.split("."))]


def test_every_link_within_the_page_leads_somewhere(page):
    anchors = re.findall(r'<a id="(.*?)"></a>', page)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#(.*?)\)", page)) == set(anchors)


def words(text):
    """Return the words of a text with single spaces around them: what is left when all markup is gone."""
    return " ".join(["", *re.findall(r"[^\W_]+", re.sub(r"# doctest:.*", "", text)), ""])


def test_nothing_of_a_docstring_is_lost(page):
    for heading in re.split(r"^### ", re.sub(r"\]\(#.*?\)", "", page), flags=re.MULTILINE)[1:]:
        name = heading.partition("\n")[0].strip("`")
        documented = inspect.getdoc(reduce(getattr, name.split(".")[1:], rnnkit))
        entry = words(heading)
        for line in documented.splitlines():
            if not re.fullmatch(r"(Args|Attributes|Returns|Raises|Example):", line):
                assert words(line) in entry, name
