"""Oracles of the MDP families: closed forms, gymnasium's own tables, the real MiniGrid beside its enumeration."""

import sys

import gymnasium as gym
import numpy as np
import pytest

from minirl.core.tabular import FiniteMDP, backup, expected_return, optimal_values, policy_values, value_iteration
from minirl.envs.finite_mdps import (
    bait_chain,
    enumerate_minigrid,
    from_gymnasium,
    grid_world,
    make_minigrid,
    relabel,
    sticky,
)


def dense(mdp):
    return mdp.P.toarray().reshape(mdp.S, mdp.A, mdp.S)


def uniform(mdp):
    return np.full((mdp.S, mdp.A), 1 / mdp.A)


def random_mdp(rng, S=4, A=3, horizon=5):
    """State S - 1 is terminal, the others are not."""
    P, R = rng.dirichlet(np.ones(S) * 0.5, (S, A)), rng.normal(size=(S, A))
    P[-1], R[-1] = np.eye(S)[-1], 0
    return FiniteMDP(P, R, rng.dirichlet(np.ones(S)), horizon)


# ----------------------------------------------------------------------------------------------------- chains and grids


@pytest.mark.parametrize("length, actions, bait", [(5, 2, 0.2), (4, 3, 0.05), (6, 3, 0.2), (1, 2, 0.5)])
def test_look_ahead_on_the_bait_chain_follows_the_closed_form(length, actions, bait):
    mdp = bait_chain(length, actions, bait)
    Q = policy_values(mdp, uniform(mdp))
    for k in range(1, length + 1):
        assert Q[0, 0, 0] == pytest.approx(float(actions) ** -(length - k), abs=1e-15)
        assert Q[0, 0, 1:].tolist() == pytest.approx([bait if length > 0 else 0] * (actions - 1), abs=1e-15)
        V = np.vstack([Q.max(axis=2)[1:], np.zeros((1, mdp.S))])
        Q = np.stack([backup(mdp, V[t]) for t in range(mdp.horizon)])
    assert mdp.terminal.tolist() == [False] * length + [True]


@pytest.mark.parametrize("bad", [(0, 2, 0.1), (3, 1, 0.1), (3, 2, 1.0), (3, 2, -0.1)])
def test_a_chain_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match="length >= 1"):
        bait_chain(*bad)


@pytest.mark.parametrize("slippery", [False, True])
def test_a_grid_with_traps_is_frozen_lake_on_the_same_map(slippery):
    traps = [(1, 1), (1, 3), (2, 3), (3, 0)]  # the holes of the 4x4 map
    ours = grid_world(4, 20, traps, slip=2 / 3 if slippery else 0.0)
    theirs = from_gymnasium("FrozenLake-v1", 20, is_slippery=slippery)
    np.testing.assert_allclose(dense(ours), dense(theirs), atol=1e-12)
    np.testing.assert_allclose(ours.R, theirs.R, atol=1e-12)
    assert ours.start.tolist() == theirs.start.tolist()


def test_a_grid_stops_at_walls_and_edges_and_pays_traps():
    mdp = grid_world(3, 9, traps=[(2, 0)], trap_reward=0.3, walls=[(0, 1)])
    where = dense(mdp).argmax(2)
    assert where[0].tolist() == [0, 3, 0, 0]  # edge, down, wall, edge
    assert mdp.R[3].tolist() == [0, 0.3, 0, 0] and mdp.terminal[[6, 8]].all() and mdp.terminal.sum() == 2
    assert mdp.R[7].tolist() == [0.3, 0, 1, 0]
    with pytest.raises(ValueError, match="inner cell"):
        grid_world(3, traps=[(2, 2)])
    with pytest.raises(ValueError, match="slip"):
        grid_world(3, slip=1.5)


