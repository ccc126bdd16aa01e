"""Oracles of SQIRL and of the effective horizon: enumeration on tiny MDPs, closed forms on chains."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from minirl.core import checkpoint
from minirl.core.tabular import FiniteMDP, expected_return, optimal_values
from minirl.envs.finite_mdps import bait_chain, from_gymnasium, grid_world, sticky
from minirl.theory import sqirl
from minirl.theory import sqirl_gorp as gorp
from minirl.theory import sqirl_regressors as reg

CHAINS = [(3, 2, 0.1), (3, 2, 0.3), (4, 2, 0.2), (5, 2, 0.2), (5, 2, 0.3), (6, 2, 0.7), (4, 3, 0.05), (5, 3, 0.2),
          (6, 3, 0.05), (6, 3, 0.2), (3, 5, 0.1), (4, 4, 0.0)]  # fmt: skip


def random_mdp(seed, S=3, A=2, T=3, ties=False, start=0):
    """A small MDP; with `ties`, rewards and probabilities come in halves and states repeat, so equal values are common."""
    rng = np.random.default_rng(seed)
    if ties:
        P = (np.eye(S)[rng.integers(S, size=(S, A))] + np.eye(S)[rng.integers(S, size=(S, A))]) / 2
        R = (rng.random((S, A)) < 0.5) * rng.integers(1, 3, size=(S, A)).astype(float)
    else:
        P, R = rng.dirichlet(np.ones(S), size=(S, A)), rng.normal(size=(S, A))
    return FiniteMDP(P, R, start, T)


def trajectories(mdp, s, t, T):
    """Every (probability, actions, rewards) of random play from state s at step t to step T."""
    if t > T:
        yield 1.0, (), ()
        return
    P = mdp.P.toarray().reshape(mdp.S, mdp.A, mdp.S)
    for a in range(mdp.A):
        for s2 in np.flatnonzero(P[s, a]):
            for p, actions, rewards in trajectories(mdp, s2, t + 1, T):
                yield P[s, a, s2] / mdp.A * p, (a, *actions), (mdp.R[s, a], *rewards)


def greedy_policies(Q):
    """Every deterministic policy (T, S) of Pi(Q)."""
    T, S, _ = Q.shape
    best = np.abs(Q - Q.max(axis=-1, keepdims=True)) <= 1e-9
    for choice in itertools.product(*(np.flatnonzero(best[t, s]) for t in range(T) for s in range(S))):
        yield np.array(choice).reshape(T, S)


def value_of(mdp, policy):
    """J of a deterministic policy (T, S), by walking the distribution of the states forward."""
    P, d, J = mdp.P.toarray().reshape(mdp.S, mdp.A, mdp.S), mdp.start, 0.0
    for row in policy:
        J += d @ mdp.R[np.arange(mdp.S), row]
        d = d @ P[np.arange(mdp.S), row]
    return J


def best_return(mdp):
    return max(value_of(mdp, np.reshape(c, (mdp.horizon, mdp.S)))
               for c in itertools.product(range(mdp.A), repeat=mdp.horizon * mdp.S))  # fmt: skip


# ------------------------------------------------------------------------------------------------ the exact analysis


def test_random_q_is_the_mean_over_all_trajectories():
    mdp = random_mdp(0)
    Q = sqirl.random_q(mdp)
    for t, s, a in itertools.product((1, 2, 3), range(3), range(2)):
        paths = [(p, sum(r)) for p, actions, r in trajectories(mdp, s, t, 3) if actions[0] == a]
        assert Q[t - 1, s, a] == pytest.approx(2 * sum(p * r for p, r in paths), abs=1e-12)


def test_qvi_is_the_loop():
    mdp = random_mdp(1, S=4, A=3, T=5)
    P, Q = mdp.P.toarray().reshape(4, 3, 4), sqirl.random_q(mdp)
    new = sqirl.qvi(mdp, Q)
    for t, s, a in itertools.product(range(5), range(4), range(3)):
        after = sum(P[s, a, x] * max(Q[t + 1, x]) for x in range(4)) if t < 4 else 0.0
        assert new[t, s, a] == pytest.approx(mdp.R[s, a] + after, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_iterates_rise_to_the_optimum_and_arrive_from_the_end(seed):
    """Eq. (3): Q^i_t = Q*_t for t > T - i, so Q^T = Q*; and Q^1 <= Q^2 <= ... <= Q*."""
    mdp = random_mdp(seed, S=5, A=3, T=6)
    Q, Q_star = sqirl.k_qvi(mdp, 7), optimal_values(mdp)
    for i in range(1, 7):
        np.testing.assert_array_equal(Q[i - 1][6 - i :], Q_star[6 - i :])
        assert (Q[i] >= Q[i - 1] - 1e-12).all() and (Q_star >= Q[i - 1] - 1e-12).all()
    np.testing.assert_array_equal(Q[5], Q_star)
    np.testing.assert_array_equal(Q[6], Q_star)
    assert np.abs(Q[0][0] - Q_star[0]).max() > 0.01


ENUMERATED = [
    *range(12),
    33,
    38,
    66,
    87,
    90,
    202,
    205,
    236,
    239,
    311,
    742,
    752,
    857,
]  # every hard one below 240, and more


@pytest.mark.parametrize("seed", ENUMERATED)
def test_worst_return_and_solvability_by_enumeration_of_all_greedy_policies(seed):
    mdp = random_mdp(seed, ties=True)
    optimum = best_return(mdp)
    solvable = []
    for k, Q in enumerate(sqirl.k_qvi(mdp, 3), start=1):
        returns = [value_of(mdp, policy) for policy in greedy_policies(Q)]
        assert sqirl.greedy_worst_return(mdp, Q) == pytest.approx(min(returns), abs=1e-12)
        solvable.append(min(returns) > optimum - 1e-9)
        assert sqirl.is_solvable(mdp, k) == solvable[-1]
    assert sqirl.min_k(mdp) == solvable.index(True) + 1


def test_the_enumeration_above_sees_all_cases():
    """k_min is 1, 2 and 3, and there are MDPs where some but not all greedy policies are optimal."""
    mdps = [random_mdp(seed, ties=True) for seed in ENUMERATED]
    assert np.bincount([sqirl.min_k(m) for m in mdps]).tolist() == [0, 10, 11, 4]
    spread = [np.ptp([value_of(m, p) for p in greedy_policies(sqirl.random_q(m))]) > 1e-9 for m in mdps]
    assert sum(spread) >= 8


def two_doors():
    """Step 1: a sure 1/2 (action 0), or a room (action 1) whose two actions pay 1 and 0. Both doors tie at k = 1."""
    P = np.zeros((3, 2, 3))
    P[0, 0, 2] = P[0, 1, 1] = 1
    P[1:, :, 2] = 1
    R = np.zeros((3, 2))
    R[0, 0], R[1, 0] = 0.5, 1.0
    return FiniteMDP(P, R, 0, 2)


def test_a_tie_is_broken_against_us():
    mdp = two_doors()
    Q1, Q2 = sqirl.k_qvi(mdp, 2)
    assert (Q1[0, 0] == 0.5).all()
    assert sqirl.greedy_worst_return(mdp, Q1) == 0.5 and sqirl.greedy_worst_return(mdp, Q2) == 1.0
    assert not sqirl.is_solvable(mdp, 1) and sqirl.min_k(mdp) == 2
    assert sqirl.k_gap(mdp, Q1) == 1.0  # the tied first step is skipped, the room is reachable


def test_ties_survive_rounding():
    """0.1 + 0.2 and 0.3 differ as floats; they are one value."""
    P = np.zeros((3, 2, 3))
    P[0, 0, 1] = P[0, 1, 2] = P[1, :, 2] = P[2, :, 2] = 1
    R = np.array([[0.1, 0.3], [0.2, 0.2], [0, 0]])
    mdp = FiniteMDP(P, R, 0, 2)
    Q = sqirl.random_q(mdp)
    assert Q[0, 0, 0] != Q[0, 0, 1] and sqirl.greedy(Q)[0, 0].all() and sqirl.k_gap(mdp, Q) == np.inf


def test_unreachable_states_count_neither_for_solvability_nor_for_the_gap():
    """Behind a door that greedy play never opens lies the two-door problem, unsolved at k = 1, with a tiny gap."""
    P = np.zeros((5, 2, 5))
    P[0, 0, 4] = P[0, 1, 1] = P[1, 0, 4] = P[1, 1, 2] = 1
    P[2:, :, 4] = 1
    R = np.zeros((5, 2))
    R[0, 0], R[1, 0], R[2, 0] = 3.0, 0.6, 1.0
    mdp = FiniteMDP(P, R, 0, 3)
    Q = sqirl.random_q(mdp)
    assert sqirl.greedy(Q)[1, 1].tolist() == [True, False]  # wrong there: 1 can be had
    assert sqirl.is_solvable(mdp, 1) and sqirl.k_gap(mdp, Q) == pytest.approx(3 - 0.55)
    assert not sqirl.is_solvable(replace(mdp, start=np.array([0.5, 0.5, 0, 0, 0])), 1)


def test_the_lower_bound_is_monotone_and_the_return_is_not():
    """J_k >= V^k_1(s_0) >= J(random) always; on slippery FrozenLake (T = 20) J_2 < J_1 = J*, and k = 11 is needed."""
    lake = from_gymnasium("FrozenLake-v1", 20, is_slippery=True)
    optimum = float(lake.start @ optimal_values(lake)[0].max(axis=1))
    Q = sqirl.k_qvi(lake, 20)
    J = [sqirl.greedy_worst_return(lake, q) for q in Q]
    V = [float(lake.start @ q[0].max(axis=1)) for q in Q]
    uniform = expected_return(lake, np.full((lake.S, lake.A), 1 / lake.A))
    assert (np.array(J) >= np.array(V) - 1e-12).all() and (np.diff([uniform, *V]) >= -1e-12).all()
    assert J[1] < J[0] - 0.01 and J[0] == pytest.approx(optimum, rel=0.01)
    assert round(optimum, 3) == 0.199 and round(J[1], 3) == 0.182
    assert sqirl.min_k(lake) == 11


def test_the_gap_is_that_of_q_k_and_not_of_q_star():
    mdp = bait_chain(5, 2, 0.2)
    Q = sqirl.k_qvi(mdp, 5)
    assert sqirl.k_gap(mdp, Q[2]) == pytest.approx(0.05) and sqirl.k_gap(mdp, optimal_values(mdp)) == pytest.approx(0.8)


def test_gap_by_enumeration_of_the_states_that_greedy_play_visits():
    for seed in range(20):
        mdp = random_mdp(seed, S=3, T=3, ties=seed % 2 == 0)
        P, Q = mdp.P.toarray().reshape(3, 2, 3), sqirl.random_q(mdp)
        visited = {(0, 0)}
        for policy in greedy_policies(Q):
            front = {0}
            for t in range(2):
                front = {int(x) for s in front for x in np.flatnonzero(P[s, policy[t, s]])}
                visited |= {(t + 1, s) for s in front}
        gaps = [abs(Q[t, s, 0] - Q[t, s, 1]) for t, s in visited]
        assert sqirl.k_gap(mdp, Q) == pytest.approx(min((g for g in gaps if g > 1e-9), default=np.inf))


def test_a_random_start_equals_a_dummy_state_before_it():
    """The brief's dummy state has one more step, and else the same k_min, gaps, J_k and effective horizon."""
    differ = 0
    for seed in range(20):
        start = np.random.default_rng(seed).dirichlet(np.ones(4))
        start[seed % 4] = 0
        mdp = random_mdp(seed, S=4, A=2, T=4, ties=seed % 2 == 0, start=start / start.sum())
        P = np.zeros((5, 2, 5))
        P[:4, :, :4] = mdp.P.toarray().reshape(4, 2, 4)
        P[4, :, :4] = mdp.start
        dummy = FiniteMDP(P, np.vstack([mdp.R, [0, 0]]), 4, 5)
        H, k, table = sqirl.effective_horizon(mdp, k_max=4)
        H2, k2, table2 = sqirl.effective_horizon(dummy, k_max=4)
        assert (H, k) == (pytest.approx(H2), k2) and sqirl.min_k(mdp) == sqirl.min_k(dummy)
        for row, row2 in zip(table, table2, strict=True):
            assert row == pytest.approx(row2, abs=1e-12)
        differ += sqirl.min_k(replace(mdp, start=int(np.argmax(mdp.start)))) != sqirl.min_k(mdp)
    assert differ  # one start state instead of all would have been another answer


