"""PointMaze2D: free flight in closed form, walls against brute force, mistakes in a layout."""

from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import minirl.envs  # noqa: F401 - registers the environments
from minirl.envs import point_maze as pm

WIDE = pm.Maze("#" * 42 + "\n" + ("#" + "." * 40 + "#\n") * 38 + "#S" + "." * 38 + "G#\n" + "#" * 42)


def test_free_flight_is_the_closed_form():
    """A constant push a from rest: v_n = (FORCE a / DRAG) (1 - q^n) with q = 1 - DT DRAG, and x_n = x_0 + DT sum v."""
    push = np.array([[0.7, -0.3]])
    state, q = np.array([[5.0, 35.0, 0.0, 0.0]]), 1 - pm.DT * pm.DRAG
    final = pm.FORCE * push[0] / pm.DRAG
    for n in range(1, 40):
        state, reward, arrived = WIDE.step(state, push)
        assert np.allclose(state[0, 2:], final * (1 - q**n), atol=1e-12)
        assert np.allclose(state[0, :2], [5.0, 35.0] + pm.DT * final * (n - q * (1 - q**n) / (1 - q)), atol=1e-10)
        assert reward[0] == 0 and not arrived[0]


def test_a_head_on_wall_stops_one_component_only():
    world = pm.maze("open")
    state = np.array([[1.5, 2.5, -2.0, 1.0]])
    for _ in range(10):
        before = state
        state, _, _ = world.step(state, np.array([[-1.0, 0.0]]))
        assert state[0, 3] == pytest.approx(before[0, 3] * (1 - pm.DT * pm.DRAG))  # sliding along the wall goes on
        if state[0, 0] == pytest.approx(1 + pm.RADIUS):
            break
    assert state[0, 0] == pytest.approx(1.1) and state[0, 2] == 0


@pytest.mark.parametrize("layout", pm.LAYOUTS)
def test_no_random_walk_ever_enters_or_jumps_a_wall(layout):
    """500 points pushed about for 200 steps. The cell of a point changes to a neighbour at most, and is never a wall."""
    world, rng = pm.maze(layout), np.random.default_rng(0)
    state = world.sample(500, rng)
    state[:, 2:] = rng.uniform(-pm.TOP_SPEED, pm.TOP_SPEED, (500, 2))
    push = rng.uniform(-1, 1, (500, 2))
    for _ in range(200):
        again = rng.random(500) < 0.1
        push[again] = np.sign(rng.normal(size=(again.sum(), 2)))
        cell = np.stack(world.where(state))
        state, _, _ = world.step(state, push)
        after = np.stack(world.where(state))
        assert not world.wall[tuple(after)].any()
        assert np.abs(after - cell).sum(axis=0).max() <= 2
        between = np.stack([cell[0], after[1]]), np.stack([after[0], cell[1]])
        diagonal = np.abs(after - cell).sum(axis=0) == 2
        assert not (world.wall[tuple(between[0])] & world.wall[tuple(between[1])])[diagonal].any()
        assert np.abs(state[:, 2:]).max() <= pm.TOP_SPEED + 1e-12
        corners = [state[:, :2] + np.array([i, j]) * (pm.RADIUS - 1e-5) for i in (-1, 1) for j in (-1, 1)]
        for corner in corners:
            assert not world.wall[corner[:, 1].astype(int), corner[:, 0].astype(int)].any()


def test_a_batch_is_its_members_one_by_one():
    world, rng = pm.maze("stitch"), np.random.default_rng(3)
    state, action = world.sample(50, rng), rng.uniform(-1, 1, (50, 2))
    state[:, 2:] = rng.uniform(-2, 2, (50, 2))
    together = world.step(state, action)
    for i in range(50):
        alone = world.step(state[i : i + 1], action[i : i + 1])
        assert all(np.array_equal(a[i], b[0]) for a, b in zip(together, alone, strict=True))


@pytest.mark.parametrize("layout", pm.LAYOUTS)
def test_distances_fall_by_one_towards_the_goal_and_the_expert_follows_them(layout):
    world = pm.maze(layout)
    free = np.argwhere(~world.wall)
    for row, column in free:
        near = [(row, column - 1), (row + 1, column), (row, column + 1), (row - 1, column)]
        best = min(world.distance[cell] for cell in near)
        if world.cells[row, column] == "G":
            assert world.distance[row, column] == 0
        else:
            assert world.distance[row, column] == best + 1
            x, y = world.ways[row, column]
            assert world.distance[int(y), int(x)] == best
    arrived, path = pm.episodes(world.expert, world, world.sample(200, np.random.default_rng(0)))
    assert arrived.all()
    assert path.shape[1:] == (200, 2) and len(path) <= pm.LIMIT + 1


def test_layout_of_the_stitching_maze():
    count = Counter("".join(pm.LAYOUTS["stitch"].split()))
    assert count["w"] == 2
    world = pm.maze("stitch")
    assert world.distance[world.cell("S")] == 6


def test_sampled_states_lie_where_they_should():
    world, rng = pm.maze("stitch"), np.random.default_rng(1)
    assert set(world.cells[world.where(world.sample(2000, rng))]) == {"S", ".", "w"}
    assert set(world.cells[world.where(world.starts(50, rng))]) == {"S"}
    assert not world.blocked(world.sample(2000, rng)[:, :2]).any()


@pytest.mark.parametrize("layout", pm.LAYOUTS)
def test_environment_keeps_gymnasiums_rules(layout):
    env = gym.make(f"PointMaze2D-{layout}-v0")
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    flags = [env.step(np.array([-1.0, -1.0], np.float32))[2:4] for _ in range(pm.LIMIT)]
    assert flags[-1] == (False, True) and set(flags[:-1]) == {(False, False)}


def test_arriving_pays_and_terminates():
    env = gym.make("PointMaze2D-open-v0")
    env.reset(options={"state": (4.85, 3.5, 2.5, 0.0)})
    obs, reward, terminated, truncated, _ = env.step(np.array([1.0, 0.0], np.float32))
    assert reward == 1 and terminated and not truncated and obs[0] == pytest.approx(5.35)


@pytest.mark.parametrize(
    "text, word",
    [
        ("###\n#S#\n###", "goal"),
        ("####\n#GG#\n####", "start"),
        ("####\n#SG#\n###", "line 2"),
        ("####\n#SG?\n####", "'?'"),
        ("####\n#SG.\n####", "border"),
        ("#####\n#S#G#\n#####", "reached"),
    ],
)
def test_a_broken_layout_is_named(text, word):
    with pytest.raises(ValueError, match=word.replace("?", r"\?")):
        pm.Maze(text)


def test_bad_input_is_named():
    world = pm.maze("open")
    state = np.array([[1.5, 1.5, 0.0, 0.0]])
    with pytest.raises(FloatingPointError, match="action"):
        world.step(state, np.array([[np.nan, 0.0]]))
    with pytest.raises(FloatingPointError, match="state"):
        world.step(np.array([[np.inf, 1.5, 0.0, 0.0]]), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="state 0 overlaps a wall"):
        world.step(np.array([[0.5, 1.5, 0.0, 0.0]]), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="open, umaze, stitch"):
        pm.maze("large")
    for start in ((0.5, 0.5, 0, 0), (np.nan, 1.5, 0, 0)):
        with pytest.raises(ValueError, match="free cell"):
            pm.PointMaze2D("open").reset(options={"state": start})
    with pytest.raises(ValueError, match="at its goal"):
        pm.PointMaze2D("open").reset(options={"state": (5.5, 3.5, 0, 0)})
