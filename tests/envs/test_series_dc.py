"""The series DC drive against the real package, against closed forms, and against bad input."""

import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from minirl.core.rollout import rollout
from minirl.envs.gem_package import make_gem, track, track_gem, tracking_error
from minirl.envs.series_dc import (
    DEFAULT_V0,
    DEFAULT_V3,
    SCRIPT,
    Motor,
    SeriesDC,
    equilibrium,
    equilibrium_duty,
    linearise,
    load_torque,
    simulate,
    sine_reference,
    step,
    step_reference,
    tracking_reward,
    wiener_reference,
)

FRICTION = replace(SCRIPT, a=0.5, b=0.02)  # a load with all three parts
MOTORS = {"script": SCRIPT, "v0.1.0": DEFAULT_V0, "3.0.3": DEFAULT_V3, "friction": FRICTION}


def needs_gem():
    return pytest.importorskip("gym_electric_motor", reason="gym-electric-motor is not installed")


def duties(T, seed=0):
    """(T,) stretches of 1 to 100 steps, a third of them at zero and some at one."""
    rng = np.random.default_rng(seed)
    levels = np.clip(rng.uniform(-0.5, 1.2, T), 0, 1)
    return np.repeat(levels, rng.integers(1, 101, T))[:T]


def package(motor, duty, tau=1e-4, **options):
    """Speeds and currents (T,) of the real package."""
    env = make_gem(motor, 0.0, tau, **options)
    env.reset(seed=0)
    rows = []
    for d in duty:
        env.step(np.array([d]))
        rows.append(env.physical_system.system_state[[0, 2]].copy())
    return np.array(rows).T


# ------------------------------------------------------------------------------------------------- the real package


@pytest.mark.parametrize("name", MOTORS)
def test_agrees_with_the_package_step_by_step(name):
    """1,000 steps of the package's Euler solver; the largest difference found was 2e-12."""
    needs_gem()
    duty = duties(1_000)
    omega, i = simulate(MOTORS[name], duty[:, None])
    real_omega, real_i = package(MOTORS[name], duty)
    assert (duty == 0).mean() > 0.2 and real_i.max() > 10
    np.testing.assert_allclose(omega[:, 0], real_omega, rtol=0, atol=1e-10)
    np.testing.assert_allclose(i[:, 0], real_i, rtol=0, atol=1e-10)


def test_agrees_with_the_package_where_the_current_is_clipped():
    """A step too long for the current: it is clipped hundreds of times, here and in the package with a solver that clips."""
    gem = needs_gem()
    from gym_electric_motor import physical_systems as ps

    class Clipped(ps.EulerSolver):
        def integrate(self, t):
            y = super().integrate(t)
            y[1] = max(y[1], 0.0)  # in place: the next step starts from it
            return y

    assert gem
    motor, tau = replace(SCRIPT, l_a=1e-4, l_e=1e-4, j_load=0.05), 5e-5  # tau R / L = 1.75: stable for a linear circuit
    motor = replace(motor, r_a=3.5)
    duty = duties(1_000, seed=1)
    omega, i = simulate(motor, duty[:, None], tau=tau)
    env = make_gem(motor, 0.0, tau)
    solver = Clipped()
    solver.set_system_equation(env.physical_system._system_equation)
    env.physical_system._ode_solver = solver
    env.reset(seed=0)
    real = []
    for d in duty:
        env.step(np.array([d]))
        real.append(env.physical_system.system_state[[0, 2]].copy())
    clipped = (i[1:, 0] == 0) & (i[:-1, 0] > 0)
    assert clipped.sum() > 20, "the test must clip"
    np.testing.assert_allclose(np.stack([omega[:, 0], i[:, 0]], axis=1), real, rtol=1e-11, atol=1e-10)


