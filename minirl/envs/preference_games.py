"""Preference games: which of two answers is preferred, and what no reward can say about it.

A preference matrix P (n, n) holds in P[y, y'] the probability that answer y is preferred to answer y'. So
P + P^T = 1, and the diagonal is 1/2. A game for one prompt is the pair (P, log_ref): the matrix and the logarithm of
the reference policy (n,). A game for X prompts ("contexts") has a leading axis: P (X, n, n), log_ref (X, n).

Bradley-Terry is the model behind reward-based alignment: P[y, y'] = sigmoid(r[y] - r[y']). It has n - 1 free numbers,
a preference matrix has n (n - 1) / 2, and around a cycle of answers the log-odds of Bradley-Terry cancel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, log_softmax, logit, rel_entr

# ---------------------------------------------------------------------------------------------------------- the game


def check_preference(P: np.ndarray) -> np.ndarray:
    """P (..., n, n) as float64. Raises ValueError naming the first entry outside [0, 1] or at odds with its mirror."""
    P = np.asarray(P, dtype=float)
    if P.ndim < 2 or P.shape[-1] != P.shape[-2] or P.shape[-1] < 2:
        raise ValueError(f"P must have shape (..., n, n) with n >= 2, got {P.shape}")
    total = P + np.swapaxes(P, -1, -2)
    diagonal = np.eye(P.shape[-1], dtype=bool)
    for bad, complaint in (
        (~((P >= 0) & (P <= 1)), "preferences are probabilities"),  # NaN is caught here too
        (diagonal & (np.abs(P - 0.5) > 1e-9), "an answer is preferred to itself with probability 1/2"),
        (np.abs(total - 1) > 1e-9, "P[y, y'] + P[y', y] must be 1"),
    ):
        if bad.any():
            *context, y, other = (int(i) for i in np.argwhere(bad)[0])
            entry, mirror = [*context, y, other], [*context, other, y]
            raise ValueError(f"P{entry} is {P[*entry]:.6g} and P{mirror} is {P[*mirror]:.6g}: {complaint}")
    return P


def normalise(logits: np.ndarray) -> np.ndarray:
    """Logits (..., n) -> log-probabilities (..., n)."""
    z = logits - logits.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def win_rates(P: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """(P mu)[y] = P(y preferred to an answer of mu), (..., n), for probabilities mu (..., n). One preference query."""
    return mu @ P.T if P.ndim == 2 else (P @ mu[..., None])[..., 0]


@dataclass(frozen=True, eq=False)
class Game:
    """The regularised preference game of P, a reference policy and beta. One row a context, or a single matrix.

    Raises ValueError naming the entry when P is no preference, log_ref is not normalised, or beta is not positive.
    """

    P: np.ndarray  # (..., n, n), P[y, y'] = probability that y is preferred to y'
    log_ref: np.ndarray  # (..., n), log of the reference policy, full support
    beta: float  # price of a nat of KL to the reference, > 0

    def __post_init__(self):
        P, log_ref = check_preference(self.P), np.asarray(self.log_ref, dtype=float)
        if log_ref.shape != P.shape[:-1]:
            raise ValueError(f"log_ref must have shape {P.shape[:-1]} to go with P, got {log_ref.shape}")
        if not np.isfinite(log_ref).all():
            entry = [int(i) for i in np.argwhere(~np.isfinite(log_ref))[0]]
            raise ValueError(f"log_ref{entry} is {log_ref[*entry]}; the reference gives every answer some probability")
        total = np.exp(log_ref).sum(axis=-1, keepdims=True)
        if (np.abs(total - 1) > 1e-9).any():
            *row, _ = (int(i) for i in np.argwhere(np.abs(total - 1) > 1e-9)[0])
            raise ValueError(f"log_ref{row or ''} is not normalised: its probabilities sum to {total[*row, 0]:.6g}")
        if not 0 < self.beta < np.inf:
            raise ValueError(f"beta must be positive, got {self.beta}")
        object.__setattr__(self, "P", P)  # the dataclass is frozen for everyone else
        object.__setattr__(self, "log_ref", log_ref)

    def value(self, pi: np.ndarray, mu: np.ndarray) -> np.ndarray:
        """P_beta(pi > mu) (...), eq. (1), for probabilities pi, mu (..., n), zeros allowed. It is 1/2 when pi = mu."""
        ref = np.exp(self.log_ref)
        wins = (pi * win_rates(self.P, mu)).sum(axis=-1)
        return wins - self.beta * (rel_entr(pi, ref).sum(axis=-1) - rel_entr(mu, ref).sum(axis=-1))

    def best_response(self, log_mu: np.ndarray) -> np.ndarray:
        """Log of the policy (..., n) that does best against mu, eq. (2): pi_ref exp(P mu / beta), normalised."""
        return normalise(self.log_ref + win_rates(self.P, np.exp(log_mu)) / self.beta)

    def exploitability(self, log_pi: np.ndarray) -> np.ndarray:
        """What the best response wins beyond 1/2, (...), eq. (3): beta KL(pi || best response to pi).

        The same number as beta log sum pi_ref exp(P pi / beta) + beta KL(pi || pi_ref) - 1/2, but without the
        cancellation of two large terms, so that it can be followed down to 1e-25.
        """
        return self.beta * kl(log_pi, self.best_response(log_pi))


def kl(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p || q) (...) of policies (..., n), accurate also when it is far below the rounding error of a probability.

    Each answer adds p d - p + q with d = log p - log q, where p - q sums to 0. No term is negative, so nothing cancels
    between answers; within a term the difference is a power series where d is small. A KL of 1e-24 keeps its digits.
    """
    d, p, q = np.asarray(log_p) - log_q, np.exp(log_p), np.exp(log_q)
    series = d**2 * (1 / 2 + d * (1 / 3 + d * (1 / 8 + d * (1 / 30 + d / 144))))  # of d e^d - e^d + 1
    return np.where(np.abs(d) < 0.01, q * series, p * d - p + q).sum(axis=-1)


