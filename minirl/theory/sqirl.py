"""SQIRL, shallow Q-iteration via reinforcement learning: random exploration, k - 1 fitted backups, act greedily.

Laidlaw, Zhu, Russell, Dragan: "The Effective Horizon Explains Deep RL Performance in Stochastic Environments",
ICLR 2024, arXiv:2312.08369.

The idea. Take the Q-function of the policy that acts at random, apply k - 1 steps of Q-value iteration, act greedily. In
many stochastic tasks a small k is enough. Then exploration (random roll-outs) and learning (any regression that
generalises in distribution) come apart, and the data needed grow as A^H with an effective horizon H instead of A^T.
`sqirl_exact` computes k and H; `sqirl` below is the algorithm of the theory, with one regression for each step and
depth; the class `SQIRL` is the authors' deep version, one network with k heads and a snapshot of it for each step.

Differs from the paper:
1. Tasks are finite MDPs: m episodes run side by side, a step pays its expected reward, and logs hold exact returns.
2. A random first state needs no dummy state before it; `sqirl_exact` says why that is the same.
3. Deep version: the input is the number of the state (a row of the first weight matrix) or features of it, not a picture.
4. Deep version: the learning rate is 1e-3 (authors 1e-4), because budgets here are 10^4 steps and not 10^6.
5. Deep version: `steps` is spread evenly over the T decisions unless `episodes` is set. Dueling, Huber and distributional
   losses and the exponential average of the weights, all off in the authors' experiments, are left out.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minirl.core.nets import MLP
from minirl.core.seeding import torch_generator
from minirl.core.tabular import FiniteMDP, expected_return
from minirl.envs.finite_mdps import enumerate_minigrid, from_gymnasium, sticky

# isort: off
from minirl.theory.sqirl_exact import (  # noqa: F401  all of the paper under one name
    TIE, chain_effective_horizon, chain_min_k, chain_q, chain_success, check_count, effective_horizon, greedy,
    greedy_worst_return, horizon_at, is_solvable, k_gap, k_qvi, min_k, qvi, random_q, reachable, solves, sqirl_limit,
    wrong_action_bound,
)  # fmt: skip
from minirl.theory.sqirl_regressors import Table
# isort: on

# Shapes: T horizon, S states, A actions, m parallel episodes, B batch, k planning depth, D features. Row t - 1: step t.

PATIENCE = 10  # iterations in a row without a single random step; after more of them both versions stop


def check_gamma(gamma: float) -> None:
    """Raise ValueError unless 0 < gamma <= 1: episodes end, so there may be no discount."""
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma must lie in (0, 1], got {gamma}")


@dataclass(frozen=True)
class Config:
    """The deep version. Defaults are the authors' where no other value is given."""

    env_id: str = "MiniGrid-Empty-5x5-v0"  # a MiniGrid layout, or a gymnasium environment with a table (FrozenLake-v1)
    horizon: int = 20  # T, steps of an episode
    sticky: float = 0.25  # probability that the previous action is repeated
    k: int = 2  # planning depth, the number of heads (authors 1 to 5)
    episodes: int | None = None  # m, episodes for each decided step; None: what the remaining steps pay for
    gamma: float = 1.0  # discount, in (0, 1]; the authors take 0.99 for sticky MiniGrid
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers (ReLU)
    lr: float = 1e-3  # Adam step size (authors 1e-4)
    epochs: int = 10  # times that each new environment step is drawn, on average
    batch_size: int = 128  # steps per update
    buffer_size: int = 1_000_000  # steps kept
    smoothing: float = 0.99  # of the running mean of each head's loss
    max_grad_norm: float = 10.0  # longer gradients are shortened to it
    seed: int = 0

    def __post_init__(self):
        for name in ("horizon", "k", "epochs", "batch_size", "buffer_size"):
            check_count(name, getattr(self, name))
        if self.episodes is not None:
            check_count("episodes", self.episodes)
        check_gamma(self.gamma)
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), got {self.smoothing}")
        if not 0 <= self.sticky <= 1:
            raise ValueError(f"sticky must lie in [0, 1], got {self.sticky}")


def make_mdp(config: Config) -> FiniteMDP:
    """The task that a Config names. Raises ValueError for an environment that does not exist or cannot be enumerated."""
    build = enumerate_minigrid if config.env_id.startswith("MiniGrid-") else from_gymnasium
    try:
        mdp = build(config.env_id, config.horizon)
    except gym.error.Error as error:
        raise ValueError(f"env_id {config.env_id!r}: {error}") from None
    return sticky(mdp, config.sticky) if config.sticky else mdp


