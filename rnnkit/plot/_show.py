"""A figure in a notebook, with words for those who cannot see it."""

import sys

import matplotlib.pyplot as plt

from rnnkit._picture import as_html, as_png, size_on_page
from rnnkit.plot._fingerprint import fingerprint


def show(figure, alt, caption="", about=False):
    """Put a figure into the notebook with alt text and a visible caption, and close it.

    Three forms are given. `text/html`, a `<figure>` whose picture has the alt text, is what JupyterLab and exported
    pages take. `image/png`, the bare picture, is for viewers that drop HTML. `text/plain` holds the words and the
    figure's `fingerprint`: nbval compares it between two runs. Outside IPython the words are printed; to keep the
    picture there, call `figure.savefig` before.

    Args:
        figure: matplotlib figure, or axes of it.
        alt: what the figure shows, in a sentence, for those who cannot see it.
        caption: what to take away from it, shown under the figure.
        about: whether what is drawn comes from training, where another processor's rounding grows into other numbers;
            the fingerprint then says so (see there), and nbval compares the figure's words alone.

    Raises:
        ValueError: if there is no alt text.

    Example:
        >>> ax = rnnkit.plot.gradient_norms({"rnn/kernel": [1.0, 0.5, 0.7]})
        >>> rnnkit.plot.show(ax, alt="The norm falls from 1 to 0.5 and rises again.")
        The norm falls from 1 to 0.5 and rises again.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(
            "A figure's alt text says in a sentence what it shows, for those who cannot see it. "
            f"Received: alt={alt!r}. Write what is drawn and what it does: 'The norm falls from 1 to 0.5.'"
        )
    figure = getattr(figure, "figure", figure)
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(*filter(None, (alt, caption)), sep="\n")
    else:
        from IPython.display import display

        bundle, metadata = _bundle(figure, alt, caption, about)
        display(bundle, metadata=metadata, raw=True)
    plt.close(figure)


def _bundle(figure, alt, caption, about):
    """Return the figure by MIME type, and the size at which to show its picture."""
    picture = as_png(figure)
    size = size_on_page(figure)
    bundle = {
        "text/html": as_html(picture, alt, caption, width=size["width"]),
        "image/png": picture,
        "text/plain": "\n".join(filter(None, (alt, caption, fingerprint(figure, about=about)))),
    }
    return bundle, {"image/png": {"alt": alt} | size}
