"""The reproduction engine: same numbers from every engine, resumable, and honest about damage and age."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from minirl import reproduce as rp
from minirl.papers import PAPERS

TOY = """
import os
import numpy as np
from minirl.reproduce import claim, interval, metric

SOURCES = ("minirl/__init__.py",)

def plan(seeds):
    return [(arm, seed) for arm in ("a", "b") for seed in range(seeds)]

def run(arm, seed):
    if os.environ.get("TOY_FAILS_AT") == f"{arm}{seed}":
        raise RuntimeError("stopped on purpose")
    value = float(np.random.default_rng([seed, len(arm)]).normal(2 if arm == "a" else 0))
    return {"curves": {"return": [[0, 0.0], [1, value]]}, "metrics": {"final": value}}

def claims(runs):
    a, b = metric(runs, "a", "final"), metric(runs, "b", "final")
    return [claim("C1", "a beats b", "no number", f"{a.mean():.2f} against {b.mean():.2f}", a.mean() > b.mean(), a.mean(), interval(a), len(a))]
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A small experiment that worker processes can import."""
    (tmp_path / "toy_experiment.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    sys.modules.pop("toy_experiment", None)
    import toy_experiment

    return toy_experiment


def reproduce(toy, tmp_path, **options):
    places = {"results": tmp_path / "results", "unfinished": tmp_path / "runs"}
    return rp.reproduce(toy, "sac", seeds=3, **places | options)


def numbers(record):
    return [(r["arm"], r["seed"], r["curves"], r["metrics"]) for r in record["runs"]]


def test_results_hold_every_run_and_load_again(toy, tmp_path):
    record = reproduce(toy, tmp_path)
    assert [(r["arm"], r["seed"]) for r in record["runs"]] == toy.plan(3)
    assert rp.load("sac", tmp_path / "results") == record
    for run in record["runs"]:
        expected = np.random.default_rng([run["seed"], 1]).normal(2 if run["arm"] == "a" else 0)
        assert run["metrics"]["final"] == expected
    assert record["claims"] == toy.claims(record["runs"])


def test_an_interrupted_reproduction_keeps_what_was_finished(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FAILS_AT", "b1")
    with pytest.raises(RuntimeError, match="on purpose"):
        reproduce(toy, tmp_path, jobs=1)
    kept = sorted(tmp_path.glob("runs/sac/*/*.json"))
    assert len(kept) == 4 and not (tmp_path / "results").exists()
    stamps = [f.stat().st_mtime_ns for f in kept]
    monkeypatch.delenv("TOY_FAILS_AT")
    record = reproduce(toy, tmp_path, jobs=1)
    assert len(record["runs"]) == 6
    assert [f.stat().st_mtime_ns for f in kept] == stamps  # not run again


def test_only_some_arms_write_no_results(toy, tmp_path):
    record = reproduce(toy, tmp_path, only="a")
    assert {r["arm"] for r in record["runs"]} == {"a"} and not (tmp_path / "results").exists()


@pytest.mark.slow
def test_ray_gives_the_same_numbers_as_local(toy, tmp_path, monkeypatch):
    """A reproduction on a local Ray cluster of two workers."""
    ray = pytest.importorskip("ray", reason="the ray engine is optional: pip install 'minirl[cluster]'")
    local = reproduce(toy, tmp_path / "local")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # a cluster of this machine, for this test
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        on_ray = reproduce(toy, tmp_path / "ray", engine="ray", jobs=2)
    finally:
        ray.shutdown()
    assert numbers(on_ray) == numbers(local)
    assert on_ray["claims"] == local["claims"] and on_ray["engine"] == "ray"


def test_an_unknown_engine_is_refused(toy, tmp_path):
    with pytest.raises(ValueError, match="engine"):
        reproduce(toy, tmp_path, engine="slurm")


def test_a_missing_ray_says_how_to_install_it(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.util.joblib", None)
    with pytest.raises(ImportError, match=r"minirl\[cluster\]"):
        reproduce(toy, tmp_path, engine="ray")


@pytest.mark.parametrize("damage", ["missing", "truncated", "schema", "edited"])
def test_damaged_results_are_refused_with_the_command_that_remakes_them(toy, tmp_path, damage):
    reproduce(toy, tmp_path)
    path = tmp_path / "results" / "sac.json"
    text = path.read_text()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_text(text[: len(text) // 2])
    elif damage == "schema":
        path.write_text(json.dumps({"schema": 1}))
    else:
        record = json.loads(text)
        record["runs"][0]["metrics"]["final"] += 1e-9
        path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"sac\.json.*minirl reproduce sac"):
        rp.load("sac", tmp_path / "results")


def test_a_changed_source_makes_results_stale(toy, tmp_path, monkeypatch):
    reproduce(toy, tmp_path)
    assert rp.stale("sac", tmp_path / "results") == []
    monkeypatch.setattr(rp, "hashes", lambda sources: dict.fromkeys(sources, "0" * 64))
    assert rp.stale("sac", tmp_path / "results") == ["minirl/__init__.py"]


def test_an_experiment_that_does_not_exist_is_explained():
    with pytest.raises(ValueError, match="planned"):
        rp.experiment("mdpo")


def test_interval_covers_and_declines():
    values = np.random.default_rng(0).normal(size=50)
    low, high = rp.interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50), rel=0.15)
    assert rp.interval([1.0, 2.0]) is None and rp.interval([1.0, 1.0, 1.0]) is None


READY = [p.slug for p in PAPERS if p.status == "ready"]


@pytest.mark.parametrize("slug", READY)
def test_every_stored_verdict_follows_from_the_stored_runs(slug):
    record = rp.load(slug)
    assert json.loads(json.dumps(rp.experiment(slug).claims(record["runs"]))) == record["claims"]


@pytest.mark.parametrize("slug", READY)
def test_results_are_those_of_the_code_as_it_is(slug):
    assert rp.stale(slug) == []


@pytest.mark.parametrize("slug", READY)
def test_results_hold_the_whole_plan(slug):
    record = rp.load(slug)
    seeds = int(record["command"].split("--seeds ")[1].split()[0])
    assert [(r["arm"], r["seed"]) for r in record["runs"]] == rp.experiment(slug).plan(seeds)
    assert importlib.util.find_spec(f"minirl.experiments.{slug}")
