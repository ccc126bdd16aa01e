"""Oracles of negative-aware fine-tuning: enumeration, loops over floats, finite differences, and GRPO written anew."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from minirl.experiments import nft as experiment
from minirl.lm import shipped
from minirl.lm.gpt import GPT, GPTConfig
from minirl.lm.logp import score
from minirl.lm.rl_core import group_adv
from minirl.lm.rollout import rollout
from minirl.lm.tasks import Prompt, Result, split_of
from minirl.lm.tasks.chain import Chain
from minirl.lm.tok import BOS, EOS, SEP, CharTok
from minirl.reasoning import nft
from minirl.reasoning import nft_baselines as baselines
from minirl.reasoning.nft import NFT, Config


def numbers(*shape, seed=0):
    """Standard normal numbers in double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dist(n, seed=0):
    """A distribution over n answers, none of them rare."""
    return numbers(n, seed=seed).softmax(-1)


def masks(B, T, seed=0):
    """(B, T): answers of 1 to T tokens, one of T among them."""
    lengths = np.random.default_rng(seed).integers(1, T + 1, B)
    lengths[0] = T
    return (torch.arange(T) < torch.tensor(lengths)[:, None]).double()


def answers(K=4, T=5, seed=0, drift=0.3):
    """Four groups of K answers with 1, 1, K - 1 and K // 2 right ones: logp, old_logp, reward, r, mask."""
    rng = np.random.default_rng(seed)
    reward = np.zeros((4, K))
    for row, right in zip(reward, (1, 1, K - 1, K // 2), strict=True):
        row[rng.permutation(K)[:right]] = 1
    reward, mask = torch.tensor(reward.reshape(-1)), masks(4 * K, T, seed)
    old = -numbers(4 * K, T, seed=seed).abs() * mask
    logp = (old + drift * numbers(4 * K, T, seed=seed + 1)) * mask
    return logp, old, reward, nft.success_rate(reward, K)[0], mask


def gradient(loss, logp, *known, **options):
    """d loss / d logp."""
    logp = logp.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(logp, *known, **options), logp)[0]


# ---- the split of the old policy ----

NOISY = torch.tensor([0.9, 0.7, 0.5, 0.2, 0.1, 0.0], dtype=torch.float64)  # P(accepted) of six answers
EXACT = torch.tensor([1, 1, 0, 0, 1, 0], dtype=torch.float64)
OLD = dist(6, seed=3)


def test_the_split_by_enumeration():
    """Conditional distributions from the joint table of answer and verdict; they mix to the old policy again."""
    for right in (EXACT, NOISY):
        joint = {(a, v): float(OLD[a] * (right[a] if v else 1 - right[a])) for a in range(6) for v in (0, 1)}
        total = {v: sum(p for (_, w), p in joint.items() if w == v) for v in (0, 1)}
        plus, minus, r = nft.split(OLD, right)
        assert r.shape == (1,) and r.item() == pytest.approx(total[1], abs=1e-14)
        for v, policy in ((1, plus), (0, minus)):
            assert policy.tolist() == pytest.approx([joint[a, v] / total[v] for a in range(6)], abs=1e-14)
        assert torch.allclose(r * plus + (1 - r) * minus, OLD, atol=1e-15, rtol=0)
        assert (plus * right).sum() > (OLD * right).sum() + 0.05, "the policy of the right answers is better"


def test_repeated_splitting_ends_at_the_best_answers():
    """n splits weigh an answer by right^n: at once at the right answers for an exact verifier, slowly for a noisy one."""
    policy = OLD
    for n in range(1, 40):
        policy = nft.split(policy, NOISY)[0]
        assert torch.allclose(policy, OLD * NOISY**n / (OLD * NOISY**n).sum(), atol=1e-14, rtol=0)
    assert policy[0] > 0.999
    once = nft.split(OLD, EXACT)[0]
    assert (once * EXACT).sum().item() == pytest.approx(1, abs=1e-15)
    # From there on r is 1, which is why such prompts teach nothing and are dropped.
    assert torch.allclose(once * EXACT / (once * EXACT).sum(), once, atol=1e-15, rtol=0)


def test_the_implicit_negative_is_the_negative_only_at_the_positive():
    plus, minus, r = nft.split(OLD, NOISY)
    assert torch.allclose(nft.implicit_negative(OLD, plus, r), minus, atol=1e-15, rtol=0)
    other = dist(6, seed=9)
    implied = nft.implicit_negative(OLD, other, r)
    assert implied.sum().item() == pytest.approx(1, abs=1e-14)
    assert implied.min() < 0, "this policy asks for more of an answer than the old one had"
    assert torch.allclose(r * other + (1 - r) * implied, OLD, atol=1e-15, rtol=0)


def halves_gradient(logits, right, eps):
    """Gradients (6,) of both halves of the likelihood with respect to the logits of a softmax policy."""
    logits = logits.clone().requires_grad_()
    halves = nft.likelihoods(logits.softmax(-1), OLD, right, eps)
    return [torch.autograd.grad(half, logits, retain_graph=True)[0] for half in halves]


def test_the_likelihoods_by_loops():
    p, eps = dist(6, seed=1), 0.3
    for right in (EXACT, NOISY):
        r = sum(float(o * c) for o, c in zip(OLD, right, strict=True))
        positive = sum(float(o * c * math.log(q / o)) for o, c, q in zip(OLD, right, p, strict=True))
        negative = sum(
            float(o * (1 - c)) * math.log(max((1 - r * float(q / o)) / (1 - r), eps))
            for o, c, q in zip(OLD, right, p, strict=True)
        )
        assert [x.item() for x in nft.likelihoods(p, OLD, right, eps)] == pytest.approx([positive, negative], abs=1e-12)


@pytest.mark.parametrize("eps", [1.0, 0.1, 1e-3])
def test_both_halves_are_flat_at_the_positive_policy_of_an_exact_verifier(eps):
    plus = nft.split(OLD, EXACT)[0]
    for g in halves_gradient(plus.clamp_min(1e-300).log(), EXACT, eps):
        assert g.abs().max() < 1e-15
    away = halves_gradient(OLD.log(), EXACT, eps)
    assert all(g.abs().max() > 0.05 for g in away), "the oracle must see a gradient elsewhere"


def test_with_a_noisy_verifier_the_clip_moves_the_optimum():
    """At pi_plus the argument of the clip is (1 - right) / (1 - r): below it eps changes nothing, above it it does."""
    plus, _, r = nft.split(OLD, NOISY)
    smallest = ((1 - NOISY) / (1 - r)).min().item()
    for eps in (1e-9, 0.999 * smallest):
        positive, negative = halves_gradient(plus.clamp_min(1e-300).log(), NOISY, eps)
        assert positive.abs().max() < 1e-15 and negative.abs().max() < 1e-15
    for eps in (1.05 * smallest, 1.0):
        positive, negative = halves_gradient(plus.clamp_min(1e-300).log(), NOISY, eps)
        assert positive.abs().max() < 1e-15, "the half of the right answers has no clip"
        assert negative.abs().max() > (0.02 if eps == 1 else 1e-4)


def ascend(right, eps, halves, steps=800):
    """A softmax policy over six answers by exact gradients of the chosen halves, from the old policy: (6,)."""
    logits = OLD.log().clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - 0.99 * step / steps)
        found = nft.likelihoods(logits.softmax(-1), OLD, right, eps)
        optimiser.zero_grad()
        (-sum(found[i] for i in halves)).backward()
        optimiser.step()
    return logits.detach().softmax(-1)


