"""`explore`: the grid, the static page and its script, the live twin."""

import base64
import io
import itertools
import re
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import pytest
from page_reader import Parsed, outside_requests, script_data
from PIL import Image

from minirl.book import explore as explore_function
from minirl.book import plots

explore_module = sys.modules[explore_function.__module__]


def bars(a, b, mode):
    """Every value is readable from the picture: the heights of three bars."""
    fig = plt.figure(figsize=(3, 2), layout="none")
    ax = fig.add_axes((0, 0, 1, 1))
    ax.axis("off")
    ax.bar([0, 1, 2], [a, b, 1 + len(mode)], color="black", width=1)
    ax.set(xlim=(-0.5, 2.5), ylim=(0, 10))
    return fig


AXES = {"a": [1, 2, 3, 4], "b": np.array([5.0, 7.5]), "mode": ["min", "mean", "random"]}


@pytest.fixture
def shown(monkeypatch):
    """Calls explore and returns what it displayed."""
    displayed = []
    monkeypatch.setattr(explore_module, "display", displayed.append)

    def call(fn, alt, static=True, **axes):
        monkeypatch.setenv("MINIRL_STATIC", "1" if static else "0")
        displayed.clear()
        assert explore_function(fn, alt, **axes) is None
        (out,) = displayed
        return out

    return call


def heights(uri):
    """Read the three bars back from a frame."""
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("L"))
    columns = picture[:, [int(picture.shape[1] * (k + 0.5) / 3) for k in range(3)]]
    return 10 * (columns < 128).mean(axis=0)


def test_every_slider_position_shows_its_frame(shown):
    """The index arithmetic of the script, done again in Python, against the values drawn in each frame."""
    page = shown(bars, "Three bars as high as a, b and the mode.", **AXES).page
    data = script_data(page)
    assert len(data["frames"]) == len(data["alts"]) == 4 * 2 * 3
    for at in itertools.product(range(4), range(2), range(3)):
        frame = sum(p * s for p, s in zip(at, data["strides"], strict=True))
        a, b, mode = (list(axis)[p] for axis, p in zip(AXES.values(), at, strict=True))
        np.testing.assert_allclose(heights(data["frames"][frame]), [a, b, 1 + len(mode)], atol=0.15)
        assert data["alts"][frame] == f"Three bars as high as a, b and the mode. (a = {a}, b = {b:g}, mode = {mode})"
        assert [data["texts"][axis][p] for axis, p in enumerate(at)] == [str(a), f"{b:g}", mode]


def test_page_is_complete_without_scripts_and_network(shown):
    page = shown(bars, "Three bars as high as a, b, mode.", labels={"a": "height <a>"}, start={"b": 5.0}, **AXES).page
    parsed, data = Parsed(page), script_data(page)
    ((picture, _),) = parsed.all("img")
    inputs, labels, outputs = (parsed.all(tag) for tag in ("input", "label", "output"))
    first = [int(attrs["value"]) for attrs, _ in inputs]
    assert first == [2, 0, 1]  # the middle, and the start asked for
    frame = sum(p * s for p, s in zip(first, data["strides"], strict=True))
    assert (picture["src"], picture["alt"]) == (data["frames"][frame], data["alts"][frame])
    ids = [attrs["id"] for attrs, _ in inputs]
    assert len(set(ids)) == 3
    assert [attrs["for"] for attrs, _ in labels] == ids == [attrs["for"] for attrs, _ in outputs]
    assert [text for _, text in labels] == ["height <a>", "b", "mode"]
    assert [text for _, text in outputs] == ["3", "5", "mean"] == [attrs["aria-valuetext"] for attrs, _ in inputs]
    assert [attrs["max"] for attrs, _ in inputs] == ["3", "1", "2"]
    assert {attrs["type"] for attrs, _ in inputs} == {"range"}
    assert all("disabled" in attrs for attrs, _ in inputs)  # until the script runs
    assert data["id"] in {attrs.get("id") for attrs, _ in parsed.all("div")}
    assert not outside_requests(page)


def test_two_explorers_share_a_page_and_builds_repeat(shown, monkeypatch):
    def build():
        monkeypatch.setattr(explore_module, "_numbers", itertools.count(1))
        return [shown(bars, "Three bars as high as they are.", **AXES).page for _ in range(2)]

    first, again = build(), build()
    assert first == again
    assert not set(re.findall(r'id="([^"]+)"', first[0])) & set(re.findall(r'id="([^"]+)"', first[1]))


def test_alt_may_be_a_function(shown):
    page = shown(bars, lambda a, b, mode: f"Bars: {a} and {b} in {mode} mode.", **AXES).page
    assert script_data(page)["alts"][0] == "Bars: 1 and 5.0 in min mode."
    with pytest.raises(ValueError, match="alt must say"):
        shown(bars, lambda a, b, mode: "bars", **AXES)


def test_without_the_build_only_one_frame_is_rendered(shown):
    calls = []

    def counted(**values):
        calls.append(values)
        return bars(**values)

    page = shown(counted, "Three bars as high as they are.", static=False, **AXES).page
    assert len(calls) <= 2  # one for the layout
    assert len(Parsed(page).all("img")) == 1
    assert "<script" not in page


