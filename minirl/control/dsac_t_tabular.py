"""The critic of DSAC-T without networks: five states, a fixed policy, an exact truth, plain SGD.

A ring of S = 5 states. From each one the walker stays or moves on, with probability 1/2 each, and is paid
c (1[s = 4] + noise), noise ~ N(0, 0.5^2). The number c is the reward scale under study. There is nothing to choose, so
the two numbers a state needs, the mean Q(s) and the standard deviation sigma(s) of its return, have exact values
(`truth`), and every part of the critic's update can be judged by itself. Twin critics are left out: two tables that
start alike and share their target stay equal for ever.

All arms and seeds run side by side as one array (G seeds, R arms, S states); the arms of a seed see the same noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

S = 5
GAMMA = 0.9
REWARD = np.array([0.0, 0.0, 0.0, 0.0, 1.0])  # (S,) mean reward of leaving a state, at c = 1
REWARD_SD = 0.5
TRANSITION = 0.5 * (np.eye(S) + np.roll(np.eye(S), 1, axis=1))  # (S, S): stay, or go to the next state


def truth(gamma: float = GAMMA) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (S,) of the return from each state at c = 1, from two linear systems.

    V = r + gamma P V, and with M = E[return^2]: M = E[reward^2] + 2 gamma r (P V) + gamma^2 P M.
    """
    identity = np.eye(S)
    mean = np.linalg.solve(identity - gamma * TRANSITION, REWARD)
    second = REWARD**2 + REWARD_SD**2 + 2 * gamma * REWARD * (TRANSITION @ mean)
    second = np.linalg.solve(identity - gamma**2 * TRANSITION, second)
    return mean, np.sqrt(second - mean**2)


@dataclass(frozen=True)
class Arm:
    """One setting of the switches of `dsac_t.Config` at one reward scale. Defaults: DSAC-T; `Arm.v1` turns all off."""

    scale: float = 1.0  # c
    expected_value: bool = True  # R1
    adaptive_bound: bool = True  # R3, clip at xi * average sigma (off: at td_bound)
    omega: bool = True  # R3, gradient weight average sigma^2 + eps (off: 1)
    sigma_init: float | None = None  # sigma before the first sweep; None means c

    @classmethod
    def v1(cls, scale: float = 1.0, **changes) -> "Arm":
        return cls(scale, **({"expected_value": False, "adaptive_bound": False, "omega": False} | changes))


@dataclass(frozen=True)
class Result:
    """Tables divided by c, so that all arms compare with `truth()`: arrays (G seeds, R arms, S states)."""

    q: np.ndarray  # after the last sweep
    sigma: np.ndarray
    q_average: np.ndarray  # mean over the last sixth of the sweeps
    sigma_average: np.ndarray
    history: np.ndarray  # (T, 2, G, R, S): q and sigma after every `record`-th sweep

    def rmse(self, average: bool = False) -> np.ndarray:
        """Root mean squared error of the mean over the states, (G, R), in units of c."""
        error = (self.q_average if average else self.q) - truth()[0]
        return np.sqrt((error**2).mean(axis=-1))