@pytest.mark.parametrize("eps", [1.0, 0.1, 1e-3])
def test_a_table_converges_to_the_positive_policy(eps):
    learned = ascend(EXACT, eps, (0, 1))
    assert 0.5 * (learned - nft.split(OLD, EXACT)[0]).abs().sum() < 1e-3


def test_wrong_answers_alone_teach_the_positive_policy():
    """With a noisy verifier every answer says something about every other, and each half alone is enough."""
    plus = nft.split(OLD, NOISY)[0]
    for halves in ((0,), (1,), (0, 1)):
        learned = ascend(NOISY, 1e-3, halves)
        assert 0.5 * (learned - plus).abs().sum() < 2e-3, halves


# ---- the floor that keeps its gradient ----


def test_the_floor_bounds_the_value_and_keeps_the_gradient():
    x = torch.tensor([-3.0, -1e-3, 0.0, 0.4999, 0.5, 0.5001, 7.0], dtype=torch.float64, requires_grad=True)
    value = nft.max_v(x, 0.5)
    assert value.tolist() == [0.5, 0.5, 0.5, 0.5, 0.5, 0.5001, 7.0]
    assert torch.autograd.grad(value.sum(), x)[0].tolist() == [1.0] * 7


def test_the_floor_survives_rounding():
    """x + (max(x, eps) - x) is 0 in single precision where x = -1e6, and its logarithm is infinite."""
    x = torch.tensor([-1e6, -1.08e6, -3e7], requires_grad=True)
    assert nft.max_v(x, 0.01).tolist() == pytest.approx([0.01] * 3)
    assert (x + (x.clamp_min(0.01) - x).detach()).log().isinf().any(), "the oracle must see the danger"


def test_a_wrong_answer_that_became_certain_gives_a_finite_loss():
    """In single precision, with a ratio of e^30 at a wrong token of a prompt that is nearly solved."""
    logp, zero, one = torch.zeros(1, 1, requires_grad=True), torch.zeros(1), torch.ones(1)
    for old in (-30.0, -200.0):  # e^200 is infinite
        known = (torch.tensor([[old]]), zero, 0.98 * one, torch.ones(1, 1))
        loss = nft.nft_loss(logp, *known, eps=0.01, omega="one")
        assert loss.item() == pytest.approx(-math.log(0.01), rel=1e-5)
        (slope,) = torch.autograd.grad(loss, logp)
        assert math.isfinite(slope.item())
        assert nft.nft_loss(logp, known[0], one, *known[2:], omega="one").item() == -10


# ---- the loss against GRPO, written anew ----


