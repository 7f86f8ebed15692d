"""Say something to the reader: rich in a notebook, printed elsewhere, in the same words."""

import html
import os
import re
import sys
import time

# No colour of its own: the box takes the page's text colour, so that it reads in light and dark themes alike.
_BOX = "border:1px solid currentColor;border-left-width:6px;padding:.4em .8em;margin:.4em 0"


def show(lead, text, code="", record=None):
    """Show a bold lead and a text, then perhaps some source code.

    `text/plain` carries the same words as the HTML: it is what a screen reader, a terminal and nbval read.

    Args:
        lead: The first words, such as a verdict.
        text: What follows; line breaks are kept and `words in backticks` are set as code.
        code: Source code to show below, as it is.
        record: What a stored notebook keeps of it for programs, as JSON can hold it; see `rnnkit.authoring.ledgers`.
    """
    block = f"<pre><code>{html.escape(code)}</code></pre>" if code else ""
    page = f'<div style="{_BOX}"><b>{_inline(lead)}</b> {_inline(text)}{block}</div>'
    _either(page, f"{lead} {text}".rstrip() + (f"\n\n{code}" if code else ""), record)


def table(caption, header, rows, below="", record=None):
    """Show a table whose first column names the rows, and a text below it.

    Args:
        caption: What the table says, in a line.
        header: Names of the columns; the first may be empty.
        rows: Sequences of texts, as long as the header.
        below: What to say after the table.
        record: As for `show`.
    """
    head = "".join(
        f'<th scope="col" style="text-align:left">{_inline(name)}</th>' if name else "<td></td>" for name in header
    )
    body = "".join(
        f'<tr><th scope="row" style="text-align:left">{_inline(first)}</th>'
        + "".join(f'<td style="text-align:left">{_inline(cell)}</td>' for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    page = (
        f'<div style="{_BOX}"><table><caption style="text-align:left"><b>{_inline(caption)}</b></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{_inline(below)}</p></div>"
    )
    lines = [caption, *(" | ".join(row) for row in (header, *rows)), below]
    _either(page, "\n".join(filter(None, lines)), record)


def _either(page, plain, record):
    """Display a page in a notebook, print the plain text elsewhere."""
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(plain)
        return
    from IPython.display import display

    # In an output's metadata, which nobody sees and nbval does not compare.
    display({"text/html": page, "text/plain": plain}, raw=True, metadata={"rnnkit": record} if record else None)


class Progress:
    """Show how many of many things are done, in a notebook or a terminal, and leave nothing of it.

    As a context manager it gives the function to call with that number.

    Args:
        total: how many there are.
        of: what they are called, in the plural.
    """

    def __init__(self, total, of="runs"):
        self.total, self.of, self.begun, self.shown, self.handle = total, of, time.monotonic(), 0.0, None

    def __enter__(self):
        if in_a_notebook():
            from IPython.display import display

            self.handle = display(self._bundle(0), raw=True, display_id=True)
        self.terminal = self.handle is None and sys.stderr is not None and sys.stderr.isatty()
        return self.show

    def show(self, done):
        """Show how many are done, but not more often than anyone can read."""
        now = time.monotonic()
        if now - self.shown < 0.3:
            return
        self.shown = now
        if self.handle:
            self.handle.update(self._bundle(done), raw=True)
        elif self.terminal:
            print(f"\r{self._words(done)}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *_):
        if self.handle:
            self.handle.update({}, raw=True)
        elif self.terminal and self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _words(self, done):
        return f"{done} of {self.total} {self.of}, {time.monotonic() - self.begun:.0f} s"

    def _bundle(self, done):
        words = self._words(done)
        bar = f'<progress value="{done}" max="{self.total}" aria-label="{html.escape(self.of)}"></progress> {words}'
        return {"text/html": bar, "text/plain": words}


def _inline(text):
    escaped = html.escape(text).replace("\n", "<br>")
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)


def in_a_notebook():
    """Whether what is displayed reaches someone who is looking: a kernel, and not one that tests a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return hasattr(shell, "kernel") and not os.environ.get("RNNKIT_EXPECT")
