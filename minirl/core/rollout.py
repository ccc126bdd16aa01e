"""Stepping gymnasium environments, with `terminated` and `truncated` kept apart."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor


class Transition(NamedTuple):
    """One step of N parallel environments. `next_obs` is the true successor, also where the environment was then reset."""

    obs: np.ndarray  # (N, O)
    action: np.ndarray  # (N, A), as chosen by the agent, in [-1, 1]
    reward: np.ndarray  # (N,)
    next_obs: np.ndarray  # (N, O)
    terminated: np.ndarray  # (N,) bool: the task ended, its value is 0
    truncated: np.ndarray  # (N,) bool: only the clock ran out, bootstrap from next_obs


def make_envs(env_id: str, n: int = 1, render_mode: str | None = None) -> SyncVectorEnv:
    """N copies of a continuous-control environment whose actions are rescaled to [-1, 1] in every dimension.

    The original limits stay readable as `envs.action_low` and `envs.action_high`, each (A,).
    Raises ValueError when observations or actions are not one-dimensional boxes, or an action has no limits.
    """

    def build() -> gym.Env:
        env = gym.make(env_id, render_mode=render_mode)
        action, obs = env.action_space, env.observation_space
        if not isinstance(action, gym.spaces.Box) or len(action.shape) != 1:
            raise ValueError(
                f"{env_id} has action space {action}, but this method needs a one-dimensional Box (continuous actions). "
                "Discrete actions want another method: Q-learning (DQN), or a policy gradient with a categorical policy."
            )
        if not isinstance(obs, gym.spaces.Box) or len(obs.shape) != 1:
            raise ValueError(f"{env_id} has observation space {obs}, but this method needs a one-dimensional Box")
        if not np.isfinite([action.low, action.high]).all():
            raise ValueError(f"{env_id} has unbounded actions {action}; a squashed policy needs finite limits")
        return gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))

    envs = SyncVectorEnv([build] * n, autoreset_mode=AutoresetMode.SAME_STEP)
    raw = envs.envs[0].unwrapped.action_space
    envs.action_low, envs.action_high = raw.low, raw.high
    return envs


def rollout(
    envs: gym.vector.VectorEnv, act: Callable[[np.ndarray], np.ndarray], seed: int | list[int]
) -> Iterator[Transition]:
    """Act for ever: `act` maps observations (N, O) to actions (N, A). The copies start from seed, seed + 1, ... or from the seeds of a list.

    Raises FloatingPointError, naming step and field, as soon as an observation, an action or a reward is not finite.
    """
    obs, _ = envs.reset(seed=seed)
    step = 0
    while True:
        action = act(obs)
        check_finite(step, action=action)
        after, reward, terminated, truncated, info = envs.step(action)
        next_obs, ended = after, terminated | truncated
        if ended.any():
            next_obs = after.copy()
            next_obs[ended] = np.stack(info["final_obs"][ended])
        check_finite(step, observation=next_obs, reward=reward)
        yield Transition(obs, action, reward, next_obs, terminated, truncated)
        obs, step = after, step + 1


def check_finite(step: int, **fields: np.ndarray) -> None:
    """Raise FloatingPointError for the first field that holds a NaN or an infinity."""
    for name, value in fields.items():
        if not np.isfinite(value).all():
            raise FloatingPointError(f"{name} is not finite at step {step}: {np.asarray(value).tolist()}")


def mean_logs(seen: list[dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each scalar over the updates in `seen`, which is emptied; {} when there were none."""
    means = {key: float(torch.stack([log[key] for log in seen]).mean()) for key in (seen[0] if seen else ())}
    seen.clear()
    return means
