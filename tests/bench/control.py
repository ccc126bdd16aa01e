"""Speed of SAC (and DSAC-T) beside a peer and beside the matrix products alone: `make bench`.

All programs run in this process on one thread, in alternation, so that a slow moment of the machine hits all alike.
Figures are medians over rounds; ratios are medians of the per-round ratios.
"""

import statistics
import time
from collections.abc import Callable

import torch

torch.set_num_threads(1)
torch.set_flush_denormal(True)

B, O, A, H = 256, 17, 6, 256  # noqa: E741 - HalfCheetah-v5 shapes, the papers' networks and batch
ENV_ID = "HalfCheetah-v5"


def per_second(work: Callable[[], object], seconds: float) -> float:
    """Calls per second of `work`, measured for about `seconds`."""
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        work()
        calls += 1
    return calls / elapsed


def alternate(programs: dict[str, Callable[[], object]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Rates of every program, one measurement a round, the programs taking turns."""
    for work in programs.values():
        per_second(work, seconds / 2)
    rates: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, work in programs.items():
            rates[name].append(per_second(work, seconds))
    return rates


def report(title: str, rates: dict[str, list[float]], unit: str, ratios: list[tuple[str, str]]) -> None:
    print(f"\n{title}")
    for name, values in rates.items():
        print(f"  {name:<34} {statistics.median(values):10.1f} {unit}   (from {min(values):.1f} to {max(values):.1f})")
    for over, under in ratios:
        ratio = statistics.median(a / b for a, b in zip(rates[over], rates[under], strict=True))
        print(f"  {over} / {under}: {ratio:.2f}")


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


def floor(hidden: tuple[int, ...], critic_outputs: int) -> Callable[[], None]:
    """The products of one update: targets, critics, actor through frozen critics."""
    actor, critic = products(None, (O, *hidden, 2 * A)), products(2, (O + A, *hidden, critic_outputs))

    def work() -> None:
        actor["forward"](), critic["forward"]()  # a' and the target critics
        critic["forward"](), critic["to_weights"](), critic["to_inputs"]()
        actor["forward"](), critic["forward"](), critic["to_inputs"](first=True)  # dQ/da
        actor["to_weights"](), actor["to_inputs"]()

    return work


def sac_updates(rounds: int, seconds: float) -> None:
    from minirl.control.sac import SAC, Config
    from minirl.core.replay import ReplayBuffer

    agent = SAC(Config(env_id=ENV_ID))
    buffer = ReplayBuffer(10_000, O, A)
    obs, action = torch.randn(10_000, O).numpy(), torch.rand(10_000, A).numpy() * 2 - 1
    reward, ended = torch.randn(10_000).numpy(), torch.zeros(10_000).numpy()
    buffer.add(obs, action, reward, obs, ended)
    programs = {
        "minirl SAC": lambda: agent.update(buffer.sample(B, agent.replay)),
        "matrix products of SAC": floor((H, H), 1),
    }
    ratios = [("minirl SAC", "matrix products of SAC")]
    peer = stable_baselines3_sac(obs, action, reward)
    if peer is not None:
        programs["stable-baselines3 SAC"] = peer
        ratios.insert(0, ("minirl SAC", "stable-baselines3 SAC"))
    report(
        f"SAC, gradient updates, {ENV_ID} shapes, {H}x{H}, batch {B}, one thread",
        alternate(programs, rounds, seconds),
        "updates/s",
        ratios,
    )


def stable_baselines3_sac(obs, action, reward) -> Callable[[], object] | None:
    """One `train` step of the peer on a buffer with the same contents, or None when it is not installed."""
    try:
        import stable_baselines3 as sb3
    except ImportError:
        print("stable-baselines3 is not installed: pip install 'minirl[peers]' to compare with it")
        return None
    model = sb3.SAC(
        "MlpPolicy", ENV_ID, batch_size=B, policy_kwargs={"net_arch": [H, H]}, buffer_size=10_000, device="cpu"
    )
    model._logger = sb3.common.logger.configure(format_strings=[])
    for o, a, r in zip(obs, action, reward, strict=True):
        model.replay_buffer.add(o[None], o[None], a[None], r[None], [False], [{}])
    return lambda: model.train(1, batch_size=B)


if __name__ == "__main__":
    sac_updates(rounds=7, seconds=2.0)