@pytest.mark.parametrize("length, actions, bait", CHAINS)
def test_chain_in_closed_form(length, actions, bait):
    """Q^k_1(forward) = A^-(L - k); k_min is where it exceeds the bait; H by hand over all k."""
    mdp = bait_chain(length, actions, bait)
    value = [float(actions) ** -(length - k) for k in range(1, length + 1)]
    Q = sqirl.k_qvi(mdp, length)
    for k in range(1, length + 1):
        assert Q[k - 1][0, 0, 0] == pytest.approx(value[k - 1], rel=1e-12)
        assert sqirl.is_solvable(mdp, k) == (value[k - 1] > bait)
        worst = 1.0 if value[k - 1] > bait else bait
        assert sqirl.greedy_worst_return(mdp, Q[k - 1]) == pytest.approx(worst)
    smallest = next(k for k in range(1, length + 1) if value[k - 1] > bait)
    H = {k: k + np.log(1 / (value[k - 1] - bait) ** 2) / np.log(actions) for k in range(smallest, length + 1)}
    assert sqirl.min_k(mdp) == sqirl.chain_min_k(length, actions, bait) == smallest
    assert sqirl.chain_effective_horizon(length, actions, bait) == (pytest.approx(min(H.values())), min(H, key=H.get))
    assert [sqirl.chain_q(length, actions, k) for k in range(1, length + 1)] == pytest.approx(value)
    found, k, table = sqirl.effective_horizon(mdp)
    assert found == pytest.approx(min(H.values()), rel=1e-12) and H[k] == pytest.approx(found)
    for row in table:
        assert row["H"] == pytest.approx(H.get(row["k"], np.inf))


def test_the_minimum_lies_above_the_smallest_k():
    H, k, table = sqirl.effective_horizon(bait_chain(5, 2, 0.2))
    assert k == 5 and round(H, 2) == 5.64 and [round(r["H"], 2) for r in table] == [np.inf, np.inf, 11.64, 7.47, 5.64]


@pytest.mark.parametrize("seed", range(20))
def test_stopping_early_loses_no_larger_k(seed):
    mdp = random_mdp(seed, S=4, A=3, T=8, ties=seed % 2 == 0)
    H, k, table = sqirl.effective_horizon(mdp)
    H_all, k_all, all_rows = sqirl.effective_horizon(mdp, k_max=8)
    assert (H, k) == (H_all, k_all) and table == all_rows[: len(table)] and len(all_rows) == 8


def test_the_scale_of_the_rewards_is_divided_out():
    mdp = bait_chain(4, 2, 0.2)
    assert sqirl.effective_horizon(replace(mdp, R=10 * mdp.R), scale=10)[0] == pytest.approx(
        sqirl.effective_horizon(mdp)[0]
    )
    assert sqirl.effective_horizon(replace(mdp, R=10 * mdp.R))[0] < sqirl.effective_horizon(mdp)[0] - 1


def test_where_everything_ties_nothing_has_to_be_learnt():
    mdp = replace(random_mdp(0), R=np.zeros((3, 2)))
    assert sqirl.k_gap(mdp, sqirl.random_q(mdp)) == np.inf and sqirl.effective_horizon(mdp)[:2] == (1.0, 1)


# ----------------------------------------------------------------------------------------- shaping with a potential


