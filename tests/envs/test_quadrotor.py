"""Physics of the quadrotor against closed forms, conservation laws and an ODE solver; the vector environment and bad input."""

import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.spatial.transform import Rotation
from scipy.stats import chi2, kstest

import minirl.envs  # noqa: F401 - registers Quadrotor-v0
from minirl.envs import quadrotor as qr
from minirl.envs.quadrotor import TAU, F, M, P, Params, Q, Quadrotor, V, W

DT = 0.01
CRAZYFLIE = Params()
HOVER_RPM = qr.hover_rpm()


def state(N=1, **parts):
    """(23, N) float64: at rest in the origin, level, motors at hover, no wind; `parts` by name of the block."""
    x = np.zeros((23, N))
    x[Q.start], x[M] = 1, HOVER_RPM
    for name, value in parts.items():
        block = {"p": P, "q": Q, "v": V, "w": W, "n": M, "f": F, "tau": TAU}[name]
        x[block] = np.reshape(value, (-1, 1) if np.ndim(value) == 1 else np.shape(value))
    return x


def random_states(n, seed=0):
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(4, n))
    return state(
        n, p=rng.uniform(-0.3, 0.3, (3, n)), q=q / np.linalg.norm(q, axis=0), v=rng.normal(size=(3, n)),
        w=rng.normal(size=(3, n)), n=rng.uniform(0, 21_702, (4, n)), f=rng.normal(0, 0.013, (3, n)),
        tau=rng.normal(0, 2.6e-5, (3, n)),
    )  # fmt: skip


def constants(params=CRAZYFLIE, dt=DT, dtype=np.float64, weights=qr.REWARD_TARGET):
    return qr.Coefficients(params, dt, weights, 0.6, lambda c: np.array(c, dtype))


def step(x, action, params=CRAZYFLIE, dt=DT):
    """One step, (23, n) -> (23, n)."""
    return qr.physics(x, np.broadcast_to(action, (4, x.shape[1])), constants(params, dt))[0]


def simulate(x, action, seconds, params=CRAZYFLIE, dt=DT):
    for _ in range(round(seconds / dt)):
        x = step(x, action, params, dt)
    return x


def plain_rk4(x, action, params, dt):
    """Runge-Kutta on `derivative` for all 23 numbers, as in a textbook."""
    f = lambda x: qr.derivative(x, qr.to_rpm(action, params), params)  # noqa: E731
    k1 = f(x)
    k2 = f(x + dt / 2 * k1)
    k3 = f(x + dt / 2 * k2)
    k4 = f(x + dt * k3)
    new = x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    new[Q] /= np.linalg.norm(new[Q], axis=0)
    new[M] = new[M].clip(0, params.rpm_max)
    return new


def momentum(x, params):
    """Angular momentum in the world frame (3, n), and the energy of rotation (n,)."""
    J = np.array(params.inertia)[:, None]
    R = Rotation.from_quat(x[Q].T, scalar_first=True)
    return R.apply((J * x[W]).T).T, 0.5 * (J * x[W] ** 2).sum(axis=0)


# ------------------------------------------------------------------------------------------------------- the physics


@pytest.mark.parametrize(
    "params", [Params(), Params(inertia=(2e-6, 4e-6, 7e-6), lag=0.03)], ids=["crazyflie", "uneven"]
)
@pytest.mark.parametrize("dt", [0.01, 0.002])
def test_the_fast_step_is_runge_kutta_on_the_derivative(params, dt):
    x = random_states(50)
    action = np.random.default_rng(1).uniform(-1, 1, (4, 50))
    np.testing.assert_allclose(step(x, action, params, dt), plain_rk4(x, action, params, dt), rtol=1e-11, atol=1e-11)


