"""Recording transitions of a gymnasium environment as an offline data set."""

from collections.abc import Callable

import numpy as np

import minirl.envs  # noqa: F401 - registers the environments
from minirl.core.rollout import make_envs, rollout
from minirl.data.dataset import FIELDS, OfflineData


def columns(
    observations, actions, rewards, next_observations, terminations, truncations, episode_id
) -> dict[str, np.ndarray]:
    """The seven arrays in the types of the schema."""
    given = (observations, actions, rewards, next_observations, terminations, truncations, episode_id)
    return {
        name: np.asarray(value).astype(dtype) for value, (name, (dtype, _)) in zip(given, FIELDS.items(), strict=True)
    }


def episode_ids(ended: np.ndarray) -> np.ndarray:
    """0, 0, 1, ...: a new number after every row in which `ended` (N,) is set."""
    return np.concatenate([[0], np.cumsum(ended[:-1])]).astype(np.int32)


def record(
    act: Callable[[np.ndarray], np.ndarray], env_id: str, n: int, seed: int, meta: dict, copies: int = 10
) -> OfflineData:
    """n transitions of `act` (observations (N, O) -> actions (N, A) in [-1, 1]) from `copies` environments side by side.

    The rows of one copy follow each other, so that episodes are whole; where a copy stops within one, it is cut.
    Raises ValueError unless n is a positive multiple of copies.
    """
    if n < 1 or copies < 1 or n % copies:
        raise ValueError(f"n must be a positive multiple of copies, got n = {n} and copies = {copies}")
    envs = make_envs(env_id, copies)
    steps = [t for t, _ in zip(rollout(envs, act, seed), range(n // copies), strict=False)]
    envs.close()
    fields = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
    stacked = {f: np.stack([getattr(t, f) for t in steps], axis=1) for f in fields}  # (copies, T, ...)
    stacked = {f: value.reshape(n, *value.shape[2:]) for f, value in stacked.items()}
    ended = stacked["terminated"] | stacked["truncated"]
    last = ended | (np.arange(1, n + 1) % (n // copies) == 0)  # the rows of the next copy are another episode
    return OfflineData(**columns(*stacked.values(), episode_ids(last)), meta=meta)
