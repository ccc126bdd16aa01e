"""Where ArCHer begins: a policy that imitates a weak questioner, and a critic that has seen it play.

`python -m minirl.agents.archer_start` makes both again from their seeds and writes them, as float16 in a safetensors
file beside a manifest with its checksum. The policy is fine-tuned on `DIALOGUES` dialogues of the weak questioner of
minirl.lm.tasks.twenty_questions; the critic then learns from dialogues of that policy, which stands still.

The paper's models are pretrained on much text and know what a dog is, and what a sentence. Ours must learn both here,
from the dialogues alone: while it imitates, two further heads, thrown away afterwards, must name the object after each
reply and foresee the reply to each utterance, nonsense included. Without them it hardly links a reply to an object.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from minirl.lm import setup_threads
from minirl.lm.dialogues import Stream, converse, recorded, stream, summary, token_logp
from minirl.lm.gpt import GPT, GPTConfig
from minirl.lm.rl_core import masked_mean
from minirl.lm.tasks import Prompt
from minirl.lm.tasks.twenty_questions import ATTRIBUTES, OBJECTS, PHRASINGS, TwentyQuestions, rules

TASK = TwentyQuestions(rules(16), limit=8)
FILE = Path(__file__).with_name("checkpoints") / "archer.safetensors"
MANIFEST = FILE.with_suffix(".json")
REMAKE = "`python -m minirl.agents.archer_start` makes it anew"

REPLIES = ("yes", "no", "invalid question")

DIALOGUES = 30_000  # of the weak questioner
STEPS = 8000  # of fine-tuning, each on 32 dialogues
WARMUP = 6  # iterations of the shipped critic: 64 dialogues and 40 critic steps each


def new_policy(task: TwentyQuestions = TASK, seed: int = 0, width: int = 64, layers: int = 2) -> GPT:
    """An untrained policy, with room for the longest dialogue: <bos>, and an utterance and a reply a turn."""
    replies = ("yes", task.rules.invalid)
    turn = task.max_new + max(len(task.tokenizer.encode(r)) for r in replies)
    sizes = GPTConfig(len(task.tokenizer), 1 + task.limit * turn, width, layers)
    return GPT(sizes, torch.Generator().manual_seed(seed))


def fine_tune(policy: GPT, task: TwentyQuestions = TASK, steps: int = STEPS, seed: int = 0) -> Iterator[dict]:
    """Maximum likelihood of the weak questioner's utterances: a generator of {"step", "progress", "loss"}."""
    from minirl.agents.archer import step

    rng = np.random.default_rng(seed)
    plays = [task.reset(rng) for _ in range(DIALOGUES)]
    plays = task.play(plays, lambda prompts: [spoken(task, p, rng) for p in prompts])
    data = [recorded(task, play) for play in plays]
    secrets = torch.tensor([d.play.secret for d in data])
    replies = [torch.tensor([REPLIES.index(turn.reply) for turn in d.play.turns]) for d in data]
    heads = nn.ModuleList([nn.Linear(policy.config.width, n) for n in (task.secrets, len(REPLIES))])
    for head in heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    both = nn.ModuleList([policy, heads])
    optimiser = torch.optim.AdamW(both.parameters(), lr=2e-3, weight_decay=0.01)
    for i in range(steps):
        rows = rng.integers(len(data), size=32)
        part, reply = stream([data[j] for j in rows]), torch.cat([replies[j] for j in rows])
        logp, hidden = token_logp(policy, part)
        sentence = (reply < 2).float()[turn_of(part)] * part.mask  # nonsense is not imitated
        before, after = (at(hidden, columns)[part.real] for columns in (part.ends, part.last))
        named = F.cross_entropy(heads[0](before), secrets[rows][:, None].expand_as(part.real)[part.real])
        replied = F.cross_entropy(heads[1](after), reply)
        loss = -masked_mean(logp, sentence)
        optimiser.param_groups[0]["lr"] = 2e-3 * min((i + 1) / 50, 1 - 0.9 * i / steps)
        weight = 1.0 if i < 0.7 * steps else 0.2
        step(optimiser, loss + weight * (named + replied), both, 1.0)
        if (i + 1) % 25 == 0 or i + 1 == steps:
            log = {"loss": loss.item(), "naming": named.item(), "reply": replied.item()}
            yield {"step": i + 1, "progress": (i + 1) / steps, **log}


