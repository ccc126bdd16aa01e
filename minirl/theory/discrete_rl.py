"""PPO and DQN for finite MDPs: the deep-RL witnesses of the theory chapters.

Schulman, Wolski, Dhariwal, Radford, Klimov: "Proximal Policy Optimization Algorithms", 2017, arXiv:1707.06347.
Mnih et al.: "Human-level control through deep reinforcement learning", 2015, Nature 518.

Both play N copies of a `FiniteMDP` and see only the number of the state, which goes into a perceptron with two hidden
layers of 64 units as a one-hot vector. Both report the exact return J of their greedy policy, by backward induction.

Differs from the papers:
1. A linear layer applied to a one-hot vector picks one row of its weights, so the first layer is a row lookup.
2. While a network is frozen it is a table over the S states: PPO reads its policy and values off such a table while it
   collects, DQN the values of its target network. The numbers are those of the network.
3. Settings scaled from millions of steps to tens of thousands (Config). Huber loss instead of clipped TD errors.
4. The horizon truncates and does not terminate: the networks cannot see the time, so a state near the end looks like the
   same state at the start, and a zero behind the last step would teach it a mixture of both. Targets bootstrap there,
   with gamma < 1. J is the undiscounted return of the T steps all the same.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding, smooth_l1_loss

from minirl.core.nets import MLP
from minirl.core.seeding import torch_generator
from minirl.core.tabular import FiniteMDP, check_gamma, expected_return

# Shapes: S states, A actions, B batch, T steps collected, N parallel copies.


@dataclass(frozen=True)
class PPOConfig:
    n_steps: int = 128  # T, steps a copy between updates (authors of the effective horizon: best of 128 and 1 280)
    copies: int = 8  # N
    epochs: int = 4  # passes over the N * T steps
    batch_size: int = 256  # steps a gradient step
    lr: float = 5e-3  # Adam step size (there 2.5e-4, with a hundred times more steps)
    gamma: float = 0.99  # discount, in [0, 1)
    gae_lambda: float = 0.95  # mixing of advantage estimates, in [0, 1]
    clip: float = 0.1  # bound of |ratio - 1|
    entropy: float = 0.01  # weight of the entropy bonus
    value: float = 0.5  # weight of the value loss
    max_grad_norm: float = 0.5  # bound of the gradient norm
    hidden: tuple[int, ...] = (64, 64)
    eval_every: int = 500  # steps between exact evaluations, rounded up to whole iterations
    seed: int = 0

    def __post_init__(self):
        check_counts(self, "n_steps", "copies", "epochs", "batch_size", "eval_every")
        check_gamma(self.gamma)


@dataclass(frozen=True)
class DQNConfig:
    exploration_fraction: float = (
        0.1  # part of the run over which epsilon falls from 1 to 0.05 (there: best of 0.1 and 1)
    )
    copies: int = 8  # N; one gradient step for each step of all copies (there one of 32 for every four steps)
    batch_size: int = 64
    lr: float = 1e-3  # Adam step size (there 1e-4)
    gamma: float = 0.99  # discount, in [0, 1)
    buffer: int = 100_000  # transitions kept
    warmup: int = 500  # steps before the first gradient step
    target_every: int = 400  # steps between copies of the network into the target (there 1 000)
    final_epsilon: float = 0.05
    hidden: tuple[int, ...] = (64, 64)
    eval_every: int = 500  # steps between exact evaluations
    seed: int = 0

    def __post_init__(self):
        check_counts(self, "copies", "batch_size", "buffer", "target_every", "eval_every")
        check_gamma(self.gamma)
        if not 0 < self.exploration_fraction <= 1:
            raise ValueError(f"exploration_fraction must lie in (0, 1], got {self.exploration_fraction}")


def check_counts(config, *names: str) -> None:
    """Raise ValueError that names the first of these fields that is no whole number of at least 1."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value}")


class StateMLP(MLP):
    """A perceptron of one-hot states: forward (B,) of state numbers -> (B, out), without the one-hot vectors."""

    def forward(self, state: Tensor) -> Tensor:
        (weight, bias), *others = zip(self.weights, self.biases, strict=True)
        x = embedding(state, weight) + bias
        for weight, bias in others:
            x = torch.addmm(bias, self.activation(x), weight)
        return x


