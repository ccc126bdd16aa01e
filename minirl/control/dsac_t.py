"""Distributional Soft Actor-Critic with three refinements (DSAC-T), with DSAC-v1 as a setting of four switches.

Duan, Wang, Xiao, Gao, Li, Liu, Zhang, Cheng, Li: "Distributional Soft Actor-Critic with Three Refinements",
IEEE TPAMI 2025, arXiv:2310.05858. Predecessor (DSAC-v1): Duan, Guan, Li, Ren, Sun, Cheng, arXiv:2001.02811.

The idea. The critic is a Gaussian N(Q, sigma^2) over the soft return instead of a number. Fitted by likelihood, the
mean moves in steps proportional to 1 / sigma^2, so uncertain pairs are believed slowly and the actor's maximisation
overestimates less. Three refinements make that stable: (R1) the mean is trained on the expected next value, not on a
sample; (R2) of two critics the one with the smaller mean gives the whole target distribution; (R3) the clip bound and
the step size are measured in units of a running average of sigma, so the scale of the rewards stops mattering.

Differs from the paper:
1. Networks see actions in [-1, 1]. log pi is still the density of the environment's own action, as in the authors'
   code: sum log((high - low) / 2) is subtracted, so the target entropy -A and alpha compare with theirs.
2. The N transitions between two updates come from N parallel copies of the environment; the authors take them in a row.
3. log(1 - tanh(u)^2) is exact; the authors add 1e-6 inside the logarithm, which caps the density of saturated actions.
4. In iterations that do not move the actor its loss is not computed; the authors compute it and discard it.
5. One Adam holds both stacked critics. Adam works elementwise, so this equals one Adam for each critic.
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

# Shapes: B batch, N parallel environments, O observation, A action, K critics (2, or 1 without twins).


@dataclass(frozen=True)
class Config:
    """Defaults are the authors' for every task; the chapter uses smaller networks and lr 1e-3 on Pendulum."""

    env_id: str = "Pendulum-v1"  # a gymnasium environment with a Box action space
    hidden: tuple[int, ...] = (256, 256, 256)  # widths of the hidden layers (GELU) of actor and critics
    lr: float = 1e-4  # Adam step size of actor and critics
    alpha_lr: float = 3e-4  # Adam step size of log alpha
    gamma: float = 0.99  # discount, in [0, 1)
    tau: float = 0.005  # step of the target networks and of the running average of sigma, in (0, 1]
    batch_size: int = 256  # transitions per update
    buffer_size: int = 1_000_000  # transitions kept
    warmup: int = 10_000  # environment steps with the initial policy before learning starts
    num_envs: int = 20  # N: environment steps per update, taken in N parallel copies
    alpha: float | None = None  # a number fixes the temperature; None learns it
    alpha_init: float = math.e  # where the learned temperature starts
    target_entropy: float | None = None  # nats, of the environment's own action; None means -A
    delay: int = 2  # actor, temperature and all targets move in every `delay`-th update
    expected_value: bool = True  # R1: train the mean on the expected next value (off: on a sampled return)
    twin: bool = True  # R2: two critics, the smaller mean is believed (off: one critic)
    adaptive_bound: bool = True  # R3: clip at xi * average sigma (off: at td_bound)
    omega: bool = True  # R3: multiply the critic gradient by average sigma^2 (off: by 1)
    xi: float = 3.0  # width of the adaptive clip, in standard deviations; must exceed 1
    td_bound: float = 1.0  # the fixed clip, in reward units (authors' scripts 1, their class default 20)
    eps: float = 0.1  # keeps the denominators sigma^2 + eps and sigma^3 + eps away from 0
    reward_scale: float = 1.0  # rewards are multiplied by it in training, never in evaluation
    eval_every: int = 20_000  # environment steps between evaluations, a multiple of 100 * num_envs
    eval_episodes: int = 10  # episodes per evaluation
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma must lie in [0, 1), got {self.gamma}")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau must lie in (0, 1], got {self.tau}")
        if self.adaptive_bound and self.xi <= 1:
            raise ValueError(f"xi must exceed 1, or sigma collapses to 0; got {self.xi}")
        if self.td_bound <= 0 or self.eps < 0 or self.alpha_init <= 0 or (self.alpha or 0) < 0:
            raise ValueError("td_bound and alpha_init must be positive, eps and alpha must not be negative")
        if self.eval_every % (100 * self.num_envs):
            raise ValueError(f"eval_every must be a multiple of 100 * num_envs, got {self.eval_every}")

    @classmethod
    def v1(cls, **changes) -> "Config":
        """DSAC-v1: all four switches off, everything else as given."""
        return cls(**({"expected_value": False, "twin": False, "adaptive_bound": False, "omega": False} | changes))


