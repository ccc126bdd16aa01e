"""The card and the picture of a data set."""

import numpy as np

from minirl.data.dataset import OfflineData

CELLS = 20  # per axis of the grid on which coverage is counted


def plane(data: OfflineData) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two coordinates (N,) in which the data are looked at, and their names.

    Angle and speed of the pendulum, else the first two observations, or observation and action where there is only one.
    """
    obs = data.observations
    if data.meta["env_id"] == "Pendulum-v1":
        return np.arctan2(obs[:, 1], obs[:, 0]), obs[:, 2], ["angle, rad (0 is upright)", "speed, rad / s"]
    if obs.shape[1] == 1:
        return obs[:, 0], data.actions[:, 0], ["observation 0", "action 0"]
    return obs[:, 0], obs[:, 1], ["observation 0", "observation 1"]


def coverage(data: OfflineData) -> dict:
    """Which share of a CELLS x CELLS grid over the `plane` holds at least one row.

    The grid spans the smallest box around the data. It says how evenly the box is filled, not how much of the task is seen.
    """
    x, y, names = plane(data)
    counts, _, _ = np.histogram2d(x, y, bins=CELLS)
    return {"axes": names, "cells": CELLS**2, "share": round(float((counts > 0).mean()), 4)}


def card(data: OfflineData) -> dict:
    """What a reader should know before using the set: who made it, how much, how good, how wide."""
    returns, ends = data.returns(), data.ends
    cut = int((~data.truncations & ~data.terminations)[ends].sum())
    lengths = np.diff(np.concatenate([[-1], ends]))
    pieces = 2 * cut > len(ends)  # the return of a piece is not that of an episode
    spread = lambda x: [round(float(v), 4) for v in np.quantile(x, [0, 0.25, 0.5, 0.75, 1])]  # noqa: E731
    return {
        "made by": data.meta["made_by"],
        "environment": data.meta["env_id"],
        "seed": data.meta["seed"],
        "transitions": len(data),
        "episodes": len(ends),
        "ended": {
            "terminated": int(data.terminations.sum()),
            "truncated": int((data.truncations & ~data.terminations).sum()),
            "cut": cut,
        },
        "length of an episode (min, quartiles, max)": spread(lengths),
        "return of an episode (min, quartiles, max)": spread(returns),
        "reference returns": {k: data.meta[f"reference_{k}"] for k in ("random", "expert")},
        "mean normalised score": None if pieces else round(float(data.score(returns.mean())), 2),
        "observations, lowest and highest": [data.observations.min(0).tolist(), data.observations.max(0).tolist()],
        "actions, lowest and highest": [data.actions.min(0).tolist(), data.actions.max(0).tolist()],
        "coverage": coverage(data),
    }


def plot(data: OfflineData, rows: int = 5_000):
    """A matplotlib figure: where the data lie (at most `rows` points), and the returns or actions that they hold.

    Left: the `plane`. Right: returns of the episodes; where an episode is a single step, the first action.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    pick = np.random.default_rng(0).permutation(len(data))[:rows]
    x, y, names = plane(data)
    left.scatter(x[pick], y[pick], s=4, alpha=0.3, color="#0072b2", linewidths=0, rasterized=True)
    left.set(xlabel=names[0], ylabel=names[1])
    figure.suptitle(
        f"{data.meta['name']}, seed {data.meta['seed']}: {len(pick):,} of {len(data):,} transitions on the left"
    )
    single = len(data.ends) == len(data)
    values = data.actions[:, 0] if single else data.returns()
    right.hist(values, bins=30, color="#0072b2")
    right.set(xlabel="action 0" if single else "return of an episode", ylabel="rows" if single else "episodes")
    if not single:
        for kind, style in (("random", ":"), ("expert", "--")):
            right.axvline(data.meta[f"reference_{kind}"], color="#222222", linestyle=style, label=f"{kind} reference")
        right.legend()
    return figure
