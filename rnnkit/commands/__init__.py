"""The command line, a file a command: for learners, teachers and authors, in this order."""

import argparse
import sys

import rnnkit
from rnnkit.commands import doctor, grade, handout, lab, lessons, progress, records, reference

_COMMANDS = (doctor, lab, handout, progress, grade, lessons, reference, records)


def main(argv=None):
    """Run one command.

    Args:
        argv: list of arguments; None takes the command line's.

    Returns:
        int: exit status, 0 when all is well.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["lab"]:
        return lab.open_lab(argv[1:])  # the one command that leaves its arguments to another program
    parser = argparse.ArgumentParser(prog="rnnkit", description="Vanishing gradients, measured: the course's commands.")
    parser.add_argument("--version", action="version", version=f"rnnkit {rnnkit.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    for command in _COMMANDS:
        command.add(commands)
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    return arguments.run(arguments)
