"""Offline and hybrid reinforcement learning: one file per paper, and the baselines they are compared with."""