def advantage_gradient(reward, mask, K, standardise):
    """-A / B at the tokens of each answer, by Python floats: what GRPO's loss has for a gradient when R = 1."""
    rows = []
    for b, length in enumerate(mask.sum(1).int().tolist()):
        group = reward[b // K * K : b // K * K + K].tolist()
        mean = sum(group) / K
        deviation = math.sqrt(sum((x - mean) ** 2 for x in group) / K) if standardise else 1.0
        rows.append([-(reward[b].item() - mean) / deviation / len(reward)] * length + [0.0] * (mask.shape[1] - length))
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("K", [2, 5, 16])
@pytest.mark.parametrize(("omega", "standardise"), [("std", True), ("gap", False)])
@pytest.mark.parametrize("eps", [1.0, 0.01])
def test_on_fresh_answers_nft_is_grpo(K, omega, standardise, eps):
    """The headline: the gradients differ by rounding only, with masks, for every number of right answers, any eps <= 1."""
    for seed in range(3):
        _, old, reward, r, mask = answers(K, seed=seed)
        got = gradient(nft.nft_loss, old, old, reward, r, mask, eps=eps, omega=omega)
        want = advantage_gradient(reward, mask, K, standardise)
        assert (got - want).abs().max() < 1e-12
        rival = baselines.grpo_loss if standardise else baselines.dr_grpo_loss
        assert (got - gradient(rival, old, old, reward, r, mask)).abs().max() < 1e-12
    assert want.abs().max() > 0.01


def test_on_stale_answers_nft_is_not_grpo():
    """The control: with ratios around 1 but not 1 the two differ, so the comparison in training is one of methods."""
    logp, old, reward, r, mask = answers(K=8)
    for omega, rival in (("std", baselines.grpo_loss), ("gap", baselines.dr_grpo_loss)):
        own = gradient(nft.nft_loss, logp, old, reward, r, mask, omega=omega)
        assert (own - gradient(rival, logp, old, reward, r, mask)).abs().max() > 1e-3


def gpt(seed=0, vocab=8, scale=6.0, **sizes):
    """Weights larger than at the start of training, so that the next token depends on all of the text."""
    sizes = {"context": 12, "width": 16, "layers": 2, "heads": 2} | sizes
    model = GPT(GPTConfig(vocab, **sizes), torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                p.mul_(scale)
    return model


class First:
    """Prompt: some letters. Right: any answer that begins with the first of them and ends within three tokens."""

    max_new = 3

    def __init__(self, longest=3, right=None):
        self.longest, self.right, self.tokenizer = longest, right, CharTok("abcd")

    def sample_prompts(self, n, rng, split):
        return [Prompt("".join(rng.choice(list("abcd"), rng.integers(1, self.longest + 1)))) for _ in range(n)]

    def verify(self, prompt, text):
        right = text[:1] == prompt.text[0] if self.right is None else self.right
        return Result(float(right))


SMALL = {"checkpoint": "tiny", "prompts": 4, "answers": 6, "updates": 2, "pool": 24, "eval_prompts": 16}


LEARNING = {"prompts": 8, "answers": 8, "updates": 4, "lr": 1e-2, "pool": 60, "eval_every": 99}


@pytest.fixture
def agent(monkeypatch):
    """NFT agents on tasks of four letters, each from the same random model unless told otherwise."""

    def make(task=None, loss=None, double=False, model=None, **options):
        monkeypatch.setitem(shipped.RECIPES, "tiny", SimpleNamespace(task=First() if task is None else task))
        monkeypatch.setattr(shipped, "load", lambda name: copy.deepcopy(gpt() if model is None else model))
        made = NFT(Config(**{"checkpoint": "tiny"} | SMALL | options), loss)
        if double:
            made.policy.double()
        return made

    return make


def test_on_fresh_answers_nft_is_grpo_in_every_weight_of_a_network(agent):
    """The same, for the gradient by the parameters of a transformer, of answers that it sampled itself."""
    made = agent(double=True)
    data, _ = made.collect()
    r, _ = nft.success_rate(data.reward, data.K)
    grads = []
    for loss in (
        lambda *known: nft.nft_loss(*known, omega="std"),
        baselines.grpo_loss,
        lambda *known: nft.nft_loss(*known, omega="gap"),
        baselines.dr_grpo_loss,
    ):
        logp = score(made.policy, data.prompt, data.n_pad, data.answer, data.mask).logp
        grads.append(
            torch.autograd.grad(loss(logp, data.old_logp, data.reward, r, data.mask), made.policy.parameters())
        )
    for one, other in (grads[:2], grads[2:]):
        assert max((a - b).abs().max().item() for a, b in zip(one, other, strict=True)) < 1e-12
    assert max((a - b).abs().max().item() for a, b in zip(grads[0], grads[2], strict=True)) > 1e-3


# ---- the loss itself ----


def test_the_loss_by_loops():
    logp, old, reward, r, mask = answers(K=5, drift=1.0)
    for eps, omega, neg_weight in ((1.0, "gap", 1.0), (0.2, "std", 0.5), (0.7, "one", 2.0)):
        total = 0.0
        for b in range(len(reward)):
            weight = {"gap": 1 - float(r[b]), "one": 1.0, "std": math.sqrt((1 - float(r[b])) / float(r[b]))}[omega]
            for t in range(int(mask[b].sum())):
                ratio = math.exp(float(logp[b, t] - old[b, t]))
                if reward[b] == 1:
                    total -= weight * math.log(ratio)
                else:
                    x = (1 - float(r[b]) * ratio) / (1 - float(r[b]))
                    total -= weight * neg_weight * math.log(max(x, eps))
        got = nft.nft_loss(logp, old, reward, r, mask, eps, omega, neg_weight).item()
        assert got == pytest.approx(total / len(reward), abs=1e-12)


@pytest.mark.parametrize("omega", nft.OMEGAS)
def test_the_gradient_by_finite_differences_away_from_the_floor(omega):
    logp, old, reward, r, mask = answers(drift=0.05)
    x = (1 - r[:, None] * (logp - old).exp()) / (1 - r[:, None])
    assert (x > 0.02).all(), "no token may touch the floor, where value and gradient part on purpose"
    assert gradcheck(lambda y: nft.nft_loss(y, old, reward, r, mask, 0.01, omega, 0.7), logp.requires_grad_())


def test_the_gradient_below_the_floor_is_that_of_x_over_eps():
    """R = 1.8 at the wrong tokens of a prompt with r = 0.6: x = -0.2, and the gradient still says: less of this."""
    one, eps = torch.ones(1, dtype=torch.float64), 0.25
    old = torch.tensor([[-2.0, -1.0]], dtype=torch.float64)
    logp, ratio, r = old + math.log(1.8), 1.8, 0.6
    got = gradient(nft.nft_loss, logp, old, 0 * one, r * one, torch.ones(1, 2), eps=eps, omega="one")
    assert got.tolist()[0] == pytest.approx([r / (1 - r) * ratio / eps] * 2, rel=1e-12)
    # The same from the gradient of x itself, by central differences.
    step = 1e-6
    slope = [(1 - r * 1.8 * math.exp(h)) / (1 - r) for h in (step, -step)]
    assert got[0, 0].item() == pytest.approx(-(slope[0] - slope[1]) / (2 * step) / eps, rel=1e-6)


def test_weights_are_the_gradient_by_the_ratio():
    for r in (0.1, 0.6, 0.9):
        for omega in nft.OMEGAS:
            for eps in (1.0, 0.2):
                ratio = torch.linspace(0.05, 2, 40, dtype=torch.float64)[:, None]
                weights = nft.token_weights(ratio, r, eps, omega)
                for reward, weight in zip((1.0, 0.0), weights, strict=True):
                    one = torch.ones(40, dtype=torch.float64)
                    known = (0 * ratio, reward * one, r * one, one[:, None])
                    found = -40 * gradient(nft.nft_loss, ratio.log(), *known, eps=eps, omega=omega) / ratio
                    assert torch.allclose(found, weight, rtol=1e-10, atol=0)
    ratio = torch.tensor([1.2], dtype=torch.float64)
    right, wrong = nft.token_weights(ratio, 0.6, 1.0)
    assert (right.item(), wrong.item()) == pytest.approx((1 / 1.2, -1.5))
    assert nft.token_weights(ratio, 0.6, 0.5)[1].item() == pytest.approx(-1.5 / 0.7)  # -2.14


def test_eps_one_bounds_the_weight_of_wrong_tokens():
    ratio = torch.linspace(0, 60, 2000, dtype=torch.float64)[1:]
    for r in (0.02, 0.5, 0.98):
        odds = r / (1 - r)
        assert nft.token_weights(ratio, r, 1.0)[1].abs().max().item() == pytest.approx(odds, rel=1e-12)
        assert nft.token_weights(ratio, r, 0.1)[1].abs().max().item() == pytest.approx(10 * odds, rel=1e-12)


def test_without_wrong_answers_it_is_maximum_likelihood():
    """neg_weight 0 and omega "one": the gradient of -log pi at right tokens, though not its value."""
    logp, old, reward, r, mask = answers(K=5)
    rows = [[-float(reward[b]) / len(reward)] * 5 for b in range(len(reward))]
    likelihood = torch.tensor(rows, dtype=torch.float64) * mask
    got = gradient(nft.nft_loss, logp, old, reward, r, mask, omega="one", neg_weight=0.0)
    assert torch.allclose(got, likelihood, atol=1e-15, rtol=0)
    assert torch.allclose(gradient(baselines.rft_loss, logp, old, reward, r, mask), likelihood, atol=1e-15, rtol=0)
    constant = -(old * mask * reward[:, None]).sum() / len(reward)
    own = nft.nft_loss(logp, old, reward, r, mask, omega="one", neg_weight=0.0)
    assert (baselines.rft_loss(logp, old, reward, r, mask) - own).item() == pytest.approx(constant.item(), abs=1e-12)
    # With the default omega prompts keep their weights 1 - r: the script of the authors does that.
    weighted = gradient(nft.nft_loss, logp, old, reward, r, mask, neg_weight=0.0)
    assert torch.allclose(weighted, likelihood * (1 - r)[:, None], atol=1e-15, rtol=0)


def test_answers_of_a_prompt_may_be_exchanged_prompts_may_not():
    K = 6
    logp, old, reward, r, mask = answers(K)
    rng = np.random.default_rng(0)
    within = torch.tensor(np.concatenate([g * K + rng.permutation(K) for g in range(4)]))
    loss = nft.nft_loss(logp, old, reward, r, mask)
    shuffled = [x[within] for x in (logp, old, reward, mask)]
    again = nft.success_rate(shuffled[2], K)[0]
    assert nft.nft_loss(*shuffled[:3], again, shuffled[3]).item() == pytest.approx(loss.item(), abs=1e-13)
    across = nft.nft_loss(logp, old, reward, r.view(4, K).roll(2, 0).reshape(-1), mask)
    assert abs(across.item() - loss.item()) > 1e-3, "each prompt has its own success rate"


def test_padding_does_not_count():
    logp, old, reward, r, mask = answers()
    noise = numbers(*mask.shape, seed=5) * (1 - mask)
    for loss in (nft.nft_loss, baselines.rft_loss, baselines.grpo_loss, baselines.dr_grpo_loss, baselines.dapo_loss):
        clean = loss(logp, old, reward, r, mask).item()
        assert loss(logp + noise, old, reward, r, mask).item() == pytest.approx(clean, abs=1e-13)
        assert (gradient(loss, logp + noise, old, reward, r, mask) * (1 - mask) == 0).all()


@pytest.mark.parametrize("solved", [0.0, 1.0])
def test_groups_without_contrast_give_a_finite_loss_and_are_filtered(solved):
    """1 - r = 0 would divide by zero: r is kept in [0.02, 0.98], and the loop drops these prompts before."""
    reward = torch.full((4,), solved, dtype=torch.float64)
    r, mixed = nft.success_rate(reward, 4)
    assert r.tolist() == [solved] * 4 and not mixed.any()
    old = torch.full((4, 2), -1.0, dtype=torch.float64)
    for omega in nft.OMEGAS:
        loss = nft.nft_loss(old + 0.1, old, reward, r, torch.ones(4, 2), omega=omega)
        kept = nft.nft_loss(old + 0.1, old, reward, r.clamp(0.02, 0.98), torch.ones(4, 2), omega=omega)
        assert math.isfinite(loss.item()) and loss.item() == kept.item()


def test_success_rates_by_brute_force():
    rng = np.random.default_rng(0)
    for K in (2, 3, 8):
        reward = rng.integers(0, 2, 20 * K)
        r, mixed = nft.success_rate(torch.tensor(reward, dtype=torch.float64), K)
        for b in range(20 * K):
            group = [reward[i] for i in range(20 * K) if i // K == b // K]
            assert r[b].item() == pytest.approx(sum(group) / K, abs=1e-15)
            assert mixed[b].item() == (0 in group and 1 in group)


def test_rewards_must_be_verdicts():
    for bad in (0.5, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"row 2"):
            nft.success_rate(torch.tensor([0.0, 1.0, bad, 1.0]), 2)
    with pytest.raises(ValueError, match="whole groups of 3"):
        nft.success_rate(torch.ones(4), 3)
    with pytest.raises(ValueError, match="'mean'"):
        nft.prompt_weight(torch.ones(2) / 2, "mean")


# ---- the baselines ----


@pytest.mark.parametrize("K", [2, 5, 16])
def test_the_advantages_of_the_baselines_are_those_of_groups(K):
    _, _, reward, r, _ = answers(K)
    assert torch.allclose(baselines.advantage(reward, r), group_adv(reward, K, "grpo", eps=0.0), atol=1e-12)


def test_the_clipped_losses_by_loops():
    logp, old, reward, r, mask = answers(K=5, drift=0.4)
    for loss, standardise, hi, per_token in (
        (baselines.grpo_loss, True, 0.2, False),
        (baselines.dr_grpo_loss, False, 0.2, False),
        (baselines.dapo_loss, True, 0.28, True),
    ):
        total = 0.0
        for b in range(len(reward)):
            mean = float(r[b])
            a = (float(reward[b]) - mean) / (math.sqrt(mean * (1 - mean)) if standardise else 1)
            for t in range(int(mask[b].sum())):
                ratio = math.exp(float(logp[b, t] - old[b, t]))
                total -= min(ratio * a, min(max(ratio, 0.8), 1 + hi) * a)
        total /= float(mask.sum()) if per_token else len(reward)
        assert loss(logp, old, reward, r, mask).item() == pytest.approx(total, abs=1e-12)


def test_weights_of_the_clipped_losses_are_their_gradients():
    ratio = torch.linspace(0.31, 1.93, 33, dtype=torch.float64)[:, None]
    assert ((ratio - 0.8).abs().min() > 1e-6) and ((ratio - 1.2).abs().min() > 1e-6)
    for loss, standardise in ((baselines.grpo_loss, True), (baselines.dr_grpo_loss, False)):
        weights = baselines.clip_weights(ratio, 0.3, standardise=standardise)
        for reward, weight in zip((1.0, 0.0), weights, strict=True):
            one = torch.ones(33, dtype=torch.float64)
            found = -33 * gradient(loss, ratio.log(), 0 * ratio, reward * one, 0.3 * one, one[:, None]) / ratio
            assert torch.allclose(found, weight, rtol=1e-10, atol=1e-12)
            assert 0 < (weight == 0).sum() < 33, "all or nothing, and both occur"


# ---- collecting answers ----


def test_only_prompts_with_right_and_wrong_answers_are_kept(agent):
    made = agent(pool=400, prompts=8, draws=20)
    data, log = made.collect()
    assert len(data.reward) == 8 * 6 == len(data.texts) == len(data.results)
    prompts = [tuple(row) for row in data.prompt.tolist()]
    for g in range(8):
        rows = range(6 * g, 6 * g + 6)
        assert len({prompts[b] for b in rows}) == 1, "the answers to one prompt are neighbours"
        assert 0 < sum(data.reward[b].item() for b in rows) < 6
        assert data.group[rows.start : rows.stop].tolist() == [g] * 6
    for row, answer, reward in zip(prompts, data.answer.tolist(), data.reward.tolist(), strict=True):
        first = next(i for i in row if i > SEP)
        assert reward == float(EOS in answer and answer[0] == first)
    assert 0 < log["mixed"] <= 1 and log["tokens"] >= data.mask.sum()


def test_no_prompt_twice_in_an_iteration_and_no_more_draws_than_allowed(agent, monkeypatch):
    asked = []

    def watch(policy, task, prompts, *rest, **options):
        asked.append([id(p) for p in prompts])
        return rollout(policy, task, prompts, *rest, **options)

    monkeypatch.setattr(nft, "rollout", watch)
    for right, model, draws, sizes in ((False, None, 3, [4] * 3), (True, certain(), 9, [4] * 6)):  # the pool holds 24
        asked.clear()
        data, log = agent(First(right=right), model=model, draws=draws).collect()
        assert [len(x) for x in asked] == sizes
        assert len({i for x in asked for i in x}) == sum(sizes), "a prompt came twice"
        assert len(data.reward) == 0 and log["mixed"] == 0
    asked.clear()
    agent(draws=9, pool=60).collect()
    assert sum(len(x) for x in asked) == len({i for x in asked for i in x}) < 60
    assert all(len(x) <= 4 for x in asked) and len(asked) > 1, "later draws ask for what is missing"


def test_answers_longer_than_the_window_are_wrong(agent):
    """The verifier here accepts every text: what counts against an answer is that it does not end."""
    data, log = agent(First(right=True), model=gpt(scale=3.0), prompts=8).collect()
    assert len(data.reward) > 0 and data.reward.mean() < 1
    for row, mask, reward in zip(data.answer.tolist(), data.mask.tolist(), data.reward.tolist(), strict=True):
        assert reward == float(EOS in row[: int(sum(mask))])
    assert 0.05 < log["reward"] < 0.95


def test_joined_rollouts_keep_their_scores():
    """Prompts of 2 and 4 tokens, answers of 1 and 3: after padding, each row scores as it did alone."""
    policy, task, generator = gpt(), First(), torch.Generator().manual_seed(0)
    parts = [
        rollout(policy, task, [Prompt(text) for text in prompts], 3, max_new=new, generator=generator)
        for prompts, new in ((["a", "b"], 1), (["abc", "d"], 3), (["c"], 2))
    ]
    data = nft.join(parts)
    assert data.prompt.shape == (15, 4) and data.answer.shape == data.mask.shape == (15, 3)
    assert data.group.tolist() == [g for g in range(5) for _ in range(3)] and data.K == 3
    again = score(policy, data.prompt, data.n_pad, data.answer, data.mask)
    assert torch.allclose(again.logp, data.old_logp, atol=1e-5)
    assert (data.old_logp != 0).sum() == sum(int(p.mask.sum()) for p in parts) == data.mask.sum()
    assert data.texts == tuple(t for p in parts for t in p.texts)
    length = data.mask.sum(1).int().tolist()
    texts = [task.tokenizer.decode(row[:n], special=True) for row, n in zip(data.answer.tolist(), length, strict=True)]
    assert texts == list(data.texts)
    assert data.reward.tolist() == [x for p in parts for x in p.reward.tolist()]


def test_an_iteration_without_contrast_changes_nothing(agent):
    for right in (True, False):
        made = agent(First(right=right), model=gpt(scale=1.0) if not right else certain())
        before = copy.deepcopy(made.policy.state_dict())
        logs = list(made.learn(2))
        assert [log["step"] for log in logs] == [0, 1, 2] and logs[-1]["progress"] == 1
        assert logs[1]["mixed"] == 0 and "loss" not in logs[1] and logs[1]["reward"] == float(right)
        assert all(torch.equal(before[k], v) for k, v in made.policy.state_dict().items())


def certain():
    """A model that ends its answer at once: the logit of <eos> is far up everywhere."""
    model = gpt(scale=1.0)
    with torch.no_grad():
        model.norm.bias.fill_(1.0)
        model.token.weight[EOS] = 2.0
    return model


# ---- training ----


def test_training_and_test_problems_are_disjoint_and_the_pool_belongs_to_the_seed(agent):
    chain = {"task": Chain(), "model": gpt(vocab=len(Chain().tokenizer), context=20), "pool": 64, "eval_prompts": 64}
    first, again, other = agent(**chain), agent(**chain, loss=baselines.grpo_loss), agent(**chain, seed=1)
    assert {split_of(p.text) for p in first.pool} == {"train"} and {split_of(p.text) for p in first.test} == {"test"}
    assert first.pool == again.pool != other.pool
    assert first.test == again.test == other.test


def test_all_methods_see_the_same_prompts(agent, monkeypatch):
    asked = []

    def watch(policy, task, prompts, *rest, **options):
        asked.append([p.text for p in prompts])
        return rollout(policy, task, prompts, *rest, **options)

    monkeypatch.setattr(nft, "rollout", watch)
    streams = []
    for loss in (None, baselines.rft_loss, baselines.grpo_loss):
        made, first = agent(loss=loss, draws=2, lr=1e-2), []
        for _ in range(4):
            asked.clear()
            data, _ = made.collect()
            first.append(asked[0])
            made.update(data)
        streams.append(first)
    assert streams[0] == streams[1] == streams[2]
    assert len({tuple(x) for x in streams[0]}) == 4, "and new ones in every iteration"


def test_the_gradient_of_an_update_is_that_of_the_loss(agent):
    """One mini-batch, float64: what reaches the optimiser is the clipped gradient of nft_loss over all answers."""
    made = agent(double=True, updates=1, max_grad_norm=1e9, eps=0.5, omega="std", neg_weight=0.5)
    made.update(made.collect()[0])  # its gradient must not linger
    twin = copy.deepcopy(made.policy)
    data, _ = made.collect()
    log = made.update(data)
    logp = score(twin, data.prompt, data.n_pad, data.answer, data.mask).logp
    r = data.reward.view(-1, 6).mean(1).repeat_interleave(6)
    loss = nft.nft_loss(logp, data.old_logp, data.reward, r, data.mask, 0.5, "std", 0.5)
    assert log["loss"] == pytest.approx(loss.item(), abs=1e-12)
    for p, g in zip(made.policy.parameters(), torch.autograd.grad(loss, twin.parameters()), strict=True):
        assert torch.allclose(p.grad, g, atol=1e-12, rtol=0)
    # On fresh answers the weights are those of eq. (8) at R = 1.
    assert log["drift"] < 1e-12 and log["clipped"] == pytest.approx(0)
    tokens = {x: (data.mask * (data.reward == x).double()[:, None]) for x in (1, 0)}
    omega = ((1 - r) / r).sqrt()[:, None]
    assert log["right"] == pytest.approx(((omega * tokens[1]).sum() / tokens[1].sum()).item(), rel=1e-9)
    wrong = -0.5 * ((omega * (r / (1 - r))[:, None] * tokens[0]).sum() / tokens[0].sum()).item()
    assert log["wrong"] == pytest.approx(wrong, rel=1e-9)


def test_gradients_are_shortened(agent):
    made = agent(updates=1, max_grad_norm=1e-3)
    made.update(made.collect()[0])
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in made.policy.parameters()))
    assert norm == pytest.approx(1e-3, rel=1e-2)


def test_several_steps_leave_the_policy_that_sampled(agent):
    """With four mini-batches the ratios leave 1, so NFT and GRPO can differ; with one they cannot."""
    drift = {updates: [] for updates in (1, 4)}
    for updates, seen in drift.items():
        made = agent(updates=updates, lr=1e-2)
        seen += [log["drift"] for log in made.learn(3) if "drift" in log]
    assert max(drift[1]) < 1e-5 and min(drift[4]) > 1e-3
    made = agent(updates=1)
    assert made.update(made.collect()[0])["clipped"] == 0, "on fresh answers eps = 1 touches nothing but by rounding"


def test_the_step_size_falls_to_a_tenth(agent):
    made, rates = agent(lr=1e-3), []
    for log in made.learn(10):
        if log["step"]:
            rates.append(made.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3 * (1 - 0.09 * i) for i in range(10)])


