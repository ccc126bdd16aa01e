"""Behaviour cloning: imitate the recorded action, by least squares. What every offline method must beat.

A deterministic policy that minimises the squared error learns the mean action at each state. Where the data hold two kinds of
actions, the mean may be neither of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minirl.core.nets import MLP
from minirl.core.replay import Batch
from minirl.core.seeding import torch_generator
from minirl.data import OfflineData, load
from minirl.data.batches import learning, normaliser, performance, replay

# Shapes: B batch, O observation, A action.


@dataclass(frozen=True)
class Config:
    dataset: str = "lineworld-hard"  # a name of `python -m minirl.data`
    data_seed: int = 0  # seed of the data set
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers
    lr: float = 1e-3  # Adam step size
    batch_size: int = 256  # transitions per update
    eval_every: int = 1_000  # updates between evaluations
    eval_episodes: int = 20  # episodes per evaluation
    seed: int = 0


class BC(nn.Module):
    """A deterministic actor and the data."""

    def __init__(self, config: Config, data: OfflineData | None = None):
        super().__init__()
        self.config, self.data = config, load(config.dataset, config.data_seed) if data is None else data
        self.mean, self.std = normaliser(self.data)
        self.buffer = replay(self.data, self.mean, self.std)
        sizes = (self.data.observations.shape[1], *config.hidden, self.data.actions.shape[1])
        self.actor, self.draw = MLP(sizes, torch_generator(config.seed)), torch_generator(config.seed, 2)
        self.optimiser = torch.optim.Adam(self.actor.parameters(), config.lr, fused=True)

    @torch.no_grad()
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Actions (N, A) in [-1, 1] for observations (N, O) as the environment gives them."""
        return torch.tanh(self.actor(torch.as_tensor((obs - self.mean) / self.std))).numpy()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step. Returns scalars, detached."""
        loss = F.mse_loss(torch.tanh(self.actor(batch.obs)), batch.action)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"actor_loss": loss.detach()}

    def learn(self, steps: int = 8_000) -> Iterator[dict[str, float]]:
        """Make `steps` updates from the data; the dicts are those of `minirl.data.batches.learning`."""
        return learning(self, steps)

    def evaluate(self) -> dict[str, float]:
        """Mean return over fixed starts, and its normalised score."""
        return performance(self)
