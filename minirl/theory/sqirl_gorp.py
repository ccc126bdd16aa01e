"""GORP, "greedy over random policy": the predecessor of SQIRL for deterministic tasks, as a baseline.

Laidlaw, Russell, Dragan: "Bridging RL Theory and Practice with the Effective Horizon", NeurIPS 2023, arXiv:2304.09853.

For each step i = 1, ..., T: try every sequence of k actions after the i - 1 actions that are fixed already, m times each,
and act at random after it; fix the first action of the sequence with the largest mean return, eq. (15). In a
deterministic task that is the greedy choice of Q^k. Where the dynamics are random it fixes actions, not a policy, and
cannot react to what happens.
"""

from collections.abc import Iterator

import numpy as np

from minirl.core.tabular import FiniteMDP, policy_values

# Shapes: T horizon, S states, A actions, n = A^depth sequences. A sequence's first action is its leading digit.


def plan_values(mdp: FiniteMDP, occupancy: np.ndarray, i: int, depth: int) -> np.ndarray:
    """Expected return from step i on (A^depth,) of every sequence of `depth` actions with random actions after it.

    occupancy (S,): the distribution of the state at step i. The m -> infinity limit of what GORP estimates.
    """
    value, states = np.zeros(1), occupancy[None]
    for _ in range(depth):
        value = (value[:, None] + states @ mdp.R).reshape(-1)
        states = np.stack([states @ mdp.P[a :: mdp.A] for a in range(mdp.A)], axis=1).reshape(-1, mdp.S)
    after = i + depth - 1  # row of step i + depth
    return value + (states @ random_values(mdp)[after] if after < mdp.horizon else 0.0)


def random_values(mdp: FiniteMDP) -> np.ndarray:
    """V (T, S) of the policy that draws every action uniformly."""
    return policy_values(mdp, np.full(mdp.R.shape, 1 / mdp.A)).mean(axis=2)


def gorp_limit(mdp: FiniteMDP, k: int) -> np.ndarray:
    """The actions (T,) that GORP(k, m) fixes when m goes to infinity; of equal sequences the first counts."""
    check_depth(k)
    actions, occupancy = np.empty(mdp.horizon, dtype=int), mdp.start
    for i in range(1, mdp.horizon + 1):
        value = plan_values(mdp, occupancy, i, min(k, mdp.horizon - i + 1))
        best = np.flatnonzero(value >= value.max() - 1e-9)[0]
        actions[i - 1] = best // (len(value) // mdp.A)
        occupancy = occupancy @ mdp.P[actions[i - 1] :: mdp.A]
    return actions


def open_loop_return(mdp: FiniteMDP, actions: np.ndarray) -> float:
    """Exact expected return of playing these actions (at most T) whatever happens, and random ones after them."""
    J, occupancy = 0.0, mdp.start
    for a in actions:
        J += float(occupancy @ mdp.R[:, a])
        occupancy = occupancy @ mdp.P[a :: mdp.A]
    return J + (float(occupancy @ random_values(mdp)[len(actions)]) if len(actions) < mdp.horizon else 0.0)


def gorp(mdp: FiniteMDP, k: int, m: int, seed: int = 0) -> Iterator[dict[str, float]]:
    """GORP(k, m). Yields a log after each fixed action: "step", "progress", "iteration", "action" and exact "return".

    An iteration plays m A^k episodes. Raises ValueError naming k or m.
    """
    check_depth(k)
    check_depth(m, "m")
    T, A, rng, step = mdp.horizon, mdp.A, np.random.default_rng([seed, 13]), 0
    fixed: list[int] = []
    for i in range(1, T + 1):
        depth = min(k, T - i + 1)
        digits = np.arange(A**depth)[:, None] // A ** np.arange(depth)[::-1] % A  # (A^depth, depth)
        plan = np.repeat(digits, m, axis=0)
        state, total = mdp.reset(len(plan), rng), np.zeros(len(plan))
        alive = ~mdp.terminal[state]
        for t in range(1, T + 1):
            if t < i:
                action = np.full(len(plan), fixed[t - 1])
            elif t < i + depth:
                action = plan[:, t - i]
            else:
                action = rng.integers(A, size=len(plan))
            step += int(alive.sum())
            reward, state, done = mdp.step(state, action, rng)
            total += reward * (t >= i)
            alive &= ~done
        mean = total.reshape(-1, m).mean(axis=1)
        best = rng.choice(np.flatnonzero(mean >= mean.max() - 1e-9))
        fixed.append(int(digits[best, 0]))
        J = open_loop_return(mdp, np.array(fixed))
        yield {"step": step, "progress": i / T, "iteration": i, "action": fixed[-1], "return": J}


def check_depth(value: int, name: str = "k") -> None:
    """Raise ValueError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value}")
