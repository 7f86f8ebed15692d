"""`python tools/site site` and `python tools/site slides`: build one of them, then look through what was built.

Both are made from what is stored in the repository, nothing is run, and both open without a network. `make site` and
`make slides` call this with the packages of the extra `site`.
"""

import shutil
import sys
from pathlib import Path

import built

ROOT = Path(__file__).resolve().parents[2]


def main(what):
    """Build the site or the slides.

    Args:
        what: "site" or "slides".

    Returns:
        int: exit status, 0 when it was built and nothing is wrong with it.
    """
    folder = ROOT / "build" / what
    if what == "site":
        import sources
        from sphinx.cmd.build import build_main

        shutil.rmtree(folder, ignore_errors=True)  # a page that is no longer made would stay
        sources.write(ROOT, ROOT / "build" / "site-sources")
        here = str(Path(__file__).parent)
        strict = ["--fail-on-warning", "--keep-going", "--fresh-env", "--quiet"]
        if status := build_main([*strict, "-c", here, str(ROOT / "build" / "site-sources"), str(folder)]):
            return status
    else:
        import slides

        slides.write(ROOT / "solutions", folder)
    found = built.faults(folder)
    print("\n".join(found) or f"Open {folder / 'index.html'}: no network needed.", file=sys.stderr if found else None)
    return 1 if found else 0


if __name__ == "__main__":
    if sys.argv[1:] not in (["site"], ["slides"]):
        sys.exit(f"tools/site builds `site` or `slides`; received {sys.argv[1:]}. Run `make site` or `make slides`.")
    sys.exit(main(sys.argv[1]))
