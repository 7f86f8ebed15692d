"""Gather what the solutions recorded, claims and replications, and make the pages that show all of it."""

import json
import re
from pathlib import Path

import nbformat

from rnnkit.course import lecture

_MADE = "<!-- Made by `rnnkit records` from the outputs stored in solutions/: edit those, not this file. -->\n"


def gather(solutions_dir):
    """Return the records in the stored outputs of the solutions.

    Args:
        solutions_dir: Folder of executed notebooks, `NN_name.ipynb`.

    Returns:
        list of dicts, in the order of the course: what `claim` and `replication` recorded, with `lesson`, `notebook`
        and `cell` added.

    Example:
        >>> gather("solutions")[0]["lesson"]  # doctest: +SKIP
        '00'
    """
    return [
        record | {"lesson": path.name[:2], "notebook": path.name, "cell": cell.id}
        for path in sorted(Path(solutions_dir).glob("[0-9][0-9]_*.ipynb"))
        for cell in nbformat.read(path, 4).cells
        for output in cell.get("outputs", [])
        if (record := output.get("metadata", {}).get("rnnkit"))
    ]


def pages(solutions_dir):
    """Return what `rnnkit records` writes, by its path in the course's folder.

    Args:
        solutions_dir: Folder of executed notebooks.

    Returns:
        dict of path to text: the ledger of claims, the replication cards, and the package's copy of the cards.
    """
    records = gather(solutions_dir)
    cards = [record for record in records if record["kind"] == "replication"]
    return {
        "docs/claims.md": ledger([record for record in records if record["kind"] == "claim"]),
        "docs/replications.md": _cards(cards),
        "rnnkit/course/replications.json": json.dumps(
            [{k: v for k, v in card.items() if k not in ("kind", "notebook", "cell")} for card in cards],
            indent=1,
            ensure_ascii=False,
        )
        + "\n",
    }


def ledger(measured):
    """Return the ledger of claims as Markdown: first the lecture's sentences, then each lesson's own claims.

    Args:
        measured: list of dicts, the claims that `gather` found.

    Returns:
        str: the page.
    """
    told = {key: [claim for claim in measured if claim["lecture"] == key] for key in lecture.SENTENCES}
    lines = [
        "# Claims ledger",
        "",
        "What the lecture says, where it is measured, what came out. A notebook computed each figure, and running that",
        "notebook fails where it does not satisfy what was needed. Each lesson's other claims follow below.",
        "",
        _MADE,
        "| The lecture says | verdict | lesson | measured there | figure | needed |",
        "|---|---|---|---|---|---|",
    ]
    for key, found in told.items():
        by_hand = lecture.VERDICTS.get(key) if found else None
        said = (f'<a id="{key}"></a>{lecture.SENTENCES[key]}', f"**{by_hand or verdict(found)}**")
        if not found:
            lines.append(_row(*said, "", "", "", ""))
        for claim in found:
            against = "" if claim["supports"] else "*against it:* "
            lines.append(_row(*said, _link(claim), against + claim["statement"], claim["measured"], claim["needed"]))
            said = ("", "")  # once is enough
    for notebook in sorted({claim["notebook"] for claim in measured}):
        lines += ["", f"## Lesson {notebook[:2]}", "", "| claim | figure | needed |", "|---|---|---|"]
        lines += [
            _row(claim["statement"], claim["measured"], claim["needed"])
            for claim in measured
            if claim["notebook"] == notebook and not claim["lecture"]
        ]
    return "\n".join(lines) + "\n"


def verdict(found):
    """Return what the claims on one sentence say of it together, in words."""
    if not found:
        return "not measured yet"
    supporting = sum(claim["supports"] for claim in found)
    if supporting == len(found):
        return "borne out here"
    return "borne out in part" if supporting else "not borne out here"


def _cards(cards):
    lines = [
        "# Replication cards",
        "",
        "Published results that a lesson measured again, in a setting that fits a laptop.",
        "",
        _MADE,
    ]
    for card in cards:
        lines += [
            f"## {card['result']}",
            "",
            f"{card['source']}. Measured in lesson {_link(card)}.",
            "",
            "| | published | here |",
            "|---|---|---|",
            _row("setting", *card["setting"]),
            *(_row(*row) for row in card["rows"]),
            "",
            f"**Verdict:** {card['verdict']}.",
            "",
        ]
    return "\n".join(lines)


def _link(record):
    return f"[{record['lesson']}](../solutions/{record['notebook']})"


def _row(*cells):
    return "| " + " | ".join(re.sub(r"\s+", " ", str(cell)).replace("|", "\\|") for cell in cells) + " |"
