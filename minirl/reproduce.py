"""Run a paper's reproduction, keep what it measured, and say when that has gone stale.

An experiment is a module `minirl.experiments.<slug>` with four names:
`SOURCES`, the files whose change makes results stale; `plan(seeds)`, the list of (arm, seed) to run;
`run(arm, seed)`, a pure function giving {"curves": {name: [[x, y], ...]}, "metrics": {name: number}};
`claims(runs)`, the verdicts, a pure function of the stored runs, so that anybody can recompute them.
"""

import hashlib
import importlib
import importlib.metadata
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import minirl
from minirl.papers import paper

ROOT = Path(minirl.__file__).parents[1]
RESULTS = ROOT / "chapters" / "results"
UNFINISHED = ROOT / "build" / "runs"  # one file per finished run, so that an interrupted reproduction continues
SCHEMA = 1
VERDICTS = ("reproduced", "not reproduced", "cannot be shown here")
FIELDS = {"schema", "slug", "command", "engine", "jobs", "wall_s", "versions", "sources", "runs", "claims", "checksum"}


def experiment(slug: str) -> ModuleType:
    """The experiment module of a paper. Raises UnknownPaper, or ValueError when the paper has no reproduction yet."""
    name = f"minirl.experiments.{paper(slug).slug}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ValueError(f"{slug} is planned: it has no reproduction yet (`minirl list` shows what is ready)") from None


