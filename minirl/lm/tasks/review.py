"""Film reviews of one sentence: the opening is given, the model writes the rest, VADER says how positive the whole is.

The sentences come from a small grammar, so it is known exactly whether a text is a sentence, which words may come next,
and with which probability. VADER (Hutto and Gilbert 2014) adds up the valences of words from a lexicon that people
rated, with rules for negation, degree, "but" and exclamation marks. It reads no grammar: that is what fools it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np

from minirl.lm.tasks import Prompt, Result, check_split, split_of
from minirl.lm.tok import Tokenizer, WordTok

# Nonterminals are in capitals; a text is derived from TEXT, and every alternative of a nonterminal is as likely as the others.
GRAMMAR = {
    "TEXT": ("FIRST END", "FIRST LINK CLAUSE END"),
    "END": (".", ".", "!"),
    "LINK": ("but", "and", "while", "because"),
    "FIRST": ("the ADJECTIVE THING IS QUALITY", "its ADJECTIVE THING IS QUALITY", "CLAUSE", "CLAUSE"),
    "CLAUSE": (
        "the THING IS QUALITY",
        "its THING IS QUALITY",
        "PERSON VERB the THING",
        "PERSON do not VERB the THING",
        "PERSON never VERB the THING",
        "the THING IS a NOUN",
    ),
    "IS": ("is", "seems", "feels", "remains"),
    "QUALITY": ("ADJECTIVE", "DEGREE ADJECTIVE", "not ADJECTIVE", "not DEGREE ADJECTIVE", "hardly ADJECTIVE"),
    "DEGREE": ("MORE", "LESS"),
    "MORE": tuple("really very extremely utterly totally".split()),
    "LESS": tuple("slightly somewhat partly".split()),
    "PERSON": tuple("i we you they people children parents viewers".split()),
    "THING": tuple(
        "film movie plot story script cast ending acting dialogue music pacing camera director scene sequel drama "
        "soundtrack setting opening editing lighting performance finale trailer remake song title dance".split()
    ),
    "ADJECTIVE": ("GOOD", "BAD", "PLAIN"),
    "VERB": ("LIKE", "DISLIKE"),
    "NOUN": ("JOY", "SHAME"),
    "GOOD": tuple(
        "good great wonderful brilliant excellent superb charming delightful funny beautiful clever lovely amazing "
        "perfect enjoyable fantastic terrific warm fresh gorgeous impressive gentle elegant honest graceful engaging "
        "fascinating hilarious smart strong sweet exciting satisfying original creative sincere".split()
    ),
    "BAD": tuple(
        "bad awful terrible dull boring poor weak stupid ugly horrible annoying pathetic ridiculous lame messy lazy "
        "tired empty miserable disappointing dreadful frustrating sad confusing painful dumb worthless gloomy "
        "depressing irritating disgusting unpleasant dreary lousy foolish flawed".split()
    ),
    "PLAIN": tuple("long short slow quiet loud new old simple dark modern famous usual".split()),
    "LIKE": tuple("love like enjoy admire adore praise recommend respect trust appreciate".split()),
    "DISLIKE": tuple("hate dislike despise regret fear resent avoid blame loathe ignore".split()),
    "JOY": tuple("joy delight triumph masterpiece treasure pleasure gift success".split()),
    "SHAME": tuple("disaster failure mess waste bore shame mistake tragedy".split()),
}
WORDS = tuple(sorted({w for rule in GRAMMAR.values() for way in rule for w in way.split()} - set(GRAMMAR)))
OPENING = (3, 5)  # words of a prompt

# --------------------------------------------------------------------------------------------- the grammar
# What has still to come is a stack of symbols, the next one first. Several stacks can explain the same words, so a text
# in the making is {stack: probability of having written these words and having this stack left}.

Stacks = dict[tuple[str, ...], float]


@cache
def next_words(stack: tuple[str, ...]) -> dict[str, Stacks]:
    """The words that may come next from one stack, each with the stacks after it and their probabilities."""
    if not stack:
        return {}
    top, *rest = stack
    if top not in GRAMMAR:
        return {top: {tuple(rest): 1.0}}
    found = {}
    for way in GRAMMAR[top]:
        for word, after in next_words((*way.split(), *rest)).items():
            for s, p in after.items():
                found.setdefault(word, {}).setdefault(s, 0.0)
                found[word][s] += p / len(GRAMMAR[top])
    return found


def advance(stacks: Stacks, word: str) -> Stacks:
    """The stacks after one more word; empty if no sentence goes on like this."""
    after = {}
    for stack, p in stacks.items():
        for s, q in next_words(stack).get(word, {}).items():
            after[s] = after.get(s, 0.0) + p * q
    return after


def parse(words: Iterable[str]) -> tuple[int, Stacks]:
    """How many of the words some sentence starts with, and the stacks after those."""
    stacks = {("TEXT",): 1.0}
    n = 0
    for word in words:
        after = advance(stacks, word)
        if not after:
            break
        n, stacks = n + 1, after
    return n, stacks


def finish(stack: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """Random words for all that is still to come."""
    todo, words = list(stack), []
    while todo:
        top = todo.pop(0)
        if top in GRAMMAR:
            todo[:0] = GRAMMAR[top][rng.integers(len(GRAMMAR[top]))].split()
        else:
            words.append(top)
    return words


@cache
def longest(symbol: str) -> int:
    """Words of the longest text of a symbol."""
    return max(sum(map(longest, way.split())) for way in GRAMMAR[symbol]) if symbol in GRAMMAR else 1


# ------------------------------------------------------------------------------------------------- sentiment


@cache
def analyser():
    """VADER's scorer. Raises ImportError with what to do when the package is missing."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError:
        raise ImportError("the review task needs VADER's lexicon: pip install vaderSentiment") from None
    return SentimentIntensityAnalyzer()


