"""ArCHer: the losses against exact values and gradients, the tensors against one turn at a time, and the baselines."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from minirl.agents import archer, archer_baselines, archer_start
from minirl.agents.archer import ArCHer, Config, Critic, Replay
from minirl.agents.archer_baselines import CHAI, PPO, FilteredBC, PPOConfig, Reinforce
from minirl.experiments import archer as experiment
from minirl.lm.dialogues import Dialogue, converse, recorded, say, stream, token_logp
from minirl.lm.gpt import GPT, GPTConfig
from minirl.lm.logp import score
from minirl.lm.rl_core import gae
from minirl.lm.tasks.twenty_questions import TwentyQuestions, rules
from minirl.lm.tok import EOS, left_pad, right_pad

TASK = TwentyQuestions(rules(4), limit=4)


def tiny(seed=0):
    """A policy without training, which mostly says nonsense."""
    return archer_start.new_policy(TASK, seed, width=16, layers=1)


def games(n=6, seed=0, questioner=True):
    """Dialogues in which the weak questioner and an untrained policy take turns at random."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    policy = tiny()
    plays = [TASK.reset(rng) for _ in range(n)]

    def choose(states):
        said = say(policy, states, TASK, generator)
        if not questioner:
            return said
        moves = [(*TASK.tokenizer.encode(str(rng.choice(TASK.rules.moves))), EOS) for _ in states]
        return [a if rng.random() < 0.7 else b for a, b in zip(moves, said, strict=True)]

    return converse(TASK, plays, choose)


# --------------------------------------------------------------- a decision process that is small enough to solve
# Four states, two turns: s0 -> s1, s2 or s3 by the utterance; an utterance is two tokens of {0, 1}.

UTTERANCES = list(itertools.product((0, 1), repeat=2))
NEXT = [1, 1, 2, 3]  # of s0 by utterance
REWARD = torch.tensor([[0.3, -1.0, 0.5, 0.1], [1, 0, -1, 2], [0.5, 0.2, 3, -2], [-1, 1, 0.4, 0.6]], dtype=torch.float64)
GAMMA = 0.9


def policy_table(theta):
    """theta (4, 3, 2): logits of the first token, and of the second after 0 and 1 -> probabilities (4, 4)."""
    logp = theta.log_softmax(-1)
    return torch.stack([(logp[:, 0, a] + logp[:, 1 + a, b]).exp() for a, b in UTTERANCES], 1)


def exact(theta):
    """Q (4, 4), V (4,) and J, by hand from the last turn to the first."""
    pi = policy_table(theta)
    v_last = (pi * REWARD).sum(1)
    q0 = REWARD[0] + GAMMA * v_last[NEXT]
    v0 = (pi[0] * q0).sum()
    q = torch.cat([q0[None], REWARD[1:]])
    return q, torch.cat([v0[None], v_last[1:]]), v0


@pytest.fixture
def theta():
    return torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)


def test_the_fixed_point_of_the_four_losses_is_the_value_of_the_policy(theta):
    """Tables for Q and V, exact expectations in place of samples, gradient descent and a slow target."""
    want_q, want_v, _ = exact(theta.detach())
    pi = policy_table(theta.detach())
    q, v = (torch.zeros(2, *shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 4), (4,)))
    q_bar, v_bar = q.detach().clone(), v.detach().clone()
    terminated = torch.tensor([0.0, 1, 1, 1], dtype=torch.float64).repeat_interleave(4)
    following = torch.tensor([*NEXT] + [0] * 12)
    for _ in range(600):
        goal = archer.q_target(REWARD.flatten(), terminated, v_bar[:, following], GAMMA)
        v_goal = (q_bar * pi).sum(-1)
        loss_q = archer.critic_loss(q.flatten(1), goal, v, v)
        loss_v = archer.critic_loss(q.flatten(1), q.flatten(1), v, v_goal)
        grad_q, grad_v = torch.autograd.grad(loss_q, q)[0], torch.autograd.grad(loss_v, v)[0]
        with torch.no_grad():
            q -= 4 * grad_q
            v -= 1 * grad_v
            q_bar.lerp_(q, 0.3)
            v_bar.lerp_(v, 0.3)
    for i in range(2):
        assert torch.allclose(q[i], want_q, atol=1e-8) and torch.allclose(v[i], want_v, atol=1e-8)


def test_goals_carry_no_gradient_and_each_of_the_four_errors_counts_once():
    q, v, a, b = (torch.randn(2, 5, generator=torch.Generator().manual_seed(i), requires_grad=True) for i in range(4))
    loss = archer.critic_loss(q, a, v, b)
    want = sum(F.mse_loss(x[i], y[i]) for x, y in ((q, a), (v, b)) for i in range(2))
    assert loss.item() == pytest.approx(want.item(), abs=1e-6)
    loss.backward()
    assert a.grad is None and b.grad is None and q.grad.abs().sum() > 0 and v.grad.abs().sum() > 0