def hashes(sources: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each source file, by its path relative to the checkout."""
    return {path: hashlib.sha256((ROOT / path).read_bytes()).hexdigest() for path in sources}


def checksum(runs: list[dict]) -> str:
    """SHA-256 of the runs as canonical JSON."""
    return hashlib.sha256(json.dumps(runs, sort_keys=True).encode()).hexdigest()


def one_run(module: str, arm: str, seed: int) -> dict:
    """One (arm, seed) in the calling process, on one thread; what the engines send to their workers."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    start = time.process_time()
    result = importlib.import_module(module).run(arm, seed)
    cpu_s = round(time.process_time() - start, 2)
    return json.loads(json.dumps({"arm": arm, "seed": seed, "cpu_s": cpu_s, **result}))


def parallel(module: str, todo: list[tuple[str, int]], jobs: int, engine: str) -> Iterator[dict]:
    """Finished runs as they come, from `jobs` workers of joblib's own processes or of a Ray cluster."""
    from joblib import Parallel, delayed, parallel_config

    if engine == "local":
        backend = "loky"
    elif engine == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError:
            raise ImportError("the ray engine needs Ray: pip install 'minirl[cluster]'") from None
        register_ray()
        backend = "ray"
    else:
        raise ValueError(f'engine must be "local" or "ray", got {engine!r}')
    tasks = [delayed(one_run)(module, *item) for item in todo]
    with parallel_config(backend=backend, n_jobs=jobs):
        if engine == "local":
            yield from Parallel(return_as="generator_unordered")(tasks)
        else:  # Ray's backend hands nothing over before its list is complete: short lists, so that an interrupt loses little
            for i in range(0, len(tasks), jobs):
                yield from Parallel()(tasks[i : i + jobs])


def reproduce(
    module: ModuleType,
    slug: str,
    seeds: int = 5,
    jobs: int = 2,
    engine: str = "local",
    only: str | None = None,
    results: Path = RESULTS,
    unfinished: Path = UNFINISHED,
    progress: Callable[..., Any] | None = None,
) -> dict:
    """Run every (arm, seed) of the plan and write `<results>/<slug>.json`; returns what was written.

    Runs already finished with the same sources are not repeated. `only` runs just the arms whose name contains it
    and writes no results file (for trying things out). `progress` wraps the iterator of runs, as tqdm does.
    """
    start = time.perf_counter()
    sources = hashes(module.SOURCES)
    folder = unfinished / slug / hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    plan = [item for item in module.plan(seeds) if only is None or only in item[0]]

    def place(arm: str, seed: int) -> Path:
        return folder / f"{hashlib.sha256(arm.encode()).hexdigest()[:12]}-{seed}.json"

    todo = [item for item in plan if not place(*item).exists()]
    finished = parallel(module.__name__, todo, jobs, engine)
    for run in finished if progress is None else progress(finished, total=len(plan), initial=len(plan) - len(todo)):
        partial = place(run["arm"], run["seed"]).with_suffix(".tmp")
        partial.write_text(json.dumps(run))
        partial.rename(place(run["arm"], run["seed"]))  # a run is there whole or not at all

    runs = [json.loads(place(*item).read_text()) for item in plan]
    claims = json.loads(json.dumps(module.claims(runs))) if only is None else []
    record = {
        "schema": SCHEMA,
        "slug": slug,
        "command": f"minirl reproduce {slug} --seeds {seeds} --jobs {jobs} --engine {engine}",
        "engine": engine,
        "jobs": jobs,
        "wall_s": round(time.perf_counter() - start, 1),
        "versions": {
            name: importlib.metadata.version(name) for name in ("minirl", "torch", "numpy", "gymnasium", "scipy")
        },
        "sources": sources,
        "claims": claims,
        "checksum": checksum(runs),
        "runs": runs,
    }
    if only is None:
        results.mkdir(parents=True, exist_ok=True)
        (results / f"{slug}.json").write_text(json.dumps(record, indent=1) + "\n")
    return record


def load(slug: str, results: Path = RESULTS) -> dict:
    """The stored results of a paper. Raises ValueError naming the file and the command that remakes it."""
    path = results / f"{slug}.json"
    remake = f"`minirl reproduce {slug}` makes it anew"
    if not path.exists():
        raise ValueError(f"there are no results at {path}: {remake}")
    try:
        record = json.loads(path.read_text())
    except ValueError:
        raise ValueError(f"{path} is not valid JSON (truncated?): {remake}") from None
    if (
        not isinstance(record, dict)
        or record.get("schema") != SCHEMA
        or set(record) != FIELDS
        or record["slug"] != slug
    ):
        raise ValueError(f"{path} does not follow the schema of results files: {remake}")
    if record["checksum"] != checksum(record["runs"]):
        raise ValueError(f"{path} was altered: its runs do not match their checksum; {remake}")
    return record


def stale(slug: str, results: Path = RESULTS) -> list[str]:
    """The source files that changed since the results were made; empty when they are current."""
    then = load(slug, results)["sources"]
    now = hashes([path for path in then if (ROOT / path).exists()])
    return sorted(path for path in then if now.get(path) != then[path])


# ------------------------------------------------------------------------- what experiments use to phrase their claims


def metric(runs: list[dict], arm: str, name: str) -> np.ndarray:
    """One metric of one arm, ordered by seed. Raises KeyError when the arm was not run."""
    values = [run["metrics"][name] for run in sorted(runs, key=lambda run: run["seed"]) if run["arm"] == arm]
    if not values:
        raise KeyError(f"no runs of arm {arm!r}")
    return np.array(values)


def interval(values: Sequence[float], statistic: Callable = np.mean) -> list[float] | None:
    """95 % percentile bootstrap interval of a statistic over seeds; None for fewer than 3 values or no spread."""
    from scipy.stats import bootstrap

    values = np.asarray(values, dtype=float)
    if len(values) < 3 or np.ptp(values) == 0:
        return None
    found = bootstrap((values,), statistic, method="percentile", n_resamples=9999, rng=np.random.default_rng(0))
    return [float(found.confidence_interval.low), float(found.confidence_interval.high)]


def claim(
    id: str,
    claim: str,
    paper: str,
    ours: str,
    verdict: bool | str,
    value: float | None = None,
    interval: list[float] | None = None,
    n: int = 0,
    comment: str = "",
) -> dict:
    """One row of the claims table; `verdict` is whether the written threshold was met, or one of VERDICTS."""
    if not isinstance(verdict, str):
        verdict = "reproduced" if verdict else "not reproduced"
    if verdict not in VERDICTS:
        raise ValueError(f"verdict must be one of {VERDICTS}, got {verdict!r}")
    if value is not None and not math.isfinite(value):
        raise ValueError(f"claim {id}: value is {value}")
    return {
        "id": id,
        "claim": claim,
        "paper": paper,
        "ours": ours,
        "value": None if value is None else float(value),
        "interval": interval,
        "n": n,
        "verdict": verdict,
        "comment": comment,
    }
