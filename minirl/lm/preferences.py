"""Comparisons of two answers by a Bradley-Terry teacher, and a reward model trained on them.

The teacher knows the verifier's reward and prefers answer 1 with probability sigmoid(sharpness (r_1 - r_2)). What it
says is all that the reward model sees; nothing in it fixes a term of the reward that depends on the prompt alone.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from minirl.core.seeding import torch_generator
from minirl.lm import shipped
from minirl.lm.gpt import GPT
from minirl.lm.rm import RewardModel, bradley_terry_loss
from minirl.lm.rollout import Rollout, rollout

SHARPNESS = 4.0  # of the teacher: a lead of 0.25 is preferred with probability 0.73


def label(data: Rollout, sharpness: float, generator: torch.Generator) -> Rollout:
    """The same pairs (K = 2) with reward 1 for the answer that the teacher prefers and 0 for the other.

    Only the difference data.reward[0::2] - data.reward[1::2] counts.
    """
    if data.K != 2:
        raise ValueError(f"the teacher compares two answers to a prompt, got K = {data.K}")
    pair = data.reward.view(-1, 2)
    p = (sharpness * (pair[:, 0] - pair[:, 1])).sigmoid()
    first = (torch.rand(len(p), generator=generator, dtype=torch.float64) < p).to(data.reward.dtype)
    return dataclasses.replace(data, reward=torch.stack([first, 1 - first], 1).reshape(-1))


def comparisons(
    policy: GPT, task, batches: int, *, pairs: int = 64, sharpness: float = SHARPNESS, seed: int = 0
) -> list[Rollout]:
    """`batches` rollouts of `pairs` training prompts with two answers of `policy` each, labelled by the teacher.

    An answer that was cut off is judged as it stands. ref_logp is the policy's own log-probability.
    """
    rng, draws, coin = np.random.default_rng([seed, 0]), torch_generator(seed, 1), torch_generator(seed, 2)
    found = []
    for _ in range(batches):
        asked = task.sample_prompts(pairs, rng, "train")
        data = rollout(policy, task, asked, 2, max_new=task.max_new, generator=draws, unfinished=None)
        found.append(label(dataclasses.replace(data, ref_logp=data.old_logp), sharpness, coin))
    return found


def chosen_rejected(value: Tensor, data: Rollout) -> tuple[Tensor, Tensor]:
    """Values (B,) of labelled answers -> those of the preferred (B / 2,) and of the other (B / 2,) of each pair."""
    value, winner = value.view(-1, 2), data.reward.view(-1, 2).argmax(1, keepdim=True)
    return value.gather(1, winner)[:, 0], value.gather(1, 1 - winner)[:, 0]


def fit(
    model: RewardModel,
    data: Sequence[Rollout],
    *,
    epochs: int = 2,
    lr: float = 1e-3,
    sharpness: float = SHARPNESS,
    seed: int = 0,
) -> Iterator[dict]:
    """Train a reward model on labelled comparisons; its reward is then in the teacher's units.

    A generator of {"step", "progress", "loss", "accuracy"}, one a batch. AdamW, linear decay to a tenth, gradient norm
    at most 1. Accuracy: share of pairs where the preferred answer has the larger reward, before the step.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    order, steps, step = torch_generator(seed, 0), epochs * len(data), 0
    for _ in range(epochs):
        for i in torch.randperm(len(data), generator=order).tolist():
            part = data[i]
            chosen, rejected = chosen_rejected(model(part.prompt, part.n_pad, part.answer, part.mask), part)
            loss = bradley_terry_loss(sharpness * chosen, sharpness * rejected)
            for group in optimiser.param_groups:
                group["lr"] = lr * (1 - 0.9 * step / steps)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
            right = (chosen > rejected).float().mean().item()
            yield {"step": step, "progress": step / steps, "loss": loss.item(), "accuracy": right}


def reward_model(policy: GPT, data: Sequence[Rollout], **options) -> RewardModel:
    """A frozen reward model that starts as the policy with a head of zeros; options as in `fit`."""
    model = RewardModel(policy.config, torch_generator(0, 0))
    model.gpt.load_state_dict(policy.state_dict())
    for _ in fit(model, data, **options):
        pass
    return model.requires_grad_(False)


@cache
def shipped_comparisons(checkpoint: str) -> list[Rollout]:
    """The 4,096 comparisons of answers of a shipped model that stand for the preference data of a paper."""
    return comparisons(shipped.load(checkpoint), shipped.RECIPES[checkpoint].task, 64)


@cache
def shipped_reward_model(checkpoint: str) -> RewardModel:
    """The reward model trained on them: always the same one, made at the first call in a process."""
    return reward_model(shipped.load(checkpoint), shipped_comparisons(checkpoint))