def token_terms(theta, state, utterance):
    """Log-probabilities of the two tokens of an utterance."""
    logp = theta.log_softmax(-1)
    a, b = utterance
    return torch.stack([logp[state, 0, a], logp[state, 1 + a, b]])


def weighted_turns(theta):
    """(state, utterance index, discounted probability that a dialogue has this turn)."""
    pi = policy_table(theta).detach()
    reach = torch.zeros(4, dtype=torch.float64)
    for i, s in enumerate(NEXT):
        reach[s] += pi[0, i]
    weight = torch.cat([pi[:1], GAMMA * reach[1:, None] * pi[1:]])
    return [(s, i, weight[s, i]) for s in range(4) for i in range(4)]


@pytest.mark.parametrize("baseline", [False, True])
def test_the_actor_follows_the_gradient_of_the_return(theta, baseline):
    """Eq. (7), with each turn weighted as the policy visits it, against finite differences of the exact return; a
    token baseline E[A | s, first tokens] does not change it."""
    q, v, _ = exact(theta.detach())
    pi = policy_table(theta.detach())
    turns = weighted_turns(theta)
    logp = torch.stack([token_terms(theta, s, UTTERANCES[i]) for s, i, _ in turns])
    adv = torch.stack([archer.advantage(q[s, i].expand(2, 1), v[s].expand(2, 1))[0] for s, i, _ in turns])
    weight = torch.stack([w for _, _, w in turns])
    tokens = adv[:, None].expand(-1, 2).clone()
    if baseline:
        for row, (s, i, _) in enumerate(turns):
            like = [j for j in range(4) if UTTERANCES[j][0] == UTTERANCES[i][0]]
            p = pi[s, like] / pi[s, like].sum()
            tokens[row, 1] -= (p * (q[s, like] - v[s])).sum()
    # actor_loss is a mean over rows: weights go into the advantage
    loss = archer.actor_loss(logp, torch.ones_like(logp), tokens * weight[:, None] * len(turns))
    grad = torch.autograd.grad(loss, theta)[0]
    with torch.no_grad():
        for index in itertools.product(range(4), range(3), range(2)):
            ends = []
            for sign in (1, -1):
                moved = theta.detach().clone()
                moved[index] += sign * 1e-6
                ends.append(exact(moved)[2])
            assert -grad[index] == pytest.approx(((ends[0] - ends[1]) / 2e-6).item(), abs=1e-8)


def test_the_advantage_takes_the_smaller_head_of_each_and_no_gradient():
    q = torch.tensor([[1.0, 5.0], [2.0, 3.0]], requires_grad=True)
    v = torch.tensor([[0.5, 1.0], [4.0, -1.0]], requires_grad=True)
    adv = archer.advantage(q, v)
    assert adv.tolist() == [0.5, 4.0] and not adv.requires_grad


def test_the_actor_loss_counts_every_token_of_an_utterance_once_and_no_padding():
    logp = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    mask = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    adv = torch.tensor([2.0, -1.0, 0.5], requires_grad=True)
    archer.actor_loss(logp, mask, adv).backward()
    assert torch.allclose(logp.grad, -adv.detach()[:, None] * mask / 3) and adv.grad is None


def test_one_token_makes_an_ordinary_actor_critic_and_the_baseline_fits_the_advantage():
    logp, adv = torch.randn(5, 1), torch.randn(5)
    assert archer.actor_loss(logp, torch.ones(5, 1), adv).item() == pytest.approx(
        -(logp[:, 0] * adv).mean().item(), abs=1e-6
    )
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    b = torch.zeros(2, 2, requires_grad=True)
    archer.baseline_loss(b, mask, torch.tensor([1.0, 3.0])).backward()
    assert torch.allclose(b.grad, torch.tensor([[-2.0, -2.0], [-6.0, 0.0]]) / 3)


def test_polyak_moves_the_target_by_tau():
    target, online = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    before = copy.deepcopy(target)
    archer.polyak(target, online, 0.1)
    assert torch.allclose(target.weight, 0.9 * before.weight + 0.1 * online.weight)
    assert torch.allclose(target.bias, 0.9 * before.bias + 0.1 * online.bias)


# ------------------------------------------------------------------------------------------ dialogues as tensors


def test_a_dialogue_holds_what_was_said_and_replied():
    for d in games():
        assert len(d.states) == len(d.utterances) == len(d.rewards) == len(d.play.turns)
        text = [1]
        for state, said, turn in zip(d.states, d.utterances, d.play.turns, strict=True):
            assert list(state) == text
            assert turn.text == TASK.tokenizer.decode(said, special=True)
            text += [i for i in said if i != EOS] + TASK.tokenizer.encode(turn.reply)
        assert d.score == d.play.score == -(len(d.rewards) - (d.rewards[-1] == 0))
        assert 2 not in said[:-1]


def test_an_untrained_policy_only_hears_invalid_question():
    for d in games(questioner=False):
        assert d.rewards == (-1.0,) * 4 and {t.reply for t in d.play.turns} == {"invalid question"}