def test_derivative_is_that_of_the_textbook():
    """Rotation matrix, torques r x T e_z and Euler's equation written with vectors, one drone at a time."""
    x, params = random_states(20), Params(inertia=(2e-6, 4e-6, 7e-6))
    command = np.random.default_rng(2).uniform(0, 21_702, (4, 20))
    rate = qr.derivative(x, command, params)
    places = np.array([(0.028, -0.028, 0), (-0.028, -0.028, 0), (-0.028, 0.028, 0), (0.028, 0.028, 0)])
    J, ez = np.diag(params.inertia), np.array([0, 0, 1.0])
    for i in range(20):
        R = Rotation.from_quat(x[Q, i], scalar_first=True)
        T, w = 3.16e-10 * x[M, i] ** 2, x[W, i]
        torque = sum(np.cross(r, t * ez) for r, t in zip(places, T, strict=True)) + x[TAU, i]
        torque = torque + 0.005964552 * (-T[0] + T[1] - T[2] + T[3]) * ez
        np.testing.assert_allclose(rate[V, i], R.apply(T.sum() * ez) / 0.027 - 9.81 * ez + x[F, i] / 0.027, atol=1e-12)
        np.testing.assert_allclose(rate[W, i], np.linalg.solve(J, torque - np.cross(w, J @ w)), rtol=1e-10)
        np.testing.assert_allclose(rate[M, i], (command[:, i] - x[M, i]) / 0.15)
        h = 1e-6  # dq/dt by turning the body a little: R(t + h) = R(t) exp(h w)
        turned = (R * Rotation.from_rotvec(h * w)).as_quat(scalar_first=True)
        turned *= np.sign(turned @ x[Q, i])
        np.testing.assert_allclose(rate[Q, i], (turned - x[Q, i]) / h, atol=1e-5)


def test_free_fall_is_exact():
    """Motors off and standing: z = v_0 t - g t^2 / 2, for a polynomial of degree 2 Runge-Kutta is exact."""
    x = simulate(state(n=[0, 0, 0, 0], v=[0.3, -0.2, 1.0]), np.full((4, 1), -1.0), 0.5)
    np.testing.assert_allclose(x[P, 0], [0.15, -0.1, 0.5 - 9.81 * 0.125], atol=1e-12)
    np.testing.assert_allclose(x[V, 0], [0.3, -0.2, 1.0 - 9.81 * 0.5], atol=1e-12)


def test_hover_is_an_equilibrium():
    """Stationary to 1e-9 for five seconds; the hover action is 0.334, the reward's."""
    x = simulate(state(), np.full((4, 1), qr.HOVER), 5.0)
    np.testing.assert_allclose(x, state(), rtol=1e-13, atol=1e-9)
    assert round(qr.HOVER, 5) == 0.33405 and round(HOVER_RPM) == 14_476
    assert 4 * 3.16e-10 * HOVER_RPM**2 == pytest.approx(0.027 * 9.81, rel=1e-14)
    assert 4 * 3.16e-10 * 21_702**2 / (0.027 * 9.81) == pytest.approx(2.25, abs=0.005)


def test_pure_yaw_turns_at_a_constant_rate():
    x = simulate(state(w=[0, 0, 2.0]), np.full((4, 1), qr.HOVER), 0.5)
    np.testing.assert_allclose(x[Q, 0], [np.cos(0.5), 0, 0, np.sin(0.5)], atol=1e-9)
    np.testing.assert_allclose(x[W, 0], [0, 0, 2.0], atol=1e-12)
    np.testing.assert_allclose(x[P, 0], 0, atol=1e-9)


@pytest.mark.parametrize("inertia", [(3.85e-6, 3.85e-6, 5.9675e-6), (2e-6, 4e-6, 7e-6)])
def test_torque_free_tumbling_conserves_energy_and_angular_momentum(inertia):
    params = Params(inertia=inertia)
    x = random_states(20, seed=3)
    x[M], x[F], x[TAU], x[W] = 0, 0, 0, 3 * x[W]
    L, E = momentum(x, params)
    x = simulate(x, np.full((4, 20), -1.0), 2.0, params)
    L2, E2 = momentum(x, params)
    np.testing.assert_allclose(E2, E, rtol=1e-6)
    np.testing.assert_allclose(L2, L, atol=1e-6 * np.linalg.norm(L, axis=0).max())


