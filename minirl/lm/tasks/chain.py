"""Sums of two-digit numbers, written one step at a time: "27+58+31=" -> "85,116."

Each step is the running total after one more number, so an answer shows where it went wrong. Right answers are unique.
"""

import math
import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minirl.lm.tasks import Prompt, Result, StepResult, check_split, split_of
from minirl.lm.tok import CharTok, Tokenizer

NUMBER = re.compile(r"0|-?[1-9][0-9]{0,5}")
ERRORS = ("carry", "swap", "copy", "skip")  # what `corrupt` can do to a step, see `wrong_total`


@dataclass(frozen=True)
class Corrupted:
    """An answer with errors put into it on purpose."""

    text: str
    labels: tuple[bool, ...]  # is each step right, given the number written before it?
    kinds: tuple[str, ...]  # the error made in each step, "" where none


@dataclass(frozen=True)
class Chain:
    """terms = 3: 729,000 problems without `minus`, one in five of them for testing."""

    terms: int = 3  # how many numbers, 2 to 5
    minus: bool = False  # numbers are also taken away; results can fall below zero
    reward: str = "all"  # 1 if "all" steps are right | if the "outcome" is | share of right "steps"

    def __post_init__(self):
        if not 2 <= self.terms <= 5:
            raise ValueError(f"terms must be 2 to 5, got {self.terms}")
        if self.reward not in ("all", "outcome", "steps"):
            raise ValueError(f"reward must be 'all', 'outcome' or 'steps', got {self.reward!r}")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return CharTok("0123456789+-=,.")

    @property
    def max_new(self) -> int:
        """Tokens of the longest reference: the digits and signs of each total, a mark after it, and <eos>."""
        totals = range(2, self.terms + 1)
        return sum(max(len(str(99 * t)), len(str(10 - 99 * (t - 1))) * self.minus) + 1 for t in totals) + 1

    def sample_prompts(self, n: int, rng: np.random.Generator, split: str) -> list[Prompt]:
        """n independent problems of the split; data = the numbers with their signs."""
        check_split(split)
        prompts = []
        while len(prompts) < n:
            terms = rng.integers(10, 100, self.terms)
            if self.minus:
                terms[1:] *= rng.choice((-1, 1), self.terms - 1)
            text = "".join(f"{term:+d}" for term in terms)[1:] + "="
            if split_of(text) == split:
                prompts.append(Prompt(text, tuple(terms.tolist())))
        return prompts

    def reference(self, prompt: Prompt, rng: np.random.Generator | None = None) -> str:
        """The running totals; nothing in it is random."""
        return written(np.cumsum(prompt.data)[1:].tolist())

    def all_answers(self, prompt: Prompt) -> list[str]:
        """The one answer without a wrong step."""
        return [self.reference(prompt)]

    def verify(self, prompt: Prompt, text: str) -> Result:
        """A step is right if it follows from the number written before it: only the step that errs is to blame.

        info["exact"]: is each step the true running total? Before the first error both agree.
        info["formed"]: are there as many numbers as there should be, with commas between and a full stop at the end?
        """
        first, *rest = prompt.data
        pieces = re.findall(r"[^,.]*[,.]|[^,.]+$", text)
        before, total = first, first
        steps, exact, formed = [], [], len(pieces) == len(rest)
        for i, piece in enumerate(pieces):
            mark = "." if i == len(rest) - 1 else ","
            value = int(piece[:-1]) if piece[-1] == mark and NUMBER.fullmatch(piece[:-1]) else None
            term = rest[i] if i < len(rest) else math.nan  # equal to nothing: nothing is left to add
            total += term
            steps.append(StepResult(piece, None not in (value, before) and value == before + term))
            exact.append(value == total)
            formed &= value is not None
            before = value
        n_right = sum(step.right for step in steps)
        reward = {
            "all": float(formed and n_right == len(rest)),
            "outcome": float(formed and exact[-1]),
            "steps": n_right / max(len(steps), len(rest)),
        }[self.reward]
        return Result(reward, tuple(steps), {"exact": tuple(exact), "formed": formed})

    def steps_left(self, prompt: Prompt, text: str) -> int | None:
        """Fewest steps still to write until an answer, written up to the end of a step, earns reward 1; None if it cannot.

        Under "outcome" a wrong total may still be put right by a later step, under the other rewards it may not.
        """
        finished = self.verify(prompt, text)
        if finished.reward == 1:
            return 0
        missing = len(prompt.data) - 1 - len(finished.steps)
        # With the rest written truly, does the whole verify? The truth is the best that can follow.
        truth = np.cumsum(prompt.data)[1:].tolist()
        if missing < 1 or self.verify(prompt, text + written(truth[-missing:])).reward < 1:
            return None
        return missing

    def corrupt(self, prompt: Prompt, rng: np.random.Generator, errors: int = 1, kinds=ERRORS) -> Corrupted:
        """The reference with errors in `errors` of its steps; later steps go on from the wrong total and are right.

        A swap that would change nothing (33) becomes another of the `kinds`, or else a carry.
        Raises ValueError for more errors than steps, or an unknown kind.
        """
        first, *rest = prompt.data
        if not 0 <= errors <= len(rest):
            raise ValueError(f"{errors} errors do not fit into {len(rest)} steps")
        if unknown := set(kinds) - set(ERRORS):
            raise ValueError(f"unknown kinds of error {sorted(unknown)}; there are {ERRORS}")
        chosen = set(rng.choice(len(rest), errors, replace=False).tolist())
        total, totals, made = first, [], []
        for i, term in enumerate(rest):
            kind = ""
            if i in chosen:
                possible = [k for k in kinds if k != "swap" or wrong_total(k, total, term, rng) != total + term]
                kind = str(rng.choice(possible or ["carry"]))
            total = wrong_total(kind, total, term, rng) if kind else total + term
            totals.append(total)
            made.append(kind)
        return Corrupted(written(totals), tuple(not kind for kind in made), tuple(made))


def written(totals: list[int]) -> str:
    """[85, 116] -> "85,116." """
    return ",".join(map(str, totals)) + "."


def wrong_total(kind: str, before: int, term: int, rng: np.random.Generator) -> int:
    """What before + term becomes by one human error."""
    total = before + term
    if kind == "carry":  # a carry (or borrow) forgotten, or made without need
        units = before % 10 + (term % 10 if term > 0 else -(-term % 10))
        slip = -10 if term > 0 else 10
        return total + slip if not 0 <= units <= 9 else total - slip
    if kind == "swap":  # the last two digits of the result exchanged
        digits = f"{abs(total):02d}"
        swapped = int(digits[:-2] + digits[-1] + digits[-2])
        return swapped if total >= 0 else -swapped
    if kind == "copy":  # the units of the number misread
        units = abs(term) % 10
        misread = abs(term) - units + (units + int(rng.integers(1, 10))) % 10
        return before + (misread if term > 0 else -misread)
    return before  # "skip": the number left out
