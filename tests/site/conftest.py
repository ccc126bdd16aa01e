"""The built book, served on 127.0.0.1 and opened in a headless Chromium for which no other host exists.

Run by `make test` after the book is built. Without a browser or a built book these tests skip; with CI=true they fail.
MINIRL_HTML names another folder of built pages.
"""

import functools
import http.server
import os
import shutil
import threading

import pytest
from built import HTML, open_page, pages

CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def missing(what):
    """A tool that CI must have and others may lack."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def pytest_generate_tests(metafunc):
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", pages() or ["index.html"], scope="module")


@pytest.fixture(scope="session")
def html():
    if not (HTML / "index.html").exists():
        missing("there is no built book: run `make book` first")
    return HTML


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing: pytest's output is the report."""


@pytest.fixture(scope="session")
def address(html):
    handler = functools.partial(QuietHandler, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    chrome = next(filter(None, map(shutil.which, CHROMES)), None)
    driver = shutil.which("chromedriver")
    if not chrome or not driver:
        missing("Chromium and chromedriver are not both on the PATH (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chrome
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--window-size=1280,1000",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    service = webdriver.ChromeService(executable_path=driver)
    with webdriver.Chrome(options=options, service=service) as chromium:
        chromium.set_script_timeout(60)
        yield chromium


@pytest.fixture(scope="module")
def visit(browser, address, page):
    return open_page(browser, address + page)
