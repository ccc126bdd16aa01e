"""`film`: order and timing of the frames, the poster, the weight."""

import base64
import io
import re
import sys

import numpy as np
import pytest
from page_reader import Parsed, outside_requests
from PIL import Image

from minirl.book import film

module = sys.modules[film.__module__]


def greys(n, height=60, width=240):
    """Frame k is uniformly grey, 10 k."""
    return [np.full((height, width, 3), 10 * k, np.uint8) for k in range(n)]


def decode(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def parts(shown):
    """(attributes of the img, poster, animation) of a film."""
    ((picture, _),) = Parsed(shown.page).all("img")
    return picture, decode(picture["src"]), decode(re.search(r'film = "([^"]+)"', shown.page).group(1))


def test_frames_come_in_order_at_their_pace():
    _, poster, animation = parts(film(iter(greys(12)), "A field that turns from black to grey.", fps=20))
    assert not getattr(poster, "is_animated", False)
    assert np.abs(np.asarray(poster.convert("L"), int)).max() <= 2
    assert animation.n_frames == 12
    for k in range(12):
        animation.seek(k)
        assert abs(np.asarray(animation.convert("L"), float).mean() - 10 * k) < 3
        assert animation.info["duration"] == 50


def test_it_stands_still_until_the_button_is_pressed():
    shown = film(greys(3), "A field that turns from black to grey.")
    parsed = Parsed(shown.page)
    ((button, text),) = parsed.all("button")
    assert button["type"] == "button"
    assert "hidden" in button  # until the script runs
    assert text == "▶ Play"
    assert parsed.all("img")[0][0]["alt"] == "A field that turns from black to grey."
    assert not outside_requests(shown.page)
    assert shown.text == "[film of 0.1 s: A field that turns from black to grey.]"


def test_small_worlds_are_magnified_by_whole_numbers():
    picture, poster, _ = parts(film(greys(2, 8, 16), "A tiny world that turns from black to grey."))
    assert poster.size == (16, 8)
    assert (int(picture["width"]), int(picture["height"])) == (560, 280)
    assert "image-rendering:pixelated" in picture["style"]


@pytest.mark.slow
def test_long_films_shrink_until_they_fit():
    """Coarse noise, the worst there is: it keeps its length in seconds and its size in the page."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (45, 60, 3), np.uint8).repeat(4, 0).repeat(4, 1) for _ in range(40)]
    shown = film(noise, "Noise that flickers in many colours.", fps=20)
    picture, _, animation = parts(shown)
    assert len(shown.page) <= 1_000_000
    assert int(picture["width"]) == 560
    seconds = 0
    for k in range(animation.n_frames):
        animation.seek(k)
        animation.load()
        seconds += animation.info["duration"] / 1000
    assert seconds == pytest.approx(2.0, abs=0.2)


def test_films_that_cannot_fit_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"3 frames of 240 x 60 pixels do not fit into 0\.001 MB"):
        film(greys(3), "A field that turns from black to grey.")


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (greys(1), "at least two frames, got 1"),
        ([np.zeros((4, 4, 3))] * 2, r"frame 0 must be \(H, W, 3\) uint8, got \(4, 4, 3\) float64"),
        ([np.zeros((4, 4), np.uint8)] * 2, r"frame 0 must be \(H, W, 3\) uint8"),
        ([*greys(2), *greys(1, 50)], r"frame 2 is \(50, 240, 3\), frame 0 is \(60, 240, 3\)"),
    ],
)
def test_frames_of_another_kind_are_named(frames, message):
    with pytest.raises(ValueError, match=message):
        film(frames, "A field that turns from black to grey.")


def test_pace_and_alt_are_checked():
    with pytest.raises(ValueError, match=r"fps must lie in 1\.\.50, got 60"):
        film(greys(2), "A field that turns from black to grey.", fps=60)
    with pytest.raises(ValueError, match="alt must say"):
        film(greys(2), "a film")
