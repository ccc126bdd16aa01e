"""Soft Actor-Critic with automatic temperature.

Haarnoja, Zhou, Hartikainen, Tucker, Ha, Tan, Kumar, Zhu, Gupta, Abbeel, Levine:
"Soft Actor-Critic Algorithms and Applications", 2018, arXiv:1812.05905.

The idea. Maximise return plus entropy. Two soft Q functions are learned off-policy from replay; the actor is a
tanh-squashed Gaussian whose samples are differentiable (reparameterised), so the gradient of Q reaches the policy
directly. The smaller of the two critics is believed, against overestimation. The temperature alpha, the price of
entropy, is the dual variable of the constraint "entropy at least H_bar" and is learned by gradient descent.

Differs from the paper:
1. Actions are rescaled to [-1, 1] before anything else, so log pi and the target entropy -A refer to that box.
2. The temperature step reuses the actor's action samples; the authors' code draws fresh ones after the actor step.
   Both are one-sample estimates of the same expectation; ours saves one forward pass.
3. Warm-up is `warmup` uniform actions; the authors' default is ten episodes.
4. The actor uses the minimum of the critics, as the paper says; the authors' newest code uses their mean
   (`actor_q="mean"`).
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minirl.core.evaluate import evaluate
from minirl.core.nets import MLP, polyak
from minirl.core.replay import Batch, ReplayBuffer
from minirl.core.rollout import make_envs, mean_logs, rollout
from minirl.core.seeding import env_seed, torch_generator

# Shapes: B batch, N parallel environments, O observation, A action.


@dataclass(frozen=True)
class Config:
    """Defaults are the paper's, for a large task; the chapter uses smaller networks and lr 1e-3 on Pendulum."""

    env_id: str = "Pendulum-v1"  # a gymnasium environment with a Box action space
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers of actor and critics
    lr: float = 3e-4  # Adam step size of actor and critics
    alpha_lr: float = 3e-4  # Adam step size of log alpha
    gamma: float = 0.99  # discount, in [0, 1)
    tau: float = 0.005  # Polyak step of the target critics, in (0, 1]
    batch_size: int = 256  # transitions per update
    buffer_size: int = 1_000_000  # transitions kept
    warmup: int = 1_000  # environment steps with uniform actions before learning starts (paper: 10 episodes)
    alpha: float | None = None  # a number fixes the temperature; None learns it from alpha = 1
    target_entropy: float | None = None  # nats, on actions in [-1, 1]; None means -A
    actor_q: str = "min"  # "min" (paper) or "mean" (authors' newest code) of the critics in the actor loss
    reward_scale: float = 1.0  # rewards are multiplied by it in training, never in evaluation
    eval_every: int = 1_000  # environment steps between evaluations
    eval_episodes: int = 10  # episodes per evaluation
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma must lie in [0, 1), got {self.gamma}")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau must lie in (0, 1], got {self.tau}")
        if self.actor_q not in ("min", "mean"):
            raise ValueError(f'actor_q must be "min" or "mean", got {self.actor_q!r}')
        if self.alpha is not None and self.alpha < 0:
            raise ValueError(f"alpha must not be negative, got {self.alpha}")


# ------------------------------------------------------------------------------------------------ the squashed policy


