"""Our sets through the minari package: what it reads is what we wrote, flag by flag."""

import builtins

import numpy as np
import pytest

from minirl.data import load
from minirl.data import minari as bridge
from minirl.data.dataset import FIELDS, take


def small():
    data = load("pointmaze-stitch")
    return take(data, 500, data.meta)


def test_without_the_package_there_is_a_sentence(monkeypatch):
    real = builtins.__import__

    def no_minari(name, *args, **kwargs):
        if name.split(".")[0] == "minari":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_minari)
    with pytest.raises(ImportError, match=r"pip install 'minari\[hdf5\]'"):
        bridge.package()


def test_minari_reads_what_we_write(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    ours = small()
    bridge.to_minari(ours, "minirl/stitch-v0")
    theirs = minari.load_dataset("minirl/stitch-v0")
    assert theirs.total_steps == len(ours) and theirs.total_episodes == len(ours.ends)
    begin = 0
    for episode, last in zip(theirs.iterate_episodes(), ours.ends, strict=True):
        rows = slice(begin, last + 1)
        assert np.array_equal(episode.observations[:-1], ours.observations[rows])
        assert np.array_equal(episode.observations[1:], ours.next_observations[rows])
        assert np.array_equal(episode.actions, ours.actions[rows])
        assert np.array_equal(episode.rewards, ours.rewards[rows])
        assert np.array_equal(episode.terminations, ours.terminations[rows])
        assert np.array_equal(episode.truncations, ours.truncations[rows])
        begin = last + 1
    assert theirs.action_space.contains(ours.actions[0]) and theirs.observation_space.contains(ours.observations[0])


def test_there_and_back(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    ours = small()
    bridge.to_minari(ours, "minirl/stitch-v0")
    back = bridge.from_minari(minari.load_dataset("minirl/stitch-v0"), ours.meta)
    assert back.checksum() == ours.checksum()
    assert all(np.array_equal(getattr(back, name), getattr(ours, name)) for name in FIELDS)
