"""The agents and the data that the chapters on computer use share."""

import json

import numpy as np
import pytest
import torch

from minirl.envs import phone_agents as pa
from minirl.envs.phone import ACTIONS, DONE, GOALS, SPLITS, PhoneConfig, PhoneSim
from minirl.envs.phone_agents import NoisyActor, goals_of, network_actor, offline_dataset, roll_out
from minirl.envs.phone_oracle import (
    HABITS,
    POPUP_HABIT,
    World,
    confusions,
    habit_row,
    noisy_policy,
    noisy_row,
    oracle_row,
)


@pytest.fixture(scope="module")
def base():
    return pa.base_agent()


@pytest.fixture(scope="module")
def data(base):
    return offline_dataset([(network_actor(base), 1.0)], 60, seed=1)


def test_recorded_episodes_hang_together(data):
    n = len(data)
    assert len(data.success) == 60 and len(data.frames) == n + 60 and data.frames.dtype == np.uint8
    same = data.traj[1:] == data.traj[:-1]
    assert (data.next_frame[:-1] == data.frame[1:])[same].all() and (data.done[:-1] != same).all() and data.done[-1]
    assert (data.t[1:][same] == data.t[:-1][same] + 1).all() and (data.t[:-1][~same] < 12).all()
    assert (data.reward[~data.done] == 0).all() and set(np.unique(data.reward)) <= {0.0, 1.0}
    assert ((data.action == DONE) <= data.done).all() and (data.t[data.done & (data.action != DONE)] == 11).all()
    assert data.words.shape == (n, 16) and set(data.goal) <= set(SPLITS["train"])


def test_the_frames_are_those_of_the_hidden_states(data):
    from minirl.envs.phone import status, view
    from minirl.envs.phone_draw import pixels

    for i in range(0, len(data), 17):
        layout, _ = data.oracle["starts"][data.traj[i]]
        state = data.oracle["states"][i]
        assert np.array_equal(pixels(view(layout, state), status(state)), data.frames[data.frame[i]])


def test_the_return_is_gamma_to_the_steps_that_are_left(data):
    got = data.mc_return(0.9)
    for episode in range(60):
        rows = np.flatnonzero(data.traj == episode)
        expected = data.success[episode] * 0.9 ** np.arange(len(rows))[::-1]
        assert got[rows] == pytest.approx(expected)


def test_taking_episodes_keeps_them_whole(data):
    some = data.take([7, 3])
    assert len(some.success) == 2 and list(some.success) == list(data.success[[7, 3]])
    assert np.array_equal(some.action[some.traj == 0], data.action[data.traj == 7])
    assert some.oracle["starts"][1] == data.oracle["starts"][3] and len(some.oracle["states"]) == len(some)


def test_roll_outs_are_deterministic_and_do_not_depend_on_how_many_phones_run(base):
    goals = goals_of("train", 20, 0)
    uniform = lambda pixels, words, phones: np.full((len(phones), ACTIONS), 1 / ACTIONS)  # noqa: E731
    a, b = roll_out(uniform, goals, 3), roll_out(uniform, goals, 3)
    assert np.array_equal(a.action, b.action) and np.array_equal(a.frames, b.frames)
    c = roll_out(uniform, goals, 3, parallel=4)
    assert c.oracle["starts"] == a.oracle["starts"] and np.array_equal(np.bincount(c.goal), np.bincount(c.goal))


@pytest.mark.slow
def test_habits_are_one_wrong_action_each():
    """What `habit_row` adds to `noisy_row` on the screens of HABITS, by hand, over whole worlds."""
    seen = set()
    for goal in [next(g for g in GOALS if g.template == name) for name in (*HABITS, "toggle")]:
        phone = PhoneSim()
        phone.reset(seed=3, options={"goal": goal.id})
        world = World(phone.goal, phone.layout, phone.state, PhoneConfig(popup=0.1))
        for state in world.states[::3]:
            row, plain = habit_row(world, state, 0.2), noisy_row(world, state, 0.2)
            assert row.sum() == pytest.approx(1) and (row >= 0).all()
            rules = [("ignore popup", POPUP_HABIT)] if state.popup else []
            rules += [
                (k, h) for screen, k, h in HABITS.get(goal.template, ()) if screen == state.screen and not state.popup
            ]
            rules = [(k, h) for k, h in rules if k in confusions(world, state)]
            if not rules:
                assert np.array_equal(row, plain)
            for kind, share in rules:
                wrong = max(confusions(world, state)[kind])
                assert row[wrong] == pytest.approx(share + (1 - share) * plain[wrong])
                assert oracle_row(world, state)[wrong] == 0
                seen.add((goal.template, kind))
    assert len(seen) >= 7


def test_another_actor_can_label_what_one_does():
    never = lambda pixels, words, phones: np.eye(ACTIONS)[[0] * len(phones)]  # noqa: E731
    found = roll_out(never, [0, 1], 2, label=NoisyActor(0.1, habit_row))
    assert (found.action == 0).all() and (found.oracle["chances"][:, 0] < 1).all()
    plain = roll_out(never, [0, 1], 2)
    assert np.array_equal(plain.frames, found.frames) and (plain.oracle["chances"][:, 0] == 1).all()


