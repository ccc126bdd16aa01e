"""The functions that methods are composed of, against loops, enumeration, finite differences and closed forms."""

import copy
import itertools
import math
from functools import cached_property

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F

from minirl.lm import dpo, rl_core, rm
from minirl.lm.gpt import GPT, GPTConfig
from minirl.lm.logp import score
from minirl.lm.rollout import accuracy, encode_prompts, minibatches, rollout, train
from minirl.lm.sample import sample
from minirl.lm.sft import sft, sft_loss, tensors
from minirl.lm.tasks import Prompt, Result
from minirl.lm.tok import BOS, EOS, PAD, SEP, CharTok, WordTok, left_pad, right_pad


def model(seed=0, scale=8.0, **sizes):
    """Weights larger than at the start of training, so that the next token depends on all of the text."""
    generator = torch.Generator().manual_seed(seed)
    gpt = GPT(GPTConfig(**({"vocab": 4, "context": 12, "width": 16, "layers": 2, "heads": 4} | sizes)), generator)
    with torch.no_grad():
        for p in gpt.parameters():
            if p.dim() == 2:
                p.mul_(scale)
    return gpt


def numbers(*shape, seed=0, grad=False):
    """Standard normal numbers in double precision."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.requires_grad_(grad)


def prefix_mask(*lengths, width=None):
    """1 at the first tokens of each row."""
    return (torch.arange(max(lengths) if width is None else width) < torch.tensor(lengths)[:, None]).double()


MASK = prefix_mask(5, 1, 3, 4)  # answers of 5, 1, 3 and 4 tokens


def all_answers(T=3):
    """Every answer over the 4 tokens that ends within T tokens, and every one of T that does not."""
    others = [PAD, BOS, SEP]
    ended = [[*body, EOS] for n in range(T) for body in itertools.product(others, repeat=n)]
    return right_pad(ended + [list(body) for body in itertools.product(others, repeat=T)])


def enumerate_scores(gpt, T=3):
    """Scores of every answer to one prompt, so that an expectation is a sum."""
    answer, mask = all_answers(T)
    return score(gpt, torch.tensor([[BOS, SEP]]).expand(len(answer), 2), None, answer, mask.double())


# ---- Kullback-Leibler ----


def test_the_estimators_of_kl_by_enumeration():
    """Over all 40 answers of at most 3 tokens: k1, k3 and the exact KL of each step sum to the KL of answers; k2 does not."""
    policy, ref = model(0).double(), model(1).double()
    with torch.no_grad():
        pi, q = enumerate_scores(policy), enumerate_scores(ref)
    p = pi.sequence.exp()
    assert len(p) == 40 and p.sum().item() == pytest.approx(1, abs=1e-12)
    exact = (p * (pi.sequence - q.sequence)).sum().item()
    assert exact > 0.1, "the oracle must see two different policies"
    for kl in (rl_core.kl_k1, rl_core.kl_k3):
        assert (p * (kl(pi.logp, q.logp) * pi.mask).sum(1)).sum().item() == pytest.approx(exact, abs=1e-12)
    steps = rl_core.kl_full(pi.logits, q.logits) * pi.mask
    assert (p * steps.sum(1)).sum().item() == pytest.approx(exact, abs=1e-12)
    assert abs((p * rl_core.kl_k2(pi.logp, q.logp).sum(1)).sum().item() - exact) > 1e-3
    assert (rl_core.kl_k1(pi.logp, q.logp) < 0).any()


def test_k2_and_k3_are_never_negative_and_agree_near_zero():
    logp, ref = 30 * numbers(10_000), 30 * numbers(10_000, seed=1)
    assert (rl_core.kl_k2(logp, ref) >= 0).all() and (rl_core.kl_k3(logp, ref) >= 0).all()
    small = torch.tensor([-1e-6, 1e-6, 0.0], dtype=torch.float64)
    for kl in (rl_core.kl_k2, rl_core.kl_k3):
        assert torch.allclose(kl(small, torch.zeros(3)), small.square() / 2, rtol=1e-5, atol=0)
    # In single precision exp(x) - 1 - x would round to 0 or below at such a distance.
    assert (rl_core.kl_k3(small[:2].float(), torch.zeros(2)) >= 0).all()


def test_full_kl_is_the_sum_over_the_vocabulary():
    a, b = numbers(2, 3, 7), numbers(2, 3, 7, seed=1)
    p, q = a.softmax(-1).numpy(), b.softmax(-1).numpy()
    assert np.allclose(rl_core.kl_full(a, b), (p * np.log(p / q)).sum(-1), atol=1e-12)
    assert torch.allclose(rl_core.kl_full(a, a + 3.0), torch.zeros(2, 3, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(
    "kl, error",
    [(6.6, 0.1), (5.4, -0.1), (6.0, 0.0), (100.0, 0.2), (0.0, -0.2)],
)
def test_adaptive_kl_by_hand(kl, error):
    control = rl_core.AdaptiveKL(beta=0.5, target=6.0, horizon=1000)
    assert control.update(kl, 50) == pytest.approx(0.5 * (1 + error * 0.05))
    assert control.beta == pytest.approx(0.5 * (1 + error * 0.05))


@pytest.mark.parametrize("start", [0.001, 100.0])
def test_adaptive_kl_finds_its_target(start):
    """A policy whose KL is 3 / beta needs beta = 1 / 2 for a KL of 6."""
    control = rl_core.AdaptiveKL(beta=start, target=6.0, horizon=1000)
    for _ in range(2000):
        control.update(3 / control.beta, 100)
    assert control.beta == pytest.approx(0.5, rel=1e-3)


# ---- rewards and advantages ----


def test_reward_stands_at_the_last_token_and_kl_at_each():
    reward, kl = numbers(4), numbers(4, 5, seed=1)
    got = rl_core.reward_to_tokens(reward, MASK, kl, beta=0.3)
    for i, n in enumerate([5, 1, 3, 4]):
        for t in range(5):
            want = (-0.3 * kl[i, t] if t < n else 0.0) + (reward[i] if t == n - 1 else 0.0)
            assert got[i, t].item() == pytest.approx(float(want), abs=1e-15)
    plain = rl_core.reward_to_tokens(reward, MASK)
    assert torch.equal(plain.sum(1), reward) and (plain != 0).sum() == 4


def test_an_answer_without_tokens_has_no_place_for_its_reward():
    with pytest.raises(ValueError, match="answer 1 has no token"):
        rl_core.reward_to_tokens(torch.ones(3), prefix_mask(2, 0, 1))


@pytest.mark.parametrize("gamma, lam", [(1.0, 1.0), (0.9, 0.8), (1.0, 0.0), (0.5, 1.0)])
def test_gae_is_the_double_loop(gamma, lam):
    """A_t = sum over k >= t of (gamma lam)^(k - t) delta_k, row by row over its own tokens only."""
    reward, value = numbers(4, 5), numbers(4, 5, seed=1)
    advantage, target = rl_core.gae(reward, value, MASK, gamma, lam)
    for i, n in enumerate([5, 1, 3, 4]):
        for t in range(5):
            want = 0.0
            for k in range(t, n):
                following = value[i, k + 1].item() if k + 1 < n else 0.0
                want += (gamma * lam) ** (k - t) * (reward[i, k].item() + gamma * following - value[i, k].item())
            assert advantage[i, t].item() == pytest.approx(want, abs=1e-12)
            assert target[i, t].item() == pytest.approx(want + value[i, t].item() if t < n else 0.0, abs=1e-12)


def test_gae_ignores_padding_and_passes_no_gradient():
    reward, value = numbers(4, 5), numbers(4, 5, seed=1, grad=True)
    advantage, target = rl_core.gae(reward, value, MASK, 0.9, 0.8)
    other = rl_core.gae(reward + 100 * (1 - MASK), value - 50 * (1 - MASK), MASK, 0.9, 0.8)
    assert torch.equal(advantage, other[0]) and torch.equal(target, other[1])
    assert not advantage.requires_grad and not target.requires_grad


def test_with_lambda_one_the_target_is_the_return():
    reward, value = numbers(4, 5), numbers(4, 5, seed=1)
    target = rl_core.gae(reward, value, MASK, 1.0, 1.0)[1]
    assert torch.allclose(target, (reward * MASK).flip(1).cumsum(1).flip(1) * MASK, atol=1e-12)


@pytest.mark.parametrize("K", [2, 3, 8])
def test_group_advantages_of_right_and_wrong(K):
    """m of K answers are right, p = m / K: closed forms for every m between all wrong and all right."""
    for m in range(1, K):
        p = m / K
        reward = torch.tensor([1.0] * m + [0.0] * (K - m), dtype=torch.float64)
        for kind, right, wrong in [
            ("grpo", math.sqrt((1 - p) / p), -math.sqrt(p / (1 - p))),
            ("dr_grpo", 1 - p, -p),
            ("rloo", (K - m) / (K - 1), -m / (K - 1)),
            ("none", 1.0, 0.0),
        ]:
            want = torch.tensor([right] * m + [wrong] * (K - m), dtype=torch.float64)
            assert torch.allclose(rl_core.group_adv(reward, K, kind), want, atol=1e-5), (kind, m)


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "rloo"])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e6 / 3])
@pytest.mark.parametrize("K", [2, 3, 7])
def test_groups_of_equal_rewards_teach_nothing(kind, value, K):
    """All right, all wrong, and values whose mean rounds: exactly 0, beside a group that is mixed."""
    reward = torch.tensor([value] * K + [0.0, 1.0] + [0.0] * (K - 2))
    advantage = rl_core.group_adv(reward, K, kind)
    assert (advantage[:K] == 0).all() and advantage[K + 1] > 0.1
    assert torch.isfinite(advantage).all()


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "rloo", "none"])
def test_group_advantages_by_loops(kind):
    reward, K = numbers(12), 4
    advantage = rl_core.group_adv(reward, K, kind)
    for i in range(12):
        group = reward[i // K * K : i // K * K + K].numpy()
        others = np.delete(group, i % K)
        want = {
            "grpo": (group[i % K] - group.mean()) / (group.std() + 1e-6),
            "dr_grpo": group[i % K] - group.mean(),
            "rloo": group[i % K] - others.mean(),
            "none": group[i % K],
        }[kind]
        assert advantage[i].item() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize(
    "reward, K, kind, words",
    [
        ([], 4, "grpo", "0 rewards are not one or more groups of 4"),
        ([1.0] * 6, 4, "grpo", "6 rewards are not one or more groups of 4"),
        ([1.0] * 6, 0, "none", "groups of 0"),
        ([1.0, 0.0], 1, "grpo", "needs K >= 2, got 1"),
        ([1.0, 0.0], 1, "dr_grpo", "needs K >= 2"),
        ([1.0, 0.0], 1, "rloo", "needs K >= 2"),
        ([1.0, 0.0], 2, "ppo", "must be grpo, dr_grpo, rloo or none, got 'ppo'"),
    ],
)
def test_bad_groups_are_refused(reward, K, kind, words):
    with pytest.raises(ValueError, match=words):
        rl_core.group_adv(torch.tensor(reward), K, kind)


def test_one_answer_a_prompt_needs_no_group_without_comparison():
    assert torch.equal(rl_core.group_adv(torch.tensor([1.0, 0.0]), 1, "none"), torch.tensor([1.0, 0.0]))


def test_whiten_has_mean_zero_and_variance_one_over_real_tokens():
    x = 5 + 3 * numbers(4, 5) + 1000 * (1 - MASK)
    got = rl_core.whiten(x, MASK)
    real = x[MASK == 1].numpy()
    assert np.allclose(got[MASK == 1], (real - real.mean()) / real.std(), atol=1e-8)
    assert (got[MASK == 0] == 0).all()
    assert (rl_core.whiten(torch.full((4, 5), 7.0).double(), MASK) == 0).all()


# ---- losses ----


@pytest.mark.parametrize(
    "agg, constant, weight",
    [
        ("token-mean", None, lambda n: 1 / 13),
        ("seq-mean", None, lambda n: 1 / (4 * n)),
        ("sum", None, lambda n: 1 / 4),
        ("sum", 96.0, lambda n: 1 / 96),
    ],
)
def test_the_weight_of_each_token(agg, constant, weight):
    x = numbers(4, 5, grad=True)
    rl_core.aggregate(x, MASK, agg, constant).backward()
    want = MASK * torch.tensor([weight(n) for n in (5, 1, 3, 4)], dtype=torch.float64)[:, None]
    assert torch.allclose(x.grad, want, atol=1e-15)
    assert rl_core.aggregate(torch.ones(4, 5), MASK, agg, constant).item() == pytest.approx(want.sum().item())


def test_aggregation_of_nothing():
    """An answer without tokens counts as a loss of 0 in seq-mean; without any token there is no mean over tokens."""
    assert rl_core.aggregate(torch.ones(2, 3), prefix_mask(3, 0), "seq-mean").item() == 0.5
    for call in (rl_core.masked_mean, lambda x, m: rl_core.aggregate(x, m, "token-mean")):
        with pytest.raises(ValueError, match="mask is empty"):
            call(torch.ones(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="must be token-mean, seq-mean or sum, got 'mean'"):
        rl_core.aggregate(torch.ones(2, 3), torch.ones(2, 3), "mean")


@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_where_the_clip_cuts_the_gradient_off(advantage):
    """lo 0.2, hi 0.5: a good token above 1.5 and a bad one below 0.8 get no gradient, everything else the plain one."""
    ratio = torch.tensor([[0.1, 0.79, 0.81, 1.0, 1.49, 1.51, 4.0]], dtype=torch.float64)
    logp = ratio.log().requires_grad_()
    mask = torch.ones_like(ratio)
    loss, cut = rl_core.ppo_clip(logp, torch.zeros_like(ratio), torch.tensor([advantage]), mask, 0.2, 0.5, "sum")
    loss.backward()
    blocked = ratio > 1.5 if advantage > 0 else ratio < 0.8
    assert torch.allclose(logp.grad, torch.where(blocked, 0.0, -advantage * ratio))
    assert cut.item() == pytest.approx(2 / 7) and not cut.requires_grad
    limited = ratio.clamp_max(1.5) if advantage > 0 else ratio.clamp_min(0.8)
    assert loss.item() == pytest.approx((-advantage * limited).sum().item())


def test_ppo_clip_takes_an_advantage_a_token_or_an_answer():
    logp, old, advantage = numbers(4, 5), numbers(4, 5, seed=1), numbers(4, seed=2)
    a = rl_core.ppo_clip(logp, old, advantage, MASK, 0.2, 0.2, "seq-mean")
    b = rl_core.ppo_clip(logp, old, advantage[:, None].expand(4, 5), MASK, 0.2, 0.2, "seq-mean")
    total, cut = 0.0, 0
    for i, n in enumerate([5, 1, 3, 4]):
        for t in range(n):
            r, A = math.exp(logp[i, t] - old[i, t]), advantage[i].item()
            plain, clipped = r * A, min(max(r, 0.8), 1.2) * A
            total -= min(plain, clipped) / n / 4
            cut += clipped < plain
    assert a[0].item() == pytest.approx(total) and b[0].item() == pytest.approx(total)
    assert a[1].item() == b[1].item() == pytest.approx(cut / 13) and cut > 0


def test_one_update_on_policy_is_the_policy_gradient():
    """Expected over all answers, PPO's first gradient is that of the expected reward, in float64 to 1e-12."""
    gpt = model(0).double()
    reward = numbers(40, seed=3)
    scores = enumerate_scores(gpt)
    p = scores.sequence.exp()
    exact = torch.autograd.grad(-(p * reward).sum(), list(gpt.parameters()))
    logp = enumerate_scores(gpt).logp
    advantage = reward * p.detach()  # the weight that each answer has in the expectation
    loss, cut = rl_core.ppo_clip(logp, logp.detach(), advantage, scores.mask, 0.2, 0.2, "sum", 1.0)
    ppo = torch.autograd.grad(loss, list(gpt.parameters()))
    assert max(g.abs().max() for g in exact) > 1e-3 and cut == 0
    for a, b in zip(exact, ppo, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("agg", ["token-mean", "seq-mean", "sum"])
def test_on_policy_the_loss_has_the_gradient_of_weighted_logp(agg):
    logp, advantage = numbers(4, 5, grad=True), numbers(4, 5, seed=1)
    loss, _ = rl_core.ppo_clip(logp, logp.detach(), advantage, MASK, 0.2, 0.2, agg)
    got = torch.autograd.grad(loss, logp)[0]
    want = torch.autograd.grad(-rl_core.aggregate(logp * advantage, MASK, agg), logp)[0]
    assert torch.allclose(got, want, atol=1e-15)


def test_value_clip_by_hand_and_its_zero_gradient():
    old, target, mask = torch.zeros(1, 5), torch.full((1, 5), 1.0), torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]])
    value = torch.tensor([[0.1, 0.5, -0.5, 1.9, 7.0]], requires_grad=True)
    loss = rl_core.value_clip_loss(value, old, target, mask, 0.2)
    # within the clip; beyond it towards the target (held); away from it (free); past the target and now farther (held)
    want = [0.9**2, 0.8**2, 1.5**2, 0.9**2]
    want[3] = max(0.9**2, 0.8**2)
    assert loss.item() == pytest.approx(0.5 * sum(want) / 4)
    loss.backward()
    assert torch.allclose(value.grad, torch.tensor([[-0.9, 0.0, -1.5, 0.9, 0.0]]) / 4)
    plain = rl_core.value_clip_loss(value, old, target, mask, 100.0)
    assert plain.item() == pytest.approx(0.5 * (0.81 + 0.25 + 2.25 + 0.81) / 4)


