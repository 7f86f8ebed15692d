"""The page about what was measured: docs/reports/benchmarks.md and its picture."""

import datetime
import importlib
import json
import os
import platform
import re
from pathlib import Path

from benchmarks import lessons as seconds_of
from benchmarks import start as from_clone
from benchmarks.rows import Setting, missing

_COLOURS = {"TensorFlow, jit": "#0072B2", "TensorFlow, no jit": "#56B4E9", "JAX": "#D55E00", "torch": "#009E73"}
_MARKERS = {"TensorFlow, jit": "o", "TensorFlow, no jit": "s", "JAX": "^", "torch": "D"}
_PICTURE = "benchmarks.png"
_ALT = (
    "A row for each comparison, on a log axis of the ratio ours by theirs: left of 1 ours is faster. Each point is the "
    "median of one setting with its quartiles, in the colour and shape of its backend; a black stroke marks the goal. "
    "{said}"
)


def _module(theme):
    return importlib.import_module(f"benchmarks.{theme}")


class Measured:
    """One line of the tables: a row of a theme, where it was measured, and what came out."""

    def __init__(self, theme, name, setting, result):
        self.theme, self.name, self.setting, self.result = theme, name, setting, result
        self.row = _module(theme).ROWS[name]
        self.bound = self.row.bound(setting)

    @property
    def answers(self):
        """Whether the theme is about what tools return, and not about what they take."""
        return getattr(_module(self.theme), "ANSWERS", False)

    @property
    def verdict(self):
        """Tell "met" or "missed"; what the theme itself says; or nothing, where there is no goal or no result."""
        if "verdict" in self.result:
            return self.result["verdict"]
        if self.bound is None or "ratio" not in self.result:
            return ""
        return "met" if self.result["ratio"] <= self.bound else "missed"


def fill_in(file, theme, settings, reason):
    """Add to a process's file the settings that it did not come to, with the reason."""
    rows = _module(theme).ROWS
    done = [line["setting"] for line in _lines(file) if "setting" in line]
    with file.open("a", encoding="utf-8") as added:
        for setting in settings:
            if setting._asdict() not in done:
                names = [setting.variant] if setting.variant in rows else rows
                results = dict.fromkeys(names, missing(reason))
                print(json.dumps({"setting": setting._asdict(), "results": results}), file=added)


def read(themes, folder):
    """Return all that was measured, and the versions of the packages."""
    found, versions = [], {}
    for theme in themes:
        for file in sorted(folder.glob(f"{theme}.*.jsonl")):
            for line in _lines(file):
                versions |= line.get("versions", {})
                for name, result in line.get("results", {}).items():
                    found.append(Measured(theme, name, Setting(**line["setting"]), result))
    return found, versions


def _lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def machine():
    """Return the class of this machine, which is all that a reader can compare with."""
    try:
        flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text(encoding="utf-8")))
    except OSError:
        flags = set()
    kinds = {"avx512f": "AVX-512", "avx2": "AVX2"}
    vector = next((said for flag, said in kinds.items() if flag in flags), None)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kind = platform.machine().replace("x86_64", "x86-64")
    return ", ".join(part for part in (f"{cores} cores", kind, vector, platform.system()) if part)


