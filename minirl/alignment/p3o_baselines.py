"""What P3O is compared with: other updates for the same checkpoint, prompts, answers, rewards and optimiser.

PPO   token by token, with a critic and generalised advantage estimates (Schulman et al. 2017; Ziegler et al. 2019)
RLOO  REINFORCE with the mean of the other answers as baseline (Ahmadian et al. 2024): P3O's gradient, on-policy
DPO   maximum likelihood of labelled pairs (Rafailov et al. 2023), offline or with fresh pairs labelled by the reward

Use: P3O(config, PPO()). An update is called with the agent and its rollout, whose reward holds r + c delta in float64.

Differs from these papers: PPO's critic is a GPT of its own that begins as the SFT model with a head of zeros, so that
its errors cannot disturb the policy through shared layers; its loss and its gradient are not clipped, so that it may
follow rewards of any size. Both are in PPO's favour. DPO's beta is chosen so that its optimum is that of the others.
"""

from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from minirl.lm.dpo import dpo_loss, margin, pair_accuracy
from minirl.lm.gpt import GPT, Head
from minirl.lm.logp import score
from minirl.lm.preferences import SHARPNESS, chosen_rejected, label
from minirl.lm.rl_core import gae, group_adv, kl_k1, masked_mean, ppo_clip, reward_to_tokens, whiten
from minirl.lm.rollout import Rollout, minibatches

# Shapes: B answers, T tokens, K answers to a prompt (neighbours).


# -------------------------------------------------------------------------------------------------------- PPO


class Critic(nn.Module):
    """V (B, T): the expected sum of the rewards still to come, before each token of an answer is drawn."""

    def __init__(self, start: GPT):
        super().__init__()
        self.gpt, self.head = deepcopy(start).requires_grad_(True), Head(start.config.width).to(start.token.weight)

    def forward(self, data: Rollout) -> Tensor:
        return self.head(score(self.gpt, data.prompt, data.n_pad, data.answer, data.mask).hidden) * data.mask


def ppo_rewards(data: Rollout, beta: float, whiten_reward: bool = False) -> Tensor:
    """Rewards of tokens (B, T): the KL penalty at every token, and the answer's reward at the last one.

    whiten_reward: rewards are centred, then rewards and penalties divided by the rewards' standard deviation over the
    whole batch. (Over the answers to one prompt this would be a relative method, and no baseline for one.)
    """
    mean, scale = (data.reward.mean(), data.reward.std() + 1e-8) if whiten_reward else (0.0, 1.0)
    reward = (data.reward - mean).to(data.mask.dtype)
    return reward_to_tokens(reward, data.mask, kl_k1(data.old_logp, data.ref_logp), beta) / float(scale)


@dataclass
class PPO:
    """Token-level PPO. One object trains one agent and keeps its critic."""

    clip: float = 0.2  # bound of |ratio - 1| of a token
    lam: float = 0.95  # of the advantage estimates; gamma is 1
    critic_lr: float = 1e-3  # AdamW step size, constant
    whiten_reward: bool = False  # over the batch
    warmup: int = 0  # iterations at the beginning in which only the critic learns
    critic: Critic | None = field(default=None, init=False)

    def __call__(self, agent, data: Rollout) -> dict[str, float]:
        """`epochs` passes in mini-batches of the size of P3O's; advantages are whitened over all tokens.

        Returns "steps" of the policy, means of "clipped" (share of tokens) and "grad_norm", and "explained": how much of the variance
        of the answers' total rewards the critic knew from the prompts, before the update (1: all, 0: nothing).
        """
        if self.critic is None:
            self.iterations = 0
            self.critic = Critic(agent.ref)
            self.optimiser = torch.optim.AdamW(self.critic.parameters(), lr=self.critic_lr, weight_decay=0.0)
        reward = ppo_rewards(data, agent.config.beta, self.whiten_reward)
        with torch.no_grad():
            value = self.critic(data)
        advantage, target = gae(reward, value, data.mask, 1.0, self.lam)
        advantage, total, logs = whiten(advantage, data.mask), reward.sum(1), []
        self.iterations += 1
        for _ in range(agent.config.epochs):
            for rows in torch.randperm(len(value), generator=agent.draw).split(agent.config.batch * data.K):
                part = data.rows(rows)
                if self.iterations > self.warmup:
                    logp = score(agent.policy, part.prompt, part.n_pad, part.answer, part.mask).logp
                    known = (logp, part.old_logp, advantage[rows], part.mask, self.clip, self.clip)
                    loss, clipped = ppo_clip(*known, "token-mean")
                    logs.append((agent.step(loss), clipped.item()))
                error = 0.5 * masked_mean((self.critic(part) - target[rows]).square(), part.mask)
                self.optimiser.zero_grad()
                error.backward()
                self.optimiser.step()
        norm, clipped = np.mean(logs or [(0.0, 0.0)], axis=0).tolist()
        unknown = ((total - value[:, 0]).square().mean() / total.var(unbiased=False)).item()
        return {"steps": len(logs), "grad_norm": norm, "clipped": clipped, "explained": 1 - unknown}


