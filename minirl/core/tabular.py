"""Finite Markov decision processes as arrays, and what can be computed exactly in them.

Letters: S states, A actions, T horizon, N parallel copies, K the largest number of successors of a state and action.
Transitions are sparse, because a grid with ten thousand states has only a few successors for each action.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve


@dataclass(frozen=True)
class FiniteMDP:
    """A finite MDP with the same dynamics at every step t = 1, ..., T of an episode.

    A state that every action leaves where it is, without reward, is terminal: an episode may stop there.
    Raises ValueError that names the offending entry.
    """

    P: sparse.csr_array  # (S * A, S): row s * A + a holds the distribution of the next state; (S, A, S) is accepted
    R: np.ndarray  # (S, A) expected reward of taking action a in state s
    start: np.ndarray  # (S,) distribution of the first state; an integer s is accepted and means "always s"
    horizon: int  # T >= 1, steps of an episode
    name: str = field(default="", compare=False)

    def __post_init__(self):
        R = np.asarray(self.R, dtype=float)
        if R.ndim != 2:
            raise ValueError(f"R must have shape (S, A), got {R.shape}")
        states, actions = R.shape
        if sparse.issparse(self.P):
            P = sparse.csr_array(self.P)
        else:
            P = np.asarray(self.P, dtype=float)
            if P.shape != (states, actions, states):
                raise ValueError(f"P must have shape (S, A, S) = {(states, actions, states)}, got {P.shape}")
            P = sparse.csr_array(P.reshape(states * actions, states))
        if P.shape != (states * actions, states):
            raise ValueError(f"P must have shape (S * A, S) = {(states * actions, states)}, got {P.shape}")
        P.sum_duplicates()
        P.eliminate_zeros()
        check_stochastic(P, actions)
        if not np.isfinite(R).all():
            s, a = np.argwhere(~np.isfinite(R))[0]
            raise ValueError(f"R[{s}, {a}] is {R[s, a]}; rewards must be finite")
        start = np.asarray(self.start)
        if start.ndim == 0:
            if not 0 <= start < states or start != int(start):
                raise ValueError(f"start must be a state 0 ... {states - 1}, got {start}")
            start = np.eye(1, states, int(start))[0]
        start = start.astype(float)
        if start.shape != (states,) or not (start >= 0).all() or not np.isclose(start.sum(), 1):
            raise ValueError(f"start must be a distribution over the {states} states, its sum is {start.sum():.6g}")
        if isinstance(self.horizon, bool) or int(self.horizon) != self.horizon or self.horizon < 1:
            raise ValueError(f"horizon must be a whole number of at least 1 step, got {self.horizon}")
        for name, value in (("P", P), ("R", R), ("start", start), ("horizon", int(self.horizon))):
            object.__setattr__(self, name, value)  # the dataclass is frozen for everyone else

    @property
    def S(self) -> int:
        """Number of states."""
        return self.R.shape[0]

    @property
    def A(self) -> int:
        """Number of actions."""
        return self.R.shape[1]

    @cached_property
    def terminal(self) -> np.ndarray:
        """(S,) bool: every action stays, and pays nothing."""
        stays = self.P[np.arange(self.S * self.A), np.repeat(np.arange(self.S), self.A)].reshape(self.S, self.A)
        return (stays >= 1 - 1e-12).all(1) & (self.R == 0).all(1)

    @cached_property
    def successors(self) -> tuple[np.ndarray, np.ndarray]:
        """Next states (S * A, K) and their cumulative probabilities (S * A, K), padded with the last successor and 1."""
        counts = np.diff(self.P.indptr)
        width = counts.max()
        column = np.minimum(np.arange(width), counts[:, None] - 1) + self.P.indptr[:-1, None]
        probability = np.where(np.arange(width) < counts[:, None], self.P.data[column], 0.0)
        cumulative = np.cumsum(probability, axis=1)
        cumulative[np.arange(width) >= counts[:, None] - 1] = 1.0  # rounding must not leave a gap below 1
        return self.P.indices[column], cumulative

    def reset(self, copies: int, rng: np.random.Generator) -> np.ndarray:
        """First states (N,) of `copies` episodes."""
        return rng.choice(self.S, size=copies, p=self.start)

    def step(
        self, state: np.ndarray, action: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of N copies at once: state (N,), action (N,) -> reward (N,), next state (N,), terminated (N,) bool."""
        row = state * self.A + action
        targets, cumulative = self.successors
        pick = (rng.random(len(row))[:, None] > cumulative[row]).sum(1)
        next_state = targets[row, pick]
        return self.R.reshape(-1)[row], next_state, self.terminal[next_state]


