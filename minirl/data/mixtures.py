"""Data made by our own SAC: one training run of an environment gives every set of its family.

    random           uniformly random actions
    medium           the first checkpoint that is a third of the way from random to expert, exploring as SAC does
    medium-replay    what the training run had seen when it reached that checkpoint, at most the last `size` transitions
    expert           the last checkpoint, exploring as SAC does
    medium-expert    half medium, half expert
    random-expert-p  p % expert, the rest random

References of the normalised score: mean returns over the same number of episodes of random actions and of the last
checkpoint without exploration.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from minirl.core.checkpoint import agent_class, agent_module
from minirl.core.evaluate import evaluate
from minirl.core.replay import ReplayBuffer
from minirl.core.rollout import rollout
from minirl.core.seeding import env_seed, torch_generator
from minirl.data.dataset import OfflineData, concatenate, take
from minirl.data.recipes import Recipe, meta
from minirl.data.record import columns, episode_ids, record


@dataclass(frozen=True)
class Family:
    """One training run and the sizes of what is recorded from it."""

    env_id: str
    steps: int  # environment steps of the training run
    size: int  # transitions of every set
    eval_every: int  # steps between checkpoints
    hidden: tuple[int, ...] = (256, 256)
    lr: float = 3e-4
    batch_size: int = 256
    warmup: int = 1_000
    episodes: int = 20  # of every evaluation
    copies: int = 10  # environments side by side while recording


FAMILIES = {
    "pendulum": Family("Pendulum-v1", 8_000, 20_000, 500, (64, 64), 1e-3, 128, 500),
    "hopper": Family("Hopper-v5", 60_000, 50_000, 2_500),
}
LEVELS = {
    "random": "uniformly random actions",
    "medium": "SAC a third of the way from random to expert",
    "medium-replay": "what SAC had seen until it was medium",
    "expert": "SAC at the end of its training",
    "medium-expert": "half medium, half expert",
    "random-expert-5": "5 % expert, 95 % random",
    "random-expert-10": "10 % expert, 90 % random",
    "random-expert-30": "30 % expert, 70 % random",
}
MEDIUM = 1 / 3  # of the way from random to expert


def training(spec: Family, seed: int) -> Iterator[dict]:
    """SAC from scratch, keeping what it saw. Logs; the last one also carries "run": (agent, checkpoints, columns).

    checkpoints: [(step, mean return without exploration, state of the agent)]. columns: the transitions, in order.
    """
    sac = agent_module("sac")
    fields = {name: getattr(spec, name) for name in ("env_id", "hidden", "lr", "batch_size", "warmup")}
    agent = agent_class(sac)(sac.Config(**fields, alpha_lr=spec.lr, seed=seed))
    buffer = ReplayBuffer(spec.steps, agent.obs_dim, agent.action_dim)
    generator, uniform = torch_generator(seed, 2), np.random.default_rng(env_seed(seed, 1))
    seen, checkpoints = [], []

    def behaviour(obs: np.ndarray) -> np.ndarray:
        return uniform.uniform(-1, 1, (1, agent.action_dim)) if len(seen) < spec.warmup else agent.act(obs)

    for t in rollout(agent.envs, behaviour, env_seed(seed)):
        seen.append(t)
        buffer.add(t.obs, t.action, t.reward, t.next_obs, t.terminated)
        if len(seen) > spec.warmup:
            agent.update(buffer.sample(spec.batch_size, generator))
        if len(seen) % spec.eval_every == 0 or len(seen) == spec.steps:
            state = {key: value.clone() for key, value in agent.state_dict().items() if key.startswith("actor")}
            checkpoints.append((len(seen), greedy_return(agent, spec), state))
            yield {"progress": len(seen) / spec.steps, "return": checkpoints[-1][1]}
        if len(seen) == spec.steps:
            break
    parts = [np.concatenate([getattr(t, f) for t in seen]) for f in ("obs", "action", "reward", "next_obs")]
    flags = [np.concatenate([getattr(t, f) for t in seen]) for f in ("terminated", "truncated")]
    yield {"progress": 1.0, "run": (agent, checkpoints, columns(*parts, *flags, episode_ids(flags[0] | flags[1])))}


def greedy_return(agent, spec: Family) -> float:
    """Mean return of the policy without exploration."""
    return float(evaluate(lambda obs: agent.act(obs, deterministic=True), spec.env_id, spec.episodes).mean())


def build(family: str, name: str, seed: int, spec: Family | None = None) -> Iterator[dict]:
    """Train, then record every level of the family. Logs; the last one carries "sets".

    Raises ValueError when the training run never got better than random actions: then there is no medium and no expert.
    """
    spec = spec or FAMILIES[family]
    for log in training(spec, seed):
        yield {key: 0.9 * value if key == "progress" else value for key, value in log.items() if key != "run"}
    agent, checkpoints, replayed = log["run"]
    uniform = np.random.default_rng(env_seed(seed, 3))
    random_act = lambda obs: uniform.uniform(-1, 1, (len(obs), agent.action_dim))  # noqa: E731
    low = float(evaluate(random_act, spec.env_id, spec.episodes).mean())
    high = checkpoints[-1][1]
    if not high > low:
        raise ValueError(f"{family}, seed {seed}: SAC ended at {high:.1f}, random actions get {low:.1f}; train longer")
    step, _, state = next(c for c in checkpoints if c[1] >= low + MEDIUM * (high - low))
    expert, medium = agent, deepcopy_actor(agent, state)

    def about(level: str, made_by: str) -> dict:
        return meta(f"{family}-{level}", recipe_of(family, level, spec), seed, made_by, low, high)

    actors = {"random": random_act, "medium": medium.act, "expert": expert.act}
    told = {
        "random": "uniformly random actions",
        "medium": f"SAC after {step:,} steps, sampling its actions",
        "expert": f"SAC after {spec.steps:,} steps, sampling its actions",
    }
    sets = {}
    for i, (level, act) in enumerate(actors.items()):
        start = env_seed(seed, 4 + i)
        sets[level] = record(act, spec.env_id, spec.size, start, about(level, told[level]), spec.copies)
        yield {"progress": 0.9 + 0.03 * (i + 1)}
    last = {key: value[max(0, step - spec.size) : step] for key, value in replayed.items()}
    last["episode_id"] = last["episode_id"] - last["episode_id"][0]
    sets["medium-replay"] = OfflineData(**last, meta=about("medium-replay", f"SAC while it learned, {step:,} steps"))
    half = [take(sets[level], spec.size // 2, sets[level].meta) for level in ("medium", "expert")]
    sets["medium-expert"] = concatenate(half, about("medium-expert", "half medium, half expert"))
    for percent in (5, 10, 30):
        level, n = f"random-expert-{percent}", spec.size * percent // 100
        parts = [take(sets["random"], spec.size - n, sets["random"].meta), take(sets["expert"], n, sets["expert"].meta)]
        sets[level] = concatenate(parts, about(level, f"{percent} % expert, the rest random"))
    yield {"progress": 1.0, "sets": {f"{family}-{level}": data for level, data in sets.items()}}


def deepcopy_actor(agent, state: dict):
    """The agent as it acted at a checkpoint: `state` holds the parameters of its actor."""
    old = agent_class(agent_module("sac"))(agent.config)
    old.load_state_dict({**deepcopy(agent.state_dict()), **state})
    return old


def recipe_of(family: str, level: str, spec: Family) -> Recipe:
    """The recipe of one set."""
    parameters = {"level": level, **asdict(spec)}
    return Recipe(spec.env_id, LEVELS[level], partial(build, family), parameters, instant=False)


MIXTURES = {
    f"{family}-{level}": recipe_of(family, level, spec) for family, spec in FAMILIES.items() for level in LEVELS
}
