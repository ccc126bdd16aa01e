"""Oracles of the shared pieces: networks, replay, rollout, evaluation, seeding, checkpoints."""

import itertools
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from minirl.control import sac
from minirl.core import checkpoint
from minirl.core.evaluate import evaluate, film_frames
from minirl.core.nets import MLP, polyak
from minirl.core.replay import ReplayBuffer
from minirl.core.rollout import check_finite, make_envs, mean_logs, rollout
from minirl.core.seeding import env_seed, torch_generator
from minirl.envs.multigoal import GOALS, MultiGoal

# ----------------------------------------------------------------------------------------------------------- networks


def test_stacked_networks_equal_single_ones_built_from_linear_layers():
    stack = MLP((5, 7, 3), torch_generator(0), K=2)
    x = torch.randn(4, 5, generator=torch_generator(1))
    for k in range(2):
        first, second = (torch.nn.Linear(i, o) for i, o in ((5, 7), (7, 3)))
        for layer, weight, bias in zip((first, second), stack.weights, stack.biases, strict=True):
            layer.weight.data, layer.bias.data = weight[k].T.contiguous(), bias[k, 0]
        torch.testing.assert_close(stack(x)[k], second(torch.relu(first(x))))


def test_initial_weights_fill_their_interval():
    """Uniform in +-1/sqrt(fan_in): 40,000 draws leave no gap of 1 % at the ends (probability below e^-200)."""
    weight = MLP((400, 100, 1), torch_generator(0)).weights[0]
    bound = 1 / math.sqrt(400)
    assert weight.abs().max() <= bound
    assert weight.max() > 0.99 * bound and weight.min() < -0.99 * bound
    assert weight.mean().abs().item() < 5 * bound / math.sqrt(3 * weight.numel())


def test_polyak_moves_a_fraction_of_the_way():
    target, online = MLP((2, 3, 1), torch_generator(0)), MLP((2, 3, 1), torch_generator(1))
    expected = [0.75 * t + 0.25 * o for t, o in zip(target.parameters(), online.parameters(), strict=True)]
    polyak(target, online, 0.25)
    for t, e in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(t, e)


def test_streams_of_a_seed_are_reproducible_and_different():
    draws = {(s, k): float(torch.rand(1, generator=torch_generator(s, k))) for s in range(3) for k in range(3)}
    assert len(set(draws.values())) == 9
    assert draws[1, 2] == float(torch.rand(1, generator=torch_generator(1, 2)))
    starts = {env_seed(s) + i for s in range(50) for i in range(20)}
    assert len(starts) == 1000  # no two runs share a copy's seed


# ------------------------------------------------------------------------------------------------------------- replay


def rows(buffer, start, n):
    """n transitions whose every number tells which one it is."""
    i = np.arange(start, start + n, dtype=np.float32)
    return (np.stack([i, i + 0.1], 1), i[:, None] + 0.2, i + 0.3, np.stack([i + 0.4, i + 0.5], 1), i % 2)


def test_replay_keeps_the_last_transitions_and_their_fields_together():
    buffer = ReplayBuffer(10, 2, 1)
    for start in range(0, 24, 4):
        buffer.add(*rows(buffer, start, 4))
    batch = buffer.sample(2_000, torch_generator(0))
    i = batch.obs[:, 0]
    assert set(i.tolist()) == set(range(14, 24))
    torch.testing.assert_close(batch.obs[:, 1], i + 0.1)
    torch.testing.assert_close(batch.action[:, 0], i + 0.2)
    torch.testing.assert_close(batch.reward, i + 0.3)
    torch.testing.assert_close(batch.next_obs, torch.stack([i + 0.4, i + 0.5], 1))
    torch.testing.assert_close(batch.terminated, i % 2)


def test_replay_samples_uniformly():
    """Chi-square over 10 cells, 20,000 draws: above 40 with probability below 1e-5."""
    buffer = ReplayBuffer(10, 2, 1)
    buffer.add(*rows(buffer, 0, 10))
    counts = np.bincount(buffer.sample(20_000, torch_generator(3)).obs[:, 0].long(), minlength=10)
    assert ((counts - 2_000) ** 2 / 2_000).sum() < 40


def test_replay_refuses_to_sample_from_nothing():
    with pytest.raises(ValueError, match="empty"):
        ReplayBuffer(5, 1, 1).sample(2, torch_generator(0))
    with pytest.raises(ValueError, match="capacity"):
        ReplayBuffer(0, 1, 1)


# ------------------------------------------------------------------------------------------------------------ rollout


class Countdown(gym.Env):
    """Observation: the number of steps taken. Terminates after `end` steps, or is cut by a time limit of 5."""

    observation_space = gym.spaces.Box(-100.0, 100.0, (1,), np.float32)
    action_space = gym.spaces.Box(-2.0, 4.0, (1,), np.float32)

    def __init__(self, end=3, bad="", render_mode=None):
        self.end, self.bad, self.render_mode = end, bad, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        obs, reward = np.full(1, self.t, np.float32), float(action[0])
        if self.t == 2:
            obs, reward = (obs * np.nan, reward) if self.bad == "observation" else (obs, reward)
            reward = np.nan if self.bad == "reward" else reward
        return obs, reward, self.t == self.end, False, {}