def write(themes, folder, where):
    """Write the page and its picture from what lies in a folder."""
    found, versions = read(themes, folder)
    seconds = {
        name: json.loads(file.read_text(encoding="utf-8")) if (file := folder / f"{name}.json").exists() else None
        for name in ("lessons", "start")
    }
    lines = text(found, versions, machine(), datetime.date.today().isoformat(), **seconds)
    (where / "benchmarks.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw(found, where / _PICTURE)


def text(found, versions, where, when, lessons=None, start=None):
    """Return the lines of the page.

    Args:
        found: list of Measured.
        versions: dict from package to version.
        where: class of the machine.
        when: date.
        lessons: what `lessons.measure` wrote; None if it did not run.
        start: the same of `start.measure`.
    """
    named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    lines = [
        "# Benchmarks",
        "",
        "What measuring costs, and what else one could use. `make bench` measures all of this anew and writes this "
        "page; a row that we lose stays in it.",
        "",
        "Two things are compared in one process and in turn, call by call or epoch by epoch, so that what slows the "
        "machine down slows both. A **ratio** is ours by theirs: the median over the turns, with its quartiles. "
        "**Noise** is the reference by itself, measured in the same turns: a ratio inside its quartiles is no "
        "difference. Unless a line says otherwise: batch of 64, 64 units, a recurrent layer and a dense one, float32.",
        "",
        f"Measured on {when}; {where}; {named}.",
        "",
        f"![{_alt(found)}]({_PICTURE})",
        "",
        "## All on one page",
        "",
        "| ours | by | goal | median ratios | goals |",
        "|---|---|---|---|---|",
    ]
    groups = _grouped(found)
    lines += [_overview(group) for group in groups if not group[0].answers]
    for theme in dict.fromkeys(group[0].theme for group in groups):
        mine = [group for group in groups if group[0].theme == theme]
        module = _module(theme)
        lines += ["", f"## {module.TITLE}", "", module.TEXT, ""]
        if mine[0][0].answers:
            lines += _answers([one for group in mine for one in group])
        else:
            lines += [line for group in mine for line in _details(group)]
    lines += ["", "## Seconds of the lessons", ""]
    lines += (
        seconds_of.table(lessons) if lessons else ["Not measured in this run: `python -m benchmarks lessons` does."]
    )
    lines += ["", "## From a fresh clone to a lesson that ran", ""]
    lines += from_clone.table(start) if start else ["Not measured in this run: `python -m benchmarks start` does."]
    return lines


def _grouped(found):
    """Return the lines of each row of each theme together, in the order in which the themes have them."""
    groups = {}
    for one in found:
        groups.setdefault((one.theme, one.name), []).append(one)
    order = {}
    for theme, _ in groups:
        order.setdefault(theme, list(_module(theme).ROWS))
    themes = list(order)
    return [groups[key] for key in sorted(groups, key=lambda key: (themes.index(key[0]), order[key[0]].index(key[1])))]


def _number(value):
    """Return a ratio with the digits that mean something."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _range(values):
    shown = [_number(value) for value in (min(values), max(values))]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} to {shown[1]}"


def _overview(group):
    row, ratios = group[0].row, [one.result["ratio"] for one in group if "ratio" in one.result]
    bounds = [one.bound for one in group if one.bound is not None]
    verdicts = [one.verdict for one in group if one.verdict]
    met = verdicts.count("met")
    said = (
        ""
        if not verdicts
        else "all met"
        if met == len(verdicts)
        else f"**missed** in {len(verdicts) - met} of {len(verdicts)}"
    )
    lacking = len(group) - len(ratios)
    measured = _range(ratios) if ratios else "not measured"
    return (
        f"| {row.what} | {row.against} | {'≤ ' + _range(bounds) if bounds else 'none'} | "
        f"{measured}{f' ({lacking} not measured)' if ratios and lacking else ''} | {said} |"
    )


def _details(group):
    row = group[0].row
    lines = [
        f"**{row.what}**, by {row.against}:",
        "",
        "| model | on | ratio | quartiles | noise | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_line(one) for one in group]
    if any(one.verdict == "missed" for one in group) and row.why:
        lines += ["", f"Where the goal is missed: {row.why}"]
    return [*lines, ""]


def _model(setting):
    return f"{setting.cell}, T={setting.steps}" if setting.cell else "-"


def _line(one):
    result, start = one.result, f"| {_model(one.setting)} | {one.setting.runs_on} |"
    if "missing" in result:
        return f"{start} not measured | | | | {_cell(result['missing'])} |"
    quartiles = f"{_number(result['low'])} to {_number(result['high'])}" if "low" in result else ""
    noise = f"{_number(result['noise']['low'])} to {_number(result['noise']['high'])}" if "noise" in result else ""
    verdict = "**missed**" if one.verdict == "missed" else one.verdict
    remarks = [verdict, result.get("detail", "")]
    if "cost" in result:
        remarks.append(f"it costs {_number(result['cost']['ratio'])}, ours {_number(result['ours']['ratio'])}")
    goal = f"≤ {_number(one.bound)}" if one.bound is not None else ""
    remark = "; ".join(remark for remark in remarks if remark)
    return f"{start} {_number(result['ratio'])} | {quartiles} | {noise} | {goal} | {remark} |"


def _cell(words):
    return words.replace("|", "/").replace("\n", " ")


def _answers(found):
    """Return the table of what tools return."""
    lines = ["| asked | on | returned for t before the last | |", "|---|---|---|---|"]
    for one in found:
        returned = one.result.get("detail") or f"not measured: {_cell(one.result.get('missing', ''))}"
        verdict = one.verdict if one.verdict == "right" else f"**{one.verdict}**" if one.verdict else ""
        lines.append(f"| {one.row.what} | {one.setting.runs_on} | {returned} | {verdict} |")
    return lines


def _alt(found):
    verdicts = [one.verdict for one in found if one.verdict in ("met", "missed")]
    return _ALT.format(said=f"Of {len(verdicts)} settings with a goal, {verdicts.count('met')} meet it.")


def draw(found, path):
    """Draw every ratio with its quartiles: rows as in the overview, in each a lane for each backend."""
    import matplotlib.pyplot as plt

    groups = [[one for one in group if "ratio" in one.result and one.result["ratio"] > 0] for group in _grouped(found)]
    groups = [group for group in groups if group]
    figure, ax = plt.subplots(figsize=(10, 0.47 * len(groups) + 1), layout="constrained")
    labels, told = [], {}
    for place, group in enumerate(groups):
        lanes = list(dict.fromkeys(one.setting.runs_on for one in group))
        for one in group:
            result, on = one.result, one.setting.runs_on
            y = place + 0.2 * (lanes.index(on) - (len(lanes) - 1) / 2)
            low, high = result.get("low", result["ratio"]), result.get("high", result["ratio"])
            ax.plot([low, high], [y, y], color=_COLOURS[on], lw=1.5)
            (point,) = ax.plot(result["ratio"], y, _MARKERS[on], color=_COLOURS[on], ms=4.5)
            told.setdefault(on, point)
            if one.bound:
                ax.plot([one.bound] * 2, [y - 0.1, y + 0.1], color="black", lw=1.5)
        labels.append(_plain(f"{group[0].row.what}\nby {group[0].row.against}"))
        ax.axhline(place + 0.5, color="0.9", lw=0.8)
    ax.axvline(1, color="0.6", lw=0.8, zorder=0)
    ax.set(
        xscale="log",
        xlabel="ratio, ours by theirs: left of 1 ours is faster (black stroke: the goal)",
        ylim=(len(groups) - 0.4, -0.6),
    )
    ax.set_yticks(range(len(groups)), labels, fontsize=7)
    figure.legend(told.values(), told.keys(), loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _plain(words):
    return words.replace("`", "").replace("*", "")