def test_gradients_of_all_losses_by_finite_differences():
    """torch's gradcheck: the analytic gradient against central differences in double precision."""
    a, b = numbers(6, grad=True), numbers(6, seed=1, grad=True)
    logp, old = numbers(4, 5, grad=True), numbers(4, 5, seed=1)
    advantage = numbers(4, 5, seed=2)
    for function, inputs in [
        (rl_core.kl_k1, (a, b)),
        (rl_core.kl_k2, (a, b)),
        (rl_core.kl_k3, (a, b)),
        (rl_core.kl_full, (numbers(3, 4, grad=True), numbers(3, 4, seed=1, grad=True))),
        (lambda x: rl_core.whiten(x, MASK), (logp,)),
        (lambda x: rl_core.ppo_clip(x, old, advantage, MASK, 0.2, 0.3, "token-mean")[0], (logp,)),
        (lambda x: rl_core.value_clip_loss(x, old, advantage, MASK, 0.3), (logp,)),
        (rm.bradley_terry_loss, (a, b)),
        (rm.plackett_luce_loss, (numbers(5, 4, grad=True),)),
        (rm.focal_ranking_loss, (a, b)),
        (lambda h: dpo.dpo_loss(h, 0.3), (a,)),
        (lambda h: dpo.ipo_loss(h, 0.3), (a,)),
    ]:
        assert gradcheck(function, inputs)


