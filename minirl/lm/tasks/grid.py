"""Shortest paths on an empty board: "20>04:" -> "LUULUU." A problem has many right answers, and their number is known.

A place is two digits, column then row; the answer walks Up, Down, Left, Right and ends with a full stop.
One wrong move cannot be made good: a path that leaves the shortest ones is longer than they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from math import comb

import numpy as np

from minirl.lm.tasks import Prompt, Result, StepResult, check_split, split_of
from minirl.lm.tok import CharTok, Tokenizer

MOVES = {"U": (0, 1), "D": (0, -1), "L": (-1, 0), "R": (1, 0)}  # change of (column, row)


@dataclass(frozen=True)
class Grid:
    """9 x 9: 5,180 problems with 1 to 252 right answers, one in five of them for testing."""

    size: int = 9  # columns and rows, 2 to 10 (a coordinate is one digit)
    min_distance: int = 3  # moves of a shortest path
    max_distance: int = 10

    def __post_init__(self):
        if not 2 <= self.size <= 10:
            raise ValueError(f"size must be 2 to 10, got {self.size}")
        if not 1 <= self.min_distance <= self.max_distance <= 2 * (self.size - 1):
            raise ValueError(
                f"need 1 <= min_distance <= max_distance <= {2 * (self.size - 1)}, "
                f"got {self.min_distance} and {self.max_distance}"
            )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return CharTok("0123456789>:UDLR.")

    @property
    def max_new(self) -> int:
        return self.max_distance + 2  # the full stop and <eos>

    @cached_property
    def prompts(self) -> dict[str, list[Prompt]]:
        """Every problem of each split; data = (column, row) of the start and of the goal."""
        found = {"train": [], "test": []}
        for a, b, c, d in product(range(self.size), repeat=4):
            if self.min_distance <= abs(c - a) + abs(d - b) <= self.max_distance:
                text = f"{a}{b}>{c}{d}:"
                found[split_of(text)].append(Prompt(text, ((a, b), (c, d))))
        return found

    def sample_prompts(self, n: int, rng: np.random.Generator, split: str) -> list[Prompt]:
        """n problems of the split, drawn with replacement. For distinct ones draw from `prompts[split]`."""
        check_split(split)
        if not self.prompts[split]:
            raise ValueError(f"a board of {self.size} with these distances has no problem in the split {split!r}")
        return [self.prompts[split][i] for i in rng.integers(len(self.prompts[split]), size=n)]

    def count(self, prompt: Prompt) -> int:
        """How many answers are right: the ways to order the horizontal among all moves."""
        (a, b), (c, d) = prompt.data
        return comb(abs(c - a) + abs(d - b), abs(c - a))

    def all_answers(self, prompt: Prompt) -> list[str]:
        """Every right answer, `count(prompt)` of them."""
        (a, b), (c, d) = prompt.data
        across, up = "R" if c > a else "L", "U" if d > b else "D"
        n = abs(c - a) + abs(d - b)
        ways = combinations(range(n), abs(c - a))
        return ["".join(across if i in way else up for i in range(n)) + "." for way in map(set, ways)]

    def reference(self, prompt: Prompt, rng: np.random.Generator) -> str:
        """One of the right answers; each is as likely as any other."""
        (a, b), (c, d) = prompt.data
        moves = ("R" if c > a else "L") * abs(c - a) + ("U" if d > b else "D") * abs(d - b)
        return "".join(rng.permutation(list(moves))) + "."

    def verify(self, prompt: Prompt, text: str) -> Result:
        """1 for a shortest path with its full stop, else 0. A step is a move, right if it comes nearer to the goal.

        info["distance"]: moves from where the path ends to the goal. A move off the board stays where it is.
        """
        (x, y), (goal_x, goal_y) = prompt.data
        distance = abs(goal_x - x) + abs(goal_y - y)
        steps = []
        for symbol in text.removesuffix("."):
            dx, dy = MOVES.get(symbol, (0, 0))
            if 0 <= x + dx < self.size and 0 <= y + dy < self.size:
                x, y = x + dx, y + dy
            before, distance = distance, abs(goal_x - x) + abs(goal_y - y)
            steps.append(StepResult(symbol, distance < before))
        right = text.endswith(".") and distance == 0 and all(step.right for step in steps)
        return Result(float(right), tuple(steps), {"distance": distance})

    def distinct_right(self, prompt: Prompt, texts: Iterable[str]) -> int:
        """How many different right answers are among these: the measure of diversity."""
        return sum(self.verify(prompt, text).reward == 1 for text in set(texts))
