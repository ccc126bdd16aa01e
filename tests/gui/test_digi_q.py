"""Oracles of Digi-Q: enumeration, tabular worlds solved exactly, gradients, and a phone that must not be stepped."""

import itertools

import numpy as np
import pytest
import torch

from minirl.envs import miniwob, phone, phone_agents
from minirl.experiments import digi_q as experiment
from minirl.gui.digi_q import Config, DigiQ, Heads, advantages, best_of_n_pick, critic_loss, effect_labels, td_targets

WRONG = {
    "effect_labels": {
        "mean of the signed difference": """
def effect_labels(frames, next_frames, threshold):
    return ((next_frames.astype(float) - frames).mean(axis=(1, 2, 3)) > threshold).astype(float)
""",
        "bytes that wrap around": """
def effect_labels(frames, next_frames, threshold):
    return (((next_frames - frames) ** 2).mean(axis=(1, 2, 3)) > threshold).astype(float)
""",
        "sum instead of mean": """
def effect_labels(frames, next_frames, threshold):
    return (((next_frames.astype(float) - frames) ** 2).sum(axis=(1, 2, 3)) > threshold).astype(float)
""",
        "absolute difference": """
def effect_labels(frames, next_frames, threshold):
    return (np.abs(next_frames.astype(float) - frames).mean(axis=(1, 2, 3)) > threshold).astype(float)
""",
        "at least the threshold": """
def effect_labels(frames, next_frames, threshold):
    return (((next_frames.astype(float) - frames) ** 2).mean(axis=(1, 2, 3)) >= threshold).astype(float)
""",
    },
    "td_targets": {
        "crossed": """
def td_targets(r, d, vbar_next, qbar_sa, gamma):
    return qbar_sa.detach(), (r + gamma * (1 - d) * vbar_next).detach()
""",
        "goes on after the end": """
def td_targets(r, d, vbar_next, qbar_sa, gamma):
    return (r + gamma * vbar_next).detach(), qbar_sa.detach()
""",
        "smaller head for both": """
def td_targets(r, d, vbar_next, qbar_sa, gamma):
    low = vbar_next.min(dim=0).values.expand(2, -1)
    return (r + gamma * (1 - d) * low).detach(), qbar_sa.detach()
""",
        "gradient through the targets": """
def td_targets(r, d, vbar_next, qbar_sa, gamma):
    return r + gamma * (1 - d) * vbar_next, qbar_sa
""",
        "reward lost at the end": """
def td_targets(r, d, vbar_next, qbar_sa, gamma):
    return ((1 - d) * (r + gamma * vbar_next)).detach(), qbar_sa.detach()
""",
        "discounted reward": """
def td_targets(r, d, vbar_next, qbar_sa, gamma):
    return (gamma * (r + (1 - d) * vbar_next)).detach(), qbar_sa.detach()
""",
    },
    "best_of_n_pick": {
        "smaller of the twins": """
def best_of_n_pick(q, v, valid, theta):
    A = torch.where(valid, q.min(dim=0).values - v.min(dim=0).values[:, None], 0.0)
    best, index = A.max(dim=1)
    return index, (best > theta) & valid.gather(1, index[:, None])[:, 0]
""",
        "what cannot be said is imitated": """
def best_of_n_pick(q, v, valid, theta):
    A = torch.where(valid, q.max(dim=0).values - v.max(dim=0).values[:, None], 0.0)
    best, index = A.max(dim=1)
    return index, best > theta
""",
        "validity ignored": """
def best_of_n_pick(q, v, valid, theta):
    best, index = (q.max(dim=0).values - v.max(dim=0).values[:, None]).max(dim=1)
    return index, best > theta
""",
        "always imitated": """
def best_of_n_pick(q, v, valid, theta):
    A = torch.where(valid, q.max(dim=0).values - v.max(dim=0).values[:, None], 0.0)
    index = A.argmax(dim=1)
    return index, valid.gather(1, index[:, None])[:, 0]
""",
        "best value instead of best advantage": """
def best_of_n_pick(q, v, valid, theta):
    A = torch.where(valid, q.max(dim=0).values, 0.0)
    best, index = A.max(dim=1)
    return index, (best > theta) & valid.gather(1, index[:, None])[:, 0]
""",
        "at least theta": """
def best_of_n_pick(q, v, valid, theta):
    A = torch.where(valid, q.max(dim=0).values - v.max(dim=0).values[:, None], 0.0)
    best, index = A.max(dim=1)
    return index, (best >= theta) & valid.gather(1, index[:, None])[:, 0]
""",
        "advantage head by head": """
def best_of_n_pick(q, v, valid, theta):
    A = torch.where(valid, (q - v[:, :, None]).max(dim=0).values, 0.0)
    best, index = A.max(dim=1)
    return index, (best > theta) & valid.gather(1, index[:, None])[:, 0]
""",
    },
    "bon_distribution": {
        "p F^(n-1), not normalised": """
def bon_distribution(p, score, n):
    upto = (p[None] * (score[None] <= score[:, None])).sum(axis=1)
    return p * upto ** (n - 1)
""",
        "p F^(n-1), normalised": """
def bon_distribution(p, score, n):
    upto = (p[None] * (score[None] <= score[:, None])).sum(axis=1)
    w = p * upto ** (n - 1)
    return w / w.sum()
""",
        "ties shared evenly over actions": """
def bon_distribution(p, score, n):
    upto = (p[None] * (score[None] <= score[:, None])).sum(axis=1)
    below = (p[None] * (score[None] < score[:, None])).sum(axis=1)
    many = (score[None] == score[:, None]).sum(axis=1)
    return (upto**n - below**n) / many
""",
        "ties counted for each": """
def bon_distribution(p, score, n):
    upto = (p[None] * (score[None] <= score[:, None])).sum(axis=1)
    below = (p[None] * (score[None] < score[:, None])).sum(axis=1)
    return upto**n - below**n
""",
        "all mass on the best action": """
def bon_distribution(p, score, n):
    return p if n == 1 else (score == score[p > 0].max()) * p / p[score == score[p > 0].max()].sum()
""",
        "one draw too many": """
def bon_distribution(p, score, n):
    upto = (p[None] * (score[None] <= score[:, None])).sum(axis=1)
    below = (p[None] * (score[None] < score[:, None])).sum(axis=1)
    same = upto - below
    return np.divide(p, same, out=np.zeros(len(p)), where=same > 0) * (upto ** (n + 1) - below ** (n + 1))
""",
    },
    "mu_values": {
        "value of the best action": """
def mu_values(P, R, mu, gamma):
    V = np.zeros(len(R))
    for _ in range(5000):
        Q = R + gamma * P @ V
        V = Q.max(axis=1)
    return Q, V
""",
        "uniform policy": """
def mu_values(P, R, mu, gamma):
    V = np.zeros(len(R))
    for _ in range(5000):
        Q = R + gamma * P @ V
        V = Q.mean(axis=1)
    return Q, V
""",
        "too few iterations": """
def mu_values(P, R, mu, gamma):
    V = np.zeros(len(R))
    for _ in range(20):
        Q = R + gamma * P @ V
        V = (mu * Q).sum(axis=1)
    return Q, V
""",
        "Q of a greedy last step": """
def mu_values(P, R, mu, gamma):
    V = np.zeros(len(R))
    for _ in range(5000):
        Q = R + gamma * P @ V
        V = (mu * Q).sum(axis=1)
    return R + gamma * P @ Q.max(axis=1), V
""",
        "discount twice": """
def mu_values(P, R, mu, gamma):
    V = np.zeros(len(R))
    for _ in range(5000):
        Q = R + gamma * P @ V
        V = gamma * (mu * Q).sum(axis=1)
    return Q, V
""",
    },
}

