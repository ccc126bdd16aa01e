"""The reproduction of A2PR: which arms run on which seeds, what they measure, and what that says about the claims.

  trap *       LineWorld with a trap beyond the recorded actions, where TD3 fails: A2PR, TD3+BC and PRDC over alpha, TD3,
               and A2PR with one part switched off at a time, at alpha = BEST and (three of them) at alpha = LARGE
  mixed *      LineWorld where 30 % of the recorded steps are good; TD3 solves it, so it is shown but proves nothing
  pendulum *   10 % expert, 90 % random actions (network seeds vary, the data set is the one that ships)
  expert *     expert data only: does the method do harm where there is nothing to filter?

A seed is the seed of the networks and, on the lines, of the data. The last policy counts. What was tried before, on seeds from
100 upwards only, and the thresholds that follow from it: see `claims`.
"""

from dataclasses import replace

import numpy as np
import torch

from minirl.data import OfflineData, load
from minirl.envs import lineworld
from minirl.offline import prdc
from minirl.offline.a2pr import A2PR, Config
from minirl.reproduce import claim, interval, metric

SOURCES = (
    "minirl/core/evaluate.py",
    "minirl/core/nets.py",
    "minirl/core/replay.py",
    "minirl/core/rollout.py",
    "minirl/core/seeding.py",
    "minirl/data/batches.py",
    "minirl/data/dataset.py",
    "minirl/data/recipes.py",
    "minirl/data/record.py",
    "minirl/data/sets/pendulum-expert-seed0.json",
    "minirl/data/sets/pendulum-random-expert-10-seed0.json",
    "minirl/envs/lineworld.py",
    "minirl/experiments/a2pr.py",
    "minirl/offline/a2pr.py",
    "minirl/offline/prdc.py",
)

QUIET = {"eval_every": 10**9, "eval_episodes": 1}  # success is measured here, from the same starts for everyone
TRAP = Config(dataset="lineworld-trap-20", gamma=0.7, tau=0.02, **QUIET)
MIXED = Config(dataset="lineworld-mixed-30", gamma=0.95, tau=0.02, alpha=2.5, **QUIET)
PENDULUM = Config(
    dataset="pendulum-random-expert-10", gamma=0.97, tau=0.01, vae_hidden=(128, 128), eval_every=1_000, eval_episodes=20
)
STEPS = {"trap": 1_000, "mixed": 2_000, "pendulum": 3_000, "expert": 3_000}  # updates
LINES = {"trap": lineworld.SHORT_TRAP, "mixed": lineworld.PLAIN}
ALPHAS = (0.1, 0.25, 0.5, 1.0, 2.5)
BEST, LARGE = 0.1, 0.5
OFF = {  # one part of A2PR switched off
    "VAE of all data": {"vae_data": "all"},
    "target always data": {"teacher": "data"},
    "target always VAE": {"teacher": "vae"},
    "gate always open": {"gate": "on"},
    "target not detached": {"detach_target": False},
}
IMITATE, FREE = {"teacher": "data", "gate": "on"}, {"gate": "off"}  # TD3+BC and TD3


def arms() -> dict[str, tuple[Config | prdc.Config, int | None]]:
    """Name -> settings, and the number of seeds it needs (None: as many as asked)."""
    found: dict[str, tuple[Config | prdc.Config, int | None]] = {}
    for alpha in ALPHAS:
        own = replace(TRAP, alpha=alpha)
        found[f"trap A2PR alpha={alpha:g}"] = own, None
        found[f"trap TD3+BC alpha={alpha:g}"] = replace(own, **IMITATE), None
        shared = {"dataset": TRAP.dataset, "gamma": TRAP.gamma, "tau": TRAP.tau, **QUIET}
        found[f"trap PRDC alpha={alpha:g}"] = prdc.Config(alpha=alpha, **shared), 3
    found["trap TD3"] = replace(TRAP, **FREE), None
    for alpha, parts in ((BEST, OFF), (LARGE, ("VAE of all data", "target always data", "gate always open"))):
        for part in parts:
            found[f"trap {part} alpha={alpha:g}"] = replace(TRAP, alpha=alpha, **OFF[part]), None
    variants = {"A2PR": {}, "TD3+BC": IMITATE, "TD3": FREE, "VAE of all data": OFF["VAE of all data"]}
    for name, switches in variants.items():
        found[f"mixed {name}"] = replace(MIXED, **switches), None
    for name in ("A2PR", "TD3+BC", "TD3"):
        found[f"pendulum {name}"] = replace(PENDULUM, **variants[name]), 3
    for name in ("A2PR", "TD3+BC"):
        found[f"expert {name}"] = replace(PENDULUM, dataset="pendulum-expert", **variants[name]), 3
    return found


