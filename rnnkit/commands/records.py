"""`rnnkit records`: the ledgers of claims and replications."""

import sys

from rnnkit.commands._folders import find_folder


def add(commands):
    """Add this command to the parser's."""
    parser = commands.add_parser("records", help="make the ledgers of claims and replications (for authors)")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if one is out of date")
    parser.set_defaults(run=run)


def run(arguments):
    """Make the pages of claims and replications from the solutions' outputs, or only check them; return 1 on drift."""
    solutions = find_folder("solutions", "*.ipynb")
    if solutions is None:
        return 1
    from rnnkit.authoring import ledgers

    status = 0
    for name, text in ledgers.pages(solutions).items():
        path = solutions.parent / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            print(f"{path} is up to date.")
        elif arguments.check:
            print(f"{path} is not what the solutions recorded: run `rnnkit records`.", file=sys.stderr)
            status = 1
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"wrote {path}")
    return status
