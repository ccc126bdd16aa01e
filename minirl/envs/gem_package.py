"""The real gym-electric-motor 3.0.3 behind the numbers of `series_dc`: the environment of evaluation and our oracle.

Its string keys ("Cont-1QC", "euler") raise since 3.0.0, so that every component is handed over as an object.
"""

from collections.abc import Callable

import numpy as np

from minirl.envs.series_dc import SCRIPT, Motor, step

INSTALL = "this needs the package gym-electric-motor: pip install gym-electric-motor==3.0.3"


def make_gem(
    motor: Motor = SCRIPT,
    reference: np.ndarray | float = 0.0,
    tau: float = 1e-4,
    solver: str = "euler",
    power: float = 0.5,
    weight: float = 1.0,
    monitor: bool = False,
    violation_reward: float | None = None,
    gamma: float = 0.95,
    noise: float = 0.0,
    dead_time: int = 0,
    seed: int = 0,
):
    """The environment Cont-SC-SeriesDc-v0 of the package with our motor, and a reference given in rad/s.

    reference: (T,) for T steps (the last value is kept), or a constant. solver: "euler", or "scipy", the package's default.
    monitor: a current above i_limit ends the episode, with `violation_reward` or the package's r_min / (1 - gamma).
    noise: standard deviation added to speed and current, in units of their limits, drawn from `seed`. dead_time: steps an
    action is late.
    Raises ImportError with the command that installs the package.
    """
    try:
        import gym_electric_motor as gem
        from gym_electric_motor import physical_system_wrappers as wrappers
        from gym_electric_motor import physical_systems as ps
        from gym_electric_motor.reference_generators import ConstReferenceGenerator
        from gym_electric_motor.reward_functions import WeightedSumOfErrors
    except ImportError as error:
        raise ImportError(INSTALL) from error
    values = np.atleast_1d(np.asarray(reference, dtype=float)) / motor.omega_limit

    class Given(ConstReferenceGenerator):
        """The reference that the next step will be measured against is shown, and then used, as in the package."""

        def __init__(self):
            super().__init__("omega", 0.0)
            self.reference_space.high[:] = 1.0

        def reset(self, *arguments, **named):
            self.k = 0
            return super().reset(*arguments, **named)

        def get_reference_observation(self, *_, **__):
            self._reference_value = values[min(self.k, len(values) - 1)]
            self.k += 1
            return np.array([self._reference_value])

    solvers = {"euler": ps.EulerSolver, "scipy": ps.ScipyOdeSolver}
    if solver not in solvers:
        raise ValueError(f"solver must be one of {', '.join(solvers)}, got {solver!r}")
    limits = dict(zip(("omega", "torque", "i", "u"), motor.limits, strict=False))
    electrical = ("r_a", "r_e", "l_a", "l_e", "l_e_prime", "j_rotor")
    changes = []
    if dead_time:
        changes.append(wrappers.DeadTimeProcessor(steps=dead_time))
    if noise:
        changes.append(wrappers.StateNoiseProcessor(states=["omega", "i"], random_kwargs={"scale": noise}))
        # A wrapper hands its seed on to what it wraps and keeps none: the environment's seed does not reach the noise.
        gem.RandomComponent.seed(changes[-1], np.random.SeedSequence(seed))
    env = gem.make(
        "Cont-SC-SeriesDc-v0",
        supply={"u_nominal": motor.u_sup},
        converter=ps.ContOneQuadrantConverter(tau=tau),
        motor={
            "motor_parameter": {name: getattr(motor, name) for name in electrical},
            "limit_values": limits,
            "nominal_values": dict(limits),
        },
        load={"load_parameter": {name: getattr(motor, name) for name in ("a", "b", "c", "j_load")}},
        ode_solver=solvers[solver](),
        reward_function=WeightedSumOfErrors(
            reward_weights={"omega": weight}, reward_power=power, violation_reward=violation_reward, gamma=gamma
        ),
        reference_generator=Given(),
        constraints=("i",) if monitor else (),
        physical_system_wrappers=tuple(changes),
        visualization=None,
        tau=tau,
        disable_env_checker=True,
    )
    return env.unwrapped


# ------------------------------------------------------------------------------------------------ follow a reference


def track(
    act: Callable[[np.ndarray], np.ndarray],
    references: np.ndarray,
    motor: Motor = SCRIPT,
    repeat: int = 1,
    tau: float = 1e-4,
    omega: float = 0.0,
    i: float = 0.0,
) -> dict[str, np.ndarray]:
    """In our model: let a controller follow references (T, N) in rad/s; speeds, currents and duties (T, N).

    act: observations (N, 6) -> duties (N,), called every `repeat` steps and held in between.
    """
    T, n = references.shape
    found = {name: np.empty((T, n)) for name in ("omega", "i", "duty")}
    omega, i, duty = np.full(n, omega), np.full(n, i), np.zeros(n)
    supply = np.full(n, motor.u_sup)
    for k in range(T):
        if k % repeat == 0:
            state = [omega, motor.l_e_prime * i**2, i, duty * supply, supply, references[k]]
            duty = np.clip(act(np.stack(state, axis=1) / motor.limits), 0.0, 1.0)
        omega, i = step(motor, omega, i, duty, tau)
        found["omega"][k], found["i"][k], found["duty"][k] = omega, i, duty
    return found


def track_gem(
    act: Callable[[np.ndarray], np.ndarray],
    reference: np.ndarray,
    motor: Motor = SCRIPT,
    repeat: int = 1,
    tau: float = 1e-4,
    seed: int = 0,
    **options,
) -> dict[str, np.ndarray]:
    """In the real package: the same for one reference (T,); speeds, currents and duties (T,) and "reward" (T,).

    The controller sees what the package shows (with noise, if asked for); what is returned is the true state. Stops
    where the package ends the episode, so that the arrays may be shorter. options: see `make_gem`.
    """
    env = make_gem(motor, reference, tau, seed=seed, **options)
    true = env.physical_system
    while hasattr(true, "_physical_system"):  # noise and dead time are wrapped around the machine
        true = true._physical_system
    (state, shown), _ = env.reset(seed=seed)
    rows, duty = [], np.zeros(1)
    for k in range(len(reference)):
        if k % repeat == 0:
            duty = np.clip(act(np.concatenate([state, shown])[None]), 0.0, 1.0)
        (state, shown), reward, terminated, _, _ = env.step(duty)
        rows.append((true.system_state[0], true.system_state[2], duty[0], reward))
        if terminated:
            break
    return dict(zip(("omega", "i", "duty", "reward"), np.array(rows).T, strict=True))


def tracking_error(
    omega: np.ndarray, references: np.ndarray, motor: Motor = SCRIPT, skip: int = 500
) -> np.ndarray | float:
    """Mean of |omega - reference| / omega_limit over time, after the first `skip` steps (50 ms, the start from rest)."""
    return (np.abs(omega - references)[skip:] / motor.omega_limit).mean(axis=0)
