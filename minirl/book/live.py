"""`live`: drives training inside a cell, with a progress bar, curves that grow in place, and a stop button.

The algorithms are generators that know nothing of clocks or pictures. Here is the clock, and here are the pictures.
"""

import html
import math
import sys
import time
from collections.abc import Mapping

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from IPython.display import display
from tqdm import tqdm

from minirl.book.plots import (
    PAGE_DPI,
    SHARP_DPI,
    Shown,
    data_uri,
    framed,
    img,
    page_size,
    pixels,
    png,
    series,
    webp,
)

REDRAW_S = 0.25  # at most four pictures a second
DRAWING_SHARE = 12  # and at least twelve times as long between two as one took: drawing stays below a tenth of the time
COLUMNS = 3


class History(dict):
    """{name: list of logs}, and how the training ended.

    stopped  "finished", "budget", "button" or "interrupt"
    message  the same as a sentence
    """

    stopped = ""
    message = ""

    def series(self, name, key):
        """(steps, values) of one measured quantity, two float arrays (n,). KeyError when it was never logged."""
        logs = [log for log in self[name] if key in log]
        if not logs:
            seen = sorted({k for log in self[name] for k in log})
            raise KeyError(f"{name} has no log of {key!r}; it has {', '.join(seen) or 'no logs'}")
        return np.array([log["step"] for log in logs], float), np.array([log[key] for log in logs], float)


def live(logs, budget_s=45.0, plots=None, *, xlabel="environment steps", clock=time.perf_counter):
    """Advance one or several trainings and show them grow; return their History.

    logs      generator of flat dicts of numbers, each with "step" and "progress" in [0, 1]; or {name: generator}.
              Several take turns, one log each, so that none gets ahead. A single one is called "run".
    budget_s  seconds after which to stop; a log that is being computed is waited for
    plots     {log key: label of its axis}; one panel each
    xlabel    what "step" counts
    clock     for tests

    Stops when all are finished, at the budget, at the stop button, or at an interrupt of the kernel; whatever was
    logged until then is returned. ValueError, with name, step and field, when a log holds a number that is not finite:
    nobody should look at a curve that went on after that. The generators are closed in every case.
    """
    runs = dict(logs) if isinstance(logs, Mapping) else {"run": logs}
    if not runs:
        raise ValueError("live needs at least one generator")
    history = History({name: [] for name in runs})
    screen = (Page if in_notebook() else Terminal)(list(runs), plots or {}, xlabel, budget_s, clock)
    start = clock()
    try:
        history.stopped = advance(runs, history, screen, start + budget_s, clock)
    except KeyboardInterrupt:
        history.stopped = "interrupt"
    finally:
        for run in runs.values():
            run.close()
        history.message = ending(history, clock() - start, budget_s)
        screen.close(history)
    return history


def advance(runs, history, screen, deadline, clock):
    """Round-robin over the generators, one log each in turn. Returns why it stopped."""
    active = list(runs)
    while active:
        for name in tuple(active):
            if screen.stop:
                return "button"
            if clock() >= deadline:
                return "budget"
            log = next(runs[name], None)
            if log is None:
                active.remove(name)
                continue
            check_log(name, log)
            history[name].append(log)
            screen.update(history)
    return "finished"


def check_log(name, log):
    for key in ("step", "progress"):
        if key not in log:
            raise ValueError(f"{name}: a log has no {key!r}; it has {', '.join(log) or 'nothing'}")
    for key, value in log.items():
        if not math.isfinite(value):
            raise ValueError(f"{name}: {key} is {float(value)} at step {log['step']:,}")


# Words


def progress_of(history):
    """Mean progress of all runs, in [0, 1]."""
    return sum(logs[-1]["progress"] if logs else 0.0 for logs in history.values()) / len(history)


def steps_of(history):
    """ "SAC 2,000 of 5,000 steps, TD3 ...". The total follows from step and progress."""
    return ", ".join(f"{name} {steps_text(logs)}" for name, logs in history.items())


def steps_text(logs):
    if not logs:
        return "no step"
    step, progress = logs[-1]["step"], logs[-1]["progress"]
    if progress >= 1:
        return f"{step:,} steps"
    return f"{step:,} of {round(step / progress):,} steps" if progress > 0 else f"{step:,} steps"


def ending(history, seconds, budget_s):
    """The sentence under the final picture."""
    after = f"after {seconds:.0f} s: {steps_of(history)}."
    return {
        "finished": f"Finished {after}",
        "budget": f"Stopped at the budget of {budget_s:g} s, {after}",
        "button": f"Stopped by the button {after}",
        "interrupt": f"Interrupted {after}",
    }.get(history.stopped, f"Broke off {after}")


def describe(history, plots, xlabel):
    """Alt text of the final picture: what each curve came to."""
    parts = []
    for key, label in plots.items():
        last = [f"{name} {logs[key]:.4g}" for name in history if (logs := last_with(history[name], key))]
        parts.append(f"{label}: last value " + ", ".join(last) if last else f"{label}: nothing logged yet")
    return f"Training curves against {xlabel}. {'. '.join(parts)}."


def last_with(logs, key):
    return next((log for log in reversed(logs) if key in log), None)


# Pictures


