"""How every picture of the book looks, and how it gets into a page with its alt text.

The colours start from Okabe and Ito's set, darkened until each has a contrast of 3:1 on white, and chosen so that all
six stay apart under the three colour-vision deficiencies (the tests compute both). Colour never carries meaning alone:
every series also has its own line style.
"""

import base64
import html
import io
import os

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

PALETTE = ("#0072b2", "#d55e00", "#8f1a63", "#03a66c", "#222222", "#624c02")
LINES = ("-", (0, (5, 2)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5)), (0, (9, 3)), (0, (5, 2, 1, 2, 1, 2)))
PAGE_DPI = 96  # of a browser
SHARP_DPI = 192  # two picture pixels to a page pixel: crisp on a projector

INK, MUTED, RULE, ACCENT = "#1b1f24", "#57606a", "#d0d7de", "#00598c"  # of the pages; the tests check their contrast
CARD_CSS = (
    f"background:#fff;color:{INK};border:1px solid {RULE};border-radius:8px;padding:12px 16px;margin:8px 0;"
    "max-width:100%;box-sizing:border-box;color-scheme:light"
)
# The dark theme puts a grey mat around every HTML output.
NO_MAT = "<style>.text_html:has(.minirl-card){background:none!important;padding:0!important}</style>"


def style():
    """Set matplotlib's defaults to the look of the book. `import minirl.book` calls it once."""
    mpl.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.prop_cycle": cycler(color=PALETTE) + cycler(linestyle=LINES),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "figure.figsize": (7.0, 3.2),
            "font.size": 10,
            "grid.color": "#d9dde2",
            "grid.linewidth": 0.6,
            "image.cmap": "cividis",  # reads the same under every colour-vision deficiency and in grey
            "legend.fontsize": 9,
            "legend.framealpha": 0.9,
            "legend.handlelength": 2.8,  # long enough to see the line style
            "lines.linewidth": 1.8,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
        }
    )


def series(i):
    """Colour and line style of the i-th series, for `ax.plot(x, y, **series(i))`. Different for the first 36."""
    n = len(PALETTE)
    return {"color": PALETTE[i % n], "linestyle": LINES[(i + i // n) % n]}


class Shown:
    """Something to show at the end of a cell: HTML for a page, plain text for a terminal.

    png  the picture as PNG, for exports that know no HTML
    widget  its live twin; JupyterLab prefers it, the book takes the HTML
    """

    def __init__(self, page, text, png=None, widget=None):
        self.page, self.text, self.png, self.widget = page, text, png, widget

    def __repr__(self):
        return self.text

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"text/html": self.page, "text/plain": self.text}
        if self.png is not None:
            bundle["image/png"] = base64.b64encode(self.png).decode()
        if self.widget is not None:
            view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
            bundle["application/vnd.jupyter.widget-view+json"] = view
        return bundle


def static_book():
    """True while the book is being built: what a cell shows must then work without a kernel."""
    return os.environ.get("MINIRL_STATIC") == "1"


def check_alt(alt):
    """Return `alt` when it can stand in for a picture; ValueError when it is missing or a mere name."""
    words = alt.split() if isinstance(alt, str) else []
    if len(words) < 4 or len(alt) < 20:
        raise ValueError(f"alt must say in a sentence what the picture shows, got {alt!r}")
    return " ".join(words)


def pixels(fig, dpi=SHARP_DPI):
    """Draw a figure: PIL image, RGB."""
    for ax in fig.axes:
        if ax.images:
            ax.grid(False)  # lines for reading off a curve only hide a map
    canvas = FigureCanvasAgg(fig)
    fig.set_dpi(dpi)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def webp(image, colours=255):
    """Encode a drawn figure (PIL image) as lossless WebP of so many colours, in a third of a PNG's bytes.

    A line plot has few colours beside its smoothed edges: the reduction moves no channel by more than some 10 of 255.
    """
    few = image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    out = io.BytesIO()
    few.convert("RGB").save(out, "webp", lossless=True, method=2, quality=40)
    return out.getvalue()


def png(image):
    """Encode a PIL image as PNG, quickly rather than small."""
    out = io.BytesIO()
    image.save(out, "png", compress_level=1)
    return out.getvalue()


def data_uri(data, kind="webp"):
    """The bytes of an image as an address that needs no file and no network."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def img(src, alt, width, height, extra=""):
    """An <img> that keeps its place while it loads and shrinks with the page. Sizes in page pixels."""
    # The class and the last three properties keep the dark theme from dimming and framing the picture.
    css = f"display:block;width:{width:.0f}px;max-width:100%;height:auto;margin:0;padding:0;background:#fff"
    return (
        f'<img class="dark-light" src="{src}" alt="{html.escape(alt)}" width="{width:.0f}" height="{height:.0f}" '
        f'decoding="sync" style="{css};border-radius:0;{extra}">'
    )


def framed(kind, content, attributes="", css=""):
    """Content in a white card with dark text, which reads the same in the light and in the dark theme of the book."""
    return f'<div class="minirl-{kind} minirl-card" {attributes} style="{CARD_CSS};{css}">{NO_MAT}{content}</div>'


def page_size(fig):
    """(width, height) of a figure in page pixels. A tenth above its inches, to fill the column of the book."""
    width, height = fig.get_size_inches() * PAGE_DPI * 1.1
    return width, height


def figure(fig, alt):
    """Show a matplotlib figure with its alt text; make it the last line of a cell.

    fig  matplotlib Figure; it is closed, so that the notebook does not show it a second time
    alt  a sentence that says what there is to see; ValueError when it is missing or shorter than four words
    """
    alt = check_alt(alt)
    size = page_size(fig)
    picture = pixels(fig)
    plt.close(fig)
    small = io.BytesIO()
    picture.quantize(255, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(small, "png")
    page = framed("figure", img(data_uri(webp(picture)), alt, *size))
    return Shown(page, f"[figure: {alt}]", png=small.getvalue())