def policy_evaluation(
    arms: Sequence[Arm], seeds: Sequence[int], sweeps: int = 30_000, lr: float = 0.01, eps: float = 0.1,
    xi: float = 3.0, td_bound: float = 1.0, tau: float = 0.005, record: int = 100,
) -> Result:  # fmt: skip
    """SGD on eq. (15), one sampled transition for each state in each sweep. Targets come from the current tables."""
    column = lambda values: np.array(values, dtype=float)[None, :, None]  # noqa: E731  one value an arm, (1, R, 1)
    c = column([arm.scale for arm in arms])
    expected, adaptive, omega = (
        column([getattr(arm, name) for arm in arms]) > 0 for name in ("expected_value", "adaptive_bound", "omega")
    )
    q = np.zeros((len(seeds), len(arms), S))
    sigma = q + column([arm.scale if arm.sigma_init is None else arm.sigma_init for arm in arms])
    floor = 1e-6 * c  # sigma is a free number here, not a softplus: keep it positive
    sigma_bar = sigma.mean(axis=-1, keepdims=True)
    q_sum, sigma_sum, last = np.zeros_like(q), np.zeros_like(q), sweeps - sweeps // 6
    history = []

    for k, (move, reward_noise, z) in enumerate(_noise(seeds, sweeps)):
        sigma_bar = sigma_bar + tau * (sigma.mean(axis=-1, keepdims=True) - sigma_bar)
        next_q = np.where(move, np.roll(q, -1, axis=-1), q)
        next_sigma = np.where(move, np.roll(sigma, -1, axis=-1), sigma)
        y_q = c * (REWARD + REWARD_SD * reward_noise) + GAMMA * next_q
        y_z = y_q + GAMMA * z * next_sigma
        bound = np.where(adaptive, xi * sigma_bar, td_bound)
        weight = np.where(omega, sigma_bar**2 + eps, 1.0)
        squared_error = np.clip(y_z - q, -bound, bound) ** 2
        step_q = weight * (np.where(expected, y_q, y_z) - q) / (sigma**2 + eps)
        step_sigma = weight * (squared_error - sigma**2) / (sigma**3 + eps)
        q = q + lr * step_q
        sigma = np.maximum(sigma + lr * step_sigma, floor)
        if k >= last:
            q_sum, sigma_sum = q_sum + q, sigma_sum + sigma
        if k % record == 0:
            history.append((q / c, sigma / c))
    n = sweeps - last
    return Result(q / c, sigma / c, q_sum / n / c, sigma_sum / n / c, np.array(history))


def _noise(seeds: Sequence[int], sweeps: int, chunk: int = 1_000):
    """For each sweep: moves (G, 1, S) bool, reward noise and z in [-3, 3], both (G, 1, S) standard normal."""
    generators = [np.random.default_rng(seed) for seed in seeds]
    for start in range(0, sweeps, chunk):
        n = min(chunk, sweeps - start)
        moves = np.stack([g.random((n, 1, S)) < 0.5 for g in generators], axis=1)
        normal = np.stack([g.standard_normal((2, n, 1, S)) for g in generators], axis=2)
        yield from zip(moves, normal[0], normal[1].clip(-3, 3), strict=True)


# -------------------------------------------------------------------- where sigma settles under a clip: eqs. (12), (13)


def clipped_second_moment(b: float | np.ndarray) -> float | np.ndarray:
    """g(b) = E[min(delta^2, b^2)] for a standard normal error delta, eq. (13)."""
    return 2 * norm.cdf(b) - 1 - 2 * b * norm.pdf(b) + 2 * b**2 * norm.sf(b)


def sigma_fixed_point(xi: float) -> float:
    """sigma / s where the clip is b = xi sigma and the error is N(0, s^2); 0.0 (collapse) when xi <= 1.

    Just above xi = 1 the root leaves 0 continuously: it is 4e-4 at xi = 1.0001, below which 0.0 is returned.
    """
    if xi <= 1.0001:
        return 0.0
    return float(brentq(lambda ratio: clipped_second_moment(xi * ratio) - ratio**2, min(0.3, xi - 1), 1.0))


def reward_target_variance(q: np.ndarray, sigma: np.ndarray, seed: int, draws: int = 20_000) -> np.ndarray:
    """Ratio Var(y_z) / Var(y_q) (S,) measured, and as eq. (9) predicts it: (2, S). q, sigma (S,) at c = 1.

    The prediction is 1 + 0.995 gamma^2 E[sigma'^2] / Var(y_q); 0.995 is the variance of a normal clamped to [-3, 3].
    """
    rng = np.random.default_rng(seed)
    move = rng.random((draws, S)) < 0.5
    next_q, next_sigma = np.where(move, np.roll(q, -1), q), np.where(move, np.roll(sigma, -1), sigma)
    y_q = REWARD + REWARD_SD * rng.standard_normal((draws, S)) + GAMMA * next_q
    y_z = y_q + GAMMA * next_sigma * rng.standard_normal((draws, S)).clip(-3, 3)
    exact = REWARD_SD**2 + GAMMA**2 * (TRANSITION @ q**2 - (TRANSITION @ q) ** 2)
    predicted = 1 + 0.995 * GAMMA**2 * (TRANSITION @ sigma**2) / exact
    return np.stack([y_z.var(axis=0) / y_q.var(axis=0), predicted])
