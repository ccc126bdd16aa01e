"""PRDC: pull the policy towards the nearest state-action pair of the whole data set, not towards the action at this state.

Ran, Li, Zhang, Zhang, Yu: "Policy Regularization with Dataset Constraint for Offline Reinforcement Learning",
ICML 2023, arXiv:2306.06569.

The idea. A critic is wrong where there are no data, and a policy that maximises it goes there. TD3+BC keeps the policy close
to the action that was recorded at the same state, and so imitates bad actions too. PRDC only asks that (s, pi(s)) be close to
some recorded pair (s', a'), with distances measured on (beta s, a): the policy may borrow an action that was recorded at a
neighbouring state. A large beta is imitation of the same state, beta = 0 allows every action of the data anywhere.

Differs from the paper:
1. The default data are LineWorld's, with networks of 64-64, Adam 1e-3 and gamma 0.95 (authors: D4RL, 256-256, 3e-4, 0.99).
2. beta = 1 and alpha = 2.5 by default (authors: beta 2 on the MuJoCo tasks; alpha 2.5 for Hopper and Walker2d, 40 for HalfCheetah).
3. `constraint` switches the neighbour off ("none", which is TD3) or restricts it to the nearest states ("support"): controls.
4. A log tells how far the policy is from the data and how often the nearest pair is the sample itself.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor, nn

from minirl.core.nets import MLP, polyak
from minirl.core.replay import Batch
from minirl.core.seeding import torch_generator
from minirl.data import OfflineData, load
from minirl.data.batches import learning, normaliser, performance, replay

# Shapes: B batch, N transitions of the data, O observation, A action, k neighbours.


@dataclass(frozen=True)
class Config:
    """Defaults are for LineWorld; the authors' values where they differ."""

    dataset: str = "lineworld-hard"  # a name of `python -m minirl.data`
    data_seed: int = 0  # seed of the data set
    constraint: str = "dataset"  # "dataset" (PRDC), "support" (actions of the nearest states only), "none" (TD3)
    beta: float = 1.0  # weight of the state in the distance, >= 0 (authors 2 on MuJoCo tasks)
    alpha: float = 2.5  # weight of the value against the constraint, > 0 (authors 2.5, or 40 for HalfCheetah)
    k: int = 1  # which neighbour is the teacher: 1 is the nearest, 2 the second nearest, ...
    support: int = 5  # how many nearest states "support" looks at
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers of actor and critics (authors 256, 256)
    lr: float = 1e-3  # Adam step size of actor and critics (authors 3e-4)
    gamma: float = 0.95  # discount, in [0, 1) (authors 0.99)
    tau: float = 0.005  # Polyak step of the targets, in (0, 1]
    batch_size: int = 256  # transitions per update
    policy_delay: int = 2  # critic updates per actor and target update
    target_noise: float = 0.2  # standard deviation of the noise on the target action
    target_noise_clip: float = 0.5  # bound of that noise
    normalise: bool = True  # observations to mean 0 and standard deviation 1, also at evaluation
    reward_scale: float = 1.0  # rewards become scale * r + shift (authors: 10000 r - 1 on AntMaze)
    reward_shift: float = 0.0
    eval_every: int = 1_000  # updates between evaluations
    eval_episodes: int = 20  # episodes per evaluation (authors 50)
    seed: int = 0

    def __post_init__(self):
        if self.constraint not in ("dataset", "support", "none"):
            raise ValueError(f'constraint must be "dataset", "support" or "none", got {self.constraint!r}')
        if not 0 <= self.beta < np.inf:
            raise ValueError(f"beta must be a number >= 0, got {self.beta}")
        if not 0 < self.alpha < np.inf:
            raise ValueError(f"alpha must be positive, got {self.alpha}")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma must lie in [0, 1), got {self.gamma}")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau must lie in (0, 1], got {self.tau}")
        for name in ("k", "support", "batch_size", "policy_delay"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Actor(nn.Module):
    """obs (B, O) -> action (B, A) in [-1, 1], deterministic."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.net = MLP((obs_dim, *hidden, action_dim), generator)

    def forward(self, obs: Tensor) -> Tensor:
        return torch.tanh(self.net(obs))


class Critic(nn.Module):
    """obs (B, O), action (B, A) -> values (2, B) of two critics."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.net = MLP((obs_dim + action_dim, *hidden, 1), generator, K=2)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.net(torch.cat([obs, action], dim=1)).squeeze(-1)


# ---------------------------------------------------------------------------------------- the distance to the data


class DatasetTree:
    """All pairs of the data as points [beta s, a], in a KD-tree. Build it anew when beta or the data change."""

    def __init__(self, obs: np.ndarray, action: np.ndarray, beta: float):
        """obs (N, O), normalised as the policy sees them; action (N, A). Raises ValueError naming what does not fit."""
        if len(obs) != len(action) or len(obs) == 0:
            raise ValueError(f"need as many observations as actions and at least one, got {len(obs)} and {len(action)}")
        if not 0 <= beta < np.inf:
            raise ValueError(f"beta must be a number >= 0, got {beta}")
        self.beta, self.action = beta, np.asarray(action)
        points = self.key(obs, action)
        if not np.isfinite(points).all():
            raise ValueError(f"row {int(np.argwhere(~np.isfinite(points))[0, 0])} of the data is not finite")
        self.tree = cKDTree(points)

    def key(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """The points (B, O + A) in which distances are measured, in double precision."""
        return np.concatenate([self.beta * np.asarray(obs, dtype=float), np.asarray(action, dtype=float)], axis=1)

    def query(self, obs: np.ndarray, action: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Row (B,) of the k-th nearest pair to each (obs, action), and its distance (B,): d_beta of eq. (4) for k = 1."""
        if not 1 <= k <= self.tree.n:
            raise ValueError(f"k must lie between 1 and the {self.tree.n} pairs of the data, got {k}")
        distance, row = self.tree.query(self.key(obs, action), k=[k])
        return row[:, 0], distance[:, 0]


class SupportTree:
    """The control: among the n nearest *states* the one whose action is nearest. Same queries as DatasetTree."""

    def __init__(self, obs: np.ndarray, action: np.ndarray, n: int):
        if not 1 <= n <= len(obs):
            raise ValueError(f"support must lie between 1 and the {len(obs)} states of the data, got {n}")
        self.n, self.action = n, np.asarray(action)
        self.tree = cKDTree(np.asarray(obs, dtype=float))

    def query(self, obs: np.ndarray, action: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Row (B,) of the pair with the k-th nearest action, and the distance (B,) of the actions."""
        _, near = self.tree.query(np.asarray(obs, dtype=float), k=range(1, self.n + 1))
        gaps = np.linalg.norm(self.action[near] - action[:, None], axis=2)
        pick = np.argsort(gaps, axis=1, kind="stable")[:, k - 1 : k]
        return np.take_along_axis(near, pick, 1)[:, 0], np.take_along_axis(gaps, pick, 1)[:, 0]


def voronoi_switch(left: float, right: float, beta: float, ds: float) -> float:
    """The action at which the nearest pair changes from (s, left) to (s + ds, right), eq. (8); left < right.

    The two squared distances, (p - left)^2 and (p - right)^2 + (beta ds)^2, are equal there. Beyond 1: never.
    """
    return (left + right) / 2 + (beta * ds) ** 2 / (2 * (right - left))


def value_bound(lipschitz: float, distance: np.ndarray, beta: float) -> np.ndarray:
    """Eq. (7): for a K-Lipschitz Q, |Q(s, p) - Q(s_i, a_i)| <= K d_beta max(1, 1 / beta), i the nearest pair; beta > 0."""
    return lipschitz * distance * max(1.0, 1.0 / beta)


# -------------------------------------------------------------------------------------------------------- the losses


def td3_target(reward: Tensor, terminated: Tensor, next_q: Tensor, gamma: float) -> Tensor:
    """y (B,) = r + gamma (1 - terminated) min_j Q_j(s', a'), eq. (1), with next_q (2, B). No gradient flows."""
    return (reward + gamma * (1 - terminated) * next_q.min(dim=0).values).detach()


def critic_loss(q: Tensor, y: Tensor) -> Tensor:
    """Scalar, eq. (2): the mean squared errors of both critics to the common target, summed. q (2, B), y (B,)."""
    return F.mse_loss(q, y.expand_as(q), reduction="sum") / y.shape[0]


def value_loss(q: Tensor, alpha: float) -> Tensor:
    """Scalar, the first part of eqs. (3) and (6): -lambda mean Q_1(s, pi(s)), lambda = alpha / mean |Q_1|, a constant. q (B,)."""
    return -(alpha / q.detach().abs().mean().clamp_min(1e-8)) * q.mean()


def constraint_loss(action: Tensor, teacher: Tensor) -> Tensor:
    """Scalar, the second part: mean over batch and action dimensions of (pi(s) - a)^2, both (B, A); the teacher is a constant.

    With the action recorded at s as the teacher this is TD3+BC, eq. (3); with that of the nearest pair it is PRDC, eq. (6).
    The gradient of d_beta^2 is 2 (pi(s) - a), eq. (5), because the nearest pair stays the same in a small step.
    """
    return F.mse_loss(action, teacher.detach())


# --------------------------------------------------------------------------------------------------------- the agent


class PRDC(nn.Module):
    """Actor, twin critics, their targets, and the data; `learn` trains, `act` acts. `data` None loads what the Config names."""

    def __init__(self, config: Config, data: OfflineData | None = None):
        super().__init__()
        self.config, self.data = config, load(config.dataset, config.data_seed) if data is None else data
        self.obs_dim, self.action_dim = self.data.observations.shape[1], self.data.actions.shape[1]
        mean, std = normaliser(self.data, config.normalise)
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("std", torch.as_tensor(std))
        self.buffer = replay(self.data, mean, std)
        reward = self.buffer.rows[:, self.obs_dim + self.action_dim]
        reward.mul_(config.reward_scale).add_(config.reward_shift)

        init, self.noise, self.draw = (torch_generator(config.seed, stream) for stream in range(3))
        self.actor = Actor(self.obs_dim, self.action_dim, config.hidden, init)
        self.critic = Critic(self.obs_dim, self.action_dim, config.hidden, init)
        self.target_actor = deepcopy(self.actor).requires_grad_(False)
        self.target_critic = deepcopy(self.critic).requires_grad_(False)
        self.actor_params = list(self.actor.parameters())
        self.actor_optimiser = torch.optim.Adam(self.actor_params, config.lr, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), config.lr, fused=True)
        self.updates = 0

        obs, action = self.buffer.rows[:, : self.obs_dim], self.data.actions
        if config.constraint == "dataset":
            self.tree = DatasetTree(obs.numpy(), action, config.beta)
        elif config.constraint == "support":
            self.tree = SupportTree(obs.numpy(), action, config.support)

    @torch.no_grad()
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Actions (N, A) in [-1, 1] for observations (N, O) as the environment gives them; they are normalised here."""
        obs = (torch.as_tensor(obs, dtype=torch.float32) - self.mean) / self.std
        return self.actor(obs).numpy()

    def teach(self, batch: Batch, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The teacher's actions (B, A) for the policy's actions (B, A), and how far the data are. No gradient flows."""
        key = action.detach().numpy()
        if not np.isfinite(key).all():
            raise FloatingPointError(f"the policy's action is not finite after {self.updates} updates")
        row, distance = self.tree.query(batch.obs.numpy(), key, self.config.k)
        pair = self.buffer.rows[torch.from_numpy(row), : self.obs_dim + self.action_dim]
        own = (pair == torch.cat([batch.obs, batch.action], dim=1)).all(dim=1)
        return pair[:, self.obs_dim :], {
            "distance": torch.tensor(distance.mean()),  # to the data: the meter of conservatism
            "own": own.float().mean(),  # share of the batch whose nearest pair is the sample itself: 1 is TD3+BC
        }

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One critic step and, every `policy_delay`-th time, one actor and target step. Returns scalars, detached."""
        config = self.config
        with torch.no_grad():
            noise = config.target_noise * torch.randn(batch.action.shape, generator=self.noise)
            noise = noise.clamp(-config.target_noise_clip, config.target_noise_clip)
            next_action = (self.target_actor(batch.next_obs) + noise).clamp(-1, 1)
            y = td3_target(
                batch.reward, batch.terminated, self.target_critic(batch.next_obs, next_action), config.gamma
            )
        q = self.critic(batch.obs, batch.action)
        loss = critic_loss(q, y)
        self.critic_optimiser.zero_grad()
        loss.backward()
        self.critic_optimiser.step()
        log = {"critic_loss": loss.detach(), "q_data": q.detach()[0].mean()}

        self.updates += 1
        if self.updates % config.policy_delay == 0:
            action = self.actor(batch.obs)
            q = self.critic(batch.obs, action)[0]
            loss = value_loss(q, config.alpha)
            log["q"] = q.detach().mean()
            if config.constraint != "none":
                teacher, meters = self.teach(batch, action)
                pull = constraint_loss(action, teacher)
                loss = loss + pull
                log |= {"pull": pull.detach(), **meters}
            self.actor_optimiser.zero_grad()
            loss.backward(inputs=self.actor_params)  # through the critic, but its weights get no gradient
            self.actor_optimiser.step()
            polyak(self.target_actor, self.actor, config.tau)
            polyak(self.target_critic, self.critic, config.tau)
        return log

    def learn(self, steps: int = 8_000) -> Iterator[dict[str, float]]:
        """Make `steps` updates from the data; the dicts are those of `minirl.data.batches.learning`, with means over the
        updates in which the actor moved."""
        return learning(self, steps, self.config.policy_delay)

    def evaluate(self) -> dict[str, float]:
        """Mean return over fixed starts, and its normalised score."""
        return performance(self)
