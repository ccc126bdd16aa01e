"""LineWorld: dynamics and values against step-by-step simulation and value iteration, the recorder against counts."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import minirl.envs  # noqa: F401 - registers the environments
from minirl.core.rollout import make_envs, rollout
from minirl.envs import lineworld as lw


def played(line, state, action, gamma):
    """Return of taking `action` first and then the largest step to the right, by playing it."""
    total, discount = 0.0, 1.0
    for _ in range(100):
        state, reward, arrived = line.step(np.float64(state), np.float64(action))
        total += discount * float(reward)
        if arrived:
            return total
        discount, action = discount * gamma, line.stall
    raise AssertionError("never arrived")


@pytest.mark.parametrize("line", [lw.PLAIN, lw.TRAP, lw.Line(0.3, 0.5)])
def test_q_is_the_return_of_playing(line):
    rng = np.random.default_rng(0)
    states, actions = rng.uniform(0, 9.74, 300), rng.uniform(-1, 1, 300)
    for gamma in (0.95, 0.5):
        want = [played(line, s, a, gamma) for s, a in zip(states, actions, strict=True)]
        assert np.allclose(line.q(states, actions, gamma), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("line", [lw.PLAIN, lw.TRAP, lw.SHORT_TRAP])
def test_q_solves_the_bellman_optimality_equation(line):
    """No action of a fine grid beats V*, and one of them attains it: nobody can be faster than the largest step."""
    rng = np.random.default_rng(1)
    states, grid = rng.uniform(0, 9.74, 200), np.append(np.linspace(-1, 1, 400), line.stall)
    q = line.q(states[:, None], np.broadcast_to(grid, (200, 401)))
    assert np.allclose(q.max(axis=1), line.value(states), rtol=0, atol=1e-12)


def test_steps_to_go_by_hand():
    assert lw.PLAIN.steps_to_go([9.5, 9.25, 9.2, 0.0, 9.74]).tolist() == [1, 1, 2, 20, 1]
    assert lw.PLAIN.value(np.array(8.75)) == 0.95
    assert lw.TRAP.steps_to_go([9.0, 8.9]).tolist() == [1, 2]


def test_a_step_by_hand():
    after, reward, arrived = lw.PLAIN.step(np.array([9.3, 0.2, 9.24, 5.0]), np.array([1.0, -1.0, 1.0, 7.0]))
    assert np.allclose(after, [9.8, 0.0, 9.74, 5.5])
    assert reward.tolist() == [1, 0, 0, 0] and arrived.tolist() == [True, False, False, False]
    after, _, _ = lw.TRAP.step(np.array([5.0, 5.0]), np.array([0.6, 0.61]))
    assert np.allclose(after, [5.75, 5.0])


@pytest.mark.parametrize("name", lw.BANDS)
def test_the_recorder_never_steps_right_inside_a_band(name):
    bands, n = lw.BANDS[name], 20_000
    state, action = lw.record(n, np.random.default_rng(2), bands)
    inside = np.zeros(n, dtype=bool)
    for low, high in bands:
        inside |= (state > low) & (state < high)
    assert (action[inside] < 0).all() and ((np.abs(action) >= 0.8) & (np.abs(action) <= 1)).all()
    assert state.min() >= 0 and state.max() <= 9.74
    share = (action[~inside] > 0).mean()
    # 4 standard errors: fails by chance about once in 16,000 for each set
    assert abs(share - 0.7) < 4 * np.sqrt(0.21 / (~inside).sum())
    width = sum(high - low for low, high in bands)
    assert abs(inside.mean() - width / 9.74) < 4 * np.sqrt(0.25 / n)


def test_difficulties_grow():
    widths = [sum(high - low for low, high in lw.BANDS[name]) for name in ("easy", "medium", "hard", "superhard")]
    assert widths == [0, 1, 3, 6]


def test_success_of_known_policies():
    assert lw.success(lambda obs: np.ones((len(obs), 1))).all()
    assert not lw.success(lambda obs: -np.ones((len(obs), 1))).any()
    # the imitator turns back in the band: only starts beyond it arrive
    turns = lambda obs: np.where(lw.in_bands(obs, [(7.0, 8.0)]), -1.0, 1.0)  # noqa: E731
    assert lw.success(turns).sum() == (lw.STARTS >= 8).sum() == 3
    assert not lw.success(lambda obs: np.full((len(obs), 1), 1.0), lw.TRAP).any()
    assert lw.success(lambda obs: np.full((len(obs), 1), 0.5), lw.TRAP).all()


def test_environment_keeps_gymnasiums_rules():
    check_env(gym.make("LineWorld-v0").unwrapped, skip_render_check=True)
    check_env(gym.make("LineWorldTrap-v0").unwrapped, skip_render_check=True)
    for name, line in (
        ("LineWorld-v0", lw.PLAIN),
        ("LineWorldTrap-v0", lw.TRAP),
        ("LineWorldShortTrap-v0", lw.SHORT_TRAP),
    ):
        assert gym.make(name).unwrapped.line == line


def test_termination_at_the_goal_truncation_at_the_limit():
    env = gym.make("LineWorld-v0")
    env.reset(seed=0, options={"state": 9.0})
    outcomes = [env.step(np.array([0.9], np.float32))[1:4] for _ in range(2)]
    assert outcomes == [(0.0, False, False), (1.0, True, False)]
    env.reset(options={"state": 5.0})
    outcomes = [env.step(np.array([-1.0], np.float32))[1:4] for _ in range(60)]
    assert outcomes[-1] == (0.0, False, True) and not any(t for _, t, _ in outcomes[:-1])
    for _, t in zip(range(70), rollout(make_envs("LineWorld-v0", 2), lambda obs: -np.ones((2, 1)), 0), strict=False):
        assert not t.terminated.any()


def test_bad_input_is_named():
    with pytest.raises(FloatingPointError, match="action"):
        lw.PLAIN.step(np.zeros(2), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="stall"):
        lw.Line(stall=0)
    with pytest.raises(ValueError, match="stride"):
        lw.Line(stride=-1)
    with pytest.raises(ValueError, match="band"):
        lw.record(5, np.random.default_rng(0), [(3.0, 2.0)])
    with pytest.raises(ValueError, match="right"):
        lw.record(5, np.random.default_rng(0), right=1.5)
    with pytest.raises(ValueError, match="sizes"):
        lw.record(5, np.random.default_rng(0), sizes=(0.9, 0.8))
    with pytest.raises(ValueError, match="n must"):
        lw.record(0, np.random.default_rng(0))
    for start in (9.75, -1.0, float("nan")):
        with pytest.raises(ValueError, match="starts in"):
            lw.LineWorld().reset(options={"state": start})
