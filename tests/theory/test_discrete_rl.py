"""Oracles of PPO and DQN on finite MDPs: definitions spelled out, and returns that are known exactly."""

import itertools
import math

import numpy as np
import pytest
import torch

from minirl.core.nets import MLP
from minirl.core.seeding import torch_generator
from minirl.core.tabular import FiniteMDP
from minirl.envs.finite_mdps import bait_chain, grid_world, relabel
from minirl.theory.discrete_rl import (
    DQNConfig,
    PPOConfig,
    StateMLP,
    advance,
    dqn,
    epsilon,
    gae,
    greedy_return,
    ppo,
    ppo_loss,
    steps_to,
    td_target,
)


def test_a_row_lookup_is_a_linear_layer_on_the_one_hot_state():
    state = torch.tensor([3, 0, 3, 6, 1])
    lookup, linear = (kind((7, 5, 4, 3), torch_generator(0)) for kind in (StateMLP, MLP))
    a, b = lookup(state), linear(torch.eye(7)[state])
    torch.testing.assert_close(a, b)
    a.square().sum().backward()
    b.square().sum().backward()
    for x, y in zip(lookup.parameters(), linear.parameters(), strict=True):
        torch.testing.assert_close(x.grad, y.grad)


def test_advantages_are_discounted_sums_of_td_errors():
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, 12, 4))
    terminated = rng.random((12, 4)) < 0.15
    ended = terminated | (rng.random((12, 4)) < 0.15)
    ours = gae(reward, value, next_value, terminated, ended, 0.9, 0.8)
    for t, n in np.ndindex(12, 4):
        expected, weight = 0.0, 1.0
        for u in range(t, 12):
            after = 0.0 if terminated[u, n] else 0.9 * next_value[u, n]
            expected += weight * (reward[u, n] + after - value[u, n])
            weight *= 0.9 * 0.8
            if ended[u, n]:
                break
        assert ours[t, n] == pytest.approx(expected, abs=1e-12)


def test_the_clipped_objective_by_hand():
    """Ratios 2, 2, 1/2, 1/2 with advantages +, -, +, -, clip 0.1: min gives 1.1, -2, 0.5, -0.9."""
    logits = torch.tensor([[math.log(0.8), math.log(0.2)]] * 2 + [[math.log(0.2), math.log(0.8)]] * 2)
    logits.requires_grad_(True)
    logp_old = torch.full((4,), 0.4).log()
    loss = ppo_loss(logits, torch.zeros(4, dtype=torch.long), logp_old, torch.tensor([1.0, -1, 1, -1]), 0.1, 0.0)
    assert loss.item() == pytest.approx(-(1.1 - 2 + 0.5 - 0.9) / 4, abs=1e-6)
    loss.backward()
    assert (logits.grad.abs().sum(1) > 1e-3).tolist() == [False, True, True, False]


def test_the_entropy_bonus_rewards_uniform_actions():
    losses = [
        ppo_loss(torch.tensor([row]), torch.tensor([0]), torch.zeros(1), torch.zeros(1), 0.1, 0.5).item()
        for row in ([0.0, 0.0, 0.0], [9.0, 0.0, 0.0])
    ]
    assert losses[0] == pytest.approx(-0.5 * math.log(3), abs=1e-6) and losses[1] > losses[0]


def test_termination_stops_bootstrapping():
    y = td_target(torch.tensor([1.0, 1.0]), torch.tensor([False, True]), torch.tensor([5.0, 5.0]), 0.9)
    assert y.tolist() == pytest.approx([5.5, 1.0])


def test_exploration_falls_linearly():
    config = DQNConfig(exploration_fraction=0.5, final_epsilon=0.1)
    assert [epsilon(step, 1_000, config) for step in (0, 250, 500, 900)] == pytest.approx([1, 0.55, 0.1, 0.1])


def test_copies_restart_at_the_end_and_at_the_horizon():
    mdp = bait_chain(3, 2, 0.1)
    state, age, rng = np.array([0, 0, 1]), np.array([0, 0, 2]), np.random.default_rng(0)
    reward, successor, terminated, ended, state, age = advance(mdp, state, age, np.array([0, 1, 0]), rng)
    assert reward.tolist() == [0, 0.1, 0]
    assert successor.tolist() == [1, 3, 2]
    assert terminated.tolist() == [False, True, False]
    assert ended.tolist() == [False, True, True]  # the third one only ran out of time
    assert state.tolist() == [1, 0, 0] and age.tolist() == [1, 0, 0]