def unroll(mdp, phi):
    """The same task with the step in the state, paid Phi_{t+1}(s') - Phi_t(s) on top; phi (T + 1, S). State t * S + s."""
    T, S, A = mdp.horizon, mdp.S, mdp.A
    P, R = np.zeros(((T + 1) * S, A, (T + 1) * S)), np.zeros(((T + 1) * S, A))
    kernel = mdp.P.toarray().reshape(S, A, S)
    for t in range(T):
        here, after = slice(t * S, (t + 1) * S), slice((t + 1) * S, (t + 2) * S)
        P[here, :, after] = kernel
        R[here] = mdp.R + kernel @ phi[t + 1] - phi[t][:, None]
    P[T * S :, :, T * S :] = np.eye(S)[:, None]
    start = np.zeros((T + 1) * S)
    start[:S] = mdp.start
    return FiniteMDP(P, R, start, T)


def test_a_potential_that_ends_at_zero_shifts_every_q_and_changes_no_k():
    """Q'^k_t(s, a) = Q^k_t(s, a) - Phi_t(s); a potential that is kept at the end is another task, with another k."""
    hard = kept = 0
    for seed in range(200):
        mdp = random_mdp(seed, S=4, T=4, ties=True)
        phi = np.random.default_rng(1000 + seed).normal(size=(5, 4))
        phi[4] = 0
        shaped = unroll(mdp, phi)
        assert sqirl.min_k(shaped) == sqirl.min_k(mdp)
        hard += sqirl.min_k(mdp) > 1
        if seed < 20:
            for Q, shaped_Q in zip(sqirl.k_qvi(mdp, 4), sqirl.k_qvi(shaped, 4), strict=True):
                for t in range(4):
                    here = slice(4 * t, 4 * t + 4)
                    np.testing.assert_allclose(shaped_Q[t, here], Q[t] - phi[t][:, None], atol=1e-12)
        phi[4] = 2 * np.random.default_rng(2000 + seed).normal(size=4)
        kept += sqirl.min_k(unroll(mdp, phi)) != sqirl.min_k(mdp)
    assert hard >= 10 and kept >= 10


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_a_planning_depth_that_is_no_count_is_named(k):
    with pytest.raises(ValueError, match=r"^k must be a whole number"):
        sqirl.k_qvi(two_doors(), k)


# --------------------------------------------------------------------------------------------- SQIRL with a table


def first_action(states, t):
    return np.zeros(len(states), dtype=int)


def test_episodes_follow_the_policy_before_step_i_and_are_random_from_step_i_on():
    """40,000 actions a step in 3 cells: each frequency within 5 standard deviations (fails by chance once in 10^5)."""
    mdp = random_mdp(3, S=4, A=3, T=5)
    P = mdp.P.toarray().reshape(4, 3, 4)
    e = sqirl.collect(mdp, lambda s, t: (s + t) % 3, 3, 40_000, np.random.default_rng(0))
    for t in (1, 2):
        np.testing.assert_array_equal(e.action[t - 1], (e.state[t - 1] + t) % 3)
    for t in (3, 4, 5):
        share = np.bincount(e.action[t - 1], minlength=3) / 40_000
        assert np.abs(share - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 40_000)
        pair = np.histogram2d(e.state[t - 1], e.state[t], bins=np.arange(5) - 0.5)[0]
        here = np.bincount(e.state[t - 1], minlength=4)
        expected = P.mean(axis=1)
        bound = 5 * np.sqrt(expected * (1 - expected) / here[:, None])
        assert (np.abs(pair / here[:, None] - expected) < bound).all()
    np.testing.assert_array_equal(e.reward, mdp.R[e.state[:-1], e.action])
    assert e.alive.all() and not e.done.any()


def test_episodes_end_in_terminal_states():
    mdp = bait_chain(4, 2, 0.3)
    e = sqirl.collect(mdp, first_action, 2, 500, np.random.default_rng(1))
    for b in range(500):
        ends = np.flatnonzero(e.state[:, b] == 4)
        length = ends[0] if len(ends) else 4
        assert e.alive[:, b].tolist() == [t < length for t in range(4)]
        assert [t for t in range(4) if e.done[t, b] and e.alive[t, b]] == ([length - 1] if len(ends) else [])
        assert (e.reward[length:, b] == 0).all()


def hand_built():
    """Two episodes of T = 4 with states 0 ... 4, where 4 is terminal; the second one ends with step 2."""
    state = np.array([[0, 0], [1, 2], [2, 4], [3, 4], [1, 4]])
    action = np.array([[0, 1], [1, 0], [0, 0], [1, 0]])
    reward = np.array([[1.0, 2.0], [3.0, 5.0], [7.0, 0.0], [11.0, 0.0]])
    alive = np.array([[True, True], [True, True], [True, False], [True, False]])
    done = np.array([[False, False], [False, True], [False, True], [False, True]])
    return sqirl.Episodes(state, action, reward, alive, done)


def test_labels_of_hand_built_episodes():
    e, gamma = hand_built(), 0.5
    next_q = np.array([[9.0, -9.0], [1.0, 2.0], [4.0, 3.0], [-1.0, -2.0], [100.0, 100.0]])
    for t, states, actions, y in [
        (1, [0, 0], [0, 1], [1 + 1.5 + 1.75 + 1.375, 2 + 2.5]),
        (2, [1, 2], [1, 0], [3 + 3.5 + 2.75, 5]),
        (3, [2], [0], [7 + 5.5]),
        (4, [3], [1], [11]),
    ]:
        got = sqirl.targets(e, t, gamma)
        assert [x.tolist() for x in got] == [states, actions, y]
    for t, y in [(1, [1 + 0.5 * 2, 2 + 0.5 * 4]), (2, [3 + 0.5 * 4, 5]), (3, [7 - 0.5])]:
        assert sqirl.targets(e, t, gamma, next_q)[2].tolist() == y


def test_fitted_q_of_hand_built_episodes():
    """Depth k: returns from step i + k - 1, then backups; near the end of the episodes less than k."""
    e, mdp = hand_built(), random_mdp(0, S=5, A=2, T=4)
    no = -np.inf
    for i, k, expected in [
        (1, 1, [[21.0 + 1, 7.0], [no, no], [no, no], [no, no], [no, no]]),
        (1, 2, [[1 + 21, 2 + 5], [no, no], [no, no], [no, no], [no, no]]),
        (1, 9, [[1 + 21, 2 + 5], [no, no], [no, no], [no, no], [no, no]]),
        (2, 2, [[no, no], [no, 21.0], [5.0, no], [no, no], [no, no]]),
        (3, 1, [[no, no], [no, no], [18.0, no], [no, no], [no, no]]),
    ]:
        np.testing.assert_array_equal(sqirl.fitted_q(e, i, k, reg.Table(mdp)), expected)


def test_only_a_maximum_at_a_shared_state_makes_depth_two_differ_from_depth_one():
    """Two episodes meet in state 1 and part there: the return averages them, the backup takes the better action."""
    state = np.array([[0, 0], [1, 1], [2, 2]])
    e = sqirl.Episodes(
        state,
        np.array([[0, 0], [0, 1]]),
        np.array([[0.0, 0.0], [0.0, 1.0]]),
        np.ones((2, 2), bool),
        np.zeros((2, 2), bool),
    )
    table = reg.Table(random_mdp(0, S=3, A=2, T=2))
    assert sqirl.fitted_q(e, 1, 1, table)[0, 0] == 0.5 and sqirl.fitted_q(e, 1, 2, table)[0, 0] == 1.0


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_with_infinite_data_the_policy_is_greedy_for_q_k_wherever_it_goes(seed, k):
    if seed % 3:
        mdp = random_mdp(seed, S=5, A=3, T=4, ties=seed % 3 == 1)
    else:
        mdp = bait_chain(4, 3, [0.05, 0.2][seed % 2])
    policy, Q = sqirl.sqirl_limit(mdp, k), sqirl.k_qvi(mdp, k)[-1]
    d, P = mdp.start, mdp.P.toarray().reshape(mdp.S, mdp.A, mdp.S)
    for t in range(mdp.horizon):
        for s in range(mdp.S):
            best = np.abs(Q[t, s] - Q[t, s].max()) < 1e-9 if d[s] > 0 else np.ones(mdp.A, bool)
            np.testing.assert_allclose(policy[t, s], best / best.sum(), atol=1e-12)
        d = np.einsum("s,sa,sax->x", d, policy[t], P)
    assert expected_return(mdp, policy) >= sqirl.greedy_worst_return(mdp, Q) - 1e-12


