"""Oracles of Nash Mirror Prox, and the wrong answers that its assignment must reject."""

from itertools import islice, permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from scipy.special import expit, log_softmax, softmax

from minirl.alignment import nash_mp as m
from minirl.core.nets import polyak
from minirl.envs import preference_games as games

BETAS = (0.3, 0.1, 0.03, 0.01)


def random_policy(n, seed, scale=1.0):
    return log_softmax(scale * np.random.default_rng(seed).standard_normal(n))


def iterates(generator, count):
    return list(islice(generator, count))


# -------------------------------------------------------------------------------------------------------- bad input


def spoiled(**entries):
    P = games.random_game(4, 0)[0].copy()
    for place, value in entries.items():
        P[int(place[1]), int(place[2])] = value
    return P


@pytest.mark.parametrize(
    "P, words",
    [
        (spoiled(e12=0.9, e21=0.2), [r"P\[1, 2\] is 0.9", r"P\[2, 1\] is 0.2", "must be 1"]),
        (spoiled(e03=1.2, e30=-0.2), [r"P\[0, 3\] is 1.2", "probabilities"]),
        (spoiled(e33=0.7), [r"P\[3, 3\] is 0.7", "1/2"]),
        (spoiled(e20=np.nan), [r"P\[2, 0\] is nan", "probabilities"]),
        (spoiled(e00=np.inf), [r"P\[0, 0\] is inf"]),
        (np.ones((3, 2)), ["shape"]),
        (np.full((1, 1), 0.5), ["n >= 2"]),
        (np.stack([spoiled(), spoiled(e12=0.9, e21=0.2)]), [r"P\[1, 1, 2\] is 0.9"]),
    ],
)
def test_a_matrix_that_is_no_preference_is_refused_by_entry(P, words):
    for word in words:
        with pytest.raises(ValueError, match=word):
            m.check_preference(P)
        with pytest.raises(ValueError, match=word):
            m.Game(P, np.log(np.full(P.shape[:-1], 1 / P.shape[-1])), 0.1)


def test_a_preference_may_be_certain_and_may_be_rounded():
    P = games.rock_paper_scissors()[0]
    assert set(np.unique(P)) == {0.0, 0.5, 1.0} and m.check_preference(P) is not None
    P, _ = games.random_game(4, 0)
    P[0, 1] += 1e-12
    m.check_preference(P)


@pytest.mark.parametrize(
    "log_ref, beta, word",
    [
        (np.log([0.5, 0.3, 0.1]), 0.1, "not normalised.*0.9"),
        (np.log([0.5, 0.3]), 0.1, r"shape \(3,\)"),
        (np.array([0.0, -np.inf, -np.inf]), 0.1, r"log_ref\[1\] is -inf"),
        (np.array([np.nan, -1.0, -1.0]), 0.1, r"log_ref\[0\] is nan"),
        (np.log([0.5, 0.3, 0.2]), 0.0, "beta must be positive, got 0"),
        (np.log([0.5, 0.3, 0.2]), -1.0, "beta must be positive"),
        (np.log([0.5, 0.3, 0.2]), np.nan, "beta must be positive"),
        (np.log([0.5, 0.3, 0.2]), np.inf, "beta must be positive"),
    ],
)
def test_game_refuses_bad_reference_and_bad_beta(log_ref, beta, word):
    with pytest.raises(ValueError, match=word):
        m.Game(games.rock_paper_scissors()[0], log_ref, beta)


def test_the_row_of_a_contextual_reference_is_named():
    P, log_ref, _ = games.contextual_game(3, 4)
    log_ref[2] += 0.1
    with pytest.raises(ValueError, match=r"log_ref\[2\] is not normalised"):
        m.Game(P, log_ref, 0.1)


@pytest.mark.parametrize("step", [0.0, -0.5, np.nan, np.inf])
def test_step_sizes_must_be_positive(step):
    game = m.Game(*games.rock_paper_scissors(), 0.1)
    for method in (m.nash_mp, m.mmd, m.selfplay_md):
        with pytest.raises(ValueError, match="positive"):
            next(method(game, step))
    with pytest.raises(ValueError, match="must be positive"):
        m.prox(game, game.log_ref, np.exp(game.log_ref), step)


