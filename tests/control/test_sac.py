"""Oracles of Soft Actor-Critic, and the wrong answers that its assignment must reject."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from minirl.control import sac
from minirl.control import sac_tabular as tab
from minirl.core.replay import Batch
from minirl.core.rollout import make_envs, rollout

# For each exercise: answers that look right and are not. Each replaces the solution cell and must lose its points.
WRONG = {
    "tanh_gaussian_logprob": {
        "no change of variables": """
def tanh_gaussian_logprob(u, mu, log_std):
    return torch.distributions.Normal(mu, log_std.exp()).log_prob(u).sum(-1)
""",
        "infinite where tanh rounds to one": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal - torch.log(1 - torch.tanh(u) ** 2)).sum(-1)
""",
        "a small constant hides the infinity": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal - torch.log(1 - torch.tanh(u) ** 2 + 1e-6)).sum(-1)
""",
        "clips what it cannot compute": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal - torch.log(1 - torch.tanh(u.clamp(-7, 7)) ** 2)).sum(-1)
""",
        "correction added": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal + 2 * (np.log(2) - u - F.softplus(-2 * u))).sum(-1)
""",
        "mean over the action dimensions": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal - 2 * (np.log(2) - u - F.softplus(-2 * u))).mean(-1)
""",
        "shape (B, 1)": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal - 2 * (np.log(2) - u - F.softplus(-2 * u))).sum(-1, keepdim=True)
