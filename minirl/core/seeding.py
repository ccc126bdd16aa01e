"""Independent random streams from one seed."""

import numpy as np
import torch


def torch_generator(seed: int, stream: int = 0) -> torch.Generator:
    """A CPU generator for one purpose of one run.

    Every agent draws from its own generators and never from the global one, so two agents trained in turns give the
    same numbers as trained one after the other. `stream` separates purposes (0 networks, 1 actions, 2 replay, ...).
    """
    state = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


def env_seed(seed: int, stream: int = 0) -> int:
    """A seed for environments, far from those of neighbouring runs (gymnasium adds 0, 1, 2, ... for parallel copies)."""
    return int(np.random.SeedSequence([seed, stream, 1]).generate_state(1, np.uint32)[0])
