"""The reproduction of P3O: which arms run on which seeds, what they measure, and what that says about the claims.

A shipped model ends film reviews. A reward model is trained once in each process, always from the same 4,096 labelled
comparisons and the same seed, and stands for the reward model of the paper; "gold" is the verifier that labelled them.
Arms:
  exact         gradients of every method for r and r + 10 delta, in double precision (5 seeds)
  identity      ten iterations of P3O-V1, P3O-V2 and DPO at c = 0 and c = 10 (3 seeds)
  P3O, PPO      c = 0 and c = 10, new prompts all the time and a hashed delta (5 seeds; P3O at c = 10: 2)
  PPO ...       c = 1, c = 3; batch whitening; controls at c = 3: a delta that the prompt's words predict, 64 prompts in
                all; and "first", after 20 iterations in which only the critic learns (3 seeds each)
  V1, RLOO, DPO at c = 0 (3 seeds)
  beta=...      P3O-V2 and PPO at three more prices of KL: with the above, the frontier (3 seeds)

Step sizes are those of the highest gold reward on tuning seeds (100, 101) at c = 0: 1e-3 of 3e-4, 1e-3 and 3e-3 for PPO and
P3O-V2 (P3O collapses at 3e-3, PPO learns less); 3e-4 of 3e-4 and 1e-3 for DPO. RLOO and V1 take P3O's.
"""

import numpy as np
import torch

from minirl.alignment import p3o, p3o_baselines
from minirl.alignment.p3o import P3O, Config
from minirl.lm import shipped
from minirl.lm.logp import score
from minirl.lm.preferences import chosen_rejected, label, shipped_comparisons
from minirl.reproduce import claim, interval, metric

CHECKPOINT = "review-S"
SOURCES = (
    "minirl/alignment/p3o.py",
    "minirl/alignment/p3o_baselines.py",
    "minirl/core/seeding.py",
    "minirl/experiments/p3o.py",
    *(f"minirl/lm/{name}.py" for name in "dpo gpt logp preferences rl_core rm rollout sample tok".split()),
    "minirl/lm/checkpoints/review-S.safetensors",
    "minirl/lm/tasks/__init__.py",
    "minirl/lm/tasks/review.py",
)

ITERATIONS = 50
C = 10.0  # the shift
C_CONTROL = 3.0  # of the controls
POOL = 64
WARMUP = 20  # iterations for the critic alone
BETAS = (0.02, 0.05, 0.1, 0.2)
COMMON = {"checkpoint": CHECKPOINT, "beta": 0.1, "lr": 1e-3, "eval_every": 10, "eval_prompts": 512}
DPO_LR = {"lr": 3e-4}
V1 = {"clip": "separate", "eps": 0.2}
PPO, DPO = p3o_baselines.PPO, p3o_baselines.DPO


def whitened() -> PPO:
    return PPO(whiten_reward=True)


def critic_first() -> PPO:
    return PPO(warmup=WARMUP)


def offline() -> DPO:
    return DPO(tuple(shipped_comparisons(CHECKPOINT)))


ARMS = {  # name: what makes the update (None: P3O's own), settings, seeds at most
    "PPO": (PPO, {}, 5),
    "PPO c=10": (PPO, {"shift": C}, 5),
    "PPO whitened": (whitened, {}, 3),
    "PPO whitened c=10": (whitened, {"shift": C}, 3),
    "PPO c=1": (PPO, {"shift": 1.0}, 3),
    "PPO c=3": (PPO, {"shift": C_CONTROL}, 3),
    "PPO first c=3": (critic_first, {"shift": C_CONTROL}, 3),
    "PPO smooth c=3": (PPO, {"shift": C_CONTROL, "shift_kind": "smooth"}, 3),
    "PPO pool": (PPO, {"pool": POOL}, 3),
    "PPO pool c=3": (PPO, {"pool": POOL, "shift": C_CONTROL}, 3),
    "PPO pool first": (critic_first, {"pool": POOL}, 3),
    "PPO pool first c=3": (critic_first, {"pool": POOL, "shift": C_CONTROL}, 3),
    **{f"PPO beta={beta:g}": (PPO, {"beta": beta}, 3) for beta in BETAS if beta != 0.1},
    "P3O-V2": (None, {}, 5),
    "P3O-V2 c=10": (None, {"shift": C}, 2),
    "P3O-V1": (None, V1, 3),
    **{f"P3O-V2 beta={beta:g}": (None, {"beta": beta}, 3) for beta in BETAS if beta != 0.1},
    "RLOO": (lambda: p3o_baselines.rloo, {}, 3),
    "DPO online": (DPO, DPO_LR, 3),
    "DPO offline": (offline, DPO_LR, 3),
}


