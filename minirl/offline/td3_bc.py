"""TD3+BC: TD3 with a pull of the policy towards the recorded action. The baseline of the PRDC and A2PR chapters.

Fujimoto, Gu: "A Minimalist Approach to Offline Reinforcement Learning", NeurIPS 2021, arXiv:2106.06860.

The idea. Two changes to TD3 suffice offline: add the squared distance to the recorded action to the actor's loss, with the value
term divided by its own mean size so that one weight alpha serves every task, and normalise the observations.

Differs from the paper: defaults are for LineWorld (networks 64-64, Adam 1e-3, gamma 0.95; authors 256-256, 3e-4, 0.99).
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
    alpha: float = 2.5  # weight of the value against imitation, > 0
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers (authors 256, 256)
    lr: float = 1e-3  # Adam step size of actor and critics (authors 3e-4)
    gamma: float = 0.95  # discount, in [0, 1) (authors 0.99)
    tau: float = 0.005  # Polyak step of the targets, in (0, 1]
    batch_size: int = 256  # transitions per update
    policy_delay: int = 2  # critic updates per actor and target update
    target_noise: float = 0.2  # standard deviation of the noise on the target action
    target_noise_clip: float = 0.5  # bound of that noise
    eval_every: int = 1_000  # updates between evaluations
    eval_episodes: int = 20  # episodes per evaluation
    seed: int = 0


def td3_bc_loss(q: Tensor, action: Tensor, data_action: Tensor, alpha: float) -> Tensor:
    """Scalar: -lambda mean Q(s, pi(s)) + mean (pi(s) - a)^2 with the constant lambda = alpha / mean |Q|. q (B,), actions (B, A)."""
    scale = alpha / q.detach().abs().mean().clamp_min(1e-8)
    return -scale * q.mean() + ((action - data_action) ** 2).mean()


class TD3BC(nn.Module):
    """Deterministic actor, two critics, the targets of all of them, and the data."""

    def __init__(self, config: Config, data: OfflineData | None = None):
        super().__init__()
        self.config, self.data = config, load(config.dataset, config.data_seed) if data is None else data
        obs_dim, action_dim = self.data.observations.shape[1], self.data.actions.shape[1]
        self.mean, self.std = normaliser(self.data)
        self.buffer = replay(self.data, self.mean, self.std)
        init, self.noise, self.draw = (torch_generator(config.seed, stream) for stream in range(3))
        self.actor = MLP((obs_dim, *config.hidden, action_dim), init)
        self.critic = MLP((obs_dim + action_dim, *config.hidden, 1), init, K=2)
        self.target_actor = deepcopy(self.actor).requires_grad_(False)
        self.target_critic = deepcopy(self.critic).requires_grad_(False)
        self.actor_params = list(self.actor.parameters())
        self.actor_optimiser = torch.optim.Adam(self.actor_params, config.lr, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), config.lr, fused=True)
        self.updates = 0

    @torch.no_grad()
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Actions (N, A) in [-1, 1] for observations (N, O) as the environment gives them."""
        return torch.tanh(self.actor(torch.as_tensor((obs - self.mean) / self.std))).numpy()

    def q_values(self, critic: MLP, obs: Tensor, action: Tensor) -> Tensor:
        """Both critics, (2, B)."""
        return critic(torch.cat([obs, action], dim=1)).squeeze(-1)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One critic step and, every `policy_delay`-th time, one actor and target step. Returns scalars, detached."""
        config = self.config
        with torch.no_grad():
            noise = config.target_noise * torch.randn(batch.action.shape, generator=self.noise)
            noise = noise.clamp(-config.target_noise_clip, config.target_noise_clip)
            next_action = (torch.tanh(self.target_actor(batch.next_obs)) + noise).clamp(-1, 1)
            next_q = self.q_values(self.target_critic, batch.next_obs, next_action).min(dim=0).values
            y = batch.reward + config.gamma * (1 - batch.terminated) * next_q
        q = self.q_values(self.critic, batch.obs, batch.action)
        loss = ((q - y) ** 2).mean(dim=1).sum()
        self.critic_optimiser.zero_grad()
        loss.backward()
        self.critic_optimiser.step()
        log = {"critic_loss": loss.detach(), "q_data": q.detach()[0].mean()}

        self.updates += 1
        if self.updates % config.policy_delay == 0:
            action = torch.tanh(self.actor(batch.obs))
            q = self.q_values(self.critic, batch.obs, action)[0]
            loss = td3_bc_loss(q, action, batch.action, config.alpha)
            self.actor_optimiser.zero_grad()
            loss.backward(inputs=self.actor_params)
            self.actor_optimiser.step()
            polyak(self.target_actor, self.actor, config.tau)
            polyak(self.target_critic, self.critic, config.tau)
            log["q"] = q.detach().mean()
        return log

    def learn(self, steps: int = 8_000) -> Iterator[dict[str, float]]:
        """Make `steps` updates from the data; the dicts are those of `minirl.data.batches.learning`, with means over the
        updates in which the actor moved."""
        return learning(self, steps, self.config.policy_delay)

    def evaluate(self) -> dict[str, float]:
        """Mean return over fixed starts, and its normalised score."""
        return performance(self)