class Actor(nn.Module):
    """obs (B, O) -> mean (B, A) and log_std (B, A) of the Gaussian before the squashing."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.net = MLP((obs_dim, *hidden, 2 * action_dim), generator)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(obs).chunk(2, dim=-1)
        return mean, log_std.clamp(-20, 2)


def tanh_gaussian_logprob(u: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density (B,) of the action a = tanh(u), u ~ N(mean, exp(log_std)^2), eq. (6); all inputs (B, A).

    log(1 - tanh(u)^2) is written as 2 (log 2 - u - softplus(-2u)), which stays finite where tanh(u) rounds to 1.
    """
    gaussian = -0.5 * ((u - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
    return (gaussian - 2 * (math.log(2) - u - F.softplus(-2 * u))).sum(-1)


def sample_action(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Reparameterised action (B, A) in (-1, 1) and its log-density (B,), from standard normal noise (B, A).

    With u = mean + exp(log_std) noise the ratio (u - mean) / exp(log_std) of eq. (6) is the noise itself: the same value
    and gradient as `tanh_gaussian_logprob(u, mean, log_std)`, in half the arithmetic.
    """
    u = mean + log_std.exp() * noise
    terms = 0.5 * noise**2 + log_std - 2 * (u + F.softplus(-2 * u))
    return torch.tanh(u), -terms.sum(-1) - u.shape[-1] * (0.5 * math.log(2 * math.pi) + 2 * math.log(2))


# ------------------------------------------------------------------------------------------------------- the losses


def soft_target(
    reward: Tensor, terminated: Tensor, next_q: Tensor, next_logp: Tensor, alpha: Tensor, gamma: float
) -> Tensor:
    """Target y (B,) of both critics, eq. (7): r + gamma (1 - terminated) (min_i Q_i(s', a') - alpha log pi(a'|s')).

    next_q (2, B) are the target critics at a fresh action a' ~ pi(.|s'); next_logp (B,). No gradient flows.
    """
    soft_value = next_q.min(dim=0).values - alpha * next_logp
    return (reward + gamma * (1 - terminated) * soft_value).detach()


def critic_loss(q: Tensor, y: Tensor) -> Tensor:
    """Scalar, eq. (8): half the mean squared error of each critic to the common target, summed. q (2, B), y (B,)."""
    return 0.5 * F.mse_loss(q, y.expand_as(q), reduction="sum") / y.shape[0]


def actor_loss(q: Tensor, logp: Tensor, alpha: Tensor) -> Tensor:
    """Scalar, eq. (9): mean of alpha log pi(a|s) - Q(s, a). q (B,), logp (B,), both functions of the actor."""
    return (alpha * logp - q).mean()


def alpha_loss(log_alpha: Tensor, logp: Tensor, target_entropy: float) -> Tensor:
    """Scalar, eq. (11): -alpha mean(log pi + H_bar), differentiated through alpha = exp(log_alpha) only."""
    return -log_alpha.exp() * (logp.detach() + target_entropy).mean()


# -------------------------------------------------------------------------------------------------------- the agent


class SAC(nn.Module):
    """Actor, twin critics, their targets and the temperature; `learn` trains, `act` acts."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.envs = make_envs(config.env_id)
        self.obs_dim, self.action_dim = (
            space.shape[0] for space in (self.envs.single_observation_space, self.envs.single_action_space)
        )
        self.target_entropy = -float(self.action_dim) if config.target_entropy is None else config.target_entropy

        init, self.noise, self.replay = (torch_generator(config.seed, stream) for stream in range(3))
        self.actor = Actor(self.obs_dim, self.action_dim, config.hidden, init)
        self.critic = MLP((self.obs_dim + self.action_dim, *config.hidden, 1), init, K=2)
        self.target_critic = deepcopy(self.critic).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.tensor(0.0 if config.alpha is None else math.log(max(config.alpha, 1e-30))))

        # Actor and temperature share one backward pass and one optimiser: their losses have no parameter in common.
        self.policy_params = [*self.actor.parameters(), *([self.log_alpha] if config.alpha is None else [])]
        groups = [{"params": self.actor.parameters()}, {"params": [self.log_alpha], "lr": config.alpha_lr}]
        self.policy_optimiser = torch.optim.Adam(groups, config.lr, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), config.lr, fused=True)

    @torch.no_grad()
    def act(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Actions (N, A) in [-1, 1] for observations (N, O): a sample, or tanh of the mean."""
        mean, log_std = self.actor(torch.as_tensor(obs, dtype=torch.float32))
        if deterministic:
            return torch.tanh(mean).numpy()
        noise = torch.randn(mean.shape, generator=self.noise)
        return torch.tanh(mean + log_std.exp() * noise).numpy()

    def q_values(self, critic: MLP, obs: Tensor, action: Tensor) -> Tensor:
        """Both critics, (2, B)."""
        return critic(torch.cat([obs, action], dim=1)).squeeze(-1)

    def sample(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """A differentiable action (B, A) and its log-density (B,)."""
        mean, log_std = self.actor(obs)
        return sample_action(mean, log_std, torch.randn(mean.shape, generator=self.noise))

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step on critics, actor and temperature, then the targets. Returns scalars, detached."""
        config, alpha = self.config, self.log_alpha.detach().exp()

        with torch.no_grad():
            next_action, next_logp = self.sample(batch.next_obs)
            next_q = self.q_values(self.target_critic, batch.next_obs, next_action)
            y = soft_target(
                config.reward_scale * batch.reward, batch.terminated, next_q, next_logp, alpha, config.gamma
            )
        q = self.q_values(self.critic, batch.obs, batch.action)
        loss_q = critic_loss(q, y)
        self.critic_optimiser.zero_grad()
        loss_q.backward()
        self.critic_optimiser.step()

        action, logp = self.sample(batch.obs)
        both = self.q_values(self.critic, batch.obs, action)
        believed = both.min(dim=0).values if config.actor_q == "min" else both.mean(dim=0)
        loss = actor_loss(believed, logp, alpha) + alpha_loss(self.log_alpha, logp, self.target_entropy)
        self.policy_optimiser.zero_grad()
        loss.backward(inputs=self.policy_params)  # through the critics, but their weights get no gradient
        self.policy_optimiser.step()

        polyak(self.target_critic, self.critic, config.tau)
        return {
            "q": q.detach().mean(),
            "critic_loss": loss_q.detach(),
            "entropy": -logp.detach().mean(),
            "alpha": alpha,
        }

    def learn(self, steps: int) -> Iterator[dict[str, float]]:
        """Train for `steps` environment steps with one update a step after the warm-up.

        Yields a dict every 100 steps with "step", "progress" and the means of `update`'s numbers since the last one;
        every `eval_every` steps (and at step 0) also "return", the mean deterministic evaluation return.
        """
        config, step, seen = self.config, 0, []
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        buffer = ReplayBuffer(min(config.buffer_size, steps), self.obs_dim, self.action_dim)
        uniform = np.random.default_rng(env_seed(config.seed, 1))
        yield {"step": 0, "progress": 0.0, "return": self.evaluate()}

        def behaviour(obs: np.ndarray) -> np.ndarray:
            return uniform.uniform(-1, 1, (len(obs), self.action_dim)) if step < config.warmup else self.act(obs)

        for t in rollout(self.envs, behaviour, env_seed(config.seed)):
            buffer.add(t.obs, t.action, t.reward, t.next_obs, t.terminated)  # truncated is not stored: it only resets
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
        """Mean return of the deterministic policy over fixed starts, in the environment's own (unscaled) reward."""
        act = lambda obs: self.act(obs, deterministic=True)  # noqa: E731
        return float(evaluate(act, self.config.env_id, self.config.eval_episodes).mean())
