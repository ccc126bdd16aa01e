"""A point on the plane with four equally good goals: where a policy with entropy differs from one without.

Rebuilt from the description of the demonstration that accompanies SAC (Haarnoja et al. 2018, arXiv:1812.05905):
position in [-7, 7]^2, start N(0, 0.1^2), the action in [-1, 1]^2 is added to the position, goals at (+-5, 0) and
(0, +-5), reward -30 |a|^2 - min_g |x - g|^2, and +10 with the end of the episode within distance 1 of a goal.
"""

import gymnasium as gym
import numpy as np

GOALS = np.array([[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0], [0.0, -5.0]])


class MultiGoal(gym.Env):
    """Observation: the position (2,). Action: the displacement (2,) in [-1, 1]."""

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium's convention
    observation_space = gym.spaces.Box(-7.0, 7.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.position = self.np_random.normal(0.0, 0.1, 2)
        return self.position.astype(np.float32), {}

    def step(self, action: np.ndarray):
        action = np.clip(action, -1.0, 1.0)
        self.position = np.clip(self.position + action, -7.0, 7.0)
        squares = ((self.position - GOALS) ** 2).sum(1)
        arrived = bool(squares.min() < 1.0)
        reward = -30.0 * float(action @ action) - float(squares.min()) + 10.0 * arrived
        return self.position.astype(np.float32), reward, arrived, False, {}
