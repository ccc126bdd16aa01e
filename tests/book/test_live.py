"""`live`: turns, stops, numbers, and how often it draws. Time is a counter here, so nothing depends on the machine."""

import math
import sys

import numpy as np
import pytest
from page_reader import Parsed, outside_requests

from minirl.book import History, live

module = sys.modules[live.__module__]


class Clock:
    """Stands still until somebody works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Training:
    """A generator of logs that costs time, remembers whether it was closed, and can be told to do something at a step."""

    def __init__(self, clock, order=None, name="", n=10, cost=1.0, at=None):
        self.closed, self.rng = False, np.random.default_rng(0)
        self.logs = self.generate(clock, order, name, n, cost, at or {})

    def generate(self, clock, order, name, n, cost, at):
        try:
            for k in range(1, n + 1):
                clock.now += cost
                if order is not None:
                    order.append(name)
                at.get(k, lambda: None)()
                yield {"step": 100 * k, "progress": k / n, "loss": self.rng.normal()} | ({"return": k} if k % 2 else {})
        finally:
            self.closed = True


@pytest.fixture
def clock():
    return Clock()


def interrupt():
    raise KeyboardInterrupt


def test_same_numbers_as_a_bare_loop(clock, capsys):
    history = live(Training(clock).logs, 1000, {"loss": "loss"}, clock=clock)
    assert history == {"run": list(Training(clock).logs)}
    assert history.stopped == "finished"
    assert history.message == "Finished after 10 s: run 1,000 steps."
    assert capsys.readouterr().out == history.message + "\n"  # no bar where nobody watches


def test_several_take_turns(clock):
    """One log each in turn, whatever a log costs; the short one leaves the others to go on."""
    order = []
    runs = {"A": Training(clock, order, "A", n=4, cost=5), "B": Training(clock, order, "B", n=2, cost=0.1)}
    history = live({name: run.logs for name, run in runs.items()}, 1000, clock=clock)
    assert "".join(order) == "ABABAA"
    assert {name: len(logs) for name, logs in history.items()} == {"A": 4, "B": 2}


@pytest.mark.parametrize(("budget", "logs"), [(0, 0), (0.5, 1), (3.5, 4), (9.5, 10)])
def test_the_budget_stops(clock, budget, logs):
    """The log under way at the deadline is the last."""
    run = Training(clock)
    history = live(run.logs, budget, clock=clock)
    assert len(history["run"]) == logs
    if logs < 10:
        assert history.stopped == "budget"
        assert run.closed or logs == 0  # a generator never started has nothing to clean up
        assert history.message.startswith(f"Stopped at the budget of {budget:g} s, after {logs} s: run ")
    assert next(run.logs, None) is None


def test_budget_message_says_how_far_it_came(clock):
    history = live({"A": Training(clock, n=40).logs, "B": Training(clock, n=20).logs}, 7.5, clock=clock)
    assert "A 400 of 4,000 steps, B 400 of 2,000 steps" in history.message


def test_an_interrupt_keeps_what_was_logged(clock):
    runs = {"A": Training(clock), "B": Training(clock, at={3: interrupt})}
    history = live({name: run.logs for name, run in runs.items()}, 1000, clock=clock)
    assert history.stopped == "interrupt"
    assert {name: len(logs) for name, logs in history.items()} == {"A": 3, "B": 2}
    assert all(run.closed for run in runs.values())
    assert history.message.startswith("Interrupted after")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_numbers_that_are_none_stop_at_once(clock, value):
    def broken():
        yield {"step": 1000, "progress": 0.1, "loss": 1.0}
        yield {"step": 2000, "progress": 0.2, "loss": value}

    other = Training(clock)
    with pytest.raises(ValueError, match=f"SAC: loss is {float(value)} at step 2,000"):
        live({"TD3": other.logs, "SAC": broken()}, 1000, clock=clock)
    assert other.closed


@pytest.mark.parametrize("log", [{"progress": 0.5}, {"step": 1}])
def test_logs_need_step_and_progress(clock, log):
    with pytest.raises(ValueError, match=r"run: a log has no '(step|progress)'"):
        live(iter_of(log), 1000, clock=clock)


def iter_of(*logs):
    yield from logs


def test_nothing_to_drive(clock):
    with pytest.raises(ValueError, match="at least one generator"):
        live({}, clock=clock)


def test_series(clock):
    history = live(Training(clock, n=5).logs, 1000, clock=clock)
    steps, returns = history.series("run", "return")
    assert steps.tolist() == [100, 300, 500]
    assert returns.tolist() == [1, 3, 5]
    with pytest.raises(KeyError, match="no log of 'retrun'; it has loss, progress, return, step"):
        history.series("run", "retrun")


# In a notebook: the same loop with pictures, here with a stand-in for the notebook's display.


@pytest.fixture
def page(monkeypatch):
    """Pretends to be a notebook; records what is displayed and how often the curves are drawn."""

    class Record:
        shown, bundles, drawn, draw_cost = (), (), (), 0.0

        def update(self, shown):
            self.shown += (shown,)
            self.bundles += (shown._repr_mimebundle_(),)

    record = Record()
    draw = module.Curves.draw

    def display(shown, display_id):
        record.update(shown)
        return record

    def counted(self, history, dpi):
        record.drawn += (record.clock.now,)
        record.clock.now += record.draw_cost
        return draw(self, history, dpi)

    monkeypatch.setattr(module, "in_notebook", lambda: True)
    monkeypatch.setattr(module, "display", display)
    monkeypatch.setattr(module.Curves, "draw", counted)
    return record


def test_at_most_four_pictures_a_second(clock, page):
    page.clock = clock
    live(Training(clock, n=400, cost=0.01).logs, 1000, {"loss": "loss"}, clock=clock)
    running, last = page.drawn[:-1], page.drawn[-1]
    assert len(running) >= 12  # 4 s: it does follow the training
    assert np.diff(running).min() >= 0.25 - 1e-9
    assert last == pytest.approx(4.0)


def test_slow_drawing_leaves_the_time_to_the_training(clock, page):
    page.clock, page.draw_cost = clock, 0.5
    live(Training(clock, n=100, cost=0.5).logs, 1000, {"loss": "loss"}, clock=clock)
    assert 0.5 * len(page.drawn[:-1]) < 0.1 * clock.now


def test_what_stays_is_an_ordinary_picture(clock, page):
    page.clock = clock
    runs = {"SAC": Training(clock, n=3).logs, "a<b": Training(clock, n=3).logs}
    history = live(runs, 1000, {"return": "return per episode", "loss": "loss"}, clock=clock)
    first, last = page.shown
    assert "application/vnd.jupyter.widget-view+json" in page.bundles[0]
    assert first.page == ""  # a page without a kernel shows no dead button
    assert set(page.bundles[1]) == {"text/html", "text/plain"}
    parsed = Parsed(last.page)
    ((picture, _),) = parsed.all("img")
    assert "return per episode: last value SAC 3, a<b 3" in picture["alt"]
    assert [text for _, text in parsed.all("p")] == [history.message]
    assert not outside_requests(last.page)
    assert last.text == "Finished after 6 s: SAC 300 steps, a<b 300 steps."


def test_the_stop_button(clock, page):
    page.clock = clock
    run = Training(clock, at={4: lambda: button().click()})

    def button():
        return page.shown[0].widget.children[0].children[0]

    history = live(run.logs, 1000, {"loss": "loss"}, clock=clock)
    assert history.stopped == "button"
    assert len(history["run"]) == 4  # the log under way is kept
    assert run.closed
    assert history.message.startswith("Stopped by the button after 4 s")


def test_a_misspelt_key_is_told(clock, page):
    page.clock = clock
    live(Training(clock).logs, 1000, {"retrun": "return"}, clock=clock)
    assert "Nothing was logged as retrun; the logs have loss, progress, return, step." in page.shown[-1].page


def test_broken_training_still_leaves_its_picture(clock, page):
    page.clock = clock
    with pytest.raises(ZeroDivisionError):
        live(Training(clock, at={3: lambda: 1 / 0}).logs, 1000, {"loss": "loss"}, clock=clock)
    assert page.shown[-1].text.startswith("Broke off after 3 s: run 200 of 1,000 steps")


def test_lines_hold_exactly_the_logs():
    """What is drawn is what was logged, for each run and key."""
    history = History({name: list(Training(Clock(), n=n).logs) for name, n in (("A", 5), ("B", 7))})
    curves = module.Curves(list(history), {"loss": "loss", "return": "return"}, "iterations")
    curves.draw(history, 50)
    for (name, key), line in curves.lines.items():
        steps, values = history.series(name, key)
        assert np.array_equal(line.get_xdata(), steps)
        assert np.array_equal(line.get_ydata(), values)
    styles = {(line.get_color(), str(line.get_linestyle())) for line in curves.lines.values()}
    assert len(styles) == 2
    assert [ax.get_ylabel() for ax in curves.axes] == ["loss", "return"]
    assert {ax.get_xlabel() for ax in curves.axes} == {"iterations"}


def test_the_bar_reads_as_time():
    assert module.meter(0.5, 30, 40).replace(" ", "").startswith("50%|")
    assert module.meter(0.5, 30, 40).endswith("00:30 (at most 00:10 left)")  # the budget ends before the training
    assert module.meter(0.5, 30, 100).endswith("00:30 (at most 00:30 left)")
    assert module.meter(0.0, 0, 45).endswith("(at most 00:45 left)")
