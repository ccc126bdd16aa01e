"""The reproduction of DSAC-T: which arms run on which seeds, what they measure, and what that says about the claims.

Five groups of arms, about 20 minutes of one core in all:
  authors    the authors' own Pendulum configuration, beside the run they ship (2 seeds, 4 minutes each)
  agent *    small agents on Pendulum: DSAC-T, DSAC-v1, SAC (5 seeds), DSAC-T without one refinement (3 seeds)
  critic *   the critic alone, for a fixed policy, at three reward scales (3 seeds)
  ring       the five-state ring with its exact truth (5 seeds)
Not run for lack of time: TD3, InvertedDoublePendulum and the full agent at other reward scales. 8 000 steps are few;
claims about the final return of the small agents are claims about this budget.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import bootstrap, spearmanr
from torch import Tensor

from minirl.control import dsac_t, sac
from minirl.control import dsac_t_tabular as tabular
from minirl.control.dsac_t import DSACT
from minirl.core.nets import polyak
from minirl.core.replay import Batch
from minirl.core.seeding import torch_generator
from minirl.reproduce import claim, interval, metric

SOURCES = (
    "minirl/control/dsac_t.py",
    "minirl/control/dsac_t_tabular.py",
    "minirl/control/sac.py",
    "minirl/core/evaluate.py",
    "minirl/core/nets.py",
    "minirl/core/replay.py",
    "minirl/core/rollout.py",
    "minirl/core/seeding.py",
    "minirl/experiments/dsac_t.py",
)

# The run that the authors ship with their code: Pendulum-v1, one seed, 5 evaluation episodes a point.
REFERENCE_RETURN = (
    (0, -1476), (1000, -1246), (2200, -1299), (3400, -1180), (4600, -873), (5800, -441), (7000, -209), (8200, -170),
    (9400, -146), (10600, -168), (11800, -163),
)  # fmt: skip
REFERENCE_ITERATIONS = (100, 2800, 5800, 8800, 11800)
REFERENCE_ALPHA = (2.68, 1.79, 1.17, 0.79, 0.54)
REFERENCE_SIGMA = (2.41, 1.51, 1.67, 2.25, 3.25)

SMALL = {"hidden": (64, 64), "lr": 1e-3, "alpha_lr": 1e-3, "batch_size": 128, "warmup": 500, "eval_every": 1_000}
SMALL_DSAC = SMALL | {"alpha_init": 1.0, "num_envs": 1}
STEPS = 8_000
ROLLOUTS, HORIZON = 20, 300  # of a Monte Carlo return of an agent; what lies beyond counts 0.99^300 = 0.05
ABLATIONS = {
    "agent T without R1": {"expected_value": False},
    "agent T without R2": {"twin": False},
    "agent T without adaptive bound": {"adaptive_bound": False},
    "agent T without omega": {"omega": False},
}
CRITICS = {
    "critic T": {},
    "critic v1": {"expected_value": False, "twin": False, "adaptive_bound": False, "omega": False},
    "critic T without adaptive bound": {"adaptive_bound": False},
    "critic T without omega": {"omega": False},
}
SCALES = (0.1, 1.0, 10.0)
CRITIC_UPDATES = 4_000
RING_SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
RING_ARMS = {  # the attribution table: one part switched at c = 10
    "v1": tabular.Arm.v1(10.0),
    "v1 + expected value": tabular.Arm.v1(10.0, expected_value=True),
    "v1 + adaptive bound": tabular.Arm.v1(10.0, adaptive_bound=True),
    "v1 + omega": tabular.Arm.v1(10.0, omega=True),
    "T without expected value": tabular.Arm(10.0, expected_value=False),
    "T without adaptive bound": tabular.Arm(10.0, adaptive_bound=False),
    "T without omega": tabular.Arm(10.0, omega=False),
    "T": tabular.Arm(10.0),
}
ITERATIONS = 12_000  # of the authors' configuration


def plan(seeds: int = 5) -> list[tuple[str, int]]:
    """All (arm, seed), the longest runs first."""
    runs = [("authors", s) for s in range(min(seeds, 2))]
    runs += [(arm, s) for s in range(seeds) for arm in ("agent T", "agent v1", "agent SAC")]
    runs += [(arm, s) for s in range(min(seeds, 3)) for arm in (*ABLATIONS, *CRITICS)]
    return runs + [("ring", s) for s in range(seeds)]


def run(arm: str, seed: int) -> dict:
    """One run: {"curves": {name: [[x, y], ...]}, "metrics": {name: number}}; a pure function of its arguments."""
    if arm == "authors":
        return run_authors(seed)
    if arm == "ring":
        return run_ring(seed)
    if arm in CRITICS:
        return run_critic(CRITICS[arm], seed)
    if arm == "agent SAC":
        return run_agent(sac.SAC(sac.Config(**SMALL, seed=seed)), seed)
    if arm == "agent v1":
        return run_agent(DSACT(dsac_t.Config.v1(**SMALL_DSAC, seed=seed)), seed)
    if arm == "agent T":
        return run_agent(DSACT(dsac_t.Config(**SMALL_DSAC, seed=seed)), seed)
    if arm in ABLATIONS:
        return run_agent(DSACT(dsac_t.Config(**SMALL_DSAC, **ABLATIONS[arm], seed=seed)), seed)
    raise ValueError(f"unknown arm {arm!r}; known: {', '.join(dict.fromkeys(a for a, _ in plan()))}")


# ------------------------------------------------------------------------------- Pendulum, many copies in one array


def pendulum_step(angle: np.ndarray, speed: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, ...]:
    """Gymnasium's Pendulum-v1 on arrays: angle (rad, 0 = up), speed (rad/s), action in [-1, 1]; adds the reward."""
    torque = 2 * np.clip(action, -1, 1)
    wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
    reward = -(wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = np.clip(speed + (15 * np.sin(angle) + 3 * torque) * 0.05, -8, 8)
    return angle + 0.05 * speed, speed, reward


def observe(angle: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """(..., 3): cos, sin, speed."""
    return np.stack([np.cos(angle), np.sin(angle), speed], axis=-1)


Policy = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # obs (M, 3) -> action (M,), log-density (M,)


def soft_returns(
    obs: np.ndarray, action: np.ndarray, policy: Policy, alpha: float, rollouts: int, horizon: int, gamma: float = 0.99
) -> np.ndarray:
    """Discounted soft returns (P, rollouts) after taking action (P,) at obs (P, 3) and following `policy`.

    The reward of step t counts gamma^t, and from t = 1 on so does -alpha log pi. `horizon` steps are summed.
    """
    obs, action = np.repeat(obs, rollouts, axis=0), np.repeat(action, rollouts)
    angle, speed = np.arctan2(obs[:, 1], obs[:, 0]).astype(float), obs[:, 2].astype(float)
    total = np.zeros(len(angle))
    for t in range(horizon):
        if t > 0:
            action, logp = policy(observe(angle, speed))
            total -= gamma**t * alpha * logp
        angle, speed, reward = pendulum_step(angle, speed, action)
        total += gamma**t * reward
    return total.reshape(-1, rollouts)


# ------------------------------------------------------------------------------------------------------ agents


def agent_policy(agent) -> Policy:
    """The agent's sampling policy and its own log-density (DSAC-T: of the torque, SAC: of the action in [-1, 1])."""

    @torch.no_grad()
    def policy(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        obs = torch.as_tensor(obs, dtype=torch.float32)
        action, logp = agent.sample(agent.actor, obs) if isinstance(agent, DSACT) else agent.sample(obs)
        return action[:, 0].numpy().astype(float), logp.numpy().astype(float)

    return policy


@torch.no_grad()
def believed(agent, obs: Tensor, action: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Q (B,) as the actor's loss believes it, the smaller of the twins, and its sigma (B,) (zeros for SAC)."""
    if isinstance(agent, DSACT):
        q, sigma = agent.critic(obs, action)
    else:
        q = agent.q_values(agent.critic, obs, action)
        sigma = torch.zeros_like(q)
    j = q.argmin(dim=0, keepdim=True)
    return q.gather(0, j)[0].numpy(), sigma.gather(0, j)[0].numpy()


def visited(rows: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n of the rows (M, 3 + 1 + ...), drawn without replacement: obs (n, 3), action (n, 1)."""
    rows = rows[torch.randperm(len(rows), generator=torch_generator(seed, 9))[:n]]
    return rows[:, :3], rows[:, 3:4]


def value_bias(agent, seed: int) -> np.ndarray:
    """Q minus the soft return of the agent's own policy at 200 pairs that it visits in 50 fresh episodes: (200,).

    A return is the mean of 5 rollouts. The agent's random stream is put back, so that looking does not change training.
    """
    state = agent.noise.get_state()
    rng, policy = np.random.default_rng([seed, 3]), agent_policy(agent)
    angle, speed = rng.uniform(-np.pi, np.pi, 50), rng.uniform(-1, 1, 50)
    rows = []
    for _ in range(200):
        obs = observe(angle, speed)
        action, _ = policy(obs)
        rows.append(np.column_stack([obs, action]))
        angle, speed, _ = pendulum_step(angle, speed, action)
    obs, action = visited(torch.tensor(np.concatenate(rows), dtype=torch.float32), 200, seed)
    alpha = float(agent.log_alpha.detach().exp())
    truth = soft_returns(obs.numpy(), action[:, 0].numpy(), policy, alpha, 5, HORIZON).mean(axis=1)
    agent.noise.set_state(state)
    return believed(agent, obs, action)[0] - truth


def sigma_ranks(agent: DSACT, seed: int) -> dict[str, float]:
    """Spearman correlation of sigma with the sd of 20 soft returns (300 steps) over 50 stored pairs, and interval."""
    obs, action = visited(agent.buffer.rows, 50, seed)
    alpha = float(agent.log_alpha.detach().exp())
    returns = soft_returns(obs.numpy(), action[:, 0].numpy(), agent_policy(agent), alpha, ROLLOUTS, HORIZON)
    pairs = believed(agent, obs, action)[1], returns.std(axis=1, ddof=1)

    def correlation(a, b):
        return spearmanr(a, b).statistic

    ci = bootstrap(
        pairs, correlation, paired=True, vectorized=False, n_resamples=1_000, method="percentile", rng=seed
    ).confidence_interval
    ranks = {"rank correlation": correlation(*pairs), "rank low": ci.low, "rank high": ci.high}
    return ranks | {"sigma": pairs[0].mean(), "return sd": pairs[1].mean()}


def run_agent(agent, seed: int) -> dict:
    """A small agent for 8 000 steps. "final return" and the biases are means over the last three evaluations.

    Three, because single evaluations relapse: for a while the pole whirls round from some starts, and Q does not know.
    Such starts weigh heavily in the mean bias; the median over pairs is stored beside it.
    """
    curves: dict[str, list] = {"bias": [], "median bias": [], "rmse": []}
    for log in agent.learn(STEPS):
        for key in ("return", "alpha", "q", "sigma", "td_error"):
            if key in log and log["step"] % 500 == 0:
                curves.setdefault(key, []).append([log["step"], log[key]])
        if "return" in log:
            error = value_bias(agent, seed)
            for key, x in (
                ("bias", error.mean()),
                ("median bias", np.median(error)),
                ("rmse", (error**2).mean() ** 0.5),
            ):
                curves[key].append([log["step"], float(x)])
    last = {"final return": "return", "bias": "bias", "median bias": "median bias", "rmse": "rmse"}
    metrics = {name: np.mean([y for _, y in curves[key][-3:]]) for name, key in last.items()}
    if isinstance(agent, DSACT):
        metrics |= sigma_ranks(agent, seed)
    return {"curves": curves, "metrics": {name: float(value) for name, value in metrics.items()}}


def run_authors(seed: int) -> dict:
    """The authors' configuration unchanged but for 20 parallel environments; x of the curves counts iterations."""
    config = dsac_t.Config(eval_every=10_000, seed=seed)  # an evaluation every 500 iterations
    agent = DSACT(config)
    curves: dict[str, list] = {}
    for log in agent.learn(config.warmup + config.num_envs * ITERATIONS):
        iteration = (log["step"] - config.warmup) / config.num_envs
        for key in ("return", "alpha", "q", "sigma"):
            if key in log and iteration % 500 == 0 and iteration >= 0:
                curves.setdefault(key, []).append([iteration, log[key]])
    late = [y for x, y in curves["return"] if 9_000 <= x <= 12_000]
    knee = [x for x, y in curves["return"] if y > -500]
    metrics = {"late return": np.mean(late), "knee": knee[0] if knee else ITERATIONS + 1} | sigma_ranks(agent, seed)
    return {"curves": curves, "metrics": {name: float(value) for name, value in metrics.items()}}


# -------------------------------------------------------------------------------- the critic of a fixed policy


def swing_up(obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Actions (M,) in [-1, 1]: pump energy, balance near the top; noise (M,) is standard normal, sd 0.3 of torque."""
    cos, sin, speed = obs[..., 0], obs[..., 1], obs[..., 2]
    missing = 5 - (speed**2 / 6 + 5 * cos)  # kinetic + potential energy, 5 at rest on top
    torque = np.where(missing * speed >= 0, 2.0, -2.0) * np.minimum(np.abs(missing), 1)
    torque = np.where((cos > 0.9) & (np.abs(speed) < 4), -(20 * np.arctan2(sin, cos) + 4 * speed), torque)
    return np.clip(torque.clip(-2, 2) + 0.3 * noise, -2, 2) / 2


def swing_up_data(seed: int, streams: int = 100, steps: int = 200) -> Batch:
    """streams x steps transitions of `swing_up` from Pendulum's own starts."""
    rng = np.random.default_rng([seed, 1])
    angle, speed = rng.uniform(-np.pi, np.pi, streams), rng.uniform(-1, 1, streams)
    rows = []
    for _ in range(steps):
        obs = observe(angle, speed)
        action = swing_up(obs, rng.standard_normal(streams))
        angle, speed, reward = pendulum_step(angle, speed, action)
        rows.append((obs, action[:, None], reward, observe(angle, speed), np.zeros(streams)))
    return Batch(*(torch.tensor(np.concatenate(column), dtype=torch.float32) for column in zip(*rows, strict=True)))


def run_critic(switches: dict, seed: int) -> dict:
    """Train the critic alone (alpha = 0, targets moved in every update) at three reward scales; 20 000 transitions."""
    data = swing_up_data(seed)
    obs, action = visited(torch.cat([data.obs, data.action], dim=1), 200, seed)
    rng = np.random.default_rng([seed, 2])

    def policy(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return swing_up(obs, rng.standard_normal(len(obs))), np.zeros(len(obs))

    returns = soft_returns(obs.numpy(), action[:, 0].numpy(), policy, alpha=0.0, rollouts=ROLLOUTS, horizon=600)
    truth = returns.mean(axis=1)
    metrics = {"return mean": truth.mean(), "return sd across pairs": truth.std(), "return sd": returns.std(1).mean()}
    no_entropy = torch.zeros(SMALL["batch_size"])
    for c in SCALES:
        agent = DSACT(dsac_t.Config(**SMALL_DSAC | {"alpha": 0.0, "reward_scale": c, "seed": seed}, **switches))
        for _ in range(CRITIC_UPDATES):
            index = torch.randint(len(data.obs), (SMALL["batch_size"],), generator=agent.replay)
            batch = Batch(*(column[index] for column in data))
            next_action = swing_up(batch.next_obs.numpy(), rng.standard_normal(len(index)))
            next_action = torch.tensor(next_action[:, None], dtype=torch.float32)
            agent.critic_backward(batch, next_action, no_entropy, 0.0)
            agent.critic_optimiser.step()
            polyak(agent.target_critic, agent.critic, agent.config.tau)
        q, sigma = believed(agent, obs, action)
        metrics[f"rmse c={c:g}"] = np.sqrt(((q / c - truth) ** 2).mean()) / truth.std()
        metrics[f"sigma c={c:g}"] = sigma.mean() / c
    return {"curves": {}, "metrics": {name: float(value) for name, value in metrics.items()}}


# ------------------------------------------------------------------------------------------------------ the ring


def run_ring(seed: int) -> dict:
    """All tabular numbers of one seed; everything is divided by the reward scale c."""
    arms = {f"T c={c:g}": tabular.Arm(c) for c in RING_SCALES} | {f"v1 c={c:g}": tabular.Arm.v1(c) for c in RING_SCALES}
    arms |= {f"{name} (attribution)": arm for name, arm in RING_ARMS.items()}
    arms |= {"v1 c=100 sigma from 1": tabular.Arm.v1(100.0, sigma_init=1.0)}
    result = tabular.policy_evaluation(list(arms.values()), [seed])
    last, average, spread = result.rmse()[0], result.rmse(average=True)[0], tabular.truth()[1]
    metrics = {}
    for i, name in enumerate(arms):
        metrics |= {f"rmse {name}": last[i], f"averaged rmse {name}": average[i]}
        metrics[f"sigma {name}"] = result.sigma_average[0, i].mean() / spread.mean()

    exact = [tabular.Arm(c) for c in (1.0, 0.01, 100.0)] + [tabular.Arm.v1(c) for c in (1.0, 0.01, 100.0)]
    q = tabular.policy_evaluation(exact, [seed], eps=0.0).q[0]
    deviation = [np.abs(q[k] / q[base] - 1).max() for base, k in ((0, 1), (0, 2), (3, 4), (3, 5))]
    metrics |= {"equivariance T": max(deviation[:2]), "equivariance v1": min(deviation[2:])}

    t = list(arms).index("T c=1")
    ratio = tabular.reward_target_variance(result.q_average[0, t], result.sigma_average[0, t], seed)
    metrics |= {"variance ratio": ratio[0].mean(), "variance error": np.abs(ratio[0] / ratio[1] - 1).max()}
    return {"curves": {}, "metrics": {name: float(value) for name, value in metrics.items()}}


# ---------------------------------------------------------------------------------------------------- the claims


def judge(id: str, text: str, paper: str, ours: str, x: np.ndarray, holds: bool | None, comment: str) -> dict:
    """One row of the table. `x` are the numbers of the seeds; `holds` None means that it cannot be shown here."""
    verdict = "cannot be shown here" if holds is None else holds
    return claim(id, text, paper, ours, verdict, x.mean() if len(x) else None, interval(x), len(x), comment)


def listed(x: np.ndarray, digits: int = 0) -> str:
    return ", ".join(f"{v:.{digits}f}" for v in x)


def claims(runs: list[dict]) -> list[dict]:
    """The table of verdicts, a pure function of the stored runs."""

    def get(arm, name):
        return metric(runs, arm, name)

    late, knee = get("authors", "late return"), get("authors", "knee")
    rank, low, high = (get("authors", name) for name in ("rank correlation", "rank low", "rank high"))
    table = [
        judge(
            "C1", "The authors' configuration solves Pendulum: mean evaluation return above -250 late in training",
            "-146 to -168 (authors' shipped run, 1 seed, iterations 9 400 to 11 800)",
            f"{listed(late)} over iterations 9 000 to 12 000", late, bool((late > -250).all()),
            "Every seed must pass. 20 parallel environments instead of 20 steps in a row; all else unchanged.",
        ),
        judge(
            "C2", "Its return passes -500 between iterations 3 000 and 9 000",
            "about 5 800 (authors' shipped run, 1 seed)",
            f"first evaluation above -500 at {listed(knee)}", knee, bool(((knee >= 3_000) & (knee <= 9_000)).all()),
            "We evaluate every 500 iterations.",
        ),
        judge(
            "C3", "sigma ranks state-action pairs as the spread of their soft returns does (correlation above 0.3)",
            "no number given",
            "rank correlation "
            + "; ".join(f"{r:.2f} [{a:.2f}, {b:.2f}]" for r, a, b in zip(rank, low, high, strict=True)),
            rank, bool((rank > 0.3).all()),
            "Agents of C1, 50 stored pairs, 20 rollouts of 300 steps each; brackets: bootstrap over the pairs.",
        ),
    ]  # fmt: skip

    t, v1 = get("ring", "equivariance T"), get("ring", "equivariance v1")
    table.append(
        judge(
            "C4", "The critic does not depend on the scale of the rewards (exactly, for SGD, tables and epsilon = 0)",
            "robust to reward scale (abstract, no number)",
            f"largest relative deviation of Q(c)/c from Q(1): DSAC-T {t.max():.0e}, DSAC-v1 {v1.min():.0e}",
            t, bool((t < 1e-6).all() and (v1 > 10e-6).all()),
            "c = 0.01 and 100 against 1, ring, same noise. Networks, epsilon and Adam all break exactness.",
        )
    )  # fmt: skip
    t, v1 = get("ring", "sigma T c=10"), get("ring", "sigma v1 c=10")
    table.append(
        judge(
            "C5", "A fixed clip bound ruins sigma when rewards are scaled by 10; the adaptive bound keeps it true",
            "v1 needs its rewards scaled for each task (abstract, no number)",
            f"sigma over the true sd: DSAC-v1 {listed(v1, 3)}; DSAC-T {listed(t, 2)}",
            v1, bool((v1 <= 0.2).all() and (np.abs(t - 1) <= 0.25).all()),
            "Ring, SGD, average of the last 5 000 sweeps. The interval is that of DSAC-v1.",
        )
    )  # fmt: skip
    error, ratio = get("ring", "variance error"), get("ring", "variance ratio")
    table.append(
        judge(
            "C6", "R1 removes exactly the variance that the law of total variance predicts (within 5 %)",
            "less random gradients (abstract, no number)",
            f"Var(y_z)/Var(y_q) = {ratio.mean():.2f}; largest deviation from the prediction {100 * error.max():.1f} %",
            ratio, bool((error < 0.05).all()), "Ring, at each of the five states, 20 000 draws.",
        )
    )  # fmt: skip

    t, v1, soft = (get(f"agent {name}", "bias") for name in ("T", "v1", "SAC"))
    wins = int((v1 >= t).sum())
    median = {name: get(f"agent {name}", "median bias").mean() for name in ("v1", "T", "SAC")}
    table.append(
        judge(
            "C7", "The single critic of DSAC-v1 overestimates more than the twins of DSAC-T",
            "improved Q-value estimation accuracy (abstract, no number)",
            f"bias of Q: DSAC-v1 {listed(v1, 1)}; DSAC-T {listed(t, 1)}; SAC {listed(soft, 1)}",
            v1 - t, wins >= 4 if len(t) >= 5 else None,
            f"Pendulum, mean over 6, 7 and 8 thousand steps; {wins} of {len(t)} paired seeds, 4 of 5 needed. Interval: of the "
            f"difference. Medians over pairs: {', '.join(f'{name} {x:.1f}' for name, x in median.items())}; the means "
            "are ruled by moments when the pole whirls round and Q does not know.",
        )
    )  # fmt: skip
    t, soft = get("agent T", "final return"), get("agent SAC", "final return")
    table.append(
        judge(
            "C8", "DSAC-T matches SAC in return (not worse by more than 50, both above -300)",
            "matches or outperforms SAC in all tested tasks (abstract; no Pendulum number)",
            f"DSAC-T {t.mean():.0f}, SAC {soft.mean():.0f}", t - soft,
            bool(t.mean() >= soft.mean() - 50 and t.mean() > -300 and soft.mean() > -300),
            f"Mean of the evaluations at 6, 7 and 8 thousand steps; DSAC-T by seed {listed(t)}, SAC {listed(soft)}. "
            "The interval is that of the difference.",
        )
    )  # fmt: skip

    sigma = {name: get(name, "sigma c=10") for name in CRITICS}
    fold = np.minimum(
        sigma["critic T"] / sigma["critic v1"], sigma["critic T"] / sigma["critic T without adaptive bound"]
    )
    table.append(
        judge(
            "C9", "Networks and Adam: at c = 10 the fixed bound shrinks sigma at least threefold", "no number given",
            "sigma/c: " + ", ".join(f"{name.removeprefix('critic ')} {s.mean():.2f}" for name, s in sigma.items()),
            fold, bool((fold >= 3).all()) if len(fold) >= 3 else None,
            "Fixed swing-up policy, critic only. Value: DSAC-T over the larger of the two arms with a fixed bound.",
        )
    )  # fmt: skip
    rmse = {name: get(name, "rmse c=10") for name in CRITICS}
    ratio = rmse["critic v1"] / rmse["critic T"]
    table.append(
        judge(
            "C10", "Networks and Adam: at c = 10 the mean of DSAC-v1 is less accurate than DSAC-T's, by 20 % or more",
            "robust to reward scale (abstract, no number)",
            "RMSE of Q over the spread across pairs: "
            + ", ".join(f"{name.removeprefix('critic ')} {x.mean():.2f}" for name, x in rmse.items()),
            ratio, bool((ratio >= 1.2).all()) if len(ratio) >= 3 else None,
            "Under Adam the step does not depend on the size of the gradient. Value: error of v1 over that of T.",
        )
    )  # fmt: skip
    lost = {name: get(name, "final return") for name in ABLATIONS}
    n = min(len(x) for x in lost.values())
    loss = {name: t[:n] - x[:n] for name, x in lost.items()}
    table.append(
        judge(
            "C11", "Each refinement raises the return (leaving it out costs more than 50 in every paired seed)",
            "the three refinements overcome the limits of v1 (abstract, no number)",
            "cost of leaving out: "
            + ", ".join(f"{name.removeprefix('agent T without ')} {x.mean():.0f}" for name, x in loss.items()),
            np.mean(list(loss.values()), axis=0), all((x > 50).all() for x in loss.values()) if n >= 3 else None,
            "Pendulum, 8 000 steps, three seeds: the threshold must hold for all four parts. C5 and C9 show what they change.",
        )
    )  # fmt: skip
    table.append(
        judge(
            "C12", "Scores on MuJoCo tasks above SAC, TD3, DDPG, TRPO and PPO, and a real wheeled robot",
            "matches or outperforms all five (abstract)", "not run", np.array([]), None,
            "1.5 million iterations a task are days of two cores.",
        )
    )  # fmt: skip
    return table
