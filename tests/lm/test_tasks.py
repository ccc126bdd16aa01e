"""The tasks: verifiers against brute force, references, splits, exact counts and exact optima."""

import math
import re
import sys
from collections import Counter, deque
from fractions import Fraction
from functools import cache
from itertools import pairwise, permutations, product

import numpy as np
import pytest
import torch

from minirl.lm.gpt import GPT, GPTConfig
from minirl.lm.tasks import Prompt, split_of
from minirl.lm.tasks import review as review_module
from minirl.lm.tasks.chain import ERRORS, Chain, wrong_total
from minirl.lm.tasks.grid import Grid
from minirl.lm.tasks.guess import Guess, mastermind, number, pegs, questions
from minirl.lm.tasks.review import GRAMMAR, WORDS, Review, parse, sentiment
from minirl.lm.tasks.rpn import INPUTS, Rpn, functions, run

TASKS = {
    "chain": Chain(),
    "chain of five, minus": Chain(5, minus=True),
    "grid": Grid(),
    "rpn": Rpn(),
    "review": Review(),
    "number": Guess(number()),
    "questions": Guess(questions(), limit=10),
    "mastermind": Guess(mastermind()),
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def rng(seed=0):
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------------- what all tasks promise


@every_task
@pytest.mark.parametrize("split", ["train", "test"])
def test_references_verify_and_fit(task, split):
    r = rng(1)
    for prompt in task.sample_prompts(60, r, split):
        text = task.reference(prompt, r)
        result = task.verify(prompt, text)
        if isinstance(task, Review):
            assert result.info["grammar"] == 1, (prompt, text)
        else:
            assert result.reward == 1, (prompt, text)
        assert all(step.right for step in result.steps)
        assert len(task.tokenizer.encode(text)) + 1 <= task.max_new
        if hasattr(task, "all_answers"):
            answers = task.all_answers(prompt)
            assert text in answers and len(set(answers)) == len(answers)
            assert all(task.verify(prompt, answer).reward == 1 for answer in answers)


@every_task
def test_prompts_and_references_survive_the_tokenizer(task):
    r = rng(2)
    for prompt in task.sample_prompts(60, r, "train"):
        for text in (prompt.text, task.reference(prompt, r)):
            assert task.tokenizer.decode(task.tokenizer.encode(text)).strip() == text.strip()


@every_task
def test_splits_share_no_prompt_and_are_one_in_five(task):
    r = rng(3)
    train, test = task.sample_prompts(600, r, "train"), task.sample_prompts(600, r, "test")
    for prompts, split in ((train, "train"), (test, "test")):
        assert len({p.text for p in prompts}) > 100
        assert {split_of(str(p.data[1]) if isinstance(task, Rpn) else p.text) for p in prompts} == {split}
    assert not {p.text for p in train} & {p.text for p in test}
    for split in ("training", "", None):
        with pytest.raises(ValueError, match="split must be 'train' or 'test'"):
            task.sample_prompts(1, r, split)


@every_task
def test_a_seed_decides_everything(task):
    def drawn(seed):
        r = rng(seed)
        prompts = task.sample_prompts(20, r, "train")
        return prompts, [task.reference(p, r) for p in prompts]

    assert drawn(5) == drawn(5)
    assert drawn(5)[0] != drawn(6)[0]


def test_the_split_is_the_same_on_every_machine():
    assert [split_of(text) for text in ("27+58+31=", "10+10+10=", "abc", "")] == ["test", "train", "train", "test"]
    shares = Counter(split_of(f"{i}") for i in range(10_000))
    assert shares["test"] == pytest.approx(2_000, abs=200)  # 5 standard deviations


def random_text(task, r):
    """Symbols at random, as many as some answer of the task may have."""
    ids = r.integers(4, len(task.tokenizer), r.integers(1, task.max_new))
    return task.tokenizer.decode(ids), len(ids)


@pytest.mark.parametrize("task", [Chain(), Chain(2), Chain(5, minus=True), Grid()], ids=str)
def test_random_strings_almost_never_verify(task):
    """Exact: an answer of n tokens comes up with probability V^-n / lengths. At most 7 in 100 that one of 2,000 is right."""
    r, expected = rng(4), 0.0
    V, lengths = len(task.tokenizer) - 4, task.max_new - 1
    for prompt in task.sample_prompts(2_000, r, "train"):
        expected += sum(float(V) ** -len(answer) for answer in task.all_answers(prompt)) / lengths
        assert task.verify(prompt, random_text(task, r)[0]).reward == 0
    assert expected < 0.07


# ------------------------------------------------------------------------------------------------ chain


def totals(prompt):
    """The running totals, by Python's own arithmetic on the text."""
    terms = re.findall(r"[+-]?\d+", prompt.text)
    return [eval("".join(terms[: i + 2])) for i in range(len(terms) - 1)]


def edits(text, alphabet):
    """Every text with one symbol replaced, dropped or put in, and the text itself."""
    for i in range(len(text) + 1):
        for a in alphabet:
            yield text[:i] + a + text[i:]
            yield text[:i] + a + text[i + 1 :]
        yield text[:i] + text[i + 1 :]


def test_chain_examples_of_the_substrate():
    prompt = Prompt("27+58+31=", (27, 58, 31))
    assert Chain().reference(prompt) == "85,116."
    assert [s.text for s in Chain().verify(prompt, "85,116.").steps] == ["85,", "116."]
    # A step that follows from a wrong one is not to blame, though its number is wrong.
    result = Chain().verify(prompt, "75,106.")
    assert [s.right for s in result.steps] == [False, True] and result.info["exact"] == (False, False)
    result = Chain().verify(prompt, "75,116.")
    assert [s.right for s in result.steps] == [False, False] and result.info["exact"] == (False, True)


@pytest.mark.parametrize("task", [Chain(2), Chain(3), Chain(3, minus=True), Chain(5, minus=True)], ids=str)
def test_chain_verifier_against_python(task):
    """All texts one edit away from the reference: only the reference is right, under each reward as defined."""
    outcome, steps = Chain(task.terms, task.minus, "outcome"), Chain(task.terms, task.minus, "steps")
    for prompt in task.sample_prompts(4, rng(6), "train"):
        truth = totals(prompt)
        reference = ",".join(map(str, truth)) + "."
        assert task.all_answers(prompt) == [reference]
        for text in edits(reference, "0123456789+-=,."):
            assert task.verify(prompt, text).reward == float(text == reference), text
            parts = text[:-1].split(",")
            numbers = [int(p) if re.fullmatch(r"-?\d{1,6}", p) and str(int(p)) == p else None for p in parts]
            formed = text.endswith(".") and len(parts) == len(truth) and None not in numbers
            assert task.verify(prompt, text).info["formed"] == formed, text
            assert outcome.verify(prompt, text).reward == float(formed and numbers[-1] == truth[-1]), text
            exact = task.verify(prompt, text).info["exact"]
            if len(exact) == len(truth) and text.count(".") == 1 and text.endswith("."):
                assert exact == tuple(n == t for n, t in zip(numbers, truth, strict=True)), text
            if formed:
                befores = [prompt.data[0], *numbers]
                right = [n == b + t for n, b, t in zip(numbers, befores, prompt.data[1:], strict=False)]
                assert [s.right for s in steps.verify(prompt, text).steps] == right
                assert steps.verify(prompt, text).reward == sum(right) / len(right)


@pytest.mark.parametrize(
    "text", ["", ".", ",", ",,", "85", "85,116", "85,116.,", "85,116..", "85,116.147.", "٨٥,116.", "9" * 9000 + ",116."]
)
def test_chain_malformed_answers_earn_nothing(text):
    prompt = Prompt("27+58+31=", (27, 58, 31))
    for reward in ("all", "outcome"):
        assert Chain(reward=reward).verify(prompt, text).reward == 0
    assert Chain(reward="steps").verify(prompt, text).reward < 1


def test_chain_longest_reference_fills_max_new():
    """The extremes: all 99; first 10, then all 99 taken away."""
    for terms in (2, 3, 4, 5):
        task, minus = Chain(terms), Chain(terms, minus=True)
        top, bottom = Prompt("", (99,) * terms), Prompt("", (10, *[-99] * (terms - 1)))
        assert len(task.reference(top)) + 1 == task.max_new
        longest = max(len(minus.reference(p)) + 1 for p in (top, bottom))
        assert longest <= minus.max_new <= longest + 1  # the first total is 198 or -89


@pytest.mark.parametrize("minus", [False, True])
def test_chain_errors_are_where_the_labels_say(minus):
    r, task = rng(7), Chain(5, minus=minus, reward="steps")
    seen = Counter()
    for prompt in task.sample_prompts(400, r, "train"):
        errors = int(r.integers(0, 5))
        bad = task.corrupt(prompt, r, errors)
        result = task.verify(prompt, bad.text)
        assert result.info["formed"] and bad.labels.count(False) == errors
        assert tuple(s.right for s in result.steps) == bad.labels
        assert result.reward == 1 - errors / 4
        numbers = [prompt.data[0], *map(int, bad.text[:-1].split(","))]
        assert result.info["exact"] == tuple(a == b for a, b in zip(numbers[1:], totals(prompt), strict=True))
        for before, after, term, kind in zip(numbers, numbers[1:], prompt.data[1:], bad.kinds, strict=False):
            seen[kind] += 1
            right = before + term
            assert (after == right) == (kind == "")
            if kind == "carry":
                assert abs(after - right) == 10
            if kind == "swap":
                assert sorted(f"{abs(after):03d}") == sorted(f"{abs(right):03d}")
            if kind == "copy":  # another number of the same tens was added
                assert abs(after - before) // 10 == abs(term) // 10 and (after > before) == (term > 0)
            if kind == "skip":
                assert after == before
    assert min(seen[kind] for kind in ("", *ERRORS)) > 100


def test_chain_carry_errors_forget_or_invent_a_carry():
    for before, term, wrong in [(27, 58, 75), (21, 58, 89), (50, -27, 33), (58, -27, 21)]:
        assert wrong_total("carry", before, term, rng()) == wrong


def test_chain_a_swap_that_changes_nothing_is_replaced():
    """21 + 12 = 33 cannot be swapped."""
    assert Chain(2).corrupt(Prompt("21+12=", (21, 12)), rng(), 1, ("swap",)).kinds == ("carry",)
    assert Chain(2).corrupt(Prompt("21+13=", (21, 13)), rng(), 1, ("swap",)).text == "43."


@pytest.mark.parametrize("reward", ["all", "outcome", "steps"])
def test_chain_fewest_steps_by_search(reward):
    """Every beginning of right and wrong totals, every continuation of them."""
    task, prompt = Chain(4, reward=reward), Prompt("11+12+13+14=", (11, 12, 13, 14))
    values = ("23", "36", "50", "24", "37", "51")
    for k in range(4):
        for written in product(values, repeat=k):
            start = "".join(v + ("." if i == 2 else ",") for i, v in enumerate(written))
            found = None
            for more in range(4 - k):
                for rest in product(values, repeat=more):
                    text = start + ",".join(rest) + "." * (more > 0)
                    if found is None and task.verify(prompt, text).reward == 1:
                        found = more
            assert task.steps_left(prompt, start) == found, start


def test_chain_refuses_bad_options():
    for bad, message in [
        ({"terms": 1}, "2 to 5, got 1"),
        ({"terms": 6}, "2 to 5, got 6"),
        ({"reward": "x"}, "got 'x'"),
    ]:
        with pytest.raises(ValueError, match=message):
            Chain(**bad)
    prompt = Prompt("27+58+31=", (27, 58, 31))
    with pytest.raises(ValueError, match="3 errors do not fit into 2 steps"):
        Chain().corrupt(prompt, rng(), 3)
    with pytest.raises(ValueError, match="unknown kinds of error \\['typo'\\]"):
        Chain().corrupt(prompt, rng(), 1, ("typo",))


# ------------------------------------------------------------------------------------------------- grid


def shortest(size, start, goal):
    """All shortest paths, by breadth-first search over whole paths on the board."""
    queue, found = deque([("", start)]), []
    while queue:
        path, (x, y) = queue.popleft()
        if found and len(path) > len(found[0]):
            break
        if (x, y) == goal:
            found.append(path)
        for move, (a, b) in zip("UDLR", [(x, y + 1), (x, y - 1), (x - 1, y), (x + 1, y)], strict=True):
            if 0 <= a < size and 0 <= b < size and len(path) < 6:
                queue.append((path + move, (a, b)))
    return found


def test_grid_against_breadth_first_search():
    """Every problem of the 3 x 3 board; for some, every text of up to 4 moves with and without the full stop."""
    task = Grid(3, 1, 4)
    problems = [p for split in ("train", "test") for p in task.prompts[split]]
    assert len(problems) == 72
    for i, prompt in enumerate(problems):
        right = {path + "." for path in shortest(3, *prompt.data)}
        assert set(task.all_answers(prompt)) == right and task.count(prompt) == len(right)
        if i % 9 == 0:
            texts = ["".join(t) + dot for n in range(5) for t in product("UDLR", repeat=n) for dot in (".", "")]
            assert {t for t in texts if task.verify(prompt, t).reward} == right


def test_grid_counts_and_size():
    task = Grid()
    assert sum(map(len, task.prompts.values())) == 5_180
    counts = [task.count(p) for p in task.prompts["train"]]
    assert max(counts) == math.comb(10, 5) == 252 and min(counts) == 1
    prompt = Prompt("00>34:", ((0, 0), (3, 4)))
    assert len(task.all_answers(prompt)) == len(set(task.all_answers(prompt))) == 35


def test_grid_references_are_uniform():
    """6 right answers, 6,000 draws: a count is off by 5 standard deviations with probability 6e-7."""
    prompt, r = Prompt("00>22:", ((0, 0), (2, 2))), rng(8)
    counts = Counter(Grid().reference(prompt, r) for _ in range(6_000))
    assert len(counts) == 6 and max(abs(c - 1_000) for c in counts.values()) < 5 * math.sqrt(6_000 * 5 / 36)


def test_grid_steps_and_distance():
    task, prompt = Grid(), Prompt("00>21:", ((0, 0), (2, 1)))
    result = task.verify(prompt, "RLx")
    assert [s.right for s in result.steps] == [True, False, False] and result.info["distance"] == 3
    assert task.verify(prompt, "DRRU.").reward == 0
    assert task.verify(prompt, "D").info["distance"] == 3 and task.verify(prompt, "U").info["distance"] == 2
    assert (
        task.verify(prompt, "RRU").reward == task.verify(prompt, "RRU..").reward == task.verify(prompt, ".").reward == 0
    )
    assert task.distinct_right(prompt, ["RRU.", "RRU.", "RUR.", "UUU.", ""]) == 2


def test_grid_refuses_bad_options():
    for bad, message in [
        ((1,), "size must be 2 to 10, got 1"),
        ((11,), "got 11"),
        ((4, 3, 7), "max_distance <= 6, got 3 and 7"),
        ((4, 0, 3), "got 0 and 3"),
        ((4, 4, 3), "got 4 and 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            Grid(*bad)


# -------------------------------------------------------------------------------------------------- rpn


def slow(program, x):
    """One input, one symbol at a time; None for whatever goes wrong."""
    stack = []
    try:
        for symbol in program:
            if symbol == "d":
                stack.append(stack[-1])
            elif symbol == "s":
                b, a = stack.pop(), stack.pop()
                stack += [b, a]
            elif symbol in {"+", "-", "*"}:
                b, a = stack.pop(), stack.pop()
                stack.append(max(-999, min(999, eval(f"({a}) {symbol} ({b})"))))
            else:
                stack.append({"x": x, "0": 0, "1": 1, "2": 2, "3": 3}[symbol])
    except (IndexError, KeyError):
        return None
    return stack[0] if len(stack) == 1 else None


def test_rpn_interpreter_against_the_slow_one():
    """All texts of up to 4 instructions, and 3,000 longer ones with other symbols in them."""
    r = rng(9)
    texts = ["".join(t) for n in range(4) for t in product("x0123+-*ds", repeat=n)]
    texts += ["".join(r.choice(list("xxx123+-*+-*ds"), r.integers(4, 12))) for _ in range(3_000)]
    texts += ["x4+", "x>", "é", "x x+", "1 ", "x\n"]
    valid = 0
    for text in texts:
        wanted = tuple(slow(text, x) for x in (0, 3, 10, -7))
        done = run(text, (0, 3, 10, -7))
        assert (done.outputs or (None,) * 4) == wanted, text
        assert (done.outputs is None) == bool(done.error)
        valid += done.outputs is not None
    assert valid > 100


def test_rpn_clips_every_number():
    assert run("3d*d*d*").outputs[0] == 999 and run("3d*d*d*3+2-").outputs[0] == 997
    assert run("03-d*d*d*0s-").outputs[0] == -999


def test_rpn_errors_name_what_is_wrong():
    for text, message in [
        ("+", "'+' at place 1 needs two numbers, the stack holds 0"),
        ("xs", "'s' at place 2 needs two numbers, the stack holds 1"),
        ("d", "'d' at place 1 needs a number, the stack is empty"),
        ("x9", "'9' at place 2 is no instruction"),
        ("xx", "2 numbers are left"),
        ("", "0 numbers are left"),
        ("x" * 10, "10 tokens are more than 9"),
    ]:
        prompt = Rpn().sample_prompts(1, rng(), "train")[0]
        result = Rpn().verify(prompt, text)
        assert message in result.info["error"] and result.reward == 0


def test_rpn_functions_against_all_programs():
    """All 111,110 texts of up to 5 instructions; beyond that, random programs of 7 compute nothing that is not listed."""
    shortest_of = {}
    for n in range(1, 6):
        for t in product("x0123+-*ds", repeat=n):
            if (outputs := run("".join(t)).outputs) is not None:
                shortest_of.setdefault(outputs, n)
    listed = functions(5)
    assert {outputs: len(program) for outputs, program in listed.items()} == shortest_of
    listed, r, found = functions(7), rng(10), 0
    assert len(listed) == 851
    assert all(run(program).outputs == outputs and len(program) <= 7 for outputs, program in listed.items())
    for _ in range(20_000):
        outputs = run("".join(r.choice(list("xx123+-*ds"), 7))).outputs
        assert outputs is None or outputs in listed
        found += outputs is not None
    assert found > 200


@pytest.mark.parametrize("reward", ["fraction", "all"])
def test_rpn_rewards_hidden_tests_only(reward):
    task, r = Rpn(reward=reward), rng(11)
    seen = set()
    for prompt in task.sample_prompts(200, r, "train"):
        shown, wanted = prompt.data
        assert prompt.text == " ".join(f"{x}>{wanted[x]}" for x in shown) + ":"
        text = task.reference(prompt)
        at = r.integers(len(text))
        text = text[:at] + str(r.choice(list("x0123+-*"))) + text[at + 1 :]
        result = task.verify(prompt, text)
        hidden = [x for x in INPUTS if x not in shown]
        passed = [slow(text, x) == wanted[x] for x in hidden]
        assert len(hidden) == 8 and [s.right for s in result.steps] == passed
        assert result.reward == (sum(passed) / 8 if reward == "fraction" else float(all(passed)))
        assert result.info["shown"] == sum(slow(text, x) == wanted[x] for x in shown)
        seen.add(result.reward)
    assert len(seen) >= (4 if reward == "fraction" else 2)


def test_rpn_the_examples_single_out_the_function():
    """And so no prompt of one split could be a prompt of the other."""
    task = Rpn()
    for prompt in task.sample_prompts(50, rng(12), "train") + task.sample_prompts(50, rng(12), "test"):
        shown, wanted = prompt.data
        fitting = [f for f in functions(7) if all(f[x] == wanted[x] for x in shown)]
        assert fitting == [wanted]
    train, test = ({outputs for outputs, _ in task.targets[split]} for split in ("train", "test"))
    assert not train & test and train | test == set(functions(7))
    assert len(test) == pytest.approx(851 / 5, abs=5 * math.sqrt(851 * 0.16))


def test_rpn_random_strings_almost_never_pass():
    """A text of 1 to 9 symbols out of 19 is a program at all with probability p; counted over heights of the stack."""
    heights, p = {0: 1}, Fraction(0)  # height -> number of texts
    for n in range(1, 10):
        following = Counter()
        for h, ways in heights.items():
            following[h + 1] += (5 + (h > 0)) * ways  # x and digits; d
            if h > 1:
                following[h] += ways  # s
                following[h - 1] += 3 * ways
        heights = following
        p += Fraction(heights[1], 19**n * 9)
    assert float(p) == pytest.approx(0.0310, abs=1e-4)
    task, r = Rpn(reward="all"), rng(13)
    texts = [random_text(task, r)[0] for _ in range(3_000)]
    prompts = task.sample_prompts(3_000, r, "train")
    programs = sum(run(text).outputs is not None for text in texts)
    assert abs(programs - 3_000 * p) < 5 * math.sqrt(3_000 * p)
    # Of the programs, nearly all are one of x 0 1 2 3: right for 5 of the 851 functions, so p * 5 / 851 = 2e-4 a text.
    assert sum(task.verify(q, t).reward for q, t in zip(prompts, texts, strict=True)) <= 6


def test_rpn_refuses_bad_options():
    for bad, message in [({"reward": "x"}, "got 'x'"), ({"function_tokens": 8, "max_tokens": 7}, "got 8 and 7")]:
        with pytest.raises(ValueError, match=message):
            Rpn(**bad)


# ------------------------------------------------------------------------------------------------ review

vader = pytest.importorskip("vaderSentiment.vaderSentiment", reason="the package vaderSentiment is not installed")
RATED = {"GOOD": 1, "LIKE": 1, "JOY": 1, "BAD": -1, "DISLIKE": -1, "SHAME": -1}


def test_review_rated_words_are_rated_and_no_others():
    lexicon = vader.SentimentIntensityAnalyzer().lexicon
    rated = {word: sign for symbol, sign in RATED.items() for word in GRAMMAR[symbol]}
    for word in WORDS:
        assert np.sign(lexicon.get(word, 0)) == rated.get(word, 0), word
    assert 120 <= len(WORDS) <= 200
    assert {w: np.sign(vader.BOOSTER_DICT[w]) for w in WORDS if w in vader.BOOSTER_DICT} == (
        dict.fromkeys(GRAMMAR["MORE"], 1) | dict.fromkeys((*GRAMMAR["LESS"], "hardly"), -1)
    )
    assert {w for w in WORDS if w in vader.NEGATE} == {"not", "never"}


def pattern(symbol):
    """A regular expression for the texts of a symbol: the grammar has no recursion."""
    if symbol not in GRAMMAR:
        return re.escape(symbol) + " "
    return "(?:" + "|".join("".join(map(pattern, way.split())) for way in GRAMMAR[symbol]) + ")"


def beginning(symbol):
    """A regular expression for what texts of a symbol may begin with."""
    if symbol not in GRAMMAR:
        return f"(?:{re.escape(symbol)} )?"
    ways = []
    for way in GRAMMAR[symbol]:
        symbols = way.split()
        ways += ["".join(map(pattern, symbols[:i])) + beginning(symbols[i]) for i in range(len(symbols))]
    return "(?:" + "|".join(ways) + ")"


def test_review_parser_against_a_regular_expression(monkeypatch):
    """Every second text is a sentence with a word changed, dropped, doubled or cut off. Fewer words keep the expression short."""
    few = {s: (w if len(w) < 8 or " " in "".join(w) else w[:4]) for s, w in GRAMMAR.items()}
    monkeypatch.setattr(review_module, "GRAMMAR", few)
    monkeypatch.setitem(globals(), "GRAMMAR", few)
    review_module.next_words.cache_clear()
    whole, start = re.compile(pattern("TEXT")), re.compile(beginning("TEXT"))
    words = sorted({w for rule in few.values() for way in rule for w in way.split()} - set(few))
    r, kinds = rng(14), Counter()
    for i in range(1_500):
        text = review_module.finish(("TEXT",), r)
        at = r.integers(len(text))
        if i % 2:
            text = [
                [*text[:at], str(r.choice(words)), *text[at + 1 :]],
                [*text[:at], *text[at + 1 :]],
                [*text[: at + 1], *text[at:]],
                text[:at],
            ][r.integers(4)]
        n, stacks = parse(text)
        longest = max(k for k in range(len(text) + 1) if start.fullmatch("".join(w + " " for w in text[:k])))
        sentence = bool(whole.fullmatch("".join(w + " " for w in text)))
        assert n == longest and (n == len(text) and () in stacks) == sentence, text
        result = Review().verify(Prompt(" ".join(text[:3])), " ".join(text[3:]))
        missing = max(len(text), longest + 1)
        assert result.info["grammar"] == (1 if sentence else longest / missing)
        kinds[sentence] += 1
    review_module.next_words.cache_clear()
    assert min(kinds.values()) > 300


def test_review_probabilities_are_those_of_the_grammar():
    """By hand: after "i love the" a thing (27 of them), then the end or a link, then a full stop two times in three."""
    task, n = Review(), len(GRAMMAR["THING"])
    assert task.logp(Prompt("i love the"), "film.") == pytest.approx(math.log(1 / n / 2 * 2 / 3))
    assert task.logp(Prompt("i love the"), "film!") == pytest.approx(math.log(1 / n / 2 / 3))
    for text in ("film", "film..", "film is good.", "good."):
        assert task.logp(Prompt("i love the"), text) == -math.inf
    # What may come next shares out all the probability there is.
    r = rng(15)
    for prompt in task.sample_prompts(20, r, "train"):
        words = task.whole(prompt, task.reference(prompt, r))
        for k in range(len(words)):
            stacks = parse(words[:k])[1]
            onward = sum(sum(review_module.advance(stacks, w).values()) for w in WORDS)
            assert onward == pytest.approx(sum(stacks.values()))


def test_review_references_follow_the_grammar():
    """ "the film is ... ": a dozen first words with known probability, 4,000 draws, 5 standard deviations (p < 1e-5)."""
    task, prompt, r = Review(), Prompt("the film is"), rng(16)
    stacks = parse(["the", "film", "is"])[1]
    first = Counter(task.tokenizer.split(task.reference(prompt, r))[0] for _ in range(4_000))
    for word in ("not", "hardly", "a", "very", "good", "bad", "long", "old", "really", "partly"):
        p = sum(review_module.advance(stacks, word).values()) / sum(stacks.values())
        assert abs(first[word] - 4_000 * p) < 5 * math.sqrt(4_000 * p), word


def test_review_random_words_are_almost_never_a_sentence():
    """Exact: endings of 1 to 12 of the 181 words that make a sentence, counted; then 3,000 random ones."""
    task, r = Review(), rng(17)

    @cache
    def count(stacks, n):
        """How many texts of n words end a sentence from any of these stacks."""
        if n == 0:
            return int(() in stacks)
        words = {w for s in stacks for w in review_module.next_words(s)}
        return sum(
            count(frozenset(t for s in stacks for t in review_module.next_words(s).get(w, ())), n - 1) for w in words
        )

    assert count(frozenset({("END",)}), 1) == 2 and count(frozenset({("THING", "END")}), 2) == 2 * len(GRAMMAR["THING"])
    V, expected, hits = len(task.tokenizer) - 4, 0.0, 0
    for prompt in task.sample_prompts(30, r, "train"):
        stacks = frozenset(parse(task.tokenizer.split(prompt.text))[1])
        lengths = task.max_new - 1
        chance = sum(Fraction(count(stacks, n), V**n) for n in range(1, lengths + 1)) / lengths
        assert chance < 1.1e-3  # where "." and "!" may follow, 2 in 181 texts of one word
        expected += 100 * float(chance)
        hits += sum(task.verify(prompt, random_text(task, r)[0]).info["grammar"] == 1 for _ in range(100))
    assert hits <= expected + 5 * math.sqrt(expected)


def by_the_rules(valences, exclaimed=False):
    """VADER's compound score from the valences of the rated words (Hutto and Gilbert 2014)."""
    total = sum(valences)
    total += np.sign(total) * 0.292 * exclaimed
    return round(total / math.sqrt(total * total + 15), 4)


def test_review_sentiment_follows_the_published_rules():
    """Degree moves a valence by 0.293, negation turns it by -0.74, "but" halves what stands before and adds half to what follows."""
    v = vader.SentimentIntensityAnalyzer().lexicon
    for good in ("good", "superb", "awful", "sad"):
        more = 0.293 * np.sign(v[good])
        for text, valences in [
            ("the film is {}.", [v[good]]),
            ("the film is very {}.", [v[good] + more]),
            ("the film is slightly {}.", [v[good] - more]),
            ("the film is hardly {}.", [v[good] - more]),  # what it misreads
            ("the film is not {}.", [-0.74 * v[good]]),
            ("the film is not very {}.", [-0.74 * (v[good] + more)]),
            ("i do not love the film but its plot is {}.", [-0.74 * v["love"] * 0.5, v[good] * 1.5]),
            ("i hate the film and its plot is {}.", [v["hate"], v[good]]),
            ("the film is long.", []),
        ]:
            assert sentiment(text.format(good)) == pytest.approx(by_the_rules(valences), abs=1e-4), text
            assert sentiment(text.format(good)[:-1] + "!") == pytest.approx(by_the_rules(valences, True), abs=1e-4)


def test_review_rewards_the_whole_text():
    prompt = Prompt("the wonderful film is")
    result = Review().verify(prompt, "not dull.")
    assert result.reward == sentiment("the wonderful film is not dull.") and result.info["grammar"] == 1
    assert Review(fluency=0.5).verify(prompt, "not dull.").reward == result.reward + 0.5
    assert Review().verify(prompt, "").reward == sentiment("the wonderful film is")
    assert Review().verify(prompt, "").info["grammar"] == 4 / 5
    # VADER reads no grammar.
    spam = Review().verify(prompt, "great great great great!")
    assert spam.reward > 0.95 and spam.info["grammar"] == 5 / 9
    r = rng(18)
    prompts = Review().sample_prompts(400, r, "train")
    rewards = [Review().verify(p, Review().reference(p, r)).reward for p in prompts]
    assert -1 <= min(rewards) < -0.8 and 0.8 < max(rewards) <= 1


def test_review_preferences_go_round_in_circles():
    """Each of these beats the next two to one; and so do many among random sentences."""
    task, prompt, r = Review(), Prompt("the film is"), rng(19)
    texts = ["sad!", "really superb and i love the film!", "good but i do not recommend the soundtrack."]
    assert [task.aspects(prompt, t)[1:] for t in texts] == [(-5, -1), (-11, -2), (-12, 0)]
    for a, b in zip(texts, texts[1:] + texts[:1], strict=True):
        assert task.preference(prompt, a, b) == 2 / 3
    drawn = [task.reference(prompt, r) for _ in range(30)]
    P = np.array([[task.preference(prompt, a, b) for b in drawn] for a in drawn])
    assert np.allclose(P + P.T, 1) and np.allclose(np.diag(P), 0.5)
    assert any(min(P[a, b], P[b, c], P[c, a]) > 0.6 for a, b, c in permutations(range(30), 3))
    assert task.preference(prompt, "good.", "good.") == 0.5
    assert task.preference(prompt, "good.", "very bad!") == 1


def test_review_names_the_word_that_cannot_stand_there():
    with pytest.raises(ValueError, match="no sentence starts with 'the film film': 'film' cannot stand there"):
        Review().reference(Prompt("the film film"), rng())
    with pytest.raises(ValueError, match="fluency must be >= 0, got -1"):
        Review(fluency=-1)
    with pytest.raises(ValueError, match="got nan"):
        Review(fluency=math.nan)


def test_review_without_vader_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    review_module.analyser.cache_clear()
    with pytest.raises(ImportError, match="pip install vaderSentiment"):
        sentiment("a text that was never scored before")
    review_module.analyser.cache_clear()


# ------------------------------------------------------------------------------------------------- guess


def minimax(rules, limit):
    """Total cost of the best play over all secrets, by plain recursion over sets of candidates: no bound, no bits."""

    @cache
    def cost(candidates, left):
        if left == 0:
            return 0
        best = len(candidates) * left
        for name, row in zip(rules.names, rules.replies, strict=True):
            groups = {}
            for s in candidates:
                if s != name:
                    groups.setdefault(row[s], set()).add(s)
            best = min(best, sum(len(g) + cost(frozenset(g), left - 1) for g in groups.values()))
        return best

    return cost(frozenset(range(len(rules.replies[0]))), limit)


@pytest.mark.parametrize(
    "rules",
    [
        number(2),
        number(5),
        number(9),
        questions(1),
        questions(2),
        questions(3),
        mastermind(2, 3),
        mastermind(2, 4),
        mastermind(3, 3),
    ],
    ids=lambda rules: rules.moves[-1],
)
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_guess_optimum_by_plain_recursion(rules, limit):
    task = Guess(rules, limit)
    start = task.observe(task.start(0))
    assert task.value(start) * len(rules.replies[0]) == -minimax(rules, limit)


@pytest.mark.parametrize(
    ("rules", "total"),
    [
        (number(), 1 * 2 + 2 * 4 + 3 * 8 + 4 * 16 + 5),  # halving: 1 found at once, 2 after one miss, 4 after two ...
        (questions(), 32 * 5 + 32 * 6),  # five questions leave two creatures
        (mastermind(), 142),  # `minimax` gives the same, in 15 s
    ],
    ids=["number", "questions", "mastermind"],
)
def test_guess_optimal_moves_earn_the_optimum(rules, total):
    """Played against every secret, the optimal moves earn exactly the value that the dynamic programme promises."""
    task = Guess(rules, limit=10)
    starts = [task.start(s) for s in range(len(rules.replies[0]))]
    plays = task.play(starts, lambda prompts: [task.all_answers(p)[0] for p in prompts])
    assert -sum(p.score for p in plays) == total
    assert task.value(task.observe(starts[0])) == -total / len(plays)
    assert all(p.done and p.turns[-1].reward == 0 for p in plays)
    assert all(len(p.turns) - 1 == -p.score for p in plays)


@pytest.mark.parametrize(
    "rules", [number(12), questions(3), mastermind(2, 4)], ids=["number", "questions", "mastermind"]
)
def test_guess_values_obey_the_bellman_equation(rules):
    """The value of a position is that of its best move, and a move is worth the mean over secrets of what follows."""
    task, r = Guess(rules, 5), rng(21)
    for prompt in task.sample_prompts(40, r, "train"):
        mask, left = prompt.data
        secrets = [s for s in range(len(rules.replies[0])) if mask >> s & 1]
        worth = {}
        for move, name, row in zip(rules.moves, rules.names, rules.replies, strict=True):
            after = 0.0
            for s in secrets:
                if s != name:
                    same = sum(1 << t for t in secrets if row[t] == row[s] and t != name)
                    after += -1 + task.value(Prompt("", (same, left - 1)))
            worth[move] = after / len(secrets)
        best = max(worth.values())
        assert task.value(prompt) == pytest.approx(best)
        assert set(task.all_answers(prompt)) == {m for m, w in worth.items() if w > best - 1e-9}
        for move, w in worth.items():
            result = task.verify(prompt, move)
            assert result.info["action_value"] == pytest.approx(w) and result.info["value"] == pytest.approx(best)
            assert result.reward == float(w > best - 1e-9)
        nothing = task.verify(prompt, "nothing")
        assert nothing.reward == 0
        assert nothing.info["action_value"] == pytest.approx(-1 + task.value(Prompt("", (mask, left - 1))))


def test_guess_replies():
    assert [number(4).replies[2][s] for s in range(4)] == [">", ">", "=", "<"]  # read "2 > 0"
    for guess, secret in product(map("".join, product("abcd", repeat=3)), repeat=2):
        exact = sum(a == b for a, b in zip(guess, secret, strict=True))
        most = max(sum(a == b for a, b in zip(order, secret, strict=True)) for order in permutations(guess))
        assert pegs(guess, secret) == f"{exact}{most - exact}"
    rules = questions()
    table = [tuple(rules.replies[a][s] for a in range(6)) for s in range(64)]
    assert sorted(table) == sorted(product(("no", "yes"), repeat=6))  # every combination once
    says = rules.replies[6:]
    assert all((says[i][s] == "yes") == (i == s) for i, s in product(range(64), repeat=2))
    assert len(set(rules.moves)) == 70


def test_guess_names_do_not_tell_the_attributes():
    """No letter of a name goes with an attribute: 64 creatures, and no table of counts is further from even than chance (p > 1e-3)."""
    from scipy.stats import chi2_contingency

    rules = questions()
    for attribute in range(6):
        for letter in range(4):
            counts = Counter((rules.moves[6 + s][4 + letter], rules.replies[attribute][s]) for s in range(64))
            letters = sorted({k for k, _ in counts})
            table = np.array([[counts[k, yes] for yes in ("yes", "no")] for k in letters])
            assert chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize("task", [t for t in TASKS.values() if isinstance(t, Guess)], ids=lambda t: t.rules.moves[-1])
def test_guess_transcripts_say_what_is_known(task):
    """The candidates are the secrets that fit the transcript, read again from its text."""
    for prompt in task.sample_prompts(60, rng(22), "train"):
        words = prompt.text.split()
        if task.words:
            turns = [(" ".join(words[i : i + 2]), words[i + 2]) for i in range(0, len(words), 3)]
        else:
            cut = [-2, -1][task.rules.invalid == "?" and "<" in task.rules.symbols]
            turns = [(w[:cut], w[cut:]) for w in words]
        fits = range(len(task.rules.replies[0]))
        for move, reply in turns:
            fits = [s for s in fits if task.rules.replies[task.index[move]][s] == reply]
        assert prompt.data == (sum(1 << s for s in fits), task.limit - len(turns))


def test_guess_one_game():
    task = Guess(number(), limit=4)
    play = task.start(19)
    assert task.observe(play).text == "" and play.score == 0
    for text, reply, seen in [("15", "<", "15< "), ("xx", "?", "15< ? "), ("20", ">", "15< ? 20> ")]:
        play = task.act(play, text)
        assert play.turns[-1].reply == reply and play.turns[-1].reward == -1 and not play.done
        assert task.observe(play).text == seen
    assert play.candidates == sum(1 << s for s in range(16, 20))
    won, lost = task.act(play, "19"), task.act(play, "18")
    assert won.done and won.score == -3 and won.turns[-1].reply == "="
    assert lost.done and lost.score == -4
    assert won.turns[1].prompt.text == "15< " and won.turns[1].text == "xx"
    with pytest.raises(ValueError, match="the game is over after 4 turns"):
        task.act(won, "19")


def test_guess_questions_read_as_words():
    task = Guess(questions())
    play = task.act(task.act(task.start(0), "ask wings?"), "what is it?")
    assert task.observe(play).text == "ask wings? yes what "
    assert task.tokenizer.decode(task.tokenizer.encode("ask wings? yes what ")) == "ask wings? yes what"
    assert play.candidates.bit_count() == 32


@pytest.mark.parametrize("task", [t for t in TASKS.values() if isinstance(t, Guess)], ids=lambda t: t.rules.moves[-1])
def test_guess_a_model_plays_many_games_at_once(task):
    """An untrained model, no better than chance; the same seed gives the same games, and transcripts fit the context."""
    generator = torch.Generator().manual_seed(0)
    model = GPT(GPTConfig(len(task.tokenizer), task.context, 16, 1, 2), generator)

    def games(seed):
        r, g = rng(seed), torch.Generator().manual_seed(seed)
        return task.play([task.reset(r) for _ in range(40)], task.by_model(model, g))

    plays = games(0)
    assert plays == games(0) and plays != games(1)
    for play in plays:
        assert play.done and -task.limit <= play.score <= 0
        assert (play.score == -task.limit) == (play.turns[-1].reward == -1)
        for before, after in pairwise(play.turns):
            assert after.prompt.text.startswith(before.prompt.text) and before.reward == -1
    longest = max(task.rules.moves, key=lambda m: len(task.tokenizer.encode(m)))
    wrong = task.index[longest]
    play = task.start((task.rules.names[wrong] + 1) % len(task.rules.replies[0]))
    while not play.done:
        seen = len(task.tokenizer.encode(task.observe(play).text))
        play = task.act(play, longest)
    assert 1 + seen + task.max_new <= task.context <= 1 + seen + task.max_new + task.limit


def test_guess_refuses_bad_options():
    for make, message in [
        (lambda: number(1), "n must be 2 to 100, got 1"),
        (lambda: questions(7), "attributes must be 1 to 6, got 7"),
        (lambda: mastermind(4, 4), "at most 100 codes .* got 4 places, 4 colours"),
        (lambda: Guess(number(), 0), "limit must be at least 1, got 0"),
        (lambda: Guess(number()).start(32), "there are 32 secrets, no number 32"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
