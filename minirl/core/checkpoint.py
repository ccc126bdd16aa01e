"""Trained agents on disk: safetensors with the configuration beside the weights. Nothing is ever unpickled."""

import dataclasses
import importlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from minirl.papers import PAPERS, paper


def agent_module(slug: str):
    """The algorithm file of a ready paper. Raises UnknownPaper, or ValueError when it is planned."""
    record = paper(slug)
    if record.status != "ready":
        ready = ", ".join(p.slug for p in PAPERS if p.status == "ready")
        raise ValueError(f"{slug} is planned, there is nothing to train yet; ready: {ready}")
    return importlib.import_module(f"minirl.{record.part}.{slug}")


def agent_class(module) -> type:
    """The one class of an algorithm file that has a `learn` method."""
    found = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and c.__module__ == module.__name__ and hasattr(c, "learn")
    ]
    if len(found) != 1:
        raise ValueError(f"{module.__name__} has {len(found)} classes with a `learn` method, need one")
    return found[0]


def save(agent: nn.Module, slug: str, step: int, path: Path) -> None:
    """Write weights and configuration; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"slug": slug, "step": str(step), "config": json.dumps(dataclasses.asdict(agent.config))}
    partial = path.with_suffix(".partial")
    save_file(agent.state_dict(), partial, metadata)
    partial.rename(path)


def load(path: Path) -> nn.Module:
    """The agent saved at `path`, ready to act. Raises ValueError naming the file when it is missing or damaged."""
    remake = "`minirl train <slug>` makes a new one"
    if not Path(path).exists():
        raise ValueError(f"there is no checkpoint at {path}: {remake}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}
        module = agent_module(metadata["slug"])
        fields = {f.name for f in dataclasses.fields(module.Config)}
        config = json.loads(metadata["config"])
        if set(config) != fields:
            raise ValueError(f"its configuration does not fit this version: {sorted(set(config) ^ fields)}")
        config = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
        agent = agent_class(module)(module.Config(**config))
        agent.load_state_dict(state)
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{path} is not a checkpoint that can be read ({str(error).splitlines()[0]}): {remake}"
        ) from None
    return agent
