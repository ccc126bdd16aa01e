"""Many series DC motors at once: the model of gym-electric-motor, written out in numpy.

One current i flows through armature and field. With omega the speed of the shaft, u = duty u_sup the voltage that a
one-quadrant converter applies (no negative voltage, no negative current) and T_L the torque of the load:

    (L_a + L_e) di/dt = u - (R_a + R_e) i - L_e' omega i        (2)
    (J_rotor + J_load) domega/dt = L_e' i^2 - T_L(omega)        (4)

The update is explicit Euler in the order of gym-electric-motor 3.0.3: both derivatives from the old state, a speed of zero
has no sign, and the constant part of the load is a steep line near zero. The equation numbers are those of the chapter.

Where we differ: a current that falls below zero is set to zero, as an ideal converter would. The package has no such
rule; it connects the full supply to a motor whose current is negative. With tau (R + L_e' omega) <= L no current ever
gets there, and the two agree to rounding.
"""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

# Shapes: N motors, T simulation steps.

SPEED, TORQUE, CURRENT, VOLTAGE, SUPPLY, REFERENCE = range(6)
"""Columns of an observation, all divided by the limits: the five states of the package, then the reference."""


@dataclass(frozen=True)
class Motor:
    """Motor, load, supply and limits. The defaults are those of the authors' DDPG script (v0.1.0 of the package)."""

    r_a: float = 2.5  # Ohm, armature
    r_e: float = 4.5  # Ohm, field winding
    l_a: float = 9.7e-3  # H, armature
    l_e: float = 9.2e-3  # H, field winding
    l_e_prime: float = 9.2e-3  # H, effective: flux linkage of the armature is l_e_prime i, torque l_e_prime i^2
    j_rotor: float = 1e-3  # kg m^2
    j_load: float = 1e-3  # kg m^2
    a: float = 0.0  # N m, constant part of the load
    b: float = 0.0  # N m s, linear part
    c: float = 0.01  # N m s^2, quadratic part: a fan
    u_sup: float = 420.0  # V, supply; also the limit of the voltage
    omega_limit: float = 100.0  # rad/s, the unit of speeds in observations and rewards
    i_limit: float = 100.0  # A, the unit of currents in observations, and what a monitor watches

    def __post_init__(self):
        positive = ("l_e_prime", "u_sup", "omega_limit", "i_limit")
        for name, value in [(name, getattr(self, name)) for name in positive] + [
            ("r_a + r_e", self.R),
            ("l_a + l_e", self.L),
            ("j_rotor + j_load", self.J),
        ]:
            if not 0 < value < np.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name in ("r_a", "r_e", "l_a", "l_e", "j_rotor", "j_load", "a", "b", "c"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    @property
    def R(self) -> float:
        """Total resistance, Ohm."""
        return self.r_a + self.r_e

    @property
    def L(self) -> float:
        """Total inductance, H."""
        return self.l_a + self.l_e

    @property
    def J(self) -> float:
        """Total moment of inertia, kg m^2."""
        return self.j_rotor + self.j_load

    @property
    def limits(self) -> np.ndarray:
        """(6,) what the columns of an observation are divided by."""
        torque = self.l_e_prime * self.i_limit**2
        return np.array([self.omega_limit, torque, self.i_limit, self.u_sup, self.u_sup, self.omega_limit])


SCRIPT = Motor()
"""The motor of the authors' DDPG script. Full duty settles at 53.7 rad/s and 56 A."""
DEFAULT_V0 = Motor(2.78, 1.0, 6.3e-3, 1.6e-3, 0.05, 0.017, 0.1, 0.01, 0.05, 0.1)
"""The default motor and load of the package at v0.1.0."""
DEFAULT_V3 = Motor(16e-3, 48e-3, 19e-6, 5.4e-3, 1.7e-3, 2.5e-3, 1e-4, 0.01, 0.05, 0.0, 60.0, 400.0, 210.0)
"""The default motor and load of the package at 3.0.3."""


def load_torque(motor: Motor, omega: np.ndarray) -> np.ndarray:
    """T_L (N,) in N m, eq. (3): sign(omega) (a + b |omega| + c omega^2), with the line of the package near zero if a > 0."""
    torque = omega * (motor.b + motor.c * np.abs(omega))
    if motor.a == 0:
        return torque
    slope = motor.J / 1e-3  # the package replaces the step of height a by a line that decays within 1 ms
    return torque + np.where(np.abs(omega) > motor.a / slope, motor.a * np.sign(omega), slope * omega)


def step(
    motor: Motor, omega: np.ndarray, i: np.ndarray, duty: np.ndarray, tau: float = 1e-4
) -> tuple[np.ndarray, np.ndarray]:
    """Speed (N,) in rad/s and current (N,) in A after tau seconds: one explicit Euler step of (2) and (4).

    Both derivatives are taken at the old state; a current below zero becomes zero. A duty outside [0, 1] is clipped, as the
    converter of the package does. Raises ValueError when tau is not positive or a duty is not a number.
    """
    if not 0 < tau < np.inf:
        raise ValueError(f"tau must be a positive number of seconds, got {tau}")
    duty = np.minimum(np.maximum(duty, 0.0), 1.0)
    if np.isnan(duty).any():
        raise ValueError(f"duty is not a number for motor {int(np.flatnonzero(np.isnan(duty))[0])}")
    flux = motor.l_e_prime * i
    di = (duty * motor.u_sup - motor.R * i - flux * omega) / motor.L
    domega = (flux * i - load_torque(motor, omega)) / motor.J
    return omega + tau * domega, np.maximum(i + tau * di, 0.0)


def simulate(
    motor: Motor, duty: np.ndarray, omega: np.ndarray | float = 0.0, i: np.ndarray | float = 0.0, tau: float = 1e-4
) -> tuple[np.ndarray, np.ndarray]:
    """Open loop: speeds and currents (T, N) after each of the T steps of a given duty (T, N)."""
    omegas, currents = np.empty_like(duty, dtype=float), np.empty_like(duty, dtype=float)
    for k, d in enumerate(duty):
        omegas[k], currents[k] = omega, i = step(motor, omega, i, d, tau)
    return omegas, currents


# -------------------------------------------------------------------------------------------------- the steady state


def equilibrium(motor: Motor, duty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Speed and current at which a constant duty settles, eq. (6), for a fan load (a = b = 0).

    i = omega sqrt(c / L_e') in u = (R + L_e' omega) i is a quadratic in omega with one positive root.
    """
    fan_only(motor)
    ratio = np.sqrt(motor.c / motor.l_e_prime)
    u = motor.u_sup * np.asarray(duty, dtype=float)
    half = motor.R / (2 * motor.l_e_prime)
    omega = u / (motor.l_e_prime * ratio) / (half + np.sqrt(half**2 + u / (motor.l_e_prime * ratio)))
    return omega, ratio * omega


def equilibrium_duty(motor: Motor, omega: np.ndarray) -> np.ndarray:
    """The constant duty that holds a speed, eq. (7), for a fan load; above 1 where the supply cannot."""
    fan_only(motor)
    omega = np.asarray(omega, dtype=float)
    return (motor.R + motor.l_e_prime * omega) * omega * np.sqrt(motor.c / motor.l_e_prime) / motor.u_sup


def fan_only(motor: Motor) -> None:
    """Raise ValueError unless the load is c omega^2 with c > 0."""
    if motor.a or motor.b or not motor.c:
        raise ValueError(f"the closed form needs a = b = 0 and c > 0, got {motor.a}, {motor.b}, {motor.c}")


def linearise(motor: Motor, omega: float) -> tuple[np.ndarray, np.ndarray]:
    """A (2, 2) and B (2,) of d(di, domega)/dt = A (di, domega) + B dduty around the equilibrium at omega > 0, eq. (8)."""
    i = float(equilibrium(motor, equilibrium_duty(motor, omega))[1])
    Lp = motor.l_e_prime
    A = np.array(
        [
            [-(motor.R + Lp * omega) / motor.L, -Lp * i / motor.L],
            [2 * Lp * i / motor.J, -2 * motor.c * omega / motor.J],
        ]
    )
    return A, np.array([motor.u_sup / motor.L, 0.0])


# ----------------------------------------------------------------------------------------------- references, rewards


def wiener_reference(
    rng: np.random.Generator, sigma: np.ndarray | float, T: int, n: int = 1, low: float = 5.0, high: float = 50.0
) -> np.ndarray:
    """Random walks (T, n) in rad/s that stop at low and high: steps of standard deviation sigma (N,), in rad/s a step."""
    moves = sigma * rng.standard_normal((T, n))
    here, walk = rng.uniform(low, high, n), np.empty((T, n))
    for k in range(T):
        walk[k] = here = np.minimum(np.maximum(here + moves[k], low), high)
    return walk


def step_reference(T: int, low: float = 15.0, high: float = 40.0, every: int = 2_500) -> np.ndarray:
    """(T,) in rad/s: low and high in turns, `every` simulation steps each."""
    return np.where(np.arange(T) // every % 2 == 0, low, high).astype(float)


def sine_reference(T: int, low: float = 5.0, high: float = 50.0, hertz: float = 0.5, tau: float = 1e-4) -> np.ndarray:
    """(T,) in rad/s: a sine between low and high, from the middle upwards."""
    return (low + high) / 2 + (high - low) / 2 * np.sin(2 * np.pi * hertz * tau * np.arange(T))


def tracking_reward(
    omega: np.ndarray, reference: np.ndarray, length: float, weight: float = 1.0, power: float = 0.5
) -> np.ndarray:
    """-weight (|omega - reference| / length)^power, eq. (16): the package's WeightedSumOfErrors for one state."""
    return -weight * (np.abs(omega - reference) / length) ** power


# --------------------------------------------------------------------------------------------------- the environment


class SeriesDC(gym.vector.VectorEnv):
    """N drives that follow random references; an action is a duty, held for `repeat` simulation steps.

    observation (N, 6): speed, torque, current, voltage, supply and reference, divided by the limits (see `Motor.limits`).
    reward (N,): the mean of `tracking_reward` over the simulation steps of the action. With a monitor, a current above
    i_limit ends the episode: `terminated`, reward `violation_reward`. Episodes start from rest and are `truncated` after
    `horizon` simulation steps; a new one begins in the same step and info["final_obs"] holds the true successors.
    info["crossings"] (N,), also kept as `crossings`: how often the current rose above i_limit, monitor or not.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        n: int = 16,
        motor: Motor = SCRIPT,
        tau: float = 1e-4,
        repeat: int = 5,
        horizon: int = 10_000,
        references: tuple[float, float] = (5.0, 50.0),
        sigma: tuple[float, float] = (5e-3, 1e-2),
        power: float = 0.5,
        violation_reward: float | None = None,
    ):
        """tau in s; references in rad/s; sigma: range of a walk's step, in units of omega_limit, drawn log-uniformly
        anew every 500 to 2,000 simulation steps. violation_reward None: nobody monitors the current."""
        if n < 1 or repeat < 1 or horizon < repeat:
            raise ValueError(f"need n >= 1, repeat >= 1 and horizon >= repeat, got {n}, {repeat}, {horizon}")
        if not 0 < tau < np.inf:
            raise ValueError(f"tau must be a positive number of seconds, got {tau}")
        low, high = references
        if not 0 <= low < high <= motor.omega_limit:
            raise ValueError(f"references must lie in [0, {motor.omega_limit}] and rise, got {references}")
        self.num_envs, self.motor, self.tau, self.repeat, self.horizon = n, motor, tau, repeat, horizon
        self.references, self.sigma, self.power, self.violation_reward = references, sigma, power, violation_reward
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (6,), np.float64)
        self.single_action_space = gym.spaces.Box(0.0, 1.0, (1,), np.float64)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, n)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, n)
        self.omega, self.i, self.duty, self.reference, self.step_sigma = (np.zeros(n) for _ in range(5))
        self.clock, self.left = np.zeros(n, dtype=int), np.zeros(n, dtype=int)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """All drives at rest with new references; observation (N, 6) and {}."""
        if seed is not None or not hasattr(self, "rng"):
            self.rng = np.random.default_rng(seed)
        self.restart(np.ones(self.num_envs, dtype=bool))
        return self.observation(), {}

    def restart(self, where: np.ndarray) -> None:
        self.omega[where] = self.i[where] = self.duty[where] = 0.0
        self.clock[where] = self.left[where] = 0
        self.reference[where] = self.rng.uniform(*self.references, where.sum())

    def observation(self) -> np.ndarray:
        """(N, 6), see the class."""
        torque = self.motor.l_e_prime * self.i**2
        supply = np.full(self.num_envs, self.motor.u_sup)
        state = np.stack([self.omega, torque, self.i, self.duty * supply, supply, self.reference], axis=1)
        return state / self.motor.limits

    def step(self, action: np.ndarray):
        """One action (N, 1). Raises ValueError for another shape or a duty that is not a number; clips it to [0, 1]."""
        action = np.asarray(action, dtype=float)
        if action.shape != (self.num_envs, 1):
            raise ValueError(f"actions must have shape {(self.num_envs, 1)}, got {action.shape}")
        motor, n, duty = self.motor, self.num_envs, np.clip(action[:, 0], 0.0, 1.0)
        total, crossings, running = np.zeros(n), np.zeros(n, dtype=int), np.ones(n, dtype=bool)
        moves = self.rng.standard_normal((self.repeat, n))
        for move in moves:
            before = self.i
            omega, i = step(motor, self.omega, before, duty, self.tau)
            self.omega, self.i = np.where(running, omega, self.omega), np.where(running, i, before)
            total += running * tracking_reward(self.omega, self.reference, motor.omega_limit, power=self.power)
            crossed = running & (self.i > motor.i_limit) & (before <= motor.i_limit)
            crossings += crossed
            if self.violation_reward is not None:
                running = running & ~crossed
            self.next_reference(move)
        self.duty, terminated = duty, ~running
        reward = np.where(terminated, self.violation_reward or 0.0, total / self.repeat)
        self.clock += self.repeat
        truncated = ~terminated & (self.clock >= self.horizon)
        self.crossings = crossings
        info, ended = {"crossings": crossings}, terminated | truncated
        obs = self.observation()
        if ended.any():
            info |= {"final_obs": obs.copy(), "_final_obs": ended}
            self.restart(ended)
            obs = self.observation()
        return obs, reward, terminated, truncated, info

    def next_reference(self, move: np.ndarray) -> None:
        """One step of all random walks; where a stretch is over, a new sigma is drawn."""
        over = self.left <= 0
        if over.any():
            drawn = np.exp(self.rng.uniform(*np.log(self.sigma), over.sum()))
            self.step_sigma[over] = self.motor.omega_limit * drawn
            self.left[over] = self.rng.integers(500, 2_001, over.sum())
        self.left -= 1
        low, high = self.references
        self.reference = np.minimum(np.maximum(self.reference + self.step_sigma * move, low), high)
