"""Oracles of the asymmetric TD3: loops, fresh simulation, the course's plain TD3; the geometric controller; wrong answers."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from minirl.control import td3
from minirl.core import checkpoint
from minirl.core.nets import MLP
from minirl.core.seeding import torch_generator
from minirl.envs import quadrotor as qr
from minirl.worlds import learning_to_fly as fly
from minirl.worlds import learning_to_fly_geometric as geo

SMALL = {"n_envs": 16, "warmup_critic": 200, "warmup_actor": 300, "eval_every": 1000, "eval_episodes": 3}


def batch(B=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    terminated = (draw(B) > 0.5).float()
    return fly.Batch(
        draw(B, fly.O), draw(B, fly.C), draw(B, 4).clamp(-1, 1), draw(B), draw(B, fly.O), draw(B, fly.C), terminated
    )


# --------------------------------------------------------------------------------------------- reward and curriculum


@pytest.mark.parametrize("weights", [qr.REWARD_START, qr.REWARD_TARGET, (7.2, 5.0, 0.0196, 0.0196)])
def test_rewards_are_those_that_a_fresh_simulation_pays(weights):
    envs, rng, ends = qr.Quadrotor(400, weights=weights), np.random.default_rng(0), 0
    envs.reset(seed=0)
    for _ in range(50):
        c, action = envs.privileged().copy(), rng.uniform(-1, 1, (400, 4)).astype(np.float32)
        _, reward, terminated, _, _ = envs.step(action)
        parts = (torch.from_numpy(z.astype(np.float32)) for z in (c, action, terminated))
        np.testing.assert_allclose(fly.rewards(*parts, weights).numpy(), reward, atol=2e-3, rtol=1e-4)
        ends += terminated.sum()
    assert ends > 100


def test_the_curriculum_tightens_and_stops_at_the_target():
    w = fly.tightened(qr.REWARD_START)
    assert w == pytest.approx((6.0, 5.0, 0.014, 0.014))
    for _ in range(50):
        w = fly.tightened(w)
    assert w == qr.REWARD_TARGET


def filled(n=640, weights=qr.REWARD_START, seed=0):
    """A replay buffer, and the same transitions as a list of whole observations."""
    envs, rng = qr.Quadrotor(64, weights=weights), np.random.default_rng(seed)
    buffer, kept = fly.Replay(n), []
    obs, _ = envs.reset(seed=seed)
    for _ in range(n // 64):
        c, action = envs.privileged(), rng.uniform(-1, 1, (64, 4)).astype(np.float32)
        new, reward, terminated, truncated, info = envs.step(action)
        after, after_c = new, envs.privileged()
        done = terminated | truncated
        if done.any():
            after = np.where(done[:, None], info["final_obs"], new)
            after_c = np.where(done[:, None], info["final_privileged"], after_c)
        buffer.add(obs, action, c, after, after_c, reward, terminated)
        kept.append([z.copy() for z in (obs, c, action, reward, after, after_c, terminated)])
        obs = new
    return buffer, [np.concatenate(z).astype(np.float32) for z in zip(*kept, strict=True)]


def test_replay_gives_back_whole_transitions_although_it_stores_no_second_history():
    buffer, kept = filled()
    draws = torch.Generator().manual_seed(3)
    where = torch.randint(640, (100,), generator=torch.Generator().manual_seed(3)).numpy()
    for got, want in zip(buffer.sample(100, draws), kept, strict=True):
        np.testing.assert_array_equal(got.numpy(), want[where])


def test_replay_overwrites_the_oldest():
    buffer, _ = filled(128)
    first = buffer.rows[:64].clone()
    zeros = [np.zeros((64, k), np.float32) for k in (fly.O, 4, fly.C, fly.O, fly.C)]
    buffer.add(*zeros, np.zeros(64), np.zeros(64))
    assert buffer.size == 128 and (buffer.rows[:64] == 0).all() and (first != 0).any()
    assert (buffer.rows[64:] != 0).any()


def test_recomputed_rewards_are_those_of_the_same_flight_under_new_weights():
    old, _ = filled(3200, qr.REWARD_START)
    new, _ = filled(3200, qr.REWARD_TARGET)
    assert (old.rows[:, -2] - new.rows[:, -2]).abs().max() > 1
    old.recompute(qr.REWARD_TARGET)
    np.testing.assert_allclose(old.rows.numpy(), new.rows.numpy(), atol=2e-3)
    assert (old.rows[old.rows[:, -1] == 1, -2] == 0).all() and (old.rows[:, -1] == 1).sum() > 10


# -------------------------------------------------------------------------------------------------------- the losses


def test_target_by_loops():
    b, g = batch(), torch.Generator().manual_seed(1)
    next_q = torch.randn(2, 32, generator=g)
    y = fly.td3_target(b.reward, b.terminated, next_q, 0.9)
    for i in range(32):
        rest = 0.9 * min(next_q[0, i].item(), next_q[1, i].item())
        want = b.reward[i].item() + (0.0 if b.terminated[i] else rest)
        assert y[i].item() == pytest.approx(want, abs=1e-6)
    action, noise = torch.randn(32, 4, generator=g), torch.randn(32, 4, generator=g)
    got = fly.smoothed(action, noise, 0.5)
    for a, e, s in zip(action.flatten().tolist(), noise.flatten().tolist(), got.flatten().tolist(), strict=True):
        assert s == pytest.approx(max(-1, min(1, a + max(-0.5, min(0.5, e)))), abs=1e-6)


def test_the_target_action_comes_from_the_noisy_observation_and_the_value_from_the_true_state():
    agent, b = fly.Flier(fly.Config()), batch()
    seen = {}
    policy, q_values = agent.policy, agent.q_values

    def spy_policy(actor, obs):
        seen.setdefault("actor", []).append((actor is agent.target_actor, obs))
        return policy(actor, obs)

    def spy_q(critic, obs, privileged, action):
        seen.setdefault("critic", []).append((critic is agent.target_critic, privileged))
        return q_values(critic, obs, privileged, action)

    agent.policy, agent.q_values = spy_policy, spy_q
    agent.update_critic(b)
    ((is_target, obs),) = seen["actor"]
    assert is_target and obs is b.next_obs
    assert [(t, p is q) for (t, p), q in zip(seen["critic"], (b.next_privileged, b.privileged), strict=True)] == [
        (True, True),
        (False, True),
    ]


def test_the_actor_never_needs_what_only_the_simulator_knows():
    agent, rng = fly.Flier(fly.Config()), np.random.default_rng(0)
    obs = rng.normal(size=(5, fly.O)).astype(np.float32)
    assert agent.act(obs, deterministic=True).shape == (5, 4)
    assert agent.actor.weights[0].shape[0] == 146 and agent.critic.weights[0].shape[1] == 32


def test_ablations_change_what_is_seen():
    plain, no_history = fly.Flier(fly.Config()), fly.Flier(fly.Config(history=False))
    symmetric = fly.Flier(fly.Config(privileged=False))
    assert no_history.actor.weights[0].shape[0] == 18 and symmetric.critic.weights[0].shape[1] == 150
    obs = np.random.default_rng(0).normal(size=(3, fly.O)).astype(np.float32)
    changed = obs.copy()
    changed[:, 18:] += 1
    assert (no_history.act(obs, True) == no_history.act(changed, True)).all()
    assert (plain.act(obs, True) != plain.act(changed, True)).any()


def test_with_identical_observations_it_is_the_plain_td3_bit_for_bit():
    """The same networks, optimiser, noise and batches as minirl.control.td3: ten updates, equal to the last bit."""
    config = fly.Config(privileged=False, history=True, weight_decay=0.0, adam_eps=1e-8, actor_every=1, lr=1e-3)
    ours = fly.Flier(config)
    plain = td3.TD3(td3.Config(hidden=(64, 64), lr=1e-3, policy_delay=1))
    init = torch_generator(5)
    plain.actor, plain.critic = MLP((fly.O, 64, 64, 4), init), MLP((fly.O + 4, 64, 64, 1), init, K=2)
    ours.actor, ours.critic = deepcopy(plain.actor), deepcopy(plain.critic)
    for agent in (ours, plain):
        agent.target_actor = deepcopy(agent.actor).requires_grad_(False)
        agent.target_critic = deepcopy(agent.critic).requires_grad_(False)
        agent.actor_params = list(agent.actor.parameters())
        agent.noise = torch.Generator().manual_seed(9)
    ours.actor_optimiser = torch.optim.AdamW(ours.actor_params, 1e-3, weight_decay=0.0, fused=True)
    ours.critic_optimiser = torch.optim.AdamW(ours.critic.parameters(), 1e-3, weight_decay=0.0, fused=True)
    plain.actor_optimiser = torch.optim.Adam(plain.actor_params, 1e-3, fused=True)
    plain.critic_optimiser = torch.optim.Adam(plain.critic.parameters(), 1e-3, fused=True)
    for seed in range(10):
        b = batch(seed=seed)
        ours.update_critic(b)
        ours.update_actor(b)
        plain.update(td3.Batch(b.obs, b.action, b.reward, b.next_obs, b.terminated))
    for a, b in zip([*ours.actor.parameters(), *ours.critic.parameters(), *ours.target_actor.parameters()],
                    [*plain.actor.parameters(), *plain.critic.parameters(), *plain.target_actor.parameters()], strict=True):  # fmt: skip
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_privileged_gradient_is_that_of_the_mean_critic():
    """Eq. (10) for Q(s, a) = -(a - s)^2 with s hidden: the minimiser through Q(s, .) is E[s | o] = o / 2, within 5 standard errors."""
    g = torch.Generator().manual_seed(0)
    s = torch.randn(200_000, generator=g)
    o = s + torch.randn(200_000, generator=g)
    assert float((o * s).mean() / (o * o).mean()) == pytest.approx(0.5, abs=5 / np.sqrt(4 * 200_000))


# -------------------------------------------------------------------------------------------------------- training


def test_two_runs_with_one_seed_give_the_same_numbers_and_another_seed_others():
    logs = [list(fly.Flier(fly.Config(seed=s, **SMALL)).learn(2000)) for s in (0, 0, 1)]
    assert logs[0] == logs[1] and logs[0] != logs[2]
    assert [log["step"] for log in logs[0]] == [0, 1008, 2000] and logs[0][-1]["progress"] == 1.0
    assert all("length" in log for log in logs[0])


def test_updates_per_step_are_the_papers():
    agent, count = fly.Flier(fly.Config(**SMALL)), {"critic": 0, "actor": 0}
    agent.update_critic = lambda b: (count.__setitem__("critic", count["critic"] + 1), {"q": torch.zeros(())})[1]
    agent.update_actor = lambda b: count.__setitem__("actor", count["actor"] + 1)
    list(agent.learn(2000))
    assert count == {"critic": (2000 - 200) // 10, "actor": (2000 - 300) // 20}


def test_curriculum_and_its_ablations(monkeypatch):
    """Weights at each tightening, and whether the buffer is recomputed."""
    calls = []
    monkeypatch.setattr(fly.Replay, "recompute", lambda self, weights: calls.append(weights[0]))
    config = fly.Config(**SMALL, curriculum_every=500)
    logs = list(fly.Flier(config).learn(1600))
    assert calls == pytest.approx([6.0, 7.2, 8.64]) and logs[-1]["weight_position"] == pytest.approx(8.64)
    calls.clear()
    logs = list(fly.Flier(replace(config, recompute=False)).learn(1600))
    assert calls == [] and logs[-1]["weight_position"] == pytest.approx(8.64)
    logs = list(fly.Flier(replace(config, curriculum=False)).learn(1600))
    assert calls == [] and logs[-1]["weight_position"] == 40.0


def test_evaluation_is_in_the_full_environment_whatever_training_was(monkeypatch):
    made = []
    real = fly.Quadrotor

    def spy(*args, **kwargs):
        made.append(real(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(fly, "Quadrotor", spy)
    agent = fly.Flier(fly.Config(lag=False, **SMALL))
    list(agent.learn(16))
    training, *evaluations = made
    assert training.params.lag == 0 and training.weights == qr.REWARD_START and evaluations
    for envs in evaluations:
        assert envs.params.lag == 0.15 and envs.weights == qr.REWARD_TARGET and envs.noise == envs.disturbance == 1


def test_evaluation_by_hand():
    """Motors off: every episode is a fall, its length the first step at which a coordinate passes 0.6 m."""
    found = fly.evaluate(lambda obs: np.full((len(obs), 4), -1.0), 20, seed=3)
    envs = qr.Quadrotor(20)
    envs.reset(seed=3)
    lengths, total, alive = np.zeros(20), np.zeros(20), np.ones(20, bool)
    for _ in range(500):
        _, reward, terminated, _, _ = envs.step(np.full((20, 4), -1.0))
        lengths += alive
        total += reward * alive
        alive &= ~terminated
    assert found["length"] == lengths.mean() and found["return"] == pytest.approx(total.mean())
    assert found["crashed"] == 1 and "distance" not in found and 20 < found["length"] < 60


@pytest.mark.slow
def test_it_learns_to_fly():
    """The live setting, on a seed of its own: above 200 of 500 steps within 70,000 (untrained: about 40)."""
    torch.set_num_threads(1)
    logs = list(fly.Flier(fly.Config.fast(seed=100)).learn(70_000))
    assert logs[0]["length"] < 60
    assert max(log["length"] for log in logs if "length" in log) > 200


def test_a_saved_agent_flies_the_same(tmp_path):
    agent = fly.Flier(fly.Config(hidden=(16, 16)))
    checkpoint.save(agent, "learning_to_fly", 0, tmp_path / "a.safetensors")
    again = checkpoint.load(tmp_path / "a.safetensors")
    obs = np.random.default_rng(0).normal(size=(4, fly.O)).astype(np.float32)
    np.testing.assert_array_equal(agent.act(obs, True), again.act(obs, True))


@pytest.mark.parametrize(
    "field, message",
    [
        ({"gamma": 1.0}, "^gamma must lie"),
        ({"tau": 0.0}, "^tau must lie"),
        ({"warmup_critic": 10, "warmup_actor": 5}, "^the actor must not start before"),
        ({"n_envs": 0}, "^n_envs must be at least 1"),
        ({"steps_per_update": 0}, "^steps_per_update must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_named(field, message):
    with pytest.raises(ValueError, match=message):
        fly.Config(**field)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps must be at least 1"):
        next(fly.Flier(fly.Config()).learn(0))


# ------------------------------------------------------------------------------------------ the geometric controller


def at_rest(N=1):
    x = np.zeros((23, N))
    x[3], x[13:17] = 1, qr.hover_rpm()
    return x


def test_at_the_target_it_asks_for_hover():
    np.testing.assert_allclose(geo.geometric(at_rest(3), np.zeros(9)), qr.HOVER, atol=1e-12)


def test_small_errors_are_answered_by_the_linear_law():
    """Without lead and near hover: thrust and torques are those of the gains, through the inverse of the mixer."""
    x, gains = at_rest(), geo.Gains(lead=1.0)
    x[10:13, 0] = [0.01, -0.02, 0.03]
    x[4, 0] = 0.5 * 0.002  # a roll by 0.002 rad
    params = qr.Params()
    action = geo.geometric(x, np.zeros(9), params, gains)[0]
    wrench = qr.mixer() @ (params.k_f * qr.to_rpm(action) ** 2)
    J = np.array(params.inertia)
    assert wrench[0] == pytest.approx(0.027 * 9.81, rel=1e-4)
    want = J * (-gains.attitude * np.array([0.002, 0, 0]) - gains.rate * x[10:13, 0])
    np.testing.assert_allclose(wrench[1:], want, rtol=2e-3, atol=1e-11)


def test_it_needs_its_lead_where_motors_are_slow():
    """100 starts: without lag it survives nearly all; with lag hardly any without lead, most with it."""
    naive = geo.Gains(lead=1.0)
    assert geo.hover(100, naive, params=qr.Params(lag=0.0))["length"] > 420
    assert geo.hover(100, naive)["length"] < 220
    assert geo.hover(100)["length"] > 300


def test_it_tracks_a_figure_of_eight():
    found = geo.track(lambda obs, x, target: geo.geometric(x, target), seconds=8, copies=10)
    assert found["position"].shape == (800, 3, 10) and np.sqrt((found["error"] ** 2).mean()) < 0.25
    t = np.linspace(0, 8, 50)
    path, h = geo.lissajous(t), 1e-5
    np.testing.assert_allclose((geo.lissajous(t + h)[:6] - geo.lissajous(t - h)[:6]) / (2 * h), path[3:], atol=1e-6)


# ----------------------------------------------------------------------------------------------------- wrong answers

WRONG = {
    "quat_derivative": {
        "product from the left: body rates taken as world rates": """
