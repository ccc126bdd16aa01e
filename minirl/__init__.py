"""minirl: an open course on modern reinforcement learning, one readable file a paper."""

__version__ = "0.1.0"
