"""Oracles of PRDC and of its baselines, and the wrong answers that the assignment must reject."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from minirl.core.replay import Batch
from minirl.data import load
from minirl.data.dataset import take
from minirl.envs import lineworld
from minirl.offline import bc, iql, prdc, td3_bc

# For each exercise: answers that look right and are not. Each replaces the solution cell and must lose its points.
WRONG = {
    "nn_targets": {
        "beta on the data only": """
def nn_targets(s, pi, data_s, data_a, beta):
    keys, points = np.concatenate([s, pi], 1), np.concatenate([beta * data_s, data_a], 1)
    return data_a[np.linalg.norm(keys[:, None] - points, axis=2).argmin(axis=1)]
""",
        "beta on the query only": """
def nn_targets(s, pi, data_s, data_a, beta):
    keys, points = np.concatenate([beta * s, pi], 1), np.concatenate([data_s, data_a], 1)
    return data_a[np.linalg.norm(keys[:, None] - points, axis=2).argmin(axis=1)]
""",
        "the nearest state": """
def nn_targets(s, pi, data_s, data_a, beta):
    return data_a[np.linalg.norm(s[:, None] - data_s, axis=2).argmin(axis=1)]
""",
        "the nearest action": """
def nn_targets(s, pi, data_s, data_a, beta):
    return data_a[np.linalg.norm(pi[:, None] - data_a, axis=2).argmin(axis=1)]
""",
        "beta not squared": """
def nn_targets(s, pi, data_s, data_a, beta):
    d = beta * ((s[:, None] - data_s) ** 2).sum(2) + ((pi[:, None] - data_a) ** 2).sum(2)
    return data_a[d.argmin(axis=1)]
""",
        "city-block distance": """
def nn_targets(s, pi, data_s, data_a, beta):
    d = beta * np.abs(s[:, None] - data_s).sum(2) + np.abs(pi[:, None] - data_a).sum(2)
    return data_a[d.argmin(axis=1)]
""",
        "the sum of two distances": """
def nn_targets(s, pi, data_s, data_a, beta):
    d = beta * np.linalg.norm(s[:, None] - data_s, axis=2) + np.linalg.norm(pi[:, None] - data_a, axis=2)
    return data_a[d.argmin(axis=1)]
""",
        "the sample itself left out": """
def nn_targets(s, pi, data_s, data_a, beta):
    d = np.linalg.norm(np.concatenate([beta * (s[:, None] - data_s), pi[:, None] - data_a], axis=2), axis=2)
    return data_a[np.where(np.all(s[:, None] == data_s, axis=2), np.inf, d).argmin(axis=1)]
""",
        "the farthest pair": """
def nn_targets(s, pi, data_s, data_a, beta):
    d = np.linalg.norm(np.concatenate([beta * (s[:, None] - data_s), pi[:, None] - data_a], axis=2), axis=2)
    return data_a[d.argmax(axis=1)]
""",
    },
    "prdc_actor_loss": {
        "lambda carries a gradient": """
def prdc_actor_loss(q, pi, ahat, alpha):
    return -alpha / q.abs().mean() * q.mean() + ((pi - ahat.detach()) ** 2).mean()
""",
        "the recorded actions carry a gradient": """
def prdc_actor_loss(q, pi, ahat, alpha):
    return -alpha / q.detach().abs().mean() * q.mean() + ((pi - ahat) ** 2).mean()
""",
        "sum over the batch": """
def prdc_actor_loss(q, pi, ahat, alpha):
    return -alpha / q.detach().abs().mean() * q.mean() + ((pi - ahat.detach()) ** 2).sum()
""",
        "sum over the action dimensions": """
def prdc_actor_loss(q, pi, ahat, alpha):
    return -alpha / q.detach().abs().mean() * q.mean() + ((pi - ahat.detach()) ** 2).sum(1).mean()
""",
        "size of the mean for the mean of the sizes": """
def prdc_actor_loss(q, pi, ahat, alpha):
    return -alpha / q.detach().mean().abs() * q.mean() + ((pi - ahat.detach()) ** 2).mean()
""",
        "minimises the value": """
def prdc_actor_loss(q, pi, ahat, alpha):
    return alpha / q.detach().abs().mean() * q.mean() + ((pi - ahat.detach()) ** 2).mean()
""",
        "the value carries no gradient": """
def prdc_actor_loss(q, pi, ahat, alpha):
    return -alpha * q.detach().mean() / q.detach().abs().mean() + ((pi - ahat.detach()) ** 2).mean()