def test_a_recorded_game_is_the_dialogue_of_the_same_sentences():
    rng = np.random.default_rng(3)
    plays = TASK.play([TASK.reset(rng) for _ in range(5)], lambda ps: [TASK.random_move(p, rng) for p in ps])
    for play in plays:
        said = iter(play.turns)
        again = converse(
            TASK, [TASK.start(play.secret)], lambda _, s=said: [(*TASK.tokenizer.encode(next(s).text), EOS)]
        )[0]
        once = recorded(TASK, play)
        assert (once.states, once.utterances, once.rewards) == (again.states, again.utterances, again.rewards)


def test_one_pass_over_a_dialogue_scores_every_utterance_as_a_row_of_its_own_does():
    policy, dialogues = tiny().double(), games()
    data = stream(dialogues)
    logp, _ = token_logp(policy, data)
    prompt, n_pad = left_pad([s for d in dialogues for s in d.states])
    answer, mask = right_pad([u for d in dialogues for u in d.utterances])
    want = score(policy, prompt, n_pad, answer, mask.double()).logp
    row = 0
    for e, d in enumerate(dialogues):
        for h, said in enumerate(d.utterances):
            first, last = data.ends[e, h], data.last[e, h]
            assert torch.allclose(logp[e, first : last + 1], want[row, : len(said)], atol=1e-12)
            row += 1
    assert logp.sum().item() == pytest.approx(want.sum().item(), abs=1e-9)
    assert data.mask.sum() == mask.sum() and int(data.real.sum()) == row == len(data.reward)
    assert data.terminated.sum() == len(dialogues) and data.reward.sum() == sum(d.score for d in dialogues)


def test_the_critic_reads_a_turn_alone_as_it_reads_it_inside_a_dialogue():
    """And what follows an utterance, or stands in other rows, plays no part."""
    critic = Critic(tiny(), torch.Generator().manual_seed(0)).double()
    dialogues = games(40)  # more turns than go together
    data = stream(dialogues)
    inside = torch.stack([critic.read(data.ids, columns)[data.real] for columns in (data.ends, data.last)], 1)
    turns = [(s, u) for d in dialogues for s, u in zip(d.states, d.utterances, strict=True)]
    assert len(turns) > 64
    alone = archer.codes(critic, *zip(*turns, strict=True))
    assert alone.shape == (len(turns), 2, 16) and torch.allclose(inside, alone, atol=1e-12)
    for i in (0, len(turns) - 1):
        state, said = turns[i]
        for code, text in zip(alone[i], (state, (*state, *said[:-1])), strict=True):
            want = critic.encoder(torch.tensor([text]))[1][0, -1]
            assert torch.allclose(code, want, atol=1e-12)
    assert critic.q(*alone.unbind(1)).shape == critic.v(alone[:, 0]).shape == (2, len(turns))


def test_a_critic_step_aims_at_the_reward_and_the_target_critic(monkeypatch):
    """The goals that reach the loss are those of eqs. (4, 5), turn by turn."""
    agent, dialogues = ArCHer(Config(gamma=0.8), TASK, tiny()), games(4)
    for head in (*agent.target.q_heads, *agent.target.v_heads):
        torch.nn.init.normal_(head[-1].weight, generator=torch.Generator().manual_seed(1))
    fresh = [u for d in games(8, seed=5) for u in d.utterances][: sum(len(d.rewards) for d in dialogues)]
    seen = {}

    def spy(q, q_goal, v, v_goal):
        seen.update(q=q_goal.clone(), v=v_goal.clone())
        return (q - q_goal).square().mean() + (v - v_goal).square().mean()

    monkeypatch.setattr(archer, "critic_loss", spy)
    target = copy.deepcopy(agent.target)
    agent.critic_step(dialogues, fresh)
    row = 0
    for d in dialogues:
        for h, reward in enumerate(d.rewards):
            read = [target.encoder(torch.tensor([d.states[h] + u]))[1][0, -1] for u in ((), fresh[row][:-1])]
            want = target.q(*read)
            assert torch.allclose(seen["v"][:, row], want, atol=1e-5)
            goal = torch.full((2,), reward)
            if h + 1 < len(d.rewards):
                after = torch.tensor([d.states[h + 1]])
                goal = goal + 0.8 * target.v(target.read(after, torch.tensor([[after.shape[1] - 1]]))[:, 0])[:, 0]
            assert torch.allclose(seen["q"][:, row], goal, atol=1e-5)
            row += 1


def test_the_replay_keeps_the_newest_dialogues():
    replay, dialogues = Replay(10), games(6, questioner=False)  # four turns each
    replay.add(dialogues)
    assert replay.dialogues == dialogues[-2:] and replay.turns == 8
    assert set(map(id, replay.sample(50, np.random.default_rng(0)))) == set(map(id, dialogues[-2:]))
    with pytest.raises(ValueError, match="reward"):
        replay.add([Dialogue(((1,),), ((2,),), (float("nan"),), dialogues[0].play)])


