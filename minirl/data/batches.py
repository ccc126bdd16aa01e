"""From a data set to minibatches: normalised observations in a replay buffer."""

import numpy as np

from minirl.core.replay import ReplayBuffer
from minirl.data.dataset import OfflineData

EPS = 1e-3  # added to the standard deviations, so that a constant observation does not divide by zero


def normaliser(data: OfflineData, on: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (+ 1e-3) of the observations, float32 (O,) each; 0 and 1 when switched off.

    A policy that learned from (obs - mean) / std must see the same at evaluation.
    """
    if not on:
        dim = data.observations.shape[1]
        return np.zeros(dim, np.float32), np.ones(dim, np.float32)
    observations = data.observations.astype(float)
    return observations.mean(axis=0).astype(np.float32), (observations.std(axis=0) + EPS).astype(np.float32)


def replay(data: OfflineData, mean: np.ndarray, std: np.ndarray) -> ReplayBuffer:
    """All transitions, normalised. `terminated` stops bootstrapping; truncations and cuts are not stored: values go on."""
    (n, obs_dim), action_dim = data.observations.shape, data.actions.shape[1]
    buffer = ReplayBuffer(n, obs_dim, action_dim)
    obs, next_obs = ((x - mean) / std for x in (data.observations, data.next_observations))
    buffer.add(obs, data.actions, data.rewards, next_obs, data.terminations)
    return buffer
