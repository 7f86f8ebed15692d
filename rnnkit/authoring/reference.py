"""Make the reference page from the docstrings of everything public.

Public is what `import rnnkit` offers, and what its public modules define without a leading underscore. The source is
read, not run: neither Keras nor a backend is imported.
"""

import itertools
import re
import textwrap
from pathlib import Path

import griffe

import rnnkit
from rnnkit._files import PACKAGE

# What a reader wants to do, and the modules that are for it. Public modules not named here come last, as More.
_TASKS = {
    "Record while a model trains": ("recorders", "live"),
    "Measure once": ("probes",),
    "Train over seeds and settings": ("sweeps",),
    "Draw": ("plot",),
    "Explore with sliders": ("course.explore",),
    "Tasks to train on": ("tasks",),
    "Cells and initializers": ("layers", "initializers"),
    "Claims and replications": ("course.claims", "course.replications"),
    "Lessons and exercises": ("course.start", "course.exercises"),
}
# Public modules that only the lessons and the command line call: their docstrings are enough.
_LEFT_OUT = {"course.clinic", "course.doctor", "course.lecture"}
_INTRODUCTION = """\
# Reference

Everything that is public, from the docstrings. Every example runs in the tests. What it does not make itself is at hand
there: `rnnkit`, `keras`, `np` and `plt`, the names of its own module, `x, y = rnnkit.tasks.adding_problem(64, 10)`, and
as `model` a compiled `keras.Sequential` of a `GRU` named `"rnn"` and a `Dense` layer. What works on which backend is in
the [README](../README.md#on-a-model-of-your-own).

Results are found by the names of layers. Give a name to every layer that you want to look up, `LSTM(32, name="rnn")`:
Keras numbers unnamed layers through all models of a process, so that the layer called `lstm` in the first model is
called `lstm_1` in the second.

<!-- Made by `rnnkit reference`: edit the docstrings, not this file. -->
"""


def render():
    """Return the whole page as Markdown.

    Returns:
        str: a table of contents by task, then an entry for each public name.

    Example:
        >>> from rnnkit.authoring import reference
        >>> "rnnkit.probes.state_gradients(model, x, y" in reference.render()
        True
    """
    package = griffe.load("rnnkit", search_paths=[PACKAGE.parent])
    modules = {*rnnkit._MODULES.values(), *rnnkit._NAMES.values()} - _LEFT_OUT
    tasks = _TASKS | {"More": sorted(modules.difference(*_TASKS.values()))}
    tasks = {task: _public(package, [name for name in named if name in modules]) for task, named in tasks.items()}
    names = {name for public in tasks.values() for name in public}
    contents, entries = [], []
    for task, public in tasks.items():
        if public:
            contents.append(f"\n**{task}**\n")
            contents += [f"- [`{name}`](#{name}): {_summary(thing)}" for name, thing in public.items()]
            entries.append(f"\n## {task}\n")
            entries += [_linked(_entry(name, thing), name, names) for name, thing in public.items()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join([_INTRODUCTION, *contents, *entries]))


def check(path):
    """Say in what a page is behind the docstrings.

    Args:
        path: Markdown file.

    Returns:
        str: the next step and the first line that differs; empty when the page is what the docstrings make.

    Example:
        >>> import pathlib
        >>> from rnnkit.authoring import reference
        >>> written = pathlib.Path("reference.md").write_text(reference.render(), encoding="utf-8")
        >>> reference.check("reference.md")
        ''
    """
    stored = Path(path).read_text(encoding="utf-8").splitlines()
    made = render().splitlines()
    if stored == made:
        return ""
    pairs = itertools.zip_longest(stored, made, fillvalue="(nothing)")
    number, (old, new) = next((number, pair) for number, pair in enumerate(pairs, 1) if pair[0] != pair[1])
    return f"{path} is not what the docstrings make: run `rnnkit reference`. Line {number}\nis  {old}\nnot {new}"


def _public(package, modules):
    """Return what modules offer, by the name under which a reader uses it: first what is at the top."""
    top = {
        f"rnnkit.{name}": _defined(package[module][name]) for name, module in rnnkit._NAMES.items() if module in modules
    }
    inside = {
        f"rnnkit.{public}.{name}": _defined(thing)
        for module in modules
        for public, home in rnnkit._MODULES.items()
        if home == module
        for name, thing in package[module].members.items()
        if not name.startswith("_") and _offered(package[module], thing) and (thing.is_function or thing.is_class)
    }
    return top | {name: thing for name, thing in inside.items() if thing not in top.values()}


