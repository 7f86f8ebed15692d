"""`python -m rnnkit`, and the script `rnnkit`."""

import sys

from rnnkit.commands import main

if __name__ == "__main__":
    sys.exit(main())
