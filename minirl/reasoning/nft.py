"""Negative-aware fine-tuning (NFT): learn from wrong answers by maximum likelihood, without an advantage.

Chen, Zheng, Zhang, Cui, Cui, Ye, Lin, Liu, Zhu, Wang: "Bridging Supervised Learning and Reinforcement Learning in Math
Reasoning", 2025, arXiv:2505.18116.

The idea. A verifier splits the old policy exactly into the policy of its right answers and the policy of its wrong ones.
If the first is the network that we train, then the second is known too: it is what remains of the old policy. So wrong
answers have a likelihood under the network of the right ones, and raising it is supervised learning. Nobody postulates
a reward or an advantage; that the gradient on fresh answers is nevertheless that of GRPO comes out at the end.

Differs from the paper:
1. A model of 160,000 parameters adds numbers; the paper's have 7 and 32 billion and solve competition problems.
2. Token losses are summed over an answer and divided by the number of answers in the mini-batch; the authors divide by
   the constant 1000, which their optimiser (Adam after a gradient clip) all but ignores.
3. Prompts come from a fixed pool, and when too few of them have mixed answers, the iteration goes on with those it has
   after `draws` draws.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from minirl.lm import shipped
from minirl.lm.logp import score
from minirl.lm.rl_core import aggregate
from minirl.lm.rollout import Rollout, accuracy, minibatches, rollout

# Shapes: B answers, T tokens, K answers to a prompt (neighbours). mask (B, T) is 1 at the tokens of an answer.


@dataclass(frozen=True)
class Config:
    """Defaults train the shipped model on additions; comments give the paper's values where ours differ."""

    checkpoint: str = "chain-S"  # shipped model and task to begin with
    prompts: int = 32  # prompts an iteration (512)
    answers: int = 16  # K, answers to each prompt
    updates: int = 4  # gradient steps an iteration, each on its share of the answers (16)
    pool: int = 512  # training prompts in all; they come again and again
    draws: int = 4  # draw at most this many times for prompts with right AND wrong answers (10)
    lr: float = 1e-4  # AdamW step size, falling linearly to a tenth (1e-6, constant)
    eps: float = 1.0  # floor of the likelihood ratio of a wrong token, eq. (6)
    omega: str = "gap"  # weight of a prompt: "one", "gap" 1 - r, or "std" sqrt((1 - r) / r), eq. (7)
    neg_weight: float = 1.0  # weight of the wrong answers; 0 leaves rejection-sampling fine-tuning (RFT)
    iterations: int = 200  # over which the step size falls
    eval_every: int = 10  # iterations between evaluations
    eval_prompts: int = 256  # test prompts of an evaluation
    seed: int = 0

    def __post_init__(self):
        if self.omega not in ("one", "gap", "std"):
            raise ValueError(f'omega must be "one", "gap" or "std", got {self.omega!r}')
        if self.answers < 2:
            raise ValueError(f"answers must be at least 2, got {self.answers}: one answer is never both right and wrong")
        if self.prompts % self.updates or self.prompts < 1:
            raise ValueError(f"prompts ({self.prompts}) must be a multiple of updates ({self.updates})")
        if self.pool < self.prompts:
            raise ValueError(f"pool ({self.pool}) must hold at least the {self.prompts} prompts of an iteration")
        if not 0 < self.eps <= 1 or self.neg_weight < 0:
            raise ValueError(f"need 0 < eps <= 1 and neg_weight >= 0, got {self.eps} and {self.neg_weight}")


# ------------------------------------------------------------------------------------------------ the split