# ------------------------------------------------------------------------------------------------------- learning

SMALL = {"episodes": 8, "critic_steps": 3, "critic_dialogues": 4, "actor_turns": 8}


def test_the_policy_waits_for_the_critic_and_equal_seeds_learn_alike():
    logs = []
    for _ in range(2):
        start = tiny()
        agent = ArCHer(Config(warmup=1, **SMALL), TASK, start)
        steps = agent.learn(2)
        first = next(steps)
        still = all(torch.equal(a, b) for a, b in zip(start.parameters(), agent.policy.parameters(), strict=True))
        assert still and "spread" not in first
        second = next(steps)
        assert "spread" in second and first["step"] == 8 and second["progress"] == 1.0
        assert any(not torch.equal(a, b) for a, b in zip(start.parameters(), agent.policy.parameters(), strict=True))
        logs.append([first, second])
    assert logs[0] == logs[1]


def test_the_actor_learns_what_the_critic_prefers():
    """A critic that only likes utterances beginning with one token makes the policy say it."""
    agent = ArCHer(Config(policy_lr=1e-2, actor_steps=40, actor_turns=64, warmup=0), TASK, tiny())
    agent.replay.add(games(4, questioner=False))
    liked = 10

    def advantages(states, utterances):
        found = torch.tensor([float(u[0] == liked) for u in utterances])
        return found - found.mean()

    agent.advantages = advantages
    before = agent.policy(torch.tensor([[1]]))[0][0, -1].softmax(-1)[liked].item()
    agent.update_actor()
    after = agent.policy(torch.tensor([[1]]))[0][0, -1].softmax(-1)[liked].item()
    assert before < 0.05 and after > 0.5