def test_live_sliders_call_the_function(shown):
    """The ipywidgets twin: moving a slider replaces the bytes of the one picture by the frame of these values."""
    out = shown(bars, "Three bars as high as a, b and mode.", static=False, **AXES)
    picture, a, b, mode, spoken = out.widget.children
    uri = plots.data_uri(picture.value)
    np.testing.assert_allclose(heights(uri), [3, 7.5, 5], atol=0.15)
    a.value, b.value, mode.value = 0, 0, 2
    np.testing.assert_allclose(heights(plots.data_uri(picture.value)), [1, 5, 7], atol=0.15)
    assert "a = 1, b = 5, mode = random" in spoken.value
    assert a.label == "1"
    bundle = out._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == out.widget.model_id
    assert "text/html" in bundle


def test_panels_stay_in_place(shown):
    """Tick labels of another width would shift the panel under a layout of its own; the left spine must not move."""

    def wide(scale):
        fig, ax = plt.subplots(figsize=(4, 2.5))
        ax.plot([0, 1], [0, scale], color="white")
        ax.grid(False)
        return fig

    def spine(uri):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("L"))
        return int(np.argmax((picture < 100).sum(axis=0) > picture.shape[0] / 2))

    frames = script_data(shown(wide, "One invisible line in a panel.", scale=[1, 1000, 1000000]).page)["frames"]
    assert len({spine(uri) for uri in frames}) == 1


def test_no_figure_is_left_open(shown):
    before = plt.get_fignums()
    shown(bars, "Three bars as high as they are.", **AXES)
    assert plt.get_fignums() == before


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({}, "at least one axis"),
        ({"a": [1]}, "'a' has 1 value"),
        ({"a": range(9), "b": range(9)}, r"9 \(a\) x 9 \(b\) = 81 frames, the limit is 80"),
        ({"a": [1.0, 1.0]}, "same value twice"),
        ({"a": [1, 2], "labels": {"c": "speed"}}, "labels names 'c', but the axes are a"),
        ({"a": [1, 2], "start": {"a": 3}}, "a = 3, which is not a value"),
    ],
)
def test_bad_axes_are_named(shown, axes, message):
    with pytest.raises(ValueError, match=message):
        shown(lambda a, b=1: bars(a, b, ""), "Three bars as high as they are.", **axes)


def test_other_results_than_figures_are_refused(shown):
    with pytest.raises(TypeError, match="must return a matplotlib Figure, got int"):
        shown(lambda a: a, "Three bars as high as they are.", a=[1, 2])


def test_texts_tell_values_apart():
    texts = explore_module.axis_texts
    assert texts("x", [0.1 * 3, 1 / 3]) == ["0.3", "0.333"]
    assert texts("x", [1.0001, 1.0002]) == ["1.0001", "1.0002"]
    assert texts("x", [-1.0, 1000, True, "ε"]) == ["−1", "1,000", "yes", "ε"]


def noise(k):
    """Incompressible: the heaviest frame there can be."""
    fig, ax = plt.subplots(layout="none")
    ax.imshow(np.random.default_rng(k).random((400, 800)), aspect="auto", interpolation="none")
    return fig


def test_heavy_pages_are_refused(shown):
    with pytest.raises(ValueError, match=r"12 frames make \d+\.\d\d MB of page, the limit is 1\.5 MB"):
        shown(noise, "Grey noise in a wide panel.", k=range(12))


def curve(a):
    fig, axes = plt.subplots(1, 2)
    x = np.linspace(0, 1, 200)
    for i, ax in enumerate(axes):
        ax.plot(x, np.sin(a * x), label="sine", **plots.series(i))
        ax.plot(x, np.cos(a * x), label="cosine", **plots.series(i + 1))
        ax.set(xlabel="time (s)", ylabel="angle (rad)", ylim=(-1, 1))
        ax.legend()
    return fig


@pytest.mark.parametrize(("count", "dpi", "limit"), [(10, 192, 600_000), (40, 112, 600_000), (80, 112, 1_250_000)])
def test_two_panels_of_curves_fit(count, dpi, limit):
    """A usual figure is sharp in a small grid, and even the largest grid of them is within the limit of a page."""
    fig = curve(5)
    quality = explore_module.sharpest(fig, count)
    assert quality[0] == dpi
    assert count * len(plots.data_uri(explore_module.encode(fig, quality))) < limit
    plt.close(fig)


def test_a_frame_costs_little_more_than_its_drawing():
    """Our share of a frame (layout, encoding) against the function's own (making and drawing it), in processor time."""

    def seconds(work):
        start = time.process_time()
        work()
        return time.process_time() - start

    def bare():
        fig = curve(3)
        plots.pixels(fig, 112)
        plt.close(fig)

    fig = curve(1)
    plots.pixels(fig)
    places = [ax.get_position() for ax in fig.axes]
    plt.close(fig)
    both = [
        (seconds(bare), seconds(lambda: explore_module.render(curve, {"a": 3}, places, (112, 255)))) for _ in range(4)
    ]
    assert min(ours for _, ours in both) < 1.1 * min(theirs for theirs, _ in both)
