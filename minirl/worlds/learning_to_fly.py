"""Learning to fly in seconds: end-to-end control of a quadrotor's rotor speeds with an asymmetric TD3.

Eschmann, Albani, Loianno: "Learning to Fly in Seconds", IEEE Robotics and Automation Letters, 2024, arXiv:2311.13081.

The idea. A policy maps what a small drone can measure to four rotor speeds. Motors answer slowly, and no sensor shows how
fast they turn; the last 32 commands tell. The critic is needed in training only, so it may see what the simulator knows: the
state without noise, the rotor speeds, the wind. Rewards start mild and are tightened later, and those in the replay buffer
are computed again, so that all of it speaks of one and the same task.

Differs from the paper:
1. 64 environments run side by side; the authors step one. Updates per environment step are theirs.
2. PyTorch on one core instead of the authors' C++, so the 18 seconds of the title are not claimed here.
3. Weight decay is AdamW's, lr times 1e-4 an update. The authors' library, as it is today, takes 0.5e-4 of every weight whatever lr is;
   tried on one seed, that learned more slowly. `torch.tanh` stands for their fast approximation of it.
4. Noise and reward decays that begin after 500,000 steps, beyond our runs, are left out.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minirl.core.nets import MLP, polyak
from minirl.core.rollout import mean_logs
from minirl.core.seeding import env_seed, torch_generator
from minirl.envs.quadrotor import HISTORY, HOVER, REWARD_START, REWARD_TARGET, SEEN, Params, Quadrotor

# Shapes: B batch, N parallel environments, O = 146 observation (18 measurements, 128 past actions), C = 28 privileged
# observation (the 18 without noise, force, torque, rotor speeds), A = 4 action.
O, C, A = SEEN + 4 * HISTORY, SEEN + 10, 4  # noqa: E741


@dataclass(frozen=True)
class Config:
    """Defaults are the paper's (authors' code). `Config.fast()` is the setting of the live cell."""

    n_envs: int = 64  # environments side by side (paper: 1)
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers of actor and critics
    lr: float = 1e-3  # Adam step size of actor and critics
    weight_decay: float = 1e-4  # AdamW's: times lr, every parameter loses this share at an update
    adam_eps: float = 1e-7  # Adam's epsilon
    gamma: float = 0.99  # discount, in [0, 1)
    tau: float = 0.005  # Polyak step of the targets, in (0, 1]
    batch_size: int = 256  # transitions per update
    steps_per_update: int = 10  # environment steps per update of the critics and their targets
    actor_every: int = 2  # critic updates per update of the actor and its target
    warmup_critic: int = 15_000  # environment steps before the first critic update
    warmup_actor: int = 30_000  # and before the first actor update
    exploration_noise: float = 0.1  # standard deviation of the noise on actions in [-1, 1]
    target_noise: float = 0.2  # the same for target actions
    target_noise_clip: float = 0.5  # bound of that noise
    curriculum: bool = True  # reward weights from REWARD_START on, tightened; False: REWARD_TARGET from the start
    curriculum_every: int = 100_000  # environment steps between two tightenings
    recompute: bool = True  # replayed rewards follow the weights
    history: bool = True  # the actor sees its last 32 actions
    privileged: bool = True  # the critics see the true state; False: what the actor sees
    lag: bool = True  # motors are slow in training (in evaluation they always are)
    eval_every: int = 10_000  # environment steps between evaluations
    eval_episodes: int = 100  # episodes per evaluation
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma must lie in [0, 1), got {self.gamma}")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau must lie in (0, 1], got {self.tau}")
        if self.warmup_actor < self.warmup_critic:
            raise ValueError("the actor must not start before the critics: warmup_actor < warmup_critic")
        for name in ("n_envs", "batch_size", "steps_per_update", "actor_every", "curriculum_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @classmethod
    def fast(cls, **fields) -> "Config":
        """Flies after 60,000 steps, and pays for it with relapses later."""
        return cls(**{"lr": 3e-3, "tau": 0.02, "warmup_critic": 5_000, "warmup_actor": 8_000} | fields)


# ------------------------------------------------------------------------------------------------ reward and curriculum


def rewards(privileged: Tensor, action: Tensor, terminated: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Reward (B,), eq. (9), from the state before the step as the critic sees it (B, C), and the action (B, A).

    2 - 0.5 [w_p |p|^2 + w_q (1 - q_w^2) + w_v |v|^2 + w_a |a - hover|^2], and 0 where the step `terminated` (B,).
    The quaternion is not stored: trace R = 4 q_w^2 - 1, so 1 - q_w^2 = (3 - trace R) / 4.
    """
    w_p, w_q, w_v, w_a = weights
    position, velocity = privileged[:, 0:3], privileged[:, 12:15]
    trace = privileged[:, 3] + privileged[:, 7] + privileged[:, 11]
    cost = w_p * position.square().sum(1) + w_q * (3 - trace) / 4
    cost = cost + w_v * velocity.square().sum(1) + w_a * (action - HOVER).square().sum(1)
    return (2 - 0.5 * cost) * (1 - terminated)


