"""The built book as a reader without a network meets it."""

from importlib.resources import files

import pytest
from built import open_page, pages

pytestmark = pytest.mark.browser


def test_console_is_silent(visit):
    loud = [entry["message"] for entry in visit.console if entry["level"] in ("SEVERE", "WARNING")]
    assert not loud


def test_no_request_leaves_the_machine(visit, address):
    local = (address, "data:", "blob:", "about:")
    assert not [url for url in visit.requests if not url.startswith(local)]


def test_equations_are_rendered(visit, page):
    """Every equation is drawn, with MathML beside it for a screen reader; none is in error, none left as LaTeX."""
    found = visit.browser.execute_script(
        """
        const article = document.querySelector("article") || document.body, short = node => node.textContent.slice(0, 80);
        const all = [...article.querySelectorAll(".math")];
        const words = document.createTreeWalker(article, NodeFilter.SHOW_TEXT), latex = [];
        while (words.nextNode()) {
          const node = words.currentNode;
          if (/\\$\\$|\\\\[a-z]+[{_^]/.test(node.data) && !node.parentElement.closest("pre, code, script, style, .math"))
            latex.push(short(node));
        }
        return {
          undrawn: all.filter(node => !node.querySelector("mjx-container")).map(short),
          mute: all.filter(node => !node.querySelector("mjx-assistive-mml")).map(short),
          wrong: [...document.querySelectorAll("mjx-merror, mjx-container [style*='color: red']")].map(short),
          latex,
        };
        """
    )
    assert found == {"undrawn": [], "mute": [], "wrong": [], "latex": []}


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


# The picture that belongs to a slider or a button: the first one in the smallest box around both.
FIGURE = """
let box = arguments[0];
while (!box.querySelector("img")) box = box.parentElement;
return box.querySelector("img").src;
"""


def sliders(browser):
    return browser.find_elements("css selector", "article input[type=range]")


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


def test_films_start_and_stop(visit):
    """A film stands still until its button is pressed, and again after the next press; the button says which."""
    for button in visit.browser.find_elements("css selector", "article button.minirl-play"):
        visit.browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
        seen = []
        for _ in range(3):
            seen.append((button.text, visit.browser.execute_script(FIGURE, button)))
            button.click()
        assert seen[0][0] != seen[1][0] and seen[0][1] != seen[1][1], "the button does not start the film"
        assert seen[0] == seen[2], "the button does not stop the film"


@pytest.mark.parametrize("sign", ['type="range"', "minirl-play", 'class="math'])
def test_there_is_something_to_check(html, sign):
    """The checks above say nothing about a book without sliders, films or equations."""
    assert any(sign in (html / page).read_text() for page in pages())


def test_book_works_from_the_disk(browser, html):
    """Opened as a file, without any server: nothing on the console, and a slider moves."""
    for page in ["index.html", *[p for p in pages() if 'type="range"' in (html / p).read_text()][:1]]:
        visit = open_page(browser, (html / page).as_uri())
        assert not [entry["message"] for entry in visit.console if entry["level"] == "SEVERE"]
        assert not [url for url in visit.requests if url.startswith("http")]
        for slider in sliders(browser)[:1]:
            check_slider(browser, slider)


def test_the_browser_cannot_reach_a_host(browser):
    """The oracle of test_no_request_leaves_the_machine: a name does not resolve in this browser."""
    with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
        browser.get("http://example.org/")
