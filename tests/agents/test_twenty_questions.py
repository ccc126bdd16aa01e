"""The game of twenty questions: table, sentences, oracle, and what is known exactly about it."""

import math
from functools import cache

import numpy as np
import pytest

from minirl.lm.tasks import Prompt
from minirl.lm.tasks.twenty_questions import ATTRIBUTES, OBJECTS, PHRASINGS, TwentyQuestions, bits_learned, rules


@pytest.fixture(scope="module")
def task():
    return TwentyQuestions(rules(16), limit=8)


def test_the_table_names_known_objects_and_tells_them_apart_by_attributes_alone(task):
    for word, (kind, having) in ATTRIBUTES.items():
        assert kind in PHRASINGS and set(having.split()) <= set(OBJECTS), word
        assert len(having.split()) == len(set(having.split())), word
    asked = len(ATTRIBUTES) * 3
    assert len(set(zip(*task.rules.replies[:asked], strict=True))) == 16
    assert len(set(zip(*rules(32).replies[:asked], strict=True))) == 32
    assert len(OBJECTS) == len(set(OBJECTS)) == 32 and len(ATTRIBUTES) == 24


def test_every_sentence_is_unique_has_several_tokens_and_survives_the_tokenizer(task):
    texts = task.rules.moves
    assert len(set(texts)) == len(texts) == 3 * (24 + 16)
    for text in texts:
        ids = task.tokenizer.encode(text)
        assert 4 <= len(ids) <= 6 and task.tokenizer.unknown not in [task.tokenizer.symbols[i] for i in ids]
        assert task.tokenizer.decode(ids, special=True) == text


def test_the_oracle_answers_by_the_table_in_every_phrasing(task):
    for s, name in enumerate(OBJECTS[:16]):
        for word, (kind, having) in ATTRIBUTES.items():
            for phrasing in PHRASINGS[kind]:
                turn = task.act(task.start(s), phrasing.format(word)).turns[-1]
                assert (turn.reply, turn.reward) == ("yes" if name in having.split() else "no", -1.0)
        for other in OBJECTS[:16]:
            play = task.act(task.start(s), PHRASINGS["guess"][s % 3].format(other))
            assert play.done == (other == name) and play.score == -(other != name)


@pytest.mark.parametrize(
    "text", ["", "is it", "is it alive", "can it alive?", "is it the cat?", "<pad> is it alive?", "yes"]
)
def test_any_other_text_is_an_invalid_question_that_costs_a_turn_and_tells_nothing(task, text):
    play = task.act(task.start(3), text)
    assert (play.turns[-1].reply, play.turns[-1].reward) == ("invalid question", -1.0)
    assert play.candidates == (1 << 16) - 1 and not play.done and task.info_gain(play.candidates, text) == 0


def test_a_game_ends_at_the_limit(task):
    play = task.start(0)
    for _ in range(8):
        assert not play.done
        play = task.act(play, "is it alive?")
    assert play.done and play.score == -8


def test_information_gain_is_the_mutual_information_of_object_and_reply(task):
    rng = np.random.default_rng(0)
    for _ in range(200):
        inside = rng.choice(16, size=rng.integers(1, 17), replace=False)
        text = str(rng.choice(task.rules.moves))
        replies = [task.act(task.start(int(s)), text).turns[-1].reply for s in inside]
        after = sum(math.log2(replies.count(r)) for r in replies) / len(replies)
        bits = task.info_gain(sum(1 << int(s) for s in inside), text)
        assert bits == pytest.approx(math.log2(len(inside)) - after, abs=1e-12)


def test_the_best_play_is_that_of_an_independent_enumeration():
    """Five objects, four turns: expectimax over sets of objects, without bounds or bit masks."""
    small = TwentyQuestions(rules(5), limit=4)

    @cache
    def best(objects, left):
        if left == 0:
            return 0.0
        found = []
        for i, text in enumerate(small.rules.moves):
            value = 0.0
            for reply in ("yes", "no"):
                part = frozenset(s for s in objects if small.rules.replies[i][s] == reply)
                if part and not (reply == "yes" and small.rules.names[i] >= 0):
                    value += len(part) / len(objects) * (-1 + best(part, left - 1))
            found.append(value if text else 0.0)
        return max(found)

    assert small.value(Prompt("", (0b11111, 4))) == pytest.approx(best(frozenset(range(5)), 4), abs=1e-12)


def test_nobody_beats_the_best_play_and_greedy_questions_come_close(task):
    best = task.value(Prompt("", ((1 << 16) - 1, 8)))
    greedy = np.mean([task.play_greedy(s).score for s in range(16)])
    assert -16 / 2 < greedy <= best < 0 and best == -3.5 and greedy >= best - 1
    assert 2.5 < task.greedy_bits(3) <= 3.0  # a yes or no tells at most one bit


def test_bits_are_counted_from_the_candidates_that_are_left(task):
    play = task.act(task.act(task.act(task.start(0), "is it alive?"), "is it alive?"), "nonsense")
    alive = sum("alive" == w and OBJECTS[s] in h.split() for w, (_, h) in ATTRIBUTES.items() for s in range(16))
    assert bits_learned(play) == bits_learned(task.act(play, "does it fly?")) == pytest.approx(math.log2(16 / alive))
    won = task.act(task.start(0), "is it the dog?")
    assert bits_learned(won) == 4.0 and bits_learned(task.start(0)) == 0.0


def test_the_weak_questioner_speaks_well_and_plays_badly(task):
    rng = np.random.default_rng(1)
    plays = task.play([task.reset(rng) for _ in range(300)], lambda ps: [task.random_move(p, rng) for p in ps])
    assert all(turn.reply != "invalid question" for p in plays for turn in p.turns)
    assert -7 < np.mean([p.score for p in plays]) < -5  # standard error about 0.13


@pytest.mark.parametrize("objects", [1, 33])
def test_a_wrong_number_of_objects_is_refused(objects):
    with pytest.raises(ValueError, match=f"objects must be 2 to 32, got {objects}"):
        rules(objects)
