"""`explore`: one call, and sliders both in JupyterLab, with a kernel behind them, and in the static book, without."""

import hashlib
import html
import itertools
import json
import math

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure

from minirl.book.plots import (
    SHARP_DPI,
    Shown,
    check_alt,
    data_uri,
    framed,
    img,
    page_size,
    pixels,
    static_book,
    webp,
)

MAX_FRAMES = 80
MAX_BYTES = 1_500_000  # of page, for one explorer
AIM_BYTES = 600_000  # leaves room on the page for a second explorer and a film
QUALITIES = ((SHARP_DPI, 255), (144, 255), (112, 255), (112, 64))  # dots an inch, colours

_numbers = itertools.count(1)  # ids differ within a page and are the same at every build

STYLE = """<style>
.minirl-sliders{display:grid;grid-template-columns:max-content minmax(6rem,26rem) 1fr;gap:.4rem 1.1rem;
align-items:center;margin-top:.6rem;font-size:1rem;line-height:1.4}
.minirl-sliders label{margin:0}
.minirl-sliders output{font-variant-numeric:tabular-nums;font-weight:600}
.minirl-sliders input{width:100%;height:28px;margin:0;accent-color:#0072b2;cursor:pointer}
.minirl-sliders input:focus-visible{outline:3px solid #0072b2;outline-offset:3px;border-radius:4px}
@media(max-width:36rem){.minirl-sliders{grid-template-columns:1fr 5rem}.minirl-sliders label{grid-column:1/-1}}
</style>"""

# Frames lie in row-major order: the last axis changes fastest.
SCRIPT = """<script>
(function () {
  const {id, frames, alts, strides, texts} = DATA;
  const root = document.getElementById(id), picture = root.querySelector("img");
  const inputs = root.querySelectorAll("input"), outputs = root.querySelectorAll("output");
  function show() {
    let frame = 0;
    inputs.forEach(function (input, axis) {
      const position = Number(input.value), text = texts[axis][position];
      frame += position * strides[axis];
      outputs[axis].textContent = text;
      input.setAttribute("aria-valuetext", text);
    });
    picture.src = frames[frame];
    picture.alt = alts[frame];
  }
  inputs.forEach(function (input) { input.disabled = false; input.addEventListener("input", show); });
  show();
})();
</script>"""


def explore(fn, alt, labels=None, start=None, **axes):
    """Show `fn` over a grid of values, one slider for each axis.

    fn      fn(**values) -> matplotlib Figure, in under 100 ms; size, panels and axis limits the same for all values
    alt     a sentence that says what there is to see, or fn(**values) -> such a sentence
    labels  {axis name: label of its slider}; without it the name itself
    start   {axis name: value shown first}; without it the middle one
    axes    name=list, tuple or array of at least two numbers, strings or bools

    With a front end the sliders call `fn` in the kernel. While the book is built (MINIRL_STATIC=1) every frame of the
    grid is rendered, and the page needs neither a kernel nor a network. Some 20 frames of two panels are crisp, 40 are
    still light; 80 make a page of over 1 MB. Without that variable only the first frame is rendered, so a notebook saved
    from JupyterLab carries that one picture.

    ValueError: no axis, an axis of fewer than two different values, more than 80 frames, or more than 1.5 MB of page.
    """
    names = list(axes)
    values, texts = check_axes(axes)
    check_names("labels", labels, names)
    check_names("start", start, names)
    titles = [(labels or {}).get(name, name) for name in names]
    first = tuple(first_position(name, axis, start) for name, axis in zip(names, values, strict=True))
    static = static_book()
    grid = list(itertools.product(*(range(len(axis)) for axis in values))) if static else [first]

    def at(positions):
        return {name: axis[k] for name, axis, k in zip(names, values, positions, strict=True)}

    def alt_at(positions):
        if callable(alt):
            return check_alt(alt(**at(positions)))
        shown = (f"{title} = {text[k]}" for title, text, k in zip(titles, texts, positions, strict=True))
        return f"{check_alt(alt)} ({', '.join(shown)})"

    fig = make(fn, at(first))
    pixels(fig)  # runs the layout once; all frames keep its places, so that only the content moves
    places = [ax.get_position() for ax in fig.axes]
    size = page_size(fig)
    quality = sharpest(fig, len(grid))
    plt.close(fig)

    def frame(positions):
        return render(fn, at(positions), places, quality)

    frames = [frame(positions) for positions in grid]
    alts = [alt_at(positions) for positions in grid]
    shown = grid.index(first)
    if static:
        page = sliders_page(frames, alts, shown, titles, texts, first, size)
        check_weight(page, len(frames))
    else:
        page = framed("explore", img(data_uri(frames[shown]), alts[shown], *size))
    twin = sliders_widget(frame, alt_at, frames[shown], titles, texts, first, size[0])
    display(Shown(page, f"[sliders: {alts[shown]}]", widget=twin))


# The axes


def check_axes(axes):
    """{name: values} -> (plain Python values, their texts), one list an axis."""
    if not axes:
        raise ValueError("explore needs at least one axis, for example alpha=[0.1, 0.2, 0.5]")
    values = [[v.item() if isinstance(v, np.generic) else v for v in axis] for axis in axes.values()]
    for name, axis in zip(axes, values, strict=True):
        if len(axis) < 2:
            raise ValueError(f"explore: axis {name!r} has {len(axis)} value(s), a slider needs at least two")
    count = math.prod(len(axis) for axis in values)
    if count > MAX_FRAMES:
        sizes = " x ".join(f"{len(axis)} ({name})" for name, axis in zip(axes, values, strict=True))
        raise ValueError(f"explore: {sizes} = {count} frames, the limit is {MAX_FRAMES}")
    return values, [axis_texts(name, axis) for name, axis in zip(axes, values, strict=True)]


