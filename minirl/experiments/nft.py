"""The reproduction of NFT: which arms run on which seeds, what they measure, and what that says about the claims.

  exact    gradients in double precision, of answers that the shipped model sampled; tables of six answers (5 seeds)
  methods  NFT, RFT (NFT without the wrong answers), GRPO, Dr. GRPO: one checkpoint, one pool of 512 problems, the same
           order of prompts, four gradient steps on every batch of answers (5 seeds, 100 iterations, half a minute each)
  side     plain RFT without the weights of the prompts, a lower floor eps, DAPO (3 seeds)
  paths    NFT and plain RFT on shortest paths, where a problem has many right answers (5 seeds, 60 iterations)
Sums start from the model "chain-S", which learned from answers of which half have a slip in carrying, paths from
"grid-XS". Accuracy is that of one answer sampled at temperature 1 to each of 512 test problems, "final" the mean over the
last three evaluations. Settings were tried on seeds 100 and 101.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from minirl.core.seeding import torch_generator
from minirl.lm.logp import score
from minirl.reasoning import nft_baselines as baselines
from minirl.reasoning.nft import NFT, Config, Loss, likelihoods, nft_loss, split, success_rate, token_weights
from minirl.reproduce import claim, interval, metric

SOURCES = (
    "minirl/core/seeding.py",
    "minirl/experiments/nft.py",
    "minirl/lm/checkpoints/chain-S.safetensors",
    "minirl/lm/checkpoints/grid-XS.safetensors",
    "minirl/lm/gpt.py",
    "minirl/lm/logp.py",
    "minirl/lm/rl_core.py",
    "minirl/lm/rollout.py",
    "minirl/lm/sample.py",
    "minirl/lm/shipped.py",
    "minirl/lm/tasks/__init__.py",
    "minirl/lm/tasks/chain.py",
    "minirl/lm/tasks/grid.py",
    "minirl/lm/tok.py",
    "minirl/reasoning/nft.py",
    "minirl/reasoning/nft_baselines.py",
)

STEPS = {"chain-S": 100, "grid-XS": 60}  # iterations of 16 prompts x 16 answers
BASE = Config(eval_prompts=512)
ARMS: dict[str, tuple[Config, Loss | None, int | None]] = {  # settings, another method's loss, seeds (None: all)
    "NFT": (BASE, None, None),
    "NFT, omega std": (replace(BASE, omega="std"), None, None),
    "RFT": (replace(BASE, neg_weight=0.0), None, None),  # the authors': each prompt keeps its weight 1 - r
    "RFT, omega one": (BASE, baselines.rft_loss, 3),  # plain maximum likelihood of right answers
    "GRPO": (BASE, baselines.grpo_loss, None),
    "Dr. GRPO": (BASE, baselines.dr_grpo_loss, None),
    "NFT, eps 0.01": (replace(BASE, eps=0.01), None, 3),
    "DAPO": (BASE, baselines.dapo_loss, 3),
    "paths, NFT": (replace(BASE, checkpoint="grid-XS"), None, None),
    "paths, RFT, omega one": (replace(BASE, checkpoint="grid-XS"), baselines.rft_loss, None),
}
PAIRS = (("NFT, omega std", "GRPO"), ("NFT", "Dr. GRPO"))  # equal on fresh answers
FLOORS = (1.0, 0.1, 0.001)  # eps of the tables


def plan(seeds: int = 5) -> list[tuple[str, int]]:
    """All (arm, seed), the longest runs first."""
    runs = [(arm, s) for arm, (_, _, n) in ARMS.items() for s in range(min(seeds, n or seeds))]
    return runs + [("exact", s) for s in range(seeds)]


def run(arm: str, seed: int) -> dict:
    """One run: {"curves": {name: [[iteration, y], ...]}, "metrics": {name: number}}; a pure function of its arguments."""
    if arm == "exact":
        return {"curves": {}, "metrics": run_gradients(seed) | run_table(seed)}
    if arm not in ARMS:
        raise ValueError(f"unknown arm {arm!r}; known: {', '.join([*ARMS, 'exact'])}")
    config, loss, _ = ARMS[arm]
    return run_method(NFT(replace(config, seed=seed), loss), STEPS[config.checkpoint])


# ------------------------------------------------------------------------------------------------------- training


def run_method(agent: NFT, steps: int) -> dict:
    """Train, and keep what was logged at the evaluations; "reward" and "mixed" are means since the one before."""
    logs = list(agent.learn(steps))
    evaluations = [log for log in logs if "accuracy" in log]
    curves = {
        key: [[log["step"], round(log[key], 4)] for log in evaluations] for key in ("accuracy", "greedy", "entropy")
    }
    for key in ("reward", "mixed", "drift", "clipped", "right", "wrong"):
        for before, now in zip(evaluations, evaluations[1:], strict=False):
            seen = [log[key] for log in logs[before["step"] + 1 : now["step"] + 1] if key in log]
            if seen:
                curves.setdefault(key, []).append([now["step"], round(float(np.mean(seen)), 5)])
    last = evaluations[-3:]
    metrics = {
        "start accuracy": logs[0]["accuracy"],
        "start entropy": logs[0]["entropy"],
        "final accuracy": np.mean([log["accuracy"] for log in last]),
        "final greedy": np.mean([log["greedy"] for log in last]),
        "final entropy": np.mean([log["entropy"] for log in last]),
        "pool reward": np.mean([log["reward"] for log in logs[-10:] if "reward" in log]),
        "drift": np.mean([log["drift"] for log in logs if "drift" in log]),
        "tokens": logs[-1]["tokens"],
    }
    if "clipped" in curves:
        metrics["clipped"] = np.mean([log["clipped"] for log in logs if "clipped" in log])
    return {"curves": curves, "metrics": {name: float(value) for name, value in metrics.items()}}


# ---------------------------------------------------------------------------------------------------------- exact


def run_gradients(seed: int) -> dict[str, float]:
    """Gradients by all parameters, float64: NFT against its clipped twin, on fresh answers and after four steps."""
    agent = NFT(replace(BASE, seed=seed))
    agent.policy.double()
    data, _ = agent.collect()
    r, _ = success_rate(data.reward, data.K)

    def gradient(loss: Loss) -> Tensor:
        logp = score(agent.policy, data.prompt, data.n_pad, data.answer, data.mask).logp
        parts = torch.autograd.grad(
            loss(logp, data.old_logp, data.reward, r, data.mask), list(agent.policy.parameters())
        )
        return torch.cat([part.flatten() for part in parts])

    methods = {
        "std": (lambda *known: nft_loss(*known, omega="std"), baselines.grpo_loss),
        "gap": (lambda *known: nft_loss(*known, omega="gap"), baselines.dr_grpo_loss),
    }
    found = {}
    for when in ("fresh", "stale"):
        for omega, pair in methods.items():
            own, twin = (gradient(loss) for loss in pair)
            found[f"{omega} {when}"] = (own - twin).abs().max().item()
            found[f"{omega} {when}, relative"] = ((own - twin).norm() / twin.norm()).item()
        agent.update(data)
    return found


def ascend(p_old: Tensor, right: Tensor, eps: float, steps: int = 1_500, lr: float = 0.1) -> Tensor:
    """The policy (n,) that maximises eq. (3) exactly, by Adam on the logits of a softmax that begins at p_old."""
    logits = p_old.log().clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=lr)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * (1 - 0.99 * step / steps)
        optimiser.zero_grad()
        (-sum(likelihoods(logits.softmax(-1), p_old, right, eps))).backward()
        optimiser.step()
    return logits.detach().softmax(-1)


def run_table(seed: int) -> dict[str, float]:
    """Six answers, three of them right: total variation between what NFT learns and pi_plus; and a noisy verifier.

    "noisy eps=*" is the largest entry of the gradient of the wrong answers' half at pi_plus, where it should vanish.
    """
    generator = torch_generator(seed, 3)
    p_old = torch.randn(6, generator=generator, dtype=torch.float64).softmax(-1)
    right = torch.tensor([1, 1, 1, 0, 0, 0], dtype=torch.float64)
    plus = split(p_old, right)[0]
    found = {f"tv eps={eps:g}": 0.5 * (ascend(p_old, right, eps) - plus).abs().sum().item() for eps in FLOORS}

    noisy = 0.05 + 0.9 * torch.rand(6, generator=generator, dtype=torch.float64)
    logits = split(p_old, noisy)[0].log().requires_grad_()
    for eps in (1.0, 1e-9):
        half = likelihoods(logits.softmax(-1), p_old, noisy, eps)[1]
        found[f"noisy eps={eps:g}"] = torch.autograd.grad(half, logits)[0].abs().max().item()
    return found


# ---------------------------------------------------------------------------------------------------- the claims


def points(x: float) -> str:
    """A difference of shares as percentage points with a sign."""
    return f"{100 * x:+.1f}"


def spread(x: np.ndarray) -> str:
    """Mean difference and its interval over seeds, in points."""
    found = interval(x)
    return points(x.mean()) + (f" [{points(found[0])}, {points(found[1])}]" if found else "")


def claims(runs: list[dict]) -> list[dict]:
    """The table of verdicts, a pure function of the stored runs. Thresholds: written down before any seed below 100 ran."""

    def get(arm, name):
        return metric(runs, arm, name)

    def difference(one, other, name="final accuracy"):
        n = min(len(get(one, name)), len(get(other, name)))
        return get(one, name)[:n] - get(other, name)[:n]

    fresh = np.array([get("exact", f"{omega} fresh") for omega in ("std", "gap")])
    stale = np.array([get("exact", f"{omega} stale, relative") for omega in ("std", "gap")])
    tv = np.array([get("exact", f"tv eps={eps:g}") for eps in FLOORS])
    noisy = {eps: get("exact", f"noisy eps={eps:g}") for eps in (1.0, 1e-9)}
    gain, control = (get(arm, "final accuracy") - get(arm, "start accuracy") for arm in ("NFT", "RFT"))
    matched = [difference(*pair) for pair in PAIRS]
    entropy = difference("NFT", "RFT", "final entropy")
    plain = difference("NFT", "RFT, omega one", "final entropy")
    rises = get("NFT", "final entropy") - get("NFT", "start entropy")
    better = difference("NFT", "RFT")
    ci = interval(better)
    ratio = torch.tensor([1.2], dtype=torch.float64)
    weight = {eps: -token_weights(ratio, 0.6, eps)[1].item() for eps in (1.0, 0.5, 0.01)}
    floor = difference("NFT, eps 0.01", "NFT")
    bound = difference("DAPO", "GRPO")
    kept = difference("paths, NFT", "paths, RFT, omega one", "final entropy")
    reached = {arm: 100 * get(f"paths, {arm}", "final accuracy").mean() for arm in ("NFT", "RFT, omega one")}
    return [
        claim(
            "C1", "On fresh answers the gradient of NFT is that of GRPO (omega std) and of Dr. GRPO (omega gap)",
            "a theorem",
            f"largest difference over all parameters {fresh.max():.0e}; after four steps {100 * stale.min():.0f} % or more",
            fresh.max() < 1e-12, fresh.max(), None, fresh.shape[1],
            "Double precision, answers of the shipped model. Threshold 1e-12. After four steps the two differ: relative.",
        ),
        claim(
            "C2", "The likelihood of right and wrong answers together is greatest at the policy of the right answers",
            "a theorem",
            f"total variation from pi_plus at most {tv.max():.0e} (eps 1, 0.1, 0.001)",
            tv.max() < 1e-3, tv.max(), None, tv.shape[1],
            f"Tables of six answers, exact verifier. With a noisy verifier eps = 1 moves the optimum: gradient {noisy[1.0].mean():.3f} "
            f"at pi_plus, against {noisy[1e-9].max():.0e} for eps = 1e-9.",
        ),
        claim(
            "C3", f"NFT improves on supervised fine-tuning by 10 points or more within {STEPS['chain-S']} iterations",
            "31.6 to 51.7 (Qwen2.5-Math-7B, mean of six benchmarks)",
            f"{points(gain.mean())} points from {100 * get('NFT', 'start accuracy').mean():.1f} %; worst seed {points(gain.min())}",
            (gain >= 0.10).all(), gain.mean(), interval(gain), len(gain),
            f"Every seed must pass. Sampled accuracy on test problems. RFT, without wrong answers, gains {points(control.mean())}: "
            "this is what verdicts are worth, not what wrong answers are worth (C7).",
        ),
        claim(
            "C4", "NFT matches GRPO: final accuracies differ by at most 5 points",
            "NFT 51.7, Dr. GRPO 49.8, GRPO 49.5 (7B)",
            "; ".join(f"{a} - {b}: {spread(x)}" for (a, b), x in zip(PAIRS, matched, strict=True)),
            max(abs(x.mean()) for x in matched) <= 0.05, matched[0].mean(), interval(matched[0]), len(matched[0]),
            "Both pairs that are equal on fresh answers must pass; four gradient steps on every batch. The interval is the first pair's.",
        ),
        claim(
            "C5", "Learning from wrong answers keeps entropy: higher after NFT than after RFT in 4 of 5 seeds",
            "RFT lowers the entropy over training (figure)",
            f"{(entropy > 0).sum()} of {len(entropy)} seeds; NFT {get('NFT', 'final entropy').mean():.3f}, RFT "
            f"{get('RFT', 'final entropy').mean():.3f} nats a token, at the start {get('NFT', 'start entropy').mean():.3f}",
            (entropy > 0).sum() >= 0.8 * len(entropy), entropy.mean(), interval(entropy), len(entropy),
            f"RFT is NFT without its wrong answers. Against RFT with omega = 1: {(plain > 0).sum()} of {len(plain)} seeds.",
        ),
        claim(
            "C6", "NFT raises the entropy above that of the model it begins with",
            "NFT and DAPO raise it (figure)",
            f"{rises.mean():+.3f} nats a token; higher in {(rises > 0).sum()} of {len(rises)} seeds",
            (rises > 0).sum() >= 0.8 * len(rises), rises.mean(), interval(rises), len(rises), "Four of five seeds must pass.",
        ),
        claim(
            "C7", "NFT reaches a higher accuracy than RFT",
            "51.7 against 48.3 (7B); 59.2 against 52.8 (32B)",
            f"{spread(better)} points; against RFT with omega = 1 {spread(difference('NFT', 'RFT, omega one'))}",
            ci is not None and ci[0] > 0, better.mean(), ci, len(better),
            "Reproduced only if the interval excludes 0. The paper's gap grows with the size of the model.",
        ),
        claim(
            "C8", "eps bounds the weight of a wrong token: r = 0.6, R = 1.2 gives 1.5 at eps = 1 and 2.14 from eps = 0.5 down",
            "eps = 1 is the default",
            ", ".join(f"{w:.2f} at eps = {eps:g}" for eps, w in weight.items()),
            abs(weight[1.0] - 1.5) < 1e-12 and max(abs(weight[eps] - 1.5 / 0.7) for eps in (0.5, 0.01)) < 1e-12,
            weight[1.0], None, 0, "A property of the loss, computed from it.",
        ),
        claim(
            "C9", "Where a problem has many right answers, NFT keeps more of them than plain RFT: higher entropy in 4 of 5 seeds",
            "RFT lowers the entropy over training (figure)",
            f"shortest paths: {(kept > 0).sum()} of {len(kept)} seeds, difference {kept.mean():+.4f} nats a token",
            (kept > 0).sum() >= 0.8 * len(kept), kept.mean(), interval(kept), len(kept),
            f"Final accuracy: NFT {reached['NFT']:.1f} %, RFT {reached['RFT, omega one']:.1f} %, from "
            f"{100 * get('paths, NFT', 'start accuracy').mean():.1f} %; entropy at the start "
            f"{get('paths, NFT', 'start entropy').mean():.3f}, after NFT {get('paths, NFT', 'final entropy').mean():.3f}.",
        ),
        claim(
            "C10", "The floor eps changes the accuracy",
            "no number given", f"eps 0.01 less eps 1: {spread(floor)} points", "cannot be shown here",
            floor.mean(), interval(floor), len(floor),
            "Nothing was claimed, so nothing is judged. The floor acts on "
            f"{100 * get('NFT', 'clipped').mean():.0f} % of the tokens of wrong answers at eps 1 and on "
            f"{100 * get('NFT, eps 0.01', 'clipped').mean():.1f} % at eps 0.01.",
        ),
        claim(
            "C11", "Competition problems, 7 and 32 billion parameters; the order of NFT, DAPO and GRPO there",
            "7B: NFT 51.7, DAPO 51.2, GRPO 49.5; 32B: DAPO 59.9, NFT 59.2",
            f"not run; on sums DAPO less GRPO: {spread(bound)} points", "cannot be shown here",
            None, None, 0, "DAPO here is its clip and its mean over tokens; all methods share its dynamic sampling.",
        ),
    ]  # fmt: skip
