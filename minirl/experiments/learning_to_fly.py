"""Reproduction of "Learning to Fly in Seconds": the full run, five ablations, the setting of the live cell, tracking.

Every agent is evaluated in the full environment (slow motors, noise, wind) by the fixed target weights of the reward, whatever
it was trained with. Seeds are paired: seed 1 of an ablation has the first networks and starts of seed 1 of its base.
Ablations start from the fast setting and 80,000 steps, because the full run costs four times as much. So "no curriculum" compares the
mild first reward with the target reward; the tightenings come later than that and are part of the full run only.
Settings were tried on seeds from 100 upwards; the thresholds in `claims` were written before seeds 0 to 2 were run.
"""

from dataclasses import replace

import numpy as np

from minirl.reproduce import claim, interval, metric
from minirl.worlds import learning_to_fly as fly
from minirl.worlds import learning_to_fly_geometric as geometric

SOURCES = (
    "minirl/experiments/learning_to_fly.py",
    "minirl/worlds/learning_to_fly.py",
    "minirl/worlds/learning_to_fly_geometric.py",
    "minirl/envs/quadrotor.py",
    "minirl/core/nets.py",
    "minirl/core/rollout.py",
    "minirl/core/seeding.py",
)

LIVE_STEPS = 70_000  # of the live cell
# Configuration, steps, and the last part of them that is judged.
FULL = (fly.Config(eval_every=20_000), 300_000, 100_000)
FAST = (fly.Config.fast(), 80_000, 30_000)
ARMS = {  # arm -> (base, what is changed, seeds)
    "fast": (FAST, {}, 3),
    "paper": (FULL, {}, 3),
    "no history": (FAST, {"history": False}, 3),
    "no lag": (FAST, {"lag": False}, 3),
    "no curriculum": (FAST, {"curriculum": False}, 3),
    "symmetric critic": (FAST, {"privileged": False}, 3),
}
MEASURED = ("length", "return", "crashed", "distance")


def plan(seeds: int) -> list[tuple[str, int]]:
    """Every (arm, seed), the ones that matter most first."""
    runs = [(arm, seed) for seed in range(seeds) for arm in ARMS if seed < ARMS[arm][2]]
    return [("geometric", 0), *runs]


def run(arm: str, seed: int) -> dict:
    """Train one arm with one seed; curves over environment steps and the metrics that the claims use."""
    if arm == "geometric":
        return run_geometric()
    (config, steps, last), change, _ = ARMS[arm]
    agent = fly.Flier(replace(config, seed=seed, **change))
    logs = [log for log in agent.learn(steps) if "length" in log]
    curves = {name: [[log["step"], round(log[name], 4)] for log in logs if name in log] for name in MEASURED}
    metrics = {"steps": float(logs[-1]["step"])}
    late = [log for log in logs if log["step"] > steps - last]
    for name in MEASURED:
        found = [log[name] for log in late if name in log]
        metrics[name] = float(np.mean(found)) if found else None
    for goal in (300, 400):
        metrics[f"first {goal}"] = float(next((log["step"] for log in logs if log["length"] > goal), 2 * steps))
    act = lambda obs: agent.act(obs, deterministic=True)  # noqa: E731
    if arm == "no lag":
        at_home = fly.evaluate(act, 100, params=fly.Params(lag=0.0))
        metrics |= {f"{name} without lag": at_home[name] for name in ("length", "crashed")}
    if arm == "paper":
        found = geometric.track(lambda obs, x, target: act(obs.astype(np.float32)))
        metrics["tracking"] = tracking_error(found)
        curves["path"] = path(found)
    return {"curves": curves, "metrics": {name: value for name, value in metrics.items() if value is not None}}


def run_geometric() -> dict:
    """The geometric controller on the same starts and the same path; it needs no seed."""
    flown = geometric.hover(100)
    found = geometric.track(lambda obs, x, target: geometric.geometric(x, target))
    metrics = {**flown, "tracking": tracking_error(found)}
    return {"curves": {"path": path(found)}, "metrics": metrics}


def tracking_error(found: dict) -> float:
    """Root mean square distance from the target in m; who has lost it by more than 2 m counts as 2 m away."""
    return float(np.sqrt((found["error"].clip(max=2.0) ** 2).mean()))


def path(found: dict) -> list[list[float]]:
    """The first copy's way over the ground, every tenth step until it is lost: [x, y] in m."""
    lost = np.flatnonzero(found["error"][:, 0] > 2.0)
    return found["position"][: lost[0] if len(lost) else None : 10, :2, 0].round(3).tolist()


