"""PointMaze2D: a point mass in a maze of ASCII walls, pushed by forces; numpy only, any number of copies at once.

State: position (x, y) in cells and velocity (vx, vy) in cells per second; cell (row, column) covers [column, column + 1] x
[row, row + 1], so y grows downwards, as the rows of the picture do. A step lasts DT = 0.2 s:

    v <- v + DT (FORCE a - DRAG v),    x <- x + DT v,    a in [-1, 1]^2.

The point is a square of half-width RADIUS. It moves along x first and then along y; where a wall is in the way it stops
at the wall and loses that component of the velocity. Arriving in the goal's cell pays 1 and ends the episode.
The drag is strong: a step keeps 1 - DT DRAG = 0.2 of the velocity, and after a few steps a point walks where it is pushed.
No step is longer than DT FORCE / DRAG = 0.5 cells (the final speed of a constant push), so no wall can be jumped.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import gymnasium as gym
import numpy as np

DT, FORCE, DRAG, RADIUS = 0.2, 10.0, 4.0, 0.1  # s, cells / s^2, 1 / s, cells
TOP_SPEED = FORCE / DRAG  # cells / s, in each direction
LIMIT = 100  # steps of an episode

# "#" wall, "." free, "S" start, "G" goal, "w" free, but recorders of stitching data only walk backwards here
LAYOUTS = {
    "open": """
#######
#S....#
#.....#
#....G#
#######
""",
    "umaze": """
#####
#S..#
###.#
#G..#
#####
""",
    "stitch": """
