"""Families of finite MDPs: chains, grids, gymnasium's tables, MiniGrid layouts, and sticky actions on top of any of them.

Every function gives a `minirl.core.tabular.FiniteMDP`. Terminal states (goal, trap, hole) are absorbing and pay nothing.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import gymnasium as gym
import numpy as np
from scipy import sparse

from minirl.core.tabular import FiniteMDP

MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up as (row, column), in the order of FrozenLake


def bait_chain(length: int, actions: int, bait: float) -> FiniteMDP:
    """A chain on which only action 0 ("forward") survives; `length` of them in a row pay 1, giving up at once pays `bait`.

    States 0 ... L - 1, the terminal state L, horizon L. Any action but 0 ends the episode: in state 0 it pays the bait, later
    nothing. A random player survives a step with probability 1/A, so Q^k_1(0, forward) = A^-(L - k): k - 1 steps of
    look-ahead take k - 1 factors 1/A away, and the smallest k that prefers 1 to the bait is min{k: A^-(L - k) > bait}.
    """
    if length < 1 or actions < 2 or not 0 <= bait < 1:
        raise ValueError(f"need length >= 1, actions >= 2, bait in [0, 1); got {length}, {actions}, {bait}")
    P = np.zeros((length + 1, actions, length + 1))
    R = np.zeros((length + 1, actions))
    P[:, :, length] = 1
    P[:length, 0] = np.eye(length, length + 1, 1)
    R[0, 1:] = bait
    R[length - 1, 0] = 1
    return FiniteMDP(P, R, 0, length, f"chain L={length} A={actions} b={bait:g}")


def grid_world(
    size: int = 4,
    horizon: int = 12,
    traps: Sequence[tuple[int, int]] = (),
    trap_reward: float = 0.0,
    walls: Sequence[tuple[int, int]] = (),
    shaping: float = 0.0,
    slip: float = 0.0,
) -> FiniteMDP:
    """A size x size grid from the upper left to the lower right cell, which pays 1. State = row * size + column.

    Actions left, down, right, up; a move into a wall or over the edge stays. With probability `slip` the move is one
    of the two at right angles. Traps, goal and walls are given as (row, column); a trap pays `trap_reward` and ends
    the episode. `shaping`: paid for every step by which the Manhattan distance to the goal falls, taken back when it
    rises, and kept at the end: the total is shaping * (first distance - last distance), so it is another task.
    """
    for cell in (*traps, *walls):
        if not (0 <= cell[0] < size and 0 <= cell[1] < size) or tuple(cell) in ((0, 0), (size - 1, size - 1)):
            raise ValueError(f"{cell} is no inner cell of a {size} x {size} grid, or it is the start or the goal")
    if not 0 <= slip <= 1:
        raise ValueError(f"slip must lie in [0, 1], got {slip}")
    S, goal, walls, traps = size * size, (size - 1, size - 1), set(map(tuple, walls)), set(map(tuple, traps))
    P, R = np.zeros((S, 4, S)), np.zeros((S, 4))
    for s in range(S):
        cell = divmod(s, size)
        for a in range(4):
            if cell == goal or cell in traps:
                P[s, a, s] = 1
                continue
            for move, probability in ((a, 1 - slip), (a - 1, slip / 2), ((a + 1) % 4, slip / 2)):
                r, c = cell[0] + MOVES[move][0], cell[1] + MOVES[move][1]
                if not (0 <= r < size and 0 <= c < size) or (r, c) in walls:
                    r, c = cell
                P[s, a, r * size + c] += probability
                R[s, a] += probability * ((r, c) == goal or trap_reward * ((r, c) in traps))
    distance = np.array([2 * (size - 1) - sum(divmod(s, size)) for s in range(S)])
    parts = [f"grid {size}x{size}"] + [f"trap {trap_reward:g}"] * bool(traps) + ["walls"] * bool(walls)
    parts += [f"slip {slip:g}"] * bool(slip) + ["shaped"] * bool(shaping)
    mdp = FiniteMDP(P, R, 0, horizon, " ".join(parts))
    return pay_progress(mdp, distance, shaping)


def pay_progress(mdp: FiniteMDP, distance: np.ndarray, amount: float) -> FiniteMDP:
    """The MDP that also pays amount * (distance[s] - expected distance[s']) for each step; distance (S,)."""
    gain = np.repeat(distance, mdp.A) - mdp.P @ distance
    return replace(mdp, R=mdp.R + amount * gain.reshape(mdp.R.shape)) if amount else mdp


def from_gymnasium(env_id: str, horizon: int, **kwargs) -> FiniteMDP:
    """A gymnasium environment that carries its table `P[s][a] = [(probability, s', reward, done), ...]`.

    FrozenLake and CliffWalking do; `kwargs` go to `gymnasium.make`. States that end an episode become absorbing
    without reward (CliffWalking's table lets the player walk on from the goal). Raises ValueError without such a table, or
    when a state sometimes ends an episode and sometimes not: that is no property of a state.
    """
    env = gym.make(env_id, **kwargs).unwrapped
    if not hasattr(env, "P") or not hasattr(env, "initial_state_distrib"):
        raise ValueError(f"{env_id} has no table of transitions (env.unwrapped.P); FrozenLake-v1 has one")
    S, A = len(env.P), len(env.P[0])
    rows = [(s, a, *entry) for s in range(S) for a in range(A) for entry in env.P[s][a]]
    s, a, probability, target, reward, done = (np.array(column) for column in zip(*rows, strict=True))
    done = done.astype(bool)
    ends = np.isin(np.arange(S), target[done & (probability > 0)])
    live = ~ends[s]
    mixed = np.intersect1d(target[live & done], target[live & ~done & (probability > 0)])
    if len(mixed):
        raise ValueError(f"{env_id}: state {mixed[0]} ends an episode after some transitions and not after others")
    s, a, probability, target, reward = (column[live] for column in (s, a, probability, target, reward))
    R = np.zeros((S, A))
    np.add.at(R, (s, a), probability * reward)
    stays = np.flatnonzero(np.repeat(ends, A))
    row = np.concatenate([s * A + a, stays])
    P = sparse.csr_array(
        (np.concatenate([probability, np.ones(len(stays))]), (row, np.concatenate([target, stays // A]))), (S * A, S)
    )
    return FiniteMDP(P, R, env.initial_state_distrib, horizon, env_id)


# ----------------------------------------------------------------------------------------------------------- MiniGrid


def make_minigrid(env_id: str, seed: int = 0):
    """The MiniGrid environment itself, with the layout of this seed, rewards of 1 whatever the time, and no observations.

    Raises ImportError with the command that installs the package, ValueError for an id that is not MiniGrid's.
    """
    try:
        import minigrid  # noqa: F401  registers the environments
    except ImportError:
        raise ImportError("MiniGrid layouts need the minigrid package: pip install minigrid") from None
    if not env_id.startswith("MiniGrid-"):
        raise ValueError(f"env_id must begin with MiniGrid-, got {env_id!r}")
    env = gym.make(env_id).unwrapped
    env.reset(seed=seed)
    env._reward = lambda: 1.0
    env.gen_obs = lambda: {}  # rendering what the agent sees costs ten times more than the step itself
    return env


def enumerate_minigrid(
    env_id: str,
    horizon: int | None = None,
    seed: int = 0,
    shaping: float = 0.0,
    actions: Sequence[str] | None = None,
    max_states: int = 300_000,
) -> FiniteMDP:
    """Every state of a MiniGrid layout that can be reached, by breadth-first search with the environment's own step.

    A state is where the agent stands, where it looks, what it carries, and what lies in every cell, doors included. State 0
    is the start; the layout is that of `seed`. Success pays 1 (MiniGrid's discount by elapsed time is left out: it would make
    time part of the state). `actions`: names out of left, right, forward, pickup, drop, toggle, done; by default the
    first three, pickup and toggle where the layout has something to pick up or open, drop where it has two things to
    carry (the key must go before the ball can be taken). `horizon` None takes
    MiniGrid's own limit. `shaping` as in `grid_world`, with the Manhattan distance from the agent to the goal cell, walls and
    doors ignored. Raises ValueError for layouts that move by themselves, have more than `max_states` states, cannot be
    solved with these actions, or are to be shaped and have no goal cell.
    """
    env = make_minigrid(env_id, seed)
    objects = [cell for cell in env.grid.grid if cell is not None]
    if actions is None:
        actions = ["left", "right", "forward"]
        loose = sum(o.can_pickup() for o in objects)
        actions += ["pickup"] * (loose > 0) + ["drop"] * (loose > 1)
        actions += ["toggle"] * any(o.type in ("door", "box") for o in objects)
    moves = [env.actions[name] for name in actions]
    doors = [o for o in objects if o.type == "door"]
    goals = [divmod(i, env.width)[::-1] for i, o in enumerate(env.grid.grid) if o is not None and o.type == "goal"]
    if shaping and not goals:
        raise ValueError(f"{env_id} has no goal cell, so progress towards it cannot be paid")
    contents = {}  # few different grids are shared by many states

    def state(terminated: bool) -> tuple:
        grid = tuple(env.grid.grid)
        opened = tuple((door.is_open, door.is_locked) for door in doors)
        x, y = env.agent_pos
        return int(x), int(y), int(env.agent_dir), env.carrying, contents.setdefault(grid, grid), opened, terminated

    luck = env.np_random.bit_generator.state
    index = {state(False): 0}
    queue = deque(index)
    targets, rewards = [], []  # one entry a state and action, in the order of the states
    while queue:
        here = queue.popleft()
        for move in moves:
            if here[-1]:
                targets.append(index[here])
                rewards.append(0.0)
                continue
            x, y, env.agent_dir, env.carrying, grid, opened, _ = here
            env.agent_pos, env.grid.grid, env.step_count = (x, y), list(grid), 0
            for door, (is_open, is_locked) in zip(doors, opened, strict=True):
                door.is_open, door.is_locked = is_open, is_locked
            _, reward, terminated, _, _ = env.step(move)
            there = state(bool(terminated))
            if there not in index:
                index[there] = len(index)
                queue.append(there)
            targets.append(index[there])
            rewards.append(float(reward))
        if env.np_random.bit_generator.state != luck:
            raise ValueError(f"{env_id} draws random numbers while it runs; only fixed layouts can be enumerated")
        if len(index) > max_states:
            raise ValueError(f"{env_id} has more than {max_states} states with the actions {', '.join(actions)}")
    if max(rewards) <= 0:
        raise ValueError(f"{env_id} cannot be solved with the actions {', '.join(actions)}")
    S, A = len(index), len(moves)
    P = sparse.csr_array((np.ones(S * A), (np.arange(S * A), targets)), (S * A, S))
    name = env_id.removeprefix("MiniGrid-").removesuffix("-v0") + " shaped" * bool(shaping)
    mdp = FiniteMDP(P, np.reshape(rewards, (S, A)), 0, env.max_steps if horizon is None else horizon, name)
    if not shaping:
        return mdp
    distance = [min(abs(x - gx) + abs(y - gy) for gx, gy in goals) for x, y, *_ in index]
    return pay_progress(mdp, np.array(distance), shaping)


# -------------------------------------------------------------------------------- sticky actions, other action numbers


def relabel(mdp: FiniteMDP, seed: int = 0) -> FiniteMDP:
    """The same MDP with the numbers of the actions permuted at random in every state.

    On a chain where action 0 is right everywhere, an untrained network that prefers 0 everywhere is optimal by luck.
    """
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(mdp.A), (mdp.S, 1)), axis=1)
    rows = (np.arange(mdp.S)[:, None] * mdp.A + order).reshape(-1)
    return replace(mdp, P=mdp.P[rows], R=np.take_along_axis(mdp.R, order, axis=1))


def sticky(mdp: FiniteMDP, probability: float = 0.25) -> FiniteMDP:
    """With this probability the action executed in the previous step is executed again, whatever the agent chose.

    The previous action becomes part of the state: s -> s * (A + 1) + previous, where previous = A means "none yet",
    which is how an episode starts, so the first step is never sticky. Terminal states stay terminal.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    S, A = mdp.S, mdp.A
    edges = mdp.P.tocoo()
    source, executed = divmod(edges.row, A)
    live = ~mdp.terminal[source]
    source, executed, target, weight = source[live], executed[live], edges.col[live], edges.data[live]
    target = target * (A + 1) + executed
    rows, columns, data = [], [], []
    R = np.empty((S, A + 1, A))
    for previous in range(A + 1):
        chance = probability if previous < A else 0.0
        rows.append((source * (A + 1) + previous) * A + executed)  # the chosen action is executed
        columns.append(target)
        data.append((1 - chance) * weight)
        R[:, previous] = (1 - chance) * mdp.R + (chance * mdp.R[:, [previous]] if chance else 0.0)
        again = executed == previous
        for chosen in range(A if chance else 0):
            rows.append((source[again] * (A + 1) + previous) * A + chosen)
            columns.append(target[again])
            data.append(chance * weight[again])
    stays = np.flatnonzero(np.repeat(mdp.terminal, (A + 1) * A))
    rows.append(stays)
    columns.append(stays // A)
    data.append(np.ones(len(stays)))
    entries = (np.concatenate(data), (np.concatenate(rows), np.concatenate(columns)))
    P = sparse.csr_array(entries, (S * (A + 1) * A, S * (A + 1)))
    start = np.zeros((S, A + 1))
    start[:, A] = mdp.start
    return FiniteMDP(P, R.reshape(-1, A), start.reshape(-1), mdp.horizon, f"{mdp.name} sticky {probability:g}")
