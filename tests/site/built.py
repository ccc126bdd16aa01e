"""Where the built book lies, its pages, and how a browser opens one."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
HTML = Path(os.environ.get("MINIRL_HTML", ROOT / "build/book/_build/html")).resolve()
NOT_PAGES = {"_static", "_sources", "_downloads"}


def pages():
    """Every page of the book, relative to HTML."""
    found = (path.relative_to(HTML) for path in HTML.rglob("*.html"))
    return sorted(str(path) for path in found if not NOT_PAGES & set(path.parts))


def open_page(browser, url):
    """Go to a page, wait until its equations and quizzes stand, and return what it said and asked for."""
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")  # what the page before left
    browser.get(url)
    browser.execute_async_script(
        "const done = arguments[0];"
        "const drawn = () => (window.MathJax && MathJax.startup ? MathJax.startup.promise : Promise.resolve());"
        "const ready = () => drawn().then(() => done());"
        "document.readyState === 'complete' ? ready() : addEventListener('load', ready);"
    )
    time.sleep(0.7)  # a jupyterquiz typesets half a second after it appears
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return SimpleNamespace(url=url, browser=browser, console=browser.get_log("browser"), requests=asked)
