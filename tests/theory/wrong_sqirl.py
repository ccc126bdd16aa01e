WRONG = {
    "random_q": {
        "the best action instead of a random one": """
def random_q(P, R, T):
    Q, V = np.empty((T, *R.shape)), np.zeros(len(R))
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V = Q[t].max(axis=1)
    return Q
""",
        "one step too many": """
def random_q(P, R, T):
    Q, V = np.empty((T, *R.shape)), R.mean(axis=1)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V = Q[t].mean(axis=1)
    return Q
""",
        "rows in the order of steps to go": """
def random_q(P, R, T):
    Q, V = np.empty((T, *R.shape)), np.zeros(len(R))
    for t in range(T):
        Q[t] = R + P @ V
        V = Q[t].mean(axis=1)
    return Q
""",
        "the first action is random too": """
def random_q(P, R, T):
    Q, V = np.empty((T, *R.shape)), np.zeros(len(R))
    for t in reversed(range(T)):
        Q[t] = R.mean(axis=1, keepdims=True) + P @ V
        V = Q[t].mean(axis=1)
    return Q
""",
        "sums over the later actions": """
def random_q(P, R, T):
    Q, V = np.empty((T, *R.shape)), np.zeros(len(R))
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V = Q[t].sum(axis=1)
    return Q
""",
        "last step left at zero": """
def random_q(P, R, T):
    Q = np.zeros((T, *R.shape))
    for t in reversed(range(T - 1)):
        Q[t] = R + P @ Q[t + 1].mean(axis=1)
    return Q
""",
        "does not work for a single step": """
def random_q(P, R, T):
    Q = np.empty((T, *R.shape))
    Q[T - 1] = R
    Q[T - 2] = R + P @ R.mean(axis=1)
    for t in reversed(range(T - 2)):
        Q[t] = R + P @ Q[t + 1].mean(axis=1)
    return Q
""",
    },
    "min_k": {
        "one greedy policy, the first best action": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = (R + P @ V)[np.arange(S), Q[t].argmax(axis=1)]
        if V[s0] >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "the luckiest tie": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] >= Q[t].max(axis=1, keepdims=True) - 1e-9, R + P @ V, -np.inf).max(axis=1)
        if V[s0] >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "asks for the right action in every state, reachable or not": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, star = np.empty((T, *R.shape)), np.empty((T, *R.shape))
    V, best = np.zeros(S), np.zeros(S)
    for t in reversed(range(T)):
        Q[t], star[t] = R + P @ V, R + P @ best
        V, best = Q[t].mean(axis=1), star[t].max(axis=1)
    for k in range(1, T + 1):
        greedy = Q >= Q.max(axis=2, keepdims=True) - 1e-9
        right = star >= star.max(axis=2, keepdims=True) - 1e-9
        if (right | ~greedy).all():
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "starts everywhere instead of in s0": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] >= Q[t].max(axis=1, keepdims=True) - 1e-9, R + P @ V, np.inf).min(axis=1)
        if (V >= best - 1e-9).all():
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "counts from zero": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(T):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] >= Q[t].max(axis=1, keepdims=True) - 1e-9, R + P @ V, np.inf).min(axis=1)
        if V[s0] >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "ties only between equal floats": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] == Q[t].max(axis=1, keepdims=True), R + P @ V, np.inf).min(axis=1)
        if V[s0] >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "searches down from T, as if a larger k were always at least as good": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    solvable = []
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] >= Q[t].max(axis=1, keepdims=True) - 1e-9, R + P @ V, np.inf).min(axis=1)
        solvable.append(V[s0] >= best[s0] - 1e-9)
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
    k = T
    while k > 1 and solvable[k - 2]:
        k -= 1
    return k
