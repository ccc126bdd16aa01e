"""The reproduction of ArCHer: which arms run on which seeds, what they measure, and what that says about the claims.

  start                 the fine-tuned policy as it is shipped
  ArCHer                and the same without replay, and without warm-up
  PPO, lr               token-level PPO with three step sizes; the claims take the best of them, chosen on the very seeds
                        that are judged, which favours PPO
  filtered BC, lr       the same for filtered behaviour cloning
  CHAI                  ArCHer's critic, a frozen policy, and the best of five utterances
All begin with the shipped policy and see the same number of dialogues, 64 an iteration; warm-up and the fit of PPO's
values count. "return" is that of utterances sampled at temperature 1 (best of five in CHAI). Three seeds by default, and
two of ArCHer without a part.

Settings were tried on seeds 100 and 101, step sizes of ArCHer among 1e-4, 2e-4 and 3e-4 (the larger ones with fewer
steps). There all methods gained 0.5 to 1 turn in 30 iterations, so the sample efficiency is counted to a gain of half a
turn; the course's specification said one turn, for a start of about -10 in a longer game. The other thresholds are those
of the specification, and C3 was split in two: whether the questions become better at all, and whether they become as
good as that.
"""

from dataclasses import replace

import numpy as np
import torch

from minirl.agents import archer_start
from minirl.agents.archer import ArCHer, Config
from minirl.agents.archer_baselines import CHAI, PPO, FilteredBC, PPOConfig
from minirl.lm.dialogues import Dialogue, converse, summary
from minirl.reproduce import claim, interval, metric

SOURCES = (
    "minirl/agents/archer.py",
    "minirl/agents/archer_baselines.py",
    "minirl/lm/dialogues.py",
    "minirl/agents/archer_start.py",
    "minirl/agents/checkpoints/archer.safetensors",
    "minirl/core/seeding.py",
    "minirl/experiments/archer.py",
    "minirl/lm/gpt.py",
    "minirl/lm/logp.py",
    "minirl/lm/rl_core.py",
    "minirl/lm/sample.py",
    "minirl/lm/tasks/__init__.py",
    "minirl/lm/tasks/guess.py",
    "minirl/lm/tasks/twenty_questions.py",
    "minirl/lm/tok.py",
)

ITERATIONS = 30  # of 64 dialogues
RATES = (3e-5, 1e-4, 3e-4)  # step sizes of PPO and of filtered behaviour cloning
GAIN = 0.5  # turns over the fine-tuned policy: what the sample efficiency is counted to
WINDOW = 4  # iterations of the running mean
SWEPT = {name: tuple(f"{name}, {lr:g}" for lr in RATES) for name in ("PPO", "filtered BC")}
WITHOUT = ("ArCHer, no replay", "ArCHer, no warm-up")
ARMS = ("ArCHer", *WITHOUT, "CHAI", *SWEPT["PPO"], *SWEPT["filtered BC"])


def plan(seeds: int = 3) -> list[tuple[str, int]]:
    """All (arm, seed), the longest runs first."""
    return [(arm, s) for arm in (*ARMS, "start") for s in range(min(seeds, 2) if arm in WITHOUT else seeds)]


def build(arm: str, seed: int):
    """The agent of an arm. Raises ValueError for an unknown one."""
    task, policy = archer_start.TASK, archer_start.policy()
    if arm not in ARMS:
        raise ValueError(f"unknown arm {arm!r}; known: {', '.join((*ARMS, 'start'))}")
    name, _, lr = arm.partition(", ")
    if name == "PPO":
        return PPO(PPOConfig(seed=seed, policy_lr=float(lr)), task, policy)
    if name == "filtered BC":
        return FilteredBC(Config(seed=seed, policy_lr=float(lr)), task, policy)
    if name == "CHAI":
        return CHAI(Config(seed=seed), task, policy)
    config = Config(seed=seed, replay=lr != "no replay")
    return ArCHer(replace(config, warmup=0) if lr == "no warm-up" else config, task, policy)


