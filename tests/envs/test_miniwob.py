"""The adapter of MiniWoB++: real pages in a headless Chromium, and what happens when the browser does not do its part."""

import os
import signal

import numpy as np
import psutil
import pytest

from minirl.envs import miniwob
from minirl.envs.miniwob import EpisodeLost, MiniWoB, play
from minirl.envs.phone import ACTIONS, CELLS, DONE, ENTER, TYPE, VOCABULARY

needs_browser = pytest.mark.skipif(miniwob.missing() is not None, reason=str(miniwob.missing()))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def login():
    env = MiniWoB("login-user")
    yield env
    env.close()


def cell_of(env, test):
    """The cell in the middle of the first element for which test(row of the tree) holds."""
    x0, y0, x1, y1 = next(row[3:7] for row in env.tree() if test(row))
    return int((y0 + y1) / 2 * 9 / 210) * 6 + int((x0 + x1) / 2 * 6 / 160)


def password_by_hand(env):
    """The seven actions that log in."""
    first = cell_of(env, lambda row: row[1] == "input_text")
    second = cell_of(env, lambda row: row[1] == "input_password")
    return [first, TYPE, second, TYPE + 1, cell_of(env, lambda row: row[1] == "button")]


@needs_browser
@pytest.mark.browser
def test_a_login_by_cells_and_fields_is_rewarded(login):
    for seed in (1, 2, 3):
        obs, info = login.reset(seed=seed)
        assert obs["pixels"].shape == (60, 40, 3) and obs["pixels"].dtype == np.uint8 and len(info["slots"]) == 2
        assert 'Enter the username "' in info["goal"] and obs["words"].max() < VOCABULARY
        *steps, last = password_by_hand(login)
        for a in steps:
            before = login.observe()["pixels"]
            obs, reward, terminated, truncated, _ = login.step(a)
            assert (reward, terminated, truncated) == (0, False, False)
        assert (obs["pixels"] != before).any()  # the typed word is seen
        assert login.step(last)[1:4] == (1.0, True, False)
        with pytest.raises(RuntimeError, match="call reset"):
            login.step(0)


@needs_browser
@pytest.mark.browser
def test_wrong_words_giving_up_and_running_out_of_time_are_not_rewarded(login):
    login.reset(seed=1)
    first, _, second, _, button = password_by_hand(login)
    for a in (first, TYPE + 1, second, TYPE):
        login.step(a)
    assert login.step(button)[1:4] == (0.0, True, False)
    login.reset(seed=1)
    assert login.step(DONE)[1:4] == (0.0, True, False)
    login.reset(seed=1)
    outcomes = [login.step(a)[1:4] for a in (CELLS + 3, CELLS + 4, TYPE + 2, ENTER, *[0] * 6)]
    assert outcomes == [(0.0, False, False)] * 9 + [(0.0, False, True)]
    for action in (-1, ACTIONS, 0.5, None):
        with pytest.raises(ValueError, match="whole number from 0 to 60"):
            login.step(action)


@needs_browser
@pytest.mark.browser
def test_a_seed_is_a_page(login):
    first, other, again = (login.reset(seed=s) for s in (5, 6, 5))
    assert first[1] == again[1] != other[1]
    assert np.array_equal(first[0]["words"], again[0]["words"]) and np.array_equal(
        first[0]["pixels"], again[0]["pixels"]
    )
    with pytest.raises(NotImplementedError, match="no snapshot"):
        login.snapshot()


@needs_browser
@pytest.mark.browser
def test_when_the_browser_dies_the_episode_is_lost_and_the_run_goes_on():
    """Killed in the second of three episodes: that one is reported as lost, the other two have results."""
    env = MiniWoB("click-test")
    calls, killed = [], []

    def actor(pixels, words, envs):
        calls.append(1)
        if len(calls) == 3:
            service = envs[0].page.unwrapped.instance.driver.service
            killed.extend(envs[0].processes)
            os.kill(service.process.pid, signal.SIGKILL)
        chances = np.zeros((1, ACTIONS))
        chances[0, 0 if len(calls) in (1, 3) else cell_of(envs[0], lambda row: row[1] == "button")] = 1
        return chances

    rows = play(env, actor, [1, 2, 3])
    env.close()
    psutil.wait_procs(killed, timeout=5)
    assert killed and not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in killed)
    assert [row["seed"] for row in rows] == [1, 2, 3]
    assert [row.get("success") for row in rows] == [1.0, None, 1.0]
    assert rows[1]["lost"].startswith("click-test: ") and rows[0]["steps"] == 2 and len(rows[0]["actions"]) == 2


@needs_browser
@pytest.mark.browser
def test_a_page_that_does_not_load_is_a_lost_episode(tmp_path):
    before = set(psutil.Process().children(recursive=True))
    env = MiniWoB("click-test", base_url=f"file://{tmp_path}/")
    rows = play(env, lambda *_: np.ones((1, ACTIONS)), [1])
    assert set(rows[0]) == {"seed", "lost"} and "click-test" in rows[0]["lost"]
    with pytest.raises(EpisodeLost, match="click-test"):
        env.reset(seed=1)
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [p for p in psutil.wait_procs(left, timeout=5)[1] if p.status() != psutil.STATUS_ZOMBIE]


def test_played_episodes_become_a_recording_without_the_lost_ones():
    obs = [{"pixels": np.full((60, 40, 3), i, np.uint8), "words": np.full(16, 1 + i // 3)} for i in range(6)]
    rows = [
        {"seed": 1, "success": 1.0, "steps": 2, "slots": 2, "obs": obs[:3], "actions": [5, 54]},
        {"seed": 2, "lost": "the browser died"},
        {"seed": 3, "success": 0.0, "steps": 1, "slots": 0, "obs": obs[3:5], "actions": [60]},
    ]
    data = miniwob.episodes(rows)
    assert data.action.tolist() == [5, 54, 60] and data.traj.tolist() == [0, 0, 1] and data.t.tolist() == [0, 1, 0]
    assert data.frames[data.frame, 0, 0, 0].tolist() == [0, 1, 3]
    assert data.frames[data.next_frame, 0, 0, 0].tolist() == [1, 2, 4]
    assert data.reward.tolist() == [0, 1, 0] and data.done.tolist() == [False, True, True]
    assert data.slots.tolist() == [2, 2, 0] and data.words[:, 0].tolist() == [1, 1, 2] and len(data.success) == 2
    with pytest.raises(ValueError, match="every episode was lost"):
        miniwob.episodes(rows[1:2])


def test_without_a_browser_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(miniwob, "browser", lambda: None)
    with pytest.raises(ImportError, match="apt-get install chromium chromium-driver"):
        MiniWoB("click-test")


def test_a_browser_that_is_named_but_not_there_is_no_browser(monkeypatch):
    monkeypatch.setenv("MINIWOB_CHROME_BINARY", "nowhere/chromium")
    assert miniwob.browser() is None