""",
        "alpha on the constraint": """
def prdc_actor_loss(q, pi, ahat, alpha):
    return -q.mean() / q.detach().abs().mean() + alpha * ((pi - ahat.detach()) ** 2).mean()
""",
        "the policy carries no gradient in the constraint": """
def prdc_actor_loss(q, pi, ahat, alpha):
    return -alpha / q.detach().abs().mean() * q.mean() + ((pi.detach() - ahat.detach()) ** 2).mean()
""",
    },
    "point_to_set_distance": {
        "gradient of the distance": """
def point_to_set_distance(s, a, data_s, data_a, beta):
    d2 = beta**2 * ((s - data_s) ** 2).sum(1) + ((a - data_a) ** 2).sum(1)
    i = d2.argmin()
    return np.sqrt(d2[i]), (a - data_a[i]) / np.sqrt(d2[i])
""",
        "squared distance": """
def point_to_set_distance(s, a, data_s, data_a, beta):
    d2 = beta**2 * ((s - data_s) ** 2).sum(1) + ((a - data_a) ** 2).sum(1)
    i = d2.argmin()
    return d2[i], 2 * (a - data_a[i])
""",
        "gradient with respect to the state too": """
def point_to_set_distance(s, a, data_s, data_a, beta):
    d2 = beta**2 * ((s - data_s) ** 2).sum(1) + ((a - data_a) ** 2).sum(1)
    i = d2.argmin()
    return np.sqrt(d2[i]), 2 * np.concatenate([beta**2 * (s - data_s[i]), a - data_a[i]])
""",
        "factor 2 forgotten": """
def point_to_set_distance(s, a, data_s, data_a, beta):
    d2 = beta**2 * ((s - data_s) ** 2).sum(1) + ((a - data_a) ** 2).sum(1)
    i = d2.argmin()
    return np.sqrt(d2[i]), a - data_a[i]
""",
        "gradient towards the data": """
def point_to_set_distance(s, a, data_s, data_a, beta):
    d2 = beta**2 * ((s - data_s) ** 2).sum(1) + ((a - data_a) ** 2).sum(1)
    i = d2.argmin()
    return np.sqrt(d2[i]), 2 * (data_a[i] - a)
""",
        "mean gradient over the data": """
def point_to_set_distance(s, a, data_s, data_a, beta):
    d2 = beta**2 * ((s - data_s) ** 2).sum(1) + ((a - data_a) ** 2).sum(1)
    return np.sqrt(d2.min()), 2 * (a - data_a.mean(axis=0))
""",
        "distance of the actions only": """
def point_to_set_distance(s, a, data_s, data_a, beta):
    d2 = beta**2 * ((s - data_s) ** 2).sum(1) + ((a - data_a) ** 2).sum(1)
    i = d2.argmin()
    return np.linalg.norm(a - data_a[i]), 2 * (a - data_a[i])
""",
        "beta not squared": """
def point_to_set_distance(s, a, data_s, data_a, beta):
    d2 = beta * ((s - data_s) ** 2).sum(1) + ((a - data_a) ** 2).sum(1)
    i = d2.argmin()
    return np.sqrt(d2[i]), 2 * (a - data_a[i])
""",
    },
    "lineworld_data": {
        "bands without any data": """
def lineworld_data(bands, n, seed):
    rng, s = np.random.default_rng(seed), np.empty(0)
    while len(s) < n:
        new = rng.uniform(0, 9.74, n)
        for low, high in bands:
            new = new[(new <= low) | (new >= high)]
        s = np.concatenate([s, new])[:n]
    a = np.where(rng.random(n) < 0.7, 1.0, -1.0) * rng.uniform(0.8, 1.0, n)
    after = np.clip(s + 0.5 * a, 0, 10)
    return s, a, (after >= 9.75) * 1.0, after, after >= 9.75
""",
        "bands ignored": """
def lineworld_data(bands, n, seed):
    rng = np.random.default_rng(seed)
    s = rng.uniform(0, 9.74, n)
    a = np.where(rng.random(n) < 0.7, 1.0, -1.0) * rng.uniform(0.8, 1.0, n)
    after = np.clip(s + 0.5 * a, 0, 10)
    return s, a, (after >= 9.75) * 1.0, after, after >= 9.75
""",
        "only the last band counts": """
