"""The reproduction of Nash-MP: which arms run on which seeds, what they measure, and what that says about the claims.

Everything but the last group is exact: float64, the whole preference matrix, last iterates, and slopes are counted a
QUERY (Nash-MP asks two an iteration, its rivals one). Five seeds are five random games (or five random references).
  random n=*   Nash-MP at its safe step on random sigmoid games: 8 sizes x 6 prices, each slope beside its bound
  rps          the same on rock-paper-scissors with five references, beside the same step without the look-ahead
  transitive   the same on Bradley-Terry games, the control for intransitivity
  methods      Nash-MP, MMD and Nash-MD on one random game of 20 answers, 4 prices (self-play mirror descent is MMD)
  pg *         the policy-gradient version on sampled pairs: a table on rock-paper-scissors and on 20 answers, a network
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from minirl.alignment import nash_mp as algorithm
from minirl.alignment.nash_mp import Config, Game, NashMP, fit_slope, kl, rate_bound, solve_nash, span
from minirl.envs import preference_games as games
from minirl.reproduce import claim, interval, metric

SOURCES = (
    "minirl/alignment/nash_mp.py",
    "minirl/core/nets.py",
    "minirl/core/seeding.py",
    "minirl/envs/preference_games.py",
    "minirl/experiments/nash_mp.py",
)

SIZES = (5, 10, 20, 50, 100, 200, 500, 1000)
PRICES = (0.3, 0.2, 0.1, 0.05, 0.03, 0.01)  # beta
COMPARED = (0.3, 0.1, 0.03, 0.01)  # beta of "methods"
GRID = np.geomspace(0.03, 10, 16)  # lam, for the tuned rows
END = 1e-24  # a path is followed until KL(pi* || pi_k) is below
POINTS = 25  # of a stored curve

PG = {  # beta 0.1 on rock-paper-scissors: how well the proximal problem is solved, and how noisily
    "pg inner=5 batch=64": {"batch_size": 64},
    "pg inner=5 batch=256": {},
    "pg inner=5 batch=1024": {"batch_size": 1024},
    "pg inner=1 batch=256": {"inner": 1},
    "pg inner=20 batch=256": {"inner": 20},
    "pg 20 answers": {"game": "random", "answers": 20},
}
SCHEMES = ("two_step", "ema", "one_step")  # "one_step" is the control without the look-ahead, at equal queries
CYCLE = {"beta": 0.03, "inner": 20}
NETWORK = {"game": "contextual", "hidden": (64,), "beta": 0.05, "inner": 20, "batch_size": 1024, "lr": 2.0}


def plan(seeds: int = 5) -> list[tuple[str, int]]:
    """All (arm, seed), the longest runs first."""
    arms = ["random n=1000", "methods", *(f"pg network {scheme}" for scheme in SCHEMES)]
    arms += [f"random n={n}" for n in reversed(SIZES[:-1])] + ["rps", "transitive"]
    arms += [*PG, *(f"pg cycle {scheme}" for scheme in SCHEMES)]
    return [(arm, s) for arm in arms for s in range(seeds)]


def run(arm: str, seed: int) -> dict:
    """One run: {"curves": {name: [[x, y], ...]}, "metrics": {name: number}}; a pure function of its arguments."""
    if arm.startswith("random n="):
        n = int(arm.removeprefix("random n="))
        return run_slopes(games.random_game(n, seed), local=n <= 100, curves=n == 20)
    if arm == "rps":
        rng = np.random.default_rng([seed, 3])
        reference = (0.6, 0.3, 0.1) if seed == 0 else rng.dirichlet(np.full(3, 2.0))
        return run_slopes(games.rock_paper_scissors(reference=reference), local=True, curves=True)
    if arm == "transitive":
        rng = np.random.default_rng([seed, 4])
        return run_slopes(games.bradley_terry(rng.standard_normal(20)), local=True, curves=False)
    if arm == "methods":
        return run_methods(games.random_game(20, seed))
    if arm in PG:
        return run_pg(Config(**PG[arm], game_seed=seed, seed=seed), 200)
    for scheme in SCHEMES:
        longer = 2 if scheme == "one_step" else 1  # its iteration asks half the queries
        if arm == f"pg cycle {scheme}":
            return run_pg(Config(**CYCLE, scheme=scheme, seed=seed), 100 * longer)
        if arm == f"pg network {scheme}":
            return run_pg(Config(**NETWORK, scheme=scheme, game_seed=seed, seed=seed), 100 * longer)
    raise ValueError(f"unknown arm {arm!r}; known: {', '.join(dict.fromkeys(a for a, _ in plan()))}")


# ---------------------------------------------------------------------------------------------------- exact paths


def follow(game: Game, log_star: np.ndarray, method: Iterator[np.ndarray], most: int) -> dict[str, np.ndarray]:
    """KL(pi* || pi_k), exploitability and span of the error at k = 0, 1, ..., until the KL is below END."""
    rows = []
    for log_pi in islice(method, most + 1):
        rows.append((kl(log_star, log_pi), game.exploitability(log_pi), span(log_pi, log_star)))
        if rows[-1][0] < END:
            break
    return dict(zip(("kl", "exploitability", "span"), np.array(rows, dtype=float).T, strict=True))


def divergences(log_star: np.ndarray, method: Iterator[np.ndarray], most: int) -> np.ndarray:
    """KL(pi* || pi_k) alone."""
    values = []
    for log_pi in islice(method, most + 1):
        values.append(float(kl(log_star, log_pi)))
        if values[-1] < END:
            break
    return np.array(values)


def thinned(values: np.ndarray, queries: int) -> list[list[float]]:
    """A curve over queries, of at most POINTS points; `queries` are asked for each entry."""
    index = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
    return [[int(queries * k), float(f"{values[k]:.6g}")] for k in index]


def factors(values: np.ndarray) -> np.ndarray:
    """KL_{k+1} / KL_k."""
    return values[1:] / values[:-1]


def slope_or_nan(values: np.ndarray) -> float:
    """`fit_slope`, or 0 for a path that has not left the start region (a cycle, or far too slow)."""
    return fit_slope(values) if values[-1] < 0.1 * values[0] else 0.0


def run_slopes(pair: tuple[np.ndarray, np.ndarray], local: bool, curves: bool) -> dict:
    """Nash-MP with lam = 1/2 at every price. Slopes are of log KL a query; ratios say by how much the bound is beaten."""
    P, log_ref = pair
    metrics, pictures = {} if (P == 1).any() else representable(P), {}
    for beta in PRICES:
        game = Game(P, log_ref, beta)
        log_star = solve_nash(game)
        path = follow(game, log_star, algorithm.nash_mp(game), 20_000)
        bound = rate_bound(beta)
        found = {
            "slope": fit_slope(path["kl"]) / 2,
            "bound": bound,
            "worst factor / bound": factors(path["kl"]).max() * (1 + 2 * beta),
            "iterations": len(path["kl"]) - 1,
            "residual": np.abs(log_star - game.best_response(log_star)).max(),
            "exploitability ratio": fit_slope(path["exploitability"], 1e-21) / 2 / bound,
            "span ratio": fit_slope(path["span"], 1e-10) / (2 * bound),
        }
        found["ratio"] = found["slope"] / bound
        # The control: the same step without the look-ahead, which is also Nash-MP with its anchor moved.
        control = divergences(log_star, algorithm.mmd(game, 2.0), 2 * len(path["kl"]))
        found["control worst factor"] = factors(control).max()
        found["control slope"] = slope_or_nan(control)
        if local:
            found["local slope"] = algorithm.local_rate(game, log_star) / 2
        metrics |= {f"{name} beta={beta:g}": value for name, value in found.items()}
        if curves and beta in COMPARED:
            for name in ("kl", "exploitability", "span"):
                pictures[f"{name} beta={beta:g}"] = thinned(path[name], 2)
            pictures[f"control kl beta={beta:g}"] = thinned(control, 1)
    return {"curves": pictures, "metrics": {name: float(value) for name, value in metrics.items()}}


def representable(P: np.ndarray) -> dict[str, float]:
    """What the best Bradley-Terry reward leaves unexplained (the triples of 50 answers are enough)."""
    rewards = games.fit_bradley_terry(P)
    favourite = int(np.argmax(rewards))
    return {
        "cycle sum": games.worst_triple(P[:50, :50])[1],
        "wrong winners": len(games.wrong_winners(P, rewards)) / (len(P) * (len(P) - 1) / 2),
        "favourite is beaten by": float(P[:, favourite].max()),
    }


# ------------------------------------------------------------------------------------------------ methods compared


def run_methods(pair: tuple[np.ndarray, np.ndarray]) -> dict:
    """KL against queries of every method on one game, and slopes a query. Tuned: the best lam of GRID on this game."""
    metrics, curves = {}, {}
    for beta in COMPARED:
        game = Game(*pair, beta)
        log_star = solve_nash(game)

        def measure(method, queries: int, budget: int, log_star=log_star) -> tuple[np.ndarray, float]:
            values = divergences(log_star, method, budget // queries)
            return values, slope_or_nan(values) / queries

        tuned = {}
        for name, queries in (("Nash-MP", 2), ("MMD", 1)):
            found = {}
            for lam in GRID:
                method = algorithm.nash_mp(game, lam) if queries == 2 else algorithm.mmd(game, 1 / lam)
                found[lam] = measure(method, queries, 2_000)[1]
            tuned[name] = min(found, key=found.get)
            metrics[f"best lam {name} beta={beta:g}"] = tuned[name]
        arms = {
            "Nash-MP": (algorithm.nash_mp(game), 2, 20_000),
            "Nash-MP tuned": (algorithm.nash_mp(game, tuned["Nash-MP"]), 2, 20_000),
            "MMD": (algorithm.mmd(game), 1, 20_000),
            "MMD tuned": (algorithm.mmd(game, 1 / tuned["MMD"]), 1, 20_000),
            "no look-ahead": (algorithm.mmd(game, 2.0), 1, 20_000),
            "Nash-MD": (algorithm.nash_md(game), 1, 4_000),
        }
        for name, (method, queries, budget) in arms.items():
            values, slope = measure(method, queries, budget)
            metrics[f"slope {name} beta={beta:g}"] = slope
            shown = values[: 2_000 // queries + 1]
            curves[f"kl {name} beta={beta:g}"] = thinned(shown, queries)
            metrics[f"queries to 1e-11 {name} beta={beta:g}"] = reached(values, queries)
            if name in ("Nash-MP", "Nash-MD"):
                metrics |= {f"{key} {name} beta={beta:g}": value for key, value in bend(values, name).items()}
        metrics[f"bound Nash-MP beta={beta:g}"] = rate_bound(beta)
        metrics[f"bound MMD beta={beta:g}"] = rate_bound(beta, 1 / (4 * beta), 1)
    return {"curves": curves, "metrics": {name: float(value) for name, value in metrics.items()}}


def reached(values: np.ndarray, queries: int, target: float = 1e-11) -> int:
    """Queries until the KL is below the target; -1 when it never is."""
    below = np.flatnonzero(values < target)
    return int(queries * below[0]) if len(below) else -1


def bend(values: np.ndarray, name: str) -> dict[str, float]:
    """How the slope of log KL changes along the path: for a linear rate it does not.

    Nash-MD: local slopes around iterations 100 and 2,000, and the power of k between 1,000 and 4,000. Nash-MP: slopes of
    the second and of the last third of the path to 1e-22.
    """
    logs = np.log(values)
    if name == "Nash-MD":
        early, late = (logs[int(1.1 * k)] - logs[int(0.9 * k)] for k in (100, 2_000))
        power = (logs[4_000] - logs[1_000]) / np.log(4)
        return {"slope at 100 / slope at 2000": (early / 20) / (late / 400), "power": power}
    end = np.flatnonzero(values < 1e-22)[0]
    second, last = (logs[end * (i + 1) // 3] - logs[end * i // 3] for i in (1, 2))
    return {"slope of third 3 / third 2": last / second}


# ------------------------------------------------------------------------------------------- the policy-gradient version


def run_pg(config: Config, iterations: int) -> dict:
    """One training run; curves over preference queries, "final" is a mean over the last fifth, "floor" over the last half."""
    agent = NashMP(replace(config, eval_every=iterations // 100 or 1))
    logs = list(agent.learn(iterations))
    late, shown = logs[-(len(logs) // 5) :], logs[:: len(logs) // 20]
    metrics = {f"final {key}": np.mean([log[key] for log in late]) for key in ("exploitability", "kl")}
    metrics["floor"] = np.mean([log["exploitability"] for log in logs[len(logs) // 2 :]])
    metrics |= {"start exploitability": logs[0]["exploitability"], "queries": logs[-1]["queries"]}
    curves = {key: [[log["queries"], float(f"{log[key]:.6g}")] for log in shown] for key in ("exploitability", "kl")}
    return {"curves": curves, "metrics": {name: float(value) for name, value in metrics.items()}}


# ------------------------------------------------------------------------------------------------------ the verdicts


def judge(
    id: str, text: str, paper: str, ours: str, values: np.ndarray, verdict: bool | None, comment: str = ""
) -> dict:
    """One row; values (S,) are the per-seed numbers behind the interval, verdict None means "not shown here"."""
    x = np.asarray(values, dtype=float)
    verdict = "cannot be shown here" if verdict is None else verdict
    return claim(id, text, paper, ours, verdict, x.mean() if len(x) else None, interval(x), len(x), comment)


def listed(x: np.ndarray, digits: int = 0) -> str:
    return ", ".join(f"{v:.{digits}f}" for v in x)


def claims(runs: list[dict]) -> list[dict]:
    """The table of verdicts, a pure function of the stored runs."""

    def get(arm: str, name: str) -> np.ndarray:
        return metric(runs, arm, name)

    def over_prices(arm: str, name: str, prices=PRICES) -> np.ndarray:
        """(seeds, prices)."""
        return np.stack([get(arm, f"{name} beta={beta:g}") for beta in prices], axis=1)

    random = [f"random n={n}" for n in SIZES]
    exact, circling, large = [*random, "rps", "transitive"], ["rps", "random n=20"], random[2:]
    seeds = len(get("rps", "slope beta=0.1"))
    worst = np.max([over_prices(arm, "worst factor / bound").max(1) for arm in exact], axis=0)
    steps = int(sum(over_prices(arm, "iterations").sum() for arm in exact))
    control = np.concatenate([get(arm, "control worst factor beta=0.01") for arm in circling])
    table = [
        judge(
            "C1", "Every iteration shrinks KL(pi*||pi_k) by the factor 1/(1 + 2 beta) or more, on every game",
            "KL = O((1 + 2 beta)^(-N/2)) after N queries (theorem)",
            f"largest factor over the bound {worst.max():.3f} in {steps} iterations on {len(exact) * seeds} games at 6 "
            f"prices, down to KL = 1e-24; without the look-ahead, beta = 0.01, the KL grows by up to {control.min():.3f} "
            f"to {control.max():.3f} in one step",
            worst, bool((worst <= 1 + 1e-6).all() and (control > 1).all()),
            "lam = 1/2, last iterate. The control, one query a step, must grow on every rock-paper-scissors game and on every "
            "random game of 20 answers. On much larger random games the circulation averages out and it converges too.",
        )
    ]  # fmt: skip

    ratio = {arm: over_prices(arm, "ratio") for arm in exact}
    smallest = np.min([r.min(1) for r in ratio.values()], axis=0)
    stuck = get("rps", "control slope beta=0.01")
    table.append(
        judge(
            "C2", "The fitted slope of log KL a query respects its bound -log(1 + 2 beta)/2 in every setting",
            "-log(1 + 2 beta)/2 (theorem)",
            f"{len(SIZES) * len(PRICES)} settings of (n, beta), {seeds} games each, and 2 more families: slope over bound "
            f"{min(r.min() for r in ratio.values()):.2f} to {max(r.max() for r in ratio.values()):.1f}",
            smallest, bool((smallest >= 1).all() and (stuck == 0).all()),
            "1 would be exactly the bound. Value: the smallest ratio of a seed. The same step without the look-ahead has "
            "slope 0 on rock-paper-scissors at beta = 0.01.",
        )
    )  # fmt: skip

    def exponent(name: str) -> np.ndarray:
        slopes = -over_prices("methods", f"slope {name}", COMPARED)
        return np.polyfit(np.log(COMPARED), np.log(slopes.T), 1)[0]

    mp, mmd = exponent("Nash-MP"), exponent("MMD")
    table.append(
        judge(
            "C3", "The slope of Nash-MP is about linear in beta, that of MMD at its safe step about quadratic",
            "beta N against beta^2 N (theorems)",
            f"exponent of |slope| in beta: Nash-MP {listed(mp, 2)}; MMD {listed(mmd, 2)}",
            mp, bool(((mp >= 0.8) & (mp <= 1.1) & (mmd >= 1.8) & (mmd <= 2.1)).all()),
            f"n = 20, beta 0.01 to 0.3. log(1 + 2 beta) itself has exponent "
            f"{np.polyfit(np.log(COMPARED), np.log(np.log1p(2 * np.array(COMPARED))), 1)[0]:.2f} there.",
        )
    )  # fmt: skip

    shrink = get("methods", "slope at 100 / slope at 2000 Nash-MD beta=0.1")
    power = get("methods", "power Nash-MD beta=0.1")
    steady = get("methods", "slope of third 3 / third 2 Nash-MP beta=0.1")
    table.append(
        judge(
            "C4", "Nash-MD is polynomial, Nash-MP linear (beta = 0.1)",
            "O(1/N) for Nash-MD, linear for Nash-MP (theorems)",
            f"local slope of Nash-MD falls {shrink.min():.0f} to {shrink.max():.0f} times from iteration 100 to 2 000, its "
            f"KL as k to the power {listed(power, 2)}; that of Nash-MP changes by {100 * np.abs(steady - 1).max():.1f} % at most",
            shrink, bool((shrink >= 5).all() and (np.abs(steady - 1) <= 0.1).all()),
            "n = 20. Needed: at least 5 times, at most 10 %. k^-2 is faster than the guarantee.",
        )
    )  # fmt: skip

    inner = np.stack([ratio[arm] for arm in large])
    spans = np.stack([over_prices(arm, "span ratio") for arm in large])
    mean_slope = {n: over_prices(f"random n={n}", "slope").mean(0) for n in (20, 1000)}
    change = np.abs(mean_slope[1000] / mean_slope[20] - 1)
    table.append(
        judge(
            "C5", "The rate does not depend on the number of answers, and it is twice the bound",
            "all rates independent of the number of actions (abstract)",
            f"n = 20 to 1 000: slope over bound {inner.min():.2f} to {inner.max():.2f}; mean slope at n = 1 000 within "
            f"{100 * change.max():.1f} % of n = 20; smallest ratio of any game {smallest.min():.3f}",
            inner.mean((0, 2)),
            bool((inner >= 1.9).all() and (inner <= 2.6).all() and (smallest >= 1.9).all() and (change <= 0.1).all()),
            "Random games, 6 prices. Needed: 1.9 to 2.6, 10 %, and 1.9 for every game. The factor two: answers that vanish "
            "at the equilibrium lose log(1 + 2 beta) an iteration, and KL is quadratic in the error.",
        )
    )  # fmt: skip

    final = {arm: get(arm, "final exploitability") for arm in PG}
    small, middle, big = (get(f"pg inner=5 batch={b}", "floor").mean() for b in (64, 256, 1024))
    solved, rough = final["pg inner=5 batch=256"], final["pg inner=1 batch=256"]
    table.append(
        judge(
            "C6", "With policy-gradient steps on sampled pairs it reaches the equilibrium up to a floor set by the noise",
            "an approximate version with stochastic policy gradients is analysed (abstract, no number)",
            f"exploitability at the end {listed(solved, 5)} (start {get('pg inner=5 batch=256', 'start exploitability')[0]:.2f}); "
            f"floor with batches of 64, 256, 1 024: {small:.5f}, {middle:.5f}, {big:.5f}; one inner step {rough.mean():.5f}",
            solved, bool((solved < 0.003).all() and small > middle > big and rough.mean() > solved.mean()),
            "Rock-paper-scissors, beta = 0.1, 5 inner steps, 200 iterations; end: mean over the last fifth, floor: last half. "
            "Needed: below 0.003 on every seed, a floor that falls with the batch, a worse end with one inner step after as many "
            "iterations, which are a fifth of the queries (at equal queries there is no such difference).",
        )
    )  # fmt: skip

    exploit = {arm: over_prices(arm, "exploitability ratio") for arm in exact}
    low = np.min([r.min(1) for r in exploit.values()], axis=0)
    every_span = np.min([over_prices(arm, "span ratio").min(1) for arm in exact], axis=0)
    table.append(
        judge(
            "C7", "Exploitability and the span of the log-probabilities are linear too, uniformly over answers",
            "same linear rate for both (abstract)",
            f"exploitability slope over the bound for KL {min(r.min() for r in exploit.values()):.2f} at least; span slope an "
            f"iteration over log(1 + 2 beta): n >= 20 {spans.min():.2f} to {spans.max():.2f}, all games {every_span.min():.2f} at least",
            spans.mean((0, 2)),
            bool((low >= 1).all() and (every_span >= 0.5).all() and (spans >= 0.85).all() and (spans <= 1.25).all()),
            "Needed: 1 for exploitability, 0.5 for the span (what the contraction of KL proves) on every game, and 0.85 to 1.25 "
            "on random games of 20 answers and more.",
        )
    )  # fmt: skip

    def faster(first: str, second: str) -> np.ndarray:
        """How many times steeper the slope of the first method is, (seeds, prices)."""
        return over_prices("methods", f"slope {first}", COMPARED) / over_prices("methods", f"slope {second}", COMPARED)

    safe, tuned, mixed = faster("Nash-MP", "MMD"), faster("Nash-MP tuned", "MMD tuned"), faster("Nash-MP", "MMD tuned")
    by_price = lambda x: ", ".join(f"{v:.2g}" for v in x.mean(0))  # noqa: E731
    table.append(
        judge(
            "C8", "At guaranteed steps Nash-MP needs fewer queries than MMD for beta <= 0.1, and more at 0.3",
            "beta N against 4 beta^2 N: an advantage only for beta < 1/4 (from the theorems)",
            f"slope of Nash-MP over that of MMD at beta 0.3, 0.1, 0.03, 0.01: {by_price(safe)}",
            safe[:, -1], bool((safe[:, 1:] > 1).all() and (safe[:, 0] < 1).all()), "n = 20, a query each.",
        )
    )  # fmt: skip
    table.append(
        judge(
            "C9", "The advantage survives tuning: with the best lam for each game, Nash-MP is faster at every price",
            "no claim; the theorems are about guaranteed steps",
            f"best Nash-MP over best MMD at beta 0.3, 0.1, 0.03, 0.01: {by_price(tuned)}; safe Nash-MP over best MMD: {by_price(mixed)}",
            tuned.mean(1), bool((tuned > 1).all()),
            "lam from 0.03 to 10 in 16 steps, no guarantee. Tuned MMD beats safe Nash-MP where the last number is below 1.",
        )
    )  # fmt: skip
    rate = over_prices("transitive", "control slope") / over_prices("transitive", "slope")
    growth = over_prices("transitive", "control worst factor")
    table.append(
        judge(
            "C10", "Where a reward exists the look-ahead is not needed: half the queries do",
            "no claim; control",
            f"Bradley-Terry games: one-query slope over Nash-MP's {rate.min():.2f} to {rate.max():.2f}; its largest factor {growth.max():.3f}",
            rate.mean(1), bool((growth < 1).all() and (rate >= 1.5).all() and (rate <= 2.5).all()),
            "n = 20, 6 prices, lam = 1/2 for both. Needed: between 1.5 and 2.5, and a KL that never grows.",
        )
    )  # fmt: skip
    cycles, wrong, beaten = (
        np.stack([get(arm, name) for arm in large]) for name in ("cycle sum", "wrong winners", "favourite is beaten by")
    )
    clean = [get("transitive", name) for name in ("cycle sum", "wrong winners", "favourite is beaten by")]
    table.append(
        judge(
            "C11", "No Bradley-Terry reward represents these preferences, and the best one crowns an answer that others beat",
            "preferences may be intransitive (introduction)",
            f"largest sum of log-odds round a triple {cycles.min():.1f} to {cycles.max():.1f} (a reward: 0); wrong winners "
            f"{100 * wrong.min():.0f} to {100 * wrong.max():.0f} % of the pairs; its favourite loses with up to {beaten.min():.2f} to {beaten.max():.2f}",
            wrong.mean(0),
            bool((cycles > 1).all() and (wrong > 0).all() and (beaten > 0.5).all() and (clean[0] < 1e-6).all() and (clean[1] == 0).all()),
            f"Random games of 20 answers and more. Bradley-Terry games: cycle sum {clean[0].max():.0e}, no wrong winner, favourite unbeaten.",
        )
    )  # fmt: skip
    ends = {scheme: get(f"pg cycle {scheme}", "final exploitability") for scheme in SCHEMES}
    table.append(
        judge(
            "C12", "Sampled, at beta = 0.03: with the look-ahead it converges, without it circles, at equal queries",
            "no number given",
            "exploitability at the end: " + "; ".join(f"{scheme} {listed(x, 4)}" for scheme, x in ends.items()),
            ends["two_step"],
            bool((ends["two_step"] < 0.01).all() and (ends["ema"] < 0.01).all() and (ends["one_step"] > 0.05).all()),
            "Rock-paper-scissors, 20 inner steps, 1.02 million queries. Needed: below 0.01 for both, above 0.05 without.",
        )
    )  # fmt: skip
    ends = {scheme: get(f"pg network {scheme}", "final exploitability") for scheme in SCHEMES}
    start = get("pg network two_step", "start exploitability")
    gain = ends["two_step"] / ends["one_step"]
    table.append(
        judge(
            "C13", "So it is for a network on 16 contexts: at most half the exploitability of the scheme without look-ahead",
            "no number given",
            f"exploitability at the end (start {listed(start, 3)}): "
            + "; ".join(f"{scheme} {listed(x, 4)}" for scheme, x in ends.items()),
            gain, bool((gain <= 0.5).all() and (ends["two_step"] < start / 3).all()),
            "beta = 0.05, 64 tanh units, 4.1 million queries. Value: two_step over one_step.",
        )
    )  # fmt: skip
    table.append(
        judge(
            "C14", "Fine-tuned language models win against those of Nash-MD and online DPO",
            "competitive (abstract, no number there)", "not run", np.array([]), None,
            "Needs large models and a preference model. A small GPT comes with the language part of the course.",
        )
    )  # fmt: skip
    return table
