"""IQL, implicit Q-learning: never ask the critic about an action that was not recorded. A baseline of the offline chapters.

Kostrikov, Nair, Levine: "Offline Reinforcement Learning with Implicit Q-Learning", ICLR 2022, arXiv:2110.06169.

The idea. V(s) is an upper expectile of Q(s, a) over the recorded actions: with the expectile near 1 it approaches the best of them.
Q bootstraps from V, and the policy is a regression on the recorded actions, weighted by exp(advantage / temperature).

Differs from the paper:
1. Defaults are for LineWorld (networks 64-64, Adam 1e-3, gamma 0.95; authors 256-256, 3e-4, 0.99).
2. The learning rate of the policy stays constant (authors: cosine decay). Evaluation uses the mean action, as theirs does.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from minirl.core.nets import MLP, polyak
from minirl.core.replay import Batch
from minirl.core.seeding import torch_generator
from minirl.data import OfflineData, load
from minirl.data.batches import learning, normaliser, performance, replay

# Shapes: B batch, O observation, A action.


@dataclass(frozen=True)
class Config:
    """Defaults are for LineWorld; the authors' values where they differ."""

    dataset: str = "lineworld-hard"  # a name of `python -m minirl.data`
    data_seed: int = 0  # seed of the data set
    expectile: float = 0.7  # of Q over recorded actions, in (0, 1); authors 0.7, 0.9 on AntMaze
    inverse_temperature: float = 3.0  # weights are exp(this * advantage); authors 3, 10 on AntMaze
    max_weight: float = 100.0  # larger weights are cut
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers (authors 256, 256)
    lr: float = 1e-3  # Adam step size (authors 3e-4)
    gamma: float = 0.95  # discount, in [0, 1) (authors 0.99)
    tau: float = 0.005  # Polyak step of the target critics, in (0, 1]
    batch_size: int = 256  # transitions per update
    eval_every: int = 1_000  # updates between evaluations
    eval_episodes: int = 20  # episodes per evaluation
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.expectile < 1:
            raise ValueError(f"expectile must lie in (0, 1), got {self.expectile}")


def expectile_loss(gap: Tensor, expectile: float) -> Tensor:
    """Scalar: mean of |expectile - 1{gap < 0}| gap^2 with gap = Q(s, a) - V(s), (B,). 1/2 gives half the squared error."""
    return ((expectile - (gap < 0).to(gap.dtype)).abs() * gap**2).mean()


def weighted_regression(logp: Tensor, advantage: Tensor, inverse_temperature: float, max_weight: float) -> Tensor:
    """Scalar: -mean of min(exp(inverse_temperature * advantage), max_weight) log pi(a|s); both (B,), no gradient to the weights."""
    weight = (inverse_temperature * advantage.detach()).exp().clamp_max(max_weight)
    return -(weight * logp).mean()


class IQL(nn.Module):
    """Gaussian policy with a mean in [-1, 1] and one spread an action, two critics, their targets, and V."""

    def __init__(self, config: Config, data: OfflineData | None = None):
        super().__init__()
        self.config, self.data = config, load(config.dataset, config.data_seed) if data is None else data
        obs_dim, action_dim = self.data.observations.shape[1], self.data.actions.shape[1]
        self.mean, self.std = normaliser(self.data)
        self.buffer = replay(self.data, self.mean, self.std)
        init, self.draw = torch_generator(config.seed), torch_generator(config.seed, 2)
        self.actor = MLP((obs_dim, *config.hidden, action_dim), init)
        self.log_std = nn.Parameter(torch.zeros(action_dim))
        self.critic = MLP((obs_dim + action_dim, *config.hidden, 1), init, K=2)
        self.target_critic = deepcopy(self.critic).requires_grad_(False)
        self.value = MLP((obs_dim, *config.hidden, 1), init)
        # three losses without a common parameter: one backward pass, one optimiser
        groups = [*self.actor.parameters(), self.log_std, *self.critic.parameters(), *self.value.parameters()]
        self.optimiser = torch.optim.Adam(groups, config.lr, fused=True)

    @torch.no_grad()
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Mean actions (N, A) in [-1, 1] for observations (N, O) as the environment gives them."""
        return torch.tanh(self.actor(torch.as_tensor((obs - self.mean) / self.std))).numpy()

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """log pi(a|s) (B,)."""
        spread = self.log_std.clamp(-5, 2).exp()
        return torch.distributions.Normal(torch.tanh(self.actor(obs)), spread).log_prob(action).sum(dim=1)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step on V, both critics and the policy, then the targets. Returns scalars, detached."""
        config, pair = self.config, torch.cat([batch.obs, batch.action], dim=1)
        with torch.no_grad():
            target_q = self.target_critic(pair).squeeze(-1).min(dim=0).values
            y = batch.reward + config.gamma * (1 - batch.terminated) * self.value(batch.next_obs).squeeze(-1)
        v = self.value(batch.obs).squeeze(-1)
        q = self.critic(pair).squeeze(-1)
        v_loss = expectile_loss(target_q - v, config.expectile)
        q_loss = ((q - y) ** 2).mean(dim=1).sum()
        logp = self.log_prob(batch.obs, batch.action)
        actor_loss = weighted_regression(logp, target_q - v, config.inverse_temperature, config.max_weight)
        self.optimiser.zero_grad()
        (v_loss + q_loss + actor_loss).backward()
        self.optimiser.step()
        polyak(self.target_critic, self.critic, config.tau)
        return {"critic_loss": q_loss.detach(), "q_data": q.detach()[0].mean(), "v": v.detach().mean()}

    def learn(self, steps: int = 8_000) -> Iterator[dict[str, float]]:
        """Make `steps` updates from the data; the dicts are those of `minirl.data.batches.learning`."""
        return learning(self, steps)

    def evaluate(self) -> dict[str, float]:
        """Mean return over fixed starts, and its normalised score."""
        return performance(self)
