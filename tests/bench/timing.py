"""How the benches time: programs take turns in one process, so that a slow moment of the machine hits all alike.

Figures are medians over rounds; ratios are medians of the per-round ratios. `make bench` sets one thread for all.
"""

import statistics
import time
from collections.abc import Callable


def per_second(work: Callable[[], object], seconds: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Calls per second of `work`, measured for about `seconds`. `time.process_time` leaves out what others took of the core."""
    start, calls = clock(), 0
    while (elapsed := clock() - start) < seconds:
        work()
        calls += 1
    return calls / elapsed


def alternate(
    programs: dict[str, Callable[[], object]],
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Rates of every program, one measurement a round, the programs taking turns."""
    for work in programs.values():
        per_second(work, seconds / 2, clock)
    rates: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, work in programs.items():
            rates[name].append(per_second(work, seconds, clock))
    return rates


def report(title: str, rates: dict[str, list[float]], unit: str, ratios: list[tuple[str, str]]) -> None:
    """Print the median, least and largest rate of each program, and the ratios (over, under)."""
    print(f"\n{title}")
    for name, values in rates.items():
        print(f"  {name:<38} {statistics.median(values):10.1f} {unit}   (from {min(values):.1f} to {max(values):.1f})")
    for over, under in ratios:
        ratio = statistics.median(a / b for a, b in zip(rates[over], rates[under], strict=True))
        print(f"  {over} / {under}: {ratio:.2f}")
