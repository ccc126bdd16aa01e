"""Offline data sets: what is stored comes back, and everything that must be refused is, with its field and a remedy."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from minirl.data.batches import normaliser, replay
from minirl.data.dataset import FIELDS, BadData, OfflineData, concatenate, read, remake, save, take

META = {
    "name": "toy",
    "env_id": "LineWorld-v0",
    "seed": 3,
    "made_by": "a test",
    "recipe": "0" * 16,
    "reference_random": 0.5,
    "reference_expert": 2.5,
}


def toy(seed=0):
    """Three episodes of 4, 1 and 3 steps: terminated, truncated, cut."""
    rng = np.random.default_rng(seed)
    path = rng.normal(size=(8, 2)).astype(np.float32)
    after = np.concatenate([path[1:], rng.normal(size=(1, 2)).astype(np.float32)])
    after[[3, 4]] = rng.normal(size=(2, 2))
    flags = np.zeros((2, 8), bool)
    flags[0, 3] = flags[1, 4] = True
    ids = np.array([0, 0, 0, 0, 1, 2, 2, 2], np.int32)
    actions = rng.uniform(-1, 1, (8, 1)).astype(np.float32)
    return OfflineData(path, actions, np.arange(8, dtype=np.float32), after, flags[0], flags[1], ids, dict(META))


def changed(**fields):
    return replace(toy(), **fields)


# ---- in memory ----


def test_ends_returns_and_score():
    data = toy()
    assert len(data) == 8 and data.ends.tolist() == [3, 4, 7]
    assert data.returns().tolist() == [0 + 1 + 2 + 3, 4, 5 + 6 + 7]
    assert data.score(0.5) == 0 and data.score(2.5) == 100 and data.score(np.array([1.5]))[0] == 50


@pytest.mark.parametrize("name", FIELDS)
def test_wrong_length_is_named(name):
    short = "actions" if name == "observations" else name  # the others are then one too long
    with pytest.raises(BadData, match=f"^{short}: has . rows, but observations has"):
        changed(**{name: getattr(toy(), name)[:-1]})


@pytest.mark.parametrize("name", FIELDS)
def test_wrong_type_and_axes_are_named(name):
    with pytest.raises(BadData, match=f"^{name}: must hold"):
        changed(**{name: getattr(toy(), name).astype(np.float64)})
    with pytest.raises(BadData, match=f"^{name}: must have"):
        changed(**{name: getattr(toy(), name)[..., None]})
    with pytest.raises(BadData, match=f"^{name}: must be an array"):
        changed(**{name: getattr(toy(), name).tolist()})


@pytest.mark.parametrize("name", [n for n, (dtype, _) in FIELDS.items() if dtype is np.float32])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named(name, bad):
    value = getattr(toy(), name).copy()
    value[5] = bad
    with pytest.raises(BadData, match=rf"^{name}: .*\[5"):
        changed(**{name: value})


def test_fields_that_contradict_each_other():
    data = toy()
    for name in ("terminations", "truncations"):
        with pytest.raises(BadData, match=f"^{name}: set in row 1, but episode 0 goes on"):
            changed(**{name: np.arange(8) == 1})
    for ids in ([1] * 8, [0, 0, 0, 0, 2, 2, 2, 2], [0, 0, 0, 0, 1, 0, 0, 0]):
        with pytest.raises(BadData, match=r"^episode_id"):
            changed(episode_id=np.array(ids, np.int32))
    with pytest.raises(BadData, match=r"^next_observations: row 2 is not the observation of row 3"):
        after = data.next_observations.copy()
        after[2] += 1
        changed(next_observations=after)
    with pytest.raises(BadData, match=r"^next_observations: has the shape"):
        changed(next_observations=np.zeros((8, 3), np.float32))
    with pytest.raises(BadData, match=r"^actions: .* in row 6"):
        actions = data.actions.copy()
        actions[6] = 1.5
        changed(actions=actions)
    with pytest.raises(BadData, match="no transitions"):
        OfflineData(**{n: getattr(data, n)[:0] for n in FIELDS}, meta=META)


@pytest.mark.parametrize("entry", META)
def test_meta_is_checked(entry):
    with pytest.raises(BadData, match=f"meta: {entry} is missing"):
        changed(meta={k: v for k, v in META.items() if k != entry})
    with pytest.raises(BadData, match=f"meta: {entry} is"):
        changed(meta={**META, entry: [1]})
    for low, high in ((1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(BadData, match="reference_random"):
            changed(meta={**META, "reference_random": low, "reference_expert": high})
    with pytest.raises(BadData, match="meta: must be a dict"):
        changed(meta=None)


def test_concatenate_and_take_keep_episodes_apart():
    both = concatenate([toy(0), toy(1)], META)
    assert len(both) == 16 and both.episode_id.tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 3, 3, 3, 3, 4, 5, 5, 5]
    assert both.returns().tolist() == [6, 4, 18, 6, 4, 18]
    cut = take(toy(), 6, META)
    assert cut.ends.tolist() == [3, 4, 5] and cut.returns().tolist() == [6, 4, 5]
    with pytest.raises(ValueError, match="rows"):
        take(toy(), 9, META)


def test_checksum_sees_every_field_and_the_meta():
    data, seen = toy(), {toy().checksum()}
    for name in FIELDS:
        value = getattr(data, name).copy()
        value[-1] = not value[-1] if value.dtype == bool else value[-1] + (3 if name == "episode_id" else -0.25)
        other = object.__new__(OfflineData)  # past the checks: only the sum is looked at
        for field in (*FIELDS, "meta"):
            object.__setattr__(other, field, value if field == name else getattr(data, field))
        seen.add(other.checksum())
    seen.add(changed(meta={**META, "seed": 4}).checksum())
    assert len(seen) == 9


# ---- on disk ----


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "deep" / "toy-seed3.npz"
    save(toy(), path, {"a": 1})
    return path


def refused(path, *words):
    with pytest.raises(BadData) as error:
        read(path, "toy", 3)
    for word in (str(path), remake("toy", 3), *words):
        assert word in str(error.value), str(error.value)


def test_what_is_saved_comes_back(file):
    data = read(file, "toy", 3)
    for name, (dtype, _) in FIELDS.items():
        value = getattr(data, name)
        assert value.dtype == dtype and np.array_equal(value, getattr(toy(), name))
    assert data.meta == META and data.checksum() == toy().checksum()
    assert sorted(p.name for p in file.parent.iterdir()) == ["toy-seed3.json", "toy-seed3.npz"]
    assert "python -m minirl.data build toy --seed 3" in remake("toy", 3)


def test_the_checksum_does_not_depend_on_the_compression(file):
    np.savez(file, **{name: getattr(toy(), name) for name in FIELDS})
    assert read(file, "toy", 3).checksum() == toy().checksum()


def test_missing_files(file):
    file.with_suffix(".json").rename(file.with_suffix(".away"))
    refused(file, "toy-seed3.json is missing")
    file.with_suffix(".away").rename(file.with_suffix(".json"))
    file.unlink()
    refused(file, "toy-seed3.npz is missing")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.98])
def test_a_truncated_file(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    refused(file, "truncated")


def test_flipped_bytes(file):
    """Wherever a byte of the compressed columns is changed, the file is refused: by zip's sum, the schema, or ours."""
    content = file.read_bytes()
    for where in np.linspace(0, len(content) - 1, 60).astype(int):
        broken = bytearray(content)
        broken[where] ^= 0x5A
        file.write_bytes(bytes(broken))
        try:
            data = read(file, "toy", 3)
        except BadData:
            continue
        assert data.checksum() == toy().checksum(), f"byte {where}"  # a byte that means nothing, such as a date


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_column(file, name):
    np.savez_compressed(file, **{n: getattr(toy(), n) for n in FIELDS if n != name})
    refused(file, f"{name}: the column is missing")