def test_settings_out_of_range_are_refused():
    for wrong, message in (
        ({"gamma": 1.5}, "gamma"),
        ({"tau": 0.0}, "tau"),
        ({"episodes": 0}, "episodes"),
        ({"warmup": -1}, "warmup"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**wrong)


def test_the_encoder_takes_smaller_steps_than_the_heads():
    agent = ArCHer(Config(critic_lr=1e-2, encoder_lr=1e-3), TASK, tiny())
    groups = agent.critic_optimiser.param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert {rates[id(p)] for p in agent.critic.encoder.parameters()} == {1e-3}
    assert {rates[id(p)] for net in (agent.critic.q_heads, agent.critic.v_heads) for p in net.parameters()} == {1e-2}
    assert len(rates) == len(list(agent.critic.parameters()))


def test_each_visit_of_a_state_has_an_utterance_of_its_own(monkeypatch):
    """All dialogues begin alike; one utterance for all of them would not be a mean over the policy."""
    agent = ArCHer(Config(critic_steps=3, critic_dialogues=4), TASK, tiny())
    agent.replay.add(games(4))
    seen = []
    monkeypatch.setattr(agent, "critic_step", lambda batch, fresh: seen.append((batch, fresh)) or 0.0)
    monkeypatch.setattr(agent, "act", lambda states: list(enumerate(states)))
    agent.update_critic()
    assert [state for _, fresh in seen for _, state in fresh] == [
        s for batch, _ in seen for d in batch for s in d.states
    ]
    assert len({i for _, fresh in seen for i, _ in fresh}) == sum(len(fresh) for _, fresh in seen)


# ---------------------------------------------------------------------------------------------------- fine-tuning


def spoken_games(n=60, seed=0):
    rng = np.random.default_rng(seed)
    plays = [TASK.reset(rng) for _ in range(n)]
    plays = TASK.play(plays, lambda prompts: [archer_start.spoken(TASK, p, rng) for p in prompts])
    return [recorded(TASK, play) for play in plays]


def test_the_questioner_sometimes_talks_nonsense_that_fits_into_an_utterance():
    turns = [(t, u) for d in spoken_games(300) for t, u in zip(d.play.turns, d.utterances, strict=True)]
    share = np.mean([t.reply == "invalid question" for t, _ in turns])
    assert 0.08 < share < 0.2  # expected about 0.14, and over 700 turns
    assert all(len(u) <= TASK.max_new for _, u in turns)
    nonsense = [t.text for t, _ in turns if t.reply == "invalid question"]
    assert {text.endswith("?") for text in nonsense} == {True, False}  # a word in the wrong sentence, and pieces


def test_columns_know_their_turn_and_the_two_further_heads_read_before_and_after_an_utterance():
    dialogues = spoken_games(8)
    data = stream(dialogues)
    number, row = archer_start.turn_of(data), 0
    hidden = torch.arange(data.ids.numel()).view(*data.ids.shape, 1)
    before, after = (archer_start.at(hidden, columns)[data.real][:, 0] for columns in (data.ends, data.last))
    for e, d in enumerate(dialogues):
        for state, said in zip(d.states, d.utterances, strict=True):
            first = len(state) - 1
            assert (number[e, first : first + len(said)] == row).all()
            assert before[row] == e * data.ids.shape[1] + first
            assert after[row] == before[row] + len(said) - 1
            row += 1


def test_nonsense_is_foreseen_but_not_imitated(monkeypatch):
    """The likelihood counts the tokens of proper sentences only, the reply to every utterance."""
    monkeypatch.setattr(archer_start, "DIALOGUES", 40)
    batches, masks, replies = [], [], []
    cross_entropy = F.cross_entropy
    monkeypatch.setattr(archer_start, "stream", lambda part: batches.append(part) or stream(part))
    monkeypatch.setattr(
        archer_start, "masked_mean", lambda x, mask: masks.append(mask) or (x * mask).sum() / mask.sum()
    )
    monkeypatch.setattr(archer_start.F, "cross_entropy", lambda x, goal: replies.append(goal) or cross_entropy(x, goal))
    for _ in archer_start.fine_tune(archer_start.new_policy(TASK, width=16, layers=1), TASK, steps=1):
        pass
    (dialogues,), (mask,), (secrets, reply) = batches, masks, replies
    data, row = stream(dialogues), 0
    for e, d in enumerate(dialogues):
        for h, (turn, said) in enumerate(zip(d.play.turns, d.utterances, strict=True)):
            proper = turn.text in TASK.rules.moves
            first = data.ends[e, h]
            assert mask[e, first : first + len(said)].tolist() == [float(proper)] * len(said)
            assert archer_start.REPLIES[reply[row]] == turn.reply and secrets[row] == d.play.secret
            row += 1
    assert row == len(reply) == len(secrets) and 0 < (reply == 2).sum() < row / 2
    proper = sum(
        len(u) for d in dialogues for t, u in zip(d.play.turns, d.utterances, strict=True) if t.reply[0] != "i"
    )
    assert mask.sum() == proper


# ------------------------------------------------------------------------------------------------------ baselines


def test_ppo_sees_a_dialogue_as_one_episode_of_tokens():
    dialogues = games()
    data = stream(dialogues)
    reward = archer_baselines.token_rewards(data)
    there = archer_baselines.packed(data, data.mask)
    row = archer_baselines.packed(data, reward)
    assert torch.equal(archer_baselines.unpacked(data, row), reward)
    assert row.sum(1).tolist() == [d.score for d in dialogues]
    _, goal = gae(row, torch.zeros_like(row), there, 1.0, 1.0)
    for e, d in enumerate(dialogues):
        want = []
        for h, said in enumerate(d.utterances):
            want += [sum(d.rewards[h:])] * len(said)
        assert goal[e, : len(want)].tolist() == pytest.approx(want)
        assert goal[e, len(want) :].abs().sum() == 0


def test_ppo_fits_values_first_and_its_penalty_starts_at_zero():
    start = tiny()
    agent = PPO(PPOConfig(episodes=8, prefit=1, minibatch=4), TASK, start)
    steps = agent.learn(2)
    first = next(steps)
    assert first["kl"] == pytest.approx(0, abs=1e-6) and "clipped" not in first
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), agent.policy.parameters(), strict=True))
    assert "clipped" in next(steps)
    assert any(not torch.equal(a, b) for a, b in zip(start.parameters(), agent.policy.parameters(), strict=True))


def test_filtered_cloning_learns_from_the_best_dialogues_only(monkeypatch):
    agent = FilteredBC(Config(episodes=4), TASK, tiny(), share=0.25, steps=2)
    mixed = games(12, seed=2)
    monkeypatch.setattr(agent, "rollout", lambda: mixed)
    used = []
    monkeypatch.setattr(archer_baselines, "stream", lambda part: used.extend(part) or stream(part))
    next(agent.learn(1))
    bar = np.quantile([d.score for d in mixed], 0.75)
    assert used and all(d.score >= bar for d in used)


def test_chai_says_the_best_of_five_and_never_changes_its_policy(monkeypatch):
    start = tiny()
    agent = CHAI(Config(**SMALL), TASK, start)
    with monkeypatch.context() as patch:
        patch.setattr(agent, "act", lambda states: [(4 + i % 5, EOS) for i, _ in enumerate(states)])
        patch.setattr(agent.target, "q", lambda state, said: torch.stack([said, 2 - said]))
        liked = {4: 0.0, 5: 2.0, 6: 0.0, 7: 1.0, 8: 0.0}  # the smaller head is greatest for 7
        patch.setattr(
            archer_baselines, "codes", lambda critic, states, said: torch.tensor([[liked[u[0]]] * 2 for u in said])
        )
        assert agent.best([(1,), (1, 4)]) == [(7, EOS)] * 2
    agent = CHAI(Config(**SMALL), TASK, start)
    for _ in agent.learn(2):
        pass
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), agent.policy.parameters(), strict=True))