def span(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """Span semi-norm (...) of log p - log q: largest minus smallest entry, blind to a constant."""
    return np.ptp(np.asarray(log_p) - log_q, axis=-1)


def solve_nash(game: Game) -> np.ndarray:
    """Log of the equilibrium (..., n): the root of log pi - log best_response(pi), eq. (2), by Newton's method.

    It shares nothing with mirror prox. beta is lowered from 1 by factors of at most 2, each root starting the next
    search, and steps are halved while the residual does not fall. The residual is at most 1e-12 (for beta below
    1e-3: 1e-15 / beta, the rounding of P pi / beta). O(n^3) a step. Raises ArithmeticError if it does not get there.
    """
    if game.P.ndim > 2:
        rows = [Game(P, log_ref, game.beta) for P, log_ref in zip(game.P, game.log_ref, strict=True)]
        return np.stack([solve_nash(row) for row in rows])
    log_pi, beta = game.log_ref, max(1.0, game.beta)
    while True:
        easier = Game(game.P, game.log_ref, beta)
        log_pi, residual = newton(easier, log_pi)
        if beta == game.beta:
            break
        beta = max(beta / 2, game.beta)
    if residual > max(1e-12, 1e-15 / beta):
        raise ArithmeticError(f"the equilibrium was not found: residual {residual:.1e} at beta = {beta:g}")
    return log_pi


def newton(game: Game, log_pi: np.ndarray, steps: int = 60) -> tuple[np.ndarray, float]:
    """Damped Newton from log_pi (n,) on eq. (2): the best point seen and its residual, the largest error of a log."""
    error = log_pi - game.best_response(log_pi)
    for _ in range(steps):
        jacobian = np.eye(len(log_pi)) - response_slope(game, log_pi) / game.beta
        direction, size = np.linalg.solve(jacobian, error), 1.0
        while True:
            trial = normalise(log_pi - size * direction)
            trial_error = trial - game.best_response(trial)
            if np.ptp(trial_error) < np.ptp(error) or size < 1e-4:
                break
            size /= 2
        if np.ptp(trial_error) >= np.ptp(error):  # rounding is all that is left
            break
        log_pi, error = trial, trial_error
    return log_pi, float(np.abs(error).max())


def response_slope(game: Game, log_pi: np.ndarray) -> np.ndarray:
    """Derivative (n, n) of beta log best_response(pi) by log pi at a fixed point: (I - 1 pi^T) P (diag pi - pi pi^T)."""
    pi, response = np.exp(log_pi), np.exp(game.best_response(log_pi))
    slope = game.P * pi - np.outer(game.P @ pi, pi)
    return slope - response @ slope


# --------------------------------------------------------------------------------------------------------- families of games


def log_policy(weights: Sequence[float]) -> np.ndarray:
    """Logarithm (n,) of the policy proportional to positive weights (n,)."""
    weights = np.asarray(weights, dtype=float)
    if not (weights > 0).all() or not np.isfinite(weights).all():
        i = int(np.argmin((weights > 0) & np.isfinite(weights)))
        raise ValueError(f"weights[{i}] is {weights[i]}; a reference policy gives every answer some probability")
    return np.log(weights / weights.sum())


def rock_paper_scissors(
    bias: float = 0.0, win: float = 1.0, reference: Sequence[float] = (0.6, 0.3, 0.1)
) -> tuple[np.ndarray, np.ndarray]:
    """P (3, 3) and log_ref (3,) of rock, paper, scissors: paper beats rock with probability `win`, and so on round.

    bias: rock beats scissors with probability win - bias only. Without regularisation the equilibrium plays each
    answer in proportion to the margin between the other two, so a larger bias means less paper.
    """
    if not 0.5 < win - bias <= 1 or not 0.5 < win <= 1:
        raise ValueError(f"win and win - bias must lie in (1/2, 1], got {win} and {win - bias}")
    paper_rock, scissors_paper, rock_scissors = win - 0.5, win - 0.5, win - bias - 0.5
    skew = np.array(
        [[0, -paper_rock, rock_scissors], [paper_rock, 0, -scissors_paper], [-rock_scissors, scissors_paper, 0]]
    )
    return 0.5 + skew, log_policy(reference)


def mixed_game(
    cyclicity: float, scale: float = 3.0, reference: Sequence[float] = (0.6, 0.3, 0.1)
) -> tuple[np.ndarray, np.ndarray]:
    """Three answers between Bradley-Terry (cyclicity 0, rewards 1/2, 0, -1/2) and pure rock-paper-scissors (1).

    The log-odds are mixed: scale * ((1 - c) (r_i - r_j) + c C_ij), with C_ij = +-1 around the cycle.
    """
    if not 0 <= cyclicity <= 1:
        raise ValueError(f"cyclicity must lie in [0, 1], got {cyclicity}")
    reward = np.array([0.5, 0.0, -0.5])
    cycle = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    log_odds = (1 - cyclicity) * (reward[:, None] - reward) + cyclicity * cycle
    return expit(scale * log_odds), log_policy(reference)


def random_game(n: int, seed: int, scale: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """P (n, n) = sigmoid(scale (G - G^T)) with standard normal G, and a reference log_softmax of standard normals.

    Almost every triple of answers breaks Bradley-Terry, and a quarter of the triples are majority cycles.
    """
    if n < 2:
        raise ValueError(f"a game needs at least 2 answers, got {n}")
    rng = np.random.default_rng([seed, n])
    G = rng.standard_normal((n, n))
    return expit(scale * (G - G.T)), log_softmax(rng.standard_normal(n))


def bradley_terry(rewards: Sequence[float], reference: Sequence[float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The transitive game P[i, j] = sigmoid(rewards[i] - rewards[j]); the reference is uniform by default."""
    rewards = np.asarray(rewards, dtype=float)
    if rewards.ndim != 1 or not np.isfinite(rewards).all():
        raise ValueError(f"rewards must be finite numbers in one row, got {rewards}")
    return expit(rewards[:, None] - rewards), log_policy(np.ones(len(rewards)) if reference is None else reference)


def contextual_game(
    contexts: int = 16, n: int = 6, seed: int = 0, features: int = 8, scale: float = 3.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P (X, n, n), log_ref (X, n) and the features (X, d) from which a network can know the context.

    Answer y has style y % 3 and quality y // 3. Readers agree that quality counts (1 unit of log-odds a level) and run
    in circles about style (`scale` units around rock, paper, scissors); which way round is the sign of feature 0. How
    much a context likes each style, and its reference policy, are linear in the features.
    """
    if contexts < 1 or n < 2:
        raise ValueError(f"need at least 1 context and 2 answers, got {contexts} and {n}")
    rng = np.random.default_rng([seed, contexts, n])
    x = rng.standard_normal((contexts, features))
    style, quality = np.arange(n) % 3, np.arange(n) // 3
    reward = quality + (x @ rng.standard_normal((features, 3)) / np.sqrt(features))[:, style]
    cycle = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])[style[:, None], style]
    odds = reward[:, :, None] - reward[:, None] + scale * np.sign(x[:, :1, None]) * cycle
    log_ref = log_softmax(x @ rng.standard_normal((features, n)) / np.sqrt(features), axis=-1)
    return expit(odds), log_ref, x


# ------------------------------------------------------------------------------- what a reward cannot represent


def log_odds(P: np.ndarray) -> np.ndarray:
    """log P[i, j] / P[j, i] (n, n). Raises ValueError where a preference is certain: no finite reward is certain."""
    P = np.asarray(P, dtype=float)
    certain = np.argwhere((P <= 0) | (P >= 1))
    if len(certain):
        i, j = certain[0]
        raise ValueError(f"P[{i}, {j}] is {P[i, j]:g}: its log-odds are infinite, no finite reward represents it")
    return logit(P)


def cycle_sum(P: np.ndarray, cycle: Sequence[int]) -> float:
    """Sum of the log-odds around a cycle of answers, i -> j -> ... -> i. For rewards r it telescopes to 0.

    So |cycle_sum| / len(cycle) is a lower bound on the largest error in log-odds of ANY reward on the pairs of the
    cycle, because errors that small could not add up to the sum.
    """
    odds = log_odds(P)
    return float(sum(odds[i, j] for i, j in zip(cycle, [*cycle[1:], cycle[0]], strict=True)))


def worst_triple(P: np.ndarray) -> tuple[tuple[int, int, int], float]:
    """The triple of answers with the largest |cycle_sum|, and that sum, which is positive.

    P is a Bradley-Terry preference exactly when it is 0 (triples through answer 0 suffice: r_i = log-odds of i
    against 0 then represents P). All n^3 triples are looked at, so keep n below a few hundred.
    """
    odds = log_odds(P)
    best, found = -1.0, (0, 0, 0)
    for i in range(len(odds)):
        sums = odds[i][:, None] + odds + odds[:, i]  # [j, k]: i -> j -> k -> i
        j, k = np.unravel_index(np.argmax(sums), sums.shape)
        if sums[j, k] > best:
            best, found = float(sums[j, k]), (i, int(j), int(k))
    return found, best


def fit_bradley_terry(P: np.ndarray, steps: int = 100) -> np.ndarray:
    """Rewards r (n,), mean 0, of highest likelihood when every pair is compared equally often: what RLHF would learn.

    Newton's method on the concave log-likelihood sum_ij P_ij log sigmoid(r_i - r_j). It has a maximiser when nobody
    can split the answers into winners and losers (Ford's condition); otherwise ValueError.
    """
    P = check_preference(P)
    if connected_components(P > 0, connection="strong")[0] > 1:
        raise ValueError("no finite rewards maximise the likelihood: some answers always beat all the others")
    r = np.zeros(len(P))

    def likelihood(r: np.ndarray) -> float:
        return float(-(P * np.logaddexp(0, r - r[:, None])).sum())

    for _ in range(steps):
        q = expit(r[:, None] - r)
        gradient = (P - q).sum(axis=1)
        if np.abs(gradient).max() < 1e-13 * len(P):
            break
        weight = q * (1 - q)
        laplacian = np.diag(weight.sum(axis=1)) - weight + 1 / len(P)  # 1 / n fixes the mean, which the data leave open
        direction, size = np.linalg.solve(laplacian, gradient), 1.0
        while likelihood(r + size * direction) < likelihood(r) and size > 1e-8:
            size /= 2
        r = r + size * (direction - direction.mean())
    return r


def wrong_winners(P: np.ndarray, rewards: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (i, j) where the majority prefers i to j but the reward of i is not the larger one.

    Around a majority cycle at least one pair is wrong for every reward: numbers cannot increase all the way round.
    """
    rewards = np.asarray(rewards, dtype=float)
    wrong = (np.asarray(P) > 0.5) & (rewards[:, None] <= rewards)
    return [(int(i), int(j)) for i, j in np.argwhere(wrong)]
