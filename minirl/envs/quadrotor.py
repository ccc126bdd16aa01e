"""A Crazyflie quadrotor, many at a time: quaternion dynamics, slow motors, hidden disturbances, RK4.

The model is that of Eschmann, Albani and Loianno, "Learning to Fly in Seconds", 2024, arXiv:2311.13081, with the numbers of
the authors' code (`crazy_flie.h`). World z points up, the body z axis along the thrust; a quaternion is (w, x, y, z) and
turns body into world coordinates. Rotor speeds are in revolutions per minute (RPM), actions in [-1, 1] are set-points of
the four speeds, linear in RPM.

One source, two libraries: `physics` and `seen` use little but arithmetic on *rows*, one array (N,) for each number of the state, so they
take NumPy arrays and torch tensors alike, on any device, and `torch.compile` turns a whole step into one loop. `Quadrotor` is the
vector environment around them.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

# Shapes: N environments; a state x is (23, N): position 3, quaternion 4, velocity 3, body rates 3, rotor speeds 4, and the
# disturbance that stays for an episode, force 3 and torque 3.
P, Q, V, W, M, F, TAU = (slice(*s) for s in ((0, 3), (3, 7), (7, 10), (10, 13), (13, 17), (17, 20), (20, 23)))
STATES, MOVING, HISTORY, SEEN = 23, 17, 32, 18  # SEEN: position, rotation matrix, velocity, body rates
NOISE = np.repeat([0.001, 0.001, 0.002, 0.002], [3, 9, 3, 3])  # standard deviations of the 18 observed numbers
REWARD_START = (5.0, 5.0, 0.01, 0.01)  # weights of position, attitude, velocity and action, where the curriculum begins
REWARD_TARGET = (40.0, 5.0, 1.0, 1.0)  # and those by which everything is evaluated


@dataclass(frozen=True)
class Params:
    """The vehicle. Rotors stand at (+-arm, +-arm): front right, back right, back left, front left (x points ahead)."""

    mass: float = 0.027  # kg
    inertia: tuple[float, float, float] = (3.85e-6, 3.85e-6, 5.9675e-6)  # kg m^2, principal axes
    arm: float = 0.028  # m, |x| and |y| of every rotor
    k_f: float = 3.16e-10  # N / RPM^2, thrust of a rotor is k_f n^2
    kappa: float = 0.005964552  # m, torque about z per thrust
    rpm_max: float = 21_702.0  # speeds lie in [0, rpm_max]
    lag: float = 0.15  # s, time constant of the motors; 0 makes them follow at once
    gravity: float = 9.81  # m / s^2

    def __post_init__(self):
        for name in ("mass", "arm", "k_f", "kappa", "rpm_max"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not min(self.inertia) > 0:
            raise ValueError(f"inertia must be positive, got {self.inertia}")
        if not self.lag >= 0:
            raise ValueError(f"lag must not be negative, got {self.lag}")


ROTORS = np.array([(1, -1), (-1, -1), (-1, 1), (1, 1)])  # signs of (x, y) of the four rotors
SPIN = np.array([-1, 1, -1, 1])  # signs of their torque about z


def mixer(params: Params = Params()) -> np.ndarray:
    """(4, 4): (thrust, torque x, torque y, torque z) = mixer @ (T_1, ..., T_4), eq. (5). Torque of a force along z: (y, -x)."""
    return np.array([np.ones(4), params.arm * ROTORS[:, 1], -params.arm * ROTORS[:, 0], params.kappa * SPIN])


def hover_rpm(params: Params = Params()) -> float:
    """The speed of all four rotors at which thrust carries the weight, eq. (6)."""
    return math.sqrt(params.mass * params.gravity / (4 * params.k_f))


def to_rpm(action, params: Params = Params()):
    """Set-points in RPM of actions in [-1, 1]."""
    return (action + 1) * (params.rpm_max / 2)


def to_action(rpm, params: Params = Params()):
    """Inverse of `to_rpm`; it also normalises rotor speeds for the critic."""
    return rpm * (2 / params.rpm_max) - 1


HOVER = float(to_action(hover_rpm()))  # 0.334, the action that the reward asks for
START_ACTION = 0.0  # motors start half way, at 10,851 RPM, and the history is filled with the action that means this


# ------------------------------------------------------------------------------------------------------ the dynamics


def derivative(x: np.ndarray, command: np.ndarray, params: Params = Params()) -> np.ndarray:
    """dx/dt of states x (23, ...) under RPM set-points command (4, ...), eqs. (1) to (4): the definition, for reading and for tests.

    `rk4_step` computes the same, faster. Needs lag > 0. Disturbances do not change, so their rows are 0.
    """
    (qw, qx, qy, qz), (wx, wy, wz) = x[Q], x[W]
    thrust = params.k_f * x[M] ** 2
    total, *torque = np.tensordot(mixer(params), thrust, 1)
    up = np.stack([2 * (qx * qz + qw * qy), 2 * (qy * qz - qw * qx), 1 - 2 * (qx * qx + qy * qy)])  # R(q) e_z
    J = np.array(params.inertia).reshape(3, *[1] * (x.ndim - 1))
    rate = np.zeros_like(x)
    rate[P] = x[V]
    rate[Q] = 0.5 * np.stack([
        -qx * wx - qy * wy - qz * wz, qw * wx + qy * wz - qz * wy, qw * wy + qz * wx - qx * wz, qw * wz + qx * wy - qy * wx,
    ])  # fmt: skip
    rate[V] = (total * up + x[F]) / params.mass
    rate[V][2] -= params.gravity
    rate[W] = (np.stack(torque) + x[TAU] - np.cross(x[W], J * x[W], axis=0)) / J
    rate[M] = (command - x[M]) / params.lag
    return rate


class Coefficients:
    """The numbers that a step multiplies by, worked out once.

    wrap: how a number is kept. NumPy multiplies by a 0-dimensional array in half the time that it needs for a Python float.
    """

    def __init__(self, params: Params, dt: float, weights: tuple[float, ...], box: float, wrap: Callable = float):
        r, (Jx, Jy, Jz), k_f = dt / 2 / params.lag if params.lag else 0.0, params.inertia, params.k_f
        seen = (0.0, r, r * (1 - r), 2 * r * (1 - r * (1 - r))) if params.lag else (1.0,) * 4
        total = seen[0] + 2 * seen[1] + 2 * seen[2] + seen[3]
        self.seen = [wrap(c) if c else None for c in seen]  # share of a motor's gap that is closed at each stage
        self.closed = wrap(r / 3 * (6 - total) if params.lag else 1.0)  # and at the end of the step
        self.stages = [wrap(dt / 2), wrap(dt / 2), wrap(dt)]  # from the beginning of the step to stages 2, 3, 4
        self.dt, self.sixth, self.third = wrap(dt), wrap(dt / 6), wrap(dt / 3)
        self.half_square, self.sixth_square = wrap(dt * dt / 2), wrap(dt * dt / 6)
        self.half_rpm, self.rpm_max = wrap(params.rpm_max / 2), params.rpm_max
        self.lift2 = wrap(2 * k_f / params.mass)
        # Half the angular acceleration, since half the body rates are what a quaternion needs.
        self.roll, self.pitch = wrap(k_f * params.arm / Jx / 2), wrap(k_f * params.arm / Jy / 2)
        self.yaw = wrap(k_f * params.kappa / Jz / 2)
        self.gyro = [
            wrap(2 * (a - b) / c) if a != b else None for a, b, c in ((Jy, Jz, Jx), (Jz, Jx, Jy), (Jx, Jy, Jz))
        ]
        self.twist = [wrap(0.5 / J) for J in (Jx, Jy, Jz)]
        self.per_mass, self.gravity = wrap(1 / params.mass), wrap(params.gravity)
        self.half, self.one, self.two, self.hover = wrap(0.5), wrap(1.0), wrap(2.0), wrap(HOVER)
        self.cost = [wrap(w / 2) for w in weights]
        self.box = wrap(box)


def rk4_step(x, action, k: Coefficients) -> tuple[list, list, list, list, object]:
    """One classical Runge-Kutta step of N quadrotors: the new rows of p, q, v and omega, and n as a block (4, N).

    x: (23, N); action: (4, N) in [-1, 1]. After the step q is normalised and n clipped.

    The equations are a cascade: motors drive rotation, rotation drives velocity, velocity drives position. So the four
    stages need not be carried for all 17 numbers. Motors are linear: stage i sees n + c_i (command - n) with constants c_i.
    Position and velocity never act back: with the accelerations a_i of the stages, v grows by dt/6 (a_1 + 2 a_2 + 2 a_3 + a_4)
    and p by dt v + dt^2/6 (a_1 + a_2 + a_3). The result is that of RK4 on `derivative`, up to rounding.
    """
    p0, q0, v0, w0, n = x[P], x[Q], x[V], x[W], x[M]
    gap = (action * k.half_rpm + k.half_rpm) - n
    force, torque, half = x[F] * k.per_mass, x[TAU], w0 * k.half
    tx, ty, tz = torque[0] * k.twist[0], torque[1] * k.twist[1], torque[2] * k.twist[2]
    q, w = (q0[0], q0[1], q0[2], q0[3]), (half[0], half[1], half[2])  # of the present stage; w is half the body rates
    a, b, d = [], [], []  # accelerations, half the angular ones, and the rates of (-qw, qx, qy, qz), stage by stage
    for stage in range(4):
        s = n if k.seen[stage] is None else n + k.seen[stage] * gap
        s = s * s
        side, pair = s[2:] - s[:2], s[2:] + s[:2]
        (qw, qx, qy, qz), (wx, wy, wz) = q, w
        up = k.lift2 * (pair[0] + pair[1])
        a.append((up * (qx * qz + qw * qy), up * (qy * qz - qw * qx), up * (k.half - (qx * qx + qy * qy))))
        bx, by = k.roll * (side[0] + side[1]) + tx, k.pitch * (side[0] - side[1]) + ty
        bz = k.yaw * (pair[1] - pair[0]) + tz
        if k.gyro[0] is not None:
            bx = bx + k.gyro[0] * (wy * wz)
        if k.gyro[1] is not None:
            by = by + k.gyro[1] * (wz * wx)
        if k.gyro[2] is not None:
            bz = bz + k.gyro[2] * (wx * wy)
        b.append((bx, by, bz))
        dx, dy = qw * wx + qy * wz - qz * wy, qw * wy + qz * wx - qx * wz
        d.append((qx * wx + qy * wy + qz * wz, dx, dy, qw * wz + qx * wy - qy * wx))
        if stage < 3:
            h, r = k.stages[stage], d[stage]
            q = (q0[0] - h * r[0], q0[1] + h * r[1], q0[2] + h * r[2], q0[3] + h * r[3])
            w = (half[0] + h * bx, half[1] + h * by, half[2] + h * bz)

    p, q, v, w = [], [], [], []
    for i in range(3):
        f = force[i] if i < 2 else force[i] - k.gravity
        middle = a[1][i] + a[2][i]
        first = a[0][i] + middle
        p.append(p0[i] + k.dt * v0[i] + k.half_square * f + k.sixth_square * first)
        v.append(v0[i] + k.dt * f + k.sixth * (first + (middle + a[3][i])))
        middle = b[1][i] + b[2][i]
        w.append(w0[i] + k.third * ((b[0][i] + middle) + (middle + b[3][i])))
    for i in range(4):
        middle = d[1][i] + d[2][i]
        change = k.sixth * ((d[0][i] + middle) + (middle + d[3][i]))
        q.append(q0[i] + change if i else q0[i] - change)
    scale = k.one / (q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]) ** 0.5
    return p, [c * scale for c in q], v, w, (n + k.closed * gap).clip(0.0, k.rpm_max)


def reward(x, action, k: Coefficients):
    """Reward (N,) of a state x (23, N) and the action (4, N) taken in it, eq. (9), before the zero at termination."""
    c_p, c_q, c_v, c_a = k.cost
    e, s = action - k.hover, x[:10] * x[:10]
    e = e * e
    cost = c_p * (s[0] + s[1] + s[2]) + c_q * (k.one - s[3])
    return k.two - (cost + c_v * (s[7] + s[8] + s[9]) + c_a * (e[0] + e[1] + e[2] + e[3]))


def physics(x, action, k: Coefficients):
    """A step of the simulator alone: the next state (23, N), the reward (N,), and max |p_i| in m (N,), which says who is out.

    The reward belongs to the state before the step, and is 0 where the step leaves the box.
    """
    paid = reward(x, action, k)
    p, q, v, w, n = rk4_step(x, action, k)
    moved = [*p, *q, *v, *w]
    if isinstance(x, np.ndarray):
        far = np.maximum(np.maximum(abs(p[0]), abs(p[1])), abs(p[2]))
        new = np.empty_like(x)
        for i, row in enumerate(moved):
            new[i] = row
        new[M], new[F.start :] = n, x[F.start :]
        return new, paid * (far <= k.box), far
    far = torch.maximum(torch.maximum(abs(p[0]), abs(p[1])), abs(p[2]))
    new = torch.stack([*moved, *n, *x[F.start :]])  # row by row, so that a compiler makes one loop of it all
    return new, torch.where(far > k.box, 0.0, paid), far


def seen(x):
    """(18, N): what an actor may see, without its noise: position, rotation matrix row by row, velocity, body rates."""
    q = math.sqrt(2) * x[Q]
    square, across = q[1:] * q[1:], q[:1] * q[1:]  # 2 (xx, yy, zz) and 2 w (x, y, z)
    yy, zz, (wx, wy, wz) = square[1], square[2], across
    xy, xz, yz = q[1] * q[2], q[1] * q[3], q[2] * q[3]
    rest = 1 - square
    R = (rest[1] - zz, xy - wz, xz + wy, xy + wz, rest[0] - zz, yz - wx, xz - wy, yz + wx, rest[0] - yy)
    if isinstance(x, np.ndarray):
        out = np.empty((SEEN, x.shape[1]), x.dtype)
        out[:3], out[12:] = x[P], x[V.start : W.stop]
        for i, row in enumerate(R):
            out[3 + i] = row
        return out
    return torch.cat([x[P], torch.stack(R), x[V.start : W.stop]])


def gaussian(rng: np.random.Generator, shape: tuple[int, ...], dtype=np.float32) -> np.ndarray:
    """Independent standard normal numbers by Box and Muller's transform: whole arrays at once, two to three times as fast as
    NumPy's own, which decides number by number."""
    n = math.prod(shape)
    half = (n + 1) // 2
    u = rng.bit_generator.random_raw(half).view(np.uint32).astype(dtype) * dtype(2**-32)  # 32 bits for each number
    radius = np.sqrt(np.log(u[:half] + dtype(2**-33)) * dtype(-2))
    angle = u[half:] * dtype(2 * math.pi)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n].reshape(shape)


