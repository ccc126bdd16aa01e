"""Programs from examples: "1>3 2>5 4>9:" -> "x2*1+", run on inputs that the prompt does not show.

A program is written in reverse Polish notation and works on a stack: x and the digits push a number, + - * replace the
two numbers on top by their result, d doubles the top, s swaps the two on top. At the end one number must be left.
A function is known by what it does on the inputs 0 to 10: three of them are shown, the other eight are the hidden tests.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations

import numpy as np

from minirl.lm.tasks import Prompt, Result, StepResult, check_split, split_of
from minirl.lm.tok import CharTok, Tokenizer

INPUTS = tuple(range(11))
SHOWN = 3
LIMIT = 999  # every number is clipped to -999 .. 999


@dataclass(frozen=True)
class Run:
    """What a program did: its outputs, or why there are none."""

    outputs: tuple[int, ...] | None
    error: str = ""


def pushed(symbol: str, inputs: tuple[int, ...]) -> tuple[int, ...]:
    """What x or a digit puts on the stack, for all inputs at once."""
    return inputs if symbol == "x" else (int(symbol),) * len(inputs)


def combined(symbol: str, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """a + b, a - b or a * b for all inputs at once, clipped."""
    if symbol == "+":
        values = [p + q for p, q in zip(a, b, strict=True)]
    elif symbol == "-":
        values = [p - q for p, q in zip(a, b, strict=True)]
    else:
        values = [p * q for p, q in zip(a, b, strict=True)]
    return tuple([LIMIT if v > LIMIT else -LIMIT if v < -LIMIT else v for v in values])


def run(program: str, inputs: tuple[int, ...] = INPUTS) -> Run:
    """Run any text as a program. Every text ends: there are no loops, and what is no program is an error.

    How high the stack is never depends on the input, so all inputs run side by side.
    """
    stack = []
    for i, symbol in enumerate(program, 1):
        if symbol in "x0123":
            stack.append(pushed(symbol, inputs))
        elif symbol in "+-*s":
            if len(stack) < 2:
                return Run(None, f"{symbol!r} at place {i} needs two numbers, the stack holds {len(stack)}")
            a, b = stack[-2:]
            stack[-2:] = [b, a] if symbol == "s" else [combined(symbol, a, b)]
        elif symbol == "d":
            if not stack:
                return Run(None, f"'d' at place {i} needs a number, the stack is empty")
            stack.append(stack[-1])
        else:
            return Run(None, f"{symbol!r} at place {i} is no instruction")
    if len(stack) != 1:
        return Run(None, f"{len(stack)} numbers are left on the stack instead of one")
    return Run(stack[0])


@cache
def functions(max_tokens: int) -> dict[tuple[int, ...], str]:
    """Every function that a program of at most `max_tokens` computes: outputs on INPUTS -> a shortest program for it.

    Programs that leave the same stack behind are the same for all that follows, so only the first of them is kept.
    """
    found, seen, level = {}, set(), {(): ""}
    for length in range(1, max_tokens + 1):
        following = {}
        highest = max_tokens - length + 1  # each token left removes one number at best, and one must remain
        for stack, program in level.items():
            steps = [(symbol, (*stack, pushed(symbol, INPUTS))) for symbol in "x0123"]
            if stack:
                steps.append(("d", (*stack, stack[-1])))
            if len(stack) > 1:
                *rest, a, b = stack
                steps.append(("s", (*rest, b, a)))
                steps += [(symbol, (*rest, combined(symbol, a, b))) for symbol in "+-*"]
            for symbol, new in steps:
                if len(new) <= highest and new not in seen:
                    seen.add(new)
                    following[new] = program + symbol
                    if len(new) == 1:
                        found[new[0]] = program + symbol
        level = following
    return found


@dataclass(frozen=True)
class Rpn:
    """851 functions with the defaults, one in five of them for testing: a test function is never seen in training."""

    reward: str = "fraction"  # of the hidden tests that pass | "all": 1 if all pass
    function_tokens: int = 7  # a target function has a program of at most this many tokens
    max_tokens: int = 9  # a longer program is refused

    def __post_init__(self):
        if self.reward not in ("fraction", "all"):
            raise ValueError(f"reward must be 'fraction' or 'all', got {self.reward!r}")
        if not 3 <= self.function_tokens <= self.max_tokens <= 9:
            raise ValueError(
                f"need 3 <= function_tokens <= max_tokens <= 9, got {self.function_tokens} and {self.max_tokens}"
            )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return CharTok("0123456789x+-*ds> :")

    @property
    def max_new(self) -> int:
        return self.max_tokens + 1  # and <eos>

    @cached_property
    def targets(self) -> dict[str, list[tuple[tuple[int, ...], list[tuple[int, ...]]]]]:
        """Of each split: (outputs, the triples of inputs that may be shown). A triple may be shown if no other
        function of the list agrees on it, so that the examples say which function is meant."""
        outputs = list(functions(self.function_tokens))
        table = np.array(outputs)  # (functions, inputs)
        triples = list(combinations(INPUTS, SHOWN))
        single = np.zeros((len(table), len(triples)), bool)
        for j, triple in enumerate(triples):
            as_one_number = table[:, triple] @ (1, 10**4, 10**8)
            _, index, count = np.unique(as_one_number, return_inverse=True, return_counts=True)
            single[:, j] = count[index] == 1
        found = {"train": [], "test": []}
        for function, row in zip(outputs, single, strict=True):
            if row.any():
                found[split_of(str(function))].append((function, [triples[j] for j in np.flatnonzero(row)]))
        return found

    def sample_prompts(self, n: int, rng: np.random.Generator, split: str) -> list[Prompt]:
        """n prompts, each a random function of the split with three examples; data = (inputs shown, all outputs)."""
        check_split(split)
        prompts = []
        for i in rng.integers(len(self.targets[split]), size=n):
            outputs, triples = self.targets[split][i]
            shown = triples[rng.integers(len(triples))]
            prompts.append(Prompt(" ".join(f"{x}>{outputs[x]}" for x in shown) + ":", (shown, outputs)))
        return prompts

    def reference(self, prompt: Prompt, rng: np.random.Generator | None = None) -> str:
        """A shortest program for the function; nothing in it is random."""
        return functions(self.function_tokens)[prompt.data[1]]

    def verify(self, prompt: Prompt, text: str) -> Result:
        """Run the program on the eight hidden inputs; each is a step. A program with an error passes no test.

        info: "passed" of the hidden tests, "shown" examples met, "error" in words, or "".
        """
        shown, wanted = prompt.data
        if len(text) > self.max_tokens:
            done = Run(None, f"{len(text)} tokens are more than {self.max_tokens}")
        else:
            done = run(text)
        got = done.outputs or (None,) * len(INPUTS)
        steps = tuple([StepResult(f"{x}>{wanted[x]}", got[x] == wanted[x]) for x in INPUTS if x not in shown])
        passed = sum([step.right for step in steps])
        reward = passed / len(steps) if self.reward == "fraction" else float(passed == len(steps))
        return Result(
            reward,
            steps,
            {"passed": passed, "shown": sum([got[x] == wanted[x] for x in shown]), "error": done.error},
        )
