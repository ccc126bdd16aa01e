"""What the chapters call: `from minirl.book import card, claims, curves, explore, figure, film, live, quiz, show`.

Importing it sets matplotlib's defaults to the look of the book.
"""

from minirl.book.card import card
from minirl.book.explore import explore
from minirl.book.film import film
from minirl.book.live import History, live
from minirl.book.plots import figure, series, style
from minirl.book.quiz import quiz
from minirl.book.results import claims, curves
from minirl.book.show import show

__all__ = [
    "History",
    "card",
    "claims",
    "curves",
    "explore",
    "figure",
    "film",
    "live",
    "quiz",
    "series",
    "show",
    "style",
]

style()