def test_reinforce_makes_a_likely_loser_less_likely(monkeypatch):
    agent = Reinforce(PPOConfig(episodes=2, policy_lr=1e-3), TASK, tiny())
    win = recorded(TASK, TASK.act(TASK.start(0), "is it the dog?"))
    play = TASK.start(1)
    for _ in range(4):
        play = TASK.act(play, "is it alive?")
    lose = recorded(TASK, play)
    monkeypatch.setattr(agent, "rollout", lambda: [win, lose])
    data = stream([win, lose])
    before = token_logp(agent.policy, data)[0].sum(1).detach()
    next(agent.learn(1))
    after = token_logp(agent.policy, data)[0].sum(1).detach()
    assert after[0] - after[1] > before[0] - before[1] and after[1] < before[1]


def test_the_shipped_start_refuses_a_damaged_file(tmp_path, monkeypatch):
    monkeypatch.setattr(archer_start, "FILE", tmp_path / "archer.safetensors")
    monkeypatch.setattr(archer_start, "MANIFEST", tmp_path / "archer.json")
    with pytest.raises(ValueError, match=r"no checkpoint at .*archer_start"):
        archer_start.weights()
    archer_start.FILE.write_bytes(b"nonsense")
    archer_start.MANIFEST.write_text('{"sha256": "0", "vocabulary": "0"}')
    with pytest.raises(ValueError, match="checksum differs"):
        archer_start.policy()


def test_the_shipped_start_is_intact_and_plays_as_its_manifest_says():
    """96 dialogues: a standard error of about 0.16 turns; 0.9 turns are more than five of them."""
    agent = ArCHer(Config(), warm=True)
    state, shipped = agent.critic.state_dict(), archer_start.part("critic")
    assert state.keys() == shipped.keys() and all(torch.equal(state[k], shipped[k]) for k in state)
    task, rng = archer_start.TASK, np.random.default_rng(7)
    played = converse(task, [task.reset(rng) for _ in range(96)], agent.act)
    known = json.loads(archer_start.MANIFEST.read_text())
    assert np.mean([d.score for d in played]) == pytest.approx(known["return"], abs=0.9)


def test_a_policy_has_room_for_the_longest_dialogue():
    assert GPT(GPTConfig(8, 4, 8, 1, 2), torch.Generator()).config.context == 4
    for task in (TASK, archer_start.TASK):
        assert archer_start.new_policy(task).config.context == 1 + task.limit * (task.max_new + 2)


# ----------------------------------------------------------------------------------------------------- experiment


def made_up(change=None):
    """Runs in which every claim holds; change(arm, seed, metrics, curve) may alter them."""
    runs = []
    for arm, seed in experiment.plan(3):
        if arm == "start":
            metrics, curve = {"return": -7.0, "bits": 1.5, "valid": 0.95, "solved": 0.2}, []
        else:
            fast = arm == "ArCHer"
            final = -5.0 + 0.1 * seed if fast else -6.5 + 0.05 * seed
            metrics = {"final return": final, "final bits": 2.6, "final valid": 1.0}
            metrics |= {"critic correlation": 0.8, "critic correlation, same turn": 0.5}
            curve = [[64 * i, -7.0 if i < (10 if fast else 25) else -5.5] for i in range(1, 31)]
        if change:
            change(arm, seed, metrics, curve)
        runs.append({"arm": arm, "seed": seed, "metrics": metrics, "curves": {"return": curve}})
    return {c["id"]: c["verdict"] for c in experiment.claims(runs)}


def test_verdicts_follow_the_numbers():
    held = made_up()
    assert all(held[i] == "reproduced" for i in ("C1", "C2a", "C2b", "C3a", "C3b", "C4a", "C4b", "C5"))
    assert held["C6"] == "cannot be shown here"

    def set_metric(who, key, value):
        return lambda arm, seed, metrics, curve: metrics.update({key: value}) if arm.startswith(who) else None

    for arm, key, value, fails in (
        ("filtered BC, 3e-05", "final return", -5.1, "C2a"),  # the best of three counts
        ("CHAI", "final return", -5.1, "C2b"),
        ("ArCHer", "final bits", 2.3, "C3b"),
        ("ArCHer, no replay", "final return", -4.9, "C4a"),
        ("ArCHer, no warm-up", "final return", -4.9, "C4b"),
        ("ArCHer", "critic correlation", 0.5, "C5"),
    ):
        found = made_up(set_metric(arm, key, value))
        assert [i for i in held if found[i] != held[i]] == [fails]


def test_a_ratio_is_claimed_only_against_a_baseline_that_works():
    def failed(arm, seed, metrics, curve):
        if arm.startswith("PPO"):
            metrics["final return"] = -7.5

    def never(arm, seed, metrics, curve):
        if arm == "ArCHer":
            curve[:] = [[x, -7.0] for x, _ in curve]

    def early(arm, seed, metrics, curve):
        if arm.startswith("PPO"):
            curve[:] = [[x, -7.0 if x < 64 * 12 else -5.5] for x, _ in curve]

    assert made_up(failed)["C1"] == "cannot be shown here"
    assert made_up(never)["C1"] == made_up(early)["C1"] == "not reproduced"