def quat_derivative(q, omega):
    (w, x, y, z), (p, r, s) = q.T, omega.T
    rate = [-x * p - y * r - z * s, w * p - y * s + z * r, w * r - z * p + x * s, w * s - x * r + y * p]
    return 0.5 * np.stack(rate, axis=1)
""",
        "numbers in the order x, y, z, w": """
def quat_derivative(q, omega):
    (x, y, z, w), (p, r, s) = q.T, omega.T
    rate = [w * p + y * s - z * r, w * r + z * p - x * s, w * s + x * r - y * p, -x * p - y * r - z * s]
    return 0.5 * np.stack(rate, axis=1)
""",
        "without the half": """
def quat_derivative(q, omega):
    (w, x, y, z), (p, r, s) = q.T, omega.T
    rate = [-x * p - y * r - z * s, w * p + y * s - z * r, w * r + z * p - x * s, w * s + x * r - y * p]
    return np.stack(rate, axis=1)
""",
        "normalises q": """
def quat_derivative(q, omega):
    (w, x, y, z), (p, r, s) = (q / np.linalg.norm(q, axis=1, keepdims=True)).T, omega.T
    rate = [-x * p - y * r - z * s, w * p + y * s - z * r, w * r + z * p - x * s, w * s + x * r - y * p]
    return 0.5 * np.stack(rate, axis=1)