def plan(seeds: int = 5) -> list[tuple[str, int]]:
    """All (arm, seed), the longest runs first."""
    runs = [(arm, s) for arm, (_, _, most) in ARMS.items() for s in range(min(seeds, most))]
    return runs + [("identity", s) for s in range(min(seeds, 3))] + [("exact", s) for s in range(seeds)]


def run(arm: str, seed: int) -> dict:
    """One run: {"curves": {name: [[x, y], ...]}, "metrics": {name: number}}; a pure function of its arguments."""
    if arm == "exact":
        return run_exact(seed)
    if arm == "identity":
        return run_identity(seed)
    if arm not in ARMS:
        raise ValueError(f"unknown arm {arm!r}; known: {', '.join(dict.fromkeys(a for a, _ in plan()))}")
    make, options, _ = ARMS[arm]
    more = WARMUP if make is critic_first else 0  # the policy learns for equally many iterations in every arm
    return run_training(P3O(Config(**(COMMON | options), seed=seed), make and make()), ITERATIONS + more)


# ------------------------------------------------------------------------------------------------- training


def run_training(agent: P3O, iterations: int) -> dict:
    """Curves of the evaluations over iterations; metrics at the end are means of the last two evaluations.

    "max_ratio" is the largest of all, "clipped" and "guarded" are means over the iterations, "stopped" is the share of
    iterations that were left early, "explained" (PPO) a mean over the last ten iterations.
    """
    logs = list(agent.learn(iterations))
    evaluated, updates = [log for log in logs if "gold" in log], logs[1:]
    names = ("gold", "proxy", "kl", "length")
    metrics = {name: np.mean([log[name] for log in evaluated[-2:]]) for name in names}
    metrics |= {f"{name} at start": evaluated[0][name] for name in names}
    metrics |= {name: np.mean([log[name] for log in updates]) for name in ("clipped", "guarded") if name in updates[0]}
    if "max_ratio" in updates[0]:
        metrics["max_ratio"] = max(log["max_ratio"] for log in updates)
        metrics["stopped"] = np.mean([log["max_ratio"] > agent.config.stop_ratio for log in updates])
    if "explained" in updates[0]:
        metrics["explained"] = np.mean([log["explained"] for log in updates[-10:]])
    curves = {name: [[log["step"], float(f"{log[name]:.6g}")] for log in evaluated] for name in names}
    return {"curves": curves, "metrics": {name: float(value) for name, value in metrics.items()}}


def run_identity(seed: int) -> dict:
    """Ten iterations at c = 0 and at c = 10: largest difference between the weights, and between gold rewards."""
    metrics = {}
    for name, make, options in (("V2", None, {}), ("V1", None, V1), ("DPO", DPO, {}), ("PPO", PPO, {})):
        found = []
        for c in (0.0, C):
            agent = P3O(Config(**(COMMON | options | {"shift": c, "eval_every": 10}), seed=seed), make and make())
            gold = list(agent.learn(10))[-1]["gold"]
            found.append((torch.cat([p.detach().reshape(-1) for p in agent.policy.parameters()]), gold))
        metrics[f"weights {name}"] = (found[1][0] - found[0][0]).abs().max().item()
        metrics[f"gold {name}"] = abs(found[1][1] - found[0][1])
    return {"curves": {}, "metrics": metrics}


# ------------------------------------------------------------------------------------------- exact gradients


