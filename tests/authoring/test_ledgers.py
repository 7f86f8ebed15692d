"""What the solutions recorded, and the pages made of it."""

from pathlib import Path

import nbformat
import pytest

from rnnkit import commands, lecture
from rnnkit.authoring import ledgers
from rnnkit.course.claims import Claim

ROOT = Path(__file__).resolve().parents[2]


def notebook(folder, name, *records):
    """Store a notebook with one cell, whose outputs carry these records."""
    cell = nbformat.v4.new_code_cell("rnnkit.claim(...)", id="the-cell")
    cell.outputs = [
        nbformat.v4.new_output("display_data", {"text/plain": "shown"}, metadata={"rnnkit": record})
        for record in records
    ]
    cell.outputs.append(nbformat.v4.new_output("stream", text="printed"))
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("Text"), cell]), folder / name)


def measured(key=None, supports=True, statement="It holds."):
    return Claim(statement, [1.0, 2.0], ">", 0.5, lecture=key, supports=supports).as_record()


CARD = {
    "kind": "replication",
    "result": "a result",
    "source": "A paper",
    "setting": ["there", "here"],
    "rows": [["row|", "1", "2"], ["another", "3", "4"]],
    "verdict": "reproduced",
}


def test_records_are_gathered_in_the_order_of_the_course_with_their_place(tmp_path):
    notebook(tmp_path, "02_b.ipynb", measured("gru"))
    notebook(tmp_path, "01_a.ipynb", measured(), CARD)
    found = ledgers.gather(tmp_path)
    assert [(record["lesson"], record["kind"]) for record in found] == [
        ("01", "claim"),
        ("01", "replication"),
        ("02", "claim"),
    ]
    assert found[0]["cell"] == "the-cell"
    assert found[0]["notebook"] == "01_a.ipynb"


def test_the_ledger_lists_each_sentence_with_verdict_and_figures(tmp_path):
    notebook(tmp_path, "01_a.ipynb", measured("gru"), measured("dense"), measured("dense", supports=False), measured())
    page = ledgers.ledger(ledgers.gather(tmp_path))
    for sentence in lecture.SENTENCES.values():
        assert sentence in page
    line = next(line for line in page.splitlines() if lecture.SENTENCES["dense"] in line)
    assert "**borne out in part**" in line
    assert "[01](../solutions/01_a.ipynb) | It holds | 1.5 (median; range 1 to 2) over 2 runs | > 0.5 |" in line
    assert "*against it:* It holds" in page
    assert page.count("not measured yet") == len(lecture.SENTENCES) - 2


def test_a_verdict_written_by_hand_stands_in_the_ledger(tmp_path):
    notebook(tmp_path, "04_a.ipynb", measured("rule-of-thumb"))
    page = ledgers.ledger(ledgers.gather(tmp_path))
    assert f"| **{lecture.VERDICTS['rule-of-thumb']}** |" in page
    assert lecture.VERDICTS["lstm"] not in page  # not measured there
    assert set(lecture.VERDICTS) <= set(lecture.SENTENCES)


@pytest.mark.parametrize(
    ("supports", "said"),
    [
        ([], "not measured yet"),
        ([True, True], "borne out here"),
        ([True, False], "borne out in part"),
        ([False], "not borne out here"),
    ],
)
def test_the_verdict_on_a_sentence(supports, said):
    assert ledgers.verdict([{"supports": value} for value in supports]) == said


def test_cards_become_a_page_and_the_packages_copy(tmp_path):
    notebook(tmp_path, "05_c.ipynb", CARD)
    pages = ledgers.pages(tmp_path)
    assert "| row\\| | 1 | 2 |\n| another | 3 | 4 |" in pages["docs/replications.md"]  # in the order of the card
    assert "[05](../solutions/05_c.ipynb)" in pages["docs/replications.md"]
    assert '"lesson": "05"' in pages["rnnkit/course/replications.json"]


def test_the_command_writes_and_then_finds_all_up_to_date(tmp_path, monkeypatch, capsys):
    for name in ("solutions", "docs", "rnnkit/course"):
        (tmp_path / name).mkdir(parents=True)
    notebook(tmp_path / "solutions", "05_c.ipynb", CARD, measured("gru"))
    monkeypatch.chdir(tmp_path)
    assert commands.main(["records", "--check"]) == 1
    assert "run `rnnkit records`" in capsys.readouterr().err
    assert not list((tmp_path / "docs").iterdir())
    assert commands.main(["records"]) == 0
    assert commands.main(["records", "--check"]) == 0


def test_every_sentence_of_the_lecture_has_a_claim():
    told = {record["lecture"] for record in ledgers.gather(ROOT / "solutions") if record["kind"] == "claim"}
    assert set(lecture.SENTENCES) <= told


def test_every_lesson_from_02_on_has_a_card():
    carded = {record["lesson"] for record in ledgers.gather(ROOT / "solutions") if record["kind"] == "replication"}
    assert carded >= {path.name[:2] for path in (ROOT / "solutions").glob("0[2-9]_*.ipynb")}