def run(arm: str, seed: int, iterations: int = ITERATIONS) -> dict:
    """One run: {"curves": {name: [[dialogues, y], ...]}, "metrics": {name: number}}; a pure function of its arguments."""
    if arm == "start":
        agent, rng = ArCHer(Config(seed=seed)), np.random.default_rng([seed, 9])
        played = converse(agent.task, [agent.task.reset(rng) for _ in range(512)], agent.act)
        return {"curves": {}, "metrics": summary(played)}
    agent = build(arm, seed)
    logs = list(agent.learn(iterations))
    curves = {key: [[log["step"], round(log[key], 4)] for log in logs] for key in ("return", "bits", "valid")}
    last = [np.mean([log[key] for log in logs[-5:]]) for key in ("return", "bits", "valid")]
    metrics = dict(zip(("final return", "final bits", "final valid"), map(float, last), strict=True))
    if arm == "ArCHer":
        metrics["critic correlation"], metrics["critic correlation, same turn"] = critic_correlation(agent, seed)
    return {"curves": curves, "metrics": metrics}


@torch.no_grad()
def critic_correlation(agent: ArCHer, seed: int, states: int = 50, rollouts: int = 64) -> tuple[float, float]:
    """Correlation of min(V_1, V_2) with discounted Monte-Carlo returns of the present policy, over states it visits;
    and the same of what is left of both after subtracting their means over the states with as many turns left.

    Given the replies all candidates are equally likely, so a rollout draws its secret from them.
    """
    rng, task = np.random.default_rng([seed, 8]), agent.task
    visited: list[tuple[Dialogue, int]] = []
    for d in converse(task, [task.reset(rng) for _ in range(states)], agent.act):
        visited.append((d, int(rng.integers(len(d.rewards)))))
    plays, begin = [], []
    for d, h in visited:
        candidates = d.play.turns[h].prompt.data[0]
        fitting = [s for s in range(task.secrets) if candidates >> s & 1]
        for secret in rng.choice(fitting, size=rollouts):
            play = task.start(int(secret))
            for turn in d.play.turns[:h]:
                play = task.act(play, turn.text)
            plays.append(play)
            begin.append(d.states[h])
    played = converse(task, plays, agent.act, begin)
    returns = [sum(agent.config.gamma**t * r for t, r in enumerate(d.rewards)) for d in played]
    means = np.reshape(returns, (states, rollouts)).mean(1)
    values = []
    for d, h in visited:
        ids = torch.tensor([d.states[h]])
        values.append(agent.critic.v(agent.critic.read(ids, torch.tensor([[ids.shape[1] - 1]]))).min().item())
    turns, both = np.array([h for _, h in visited]), np.stack([values, means])
    rest = both - np.stack([both[:, turns == h].mean(1) for h in turns], 1)
    return float(np.corrcoef(both)[0, 1]), float(np.corrcoef(rest)[0, 1])


# ---------------------------------------------------------------------------------------------------- the claims


def dialogues_until(run: dict, goal: float) -> float:
    """Dialogues until the running mean of the return reaches the goal; infinite when it never does."""
    curve = np.array(run["curves"]["return"])
    smooth = np.convolve(curve[:, 1], np.ones(WINDOW) / WINDOW, "valid")
    reached = np.flatnonzero(smooth >= goal)
    return float(curve[reached[0] + WINDOW - 1, 0]) if len(reached) else float("inf")


def needed(runs: list[dict], arm: str, goal: float) -> np.ndarray:
    """`dialogues_until` of each seed of an arm."""
    return np.array([dialogues_until(r, goal) for r in sorted(runs, key=lambda r: r["seed"]) if r["arm"] == arm])