def test_progress_pays_the_first_distance_minus_the_last():
    """Any policy: J(shaped) = J + amount * (distance at the start - expected distance after T steps)."""
    rng = np.random.default_rng(0)
    plain, shaped = (grid_world(4, 7, [(1, 2)], slip=0.2, shaping=x) for x in (0.0, 0.1))
    policy = rng.dirichlet(np.ones(4), plain.S)
    occupancy = plain.start
    for _ in range(7):
        occupancy = np.einsum("s,sa,sax->x", occupancy, policy, dense(plain))
    distance = np.array([6 - s // 4 - s % 4 for s in range(16)])
    expected = expected_return(plain, policy) + 0.1 * (6 - occupancy @ distance)
    assert expected_return(shaped, policy) == pytest.approx(expected, abs=1e-12)
    assert (shaped.terminal == plain.terminal).all()


# -------------------------------------------------------------------------------------------------- gymnasium's tables


@pytest.mark.parametrize(
    "env_id, kwargs",
    [("FrozenLake-v1", {"map_name": m, "is_slippery": s}) for m in ("4x4", "8x8") for s in (True, False)]
    + [
        ("CliffWalking-v1", {}),
        ("CliffWalking-v1", {"is_slippery": True}),
        ("FrozenLake-v1", {"desc": ["SFSG", "FHFF"]}),
    ],
)
def test_tables_equal_gymnasiums(env_id, kwargs):
    mdp = from_gymnasium(env_id, 30, **kwargs)
    env = gym.make(env_id, **kwargs).unwrapped
    ends = {target for s in env.P for a in env.P[s] for _, target, _, done in env.P[s][a] if done}
    assert set(np.flatnonzero(mdp.terminal)) == ends and ends
    P, R = np.zeros((mdp.S, mdp.A, mdp.S)), np.zeros((mdp.S, mdp.A))
    for s in range(mdp.S):
        for a in range(mdp.A):
            if s in ends:
                P[s, a, s] = 1
                continue
            for p, target, reward, _ in env.P[s][a]:
                P[s, a, target] += p
                R[s, a] += p * reward
    np.testing.assert_allclose(dense(mdp), P, atol=1e-15)
    np.testing.assert_allclose(mdp.R, R, atol=1e-12)
    np.testing.assert_allclose(mdp.start, env.initial_state_distrib)


def test_the_cliff_is_walked_in_thirteen_steps():
    mdp = from_gymnasium("CliffWalking-v1", 30)
    assert mdp.start @ optimal_values(mdp)[0].max(1) == -13


class Moody(gym.Env):
    """State 1 ends an episode when it is reached by action 0 only."""

    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)
    initial_state_distrib = np.array([1.0, 0.0])

    def __init__(self):
        self.P = {s: {a: [(1.0, 1, 0.0, a == 0)] for a in range(2)} for s in range(2)}


def test_environments_without_a_proper_table_are_refused():
    with pytest.raises(ValueError, match="CartPole-v1 has no table"):
        from_gymnasium("CartPole-v1", 10)
    gym.register("Moody-v0", Moody)
    try:
        with pytest.raises(ValueError, match="Moody-v0: state 1 ends"):
            from_gymnasium("Moody-v0", 10)
    finally:
        del gym.registry["Moody-v0"]


# ------------------------------------------------------------------------------------------------------------ MiniGrid

LAYOUTS = {
    "MiniGrid-Empty-5x5-v0": ("left", "right", "forward"),
    "MiniGrid-DoorKey-5x5-v0": ("left", "right", "forward", "pickup", "toggle"),
    "MiniGrid-LavaGapS5-v0": ("left", "right", "forward"),
    "MiniGrid-SimpleCrossingS9N1-v0": ("left", "right", "forward"),
    "MiniGrid-KeyCorridorS3R1-v0": ("left", "right", "forward", "pickup", "drop", "toggle"),
    "MiniGrid-UnlockPickup-v0": ("left", "right", "forward", "pickup", "drop", "toggle"),
}


@pytest.mark.parametrize("env_id", LAYOUTS)
def test_the_real_minigrid_walks_beside_the_table(env_id):
    """20 random episodes and an optimal one in the untouched environment: same rewards, same ends, same states."""
    pytest.importorskip("minigrid")
    seed, rng = 3, np.random.default_rng(0)
    mdp = enumerate_minigrid(env_id, seed=seed)
    assert mdp.A == len(LAYOUTS[env_id])
    best = value_iteration(mdp, 0.99).argmax(1)
    env = gym.make(env_id)
    table_to_real, real_to_table, solved = {}, {}, 0
    for episode in range(21):
        env.reset(seed=seed)
        state, ended = 0, False
        for _ in range(100 if episode else 400):
            real = env.unwrapped
            carried = None if real.carrying is None else real.carrying.encode()
            key = (*map(int, real.agent_pos), int(real.agent_dir), carried, real.grid.encode().tobytes(), ended)
            assert table_to_real.setdefault(state, key) == key
            assert real_to_table.setdefault(key, state) == state
            if ended:
                break
            action = rng.integers(mdp.A) if episode else best[state]
            _, reward, ended, _, _ = env.step(real.actions[LAYOUTS[env_id][action]])
            row = mdp.P[[state * mdp.A + action]].toarray()[0]
            assert (reward > 0) == mdp.R[state, action] and row.max() == 1
            state = row.argmax()
            assert ended == mdp.terminal[state]
            solved += reward > 0
        assert episode or solved == 1
    assert len(table_to_real) > 15


def test_the_shortest_solutions_of_minigrid():
    """Empty-NxN: N - 3 steps, one turn, N - 3 steps; and each of them earns one cell of progress but the turn."""
    pytest.importorskip("minigrid")
    for size in (5, 6, 8):
        mdp = enumerate_minigrid(f"MiniGrid-Empty-{size}x{size}-v0")
        assert mdp.S == 4 * (size - 2) ** 2 - 3 + 1  # the goal's cell is only ever entered in two directions
        steps = 2 * (size - 3) + 1
        assert value_iteration(mdp, 0.9)[0].max() == pytest.approx(0.9 ** (steps - 1), abs=1e-9)
    shaped = enumerate_minigrid("MiniGrid-Empty-6x6-v0", 7, shaping=0.1)
    assert optimal_values(shaped)[0, 0].max() == pytest.approx(1 + 0.1 * 6)
    assert shaped.horizon == 7 and enumerate_minigrid("MiniGrid-Empty-5x5-v0").horizon == 100


@pytest.mark.slow
def test_a_layout_of_ten_thousand_states():
    pytest.importorskip("minigrid")
    mdp = enumerate_minigrid("MiniGrid-MultiRoom-N6-v0")
    assert mdp.S >= 10_000
    assert value_iteration(mdp, 0.99)[0].max() > 0.5


def test_layouts_that_cannot_be_enumerated_are_refused():
    pytest.importorskip("minigrid")
    with pytest.raises(ValueError, match="draws random numbers"):
        enumerate_minigrid("MiniGrid-Dynamic-Obstacles-5x5-v0")
    with pytest.raises(ValueError, match="more than 50 states"):
        enumerate_minigrid("MiniGrid-Empty-8x8-v0", max_states=50)
    with pytest.raises(ValueError, match="cannot be solved with the actions left, right"):
        enumerate_minigrid("MiniGrid-Empty-5x5-v0", actions=("left", "right"))
    with pytest.raises(ValueError, match="no goal cell"):
        enumerate_minigrid("MiniGrid-UnlockPickup-v0", shaping=0.1)
    with pytest.raises(ValueError, match="must begin with MiniGrid-"):
        enumerate_minigrid("CartPole-v1")


def test_without_minigrid_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "minigrid", None)
    with pytest.raises(ImportError, match="pip install"):
        make_minigrid("MiniGrid-Empty-5x5-v0")


