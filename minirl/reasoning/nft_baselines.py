"""What NFT is compared with: four losses in the place of `nft_loss`, for the same model, prompts, filter and optimiser.

All have the arguments of `nft_loss`: logp, old_logp and mask (B, T), reward (B,) 1 or 0, and r (B,), the success rate of
the prompt, strictly between 0 and 1. Use: NFT(config, loss=grpo_loss).

RFT       rejection-sampling fine-tuning: maximum likelihood of the right answers
GRPO      group-relative policy optimisation (Shao et al. 2024, arXiv:2402.03300)
Dr. GRPO  the same without dividing by the standard deviation (Liu et al. 2025, arXiv:2503.20783)
DAPO      a wider bound above than below, every token counts the same (Yu et al. 2025, arXiv:2503.14476); its dynamic
          sampling is what the loop does for all of them

Differs from these papers: GRPO divides the loss of an answer by its length; here tokens are summed, as they are in NFT,
so that the losses are all that differs. There is no KL penalty.
"""

from torch import Tensor

from minirl.lm.rl_core import aggregate, ppo_clip


def advantage(reward: Tensor, r: Tensor) -> Tensor:
    """(reward - mean) / (standard deviation) of each group, (B,): for rewards of 0 and 1 the mean r says both."""
    return (reward - r) / (r * (1 - r)).sqrt()


def rft_loss(logp: Tensor, old_logp: Tensor, reward: Tensor, r: Tensor, mask: Tensor) -> Tensor:
    """-log-likelihood of the right answers, over the number of all answers."""
    return aggregate(-logp, mask * reward[:, None], "sum")


def grpo_loss(logp: Tensor, old_logp: Tensor, reward: Tensor, r: Tensor, mask: Tensor, clip: float = 0.2) -> Tensor:
    """Clipped policy gradient with standardised advantages, tokens summed."""
    return ppo_clip(logp, old_logp, advantage(reward, r), mask, clip, clip, "sum")[0]


def dr_grpo_loss(logp: Tensor, old_logp: Tensor, reward: Tensor, r: Tensor, mask: Tensor, clip: float = 0.2) -> Tensor:
    """Clipped policy gradient with centred advantages, tokens summed."""
    return ppo_clip(logp, old_logp, reward - r, mask, clip, clip, "sum")[0]


def dapo_loss(
    logp: Tensor, old_logp: Tensor, reward: Tensor, r: Tensor, mask: Tensor, lo: float = 0.2, hi: float = 0.28
) -> Tensor:
    """Clipped policy gradient with standardised advantages and the bounds 1 - lo, 1 + hi; mean over tokens."""
    return ppo_clip(logp, old_logp, advantage(reward, r), mask, lo, hi, "token-mean")[0]


def clip_weights(
    ratio: Tensor, r: float, lo: float = 0.2, hi: float = 0.2, standardise: bool = True
) -> tuple[Tensor, Tensor]:
    """What multiplies the gradient of the ratio at a token of a right and of a wrong answer: all or nothing.

    The counterpart of `nft.token_weights` for the clipped losses above, as functions of the ratio (...).
    """
    scale = (r * (1 - r)) ** 0.5 if standardise else 1.0
    return (1 - r) / scale * (ratio <= 1 + hi).to(ratio.dtype), -r / scale * (ratio >= 1 - lo).to(ratio.dtype)