# ---- reward models and preferences ----


def test_bradley_terry_by_hand_and_far_out():
    chosen, rejected = torch.tensor([2.0, 0.0, 1000.0]), torch.tensor([1.0, 0.0, -1000.0])
    want = (-math.log(1 / (1 + math.exp(-1))) + math.log(2) + 0) / 3
    assert rm.bradley_terry_loss(chosen, rejected).item() == pytest.approx(want, rel=1e-6)
    assert rm.bradley_terry_loss(rejected[2:], chosen[2:]).item() == pytest.approx(2000)


def test_plackett_luce_of_two_is_bradley_terry():
    chosen, rejected = numbers(50), numbers(50, seed=1)
    got = rm.plackett_luce_loss(torch.stack([chosen, rejected], 1))
    assert got.item() == pytest.approx(rm.bradley_terry_loss(chosen, rejected).item(), abs=1e-12)


def test_plackett_luce_of_three_by_enumeration():
    """Probabilities of the 6 orders: the best is drawn by softmax, then the best of what is left; they sum to 1."""
    r, total = [0.3, -1.0, 2.0], 0.0
    for i, j, k in itertools.permutations(range(3)):
        e = [math.exp(x) for x in r]
        p = e[i] / sum(e) * e[j] / (e[j] + e[k])
        total += p
        got = rm.plackett_luce_loss(torch.tensor([[r[i], r[j], r[k]]], dtype=torch.float64)).item()
        assert got == pytest.approx(-math.log(p), abs=1e-12)
    assert total == pytest.approx(1)


