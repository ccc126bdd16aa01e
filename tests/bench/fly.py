"""Speed of the quadrotor beside the arithmetic that it cannot avoid: `make bench`.

All figures are environment steps per second of CPU time, on one thread. "Physics" is Runge-Kutta, reward and termination;
"full" adds what training needs: checked actions, noise, the history of 32 actions, automatic resets.
"""

import statistics
import time
import warnings

import numpy as np
import torch
from timing import alternate, report

from minirl.envs import quadrotor as qr

torch.set_num_threads(1)
CLOCK = time.process_time


class Counter(np.ndarray):
    """An array that counts the elementwise operations done to it, in rows of N numbers."""

    rows = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        plain = [np.asarray(i) if isinstance(i, Counter) else i for i in inputs]
        out = np.asarray(getattr(ufunc, method)(*plain, **kwargs))
        Counter.rows += out.size // self.shape[-1]
        return out.view(Counter)


def operations(n: int = 8) -> int:
    """How many operations on N numbers one step of the physics is, counted while it runs."""
    envs = qr.Quadrotor(n)
    envs.reset(seed=0)
    Counter.rows = 0
    qr.physics(envs.x.view(Counter), np.zeros((4, n), np.float32).view(Counter), envs.k)
    return Counter.rows


def prepared(n: int, **options):
    """An environment in mid-flight, and random actions as it keeps them, (4, N), and as users pass them, (N, 4)."""
    envs = qr.Quadrotor(n, copy=False, **options)
    envs.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (n, 4)).astype(np.float32)
    actions = actions if envs.device is None else torch.from_numpy(actions)
    return envs, np.ascontiguousarray(actions.T) if envs.device is None else actions.T.contiguous(), actions


def steps(rates: dict[str, list[float]], n: int) -> dict[str, list[float]]:
    """Calls per second -> millions of environment steps per second."""
    return {name: [n * rate / 1e6 for rate in values] for name, values in rates.items()}


def physics(rounds: int, seconds: float, n: int = 4096) -> None:
    """NumPy, no compiler, beside as many whole-array products as the step has operations."""
    envs, a, _ = prepared(n)
    x, count = envs.x.copy(), operations()
    one, two, out = (np.ones(n, np.float32) for _ in range(3))

    def products() -> None:
        for _ in range(count):
            np.multiply(one, two, out)

    programs = {"NumPy": lambda: envs._physics(x, a), f"{count} products of N numbers": products}
    rates = steps(alternate(programs, rounds, seconds, CLOCK), n)
    report(f"Physics, N = {n:,} (goal: 3.5 M/s without a compiler)", rates, "M steps/s", [tuple(programs)])


def compiled(rounds: int, seconds: float, n: int = 65_536) -> None:
    """torch.compile beside eager torch, NumPy, and a copy of as many bytes as a step must read and write."""
    numpy, a, _ = prepared(n)
    eager, b, _ = prepared(n, device="cpu")
    fast, c, _ = prepared(n, device="cpu", compile=True)
    x, y, z = numpy.x.copy(), eager.x.clone(), fast.x.clone()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        got = fast._physics(z, c)
        first = time.perf_counter() - start
    for warning in caught:
        print(f"\n{warning.message}")
    k = qr.Coefficients(fast.params, fast.dt, fast.weights, fast.box)
    off = max(
        float((u.float() - v.float()).abs().max() / v.float().abs().max().clamp(min=1))
        for u, v in zip(got, qr.physics(z, c, k), strict=True)
    )
    source, goal = torch.ones(27, n), torch.ones(27, n)
    programs = {
        "torch.compile": lambda: fast._physics(z, c),
        "copy of the same bytes": lambda: goal.copy_(source),
        "torch": lambda: eager._physics(y, b),
        "NumPy": lambda: numpy._physics(x, a),
    }
    rates = steps(alternate(programs, rounds, seconds, CLOCK), n)
    title = f"Physics, N = {n:,} (goal: 60 M/s compiled; compiling took {first:.0f} s; largest relative difference to eager {off:.0e})"
    report(title, rates, "M steps/s", [("torch.compile", "copy of the same bytes"), ("torch.compile", "torch")])


def full(rounds: int, seconds: float, n: int = 1024) -> None:
    """The whole training step, with observations as views and as copies."""
    programs = {}
    for name, copy in (("views", False), ("copies", True)):
        envs, _, actions = prepared(n)
        envs.copy = copy
        programs[f"observations are {name}"] = lambda envs=envs, actions=actions: envs.step(actions)
    rates = steps(alternate(programs, rounds, seconds, CLOCK), n)
    report(f"Full training step, N = {n:,} (goal: 1.5 M/s)", rates, "M steps/s", [])


def sizes(seconds: float) -> None:
    """Nanoseconds per environment step, from one drone to a quarter of a million."""
    print("\nNanoseconds of CPU per environment step (NumPy, median of 3)")
    print(f"  {'N':>9} {'physics':>10} {'full':>10}")
    for n in (1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144):
        envs, a, actions = prepared(n)
        x = envs.x.copy()
        programs = {"physics": lambda e=envs, x=x, a=a: e._physics(x, a), "full": lambda e=envs, a=actions: e.step(a)}
        ns = {k: 1e9 / (n * statistics.median(v)) for k, v in alternate(programs, 3, seconds, CLOCK).items()}
        print(f"  {n:>9,} {ns['physics']:10,.0f} {ns['full']:10,.0f}")


def gpu(seconds: float, n: int = 1 << 20) -> None:
    """A million drones on a GPU, if there is one."""
    if not torch.cuda.is_available():
        print("\nNo GPU here: the figure for a million environments is left out")
        return
    for name, compile in (("eager", False), ("compiled", True)):
        envs, a, actions = prepared(n, device="cuda", compile=compile)
        actions = actions.cuda()
        for what, work in (
            ("physics", lambda e=envs, a=a: e._physics(e.x, a)),
            ("full", lambda e=envs, b=actions: e.step(b)),
        ):
            work()
            torch.cuda.synchronize()
            start, calls = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                for _ in range(10):
                    work()
                torch.cuda.synchronize()
                calls += 10
            rate = n * calls / (time.perf_counter() - start) / 1e6
            print(f"  {torch.cuda.get_device_name()}, N = {n:,}, {name}, {what}: {rate:,.0f} M steps/s")


def peer() -> None:
    """The authors' simulator is compiled from source on installation; it is compared where somebody has done that."""
    try:
        import l2f  # noqa: F401
    except ImportError:
        print("\nl2f (the authors' simulator) is not installed: no comparison with it")
        return
    print("\nl2f is installed, but its vehicle has other parameters: no comparison is printed")


if __name__ == "__main__":
    physics(rounds=7, seconds=0.5)
    compiled(rounds=5, seconds=0.5)
    full(rounds=7, seconds=0.5)
    sizes(seconds=0.2)
    gpu(seconds=2.0)
    peer()
