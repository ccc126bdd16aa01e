"""Oracles of SQIRL and of the effective horizon: enumeration on tiny MDPs, closed forms on chains."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from minirl.core.tabular import FiniteMDP, backup, expected_return, optimal_values, policy_values
from minirl.envs.finite_mdps import bait_chain, from_gymnasium, grid_world, sticky
from minirl.theory import sqirl

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
    assert sqirl.min_k(mdp) == smallest
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
    with pytest.raises(ValueError, match="^k must be a whole number"):
        sqirl.k_qvi(two_doors(), k)