T = torch.tensor


# ---- the pure functions against loops ----


def test_effect_labels_against_integers():
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 256, (2, 9, 6, 4, 3), dtype=np.uint8)
    after[0] = before[0]
    squares = [
        sum((int(q) - int(p)) ** 2 for p, q in zip(x.flat, y.flat, strict=True)) / 72
        for x, y in zip(before, after, strict=True)
    ]
    for threshold in (0.0, np.median(squares), max(squares) - 1):
        assert effect_labels(before, after, threshold).tolist() == [float(s > threshold) for s in squares]


def test_targets_and_loss():
    r, d = T([0.0, 1.0, 0.5]), T([0.0, 1.0, 0.0])
    vbar, qbar = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    y_q, y_v = td_targets(r, d, vbar, qbar, 0.9)
    assert not y_q.requires_grad and not y_v.requires_grad
    assert (
        torch.allclose(y_q[:, 0], 0.9 * vbar[:, 0]) and torch.equal(y_q[:, 1], T([1.0, 1.0])) and torch.equal(y_v, qbar)
    )
    q, v = torch.randn(2, 3), torch.randn(2, 3)
    by_hand = sum((q[i, b] - y_q[i, b]) ** 2 + (v[i, b] - y_v[i, b]) ** 2 for i in range(2) for b in range(3)) / 3
    assert torch.allclose(critic_loss(q, v, y_q, y_v), by_hand)


