"""Deterministic actor-critics: TD3, and DDPG as a setting of the same code. Baselines of the SAC and DSAC-T chapters.

TD3: Fujimoto, van Hoof, Meger, "Addressing Function Approximation Error in Actor-Critic Methods", 2018, arXiv:1802.09477.
DDPG: Lillicrap et al., "Continuous control with deep reinforcement learning", 2015, arXiv:1509.02971.

The idea. The actor is a deterministic function mu(s), improved along dQ/da; exploration is noise added from outside.
DDPG does just that and overestimates. TD3 adds three repairs: the smaller of two critics in the target, an actor that
moves every second step, and noise on the target action, which smooths Q over similar actions.

Differs from the papers:
1. DDPG explores with Gaussian noise instead of an Ornstein-Uhlenbeck process, and both use one learning rate.
2. Targets move with tau at the actor's pace, as in TD3; DDPG (`policy_delay=1`) moves them at every step.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from minirl.core.evaluate import evaluate
from minirl.core.nets import MLP, polyak
from minirl.core.replay import Batch, ReplayBuffer
from minirl.core.rollout import make_envs, mean_logs, rollout
from minirl.core.seeding import env_seed, torch_generator

# Shapes: B batch, N parallel environments, O observation, A action.


@dataclass(frozen=True)
class Config:
    """TD3's defaults; `Config.ddpg(...)` switches its three repairs off."""

    env_id: str = "Pendulum-v1"  # a gymnasium environment with a Box action space
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers of actor and critics
    lr: float = 3e-4  # Adam step size of actor and critics
    gamma: float = 0.99  # discount, in [0, 1)
    tau: float = 0.005  # Polyak step of the targets, in (0, 1]
    batch_size: int = 256  # transitions per update
    buffer_size: int = 1_000_000  # transitions kept
    warmup: int = 1_000  # environment steps with uniform actions before learning starts
    exploration_noise: float = 0.1  # standard deviation of the noise on the action, on the scale [-1, 1]
    twin: bool = True  # two critics and the smaller one in the target
    policy_delay: int = 2  # critic updates per actor and target update
    target_noise: float = 0.2  # standard deviation of the noise on the target action
    target_noise_clip: float = 0.5  # bound of that noise
    eval_every: int = 1_000  # environment steps between evaluations
    eval_episodes: int = 10  # episodes per evaluation
    seed: int = 0

    @classmethod
    def ddpg(cls, **fields) -> "Config":
        """One critic, no delay, no target noise."""
        return cls(twin=False, policy_delay=1, target_noise=0.0, **fields)


def td3_target(reward: Tensor, terminated: Tensor, next_q: Tensor, gamma: float) -> Tensor:
    """y (B,) = r + gamma (1 - terminated) min_i Q_i(s', a'), with next_q (K, B), K = 1 or 2. No gradient flows."""
    return (reward + gamma * (1 - terminated) * next_q.min(dim=0).values).detach()


class TD3(nn.Module):
    """Deterministic actor, one or two critics, and the targets of all of them."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.envs = make_envs(config.env_id)
        self.obs_dim, self.action_dim = (
            s.shape[0] for s in (self.envs.single_observation_space, self.envs.single_action_space)
        )
        init, self.noise, self.replay = (torch_generator(config.seed, stream) for stream in range(3))
        self.actor = MLP((self.obs_dim, *config.hidden, self.action_dim), init)
        self.critic = MLP((self.obs_dim + self.action_dim, *config.hidden, 1), init, K=2 if config.twin else 1)
        self.target_actor = deepcopy(self.actor).requires_grad_(False)
        self.target_critic = deepcopy(self.critic).requires_grad_(False)
        self.actor_params = list(self.actor.parameters())
        self.actor_optimiser = torch.optim.Adam(self.actor_params, config.lr, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), config.lr, fused=True)
        self.updates = 0

    @torch.no_grad()
    def act(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Actions (N, A) in [-1, 1] for observations (N, O); exploring ones carry Gaussian noise."""
        action = torch.tanh(self.actor(torch.as_tensor(obs, dtype=torch.float32)))
        if not deterministic:
            action += self.config.exploration_noise * torch.randn(action.shape, generator=self.noise)
        return action.clamp(-1, 1).numpy()

    def q_values(self, critic: MLP, obs: Tensor, action: Tensor) -> Tensor:
        """All critics, (K, B)."""
        return critic(torch.cat([obs, action], dim=1)).squeeze(-1)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One critic step and, every `policy_delay`-th time, one actor and target step. Returns scalars, detached."""
        config = self.config
        with torch.no_grad():
            noise = config.target_noise * torch.randn(batch.action.shape, generator=self.noise)
            noise = noise.clamp(-config.target_noise_clip, config.target_noise_clip)
            next_action = (torch.tanh(self.target_actor(batch.next_obs)) + noise).clamp(-1, 1)
            y = td3_target(
                batch.reward,
                batch.terminated,
                self.q_values(self.target_critic, batch.next_obs, next_action),
                config.gamma,
            )
        q = self.q_values(self.critic, batch.obs, batch.action)
        self.critic_optimiser.zero_grad()
        (0.5 * ((q - y) ** 2).mean(dim=1).sum()).backward()
        self.critic_optimiser.step()

        self.updates += 1
        if self.updates % config.policy_delay == 0:
            loss = -self.q_values(self.critic, batch.obs, torch.tanh(self.actor(batch.obs)))[
                0
            ].mean()  # the first critic only
            self.actor_optimiser.zero_grad()
            loss.backward(inputs=self.actor_params)
            self.actor_optimiser.step()
            polyak(self.target_actor, self.actor, config.tau)
            polyak(self.target_critic, self.critic, config.tau)
        return {"q": q.detach().mean()}

    def learn(self, steps: int) -> Iterator[dict[str, float]]:
        """Train for `steps` environment steps; yields the same dicts as `SAC.learn`."""
        config, step, seen = self.config, 0, []
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        buffer = ReplayBuffer(min(config.buffer_size, steps), self.obs_dim, self.action_dim)
        uniform = np.random.default_rng(env_seed(config.seed, 1))
        yield {"step": 0, "progress": 0.0, "return": self.evaluate()}

        def behaviour(obs: np.ndarray) -> np.ndarray:
            return uniform.uniform(-1, 1, (len(obs), self.action_dim)) if step < config.warmup else self.act(obs)

        for t in rollout(self.envs, behaviour, env_seed(config.seed)):
            buffer.add(t.obs, t.action, t.reward, t.next_obs, t.terminated)
            step += 1
            if step > config.warmup:
                seen.append(self.update(buffer.sample(config.batch_size, self.replay)))
            if step % 100 == 0 or step == steps:
                log = {"step": step, "progress": step / steps, **mean_logs(seen)}
                if step % config.eval_every == 0:
                    log["return"] = self.evaluate()
                yield log
            if step == steps:
                return

    def evaluate(self) -> float:
        """Mean return of the policy without exploration noise over fixed starts."""
        act = lambda obs: self.act(obs, deterministic=True)  # noqa: E731
        return float(evaluate(act, self.config.env_id, self.config.eval_episodes).mean())