def split(p_old: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Policies of the right and of the wrong answers, and the success rate, of enumerated answers. Eq. (1).

    p_old (..., n) probabilities, right (..., n) probability that the verifier accepts -> pi_plus, pi_minus (..., n),
    r (..., 1). Bayes' rule; r pi_plus + (1 - r) pi_minus is p_old again.
    """
    r = (p_old * right).sum(-1, keepdim=True)
    return p_old * right / r, p_old * (1 - right) / (1 - r), r


def implicit_negative(p_old: Tensor, p_plus: Tensor, r: Tensor) -> Tensor:
    """Policy of the wrong answers that p_plus implies, eq. (2): (p_old - r p_plus) / (1 - r). May be negative."""
    return (p_old - r * p_plus) / (1 - r)


# ------------------------------------------------------------------------------------------------- the loss


def max_v(x: Tensor, eps: float) -> Tensor:
    """max(x, eps) by value, with the gradient of x everywhere ("straight through"), eq. (6)."""
    return x + (x.clamp_min(eps) - x).detach()


def success_rate(reward: Tensor, K: int) -> tuple[Tensor, Tensor]:
    """r (B,): the share of right answers among the K to the same prompt; keep (B,) bool: some are right and some wrong."""
    r = reward.view(-1, K).mean(1).repeat_interleave(K)
    return r, (r > 0) & (r < 1)


def prompt_weight(r: Tensor, omega: str) -> Tensor:
    """omega(q) (B,), eq. (7), for success rates r strictly between 0 and 1."""
    return {"one": torch.ones_like(r), "gap": 1 - r, "std": ((1 - r) / r).sqrt()}[omega]


def nft_loss(
    logp: Tensor,
    old_logp: Tensor,
    reward: Tensor,
    r: Tensor,
    mask: Tensor,
    eps: float = 1.0,
    omega: str = "gap",
    neg_weight: float = 1.0,
) -> Tensor:
    """The token-level loss to minimise, eq. (5), averaged over answers.

    logp, old_logp, mask (B, T); reward (B,) is 1 or 0, r (B,) the success rate of the prompt, 0 < r < 1. The log-ratio
    is cut at 10 before the exponential and r is kept in [0.02, 0.98], as in the authors' code.
    """
    r = r.clamp(0.02, 0.98)[:, None]
    log_ratio = (logp - old_logp).clamp_max(10.0)
    wrong = max_v((1 - r * log_ratio.exp()) / (1 - r), eps).log()  # of the implicit negative policy over the old one
    gain = torch.where(reward[:, None] == 1, log_ratio, neg_weight * wrong)
    return aggregate(-prompt_weight(r, omega) * gain, mask, "sum")


def token_weights(ratio: Tensor, r: float, eps: float, omega: str = "one") -> tuple[Tensor, Tensor]:
    """What multiplies the gradient of R in eq. (5) at a token of a right and of a wrong answer, for ratios R, eq. (8)."""
    w = float(prompt_weight(torch.tensor(r), omega))
    return w / ratio, -w * r / (1 - r) / ((1 - r * ratio) / (1 - r)).clamp_min(eps)


# ------------------------------------------------------------------------------------------------- the agent


class NFT(nn.Module):
    """A policy that improves on a verifiable task; `learn` trains it, `act` answers prompts."""

    def __init__(self, config: Config):
        super().__init__()
        self.config, self.task = config, shipped.task(config.checkpoint)
        self.policy = shipped.load(config.checkpoint)
        self.ref = deepcopy(self.policy).requires_grad_(False)  # for measuring how far training has gone
        self.optimiser = torch.optim.AdamW(self.policy.parameters(), lr=config.lr, weight_decay=0.0)
        self.rng, self.draw = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
        self.pool = self.task.sample_prompts(config.pool, np.random.default_rng([7, config.seed]), "train")
        self.test = self.task.sample_prompts(config.eval_prompts, np.random.default_rng(7), "test")

    def act(self, prompts: list[str]) -> list[str]:
        """The most probable answer to each prompt, token by token."""
        from minirl.lm.tasks import Prompt

        asked = [Prompt(text, self.task.parse(text)) for text in prompts]
        found = rollout(
            self.policy, self.task, asked, 1, max_new=self.task.max_new, generator=self.draw, temperature=0.0
        )
        return list(found.texts)

    def collect(self) -> tuple[Rollout, int]:
        """Answers to prompts where some are right and some wrong (dynamic sampling), and how many tokens were sampled."""
        config, kept, tokens = self.config, [], 0
        for _ in range(config.draws):
            chosen = self.rng.choice(config.pool, config.prompts, replace=False)
            data = rollout(
                self.policy,
                self.task,
                [self.pool[i] for i in chosen],
                config.answers,
                max_new=self.task.max_new,
                generator=self.draw,
            )
            tokens += int(data.mask.sum())
            kept.append(data.rows(success_rate(data.reward, config.answers)[1].nonzero()[:, 0]))
            if sum(len(part.reward) for part in kept) >= config.prompts * config.answers:
                break
        return join(kept).rows(torch.arange(config.prompts * config.answers)), tokens

    # learn() follows
