"""Nash Mirror Prox (Nash-MP): the equilibrium of a regularised preference game, with a last iterate that is linear.

Tiapkin, Calandriello, Belomestny, Moulines, Naumov, Rasul, Valko, Ménard: "Accelerating Nash Learning from Human
Feedback via Mirror Prox", 2025, arXiv:2505.19731v1. (Version 2 has another title and another method.)

The idea. Preferences of many people can run in circles, and then no reward explains them. What remains well defined is
a game: two policies answer, the preferred one wins, and leaving the reference policy costs beta a nat. Its unique
equilibrium is found by proximal steps. One step against the current policy chases the opponent in circles. Nash-MP
takes that step only to look ahead, goes back, and then steps against the policy it saw. The distance to the
equilibrium falls by the factor 1 / (1 + 2 beta) an iteration, for any number of answers.

Differs from the paper:
1. lam is the weight of the proximal KL; the paper writes beta / eta for it. lam = 1/2 is its largest safe step.
2. The guarantee that is checked is the contraction of KL itself, eq. (8); it needs no constant in front. The proof also
   covers every lam with lam (lam + beta) >= 1/4, which is slightly more than lam >= 1/2.
3. The exact method knows the matrix P; a preference query is then one vector P mu, as in the paper's count.
4. The stochastic version is run on matrix games and on a network with 16 contexts, not on a language model: its
   score-function gradient, its frozen opponent and its frozen anchor are those of the language version.
5. The scheme "ema" is our reading of the practical version (slow target as anchor, current policy as opponent).
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from minirl.core.nets import MLP, polyak
from minirl.core.seeding import torch_generator
from minirl.envs.preference_games import (  # noqa: F401 - the problem; its names are part of this file's vocabulary
    Game,
    check_preference,
    contextual_game,
    kl,
    normalise,
    random_game,
    response_slope,
    rock_paper_scissors,
    solve_nash,
    span,
    win_rates,
)

# Shapes: n answers, X contexts (an optional leading axis "..." of every array), B batch. Everything exact is float64
# and stays in logarithms: a policy is its log-probabilities, so that an answer with probability 1e-200 is no problem.


# ------------------------------------------------------------------------------------ Nash-MP and what it is compared with


def prox(game: Game, log_anchor: np.ndarray, opponent: np.ndarray, lam: float) -> np.ndarray:
    """Log of argmax_pi pi^T P mu - beta KL(pi || pi_ref) - lam KL(pi || anchor), (..., n), eq. (4). One query.

    log_anchor (..., n) is a log-policy, opponent mu (..., n) are probabilities, lam > 0.
    """
    check_step(lam)
    wins = win_rates(game.P, opponent)
    return normalise((game.beta * game.log_ref + lam * log_anchor + wins) / (game.beta + lam))


def nash_mp(game: Game, lam: float = 0.5, start: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Nash Mirror Prox, eq. (5): log-policies pi_0, pi_1, ... without end. Two queries an iteration.

    Both steps start from the same pi_k. start (..., n) is the log of pi_0, the reference by default.
    """
    log_pi = first(game, lam, start)
    while True:
        yield log_pi
        look_ahead = prox(game, log_pi, np.exp(log_pi), lam)
        log_pi = prox(game, log_pi, np.exp(look_ahead), lam)


