"""Listeners in a real browser: coming back, two tabs, lost answers, corrections, the headphone check, and what a screen reader hears."""

import base64
import json
import time

import pytest

from tests.listening.manifests import NAMES
from tests.listening.real_server import Listener, serving
from tests.ui.listeners import PAGE, ROOT, SECONDS, Mouse, Visit


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("lab"), time.time) as made:
        yield made


@pytest.fixture
def visit(browser, served):
    made = []

    def new(study, **settings):
        made.append(Visit(browser, served, study, **settings))
        return made[-1]

    yield new
    for visit in made:
        visit.close()


def started(visit):
    """Up to the first trial."""
    visit.open()
    Mouse(visit).begin()
    assert visit.ready()


def test_closing_the_tab_and_coming_back_goes_on_at_the_same_trial(visit, served):
    here = visit(served.study("abx", trials=4, seconds=SECONDS))
    started(here)
    for _ in range(3):
        number = here.page.evaluate(f"{PAGE}.state.trial.number")
        Mouse(here).answer("abx")
        here.page.wait_for_function(f"{PAGE}.state.trial.number > {number}")
        here.ready()
    before = here.page.evaluate(f"{PAGE}.state.trial")
    here.page.close()
    here.page = here.new_page()
    here.open()
    assert here.ready()
    assert here.page.evaluate(f"{PAGE}.state.trial") == before
    assert len(here.ratings()) == 1


def test_two_tabs_are_one_session_and_the_second_answer_to_a_trial_counts_for_nothing(visit, served):
    here = visit(served.study("ab", trials=4, seconds=SECONDS))
    started(here)
    other = here.new_page()
    here.open(other)
    other.wait_for_selector(".listen[data-screen=trial] .player[data-state=ready], .listen[data-screen=headphones]")
    if other.get_attribute(".listen", "data-screen") == "headphones":  # nothing is answered yet, so it begins where the other one began
        other.click("text=Skip this")
        other.click("text=The volume is right")
        other.wait_for_selector(".listen[data-screen=trial] .player[data-state=ready]")
    Mouse(here).answer("ab")
    here.page.wait_for_function(f"{PAGE}.state.trial.number === 1")
    other.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # the listener looks at the other tab
    other.wait_for_function(f"{PAGE}.state.trial.number === 1")
    assert "answered already" in other.inner_text(".screen")
    assert here.ratings() == [["A"]]


def test_a_double_click_on_next_is_one_rating(visit, served):
    here = visit(served.study("acr", trials=4, seconds=SECONDS))
    started(here)
    here.page.click(".play")
    here.heard(0)
    here.page.click(".option >> nth=1")
    here.page.evaluate("() => { const next = document.querySelector('.next'); next.click(); next.click(); next.click(); }")
    here.page.wait_for_function(f"{PAGE}.state.trial.number === 1")
    here.page.wait_for_timeout(300)
    assert here.ratings() == [[4]]


def test_next_says_what_is_still_to_be_heard_and_the_answer_waits(visit, served):
    here = visit(served.study("abx", trials=4, seconds=SECONDS))
    started(here)
    assert here.page.inner_text(".hint") == "Still to hear: A, B, X"
    here.page.click(".option >> nth=0")
    here.page.click(".next", force=True)  # it looks disabled, and can be pressed all the same, to learn why
    assert here.page.inner_text(".trouble") == "Still to hear: A, B, X"
    assert here.ratings() == [[]]
    here.page.click(".play")
    here.heard(0)
    here.page.wait_for_function("document.querySelector('.hint').textContent === 'Still to hear: B, X'")


def test_the_last_answer_can_be_changed_with_a_comment(visit, served):
    here = visit(served.study("acr", trials=4, seconds=SECONDS))
    started(here)
    for number in range(3):
        Mouse(here).answer("acr")
        here.page.wait_for_function(f"{PAGE}.state.trial.number === {number + 1}")
        here.ready()
    here.page.click("text=Change my last answer")
    here.ready()
    assert here.page.locator(".option input >> nth=0").is_checked()  # as it was given
    here.page.click(".play")
    here.heard(0)
    here.page.click(".option >> nth=4")
    here.page.click("text=Add a comment")
    here.page.fill(".comment textarea", "A click <b>at the end</b>")
    here.page.keyboard.press("Enter")  # in a text field it is a new line
    here.page.click(".next")
    here.page.wait_for_function(f"{PAGE}.revising === false")
    session = served.context.studies.sessions(here.study.token)[0]
    rating = session.trials[2].rating
    assert (rating.answer, rating.revision, rating.comment) == (1, 1, "A click <b>at the end</b>")
    assert len(here.ratings()[0]) == 3


def test_an_answer_that_does_not_arrive_is_sent_again_and_counts_once(visit, served):
    here = visit(served.study("acr", trials=4, seconds=SECONDS))
    started(here)
    failed = []

    def break_one(route):
        if '"do":"rate"' in (route.request.post_data or "") and len(failed) < 2:
            failed.append(1)
            if len(failed) == 1:
                route.abort()
            else:
                route.fetch()  # it arrives, and the answer to it is lost
                route.abort()
        else:
            route.continue_()

    here.page.route("**/component_server/", break_one)
    Mouse(here).answer("acr")
    here.page.wait_for_function("document.querySelector('.trouble').textContent.includes('Trying again')")
    here.page.wait_for_function(f"{PAGE}.state.trial.number === 1")
    assert len(failed) == 2
    assert here.ratings() == [[5]]


