"""Speed of the exact chapters beside the arithmetic they cannot avoid: `python tests/bench/exact.py`.

Program and floor run in this process on one thread, in alternation, so that a slow moment of the machine hits both.
Figures are medians over rounds; ratios are medians of the per-round ratios.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is loaded
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import statistics
import time
from collections.abc import Callable

import numpy as np

from minirl.alignment import nash_mp
from minirl.envs.preference_games import random_game


def per_second(work: Callable[[], object], seconds: float) -> float:
    """Calls per second of `work`, measured for about `seconds`."""
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        work()
        calls += 1
    return calls / elapsed


def alternate(programs: dict[str, Callable[[], object]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Rates of every program, one measurement a round, the programs taking turns."""
    for work in programs.values():
        per_second(work, seconds / 2)
    rates: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, work in programs.items():
            rates[name].append(per_second(work, seconds))
    return rates


def report(title: str, rates: dict[str, list[float]], unit: str, ratios: list[tuple[str, str]]) -> None:
    print(f"\n{title}")
    for name, values in rates.items():
        print(f"  {name:<38} {statistics.median(values):10.1f} {unit}   (from {min(values):.1f} to {max(values):.1f})")
    for over, under in ratios:
        ratio = statistics.median(a / b for a, b in zip(rates[over], rates[under], strict=True))
        print(f"  {over} / {under}: {ratio:.2f}")


# ------------------------------------------------------------------------------------------------- Nash Mirror Prox


def nash_mirror_prox(rounds: int, seconds: float) -> None:
    """Iterations of exact Nash-MP, and pairs of the matrix-vector products that each needs; float64."""
    for n in (100, 500, 1000):
        P, log_ref = random_game(n, 100)
        path = nash_mp.nash_mp(nash_mp.Game(P, log_ref, beta=0.1))
        x, y = np.exp(log_ref), np.full(n, 1 / n)
        programs = {"Nash-MP": lambda path=path: next(path), "two products": lambda P=P, x=x, y=y: (P @ x, P @ y)}
        title = f"Exact Nash-MP, n = {n} answers, one thread"
        if n == 500:
            title += " (goals: 2,000 iterations/s, ratio 0.5)"
        report(title, alternate(programs, rounds, seconds), "it/s", [("Nash-MP", "two products")])


# ------------------------------------------------------------------------------------------------------ all of them

if __name__ == "__main__":
    nash_mirror_prox(rounds=7, seconds=0.5)
