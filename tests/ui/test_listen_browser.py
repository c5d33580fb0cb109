"""Listeners in a real browser: every type of test by mouse and by keyboard alone, on a desktop and on a phone, and nothing that names what is compared."""

import base64
import json
import time
from pathlib import Path

import pytest

from lab.config import REGISTRY
from lab.listening.model import TYPES
from tests.listening.manifests import NAMES
from tests.listening.real_server import Listener, serving

ROOT = Path(__file__).parents[2]
PAGE = "document.querySelector('.listen').parentElement.listenPage"
ENGINE = f"{PAGE}.trial.player.engine"
PATCHES = [path.stem for path in (ROOT / "patches").glob("*.patch")]
FILES = [path.name for folder in ("lab/data/demo", "patches") for path in (ROOT / folder).rglob("*.*") if path.name != "README.md"]
SECONDS = 0.25
_LOOKED_INTO: set[str] = set()
VIEWPORTS = {"desktop": {"width": 1200, "height": 900}, "phone": {"width": 360, "height": 740}}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("lab"), time.time) as made:
        yield made


class Visit:
    """A listener's browser, and everything that crossed the network or stood on the page."""

    def __init__(self, browser, served, study, viewport="desktop", **settings):
        self.context = browser.new_context(viewport=VIEWPORTS[viewport], has_touch=viewport == "phone", **settings)
        self.context.set_default_timeout(60_000)  # for machines that are busy
        self.served, self.study = served, study
        self.seen: dict[str, list[str]] = {"requests": [], "answers": [], "assets": [], "pages": [], "console": []}
        self.complaints: list[str] = []
        self.page = self.new_page()

    def new_page(self):
        page = self.context.new_page()
        page.on("console", lambda message: self.console(message))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.seen["requests"].append(f"{request.url} {request.headers} {request.post_data or ''}"))
        page.on("websocket", lambda socket: self.complaints.append(f"a websocket to {socket.url}"))
        page.on("response", lambda response: self.keep(response))
        return page

    def console(self, message):
        self.seen["console"].append(message.text)
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def keep(self, response):
        where = "assets" if "/assets/" in response.url or "/static/" in response.url else "answers"
        if where == "assets":  # Gradio's own files, the same for every study: looked into once
            if response.url in _LOOKED_INTO:
                return
            _LOOKED_INTO.add(response.url)
        try:
            self.seen[where].append(f"{response.url} {response.headers} {response.body().decode('utf-8', 'replace')}")
        except Exception:  # a redirect has no body
            self.seen[where].append(f"{response.url} {response.headers}")

    def open(self, page=None):
        (page or self.page).goto(self.served.link(self.study))
        (page or self.page).wait_for_selector(".listen:not([data-screen=loading])")

    def screen(self, name):
        self.page.wait_for_selector(f".listen[data-screen={name}]")
        self.seen["pages"].append(self.page.content())

    def ready(self):
        """Wait for the next trial's clips, or for the end; whether there is a trial."""
        self.page.wait_for_selector(".listen[data-screen=trial] .player[data-state=ready], .listen[data-screen=thanks]")
        self.seen["pages"].append(self.page.content())
        return self.page.get_attribute(".listen", "data-screen") == "trial"

    def labels(self):
        return self.page.evaluate(f"{PAGE}.trial.shown.tracks.map(track => track.label)")

    def heard(self, place):
        """Wait until the clip at that place has sounded for as long as it has to."""
        ask = f"(() => {{ const t = {PAGE}.trial; return Object.values(t.heard())[{place}] >= Object.values(t.shown.needed)[{place}]; }})()"
        self.page.wait_for_function(ask)

    def ratings(self):
        sessions = self.served.context.studies.sessions(self.study.token)
        return [[trial.rating.answer for trial in session.trials if trial.rating] for session in sessions]

    def close(self):
        self.context.close()


class Mouse:
    """Does everything by clicks, or taps."""

    def __init__(self, visit):
        self.visit, self.page = visit, visit.page

    def press(self, selector):
        self.page.click(selector)

    def begin(self):
        self.page.check(".consent-box")
        self.press("text=Start")
        self.visit.screen("headphones")
        self.press("text=Skip this")
        self.visit.screen("volume")
        self.press("text=The volume is right")

    def answer(self, kind):
        self.press(".play")
        for place, label in enumerate(self.visit.labels()):
            self.press(f".track >> nth={place}")
            self.visit.heard(place)
            if kind == "mushra" and label != "Reference":
                slider = self.page.locator(".slider[data-chosen] input")
                slider.scroll_into_view_if_needed()
                slider.click(position={"x": 0.7 * slider.bounding_box()["width"], "y": 20})
        if kind != "mushra":
            self.press(".option >> nth=0")
        self.press(".next")