def test_the_middle_axis_is_unstable_and_the_others_are_not():
    """Sign of the gyroscopic term: a small push grows at the rate sqrt((J2 - J1)(J3 - J2) / (J1 J3)) w about the middle axis."""
    J = np.array([2e-6, 4e-6, 7e-6])
    params, rate = Params(inertia=tuple(J)), 5.0
    for axis in range(3):
        w = np.full(3, 1e-6)
        w[axis] = rate
        x = state(n=[0] * 4, w=w)
        path = np.array([(x := step(x, np.full((4, 1), -1.0), params))[W, 0] for _ in range(200)])
        others = np.abs(np.delete(path, axis, axis=1)).max(axis=1)
        if axis == 1:
            growth = np.log(others[150] / others[50])
            assert growth == pytest.approx(rate * np.sqrt((J[1] - J[0]) * (J[2] - J[1]) / (J[0] * J[2])), rel=0.03)
        else:
            assert others.max() < 5e-6


def test_euler_equation_has_the_right_sign_for_a_symmetric_top():
    """(w_x, w_y) of a top with J_x = J_y precesses with the angle (J_z - J) / J w_z t, in this direction."""
    params, t = Params(), 0.5
    x = simulate(state(n=[0] * 4, w=[1.0, 0, 3.0]), np.full((4, 1), -1.0), t, params)
    angle = (params.inertia[2] - params.inertia[0]) / params.inertia[0] * 3.0 * t
    np.testing.assert_allclose(x[W, 0], [np.cos(angle), np.sin(angle), 3.0], atol=1e-8)


@pytest.mark.parametrize("rotor, torque", [(0, (-1, -1, -1)), (1, (-1, 1, 1)), (2, (1, 1, -1)), (3, (1, -1, 1))])
def test_which_way_each_rotor_turns_the_body(rotor, torque):
    """More thrust front right (x > 0, y < 0): the right side goes up, so roll is negative; the nose goes up, so pitch is negative."""
    n = np.full(4, HOVER_RPM)
    n[rotor] *= 1.05
    rate = qr.derivative(state(n=n), np.full((4, 1), HOVER_RPM))[W, 0]
    np.testing.assert_array_equal(np.sign(rate), torque)


def test_mixer_inverts_and_hover_is_its_preimage():
    A = qr.mixer()
    thrusts = np.linalg.solve(A, [0.027 * 9.81, 0, 0, 0])
    np.testing.assert_allclose(np.sqrt(thrusts / 3.16e-10), HOVER_RPM)
    places = np.array([(0.028, -0.028), (-0.028, -0.028), (-0.028, 0.028), (0.028, 0.028)])
    np.testing.assert_allclose(A[1], places[:, 1])
    np.testing.assert_allclose(A[2], -places[:, 0])


def test_motors_answer_with_their_time_constant():
    """1 - exp(-t / T_m), to the accuracy of Runge-Kutta; and with lag 0 at once."""
    x, goal = state(n=[0] * 4), qr.to_rpm(0.5)
    for k in range(1, 100):
        x = step(x, np.full((4, 1), 0.5))
        np.testing.assert_allclose(x[M, 0] / goal, 1 - np.exp(-k * DT / 0.15), atol=1e-7)
    np.testing.assert_allclose(step(state(), np.full((4, 1), 0.5), Params(lag=0.0))[M, 0], goal)


def test_32_commands_tell_the_rotor_speed_up_to_the_forgotten_share():
    """n is a filter of past commands; what is forgotten after 0.32 s is exp(-0.32 / 0.15) = 11.8 % of the initial gap."""
    rng = np.random.default_rng(0)
    keep = np.exp(-DT / 0.15)
    actions = rng.uniform(-1, 1, (32, 4))
    for n0 in rng.uniform(0, 21_702, 20):
        x, guess = state(n=[n0] * 4), np.full(4, 10_851.0)
        for a in actions:
            x = step(x, a[:, None])
            guess = keep * guess + (1 - keep) * qr.to_rpm(a)
        share = (x[M, 0] - guess) / (n0 - 10_851.0)
        np.testing.assert_allclose(share, np.exp(-0.32 / 0.15), atol=1e-4)
    assert round(100 * np.exp(-0.32 / 0.15), 1) == 11.8


