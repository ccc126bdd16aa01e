"""Plausible wrong answers to the assignment `nft`; each must lose its points (tests/grading/test_assignments.py)."""

WRONG = {
    "implicit_negative": {
        "forgets to divide by 1 - r": """
def implicit_negative(p_old, p_pos, r_q):
    return p_old - r_q[:, None] * p_pos
""",
        "cuts negative numbers off": """
def implicit_negative(p_old, p_pos, r_q):
    r = r_q[:, None]
    return np.maximum((p_old - r * p_pos) / (1 - r), 0)
""",
        "cuts negative numbers off and normalises": """
def implicit_negative(p_old, p_pos, r_q):
    p_neg = np.maximum(p_old - r_q[:, None] * p_pos, 0)
    return p_neg / p_neg.sum(axis=1, keepdims=True)
""",
        "the rate of the wrong prompt": """
def implicit_negative(p_old, p_pos, r_q):
    r = r_q[:, None] if p_old.shape[0] != p_old.shape[1] else r_q
    return (p_old - r * p_pos) / (1 - r)
""",
        "one rate for all prompts": """
def implicit_negative(p_old, p_pos, r_q):
    r = r_q.mean()
    return (p_old - r * p_pos) / (1 - r)
""",
        "divides by r": """
def implicit_negative(p_old, p_pos, r_q):
    r = r_q[:, None]
    return (p_old - r * p_pos) / r
""",
        "subtracts the whole positive policy": """
def implicit_negative(p_old, p_pos, r_q):
    return (p_old - p_pos) / (1 - r_q[:, None])
""",
        "the old policy where the network is silent": """
def implicit_negative(p_old, p_pos, r_q):
    p_neg = np.where(p_pos == 0, p_old, 0)
    return p_neg / p_neg.sum(axis=1, keepdims=True)
""",
        "changes its argument": """
def implicit_negative(p_old, p_pos, r_q):
    r = r_q[:, None]
    p_old -= r * p_pos
    return p_old / (1 - r)
""",
    },
    "max_v": {
        "an ordinary floor": """
def max_v(x, eps):
    return x.clamp_min(eps)
""",
        "the order of the formula": """
def max_v(x, eps):
    return (x.clamp_min(eps) - x).detach() + x
""",
        "passes no gradient at all": """
def max_v(x, eps):
    return x.clamp_min(eps).detach()
""",
        "no floor": """
def max_v(x, eps):
    return x + 0 * eps
""",
        "stops the gradient at the wrong term": """
def max_v(x, eps):
    return (x.clamp_min(eps) - x) + x.detach()
""",
        "twice the gradient above the floor": """
def max_v(x, eps):
    return x.clamp_min(eps) + (x - x.detach())
""",
        "a smooth floor": """
def max_v(x, eps):
    return eps + torch.nn.functional.softplus(20 * (x - eps)) / 20
""",
        "a ceiling": """
def max_v(x, eps):
    return x.clamp_max(eps).detach() + (x - x.detach())
""",
        "gradient of the sign only": """
def max_v(x, eps):
    return x.clamp_min(eps).detach() + torch.where(x < eps, -1.0, 1.0) * (x - x.detach())
""",
    },
    "prompt_weight": {
        "standard deviation of a sample, torch's default": """
def prompt_weight(reward, mode):
    gap = 1 - reward.mean(dim=1)
    return gap if mode == "dr_grpo" else gap / reward.std(dim=1)
""",
        "forgets the root": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1)
    return 1 - r if mode == "dr_grpo" else (1 - r) / r
""",
        "one over the standard deviation": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1)
    return torch.ones_like(r) if mode == "dr_grpo" else 1 / (r * (1 - r)).sqrt()
""",
        "names exchanged": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1)
    return 1 - r if mode == "grpo" else ((1 - r) / r).sqrt()
""",
        "the root of the odds of a right answer": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1)
    return r if mode == "dr_grpo" else (r / (1 - r)).sqrt()
""",
        "one mean for the whole batch": """
def prompt_weight(reward, mode):
    r = reward.mean().expand(len(reward))
    return 1 - r if mode == "dr_grpo" else ((1 - r) / r).sqrt()
""",
        "one weight for each answer": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1, keepdim=True).expand_as(reward)
    return 1 - r if mode == "dr_grpo" else ((1 - r) / r).sqrt()
