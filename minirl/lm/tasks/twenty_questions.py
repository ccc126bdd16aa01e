"""Twenty questions: find an object by asking for its attributes, in sentences. Text goes in, tokens come out.

A table says which of 32 everyday objects have which of 24 attributes. A question is a sentence of three to six words in
one of three phrasings ("is it alive?", "is this thing alive?", "would you call it alive?"); a guess names an object. The
oracle answers yes or no by the table, and `invalid question` to every text that is no such sentence. Every turn costs 1
except the one that names the object, and after `limit` turns the game is over: the same game as in `guess`, which also
computes the best play exactly. N objects (the first N of the list), S = N secrets.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minirl.lm.tasks import Prompt
from minirl.lm.tasks.guess import Guess, Play, Rules

OBJECTS = tuple(
    "dog eagle shark bee apple carrot bread tree car bicycle boat airplane hammer spoon chair phone "
    "cat horse cow chicken penguin frog snake spider banana cheese bus train knife table lamp computer".split()
)

PHRASINGS = {
    "adjective": ("is it {}?", "is this thing {}?", "would you call it {}?"),
    "verb": ("can it {}?", "does it {}?", "is it able to {}?"),
    "part": ("has it {}?", "does it have {}?", "are there {} on it?"),
    "guess": ("is it the {}?", "do you mean the {}?", "could it be the {}?"),
}

ATTRIBUTES = {  # word: (kind, the objects that have it)
    "alive": ("adjective", "dog eagle shark bee tree cat horse cow chicken penguin frog snake spider"),
    "sweet": ("adjective", "apple carrot banana"),
    "heavy": ("adjective", "shark tree car boat airplane horse cow bus train table"),
    "wild": ("adjective", "eagle shark bee tree penguin frog snake spider"),
    "electric": ("adjective", "phone train lamp computer"),
    "sharp": ("adjective", "knife"),
    "loud": ("adjective", "dog car airplane hammer phone bus train"),
    "wooden": ("adjective", "tree boat chair table hammer"),
    "metal": ("adjective", "car bicycle airplane hammer spoon bus train knife lamp"),
    "fly": ("verb", "eagle bee airplane"),
    "swim": ("verb", "dog shark boat penguin frog snake horse"),
    "grow": ("verb", "dog eagle shark bee apple carrot tree cat horse cow chicken penguin frog snake spider banana"),
    "bite": ("verb", "dog shark cat horse snake spider"),
    "walk": ("verb", "dog eagle bee cat horse cow chicken penguin spider"),
    "carry": ("verb", "dog eagle bee car bicycle boat airplane spoon horse bus train"),
    "roll": ("verb", "apple car bicycle airplane bus train"),
    "legs": ("part", "dog eagle bee chair cat horse cow chicken penguin frog spider table"),
    "fur": ("part", "dog bee cat horse cow"),
    "wheels": ("part", "car bicycle airplane bus train"),
    "wings": ("part", "eagle bee airplane chicken penguin"),
    "teeth": ("part", "dog shark cat horse cow snake"),
    "seeds": ("part", "apple bread tree banana"),
    "handles": ("part", "bicycle hammer spoon knife car"),
    "motors": ("part", "car airplane boat bus train"),
}


def rules(objects: int = 16) -> Rules:
    """The game with the first `objects` objects; questions about all attributes, in every phrasing."""
    if not 2 <= objects <= len(OBJECTS):
        raise ValueError(f"objects must be 2 to {len(OBJECTS)}, got {objects}")
    names = OBJECTS[:objects]
    moves, replies, named = [], [], []
    for word, (kind, having) in ATTRIBUTES.items():
        for phrasing in PHRASINGS[kind]:
            moves.append(phrasing.format(word))
            replies.append(tuple("yes" if name in having.split() else "no" for name in names))
            named.append(-1)
    for i, name in enumerate(names):
        for phrasing in PHRASINGS["guess"]:
            moves.append(phrasing.format(name))
            replies.append(tuple("yes" if i == s else "no" for s in range(objects)))
            named.append(i)
    words = {w.rstrip("?") for p in PHRASINGS.values() for text in p for w in text.split()} - {"{}", ""}
    symbols = ("yes", "no", "invalid", "question", "?", *sorted(words), *ATTRIBUTES, *names)
    return Rules(tuple(moves), tuple(replies), tuple(named), symbols, "invalid question")


@dataclass(frozen=True)
class TwentyQuestions(Guess):
    """`Guess` with these rules, a weak questioner to imitate, and what a question is worth in bits."""

    def random_move(self, prompt: Prompt, rng: np.random.Generator) -> str:
        """The weak questioner. With at most 4 candidates left it names one of them half the time; one turn in seven it
        names any object; else it asks for any attribute, and half the time takes care not to repeat one."""
        candidates, _ = prompt.data
        fitting = [s for s in range(self.secrets) if candidates >> s & 1]
        if len(fitting) <= 4 and rng.random() < 0.5:
            return self.guess(int(rng.choice(fitting)), rng)
        if rng.random() < 1 / 7:
            return self.guess(int(rng.integers(self.secrets)), rng)
        words = list(ATTRIBUTES)
        if rng.random() < 0.5:
            said = set(prompt.text.replace("?", "").split())
            words = [w for w in words if w not in said] or words
        word = words[rng.integers(len(words))]
        return str(rng.choice(PHRASINGS[ATTRIBUTES[word][0]])).format(word)

    def guess(self, secret: int, rng: np.random.Generator) -> str:
        """A sentence that names an object."""
        return str(rng.choice(PHRASINGS["guess"])).format(OBJECTS[secret])

    @property
    def secrets(self) -> int:
        """N, the number of objects."""
        return len(self.rules.replies[0])

    def info_gain(self, candidates: int, text: str) -> float:
        """Bits that the reply to `text` tells about an object drawn from the candidates; 0 for an invalid text."""
        move = self.index.get(text)
        n = candidates.bit_count()
        if move is None or n == 0:
            return 0.0
        sizes = np.array([(candidates & mask).bit_count() for mask in self.masks[move].values()], float)
        p = sizes[sizes > 0] / n
        return float(-(p * np.log2(p)).sum()) + 0.0

    @cached_property
    def questions(self) -> list[str]:
        """One sentence for each different move: an attribute or an object in its first phrasing."""
        return [PHRASINGS[kind][0].format(word) for word, (kind, _) in ATTRIBUTES.items()] + [
            PHRASINGS["guess"][0].format(name) for name in OBJECTS[: self.secrets]
        ]

    def greedy_bits(self, turns: int = 3) -> float:
        """Expected bits that the greedy questioner learns in its first turns: it always asks what tells most."""
        return self._greedy((1 << self.secrets) - 1, turns)

    def _greedy(self, candidates: int, turns: int) -> float:
        if turns == 0 or candidates.bit_count() <= 1:
            return 0.0
        best = max(self.questions, key=lambda text: self.info_gain(candidates, text))
        total = self.info_gain(candidates, best)
        for mask in self.masks[self.index[best]].values():
            if part := candidates & mask:
                total += part.bit_count() / candidates.bit_count() * self._greedy(part, turns - 1)
        return total

    def play_greedy(self, secret: int) -> Play:
        """A game of the greedy questioner, which names the object as soon as one is left."""
        play = self.start(secret)
        while not play.done:
            left = play.candidates
            if left.bit_count() == 1:
                text = PHRASINGS["guess"][0].format(OBJECTS[left.bit_length() - 1])
            else:
                text = max(self.questions, key=lambda text: self.info_gain(left, text))
            play = self.act(play, text)
        return play


def bits_learned(play: Play, turns: int = 3) -> float:
    """log2 of how many times fewer candidates fit after the first `turns` turns of a game."""
    if not play.turns:
        return 0.0
    left = play.turns[turns].prompt.data[0] if len(play.turns) > turns else play.candidates
    return float(np.log2(play.turns[0].prompt.data[0].bit_count() / left.bit_count()))
