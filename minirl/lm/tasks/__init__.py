"""Tasks with a verifier: each file is one task, and all of them answer the same five questions.

task.tokenizer                                 its vocabulary
task.sample_prompts(n, rng, split)             n prompts of the split "train" or "test"
task.reference(prompt, rng)                    a right answer, as a text
task.verify(prompt, text)                      Result: is this answer right, and which of its steps are
task.all_answers(prompt)                       every right answer, where they can be listed

Which split a prompt belongs to is decided by a hash of its text, so the two never share a prompt.
"""

import zlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prompt:
    """A question: its text, and what the verifier needs to know about it."""

    text: str
    data: tuple = ()


@dataclass(frozen=True)
class StepResult:
    """One step of an answer: its text and whether it is right."""

    text: str
    right: bool


@dataclass(frozen=True)
class Result:
    """What a verifier says of an answer."""

    reward: float  # of the whole answer, in [0, 1] unless the task says otherwise
    steps: tuple[StepResult, ...] = ()
    info: dict = field(default_factory=dict)


def split_of(text: str) -> str:
    """ "test" for one in five texts, "train" for the others: the same on every machine."""
    return "test" if zlib.crc32(text.encode()) % 5 == 0 else "train"


def check_split(split: str) -> None:
    """Raise ValueError unless split is train or test."""
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