def test_focal_loss_by_hand():
    chosen, rejected = numbers(20), numbers(20, seed=1)
    p = (chosen - rejected).sigmoid().numpy()
    assert rm.focal_ranking_loss(chosen, rejected, 3.0).item() == pytest.approx(np.mean(-((1 - p) ** 3) * np.log(p)))
    assert rm.focal_ranking_loss(chosen, rejected, 0.0).item() == pytest.approx(np.mean(-np.log(p)))


def test_corrupt_flips_the_share_that_it_says():
    labels = torch.arange(20_000) % 3 == 0
    for share in (0.0, 0.3, 1.0):
        flipped = rm.corrupt(labels, share, torch.Generator().manual_seed(0)) != labels
        assert flipped.float().mean().item() == pytest.approx(share, abs=0.02)  # six standard errors
        assert torch.equal(flipped, rm.corrupt(labels, share, torch.Generator().manual_seed(0)) != labels)


def test_calibration_by_hand():
    p = torch.tensor([0.05, 0.09, 0.55, 1.0, 1.0])
    label = torch.tensor([0, 1, 1, 1, 0])
    got = rm.calibration(torch.logit(p.double()), label)  # infinite for 1
    assert [n for _, _, n in got] == [2, 1, 2]
    assert [share for _, share, _ in got] == [0.5, 1.0, 0.5]
    assert [mean for mean, _, _ in got] == pytest.approx([0.07, 0.55, 1.0])


