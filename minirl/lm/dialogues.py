"""Dialogues of a language model with an oracle, turn by turn, and how they become tensors.

Shapes: E dialogues, T tokens of a dialogue, H turns of a dialogue, B turns in all, D width. An utterance ends with <eos>.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from minirl.lm.gpt import GPT
from minirl.lm.sample import sample
from minirl.lm.tasks.guess import Guess, Play
from minirl.lm.tasks.twenty_questions import bits_learned
from minirl.lm.tok import BOS, EOS, left_pad, right_pad


@dataclass(frozen=True)
class Dialogue:
    """A finished game as token ids. H turns."""

    states: tuple[tuple[int, ...], ...]  # H texts before each utterance, <bos> in front; each begins the next
    utterances: tuple[tuple[int, ...], ...]  # H, as they were sampled
    rewards: tuple[float, ...]  # H
    play: Play

    @property
    def score(self) -> float:
        """The return: rewards are not discounted here."""
        return sum(self.rewards)


def say(policy: GPT, states: Sequence[Sequence[int]], task: Guess, generator: torch.Generator, temperature=1.0):
    """What the policy says in each state: B tuples of token ids. Rows of like length are sampled together."""
    order = sorted(range(len(states)), key=lambda i: len(states[i]))
    said = [()] * len(states)
    for start in range(0, len(order), 128):
        rows = order[start : start + 128]
        ids, n_pad = left_pad([states[i] for i in rows])
        drawn = sample(policy, ids, n_pad, max_new=task.max_new, generator=generator, temperature=temperature)
        for i, tokens, n in zip(rows, drawn.tokens.tolist(), drawn.lengths.tolist(), strict=True):
            said[i] = tuple(tokens[:n])
    return said


def converse(task: Guess, plays: Sequence[Play], choose, begin: Sequence[tuple[int, ...]] | None = None):
    """Play these games to their end, side by side: a list of Dialogues. choose(states) -> an utterance for each.

    A state is all that was said so far, invalid questions too, and the oracle's replies. Games that are under way come
    with their states in `begin`; their dialogues hold only what follows.
    """
    plays, encode = list(plays), task.tokenizer.encode
    states, said = [[s] for s in (begin or [(BOS,)] * len(plays))], [[] for _ in plays]
    while running := [i for i, play in enumerate(plays) if not play.done]:
        for i, tokens in zip(running, choose([states[i][-1] for i in running]), strict=True):
            plays[i] = task.act(plays[i], task.tokenizer.decode(tokens, special=True))
            text = tokens[:-1] if tokens[-1] == EOS else tokens
            said[i].append(tokens)
            states[i].append((*states[i][-1], *text, *encode(plays[i].turns[-1].reply)))
    rewards = [tuple(t.reward for t in p.turns[len(p.turns) - len(u) :]) for p, u in zip(plays, said, strict=True)]
    return [Dialogue(tuple(s[:-1]), tuple(u), r, p) for s, u, r, p in zip(states, said, rewards, plays, strict=True)]


def recorded(task: Guess, play: Play) -> Dialogue:
    """A finished game that somebody played in texts, as a dialogue."""
    states, said = [(BOS,)], []
    for turn in play.turns:
        text = tuple(task.tokenizer.encode(turn.text))
        said.append((*text, EOS))
        states.append((*states[-1], *text, *task.tokenizer.encode(turn.reply)))
    return Dialogue(tuple(states[:-1]), tuple(said), tuple(turn.reward for turn in play.turns), play)


@dataclass(frozen=True)
class Stream:
    """E dialogues as rows of tokens, so that one pass of a causal model sees every turn of each. B turns in all."""

    ids: Tensor  # (E, T) everything up to the last utterance and with it, padded on the right
    target: Tensor  # (E, T) the token of an utterance that is to follow each column; <eos> after a whole sentence
    mask: Tensor  # (E, T) 1 where a token of an utterance follows
    ends: Tensor  # (E, H) column where the state of each turn ends
    last: Tensor  # (E, H) column where the last token of each utterance is the target
    real: Tensor  # (E, H) bool: there is such a turn; [real] selects the B turns in order
    reward: Tensor  # (B,)
    terminated: Tensor  # (B,) 1 at the last turn


def stream(dialogues: Sequence[Dialogue]) -> Stream:
    """Dialogues as tensors."""
    ids, _ = right_pad([d.states[-1] + d.utterances[-1][:-1] for d in dialogues])
    H, T = max(len(d.rewards) for d in dialogues), ids.shape[1]
    target, ends, last = [], [], []
    for d in dialogues:
        row, lengths = [-1] * T, [len(state) for state in d.states]
        for n, said in zip(lengths, d.utterances, strict=True):
            row[n - 1 : n - 1 + len(said)] = said
        target.append(row)
        rest = [0] * (H - len(lengths))
        ends.append([n - 1 for n in lengths] + rest)
        last.append([n + len(said) - 2 for n, said in zip(lengths, d.utterances, strict=True)] + rest)
    target, ends, last = torch.tensor(target), torch.tensor(ends), torch.tensor(last)
    mask = (target >= 0).float()
    lengths = torch.tensor([len(d.rewards) for d in dialogues])[:, None]
    real, final = torch.arange(H) < lengths, torch.arange(H) == lengths - 1
    reward = torch.tensor([r for d in dialogues for r in d.rewards])
    return Stream(ids, target.clamp_min(0), mask, ends, last, real, reward, final[real].float())


def token_logp(policy: GPT, data: Stream) -> tuple[Tensor, Tensor]:
    """Log-probabilities (E, T) of the tokens of all utterances, 0 elsewhere, and the hidden layer (E, T, D) before each."""
    logits, hidden = policy(data.ids)
    return logits.log_softmax(-1).gather(2, data.target[..., None]).squeeze(-1) * data.mask, hidden


def summary(dialogues: Sequence[Dialogue]) -> dict[str, float]:
    """Means over dialogues: "return", "solved", "bits" learned by the first 3 turns, and "valid", of utterances."""
    texts = [turn for d in dialogues for turn in d.play.turns]
    return {
        "return": float(np.mean([d.score for d in dialogues])),
        "solved": float(np.mean([d.rewards[-1] == 0 for d in dialogues])),
        "bits": float(np.mean([bits_learned(d.play) for d in dialogues])),
        "valid": float(np.mean([turn.reply in ("yes", "no") for turn in texts])),
    }