def test_error_falls_by_sixteen_when_the_step_is_halved():
    """Order 4, against an ODE solver at 1e-12: ratios between 14 and 19."""
    x = random_states(8, seed=4)
    x[M] = HOVER_RPM
    action = qr.HOVER + np.random.default_rng(5).uniform(-0.1, 0.1, (4, 8))
    exact = np.empty_like(x)
    for i in range(8):
        f = lambda t, y, i=i: qr.derivative(y, qr.to_rpm(action[:, i]))  # noqa: E731
        exact[:, i] = solve_ivp(f, (0, 0.1), x[:, i], method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    exact[Q] /= np.linalg.norm(exact[Q], axis=0)
    size = np.maximum(np.abs(exact), 1e-2)
    errors = [np.abs((simulate(x, action, 0.1, dt=dt) - exact) / size)[:13].max() for dt in (0.02, 0.01, 0.005)]
    assert all(14 < a / b < 19 for a, b in zip(errors[:-1], errors[1:], strict=True)), errors


def test_a_mirror_image_flies_as_the_mirror_image():
    """x -> -x: rotors front and back change places, and axial vectors keep x and lose the sign of y and z."""
    polar, axial = np.array([-1, 1, 1])[:, None], np.array([1, -1, -1])[:, None]
    swap = [1, 0, 3, 2]

    def mirror(x):
        y = x.copy()
        y[P], y[V], y[F] = polar * x[P], polar * x[V], polar * x[F]
        y[W], y[TAU], y[Q.start + 1 : Q.stop] = axial * x[W], axial * x[TAU], axial * x[Q.start + 1 : Q.stop]
        y[M] = x[M][swap]
        return y

    x = random_states(20, seed=6)
    action = np.random.default_rng(7).uniform(-1, 1, (4, 20))
    np.testing.assert_allclose(
        mirror(simulate(x, action, 0.2)), simulate(mirror(x), action[swap], 0.2), atol=1e-9, rtol=1e-9
    )


def test_q_and_minus_q_are_the_same_rotation():
    x = random_states(10)
    y = x.copy()
    y[Q] *= -1
    action = np.random.default_rng(8).uniform(-1, 1, (4, 10))
    a, b = step(x, action), step(y, action)
    np.testing.assert_allclose(b[Q], -a[Q], atol=1e-14)
    np.testing.assert_allclose(qr.seen(b), qr.seen(a), atol=1e-13)


def test_what_is_seen_is_the_rotation_matrix():
    x = random_states(30)
    R = Rotation.from_quat(x[Q].T, scalar_first=True).as_matrix()
    found = qr.seen(x)
    np.testing.assert_allclose(found[3:12].T.reshape(-1, 3, 3), R, atol=1e-12)
    np.testing.assert_array_equal(found[[0, 1, 2, 12, 13, 14, 15, 16, 17]], x[[0, 1, 2, 7, 8, 9, 10, 11, 12]])


# ------------------------------------------------------------------------------------------------ reward, termination


def test_reward_by_hand():
    """Of the state before the step; 1 - q_w^2 is sin^2 of half the angle; the action is compared with hover."""
    angle = 0.8
    x = state(p=[0.1, -0.2, 0.3], q=[np.cos(angle / 2), np.sin(angle / 2), 0, 0], v=[1.0, 0, -1.0])
    action = np.array([0.0, 0.5, -0.5, 1.0])
    for w_p, w_q, w_v, w_a in (qr.REWARD_START, qr.REWARD_TARGET):
        by_hand = 2 - 0.5 * (
            w_p * 0.14 + w_q * np.sin(angle / 2) ** 2 + w_v * 2 + w_a * ((action - qr.HOVER) ** 2).sum()
        )
        k = constants(weights=(w_p, w_q, w_v, w_a))
        assert qr.physics(x, action[:, None], k)[1][0] == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_leaving_the_box_ends_the_episode_and_pays_nothing(axis, sign):
    p, v = np.zeros(3), np.zeros(3)
    p[axis], v[axis] = sign * 0.599, sign * 1.0
    x = state(2, p=np.stack([p, 0.9 * p], 1), v=np.stack([v, v], 1))
    _, reward, far = qr.physics(x, np.full((4, 2), qr.HOVER), constants())
    assert (far > 0.6).tolist() == [True, False] and reward[0] == 0 and reward[1] != 0


def test_five_seconds_truncate_and_do_not_terminate():
    envs = Quadrotor(2, disturbance=0, noise=0, dtype="float64")
    still = state(2)
    envs.reset(seed=0, options={"state": still})
    for k in range(1, 501):
        _, _, terminated, truncated, info = envs.step(np.full((2, 4), qr.HOVER))
        assert not terminated.any() and truncated.all() == (k == 500)
    np.testing.assert_allclose(info["final_obs"][:, :3], 0, atol=1e-9)
    assert info["_final_obs"].all() and (envs.age == 0).all()
    assert (np.abs(envs.x[P]) > 1e-3).any()  # a new episode has begun


# ------------------------------------------------------------------------------------------- the vector environment


def test_the_history_is_the_clipped_actions_oldest_first():
    envs = Quadrotor(3, noise=0, box=1e9, copy=False)
    rng = np.random.default_rng(0)
    obs, _ = envs.reset(seed=1)
    history = np.zeros((3, 32, 4), np.float32)
    np.testing.assert_array_equal(obs[:, 18:], 0)
    for _ in range(120):
        action = rng.uniform(-1.5, 1.5, (3, 4)).astype(np.float32)
        obs, *_ = envs.step(action)
        history = np.concatenate([history[:, 1:], action.clip(-1, 1)[:, None]], axis=1)
        np.testing.assert_array_equal(obs[:, 18:], history.reshape(3, -1))
        np.testing.assert_allclose(obs[:, :18], qr.seen(envs.x).T, rtol=1e-6)


def test_views_and_copies_hold_the_same_numbers():
    a, b = Quadrotor(50, copy=True), Quadrotor(50, copy=False)
    rng = np.random.default_rng(0)
    first, _ = a.reset(seed=3)
    kept = first.copy()
    b.reset(seed=3)
    for _ in range(100):
        action = rng.uniform(-1, 1, (50, 4))
        for x, y in zip(a.step(action)[:4], b.step(action)[:4], strict=True):
            np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(first, kept)


def test_a_reset_inside_a_step_keeps_the_last_observation_and_touches_no_neighbour():
    """An environment that never resets (a huge box) flies the same: compare final observations and the rows that go on."""
    n, rng = 64, np.random.default_rng(0)
    envs, free = Quadrotor(n, noise=0), Quadrotor(n, noise=0, box=1e9)
    envs.reset(seed=5)
    free.reset(options={"state": envs.x.astype(np.float64)})
    alive, ends = np.ones(n, bool), 0
    for _ in range(60):
        action = rng.uniform(-1, 1, (n, 4))
        obs, _, terminated, truncated, info = envs.step(action)
        reference, *_ = free.step(action)
        assert not truncated.any()
        went_on = alive & ~terminated
        np.testing.assert_allclose(obs[went_on], reference[went_on], atol=2e-3)
        ended = alive & terminated
        ends += ended.sum()
        if ended.any():
            np.testing.assert_array_equal(info["_final_obs"], terminated)
            np.testing.assert_allclose(info["final_obs"][ended], reference[ended], atol=2e-3)
            np.testing.assert_allclose(info["final_privileged"][ended, :18], reference[ended, :18], atol=2e-3)
            assert (np.abs(info["final_obs"][ended, :3]).max(axis=1) > 0.6).all()
            assert (np.abs(obs[ended, :3]) <= 0.2 + 1e-6).all() and (obs[ended, 18:] == 0).all()
            assert (envs.age[ended] == 0).all()
        alive &= ~terminated
    assert ends > 30


def test_privileged_observation():
    envs = Quadrotor(7, dtype="float64")
    obs, _ = envs.reset(seed=0)
    c = envs.privileged()
    assert c.shape == (7, 28)
    np.testing.assert_allclose(c[:, :18], qr.seen(envs.x).T)
    np.testing.assert_array_equal(c[:, 18:24], envs.x[17:].T)
    np.testing.assert_allclose(c[:, 24:], 0, atol=1e-12)
    assert 0 < np.abs(obs[:, :18] - c[:, :18]).max() < 0.02


def test_starts_have_the_distribution_of_the_model():
    """20,000 starts. Bounds of five standard errors or a Kolmogorov-Smirnov p above 1e-6: fails once in 10^5 seeds."""
    n = 20_000
    envs = Quadrotor(n, dtype="float64")
    envs.reset(seed=0)
    x = envs.x
    guided = (x[P] == 0).all(axis=0)
    assert guided.mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / n))
    np.testing.assert_array_equal(x[Q][:, guided], np.array([[1.0], [0], [0], [0]]).repeat(guided.sum(), 1))
    angle = 2 * np.arccos(np.abs(x[3][~guided]).clip(0, 1))
    assert angle.max() <= np.pi / 2 + 1e-9
    share = (np.pi / 2 - 1) / np.pi
    assert kstest(angle, lambda a: (a - np.sin(a)) / np.pi / share).pvalue > 1e-6  # uniform on SO(3), cut at 90 degrees
    for block, scale in ((x[P][:, ~guided], 0.2), (x[V], 1.0), (x[W], 1.0)):
        assert kstest(block.ravel() / scale, "uniform", (-1, 2)).pvalue > 1e-6
    assert kstest(x[F].ravel() / (0.027 * 9.81 / 20), "norm").pvalue > 1e-6
    assert kstest(x[TAU].ravel() / (0.027 * 9.81 / 10_000), "norm").pvalue > 1e-6
    assert (x[M] == 10_851).all()


