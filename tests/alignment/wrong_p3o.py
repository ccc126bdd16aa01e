"""Plausible wrong answers to the assignment `p3o`; each must lose its points (tests/grading/test_assignments.py)."""

WRONG = {
    "btl_loss": {
        "averages before the logarithm": '''
def btl_loss(r_w, r_l):
    """The mean difference hides the pairs."""
    return -F.logsigmoid((r_w - r_l).mean())
''',
        "overflows": '''
def btl_loss(r_w, r_l):
    """log of a sigmoid that has become zero."""
    return -torch.log(torch.sigmoid(r_w - r_l)).mean()
''',
        "a small constant hides the infinity": '''
def btl_loss(r_w, r_l):
    """The loss of a hopeless pair stops growing."""
    return -torch.log(torch.sigmoid(r_w - r_l) + 1e-8).mean()
''',
        "sum instead of mean": '''
def btl_loss(r_w, r_l):
    """Grows with the batch."""
    return -F.logsigmoid(r_w - r_l).sum()
''',
        "prefers the loser": '''
def btl_loss(r_w, r_l):
    """The other way round."""
    return -F.logsigmoid(r_l - r_w).mean()
''',
        "compares each with every other": '''
def btl_loss(r_w, r_l):
    """(B, B): answers to other prompts as well."""
    return -F.logsigmoid(r_w[:, None] - r_l[None]).mean()
''',
        "no gradient in the loser": '''
def btl_loss(r_w, r_l):
    """As if the other answer were a label."""
    return -F.logsigmoid(r_w - r_l.detach()).mean()
''',
    },
    "equivalent": {
        "one constant for all": '''
def equivalent(r1, r2, prompts):
    """Knows only the shift that does not depend on the prompt."""
    return bool(np.ptp(r2 - r1) < 1e-9)
''',
        "the same ranking is enough": '''
def equivalent(r1, r2, prompts):
    """Preferences are more than an order."""
    same = True
    for x in np.unique(prompts):
        rows = prompts == x
        same = same and bool((np.argsort(r1[rows]) == np.argsort(r2[rows])).all())
    return same
''',
        "scales are divided away": '''
def equivalent(r1, r2, prompts):
    """Standardises the rewards of each prompt."""
    for x in np.unique(prompts):
        a, b = (r[prompts == x] - r[prompts == x].mean() for r in (r1, r2))
        if not np.allclose(a / (a.std() + 1e-9), b / (b.std() + 1e-9)):
            return False
    return True
''',
        "only neighbours are compared": '''
def equivalent(r1, r2, prompts):
    """Rows of one prompt need not follow each other."""
    same = prompts[1:] == prompts[:-1]
    return bool((np.abs(np.diff(r1) - np.diff(r2))[same] < 1e-9).all())
''',
        "differences without their sign": '''
def equivalent(r1, r2, prompts):
    """|r - r'| is not what the judge sees."""
    same = prompts[:, None] == prompts[None]
    gap1, gap2 = (np.abs(r[:, None] - r[None]) for r in (r1, r2))
    return bool((np.abs(gap1 - gap2)[same] < 1e-9).all())
''',
        "only the spread of each prompt": '''
def equivalent(r1, r2, prompts):
    """Largest less smallest says too little."""
    return bool(
        np.all([abs(np.ptp(r1[prompts == x]) - np.ptp(r2[prompts == x])) < 1e-9 for x in np.unique(prompts)])
    )
''',
    },
    "pairwise_gradient": {
        "no one half": '''
def pairwise_gradient(logits, logits_old, r, y1, y2):
    """Twice the gradient."""
    log_ratio = (logits - np.logaddexp.reduce(logits)) - (logits_old - np.logaddexp.reduce(logits_old))
    weight = (r[y1] - r[y2]) * np.exp(log_ratio[y1] + log_ratio[y2])
    return (weight[:, None] * (np.eye(len(r))[y1] - np.eye(len(r))[y2])).mean(axis=0)
''',
        "only the reward of the first answer": '''
def pairwise_gradient(logits, logits_old, r, y1, y2):
    """Unbiased on-policy, and without a baseline."""
    log_ratio = (logits - np.logaddexp.reduce(logits)) - (logits_old - np.logaddexp.reduce(logits_old))
    weight = r[y1] * np.exp(log_ratio[y1] + log_ratio[y2])
    return (weight[:, None] * (np.eye(len(r))[y1] - np.eye(len(r))[y2])).mean(axis=0)
''',
        "no ratios": '''
def pairwise_gradient(logits, logits_old, r, y1, y2):
    """As if the answers were fresh."""
    return (0.5 * (r[y1] - r[y2])[:, None] * (np.eye(len(r))[y1] - np.eye(len(r))[y2])).mean(axis=0)
''',
        "one ratio": '''
def pairwise_gradient(logits, logits_old, r, y1, y2):
    """The second answer is old as well."""
    log_ratio = (logits - np.logaddexp.reduce(logits)) - (logits_old - np.logaddexp.reduce(logits_old))
    weight = 0.5 * (r[y1] - r[y2]) * np.exp(log_ratio[y1])
    return (weight[:, None] * (np.eye(len(r))[y1] - np.eye(len(r))[y2])).mean(axis=0)
''',
        "ratios upside down": '''
def pairwise_gradient(logits, logits_old, r, y1, y2):
    """pi_old over pi."""
    log_ratio = (logits_old - np.logaddexp.reduce(logits_old)) - (logits - np.logaddexp.reduce(logits))
    weight = 0.5 * (r[y1] - r[y2]) * np.exp(log_ratio[y1] + log_ratio[y2])
    return (weight[:, None] * (np.eye(len(r))[y1] - np.eye(len(r))[y2])).mean(axis=0)
''',
        "exponentials overflow": '''
def pairwise_gradient(logits, logits_old, r, y1, y2):
    """softmax without taking the maximum away."""
    p, q = (np.exp(z) / np.exp(z).sum() for z in (logits, logits_old))
    weight = 0.5 * (r[y1] - r[y2]) * (p[y1] * p[y2]) / (q[y1] * q[y2])
    return (weight[:, None] * (np.eye(len(r))[y1] - np.eye(len(r))[y2])).mean(axis=0)
''',
        "sum over the pairs": '''
def pairwise_gradient(logits, logits_old, r, y1, y2):
    """Not averaged."""
    log_ratio = (logits - np.logaddexp.reduce(logits)) - (logits_old - np.logaddexp.reduce(logits_old))
    weight = 0.5 * (r[y1] - r[y2]) * np.exp(log_ratio[y1] + log_ratio[y2])
    return (weight[:, None] * (np.eye(len(r))[y1] - np.eye(len(r))[y2])).sum(axis=0)
''',
        "ratios of logits that are not normalised": '''
def pairwise_gradient(logits, logits_old, r, y1, y2):
    """A constant added to the logits changes it."""
    log_ratio = logits - logits_old
    weight = 0.5 * (r[y1] - r[y2]) * np.exp(log_ratio[y1] + log_ratio[y2])
    return (weight[:, None] * (np.eye(len(r))[y1] - np.eye(len(r))[y2])).mean(axis=0)
''',
    },
    "reward_gap": {
        "rounds before the difference": '''
def reward_gap(reward, logp_old, logp_ref, mask, beta):
    """float32 keeps seven digits of a large number."""
    rhat = (reward - beta * ((logp_old - logp_ref) * mask).sum(axis=2)).astype(np.float32)
    return rhat[:, 0] - rhat[:, 1]
''',
        "mean over tokens": '''
def reward_gap(reward, logp_old, logp_ref, mask, beta):
    """The penalty of a token, not of the answer."""
    ratio = ((logp_old.astype(np.float64) - logp_ref) * mask).sum(axis=2) / mask.sum(axis=2)
    rhat = reward - beta * ratio
    return (rhat[:, 0] - rhat[:, 1]).astype(np.float32)
''',
        "penalty with the wrong sign": '''
def reward_gap(reward, logp_old, logp_ref, mask, beta):
    """Pays for leaving the reference."""
    rhat = reward + beta * ((logp_old.astype(np.float64) - logp_ref) * mask).sum(axis=2)
    return (rhat[:, 0] - rhat[:, 1]).astype(np.float32)
''',
        "no mask": '''
def reward_gap(reward, logp_old, logp_ref, mask, beta):
    """Counts what stands behind the end of an answer."""
    rhat = reward - beta * (logp_old.astype(np.float64) - logp_ref).sum(axis=2)
    return (rhat[:, 0] - rhat[:, 1]).astype(np.float32)
''',
        "only the policy's log-probability": '''
def reward_gap(reward, logp_old, logp_ref, mask, beta):
    """A penalty on likely answers, wherever the reference stands."""
    rhat = reward - beta * (logp_old.astype(np.float64) * mask).sum(axis=2)
    return (rhat[:, 0] - rhat[:, 1]).astype(np.float32)
''',
        "divided by the spread of the batch": '''
def reward_gap(reward, logp_old, logp_ref, mask, beta):
    """Whitened rewards: the shift comes back through the standard deviation."""
    white = (reward - reward.mean()) / reward.std()
    rhat = white - beta * ((logp_old.astype(np.float64) - logp_ref) * mask).sum(axis=2)
    return (rhat[:, 0] - rhat[:, 1]).astype(np.float32)
''',
        "second less first": '''
def reward_gap(reward, logp_old, logp_ref, mask, beta):
    """Prefers the worse answer."""
    rhat = reward - beta * ((logp_old.astype(np.float64) - logp_ref) * mask).sum(axis=2)
    return (rhat[:, 1] - rhat[:, 0]).astype(np.float32)
''',
    },
    "p3o_joint_loss": {
        "maximum where Delta is negative": '''
def p3o_joint_loss(lp, lp_old, rhat, eps):
    """Clips before Delta is multiplied: right for Delta > 0 only."""
    lp_old, gap = lp_old.detach(), (rhat[:, 0] - rhat[:, 1]).detach()
    ell, ell_old = lp[:, 0] - lp[:, 1], lp_old[:, 0] - lp_old[:, 1]
    weight = (lp.detach() - lp_old).sum(dim=1).exp()
    return -0.5 * (weight * gap * torch.minimum(ell, ell_old + (ell - ell_old).clamp(-eps, eps))).mean()
''',
        "clips the ratios": '''
def p3o_joint_loss(lp, lp_old, rhat, eps):
    """V1: each answer on its own."""
    lp_old, gap = lp_old.detach(), (rhat[:, 0] - rhat[:, 1]).detach()
    ratio, gap = (lp - lp_old).exp(), torch.stack([gap, -gap], dim=1)
    surrogate = torch.minimum(gap * ratio, gap * ratio.clamp(1 - eps, 1 + eps))
    return -0.5 * (ratio.detach().flip(1) * surrogate).sum(dim=1).mean()
''',
        "the weight is differentiated": '''
def p3o_joint_loss(lp, lp_old, rhat, eps):
    """A gradient through rho_1 rho_2."""
    lp_old, gap = lp_old.detach(), (rhat[:, 0] - rhat[:, 1]).detach()
    ell, ell_old = lp[:, 0] - lp[:, 1], lp_old[:, 0] - lp_old[:, 1]
    weight = (lp - lp_old).sum(dim=1).exp()
    clipped = ell_old + (ell - ell_old).clamp(-eps, eps)
    return -0.5 * (weight * torch.minimum(gap * ell, gap * clipped)).mean()
''',
        "no weight": '''
def p3o_joint_loss(lp, lp_old, rhat, eps):
    """As if the answers were fresh."""
    lp_old, gap = lp_old.detach(), (rhat[:, 0] - rhat[:, 1]).detach()
    ell, ell_old = lp[:, 0] - lp[:, 1], lp_old[:, 0] - lp_old[:, 1]
    clipped = ell_old + (ell - ell_old).clamp(-eps, eps)
    return -0.5 * torch.minimum(gap * ell, gap * clipped).mean()
''',
        "clips without the minimum": '''
def p3o_joint_loss(lp, lp_old, rhat, eps):
    """A pair that went the wrong way never comes back."""
    lp_old, gap = lp_old.detach(), (rhat[:, 0] - rhat[:, 1]).detach()
    ell, ell_old = lp[:, 0] - lp[:, 1], lp_old[:, 0] - lp_old[:, 1]
    weight = (lp.detach() - lp_old).sum(dim=1).exp()
    return -0.5 * (weight * gap * (ell_old + (ell - ell_old).clamp(-eps, eps))).mean()
''',
        "the band lies around zero": '''
def p3o_joint_loss(lp, lp_old, rhat, eps):
    """The old policy's log-odds are forgotten."""
    lp_old, gap = lp_old.detach(), (rhat[:, 0] - rhat[:, 1]).detach()
    ell = lp[:, 0] - lp[:, 1]
    weight = (lp.detach() - lp_old).sum(dim=1).exp()
    return -0.5 * (weight * torch.minimum(gap * ell, gap * ell.clamp(-eps, eps))).mean()
''',
        "no one half": '''
def p3o_joint_loss(lp, lp_old, rhat, eps):
    """Twice the gradient."""
    lp_old, gap = lp_old.detach(), (rhat[:, 0] - rhat[:, 1]).detach()
    ell, ell_old = lp[:, 0] - lp[:, 1], lp_old[:, 0] - lp_old[:, 1]
    weight = (lp.detach() - lp_old).sum(dim=1).exp()
    clipped = ell_old + (ell - ell_old).clamp(-eps, eps)
    return -(weight * torch.minimum(gap * ell, gap * clipped)).mean()
''',
        "which answer is better, and not by how much": '''
def p3o_joint_loss(lp, lp_old, rhat, eps):
    """Labels, as in DPO."""
    lp_old, gap = lp_old.detach(), torch.sign(rhat[:, 0] - rhat[:, 1]).detach()
    ell, ell_old = lp[:, 0] - lp[:, 1], lp_old[:, 0] - lp_old[:, 1]
    weight = (lp.detach() - lp_old).sum(dim=1).exp()
    clipped = ell_old + (ell - ell_old).clamp(-eps, eps)
    return -0.5 * (weight * torch.minimum(gap * ell, gap * clipped)).mean()
''',
        "pairs of equal rewards are left out of the mean": '''
def p3o_joint_loss(lp, lp_old, rhat, eps):
    """The others then count more."""
    keep = rhat[:, 0] != rhat[:, 1]
    lp, lp_old, rhat = lp[keep], lp_old[keep].detach(), rhat[keep].detach()
    gap = rhat[:, 0] - rhat[:, 1]
    ell, ell_old = lp[:, 0] - lp[:, 1], lp_old[:, 0] - lp_old[:, 1]
    weight = (lp.detach() - lp_old).sum(dim=1).exp()
    clipped = ell_old + (ell - ell_old).clamp(-eps, eps)
    return -0.5 * (weight * torch.minimum(gap * ell, gap * clipped)).mean()
''',
        "a gradient into the rewards": '''
def p3o_joint_loss(lp, lp_old, rhat, eps):
    """rhat is a constant."""
    lp_old, gap = lp_old.detach(), rhat[:, 0] - rhat[:, 1]
    ell, ell_old = lp[:, 0] - lp[:, 1], lp_old[:, 0] - lp_old[:, 1]
    weight = (lp.detach() - lp_old).sum(dim=1).exp()
    clipped = ell_old + (ell - ell_old).clamp(-eps, eps)
    return -0.5 * (weight * torch.minimum(gap * ell, gap * clipped)).mean()
''',
    },
}