def test_a_column_too_many_and_columns_of_objects(file):
    columns = {n: getattr(toy(), n) for n in FIELDS}
    np.savez_compressed(file, **columns, extra=np.zeros(3))
    refused(file, "extra: there is no such column")
    np.savez_compressed(file, **{**columns, "rewards": np.array([{}] * 8, dtype=object)})
    refused(file, "truncated or damaged")  # numpy would have to unpickle it


def test_altered_content(file):
    columns = {n: getattr(toy(), n).copy() for n in FIELDS}
    columns["rewards"][2] += 1
    np.savez_compressed(file, **columns)
    refused(file, "sha256", "altered")
    columns["rewards"][2] = np.nan
    np.savez_compressed(file, **columns)
    refused(file, "rewards: nan at [2]")


def test_altered_card_file(file):
    side = file.with_suffix(".json")
    record = json.loads(side.read_text())
    for change, word in (
        ({"sha256": "0"}, "sha256"),
        ({"schema": 99}, "schema: this version reads"),
        ({"meta": {**META, "reference_expert": 9.0}}, "sha256"),
        ({"meta": {**META, "name": "other"}}, "holds other"),
        ({"meta": {**META, "seed": 4}}, "with seed 4"),
        ({"meta": {}}, "meta: name is missing"),
    ):
        side.write_text(json.dumps({**record, **change}))
        refused(file, word)
    side.write_text(json.dumps(record)[:-9])
    refused(file, "not valid JSON")
    side.write_text("[]")
    refused(file, "does not have the fields")


def test_nothing_in_the_file_needs_pickle(file):
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == sorted(f"{name}.npy" for name in FIELDS)
        for name in archive.namelist():
            assert b"'descr': '|O'" not in archive.read(name)[:120]


# ---- minibatches ----


def test_normaliser_and_replay():
    data = toy()
    mean, std = normaliser(data)
    assert np.allclose(mean, data.observations.mean(0)) and np.allclose(std, data.observations.std(0) + 1e-3)
    rows = replay(data, mean, std).rows.numpy()
    assert rows.shape == (8, 2 + 1 + 1 + 2 + 1)
    assert np.allclose(rows[:, :2] * std + mean, data.observations, atol=1e-6)
    assert np.allclose(rows[:, 4:6] * std + mean, data.next_observations, atol=1e-6)
    assert rows[:, 6].tolist() == [0, 0, 0, 1, 0, 0, 0, 0], "only termination stops bootstrapping"
    mean, std = normaliser(data, on=False)
    assert (mean == 0).all() and (std == 1).all()
    constant = replace(data, observations=np.ones((8, 2), np.float32), next_observations=np.ones((8, 2), np.float32))
    assert np.isfinite(replay(constant, *normaliser(constant)).rows.numpy()).all()
