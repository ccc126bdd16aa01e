"""Oracles of A2PR and of its theorems, and the wrong answers that the assignment must reject."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from minirl.core.replay import Batch
from minirl.core.tabular import FiniteMDP
from minirl.data import load
from minirl.data.dataset import take
from minirl.offline import a2pr, a2pr_tabular, prdc, td3_bc

# For each exercise: answers that look right and are not. Each replaces the solution cell and must lose its points.
WRONG = {
    "advantage_target": {
        "the larger of the two": """
def advantage_target(q_target, q_online, reward, terminated, gamma):
    best = np.maximum(q_target.min(axis=0), q_online.min(axis=0))
    return reward + gamma * (1 - terminated) * best
""",
        "the target critics only": """
def advantage_target(q_target, q_online, reward, terminated, gamma):
    return reward + gamma * (1 - terminated) * q_target.min(axis=0)
""",
        "the online critics only": """
def advantage_target(q_target, q_online, reward, terminated, gamma):
    return reward + gamma * (1 - terminated) * q_online.min(axis=0)
""",
        "the first critics only": """
def advantage_target(q_target, q_online, reward, terminated, gamma):
    return reward + gamma * (1 - terminated) * np.minimum(q_target[0], q_online[0])
""",
        "the mean of target and online": """
def advantage_target(q_target, q_online, reward, terminated, gamma):
    return reward + gamma * (1 - terminated) * (q_target.min(axis=0) + q_online.min(axis=0)) / 2
""",
        "bootstraps where the episode ended": """
def advantage_target(q_target, q_online, reward, terminated, gamma):
    return reward + gamma * np.minimum(q_target.min(axis=0), q_online.min(axis=0))
""",
        "no discount": """
def advantage_target(q_target, q_online, reward, terminated, gamma):
    return reward + (1 - terminated) * np.minimum(q_target.min(axis=0), q_online.min(axis=0))
""",
        "the least of the batch": """
def advantage_target(q_target, q_online, reward, terminated, gamma):
    return reward + gamma * (1 - terminated) * min(q_target.min(), q_online.min())
""",
        "no reward at the end": """
def advantage_target(q_target, q_online, reward, terminated, gamma):
    return (1 - terminated) * (reward + gamma * np.minimum(q_target.min(axis=0), q_online.min(axis=0)))
""",
    },
    "gaussian_kl": {
        "log std taken for log variance": """
def gaussian_kl(mean, log_std):
    return -0.5 * (1 + log_std - mean**2 - log_std.exp()).mean()
""",
        "log std taken for the variance": """
def gaussian_kl(mean, log_std):
    return -0.5 * (1 + log_std.abs().log() - mean**2 - log_std).mean()
""",
        "sum over the dimensions": """
def gaussian_kl(mean, log_std):
    return -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp()).sum(dim=1).mean()
""",
        "factor one half forgotten": """
def gaussian_kl(mean, log_std):
    return -(1 + 2 * log_std - mean**2 - (2 * log_std).exp()).mean()
""",
        "the wrong way round": """
def gaussian_kl(mean, log_std):
    var = (2 * log_std).exp()
    return 0.5 * ((1 + mean**2) / var - 1 + 2 * log_std).mean()
""",
        "sign": """
def gaussian_kl(mean, log_std):
    return 0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp()).mean()
""",
        "mean not squared": """
def gaussian_kl(mean, log_std):
    return -0.5 * (1 + 2 * log_std - mean.abs() - (2 * log_std).exp()).mean()
""",
    },
    "epbl_loss": {
        "the KL term filtered too": """
def epbl_loss(recon, action, mean, log_std, advantage, weight):
    good = (advantage > 0).to(recon.dtype)[:, None]
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
    return (weight * good * (recon - action) ** 2).mean() + 0.5 * (good * kl).mean()
""",
        "the KL term weighted too": """
def epbl_loss(recon, action, mean, log_std, advantage, weight):
    good = (advantage > 0).to(recon.dtype)[:, None]
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
    return weight * ((good * (recon - action) ** 2).mean() + 0.5 * kl.mean())
""",
        "mean over the good samples only": """
def epbl_loss(recon, action, mean, log_std, advantage, weight):
    good = advantage > 0
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
    squares = (recon - action)[good] ** 2
    return weight * squares.sum() / max(squares.numel(), 1) + 0.5 * kl.mean()
""",
        "sum over the dimensions": """
def epbl_loss(recon, action, mean, log_std, advantage, weight):
    good = (advantage > 0).to(recon.dtype)[:, None]
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
    return (weight * good * (recon - action) ** 2).sum(1).mean() + 0.5 * kl.mean()
""",
        "a tie counts as good": """
def epbl_loss(recon, action, mean, log_std, advantage, weight):
    good = (advantage >= 0).to(recon.dtype)[:, None]
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
    return (weight * good * (recon - action) ** 2).mean() + 0.5 * kl.mean()
