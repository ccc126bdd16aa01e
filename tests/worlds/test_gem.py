"""Oracles of the drive's controllers, learned and designed, and the wrong answers that the assignment must reject."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from minirl.core.replay import Batch
from minirl.envs.gem_package import track, track_gem, tracking_error
from minirl.envs.series_dc import (
    DEFAULT_V0,
    SCRIPT,
    equilibrium_duty,
    linearise,
    step_reference,
    wiener_reference,
)
from minirl.experiments import gem as experiment
from minirl.worlds import gem
from minirl.worlds.gem_controllers import (
    LQR,
    CascadedPI,
    ConstantDuty,
    FeedForward,
    discretise,
    pi_gains,
)

# ------------------------------------------------------------------------------------------------------ the PI cascade


def test_gains_are_the_published_numbers():
    """By hand: t_sigma = 0.15 ms, t_1 = 2.7 ms, 1 / V_s = 7 Ohm, J = 2e-3."""
    gains = pi_gains(SCRIPT, 1e-4)
    assert gains.p_current == pytest.approx(2.7e-3 * 7 / (2 * 1.5e-4))
    assert gains.i_current == pytest.approx(1e-4 * 7 / (2 * 1.5e-4))
    assert gains.p_speed == pytest.approx(2e-3 / (4 * 1.5e-4))
    assert gains.i_speed == pytest.approx(2e-3 * 1e-4 / (32 * 1.5e-4**2))


def test_the_smaller_time_constant_is_the_one_that_is_not_cancelled():
    """With a control period of 10 ms the converter, not the winding, is the slow part: the roles change."""
    gains = pi_gains(SCRIPT, 1e-2)
    t_sigma, t_1 = 2.7e-3, 1.5e-2
    assert gains.p_current == pytest.approx(t_1 * 7 / (2 * t_sigma))
    assert gains.p_speed == pytest.approx(2e-3 / (4 * t_sigma))


@pytest.mark.parametrize("motor", [SCRIPT, DEFAULT_V0])
def test_closed_loops_have_the_poles_of_the_two_optima(motor):
    """numpy.roots on the simplified plants: 2 t_sigma s = -1 +- j, then x^3 + 2 x^2 + 2 x + 1 = 0 with x = 4 t_sigma s."""
    tau = 1e-4
    gains, t_sigma, t_1 = pi_gains(motor, tau), 1.5 * tau, motor.L / motor.R
    # current: (k_p + k_i / (tau s)) / (R (1 + t_1 s)(1 + t_sigma s)) closed with unit feedback
    open_den = np.polymul([1, 0], np.polymul([t_1, 1], [t_sigma, 1])) * motor.R
    poles = np.roots(np.polyadd(open_den, [gains.p_current, gains.i_current / tau]))
    slow = poles[np.argmin(np.abs(poles + 1 / t_1))]
    assert slow == pytest.approx(-1 / t_1)  # cancelled by the zero
    rest = sorted((p for p in poles if p != slow), key=lambda p: p.imag)
    np.testing.assert_allclose(np.array(rest) * 2 * t_sigma, [-1 - 1j, -1 + 1j], rtol=1e-6)
    # speed: (k_p + k_i / (tau s)) / (J s (1 + 2 t_sigma s))
    poles = np.roots([2 * t_sigma * motor.J, motor.J, gains.p_speed, gains.i_speed / tau])
    wanted = np.roots([1, 2, 2, 1])
    np.testing.assert_allclose(np.sort_complex(poles * 4 * t_sigma), np.sort_complex(wanted), rtol=1e-6)


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan")])
def test_gains_need_a_period(tau):
    with pytest.raises(ValueError, match="tau"):
        pi_gains(SCRIPT, tau)


class ScalarCascade:
    """The controller once more, for one motor, from the description in the paper's code: no arrays, no shared lines."""

    def __init__(self, motor, tau=1e-4):
        t_s, t_1 = min(motor.L / motor.R, 1.5 * tau), max(motor.L / motor.R, 1.5 * tau)
        self.kp_i, self.ki_i = t_1 * motor.R / (2 * t_s), motor.R * tau / (2 * t_s)
        self.kp_o, self.ki_o = motor.J / (4 * t_s), motor.J * tau / (32 * t_s**2)
        self.m, self.sum_o, self.sum_i = motor, 0.0, 0.0

    def __call__(self, obs):
        m, o = self.m, obs[0]
        omega, i, ref = o[0] * m.omega_limit, o[2] * m.i_limit, o[5] * m.omega_limit
        psi, e = m.l_e_prime * i, ref - omega
        if psi != 0:
            new = self.sum_o + self.ki_o * e / psi
            want = new + self.kp_o * e / psi
        else:
            new, want = self.sum_o, math.copysign(m.i_limit, e)
        if want > m.i_limit or want < 0:
            want = min(max(want, 0.0), m.i_limit)
        else:
            self.sum_o = new
        new = self.sum_i + self.ki_i * (want - i)
        u = new + self.kp_i * (want - i) + omega * psi
        if 0 <= u <= m.u_sup:
            self.sum_i = new
        return np.array([min(max(u, 0.0), m.u_sup) / m.u_sup])


