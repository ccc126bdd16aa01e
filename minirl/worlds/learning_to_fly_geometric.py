"""The classical rival: a geometric controller with the exact mixer, and the tracking task on which both are measured.

After Lee, Leok, McClamroch, "Geometric tracking control of a quadrotor UAV on SE(3)", 2010, arXiv:1003.2005, and Mellinger and
Kumar, "Minimum snap trajectory generation and control for quadrotors", 2011: a position loop asks for a force, an attitude
loop turns the drone so that its thrust points there, the mixer is inverted exactly. It reads the simulator's state without
noise, which is more than the learned policy has.

Rotor speeds follow commands with a lag. With `lead` = 1 the set-points are the speeds wanted; with `lead` > 1 they overshoot,
n + lead (wanted - n), and the motor behaves like one that is `lead` times as fast, as long as set-points stay within limits.
"""

from dataclasses import dataclass

import numpy as np

from minirl.envs.quadrotor import M, P, Params, Q, Quadrotor, V, W, mixer, seen, to_action, to_rpm


@dataclass(frozen=True)
class Gains:
    """Position in 1/s^2 and 1/s, attitude in 1/s^2 and 1/s; `lead` has no unit. Piloted on starts of seed 100."""

    position: float = 10.0
    velocity: float = 5.0
    attitude: float = 150.0
    rate: float = 24.0
    lead: float = 4.0


def geometric(
    x: np.ndarray, target: np.ndarray, params: Params | None = None, gains: Gains | None = None
) -> np.ndarray:
    """Actions (N, 4) for states x (23, N) and a target (9,) or (9, N): position, velocity and acceleration. Yaw is held at 0.

    Force wanted: F = m (k_p e_p + k_v e_v + a + g e_z). Attitude wanted: z along F, x as far ahead as possible. Attitude error
    e_R = (R_d^T R - R^T R_d)^vee / 2, torque tau = J (-k_R e_R - k_w w) + w x J w.
    """
    params, gains = params or Params(), gains or Gains()
    target = np.asarray(target).reshape(9, -1)
    R = np.moveaxis(seen(x)[3:12].reshape(3, 3, -1), -1, 0)  # (N, 3, 3)
    ask = gains.position * (target[:3] - x[P]) + gains.velocity * (target[3:6] - x[V]) + target[6:9]
    force = params.mass * (ask + np.array([[0], [0], [params.gravity]]))
    force[2] = np.maximum(force[2], 0.2 * params.mass * params.gravity)  # never ask it to fall faster, or to turn over
    thrust = np.einsum("in,ni->n", force, R[:, :, 2])
    z = (force / np.linalg.norm(force, axis=0)).T
    y = np.cross(z, [1.0, 0, 0])
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    wanted = np.stack([np.cross(y, z), y, z], axis=2)
    E = np.swapaxes(wanted, 1, 2) @ R
    E = (E - np.swapaxes(E, 1, 2)) / 2
    error = np.stack([E[:, 2, 1], E[:, 0, 2], E[:, 1, 0]])
    J = np.array(params.inertia)[:, None]
    torque = J * (-gains.attitude * error - gains.rate * x[W]) + np.cross(x[W], J * x[W], axis=0)
    thrusts = np.linalg.solve(mixer(params), np.concatenate([thrust[None], torque]))
    split = thrusts - thrusts.mean(axis=0)  # torque before thrust, where the rotors cannot give both
    room = params.k_f * params.rpm_max**2 - split.max(axis=0)
    thrusts = split + np.minimum(np.maximum(thrusts.mean(axis=0), -split.min(axis=0)), room)
    rpm = np.sqrt(thrusts.clip(0) / params.k_f)
    return to_action(x[M] + gains.lead * (rpm - x[M]), params).clip(-1, 1).T


def hover(episodes: int, gains: Gains | None = None, seed: int = 12_345, **env) -> dict[str, float]:
    """The controller on the starts of `learning_to_fly.evaluate`: mean "length", "return", and share "crashed"."""
    envs = Quadrotor(episodes, copy=False, **env)
    envs.reset(seed=seed)
    length, total, alive, crashed = (
        np.zeros(episodes),
        np.zeros(episodes),
        np.ones(episodes, bool),
        np.zeros(episodes, bool),
    )
    for _ in range(envs.horizon):
        action = geometric(envs.x.astype(np.float64), np.zeros(9), envs.params, gains)
        _, reward, terminated, truncated, _ = envs.step(action)
        length += alive
        total += alive * reward
        crashed |= alive & terminated
        alive &= ~(terminated | truncated)
    return {"length": float(length.mean()), "return": float(total.mean()), "crashed": float(crashed.mean())}


# ----------------------------------------------------------------------------------------------------------- tracking


def lissajous(t, size: tuple[float, float, float] = (0.8, 0.4, 0.1), period: float = 8.0) -> np.ndarray:
    """(9, ...): position, velocity and acceleration at times t (s) on a figure of eight, which starts at the origin."""
    t, rows = np.asarray(t, float), []
    amplitudes, omega = np.array(size), 2 * np.pi / period * np.array([1, 2, 2])
    for power in range(3):
        rows += [a * w**power * np.sin(w * t + power * np.pi / 2) for a, w in zip(amplitudes, omega, strict=True)]
    return np.array(rows)


def track(act, seconds: float = 16.0, copies: int = 20, seed: int = 12_345, **path) -> dict[str, np.ndarray]:
    """Follow the figure of eight in the full environment: "position" and "target" (T, 3, copies) and (T, 3), and "error" (T, copies) in m.

    act(obs, x, target): observations (N, 146), states (23, N) and target (9,) to actions (N, 4). The observation is shifted: it holds
    p - p_ref clipped to 0.6 m, as in the box, and v - v_ref, so that a policy that hovers at the origin can follow. There is no box.
    Copies differ by wind and noise, and start hovering on the path.
    """
    envs = Quadrotor(copies, box=1e6, horizon=10**9, dtype="float64")
    envs.reset(seed=seed)
    start = np.concatenate([np.zeros((3, copies)), envs.x[Q] * 0, envs.x[V] * 0, envs.x[W] * 0, envs.x[M], envs.x[17:]])
    start[3], start[V], start[M] = 1, lissajous(0.0, **path)[3:6, None], to_rpm(0.334)
    obs, _ = envs.reset(options={"state": start})
    positions, targets = [], []
    for k in range(round(seconds / envs.dt)):
        target = lissajous(k * envs.dt, **path)
        positions.append(envs.x[P].copy())
        targets.append(target[:3])
        obs[:, 0:3] = (obs[:, 0:3] - target[:3]).clip(-0.6, 0.6)
        obs[:, 12:15] -= target[3:6]
        obs, *_ = envs.step(act(obs, envs.x, target))
    positions, targets = np.array(positions), np.array(targets)
    error = np.linalg.norm(positions - targets[:, :, None], axis=1)
    return {"position": positions, "target": targets, "error": error}
