"""SQIRL, shallow Q-iteration via reinforcement learning, and the effective horizon that predicts how much data it needs.

Laidlaw, Zhu, Russell, Dragan: "The Effective Horizon Explains Deep RL Performance in Stochastic Environments",
ICLR 2024, arXiv:2312.08369.

The idea. Take the Q-function of the policy that acts at random, apply k - 1 steps of Q-value iteration, act greedily. In
many stochastic tasks a small k is enough. Then exploration (random roll-outs) and learning (any regression that
generalises in distribution) come apart, and the data needed grow as A^H with an effective horizon H instead of A^T.

Differs from the paper:
1. States are numbers of a finite MDP and episodes run side by side as integer arrays, so every return is exact.
2. A random first state needs no dummy state before it: all states of the start distribution count as reachable. That is
   the same, because in a dummy state all actions tie: it never counts for gap or solvability and only shifts t by one.
3. Ties are values within 1e-9 of each other; the authors' analysis compares floats exactly.
"""

import numpy as np

from minirl.core.tabular import FiniteMDP, backup, optimal_values, policy_values

# Shapes: T horizon, S states, A actions, m parallel episodes, B batch, k planning depth, D features. Row t - 1: step t.

TIE = 1e-9  # values closer than this are equal


# ----------------------------------------------------------------------------------------- k-QVI, exactly


def random_q(mdp: FiniteMDP) -> np.ndarray:
    """Q^1 (T, S, A): the values of the policy that draws every action uniformly. Eq. (1)."""
    return policy_values(mdp, np.full(mdp.R.shape, 1 / mdp.A))


def qvi(mdp: FiniteMDP, Q: np.ndarray) -> np.ndarray:
    """Q^{i+1} (T, S, A) from Q^i: the reward plus the expected best value one step later. Eq. (2)."""
    after = np.zeros_like(Q)
    after[:-1] = (mdp.P @ Q[1:].max(axis=2).T).T.reshape(-1, mdp.S, mdp.A)
    return mdp.R + after


def k_qvi(mdp: FiniteMDP, k: int) -> list[np.ndarray]:
    """[Q^1, ..., Q^k]. Q^T is Q*, so nothing changes beyond k = T, eq. (3). Raises ValueError for k < 1."""
    check_count("k", k)
    Q = [random_q(mdp)]
    for _ in range(k - 1):
        Q.append(qvi(mdp, Q[-1]))
    return Q


def greedy(Q: np.ndarray) -> np.ndarray:
    """Bool, shape of Q: which actions (last axis) are best up to ties. Every choice among them is a policy of Pi(Q)."""
    return Q >= Q.max(axis=-1, keepdims=True) - TIE


def reachable(mdp: FiniteMDP, allowed: np.ndarray) -> np.ndarray:
    """(T, S) bool: can be visited at step t when at each step any of the `allowed` (T, S, A) actions may be taken."""
    reach = np.empty(allowed.shape[:2], dtype=bool)
    reach[0] = mdp.start > 0
    for t in range(mdp.horizon - 1):
        taken = reach[t][:, None] & allowed[t]
        reach[t + 1] = taken.reshape(-1).astype(float) @ mdp.P > 0
    return reach


def greedy_worst_return(mdp: FiniteMDP, Q: np.ndarray) -> float:
    """J_k: the smallest expected return of any policy in Pi(Q), Q (T, S, A); ties are broken against us."""
    allowed, V = greedy(Q), np.zeros(mdp.S)
    for t in reversed(range(mdp.horizon)):
        V = np.where(allowed[t], backup(mdp, V), np.inf).min(axis=1)
    return float(mdp.start @ V)


def solves(mdp: FiniteMDP, Q: np.ndarray, Q_star: np.ndarray | None = None) -> bool:
    """Is every policy in Pi(Q) optimal? Eq. (4). Asked wherever greedy play with any tie-breaking can lead."""
    allowed, best = greedy(Q), greedy(optimal_values(mdp) if Q_star is None else Q_star)
    return not (reachable(mdp, allowed)[:, :, None] & allowed & ~best).any()


def is_solvable(mdp: FiniteMDP, k: int) -> bool:
    """Is the MDP k-QVI-solvable? Not monotone in k: a larger k can lose it. Raises ValueError for k < 1."""
    return solves(mdp, k_qvi(mdp, k)[-1])


def min_k(mdp: FiniteMDP) -> int:
    """The smallest k for which the MDP is k-QVI-solvable, at most T."""
    Q, Q_star, k = random_q(mdp), optimal_values(mdp), 1
    while k < mdp.horizon and not solves(mdp, Q, Q_star):
        Q, k = qvi(mdp, Q), k + 1
    return k


def k_gap(mdp: FiniteMDP, Q: np.ndarray) -> float:
    """Delta_k: how far below the best action the best other action lies at least, for Q = Q^k. Eq. (5).

    The minimum is over steps and states that greedy play on Q can visit and where not all actions tie; inf if none.
    """
    allowed = greedy(Q)
    relevant = reachable(mdp, allowed) & ~allowed.all(axis=2)
    gap = Q.max(axis=2) - np.where(allowed, -np.inf, Q).max(axis=2)
    return float(gap[relevant].min(initial=np.inf))


def horizon_at(k: int, gap: float, actions: int, scale: float = 1.0) -> float:
    """H_k = k + log_A(1 / Delta_k^2), eq. (6); k alone where no action has to be told from another (gap inf)."""
    return float(k) if np.isinf(gap) else float(k - 2 * np.log(gap / scale) / np.log(actions))


def effective_horizon(
    mdp: FiniteMDP, k_max: int | None = None, scale: float = 1.0
) -> tuple[float, int, list[dict[str, float]]]:
    """The stochastic effective horizon H = min H_k over all k with a k-QVI-solvable MDP, the k that attains it, a table.

    scale: size of the returns, by which the gap is divided (the bound assumes returns in [0, 1]).
    The table has a dict for each k = 1, 2, ...: "k", "J" (worst tie), "solvable", "gap", "H" (inf where not solvable).
    It ends where no larger k can win, because Delta_k is never above max Q* - min Q^1; with k_max it has k_max rows.
    """
    Q, Q_star = random_q(mdp), optimal_values(mdp)
    widest = max(float(Q_star.max() - Q.min()), TIE)
    table: list[dict[str, float]] = []
    for k in range(1, mdp.horizon + 1 if k_max is None else k_max + 1):
        gap, solved = k_gap(mdp, Q), solves(mdp, Q, Q_star)
        H = horizon_at(k, gap, mdp.A, scale) if solved else np.inf
        table.append({"k": k, "J": greedy_worst_return(mdp, Q), "solvable": solved, "gap": gap, "H": H})
        best = min(table, key=lambda row: row["H"])
        if k_max is None and mdp.A > 1 and horizon_at(k + 1, widest, mdp.A, scale) >= best["H"]:
            break
        Q = qvi(mdp, Q)
    return best["H"], best["k"], table


def check_count(name: str, value: int) -> None:
    """Raise ValueError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value}")
