"""Tokenizers: one for characters, one for words. Both know their whole vocabulary in advance.

Token ids 0 to 3 are special in every vocabulary: <pad> fills rows up to a common length, <bos> starts a text, <eos>
ends an answer and <sep> stands between the parts of a prompt.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

PAD, BOS, EOS, SEP = range(4)
SPECIAL = ("<pad>", "<bos>", "<eos>", "<sep>")


class Tokenizer:
    """Text to token ids and back. `symbols` are the ordinary tokens, in the order of their ids from 4 on.

    split: text -> list of symbols; join: list of symbols -> text. `unknown` names the symbol that stands for any other;
    without it such a symbol raises ValueError.
    """

    def __init__(self, symbols: Sequence[str], split, join, unknown: str | None = None):
        if special := set(symbols) & set(SPECIAL):
            raise ValueError(f"{special.pop()!r} is a special token already")
        if len(set(symbols)) != len(symbols):
            twice = next(s for s in symbols if list(symbols).count(s) > 1)
            raise ValueError(f"the symbol {twice!r} stands twice in the vocabulary")
        self.symbols = (*SPECIAL, *symbols)
        self.ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        self.split, self.join, self.unknown = split, join, unknown

    def __len__(self) -> int:
        """V, the number of tokens with the four special ones."""
        return len(self.symbols)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without <bos> and <eos>."""
        ids = []
        for symbol in self.split(text):
            i = self.ids.get(symbol, self.ids.get(self.unknown))
            if i is None:
                raise ValueError(f"{symbol!r} is not in the vocabulary (in the text {text!r})")
            ids.append(i)
        return ids

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """The text up to the first <eos>. special = True shows <pad>, <bos> and <sep> in it, as a verifier should see
        them: an answer with one of them in its middle is not the answer without.
        """
        symbols = []
        for i in map(int, ids):
            if i == EOS:
                break
            if special or i > SEP:
                symbols.append(self.symbols[i])
        return self.join(symbols)

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that change with the vocabulary; part of a checkpoint's name."""
        return hashlib.sha256("\n".join(self.symbols).encode()).hexdigest()[:8]


def CharTok(alphabet: str) -> Tokenizer:
    """One token a character."""
    return Tokenizer(list(alphabet), list, "".join)


def WordTok(words: Sequence[str], unknown: str = "<unk>") -> Tokenizer:
    """One token a word, and one a punctuation mark. Words are written in lower case; others become <unk>."""

    def split(text: str) -> list[str]:
        return re.findall(r"<unk>|[a-z0-9']+|[^\sa-z0-9']", text.lower())

    def join(symbols: list[str]) -> str:
        return re.sub(r" (?=[^\w\s<'])", "", " ".join(symbols))

    return Tokenizer([unknown, *words], split, join, unknown)


def left_pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of ids of different length -> ids (B, T) with <pad> on the left, and its number in each row, n_pad (B,)."""
    if not rows or not all(rows):
        raise ValueError("every row needs at least one token")
    width = max(map(len, rows))
    n_pad = torch.tensor([width - len(row) for row in rows])
    return torch.tensor([[PAD] * (width - len(row)) + list(row) for row in rows]), n_pad


def right_pad(rows: Sequence[Sequence[int]], width: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows of ids -> ids (B, T) with <pad> on the right, and mask (B, T) float: 1 at the real tokens.

    Raises ValueError when there is no token at all, or a row is longer than `width`.
    """
    if not any(rows):
        raise ValueError("there is no token in any row")
    longest = max(map(len, rows))
    width = longest if width is None else width
    if longest > width:
        raise ValueError(f"a row of {longest} tokens does not fit into {width}")
    ids = torch.tensor([list(row) + [PAD] * (width - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(width) < lengths[:, None]).float()
