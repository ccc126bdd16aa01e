"""An offline data set in memory and on disk.

In memory: seven arrays of one length, in the names and the meaning of Minari (one row a transition), and `meta`.
On disk: `<name>.npz` with the arrays, compressed, and `<name>.json` with `meta`, the card and a checksum of the content.
Nothing is pickled. What does not fit the schema is refused, with the field that is wrong.

Three things that are often mixed up are three columns here:
    terminations   the task ended; the value of the next observation is 0
    truncations    a time limit ended the episode; the value goes on
    episode_id     which rows belong together; a recording may also stop without either flag ("cut")
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SCHEMA = 1
FIELDS = {  # name -> (dtype, number of axes)
    "observations": (np.float32, 2),  # (N, O)
    "actions": (np.float32, 2),  # (N, A), in [-1, 1]
    "rewards": (np.float32, 1),  # (N,)
    "next_observations": (np.float32, 2),  # (N, O), the true successor, also at the end of an episode
    "terminations": (np.bool_, 1),  # (N,)
    "truncations": (np.bool_, 1),  # (N,)
    "episode_id": (np.int32, 1),  # (N,), 0, 0, 0, 1, 1, 2, ...
}
META = {  # what every set says about itself
    "name": str,  # of the recipe
    "env_id": str,  # the gymnasium environment
    "seed": int,  # of the recipe
    "made_by": str,  # who acted, in a sentence
    "recipe": str,  # fingerprint of the recipe; another one means that the set is out of date
    "reference_random": (int, float),  # mean return of uniformly random actions
    "reference_expert": (int, float),  # mean return of the reference expert
}


class BadData(ValueError):
    """A data set that must not be used. The message names the field."""


@dataclass(frozen=True, eq=False)
class OfflineData:
    """N transitions. Raises BadData naming the field that has a wrong shape, type or value, or contradicts another one."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    episode_id: np.ndarray
    meta: dict

    def __post_init__(self):
        for name, (dtype, axes) in FIELDS.items():
            value = getattr(self, name)
            if not isinstance(value, np.ndarray):
                raise BadData(f"{name}: must be an array, got {type(value).__name__}")
            if value.dtype != dtype:
                raise BadData(f"{name}: must hold {np.dtype(dtype)}, got {value.dtype}")
            if value.ndim != axes:
                raise BadData(f"{name}: must have {axes} axes, got the shape {value.shape}")
            if len(value) != len(self.observations):
                raise BadData(f"{name}: has {len(value)} rows, but observations has {len(self.observations)}")
            if value.dtype == np.float32 and not np.isfinite(value).all():
                where = [int(i) for i in np.argwhere(~np.isfinite(value))[0]]
                raise BadData(f"{name}: {value[tuple(where)]} at {where}; every number must be finite")
        check_consistency(self)
        check_meta(self.meta)

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def ends(self) -> np.ndarray:
        """Indices of the last row of every episode."""
        return np.append(np.flatnonzero(np.diff(self.episode_id)), len(self) - 1)

    def returns(self) -> np.ndarray:
        """Sum of the rewards of every episode, also of those that were cut."""
        return np.bincount(self.episode_id, weights=self.rewards.astype(float))

    def score(self, returns: float | np.ndarray) -> float | np.ndarray:
        """Normalised score 100 (J - J_random) / (J_expert - J_random): 0 for random actions, 100 for the expert."""
        low, high = self.meta["reference_random"], self.meta["reference_expert"]
        return 100 * (np.asarray(returns) - low) / (high - low)

    def checksum(self) -> str:
        """SHA-256 of the arrays and of `meta`. It does not depend on how a file was compressed."""
        digest = hashlib.sha256(json.dumps(self.meta, sort_keys=True).encode())
        for name in FIELDS:
            value = np.ascontiguousarray(getattr(self, name))
            digest.update(f"{name} {value.dtype.str} {value.shape}".encode())
            digest.update(value.tobytes())
        return digest.hexdigest()


def check_consistency(data: OfflineData) -> None:
    """Raise BadData where the fields contradict each other."""
    n = len(data)
    if n == 0:
        raise BadData("observations: there are no transitions")
    if data.next_observations.shape != data.observations.shape:
        shapes = f"{data.next_observations.shape}, but observations has {data.observations.shape}"
        raise BadData(f"next_observations: has the shape {shapes}")
    if np.abs(data.actions).max(initial=0.0) > 1:
        row = int(np.argmax(np.abs(data.actions).max(axis=1)))
        raise BadData(f"actions: {data.actions[row].tolist()} in row {row}; actions lie in [-1, 1]")
    steps = np.diff(data.episode_id)
    if data.episode_id[0] != 0 or ((steps != 0) & (steps != 1)).any():
        raise BadData("episode_id: must begin with 0 and grow by 0 or 1 from row to row")
    inner = np.append(steps == 0, False)  # rows after which the episode goes on
    for name in ("terminations", "truncations"):
        if (getattr(data, name) & inner).any():
            row = int(np.argmax(getattr(data, name) & inner))
            raise BadData(f"{name}: set in row {row}, but episode {data.episode_id[row]} goes on after it")
    broken = np.flatnonzero((data.next_observations[:-1] != data.observations[1:]).any(axis=1) & inner[:-1])
    if len(broken):
        row = int(broken[0])
        raise BadData(f"next_observations: row {row} is not the observation of row {row + 1} of the same episode")


