"""Which cells an exercise needs: those of ours that its answer hangs on, and the student's own answer.

It is a backward slice of the lesson, found without running it: the statements that can have an effect on what is
examined. A lesson says with `rnnkit.check("name", expression)` what that is; the cells that bind the names in the
expression are the student's to write. Everything else that they need is taken from our copy.

Source: M. Weiser, "Program Slicing", ICSE 1981, pp. 439-449.
"""

import ast
import builtins
import collections
import symtable
from dataclasses import dataclass, field, replace

from rnnkit.classroom.grading import _magics

_GIVES_NO_ANSWER = ("hint", "solution", "use_or_reference", "progress")  # what else is called with an exercise's name
_GRADER = "rnnkit.classroom.grading"
_PATCHES = ("setattr", "delattr", "patch", "mock.patch")
_LONGEST = 100_000  # characters of a cell; what it takes to read a longer one is no longer harmless


@dataclass(frozen=True)
class Cell:
    """A code cell, and what can be said of it without running it.

    Args:
        id: Its id in the notebook.
        source: Its source as Python.
        binds: Names that it gives a value at its top level; "*" if there may be others.
        reads: Names that it takes from elsewhere, in functions too.
        fixed: Those of `binds` that later cells can hardly change: modules, functions, classes, plain constants.
        checks: (exercise, expression) of each `rnnkit.check("exercise", expression)` in it, as our lessons write it.
        mentions: Texts that could be the exercise of a check, however that is written.
        error: What Python says of a source that it cannot read; then nothing else is known of it.
    """

    id: str
    source: str
    binds: frozenset = frozenset()
    reads: frozenset = frozenset()
    fixed: frozenset = frozenset()
    checks: tuple = ()
    mentions: frozenset = frozenset()
    error: str = ""


@dataclass
class Task:
    """One exercise of one notebook, ready to be run.

    Args:
        exercise: Its name.
        expression: What our copy of the lesson hands to `rnnkit.check`.
        cells: [id, source] of each cell to run, in order.
        found: Whether the notebook has a cell for the answer.
        error: Why the cell of the answer cannot be run at all, or "".
    """

    exercise: str
    expression: str
    cells: list = field(default_factory=list)
    found: bool = True
    error: str = ""


def code_cells(notebook):
    """Return the code cells of a notebook as parsed from JSON.

    Args:
        notebook: What `json.loads` made of the file.

    Returns:
        A list of `Cell`.

    Raises:
        ValueError: If it is not a notebook of version 4; says what is missing.
    """
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise ValueError("A notebook of version 4 has a list of cells; this file has none.")
    found, seen = [], collections.Counter()
    for number, cell in enumerate(notebook["cells"]):
        source = cell.get("source") if isinstance(cell, dict) else None
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if not isinstance(source, str):
            raise ValueError(f"Cell {number} has no source that is text.")
        if cell.get("cell_type") == "code":
            identity = _identity(cell) or f"number {number}"
            copy = f" copy {seen[identity]}" if seen[identity] else ""  # some editors copy the id with the cell
            seen[identity] += 1
            found.append(_cell(identity + copy, source))
    return found


def _identity(cell):
    """Return the id of a cell as parsed from JSON, which Colab keeps among the metadata; "" if there is none."""
    metadata = cell.get("metadata")
    return str(cell.get("id") or (metadata.get("id") if isinstance(metadata, dict) else "") or "")


def exercises_of(lesson):
    """Return what a lesson checks: {name of the exercise: (place of the cell, expression)}.

    Args:
        lesson: `Cell`s of our copy.
    """
    found = {}
    for place, cell in enumerate(lesson):
        for name, expression in cell.checks:
            found.setdefault(name, (place, expression))
    return found


def tasks(lesson, returned):
    """Return the exercises of a lesson with the cells that each needs.

    Args:
        lesson: `Cell`s of our copy.
        returned: `Cell`s of the student's notebook.

    Returns:
        A list of `Task`, in the lesson's order.
    """
    returned = _recognised(lesson, returned)
    return [_task(lesson, returned, *what) for what in exercises_of(lesson).items()]


def tampering(returned):
    """Return where a notebook changes rnnkit or reaches into the grader, a sentence each.

    It reads the source only: a help for the eye and no defence, which is the process of its own.

    Args:
        returned: `Cell`s of the student's notebook.
    """
    nodes = [(cell, node) for cell in returned if not cell.error for node in ast.walk(ast.parse(cell.source))]
    origins = _origins(node for _, node in nodes)
    found = [(cell, node, reason) for cell, node in nodes if (reason := _suspicion(node, origins))]
    return list(dict.fromkeys(f"cell {cell.id}, line {node.lineno}: {reason}" for cell, node, reason in found))