@pytest.fixture(autouse=True)
def countdown():
    for name, end, bad in (
        ("Ends", 3, ""),
        ("Endless", -1, ""),
        ("BadObs", -1, "observation"),
        ("BadReward", -1, "reward"),
    ):
        gym.register(f"{name}-v0", lambda end=end, bad=bad, **k: Countdown(end, bad, **k), max_episode_steps=5)
    yield
    for name in ("Ends", "Endless", "BadObs", "BadReward"):
        del gym.registry[f"{name}-v0"]


@pytest.mark.parametrize("env_id, length, ends", [("Ends-v0", 3, "terminated"), ("Endless-v0", 5, "truncated")])
def test_the_true_successor_survives_the_reset(env_id, length, ends):
    steps = itertools.islice(rollout(make_envs(env_id, 2), lambda obs: np.zeros((2, 1)), 0), 2 * length)
    for k, t in enumerate(steps):
        assert t.obs.ravel().tolist() == [k % length] * 2
        assert t.next_obs.ravel().tolist() == [k % length + 1] * 2
        last = (k + 1) % length == 0
        assert t.terminated.tolist() == [last and ends == "terminated"] * 2
        assert t.truncated.tolist() == [last and ends == "truncated"] * 2


def test_actions_are_rescaled_to_the_limits_of_the_environment():
    envs = make_envs("Endless-v0", 1)
    assert (envs.action_low, envs.action_high) == (-2, 4)
    rewards = [next(rollout(envs, lambda obs, a=a: np.full((1, 1), a), 0)).reward[0] for a in (-1, 0, 1)]
    assert rewards == pytest.approx([-2, 1, 4])


@pytest.mark.parametrize("env_id, field", [("BadObs-v0", "observation"), ("BadReward-v0", "reward")])
def test_a_nan_stops_training_with_step_and_field(env_id, field):
    with pytest.raises(FloatingPointError, match=f"{field} is not finite at step 1"):
        list(sac.SAC(sac.Config(env_id, hidden=(4,))).learn(10))
    with pytest.raises(FloatingPointError, match="action is not finite at step 0"):
        next(rollout(make_envs("Endless-v0"), lambda obs: np.full((1, 1), np.nan), 0))


def test_check_finite_names_the_first_bad_field():
    check_finite(0, reward=np.ones(3))
    with pytest.raises(FloatingPointError, match="reward is not finite at step 7"):
        check_finite(7, action=np.ones(2), reward=np.array([1.0, np.inf]))


def test_the_wrong_kind_of_space_is_named_with_a_method_that_fits():
    with pytest.raises(ValueError, match=r"Discrete\(2\).*DQN"):
        make_envs("CartPole-v1")


def test_mean_logs_averages_and_empties():
    seen = [{"q": torch.tensor(1.0)}, {"q": torch.tensor(4.0)}]
    assert mean_logs(seen) == {"q": 2.5}
    assert seen == [] and mean_logs(seen) == {}


def test_evaluate_sums_one_episode_from_each_start():
    assert evaluate(lambda obs: np.zeros((len(obs), 1)), "Ends-v0", 4) == pytest.approx(
        [3.0] * 4, abs=1e-5
    )  # action 1, three steps
    a, b = (evaluate(lambda obs: np.zeros((len(obs), 1)), "Pendulum-v1", 3) for _ in range(2))
    assert a.tolist() == b.tolist() and len(set(a.tolist())) == 3


def test_film_frames_are_pictures():
    frames = film_frames(lambda obs: np.zeros((1, 1)), "Pendulum-v1", 3)
    assert len(frames) == 3 and frames[0].dtype == np.uint8 and frames[0].shape[2] == 3


def test_multigoal_follows_its_description():
    env = MultiGoal()
    obs, _ = env.reset(seed=0)
    assert np.abs(obs).max() < 1
    env.position = np.array([3.9, 0.0])
    obs, reward, terminated, truncated, _ = env.step(np.array([0.5, 0.0]))
    assert obs.tolist() == pytest.approx([4.4, 0.0])
    assert reward == pytest.approx(-30 * 0.25 - min(((GOALS - [4.4, 0.0]) ** 2).sum(1)) + 10)
    assert terminated and not truncated


# -------------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def agent():
    return sac.SAC(sac.Config(hidden=(8, 8), seed=3))


def test_a_checkpoint_gives_the_same_agent_back(agent, tmp_path):
    checkpoint.save(agent, "sac", 123, tmp_path / "a.safetensors")
    loaded = checkpoint.load(tmp_path / "a.safetensors")
    assert loaded.config == agent.config
    obs = np.random.default_rng(0).normal(size=(5, 3))
    assert loaded.act(obs, deterministic=True).tolist() == agent.act(obs, deterministic=True).tolist()
    assert list(tmp_path.iterdir()) == [tmp_path / "a.safetensors"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "text", "other slug", "planned slug", "other shapes"])
def test_a_damaged_checkpoint_is_refused_by_name(agent, tmp_path, damage):
    path = tmp_path / "a.safetensors"
    slug = {"other slug": "nonsense", "planned slug": "mdpo"}.get(damage, "sac")
    if damage != "missing":
        checkpoint.save(agent, slug, 1, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    if damage == "text":
        path.write_text("not a checkpoint")
    if damage == "other shapes":
        other = sac.SAC(sac.Config(hidden=(9, 9)))
        object.__setattr__(other.config, "hidden", (8, 8))
        checkpoint.save(other, "sac", 1, path)
    with pytest.raises(ValueError, match=r"a\.safetensors.*minirl train"):
        checkpoint.load(path)