def test_the_package_itself_does_not_clip():
    """What our docstring says: a current below zero gets the full supply. It takes a step longer than L / (R + L_e' omega)."""
    needs_gem()
    motor, tau = replace(SCRIPT, l_a=1e-4, l_e=1e-4, j_load=0.05), 5e-5
    _, i = package(motor, np.array([0.5, 0.0, 0.0]), tau)
    assert i[0] > 0 and i[1] < 0
    assert i[2] == pytest.approx(i[1] + tau * (motor.u_sup - motor.R * i[1]) / motor.L, rel=1e-3)


@pytest.mark.parametrize("name", MOTORS)
def test_no_current_reaches_zero_at_the_package_s_step(name):
    """tau (R + L_e' omega) < L for every motor up to its limit, so that the two rules never differ."""
    motor = MOTORS[name]
    assert 1e-4 * (motor.R + motor.l_e_prime * motor.omega_limit) < motor.L
    _, i = simulate(motor, duties(2_000, seed=2)[:, None], 10.0, 10.0)
    assert (i > 0).all()


def test_the_package_clips_duties_as_we_do():
    needs_gem()
    duty = np.array([1.7, -0.3, 0.4, 5.0])
    omega, i = simulate(SCRIPT, duty[:, None])
    np.testing.assert_allclose(np.stack([omega[:, 0], i[:, 0]]), package(SCRIPT, duty), rtol=0, atol=1e-12)


def test_reward_is_the_package_s_on_a_recorded_trajectory():
    needs_gem()
    reference = wiener_reference(np.random.default_rng(0), 0.7, 400)[:, 0]
    for power, weight in ((0.5, 1_000.0), (1.0, 1.0), (2.0, 3.0)):
        seen = track_gem(lambda obs: np.full(1, 0.6), reference, power=power, weight=weight)
        ours = tracking_reward(seen["omega"], reference, SCRIPT.omega_limit, weight, power)
        np.testing.assert_allclose(seen["reward"], ours, rtol=1e-12)


def test_a_controller_sees_and_does_the_same_in_both():
    """The same feedback law in both worlds, held for five steps, to the last digits."""
    needs_gem()
    reference = sine_reference(800, hertz=5.0)
    seen = {"ours": [], "package": []}

    def law(world):
        def act(obs):
            seen[world].append(obs[0].copy())
            return 0.4 + 3.0 * (obs[:, 5] - obs[:, 0]) - 0.2 * obs[:, 2]

        return act

    ours = track(law("ours"), reference[:, None], repeat=5)
    real = track_gem(law("package"), reference, repeat=5)
    np.testing.assert_allclose(seen["ours"], seen["package"], rtol=0, atol=1e-10)
    assert np.shape(seen["ours"]) == (160, 6)
    for name in ("omega", "i", "duty"):
        np.testing.assert_allclose(ours[name][:, 0], real[name], rtol=0, atol=1e-10)


def test_the_package_with_a_monitor_ends_at_the_limit_with_its_own_violation_reward():
    needs_gem()
    motor = replace(SCRIPT, i_limit=35.0)
    seen = track_gem(lambda obs: np.ones(1), np.full(2_000, 20.0), motor, monitor=True, gamma=0.95)
    assert len(seen["i"]) < 200 and seen["i"][-1] > 35 and (seen["i"][:-1] <= 35).all()
    assert seen["reward"][-1] == pytest.approx(-1 / (1 - 0.95))


def test_noise_and_dead_time_of_the_package():
    needs_gem()
    reference = np.full(300, 20.0)
    plain, late = (track_gem(lambda obs: np.full(1, 0.5), reference, dead_time=d) for d in (0, 3))
    np.testing.assert_allclose(late["omega"][3:], plain["omega"][:-3], rtol=0, atol=1e-12)
    shown = []
    noisy = track_gem(lambda obs: shown.append(obs[0]) or np.full(1, 0.5), reference, noise=0.01, seed=1)
    np.testing.assert_allclose(noisy["omega"], plain["omega"], rtol=0, atol=1e-12)  # the true state is returned
    errors = np.array(shown)[1:, 0] * 100 - noisy["omega"][:-1]
    assert 0.8 < errors.std() < 1.2