def test_training_repeats_itself_and_evaluation_does_not_disturb_it(agent):
    agents = [agent(seed=s, eval_every=e) for s, e in ((0, 1), (0, 1), (0, 9), (1, 1))]
    state = torch.get_rng_state()
    runs = [list(made.learn(3)) for made in agents]
    assert torch.equal(torch.get_rng_state(), state), "a generator of its own"
    assert runs[0] == runs[1]
    assert [log["reward"] for log in runs[0][1:]] == [log["reward"] for log in runs[2][1:]]
    assert runs[0][-1] == runs[2][-1], "evaluated at the end in any case"
    assert "accuracy" in runs[0][1] and "accuracy" not in runs[2][1]
    assert runs[0][-1] != runs[3][-1]
    assert all(math.isfinite(x) for log in runs[0] for x in log.values())


def test_the_evaluation_by_loops(agent):
    """Entropy and accuracy recomputed from the answers of the same random numbers; greedy by argmax."""
    made = agent(eval_prompts=12, model=gpt(scale=1.0), **LEARNING)
    list(made.learn(12))  # half-way: some answers are right
    found = made.evaluate()
    assert found == made.evaluate()
    total, tokens = 0.0, 0
    generator = nft.torch_generator(0, 2)
    data = rollout(made.policy, made.task, made.test, 1, max_new=3, generator=generator)
    for b in range(12):
        prompt = [BOS, *made.task.tokenizer.encode(made.test[b].text)]
        ids = [*prompt, *data.answer[b, : int(data.mask[b].sum())].tolist()]
        p = made.policy(torch.tensor([ids[:-1]]))[0][0].detach().softmax(-1).double()
        for t in range(len(prompt) - 1, len(ids) - 1):
            total -= sum(float(x) * math.log(float(x)) for x in p[t])
            tokens += 1
    assert found["entropy"] == pytest.approx(total / tokens, rel=1e-4)
    assert found["accuracy"] == data.reward.mean().item()
    right = []
    for prompt in made.test:
        ids = greedy(made, prompt.text)
        right.append(EOS in ids and made.task.tokenizer.symbols[ids[0]] == prompt.text[0])
    assert found["greedy"] == pytest.approx(sum(right) / len(right))
    assert 0 < sum(right) < len(right), "the oracle must see both"


