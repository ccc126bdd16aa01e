"""P3O where everything can be summed: a softmax policy over a few answers to a few prompts.

Every expectation here is a sum over all answers, or all pairs of answers, in float64. Nothing is sampled, so that an
identity holds to rounding or not at all. The losses are those of the algorithm files, handed in as arguments.

Shapes: X prompts, n answers, M = X n^2 pairs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Bandit:
    """One answer to one of X equally frequent prompts."""

    reward: Tensor  # (X, n)
    log_ref: Tensor  # (X, n) log pi_SFT
    beta: float  # price of a nat of KL

    def __post_init__(self):
        if self.reward.shape != self.log_ref.shape or self.reward.dtype != torch.float64:
            raise ValueError("reward and log_ref must be float64 tensors of the same shape (X, n)")
        if not self.beta > 0:
            raise ValueError(f"beta must be positive, got {self.beta}")


def random_bandit(X: int = 3, n: int = 6, beta: float = 0.5, seed: int = 0) -> Bandit:
    """Standard normal rewards, and a reference policy with standard normal logits."""
    draws = torch.randn(2, X, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Bandit(draws[0], draws[1].log_softmax(-1), beta)


def shifted(bandit: Bandit, delta: Tensor) -> Bandit:
    """The same bandit with the equivalent reward r(x, y) + delta(x), eq. (1); delta (X,)."""
    return replace(bandit, reward=bandit.reward + delta[:, None])


def optimum(bandit: Bandit) -> Tensor:
    """log of pi_SFT exp(r / beta) / Z (X, n), the policy with the best reward less KL, eq. (8)."""
    return (bandit.log_ref + bandit.reward / bandit.beta).log_softmax(-1)


def objective(logits: Tensor, bandit: Bandit) -> Tensor:
    """J: expected reward less beta KL(pi || pi_SFT), mean over prompts; logits (X, n)."""
    logp = logits.log_softmax(-1)
    return (logp.exp() * (bandit.reward - bandit.beta * (logp - bandit.log_ref))).sum(-1).mean()


def exact_gradient(logits: Tensor, bandit: Bandit) -> Tensor:
    """Gradient (X, n) of J."""
    logits = logits.detach().requires_grad_()
    return torch.autograd.grad(objective(logits, bandit), logits)[0]


def reward_hat(logits_old: Tensor, bandit: Bandit) -> Tensor:
    """r_hat (X, n), eq. (2), when the policy with logits_old samples."""
    return bandit.reward - bandit.beta * (logits_old.log_softmax(-1) - bandit.log_ref)


def surrogate_gradient(logits: Tensor, logits_old: Tensor, bandit: Bandit) -> Tensor:
    """Gradient (X, n) of the mean over prompts of sum_y pi(y) r_hat(y), r_hat fixed: what an off-policy step estimates."""
    logits = logits.detach().requires_grad_()
    total = (logits.softmax(-1) * reward_hat(logits_old, bandit)).sum(-1).mean()
    return torch.autograd.grad(total, logits)[0]


def pairs(table: Tensor) -> Tensor:
    """(X, n) -> (M, 2): the entries of every ordered pair of answers to the same prompt."""
    X, n = table.shape
    return torch.stack([table[:, :, None].expand(X, n, n), table[:, None, :].expand(X, n, n)], -1).reshape(-1, 2)


def pairwise_gradient(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], logits: Tensor, logits_old: Tensor, bandit: Bandit
) -> Tensor:
    """Ascent direction (X, n): expectation, over two answers of the old policy, of minus the gradient of a pairwise loss.

    loss(lp, lp_old, rhat), all (M, 2), must be a mean over pairs; each pair then counts with its probability.
    """
    logits = logits.detach().requires_grad_()
    logp, old = logits.log_softmax(-1), logits_old.detach().log_softmax(-1)
    lp = pairs(logp.detach()).requires_grad_()
    each = torch.autograd.grad(loss(lp, pairs(old), pairs(reward_hat(logits_old, bandit))), lp)[0] * len(lp)
    probability = pairs(old).sum(1).exp() / len(logits)
    return -torch.autograd.grad((probability[:, None] * each * pairs(logp)).sum(), logits)[0]


def ppo_gradient(
    logits: Tensor, logits_old: Tensor, bandit: Bandit, value: Tensor, clip: float = 0.2, whitened: bool = False
) -> Tensor:
    """Ascent direction (X, n) of PPO in expectation, with the critic's values (X,); advantages r_hat - V."""
    old = logits_old.detach().softmax(-1) / len(logits)
    advantage = reward_hat(logits_old, bandit).detach() - value[:, None]
    if whitened:
        advantage = advantage - (old * advantage).sum()
        advantage = advantage / (old * advantage.square()).sum().sqrt()
    logits = logits.detach().requires_grad_()
    ratio = (logits.log_softmax(-1) - logits_old.detach().log_softmax(-1)).exp()
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return torch.autograd.grad((old * gain).sum(), logits)[0]