# ------------------------------------------------------------------------------- SQIRL(k, m) with any regression


class Episodes(NamedTuple):
    """m episodes side by side. Row t - 1 belongs to step t; where `alive` is False the episode had ended before."""

    state: np.ndarray  # (T + 1, m) int
    action: np.ndarray  # (T, m) int
    reward: np.ndarray  # (T, m), 0 after the end
    alive: np.ndarray  # (T, m) bool: the step was played
    done: np.ndarray  # (T, m) bool: the step led to a terminal state


def collect(
    mdp: FiniteMDP, act: Callable[[np.ndarray, int], np.ndarray], i: int, m: int, rng: np.random.Generator
) -> Episodes:
    """m episodes that follow act(states (m,), t) -> actions (m,) before step i, and random actions from step i on."""
    T = mdp.horizon
    state, action, reward = np.empty((T + 1, m), dtype=int), np.zeros((T, m), dtype=int), np.zeros((T, m))
    alive, done = np.zeros((2, T, m), dtype=bool)
    state[0] = mdp.reset(m, rng)
    now = ~mdp.terminal[state[0]]
    for t in range(1, T + 1):
        if not now.any():
            state[t:] = state[t - 1]
            break
        alive[t - 1] = now
        action[t - 1] = act(state[t - 1], t) if t < i else rng.integers(mdp.A, size=m)
        reward[t - 1], state[t], done[t - 1] = mdp.step(state[t - 1], action[t - 1], rng)
        now = now & ~done[t - 1]
    return Episodes(state, action, reward, alive, done)