def test_the_running_mean_must_reach_the_goal():
    run = {"curves": {"return": [[64 * i, -7.0 + (i == 3) * 3] for i in range(1, 8)]}}
    assert experiment.dialogues_until(run, -6.0) == float("inf")  # one lucky rollout is not enough
    assert experiment.dialogues_until(run, -6.5) == 64 * 4


def test_a_critic_that_knows_the_returns_correlates_with_them(monkeypatch):
    """In a game of one turn V(s) is the same everywhere; in a longer one the turns left decide. A critic that reads
    them off the length of the text correlates with the rollouts."""
    agent = ArCHer(Config(), TASK, tiny())
    monkeypatch.setattr(agent.critic, "read", lambda ids, ends: ends.float()[..., None])
    monkeypatch.setattr(agent.critic, "v", lambda code: code[..., 0].expand(2, 1, 1))
    plain, within = experiment.critic_correlation(agent, 100, states=12, rollouts=2)
    assert plain > 0.9 and abs(within) < 0.5  # nobody wins here, and what was said plays no part
    with pytest.raises(ValueError, match="unknown arm 'SAC'"):
        experiment.build("SAC", 0)


# ------------------------------------------------------------------- the wrong answers that the assignment must reject

WRONG = {
    "utterance_logprob": {
        "counts the oracle's tokens too": """
def utterance_logprob(logits, ids, mask):
    return logits.log_softmax(-1).gather(2, ids[:, :, None]).squeeze(2).sum(1)
""",
        "mean over the tokens": """
def utterance_logprob(logits, ids, mask):
    logp = logits.log_softmax(-1).gather(2, ids[:, :, None]).squeeze(2)
    return (logp * mask).sum(1) / mask.sum(1).clamp_min(1)
""",
        "infinite logits outside the utterance": """
def utterance_logprob(logits, ids, mask):
    return (logits.log_softmax(-1).gather(2, ids[:, :, None]).squeeze(2) * mask).sum(1)
""",
        "logits without normalisation": """
def utterance_logprob(logits, ids, mask):
    logp = logits.gather(2, ids[:, :, None]).squeeze(2)
    return torch.where(mask > 0, logp, torch.zeros_like(logp)).sum(1)
""",
        "shifts the tokens once more": """
def utterance_logprob(logits, ids, mask):
    logp = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
    return torch.where(mask[:, 1:] > 0, logp, torch.zeros_like(logp)).sum(1)
""",
        "normalises over the tokens": """
def utterance_logprob(logits, ids, mask):
    logp = logits.log_softmax(1).gather(2, ids[:, :, None]).squeeze(2)
    return torch.where(mask > 0, logp, torch.zeros_like(logp)).sum(1)
""",
    },
    "archer_targets": {
        "discounts tokens": """
def archer_targets(reward, done, vbar_next, qbar_fresh, lengths, gamma):
    return (reward + gamma**lengths * (1 - done) * vbar_next).detach(), qbar_fresh.detach()
""",
        "the maximum of the heads": """
def archer_targets(reward, done, vbar_next, qbar_fresh, lengths, gamma):
    best = vbar_next.max(0).values.expand_as(vbar_next)
    return (reward + gamma * (1 - done) * best).detach(), qbar_fresh.detach()
""",
        "the minimum of the heads, as in SAC": """
def archer_targets(reward, done, vbar_next, qbar_fresh, lengths, gamma):
    low = vbar_next.min(0).values.expand_as(vbar_next)
    return (reward + gamma * (1 - done) * low).detach(), qbar_fresh.detach()
""",
        "looks beyond the end": """
def archer_targets(reward, done, vbar_next, qbar_fresh, lengths, gamma):
    return (reward + gamma * vbar_next).detach(), qbar_fresh.detach()
""",
        "V aims at the goal of Q": """
def archer_targets(reward, done, vbar_next, qbar_fresh, lengths, gamma):
    goal = (reward + gamma * (1 - done) * vbar_next).detach()
    return goal, goal
""",
        "V aims at the greater Q": """
def archer_targets(reward, done, vbar_next, qbar_fresh, lengths, gamma):
    goal = (reward + gamma * (1 - done) * vbar_next).detach()
    return goal, qbar_fresh.max(0).values.expand_as(qbar_fresh).detach()
""",
        "discounts the reward as well": """
def archer_targets(reward, done, vbar_next, qbar_fresh, lengths, gamma):
    return (gamma * (reward + (1 - done) * vbar_next)).detach(), qbar_fresh.detach()
""",
        "lets the gradient through": """
def archer_targets(reward, done, vbar_next, qbar_fresh, lengths, gamma):
    return reward + gamma * (1 - done) * vbar_next, qbar_fresh
""",
    },
    "archer_actor_loss": {
        "advantage with gradient": """
def archer_actor_loss(logp, mask, q, v, qbar, vbar):
    advantage = q.min(0).values - v.min(0).values
    return -(advantage * (logp * mask).sum(1)).mean()
""",
        "advantage of the slow copy": """
def archer_actor_loss(logp, mask, q, v, qbar, vbar):
    advantage = (qbar.min(0).values - vbar.min(0).values).detach()
    return -(advantage * (logp * mask).sum(1)).mean()
""",
        "no value to compare with": """
def archer_actor_loss(logp, mask, q, v, qbar, vbar):
    return -(q.min(0).values.detach() * (logp * mask).sum(1)).mean()
""",
        "the least difference of the heads": """
def archer_actor_loss(logp, mask, q, v, qbar, vbar):
    advantage = (q - v).min(0).values.detach()
    return -(advantage * (logp * mask).sum(1)).mean()
""",
        "mean over tokens": """
def archer_actor_loss(logp, mask, q, v, qbar, vbar):
    advantage = (q.min(0).values - v.min(0).values).detach()
    return -(advantage * (logp * mask).sum(1) / mask.sum(1)).mean()
""",
        "trains on the padding": """
def archer_actor_loss(logp, mask, q, v, qbar, vbar):
    advantage = (q.min(0).values - v.min(0).values).detach()
    return -(advantage * logp.sum(1)).mean()
""",
        "the mean of the heads": """
def archer_actor_loss(logp, mask, q, v, qbar, vbar):
    advantage = (q.mean(0) - v.mean(0)).detach()
    return -(advantage * (logp * mask).sum(1)).mean()
""",
        "advantage counted at every token and summed": """
def archer_actor_loss(logp, mask, q, v, qbar, vbar):
    advantage = (q.min(0).values - v.min(0).values).detach() * mask.sum(1)
    return -(advantage * (logp * mask).sum(1)).mean()
""",
        "wrong sign": """
def archer_actor_loss(logp, mask, q, v, qbar, vbar):
    advantage = (q.min(0).values - v.min(0).values).detach()
    return (advantage * (logp * mask).sum(1)).mean()
""",
    },
    "polyak": {
        "tau the other way round": """
def polyak(target, online, tau):
    with torch.no_grad():
        for old, new in zip(target, online, strict=True):
            old.mul_(tau).add_((1 - tau) * new)
""",
        "moves the online one": """
def polyak(target, online, tau):
    with torch.no_grad():
        for old, new in zip(target, online, strict=True):
            new.mul_(1 - tau).add_(tau * old)
""",
        "new tensors that nobody else sees": """
def polyak(target, online, tau):
    for i, (old, new) in enumerate(zip(target, online, strict=True)):
        target[i] = ((1 - tau) * old + tau * new).detach()
""",
        "adds without shrinking": """
def polyak(target, online, tau):
    with torch.no_grad():
        for old, new in zip(target, online, strict=True):
            old.add_(tau * new)
""",
        "a copy": """
def polyak(target, online, tau):
    with torch.no_grad():
        for old, new in zip(target, online, strict=True):
            old.copy_(new)
""",
        "returns instead of changing": """
def polyak(target, online, tau):
    return [(1 - tau) * old.detach() + tau * new.detach() for old, new in zip(target, online, strict=True)]
""",
    },
    "info_gain": {
        "counts objects that are out": """
def info_gain(candidates, attribute):
    n, yes = len(candidates), int(attribute.sum())
    return math.log2(n) - sum(k / n * math.log2(k) for k in (yes, n - yes) if k) if candidates.any() else 0.0
""",
        "natural logarithms": """
def info_gain(candidates, attribute):
    n, yes = int(candidates.sum()), int((candidates & attribute).sum())
    return math.log(n) - sum(k / n * math.log(k) for k in (yes, n - yes) if k) if n else 0.0
""",
        "the entropy that is left": """
def info_gain(candidates, attribute):
    n, yes = int(candidates.sum()), int((candidates & attribute).sum())
    return sum(k / n * math.log2(k) for k in (yes, n - yes) if k) if n else 0.0
""",
        "does not weigh the replies": """
def info_gain(candidates, attribute):
    n, yes = int(candidates.sum()), int((candidates & attribute).sum())
    return math.log2(n) - sum(math.log2(k) for k in (yes, n - yes) if k) / 2 if n else 0.0
""",
        "only the reply yes": """
def info_gain(candidates, attribute):
    n, yes = int(candidates.sum()), int((candidates & attribute).sum())
    return (-yes / n * math.log2(yes / n) if yes else 0.0) if n else 0.0
""",
        "the smaller part": """
def info_gain(candidates, attribute):
    n, yes = int(candidates.sum()), int((candidates & attribute).sum())
    return 2 * min(yes, n - yes) / n if n else 0.0
""",
        "one bit for every split": """
def info_gain(candidates, attribute):
    n, yes = int(candidates.sum()), int((candidates & attribute).sum())
    return float(0 < yes < n)
""",
    },
}