""",
    },
    "rk4_step": {
        "Euler": """
def rk4_step(f, x, h, rpm_max):
    new = x + h * f(x)
    new[3:7] /= np.linalg.norm(new[3:7])
    new[13:17] = new[13:17].clip(0, rpm_max)
    return new
""",
        "midpoint": """
def rk4_step(f, x, h, rpm_max):
    new = x + h * f(x + h / 2 * f(x))
    new[3:7] /= np.linalg.norm(new[3:7])
    new[13:17] = new[13:17].clip(0, rpm_max)
    return new
""",
        "normalises inside the stages": """
def rk4_step(f, x, h, rpm_max):
    def unit(y):
        y = y.copy()
        y[3:7] /= np.linalg.norm(y[3:7])
        return y

    k1 = f(x)
    k2 = f(unit(x + h / 2 * k1))
    k3 = f(unit(x + h / 2 * k2))
    k4 = f(unit(x + h * k3))
    new = unit(x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    new[13:17] = new[13:17].clip(0, rpm_max)
    return new
""",
        "does not normalise": """
def rk4_step(f, x, h, rpm_max):
    k1 = f(x)
    k2 = f(x + h / 2 * k1)
    k3 = f(x + h / 2 * k2)
    k4 = f(x + h * k3)
    new = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    new[13:17] = new[13:17].clip(0, rpm_max)
    return new
""",
        "does not clip": """
def rk4_step(f, x, h, rpm_max):
    k1 = f(x)
    k2 = f(x + h / 2 * k1)
    k3 = f(x + h / 2 * k2)
    k4 = f(x + h * k3)
    new = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    new[3:7] /= np.linalg.norm(new[3:7])
    return new
""",
        "equal weights": """
def rk4_step(f, x, h, rpm_max):
    k1 = f(x)
    k2 = f(x + h / 2 * k1)
    k3 = f(x + h / 2 * k2)
    k4 = f(x + h * k3)
    new = x + h / 4 * (k1 + k2 + k3 + k4)
    new[3:7] /= np.linalg.norm(new[3:7])
    new[13:17] = new[13:17].clip(0, rpm_max)
    return new
""",
    },
    "mixer": {
        "thrust linear in the speed": """
def mixer(x, y, spin, k_f, kappa, m, g, rpm_max):
    A = np.array([np.ones(4), y, -x, kappa * spin])
    thrusts = np.linalg.solve(A, [m * g, 0, 0, 0])
    top = k_f * rpm_max**2
    return A, 2 * thrusts / top - 1
""",
        "sign about y": """
def mixer(x, y, spin, k_f, kappa, m, g, rpm_max):
    A = np.array([np.ones(4), y, x, kappa * spin])
    thrusts = np.linalg.solve(A, [m * g, 0, 0, 0])
    return A, 2 * np.sqrt(thrusts / k_f) / rpm_max - 1
""",
        "a quarter of the weight for each rotor": """
def mixer(x, y, spin, k_f, kappa, m, g, rpm_max):
    A = np.array([np.ones(4), y, -x, kappa * spin])
    return A, np.full(4, 2 * np.sqrt(m * g / (4 * k_f)) / rpm_max - 1)
""",
        "speeds between 0 and 1": """
def mixer(x, y, spin, k_f, kappa, m, g, rpm_max):
    A = np.array([np.ones(4), y, -x, kappa * spin])
    thrusts = np.linalg.solve(A, [m * g, 0, 0, 0])
    return A, np.sqrt(thrusts / k_f) / rpm_max
""",
    },
    "td3_target": {
        "bootstraps through termination": """
def td3_target(reward, terminated, next_obs, next_state, actor, critics, noise, noise_clip, gamma):
    with torch.no_grad():
        action = (actor(next_obs) + noise.clamp(-noise_clip, noise_clip)).clamp(-1, 1)
        return reward + gamma * critics(next_state, action).min(dim=0).values
""",
        "does not clip the noise": """
def td3_target(reward, terminated, next_obs, next_state, actor, critics, noise, noise_clip, gamma):
    with torch.no_grad():
        action = (actor(next_obs) + noise).clamp(-1, 1)
        return reward + gamma * (1 - terminated) * critics(next_state, action).min(dim=0).values
""",
        "does not clip the action": """
def td3_target(reward, terminated, next_obs, next_state, actor, critics, noise, noise_clip, gamma):
    with torch.no_grad():
        action = actor(next_obs) + noise.clamp(-noise_clip, noise_clip)
        return reward + gamma * (1 - terminated) * critics(next_state, action).min(dim=0).values
""",
        "gives the actor the privileged state": """
def td3_target(reward, terminated, next_obs, next_state, actor, critics, noise, noise_clip, gamma):
    with torch.no_grad():
        action = (actor(next_state) + noise.clamp(-noise_clip, noise_clip)).clamp(-1, 1)
        return reward + gamma * (1 - terminated) * critics(next_state, action).min(dim=0).values
""",
        "one critic for the whole batch": """
def td3_target(reward, terminated, next_obs, next_state, actor, critics, noise, noise_clip, gamma):
    with torch.no_grad():
        action = (actor(next_obs) + noise.clamp(-noise_clip, noise_clip)).clamp(-1, 1)
        q = critics(next_state, action)
        return reward + gamma * (1 - terminated) * q[int(q.mean(dim=1).argmin())]
""",
        "lets the gradient through": """
def td3_target(reward, terminated, next_obs, next_state, actor, critics, noise, noise_clip, gamma):
    action = (actor(next_obs) + noise.clamp(-noise_clip, noise_clip)).clamp(-1, 1)
    return reward + gamma * (1 - terminated) * critics(next_state, action).min(dim=0).values
""",
    },
    "recompute_rewards": {
        "of the next state": """
def recompute_rewards(buffer, weights, hover):
    w_p, w_q, w_v, w_a = weights
    state, action = buffer["next_state"], buffer["action"]
    trace = state[:, 3] + state[:, 7] + state[:, 11]
    cost = w_p * (state[:, :3] ** 2).sum(1) + w_q * (3 - trace) / 4
    cost = cost + w_v * (state[:, 12:15] ** 2).sum(1) + w_a * ((action - hover) ** 2).sum(1)
    return (2 - 0.5 * cost) * (1 - buffer["terminated"])
""",
        "pays the step that leaves the box": """
def recompute_rewards(buffer, weights, hover):
    w_p, w_q, w_v, w_a = weights
    state, action = buffer["state"], buffer["action"]
    trace = state[:, 3] + state[:, 7] + state[:, 11]
    cost = w_p * (state[:, :3] ** 2).sum(1) + w_q * (3 - trace) / 4
    cost = cost + w_v * (state[:, 12:15] ** 2).sum(1) + w_a * ((action - hover) ** 2).sum(1)
    return 2 - 0.5 * cost
""",
        "action against 0": """
def recompute_rewards(buffer, weights, hover):
    w_p, w_q, w_v, w_a = weights
    state, action = buffer["state"], buffer["action"]
    trace = state[:, 3] + state[:, 7] + state[:, 11]
    cost = w_p * (state[:, :3] ** 2).sum(1) + w_q * (3 - trace) / 4
    cost = cost + w_v * (state[:, 12:15] ** 2).sum(1) + w_a * (action**2).sum(1)
    return (2 - 0.5 * cost) * (1 - buffer["terminated"])
""",
        "1 - cos of the angle instead of its half": """
def recompute_rewards(buffer, weights, hover):
    w_p, w_q, w_v, w_a = weights
    state, action = buffer["state"], buffer["action"]
    trace = state[:, 3] + state[:, 7] + state[:, 11]
    cost = w_p * (state[:, :3] ** 2).sum(1) + w_q * (3 - trace) / 2
    cost = cost + w_v * (state[:, 12:15] ** 2).sum(1) + w_a * ((action - hover) ** 2).sum(1)
    return (2 - 0.5 * cost) * (1 - buffer["terminated"])
""",
        "scales the old reward": """
def recompute_rewards(buffer, weights, hover):
    return buffer["reward"] * sum(weights) / 10.02
""",
    },
}
