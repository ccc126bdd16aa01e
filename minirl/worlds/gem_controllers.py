"""Controllers that nobody trains: the cascade of two PI controllers, the static feed-forward, and an LQR.

The cascade is the controller that Traue, Book, Kirchgässner and Wallscheid (2019, arXiv:1910.09434) compare with DDPG, written
after `CascadedPIController` of their package at v0.1.0, with its gains (Schröder's rules), its gain scheduling, its
anti-windup and its feed-forward of the induced voltage. `retuned` holds the factors that we found for fast references.

Every controller maps observations (N, 6) to duties (N,) in [0, 1], see `minirl.envs.series_dc`. Those with a memory start
from zero when they are made: make a new one for a new run.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import expm, solve_discrete_are

from minirl.envs.series_dc import CURRENT, REFERENCE, SPEED, Motor, equilibrium, equilibrium_duty, linearise

# Shapes: N motors.


@dataclass(frozen=True)
class Gains:
    """Of both loops. The integral gains contain the control period: they are added once a step."""

    p_current: float  # V / A
    i_current: float  # V / A a step
    p_speed: float  # N m s: torque per speed error; the current follows after a division by the flux
    i_speed: float  # N m s a step

    def scaled(self, p_current: float = 1, i_current: float = 1, p_speed: float = 1, i_speed: float = 1) -> "Gains":
        """The same gains times factors."""
        factors = {"p_current": p_current, "i_current": i_current, "p_speed": p_speed, "i_speed": i_speed}
        return replace(self, **{name: factor * getattr(self, name) for name, factor in factors.items()})


def pi_gains(motor: Motor, tau: float = 1e-4) -> Gains:
    """Schröder's rules as the package applies them, eqs. (10) and (11), for a control period of tau seconds.

    Current loop, magnitude optimum: the larger of the two time constants L/R and 3/2 tau is cancelled, the smaller one,
    t_sigma, is what the loop's speed is made of. Speed loop, symmetric optimum, with 2 t_sigma for the closed current loop.
    """
    if not 0 < tau < np.inf:
        raise ValueError(f"tau must be a positive number of seconds, got {tau}")
    t_sigma, t_1 = sorted((motor.L / motor.R, 1.5 * tau))
    return Gains(
        p_current=t_1 * motor.R / (2 * t_sigma),
        i_current=tau * motor.R / (2 * t_sigma),
        p_speed=motor.J / (4 * t_sigma),
        i_speed=motor.J * tau / (32 * t_sigma**2),
    )


class CascadedPI:
    """Speed error -> wanted current -> voltage -> duty, eq. (12). `motor` is what the designer believes it to be."""

    def __init__(
        self,
        motor: Motor,
        gains: Gains | None = None,
        tau: float = 1e-4,
        anti_windup: bool = True,
        feed_forward: bool = True,
    ):
        self.motor, self.gains = motor, pi_gains(motor, tau) if gains is None else gains
        self.anti_windup, self.feed_forward = anti_windup, feed_forward
        self.speed_part = self.current_part = 0.0  # the two integrals, in A and in V

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Duties (N,); advances the integrals by one step."""
        motor, gains = self.motor, self.gains
        omega, i = obs[:, SPEED] * motor.omega_limit, obs[:, CURRENT] * motor.i_limit
        error, flux = obs[:, REFERENCE] * motor.omega_limit - omega, motor.l_e_prime * i

        magnetised = flux != 0
        per_flux = np.divide(1.0, flux, out=np.zeros_like(flux), where=magnetised)
        integral = self.speed_part + gains.i_speed * error * per_flux
        wanted = np.where(magnetised, integral + gains.p_speed * error * per_flux, np.sign(error) * motor.i_limit)
        current = np.clip(wanted, 0.0, motor.i_limit)
        self.speed_part = self.keep(self.speed_part, integral, wanted == current)

        integral = self.current_part + gains.i_current * (current - i)
        wanted = integral + gains.p_current * (current - i) + (omega * flux if self.feed_forward else 0.0)
        voltage = np.clip(wanted, 0.0, motor.u_sup)
        self.current_part = self.keep(self.current_part, integral, wanted == voltage)
        return voltage / motor.u_sup

    def keep(self, old, new, unclipped):
        """Anti-windup: an integral goes on only while what it leads to is not clipped."""
        return np.where(unclipped, new, old) if self.anti_windup else new


class FeedForward:
    """The duty that would hold the reference for ever, eq. (7): a look-up, blind to speed and current."""

    def __init__(self, motor: Motor):
        self.motor = motor

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        return np.clip(equilibrium_duty(self.motor, obs[:, REFERENCE] * self.motor.omega_limit), 0.0, 1.0)


class ConstantDuty:
    """One duty for ever: what anything that claims to control must beat."""

    def __init__(self, duty: float):
        if not 0 <= duty <= 1:
            raise ValueError(f"duty must lie in [0, 1], got {duty}")
        self.duty = duty

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        return np.full(len(obs), self.duty)


class LQR:
    """Feed-forward minus K (di, domega), optimal for the machine linearised at `omega` rad/s, eq. (9).

    Cost a step: the squared speed error over omega_limit, plus `effort` times the squared change of the duty. With
    `everywhere` the set point follows the reference; without, it stays that of `omega`, and only K sees the reference:
    the naive linear controller.
    """

    def __init__(self, motor: Motor, omega: float = 27.5, effort: float = 1e-4, tau: float = 1e-4, everywhere=True):
        self.motor, self.omega, self.everywhere = motor, omega, everywhere
        A, B = discretise(*linearise(motor, omega), tau)
        Q, r = np.diag([0.0, 1 / motor.omega_limit**2]), np.array([[effort]])
        S = solve_discrete_are(A, B[:, None], Q, r)
        self.K = np.linalg.solve(r + B @ S @ B[:, None], B[None] @ S @ A)[0]

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        motor = self.motor
        omega, i = obs[:, SPEED] * motor.omega_limit, obs[:, CURRENT] * motor.i_limit
        reference = obs[:, REFERENCE] * motor.omega_limit
        point = reference if self.everywhere else np.full(len(obs), self.omega)
        duty = equilibrium_duty(motor, point)
        wanted_current = equilibrium(motor, duty)[1]
        return np.clip(duty - self.K[0] * (i - wanted_current) - self.K[1] * (omega - reference), 0.0, 1.0)


def discretise(A: np.ndarray, B: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact A_d, B_d of dx/dt = A x + B u over tau seconds with u held, from one matrix exponential."""
    n = len(A)
    block = np.zeros((n + 1, n + 1))
    block[:n, :n], block[:n, n] = A, B
    power = expm(tau * block)
    return power[:n, :n], power[:n, n]