def lineworld_data(bands, n, seed):
    rng = np.random.default_rng(seed)
    s = rng.uniform(0, 9.74, n)
    chance = rng.random(n) < 0.7
    right = chance
    for low, high in bands:
        right = chance & ~((low < s) & (s < high))
    a = np.where(right, 1.0, -1.0) * rng.uniform(0.8, 1.0, n)
    after = np.clip(s + 0.5 * a, 0, 10)
    return s, a, (after >= 9.75) * 1.0, after, after >= 9.75
""",
        "left with probability 0.7": """
def lineworld_data(bands, n, seed):
    rng = np.random.default_rng(seed)
    s = rng.uniform(0, 9.74, n)
    right = rng.random(n) < 0.3
    for low, high in bands:
        right &= ~((low < s) & (s < high))
    a = np.where(right, 1.0, -1.0) * rng.uniform(0.8, 1.0, n)
    after = np.clip(s + 0.5 * a, 0, 10)
    return s, a, (after >= 9.75) * 1.0, after, after >= 9.75
""",
        "next states leave the line": """
def lineworld_data(bands, n, seed):
    rng = np.random.default_rng(seed)
    s = rng.uniform(0, 9.74, n)
    right = rng.random(n) < 0.7
    for low, high in bands:
        right &= ~((low < s) & (s < high))
    a = np.where(right, 1.0, -1.0) * rng.uniform(0.8, 1.0, n)
    after = s + 0.5 * a
    return s, a, (after >= 9.75) * 1.0, after, after >= 9.75
""",
        "pays where the state is near the goal": """
def lineworld_data(bands, n, seed):
    rng = np.random.default_rng(seed)
    s = rng.uniform(0, 9.74, n)
    right = rng.random(n) < 0.7
    for low, high in bands:
        right &= ~((low < s) & (s < high))
    a = np.where(right, 1.0, -1.0) * rng.uniform(0.8, 1.0, n)
    after = np.clip(s + 0.5 * a, 0, 10)
    return s, a, (s >= 9.25) * 1.0, after, s >= 9.25
""",
        "a new generator for every array": """
def lineworld_data(bands, n, seed):
    s = np.random.default_rng(seed).uniform(0, 9.74, n)
    right = np.random.default_rng(seed).random(n) < 0.7
    for low, high in bands:
        right &= ~((low < s) & (s < high))
    a = np.where(right, 1.0, -1.0) * np.random.default_rng(seed).uniform(0.8, 1.0, n)
    after = np.clip(s + 0.5 * a, 0, 10)
    return s, a, (after >= 9.75) * 1.0, after, after >= 9.75
""",
        "the seed is not used": """
def lineworld_data(bands, n, seed):
    rng = np.random.default_rng()
    s = rng.uniform(0, 9.74, n)
    right = rng.random(n) < 0.7
    for low, high in bands:
        right &= ~((low < s) & (s < high))
    a = np.where(right, 1.0, -1.0) * rng.uniform(0.8, 1.0, n)
    after = np.clip(s + 0.5 * a, 0, 10)
    return s, a, (after >= 9.75) * 1.0, after, after >= 9.75
""",
    },
    "voronoi_switch": {
        "half-way, whatever the state": """
def voronoi_switch(left, right, beta, ds):
    return (left + right) / 2
""",
        "distance of the states not squared": """
def voronoi_switch(left, right, beta, ds):
    return (left + right) / 2 + abs(beta * ds) / (2 * (right - left))
""",
        "beta not squared": """
def voronoi_switch(left, right, beta, ds):
    return (left + right) / 2 + beta * ds**2 / (2 * (right - left))
""",
        "2 forgotten": """
def voronoi_switch(left, right, beta, ds):
    return (left + right) / 2 + (beta * ds) ** 2 / (right - left)
""",
        "in the wrong direction": """
def voronoi_switch(left, right, beta, ds):
    return (left + right) / 2 - (beta * ds) ** 2 / (2 * (right - left))
""",
        "cut at 1": """
def voronoi_switch(left, right, beta, ds):
    return min((left + right) / 2 + (beta * ds) ** 2 / (2 * (right - left)), 1.0)
""",
        "distances compared along the axes": """
def voronoi_switch(left, right, beta, ds):
    return (left + right + abs(beta * ds)) / 2
