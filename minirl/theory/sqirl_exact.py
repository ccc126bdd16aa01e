"""The effective horizon, exactly: what SQIRL needs to know about a finite MDP before anything is learnt.

Laidlaw, Zhu, Russell, Dragan, ICLR 2024, arXiv:2312.08369. The definitions are those of the paper; ties are values within
1e-9 of each other, where the authors' analysis compares floats exactly.

A random first state needs no dummy state before it: all states of the start distribution count as reachable. That is the
same, because in a dummy state all actions tie, so it counts neither for the gap nor for solvability, and only shifts t.
"""

import numpy as np
from scipy.stats import binom

from minirl.core.tabular import FiniteMDP, backup, optimal_values, policy_values

# Shapes: T horizon, S states, A actions. Row t - 1 of a time-indexed array holds step t.

TIE = 1e-9  # values closer than this are equal; it is also the smallest gap that can be seen


def check_count(name: str, value: int) -> None:
    """Raise ValueError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value}")


# ----------------------------------------------------------------------------------- k-QVI, gap, horizon


def random_q(mdp: FiniteMDP) -> np.ndarray:
    """Q^1 (T, S, A): the values of the policy that draws every action uniformly. Eq. (1)."""
    return policy_values(mdp, np.full(mdp.R.shape, 1 / mdp.A))


def qvi(mdp: FiniteMDP, Q: np.ndarray) -> np.ndarray:
    """Q^{i+1} (T, S, A) from Q^i: the reward plus the expected best value one step later. Eq. (2)."""
    best = Q.max(axis=2)
    return np.stack([backup(mdp, V) for V in best[1:]] + [mdp.R])


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


# ------------------------------------------------------------------- the link to learning, and a family in closed form


def sqirl_limit(mdp: FiniteMDP, k: int) -> np.ndarray:
    """The policy (T, S, A) of table-SQIRL with infinitely many episodes and gamma = 1: labels become expectations.

    Only states that the roll-in and the random actions after it visit have a label. Where step i is visited the row is
    greedy for Q^k_i, ties shared; elsewhere it is uniform.
    """
    check_count("k", k)
    T, Q_random, policy = mdp.horizon, random_q(mdp), np.empty((mdp.horizon, *mdp.R.shape))
    occupancy = mdp.start
    for i in range(1, T + 1):
        seen = [occupancy > 0]
        for _ in range(min(k, T - i + 1) - 1):
            seen.append(np.repeat(seen[-1], mdp.A).astype(float) @ mdp.P > 0)
        Q = np.where(seen[-1][:, None], Q_random[i + len(seen) - 2], -np.inf)
        for visited in reversed(seen[:-1]):
            Q = np.where(visited[:, None], backup(mdp, Q.max(axis=1)), -np.inf)
        best = greedy(Q)
        policy[i - 1] = best / best.sum(axis=1, keepdims=True)
        occupancy = (occupancy[:, None] * policy[i - 1]).reshape(-1) @ mdp.P
    return policy


def wrong_action_bound(mse: float, gap: float, actions: int) -> float:
    """P(the greedy action is not one of Q^k's) <= 4 A mse / Delta_k^2, eq. (10).

    A wrong action needs an error of Delta / 2 at some action (Markov), and the error was measured at one random action
    out of A. mse: mean squared error of the fit over the states of step i and uniform actions.
    """
    return min(1.0, 4 * actions * mse / gap**2)


def chain_q(length: int, actions: int, k: int) -> float:
    """Q^k_1(start, forward) of `minirl.envs.finite_mdps.bait_chain`: A^-(L - k), and 1 from k = L on. Eq. (11)."""
    return float(actions) ** -max(length - k, 0)


def chain_min_k(length: int, actions: int, bait: float) -> int:
    """The smallest k at which the chain's first step prefers forward: A^-(L - k) > bait (0 <= bait < 1)."""
    return next(k for k in range(1, length + 1) if chain_q(length, actions, k) > bait + TIE)


def chain_effective_horizon(length: int, actions: int, bait: float) -> tuple[float, int]:
    """H and its k for the chain: the gap is A^-(L - k) - bait for every k >= k_min, in the first state. Eq. (11)."""
    depths = range(chain_min_k(length, actions, bait), length + 1)
    return min((horizon_at(k, chain_q(length, actions, k) - bait, actions), k) for k in depths)


def chain_success(length: int, actions: int, bait: float, k: int, m: int) -> float:
    """P(table-SQIRL(k, m) with gamma = 1 ends with "forward" in all L steps), eq. (12).

    Step 1: n ~ Bin(m, A^-k) episodes begin with k forwards, X ~ Bin(n, A^-(L - k)) of them arrive, and forward is
    preferred when X / n > bait. A later step i needs one of its m episodes to arrive, which each does with
    probability A^-(L - i + 1). Episodes are fresh for each step, so the events are independent. Left out: that none of
    the m first actions is a bait, probability A^-m. Below k_min the limit in m is 0, from k_min on it is 1.
    """
    check_count("k", k)
    check_count("m", m)
    depth = min(k, length)
    mean = m * float(actions) ** -depth
    spread = 12 * np.sqrt(mean) + 30  # n lies outside this window with a probability below 1e-20
    n = np.arange(max(1, int(mean - spread)), min(m, int(mean + spread)) + 1)
    few = binom.cdf(np.floor(bait * n + TIE), n, chain_q(length, actions, depth))  # X / n <= bait
    first = float(np.sum(binom.pmf(n, m, float(actions) ** -depth) * (1 - few)))
    return first * float(np.prod([1 - (1 - float(actions) ** -left) ** m for left in range(1, length)]))
