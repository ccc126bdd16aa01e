"""DDPG for the speed of a series DC motor, as in the toolbox gym-electric-motor.

Traue, Book, Kirchgässner, Wallscheid: "Towards a Reinforcement Learning Environment Toolbox for Intelligent Electric
Motor Control", 2019, arXiv:1910.09434. DDPG: Lillicrap et al., 2015, arXiv:1509.02971.

The idea. A drive is an environment: speed, torque, current, voltages and the wanted speed are the observation, the duty
of the converter is the action, and the reward is minus a power of the speed error. A deterministic actor is improved
along dQ/da of a critic that learns from stored steps of many motors; correlated noise explores. Nobody tells the agent
R, L or J. A current above the limit ends an episode; what that costs decides whether the limit is kept.

Differs from the authors' DDPG script (v0.1.0 of the package):
1. Training runs in our numpy model (`minirl.envs.series_dc`), 16 motors at once; evaluation runs in the package.
2. 24,000 to 150,000 agent steps instead of 1.5 million, so Adam's step sizes are 1e-3 (script: 1e-6 and 1e-4), networks
   have 64-64 units (16-16 and 32-32-32), and all steps are kept (10,000).
3. An action is held for 5 simulation steps, as a comment of the script says; as written it holds one. gamma = 0.95 then sees
   10 ms, not 2.
4. Targets follow by a Polyak step, not by a copy every 1,000 steps. Rewards have weight 1, not 1,000.
5. References stay within [5, 50] rad/s: the script's own range reaches speeds at which the supply is exhausted.
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from minirl.core.nets import MLP, polyak
from minirl.core.replay import Batch, ReplayBuffer
from minirl.core.rollout import mean_logs, rollout
from minirl.core.seeding import env_seed, torch_generator
from minirl.envs.series_dc import CURRENT, SCRIPT, TORQUE, Motor, SeriesDC

# Shapes: B batch, N parallel motors, O observation (6), A action (1).


@dataclass(frozen=True)
class Config:
    """Defaults are those of the live cell and of the short runs."""

    motor: Motor = SCRIPT  # machine, load, supply, limits
    n: int = 16  # motors in parallel
    tau: float = 1e-4  # s, simulation step (the Polyak step has a name of its own here)
    repeat: int = 5  # simulation steps an action is held
    horizon: int = 10_000  # simulation steps until an episode is truncated
    references: tuple[float, float] = (5.0, 50.0)  # rad/s
    sigma: tuple[float, float] = (5e-3, 1e-2)  # step of the reference's walk a simulation step, over omega_limit
    power: float = 0.5  # exponent of the speed error in the reward
    penalty: float | None = None  # reward of a violation in units of r_min / (1 - gamma); None: not monitored
    hidden: tuple[int, ...] = (64, 64)  # widths of actor and critic (script: 16-16 and 32-32-32)
    lr: float = 1e-3  # Adam step size of both (script: 1e-6 actor, 1e-4 critic)
    gamma: float = 0.95  # discount an agent step, in [0, 1)
    polyak: float = 5e-3  # step of both targets, in (0, 1] (script: hard copy every 1,000 steps)
    batch_size: int = 128  # transitions an update
    warmup: int = 1_024  # agent steps before the critic learns
    actor_warmup: int = 2_048  # agent steps before the actor learns from it
    updates: int = 4  # updates for every step of all N motors
    noise_theta: float = 0.5  # 1 / time: pull of the exploration noise to zero
    noise_sigma: float = 0.2  # its stationary standard deviation, in duty: sigma / sqrt(2 theta) with theta 0.5
    noise_dt: float = 0.1  # its time step: correlated over about 1 / (theta dt) = 20 agent steps
    last_layer: float = 0.1  # factor on the actor's first output weights
    blind: tuple[int, ...] = ()  # columns of the observation that are hidden, for control arms
    seed: int = 0

    def __post_init__(self):
        for name in ("gamma",):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 < self.polyak <= 1:
            raise ValueError(f"polyak must lie in (0, 1], got {self.polyak}")
        if self.penalty is not None and self.penalty < 0:
            raise ValueError(f"penalty must not be negative, got {self.penalty}")
        if self.updates < 0 or self.warmup < 1:
            raise ValueError(f"updates must not be negative and warmup at least 1, got {self.updates}, {self.warmup}")


NO_CURRENT = (TORQUE, CURRENT)
"""`blind` for the actor without the current: the torque must go too, since it is L_e' i^2."""


