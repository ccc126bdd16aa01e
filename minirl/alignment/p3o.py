"""Pairwise proximal policy optimisation (P3O): reinforcement learning from the difference of two rewards.

Wu, Zhu, Zhang, Wen, Ramchandran, Jiao: "Pairwise Proximal Policy Optimization: Harnessing Relative Feedback for LLM
Alignment", 2023, arXiv:2310.00212.

The idea. A reward model trained on comparisons fixes the reward only up to a term of the prompt: r(x, y) and
r(x, y) + delta(x) explain the comparisons equally well. An update that depends on delta learns from noise, and that of
PPO does, through its critic. P3O draws two answers to each prompt and uses nothing but the difference of their rewards,
in which delta cancels exactly. There is no critic; ratios are those of whole answers.

Differs from the paper:
1. A GPT of 160,000 parameters ends film reviews; the paper's models have 1 and 6 billion. Its hyper-parameters are not
   published in any text that we could open: all of them here are ours.
2. The two clipped losses are written from the description of their identities; each is checked against all that it has
   to satisfy (exact gradient off-policy, symmetry, invariance, where the gradient vanishes).
3. Neither clip bounds the weights in front of it, which are ratios of whole answers. We cut them at `guard`, and leave an
   iteration when a ratio passes `stop_ratio`. Both are logged; without them the gradient is the paper's.
4. Rewards are subtracted in double precision, before anything else. In single precision a large delta costs digits.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor, nn

from minirl.core.seeding import torch_generator
from minirl.lm import shipped
from minirl.lm.gpt import GPT
from minirl.lm.logp import score
from minirl.lm.preferences import shipped_reward_model
from minirl.lm.rl_core import kl_full
from minirl.lm.rollout import Rollout, encode_prompts, minibatches, rollout
from minirl.lm.sample import sample
from minirl.lm.tasks import Prompt

# Shapes: B answers, T tokens, K answers to a prompt (neighbours), P = B / K prompts, M = P K (K - 1) / 2 pairs.


@dataclass(frozen=True)
class Config:
    """Defaults train the shipped model on reviews with P3O-V2."""

    checkpoint: str = "review-S"  # shipped model and task: where training begins, and the reference pi_SFT
    clip: str = "joint"  # "joint" (V2, eq. 6) or "separate" (V1, eq. 5)
    eps: float = 0.4  # half width of the band: of the log-ratio of the pair (V2), of each ratio (V1: 0.2)
    beta: float = 0.1  # price of a nat of KL to the reference, in units of reward
    prompts: int = 32  # an iteration
    answers: int = 2  # K, answers to each prompt; more than two are compared in all pairs
    epochs: int = 2  # passes over the answers of an iteration
    batch: int = 16  # prompts of a gradient step
    lr: float = 1e-3  # AdamW step size, falling linearly to a tenth
    max_grad_norm: float = 1.0  # bound of the gradient norm
    guard: float = 10.0  # bound of the weights in front of the clips; inf: none
    stop_ratio: float = 5.0  # no further step in an iteration in which the ratio of an answer passes this; inf: never
    shift: float = 0.0  # c: the reward is r + c delta(prompt), eq. (1)
    shift_kind: str = "hashed"  # delta: "hashed" (a network cannot predict it) or "smooth" (it can)
    pool: int | None = None  # training prompts in all; None: new ones in every iteration
    eval_every: int = 10  # iterations between evaluations
    eval_prompts: int = 256  # test prompts of an evaluation
    seed: int = 0

    def __post_init__(self):
        if self.clip not in ("joint", "separate"):
            raise ValueError(f'clip must be "joint" or "separate", got {self.clip!r}')
        if self.shift_kind not in ("hashed", "smooth"):
            raise ValueError(f'shift_kind must be "hashed" or "smooth", got {self.shift_kind!r}')
        if self.answers < 2:
            raise ValueError(f"answers must be at least 2, got {self.answers}: there is no pair to compare")
        if self.prompts < 1 or self.batch < 1 or self.prompts % self.batch or self.epochs < 1:
            raise ValueError(f"prompts ({self.prompts}) must be a multiple of batch ({self.batch}), epochs at least 1")
        if not self.eps > 0 or self.beta < 0 or not self.guard > 0 or not self.stop_ratio > 1:
            raise ValueError("need eps > 0, beta >= 0, guard > 0 and stop_ratio > 1")
        if self.pool is not None and self.pool < self.prompts:
            raise ValueError(f"pool ({self.pool}) must hold at least the {self.prompts} prompts of an iteration")


# ------------------------------------------------------------------------------------------------- the rewards


def reward_shift(prompt: Tensor, n_pad: Tensor, kind: str = "hashed") -> Tensor:
    """delta(x) (B,) float64 of eq. (1) for left-padded prompts (B, Tp): a fixed number for each prompt, variance 1/3.

    hashed: uniform in [-1, 1) by a hash of all tokens, so that similar prompts have unrelated numbers.
    smooth: sum of such numbers of the single tokens over the root of their count; a bag of words predicts it.
    All are multiples of 2^-31: in double precision r + 10 delta is then exact for rewards r in single precision.
    """

    def uniform(tokens: list[int]) -> float:
        return int.from_bytes(blake2b(repr(tokens).encode(), digest_size=4).digest()) / 2**31 - 1

    rows = [row[pad:] for row, pad in zip(prompt.tolist(), n_pad.tolist(), strict=True)]
    if kind == "hashed":
        return torch.tensor([uniform(row) for row in rows], dtype=torch.float64)
    sums = [sum(uniform([token]) for token in row[1:]) / math.sqrt(max(len(row) - 1, 1)) for row in rows]  # not <bos>
    return (torch.tensor(sums, dtype=torch.float64) * 2**31).round() / 2**31


def penalised_reward(reward: Tensor, logp_old: Tensor, logp_ref: Tensor, beta: float) -> Tensor:
    """r_hat, eq. (2): reward - beta (log pi_old - log pi_ref) of whole answers, all (...,); float64, a constant.

    The penalty belongs to the reward: it uses the policy that sampled, and no gradient flows through it.
    """
    return (reward.double() - beta * (logp_old.double() - logp_ref.double())).detach()


def all_pairs(x: Tensor) -> Tensor:
    """(P, K) -> (M, 2): every pair of answers to the same prompt, eq. (7)."""
    return x[:, torch.combinations(torch.arange(x.shape[1]))].reshape(-1, 2)


# -------------------------------------------------------------------------------------------------- the losses
# lp, lp_old (M, 2): log-probabilities of whole answers under pi_theta and under the policy that sampled them.
# rhat (M, 2) float64. Only the gradients of these losses in lp have a meaning.


def reward_gap(rhat: Tensor, dtype: torch.dtype) -> Tensor:
    """Delta = r_hat_1 - r_hat_2 (M,): subtracted in double precision, then rounded. What all of P3O is made of."""
    return (rhat[:, 0].double() - rhat[:, 1].double()).detach().to(dtype)


def pairwise_loss(lp: Tensor, rhat: Tensor) -> Tensor:
    """-mean of Delta / 2 (log pi_1 - log pi_2): its gradient is the pairwise policy gradient, on-policy, eq. (3)."""
    return -0.5 * (reward_gap(rhat, lp.dtype) * (lp[:, 0] - lp[:, 1])).mean()


def p3o_separate_loss(lp: Tensor, lp_old: Tensor, rhat: Tensor, eps: float, guard: float = math.inf) -> Tensor:
    """P3O-V1, eq. (5): each ratio rho_i is clipped on its own; the other one, rho_j, is a weight.

    Answer i has no gradient where (Delta_i > 0 and rho_i > 1 + eps) or (Delta_i < 0 and rho_i < 1 - eps).
    """
    gap = reward_gap(rhat, lp.dtype)
    gap, ratio = torch.stack([gap, -gap], 1), (lp - lp_old).exp()
    other = ratio.detach().flip(1).clamp_max(guard)
    surrogate = torch.minimum(gap * ratio, gap * ratio.clamp(1 - eps, 1 + eps))
    return -0.5 * (other * surrogate).sum(1).mean()


def p3o_joint_loss(lp: Tensor, lp_old: Tensor, rhat: Tensor, eps: float, guard: float = math.inf) -> Tensor:
    """P3O-V2, eq. (6): the log-odds of the pair, ell = lp_1 - lp_2, are clipped; rho_1 rho_2 is a weight.

    No gradient where (Delta > 0 and ell > ell_old + eps) or (Delta < 0 and ell < ell_old - eps).
    """
    gap = reward_gap(rhat, lp.dtype)
    ell, ell_old = lp[:, 0] - lp[:, 1], lp_old[:, 0] - lp_old[:, 1]
    weight = (lp - lp_old).detach().sum(1).exp().clamp_max(guard)
    near = ell_old + (ell - ell_old).clamp(-eps, eps)
    return -0.5 * (weight * torch.minimum(gap * ell, gap * near)).mean()


@torch.no_grad()
def watch(lp: Tensor, lp_old: Tensor, rhat: Tensor, clip: str, eps: float, guard: float) -> dict[str, float]:
    """What the clips and the guard do to these pairs: "max_ratio", and shares "clipped" (no gradient) and "guarded"."""
    gap, drift = reward_gap(rhat, lp.dtype), lp - lp_old
    ratio = drift.exp()
    if clip == "separate":
        gap, moved, weight = torch.stack([gap, -gap], 1), ratio - 1, ratio
    else:
        moved, weight = drift[:, 0] - drift[:, 1], ratio.prod(1)
    clipped = (gap.sign() * moved > eps).double().mean().item()
    guarded = (weight > guard).double().mean().item()
    return {"max_ratio": ratio.max().item(), "clipped": clipped, "guarded": guarded}


# --------------------------------------------------------------------------------------------------- the agent

Reward = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # prompt, n_pad, answer, mask -> (B,)


class P3O(nn.Module):
    """A policy that improves on a reward model; `learn` trains it, `act` ends texts.

    With another `update` the very same loop trains another method (minirl.alignment.p3o_baselines): checkpoint, prompts,
    rewards, optimiser and evaluation stay. policy, reward and task replace the shipped ones.
    """

    def __init__(self, config: Config, update=None, policy: GPT | None = None, reward: Reward | None = None, task=None):
        super().__init__()
        self.config, self.other = config, update
        self.policy = shipped.load(config.checkpoint) if policy is None else deepcopy(policy)
        self.task = shipped.RECIPES[config.checkpoint].task if task is None else task
        self.ref = deepcopy(self.policy).requires_grad_(False)
        reward = shipped_reward_model(config.checkpoint) if reward is None else reward
        self.proxy: Reward = reward.__call__  # no part of this module, even if it is a network
        self.optimiser = torch.optim.AdamW(self.policy.parameters(), lr=config.lr, weight_decay=0.0)
        self.order, self.draw = np.random.default_rng([config.seed, 1]), torch_generator(config.seed, 1)
        pool = None if config.pool is None else np.random.default_rng([config.seed, 0])
        self.pool = None if pool is None else self.task.sample_prompts(config.pool, pool, "train")
        self.test = self.task.sample_prompts(config.eval_prompts, np.random.default_rng(0), "test")

    def act(self, prompts: Sequence[str]) -> list[str]:
        """The ending of each text that takes the most probable token at every step."""
        ids, n_pad = encode_prompts(self.task.tokenizer, [Prompt(text) for text in prompts])
        answers = sample(self.policy, ids, n_pad, max_new=self.task.max_new, temperature=0.0)
        return [self.task.tokenizer.decode(row) for row in answers.tokens]

    def rewarded(self, data: Rollout, shift: float) -> Rollout:
        """The same answers with the proxy reward r + shift delta(x), eq. (1), in float64; the verifier's stays in `results`."""
        with torch.no_grad():
            reward = self.proxy(data.prompt, data.n_pad, data.answer, data.mask).double()
        if not reward.isfinite().all():
            row = int((~reward.isfinite()).nonzero()[0])
            raise ValueError(f"the reward of the answer {data.texts[row]!r} is {reward[row].item()}")
        return replace(data, reward=reward + shift * reward_shift(data.prompt, data.n_pad, self.config.shift_kind))

    def collect(self) -> Rollout:
        """K answers to each of `prompts` prompts, with proxy rewards and the log-probabilities of policy and reference."""
        config = self.config
        if self.pool is None:
            asked = self.task.sample_prompts(config.prompts, self.order, "train")
        else:
            asked = [self.pool[i] for i in self.order.choice(config.pool, config.prompts, replace=False)]
        options = {"max_new": self.task.max_new, "generator": self.draw, "ref": self.ref, "unfinished": None}
        return self.rewarded(rollout(self.policy, self.task, asked, config.answers, **options), config.shift)

    def logp(self, data: Rollout) -> Tensor:
        """log pi(y | x) = sum_t log pi(y_t | x, y_<t) of whole answers, (P, K)."""
        return score(self.policy, data.prompt, data.n_pad, data.answer, data.mask).sequence.view(-1, data.K)

    def step(self, loss: Tensor) -> float:
        """One gradient step; returns the norm of the gradient. Raises RuntimeError when that is not finite."""
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), self.config.max_grad_norm, error_if_nonfinite=True)
        self.optimiser.step()
        return norm.item()

    def update(self, data: Rollout) -> dict[str, float]:
        """`epochs` passes over the pairs in mini-batches of `batch` prompts, a gradient step each.

        Returns "steps" taken, the largest "max_ratio", and means of "clipped", "guarded" and "grad_norm".
        """
        if self.other is not None:
            return self.other(self, data)
        config, logs = self.config, []
        loss = {"joint": p3o_joint_loss, "separate": p3o_separate_loss}[config.clip]
        reward = data.reward.view(-1, data.K)
        relative = (reward - reward[:, :1]).reshape(-1)  # nothing but differences counts, and here they are still exact
        rhat = penalised_reward(relative, data.old_logp.sum(1), data.ref_logp.sum(1), config.beta)
        data = replace(data, reward=rhat)
        for _ in range(config.epochs):
            for part in minibatches(data, config.batch * data.K, self.draw, groups=True):
                together = (self.logp(part), part.old_logp.sum(1).view(-1, data.K), part.reward.view(-1, data.K))
                pairs = [all_pairs(x) for x in together]
                log = watch(*pairs, config.clip, config.eps, config.guard)
                logs.append(log)
                if log["max_ratio"] > config.stop_ratio:
                    return summary(logs)
                log["grad_norm"] = self.step(loss(*pairs, config.eps, config.guard))
        return summary(logs)

    def learn(self, steps: int) -> Iterator[dict[str, float]]:
        """Train for `steps` iterations: collect, update.

        Yields a dict an iteration: "step", "progress", "tokens" (sampled in training so far), "reward" (mean proxy reward
        with its shift) and the numbers of `update`; at step 0, every `eval_every` steps and at the end those of `evaluate`.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        tokens = 0
        yield {"step": 0, "progress": 0.0, "tokens": 0, **self.evaluate()}
        for step in range(1, steps + 1):
            for group in self.optimiser.param_groups:
                group["lr"] = self.config.lr * (1 - 0.9 * (step - 1) / steps)
            data = self.collect()
            tokens += int(data.mask.sum())
            log = {"step": step, "progress": step / steps, "tokens": tokens, "reward": data.reward.mean().item()}
            log |= self.update(data)
            yield log | (self.evaluate() if step % self.config.eval_every == 0 or step == steps else {})

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Means over answers to the test prompts, sampled at temperature 1 with always the same random numbers.

        "gold" (verifier), "proxy" (reward model, without shift), "kl" to the reference in nats an answer (exact at each
        token, so of small variance), "length" in tokens.
        """
        options = {"max_new": self.task.max_new, "generator": torch_generator(0, 2), "unfinished": None}
        data = self.rewarded(rollout(self.policy, self.task, self.test, 1, **options), 0.0)
        now, ref = (score(m, data.prompt, data.n_pad, data.answer, data.mask).logits for m in (self.policy, self.ref))
        return {
            "gold": float(np.mean([result.reward for result in data.results])),
            "proxy": data.reward.mean().item(),
            "kl": (kl_full(now, ref) * data.mask).sum(1).mean().item(),
            "length": data.mask.sum(1).mean().item(),
        }


def summary(logs: list[dict[str, float]]) -> dict[str, float]:
    """One dict from those of the gradient steps; the last one may have been refused and then has no "grad_norm"."""
    norms = [log["grad_norm"] for log in logs if "grad_norm" in log]
    mean = {key: float(np.mean([log[key] for log in logs])) for key in ("clipped", "guarded")}
    top = max(log["max_ratio"] for log in logs)
    return {"steps": len(norms), "max_ratio": top, "grad_norm": float(np.mean(norms or [0.0])), **mean}
