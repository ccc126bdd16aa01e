"""Evaluation: undiscounted returns of a policy from fixed starts."""

from collections.abc import Callable

import numpy as np

from minirl.core.rollout import make_envs, rollout


def evaluate(
    act: Callable[[np.ndarray], np.ndarray], env_id: str, episodes: int = 10, seed: int = 12_345
) -> np.ndarray:
    """Returns (episodes,) of one episode from each of `episodes` fixed starts, run side by side.

    `act` maps observations (N, O) to actions (N, A) in [-1, 1]; pass the deterministic policy to measure what was
    learned and the sampling policy to measure what is explored. The same seed gives the same starts for every agent.
    """
    envs = make_envs(env_id, episodes)
    total, running = np.zeros(episodes), np.ones(episodes, dtype=bool)
    for t in rollout(envs, act, seed):
        total += running * t.reward
        running &= ~(t.terminated | t.truncated)
        if not running.any():
            break
    envs.close()
    return total


def film_frames(
    act: Callable[[np.ndarray], np.ndarray], env_id: str, steps: int, seed: int = 12_345
) -> list[np.ndarray]:
    """Pictures (H, W, 3) uint8 of one episode, at most `steps` of them, for `minirl.book.film`."""
    env = make_envs(env_id, 1, render_mode="rgb_array")
    frames = []
    for t in rollout(env, act, seed):
        frames.append(env.envs[0].render())
        if len(frames) >= steps or (t.terminated | t.truncated).any():
            break
    env.close()
    return frames