@torch.no_grad()
def greedy(made, text):
    """The most probable token at every step, by full forward passes: ids, <eos> included."""
    ids = [BOS, *made.task.tokenizer.encode(text)]
    start = len(ids)
    while len(ids) < start + made.task.max_new:
        ids.append(int(made.policy(torch.tensor([ids]))[0][0, -1].argmax()))
        if ids[-1] == EOS:
            break
    return ids[start:]


def test_act_is_greedy_and_takes_prompts_of_any_length(agent):
    made = agent()
    texts = ["a", "bcd", "da", "cccc"]
    assert made.act(texts) == [made.task.tokenizer.decode(greedy(made, text)) for text in texts]
    assert len(set(made.act(texts))) > 1, "the oracle must see different answers"
    with pytest.raises(ValueError, match="'x'"):
        made.act(["ax"])


@pytest.mark.slow
@pytest.mark.parametrize("loss", [None, baselines.rft_loss, baselines.grpo_loss, baselines.dapo_loss])
def test_every_method_learns_from_verdicts(agent, loss):
    """From a random model, 25 iterations raise the share of right answers from below 0.1 to above 0.9."""
    made = agent(First(longest=1), loss, model=gpt(scale=1.0), eval_prompts=64, **LEARNING)
    logs = list(made.learn(25))
    assert logs[0]["accuracy"] < 0.1 and logs[0]["entropy"] > 1.9
    assert logs[-1]["accuracy"] > 0.9
    sampled = [log["tokens"] for log in logs]
    assert sampled[0] == 0 and all(8 * 8 <= b - a <= 8 * 8 * 8 * 3 for a, b in zip(sampled, sampled[1:], strict=False))


