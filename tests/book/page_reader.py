"""Reads what the book functions show: a small HTML parser for the tests beside it."""

import json
import re
from html.parser import HTMLParser

VOID = {"img", "input", "br", "meta", "link"}


class Parsed(HTMLParser):
    """tags: list of (name, attributes, text inside); open elements at the end are an error."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append([tag, dict(attrs), ""])
        if tag not in VOID:
            self.open.append(len(self.tags) - 1)

    def handle_endtag(self, tag):
        k = self.open.pop()
        assert self.tags[k][0] == tag, f"</{tag}> closes <{self.tags[k][0]}>"

    def handle_data(self, data):
        for k in self.open:
            self.tags[k][2] += data

    def all(self, name):
        return [(attrs, text) for tag, attrs, text in self.tags if tag == name]


def script_data(page):
    """The constants that the script of an explorer begins with."""
    return json.loads(re.search(r"\} = (\{.*\});\n", page).group(1))


def outside_requests(page):
    """Addresses that a browser would fetch while showing the page."""
    found = re.findall(r"(?:src|href|url\()=?[\"']?\s*((?:https?:)?//[^\"' )]+)", page)
    return [address for address in found if "base64" not in address]