def test_the_default_solver_is_close_to_euler():
    """0.1 ms is a short step for this motor: half a percent of the speed at most, over a hard duty sequence."""
    needs_gem()
    duty = duties(600)
    euler, exact = package(SCRIPT, duty), package(SCRIPT, duty, solver="scipy")
    assert 1e-4 < np.abs(euler - exact)[0].max() < 0.5


def test_an_absent_package_is_named_with_its_command():
    code = (
        "import sys; sys.modules['gym_electric_motor'] = None\n"
        "from minirl.envs.gem_package import make_gem\n"
        "try: make_gem()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install gym-electric-motor==3.0.3" in done.stdout


def test_an_unknown_solver_is_named():
    needs_gem()
    with pytest.raises(ValueError, match="rk7"):
        make_gem(solver="rk7")


# -------------------------------------------------------------------------------------------------------- the physics


def test_ten_steps_are_the_recorded_numbers():
    """d = 0.2 for ten steps, as recorded from the package when this model was specified."""
    omega, i = simulate(SCRIPT, np.full((10, 1), 0.2))
    assert omega[-1, 0] == pytest.approx(0.020741964536711056, abs=1e-15)
    assert SCRIPT.l_e_prime * i[-1, 0] ** 2 == pytest.approx(0.130919663, abs=1e-9)


def test_small_steps_converge_to_an_independent_solver():
    """Order one: a tenth of the step, a tenth of the error."""

    def field(t, y):
        u = 0.7 * 420.0
        di = (u - 7.0 * y[1] - 9.2e-3 * y[0] * y[1]) / 18.9e-3
        return [(9.2e-3 * y[1] ** 2 - 0.01 * y[0] * abs(y[0])) / 2e-3, di]

    exact = solve_ivp(field, (0, 0.02), [0.0, 0.0], rtol=1e-11, atol=1e-11).y[:, -1]
    errors = []
    for tau in (1e-4, 1e-5):
        omega, i = simulate(SCRIPT, np.full((round(0.02 / tau), 1), 0.7), tau=tau)
        errors.append(np.abs(np.array([omega[-1, 0], i[-1, 0]]) - exact).max())
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.05)


def test_power_is_balanced_to_second_order():
    """u i = R i^2 + d/dt (L i^2 / 2 + J omega^2 / 2) + T_L omega: per step the defect shrinks with tau^2."""
    rng = np.random.default_rng(0)
    omega, i, duty = rng.uniform(5, 50, 100), rng.uniform(5, 50, 100), rng.uniform(0, 1, 100)
    defects = []
    for tau in (1e-4, 5e-5):
        new_omega, new_i = step(FRICTION, omega, i, duty, tau)
        stored = FRICTION.L / 2 * (new_i**2 - i**2) + FRICTION.J / 2 * (new_omega**2 - omega**2)
        flows = duty * 420 * i - FRICTION.R * i**2 - load_torque(FRICTION, omega) * omega
        defects.append(np.abs(stored - tau * flows))
    np.testing.assert_allclose(defects[0] / defects[1], 4.0, rtol=1e-6)


def test_without_voltage_the_current_decays_exponentially_at_frozen_speed():
    """Duty 0 and a shaft too heavy to slow down: i(t) = i_0 exp(-(R + L_e' omega) t / L), up to O(tau)."""
    heavy = replace(SCRIPT, j_load=1e9, c=1e-9)
    tau, omega = 1e-6, 30.0
    _, i = simulate(heavy, np.zeros((3_000, 1)), omega, 40.0, tau)
    rate = (heavy.R + heavy.l_e_prime * omega) / heavy.L
    np.testing.assert_allclose(i[:, 0], 40 * (1 - tau * rate) ** np.arange(1, 3_001), rtol=1e-9)
    np.testing.assert_allclose(i[:, 0], 40 * np.exp(-rate * tau * np.arange(1, 3_001)), rtol=1e-3)