""",
        "log of the standard deviation taken for that of the variance": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, (log_std / 2).exp()).log_prob(u)
    return (log_normal - 2 * (np.log(2) - u - F.softplus(-2 * u))).sum(-1)
""",
    },
    "soft_target": {
        "entropy outside the discount and the mask": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = torch.min(q1, q2).squeeze(-1)
    return (reward + gamma * (1 - terminated) * q - alpha * logp).detach()
""",
        "the larger critic": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = torch.max(q1, q2).squeeze(-1)
    return (reward + gamma * (1 - terminated) * (q - alpha * logp)).detach()
""",
        "the mean of the critics": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = (q1 + q2).squeeze(-1) / 2
    return (reward + gamma * (1 - terminated) * (q - alpha * logp)).detach()
""",
        "broadcasts to (B, B)": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    return (reward + gamma * (1 - terminated) * (torch.min(q1, q2) - alpha * logp)).detach()
""",
        "broadcasts, then averages": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    return (reward + gamma * (1 - terminated) * (torch.min(q1, q2) - alpha * logp)).mean(0).detach()
""",
        "the critic that is smaller on average": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = (q1 if q1.mean() < q2.mean() else q2).squeeze(-1)
    return (reward + gamma * (1 - terminated) * (q - alpha * logp)).detach()
""",
        "bootstraps after the end": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    return (reward + gamma * (torch.min(q1, q2).squeeze(-1) - alpha * logp)).detach()
""",
        "entropy as a cost": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = torch.min(q1, q2).squeeze(-1)
    return (reward + gamma * (1 - terminated) * (q + alpha * logp)).detach()
""",
        "lets the gradient through": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = torch.min(q1, q2).squeeze(-1)
    return reward + gamma * (1 - terminated) * (q - alpha * logp)
""",
    },
    "alpha_grad": {
        "wrong sign": """
def alpha_grad(log_alpha, logp, target_entropy):
    return log_alpha.detach().exp() * (logp.detach() + target_entropy).mean()
""",
        "without the factor alpha": """
def alpha_grad(log_alpha, logp, target_entropy):
    return -(logp.detach() + target_entropy).mean()
""",
        "derivative by alpha squared": """
def alpha_grad(log_alpha, logp, target_entropy):
    return -(2 * log_alpha.detach()).exp() * (logp.detach() + target_entropy).mean()
""",
        "the policy is not held constant": """
def alpha_grad(log_alpha, logp, target_entropy):
    return -log_alpha.detach().exp() * (logp + target_entropy).mean()
""",
        "trains the actor through backward": """
def alpha_grad(log_alpha, logp, target_entropy):
    leaf = log_alpha.detach().requires_grad_()
    (-leaf.exp() * (logp + target_entropy)).mean().backward()
    return leaf.grad
""",
        "leaves a gradient behind": """
def alpha_grad(log_alpha, logp, target_entropy):
    log_alpha.requires_grad_()
    (-log_alpha.exp() * (logp.detach() + target_entropy)).mean().backward()
    return log_alpha.grad.clone()
""",
        "sum instead of mean": """
def alpha_grad(log_alpha, logp, target_entropy):
    return -log_alpha.detach().exp() * (logp.detach() + target_entropy).sum()
""",
        "target entropy with the wrong sign": """
def alpha_grad(log_alpha, logp, target_entropy):
    return -log_alpha.detach().exp() * (logp.detach() - target_entropy).mean()
""",
    },
    "soft_value_iteration": {
        "hard maximum": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        V = (R + gamma * P @ V).max(axis=1)
    return V
""",
        "log of the mean": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        Q = R + gamma * P @ V
        top = Q.max(axis=1)
        V = top + alpha * np.log(np.exp((Q - top[:, None]) / alpha).mean(axis=1))
    return V
""",
        "overflows at a low temperature": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        V = alpha * np.log(np.exp((R + gamma * P @ V) / alpha).sum(axis=1))
    return V
""",
        "stops too early": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(100):
        Q = R + gamma * P @ V
        top = Q.max(axis=1)
        V = top + alpha * np.log(np.exp((Q - top[:, None]) / alpha).sum(axis=1))
    return V
""",
        "value of the soft policy without its entropy": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        Q = R + gamma * P @ V
        weight = np.exp((Q - Q.max(axis=1, keepdims=True)) / alpha)
        V = (weight * Q).sum(axis=1) / weight.sum(axis=1)
    return V
""",
        "temperature forgotten in front of the logarithm": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        Q = (R + gamma * P @ V) / alpha
        top = Q.max(axis=1)
        V = top + np.log(np.exp(Q - top[:, None]).sum(axis=1))
        V = np.clip(V, -1e6, 1e6)
    return V
""",
        "returns Q": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        Q = R + gamma * P @ V
        top = Q.max(axis=1)
        V = top + alpha * np.log(np.exp((Q - top[:, None]) / alpha).sum(axis=1))
    return Q
""",
    },
    "kl_projection": {
        "multiplies by the temperature": """
def kl_projection(q, alpha):
    weight = np.exp(alpha * (q - q.max(axis=1, keepdims=True)))
    return weight / weight.sum(axis=1, keepdims=True)
""",
        "forgets the temperature": """
def kl_projection(q, alpha):
    weight = np.exp(q - q.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)
""",
        "normalises over the states": """
def kl_projection(q, alpha):
    weight = np.exp((q - q.max()) / alpha)
    return weight / weight.sum(axis=0, keepdims=True)
""",
        "normalises over everything": """
def kl_projection(q, alpha):
    weight = np.exp((q - q.max()) / alpha)
    return weight / weight.sum()
""",
        "overflows": """
def kl_projection(q, alpha):
    weight = np.exp(q / alpha)
    return weight / weight.sum(axis=1, keepdims=True)
""",
        "the greedy policy": """
def kl_projection(q, alpha):
    best = q == q.max(axis=1, keepdims=True)
    return best / best.sum(axis=1, keepdims=True)
""",
        "changes its argument": """
def kl_projection(q, alpha):
    q -= q.max(axis=1, keepdims=True)
    weight = np.exp(q / alpha)
    return weight / weight.sum(axis=1, keepdims=True)
""",
    },
}


# ------------------------------------------------------------------------------------------------- the squashed policy


def test_squashed_density_integrates_to_one():
    action = np.linspace(-1 + 1e-9, 1 - 1e-9, 400_001)
    u = torch.as_tensor(np.arctanh(action))[:, None]
    for mean, log_std in ((0.0, 0.0), (0.7, -1.0), (-1.5, 0.4)):
        logp = sac.tanh_gaussian_logprob(u, torch.full_like(u, mean), torch.full_like(u, log_std))
        assert np.trapezoid(logp.exp().numpy(), action) == pytest.approx(1, abs=2e-4)


def test_density_agrees_with_a_histogram():
    """200,000 draws in 40 bins: each count within 5 binomial standard deviations; fails by chance with p < 1e-4."""
    generator = torch.Generator().manual_seed(0)
    mean, log_std = torch.tensor([[0.4]]).double(), torch.tensor([[-0.3]]).double()
    n = 200_000
    noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    action, logp = sac.sample_action(mean.expand(n, 1), log_std.expand(n, 1), noise)
    edges = np.linspace(-1, 1, 41)
    counts = np.histogram(action.numpy()[:, 0], edges)[0]
    cdf = scipy.stats.norm.cdf(np.arctanh(np.clip(edges, -1 + 1e-15, 1 - 1e-15)), 0.4, np.exp(-0.3))
    p = np.diff(cdf)
    assert (np.abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p)) + 1).all()
    u = torch.atanh(action)
    np.testing.assert_allclose(logp, sac.tanh_gaussian_logprob(u, mean.expand(n, 1), log_std.expand(n, 1)), atol=1e-6)


