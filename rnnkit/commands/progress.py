"""`rnnkit progress`: which exercises are done."""


def add(commands):
    """Add this command to the parser's."""
    parser = commands.add_parser("progress", help="say which exercises you have done")
    parser.set_defaults(run=run)


def run(arguments):
    """Print which exercises are done."""
    from rnnkit.course import exercises

    exercises.progress()
    return 0
