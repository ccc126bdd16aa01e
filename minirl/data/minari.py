"""To and from Minari, the format and package of the Farama foundation for offline data.

Minari keeps T + 1 observations for an episode of T steps; we keep the true successor of every step. Both say the same.
"""

import warnings

import gymnasium as gym
import numpy as np

from minirl.data.dataset import OfflineData
from minirl.data.record import columns

INSTALL = "reading and writing Minari's format needs its package: pip install 'minari[hdf5]'"


def package():
    """The minari package. Raises ImportError with the command that installs it."""
    try:
        import h5py  # noqa: F401 - the storage that we write
        import minari
    except ImportError:
        raise ImportError(INSTALL) from None
    return minari


def to_minari(data: OfflineData, dataset_id: str):
    """Write the set into Minari's folder under `dataset_id` (such as "minirl/pointmaze-stitch-v0"); returns Minari's object.

    Actions are stored as the agent chose them, in [-1, 1]. Minari's folder is $MINARI_DATASETS_PATH or its default.
    """
    minari = package()
    from minari.data_collector import EpisodeBuffer

    begins = np.concatenate([[0], data.ends[:-1] + 1])
    episodes = []
    for i, (first, last) in enumerate(zip(begins, data.ends, strict=True)):
        rows = slice(first, last + 1)
        episodes.append(
            EpisodeBuffer(
                id=i,
                observations=np.concatenate([data.observations[rows], data.next_observations[last : last + 1]]),
                actions=data.actions[rows],
                rewards=data.rewards[rows],
                terminations=data.terminations[rows],
                truncations=data.truncations[rows],
            )
        )
    spaces = {
        "observation_space": gym.spaces.Box(-np.inf, np.inf, data.observations.shape[1:], np.float32),
        "action_space": gym.spaces.Box(-1.0, 1.0, data.actions.shape[1:], np.float32),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses an e-mail address
        return minari.create_dataset_from_buffers(
            dataset_id,
            episodes,
            algorithm_name=data.meta["made_by"],
            author="minirl",
            description=f"{data.meta['name']}, seed {data.meta['seed']}, environment {data.meta['env_id']}",
            data_format="hdf5",
            **spaces,
        )


def from_minari(dataset, meta: dict) -> OfflineData:
    """A Minari data set with vector observations and actions in [-1, 1] as OfflineData. `meta`: see dataset.META."""
    episodes = list(dataset.iterate_episodes())
    parts = [
        (e.observations[:-1], e.actions, e.rewards, e.observations[1:], e.terminations, e.truncations) for e in episodes
    ]
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    ids = np.repeat(np.arange(len(episodes)), [len(e.rewards) for e in episodes])
    return OfflineData(**columns(*joined, ids), meta=meta)