def run_exact(seed: int) -> dict:
    """Gradients in double precision of one batch for r and r + 10 delta, the policy a little away from where it sampled.

    P3O, RLOO, DPO: the largest absolute difference; PPO with a fresh critic: difference over norm. "RLOO - V2" is the
    largest difference between those two methods at the policy that sampled.
    """
    policy = shipped.load(CHECKPOINT).double()
    found = []
    for c in (0.0, C):
        agent = P3O(Config(**(COMMON | {"shift": c, "eval_prompts": 1}), seed=seed), policy=policy)
        data = agent.collect()
        at_home = gradients(agent, data)
        noise = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in agent.policy.parameters():
                p.add_(0.002 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
        found.append(gradients(agent, data))
    metrics = {}
    for name, one in found[0].items():
        difference = found[1][name] - one
        metrics[name] = difference.norm() / one.norm() if name.startswith("PPO") else difference.abs().max()
        metrics[f"norm {name}"] = one.norm()
    metrics["RLOO - V2"] = (at_home["RLOO"] - at_home["V2"]).abs().max()
    return {"curves": {}, "metrics": {name: value.item() for name, value in metrics.items()}}


def gradients(agent: P3O, data) -> dict[str, torch.Tensor]:
    """The gradient of each method's loss in all parameters, on the same answers."""
    beta, K = agent.config.beta, data.K
    old, ref = data.old_logp.sum(1), data.ref_logp.sum(1)
    rhat = p3o.penalised_reward(data.reward, old, ref, beta).view(-1, K)
    labelled = label(data, p3o_baselines.SHARPNESS, torch.Generator().manual_seed(agent.config.seed))
    scores = score(agent.policy, data.prompt, data.n_pad, data.answer, data.mask)
    lp = scores.sequence.view(-1, K)
    h = p3o_baselines.margin(*chosen_rejected(scores.sequence, labelled), *chosen_rejected(ref, labelled))
    losses = {
        "V2": p3o.p3o_joint_loss(lp, old.view(-1, K), rhat, 0.4),
        "V1": p3o.p3o_separate_loss(lp, old.view(-1, K), rhat, 0.2),
        "RLOO": p3o_baselines.rloo_loss(lp, rhat),
        "DPO": p3o_baselines.dpo_loss(h, p3o_baselines.SHARPNESS * beta),
    }
    for name, whitening in (("PPO", False), ("PPO whitened", True)):
        reward = p3o_baselines.ppo_rewards(data, beta, whitening)
        advantage, _ = p3o_baselines.gae(
            reward, torch.zeros_like(reward), data.mask, 1.0, 0.95
        )  # a fresh critic says 0
        known = (scores.logp, data.old_logp, p3o_baselines.whiten(advantage, data.mask), data.mask, 0.2, 0.2)
        losses[name] = p3o_baselines.ppo_clip(*known, "token-mean")[0]
    parameters = list(agent.policy.parameters())
    return {
        name: torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters, retain_graph=True)])
        for name, loss in losses.items()
    }


# ------------------------------------------------------------------------------------------------ the verdicts


def gain(runs: list[dict], arm: str) -> np.ndarray:
    """Gold reward won over the SFT model, by seed."""
    return metric(runs, arm, "gold") - metric(runs, arm, "gold at start")


def lost(runs: list[dict], plain: str, shifted: str) -> np.ndarray:
    """Share of the gain that the shift costs, by seed: 0 nothing, 1 all of it."""
    before, after = gain(runs, plain), gain(runs, shifted)
    return 1 - after / before[: len(after)]


def kl_at(runs: list[dict], arm: str, seed: int, proxy: float) -> float:
    """KL (nats an answer) at which a run first had this proxy reward, linear between its evaluations; NaN if never."""
    (one,) = [run["curves"] for run in runs if run["arm"] == arm and run["seed"] == seed]
    points = [(y, k) for (_, y), (_, k) in zip(one["proxy"], one["kl"], strict=True)]
    for (y0, k0), (y1, k1) in zip(points, points[1:], strict=False):
        if y0 <= proxy <= y1:
            return k0 + (k1 - k0) * (proxy - y0) / (y1 - y0) if y1 > y0 else k0
    return float("nan")


def kl_ratio(runs: list[dict], arm: str, other: str) -> np.ndarray:
    """KL of `arm` over KL of `other` where both have 90 % of the smaller of their proxy gains, by common seed."""
    ratios = []
    for seed in sorted({r["seed"] for r in runs if r["arm"] == arm} & {r["seed"] for r in runs if r["arm"] == other}):
        (a,), (b,) = ([r["metrics"] for r in runs if r["arm"] == name and r["seed"] == seed] for name in (arm, other))
        level = a["proxy at start"] + 0.9 * (min(a["proxy"], b["proxy"]) - a["proxy at start"])
        ratios.append(kl_at(runs, arm, seed, level) / kl_at(runs, other, seed, level))
    return np.array(ratios)


