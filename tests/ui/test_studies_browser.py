"""The Studies page in a real browser, with listeners beside it: made by the form, heard in another browser, closed, deleted."""

import os
import re
import time
import urllib.parse
from pathlib import Path

import pytest

from lab.config import REGISTRY
from tests.listening.manifests import manifest
from tests.listening.real_server import Listener, serving
from tests.ui.conftest import leaving, visits

SHOTS = os.environ.get("LAB_SHOTS")  # a folder for screenshots, for people
VIEWPORTS = {"desktop": {"width": 1200, "height": 900}, "phone": {"width": 390, "height": 780}}
DRAWN = """name => {
    const plot = document.querySelector(`#studies-plot-${name} .js-plotly-plot`);
    return Boolean(plot?.data?.length && plot.querySelector(".trace, .point, path.box, .scatterlayer path"));
}"""
OVERFLOWING = """() => [...document.querySelectorAll('.gradio-container *')].filter(part =>
    part.getBoundingClientRect().right > innerWidth + 1 && !part.closest('.table-wrap, svg, .tab-container, ul[role=listbox]')
    && part.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})).slice(0, 5).map(part => part.outerHTML.slice(0, 120))"""


class Clock:
    """The real time, which listeners without ears may put forward instead of waiting while clips sound."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += seconds


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_WORKER_DIFFERS", "1")
        clock = Clock()
        with serving(tmp_path_factory.mktemp("lab"), clock) as made:
            made.forward = clock.forward
            yield made


@pytest.fixture(scope="module")
def desktop(browser):
    """One for all visits from a desktop, so that the plotting library is fetched once."""
    context = browser.new_context(viewport=VIEWPORTS["desktop"])
    yield context
    context.close()


class Visit:
    """The page, with everything it asked for and complained of."""

    def __init__(self, context, served) -> None:
        self.context, self.served = context, served
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)  # for machines that are busy
        self.strangers: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))

    def _asked(self, url: str) -> None:
        if not url.startswith((self.served.address, "data:", "blob:")):
            self.strangers.append(url)

    def open(self, query: str = "") -> None:
        self.page.goto(f"{self.served.address}/studies{query}")

    def reload(self) -> None:
        with leaving(self.complaints):
            self.page.reload()

    def says(self, text: str, where: str = "#studies-said") -> None:
        self.page.wait_for_function("([where, text]) => document.querySelector(where)?.innerText.includes(text)", arg=[where, text])

    def shows(self, study) -> None:
        """Wait until the page is about `study`."""
        self.says(study.manifest_sha256[:16], "#studies-facts")

    def drawn(self, *names: str) -> None:
        for name in names:
            self.page.wait_for_function(DRAWN, arg=name)

    def pick(self, study) -> None:
        """Choose a study of the menu by its type, of which there has to be one."""
        self.page.click("#studies-menu input")
        self.page.click(f"#studies-menu ul[role=listbox] li:has-text('{study.manifest.type} · ')")

    @property
    def asked_for(self) -> list[str]:
        return urllib.parse.parse_qs(urllib.parse.urlsplit(self.page.url).query).get("study", [])

    @property
    def link(self) -> str:
        return self.page.input_value("#studies-link textarea, #studies-link input")

    def shot(self, name: str) -> None:
        if SHOTS:
            self.page.wait_for_timeout(400)
            self.page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


@pytest.fixture
def visit(browser, desktop, served):
    with visits(browser, desktop, lambda context: Visit(context, served)) as make:
        yield make
    for study in served.context.studies.list():
        served.context.studies.delete(study.token)


def tells(_trial, sounds) -> str:
    """Answers an ABX by what is heard: X is the clip whose bytes are A's or B's."""
    return "A" if sounds["X"] == sounds["A"] else "B"


def passes(served, study, choose, *names: int) -> None:
    for name in names:
        assert Listener(served.address, study, name, choose, served.forward).listen()["screen"] == "thanks"


def test_a_study_is_made_by_the_form_heard_in_another_browser_and_closed(visit, served, browser):
    page = visit()
    page.open()
    page.says("No study yet")
    page.shot("empty-desktop")
    page.page.click("#studies-new button:has-text('New study')")
    page.page.click("#studies-type label:has-text('MUSHRA')")
    page.page.wait_for_function("document.querySelector('#studies-margin input').value === '10'")
    page.page.click("#studies-type label:has-text('Staircase')")
    page.page.wait_for_function("document.querySelector('#studies-margin input').disabled")
    page.page.click("#studies-type label:has-text('ABX')")
    page.page.wait_for_function("document.querySelector('#studies-margin input').value === '0.7'")
    page.page.click("#studies-texts input")
    page.page.click("#studies-texts ul[role=listbox] li:has-text('Question')")
    page.page.keyboard.press("Escape")
    page.page.fill("label:has-text('Title, for your team') input, label:has-text('Title, for your team') textarea", "Seven steps")
    page.page.fill("label:has-text('Questions that count') input", "4")
    page.shot("form-desktop")
    page.page.click("#studies-create")
    page.says("The study is made")
    (study,) = served.context.studies.list()
    page.shows(study)
    assert (study.manifest.title, study.manifest.trials, [text.id for text in study.manifest.texts][:1]) == ("Seven steps", 4, ["question"])
    page.page.wait_for_selector("#studies-create:enabled")  # by an event of its own, a moment later
    page.page.wait_for_selector("#studies-stop:disabled")
    assert page.link == served.link(study)
    page.page.wait_for_function("token => location.search.includes(token)", arg=study.token)
    assert "locked" in page.page.inner_text("#studies-locked")
    page.shot("open-desktop")

    listener = browser.new_context(viewport=VIEWPORTS["phone"])
    heard = listener.new_page()
    heard.goto(page.link)
    heard.wait_for_selector(".listen:not([data-screen=loading])")
    heard.check(".consent-box")
    heard.click("text=Start")
    heard.click("text=Skip this")
    heard.click("text=The volume is right")
    heard.wait_for_selector(".listen[data-screen=trial] .player[data-state=ready]")
    assert "Seven steps" not in heard.content()
    assert not any(name in heard.inner_text(".listen") for name in REGISTRY)
    listener.close()

    passes(served, study, tells, 1, 2)
    page.reload()
    page.shows(study)
    page.says("3 listeners", "#studies-facts")
    assert page.page.locator("#studies-headline").count() == 0 or not page.page.inner_text("#studies-headline")
    page.page.click("#studies-close")
    page.says("upstream-nfe7 against upstream", "#studies-headline")
    page.drawn("comparisons", "evidence", "listeners")
    assert "closed" in page.page.input_value("#studies-menu input")
    for hidden in ("#studies-close", "#studies-peek", "#studies-locked"):
        assert not page.page.is_visible(hidden)
    widths = page.page.evaluate(
        "[...document.querySelectorAll('[id^=studies-plot-] .main-svg')].map(plot => plot.getBoundingClientRect().width)"
    )
    assert min(widths) > 900
    page.shot("closed-desktop")
    page.page.click("#studies-tabs button[role=tab]:has-text('Stimuli')")
    page.says("upstream-nfe7", "#studies-pairs")
    page.shot("stimuli-desktop")
    with page.page.expect_response(re.compile("gradio_api")):
        page.page.click("#studies-export")
    page.says("study-", "#studies-files")
    page.shot("files-desktop")


def test_the_address_follows_the_chosen_study_and_a_reload_shows_it_again(visit, served):
    older, newer = served.study("ab"), served.study("ccr")
    page = visit()
    page.open()
    page.shows(newer)
    page.page.wait_for_function("token => location.search.includes(token)", arg=newer.token)
    page.pick(older)
    page.shows(older)
    page.page.wait_for_function("token => location.search.includes(token)", arg=older.token)
    assert page.asked_for == [older.token]
    assert page.link == served.link(older)
    page.reload()
    page.shows(older)
    assert page.asked_for == [older.token]
    page.open("?study=gone")
    page.says("no study under this link")
    assert not page.page.is_visible("#studies-facts")


def test_deleting_needs_the_second_button_and_another_study_takes_it_back(visit, served):
    kept, doomed = served.study("ab"), served.study("acr")
    page = visit()
    page.open(f"?study={doomed.token}")
    page.shows(doomed)
    assert not page.page.is_visible("#studies-really")
    page.page.click("#studies-delete")
    page.page.wait_for_selector("#studies-really")
    page.shot("delete-desktop")
    page.pick(kept)
    page.shows(kept)
    page.page.wait_for_selector("#studies-really", state="hidden")
    page.pick(doomed)
    page.shows(doomed)
    page.page.click("#studies-delete")
    page.page.wait_for_selector("#studies-really")
    assert len(served.context.studies.list()) == 2
    page.page.click("#studies-really")
    page.says("The study is deleted")
    assert [study.token for study in served.context.studies.list()] == [kept.token]
    page.page.wait_for_selector("#studies-facts", state="hidden")
    page.page.wait_for_function("!location.search.includes('study=')")


def test_a_peek_shows_what_may_be_shown_and_is_gone_after_a_reload(visit, served):
    study = served.study("abx", trials=4, texts=2)
    passes(served, study, tells, 1)
    page = visit()
    page.open()
    page.shows(study)
    assert not page.page.is_visible("#studies-headline")
    page.page.click("#studies-peek")
    page.says("anytime-valid", "#studies-headline")
    page.drawn("comparisons", "evidence")
    page.says("Looked at while open", "#studies-facts")
    page.shot("peek-desktop")
    page.reload()
    page.shows(study)
    assert page.page.is_visible("#studies-locked")
    assert not page.page.is_visible("#studies-headline")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(visit, served, theme):
    made, clips = manifest("mushra" if theme == "light" else "staircase", trials=4 if theme == "light" else 10, seconds=0.1)
    study = served.context.studies.create(made, clips)

    def choose(trial, sounds):
        return (
            {label: 98 if sound == sounds["Reference"] else 60 for label, sound in sounds.items() if label != "Reference"}
            if theme == "light"
            else tells(trial, sounds)
        )

    passes(served, study, choose, 1)
    page = visit(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    page.open(f"?study={study.token}&__theme={theme}")
    page.shows(study)
    assert page.page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
    page.page.click("#studies-new button:has-text('New study')")
    page.page.wait_for_selector("#studies-create")
    assert page.page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.page.evaluate(OVERFLOWING) == []
    page.page.click("#studies-new button:has-text('New study')")
    page.page.click("#studies-close")
    page.drawn(*(("comparisons", "evidence", "ratings", "listeners") if theme == "light" else ("staircase",)))
    assert page.page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.page.evaluate(OVERFLOWING) == []
    page.page.click("#studies-tabs button[role=tab]:has-text('Stimuli')")
    page.page.click("#studies-delete")
    page.page.wait_for_selector("#studies-really")
    assert page.page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.page.evaluate(OVERFLOWING) == []