def greedy_return(mdp: FiniteMDP, preference: np.ndarray) -> float:
    """Exact J of the policy that takes argmax over actions of preference (S, A) at every step."""
    return expected_return(mdp, np.eye(mdp.A)[preference.argmax(axis=1)])


def steps_to(logs: Iterable[dict], target: float) -> float:
    """Steps after which a learner's exact return first reaches `target`; infinity when the logs end before."""
    return next((float(log["step"]) for log in logs if log["return"] >= target - 1e-9), np.inf)


def advance(
    mdp: FiniteMDP, state: np.ndarray, age: np.ndarray, action: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """One step of N copies that restart when their episode ends; all arrays (N,).

    Returns reward, true successor, terminated, ended (terminated, or truncated at the horizon), state and age to go on from.
    """
    reward, successor, terminated = mdp.step(state, action, rng)
    age = age + 1
    ended = terminated | (age >= mdp.horizon)
    state = successor
    if ended.any():
        state, age = successor.copy(), np.where(ended, 0, age)
        state[ended] = mdp.reset(int(ended.sum()), rng)
    return reward, successor, terminated, ended, state, age


# ---------------------------------------------------------------------------------------------------------------- PPO


def gae(
    reward: np.ndarray,
    value: np.ndarray,
    next_value: np.ndarray,
    terminated: np.ndarray,
    ended: np.ndarray,
    gamma: float,
    lam: float,
) -> np.ndarray:
    """Generalised advantage estimates (T, N) from arrays (T, N); next_value is V of the true successor.

    A_t = delta_t + gamma lam A_{t+1} inside an episode, delta_t = r_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t).
    """
    delta = reward + gamma * np.where(terminated, 0.0, next_value) - value
    advantage = np.zeros_like(delta)
    running = np.zeros(delta.shape[1])
    for t in reversed(range(len(delta))):
        running = delta[t] + gamma * lam * np.where(ended[t], 0.0, running)
        advantage[t] = running
    return advantage


def ppo_loss(
    logits: Tensor, action: Tensor, logp_old: Tensor, advantage: Tensor, clip: float, entropy: float
) -> Tensor:
    """-E[min(ratio A, clip(ratio) A)] - entropy * H; logits (B, A), the others (B,)."""
    logp = torch.log_softmax(logits, dim=1)
    ratio = torch.exp(logp.gather(1, action[:, None])[:, 0] - logp_old)
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return -gain.mean() + entropy * (logp.exp() * logp).sum(1).mean()


def ppo(mdp: FiniteMDP, steps: int, config: PPOConfig | None = None) -> Iterator[dict]:
    """PPO for about `steps` steps; yields {"step", "progress", "return"}, the exact J of the greedy policy."""
    c = config or PPOConfig()
    init, shuffle, rng = torch_generator(c.seed, 0), torch_generator(c.seed, 1), np.random.default_rng([c.seed, 2])
    actor, critic = StateMLP((mdp.S, *c.hidden, mdp.A), init), StateMLP((mdp.S, *c.hidden, 1), init)
    with torch.no_grad():
        actor.weights[-1].mul_(0.01)  # start from nearly uniform actions
    parameters = [*actor.parameters(), *critic.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=c.lr, fused=True)
    every_state = torch.arange(mdp.S)
    state, age = mdp.reset(c.copies, rng), np.zeros(c.copies, dtype=int)
    step, next_eval = 0, 0
    while True:
        with torch.no_grad():
            logp = torch.log_softmax(actor(every_state), dim=1).numpy()
            V = critic(every_state)[:, 0].numpy()
        if step >= next_eval or step >= steps:
            yield {"step": step, "progress": min(step / steps, 1.0), "return": greedy_return(mdp, logp)}
            next_eval = step + c.eval_every
        if step >= steps:
            return
        cumulative = np.cumsum(np.exp(logp), axis=1)
        cumulative[:, -1] = 1.0
        rows = []
        for _ in range(c.n_steps):
            action = (rng.random(c.copies)[:, None] > cumulative[state]).sum(1)
            reward, successor, terminated, ended, following, age = advance(mdp, state, age, action, rng)
            rows.append((state, action, reward, successor, terminated, ended))
            state = following
        step += c.n_steps * c.copies
        s, a, r, successor, terminated, ended = (np.stack(column) for column in zip(*rows, strict=True))
        advantage = gae(r, V[s], V[successor], terminated, ended, c.gamma, c.gae_lambda)
        data = (s, a, logp[s, a], advantage, advantage + V[s])
        s, a, logp_old, advantage, target = (torch.from_numpy(x.reshape(-1)) for x in data)
        logp_old, advantage, target = logp_old.float(), advantage.float(), target.float()
        for _ in range(c.epochs):
            for i in torch.randperm(len(s), generator=shuffle).split(c.batch_size):
                scaled = (advantage[i] - advantage[i].mean()) / (advantage[i].std() + 1e-8)
                loss = ppo_loss(actor(s[i]), a[i], logp_old[i], scaled, c.clip, c.entropy)
                loss = loss + c.value * (critic(s[i])[:, 0] - target[i]).square().mean()
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, c.max_grad_norm)
                optimiser.step()