def claims(runs: list[dict]) -> list[dict]:
    """The claims table. Thresholds: written down after trying things on seeds >= 100, before seeds 0 to 2 were run."""

    def get(arm, name):
        return metric(runs, arm, name)

    length = get("paper", "length")
    distance = np.array([r["metrics"].get("distance", 1.0) for r in runs if r["arm"] == "paper"])  # 1.0: none survived
    cpu = np.array([r["cpu_s"] for r in runs if r["arm"] == "paper"])
    table = [
        claim(
            "C1", "A policy that keeps the drone in the box is learned within minutes on one core: episodes of 450 of 500 steps or more",
            "trains in 18 seconds on a laptop (abstract)",
            f"mean length {length.mean():.0f} in the last 100,000 of 300,000 steps; {int((length >= 450).sum())} of {len(length)} seeds reach "
            f"450; {cpu.mean():.0f} s of CPU",
            bool((length >= 450).sum() >= 0.75 * len(length)), length.mean(), interval(length), len(length),
            "Three quarters of the seeds needed. The 18 s belong to the authors' C++ and cannot be claimed here.",
        ),
        claim(
            "C2", "It hovers where it should: mean distance in the last second of surviving episodes 0.6 m or less",
            "no number used here", f"{distance.mean():.2f} m, largest of a seed {distance.max():.2f} m",
            bool(distance.max() <= 0.6), distance.mean(), interval(distance), len(distance),
            "A sanity check: 0.6 m is half the width of the box.",
        ),
    ]  # fmt: skip
    first, seconds = get("fast", "first 300"), np.array([r["cpu_s"] for r in runs if r["arm"] == "fast"])
    won = (first <= LIVE_STEPS) & (seconds <= 60)
    table.append(
        claim(
            "C3", "Faster settings fly within 70,000 steps and 60 s of CPU: an evaluation above 300 of 500 steps in 2 of 3 seeds",
            "not claimed in these words",
            f"{int(won.sum())} of {len(first)} seeds, first at "
            + ", ".join(f"{x:,.0f}" if x <= LIVE_STEPS else "never" for x in first)
            + f" steps; {FAST[1]:,} steps took {seconds.max():.0f} s at most",
            bool(won.sum() >= 2), first.mean(), None, len(first),
        )
    )  # fmt: skip

    def worse(id, statement, paper, arm, base, name="length", sign=1, note=""):
        """The ablation `arm` against its `base`: every seed must agree."""
        a, b = get(base, name), get(arm, name)
        n = min(len(a), len(b))
        gain, digits = sign * (a[:n] - b[:n]), 2 if name == "crashed" else 0
        return claim(
            id, statement, paper,
            f"{name} {b[:n].mean():.{digits}f} against {a[:n].mean():.{digits}f}; {int((gain > 0).sum())} of {n} seeds",
            bool((gain > 0).all()), gain.mean(), interval(gain), n, ("Every seed must agree. " + note).strip(),
        )  # fmt: skip

    table += [
        worse("C4", "Without its last actions the actor flies worse", "ablation: fails without action history (text)", "no history", "fast"),
        worse("C5", "Trained without motor lag it crashes more where motors are slow", "ablation: fails without rotor delay (text)", "no lag",
              "fast", "crashed", -1, f"Where it was trained, without lag, {100 * get('no lag', 'crashed without lag').mean():.0f} % crash."),
        worse("C6", "An asymmetric critic does better than one that sees what the actor sees", "ablation: helps (text)", "symmetric critic", "fast"),
    ]  # fmt: skip
    with_, without = get("fast", "first 300"), get("no curriculum", "first 300")

    def when(values):
        return ", ".join(f"{x:,.0f}" if x <= 2 * FAST[1] - 1 else "never" for x in sorted(values))

    table += [
        claim(
            "C7", "With the mild first reward, 300 of 500 steps are reached earlier than with the target reward from the start",
            "ablation: the curriculum speeds training up (text)",
            f"first evaluation above 300 at {when(with_)} steps with it, at {when(without)} without",
            bool(np.median(with_) < np.median(without)), float(np.median(without) - np.median(with_)), None, len(without),
            f"Medians over seeds, an evaluation every 10,000 of {FAST[1]:,} steps, target reward in every evaluation.",
        ),
        claim(
            "C8", "Rewards in the replay buffer must be computed again when the weights change", "part of the method; no ablation",
            "not run", "cannot be shown here",
            comment="Needs pairs of full runs; two tightenings by 20 % would hardly show in three of them. Tests check the arithmetic.",
        ),
    ]  # fmt: skip
    ours, theirs = get("paper", "tracking"), get("geometric", "tracking")[0]
    table += [
        claim(
            "C9", "On a figure of eight the policy is at most twice as far off as a geometric controller that sees the true state",
            "tracks trajectories on a real drone (numbers not compared)",
            f"{ours.mean():.2f} m against {theirs:.2f} m (root mean square; 2 m at most count)",
            bool(ours.mean() <= 2 * theirs), ours.mean(), interval(ours), len(ours),
            "The reference is shifted into the observation, as the authors do; the policy has been trained to hover only.",
        ),
        claim(
            "C10", "The policy flies a real Crazyflie; the simulator runs five months of flight a second on a laptop's GPU", "abstract",
            "not run", "cannot be shown here", comment="Needs the drone and a GPU. `make bench` prints steps per second of this machine.",
        ),
    ]  # fmt: skip
    return table