#######
#S###G#
#.w.w.#
#######
""",
}


@dataclass(frozen=True)
class Maze:
    """A layout and its dynamics. Raises ValueError naming the line or the cell that is wrong."""

    text: str

    def __post_init__(self):
        rows = self.text.strip("\n").split("\n")
        for i, row in enumerate(rows):
            if len(row) != len(rows[0]):
                raise ValueError(f"line {i} of the maze has {len(row)} cells, the first one has {len(rows[0])}")
            if bad := set(row) - set("#.SGw"):
                raise ValueError(f"line {i} of the maze contains {sorted(bad)[0]!r}; known: # . S G w")
        for letter, what in (("S", "start"), ("G", "goal")):
            if (n := sum(row.count(letter) for row in rows)) != 1:
                raise ValueError(f"a maze needs one {what} ({letter}), this one has {n}")
        border = rows[0] + rows[-1] + "".join(row[0] + row[-1] for row in rows)
        if border.strip("#"):
            raise ValueError("a maze is closed: every cell of its border must be a wall (#)")
        if not np.isfinite(self.distance[self.cell("S")]):
            raise ValueError("the goal cannot be reached from the start")

    @cached_property
    def cells(self) -> np.ndarray:
        """Letters (H, W)."""
        return np.array([list(row) for row in self.text.strip("\n").split("\n")])

    @cached_property
    def wall(self) -> np.ndarray:
        """(H, W) bool."""
        return self.cells == "#"

    def cell(self, letter: str) -> tuple[int, int]:
        """(row, column) of the first cell with this letter."""
        row, column = np.argwhere(self.cells == letter)[0]
        return int(row), int(column)

    @cached_property
    def distance(self) -> np.ndarray:
        """Moves between neighbouring cells to the goal (H, W), by breadth-first search; infinite in walls."""
        steps = np.full(self.cells.shape, np.inf)
        steps[self.cell("G")] = 0
        queue = deque([self.cell("G")])
        while queue:
            row, column = queue.popleft()
            for near in ((row, column - 1), (row + 1, column), (row, column + 1), (row - 1, column)):
                if not self.wall[near] and np.isinf(steps[near]):
                    steps[near] = steps[row, column] + 1
                    queue.append(near)
        return steps

    @cached_property
    def ways(self) -> np.ndarray:
        """Centre (H, W, 2), as (x, y), of the neighbour next on the way to the goal; the goal's own centre at the goal."""
        centre = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in self.cells.shape[::-1])), axis=-1)
        ways = centre.copy()
        for row, column in np.argwhere(np.isfinite(self.distance) & (self.distance > 0)):
            near = [(row, column - 1), (row + 1, column), (row, column + 1), (row - 1, column)]
            ways[row, column] = centre[min(near, key=lambda cell: self.distance[cell])]
        return ways

    def ahead(self, state: np.ndarray) -> np.ndarray:
        """Directions (N, 2), one of +-x and +-y, from the cells in which states (N, 4) lie to the next ones on the way."""
        return self.ways[self.where(state)] - (np.floor(state[:, :2]) + 0.5)

    def where(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (N,) and columns (N,) of the cells in which states (N, 4) lie."""
        column, row = np.floor(state[:, :2]).astype(int).T
        return row, column

    def sample(self, n: int, rng: np.random.Generator, free: np.ndarray | None = None) -> np.ndarray:
        """n states (n, 4) at rest, uniform over the cells where `free` (H, W) holds; by default all but walls and goal."""
        free = ~self.wall & (self.cells != "G") if free is None else free & ~self.wall
        places = np.argwhere(free)[rng.integers(free.sum(), size=n)]
        at = places[:, ::-1] + rng.uniform(RADIUS, 1 - RADIUS, (n, 2))
        return np.concatenate([at, np.zeros((n, 2))], axis=1)

    def starts(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n states (n, 4) at rest in the start's cell."""
        return self.sample(n, rng, self.cells == "S")

    def step(self, state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """states (N, 4), actions (N, 2) -> next states (N, 4), rewards (N,), terminated (N,) bool. Actions are clipped.

        Raises FloatingPointError for numbers that are not finite, ValueError for a state that overlaps a wall.
        """
        for name, value in (("state", state), ("action", action)):
            if not np.isfinite(value).all():
                raise FloatingPointError(f"{name} is not finite: {np.asarray(value).tolist()}")
        if self.blocked(state[:, :2]).any():
            bad = int(np.argmax(self.blocked(state[:, :2])))
            raise ValueError(f"state {bad} overlaps a wall: position {state[bad, :2].tolist()}")
        action = np.clip(np.asarray(action, dtype=float), -1.0, 1.0)
        speed = np.clip(state[:, 2:], -TOP_SPEED, TOP_SPEED)
        speed = speed + DT * (FORCE * action - DRAG * speed)
        at = state[:, :2].astype(float)
        for axis in (0, 1):
            moved = at.copy()
            moved[:, axis] += DT * speed[:, axis]
            stopped = self.blocked(moved)
            ahead = np.where(speed[:, axis] > 0, np.floor(at[:, axis]) + 1 - RADIUS, np.floor(at[:, axis]) + RADIUS)
            at[:, axis] = np.where(stopped, ahead, moved[:, axis])
            speed[:, axis] = np.where(stopped, 0.0, speed[:, axis])
        after = np.concatenate([at, speed], axis=1)
        arrived = self.cells[self.where(after)] == "G"
        return after, arrived.astype(float), arrived

    def blocked(self, at: np.ndarray) -> np.ndarray:
        """Which positions (N, 2) put a corner of the square strictly inside a wall or outside the maze, (N,) bool."""
        inside = RADIUS - 1e-6  # touching a wall is allowed, whatever the rounding of float32
        height, width = self.wall.shape
        hit = np.zeros(len(at), dtype=bool)
        for dx in (-inside, inside):
            for dy in (-inside, inside):
                column, row = np.floor(at + np.array([dx, dy])).astype(int).T
                outside = (row < 0) | (row >= height) | (column < 0) | (column >= width)
                hit |= outside | self.wall[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
        return hit

    def steer(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The push (N, 2) towards target positions (N, 2): proportional to the distance, less the speed, clipped."""
        return np.clip(2.0 * (target - state[:, :2]) - 0.5 * state[:, 2:], -1.0, 1.0)

    def expert(self, state: np.ndarray) -> np.ndarray:
        """Actions (N, 2) of a controller that knows the maze: steer to the centre of the next cell on the way."""
        return self.steer(state, self.ways[self.where(state)])


def maze(layout: str) -> Maze:
    """The maze with this name. Raises ValueError listing the names."""
    if layout not in LAYOUTS:
        raise ValueError(f"there is no maze {layout!r}; known: {', '.join(LAYOUTS)}")
    return Maze(LAYOUTS[layout])


def episodes(
    act: Callable[[np.ndarray], np.ndarray], world: Maze, starts: np.ndarray, limit: int = LIMIT
) -> tuple[np.ndarray, np.ndarray]:
    """Episodes from states (N, 4) side by side: who reached the goal (N,) bool, and the positions (T + 1, N, 2).

    act: float32 observations (N, 4) -> actions (N, 2). Who has arrived stays where it is.
    """
    state, arrived = np.array(starts, dtype=float), np.zeros(len(starts), dtype=bool)
    path = [state[:, :2].copy()]
    for _ in range(limit):
        after, _, now = world.step(state, act(state.astype(np.float32)))
        state = np.where(arrived[:, None], state, after)
        arrived |= now
        path.append(state[:, :2].copy())
        if arrived.all():
            break
    return arrived, np.stack(path)


class PointMaze2D(gym.Env):
    """One point. Observation: (x, y, vx, vy). Action: the force (2,) in [-1, 1]. Starts at rest in the start's cell.

    `reset(options={"state": (x, y, vx, vy)})` starts there; ValueError when that lies in a wall or in the goal.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium's convention
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, layout: str = "umaze", render_mode: str | None = None):
        self.maze, self.render_mode = maze(layout), render_mode
        height, width = self.maze.wall.shape
        high = np.array([width, height, TOP_SPEED, TOP_SPEED], np.float32)
        self.observation_space = gym.spaces.Box(high * np.array([0, 0, -1, -1], np.float32), high, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        given = (options or {}).get("state")
        self.state = (
            self.maze.starts(1, self.np_random) if given is None else np.array(given, dtype=float).reshape(1, 4)
        )
        if not np.isfinite(self.state).all() or self.maze.blocked(self.state[:, :2])[0]:
            raise ValueError(f"an episode starts in a free cell, got {given}")
        if self.maze.cells[self.maze.where(self.state)][0] == "G":
            raise ValueError(f"an episode does not start at its goal, got {given}")
        return self.state[0].astype(np.float32), {}

    def step(self, action: np.ndarray):
        self.state, reward, arrived = self.maze.step(self.state, np.asarray(action)[None])
        return self.state[0].astype(np.float32), float(reward[0]), bool(arrived[0]), False, {}
