"""The checkpoints that come with the course: small models after supervised fine-tuning, where chapters begin.

`python -m minirl.lm.shipped` lists them; `python -m minirl.lm.shipped chain-S` trains one again, from its seed.
Weights are float16 in a safetensors file beside their manifest, which holds a checksum of each.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from minirl.lm import setup_threads
from minirl.lm.gpt import GPT, GPTConfig
from minirl.lm.rollout import accuracy
from minirl.lm.sft import sft
from minirl.lm.tasks import Prompt
from minirl.lm.tasks.chain import Chain
from minirl.lm.tasks.grid import Grid
from minirl.lm.tasks.review import Review

FOLDER = Path(__file__).with_name("checkpoints")
MANIFEST = FOLDER / "manifest.json"


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is made."""

    task: object  # of minirl.lm.tasks
    width: int
    layers: int
    context: int
    steps: int  # of supervised fine-tuning
    batch: int = 128
    lr: float = 2e-3
    demonstrations: int | None = None  # train on this many fixed prompts; None: fresh ones in every step
    slips: float = 0.0  # share of demonstrations with an error in carrying: what reinforcement learning can mend
    seed: int = 0

    def demonstrate(self, prompt: Prompt, rng: np.random.Generator) -> str:
        """An answer to learn from: right, or with a slip in one of its steps."""
        if self.slips and rng.random() < self.slips:
            return self.task.corrupt(prompt, rng, kinds=("carry",)).text
        return self.task.reference(prompt, rng)


RECIPES = {
    "chain-S": Recipe(Chain(), width=64, layers=3, context=24, steps=2500, slips=0.5),
    "grid-XS": Recipe(Grid(), width=64, layers=2, context=24, steps=1200, batch=64, demonstrations=400),
    "review-S": Recipe(Review(fluency=1.0), width=64, layers=3, context=24, steps=600),
}


def path(name: str) -> Path:
    """Where the weights lie. Raises ValueError for a name that is not shipped."""
    if name not in RECIPES:
        raise ValueError(f"there is no checkpoint {name!r}; shipped: {', '.join(RECIPES)}")
    return FOLDER / f"{name}.safetensors"


def config(name: str) -> GPTConfig:
    """Sizes of a shipped model."""
    recipe = RECIPES[name]
    return GPTConfig(len(recipe.task.tokenizer), recipe.context, recipe.width, recipe.layers)


def train(name: str) -> Iterator[dict]:
    """Train the model `name` from its recipe: a generator of logs; the last one carries the model as "model"."""
    path(name)
    recipe = RECIPES[name]
    model = GPT(config(name), torch.Generator().manual_seed(recipe.seed))
    prompts = None
    if recipe.demonstrations is not None:
        prompts = recipe.task.sample_prompts(recipe.demonstrations, np.random.default_rng(recipe.seed), "train")
    options = {"batch": recipe.batch, "lr": recipe.lr, "seed": recipe.seed, "prompts": prompts}
    for log in sft(model, recipe.task, recipe.steps, demonstrate=recipe.demonstrate, **options):
        yield log | {"model": model}


def load(name: str) -> GPT:
    """A shipped model in float32, ready to sample from or to train on.

    Raises ValueError naming the file and the command that makes it anew, when it is missing or was altered.
    """
    file = path(name)
    remake = f"`python -m minirl.lm.shipped {name}` makes it anew"
    if not file.exists():
        raise ValueError(f"there is no checkpoint at {file}: {remake}")
    if not intact(name):
        raise ValueError(f"{file} is not the file that was shipped (its checksum differs): {remake}")
    try:
        with safe_open(file, framework="pt") as weights:
            fingerprint = (weights.metadata() or {}).get("vocabulary")
            state = {key: weights.get_tensor(key).float() for key in weights.keys()}
    except SafetensorError as error:
        raise ValueError(f"{file} cannot be read ({error}): {remake}") from None
    if fingerprint != RECIPES[name].task.tokenizer.fingerprint:
        raise ValueError(f"{file} was trained with another vocabulary: {remake}")
    model = GPT(config(name), torch.Generator().manual_seed(0))
    model.load_state_dict(state)
    return model


def checksum(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def intact(name: str) -> bool:
    """Does the file exist and have the checksum of the manifest?"""
    known = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    return path(name).exists() and known.get(name, {}).get("sha256") == checksum(path(name))


def save(name: str, model: GPT) -> dict:
    """Write weights (float16) and manifest entry; returns the entry, with accuracy on 512 test prompts."""
    recipe = RECIPES[name]
    FOLDER.mkdir(exist_ok=True)
    state = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    save_file(state, path(name), {"vocabulary": recipe.task.tokenizer.fingerprint})
    known = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    known[name] = {"sha256": checksum(path(name)), **behaviour(name, model)}
    known[name]["recipe"] = {key: value for key, value in asdict(recipe).items() if key != "task"}
    MANIFEST.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    return known[name]


def behaviour(name: str, model: GPT) -> dict[str, float]:
    """Accuracy of a model on 512 test prompts of its task: greedy, and sampled at temperature 1."""
    task = RECIPES[name].task
    prompts = task.sample_prompts(512, np.random.default_rng(12345), "test")
    return {
        kind: round(accuracy(model, task, prompts, max_new=task.max_new, temperature=t), 4)
        for kind, t in (("greedy", 0.0), ("sampled", 1.0))
    }


def main(names: list[str]) -> int:
    """List the checkpoints, or train those that are named."""
    from tqdm import tqdm

    setup_threads()
    if not names or names[0] in ("-h", "--help"):
        print(__doc__)
        for name in RECIPES:
            print(f"{name:<12} {'intact' if intact(name) else 'MISSING OR ALTERED'}")
        return 0
    for name in names:
        path(name)
        with tqdm(total=RECIPES[name].steps, unit="step", desc=name) as bar:
            for log in train(name):
                bar.update(log["step"] - bar.n)
                bar.set_postfix_str(f"loss {log['loss']:.3f}")
        print(name, save(name, log["model"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
