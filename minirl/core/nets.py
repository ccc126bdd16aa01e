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
        *hidden, (last_weight, last_bias) = zip(self.weights, self.biases, strict=True)
        stacked = last_weight.dim() == 3
        product = torch.baddbmm if stacked else torch.addmm
        if stacked:
            x = x.expand(last_weight.shape[0], *x.shape)  # (B, in) -> (K, B, in), no copy
        for weight, bias in hidden:
            x = self.activation(product(bias, x, weight))
        if not stacked:
            return torch.addmm(last_bias, x, last_weight)
        # Batched products are slow where a matrix has one or two columns, so the outputs are computed one by one.
        return torch.stack([torch.addmm(*layer) for layer in zip(last_bias, x, last_weight, strict=True)])


@torch.no_grad()
def polyak(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move every parameter of `target` a fraction `tau` of the way to `online`, in place."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