def tightened(weights: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """The next stage of the curriculum: position x 1.2 up to 40, velocity and action x 1.4 up to 1."""
    w_p, w_q, w_v, w_a = weights
    return min(1.2 * w_p, 40.0), w_q, min(1.4 * w_v, 1.0), min(1.4 * w_a, 1.0)


# --------------------------------------------------------------------------------------------------- what is replayed


class Batch(NamedTuple):
    """B transitions. obs is what the actor saw, privileged what the simulator knew."""

    obs: Tensor  # (B, O)
    privileged: Tensor  # (B, C)
    action: Tensor  # (B, A)
    reward: Tensor  # (B,)
    next_obs: Tensor  # (B, O)
    next_privileged: Tensor  # (B, C)
    terminated: Tensor  # (B,)


class Replay:
    """All transitions, one float32 row each; of the next history only the newest action is stored, since the rest is shifted."""

    SIZES = (O, A, C, SEEN, C, 1, 1)  # obs, action, privileged, next measurements, next privileged, reward, terminated

    def __init__(self, capacity: int):
        self.rows, self.size, self.position = torch.empty(capacity, sum(self.SIZES)), 0, 0

    def add(self, obs, action, privileged, next_obs, next_privileged, reward, terminated) -> None:
        """Store N transitions (NumPy arrays); capacity must be a multiple of N."""
        here = self.rows[self.position : self.position + len(obs)].numpy()
        parts = (obs, action, privileged, next_obs[:, :SEEN], next_privileged, reward[:, None], terminated[:, None])
        start = 0
        for part, size in zip(parts, self.SIZES, strict=True):
            here[:, start : start + size] = part
            start += size
        self.position = (self.position + len(obs)) % len(self.rows)
        self.size = min(self.size + len(obs), len(self.rows))

    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        """Draw a batch uniformly with replacement."""
        rows = self.rows.index_select(0, torch.randint(self.size, (batch_size,), generator=generator))
        obs, action, privileged, measured, next_privileged, reward, terminated = rows.split(self.SIZES, dim=1)
        next_obs = torch.cat([measured, rows[:, SEEN + A : O + A]], dim=1)  # 31 old actions and the one just taken
        return Batch(obs, privileged, action, reward[:, 0], next_obs, next_privileged, terminated[:, 0])

    def recompute(self, weights: tuple[float, ...]) -> None:
        """Write the rewards anew for other weights, eq. (14)."""
        _, action, privileged, _, _, reward, terminated = self.rows[: self.size].split(self.SIZES, dim=1)
        reward[:, 0] = rewards(privileged, action, terminated[:, 0], weights)


# ---------------------------------------------------------------------------------------------------------- the losses


def smoothed(action: Tensor, noise: Tensor, clip: float) -> Tensor:
    """Target action (B, A), eq. (11): noise (B, A) is clipped, then the sum is clipped to [-1, 1]."""
    return (action + noise.clamp(-clip, clip)).clamp(-1, 1)


def td3_target(reward: Tensor, terminated: Tensor, next_q: Tensor, gamma: float) -> Tensor:
    """y (B,) = r + gamma (1 - terminated) min_j Q_j, eq. (12), with next_q (2, B). No gradient flows."""
    return (reward + gamma * (1 - terminated) * next_q.min(dim=0).values).detach()


def critic_loss(q: Tensor, y: Tensor) -> Tensor:
    """Scalar, eq. (13): half the mean squared error of each critic, summed. q (2, B), y (B,)."""
    return 0.5 * F.mse_loss(q, y.expand_as(q), reduction="sum") / y.shape[0]


# ----------------------------------------------------------------------------------------------------------- the agent


class Flier(nn.Module):
    """Actor, twin critics and the targets of all; `learn` trains, `act` acts."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.actor_dim = O if config.history else SEEN
        critic_dim = C if config.privileged else self.actor_dim
        init, self.noise, self.draws = (torch_generator(config.seed, stream) for stream in range(3))
        self.actor = MLP((self.actor_dim, *config.hidden, A), init, activation=torch.tanh_)
        self.critic = MLP((critic_dim + A, *config.hidden, 1), init, K=2, activation=torch.tanh_)
        self.target_actor = deepcopy(self.actor).requires_grad_(False)
        self.target_critic = deepcopy(self.critic).requires_grad_(False)
        self.actor_params = list(self.actor.parameters())
        adam = {"lr": config.lr, "eps": config.adam_eps, "weight_decay": config.weight_decay, "fused": True}
        self.actor_optimiser = torch.optim.AdamW(self.actor_params, **adam)
        self.critic_optimiser = torch.optim.AdamW(self.critic.parameters(), **adam)

    def policy(self, actor: MLP, obs: Tensor) -> Tensor:
        """Actions (B, A) in (-1, 1) of observations (B, O)."""
        return torch.tanh(actor(obs[:, : self.actor_dim]))

    @torch.no_grad()
    def act(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Actions (N, A) in [-1, 1] for observations (N, O); exploring ones carry Gaussian noise."""
        action = self.policy(self.actor, torch.as_tensor(obs))
        if not deterministic:
            action += self.config.exploration_noise * torch.randn(action.shape, generator=self.noise)
        return action.clamp(-1, 1).numpy()

    def q_values(self, critic: MLP, obs: Tensor, privileged: Tensor, action: Tensor) -> Tensor:
        """Both critics (2, B), on what critics are allowed to see."""
        state = privileged if self.config.privileged else obs[:, : self.actor_dim]
        return critic(torch.cat([state, action], dim=1)).squeeze(-1)

    def update_critic(self, batch: Batch) -> dict[str, Tensor]:
        """One step of both critics and of their targets. The target action comes from the noisy observation of the actor."""
        config = self.config
        with torch.no_grad():
            noise = config.target_noise * torch.randn(batch.action.shape, generator=self.noise)
            next_action = smoothed(self.policy(self.target_actor, batch.next_obs), noise, config.target_noise_clip)
            next_q = self.q_values(self.target_critic, batch.next_obs, batch.next_privileged, next_action)
            y = td3_target(batch.reward, batch.terminated, next_q, config.gamma)
        q = self.q_values(self.critic, batch.obs, batch.privileged, batch.action)
        loss = critic_loss(q, y)
        self.critic_optimiser.zero_grad()
        loss.backward()
        self.critic_optimiser.step()
        polyak(self.target_critic, self.critic, config.tau)
        return {"q": q.detach().mean(), "critic_loss": loss.detach()}

    def update_actor(self, batch: Batch) -> None:
        """One step up the first critic, eq. (10), and of the target actor."""
        action = self.policy(self.actor, batch.obs)
        loss = -self.q_values(self.critic, batch.obs, batch.privileged, action)[0].mean()
        self.actor_optimiser.zero_grad()
        loss.backward(inputs=self.actor_params)
        self.actor_optimiser.step()
        polyak(self.target_actor, self.actor, self.config.tau)

    def learn(self, steps: int) -> Iterator[dict[str, float]]:
        """Train for `steps` environment steps (rounded up to a multiple of the number of environments).

        Yields a dict about every 1,000 steps with "step", "progress" and the means of the updates' numbers; every
        `eval_every` steps also what `evaluate` measures.
        """
        config = self.config
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        N, weights, seen = config.n_envs, REWARD_START if config.curriculum else REWARD_TARGET, []
        envs = Quadrotor(N, Params() if config.lag else Params(lag=0.0), weights=weights)
        buffer = Replay(-(-steps // N) * N)
        obs, _ = envs.reset(seed=env_seed(config.seed))
        yield {"step": 0, "progress": 0.0, **self.evaluate()}

        for step in range(N, steps + N, N):
            privileged, action = envs.privileged(), self.act(obs)
            next_obs, reward, terminated, truncated, info = envs.step(action)
            after, after_privileged, ended = next_obs, envs.privileged(), terminated | truncated
            if ended.any():
                after = np.where(ended[:, None], info["final_obs"], next_obs)
                after_privileged = np.where(ended[:, None], info["final_privileged"], after_privileged)
            buffer.add(obs, action, privileged, after, after_privileged, reward, terminated)  # truncated: only a reset
            obs = next_obs

            for tick in range((step - N) // config.steps_per_update + 1, step // config.steps_per_update + 1):
                now = tick * config.steps_per_update
                if now > config.warmup_critic:
                    seen.append(self.update_critic(buffer.sample(config.batch_size, self.draws)))
                if now > config.warmup_actor and tick % config.actor_every == 0:
                    self.update_actor(buffer.sample(config.batch_size, self.draws))

            def passed(every: int, step: int = step) -> bool:
                return step // every > (step - N) // every

            if config.curriculum and passed(config.curriculum_every):
                weights = tightened(weights)
                envs.set_weights(weights)
                if config.recompute:
                    buffer.recompute(weights)
            if passed(1_000) or step >= steps:
                log = {
                    "step": step,
                    "progress": min(1.0, step / steps),
                    "weight_position": weights[0],
                    **mean_logs(seen),
                }
                if passed(config.eval_every) or step >= steps:
                    log |= self.evaluate()
                yield log

    def evaluate(self, episodes: int | None = None, seed: int = 12_345) -> dict[str, float]:
        """`evaluate` of the policy without exploration noise, over fixed starts."""
        act = lambda obs: self.act(obs, deterministic=True)  # noqa: E731
        return evaluate(act, episodes or self.config.eval_episodes, seed)


def evaluate(act, episodes: int, seed: int = 12_345, **env) -> dict[str, float]:
    """One episode from each of `episodes` starts in the full environment: slow motors, noise, wind, target reward weights.

    Means: "length" in steps (500 is all), "return" (not discounted), "crashed" (share), and "distance" in m from the origin
    in the last second of the episodes that survive (NaN if none does, and then left out).
    """
    envs = Quadrotor(episodes, copy=False, **env)
    obs, _ = envs.reset(seed=seed)
    length, total, alive = np.zeros(episodes), np.zeros(episodes), np.ones(episodes, bool)
    distances = []
    for t in range(envs.horizon):
        if t >= envs.horizon - 100:
            distances.append(np.sqrt((envs.x[:3] ** 2).sum(axis=0)))
        obs, reward, terminated, truncated, _ = envs.step(act(obs))
        length += alive
        total += alive * reward
        lost = alive & terminated
        alive &= ~(terminated | truncated)
        if not alive.any():
            break
    survived = length == envs.horizon
    survived &= ~lost
    found = {"length": length.mean(), "return": total.mean(), "crashed": 1 - survived.mean()}
    if survived.any():
        found["distance"] = np.mean(distances, axis=0)[survived].mean()
    return {name: float(value) for name, value in found.items()}
