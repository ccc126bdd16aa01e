"""Guessing games of many turns: find a secret with as few questions as possible. The optimum is known exactly.

number()     which number of 0 to 31? "15" -> "<" (15 is smaller than the secret), ">" or "="
questions()  which of 64 creatures? "ask wings?" -> "yes", "say bagu?" -> "no"
mastermind() which of 64 codes of 3 letters a to d? "abc" -> "12": one letter in its place, two in the wrong place

Every turn costs 1 except the one that names the secret, and after `limit` turns the game is over: a return lies
between -limit and 0. All three are one game to the code: a table of replies to each move for each secret.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch

from minirl.lm.gpt import GPT
from minirl.lm.rollout import encode_prompts
from minirl.lm.sample import sample
from minirl.lm.tasks import Prompt, Result, check_split, split_of
from minirl.lm.tok import CharTok, Tokenizer, WordTok

ATTRIBUTES = ("wings", "horns", "fur", "tail", "spots", "fins")


@dataclass(frozen=True)
class Rules:
    """A guessing game with S secrets and M moves."""

    moves: tuple[str, ...]  # M texts; no other text is a move
    replies: tuple[tuple[str, ...], ...]  # M rows of S replies
    names: tuple[int, ...]  # M: the secret that a move names and wins with, -1 for a question
    symbols: tuple[str, ...]  # of the vocabulary: words, or single characters
    invalid: str  # the reply to a text that is no move


def number(n: int = 32) -> Rules:
    """Guess a number below n; the reply compares it with the secret."""
    if not 2 <= n <= 100:
        raise ValueError(f"n must be 2 to 100, got {n}")
    replies = tuple(tuple("<" if i < s else ">" if i > s else "=" for s in range(n)) for i in range(n))
    return Rules(tuple(map(str, range(n))), replies, tuple(range(n)), tuple("0123456789<>=? "), "?")


def questions(attributes: int = 6) -> Rules:
    """Find one of 2^attributes creatures, one for each combination of the attributes. Names say nothing about them."""
    if not 1 <= attributes <= len(ATTRIBUTES):
        raise ValueError(f"attributes must be 1 to {len(ATTRIBUTES)}, got {attributes}")
    asked = ATTRIBUTES[:attributes]
    creatures = list(product((True, False), repeat=attributes))
    syllables = "ba de fi go lu mo ra ti".split()
    names = sorted((a + b for a, b in product(syllables, repeat=2)), key=lambda name: zlib.crc32(name.encode()))
    names = names[: len(creatures)]
    answers = [[creature[i] for creature in creatures] for i in range(attributes)]
    answers += [[s == i for s in range(len(creatures))] for i in range(len(creatures))]
    return Rules(
        tuple([f"ask {a}?" for a in asked] + [f"say {name}?" for name in names]),
        tuple(tuple("yes" if a else "no" for a in row) for row in answers),
        tuple([-1] * attributes + list(range(len(creatures)))),
        ("ask", "say", "?", "yes", "no", "what", *asked, *names),
        "what",
    )


def mastermind(places: int = 3, colours: int = 4) -> Rules:
    """Break a code; the reply counts the letters in their place, then those that stand elsewhere."""
    if not (1 <= places <= 4 and 2 <= colours <= 6 and colours**places <= 100):
        raise ValueError(
            f"at most 100 codes of 1 to 4 places in 2 to 6 colours; got {places} places, {colours} colours"
        )
    codes = ["".join(code) for code in product("abcdef"[:colours], repeat=places)]
    replies = tuple(tuple(pegs(guess, secret) for secret in codes) for guess in codes)
    return Rules(tuple(codes), replies, tuple(range(len(codes))), tuple("abcdef"[:colours] + "01234? "), "?")


def pegs(guess: str, secret: str) -> str:
    """Two digits: letters in the right place, and letters that the secret has elsewhere."""
    exact = sum(a == b for a, b in zip(guess, secret, strict=True))
    return f"{exact}{(Counter(guess) & Counter(secret)).total() - exact}"


@dataclass(frozen=True)
class Turn:
    """One turn as a learner needs it: what was seen, said, answered and earned."""

    prompt: Prompt
    text: str
    reply: str
    reward: float


@dataclass(frozen=True)
class Play:
    """One game in progress. Nothing changes it: `act` returns the next one."""

    secret: int
    candidates: int  # bit s is 1 if secret s fits all replies so far
    turns: tuple[Turn, ...] = ()
    done: bool = False

    @property
    def score(self) -> float:
        """The return so far."""
        return sum(turn.reward for turn in self.turns)


@dataclass(frozen=True)
class Guess:
    """A guessing game, turn by turn (reset, observe, act), and as a task: what to say next in a given transcript.

    The splits are of transcripts, not of secrets: whoever never meets a secret learns never to name it.
    """

    rules: Rules
    limit: int = 8  # turns

    def __post_init__(self):
        if self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}")

    # ------------------------------------------------------------------------------------------- playing

    def start(self, secret: int) -> Play:
        """A new game with this secret."""
        if not 0 <= secret < len(self.rules.replies[0]):
            raise ValueError(f"there are {len(self.rules.replies[0])} secrets, no number {secret}")
        return Play(secret, (1 << len(self.rules.replies[0])) - 1)

    def reset(self, rng: np.random.Generator) -> Play:
        """A new game with a random secret."""
        return self.start(int(rng.integers(len(self.rules.replies[0]))))

    def observe(self, play: Play) -> Prompt:
        """The transcript; data = (candidates, turns left). A text that was no move is left out, its reply is not."""
        gap = " " if self.words else ""
        said = [(t.text + gap if t.text in self.index else "") + t.reply + " " for t in play.turns]
        return Prompt("".join(said), (play.candidates, self.limit - len(play.turns)))

    def act(self, play: Play, text: str) -> Play:
        """Say `text`: the play after it, with reply and reward in its last turn. Raises ValueError when it is over."""
        if play.done:
            raise ValueError(f"the game is over after {len(play.turns)} turns")
        move = self.index.get(text)
        won, candidates, reply = False, play.candidates, self.rules.invalid
        if move is not None:
            reply = self.rules.replies[move][play.secret]
            won = self.rules.names[move] == play.secret
            candidates &= self.masks[move][reply]
        turn = Turn(self.observe(play), text, reply, 0.0 if won else -1.0)
        return Play(play.secret, candidates, (*play.turns, turn), won or len(play.turns) + 1 == self.limit)

    def play(self, plays: Sequence[Play], choose: Callable[[list[Prompt]], list[str]]) -> list[Play]:
        """Play all these games to their end, side by side. choose(transcripts) -> a text for each."""
        plays = list(plays)
        while running := [i for i, play in enumerate(plays) if not play.done]:
            texts = choose([self.observe(plays[i]) for i in running])
            for i, text in zip(running, texts, strict=True):
                plays[i] = self.act(plays[i], text)
        return plays

    def by_model(self, model: GPT, generator: torch.Generator, temperature: float = 1.0):
        """choose(transcripts) -> texts, for `play`: what a model samples."""

        def choose(prompts: list[Prompt]) -> list[str]:
            ids, n_pad = encode_prompts(self.tokenizer, prompts)
            said = sample(model, ids, n_pad, max_new=self.max_new, temperature=temperature, generator=generator)
            return [self.tokenizer.decode(row) for row in said.tokens.tolist()]

        return choose

    # ------------------------------------------------------------------------------------------- the optimum
    # A position is the set of candidates and the turns left. Its cost is the number of turns that the best play does
    # not win, added up over the candidates: whole numbers, so nothing is rounded.

    @cached_property
    def index(self) -> dict[str, int]:
        return {move: i for i, move in enumerate(self.rules.moves)}

    @cached_property
    def masks(self) -> list[dict[str, int]]:
        """For each move and reply the secrets that give this reply, as bits."""
        masks = []
        for row in self.rules.replies:
            masks.append({})
            for s, reply in enumerate(row):
                masks[-1][reply] = masks[-1].get(reply, 0) | 1 << s
        return masks

    @cached_property
    def memo(self) -> dict[tuple, int]:
        return {}

    @cached_property
    def unsolved(self) -> list[list[int]]:
        """The same masks without the secret that the move names and wins with."""
        names = [1 << name if name >= 0 else 0 for name in self.rules.names]
        return [[m & ~won for m in masks.values() if m & ~won] for masks, won in zip(self.masks, names, strict=True)]

    def parts(self, move: int, candidates: int) -> tuple[int, ...]:
        """The sets of candidates that can remain after a move that has not won."""
        return tuple([part for mask in self.unsolved[move] if (part := candidates & mask)])

    def bound(self, n: int, left: int) -> int:
        """No play of n candidates costs less, whatever they are: every move wins and divides as much as any move can."""
        if n <= 1 or left == 0:
            return 0
        key = ("bound", n, left)
        if key not in self.memo:
            costs = [n - wins + self.divided(n - wins, ways, left - 1) for wins, ways in self.powers]
            self.memo[key] = min(costs)
        return self.memo[key]

    def divided(self, n: int, ways: int, left: int) -> int:
        """The smallest sum of bounds of at most `ways` parts with n candidates together."""
        if ways == 1 or n == 0:
            return self.bound(n, left)
        key = ("divided", n, ways, left)
        if key not in self.memo:
            self.memo[key] = min(self.bound(a, left) + self.divided(n - a, ways - 1, left) for a in range(n + 1))
        return self.memo[key]

    @cached_property
    def powers(self) -> set[tuple[int, int]]:
        """(candidates won, parts left) for every move, at the start of the game, where it can do most."""
        return {(int(name >= 0), len(masks)) for name, masks in zip(self.rules.names, self.unsolved, strict=True)}

    def cost(self, candidates: int, left: int) -> int:
        """Cost of a position under the best play, by dynamic programming with a bound (branch and bound)."""
        n = candidates.bit_count()
        if n <= 1 or left == 0:
            return 0
        if (candidates, left) not in self.memo:
            splits = {self.parts(m, candidates) for m in range(len(self.rules.moves))}
            splits.discard((candidates,))  # a move that tells nothing
            best = n * left
            for estimate, split in sorted((self.estimate(split, left), split) for split in splits):
                if estimate >= best:
                    break
                best = min(best, self.after(split, left))
            self.memo[candidates, left] = best
        return self.memo[candidates, left]

    def estimate(self, split: Sequence[int], left: int) -> int:
        """A lower bound on `after`."""
        sizes = [part.bit_count() for part in split]
        return sum(sizes) + sum(self.bound(n, left - 1) for n in sizes)

    def after(self, split: Sequence[int], left: int) -> int:
        """Cost of a position from a move on that leaves these parts."""
        return sum(part.bit_count() + self.cost(part, left - 1) for part in split)

    def value(self, prompt: Prompt) -> float:
        """Expected return from here on of the best play, every candidate as likely as the others."""
        candidates, left = prompt.data
        return -self.cost(candidates, left) / candidates.bit_count()

    def all_answers(self, prompt: Prompt) -> list[str]:
        """Every optimal move."""
        candidates, left = prompt.data
        best = self.cost(candidates, left)
        splits = [self.parts(m, candidates) for m in range(len(self.rules.moves))]
        good = [self.estimate(split, left) <= best and self.after(split, left) == best for split in splits]
        return [move for move, g in zip(self.rules.moves, good, strict=True) if g]

    # ------------------------------------------------------------------------------------------- the task

    @property
    def words(self) -> bool:
        return any(len(symbol) > 1 for symbol in self.rules.symbols)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return WordTok(self.rules.symbols) if self.words else CharTok("".join(self.rules.symbols))

    @cached_property
    def max_new(self) -> int:
        return max(len(self.tokenizer.encode(move)) for move in self.rules.moves) + 1  # and <eos>

    @property
    def context(self) -> int:
        """Tokens that a model must be able to see: <bos>, the longest transcript and the last answer."""
        replies = {reply for row in self.rules.replies for reply in row}
        reply = max(len(self.tokenizer.encode(f"{reply} ")) for reply in replies)
        return 1 + (self.limit - 1) * (self.max_new - 1 + reply) + self.max_new

    def random_move(self, prompt: Prompt, rng: np.random.Generator) -> str:
        """A weak player: half the time it names a candidate, half the time it makes a random move (a question, if any)."""
        if rng.random() < 0.5:
            fitting = [m for m, name in enumerate(self.rules.names) if name >= 0 and prompt.data[0] >> name & 1]
        else:
            fitting = [m for m, name in enumerate(self.rules.names) if name < 0] or range(len(self.rules.moves))
        return self.rules.moves[rng.choice(fitting)]

    def sample_prompts(self, n: int, rng: np.random.Generator, split: str) -> list[Prompt]:
        """n transcripts of unfinished games, a random number of turns long, played by `random_move`."""
        check_split(split)
        prompts = []
        while len(prompts) < n:
            play = self.reset(rng)
            for _ in range(rng.integers(self.limit)):
                play = self.act(play, self.random_move(self.observe(play), rng))
                if play.done:
                    break
            prompt = self.observe(play)
            if not play.done and split_of(prompt.text) == split:
                prompts.append(prompt)
        return prompts

    def reference(self, prompt: Prompt, rng: np.random.Generator) -> str:
        """One of the optimal moves."""
        return str(rng.choice(self.all_answers(prompt)))

    def verify(self, prompt: Prompt, text: str) -> Result:
        """1 for an optimal move, else 0. info: "value" of the position and "action_value" of the move, both expected
        returns; a text that is no move costs a turn and tells nothing."""
        candidates, left = prompt.data
        n, best = candidates.bit_count(), self.cost(candidates, left)
        move = self.index.get(text)
        cost = self.after([candidates] if move is None else self.parts(move, candidates), left)
        return Result(float(cost == best), info={"value": -best / n, "action_value": -cost / n})
