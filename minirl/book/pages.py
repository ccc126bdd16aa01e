"""What the book's build derives from the catalogue: the index page's lists, the map, the table of contents, the BibTeX.

`python -m minirl.book.pages` rewrites the two committed files that are derived here, `chapters/_toc.yml` and the upper
part of `chapters/references.bib`; a test says that they are in step with `minirl/papers.py`.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import minirl
from minirl.papers import PAPERS, PARTS, Paper, paper

CHAPTERS = Path(minirl.__file__).parents[1] / "chapters"

# Dark enough for text and thin lines on white, and far apart for colour-blind readers (after Paul Tol's muted set).
COLOURS = dict(
    zip(PARTS, ("#332288", "#11702f", "#882255", "#0b7285", "#a8480f", "#99338a", "#5f5f14", "#40464d"), strict=True)
)

# ---- the catalogue on the index page ----

STYLE = """<style>
.mrl-papers { width: 100%; border-collapse: collapse; margin: 0 0 1.5rem; font-size: 0.92em; }
.mrl-papers th, .mrl-papers td { padding: 0.55rem 0.6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--pst-color-border, #ccc); }
.mrl-papers thead th { font-size: 0.85em; white-space: nowrap; }
.mrl-papers tbody th { font-weight: normal; border-left: 4px solid var(--mrl-part); }
.mrl-papers .mrl-title { font-weight: 600; }
.mrl-papers .mrl-small { display: block; font-size: 0.88em; color: var(--pst-color-text-muted, #48566b); }
.mrl-papers .mrl-idea { display: block; margin-top: 0.25rem; }
.mrl-papers td { white-space: nowrap; }
.mrl-papers .mrl-dots { letter-spacing: 0.08em; }
.mrl-papers .mrl-ready { font-weight: 700; }
@media (max-width: 40rem) {
  .mrl-papers { font-size: 0.85em; }
  .mrl-papers th, .mrl-papers td { padding: 0.5rem 0.25rem; }
  .mrl-papers .mrl-dots { display: none; }
}
</style>"""


def catalogue_html() -> str:
    """All papers as HTML: one table a part, one row a paper, titles of ready chapters linked."""
    blocks = [STYLE]
    for part, title in PARTS.items():
        rows = [_row(p) for p in PAPERS if p.part == part]
        blocks.append(
            f'<h3 id="part-{part}">{escape(title)}</h3>\n'
            f'<table class="mrl-papers" style="--mrl-part: {COLOURS[part]}" aria-labelledby="part-{part}">\n'
            '<thead><tr><th scope="col">Paper and idea</th><th scope="col">Difficulty</th>'
            '<th scope="col">Minutes</th><th scope="col">Chapter</th></tr></thead>\n<tbody>\n'
            + "\n".join(rows)
            + "\n</tbody></table>"
        )
    return "\n".join(blocks)


def _row(p: Paper) -> str:
    title = f'<span class="mrl-title">{escape(p.title)}</span>'
    status = "planned"
    if p.status == "ready":
        title = f'<a href="{p.part}/{p.slug}.html">{title}</a>'
        status = f'<span class="mrl-ready"><span aria-hidden="true">✓ </span>ready</span><br><code>{p.slug}</code>'
    arxiv = f', <a href="https://arxiv.org/abs/{p.arxiv}">arXiv:{p.arxiv}</a>' if p.arxiv else ""
    after = f" · after {', '.join(p.prerequisites)}" if p.prerequisites else ""
    dots = "●" * p.difficulty + "○" * (5 - p.difficulty)
    return (
        f'<tr><th scope="row">{title}'
        f'<span class="mrl-small">{escape(short_authors(p))}, {p.year}{arxiv}{after}</span>'
        f'<span class="mrl-idea">{escape(p.idea)}</span></th>'
        f'<td>{p.difficulty} of 5<br><span class="mrl-dots" aria-hidden="true">{dots}</span></td>'
        f"<td>{p.minutes}</td><td>{status}</td></tr>"
    )


def short_authors(p: Paper) -> str:
    """'Tuomas Haarnoja et al.', or both names of two."""
    if len(p.authors) > 2:
        return f"{p.authors[0]} et al."
    return " and ".join(p.authors)


# ---- the map of prerequisites ----

ROW, BOX, PAD = 32, 25, 11  # height of a row, height of a node, space above and below a lane's nodes (pixels)
LABEL, SLOT = 138, 9  # width of the column of part titles; distance of two vertical lines in one gutter


def depth(slug: str) -> int:
    """Length of the longest chain of prerequisites below a paper: its column in the map."""
    return max((1 + depth(before) for before in paper(slug).prerequisites), default=0)


def prerequisites_svg() -> str:
    """The map: one lane a part, one column a step of prerequisites, an arrow from each paper to what builds on it."""
    columns = 1 + max(depth(p.slug) for p in PAPERS)
    rows = _rows()
    edges = [(before, p.slug) for p in PAPERS for before in p.prerequisites]

    # Lanes, from top to bottom. The channel above a lane's first row carries the arrows that skip a column.
    top, bottom, y = {}, {}, 10
    for part in PARTS:
        top[part] = y
        y += 2 * PAD + ROW * (1 + max(rows[p.slug] for p in PAPERS if p.part == part))
        bottom[part] = y
        y += 6
    middle = {p.slug: top[p.part] + PAD + ROW * (rows[p.slug] + 0.5) for p in PAPERS}

    # Columns, from left to right: as wide as their longest name, with a gutter as wide as its vertical lines need.
    width = [max(_text_width(p.slug) + 18 for p in PAPERS if depth(p.slug) == c) for c in range(columns)]
    slots = [_slots(gutter, edges, middle, top) for gutter in range(columns - 1)]
    left, x = [], 10 + LABEL
    for c in range(columns):
        left.append(x)
        x += width[c] + (30 + SLOT * max(slots[c].values(), default=0) if c < columns - 1 else 14)
    right = x

    def box(slug: str) -> tuple[float, float, float]:
        c = depth(slug)
        return left[c], left[c] + width[c], middle[slug]

    def line_x(gutter: int, source: str) -> float:
        return left[gutter] + width[gutter] + 12 + SLOT * slots[gutter][source]

    parts = []
    for part, title in PARTS.items():
        parts.append(
            f'<rect x="4" y="{top[part]}" width="{right - 4}" height="{bottom[part] - top[part]}" rx="7" '
            f'fill="{COLOURS[part]}" fill-opacity="0.07"/>'
            f'<rect x="4" y="{top[part]}" width="5" height="{bottom[part] - top[part]}" rx="2" fill="{COLOURS[part]}"/>'
        )
        lines = _wrap(title, 15)
        y0 = (top[part] + bottom[part]) / 2 - 8 * (len(lines) - 1) + 5
        for i, text in enumerate(lines):
            parts.append(
                f'<text x="18" y="{y0 + 16 * i:g}" font-size="13" font-weight="700" fill="{COLOURS[part]}">'
                f"{text}</text>"
            )

    # One group a source: a white halo below its lines shows which of two crossing lines continue.
    for p in PAPERS:
        paths, heads = [], []
        for before, after in edges:
            if before != p.slug:
                continue
            (_, x1, y1), (x2, _, _) = box(before), box(after)
            y2 = _entry_heights(after, middle, slots)[before]
            first, last = depth(before), depth(after) - 1
            corners = [(line_x(first, before), y1)]
            if first == last:
                corners += [(line_x(first, before), y2)]
            else:  # over the lane of the target, so as not to run through the nodes between
                channel = top[paper(after).part] + 5
                far = line_x(last, before)
                corners += [(line_x(first, before), channel), (far, channel), (far, y2)]
            paths.append(_rounded([(x1, y1), *corners, (x2 - 6, y2)]))
            heads.append(f"M{x2 - 1:g} {y2:g}l-7 -3.5v7z")
        if paths:
            d = "".join(paths)
            parts.append(f'<path d="{d}" fill="none" stroke="#fff" stroke-width="4.5" stroke-opacity="0.9"/>')
            parts.append(f'<path d="{d}" fill="none" stroke="{COLOURS[p.part]}" stroke-width="1.5"/>')
            parts.append(f'<path d="{"".join(heads)}" fill="{COLOURS[p.part]}"/>')

    for p in PAPERS:
        x1, _, y1 = box(p.slug)
        parts.append(_node(p, x1, y1, width[depth(p.slug)]))
    height = bottom[list(PARTS)[-1]] + 40
    parts.append(_legend(height - 17))

    title = f"Map of prerequisites of the {len(PAPERS)} papers"
    text = (
        "Each row is a part of the book. An arrow leads from a paper, to the right, to each paper that builds on it. "
        "The list of papers on this page names the same prerequisites in words."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + 4:g} {height:g}" role="group" '
        'aria-labelledby="map-title map-desc" style="width: 100%; min-width: 640px; max-width: 1100px; height: auto" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\">\n"
        f'<title id="map-title">{title}</title><desc id="map-desc">{text}</desc>\n'
        f'<rect width="100%" height="100%" rx="8" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>"
    )


def prerequisites_html() -> str:
    """The map in a box that a narrow screen scrolls sideways, by touch or with the arrow keys."""
    box = '<div role="region" aria-label="Map of prerequisites" tabindex="0" style="overflow-x: auto">'
    return f"{box}\n{prerequisites_svg()}\n</div>"


def _rows() -> dict[str, int]:
    """Row of each paper in its lane: beside what it builds on if that is in the same lane, else the first free row."""
    rows: dict[str, int] = {}
    for part in PARTS:
        lane = [p for p in PAPERS if p.part == part]
        for c in range(1 + max(depth(p.slug) for p in lane)):
            taken: set[int] = set()
            # False sorts before True: papers with a neighbour on the left choose first, each group in book order.
            for p in sorted((p for p in lane if depth(p.slug) == c), key=lambda p: not _same_lane(p)):
                row = min((rows[q] for q in _same_lane(p)), default=0)
                while row in taken:
                    row += 1
                rows[p.slug] = row
                taken.add(row)
    return rows


def _same_lane(p: Paper) -> list[str]:
    return [q for q in p.prerequisites if paper(q).part == p.part]


def _entry_heights(slug: str, middle: dict[str, float], slots: list[dict[str, int]]) -> dict[str, float]:
    """Height at which the arrow from each prerequisite enters the node: side by side, so that none hides another."""
    before = list(paper(slug).prerequisites)
    # Of two vertical lines the right one comes in above the left one, or they would cross; a straight arrow comes last.
    before.sort(key=lambda q: (middle[q] == middle[slug], -slots[depth(slug) - 1][q]))
    return {q: middle[slug] + 10 * (i - (len(before) - 1) / 2) for i, q in enumerate(before)}


def _slots(
    gutter: int, edges: list[tuple[str, str]], middle: dict[str, float], top: dict[str, float]
) -> dict[str, int]:
    """Which vertical line of a gutter each source uses: sources whose lines would overlap get different ones."""
    spans: dict[str, list[float]] = {}
    for before, after in edges:
        first, last = depth(before), depth(after) - 1
        channel = top[paper(after).part] + 5
        if gutter == first:
            spans.setdefault(before, [middle[before]]).append(middle[after] if first == last else channel)
        elif gutter == last:
            spans.setdefault(before, [channel]).append(middle[after])
    slots: dict[str, int] = {}
    # Longest first: it gets the line next to the nodes on the left, and crosses the fewest of the others.
    for source in sorted(spans, key=lambda s: min(spans[s]) - max(spans[s])):
        low, high = min(spans[source]), max(spans[source])
        taken = {slots[other] for other in slots if min(spans[other]) <= high + BOX and low <= max(spans[other]) + BOX}
        slots[source] = min(set(range(len(taken) + 1)) - taken)
    return slots


def _rounded(points: list[tuple[float, float]], radius: float = 6) -> str:
    """SVG path through axis-parallel points, with rounded corners."""
    d = f"M{points[0][0]:g} {points[0][1]:g}"
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        r = min(radius, _distance(before, here) / 2, _distance(here, after) / 2)
        if r > 0:
            (xa, ya), (xb, yb) = _towards(here, before, r), _towards(here, after, r)
            d += f"L{xa:g} {ya:g}Q{here[0]:g} {here[1]:g} {xb:g} {yb:g}"
    return d + f"L{points[-1][0]:g} {points[-1][1]:g}"


def _distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])  # all lines are parallel to an axis


def _towards(a: tuple[float, float], b: tuple[float, float], r: float) -> tuple[float, float]:
    s = r / _distance(a, b)
    return a[0] + s * (b[0] - a[0]), a[1] + s * (b[1] - a[1])


def _node(p: Paper, x: float, y: float, width: float) -> str:
    colour, ready = COLOURS[p.part], p.status == "ready"
    look = (
        f'fill="{colour}" stroke="{colour}" stroke-width="1.5"'
        if ready
        else f'fill="#fff" stroke="{colour}" stroke-width="1.2" stroke-dasharray="4 2.5"'
    )
    text = 'fill="#fff" font-weight="700"' if ready else 'fill="#22262b"'
    node = (
        f"<g><title>{escape(p.title)} ({p.status})</title>"
        f'<rect x="{x:g}" y="{y - BOX / 2:g}" width="{width:g}" height="{BOX}" rx="5" {look}/>'
        f'<text x="{x + width / 2:g}" y="{y + 4.5:g}" text-anchor="middle" font-size="13" {text}>{p.slug}</text></g>'
    )
    return f'<a href="{p.part}/{p.slug}.html" style="text-decoration: none">{node}</a>' if ready else node


def _legend(y: float) -> str:
    dark, text = "#40464d", 'font-size="13" fill="#22262b"'
    return (
        f'<rect x="18" y="{y - 9:g}" width="26" height="14" rx="4" fill="{dark}"/>'
        f'<text x="51" y="{y + 3:g}" {text}>chapter is ready (a link)</text>'
        f'<rect x="232" y="{y - 9:g}" width="26" height="14" rx="4" fill="#fff" stroke="{dark}" '
        'stroke-dasharray="4 2.5"/>'
        f'<text x="265" y="{y + 3:g}" {text}>chapter is planned</text>'
        f'<path d="M412 {y - 2:g}h26" stroke="{dark}" stroke-width="1.5"/>'
        f'<path d="M444 {y - 2:g}l-7 -3.5v7z" fill="{dark}"/>'
        f'<text x="451" y="{y + 3:g}" {text}>read the left one first</text>'
    )


def _text_width(text: str) -> float:
    """Generous estimate of the width of 13-pixel sans-serif text: the reader's font is not known here."""
    return sum(4.2 if letter in "filjrt" else 7.8 for letter in text)


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def fill(markdown: str) -> str:
    """A page with its markers `<!-- catalogue -->` and `<!-- prerequisites -->` replaced; other pages pass through."""
    for marker, make in (("<!-- catalogue -->", catalogue_html), ("<!-- prerequisites -->", prerequisites_html)):
        if marker in markdown:
            markdown = markdown.replace(marker, f"```{{raw}} html\n{make()}\n```")
    return markdown


# ---- table of contents and bibliography ----


def toc() -> dict:
    """The structure of `chapters/_toc.yml` (jupyter-book 1): the ready chapters by part between the other pages."""
    parts = [{"caption": "Start here", "chapters": [{"file": "how-to"}, {"file": "notation"}]}]
    for part, title in PARTS.items():
        ready = [{"file": f"{part}/{p.slug}"} for p in PAPERS if p.part == part and p.status == "ready"]
        if ready:
            parts.append({"caption": title, "chapters": ready})
    parts.append({"caption": "Look up", "chapters": [{"file": "glossary"}, {"file": "references"}]})
    parts.append({"caption": "For teachers", "chapters": [{"file": "teaching-guide"}]})
    return {"format": "jb-book", "root": "index", "parts": parts}


def toc_yaml() -> str:
    """`toc()` as the text of the file."""
    lines = [
        "# Derived from minirl/papers.py by `python -m minirl.book.pages`.",
        "format: jb-book",
        "root: index",
        "parts:",
    ]
    for part in toc()["parts"]:
        lines += [f"  - caption: {part['caption']}", "    chapters:"]
        lines += [f"      - file: {chapter['file']}" for chapter in part["chapters"]]
    return "\n".join(lines) + "\n"


BIB_MARKER = "% ---- other works cited: edit below this line, it is kept ----"


def bibtex() -> str:
    """One BibTeX entry a paper, keyed by its slug."""
    head = "% The papers of the course, derived from minirl/papers.py by `python -m minirl.book.pages`.\n\n"
    return head + "\n".join(_entry(p) for p in PAPERS)


def _entry(p: Paper) -> str:
    lines = [
        f"@misc{{{p.slug},",
        f"  title = {{{{{p.title}}}}},",
        f"  author = {{{' and '.join(p.authors)}}},",
        f"  year = {{{p.year}}},",
    ]
    if p.arxiv:
        lines += ["  archiveprefix = {arXiv},", f"  eprint = {{{p.arxiv}}},"]
    return "\n".join(lines) + "\n}\n"


def main() -> None:
    """Rewrite the committed files that are derived from the catalogue."""
    (CHAPTERS / "_toc.yml").write_text(toc_yaml(), encoding="utf-8")
    bib = CHAPTERS / "references.bib"
    kept = bib.read_text(encoding="utf-8").partition(BIB_MARKER)[2] if bib.exists() else "\n"
    bib.write_text(f"{bibtex()}\n{BIB_MARKER}{kept}", encoding="utf-8")


if __name__ == "__main__":
    main()