def check_stochastic(P: sparse.csr_array, actions: int) -> None:
    """Raise ValueError unless every row of P (S * A, S) is a distribution; the message names state and action."""
    if not np.isfinite(P.data).all() or (P.data < 0).any():
        bad = np.flatnonzero(~np.isfinite(P.data) | (P.data < 0))[0]
        row = np.searchsorted(P.indptr, bad, side="right") - 1
        entry = f"P[state {row // actions}, action {row % actions}, next state {P.indices[bad]}]"
        raise ValueError(f"{entry} is {P.data[bad]:.6g}; probabilities are not negative")
    sums = P.sum(axis=1)
    if not np.allclose(sums, 1, rtol=0, atol=1e-8):
        row = np.argmax(np.abs(sums - 1) > 1e-8)
        entry = f"P[state {row // actions}, action {row % actions}]"
        raise ValueError(f"{entry} sums to {sums[row]:.6g}; every row of P must sum to 1")


def check_gamma(gamma: float) -> None:
    """Raise ValueError unless the discount factor lies in [0, 1)."""
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma must lie in [0, 1), got {gamma}")


def check_policy(policy: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `policy` has this shape and its last axis holds distributions over actions."""
    if policy.shape != shape:
        raise ValueError(f"the policy must have shape {shape}, got {policy.shape}")
    bad = np.argwhere((policy < 0).any(-1) | (np.abs(policy.sum(-1) - 1) > 1e-8))
    if len(bad):
        raise ValueError(f"policy{[int(i) for i in bad[0]]} is not a distribution: {policy[tuple(bad[0])]}")


# ------------------------------------------------------------------------------- episodes of T steps, no discount


def backup(mdp: FiniteMDP, V: np.ndarray) -> np.ndarray:
    """Q (S, A) = R + E[V(next state)] for values V (S,) of the next step."""
    return mdp.R + (mdp.P @ V).reshape(mdp.R.shape)


def optimal_values(mdp: FiniteMDP) -> np.ndarray:
    """Q* (T, S, A) by backward induction; row t - 1 holds step t, and the last row is the reward."""
    Q = np.empty((mdp.horizon, *mdp.R.shape))
    V = np.zeros(mdp.S)
    for t in reversed(range(mdp.horizon)):
        Q[t] = backup(mdp, V)
        V = Q[t].max(axis=1)
    return Q


def policy_values(mdp: FiniteMDP, policy: np.ndarray) -> np.ndarray:
    """Q^pi (T, S, A) of a policy (T, S, A), or of one (S, A) that is the same at every step, by backward induction."""
    check_policy(policy, (mdp.horizon, mdp.S, mdp.A) if policy.ndim == 3 else (mdp.S, mdp.A))
    policy = np.broadcast_to(policy, (mdp.horizon, mdp.S, mdp.A))
    Q = np.empty((mdp.horizon, *mdp.R.shape))
    V = np.zeros(mdp.S)
    for t in reversed(range(mdp.horizon)):
        Q[t] = backup(mdp, V)
        V = np.sum(policy[t] * Q[t], axis=1)
    return Q


def expected_return(mdp: FiniteMDP, policy: np.ndarray) -> float:
    """J(pi): expected sum of the T rewards from the start distribution, policy (T, S, A) or (S, A)."""
    first = policy[0] if policy.ndim == 3 else policy
    return float(mdp.start @ np.sum(first * policy_values(mdp, policy)[0], axis=1))


# ---------------------------------------------------------------------------------- discounted, without an end


def value_iteration(mdp: FiniteMDP, gamma: float, tolerance: float = 1e-10) -> np.ndarray:
    """Discounted Q* (S, A), wrong by at most `tolerance` everywhere. The horizon of the MDP plays no part.

    A backup that moves Q by d leaves an error of at most gamma d / (1 - gamma), which is where it stops.
    """
    check_gamma(gamma)
    Q = np.zeros_like(mdp.R)
    while True:
        previous, Q = Q, mdp.R + gamma * (mdp.P @ Q.max(axis=1)).reshape(mdp.R.shape)
        if gamma * np.abs(Q - previous).max() <= tolerance * (1 - gamma):
            return Q


def policy_evaluation(mdp: FiniteMDP, policy: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted Q^pi (S, A) of a policy (S, A): V solves (I - gamma P_pi) V = R_pi, a sparse linear system."""
    check_gamma(gamma)
    check_policy(policy, mdp.R.shape)
    rows = np.arange(mdp.S * mdp.A) // mdp.A
    mix = sparse.csr_array((policy.reshape(-1), (rows, np.arange(mdp.S * mdp.A))), shape=(mdp.S, mdp.S * mdp.A))
    system = sparse.eye_array(mdp.S, format="csc") - gamma * (mix @ mdp.P).tocsc()
    V = spsolve(system, np.sum(policy * mdp.R, axis=1))
    return mdp.R + gamma * (mdp.P @ V).reshape(mdp.R.shape)