""",
        "mean over the prompts": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=0)
    return 1 - r if mode == "dr_grpo" else ((1 - r) / r).sqrt()
""",
        "a small constant in the denominator": """
def prompt_weight(reward, mode):
    r = reward.mean(dim=1)
    return 1 - r if mode == "dr_grpo" else (1 - r) / ((r * (1 - r)).sqrt() + 1e-2)
""",
    },
    "keep_groups": {
        "drops only what is all wrong": """
def keep_groups(reward, finished, K):
    rate = (reward * finished).reshape(-1, K).mean(axis=1).repeat(K)
    return rate, rate > 0
""",
        "drops only what is all right": """
def keep_groups(reward, finished, K):
    rate = (reward * finished).reshape(-1, K).mean(axis=1).repeat(K)
    return rate, rate < 1
""",
        "trusts the verifier on answers that were cut off": """
def keep_groups(reward, finished, K):
    rate = reward.reshape(-1, K).mean(axis=1).repeat(K)
    return rate, (rate > 0) & (rate < 1)
""",
        "leaves answers that were cut off out of the mean": """
def keep_groups(reward, finished, K):
    right = (reward * finished).reshape(-1, K).sum(axis=1)
    rate = (right / np.maximum(finished.reshape(-1, K).sum(axis=1), 1)).repeat(K)
    return rate, (rate > 0) & (rate < 1)
""",
        "drops prompts with an answer that was cut off": """
def keep_groups(reward, finished, K):
    rate = (reward * finished).reshape(-1, K).mean(axis=1).repeat(K)
    return rate, (rate > 0) & (rate < 1) & finished.reshape(-1, K).all(axis=1).repeat(K)
""",
        "takes answers K apart for a group": """
def keep_groups(reward, finished, K):
    rate = np.tile((reward * finished).reshape(K, -1).mean(axis=0), K)
    return rate, (rate > 0) & (rate < 1)
""",
        "one rate for the whole batch": """
def keep_groups(reward, finished, K):
    rate = np.full(len(reward), (reward * finished).mean())
    return rate, (rate > 0) & (rate < 1)
""",
        "one entry for each prompt": """
def keep_groups(reward, finished, K):
    rate = (reward * finished).reshape(-1, K).mean(axis=1)
    return rate, (rate > 0) & (rate < 1)
""",
        "drops single answers": """
def keep_groups(reward, finished, K):
    rate = (reward * finished).reshape(-1, K).mean(axis=1).repeat(K)
    return rate, (rate > 0) & (rate < 1) & finished
""",
        "changes its argument": """
def keep_groups(reward, finished, K):
    reward *= finished
    rate = reward.reshape(-1, K).mean(axis=1).repeat(K)
    return rate, (rate > 0) & (rate < 1)
""",
    },
    "nft_loss": {
        "an ordinary floor": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = ((1 - rhat * log_ratio.exp()) / (1 - rhat)).clamp_min(eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / len(logp)
""",
        "one success rate for the whole batch": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat.mean()
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / len(logp)
""",
        "mean over the tokens of an answer": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask / mask.sum(1, keepdim=True)).sum() / len(logp)
""",
        "mean over all tokens": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / mask.sum()
""",
        "sum over the answers": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum()
""",
        "trains on the padding": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain).sum() / len(logp)
""",
        "throws wrong answers away": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    return -(omega[:, None] * reward[:, None] * (logp - old_logp) * mask).sum() / len(logp)
""",
        "lowers the likelihood of wrong answers instead": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    sign = 2 * reward[:, None] - 1
    return -(omega[:, None] * sign * (logp - old_logp) * mask).sum() / len(logp)
""",
        "forgets 1 - rhat under the fraction": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    log_ratio = logp - old_logp
    wrong = max_v(1 - rhat[:, None] * log_ratio.exp(), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / len(logp)
""",
        "forgets the weight of the prompt": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(gain * mask).sum() / len(logp)
""",
        "ratio upside down": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = old_logp - logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / len(logp)
""",
        "wrong sign": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return (omega[:, None] * gain * mask).sum() / len(logp)
""",
        "floor on the ratio": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    rhat = rhat[:, None]
    log_ratio = logp - old_logp
    wrong = ((1 - rhat * log_ratio.exp().clamp_max(1.0)) / (1 - rhat)).log()
    gain = torch.where(reward[:, None] == 1, log_ratio, wrong)
    return -(omega[:, None] * gain * mask).sum() / len(logp)
""",
        "the ratio of the whole answer": """
def nft_loss(logp, old_logp, reward, rhat, mask, omega, eps):
    log_ratio = ((logp - old_logp) * mask).sum(1)
    wrong = max_v((1 - rhat * log_ratio.exp()) / (1 - rhat), eps).log()
    gain = torch.where(reward == 1, log_ratio, wrong)
    return -(omega * gain).sum() / len(logp)
""",
    },
}
