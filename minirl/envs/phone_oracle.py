"""What is exact in PhoneSim: shortest paths, classes of actions, and values of a policy. For labels, tests and plots only.

For one goal, layout and first state the world is finite: `World` lists every state that can be reached, with settings the
goal does not depend on left as they were (`phone.relevant`), and all spoiled states as one. Letters: S states, A actions, T horizon.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy import sparse

from minirl.envs.phone import (
    ACTIONS,
    BACK,
    CELLS,
    COLS,
    DONE,
    ENTER,
    HOME,
    TYPE,
    Goal,
    Layout,
    PhoneConfig,
    Screen,
    State,
    relevant,
    satisfied,
    successors,
    transition,
    view,
)

CLASSES = ("progress", "neutral", "noop", "fatal")
PROGRESS, NEUTRAL, NOOP, FATAL = range(4)


class World:
    """All states of one episode's world, found from its first state. State 0 is the first; `ruined` is the last."""

    def __init__(self, goal: Goal, layout: Layout, start: State, config: PhoneConfig | None = None):
        self.goal, self.layout, self.base, self.config = goal, layout, start, config or PhoneConfig()
        self.states: list[State] = []
        self.index: dict[State, int] = {}
        self.effects: list[dict[int, list[tuple[float, int | None]]]] = []  # one action of each kind -> (chance, state)
        kinds, idle = [], set()
        self._add(start)
        at = 0
        while at < len(self.states):
            state = self.states[at]
            kind = self._kinds(state)
            kinds.append(kind)
            outcomes = {}
            for action in set(kind.tolist()):
                found = successors(goal, layout, state, action, self.config)
                if found == [(1.0, state)]:
                    idle.add((at, action))
                outcomes[action] = [(p, None if s.ruined else self._add(relevant(goal, s, start))) for p, s in found]
            self.effects.append(outcomes)
            at += 1
        self.idle = np.array(
            [[(s, k) in idle for k in row.tolist()] for s, row in enumerate(kinds)]
        )  # (S, A): nothing happens
        self.kind = np.array(kinds, np.int16)  # (S, A): which action stands for it; equal kinds have equal effects
        self.satisfied = np.array([satisfied(goal, s) for s in self.states] + [False])

    def _add(self, state: State) -> int:
        number = self.index.setdefault(state, len(self.states))
        if number == len(self.states):
            self.states.append(state)
        return number

    def _kinds(self, state: State) -> np.ndarray:
        """(A,): for each action the first one with the same effect for sure."""
        kind = np.arange(ACTIONS)
        first: dict = {}
        for cell, op in enumerate(view(self.layout, state).hit):
            kind[cell] = first.setdefault(op, cell)
        for k in range(3):
            if not state.focus or k >= len(self.goal.slots) or state.popup:
                kind[TYPE + k] = 0  # the left end of the status bar, where a tap does nothing
        return kind

    def of(self, state: State) -> int:
        """Number of a state (projected here). Raises KeyError if it cannot be reached."""
        return len(self.states) if state.ruined else self.index[relevant(self.goal, state, self.base)]

    @cached_property
    def rows(self) -> tuple[np.ndarray, sparse.csr_array]:
        """(S, A) row of each state and action, and the matrix (rows, S + 1) of next states; the last row is the spoiled state."""
        data, columns, pointer, row = [], [], [0], np.zeros((len(self.states), ACTIONS), int)
        for s, outcomes in enumerate(self.effects):
            at = {}
            for action, found in outcomes.items():
                at[action] = len(pointer) - 1
                for p, after in found:
                    data.append(p)
                    columns.append(len(self.states) if after is None else after)
                pointer.append(len(data))
            row[s] = [at[k] for k in self.kind[s]]
        return row, sparse.csr_array((data, columns, pointer), shape=(len(pointer) - 1, len(self.states) + 1))

    @cached_property
    def after(self) -> np.ndarray:
        """(S, A) next state when nothing random happens; S is the spoiled state."""
        found = np.empty((len(self.states), ACTIONS), int)
        quiet = not self.config.popup and not self.config.lag
        for s, state in enumerate(self.states):
            if quiet:
                to = {a: len(self.states) if o[0][1] is None else o[0][1] for a, o in self.effects[s].items()}
            else:
                to = {a: self.of(transition(self.goal, self.layout, state, a)) for a in self.effects[s]}
            found[s] = [to[k] for k in self.kind[s]]
        return found

    @cached_property
    def distance(self) -> np.ndarray:
        """(S + 1,) least number of actions to success, DONE included, when nothing random happens; inf for the spoiled state."""
        d = np.where(self.satisfied, 1.0, np.inf)
        while True:
            shorter = np.minimum(d[:-1], 1 + d[self.after].min(1))
            if (shorter == d[:-1]).all():
                return d
            d[:-1] = shorter

    @cached_property
    def classes(self) -> np.ndarray:
        """(S, A) class of every action: 0 progress, 1 neutral, 2 noop, 3 fatal."""
        S = len(self.states)
        d, after = self.distance, self.after
        found = np.where(d[after] < d[:S, None], PROGRESS, NEUTRAL)
        found[self.idle] = NOOP
        found[after == S] = FATAL
        found[:, DONE] = np.where(self.satisfied[:S], PROGRESS, FATAL)
        return found

    def value(self, policy: np.ndarray, gamma: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Exact Q (T, S, A) and V (T + 1, S + 1) of a policy (S, A), with reward at DONE or after the T-th action.

        Q[t] belongs to the (t + 1)-th action of an episode. V[T] is what a state is worth when time is up.
        """
        row, P = self.rows
        S, T = len(self.states), self.config.horizon
        V = np.zeros((T + 1, S + 1))
        V[T] = self.satisfied
        Q = np.empty((T, S, ACTIONS), np.float32)
        for t in reversed(range(T)):
            Q[t] = (gamma if t < T - 1 else 1.0) * (P @ V[t + 1])[row]
            Q[t][:, DONE] = self.satisfied[:S]
            V[t, :S] = (policy * Q[t]).sum(1)
        return Q, V


# --------------------------------------------------------------------------------------------------------- policies


def oracle_row(world: World, state: State) -> np.ndarray:
    """(A,): uniform over the actions on a shortest path; on a pop-up, over the taps of the better button.

    `state` must not be spoiled. The world may be one without pop-ups, which is found faster.
    """
    if state.popup and satisfied(world.goal, state):
        right = np.arange(ACTIONS) == DONE
    elif state.popup:
        hit, right, best = view(world.layout, state).hit, np.zeros(ACTIONS), np.inf
        for op in (("dismiss",), ("accept",)):
            taps = [c for c in range(CELLS) if hit[c] == op]
            d = world.distance[world.of(transition(world.goal, world.layout, state, taps[0]))]
            if d < best:
                right, best = np.zeros(ACTIONS), d
            right[taps] = d <= best
    else:
        right = world.classes[world.of(state)] == PROGRESS
    return right / right.sum()


def oracle_policy(world: World) -> np.ndarray:
    """(S, A): `oracle_row` of every state."""
    return np.stack([oracle_row(world, state) for state in world.states])


CONFUSIONS = ("adjacent", "buy", "early done", "ignore popup", "type without focus", "wrong app", "missed tap")


def confusions(world: World, state: State) -> dict[str, list[int]]:
    """What a person or a model would plausibly do wrong here: kind of confusion -> actions. Never a right one."""
    screen = view(world.layout, state)
    right = set(np.flatnonzero(oracle_row(world, state)).tolist())
    found: dict[str, list[int]] = {"early done": [DONE]}
    if state.popup:
        covered = np.flatnonzero(oracle_row(world, state._replace(popup=0))).tolist()
        found["ignore popup"] = [a for a in covered if a != DONE] + _taps(screen, "accept")
    else:
        near = {a + d for a in right if a < CELLS for d in (-COLS, COLS, -1, 1) if 0 <= a + d < CELLS}
        found["adjacent"] = [c for c in near if screen.hit[c] is not None]
        found["buy"] = _taps(screen, "buy")
        if state.screen in ("shop", "message", "forward", "reply") and not state.focus:
            found["type without focus"] = [TYPE + k for k in range(len(world.goal.slots))]
        found["wrong app"] = _taps(screen, "go") if state.screen.startswith("home") else [BACK, HOME]
    found["missed tap"] = [c for c in range(CELLS) if screen.hit[c] is None] + [ENTER]
    found = {kind: sorted(set(actions) - right) for kind, actions in found.items()}
    return {kind: actions for kind, actions in found.items() if actions}


def _taps(screen: Screen, kind: str) -> list[int]:
    return [c for c in range(CELLS) if screen.hit[c] and screen.hit[c][0] == kind]


def noisy_row(world: World, state: State, eps: float, kinds: tuple[str, ...] = CONFUSIONS) -> np.ndarray:
    """(A,): with probability eps one of the confusions that apply, uniform over kinds and then actions; else the oracle.

    Raises ValueError for an eps outside [0, 1] and for unknown kinds.
    """
    if not 0 <= eps <= 1:
        raise ValueError(f"eps must lie in [0, 1], got {eps}")
    if unknown := set(kinds) - set(CONFUSIONS):
        raise ValueError(f"unknown confusions {sorted(unknown)}; known: {', '.join(CONFUSIONS)}")
    right = oracle_row(world, state)
    found = [actions for kind, actions in confusions(world, state).items() if kind in kinds]
    if not found:
        return right
    row = (1 - eps) * right
    for actions in found:
        row[actions] += eps / len(found) / len(actions)
    return row


HABITS = {  # goal template: (screen, confusion, how often), what is done wrong there as a rule and not by a slip
    "call": (("contact", "missed tap", 0.5),),
    "message": (("message", "type without focus", 0.5),),
    "forward": (("forward", "type without focus", 0.5), ("inbox", "wrong app", 0.3)),
    "delete mail": (("mail", "missed tap", 0.5),),
    "hour": (("alarm", "early done", 0.25),),
    "cart": (("item", "buy", 0.4), ("shop", "type without focus", 0.5)),
}
POPUP_HABIT = 0.35  # how often a pop-up is ignored or accepted


def habit_row(world: World, state: State, eps: float) -> np.ndarray:
    """(A,): `noisy_row`, and where a habit applies always the same wrong action, so often that it may be the likeliest one."""
    row, found = noisy_row(world, state, eps), confusions(world, state)
    on_popup = ((state.screen, "ignore popup", POPUP_HABIT),)
    for screen, kind, share in on_popup if state.popup else HABITS.get(world.goal.template, ()):
        if state.screen == screen and kind in found:
            row *= 1 - share
            row[found[kind][-1]] += share
    return row


def noisy_policy(world: World, eps: float, kinds: tuple[str, ...] = CONFUSIONS) -> np.ndarray:
    """(S, A): `noisy_row` of every state."""
    return np.stack([noisy_row(world, state, eps, kinds) for state in world.states])
