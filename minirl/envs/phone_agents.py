"""Agents and data for PhoneSim that several chapters share: networks, roll-outs, offline data, and the base agent.

The base agent is behaviour cloning of `habit_row`, of its probabilities: a policy that knows the phone, slips like a person
and has bad habits on some screens. It learns first on the screens that a noisy oracle visits, then on those it visits
itself, as in DAgger (Ross, Gordon, Bagnell, AISTATS 2011). Its weights come with the course; `python -m
minirl.envs.phone_agents` trains them again from the seed.
Letters: B batch, N phones side by side, n transitions, M frames, A actions.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from minirl.core.seeding import env_seed, torch_generator
from minirl.envs.phone import (
    ACTIONS,
    CELLS,
    COLS,
    GOAL_IDS,
    GOALS,
    PIXELS,
    ROWS,
    SPLITS,
    VOCABULARY,
    PhoneConfig,
    PhoneSim,
    State,
)
from minirl.envs.phone_oracle import World, habit_row, noisy_row

# --------------------------------------------------------------------------------------------------------- networks


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """PyTorch's own uniform start for every layer, but drawn from `generator`; embeddings get standard normal rows."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            bound = part.weight[0].numel() ** -0.5
            with torch.no_grad():
                part.weight.uniform_(-bound, bound, generator=generator)
                part.bias.uniform_(-bound, bound, generator=generator)
        elif isinstance(part, nn.Embedding):
            with torch.no_grad():
                part.weight.normal_(generator=generator)


def to_input(pixels: np.ndarray | Tensor) -> Tensor:
    """Frames (B, 60, 40, 3) uint8 -> (B, 3, 60, 40) in [-1/2, 1/2]. Raises ValueError for another shape or type."""
    pixels = torch.as_tensor(pixels if isinstance(pixels, Tensor) else np.require(pixels, requirements="W"))
    if pixels.dtype != torch.uint8 or tuple(pixels.shape[1:]) != PIXELS:
        raise ValueError(f"frames must be (B, {', '.join(map(str, PIXELS))}) uint8, got {tuple(pixels.shape)}")
    return pixels.permute(0, 3, 1, 2).float().div_(255).sub_(0.5)


def embedding(rows: int, width: int) -> nn.Embedding:
    """A table of zeros, to be filled from a generator; PyTorch's own constructor would draw from the global one."""
    return nn.Embedding.from_pretrained(torch.zeros(rows, width), freeze=False)


class GoalWords(nn.Module):
    """Word ids (B, 16) -> the mean of their embeddings (B, D)."""

    def __init__(self, width: int):
        super().__init__()
        self.table = embedding(VOCABULARY, width)

    def forward(self, words: Tensor) -> Tensor:
        real = (words > 0).float()
        return (self.table(words) * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp_min(1)


class ScreenEncoder(nn.Module):
    """Frames (B, 60, 40, 3) uint8 -> features (B, 54, 66) of the cells: 64 of what is there and 2 of the place. Knows no goal."""

    width = 66

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        y, x = torch.meshgrid(torch.linspace(-1, 1, ROWS), torch.linspace(-1, 1, COLS), indexing="ij")
        self.register_buffer("place", torch.stack([x, y], -1).reshape(1, CELLS, 2), persistent=False)

    def forward(self, pixels: np.ndarray | Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(to_input(pixels)))))  # (B, 32, 15, 10)
        mean, most = F.adaptive_avg_pool2d(x, (ROWS, COLS)), F.adaptive_max_pool2d(x, (ROWS, COLS))
        cells = torch.cat([mean, most], 1).flatten(2).transpose(1, 2)
        return torch.cat([cells, self.place.expand(len(cells), -1, -1)], 2)


