"""Finite MDPs against enumeration: every number here is also computed without the code under test."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from minirl.core import tabular
from minirl.core.tabular import FiniteMDP


def random_mdp(seed, S=3, A=2, T=3):
    rng = np.random.default_rng(seed)
    return FiniteMDP(rng.dirichlet(np.ones(S), size=(S, A)), rng.normal(size=(S, A)), rng.dirichlet(np.ones(S)), T)


def dense(mdp):
    return mdp.P.toarray().reshape(mdp.S, mdp.A, mdp.S)


def return_by_paths(mdp, policy):
    """Sum over all trajectories of probability times return."""
    P, total = dense(mdp), 0.0
    for states in itertools.product(range(mdp.S), repeat=mdp.horizon):
        for actions in itertools.product(range(mdp.A), repeat=mdp.horizon):
            probability = mdp.start[states[0]]
            for t in range(mdp.horizon):
                probability *= policy[t, states[t], actions[t]]
                if t + 1 < mdp.horizon:
                    probability *= P[states[t], actions[t], states[t + 1]]
            total += probability * sum(mdp.R[s, a] for s, a in zip(states, actions, strict=True))
    return total


@pytest.mark.parametrize("seed", range(4))
def test_expected_return_is_the_sum_over_all_paths(seed):
    mdp = random_mdp(seed)
    policy = np.random.default_rng(seed + 50).dirichlet(np.ones(mdp.A), size=(mdp.horizon, mdp.S))
    assert tabular.expected_return(mdp, policy) == pytest.approx(return_by_paths(mdp, policy), abs=1e-12)


def test_a_stationary_policy_is_the_same_at_every_step():
    mdp = random_mdp(7)
    policy = np.random.default_rng(8).dirichlet(np.ones(mdp.A), size=mdp.S)
    repeated = np.broadcast_to(policy, (mdp.horizon, mdp.S, mdp.A))
    assert tabular.expected_return(mdp, policy) == tabular.expected_return(mdp, repeated)


@pytest.mark.parametrize("seed", range(3))
def test_optimal_values_beat_every_deterministic_policy_and_one_attains_them(seed):
    mdp = random_mdp(seed, S=2, A=2, T=3)
    best = -np.inf
    for choice in itertools.product(range(mdp.A), repeat=mdp.horizon * mdp.S):
        policy = np.eye(mdp.A)[np.reshape(choice, (mdp.horizon, mdp.S))]
        best = max(best, return_by_paths(mdp, policy))
    assert mdp.start @ tabular.optimal_values(mdp)[0].max(1) == pytest.approx(best, abs=1e-12)


def test_value_iteration_agrees_with_the_best_linear_solve():
    mdp, gamma = random_mdp(3, S=4, A=2), 0.9
    best = max(
        (
            tabular.policy_evaluation(mdp, np.eye(2)[list(choice)], gamma)
            for choice in itertools.product(range(2), repeat=4)
        ),
        key=lambda Q: Q.max(1).sum(),
    )
    assert np.abs(tabular.value_iteration(mdp, gamma) - best).max() <= 1e-10


@pytest.mark.parametrize("tolerance", [1e-1, 1e-4, 1e-8])
def test_value_iteration_keeps_its_promise(tolerance):
    mdp = random_mdp(5, S=4, A=3)
    exact = tabular.value_iteration(mdp, 0.97, 1e-12)
    assert 0 < np.abs(tabular.value_iteration(mdp, 0.97, tolerance) - exact).max() <= tolerance


def test_policy_evaluation_is_the_discounted_sum():
    mdp, gamma = random_mdp(1, S=4, A=3), 0.8
    policy = np.random.default_rng(2).dirichlet(np.ones(3), size=4)
    P, Q = dense(mdp), np.zeros((4, 3))
    for _ in range(300):  # 0.8^300 is below rounding
        Q = mdp.R + gamma * P @ (policy * Q).sum(1)
    assert np.abs(tabular.policy_evaluation(mdp, policy, gamma) - Q).max() < 1e-12


def test_gamma_zero_sees_only_the_reward():
    mdp = random_mdp(2)
    assert (tabular.value_iteration(mdp, 0.0) == mdp.R).all()


def test_steps_follow_the_table():
    """Pearson's chi-square on 30,000 steps of every row; fails by chance with probability below 1e-6 for each row."""
    from scipy.stats import chisquare

    mdp, rng = random_mdp(11, S=5, A=2), np.random.default_rng(0)
    for s, a in itertools.product(range(5), range(2)):
        state, action = np.full(30_000, s), np.full(30_000, a)
        reward, next_state, terminated = mdp.step(state, action, rng)
        assert (reward == mdp.R[s, a]).all() and not terminated.any()
        counts = np.bincount(next_state, minlength=5)
        assert chisquare(counts, 30_000 * dense(mdp)[s, a]).pvalue > 1e-6


