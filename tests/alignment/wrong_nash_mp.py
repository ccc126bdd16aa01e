"""Plausible wrong answers to the assignment `nash_mp`; each must lose its points (tests/grading/test_assignments.py)."""

WRONG = {
    "bradley_terry_reward": {
        "asks only whether the majorities are transitive": '''
def bradley_terry_reward(P):
    """A cycle of majorities is not the only obstacle."""
    log_odds = np.log(P) - np.log1p(-P)
    beats = (P > 0.5).astype(int)
    transitive = sorted(beats.sum(axis=1)) == list(range(len(P)))
    return log_odds.mean(axis=1) if transitive else None
''',
        "never says None": '''
def bradley_terry_reward(P):
    """The best fit is not a fit."""
    return (np.log(P) - np.log1p(-P)).mean(axis=1)
''',
        "log P instead of the log-odds": '''
def bradley_terry_reward(P):
    """P = 1/2 then gives -0.69 instead of 0."""
    r = np.log(P).mean(axis=1)
    r = r - r.mean()
    fits = np.allclose(1 / (1 + np.exp(r[None, :] - r[:, None])), P, rtol=0, atol=1e-9)
    return r if fits else None
''',
        "opposite sign": '''
def bradley_terry_reward(P):
    """Averages columns: the loser's log-odds."""
    log_odds = np.log(P) - np.log1p(-P)
    r = log_odds.mean(axis=0)
    fits = np.allclose(1 / (1 + np.exp(r[:, None] - r[None, :])), P, rtol=0, atol=1e-9)
    return r if fits else None
''',
        "first answer has reward zero": '''
def bradley_terry_reward(P):
    """The right differences, but the mean is not zero."""
    r = (np.log(P) - np.log1p(-P))[:, 0]
    fits = np.allclose(1 / (1 + np.exp(r[None, :] - r[:, None])), P, rtol=0, atol=1e-9)
    return r if fits else None
''',
        "a tolerance of one percent": '''
def bradley_terry_reward(P):
    """A pair that fits nearly is taken for one that fits."""
    r = (np.log(P) - np.log1p(-P)).mean(axis=1)
    fits = np.allclose(1 / (1 + np.exp(r[None, :] - r[:, None])), P, rtol=0, atol=1e-2)
    return r if fits else None
''',
    },
    "prox_step": {
        "forgets the power of pi_ref": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """The reference enters with power 1."""
    score = np.log(pi_ref) + (lam * np.log(pi_k) + P @ mu) / (beta + lam)
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
        "no pull to the reference": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """Mirror ascent without the regulariser."""
    score = np.log(pi_k) + P @ mu / (beta + lam)
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
        "temperature 1 / lam": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """The right mixture of anchors, the wrong step."""
    score = (beta * np.log(pi_ref) + lam * np.log(pi_k)) / (beta + lam) + P @ mu / lam
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
        "the KL linearised": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """A gradient step on the regulariser instead of solving with it."""
    score = np.log(pi_k) + (P @ mu - beta * (np.log(pi_k) - np.log(pi_ref))) / lam
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
        "the opponent's side of P": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """Rewards answers that lose."""
    score = (beta * np.log(pi_ref) + lam * np.log(pi_k) + mu @ P) / (beta + lam)
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
        "overflows": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """exp of a large number."""
    s = beta + lam
    weight = pi_ref ** (beta / s) * pi_k ** (lam / s) * np.exp(P @ mu / s)
    return weight / weight.sum()
''',
        "clips the probabilities": '''
def prox_step(P, mu, pi_k, pi_ref, beta, lam):
    """log(p + 1e-12) is another policy where p is small."""
    score = (beta * np.log(pi_ref) + lam * np.log(pi_k + 1e-12) + P @ mu) / (beta + lam)
    weight = np.exp(score - score.max())
    return weight / weight.sum()
''',
    },
    "exploitability": {
        "unregularised": '''
def exploitability(P, pi, pi_ref, beta):
    """The best answer without its price."""
    return float((P @ pi).max() - 0.5)
''',
        "forgets the player's own KL": '''
def exploitability(P, pi, pi_ref, beta):
    """The opponent's best, without what pi pays."""
    score = np.log(pi_ref) + P @ pi / beta
    return float(beta * (score.max() + np.log(np.exp(score - score.max()).sum())) - 0.5)
''',
        "the own KL with the wrong sign": '''
def exploitability(P, pi, pi_ref, beta):
    """Being far from the reference then looks safe."""
    score = np.log(pi_ref) + P @ pi / beta
    gibbs = beta * (score.max() + np.log(np.exp(score - score.max()).sum()))
    return float(gibbs - beta * np.sum(pi * np.log(pi / pi_ref)) - 0.5)
''',
        "uniform instead of the reference": '''
def exploitability(P, pi, pi_ref, beta):
    """The opponent is held to the uniform policy."""
    score = P @ pi / beta - np.log(len(pi))
    gibbs = beta * (score.max() + np.log(np.exp(score - score.max()).sum()))
    return float(gibbs + beta * np.sum(pi * np.log(pi / pi_ref)) - 0.5)
''',
        "overflows for small beta": '''
def exploitability(P, pi, pi_ref, beta):
    """exp of ten thousand."""
    gibbs = beta * np.log(np.sum(pi_ref * np.exp(P @ pi / beta)))
    return float(gibbs + beta * np.sum(pi * np.log(pi / pi_ref)) - 0.5)
''',
        "value 1/2 not subtracted": '''
def exploitability(P, pi, pi_ref, beta):
    """The opponent's value, not the gain."""
    score = np.log(pi_ref) + P @ pi / beta
    gibbs = beta * (score.max() + np.log(np.exp(score - score.max()).sum()))
    return float(gibbs + beta * np.sum(pi * np.log(pi / pi_ref)))
''',
    },
    "nash_mp": {
        "second step starts from the half step": '''
def nash_mp(P, pi_ref, beta, K):
    """Two steps of mirror descent."""
    def step(anchor, opponent):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(anchor) + P @ opponent) / (beta + 0.5)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path = [pi_ref]
    for _ in range(K):
        half = step(path[-1], path[-1])
        path.append(step(half, half))
    return np.array(path)
''',
        "no look-ahead": '''
def nash_mp(P, pi_ref, beta, K):
    """One step per iteration, against the present self."""
    path = [pi_ref]
    for _ in range(K):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(path[-1]) + P @ path[-1]) / (beta + 0.5)
        weight = np.exp(score - score.max())
        path.append(weight / weight.sum())
    return np.array(path)