def spoken(task: TwentyQuestions, prompt: Prompt, rng: np.random.Generator) -> str:
    """The weak questioner's move, or one time in six nonsense: pieces of sentences, or a word in the wrong sentence."""
    text = task.random_move(prompt, rng)
    chance = rng.random()
    if chance > 1 / 6:
        return text
    if chance > 1 / 12:
        words = [*ATTRIBUTES, *OBJECTS[: task.secrets]]
        phrasings = [phrasing for kind in PHRASINGS.values() for phrasing in kind]
        return str(rng.choice(phrasings)).format(rng.choice(words))  # one time in three it is a sentence after all
    tokens = task.tokenizer.encode(text + " " + task.random_move(prompt, rng))
    start = int(rng.integers(3)) if rng.random() < 0.5 else 0
    return task.tokenizer.decode(tokens[start : start + int(rng.integers(1, task.max_new))], special=True)


def turn_of(part: Stream) -> Tensor:
    """(E, T): the number of the turn, of B, whose utterance each column belongs to; 0 before the first."""
    number = torch.zeros_like(part.ids)
    number[part.real.nonzero()[:, 0], part.ends[part.real]] = 1
    return (number.flatten().cumsum(0) - 1).clamp_min(0).view_as(part.ids)


def at(hidden: Tensor, columns: Tensor) -> Tensor:
    """hidden (E, T, D) at columns (E, H): (E, H, D)."""
    return hidden.gather(1, columns[..., None].expand(-1, -1, hidden.shape[-1]))


def weights() -> dict[str, Tensor]:
    """The shipped weights in float32, names with "policy." or "critic." in front.

    Raises ValueError naming the file and the command that makes it anew, when it is missing or was altered.
    """
    if not FILE.exists() or not MANIFEST.exists():
        raise ValueError(f"there is no checkpoint at {FILE}: {REMAKE}")
    known = json.loads(MANIFEST.read_text())
    if hashlib.sha256(FILE.read_bytes()).hexdigest() != known["sha256"]:
        raise ValueError(f"{FILE} is not the file that was shipped (its checksum differs): {REMAKE}")
    if known["vocabulary"] != TASK.tokenizer.fingerprint:
        raise ValueError(f"{FILE} was trained with another vocabulary: {REMAKE}")
    try:
        with safe_open(FILE, framework="pt") as file:
            return {name: file.get_tensor(name).float() for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{FILE} cannot be read ({error}): {REMAKE}") from None


def part(name: str) -> dict[str, Tensor]:
    """State of the shipped "policy" or "critic", for load_state_dict."""
    return {key.removeprefix(f"{name}."): value for key, value in weights().items() if key.startswith(f"{name}.")}


def policy() -> GPT:
    """The fine-tuned policy."""
    model = new_policy()
    model.load_state_dict(part("policy"))
    return model


def make() -> dict:
    """Train policy and critic, write them, and return the manifest."""
    from tqdm import tqdm

    from minirl.agents.archer import ArCHer, Config

    model = new_policy()
    with tqdm(total=STEPS, unit="step") as bar:
        for log in fine_tune(model):
            bar.update(log["step"] - bar.n)
            bar.set_postfix_str(f"loss {log['loss']:.3f}")
    agent = ArCHer(Config(warmup=WARMUP, seed=1000), TASK, model)
    critic = [log["critic_loss"] for log in tqdm(agent.learn(WARMUP), total=WARMUP)]
    agent.draw.manual_seed(0)
    rng = np.random.default_rng(0)
    played = summary(converse(TASK, [TASK.reset(rng) for _ in range(1024)], agent.act))
    state = {f"policy.{k}": v for k, v in model.state_dict().items()}
    state |= {f"critic.{k}": v for k, v in agent.critic.state_dict().items()}
    FILE.parent.mkdir(exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in state.items()}, FILE)
    manifest = {"sha256": hashlib.sha256(FILE.read_bytes()).hexdigest(), "vocabulary": TASK.tokenizer.fingerprint}
    manifest |= {"recipe": {"dialogues": DIALOGUES, "steps": STEPS, "warmup": WARMUP}}
    manifest |= {key: log[key] for key in ("loss", "naming", "reply")}
    manifest |= {"critic_loss": critic[-1], **played}
    MANIFEST.write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


if __name__ == "__main__":
    setup_threads()
    print(json.dumps(make(), indent=1))
    sys.exit(0)
