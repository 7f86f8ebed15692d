"""Make reveal.js slides of each lesson's key cells; `decks.py` chooses what is on them."""

import html
import importlib.resources
import shutil
from pathlib import Path

import nbformat
from decks import deck
from mathematics import mathml
from nbconvert.exporters import SlidesExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

HERE = Path(__file__).parent
_REVEAL = ("reset.css", "reveal.css", "reveal.js")
_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Vanishing gradients, measured: slides</title>
<link rel="stylesheet" href="deck.css">
</head>
<body class="index">
<h1>Vanishing gradients, measured</h1>
<p>Slides of each lesson's key cells. Arrow keys turn them, <kbd>Esc</kbd> shows all, <kbd>F</kbd> fills the screen.</p>
<ul>
{entries}
</ul>
</body>
</html>
"""


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown, its formulas as MathML."""

    def inline_math(self, body):
        return mathml(body)

    def block_math(self, body):
        return mathml(body, block=True)


def write(solutions, folder):
    """Write the slides of every lesson, and a page that leads to them.

    Args:
        solutions: Folder of the solutions, a Path.
        folder: Where to, a Path; what it held is removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "reveal").mkdir(parents=True)
    bundled = importlib.resources.files("sphinx_revealjs") / "_static" / "revealjs"
    (folder / "reveal" / "LICENSE").write_bytes((bundled / "LICENSE").read_bytes())
    for name in _REVEAL:
        (folder / "reveal" / name).write_bytes((bundled / "dist" / name).read_bytes())
    shutil.copy2(HERE / "deck" / "deck.js", folder)
    code = HtmlFormatter(style="default").get_style_defs(".highlight")
    (folder / "deck.css").write_text((HERE / "deck" / "deck.css").read_text(encoding="utf-8") + code, encoding="utf-8")

    exporter = SlidesExporter(template_name="deck", extra_template_basedirs=[str(HERE)])
    exporter.register_filter(
        "markdown2html", MarkdownWithMath(renderer=_Renderer(escape=False, exclude_anchor_links=True)).render
    )
    entries = []
    for solution in sorted(solutions.glob("*.ipynb")):
        notebook = deck(nbformat.read(solution, as_version=4))
        page, _ = exporter.from_notebook_node(notebook)
        (folder / f"{solution.stem}.html").write_text(page, encoding="utf-8")
        title = html.escape(notebook.metadata.title)
        entries.append(f'<li><a href="{solution.stem}.html">{solution.stem[:2]} {title}</a></li>')
    (folder / "index.html").write_text(_INDEX.format(entries="\n".join(entries)), encoding="utf-8")