# ---- bad settings ----


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"omega": "mean"}, "omega must be one of one, gap, std, got 'mean'"),
        ({"answers": 1}, "answers must be at least 2"),
        ({"prompts": 10, "updates": 4}, "multiple of updates"),
        ({"prompts": 0}, "prompts must be at least 1"),
        ({"updates": 0}, "updates must be at least 1"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"eval_every": 0}, "eval_every must be at least 1"),
        ({"pool": 8}, "must hold at least the 16 prompts"),
        ({"eps": 0.0}, "0 < eps <= 1"),
        ({"eps": 1.5}, "0 < eps <= 1"),
        ({"eps": math.nan}, "0 < eps <= 1"),
        ({"neg_weight": -1.0}, "neg_weight >= 0"),
        ({"neg_weight": math.nan}, "neg_weight >= 0"),
    ],
)
def test_settings_without_sense_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        Config(**bad)


def test_unknown_checkpoints_and_no_steps_are_refused(agent):
    with pytest.raises(ValueError, match="no checkpoint 'chain-XXL'"):
        NFT(Config(checkpoint="chain-XXL"))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        next(agent().learn(0))


def test_a_task_with_partial_credit_is_refused(agent, monkeypatch):
    monkeypatch.setattr(First, "verify", lambda self, prompt, text: Result(0.25))
    with pytest.raises(ValueError, match=r"got 0\.25 in row"):
        agent().collect()


# ---- the reproduction ----


def test_a_table_by_the_experiment_is_the_one_of_the_tests():
    found = experiment.run_table(100)
    assert all(0 <= found[f"tv eps={eps:g}"] < 1e-3 for eps in experiment.FLOORS)
    assert found["noisy eps=1e-09"] < 1e-14 and found["noisy eps=1"] > 1e-3
    assert experiment.run_table(101) != found