def test_equilibrium_is_a_fixed_point_and_the_root():
    duty = np.linspace(0.01, 1, 50)
    omega, i = equilibrium(SCRIPT, duty)
    new_omega, new_i = step(SCRIPT, omega, i, duty)
    np.testing.assert_allclose(new_omega, omega, rtol=1e-13)
    np.testing.assert_allclose(new_i, i, rtol=1e-13)
    np.testing.assert_allclose(equilibrium_duty(SCRIPT, omega), duty, rtol=1e-12)
    for d in (0.1, 0.5, 1.0):

        def surplus(w, d=d):
            i = d * 420 / (7.0 + 9.2e-3 * w)
            return 9.2e-3 * i**2 - 0.01 * w**2

        assert equilibrium(SCRIPT, d)[0] == pytest.approx(brentq(surplus, 1e-9, 100), rel=1e-10)


def test_full_duty_settles_where_the_text_says():
    omega, i = equilibrium(SCRIPT, 1.0)
    assert (omega, i) == (pytest.approx(53.75, abs=0.01), pytest.approx(56.04, abs=0.01))
    end_omega, end_i = simulate(SCRIPT, np.ones((5_000, 1)))
    assert (end_omega[-1, 0], end_i[-1, 0]) == (pytest.approx(omega), pytest.approx(i))
    assert equilibrium_duty(SCRIPT, 60.0) > 1


def test_the_closed_form_refuses_other_loads():
    for motor in (FRICTION, replace(SCRIPT, c=0.0)):
        with pytest.raises(ValueError, match="a = b = 0"):
            equilibrium(motor, 0.5)
        with pytest.raises(ValueError, match="a = b = 0"):
            equilibrium_duty(motor, 20.0)


def test_linearisation_by_finite_differences():
    omega = 30.0
    i = float(equilibrium(SCRIPT, equilibrium_duty(SCRIPT, omega))[1])
    A, B = linearise(SCRIPT, omega)

    def field(i, w, d):
        new_w, new_i = step(SCRIPT, np.array([w]), np.array([i]), np.array([d]), 1e-3)
        return np.array([new_i[0] - i, new_w[0] - w]) / 1e-3

    d, h = float(equilibrium_duty(SCRIPT, omega)), 1e-4
    np.testing.assert_allclose((field(i + h, omega, d) - field(i - h, omega, d)) / (2 * h), A[:, 0], rtol=1e-6)
    np.testing.assert_allclose((field(i, omega + h, d) - field(i, omega - h, d)) / (2 * h), A[:, 1], rtol=1e-6)
    np.testing.assert_allclose((field(i, omega, d + h) - field(i, omega, d - h)) / (2 * h), B, rtol=1e-6)


def test_torque_never_brakes():
    """Even with duty 0 from full speed: only the load slows the shaft down, and the current stays at or above zero."""
    omega, i = simulate(SCRIPT, np.zeros((4_000, 1)), 50.0, 50.0)
    free = replace(SCRIPT, c=1e-12)
    assert (i >= 0).all() and (np.diff(omega[200:, 0]) < 0).all()
    coasting, _ = simulate(free, np.zeros((4_000, 1)), 50.0, 0.0)
    assert coasting[-1, 0] == pytest.approx(50.0, abs=1e-6)


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("tau", [0.0, -1e-4, float("nan"), float("inf")])
def test_time_steps_must_be_positive(tau):
    with pytest.raises(ValueError, match="tau"):
        step(SCRIPT, np.zeros(1), np.zeros(1), np.zeros(1), tau)
    with pytest.raises(ValueError, match="tau"):
        SeriesDC(tau=tau)


def test_a_duty_that_is_no_number_is_named():
    duty = np.array([0.1, np.nan, 0.3])
    with pytest.raises(ValueError, match="motor 1"):
        step(SCRIPT, np.zeros(3), np.zeros(3), duty)
    envs = SeriesDC(3)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="motor 1"):
        envs.step(duty[:, None])


