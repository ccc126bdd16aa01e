"""The reproduction of PRDC: arms do what their names say, metrics mean what they say, thresholds decide the claims."""

import numpy as np
import pytest

from minirl.data import load
from minirl.envs import lineworld
from minirl.experiments import prdc as experiment
from minirl.offline import bc, iql, prdc, td3_bc


class Scripted:
    """An agent with a given policy and no critic."""

    def __init__(self, act):
        self.act = act

    def learn(self, steps):
        yield {"step": steps, "progress": 1.0}


def scripted(act, level="hard"):
    return experiment.run_line(lambda data: Scripted(act), level, 0, 500)


def test_metrics_of_policies_that_are_known():
    right = scripted(lambda obs: np.ones((len(obs), 1), np.float32))["metrics"]
    assert right["success"] == 1 and right["action in bands"] == 1 and right["right neighbours"] == 1
    turns = lambda obs: np.where(lineworld.in_bands(obs, lineworld.BANDS["hard"]), -1.0, 1.0)  # noqa: E731
    wrong = scripted(turns)
    assert wrong["metrics"]["success"] == pytest.approx(3 / 19)
    assert wrong["metrics"]["right neighbours"] == 0 and wrong["metrics"]["distance"] < right["distance"] < 0.5
    assert wrong["curves"]["success"] == [[500, pytest.approx(3 / 19, abs=1e-4)]]
    still = scripted(lambda obs: np.zeros((len(obs), 1), np.float32))["metrics"]
    assert still["success"] == 0 and still["distance"] > 0.7, "no recorded action is smaller than 0.8"
    assert "right neighbours" not in scripted(turns, "easy")["metrics"]


def test_arms_build_what_their_names_say():
    data = load("lineworld-hard", 100)
    built = {name: build(data) for name, build in experiment.methods(7).items()}
    assert isinstance(built["BC"], bc.BC) and isinstance(built["TD3+BC"], td3_bc.TD3BC)
    assert isinstance(built["IQL"], iql.IQL) and built["TD3"].config.constraint == "none"
    assert built["support"].config.constraint == "support"
    for beta in experiment.BETAS:
        config = built[f"PRDC beta={beta:g}"].config
        assert isinstance(config, prdc.Config) and (config.constraint, config.beta) == ("dataset", beta)
    assert {agent.config.seed for agent in built.values()} == {7}
    shared = ("hidden", "lr", "gamma", "tau", "batch_size", "alpha", "policy_delay", "target_noise")
    ours = built[experiment.BASE].config
    assert all(getattr(built["TD3+BC"].config, name) == getattr(ours, name) for name in shared), (
        "only the teacher differs"
    )
    maze = experiment.methods(0, **experiment.MAZE)
    assert maze["TD3+BC"](data).config.gamma == maze["TD3"](data).config.gamma == experiment.MAZE["gamma"]


def test_plan():
    plan = experiment.plan(5)
    assert len(plan) == len(set(plan)) == 5 * (len(experiment.ARMS) - 1) + 3 * (len(experiment.SIDE) + 1)
    with pytest.raises(ValueError, match="unknown arm"):
        experiment.run("hard SAC", 0)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["hard PRDC beta=1", "hard TD3+BC", "hard BC", "hard IQL", "stitch PRDC beta=1"])
def test_a_run_is_a_function_of_its_arguments(arm, monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 60)
    monkeypatch.setattr(experiment, "MAZE_STEPS", 20)
    assert experiment.run(arm, 100) == experiment.run(arm, 100) != experiment.run(arm, 101)


def test_values_are_those_of_the_agents_critic():
    data = load("lineworld-hard", 100)
    mean, std = data.observations.mean(0), data.observations.std(0) + 1e-3
    agent = prdc.PRDC(prdc.Config(seed=1), data)
    got = experiment.values(agent, data.observations[:50], data.actions[:50], mean, std)
    rows = agent.buffer.rows[:50]
    assert np.allclose(got, agent.critic(rows[:, :1], rows[:, 1:2])[0].detach().numpy(), atol=1e-6)
    imitator = td3_bc.TD3BC(td3_bc.Config(seed=1), data)
    assert np.allclose(
        got, experiment.values(imitator, data.observations[:50], data.actions[:50], mean, std), atol=1e-6
    )


def ideal_runs():
    """Runs in which every claim holds."""
    runs = []
    for arm, seed in experiment.plan(5):
        task, _, name = arm.partition(" ")
        good = name in ("PRDC beta=0", "PRDC beta=0.5", "PRDC beta=1", "PRDC beta=2") or (task, name) == (
            "easy",
            "TD3+BC",
        )
        metrics = {"success": 1.0 if good else 0.2, "distance": 0.05 if good else 0.4, "max q": 1.01}
        metrics["right neighbours"] = 1.0 if good else 0.0
        metrics["success"] *= arm != "trap TD3"
        metrics["mean q"] = 0.7
        runs.append({"arm": arm, "seed": seed, "curves": {}, "metrics": metrics})
    return runs


def verdicts(runs):
    return {c["id"]: c["verdict"] for c in experiment.claims(runs)}


def test_claims_of_ideal_runs():
    assert verdicts(ideal_runs()) == {**{f"C{i}": "reproduced" for i in range(1, 9)}, "C9": "cannot be shown here"}


@pytest.mark.parametrize(
    "arm, metrics, lost",
    [
        ("hard PRDC beta=1", {"success": 0.9}, "C1"),
        ("hard TD3+BC", {"success": 0.6}, "C1"),
        ("hard support", {"success": 0.7}, "C2"),
        ("hard PRDC beta=1", {"right neighbours": 0.8}, "C2"),
        ("hard PRDC beta=1", {"distance": 0.3}, "C3"),
        ("hard PRDC beta=1", {"max q": 1.2}, "C3"),
        ("hard PRDC beta=0.5", {"success": 0.5}, "C4"),
        ("hard PRDC beta=1000", {"success": 1.0}, "C4"),
        ("easy TD3+BC", {"success": 0.5}, "C6"),
        ("superhard PRDC beta=1", {"success": 0.5}, "C6"),
        ("medium TD3+BC", {"success": 1.0}, "C6"),
        ("stitch TD3+BC", {"success": 0.9}, "C7"),
        ("stitch support", {"success": 0.9}, "C7"),
        ("trap TD3", {"success": 0.1}, "C8"),
        ("trap TD3", {"mean q": 0.4}, "C8"),
        ("trap PRDC beta=1", {"success": 0.1}, "C8"),
    ],
)
def test_every_threshold_decides(arm, metrics, lost):
    """One seed is enough to lose a claim about every seed; for means all seeds are changed."""
    runs = ideal_runs()
    for r in runs:
        if r["arm"] == arm and (r["seed"] == 0 or lost in ("C4", "C6", "C7", "C8")):
            r["metrics"] = {**r["metrics"], **metrics}
    assert verdicts(runs)[lost] == "not reproduced"


def test_td3_that_never_fails_loses_its_claim():
    runs = ideal_runs()
    for r in runs:
        if r["arm"] == "hard TD3":
            r["metrics"]["success"] = 1.0
    assert verdicts(runs)["C5"] == "not reproduced"


def test_sources_exist():
    from minirl.reproduce import hashes

    assert len(hashes(experiment.SOURCES)) == len(experiment.SOURCES)
