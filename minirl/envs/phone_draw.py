"""How PhoneSim looks: a flat picture of 160x240 points, and the 40x60 pixels that an agent gets of it.

Rectangles are slices of an array and texts are masks drawn once by Pillow, so that a frame takes well below a millisecond;
the small frames are kept by what they show. Nothing here knows a goal.
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from minirl.envs.phone import APPS, HEIGHT, HOURS, ITEMS, NAMES, WIDTH, WORDS, X_EDGES, Y_EDGES, Screen, Widget


def rgb(r: int, g: int, b: int) -> int:
    """A colour as one number of 32 bits: filling is then a plain assignment."""
    return r | g << 8 | b << 16 | 255 << 24


THEMES = [  # background, surface, ink, accent
    [rgb(238, 240, 244), rgb(255, 255, 255), rgb(32, 36, 44), rgb(40, 96, 200)],
    [rgb(244, 236, 224), rgb(255, 250, 240), rgb(60, 44, 30), rgb(176, 84, 24)],
    [rgb(226, 240, 230), rgb(246, 255, 248), rgb(24, 52, 36), rgb(20, 124, 84)],
    [rgb(240, 228, 240), rgb(255, 246, 255), rgb(56, 28, 60), rgb(136, 52, 152)],
]
DARK = [rgb(22, 24, 28), rgb(48, 52, 58), rgb(230, 230, 236)]  # the first three in dark mode
RED, GREEN, GREY, WHITE, BLACK = (
    rgb(*c) for c in ((206, 44, 44), (40, 180, 80), (176, 180, 188), (255, 255, 255), (16, 18, 24))
)
_FACES = [
    *[(214, 40, 40), (247, 127, 0), (240, 200, 20), (90, 170, 40), (0, 150, 136), (0, 180, 230)],
    *[(40, 80, 200), (120, 60, 190), (220, 60, 160), (120, 80, 50), (110, 120, 130), (20, 24, 30)],
]
PEOPLE = [rgb(*c) for c in _FACES]
LETTERS = [BLACK if sum(c) > 380 else WHITE for c in _FACES]
APP_COLOURS = [
    *[rgb(110, 118, 128), rgb(240, 140, 30), rgb(40, 120, 220), rgb(30, 34, 46)],
    *[rgb(30, 160, 90), rgb(150, 60, 170), rgb(220, 50, 90), rgb(130, 190, 60)],
]
ITEM_COLOURS = [
    *[rgb(250, 210, 60), rgb(70, 150, 210), rgb(170, 70, 50)],
    *[rgb(50, 60, 70), rgb(240, 110, 60), rgb(120, 180, 110)],
]
POPUP_COLOURS = [rgb(255, 214, 90), rgb(120, 200, 250), rgb(250, 120, 170), rgb(230, 90, 80)]
BAR_COLOUR, OFF, FAINT, YELLOW = rgb(60, 64, 72), rgb(28, 30, 34), rgb(150, 140, 70), rgb(255, 235, 90)
SWITCHES = [rgb(70, 200, 255), rgb(80, 120, 255), rgb(255, 170, 40), rgb(250, 250, 250)]
GLYPHS = np.array(  # 5x5, one for each app
    [
        [int(bit) for bit in row]
        for row in (
            "0111011011100011101101110",
            "0111001110001001111111111",
            "1111111011101011000111111",
            "0111010101101111000101110",
            "0101011111111111111101110",
            "0010011111110111111100000",
            "0011100101001001110011000",
            "0010001110111110111000100",
        )
    ],
    bool,
).reshape(8, 5, 5)


@lru_cache(maxsize=2_000)
def text_mask(text: str, size: int) -> np.ndarray:
    """(h, w) bool: where the ink of a text goes."""
    font = ImageFont.load_default(size=size)
    left, top, right, bottom = (int(v) for v in font.getbbox(text))
    image = Image.new("L", (right - left + size // 2, bottom - top + 1))
    draw = ImageDraw.Draw(image)
    draw.fontmode = "1"
    draw.text((-left, -top), text, fill=255, font=font)
    return np.asarray(image) > 0


def write(canvas: np.ndarray, x: int, y: int, text: str, colour: int, size: int = 9) -> None:
    """Text with its upper left corner at (x, y); what would leave the canvas is cut off."""
    if text:
        mask = text_mask(text, size)[: HEIGHT - y, : WIDTH - x]
        canvas[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = colour


def avatar(canvas: np.ndarray, x: int, y: int, size: int, person: int) -> None:
    """A coloured block with the first letter of a name."""
    canvas[y : y + size, x : x + size] = PEOPLE[person]
    write(canvas, x + size // 4, y + size // 5, NAMES[person][0].upper(), LETTERS[person], size * 3 // 4)


def glyph(canvas: np.ndarray, x: int, y: int, dot: int, app: int) -> None:
    """The 5x5 picture of an app, dots of `dot` points."""
    mask = GLYPHS[app].repeat(dot, 0).repeat(dot, 1)
    canvas[y : y + 5 * dot, x : x + 5 * dot][mask] = WHITE


def word_block(canvas: np.ndarray, x: int, y: int, w: int, h: int, word: int) -> None:
    """The picture beside a word: a face, a thing, or stripes for a phrase."""
    text = WORDS[word]
    if text in NAMES:
        canvas[y : y + h, x : x + w] = PEOPLE[NAMES.index(text)]
    elif text in ITEMS:
        canvas[y : y + h, x : x + w] = ITEM_COLOURS[ITEMS.index(text)]
        canvas[y + h - 4 : y + h, x : x + w] = BLACK
    elif text:
        canvas[y : y + h, x : x + w] = (GREEN, RED, POPUP_COLOURS[1])[("hi", "late", "ok").index(text)]
        canvas[y : y + h, x : x + 4] = WHITE


def paint(screen: Screen, status: tuple) -> np.ndarray:
    """The picture for people, (240, 160, 3) uint8, of a screen under a status bar (`phone.status`)."""
    return _canvas(screen, status).view(np.uint8).reshape(HEIGHT, WIDTH, 4)[:, :, :3].copy()


def _canvas(screen: Screen, status: tuple) -> np.ndarray:
    background, surface, ink, accent = THEMES[screen.theme]
    if screen.dark:
        background, surface, ink = DARK
    canvas = np.full((HEIGHT, WIDTH), background, np.uint32)
    under = [w for w in screen.widgets if not (screen.popup and _of_popup(w))]
    for w in under:
        _widget(canvas, w, surface, ink, accent)
    if screen.popup:
        canvas[28:] = (canvas[28:] >> 1 & 0x7F7F7F7F) + 0x20202020  # dimmed
        for w in screen.widgets[len(under) :]:
            _widget(canvas, w, THEMES[screen.theme][1], THEMES[screen.theme][2], accent)
    _bar(canvas, status)
    return canvas


def _of_popup(w: Widget) -> bool:
    return (w.kind == "panel" and w.state < 3) or (w.op is not None and w.op[0] in ("dismiss", "accept"))


def _bar(canvas: np.ndarray, status: tuple) -> None:
    """The bar on top: switches, alarms and their hours, the cart, and the last act that cannot be undone."""
    toggles, alarms, hours, cart, event = status
    canvas[:28] = BAR_COLOUR
    for i in range(4):
        canvas[2:12, 4 + 12 * i : 12 + 12 * i] = SWITCHES[i] if toggles >> i & 1 else OFF
    for k in range(2):
        canvas[2:12, 56 + 12 * k : 64 + 12 * k] = YELLOW if alarms >> k & 1 else OFF
        length = 4 * (hours[k] - HOURS[0] + 1)
        canvas[16:24, 4 + 24 * k : 4 + 24 * k + length] = YELLOW if alarms >> k & 1 else FAINT
    for i in range(len(ITEMS)):
        if cart >> i & 1:
            canvas[16:24, 56 + 8 * i : 64 + 8 * i] = ITEM_COLOURS[i]
    if event:
        kind, who, word = event
        kinds = ("call", "message", "forward", "reply", "delete contact", "delete mail", "buy")
        canvas[2:12, 108:116] = APP_COLOURS[kinds.index(kind)]
        canvas[2:24, 116:128] = ITEM_COLOURS[who] if kind == "buy" else PEOPLE[who]
        word_block(canvas, 132, 2, 12, 20, word)


def _widget(canvas: np.ndarray, w: Widget, surface: int, ink: int, accent: int) -> None:
    """One widget in its rectangle, two points inside its cells."""
    x0, y0, x1, y1 = X_EDGES[w.c0] + 2, Y_EDGES[w.r0] + 2, X_EDGES[w.c1] - 2, Y_EDGES[w.r1] - 2
    box = canvas[y0:y1, x0:x1]
    if w.kind == "icon":
        box[:] = APP_COLOURS[w.state]
        glyph(canvas, x0 + 12, y0 + 6, 4, w.state)
        write(canvas, x0 + 4, y1 - 14, APPS[w.state], WHITE)
    elif w.kind == "title":
        write(canvas, x0 + 2, y0 + 6, w.text, ink, 12)
    elif w.kind == "arrow":
        box[:] = accent
        middle = (y0 + y1) // 2
        for d in range(8):
            x = x0 + 6 + d if w.state == 0 else x1 - 7 - d
            canvas[middle - d : middle + d + 1, x : x + 2] = WHITE
    elif w.kind == "label":
        if w.state:
            canvas[y0 + 6 : y1 - 6, x0 + 2 : x0 + 2 + 4 * w.state] = accent
        write(canvas, x0 + 4 + 4 * w.state, y0 + 6, w.text, ink)
    elif w.kind == "toggle":
        box[4:-4] = GREEN if w.state else GREY
        knob = slice(-18, -2) if w.state else slice(2, 18)
        box[6:-6, knob] = WHITE
    elif w.kind == "row":
        box[:] = surface
        avatar(canvas, x0 + 2, y0 + 2, 20, w.state)
        write(canvas, x0 + 30, y0 + 7, w.text, ink)
    elif w.kind == "person":
        size = min(y1 - y0, 44)
        avatar(canvas, x0, y0, size, w.state)
        write(canvas, x0 + size + 6, y0 + size // 2 - 6, w.text, ink, 12)
    elif w.kind == "button":
        box[:] = (GREY, accent, RED)[w.state]
        write(canvas, x0 + 4, (y0 + y1) // 2 - 5, w.text, BLACK if w.state == 0 else WHITE)
    elif w.kind == "field":
        word, focus = divmod(w.state, 2)
        box[:] = accent if focus else GREY
        box[3:-3, 3:-3] = WHITE
        word_block(canvas, x0 + 6, y0 + 6, 16, y1 - y0 - 12, word)
        write(canvas, x0 + 26, y0 + 7, w.text, BLACK)
    elif w.kind == "keyboard":
        box[:] = GREY
        for row in range(3):
            for key in range(9):
                canvas[y0 + 4 + 15 * row : y0 + 15 + 15 * row, x0 + 4 + 17 * key : x0 + 16 + 17 * key] = WHITE
    elif w.kind == "hour":
        box[:] = surface
        for i in range(w.state - HOURS[0] + 1):
            canvas[y1 - 10 : y1 - 2, x0 + 4 + 12 * i : x0 + 12 + 12 * i] = accent
        write(canvas, x0 + 4, y0 + 2, w.text, ink, 9 if y1 - y0 < 30 else 30)
    elif w.kind == "item":
        box[:] = surface
        size = min(y1 - y0 - 4, 44)
        canvas[y0 + 2 : y0 + 2 + size, x0 + 4 : x0 + 4 + size] = ITEM_COLOURS[w.state]
        canvas[y0 + 2 : y0 + 2 + size // 3, x0 + 4 : x0 + 4 + size * (1 + w.state % 3) // 4] = BLACK
        write(canvas, x0 + size + 12, y0 + 7, w.text, ink)
    elif w.kind == "chip":
        word_block(canvas, x0 + 2, y0 + 2, 20, 20, w.state)
        write(canvas, x0 + 26, y0 + 6, w.text, ink)
    elif w.kind == "text":
        for row in range(y0 + 4, y1 - 4, 8):
            canvas[row : row + 2, x0 + 4 : x1 - 4] = GREY
    elif w.kind == "panel":
        box[:] = surface
        box[:24] = POPUP_COLOURS[w.state]
        write(canvas, x0 + 32, y0 + 6, w.text, BLACK, 12)
    elif w.kind == "close":
        box[4:-4, 4:-4] = BLACK
        write(canvas, x0 + 9, y0 + 5, "x", WHITE, 12)
    else:
        raise ValueError(f"there is no drawing for a widget of kind {w.kind!r}")


def shrink(picture: np.ndarray) -> np.ndarray:
    """(h, w, 3) -> (h / 4, w / 4, 3): means of boxes of 4x4 points."""
    return np.asarray(Image.fromarray(picture).reduce(4))


def _shrink(canvas: np.ndarray) -> np.ndarray:
    """The same from 32-bit numbers (h, w), which is faster."""
    h, w = canvas.shape
    small = np.asarray(Image.frombuffer("RGBX", (w, h), canvas, "raw", "RGBX", 0, 1).reduce(4))
    return small[:, :, :3].copy()


BAR = 28 // 4  # rows of pixels of the status bar


@lru_cache(maxsize=20_000)
def _small_bar(status: tuple) -> np.ndarray:
    canvas = np.zeros((28, WIDTH), np.uint32)
    _bar(canvas, status)
    return _shrink(canvas)


def pixels(screen: Screen, status: tuple) -> np.ndarray:
    """What an agent sees, (60, 40, 3) uint8, read-only: `shrink(paint(screen, status))` put together from parts kept."""
    if screen.small is None:
        screen.small = _shrink(_canvas(screen, (0, 0, (5, 5), 0, ())))[BAR:]
    small = np.concatenate((_small_bar(status), screen.small))
    small.flags.writeable = False
    return small