def ppo_sample_gradient(logits: Tensor, bandit: Bandit, value: Tensor, answers: Tensor) -> Tensor:
    """Ascent direction (X, n) of PPO's first step from sampled answers (X, K), where no expectation hides the critic."""
    advantage = (reward_hat(logits, bandit) - value[:, None]).gather(1, answers)
    logits = logits.detach().requires_grad_()
    return torch.autograd.grad((advantage.detach() * logits.log_softmax(-1).gather(1, answers)).mean(), logits)[0]


def dpo_gradient(logits: Tensor, logits_old: Tensor, bandit: Bandit, sharpness: float = 1.0) -> Tensor:
    """Minus the gradient (X, n) of DPO's loss in expectation over pairs of the old policy with Bradley-Terry labels.

    Labels prefer answer 1 with probability sigmoid(sharpness (r_1 - r_2)); DPO's beta is sharpness * beta, so that its
    optimum is that of J.
    """
    logits = logits.detach().requires_grad_()
    h = pairs(logits.log_softmax(-1) - bandit.log_ref)
    r, old = pairs(bandit.reward), pairs(logits_old.detach().log_softmax(-1))
    first = (sharpness * (r[:, 0] - r[:, 1])).sigmoid()
    x = sharpness * bandit.beta * (h[:, 0] - h[:, 1])
    loss = -(first * F.logsigmoid(x) + (1 - first) * F.logsigmoid(-x))
    return -torch.autograd.grad((old.sum(1).exp() * loss).sum() / len(logits), logits)[0]


def ascend(
    direction: Callable[[Tensor, Tensor], Tensor], logits: Tensor, lr: float, epochs: int = 1
) -> Iterator[Tensor]:
    """Logits (X, n) after each iteration of `epochs` steps along direction(logits, logits_old) (X, n), without end.

    The old policy, which samples and defines r_hat, stays as it is during an iteration.
    """
    while True:
        old = logits
        for _ in range(epochs):
            logits = logits + lr * direction(logits, old)
        yield logits


def sampled(
    method: str, bandit: Bandit, shift: float, hashed: bool, lr: float = 0.3, critic_lr: float = 0.2, seed: int = 0
) -> Iterator[Tensor]:
    """Logits (X, n) before each iteration of PPO or P3O on samples, without end: here x is a kind of prompt.

    An iteration has eight prompts of each kind, and two answers to each. Policy and critic see only the kind. The reward
    is r + shift * delta; delta, uniform in [-1, 1), belongs to the single prompt, and every prompt is new (hashed), or it
    is the same for all prompts of a kind. One step an iteration, so that no clip acts. method "ppo": advantages r_hat - V,
    whitened over the iteration; the critic V (X,) then goes a share critic_lr of the way to the mean r_hat of its kind.
    "p3o": half the difference of the two r_hat, divided by the standard deviation of all of them, so that both methods
    take steps of the same size.
    """
    if method not in ("ppo", "p3o"):
        raise ValueError(f'method must be "ppo" or "p3o", got {method!r}')
    draws, shifts = (torch.Generator().manual_seed(s) for s in (seed, seed + 10_000))
    kinds, N = len(bandit.reward), 8
    logits, value = bandit.log_ref, torch.zeros(kinds, dtype=torch.float64)
    fixed = torch.rand(kinds, 1, generator=shifts, dtype=torch.float64).expand(kinds, N)
    while True:
        yield logits
        p = logits.softmax(-1)
        answers = torch.multinomial(p, 2 * N, replacement=True, generator=draws)
        delta = 2 * (torch.rand(kinds, N, generator=shifts, dtype=torch.float64) if hashed else fixed) - 1
        rhat = reward_hat(logits, bandit).gather(1, answers).view(kinds, N, 2) + shift * delta[:, :, None]
        if method == "ppo":
            advantage = rhat - value[:, None, None]
            advantage = advantage - advantage.mean()
            value = value + critic_lr * (rhat.mean((1, 2)) - value)
        else:
            advantage = 0.5 * (rhat - rhat.flip(2))
        advantage = (advantage / (advantage.std() + 1e-8)).view(kinds, 2 * N)
        step = torch.zeros_like(p).scatter_add(1, answers, advantage) - p * advantage.sum(1, keepdim=True)
        logits = logits + lr * step / (2 * N)


def gradient_variance(logits: Tensor, reward: Tensor) -> dict[str, float]:
    """Summed variances of four unbiased estimates of the gradient of E[r], each from two answers to one prompt.

    logits, reward (n,). "none": REINFORCE; "value": with the baseline E[r]; "best": with the constant baseline of least
    variance; "pair": eq. (3), where each answer is the other one's baseline.
    """
    p = logits.softmax(-1)
    score = torch.eye(len(p), dtype=p.dtype) - p  # row y: gradient of log pi(y)
    square = score.square().sum(1)
    mean = (p[:, None] * reward[:, None] * score).sum(0)
    baselines = {"none": 0.0, "value": (p * reward).sum(), "best": (p * square * reward).sum() / (p * square).sum()}
    found = {}
    for name, b in baselines.items():
        one = (p * (reward - b).square() * square).sum() - mean.square().sum()
        found[name] = one.item() / 2
    g = 0.5 * (reward[:, None] - reward[None])[:, :, None] * (score[:, None] - score[None])
    found["pair"] = ((p[:, None] * p[None] * g.square().sum(-1)).sum() - mean.square().sum()).item()
    return found
