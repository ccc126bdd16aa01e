"""The book functions in a real kernel, and what they leave in a real browser."""

import os
import shutil
import time

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

WIDGET = "application/vnd.jupyter.widget-view+json"
CELLS = [
    """
import itertools, time
import numpy as np
from matplotlib import pyplot as plt
from minirl.book import card, explore, figure, film, live, show

def wave(frequency, kind):
    fig, ax = plt.subplots(figsize=(4, 2))
    x = np.linspace(0, 6, 50)
    ax.plot(x, getattr(np, kind)(frequency * x))
    return fig

def training(n):
    for k in itertools.count(1):
        time.sleep(0.01)
        yield {"step": k, "progress": k / n, "return": k / n}
        if k == n:
            return
""",
    'card("sac")',
    'figure(wave(1, "sin"), "One period of a sine.")',
    "show(wave)",
    'explore(wave, "A sine or cosine over six seconds.", frequency=[1, 2, 3], kind=["sin", "cos"])',
    'history = live({"A": training(60), "B": training(30)}, budget_s=30, plots={"return": "return"})',
    'film([np.full((40, 300, 3), 20 * k, np.uint8) for k in range(10)], "A field that turns from black to grey.")',
    'print(history.stopped, len(history["A"]), len(history["B"]))',
]


@pytest.fixture(scope="module")
def executed():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    before = os.environ.get("MINIRL_STATIC")
    os.environ["MINIRL_STATIC"] = "1"
    try:
        NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    finally:
        os.environ.pop("MINIRL_STATIC") if before is None else os.environ.update(MINIRL_STATIC=before)
    return [cell.outputs for cell in notebook.cells]


def test_every_cell_leaves_one_output_and_nothing_on_stderr(executed):
    assert [len(outputs) for outputs in executed] == [0, 1, 1, 1, 1, 1, 1, 1]
    assert all(output.get("name") != "stderr" for outputs in executed for output in outputs)
    assert executed[-1][0].text == "finished 60 30\n"


def test_explorers_leave_both_faces(executed):
    (output,) = executed[4]
    assert set(output.data) == {WIDGET, "text/html", "text/plain"}
    assert output.data["text/html"].count("<input") == 2


def test_live_leaves_a_picture_and_no_widget(executed):
    (output,) = executed[5]
    assert set(output.data) == {"text/html", "text/plain"}
    assert output.data["text/html"].count("<img") == 1
    assert "A 60 steps, B 30 steps." in output.data["text/plain"]


def test_figures_are_shown_once_and_for_every_export(executed):
    (output,) = executed[2]
    assert set(output.data) == {"image/png", "text/html", "text/plain"}


# Stopping, as JupyterLab does it.

ENDLESS = "history = live(training(10**6), budget_s=60, plots={'return': 'return'})"


@pytest.fixture
def kernel():
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    client.execute_interactive(CELLS[0], timeout=60)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def message(client, wanted):
    """The first message on iopub for which `wanted` holds."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = client.get_iopub_msg(timeout=60)
        if wanted(found):
            return found
    raise TimeoutError


def is_button(found):
    state = found["content"].get("data", {}).get("state", {}) if found["msg_type"] == "comm_open" else {}
    return state.get("_model_name") == "ButtonModel"


def is_picture(found):
    return found["msg_type"] == "comm_msg" and "value" in found["content"]["data"].get("state", {})


def answer(client, code):
    outputs = []
    client.execute_interactive(code, timeout=60, output_hook=lambda found: outputs.append(found["content"].get("text")))
    return "".join(filter(None, outputs))


@pytest.mark.slow
def test_the_button_works_while_the_cell_runs(kernel):
    """A click arrives on a subshell of the kernel, as JupyterLab sends it, although the main shell is busy."""
    _, client = kernel
    request = client.execute(ENDLESS)
    button = message(client, is_button)["content"]["comm_id"]
    message(client, is_picture)
    client.control_channel.send(client.session.msg("create_subshell_request"))
    subshell = client.get_control_msg(timeout=30)["content"]["subshell_id"]
    click = {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}
    found = client.session.msg("comm_msg", click)
    found["header"]["subshell_id"] = subshell
    client.shell_channel.send(found)
    reply = client.get_shell_msg(timeout=30)
    assert (reply["parent_header"]["msg_id"], reply["content"]["status"]) == (request, "ok")
    stopped, logs = answer(client, "print(history.stopped, len(history['run']))").split()
    assert stopped == "button"
    assert int(logs) > 0


@pytest.mark.slow
def test_an_interrupt_of_the_kernel_is_no_error(kernel):
    manager, client = kernel
    client.execute(ENDLESS)
    message(client, is_button)
    message(client, is_picture)
    manager.interrupt_kernel()
    assert client.get_shell_msg(timeout=30)["content"]["status"] == "ok"
    assert answer(client, "print(history.stopped)") == "interrupt\n"


# In the browser: the outputs alone, from a file, with no network at all.


def lacking(what):
    """CI must have a browser; elsewhere these tests skip."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def browser(executed, tmp_path_factory):
    chrome, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chrome or not driver:
        lacking("Chromium and chromedriver are not both on the PATH")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chrome
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--window-size=1000,1400",
    ):
        options.add_argument(argument)
    page = tmp_path_factory.mktemp("page") / "page.html"
    body = "".join(outputs[0].data["text/html"] for outputs in executed[1:-1])
    page.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title><body>{body}', "utf-8")
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    window.get(page.as_uri())
    yield window
    window.quit()


@pytest.mark.browser
def test_sliders_follow_keyboard_and_mouse(browser):
    from selenium.webdriver import ActionChains, Keys

    picture = browser.find_element("css selector", ".minirl-explore img")
    frequency, kind = browser.find_elements("css selector", ".minirl-explore input")

    def alt():
        return picture.get_attribute("alt").partition("(")[2]

    def click(slider, fraction):
        ActionChains(browser).move_to_element_with_offset(
            slider, round((fraction - 0.5) * slider.size["width"]), 0
        ).click().perform()

    assert alt() == "frequency = 2, kind = cos)"
    sources = {picture.get_attribute("src")}
    frequency.send_keys(Keys.ARROW_RIGHT)
    assert alt() == "frequency = 3, kind = cos)"
    frequency.send_keys(Keys.HOME, Keys.TAB)
    assert browser.switch_to.active_element == kind
    browser.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert alt() == "frequency = 1, kind = sin)"
    sources.add(picture.get_attribute("src"))
    click(frequency, 0.97)
    assert alt() == "frequency = 3, kind = sin)"
    sources.add(picture.get_attribute("src"))
    assert len(sources) == 3
    assert [found.text for found in browser.find_elements("css selector", ".minirl-explore output")] == ["3", "sin"]
    assert frequency.get_attribute("aria-valuetext") == "3"
    assert frequency.accessible_name == "frequency"
    assert browser.execute_script("return arguments[0].naturalWidth", picture) > 0


@pytest.mark.browser
def test_the_film_plays_on_request_only(browser):
    from selenium.webdriver import Keys

    picture = browser.find_element("css selector", ".minirl-film img")
    button = browser.find_element("css selector", ".minirl-film button")
    poster = picture.get_attribute("src")
    seen = []
    for act in (button.click, lambda: button.send_keys(Keys.SPACE), lambda: button.send_keys(Keys.ENTER)):
        act()
        seen.append((button.text, picture.get_attribute("src") == poster))
    assert seen == [("■ Stop", False), ("▶ Play", True), ("■ Stop", False)]


@pytest.mark.browser
def test_nothing_is_said_on_the_console(browser):
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
