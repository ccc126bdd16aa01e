"""What the files of the built book say, read without a browser: links, images, tracebacks, weight."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

MEGABYTES = 4


class Page(HTMLParser):
    """Collects a page's ids, links, sources and images without alternative text."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.sources, self.mute = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "link" and attrs.get("rel") != "canonical" and attrs.get("href"):
            self.sources.append(attrs["href"])
        if attrs.get("src"):
            self.sources.append(attrs["src"])
        if tag == "img" and not (attrs.get("alt") or "").strip():
            self.mute.append(attrs.get("src", "")[:60])


@pytest.fixture(scope="module")
def parsed(html):
    """{page: Page}, each read once."""
    read = {}

    def get(path):
        if path not in read:
            read[path] = Page(path.read_text(encoding="utf-8"))
        return read[path]

    return get


def broken(link, page, html, parsed):
    """Why a relative link leads nowhere, or None."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_relative_to(html):
        return f"{link} leaves the book"
    if target.is_dir():
        target = target / "index.html"
    if not target.exists():
        return f"{link} is not there"
    if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in parsed(target).ids:
        return f"{link}: no such place in {target.name}"
    return None


def test_links_and_images_resolve(html, page, parsed):
    here = parsed(html / page)
    reasons = [broken(link, html / page, html, parsed) for link in here.links + here.sources]
    assert not list(filter(None, reasons))


def test_nothing_is_loaded_from_elsewhere(html, page, parsed):
    """No script, style, picture or font by an address with a host; a link to follow (a paper) may have one."""
    assert not [source for source in parsed(html / page).sources if urlsplit(source).netloc]


def test_every_image_has_alternative_text(html, page, parsed):
    assert not parsed(html / page).mute


def test_no_cell_failed_or_warned(html, page):
    text = (html / page).read_text(encoding="utf-8")
    found = re.findall(r'class="output (traceback|stderr)[^"]*"|(Traceback \(most recent call last\))', text)
    assert not found, "an executed cell shows an error or a warning"


def test_page_is_light(html, page):
    weight = (html / page).stat().st_size / 1e6
    assert weight <= MEGABYTES, f"{page} weighs {weight:.1f} MB, the limit is {MEGABYTES}"


def test_stylesheets_load_nothing_from_elsewhere(html):
    remote = {}
    for sheet in sorted(html.rglob("*.css")):
        found = re.findall(r"(?:url\(|@import\s+)[\"']?(?:https?:)?//[^)\"']+", sheet.read_text(encoding="utf-8"))
        if found:
            remote[sheet.name] = found
    assert not remote


def test_downloads_are_clean(html):
    """What a reader downloads has no outputs: he is to run it."""
    import json

    found = sorted(html.glob("_sources/**/*.ipynb")) + sorted(html.glob("_static/notebooks/*.ipynb"))
    assert found
    for path in found:
        cells = json.loads(path.read_text())["cells"]
        assert not [cell for cell in cells if cell.get("outputs")], f"{path.name} is an executed copy"