def test_measurement_noise():
    n = 20_000
    envs = Quadrotor(n, dtype="float64")
    obs, _ = envs.reset(seed=0)
    noise = (obs[:, :18] - qr.seen(envs.x).T) / np.repeat([0.001, 0.001, 0.002, 0.002], [3, 9, 3, 3])
    assert kstest(noise.ravel()[::7], "norm").pvalue > 1e-6
    assert np.abs(np.corrcoef(noise.T) - np.eye(18)).max() < 6 / np.sqrt(n)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian_numbers(dtype):
    """Kolmogorov-Smirnov, mean square against chi^2, and no correlation inside a pair; each fails by chance once in 10^6."""
    z = qr.gaussian(np.random.default_rng(0), (3, 33_333), dtype)
    assert z.dtype == dtype and z.shape == (3, 33_333) and np.isfinite(z).all()
    assert kstest(z.ravel().astype(float), "norm").pvalue > 1e-6
    low, high = chi2.interval(1 - 1e-6, z.size)
    assert low < (z.astype(float) ** 2).sum() < high
    flat, half = z.ravel().astype(float), (z.size + 1) // 2
    assert abs(np.corrcoef(flat[: z.size - half], flat[half:])[0, 1]) < 5 / np.sqrt(half)


def test_one_seed_gives_one_flight():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (80, 16, 4))

    def fly(seed):
        envs = Quadrotor(16)
        out = [envs.reset(seed=seed)[0]]
        return np.stack(out + [envs.step(a)[0] for a in actions])

    np.testing.assert_array_equal(fly(1), fly(1))
    assert np.abs(fly(1) - fly(2)).max() > 0.1


