"""Direct preference optimisation and its relative IPO: the common offline baselines of preference learning."""

import torch
from torch import Tensor
from torch.nn import functional as F


def margin(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor) -> Tensor:
    """h (B,) = log pi/ref of the chosen answer minus that of the rejected one; arguments are sequence log-probs (B,)."""
    return (chosen - ref_chosen) - (rejected - ref_rejected)


def dpo_loss(h: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta h), mean over pairs (Rafailov et al. 2023, eq. 7)."""
    return -F.logsigmoid(beta * h).mean()


def ipo_loss(h: Tensor, beta: float) -> Tensor:
    """(h - 1 / (2 beta))^2, mean over pairs (Azar et al. 2023, eq. 17)."""
    return (h - 1 / (2 * beta)).square().mean()


def implicit_reward(logp: Tensor, ref_logp: Tensor, beta: float) -> Tensor:
    """beta log(pi / ref) of each answer (B,): the reward that DPO has fitted, up to a term of the prompt alone."""
    return beta * (logp - ref_logp)


def pair_accuracy(h: Tensor) -> Tensor:
    """Share of pairs with h > 0; ties count half."""
    return torch.where(h == 0, 0.5, (h > 0).to(h.dtype)).mean()