class Curves:
    """One figure, a panel a key and a line a run. Lines are updated, never drawn anew."""

    def __init__(self, names, plots, xlabel):
        columns = min(len(plots), COLUMNS)
        rows = -(-len(plots) // columns)
        width, height = (7.0 if columns < 3 else 9.0), 2.9 * rows + 0.3
        with plt.rc_context({"figure.constrained_layout.use": False}):  # its layout costs more than the drawing itself
            self.fig, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
        plt.close(self.fig)  # it is ours to show, not the notebook's
        self.fig.subplots_adjust(
            left=0.82 / width,
            right=1 - 0.15 / width,
            bottom=0.55 / height,
            top=1 - 0.4 / height,
            wspace=0.95 / ((width - 1) / columns - 0.6),
            hspace=0.35,
        )
        self.lines = {}
        self.axes = list(axes.flat[: len(plots)])
        for ax in axes.flat[len(plots) :]:
            ax.set_visible(False)
        for ax, (key, label) in zip(self.axes, plots.items(), strict=True):
            ax.set_xlabel(xlabel)
            ax.set_ylabel(label)
            ax.locator_params(nbins=5)
            for i, name in enumerate(names):
                (self.lines[name, key],) = ax.plot([], [], label=name, **series(i))
        if len(names) > 1:
            handles = [self.lines[name, next(iter(plots))] for name in names]
            self.fig.legend(handles, names, loc="upper center", ncols=len(names), frameon=False, borderaxespad=0.2)

    def draw(self, history, dpi):
        for (name, key), line in self.lines.items():
            logs = [log for log in history[name] if key in log]
            line.set_data([log["step"] for log in logs], [log[key] for log in logs])
            line.set_marker("o" if len(logs) == 1 else "")  # a line of one point is invisible
        for ax in self.axes:
            ax.relim()
            ax.autoscale_view()
        return pixels(self.fig, dpi)


class Page:
    """A notebook: picture, progress line and stop button while it runs; a plain picture and a sentence afterwards."""

    def __init__(self, names, plots, xlabel, budget_s, clock):
        self.plots, self.xlabel, self.budget_s, self.clock = plots, xlabel, budget_s, clock
        self.curves = Curves(names, plots, xlabel) if plots else None
        self.stop = False
        self.start = self.next = clock()
        width = page_size(self.curves.fig)[0] if plots else 0  # as large as the final picture, so that nothing jumps
        self.picture = ipywidgets.Image(format="png", layout={"width": f"{width:.0f}px", "max_width": "100%"})
        self.line = ipywidgets.HTML()
        self.button = ipywidgets.Button(
            description="Stop", icon="stop", tooltip="Stop the training and keep what it logged"
        )
        self.button.on_click(self.press)
        column = [ipywidgets.HBox([self.button, self.line]), self.picture]
        self.box = ipywidgets.VBox(column if plots else column[:1])
        self.handle = display(Shown("", "training ...", widget=self.box), display_id=True)
        # ipykernel 7.4 hands a click to the shell from which the button last spoke: this cell's, which is busy. Once that
        # is forgotten the click goes where JupyterLab sends it, to a shell of its own. Other versions have no such note.
        vars(self.button.comm).pop("_reply_subshell_id", None)

    def press(self, button):
        self.stop = True  # called in the thread of another shell while the training runs in that of the cell
        button.disabled = True
        button.description = "Stopping"

    def update(self, history):
        now = self.clock()
        if now < self.next:
            return
        bar = meter(progress_of(history), now - self.start, self.budget_s)
        self.line.value = f'<code style="white-space:pre">{bar}</code> {html.escape(steps_of(history))}'
        if self.curves:
            self.picture.value = png(self.curves.draw(history, 1.1 * PAGE_DPI))
        took = self.clock() - now
        self.next = now + max(REDRAW_S, DRAWING_SHARE * took)

    def close(self, history):
        """Replace the widgets by an ordinary picture, which stays when the kernel is gone."""
        message = html.escape(history.message + self.missing(history))
        words = f'<p style="margin:6px 0 0;color:inherit">{message}</p>'
        picture = ""
        if self.curves:
            drawn = self.curves.draw(history, SHARP_DPI)
            picture = img(
                data_uri(webp(drawn)), describe(history, self.plots, self.xlabel), *page_size(self.curves.fig)
            )
        self.handle.update(Shown(framed("live", picture + words), history.message))
        for widget in (self.box, *self.box.children, self.button, self.line, self.picture):
            widget.close()

    def missing(self, history):
        """A misspelt key would leave an empty panel without a word."""
        seen = sorted({key for logs in history.values() for log in logs for key in log})
        absent = [key for key in self.plots if key not in seen]
        return (
            f" Nothing was logged as {', '.join(absent)}; the logs have {', '.join(seen)}." if absent and seen else ""
        )


class Terminal:
    """A script: tqdm's bar when somebody watches, and one line at the end."""

    stop = False

    def __init__(self, names, plots, xlabel, budget_s, clock):
        self.bar = tqdm(
            total=1.0, file=sys.stdout, disable=None, bar_format="{percentage:3.0f}%|{bar}| {elapsed} {desc}"
        )

    def update(self, history):
        self.bar.set_description_str(steps_of(history), refresh=False)
        self.bar.update(progress_of(history) - self.bar.n)

    def close(self, history):
        self.bar.close()
        print(history.message)


def meter(progress, elapsed, budget_s):
    """tqdm's bar as text; the time left is what the budget allows at most."""
    left = min(elapsed / progress - elapsed if progress > 0 else math.inf, max(budget_s - elapsed, 0.0))
    shape = f"{{percentage:3.0f}}%|{{bar}}| {{elapsed}} (at most {tqdm.format_interval(left)} left)"
    return tqdm.format_meter(min(progress, 1.0), 1.0, elapsed, ncols=50, bar_format=shape)


def in_notebook():
    """True in a Jupyter kernel; False in a script or in IPython's terminal."""
    return hasattr(get_ipython(), "kernel")
