"""DSAC-T against closed forms, brute force, automatic differentiation and SAC."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.stats import norm

from minirl.control import dsac_t, sac
from minirl.control import dsac_t_tabular as tabular
from minirl.control.dsac_t import DSACT, Config
from minirl.core.replay import Batch
from minirl.experiments import dsac_t as experiment

SMALL = {"hidden": (16, 16), "batch_size": 32, "warmup": 50, "num_envs": 1, "eval_every": 100, "eval_episodes": 2}


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pendulum_batch(B: int = 32, seed: int = 0) -> Batch:
    x = rand(B, 9, seed=seed).float()
    return Batch(x[:, :3], x[:, 3:4].tanh(), x[:, 4], x[:, 5:8], (x[:, 8] > 1).float())


def snapshot(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# ------------------------------------------------------------------------------------------------ the critic's gradient


def critic_inputs(K: int = 2, B: int = 7):
    q = rand(K, B, seed=1).requires_grad_()
    sigma = (rand(K, B, seed=2).abs() + 0.2).requires_grad_()
    return q, sigma, rand(B, seed=3), 3 * rand(B, seed=4)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_surrogate_gradient_is_the_formula_elementwise(eps):
    q, sigma, y_q, y_z = critic_inputs()
    bound, weight = torch.tensor([[0.7], [2.0]], dtype=torch.float64), torch.tensor([[1.3], [0.4]], dtype=torch.float64)
    dsac_t.critic_loss(q, sigma, y_q, y_z, bound, weight, eps).backward()
    clipped = 0
    for i in range(2):
        for k in range(7):
            m, s, w, b = q[i, k].item(), sigma[i, k].item(), weight[i].item(), bound[i].item()
            delta = y_z[k].item() - m
            clipped += abs(delta) > b
            delta = max(-b, min(b, delta))
            want_q = -w * (y_q[k].item() - m) / (s * s + eps) / 7
            want_sigma = -w * (delta * delta - s * s) / (s**3 + eps) / 7
            assert q.grad[i, k].item() == pytest.approx(want_q, rel=1e-12)
            assert sigma.grad[i, k].item() == pytest.approx(want_sigma, rel=1e-12)
    assert 0 < clipped < 14, "the example must have clipped and unclipped entries"


def test_without_refinements_the_gradient_is_that_of_the_gaussian_likelihood():
    q, sigma, _, y = critic_inputs()
    dsac_t.critic_loss(q, sigma, y, y, math.inf, 1.0, eps=0.0).backward()
    got_q, got_sigma = q.grad.clone(), sigma.grad.clone()
    q.grad = sigma.grad = None
    (-torch.distributions.Normal(q, sigma).log_prob(y)).mean(dim=1).sum().backward()
    torch.testing.assert_close(got_q, q.grad)
    torch.testing.assert_close(got_sigma, sigma.grad)


def test_with_sigma_one_the_mean_gradient_is_that_of_half_the_squared_error():
    q, sigma, y_q, y_z = critic_inputs()
    dsac_t.critic_loss(q, torch.ones_like(sigma).requires_grad_(), y_q, y_z, 3.0, 1.0, eps=0.0).backward()
    got, q.grad = q.grad.clone(), None
    sac.critic_loss(q, y_q).backward()
    torch.testing.assert_close(got, q.grad)


def test_with_sigma_one_and_no_delay_the_critic_step_is_sacs():
    """Same weights, ReLU, sigma head constant at 1 (so it sends nothing to the hidden layers), target actor = actor."""
    common = {"hidden": (16, 16), "batch_size": 32, "lr": 1e-3, "alpha": 0.2, "seed": 3}
    theirs = sac.SAC(sac.Config(**common))
    ours = DSACT(Config(**common, omega=False, delay=1, eps=0.0, num_envs=1))
    ours.log_scale = 0.0  # SAC's log pi refers to [-1, 1]
    nets = ((ours.critic.net, theirs.critic), (ours.target_critic.net, theirs.target_critic))
    actors = ((ours.actor.net, theirs.actor.net), (ours.target_actor.net, theirs.actor.net))
    with torch.no_grad():
        for net, source in nets + actors:
            net.activation = torch.relu
            parameters = ((net.weights, source.weights), (net.biases, source.biases))
            for mine, copied in (pair for group in parameters for pair in zip(*group, strict=True)):
                if mine.shape == copied.shape:
                    mine.copy_(copied)
                else:  # the last layer of a critic: (K, D, 2) against (K, D, 1)
                    mine[..., :1] = copied
                    mine[..., 1] = 0.0
            if net.weights[-1].shape[-1] == 2 and net.weights[-1].dim() == 3:
                net.biases[-1][..., 1] = math.log(math.e - 1)  # softplus of this is 1
    batch = pendulum_batch()
    theirs.update(batch)
    ours.update(batch)
    for mine, copied in zip(ours.critic.net.weights, theirs.critic.weights, strict=True):
        torch.testing.assert_close(mine[..., : copied.shape[-1]], copied, rtol=0, atol=2e-6)
    moved = (ours.critic.net.weights[0] - ours.target_critic.net.weights[0]).abs().max().item()
    assert moved > 5e-4, "the compared step must be a real one"


def test_clip_keeps_the_sample_within_the_bound_and_touches_nothing_inside():
    q, y_z = rand(2, 500, seed=5), 4 * rand(500, seed=6)
    sigma_bar = torch.tensor([[0.3], [0.9]], dtype=torch.float64)
    clipped = dsac_t.clip_target(y_z, q, 3 * sigma_bar)
    assert ((clipped - q).abs() <= 3 * sigma_bar + 1e-12).all()
    inside = (y_z - q).abs() < 3 * sigma_bar
    assert 0.1 < inside.double().mean() < 0.9
    torch.testing.assert_close(clipped[inside], y_z.expand(2, -1)[inside])


def test_clip_acts_on_the_spread_only():
    q, sigma, y_q, y_z = critic_inputs()
    gradients = [
        torch.autograd.grad(dsac_t.critic_loss(q, sigma, y_q, y_z, b, 1.0, 0.1), (q, sigma)) for b in (0.01, 99.0)
    ]
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=0, atol=0)
    assert (gradients[0][1] - gradients[1][1]).abs().max() > 0.1


# ---------------------------------------------------------------------------------------------------------- the targets


def brute_force_target(r, done, q, s, z, logp, alpha, gamma):
    y_q, y_z = [], []
    for k in range(len(r)):
        j = 0 if len(q) == 1 or q[0][k] <= q[1][k] else 1
        for out, value in ((y_q, q[j][k]), (y_z, q[j][k] + z[j][k] * s[j][k])):
            out.append(r[k] if done[k] else r[k] + gamma * (value - alpha * logp[k]))
    return torch.tensor([y_q, y_z], dtype=torch.float64)


@pytest.mark.parametrize("K", [1, 2])
def test_twin_target_against_a_loop(K):
    B = 40
    r, logp, done = rand(B, seed=1), rand(B, seed=2), (rand(B, seed=3) > 0.5).double()
    q, s, z = rand(K, B, seed=4), rand(K, B, seed=5).abs(), rand(K, B, seed=6)
    got = torch.stack(dsac_t.twin_target(r, done, q, s, z, logp, 0.3, 0.9))
    want = brute_force_target(*(x.tolist() for x in (r, done, q, s, z, logp)), 0.3, 0.9)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_the_sample_comes_from_the_critic_with_the_smaller_mean_even_when_it_is_the_larger_sample():
    next_q, next_sigma = torch.tensor([[1.0], [2.0]]), torch.tensor([[5.0], [1.0]])
    z = torch.tensor([[2.0], [-3.0]])  # samples 11 and -1: their minimum would be -1
    y_q, y_z = dsac_t.twin_target(torch.zeros(1), torch.zeros(1), next_q, next_sigma, z, torch.zeros(1), 0.0, 1.0)
    assert y_q.item() == 1.0
    assert y_z.item() == 11.0


def test_targets_carry_no_gradient():
    next_q = rand(2, 5).requires_grad_()
    sigma, logp = torch.ones(2, 5).requires_grad_(), torch.zeros(5).requires_grad_()
    for y in dsac_t.twin_target(torch.zeros(5), torch.zeros(5), next_q, sigma, torch.ones(2, 5), logp, 1.0, 0.9):
        assert not y.requires_grad


def test_the_smaller_of_two_equal_gaussian_estimates_is_low_by_s_over_root_pi():
    """400 000 draws: the standard error is 0.0026, so a true deviation of 0.013 (five of them) would be seen."""
    mu, s, n = 1.5, 2.0, 400_000
    next_q = mu + s * rand(2, n, seed=7)
    zero = torch.zeros(n, dtype=torch.float64)
    y_q, _ = dsac_t.twin_target(zero, zero, next_q, torch.ones_like(next_q), next_q, zero, 0.0, 1.0)
    assert y_q.mean().item() == pytest.approx(mu - s / math.sqrt(math.pi), abs=0.013)


def test_moving_average_copies_the_first_batch_and_then_averages():
    batches = [rand(2, 30, seed=k).abs() for k in range(4)]
    average, want = None, None
    for k, sigma in enumerate(batches):
        average = dsac_t.moving_average(average, sigma, 0.005)
        mean = [sum(row) / 30 for row in sigma.tolist()]
        want = mean if k == 0 else [0.995 * w + 0.005 * m for w, m in zip(want, mean, strict=True)]
        assert average.squeeze(1).tolist() == pytest.approx(want, rel=1e-12)
    assert average.shape == (2, 1)


# ----------------------------------------------------------------------------------------------- policy and temperature


@pytest.mark.parametrize(("mean", "log_std", "half_range"), [(0.0, -1.0, 1.0), (0.6, -0.3, 2.0), (-1.0, 0.5, 0.4)])
def test_density_of_the_scaled_action_integrates_to_one_and_is_the_derivative_of_its_cdf(mean, log_std, half_range):
    u = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
    parameters = [torch.full_like(u, x) for x in (mean, log_std)]
    logp = dsac_t.tanh_gaussian_logprob(u, *parameters, math.log(half_range))
    action = half_range * torch.tanh(u[:, 0])
    assert torch.trapezoid(logp.exp(), action).item() == pytest.approx(1, abs=2e-3)

    def cdf(a: float) -> float:
        return float(norm.cdf((math.atanh(a / half_range) - mean) / math.exp(log_std)))

    for a in (-0.9 * half_range, 0.1 * half_range, 0.8 * half_range):
        h = 1e-5 * half_range
        slope = (cdf(a + h) - cdf(a - h)) / (2 * h)
        u_a = torch.tensor([[math.atanh(a / half_range)]], dtype=torch.float64)
        logp = dsac_t.tanh_gaussian_logprob(
            u_a, *(torch.tensor([[x]], dtype=torch.float64) for x in (mean, log_std)), math.log(half_range)
        )
        assert logp.exp().item() == pytest.approx(slope, rel=1e-6)


def test_log_pi_is_the_density_of_the_torque_not_of_the_rescaled_action():
    agent = DSACT(Config(**SMALL))
    assert agent.log_scale == pytest.approx(math.log(2))  # Pendulum's torque lies in [-2, 2]
    action, logp = agent.sample(agent.actor, torch.zeros(4, 3))
    mean, log_std = agent.actor(torch.zeros(4, 3))
    rescaled = dsac_t.tanh_gaussian_logprob(torch.atanh(action), mean, log_std)
    torch.testing.assert_close(logp, rescaled - math.log(2), rtol=1e-4, atol=1e-4)


def test_log_std_is_clamped_at_one_half():
    agent = DSACT(Config(**SMALL))
    with torch.no_grad():
        agent.actor.net.biases[-1].fill_(50.0)
    assert agent.actor(torch.zeros(2, 3))[1].tolist() == [[0.5], [0.5]]


def test_temperature_step_pushes_entropy_towards_its_target():
    log_alpha = torch.tensor(0.7, requires_grad=True)
    logp = torch.tensor([1.0, 3.0])
    dsac_t.alpha_loss(log_alpha, logp, -1.0).backward()
    assert log_alpha.grad.item() == pytest.approx(-(2.0 - 1.0))  # entropy -2 < -1: descent raises alpha


def test_actor_loss_believes_the_smaller_mean():
    q, logp = torch.tensor([[1.0, 5.0], [2.0, 3.0]]), torch.tensor([0.5, -0.5])
    assert dsac_t.actor_loss(q, logp, 2.0).item() == pytest.approx(((1.0 - 1.0) + (-1.0 - 3.0)) / 2)


# ------------------------------------------------------------------------------------------------------------ the agent


def test_actor_and_targets_move_in_iterations_0_2_4_and_the_critics_in_all():
    agent = DSACT(Config(**SMALL))
    modules = (agent.critic, agent.actor, agent.target_critic, agent.target_actor)
    for iteration in range(4):
        before, alpha = [snapshot(m) for m in modules], agent.log_alpha.item()
        agent.update(pendulum_batch(seed=iteration))
        moved = [not same(b, snapshot(m)) for b, m in zip(before, modules, strict=True)]
        assert moved == ([True] * 4 if iteration % 2 == 0 else [True, False, False, False])
        assert (agent.log_alpha.item() != alpha) == (iteration % 2 == 0)


def test_target_networks_move_by_tau():
    agent = DSACT(Config(**SMALL, tau=0.25))
    targets = (agent.target_critic, agent.target_actor)
    before = [snapshot(t) for t in targets]
    agent.update(pendulum_batch())
    for old, target, online in zip(before, targets, (agent.critic, agent.actor), strict=True):
        for o, t, p in zip(old, target.parameters(), online.parameters(), strict=True):
            torch.testing.assert_close(t, 0.75 * o + 0.25 * p.detach())


def test_next_actions_come_from_the_target_policy():
    """Only the target policy decides y: changing the online policy must leave the critics' first step alone."""
    agents = [DSACT(Config(**SMALL)) for _ in range(3)]
    with torch.no_grad():
        agents[1].actor.net.biases[-1].add_(0.3)
        agents[2].target_actor.net.biases[-1].add_(0.3)
    for agent in agents:
        agent.update(pendulum_batch())
    critics = [snapshot(agent.critic) for agent in agents]
    assert same(critics[0], critics[1])
    assert not same(critics[0], critics[2])