def test_the_reported_return_is_that_of_the_greedy_policy():
    """All 2^3 deterministic policies of a chain: forward everywhere pays 1, giving up at the start pays the bait."""
    mdp = bait_chain(3, 2, 0.1)
    for choice in itertools.product((0, 1), repeat=3):
        preference = np.zeros((4, 2))
        preference[np.arange(3), choice] = 1
        expected = 1.0 if sum(choice) == 0 else 0.1 if choice[0] else 0.0
        assert greedy_return(mdp, preference) == pytest.approx(expected)


def test_steps_to_a_target_are_counted_to_the_first_crossing():
    logs = [{"step": s, "return": J} for s, J in ((0, 0.2), (500, 0.9), (1_000, 0.3), (1_500, 1.0))]
    assert steps_to(logs, 0.9) == 500 and steps_to(logs, 0.95) == 1_500 and steps_to(logs, 1.1) == math.inf


LEARNERS = {
    "ppo": lambda mdp, steps, seed, **kwargs: ppo(mdp, steps, PPOConfig(n_steps=16, seed=seed, **kwargs)),
    "dqn": lambda mdp, steps, seed, **kwargs: dqn(mdp, steps, DQNConfig(0.5, seed=seed, **kwargs)),
}


@pytest.mark.slow
@pytest.mark.parametrize("learner", LEARNERS)
def test_both_learn_a_grid_and_a_chain(learner):
    """From nothing to J* = 1. On seeds 100 to 109, 38 of the 40 runs did (PPO took the bait for good once)."""
    for mdp in (grid_world(4, 12), relabel(bait_chain(5, 2, 0.2), 1)):
        logs = LEARNERS[learner](mdp, 15_000, 100)
        first = next(logs)
        assert first["step"] == 0 and first["return"] < 0.5
        assert steps_to(logs, 0.95) <= 15_000


@pytest.mark.parametrize("learner", LEARNERS)
def test_logs_move_forward_to_the_end(learner):
    logs = list(LEARNERS[learner](bait_chain(3, 2, 0.1), 1_300, 100))
    steps = [log["step"] for log in logs]
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] >= 1_300
    assert [log["progress"] for log in logs] == [min(step / 1_300, 1) for step in steps]
    assert max(b - a for a, b in itertools.pairwise(steps)) < 2 * 500


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_horizon_does_not_stop_bootstrapping(learner):
    """One step an episode, from state 0 or 1. In 0, action 1 pays 0.1 and ends; action 0 leads to 1, which pays 1.

    Whoever bootstraps at the horizon prefers action 0 (J = 0.5); whoever puts a zero there takes the 0.1 (J = 0.55).
    """
    P = np.zeros((3, 2, 3))
    P[0, 0, 1] = P[0, 1, 2] = P[1, :, 2] = P[2, :, 2] = 1
    mdp = FiniteMDP(P, np.array([[0.0, 0.1], [1.0, 1.0], [0.0, 0.0]]), np.array([0.5, 0.5, 0.0]), 1)
    assert list(LEARNERS[learner](mdp, 6_000, 100))[-1]["return"] == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("learner", LEARNERS)
def test_runs_depend_on_their_seed_alone(learner):
    mdp = grid_world(4, 12, slip=0.2)
    runs = [LEARNERS[learner](mdp, 3_000, seed) for seed in (100, 100, 101)]
    side_by_side = list(zip(*runs, strict=True))
    alone = list(LEARNERS[learner](mdp, 3_000, 100))
    assert [a for a, _, _ in side_by_side] == [b for _, b, _ in side_by_side] == alone
    assert [a for a, _, _ in side_by_side] != [c for _, _, c in side_by_side]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PPOConfig(n_steps=0), "n_steps must be a whole number of at least 1, got 0"),
        (lambda: PPOConfig(gamma=1.0), "gamma"),
        (lambda: DQNConfig(batch_size=2.5), "batch_size must be a whole number of at least 1, got 2.5"),
        (lambda: DQNConfig(gamma=-0.1), "gamma"),
        (lambda: DQNConfig(exploration_fraction=0.0), "exploration_fraction"),
    ],
)
def test_settings_that_make_no_sense_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