def mmd(game: Game, eta: float | None = None, start: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Mirror descent with the KL to the reference inside the step ("magnetic"), eq. (10). One query an iteration.

    It is Nash-MP without the look-ahead, lam = 1 / eta. eta = 4 beta, the default, is the largest step with a proof.
    """
    eta = 4 * game.beta if eta is None else eta
    log_pi = first(game, eta, start)
    while True:
        yield log_pi
        log_pi = prox(game, log_pi, np.exp(log_pi), 1 / eta)


def selfplay_md(game: Game, eta: float, start: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Mirror descent on the linearised game (INPO's update), eq. (11). One query an iteration; 0 < eta <= 1 / beta.

    Exactly solved it visits the same policies as `mmd` with the step eta / (1 - eta beta).
    """
    log_pi = first(game, eta, start)
    if not eta * game.beta <= 1:
        raise ValueError(f"eta must not exceed 1 / beta = {1 / game.beta:g}, got {eta}")
    while True:
        yield log_pi
        keep = 1 - eta * game.beta
        log_pi = normalise(keep * log_pi + eta * (game.beta * game.log_ref + win_rates(game.P, np.exp(log_pi))))


def nash_md(game: Game, start: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Nash-MD with its own decreasing steps eta_k = 2 / (beta (k + 2)), eq. (12). One query an iteration.

    Opponent and anchor are the geometric mixture of the current policy with the reference, of weight eta_k beta.
    """
    log_pi, k = first(game, 1.0, start), 0
    while True:
        yield log_pi
        weight = 2 / (k + 2)
        mixture = normalise((1 - weight) * log_pi + weight * game.log_ref)
        log_pi = normalise(mixture + weight / game.beta * win_rates(game.P, np.exp(mixture)))
        k += 1


def check_step(step: float) -> None:
    """Raise ValueError unless lam (Nash-MP) or eta (the one-query methods) is positive and finite."""
    if not 0 < step < np.inf:
        raise ValueError(f"lam and eta must be positive numbers, got {step}")


def first(game: Game, step: float, start: np.ndarray | None) -> np.ndarray:
    """pi_0 as a normalised log-policy. Raises ValueError when the step size or the start makes no sense."""
    check_step(step)
    log_pi = game.log_ref if start is None else np.asarray(start, dtype=float)
    if log_pi.shape[-1] != game.P.shape[-1] or not np.isfinite(log_pi).all():
        raise ValueError(f"start must be finite log-probabilities of {game.P.shape[-1]} answers, got {log_pi}")
    return normalise(log_pi)


# --------------------------------------------------------------------------------------------------------- the theory


def proof_applies(beta: float, lam: float = 0.5) -> bool:
    """Whether eq. (8) is proved for this step: lam (lam + beta) >= 1/4."""
    return lam * (lam + beta) >= 0.25


def rate_bound(beta: float, lam: float = 0.5, queries: int = 2) -> float:
    """Largest slope of log KL a query that the theorem allows, eq. (9): -log(1 + beta / lam) / queries.

    Nash-MP: lam = 1/2, queries = 2 gives -log(1 + 2 beta) / 2. MMD at its safe step: lam = 1 / (4 beta), queries = 1.
    """
    return -np.log1p(beta / lam) / queries


def local_rate(game: Game, log_star: np.ndarray, lam: float = 0.5, look_ahead: bool = True) -> float:
    """Slope of log KL an ITERATION in the limit k -> infinity, eq. (13): twice the log of the spectral radius at pi*.

    The map log pi_k -> log pi_{k+1} of Nash-MP (or of MMD: look_ahead False) is differentiated at the equilibrium
    log_star (n,). Positive: the equilibrium repels.
    """
    identity, slope = np.eye(len(log_star)), response_slope(game, log_star)
    step = (lam * identity + slope) / (lam + game.beta)
    if look_ahead:
        step = (lam * identity + slope @ step) / (lam + game.beta)
    step = step - np.exp(log_star) @ step  # log-policies stay normalised, so constants are no direction
    return float(2 * np.log(np.abs(np.linalg.eigvals(step)).max()))


def fit_slope(values: np.ndarray, floor: float = 1e-22) -> float:
    """Slope of log(values) an entry, by least squares over the second half of the entries (K + 1,) above `floor`.

    The first half is burn-in. What lies below the floor is rounding and is never fitted; with `kl` of this file 1e-22
    is safe, with the textbook formula 1e-11. Raises ValueError when fewer than 4 entries remain.
    """
    values = np.asarray(values, dtype=float)
    below = np.flatnonzero(~(values > floor))
    end = below[0] if len(below) else len(values)
    if end - end // 2 < 4:
        raise ValueError(f"only {end} values lie above {floor:g}: too few to fit a slope to their second half")
    return float(np.polyfit(np.arange(end // 2, end), np.log(values[end // 2 : end]), 1)[0])


# ------------------------------------------------------------------------------------- the policy-gradient version


@dataclass(frozen=True)
class Config:
    """Defaults solve rock-paper-scissors in about a second; the network version needs `game="contextual"`."""

    game: str = "rps"  # "rps", "random" (one context) or "contextual"; see minirl.envs.preference_games
    answers: int = 6  # n, of the games "random" and "contextual"
    contexts: int = 16  # X, of the game "contextual"
    game_seed: int = 0  # which game of the family
    hidden: tuple[int, ...] = ()  # widths of the tanh layers; () is a table of logits, one row a context
    beta: float = 0.1  # price of a nat of KL to the reference, > 0
    lam: float = 0.5  # weight of the KL to the anchor, > 0
    scheme: str = "two_step"  # "two_step" (Nash-MP), "ema" (slow target as anchor), "one_step" (no look-ahead)
    inner: int = 5  # gradient steps for each proximal problem
    batch_size: int = 256  # B: pairs of answers, and preference queries, per gradient step
    lr: float = 0.5  # step size of plain gradient descent
    kappa: float = 0.05  # "ema": fraction that the anchor moves towards the policy per gradient step
    eval_every: int = 10  # iterations between exact evaluations
    seed: int = 0

    def __post_init__(self):
        if self.game not in ("rps", "random", "contextual"):
            raise ValueError(f'game must be "rps", "random" or "contextual", got {self.game!r}')
        if self.scheme not in ("two_step", "ema", "one_step"):
            raise ValueError(f'scheme must be "two_step", "ema" or "one_step", got {self.scheme!r}')
        if not self.beta > 0 or not self.lam > 0:
            raise ValueError(f"beta and lam must be positive, got {self.beta} and {self.lam}")
        if self.inner < 1 or self.batch_size < 1 or not 0 < self.kappa <= 1:
            raise ValueError("inner and batch_size must be at least 1, kappa must lie in (0, 1]")


def pg_loss(logp: Tensor, outcome: Tensor, log_ref: Tensor, log_anchor: Tensor, beta: float, lam: float) -> Tensor:
    """Scalar surrogate, eq. (14), whose gradient is minus the score-function gradient of a proximal problem.

    logp (B,): log pi_theta of the drawn answers, the only input that gets a gradient. outcome (B,): 1 where the answer
    beat the opponent's, else 0 (or its probability). log_ref, log_anchor (B,): log-probabilities of the same answers.
    The advantage is a number: the gradient of its own log-ratios has mean zero and is left out.
    """
    advantage = outcome - 0.5 - beta * (logp - log_ref) - lam * (logp - log_anchor)
    return -(logp * advantage.detach()).mean()


class Policy(nn.Module):
    """log pi (X, n) for all contexts: log_softmax(log_ref + f(features)), with f = 0 at the start, so that pi = pi_ref."""

    def __init__(self, log_ref: np.ndarray, features: np.ndarray, hidden: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.register_buffer("log_ref", torch.as_tensor(log_ref, dtype=torch.float32), persistent=False)
        self.register_buffer("features", torch.as_tensor(features, dtype=torch.float32), persistent=False)
        if hidden:
            self.net = MLP((features.shape[1], *hidden, log_ref.shape[1]), generator, activation=torch.tanh)
            nn.init.zeros_(self.net.weights[-1])
            nn.init.zeros_(self.net.biases[-1])
        else:
            self.table = nn.Parameter(torch.zeros(log_ref.shape))

    def forward(self) -> Tensor:
        change = self.table if hasattr(self, "table") else self.net(self.features)
        return torch.log_softmax(self.log_ref + change, dim=-1)


class NashMP(nn.Module):
    """A softmax policy trained from sampled pairs and their outcomes; `learn` trains, `act` answers."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        if config.game == "contextual":
            P, log_ref, features = contextual_game(config.contexts, config.answers, config.game_seed)
        else:
            rps = config.game == "rps"
            pair = rock_paper_scissors() if rps else random_game(config.answers, config.game_seed)
            (P, log_ref), features = (array[None] for array in pair), np.ones((1, 1))
        self.game = Game(P, log_ref, config.beta)
        self.log_star = solve_nash(self.game)  # (X, n), for evaluation only
        self.P, self.log_ref = (torch.as_tensor(array, dtype=torch.float32) for array in (P, log_ref))
        init, self.draws = torch_generator(config.seed, 0), torch_generator(config.seed, 1)
        self.policy = Policy(log_ref, features, config.hidden, init)
        self.anchor = deepcopy(self.policy).requires_grad_(False)  # pi_k, or its slow stand-in
        self.optimiser = torch.optim.SGD(self.policy.parameters(), config.lr)
        self.queries = 0  # preference queries so far: one for each compared pair

    @torch.no_grad()
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Sampled answers (N,) for the indices (N,) of contexts. Raises ValueError for a context that does not exist."""
        if not ((0 <= obs) & (obs < len(self.P))).all():
            raise ValueError(f"there are the contexts 0 ... {len(self.P) - 1}, got {obs}")
        probs = self.policy().exp()[torch.as_tensor(obs)]
        return torch.multinomial(probs, 1, generator=self.draws).squeeze(-1).numpy()

    @torch.no_grad()
    def log_policy(self) -> np.ndarray:
        """The current log-policy (X, n), float64."""
        return normalise(self.policy().double().numpy())

    def ascend(self, log_opponent: Tensor, log_anchor: Tensor) -> None:
        """One stochastic gradient step of the policy; log_opponent, log_anchor (X, n) are frozen."""
        config = self.config
        context = torch.randint(len(self.P), (config.batch_size,), generator=self.draws)
        log_pi = self.policy()
        with torch.no_grad():
            answer, other = (
                torch.multinomial(table.exp()[context], 1, generator=self.draws).squeeze(-1)
                for table in (log_pi, log_opponent)
            )
            preferred = self.P[context, answer, other]
            outcome = (torch.rand(preferred.shape, generator=self.draws) < preferred).float()  # one bit a query
        drawn = [table[context, answer] for table in (log_pi, self.log_ref, log_anchor)]
        loss = pg_loss(drawn[0], outcome, drawn[1], drawn[2], config.beta, config.lam)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.queries += config.batch_size

    def iterate(self) -> None:
        """One iteration: 2 * inner gradient steps ("one_step": inner of them)."""
        config = self.config
        if config.scheme == "ema":
            for _ in range(2 * config.inner):
                with torch.no_grad():
                    log_opponent, log_anchor = self.policy(), self.anchor()
                self.ascend(log_opponent, log_anchor)
                polyak(self.anchor, self.policy, config.kappa)
            return
        polyak(self.anchor, self.policy, 1.0)  # pi_k
        with torch.no_grad():
            log_anchor = log_opponent = self.anchor()
        if config.scheme == "two_step":
            for _ in range(config.inner):  # look ahead ...
                self.ascend(log_opponent, log_anchor)
            with torch.no_grad():
                log_opponent = self.policy()
            polyak(self.policy, self.anchor, 1.0)  # ... and go back
        for _ in range(config.inner):
            self.ascend(log_opponent, log_anchor)

    def learn(self, steps: int) -> Iterator[dict[str, float]]:
        """Train for `steps` iterations; an iteration is a pair of proximal problems.

        Yields at iteration 0 and every `eval_every` iterations "step" (iterations), "progress", "queries" (preference
        queries so far), and exactly, averaged over contexts: "exploitability" and "kl", KL(pi* || pi) in nats.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        for step in range(steps + 1):
            if step > 0:
                self.iterate()
            if step % self.config.eval_every == 0 or step == steps:
                log_pi = self.log_policy()
                yield {
                    "step": step,
                    "progress": step / steps,
                    "queries": self.queries,
                    "exploitability": float(self.game.exploitability(log_pi).mean()),
                    "kl": float(kl(self.log_star, log_pi).mean()),
                }