# ------------------------------------------------------------------------------------------------------ the networks


class ValueDistribution(nn.Module):
    """obs (B, O), action (B, A) -> mean q (K, B) and standard deviation sigma (K, B) of the soft return.

    K critics, each one network with an identity head and a softplus head. softplus > 0, so sigma needs no exponential.
    """

    def __init__(self, obs_dim: int, action_dim: int, hidden: tuple[int, ...], generator: torch.Generator, K: int):
        super().__init__()
        self.net = MLP((obs_dim + action_dim, *hidden, 2), generator, K=K, activation=F.gelu)

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        q, raw = self.net(torch.cat([obs, action], dim=1)).unbind(-1)
        return q, F.softplus(raw)


class TanhGaussian(nn.Module):
    """obs (B, O) -> mean (B, A) and log_std (B, A) of the Gaussian before the squashing."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.net = MLP((obs_dim, *hidden, 2 * action_dim), generator, activation=F.gelu)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(obs).chunk(2, dim=-1)
        return mean, log_std.clamp(-20, 0.5)


def tanh_gaussian_logprob(u: Tensor, mean: Tensor, log_std: Tensor, log_scale: float = 0.0) -> Tensor:
    """Log-density (B,) of the action scale * tanh(u), u ~ N(mean, exp(log_std)^2); inputs (B, A). Eq. (17).

    log_scale: sum over the A dimensions of log((high - low) / 2). log(1 - tanh(u)^2) is written as
    2 (log 2 - u - softplus(-2u)), which stays finite where tanh(u) rounds to 1.
    """
    gaussian = -0.5 * ((u - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
    squash = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return (gaussian - squash).sum(-1) - log_scale


# -------------------------------------------------------------------------------------------- targets, clip and losses


def twin_target(
    reward: Tensor, terminated: Tensor, next_q: Tensor, next_sigma: Tensor, z: Tensor, next_logp: Tensor,
    alpha: Tensor | float, gamma: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The common targets y_q (B,) and y_z (B,) of all critics, eqs. (7), (8) and (10). No gradient flows.

    next_q, next_sigma (K, B): target critics at a' ~ target policy; z (K, B): standard normal, clamped to [-3, 3].
    Mean and sample both come from the critic with the smaller mean. y_q uses the mean, y_z the sample; the entropy
    term is part of the next state's value, so `terminated` removes it too.
    """
    j = next_q.argmin(dim=0, keepdim=True)
    mean = next_q.gather(0, j).squeeze(0)
    sample = mean + (z * next_sigma).gather(0, j).squeeze(0)
    discount, entropy = gamma * (1 - terminated), alpha * next_logp
    return (reward + discount * (mean - entropy)).detach(), (reward + discount * (sample - entropy)).detach()


def clip_target(y_z: Tensor, q: Tensor, bound: Tensor | float) -> Tensor:
    """The sampled return (B,), moved to within `bound` (K, 1) of each critic's mean q (K, B): (K, B), eq. (12)."""
    return torch.clamp(y_z - q, -bound, bound) + q


def moving_average(average: Tensor | None, sigma: Tensor, tau: float) -> Tensor:
    """The running mean (K, 1) of sigma (K, B), eq. (14). The first call (average None) copies the batch mean."""
    mean = sigma.detach().mean(dim=1, keepdim=True)
    return mean if average is None else average + tau * (mean - average)