''',
        "keeps the look-ahead policy": '''
def nash_mp(P, pi_ref, beta, K):
    """The half step of iteration k is returned in place of the full one."""
    def step(anchor, opponent):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(anchor) + P @ opponent) / (beta + 0.5)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path, pi = [pi_ref], pi_ref
    for _ in range(K):
        half = step(pi, pi)
        pi = step(pi, half)
        path.append(half)
    return np.array(path)
''',
        "returns the half steps as well": '''
def nash_mp(P, pi_ref, beta, K):
    """2 K + 1 rows, cut to K + 1."""
    def step(anchor, opponent):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(anchor) + P @ opponent) / (beta + 0.5)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path, pi = [pi_ref], pi_ref
    for _ in range(K):
        half = step(pi, pi)
        pi = step(pi, half)
        path += [half, pi]
    return np.array(path)[: K + 1]
''',
        "lambda = beta / 2": '''
def nash_mp(P, pi_ref, beta, K):
    """A step that the theorem does not cover."""
    def step(anchor, opponent):
        lam = beta / 2
        score = (beta * np.log(pi_ref) + lam * np.log(anchor) + P @ opponent) / (beta + lam)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path = [pi_ref]
    for _ in range(K):
        half = step(path[-1], path[-1])
        path.append(step(path[-1], half))
    return np.array(path)
''',
        "the reference is left out of the second step": '''
def nash_mp(P, pi_ref, beta, K):
    """The full step does not pay for leaving the reference."""
    def step(anchor, opponent, beta):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(anchor) + P @ opponent) / (beta + 0.5)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path = [pi_ref]
    for _ in range(K):
        half = step(path[-1], path[-1], beta)
        path.append(step(path[-1], half, 0.0))
    return np.array(path)
''',
        "averages the iterates": '''
def nash_mp(P, pi_ref, beta, K):
    """The mean of all policies so far; the theorem is about the last one."""
    def step(anchor, opponent):
        score = (beta * np.log(pi_ref) + 0.5 * np.log(anchor) + P @ opponent) / (beta + 0.5)
        weight = np.exp(score - score.max())
        return weight / weight.sum()
    path = [pi_ref]
    for _ in range(K):
        half = step(path[-1], path[-1])
        path.append(step(path[-1], half))
    return np.cumsum(path, axis=0) / np.arange(1, K + 2)[:, None]
''',
    },
    "pg_surrogate": {
        "gradient flows through the log-ratios": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """A is differentiated too."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    advantage = P[y, y_opp] - 0.5 - beta * (logp - ref[y].log()) - lam * (logp - anchor[y].log())
    return -(advantage * logp).mean()
''',
        "no anchor": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """Plain self-play: nothing limits the step."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    advantage = P[y, y_opp] - 0.5 - beta * (logp - ref[y].log())
    return -(advantage.detach() * logp).mean()
''',
        "no reference": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """The regularised game without its regulariser."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    advantage = P[y, y_opp] - 0.5 - lam * (logp - anchor[y].log())
    return -(advantage.detach() * logp).mean()
''',
        "ascends the loss": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """The sign of a reward, not of a loss."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    advantage = P[y, y_opp] - 0.5 - beta * (logp - ref[y].log()) - lam * (logp - anchor[y].log())
    return (advantage.detach() * logp).mean()
''',
        "score of the opponent's answer": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """Raises the probability of what the other player said."""
    logp = torch.log_softmax(logits, dim=-1)
    own = logp[y].detach()
    advantage = P[y, y_opp] - 0.5 - beta * (own - ref[y].log()) - lam * (own - anchor[y].log())
    return -(advantage * logp[y_opp]).mean()
''',
        "sum over the batch": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """The step grows with the batch."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    own = logp.detach()
    advantage = P[y, y_opp] - 0.5 - beta * (own - ref[y].log()) - lam * (own - anchor[y].log())
    return -(advantage * logp).sum()
''',
        "beta and lam exchanged": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """The reference is held with the strength of the anchor."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    own = logp.detach()
    advantage = P[y, y_opp] - 0.5 - lam * (own - ref[y].log()) - beta * (own - anchor[y].log())
    return -(advantage * logp).mean()
''',
        "the exact objective, but y only": '''
def pg_surrogate(logits, y, y_opp, P, ref, anchor, beta, lam):
    """Forgets the opponent: the row mean of P."""
    logp = torch.log_softmax(logits, dim=-1)[y]
    own = logp.detach()
    advantage = P[y].mean(dim=1) - 0.5 - beta * (own - ref[y].log()) - lam * (own - anchor[y].log())
    return -(advantage * logp).mean()
''',
    },
}