ARMS = arms()


def plan(seeds: int = 5) -> list[tuple[str, int]]:
    """All (arm, seed), the longest runs first."""
    order = sorted(ARMS, key=lambda arm: -STEPS[arm.split()[0]])
    return [(arm, s) for arm in order for s in range(min(seeds, ARMS[arm][1] or seeds))]


def run(arm: str, seed: int) -> dict:
    """One run: {"curves": {name: [[updates, y], ...]}, "metrics": {name: number}}; a pure function of its arguments."""
    if arm not in ARMS:
        raise ValueError(f"unknown arm {arm!r}; known: {', '.join(ARMS)}")
    task, config = arm.split()[0], replace(ARMS[arm][0], seed=seed)
    if task in LINES:
        config = replace(config, data_seed=seed)
        return run_line(build(config), LINES[task], STEPS[task])
    return run_pendulum(build(config), STEPS[task])


def build(config: Config | prdc.Config) -> A2PR | prdc.PRDC:
    """The agent that these settings belong to."""
    return A2PR(config) if isinstance(config, Config) else prdc.PRDC(config)


def run_pendulum(agent: A2PR, steps: int) -> dict:
    """Train; "score" is the mean normalised score (0 random, 100 expert) of the last two evaluations."""
    curve = [[log["step"], round(log["score"], 2)] for log in agent.learn(steps) if "score" in log]
    return {"curves": {"score": curve}, "metrics": {"score": float(np.mean([y for _, y in curve[-2:]]))}}


def run_line(agent: A2PR | prdc.PRDC, line: lineworld.Line, steps: int) -> dict:
    """Train on a line and look at the policy ten times.

    Metrics: "success", share of 19 starts from which the goal is reached; "overestimation", mean over 500 data states of
    Q_1(s, pi(s)) less the return that the policy really gets from s; and for agents with a VAE that was trained "prior good" (see
    `prior_good`), "kept" and "right", the precision and the recall of the filter Q_1 > V as a detector of steps to the right.
    """
    curves: dict[str, list] = {"success": []}
    for log in agent.learn(steps):
        if log["step"] % (steps // 10) == 0:
            curves["success"].append([log["step"], float(lineworld.success(agent.act, line).mean())])
            for key in ("positive", "gate", "vae_teacher"):
                if key in log:
                    curves.setdefault(key, []).append([log["step"], round(log[key], 4)])
    metrics = {"success": curves["success"][-1][1], "overestimation": overestimation(agent, line)}
    if getattr(agent, "advises", False):
        good, passed = agent.data.actions[:, 0] > 0, data_advantage(agent) > 0
        metrics["prior good"] = prior_good(agent, line)
        metrics["kept"] = float((good & passed).sum() / max(passed.sum(), 1))
        metrics["right"] = float((good & passed).sum() / good.sum())
    return {"curves": curves, "metrics": metrics}


def prior_good(agent: A2PR, line: lineworld.Line) -> float:
    """Share of actions that the decoder draws from its prior, at 98 states, that step right without stalling."""
    action = agent.imagine(np.repeat(np.linspace(0.0, 9.7, 98, dtype=np.float32)[:, None], 20, axis=0))
    return float(((action > 0) & (action <= line.stall)).mean())


@torch.no_grad()
def data_advantage(agent: A2PR) -> np.ndarray:
    """Q_1(s, a) - V(s) (N,) of the recorded pairs, as the filter sees them."""
    obs, action = agent.buffer.rows[:, : agent.buffer.obs_dim], torch.as_tensor(agent.data.actions)
    return (agent.critic(obs, action)[0] - agent.value(obs)).numpy()


@torch.no_grad()
def overestimation(agent: A2PR | prdc.PRDC, line: lineworld.Line, n: int = 500) -> float:
    """Mean of Q_1(s, pi(s)) minus the discounted return of pi from s, over the first n states of the data."""
    obs = agent.buffer.rows[:n, :1]
    q = agent.critic(obs, agent.actor(obs))[0].numpy()
    return float((q - true_return(agent, line, agent.data.observations[:n, 0], agent.config.gamma)).mean())


def true_return(agent, line: lineworld.Line, state: np.ndarray, gamma: float, limit: int = 200) -> np.ndarray:
    """Discounted return (n,) of the deterministic policy from states (n,): gamma^(steps - 1), or 0 where it never arrives."""
    state, value, alive = state.astype(float), np.zeros(len(state)), np.ones(len(state), bool)
    for t in range(limit):
        after, reward, arrived = line.step(state, agent.act(state[:, None].astype(np.float32))[:, 0])
        value += alive * gamma**t * reward
        alive &= ~arrived
        state = np.where(alive, after, state)
        if not alive.any():
            break
    return value