def test_other_nonsense_is_refused():
    game = m.Game(*games.rock_paper_scissors(), 0.1)
    with pytest.raises(ValueError, match="1 / beta = 10"):
        next(m.selfplay_md(game, 10.1))
    with pytest.raises(ValueError, match="start"):
        next(m.nash_mp(game, start=np.log([0.5, 0.5])))
    with pytest.raises(ValueError, match="start"):
        next(m.nash_md(game, start=np.array([0.0, -np.inf, -np.inf])))
    for bad in ({"beta": 0.0}, {"lam": 0.0}, {"game": "chess"}, {"scheme": "three_step"}, {"inner": 0}, {"kappa": 0.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            m.Config(**bad)
    with pytest.raises(ValueError, match="steps"):
        next(m.NashMP(m.Config()).learn(0))
    with pytest.raises(ValueError, match="context"):
        m.NashMP(m.Config()).act(np.array([0, 1]))
    for bad in (lambda: games.rock_paper_scissors(win=0.4), lambda: games.rock_paper_scissors(bias=0.5)):
        with pytest.raises(ValueError, match="win"):
            bad()
    with pytest.raises(ValueError, match=r"weights\[1\] is 0"):
        games.rock_paper_scissors(reference=(1, 0, 1))
    with pytest.raises(ValueError, match="at least 2"):
        games.random_game(1, 0)
    with pytest.raises(ValueError, match="cyclicity"):
        games.mixed_game(1.1)


# ------------------------------------------------------------------------------------- what a reward cannot represent


def test_log_odds_of_bradley_terry_cancel_around_every_cycle():
    P, _ = games.bradley_terry(np.random.default_rng(0).standard_normal(7))
    assert games.worst_triple(P)[1] == pytest.approx(0, abs=1e-12)
    for cycle in ([0, 3, 5], [6, 1, 2, 4], [2, 5, 0, 6, 3]):
        assert games.cycle_sum(P, cycle) == pytest.approx(0, abs=1e-12)


def test_worst_triple_is_the_maximum_over_all_triples():
    P, _ = games.random_game(8, 3)
    triple, size = games.worst_triple(P)
    assert size == pytest.approx(max(games.cycle_sum(P, list(c)) for c in permutations(range(8), 3)), rel=1e-12)
    assert games.cycle_sum(P, list(triple)) == pytest.approx(size, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_reward_comes_closer_than_a_third_of_the_cycle_sum(seed):
    """The linear programme min_r max_ij |log-odds - (r_i - r_j)| of three answers has exactly that value."""
    P, _ = games.random_game(3, seed)
    odds, pairs = np.log(P / P.T), [(0, 1), (1, 2), (2, 0)]
    rows, right = [], []
    for i, j in pairs:
        row = np.zeros(4)
        row[i], row[j] = 1, -1
        for sign in (1, -1):
            rows.append(sign * row - np.eye(4)[3])
            right.append(sign * odds[i, j])
    best = linprog(np.eye(4)[3], rows, right, bounds=[(None, None)] * 4).fun
    assert best == pytest.approx(abs(games.cycle_sum(P, [0, 1, 2])) / 3, rel=1e-9, abs=1e-12)


def test_fitted_rewards_are_the_true_ones_where_there_are_some():
    rewards = np.array([1.5, -0.3, 0.2, -2.0])
    fitted = games.fit_bradley_terry(games.bradley_terry(rewards)[0])
    np.testing.assert_allclose(fitted, rewards - rewards.mean(), atol=1e-9)


def test_fitted_rewards_maximise_the_likelihood():
    P, _ = games.random_game(6, 1)
    worse = lambda r: (P * np.logaddexp(0, r - r[:, None])).sum()  # noqa: E731
    fitted = games.fit_bradley_terry(P)
    assert worse(fitted) <= minimize(worse, np.zeros(6), tol=1e-12).fun + 1e-9
    np.testing.assert_allclose(expit(fitted[:, None] - fitted).sum(1), P.sum(1), atol=1e-9)  # wins as observed


def test_a_reward_that_never_loses_has_no_finite_fit():
    with pytest.raises(ValueError, match="always beat"):
        games.fit_bradley_terry(np.array([[0.5, 1.0], [0.0, 0.5]]))


def test_rock_paper_scissors_has_no_reward():
    """Every one of the orders (ties too) names a wrong winner, and maximum likelihood says nothing at all."""
    P, _ = games.rock_paper_scissors(win=0.9)
    for order in permutations([-1.0, 0.0, 1.0]):
        assert len(games.wrong_winners(P, np.array(order))) >= 1
    np.testing.assert_allclose(games.fit_bradley_terry(P), 0, atol=1e-12)
    assert len(games.wrong_winners(P, np.zeros(3))) == 3
    assert games.cycle_sum(P, [0, 2, 1]) == pytest.approx(3 * np.log(9), rel=1e-12)  # rock > scissors > paper > rock
    assert games.wrong_winners(games.bradley_terry([2.0, 1.0, 0.0])[0], np.array([2.0, 1.0, 0.0])) == []
    with pytest.raises(ValueError, match="infinite"):
        games.cycle_sum(games.rock_paper_scissors()[0], [0, 1, 2])


def test_mixed_game_runs_from_transitive_to_cyclic():
    assert games.worst_triple(games.mixed_game(0.0)[0])[1] == pytest.approx(0, abs=1e-12)
    sums = [games.worst_triple(games.mixed_game(c)[0])[1] for c in (0.25, 0.5, 1.0)]
    np.testing.assert_allclose(sums, [2.25, 4.5, 9.0], rtol=1e-12)


# ----------------------------------------------------------------------------------------------- policies and distances


def test_kl_has_its_digits_far_below_machine_precision():
    """Against 60-digit arithmetic, from policies that differ by 1e-12 to policies that have little in common."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 60
    q = random_policy(30, 0, 3.0)
    direction = np.random.default_rng(1).standard_normal(30)
    for size in (1e-12, 1e-8, 1e-4, 0.009, 0.011, 0.3, 5.0, 100.0):
        p = m.normalise(q + size * direction)
        norms = [mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(float(x))) for x in policy)) for policy in (p, q)]
        P, Q = ([mpmath.mpf(float(x)) - norm for x in policy] for policy, norm in zip((p, q), norms, strict=True))
        exact = mpmath.fsum(mpmath.exp(a) * (a - b) for a, b in zip(P, Q, strict=True))
        assert float(m.kl(p, q)) == pytest.approx(float(exact), rel=1e-3 if size < 1e-9 else 1e-8)
    assert m.kl(q, q) == 0


def test_kl_of_hopeless_answers_is_finite():
    p, q = np.array([0.0, -900.0]), np.log([0.5, 0.5])
    assert m.kl(p, q) == pytest.approx(np.log(2)) and m.kl(q, p) == pytest.approx(450 - np.log(2))


def test_span_ignores_constants():
    p, q = random_policy(5, 0), random_policy(5, 1)
    assert m.span(p + 3.0, q) == pytest.approx((p - q).max() - (p - q).min())


def test_value_is_antisymmetric_and_exploitability_is_the_brute_force_maximum():
    game = m.Game(*games.random_game(6, 2), 0.2)
    for seed in range(5):
        log_pi, log_mu = random_policy(6, seed), random_policy(6, seed + 50)
        assert game.value(np.exp(log_pi), np.exp(log_mu)) + game.value(np.exp(log_mu), np.exp(log_pi)) == pytest.approx(
            1
        )
        loss = lambda z, mu=log_mu: -game.value(softmax(z), np.exp(mu))  # noqa: E731
        found = minimize(loss, np.zeros(6), tol=1e-14)
        assert game.exploitability(log_mu) == pytest.approx(-found.fun - 0.5, abs=1e-9)
        np.testing.assert_allclose(np.exp(game.best_response(log_mu)), softmax(found.x), atol=1e-5)


def test_exploitability_is_the_gibbs_formula():
    game = m.Game(*games.random_game(20, 1), 0.05)
    for seed in range(5):
        log_pi = random_policy(20, seed, 2.0)
        pi, ref = np.exp(log_pi), np.exp(game.log_ref)
        gibbs = game.beta * np.log(ref @ np.exp(game.P @ pi / game.beta)) + game.beta * pi @ (log_pi - game.log_ref)
        assert game.exploitability(log_pi) == pytest.approx(gibbs - 0.5, abs=1e-12)
    assert game.exploitability(m.solve_nash(game)) < 1e-25


def test_value_of_certain_policies_is_finite():
    game = m.Game(*games.rock_paper_scissors(), 0.1)
    rock, paper = np.eye(3)[0], np.eye(3)[1]
    assert game.value(paper, rock) == pytest.approx(1 - 0.1 * (-np.log(0.3)) + 0.1 * (-np.log(0.6)))


# ---------------------------------------------------------------------------------------------------- the equilibrium


@pytest.mark.parametrize("n", [2, 5, 20, 100])
@pytest.mark.parametrize("beta", [10.0, *BETAS, 0.003])
def test_equilibrium_solves_its_equation(n, beta):
    """Residual of log pi = log softmax(log_ref + P pi / beta), written out here."""
    P, log_ref = games.random_game(n, 7)
    log_star = m.solve_nash(m.Game(P, log_ref, beta))
    residual = log_star - log_softmax(log_ref + P @ np.exp(log_star) / beta)
    assert np.abs(residual).max() <= 1e-12


def test_equilibrium_is_where_damped_fixed_point_iteration_ends():
    P, log_ref = games.random_game(10, 3)
    log_pi, beta = log_ref, 0.1
    for _ in range(20_000):
        log_pi = log_softmax(log_pi + 0.02 * (log_ref + P @ np.exp(log_pi) / beta - log_pi))
    np.testing.assert_allclose(m.solve_nash(m.Game(P, log_ref, beta)), log_pi, atol=1e-11)


def test_nobody_beats_the_equilibrium():
    game = m.Game(*games.random_game(12, 4), 0.05)
    star = np.exp(m.solve_nash(game))
    for seed in range(200):
        assert game.value(star, np.exp(random_policy(12, seed, 3.0))) >= 0.5 - 1e-12


def test_equilibrium_of_fair_rock_paper_scissors_is_uniform():
    for beta in (1.0, 0.1, 0.001):
        game = m.Game(*games.rock_paper_scissors(reference=(1, 1, 1)), beta)
        np.testing.assert_allclose(np.exp(m.solve_nash(game)), 1 / 3, rtol=1e-12)


def test_equilibrium_at_a_high_price_is_the_reference():
    P, log_ref = games.random_game(9, 5)
    distances = [np.abs(m.solve_nash(m.Game(P, log_ref, beta)) - log_ref).max() for beta in (10.0, 100.0, 1000.0)]
    assert distances[2] < 1e-3
    np.testing.assert_allclose(np.array(distances[:2]) / distances[1:], 10, rtol=0.05)  # vanishes like 1 / beta


@pytest.mark.parametrize("bias", [0.0, 0.2, 0.4])
def test_equilibrium_at_a_low_price_is_the_minimax_solution_of_rock_paper_scissors(bias):
    """Full support: each answer in proportion to the margin between the other two."""
    P, log_ref = games.rock_paper_scissors(bias)
    margins = np.array([P[2, 1] - 0.5, P[0, 2] - 0.5, P[1, 0] - 0.5])
    star = np.exp(m.solve_nash(m.Game(P, log_ref, 1e-5)))
    np.testing.assert_allclose(star, margins / margins.sum(), atol=2e-4)


@pytest.mark.parametrize("seed", range(4))
def test_equilibrium_at_a_low_price_is_the_minimax_solution_of_a_linear_programme(seed):
    """max v subject to pi^T (P - 1/2) >= v; the optimum of these games is unique, with probability one."""
    n = 7
    P, log_ref = games.random_game(n, seed)
    found = linprog(
        np.append(np.zeros(n), -1.0), np.column_stack([-(P - 0.5).T, np.ones(n)]), np.zeros(n),
        np.append(np.ones(n), 0.0)[None], [1.0], bounds=[(0, None)] * n + [(None, None)],
    )  # fmt: skip
    assert found.fun == pytest.approx(0, abs=1e-9)
    star = np.exp(m.solve_nash(m.Game(P, log_ref, 1e-4)))
    np.testing.assert_allclose(star, found.x[:n], atol=5e-3)
    star = np.exp(m.solve_nash(m.Game(P, log_ref, 1e-5)))
    np.testing.assert_allclose(star, found.x[:n], atol=5e-4)


def test_transitive_game_is_won_by_the_best_answer():
    rewards = np.array([0.5, 2.0, -1.0, 1.0])
    P, log_ref = games.bradley_terry(rewards)
    assert (np.argsort(m.solve_nash(m.Game(P, log_ref, 0.1))) == np.argsort(rewards)).all()
    assert np.exp(m.solve_nash(m.Game(P, log_ref, 0.01)))[1] > 0.999


def test_contexts_are_solved_row_by_row():
    P, log_ref, _ = games.contextual_game(4, 5, seed=1)
    game, rows = m.Game(P, log_ref, 0.1), [m.Game(P[x], log_ref[x], 0.1) for x in range(4)]
    np.testing.assert_allclose(m.solve_nash(game), [m.solve_nash(row) for row in rows], rtol=1e-12)
    for method in (m.nash_mp, m.mmd, m.nash_md, lambda g: m.selfplay_md(g, 0.5)):
        together = iterates(method(game), 6)[5]
        alone = [iterates(method(row), 6)[5] for row in rows]
        np.testing.assert_allclose(together, alone, rtol=1e-12)
        np.testing.assert_allclose(
            game.exploitability(together), [r.exploitability(a) for r, a in zip(rows, alone, strict=True)], rtol=1e-9
        )
    pi, mu = np.exp(together), np.exp(log_ref)
    np.testing.assert_allclose(game.value(pi, mu), [r.value(p, q) for r, p, q in zip(rows, pi, mu, strict=True)])


def test_one_game_many_policies():
    game = m.Game(*games.random_game(5, 0), 0.1)
    starts = np.stack([random_policy(5, seed) for seed in range(3)])
    together = iterates(m.nash_mp(game, start=starts), 4)[3]
    for start, found in zip(starts, together, strict=True):
        np.testing.assert_allclose(iterates(m.nash_mp(game, start=start), 4)[3], found, rtol=1e-12)


def test_response_slope_is_the_derivative_of_the_best_response():
    """Newton's matrix, against central differences, away from the equilibrium; constants are no direction."""
    game, log_pi = m.Game(*games.random_game(5, 1), 0.2), random_policy(5, 2)
    respond = lambda logits: 0.2 * game.best_response(m.normalise(logits))  # noqa: E731
    columns = [(respond(log_pi + h) - respond(log_pi - h)) / 2e-6 for h in 1e-6 * np.eye(5)]
    np.testing.assert_allclose(m.response_slope(game, log_pi), np.column_stack(columns), atol=1e-8)


def test_an_equilibrium_that_was_not_found_is_not_returned(monkeypatch):
    monkeypatch.setattr(games, "newton", lambda game, log_pi: (log_pi, 1e-6))
    with pytest.raises(ArithmeticError, match=r"residual 1\.0e-06 at beta = 0\.1"):
        m.solve_nash(m.Game(*games.random_game(5, 1), 0.1))


def test_contexts_run_in_circles_both_ways():
    """Round the three styles of one quality the log-odds sum to 3 * scale, with the sign of feature 0."""
    P, _, x = games.contextual_game(6, 6, seed=3, scale=2.0)
    sums = [games.cycle_sum(matrix, [0, 2, 1]) for matrix in P]
    np.testing.assert_allclose(sums, 6.0 * np.sign(x[:, 0]), rtol=1e-9)
    assert len(set(np.sign(x[:, 0]))) == 2


# --------------------------------------------------------------------------------------------------- the proximal step


@pytest.mark.parametrize("lam, beta", [(0.5, 0.1), (2.0, 0.3), (0.1, 0.05)])
def test_prox_is_the_numerical_maximiser(lam, beta):
    P, log_ref = games.random_game(5, 1)
    game, anchor, mu = m.Game(P, log_ref, beta), random_policy(5, 2), np.exp(random_policy(5, 3))

    def loss(z):
        log_pi = log_softmax(z)
        pi = np.exp(log_pi)
        return -(pi @ P @ mu - beta * pi @ (log_pi - log_ref) - lam * pi @ (log_pi - anchor))

    found = minimize(loss, np.zeros(5), tol=1e-14)
    ours = m.prox(game, anchor, mu, lam)
    assert loss(ours) <= found.fun + 1e-12
    np.testing.assert_allclose(np.exp(ours), softmax(found.x), atol=1e-5)


def test_three_point_inequality_of_the_prox_holds_with_equality():
    """Eq. (6): for every u the two sides differ by nothing, because the KL is the Bregman divergence of the step."""
    P, log_ref = games.random_game(6, 2)
    game, anchor, mu, lam = m.Game(P, log_ref, 0.1), random_policy(6, 3), np.exp(random_policy(6, 4)), 0.5
    plus = m.prox(game, anchor, mu, lam)
    for seed in range(5):
        u = random_policy(6, seed + 10)
        left = -(P @ mu) @ (np.exp(plus) - np.exp(u)) + 0.1 * (m.kl(plus, log_ref) - m.kl(u, log_ref))
        right = lam * m.kl(u, anchor) - (lam + 0.1) * m.kl(u, plus) - lam * m.kl(plus, anchor)
        assert left == pytest.approx(right, abs=1e-12)


def test_constants_in_the_opponents_answers_do_not_matter():
    P, log_ref = games.random_game(6, 2)
    shifted = SimpleNamespace(P=P + np.random.default_rng(0).standard_normal(6), log_ref=log_ref, beta=0.1)
    game = m.Game(P, log_ref, 0.1)
    for method in (m.nash_mp, m.mmd, m.nash_md):
        np.testing.assert_allclose(iterates(method(game), 5)[4], iterates(method(shifted), 5)[4], atol=1e-11)


def test_names_of_the_answers_do_not_matter():
    P, log_ref = games.random_game(6, 2)
    order = np.random.default_rng(0).permutation(6)
    for method in (m.nash_mp, m.mmd, m.nash_md):
        plain = iterates(method(m.Game(P, log_ref, 0.1)), 8)[7]
        mixed = iterates(method(m.Game(P[np.ix_(order, order)], log_ref[order], 0.1)), 8)[7]
        np.testing.assert_allclose(plain[order], mixed, rtol=1e-11)


def test_a_clone_shares_the_probability_and_changes_nothing_else():
    P, log_ref = games.random_game(5, 2)
    index = [0, 1, 2, 2, 3, 4]
    split = log_ref[index] + np.log([1, 1, 0.25, 0.75, 1, 1])
    game, cloned = m.Game(P, log_ref, 0.05), m.Game(P[np.ix_(index, index)], split, 0.05)
    for one, two in (
        (m.solve_nash(game), m.solve_nash(cloned)),
        (iterates(m.nash_mp(game), 9)[8], iterates(m.nash_mp(cloned), 9)[8]),
    ):
        merged = np.array([*two[:2], np.logaddexp(two[2], two[3]), *two[4:]])
        np.testing.assert_allclose(merged, one, atol=1e-11)
        assert two[3] - two[2] == pytest.approx(np.log(3), abs=1e-11)
        assert game.exploitability(one) == pytest.approx(cloned.exploitability(two), abs=1e-12)


def test_without_preferences_the_path_is_a_geometric_interpolation():
    P, log_ref, start, lam, beta = np.full((4, 4), 0.5), random_policy(4, 0), random_policy(4, 1), 0.7, 0.2
    path = iterates(m.nash_mp(m.Game(P, log_ref, beta), lam, start), 6)
    for k, log_pi in enumerate(path):
        keep = (lam / (lam + beta)) ** k
        np.testing.assert_allclose(log_pi, log_softmax(keep * start + (1 - keep) * log_ref), atol=1e-12)


def test_a_heavy_anchor_holds_the_policy_and_the_look_ahead_matters_in_second_order():
    """Steps shrink like 1 / lam; Nash-MP and the one-query method differ like 1 / lam^2 (Richardson: ratio 4)."""
    game = m.Game(*games.random_game(6, 1), 0.1)
    start = random_policy(6, 1)
    step, apart = {}, {}
    for lam in (1e3, 2e3, 4e3):
        two = iterates(m.nash_mp(game, lam, start), 2)[1]
        one = iterates(m.mmd(game, 1 / lam, start), 2)[1]
        step[lam], apart[lam] = m.span(two, start), m.span(two, one)
    assert step[1e3] / step[2e3] == pytest.approx(2, rel=0.01)
    assert apart[1e3] / apart[2e3] == pytest.approx(4, rel=0.01)
    assert apart[2e3] / apart[4e3] == pytest.approx(4, rel=0.01)


def test_the_paper_s_notation_gives_the_same_step():
    """With eta = beta / lam: exponents eta / (1 + eta) and 1 / (1 + eta), temperature beta (1 + eta) / eta."""
    P, log_ref = games.random_game(6, 1)
    beta, lam, anchor, mu = 0.1, 0.5, random_policy(6, 2), np.exp(random_policy(6, 3))
    eta = beta / lam
    theirs = eta / (1 + eta) * log_ref + anchor / (1 + eta) + eta / (beta * (1 + eta)) * (P @ mu)
    np.testing.assert_allclose(m.prox(m.Game(P, log_ref, beta), anchor, mu, lam), log_softmax(theirs), atol=1e-13)


def test_methods_are_their_formulas():
    """One step of each, in probabilities and powers as the literature writes them."""
    P, log_ref = games.random_game(6, 1)
    beta, eta, ref, pi = 0.1, 0.4, np.exp(log_ref), np.exp(random_policy(6, 2))
    game, start = m.Game(P, log_ref, beta), np.log(pi)
    norm = lambda weights: weights / weights.sum()  # noqa: E731
    np.testing.assert_allclose(
        np.exp(iterates(m.mmd(game, eta, start), 2)[1]),
        norm((pi * ref ** (eta * beta) * np.exp(eta * P @ pi)) ** (1 / (1 + eta * beta))), rtol=1e-11,
    )  # fmt: skip
    np.testing.assert_allclose(
        np.exp(iterates(m.selfplay_md(game, eta, start), 2)[1]),
        norm(pi ** (1 - eta * beta) * ref ** (eta * beta) * np.exp(eta * P @ pi)), rtol=1e-11,
    )  # fmt: skip
    path = [np.exp(log_pi) for log_pi in iterates(m.nash_md(game, start), 4)]
    for k in range(3):
        eta_k = 2 / (beta * (k + 2))
        mixture = norm(path[k] ** (1 - eta_k * beta) * ref ** (eta_k * beta))
        np.testing.assert_allclose(path[k + 1], norm(mixture * np.exp(eta_k * P @ mixture)), rtol=1e-10)
    lam, half = 0.5, norm((ref**beta * pi**0.5 * np.exp(P @ pi)) ** (1 / (beta + 0.5)))
    expected = norm((ref**beta * pi**lam * np.exp(P @ half)) ** (1 / (beta + lam)))
    np.testing.assert_allclose(np.exp(iterates(m.nash_mp(game, lam, start), 2)[1]), expected, rtol=1e-11)


def test_moving_the_anchor_gives_the_one_query_method_twice():
    game = m.Game(*games.random_game(6, 1), 0.1)
    log_pi = game.log_ref
    for _ in range(5):
        half = m.prox(game, log_pi, np.exp(log_pi), 0.5)
        log_pi = m.prox(game, half, np.exp(half), 0.5)  # the mistake: anchored at the look-ahead
    np.testing.assert_allclose(log_pi, iterates(m.mmd(game, 2.0), 11)[10], rtol=1e-12)


def test_self_play_mirror_descent_is_mmd_with_another_name_for_the_step():
    game, eta = m.Game(*games.random_game(6, 1), 0.1), 0.8
    np.testing.assert_allclose(
        iterates(m.selfplay_md(game, eta), 6)[5], iterates(m.mmd(game, eta / (1 - eta * 0.1)), 6)[5], rtol=1e-12
    )


def test_default_mmd_takes_its_largest_safe_step():
    game = m.Game(*games.random_game(6, 1), 0.1)
    np.testing.assert_array_equal(iterates(m.mmd(game), 3)[2], iterates(m.mmd(game, 0.4), 3)[2])


# ----------------------------------------------------------------------------------------------------------- the theorem


def trace(game, generator, log_star, floor=1e-24, most=6_000):
    """KL(pi* || pi_k) and the iterates, until the KL is below the floor."""
    path, distances = [], []
    for log_pi in islice(generator, most):
        path.append(log_pi)
        distances.append(float(m.kl(log_star, log_pi)))
        if distances[-1] < floor:
            break
    return np.array(distances), path


def contraction(kl):
    """KL_{k+1} / KL_k, to be compared with 1 / (1 + beta / lam)."""
    return kl[1:] / kl[:-1]


@pytest.mark.parametrize("beta", BETAS)
def test_every_iteration_contracts_on_every_game(beta):
    """Eq. (8) with lam = 1/2 on 20 random games and 3 cyclic ones, from the reference and from a far start."""
    cyclic = [games.rock_paper_scissors(), games.rock_paper_scissors(0.3), games.mixed_game(0.7)]
    for i, pair in enumerate([*(games.random_game(20, seed) for seed in range(20)), *cyclic]):
        game = m.Game(*pair, beta)
        log_star = m.solve_nash(game)
        for start in (None, random_policy(len(log_star), i, 3.0)):
            kl, path = trace(game, m.nash_mp(game, start=start), log_star)
            assert kl[-1] < 1e-24
            assert contraction(kl).max() <= 1 / (1 + 2 * beta) * (1 + 1e-6)
            if start is None:
                assert m.fit_slope(kl) / 2 <= m.rate_bound(beta)  # eq. (9)
                star = np.exp(log_star)
                assert min(float(game.value(star, np.exp(log_pi))) for log_pi in path) >= 0.5 - 1e-12


@pytest.mark.parametrize("beta", [1.0, 0.1, 0.01])
def test_every_step_that_the_proof_covers_contracts(beta):
    """lam (lam + beta) >= 1/4 at its edge and beyond."""
    edge = (-beta + np.sqrt(beta**2 + 1)) / 2
    assert edge * (edge + beta) == pytest.approx(0.25) and edge < 0.5
    for lam in (edge * (1 + 1e-12), 0.5, 0.7, 2.0):
        assert m.proof_applies(beta, lam)
        for pair in (games.random_game(15, 1), games.random_game(15, 2), games.rock_paper_scissors()):
            game = m.Game(*pair, beta)
            kl, _ = trace(game, m.nash_mp(game, lam), m.solve_nash(game))
            assert contraction(kl).max() <= lam / (lam + beta) * (1 + 1e-6)
    assert not m.proof_applies(beta, edge * 0.99)


def test_without_the_look_ahead_nothing_contracts():
    """The control: same lam, same games, one query (or the anchor moved, which is the same): it spirals outwards."""
    game = m.Game(*games.rock_paper_scissors(), 0.03)
    log_star = m.solve_nash(game)
    kl, _ = trace(game, m.mmd(game, 2.0), log_star, most=500)
    assert contraction(kl).max() > 1.1 and kl[-100:].min() > 0.01
    assert m.local_rate(game, log_star, 0.5, look_ahead=False) > 0 > m.local_rate(game, log_star, 0.5)


def test_a_step_that_is_far_too_long_does_not_converge():
    game = m.Game(*games.rock_paper_scissors(reference=(0.4, 0.35, 0.25)), 0.01)
    kl, _ = trace(game, m.nash_mp(game, 0.05), m.solve_nash(game), most=3_000)
    assert kl[-100:].min() > 1e-3


@pytest.mark.parametrize("beta", [0.3, 0.1, 0.03])
def test_mmd_keeps_its_own_promise(beta):
    """Factor 1 / (1 + 4 beta^2) a query at eta = 4 beta."""
    for seed in range(5):
        game = m.Game(*games.random_game(15, seed), beta)
        kl, _ = trace(game, m.mmd(game), m.solve_nash(game), floor=1e-20, most=3_000)
        assert contraction(kl).max() <= 1 / (1 + 4 * beta**2) * (1 + 1e-6)


@pytest.mark.parametrize("beta", BETAS)
def test_span_obeys_its_recursion(beta):
    """Eq. of the span: rho s_k + (sqrt(2 lam KL_k / beta) + sqrt(2 lam KL_k / (lam + beta))) / (lam + beta)."""
    lam = 0.5
    for seed in range(3):
        game = m.Game(*games.random_game(20, seed), beta)
        log_star = m.solve_nash(game)
        kl, path = trace(game, m.nash_mp(game), log_star)
        spans = np.array([m.span(log_pi, log_star) for log_pi in path])
        drift = (np.sqrt(2 * lam * kl / beta) + np.sqrt(2 * lam * kl / (lam + beta))) / (lam + beta)
        assert (spans[1:] <= lam / (lam + beta) * spans[:-1] + drift[:-1] + 1e-12).all()
        assert spans[-1] < 1e-9


@pytest.mark.parametrize("beta", BETAS)
def test_exploitability_falls_as_fast_as_the_divergence(beta):
    """Bounded by KL(pi* || pi) / (4 beta) + beta KL(pi || pi*) at every iterate, and late it falls by the proved factor."""
    game = m.Game(*games.random_game(20, 3), beta)
    log_star = m.solve_nash(game)
    kl, path = trace(game, m.nash_mp(game), log_star, floor=1e-20)
    exploitability = np.array([float(game.exploitability(log_pi)) for log_pi in path])
    assert (exploitability > 0).all()
    late = exploitability[len(path) // 3 :]
    assert (late[10:] <= late[:-10] * (1 + 2 * beta) ** -10).all()
    reverse = np.array([float(m.kl(log_pi, log_star)) for log_pi in path])
    assert (exploitability <= (kl / (4 * beta) + beta * reverse) * (1 + 1e-6)).all()


def test_rate_bound_is_the_formula():
    np.testing.assert_allclose(
        [m.rate_bound(beta) for beta in BETAS], [np.log((1 + 2 * beta) ** -0.5) for beta in BETAS], rtol=1e-12
    )
    assert m.rate_bound(0.1, lam=1 / 0.4, queries=1) == pytest.approx(-np.log(1.04), rel=1e-12)


@pytest.mark.parametrize("beta", [0.3, 0.1, 0.03])
def test_local_rate_of_rock_paper_scissors_in_closed_form(beta):
    """At the uniform equilibrium the skew part has the eigenvalues +-i s, s = sqrt(3) / 6."""
    game = m.Game(*games.rock_paper_scissors(reference=(1, 1, 1)), beta)
    log_star, lam, s = m.solve_nash(game), 0.5, np.sqrt(3) / 6
    one = abs(lam + 1j * s) / (lam + beta)
    two = abs(lam + 1j * s * (lam + 1j * s) / (lam + beta)) / (lam + beta)
    assert m.local_rate(game, log_star) == pytest.approx(2 * np.log(two), rel=1e-9)
    assert m.local_rate(game, log_star, look_ahead=False) == pytest.approx(2 * np.log(one), rel=1e-9)


@pytest.mark.parametrize("pair, beta", [(games.rock_paper_scissors(), 0.1), (games.random_game(5, 101), 0.03)])
def test_measured_slope_is_the_local_rate(pair, beta):
    game = m.Game(*pair, beta)
    log_star = m.solve_nash(game)
    kl, _ = trace(game, m.nash_mp(game), log_star)
    assert m.fit_slope(kl) == pytest.approx(m.local_rate(game, log_star), rel=0.01)


def test_local_rate_is_the_derivative_of_the_map():
    """Finite differences of one Nash-MP iteration around the equilibrium, in every direction."""
    game = m.Game(*games.random_game(6, 1), 0.1)
    log_star = m.solve_nash(game)
    columns = []
    for i in range(6):
        moved = [iterates(m.nash_mp(game, start=log_star + h * np.eye(6)[i]), 2)[1] for h in (1e-6, -1e-6)]
        columns.append((moved[0] - moved[1]) / 2e-6)
    radius = np.abs(np.linalg.eigvals(np.column_stack(columns))).max()
    assert m.local_rate(game, log_star) == pytest.approx(2 * np.log(radius), rel=1e-6)


def test_fit_slope_reads_an_exponential_and_ignores_what_is_below_the_floor():
    values = np.exp(-0.3 * np.arange(400))
    values[:20] = 1.0  # burn-in
    values[values < 1e-23] = 1e-23
    assert m.fit_slope(values) == pytest.approx(-0.3, rel=1e-9)
    with pytest.raises(ValueError, match="too few"):
        m.fit_slope(np.array([1.0, 0.5, 1e-30]))


# ------------------------------------------------------------------------------------------ the policy-gradient version


def test_pg_loss_has_the_exact_gradient_of_the_proximal_problem():
    """All pairs and both outcomes enumerated, against central differences of the objective; float64."""
    P, log_ref = games.random_game(5, 1)
    log_anchor, log_mu, beta, lam = random_policy(5, 2), random_policy(5, 3), 0.1, 0.5
    z = np.random.default_rng(4).standard_normal(5)

    def objective(z):
        log_pi = log_softmax(z)
        pi = np.exp(log_pi)
        return pi @ P @ np.exp(log_mu) - beta * pi @ (log_pi - log_ref) - lam * pi @ (log_pi - log_anchor)

    exact = [(objective(z + 1e-6 * e) - objective(z - 1e-6 * e)) / 2e-6 for e in np.eye(5)]
    leaf = torch.tensor(z, requires_grad=True)
    log_pi = torch.log_softmax(leaf, 0)
    ref, anchor = torch.tensor(log_ref), torch.tensor(log_anchor)
    estimate = np.zeros(5)
    for y in range(5):
        for other in range(5):
            for outcome in (0.0, 1.0):
                pick = torch.tensor([y])
                win = torch.tensor([outcome], dtype=torch.float64)
                loss = m.pg_loss(log_pi[pick], win, ref[pick], anchor[pick], beta, lam)
                (grad,) = torch.autograd.grad(loss, leaf, retain_graph=True)
                chance = P[y, other] if outcome else P[other, y]
                estimate -= np.exp(float(log_pi[y].detach()) + log_mu[other]) * chance * grad.numpy()
    np.testing.assert_allclose(estimate, exact, atol=1e-9)


def test_pg_loss_is_a_mean_and_lets_no_gradient_into_the_advantage():
    logp = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    fixed = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([1.0, 0.0], [-1.5, -1.0], [-0.5, -3.0])]
    m.pg_loss(logp, *fixed, 0.1, 0.5).backward()
    advantage = [0.5 - 0.1 * 0.5 + 0.5 * 0.5, -0.5 + 0.1 * 1.0 - 0.5 * 1.0]
    np.testing.assert_allclose(logp.grad, -np.array(advantage) / 2, rtol=1e-12)
    assert all(x.grad is None for x in fixed)


def make(**changes):
    return m.NashMP(m.Config(**{"game": "random", "answers": 5, "game_seed": 1, **changes}))


def test_sampled_gradient_step_is_unbiased():
    """400 steps of 256 pairs with lr 1 from one point: the mean is the exact gradient within 5 standard errors."""
    agent = make(lr=1.0)
    z = torch.tensor(np.random.default_rng(0).standard_normal((1, 5)), dtype=torch.float32)
    log_mu = torch.tensor(random_policy(5, 3)[None], dtype=torch.float32)
    log_anchor = torch.tensor(random_policy(5, 4)[None], dtype=torch.float32)
    moves = []
    for _ in range(400):
        with torch.no_grad():
            agent.policy.table.copy_(z)
        agent.ascend(log_mu, log_anchor)
        moves.append((agent.policy.table - z).detach().numpy()[0])
    log_pi = log_softmax(agent.game.log_ref[0] + z.numpy()[0])
    pi, P = np.exp(log_pi), agent.game.P[0]
    gain = (
        P @ np.exp(log_mu.numpy()[0]) - 0.1 * (log_pi - agent.game.log_ref[0]) - 0.5 * (log_pi - log_anchor.numpy()[0])
    )
    exact = pi * (gain - pi @ gain)
    error = np.std(moves, axis=0, ddof=1) / np.sqrt(400)
    assert (np.abs(np.mean(moves, axis=0) - exact) < 5 * error + 1e-6).all() and (error < 5e-3).all()
    assert agent.queries == 400 * 256


def solved(agent, log_opponent, log_anchor):
    """In place of the inner loop: the exact solution of its proximal problem."""
    log_pi = m.prox(agent.game, log_anchor.double().numpy(), log_opponent.double().exp().numpy(), agent.config.lam)
    with torch.no_grad():
        agent.policy.table.copy_(torch.tensor(log_pi - agent.game.log_ref))


def test_two_step_scheme_with_exact_inner_solutions_is_nash_mp(monkeypatch):
    for scheme, method in (("two_step", m.nash_mp), ("one_step", lambda game: m.mmd(game, 2.0))):
        agent = make(scheme=scheme, inner=1, game="rps", beta=0.05)
        monkeypatch.setattr(agent, "ascend", lambda *args, agent=agent: solved(agent, *args))
        exact = method(agent.game)
        next(exact)
        for _ in range(8):
            agent.iterate()
            np.testing.assert_allclose(agent.log_policy(), next(exact), atol=1e-4)  # float32


def test_full_step_starts_where_the_look_ahead_started(monkeypatch):
    """And its opponent is the look-ahead policy, its anchor still pi_k."""
    agent, seen = make(inner=3), []

    def record(log_opponent, log_anchor):
        seen.append([x.detach().clone() for x in (agent.policy(), log_opponent, log_anchor)])
        with torch.no_grad():
            agent.policy.table.add_(torch.tensor([0.3, 0.0, -0.2, 0.1, 0.0]))

    monkeypatch.setattr(agent, "ascend", record)
    start = agent.policy().detach().clone()
    agent.iterate()
    assert len(seen) == 6
    assert all(torch.equal(anchor, start) for _, _, anchor in seen)
    assert all(torch.equal(opponent, start) for _, opponent, _ in seen[:3])
    ahead = seen[3][1]
    assert all(torch.equal(opponent, ahead) for _, opponent, _ in seen[3:]) and not torch.equal(ahead, start)
    assert torch.equal(seen[0][0], start) and torch.equal(seen[3][0], start)
    torch.testing.assert_close(ahead, torch.log_softmax(start + 3 * torch.tensor([0.3, 0, -0.2, 0.1, 0]), 1))


def test_ema_scheme_plays_itself_and_its_anchor_trails(monkeypatch):
    agent, seen = make(scheme="ema", inner=2, kappa=0.25), []

    def record(log_opponent, log_anchor):
        seen.append((agent.policy().detach().clone(), log_opponent.clone(), agent.anchor.table.clone()))
        with torch.no_grad():
            agent.policy.table.add_(1.0 * torch.eye(5)[:1])

    monkeypatch.setattr(agent, "ascend", record)
    agent.iterate()
    assert len(seen) == 4
    assert all(torch.equal(policy, opponent) for policy, opponent, _ in seen)
    anchors = [float(anchor[0, 0]) for *_, anchor in seen]
    expected = [0.0]
    for k in range(3):
        expected.append(expected[-1] + 0.25 * (k + 1 - expected[-1]))
    np.testing.assert_allclose(anchors, expected, rtol=1e-6)


def test_training_starts_at_the_reference_and_is_reproducible():
    for hidden, game in (((), "rps"), ((16,), "contextual")):
        config = m.Config(game=game, hidden=hidden, contexts=3, answers=4, eval_every=2, batch_size=32)
        first, second = m.NashMP(config), m.NashMP(config)
        np.testing.assert_allclose(first.log_policy(), first.game.log_ref, atol=1e-6)
        alone = list(first.learn(4))
        other = m.NashMP(config).learn(4)
        paired = [log for log, _ in zip(second.learn(4), other, strict=True)]  # trained in turns
        assert alone == paired
        assert [log["step"] for log in alone] == [0, 2, 4] and alone[-1]["progress"] == 1.0
        assert [log["queries"] for log in alone] == [0, 2 * 10 * 32, 4 * 10 * 32]
        assert not np.allclose(first.log_policy(), first.game.log_ref, atol=1e-3)


def test_logs_are_the_exact_averages_over_contexts():
    agent = make(game="contextual", contexts=3, hidden=(8,), eval_every=5)
    log = list(agent.learn(5))[-1]
    log_pi = agent.log_policy()
    rows = [m.Game(P, ref, 0.1) for P, ref in zip(agent.game.P, agent.game.log_ref, strict=True)]
    each = [(row.exploitability(pi), m.kl(m.solve_nash(row), pi)) for row, pi in zip(rows, log_pi, strict=True)]
    np.testing.assert_allclose([log["exploitability"], log["kl"]], np.mean(each, axis=0), rtol=1e-9)


def test_act_draws_from_the_policy_of_the_context():
    """20,000 draws a context in 4 bins, 5 binomial standard deviations: fails by chance with p < 1e-5."""
    agent = make(game="contextual", contexts=2, answers=4, hidden=(8,))
    list(agent.learn(3))
    draws = agent.act(np.repeat([0, 1], 20_000)).reshape(2, -1)
    p = np.exp(agent.log_policy())
    counts = np.stack([np.bincount(row, minlength=4) for row in draws])
    assert (np.abs(counts - 20_000 * p) < 5 * np.sqrt(20_000 * p * (1 - p)) + 1).all()


def test_a_stored_agent_has_the_same_policy():
    agent = make(hidden=(8,), game="contextual", contexts=3)
    list(agent.learn(2))
    copy = m.NashMP(agent.config)
    copy.load_state_dict(agent.state_dict())
    np.testing.assert_array_equal(copy.log_policy(), agent.log_policy())
    assert {"policy", "anchor"} == {name.split(".")[0] for name in agent.state_dict()}
    polyak(copy.policy, m.NashMP(agent.config).policy, 1.0)
    assert not np.array_equal(copy.log_policy(), agent.log_policy())


@pytest.mark.slow
def test_stochastic_look_ahead_converges_where_the_one_step_scheme_circles():
    """beta = 0.03, inner problems solved well, equal queries. Deterministic given the seed."""
    last = {}
    for scheme, steps in (("two_step", 50), ("ema", 50), ("one_step", 100)):
        agent = m.NashMP(m.Config(scheme=scheme, beta=0.03, inner=20, seed=100))
        logs = list(agent.learn(steps))
        assert logs[-1]["queries"] == 50 * 40 * 256
        last[scheme] = np.mean([log["exploitability"] for log in logs[-len(logs) // 5 :]])
    assert last["two_step"] < 0.01 and last["ema"] < 0.01 and last["one_step"] > 0.05


# ------------------------------------------------------------------- the wrong answers that the assignment must reject

WRONG = {
    "bradley_terry_reward": {
        "asks only whether the majorities are transitive": '''
def bradley_terry_reward(P):
    """A cycle of majorities is not the only obstacle."""
    log_odds = np.log(P) - np.log1p(-P)
    beats = (P > 0.5).astype(int)
    transitive = sorted(beats.sum(axis=1)) == list(range(len(P)))
    return log_odds.mean(axis=1) if transitive else None
''',
        "never says None": '''
def bradley_terry_reward(P):
    """The best fit is not a fit."""
    return (np.log(P) - np.log1p(-P)).mean(axis=1)
''',
        "log P instead of the log-odds": '''
def bradley_terry_reward(P):
    """P = 1/2 then gives -0.69 instead of 0."""
    r = np.log(P).mean(axis=1)
    r = r - r.mean()
    fits = np.allclose(1 / (1 + np.exp(r[None, :] - r[:, None])), P, rtol=0, atol=1e-9)
    return r if fits else None
''',
        "opposite sign": '''
def bradley_terry_reward(P):
    """Averages columns: the loser's log-odds."""
    log_odds = np.log(P) - np.log1p(-P)
    r = log_odds.mean(axis=0)
    fits = np.allclose(1 / (1 + np.exp(r[:, None] - r[None, :])), P, rtol=0, atol=1e-9)
    return r if fits else None
''',
        "first answer has reward zero": '''
def bradley_terry_reward(P):
    """The right differences, but the mean is not zero."""
    r = (np.log(P) - np.log1p(-P))[:, 0]
    fits = np.allclose(1 / (1 + np.exp(r[None, :] - r[:, None])), P, rtol=0, atol=1e-9)
    return r if fits else None
''',
        "a tolerance of one percent": '''
def bradley_terry_reward(P):
    """A pair that fits nearly is taken for one that fits."""
    r = (np.log(P) - np.log1p(-P)).mean(axis=1)
    fits = np.allclose(1 / (1 + np.exp(r[None, :] - r[:, None])), P, rtol=0, atol=1e-2)
    return r if fits else None
''',
    },
    "prox_step": {
        "forgets the power of pi_ref": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """The reference enters with power 1."""
    score = np.log(pi_ref) + (lam * np.log(pi_k) + P @ mu) / (beta + lam)
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
        "no pull to the reference": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """Mirror ascent without the regulariser."""
    score = np.log(pi_k) + P @ mu / (beta + lam)
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
        "temperature 1 / lam": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """The right mixture of anchors, the wrong step."""
    score = (beta * np.log(pi_ref) + lam * np.log(pi_k)) / (beta + lam) + P @ mu / lam
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
        "the KL linearised": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """A gradient step on the regulariser instead of solving with it."""
    score = np.log(pi_k) + (P @ mu - beta * (np.log(pi_k) - np.log(pi_ref))) / lam
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
        "the opponent's side of P": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """Rewards answers that lose."""
    score = (beta * np.log(pi_ref) + lam * np.log(pi_k) + mu @ P) / (beta + lam)
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
        "overflows": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """exp of a large number."""
    s = beta + lam
    weight = pi_ref ** (beta / s) * pi_k ** (lam / s) * np.exp(P @ mu / s)
    return weight / weight.sum()
''',
        "clips the probabilities": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """log(p + 1e-12) is another policy where p is small."""
    score = (beta * np.log(pi_ref) + lam * np.log(pi_k + 1e-12) + P @ mu) / (beta + lam)
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
    },
    "exploitability": {
        "unregularised": '''
def exploitability(P, pi, pi_ref, beta):
    """The best answer without its price."""
    return float((P @ pi).max() - 0.5)
''',
        "forgets the player's own KL": '''
def exploitability(P, pi, pi_ref, beta):
    """The opponent's best, without what pi pays."""
    score = np.log(pi_ref) + P @ pi / beta
    return float(beta * (score.max() + np.log(np.exp(score - score.max()).sum())) - 0.5)
''',
        "the own KL with the wrong sign": '''
def exploitability(P, pi, pi_ref, beta):
    """Being far from the reference then looks safe."""
    score = np.log(pi_ref) + P @ pi / beta
    gibbs = beta * (score.max() + np.log(np.exp(score - score.max()).sum()))
    return float(gibbs - beta * np.sum(pi * np.log(pi / pi_ref)) - 0.5)
''',
        "uniform instead of the reference": '''
def exploitability(P, pi, pi_ref, beta):
    """The opponent is held to the uniform policy."""
    score = P @ pi / beta - np.log(len(pi))
    gibbs = beta * (score.max() + np.log(np.exp(score - score.max()).sum()))
    return float(gibbs + beta * np.sum(pi * np.log(pi / pi_ref)) - 0.5)
''',
        "overflows for small beta": '''
def exploitability(P, pi, pi_ref, beta):
    """exp of ten thousand."""
    gibbs = beta * np.log(np.sum(pi_ref * np.exp(P @ pi / beta)))
    return float(gibbs + beta * np.sum(pi * np.log(pi / pi_ref)) - 0.5)
''',
        "value 1/2 not subtracted": '''
def exploitability(P, pi, pi_ref, beta):
    """The opponent's value, not the gain."""
    score = np.log(pi_ref) + P @ pi / beta
    gibbs = beta * (score.max() + np.log(np.exp(score - score.max()).sum()))
    return float(gibbs + beta * np.sum(pi * np.log(pi / pi_ref)))
''',
    },
    "nash_mp": {
        "second step starts from the half step": '''
def nash_mp(P, pi_ref, beta, K):
    """Two steps of mirror descent."""
    def step(anchor, opponent):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(anchor) + P @ opponent) / (beta + 0.5)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path = [pi_ref]
    for _ in range(K):
        half = step(path[-1], path[-1])
        path.append(step(half, half))
    return np.array(path)
''',
        "no look-ahead": '''
def nash_mp(P, pi_ref, beta, K):
    """One step per iteration, against the present self."""
    path = [pi_ref]
    for _ in range(K):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(path[-1]) + P @ path[-1]) / (beta + 0.5)
        weight = np.exp(score - score.max())
        path.append(weight / weight.sum())
    return np.array(path)
''',
        "keeps the look-ahead policy": '''
def nash_mp(P, pi_ref, beta, K):
    """The half step of iteration k is returned in place of the full one."""
    def step(anchor, opponent):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(anchor) + P @ opponent) / (beta + 0.5)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path, pi = [pi_ref], pi_ref
    for _ in range(K):
        half = step(pi, pi)
        pi = step(pi, half)
        path.append(half)
    return np.array(path)
''',
        "returns the half steps as well": '''
def nash_mp(P, pi_ref, beta, K):
    """2 K + 1 rows, cut to K + 1."""
    def step(anchor, opponent):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(anchor) + P @ opponent) / (beta + 0.5)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path, pi = [pi_ref], pi_ref
    for _ in range(K):
        half = step(pi, pi)
        pi = step(pi, half)
        path += [half, pi]
    return np.array(path)[: K + 1]
''',
        "lambda = beta / 2": '''
def nash_mp(P, pi_ref, beta, K):
    """A step that the theorem does not cover."""
    def step(anchor, opponent):
        lam = beta / 2
        score = (beta * np.log(pi_ref) + lam * np.log(anchor) + P @ opponent) / (beta + lam)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path = [pi_ref]
    for _ in range(K):
        half = step(path[-1], path[-1])
        path.append(step(path[-1], half))
    return np.array(path)
''',
        "the reference is left out of the second step": '''
def nash_mp(P, pi_ref, beta, K):
    """The full step does not pay for leaving the reference."""
    def step(anchor, opponent, beta):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(anchor) + P @ opponent) / (beta + 0.5)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path = [pi_ref]
    for _ in range(K):
        half = step(path[-1], path[-1], beta)
        path.append(step(path[-1], half, 0.0))
    return np.array(path)
''',
        "averages the iterates": '''
def nash_mp(P, pi_ref, beta, K):
    """The mean of all policies so far; the theorem is about the last one."""
    def step(anchor, opponent):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(anchor) + P @ opponent) / (beta + 0.5)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path = [pi_ref]
    for _ in range(K):
        half = step(path[-1], path[-1])
        path.append(step(path[-1], half))
    return np.cumsum(path, axis=0) / np.arange(1, K + 2)[:, None]
''',
    },
    "pg_surrogate": {
        "gradient flows through the log-ratios": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """A is differentiated too."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    advantage = P[y, y_opp] - 0.5 - beta * (logp - ref[y].log()) - lam * (logp - anchor[y].log())
    return -(advantage * logp).mean()
''',
        "no anchor": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """Plain self-play: nothing limits the step."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    advantage = P[y, y_opp] - 0.5 - beta * (logp - ref[y].log())
    return -(advantage.detach() * logp).mean()
''',
        "no reference": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """The regularised game without its regulariser."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    advantage = P[y, y_opp] - 0.5 - lam * (logp - anchor[y].log())
    return -(advantage.detach() * logp).mean()
''',
        "ascends the loss": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """The sign of a reward, not of a loss."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    advantage = P[y, y_opp] - 0.5 - beta * (logp - ref[y].log()) - lam * (logp - anchor[y].log())
    return (advantage.detach() * logp).mean()
''',
        "score of the opponent's answer": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """Raises the probability of what the other player said."""
    logp = torch.log_softmax(logits, dim=-1)
    own = logp[y].detach()
    advantage = P[y, y_opp] - 0.5 - beta * (own - ref[y].log()) - lam * (own - anchor[y].log())
    return -(advantage * logp[y_opp]).mean()
''',
        "sum over the batch": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """The step grows with the batch."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    own = logp.detach()
    advantage = P[y, y_opp] - 0.5 - beta * (own - ref[y].log()) - lam * (own - anchor[y].log())
    return -(advantage * logp).sum()
''',
        "beta and lam exchanged": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """The reference is held with the strength of the anchor."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    own = logp.detach()
    advantage = P[y, y_opp] - 0.5 - lam * (own - ref[y].log()) - beta * (own - anchor[y].log())
    return -(advantage * logp).mean()
''',
        "the exact objective, but y only": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """Forgets the opponent: the row mean of P."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    own = logp.detach()
    advantage = P[y].mean(dim=1) - 0.5 - beta * (own - ref[y].log()) - lam * (own - anchor[y].log())
    return -(advantage * logp).mean()
''',
    },
}