def test_steps_never_leave_the_support():
    """Rows with few successors beside rows with many: padding must never be drawn."""
    P = np.zeros((4, 1, 4))
    P[0, 0] = [0, 0.5, 0, 0.5]
    P[1, 0] = 0.25
    P[2, 0, 3] = P[3, 0, 3] = 1
    mdp, rng = FiniteMDP(P, np.zeros((4, 1)), 0, 5), np.random.default_rng(1)
    state = np.repeat(np.arange(4), 10_000)
    _, next_state, terminated = mdp.step(state, np.zeros_like(state), rng)
    assert (P[state, 0, next_state] > 0).all()
    assert mdp.terminal.tolist() == [False, False, False, True] and (terminated == (next_state == 3)).all()


def test_first_states_follow_the_start_distribution():
    mdp = random_mdp(4)
    share = np.bincount(mdp.reset(40_000, np.random.default_rng(0)), minlength=mdp.S) / 40_000
    assert np.abs(share - mdp.start).max() < 5 * 0.5 / 200  # five standard errors


def test_a_state_that_pays_forever_is_not_terminal():
    P = np.ones((1, 2, 1))
    assert not FiniteMDP(P, np.array([[0.0, 1.0]]), 0, 1).terminal[0]
    assert FiniteMDP(P, np.zeros((1, 2)), 0, 1).terminal[0]


def test_dense_and_sparse_transitions_are_one_mdp():
    mdp = random_mdp(6)
    same = FiniteMDP(sparse.coo_array(mdp.P), mdp.R, mdp.start, mdp.horizon)
    assert (tabular.optimal_values(same) == tabular.optimal_values(mdp)).all()


# ---- bad input ----


def broken(**change):
    mdp = random_mdp(0)
    good = {"P": dense(mdp), "R": mdp.R.copy(), "start": mdp.start, "horizon": 3}
    return FiniteMDP(**(good | change))


def altered(array, index, value):
    array = array.copy()
    array[index] = value
    return array


P0, R0 = dense(random_mdp(0)), random_mdp(0).R


@pytest.mark.parametrize(
    "change, words",
    [
        ({"P": altered(P0, (2, 1, 0), P0[2, 1, 0] + 0.25)}, r"P\[state 2, action 1\] sums to 1.25"),
        ({"P": altered(P0, (1, 0, 2), -0.5)}, r"P\[state 1, action 0, next state 2\] is -0.5"),
        ({"P": altered(P0, (1, 1, 1), np.nan)}, r"P\[state 1, action 1, next state 1\] is nan"),
        ({"P": P0[:, :1]}, r"P must have shape \(S, A, S\) = \(3, 2, 3\), got \(3, 1, 3\)"),
        ({"P": sparse.csr_array((5, 3))}, r"\(S \* A, S\) = \(6, 3\), got \(5, 3\)"),
        ({"R": altered(R0, (2, 0), np.inf)}, r"R\[2, 0\] is inf"),
        ({"R": R0[0]}, r"R must have shape"),
        ({"start": 3}, "start must be a state 0 ... 2, got 3"),
        ({"start": np.array([0.5, 0.4, 0.0])}, "its sum is 0.9"),
        ({"horizon": 0}, "horizon must be .* got 0"),
        ({"horizon": 2.5}, "horizon must be .* got 2.5"),
    ],
)
def test_bad_mdps_are_refused_by_entry(change, words):
    with pytest.raises(ValueError, match=words):
        broken(**change)


@pytest.mark.parametrize("gamma", [-0.1, 1.0, 1.5, float("nan")])
def test_gamma_outside_its_range_is_refused(gamma):
    mdp = random_mdp(0)
    with pytest.raises(ValueError, match="gamma must lie in"):
        tabular.value_iteration(mdp, gamma)
    with pytest.raises(ValueError, match="gamma must lie in"):
        tabular.policy_evaluation(mdp, np.full((3, 2), 0.5), gamma)


def test_a_policy_that_is_no_distribution_is_refused():
    mdp = random_mdp(0)
    with pytest.raises(ValueError, match=r"policy\[1\] is not a distribution"):
        tabular.policy_values(mdp, altered(np.full((3, 2), 0.5), (1, 0), 0.7))
    with pytest.raises(ValueError, match=r"shape \(3, 2\), got \(2, 2\)"):
        tabular.policy_evaluation(mdp, np.full((2, 2), 0.5), 0.5)