def claims(runs: list[dict]) -> list[dict]:
    """The table of verdicts, a pure function of the stored runs."""

    def get(arm, name):
        return metric(runs, arm, name)

    def best_of(name):
        return max(SWEPT[name], key=lambda arm: get(arm, "final return").mean())

    start, bits = get("start", "return").mean(), get("start", "bits").mean()
    greedy, best = archer_start.TASK.greedy_bits(3), best_of("PPO")
    own, other = needed(runs, "ArCHer", start + GAIN), needed(runs, best, start + GAIN)
    budget = max(point[0] for r in runs if r["arm"] == "ArCHer" for point in r["curves"]["return"])
    censored = np.minimum(other, budget)  # PPO needs at least this many
    ratio = float(censored.mean() / own.mean()) if np.isfinite(own).all() else 0.0
    baseline_works = get(best, "final return").mean() > start
    gap = {arm: get("ArCHer", "final return") - get(arm, "final return") for arm in (best_of("filtered BC"), "CHAI")}
    ends = {arm: interval(x) for arm, x in gap.items()}
    asked, quality = get("ArCHer", "final bits"), get("ArCHer", "critic correlation")
    within = get("ArCHer", "critic correlation, same turn")
    few = len(get(WITHOUT[0], "final return"))
    without = {arm: get("ArCHer", "final return")[:few] - get(arm, "final return") for arm in WITHOUT}
    return [
        claim(
            "C1",
            f"ArCHer gains {GAIN:g} turns over the fine-tuned policy with half the dialogues of token-level PPO or fewer",
            "about 100 times fewer",
            f"ArCHer {own.mean():.0f}, {best} {'at least ' if np.isinf(other).any() else ''}{censored.mean():.0f}: ratio {ratio:.1f}"
            if baseline_works
            else f"baseline failed: the best PPO ends at {get(best, 'final return').mean():.2f}, start {start:.2f}",
            "cannot be shown here" if not baseline_works else ratio >= 2,
            ratio,
            None,
            len(own),
            "PPO with the best of three step sizes, fitted values and a KL penalty; where it never gains as much it is cut at the budget. "
            "No ratio is claimed when PPO does not beat the policy it starts from.",
        ),
        *(
            claim(
                f"C2{letter}",
                f"ArCHer ends 0.3 turns or more above {arm}",
                "above CHAI and filtered BC on all tasks",
                f"{x.mean():+.2f} turns" + (f" [{ends[arm][0]:+.2f}, {ends[arm][1]:+.2f}]" if ends[arm] else ""),
                x.mean() >= 0.3 and ends[arm] is not None and ends[arm][0] > 0,
                x.mean(),
                ends[arm],
                len(x),
                "Mean return of the last five iterations; the interval over seeds must exclude 0.",
            )
            for letter, (arm, x) in zip("ab", gap.items(), strict=True)
        ),
        claim(
            "C3a",
            "The first three questions tell more than before training",
            "learns to seek information (dialogues)",
            f"{asked.mean():.2f} bits; {bits:.2f} at the start",
            (asked > bits).all(),
            asked.mean(),
            interval(asked),
            len(asked),
            "Exact, from the table; every seed must agree.",
        ),
        claim(
            "C3b",
            "They tell 80 % of what greedy questions tell, or more",
            "not measured",
            f"{asked.mean():.2f} of {greedy:.2f} bits",
            asked.mean() >= 0.8 * greedy,
            asked.mean(),
            interval(asked),
            len(asked),
            "Exact, from the table.",
        ),
        *(
            claim(
                f"C4{letter}",
                f"{arm.replace('ArCHer, n', 'N')}: a lower return at the end",
                "slower",
                f"{x.mean():+.2f} turns in favour of the whole method",
                (x > 0).all(),
                x.mean(),
                interval(x),
                len(x),
                "Every seed must agree.",
            )
            for letter, (arm, x) in zip("ab", without.items(), strict=True)
        ),
        claim(
            "C5",
            "The critic's V and Monte-Carlo returns correlate by 0.6 or more",
            "not reported",
            f"{quality.mean():.2f}",
            quality.mean() >= 0.6,
            quality.mean(),
            interval(quality),
            len(quality),
            f"50 states, 64 rollouts each. Among states with as many turns left the correlation is {within.mean():.2f}.",
        ),
        claim(
            "C6",
            "About 100 times the sample efficiency; WebShop; gains up to 7 billion parameters",
            "about 100",
            "needs larger models",
            "cannot be shown here",
        ),
    ]
