"""A preallocated replay buffer: one float32 row per transition, so that a batch is one gather."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """B transitions. `terminated` is 1.0 where the task ended (no bootstrap); a time limit leaves it 0.0."""

    obs: Tensor  # (B, O)
    action: Tensor  # (B, A)
    reward: Tensor  # (B,)
    next_obs: Tensor  # (B, O)
    terminated: Tensor  # (B,)


class ReplayBuffer:
    """The last `capacity` transitions, sampled uniformly with replacement."""

    def __init__(self, capacity: int, obs_dim: int, action_dim: int):
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity, self.obs_dim, self.action_dim = capacity, obs_dim, action_dim
        self.rows = torch.empty(capacity, 2 * obs_dim + action_dim + 2)
        self.size = self.position = 0

    def add(
        self, obs: np.ndarray, action: np.ndarray, reward: np.ndarray, next_obs: np.ndarray, terminated: np.ndarray
    ) -> None:
        """Store N transitions: obs (N, O), action (N, A), reward (N,), next_obs (N, O), terminated (N,)."""
        row = np.concatenate([obs, action, reward[:, None], next_obs, terminated[:, None]], axis=1, dtype=np.float32)
        where = (self.position + np.arange(len(row))) % self.capacity
        self.rows[where] = torch.from_numpy(row)
        self.position = int(where[-1]) + 1
        self.size = min(self.size + len(row), self.capacity)

    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        """Draw a batch. Raises ValueError when nothing was stored yet."""
        if self.size == 0:
            raise ValueError("the replay buffer is empty: collect transitions before sampling")
        rows = self.rows.index_select(0, torch.randint(self.size, (batch_size,), generator=generator))
        obs, action, reward, next_obs, terminated = rows.split(
            [self.obs_dim, self.action_dim, 1, self.obs_dim, 1], dim=1
        )
        return Batch(obs, action, reward.squeeze(1), next_obs, terminated.squeeze(1))
