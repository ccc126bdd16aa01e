"""The GPT, its cache and its sampler against slow and obvious computations."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch.nn import functional as F

from minirl.lm.gpt import GPT, Cache, GPTConfig
from minirl.lm.logp import score, token_logp, top_tokens
from minirl.lm.sample import sample
from minirl.lm.tok import BOS, EOS, PAD, CharTok, left_pad, right_pad

V = 7


def model(seed=0, scale=8.0, double=False, **sizes):
    """Weights larger than at the start of training, so that the next token depends on all of the text."""
    generator = torch.Generator().manual_seed(seed)
    gpt = GPT(GPTConfig(**({"vocab": V, "context": 24, "width": 16, "layers": 2, "heads": 4} | sizes)), generator)
    with torch.no_grad():
        for p in gpt.parameters():
            if p.dim() == 2:
                p.mul_(scale)
            else:
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return gpt.double() if double else gpt


def by_modules(gpt, ids):
    """One row (T,) through the layers as the textbook writes them, position by position, without masks."""
    c = gpt.config
    x = gpt.token(ids) + gpt.position(torch.arange(len(ids)))
    for b in gpt.blocks:
        q, k, v = b.qkv(b.norm1(x)).split(c.width, -1)
        rows = []
        for t in range(len(ids)):
            heads = []
            for h in range(c.heads):
                part = slice(h * c.width // c.heads, (h + 1) * c.width // c.heads)
                weights = (k[: t + 1, part] @ q[t, part] / math.sqrt(c.width // c.heads)).softmax(0)
                heads.append(weights @ v[: t + 1, part])
            rows.append(torch.cat(heads))
        x = x + b.out(torch.stack(rows))
        x = x + b.down(F.gelu(b.up(b.norm2(x))))
    return gpt.norm(x) @ gpt.token.weight.T


def test_forward_is_the_textbook_transformer():
    gpt, ids = model(double=True), torch.tensor([1, 4, 6, 5, 4, 2])
    assert torch.allclose(gpt(ids[None])[0][0], by_modules(gpt, ids), atol=1e-12)


def test_later_tokens_change_nothing_before_them():
    gpt = model(double=True)
    a, b = torch.tensor([[1, 4, 5, 6, 4]]), torch.tensor([[1, 4, 5, 4, 6]])
    assert torch.equal(gpt(a)[0][:, :3], gpt(b)[0][:, :3])
    assert not torch.allclose(gpt(a)[0][:, 3], gpt(b)[0][:, 3])


def test_the_first_loss_is_that_of_a_uniform_guess():
    gpt = GPT(GPTConfig(vocab=50), torch.Generator().manual_seed(0))
    ids, target = torch.randint(50, (2, 8, 20), generator=torch.Generator().manual_seed(1))
    assert F.cross_entropy(gpt(ids)[0].flatten(0, 1), target.flatten()).item() == pytest.approx(math.log(50), abs=0.05)
    assert sum(p.numel() for p in GPT(GPTConfig(vocab=20), torch.Generator()).parameters()) == pytest.approx(
        107_000, rel=0.03
    )


@pytest.mark.parametrize("B", [1, 40])  # few rows and many take different kernels
@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_cache_and_full_forward_agree(B, chunk):
    gpt = model()
    ids = torch.randint(3, V, (B, 13), generator=torch.Generator().manual_seed(B))
    n_pad = torch.arange(B) % 4
    for pad in (None, n_pad):
        full, cache, parts = gpt(ids, pad)[0], Cache(gpt, B, 13), []
        for start in (0, *range(4, 13, chunk)):
            width = 4 if start == 0 else chunk
            parts.append(gpt(ids[:, start : start + width], pad, cache)[0])
        got = torch.cat(parts, 1)
        real = torch.ones(B, 13, dtype=torch.bool) if pad is None else torch.arange(13) >= pad[:, None]
        assert torch.allclose(got[real], full[real], atol=1e-5)


def test_padding_on_the_left_changes_nothing():
    gpt = model()
    rows = [[1, 4, 5], [1, 6], [1, 5, 5, 4, 6, 4]]
    ids, n_pad = left_pad(rows)
    together = gpt(ids, n_pad)[0]
    assert torch.isfinite(together).all()
    for row, pad, logits in zip(rows, n_pad, together, strict=True):
        assert torch.allclose(logits[pad:], gpt(torch.tensor([row]))[0][0], atol=1e-5)


def test_copies_and_casts_keep_one_set_of_weights():
    """The layers hold references to their parameters; copying, casting and loading must not leave them behind."""
    gpt = model()
    ids = torch.tensor([[1, 4, 5]])
    twin = copy.deepcopy(gpt)
    with torch.no_grad():
        twin.blocks[0].up.weight.zero_()
        twin.token.weight.mul_(2)
    assert not torch.allclose(twin(ids)[0], gpt(ids)[0])
    other = model(seed=5)
    other.load_state_dict(gpt.state_dict())
    assert torch.equal(other(ids)[0], gpt(ids)[0])
    assert gpt.double()(ids)[0].dtype == torch.float64


def test_token_logp_is_a_loop_over_prefixes_and_agrees_with_the_sampler():
    gpt = model()
    ids, n_pad = left_pad([[BOS, 4], [BOS, 5, 6, 4], [BOS]])
    answers = sample(gpt, ids, n_pad, max_new=6, n_per_prompt=3, generator=torch.Generator().manual_seed(0))
    ids, n_pad = ids.repeat_interleave(3, 0), n_pad.repeat_interleave(3, 0)
    logp = token_logp(gpt, ids, n_pad, answers.tokens, answers.mask)
    for i in range(9):
        text = ids[i, n_pad[i] :].tolist()
        for t in range(int(answers.mask[i].sum())):
            slow = gpt(torch.tensor([text]))[0][0, -1].log_softmax(-1)[answers.tokens[i, t]]
            assert logp[i, t].item() == pytest.approx(slow.item(), abs=1e-5)
            text.append(int(answers.tokens[i, t]))
    assert torch.allclose(answers.logp, logp, atol=1e-5) and (logp[answers.mask == 0] == 0).all()
    assert torch.equal(answers.logp, answers.logp_sampling)


def test_gradient_of_logp_by_finite_differences():
    gpt = model(double=True)
    prompt, n_pad = left_pad([[BOS, 4], [BOS, 5, 6]])
    answer, mask = right_pad([[5, 6, EOS], [4, EOS]])
    mask = mask.double()
    score(gpt, prompt, n_pad, answer, mask).sequence.sum().backward()
    rng = np.random.default_rng(0)
    for parameter in gpt.parameters():
        i = int(rng.integers(parameter.numel()))
        flat, values = parameter.data.view(-1), []
        for h in (1e-6, -2e-6):
            flat[i] += h
            with torch.no_grad():
                values.append(token_logp(gpt, prompt, n_pad, answer, mask).sum().item())
        flat[i] += 1e-6
        assert parameter.grad.view(-1)[i].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-7)


def test_all_strings_together_have_probability_one():
    """Every answer of at most 3 tokens that ends, and every one of 3 that does not."""
    gpt = model(double=True)
    rows = [
        [*body, EOS] for n in range(3) for body in itertools.product([i for i in range(V) if i != EOS], repeat=n)
    ] + [list(body) for body in itertools.product([i for i in range(V) if i != EOS], repeat=3)]
    answer, mask = right_pad(rows)
    prompt = torch.tensor([[BOS, 5]]).expand(len(rows), 2)
    total = score(gpt, prompt, None, answer, mask.double()).sequence.exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)


def test_entropy_and_top_tokens():
    gpt = model(double=True)
    s = score(gpt, torch.tensor([[BOS, 4]]), None, torch.tensor([[5, EOS, PAD]]), torch.tensor([[1.0, 1.0, 0.0]]))
    p = s.logits.softmax(-1)
    assert s.entropy[0, 1].item() == pytest.approx(-(p[0, 1] * p[0, 1].log()).sum().item())
    assert s.entropy[0, 2] == 0
    table = top_tokens(s, 0, CharTok("abc"), k=3)
    assert len(table) == 2 and table[0][0][1] == pytest.approx(p[0, 0].max().item())


# ---- sampling ----


def pvalue(tokens, p):
    keep = p > 0
    counts = np.bincount(tokens.numpy(), minlength=len(p))
    assert counts[~keep].sum() == 0, "a token of probability 0 was drawn"
    return 1.0 if keep.sum() == 1 else chisquare(counts[keep], len(tokens) * p[keep] / p[keep].sum()).pvalue


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 3},
        {"top_p": 0.6},
        {"temperature": 1.5, "top_k": 4, "top_p": 0.9},
    ],
)
def test_frequencies_are_those_of_the_softmax(setting):
    """Chi-square over 40,000 first tokens; each case fails by chance with probability 1e-6. The oracle narrows by loops."""
    gpt = model(scale=6.0)
    prompt = torch.tensor([[BOS, 5, 4]])
    logits = gpt(prompt)[0][0, -1].detach().double().numpy() / setting.get("temperature", 1.0)
    p = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-p)
    if "top_k" in setting:
        p[order[setting["top_k"] :]] = 0
        p /= p.sum()
    if "top_p" in setting:
        reached, n = 0.0, 0
        while reached < setting["top_p"]:
            reached += p[order[n]]
            n += 1
        p[order[n:]] = 0
        p /= p.sum()
    out = sample(gpt, prompt, max_new=1, n_per_prompt=40_000, generator=torch.Generator().manual_seed(3), **setting)
    assert pvalue(out.tokens[:, 0], p) > 1e-6
    drawn = out.logp_sampling[:, 0].exp().double().numpy()
    assert np.allclose(drawn, p[out.tokens[:, 0].numpy()], atol=1e-5)


def test_the_second_token_follows_the_first():
    gpt = model(scale=6.0)
    prompt = torch.tensor([[BOS, 5, 4]])
    out = sample(gpt, prompt, max_new=2, n_per_prompt=40_000, generator=torch.Generator().manual_seed(4))
    for first in range(V):
        rows = out.tokens[:, 0] == first
        if first == EOS:
            assert (out.tokens[rows, 1] == PAD).all() and (out.mask[rows, 1] == 0).all()
            continue
        p = gpt(torch.tensor([[BOS, 5, 4, first]]))[0][0, -1].softmax(-1).detach().double().numpy()
        assert pvalue(out.tokens[rows, 1], p) > 1e-6


def test_greedy_takes_the_largest_and_stops_at_eos():
    gpt = model(seed=2)
    out = sample(gpt, torch.tensor([[BOS, 5]]), max_new=10, temperature=0)
    text = [BOS, 5]
    for t in range(out.tokens.shape[1]):
        best = int(gpt(torch.tensor([text]))[0][0, -1].argmax())
        assert best == out.tokens[0, t]
        text.append(best)
    assert out.finished[0] == (text[-1] == EOS) and out.lengths[0] == out.tokens.shape[1]


def test_forced_prefixes_and_allowed_tokens():
    gpt, generator = model(), torch.Generator().manual_seed(0)
    forced = torch.tensor([[4, 5], [6, -1]])
    out = sample(gpt, torch.tensor([[BOS], [BOS]]), max_new=5, forced=forced, generator=generator)
    assert out.tokens[0, :2].tolist() == [4, 5] and out.tokens[1, 0] == 6
    expected = gpt(torch.tensor([[BOS, 4]]))[0][0, -1].log_softmax(-1)[5].item()
    assert out.logp[0, 1].item() == pytest.approx(expected, abs=1e-5)

    def even_after_odd(so_far):
        ok = torch.zeros(len(so_far), V, dtype=torch.bool)
        ok[:, [4, 6] if so_far.shape[1] % 2 else [5]] = True
        return ok

    out = sample(gpt, torch.tensor([[BOS]]), max_new=6, n_per_prompt=50, allowed=even_after_odd, generator=generator)
    assert (out.tokens[:, ::2] == 5).all() and ((out.tokens[:, 1::2] == 4) | (out.tokens[:, 1::2] == 6)).all()
    assert torch.allclose(out.logp_sampling[:, 0], torch.zeros(50)) and (out.logp[:, 0] < -0.01).all()
    with pytest.raises(ValueError, match="permits no token in row 0 after 0"):
        sample(gpt, torch.tensor([[BOS]]), max_new=2, allowed=lambda s: torch.zeros(1, V, dtype=torch.bool))


def test_one_seed_one_sample_and_answers_can_be_trained_on():
    gpt = model()
    a, b, c = (
        sample(gpt, torch.tensor([[BOS, 4]]), max_new=8, n_per_prompt=20, generator=torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    )
    assert torch.equal(a.tokens, b.tokens) and not torch.equal(a.tokens[:, :1], c.tokens[:, :1])
    token_logp(gpt, torch.tensor([[BOS, 4]]).expand(20, 2), None, a.tokens, a.mask).sum().backward()
    assert gpt.token.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "change, words",
    [
        ({"max_new": 23}, "2 tokens and an answer of 23 do not fit into the context of 24"),
        ({"max_new": 0}, "max_new"),
        ({"n_per_prompt": 0}, "n_per_prompt"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"prompt": torch.zeros(0, 2, dtype=torch.long)}, "at least one prompt"),
    ],
)
def test_bad_settings_are_refused(change, words):
    setting = {"prompt": torch.tensor([[BOS, 4]]), "max_new": 4} | change
    with pytest.raises(ValueError, match=words):
        sample(model(), **setting)


def test_a_text_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="25 tokens do not fit into the context of 24"):
        model()(torch.zeros(1, 25, dtype=torch.long))
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 4"):
        GPTConfig(vocab=5, width=10)
    with pytest.raises(ValueError, match="do not match"):
        score(model(), torch.tensor([[1]]), None, torch.tensor([[4], [5]]), torch.ones(2, 1))