""",
    },
}


def brute_force(obs, action, data_obs, data_action, beta):
    """Squared distances (B, N) between all pairs, one subtraction at a time."""
    squares = np.zeros((len(obs), len(data_obs)))
    for dim in range(obs.shape[1]):
        squares += (beta * (obs[:, dim][:, None] - data_obs[:, dim])) ** 2
    for dim in range(action.shape[1]):
        squares += (action[:, dim][:, None] - data_action[:, dim]) ** 2
    return squares


def pairs(n, obs_dim=3, action_dim=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, obs_dim)), rng.uniform(-1, 1, (n, action_dim))


@pytest.fixture(scope="module")
def small():
    """A hundred rows of LineWorld."""
    data = load("lineworld-hard", 100)
    return take(data, 100, data.meta)


def batch_of(agent, size=32, seed=0):
    return agent.buffer.sample(size, torch.Generator().manual_seed(seed))


# ---- the distance to the data ----


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0, 100.0])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_tree_is_brute_force(beta, k):
    data, queries = pairs(500), pairs(1_000, seed=1)
    row, distance = prdc.DatasetTree(*data, beta).query(*queries, k)
    squares = brute_force(*queries, *data, beta)
    assert np.allclose(distance**2, np.sort(squares, axis=1)[:, k - 1], rtol=1e-9, atol=1e-12)
    assert np.allclose(squares[np.arange(1_000), row], distance**2, rtol=1e-9, atol=1e-12)


def test_tree_does_not_care_about_the_order_of_the_data():
    data, queries = pairs(300), pairs(200, seed=1)
    order = np.random.default_rng(2).permutation(300)
    row, distance = prdc.DatasetTree(*data, 1.5).query(*queries)
    other, same = prdc.DatasetTree(data[0][order], data[1][order], 1.5).query(*queries)
    assert np.array_equal(order[other], row) and np.allclose(distance, same, rtol=0, atol=1e-12)


def test_second_neighbour_is_the_second_and_no_mean():
    tree = prdc.DatasetTree(np.zeros((3, 1)), np.array([[0.1], [0.4], [-0.9]]), 1.0)
    row, distance = tree.query(np.zeros((1, 1)), np.zeros((1, 1)), k=2)
    assert row.tolist() == [1] and distance[0] == pytest.approx(0.4)


def test_beta_zero_gives_the_nearest_action_of_all_data():
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(50, 2)), rng.choice([-1.0, 1.0], (50, 1))
    p = rng.uniform(-1, 1, (200, 1))
    row, _ = prdc.DatasetTree(obs, action, 0.0).query(rng.normal(size=(200, 2)), p)
    assert np.array_equal(action[row], np.sign(p))


def test_support_looks_at_the_nearest_states_only():
    obs, action = np.arange(10.0)[:, None], np.where(np.arange(10) < 7, -1.0, 1.0)[:, None]
    query = np.array([[0.2]]), np.array([[0.9]])
    assert action[prdc.SupportTree(obs, action, 5).query(*query)[0]] == -1, "no action to the right among five states"
    assert action[prdc.SupportTree(obs, action, 8).query(*query)[0]] == 1
    assert action[prdc.DatasetTree(obs, action, 0.1).query(*query)[0]] == 1, "PRDC borrows it"
    # against brute force
    data, queries = pairs(200), pairs(100, seed=1)
    row, distance = prdc.SupportTree(*data, 6).query(*queries, 2)
    near = np.argsort(((queries[0][:, None] - data[0]) ** 2).sum(2), axis=1)[:, :6]
    gaps = np.linalg.norm(data[1][near] - queries[1][:, None], axis=2)
    want = np.argsort(gaps, axis=1)[:, 1]
    assert np.array_equal(row, near[np.arange(100), want])
    assert np.allclose(distance, gaps[np.arange(100), want])


def test_three_points_where_support_forbids_what_the_neighbour_offers():
    """At s = 0 only -1 was recorded. d_beta of the action 1 is beta ds there: small, although no support contains it."""
    tree = prdc.DatasetTree(np.array([[0.0], [0.3], [-0.3]]), np.array([[-1.0], [1.0], [-1.0]]), 1.0)
    _, distance = tree.query(np.zeros((1, 1)), np.ones((1, 1)))
    assert distance[0] == pytest.approx(0.3)


@pytest.mark.parametrize("beta", [0.2, 1.0, 3.0])
def test_gradient_of_the_squared_distance(beta):
    """Eq. (5) by finite differences, away from the borders between cells."""
    data, (obs, action) = pairs(60), pairs(200, seed=3)
    tree = prdc.DatasetTree(*data, beta)
    squares = np.sort(brute_force(obs, action, *data, beta), axis=1)
    clear = squares[:, 1] - squares[:, 0] > 1e-3
    assert clear.sum() > 100
    row, _ = tree.query(obs, action)
    for dim in range(2):
        step = np.zeros_like(action)
        step[:, dim] = 1e-5
        slope = (tree.query(obs, action + step)[1] ** 2 - tree.query(obs, action - step)[1] ** 2) / 2e-5
        assert np.allclose(slope[clear], 2 * (action - data[1][row])[clear, dim], atol=1e-4)


def test_voronoi_switch_is_where_the_tree_switches():
    rng = np.random.default_rng(4)
    for _ in range(30):
        left, right = np.sort(rng.uniform(-1, 1, 2)) + np.array([0, 0.05])
        beta, ds = rng.uniform(0, 2), rng.normal()
        tree = prdc.DatasetTree(np.array([[0.0], [ds]]), np.array([[left], [right]]), beta)
        p = prdc.voronoi_switch(left, right, beta, ds)
        key = np.array([[p - 1e-6], [p + 1e-6]])
        assert tree.query(np.zeros((2, 1)), key)[0].tolist() == [0, 1]
        gap = lambda x: np.hypot(x - left, 0) - np.hypot(x - right, beta * ds)  # noqa: B023, E731
        assert p == pytest.approx(brentq(gap, -50, 1e5), abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_value_bound_holds_for_lipschitz_functions(beta):
    """Eq. (7) on random piecewise-linear functions: a maximum of planes is as steep as its steepest plane."""
    data, (obs, action) = pairs(80), pairs(300, seed=5)
    row, distance = prdc.DatasetTree(*data, beta).query(obs, action)
    tight = 0.0
    for seed in range(20):
        planes = np.random.default_rng(seed).normal(size=(6, 5))
        q = lambda s, a: (np.concatenate([s, a], axis=1) @ planes.T).max(axis=1)  # noqa: B023, E731
        steepest = np.linalg.norm(planes, axis=1).max()
        gap = np.abs(q(obs, action) - q(data[0][row], data[1][row]))
        bound = prdc.value_bound(steepest, distance, beta)
        assert (gap <= bound + 1e-9).all()
        tight = max(tight, (gap / bound).max())
    assert tight > 0.3, "a bound that is never near tells nothing"


def test_the_bound_is_attained():
    """A function that only rises along the state, beta < 1, and one along the action, beta > 1."""
    for beta, slope in ((0.25, (1.0, 0.0)), (4.0, (0.0, 1.0))):
        obs, action = np.array([[slope[0]]]), np.array([[slope[1]]])
        _, distance = prdc.DatasetTree(np.zeros((1, 1)), np.zeros((1, 1)), beta).query(obs, action)
        rise = slope[0] * obs[0, 0] + slope[1] * action[0, 0]
        assert prdc.value_bound(1.0, distance, beta)[0] == pytest.approx(rise)


# ---- the losses ----


def test_losses_by_numpy():
    rng = np.random.default_rng(0)
    q, p, a, y = rng.normal(size=7), rng.normal(size=(7, 3)), rng.normal(size=(7, 3)), rng.normal(size=7)
    both = rng.normal(size=(2, 7))
    T = lambda x: torch.as_tensor(x)  # noqa: E731
    assert prdc.value_loss(T(q), 2.5).item() == pytest.approx(-2.5 * q.mean() / np.abs(q).mean())
    assert prdc.constraint_loss(T(p), T(a)).item() == pytest.approx(((p - a) ** 2).mean())
    assert prdc.critic_loss(T(both), T(y)).item() == pytest.approx(((both - y) ** 2).mean(axis=1).sum())
    total = prdc.value_loss(T(q), 2.5) + prdc.constraint_loss(T(p), T(a))
    assert td3_bc.td3_bc_loss(T(q), T(p), T(a), 2.5).item() == pytest.approx(total.item())


def test_target_by_hand_and_without_gradient():
    next_q = torch.tensor([[3.0, 5.0], [4.0, 2.0]], requires_grad=True)
    y = prdc.td3_target(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]), next_q, 0.5)
    assert y.tolist() == [1 + 0.5 * 3, 1.0] and not y.requires_grad


def test_constants_carry_no_gradient():
    p = torch.tensor([[0.2], [-0.4]], requires_grad=True)
    a = torch.tensor([[0.5], [0.5]], requires_grad=True)
    q = 3 * p[:, 0] + 1
    (prdc.value_loss(q, 2.0) + prdc.constraint_loss(p, a)).backward()
    weight = 2.0 / q.detach().abs().mean()
    want = -weight * 3 / 2 + 2 * (p.detach() - a.detach()) / 2
    assert a.grad is None and torch.allclose(p.grad, want)


def test_fixed_point_for_a_linear_critic():
    """Q = c a + d with m = 1: the gradient vanishes at p = a_hat + lambda c / 2."""
    p, teacher, c = torch.zeros(4, 1, requires_grad=True), torch.tensor([[0.1], [-0.3], [0.5], [0.0]]), 0.7
    optimiser = torch.optim.SGD([p], lr=0.5)
    for _ in range(500):
        q = c * p[:, 0] + 10
        optimiser.zero_grad()
        (prdc.value_loss(q, 2.0) + prdc.constraint_loss(p, teacher)).backward()
        optimiser.step()
    weight = 2.0 / (c * p.detach()[:, 0] + 10).abs().mean()
    assert torch.allclose(p.detach(), teacher + weight * c / 2, atol=1e-5)


# ---- the agent ----


def weights(agent):
    return torch.cat([p.detach().flatten() for net in (agent.actor, agent.critic) for p in net.parameters()])


def test_a_huge_beta_is_td3_bc(small):
    """With distinct states the nearest pair of a sample is itself: the same updates, from the same seed, as TD3+BC."""
    assert len(np.unique(small.observations)) == len(small)
    ours = prdc.PRDC(prdc.Config(beta=1e6, seed=3), small)
    theirs = td3_bc.TD3BC(td3_bc.Config(seed=3), small)
    assert torch.equal(weights(ours), weights(theirs))
    for i in range(20):
        log = ours.update(batch_of(ours, seed=i))
        theirs.update(batch_of(theirs, seed=i))
    assert log["own"] == 1
    assert (weights(ours) - weights(theirs)).abs().max() < 1e-6
    small_beta = prdc.PRDC(prdc.Config(beta=0.5, seed=3), small)
    for i in range(20):
        small_beta.update(batch_of(small_beta, seed=i))
    assert (weights(ours) - weights(small_beta)).abs().max() > 1e-3


def test_repeated_states_with_a_huge_beta_give_the_support():
    """Two actions were recorded at one state: the nearer of the two is the teacher."""
    obs, action = np.array([[0.0], [0.0], [1.0]]), np.array([[-1.0], [0.5], [0.1]])
    row, _ = prdc.DatasetTree(obs, action, 1e6).query(np.zeros((2, 1)), np.array([[0.1], [-0.6]]))
    assert row.tolist() == [1, 0]


@pytest.mark.parametrize("constraint", ["dataset", "support"])
def test_teachers_come_from_all_data_with_the_policys_key(small, constraint):
    agent = prdc.PRDC(prdc.Config(constraint=constraint, beta=0.7, k=2, seed=1), small)
    batch = batch_of(agent, 8)
    action = agent.actor(batch.obs)
    teacher, meters = agent.teach(batch, action)
    normal = (small.observations - agent.mean.numpy()) / agent.std.numpy()
    if constraint == "dataset":
        squares = brute_force(batch.obs.numpy(), action.detach().numpy(), normal, small.actions, 0.7)
        row = np.argsort(squares, axis=1)[:, 1]
        assert meters["distance"].item() == pytest.approx(np.sqrt(np.sort(squares, axis=1)[:, 1]).mean(), rel=1e-5)
        assert np.array_equal(teacher.numpy(), small.actions[row])
    assert not teacher.requires_grad and teacher.shape == (8, 1)


def test_without_a_constraint_it_is_td3(small):
    """The actor's gradient is that of -lambda mean Q_1 alone."""
    agent = prdc.PRDC(prdc.Config(constraint="none", policy_delay=1, seed=2), small)
    assert not hasattr(agent, "tree")
    log = agent.update(batch_of(agent))
    assert "pull" not in log and "distance" not in log