def critic_loss(
    q: Tensor, sigma: Tensor, y_q: Tensor, y_z: Tensor, bound: Tensor | float, weight: Tensor | float, eps: float
) -> Tensor:
    """Scalar surrogate, eq. (15). Its gradient is the wanted one; its value means nothing and need not fall.

    q, sigma (K, B): the critics, the only inputs that get a gradient. y_q, y_z (B,): targets of the mean and of the
    spread. bound (K, 1): the clip, for the spread only. weight (K, 1): the gradient weight omega. Sum over K, mean
    over B. With eps = 0, weight = 1, bound = inf and y_q = y_z it is the gradient of the Gaussian log-likelihood.
    """
    mean, std = q.detach(), sigma.detach()
    squared_error = (clip_target(y_z, mean, bound) - mean) ** 2
    per_q = -(y_q - mean) / (std**2 + eps)
    per_sigma = -(squared_error - std**2) / (std**3 + eps)
    return (weight * (per_q * q + per_sigma * sigma)).mean(dim=1).sum()


def actor_loss(q: Tensor, logp: Tensor, alpha: Tensor | float) -> Tensor:
    """Scalar, eq. (18): mean of alpha log pi(a|s) - min_i Q_i(s, a). q (K, B), logp (B,), functions of the actor."""
    return (alpha * logp - q.min(dim=0).values).mean()


def alpha_loss(log_alpha: Tensor, logp: Tensor, target_entropy: float) -> Tensor:
    """Scalar, eq. (19): -log(alpha) mean(log pi + target entropy); linear in log alpha, unlike SAC's."""
    return -log_alpha * (logp.detach() + target_entropy).mean()


# --------------------------------------------------------------------------------------------------------- the agent


