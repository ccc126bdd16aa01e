"""`card`: the head of a chapter, from the catalogue."""

import html

from minirl.book.plots import ACCENT, MUTED, Shown, framed, static_book
from minirl.papers import paper

LINK = f"color:{ACCENT};text-decoration:underline"


def card(slug):
    """What a chapter is about, for whom, and how long it takes; make it the last line of a cell.

    UnknownPaper (a KeyError) with the nearest names when the catalogue has no such slug.
    """
    record = paper(slug)
    rows = [
        ("Paper", citation(record)),
        ("Idea", html.escape(record.idea)),
        ("You will be able to", bullets(record.outcomes)),
        ("Read before", prerequisites(record)),
        (
            "Difficulty",
            f'<span aria-hidden="true">{"●" * record.difficulty}{"○" * (5 - record.difficulty)}</span> '
            f"{record.difficulty} of 5",
        ),
        ("Time", f"{duration(record.minutes)} with the assignment"),
        ("Run it", launch(record)),
    ]
    cells = "".join(
        f'<dt style="font-weight:600;color:{MUTED};margin:0">{name}</dt><dd style="margin:0">{value}</dd>'
        for name, value in rows
        if value
    )
    grid = "display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.45rem 1.2rem;margin:0"
    about = 'role="region" aria-label="About this chapter"'
    page = framed("about", f'<dl style="{grid}">{cells}</dl>', about, f"border-left:5px solid {ACCENT}")
    return Shown(page, plain(record))


def citation(record):
    where = f", {link(f'https://arxiv.org/abs/{record.arxiv}', f'arXiv:{record.arxiv}')}" if record.arxiv else ""
    return f"{html.escape(names(record.authors))} ({record.year}). <cite>{html.escape(record.title)}</cite>{where}."


def names(authors):
    """ "A, B and C"; the first three of many."""
    if len(authors) > 4:
        return f"{', '.join(authors[:3])} and {len(authors) - 3} others"
    return " and ".join(filter(None, (", ".join(authors[:-1]), authors[-1])))


def bullets(items):
    return (
        f'<ul style="margin:0;padding-left:1.2rem">{"".join(f"<li>{html.escape(i)}</li>" for i in items)}</ul>'
        if items
        else ""
    )


def prerequisites(record):
    """Chapters to read first, as links where they are written."""
    parts = []
    for slug in record.prerequisites:
        other = paper(slug)
        title = html.escape(other.title)
        parts.append(link(chapter_path(other), title) if other.status == "ready" else f"{title} (planned)")
    return "; ".join(parts) or "nothing in this book"


def chapter_path(record):
    """Address of a chapter as seen from another: a page in the book, a notebook in JupyterLab."""
    return f"../{record.part}/{record.slug}.{'html' if static_book() else 'ipynb'}"


def launch(record):
    """How to get from reading to running. A reader in JupyterLab is there already."""
    notebook = f"chapters/{record.part}/{record.slug}.ipynb"
    if not static_book():
        return f"you are in {code(notebook)}; run the cells in order"
    download = link(f"../_sources/{record.part}/{record.slug}.ipynb", "download this notebook", " download")
    exercises = link(f"../_static/exercises/{record.slug}.ipynb", "its assignment", " download")
    return f"{code('make lab')} in the course's folder, then open {code(notebook)}; {download} or {exercises}"


def code(text):
    return (
        f'<code style="color:inherit;background:#f3f4f6;padding:1px 4px;border:0">{text}</code>'  # the theme's is pale
    )


def link(address, text, extra=""):
    return f'<a href="{html.escape(address)}" style="{LINK}"{extra}>{text}</a>'


def duration(minutes):
    hours, rest = divmod(minutes, 60)
    return " ".join(filter(None, (f"{hours} h" if hours else "", f"{rest} min" if rest else "")))


def plain(record):
    outcomes = "".join(f"\n- {outcome}" for outcome in record.outcomes)
    return f"{names(record.authors)} ({record.year}). {record.title}.\n{record.idea}{outcomes}"