def test_the_actor_step_moves_no_critic_and_the_delay_holds(small):
    agent = prdc.PRDC(prdc.Config(seed=2), small)
    before = [weights(agent)[: sum(p.numel() for p in agent.actor.parameters())].clone()]
    agent.update(batch_of(agent))
    after = weights(agent)[: len(before[0])]
    assert torch.equal(before[0], after), "the first update moves the critic only"
    critic = weights(agent)[len(before[0]) :].clone()
    target = torch.cat([p.flatten() for p in agent.target_critic.parameters()]).clone()
    agent.critic_optimiser.param_groups[0]["lr"] = 0.0
    agent.update(batch_of(agent, seed=1))
    assert not torch.equal(before[0], weights(agent)[: len(before[0])])
    assert torch.equal(critic, weights(agent)[len(before[0]) :])
    moved = torch.cat([p.flatten() for p in agent.target_critic.parameters()])
    assert torch.allclose(moved, target + 0.005 * (critic - target), atol=1e-7)


def test_observations_are_normalised_when_acting(small):
    """The classic bug: a policy that was trained on normalised observations and is shown raw ones."""
    agent = prdc.PRDC(prdc.Config(seed=0), small)
    obs = small.observations[:10]
    with torch.no_grad():
        right = agent.actor(torch.as_tensor((obs - small.observations.mean(0)) / (small.observations.std(0) + 1e-3)))
        wrong = agent.actor(torch.as_tensor(obs))
    assert np.allclose(agent.act(obs), right.numpy(), atol=1e-5)
    assert np.abs(agent.act(obs) - wrong.numpy()).max() > 0.01
    raw = prdc.PRDC(prdc.Config(seed=0, normalise=False), small)
    assert np.allclose(raw.act(obs), wrong.numpy(), atol=1e-6)