def test_labels_drawn_from_the_model_are_calibrated():
    difference = 3 * numbers(40_000)
    label = torch.rand(40_000, generator=torch.Generator().manual_seed(2)) < difference.sigmoid()
    table = rm.calibration(difference, label, bins=5)
    assert sum(n for _, _, n in table) == 40_000 and len(table) == 5
    for mean, share, n in table:
        assert share == pytest.approx(mean, abs=5 * math.sqrt(0.25 / n))


def test_reward_model_reads_the_last_token_whatever_surrounds_it():
    net = rm.RewardModel(GPTConfig(vocab=8, context=16, width=16), torch.Generator().manual_seed(0)).double()
    assert (net(torch.tensor([[BOS, 4]]), None, torch.tensor([[5, EOS]]), torch.ones(1, 2)) == 0).all()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    prompts, answers = [[BOS, 4], [BOS, 5, 6, 7], [BOS]], [[5, 6, EOS], [EOS], [4, 5, 6, 7, EOS]]
    prompt, n_pad = left_pad(prompts)
    answer, mask = right_pad(answers, width=7)
    got = net(prompt, n_pad, answer, mask)
    for i in range(3):
        alone = net.head(net.gpt(torch.tensor([prompts[i] + answers[i]]))[1])[0, -1]
        assert got[i].item() == pytest.approx(alone.item(), abs=1e-10)
    assert got.std() > 0.01, "the oracle must see different rewards"
    noise = torch.where(mask == 0, torch.full_like(answer, 6), answer)
    assert torch.allclose(net(prompt, n_pad, noise, mask), got, atol=1e-12)


@pytest.mark.parametrize("ridge", [0.5, 20.0])
def test_bow_reward_is_least_squares_with_penalty_rows(ridge):
    """Ridge is least squares with the rows sqrt(ridge) e_v added; numpy's solver, with a column for the bias."""
    rng = np.random.default_rng(0)
    rows = [list(rng.integers(4, 12, size=rng.integers(1, 9))) for _ in range(60)]
    ids, mask = right_pad(rows)
    reward = numbers(60)
    bow = rm.BowReward(12, ridge).fit(ids, mask, reward)
    X = np.array([[row.count(v) for v in range(12)] for row in rows], float)
    penalty = np.hstack([math.sqrt(ridge) * np.eye(12), np.zeros((12, 1))])
    solution = np.linalg.lstsq(
        np.vstack([np.hstack([X, np.ones((60, 1))]), penalty]), np.r_[reward.numpy(), np.zeros(12)], rcond=None
    )[0]
    assert np.allclose(bow.weight, solution[:12], atol=1e-10) and bow.bias == pytest.approx(solution[12])
    assert np.allclose(bow(ids, mask), X @ solution[:12] + solution[12], atol=1e-10)
    assert bow.weight.abs().max() > 0.01 and bow.weight[PAD] == 0, "padding is no word"


def test_dpo_by_hand_and_ipo_at_its_goal():
    h = dpo.margin(*(torch.tensor([x], dtype=torch.float64) for x in (-1.0, -2.0, -1.5, -1.0)))
    assert h.item() == 1.5
    assert dpo.dpo_loss(h, 0.2).item() == pytest.approx(-math.log(1 / (1 + math.exp(-0.3))))
    assert dpo.ipo_loss(h, 0.2).item() == pytest.approx((1.5 - 2.5) ** 2)
    assert dpo.ipo_loss(torch.tensor([2.5]), 0.2).item() == 0
    assert dpo.pair_accuracy(torch.tensor([1.0, 0.0, -1.0, 2.0])).item() == 2.5 / 4


def test_dpo_is_at_rest_at_the_policy_that_it_promises():
    """Preferences from rewards r by Bradley-Terry: the loss of all pairs is stationary at pi ~ ref exp(r / beta)."""
    beta, r, ref = 0.4, numbers(5), numbers(5, seed=1).log_softmax(0)
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]

    def slope(logits):
        logits = logits.clone().requires_grad_()
        logp = logits.log_softmax(0)
        loss = sum(
            (r[i] - r[j]).sigmoid() * dpo.dpo_loss(dpo.margin(logp[i], logp[j], ref[i], ref[j]), beta) for i, j in pairs
        )
        return torch.autograd.grad(loss, logits)[0].abs().max().item()

    best = ref + r / beta
    assert slope(best) < 1e-12 and slope(ref) > 1e-3
    fitted = dpo.implicit_reward(best.log_softmax(0), ref, beta)
    assert torch.allclose(fitted - fitted.mean(), r - r.mean(), atol=1e-12)


# ---- tokenizers ----


@pytest.mark.parametrize("seed", range(20))
def test_characters_make_round_trips(seed):
    rng = np.random.default_rng(seed)
    tok = CharTok("0123456789+-=,. <>eos\n'é")
    text = "".join(rng.choice(tok.symbols[4:], size=rng.integers(0, 40)))
    ids = tok.encode(text)
    assert tok.decode(ids) == text and len(ids) == len(text) and all(3 < i < len(tok) for i in ids)
    mixed = [BOS, *ids[:5], PAD, SEP, *ids[5:], EOS, *ids]
    assert tok.decode(mixed) == text
    assert tok.decode(mixed, special=True) == "<bos>" + text[:5] + "<pad><sep>" + text[5:]
    assert CharTok("<eos>"[:3]).encode("<e") == [4, 5], "the letters of a special token are no special token"


WORDS = ["good", "bad", "don't", "film", "3", "10", "unk", ",", ".", "!", "?", "-", "<", ">", "(", ")", "_", "é", '"']


