"""How a data set is made: what a recipe is, and the recipes of the sets that take a moment.

A recipe is a generator that takes a seed. It yields {"progress": p}, and last {"progress": 1.0, "sets": {name: data}}:
the sets that a training run gives belong together and are built together.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import numpy as np

from minirl.data.dataset import OfflineData
from minirl.data.record import columns, episode_ids
from minirl.envs import lineworld, point_maze


@dataclass(frozen=True)
class Recipe:
    """One way to make a set."""

    env_id: str
    text: str  # what it is, in a sentence
    build: Callable[[str, int], Iterator[dict]] = field(compare=False)  # (name, seed) -> logs
    parameters: dict = field(default_factory=dict)  # everything that decides the content besides the code
    version: int = 1  # raised when the code that makes the set changes what it makes
    instant: bool = True  # made in a moment, in memory; the others are kept in the cache

    @property
    def fingerprint(self) -> str:
        """Sixteen letters that change with the parameters, the environment and the version."""
        text = json.dumps([self.env_id, self.version, self.parameters], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def meta(name: str, recipe: Recipe, seed: int, made_by: str, random: float, expert: float) -> dict:
    """The `meta` of a set that this recipe makes."""
    return {
        "name": name,
        "env_id": recipe.env_id,
        "seed": seed,
        "made_by": made_by,
        "recipe": recipe.fingerprint,
        "reference_random": float(random),
        "reference_expert": float(expert),
    }


# ------------------------------------------------------------------------------------------------------- lineworlds


def build_line(name: str, seed: int) -> Iterator[dict]:
    """Single transitions, each an episode of its own: the recorder is put down anywhere and takes one step."""
    recipe = INSTANT[name]
    p = recipe.parameters
    line = lineworld.Line(p["stride"], p["stall"])
    rng = np.random.default_rng([seed, 0])
    state, action = lineworld.record(p["n"], rng, p["bands"], p["right"], p["sizes"])
    state, action = state.astype(np.float32), action.astype(np.float32)
    after, reward, arrived = line.step(state.astype(float), action.astype(float))
    arrays = columns(
        state[:, None], action[:, None], reward, after[:, None], arrived, np.zeros(p["n"], bool), np.arange(p["n"])
    )
    made_by = f"a recorder that steps right with probability {p['right']:g}"
    made_by += f", and only left inside the bands {[list(b) for b in p['bands']]}" * bool(p["bands"])
    # uniformly random play from uniform starts; walking right always arrives, so the expert's return is exactly 1
    rng = np.random.default_rng([seed, 1])
    random = lineworld.success(lambda obs: rng.uniform(-1, 1, obs.shape), line, rng.uniform(0, 9.74, 2_000)).mean()
    yield {"progress": 1.0, "sets": {name: OfflineData(**arrays, meta=meta(name, recipe, seed, made_by, random, 1.0))}}


def line_recipe(text: str, bands=(), right=0.7, sizes=(0.8, 1.0), line: lineworld.Line = lineworld.PLAIN) -> Recipe:
    worlds = {lineworld.TRAP: "LineWorldTrap-v0", lineworld.SHORT_TRAP: "LineWorldShortTrap-v0"}
    env_id = worlds.get(line, "LineWorld-v0")
    parameters = {"n": 4_000, "bands": bands, "right": right, "sizes": sizes, **asdict(line)}
    return Recipe(env_id, text, build_line, parameters)


# ------------------------------------------------------------------------------------------------- point-maze pieces


def build_pieces(name: str, seed: int) -> Iterator[dict]:
    """Short pieces of a noisy waypoint controller, begun anywhere; in the cells "w" it only walks backwards.

    At the begin of a piece it decides to walk forwards (probability `right`) or backwards. In a cell "w" a push that the noise
    turned forwards is mirrored, so that no push there points forwards: the way to the goal must be stitched together, with
    actions borrowed from other cells.
    """
    recipe = INSTANT[name]
    p, world = recipe.parameters, point_maze.maze(recipe.parameters["layout"])
    rng = np.random.default_rng([seed, 0])
    pieces, length = p["n"] // p["length"], p["length"]
    state = world.sample(pieces, rng)
    state[:, 2:] = rng.uniform(-p["speed"], p["speed"], (pieces, 2))
    state = state.astype(np.float32).astype(float)
    forwards = rng.random(pieces) < p["right"]
    alive = np.ones(pieces, bool)
    rows = []
    for _ in range(length):
        wrong, ahead = world.cells[world.where(state)] == "w", world.ahead(state)
        centre = np.floor(state[:, :2]) + 0.5
        target = centre + np.where((forwards & ~wrong)[:, None], 1, -1) * ahead
        action = world.steer(state, target) + p["noise"] * rng.normal(size=(pieces, 2))
        along = (action * ahead).sum(axis=1, keepdims=True)
        action = np.where(wrong[:, None] & (along > 0), action - 2 * along * ahead, action)  # mirrored
        action = np.clip(action, -1, 1).astype(np.float32)
        after, reward, arrived = world.step(state, action)
        after = after.astype(np.float32)
        rows.append((state.astype(np.float32), action, reward, after, arrived, alive.copy()))
        state, alive = after.astype(float), alive & ~arrived
        yield {"progress": 0.9 * len(rows) / length}
    obs, action, reward, after, arrived, kept = (np.stack(column, axis=1) for column in zip(*rows, strict=True))
    last = arrived | (np.arange(1, length + 1) == length)
    obs, action, reward, after, arrived, last = (x[kept] for x in (obs, action, reward, after, arrived, last))
    arrays = columns(obs, action, reward, after, arrived, np.zeros(len(reward), bool), episode_ids(last))
    rng = np.random.default_rng([seed, 1])
    starts = world.starts(200, rng)
    random = point_maze.episodes(lambda s: rng.uniform(-1, 1, (len(s), 2)), world, starts)[0].mean()
    expert = point_maze.episodes(world.expert, world, starts)[0].mean()
    made_by = f"pieces of {length} steps of a waypoint controller with noise {p['noise']:g}"
    made_by += f" that walks forwards with probability {p['right']:g}"
    data = OfflineData(**arrays, meta=meta(name, recipe, seed, made_by, random, expert))
    yield {"progress": 1.0, "sets": {name: data}}


# -------------------------------------------------------------------------------------------------------- by name

INSTANT: dict[str, Recipe] = {
    f"lineworld-{level}": line_recipe(f"walk right; {len(bands)} bands with steps to the left only", bands)
    for level, bands in lineworld.BANDS.items()
}
for percent in (30, 10):
    INSTANT[f"lineworld-mixed-{percent}"] = line_recipe(
        f"walk right; at every state {percent} % of the steps go right", right=percent / 100
    )
INSTANT["lineworld-trap-30"] = line_recipe(
    "small steps, 30 % to the right; large ones, never recorded, stall",
    right=0.3, sizes=(0.3, 0.4), line=lineworld.TRAP,
)  # fmt: skip
INSTANT["lineworld-trap-20"] = line_recipe(
    "steps of 2 at most, 20 % to the right; larger ones, never recorded, stall",
    right=0.2, sizes=(0.3, 0.4), line=lineworld.SHORT_TRAP,
)  # fmt: skip


def pieces_recipe(text: str, layout: str, right: float, noise: float) -> Recipe:
    parameters = {"layout": layout, "maze": point_maze.LAYOUTS[layout], "n": 20_000, "length": 10}
    parameters |= {"right": right, "noise": noise, "speed": 1.0}
    return Recipe(f"PointMaze2D-{layout}-v0", text, build_pieces, parameters)


INSTANT["pointmaze-stitch"] = pieces_recipe(
    "pieces of walks through a maze; in two cells every piece walks backwards", "stitch", right=0.7, noise=0.6
)
INSTANT["pointmaze-mixed"] = pieces_recipe(
    "pieces of walks in a room; 30 % of them towards the goal, 70 % away from it", "open", right=0.3, noise=0.6
)
INSTANT["pointmaze-umaze"] = pieces_recipe(
    "pieces of walks through a u-shaped maze, all of them towards the goal", "umaze", right=1.0, noise=0.6
)