def test_rewards_are_scaled_and_shifted(small):
    plain = prdc.PRDC(prdc.Config(), small).buffer.rows[:, 2]
    scaled = prdc.PRDC(prdc.Config(reward_scale=10.0, reward_shift=-1.0), small).buffer.rows[:, 2]
    assert torch.equal(scaled, 10 * plain - 1)


def test_only_termination_stops_bootstrapping(small):
    """Every row of this set ends its episode; all but those at the goal go on in value."""
    agent = prdc.PRDC(prdc.Config(), small)
    assert np.array_equal(agent.buffer.rows[:, -1].numpy() == 1, small.next_observations[:, 0] >= 9.75)


@pytest.mark.parametrize(
    "agent",
    [
        lambda data: prdc.PRDC(prdc.Config(eval_every=200, eval_episodes=2, hidden=(8, 8)), data),
        lambda data: td3_bc.TD3BC(td3_bc.Config(eval_every=200, eval_episodes=2, hidden=(8, 8)), data),
        lambda data: bc.BC(bc.Config(eval_every=200, eval_episodes=2, hidden=(8, 8)), data),
        lambda data: iql.IQL(iql.Config(eval_every=200, eval_episodes=2, hidden=(8, 8)), data),
    ],
    ids=["prdc", "td3_bc", "bc", "iql"],
)
def test_learn_is_a_reproducible_generator(small, agent):
    first, second = ([*agent(small).learn(250)] for _ in range(2))
    assert first == second
    assert [log["step"] for log in first] == [0, 100, 200, 250] and first[-1]["progress"] == 1.0
    assert [("return" in log, "score" in log) for log in first] == [
        (True, True),
        (False, False),
        (True, True),
        (False, False),
    ]
    assert first[0]["score"] == pytest.approx(small.score(first[0]["return"]))
    with pytest.raises(ValueError, match="steps"):
        next(agent(small).learn(0))


