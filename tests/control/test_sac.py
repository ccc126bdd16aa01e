"""Oracles of Soft Actor-Critic, and the wrong answers that its assignment must reject."""

# For each exercise: answers that look right and are not. Each replaces the whole solution cell and must lose its points.
WRONG = {
    "tanh_gaussian_logprob": {
        "no change of variables": """
def tanh_gaussian_logprob(u, mu, log_std):
    return torch.distributions.Normal(mu, log_std.exp()).log_prob(u).sum(-1)
""",
        "infinite where tanh rounds to one": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal - torch.log(1 - torch.tanh(u) ** 2)).sum(-1)
""",
        "a small constant hides the infinity": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal - torch.log(1 - torch.tanh(u) ** 2 + 1e-6)).sum(-1)
""",
        "log cosh overflows": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal + 2 * torch.log(torch.cosh(10 * u / 10).pow(3)) / 3).sum(-1)
""",
        "correction added": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal + 2 * (np.log(2) - u - F.softplus(-2 * u))).sum(-1)
""",
        "mean over the action dimensions": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal - 2 * (np.log(2) - u - F.softplus(-2 * u))).mean(-1)
""",
        "shape (B, 1)": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
    return (log_normal - 2 * (np.log(2) - u - F.softplus(-2 * u))).sum(-1, keepdim=True)
""",
        "log of the standard deviation taken for that of the variance": """
def tanh_gaussian_logprob(u, mu, log_std):
    log_normal = torch.distributions.Normal(mu, (log_std / 2).exp()).log_prob(u)
    return (log_normal - 2 * (np.log(2) - u - F.softplus(-2 * u))).sum(-1)
""",
    },
    "soft_target": {
        "entropy outside the discount and the mask": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = torch.min(q1, q2).squeeze(-1)
    return (reward + gamma * (1 - terminated) * q - alpha * logp).detach()
""",
        "the larger critic": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = torch.max(q1, q2).squeeze(-1)
    return (reward + gamma * (1 - terminated) * (q - alpha * logp)).detach()
""",
        "the mean of the critics": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = (q1 + q2).squeeze(-1) / 2
    return (reward + gamma * (1 - terminated) * (q - alpha * logp)).detach()
""",
        "broadcasts to (B, B)": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    return (reward + gamma * (1 - terminated) * (torch.min(q1, q2) - alpha * logp)).detach()
""",
        "broadcasts, then averages": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    return (reward + gamma * (1 - terminated) * (torch.min(q1, q2) - alpha * logp)).mean(0).detach()
""",
        "the critic that is smaller on average": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = (q1 if q1.mean() < q2.mean() else q2).squeeze(-1)
    return (reward + gamma * (1 - terminated) * (q - alpha * logp)).detach()
""",
        "bootstraps after the end": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    return (reward + gamma * (torch.min(q1, q2).squeeze(-1) - alpha * logp)).detach()
""",
        "entropy as a cost": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = torch.min(q1, q2).squeeze(-1)
    return (reward + gamma * (1 - terminated) * (q + alpha * logp)).detach()
""",
        "lets the gradient through": """
def soft_target(reward, terminated, q1, q2, logp, alpha, gamma):
    q = torch.min(q1, q2).squeeze(-1)
    return reward + gamma * (1 - terminated) * (q - alpha * logp)
""",
    },
    "alpha_grad": {
        "wrong sign": """
def alpha_grad(log_alpha, logp, target_entropy):
    return log_alpha.detach().exp() * (logp.detach() + target_entropy).mean()
""",
        "without the factor alpha": """
def alpha_grad(log_alpha, logp, target_entropy):
    return -(logp.detach() + target_entropy).mean()
""",
        "derivative by alpha squared": """
def alpha_grad(log_alpha, logp, target_entropy):
    return -(2 * log_alpha.detach()).exp() * (logp.detach() + target_entropy).mean()
""",
        "the policy is not held constant": """
def alpha_grad(log_alpha, logp, target_entropy):
    return -log_alpha.detach().exp() * (logp + target_entropy).mean()
""",
        "trains the actor through backward": """
def alpha_grad(log_alpha, logp, target_entropy):
    leaf = log_alpha.detach().requires_grad_()
    (-leaf.exp() * (logp + target_entropy)).mean().backward()
    return leaf.grad
""",
        "leaves a gradient behind": """
def alpha_grad(log_alpha, logp, target_entropy):
    log_alpha.requires_grad_()
    (-log_alpha.exp() * (logp.detach() + target_entropy)).mean().backward()
    return log_alpha.grad.clone()
""",
        "sum instead of mean": """
def alpha_grad(log_alpha, logp, target_entropy):
    return -log_alpha.detach().exp() * (logp.detach() + target_entropy).sum()
""",
        "target entropy with the wrong sign": """
def alpha_grad(log_alpha, logp, target_entropy):
    return -log_alpha.detach().exp() * (logp.detach() - target_entropy).mean()
""",
    },
    "soft_value_iteration": {
        "hard maximum": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        V = (R + gamma * P @ V).max(axis=1)
    return V
""",
        "log of the mean": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        Q = R + gamma * P @ V
        top = Q.max(axis=1)
        V = top + alpha * np.log(np.exp((Q - top[:, None]) / alpha).mean(axis=1))
    return V
""",
        "overflows at a low temperature": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        V = alpha * np.log(np.exp((R + gamma * P @ V) / alpha).sum(axis=1))
    return V
""",
        "stops too early": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(100):
        Q = R + gamma * P @ V
        top = Q.max(axis=1)
        V = top + alpha * np.log(np.exp((Q - top[:, None]) / alpha).sum(axis=1))
    return V
""",
        "value of the soft policy without its entropy": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        Q = R + gamma * P @ V
        weight = np.exp((Q - Q.max(axis=1, keepdims=True)) / alpha)
        V = (weight * Q).sum(axis=1) / weight.sum(axis=1)
    return V
""",
        "temperature forgotten in front of the logarithm": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        Q = (R + gamma * P @ V) / alpha
        top = Q.max(axis=1)
        V = top + np.log(np.exp(Q - top[:, None]).sum(axis=1))
        V = np.clip(V, -1e6, 1e6)
    return V
""",
        "returns Q": """
def soft_value_iteration(P, R, gamma, alpha):
    V = np.zeros(len(R))
    for _ in range(2000):
        Q = R + gamma * P @ V
        top = Q.max(axis=1)
        V = top + alpha * np.log(np.exp((Q - top[:, None]) / alpha).sum(axis=1))
    return Q
""",
    },
    "kl_projection": {
        "multiplies by the temperature": """
def kl_projection(q, alpha):
    weight = np.exp(alpha * (q - q.max(axis=1, keepdims=True)))
    return weight / weight.sum(axis=1, keepdims=True)
""",
        "forgets the temperature": """
def kl_projection(q, alpha):
    weight = np.exp(q - q.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)
""",
        "normalises over the states": """
def kl_projection(q, alpha):
    weight = np.exp((q - q.max()) / alpha)
    return weight / weight.sum(axis=0, keepdims=True)
""",
        "normalises over everything": """
def kl_projection(q, alpha):
    weight = np.exp((q - q.max()) / alpha)
    return weight / weight.sum()
""",
        "overflows": """
def kl_projection(q, alpha):
    weight = np.exp(q / alpha)
    return weight / weight.sum(axis=1, keepdims=True)
""",
        "the greedy policy": """
def kl_projection(q, alpha):
    best = q == q.max(axis=1, keepdims=True)
    return best / best.sum(axis=1, keepdims=True)
""",
        "changes its argument": """
def kl_projection(q, alpha):
    q -= q.max(axis=1, keepdims=True)
    weight = np.exp(q / alpha)
    return weight / weight.sum(axis=1, keepdims=True)
""",
    },
}
