"""Choose what is on the slides of a lesson: its key cells, those whose metadata in the solution has a `slideshow`.

JupyterLab sets it (property inspector, "Slide Type"): *Slide* begins a slide, *Fragment* comes onto it with a click. A
cell without is not shown. What stands on a slide:

- of a text, the part under its first heading, or all of it if it has none; no exercise,
- of code with a figure or a claim, these; of other code, the code and what it printed.
"""

import re

import nbformat


def deck(notebook):
    """Return the notebook of a lesson's slides.

    Args:
        notebook: The executed solution, a notebook node; not changed.

    Returns:
        A notebook node with the cells that are shown, cut to what is shown of them, and the lesson's title in its
        metadata.
    """
    title, part, cells = None, "", []
    for cell in notebook.cells:
        headings = _headings(cell)
        title = title or (headings and headings[0])
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "skip")
        if kind != "skip":
            shown = nbformat.from_dict(cell)
            shown.metadata = nbformat.from_dict({"slideshow": {"slide_type": kind}})
            if cell.cell_type == "markdown":
                shown.source = _on_a_slide(cell.source)
            elif any("text/html" in output.get("data", {}) for output in cell.outputs):
                shown.metadata.transient = {"remove_source": True}
            if kind == "slide" and not headings:
                shown.metadata.part = part
            cells.append(shown)
        part = headings[-1] if headings else part
    return nbformat.v4.new_notebook(cells=cells, metadata={**notebook.metadata, "title": title})


def _headings(cell):
    """Return the headings of a cell down to the second level."""
    return re.findall(r"^##? (.*)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []


def _on_a_slide(text):
    """Return the part of a text under its first heading, without the exercises that follow there."""
    first = re.search(r"^##? ", text, re.MULTILINE)
    text = text[first.start() :] if first else text
    return re.split(r"^(?:#+ |\*\*)Exercise", text, flags=re.MULTILINE)[0].rstrip()
