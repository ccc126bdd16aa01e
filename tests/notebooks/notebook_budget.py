"""A pytest plugin: the budget of a whole notebook (nbmake only knows one for each cell).

It prints how long each notebook took and how much memory its processes held together, and writes that to the file named
by MINIRL_NOTEBOOK_REPORT, from which minirl/book/site.py learns which notebooks passed. With
MINIRL_NOTEBOOK_BUDGET=enforce a notebook over SECONDS or GIGABYTES fails.
"""

import json
import os
import threading

import psutil
import pytest

SECONDS = 75
GIGABYTES = 1.5

runs = {}


def watch(done: threading.Event, peak: list[float]) -> None:
    """Keep in peak[0] the most memory [GB] that this process's children (a kernel, its workers) held at one time."""
    me = psutil.Process()
    while not done.wait(0.2):
        total = 0
        for child in me.children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.NoSuchProcess:  # it ended between the two calls
                continue
        peak[0] = max(peak[0], total / 1e9)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    done, peak = threading.Event(), [0.0]
    thread = threading.Thread(target=watch, args=(done, peak))
    thread.start()
    try:
        return (yield)
    finally:
        done.set()
        thread.join()
        item.user_properties += [("path", str(item.path)), ("peak_gb", peak[0])]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.passed:
        peak = dict(report.user_properties)["peak_gb"]
        over = []
        if report.duration > SECONDS:
            over.append(f"took {report.duration:.0f} s, more than {SECONDS} s")
        if peak > GIGABYTES:
            over.append(f"held {peak:.2f} GB, more than {GIGABYTES} GB")
        if over and os.environ.get("MINIRL_NOTEBOOK_BUDGET") == "enforce":
            report.outcome = "failed"
            report.longrepr = f"{item.path.name} is over its budget: it {' and '.join(over)}"
    return report


def pytest_runtest_logreport(report):
    """Runs in the controlling process, which has no rights to the items themselves."""
    if report.when == "call":
        run = dict(report.user_properties)
        runs[run["path"]] = {"passed": report.passed, "seconds": report.duration, "peak_gb": run["peak_gb"]}


def pytest_terminal_summary(terminalreporter, config):
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist sees only its share
        return
    for name, run in sorted(runs.items()):
        terminalreporter.write_line(
            f"{os.path.basename(name):32} {run['seconds']:6.1f} s   {run['peak_gb']:5.2f} GB at most"
        )
    if target := os.environ.get("MINIRL_NOTEBOOK_REPORT"):
        with open(target, "w") as file:
            json.dump(runs, file, indent=1)