# --- what a cell binds and reads ----------------------------------------------------------------------------------


def _cell(identity, source):
    if len(source) > _LONGEST:
        return Cell(identity, "", error=f"it has more than {_LONGEST:,} characters")
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    try:
        return _understood(identity, _magics.as_python(source))
    except (SyntaxError, ValueError, RuntimeError, MemoryError) as error:
        return Cell(identity, source, error=f"{type(error).__name__}: {error}")


def _understood(identity, source):
    tree = ast.parse(source)
    table = symtable.symtable(source, identity, "exec")
    binds = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    reads = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    nested = list(table.get_children())
    while nested:
        inner = nested.pop()
        nested += inner.get_children()
        for symbol in inner.get_symbols():
            if symbol.is_global():
                reads.add(symbol.get_name())
                if symbol.is_declared_global() and symbol.is_assigned():
                    binds.add(symbol.get_name())
    if any(map(_binds_unseen, ast.walk(tree))):
        binds.add("*")
    return Cell(
        identity,
        source,
        frozenset(binds),
        frozenset(reads - set(dir(builtins))),
        frozenset(_fixed(tree, binds)),
        tuple(_checks(tree)),
        frozenset(_mentions(tree)),
    )


def _binds_unseen(node):
    """Whether a piece of code may bind names that it does not show."""
    if isinstance(node, ast.ImportFrom):
        return node.names[0].name == "*"
    return isinstance(node, ast.Name) and node.id in ("exec", "globals", "locals", "vars")


def _fixed(tree, binds):
    """Return the names that only imports, definitions and plain constants bind."""
    steady, other = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            steady |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            steady.add(node.name)
        elif isinstance(node, ast.Assign) and _constant(node.value):
            steady |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.NamedExpr | ast.For | ast.With):
            other |= {
                inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
            }
    return (steady - other) & binds


def _constant(node):
    """Whether an expression is a number, a text or a tuple of such: nothing that could be changed in its place."""
    if isinstance(node, ast.Tuple):
        return all(map(_constant, node.elts))
    if isinstance(node, ast.Call):  # a learner's function, or the reference
        return _dotted(node.func) == "rnnkit.use_or_reference"
    return isinstance(node, ast.Constant) or (isinstance(node, ast.UnaryOp) and _constant(node.operand))


def _checks(tree):
    """Return (exercise, expression) of the calls `rnnkit.check("exercise", expression)`."""
    calls = [
        node.args
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _dotted(node.func) == "rnnkit.check" and len(node.args) == 2
    ]
    return [(first.value, ast.unparse(second)) for first, second in calls if isinstance(first, ast.Constant)]


def _mentions(tree):
    """Return the texts that are passed to a function or given a name: one may be the exercise of a check."""
    for node in ast.walk(tree):
        values = []
        if isinstance(node, ast.Call) and _dotted(node.func).split(".")[-1] not in _GIVES_NO_ANSWER:
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Assign):
            values = [node.value]
        yield from (v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str))


def _dotted(node):
    """Return `a.b.c` of an expression of names and dots alone; what stands before them, if anything else, as `?`."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "?", *reversed(parts)])


def _origins(nodes):
    """Return what of rnnkit the names stand for that imports give it, {name: dotted path}."""
    origins = {"rnnkit": "rnnkit"}
    for node in nodes:
        if isinstance(node, ast.Import):
            origins |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            origins |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return {name: origin for name, origin in origins.items() if _is_ours(origin)}


def _is_ours(path):
    return path.split(".")[0] == "rnnkit"


def _suspicion(node, origins):
    """Return what is odd about a piece of a student's code, or None."""

    def origin(expression):
        first, *rest = _dotted(expression).split(".")
        return ".".join([origins.get(first, "?"), *rest])

    renamed = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == "rnnkit"
    if renamed or (isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == "rnnkit"):
        return "gives the name `rnnkit` to something else"
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del) and _is_ours(origin(node)):
        return f"sets `{origin(node)}`"
    if isinstance(node, ast.Attribute) and origin(node).startswith(_GRADER):
        return f"reaches into the grader: `{origin(node)}`"
    if isinstance(node, ast.Call) and _dotted(node.func) in _PATCHES and node.args:
        first = node.args[0].value if isinstance(node.args[0], ast.Constant) else origin(node.args[0])
        if _is_ours(str(first)):
            return f"changes the library: `{_dotted(node.func)}({first}, ...)`"
    if isinstance(node, ast.Import | ast.ImportFrom):
        module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        if any((module + alias.name).startswith(_GRADER) for alias in node.names):
            return f"imports the grader: `{ast.unparse(node)}`"
    return None