@pytest.mark.parametrize("seed", [5, 10, 12, 14])
@pytest.mark.parametrize("k", [1, 2])
def test_much_data_gives_the_infinite_data_policy(seed, k):
    """All gaps exceed 0.35; labels have a standard deviation below 3, and each mean is over more than 1,900 of them."""
    rng = np.random.default_rng(seed)
    mdp = FiniteMDP(0.2 / 3 + 0.8 * np.eye(3)[rng.integers(3, size=(3, 2))], rng.normal(size=(3, 2)), 0, 3)
    Q = sqirl.k_qvi(mdp, k)[-1]
    assert np.abs(Q[..., 0] - Q[..., 1]).min() > 0.35
    policy, _ = sqirl.sqirl_policy(mdp, k, 60_000, seed=seed)
    limit = sqirl.sqirl_limit(mdp, k)
    np.testing.assert_array_equal(policy[:, limit[0].max(axis=1) > 0][1:], limit[1:])
    np.testing.assert_array_equal(policy[0, 0], limit[0, 0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "length, actions, bait, k, m",
    [(5, 2, 0.2, 2, 30), (5, 2, 0.2, 3, 30), (5, 2, 0.2, 3, 300), (4, 3, 0.05, 2, 100), (4, 3, 0.05, 4, 100),
     (4, 3, 0.05, 3, 30), (3, 2, 0.3, 1, 20)],
)  # fmt: skip
def test_success_on_the_chain_is_the_binomial_of_the_closed_form(length, actions, bait, k, m):
    """500 runs: within 4.5 binomial standard deviations (all seven together fail by chance once in 20,000)."""
    mdp = bait_chain(length, actions, bait)
    won = sum(sqirl.sqirl_policy(mdp, k, m, seed=1000 + s)[1]["return"] > 0.999 for s in range(500)) / 500
    p = sqirl.chain_success(length, actions, bait, k, m)
    assert 0.01 < p < 0.999
    assert abs(won - p) < 4.5 * np.sqrt(p * (1 - p) / 500)


@pytest.mark.parametrize("length, actions, bait", CHAINS[:-1])
def test_more_data_reveal_the_limit(length, actions, bait):
    smallest = sqirl.chain_min_k(length, actions, bait)
    for k in range(1, length + 1):
        p = sqirl.chain_success(length, actions, bait, k, 1_000_000)
        assert p < 1e-6 if k < smallest else p > 1 - 1e-6


def test_noise_can_help_the_wrong_depth():
    """(6, 3, .05), k = 3 < k_min = 4: some successes with m = 300, and none in the end."""
    p = [sqirl.chain_success(6, 3, 0.05, 3, m) for m in (10, 300, 20_000, 200_000)]
    assert p[0] < 0.01 and 0.2 < p[1] < 0.3 and p[2] < 0.1 and p[3] < 1e-6


def test_logged_returns_are_those_of_the_decided_steps_with_random_actions_after_them():
    mdp = sticky(grid_world(3, 6, traps=[(1, 1)], trap_reward=-0.5))
    policy = np.empty((mdp.horizon, mdp.S, mdp.A))
    logs = []
    for log in sqirl.sqirl(mdp, 2, 50, seed=3, policy=policy):
        np.testing.assert_allclose(policy.sum(axis=2), 1)
        assert log["return"] == pytest.approx(expected_return(mdp, policy), abs=1e-12)
        assert (policy[log["iteration"] :] == 1 / mdp.A).all() or log["iteration"] == mdp.horizon
        logs.append(log)
    assert len(logs) == 6 and logs[-1]["progress"] == 1 and logs[-1]["return"] > logs[0]["return"]


def test_steps_count_what_was_played():
    mdp = random_mdp(0, S=3, T=5)
    assert [log["step"] for log in sqirl.sqirl(mdp, 1, 7)] == [35, 70, 105, 140, 175]
    chain = bait_chain(5, 2, 0.2)
    total = [next(sqirl.sqirl(chain, 1, 4000, seed=s))["step"] / 4000 for s in range(3)]
    assert total == pytest.approx([1 + 1 / 2 + 1 / 4 + 1 / 8 + 1 / 16] * 3, abs=0.12)  # 6 standard deviations of 0.019


def test_sqirl_stops_when_no_random_step_was_left_for_more_than_ten_iterations():
    mdp = replace(bait_chain(2, 2, 0.3), horizon=40)
    logs = list(sqirl.sqirl(mdp, 2, 100))
    assert [log["iteration"] for log in logs] == list(range(1, 14)) and logs[-1]["progress"] == 1
    assert logs[-1]["return"] == 1


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    mdp = sticky(grid_world(3, 6))
    runs = [list(sqirl.sqirl(mdp, 1, 20, seed=s)) for s in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


def test_solves_a_sticky_grid():
    mdp = sticky(grid_world(4, 12))
    best = float(mdp.start @ optimal_values(mdp)[0].max(axis=1))
    for s in (100, 101):
        assert sqirl.sqirl_policy(mdp, 1, 3000, seed=s)[1]["return"] > 0.98 * best


def test_the_wrong_action_bound_holds_and_is_not_empty():
    """Step 1 of 200 tables on one MDP: how often the action is wrong, beside 4 A MSE / gap^2 at the start state."""
    mdp = bait_chain(3, 2, 0.05)
    Q, gap = sqirl.random_q(mdp)[0, 0], 0.25 - 0.05
    for m, largest in ((400, 0.2), (3000, 0.05)):
        wrong, errors = [], []
        for s in range(200):
            episodes = sqirl.collect(mdp, first_action, 1, m, np.random.default_rng(s))
            fit = sqirl.fitted_q(episodes, 1, 1, reg.Table(mdp))[0]
            wrong.append(np.argmax(fit) != np.argmax(Q))
            errors.append(np.mean((fit - Q) ** 2))
        bound = sqirl.wrong_action_bound(np.mean(errors), gap, 2)
        assert np.mean(wrong) <= bound < largest
    assert sqirl.wrong_action_bound(0.01, 0.5, 3) == pytest.approx(0.48)
    assert sqirl.wrong_action_bound(1.0, 0.1, 3) == 1.0


@pytest.mark.parametrize(
    "options, name", [({"k": 0}, "k"), ({"m": 0}, "m"), ({"m": 2.5}, "m"), ({"gamma": 0.0}, "gamma"), ({"gamma": 1.1}, "gamma")]
)  # fmt: skip
def test_bad_options_of_sqirl_are_named(options, name):
    with pytest.raises(ValueError, match=f"^{name} must"):
        next(sqirl.sqirl(two_doors(), **({"k": 1, "m": 10} | options)))


# --------------------------------------------------------------------------------------------------- the regressions


def labels(seed=0, n=400, S=7, A=3):
    rng = np.random.default_rng(seed)
    X, a = rng.integers(S - 1, size=n), rng.integers(A, size=n)  # the last state is never seen
    return X, a, X * 0.3 - a * (X == 2) + rng.normal(size=n), random_mdp(0, S=S, A=A)


def test_table_is_the_mean():
    X, a, y, mdp = labels()
    table = reg.Table(mdp)
    table.fit(X[::-1], a, y)  # forgotten by the second fit
    table.fit(X, a, y)
    Q = table.predict(np.arange(7))
    for s, b in itertools.product(range(6), range(3)):
        assert Q[s, b] == pytest.approx(np.mean([v for x, c, v in zip(X, a, y, strict=True) if (x, c) == (s, b)]))
    assert (Q[6] == -np.inf).all() and table.predict(np.array([3, 3])).tolist() == [Q[3].tolist()] * 2


@pytest.mark.parametrize("with_features", [True, False])
def test_ridge_is_the_minimum_of_the_penalised_squares(with_features):
    """Against the normal equations of all weights at once, with the one-hot written out."""
    X, a, y, mdp = labels(1)
    features = np.random.default_rng(2).normal(size=(7, 2)) if with_features else None
    ridge = reg.Ridge(mdp, features, penalty=0.7)
    ridge.fit(X, a, y)
    inputs = np.hstack([np.eye(7), np.ones((7, 1))] + ([features] if with_features else []))
    for b in range(3):
        Z = inputs[X[a == b]]
        w = np.linalg.solve(Z.T @ Z + 0.7 * np.eye(Z.shape[1]), Z.T @ y[a == b])
        np.testing.assert_allclose(ridge.predict(np.arange(7))[:, b], inputs @ w, atol=1e-10)


def test_neighbours_is_the_mean_of_the_nearest_labels():
    """Against sorting all n labels by distance, with the label at the edge of the neighbourhood counted in part."""
    X, a, y, mdp = labels(3)
    features = np.random.default_rng(4).normal(size=(7, 2))
    model = reg.Neighbours(mdp, features)
    model.fit(X, a, y)
    for s, b in itertools.product(range(7), range(3)):
        distance = np.linalg.norm(features[X[a == b]] - features[s], axis=1)
        left, total = np.ceil(np.sqrt(np.sum(a == b))), 0.0
        wanted = left
        for d in np.unique(distance):
            ring = y[a == b][distance == d]
            take = min(left, len(ring))
            total, left = total + take * ring.mean(), left - take
        assert model.predict(np.array([s]))[0, b] == pytest.approx(total / wanted)


@pytest.mark.slow
def test_network_matches_the_table_on_what_was_seen():
    X, a, y, mdp = labels(5, n=2000, S=30)
    table, network = reg.Table(mdp), reg.Network(mdp, steps=400)
    table.fit(X, a, y)
    network.fit(X, a, y)
    seen = np.arange(29)
    assert np.mean((network.predict(seen) - table.predict(seen)) ** 2) < 1e-3
    assert np.std(table.predict(seen)) > 1  # a constant would not do


def test_network_minimises_the_squares_of_the_labels_not_of_the_means():
    """With one constant feature it can only fit one number an action: the mean of all labels, not of the state means."""
    X, a = np.array([0] * 90 + [1] * 10), np.zeros(100, dtype=int)
    y = np.where(X == 0, 0.0, 1.0)
    network = reg.Network(random_mdp(0), np.ones((3, 1)), steps=500)
    network.fit(X, a, y)
    assert network.predict(np.array([2]))[0, 0] == pytest.approx(0.1, abs=0.01)


def test_graph_features_keep_the_distances_of_a_line():
    P = np.zeros((6, 2, 6))
    P[np.arange(6), 0, np.minimum(np.arange(6) + 1, 5)] = 1
    P[np.arange(6), 1, np.maximum(np.arange(6) - 1, 0)] = 1
    mdp = FiniteMDP(P, np.ones((6, 2)), 0, 4)
    F = reg.graph_features(mdp, 3)
    distance = np.linalg.norm(F[:, None] - F[None], axis=2)
    np.testing.assert_allclose(distance, np.abs(np.arange(6)[:, None] - np.arange(6)), atol=1e-9)


def test_graph_features_take_no_short_cut_through_a_terminal_state():
    F = reg.graph_features(bait_chain(5, 2, 0.2))
    away = np.linalg.norm(F[:5] - F[0], axis=1)
    assert (np.diff(away) > 0.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("regressor", [reg.Ridge, reg.Neighbours, reg.Network])
def test_any_regression_does(regressor):
    """k = 1 on the sticky 3x3 grid and k = k_min on a chain; the chain one depth below stays stuck at the bait."""
    mdp = sticky(grid_world(3, 6))
    best = float(mdp.start @ optimal_values(mdp)[0].max(axis=1))
    options = {"regressor": regressor, "seed": 100}
    assert sqirl.sqirl_policy(mdp, 1, 1500, **options)[1]["return"] > 0.95 * best
    chain = bait_chain(4, 2, 0.2)
    options["features"] = reg.graph_features(chain)
    assert [sqirl.sqirl_policy(chain, k, 4000, **options)[1]["return"] for k in (1, 2)] == pytest.approx([0.2, 1])


@pytest.mark.parametrize("regressor", [reg.Ridge, reg.Neighbours, reg.Network])
def test_bad_features_are_named(regressor):
    with pytest.raises(ValueError, match=r"features must have shape \(S, D\) with S = 3"):
        regressor(random_mdp(0), np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"features\[1, 0\] is nan"):
        regressor(random_mdp(0), np.array([[0.0], [np.nan], [1.0]]))


# --------------------------------------------------------------------------------------------------- the deep version

SMALL = sqirl.Config(horizon=5, sticky=0.0, k=3, hidden=(16,), lr=5e-3)


def test_targets_of_the_heads_are_the_loop():
    """Head 1: the return. Head j: reward + gamma max head j - 1 at the next state. After the end: the reward."""
    rng = np.random.default_rng(0)
    reward, returns, next_q = rng.normal(size=6), rng.normal(size=6), rng.normal(size=(6, 3, 2))
    done = np.array([0.0, 1, 0, 1, 0, 0])
    y = sqirl.head_targets(*map(torch.as_tensor, (reward, done, returns, next_q)), 0.9)
    assert y.shape == (6, 3)
    for b in range(6):
        expected = [returns[b]] + [reward[b] + (0 if done[b] else 0.9 * max(next_q[b, j - 1])) for j in (1, 2)]
        assert y[b].tolist() == pytest.approx(expected)
    assert sqirl.head_targets(*map(torch.as_tensor, (reward, done, returns, next_q[:, :1])), 0.9).shape == (6, 1)


def test_the_last_head_and_the_gradient_stay_out_of_the_targets():
    next_q = torch.zeros(4, 2, 3, requires_grad=True)
    y = sqirl.head_targets(torch.ones(4), torch.zeros(4), torch.ones(4), next_q, 1.0)
    assert not y.requires_grad
    other = next_q.detach().clone()
    other[:, 1] = 100.0
    torch.testing.assert_close(sqirl.head_targets(torch.ones(4), torch.zeros(4), torch.ones(4), other, 1.0), y)


def test_each_head_is_scaled_by_the_running_mean_of_its_own_loss():
    q, y = torch.zeros(5, 2), torch.tensor([[10.0, 0.1]]).expand(5, 2)
    average = None
    for _ in range(3):
        loss, average = sqirl.scaled_loss(q, y, average, 0.99)
        assert float(loss) == pytest.approx(1.0)
    assert average.tolist() == pytest.approx([100.0, 0.01])
    loss, average = sqirl.scaled_loss(q, 2 * y, average, 0.99)
    assert average.tolist() == pytest.approx([103.0, 0.0103]) and float(loss) == pytest.approx(4 / 1.03)
    weights = torch.zeros(5, 2, requires_grad=True)
    sqirl.scaled_loss(weights, y, torch.tensor([100.0, 0.01]), 0.99)[0].backward()
    assert weights.grad[0].tolist() == pytest.approx([-2 * 10 / 100 / 10, -2 * 0.1 / 0.01 / 10])  # mean over 10 entries


def test_only_steps_from_i_on_are_remembered_with_their_returns():
    mdp = random_mdp(0, S=4, A=2, T=4)
    agent = sqirl.SQIRL(replace(SMALL, gamma=0.5), mdp)
    rng = np.random.default_rng(0)
    kept = []
    for i in (1, 3):
        e = sqirl.collect(mdp, first_action, i, 6, rng)
        agent.remember(e, i)
        for t in range(i, 5):
            for b in range(6):
                back = sum(0.5**u * e.reward[t - 1 + u, b] for u in range(5 - t))
                kept.append((e.state[t - 1, b], e.action[t - 1, b], e.reward[t - 1, b], e.state[t, b], t == 4, back))
    stored = list(zip(*(column.tolist() for column in agent.data), strict=True))
    np.testing.assert_allclose(stored, kept, atol=1e-6)


def test_the_replay_has_no_steps_after_the_end_and_drops_the_oldest():
    mdp = bait_chain(4, 2, 0.2)
    agent = sqirl.SQIRL(replace(SMALL, buffer_size=300), mdp)
    e = sqirl.collect(mdp, first_action, 1, 200, np.random.default_rng(0))
    agent.remember(e, 1)
    assert len(agent.data[0]) == min(300, int(e.alive.sum())) == 300
    assert (agent.data[0] < 4).all()  # no transition starts in the terminal state
    assert (agent.data[4] == ((agent.data[3] == 4) | (agent.data[0] == 3)).float()).all()
    newest = e.state[:-1][e.alive][-300:]
    np.testing.assert_array_equal(agent.data[0], newest)


def test_each_step_is_played_by_its_own_snapshot_for_ever():
    """Not by the last network: the greedy actions of every snapshot are those of the network when it was taken."""
    mdp = random_mdp(2, S=6, A=3, T=5)
    agent = sqirl.SQIRL(replace(SMALL, episodes=30), mdp)
    then, states = [], torch.arange(6)
    for log in agent.learn(10_000):
        if "iteration" in log:
            then.append(agent(states).detach().clone())
            assert int(agent.decided) == log["iteration"] == len(then)
            undecided = agent.act(np.arange(6), len(then) + 1)
            np.testing.assert_array_equal(undecided, then[-1][:, -1].argmax(dim=1))
            for row in agent.policy()[len(then) :]:
                np.testing.assert_array_equal(row.argmax(axis=1), undecided)
    assert len(then) == 5
    policy = agent.policy()
    for t in range(1, 6):
        torch.testing.assert_close(agent(states, t), then[t - 1])
        np.testing.assert_array_equal(policy[t - 1], np.eye(3)[then[t - 1][:, -1].argmax(dim=1)])
        np.testing.assert_array_equal(policy[t - 1].argmax(axis=1), agent.act(np.arange(6), t))
    assert any(not torch.equal(then[0], later) for later in then[1:])


def test_forward_is_a_perceptron_on_the_one_hot_or_on_the_features():
    mdp = random_mdp(2, S=6, A=3, T=5)
    for features in (None, np.random.default_rng(0).normal(size=(6, 4))):
        agent = sqirl.SQIRL(SMALL, mdp, features)
        inputs = torch.eye(6) if features is None else torch.as_tensor(features, dtype=torch.float32)
        expected = agent.net(inputs).view(6, 3, 3)  # heads before actions
        torch.testing.assert_close(agent(torch.arange(6)), expected)
        torch.testing.assert_close(agent(torch.tensor([4, 4]), 2), agent.snapshots(inputs)[1, [4, 4]].view(2, 3, 3))


def test_one_update_is_one_adam_step_on_the_scaled_loss_with_the_current_network_in_the_target():
    mdp = random_mdp(2, S=6, A=3, T=5)
    agent, twin = sqirl.SQIRL(SMALL, mdp), sqirl.SQIRL(SMALL, mdp)
    agent.remember(sqirl.collect(mdp, first_action, 1, 8, np.random.default_rng(0)), 1)
    state, action, reward, next_state, done, returns = agent.data
    q = torch.stack([twin.net(torch.eye(6)).view(6, 3, 3)[s, :, a] for s, a in zip(state, action, strict=True)])
    after = twin.net(torch.eye(6)).view(6, 3, 3)[next_state].max(dim=2).values.detach()
    y = torch.stack([returns] + [reward + (1 - done) * after[:, j] for j in (0, 1)], dim=1)
    per_head = ((q - y) ** 2).mean(dim=0)
    (per_head / per_head.detach()).mean().backward()
    optimiser = torch.optim.Adam(twin.net.parameters(), SMALL.lr)
    optimiser.step()
    assert float(agent.update(agent.data)) == pytest.approx(1.0)
    for ours, expected in zip(agent.net.parameters(), twin.net.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_long_gradients_are_shortened():
    mdp = random_mdp(2, S=6, A=3, T=5)
    agent = sqirl.SQIRL(SMALL, mdp)
    agent.remember(sqirl.collect(mdp, first_action, 1, 8, np.random.default_rng(0)), 1)
    norm = lambda: float(torch.cat([p.grad.flatten() for p in agent.net.parameters()]).norm())  # noqa: E731
    agent.update(agent.data)
    assert 0.1 < norm() < 9
    agent.loss_mean = torch.full((3,), 1e-9)
    agent.update(agent.data)
    assert norm() == pytest.approx(10, rel=1e-3)


@pytest.mark.parametrize("k, expected", [(1, 0.35), (2, 1.0)])
def test_the_deep_version_needs_the_same_depth(k, expected):
    """k_min of this chain is 2; with 600 episodes the returns are 4 standard deviations away from the other decision."""
    mdp = bait_chain(3, 2, 0.35)
    agent = sqirl.SQIRL(replace(SMALL, k=k, hidden=(64, 64), lr=1e-3, episodes=600, seed=100), mdp)
    *_, log = agent.learn(100_000)
    assert log["return"] == pytest.approx(expected) and log["progress"] == 1
    assert log["return"] == pytest.approx(expected_return(mdp, agent.policy()))


def test_the_budget_is_spread_over_the_decisions_and_never_exceeded():
    mdp = random_mdp(0, S=3, A=2, T=5)
    for steps in (25, 140, 1000):
        logs = list(sqirl.SQIRL(SMALL, mdp).learn(steps))
        assert [log.get("iteration", 0) for log in logs] == list(range(6))
        assert steps - 25 <= logs[-1]["step"] <= steps
    chain = bait_chain(5, 2, 0.2)  # random episodes end early here, so there is time for more of them
    *_, log = sqirl.SQIRL(SMALL, chain).learn(3000)
    assert 1500 < log["step"] <= 3000  # five times the first share would give less than 1200
    logs = list(sqirl.SQIRL(replace(SMALL, episodes=20), mdp).learn(250))
    assert [log["step"] for log in logs] == [0, 100, 200, 250]
    for config, steps in ((SMALL, 24), (replace(SMALL, episodes=20), 99)):
        with pytest.raises(ValueError, match=r"^steps must be at least"):
            next(sqirl.SQIRL(config, mdp).learn(steps))


def test_the_deep_version_stops_when_no_random_step_was_left_for_more_than_ten_iterations():
    mdp = replace(bait_chain(2, 2, 0.0), horizon=40)
    logs = list(sqirl.SQIRL(replace(SMALL, episodes=10), mdp).learn(100_000))
    assert [log["iteration"] for log in logs[1:]] == list(range(1, 14)) and logs[-1]["progress"] == 1


def test_two_agents_trained_in_turns_are_those_trained_alone():
    mdp = random_mdp(2, S=6, A=3, T=5)
    make = lambda seed: sqirl.SQIRL(replace(SMALL, seed=seed), mdp).learn(400)  # noqa: E731
    assert list(zip(make(1), make(2), strict=True)) == list(zip(list(make(1)), list(make(2)), strict=True))
    assert list(make(1)) != list(make(2))


def test_a_checkpoint_acts_as_the_agent_that_was_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "agent_module", lambda slug: sqirl)
    config = replace(SMALL, env_id="FrozenLake-v1", sticky=0.25)
    agent = sqirl.SQIRL(config)
    for log in agent.learn(300):
        if log.get("iteration") == 3:
            break
    checkpoint.save(agent, "sqirl", log["step"], tmp_path / "sqirl.safetensors")
    loaded = checkpoint.load(tmp_path / "sqirl.safetensors")
    assert loaded.config == config and int(loaded.decided) == 3
    np.testing.assert_array_equal(loaded.policy(), agent.policy())


def test_the_config_names_the_task():
    lake = sqirl.make_mdp(sqirl.Config(env_id="FrozenLake-v1", horizon=9, sticky=0.0))
    assert (lake.S, lake.A, lake.horizon) == (16, 4, 9)
    assert sqirl.make_mdp(sqirl.Config(env_id="FrozenLake-v1", horizon=9)).S == 16 * 5
    pytest.importorskip("minigrid")
    empty = sqirl.make_mdp(sqirl.Config())
    assert empty.A == 3 and empty.horizon == 20 and empty.name == "Empty-5x5 sticky 0.25"


@pytest.mark.parametrize("field, value", [("horizon", 0), ("k", 0), ("episodes", 0), ("gamma", 1.5), ("gamma", 0.0),
                                          ("epochs", 0), ("batch_size", -1), ("smoothing", 1.0), ("buffer_size", 0), ("sticky", 1.5)])  # fmt: skip
def test_a_bad_field_of_the_config_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must"):
        sqirl.Config(**{field: value})


@pytest.mark.parametrize("env_id, words", [("FrozenLake-v99", "env_id 'FrozenLake-v99'"), ("MiniGrid-Nowhere-v0", "Nowhere"),
                                           ("CartPole-v1", "no table of transitions")])  # fmt: skip
def test_an_environment_that_is_none_is_named(env_id, words):
    with pytest.raises(ValueError, match=words):
        sqirl.SQIRL(sqirl.Config(env_id=env_id))


# ------------------------------------------------------------------------------------------------------------- GORP


def deterministic_mdp(seed, S=5, A=2, T=4):
    rng = np.random.default_rng(seed)
    return FiniteMDP(np.eye(S)[rng.integers(S, size=(S, A))], rng.normal(size=(S, A)), 0, T)


@pytest.mark.parametrize("seed", range(5))
def test_in_a_deterministic_task_the_best_plan_is_q_k(seed):
    mdp = deterministic_mdp(seed)
    Q = sqirl.k_qvi(mdp, 4)
    for i, k, s in itertools.product((1, 2, 3), (1, 2, 3), range(5)):
        depth = min(k, 5 - i)
        plans = gorp.plan_values(mdp, np.eye(5)[s], i, depth).reshape(2, -1)
        np.testing.assert_allclose(plans.max(axis=1), Q[depth - 1][i - 1, s], atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("k", [1, 2, 3])
def test_without_noise_gorp_and_sqirl_decide_alike_also_behind_a_stickiness_of_zero(seed, k):
    mdp = deterministic_mdp(seed)
    actions = gorp.gorp_limit(mdp, k)
    for task in (mdp, sticky(mdp, 0.0)):
        policy, s, played = sqirl.sqirl_limit(task, k), int(np.argmax(task.start)), []
        for t in range(task.horizon):
            assert policy[t, s].max() == 1
            played.append(int(policy[t, s].argmax()))
            s = int(task.P[[s * task.A + played[-1]]].indices[0])
        np.testing.assert_array_equal(played, actions)
        np.testing.assert_array_equal(gorp.gorp_limit(task, k), actions)
        worst = sqirl.greedy_worst_return(task, sqirl.k_qvi(task, k)[-1])
        assert gorp.open_loop_return(task, actions) == pytest.approx(worst, abs=1e-12)


def test_open_loop_return_is_the_mean_over_trajectories():
    mdp = random_mdp(4)
    for plan in ((), (1,), (0, 1), (1, 1, 0)):
        paths = [(p, sum(r)) for p, actions, r in trajectories(mdp, 0, 1, 3) if actions[: len(plan)] == plan]
        expected = 2 ** len(plan) * sum(p * r for p, r in paths)
        assert gorp.open_loop_return(mdp, np.array(plan, dtype=int)) == pytest.approx(expected, abs=1e-12)


def coin():
    """A coin is shown; naming it pays 1. A sequence of actions cannot look at it."""
    P = np.zeros((4, 2, 4))
    P[0, :, 1:3] = 0.5
    P[1:, :, 3] = 1
    return FiniteMDP(P, np.array([[0, 0], [1, 0], [0, 1], [0, 0]]), 0, 2)


def test_open_loop_plans_fail_where_noise_has_to_be_answered():
    for k in (1, 2):
        assert gorp.open_loop_return(coin(), gorp.gorp_limit(coin(), k)) == 0.5
        assert expected_return(coin(), sqirl.sqirl_limit(coin(), k)) == 1.0
        assert sqirl.sqirl_policy(coin(), k, 200)[1]["return"] == 1.0
        assert [log["return"] for log in gorp.gorp(coin(), k, 200)][-1] == 0.5


def test_gorp_with_much_data_fixes_the_actions_of_the_limit():
    """Chain (5, 2, .2) at k = 3: fixing forward first needs a mean of Bin(4000, 1/4) / 4000 above .2, 7 sd away."""
    mdp = bait_chain(5, 2, 0.2)
    for k, expected in ((2, 0.2), (3, 1.0)):
        logs = list(gorp.gorp(mdp, k, 4000, seed=1))
        assert logs[-1]["return"] == pytest.approx(expected)
        if k == 3:
            assert [log["action"] for log in logs] == gorp.gorp_limit(mdp, k).tolist() == [0] * 5


def test_gorp_counts_its_steps():
    mdp = random_mdp(0, S=3, A=2, T=3)
    assert [log["step"] for log in gorp.gorp(mdp, 2, 5)] == [60, 120, 150]
    with pytest.raises(ValueError, match=r"^k must"):
        next(gorp.gorp(mdp, 0, 5))
    with pytest.raises(ValueError, match=r"^m must"):
        next(gorp.gorp(mdp, 1, 0))


# ------------------------------------------------------------------- the wrong answers that the assignment must reject

WRONG = {
    "random_q": {
        "the best action instead of a random one": """
def random_q(P, R, T):
    Q, V = np.empty((T, *R.shape)), np.zeros(len(R))
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V = Q[t].max(axis=1)
    return Q
""",
        "one step too many": """
def random_q(P, R, T):
    Q, V = np.empty((T, *R.shape)), R.mean(axis=1)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V = Q[t].mean(axis=1)
    return Q
""",
        "rows in the order of steps to go": """
def random_q(P, R, T):
    Q, V = np.empty((T, *R.shape)), np.zeros(len(R))
    for t in range(T):
        Q[t] = R + P @ V
        V = Q[t].mean(axis=1)
    return Q
""",
        "the first action is random too": """
def random_q(P, R, T):
    Q, V = np.empty((T, *R.shape)), np.zeros(len(R))
    for t in reversed(range(T)):
        Q[t] = R.mean(axis=1, keepdims=True) + P @ V
        V = Q[t].mean(axis=1)
    return Q
""",
        "sums over the later actions": """
def random_q(P, R, T):
    Q, V = np.empty((T, *R.shape)), np.zeros(len(R))
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V = Q[t].sum(axis=1)
    return Q
""",
        "last step left at zero": """
def random_q(P, R, T):
    Q = np.zeros((T, *R.shape))
    for t in reversed(range(T - 1)):
        Q[t] = R + P @ Q[t + 1].mean(axis=1)
    return Q
""",
        "does not work for a single step": """
def random_q(P, R, T):
    Q = np.empty((T, *R.shape))
    Q[T - 1] = R
    Q[T - 2] = R + P @ R.mean(axis=1)
    for t in reversed(range(T - 2)):
        Q[t] = R + P @ Q[t + 1].mean(axis=1)
    return Q
""",
    },
    "min_k": {
        "one greedy policy, the first best action": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = (R + P @ V)[np.arange(S), Q[t].argmax(axis=1)]
        if V[s0] >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "the luckiest tie": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] >= Q[t].max(axis=1, keepdims=True) - 1e-9, R + P @ V, -np.inf).max(axis=1)
        if V[s0] >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "asks for the right action in every state, reachable or not": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, star = np.empty((T, *R.shape)), np.empty((T, *R.shape))
    V, best = np.zeros(S), np.zeros(S)
    for t in reversed(range(T)):
        Q[t], star[t] = R + P @ V, R + P @ best
        V, best = Q[t].mean(axis=1), star[t].max(axis=1)
    for k in range(1, T + 1):
        greedy = Q >= Q.max(axis=2, keepdims=True) - 1e-9
        right = star >= star.max(axis=2, keepdims=True) - 1e-9
        if (right | ~greedy).all():
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "starts everywhere instead of in s0": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] >= Q[t].max(axis=1, keepdims=True) - 1e-9, R + P @ V, np.inf).min(axis=1)
        if (V >= best - 1e-9).all():
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "counts from zero": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(T):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] >= Q[t].max(axis=1, keepdims=True) - 1e-9, R + P @ V, np.inf).min(axis=1)
        if V[s0] >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "ties only between equal floats": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] == Q[t].max(axis=1, keepdims=True), R + P @ V, np.inf).min(axis=1)
        if V[s0] >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "searches down from T, as if a larger k were always at least as good": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    solvable = []
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] >= Q[t].max(axis=1, keepdims=True) - 1e-9, R + P @ V, np.inf).min(axis=1)
        solvable.append(V[s0] >= best[s0] - 1e-9)
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
    k = T
    while k > 1 and solvable[k - 2]:
        k -= 1
    return k
