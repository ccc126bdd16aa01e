"""PhoneSim against its own exact world, by enumeration, and by chi-square. Seeds are fixed."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.stats import chisquare

from minirl.envs import phone, phone_draw
from minirl.envs.phone import (
    ACTIONS,
    BACK,
    CELLS,
    DONE,
    ENTER,
    GOALS,
    HOME,
    SPLITS,
    TYPE,
    PhoneConfig,
    PhoneSim,
    State,
    format_action,
    parse_action,
    sample_episode,
    satisfied,
    status,
    successors,
    transition,
    view,
)
from minirl.envs.phone_oracle import (
    CONFUSIONS,
    FATAL,
    NEUTRAL,
    NOOP,
    PROGRESS,
    World,
    confusions,
    noisy_policy,
    oracle_policy,
)

QUIET = PhoneConfig(popup=0, lag=0)
ONE_OF_EACH = [next(g for g in GOALS if g.template == t) for t in dict.fromkeys(g.template for g in GOALS)]


def world(goal, seed=0, config=None):
    return World(goal, *sample_episode(goal, np.random.default_rng([seed, goal.id])), config)


def names(goals):
    return [g.text for g in goals]


# ---------------------------------------------------------------------------------------------- the size of the world


def test_the_world_is_as_large_as_it_should_be():
    assert ACTIONS == 61 and len(GOALS) == 68 and len(ONE_OF_EACH) == 10 and len(phone.SCREENS) == 25
    assert [g.id for g in GOALS] == list(range(68)) and len(set(names(GOALS))) == 68
    assert {k: len(v) for k, v in SPLITS.items()} == {"train": 51, "slots": 9, "templates": 8}
    templates = {split: {GOALS[i].template for i in ids} for split, ids in SPLITS.items()}
    assert not templates["templates"] & templates["train"] and len(templates["templates"]) == 2
    assert templates["slots"] <= templates["train"]


@pytest.mark.parametrize("goal", ONE_OF_EACH, ids=names(ONE_OF_EACH))
def test_every_screen_is_reached_and_shortest_paths_are_two_to_nine_long(goal):
    w = world(goal)
    assert 3 <= w.distance[0] <= 9 and len(w.states) <= 3000
    reachable = {
        s.screen for s in w.states
    }  # without doing anything irreversible; results only if a thing can be typed
    assert reachable >= {
        "home 2",
        "more settings",
        "delete contact",
        "delete mail",
        "reply",
        "forward",
        "alarm",
        "shop",
        "maps",
    }
    assert ("item" in reachable) == (goal.template == "cart")


# --------------------------------------------------------------------------------------------- 1. snapshot and restore


@pytest.mark.parametrize("seed", range(5))
def test_a_restored_phone_continues_exactly(seed):
    env = PhoneSim()
    env.reset(seed=seed)
    actions = np.random.default_rng(seed).integers(CELLS + 6, size=60).tolist()
    for a in actions[:5]:
        env.step(a)
    snapshot = env.snapshot()

    def run(phone):
        seen = []
        for a in actions[5:]:
            obs, reward, terminated, truncated, _ = phone.step(a)
            seen.append((obs["pixels"].tobytes(), tuple(phone.tree()), reward, terminated, truncated))
            if terminated or truncated:
                phone.reset()
        return seen

    first = run(env)
    env.restore(snapshot)
    other = PhoneSim()
    other.reset(seed=99)
    other.restore(snapshot)
    assert first == run(env) == run(other)
    assert len({row[0] for row in first}) > 5


def test_the_same_seed_gives_the_same_episodes_and_another_one_others():
    def play(seed):
        env, rng = PhoneSim(), np.random.default_rng(0)
        _, info = env.reset(seed=seed)
        return [info["goal"], *(env.step(a)[0]["pixels"].tobytes() for a in rng.integers(60, size=10).tolist())]

    assert play(3) == play(3) != play(4)


def test_it_keeps_to_gymnasiums_rules():
    check_env(PhoneSim(), skip_render_check=True)
    env = PhoneSim()
    env.reset(seed=0)
    assert env.render().shape == (240, 160, 3) and env.observe()["pixels"].shape == (60, 40, 3)
    with pytest.raises(ValueError, match="read-only"):
        env.observe()["pixels"][0] = 0


# -------------------------------------------------------------------------------------------------- 2. the transitions


@pytest.mark.parametrize("what", ["opens an app", "opens a pop-up's target", "does nothing"])
def test_steps_come_as_often_as_successors_say(what):
    """Chi-square on 20,000 draws; each of the three would fail by chance once in 1,000 seeds."""
    env = PhoneSim()
    env.reset(seed=1, options={"goal": 0})
    home = env.snapshot()
    icon = next(c for c in range(CELLS) if view(env.layout, env.state).hit[c])
    if what == "opens an app":
        action = icon
    elif what == "does nothing":
        action = 0
    else:
        env.state = env.state._replace(popup=3)
        action = next(c for c in range(CELLS) if view(env.layout, env.state).hit[c] == ("accept",))
    home = (*home[:2], env.state, *home[3:])
    expected = dict((s, p) for p, s in env.successors(action))
    assert sum(expected.values()) == pytest.approx(1) and len(expected) == len(env.successors(action))
    counts = dict.fromkeys(expected, 0)
    rng_state = home[-1]
    env.restore(home)
    for _ in range(20_000):
        env.state, env.t, env.over = home[2], 0, False
        env.step(action)
        counts[env.state] += 1  # a KeyError would be a state that successors does not know
    assert rng_state == home[-1]
    if len(expected) == 1:
        assert counts == {home[2]: 20_000} and what == "does nothing"
    else:
        assert len(expected) == {"opens an app": 8, "opens a pop-up's target": 2}[what]
        assert chisquare(list(counts.values()), [20_000 * p for p in expected.values()]).pvalue > 0.001


@pytest.mark.parametrize("goal", ONE_OF_EACH, ids=names(ONE_OF_EACH))
def test_what_the_goal_ignores_has_no_influence(goal):
    """Projecting and then acting is acting and then projecting: the small world is exact."""
    rng = np.random.default_rng(goal.id)
    w = world(goal)
    for _ in range(300):
        s = w.states[rng.integers(len(w.states))]
        messy = s._replace(toggles=int(rng.integers(16)), alarms=int(rng.integers(4)), cart=int(rng.integers(64)))
        base = w.base._replace(toggles=int(rng.integers(16)), alarms=int(rng.integers(4)))
        for a in rng.integers(ACTIONS, size=10).tolist():
            after = transition(goal, w.layout, messy, a)
            projected = transition(goal, w.layout, phone.relevant(goal, messy, base), a)
            assert phone.relevant(goal, after, base) == phone.relevant(goal, projected, base)
            assert satisfied(goal, after) == satisfied(goal, projected)


# -------------------------------------------------------------------------------------------- 3. the oracle is optimal


@pytest.mark.parametrize("goal", ONE_OF_EACH, ids=names(ONE_OF_EACH))
def test_the_oracle_never_fails_on_a_quiet_phone(goal):
    for seed in range(5):
        w = world(goal, seed, QUIET)
        assert w.value(oracle_policy(w))[1][0, 0] == pytest.approx(1)
        env, rng = PhoneSim(config=QUIET), np.random.default_rng(seed)
        env.reset(seed=seed, options={"goal": goal.id})
        w = World(goal, env.layout, env.state, QUIET)
        policy, over, steps = oracle_policy(w), False, 0
        while not over:
            _, reward, terminated, truncated, _ = env.step(int(rng.choice(ACTIONS, p=policy[w.of(env.state)])))
            over, steps = terminated or truncated, steps + 1
        assert reward == 1 and steps == w.distance[0]


@pytest.mark.slow
@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_success_equals_the_exact_value(eps):
    """600 episodes a goal against dynamic programming; a gap above 3.5 standard errors has a chance of 0.0005 each."""
    config = PhoneConfig(popup=0.3, lag=0.1, horizon=8)
    rng = np.random.default_rng(7)
    for goal in (GOALS[0], GOALS[12], GOALS[60]):
        env = PhoneSim(config=config)
        env.reset(seed=2, options={"goal": goal.id})
        snapshot = env.snapshot()
        w = World(goal, env.layout, env.state, config)
        policy = noisy_policy(w, eps)
        value = w.value(policy)[1][0, 0]
        env.restore(snapshot)
        wins = 0.0
        for _ in range(600):
            env.state, env.t, env.over = w.base, 0, False
            while not env.over:
                _, reward, *_ = env.step(0 if env.state.ruined else int(rng.choice(ACTIONS, p=policy[w.of(env.state)])))
            wins += reward
        assert 0.05 < value < 1
        assert abs(wins / 600 - value) < 3.5 * np.sqrt(value * (1 - value) / 600)


def test_values_of_a_three_step_task_by_hand():
    """wifi: settings, switch, DONE on a quiet phone with a policy that is right with probability q, else ends or waits."""
    goal = GOALS[0]
    for seed in range(50):
        w = world(goal, seed, PhoneConfig(popup=0, lag=0, horizon=4))
        if w.distance[0] == 3:
            break
    q = 0.7
    policy = q * oracle_policy(w)
    policy[:, 0] += 1 - q  # the upper left cell of the status bar: nothing happens
    Q, V = w.value(policy, gamma=0.9)
    d2 = next(s for s in range(len(w.states)) if w.distance[s] == 2)
    d1 = next(s for s in range(len(w.states)) if w.distance[s] == 1 and w.states[s].screen == "settings")
    assert V[4, d1] == 1 and V[4, d2] == 0
    v3 = {1: q + (1 - q), 2: q}  # the last action: at d = 1 everything that keeps the state pays
    v2 = {1: q + (1 - q) * 0.9 * v3[1], 2: 0.9 * (q * v3[1] + (1 - q) * v3[2])}
    assert V[3, d1] == pytest.approx(v3[1], abs=1e-6) and V[3, d2] == pytest.approx(v3[2], abs=1e-6)
    assert V[2, d1] == pytest.approx(v2[1], abs=1e-6) and V[2, d2] == pytest.approx(v2[2], abs=1e-6)
    assert Q[2, d2, 0] == pytest.approx(0.9 * v3[2], abs=1e-6)


# ------------------------------------------------------------------------------------- 4. goals, and classes of actions


@pytest.mark.slow
def test_every_goal_is_reachable_from_everywhere_and_never_reached_at_the_start():
    for goal in GOALS:
        w = world(goal, 1)
        assert np.isfinite(w.distance[:-1]).all() and np.isinf(w.distance[-1]), goal.text
        assert not satisfied(goal, w.base) and w.distance[0] >= 2


@pytest.mark.parametrize("goal", ONE_OF_EACH, ids=names(ONE_OF_EACH))
def test_classes_of_actions_mean_what_they_say(goal):
    w = world(goal, 2)
    rng = np.random.default_rng(goal.id)
    assert ((w.classes == PROGRESS).sum(1) > 0).all()
    for s in rng.integers(len(w.states), size=150).tolist():
        for a in rng.integers(ACTIONS, size=12).tolist():
            after, kind = transition(goal, w.layout, w.states[s], a), w.classes[s, a]
            if a == DONE:
                assert kind == (PROGRESS if satisfied(goal, w.states[s]) else FATAL)
            elif after == w.states[s]:
                assert kind == NOOP
            elif after.ruined:
                assert kind == FATAL
            else:
                closer = w.distance[w.of(after)] < w.distance[s]
                assert kind == (PROGRESS if closer else NEUTRAL)


def test_irreversible_errors_spoil_an_episode_that_goes_on():
    goal = next(g for g in GOALS if g.text == "add mug to the cart")
    env = PhoneSim(config=QUIET)
    env.reset(seed=0, options={"goal": goal.id})
    env.state = env.state._replace(screen="item", subject=1, word=phone.WORD["mug"])
    buy = next(c for c in range(CELLS) if view(env.layout, env.state).hit[c] == ("buy",))
    _, reward, terminated, truncated, _ = env.step(buy)
    assert env.state.ruined and (reward, terminated, truncated) == (0, False, False)
    env.state = env.state._replace(cart=0b10)
    assert env.step(DONE)[1:4] == (0.0, True, False)


def test_reward_comes_at_done_or_when_time_is_up_and_only_then():
    env = PhoneSim(config=PhoneConfig(popup=0, lag=0, horizon=3))
    for last, expected in ((DONE, (1.0, True, False)), (0, (1.0, False, True))):
        env.reset(seed=0, options={"goal": 0})
        env.state = env.state._replace(toggles=1)
        assert [env.step(a)[1:4] for a in (0, 0)] == [(0.0, False, False)] * 2
        assert env.step(last)[1:4] == expected
    env.reset(seed=0, options={"goal": 0})
    assert env.step(DONE)[1:4] == (0.0, True, False)  # premature


def test_typing_needs_the_cursor_and_a_slot():
    goal = next(g for g in GOALS if g.text == "message bob saying late")
    layout, start = sample_episode(goal, np.random.default_rng(0))
    s = start._replace(screen="message", subject=1)
    assert transition(goal, layout, s, TYPE + 1) == s
    s = s._replace(focus=True)
    assert phone.WORDS[transition(goal, layout, s, TYPE + 1).word] == "late"
    assert transition(goal, layout, s, TYPE + 2) == s
    assert transition(goal, layout, s, ENTER) == s
    assert (
        transition(goal, layout, s, BACK).screen == "contact" and transition(goal, layout, s, HOME).screen == "home 1"
    )


# ------------------------------------------------------------------------------------------------------- 5. hit testing


def every_view():
    """Screens of one world for each template, two layouts."""
    for goal in ONE_OF_EACH:
        for seed in range(2):
            w = world(goal, seed)
            yield from ((w.layout, s) for s in w.states)


@pytest.mark.slow
def test_every_widget_has_a_cell_and_no_cell_two_widgets():
    seen = set()
    for layout, state in every_view():
        screen = view(layout, state)
        if id(screen) in seen:
            continue
        seen.add(id(screen))
        owners = [0] * CELLS
        for w in screen.widgets:
            assert 0 <= w.c0 < w.c1 <= 6 and 0 <= w.r0 < w.r1 <= 9
            for cell in range(CELLS):
                x, y = phone.cell_centre(cell)
                inside = (
                    phone.X_EDGES[w.c0] <= x < phone.X_EDGES[w.c1] and phone.Y_EDGES[w.r0] <= y < phone.Y_EDGES[w.r1]
                )
                if w.op and inside:
                    owners[cell] += 1
                    assert screen.hit[cell] == w.op
        assert max(owners) <= 1
        assert [bool(o) for o in owners] == [h is not None for h in screen.hit]
        assert {w.op for w in screen.widgets if w.op} == {h for h in screen.hit if h}
    assert len(seen) > 1000


def test_popups_have_their_buttons_in_both_orders():
    layout, start = sample_episode(GOALS[0], np.random.default_rng(0))
    for kind in range(3):
        places = []
        for order in range(2):
            hit = view(layout, start._replace(popup=1 + 2 * kind + order)).hit
            places.append({c for c in range(CELLS) if hit[c] == ("dismiss",)})
            assert {h for h in hit if h} == {("dismiss",), ("accept",)}
        assert not places[0] & places[1]
        assert kind < 2 or len(places[0]) == 1  # the cross of the ad is tiny


# --------------------------------------------------------------------------------------------- 6. - 8. what can be seen


@pytest.mark.parametrize("goal", ONE_OF_EACH, ids=names(ONE_OF_EACH))
def test_states_that_differ_look_different(goal):
    """All unspoiled states of a world, pop-ups included, have different frames of 60x40: nothing that matters is hidden."""
    w = world(goal)
    frames = {phone_draw.pixels(view(w.layout, s), status(s)).tobytes() for s in w.states}
    assert len(frames) == len(w.states)


def test_each_setting_alarm_hour_and_item_is_seen():
    layout, start = sample_episode(GOALS[0], np.random.default_rng(3))
    for screen in ("home 1", "settings", "inbox", "shop"):
        s = start._replace(screen=screen)
        states = [s._replace(toggles=i) for i in range(16)] + [
            s._replace(alarms=i, toggles=s.toggles) for i in range(4)
        ]
        states += [s._replace(hours=(a, b)) for a in phone.HOURS for b in phone.HOURS] + [
            s._replace(cart=i) for i in range(64)
        ]
        states = set(states)
        assert len({phone_draw.pixels(view(layout, x), status(x)).tobytes() for x in states}) == len(states)


@pytest.mark.slow
def test_a_random_agent_solves_next_to_nothing():
    """Exact: under 3 % on average over goals, under 0.5 % for goals longer than 4."""
    uniform, long = [], []
    for goal in GOALS:
        w = world(goal, 3)
        value = w.value(np.full((len(w.states), ACTIONS), 1 / ACTIONS))[1][0, 0]
        uniform.append(value)
        if w.distance[0] > 4:
            long.append(value)
    assert np.mean(uniform) < 0.03 and len(long) > 40
    assert max(long) < 0.005


def test_the_picture_does_not_depend_on_the_goal():
    env = PhoneSim()
    for seed in range(20):
        env.reset(seed=seed)
        mine = env.observe()["pixels"].tobytes(), env.render().tobytes(), env.tree()
        for goal in GOALS[::7]:
            env.goal = goal
            assert (env.observe()["pixels"].tobytes(), env.render().tobytes(), env.tree()) == mine
    spoiled = env.state._replace(ruined=True)
    assert view(env.layout, spoiled) is view(env.layout, env.state) and status(spoiled) == status(env.state)


# ------------------------------------------------------------------------------------------------------- 9. the caches


@pytest.mark.slow
def test_frames_put_together_from_caches_are_those_drawn_at_once():
    rng = np.random.default_rng(0)
    cases = list(every_view())
    for i in rng.integers(len(cases), size=400).tolist():
        screen, bar = view(*cases[i]), status(cases[i][1])
        first = phone_draw.pixels(screen, bar).tobytes()
        assert first == phone_draw.pixels(screen, bar).tobytes()
        assert first == phone_draw.shrink(phone_draw.paint(screen, bar)).tobytes()


# --------------------------------------------------------------------------------------------------------- confusions


@pytest.mark.slow
def test_confusions_are_wrong_and_all_kinds_occur():
    kinds = set()
    for goal in ONE_OF_EACH:
        w = world(goal, 4)
        for s in range(0, len(w.states), 3):
            for kind, actions in confusions(w, w.states[s]).items():
                kinds.add(kind)
                assert actions and not (w.classes[s, actions] == PROGRESS).any(), (goal.text, w.states[s], kind)
        policy = noisy_policy(w, 0.4)
        assert policy.sum(1) == pytest.approx(1)
        right = (policy * (w.classes == PROGRESS)).sum(1)
        assert right == pytest.approx(0.6)
    assert kinds == set(CONFUSIONS)


# ------------------------------------------------------------------------------------------------- text and bad input


@pytest.mark.parametrize("goal", ONE_OF_EACH, ids=names(ONE_OF_EACH))
def test_every_action_has_a_text_and_the_text_the_action(goal):
    for action in range(ACTIONS):
        if TYPE <= action < BACK and action - TYPE >= len(goal.slots):
            with pytest.raises(ValueError, match="no slot"):
                format_action(action, goal.slots)
        else:
            assert parse_action(format_action(action, goal.slots), goal.slots) == action


def test_a_click_lands_in_the_cell_it_falls_in():
    assert [parse_action(f"click({x},{y})", ()) for x, y in ((0, 0), (159, 0), (26, 26), (27, 27), (159, 239))] == [
        0,
        5,
        0,
        7,
        53,
    ]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "click",
            "click(1,2",
            "click(1, 2)",
            " click(1,2)",
            "click(1,2) ",
            "Click(1,2)",
            "click(-1,2)",
            "click(1.5,2)",
        ),
        *(
            "click(1,2)done()",
            "done",
            "done(1)",
            "type(ann)",
            "type('ann')",
            'type("Ann")',
            'type("")',
            "click(١,2)",
            "done()\n",
        ),
        "click(1,2,3)",
    ],
)
def test_malformed_actions_are_refused(text):
    with pytest.raises(ValueError, match="not an action"):
        parse_action(text, ("ann",))


def test_clicks_outside_and_words_of_other_goals_are_refused():
    for text in ("click(160,0)", "click(0,240)", "click(999,999)"):
        with pytest.raises(ValueError, match="outside the screen of 160x240"):
            parse_action(text, ())
    with pytest.raises(ValueError, match="no word 'bob'"):
        parse_action('type("bob")', ("ann",))


def test_bad_input_is_named():
    env = PhoneSim()
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)
    env.reset(seed=0)
    for action in (-1, 61, 1.0, "click(1,2)", None, True):
        with pytest.raises(ValueError, match="whole number from 0 to 60"):
            env.step(action)
    env.step(DONE)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)
    with pytest.raises(ValueError, match="goal is a number"):
        env.reset(options={"goal": 68})
    with pytest.raises(ValueError, match="split must be one of train"):
        PhoneSim(split="test")
    with pytest.raises(ValueError, match="popup must lie"):
        PhoneConfig(popup=1.0)
    with pytest.raises(ValueError, match="lag must lie"):
        PhoneConfig(lag=-0.1)
    with pytest.raises(ValueError, match="horizon"):
        PhoneConfig(horizon=0)
    w = world(GOALS[0])
    with pytest.raises(ValueError, match="eps"):
        noisy_policy(w, 1.5)
    with pytest.raises(ValueError, match="unknown confusions"):
        noisy_policy(w, 0.5, ("typo",))
    assert successors(GOALS[0], w.layout, State(), 0, QUIET) == [(1.0, State())]


def test_words_of_other_worlds_have_numbers_too():
    known, other = phone.word_ids("turn on wifi"), phone.word_ids('Click on the "Ok" button.')
    assert (known[:3] > 0).all() and not known[3:].any() and (other[:5] > 0).all() and other.max() < phone.VOCABULARY
    assert (phone.word_ids("word " * 40) > 0).all() and phone.word_ids("").sum() == 0
    assert len(np.unique(phone.GOAL_IDS, axis=0)) == len(GOALS)
