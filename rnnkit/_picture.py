"""A figure as a PNG and as HTML: for a page that is kept, or quickly for a screen."""

import base64
import html
import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image  # comes with matplotlib, which writes its pictures through it

_PAGE_DPI = 100


def as_png(figure):
    """Return a figure as a PNG in base64, at the resolution at which it would be saved.

    With a palette of 256 colours it has a third of the size: a notebook holds each picture twice.
    """
    opened = io.BytesIO()
    figure.savefig(opened, format="png")
    colours = Image.open(opened).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    return _packed(colours, optimize=True)


def as_quick_png(figure):
    """Return a figure as a PNG in base64, in a third of the time: for a screen, not for print."""
    figure.set_dpi(_PAGE_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    colours = pixels.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    return _packed(colours, compress_level=1)


def size_on_page(figure):
    """Return the `width` and `height` at which to show a figure, in pixels of the page."""
    width, height = (round(_PAGE_DPI * inches) for inches in figure.get_size_inches())
    return {"width": width, "height": height}


def as_html(picture, alt, caption="", caption_style="", **size):
    """Return a picture in base64 as an HTML `<figure>`.

    Args:
        picture: what `as_png` returned.
        alt: what it shows, in a sentence, for those who cannot see it.
        caption: what to write below it, if anything.
        caption_style: CSS of that.
        **size: `width` and `height` in pixels, if the page is to know them before the picture is decoded.
    """
    known = "".join(f' {side}="{pixels}"' for side, pixels in size.items())
    image = (
        f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{picture}"{known} '
        'style="max-width:100%;height:auto">'
    )
    style = f' style="{caption_style}"' if caption_style else ""
    below = f"<figcaption{style}>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure style="margin:0">{image}{below}</figure>'


def _packed(image, **options):
    packed = io.BytesIO()
    image.save(packed, "png", **options)
    return base64.b64encode(packed.getvalue()).decode()
