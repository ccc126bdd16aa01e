"""`card`: everything in it comes from the catalogue, and its links lead where the book puts the files."""

import pytest
from page_reader import Parsed

from minirl import papers
from minirl.book import card, plots
from minirl.book.card import duration, names

READY = [paper for paper in papers.PAPERS if paper.status == "ready"]


def entries(page):
    """{row name: text} of the card's list."""
    parsed = Parsed(page)
    return dict(zip([text for _, text in parsed.all("dt")], [text for _, text in parsed.all("dd")], strict=True))


@pytest.mark.parametrize("paper", papers.PAPERS, ids=lambda paper: paper.slug)
def test_the_card_repeats_the_catalogue(paper):
    rows = entries(card(paper.slug).page)
    assert paper.title in rows["Paper"]
    assert str(paper.year) in rows["Paper"]
    assert rows["Idea"] == paper.idea
    assert rows["Difficulty"] == "●" * paper.difficulty + "○" * (5 - paper.difficulty) + f" {paper.difficulty} of 5"
    assert ("You will be able to" in rows) == bool(paper.outcomes)
    for outcome in paper.outcomes:
        assert outcome in rows["You will be able to"]
    for slug in paper.prerequisites:
        assert papers.paper(slug).title in rows["Read before"]


def links(paper):
    return [attrs["href"] for attrs, _ in Parsed(card(paper.slug).page).all("a")]


@pytest.mark.parametrize("paper", READY, ids=lambda paper: paper.slug)
def test_links_in_the_book(paper, monkeypatch):
    monkeypatch.setenv("MINIRL_STATIC", "1")
    before = [papers.paper(slug) for slug in paper.prerequisites]
    assert links(paper) == [
        *([f"https://arxiv.org/abs/{paper.arxiv}"] if paper.arxiv else []),
        *[f"../{other.part}/{other.slug}.html" for other in before if other.status == "ready"],
        f"../_sources/{paper.part}/{paper.slug}.ipynb",
        f"../_static/exercises/{paper.slug}.ipynb",
    ]


@pytest.mark.parametrize("paper", READY, ids=lambda paper: paper.slug)
def test_links_in_jupyterlab(paper, monkeypatch):
    monkeypatch.delenv("MINIRL_STATIC", raising=False)
    local = [link for link in links(paper) if not link.startswith("https://arxiv.org/")]
    chapters = [papers.paper(slug) for slug in paper.prerequisites]
    assert local == [f"../{other.part}/{other.slug}.ipynb" for other in chapters if other.status == "ready"]


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(papers.UnknownPaper, match="dsac_t"):
        card("dsac-t2")


def test_words():
    assert names(("A",)) == "A"
    assert names(("A", "B")) == "A and B"
    assert names(("A", "B", "C", "D")) == "A, B, C and D"
    assert names(("A", "B", "C", "D", "E", "F")) == "A, B, C and 3 others"
    assert [duration(m) for m in (45, 60, 150)] == ["45 min", "1 h", "2 h 30 min"]


def test_the_accent_is_legible_as_a_link():
    assert f"color:{plots.ACCENT}" in card(READY[0].slug).page
