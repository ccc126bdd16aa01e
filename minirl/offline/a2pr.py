"""A2PR: pull the policy towards the better of two actions, the recorded one and one of a model of good actions, or not at all.

Liu, Li, Lan, Gao, Pan, Xu: "Adaptive Advantage-Guided Policy Regularization for Offline Reinforcement Learning",
ICML 2024, arXiv:2405.19909.

The idea. TD3+BC imitates every recorded action, the bad ones too. A2PR learns the value V of a state under the recorded actions
and calls an action good where its advantage Q - V is positive. A variational autoencoder (VAE) learns good actions only. At every
state the policy is pulled towards the recorded action or the VAE's, whichever has the larger advantage, and it is left alone
where neither is good.

Differs from the paper and its code:
1. The default data are a LineWorld's: hidden layers 64-64 and Adam 1e-3 everywhere, gamma 0.95 (authors: actor 256 x 3, critics
   and V 256 x 4, VAE 750 x 2, 3e-4 but 1e-3 for the VAE, gamma 0.99 or 0.995, a million steps on D4RL).
2. The chosen action is a constant, as the formula reads; in the code a gradient also flows through the VAE's action into the
   policy, which is `detach_target=False` here.
3. mask = 1 by default, as the authors use for two of their three environments (0.4 for Hopper, 0.5 in the code).
4. `teacher`, `gate` and `vae_data` switch the parts off one by one, down to TD3+BC and TD3: controls.
5. The VAE's latent noise comes from a generator of its own, so that arms with one seed see the same batches.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minirl.core.nets import MLP, polyak
from minirl.core.replay import Batch
from minirl.core.seeding import torch_generator
from minirl.data import OfflineData, load
from minirl.data.batches import learning, normaliser, performance, replay

# Shapes: B batch, O observation, A action, Z latent.


@dataclass(frozen=True)
class Config:
    """Defaults are for LineWorld; the authors' values where they differ."""

    dataset: str = "lineworld-mixed-30"  # a name of `python -m minirl.data`
    data_seed: int = 0  # seed of the data set
    alpha: float = 2.5  # weight of the value against the constraint, > 0 (authors 2.5, or 40 for HalfCheetah)
    mask: float = 1.0  # weight of the constraint where the gate is open, >= 0 (authors 1, Hopper 0.4)
    vae_weight: float = 1.0  # weight of the reconstruction against the KL term, > 0 (authors 1, Walker2d 1.5)
    teacher: str = "advantage"  # "advantage" (A2PR), "data" (always the recorded action), "vae" (always the VAE's)
    gate: str = "advantage"  # "advantage" (A2PR), "on" (always pull), "off" (TD3)
    vae_data: str = "positive"  # the VAE learns from transitions with "positive" advantage (A2PR) or from "all"
    detach_target: bool = True  # the chosen action is a constant; False: the authors' code
    hidden: tuple[int, ...] = (64, 64)  # widths of actor, critics and V (authors 256 x 3, 256 x 4, 256 x 4)
    vae_hidden: tuple[int, ...] = (64, 64)  # widths of encoder and decoder (authors 750, 750)
    latent: int = 0  # dimensions of z; 0 means twice those of the action, as the authors have it
    lr: float = 1e-3  # Adam step size of actor, critics and V (authors 3e-4)
    vae_lr: float = 1e-3  # Adam step size of the VAE
    gamma: float = 0.95  # discount, in [0, 1) (authors 0.99, Hopper 0.995)
    tau: float = 0.005  # Polyak step of the targets of actor and critics, in (0, 1]
    batch_size: int = 256  # transitions per update
    policy_delay: int = 2  # critic updates per actor and target update
    target_noise: float = 0.2  # standard deviation of the noise on the target action
    target_noise_clip: float = 0.5  # bound of that noise
    eval_every: int = 1_000  # updates between evaluations
    eval_episodes: int = 20  # episodes per evaluation
    seed: int = 0

    def __post_init__(self):
        choices = {"teacher": ("advantage", "data", "vae"), "gate": ("advantage", "on", "off")}
        for name, known in {**choices, "vae_data": ("positive", "all")}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("alpha", "vae_weight"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.mask < np.inf:
            raise ValueError(f"mask must be a number >= 0, got {self.mask}")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma must lie in [0, 1), got {self.gamma}")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau must lie in (0, 1], got {self.tau}")
        for name, least in (("latent", 0), ("batch_size", 1), ("policy_delay", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


# -------------------------------------------------------------------------------------------------------- networks


class Net(nn.Module):
    """An MLP of the concatenated inputs. One output is dropped from the shape: (B,), and (K, B) for a stack of K."""

    def __init__(self, sizes: tuple[int, ...], generator: torch.Generator, K: int | None = None):
        super().__init__()
        self.net, self.scalar = MLP(sizes, generator, K), sizes[-1] == 1

    def forward(self, *inputs: Tensor) -> Tensor:
        out = self.net(torch.cat(inputs, dim=1))
        return out.squeeze(-1) if self.scalar else out


class Actor(nn.Module):
    """obs (B, O) -> action (B, A) in [-1, 1], deterministic."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.net = MLP((obs_dim, *hidden, action_dim), generator)

    def forward(self, obs: Tensor) -> Tensor:
        return torch.tanh(self.net(obs))


class CVAE(nn.Module):
    """Conditional VAE of actions: q(z | s, a) is a Gaussian, and the decoder turns (s, z) into an action."""

    def __init__(self, obs_dim: int, action_dim: int, latent: int, hidden: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.latent = latent
        self.encoder = MLP((obs_dim + action_dim, *hidden, 2 * latent), generator)
        self.decoder = MLP((obs_dim + latent, *hidden, action_dim), generator)

    def encode(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation (B, Z) of z; the latter is kept in [-4, 15]."""
        mean, log_std = self.encoder(torch.cat([obs, action], dim=1)).chunk(2, dim=1)
        return mean, log_std.clamp(-4, 15)

    def decode(self, obs: Tensor, z: Tensor) -> Tensor:
        """obs (B, O), z (B, Z) -> action (B, A) in [-1, 1]."""
        return torch.tanh(self.decoder(torch.cat([obs, z], dim=1)))

    def forward(self, obs: Tensor, action: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. (8): z = mean + std noise with noise (B, Z) ~ N(0, 1). Returns the decoded action, mean and log std."""
        mean, log_std = self.encode(obs, action)
        return self.decode(obs, mean + log_std.exp() * noise), mean, log_std


# ------------------------------------------------------------------------------------------------------ the losses


def td3_target(reward: Tensor, terminated: Tensor, next_q: Tensor, gamma: float) -> Tensor:
    """y (B,) = r + gamma (1 - terminated) min_j Q_j(s', a'), eq. (1), with next_q (2, B). No gradient flows."""
    return (reward + gamma * (1 - terminated) * next_q.min(dim=0).values).detach()


def critic_loss(q: Tensor, y: Tensor) -> Tensor:
    """Scalar: the mean squared errors of both critics to the common target, summed. q (2, B), y (B,)."""
    return F.mse_loss(q, y.expand_as(q), reduction="sum") / y.shape[0]


def advantage_target(target_q: Tensor, online_q: Tensor, reward: Tensor, terminated: Tensor, gamma: float) -> Tensor:
    """t (B,), eq. (3): the smaller of the TD3 targets by target and by online critics, both (2, B) at (s', a').

    V regresses on it at the recorded s, and so becomes the value of one recorded action followed by the policy.
    """
    return torch.minimum(
        td3_target(reward, terminated, target_q, gamma), td3_target(reward, terminated, online_q, gamma)
    )


def gaussian_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """Scalar, eq. (9): KL(N(mean, std^2) || N(0, 1)), averaged over batch and latent dimensions. Both (B, Z)."""
    return -0.5 * (1 + 2 * log_std - mean.square() - (2 * log_std).exp()).mean()


def epbl_loss(
    recon: Tensor, action: Tensor, mean: Tensor, log_std: Tensor, advantage: Tensor, weight: float = 1.0
) -> Tensor:
    """Scalar, eq. (10): reconstruction where the advantage (B,) is positive, and the KL term everywhere.

    Means run over the whole batch and all dimensions: samples that are left out count in the denominator.
    """
    good = weight * (advantage > 0).float().unsqueeze(1)  # (B, 1), the same for all action dimensions
    return (good * (recon - action).square()).mean() + 0.5 * gaussian_kl(mean, log_std)


def choose_target(action: Tensor, vae_action: Tensor, adv_data: Tensor, adv_vae: Tensor) -> Tensor:
    """Eq. (11): for each sample the VAE's action (B, A) where its advantage (B,) is at least the recorded one's, else that one."""
    return torch.where((adv_vae >= adv_data).unsqueeze(1), vae_action, action)


def open_gate(adv_data: Tensor, adv_vae: Tensor) -> Tensor:
    """Eq. (12): bool (B,), true where the VAE's action or the recorded one is good. False: the policy is left alone."""
    return (adv_vae >= 0) | (adv_data > 0)


def value_loss(q: Tensor, alpha: float) -> Tensor:
    """Scalar, first part of eq. (13): -lambda mean Q_1(s, pi(s)), lambda = alpha / mean |Q_1|, a constant. q (B,)."""
    return -(alpha / q.detach().abs().mean().clamp_min(1e-8)) * q.mean()


def constraint_loss(action: Tensor, target: Tensor, gate: Tensor, mask: float) -> Tensor:
    """Scalar, second part of eq. (13): mask times the mean over batch and dimensions of gate (pi(s) - target)^2."""
    return mask * (gate.float().unsqueeze(1) * (action - target).square()).mean()


# --------------------------------------------------------------------------------------------------------- the agent


class A2PR(nn.Module):
    """Actor, twin critics, their targets, V, VAE and the data; `learn` trains, `act` acts. `data` None loads the Config's."""

    def __init__(self, config: Config, data: OfflineData | None = None):
        super().__init__()
        self.config, self.data = config, load(config.dataset, config.data_seed) if data is None else data
        obs_dim, action_dim = self.data.observations.shape[1], self.data.actions.shape[1]
        self.mean, self.std = normaliser(self.data)
        self.buffer = replay(self.data, self.mean, self.std)
        streams = (torch_generator(config.seed, stream) for stream in range(5))
        init, self.noise, self.draw, more, self.latent_noise = streams
        self.actor = Actor(obs_dim, action_dim, config.hidden, init)
        self.critic = Net((obs_dim + action_dim, *config.hidden, 1), init, K=2)
        self.value = Net((obs_dim, *config.hidden, 1), more)
        self.vae = CVAE(obs_dim, action_dim, config.latent or 2 * action_dim, config.vae_hidden, more)
        self.target_actor = deepcopy(self.actor).requires_grad_(False)
        self.target_critic = deepcopy(self.critic).requires_grad_(False)
        self.actor_params = list(self.actor.parameters())
        self.actor_optimiser = torch.optim.Adam(self.actor_params, config.lr, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), config.lr, fused=True)
        groups = ((self.value, config.lr), (self.vae, config.vae_lr))
        groups = [{"params": list(net.parameters()), "lr": lr} for net, lr in groups]
        self.advice_optimiser = torch.optim.Adam(groups, fused=True)
        self.advises = config.gate != "off" and (config.teacher, config.gate) != ("data", "on")
        self.updates = 0

    def normal(self, obs: np.ndarray) -> Tensor:
        """Observations (N, O) of the environment as the networks see them."""
        return torch.as_tensor((obs - self.mean) / self.std, dtype=torch.float32)

    @torch.no_grad()
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Actions (N, A) in [-1, 1] for observations (N, O) as the environment gives them; they are normalised here."""
        return self.actor(self.normal(obs)).numpy()

    @torch.no_grad()
    def imagine(self, obs: np.ndarray, seed: int = 0) -> np.ndarray:
        """Actions (N, A) decoded from the prior, z ~ N(0, 1) clipped to +-0.5: what the VAE takes for good actions."""
        z = torch.randn(len(obs), self.vae.latent, generator=torch_generator(seed)).clamp(-0.5, 0.5)
        return self.vae.decode(self.normal(obs), z).numpy()

    def reconstruct(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The VAE's version (B, A) of normalised obs and action, with mean and log std of z."""
        return self.vae(obs, action, torch.randn(len(obs), self.vae.latent, generator=self.latent_noise))

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Critics, V, VAE and, every `policy_delay`-th time, actor and targets, in this order. Returns scalars, detached."""
        config = self.config
        with torch.no_grad():
            noise = config.target_noise * torch.randn(batch.action.shape, generator=self.noise)
            noise = noise.clamp(-config.target_noise_clip, config.target_noise_clip)
            next_action = (self.target_actor(batch.next_obs) + noise).clamp(-1, 1)
            target_q = self.target_critic(batch.next_obs, next_action)
        q = self.critic(batch.obs, batch.action)
        loss = critic_loss(q, td3_target(batch.reward, batch.terminated, target_q, config.gamma))
        step(self.critic_optimiser, loss)
        log = {"critic_loss": loss.detach(), "q_data": q.detach()[0].mean()}
        if self.advises:
            v, adv_data, meters = self.advise(batch, next_action, target_q)
            log |= meters

        self.updates += 1
        if self.updates % config.policy_delay == 0:
            action = self.actor(batch.obs)
            q = self.critic(batch.obs, action)[0]
            loss = value_loss(q, config.alpha)
            log["q"] = q.detach().mean()
            if self.advises:
                target, gate, meters = self.teach(batch, action, v, adv_data)
                log |= meters
            else:  # TD3+BC and TD3 ask nobody
                target, gate = batch.action, torch.full_like(batch.reward, config.gate == "on")
            pull = constraint_loss(action, target, gate, config.mask)
            log["pull"] = pull.detach()
            self.actor_optimiser.zero_grad()
            (loss + pull).backward(inputs=self.actor_params)  # through critic and VAE; their weights get no gradient
            self.actor_optimiser.step()
            polyak(self.target_actor, self.actor, config.tau)
            polyak(self.target_critic, self.critic, config.tau)
        return log

    def advise(self, batch: Batch, next_action: Tensor, target_q: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """One step of V and one of the VAE, with the critics as they are now, and all targets constants.

        Returns V(s) (B,) as it was before its step, the advantage (B,) of the recorded action, and what to log.
        """
        config = self.config
        with torch.no_grad():
            online_q = self.critic(batch.next_obs, next_action)
            t = advantage_target(target_q, online_q, batch.reward, batch.terminated, config.gamma)
            q_data = self.critic(batch.obs, batch.action)[0]
        v = self.value(batch.obs)
        value_error = F.mse_loss(v, t)
        adv_data = q_data - v.detach()
        recon, mean, log_std = self.reconstruct(batch.obs, batch.action)
        learn_from = adv_data if config.vae_data == "positive" else torch.ones_like(adv_data)
        vae_error = epbl_loss(recon, batch.action, mean, log_std, learn_from, config.vae_weight)
        step(self.advice_optimiser, value_error + vae_error)  # they share no weight, so this is a step of each
        meters = {"v_loss": value_error.detach(), "vae_loss": vae_error.detach()}
        return v.detach(), adv_data, {**meters, "positive": (adv_data > 0).float().mean()}

    def teach(
        self, batch: Batch, action: Tensor, v: Tensor, adv_data: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Target (B, A) and gate (B,) for the policy's actions (B, A), and their shares. v, adv_data (B,), constants."""
        vae_action, _, _ = self.reconstruct(batch.obs, action)
        with torch.no_grad():
            adv_vae = self.critic(batch.obs, vae_action)[0] - v
        if self.config.detach_target:
            vae_action = vae_action.detach()
        forced = {"data": batch.action, "vae": vae_action}
        target = forced.get(self.config.teacher, choose_target(batch.action, vae_action, adv_data, adv_vae))
        gate = torch.ones(len(v), dtype=torch.bool) if self.config.gate == "on" else open_gate(adv_data, adv_vae)
        meters = {"gate": gate.float().mean(), "vae_teacher": (adv_vae >= adv_data).float().mean()}
        return target, gate, meters

    def learn(self, steps: int = 6_000) -> Iterator[dict[str, float]]:
        """Make `steps` updates from the data; the dicts are those of `minirl.data.batches.learning`, with means over the
        updates in which the actor moved."""
        return learning(self, steps, self.config.policy_delay)

    def evaluate(self) -> dict[str, float]:
        """Mean return over fixed starts, and its normalised score."""
        return performance(self)


def step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of gradient descent on the loss."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