@pytest.mark.parametrize("seed", range(20))
def test_words_make_round_trips(seed):
    """Ids to text and back, for every sequence of words, punctuation and <unk>; the text is then its own round trip."""
    rng = np.random.default_rng(seed)
    tok = WordTok(WORDS)
    ids = rng.integers(4, len(tok), size=rng.integers(1, 40)).tolist()
    text = tok.decode(ids)
    assert tok.encode(text) == ids
    assert tok.decode(tok.encode(text)) == text


def test_words_are_written_as_one_reads_them():
    tok = WordTok(WORDS)
    assert tok.decode(tok.encode("Good  film ,  DON'T   ask !")) == "good film, don't <unk>!"
    assert tok.encode("fantastic") == [4] and tok.encode("<unk>") == [4] and tok.encode("") == []
    assert tok.encode("bad.bad") == tok.encode("bad . bad")


def test_unknown_characters_and_doubled_symbols_are_refused():
    with pytest.raises(ValueError, match=r"'x' is not in the vocabulary \(in the text '1x2'\)"):
        CharTok("0123").encode("1x2")
    with pytest.raises(ValueError, match="the symbol '1' stands twice"):
        CharTok("0121")
    with pytest.raises(ValueError, match="stands twice"):
        WordTok(["<unk>", "good"])


def test_the_fingerprint_knows_the_order_of_the_vocabulary():
    prints = {CharTok("abc").fingerprint, CharTok("acb").fingerprint, CharTok("abcd").fingerprint}
    assert len(prints) == 3 and all(len(p) == 8 for p in prints)
    assert CharTok("abc").fingerprint == CharTok("abc").fingerprint == "65098aa1"
    assert CharTok("abc").symbols[:4] == ("<pad>", "<bos>", "<eos>", "<sep>") and len(CharTok("abc")) == 7


def test_padding_on_either_side():
    ids, n_pad = left_pad([[1, 4], [1, 5, 6]])
    assert ids.tolist() == [[0, 1, 4], [1, 5, 6]] and n_pad.tolist() == [1, 0]
    ids, mask = right_pad([[4], [], [5, 6]], width=3)
    assert ids.tolist() == [[4, 0, 0], [0, 0, 0], [5, 6, 0]] and mask.sum(1).tolist() == [1, 0, 2]
    for rows in ([], [[1], []]):
        with pytest.raises(ValueError, match="at least one token"):
            left_pad(rows)


# ---- rollouts and training, on a task of one line ----


class Echo:
    """Answer with the last letter of the prompt, as a capital. Verdicts are counted, so that a test sees what was verified."""

    max_new = 2

    def __init__(self):
        self.verified = []

    @cached_property
    def tokenizer(self):
        return CharTok("abcABC")

    def sample_prompts(self, n, rng, split):
        assert split == "train"
        return [Prompt("".join(rng.choice(list("abc"), size=rng.integers(1, 4)))) for _ in range(n)]

    def reference(self, prompt, rng):
        return prompt.text[-1].upper()

    def verify(self, prompt, text):
        self.verified.append((prompt.text, text))
        return Result(float(text == prompt.text[-1].upper()), info={"text": text})


PROMPTS = [Prompt("ab"), Prompt("c"), Prompt("bca")]


def roll(policy, K=5, max_new=3, seed=0, **settings):
    task = Echo()
    data = rollout(policy, task, PROMPTS, K, max_new=max_new, generator=torch.Generator().manual_seed(seed), **settings)
    return task, data