def test_duties_outside_the_box_are_clipped():
    envs, twin = SeriesDC(3), SeriesDC(3)
    obs, _ = envs.reset(seed=0)
    np.testing.assert_array_equal(obs, twin.reset(seed=0)[0])
    for _ in range(20):
        a = envs.step(np.array([[-4.0], [0.5], [7.0]]))
        b = twin.step(np.array([[0.0], [0.5], [1.0]]))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 2), ()])
def test_actions_of_another_shape_are_refused(shape):
    envs = SeriesDC(3)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="shape"):
        envs.step(np.zeros(shape))


@pytest.mark.parametrize(
    "fields",
    [{"l_e_prime": 0.0}, {"u_sup": -1.0}, {"r_a": 0.0, "r_e": 0.0}, {"i_limit": float("inf")}, {"c": -1e-3}],
)
def test_impossible_motors_are_refused(fields):
    with pytest.raises(ValueError, match="must"):
        Motor(**fields)


@pytest.mark.parametrize(
    "named", [{"n": 0}, {"repeat": 0}, {"horizon": 2}, {"references": (50.0, 5.0)}, {"references": (5.0, 101.0)}]
)
def test_impossible_environments_are_refused(named):
    with pytest.raises(ValueError, match=r"need|references"):
        SeriesDC(**named)


# ---------------------------------------------------------------------------------------------------- the environment


def test_the_environment_is_the_model():
    """One motor's observations and rewards rebuilt from `step` and the references it showed, one simulation step an action."""
    envs = SeriesDC(4, repeat=1)
    obs, _ = envs.reset(seed=3)
    omega, i, rng = np.zeros(4), np.zeros(4), np.random.default_rng(1)
    for _ in range(300):
        action, shown = rng.uniform(0, 1, (4, 1)), obs[:, 5] * 100
        obs, reward, terminated, truncated, _ = envs.step(action)
        omega, i = step(SCRIPT, omega, i, action[:, 0])
        want = np.stack([omega / 100, 9.2e-3 * i**2 / 92.0, i / 100, action[:, 0], np.ones(4)], axis=1)
        np.testing.assert_allclose(obs[:, :5], want, atol=1e-12)
        np.testing.assert_allclose(reward, -np.sqrt(np.abs(omega - shown) / 100), atol=1e-12)
        assert not terminated.any() and not truncated.any()


def test_an_action_is_held_and_its_rewards_are_averaged():
    slow, fast = SeriesDC(5, repeat=5), SeriesDC(5, repeat=1)
    slow.reset(seed=7)
    fast.reset(seed=7)
    action = np.linspace(0, 1, 5)[:, None]
    obs, reward, *_ = slow.step(action)
    parts = [fast.step(action) for _ in range(5)]
    np.testing.assert_allclose(obs[:, :5], parts[-1][0][:, :5], atol=1e-14)
    assert reward.shape == (5,)
    np.testing.assert_allclose(reward[0], np.mean([p[1][0] for p in parts]), atol=2e-2)  # the walks differ, a little


def test_references_stay_in_range_and_have_the_stated_step():
    envs = SeriesDC(64, repeat=1, sigma=(5e-3, 5e-3), references=(5.0, 50.0))
    obs, _ = envs.reset(seed=0)
    seen = [obs[:, 5]]
    for _ in range(2_000):
        seen.append(envs.step(np.full((64, 1), 0.5))[0][:, 5])
    walk = 100 * np.array(seen)
    assert walk.min() >= 5 - 1e-9 and walk.max() <= 50 + 1e-9
    inside = (walk[1:] > 7) & (walk[1:] < 48) & (walk[:-1] > 7) & (walk[:-1] < 48)
    assert np.diff(walk, axis=0)[inside].std() == pytest.approx(0.5, rel=0.02)


