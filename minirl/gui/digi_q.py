"""Digi-Q: learn the value of every tap from recorded episodes, then imitate the best of several taps of the policy.

Bai, Zhou, Li, Levine, Kumar: "Digi-Q: Learning Q-Value Functions for Training Device-Control Agents", ICLR 2025,
arXiv:2502.15760.

The idea. Episodes on a device are slow, so all learning is from a recording. First a network learns which actions change
the screen, a label that every recording holds for free; then it is frozen, and one vector f(s, a) is kept for each
screen and action. Small heads on top learn the value of the recording policy mu by temporal differences. Last, N actions
are drawn from mu at each recorded screen, ranked by the heads, and the best is imitated if it is better than mu by theta.

Differs from the paper:
1. A convolutional network on 60 x 40 pixels (`minirl.envs.phone_vision`) stands for the 7-billion-parameter vision-language model. It
   is trained to reconstruct what it sees first (our "generic" features), then to tell actions with an effect. As in the paper,
   the policy's image encoder stays frozen; the heads see two frames as mu sees them, in the light of the goal.
   A vision-language model comes with knowledge of which words and pictures belong together; ours has none. So next to f(s, a) the
   heads read what the frozen network of mu computes for an action before its last layer, which knows the goal.
2. A tap is not drawn into the picture, where it would hide what it hits: the network reads its own map at the place of the tap.
3. Actions are one of 61 numbers, so log pi(a|s) has a single term; small embeddings stand for the text encoders.
4. N candidates are drawn once a screen, the logged action first; the authors keep 64 and use 16 of them at a time.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minirl.core.nets import MLP, polyak
from minirl.core.rollout import mean_logs
from minirl.core.seeding import torch_generator
from minirl.envs import phone_agents
from minirl.envs.phone import ACTIONS, BACK, TYPE
from minirl.envs.phone_agents import Episodes, GoalWords, PhonePolicy, embedding
from minirl.envs.phone_vision import ScreenActionNet, kind, reconstruction_loss

# Shapes: n transitions of the data, B batch, N candidate actions of a screen, D width of f(s, a).

EXTRACTIONS = ("best_of_n", "awr", "pg", "filtered_bc", "sft")
FEATURES = ("effect", "generic", "random")


@dataclass(frozen=True)
class Config:
    """Defaults learn from 200 episodes of the base agent; comments give the authors' values."""

    episodes: int = 200  # of the base agent, recorded when no data are given (1,296)
    features: str = "effect"  # f(s, a): fine-tuned on effects (Digi-Q), "generic" (reconstruction only) or "random"
    effect_threshold: float = 1.0  # mean squared pixel difference above which a screen has changed (30, other pictures)
    width: int = 128  # D (4,096)
    policy_features: bool = True  # do the heads also see what the frozen mu computes for an action? (no)
    pretrain_steps: int = 200  # updates of the reconstruction
    effect_steps: int = 200  # updates on effects (2 epochs)
    target: str = "td"  # "td", eq. (3), or "mc": regression on the discounted return
    backup: str = "logged"  # the action of V's target: "logged", or "policy", one of the candidates
    gamma: float = 0.95  # discount per action, in [0, 1]
    tau: float = 0.1  # Polyak step of the targets, in (0, 1]
    sync_every: int = 4  # critic updates between Polyak steps (one pass over 4 mini-batches)
    hidden: tuple[int, ...] = (128, 128)  # of the heads (5 and 4 layers)
    extraction: str = "best_of_n"  # or "awr", "pg", "filtered_bc" (successful episodes), "sft" (all of them)
    n: int = 4  # N, candidates of a screen, the logged action among them (16)
    temperature: float = 1.0  # at which candidates are drawn from mu, > 0 (1.2)
    theta: float = 0.02  # advantage that an imitated action must exceed (0.05 and 0.10)
    awr_beta: float = 0.05  # temperature of advantage-weighted regression, > 0 (0.01)
    awr_clip: bool = True  # clip the advantage to [0, 1] there, as the authors do; False: bad actions count less than 1
    weight_cap: float = 100.0  # largest weight of advantage-weighted regression (none)
    pg_scale: float = 5.0  # factor of the clipped advantage with "pg"
    actor_steps: int = 400  # updates of the policy
    critic_lr: float = 1e-3  # AdamW (1e-5)
    weight_decay: float = 0.5  # of the heads (0.01)
    actor_lr: float = 3e-4  # Adam (1e-4)
    feature_lr: float = 1e-3  # Adam (2e-5)
    batch_size: int = 64  # transitions per update (32)
    max_grad_norm: float = 1.0  # of critic and actor (0.01)
    seed: int = 0

    @property
    def feature_steps(self) -> int:
        """Updates of f(s, a)."""
        steps = {"random": 0, "generic": self.pretrain_steps, "effect": self.pretrain_steps + self.effect_steps}
        return steps[self.features]

    def __post_init__(self):
        choices = {"features": FEATURES, "extraction": EXTRACTIONS}
        choices |= {"target": ("td", "mc"), "backup": ("logged", "policy")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        low = dict.fromkeys(("episodes", "width", "sync_every", "n", "batch_size"), 1) | {"weight_decay": 0.0}
        low |= dict.fromkeys(("temperature", "awr_beta", "weight_cap", "tau"), 1e-9) | {"gamma": 0.0, "theta": -np.inf}
        for name, least in low.items():
            most = 1 if name in ("gamma", "tau") else np.inf
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie between {least:g} and {most:g}, got {getattr(self, name)}")


# ------------------------------------------------------------------------------------------- what an action does


def effect_labels(frames: np.ndarray, next_frames: np.ndarray, threshold: float) -> np.ndarray:
    """(B,) float32, eq. (1): 1 where the mean squared difference of two pictures (B, H, W, 3) uint8 exceeds the threshold."""
    change = (next_frames.astype(np.float32) - frames.astype(np.float32)) ** 2  # bytes would wrap around
    return (change.mean(axis=(1, 2, 3)) > threshold).astype(np.float32)


def effect_loss(net: ScreenActionNet, pixels: Tensor, action: Tensor, label: Tensor) -> Tensor:
    """Scalar, eq. (2): binary cross-entropy of "did the screen change?", label (B,)."""
    logit = net.effect(net(*net.look(pixels), action[:, None])[:, 0])[:, 0]
    return F.binary_cross_entropy_with_logits(logit, label)


# ---------------------------------------------------------------------------------------------- values from data


class Heads(nn.Module):
    """Q_1, Q_2 on (goal, previous action, two frames, action, f(s, a)); V_1, V_2 on the same without the action."""

    def __init__(self, frames: int, width: int, hidden: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.goal, self.before, self.kinds = GoalWords(32), embedding(ACTIONS + 1, 16), embedding(8, 16)
        self.q_net = MLP((32 + 16 + frames + 16 + width, *hidden, 1), generator, K=2)
        self.v_net = MLP((32 + 16 + frames, *hidden, 1), generator, K=2)
        for table in (self.goal.table, self.before, self.kinds):
            nn.init.normal_(table.weight, std=0.3, generator=generator)

    def state(self, words: Tensor, before: Tensor, frames: Tensor) -> Tensor:
        """(B, ...): words (B, 16) of the goal, the action before (B,), frozen features of two frames."""
        return torch.cat([self.goal(words), self.before(before), frames], dim=1)

    def q(self, state: Tensor, action: Tensor, f: Tensor) -> Tensor:
        """(2, B) for actions (B,) with vectors f (B, D)."""
        return self.q_net(torch.cat([state, self.kinds(kind(action)), f], dim=1)).squeeze(-1)

    def v(self, state: Tensor) -> Tensor:  # (2, B)
        return self.v_net(state).squeeze(-1)


def td_targets(r: Tensor, d: Tensor, vbar_next: Tensor, qbar_sa: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Eq. (3): targets (2, B) of Q, r + gamma (1 - d) Vbar_i(s'), and of V, Qbar_i(s, a). No gradient flows.

    r, d (B,): reward, end of the episode. vbar_next, qbar_sa (2, B): target networks, head by head. The two names are easily
    crossed: Q learns from the next V, V learns from Q. Their fixed point is the value of mu, not of a greedy policy.
    """
    return (r + gamma * (1 - d) * vbar_next).detach(), qbar_sa.detach()


def critic_loss(q: Tensor, v: Tensor, y_q: Tensor, y_v: Tensor) -> Tensor:
    """Scalar, eq. (4): squared errors of both heads of Q and of V, (2, B) each, mean over the batch, summed over the four."""
    return ((q - y_q) ** 2 + (v - y_v) ** 2).sum(0).mean()


# --------------------------------------------------------------------------------------------- Best-of-N extraction


def advantages(q: Tensor, v: Tensor) -> Tensor:
    """A (B, N), eq. (5): the larger of the two Q (2, B, N) less the larger of the two V (2, B)."""
    return q.max(dim=0).values - v.max(dim=0).values[:, None]


def best_of_n_pick(q: Tensor, v: Tensor, valid: Tensor, theta: float) -> tuple[Tensor, Tensor]:
    """Eq. (6): which of the N candidates is the best (B,), and whether it is imitated (B,) bool: A > theta.

    q (2, B, N), v (2, B), valid (B, N) bool; a candidate that cannot be said has A = 0 and is never imitated.
    """
    A = torch.where(valid, advantages(q, v), 0.0)
    best, index = A.max(dim=1)
    return index, (best > theta) & valid.gather(1, index[:, None])[:, 0]


def weighted_imitation_loss(logp: Tensor, weight: Tensor) -> Tensor:
    """Scalar, eq. (7): -mean(weight log pi(a|s)), both (B,). States of weight 0 count in the mean."""
    return -(weight * logp).mean()


# ------------------------------------------------------------------------------------------------------- the agent


class DigiQ(nn.Module):
    """Features, heads and policy; `learn` trains all three from the data and never steps an environment.

    data None records `config.episodes` episodes of the base agent. `policy`: mu, an encoder and a head (`PhonePolicy`).
    """

    def __init__(self, config: Config, data: Episodes | None = None, policy: PhonePolicy | None = None):
        super().__init__()
        self.config, self.mu = config, deepcopy(policy or phone_agents.base_agent()).requires_grad_(False)
        if data is None:
            goals = phone_agents.goals_of("train", config.episodes, config.seed)
            data = phone_agents.roll_out(phone_agents.network_actor(self.mu), goals, config.seed)
        if config.extraction == "filtered_bc" and not data.success.any():
            raise ValueError("filtered behaviour cloning needs a successful episode; the data hold none")
        self.data, (init, self.draw, noise) = data, (torch_generator(config.seed, stream) for stream in range(3))
        self.policy = deepcopy(self.mu)
        self.policy.head.requires_grad_(True)
        self.net = ScreenActionNet(config.width, init)
        self.heads = self.new_heads(init)
        self.target_heads = deepcopy(self.heads).requires_grad_(False)

        self.frames, self.frame = torch.as_tensor(data.frames), torch.as_tensor(data.frame)
        self.words, self.action, self.reward = map(torch.as_tensor, (data.words, data.action, data.reward))
        self.done, self.next_frame = torch.as_tensor(data.done).float(), torch.as_tensor(data.next_frame)
        first = torch.as_tensor(data.t == 0)
        self.before = torch.where(first, ACTIONS, self.action.roll(1))  # ACTIONS: there was none
        previous = torch.arange(len(data)) - (~first).long()  # the row before, or the same at the start
        with torch.no_grad():  # mu is frozen: cells (M, 54, C) of each frame, and what it makes of two frames (n, 192)
            self.cells = torch.cat([self.mu.encoder(part).half() for part in self.frames.split(256)])
            look = lambda i: self.mu.head.context(self.cells[i].float(), self.words)  # noqa: E731
            seen, then = look(self.frame), look(self.next_frame)
            self.pair, self.next_pair = torch.cat([seen[previous], seen], dim=1), torch.cat([seen, then], dim=1)
        self.valid = torch.ones(len(data), ACTIONS, dtype=torch.bool)
        self.valid[:, TYPE:BACK] = torch.arange(BACK - TYPE) < torch.as_tensor(data.slots)[:, None]
        self.candidates = self.draw_candidates(noise)

    def new_heads(self, generator: torch.Generator) -> Heads:
        """Untrained heads of the sizes that fit."""
        more = self.mu.head.features_width if self.config.policy_features else 0
        return Heads(2 * self.mu.head.context_width, self.config.width + more, self.config.hidden, generator)

    def vectors(self, net: ScreenActionNet, rows: Tensor, action: Tensor) -> Tensor:
        """What the heads see of the actions (B, N) at some rows (B,): f(s, a) of `net`, and of mu what is frozen, (B, N, D + 97)."""
        f, frame = net(*net.look(self.frames[self.frame[rows]]), action), self.frame[rows]
        if not self.config.policy_features:
            return f
        with torch.no_grad():
            return torch.cat([f, self.mu.head.features(self.cells[frame].float(), self.words[rows], action)], dim=2)

    @torch.no_grad()
    def draw_candidates(self, generator: torch.Generator) -> Tensor:
        """(n, N) actions of mu at the temperature of the config at each recorded screen; the first is the logged one."""
        pairs = zip(self.frame.split(512), self.words.split(512), strict=True)
        logits = torch.cat([self.mu.head(self.cells[i].float(), words) for i, words in pairs])
        logits /= self.config.temperature
        candidates = torch.multinomial(logits.softmax(1), self.config.n, replacement=True, generator=generator)
        candidates[:, 0] = self.action
        return candidates

    @torch.no_grad()
    def act(self, pixels: np.ndarray, words: np.ndarray) -> np.ndarray:
        """The likeliest actions (B,) for pictures (B, 60, 40, 3) and words (B, 16)."""
        return self.policy(pixels, words).argmax(1).numpy()

    def sample_rows(self) -> Tensor:  # (B,) of the data
        return torch.randint(len(self.data), (self.config.batch_size,), generator=self.draw)

    def learn_features(self) -> Iterator[dict[str, Tensor]]:
        """Train f(s, a): reconstruction, then effects, as `config.features` says; then freeze it and keep f (n, N, D)."""
        config, data = self.config, self.data
        pictures = data.frames[data.frame], data.frames[data.next_frame]
        label = torch.as_tensor(effect_labels(*pictures, config.effect_threshold))
        optimiser = torch.optim.Adam(self.net.parameters(), config.feature_lr, fused=True)
        for i in range(config.feature_steps):
            rows = self.sample_rows()
            pixels, action = self.frames[self.frame[rows]], self.action[rows]
            if i < config.pretrain_steps:
                name, loss = "reconstruction_loss", reconstruction_loss(self.net, pixels, action)
            else:
                name, loss = "effect_loss", effect_loss(self.net, pixels, action, label[rows])
            descend(optimiser, loss, config.max_grad_norm)
            yield {name: loss.detach()}
        self.freeze_features()

    @torch.no_grad()
    def freeze_features(self) -> None:
        """Keep the vectors (n, N, D + 97) of all candidates, in half precision; the network is not used after this."""
        parts = torch.arange(len(self.data)).split(256)
        self.f = torch.cat([self.vectors(self.net, rows, self.candidates[rows]).half() for rows in parts])

    def states(self, heads: Heads, rows: Tensor, after: bool = False) -> Tensor:
        """What the heads see of the states of some rows, or of the states that follow them."""
        pair, before = (self.next_pair, self.action) if after else (self.pair, self.before)
        return heads.state(self.words[rows], before[rows], pair[rows])

    def learn_values(self, steps: int) -> Iterator[dict[str, Tensor]]:
        """Train the heads on eqs. (3) and (4), f frozen."""
        config = self.config
        optimiser = torch.optim.AdamW(
            self.heads.parameters(), config.critic_lr, weight_decay=config.weight_decay, fused=True
        )
        yield from (self.update_critic(optimiser, (i + 1) % self.config.sync_every == 0) for i in range(steps))

    def update_critic(self, optimiser: torch.optim.Optimizer, sync: bool) -> dict[str, Tensor]:
        """One step on eq. (4), and a Polyak step of the targets if `sync`."""
        config, rows = self.config, self.sample_rows()
        pick = torch.randint(config.n if config.backup == "policy" else 1, (len(rows),), generator=self.draw)
        with torch.no_grad():
            if config.target == "td":
                vbar = self.target_heads.v(self.states(self.target_heads, rows, after=True))
                state, f = self.states(self.target_heads, rows), self.f[rows, pick].float()
                qbar = self.target_heads.q(state, self.candidates[rows, pick], f)
                y_q, y_v = td_targets(self.reward[rows], self.done[rows], vbar, qbar, config.gamma)
            else:
                y_q = y_v = torch.as_tensor(self.data.mc_return(config.gamma))[rows].expand(2, -1)
        state = self.states(self.heads, rows)
        q, v = self.heads.q(state, self.action[rows], self.f[rows, 0].float()), self.heads.v(state)
        loss = critic_loss(q, v, y_q, y_v)
        descend(optimiser, loss, config.max_grad_norm)
        if sync:
            polyak(self.target_heads, self.heads, config.tau)
        return {"critic_loss": loss.detach(), "q": q.detach().mean(), "v": v.detach().mean()}

    @torch.no_grad()
    def values(self) -> tuple[Tensor, Tensor]:
        """Q (2, n, N) of all candidates and V (2, n), of the trained heads."""
        q, v = [], []
        for rows in torch.arange(len(self.data)).split(1_024):
            state = self.states(self.heads, rows)
            v.append(self.heads.v(state))
            wide = state.repeat_interleave(self.config.n, dim=0)
            flat = self.heads.q(wide, self.candidates[rows].flatten(), self.f[rows].float().flatten(0, 1))
            q.append(flat.unflatten(1, (len(rows), self.config.n)))
        return torch.cat(q, dim=1), torch.cat(v, dim=1)

    def teach(self) -> tuple[Tensor, Tensor]:
        """The action (n,) to imitate at each recorded screen, and its weight (n,)."""
        config = self.config
        if config.extraction == "sft":
            return self.action, torch.ones_like(self.reward)
        if config.extraction == "filtered_bc":
            return self.action, torch.as_tensor(self.data.success[self.data.traj], dtype=torch.float32)
        q, v = self.values()
        if config.extraction == "best_of_n":
            index, imitate = best_of_n_pick(q, v, self.valid.gather(1, self.candidates), config.theta)
            return self.candidates.gather(1, index[:, None])[:, 0], imitate.float()
        clipped = advantages(q, v)[:, 0].clamp(0, 1)  # of the logged action
        if config.extraction == "pg":
            return self.action, config.pg_scale * clipped
        A = clipped if config.awr_clip else advantages(q, v)[:, 0]
        return self.action, (A / config.awr_beta).exp().clamp_max(config.weight_cap)

    def learn_policy(self) -> Iterator[dict[str, Tensor]]:
        """Train the head of the policy on eq. (7), the critic frozen; its encoder stays that of mu."""
        target, weight = self.teach()
        optimiser = torch.optim.Adam(self.policy.head.parameters(), self.config.actor_lr, fused=True)
        yield from (self.update_actor(optimiser, target, weight) for _ in range(self.config.actor_steps))

    def update_actor(self, optimiser: torch.optim.Optimizer, target: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """One step on eq. (7)."""
        rows = self.sample_rows()
        kept = rows[weight[rows] > 0]
        if not (share := len(kept) / len(rows)):
            return {"imitated": torch.tensor(0.0), "actor_loss": torch.tensor(0.0)}
        logp = self.policy.head(self.cells[self.frame[kept]].float(), self.words[kept]).log_softmax(1)
        logp = logp.gather(1, target[kept, None])[:, 0]
        loss = weighted_imitation_loss(logp, weight[kept]) * share  # the other states count as zeros
        descend(optimiser, loss, self.config.max_grad_norm)
        return {"imitated": torch.tensor(share), "actor_loss": loss.detach()}

    def learn(self, steps: int = 1_000) -> Iterator[dict[str, float]]:
        """Features, heads for `steps` updates, policy (phases 0, 1, 2): every 50 updates their losses, "step" and "progress"."""
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        phases = [(0, self.learn_features()), (1, self.learn_values(steps)), (2, self.learn_policy())]
        total = self.config.feature_steps + steps + self.config.actor_steps
        if self.config.extraction in ("filtered_bc", "sft"):
            phases, total = phases[2:], self.config.actor_steps  # no need of values
        step, seen = 0, []
        for phase, log in ((phase, log) for phase, logs in phases for log in logs):
            step += 1
            seen = [*seen, log] if seen and seen[0].keys() == log.keys() else [log]
            if len(seen) == 50 or step == total:
                yield {"step": step, "progress": step / total, "phase": phase, **mean_logs(seen)}


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, norm: float) -> None:
    """One step on the loss, its gradient clipped to `norm`."""
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], norm)
    optimiser.step()