# --------------------------------------------------------------------------------------------------- noise and rewards


class OrnsteinUhlenbeck:
    """Correlated exploration noise (N, A), eq. (14): x <- x - theta x dt + sigma sqrt(dt) N(0, 1)."""

    def __init__(self, shape: tuple[int, int], theta: float, sigma: float, dt: float, generator: torch.Generator):
        self.x, self.theta, self.sigma, self.dt, self.generator = torch.zeros(shape), theta, sigma, dt, generator

    def __call__(self) -> Tensor:
        drawn = torch.randn(self.x.shape, generator=self.generator)
        self.x = self.x - self.theta * self.dt * self.x + self.sigma * math.sqrt(self.dt) * drawn
        return self.x

    def reset(self, where: np.ndarray) -> None:
        """Back to zero where an episode ended: the noise belongs to the episode."""
        self.x[torch.as_tensor(where)] = 0.0


def violation_reward(worst: float, gamma: float, penalty: float = 1.0) -> float:
    """penalty r_min / (1 - gamma), eq. (17): at 1 no violation is better than the worst tracking for ever."""
    return penalty * worst / (1 - gamma)


# --------------------------------------------------------------------------------------------------------- the losses


def ddpg_target(reward: Tensor, next_q: Tensor, terminated: Tensor, gamma: float) -> Tensor:
    """y (B,), eq. (15): r + gamma (1 - terminated) Q'(o', mu'(o')). A truncated step bootstraps. No gradient flows."""
    return (reward + gamma * (1 - terminated) * next_q).detach()


def critic_loss(q: Tensor, y: Tensor) -> Tensor:
    """Scalar: mean of (Q(o, a) - y)^2."""
    return ((q - y) ** 2).mean()


def actor_loss(q: Tensor) -> Tensor:
    """Scalar: -mean of Q(o, mu(o)), eq. (13); its gradient is -E[dQ/da dmu/dtheta]."""
    return -q.mean()


# ---------------------------------------------------------------------------------------------------------- the agent