def test_the_pick_against_loops():
    rng = np.random.default_rng(1)
    for _ in range(50):
        B, N = rng.integers(1, 6), rng.integers(1, 6)
        q, v, valid = T(rng.normal(size=(2, B, N))), T(rng.normal(size=(2, B))), T(rng.random((B, N)) < 0.7)
        theta = float(rng.normal())
        index, imitate = best_of_n_pick(q, v, valid, theta)
        for b in range(B):
            A = [max(q[0, b, j], q[1, b, j]) - max(v[0, b], v[1, b]) if valid[b, j] else T(0.0) for j in range(N)]
            best = max(range(N), key=lambda j: A[j])
            assert bool(imitate[b]) == bool(A[best] > theta and valid[b, best])
            assert not imitate[b] or index[b] == best


def test_order_of_the_other_candidates_does_not_matter():
    rng = np.random.default_rng(2)
    q, v, valid = T(rng.normal(size=(2, 20, 6))), T(rng.normal(size=(2, 20))), torch.ones(20, 6, dtype=torch.bool)
    order = T([0, 3, 1, 5, 2, 4])
    index, imitate = best_of_n_pick(q, v, valid, 0.1)
    permuted, also = best_of_n_pick(q[:, :, order], v, valid, 0.1)
    assert torch.equal(order[permuted], index) and torch.equal(imitate, also)


def test_a_blind_feature_leaves_nothing_to_choose():
    """If f does not depend on the action, neither do Q and A."""
    heads = Heads(4, 8, (16,), torch.Generator().manual_seed(0))
    state = heads.state(torch.ones(1, 16, dtype=torch.long), T([3]), torch.randn(1, 4)).expand(5, -1)
    with torch.no_grad():
        q = heads.q(state, T([0, 7, 20, 33, 53]), torch.randn(1, 8).expand(5, -1))  # five taps
        A = advantages(q[:, None], heads.v(state[:1]))
    assert A.var() < 1e-12