def test_the_experiment_measures_what_was_logged(agent):
    """Three evaluations of six iterations; the metrics recomputed from the logs of a twin."""
    made, twin = (agent(eval_every=3, model=gpt(scale=1.0)) for _ in range(2))
    found, logs = experiment.run_method(made, 6), list(twin.learn(6))
    evaluations = [logs[0], logs[3], logs[6]]
    for key in ("accuracy", "greedy", "entropy"):
        assert found["curves"][key] == [[log["step"], round(log[key], 4)] for log in evaluations]
    reward = [[3, sum(log["reward"] for log in logs[1:4]) / 3], [6, sum(log["reward"] for log in logs[4:]) / 3]]
    assert np.allclose(found["curves"]["reward"], reward, atol=1e-5)
    metrics = found["metrics"]
    assert metrics["final entropy"] == pytest.approx(sum(log["entropy"] for log in evaluations) / 3)
    assert metrics["final accuracy"] == pytest.approx(sum(log["accuracy"] for log in evaluations) / 3)
    assert metrics["start accuracy"] == logs[0]["accuracy"]
    assert metrics["tokens"] == logs[6]["tokens"]


def test_gradients_of_the_experiment(agent, monkeypatch):
    """Equal to rounding on fresh answers, visibly different once four steps were taken."""
    made = agent(updates=4, lr=1e-2)
    monkeypatch.setattr(experiment, "NFT", lambda config: made)
    found = experiment.run_gradients(0)
    for omega in ("std", "gap"):
        assert found[f"{omega} fresh"] < 1e-12 and found[f"{omega} stale, relative"] > 0.01


@pytest.mark.slow
@pytest.mark.skipif(
    not shipped.intact("chain-S"), reason="the checkpoint chain-S is missing: python -m minirl.lm.shipped"
)
def test_on_fresh_answers_of_the_shipped_model_nft_is_grpo():
    found = experiment.run_gradients(100)
    for omega in ("std", "gap"):
        assert found[f"{omega} fresh"] < 1e-12 and found[f"{omega} stale, relative"] > 0.01


def test_the_plan_names_every_arm_once_a_seed():
    plan = experiment.plan(5)
    assert len(plan) == len(set(plan)) == 7 * 5 + 3 * 3 + 5
    assert {arm for arm, _ in plan} == {*experiment.ARMS, "exact"}
    with pytest.raises(ValueError, match="unknown arm 'PPO'"):
        experiment.run("PPO", 100)


def runs(**changes):
    """Made-up runs in which every claim holds; changes {"arm/metric": number} are set in every seed."""
    base = {"start accuracy": 0.45, "final accuracy": 0.66, "final entropy": 0.30}
    base |= {"start entropy": 0.20, "final greedy": 0.8, "clipped": 0.1}
    exact = {
        f"{omega} {when}": x for omega in ("std", "gap") for when, x in (("fresh", 1e-16), ("stale, relative", 0.2))
    }
    exact |= {f"tv eps={eps:g}": 1e-4 for eps in experiment.FLOORS} | {"noisy eps=1": 0.04, "noisy eps=1e-09": 1e-17}
    made = []
    for arm, seed in experiment.plan(5):
        metrics = dict(exact if arm == "exact" else base)
        if "RFT" in arm:
            metrics |= {"final entropy": 0.10, "final accuracy": 0.60 + 0.001 * seed}
        for name, value in changes.items():
            where, key = name.split("/")
            if where == arm:
                metrics[key] = value(seed) if callable(value) else value
        made.append({"arm": arm, "seed": seed, "metrics": metrics, "curves": {}})
    return made


JUDGED = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9")


def verdicts(made):
    return {c["id"]: c["verdict"] for c in experiment.claims(made)}


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({}, ()),
        ({"exact/std fresh": lambda seed: 2e-12 * (seed == 3)}, ("C1",)),
        ({"exact/gap fresh": 2e-12}, ("C1",)),
        ({"exact/tv eps=0.1": lambda seed: 0.002 * (seed == 4)}, ("C2",)),
        ({"NFT/start accuracy": lambda seed: 0.57 if seed == 2 else 0.45}, ("C3",)),
        ({"GRPO/final accuracy": 0.72}, ("C4",)),
        ({"Dr. GRPO/final accuracy": 0.60}, ("C4",)),
        ({"GRPO/final accuracy": 0.70}, ()),
        ({"RFT/final entropy": lambda seed: 0.4 if seed < 2 else 0.1}, ("C5",)),
        ({"RFT/final entropy": lambda seed: 0.4 if seed < 1 else 0.1}, ()),
        ({"NFT/start entropy": lambda seed: 0.4 if seed < 2 else 0.1}, ("C6",)),
        ({"RFT/final accuracy": lambda seed: 0.60 + 0.06 * (seed % 3)}, ("C7",)),
        ({"RFT/final accuracy": 0.60}, ("C7",)),  # no spread, so no interval: nothing is claimed
        ({"RFT, omega one/final accuracy": 0.9}, ()),
        ({"paths, RFT, omega one/final entropy": lambda seed: 0.4 if seed < 2 else 0.1}, ("C9",)),
    ],
)
def test_verdicts_follow_the_numbers(changes, fails):
    found = verdicts(runs(**changes))
    assert {id for id in JUDGED if found[id] == "not reproduced"} == set(fails)
    assert all(found[id] == "reproduced" for id in JUDGED if id not in fails)
    assert found["C10"] == found["C11"] == "cannot be shown here"


# ------------------------------------------------------------------- the wrong answers that the assignment must reject

