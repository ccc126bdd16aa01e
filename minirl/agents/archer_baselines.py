"""What ArCHer is compared with, from the same fine-tuned policy, game and episodes.

PPO         token-level: a dialogue is one long episode of tokens (Schulman et al. 2017, arXiv:1707.06347), with a value
            network that is fitted before the policy moves and a KL penalty to the fine-tuned policy
FilteredBC  online filtered behaviour cloning: fine-tuning on the best tenth of all dialogues so far
CHAI        ArCHer's critic for a policy that never changes; of five utterances it says the one with the greatest
            min(Q_1, Q_2) of the target critic (Verma et al. 2022, arXiv:2204.08426, as in the authors' code of ArCHer)
Reinforce   the return of the whole dialogue, less the mean of the rollout, on every token
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from minirl.agents.archer import ArCHer, Config, codes, step
from minirl.core.seeding import torch_generator
from minirl.lm.dialogues import Dialogue, Stream, converse, say, stream, summary, token_logp
from minirl.lm.gpt import GPT, Head
from minirl.lm.rl_core import gae, masked_mean, ppo_clip, whiten
from minirl.lm.tasks.guess import Guess


def packed(data: Stream, x: Tensor) -> Tensor:
    """(E, T) -> (E, N): the tokens of the utterances of each dialogue one after the other, 0 after the last."""
    return torch.nn.utils.rnn.pad_sequence(
        [row[m] for row, m in zip(x, data.mask.bool(), strict=True)], batch_first=True
    )


def unpacked(data: Stream, x: Tensor) -> Tensor:
    """(E, N) -> (E, T): the inverse."""
    out = torch.zeros_like(data.mask)
    for row, m, values in zip(out, data.mask.bool(), x, strict=True):
        row[m] = values[: int(m.sum())]
    return out


def token_rewards(data: Stream) -> Tensor:
    """(E, T): the reward of each turn at the last token of its utterance, 0 elsewhere."""
    reward = torch.zeros_like(data.mask)
    reward[data.real.nonzero()[:, 0], data.last[data.real]] = data.reward
    return reward


@dataclass(frozen=True)
class PPOConfig:
    """Token-level PPO."""

    episodes: int = 64  # dialogues an iteration
    policy_lr: float = 3e-4  # Adam step size
    value_lr: float = 1e-3  # Adam step size of the value network
    lam: float = 0.95  # lambda of the advantage estimates, per token; rewards are not discounted
    clip: float = 0.2  # bound of the ratio
    kl: float = 0.05  # weight of the KL penalty to the fine-tuned policy, per token
    epochs: int = 3  # passes over a rollout
    minibatch: int = 16  # dialogues of a gradient step
    prefit: int = 5  # iterations in which only the value network learns
    max_grad_norm: float = 1.0
    seed: int = 0


class PPO:
    """A policy and a value of every token; `learn` trains both."""

    def __init__(self, config: PPOConfig, task: Guess, policy: GPT):
        self.config, self.task = config, task
        self.ref, self.policy, self.value = policy, copy.deepcopy(policy), copy.deepcopy(policy)
        self.head = Head(policy.config.width)
        self.policy_optimiser = torch.optim.Adam(self.policy.parameters(), lr=config.policy_lr)
        self.value_optimiser = torch.optim.Adam([*self.value.parameters(), *self.head.parameters()], lr=config.value_lr)
        self.rng, self.draw = np.random.default_rng([config.seed, 2]), torch_generator(config.seed, 1)

    def act(self, states: Sequence[Sequence[int]], temperature: float = 1.0) -> list[tuple[int, ...]]:
        """An utterance for each state."""
        return say(self.policy, states, self.task, self.draw, temperature)

    def rollout(self) -> list[Dialogue]:
        """`episodes` new dialogues."""
        return converse(self.task, [self.task.reset(self.rng) for _ in range(self.config.episodes)], self.act)

    @torch.no_grad()
    def targets(self, dialogues: Sequence[Dialogue]) -> tuple[Tensor, Tensor, Tensor, float]:
        """Log-probabilities, advantages and value targets (E, T) of all tokens, and the mean KL to the reference."""
        data = stream(dialogues)
        old, mask = token_logp(self.policy, data)[0], data.mask
        kl = old - token_logp(self.ref, data)[0]
        value = self.head(self.value(data.ids)[1])
        reward = token_rewards(data) - self.config.kl * kl
        # A dialogue is one long episode: its utterances stand one after the other.
        there = packed(data, mask)
        rows = gae(packed(data, reward), packed(data, value * mask), there, 1.0, self.config.lam)
        adv, goal = (unpacked(data, row) for row in rows)
        return old, whiten(adv, mask), goal, masked_mean(kl, mask).item()

    def update(self, dialogues: Sequence[Dialogue], fit_policy: bool) -> dict[str, float]:
        """`epochs` passes; returns the KL to the reference (nats a token) and the mean losses."""
        config = self.config
        old, adv, goal, kl = self.targets(dialogues)
        losses, clipped = [], []
        for _ in range(config.epochs):
            for rows in torch.randperm(len(dialogues), generator=self.draw).split(config.minibatch):
                part = stream([dialogues[i] for i in rows])
                T, mask = part.ids.shape[1], part.mask
                value = self.head(self.value(part.ids)[1])
                loss = 0.5 * masked_mean((value - goal[rows, :T]).square(), mask)
                step(self.value_optimiser, loss, self.value, config.max_grad_norm)
                losses.append(loss.item())
                if fit_policy:
                    logp = token_logp(self.policy, part)[0]
                    bounds = (config.clip, config.clip, "token-mean")
                    loss, share = ppo_clip(logp, old[rows, :T], adv[rows, :T], mask, *bounds)
                    step(self.policy_optimiser, loss, self.policy, config.max_grad_norm)
                    clipped.append(share.item())
        log = {"kl": kl, "value_loss": float(np.mean(losses))}
        return log | ({"clipped": float(np.mean(clipped))} if clipped else {})

    def learn(self, iterations: int = 30) -> Iterator[dict[str, float]]:
        """Rollout, update: a dict an iteration, with the keys of `ArCHer.learn` that apply."""
        for i in range(iterations):
            data = self.rollout()
            log = {"step": (i + 1) * self.config.episodes, "progress": (i + 1) / iterations, **summary(data)}
            yield log | self.update(data, i >= self.config.prefit)


class FilteredBC:
    """Fine-tuning on the best dialogues so far: those whose return is in the top `share` of all of them."""

    def __init__(self, config: Config, task: Guess, policy: GPT, share: float = 0.1, steps: int = 10):
        self.config, self.task, self.share, self.steps = config, task, share, steps
        self.policy = copy.deepcopy(policy)
        self.optimiser = torch.optim.Adam(self.policy.parameters(), lr=config.policy_lr)
        self.seen: list[Dialogue] = []
        self.rng, self.draw = np.random.default_rng([config.seed, 2]), torch_generator(config.seed, 1)

    act, rollout = PPO.act, PPO.rollout

    def learn(self, iterations: int = 30) -> Iterator[dict[str, float]]:
        """Rollout, then `steps` steps of 32 good dialogues."""
        for i in range(iterations):
            data = self.rollout()
            self.seen += data
            bar = np.quantile([d.score for d in self.seen], 1 - self.share)
            good = [d for d in self.seen if d.score >= bar]
            losses = []
            for _ in range(self.steps):
                part = stream([good[i] for i in self.rng.integers(len(good), size=32)])
                loss = -masked_mean(token_logp(self.policy, part)[0], part.mask)
                step(self.optimiser, loss, self.policy, self.config.max_grad_norm)
                losses.append(loss.item())
            log = {"step": (i + 1) * self.config.episodes, "progress": (i + 1) / iterations, **summary(data)}
            yield log | {"loss": float(np.mean(losses))}


class CHAI(ArCHer):
    """ArCHer's critic with a frozen policy, and the best of `n` utterances by the target critic."""

    def __init__(self, config: Config, task: Guess, policy: GPT, n: int = 5):
        super().__init__(replace(config, actor_steps=0), task, policy)
        self.n = n

    @torch.no_grad()
    def best(self, states: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The utterance of greatest min(Q_1, Q_2) among n of the policy, for each state."""
        states = [s for s in states for _ in range(self.n)]
        options = self.act(states)
        q = self.target.q(*codes(self.target, states, options).unbind(1)).min(0).values.view(-1, self.n)
        return [options[i * self.n + j] for i, j in enumerate(q.argmax(1).tolist())]

    def rollout(self) -> list[Dialogue]:
        """`episodes` new dialogues of the best utterances; the first time, when the critic knows nothing, of any."""
        choose = self.best if self.replay.dialogues else self.act
        return converse(self.task, [self.task.reset(self.rng) for _ in range(self.config.episodes)], choose)


class Reinforce(PPO):
    """The policy gradient with the return of the dialogue: one step a rollout on its own tokens."""

    def learn(self, iterations: int = 30) -> Iterator[dict[str, float]]:
        """Rollout, one gradient step."""
        for i in range(iterations):
            data = self.rollout()
            returns = torch.tensor([d.score for d in data])
            loss = -((returns - returns.mean()) * token_logp(self.policy, stream(data))[0].sum(1)).mean()
            step(self.policy_optimiser, loss, self.policy, self.config.max_grad_norm)
            yield {"step": (i + 1) * self.config.episodes, "progress": (i + 1) / iterations, **summary(data)}