@pytest.mark.parametrize("u", [-15.0, -3.0, 0.2, 15.0])
def test_logprob_matches_the_derivative_of_the_cdf(u):
    """d/da Phi((atanh a - m) / s) in 60-digit arithmetic, stable also where tanh(u) rounds to 1 in float64."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 60
    m, s = 0.3, 2.0
    exact = mpmath.log(mpmath.npdf(u, m, s) / (1 - mpmath.tanh(u) ** 2))
    ours = sac.tanh_gaussian_logprob(*(torch.tensor([[x]], dtype=torch.float64) for x in (u, m, np.log(s))))
    assert float(ours) == pytest.approx(float(exact), rel=1e-12)


def test_sample_action_has_the_gradient_of_the_density_it_shortens():
    generator = torch.Generator().manual_seed(1)
    mean, log_std, noise = (torch.randn(7, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    grads = []
    for logp_of in (
        lambda m, s: sac.sample_action(m, s, noise)[1],
        lambda m, s: sac.tanh_gaussian_logprob(m + s.exp() * noise, m, s),
    ):
        m, s = mean.clone().requires_grad_(), log_std.clone().requires_grad_()
        logp = logp_of(m, s)
        assert logp.shape == (7,)
        grads.append(torch.stack(torch.autograd.grad(logp.sum(), [m, s])))
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------------------------------------------------- the losses


def test_soft_target_is_the_loop():
    rng = np.random.default_rng(0)
    reward, logp = rng.normal(size=(2, 6))
    q = rng.normal(size=(2, 6))
    terminated = np.array([0.0, 1, 0, 1, 0, 0])
    y = sac.soft_target(
        *map(torch.as_tensor, (reward, terminated, q, logp)), torch.tensor(0.3, dtype=torch.float64), 0.9
    )
    for b in range(6):
        expected = reward[b] if terminated[b] else reward[b] + 0.9 * (min(q[0, b], q[1, b]) - 0.3 * logp[b])
        assert float(y[b]) == pytest.approx(expected, rel=1e-12)


def test_critic_loss_is_half_the_mean_square_of_each_critic():
    generator = torch.Generator().manual_seed(2)
    q, y = torch.randn(2, 9, generator=generator), torch.randn(9, generator=generator)
    expected = sum(0.5 * ((q[i] - y) ** 2).mean() for i in range(2))
    assert float(sac.critic_loss(q, y)) == pytest.approx(float(expected), rel=1e-6)


def test_alpha_loss_gradient_in_closed_form():
    """d/d log alpha of -alpha mean(log pi + H) is -alpha mean(log pi + H); too little entropy must raise alpha."""
    log_alpha = torch.tensor(-0.7, dtype=torch.float64, requires_grad=True)
    logp = torch.tensor([1.0, 2.5, 0.3], dtype=torch.float64, requires_grad=True)
    sac.alpha_loss(log_alpha, logp, -1.0).backward()
    assert float(log_alpha.grad) == pytest.approx(-np.exp(-0.7) * (np.mean([1.0, 2.5, 0.3]) - 1.0), rel=1e-12)
    assert logp.grad is None
    assert float(log_alpha.grad) < 0  # entropy -1.27 is below -1: gradient descent raises log alpha


def make_batch(agent, B=32, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((B, agent.obs_dim), (B, agent.action_dim), (B,), (B, agent.obs_dim))
    obs, action, reward, next_obs = (torch.as_tensor(rng.uniform(-1, 1, s), dtype=torch.float32) for s in shapes)
    return Batch(obs, action, reward, next_obs, torch.as_tensor(rng.integers(0, 2, B), dtype=torch.float32))


def test_actor_gradient_against_finite_differences():
    """With common random numbers J_pi is an ordinary function of the actor's weights; float64, central differences."""
    agent = sac.SAC(sac.Config(hidden=(8, 8))).double()
    batch = make_batch(agent)
    obs, noise = batch.obs.double(), torch.randn(32, 1, generator=torch.Generator().manual_seed(3)).double()

    def loss():
        action, logp = sac.sample_action(*agent.actor(obs), noise)
        return sac.actor_loss(agent.q_values(agent.critic, obs, action).min(dim=0).values, logp, torch.tensor(0.2))

    weight = agent.actor.net.weights[1]
    (grad,) = torch.autograd.grad(loss(), [weight])
    for index in ((0, 0), (3, 5), (7, 2)):
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight[index] += step
                values.append(float(loss()))
                weight[index] -= step
        assert float(grad[index]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-9)