def test_cascade_is_its_scalar_twin():
    """Fed with the same observations. (In a loop each of its own, rounding would be enough to part them: see the next test.)"""
    walk = wiener_reference(np.random.default_rng(100), 0.7, 1_000, 3)
    cascade, seen = CascadedPI(SCRIPT), []

    def act(obs):
        seen.append((obs, cascade(obs)))
        return seen[-1][1]

    track(act, walk)
    for j in range(3):
        twin = ScalarCascade(SCRIPT)
        want = np.array([twin(obs[j : j + 1])[0] for obs, _ in seen])
        got = np.array([duty[j] for _, duty in seen])
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)
        assert 0 < (want == 0).mean() < 0.6 and (want == 1).any()  # both ends are met


def test_dividing_by_the_flux_amplifies_rounding():
    """While the cascade waits for the load to brake, the current dies away and 1 / flux grows without bound: an error of
    1e-13 in the speed becomes an error of amperes. This is why its runs in two exact models need not agree."""
    obs = np.array([[0.3, 0.0, 1e-14, 0.0, 1.0, 0.3 + 1e-13]])
    nudged = obs + np.array([[1e-13, 0, 0, 0, 0, 0]])
    first, second = (CascadedPI(SCRIPT)(x)[0] for x in (obs, nudged))
    assert abs(first - second) > 1e-3


@pytest.mark.parametrize("target", [6.0, 20.0, 49.0])
def test_no_steady_state_error_and_no_current_above_the_limit(target):
    """The integral removes the error; a limit of 52 A is kept from rest, up to one step of the current."""
    motor = replace(SCRIPT, i_limit=52.0)
    seen = track(CascadedPI(motor), np.full((3_000, 1), target), motor)
    assert np.abs(seen["omega"][-300:] - target).max() < 1e-6
    one_step = 1e-4 * motor.u_sup / motor.L
    assert seen["i"].max() <= motor.i_limit + one_step


def test_a_proportional_controller_alone_keeps_an_error():
    """The control arm of the test above."""
    gains = replace(pi_gains(SCRIPT), i_speed=0.0)
    seen = track(CascadedPI(SCRIPT, gains), np.full((3_000, 1), 20.0))
    assert 0.05 < abs(seen["omega"][-1, 0] - 20.0) < 5


def test_anti_windup():
    """A reference that the supply cannot reach, then one it can: without anti-windup the integrals must first unwind."""
    reference = np.r_[np.full(2_000, 70.0), np.full(2_500, 20.0)][:, None]
    late = {}
    for keep in (True, False):
        seen = track(CascadedPI(SCRIPT, anti_windup=keep), reference)["omega"][2_000:, 0]
        late[keep] = int(np.argmax(np.abs(seen - 20.0) < 1.0))
        late[keep] = late[keep] if np.abs(seen - 20.0).min() < 1 else 2_500
    assert late[True] < 1_000 and late[False] > 2 * late[True]


def test_designers_may_be_wrong_about_the_motor():
    """`motor` is what the designer believes: the integral still removes the error, with the true motor in the loop."""
    for belief in (experiment.LOW_R, experiment.HIGH_R, experiment.LOW_FLUX, experiment.HIGH_FLUX):
        seen = track(CascadedPI(belief), np.full((4_000, 1), 30.0))
        assert abs(seen["omega"][-1, 0] - 30.0) < 0.05
    assert experiment.HIGH_R.R == 2 * SCRIPT.R and experiment.LOW_FLUX.l_e_prime == SCRIPT.l_e_prime / 2


# ------------------------------------------------------------------------------------- feed-forward, constant duty, LQR


def test_feed_forward_settles_and_is_blind():
    seen = track(FeedForward(SCRIPT), np.array([[10.0, 45.0]]).repeat(4_000, axis=0))
    np.testing.assert_allclose(seen["omega"][-1], [10.0, 45.0], rtol=1e-4)
    obs = np.random.default_rng(0).uniform(0, 1, (5, 6))
    obs[:, 5] = 0.3
    np.testing.assert_allclose(FeedForward(SCRIPT)(obs), equilibrium_duty(SCRIPT, 30.0))


def test_constant_duty():
    np.testing.assert_array_equal(ConstantDuty(0.3)(np.zeros((4, 6))), np.full(4, 0.3))
    with pytest.raises(ValueError, match="duty"):
        ConstantDuty(1.2)


