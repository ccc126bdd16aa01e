"""The theorems behind A2PR in finite MDPs, exactly: what a filter of good actions does to a behaviour policy.

Equation numbers are those of the chapter. Letters: S states, A actions.
"""

import numpy as np

from minirl.core.tabular import FiniteMDP, check_gamma, check_policy, policy_evaluation


def advantages(mdp: FiniteMDP, behaviour: np.ndarray, gamma: float) -> np.ndarray:
    """A^beta (S, A) = Q^beta(s, a) - V^beta(s) of a behaviour policy (S, A). Its mean under the policy is 0 in every state."""
    Q = policy_evaluation(mdp, behaviour, gamma)
    return Q - (behaviour * Q).sum(axis=1, keepdims=True)


def filtered_policy(mdp: FiniteMDP, behaviour: np.ndarray, gamma: float, eps: float = 0.0) -> np.ndarray:
    """Eq. (5): the behaviour (S, A) restricted to A^beta > eps and normalised; unchanged in states where nothing is left."""
    kept = behaviour * (advantages(mdp, behaviour, gamma) > eps)
    mass = kept.sum(axis=1, keepdims=True)
    return np.where(mass > 0, kept / np.where(mass > 0, mass, 1), behaviour)


def occupancy(mdp: FiniteMDP, policy: np.ndarray, gamma: float) -> np.ndarray:
    """d (S,) = (1 - gamma) sum_t gamma^t P(s_t = s): where a policy (S, A) spends its discounted time; sums to 1."""
    check_gamma(gamma)
    check_policy(policy, mdp.R.shape)
    move = np.einsum("sa,sat->st", policy, mdp.P.toarray().reshape(mdp.S, mdp.A, mdp.S))
    return (1 - gamma) * np.linalg.solve((np.eye(mdp.S) - gamma * move).T, mdp.start)


def performance_difference(mdp: FiniteMDP, policy: np.ndarray, behaviour: np.ndarray, gamma: float) -> float:
    """Eq. (4): J(pi) - J(beta) as the mean of A^beta over the states and actions of pi, divided by 1 - gamma."""
    gain = (policy * advantages(mdp, behaviour, gamma)).sum(axis=1)
    return float(occupancy(mdp, policy, gamma) @ gain / (1 - gamma))


def discounted_return(mdp: FiniteMDP, policy: np.ndarray, gamma: float) -> float:
    """J(pi): expected discounted return from the start distribution, by a linear solve."""
    return float(mdp.start @ (policy * policy_evaluation(mdp, policy, gamma)).sum(axis=1))


def gap_bound(missed: float, lipschitz: float, distance: float, gamma: float) -> float:
    """Eq. (15): J(pi*) - J(pi) <= (missed + K eps) / (1 - gamma).

    missed: the largest value by which the best action beats the chosen target, max_a Q(s, a) - Q(s, target(s)); lipschitz: K
    of Q in the action; distance: eps, the largest distance of the policy to its target.
    """
    check_gamma(gamma)
    return (missed + lipschitz * distance) / (1 - gamma)
