"""In a notebook's process: keep what each claim measured, and go on where it fails."""

import json

import rnnkit
from rnnkit.claims import Claim


def claims_in(path):
    """Let `rnnkit.claim` write its values to a file, a line of JSON for each claim, and raise nothing."""

    def claim(statement, measured, relation, bound, *, fraction=1.0, floor=0.0, lecture=None, supports=True):
        record = Claim(statement, measured, relation, bound, fraction, floor, lecture, supports)
        line = {
            "statement": statement,
            "values": record.values,
            "relation": relation,
            "bound": record.bound,
            "fraction": fraction,
        }
        with open(path, "a", encoding="utf-8") as kept:
            kept.write(json.dumps(line) + "\n")
        print("✓" if record.held else "✗", record)

    rnnkit.claim = claim
