"""Log-probabilities of given answers, by one forward pass over prompt and answer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minirl.lm.gpt import GPT


@dataclass(frozen=True)
class Scores:
    """What one forward pass says about answers (B, T). Everything is 0 where the mask is 0, except logits and hidden."""

    logp: Tensor  # (B, T) log-probability of each token
    logits: Tensor  # (B, T, V) of the distribution that each token was drawn from
    hidden: Tensor  # (B, T, D) of the position before each token: what a value head reads
    mask: Tensor  # (B, T)

    @property
    def sequence(self) -> Tensor:
        """(B,) log-probability of the whole answer."""
        return self.logp.sum(1)

    @property
    def entropy(self) -> Tensor:
        """(B, T) entropy in nats of the distribution that each token was drawn from."""
        logp = self.logits.log_softmax(-1)
        return -(logp.exp() * logp).sum(-1) * self.mask


def score(model: GPT, prompt: Tensor, n_pad: Tensor | None, answer: Tensor, mask: Tensor) -> Scores:
    """Scores of answers (B, T) with mask (B, T) after left-padded prompts (B, Tp), n_pad (B,) or None.

    Raises ValueError when the rows do not match or do not fit into the context.
    """
    if not len(prompt) == len(answer) == len(mask) or answer.shape != mask.shape:
        raise ValueError(
            f"prompt {tuple(prompt.shape)}, answer {tuple(answer.shape)} and mask {tuple(mask.shape)} do not match"
        )
    # The last token is never an input: nothing comes after it.
    logits, hidden = model(torch.cat([prompt, answer[:, :-1]], 1), n_pad)
    first = prompt.shape[1] - 1
    logits, hidden = logits[:, first:], hidden[:, first:]
    logp = torch.gather(logits.log_softmax(-1), 2, answer[:, :, None]).squeeze(-1)
    return Scores(logp * mask, logits, hidden, mask)


def token_logp(model: GPT, prompt: Tensor, n_pad: Tensor | None, answer: Tensor, mask: Tensor) -> Tensor:
    """(B, T) log-probability of each token of the answers."""
    return score(model, prompt, n_pad, answer, mask).logp


def top_tokens(scores: Scores, row: int, tokenizer, k: int = 5) -> list[list[tuple[str, float]]]:
    """For each token of one answer: the k most probable symbols there with their probabilities, for a table."""
    found = []
    for t in range(int(scores.mask[row].sum())):
        p = scores.logits[row, t].detach().softmax(-1)
        values, ids = p.topk(min(k, len(p)))
        found.append([(tokenizer.symbols[int(i)], float(v)) for v, i in zip(values, ids, strict=True)])
    return found
