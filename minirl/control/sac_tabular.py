"""Soft policy iteration and soft value iteration on a finite MDP, where every step can be computed exactly.

The equations are those of the SAC chapter (Haarnoja et al. 2018, arXiv:1812.05905, Sections 3 and 4); the operators are
linear solves and log-sum-exps instead of networks. S states, A actions.
"""

import numpy as np
from scipy.special import logsumexp, softmax


def check_mdp(P: np.ndarray, R: np.ndarray, gamma: float) -> None:
    """Raise ValueError unless P (S, A, S) is stochastic, R is (S, A) and finite, and gamma lies in [0, 1)."""
    if P.ndim != 3 or P.shape[0] != P.shape[2] or R.shape != P.shape[:2]:
        raise ValueError(f"need P (S, A, S) and R (S, A), got {P.shape} and {R.shape}")
    bad = np.argwhere((P < 0).any(-1) | ~np.isclose(P.sum(-1), 1))
    if len(bad):
        raise ValueError(f"P is not stochastic at state {bad[0][0]}, action {bad[0][1]}: {P[tuple(bad[0])]}")
    if not np.isfinite(R).all():
        raise ValueError("R has entries that are not finite")
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma must lie in [0, 1), got {gamma}")


def entropy(pi: np.ndarray) -> np.ndarray:
    """Entropy (S,) in nats of each row of a policy pi (S, A)."""
    return -np.sum(pi * np.log(np.where(pi > 0, pi, 1.0)), axis=-1)


def soft_policy_evaluation(P: np.ndarray, R: np.ndarray, gamma: float, alpha: float, pi: np.ndarray) -> np.ndarray:
    """Soft Q (S, A) of a fixed policy pi (S, A), exactly: V = (I - gamma P_pi)^-1 (R_pi + alpha H(pi)), eqs. (2), (3)."""
    check_mdp(P, R, gamma)
    P_pi = np.einsum("sa,sat->st", pi, P)
    V = np.linalg.solve(np.eye(len(P)) - gamma * P_pi, np.sum(pi * R, axis=1) + alpha * entropy(pi))
    return R + gamma * P @ V


def soft_policy_iteration(
    P: np.ndarray, R: np.ndarray, gamma: float, alpha: float, tolerance: float = 1e-12
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every (pi, Q_pi) from the uniform policy to the soft optimum, alternating evaluation and pi = softmax(Q / alpha)."""
    pi = np.full(R.shape, 1 / R.shape[1])
    path = [(pi, soft_policy_evaluation(P, R, gamma, alpha, pi))]
    while len(path) < 1_000:
        pi = softmax(path[-1][1] / alpha, axis=1)
        path.append((pi, soft_policy_evaluation(P, R, gamma, alpha, pi)))
        if np.abs(path[-1][1] - path[-2][1]).max() < tolerance * max(1.0, np.abs(path[-1][1]).max()):
            break
    return path


def soft_value_iteration(
    P: np.ndarray, R: np.ndarray, gamma: float, alpha: float, tolerance: float = 1e-12
) -> tuple[np.ndarray, np.ndarray]:
    """Soft-optimal V (S,) and Q (S, A): the fixed point of V = alpha log sum_a exp(Q / alpha), Q = R + gamma P V, eq. (5)."""
    check_mdp(P, R, gamma)
    if alpha <= 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    V = np.zeros(len(P))
    while True:
        Q = R + gamma * P @ V
        new = alpha * logsumexp(Q / alpha, axis=1)
        if np.abs(new - V).max() <= tolerance * max(1.0, np.abs(new).max()):
            return new, R + gamma * P @ new
        V = new