# ---------------------------------------------------------------------------------------------------------------- DQN


def td_target(reward: Tensor, terminated: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """r + gamma (1 - terminated) max_a Q_target(s', a), all (B,)."""
    return reward + gamma * torch.where(terminated, 0.0, next_value)


def epsilon(step: int, steps: int, config: DQNConfig) -> float:
    """Probability of a random action: falls linearly from 1 to the final value over the exploration fraction."""
    part = min(step / (config.exploration_fraction * steps), 1.0)
    return 1 + part * (config.final_epsilon - 1)


def dqn(mdp: FiniteMDP, steps: int, config: DQNConfig | None = None) -> Iterator[dict]:
    """DQN for about `steps` steps; yields {"step", "progress", "return"}, the exact J of the greedy policy."""
    c = config or DQNConfig()
    init, replay, rng = torch_generator(c.seed, 0), torch_generator(c.seed, 1), np.random.default_rng([c.seed, 2])
    network = StateMLP((mdp.S, *c.hidden, mdp.A), init)
    optimiser = torch.optim.Adam(network.parameters(), lr=c.lr, fused=True)
    size = c.copies * -(-min(c.buffer, steps) // c.copies)
    numbers = torch.zeros((size, 3), dtype=torch.long)  # state, action, successor
    reward_of, terminated_of = torch.zeros(size), torch.zeros(size, dtype=torch.bool)
    every_state = torch.arange(mdp.S)
    state, age = mdp.reset(c.copies, rng), np.zeros(c.copies, dtype=int)
    for step in itertools.count(0, c.copies):
        if step % c.target_every < c.copies:
            with torch.no_grad():
                V_target = network(every_state).amax(1)
        if step % c.eval_every < c.copies or step >= steps:
            with torch.no_grad():
                J = greedy_return(mdp, network(every_state).numpy())
            yield {"step": step, "progress": min(step / steps, 1.0), "return": J}
            if step >= steps:
                return
        with torch.no_grad():
            action = network(torch.from_numpy(state)).argmax(1).numpy()
        explore = rng.random(c.copies) < epsilon(step, steps, c)
        action = np.where(explore, rng.integers(mdp.A, size=c.copies), action)
        reward, successor, terminated, _, following, age = advance(mdp, state, age, action, rng)
        place = slice(step % size, step % size + c.copies)
        numbers[place] = torch.from_numpy(np.stack([state, action, successor], axis=1))
        reward_of[place] = torch.from_numpy(reward)
        terminated_of[place] = torch.from_numpy(terminated)
        state = following
        if step >= c.warmup:
            i = torch.randint(min(step + c.copies, size), (c.batch_size,), generator=replay)
            s, a, s2 = numbers[i].T
            target = td_target(reward_of[i], terminated_of[i], V_target[s2], c.gamma)
            loss = smooth_l1_loss(network(s).gather(1, a[:, None])[:, 0], target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
