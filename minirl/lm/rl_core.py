"""The pure functions that reinforcement learning of language models is composed of.

B answers, T tokens, K answers to each prompt (neighbours), V vocabulary. `mask` (B, T) is 1 at the tokens of an answer.
Nothing here belongs to one paper: estimators of KL, advantages, clipped losses, and how a loss is averaged.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# ------------------------------------------------------------------------------------------- Kullback-Leibler
# Estimators of KL(pi || ref) at one token drawn from pi (Schulman 2020, "Approximating KL divergence").


def kl_k1(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """log pi - log ref: unbiased, can be negative."""
    return logp - ref_logp


def kl_k2(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """(log pi - log ref)^2 / 2: biased, never negative."""
    return 0.5 * (logp - ref_logp).square()


def kl_k3(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """ref / pi - 1 - log(ref / pi): unbiased and never negative."""
    ratio = ref_logp - logp
    return torch.expm1(ratio) - ratio


def kl_full(logits: Tensor, ref_logits: Tensor) -> Tensor:
    """Exact KL(pi || ref) of each position, logits (..., V) -> (...)."""
    logp, ref_logp = logits.log_softmax(-1), ref_logits.log_softmax(-1)
    p = logp.exp()
    return torch.where(p > 0, p * (logp - ref_logp), 0.0).sum(-1)  # 0 log 0 = 0 where a token is excluded


@dataclass
class AdaptiveKL:
    """A weight beta of the KL penalty that steers the measured KL to `target` (Ziegler et al. 2019, eq. 4)."""

    beta: float = 0.1
    target: float = 6.0  # nats an answer
    horizon: int = 10_000  # answers over which beta may change by the factor e^0.2 or so

    def update(self, kl: float, answers: int) -> float:
        """The new beta after `answers` answers with mean KL `kl`; the error is clipped to +-0.2."""
        if not math.isfinite(kl):
            raise ValueError(f"the measured KL is {kl}")
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.beta *= 1 + error * answers / self.horizon
        return self.beta


# ---------------------------------------------------------------------------------------- rewards and advantages


def reward_to_tokens(reward: Tensor, mask: Tensor, kl: Tensor | None = None, beta: float = 0.0) -> Tensor:
    """Rewards (B, T) of tokens: reward (B,) of the answer at its last token, less beta * kl (B, T) at every token."""
    out = torch.zeros_like(mask) if kl is None else -beta * kl * mask
    last = mask.sum(1).long() - 1
    if (last < 0).any():
        raise ValueError(f"answer {int((last < 0).nonzero()[0])} has no token, so there is no last one to reward")
    return out.scatter_add(1, last[:, None], reward[:, None].to(out.dtype))


def gae(reward: Tensor, value: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and value targets, both (B, T), of answers that end at their last token.

    delta_t = r_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma lam A_{t+1} (Schulman et al. 2016, eqs. 11, 16).
    """
    value = value.detach() * mask
    following = torch.cat([value[:, 1:], torch.zeros_like(value[:, :1])], 1)  # 0 after the last token
    delta = (reward + gamma * following - value) * mask
    advantage = torch.zeros_like(delta)
    carry = torch.zeros_like(delta[:, 0])
    for t in reversed(range(delta.shape[1])):
        carry = delta[:, t] + gamma * lam * carry * mask[:, t]
        advantage[:, t] = carry
    return advantage, advantage + value


def group_adv(reward: Tensor, K: int, kind: str, eps: float = 1e-6) -> Tensor:
    """Advantage (B,) of each answer against the K answers to its prompt; reward (B,), neighbours belong together.

    grpo: (r - mean) / (std + eps) with the population's standard deviation (divided by K). dr_grpo: r - mean.
    rloo: r - mean of the other K - 1. none: r. A group of equal rewards gets 0 except with "none".
    Raises ValueError for an empty group, a batch that is no multiple of K, K = 1 where others are needed, or kind.
    """
    if K < 1 or len(reward) == 0 or len(reward) % K:
        raise ValueError(f"{len(reward)} rewards are not one or more groups of {K}")
    if not torch.isfinite(reward).all():
        raise ValueError(f"reward {int((~torch.isfinite(reward)).nonzero()[0])} is not finite")
    if kind == "none":
        return reward
    if K < 2:
        raise ValueError(f"{kind} compares the answers to one prompt and needs K >= 2, got {K}")
    groups = reward.view(-1, K) if reward.is_floating_point() else reward.float().view(-1, K)
    centred = groups - groups.mean(1, keepdim=True)
    # The mean of equal floats can differ from them by rounding, which eps would not hide.
    centred = torch.where((groups == groups[:, :1]).all(1, keepdim=True), 0.0, centred)
    if kind == "grpo":
        centred = centred / (centred.square().mean(1, keepdim=True).sqrt() + eps)
    elif kind == "rloo":
        centred = centred * (K / (K - 1))
    elif kind != "dr_grpo":
        raise ValueError(f"kind must be grpo, dr_grpo, rloo or none, got {kind!r}")
    return centred.reshape(-1)


def whiten(x: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """x (B, T) shifted and scaled to mean 0 and variance 1 over the tokens of the mask; 0 elsewhere."""
    mean = masked_mean(x, mask)
    centred = (x - mean) * mask
    return centred / (masked_mean(centred.square(), mask) + eps).sqrt()


# ------------------------------------------------------------------------------------------------------ losses


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x over the tokens of the mask; raises ValueError when the mask is empty."""
    total = mask.sum()
    if total == 0:
        raise ValueError("the mask is empty: there is no token to average over")
    return (x * mask).sum() / total


def aggregate(x: Tensor, mask: Tensor, agg: str, constant: float | None = None) -> Tensor:
    """One number from losses x (B, T). How tokens are weighed is part of a method, so it is always said.

    token-mean: every token counts the same. seq-mean: every answer counts the same, its tokens share its weight.
    sum: the sum over all tokens divided by `constant` (default B), so that a long answer counts more.
    """
    if agg == "token-mean":
        return masked_mean(x, mask)
    if agg == "seq-mean":
        return ((x * mask).sum(1) / mask.sum(1).clamp_min(1)).mean()
    if agg == "sum":
        return (x * mask).sum() / (len(x) if constant is None else constant)
    raise ValueError(f"agg must be token-mean, seq-mean or sum, got {agg!r}")


def ppo_clip(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    lo: float,
    hi: float,
    agg: str,
    constant: float | None = None,
) -> tuple[Tensor, Tensor]:
    """PPO's clipped loss to minimise, and the share of tokens where the clip cut the gradient off.

    logp, old_logp, mask (B, T); advantage (B, T) or (B,). The ratio is clipped to [1 - lo, 1 + hi]
    (Schulman et al. 2017, eq. 7; two bounds as in Yu et al. 2025).
    """
    if advantage.dim() == 1:
        advantage = advantage[:, None]
    ratio = (logp - old_logp).clamp(-20, 20).exp()  # an infinite ratio would make the gradient 0 * inf
    plain, clipped = ratio * advantage, ratio.clamp(1 - lo, 1 + hi) * advantage
    loss = aggregate(-torch.minimum(plain, clipped), mask, agg, constant)
    return loss, masked_mean((clipped < plain).to(mask.dtype), mask).detach()


def value_clip_loss(value: Tensor, old_value: Tensor, target: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the mean squared error of values (B, T) that may move at most `clip` from the old ones, whichever is larger."""
    near = old_value + (value - old_value).clamp(-clip, clip)
    return 0.5 * masked_mean(torch.maximum((value - target).square(), (near - target).square()), mask)