def test_discretisation_and_lqr_gain_by_value_iteration():
    """A_d, B_d against many small Euler steps, K against two thousand steps of the Riccati recursion."""
    A, B = linearise(SCRIPT, 27.5)
    x, h = np.zeros((2, 3)), 1e-4 / 20_000
    x[:, :2] = np.eye(2)
    for _ in range(20_000):
        x = x + h * (A @ x + np.outer(B, [0, 0, 1]))
    Ad, Bd = discretise(A, B, 1e-4)
    np.testing.assert_allclose(x, np.c_[Ad, Bd], rtol=1e-4, atol=1e-9)
    P, Q = np.zeros((2, 2)), np.diag([0.0, 1e-4])
    for _ in range(3_000):
        gain = (Bd @ P @ Ad) / (1e-4 + Bd @ P @ Bd)
        P = Q + Ad.T @ P @ Ad - np.outer(Ad.T @ P @ Bd, gain)
    np.testing.assert_allclose(LQR(SCRIPT).K, gain, rtol=1e-6)


def test_lqr_tracks_and_its_naive_twin_keeps_an_offset():
    reference = np.full((3_000, 1), 45.0)
    good, naive = (track(LQR(SCRIPT, everywhere=e), reference)["omega"][-1, 0] for e in (True, False))
    assert abs(good - 45) < 1e-6 and abs(naive - 45) > 0.5


# --------------------------------------------------------------------------------------------------------- the losses


def test_target_by_enumeration():
    """A truncated step is stored with terminated = 0 and bootstraps; a violation does not."""
    reward, next_q = torch.tensor([-1.0, -2.0, -20.0]), torch.tensor([-5.0, -7.0, -9.0], requires_grad=True)
    y = gem.ddpg_target(reward, next_q, torch.tensor([0.0, 0.0, 1.0]), 0.9)
    np.testing.assert_allclose(y.numpy(), [-5.5, -8.3, -20.0], rtol=1e-6)
    assert not y.requires_grad


def test_no_violation_is_better_than_the_worst_tracking_for_ever():
    """sum of gamma^k r_min = r_min / (1 - gamma); with a hundredth of it the cheap end beats six steps of the worst."""
    for gamma in (0.9, 0.95, 0.99):
        endless = sum(-(gamma**k) for k in range(5_000))
        assert gem.violation_reward(-1.0, gamma) == pytest.approx(endless)
    assert gem.violation_reward(-1.0, 0.95, 0.01) == pytest.approx(-0.2)


def small(**fields):
    """An agent in double precision with tiny networks."""
    agent = gem.DDPG(gem.Config(n=2, hidden=(5,), **fields)).double()
    agent.seen = agent.seen.double()
    return agent


def batch_of(n, seed=0):
    rng = np.random.default_rng(seed)
    obs, action, next_obs = rng.uniform(size=(n, 6)), rng.uniform(size=(n, 1)), rng.uniform(size=(n, 6))
    tensors = (obs, action, -rng.uniform(size=n), next_obs, (rng.uniform(size=n) < 0.3).astype(float))
    return Batch(*map(torch.as_tensor, tensors))


def numeric_gradient(loss, parameter, h=1e-6):
    flat, grad = parameter.data.view(-1), torch.zeros(parameter.numel(), dtype=torch.float64)
    for j in range(len(flat)):
        old = flat[j].item()
        flat[j] = old + h
        up = loss().item()
        flat[j] = old - h
        grad[j] = (up - loss().item()) / (2 * h)
        flat[j] = old
    return grad.view_as(parameter)


def test_critic_gradient_by_finite_differences():
    agent, batch = small(), batch_of(12)
    next_q = agent.q_values(agent.target_critic, batch.next_obs, agent.policy(agent.target_actor, batch.next_obs))
    y = gem.ddpg_target(batch.reward, next_q, batch.terminated, 0.95)

    def loss():
        return gem.critic_loss(agent.q_values(agent.critic, batch.obs, batch.action), y)

    loss().backward()
    for parameter in agent.critic.parameters():
        torch.testing.assert_close(parameter.grad, numeric_gradient(loss, parameter), rtol=1e-5, atol=1e-8)


def test_actor_gradient_is_the_chain_rule_of_the_theorem():
    """Autograd's gradient of the loss, finite differences, and -E[dQ/da dmu/dtheta] put together by hand."""
    agent, batch = small(), batch_of(7)

    def loss():
        return gem.actor_loss(agent.q_values(agent.critic, batch.obs, agent.policy(agent.actor, batch.obs)))

    loss().backward(inputs=agent.actor_params)
    action = agent.policy(agent.actor, batch.obs).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(agent.q_values(agent.critic, batch.obs, action).sum(), action)
    for k, parameter in enumerate(agent.actor_params):
        torch.testing.assert_close(parameter.grad, numeric_gradient(loss, parameter), rtol=1e-5, atol=1e-9)
        by_hand = torch.zeros_like(parameter)
        for j in range(7):
            mu = agent.policy(agent.actor, batch.obs[j : j + 1])
            by_hand -= slope[j, 0] * torch.autograd.grad(mu.sum(), agent.actor_params)[k] / 7
        torch.testing.assert_close(parameter.grad, by_hand)