""",
        "compares what Q^k believes with the best return": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        if Q[0, s0].max() >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "the actions of the first step at every step": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        greedy = Q[0] >= Q[0].max(axis=1, keepdims=True) - 1e-9
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(greedy, R + P @ V, np.inf).min(axis=1)
        if V[s0] >= best[s0] - 1e-9 or k == T:
            return k
        Q = np.stack([R + P @ (Q[t + 1].max(axis=1) if t + 1 < T else np.zeros(S)) for t in range(T)])
""",
        "bootstraps after the last step": """
def min_k(P, R, T, s0):
    S = len(R)
    Q, best = np.empty((T, *R.shape)), np.zeros(S)
    V = np.zeros(S)
    for t in reversed(range(T)):
        Q[t] = R + P @ V
        V, best = Q[t].mean(axis=1), (R + P @ best).max(axis=1)
    for k in range(1, T + 1):
        V = np.zeros(S)
        for t in reversed(range(T)):
            V = np.where(Q[t] >= Q[t].max(axis=1, keepdims=True) - 1e-9, R + P @ V, np.inf).min(axis=1)
        if V[s0] >= best[s0] - 1e-9:
            return k
        Q = np.stack([R + P @ Q[min(t + 1, T - 1)].max(axis=1) for t in range(T)])
""",
    },
    "effective_horizon": {
        "natural logarithm": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "the smallest solvable k only": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    if not solvable.any():
        return np.inf
    k = solvable.argmax()
    return k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1])
""",
        "every k, solvable or not": """
def effective_horizon(Qs, met, solvable):
    if not solvable.any():
        return np.inf
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min(k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in range(len(Qs)))
""",
        "places where all actions are best count as gap 0": """
def effective_horizon(Qs, met, solvable):
    ordered = np.sort(Qs, axis=-1)
    top = ordered[..., -1:]
    rest = np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    rest = np.where(np.isfinite(rest), rest, top[..., 0])
    gap = np.where(met, top[..., 0] - rest, np.inf).min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "the two largest values, even when they tie": """
def effective_horizon(Qs, met, solvable):
    ordered = np.sort(Qs, axis=-1)
    distance = ordered[..., -1] - ordered[..., -2]
    distance = np.where(distance > 1e-9, distance, np.inf)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "best against worst action": """
