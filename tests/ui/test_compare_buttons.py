"""The Compare page's buttons when server and network are slow: the real page in a real browser, over a pool without a model."""

import time

import pytest

from lab.ui.app import build_app, launch_settings
from tests import fakes

SAYS = "text => document.querySelector('#lab-status').innerText.includes(text)"
AT_REST = """() => {
    const [go, halt] = ["#lab-generate", "#lab-stop"].map((id) => document.querySelector(id));
    return !go.disabled && halt.disabled && halt.innerText === "Stop";
}"""

#: Keeps every word that the button shows, also one that is gone before a busy machine asks for it.
WATCH = """() => {
    window.seen = [];
    const look = () => seen.push(document.querySelector("#lab-stop").innerText);
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with fakes.lab_context(tmp_path_factory.mktemp("buttons")) as context:
        app = build_app(context)
        _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_settings(context))
        yield context, address
        app.close(verbose=False)


@pytest.fixture
def context(lab):
    return lab[0]


@pytest.fixture
def page(browser, lab):
    page = browser.new_page()
    page.set_default_timeout(60_000)  # for machines that are busy
    page.goto(lab[1])
    page.wait_for_selector("#lab-player .player")
    yield page
    page.close()


def says(page, text):
    page.wait_for_function(SAYS, arg=text)


def test_a_click_as_soon_as_generate_can_be_pressed_again_is_never_lost(page, context, monkeypatch):
    end, begin, begun = context.jobs.end, context.jobs.begin, []

    def slow_end(session, cancel):
        time.sleep(1.5)  # the last output is on the page, the event is not over
        end(session, cancel)

    monkeypatch.setattr(context.jobs, "begin", lambda session: begun.append(session) or begin(session))
    monkeypatch.setattr(context.jobs, "end", slow_end)
    page.fill("#lab-text textarea", "Hello there.")
    page.click("#lab-generate")
    says(page, "Rendered 2 of 2")
    page.click("#lab-generate")  # waits until it can be pressed
    page.wait_for_function("document.querySelector('#lab-generate').disabled")
    page.wait_for_function("!document.querySelector('#lab-generate').disabled")
    says(page, "Rendered 2 of 2")
    assert len(begun) == 2


def test_stop_says_that_it_stops_and_a_late_answer_does_not_hide_what_happened(page, context, monkeypatch):
    stop = context.jobs.stop

    def slow_stop(session):
        stopped = stop(session)
        time.sleep(2)
        return stopped

    monkeypatch.setattr(context.jobs, "stop", slow_stop)
    page.fill("#lab-text textarea", "sleep")
    page.click("#lab-generate")
    page.wait_for_function("!document.querySelector('#lab-stop').disabled")
    page.evaluate(WATCH)
    page.click("#lab-stop")
    says(page, "Stopped.")
    assert "Stopping…" in page.evaluate("seen")
    page.wait_for_timeout(2500)
    page.wait_for_function(AT_REST)
    assert "Stopped." in page.inner_text("#lab-status")


def test_stop_pressed_when_the_job_has_just_ended_leaves_its_result(page, context, monkeypatch):
    monkeypatch.setattr(context.jobs, "stop", lambda session: False)
    page.fill("#lab-text textarea", "nap")
    page.click("#lab-generate")
    page.wait_for_function("!document.querySelector('#lab-stop').disabled")
    page.click("#lab-stop")
    says(page, "Rendered 2 of 2")
    page.wait_for_function(AT_REST)
    assert "Rendered 2 of 2" in page.inner_text("#lab-status")
