"""The palette and the alt texts."""

import base64
import io
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from minirl.book import plots, show

# Linear RGB as seen with a full deficiency of one kind of cone: Machado, Oliveira and Fernandes 2009, severity 1.0.
SEEN_BY = {
    "everyone else": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour):
    """ "#rrggbb" -> linear RGB (3,), sRGB standard."""
    c = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """Contrast ratio of WCAG 2.1, 1 to 21."""
    low, high = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    """Linear RGB (3,) -> CIE L*a*b* (3,), in which a distance of 10 is plain to see."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    f = [np.cbrt(t) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz / [0.9505, 1, 1.089]]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # WCAG's own example of a grey that passes


def test_lines_stand_out_from_white():
    assert all(contrast(colour, "#ffffff") >= 3 for colour in plots.PALETTE)


@pytest.mark.parametrize("eyes", SEEN_BY)
def test_colours_differ_for_all_eyes(eyes):
    seen = {colour: lab(np.array(SEEN_BY[eyes]) @ linear(colour)) for colour in plots.PALETTE}
    nearest = min(np.linalg.norm(seen[a] - seen[b]) for a, b in combinations(plots.PALETTE, 2))
    assert nearest > 15, f"two colours look alike: distance {nearest:.1f}"


def test_series_differ_in_line_style_too():
    n = len(plots.PALETTE)
    assert len({str(plots.series(i)["linestyle"]) for i in range(n)}) == n
    assert len({str(plots.series(i)) for i in range(n * n)}) == n * n


def test_text_of_pages_and_sources_is_legible():
    inks = [plots.INK, plots.MUTED, plots.ACCENT]
    inks += [f"#{token['color']}" for _, token in show.__globals__["Light"] if token["color"]]
    assert len(inks) > 10
    assert all(contrast(ink, "#ffffff") >= 4.5 for ink in inks)


def test_type_is_never_below_nine_points():
    sizes = [plt.rcParams[key] for key in ("font.size", "legend.fontsize", "xtick.labelsize", "ytick.labelsize")]
    assert min(sizes) >= 9


@pytest.mark.parametrize("alt", [None, "", "A figure.", "loss_over_time_of_the_training_run"])
def test_figure_without_a_sentence_is_refused(alt):
    with pytest.raises(ValueError, match="alt must say in a sentence"):
        plots.figure(plt.figure(), alt)
    plt.close("all")


def test_figure_shows_what_was_drawn():
    """The encoded picture differs from the drawn one by no more than an eye would miss, and the figure is closed."""
    fig, ax = plt.subplots()
    for i in range(3):
        ax.plot([0, 1], [i, 3 - i], **plots.series(i))
    drawn = np.asarray(plots.pixels(fig), int)
    bundle = plots.figure(fig, 'Three lines that cross, "quoted".')._repr_mimebundle_()
    assert not plt.fignum_exists(fig.number)
    assert 'alt="Three lines that cross, &quot;quoted&quot;."' in bundle["text/html"]
    encoded = bundle["text/html"].split("base64,")[1].split('"')[0]
    for data in (encoded, bundle["image/png"]):
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), int)
        assert shown.shape == drawn.shape
        assert np.abs(shown - drawn).max() <= 24


def test_maps_have_no_grid():
    fig, (left, right) = plt.subplots(1, 2)
    left.plot([0, 1])
    right.imshow(np.eye(3))
    plots.pixels(fig, 50)
    assert left.xaxis.get_gridlines()[0].get_visible()
    assert not right.xaxis.get_gridlines()[0].get_visible()
    plt.close(fig)