# ---------------------------------------------------------------------------------------------------------- the noise


def test_noise_has_its_stationary_spread_and_memory():
    """AR(1) with factor 0.95: std sigma sqrt(dt / (1 - 0.95^2)), lag-20 correlation 0.95^20. 4,000 paths of 400 steps."""
    noise = gem.OrnsteinUhlenbeck((4_000, 1), 0.5, 0.2, 0.1, torch.Generator().manual_seed(0))
    path = torch.stack([noise() for _ in range(400)])[200:, :, 0]
    expected = 0.2 * math.sqrt(0.1 / (1 - 0.95**2))
    assert path.std().item() == pytest.approx(expected, rel=0.02)
    correlation = (path[:-20] * path[20:]).mean() / path.var()
    assert correlation.item() == pytest.approx(0.95**20, abs=0.02)


def test_noise_is_reset_for_the_motor_whose_episode_ended():
    noise = gem.OrnsteinUhlenbeck((3, 1), 0.5, 0.2, 0.1, torch.Generator().manual_seed(0))
    for _ in range(5):
        noise()
    before = noise.x.clone()
    noise.reset(np.array([False, True, False]))
    assert noise.x[1] == 0 and (noise.x[[0, 2]] == before[[0, 2]]).all()


def test_training_resets_the_noise_at_every_end(monkeypatch):
    seen = []
    monkeypatch.setattr(gem.OrnsteinUhlenbeck, "reset", lambda self, where: seen.append(where.copy()))
    list(gem.DDPG(gem.Config(n=4, horizon=50, warmup=10**6)).learn(4 * 25))
    assert len(seen) == 2 and all(where.all() for where in seen)


# ---------------------------------------------------------------------------------------------------------- the agent


def test_actions_are_duties_and_only_exploring_ones_carry_noise():
    agent = gem.DDPG(gem.Config(n=50, noise_sigma=3.0))
    obs = np.random.default_rng(0).uniform(size=(50, 6))
    greedy = agent.act(obs, deterministic=True)
    np.testing.assert_array_equal(greedy[:, 0], agent(obs))
    assert greedy.shape == (50, 1) and (greedy > 0).all() and (greedy < 1).all()
    agent.act(obs)
    noisy = agent.act(obs)
    assert noisy.min() == 0 and noisy.max() == 1 and not np.allclose(noisy, greedy)


def test_the_blind_actor_sees_neither_current_nor_torque_and_the_critic_does():
    agent = gem.DDPG(gem.Config(blind=gem.NO_CURRENT, last_layer=1.0))
    obs = np.random.default_rng(0).uniform(size=(8, 6))
    other = obs.copy()
    other[:, [1, 2]] = np.random.default_rng(1).uniform(size=(8, 2))
    np.testing.assert_array_equal(agent(obs), agent(other))
    other[:, 5] = 0.1
    assert not np.allclose(agent(obs), agent(other))
    tensor = [torch.as_tensor(x, dtype=torch.float32) for x in (obs, other)]
    duty = torch.full((8, 1), 0.5)
    assert not torch.allclose(*(agent.q_values(agent.critic, x, duty) for x in tensor))


def test_one_update_moves_everything_once():
    agent = small(lr=1e-3, polyak=0.1)
    old = [p.clone() for p in agent.critic.parameters()]
    old_target = [p.clone() for p in agent.target_critic.parameters()]
    log = agent.update(batch_of(16))
    assert set(log) == {"q", "critic_loss"}
    for before, now, t0, t1 in zip(
        old, agent.critic.parameters(), old_target, agent.target_critic.parameters(), strict=True
    ):
        assert (now - before).abs().max() > 1e-4
        torch.testing.assert_close(t1, t0 + 0.1 * (now - t0))


def test_the_actor_can_wait_for_the_critic():
    agent = small()
    before = [p.clone() for p in agent.actor_params]
    agent.update(batch_of(16), move_actor=False)
    assert all(torch.equal(a, b) for a, b in zip(before, agent.actor_params, strict=True))
    agent.update(batch_of(16))
    assert not torch.equal(before[0], agent.actor_params[0])


