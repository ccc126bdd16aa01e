"""From a data set to minibatches of normalised observations, and the loop that all offline methods share."""

from collections.abc import Iterator

import numpy as np

from minirl.core.evaluate import evaluate
from minirl.core.replay import ReplayBuffer
from minirl.core.rollout import mean_logs
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


def learning(agent, steps: int, every: int = 1) -> Iterator[dict[str, float]]:
    """Make `steps` updates of an agent from its `buffer`: what its `learn` returns.

    Yields a dict every 100 updates with "step", "progress" and the means of the numbers of each `every`-th update; every
    `config.eval_every` updates (and at step 0) also what `performance` says. Raises FloatingPointError naming the number
    and the step when a mean is not finite.
    """
    config, seen = agent.config, []
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    yield {"step": 0, "progress": 0.0, **performance(agent)}
    for step in range(1, steps + 1):
        log = agent.update(agent.buffer.sample(config.batch_size, agent.draw))
        if step % every == 0:
            seen.append(log)
        if step % 100 == 0 or step == steps:
            means = mean_logs(seen)
            if bad := [name for name, value in means.items() if not np.isfinite(value)]:
                raise FloatingPointError(f"{bad[0]} is not finite at step {step}")
            log = {"step": step, "progress": step / steps, **means}
            yield log | (performance(agent) if step % config.eval_every == 0 else {})


def performance(agent) -> dict[str, float]:
    """Mean "return" over fixed starts of the environment that the data come from, and its normalised "score"."""
    mean = float(evaluate(agent.act, agent.data.meta["env_id"], agent.config.eval_episodes).mean())
    return {"return": mean, "score": float(agent.data.score(mean))}
