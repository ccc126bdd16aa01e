"""MiniWoB++ in a real, headless Chromium, behind the interface of PhoneSim: same pixels, same 61 actions, same words.

A page is 160x210 points; it is seen as 60x40 pixels and tapped in 6x9 cells. TYPE + k types the k-th field of the task,
ENTER presses the key, DONE gives up (a page ends by itself when its task is done), BACK and HOME do nothing here. There is no
snapshot: a browser cannot be forked. When the browser dies or a page does not load, the episode is lost, `EpisodeLost` says why,
and the next `reset` starts a new browser.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence

import gymnasium as gym
import numpy as np
import psutil
from PIL import Image

from minirl.envs.phone import (
    ACTIONS,
    CELLS,
    COLS,
    DONE,
    ENTER,
    GOAL_WORDS,
    PIXELS,
    ROWS,
    TYPE,
    VOCABULARY,
    check_action,
    word_ids,
)
from minirl.envs.phone_agents import Episodes

WIDTH, HEIGHT = 160, 210  # points of a page
TOUCHABLE = ("input", "button", "a", "textarea", "select")  # tags that a tap prefers
INSTALL = (
    "MiniWoB++ needs Chromium and its driver (on Debian: apt-get install chromium chromium-driver) "
    "and the package: pip install 'minirl[web]'"
)


class EpisodeLost(RuntimeError):
    """The browser died, or the page did not load or answer: this episode has no result."""


def browser() -> tuple[str, str] | None:
    """Paths of Chromium and its driver, from MINIWOB_CHROME_BINARY and MINIWOB_CHROMEDRIVER or the PATH; None if one is missing."""
    binary = os.environ.get("MINIWOB_CHROME_BINARY") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    driver = os.environ.get("MINIWOB_CHROMEDRIVER") or shutil.which("chromedriver")
    return (binary, driver) if binary and driver and os.path.exists(binary) and os.path.exists(driver) else None


def missing() -> str | None:
    """What keeps MiniWoB++ from running here, with the remedy; None if nothing does."""
    try:
        import miniwob  # noqa: F401
    except ImportError:
        return f"the package miniwob is not installed. {INSTALL}"
    return None if browser() else f"no Chromium with a driver was found. {INSTALL}"


class MiniWoB(gym.Env):
    """One task, for example "login-user-popup". The reward is 1 if the page says that the task was done, else 0."""

    def __init__(self, task: str, horizon: int = 10, base_url: str | None = None):
        """base_url: where the pages lie; None: those of the package. Raises ImportError saying how to install what is missing."""
        if (reason := missing()) is not None:
            raise ImportError(reason)
        self.task, self.horizon, self.base_url = task, horizon, base_url
        self.observation_space = gym.spaces.Dict(
            pixels=gym.spaces.Box(0, 255, PIXELS, np.uint8),
            words=gym.spaces.MultiDiscrete([VOCABULARY] * GOAL_WORDS),
        )
        self.action_space = gym.spaces.Discrete(ACTIONS)
        self.page, self.processes = None, set()
        self.over = True

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """A new page; the same seed gives the same page. Starts a browser where there is none. Raises EpisodeLost."""
        super().reset(seed=seed)
        with self._watched():
            if self.page is None:
                self._start()
            driver = self.page.unwrapped.instance.driver
            driver.execute_script("core.EPISODE_MAX_TIME = 600000;")  # how fast this machine is must not matter
            driver.execute_script("document.activeElement && document.activeElement.blur();")
            seen, _ = self.page.reset(seed=None if seed is None else int(seed))
        self.t, self.over, self._seen = 0, False, seen
        slots = tuple(value for _, value in seen["fields"])
        self._words = word_ids(seen["utterance"])
        return self.observe(), {"goal": seen["utterance"], "slots": slots}

    def _start(self) -> None:
        from miniwob.action import ActionSpaceConfig, ActionTypes
        from miniwob.environment import MiniWoBEnvironment
        from miniwob.reward import get_binary_reward

        os.environ["MINIWOB_CHROME_BINARY"], os.environ["MINIWOB_CHROMEDRIVER"] = browser()
        kinds = (ActionTypes.NONE, ActionTypes.CLICK_COORDS, ActionTypes.TYPE_FIELD, ActionTypes.PRESS_KEY)
        before = set(psutil.Process().children(recursive=True))
        try:
            self.page = MiniWoBEnvironment(
                self.task,
                base_url=self.base_url,
                action_space_config=ActionSpaceConfig(action_types=kinds),
                reward_processor=get_binary_reward,
            )
        finally:  # driver and browser, which are there also when the page is not
            self.processes = set(psutil.Process().children(recursive=True)) - before
        driver = self.page.unwrapped.instance.driver
        driver.set_page_load_timeout(20)
        driver.set_script_timeout(20)

    def step(self, action: int) -> tuple[dict, float, bool, bool, dict]:
        """Tap, type, press or give up. Raises ValueError for no action of the 61, RuntimeError after the end, EpisodeLost."""
        check_action(action)
        if self.over:
            raise RuntimeError("the episode is over: call reset first")
        self.t += 1
        reward, ended = 0.0, action == DONE
        command = self._command(int(action))
        if command is not None:
            with self._watched():
                seen, raw, ended, _, _ = self.page.step(self.page.unwrapped.create_action(**command))
            reward = float(ended and raw > 0)
            if not ended:  # a page that is done shows nothing any more
                self._seen = seen
        truncated = not ended and self.t >= self.horizon
        self.over = ended or truncated
        return self.observe(), reward, ended, truncated, {}

    def _command(self, action: int) -> dict | None:
        if action < CELLS:
            return {"action_type": "CLICK_COORDS", "coords": np.array(self._finger(action), np.float32)}
        if TYPE <= action < TYPE + 3 and action - TYPE < len(self._seen["fields"]):
            return {"action_type": "TYPE_FIELD", "field": action - TYPE}
        if action == ENTER:
            keys = self.page.unwrapped.action_space_config.allowed_keys
            return {"action_type": "PRESS_KEY", "key": keys.index("<Enter>")}
        return None

    def _finger(self, cell: int) -> tuple[float, float]:
        """Where a tap on a cell lands: on the part of an element that the cell covers, as a finger does, else in its middle.

        Form elements and links come first; then the element that lies in the cell with the largest share of itself.
        """
        c0, r0 = cell % COLS * WIDTH / COLS, cell // COLS * HEIGHT / ROWS
        c1, r1 = c0 + WIDTH / COLS, r0 + HEIGHT / ROWS
        best, point = (False, 0.0), ((c0 + c1) / 2, (r0 + r1) / 2)
        parents = {int(np.ravel(e["parent"])[0]) for e in self._seen["dom_elements"]}
        for e in self._seen["dom_elements"]:
            (x,), (y,), (w,), (h,) = (np.ravel(e[name]) for name in ("left", "top", "width", "height"))
            x0, y0, x1, y1 = max(x, c0), max(y, r0), min(x + w, c1), min(y + h, r1)
            if int(e["ref"]) in parents or x1 - x0 < 2 or y1 - y0 < 2:
                continue
            score = e["tag"].split("_")[0] in TOUCHABLE, float((x1 - x0) * (y1 - y0) / (w * h))
            if score > best:
                best, point = score, (float(x0 + x1) / 2, float(y0 + y1) / 2)
        return point

    @contextlib.contextmanager
    def _watched(self):
        """Whatever goes wrong with the browser becomes EpisodeLost, and the browser is put away."""
        from selenium.common.exceptions import WebDriverException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (WebDriverException, HTTPError, OSError, RuntimeError, TypeError, AttributeError) as error:
            # The package answers a page that is gone with TypeError or AttributeError from its own parsing.
            self.close()
            self.over = True
            first = (str(error).splitlines() or [""])[0]
            raise EpisodeLost(f"{self.task}: {type(error).__name__}: {first[:200]}") from None

    def observe(self) -> dict[str, np.ndarray]:
        """What an agent sees: pixels (60, 40, 3) uint8 and words (16,)."""
        small = Image.fromarray(self._seen["screenshot"]).resize((PIXELS[1], PIXELS[0]), Image.Resampling.BOX)
        return {"pixels": np.asarray(small), "words": self._words}

    def tree(self) -> list[tuple]:
        """(id, kind, text, x0, y0, x1, y1, state) of the elements of the page, as PhoneSim's; state 1 has the focus."""
        rows = []
        for e in self._seen["dom_elements"]:
            (x,), (y,), (w,), (h,) = (np.ravel(e[name]) for name in ("left", "top", "width", "height"))
            state = int(np.ravel(e["flags"])[0])
            rows.append(
                (int(e["ref"]), e["tag"], e["text"] or str(e["value"]), *map(round, (x, y, x + w, y + h)), state)
            )
        return sorted(rows, key=lambda row: (row[4], row[3]))

    def render(self) -> np.ndarray:
        """The page, (210, 160, 3) uint8."""
        return self._seen["screenshot"]

    def snapshot(self) -> None:
        """A browser cannot be forked: raises NotImplementedError."""
        raise NotImplementedError("a browser page has no snapshot; only PhoneSim can be forked")

    restore = successors = snapshot

    def close(self) -> None:
        """End the browser, also one that is already dead."""
        page, self.page = self.page, None
        with contextlib.suppress(Exception):
            page.unwrapped.instance.driver.quit()
        for process in self.processes:  # a driver that was killed leaves its browser behind
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.processes = set()