class DSACT(nn.Module):
    """Actor, value distributions, targets of both, temperature; `learn` trains, `act` acts."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.envs = make_envs(config.env_id, config.num_envs)
        obs_dim, action_dim = self.envs.single_observation_space.shape[0], self.envs.single_action_space.shape[0]
        self.target_entropy = -float(action_dim) if config.target_entropy is None else config.target_entropy
        self.log_scale = float(np.log((self.envs.action_high - self.envs.action_low) / 2).sum())

        init, self.noise, self.replay = (torch_generator(config.seed, stream) for stream in range(3))
        self.buffer = ReplayBuffer(1, obs_dim, action_dim)  # `learn` makes a large one
        self.actor = TanhGaussian(obs_dim, action_dim, config.hidden, init)
        self.critic = ValueDistribution(obs_dim, action_dim, config.hidden, init, K=2 if config.twin else 1)
        self.target_actor = deepcopy(self.actor).requires_grad_(False)
        self.target_critic = deepcopy(self.critic).requires_grad_(False)
        start = config.alpha_init if config.alpha is None else max(config.alpha, 1e-30)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(start)))
        self.sigma_bar: Tensor | None = None  # (K, 1) once the first batch was seen
        self.iteration = 0

        self.actor_params = list(self.actor.parameters())
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), config.lr, fused=True)
        self.actor_optimiser = torch.optim.Adam(self.actor_params, config.lr, fused=True)
        self.alpha_optimiser = torch.optim.Adam([self.log_alpha], config.alpha_lr, fused=True)

    @torch.no_grad()
    def act(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Actions (N, A) in [-1, 1] for observations (N, O): a sample, or tanh of the mean."""
        mean, log_std = self.actor(torch.as_tensor(obs, dtype=torch.float32))
        if deterministic:
            return torch.tanh(mean).numpy()
        noise = torch.randn(mean.shape, generator=self.noise)
        return torch.tanh(mean + log_std.exp() * noise).numpy()

    def sample(self, actor: TanhGaussian, obs: Tensor) -> tuple[Tensor, Tensor]:
        """A differentiable action (B, A) in (-1, 1) and the log-density (B,) of the environment's own action."""
        mean, log_std = actor(obs)
        u = mean + log_std.exp() * torch.randn(mean.shape, generator=self.noise)
        return torch.tanh(u), tanh_gaussian_logprob(u, mean, log_std, self.log_scale)

    def critic_backward(
        self, batch: Batch, next_action: Tensor, next_logp: Tensor, alpha: Tensor | float
    ) -> dict[str, Tensor]:
        """Put the gradient of eq. (15) into the critics' `.grad`; the caller takes the step. Returns scalars."""
        config = self.config
        q, sigma = self.critic(batch.obs, batch.action)
        self.sigma_bar = moving_average(self.sigma_bar, sigma, config.tau)  # before it is used
        with torch.no_grad():
            next_q, next_sigma = self.target_critic(batch.next_obs, next_action)
            z = torch.randn(next_q.shape, generator=self.noise).clamp_(-3, 3)
            reward = config.reward_scale * batch.reward
            y_q, y_z = twin_target(
                reward, batch.terminated, next_q, next_sigma, z, next_logp, alpha, config.gamma
            )  # fmt: skip
            if not config.expected_value:
                y_q = y_z
        bound = config.xi * self.sigma_bar if config.adaptive_bound else config.td_bound
        weight = self.sigma_bar**2 + config.eps if config.omega else 1.0
        self.critic_optimiser.zero_grad()
        critic_loss(q, sigma, y_q, y_z, bound, weight, config.eps).backward()
        mean, std = q.detach(), sigma.detach()
        return {
            "q": mean.mean(),
            "sigma": std.mean(),
            "sigma_bar": self.sigma_bar.mean(),
            "td_error": (y_q - mean).abs().mean(),
            "nll": (0.5 * ((y_z - mean) / std) ** 2 + std.log()).mean(),
        }

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the critics; in every `delay`-th call also of actor, temperature and targets. Returns scalars."""
        config, moves_actor = self.config, self.iteration % self.config.delay == 0  # iteration 0 moves it
        alpha = self.log_alpha.detach().exp() if config.alpha is None else config.alpha

        with torch.no_grad():
            next_action, next_logp = self.sample(self.target_actor, batch.next_obs)
        log = self.critic_backward(batch, next_action, next_logp, alpha)
        if moves_actor:  # against the critics as they are before their step
            action, logp = self.sample(self.actor, batch.obs)
            q, _ = self.critic(batch.obs, action)
            self.actor_optimiser.zero_grad()
            actor_loss(q, logp, alpha).backward(inputs=self.actor_params)  # critics' weights get no gradient
        self.critic_optimiser.step()
        if moves_actor:
            self.actor_optimiser.step()
            if config.alpha is None:
                self.alpha_optimiser.zero_grad()
                alpha_loss(self.log_alpha, logp, self.target_entropy).backward()
                self.alpha_optimiser.step()
            polyak(self.target_critic, self.critic, config.tau)
            polyak(self.target_actor, self.actor, config.tau)
        self.iteration += 1
        return log | {"entropy": -next_logp.mean(), "alpha": torch.as_tensor(alpha)}

    def learn(self, steps: int) -> Iterator[dict[str, float]]:
        """Train for `steps` environment steps: every copy of the environment steps once, then one update.

        Yields a dict every 100 * num_envs steps with "step", "progress" and the means of `update`'s numbers since the
        last one; every `eval_every` steps (and at step 0) also "return", the mean deterministic evaluation return.
        Time limits are not stored as terminations: the value beyond them is bootstrapped.
        """
        config = self.config
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.buffer = buffer = ReplayBuffer(min(config.buffer_size, steps), self.buffer.obs_dim, self.buffer.action_dim)
        seen: list[dict[str, Tensor]] = []
        step = 0
        yield {"step": 0, "progress": 0.0, "return": self.evaluate()}

        for t in rollout(self.envs, self.act, env_seed(config.seed)):
            buffer.add(t.obs, t.action, t.reward, t.next_obs, t.terminated)
            step += config.num_envs
            if step > config.warmup:
                seen.append(self.update(buffer.sample(config.batch_size, self.replay)))
            if step % (100 * config.num_envs) == 0 or step >= steps:
                log = {"step": step, "progress": min(step / steps, 1.0), **mean_logs(seen)}
                if step % config.eval_every == 0:
                    log["return"] = self.evaluate()
                yield log
            if step >= steps:
                return

    def evaluate(self) -> float:
        """Mean return of the deterministic policy over fixed starts, in the environment's own (unscaled) reward."""
        returns = evaluate(lambda obs: self.act(obs, deterministic=True), self.config.env_id, self.config.eval_episodes)
        return float(returns.mean())
