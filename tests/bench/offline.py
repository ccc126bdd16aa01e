"""Speed of TD3+BC and PRDC beside a peer, and the price of PRDC's nearest neighbours as the data grow: `make bench`.

All programs run in this process on one thread; `timing` says how they take turns. One call is a pair of updates, since the
actor moves in every second one only, and that is where PRDC searches.
"""

import time

import numpy as np
import torch
from timing import alternate, report

from minirl.data import OfflineData
from minirl.offline import prdc, td3_bc

torch.set_num_threads(1)
torch.set_flush_denormal(True)

B, O, A, H = 256, 11, 3, 256  # noqa: E741 - Hopper-v5 shapes, the papers' networks and batch
SIZES = (10_000, 100_000, 1_000_000)
META = {"name": "bench", "env_id": "Hopper-v5", "seed": 0, "made_by": "random numbers", "recipe": "bench"}
META |= {"reference_random": 0.0, "reference_expert": 1.0}


def walks(n: int) -> OfflineData:
    """n transitions of episodes of 1,000 steps: observations wander smoothly, actions depend on them and carry noise."""
    rng = np.random.default_rng(0)
    steps = min(n, 1_000)
    path = np.empty((steps + 1, n // steps, O), np.float32)
    path[0] = rng.normal(size=path[0].shape)
    for t in range(steps):
        path[t + 1] = 0.98 * path[t] + 0.2 * rng.normal(size=path[t].shape)
    obs, next_obs = (x.swapaxes(0, 1).reshape(n, O) for x in (path[:-1], path[1:]))
    mix = rng.normal(size=(O, A)) / np.sqrt(O)
    action = np.clip(np.tanh(obs @ mix) + 0.2 * rng.normal(size=(n, A)), -1, 1).astype(np.float32)
    truncated = np.arange(1, n + 1) % steps == 0
    ids = (np.arange(n) // steps).astype(np.int32)
    reward = rng.uniform(size=n).astype(np.float32)
    return OfflineData(obs, action, reward, next_obs, np.zeros(n, bool), truncated, ids, META)


def pair_of_updates(agent):
    def work() -> None:
        for _ in range(2):
            agent.update(agent.buffer.sample(B, agent.draw))

    return work


def updates(rounds: int, seconds: float) -> None:
    data = walks(SIZES[0])
    common = {"hidden": (H, H), "lr": 3e-4, "gamma": 0.99}
    agent = td3_bc.TD3BC(td3_bc.Config(**common), data)
    programs, ratios = {"minirl TD3+BC": pair_of_updates(agent)}, []
    peer = d3rlpy_td3_bc(data)
    if peer is not None:
        programs["d3rlpy TD3+BC"] = peer
        ratios = [("minirl TD3+BC", "d3rlpy TD3+BC")]
    title = f"TD3+BC, pairs of gradient updates, Hopper-v5 shapes, {H}x{H}, batch {B}, one thread"
    report(title, alternate(programs, rounds, seconds), "pairs/s", ratios)


def neighbours(rounds: int, seconds: float) -> None:
    """PRDC against itself without the constraint, for growing data; both were trained a little, so that keys lie near data."""
    common = {"hidden": (H, H), "lr": 3e-4, "gamma": 0.99, "beta": 2.0}
    for n in SIZES:
        data = walks(n)
        start = time.perf_counter()
        ours = prdc.PRDC(prdc.Config(**common), data)
        print(f"\n{n:,} transitions: tree and buffer made in {time.perf_counter() - start:.1f} s")
        plain = prdc.PRDC(prdc.Config(constraint="none", **common), data)
        for _ in range(100):
            pair_of_updates(ours)()
        programs = {"PRDC": pair_of_updates(ours), "PRDC, no constraint": pair_of_updates(plain)}
        title = f"PRDC with {n:,} transitions, pairs of gradient updates, {O} + {A} dimensions, one thread"
        report(title, alternate(programs, rounds, seconds), "pairs/s", [("PRDC", "PRDC, no constraint")])


def d3rlpy_td3_bc(data: OfflineData):
    """The peer on the same transitions, without its scaling of observations, which ours does beforehand; None when it is absent."""
    try:
        import d3rlpy
    except ImportError:
        print("d3rlpy is not installed: pip install --no-deps d3rlpy (it pins an older gymnasium) to compare with it")
        return None
    dataset = d3rlpy.dataset.MDPDataset(
        data.observations, data.actions, data.rewards, data.terminations, timeouts=data.truncations
    )
    encoder = d3rlpy.models.VectorEncoderFactory([H, H])
    config = d3rlpy.algos.TD3PlusBCConfig(batch_size=B, actor_encoder_factory=encoder, critic_encoder_factory=encoder)
    algo = config.create(device="cpu:0" if torch.cuda.is_available() else "cpu")
    algo.build_with_dataset(dataset)

    def work() -> None:
        for _ in range(2):
            algo.update(dataset.sample_transition_batch(B))

    return work


if __name__ == "__main__":
    updates(rounds=7, seconds=2.0)
    neighbours(rounds=5, seconds=2.0)
