"""Every type of listening test in a real browser, by mouse and by keyboard alone, on a desktop and on a phone; nothing names what is compared."""

import time

import pytest

from lab.config import REGISTRY
from lab.listening.model import TYPES
from tests.listening.manifests import NAMES
from tests.listening.real_server import serving
from tests.ui.listeners import FILES, PAGE, PATCHES, SECONDS, VIEWPORTS, Keyboard, Mouse, Visit


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("lab"), time.time) as made:
        yield made


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


# each type by either hand and in either viewport, and each hand in either viewport
PASSES = [
    (kind, hand, viewport)
    for place, kind in enumerate(TYPES)
    for hand, viewport in zip((Mouse, Keyboard), sorted(VIEWPORTS, reverse=place % 2 == 1), strict=True)
]


@pytest.mark.parametrize(("kind", "hand", "viewport"), PASSES)
def test_a_listener_completes_a_test_and_nothing_names_what_is_compared(browser, served, kind, hand, viewport):
    whole = hand is Mouse  # with catches and yardsticks once for each type
    study = served.study(kind, trials=2 if kind == "staircase" else 1, texts=2, seconds=SECONDS, extras=whole)
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