""",
        "compares what Q^k believes with the best return": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        if Q[0, s0].max() >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "the actions of the first step at every step": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        greedy = Q[0] >= Q[0].max(axis=1, keepdims=True) - 1e-9
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(greedy, R + P @ V, np.inf).min(axis=1)
        if V[s0] >= best[s0] - 1e-9 or k == T:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "bootstraps after the last step": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] >= Q[t].max(axis=1, keepdims=True) - 1e-9, R + P @ V, np.inf).min(axis=1)
        if V[s0] >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ Q[min(t + 1, T - 1)].max(axis=1) for t in range(T)])
""",
    },
    "effective_horizon": {
        "natural logarithm": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "the smallest solvable k only": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    if not solvable.any():
        return np.inf
    k = solvable.argmax()
    return k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1])
""",
        "every k, solvable or not": """
def effective_horizon(Qs, met, solvable):
    if not solvable.any():
        return np.inf
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min(k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in range(len(Qs)))
""",
        "places where all actions are best count as gap 0": """
def effective_horizon(Qs, met, solvable):
    ordered = np.sort(Qs, axis=-1)
    top = ordered[..., -1:]
    rest = np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    rest = np.where(np.isfinite(rest), rest, top[..., 0])
    gap = np.where(met, top[..., 0] - rest, np.inf).min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "the two largest values, even when they tie": """
def effective_horizon(Qs, met, solvable):
    ordered = np.sort(Qs, axis=-1)
    distance = ordered[..., -1] - ordered[..., -2]
    distance = np.where(distance > 1e-9, distance, np.inf)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "best against worst action": """