class Keyboard:
    """Touches nothing but keys."""

    def __init__(self, visit):
        self.visit, self.page = visit, visit.page
        for name in ("click", "tap", "fill", "check"):
            setattr(self.page, name, None)  # a slip of this test would show

    def key(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, selector):
        for _ in range(80):
            if self.page.evaluate("selector => document.activeElement?.matches(selector) ?? false", selector):
                return
            self.key("Tab")
        raise AssertionError(f"{selector} cannot be reached by Tab")

    def begin(self):
        self.tab_to(".consent-box")
        self.key("Space", "Enter")
        self.visit.screen("headphones")
        self.tab_to(".actions .quiet")
        self.key("Enter")
        self.visit.screen("volume")
        self.page.wait_for_selector(".player[data-state=ready]")
        self.key("Enter")

    def answer(self, kind):
        self.key("Space")
        for place, label in enumerate(self.visit.labels()):
            self.key("x" if label == "X" else str(place + 1))
            self.visit.heard(place)
            if kind == "mushra" and label != "Reference":
                self.tab_to(".slider[data-chosen] input")
                self.key("ArrowRight", "ArrowRight", "PageUp")
        if kind in ("ab", "abx", "staircase"):
            self.key("a")
        elif kind == "acr":
            self.key("4")
        elif kind == "ccr":
            self.tab_to(".option input")
            self.key("ArrowDown", "ArrowDown")
        self.key("Enter")


def assert_blind(visit):
    """Nothing that reached the browser names a configuration, a patch, a text, a voice, weights or a file of the study."""
    made = visit.study.manifest
    own = {*NAMES, "ladder-nfe", made.title, made.voice, visit.study.secret, "text-0", "anchor 3.5", "other seed", "yardstick"}
    own |= {clip.sha256 for clip in made.stimuli} | {clip.sha256[:12] for clip in made.stimuli}
    lab = {*REGISTRY, *PATCHES, "f5-tts", "f5_tts", "vocoder", "NFE ", *FILES}
    shown = {**visit.seen, "requests": [*visit.seen["requests"]]}
    del shown["assets"]  # Gradio's own files, the same in every app: "baseline" is a word of CSS there
    for where, texts in shown.items():
        for text in texts:
            words = text if where != "answers" else without_stock(text)
            assert [name for name in own if name in words] == [], where
            assert [name for name in lab if name in words] == [], where
    for text in visit.seen["assets"]:
        assert [name for name in (*NAMES, "ladder-nfe", "fp16-vocoder", "upstream-nfe7", *PATCHES) if name in text] == []


def without_stock(text):
    """An answer without Gradio's theme, which is the same in every app."""
    return "" if "/theme.css" in text.split(" ")[0] else text


@pytest.mark.parametrize("viewport", VIEWPORTS)
@pytest.mark.parametrize("hand", [Mouse, Keyboard])
@pytest.mark.parametrize("kind", TYPES)
def test_a_listener_completes_a_test_and_nothing_names_what_is_compared(browser, served, kind, hand, viewport):
    study = served.study(kind, trials=2 if kind == "staircase" else 1, texts=2, seconds=SECONDS)
    visit = Visit(browser, served, study, viewport)
    try:
        visit.open()
        visit.screen("welcome")
        listener = hand(visit)
        listener.begin()
        answered = 0
        while visit.ready():
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= VIEWPORTS[viewport]["width"]
            number = visit.page.evaluate(f"{PAGE}.state.trial.number")
            listener.answer(kind)
            visit.page.wait_for_function(f"{PAGE}.state.screen !== 'trial' || {PAGE}.state.trial.number > {number}")
            answered += 1
            assert len(visit.ratings()[0]) == answered  # stored before the next one shows
        visit.screen("thanks")
        assert "Your own results" in visit.page.inner_text(".listen")
        trials = served.context.studies.sessions(study.token)[0].trials
        assert answered == len(trials) >= 3
        assert visit.complaints == []
        assert_blind(visit)
        posted = [request for request in visit.seen["requests"] if "component_server" in request]
        assert any('"do":"rate"' in request for request in posted)
        assert {request.split(" ")[0].split("/")[2] for request in visit.seen["requests"] if request.startswith("http")} == {
            served.address.removeprefix("http://")
        }
    finally:
        visit.close()


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
