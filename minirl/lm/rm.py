"""Reward models: a GPT that reads a whole text and gives one number, trained on comparisons."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minirl.lm.gpt import GPT, GPTConfig, Head


class RewardModel(nn.Module):
    """Prompt and answer -> reward (B,), read at the answer's last token."""

    def __init__(self, config: GPTConfig, generator: torch.Generator):
        super().__init__()
        self.config = config
        self.gpt, self.head = GPT(config, generator), Head(config.width)

    def forward(self, prompt: Tensor, n_pad: Tensor | None, answer: Tensor, mask: Tensor) -> Tensor:
        """prompt (B, Tp), n_pad (B,), answer and mask (B, T) -> (B,). Padding after the answer changes nothing."""
        hidden = self.gpt(torch.cat([prompt, answer], 1), n_pad)[1]
        last = prompt.shape[1] - 1 + mask.sum(1).long()
        return self.head(hidden[torch.arange(len(hidden)), last])


def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log sigmoid(r_chosen - r_rejected), mean over pairs (B,)."""
    return -F.logsigmoid(chosen - rejected).mean()


def plackett_luce_loss(reward: Tensor) -> Tensor:
    """Negative log-likelihood of rankings; reward (B, K), best answer first. K = 2 is Bradley-Terry."""
    return (reward.flip(1).logcumsumexp(1).flip(1) - reward)[:, :-1].sum(1).mean()


def focal_ranking_loss(chosen: Tensor, rejected: Tensor, focus: float = 2.0) -> Tensor:
    """Bradley-Terry loss times (1 - p)^focus, p the probability of the label: easy pairs count less (Lin et al. 2017)."""
    difference = chosen - rejected
    easy = F.logsigmoid(-difference)  # log(1 - p), so that the power is an exponential and its gradient finite
    return -((focus * easy).exp() * F.logsigmoid(difference)).mean()


def corrupt(prefers_first: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Flip each label (B,) bool with probability `share`."""
    return prefers_first ^ (torch.rand(len(prefers_first), generator=generator) < share)


def calibration(difference: Tensor, label: Tensor, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean predicted probability, share of label 1, count) of each non-empty bin; difference r_1 - r_2 and label (B,)."""
    p = difference.sigmoid()
    which = (p * bins).long().clamp_max(bins - 1)
    return [
        (p[which == b].mean().item(), label[which == b].float().mean().item(), int((which == b).sum()))
        for b in range(bins)
        if (which == b).any()
    ]


class BowReward:
    """Ridge regression on word counts: the exact solution, and the simplest reward model that there is."""

    def __init__(self, vocab: int, ridge: float = 1.0):
        self.vocab, self.ridge = vocab, ridge
        self.weight, self.bias = torch.zeros(vocab, dtype=torch.float64), 0.0

    def counts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids, mask (B, T) -> counts (B, V)."""
        return torch.zeros(len(ids), self.vocab, dtype=torch.float64).scatter_add_(1, ids, mask.double())

    def fit(self, ids: Tensor, mask: Tensor, reward: Tensor) -> "BowReward":
        """Minimise sum (reward - prediction)^2 + ridge |weight|^2; the bias is not penalised."""
        X, y = self.counts(ids, mask), reward.double()
        centred = X - X.mean(0)
        gram = centred.T @ centred + self.ridge * torch.eye(self.vocab, dtype=torch.float64)
        self.weight = torch.linalg.solve(gram, centred.T @ (y - y.mean()))
        self.bias = float(y.mean() - X.mean(0) @ self.weight)
        return self

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Predicted reward (B,)."""
        return self.counts(ids, mask) @ self.weight + self.bias
