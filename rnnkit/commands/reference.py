"""`rnnkit reference`: the reference page from the docstrings."""

import sys

from rnnkit.commands._folders import find_folder


def add(commands):
    """Add this command to the parser's."""
    parser = commands.add_parser("reference", help="make docs/reference.md from the docstrings (for authors)")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the page is out of date")
    parser.set_defaults(run=run)


def run(arguments):
    """Make the reference page from the docstrings, or only check that it is up to date; return 1 if it is not."""
    docs = find_folder("docs", "reference.md")
    if docs is None:
        return 1
    from rnnkit.authoring import reference

    page = docs / "reference.md"
    drift = reference.check(page)
    if arguments.check:
        print(drift or f"{page} is up to date.", file=sys.stderr if drift else sys.stdout)
        return 1 if drift else 0
    if drift:
        page.write_text(reference.render(), encoding="utf-8", newline="\n")
    print(f"wrote {page}" if drift else f"{page} was up to date.")
    return 0