def test_the_features_of_actions_are_what_the_last_layers_see(base):
    pixels, words = np.random.default_rng(0).integers(0, 256, (3, 60, 40, 3), np.uint8), torch.randint(1, 9, (3, 16))
    with torch.no_grad():
        cells = base.encoder(pixels)
        every = torch.arange(ACTIONS).expand(3, -1)
        f, logits = base.head.features(cells, words, every), base.head(cells, words)
        tapped = base.head.tap(f[:, :54, :32]).squeeze(2) + f[:, :54, 32]
        assert torch.allclose(tapped, logits[:, :54], atol=1e-4)
        rest = torch.diagonal(base.head.rest[2](f[:, 54:, 33:]), dim1=1, dim2=2)
        assert torch.allclose(rest, logits[:, 54:], atol=1e-4)
        assert (f[:, :54, 33:] == 0).all() and (f[:, 54:, :33] == 0).all()


@pytest.mark.slow
def test_the_noisy_actor_is_the_noisy_policy():
    """200 episodes against dynamic programming on their own worlds; 3.5 standard errors."""
    config = PhoneConfig(popup=0.1, lag=0.05, horizon=8)
    goals = [g.id for g in GOALS if g.template in ("toggle", "alarm")] * 20
    found = roll_out(NoisyActor(0.25), goals, 5, config)
    values = []
    for goal, start in list(zip(goals, found.oracle["starts"], strict=True))[:20]:
        w = World(GOALS[goal], *start, config)
        values.append(w.value(noisy_policy(w, 0.25))[1][0, 0])
    p, q = np.mean(values), found.success.mean()
    assert abs(p - q) < 3.5 * np.sqrt(p * (1 - p) / len(goals) + np.var(values) / 20)


def test_a_mixture_has_its_shares_and_bad_ones_are_refused():
    never = lambda pixels, words, phones: np.eye(ACTIONS)[[DONE] * len(phones)]  # noqa: E731
    wait = lambda pixels, words, phones: np.eye(ACTIONS)[[0] * len(phones)]  # noqa: E731
    mixed = offline_dataset([(never, 0.75), (wait, 0.25)], 40, seed=0)
    lengths = np.bincount(mixed.traj)
    assert (lengths == 1).sum() == 30 and (lengths == 12).sum() == 10
    assert len(mixed.frames) == len(mixed) + 40 and len(mixed.oracle["starts"]) == 40
    with pytest.raises(ValueError, match="distribution"):
        offline_dataset([(never, 0.75), (wait, 0.5)], 40, seed=0)


def test_goals_come_equally_often():
    counts = np.bincount(goals_of("train", 120, 4), minlength=68)[list(SPLITS["train"])]
    assert counts.sum() == 120 and counts.min() >= 2 and counts.max() <= 3


def test_frames_of_another_shape_are_refused():
    for bad in (np.zeros((2, 40, 60, 3), np.uint8), np.zeros((2, 60, 40, 3), np.float32)):
        with pytest.raises(ValueError, match=r"frames must be \(B, 60, 40, 3\) uint8"):
            pa.to_input(bad)


# ---------------------------------------------------------------------------------------------------- the base agent


def test_the_base_agent_is_intact_small_and_behaves_as_its_manifest_says(base):
    """On 306 train episodes at temperature 1; five standard errors are 0.14, and the seed is another one."""
    known = json.loads(pa.MANIFEST.read_text())
    assert pa.intact() and pa.FILE.stat().st_size < 0.6e6
    success = roll_out(network_actor(base), goals_of("train", 306, 1), 1).success
    assert success.mean() == pytest.approx(known["train"], abs=0.14) and 0.25 <= known["train"] <= 0.6


def test_a_damaged_base_agent_is_refused_with_the_command_that_makes_it_anew(tmp_path, monkeypatch):
    file, manifest = tmp_path / "phone-base.safetensors", tmp_path / "manifest.json"
    content = bytearray(pa.FILE.read_bytes())
    manifest.write_text(pa.MANIFEST.read_text())
    content[-1] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr(pa, "FILE", file)
    monkeypatch.setattr(pa, "MANIFEST", manifest)
    with pytest.raises(ValueError, match=r"phone-base\.safetensors is not the file .*minirl\.envs\.phone_agents"):
        pa.base_agent()
    file.write_bytes(b"nonsense")
    manifest.write_text(json.dumps({"sha256": pa.checksum(file)}))
    with pytest.raises(ValueError, match="cannot be read"):
        pa.base_agent()
    file.unlink()
    with pytest.raises(ValueError, match="no checkpoint at"):
        pa.base_agent()


def test_making_a_policy_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    pa.base_agent()
    assert torch.equal(torch.get_rng_state(), state)