@pytest.mark.parametrize("constraint, word", [("dataset", "action is not finite after"), ("none", "critic_loss")])
def test_numbers_that_are_not_finite_stop_the_training(small, constraint, word):
    agent = prdc.PRDC(prdc.Config(constraint=constraint, eval_episodes=1, hidden=(8, 8)), small)
    agent.buffer.rows[:, 2] = float("nan")
    with pytest.raises(FloatingPointError, match=word):
        list(agent.learn(100))


def test_bad_configurations_are_named():
    for fields, word in (
        ({"constraint": "bc"}, "constraint"),
        ({"beta": -1.0}, "beta"),
        ({"beta": float("inf")}, "beta"),
        ({"alpha": 0.0}, "alpha"),
        ({"gamma": 1.0}, "gamma"),
        ({"tau": 0.0}, "tau"),
        ({"k": 0}, "k must"),
        ({"support": 0}, "support"),
        ({"policy_delay": 0}, "policy_delay"),
    ):
        with pytest.raises(ValueError, match=word):
            prdc.Config(**fields)
    with pytest.raises(ValueError, match="expectile"):
        iql.Config(expectile=1.0)
    with pytest.raises(ValueError, match="did you mean lineworld-hard"):
        prdc.PRDC(prdc.Config(dataset="lineworld-hart"))