def _recognised(lesson, returned):
    """Return a student's cells under our ids, where these were lost, as some editors lose them.

    A cell is known by its source if nothing was changed in it, or by the exercise that it checks.
    """
    ours, kept, known = {cell.id for cell in lesson}, {cell.id for cell in returned}, {}
    for cell in lesson:
        if cell.id not in kept:
            known.update(dict.fromkeys([*dict(cell.checks), cell.source.strip()], cell.id))
    cells = []
    for cell in returned:
        signs = set() if cell.id in ours else {cell.source.strip(), *cell.mentions}
        identity = next((other for sign, other in known.items() if sign in signs), cell.id)
        known = {sign: other for sign, other in known.items() if other != identity}
        cells.append(replace(cell, id=identity))
    return cells


# --- what an exercise needs ---------------------------------------------------------------------------------------


def _task(lesson, returned, name, check):
    place, expression = check
    wanted = _cell("expression", expression).reads
    # Theirs to write: the cells that last bind what is examined.
    last = {max((i for i in range(place + 1) if word in lesson[i].binds), default=place) for word in wanted}
    answers = {lesson[index].id for index in last}
    # And those of ours in which they give it a value: some write the answer above the check.
    theirs = {cell.id: cell.binds for cell in returned}
    answers |= {cell.id for cell in lesson[: place + 1] if wanted & (theirs.get(cell.id, cell.binds) - cell.binds)}
    order, given = _merged(lesson, returned, place, answers, wanted, name)
    task = Task(name, expression, found=bool(given))
    if all(cell.error for cell in given):  # one that can be read may be all it takes
        task.error = next((cell.error for cell in given), "")
    if given and not task.error:
        edited = [cell for cell in returned if cell not in order]
        ours = {cell.id for cell in lesson} - {cell.id for cell in given}
        task.cells = [[cell.id, cell.source] for cell in _needed(order, given, wanted, edited, ours)]
    return task


def _merged(lesson, returned, place, answers, wanted, name):
    """Return our cells and the student's own in one order, with the student's answers in it; and those answers.

    A cell of the student's own is an answer if it checks the exercise, or binds what is examined and stands before the
    check: people copy a cell and work in the copy.
    """
    ours = {cell.id for cell in lesson}
    after, known = {}, None
    for cell in returned:
        if cell.id in ours:
            known = cell.id
        else:
            after.setdefault(known, []).append(cell)
    theirs = {cell.id: cell for cell in returned}
    kept = lesson[place].id in theirs and name in theirs[lesson[place].id].mentions  # the check is where it was
    order, given = [], []
    for number, cell in [(-1, None), *enumerate(lesson)]:
        identity = cell and cell.id
        if cell and number <= place:
            if identity not in answers:
                order += _statements(cell)
            elif identity in theirs:
                order.append(theirs[identity])
                given.append(theirs[identity])
        for own in after.get(identity, []):
            checks = name in own.mentions
            early = number < place or not kept
            if early or checks:
                order.append(own)
                if checks or wanted & own.binds:
                    given.append(own)
    return order, given


def _statements(cell):
    """Return the statements of one of our cells, each as a cell: an exercise needs some of them only."""
    lines, parts = cell.source.split("\n"), []
    for node in ast.parse(cell.source).body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        parts.append("\n".join(lines[first - 1 : node.end_lineno]))
    return [_cell(cell.id, part) for part in parts]


def _needed(order, given, wanted, edited, ours):
    """Return the parts of `order` that must run, in that order, for the names in `wanted` to be what they would be.

    All that bind a needed name are needed. Where a name stands for something that can be changed in its place, an array
    or a model, so are all that mention it. What none of ours binds is looked for in the student's own cells, and in
    ours as the student edited them: an import that was added there.
    """
    start = [cell for cell in order if cell.source.startswith("rnnkit.start_lesson(")]
    chosen, names = set(map(id, [*start, *given])), set()
    waiting = set(wanted).union(*(cell.reads for cell in [*start, *given]))
    spare = []
    while waiting:
        name = waiting.pop()
        names.add(name)
        binders = [cell for cell in order if cell.id in ours and name in cell.binds]
        if not binders and not any(name in cell.binds for cell in given):
            binders = [cell for cell in [*order, *edited] if name in cell.binds]
            binders = binders or [cell for cell in [*order, *edited] if "*" in cell.binds]
            spare += [cell for cell in binders if cell not in order and cell not in spare]
        elif not all(name in cell.fixed for cell in binders):
            binders += [cell for cell in order if cell.id in ours and name in cell.reads]
        for cell in binders:
            if id(cell) not in chosen:
                chosen.add(id(cell))
                waiting |= cell.reads - names
    return [cell for cell in [*spare, *order] if id(cell) in chosen]