def test_learn_is_a_reproducible_generator():
    def run():
        agent = gem.DDPG(gem.Config(n=8, warmup=200, actor_warmup=300, updates=1, hidden=(16,), seed=3))
        return list(agent.learn(2_000)), agent(np.full((1, 6), 0.3))

    (logs, duty), (again, duty2) = run(), run()
    assert logs == again and duty == duty2
    assert [log["step"] for log in logs] == [800, 1600, 2000] and logs[-1]["progress"] == 1.0
    assert {"error", "crossings", "q", "critic_loss"} <= logs[-1].keys()
    torch.manual_seed(0)
    first = next(gem.DDPG(gem.Config(n=8, warmup=200, actor_warmup=300, updates=1, hidden=(16,), seed=3)).learn(2_000))
    assert first == logs[0], "the global generator plays no part"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"gamma": 1.0}, "gamma"),
        ({"polyak": 0.0}, "polyak"),
        ({"penalty": -1.0}, "penalty"),
        ({"updates": -1}, "updates"),
    ],
)
def test_bad_settings_are_named(fields, name):
    with pytest.raises(ValueError, match=name):
        gem.Config(**fields)


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="steps"):
        next(gem.DDPG(gem.Config()).learn(3))


def test_violations_end_episodes_with_the_penalty_of_the_configuration():
    config = gem.Config(n=1, motor=replace(SCRIPT, i_limit=35.0), references=(5.0, 27.0), penalty=0.5, gamma=0.9)
    envs = gem.DDPG(config).make_envs()
    envs.reset(seed=0)
    for _ in range(20):
        _, reward, terminated, _, _ = envs.step(np.ones((1, 1)))
        if terminated[0]:
            break
    assert terminated[0] and reward[0] == pytest.approx(-0.5 / (1 - 0.9))


# ------------------------------------------------------------------------------------- does the method find an optimum?


def riccati_gain(a, b, rho, gamma):
    """k of u = -k x, the best policy for cost x^2 + rho u^2, discounted, in x' = a x + b u."""
    p = 1.0
    for _ in range(10_000):
        p = 1 + gamma * a * a * p - (gamma * a * b * p) ** 2 / (rho + gamma * b * b * p)
    return gamma * a * b * p / (rho + gamma * b * b * p)


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b", "rho", "gamma"), [(0.9, 0.5, 0.1, 0.95), (1.05, 0.3, 0.5, 0.9)])
def test_the_losses_find_the_riccati_gain(a, b, rho, gamma):
    """DDPG with a linear actor and a critic on quadratic features; the gain must be found within 5 %. Fixed seed."""
    generator = torch.Generator().manual_seed(0)
    k, weights = torch.zeros(1, requires_grad=True), torch.zeros(4, requires_grad=True)
    target_k, target_w = torch.zeros(1), torch.zeros(4)
    critic, actor = torch.optim.Adam([weights], 2e-2), torch.optim.Adam([k], 2e-3)

    def q(w, x, u):
        return torch.stack([x * x, x * u, u * u, torch.ones_like(x)], dim=1) @ w

    for _ in range(6_000):
        x, u, noise = (torch.randn(256, generator=generator) for _ in range(3))
        after = a * x + b * u + 0.1 * noise
        y = gem.ddpg_target(-(x * x + rho * u * u), q(target_w, after, -target_k * after), torch.zeros(256), gamma)
        critic.zero_grad()
        gem.critic_loss(q(weights, x, u), y).backward()
        critic.step()
        actor.zero_grad()
        gem.actor_loss(q(weights, x, -k * x)).backward(inputs=[k])
        actor.step()
        with torch.no_grad():
            target_w += 0.02 * (weights - target_w)
            target_k += 0.02 * (k - target_k)
    assert k.item() == pytest.approx(riccati_gain(a, b, rho, gamma), rel=0.05)


@pytest.mark.slow
def test_training_in_our_model_controls_the_real_package():
    """Seed 100, 24,000 agent steps; judged in the package. In pilots the error was 8 to 15 % of that of a constant duty."""
    pytest.importorskip("gym_electric_motor", reason="gym-electric-motor is not installed")
    agent = gem.DDPG(gem.Config(seed=100))
    for _ in agent.learn(24_000):
        pass
    reference = step_reference(5_000)
    error, constant = (
        tracking_error(track_gem(act, reference, repeat=5)["omega"], reference) for act in (agent, ConstantDuty(0.5))
    )
    assert error < 0.25 * constant


# -------------------------------------------------------------------------------------------------------- the verdicts