class PolicyHead(nn.Module):
    """Cell features (B, 54, 66) and words (B, 16) -> logits (B, 61).

    The goal and a summary of the whole screen scale and shift the features of every cell (FiLM), and ask for a feature by a
    dot product; both give the logit of tapping a cell. The seven other actions depend on goal, summary and the best cells.
    """

    context_width, features_width = 96, 97

    def __init__(self, generator: torch.Generator, width: int = 48):
        super().__init__()
        self.words = GoalWords(width)
        self.screen = nn.Linear(CELLS * ScreenEncoder.width, 32)
        self.both = nn.Linear(32 + width, self.context_width)
        self.film = nn.Linear(96, 2 * width)
        self.cell = nn.Linear(ScreenEncoder.width, width)
        self.key, self.query = nn.Linear(ScreenEncoder.width, width), nn.Linear(96, width)
        self.mix = nn.Linear(width, 32)
        self.tap = nn.Linear(32, 1)
        self.rest = nn.Sequential(nn.Linear(96 + 32, 64), nn.ReLU(), nn.Linear(64, ACTIONS - CELLS))
        initialise(self, generator)

    def context(self, cells: Tensor, words: Tensor) -> Tensor:
        """The whole screen in the light of the goal, (B, 96)."""
        summary = F.relu(self.screen(cells.flatten(1)))
        return F.relu(self.both(torch.cat([summary, self.words(words)], 1)))

    def parts(self, cells: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of every cell features (B, 54, 32) and how well it matches what is looked for (B, 54, 1); of the rest (B, 128)."""
        context = self.context(cells, words)
        scale, shift = self.film(context)[:, None].chunk(2, 2)
        x = F.relu(self.mix(F.relu(self.cell(cells) * (1 + scale) + shift)))
        match = self.key(cells) @ self.query(context)[:, :, None]
        return x, match, torch.cat([context, x.amax(1)], 1)

    def forward(self, cells: Tensor, words: Tensor) -> Tensor:
        x, match, rest = self.parts(cells, words)
        return torch.cat([(self.tap(x) + match).squeeze(2), self.rest(rest)], 1)

    def features(self, cells: Tensor, words: Tensor, action: Tensor) -> Tensor:
        """(B, N, 97) what the last layers see of the actions (B, N): 33 numbers of the tapped cell, or 64 for one that is no tap."""
        x, match, rest = self.parts(cells, words)
        tap, place = (action < CELLS)[..., None], action.clamp_max(CELLS - 1)[..., None].expand(-1, -1, 33)
        under = torch.cat([x, match], 2).gather(1, place)
        hidden = self.rest[:2](rest)[:, None].expand(-1, action.shape[1], -1)
        return torch.cat([torch.where(tap, under, 0.0), torch.where(tap, 0.0, hidden)], 2)


class PhonePolicy(nn.Module):
    """A policy on pixels and words: logits (B, 61) = head(encoder(pixels), words)."""

    def __init__(self, generator: torch.Generator):
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator before we draw from ours
            self.encoder = ScreenEncoder()
            initialise(self.encoder, generator)
            self.head = PolicyHead(generator)

    def forward(self, pixels: np.ndarray | Tensor, words: np.ndarray | Tensor) -> Tensor:
        return self.head(self.encoder(pixels), torch.as_tensor(words))


# --------------------------------------------------------------------------------------------------------- roll-outs

Actor = Callable[[np.ndarray, np.ndarray, list[PhoneSim]], np.ndarray]
"""pixels (N, 60, 40, 3), words (N, 16), the phones (for oracles only) -> probabilities (N, 61)."""


def network_actor(policy: nn.Module, temperature: float = 1.0) -> Actor:
    """A network as an actor: softmax of its logits over the temperature (0: the best action)."""

    @torch.no_grad()
    def act(pixels: np.ndarray, words: np.ndarray, phones: list[PhoneSim]) -> np.ndarray:
        logits = policy(pixels, words)
        if temperature == 0:
            return F.one_hot(logits.argmax(1), ACTIONS).numpy()
        return torch.softmax(logits.double() / temperature, 1).numpy()

    return act


class NoisyActor:
    """`noisy_row` (or `habit_row`) of every phone, with the worlds it needs found once an episode. eps as there."""

    def __init__(self, eps: float, row: Callable[[World, State, float], np.ndarray] = noisy_row):
        self.eps, self.row, self.worlds = eps, row, {}

    def __call__(self, pixels: np.ndarray, words: np.ndarray, phones: list[PhoneSim]) -> np.ndarray:
        rows = []
        for phone in phones:
            if phone.state.ruined:
                rows.append(np.full(ACTIONS, 1 / ACTIONS))
                continue
            key = id(phone)
            known = self.worlds.get(key)
            if known is None or known.layout is not phone.layout:
                quiet = PhoneConfig(popup=0, lag=0, horizon=phone.config.horizon)
                known = self.worlds[key] = World(phone.goal, phone.layout, phone.state, quiet)
            rows.append(self.row(known, phone.state, self.eps))
        return np.stack(rows)


@dataclass
class Episodes:
    """Recorded episodes. Arrays of n transitions refer to M frames; what stands under `oracle` is for tests and plots only."""

    frames: np.ndarray  # (M, 60, 40, 3) uint8
    words: np.ndarray  # (n, 16) word ids of the goal
    slots: np.ndarray  # (n,) how many words the goal lets type
    goal: np.ndarray  # (n,) id into GOALS; -1 for goals of other worlds
    frame: np.ndarray  # (n,) which frame was seen
    next_frame: np.ndarray  # (n,)
    action: np.ndarray  # (n,)
    reward: np.ndarray  # (n,) float32, 1 at the end of a success
    done: np.ndarray  # (n,) bool, the last transition of an episode (DONE, or time is up)
    traj: np.ndarray  # (n,) number of the episode
    t: np.ndarray  # (n,) step in the episode, from 0
    oracle: dict  # "starts": (layout, first state) of each episode, "states": (n,) hidden states, "chances": (n, A) of the actor

    def __len__(self) -> int:
        return len(self.action)

    @property
    def success(self) -> np.ndarray:
        """(episodes,) 0 or 1."""
        return np.bincount(self.traj, self.reward)

    def mc_return(self, gamma: float) -> np.ndarray:
        """(n,) discounted return from each transition on: gamma to the number of steps that are left, times success."""
        last = np.zeros(int(self.traj.max()) + 1, int)
        np.maximum.at(last, self.traj, self.t)
        return (self.success[self.traj] * gamma ** (last[self.traj] - self.t)).astype(np.float32)

    def take(self, episodes: Sequence[int]) -> "Episodes":
        """Only these episodes, numbered anew from 0; the frames are shared."""
        number = np.full(int(self.traj.max()) + 1, -1)
        number[np.asarray(episodes)] = np.arange(len(episodes))
        keep = np.flatnonzero(number[self.traj] >= 0)
        names = ("words", "slots", "goal", "frame", "next_frame", "action", "reward", "done", "t")
        return Episodes(
            frames=self.frames,
            traj=number[self.traj[keep]],
            oracle={
                "starts": [self.oracle["starts"][i] for i in episodes],
                "states": [self.oracle["states"][i] for i in keep],
                "chances": self.oracle["chances"][keep],
            },
            **{name: getattr(self, name)[keep] for name in names},
        )


def roll_out(
    actor: Actor,
    goals: Sequence[int],
    seed: int,
    config: PhoneConfig | None = None,
    parallel: int = 64,
    label: Actor | None = None,
) -> Episodes:
    """One episode for each goal of the list, `parallel` phones at a time; deterministic by seed.

    The chances that are recorded are those of `label`, if there is one: what another actor would have done.

    Episode i has a phone seeded by (seed, i), so two actors meet the same layouts. Episodes are numbered as in `goals`.
    """
    rng = np.random.default_rng([seed, 7])
    records: dict[int, list] = {}
    starts: dict[int, tuple] = {}
    frames: list[np.ndarray] = []
    queue = list(enumerate(goals))[::-1]
    live: list = []
    idle = [PhoneSim(config=config) for _ in range(min(parallel, len(queue)))]

    def begin(phone: PhoneSim) -> list | None:
        if not queue:
            return None
        number, goal = queue.pop()
        obs, _ = phone.reset(seed=env_seed(seed, number), options={"goal": int(goal)})
        frames.append(obs["pixels"])
        records[number], starts[number] = [], (phone.layout, phone.state)
        return [phone, number, obs, len(frames) - 1]

    live = [item for phone in idle if (item := begin(phone))]
    while live:
        pixels = np.stack([obs["pixels"] for _, _, obs, _ in live])
        words = np.stack([obs["words"] for _, _, obs, _ in live])
        phones = [phone for phone, *_ in live]
        chances = actor(pixels, words, phones)
        upto = chances.cumsum(1)
        actions = (upto < rng.random((len(live), 1)) * upto[:, -1:]).sum(1)
        if label is not None:
            chances = label(pixels, words, phones)
        following = []
        for item, action, chance in zip(live, actions.tolist(), chances.astype(np.float32), strict=True):
            phone, number, _, frame = item
            state = phone.state
            obs, reward, terminated, truncated, _ = phone.step(action)
            frames.append(obs["pixels"])
            over = terminated or truncated
            records[number].append((phone.goal.id, frame, len(frames) - 1, action, reward, over, state, chance))
            after = begin(phone) if over else [phone, number, obs, len(frames) - 1]
            if after:
                following.append(after)
        live = following
    rows = [(number, t, *row) for number in sorted(records) for t, row in enumerate(records[number])]
    traj, t, goal, frame, next_frame, action, reward, done, states, chances = zip(*rows, strict=True)
    slots = np.array([len(g.slots) for g in GOALS])
    return Episodes(
        np.stack(frames),
        GOAL_IDS[np.array(goal)],
        slots[np.array(goal)],
        *(np.array(column) for column in (goal, frame, next_frame, action)),
        np.array(reward, np.float32),
        np.array(done),
        np.array(traj),
        np.array(t),
        {"starts": [starts[i] for i in sorted(starts)], "states": list(states), "chances": np.stack(chances)},
    )


def goals_of(split: str, n: int, seed: int) -> np.ndarray:
    """n goals of a split, every one as often as the others up to one, in random order."""
    goals = np.resize(np.array(SPLITS[split]), n)
    return np.random.default_rng([seed, 3]).permutation(goals)


def offline_dataset(
    actors: Sequence[tuple[Actor, float]],
    n_traj: int,
    seed: int,
    split: str = "train",
    config: PhoneConfig | None = None,
) -> Episodes:
    """n_traj episodes recorded by a mixture of actors [(actor, share), ...], goals of the split in equal numbers.

    Raises ValueError for shares that do not sum to one.
    """
    shares = np.array([share for _, share in actors])
    if not np.isclose(shares.sum(), 1) or (shares < 0).any():
        raise ValueError(f"the shares must be a distribution, got {shares.tolist()}")
    parts = np.split(goals_of(split, n_traj, seed), _counts(shares, n_traj).cumsum()[:-1])
    recorded = [
        roll_out(actor, goals, seed if k == 0 else env_seed(seed, 100 + k), config)
        for k, ((actor, _), goals) in enumerate(zip(actors, parts, strict=True))
        if len(goals)
    ]
    return recorded[0] if len(recorded) == 1 else join(recorded)


def join(parts: Sequence[Episodes]) -> Episodes:
    """Several recordings as one, episodes numbered on."""
    frames = np.cumsum([0, *(len(p.frames) for p in parts)])
    trajs = np.cumsum([0, *(len(p.success) for p in parts)])
    shift = {"frame": frames, "next_frame": frames, "traj": trajs}
    names = ("words", "slots", "goal", "frame", "next_frame", "action", "reward", "done", "traj", "t")
    return Episodes(
        frames=np.concatenate([p.frames for p in parts]),
        oracle={key: [x for p in parts for x in p.oracle[key]] for key in ("starts", "states")}
        | {"chances": np.concatenate([p.oracle["chances"] for p in parts])},
        **{
            name: np.concatenate(
                [getattr(p, name) + (shift[name][k] if name in shift else 0) for k, p in enumerate(parts)]
            )
            for name in names
        },
    )


def _counts(shares: np.ndarray, n: int) -> np.ndarray:
    """Whole numbers that sum to n, as near the shares as can be."""
    return np.diff(np.round(np.concatenate(([0], shares.cumsum())) * n).astype(int))


# ---------------------------------------------------------------------------------------------------- the base agent

FOLDER = Path(__file__).with_name("checkpoints")
FILE, MANIFEST = FOLDER / "phone-base.safetensors", FOLDER / "manifest.json"
REMAKE = "`python -m minirl.envs.phone_agents` makes it anew"


@dataclass(frozen=True)
class Recipe:
    """How the base agent is made."""

    episodes: tuple[int, int] = (
        3_000,
        4_000,
    )  # of the noisy oracle, then of the network itself; goals of the train split
    wander: float = 0.35  # eps of the noisy oracle that visits screens
    eps: float = 0.12  # how often the policy that is cloned slips, habits aside
    epochs: int = 12
    batch: int = 64
    lr: float = 3e-3
    seed: int = 0


RECIPE = Recipe()


def clone(
    policy: nn.Module, data: Episodes, epochs: int, batch: int, lr: float, seed: int, soft: bool = False
) -> Iterator[dict]:
    """Behaviour cloning on all transitions, a cosine schedule on Adam; yields {"epoch", "loss"} after every epoch.

    soft: towards the recorded chances, (n, A), rather than the action that was drawn; spoiled states, which have none, are left out.
    """
    generator = torch_generator(seed, 1)
    optimiser = torch.optim.Adam(policy.parameters(), lr, fused=True)
    kept = torch.tensor([i for i in range(len(data)) if not (soft and data.oracle["states"][i].ruined)])
    steps = epochs * -(-len(kept) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    words, target = torch.as_tensor(data.words), torch.as_tensor(data.oracle["chances"] if soft else data.action)
    for epoch in range(epochs):
        total = 0.0
        for rows in kept[torch.randperm(len(kept), generator=generator)].split(batch):
            loss = F.cross_entropy(policy(data.frames[data.frame[rows]], words[rows]), target[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        yield {"epoch": epoch + 1, "loss": total / len(kept)}


def train_base(recipe: Recipe = RECIPE) -> Iterator[dict]:
    """Train the base agent in two rounds; logs have "round" and carry the network as "policy"."""
    actor, parts = NoisyActor(recipe.wander), []
    for i, episodes in enumerate(recipe.episodes):
        label = NoisyActor(recipe.eps, habit_row)
        goals = goals_of("train", episodes, recipe.seed + i)
        parts.append(roll_out(actor, goals, recipe.seed + i, label=label))
        policy = PhonePolicy(torch_generator(recipe.seed))
        for log in clone(policy, join(parts), recipe.epochs, recipe.batch, recipe.lr, recipe.seed, soft=True):
            yield log | {"round": i + 1, "policy": policy}
        actor = network_actor(policy)


def behaviour(policy: nn.Module, episodes: int = 510, seed: int = 12345) -> dict[str, float]:
    """Success at temperature 1 on the goals of each split, and of the likeliest actions on those of the train split."""
    runs = {split: (split, 1.0) for split in SPLITS} | {"train, likeliest": ("train", 0.0)}
    return {
        name: round(float(roll_out(network_actor(policy, T), goals_of(split, episodes, seed), seed).success.mean()), 4)
        for name, (split, T) in runs.items()
    }


def checksum(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def intact() -> bool:
    """Does the file exist and have the checksum of the manifest?"""
    return FILE.exists() and MANIFEST.exists() and json.loads(MANIFEST.read_text()).get("sha256") == checksum(FILE)


def base_agent() -> PhonePolicy:
    """The shipped base agent. Raises ValueError naming the file and the command that makes it anew, when it is missing or altered."""
    if not FILE.exists():
        raise ValueError(f"there is no checkpoint at {FILE}: {REMAKE}")
    if not intact():
        raise ValueError(f"{FILE} is not the file that was shipped (its checksum differs): {REMAKE}")
    try:
        with safe_open(FILE, framework="pt") as weights:
            state = {key: weights.get_tensor(key).float() for key in weights.keys()}
        policy = PhonePolicy(torch_generator(0))
        policy.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{FILE} cannot be read ({str(error).splitlines()[0]}): {REMAKE}") from None
    return policy


def save_base(policy: nn.Module, recipe: Recipe = RECIPE) -> dict:
    """Write weights (float16) and manifest; returns the manifest: checksum, behaviour, recipe."""
    FOLDER.mkdir(exist_ok=True)
    save_file({key: value.half().contiguous() for key, value in policy.state_dict().items()}, FILE)
    entry = {"sha256": checksum(FILE), **behaviour(base_agent_from(FILE)), "recipe": asdict(recipe)}
    MANIFEST.write_text(json.dumps(entry, indent=1) + "\n")
    return entry


def base_agent_from(file: Path) -> PhonePolicy:
    """The policy in a file, unchecked."""
    policy = PhonePolicy(torch_generator(0))
    with safe_open(file, framework="pt") as weights:
        policy.load_state_dict({key: weights.get_tensor(key).float() for key in weights.keys()})
    return policy


def main() -> int:
    """Train the base agent from its recipe and write it."""
    torch.set_num_threads(1)
    for log in train_base():
        print(f"round {log['round']}  epoch {log['epoch']:>2} of {RECIPE.epochs}  loss {log['loss']:.4f}", flush=True)
    print(save_base(log["policy"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
