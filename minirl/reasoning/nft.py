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
3. Prompts come from a fixed pool. Where too few of them have right and wrong answers, we ask for as many again as are
   missing, at most `draws` times, and go on with those there are; the authors draw from three times the prompts.
4. The step size falls linearly and there is no weight decay; the authors keep it constant after a warm-up.
5. eps acts on the value exactly. Written as x + sg(max(x, eps) - x), as in the paper, it is lost to rounding where x is
   far below zero, and the loss is infinite there in single precision.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minirl.core.seeding import torch_generator
from minirl.lm import shipped
from minirl.lm.logp import score
from minirl.lm.rl_core import aggregate, masked_mean
from minirl.lm.rollout import Rollout, accuracy, encode_prompts, minibatches, rollout
from minirl.lm.sample import sample
from minirl.lm.tasks import Prompt

# Shapes: B answers, T tokens, K answers to a prompt (neighbours). mask (B, T) is 1 at the tokens of an answer.

OMEGAS = ("one", "gap", "std")


@dataclass(frozen=True)
class Config:
    """Defaults train the shipped model on additions; comments give the paper's values where ours differ."""

    checkpoint: str = "chain-S"  # shipped model and task to begin with
    prompts: int = 16  # with right and wrong answers, an iteration (512)
    answers: int = 16  # K, answers to each prompt
    updates: int = 4  # gradient steps an iteration, each on its share of the prompts (16)
    pool: int = 512  # training prompts in all; they come again and again
    draws: int = 8  # how often to ask for the prompts that are still missing (10)
    lr: float = 3e-4  # AdamW step size, falling linearly to a tenth (1e-6, constant)
    eps: float = 1.0  # floor of the likelihood ratio of a wrong token, eq. (6), in (0, 1]
    omega: str = "gap"  # weight of a prompt: "one", "gap" 1 - r, or "std" sqrt((1 - r) / r), eq. (7)
    neg_weight: float = 1.0  # weight of wrong answers; 0 leaves rejection-sampling fine-tuning (RFT)
    max_grad_norm: float = 1.0  # bound of the gradient norm
    eval_every: int = 10  # iterations between evaluations
    eval_prompts: int = 256  # test prompts of an evaluation
    seed: int = 0

    def __post_init__(self):
        if self.omega not in OMEGAS:
            raise ValueError(f"omega must be one of {', '.join(OMEGAS)}, got {self.omega!r}")
        if self.answers < 2:
            raise ValueError(
                f"answers must be at least 2, got {self.answers}: one answer is never both right and wrong"
            )
        for name in ("prompts", "updates", "draws", "eval_every", "eval_prompts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.prompts % self.updates:
            raise ValueError(f"prompts ({self.prompts}) must be a multiple of updates ({self.updates})")
        if self.pool < self.prompts:
            raise ValueError(f"pool ({self.pool}) must hold at least the {self.prompts} prompts of an iteration")
        if not 0 < self.eps <= 1 or not self.neg_weight >= 0:
            raise ValueError(f"need 0 < eps <= 1 and neg_weight >= 0, got {self.eps} and {self.neg_weight}")


# ------------------------------------------------------------------------------------------------ the split


def split(p_old: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Policies of the right and of the wrong answers, and the success rate, of enumerated answers. Eq. (1).

    p_old (..., n) probabilities, right (..., n) probability that the verifier accepts -> pi_plus, pi_minus (..., n),
    r (..., 1). Bayes' rule; r pi_plus + (1 - r) pi_minus is p_old again. Needs 0 < r < 1.
    """
    r = (p_old * right).sum(-1, keepdim=True)
    return p_old * right / r, p_old * (1 - right) / (1 - r), r


def implicit_negative(p_old: Tensor, p_plus: Tensor, r: Tensor) -> Tensor:
    """Policy of the wrong answers that p_plus implies, eq. (2): (p_old - r p_plus) / (1 - r). May be negative."""
    return (p_old - r * p_plus) / (1 - r)


def likelihoods(p_plus: Tensor, p_old: Tensor, right: Tensor, eps: float = 1.0) -> tuple[Tensor, Tensor]:
    """The two halves of eq. (3), exactly: expected log-likelihoods (...) of right and of wrong answers, to maximise.

    p_plus (the network), p_old and right are (..., n) as in `split`; likelihoods are relative to the old policy.
    """
    r = split(p_old, right)[2]
    ratio = p_plus / p_old
    wrong = max_v((1 - r * ratio) / (1 - r), eps).log()
    return (p_old * torch.xlogy(right, ratio)).sum(-1), (p_old * (1 - right) * wrong).sum(-1)


# ------------------------------------------------------------------------------------------------- the loss


def max_v(x: Tensor, eps: float) -> Tensor:
    """max(x, eps) by value, with the gradient of x everywhere ("straight through"), eq. (6)."""
    return x.clamp_min(eps).detach() + (x - x.detach())


def success_rate(reward: Tensor, K: int) -> tuple[Tensor, Tensor]:
    """r (B,): share of right answers among the K to the same prompt; mixed (B,) bool: some are right and some wrong.

    Raises ValueError for a reward that is neither 0 nor 1, naming its row, or for incomplete groups.
    """
    if odd := ((reward != 0) & (reward != 1)).nonzero()[:, 0].tolist():
        raise ValueError(f"rewards must be 0 (wrong) or 1 (right), got {reward[odd[0]].item()} in row {odd[0]}")
    if len(reward) % K:
        raise ValueError(f"{len(reward)} rewards are no whole groups of {K}")
    r = reward.view(-1, K).mean(1).repeat_interleave(K)
    return r, (r > 0) & (r < 1)


def prompt_weight(r: Tensor, omega: str) -> Tensor:
    """omega(q), eq. (7), in the shape of the success rates r, which lie strictly between 0 and 1."""
    if omega not in OMEGAS:
        raise ValueError(f"omega must be one of {', '.join(OMEGAS)}, got {omega!r}")
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
    """The token-level loss to minimise, eq. (5), summed over tokens and averaged over answers.

    logp, old_logp, mask (B, T); reward (B,) is 1 or 0, r (B,) the success rate of the prompt, 0 < r < 1. The log-ratio
    is cut at 10 before the exponential and r is kept in [0.02, 0.98], as in the authors' code.
    """
    r = r.clamp(0.02, 0.98)[:, None]
    log_ratio = (logp - old_logp).clamp_max(10.0)
    x = (1 - r * log_ratio.exp()) / (1 - r)  # of the implicit negative policy over the old one, eq. (4)
    gain = torch.where(reward[:, None] == 1, log_ratio, neg_weight * max_v(x, eps).log())
    return aggregate(-prompt_weight(r, omega) * gain, mask, "sum")


def token_weights(ratio: Tensor, r: Tensor | float, eps: float, omega: str = "one") -> tuple[Tensor, Tensor]:
    """What multiplies the gradient of R = `ratio` in eq. (5) at a token of a right and of a wrong answer, eq. (8)."""
    r = torch.as_tensor(r, dtype=ratio.dtype)
    omega = prompt_weight(r, omega)
    return omega / ratio, -omega * r / (1 - r) / ((1 - r * ratio) / (1 - r)).clamp_min(eps)


# ------------------------------------------------------------------------------------------------- the agent

# What another method may put in the place of nft_loss: (logp, old_logp, reward, r, mask) -> a number.
Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class NFT(nn.Module):
    """A policy that improves on a task with a verifier; `learn` trains it, `act` answers prompts.

    With a `loss` the very same loop trains another method (minirl.reasoning.nft_baselines): the model, the order of the
    prompts, the filter, the optimiser stay; eps, omega and neg_weight are then without effect.
    """

    def __init__(self, config: Config, loss: Loss | None = None):
        super().__init__()
        self.config, self.loss = config, loss
        self.policy = shipped.load(config.checkpoint)
        self.task = shipped.RECIPES[config.checkpoint].task
        self.optimiser = torch.optim.AdamW(self.policy.parameters(), lr=config.lr, weight_decay=0.0)
        self.order = np.random.default_rng([config.seed, 1])  # of prompts: the same for every method
        self.pool = self.task.sample_prompts(config.pool, np.random.default_rng([config.seed, 0]), "train")
        self.test = self.task.sample_prompts(config.eval_prompts, np.random.default_rng(0), "test")
        self.draw = torch_generator(config.seed, 1)  # of tokens and mini-batches

    def act(self, prompts: Sequence[str]) -> list[str]:
        """The answer to each prompt that takes the most probable token at every step."""
        ids, n_pad = encode_prompts(self.task.tokenizer, [Prompt(text) for text in prompts])
        answers = sample(self.policy, ids, n_pad, max_new=self.task.max_new, temperature=0.0)
        return [self.task.tokenizer.decode(row) for row in answers.tokens.tolist()]

    def collect(self) -> tuple[Rollout, dict[str, float]]:
        """K answers to each of `prompts` prompts that have right and wrong ones (dynamic sampling), and numbers to log.

        "reward" is the success rate over all prompts that were tried, "mixed" the share of them that is kept. An answer
        that was cut off counts as wrong. When `draws` draws or the pool do not suffice there are fewer, even none.
        """
        config, order, kept, tried = self.config, self.order.permutation(self.config.pool), [], []
        missing, tokens = config.prompts, 0
        for _ in range(config.draws):
            chosen, order = order[:missing], order[missing:]
            if not len(chosen):
                break
            asked = [self.pool[i] for i in chosen]
            options = {"max_new": self.task.max_new, "generator": self.draw}
            data = rollout(self.policy, self.task, asked, config.answers, **options)
            mixed = success_rate(data.reward, config.answers)[1]
            kept.append(data.rows(mixed.nonzero()[:, 0]))
            tried.append(data.reward)
            missing -= int(mixed.sum()) // config.answers
            tokens += int(data.mask.sum())
        found, reward = join(kept), torch.cat(tried)
        return found, {"reward": reward.mean().item(), "mixed": len(found.reward) / len(reward), "tokens": tokens}

    def update(self, data: Rollout) -> dict[str, float]:
        """One pass over the answers in mini-batches of whole groups, a gradient step each; no step without answers.

        Returns means over the mini-batches: "loss"; "drift", of |R - 1| over tokens; and with NFT's own loss "right"
        and "wrong", the mean weights of eq. (8) at the tokens of such answers, and "clipped", the share of the tokens
        of wrong answers where eps acts.
        """
        config, logs = self.config, []
        if len(data.reward) == 0:
            return {}
        for part in minibatches(data, config.prompts // config.updates * config.answers, self.draw, groups=True):
            r, _ = success_rate(part.reward, config.answers)
            logp = score(self.policy, part.prompt, part.n_pad, part.answer, part.mask).logp
            known = (logp, part.old_logp, part.reward, r, part.mask)
            own = self.loss is None
            loss = nft_loss(*known, config.eps, config.omega, config.neg_weight) if own else self.loss(*known)
            self.optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.policy.parameters(), config.max_grad_norm, error_if_nonfinite=True)
            self.optimiser.step()
            ratio, r = (logp.detach() - part.old_logp).exp(), r[:, None]
            log = {"loss": loss.item(), "drift": masked_mean((ratio - 1).abs(), part.mask).item()}
            if own:
                right, wrong = part.mask * part.reward[:, None], part.mask * (1 - part.reward[:, None])
                weights = token_weights(ratio, r, config.eps, config.omega)
                below = ((1 - r * ratio) / (1 - r) < 0.999 * config.eps).to(ratio.dtype)  # not by rounding alone
                log |= {"right": masked_mean(weights[0], right).item(), "clipped": masked_mean(below, wrong).item()}
                log["wrong"] = config.neg_weight * masked_mean(weights[1], wrong).item()
            logs.append(log)
        return {key: float(np.mean([log[key] for log in logs])) for key in logs[0]}

    def learn(self, steps: int = 100) -> Iterator[dict[str, float]]:
        """Train for `steps` iterations: collect, update.

        Yields a dict an iteration: "step", "progress", "tokens" (sampled in training so far) and the numbers of
        `collect` and `update`; at step 0, every `eval_every` steps and at the end those of `evaluate`.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        tokens = 0
        yield {"step": 0, "progress": 0.0, "tokens": 0, **self.evaluate()}
        for step in range(1, steps + 1):
            for group in self.optimiser.param_groups:
                group["lr"] = self.config.lr * (1 - 0.9 * (step - 1) / steps)
            data, log = self.collect()
            tokens += log["tokens"]
            log = {"step": step, "progress": step / steps} | log | {"tokens": tokens} | self.update(data)
            yield log | (self.evaluate() if step % self.config.eval_every == 0 or step == steps else {})

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """On the test prompts: "accuracy" of answers sampled at temperature 1, "greedy" accuracy, and "entropy", the
        mean over the sampled tokens of the entropy (nats) of what each was drawn from. Always the same random numbers.
        """
        generator, new = torch_generator(0, 2), self.task.max_new
        data = rollout(self.policy, self.task, self.test, 1, max_new=new, generator=generator)
        scores = score(self.policy, data.prompt, data.n_pad, data.answer, data.mask)
        return {
            "accuracy": data.reward.mean().item(),
            "greedy": accuracy(self.policy, self.task, self.test, max_new=new),
            "entropy": masked_mean(scores.entropy, data.mask).item(),
        }


def join(parts: Sequence[Rollout]) -> Rollout:
    """Rollouts with the same K below each other; shorter prompts are padded on the left, shorter answers on the right."""
    before, after = (max(getattr(part, name).shape[1] for part in parts) for name in ("prompt", "answer"))
    columns = {name: [] for name in ("prompt", "n_pad", "answer", "mask", "old_logp", "reward")}
    for part in parts:
        left = before - part.prompt.shape[1]
        columns["prompt"].append(F.pad(part.prompt, (left, 0)))
        columns["n_pad"].append(part.n_pad + left)
        columns["reward"].append(part.reward)
        for name in ("answer", "mask", "old_logp"):
            columns[name].append(F.pad(getattr(part, name), (0, after - part.answer.shape[1])))
    together, K = {name: torch.cat(column) for name, column in columns.items()}, parts[0].K
    group = torch.arange(len(together["reward"]) // K).repeat_interleave(K)
    results, texts = ([x for part in parts for x in getattr(part, name)] for name in ("results", "texts"))
    return Rollout(**together, ref_logp=None, group=group, results=tuple(results), texts=tuple(texts), K=K)
