"""Proximal policy optimisation for continuous actions: the on-policy line of the SAC chapter.

Schulman, Wolski, Dhariwal, Radford, Klimov: "Proximal Policy Optimization Algorithms", 2017, arXiv:1707.06347.

The idea. Collect T steps with the current policy, estimate advantages by GAE, then take several epochs of gradient
steps on the clipped ratio objective, which removes the reward for moving pi further than 1 +- clip from the policy
that collected the data. Then throw the data away: this is what makes it on-policy, and hungry for samples.

Differs from the paper:
1. The common practical defaults: state-independent log std, advantages normalised per minibatch, observations and
   returns scaled by running statistics, value loss unclipped, gradient norm clipped.
2. A Gaussian without squashing; the environment's limits clip the action.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from minirl.core.evaluate import evaluate
from minirl.core.nets import MLP
from minirl.core.rollout import make_envs, mean_logs, rollout
from minirl.core.seeding import env_seed, torch_generator

# Shapes: B batch, T time, N parallel environments, O observation, A action.


@dataclass(frozen=True)
class Config:
    env_id: str = "Pendulum-v1"  # a gymnasium environment with a Box action space
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers of actor and value network
    lr: float = 1e-3  # Adam step size (paper: 3e-4 on larger tasks)
    gamma: float = 0.99  # discount, in [0, 1)
    gae_lambda: float = 0.95  # GAE mixing, in [0, 1]
    clip: float = 0.2  # bound of |ratio - 1|
    horizon: int = 512  # environment steps per iteration, over all copies
    n_envs: int = 4  # parallel copies
    epochs: int = 10  # passes over the data of one iteration
    batch_size: int = 64  # steps per gradient step
    max_grad_norm: float = 0.5  # bound of the gradient norm
    eval_every: int = 1_000  # environment steps between evaluations, rounded up to whole iterations
    eval_episodes: int = 10  # episodes per evaluation
    seed: int = 0


def gae(
    reward: np.ndarray,
    value: np.ndarray,
    next_value: np.ndarray,
    terminated: np.ndarray,
    ended: np.ndarray,
    gamma: float,
    lam: float,
) -> np.ndarray:
    """Generalised advantage estimates (T, N) from arrays (T, N).

    next_value is V of the true successor, so a truncated step bootstraps; only `terminated` sets it to zero.
    `ended` (terminated or truncated) stops the sum over future errors.
    """
    delta = reward + gamma * (1 - terminated) * next_value - value
    advantage, following = np.zeros_like(delta), np.zeros(delta.shape[1])
    for t in reversed(range(len(delta))):
        following = delta[t] + gamma * lam * (1 - ended[t]) * following
        advantage[t] = following
    return advantage


def gaussian_logp(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density (B,) of actions (B, A) under a diagonal Gaussian; log_std (A,)."""
    return (-0.5 * ((action - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def clipped_loss(logp: Tensor, old_logp: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Scalar: -mean of min(ratio A, clip(ratio, 1 - clip, 1 + clip) A), ratio = exp(logp - old_logp); all (B,)."""
    ratio = (logp - old_logp).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


class RunningScale:
    """Mean and standard deviation of everything seen, for observations (N, O) or returns (N,)."""

    def __init__(self, shape: tuple[int, ...]):
        self.count, self.mean, self.square = 1e-4, np.zeros(shape), np.zeros(shape)

    def update(self, x: np.ndarray) -> None:
        self.count += len(x)
        delta = x - self.mean
        self.mean = self.mean + delta.sum(0) / self.count
        self.square = self.square + (delta * (x - self.mean)).sum(0)

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self.square / self.count) + 1e-8


class PPO(nn.Module):
    """Gaussian actor with a state-independent log std, and a value network."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.envs = make_envs(config.env_id, config.n_envs)
        obs_dim, action_dim = (s.shape[0] for s in (self.envs.single_observation_space, self.envs.single_action_space))
        init, self.noise, self.shuffle = (torch_generator(config.seed, stream) for stream in range(3))
        self.actor = MLP((obs_dim, *config.hidden, action_dim), init, activation=torch.tanh)
        self.value = MLP((obs_dim, *config.hidden, 1), init, activation=torch.tanh)
        self.log_std = nn.Parameter(torch.full((action_dim,), -0.5))
        self.optimiser = torch.optim.Adam(self.parameters(), config.lr, fused=True)
        self.obs_scale, self.return_scale = RunningScale((obs_dim,)), RunningScale(())

    def normalise(self, obs: np.ndarray) -> Tensor:
        return torch.as_tensor((obs - self.obs_scale.mean) / self.obs_scale.std, dtype=torch.float32).clamp(-10, 10)

    @torch.no_grad()
    def act(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Actions (N, A) for observations (N, O); a sample may lie outside [-1, 1], the environment clips it."""
        mean = self.actor(self.normalise(obs))
        if not deterministic:
            mean = mean + self.log_std.exp() * torch.randn(mean.shape, generator=self.noise)
        return mean.numpy()

    def update(
        self, obs: Tensor, action: Tensor, old_logp: Tensor, advantage: Tensor, returns: Tensor
    ) -> dict[str, Tensor]:
        """One gradient step on a minibatch of B steps. Returns scalars, detached."""
        logp = gaussian_logp(action, self.actor(obs), self.log_std)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        value = self.value(obs).squeeze(-1)
        loss = clipped_loss(logp, old_logp, advantage, self.config.clip) + 0.5 * ((value - returns) ** 2).mean()
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), self.config.max_grad_norm)
        self.optimiser.step()
        return {"value": value.detach().mean(), "entropy": -logp.detach().mean()}

    def learn(self, steps: int) -> Iterator[dict[str, float]]:
        """Train for `steps` environment steps; yields one dict per iteration, as `SAC.learn` does."""
        config, step = self.config, 0
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        T = config.horizon // config.n_envs
        transitions = rollout(self.envs, lambda obs: self.act(obs), env_seed(config.seed))
        discounted = np.zeros(config.n_envs)
        yield {"step": 0, "progress": 0.0, "return": self.evaluate()}
        while step < steps:
            data = [next(transitions) for _ in range(T)]
            obs, action, reward, next_obs, terminated, truncated = (np.stack(x) for x in zip(*data, strict=True))
            ended = terminated | truncated
            self.obs_scale.update(obs.reshape(-1, obs.shape[-1]))
            for t in range(T):  # the spread of discounted returns scales the rewards
                discounted = reward[t] + config.gamma * discounted
                self.return_scale.update(discounted)
                discounted = discounted * ~ended[t]
            reward = reward / self.return_scale.std

            x, act = self.normalise(obs), torch.as_tensor(action, dtype=torch.float32)  # (T, N, O), (T, N, A)
            with torch.no_grad():
                flat = x.flatten(0, 1)
                value = self.value(flat).view(x.shape[:2]).numpy()
                next_value = self.value(self.normalise(next_obs).flatten(0, 1)).view(x.shape[:2]).numpy()
                old_logp = gaussian_logp(act.flatten(0, 1), self.actor(flat), self.log_std)
            advantage = gae(reward, value, next_value, terminated, ended, config.gamma, config.gae_lambda)
            columns = [flat, act.flatten(0, 1), old_logp]
            columns += [torch.as_tensor(a, dtype=torch.float32).flatten() for a in (advantage, advantage + value)]
            seen = []
            for _ in range(config.epochs):
                for rows in torch.randperm(len(flat), generator=self.shuffle).split(config.batch_size):
                    seen.append(self.update(*(c[rows] for c in columns)))

            before, step = step, step + T * config.n_envs
            log = {"step": step, "progress": min(1.0, step / steps), **mean_logs(seen)}
            if step // config.eval_every > before // config.eval_every or step >= steps:
                log["return"] = self.evaluate()
            yield log

    def evaluate(self) -> float:
        """Mean return of the policy without exploration noise over fixed starts."""
        act = lambda obs: self.act(obs, deterministic=True)  # noqa: E731
        return float(evaluate(act, self.config.env_id, self.config.eval_episodes).mean())
