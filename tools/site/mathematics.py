"""Mathematics as MathML, made while building: no script, no font to fetch, and a screen reader can read it."""

from latex2mathml.converter import convert


def mathml(latex, block=False):
    """Return a formula as MathML.

    Args:
        latex: The formula, without dollar signs.
        block: Whether it stands on a line of its own.

    Returns:
        str: A `<math>` element.

    Raises:
        ValueError: If a command is not known to the converter, which would print its name.

    Example:
        >>> mathml("h_t")[:6]
        '<math '
    """
    # latex2mathml knows `align*`, which looks the same inside a formula, but shows the marks of `aligned` as they are.
    known = latex.strip().replace("{aligned}", "{align*}")
    element = convert(known, display="block" if block else "inline")
    if "\\" in element or "<mi>&</mi>" in element:
        raise ValueError(
            f"every LaTeX command in a formula must be known to latex2mathml; one of {latex!r} is not. Reword it."
        )
    return element


def setup(app):
    """Register the converter with Sphinx, as `html_math_renderer = "mathml"`."""
    from docutils.nodes import SkipNode

    def render(block):
        def visit(translator, node):
            formula = mathml(node.astext(), block)
            translator.body.append(f'<div class="formula">{formula}</div>' if block else formula)
            raise SkipNode

        return visit, None

    app.add_html_math_renderer("mathml", inline_renderers=render(False), block_renderers=render(True))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
