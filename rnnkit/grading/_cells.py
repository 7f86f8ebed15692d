"""Which cells an exercise needs: those of ours that its answer hangs on, and the student's own answer.

Nothing is run here. A lesson says with `rnnkit.check("name", expression)` what is examined; the cells that bind the
names in that expression are the student's to write. Everything else that they need is taken from our copy.
"""

import ast
import builtins
import re
import symtable
from dataclasses import dataclass, field, replace

_MACHINERY = ("rnnkit.exercises", "rnnkit.grading")
_PATCHES = ("setattr", "delattr", "patch", "mock.patch")
_LONGEST = 100_000  # characters of a cell; what it takes to read a longer one is no longer harmless


@dataclass(frozen=True)
class Cell:
    """A code cell, and what can be said of it without running it.

    Args:
        id: Its id in the notebook.
        source: Its source, without magics and shell commands.
        binds: Names that it gives a value at its top level.
        reads: Names that it takes from elsewhere, in functions too.
        fixed: Those of `binds` that later cells can hardly change: modules, functions, classes, plain constants.
        checks: (exercise, expression) of each `rnnkit.check("exercise", expression)` in it.
        odd: What in it reaches for the machinery of the checks, a sentence each.
        error: What Python says of a source that it cannot read; then nothing else is known of it.
    """

    id: str
    source: str
    binds: frozenset = frozenset()
    reads: frozenset = frozenset()
    fixed: frozenset = frozenset()
    checks: tuple = ()
    odd: tuple = ()
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
    found = []
    for number, cell in enumerate(notebook["cells"]):
        source = cell.get("source") if isinstance(cell, dict) else None
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if not isinstance(source, str):
            raise ValueError(f"Cell {number} has no source that is text.")
        if cell.get("cell_type") == "code":
            found.append(_cell(str(cell.get("id", "")) or f"number {number}", source))
    return found


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
    """Return what in a notebook reaches for the machinery of the checks, a sentence each.

    It reads the source only: a help for the eye and no defence, which is the process of its own.

    Args:
        returned: `Cell`s of the student's notebook.
    """
    return [f"cell {cell.id}, {odd}" for cell in returned for odd in cell.odd]


def changed_checks(lesson, returned):
    """Return the names of exercises of which the notebook has the cell, but nowhere the check that it came with.

    Args:
        lesson: `Cell`s of our copy.
        returned: `Cell`s of the student's notebook.
    """
    said = {check for cell in returned for check in cell.checks}
    kept = {cell.id for cell in returned if not cell.error}
    checks = exercises_of(lesson).items()
    return [name for name, (place, asked) in checks if lesson[place].id in kept and (name, asked) not in said]


# --- what a cell binds and reads ----------------------------------------------------------------------------------


def _cell(identity, source):
    if len(source) > _LONGEST:
        return Cell(identity, "", error=f"it has more than {_LONGEST:,} characters")
    source = _python(source)
    try:
        return _understood(identity, source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
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
    odd = [f"line {node.lineno}: {reason}" for node in ast.walk(tree) if (reason := _suspicion(node))]
    return Cell(
        identity,
        source,
        frozenset(binds),
        frozenset(reads - set(dir(builtins))),
        frozenset(_fixed(tree, binds)),
        tuple(_checks(tree)),
        tuple(dict.fromkeys(odd)),
    )


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


def _python(source):
    """Return a source in which magics and shell commands are empty lines, so that line numbers stay."""
    if source.lstrip().startswith("%%"):
        first, _, rest = source.lstrip().partition("\n")
        return "\n" + rest if first.split()[0] in ("%%time", "%%timeit", "%%capture") else ""
    return re.sub(r"^([ \t]*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)


def _checks(tree):
    """Return (exercise, expression) of the calls `rnnkit.check("exercise", expression)`."""
    calls = [
        node.args
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _dotted(node.func) == "rnnkit.check" and len(node.args) == 2
    ]
    return [(first.value, ast.unparse(second)) for first, second in calls if isinstance(first, ast.Constant)]


def _dotted(node):
    """Return `a.b.c` of an expression of names and dots alone; what stands before them, if anything else, as `?`."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "?", *reversed(parts)])


def _suspicion(node):
    """Return what is odd about a piece of a student's code, or None."""
    renamed = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == "rnnkit"
    if renamed or (isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == "rnnkit"):
        return "gives the name `rnnkit` to something else"
    if isinstance(node, ast.Attribute) and _dotted(node).startswith("rnnkit."):
        if isinstance(node.ctx, ast.Store | ast.Del):
            return f"sets `{_dotted(node)}`"
        if _dotted(node).startswith(_MACHINERY):
            return f"reaches into the checks: `{_dotted(node)}`"
    if isinstance(node, ast.Call) and _dotted(node.func) in _PATCHES and node.args:
        first = node.args[0].value if isinstance(node.args[0], ast.Constant) else _dotted(node.args[0])
        if str(first).startswith("rnnkit"):
            return f"changes the library: `{_dotted(node.func)}({first}, ...)`"
    if isinstance(node, ast.Import | ast.ImportFrom):
        module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        if any((module + alias.name).startswith(_MACHINERY) for alias in node.names):
            return f"imports the machinery of the checks: `{ast.unparse(node)}`"
    return None


def _recognised(lesson, returned):
    """Return a student's cells under our ids, where these were lost, as some editors lose them.

    A cell is known by the exercise that it checks, or by its source if nothing was changed in it.
    """
    ours, kept, known = {cell.id for cell in lesson}, {cell.id for cell in returned}, {}
    for cell in lesson:
        if cell.id not in kept:
            known.update(dict.fromkeys([*dict(cell.checks), cell.source.strip()], cell.id))
    cells = []
    for cell in returned:
        signs = [] if cell.id in ours else [*dict(cell.checks), cell.source.strip()]
        identity = next((known[sign] for sign in signs if sign in known), cell.id)
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
    task.error = next((cell.error for cell in given if cell.error), "")
    if given and not task.error:
        edited = [cell for cell in returned if cell not in order]
        ours = {cell.id for cell in lesson} - {cell.id for cell in given}
        task.cells = [[cell.id, cell.source] for cell in _needed(order, given, wanted, edited, ours)]
    return task


def _merged(lesson, returned, place, answers, wanted, name):
    """Return our cells and the student's own in one order, with the student's answers in it; and those answers.

    A cell of the student's own is an answer if it binds what is examined, and stands before the check or checks it
    itself: people copy a cell and work in the copy.
    """
    ours = {cell.id for cell in lesson}
    after, known = {}, None
    for cell in returned:
        if cell.id in ours:
            known = cell.id
        else:
            after.setdefault(known, []).append(cell)
    theirs = {cell.id: cell for cell in returned}
    kept = lesson[place].id in theirs
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
            checks = name in dict(own.checks)
            early = number < place or not kept
            if early or checks:
                order.append(own)
                if wanted & own.binds:
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
            spare += [cell for cell in binders if cell not in order and cell not in spare]
        elif not all(name in cell.fixed for cell in binders):
            binders += [cell for cell in order if cell.id in ours and name in cell.reads]
        for cell in binders:
            if id(cell) not in chosen:
                chosen.add(id(cell))
                waiting |= cell.reads - names
    return [cell for cell in [*spare, *order] if id(cell) in chosen]
