"""The built book as a reader without a network meets it."""

import shutil
from importlib.resources import files

import pytest

from conftest import THEME_PAGES, open_page, pages

pytestmark = pytest.mark.browser


def test_console_is_silent(visit):
    loud = [entry["message"] for entry in visit.console if entry["level"] in ("SEVERE", "WARNING")]
    assert not loud


def test_no_request_leaves_the_machine(visit, address):
    local = (address, "data:", "blob:", "about:")
    assert not [url for url in visit.requests if not url.startswith(local)]


def test_equations_are_rendered(visit, page):
    """Every equation is drawn, with MathML beside it for a screen reader, and none is in error."""
    counts = visit.browser.execute_script(
        """
        const all = [...document.querySelectorAll("article .math")];
        return {
          raw: all.filter(e => !e.querySelector("mjx-container")).map(e => e.textContent.slice(0, 80)),
          mute: all.filter(e => !e.querySelector("mjx-assistive-mml")).map(e => e.textContent.slice(0, 80)),
          wrong: [...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map(e => e.textContent.slice(0, 80)),
        };
        """
    )
    assert counts == {"raw": [], "mute": [], "wrong": []}


def test_axe_finds_nothing_serious(visit):
    visit.browser.execute_script(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    result = visit.browser.execute_async_script(
        "const done = arguments[0];"
        "axe.run(document, {resultTypes: ['violations']}).then(done, problem => done({error: String(problem)}));"
    )
    assert "error" not in result, result
    assert len(result["passes"]) > 5  # axe looked at something
    serious = [
        f"{found['impact']} {found['id']}: {node['target']} {node['html'][:150]}"
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]
    assert not serious, "\n".join(serious)


FIGURE = "return arguments[0].closest('.minirl-explore').querySelector('img').src"


def sliders(browser):
    return browser.find_elements("css selector", ".minirl-explore input[type=range]")


def check_slider(browser, slider):
    """A slider's figure differs between its two ends, reached by keyboard and then by mouse."""
    from selenium.webdriver import ActionChains, Keys

    def at_start(act):
        act()
        return browser.execute_script(FIGURE, slider) == start

    def click(fraction):
        offset = int((fraction - 0.5) * slider.size["width"])
        ActionChains(browser).move_to_element_with_offset(slider, offset, 0).click().perform()

    name = slider.get_attribute("id") or slider.get_attribute("aria-label")
    assert slider.accessible_name, f"slider {name} has no label"
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", slider)
    slider.send_keys(Keys.HOME)
    start = browser.execute_script(FIGURE, slider)
    assert not at_start(lambda: slider.send_keys(Keys.END)), f"the keyboard does not move slider {name}"
    assert at_start(lambda: click(0.02)), f"a click at its left end does not bring slider {name} back"
    assert not at_start(lambda: click(0.98)), f"the mouse does not move slider {name}"


def test_sliders_move_their_figures(visit):
    for slider in sliders(visit.browser):
        check_slider(visit.browser, slider)


def test_films_stop_and_go(visit):
    """A film's button changes what it says and what is shown."""
    for button in visit.browser.find_elements("css selector", ".minirl-film button"):
        visit.browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
        state = "const f = arguments[0].closest('.minirl-film'); return [f.innerText, f.querySelector('img').src.length]"
        before = visit.browser.execute_script(state, button)
        button.click()
        between = visit.browser.execute_script(state, button)
        button.click()
        assert between != before
        assert visit.browser.execute_script(state, button) == before


def test_equations_and_sliders_are_there_at_all(browser, address):
    """The checks above say nothing about a book without equations or sliders."""
    equations = moved = 0
    for page in pages():
        if page not in THEME_PAGES:
            visit = open_page(browser, address + page)
            equations += len(visit.browser.find_elements("css selector", "mjx-container"))
            moved += len(sliders(visit.browser))
    assert equations > 0
    assert moved > 0


def test_book_works_from_the_disk(browser, html):
    """Opened as a file, without any server: nothing on the console, and a slider moves."""
    for page in ("index.html", next((p for p in pages() if "minirl-explore" in (html / p).read_text()), "index.html")):
        visit = open_page(browser, (html / page).as_uri())
        assert not [entry["message"] for entry in visit.console if entry["level"] == "SEVERE"]
        assert not [url for url in visit.requests if url.startswith("http")]
        for slider in sliders(browser)[:1]:
            check_slider(browser, slider)


def test_the_browser_cannot_reach_a_host(browser):
    """The oracle of test_no_request_leaves_the_machine: a name does not resolve in this browser."""
    assert shutil.which("chromedriver")
    with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
        browser.get("http://example.org/")
