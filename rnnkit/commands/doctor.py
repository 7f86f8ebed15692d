"""`rnnkit doctor`: check this machine."""

from rnnkit.course import doctor


def add(commands):
    """Add this command to the parser's."""
    parser = commands.add_parser("doctor", help="check this machine and suggest fixes")
    parser.set_defaults(run=run)


def run(arguments):
    """Print the doctor's report; return 1 if something is wrong with what this folder is for."""
    return 0 if doctor.report() else 1
