"""Sampling from a GPT, one token at a time, with a cache of keys and values."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from minirl.lm.gpt import GPT, Cache
from minirl.lm.tok import EOS, PAD


@dataclass(frozen=True)
class Sample:
    """Answers of a model. B rows, T columns (the longest answer)."""

    tokens: Tensor  # (B, T) int64: up to and with <eos>, then <pad>
    mask: Tensor  # (B, T) float: 1 at the tokens of the answer, <eos> included
    logp: Tensor  # (B, T) log-probability of each token under the model itself, at temperature 1; 0 where mask is 0
    logp_sampling: (
        Tensor  # (B, T) the same under the distribution that was sampled (temperature, top_k, top_p, allowed)
    )
    finished: Tensor  # (B,) bool: the answer ended with <eos> before the limit

    @property
    def lengths(self) -> Tensor:
        """(B,) number of tokens of each answer."""
        return self.mask.sum(1).long()


def sample(
    model: GPT,
    prompt: Tensor,
    n_pad: Tensor | None = None,
    *,
    max_new: int,
    generator: torch.Generator | None = None,
    n_per_prompt: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    forced: Tensor | None = None,
    allowed: Callable[[Tensor], Tensor] | None = None,
) -> Sample:
    """Answers of at most `max_new` tokens to prompts (P, Tp), left-padded by n_pad (P,); B = P * n_per_prompt rows.

    The answers to one prompt are neighbours. temperature 0 takes the most probable token. top_k, top_p: keep only the k
    most probable tokens, or the fewest whose probabilities reach p. forced (B, F) int64: the first tokens of each answer
    are given, -1 where the model chooses. allowed(tokens so far (B, t)) -> bool (B, V): tokens that may come next.
    Raises ValueError when prompt and answer do not fit into the context, or a setting is out of range.
    """
    if prompt.shape[0] == 0 or prompt.shape[1] == 0:
        raise ValueError(f"need at least one prompt of at least one token, got shape {tuple(prompt.shape)}")
    if max_new < 1 or n_per_prompt < 1:
        raise ValueError(f"max_new and n_per_prompt must be at least 1, got {max_new} and {n_per_prompt}")
    if prompt.shape[1] + max_new > model.config.context:
        raise ValueError(
            f"a prompt of {prompt.shape[1]} tokens and an answer of {max_new} do not fit into the context of {model.config.context}"
        )
    if temperature < 0 or (top_p is not None and not 0 < top_p <= 1) or (top_k is not None and top_k < 1):
        raise ValueError(f"need temperature >= 0, top_k >= 1, 0 < top_p <= 1; got {temperature}, {top_k}, {top_p}")
    if n_pad is not None and not n_pad.any():
        n_pad = None
    plain = temperature == 1 and top_k is None and top_p is None and allowed is None
    with torch.inference_mode():
        cache = Cache(model, prompt.shape[0], prompt.shape[1] + max_new)
        logits = model(prompt, n_pad, cache)[0][:, -1]
        if n_per_prompt > 1:  # the prompt is read once, and its cache copied
            logits = logits.repeat_interleave(n_per_prompt, 0)
            cache.kv = cache.kv.repeat_interleave(n_per_prompt, 2)
            n_pad = None if n_pad is None else n_pad.repeat_interleave(n_per_prompt, 0)
        tokens = torch.full((len(logits), max_new), PAD)
        alive = torch.ones(len(logits), dtype=torch.bool)
        model_logits, drawn_from = [], []
        for t in range(max_new):
            model_logits.append(logits)
            if not plain:
                logits = narrowed(logits, tokens[:, :t], temperature, top_k, top_p, allowed)
                drawn_from.append(logits)
            token = draw(logits, generator) if temperature > 0 else logits.argmax(-1)
            if forced is not None and t < forced.shape[1]:
                token = torch.where(forced[:, t] >= 0, forced[:, t], token)
            tokens[:, t] = token
            alive &= token != EOS
            if t + 1 == max_new or not alive.any():
                break
            logits = model(tokens[:, t : t + 1], n_pad, cache)[0][:, 0]
        tokens = tokens[:, : t + 1]
        ends = (tokens == EOS).long()
        mask = (ends.cumsum(1) == ends).to(logits.dtype)  # up to and with the first <eos>
        logp = chosen(model_logits, tokens) * mask
        logp_sampling = logp if plain else chosen(drawn_from, tokens).nan_to_num(neginf=0.0) * mask
        tokens = tokens.masked_fill(mask == 0, PAD)
    # Clones, because autograd refuses tensors that were made in inference mode.
    return Sample(*(x.clone() for x in (tokens, mask, logp, logp_sampling, ~alive)))


def draw(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """One token (B,) from each row of logits (B, V): where the cumulative probability passes a uniform number.

    In double precision, so that a token of probability 0 is never drawn.
    """
    cumulative = logits.softmax(-1).double().cumsum(-1)
    u = torch.rand(len(logits), 1, generator=generator, dtype=torch.float64) * cumulative[:, -1:]
    return (cumulative <= u).sum(-1)


def chosen(logits: list[Tensor], tokens: Tensor) -> Tensor:
    """Log-probabilities (B, T) of tokens (B, T) under T logits (B, V)."""
    return torch.stack(logits, 1).log_softmax(-1).gather(2, tokens[:, :, None]).squeeze(-1)


def narrowed(logits: Tensor, so_far: Tensor, temperature: float, top_k, top_p, allowed) -> Tensor:
    """Logits (B, V) of the distribution that is really sampled; -inf for a token that is excluded."""
    if allowed is not None:
        permitted = allowed(so_far)
        if not permitted.any(-1).all():
            row = int((~permitted.any(-1)).nonzero()[0])
            raise ValueError(f"`allowed` permits no token in row {row} after {so_far.shape[1]} tokens")
        logits = logits.masked_fill(~permitted, -torch.inf)
    logits = logits / temperature if temperature > 0 else logits
    if top_k is not None and top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k, -1).values[:, -1:], -torch.inf)
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)  # probability of all tokens ahead
        logits = logits.masked_fill((before >= top_p).gather(-1, order.argsort(-1)), -torch.inf)
    return logits
