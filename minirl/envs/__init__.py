"""Our simulators, one file each; importing this package registers them with gymnasium."""

import gymnasium as gym

if "MultiGoal-v0" not in gym.registry:
    gym.register("MultiGoal-v0", entry_point="minirl.envs.multigoal:MultiGoal", max_episode_steps=30)
    gym.register("Quadrotor-v0", vector_entry_point="minirl.envs.quadrotor:Quadrotor")
    gym.register("LineWorld-v0", entry_point="minirl.envs.lineworld:LineWorld", max_episode_steps=60)
    gym.register(
        "LineWorldTrap-v0",
        entry_point="minirl.envs.lineworld:LineWorld",
        kwargs={"stride": 1.25, "stall": 0.6},
        max_episode_steps=60,
    )
    gym.register(
        "LineWorldShortTrap-v0",
        entry_point="minirl.envs.lineworld:LineWorld",
        kwargs={"stride": 5.0, "stall": 0.5},
        max_episode_steps=60,
    )
    for layout in ("open", "umaze", "stitch"):
        gym.register(
            f"PointMaze2D-{layout}-v0",
            entry_point="minirl.envs.point_maze:PointMaze2D",
            kwargs={"layout": layout},
            max_episode_steps=100,
        )
