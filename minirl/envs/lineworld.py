"""LineWorld: walk to the right end of a line, from data in which nobody walks right everywhere.

A point s in [0, 10], an action a in [-1, 1], s' = clip(s + 0.5 a). Reaching s' >= 9.75 pays 1 and ends the episode.
The best policy is a = 1 everywhere, so values are known exactly: V*(s) = gamma^(n(s) - 1) with n(s) steps to go.

The data are single transitions from s ~ U(0, 9.74). The recorder steps right (a in [0.8, 1]) with probability 0.7 and
left (a in [-1, -0.8]) otherwise, but inside some bands it only ever steps left. A method that imitates the actions
recorded at the same state turns back at a band. The actions that cross it were recorded, but at other states.
After the toy task of Ran and others, 2023, arXiv:2306.06569; the recipe is ours.

The trap is a companion: s' = s + 1.25 a, the recorder only makes small steps (|a| in [0.3, 0.4]), and an action beyond
0.6 stalls, s' = s. A critic that was never shown such an action has no reason to believe that it is worthless.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium as gym
import numpy as np

LENGTH, GOAL = 10.0, 9.75
GAMMA = 0.95
STARTS = np.linspace(0.0, 9.0, 19)  # where evaluation episodes begin
LIMIT = 60  # steps of an episode; the best policy needs at most 20

Bands = Sequence[tuple[float, float]]
BANDS: dict[str, Bands] = {
    "easy": (),
    "medium": ((4.5, 5.5),),
    "hard": ((1.5, 2.5), (4.5, 5.5), (7.0, 8.0)),
    "superhard": ((1.0, 3.0), (4.0, 6.0), (6.5, 8.5)),
}


@dataclass(frozen=True)
class Line:
    """The dynamics, for arrays of any shape."""

    stride: float = 0.5  # distance of an action of size 1
    stall: float = 1.0  # actions beyond this size do not move at all

    def __post_init__(self):
        if not self.stride > 0:
            raise ValueError(f"stride must be positive, got {self.stride}")
        if not 0 < self.stall <= 1:
            raise ValueError(f"stall must lie in (0, 1], got {self.stall}")

    def step(self, state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """states, actions -> next states, rewards, terminated (bool), all of one shape. Actions are clipped to [-1, 1].

        Raises FloatingPointError when a state or an action is not finite.
        """
        for name, value in (("state", state), ("action", action)):
            if not np.isfinite(value).all():
                raise FloatingPointError(f"{name} is not finite: {value}")
        action = np.clip(np.asarray(action, dtype=float), -1.0, 1.0)
        moved = np.where(np.abs(action) > self.stall, 0.0, self.stride * action)
        after = np.clip(state + moved, 0.0, LENGTH)
        arrived = after >= GOAL
        return after, arrived.astype(float), arrived

    def steps_to_go(self, state: np.ndarray) -> np.ndarray:
        """Fewest steps from each state to the goal, at least 1."""
        return np.maximum(np.ceil((GOAL - np.asarray(state, dtype=float)) / (self.stride * self.stall)), 1)

    def value(self, state: np.ndarray, gamma: float = GAMMA) -> np.ndarray:
        """V*(s) = gamma^(n(s) - 1): one reward of 1, n(s) steps away."""
        return gamma ** (self.steps_to_go(state) - 1)

    def q(self, state: np.ndarray, action: np.ndarray, gamma: float = GAMMA) -> np.ndarray:
        """Q*(s, a), exactly: the reward where the step arrives, and gamma V*(s') elsewhere."""
        after, reward, arrived = self.step(state, action)
        return reward + np.where(arrived, 0.0, gamma * self.value(after, gamma))


PLAIN = Line()
TRAP = Line(stride=1.25, stall=0.6)
SHORT_TRAP = Line(stride=5.0, stall=0.5)  # six recorded steps from end to end, so that a step is worth more


def in_bands(state: np.ndarray, bands: Bands) -> np.ndarray:
    """Which states lie strictly inside one of the bands (low, high); bool, of the states' shape."""
    for band in bands:
        if len(band) != 2 or not 0 <= band[0] < band[1] <= LENGTH:
            raise ValueError(f"a band is (low, high) with 0 <= low < high <= {LENGTH:g}, got {band}")
    state = np.asarray(state)
    return (
        np.any([(low < state) & (state < high) for low, high in bands], axis=0)
        if bands
        else np.zeros(state.shape, bool)
    )


def record(
    n: int,
    rng: np.random.Generator,
    bands: Bands = (),
    right: float = 0.7,
    sizes: tuple[float, float] = (0.8, 1.0),
) -> tuple[np.ndarray, np.ndarray]:
    """n states (n,) ~ U(0, 9.74) and the recorder's actions (n,): right with this probability, only left inside bands.

    `sizes` bounds |a|. Raises ValueError naming n, right, sizes or the band.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if not 0 <= right <= 1:
        raise ValueError(f"right must be a probability, got {right}")
    if not 0 <= sizes[0] <= sizes[1] <= 1:
        raise ValueError(f"sizes must satisfy 0 <= low <= high <= 1, got {sizes}")
    state = rng.uniform(0.0, 9.74, n)
    goes_right = (rng.random(n) < right) & ~in_bands(state, bands)
    return state, np.where(goes_right, 1.0, -1.0) * rng.uniform(*sizes, n)


def success(
    act: Callable[[np.ndarray], np.ndarray], line: Line = PLAIN, starts: np.ndarray = STARTS, limit: int = LIMIT
) -> np.ndarray:
    """Which of the episodes from `starts` (n,) reach the goal within `limit` steps, bool (n,). act: (n, 1) -> (n, 1)."""
    state, arrived = np.array(starts, dtype=float), np.zeros(len(starts), dtype=bool)
    for _ in range(limit):
        action = act(state[:, None].astype(np.float32))[:, 0]
        after, _, now = line.step(state, action)
        state = np.where(arrived, state, after)
        arrived |= now
        if arrived.all():
            break
    return arrived


class LineWorld(gym.Env):
    """Observation: the state (1,). Action: (1,) in [-1, 1]. `reset(options={"state": s})` starts at s, else s ~ U(0, 9.74).

    Raises ValueError for a start outside [0, 9.75): an episode does not begin at its goal.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium's convention
    observation_space = gym.spaces.Box(0.0, LENGTH, (1,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, stride: float = 0.5, stall: float = 1.0, render_mode: str | None = None):
        self.line, self.render_mode = Line(stride, stall), render_mode

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        start = (options or {}).get("state")
        self.state = float(self.np_random.uniform(0.0, 9.74) if start is None else start)
        if not (math.isfinite(self.state) and 0 <= self.state < GOAL):
            raise ValueError(f"an episode starts in [0, {GOAL}), got {start}")
        return np.array([self.state], np.float32), {}

    def step(self, action: np.ndarray):
        after, reward, arrived = self.line.step(np.float64(self.state), np.asarray(action, dtype=float).reshape(-1)[0])
        self.state = float(after)
        return np.array([self.state], np.float32), float(reward), bool(arrived), False, {}
