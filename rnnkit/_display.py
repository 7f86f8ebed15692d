"""Say something to the reader: rich in a notebook, printed elsewhere, in the same words."""

import html
import os
import re
import sys

# No colour of its own: the box takes the page's text colour, so that it reads in light and dark themes alike.
_BOX = "border:1px solid currentColor;border-left-width:6px;padding:.4em .8em;margin:.4em 0"


def show(lead, text, code=""):
    """Show a bold lead and a text, then perhaps some source code.

    `text/plain` carries the same words as the HTML: it is what a screen reader, a terminal and nbval read.

    Args:
        lead: The first words, such as a verdict.
        text: What follows; line breaks are kept and `words in backticks` are set as code.
        code: Source code to show below, as it is.
    """
    plain = f"{lead} {text}".rstrip() + (f"\n\n{code}" if code else "")
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(plain)
        return
    from IPython.display import display

    block = f"<pre><code>{html.escape(code)}</code></pre>" if code else ""
    page = f'<div style="{_BOX}"><b>{_inline(lead)}</b> {_inline(text)}{block}</div>'
    display({"text/html": page, "text/plain": plain}, raw=True)


def _inline(text):
    escaped = html.escape(text).replace("\n", "<br>")
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)


def in_a_notebook():
    """Whether what is displayed reaches someone who is looking: a kernel, and not one that tests a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return hasattr(shell, "kernel") and not os.environ.get("RNNKIT_EXPECT")
