"""The language substrate: tokenizers, a tiny GPT, sampling, log-probabilities, training, tasks with verifiers."""

import torch


def setup_threads() -> None:
    """One thread a process: with more, small tensors wait for each other longer than they compute."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
