"""Speed of the worlds' simulators beside the packages they are checked against: `make bench`."""

from functools import partial

import numpy as np
from timing import alternate, report

from minirl.envs.gem_package import make_gem
from minirl.envs.series_dc import SCRIPT, SeriesDC, step

# ------------------------------------------------------------------------------------------------ the electric motor


def series_dc(rounds: int, seconds: float) -> None:
    """Motor steps per second: ours for N = 1, 16, 1024 and 65,536, the package with both solvers, and the bare arithmetic.

    The package is stepped without gymnasium's wrappers, so that it is measured at its fastest. The arithmetic that no
    explicit Euler step of the two equations can avoid, 7 products, 6 sums and one comparison a motor, is done in place
    on arrays that exist already.
    """
    envs = {solver: make_gem(SCRIPT, 30.0, solver=solver) for solver in ("euler", "scipy")}
    duty = np.array([0.3])
    for env in envs.values():
        env.reset(seed=0)
    programs = {f"package, {solver}": partial(env.step, duty) for solver, env in envs.items()}
    for n in (1, 16, 1_024, 65_536):
        programs[f"ours, N = {n}"] = partial(step, SCRIPT, np.full(n, 20.0), np.full(n, 20.0), np.full(n, 0.3))
    for n in (1_024, 65_536):
        programs[f"arithmetic, N = {n}"] = partial(bare, *np.full((3, n), 0.3))
    learner = SeriesDC(1_024, repeat=1)
    learner.reset(seed=0)
    programs["ours with references, N = 1024"] = partial(learner.step, np.full((1_024, 1), 0.3))

    rates = alternate(programs, rounds, seconds)
    for name, values in rates.items():  # calls per second -> motor steps per second
        n = int(name.rpartition("N = ")[2]) if "N = " in name else 1
        rates[name] = [value * n for value in values]
    report(
        "Series DC motor, one thread (goals at N = 1024: 100 x the package's default solver, scipy; 20 x its Euler solver)",
        rates,
        "motor steps/s",
        [
            ("ours, N = 1024", "package, scipy"),
            ("ours, N = 1024", "package, euler"),
            ("ours, N = 1024", "arithmetic, N = 1024"),
            ("ours, N = 65536", "arithmetic, N = 65536"),
        ],
    )


def bare(omega: np.ndarray, i: np.ndarray, duty: np.ndarray) -> None:
    """The products and sums of one step, in place; the numbers mean nothing."""
    for _ in range(7):
        np.multiply(omega, i, out=duty)
    for _ in range(6):
        np.add(omega, i, out=duty)
    np.maximum(duty, 0.0, out=duty)


if __name__ == "__main__":
    series_dc(rounds=5, seconds=0.4)
