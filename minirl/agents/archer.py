"""ArCHer, an actor-critic framework with a hierarchy: values of whole utterances, policy gradients of their tokens.

Zhou, Zanette, Pan, Levine, Kumar: "ArCHer: Training Language Model Agents via Hierarchical Multi-Turn RL", ICML 2024,
arXiv:2402.19446.

The idea. A dialogue is two decision processes at once. In the upper one an action is a whole utterance: its critic is
learned off-policy, by temporal differences from turn to turn, and replays old dialogues. In the lower one an action is
a token and a turn is an episode; its only reward is the upper critic's advantage of the finished utterance, and plain
policy gradient solves it. The actor speaks afresh at replayed states, so nothing corrects for what others said there.

Differs from the paper:
1. A GPT of 100,000 parameters plays twenty questions about a table; the paper's GPT-2 plays it against a T5 oracle.
2. The critic's encoder starts from the weights of the fine-tuned policy (the paper: from pretrained RoBERTa). Q reads
   an utterance as the end of its dialogue, not as a text of its own: so one pass of a causal encoder gives the codes of
   all turns of a dialogue, and a batch is of dialogues. The encoder takes smaller steps than the heads, which begin
   untrained: with equal steps it forgets what it knows before they can use it.
3. Batches are smaller and iterations fewer; the step size of the policy is larger.
4. A turn number is not part of the text; the replies tell how many turns are over.
5. The baseline of eq. (9) is a linear layer on the policy's hidden layer, fitted to each batch just before it is used on
   it. So it has seen the advantages that it is subtracted from; its 65 numbers can remember little of 256 of them.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minirl.agents import archer_start
from minirl.core.seeding import torch_generator
from minirl.lm.dialogues import Dialogue, converse, say, stream, summary
from minirl.lm.gpt import GPT, Head
from minirl.lm.logp import score
from minirl.lm.tasks.guess import Guess
from minirl.lm.tok import left_pad, right_pad

# Shapes: B turns, L tokens of an utterance, E dialogues, T tokens of a dialogue, H turns of a dialogue, D width.
# An utterance ends with <eos>. Pairs of numbers (2, B) belong to the heads 1 and 2.

ROWS = 64  # texts of like length that are read together, so that little of a batch is padding


@dataclass(frozen=True)
class Config:
    """Defaults are for twenty questions; comments give the paper's values where ours differ."""

    episodes: int = 64  # dialogues of a rollout, one rollout an iteration (128)
    gamma: float = 0.95  # discount a turn, in [0, 1]; tokens are not discounted
    tau: float = 0.1  # share of the online critic that the target takes over after each critic step
    buffer: int = 20_000  # turns that are kept (100,000)
    replay: bool = True  # False: forget everything before each rollout
    critic_steps: int = 40  # an iteration (50)
    critic_dialogues: int = 8  # dialogues of a critic step, with all their turns (256 turns)
    critic_lr: float = 1e-3  # Adam step size of the heads (2e-5)
    encoder_lr: float = 1e-4  # Adam step size of the encoder (2e-5)
    actor_steps: int = 8  # an iteration (3)
    actor_turns: int = 256  # turns of an actor step
    policy_lr: float = 1e-4  # Adam step size (1e-6)
    warmup: int = 5  # iterations in which only the critic learns (20)
    max_grad_norm: float = 1.0  # bound of the gradient norm
    token_baseline: bool = True  # subtract a baseline from the advantage at each token, eq. (9) (optional)
    baseline_steps: int = 20  # of the baseline, before each actor step
    seed: int = 0

    def __post_init__(self):
        for name in ("episodes", "buffer", "critic_steps", "critic_dialogues", "actor_turns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.actor_steps < 0 or self.warmup < 0:
            raise ValueError(f"actor_steps and warmup must not be negative: {self.actor_steps}, {self.warmup}")
        if not (0 <= self.gamma <= 1 and 0 < self.tau <= 1):
            raise ValueError(f"need 0 <= gamma <= 1 and 0 < tau <= 1, got {self.gamma} and {self.tau}")


# ------------------------------------------------------------------------------------------------ the replay


class Replay:
    """The last dialogues, at most `capacity` turns together; the oldest leave first."""

    def __init__(self, capacity: int):
        self.capacity, self.turns, self.dialogues = capacity, 0, []

    def add(self, dialogues: Sequence[Dialogue]) -> None:
        """Append finished dialogues. Raises ValueError for a reward that is not finite."""
        for dialogue in dialogues:
            if not all(map(math.isfinite, dialogue.rewards)):
                raise ValueError(f"a dialogue has the rewards {dialogue.rewards}")
            self.dialogues.append(dialogue)
            self.turns += len(dialogue.rewards)
        while self.turns > self.capacity and len(self.dialogues) > 1:
            self.turns -= len(self.dialogues.pop(0).rewards)

    def sample(self, n: int, rng: np.random.Generator) -> list[Dialogue]:
        """n dialogues, with replacement."""
        return [self.dialogues[i] for i in rng.integers(len(self.dialogues), size=n)]


# ------------------------------------------------------------------------------------------------ the losses


def q_target(reward: Tensor, terminated: Tensor, next_v: Tensor, gamma: float) -> Tensor:
    """r + gamma (1 - d) V_i(s') of the target critic, eq. (4): reward, terminated (B,), next_v (2, B) -> (2, B)."""
    return reward + gamma * (1 - terminated) * next_v


def critic_loss(q: Tensor, q_goal: Tensor, v: Tensor, v_goal: Tensor) -> Tensor:
    """Four mean squared errors, eqs. (4, 5); all (2, B): Q_i(s, a) to `q_target`, V_i(s) to the target Q_i(s, fresh a)."""
    return (q - q_goal.detach()).square().mean(1).sum() + (v - v_goal.detach()).square().mean(1).sum()


def advantage(q: Tensor, v: Tensor) -> Tensor:
    """min(Q_1, Q_2)(s, a) - min(V_1, V_2)(s) of the online critic, eq. (6): (2, B), (2, B) -> (B,), without gradient."""
    return (q.min(0).values - v.min(0).values).detach()


def actor_loss(logp: Tensor, mask: Tensor, adv: Tensor) -> Tensor:
    """-E[A sum_l log pi(a^l | s, a^<l)], eq. (7): logp, mask (B, L); adv (B,), or (B, L) after a token baseline."""
    adv = adv.detach()
    return -((adv if adv.dim() == 2 else adv[:, None]) * logp * mask).sum(1).mean()


def baseline_loss(baseline: Tensor, mask: Tensor, adv: Tensor) -> Tensor:
    """MSE of the token baseline b(s, a^<l) (B, L) to the advantage (B,) of the whole utterance, eq. (9)."""
    return ((baseline - adv.detach()[:, None]).square() * mask).sum() / mask.sum()


@torch.no_grad()
def polyak(target: nn.Module, online: nn.Module, tau: float) -> None:
    """target <- (1 - tau) target + tau online, in place."""
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.lerp_(new, tau)


# ------------------------------------------------------------------------------------------------ the critic


def mlp(inputs: int, D: int, generator: torch.Generator) -> nn.Sequential:
    """inputs -> D -> D -> 1 with ReLU; the last layer starts at 0."""
    net = nn.Sequential(nn.Linear(inputs, D), nn.ReLU(), nn.Linear(D, D), nn.ReLU(), nn.Linear(D, 1))
    for layer in net[::2]:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    nn.init.zeros_(net[-1].weight)
    return net


class Critic(nn.Module):
    """An encoder and four heads: V_1, V_2 on the code of a state, Q_1, Q_2 on it and on the code after an utterance."""

    def __init__(self, encoder: GPT, generator: torch.Generator):
        super().__init__()
        D = encoder.config.width
        self.encoder = copy.deepcopy(encoder)
        self.q_heads = nn.ModuleList(mlp(2 * D, D, generator) for _ in range(2))
        self.v_heads = nn.ModuleList(mlp(D, D, generator) for _ in range(2))

    def read(self, ids: Tensor, columns: Tensor) -> Tensor:
        """Codes (R, K, D) of texts ids (R, T), padded on the right, up to and with the columns (R, K)."""
        hidden = self.encoder(ids)[1]
        return hidden.gather(1, columns[..., None].expand(-1, -1, hidden.shape[-1]))

    def q(self, state: Tensor, said: Tensor) -> Tensor:
        """Q_i of the codes (..., D) before and after an utterance: (2, ...)."""
        both = torch.cat([state, said], -1)
        return torch.stack([head(both).squeeze(-1) for head in self.q_heads])

    def v(self, state: Tensor) -> Tensor:
        """V_i of codes (..., D): (2, ...)."""
        return torch.stack([head(state).squeeze(-1) for head in self.v_heads])


def codes(critic: Critic, states: Sequence[tuple[int, ...]], utterances: Sequence[tuple[int, ...]]) -> Tensor:
    """Codes (B, 2, D) of states and of the texts after the utterances (without <eos>). Rows of like length go together."""
    order = sorted(range(len(states)), key=lambda i: len(states[i]))
    found = []
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        ids, _ = right_pad([states[i] + utterances[i][:-1] for i in rows])
        columns = [[len(states[i]) - 1, len(states[i]) + len(utterances[i]) - 2] for i in rows]
        found.append(critic.read(ids, torch.tensor(columns)))
    return torch.cat(found)[torch.tensor(order).argsort()]


# ------------------------------------------------------------------------------------------------- the agent


class ArCHer(nn.Module):
    """A policy that learns to ask; `learn` trains it, `act` speaks. Without `task` and `policy` the shipped ones.

    warm: begin with the shipped critic, which knows the shipped policy; use it with `warmup` = 0.
    """

    def __init__(self, config: Config, task: Guess | None = None, policy: GPT | None = None, warm: bool = False):
        super().__init__()
        self.config, self.task = config, task or archer_start.TASK
        self.policy = copy.deepcopy(policy or archer_start.policy())
        self.critic = Critic(self.policy, torch_generator(config.seed, 0))
        if warm:
            self.critic.load_state_dict(archer_start.part("critic"))
        self.target = copy.deepcopy(self.critic)
        self.baseline = Head(self.policy.config.width)
        self.policy_optimiser = torch.optim.Adam(self.policy.parameters(), lr=config.policy_lr)
        self.baseline_optimiser = torch.optim.Adam(self.baseline.parameters(), lr=1e-2)
        encoder = {"params": list(self.critic.encoder.parameters()), "lr": config.encoder_lr}
        heads = {"params": [*self.critic.q_heads.parameters(), *self.critic.v_heads.parameters()]}
        self.critic_optimiser = torch.optim.Adam([encoder, heads], lr=config.critic_lr)
        self.replay = Replay(config.buffer)
        self.rng, self.draw = np.random.default_rng([config.seed, 2]), torch_generator(config.seed, 1)

    def act(self, states: Sequence[Sequence[int]], temperature: float = 1.0) -> list[tuple[int, ...]]:
        """An utterance for each state."""
        return say(self.policy, states, self.task, self.draw, temperature)

    def rollout(self) -> list[Dialogue]:
        """`episodes` new dialogues of the present policy."""
        plays = [self.task.reset(self.rng) for _ in range(self.config.episodes)]
        return converse(self.task, plays, self.act)

    def update_critic(self) -> float:
        """`critic_steps` steps; returns the mean loss. The policy stands still, so all it says is drawn beforehand."""
        config, losses = self.config, []
        batches = [self.replay.sample(config.critic_dialogues, self.rng) for _ in range(config.critic_steps)]
        # Each visit of a state has an utterance of its own: all dialogues begin alike, and V is a mean over the policy.
        fresh = iter(self.act([s for batch in batches for d in batch for s in d.states]))
        for batch in batches:
            losses.append(self.critic_step(batch, [next(fresh) for d in batch for _ in d.states]))
        return float(np.mean(losses))

    def critic_step(self, dialogues: Sequence[Dialogue], fresh: Sequence[tuple[int, ...]]) -> float:
        """One gradient step on eqs. (4, 5) and one of the target; `fresh` are B utterances of the present policy."""
        online, target, data = self.critic, self.target, stream(dialogues)
        real, states = data.real, [s for d in dialogues for s in d.states]
        with torch.no_grad():
            v_next = target.v(target.read(data.ids, data.ends))[:, :, 1:]  # the state after a turn is the next one
            q_goal = q_target(data.reward, data.terminated, F.pad(v_next, (0, 1))[:, real], self.config.gamma)
            v_goal = target.q(*codes(target, states, fresh).unbind(1))
        before, after = online.read(data.ids, torch.cat([data.ends, data.last], 1)).chunk(2, 1)
        loss = critic_loss(online.q(before[real], after[real]), q_goal, online.v(before[real]), v_goal)
        step(self.critic_optimiser, loss, online, self.config.max_grad_norm)
        polyak(target, online, self.config.tau)
        return loss.item()

    def update_actor(self) -> dict[str, float]:
        """`actor_steps` steps on eq. (7) at replayed states; returns means over the steps."""
        logs = []
        for _ in range(self.config.actor_steps):
            states = sorted(self.states(self.config.actor_turns), key=len)
            fresh = self.act(states)
            adv = weight = self.advantages(states, fresh)
            answer, mask = right_pad(fresh)
            parts = [slice(i, i + ROWS) for i in range(0, len(states), ROWS)]
            scores = [score(self.policy, *left_pad(states[i]), answer[i], mask[i]) for i in parts]
            logp = torch.cat([s.logp for s in scores])
            if self.config.token_baseline:
                hidden = torch.cat([s.hidden for s in scores]).detach()
                for _ in range(self.config.baseline_steps):
                    loss = baseline_loss(self.baseline(hidden), mask, adv)
                    step(self.baseline_optimiser, loss, self.baseline, math.inf)
                weight = adv[:, None] - self.baseline(hidden).detach()
            step(self.policy_optimiser, actor_loss(logp, mask, weight), self.policy, self.config.max_grad_norm)
            entropy = torch.cat([s.entropy for s in scores]).sum(1).mean().item()
            logs.append({"advantage": adv.mean().item(), "spread": adv.std().item(), "entropy": entropy})
        return {key: float(np.mean([log[key] for log in logs])) for key in logs[0]} if logs else {}

    def states(self, n: int) -> list[tuple[int, ...]]:
        """n states of the replay buffer, every turn as likely as the others."""
        states = [s for d in self.replay.dialogues for s in d.states]
        return [states[i] for i in self.rng.integers(len(states), size=n)]

    @torch.no_grad()
    def advantages(self, states: Sequence[tuple[int, ...]], utterances: Sequence[tuple[int, ...]]) -> Tensor:
        """Advantage (B,) of each utterance in its state, by the online critic."""
        before, after = codes(self.critic, states, utterances).unbind(1)
        return advantage(self.critic.q(before, after), self.critic.v(before))

    def learn(self, iterations: int = 30) -> Iterator[dict[str, float]]:
        """Rollout, critic, actor. Yields a dict an iteration: "step" (dialogues so far), "progress", the numbers of
        `summary` for the rollout that the update used, and those of the updates.
        """
        for i in range(iterations):
            data = self.rollout()
            if not self.config.replay:
                self.replay = Replay(self.config.buffer)
            self.replay.add(data)
            log = {"step": (i + 1) * self.config.episodes, "progress": (i + 1) / iterations, **summary(data)}
            log["critic_loss"] = self.update_critic()
            yield log | (self.update_actor() if i >= self.config.warmup else {})


def step(optimiser: torch.optim.Optimizer, loss: Tensor, module: nn.Module, max_norm: float) -> None:
    """One step of an optimiser, with a bound on the gradient norm."""
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), max_norm, error_if_nonfinite=True)
    optimiser.step()
