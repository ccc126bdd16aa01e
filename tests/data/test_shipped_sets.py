"""The sets that come with the package: current, undamaged, readable without a cache, and true to the physics of their task."""

import shutil

import numpy as np
import pytest

from minirl.data import load, store
from minirl.data.dataset import BadData
from minirl.data.describe import card

SHIPPED = sorted(file.stem for file in store.SHIPPED.glob("*.npz"))
NAMES = [name.removesuffix("-seed0") for name in SHIPPED]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test here may build a set, or read one that lies on this machine."""
    monkeypatch.setenv("MINIRL_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "make", lambda *_: pytest.fail("a shipped set was built"))
    return tmp_path / "cache"


def test_the_whole_pendulum_family_ships():
    assert set(NAMES) == {name for name in store.RECIPES if name.startswith("pendulum-")}
    assert all(store.find(name, 0).parent == store.SHIPPED for name in NAMES)
    assert sum(file.stat().st_size for file in store.SHIPPED.iterdir()) < 6e6


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_obey_the_pendulum(name):
    """Independent of the simulator: the equation of motion, one Euler step of 0.05 s, torque 2 a, speed at most 8."""
    data = load(name)
    cos, sin, speed = data.observations.astype(float).T
    torque = 2 * data.actions[:, 0].astype(float)
    angle = np.arctan2(sin, cos)
    after = np.clip(speed + 0.05 * (15 * sin + 3 * torque), -8, 8)
    turned = angle + 0.05 * after
    successor = np.stack([np.cos(turned), np.sin(turned), after], axis=1)
    np.testing.assert_allclose(data.next_observations, successor, atol=2e-5)
    np.testing.assert_allclose(data.rewards, -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2), atol=1e-4)
    assert not data.terminations.any()


def test_the_levels_are_ordered():
    scores = {
        level: card(load(f"pendulum-{level}"))["mean normalised score"] for level in ("random", "medium", "expert")
    }
    assert abs(scores["random"]) < 10 < scores["medium"] < scores["expert"] and abs(scores["expert"] - 100) < 15


def test_a_damaged_file_is_refused_and_a_rebuilt_set_goes_first(tmp_path, cache, monkeypatch):
    copy = tmp_path / "sets"
    shutil.copytree(store.SHIPPED, copy)
    monkeypatch.setattr(store, "SHIPPED", copy)
    file = copy / "pendulum-medium-seed0.npz"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadData, match=r"pendulum-medium-seed0.npz.*build pendulum-medium --seed 0 --force"):
        load("pendulum-medium")
    cache.mkdir()
    for suffix in (".npz", ".json"):
        shutil.copy((copy / f"pendulum-expert-seed0{suffix}"), cache)
    assert store.find("pendulum-expert", 0).parent == cache


def test_another_seed_is_not_shipped():
    assert store.find("pendulum-medium", 1) is None