WRONG = {
    "implicit_negative": {
        "forgets to divide by 1 - r": """
def implicit_negative(p_old, p_pos, r_q):
    return p_old - r_q[:, None] * p_pos
""",
        "cuts negative numbers off": """
def implicit_negative(p_old, p_pos, r_q):
    r = r_q[:, None]
    return np.maximum((p_old - r * p_pos) / (1 - r), 0)
""",
        "cuts negative numbers off and normalises": """
def implicit_negative(p_old, p_pos, r_q):
    p_neg = np.maximum(p_old - r_q[:, None] * p_pos, 0)
    return p_neg / p_neg.sum(axis=1, keepdims=True)
""",
        "the rate of the wrong prompt": """
def implicit_negative(p_old, p_pos, r_q):
    r = r_q[:, None] if p_old.shape[0] != p_old.shape[1] else r_q
    return (p_old - r * p_pos) / (1 - r)
""",
        "one rate for all prompts": """
def implicit_negative(p_old, p_pos, r_q):
    r = r_q.mean()
    return (p_old - r * p_pos) / (1 - r)
""",
        "divides by r": """
def implicit_negative(p_old, p_pos, r_q):
    r = r_q[:, None]
    return (p_old - r * p_pos) / r
""",
        "subtracts the whole positive policy": """
def implicit_negative(p_old, p_pos, r_q):
    return (p_old - p_pos) / (1 - r_q[:, None])
""",
        "the old policy where the network is silent": """
def implicit_negative(p_old, p_pos, r_q):
    p_neg = np.where(p_pos == 0, p_old, 0)
    return p_neg / p_neg.sum(axis=1, keepdims=True)
""",
        "changes its argument": """
def implicit_negative(p_old, p_pos, r_q):
    r = r_q[:, None]
    p_old -= r * p_pos
    return p_old / (1 - r)
""",
    },
    "max_v": {
        "an ordinary floor": """
def max_v(x, eps):
    return x.clamp_min(eps)
""",
        "the order of the formula": """
def max_v(x, eps):
    return (x.clamp_min(eps) - x).detach() + x
""",
        "passes no gradient at all": """
def max_v(x, eps):
    return x.clamp_min(eps).detach()
""",
        "no floor": """
def max_v(x, eps):
    return x + 0 * eps
""",
        "stops the gradient at the wrong term": """
def max_v(x, eps):
    return (x.clamp_min(eps) - x) + x.detach()
""",
        "twice the gradient above the floor": """
def max_v(x, eps):
    return x.clamp_min(eps) + (x - x.detach())
""",
        "a smooth floor": """
def max_v(x, eps):
    return eps + torch.nn.functional.softplus(20 * (x - eps)) / 20
""",
        "a ceiling": """
def max_v(x, eps):
    return x.clamp_max(eps).detach() + (x - x.detach())
""",
        "gradient of the sign only": """
def max_v(x, eps):
    return x.clamp_min(eps).detach() + torch.where(x < eps, -1.0, 1.0) * (x - x.detach())
""",
    },
    "prompt_weight": {
        "standard deviation of a sample, torch's default": """
def prompt_weight(reward, mode):
    gap = 1 - reward.mean(dim=1)
    return gap if mode == "dr_grpo" else gap / reward.std(dim=1)
""",
        "forgets the root": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1)
    return 1 - r if mode == "dr_grpo" else (1 - r) / r
""",
        "one over the standard deviation": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1)
    return torch.ones_like(r) if mode == "dr_grpo" else 1 / (r * (1 - r)).sqrt()
""",
        "names exchanged": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1)
    return 1 - r if mode == "grpo" else ((1 - r) / r).sqrt()
""",
        "the root of the odds of a right answer": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1)
    return r if mode == "dr_grpo" else (r / (1 - r)).sqrt()
""",
        "one mean for the whole batch": """
def prompt_weight(reward, mode):
    r = reward.mean().expand(len(reward))
    return 1 - r if mode == "dr_grpo" else ((1 - r) / r).sqrt()
""",
        "one weight for each answer": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1, keepdim=True).expand_as(reward)
    return 1 - r if mode == "dr_grpo" else ((1 - r) / r).sqrt()
""",
        "mean over the prompts": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=0)
    return 1 - r if mode == "dr_grpo" else ((1 - r) / r).sqrt()
""",
        "a small constant in the denominator": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1)
    return 1 - r if mode == "dr_grpo" else (1 - r) / ((r * (1 - r)).sqrt() + 1e-2)
""",
    },
    "keep_groups": {
        "drops only what is all wrong": """
def keep_groups(reward, finished, K):
    rate = (reward * finished).reshape(-1, K).mean(axis=1).repeat(K)
    return rate, rate > 0
""",
        "drops only what is all right": """
def keep_groups(reward, finished, K):
    rate = (reward * finished).reshape(-1, K).mean(axis=1).repeat(K)
    return rate, rate < 1
""",
        "trusts the verifier on answers that were cut off": """
def keep_groups(reward, finished, K):
    rate = reward.reshape(-1, K).mean(axis=1).repeat(K)
    return rate, (rate > 0) & (rate < 1)
""",
        "leaves answers that were cut off out of the mean": """
def keep_groups(reward, finished, K):
    right = (reward * finished).reshape(-1, K).sum(axis=1)
    rate = (right / np.maximum(finished.reshape(-1, K).sum(axis=1), 1)).repeat(K)
    return rate, (rate > 0) & (rate < 1)
""",
        "drops prompts with an answer that was cut off": """
def keep_groups(reward, finished, K):
    rate = (reward * finished).reshape(-1, K).mean(axis=1).repeat(K)
    return rate, (rate > 0) & (rate < 1) & finished.reshape(-1, K).all(axis=1).repeat(K)
""",
        "takes answers K apart for a group": """
def keep_groups(reward, finished, K):
    rate = np.tile((reward * finished).reshape(K, -1).mean(axis=0), K)
    return rate, (rate > 0) & (rate < 1)
""",
        "one rate for the whole batch": """
def keep_groups(reward, finished, K):
    rate = np.full(len(reward), (reward * finished).mean())
    return rate, (rate > 0) & (rate < 1)
""",
        "one entry for each prompt": """
def keep_groups(reward, finished, K):
    rate = (reward * finished).reshape(-1, K).mean(axis=1)
    return rate, (rate > 0) & (rate < 1)
""",
        "drops single answers": """
def keep_groups(reward, finished, K):
    rate = (reward * finished).reshape(-1, K).mean(axis=1).repeat(K)
    return rate, (rate > 0) & (rate < 1) & finished
""",
        "changes its argument": """
def keep_groups(reward, finished, K):
    reward *= finished
    rate = reward.reshape(-1, K).mean(axis=1).repeat(K)
    return rate, (rate > 0) & (rate < 1)
""",
    },
    "nft_loss": {
        "an ordinary floor": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = ((1 - rhat * log_ratio.exp()) / (1 - rhat)).clamp_min(eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / len(logp)
""",
        "one success rate for the whole batch": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat.mean()
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / len(logp)
""",
        "mean over the tokens of an answer": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask / mask.sum(1, keepdim=True)).sum() / len(logp)
""",
        "mean over all tokens": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / mask.sum()
""",
        "sum over the answers": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum()
""",
        "trains on the padding": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain).sum() / len(logp)
""",
        "throws wrong answers away": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    return -(omega[:, None] * reward[:, None] * (logp - old_logp) * mask).sum() / len(logp)
""",
        "lowers the likelihood of wrong answers instead": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    sign = 2 * reward[:, None] - 1
    return -(omega[:, None] * sign * (logp - old_logp) * mask).sum() / len(logp)
""",
        "forgets 1 - rhat under the fraction": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    log_ratio = logp - old_logp
    wrong = max_v(1 - rhat[:, None] * log_ratio.exp(), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / len(logp)
""",
        "forgets the weight of the prompt": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(gain * mask).sum() / len(logp)
""",
        "ratio upside down": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = old_logp - logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / len(logp)
""",
        "wrong sign": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return (omega[:, None] * gain * mask).sum() / len(logp)
""",
        "floor on the ratio": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = ((1 - rhat * log_ratio.exp().clamp_max(1.0)) / (1 - rhat)).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / len(logp)
""",
        "the ratio of the whole answer": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    log_ratio = ((logp - old_logp) * mask).sum(1)
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward == 1, log_ratio, wrong)
    return -(omega * gain).sum() / len(logp)
""",
    },
}
