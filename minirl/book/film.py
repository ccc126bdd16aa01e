"""`film`: a short silent animation in the page, paused until its button is pressed."""

import hashlib
import html
import io
import itertools
import os

import numpy as np
from PIL import Image

from minirl.book.plots import Shown, check_alt, data_uri, framed, img

os.environ.setdefault(
    "SDL_VIDEODRIVER", "dummy"
)  # environments draw with SDL: off screen, and silent about having none

MAX_BYTES = 1_000_000  # of page, poster and animation together
TINY = 200  # frames narrower than this are magnified by a whole number, with sharp pixels
WIDTH = 560  # in the page; wider frames keep their size
# (scale, every n-th frame, quality), from the best to the smallest
LADDER = ((1, 1, 80), (1, 1, 50), (1, 2, 50), (0.75, 2, 50), (0.5, 2, 50), (0.5, 3, 35), (0.33, 4, 30))

_numbers = itertools.count(1)

STYLE = """<style>
.minirl-play{margin-top:.6rem;min-width:6.5rem;min-height:36px;padding:.3rem .9rem;font:inherit;font-weight:600;
color:#fff;background:#00598c;border:0;border-radius:6px;cursor:pointer}
.minirl-play:focus-visible{outline:3px solid #d55e00;outline-offset:3px}
</style>"""

SCRIPT = """<script>
(function () {
  const root = document.getElementById("UID"), picture = root.querySelector("img");
  const button = root.querySelector("button"), poster = picture.src, film = "FILM";
  let playing = false;
  button.hidden = false;
  button.addEventListener("click", function () {
    playing = !playing;
    picture.src = playing ? film : poster;
    button.textContent = playing ? "■ Stop" : "▶ Play";
  });
})();
</script>"""


def film(frames, alt, fps=30):
    """Show frames as an animation with a Play/Stop button; make it the last line of a cell.

    frames  list or iterable of arrays (H, W, 3), uint8, all of one size, at least two
    alt     a sentence that says what happens in it
    fps     frames per second, 1 to 50 (browsers slow down anything faster)

    Nothing moves until the reader presses the button: some are made ill by motion, and nobody can read beside it.
    The page weighs at most 1 MB: longer films lose quality, then frames, then size. ValueError when that is not enough.
    """
    alt = check_alt(alt)
    if not 1 <= fps <= 50:
        raise ValueError(f"film: fps must lie in 1..50, got {fps}")
    pictures = check_frames(frames)
    for scale, stride, quality in LADDER:
        poster = encode(pictures[:1], scale, quality, 1000)
        animation = encode(pictures[::stride], scale, quality, round(1000 * stride / fps))
        page = film_page(data_uri(poster), data_uri(animation), alt, pictures[0].size)
        if len(page) <= MAX_BYTES:
            seconds = len(pictures) / fps
            return Shown(page, f"[film of {seconds:.1f} s: {alt}]")
    raise ValueError(
        f"film: {len(pictures)} frames of {pictures[0].width} x {pictures[0].height} pixels do not fit into "
        f"{MAX_BYTES / 1e6:g} MB; record fewer or smaller frames"
    )


def check_frames(frames):
    """Arrays -> PIL images. ValueError names the first frame that does not belong."""
    arrays = [np.asarray(frame) for frame in frames]
    if len(arrays) < 2:
        raise ValueError(f"film: needs at least two frames, got {len(arrays)}")
    for k, array in enumerate(arrays):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise ValueError(f"film: frame {k} must be (H, W, 3) uint8, got {array.shape} {array.dtype}")
        if array.shape != arrays[0].shape:
            raise ValueError(f"film: frame {k} is {array.shape}, frame 0 is {arrays[0].shape}")
    return [Image.fromarray(array) for array in arrays]


def encode(pictures, scale, quality, duration):
    """PIL images -> bytes of an (animated) WebP; duration in ms a frame."""
    if scale != 1:
        size = [max(1, round(side * scale)) for side in pictures[0].size]
        pictures = [picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures]
    out = io.BytesIO()
    pictures[0].save(
        out, "webp", save_all=True, append_images=pictures[1:], duration=duration, loop=0, quality=quality, method=2
    )
    return out.getvalue()


def film_page(poster, animation, alt, size):
    """One <img> whose source the button exchanges. HTML cannot halt an animated image, but it can put it away."""
    width, height = size
    grow = WIDTH // width if width < TINY else max(1, WIDTH / width)
    sharp = "image-rendering:pixelated" if width < TINY else ""
    name = html.escape("Film: " + alt)
    digest = hashlib.sha256(animation.encode()).hexdigest()[:6]
    uid = f"film-{next(_numbers)}-{digest}"
    script = SCRIPT.replace("UID", uid).replace("FILM", animation)
    button = '<button type="button" class="minirl-play" hidden>▶ Play</button>'
    content = STYLE + img(poster, alt, width * grow, height * grow, sharp) + button
    return framed("film", content, f'id="{uid}" role="group" aria-label="{name}"') + script