def test_the_actor_step_leaves_no_gradient_on_the_critics():
    """After a whole update the critics hold exactly the gradient of their own loss, computed here on a twin agent."""
    agent, twin = (sac.SAC(sac.Config(hidden=(8, 8))) for _ in range(2))
    batch = make_batch(agent)
    next_action, next_logp = twin.sample(batch.next_obs)
    next_q = twin.q_values(twin.target_critic, batch.next_obs, next_action)
    y = sac.soft_target(batch.reward, batch.terminated, next_q, next_logp, torch.tensor(1.0), 0.99)
    sac.critic_loss(twin.q_values(twin.critic, batch.obs, batch.action), y).backward()
    before = [p.clone() for p in agent.actor.parameters()]
    agent.update(batch)
    for ours, own in zip(agent.critic.parameters(), twin.critic.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, own.grad)
    assert all((a != b).any() for a, b in zip(agent.actor.parameters(), before, strict=True))


def test_without_entropy_it_is_a_deterministic_actor_critic():
    """alpha = 0, sigma -> 0: the gradients are those of mu(s) with min-of-two targets and no target actor."""
    agent = sac.SAC(sac.Config(hidden=(8, 8), alpha=0.0)).double()
    with torch.no_grad():  # log_std = -20, its clamp
        agent.actor.net.weights[-1][:, 1:] = 0
        agent.actor.net.biases[-1][:, 1:] = -20
    batch = Batch(*(x.double() for x in make_batch(agent)))
    alpha, mu = torch.tensor(0.0).double(), lambda obs: torch.tanh(agent.actor.net(obs)[:, :1])

    def target_of(action, logp):
        next_q = agent.q_values(agent.target_critic, batch.next_obs, action)
        return sac.soft_target(batch.reward, batch.terminated, next_q, logp, alpha, 0.99)

    y, y_mu = target_of(*agent.sample(batch.next_obs)), target_of(mu(batch.next_obs), torch.zeros(32).double())
    torch.testing.assert_close(y, y_mu, rtol=1e-6, atol=1e-6)
    action, logp = agent.sample(batch.obs)
    params = [agent.actor.net.weights[0], agent.actor.net.weights[1]]
    soft = sac.actor_loss(agent.q_values(agent.critic, batch.obs, action).min(dim=0).values, logp, alpha)
    hard = -agent.q_values(agent.critic, batch.obs, mu(batch.obs)).min(dim=0).values.mean()
    for a, b in zip(torch.autograd.grad(soft, params), torch.autograd.grad(hard, params), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_quadratic_bandit_has_its_closed_form():
    """Q(a) = -k a^2 / 2 without squashing: J_pi = alpha (-log s) + k s^2 / 2 + const is least at s^2 = alpha / k."""
    k, alpha = 4.0, torch.tensor(0.5)
    log_std = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([log_std], 0.02)
    generator = torch.Generator().manual_seed(4)
    for _ in range(600):
        action = log_std.exp() * torch.randn(512, 1, generator=generator)
        logp = -0.5 * (action / log_std.exp()) ** 2 - log_std
        loss = sac.actor_loss(-0.5 * k * action.squeeze(1) ** 2, logp.squeeze(1), alpha)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert log_std.exp().item() ** 2 == pytest.approx(0.5 / 4, rel=0.05)


def test_a_truncated_step_bootstraps_and_a_terminated_one_does_not():
    """Endless Pendulum is only truncated: nothing in its buffer may carry terminated = 1."""
    envs = make_envs("Pendulum-v1", 2)
    steps = itertools.islice(rollout(envs, lambda obs: np.zeros((2, 1)), 0), 450)
    seen = [(t.terminated.any(), t.truncated.any(), np.abs(t.next_obs).max()) for t in steps]
    assert not any(s[0] for s in seen)
    assert sum(bool(s[1]) for s in seen) == 2  # steps 200 and 400
    q = torch.tensor([[5.0, 5.0], [6.0, 6.0]])
    y = sac.soft_target(torch.ones(2), torch.tensor([0.0, 1.0]), q, torch.zeros(2), torch.tensor(0.1), 0.5)
    assert y.tolist() == [3.5, 1.0]


def test_the_same_seed_gives_the_same_numbers_also_in_turns():
    config = sac.Config(hidden=(8, 8), warmup=50, batch_size=16, eval_every=100, eval_episodes=2)
    alone = [list(sac.SAC(replace(config, seed=s)).learn(200)) for s in (0, 1)]
    agents = [sac.SAC(replace(config, seed=s)).learn(200) for s in (0, 1)]
    in_turns = list(zip(*agents, strict=True))
    assert [a for a, _ in in_turns] == alone[0]
    assert [b for _, b in in_turns] == alone[1]
    assert alone[0] != alone[1]


# -------------------------------------------------------------------------------------------------------- the tables


def random_mdp(seed, S=4, A=3):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(S), (S, A)), rng.normal(size=(S, A))


