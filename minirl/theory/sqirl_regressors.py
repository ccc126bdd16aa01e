"""Four regressions that SQIRL can use in the place of "any": a table, ridge, nearest neighbours, a neural network.

Each class is made as Regressor(mdp, features) and has `shape` = (S, A), `fit(X, a, y)`, which forgets what was fitted
before, and `predict(X)` -> (n, A). X (n,) are state numbers, a (n,) actions, y (n,) labels. `features` (S, D) is what the
regression knows about a state besides its number.

The states are finite, so n labels have at most S * A different places. Every squared loss over the n labels equals, up to a
constant, one over the places weighted by how often each occurs; all four are computed from these means and counts.
"""

import numpy as np
import torch
from scipy import sparse
from scipy.linalg import eigh
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from minirl.core.nets import MLP
from minirl.core.seeding import torch_generator
from minirl.core.tabular import FiniteMDP

# Shapes: S states, A actions, D features, n labels.


def means(X: np.ndarray, a: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean label (S, A), 0 where there is none, and number of labels (S, A) of each state and action."""
    cell, size = X * shape[1] + a, shape[0] * shape[1]
    count, total = np.bincount(cell, minlength=size), np.bincount(cell, weights=y, minlength=size)
    return (total / np.maximum(count, 1)).reshape(shape), count.reshape(shape)


def check_features(features: np.ndarray, states: int) -> np.ndarray:
    """features (S, D) as floats. Raises ValueError for another shape or an entry that is not finite."""
    features = np.asarray(features, dtype=float)
    if features.ndim != 2 or len(features) != states:
        raise ValueError(f"features must have shape (S, D) with S = {states}, got {features.shape}")
    if not np.isfinite(features).all():
        s, d = np.argwhere(~np.isfinite(features))[0]
        raise ValueError(f"features[{s}, {d}] is {features[s, d]}; features must be finite")
    return features


class Table:
    """Generalises to nothing: the mean label of each state and action, -inf where there is none."""

    def __init__(self, mdp: FiniteMDP, features: np.ndarray | None = None):
        self.shape = mdp.R.shape

    def fit(self, X: np.ndarray, a: np.ndarray, y: np.ndarray) -> None:
        mean, count = means(X, a, y, self.shape)
        self.Q = np.where(count > 0, mean, -np.inf)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.Q[X]


class Ridge:
    """Linear in a one-hot of the state, a constant and the features, with a penalty on all weights of an action alike.

    The S one-hot weights are eliminated by hand: for n labels with mean y they fit the share n / (n + penalty) of what the
    features leave over. What remains is a system of D + 1 equations for each action.
    """

    def __init__(self, mdp: FiniteMDP, features: np.ndarray | None = None, penalty: float = 1.0):
        self.shape, self.penalty, ones = mdp.R.shape, penalty, np.ones((mdp.S, 1))
        self.F = ones if features is None else np.hstack([ones, check_features(features, mdp.S)])

    def fit(self, X: np.ndarray, a: np.ndarray, y: np.ndarray) -> None:
        mean, n = means(X, a, y, self.shape)
        share = n / (n + self.penalty)
        weight = self.penalty * share
        gram = np.einsum("sd,sa,se->ade", self.F, weight, self.F) + self.penalty * np.eye(self.F.shape[1])
        w = np.linalg.solve(gram, np.einsum("sd,sa->ad", self.F, weight * mean)[:, :, None])[:, :, 0]
        linear = self.F @ w.T
        self.Q = linear + share * (mean - linear)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.Q[X]


class Neighbours:
    """The mean of the sqrt(n) nearest of the n labels of an action, by the distance of the features.

    Labels at the state itself are nearest. The number of neighbours grows, its share of n falls, so the fit converges to
    the table wherever a state keeps being seen. At most the 64 nearest states are searched.
    """

    def __init__(self, mdp: FiniteMDP, features: np.ndarray | None = None):
        self.shape = mdp.R.shape
        F = graph_features(mdp) if features is None else check_features(features, mdp.S)
        self.near = cKDTree(F).query(F, k=min(64, mdp.S))[1].reshape(mdp.S, -1)  # (S, 64)

    def fit(self, X: np.ndarray, a: np.ndarray, y: np.ndarray) -> None:
        mean, n = means(X, a, y, self.shape)
        wanted = np.ceil(np.sqrt(n.sum(axis=0)))
        near_n = n[self.near]  # (S, 64, A)
        before = near_n.cumsum(axis=1) - near_n
        weight = np.clip(wanted - before, 0, near_n)
        total = weight.sum(axis=1)
        Q = (weight * mean[self.near]).sum(axis=1) / np.maximum(total, 1)
        overall = y.mean() if len(y) else 0.0
        self.Q = np.where(total > 0, Q, overall)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.Q[X]


class Network:
    """A perceptron with one output an action, fitted from new weights by Adam on the whole batch, labels standardised.

    For another start of the weights: functools.partial(Network, seed=1).
    """

    def __init__(
        self,
        mdp: FiniteMDP,
        features: np.ndarray | None = None,
        hidden: tuple[int, ...] = (64, 64),
        lr: float = 1e-2,
        steps: int = 200,
        seed: int = 0,
    ):
        F = np.eye(mdp.S) if features is None else check_features(features, mdp.S)
        self.shape, self.F = mdp.R.shape, torch.as_tensor(F, dtype=torch.float32)
        self.hidden, self.lr, self.steps, self.generator = hidden, lr, steps, torch_generator(seed, 5)

    def fit(self, X: np.ndarray, a: np.ndarray, y: np.ndarray) -> None:
        mean, n = means(X, a, y, self.shape)
        rows = np.flatnonzero(n.any(axis=1))
        center, spread = y.mean(), max(float(y.std()), 1e-8)
        target = torch.as_tensor((mean[rows] - center) / spread, dtype=torch.float32)
        weight = torch.as_tensor(n[rows] / n.sum(), dtype=torch.float32)
        inputs = self.F[torch.as_tensor(rows)]
        net = MLP((self.F.shape[1], *self.hidden, self.shape[1]), self.generator)
        optimiser = torch.optim.Adam(net.parameters(), self.lr, fused=True)
        for step in range(self.steps):
            optimiser.param_groups[0]["lr"] = self.lr * (1 - step / self.steps)  # to zero, so that the fit settles
            optimiser.zero_grad()
            (weight * (net(inputs) - target) ** 2).sum().backward()
            optimiser.step()
        with torch.no_grad():
            self.Q = net(self.F).numpy().astype(float) * spread + center

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.Q[X]


def graph_features(mdp: FiniteMDP, dims: int = 8) -> np.ndarray:
    """Coordinates (S, dims) that know only which states follow which: distances in steps, made into vectors (Isomap).

    Classical scaling of the numbers of steps between states, in either direction, on paths that avoid terminal states;
    pairs without a path count as one step more than the most distant ones. Raises ValueError above 2,000 states.
    """
    if mdp.S > 2_000:
        raise ValueError(f"graph_features takes at most 2,000 states, got {mdp.S}; pass features of your own")
    edges = mdp.P.tocoo()
    inner = ~mdp.terminal[edges.col]
    pairs = (edges.row[inner] // mdp.A, edges.col[inner])
    graph = sparse.csr_array((np.ones(len(pairs[0])), pairs), (mdp.S, mdp.S))
    steps = csgraph.shortest_path(graph, directed=False, unweighted=True)
    steps[np.isinf(steps)] = steps[np.isfinite(steps)].max() + 1
    squared = steps**2
    gram = -0.5 * (squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean())
    values, vectors = eigh(gram, subset_by_index=[max(mdp.S - dims, 0), mdp.S - 1])
    return vectors * np.sqrt(values.clip(min=0))