class DDPG(nn.Module):
    """Actor, critic and their targets; `learn` trains in our model, `act` works anywhere. Calling it acts greedily."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        init, noise, self.replay = (torch_generator(config.seed, stream) for stream in range(3))
        self.actor = MLP((6, *config.hidden, 1), init)
        self.critic = MLP((7, *config.hidden, 1), init)
        with torch.no_grad():  # duties near 1/2 at first: a saturated sigmoid has no gradient and never comes back
            self.actor.weights[-1].mul_(config.last_layer)
            self.actor.biases[-1].mul_(config.last_layer)
        self.target_actor = deepcopy(self.actor).requires_grad_(False)
        self.target_critic = deepcopy(self.critic).requires_grad_(False)
        self.noise = OrnsteinUhlenbeck((config.n, 1), config.noise_theta, config.noise_sigma, config.noise_dt, noise)
        self.actor_params = list(self.actor.parameters())
        self.actor_optimiser = torch.optim.Adam(self.actor_params, config.lr, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), config.lr, fused=True)
        seen = torch.ones(6)
        seen[list(config.blind)] = 0.0
        self.register_buffer("seen", seen)

    def policy(self, actor: MLP, obs: Tensor) -> Tensor:
        """Duties (B, 1) in (0, 1); hidden columns of obs count as zero."""
        return torch.sigmoid(actor(obs * self.seen))

    @torch.no_grad()
    def act(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Duties (N, 1) in [0, 1] for observations (N, 6); exploring ones carry the noise."""
        duty = self.policy(self.actor, torch.as_tensor(obs, dtype=torch.float32))
        return (duty if deterministic else duty + self.noise()).clamp(0, 1).numpy()

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Duties (N,) without noise: what `track` and `track_gem` call."""
        return self.act(obs, deterministic=True)[:, 0]

    def q_values(self, critic: MLP, obs: Tensor, action: Tensor) -> Tensor:
        """(B,). The critic sees everything, also when the actor does not."""
        return critic(torch.cat([obs, action], dim=1)).squeeze(-1)

    def update(self, batch: Batch, move_actor: bool = True) -> dict[str, Tensor]:
        """One gradient step on critic and (if wanted) actor, one Polyak step on their targets. Returns scalars, detached."""
        with torch.no_grad():
            next_q = self.q_values(self.target_critic, batch.next_obs, self.policy(self.target_actor, batch.next_obs))
        q = self.q_values(self.critic, batch.obs, batch.action)
        loss = critic_loss(q, ddpg_target(batch.reward, next_q, batch.terminated, self.config.gamma))
        self.critic_optimiser.zero_grad()
        loss.backward()
        self.critic_optimiser.step()

        if move_actor:
            ascent = actor_loss(self.q_values(self.critic, batch.obs, self.policy(self.actor, batch.obs)))
            self.actor_optimiser.zero_grad()
            ascent.backward(inputs=self.actor_params)  # through the critic, whose weights get no gradient
            self.actor_optimiser.step()

        polyak(self.target_actor, self.actor, self.config.polyak)
        polyak(self.target_critic, self.critic, self.config.polyak)
        return {"q": q.detach().mean(), "critic_loss": loss.detach()}

    def make_envs(self) -> SeriesDC:
        """The N motors of the configuration."""
        c = self.config
        violation = None if c.penalty is None else violation_reward(-1.0, c.gamma, c.penalty)
        return SeriesDC(c.n, c.motor, c.tau, c.repeat, c.horizon, c.references, c.sigma, c.power, violation)

    def learn(self, steps: int) -> Iterator[dict[str, float]]:
        """Train for `steps` agent steps, counted over all motors.

        Yields a dict every 800 steps with "step", "progress", "error" (mean of |omega - reference| / omega_limit over the
        last ones, noise included), "crossings" (per 1,000 agent steps) and, once it learns, "q" and "critic_loss".
        """
        config, step, seen, errors, crossings = self.config, 0, [], [], 0
        if steps < config.n:
            raise ValueError(f"steps must be at least n = {config.n}, got {steps}")
        envs, buffer, every = self.make_envs(), ReplayBuffer(steps + config.n, 6, 1), max(1, 800 // config.n)
        for count, t in enumerate(rollout(envs, self.act, env_seed(config.seed)), start=1):
            buffer.add(t.obs, t.action, t.reward, t.next_obs, t.terminated)  # truncated is not stored: it only resets
            ended = t.terminated | t.truncated
            if ended.any():
                self.noise.reset(ended)
            step += config.n
            errors.append(np.abs(t.next_obs[:, 0] - t.next_obs[:, 5]).mean())
            crossings += int(envs.crossings.sum())
            if step >= config.warmup:
                for _ in range(config.updates):
                    batch = buffer.sample(config.batch_size, self.replay)
                    seen.append(self.update(batch, move_actor=step >= config.actor_warmup))
            if count % every == 0 or step >= steps:
                rate = 1_000 * crossings / (len(errors) * config.n)
                log = {"step": step, "progress": min(step / steps, 1.0), "error": float(np.mean(errors))}
                yield log | {"crossings": rate} | mean_logs(seen)
                errors, crossings = [], 0
            if step >= steps:
                return