def axis_texts(name, axis):
    """One text a value, with the fewest digits that tell all values of the axis apart."""
    for digits in (3, 4, 6, 9, 17):
        texts = [value_text(v, digits) for v in axis]
        if len(set(texts)) == len(texts):
            return texts
    raise ValueError(f"explore: axis {name!r} has the same value twice")


def value_text(value, digits):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        number = f"{value:.{digits}g}" if isinstance(value, float) else f"{value:,}"
        return number.replace("-", "−")  # a hyphen is easily lost on a projector
    return str(value)


def check_names(what, given, names):
    unknown = [name for name in given or () if name not in names]
    if unknown:
        raise ValueError(f"explore: {what} names {unknown[0]!r}, but the axes are {', '.join(names)}")


def first_position(name, axis, start):
    """Position of the value shown first: the one asked for, else the middle."""
    if not start or name not in start:
        return len(axis) // 2
    for k, value in enumerate(axis):
        if value == start[name] or (isinstance(value, float) and math.isclose(value, start[name])):
            return k
    raise ValueError(f"explore: start asks for {name} = {start[name]!r}, which is not a value of that axis")


# The frames


def make(fn, values):
    fig = fn(**values)
    if not isinstance(fig, Figure):
        raise TypeError(f"explore: the function must return a matplotlib Figure, got {type(fig).__name__}")
    return fig


def render(fn, values, places, quality):
    """One frame as WebP. Panels stay where the first frame had them: nothing jumps, and no layout is computed again."""
    fig = make(fn, values)
    if len(fig.axes) == len(places):
        fig.set_layout_engine("none")
        for ax, place in zip(fig.axes, places, strict=True):
            ax.set_position(place)
    data = encode(fig, quality)
    plt.close(fig)
    return data


def sharpest(fig, count):
    """The best quality at which `count` frames like this one stay within the aim, else the lowest."""
    for quality in QUALITIES[:-1]:
        if count * len(data_uri(encode(fig, quality))) <= AIM_BYTES:
            return quality
    return QUALITIES[-1]


def encode(fig, quality):
    dpi, colours = quality
    return webp(pixels(fig, dpi), colours)


def check_weight(page, count):
    if len(page) > MAX_BYTES:
        raise ValueError(
            f"explore: {count} frames make {len(page) / 1e6:.2f} MB of page, the limit is {MAX_BYTES / 1e6} MB; "
            "take fewer values or a plainer figure"
        )


# The two faces


def strides_of(counts):
    """How many frames one step along each axis skips: (4, 3, 2) -> [6, 2, 1]."""
    return [math.prod(counts[axis + 1 :]) for axis in range(len(counts))]


def sliders_page(frames, alts, shown, titles, texts, first, size):
    """The static face: one <img>, one range input an axis, all frames in the script. Works from a file, offline."""
    uris = [data_uri(data) for data in frames]
    digest = hashlib.sha256("".join(uris + titles).encode()).hexdigest()[:6]
    uid = f"explore-{next(_numbers)}-{digest}"  # the digest tells apart the notebooks open in one JupyterLab page
    rows = "".join(slider_row(f"{uid}-{k}", *row) for k, row in enumerate(zip(titles, texts, first, strict=True)))
    data = {"id": uid, "frames": uris, "alts": alts, "strides": strides_of([len(t) for t in texts]), "texts": texts}
    script = SCRIPT.replace("DATA", json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"))
    name = html.escape("Sliders: " + ", ".join(titles))
    content = f'{STYLE}{img(uris[shown], alts[shown], *size)}<div class="minirl-sliders">{rows}</div>'
    without = "<noscript>The sliders need scripts. The picture belongs to the values beside them.</noscript>"
    return framed("explore", content + without, f'id="{uid}" role="group" aria-label="{name}"') + script


def slider_row(uid, title, texts, position):
    # Disabled until the script runs, so that nobody moves a slider that does nothing.
    return (
        f'<label for="{uid}">{html.escape(title)}</label>'
        f'<input type="range" id="{uid}" min="0" max="{len(texts) - 1}" step="1" value="{position}" '
        f'aria-valuetext="{html.escape(texts[position])}" autocomplete="off" disabled>'
        f'<output for="{uid}">{html.escape(texts[position])}</output>'
    )


def sliders_widget(frame, alt_at, data, titles, texts, first, width):
    """The live face: ipywidgets sliders over one picture whose bytes are replaced in place, without a flicker."""
    picture = ipywidgets.Image(value=data, format="webp", layout={"width": f"{width:.0f}px", "max_width": "100%"})
    spoken = ipywidgets.HTML(spoken_text(alt_at(first)))
    wide = {"width": "min(100%, 40rem)"}
    sliders = [
        ipywidgets.SelectionSlider(
            options=[(text, k) for k, text in enumerate(axis)],
            value=position,
            description=title,
            style={"description_width": "12rem"},
            layout=wide,
        )
        for title, axis, position in zip(titles, texts, first, strict=True)
    ]

    def redraw(change):
        positions = tuple(slider.value for slider in sliders)
        picture.value = frame(positions)
        spoken.value = spoken_text(alt_at(positions))

    for slider in sliders:
        slider.observe(redraw, names="value")
    return ipywidgets.VBox([picture, *sliders, spoken], layout={"padding": "8px"})


def spoken_text(alt):
    """The alt text for a screen reader only: ipywidgets' picture has none of its own."""
    hidden = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)"
    return f'<span role="status" style="{hidden}">{html.escape(alt)}</span>'
