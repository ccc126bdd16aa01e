"""PhoneSim: a small telephone that is seen as pixels and used by taps, for the chapters on computer-use agents.

A hidden state (`State`) and the arrangement of one episode (`Layout`) are drawn as a picture of 160x240 points, of which
an agent sees 40x60. It acts by tapping one of 6x9 cells, typing a word of its goal, pressing BACK, HOME or ENTER, or
declaring DONE. The reward is 1 at the end if a verifier finds the goal reached and nothing irreversible was done on the
way. Pop-ups cover a screen at random, and now and then a tap is lost.

The rules are pure functions of (goal, layout, state, action); `PhoneSim` adds the clock, the draws and the reward.
`minirl.envs.phone_draw` paints, `minirl.envs.phone_oracle` computes what is exact, `minirl.envs.phone_agents` has agents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import gymnasium as gym
import numpy as np

# ------------------------------------------------------------------------------------------------------- vocabulary

WIDTH, HEIGHT = 160, 240  # points of the picture for people
COLS, ROWS = 6, 9  # cells of the touch screen
PIXELS = (60, 40, 3)  # what an agent sees: rows, columns, colours
CELLS = COLS * ROWS
X_EDGES = (0, 28, 52, 80, 108, 132, 160)  # of the cells, in points, rounded to whole pixels of the small picture
Y_EDGES = (0, 28, 52, 80, 108, 132, 160, 188, 212, 240)
TYPE, BACK, HOME, ENTER, DONE = CELLS, CELLS + 3, CELLS + 4, CELLS + 5, CELLS + 6  # TYPE + k types slot k, k = 0, 1, 2
ACTIONS = CELLS + 7  # 61

NAMES = ("ann", "bob", "cai", "dee", "eva", "fay", "gus", "hal", "ivy", "jon", "kim", "leo")
PHRASES = ("hi", "late", "ok")
ITEMS = ("lamp", "mug", "book", "shoe", "ball", "sock")
WORDS = ("", *NAMES, *PHRASES, *ITEMS)  # what a text field can hold; word 0 is the empty field
WORD = {text: i for i, text in enumerate(WORDS)}
SETTINGS = ("wifi", "bluetooth", "airplane mode", "dark mode")
APPS = ("settings", "contacts", "mail", "clock", "shop", "camera", "music", "maps")
HOURS = range(5, 10)  # what the hour of an alarm can be
POPUPS = ("rating", "update", "ad")

SCREENS = (
    *("home 1", "home 2", "settings", "more settings", "contacts", "contact", "calling", "message", "delete contact"),
    *("inbox", "mail", "reply", "forward", "delete mail", "sent", "clock", "alarm"),
    *("shop", "results", "item", "cart", "bought", "camera", "music", "maps"),
)
ROOT = {"settings": "settings", "contacts": "contacts", "mail": "inbox", "clock": "clock", "shop": "shop"}
PARENT = {  # where BACK leads; screens that are missing here go back to the first home page
    **{"contact": "contacts", "calling": "contact", "message": "contact", "delete contact": "contact"},
    **{"mail": "inbox", "reply": "mail", "forward": "mail", "delete mail": "mail", "alarm": "clock"},
    **{"results": "shop", "item": "results", "cart": "shop", "bought": "shop", "more settings": "settings"},
}


class State(NamedTuple):
    """Everything about the phone that can change in an episode. Agents never see it."""

    screen: str = "home 1"
    subject: int = -1  # whom or what the screen is about: a person, a mail (0-4), an alarm or an item; -1 nothing
    word: int = 0  # index into WORDS of what stands in the text field, or of what was searched for
    focus: bool = False  # does the text field have the cursor?
    toggles: int = 0  # bit i: SETTINGS[i] is on
    alarms: int = 0  # bit k: alarm k is on
    hours: tuple[int, int] = (5, 5)
    cart: int = 0  # bit i: ITEMS[i] is in the cart
    contacts: int = 0b111111  # bit i: the i-th contact of the layout is still there
    mails: int = 0b11111  # bit i: the i-th mail of the layout is still there
    event: tuple = ()  # the last act that cannot be undone: (kind, person or item, word)
    popup: int = 0  # 0 none, else 1 + 2 * kind + order of its buttons
    ruined: bool = (
        False  # something irreversible was done that the goal did not ask for; nothing on the screen shows it
    )


@dataclass(frozen=True)
class Layout:
    """What is drawn anew for each episode and then stays."""

    icons: tuple[int, ...]  # app at each of the 8 places, 4 a page
    contacts: tuple[int, ...]  # 6 people
    mails: tuple[int, ...]  # senders of the 5 mails
    theme: int  # colours, 0-3: a nuisance
    shelf: int  # rotation of the 3 search results


# ------------------------------------------------------------------------------------------------------------ goals


@dataclass(frozen=True)
class Goal:
    """One task. `needs` and `event` are for the verifier; an agent is given `text` and `slots`."""

    id: int
    template: str
    text: str
    slots: tuple[str, ...]  # what TYPE can type, at most 3
    needs: tuple[tuple, ...] = ()  # ("toggle", i, on), ("alarm", k, on), ("hour", k, h), ("cart", i)
    event: tuple = ()  # the one irreversible act that is asked for
    split: str = "train"  # "train", "slots" (its words were held out) or "templates" (its kind was held out)


def _goals() -> tuple[Goal, ...]:
    rows: list[tuple] = []
    for i, name in enumerate(SETTINGS):
        for on in (True, False):
            rows.append(("toggle", f"turn {'on' if on else 'off'} {name}", (), (("toggle", i, on),), ()))
    for i, n in enumerate(NAMES):
        rows.append(("call", f"call {n}", (n,), (), ("call", i, 0)))
    for i, n in enumerate(NAMES):
        w = PHRASES[i % 3]
        rows.append(("message", f"message {n} saying {w}", (n, w), (), ("message", i, WORD[w])))
    for i in range(0, 12, 2):
        n = NAMES[i]
        rows.append(("delete contact", f"delete contact {n}", (n,), (), ("delete contact", i, 0)))
    for i in range(1, 12, 2):
        n = NAMES[i]
        rows.append(("delete mail", f"delete the mail from {n}", (n,), (), ("delete mail", i, 0)))
    for i in range(8):
        n, m = NAMES[i], NAMES[(i + 5) % 12]
        rows.append(("forward", f"forward the mail of {n} to {m}", (n, m), (), ("forward", i, WORD[m])))
    for k in range(2):
        rows.append(("alarm", f"set alarm {k + 1} on", (), (("alarm", k, True),), ()))
    for k in range(2):
        for h in (5, 7, 9):
            rows.append(("hour", f"set alarm {k + 1} to {h}", (), (("hour", k, h),), ()))
    for i, item in enumerate(ITEMS):
        rows.append(("cart", f"add {item} to the cart", (item,), (("cart", i),), ()))
    for k in range(2):
        needs = (("toggle", 3, True), ("alarm", k, True))
        rows.append(("both", f"turn on dark mode and set alarm {k + 1} on", (), needs, ()))
    held_out = {
        *("turn off bluetooth", "call ann", "call hal", "message eva saying late", "message jon saying hi"),
        *("delete the mail from fay", "forward the mail of cai to hal", "set alarm 2 to 7", "add book to the cart"),
    }
    return tuple(
        Goal(
            i, *row, "templates" if row[0] in ("delete contact", "both") else "slots" if row[1] in held_out else "train"
        )
        for i, row in enumerate(rows)
    )


GOALS = _goals()
SPLITS = {name: tuple(g.id for g in GOALS if g.split == name) for name in ("train", "slots", "templates")}


def satisfied(goal: Goal, state: State) -> bool:
    """The verifier: is the goal reached, with nothing irreversible done beside it?"""
    if state.ruined or state.event != goal.event:
        return False
    for kind, i, *value in goal.needs:
        if kind == "toggle" and bool(state.toggles >> i & 1) != value[0]:
            return False
        if kind == "alarm" and bool(state.alarms >> i & 1) != value[0]:
            return False
        if kind == "hour" and state.hours[i] != value[0]:
            return False
        if kind == "cart" and not state.cart >> i & 1:
            return False
    return True


def relevant(goal: Goal, state: State, base: State) -> State:
    """`state` with everything the goal does not depend on as it is in `base`: settings, alarms and cart items.

    Such things have no influence on anything else, so the projected states are an exact, smaller world.
    """
    if state[4:8] == base[4:8]:
        return state
    toggles, alarms, hours, cart = base.toggles, base.alarms, list(base.hours), base.cart
    for kind, i, *_ in goal.needs:
        if kind == "toggle":
            toggles = toggles & ~(1 << i) | state.toggles & 1 << i
        elif kind == "alarm":
            alarms = alarms & ~(1 << i) | state.alarms & 1 << i
        elif kind == "hour":
            hours[i] = state.hours[i]
        else:
            cart = cart & ~(1 << i) | state.cart & 1 << i
    return state._replace(toggles=toggles, alarms=alarms, hours=tuple(hours), cart=cart)


def sample_episode(goal: Goal, rng: np.random.Generator) -> tuple[Layout, State]:
    """Arrangement and first state of an episode: random, with whom the goal is about present and the goal unreached."""
    who = goal.event[1] if goal.event else 0
    contacts, mails = (_people(rng, n, who if goal.event else None) for n in (6, 5))
    layout = Layout(tuple(rng.permutation(8).tolist()), contacts, mails, int(rng.integers(4)), int(rng.integers(3)))
    toggles, alarms, hours = int(rng.integers(16)), int(rng.integers(4)), [int(h) for h in rng.integers(5, 10, size=2)]
    for kind, i, *value in goal.needs:
        if kind == "toggle":
            toggles = toggles & ~(1 << i) | (not value[0]) << i
        elif kind == "alarm":
            alarms &= ~(1 << i)
        elif kind == "hour":
            hours[i] = int(rng.choice([h for h in HOURS if h != value[0]]))
    return layout, State(toggles=toggles, alarms=alarms, hours=tuple(hours))


def _people(rng: np.random.Generator, n: int, must: int | None) -> tuple[int, ...]:
    """n different people in random order, among them `must`."""
    people = rng.permutation(12).tolist()
    chosen = people[:n]
    if must is not None and must not in chosen:
        chosen[int(rng.integers(n))] = must
    return tuple(chosen)


# ---------------------------------------------------------------------------------------------------------- screens


class Widget(NamedTuple):
    """One thing on the screen: covers the cells c0 <= column < c1, r0 <= row < r1."""

    kind: str
    text: str
    c0: int
    r0: int
    c1: int
    r1: int
    state: int = 0  # on/off, or which person, item or app is shown
    op: tuple | None = None  # what a tap does; None: nothing


class Screen:
    """What is drawn below the status bar, and what can be tapped."""

    __slots__ = ("dark", "hit", "popup", "small", "theme", "widgets")

    def __init__(self, widgets: tuple[Widget, ...], theme: int, dark: bool, popup: int):
        self.widgets, self.theme, self.dark, self.popup = widgets, theme, dark, popup
        self.hit: list[tuple | None] = [None] * CELLS  # the op at the centre of each of the 54 cells
        self.small: np.ndarray | None = None  # its pixels, once they have been drawn
        for w in widgets:
            if w.op:
                for r in range(w.r0, w.r1):
                    self.hit[r * COLS + w.c0 : r * COLS + w.c1] = [w.op] * (w.c1 - w.c0)


def status(state: State) -> tuple:
    """What the status bar shows, on every screen: settings, alarms, their hours, the cart, the last irreversible act."""
    return state.toggles, state.alarms, state.hours, state.cart, state.event


def view(layout: Layout, state: State) -> Screen:
    """The screen of a state, kept by what it shows, which is less than state and layout."""
    name = state.screen
    part: tuple = ()
    if name == "home 1":
        part = layout.icons[:4]
    elif name == "home 2":
        part = layout.icons[4:]
    elif name == "contacts":
        part = tuple(p for i, p in enumerate(layout.contacts) if state.contacts >> i & 1)
    elif name == "inbox":
        part = tuple((i, p) for i, p in enumerate(layout.mails) if state.mails >> i & 1)
    elif name in ("mail", "reply", "forward", "delete mail"):
        part = (layout.mails[state.subject],)
    elif name == "results":
        part = (layout.shelf,)
    elif name in ("settings", "more settings"):
        part = (state.toggles,)
    elif name in ("clock", "alarm"):
        part = (state.alarms, state.hours)
    elif name == "cart":
        part = (state.cart,)
    dark = bool(state.toggles >> 3 & 1)
    return _view(name, state.subject, state.word, state.focus, state.popup, part, layout.theme, dark)


@lru_cache(maxsize=20_000)  # about 10 kB each, once drawn
def _view(name: str, subject: int, word: int, focus: bool, popup: int, part: tuple, theme: int, dark: bool) -> Screen:
    widgets = list(_widgets(name, subject, word, focus, part))
    if not name.startswith("home"):
        widgets.insert(0, Widget("arrow", "back", 0, 1, 1, 2, 0, ("back",)))
    if popup:
        widgets = [w._replace(op=None) for w in widgets] + list(_popup_widgets(popup - 1))
    return Screen(tuple(widgets), theme, dark, popup)


def _popup_widgets(code: int):
    kind, order = POPUPS[code // 2], code % 2
    yield Widget("panel", kind, 0, 3, 6, 7, POPUPS.index(kind))
    if kind == "ad":  # a big button, and a tiny cross in one of two corners
        yield Widget("button", "best offer", 1, 4, 5, 6, 1, ("accept",))
        corner = 5 * order
        yield Widget("close", "x", corner, 3, corner + 1, 4, 0, ("dismiss",))
    else:
        places = ((0, 3), (3, 6)) if order == 0 else ((3, 6), (0, 3))
        texts = {"rating": ("later", "rate"), "update": ("not now", "update")}[kind]
        for text, (c0, c1), style, op in zip(texts, places, (0, 1), ("dismiss", "accept"), strict=True):
            yield Widget("button", text, c0, 5, c1, 6, style, (op,))


def _widgets(name: str, subject: int, word: int, focus: bool, part: tuple):
    """The widgets of a screen, in reading order. Button styles: 0 plain, 1 prominent, 2 dangerous."""
    if name.startswith("home"):
        for (c, r), app in zip(((0, 2), (4, 2), (0, 5), (4, 5)), part, strict=True):
            yield Widget("icon", APPS[app], c, r, c + 2, r + 2, app, ("go", ROOT.get(APPS[app], APPS[app]), -1))
        if name == "home 1":
            yield Widget("arrow", "next", 5, 8, 6, 9, 1, ("go", "home 2", -1))
        else:
            yield Widget("arrow", "previous", 0, 8, 1, 9, 0, ("go", "home 1", -1))
        return
    yield Widget("title", name, 1, 1, 6, 2)
    if name in ("settings", "more settings"):
        first = 0 if name == "settings" else 2
        for row, i in enumerate((first, first + 1)):
            yield Widget("label", SETTINGS[i], 0, 3 + 2 * row, 4, 4 + 2 * row, 1 + i)
            yield Widget("toggle", SETTINGS[i], 4, 3 + 2 * row, 6, 4 + 2 * row, part[0] >> i & 1, ("toggle", i))
        other, text = ("more settings", "scroll down") if first == 0 else ("settings", "scroll up")
        yield Widget("button", text, 2, 7, 4, 8, 0, ("go", other, -1))
    elif name == "contacts":
        for row, person in enumerate(part):
            yield Widget("row", NAMES[person], 0, 2 + row, 6, 3 + row, person, ("go", "contact", person))
    elif name == "contact":
        yield Widget("person", NAMES[subject], 1, 2, 5, 4, subject)
        yield Widget("button", "call", 0, 5, 2, 6, 1, ("call",))
        yield Widget("button", "message", 2, 5, 4, 6, 0, ("go", "message", subject))
        yield Widget("button", "delete", 4, 5, 6, 6, 2, ("go", "delete contact", subject))
    elif name == "calling":
        yield Widget("person", NAMES[subject], 1, 3, 5, 5, subject)
        yield Widget("button", "hang up", 2, 7, 4, 8, 2, ("go", "contact", subject))
    elif name in ("message", "reply", "forward"):
        person = subject if name == "message" else part[0]
        yield Widget("person", NAMES[person], 1, 2, 5, 3, person)
        yield Widget("field", WORDS[word], 0, 4, 6, 5, 2 * word + focus, ("focus",))
        yield Widget("button", "send", 4, 5, 6, 6, 1, ("send",))
        if focus:
            yield Widget("keyboard", "", 0, 7, 6, 9)
    elif name in ("delete contact", "delete mail"):
        person = subject if name == "delete contact" else part[0]
        yield Widget("person", NAMES[person], 1, 2, 5, 4, person)
        yield Widget("panel", "really delete?", 0, 4, 6, 7, 3)
        yield Widget("button", "cancel", 0, 5, 3, 6, 0, ("back",))
        yield Widget("button", "delete", 3, 5, 6, 6, 2, ("delete",))
    elif name == "inbox":
        for row, (i, person) in enumerate(part):
            yield Widget("row", f"mail from {NAMES[person]}", 0, 2 + row, 6, 3 + row, person, ("go", "mail", i))
    elif name == "mail":
        yield Widget("person", NAMES[part[0]], 1, 2, 5, 4, part[0])
        yield Widget("text", "", 0, 4, 6, 6)
        yield Widget("button", "reply", 0, 6, 2, 7, 0, ("go", "reply", subject))
        yield Widget("button", "forward", 2, 6, 4, 7, 1, ("go", "forward", subject))
        yield Widget("button", "delete", 4, 6, 6, 7, 2, ("go", "delete mail", subject))
    elif name == "sent":
        yield Widget("person", NAMES[subject], 1, 3, 5, 5, subject)
        yield Widget("label", "sent", 1, 5, 5, 6, 0)
    elif name == "clock":
        alarms, hours = part
        for k in range(2):
            row = 3 + 2 * k
            yield Widget("hour", f"alarm {k + 1}: {hours[k]}", 0, row, 4, row + 1, hours[k], ("go", "alarm", k))
            yield Widget("toggle", f"alarm {k + 1}", 4, row, 6, row + 1, alarms >> k & 1, ("alarm", k))
    elif name == "alarm":
        yield Widget("label", f"alarm {subject + 1}", 0, 2, 4, 3, 1 + subject)
        yield Widget("hour", str(part[1][subject]), 0, 3, 6, 5, part[1][subject])
        yield Widget("button", "-", 0, 5, 2, 6, 0, ("hour", subject, -1))
        yield Widget("button", "+", 4, 5, 6, 6, 1, ("hour", subject, 1))
    elif name == "shop":
        yield Widget("field", WORDS[word], 0, 2, 5, 3, 2 * word + focus, ("focus",))
        yield Widget("button", "go", 5, 2, 6, 3, 1, ("search",))
        yield Widget("text", "", 0, 4, 6, 6)
        if focus:
            yield Widget("keyboard", "", 0, 7, 6, 9)
    elif name == "results":
        yield Widget("chip", WORDS[word], 1, 2, 5, 3, word)
        if WORDS[word] in ITEMS:
            first = ITEMS.index(WORDS[word])
            for row in range(3):
                item = (first + (row + part[0]) % 3) % 6
                yield Widget("item", ITEMS[item], 0, 4 + row, 6, 5 + row, item, ("go", "item", item))
    elif name == "item":
        yield Widget("item", ITEMS[subject], 0, 2, 4, 4, subject)
        yield Widget("chip", WORDS[word], 4, 2, 6, 3, word)
        yield Widget("button", "add to cart", 0, 6, 3, 7, 0, ("add",))
        yield Widget("button", "buy now", 3, 6, 6, 7, 1, ("buy",))
    elif name == "cart":
        for row, item in enumerate(i for i in range(6) if part[0] >> i & 1):
            yield Widget("item", ITEMS[item], 0, 2 + row, 5, 3 + row, item)
    elif name == "bought":
        yield Widget("item", ITEMS[subject], 0, 3, 6, 5, subject)
        yield Widget("label", "ordered", 1, 5, 5, 6, 0)
    else:  # an app that does nothing here
        yield Widget("icon", name, 2, 3, 4, 5, APPS.index(name))


# ------------------------------------------------------------------------------------------------------ transitions


def transition(goal: Goal, layout: Layout, state: State, action: int) -> State:
    """The next state when no tap is lost and no pop-up comes. The same state means that nothing happened."""
    if action == DONE:
        return state
    if action < CELLS:
        op = view(layout, state).hit[action]
        return state if op is None else _apply(goal, layout, state, op)
    if state.popup:  # it takes taps only
        return state
    if action < BACK:
        k = action - TYPE
        return state._replace(word=WORD[goal.slots[k]]) if state.focus and k < len(goal.slots) else state
    if action == HOME:
        return _go(state, "home 1", -1)
    if action == ENTER:
        return _apply(goal, layout, state, ("search",)) if state.screen == "shop" else state
    return _apply(goal, layout, state, ("back",))


def _go(state: State, screen: str, subject: int) -> State:
    word = state.word if screen in ("results", "item") else 0
    return state._replace(screen=screen, subject=subject, word=word, focus=False)


def _apply(goal: Goal, layout: Layout, s: State, op: tuple) -> State:
    kind = op[0]
    if kind == "go":
        return _go(s, op[1], op[2])
    if kind == "back":
        parent = PARENT.get(s.screen, "home 1")
        return _go(s, parent, s.subject if parent in ("contact", "mail") else -1)
    if kind == "dismiss":
        return s._replace(popup=0)
    if kind == "accept":  # an update restarts the phone, the others lead into the shop
        target = "home 1" if POPUPS[(s.popup - 1) // 2] == "update" else "shop"
        return _go(s, target, -1)._replace(popup=0)
    if kind == "toggle":
        return s._replace(toggles=s.toggles ^ 1 << op[1])
    if kind == "alarm":
        return s._replace(alarms=s.alarms ^ 1 << op[1])
    if kind == "hour":
        hours = list(s.hours)
        hours[op[1]] = min(max(hours[op[1]] + op[2], HOURS[0]), HOURS[-1])
        return s._replace(hours=tuple(hours))
    if kind == "focus":
        return s._replace(focus=True)
    if kind == "search":
        return _go(s, "results", -1) if s.word else s
    if kind == "add":
        return _go(s, "cart", -1)._replace(cart=s.cart | 1 << s.subject)
    return _irreversible(goal, layout, s, kind)


def _irreversible(goal: Goal, layout: Layout, s: State, kind: str) -> State:
    """Calls, sends, deletions, purchases: the one that the goal asks for, or the end of all hope."""
    if kind == "call":
        event, after = ("call", s.subject, 0), _go(s, "calling", s.subject)
    elif kind == "buy":
        event, after = ("buy", s.subject, 0), _go(s, "bought", s.subject)
    elif kind == "delete" and s.screen == "delete contact":
        event = ("delete contact", s.subject, 0)
        after = _go(s, "contacts", -1)._replace(contacts=s.contacts & ~(1 << layout.contacts.index(s.subject)))
    elif kind == "delete":
        event = ("delete mail", layout.mails[s.subject], 0)
        after = _go(s, "inbox", -1)._replace(mails=s.mails & ~(1 << s.subject))
    else:  # send
        if not s.word or (s.screen == "forward" and WORDS[s.word] not in NAMES):
            return s  # an empty field, or no such address
        person = s.subject if s.screen == "message" else layout.mails[s.subject]
        event = (s.screen, person, s.word)
        after = _go(s, "sent", s.word - 1 if s.screen == "forward" else person)
    return after._replace(event=event, ruined=s.ruined or event != goal.event)


@dataclass(frozen=True)
class PhoneConfig:
    """The chances of the phone, and the length of an episode."""

    popup: float = 0.15  # chance that a pop-up covers a screen that is entered, in [0, 1)
    lag: float = 0.05  # chance that a tap is lost, in [0, 1)
    horizon: int = 12  # actions per episode, >= 1 (8 for the easy variant, 15 for the hard one)

    def __post_init__(self):
        for name in ("popup", "lag"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.horizon < 1:
            raise ValueError(f"horizon must be at least 1, got {self.horizon}")


def successors(goal: Goal, layout: Layout, state: State, action: int, config: PhoneConfig) -> list[tuple[float, State]]:
    """All (probability, next state) of an action, exactly. Equal states are merged."""
    after = transition(goal, layout, state, action)
    if after == state:
        return [(1.0, state)]
    arrive = 1 - config.lag if action < CELLS else 1.0
    found = [(1 - arrive, state)] if arrive < 1 else []
    if after.screen == state.screen or state.popup or not config.popup:
        return [*found, (arrive, after)]
    kinds = 2 * len(POPUPS)
    found.append((arrive * (1 - config.popup), after))
    return found + [(arrive * config.popup / kinds, after._replace(popup=code)) for code in range(1, kinds + 1)]


# ------------------------------------------------------------------------------------------------- actions as text

GRAMMAR = re.compile(r'(click)\(([0-9]{1,3}),([0-9]{1,3})\)|(type)\("([a-z]{1,10})"\)|(back|home|enter|done)\(\)')


def cell_centre(cell: int) -> tuple[int, int]:
    """Point (x, y) of the picture in the middle of a cell."""
    return int((cell % COLS + 0.5) * WIDTH / COLS), int((cell // COLS + 0.5) * HEIGHT / ROWS)


def format_action(action: int, slots: tuple[str, ...]) -> str:
    """The text form: click(x,y), type("ann"), back(), home(), enter(), done(). Raises ValueError for what cannot be said."""
    check_action(action)
    if action < CELLS:
        return "click({},{})".format(*cell_centre(action))
    if action < BACK:
        if action - TYPE >= len(slots):
            raise ValueError(f"the goal has no slot {action - TYPE}: its slots are {slots}")
        return f'type("{slots[action - TYPE]}")'
    return {BACK: "back()", HOME: "home()", ENTER: "enter()", DONE: "done()"}[action]


def parse_action(text: str, slots: tuple[str, ...]) -> int:
    """The action that a text names, strictly: no blanks, no capitals, a click inside 160x240, a word of the goal.

    Raises ValueError saying what is wrong; callers that reward the format ask whether it does.
    """
    match = GRAMMAR.fullmatch(text)
    if match is None:
        raise ValueError(
            f'not an action: {text[:60]!r}; say click(x,y), type("word"), back(), home(), enter() or done()'
        )
    if match[1]:
        x, y = int(match[2]), int(match[3])
        if x >= WIDTH or y >= HEIGHT:
            raise ValueError(f"the click ({x},{y}) is outside the screen of {WIDTH}x{HEIGHT}")
        return int(y * ROWS / HEIGHT) * COLS + int(x * COLS / WIDTH)
    if match[4]:
        if match[5] not in slots:
            raise ValueError(f"the goal has no word {match[5]!r}: its slots are {slots}")
        return TYPE + slots.index(match[5])
    return {"back": BACK, "home": HOME, "enter": ENTER, "done": DONE}[match[6]]


def check_action(action: int) -> None:
    """Raises ValueError naming an action that is none of the 61."""
    if isinstance(action, bool) or not isinstance(action, (int, np.integer)) or not 0 <= action < ACTIONS:
        raise ValueError(f"an action is a whole number from 0 to {ACTIONS - 1}, got {action!r}")


# ----------------------------------------------------------------------------------------------------- goals as words

VOCABULARY = 96  # word ids: 0 padding, then the words of the goals, then buckets for every other word
GOAL_WORDS = 16  # words of a goal that are kept
_KNOWN = {w: i + 1 for i, w in enumerate(sorted({w for g in GOALS for w in g.text.split()}))}


def word_ids(text: str) -> np.ndarray:
    """(16,) int64: ids of the first words of a goal, padded with 0. Words of other worlds fall into buckets by checksum."""
    import zlib

    ids = np.zeros(GOAL_WORDS, np.int64)
    spare = VOCABULARY - 1 - len(_KNOWN)
    for i, word in enumerate(re.findall(r"[a-z0-9]+", text.lower())[:GOAL_WORDS]):
        ids[i] = _KNOWN.get(word) or 1 + len(_KNOWN) + zlib.crc32(word.encode()) % spare
    return ids


GOAL_IDS = np.stack([word_ids(g.text) for g in GOALS])  # (G, 16)


# ------------------------------------------------------------------------------------------------------- the simulator


class PhoneSim(gym.Env):
    """One phone. Observations {"pixels": (60, 40, 3) uint8, "words": (16,) ids of the goal}; pixels are read-only."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, split: str = "train", config: PhoneConfig | None = None):
        """split: the goals that `reset` draws from, a key of SPLITS. Raises ValueError for another name."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self.goals, self.config = SPLITS[split], config or PhoneConfig()
        self.observation_space = gym.spaces.Dict(
            pixels=gym.spaces.Box(0, 255, PIXELS, np.uint8),
            words=gym.spaces.MultiDiscrete([VOCABULARY] * GOAL_WORDS),
        )
        self.action_space = gym.spaces.Discrete(ACTIONS)
        self.over = True

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """A new episode. options: {"goal": id} fixes the goal; otherwise one of the split is drawn."""
        super().reset(seed=seed)
        goal = (options or {}).get("goal")
        if goal is not None and goal not in range(len(GOALS)):
            raise ValueError(f"a goal is a number from 0 to {len(GOALS) - 1}, got {goal!r}")
        self.goal = GOALS[self.goals[self.np_random.integers(len(self.goals))] if goal is None else goal]
        self.layout, self.state = sample_episode(self.goal, self.np_random)
        self.t, self.over = 0, False
        return self.observe(), {"goal": self.goal.text, "slots": self.goal.slots}

    def observe(self) -> dict[str, np.ndarray]:
        """What an agent sees."""
        from minirl.envs.phone_draw import pixels

        return {
            "pixels": pixels(view(self.layout, self.state), status(self.state)),
            "words": GOAL_IDS[self.goal.id].copy(),
        }

    def step(self, action: int) -> tuple[dict, float, bool, bool, dict]:
        """Tap, type, press or declare. Raises ValueError for no action of the 61, RuntimeError after the end."""
        check_action(action)
        if self.over:
            raise RuntimeError("the episode is over: call reset first")
        self.t += 1
        if action != DONE:
            self._move(int(action))
        terminated, truncated = action == DONE, action != DONE and self.t >= self.config.horizon
        self.over = terminated or truncated
        reward = float(self.over and satisfied(self.goal, self.state))
        return self.observe(), reward, terminated, truncated, {}

    def _move(self, action: int) -> None:
        after = transition(self.goal, self.layout, self.state, action)
        if after == self.state:
            return
        if action < CELLS and self.np_random.random() < self.config.lag:
            return
        if after.screen != self.state.screen and not self.state.popup and self.np_random.random() < self.config.popup:
            after = after._replace(popup=1 + int(self.np_random.integers(2 * len(POPUPS))))
        self.state = after

    def tree(self) -> list[tuple]:
        """The accessibility tree: (id, kind, text, x0, y0, x1, y1, state) in reading order, in points of the picture."""
        widgets = sorted(view(self.layout, self.state).widgets, key=lambda w: (w.r0, w.c0))
        return [
            (i, w.kind, w.text, X_EDGES[w.c0], Y_EDGES[w.r0], X_EDGES[w.c1], Y_EDGES[w.r1], w.state)
            for i, w in enumerate(widgets)
        ]

    def successors(self, action: int) -> list[tuple[float, State]]:
        """All (probability, next state) of an action here."""
        check_action(action)
        return successors(self.goal, self.layout, self.state, action, self.config)

    def render(self) -> np.ndarray:
        """The picture for people, (240, 160, 3) uint8."""
        from minirl.envs.phone_draw import paint

        return paint(view(self.layout, self.state), status(self.state))

    def snapshot(self) -> tuple:
        """Everything, the random generator included: `restore` continues from here exactly."""
        return self.goal, self.layout, self.state, self.t, self.over, self.np_random.bit_generator.state

    def restore(self, snapshot: tuple) -> dict[str, np.ndarray]:
        """Go back to a snapshot, of this phone or of another; returns the observation there."""
        self.goal, self.layout, self.state, self.t, self.over, random = snapshot
        self.np_random.bit_generator.state = random
        return self.observe()
