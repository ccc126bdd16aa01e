"""`show`: the page holds the source, the whole source, and where it stands."""

import inspect
import textwrap

import pytest
from page_reader import Parsed, outside_requests

from minirl.book import plots, show


class Sample:
    def method(self, x):
        """Compares <x> & "y"."""

        if x < 1 and x > 0:
            return f"{x}"  # a comment
        return None


def lines(page):
    """The text of each line of the listing."""
    pre = page[page.index("<pre") : page.index("</pre>") + 6]
    return [text for attrs, text in Parsed(pre).all("span") if "white-space" in attrs.get("style", "")]


@pytest.mark.parametrize("obj", [plots.series, plots.Shown, Sample.method, show])
def test_the_listing_is_the_source(obj):
    source = textwrap.dedent(inspect.getsource(obj)).rstrip().split("\n")
    assert [line.rstrip() for line in lines(show(obj).page)] == [line.rstrip() for line in source]


def test_it_says_where():
    first = inspect.getsourcelines(plots.series)[1]
    shown = show(plots.series)
    assert f">minirl/book/plots.py, line {first}<" in shown.page
    assert shown.text.startswith(f"# minirl/book/plots.py, line {first}\ndef series(i):\n")
    assert 'aria-label="Source of series"' in shown.page
    assert not outside_requests(shown.page)


def test_several_at_once():
    shown = show(plots.series, Sample.method)
    assert [attrs["aria-label"] for attrs, _ in Parsed(shown.page).all("div") if "aria-label" in attrs] == [
        "Source of series",
        "Source of method",
    ]


def test_keywords_have_their_colour():
    page = show(Sample.method).page
    assert '<span style="color: #8F1A63; font-weight: bold">return</span>' in page
    assert '<span style="color: #57606A; font-style: italic"># a comment</span>' in page


@pytest.mark.parametrize(("obj", "name"), [(len, "len"), (3, "int"), (plots.PALETTE, "tuple")])
def test_what_has_no_source_is_refused(obj, name):
    with pytest.raises(TypeError, match=rf"show\(\) prints functions and classes written in Python; {name} is not one"):
        show(obj)
