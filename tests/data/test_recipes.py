"""The recipes: same seed, same bytes; what a set promises is counted; a tiny training run gives every level."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

import minirl.envs  # noqa: F401 - registers the environments
from minirl.data import build, load, mixtures, recipes, store
from minirl.data.dataset import BadData
from minirl.data.describe import CELLS, card, coverage, plot
from minirl.data.record import episode_ids, record
from minirl.envs import lineworld, point_maze

INSTANT = list(recipes.INSTANT)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIRL_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", INSTANT)
def test_a_seed_decides_every_byte(name):
    first, again, other = load(name, 5), load(name, 5), load(name, 6)
    assert first.checksum() == again.checksum() != other.checksum()
    assert first.meta["name"] == name and first.meta["seed"] == 5
    gym.spec(first.meta["env_id"])  # raises for an environment that does not exist


@pytest.mark.parametrize("name", [n for n in INSTANT if n.startswith("lineworld")])
def test_lineworld_rows_are_steps_of_the_line(name):
    data, p = load(name), recipes.INSTANT[name].parameters
    state, action, after = data.observations[:, 0], data.actions[:, 0], data.next_observations[:, 0]
    assert len(data) == 4_000 == len(data.ends) and not data.truncations.any()
    moved = np.where(np.abs(action) > p["stall"], 0, p["stride"] * action)
    assert np.allclose(after, np.clip(state + moved, 0, 10), atol=1e-6)
    assert np.array_equal(data.rewards == 1, data.terminations) and set(data.rewards) <= {0, 1}
    assert np.array_equal(data.terminations, after >= 9.75)
    inside = lineworld.in_bands(state.astype(float), p["bands"])
    assert (action[inside] < 0).all()
    share = (action[~inside] > 0).mean()  # 4.5 standard errors: fails by chance once in 10^5
    assert abs(share - p["right"]) < 4.5 * np.sqrt(0.25 / len(data))
    low, high = p["sizes"]
    assert (np.abs(action) >= low - 1e-6).all() and (np.abs(action) <= high + 1e-6).all()


def pushes(name):
    """The set, its maze, the cells (rows, columns) of its rows, and the forward components of its pushes."""
    data = load(name)
    world = point_maze.maze(recipes.INSTANT[name].parameters["layout"])
    state = data.observations.astype(float)
    return data, world, world.where(state), (data.actions * world.ahead(state)).sum(axis=1)


def test_stitching_data_has_no_way_through():
    """In the cells "w" no push points forwards, and no piece passes one on the way to the goal."""
    data, world, cells, along = pushes("pointmaze-stitch")
    wrong = world.cells[cells] == "w"
    assert 0.1 < wrong.mean() < 0.5
    assert along[wrong].max() <= 0 and along[wrong].mean() < -0.7
    assert (along[~wrong] > 0.5).mean() > 0.4  # elsewhere most pieces walk forwards
    distance = world.distance[cells]
    gates = np.unique(distance[wrong])
    assert len(gates) == 2
    for gate in gates:
        before, beyond = np.zeros((2, len(data.ends)), bool)
        np.logical_or.at(before, data.episode_id, distance > gate)
        np.logical_or.at(beyond, data.episode_id, distance < gate)
        first = distance[np.concatenate([[0], data.ends[:-1] + 1])]
        assert not (before & beyond & (first > gate)).any(), "a piece that began before the cell got through it"


@pytest.mark.parametrize("name, right", [("pointmaze-mixed", 0.3), ("pointmaze-umaze", 1.0)])
def test_pieces_walk_forwards_as_often_as_they_say(name, right):
    """Forwards in the first step of a piece: the share is `right`, in every cell alike."""
    data, world, cells, along = pushes(name)
    first = np.concatenate([[0], data.ends[:-1] + 1])
    assert len(first) == 2_000
    # the controller pushes with about 1, so noise of 0.6 turns one first step in twenty; 0.04 is 3.9 standard errors
    forwards, far = along[first] > 0, world.distance[cells][first]
    assert abs(forwards.mean() - (right + 0.05 * (1 - 2 * right))) < 0.04
    for distance in np.unique(far):
        assert abs(forwards[far == distance].mean() - right) < 0.15


@pytest.mark.parametrize("name", ["pointmaze-stitch", "pointmaze-mixed", "pointmaze-umaze"])
def test_pieces_are_steps_of_the_maze(name):
    data, world, _, _ = pushes(name)
    after, reward, arrived = world.step(data.observations.astype(float), data.actions.astype(float))
    assert np.allclose(after, data.next_observations, atol=1e-6)
    assert np.array_equal(reward, data.rewards) and np.array_equal(arrived, data.terminations)
    assert data.terminations.sum() > 50 and not data.truncations.any()
    assert data.meta["reference_random"] < 0.6 < data.meta["reference_expert"] == 1.0


def test_references_are_the_returns_that_they_say():
    assert load("lineworld-hard").meta["reference_expert"] == 1.0
    rng = np.random.default_rng(9)
    again = lineworld.success(
        lambda o: rng.uniform(-1, 1, o.shape), lineworld.PLAIN, rng.uniform(0, 9.74, 4_000)
    ).mean()
    # two independent means of 2,000 and 4,000 coins: 5 standard errors
    assert abs(load("lineworld-hard").meta["reference_random"] - again) < 5 * np.sqrt(0.25 / 2_000 + 0.25 / 4_000)
    assert load("pointmaze-stitch").meta["reference_expert"] == 1.0


# ---- cards and pictures ----


def test_card_counts():
    data = load("pointmaze-stitch")
    c = card(data)
    assert c["transitions"] == len(data) and c["episodes"] == 2_000
    assert sum(c["ended"].values()) == c["episodes"] and c["ended"]["terminated"] == data.terminations.sum()
    assert c["mean normalised score"] is None, "the return of a piece is not that of an episode"
    json.dumps(c)


def test_coverage_by_hand():
    data = load("lineworld-easy")
    corners = np.array([[0.0, -1.0], [10.0, 1.0], [0.1, -0.99]])
    rows = slice(0, 3)
    few = replace(
        data,
        **{name: getattr(data, name)[rows] for name in ("rewards", "terminations", "truncations", "episode_id")},
        observations=corners[:, :1].astype(np.float32),
        next_observations=data.next_observations[rows],
        actions=corners[:, 1:].astype(np.float32),
    )
    assert coverage(few)["share"] == 2 / CELLS**2
    assert coverage(few)["axes"] == ["observation 0", "action 0"]


@pytest.mark.parametrize("name", ["lineworld-hard", "pointmaze-stitch"])
def test_the_picture_shows_the_rows(name):
    data = load(name)
    left, right = plot(data, rows=1_000).axes
    points = left.collections[0].get_offsets()
    assert len(points) == 1_000 and np.isin(np.asarray(points)[:, 0].astype(np.float32), data.observations[:, 0]).all()
    assert sum(patch.get_height() for patch in right.patches) == (4_000 if name == "lineworld-hard" else 2_000)
    assert left.get_xlabel() and left.get_ylabel() and right.get_xlabel() and right.get_ylabel()


# ---- recording ----


def test_record_keeps_copies_and_ends_apart():
    meta = load("lineworld-easy").meta
    data = record(lambda obs: -np.ones((len(obs), 1)), "LineWorld-v0", 150, 0, meta, copies=2)
    # walking left never arrives: 75 steps a copy are one truncated episode of 60 and one cut one of 15
    assert data.ends.tolist() == [59, 74, 134, 149]
    assert np.flatnonzero(data.truncations).tolist() == [59, 134] and not data.terminations.any()
    right = record(lambda obs: np.ones((len(obs), 1)), "LineWorld-v0", 200, 0, meta, copies=2)
    assert right.terminations.sum() > 5 and not right.truncations.any()
    assert (right.next_observations[right.terminations] >= 9.75).all(), "the true successor, not the next start"
    for n, copies in ((0, 1), (7, 2), (4, 0)):
        with pytest.raises(ValueError, match="multiple of copies"):
            record(lambda obs: obs, "LineWorld-v0", n, 0, meta, copies)
    assert episode_ids(np.array([False, True, True, False])).tolist() == [0, 0, 1, 2]


# ---- our own SAC, at a tiny size ----

TINY = mixtures.Family("Pendulum-v1", 600, 400, 200, (16, 16), 1e-3, 32, 200, 2, 2)


@pytest.fixture(scope="module")
def family():
    """Every set of a family from 600 steps. What SAC learned in them does not matter, so its returns are made up."""
    scores = iter([-900.0, -500.0, -100.0])
    patch = pytest.MonkeyPatch()
    patch.setattr(mixtures, "greedy_return", lambda agent, spec: next(scores))
    patch.setattr(mixtures, "evaluate", lambda act, env_id, episodes: np.full(episodes, -1_200.0))
    logs = list(mixtures.build("pendulum", "pendulum-medium", 7, TINY))
    patch.undo()
    return logs


def test_a_training_run_gives_every_level(family):
    shares = [log["progress"] for log in family]
    assert shares == sorted(shares) and shares[-1] == 1.0
    sets = family[-1]["sets"]
    assert sets.keys() == {f"pendulum-{level}" for level in mixtures.LEVELS}
    for name, data in sets.items():
        assert data.meta["name"] == name and data.meta["seed"] == 7 and len(data) == 400
        assert (data.meta["reference_random"], data.meta["reference_expert"]) == (-1_200, -100)
        assert not data.terminations.any() and data.truncations.any(), "Pendulum only ends by its time limit"


def test_levels_are_what_they_say(family):
    sets = {name.removeprefix("pendulum-"): data for name, data in family[-1]["sets"].items()}
    # a third of the way from -1200 to -100 is -833: the second checkpoint, after 400 steps
    assert "400 steps" in sets["medium"].meta["made_by"] and "400 steps" in sets["medium-replay"].meta["made_by"]
    # in the replay the first 200 actions are uniform; the medium set is not uniform any more, and not the expert's
    assert not np.array_equal(sets["medium"].actions, sets["expert"].actions)
    half = sets["medium-expert"]
    assert np.array_equal(half.observations[:200], sets["medium"].observations[:200])
    assert np.array_equal(half.observations[200:], sets["expert"].observations[:200])
    for percent in (5, 10, 30):
        mixed, n = sets[f"random-expert-{percent}"], 4 * percent
        assert np.array_equal(mixed.actions[: 400 - n], sets["random"].actions[: 400 - n])
        assert np.array_equal(mixed.actions[400 - n :], sets["expert"].actions[:n])
    uniform = sets["random"].actions
    assert abs(uniform.mean()) < 0.15 and abs(uniform.var() - 1 / 3) < 0.06  # 5 standard errors of 400 draws


def test_a_run_that_learned_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(mixtures, "greedy_return", lambda agent, spec: -1_300.0)
    monkeypatch.setattr(mixtures, "evaluate", lambda act, env_id, episodes: np.full(episodes, -1_200.0))
    with pytest.raises(ValueError, match="train longer"):
        list(mixtures.build("pendulum", "pendulum-medium", 0, replace(TINY, steps=250)))


# ---- names, cache, command line ----


def test_every_name_is_known_once_and_every_recipe_has_its_own_fingerprint():
    assert len(store.RECIPES) == len(recipes.INSTANT) + len(mixtures.MIXTURES)
    assert len({r.fingerprint for r in store.RECIPES.values()}) == len(store.RECIPES)
    for each in store.RECIPES.values():
        gym.spec(each.env_id)


def test_unknown_names_and_seeds():
    with pytest.raises(ValueError, match="did you mean lineworld-hard"):
        load("lineworld-hart")
    with pytest.raises(ValueError, match=r"python -m minirl.data list"):
        load("zzzzzz")
    for seed in (-1, 1.5, True, "0"):
        with pytest.raises(ValueError, match="seed"):
            load("lineworld-hard", seed)


def slow_copy(monkeypatch, **changes):
    """Make "lineworld-easy" a set that is kept in the cache."""
    recipe = replace(recipes.INSTANT["lineworld-easy"], instant=False, **changes)
    monkeypatch.setitem(store.RECIPES, "lineworld-easy", recipe)
    monkeypatch.setitem(recipes.INSTANT, "lineworld-easy", recipe)


def test_made_once_then_read_from_the_cache(cache, monkeypatch, capsys):
    slow_copy(monkeypatch)
    made = load("lineworld-easy", 2)
    assert "100%" in capsys.readouterr().err, "a progress bar"
    assert sorted(p.name for p in cache.iterdir()) == ["lineworld-easy-seed2.json", "lineworld-easy-seed2.npz"]
    stamp = (cache / "lineworld-easy-seed2.npz").stat().st_mtime_ns
    assert load("lineworld-easy", 2).checksum() == made.checksum()
    assert (cache / "lineworld-easy-seed2.npz").stat().st_mtime_ns == stamp and capsys.readouterr().err == ""
    slow_copy(monkeypatch, version=2)  # another version of the recipe: made anew
    assert load("lineworld-easy", 2).meta["recipe"] != made.meta["recipe"]


@pytest.mark.slow
def test_a_damaged_file_in_the_cache_is_refused_and_the_command_mends_it(cache, monkeypatch):
    slow_copy(monkeypatch)
    build("lineworld-easy", 0, bar=False)
    file = cache / "lineworld-easy-seed0.npz"
    file.write_bytes(file.read_bytes()[:1_000])
    with pytest.raises(BadData) as error:
        load("lineworld-easy", 0)
    command = re.search(r"`python -m (minirl\.data .*)`", str(error.value)).group(1).split()
    env = {**os.environ, "MINIRL_DATA": str(cache)}
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and "4,000 transitions" in done.stdout
    assert len(load("lineworld-easy", 0)) == 4_000
    file.unlink()
    with pytest.raises(BadData, match=r"npz is missing.*--force"):
        load("lineworld-easy", 0)


@pytest.mark.slow
def test_command_line(cache, monkeypatch):
    from minirl.data.__main__ import main

    def out(*argv):
        env = {**os.environ, "MINIRL_DATA": str(cache)}
        return subprocess.run([sys.executable, "-m", "minirl.data", *argv], capture_output=True, text=True, env=env)

    listed = out()
    assert listed.returncode == 0 and all(name in listed.stdout for name in store.RECIPES)
    assert "not built" in listed.stdout and str(cache) in listed.stdout
    shown = json.loads(out("card", "lineworld-hard", "--seed", "4").stdout)
    assert shown["lineworld-hard"]["seed"] == 4
    for argv, word in (
        (("build", "lineword-hard"), "did you mean"),
        (("card", "lineworld-hard", "--seed", "-1"), "seed"),
    ):
        bad = out(*argv)
        assert bad.returncode == 1 and word in bad.stderr and "Traceback" not in bad.stderr
    assert main(["build", "lineworld-hard", "--seed", "1"]) == 0
    monkeypatch.chdir(cache)
    assert main(["plot", "lineworld-hard"]) == 0 and (cache / "lineworld-hard-seed0.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(SystemExit):
        main(["build"])
