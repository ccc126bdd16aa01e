"""Supervised fine-tuning: raise the log-probability of given answers."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from minirl.lm.gpt import GPT
from minirl.lm.logp import score
from minirl.lm.rl_core import masked_mean
from minirl.lm.tok import BOS, EOS, left_pad, right_pad


def sft_loss(model: GPT, prompt: Tensor, n_pad: Tensor, answer: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy (nats a token) of the answers' tokens, <eos> included; prompts are not trained on."""
    return -masked_mean(score(model, prompt, n_pad, answer, mask).logp, mask)


def tensors(tokenizer, prompts: Sequence[str], answers: Sequence[str]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Texts -> prompt (B, Tp), n_pad (B,), answer (B, T), mask (B, T): <bos> before the prompt, <eos> after the answer."""
    prompt, n_pad = left_pad([[BOS, *tokenizer.encode(text)] for text in prompts])
    answer, mask = right_pad([[*tokenizer.encode(text), EOS] for text in answers])
    return prompt, n_pad, answer, mask


def sft(
    model: GPT,
    task,
    steps: int,
    *,
    batch: int = 64,
    lr: float = 2e-3,
    warmup: int = 50,
    seed: int = 0,
    prompts: Sequence | None = None,
    demonstrate: Callable[..., str] | None = None,
    log_every: int = 10,
) -> Iterator[dict]:
    """Train `model` on demonstrations: a generator of {"step", "progress", "loss"}.

    demonstrate(prompt, rng) -> answer; the task's reference answers by default. Fresh prompts of the training split in every step, or drawn from `prompts`. AdamW, linear warm-up, linear decay to
    a tenth, gradient norm at most 1.
    """
    demonstrate = demonstrate or task.reference
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    model.train()
    for step in range(steps):
        if prompts is None:
            chosen = task.sample_prompts(batch, rng, "train")
        else:
            chosen = [prompts[i] for i in rng.integers(len(prompts), size=batch)]
        loss = sft_loss(
            model, *tensors(task.tokenizer, [p.text for p in chosen], [demonstrate(p, rng) for p in chosen])
        )
        for group in optimiser.param_groups:
            group["lr"] = lr * min((step + 1) / max(warmup, 1), 1 - 0.9 * step / steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % log_every == 0 or step + 1 == steps:
            yield {"step": step + 1, "progress": (step + 1) / steps, "loss": loss.item()}
