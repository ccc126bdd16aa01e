"""Speed of SAC and DSAC-T beside a peer and beside the matrix products alone: `make bench`.

All programs run in this process on one thread; `timing` says how they take turns.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from timing import alternate, report

from minirl.control import dsac_t, sac
from minirl.core.replay import ReplayBuffer

torch.set_num_threads(1)
torch.set_flush_denormal(True)

B, O, A, H = 256, 17, 6, 256  # noqa: E741 - HalfCheetah-v5 shapes, the papers' networks and batch
ENV_ID = "HalfCheetah-v5"


def products(K: int | None, sizes: tuple[int, ...]) -> dict[str, Callable[[], None]]:
    """The matrix products of a forward pass and of the two halves of a backward pass, and nothing else."""
    lead = () if K is None else (K,)
    product = torch.mm if K is None else torch.bmm
    weights = [torch.randn(*lead, i, o) for i, o in zip(sizes[:-1], sizes[1:], strict=True)]
    inputs = [torch.randn(*lead, B, i) for i in sizes[:-1]]
    grads = [torch.randn(*lead, B, o) for o in sizes[1:]]

    def forward() -> None:
        for x, w in zip(inputs, weights, strict=True):
            product(x, w)

    def to_weights() -> None:
        for x, g in zip(inputs, grads, strict=True):
            product(x.mT, g)

    def to_inputs(first: bool = False) -> None:
        for g, w in list(zip(grads, weights, strict=True))[0 if first else 1 :]:
            product(g, w.mT)

    return {"forward": forward, "to_weights": to_weights, "to_inputs": to_inputs}


def products_of_update(hidden: tuple[int, ...], critic_outputs: int) -> tuple[Callable, Callable]:
    """The products of the critics' half of an update, and of the actor's half through frozen critics."""
    actor, critic = products(None, (O, *hidden, 2 * A)), products(2, (O + A, *hidden, critic_outputs))

    def critics() -> None:
        actor["forward"](), critic["forward"]()  # a' and the target critics
        critic["forward"](), critic["to_weights"](), critic["to_inputs"]()

    def policy() -> None:
        actor["forward"](), critic["forward"](), critic["to_inputs"](first=True)  # dQ/da
        actor["to_weights"](), actor["to_inputs"]()

    return critics, policy


def transitions(n: int = 10_000) -> tuple[np.ndarray, ...]:
    """Random obs, action, reward, next_obs and terminated, enough to sample batches from."""
    rng = np.random.default_rng(0)
    shapes = ((n, O), (n, A), (n,), (n, O))
    return (*(rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes), np.zeros(n, np.float32))


def filled_buffer() -> ReplayBuffer:
    buffer = ReplayBuffer(10_000, O, A)
    buffer.add(*transitions())
    return buffer


def sac_updates(rounds: int, seconds: float) -> None:
    agent, buffer = sac.SAC(sac.Config(env_id=ENV_ID)), filled_buffer()
    critics, policy = products_of_update((H, H), 1)
    programs = {
        "minirl SAC": lambda: agent.update(buffer.sample(B, agent.replay)),
        "matrix products of SAC": lambda: (critics(), policy()),
    }
    ratios = [("minirl SAC", "matrix products of SAC")]
    peer = stable_baselines3_sac()
    if peer is not None:
        programs["stable-baselines3 SAC"] = lambda: peer.train(1, batch_size=B)
        ratios.insert(0, ("minirl SAC", "stable-baselines3 SAC"))
    title = f"SAC, gradient updates, {ENV_ID} shapes, {H}x{H}, batch {B}, one thread"
    report(title, alternate(programs, rounds, seconds), "updates/s", ratios)


def dsac_t_updates(rounds: int, seconds: float) -> None:
    """Pairs of updates, since the actor moves in every second one only."""
    agent, buffer = dsac_t.DSACT(dsac_t.Config(env_id=ENV_ID, hidden=(H, H))), filled_buffer()
    critics, policy = products_of_update((H, H), 2)
    programs = {
        "minirl DSAC-T": lambda: [agent.update(buffer.sample(B, agent.replay)) for _ in range(2)],
        "matrix products of DSAC-T": lambda: (critics(), critics(), policy()),
    }
    title = f"DSAC-T, pairs of gradient updates, {ENV_ID} shapes, {H}x{H}, batch {B}, one thread"
    ratios = [("minirl DSAC-T", "matrix products of DSAC-T")]
    report(title, alternate(programs, rounds, seconds), "pairs/s", ratios)


def acting(rounds: int, seconds: float) -> None:
    """Environment steps per second that the actor alone allows, for N observations at a time."""
    agents = {"minirl SAC": sac.SAC(sac.Config(env_id=ENV_ID)).act}
    agents["minirl DSAC-T"] = dsac_t.DSACT(dsac_t.Config(env_id=ENV_ID, hidden=(H, H))).act
    peer = stable_baselines3_sac()
    if peer is not None:
        agents["stable-baselines3 SAC"] = peer.predict
    for n in (1, 16):
        obs = transitions(n)[0]
        rates = alternate({name: partial(act, obs) for name, act in agents.items()}, rounds, seconds)
        steps = {name: [n * rate for rate in values] for name, values in rates.items()}
        ratios = [("minirl SAC", "stable-baselines3 SAC")] if peer is not None else []
        report(f"Acting, N = {n}, {H}x{H}, one thread", steps, "steps/s", ratios)


@cache
def stable_baselines3_sac():
    """The peer, its buffer filled with the same transitions; None when it is not installed."""
    try:
        import stable_baselines3 as sb3
    except ImportError:
        print("stable-baselines3 is not installed: pip install 'minirl[peers]' to compare with it")
        return None
    policy = {"net_arch": [H, H]}
    model = sb3.SAC("MlpPolicy", ENV_ID, batch_size=B, policy_kwargs=policy, buffer_size=10_000, device="cpu")
    model._logger = sb3.common.logger.configure(format_strings=[])
    for obs, action, reward, next_obs, _ in zip(*transitions(), strict=True):
        model.replay_buffer.add(obs[None], next_obs[None], action[None], reward[None], [False], [{}])
    return model


if __name__ == "__main__":
    sac_updates(rounds=7, seconds=2.0)
    dsac_t_updates(rounds=5, seconds=2.0)
    acting(rounds=5, seconds=0.5)