# ------------------------------------------------------------------------------------------------------- RLOO


def rloo_loss(lp: Tensor, rhat: Tensor) -> Tensor:
    """-mean of (r_hat - mean of the others) log pi; lp, rhat (P, K)."""
    advantage = group_adv(rhat.double().reshape(-1), rhat.shape[1], "rloo").view_as(rhat).to(lp.dtype)
    return -(advantage.detach() * lp).mean()


def rloo(agent, data: Rollout) -> dict[str, float]:
    """One pass over the answers: without ratios, old answers must not be used again."""
    penalty = (data.old_logp.double() - data.ref_logp.double()).sum(1)
    data = replace(data, reward=data.reward.double() - agent.config.beta * penalty)
    norms = []
    for part in minibatches(data, agent.config.batch * data.K, agent.draw, groups=True):
        norms.append(agent.step(rloo_loss(agent.logp(part), part.reward.view(-1, data.K))))
    return {"steps": len(norms), "grad_norm": float(np.mean(norms))}


# -------------------------------------------------------------------------------------------------------- DPO


@dataclass(frozen=True)
class DPO:
    """Online: the fresh pairs are labelled by a coin with the reward's Bradley-Terry probability.

    Offline: `data`, labelled comparisons as of `minirl.lm.preferences.comparisons`; the fresh answers are only logged.
    """

    data: tuple[Rollout, ...] = ()
    sharpness: float = (
        SHARPNESS  # of the labels; DPO's beta is sharpness * beta, whose optimum is pi_SFT exp(r / beta) / Z
    )

    def __call__(self, agent, data: Rollout) -> dict[str, float]:
        """As many gradient steps as P3O takes. Returns "steps", means of "accuracy" (before each step) and "grad_norm"."""
        config, logs = agent.config, []
        for part in self.batches(agent, data):
            lp = chosen_rejected(agent.logp(part).reshape(-1), part)
            ref = chosen_rejected(part.ref_logp.sum(1), part)
            h = margin(*lp, *ref)
            accuracy = pair_accuracy(h.detach()).item()
            logs.append((agent.step(dpo_loss(h, self.sharpness * config.beta)), accuracy))
        norm, accuracy = np.mean(logs, axis=0).tolist()
        return {"steps": len(logs), "grad_norm": norm, "accuracy": accuracy}

    def batches(self, agent, data: Rollout):
        """Mini-batches of `batch` labelled pairs, as many as `epochs` passes over `data` have."""
        config = agent.config
        if not self.data:
            data = label(data, self.sharpness, agent.draw)
            for _ in range(config.epochs):
                yield from minibatches(data, 2 * config.batch, agent.draw, groups=True)
            return
        for _ in range(config.epochs * config.prompts // config.batch):
            some = self.data[int(torch.randint(len(self.data), (1,), generator=agent.draw))]
            yield next(minibatches(some, 2 * config.batch, agent.draw, groups=True))