def test_actor_gradient_uses_the_critics_before_their_step_and_leaves_them_alone():
    agent, twin = DSACT(Config(**SMALL)), DSACT(Config(**SMALL))
    batch = pendulum_batch()
    agent.update(batch)
    with torch.no_grad():  # the same draws in the same order: next action, z, action
        twin.sample(twin.target_actor, batch.next_obs)
        torch.randn(2, 32, generator=twin.noise)
    action, logp = twin.sample(twin.actor, batch.obs)
    loss = dsac_t.actor_loss(twin.critic(batch.obs, action)[0], logp, math.e)
    gradients = torch.autograd.grad(loss, twin.actor_params)
    for mine, want in zip(agent.actor_params, gradients, strict=True):
        torch.testing.assert_close(mine.grad, want)


SWITCHES = [Config(**SMALL), Config.v1(**SMALL, td_bound=0.5), Config(**SMALL, omega=False, twin=False)]


@pytest.mark.parametrize("config", SWITCHES)
def test_critic_backward_follows_the_switches(config):
    """The gradient that the agent leaves in its critics, rebuilt here from the formulas with its own draws."""
    agent, batch = DSACT(config), pendulum_batch()
    next_action, next_logp = torch.zeros(32, 1), torch.linspace(-1, 1, 32)
    state = agent.noise.get_state()
    agent.critic_backward(batch, next_action, next_logp, 0.4)
    got = [p.grad.clone() for p in agent.critic.parameters()]

    agent.noise.set_state(state)
    q, sigma = agent.critic(batch.obs, batch.action)
    assert len(q) == (2 if config.twin else 1)
    next_q, next_sigma = (x.detach() for x in agent.target_critic(batch.next_obs, next_action))
    z = torch.randn(next_q.shape, generator=agent.noise).clamp(-3, 3)
    y_q, y_z = brute_force_target(
        *(x.tolist() for x in (batch.reward, batch.terminated, next_q, next_sigma, z, next_logp)), 0.4, config.gamma
    ).float()
    y_q = y_q if config.expected_value else y_z
    mean, std = q.detach(), sigma.detach()
    bar = std.mean(dim=1, keepdim=True)
    bound = 3 * bar if config.adaptive_bound else torch.full_like(bar, config.td_bound)
    weight = bar**2 + 0.1 if config.omega else torch.ones_like(bar)
    delta = torch.maximum(torch.minimum(y_z - mean, bound), -bound)
    loss = weight * (-(y_q - mean) / (std**2 + 0.1) * q - (delta**2 - std**2) / (std**3 + 0.1) * sigma)
    want = torch.autograd.grad(loss.mean(dim=1).sum(), list(agent.critic.parameters()))
    for mine, other in zip(got, want, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_the_noise_of_the_sampled_return_is_cut_at_three(monkeypatch):
    """Of 8 192 draws 22 lie outside on average."""
    seen, original = [], dsac_t.twin_target
    monkeypatch.setattr(dsac_t, "twin_target", lambda *args: seen.append(args[4]) or original(*args))
    DSACT(Config(**SMALL)).critic_backward(pendulum_batch(4096), torch.zeros(4096, 1), torch.zeros(4096), 1.0)
    assert seen[0].shape == (2, 4096)
    assert seen[0].abs().max().item() == 3.0


def test_v1_is_four_switches():
    v1 = Config.v1(td_bound=20.0, seed=7)
    assert not (v1.expected_value or v1.twin or v1.adaptive_bound or v1.omega)
    assert (v1.td_bound, v1.seed) == (20.0, 7)
    assert Config.v1(omega=True).omega


def test_reward_scale_multiplies_the_reward_in_the_target_and_not_in_the_evaluation():
    """With gamma = 0 the target is the scaled reward alone, so a critic at q = 0 has TD error scale * |reward|."""
    batch = pendulum_batch()
    agents = [DSACT(Config(**SMALL, gamma=0.0, reward_scale=c)) for c in (1.0, 10.0)]
    errors = []
    for agent in agents:
        with torch.no_grad():
            agent.critic.net.weights[-1].zero_()
            agent.critic.net.biases[-1].zero_()
        errors.append(agent.critic_backward(batch, torch.zeros(32, 1), torch.zeros(32), 1.0)["td_error"].item())
    assert errors[0] == pytest.approx(batch.reward.abs().mean().item(), rel=1e-5)
    assert errors[1] == pytest.approx(10 * errors[0], rel=1e-5)
    assert agents[0].evaluate() == agents[1].evaluate()


def test_time_limits_are_not_stored_as_terminations_and_episodes_do_not_leak_into_each_other():
    agent = DSACT(Config(**SMALL | {"warmup": 10_000}))
    for _ in agent.learn(450):  # two time limits of 200 steps
        pass
    rows = agent.buffer.rows[:450]
    assert rows[:, -1].abs().max() == 0  # Pendulum never terminates
    obs, next_obs = rows[:, :3], rows[:, 5:8]
    joined = (obs[1:] == next_obs[:-1]).all(dim=1)
    assert (~joined).nonzero().flatten().tolist() == [199, 399]


def test_learning_is_a_function_of_the_seed_also_when_two_agents_take_turns():
    config = SMALL | {"eval_every": 200, "eval_episodes": 1}
    alone = [list(DSACT(Config(**config, seed=s)).learn(200)) for s in (0, 1)]
    turns = list(zip(*(DSACT(Config(**config, seed=s)).learn(200) for s in (0, 1)), strict=True))
    assert [list(column) for column in zip(*turns, strict=True)] == alone
    assert alone[0] != alone[1]
    assert [log["step"] for log in alone[0]] == [0, 100, 200]
    assert alone[0][-1]["progress"] == 1.0


def test_parallel_environments_give_num_envs_steps_an_update():
    agent = DSACT(Config(**SMALL | {"num_envs": 4, "eval_every": 400, "warmup": 40}))
    logs = list(agent.learn(800))
    assert agent.iteration == (800 - 40) // 4
    assert [log["step"] for log in logs] == [0, 400, 800]


@pytest.mark.parametrize(
    ("change", "word"),
    [({"gamma": 1.0}, "gamma"), ({"tau": 0.0}, "tau"), ({"xi": 1.0}, "xi"), ({"eval_every": 150}, "eval_every"),
     ({"eps": -1.0}, "eps"), ({"alpha": -0.1}, "alpha")],
)  # fmt: skip
def test_config_refuses_impossible_values(change, word):
    with pytest.raises(ValueError, match=word):
        Config(**SMALL | change)


def test_discrete_actions_are_refused_with_the_name_of_a_method_that_fits():
    with pytest.raises(ValueError, match=r"Box.*DQN"):
        DSACT(Config(**SMALL | {"env_id": "CartPole-v1"}))


# ------------------------------------------------------------------------------------------------------------- the ring


def monte_carlo_returns(episodes: int = 20_000, horizon: int = 120) -> np.ndarray:
    """(episodes, S) discounted returns at c = 1; 0.9^120 = 3e-6 is cut off."""
    rng = np.random.default_rng(0)
    state = np.tile(np.arange(tabular.S), (episodes, 1))
    total = np.zeros((episodes, tabular.S))
    for t in range(horizon):
        total += tabular.GAMMA**t * ((state == 4) + 0.5 * rng.standard_normal(state.shape))
        state = (state + (rng.random(state.shape) < 0.5)) % tabular.S
    return total


def test_truth_of_the_ring_against_monte_carlo():
    """20 000 returns of sd 1.5: standard errors 0.011 (mean) and 0.008 (sd); tolerances are five of them."""
    returns, (mean, sd) = monte_carlo_returns(), tabular.truth()
    assert returns.mean(axis=0).tolist() == pytest.approx(mean.tolist(), abs=0.055)
    assert returns.std(axis=0).tolist() == pytest.approx(sd.tolist(), abs=0.04)
    assert mean.round(2).tolist() == [1.29, 1.57, 1.92, 2.35, 2.87]
    assert sd.round(2).tolist() == [1.29, 1.34, 1.40, 1.47, 1.55]


@pytest.fixture(scope="module")
def ring() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> averaged q and sigma (S,) over four seeds. One seed's q has sd about 0.05."""
    arms = {
        "T": tabular.Arm(10),
        "v1": tabular.Arm.v1(10),
        "bound alone": tabular.Arm.v1(10, adaptive_bound=True),
        "no omega": tabular.Arm(10, omega=False),
        "no bound": tabular.Arm(10, adaptive_bound=False),
        "v1 at 100": tabular.Arm.v1(100),
        "v1 at 100, sigma from 1": tabular.Arm.v1(100, sigma_init=1.0),
    }
    result = tabular.policy_evaluation(list(arms.values()), seeds=range(100, 104))
    return {name: (result.q_average[:, i].mean(0), result.sigma_average[:, i].mean(0)) for i, name in enumerate(arms)}


def rms_error(q: np.ndarray) -> float:
    return float(np.sqrt(((q - tabular.truth()[0]) ** 2).mean()))


def test_dsac_t_finds_mean_and_spread_of_the_ring(ring):
    q, sigma = ring["T"]
    assert rms_error(q) < 0.1
    assert (sigma / monte_carlo_returns().std(axis=0)).tolist() == pytest.approx([1] * 5, abs=0.2)


def test_a_fixed_bound_pins_sigma_to_itself_and_the_mean_survives(ring):
    for name in ("v1", "no bound"):
        q, sigma = ring[name]
        assert rms_error(q) < 0.1
        assert sigma.tolist() == pytest.approx([0.1] * 5, abs=0.02)  # the bound 1 in units of c = 10


def test_the_adaptive_bound_alone_repairs_sigma_and_stalls_the_mean(ring):
    for name in ("bound alone", "no omega"):
        q, sigma = ring[name]
        assert 1.0 < sigma.mean() < 1.5
        assert rms_error(q) > 1.0


def test_v1_at_scale_100_depends_on_where_sigma_starts(ring):
    q, sigma = ring["v1 at 100"]
    assert rms_error(q) > 2.0
    q, sigma = ring["v1 at 100, sigma from 1"]
    assert rms_error(q) < 0.1
    assert sigma.max() < 0.02


def test_scale_equivariance_is_exact_for_t_and_fails_for_v1():
    arms = [tabular.Arm(c) for c in (1, 0.01, 100)] + [tabular.Arm.v1(c) for c in (1, 100)]
    result = tabular.policy_evaluation(arms, seeds=[0], sweeps=5_000, eps=0.0)
    for table in (result.q[0], result.sigma[0]):
        assert np.abs(table[1:3] / table[0] - 1).max() < 1e-6
    assert np.abs(result.q[0, 4] / result.q[0, 3] - 1).max() > 1e-5
    with_eps = tabular.policy_evaluation(arms[:2], seeds=[0], sweeps=5_000, eps=0.1)
    assert np.abs(with_eps.q[0, 1] / with_eps.q[0, 0] - 1).max() > 1e-3  # eps in absolute units breaks it


def test_ring_update_is_the_gradient_of_the_critic_loss():
    """One sweep of the ring is one SGD step on `dsac_t.critic_loss` (summed over states) with the same draws."""
    arm, S, lr = tabular.Arm(2.0), tabular.S, 0.01
    result = tabular.policy_evaluation([arm], [5], sweeps=6, record=1)
    draws = list(tabular._noise([5], 6))
    q0, s0 = (torch.tensor(x[0, 0] * 2.0) for x in result.history[3])
    bars = [2.0]
    for k in range(5):
        table = np.full(S, 2.0) if k == 0 else result.history[k - 1, 1, 0, 0] * 2.0
        bars.append(bars[-1] + 0.005 * (table.mean() - bars[-1]))
    move, noise, z = (x[0, 0] for x in draws[4])
    after = torch.where(torch.tensor(move), torch.arange(1, S + 1) % S, torch.arange(S))
    reward = torch.tensor(2.0 * (tabular.REWARD + 0.5 * noise))
    zero = torch.zeros(S, dtype=torch.float64)
    y_q, y_z = dsac_t.twin_target(reward, zero, q0[after][None], s0[after][None], torch.tensor(z)[None], zero, 0.0, 0.9)
    q, sigma = q0[None].requires_grad_(), s0[None].requires_grad_()
    (S * dsac_t.critic_loss(q, sigma, y_q, y_z, 3 * bars[5], bars[5] ** 2 + 0.1, 0.1)).backward()
    want_q, want_sigma = q - lr * q.grad, sigma - lr * sigma.grad
    assert (result.history[4, 0, 0, 0] * 2).tolist() == pytest.approx(want_q[0].tolist(), rel=1e-9)
    assert (result.history[4, 1, 0, 0] * 2).tolist() == pytest.approx(want_sigma[0].tolist(), rel=1e-9)


def test_clipped_second_moment_against_quadrature():
    for b in (0.2, 1.0, 2.5, 6.0):
        want = integrate.quad(lambda x, b=b: min(x * x, b * b) * norm.pdf(x), -12, 12, points=[-b, b])[0]
        assert tabular.clipped_second_moment(b) == pytest.approx(want, rel=1e-7)


def test_sigma_fixed_point_against_iterating_the_update():
    for xi, want in ((3.0, 0.9974), (2.0, 0.949), (1.5, 0.794), (1.2, 0.496)):
        assert tabular.sigma_fixed_point(xi) == pytest.approx(want, abs=6e-4)
        ratio = 1.0
        for _ in range(2_000):
            ratio = math.sqrt(tabular.clipped_second_moment(xi * ratio))
        assert tabular.sigma_fixed_point(xi) == pytest.approx(ratio, abs=1e-6)
    assert tabular.sigma_fixed_point(1.0) == tabular.sigma_fixed_point(0.7) == 0.0
    assert 0 < tabular.sigma_fixed_point(1.001) < 0.01


def test_the_expected_value_saves_the_variance_that_total_variance_predicts():
    """20 000 draws: a ratio of two variances has a relative standard error of at most 1.5 %."""
    measured, predicted = tabular.reward_target_variance(*tabular.truth(), seed=100)
    assert (measured / predicted).tolist() == pytest.approx([1] * 5, abs=0.05)
    assert predicted.min() > 2


# ----------------------------------------------------------------------------------------------------- the reproduction


def test_the_array_pendulum_is_gymnasiums():
    env = gym.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    angle, speed = (np.array([x]) for x in env.state)
    rng = np.random.default_rng(0)
    for _ in range(300):
        action = rng.uniform(-1, 1)
        obs, reward, *_ = env.step(np.array([2 * action]))
        angle, speed, ours = experiment.pendulum_step(angle, speed, np.array([action]))
        assert ours[0] == pytest.approx(float(reward), abs=1e-5)
        assert experiment.observe(angle, speed)[0].tolist() == pytest.approx(obs.tolist(), abs=1e-5)


def test_soft_returns_against_a_loop():
    """The first action has no entropy term, and later ones are discounted with their reward."""
    obs = np.array([[np.cos(2.0), np.sin(2.0), 0.5]])

    def policy(obs):
        return 0.3 * obs[:, 2], obs[:, 0]

    got = experiment.soft_returns(obs, np.array([0.4]), policy, alpha=0.7, rollouts=3, horizon=4)
    angle, speed, action, want = 2.0, 0.5, 0.4, 0.0
    for t in range(4):
        if t > 0:
            action = 0.3 * speed
            want -= 0.99**t * 0.7 * math.cos(angle)
        want += 0.99**t * -(((angle + math.pi) % (2 * math.pi) - math.pi) ** 2 + 0.1 * speed**2 + 0.004 * action**2)
        speed = max(-8, min(8, speed + (15 * math.sin(angle) + 6 * action) * 0.05))
        angle += 0.05 * speed
    assert got.shape == (1, 3)
    assert got[0].tolist() == pytest.approx([want] * 3)


def test_the_fixed_policy_swings_up():
    reward = experiment.swing_up_data(100).reward.reshape(200, 100)
    assert reward[-50:].mean() > -0.1  # upright in (almost) every stream


def test_believed_takes_mean_and_sigma_of_the_same_critic():
    agent = DSACT(Config(**SMALL))
    batch = pendulum_batch(64)
    q, sigma = (x.detach().numpy() for x in agent.critic(batch.obs, batch.action))
    got_q, got_sigma = experiment.believed(agent, batch.obs, batch.action)
    first = q[0] < q[1]
    assert 0 < first.sum() < 64
    assert got_q.tolist() == q.min(axis=0).tolist()
    assert got_sigma.tolist() == np.where(first, sigma[0], sigma[1]).tolist()


def test_measuring_the_bias_does_not_disturb_training():
    agent, undisturbed = DSACT(Config(**SMALL)), DSACT(Config(**SMALL))
    error = experiment.value_bias(agent, 0)
    assert error.shape == (200,)
    assert error.std() > 0
    assert agent.update(pendulum_batch()) == undisturbed.update(pendulum_batch())


def stored_runs(**changes: float) -> list[dict]:
    """Runs as a reproduction stores them, in which every claim holds; `changes` {arm__metric: value} spoil one."""
    authors = {"late return": -150, "knee": 5_500, "rank correlation": 0.6, "rank low": 0.4, "rank high": 0.8}
    ring = {
        "equivariance T": 1e-13, "equivariance v1": 1.0, "sigma T c=10": 1.05, "sigma v1 c=10": 0.07,
        "variance error": 0.02, "variance ratio": 6.0,
    }  # fmt: skip
    metrics = {
        arm: {"final return": -200.0, "bias": 1.0, "median bias": 0.5}
        for arm, _ in experiment.plan(5)
        if arm.startswith("agent")
    }
    metrics |= {arm: {"final return": -400.0} for arm in experiment.ABLATIONS} | {"authors": authors, "ring": ring}
    metrics |= {arm: {"sigma c=10": 0.1, "rmse c=10": 1.5} for arm in experiment.CRITICS}
    metrics["agent v1"]["bias"] = 9.0
    metrics["critic T"] = {"sigma c=10": 0.5, "rmse c=10": 1.0}
    for place, value in changes.items():
        arm, metric = place.replace("_c10", " c=10").split("__")
        metrics[arm.replace("_", " ")][metric.replace("_", " ")] = value
    return [{"arm": a, "seed": s, "curves": {}, "metrics": metrics[a], "cpu_s": 1.0} for a, s in experiment.plan(5)]


def verdicts(runs: list[dict]) -> dict[str, str]:
    return {row["id"]: row["verdict"] for row in experiment.claims(runs)}


def test_claims_that_hold_are_reproduced():
    found = verdicts(stored_runs())
    assert found.pop("C12") == "cannot be shown here"
    assert set(found.values()) == {"reproduced"}
    assert len(found) == 11


@pytest.mark.parametrize(
    ("spoilt", "claim"),
    [
        ({"authors__late_return": -251}, "C1"), ({"authors__knee": 9_500}, "C2"), ({"authors__knee": 2_500}, "C2"),
        ({"authors__rank_correlation": 0.29}, "C3"), ({"ring__equivariance_T": 1e-5}, "C4"),
        ({"ring__equivariance_v1": 1e-6}, "C4"), ({"ring__sigma_T_c10": 1.3}, "C5"),
        ({"ring__sigma_v1_c10": 0.3}, "C5"), ({"ring__variance_error": 0.06}, "C6"), ({"agent_v1__bias": 0.5}, "C7"),
        ({"agent_T__final_return": -260}, "C8"),
        ({"agent_SAC__final_return": -310, "agent_T__final_return": -310}, "C8"), ({"critic_v1__sigma_c10": 0.2}, "C9"),
        ({"critic_v1__rmse_c10": 1.1}, "C10"), ({"agent_T_without_omega__final_return": -240}, "C11"),
    ],
)  # fmt: skip
def test_a_claim_that_fails_is_reported_as_failed(spoilt, claim):
    assert verdicts(stored_runs(**spoilt))[claim] == "not reproduced"


def test_runs_are_planned_once_and_unknown_arms_are_refused():
    plan = experiment.plan(5)
    assert len(plan) == len(set(plan)) == 2 + 15 + 12 + 12 + 5
    assert len(experiment.plan(1)) == 1 + 3 + 8 + 1
    with pytest.raises(ValueError, match="agent T"):
        experiment.run("agent X", 0)


@pytest.mark.slow
def test_a_run_is_a_function_of_arm_and_seed(monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 500)
    monkeypatch.setattr(experiment, "ROLLOUTS", 2)
    monkeypatch.setattr(experiment, "HORIZON", 10)
    small = {"hidden": (8, 8), "warmup": 100, "batch_size": 8, "eval_every": 500, "eval_episodes": 1}
    monkeypatch.setattr(experiment, "SMALL", experiment.SMALL | small)
    monkeypatch.setattr(experiment, "SMALL_DSAC", experiment.SMALL_DSAC | small)
    monkeypatch.setattr(experiment, "CRITIC_UPDATES", 20)
    for arm in ("agent v1", "agent SAC", "critic v1"):
        first, again, other = (experiment.run(arm, seed) for seed in (100, 100, 101))
        assert first == again
        assert first["metrics"] != other["metrics"]


# ------------------------------------------------------------------ what the assignment's hidden tests must reject

WRONG = {
    "gaussian_nll_grad": {
        "the 1 / sigma of the normaliser is missing": """
def gaussian_nll_grad(q, sigma, y):
    return -(y - q) / sigma**2, -((y - q) ** 2) / sigma**3
""",
        "divides by sigma instead of its square": """
def gaussian_nll_grad(q, sigma, y):
    return -(y - q) / sigma, 1 / sigma - (y - q) ** 2 / sigma**3
""",
        "both signs are those of the log-likelihood": """
def gaussian_nll_grad(q, sigma, y):
    return (y - q) / sigma**2, (y - q) ** 2 / sigma**3 - 1 / sigma
""",
        "averaged over the batch": """
def gaussian_nll_grad(q, sigma, y):
    return -np.mean((y - q) / sigma**2, keepdims=True), np.mean(1 / sigma - (y - q) ** 2 / sigma**3, keepdims=True)
""",
        "the derivative with respect to the variance": """
def gaussian_nll_grad(q, sigma, y):
    return -(y - q) / sigma**2, 0.5 / sigma**2 - (y - q) ** 2 / (2 * sigma**4)
""",
    },
    "variance_saved": {
        "no squares": """
def variance_saved(gamma, next_sigma):
    return float(gamma * np.mean(next_sigma))
""",
        "the square of the mean": """
def variance_saved(gamma, next_sigma):
    return float((gamma * np.mean(next_sigma)) ** 2)
""",
        "the discount is not squared": """
def variance_saved(gamma, next_sigma):
    return float(gamma * np.mean(np.asarray(next_sigma) ** 2))
""",
        "the variance of sigma": """
def variance_saved(gamma, next_sigma):
    return float(gamma**2 * np.var(next_sigma))
""",
    },
    "twin_target": {
        "the smaller of the two samples": """
def twin_target(reward, terminated, q1, sigma1, q2, sigma2, z1, z2, logp, alpha, gamma):
    discount = gamma * (1 - terminated)
    sample = np.minimum(q1 + z1 * sigma1, q2 + z2 * sigma2)
    return (
        reward + discount * (np.minimum(q1, q2) - alpha * logp),
        reward + discount * (sample - alpha * logp),
    )
""",
        "the entropy survives the end of the task": """
def twin_target(reward, terminated, q1, sigma1, q2, sigma2, z1, z2, logp, alpha, gamma):
    first = q1 < q2
    mean, noise = np.where(first, q1, q2), np.where(first, z1 * sigma1, z2 * sigma2)
    live = gamma * (1 - terminated)
    return reward + live * mean - gamma * alpha * logp, reward + live * (mean + noise) - gamma * alpha * logp
""",
        "one critic for the whole batch": """
def twin_target(reward, terminated, q1, sigma1, q2, sigma2, z1, z2, logp, alpha, gamma):
    mean, noise = (q1, z1 * sigma1) if q1.mean() < q2.mean() else (q2, z2 * sigma2)
    live = gamma * (1 - terminated)
    return reward + live * (mean - alpha * logp), reward + live * (mean + noise - alpha * logp)
""",
        "the larger mean is believed": """
def twin_target(reward, terminated, q1, sigma1, q2, sigma2, z1, z2, logp, alpha, gamma):
    first = q1 > q2
    mean, noise = np.where(first, q1, q2), np.where(first, z1 * sigma1, z2 * sigma2)
    live = gamma * (1 - terminated)
    return reward + live * (mean - alpha * logp), reward + live * (mean + noise - alpha * logp)
""",
        "entropy with the wrong sign": """
def twin_target(reward, terminated, q1, sigma1, q2, sigma2, z1, z2, logp, alpha, gamma):
    first = q1 < q2
    mean, noise = np.where(first, q1, q2), np.where(first, z1 * sigma1, z2 * sigma2)
    live = gamma * (1 - terminated)
    return reward + live * (mean + alpha * logp), reward + live * (mean + noise + alpha * logp)
""",
    },
    "sigma_fixed_point": {
        "always the truth": """
def sigma_fixed_point(xi):
    return 1.0
""",
        "the bound is fixed at xi": """
def sigma_fixed_point(xi):
    g = 2 * norm.cdf(xi) - 1 - 2 * xi * norm.pdf(xi) + 2 * xi**2 * norm.sf(xi)
    return float(np.sqrt(g))
""",
        "no collapse at xi = 1 and below": """
def sigma_fixed_point(xi):
    def excess(rho):
        x = xi * rho
        return 2 * norm.cdf(x) - 1 - 2 * x * norm.pdf(x) + 2 * x**2 * norm.sf(x) - rho**2

    return float(brentq(excess, min(0.3, xi - 1), 1.0)) if xi > 1 else 1.0
""",
        "clipped errors are dropped instead of cut": """
def sigma_fixed_point(xi):
    if xi <= 1:
        return 0.0
    rho = 1.0
    for _ in range(2_000):
        x = xi * rho
        rho = np.sqrt(max(2 * norm.cdf(x) - 1 - 2 * x * norm.pdf(x), 0.0))
    return float(rho)
""",
    },
    "dsac_t_critic_loss": {
        "gradient through the denominators": """
def dsac_t_critic_loss(q, sigma, y_q, y_z, sigma_bar, xi, eps):
    mean, bar = q.detach(), sigma_bar.detach()
    clipped = torch.clamp(y_z.detach() - mean, -xi * bar, xi * bar)
    on_q = -(y_q.detach() - mean) / (sigma**2 + eps)
    on_sigma = -(clipped**2 - sigma**2) / (sigma**3 + eps)
    return (bar**2 + eps) * (on_q * q + on_sigma * sigma).mean()
""",
        "the target of the mean is clipped too": """
def dsac_t_critic_loss(q, sigma, y_q, y_z, sigma_bar, xi, eps):
    mean, std, bar = q.detach(), sigma.detach(), sigma_bar.detach()
    clipped = torch.clamp(y_z.detach() - mean, -xi * bar, xi * bar)
    on_q = -torch.clamp(y_q.detach() - mean, -xi * bar, xi * bar) / (std**2 + eps)
    on_sigma = -(clipped**2 - std**2) / (std**3 + eps)
    return (bar**2 + eps) * (on_q * q + on_sigma * sigma).mean()
""",
        "the mean is trained on the sample": """
def dsac_t_critic_loss(q, sigma, y_q, y_z, sigma_bar, xi, eps):
    mean, std, bar = q.detach(), sigma.detach(), sigma_bar.detach()
    clipped = torch.clamp(y_z.detach() - mean, -xi * bar, xi * bar)
    on_sigma = -(clipped**2 - std**2) / (std**3 + eps)
    return (bar**2 + eps) * (-(y_z.detach() - mean) / (std**2 + eps) * q + on_sigma * sigma).mean()
""",
        "no gradient weight": """
def dsac_t_critic_loss(q, sigma, y_q, y_z, sigma_bar, xi, eps):
    mean, std, bar = q.detach(), sigma.detach(), sigma_bar.detach()
    clipped = torch.clamp(y_z.detach() - mean, -xi * bar, xi * bar)
    on_q = -(y_q.detach() - mean) / (std**2 + eps)
    on_sigma = -(clipped**2 - std**2) / (std**3 + eps)
    return (on_q * q + on_sigma * sigma).mean()
""",
        "the bound follows each sigma instead of their average": """
def dsac_t_critic_loss(q, sigma, y_q, y_z, sigma_bar, xi, eps):
    mean, std, bar = q.detach(), sigma.detach(), sigma_bar.detach()
    clipped = torch.clamp(y_z.detach() - mean, -xi * std, xi * std)
    on_q = -(y_q.detach() - mean) / (std**2 + eps)
    on_sigma = -(clipped**2 - std**2) / (std**3 + eps)
    return (bar**2 + eps) * (on_q * q + on_sigma * sigma).mean()
""",
        "the plain Gaussian likelihood": """
def dsac_t_critic_loss(q, sigma, y_q, y_z, sigma_bar, xi, eps):
    return -torch.distributions.Normal(q, sigma).log_prob(y_z.detach()).mean()
""",
        "summed over the batch": """
def dsac_t_critic_loss(q, sigma, y_q, y_z, sigma_bar, xi, eps):
    mean, std, bar = q.detach(), sigma.detach(), sigma_bar.detach()
    clipped = torch.clamp(y_z.detach() - mean, -xi * bar, xi * bar)
    on_q = -(y_q.detach() - mean) / (std**2 + eps)
    on_sigma = -(clipped**2 - std**2) / (std**3 + eps)
    return (bar**2 + eps) * (on_q * q + on_sigma * sigma).sum()
""",
    },
}