def stored_runs(**changes):
    """Made-up runs in which every claim holds; changes: {"arm__metric": value or list over seeds}."""
    walk, kinds = experiment.WIENER, ("steps", "sine", *(f"walk {s:g}" for s in experiment.WALKS))

    def errors(**named):
        return {f"error {kind}": named.get(kind.replace(" ", "_"), 0.02) for kind in kinds}

    learner = errors(steps=0.01, sine=0.01) | {"error": 0.013, "untrained error steps": 0.12}
    learner |= {"error with noise": 0.021, "error with dead time": 0.022, "largest difference to our model": 1e-5}
    learner |= {"error 0.5 s, euler solver": 0.02, "error 0.5 s, scipy solver": 0.0201}
    pi = errors(steps=0.004, sine=1e-5) | {"error": 0.01, "error with noise": 0.024, "error with dead time": 0.04}
    pi |= {f"error {walk}": 0.026, "error walk 0.005": 0.025}
    metrics = {arm: dict(learner) for arm in experiment.LEARNERS}
    metrics["no current"][f"error {walk}"] = 0.03
    metrics["error^1"]["error steps"] = 0.02
    metrics["DDPG 72k"]["error"] = 0.011
    currents = {f"largest current {kind}": 30.0 for kind in experiment.KINDS}
    for arm, crossings in zip(experiment.SAFETY, (0.5, 180.0, 1.0), strict=True):
        metrics[arm] = {"crossings": crossings, "error": 0.03} | currents
    metrics |= {f"fixed {name}": dict(pi) for name in experiment.FIXED}
    metrics["fixed PI retuned"][f"error {walk}"] = 0.021
    metrics["fixed feed-forward"][f"error {walk}"] = 0.03
    metrics["fixed duty 0.5"] |= {"error": 0.12, "error steps": 0.125}
    metrics["fixed safety"] = {
        "duty 0 error": 0.16,
        "best duty error": 0.07,
        "PI error": 0.01,
        "PI largest current": 36.0,
    }
    for place, value in changes.items():
        arm, name = place.split("__")
        metrics[arm][name] = value
    return [
        {
            "arm": arm,
            "seed": seed,
            "curves": {},
            "cpu_s": 1.0,
            "metrics": {k: v[seed] if isinstance(v, list) else v for k, v in metrics[arm].items()},
        }
        for arm, seed in experiment.plan(5)
    ]


def verdicts(**changes):
    return {row["id"]: row["verdict"] for row in experiment.claims(stored_runs(**changes))}


def test_claims_that_hold_are_reproduced():
    found = verdicts()
    assert {found.pop(id) for id in ("C14", "C15")} == {"cannot be shown here"}
    assert set(found.values()) == {"reproduced"} and len(found) == 13


@pytest.mark.parametrize(
    ("spoilt", "id"),
    [
        ({"DDPG__error": [0.013, 0.013, 0.013, 0.013, 0.025]}, "C1"),
        ({"DDPG__error sine": 0.031}, "C2"),
        ({"DDPG__error walk 0.005": [0.026, 0.026, 0.02, 0.02, 0.02]}, "C3"),
        ({"DDPG__error walk 0.007": [0.027, 0.027, 0.02, 0.02, 0.02]}, "C3"),
        ({"fixed PI retuned__error walk 0.007": 0.019}, "C4"),
        ({"DDPG__error steps": [0.01, 0.01, 0.003, 0.01, 0.01]}, "C5"),
        ({"fixed feed-forward__error walk 0.007": 0.021}, "C6"),
        ({"no current__error walk 0.007": 0.0215}, "C7"),
        ({"error^1__error steps": 0.009}, "C8"),
        ({"DDPG 72k__error": [0.011, 0.014, 0.011]}, "C9"),
        ({"penalty 1__crossings": [20.0, 20.0, 0.0, 0.0, 0.0]}, "C10"),
        ({"penalty 1__error": 0.08}, "C11"),
        ({"penalty 1__largest current steps": [36.0, 36.0, 30.0, 30.0, 30.0]}, "C11"),
        ({"DDPG__error with dead time": 0.05}, "C12"),
        ({"DDPG__largest difference to our model": 0.01}, "C13"),
        ({"DDPG__error 0.5 s, scipy solver": 0.022}, "C13"),
    ],
)
def test_claims_that_fail_are_not(spoilt, id):
    assert verdicts(**spoilt)[id] == "not reproduced"


def test_one_bad_seed_of_five_is_allowed_where_the_claim_says_so():
    assert verdicts(**{"DDPG__error walk 0.007": [0.027, 0.02, 0.02, 0.02, 0.02]})["C3"] == "reproduced"
    assert verdicts(**{"penalty 1__crossings": [20.0, 0.0, 0.0, 0.0, 0.0]})["C10"] == "reproduced"


def test_the_plan_and_the_references():
    plan = experiment.plan(5)
    assert len(plan) == len(set(plan)) and {arm for arm, _ in plan} >= {
        "DDPG",
        "no current",
        "fixed PI",
        "penalty 0.01",
    }
    given, pilot = experiment.references(), experiment.references(100)
    assert set(given) >= set(experiment.KINDS)
    for kind, reference in given.items():
        assert reference.shape == (experiment.T,) and reference.min() >= 5 and reference.max() <= 50
        assert (kind.startswith("walk")) == (not np.array_equal(reference, pilot[kind]))
    for reference in experiment.safe_references().values():
        assert reference.min() >= 5 and reference.max() <= 27