""",
        "weighted by the advantage": """
def epbl_loss(recon, action, mean, log_std, advantage, weight):
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
    return (weight * advantage.clamp_min(0)[:, None] * (recon - action) ** 2).mean() + 0.5 * kl.mean()
""",
        "learns from everything": """
def epbl_loss(recon, action, mean, log_std, advantage, weight):
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
    return weight * ((recon - action) ** 2).mean() + 0.5 * kl.mean()
""",
        "KL term without its half": """
def epbl_loss(recon, action, mean, log_std, advantage, weight):
    good = (advantage > 0).to(recon.dtype)[:, None]
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
    return (weight * good * (recon - action) ** 2).mean() + kl.mean()
""",
        "the advantages carry a gradient": """
def epbl_loss(recon, action, mean, log_std, advantage, weight):
    good = (advantage > 0).to(recon.dtype)[:, None] + advantage[:, None] - advantage[:, None].detach()
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
    return (weight * good * (recon - action) ** 2).mean() + 0.5 * kl.mean()
""",
    },
    "choose_target": {
        "open only where both are good": """
def choose_target(action, vae_action, adv_data, adv_vae):
    gate = (adv_vae >= 0) & (adv_data > 0)
    return np.where((adv_vae >= adv_data)[:, None], vae_action, action), gate * 1.0
""",
        "two where both are good": """
def choose_target(action, vae_action, adv_data, adv_vae):
    gate = (adv_vae >= 0) * 1.0 + (adv_data > 0) * 1.0
    return np.where((adv_vae >= adv_data)[:, None], vae_action, action), gate
""",
        "a soft mixture": """
def choose_target(action, vae_action, adv_data, adv_vae):
    share = (1 / (1 + np.exp(adv_data - adv_vae)))[:, None]
    return share * vae_action + (1 - share) * action, ((adv_vae >= 0) | (adv_data > 0)) * 1.0
""",
        "the worse of the two": """
def choose_target(action, vae_action, adv_data, adv_vae):
    gate = (adv_vae >= 0) | (adv_data > 0)
    return np.where((adv_vae >= adv_data)[:, None], action, vae_action), gate * 1.0
""",
        "the recorded action at a tie": """
def choose_target(action, vae_action, adv_data, adv_vae):
    gate = (adv_vae >= 0) | (adv_data > 0)
    return np.where((adv_vae > adv_data)[:, None], vae_action, action), gate * 1.0
""",
        "the VAE's action wherever it is good": """
def choose_target(action, vae_action, adv_data, adv_vae):
    gate = (adv_vae >= 0) | (adv_data > 0)
    return np.where((adv_vae >= 0)[:, None], vae_action, action), gate * 1.0
""",
        "the gate looks at the recorded action only": """
def choose_target(action, vae_action, adv_data, adv_vae):
    return np.where((adv_vae >= adv_data)[:, None], vae_action, action), (adv_data > 0) * 1.0
""",
        "always open": """
def choose_target(action, vae_action, adv_data, adv_vae):
    return np.where((adv_vae >= adv_data)[:, None], vae_action, action), np.ones(len(action))
""",
        "one choice for the whole batch": """
def choose_target(action, vae_action, adv_data, adv_vae):
    gate = (adv_vae >= 0) | (adv_data > 0)
    return (vae_action if adv_vae.mean() >= adv_data.mean() else action), gate * 1.0
""",
    },
    "filtered_policy_value": {
        "advantages of the greedy policy": """
def filtered_policy_value(P, R, beta, gamma):
    S, policy = len(R), np.full(R.shape, 1 / R.shape[1])
    for _ in range(100):
        move = (policy[:, :, None] * P).sum(1)
        V = np.linalg.solve(np.eye(S) - gamma * move, (policy * R).sum(1))
        policy = np.eye(R.shape[1])[(R + gamma * P @ V).argmax(1)]
    kept = beta * (R + gamma * P @ V >= V[:, None] - 1e-12)
    total = kept.sum(1, keepdims=True)
    new = np.where(total > 0, kept / np.where(total > 0, total, 1), beta)
    return np.linalg.solve(np.eye(S) - gamma * (new[:, :, None] * P).sum(1), (new * R).sum(1))
""",
        "advantages of the uniform policy": """
def filtered_policy_value(P, R, beta, gamma):
    S, policy = len(R), np.full(R.shape, 1 / R.shape[1])
    V = np.linalg.solve(np.eye(S) - gamma * (policy[:, :, None] * P).sum(1), (policy * R).sum(1))
    kept = beta * (R + gamma * P @ V > V[:, None])
    total = kept.sum(1, keepdims=True)
    new = np.where(total > 0, kept / np.where(total > 0, total, 1), beta)
    return np.linalg.solve(np.eye(S) - gamma * (new[:, :, None] * P).sum(1), (new * R).sum(1))
