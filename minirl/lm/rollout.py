"""Rollouts: prompts, the policy's answers, and what the verifier says of them, as tensors for an update."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from minirl.lm.gpt import GPT
from minirl.lm.logp import score
from minirl.lm.sample import sample
from minirl.lm.tasks import Prompt, Result
from minirl.lm.tok import BOS, left_pad


@dataclass(frozen=True)
class Rollout:
    """B answers to P = B / K prompts; the K answers to one prompt are neighbours."""

    prompt: Tensor  # (B, Tp) left-padded
    n_pad: Tensor  # (B,)
    answer: Tensor  # (B, T)
    mask: Tensor  # (B, T)
    old_logp: Tensor  # (B, T) of the policy that sampled, recomputed by the training forward
    ref_logp: Tensor | None  # (B, T) of the reference model
    reward: Tensor  # (B,)
    group: Tensor  # (B,) index of the prompt
    results: tuple[Result, ...]  # B verdicts
    texts: tuple[str, ...]  # B answers
    K: int

    def rows(self, index: Tensor) -> "Rollout":
        """The rollout of these rows (M,). K stays; whoever needs whole groups must pick whole groups."""
        picked = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, value in picked.items():
            if isinstance(value, Tensor):
                picked[name] = value[index]
            elif isinstance(value, tuple):
                picked[name] = tuple(value[i] for i in index.tolist())
        return Rollout(**picked)


def encode_prompts(tokenizer, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    """Prompts -> ids (P, Tp) with <bos> in front and padding on the left, n_pad (P,)."""
    return left_pad([[BOS, *tokenizer.encode(p.text)] for p in prompts])


def rollout(
    policy: GPT,
    task,
    prompts: Sequence[Prompt],
    K: int,
    *,
    max_new: int,
    generator: torch.Generator,
    ref: GPT | None = None,
    temperature: float = 1.0,
    unfinished: float | None = 0.0,
) -> Rollout:
    """K answers to each prompt, verified. An answer that does not end within `max_new` tokens gets the reward
    `unfinished`; None has it verified as it stands.

    Raises ValueError for no prompts, and what `sample` raises.
    """
    if not prompts:
        raise ValueError("a rollout needs at least one prompt")
    ids, n_pad = encode_prompts(task.tokenizer, prompts)
    answers = sample(policy, ids, n_pad, max_new=max_new, n_per_prompt=K, temperature=temperature, generator=generator)
    ids, n_pad = ids.repeat_interleave(K, 0), n_pad.repeat_interleave(K, 0)
    texts = tuple(
        task.tokenizer.decode(row[:n], special=True)
        for row, n in zip(answers.tokens.tolist(), answers.lengths.tolist(), strict=True)
    )
    results = tuple(
        task.verify(prompts[i // K], text) if done or unfinished is None else Result(unfinished, info={"cut": True})
        for i, (text, done) in enumerate(zip(texts, answers.finished.tolist(), strict=True))
    )
    bad = next((i for i, r in enumerate(results) if not math.isfinite(r.reward)), None)
    if bad is not None:
        raise ValueError(f"the verifier gave answer {bad} ({texts[bad]!r}) the reward {results[bad].reward}")
    with torch.no_grad():
        old_logp = score(policy, ids, n_pad, answers.tokens, answers.mask).logp
        ref_logp = None if ref is None else score(ref, ids, n_pad, answers.tokens, answers.mask).logp
    return Rollout(
        ids,
        n_pad,
        answers.tokens,
        answers.mask,
        old_logp,
        ref_logp,
        torch.tensor([r.reward for r in results], dtype=old_logp.dtype),
        torch.arange(len(prompts)).repeat_interleave(K),
        results,
        texts,
        K,
    )


def minibatches(data: Rollout, size: int, generator: torch.Generator, groups: bool = False) -> Iterator[Rollout]:
    """The rows of a rollout once, in random order, `size` at a time. groups = True keeps the K answers together."""
    B = len(data.reward)
    if not groups:
        yield from (data.rows(index) for index in torch.randperm(B, generator=generator).split(size))
        return
    if size % data.K:
        raise ValueError(f"a mini-batch of {size} rows cannot hold whole groups of {data.K}")
    for chosen in torch.randperm(B // data.K, generator=generator).split(size // data.K):
        yield data.rows((chosen[:, None] * data.K + torch.arange(data.K)).reshape(-1))


def train(
    policy: GPT,
    task,
    update: Callable[[Rollout], dict],
    iterations: int,
    *,
    prompts_per_iteration: int = 32,
    K: int = 8,
    max_new: int = 24,
    ref: GPT | None = None,
    pool: Sequence[Prompt] | None = None,
    seed: int = 0,
) -> Iterator[dict]:
    """The outer loop of every method: sample, verify, update(rollout) -> dict of numbers, log.

    Prompts come from the training split, or from the fixed `pool`. Yields a flat dict an iteration: "step" and
    "progress", reward, length, KL to `ref` (nats an answer), tokens so far, share of distinct answers, and what `update` returned.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    tokens = 0
    for step in range(1, iterations + 1):
        if pool is None:
            prompts = task.sample_prompts(prompts_per_iteration, rng, "train")
        else:
            prompts = [pool[i] for i in rng.choice(len(pool), size=prompts_per_iteration, replace=False)]
        data = rollout(policy, task, prompts, K, max_new=max_new, generator=generator, ref=ref)
        tokens += int(data.mask.sum())
        log = {
            "step": step,
            "progress": step / iterations,
            "reward": data.reward.mean().item(),
            "length": data.mask.sum(1).mean().item(),
            "distinct": len(set(zip(data.group.tolist(), data.texts, strict=True))) / len(data.texts),
            "tokens": tokens,
        }
        if ref is not None:
            log["kl"] = (data.old_logp - data.ref_logp).sum(1).mean().item()
        yield log | update(data)


@torch.no_grad()
def accuracy(
    policy: GPT,
    task,
    prompts: Sequence[Prompt],
    *,
    max_new: int,
    temperature: float = 0.0,
    K: int = 1,
    seed: int = 0,
) -> float:
    """Mean reward of the policy's answers to these prompts, greedy by default."""
    if not prompts:
        raise ValueError("accuracy needs at least one prompt")
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for start in range(0, len(prompts), 128):
        part = list(prompts[start : start + 128])
        data = rollout(policy, task, part, K, max_new=max_new, generator=generator, temperature=temperature)
        total += data.reward.sum().item()
    return total / (len(prompts) * K)