def test_bad_points_are_named():
    obs, action = pairs(5)
    with pytest.raises(ValueError, match="5 and 4"):
        prdc.DatasetTree(obs, action[:4], 1.0)
    with pytest.raises(ValueError, match="row 2"):
        prdc.DatasetTree(np.where(np.arange(5)[:, None] == 2, np.nan, obs), action, 1.0)
    with pytest.raises(ValueError, match="beta"):
        prdc.DatasetTree(obs, action, -1.0)
    with pytest.raises(ValueError, match="k must lie between 1 and the 5 pairs"):
        prdc.DatasetTree(obs, action, 1.0).query(obs, action, 6)
    with pytest.raises(ValueError, match="support"):
        prdc.SupportTree(obs, action, 6)


# ---- the baselines ----


def test_cloning_reaches_the_least_squares_solution(small):
    """Two rows at one state with the actions -0.8 and 0.4: the best constant is their mean."""
    state = np.full((2, 1), 3.0, np.float32)
    actions = np.array([[-0.8], [0.4]], np.float32)
    data = replace(
        take(small, 2, small.meta),
        observations=state,
        next_observations=state + actions / 2,
        actions=actions,
        rewards=np.zeros(2, np.float32),
        terminations=np.zeros(2, bool),
    )
    agent = bc.BC(bc.Config(hidden=(8,), batch_size=64, lr=3e-3), data)
    whole = Batch(*agent.buffer.rows.split([1, 1, 1, 1, 1], dim=1))
    for _ in range(800):
        agent.update(whole)
    assert agent.act(state[:1])[0, 0] == pytest.approx(-0.2, abs=1e-3)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.95])
def test_expectile_loss_has_its_minimum_at_the_expectile(expectile):
    """The expectile v of a sample solves tau sum (q - v)+ = (1 - tau) sum (v - q)+."""
    q = np.random.default_rng(0).normal(size=50)
    balance = lambda v: expectile * np.maximum(q - v, 0).sum() - (1 - expectile) * np.maximum(v - q, 0).sum()  # noqa: E731
    want = brentq(balance, -5, 5)
    v = torch.tensor(want, dtype=torch.float64, requires_grad=True)
    iql.expectile_loss(torch.as_tensor(q) - v, expectile).backward()
    assert abs(v.grad.item()) < 1e-9
    if expectile == 0.5:
        assert iql.expectile_loss(torch.as_tensor(q), 0.5).item() == pytest.approx(0.5 * (q**2).mean())


def test_weighted_regression_by_numpy():
    logp, advantage = (
        torch.tensor([-1.0, -2.0, -3.0], requires_grad=True),
        torch.tensor([0.0, 1.0, 9.0], requires_grad=True),
    )
    loss = iql.weighted_regression(logp, advantage, 3.0, 100.0)
    assert loss.item() == pytest.approx((1 * 1 + np.exp(3) * 2 + 100 * 3) / 3, rel=1e-6)
    loss.backward()
    assert advantage.grad is None


def test_iql_density_is_normal(small):
    agent = iql.IQL(iql.Config(), small)
    agent.log_std.data.fill_(-0.5)
    obs, action = torch.zeros(1, 1).expand(2001, 1), torch.linspace(-8, 8, 2001)[:, None]
    density = agent.log_prob(obs, action).exp().detach().numpy()
    assert np.trapezoid(density, action[:, 0].numpy()) == pytest.approx(1, abs=1e-4)
    mean = np.trapezoid(density * action[:, 0].numpy(), action[:, 0].numpy())
    raw = torch.tanh(agent.actor(torch.zeros(1, 1))).item()
    assert mean == pytest.approx(raw, abs=1e-3)


# ---- what it learns ----


@pytest.mark.slow
def test_the_critic_knows_the_optimal_values_where_everything_was_recorded():
    """Without bands the best policy is in the data: after training Q is near Q* on the data (seed fixed, CPU only)."""
    data = load("lineworld-easy", 100)
    agent = prdc.PRDC(prdc.Config(seed=100, eval_every=10_000, gamma=0.8, tau=0.02), data)
    for _ in agent.learn(2_500):
        pass
    obs, action = agent.buffer.rows[:1_000, :1], agent.buffer.rows[:1_000, 1:2]
    with torch.no_grad():
        q = agent.critic(obs, action).min(dim=0).values.numpy()
    want = lineworld.PLAIN.q(data.observations[:1_000, 0], data.actions[:1_000, 0], 0.8)
    assert np.abs(q - want).mean() < 0.05
    assert lineworld.success(agent.act).all()