""",
        "not normalised": """
def filtered_policy_value(P, R, beta, gamma):
    S = len(R)
    V = np.linalg.solve(np.eye(S) - gamma * (beta[:, :, None] * P).sum(1), (beta * R).sum(1))
    new = beta * (R + gamma * P @ V > V[:, None])
    return np.linalg.solve(np.eye(S) - gamma * (new[:, :, None] * P).sum(1), (new * R).sum(1))
""",
        "uniform over the good actions": """
def filtered_policy_value(P, R, beta, gamma):
    S = len(R)
    V = np.linalg.solve(np.eye(S) - gamma * (beta[:, :, None] * P).sum(1), (beta * R).sum(1))
    kept = (R + gamma * P @ V > V[:, None]) * 1.0
    new = kept / kept.sum(1, keepdims=True)
    return np.linalg.solve(np.eye(S) - gamma * (new[:, :, None] * P).sum(1), (new * R).sum(1))
""",
        "the best action only": """
def filtered_policy_value(P, R, beta, gamma):
    S = len(R)
    V = np.linalg.solve(np.eye(S) - gamma * (beta[:, :, None] * P).sum(1), (beta * R).sum(1))
    new = np.eye(R.shape[1])[(R + gamma * P @ V).argmax(1)]
    return np.linalg.solve(np.eye(S) - gamma * (new[:, :, None] * P).sum(1), (new * R).sum(1))
""",
        "one step only": """
def filtered_policy_value(P, R, beta, gamma):
    S = len(R)
    V = np.linalg.solve(np.eye(S) - gamma * (beta[:, :, None] * P).sum(1), (beta * R).sum(1))
    Q = R + gamma * P @ V
    kept = beta * (Q > V[:, None])
    return (kept * Q).sum(1) / kept.sum(1)
""",
        "the value of the behaviour": """
def filtered_policy_value(P, R, beta, gamma):
    S = len(R)
    return np.linalg.solve(np.eye(S) - gamma * (beta[:, :, None] * P).sum(1), (beta * R).sum(1))
""",
        "rewards above the mean": """
def filtered_policy_value(P, R, beta, gamma):
    S = len(R)
    kept = beta * (R > (beta * R).sum(1, keepdims=True))
    mass = kept.sum(1, keepdims=True)
    new = np.where(mass > 0, kept / np.where(mass > 0, mass, 1), beta)
    return np.linalg.solve(np.eye(S) - gamma * (new[:, :, None] * P).sum(1), (new * R).sum(1))
