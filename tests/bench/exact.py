"""Speed of the exact chapters beside the arithmetic they cannot avoid: `make bench`."""

import time

import numpy as np
from timing import alternate, report

from minirl.alignment import nash_mp
from minirl.core.tabular import value_iteration
from minirl.envs.finite_mdps import enumerate_minigrid, sticky
from minirl.envs.preference_games import random_game

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


# --------------------------------------------------------------------------------------------------- value iteration


def minigrid_value_iteration(gamma: float = 0.99) -> None:
    """Seconds to enumerate two layouts, one of them sticky, and to find Q* to 1e-10 (goal: 10,000 states in 2 s)."""
    print(f"\nValue iteration on enumerated MiniGrid layouts, gamma {gamma}, one thread")
    for layout, change in (("UnlockPickup", lambda mdp: mdp), ("DoorKey-16x16", sticky)):
        start = time.perf_counter()
        mdp = change(enumerate_minigrid(f"MiniGrid-{layout}-v0"))
        enumerated, seconds = time.perf_counter() - start, []
        for _ in range(3):
            start = time.perf_counter()
            value_iteration(mdp, gamma)
            seconds.append(time.perf_counter() - start)
        print(f"  {mdp.name:<38} {min(seconds):10.2f} s   ({mdp.S:,} states, enumerated in {enumerated:.1f} s)")


if __name__ == "__main__":
    nash_mirror_prox(rounds=7, seconds=0.5)
    minigrid_value_iteration()