def _offered(module, thing):
    """Say whether a name of a module is for its users: what `__all__` lists or, without one, what it defines."""
    return not thing.is_alias if module.exports is None else thing.name in map(str, module.exports)


def _defined(thing):
    return thing.final_target if thing.is_alias else thing


def _summary(thing):
    first = thing.docstring.value.partition("\n\n")[0] if thing.docstring else ""
    return " ".join(first.split())


def _entry(name, thing):
    """Return one entry: heading, signature and the sections of the docstring."""
    # GitHub, editors and pandoc make different anchors of a heading; they agree on this one.
    parts = [f'<a id="{name}"></a>\n\n### `{name}`\n']
    constructor = thing.members.get("__init__") if thing.is_class else thing
    if constructor:
        parts.append(f"```python\n{_signature(name, constructor)}\n```\n")
    if thing.docstring:
        # A return value is described in words: what stands before its first colon need not be a type.
        options = {"warnings": False, "returns_named_value": True, "returns_multiple_items": False}
        parts += [_section(section) for section in thing.docstring.parse("google", **options)]
    file = thing.relative_package_filepath.as_posix()
    return "\n".join([*parts, *_members(thing), f"Source code: [{file}](../{file})\n"])


def _signature(name, function):
    signature = function.signature(name=name).replace("(self, ", "(", 1).replace("(self)", "()", 1)
    signature = signature.removesuffix(" -> None")
    return textwrap.fill(signature, 100, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _section(section):
    """Return one section of a docstring as Markdown."""
    kind = section.kind.value
    if kind == "text":
        return f"{re.sub(r'^Source:', '*Source:*', section.value, flags=re.MULTILINE)}\n"
    if kind == "admonition":
        example = re.sub(r" +# doctest:.*", "", section.value.description)
        return f"**{section.title}**\n\n```pycon\n{example}\n```\n"
    items = [_item(kind, item) for item in section.value]
    title = "Arguments" if kind == "parameters" else kind.capitalize()
    return "\n".join([f"**{title}**\n", *items, ""])


def _item(kind, item):
    if kind == "returns":  # put together again what the parser took for a name and a type
        kind_of = f" ({item.annotation})" if item.annotation else ""
        return f"{item.name}{kind_of}: {item.description}" if item.name else item.description
    named = str(item.annotation) if kind in ("raises", "warns") else item.name
    if named.endswith(","):  # "x, y: ...", of which the parser takes y for the type of x
        named = f"{named} {item.annotation}"
    names = ", ".join(f"`{name}`" for name in named.split(", "))
    return textwrap.indent(f"{names}: {item.description}", "  ").replace("  ", "- ", 1)


def _members(thing):
    """Return the list of methods and of properties that the class's docstring does not describe."""
    if not thing.is_class:
        return []
    described = thing.docstring.value if thing.docstring else ""
    lines = []
    for name, member in (thing.members | _inherited(thing)).items():
        # Keras calls on_..., and get_config when it saves.
        if name.startswith(("_", "on_")) or name == "get_config" or not member.docstring:
            continue
        if member.is_function:
            lines.append(f"- `{_signature(name, member)}`: {_summary(member)}")
        elif not re.search(rf"\b{name}\b.*: ", described):
            lines.append(f"- `{name}`: {_summary(member)}")
    return ["**Also**\n", *lines, ""] if lines else []


def _inherited(thing):
    """Return what a class has from bases of this package, but for private ones: these are how it is made."""
    return {
        name: member
        for name, member in thing.inherited_members.items()
        if name not in thing.members and not member.final_target.parent.name.startswith("_")
    }


def _linked(entry, own, names):
    """Make a link of each public name in backticks, except in code, headings, links and where an argument is named."""
    kept = re.compile(r"^```.*?^```$|^#.*?$|\[`.*?\)|^- `.*?:", re.DOTALL | re.MULTILINE)
    span = re.compile(r"`([\w.]+)`")

    def link(match):
        for name in (match[1], f"rnnkit.{match[1]}", f"{own.rpartition('.')[0]}.{match[1]}"):
            if name in names and name != own:
                return f"[`{match[1]}`](#{name})"
        return match[0]

    text, at = [], 0
    for found in kept.finditer(entry):
        text += [span.sub(link, entry[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*text, span.sub(link, entry[at:])])
