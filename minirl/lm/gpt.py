"""A small GPT: a transformer decoder with pre-layer normalisation, learned positions and a tied embedding.

B batch, T tokens, C context (the most tokens it can see), V vocabulary, D width, H heads.
Prompts of different length are padded on the LEFT, so that all rows go on at the same column. `n_pad` (B,) says how many
columns of each row are padding: nobody attends to them, and positions are counted from the first real token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT. XS: width 64, 2 layers; S: 64, 3; M: 96, 3; L: 128, 4."""

    vocab: int  # V, number of tokens
    context: int = 64  # C, the most tokens of prompt and answer together
    width: int = 64  # D
    layers: int = 2
    heads: int = 4

    def __post_init__(self):
        for name in ("vocab", "context", "width", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")


class Cache:
    """Keys and values of the tokens seen so far, for all layers: what sampling need not compute again."""

    def __init__(self, model: "GPT", batch: int, tokens: int):
        c = model.config
        weight = model.token.weight
        self.kv = weight.new_empty(
            c.layers, 2, batch, c.heads, tokens, c.width // c.heads
        )  # [:, 0] keys, [:, 1] values
        self.length = 0  # columns that are filled


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(d)) v for queries (B, H, T, d) and keys, values (B, H, keys, d); without a mask causal."""
    if q.shape[2] > 1 or len(q) < 32:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None and q.shape[2] > 1)
    # One token in many rows, as in sampling: two batched products take half the time of the fused kernel.
    weights = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        weights = weights.masked_fill(~mask, -torch.inf)
    return weights.softmax(-1) @ v


class Block(nn.Module):
    """The parameters of one layer: attention and a perceptron of width 4 D, each after a layer normalisation."""

    def __init__(self, D: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        # Looking parameters up once and calling functions makes a step of sampling 1.8 x as fast as calling modules.
        parts = (self.norm1, self.qkv, self.out, self.norm2, self.up, self.down)
        self.tensors = tuple((part.weight, part.bias) for part in parts)


def block(x: Tensor, tensors: tuple, H: int, mask: Tensor | None, cache: Cache | None, layer: int) -> Tensor:
    """One layer: x (B, T, D) -> (B, T, D), the input plus attention, plus a perceptron."""
    norm1, qkv, out, norm2, up, down = tensors
    B, T, D = x.shape
    projected = F.linear(F.layer_norm(x, (D,), *norm1), *qkv).view(B, T, 3, H, D // H).permute(2, 0, 3, 1, 4)
    q, k, v = projected.unbind()  # (B, H, T, D / H) each
    if cache is not None:
        end = cache.length + T
        cache.kv[layer, :, :, :, cache.length : end] = projected[1:]
        k, v = cache.kv[layer, :, :, :, :end].unbind()
    x = x + F.linear(attention(q, k, v, mask).transpose(1, 2).reshape(B, T, D), *out)
    return x + F.linear(F.gelu(F.linear(F.layer_norm(x, (D,), *norm2), *up)), *down)


class GPT(nn.Module):
    """ids (B, T) -> logits (B, T, V) of the next token, and the last hidden layer (B, T, D) for other heads."""

    def __init__(self, config: GPTConfig, generator: torch.Generator):
        super().__init__()
        self.config = config
        with torch.random.fork_rng(
            devices=[]
        ):  # torch fills new layers from the global generator; we do it again below
            self.token = nn.Embedding(config.vocab, config.width)
            self.position = nn.Embedding(config.context, config.width)
            self.blocks = nn.ModuleList(Block(config.width) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        for parameter in self.parameters():  # N(0, 0.02) for matrices; biases 0 and normalisations 1
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02, generator=generator)
            else:
                nn.init.zeros_(parameter)
        for norm in (self.norm, *(n for b in self.blocks for n in (b.norm1, b.norm2))):
            nn.init.ones_(norm.weight)
        self.tensors = (self.token.weight, self.position.weight, (self.norm.weight, self.norm.bias))
        self.layers = tuple(b.tensors for b in self.blocks)

    def forward(self, ids: Tensor, n_pad: Tensor | None = None, cache: Cache | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) and hidden (B, T, D). With a cache, `ids` are the tokens after those it holds, and join it.

        Raises ValueError when more tokens come together than the context holds.
        """
        start = 0 if cache is None else cache.length
        end = start + ids.shape[1]
        if end > self.config.context:
            raise ValueError(f"{end} tokens do not fit into the context of {self.config.context}")
        token, position, norm = self.tensors
        mask = None
        if n_pad is None:
            x = F.embedding(ids, token) + position[start:end]
            if 0 < start < end - 1:
                column = torch.arange(end)
                mask = column <= column[start:, None]
        else:
            column = torch.arange(end)
            now = column[start:, None]
            real = column >= n_pad[:, None, None, None]  # (B, 1, 1, end)
            # A column of padding attends to itself: a row without any key would be NaN.
            mask = (column <= now) & (real | (column == now))
            x = F.embedding(ids, token) + F.embedding((column[start:] - n_pad[:, None]).clamp_min(0), position)
        for layer, tensors in enumerate(self.layers):
            x = block(x, tensors, self.config.heads, mask, cache, layer)
        if cache is not None:
            cache.length = end
        hidden = F.layer_norm(x, x.shape[-1:], *norm)
        return F.linear(hidden, token), hidden


class Head(nn.Module):
    """hidden (B, T, D) -> one number a token (B, T): a value, or a reward when read at the last token. Starts at 0."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden).squeeze(-1)