def test_a_study_that_was_closed_or_never_was_says_so(visit, served):
    study = served.study("ab", trials=2, seconds=SECONDS)
    served.context.studies.close(study.token)
    here = visit(study)
    here.open()
    assert "closed" in here.page.inner_text("h1")
    here.page.goto(f"{served.address}/listen?s=nothing-of-that-kind00")
    here.page.wait_for_selector(".listen[data-screen=failed]")
    assert "Check that the link is whole" in here.page.inner_text(".listen")


def test_after_the_study_is_closed_the_link_shows_what_everybody_found(visit, served):
    study = served.study("abx", trials=1, texts=2, seconds=SECONDS)
    here = visit(study)
    started(here)
    while here.ready():
        number = here.page.evaluate(f"{PAGE}.state.trial.number")
        Mouse(here).answer("abx")
        here.page.wait_for_function(f"{PAGE}.state.screen !== 'trial' || {PAGE}.state.trial.number > {number}")
    assert NAMES[1] not in here.page.content()
    served.context.studies.close(study.token)
    here.open()
    here.screen("thanks")
    assert NAMES[1] in here.page.inner_text(".own")


def test_the_headphone_check_is_synthesised_recorded_and_no_gate(visit, served):
    here = visit(served.study("ab", trials=2, seconds=SECONDS))
    here.open()
    here.page.check(".consent-box")
    here.page.click("text=Start")
    here.page.click("text=Begin the check")
    here.page.keyboard.press("2")
    assert "Play the tones first" in here.page.inner_text(".trouble")
    here.page.evaluate("() => { window.realTimeout = window.setTimeout; window.setTimeout = (act, wait) => realTimeout(act, wait / 20); }")
    for _ in range(6):
        here.page.click("text=Play the three tones")
        here.page.wait_for_function("document.activeElement.closest('.tones') !== null")
        here.page.keyboard.press("1")
    here.page.wait_for_selector("text=That sounds like")
    here.page.keyboard.press("Enter")
    here.page.wait_for_selector(".listen[data-screen=volume]")
    events = served.context.studies.sessions(here.study.token)[0].events
    assert events[0][0] == "headphones"
    assert events[0][1]["of"] == 6


def test_the_tones_of_the_headphone_check_cancel_over_loudspeakers_only_where_they_are_meant_to(browser):
    page = browser.new_page()
    source = (ROOT / "lab/ui/listen/headphones.js").read_text()
    page.add_script_tag(content=f"{source}\nwindow.checkTone = checkTone;")
    tones = {kind: page.evaluate(f"checkTone('{kind}', 8000).map(side => Array.from(side))") for kind in ("plain", "quiet", "opposite")}
    level = {kind: max(map(abs, left)) for kind, (left, _) in tones.items()}
    assert level["plain"] == pytest.approx(level["opposite"], rel=1e-6)
    assert level["quiet"] == pytest.approx(level["plain"] / 2, rel=1e-6)  # 6 dB lower
    mixed = {kind: max(abs(a + b) for a, b in zip(left, right, strict=True)) for kind, (left, right) in tones.items()}
    assert mixed["opposite"] == 0
    assert mixed["quiet"] == pytest.approx(2 * level["quiet"], rel=1e-6)


def test_screens_have_headings_labels_and_roles_for_screen_readers(visit, served):
    here = visit(served.study("mushra", trials=1, texts=2, seconds=SECONDS))
    started(here)
    tree = here.page.locator(".listen").aria_snapshot()
    assert 'heading "Practice 1 of 2, does not count" [level=1]' in tree
    assert 'group "How close is each clip to the reference?"' in tree
    assert 'slider "Rating of clip A, 0 bad to 100 excellent" [disabled]' in tree
    assert 'button "Next"' in tree
    assert here.page.evaluate("document.activeElement.tagName") == "H1"
    other = visit(served.study("ab", trials=1, texts=2, seconds=SECONDS))
    started(other)
    tree = other.page.locator(".listen").aria_snapshot()
    assert 'group "Which one do you prefer?"' in tree
    assert 'radio "No preference"' in tree


def test_a_simulated_listener_and_one_in_the_browser_share_a_study(visit, served):
    study = served.study("ab", trials=1, texts=2, seconds=SECONDS)
    Listener(served.address, study, 7, lambda trial, sounds: "none").listen()
    here = visit(study)
    started(here)
    assert len(served.context.studies.sessions(study.token)) == 2
    sent = here.page.evaluate(
        f"(async () => {{ const t = {PAGE}.state.trial.tracks[0].token; return {PAGE}.line.ask('clip', {{token: t}}); }})()"
    )
    assert set(sent) == {"sealed", "key", "receipt"}
    assert len(base64.b64decode(sent["sealed"])) > 1000
    assert json.dumps(sent)