def test_the_monitor_terminates_with_the_violation_reward_and_restarts():
    motor = replace(SCRIPT, i_limit=35.0)
    envs = SeriesDC(2, motor, violation_reward=-20.0)
    envs.reset(seed=0)
    duty = np.array([[1.0], [0.1]])
    for _ in range(4):  # L di/dt is u at first: 35 A within 2.5 ms
        assert not envs.step(duty)[2].any()
    obs, reward, terminated, truncated, info = envs.step(duty)
    assert terminated.tolist() == [True, False] and not truncated.any()
    assert reward[0] == -20 and reward[1] > -1 and info["crossings"].tolist() == [1, 0]
    assert info["final_obs"][0, 2] > 1 and obs[0, 0] == obs[0, 2] == obs[0, 3] == 0
    assert obs[1, 2] > 0 and np.array_equal(info["final_obs"][1], obs[1])


def test_without_a_monitor_crossings_are_counted_and_nothing_ends():
    envs = SeriesDC(1, replace(SCRIPT, i_limit=35.0))
    envs.reset(seed=0)
    total = 0
    for duty in [1.0] * 40 + [0.0] * 40 + [1.0] * 40:
        *_, terminated, truncated, info = envs.step(np.array([[duty]]))
        total += int(info["crossings"][0])
        assert not terminated.any() and not truncated.any()
    assert total == 2, "up twice"


def test_a_horizon_truncates_and_the_core_rollout_sees_the_true_successor():
    envs = SeriesDC(3, horizon=50, repeat=5)
    steps = []
    for t in rollout(envs, lambda obs: np.full((3, 1), 0.6), seed=0):
        steps.append(t)
        if len(steps) == 25:
            break
    ends = [bool(t.truncated.all()) for t in steps]
    assert ends == ([False] * 9 + [True]) * 2 + [False] * 5
    assert not any(t.terminated.any() for t in steps)
    assert (steps[9].next_obs[:, 2] > 0).all() and (steps[10].obs[:, 2] == 0).all()


def test_the_seed_fixes_everything_and_spaces_are_gymnasium_s():
    runs = []
    for _ in range(2):
        envs = SeriesDC(3)
        assert isinstance(envs, gym.vector.VectorEnv) and envs.single_action_space.shape == (1,)
        runs.append([t.next_obs for t, _ in zip(rollout(envs, lambda o: o[:, 5:], 5), range(30), strict=False)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert envs.single_observation_space.contains(runs[0][-1][0])


def test_measurement_noise_belongs_to_the_seed():
    """Twice the same seed, then another; what is returned is the true state, moved by what the controller saw."""
    needs_gem()

    def end(seed):
        return track_gem(lambda obs: obs[:, 5] - obs[:, 0], np.full(200, 20.0), noise=0.01, seed=seed)["omega"][-1]

    assert end(0) == end(0) != end(1)


# --------------------------------------------------------------------------------------------------------- references


def test_walks_are_clipped_random_walks():
    walk = wiener_reference(np.random.default_rng(0), np.array([0.1, 0.7]), 20_000, 2)
    assert walk.shape == (20_000, 2) and walk.min() >= 5 and walk.max() <= 50
    moves = np.diff(walk, axis=0)
    for j, sigma in enumerate((0.1, 0.7)):
        inside = (walk[1:, j] > 8) & (walk[1:, j] < 47) & (walk[:-1, j] > 8) & (walk[:-1, j] < 47)
        assert moves[inside, j].std() == pytest.approx(sigma, rel=0.05)  # a five-sigma event would break this


def test_given_references():
    np.testing.assert_array_equal(step_reference(6, 1.0, 2.0, every=2), [1, 1, 2, 2, 1, 1])
    sine = sine_reference(20_000)
    assert sine[0] == 27.5 and sine.min() == pytest.approx(5) and sine.max() == pytest.approx(50)
    assert sine[5_000] == pytest.approx(50)


def test_tracking_error_drops_the_start():
    omega = np.r_[np.full(500, 90.0), np.full(100, 21.0)][:, None]
    assert tracking_error(omega, np.full((600, 1), 20.0)) == pytest.approx(0.01)