@pytest.mark.parametrize("seed", range(5))
def test_soft_policy_iteration_is_monotone_and_ends_at_soft_value_iteration(seed):
    P, R = random_mdp(seed)
    path = tab.soft_policy_iteration(P, R, 0.9, 0.3)
    for (_, before), (_, after) in itertools.pairwise(path):
        assert (after >= before - 1e-10).all()
    V, Q = tab.soft_value_iteration(P, R, 0.9, 0.3)
    np.testing.assert_allclose(path[-1][1], Q, atol=1e-9)
    np.testing.assert_allclose(V, 0.3 * np.log(np.exp(Q / 0.3).sum(1)), atol=1e-9)


def test_soft_values_tend_to_the_best_deterministic_policy():
    P, R = random_mdp(7)
    best = np.full(4, -np.inf)
    for choice in itertools.product(range(3), repeat=4):
        rows = np.arange(4), np.array(choice)
        best = np.maximum(best, np.linalg.solve(np.eye(4) - 0.9 * P[rows], R[rows]))
    V, _ = tab.soft_value_iteration(P, R, 0.9, 1e-4)
    assert (best - 1e-9 <= V).all() and (V <= best + 1e-4 * np.log(3) / 0.1 + 1e-9).all()


@pytest.mark.parametrize("c", [0.01, 100.0])
def test_scaling_reward_and_temperature_together_scales_q(c):
    P, R = random_mdp(8)
    Q = tab.soft_value_iteration(P, R, 0.9, 0.2)[1]
    np.testing.assert_allclose(tab.soft_value_iteration(P, c * R, 0.9, c * 0.2)[1], c * Q, rtol=1e-9)


@pytest.mark.parametrize(
    "P, R, gamma, alpha, message",
    [
        (np.full((2, 1, 2), 0.4), np.zeros((2, 1)), 0.9, 1.0, "state 0, action 0"),
        (np.full((2, 1, 2), 0.5), np.zeros((2, 2)), 0.9, 1.0, "need P"),
        (np.full((2, 1, 2), 0.5), np.full((2, 1), np.nan), 0.9, 1.0, "R has entries"),
        (np.full((2, 1, 2), 0.5), np.zeros((2, 1)), 1.0, 1.0, "gamma"),
        (np.full((2, 1, 2), 0.5), np.zeros((2, 1)), 0.9, 0.0, "alpha"),
    ],
)
def test_impossible_mdps_are_refused(P, R, gamma, alpha, message):
    with pytest.raises(ValueError, match=message):
        tab.soft_value_iteration(P, R, gamma, alpha)


@pytest.mark.parametrize("field", [{"gamma": 1.0}, {"tau": 0.0}, {"actor_q": "max"}, {"alpha": -0.1}])
def test_impossible_configurations_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        sac.Config(**field)


@pytest.mark.slow
def test_it_learns_pendulum():
    """The chapter's live settings on a tuning seed: far above the -1200 of a random policy after 6,000 steps."""
    config = sac.Config(hidden=(64, 64), lr=1e-3, alpha_lr=1e-3, batch_size=128, warmup=500, seed=100)
    returns = [log["return"] for log in sac.SAC(config).learn(6_000) if "return" in log]
    assert max(returns[-2:]) > -350
