"""Speed of PhoneSim, beside drawing every frame anew: `make bench`."""

import time

import numpy as np
from timing import alternate, report

from minirl.envs.phone import CELLS, PhoneSim, status, view
from minirl.envs.phone_draw import paint, shrink


def stepping(rounds: int, seconds: float) -> None:
    """Steps per second with pixels on one thread (goal: 8,000), resets included, for an agent that taps and presses at random.

    "seen before" plays the same 200 episodes over and over, as training on a fixed set of tasks does; "always new" never
    repeats a layout, the worst case of the caches. "drawn anew" is the picture alone, for people and for a first sight.
    """
    env, actions = PhoneSim(), np.random.default_rng(0).integers(CELLS + 6, size=100_000).tolist()
    state = {"seen before": [0, 0], "always new": [0, 0]}

    def play(name: str, episodes: int | None) -> None:
        """100 steps."""
        for _ in range(100):
            at, seed = state[name]
            if env.over:
                state[name][1] = seed = seed + 1 if episodes is None else (seed + 1) % episodes
                env.reset(seed=seed + (0 if episodes else 10_000))
            state[name][0] = at = (at + 1) % len(actions)
            env.step(actions[at] if episodes is None else actions[(seed * 12 + env.t) % len(actions)])

    env.reset(seed=0)
    screen, bar = view(env.layout, env.state), status(env.state)
    programs = {
        "seen before": lambda: play("seen before", 200),
        "always new": lambda: play("always new", None),
        "drawn anew": lambda: shrink(paint(screen, bar)),
    }
    for _ in range(200):
        programs["seen before"]()
    rates = alternate(programs, rounds, seconds, time.process_time)
    steps = {k: [v * (1 if k == "drawn anew" else 100) for v in values] for k, values in rates.items()}
    report(
        "PhoneSim with pixels, one thread",
        steps,
        "steps/s",
        [("seen before", "drawn anew"), ("always new", "drawn anew")],
    )


if __name__ == "__main__":
    stepping(rounds=5, seconds=1.0)