def targets(
    episodes: Episodes, t: int, gamma: float, next_q: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the regression at step t sees: states (n,), actions (n,), labels (n,), from the n episodes alive at t.

    Without next_q the label is the return from t on, eq. (7). With next_q (S, A), the fit of step t + 1, it is the
    reward plus gamma times the best next value, eq. (8), and the reward alone where the step ended the episode.
    """
    live = episodes.alive[t - 1]
    if next_q is None:
        y = gamma ** np.arange(len(episodes.reward) - t + 1) @ episodes.reward[t - 1 :]
    else:
        after = np.where(episodes.done[t - 1], 0.0, next_q[episodes.state[t]].max(axis=1))
        y = episodes.reward[t - 1] + gamma * after
    return episodes.state[t - 1][live], episodes.action[t - 1][live], y[live]


def fitted_q(episodes: Episodes, i: int, k: int, model, gamma: float = 1.0) -> np.ndarray:
    """The estimate (S, A) of Q^k_i from episodes that are random from step i on; at least one must be alive at i.

    `model` is a regression of `sqirl_regressors`, or anything with its three names. Depth k, or less near the end of
    the longest episode: a Monte-Carlo fit at step i + depth - 1, then depth - 1 fitted backups towards step i.
    """
    last = np.flatnonzero(episodes.alive.any(axis=1))[-1] + 1
    Q = None
    for t in range(min(i + k - 1, last), i - 1, -1):
        model.fit(*targets(episodes, t, gamma, Q))
        Q = model.predict(np.arange(model.shape[0]))
    return Q


def sqirl(
    mdp: FiniteMDP,
    k: int,
    m: int,
    regressor: Callable = Table,
    gamma: float = 1.0,
    seed: int = 0,
    features: np.ndarray | None = None,
    policy: np.ndarray | None = None,
) -> Iterator[dict[str, float]]:
    """SQIRL(k, m): decide step i = 1, ..., T after m episodes each, eqs. (7) to (9). Yields a log after each decision.

    regressor: a class of `sqirl_regressors`, or anything that can be called as it is: regressor(mdp, features (S, D)).
    policy: a (T, S, A) array of distributions; row i - 1 is written when step i is decided, ties share it equally.
    Logs: "step" (environment steps), "progress", "iteration" i, and "return", the exact expected return of the
    decided steps with random actions after them. Raises ValueError naming k, m or gamma.
    """
    check_count("k", k)
    check_count("m", m)
    check_gamma(gamma)
    T, rng, model = mdp.horizon, np.random.default_rng([seed, 7]), regressor(mdp, features)
    policy = np.empty((T, *mdp.R.shape)) if policy is None else policy
    policy[:] = 1 / mdp.A
    cumulative = policy.cumsum(axis=2)[:, :, :-1]
    V_random = np.vstack([random_q(mdp).mean(axis=2), np.zeros(mdp.S)])
    steps, earned, occupancy, idle = 0, 0.0, mdp.start, 0

    def act(state: np.ndarray, t: int) -> np.ndarray:
        return (rng.random(len(state))[:, None] > cumulative[t - 1, state]).sum(axis=1)

    for i in range(1, T + 1):
        episodes = collect(mdp, act, i, m, rng)
        steps += int(episodes.alive.sum())
        idle = 0 if episodes.alive[i - 1].any() else idle + 1
        if not idle:
            best = greedy(fitted_q(episodes, i, k, model, gamma))
            policy[i - 1] = best / best.sum(axis=1, keepdims=True)
            cumulative[i - 1] = policy[i - 1].cumsum(axis=1)[:, :-1]
        taken = occupancy[:, None] * policy[i - 1]
        earned += float(np.sum(taken * mdp.R))
        occupancy = taken.reshape(-1) @ mdp.P
        J = earned + float(occupancy @ V_random[i])
        yield {"step": steps, "progress": 1.0 if idle > PATIENCE else i / T, "iteration": i, "return": J}
        if idle > PATIENCE:
            return


def sqirl_policy(mdp: FiniteMDP, k: int, m: int, **options) -> tuple[np.ndarray, dict[str, float]]:
    """The policy (T, S, A) that SQIRL(k, m) ends with, and its last log. Options as in `sqirl`."""
    policy = np.empty((mdp.horizon, *mdp.R.shape))
    *_, log = sqirl(mdp, k, m, policy=policy, **options)
    return policy, log


# --------------------------------------------------------------------------------------------- the deep version


def head_targets(reward: Tensor, done: Tensor, mc_return: Tensor, next_q: Tensor, gamma: float) -> Tensor:
    """Labels (B, k) of the k heads, eq. (13). reward, done, mc_return (B,); next_q (B, k, A) of the current network.

    Head 1: the Monte-Carlo return. Head j: the reward plus gamma times the best value of head j - 1 in the next state, and
    the reward alone at the end of an episode, which includes step T.
    """
    backups = reward[:, None] + gamma * (1 - done)[:, None] * next_q[:, :-1].max(dim=2).values
    return torch.cat([mc_return[:, None], backups], dim=1).detach()


def scaled_loss(q: Tensor, y: Tensor, average: Tensor | None, smoothing: float) -> tuple[Tensor, Tensor]:
    """Mean over the heads of squared error / its running mean, eq. (14), and the new running means (k,).

    q, y (B, k). Without the division a head with large returns would drown the others. The first call (average None)
    starts the running means.
    """
    loss = ((q - y) ** 2).mean(dim=0)
    now = loss.detach().clamp_min(1e-12)
    average = now if average is None else smoothing * average + (1 - smoothing) * now
    return (loss / average).mean(), average


class SQIRL(nn.Module):
    """The network, its snapshots and its data; `learn` trains, `act` acts. `mdp` None makes the one the Config names.

    features (S, D): what the network sees of a state; None shows it the number of the state, one-hot.
    """

    def __init__(self, config: Config, mdp: FiniteMDP | None = None, features: np.ndarray | None = None):
        super().__init__()
        self.config, self.mdp = config, make_mdp(config) if mdp is None else mdp
        self.features = None if features is None else torch.as_tensor(features, dtype=torch.float32)
        sizes = (self.mdp.S if features is None else features.shape[1], *config.hidden, config.k * self.mdp.A)
        init, self.replay = torch_generator(config.seed), torch_generator(config.seed, 2)
        self.net = MLP(sizes, init)
        self.snapshots = MLP(sizes, init, K=self.mdp.horizon).requires_grad_(False)  # pi_1, ..., pi_T
        self.register_buffer("decided", torch.tensor(0))  # steps t = 1, ..., decided have a snapshot
        self.optimiser = torch.optim.Adam(self.net.parameters(), config.lr, fused=True)
        self.loss_mean: Tensor | None = None
        self.data: list[Tensor] = []  # state, action, reward, next state, done, return; one row a step

    def forward(self, state: Tensor, t: int | None = None) -> Tensor:
        """Q (B, k, A) of states (B,): the current network, or the snapshot that decides step t."""
        net, pick = (self.net, lambda w: w) if t is None else (self.snapshots, lambda w: w[t - 1])
        first, *weights = map(pick, net.weights)
        bias, *biases = map(pick, net.biases)
        x = bias + (F.embedding(state, first) if self.features is None else self.features[state] @ first)
        for weight, bias in zip(weights, biases, strict=True):
            x = torch.addmm(bias, torch.relu(x), weight)
        return x.view(-1, self.config.k, self.mdp.A)

    @torch.no_grad()
    def act(self, state: np.ndarray, t: int) -> np.ndarray:
        """Greedy actions (N,) of states (N,) at step t: its snapshot once decided, the current network before that."""
        q = self(torch.as_tensor(state), t if t <= self.decided else None)
        return q[:, -1].argmax(dim=1).numpy()

    def policy(self) -> np.ndarray:
        """The greedy policy (T, S, A), as `act` plays it."""
        states, identity = np.arange(self.mdp.S), np.eye(self.mdp.A)
        decided = [identity[self.act(states, t)] for t in range(1, int(self.decided) + 1)]
        later = [identity[self.act(states, self.mdp.horizon + 1)]] * (self.mdp.horizon - len(decided))
        return np.stack(decided + later)

    def remember(self, episodes: Episodes, i: int) -> None:
        """Keep the steps t >= i of these episodes: random actions follow them, so their returns are samples of Q^1."""
        T, back, returns = self.mdp.horizon, np.zeros(episodes.reward.shape[1]), np.empty(episodes.reward.shape)
        for t in reversed(range(T)):
            returns[t] = back = episodes.reward[t] + self.config.gamma * back
        done = episodes.done.copy()
        done[-1] = True
        live = episodes.alive[i - 1 :]
        columns = (episodes.state[:-1], episodes.action, episodes.reward, episodes.state[1:], done, returns)
        new = [torch.from_numpy(column[i - 1 :][live]) for column in columns]
        new = [column if column.dtype == torch.int64 else column.float() for column in new]
        old = self.data or [column[:0] for column in new]
        self.data = [torch.cat(pair)[-self.config.buffer_size :] for pair in zip(old, new, strict=True)]

    def update(self, batch: list[Tensor]) -> Tensor:
        """One step of Adam on the columns of `remember`, each (B,); returns the loss."""
        state, action, reward, next_state, done, returns = batch
        with torch.no_grad():
            next_q = self(next_state)
        y = head_targets(reward, done, returns, next_q, self.config.gamma)
        q = self(state)[torch.arange(len(action)), :, action]
        loss, self.loss_mean = scaled_loss(q, y, self.loss_mean, self.config.smoothing)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.config.max_grad_norm)
        self.optimiser.step()
        return loss.detach()

    def learn(self, steps: int) -> Iterator[dict[str, float]]:
        """Decide step 1, 2, ..., T within `steps` environment steps. Yields a dict at first and after each decision.

        Logs: "step", "progress", "return" (exact, of `policy`), and after a decision "iteration" and "loss".
        """
        check_count("steps", steps)
        config, T, rng = self.config, self.mdp.horizon, np.random.default_rng([self.config.seed, 11])
        if steps < T * (config.episodes or T):
            raise ValueError(f"steps must be at least {T * (config.episodes or T)} to decide a step, got {steps}")
        self.decided.zero_()
        self.data, self.loss_mean, step, idle, length = [], None, 0, 0, T
        yield {"step": 0, "progress": 0.0, "return": expected_return(self.mdp, self.policy())}
        for i in range(1, T + 1):
            share = math.ceil((steps - step) / (length * (T - i + 1)))
            m = min(config.episodes or share, (steps - step) // T)
            if m == 0:
                return
            episodes = collect(self.mdp, self.act, i, m, rng)
            self.remember(episodes, i)
            played = int(episodes.alive.sum())
            step, length = step + played, played / m
            idle = 0 if episodes.alive[i - 1].any() else idle + 1
            losses = []
            for _ in range(math.ceil(played * config.epochs / config.batch_size)):
                rows = torch.randint(len(self.data[0]), (config.batch_size,), generator=self.replay)
                losses.append(self.update([column[rows] for column in self.data]))
            with torch.no_grad():
                for kept, current in zip(self.snapshots.parameters(), self.net.parameters(), strict=True):
                    kept[i - 1] = current
            self.decided += 1
            J, loss = expected_return(self.mdp, self.policy()), float(torch.stack(losses).mean())
            ended = i == T or idle > PATIENCE
            yield {"step": step, "progress": 1.0 if ended else i / T, "return": J, "iteration": i, "loss": loss}
            if ended:
                return