def frontier(runs: list[dict], method: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """KL and gold reward at the end for every beta, with the start, by increasing KL."""
    arms = [method if beta == 0.1 else f"{method} beta={beta:g}" for beta in BETAS]
    found = [run["metrics"] for arm in arms for run in runs if run["arm"] == arm and run["seed"] == seed]
    points = sorted([(0.0, found[0]["gold at start"]), *((m["kl"], m["gold"]) for m in found)])
    return np.array([k for k, _ in points]), np.array([g for _, g in points])


def frontier_gap(runs: list[dict]) -> np.ndarray:
    """Mean gold reward of P3O-V2 less that of PPO at equal KL, over the KL that both reach, by seed."""
    seeds = sorted({run["seed"] for run in runs if run["arm"] == f"PPO beta={BETAS[0]:g}"})
    gaps = []
    for seed in seeds:
        (k1, g1), (k2, g2) = (frontier(runs, method, seed) for method in ("P3O-V2", "PPO"))
        grid = np.linspace(0, min(k1[-1], k2[-1]), 101)
        gaps.append(np.mean(np.interp(grid, k1, g1) - np.interp(grid, k2, g2)))
    return np.array(gaps)


def judge(
    id: str, text: str, paper: str, ours: str, values: np.ndarray, verdict: bool | None, comment: str = ""
) -> dict:
    """One row; values (S,) are the per-seed numbers behind the interval, verdict None means "not shown here"."""
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x)]
    verdict = "cannot be shown here" if verdict is None else bool(verdict)
    return claim(id, text, paper, ours, verdict, x.mean() if len(x) else None, interval(x), len(x), comment)


def listed(x: np.ndarray, digits: int = 2) -> str:
    return ", ".join(f"{v:.{digits}f}" for v in x)