# ---- tabular worlds: learned values against a linear solve ----


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_td_reaches_the_value_of_mu(gamma):
    """One-hot features and exact sweeps over a small world: the fixed point is Q of mu (with gamma = 0: the mean reward)."""
    rng = np.random.default_rng(3)
    S, K = 4, 3
    P = rng.dirichlet(np.ones(S), (S, K)) * 0.8  # in the other cases the episode ends
    R, mu = rng.normal(size=(S, K)), rng.dirichlet(np.ones(K), S)
    V = np.linalg.solve(np.eye(S) - gamma * np.einsum("sk,skt->st", mu, P), (mu * R).sum(1))
    Q = R + gamma * P @ V
    q, v = torch.zeros(2, S * K, requires_grad=True), torch.zeros(2, S, requires_grad=True)
    optimiser = torch.optim.Adam([q, v], 0.02)
    qbar, vbar = q.detach().clone(), v.detach().clone()
    # every (s, a, s' or end, a~) with its probability under a uniform (s, a): the loss is an exact expectation
    rows = [(s, a, t, b) for s in range(S) for a in range(K) for t in range(S + 1) for b in range(K)]
    s, a, t, b = (T(column) for column in zip(*rows, strict=True))
    whole = np.concatenate([P, 1 - P.sum(2, keepdims=True)], axis=2)
    weight = T(whole)[s, a, t] * T(mu)[s, b] / (S * K)
    ended = (t == S).float()
    for _ in range(3_000):
        y_q, y_v = td_targets(T(R)[s, a], ended, vbar[:, t.clamp_max(S - 1)], qbar[:, s * K + b], gamma)
        loss = (weight * ((q[:, s * K + a] - y_q) ** 2 + (v[:, s] - y_v) ** 2)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            qbar.lerp_(q, 0.1), vbar.lerp_(v, 0.1)
    assert np.abs(q.detach().numpy().reshape(2, S, K) - Q).max() < 1e-2
    assert np.abs(v.detach().numpy() - V).max() < 1e-2


def test_chance_of_a_target_grows_with_the_candidates():
    """Share of states with an imitated action: 1 - (1 - p)^N when the advantage of each of N draws exceeds theta with chance p."""
    rng = np.random.default_rng(4)
    for p, N in itertools.product((0.1, 0.4), (1, 4, 16)):
        good = T(rng.random((1, 20_000, N)) < p).double()
        _, imitate = best_of_n_pick(
            good.expand(2, -1, -1), torch.zeros(2, 20_000), torch.ones(20_000, N, dtype=torch.bool), 0.5
        )
        expected = 1 - (1 - p) ** N
        # five standard errors of 20,000 draws: fails by chance once in a million
        assert abs(imitate.double().mean() - expected) < 5 * (expected * (1 - expected) / 20_000) ** 0.5 + 1e-9


# ---- the agent, small, on a recording of the phone ----


@pytest.fixture(scope="module")
def recording():
    """24 episodes of the base agent."""
    actor = phone_agents.network_actor(phone_agents.base_agent())
    return phone_agents.roll_out(actor, phone_agents.goals_of("train", 24, 100), 100)


SMALL = {
    "pretrain_steps": 12,
    "effect_steps": 12,
    "actor_steps": 12,
    "batch_size": 32,
    "hidden": (32,),
    "n": 4,
    "seed": 100,
}


def test_no_step_of_the_environment_while_it_learns(recording, monkeypatch):
    calls = []
    for name in ("step", "reset"):
        real = getattr(phone.PhoneSim, name)
        monkeypatch.setattr(phone.PhoneSim, name, lambda self, *a, _r=real, **k: calls.append(1) or _r(self, *a, **k))
    agent = DigiQ(Config(**SMALL), recording)
    logs = list(agent.learn(30))
    assert logs[-1]["progress"] == 1.0 and logs[-1]["step"] == 12 + 12 + 30 + 12
    assert calls == []
    phone.PhoneSim().reset(seed=0)
    assert calls == [1], "the counter counts"


def test_same_seed_same_numbers(recording):
    first, second = (DigiQ(Config(**SMALL), recording) for _ in range(2))
    assert list(first.learn(20)) == list(second.learn(20))
    for x, y in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        assert torch.equal(x, y)


def test_data_as_the_heads_see_them(recording):
    """Frame stack, previous action and successor against a loop over the recording."""
    agent = DigiQ(Config(**SMALL), recording)
    rows = torch.arange(len(recording))
    heads = agent.heads
    now, after = agent.states(heads, rows).detach(), agent.states(heads, rows, after=True).detach()
    for i in range(len(recording)):
        start = recording.t[i] == 0
        words, before = T(recording.words[i : i + 1]), phone.ACTIONS if start else int(recording.action[i - 1])
        frames = [recording.frame[i] if start else recording.frame[i - 1], recording.frame[i], recording.next_frame[i]]
        a, b, c = (agent.mu.head.context(agent.cells[j : j + 1].float(), words) for j in frames)
        assert torch.allclose(now[i], heads.state(words, T([before]), torch.cat([a, b], 1))[0], atol=1e-5)
        action = T([int(recording.action[i])])
        assert torch.allclose(after[i], heads.state(words, action, torch.cat([b, c], 1))[0], atol=1e-5)
    same = torch.as_tensor(~recording.done)
    same[-1] = False
    assert torch.allclose(after[:-1][same[:-1]], now[1:][same[:-1]], atol=1e-5), "the successor is the next state"


def test_candidates_begin_with_the_logged_action_and_follow_mu(recording):
    agent = DigiQ(Config(**{**SMALL, "n": 64, "temperature": 1.2}), recording)
    assert torch.equal(agent.candidates[:, 0], torch.as_tensor(recording.action))
    logits = agent.mu(agent.frames[agent.frame], agent.words) / 1.2
    expected = logits.softmax(1).sum(0).detach()
    counts = torch.bincount(agent.candidates[:, 1:].flatten(), minlength=phone.ACTIONS) / 63
    # the sum over some 200 screens: within 5 standard errors everywhere
    error = (logits.softmax(1) * (1 - logits.softmax(1))).sum(0).detach().div(63).sqrt()
    assert ((counts - expected).abs() <= 5 * error + 0.1).all()


def test_one_candidate_and_no_threshold_is_cloning_the_recording(recording):
    agent = DigiQ(Config(**{**SMALL, "n": 1, "theta": -np.inf}), recording)
    list(agent.learn_features())
    agent.freeze_features()
    target, weight = agent.teach()
    sayable = agent.valid.gather(1, agent.action[:, None])[:, 0]
    assert torch.equal(target, agent.action) and torch.equal(weight, sayable.float())


def test_an_endless_threshold_teaches_nothing(recording):
    agent = DigiQ(Config(**{**SMALL, "theta": np.inf}), recording)
    before = [p.clone() for p in agent.policy.parameters()]
    list(agent.learn(5))
    assert all(torch.equal(x, y) for x, y in zip(before, agent.policy.parameters(), strict=True))


def test_who_is_trained_when(recording):
    """Features are frozen before values are learned, the targets move by Polyak steps only, the actor step leaves the critic alone."""
    config = Config(**SMALL)
    agent = DigiQ(config, recording)
    list(agent.learn_features())
    agent.freeze_features()
    features, critic = [p.clone() for p in agent.net.parameters()], torch.optim.Adam(agent.heads.parameters(), 1e-3)
    start = [p.clone() for p in agent.target_heads.parameters()]
    agent.update_critic(critic, sync=False)
    assert all(torch.equal(x, y) for x, y in zip(start, agent.target_heads.parameters(), strict=True))
    agent.update_critic(critic, sync=True)
    for old, new, online in zip(start, agent.target_heads.parameters(), agent.heads.parameters(), strict=True):
        assert torch.allclose(new, old + config.tau * (online - old), atol=1e-7)
    assert all(torch.equal(x, y) for x, y in zip(features, agent.net.parameters(), strict=True))
    assert all(p.grad is None for p in agent.target_heads.parameters())
    agent.heads.zero_grad()
    target, weight = agent.teach()
    agent.update_actor(torch.optim.Adam(agent.policy.parameters(), 1e-3), target, torch.ones_like(weight))
    assert all(p.grad is None for p in agent.heads.parameters()) and all(p.grad is None for p in agent.mu.parameters())


def test_filtered_cloning_and_weights(recording):
    success = torch.as_tensor(recording.success[recording.traj] > 0)
    _, weight = DigiQ(Config(**{**SMALL, "extraction": "filtered_bc"}), recording).teach()
    assert torch.equal(weight > 0, success) and success.any() and not success.all()
    agent = DigiQ(Config(**{**SMALL, "extraction": "awr", "weight_cap": 3.0}), recording)
    list(agent.learn_features())
    agent.freeze_features()
    q, v = agent.values()
    A = (q.max(0).values[:, 0] - v.max(0).values).clamp(0, 1)
    target, weight = agent.teach()
    assert torch.equal(target, agent.action) and torch.allclose(weight, (A / 0.05).exp().clamp(max=3.0))


@pytest.mark.parametrize(
    ("field", "value"),
    [("features", "vlm"), ("target", "gae"), ("backup", "max"), ("extraction", "ppo"), ("n", 0), ("theta", float("nan")),
     ("temperature", 0.0), ("gamma", 1.5), ("tau", 0.0), ("awr_beta", -1.0), ("batch_size", 0)],
)  # fmt: skip
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        Config(**{field: value})


def test_filtered_cloning_needs_a_success(recording):
    failed = recording.take(np.flatnonzero(recording.success == 0)[:4].tolist())
    with pytest.raises(ValueError, match="successful"):
        DigiQ(Config(extraction="filtered_bc"), failed)


def test_learn_needs_a_step(recording):
    with pytest.raises(ValueError, match="steps"):
        next(DigiQ(Config(**SMALL), recording).learn(0))


# --------------------------------------------------------------------------------------------------- in a real browser


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(miniwob.missing() is not None, reason=str(miniwob.missing()))
def test_a_trained_policy_logs_in_on_real_pages_and_the_base_agent_does_not():
    """30 logins of a script are cloned; the clone then meets ten pages it has not seen. Chance is far below one in ten."""
    env = miniwob.MiniWoB(experiment.TASK)
    try:
        rows = miniwob.play(env, experiment.script(0.0, 0), range(30))
        assert np.mean([row["success"] for row in rows if "lost" not in row]) >= 0.9
        trained = phone_agents.base_agent()
        for _ in phone_agents.clone(trained, miniwob.episodes(rows), 30, 32, 1e-3, 0):
            pass
        won = {}
        for name, policy in (("trained", trained), ("base", phone_agents.base_agent())):
            played = miniwob.play(env, phone_agents.network_actor(policy, 0.0), range(500, 510))
            won[name] = sum(row["success"] for row in played if "lost" not in row)
        assert won["trained"] >= 5 and won["base"] <= 1
    finally:
        env.close()
