"""Multilayer perceptrons, single and stacked, with explicit random generators."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """K perceptrons of one shape evaluated together by batched matrix products.

    sizes: widths from input to output, for example (23, 256, 256, 1). K: how many networks are stacked.
    forward: (B, in) -> (K, B, out); with K = None one plain network, (B, in) -> (B, out).
    Weights and biases start as in `torch.nn.Linear`, uniform in +-1/sqrt(fan_in), drawn from `generator`.
    Two critics as one stack need half the calls of two modules, and the matrix products are the same.
    """

    def __init__(
        self, sizes: Sequence[int], generator: torch.Generator, K: int | None = None, activation: Callable = torch.relu_
    ):
        super().__init__()
        self.activation = activation
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        lead = () if K is None else (K,)
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = 1 / math.sqrt(fan_in)
            self.weights.append(torch.empty(*lead, fan_in, fan_out).uniform_(-bound, bound, generator=generator))
            self.biases.append(torch.empty(*lead, 1, fan_out).uniform_(-bound, bound, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        product = torch.addmm
        if self.weights[0].dim() == 3:
            product = torch.baddbmm
            x = x.expand(self.weights[0].shape[0], *x.shape)  # (B, in) -> (K, B, in), no copy
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = product(bias, x, weight)
            if i < last:
                x = self.activation(x)
        return x


@torch.no_grad()
def polyak(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move every parameter of `target` a fraction `tau` of the way to `online`, in place."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