def test_settling_by_hand():
    """15 -> 40 -> 15 with 100 steps each: within 1 rad/s after 30 steps upwards, never downwards."""
    reference = np.r_[np.full(100, 15.0), np.full(100, 40.0), np.full(100, 15.0)]
    omega = np.r_[np.full(100, 15.0), np.full(30, 20.0), np.full(70, 40.5), np.full(100, 17.0)]
    assert experiment.settling(omega, reference) == (pytest.approx(3.0), pytest.approx(10.0))


# ------------------------------------------------------------------- the wrong answers that the assignment must reject

WRONG = {
    "series_dc_step": {
        "torque proportional to the current": """
def series_dc_step(i, w, u, p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"] + p["j_load"]
    di = (u - R * i - p["l_e_prime"] * w * i) / L
    dw = (p["l_e_prime"] * i - p["c"] * w * np.abs(w)) / J
    return w + tau * dw, np.maximum(i + tau * di, 0.0)
""",
        "the field winding has no inductance": """
def series_dc_step(i, w, u, p, tau):
    R, J = p["r_a"] + p["r_e"], p["j_rotor"] + p["j_load"]
    di = (u - R * i - p["l_e_prime"] * w * i) / p["l_a"]
    dw = (p["l_e_prime"] * i**2 - p["c"] * w * np.abs(w)) / J
    return w + tau * dw, np.maximum(i + tau * di, 0.0)
""",
        "the speed already sees the new current": """
def series_dc_step(i, w, u, p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"] + p["j_load"]
    i = np.maximum(i + tau * (u - R * i - p["l_e_prime"] * w * i) / L, 0.0)
    return w + tau * (p["l_e_prime"] * i**2 - p["c"] * w * np.abs(w)) / J, i
""",
        "the current may flow backwards": """
def series_dc_step(i, w, u, p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"] + p["j_load"]
    di = (u - R * i - p["l_e_prime"] * w * i) / L
    dw = (p["l_e_prime"] * i**2 - p["c"] * w * np.abs(w)) / J
    return w + tau * dw, i + tau * di
""",
        "no induced voltage": """
def series_dc_step(i, w, u, p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"] + p["j_load"]
    dw = (p["l_e_prime"] * i**2 - p["c"] * w * np.abs(w)) / J
    return w + tau * dw, np.maximum(i + tau * (u - R * i) / L, 0.0)
""",
        "the load pushes where the shaft turns backwards": """
def series_dc_step(i, w, u, p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"] + p["j_load"]
    di = (u - R * i - p["l_e_prime"] * w * i) / L
    dw = (p["l_e_prime"] * i**2 - p["c"] * w**2) / J
    return w + tau * dw, np.maximum(i + tau * di, 0.0)
""",
        "works in place": """
def series_dc_step(i, w, u, p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"] + p["j_load"]
    di = (u - R * i - p["l_e_prime"] * w * i) / L
    dw = (p["l_e_prime"] * i**2 - p["c"] * w * np.abs(w)) / J
    i += tau * di
    w += tau * dw
    return w, np.maximum(i, 0.0)
""",
    },
    "pi_gains": {
        "the roles of the time constants never change": """
def pi_gains(p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"] + p["j_load"]
    s, t = 1.5 * tau, L / R
    return {"p_current": t * R / (2 * s), "i_current": tau * R / (2 * s), "p_speed": J / (4 * s), "i_speed": J * tau / (32 * s**2)}
""",
        "min and max swapped": """
def pi_gains(p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"] + p["j_load"]
    s, t = max(L / R, 1.5 * tau), min(L / R, 1.5 * tau)
    return {"p_current": t * R / (2 * s), "i_current": tau * R / (2 * s), "p_speed": J / (4 * s), "i_speed": J * tau / (32 * s**2)}
""",
        "integral gains without the period": """
def pi_gains(p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"] + p["j_load"]
    s, t = min(L / R, 1.5 * tau), max(L / R, 1.5 * tau)
    return {"p_current": t * R / (2 * s), "i_current": R / (2 * s), "p_speed": J / (4 * s), "i_speed": J / (32 * s**2)}
""",
        "the speed loop takes the current loop for instantaneous": """
def pi_gains(p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"] + p["j_load"]
    s, t = min(L / R, 1.5 * tau), max(L / R, 1.5 * tau)
    return {"p_current": t * R / (2 * s), "i_current": tau * R / (2 * s), "p_speed": J / (2 * s), "i_speed": J * tau / (8 * s**2)}
""",
        "only the rotor's inertia": """
def pi_gains(p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"]
    s, t = min(L / R, 1.5 * tau), max(L / R, 1.5 * tau)
    return {"p_current": t * R / (2 * s), "i_current": tau * R / (2 * s), "p_speed": J / (4 * s), "i_speed": J * tau / (32 * s**2)}
""",
        "divided by the resistance": """
def pi_gains(p, tau):
    R, L, J = p["r_a"] + p["r_e"], p["l_a"] + p["l_e"], p["j_rotor"] + p["j_load"]
    s, t = min(L / R, 1.5 * tau), max(L / R, 1.5 * tau)
    return {"p_current": t / (2 * s * R), "i_current": tau / (2 * s * R), "p_speed": J / (4 * s), "i_speed": J * tau / (32 * s**2)}
""",
    },
    "gem_reward": {
        "power before the division": """
def gem_reward(state, ref, w, n, length):
    return -(w * np.abs(state - ref) ** n / length).sum(axis=-1)
""",
        "wrong sign": """
def gem_reward(state, ref, w, n, length):
    return (w * (np.abs(state - ref) / length) ** n).sum(axis=-1)
""",
        "the power of the weighted error": """
def gem_reward(state, ref, w, n, length):
    return -((w * np.abs(state - ref) / length) ** n).sum(axis=-1)
""",
        "sums over everything": """
def gem_reward(state, ref, w, n, length):
    return -(w * (np.abs(state - ref) / length) ** n).sum()
""",
        "mean over the quantities": """
def gem_reward(state, ref, w, n, length):
    return -(w * (np.abs(state - ref) / length) ** n).mean(axis=-1)
""",
        "divides by the size of the reference": """
def gem_reward(state, ref, w, n, length):
    return -(w * (np.abs(state - ref) / np.maximum(np.abs(ref), 1e-9)) ** n).sum(axis=-1)
""",
    },
    "ddpg_target": {
        "no bootstrap at the time limit": """
def ddpg_target(r, q_next, terminated, truncated, gamma):
    return (r + gamma * (1 - torch.maximum(terminated, truncated)) * q_next).detach()
""",
        "bootstraps after a violation": """
def ddpg_target(r, q_next, terminated, truncated, gamma):
    return (r + gamma * q_next).detach()
""",
        "the clock saves a violation": """
def ddpg_target(r, q_next, terminated, truncated, gamma):
    return (r + gamma * (1 - terminated * (1 - truncated)) * q_next).detach()
""",
        "the gradient flows": """
def ddpg_target(r, q_next, terminated, truncated, gamma):
    return r + gamma * (1 - terminated) * q_next
""",
        "a violation loses its reward too": """
def ddpg_target(r, q_next, terminated, truncated, gamma):
    return ((1 - terminated) * (r + gamma * q_next)).detach()
""",
        "the two flags in the wrong order": """
def ddpg_target(r, q_next, terminated, truncated, gamma):
    return (r + gamma * (1 - truncated) * q_next).detach()
""",
    },
    "equilibrium_duty": {
        "no induced voltage": """
def equilibrium_duty(w_ref, p):
    u = (p["r_a"] + p["r_e"]) * w_ref * np.sqrt(p["c"] / p["l_e_prime"])
    return np.minimum(u / p["u_sup"], 1.0)
""",
        "torque proportional to the current": """
def equilibrium_duty(w_ref, p):
    i = p["c"] * w_ref**2 / p["l_e_prime"]
    return np.minimum((p["r_a"] + p["r_e"] + p["l_e_prime"] * w_ref) * i / p["u_sup"], 1.0)
""",
        "a duty above one": """
def equilibrium_duty(w_ref, p):
    i = w_ref * np.sqrt(p["c"] / p["l_e_prime"])
    return (p["r_a"] + p["r_e"] + p["l_e_prime"] * w_ref) * i / p["u_sup"]
""",
        "a voltage instead of a duty": """
def equilibrium_duty(w_ref, p):
    i = w_ref * np.sqrt(p["c"] / p["l_e_prime"])
    return np.minimum((p["r_a"] + p["r_e"] + p["l_e_prime"] * w_ref) * i, 1.0)
""",
        "the induced voltage of another machine": """
def equilibrium_duty(w_ref, p):
    i = w_ref * np.sqrt(p["c"] / p["l_e_prime"])
    return np.minimum(((p["r_a"] + p["r_e"]) * i + p["l_e_prime"] * w_ref) / p["u_sup"], 1.0)
""",
        "a straight line through full duty": """
def equilibrium_duty(w_ref, p):
    R, ratio = p["r_a"] + p["r_e"], np.sqrt(p["c"] / p["l_e_prime"])
    top = (-R * ratio + np.sqrt((R * ratio) ** 2 + 4 * p["l_e_prime"] * ratio * p["u_sup"])) / (2 * p["l_e_prime"] * ratio)
    return np.minimum(w_ref / top, 1.0)
""",
    },
}