""",
    },
}


def random_mdp(rng, S=6, A=4):
    """P (S, A, S), R (S, A), a behaviour policy (S, A) and a start distribution (S,)."""
    behaviour = rng.dirichlet(np.full(A, 0.7), S)
    return rng.dirichlet(np.full(S, 0.5), (S, A)), rng.normal(size=(S, A)), behaviour, rng.dirichlet(np.ones(S))


def exact(P, R, policy, gamma):
    """V (S,), Q (S, A) of a policy by a dense linear solve."""
    S = len(R)
    V = np.linalg.solve(np.eye(S) - gamma * np.einsum("sa,sat->st", policy, P), (policy * R).sum(1))
    return V, R + gamma * P @ V


@pytest.fixture(scope="module")
def small():
    """A hundred rows of LineWorld."""
    data = load("lineworld-mixed-30", 100)
    return take(data, 100, data.meta)


def batch_of(agent, size=32, seed=0):
    return agent.buffer.sample(size, torch.Generator().manual_seed(seed))


def double(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- the losses ----


def test_targets_by_hand_and_without_gradient():
    target_q = torch.tensor([[3.0, 5.0, 1.0], [4.0, 2.0, 9.0]], requires_grad=True)
    online_q = torch.tensor([[1.0, 7.0, 8.0], [2.0, 6.0, 7.0]], requires_grad=True)
    reward, end = torch.tensor([1.0, 1.0, 0.5]), torch.tensor([0.0, 0.0, 1.0])
    y = a2pr.td3_target(reward, end, target_q, 0.5)
    t = a2pr.advantage_target(target_q, online_q, reward, end, 0.5)
    assert y.tolist() == [2.5, 2.0, 0.5] and t.tolist() == [1.5, 2.0, 0.5]
    assert not y.requires_grad and not t.requires_grad
    both = double(2, 7).requires_grad_()
    y = double(7, seed=1)
    assert a2pr.critic_loss(both, y).item() == pytest.approx(((both - y) ** 2).mean(dim=1).sum().item())


def test_kl_is_that_of_torch_and_never_negative():
    mean, log_std = double(50, 3), double(50, 3, seed=1)
    normal = torch.distributions.Normal
    want = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0.0, 1.0)).mean()
    assert a2pr.gaussian_kl(mean, log_std).item() == pytest.approx(want.item())
    assert a2pr.gaussian_kl(torch.zeros(4, 2), torch.zeros(4, 2)) == 0
    for row in range(50):
        assert a2pr.gaussian_kl(mean[row : row + 1], log_std[row : row + 1]) > 0


def test_kl_by_sampling():
    """E log q(z) - log p(z) over 4e5 draws; 5 standard errors, exceeded by chance less than once in 10^6."""
    mean, log_std, n = 0.7, -0.4, 400_000
    z = mean + np.exp(log_std) * np.random.default_rng(0).normal(size=n)
    ratio = -0.5 * ((z - mean) / np.exp(log_std)) ** 2 - log_std + 0.5 * z**2
    got = a2pr.gaussian_kl(torch.tensor([[mean]]), torch.tensor([[log_std]])).item()
    assert abs(got - ratio.mean()) < 5 * ratio.std() / np.sqrt(n)


def test_filtered_loss_by_numpy():
    recon, action, mean, log_std = double(6, 3), double(6, 3, seed=1), double(6, 4, seed=2), double(6, 4, seed=3)
    advantage = torch.tensor([0.3, -0.2, 0.0, 2.0, -1.0, 1e-6], dtype=torch.float64)
    got = a2pr.epbl_loss(recon, action, mean, log_std, advantage, 1.5).item()
    kept = [0, 3, 5]  # a tie is not good
    squares = 1.5 * ((recon - action)[kept] ** 2).sum().item() / 18
    kl = 0.5 * ((log_std * 2).exp() + mean**2 - 1 - 2 * log_std).mean().item()
    assert got == pytest.approx(squares + 0.5 * kl)


def test_duplicates_are_a_weight():
    """k copies of every good sample, as many bad ones added: the reconstruction part is that of weight k."""
    recon, action = double(4, 2), double(4, 2, seed=1)
    none = torch.zeros(4, 1, dtype=torch.float64)  # KL 0
    good = torch.tensor([1.0, -1.0, 1.0, -1.0])
    for k in (2, 3):
        many = [x.repeat(k, *[1] * (x.dim() - 1)) for x in (recon, action, none, none, good)]
        assert k * 4 * a2pr.epbl_loss(recon, action, none, none, good).item() == pytest.approx(
            k * 4 * a2pr.epbl_loss(*many).item()
        )
        assert a2pr.epbl_loss(recon, action, none, none, good, k).item() == pytest.approx(
            k * a2pr.epbl_loss(recon, action, none, none, good).item()
        )


def test_filtering_is_the_elbo_of_the_filtered_behaviour():
    """Eq. (10) on a table: the weighted log-likelihood is maximal at beta restricted to the good actions."""
    beta, good = torch.tensor([0.4, 0.1, 0.3, 0.2]).double(), torch.tensor([0.0, 1.0, 1.0, 0.0]).double()
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12)

    def closure():
        optimiser.zero_grad()
        loss = -(beta * good * logits.log_softmax(0)).sum() + 1e-12 * logits.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    want = beta * good / (beta * good).sum()
    assert torch.allclose(logits.detach().softmax(0), want, atol=1e-4)


CASES = [  # A_d, A_v, teacher is the VAE, gate
    (0.5, 0.7, True, True),
    (0.7, 0.5, False, True),
    (0.5, -0.2, False, True),
    (-0.2, 0.5, True, True),
    (-0.2, -0.1, True, False),
    (-0.1, -0.2, False, False),
    (0.0, 0.0, True, True),
    (0.0, -0.1, False, False),
    (-0.1, 0.0, True, True),
]


def test_target_and_gate_by_truth_table():
    adv_data, adv_vae = (torch.tensor([case[i] for case in CASES]) for i in (0, 1))
    action, vae_action = torch.zeros(9, 2), torch.ones(9, 2)
    target = a2pr.choose_target(action, vae_action, adv_data, adv_vae)
    assert target.tolist() == [[float(case[2])] * 2 for case in CASES]
    gate = a2pr.open_gate(adv_data, adv_vae)
    assert gate.dtype == torch.bool and gate.tolist() == [case[3] for case in CASES]


def test_the_gate_is_or_and_never_two():
    adv_data, adv_vae = double(1000), double(1000, seed=1)
    gate = a2pr.open_gate(adv_data, adv_vae)
    assert torch.equal(gate, (adv_vae >= 0) + (adv_data > 0)), "bool + bool is OR, as in the authors' code"
    assert set(gate.float().tolist()) == {0.0, 1.0}
    both = (adv_data > 0) & (adv_vae > 0)
    loss = lambda rows: a2pr.constraint_loss(torch.ones(int(rows.sum()), 1), torch.zeros(1), gate[rows], 0.4).item()  # noqa: E731
    assert loss(both) == pytest.approx(0.4) and loss(~gate) == 0


def test_actor_losses_by_numpy_and_their_constants():
    p = double(5, 2).requires_grad_()
    target, gate = double(5, 2, seed=1), torch.tensor([True, False, True, True, False])
    slope = double(5, 2, seed=2)
    q = (slope * p).sum(1) + 0.3
    loss = a2pr.value_loss(q, 2.0) + a2pr.constraint_loss(p, target, gate, 0.4)
    weight = 2.0 / q.detach().abs().mean()
    gaps = gate.double().unsqueeze(1) * (p.detach() - target)
    assert loss.item() == pytest.approx((-weight * q.detach().mean() + 0.4 * (gaps**2).mean()).item())
    loss.backward()
    assert torch.allclose(p.grad, -weight * slope / 5 + 0.4 * 2 * gaps / 10)


# ---- the theorems ----


@pytest.mark.parametrize("seed", range(50))
def test_the_filtered_behaviour_is_never_worse(seed):
    """Eqs. (4) and (5), exactly, on random MDPs: J(filtered) - J(beta) by two linear solves is E A^beta / (1 - gamma)."""
    rng = np.random.default_rng(seed)
    P, R, beta, start = random_mdp(rng)
    mdp, gamma = FiniteMDP(P, R, start, horizon=1), rng.uniform(0.3, 0.97)
    V, Q = exact(P, R, beta, gamma)
    assert np.allclose(a2pr_tabular.advantages(mdp, beta, gamma), Q - V[:, None])
    filtered = a2pr_tabular.filtered_policy(mdp, beta, gamma)
    assert np.allclose(filtered.sum(1), 1) and (filtered[Q < V[:, None] - 1e-9] == 0).all()
    for kept, p, q in zip(filtered > 0, filtered, beta, strict=True):
        assert np.allclose(p[kept], q[kept] / q[kept].sum()), "not beta up to a factor"
    better, _ = exact(P, R, filtered, gamma)
    assert (better >= V - 1e-9).all() and start @ better > start @ V + 1e-6
    for policy in (filtered, rng.dirichlet(np.ones(4), 6)):
        gap = start @ (exact(P, R, policy, gamma)[0] - V)
        assert a2pr_tabular.performance_difference(mdp, policy, beta, gamma) == pytest.approx(gap, abs=1e-9)
        assert a2pr_tabular.discounted_return(mdp, policy, gamma) == pytest.approx(
            start @ exact(P, R, policy, gamma)[0]
        )


def test_filter_keeps_the_behaviour_where_nothing_is_good():
    """Every action of a state with one reward has advantage 0: nothing is kept by A > 0, and the policy stays."""
    mdp = FiniteMDP(np.full((2, 3, 2), 0.5), np.ones((2, 3)), 0, horizon=1)
    beta = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    assert np.array_equal(a2pr_tabular.filtered_policy(mdp, beta, 0.9, eps=1e-9), beta)


def test_occupancy_is_the_discounted_time():
    """Against the sum of 2,000 powers."""
    P, R, beta, start = random_mdp(np.random.default_rng(3))
    move, d, want = np.einsum("sa,sat->st", beta, P), start, np.zeros(6)
    for t in range(2_000):
        want += 0.1 * 0.9**t * d
        d = d @ move
    got = a2pr_tabular.occupancy(FiniteMDP(P, R, start, horizon=1), beta, 0.9)
    assert np.allclose(got, want) and got.sum() == pytest.approx(1)


def test_gap_bound_holds():
    """Eq. (15) on random MDPs whose four actions lie on a line: K and eps measured there, pi* by policy iteration."""
    used = 0.0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        P, R, best, start = random_mdp(rng)
        gamma, x = rng.uniform(0.3, 0.9), np.sort(rng.uniform(-1, 1, 4)) + 0.1 * np.arange(4)
        for _ in range(30):
            V, Q = exact(P, R, best, gamma)
            best = np.eye(4)[Q.argmax(1)]
        ours = rng.integers(4, size=6)
        value, Q = exact(P, R, np.eye(4)[ours], gamma)
        target = np.where(rng.random(6) < 0.7, Q.argmax(1), ours)
        K = max(np.abs(Q[:, i] - Q[:, j]).max() / abs(x[i] - x[j]) for i in range(4) for j in range(i))
        missed = (Q.max(1) - Q[np.arange(6), target]).max()
        bound = a2pr_tabular.gap_bound(missed, K, np.abs(x[ours] - x[target]).max(), gamma)
        gap = start @ (V - value)
        assert -1e-9 <= gap <= bound + 1e-9
        used = max(used, gap / bound)
    assert used > 0.3, "a bound that is never near tells nothing"


# ---- the VAE ----


def vae_of(**shape):
    shape = {"obs_dim": 1, "action_dim": 2, "latent": 4, "hidden": (64, 64), **shape}
    return a2pr.CVAE(**shape, generator=torch.Generator().manual_seed(0))


def test_vae_without_kl_remembers_ten_points():
    vae, obs = vae_of(), torch.linspace(-1, 1, 10)[:, None]
    action = 0.9 * torch.rand(10, 2, generator=torch.Generator().manual_seed(1)) - 0.45
    optimiser = torch.optim.Adam(vae.parameters(), 3e-3)
    for _ in range(1500):
        recon, *_ = vae(obs, action, torch.zeros(10, 4))
        loss = (recon - action).square().mean()
        a2pr.step(optimiser, loss)
    assert loss < 1e-4


def test_decoder_is_bounded_and_encoder_clamped():
    vae = vae_of()
    obs = 1e3 * torch.randn(50, 1, generator=torch.Generator().manual_seed(2))
    action = vae.decode(obs, 1e3 * torch.ones(50, 4))
    assert action.shape == (50, 2) and action.abs().max() <= 1
    for bias, bound in ((-99.0, -4.0), (99.0, 15.0)):
        vae.encoder.biases[-1].data[..., 4:] = bias
        assert (vae.encode(torch.zeros(3, 1), torch.zeros(3, 2))[1] == bound).all()


def test_reparameterised_sample():
    """z = mean + std noise: with noise 0 the decoder sees the mean, and the gradient reaches the encoder."""
    vae, obs, action = vae_of(), torch.zeros(4, 1), torch.full((4, 2), 0.3)
    noise = torch.randn(4, 4, generator=torch.Generator().manual_seed(3))
    recon, mean, log_std = vae(obs, action, noise)
    assert torch.equal(recon, vae.decode(obs, mean + log_std.exp() * noise))
    recon.sum().backward()
    assert vae.encoder.weights[0].grad.abs().max() > 0


# ---- the agent ----


def weights(agent):
    return torch.cat([p.detach().flatten() for net in (agent.actor, agent.critic) for p in net.parameters()])


@pytest.mark.parametrize("switches", [{"gate": "off"}, {"mask": 0.0}])
def test_without_the_constraint_it_is_td3(small, switches):
    """The same updates, from the same seed, as the other implementation of TD3 in the course."""
    ours = a2pr.A2PR(a2pr.Config(seed=3, **switches), small)
    theirs = prdc.PRDC(prdc.Config(constraint="none", seed=3), small)
    assert torch.equal(weights(ours), weights(theirs))
    for i in range(20):
        ours.update(batch_of(ours, seed=i))
        theirs.update(batch_of(theirs, seed=i))
    assert (weights(ours) - weights(theirs)).abs().max() < 1e-6


def test_with_the_recorded_action_as_teacher_it_is_td3_bc(small):
    ours = a2pr.A2PR(a2pr.Config(seed=3, teacher="data", gate="on"), small)
    theirs = td3_bc.TD3BC(td3_bc.Config(seed=3), small)
    whole = a2pr.A2PR(a2pr.Config(seed=3), small)
    for i in range(20):
        for agent in (ours, theirs, whole):
            agent.update(batch_of(agent, seed=i))
    assert (weights(ours) - weights(theirs)).abs().max() < 1e-6
    assert (weights(ours) - weights(whole)).abs().max() > 1e-3


def test_td3_bc_also_with_everything_computed(small):
    """The gate forced open and the advantages ignored, through the path that trains V and VAE."""
    ours = a2pr.A2PR(a2pr.Config(seed=3, teacher="data", gate="advantage"), small)
    theirs = td3_bc.TD3BC(td3_bc.Config(seed=3), small)
    ours.value.net.biases[-1].data.fill_(-1e6)  # every advantage is huge
    for i in range(10):
        log = ours.update(batch_of(ours, seed=i))
        theirs.update(batch_of(theirs, seed=i))
    assert log["gate"] == 1 and log["positive"] == 1
    assert (weights(ours) - weights(theirs)).abs().max() < 1e-6


def flat(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_who_moves_when(small):
    """First update: critics, V and VAE. Second: also the actor and the targets; the actor step moves nothing else."""
    agent = a2pr.A2PR(a2pr.Config(seed=2), small)
    nets = {name: getattr(agent, name) for name in ("actor", "critic", "value", "vae", "target_actor", "target_critic")}
    before = {name: flat(net).clone() for name, net in nets.items()}
    agent.update(batch_of(agent))
    moved = {name for name, net in nets.items() if not torch.equal(before[name], flat(net))}
    assert moved == {"critic", "value", "vae"}
    for optimiser in (agent.critic_optimiser, agent.advice_optimiser):
        for group in optimiser.param_groups:
            group["lr"] = 0.0
    before = {name: flat(net).clone() for name, net in nets.items()}
    agent.update(batch_of(agent, seed=1))
    moved = {name for name, net in nets.items() if not torch.equal(before[name], flat(net))}
    assert moved == {"actor", "target_actor", "target_critic"}
    want = before["target_critic"] + 0.005 * (before["critic"] - before["target_critic"])
    assert torch.allclose(flat(agent.target_critic), want, atol=1e-7)


def test_no_gradient_of_the_actor_step_stays_anywhere(small):
    agent = a2pr.A2PR(a2pr.Config(seed=2, detach_target=False, policy_delay=1), small)
    agent.update(batch_of(agent))
    for optimiser in (agent.critic_optimiser, agent.advice_optimiser):
        optimiser.zero_grad()
    batch = batch_of(agent, seed=1)
    action = agent.actor(batch.obs)
    v = agent.value(batch.obs).detach()
    target, gate, _ = agent.teach(batch, action, v, torch.full_like(v, -9.0))
    assert target.requires_grad, "without the detach the policy feels the VAE's answer"
    a2pr.constraint_loss(action, target, gate, 1.0).backward(inputs=agent.actor_params)
    for net in (agent.critic, agent.value, agent.vae):
        assert all(p.grad is None for p in net.parameters())
    constant = a2pr.A2PR(a2pr.Config(seed=2), small)
    target, _, _ = constant.teach(batch, constant.actor(batch.obs), v, torch.full_like(v, -9.0))
    assert not target.requires_grad


def test_undetached_gradient_by_hand(small):
    """One number: d/dp (p - f(p))^2 = 2 (p - f)(1 - f'), with f the VAE at fixed noise; detached: 2 (p - f)."""
    agent = a2pr.A2PR(a2pr.Config(seed=2), small)
    obs, noise = torch.zeros(1, 1), torch.full((1, 2), 0.3)
    f = lambda x: agent.vae(obs, torch.tensor([[x]]), noise)[0].item()  # noqa: E731
    p = torch.tensor([[0.4]], requires_grad=True)
    recon = agent.vae(obs, p, noise)[0]
    slope = (f(0.4 + 1e-2) - f(0.4 - 1e-2)) / 2e-2
    for target, factor in ((recon, 1 - slope), (recon.detach(), 1.0)):
        (g,) = torch.autograd.grad(a2pr.constraint_loss(p, target, torch.tensor([True]), 1.0), p, retain_graph=True)
        assert g.item() == pytest.approx(2 * (0.4 - f(0.4)) * factor, rel=2e-2, abs=1e-4)


def test_advantage_uses_the_value_before_its_step_and_the_critic_after(small):
    agent = a2pr.A2PR(a2pr.Config(seed=1), small)
    batch = batch_of(agent)
    next_action = agent.target_actor(batch.next_obs)
    with torch.no_grad():
        target_q = agent.target_critic(batch.next_obs, next_action)
        v = agent.value(batch.obs)
        for p in agent.critic.parameters():
            p.add_(0.01)  # as if it had stepped
        q = agent.critic(batch.obs, batch.action)[0]
    got, advantage, _ = agent.advise(batch, next_action, target_q)
    assert torch.equal(got, v) and torch.equal(advantage, q - v)
    assert not torch.equal(agent.value(batch.obs), v)


def test_one_optimiser_is_two(small):
    """V and VAE share no weight: a step on the sum is a step of each with its own Adam."""
    agent, twin = (a2pr.A2PR(a2pr.Config(seed=1, vae_lr=3e-3), small) for _ in range(2))
    batch = batch_of(agent)
    next_action = agent.target_actor(batch.next_obs)
    with torch.no_grad():
        target_q = agent.target_critic(batch.next_obs, next_action)
    agent.advise(batch, next_action, target_q)
    with torch.no_grad():
        online_q = twin.critic(batch.next_obs, next_action)
        t = a2pr.advantage_target(target_q, online_q, batch.reward, batch.terminated, 0.95)
        advantage = twin.critic(batch.obs, batch.action)[0] - twin.value(batch.obs)
    a2pr.step(torch.optim.Adam(twin.value.parameters(), 1e-3), (twin.value(batch.obs) - t).square().mean())
    recon, mean, log_std = twin.reconstruct(batch.obs, batch.action)
    loss = a2pr.epbl_loss(recon, batch.action, mean, log_std, advantage)
    a2pr.step(torch.optim.Adam(twin.vae.parameters(), 3e-3), loss)
    for name in ("value", "vae"):
        assert torch.allclose(flat(getattr(agent, name)), flat(getattr(twin, name)), atol=1e-6)


@pytest.mark.slow
def test_value_is_the_mean_of_q_over_the_recorded_actions():
    """Two rows at one state, Q exact and constant: V converges to the mean, and the filter keeps the better row."""
    data = load("lineworld-mixed-30", 100)
    rows = {
        "observations": np.full((2, 1), 3.0, np.float32),
        "next_observations": np.full((2, 1), 3.0, np.float32),
        "actions": np.array([[-0.9], [0.9]], np.float32),
        "rewards": np.array([0.0, 1.0], np.float32),
        "terminations": np.ones(2, bool),
    }
    agent = a2pr.A2PR(a2pr.Config(seed=0, hidden=(16,), lr=3e-3), replace(take(data, 2, data.meta), **rows))
    whole = Batch(agent.buffer.rows[:, :1], agent.buffer.rows[:, 1:2], *agent.buffer.rows[:, 2:3].T, agent.buffer.rows[:, 3:4], agent.buffer.rows[:, 4])  # fmt: skip
    for _ in range(1500):
        log = agent.update(whole)
    assert agent.value(whole.obs)[0].item() == pytest.approx(0.5, abs=0.01)
    assert log["positive"] == 0.5
    imagined = agent.imagine(np.full((200, 1), 3.0, np.float32))
    assert (imagined > 0.5).mean() > 0.95, "the VAE has only learned the action that pays"


@pytest.mark.slow
def test_the_policy_follows_its_teacher_when_the_value_does_not_count(small):
    """alpha -> 0 on one batch, gate open: the policy converges to the target."""
    agent = a2pr.A2PR(a2pr.Config(seed=0, alpha=1e-9, gate="on", teacher="data", policy_delay=1), small)
    obs = torch.linspace(-1.5, 1.5, 6)[:, None]
    batch = batch_of(agent, 6)._replace(obs=obs, action=0.8 * torch.sin(2 * obs))
    for _ in range(800):
        log = agent.update(batch)
    assert log["pull"] < 1e-3


def test_observations_are_normalised_when_acting(small):
    agent = a2pr.A2PR(a2pr.Config(seed=0), small)
    obs = small.observations[:10]
    seen = torch.as_tensor((obs - small.observations.mean(0)) / (small.observations.std(0) + 1e-3))
    with torch.no_grad():
        right, wrong = agent.actor(seen).numpy(), agent.actor(torch.as_tensor(obs)).numpy()
    assert np.allclose(agent.act(obs), right, atol=1e-5) and np.abs(agent.act(obs) - wrong).max() > 0.01
    z = torch.zeros(10, 2)
    agent.vae.decoder.weights[0].data[1:] = 0  # the prior plays no part
    with torch.no_grad():
        assert np.allclose(agent.imagine(obs), agent.vae.decode(seen, z).numpy(), atol=1e-5)


def test_only_termination_stops_bootstrapping(small):
    """Every row of this set ends its episode; all but those at the goal go on in value."""
    agent = a2pr.A2PR(a2pr.Config(), small)
    assert np.array_equal(agent.buffer.rows[:, -1].numpy() == 1, small.next_observations[:, 0] >= 9.75)
    y = a2pr.td3_target(torch.zeros(2), torch.tensor([0.0, 1.0]), torch.ones(2, 2), 0.9)
    assert y.tolist() == pytest.approx([0.9, 0.0])


def test_learn_is_a_reproducible_generator(small):
    config = a2pr.Config(eval_every=200, eval_episodes=2, hidden=(8, 8))
    first, second = ([*a2pr.A2PR(config, small).learn(250)] for _ in range(2))
    assert first == second
    assert [log["step"] for log in first] == [0, 100, 200, 250] and first[-1]["progress"] == 1.0
    assert first[0]["score"] == pytest.approx(small.score(first[0]["return"]))
    assert {"positive", "gate", "vae_teacher", "vae_loss", "v_loss"} <= first[1].keys()
    with pytest.raises(ValueError, match="steps"):
        next(a2pr.A2PR(config, small).learn(0))


def test_numbers_that_are_not_finite_stop_the_training(small):
    agent = a2pr.A2PR(a2pr.Config(eval_episodes=1, hidden=(8, 8)), small)
    agent.buffer.rows[:, 2] = float("nan")
    with pytest.raises(FloatingPointError, match="critic_loss"):
        list(agent.learn(100))


def test_bad_configurations_are_named():
    for fields, word in (
        ({"teacher": "bc"}, "teacher"),
        ({"gate": "and"}, "gate"),
        ({"vae_data": "good"}, "vae_data"),
        ({"alpha": 0.0}, "alpha"),
        ({"vae_weight": float("inf")}, "vae_weight"),
        ({"mask": -0.1}, "mask"),
        ({"gamma": 1.0}, "gamma"),
        ({"tau": 0.0}, "tau"),
        ({"latent": -1}, "latent"),
        ({"batch_size": 0}, "batch_size"),
        ({"policy_delay": 0}, "policy_delay"),
    ):
        with pytest.raises(ValueError, match=word):
            a2pr.Config(**fields)