def test_it_is_registered_and_speaks_the_interface_of_gymnasium():
    envs = gym.make_vec("Quadrotor-v0", num_envs=5, vectorization_mode="vector_entry_point")
    obs, _ = envs.reset(seed=0)
    assert envs.observation_space.shape == obs.shape == (5, 146) and obs.dtype == np.float32
    assert envs.metadata["autoreset_mode"] == gym.vector.AutoresetMode.SAME_STEP
    obs, reward, terminated, truncated, _ = envs.step(envs.action_space.sample())
    assert obs.shape == (5, 146) and reward.shape == terminated.shape == truncated.shape == (5,)
    assert terminated.dtype == truncated.dtype == bool


def test_rollout_of_the_course_understands_it():
    from minirl.core.rollout import rollout

    envs, ended = Quadrotor(32), 0
    rng = np.random.default_rng(0)
    for k, t in enumerate(rollout(envs, lambda obs: rng.uniform(-1, 1, (32, 4)), 0)):
        ended += t.terminated.sum()
        assert (np.abs(t.next_obs[t.terminated, :3]).max(axis=1, initial=1) > 0.59).all()
        if k == 80:
            break
    assert ended > 10


# ------------------------------------------------------------------------------------------------ torch and compiling


def torch_physics(x, action, compile=False):
    k = qr.Coefficients(Params(), DT, qr.REWARD_TARGET, 0.6)
    fn = lambda x, a: qr.physics(x, a, k)  # noqa: E731
    return (torch.compile(fn, dynamic=False) if compile else fn)(torch.from_numpy(x), torch.from_numpy(action))


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_torch_computes_what_numpy_computes(dtype, tolerance):
    x, action = random_states(64).astype(dtype), np.random.default_rng(9).uniform(-1, 1, (4, 64)).astype(dtype)
    ours = qr.physics(x, action, constants(dtype=dtype))
    theirs = torch_physics(x, action)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(b.numpy(), a, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(qr.seen(torch.from_numpy(x)).numpy(), qr.seen(x), atol=tolerance)


@pytest.mark.slow
def test_compiled_steps_equal_eager_ones():
    """100 steps of 256 drones, no reset between them; float32 rounding only."""
    eager, fast = (Quadrotor(256, device="cpu", compile=c, box=1e6, noise=0) for c in (False, True))
    start = random_states(256)
    eager.reset(options={"state": start}), fast.reset(options={"state": start})
    rng = np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(100):
            action = rng.uniform(-1, 1, (256, 4))
            a, b = eager.step(action), fast.step(action)
    if any("not compiled" in str(w.message) for w in caught):
        pytest.skip("no working C++ compiler on this machine")
    np.testing.assert_allclose(fast.x[:13].numpy(), eager.x[:13].numpy(), rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(b[1].numpy(), a[1].numpy(), rtol=2e-3, atol=2e-3)
    x, action = random_states(64).astype(np.float32), rng.uniform(-1, 1, (4, 64)).astype(np.float32)
    for one, two in zip(torch_physics(x, action, compile=True), torch_physics(x, action), strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-5, atol=1e-5)


def test_without_a_compiler_it_says_so_and_flies_on(monkeypatch):
    def broken(fn, **options):
        def call(*args):
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    envs = Quadrotor(4, device="cpu", compile=True)
    envs.reset(seed=0)
    with pytest.warns(UserWarning, match="not compiled and slower .InvalidCxxCompiler"):
        envs.step(np.zeros((4, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        obs, *_ = envs.step(np.zeros((4, 4)))
    assert torch.isfinite(obs).all()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_torch_environment_resets_like_the_other(device):
    """The code of a GPU at small N: same starts' distribution, histories, flags; on the CPU when there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU on this machine")
    envs = Quadrotor(64, device=device, noise=0, horizon=50)
    obs, _ = envs.reset(seed=0)
    again, _ = Quadrotor(64, device=device, noise=0).reset(seed=0)
    assert torch.equal(obs, again) and obs.device.type == device
    rng, last, ended, timeouts = np.random.default_rng(0), None, 0, 0
    for _ in range(60):
        action = torch.as_tensor(rng.uniform(-1.2, 1.2, (64, 4)), dtype=torch.float32, device=device)
        obs, reward, terminated, truncated, info = envs.step(action)
        assert not (terminated & truncated).any() and (reward[terminated] == 0).all()
        done = terminated | truncated
        np.testing.assert_allclose(obs[:, :18].cpu().numpy(), qr.seen(envs.x).T.cpu().numpy(), atol=1e-6)
        if done.any():
            assert torch.equal(info["final_obs"][done, 142:], action[done].clip(-1, 1))
            assert (obs[done, 18:] == 0).all()
            out = info["final_obs"][terminated, :3].abs().amax(1)
            assert (out > 0.6).all()
        assert torch.equal(obs[~done, 142:], action[~done].clip(-1, 1))
        ended, timeouts, last = ended + int(terminated.sum()), timeouts + int(truncated.sum()), obs
    assert ended > 30 and torch.isfinite(last).all()
    assert envs.privileged().shape == (64, 28)


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("dt", [0, -0.01, float("nan")])
def test_a_time_step_must_be_positive(dt):
    with pytest.raises(ValueError, match=r"^dt must be positive"):
        Quadrotor(1, dt=dt)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"params": Params(lag=0.001)}, "^lag must be 0 or at least dt / 2"),
        ({"num_envs": 0}, "^num_envs must be at least 1"),
        ({"horizon": 0}, "^horizon must be at least 1"),
        ({"history": 0}, "^history must be at least 1"),
        ({"compile": True}, "^compile needs torch"),
        ({"weights": (1, 1, 1)}, "^weights must be four numbers"),
        ({"weights": (1, 1, 1, -1)}, "^weights must be four numbers"),
    ],
)
def test_settings_that_make_no_sense_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Quadrotor(**{"num_envs": 2} | arguments)


@pytest.mark.parametrize(
    "field", [{"mass": 0}, {"arm": -1}, {"k_f": 0}, {"lag": -0.1}, {"inertia": (1, 1, 0)}, {"kappa": float("nan")}]
)
def test_impossible_vehicles_are_refused(field):
    with pytest.raises(ValueError, match=rf"^{next(iter(field))} must"):
        replace(Params(), **field)


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_no_number_is_named_and_nothing_is_simulated(device, value):
    envs = Quadrotor(3, device=device)
    envs.reset(seed=0)
    before, action = np.asarray(envs.x).copy(), np.zeros((3, 4))
    action[1, 2] = value
    with pytest.raises(ValueError, match="action 2 of environment 1"):
        envs.step(action)
    np.testing.assert_array_equal(np.asarray(envs.x), before)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_an_action_outside_the_box_acts_as_its_nearest_neighbour(device):
    a, b = (Quadrotor(2, device=device) for _ in range(2))
    a.reset(seed=0), b.reset(seed=0)
    np.testing.assert_array_equal(np.asarray(a.step(np.full((2, 4), 7.0))[0]), np.asarray(b.step(np.ones((2, 4)))[0]))


def test_actions_of_a_wrong_shape_are_refused():
    envs = Quadrotor(3)
    envs.reset(seed=0)
    for shape in ((4,), (4, 3), (2, 4), (3, 5)):
        with pytest.raises(ValueError, match=r"^actions must have the shape \(3, 4\)"):
            envs.step(np.zeros(shape))


def test_a_quaternion_that_is_no_rotation_is_refused_and_rounding_is_repaired():
    envs = Quadrotor(2, dtype="float64")
    bad = state(2)
    bad[Q, 1] = [0.9, 0, 0, 0]
    with pytest.raises(ValueError, match=r"quaternion of environment 1 has the length 0\.9"):
        envs.reset(options={"state": bad})
    bad[Q, 1] = 0
    with pytest.raises(ValueError, match="quaternion of environment 1 has the length 0"):
        envs.reset(options={"state": bad})
    nearly = state(2)
    nearly[3] = 1.0005
    envs.reset(options={"state": nearly})
    np.testing.assert_allclose(envs.x[Q], state(2)[Q])


def test_states_of_a_wrong_kind_are_refused():
    envs = Quadrotor(2)
    with pytest.raises(ValueError, match=r"shape \(23,\) or \(23, 2\)"):
        envs.reset(options={"state": np.zeros((23, 3))})
    broken = state(2)
    broken[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        envs.reset(options={"state": broken})
    envs.reset(options={"state": state()[:, 0]})
    assert (envs.x == envs.x[:, :1]).all()