def effective_horizon(Qs, met, solvable):
    distance = Qs.max(-1) - Qs.min(-1)
    distance = np.where(distance > 1e-9, distance, np.inf)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "all states, met or not": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = distance.min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "gap not squared": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k + 1 - np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "k counts from zero": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "ties only between equal floats": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top, Qs, -np.inf).max(-1)
    gap = np.where(met, distance, np.inf).min((1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
        "mean gap": """
def effective_horizon(Qs, met, solvable):
    top = Qs.max(-1, keepdims=True)
    distance = top[..., 0] - np.where(Qs < top - 1e-9, Qs, -np.inf).max(-1)
    gap = np.nanmean(np.where(met & np.isfinite(distance), distance, np.nan), axis=(1, 2))
    return min((k + 1 - 2 * np.log(gap[k]) / np.log(Qs.shape[-1]) for k in np.flatnonzero(solvable)), default=np.inf)
""",
    },
    "sqirl_iteration": {
        "the random policy's values, whatever k is": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    played = np.arange(1, T + 1) <= length[:, None]
    here = length >= i
    y = np.where(played, reward, 0.0)[:, i - 1:].sum(1)
    total, count = np.zeros((S, A)), np.zeros((S, A))
    np.add.at(total, (state[here, i - 1], action[here, i - 1]), y[here])
    np.add.at(count, (state[here, i - 1], action[here, i - 1]), 1)
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf)
""",
        "the sum of rewards starts at step i": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, i - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "bootstraps after the end of an episode": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + Q.max(1)[state[:, t - 1]]
    return Q
""",
        "counts what is written after the end": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    y = reward[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "pools the steps": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    played = np.arange(1, T + 1) <= length[:, None]
    paid = np.where(played, reward, 0.0)
    back = paid[:, ::-1].cumsum(1)[:, ::-1]
    use = played & (np.arange(1, T + 1) >= i)
    place = state[use], action[use]
    y = back
    for j in range(min(k, T - i + 1)):
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, place, y[use])
        np.add.at(count, place, 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        after = np.zeros((len(state), T))
        after[:, :-1] = np.where(played[:, 1:], Q.max(1)[np.where(played, state, 0)][:, 1:], 0)
        y = paid + after
    return Q
""",
        "uses the steps before i": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    first, i = i, 1
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "the mean over the next actions instead of the best": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, np.where(np.isfinite(Q), Q, 0).mean(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "bootstraps from the action that was taken": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            next_q = Q[np.where(here, state[:, t - 1], 0), np.where(here, action[:, t - 1], 0)]
            y = reward[:, t - 2] + np.where(here, next_q, 0)
    return Q
""",
        "divides by the number of episodes": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / len(state), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "the depth is not cut at the end of the episode": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = i + k - 1
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    Q = np.zeros((S, A))
    for t in range(min(last, T), i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
        "pairs without data are worth 0": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k - 1, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = total / np.maximum(count, 1)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return np.where(count > 0, Q, -np.inf)
""",
        "one regression too many": """
def sqirl_iteration(state, action, reward, length, i, k, S, A):
    T = state.shape[1]
    last = min(i + k, T)
    played = np.arange(1, T + 1) <= length[:, None]
    y = np.where(played, reward, 0.0)[:, last - 1:].sum(1)
    for t in range(last, i - 1, -1):
        here = length >= t
        total, count = np.zeros((S, A)), np.zeros((S, A))
        np.add.at(total, (state[here, t - 1], action[here, t - 1]), y[here])
        np.add.at(count, (state[here, t - 1], action[here, t - 1]), 1)
        Q = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        if t > i:
            y = reward[:, t - 2] + np.where(here, Q.max(1)[np.where(here, state[:, t - 1], 0)], 0)
    return Q
""",
    },
    "lucky": {
        "the limit of many episodes": """
def lucky(A, L, k, m, b):
    return float(A ** -(L - k) > b)
""",
        "one paid episode is enough": """
def lucky(A, L, k, m, b):
    return 1 - (1 - A ** -float(L)) ** m
""",
        "takes the expected number of episodes for N": """
def lucky(A, L, k, m, b):
    from math import comb
    N = max(round(m * A ** -float(k)), 1)
    p = A ** -float(L - k)
    return sum(comb(N, W) * p**W * (1 - p) ** (N - W) for W in range(N + 1) if W / N > b + 1e-9)
""",
        "divides by all episodes": """
def lucky(A, L, k, m, b):
    from math import comb
    p = A ** -float(L)
    return sum(comb(m, W) * p**W * (1 - p) ** (m - W) for W in range(m + 1) if W / m > b + 1e-9)
""",
        "a tie counts as success": """
def lucky(A, L, k, m, b):
    from math import comb
    reach, win, total = A ** -float(k), A ** -float(L - k), 0.0
    for N in range(1, m + 1):
        for W in range(N + 1):
            if W / N > b - 1e-9:
                total += comb(m, N) * reach**N * (1 - reach) ** (m - N) * comb(N, W) * win**W * (1 - win) ** (N - W)
    return total
""",
        "given that somebody went forward": """
def lucky(A, L, k, m, b):
    from math import comb
    reach, win, total = A ** -float(k), A ** -float(L - k), 0.0
    for N in range(1, m + 1):
        for W in range(N + 1):
            if W / N > b + 1e-9:
                total += comb(m, N) * reach**N * (1 - reach) ** (m - N) * comb(N, W) * win**W * (1 - win) ** (N - W)
    return total / (1 - (1 - reach) ** m)
""",
        "k steps left instead of L - k": """
def lucky(A, L, k, m, b):
    from math import comb
    reach, win, total = A ** -float(L - k), A ** -float(k), 0.0
    for N in range(1, m + 1):
        for W in range(N + 1):
            if W / N > b + 1e-9:
                total += comb(m, N) * reach**N * (1 - reach) ** (m - N) * comb(N, W) * win**W * (1 - win) ** (N - W)
    return total
""",
        "one forward step too few before the estimate": """
def lucky(A, L, k, m, b):
    from math import comb
    reach, win, total = A ** -float(k - 1), A ** -float(L - k + 1), 0.0
    for N in range(1, m + 1):
        for W in range(N + 1):
            if W / N > b + 1e-9:
                total += comb(m, N) * reach**N * (1 - reach) ** (m - N) * comb(N, W) * win**W * (1 - win) ** (N - W)
    return total
""",
        "normal approximation": """
def lucky(A, L, k, m, b):
    from math import erfc, sqrt
    N, p = m * A ** -float(k), A ** -float(L - k)
    return 0.5 * erfc((b - p) / sqrt(2 * max(p * (1 - p), 1e-9) / N))
""",
    },
}