def claims(runs: list[dict]) -> list[dict]:
    """The table of verdicts, a pure function of the stored runs."""

    def get(arm: str, name: str) -> np.ndarray:
        return metric(runs, arm, name)

    same = np.max([get("exact", name) for name in ("V1", "V2", "DPO", "RLOO")], axis=0)
    ppo = np.min([get("exact", name) for name in ("PPO", "PPO whitened")], axis=0)
    table = [
        judge(
            "C1", "The gradients of P3O and of DPO are the same for equivalent rewards; that of PPO is not",
            "Theorem (P3O invariant), Theorem 2 (PPO not)",
            f"r against r + 10 delta: V1, V2, DPO, RLOO differ by {same.max():.0e} at most, PPO by {ppo.min():.1f} times its "
            "norm at least",
            ppo, (same <= 1e-10).all() and (ppo > 0.1).all(),
            "One batch, double precision, fresh critic, whitened advantages. Needed: 1e-10, and more than 0.1.",
        )
    ]  # fmt: skip

    twin = get("exact", "RLOO - V2")
    table.append(
        judge(
            "C2", "On-policy, with two answers, P3O is REINFORCE with the other answer as baseline",
            "follows from the pairwise gradient",
            f"the gradients of all parameters differ by {twin.max():.0e} at most", twin, (twin <= 1e-10).all(),
            f"Beyond the first step they part: gold reward at the end {get('P3O-V2', 'gold').mean():.3f} (P3O-V2) and "
            f"{get('RLOO', 'gold').mean():.3f} (RLOO, one pass).",
        )
    )  # fmt: skip

    full = get("P3O-V2 c=10", "gold") - get("P3O-V2", "gold")[: len(get("P3O-V2 c=10", "gold"))]
    ten = np.max([get("identity", f"gold {name}") for name in ("V1", "V2", "DPO")], axis=0)
    loss = lost(runs, "PPO", "PPO c=10")
    table.append(
        judge(
            "C3", "Training with an equivalent reward: P3O ends at the same policy, PPO loses a quarter of its gain",
            "PPO's updates change (no number for this experiment)",
            f"P3O-V2's gold reward moves by {np.abs(full).max():.4f} at most; PPO loses {100 * loss.mean():.0f} % of its gain "
            f"(by seed {listed(100 * loss, 0)} %)",
            loss, (np.abs(full) <= 0.05).all() and (ten <= 0.05).all() and loss.mean() >= 0.25,
            f"c = 10, hashed delta, new prompts all the time. Needed: 0.05, 25 %. After ten iterations V1, V2 and DPO differ "
            f"by {ten.max():.4f} at most. The critic explains {100 * get('PPO c=10', 'explained').mean():.0f} % of the "
            "variance of rewards in the end.",
        )
    )  # fmt: skip

    white = lost(runs, "PPO whitened", "PPO whitened c=10")
    hashed, smooth = lost(runs, "PPO", "PPO c=3"), lost(runs, "PPO", "PPO smooth c=3")
    pool, first = lost(runs, "PPO pool", "PPO pool c=3"), lost(runs, "PPO pool first", "PPO pool first c=3")
    vain = lost(runs, "PPO", "PPO first c=3")  # a critic that learns first, and nothing that it could learn
    known = [100 * get(f"PPO {arm}", "explained").mean() for arm in ("c=3", "smooth c=3", "pool c=3", "pool first c=3")]
    table.append(
        judge(
            "C4", "PPO loses where its critic cannot predict delta: less where words predict it, with few prompts, and if the "
            "critic may learn those first",
            "not in the paper",
            f"share of the gain lost at c = 3: hashed {100 * hashed.mean():.0f} %, smooth {100 * smooth.mean():.0f} %, {POOL} "
            f"prompts {100 * pool.mean():.0f} %, {POOL} prompts and {WARMUP} iterations for the critic alone "
            f"{100 * first.mean():.0f} % (hashed with these iterations {100 * vain.mean():.0f} %)",
            vain - first, max(smooth.mean(), pool.mean()) < hashed.mean() and first.mean() < vain.mean(),
            f"The interval is that of the last two, hashed less 64 prompts. The critic explains, in the end, {listed(known, 0)} % of the "
            f"variance. With batch whitening of rewards PPO loses {100 * white.mean():.0f} % at c = 10, and without it "
            f"{100 * lost(runs, 'PPO', 'PPO c=1').mean():.0f} % at c = 1.",
        )
    )  # fmt: skip

    gap = frontier_gap(runs)
    table.append(
        judge(
            "C5", "At equal KL P3O's reward is at least PPO's",
            "0.1 to 0.3 above at equal KL, 1B and 6B (public summary)",
            f"mean gold reward at equal KL, P3O-V2 less PPO: {gap.mean():+.3f} (by seed {listed(gap, 3)})",
            gap, gap.mean() >= -0.02,
            f"beta {listed(BETAS)}; c = 0. Tolerance 0.02. A tie is expected in so small a world.",
        )
    )  # fmt: skip

    online, off = kl_ratio(runs, "DPO online", "P3O-V2"), kl_ratio(runs, "DPO offline", "P3O-V2")
    table.append(
        judge(
            "C6", "At similar proxy reward DPO has moved further from the SFT model than P3O",
            "KL 12.01 against 9.83 on HH; about 25 % more at equal reward on TL;DR (public summary)",
            f"KL over that of P3O-V2 at 90 % of the smaller gain: online {listed(online)}; offline {listed(off)}",
            online, np.isfinite(online).all() and online.mean() > 1,
            "The sign of the online kind decides. DPO's beta gives it the same optimum as P3O.",
        )
    )  # fmt: skip

    ratio = kl_ratio(runs, "P3O-V1", "P3O-V2")
    n = len(get("P3O-V1", "proxy"))
    more = get("P3O-V1", "proxy") - get("P3O-V2", "proxy")[:n]
    table.append(
        judge(
            "C7", "V1 (separate clips) reaches slightly more reward than V2 (joint clip), at a worse trade-off",
            "so described, without a number (public summary)",
            f"proxy reward of V1 less V2 {listed(more, 3)}; KL of V1 over V2 at equal proxy reward {listed(ratio)}",
            more, more.mean() > 0 and np.isfinite(ratio).all() and ratio.mean() > 1,
            f"Clipped: V1 {100 * get('P3O-V1', 'clipped').mean():.1f} % of answers, V2 {100 * get('P3O-V2', 'clipped').mean():.1f} "
            f"% of pairs. Our guard acts on {100 * get('P3O-V1', 'guarded').mean():.2f} % and "
            f"{100 * get('P3O-V2', 'guarded').mean():.2f} % of the weights, and {100 * get('P3O-V1', 'stopped').mean():.0f} % and "
            f"{100 * get('P3O-V2', 'stopped').mean():.0f} % of the iterations end early.",
        )
    )  # fmt: skip

    table.append(
        judge(
            "C8", "Judged by GPT-4, P3O beats PPO and SFT on helpful and harmless dialogue",
            "57.0 % against PPO, 69.3 % against SFT (6B, public summary)", "not run", np.array([]), None,
            "No language model of that size, and no judge.",
        )
    )  # fmt: skip
    return table
