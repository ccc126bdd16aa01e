"""Our simulators, one file each; importing this package registers them with gymnasium."""

import gymnasium as gym

if "MultiGoal-v0" not in gym.registry:
    gym.register("MultiGoal-v0", entry_point="minirl.envs.multigoal:MultiGoal", max_episode_steps=30)
if "Quadrotor-v0" not in gym.registry:
    gym.register("Quadrotor-v0", vector_entry_point="minirl.envs.quadrotor:Quadrotor")