def compiled(fn: Callable) -> Callable:
    """`torch.compile(fn)`; where there is no compiler, `fn` itself with a warning that says so (found at the first call)."""
    chosen = torch.compile(fn, dynamic=False)
    tried = False

    def call(*args):
        nonlocal chosen, tried
        if tried:
            return chosen(*args)
        tried = True
        try:
            return chosen(*args)
        except (RuntimeError, OSError) as error:  # what torch raises when the C++ compiler is missing or fails
            why = str(error).strip().splitlines()[0]
            warnings.warn(f"torch.compile does not work here, steps are not compiled and slower ({why})", stacklevel=2)
            chosen = fn
            return fn(*args)

    return call


# --------------------------------------------------------------------------------------------- the vector environment


class Quadrotor(gym.vector.VectorEnv):
    """N quadrotors that reset themselves. An observation (146) is what can be measured (18, noisy) and the last 32 actions.

    device None uses NumPy, which is fastest for some thousand copies on a CPU; "cpu", "cuda", ... use torch on that device, with
    observations, rewards and flags as tensors there; `compile=True` compiles the physics (a few seconds at the first step).

    A step past the box of `box` metres is `terminated`, step `horizon` is `truncated`; both start a new episode at once, and
    info["final_obs"] and info["final_privileged"] hold the last observation of those rows of which info["_final_obs"] is true.

    With copy=False observations are views of a buffer: valid until the next step, and 30 % faster.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (gymnasium's interface)

    def __init__(
        self,
        num_envs: int,
        params: Params = Params(),
        dt: float = 0.01,
        weights: tuple[float, float, float, float] = REWARD_TARGET,
        horizon: int = 500,
        box: float = 0.6,
        history: int = HISTORY,
        noise: float = 1.0,
        disturbance: float = 1.0,
        guidance: float = 0.1,
        device: str | None = None,
        compile: bool = False,
        dtype: str = "float32",
        copy: bool = True,
    ):
        """dt in s, horizon in steps, box in m; `noise` and `disturbance` scale the model's, 0 switches them off.

        Raises ValueError for dt <= 0, motors too fast for the step, and counts below 1.
        """
        if not dt > 0:
            raise ValueError(f"dt must be positive, got {dt}")
        if 0 < params.lag < dt / 2:
            raise ValueError(f"lag must be 0 or at least dt / 2 = {dt / 2:g} s, else RK4 is unstable; got {params.lag}")
        for name, value in (("num_envs", num_envs), ("horizon", horizon), ("history", history)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if compile and device is None:
            raise ValueError('compile needs torch: pass device="cpu" (or "cuda")')
        self.num_envs, self.params, self.dt, self.horizon, self.box = num_envs, params, dt, horizon, box
        self.history, self.noise, self.disturbance, self.guidance = history, noise, disturbance, guidance
        self.device, self.compile, self.copy = device, compile, copy
        self.xp = np if device is None else torch
        self.dtype = getattr(self.xp, dtype)
        self.width = SEEN + 4 * history
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (self.width,), np.float32)
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.set_weights(weights)

        self.scale = self._array(noise * NOISE[:, None])
        self.x, self.age = self._zeros(STATES, num_envs), self._zeros(num_envs)
        self.buffer = self._zeros(num_envs, 2 * self.width)  # see `_observe`
        self.final_obs, self.final_privileged = self._zeros(num_envs, self.width), self._zeros(num_envs, 28)
        self.start = None
        self._seed(None)

    # ---- the two libraries

    def _array(self, values):
        if self.device is None:
            return np.asarray(values, self.dtype)
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def _zeros(self, *shape):
        return self._array(np.zeros(shape))

    def _seed(self, seed: int | None) -> None:
        if self.device is None:
            self.rng = np.random.Generator(np.random.SFC64(seed))
        else:
            self.rng = torch.Generator(self.device)
            self.rng.seed() if seed is None else self.rng.manual_seed(seed)
        self.pool, self.used = None, 0

    def _normal(self, *shape):
        if self.device is None:
            return gaussian(self.rng, shape, self.dtype)
        return torch.randn(shape, generator=self.rng, dtype=self.dtype, device=self.device)

    def _uniform(self, *shape):
        """Uniform in (-1, 1)."""
        if self.device is None:
            return 2 * self.rng.random(shape, self.dtype) - 1
        return 2 * torch.rand(shape, generator=self.rng, dtype=self.dtype, device=self.device) - 1

    # ---- the interface of gymnasium

    def set_weights(self, weights: tuple[float, float, float, float]) -> None:
        """Reward weights of position, attitude, velocity and action from the next step on."""
        if len(weights) != 4 or not all(w >= 0 for w in weights):
            raise ValueError(f"weights must be four numbers >= 0, got {weights}")
        wrap = float if self.device else (lambda c: np.array(c, self.dtype))
        k = Coefficients(self.params, self.dt, weights, self.box, wrap)
        self.weights, self.k = tuple(weights), k
        self._physics = compiled(lambda x, a: physics(x, a, k)) if self.compile else (lambda x, a: physics(x, a, k))

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Observations (N, 146) of fresh episodes. options={"state": x} starts from given states (23,) or (23, N)."""
        if seed is not None:
            self._seed(seed)
        state = (options or {}).get("state")
        self.x = self._draw_starts(self.num_envs) if state is None else self._checked_state(state)
        self.age[:] = 0
        self.buffer[:, : self.width] = START_ACTION
        self.offset = 0
        self._observe()
        return self._obs(), {}

    def step(self, action):
        """Actions (N, 4); what lies outside [-1, 1] is clipped. ValueError names the first environment with a NaN."""
        a = self._checked_action(action)
        self.x, reward, far = self._physics(self.x, a)
        terminated = far > self.k.box
        self.age += 1
        truncated = (self.age >= self.horizon) & ~terminated
        self._shift(a)
        self._observe()
        ended, info = terminated | truncated, {}
        if ended.any():
            info = self._restart(ended)
        return self._obs(), reward, terminated, truncated, info

    def privileged(self):
        """(N, 28): what only a simulator knows, without noise: the 18 numbers, force, torque, rotor speeds in [-1, 1]."""
        return self._privileged(self.true, self.x).T

    def _privileged(self, true, x):
        blocks = [true, x[F.start :], to_action(x[M], self.params)]
        return np.concatenate(blocks) if self.device is None else torch.cat(blocks)

    # ---- observations

    def _shift(self, a) -> None:
        """Append an action. A window of `width` numbers moves along the rows of `buffer`, 4 a step: older actions stay put."""
        if self.offset + 4 + self.width > self.buffer.shape[1]:
            self.buffer[:, : self.width] = self.buffer[:, self.offset : self.offset + self.width]
            self.offset = 0
        self.offset += 4
        end = self.offset + self.width
        self.buffer[:, end - 4 : end] = a.T

    def _observe(self) -> None:
        """Write the noisy measurements in front of the actions, over those that have left the window."""
        self.true = seen(self.x)
        self.buffer[:, self.offset : self.offset + SEEN] = self._blurred(self.true).T

    def _blurred(self, true):
        """Measurements (18, n) with their noise."""
        if not self.noise:
            return true
        noise = self._normal(*true.shape)
        noise *= self.scale
        noise += true
        return noise

    def _obs(self):
        view = self.buffer[:, self.offset : self.offset + self.width]
        return view if not self.copy else view.copy() if self.device is None else view.clone()

    # ---- episodes

    def _restart(self, ended) -> dict:
        """Keep the last observations of the episodes that ended, and begin new ones in their place."""
        rows = np.flatnonzero(ended) if self.device is None else ended.nonzero().squeeze(1)
        window = slice(self.offset, self.offset + self.width)
        self.final_obs[rows] = self.buffer[rows, window]
        self.final_privileged[rows] = self._privileged(self.true[:, rows], self.x[:, rows]).T

        x, true = self._starts(len(rows))
        self.x[:, rows], self.true[:, rows], self.age[rows] = x, true, 0
        self.buffer[rows, window.start : window.start + SEEN] = self._blurred(true).T
        self.buffer[rows, window.start + SEEN : window.stop] = START_ACTION
        keep = {"final_obs": self.final_obs, "final_privileged": self.final_privileged}
        return keep | {f"_{name}": ended for name in keep}

    def _starts(self, n: int):
        """First states (23, n) and what is seen of them (18, n), from a pool that is drawn a few thousand at a time."""
        if self.pool is None or self.used + n > self.pool[0].shape[1]:
            x = self._draw_starts(max(n, min(4096, 16 * self.num_envs)))
            self.pool, self.used = (x, seen(x)), 0
        self.used += n
        return tuple(block[:, self.used - n : self.used] for block in self.pool)

    def _draw_starts(self, n: int):
        """Positions within 0.2 m, tilts within 90 degrees, rates within 1 (m/s, rad/s), motors half way: the drone drops first."""
        x = self._zeros(STATES, n)
        x[P], x[V], x[W] = 0.2 * self._uniform(3, n), self._uniform(3, n), self._uniform(3, n)
        got = 0
        while got < n:  # a uniformly random rotation, kept when its angle is at most 90 degrees (18 % are)
            q = self._normal(4, 6 * n)
            q = q / (q * q).sum(0) ** 0.5
            q = q[:, abs(q[0]) >= math.cos(math.pi / 4)][:, : n - got]
            x[Q, got : got + q.shape[1]] = q
            got += q.shape[1]
        easy = self._uniform(n) < 2 * self.guidance - 1
        x[P] *= ~easy
        x[Q] *= ~easy
        x[Q.start] += easy
        x[M] = self.params.rpm_max / 2
        x[F] = self.disturbance * self.params.mass * self.params.gravity / 20 * self._normal(3, n)
        x[TAU] = self.disturbance * self.params.mass * self.params.gravity / 10_000 * self._normal(3, n)
        return x

    # ---- what comes from outside

    def _checked_action(self, action):
        """(4, N), one contiguous row for each rotor."""
        a = self._array(action)
        if tuple(a.shape) != (self.num_envs, 4):
            raise ValueError(f"actions must have the shape {(self.num_envs, 4)}, got {tuple(a.shape)}")
        bad = ~self.xp.isfinite(a)
        if bad.any():
            row, column = (int(i[0]) for i in (np.nonzero(bad) if self.device is None else bad.nonzero(as_tuple=True)))
            raise ValueError(f"action {column} of environment {row} is {float(a[row, column])}; nothing was simulated")
        a = a.clip(-1.0, 1.0).T
        return np.ascontiguousarray(a) if self.device is None else a.contiguous()

    def _checked_state(self, state):
        """(23, N) with unit quaternions. ValueError for a wrong shape, a number that is not finite, or |q| off 1 by over 0.001."""
        x = np.array(state, np.float64)
        if x.shape not in ((STATES,), (STATES, self.num_envs)):
            raise ValueError(f"a state has the shape (23,) or (23, {self.num_envs}), got {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError("a state holds a number that is not finite")
        x = np.broadcast_to(x.reshape(STATES, -1), (STATES, self.num_envs)).copy()
        norm = np.sqrt((x[Q] ** 2).sum(axis=0))
        if (abs(norm - 1) > 1e-3).any():
            i = int(abs(norm - 1).argmax())
            raise ValueError(
                f"the quaternion of environment {i} has the length {norm[i]:.4g}; a rotation needs length 1"
            )
        x[Q] /= norm
        return self._array(x)