def effective_horizon(Qs, met, solvable):
    distance = Qs.max(-1) - Qs.min(-1)
    distance = np.where(distance > 1e-9, distance, np.inf)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "all states, met or not": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = distance.min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "gap not squared": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k + 1 - np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "k counts from zero": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "ties only between equal floats": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "mean gap": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.nanmean(np.where(met & np.isfinite(distance), distance, np.nan), axis=(1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
    },
    "sqirl_iteration": {
        "the random policy's values, whatever k is": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    played = np.arange(1, T + 1) <= length[:, None]
    here = length >= i
    y = np.where(played, reward, 0.0)[:, i - 1:].sum(1)
    total, count = np.zeros((S, A)), np.zeros((S, A))
    np.add.at(total, (state[here, i - 1], action[here, i - 1]), y[here])
    np.add.at(count, (state[here, i - 1], action[here, i - 1]), 1)
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf)
""",
        "the sum of rewards starts at step i": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, i - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "bootstraps after the end of an episode": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + Q.max(1)[state[:, t - 1]]
    return Q
""",
        "counts what is written after the end": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    y = reward[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "pools the steps": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    played = np.arange(1, T + 1) <= length[:, None]
    paid = np.where(played, reward, 0.0)
    back = paid[:, ::-1].cumsum(1)[:, ::-1]
    use = played & (np.arange(1, T + 1) >= i)
    place = state[use], action[use]
    y = back
    for j in range(min(k, T - i + 1)):
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, place, y[use])
        np.add.at(count, place, 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        after = np.zeros((len(state), T))
        after[:, :-1] = np.where(played[:, 1:], Q.max(1)[np.where(played, state, 0)][:, 1:], 0)
        y = paid + after
    return Q
""",
        "uses the steps before i": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    first, i = i, 1
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "the mean over the next actions instead of the best": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, np.where(np.isfinite(Q), Q, 0).mean(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "bootstraps from the action that was taken": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            next_q = Q[np.where(here, state[:, t - 1], 0), np.where(here, action[:, t - 1], 0)]
            y = reward[:, t - 2] + np.where(here, next_q, 0)
    return Q
""",
        "divides by the number of episodes": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / len(state), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "the depth is not cut at the end of the episode": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = i + k - 1
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    Q = np.zeros((S, A))
    for t in range(min(last, T), i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "pairs without data are worth 0": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = total / np.maximum(count, 1)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return np.where(count > 0, Q, -np.inf)
""",
        "one regression too many": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
    },
    "lucky": {
        "the limit of many episodes": """
def lucky(A, L, k, m, b):
    return float(A ** -(L - k) > b)
""",
        "one paid episode is enough": """
def lucky(A, L, k, m, b):
    return 1 - (1 - A ** -float(L)) ** m
""",
        "takes the expected number of episodes for N": """
def lucky(A, L, k, m, b):
    from math import comb
    N = max(round(m * A ** -float(k)), 1)
    p = A ** -float(L - k)
    return sum(comb(N, W) * p**W * (1 - p) ** (N - W) for W in range(N + 1) if W / N > b + 1e-9)
""",
        "divides by all episodes": """
def lucky(A, L, k, m, b):
    from math import comb
    p = A ** -float(L)
    return sum(comb(m, W) * p**W * (1 - p) ** (m - W) for W in range(m + 1) if W / m > b + 1e-9)
""",
        "a tie counts as success": """
def lucky(A, L, k, m, b):
    from math import comb
    reach, win, total = A ** -float(k), A ** -float(L - k), 0.0
    for N in range(1, m + 1):
        for W in range(N + 1):
            if W / N > b - 1e-9:
                total += comb(m, N) * reach**N * (1 - reach) ** (m - N) * comb(N, W) * win**W * (1 - win) ** (N - W)
    return total
""",
        "given that somebody went forward": """
def lucky(A, L, k, m, b):
    from math import comb
    reach, win, total = A ** -float(k), A ** -float(L - k), 0.0
    for N in range(1, m + 1):
        for W in range(N + 1):
            if W / N > b + 1e-9:
                total += comb(m, N) * reach**N * (1 - reach) ** (m - N) * comb(N, W) * win**W * (1 - win) ** (N - W)
    return total / (1 - (1 - reach) ** m)
""",
        "k steps left instead of L - k": """
def lucky(A, L, k, m, b):
    from math import comb
    reach, win, total = A ** -float(L - k), A ** -float(k), 0.0
    for N in range(1, m + 1):
        for W in range(N + 1):
            if W / N > b + 1e-9:
                total += comb(m, N) * reach**N * (1 - reach) ** (m - N) * comb(N, W) * win**W * (1 - win) ** (N - W)
    return total
""",
        "one forward step too few before the estimate": """
def lucky(A, L, k, m, b):
    from math import comb
    reach, win, total = A ** -float(k - 1), A ** -float(L - k + 1), 0.0
    for N in range(1, m + 1):
        for W in range(N + 1):
            if W / N > b + 1e-9:
                total += comb(m, N) * reach**N * (1 - reach) ** (m - N) * comb(N, W) * win**W * (1 - win) ** (N - W)
    return total
""",
        "normal approximation": """
def lucky(A, L, k, m, b):
    from math import erfc, sqrt
    N, p = m * A ** -float(k), A ** -float(L - k)
    return 0.5 * erfc((b - p) / sqrt(2 * max(p * (1 - p), 1e-9) / N))
""",
    },
}