def check_meta(meta: dict) -> None:
    """Raise BadData naming the entry of `meta` that is missing or of the wrong type."""
    if not isinstance(meta, dict):
        raise BadData(f"meta: must be a dict, got {type(meta).__name__}")
    for name, kind in META.items():
        if name not in meta:
            raise BadData(f"meta: {name} is missing")
        if not isinstance(meta[name], kind) or isinstance(meta[name], bool):
            raise BadData(f"meta: {name} is {meta[name]!r}, which has the wrong type")
    low, high = meta["reference_random"], meta["reference_expert"]
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise BadData(f"meta: reference_random {low} must be a number below reference_expert {high}")


def concatenate(parts: Sequence[OfflineData], meta: dict) -> OfflineData:
    """The episodes of several sets one after the other, with `meta` for the whole."""
    offsets = np.cumsum([0] + [part.episode_id[-1] + 1 for part in parts[:-1]])
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS}
    ids = [part.episode_id + offset for part, offset in zip(parts, offsets, strict=True)]
    columns["episode_id"] = np.concatenate(ids).astype(np.int32)
    return OfflineData(**columns, meta=meta)


def take(data: OfflineData, rows: int, meta: dict) -> OfflineData:
    """The first `rows` transitions; an episode that goes on after them is cut."""
    if not 1 <= rows <= len(data):
        raise ValueError(f"rows must lie between 1 and {len(data)}, got {rows}")
    return OfflineData(**{name: getattr(data, name)[:rows] for name in FIELDS}, meta=meta)


# --------------------------------------------------------------------------------------------------------- on disk


def remake(name: str, seed: int) -> str:
    """How a message says what to do about a bad file."""
    return f"`python -m minirl.data build {name} --seed {seed} --force` builds it anew"


def save(data: OfflineData, path: Path, card: dict) -> None:
    """Write `path` (.npz) and its twin .json; each appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.stem + ".partial.npz")
    np.savez_compressed(partial, **{name: getattr(data, name) for name in FIELDS})
    record = {"schema": SCHEMA, "sha256": data.checksum(), "meta": data.meta, "card": card}
    text = path.with_suffix(".json.partial")
    text.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.rename(path)
    text.rename(path.with_suffix(".json"))


def read(path: Path, name: str, seed: int) -> OfflineData:
    """The set in `path` (.npz) and its twin .json, checked.

    Raises BadData naming the file, the field and the command that builds it anew: for a file that is missing, truncated
    or altered, a missing column, and everything that OfflineData refuses.
    """
    try:
        record = read_record(path.with_suffix(".json"))
        columns = read_columns(path)
        data = OfflineData(**columns, meta=record["meta"])
        if (data.meta["name"], data.meta["seed"]) != (name, seed):
            raise BadData(f"meta: the file holds {data.meta['name']} with seed {data.meta['seed']}")
        if data.checksum() != record["sha256"]:
            raise BadData("sha256: the content was altered, its checksum differs from the recorded one")
    except BadData as error:
        raise BadData(f"{path}: {error}; {remake(name, seed)}") from None
    return data


def read_record(path: Path) -> dict:
    """The .json twin. Raises BadData when it is missing or not of this schema."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadData(f"{path.name} is missing") from None
    except ValueError:
        raise BadData(f"{path.name} is not valid JSON (truncated?)") from None
    if not isinstance(record, dict) or set(record) != {"schema", "sha256", "meta", "card"}:
        raise BadData(f"{path.name} does not have the fields schema, sha256, meta and card")
    if record["schema"] != SCHEMA:
        raise BadData(f"schema: this version reads {SCHEMA}, the file has {record['schema']}")
    return record


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Raises BadData when it is missing, truncated, or lacks a column."""
    try:
        with np.load(path) as file:
            missing = [name for name in FIELDS if name not in file.files]
            if missing:
                raise BadData(f"{missing[0]}: the column is missing")
            if extra := sorted(set(file.files) - set(FIELDS)):
                raise BadData(f"{extra[0]}: there is no such column in the schema")
            return {name: file[name] for name in FIELDS}
    except FileNotFoundError:
        raise BadData(f"{path.name} is missing") from None
    except BadData:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, NotImplementedError) as error:
        raise BadData(f"{path.name} cannot be read, it is truncated or damaged ({error})") from None