def test_a_rollout_holds_what_the_sampler_said_and_the_verifier_thought():
    policy, ref = model(0, vocab=10), model(1, vocab=10)
    task, data = roll(policy, K=20, ref=ref)
    ids, n_pad = encode_prompts(task.tokenizer, PROMPTS)
    assert ids.tolist() == [[PAD, BOS, 4, 5], [PAD, PAD, BOS, 6], [BOS, 5, 6, 4]] and n_pad.tolist() == [1, 2, 0]
    again = sample(policy, ids, n_pad, max_new=3, n_per_prompt=20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(data.answer, again.tokens) and torch.equal(data.mask, again.mask)
    assert data.group.tolist() == [i // 20 for i in range(60)] and data.K == 20
    assert 0 < again.finished.sum() < 60, "the oracle must see both answers that end and answers that do not"
    for i in range(60):
        prompt = PROMPTS[i // 20].text
        assert task.tokenizer.decode(data.prompt[i]) == prompt and data.n_pad[i] == 3 - len(prompt)
        body = [t for t in data.answer[i, : int(data.mask[i].sum())].tolist() if t != EOS]
        text = "".join(task.tokenizer.symbols[t] for t in body)
        if again.finished[i]:
            assert data.texts[i] == text and data.results[i].info == {"text": text}
            assert data.reward[i] == float(text == prompt[-1].upper())
        else:
            assert data.reward[i] == 0 and data.results[i].info == {"cut": True}
    assert len(task.verified) == again.finished.sum()
    as_they_stand = roll(policy, K=20, unfinished=None)
    assert len(as_they_stand[0].verified) == 60 and as_they_stand[1].texts == data.texts
    assert torch.allclose(data.old_logp, again.logp, atol=1e-5) and not data.old_logp.requires_grad
    want = score(ref, data.prompt, data.n_pad, data.answer, data.mask).logp
    assert torch.equal(data.ref_logp, want) and not torch.allclose(want, data.old_logp, atol=0.1)
    assert roll(policy)[1].ref_logp is None


def test_an_answer_that_does_not_end_is_wrong_even_when_its_text_is_right():
    task, data = roll(model(0, vocab=10), K=200, max_new=1)
    right = [t == PROMPTS[i // 200].text[-1].upper() for i, t in enumerate(data.texts)]
    assert any(right) and data.reward.sum() == 0
    assert all(text == "" for _, text in task.verified)


def test_one_seed_one_rollout():
    policy = model(0, vocab=10)
    a, b, c = (roll(policy, seed=s)[1] for s in (0, 0, 1))
    assert a.texts == b.texts != c.texts and torch.equal(a.old_logp, b.old_logp)
    with pytest.raises(ValueError, match="at least one prompt"):
        rollout(policy, Echo(), [], 4, max_new=2, generator=torch.Generator())
    with pytest.raises(ValueError, match="do not fit into the context of 12"):
        rollout(policy, Echo(), [Prompt("abc" * 4)], 4, max_new=2, generator=torch.Generator())


@pytest.mark.parametrize("groups, size", [(False, 4), (False, 100), (True, 5), (True, 10)])
def test_minibatches_hold_every_row_once(groups, size):
    data = roll(model(0, vocab=10))[1]
    tok = Echo().tokenizer
    parts = list(minibatches(data, size, torch.Generator().manual_seed(0), groups))
    assert [len(p.reward) for p in parts] == [min(size, 15 - i) for i in range(0, 15, size)]
    rows = [row for part in parts for row in part.old_logp.sum(1).tolist()]
    assert sorted(rows) == sorted(data.old_logp.sum(1).tolist()) and len(set(rows)) > 5
    for part in parts:
        for i in range(len(part.reward)):
            assert part.results[i].reward == part.reward[i]
            assert tok.decode(part.answer[i, : int(part.mask[i].sum())], special=True) == part.texts[i]
            assert tok.decode(part.prompt[i]) == PROMPTS[part.group[i]].text
            if part.mask[i].sum() < 3:
                assert part.results[i].info["text"] == part.texts[i]
        if groups:
            assert (part.group.view(-1, 5) == part.group[::5, None]).all()
    if size < 15:
        orders = [
            next(minibatches(data, size, torch.Generator().manual_seed(s), groups)).group.tolist() for s in range(9)
        ]
        assert len({tuple(o) for o in orders}) > 1, "the order is random"
        assert orders[0] == parts[0].group.tolist()


def test_minibatches_refuse_to_cut_groups():
    with pytest.raises(ValueError, match="4 rows cannot hold whole groups of 5"):
        list(minibatches(roll(model(0, vocab=10))[1], 4, torch.Generator(), groups=True))


def grpo_update(policy, lr=5e-3):
    optimiser = torch.optim.Adam(policy.parameters(), lr=lr)

    def update(data):
        advantage = rl_core.group_adv(data.reward, data.K, "grpo")
        logp = score(policy, data.prompt, data.n_pad, data.answer, data.mask).logp
        loss, cut = rl_core.ppo_clip(logp, data.old_logp, advantage, data.mask, 0.2, 0.2, "token-mean")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return {"cut": cut.item()}

    return update


def test_the_loop_learns_the_task():
    """GRPO from a random policy: at first fewer than 1 in 5 answers are right, after 60 iterations more than 9 in 10."""
    policy = model(0, scale=1.0, vocab=10)
    log = list(train(policy, Echo(), grpo_update(policy), 60, prompts_per_iteration=16, K=8, max_new=2))
    assert log[0]["reward"] < 0.2 and np.mean([row["reward"] for row in log[-5:]]) > 0.9
    test = [Prompt(a + b) for a in "abc" for b in "abc"]
    assert accuracy(policy, Echo(), test, max_new=2) == 1
    assert accuracy(model(0, scale=1.0, vocab=10), Echo(), test, max_new=2) < 0.5


def test_the_log_says_what_the_rollout_holds():
    policy, ref, seen = model(0, vocab=10), model(1, vocab=10), []

    def watch(data):
        seen.append(data)
        return {"mine": len(seen)}

    settings = {"prompts_per_iteration": 6, "K": 4, "max_new": 3, "ref": ref, "seed": 2}
    log = list(train(policy, Echo(), watch, 3, **settings))
    for i, (row, data) in enumerate(zip(log, seen, strict=True), 1):
        assert row["step"] == row["mine"] == i and row["progress"] == i / 3
        assert row["reward"] == pytest.approx(np.mean([r.reward for r in data.results]))
        lengths = [sum(m) for m in data.mask.tolist()]
        assert row["length"] == pytest.approx(np.mean(lengths))
        assert row["tokens"] == sum(d.mask.sum().item() for d in seen[:i])
        answers = {(g, t) for g, t in zip(data.group.tolist(), data.texts, strict=True)}
        assert row["distinct"] == len(answers) / 24
        both = [score(m, data.prompt, data.n_pad, data.answer, data.mask).sequence for m in (policy, ref)]
        assert row["kl"] == pytest.approx((both[0] - both[1]).mean().item(), abs=1e-5)
    assert len({d.texts for d in seen}) == 3
    first = [d.texts for d in seen]
    list(train(policy, Echo(), watch, 3, **settings))
    assert [d.texts for d in seen[3:]] == first, "one seed, one run"
    assert "kl" not in next(train(policy, Echo(), watch, 1, max_new=2))


def test_prompts_come_from_the_pool_without_repetition():
    pool, seen = [Prompt(a + b) for a in "abc" for b in "abc"], []

    def watch(data):
        seen.append([CharTok("abcABC").decode(row) for row in data.prompt[:: data.K]])
        return {}

    list(train(model(0, vocab=10), Echo(), watch, 3, prompts_per_iteration=9, K=2, max_new=2, pool=pool))
    assert all(sorted(texts) == [p.text for p in pool] for texts in seen) and seen[0] != seen[1]


def test_accuracy_is_the_share_of_right_answers():
    """Over more prompts than one batch, and for several answers each."""
    policy, rng = model(0, scale=1.0, vocab=10), np.random.default_rng(0)
    list(sft(policy, Echo(), 12, batch=8, lr=2e-2, warmup=1))  # half trained
    prompts = Echo().sample_prompts(200, rng, "train")
    right = 0
    for p in prompts:
        ids, n_pad = encode_prompts(CharTok("abcABC"), [p])
        out = sample(policy, ids, n_pad, max_new=3, temperature=0)
        right += out.finished.item() and CharTok("abcABC").decode(out.tokens[0]) == p.text[-1].upper()
    assert 0 < right < 200, "the oracle must see both right and wrong answers"
    assert accuracy(policy, Echo(), prompts, max_new=3) == pytest.approx(right / 200)
    sampled = accuracy(policy, Echo(), PROMPTS, max_new=3, temperature=1.0, K=50, seed=3)
    data = roll(policy, K=50, seed=3)[1]
    assert sampled == pytest.approx(data.reward.mean().item()) and 0 < sampled < 1


# ---- supervised fine-tuning ----


def test_sft_loss_is_the_cross_entropy_of_the_answers_alone():
    policy = model(0, vocab=10).double()
    prompts, answers = ["ab", "c", "bca"], ["C", "aBc", ""]
    tok = CharTok("abcABC")
    loss = sft_loss(policy, *tensors(tok, prompts, answers))
    total, count = 0.0, 0
    for p, a in zip(prompts, answers, strict=True):
        ids = [BOS, *tok.encode(p), *tok.encode(a), EOS]
        logits = policy(torch.tensor([ids[:-1]]))[0][0]
        first = len(p)  # the logits after <bos> and the prompt
        total += F.cross_entropy(logits[first:], torch.tensor(ids[first + 1 :]), reduction="sum").item()
        count += len(a) + 1
    assert loss.item() == pytest.approx(total / count, abs=1e-10)


def test_sft_learns_the_reference_answers_and_repeats_itself():
    start, runs = model(0, scale=1.0, vocab=10), []
    for _ in range(2):
        policy = copy.deepcopy(start)
        runs.append(list(sft(policy, Echo(), 120, batch=16, lr=1e-2, warmup=10, seed=1, log_every=50)))
    assert runs[0] == runs[1] and [row["step"] for row in runs[0]] == [50, 100, 120]
    assert [row["progress"] for row in runs[0]] == pytest.approx([50 / 120, 100 / 120, 1])
    assert runs[0][-1]["loss"] < 0.05
    assert accuracy(policy, Echo(), [Prompt(a + b) for a in "abc" for b in "abc"], max_new=2) == 1


def test_sft_on_given_prompts_sees_no_others(monkeypatch):
    monkeypatch.setattr(Echo, "sample_prompts", lambda *_: pytest.fail("fresh prompts were drawn"))
    asked = set()
    monkeypatch.setattr(Echo, "reference", lambda self, prompt, rng: asked.add(prompt.text) or "a")
    list(sft(model(0, vocab=10), Echo(), 10, batch=8, prompts=PROMPTS))
    assert asked == {"ab", "c", "bca"}


def test_the_learning_rate_warms_up_and_decays_and_steps_are_bounded(monkeypatch):
    rates, norms = [], []
    step = torch.optim.AdamW.step

    def watch(self, *arguments):
        parameters = [p for group in self.param_groups for p in group["params"]]
        norms.append(math.sqrt(sum(p.grad.square().sum().item() for p in parameters)))
        rates.append({group["lr"] for group in self.param_groups})
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    list(sft(model(0, vocab=10), Echo(), 40, batch=4, lr=1e-3, warmup=10))
    want = [1e-3 * min((i + 1) / 10, 1 - 0.9 * i / 40) for i in range(40)]
    assert [r.pop() for r in rates] == pytest.approx(want)
    assert want[0] == pytest.approx(1e-4) and want[-1] == pytest.approx(1e-4, rel=0.25)
    assert max(norms) == pytest.approx(1, rel=1e-3), "gradients of norm above 1 are shortened to 1"


# ---- numbers at the edge ----


def test_padding_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="a row of 3 tokens does not fit into 2"):
        right_pad([[4, 5, 6], [4]], width=2)
    with pytest.raises(ValueError, match="no token in any row"):
        right_pad([[], []])
    with pytest.raises(ValueError, match="'<eos>' is a special token already"):
        WordTok(["film", "<eos>"])


def test_a_huge_ratio_leaves_the_gradient_finite():
    logp = torch.tensor([[100.0, 0.0]], requires_grad=True)
    loss, _ = rl_core.ppo_clip(logp, torch.zeros(1, 2), torch.tensor([1.0]), torch.ones(1, 2), 0.2, 0.2, "token-mean")
    loss.backward()
    assert torch.isfinite(logp.grad).all() and logp.grad[0, 0] == 0 and logp.grad[0, 1] == -0.5


def test_exact_kl_with_an_excluded_token():
    logits = torch.tensor([0.0, 0.0, -torch.inf])
    assert rl_core.kl_full(logits, torch.zeros(3)).item() == pytest.approx(np.log(3 / 2), abs=1e-6)


def test_numbers_that_are_not_finite_are_named():
    with pytest.raises(ValueError, match="reward 1 is not finite"):
        rl_core.group_adv(torch.tensor([0.0, torch.nan]), 2, "grpo")
    with pytest.raises(ValueError, match="measured KL is nan"):
        rl_core.AdaptiveKL().update(float("nan"), 64)


def test_whole_number_rewards_are_rewards():
    assert rl_core.group_adv(torch.tensor([0, 1]), 2, "dr_grpo").tolist() == [-0.5, 0.5]