def play(env: MiniWoB, actor: Callable, seeds: Sequence[int]) -> list[dict]:
    """One episode for each seed. Each gives {"seed", "success": 0.0 or 1.0, "steps"}, or "lost": why, and the run goes on.

    actor(pixels (1, 60, 40, 3), words (1, 16), [env]) -> probabilities (1, 61), from which an action is drawn by the seed.
    Rows carry the observations, the last one included, and the actions too: "obs", "actions", and the number of "slots".
    """
    rows = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 11])
        row: dict = {"seed": int(seed), "success": 0.0, "steps": 0, "obs": [], "actions": []}
        try:
            obs, info = env.reset(seed=int(seed))
            row["slots"] = len(info["slots"])
            over = False
            while not over:
                chances = actor(obs["pixels"][None], obs["words"][None], [env])[0].cumsum()
                action = int((chances < rng.random() * chances[-1]).sum())
                row["obs"].append(obs)
                row["actions"].append(action)
                obs, reward, terminated, truncated, _ = env.step(action)
                row["steps"] += 1
                over = terminated or truncated
            row["success"] = reward
            row["obs"].append(obs)  # the last one too
        except EpisodeLost as error:
            row = {"seed": int(seed), "lost": str(error)}
        rows.append(row)
    return rows


def episodes(rows: list[dict]) -> Episodes:
    """What `play` recorded, without the lost episodes, as the recordings of PhoneSim. Raises ValueError if all were lost."""
    rows = [row for row in rows if "lost" not in row]
    if not rows:
        raise ValueError("every episode was lost: there is nothing to learn from")
    lengths = np.array([row["steps"] for row in rows])
    traj, t = np.repeat(np.arange(len(rows)), lengths), np.concatenate([np.arange(n) for n in lengths])
    frame = np.arange(len(traj)) + traj  # every episode has one frame more than it has actions
    last = t == lengths[traj] - 1
    return Episodes(
        frames=np.stack([obs["pixels"] for row in rows for obs in row["obs"]]),
        words=np.stack([row["obs"][0]["words"] for row in rows])[traj],
        slots=np.array([row["slots"] for row in rows])[traj],
        goal=np.full(len(traj), -1),
        frame=frame,
        next_frame=frame + 1,
        action=np.array([a for row in rows for a in row["actions"]]),
        reward=np.where(last, np.array([row["success"] for row in rows])[traj], 0).astype(np.float32),
        done=last,
        traj=traj,
        t=t,
        oracle={},
    )
