"""The catalogue, and the committed files that are derived from it."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

import minirl
from minirl import papers
from minirl.papers import PAPERS, PARTS, UnknownPaper, paper

ROOT = Path(minirl.__file__).parents[1]
CHAPTERS = ROOT / "chapters"

# The design's own list, in the order of the book. It is written out here so that a slip in the catalogue shows.
DESIGN = {
    "control": "sac dsac_t mdpo pmoe expo arsq srl stream_x",
    "offline": "prdc a2pr odice dual_rl h2o hnpg vlm_reward",
    "theory": "sqirl optimal_actor_critic agnostic_rl regret_loss",
    "worlds": "learning_to_fly gem tacsl marl_dse sequoia tscac dred relic",
    "alignment": "nash_mp spo inpo p3o pf_ppo irl_language rlgf cory",
    "reasoning": "nft dapo oreo critique_grpo multi_critique",
    "agents": "agent_optimization archer spa retroformer agent_r rlap moe_dialogue read rl_adapter oni",
    "gui": "arpo gui_critic digi_q",
}

every_paper = pytest.mark.parametrize("p", PAPERS, ids=[p.slug for p in PAPERS])
READY = [p for p in PAPERS if p.status == "ready"]
every_ready_paper = pytest.mark.parametrize("p", READY, ids=[p.slug for p in READY])


# ---- the records ----


def test_slugs_parts_and_order_are_those_of_the_design():
    expected = [(part, slug) for part, slugs in DESIGN.items() for slug in slugs.split()]
    assert [(p.part, p.slug) for p in PAPERS] == expected
    assert len({p.slug for p in PAPERS}) == 53
    assert list(PARTS) == list(DESIGN)


@every_paper
def test_a_record_is_complete(p):
    assert p.title == p.title.strip() and p.title
    assert p.authors and all(re.fullmatch(r"\S+( \S+)+", name) for name in p.authors), "each author by full name"
    assert len(set(p.authors)) == len(p.authors)
    assert 1 <= p.difficulty <= 5
    assert 60 <= p.minutes <= 180 and p.minutes % 10 == 0
    assert p.status in ("ready", "planned")


@every_paper
def test_arxiv_id_has_the_shape_and_the_year_of_one(p):
    if p.arxiv:
        assert re.fullmatch(r"\d{4}\.\d{5}", p.arxiv)
        assert 1 <= int(p.arxiv[2:4]) <= 12
        assert 2000 + int(p.arxiv[:2]) == p.year, "the year is that of the first public version"


def test_no_two_papers_share_an_arxiv_id():
    ids = [p.arxiv for p in PAPERS if p.arxiv]
    assert len(set(ids)) == len(ids)


@every_paper
def test_idea_is_one_plain_sentence(p):
    assert p.idea[0].isupper() and p.idea.endswith(".")
    assert not re.search(r"[.!?]\s", p.idea), "one sentence"
    assert len(p.idea.split()) <= 30
    assert not re.search(r"\b(novel|state-of-the-art|powerful|revolutionary|simply|we propose)\b", p.idea, re.I)


@every_paper
def test_prerequisites_form_no_circle_and_repeat_nothing(p):
    assert len(p.prerequisites) <= 3

    def everything_before(slug, path):
        assert slug not in path, f"a circle: {' -> '.join((*path, slug))}"
        return {slug}.union(*(everything_before(q, (*path, slug)) for q in paper(slug).prerequisites))

    everything_before(p.slug, ())  # raises UnknownPaper for a slug that does not exist
    for q in p.prerequisites:
        others = set().union(*(everything_before(o, ()) for o in p.prerequisites if o != q))
        assert q not in others, f"{q} is already needed by another prerequisite"


def test_prerequisites_come_before_what_needs_them():
    position = {p.slug: i for i, p in enumerate(PAPERS)}
    assert not [(q, p.slug) for p in PAPERS for q in p.prerequisites if position[q] >= position[p.slug]]


@every_paper
def test_outcomes_belong_to_ready_papers(p):
    assert 3 <= len(p.outcomes) <= 4 if p.status == "ready" else p.outcomes == ()


@every_ready_paper
def test_a_ready_paper_has_all_seven_places(p):
    places = [
        f"minirl/{p.part}/{p.slug}.py",
        f"chapters/{p.part}/{p.slug}.ipynb",
        f"solutions/{p.slug}/{p.slug}.ipynb",
        f"exercises/{p.slug}/{p.slug}.ipynb",
        f"minirl/experiments/{p.slug}.py",
        f"chapters/results/{p.slug}.json",
        f"tests/{p.part}/test_{p.slug}.py",
    ]
    assert not [place for place in places if not (ROOT / place).is_file()]


def test_every_chapter_belongs_to_a_ready_paper():
    """The other direction: the book has no chapter that the catalogue does not call ready.

    An assignment may be ahead of its chapter: it is proven on its own, in tests/grading.
    """
    chapters = {path.stem for part in PARTS for path in (CHAPTERS / part).glob("*.ipynb")}
    assignments = {path.parent.name for path in (ROOT / "solutions").glob("*/*.ipynb")}
    assert chapters <= {p.slug for p in READY} and assignments <= {p.slug for p in PAPERS}


def test_unknown_paper_names_the_nearest():
    with pytest.raises(UnknownPaper) as error:
        paper("dsact")
    assert str(error.value) == "There is no paper called 'dsact'; did you mean dsac_t or sac or tscac?"
    with pytest.raises(UnknownPaper, match="did you mean dsac_t"):
        paper("DSAC-T")
    with pytest.raises(UnknownPaper, match="`minirl list` shows all of them"):
        paper("zzzzzz")
    assert issubclass(UnknownPaper, KeyError)


def test_the_catalogue_imports_nothing_heavy():
    code = "import sys, minirl.papers; print(*sorted({'torch', 'numpy', 'matplotlib', 'gymnasium'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# ---- what is derived from them ----


@pytest.fixture(scope="module")
def pages():
    from minirl.book import pages

    return pages


def test_committed_toc_is_in_step(pages):
    yaml = pytest.importorskip("yaml")
    text = (CHAPTERS / "_toc.yml").read_text(encoding="utf-8")
    assert text == pages.toc_yaml(), "run `python -m minirl.book.pages`"
    assert yaml.safe_load(text) == pages.toc()


def test_toc_lists_every_page_once_and_each_exists(pages):
    listed = [chapter["file"] for part in pages.toc()["parts"] for chapter in part["chapters"]] + ["index"]
    assert len(set(listed)) == len(listed)
    assert {p.part + "/" + p.slug for p in READY} == {file for file in listed if "/" in file}
    written = {path.stem for path in CHAPTERS.glob("*.md")}
    assert {file for file in listed if "/" not in file} == written


def test_committed_bibliography_is_in_step(pages):
    text = (CHAPTERS / "references.bib").read_text(encoding="utf-8")
    derived, marker, kept = text.partition(pages.BIB_MARKER)
    assert marker and derived == pages.bibtex() + "\n", "run `python -m minirl.book.pages`"
    keys = re.findall(r"^@\w+\{(\S+),$", text, re.M)
    assert len(set(keys)) == len(keys)
    assert keys[: len(PAPERS)] == [p.slug for p in PAPERS]
    assert len(keys) > len(PAPERS) and kept.strip()


def test_bibliography_parses_to_the_catalogue(pages):
    """An independent reader finds in the file what the catalogue says."""
    database = pytest.importorskip("pybtex.database")
    entries = database.parse_string((CHAPTERS / "references.bib").read_text(encoding="utf-8"), "bibtex").entries
    for p in PAPERS:
        entry = entries[p.slug]
        assert entry.fields["title"].strip("{}") == p.title
        assert [str(person).split(", ")[0] for person in entry.persons["author"]] == [_last(a) for a in p.authors]
        assert entry.fields["year"] == str(p.year)
        assert entry.fields.get("eprint", "") == p.arxiv


def _last(name):
    return name.split()[-1]


class _Tables(HTMLParser):
    """Rows of the tables, and the links in them."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.links, self.open, self.cell = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("br",):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "a":
            self.links.append(dict(attrs)["href"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_catalogue_page_shows_every_paper(pages):
    tables = _Tables(pages.catalogue_html())
    assert not tables.open
    rows = [row for row in tables.rows if row != ["Paper and idea", "Difficulty", "Minutes", "Chapter"]]
    assert len(tables.rows) - len(rows) == len(PARTS)
    assert len(rows) == len(PAPERS)
    for p, (head, difficulty, minutes, status) in zip(PAPERS, rows, strict=True):
        assert p.title in head and p.idea in head and p.authors[0] in head and str(p.year) in head
        assert all(before in head for before in p.prerequisites)
        assert difficulty.startswith(f"{p.difficulty} of 5") and difficulty.count("●") == p.difficulty
        assert minutes == str(p.minutes) and p.status in status
        assert (f"{p.part}/{p.slug}.html" in tables.links) == (p.status == "ready")
        assert not p.arxiv or f"https://arxiv.org/abs/{p.arxiv}" in tables.links


SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def svg(pages):
    return ElementTree.fromstring(pages.prerequisites_svg())


def _boxes(svg):
    """slug -> (left, top, right, bottom) of its node in the map."""
    boxes = {}
    for group in svg.iter(f"{SVG}g"):
        rect, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        x, y, w, h = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        boxes[text.text] = (x, y, x + w, y + h)
    return boxes


def test_map_shows_every_paper_and_links_the_ready_ones(svg):
    assert set(_boxes(svg)) == {p.slug for p in PAPERS}
    assert {a.get("href") for a in svg.iter(f"{SVG}a")} == {f"{p.part}/{p.slug}.html" for p in READY}
    assert svg.find(f"{SVG}title").text and svg.find(f"{SVG}desc").text


def test_map_has_no_overlapping_nodes_and_reads_from_left_to_right(svg):
    boxes = _boxes(svg)
    for slug, (left, top, right, bottom) in boxes.items():
        for other, (x1, y1, x2, y2) in boxes.items():
            assert slug == other or right <= x1 or x2 <= left or bottom <= y1 or y2 <= top, f"{slug} covers {other}"
        for before in paper(slug).prerequisites:
            assert boxes[before][2] < left, f"{before} stands right of {slug}"


def test_map_has_one_arrow_for_each_prerequisite(svg):
    """Arrow heads end at the left edge of the node that needs something; each node has as many as prerequisites."""
    heads = []
    for path in svg.iter(f"{SVG}path"):
        heads += [(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)l-7 -3\.5v7z", path.get("d"))]
    for slug, (left, top, _, bottom) in _boxes(svg).items():
        here = [head for head in heads if abs(head[0] - left) <= 2 and top <= head[1] <= bottom]
        assert len(here) == len(set(here)) == len(paper(slug).prerequisites), slug


def test_fill_replaces_the_markers_of_the_index_page(pages):
    source = (CHAPTERS / "index.md").read_text(encoding="utf-8")
    assert source.count("<!-- catalogue -->") == source.count("<!-- prerequisites -->") == 1
    filled = pages.fill(source)
    assert "<!--" not in filled and "<svg" in filled and papers.PAPERS[-1].title in filled
    assert pages.fill("no marker here") == "no marker here"