# ------------------------------------------------------------------------------------------------------ sticky actions


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_sticky_transitions_entry_by_entry(probability):
    mdp = random_mdp(np.random.default_rng(0))
    P, R = dense(mdp), mdp.R
    ours = sticky(mdp, probability)
    expected, reward = np.zeros((4, 4, 3, 4, 4)), np.zeros((4, 4, 3))  # s, previous, chosen, s', executed
    for s in range(4):
        for previous in range(4):
            for chosen in range(3):
                if s == 3:
                    expected[s, previous, chosen, s, previous] = 1
                    continue
                for executed in range(3):
                    again = probability if previous < 3 else 0.0
                    chance = (1 - again) * (executed == chosen) + again * (executed == previous)
                    expected[s, previous, chosen, :, executed] += chance * P[s, executed]
                    reward[s, previous, chosen] += chance * R[s, executed]
    np.testing.assert_allclose(dense(ours), expected.reshape(16, 3, 16), atol=1e-14)
    np.testing.assert_allclose(ours.R, reward.reshape(16, 3), atol=1e-14)
    np.testing.assert_allclose(ours.start.reshape(4, 4)[:, 3], mdp.start)
    assert ours.terminal.reshape(4, 4).all(1).tolist() == mdp.terminal.tolist() == [False, False, False, True]


def test_stickiness_zero_is_the_original_and_costs_otherwise():
    mdp = random_mdp(np.random.default_rng(1))
    Q = optimal_values(sticky(mdp, 0.0)).reshape(mdp.horizon, 4, 4, 3)
    np.testing.assert_allclose(Q, np.broadcast_to(optimal_values(mdp)[:, :, None], Q.shape), atol=1e-12)
    grid = grid_world(4, 8)
    best = [m.start @ optimal_values(m)[0].max(1) for m in (sticky(grid, p) for p in (0.0, 0.25, 0.5))]
    assert best[0] == 1 and best[0] > best[1] > best[2] > 0


def test_simulated_steps_repeat_as_often_as_they_should():
    """Chosen right after having gone down: 20,000 draws, 5 standard deviations (chance 6e-7)."""
    mdp = sticky(grid_world(3, 9), 0.25)
    state = np.full(20_000, 4 * 5 + 1)  # the middle cell, previous action down
    _, arrived, _ = mdp.step(state, np.full(20_000, 2), np.random.default_rng(0))
    cells, counts = np.unique(arrived, return_counts=True)
    assert cells.tolist() == [5 * 5 + 2, 7 * 5 + 1]
    assert abs(counts[1] / 20_000 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 20_000)


def test_a_probability_is_a_probability():
    with pytest.raises(ValueError, match="probability"):
        sticky(bait_chain(3, 2, 0.1), 1.5)


def test_new_numbers_for_actions_change_nothing_else():
    mdp = random_mdp(np.random.default_rng(2), S=6, A=4)
    ours = relabel(mdp, 3)
    Q, Q_new = optimal_values(mdp), optimal_values(ours)
    np.testing.assert_allclose(np.sort(Q_new, axis=2), np.sort(Q, axis=2), atol=1e-12)
    moved = 0
    for s in range(5):  # rewards of a state are all different, so they tell which action became which
        where = [int(np.flatnonzero(ours.R[s] == r)[0]) for r in mdp.R[s]]
        np.testing.assert_array_equal(dense(ours)[s, where], dense(mdp)[s])
        moved += where != [0, 1, 2, 3]
    assert moved >= 3