@lru_cache(maxsize=1 << 16)
def sentiment(text: str) -> float:
    """VADER's compound score of a text, -1 (most negative) to 1; 0 for a text without a rated word."""
    return analyser().polarity_scores(text)["compound"]


# ------------------------------------------------------------------------------------------------- the task


@dataclass(frozen=True)
class Review:
    """Rewards lie in [-1, 1], and in [-1, 1 + fluency] with fluency: they are not shares of anything."""

    fluency: float = 0.0  # weight of the grammar score, >= 0

    def __post_init__(self):
        if not self.fluency >= 0:
            raise ValueError(f"fluency must be >= 0, got {self.fluency}")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return WordTok(WORDS)

    @property
    def max_new(self) -> int:
        return longest("TEXT") - OPENING[0] + 1  # and <eos>

    def sample_prompts(self, n: int, rng: np.random.Generator, split: str) -> list[Prompt]:
        """n openings of random sentences, 3 to 5 words, with at least one more word to write before the end."""
        check_split(split)
        prompts = []
        while len(prompts) < n:
            words = finish(("TEXT",), rng)
            text = self.tokenizer.join(words[: min(rng.integers(OPENING[0], OPENING[1] + 1), len(words) - 2)])
            if split_of(text) == split:
                prompts.append(Prompt(text))
        return prompts

    def reference(self, prompt: Prompt, rng: np.random.Generator) -> str:
        """A random ending, drawn from the grammar given the opening."""
        n, stacks = parse(words := self.tokenizer.split(prompt.text))
        if n < len(words):
            raise ValueError(f"no sentence starts with {prompt.text!r}: {words[n]!r} cannot stand there")
        p = np.array(list(stacks.values()))
        return self.tokenizer.join(finish(list(stacks)[rng.choice(len(p), p=p / p.sum())], rng))

    def whole(self, prompt: Prompt, text: str) -> list[str]:
        """The words of opening and ending."""
        return self.tokenizer.split(prompt.text) + self.tokenizer.split(text)

    def verify(self, prompt: Prompt, text: str) -> Result:
        """Sentiment of the whole text, plus fluency * grammar.

        info["grammar"]: 1 for a sentence; otherwise the share of words before the first one that cannot stand where it
        does (a text that breaks off lacks at least one word). info["sentiment"]: VADER's compound score.
        """
        words = self.whole(prompt, text)
        n, stacks = parse(words)
        complete = n == len(words) and () in stacks
        grammar = 1.0 if complete else n / max(len(words), n + 1)
        feeling = sentiment(self.tokenizer.join(words))
        return Result(feeling + self.fluency * grammar, info={"sentiment": feeling, "grammar": grammar})

    def logp(self, prompt: Prompt, text: str) -> float:
        """Exact log-probability, in nats, that the grammar ends this opening with this text; -inf if it never does."""
        opening, words = self.tokenizer.split(prompt.text), self.whole(prompt, text)
        n, after = parse(words)
        if n < len(words) or () not in after:
            return -math.inf
        return math.log(after[()]) - math.log(sum(parse(opening)[1].values()))

    def aspects(self, prompt: Prompt, text: str) -> tuple[float, int, int]:
        """What three readers look at, more is better: sentiment, brevity (minus the words), calm (minus the loud words)."""
        words = self.whole(prompt, text)
        loud = sum(word == "!" or word in GRAMMAR["MORE"] for word in words)
        return sentiment(self.tokenizer.join(words)), -len(words), -loud

    def preference(self, prompt: Prompt, a: str, b: str) -> float:
        """Probability that a random one of the three readers prefers a to b; a tie is a coin toss.

        Majorities go round in circles: each of three texts can be preferred to the next by two readers in three.
        No reward explains that, because a reward puts texts in a line.
        """
        pairs = zip(self.aspects(prompt, a), self.aspects(prompt, b), strict=True)
        return sum((p > q) + 0.5 * (p == q) for p, q in pairs) / 3
