"""The player on a page: what a listener sees, presses and types, in a real Gradio app and a real browser. Its sound: test_player_engine.py."""

import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import soundfile

import lab.ui.player
from lab.errors import LabError
from lab.ui.player import SyncPlayer, Track

RATE = 24000
HOSTILE = [
    Track("a", "${alert(1)}", "{{constructor.constructor('alert(2)')()}}"),
    Track("b", "<img src=x onerror=alert(3)>", "</script><script>alert(4)</script>"),
    Track("c", "`;alert(5)//", "'\"\\u0000<svg onload=alert(6)>"),
]
BLIND = [Track("a", "A"), Track("b", "B"), Track("c", "X")]
TOLD = [Track("a", "baseline", "NFE 32"), Track("b", "optimised", "NFE 7"), Track("c", "baseline again")]
SHOWN = "element => element.getClientRects().length > 0"


def wav(seconds: float, frequency: float) -> bytes:
    file = io.BytesIO()
    tone = 0.2 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)
    soundfile.write(file, tone.astype("float32"), RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


class App:
    """A small app: one player with three clips, a second one in a tab, a text field, and buttons that give the first player other clips."""

    def __init__(self) -> None:
        self.clips = {"a": wav(4.2, 300), "b": wav(4.2, 400), "c": wav(3.0, 500), "noise": b"RIFF, not really"}
        self.asked: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.happened = threading.Condition()
        values: dict[str, str] = {
            "told": SyncPlayer.value_of(TOLD),
            "chosen": SyncPlayer.value_of(BLIND, chosen="c"),
            "hostile": SyncPlayer.value_of(HOSTILE),
            "unknown": SyncPlayer.value_of([Track("a", "A"), Track("gone", "B")]),
            "noise": SyncPlayer.value_of([Track("noise", "A")]),
            "refused": SyncPlayer.value_of([Track("refused", "A")]),
            "empty": SyncPlayer.value_of([]),
        }
        with gr.Blocks() as self.demo:
            gr.Textbox(label="Words", elem_id="words")
            player = SyncPlayer(self.fetch, elem_id="first", loop=False, value=SyncPlayer.value_of(BLIND))
            player.chosen(self.note("chosen"))
            player.heard(self.note("heard"))
            for name, value in values.items():
                gr.Button(name, elem_id=f"give-{name}").click(lambda value=value: value, outputs=player)
            gr.Button("hide", elem_id="hide").click(lambda: gr.update(visible=False), outputs=player)
            with gr.Tabs():
                with gr.Tab("One"):
                    SyncPlayer(self.fetch, elem_id="second", value=SyncPlayer.value_of(TOLD))
                with gr.Tab("Two"):
                    gr.Markdown("Nothing here")
        _, self.url, _ = self.demo.launch(prevent_thread_lock=True, ssr_mode=False, quiet=True, server_name="127.0.0.1")

    def fetch(self, token: str) -> bytes:
        self.asked.append(token)
        if token == "refused":
            raise LabError("The clip is being rendered. Wait a moment.")
        return self.clips[token]

    def note(self, name: str) -> Callable[[gr.EventData], None]:
        def keep(event: gr.EventData) -> None:
            with self.happened:
                self.events.append((name, dict(event._data or {})))
                self.happened.notify_all()

        return keep

    def wait_for(self, what: Callable[[list[tuple[str, dict[str, Any]]]], bool]) -> None:
        with self.happened:
            assert self.happened.wait_for(lambda: what(self.events), timeout=30), self.events


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    before = os.environ.get("GRADIO_ANALYTICS_ENABLED")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    made = App()
    yield made
    made.demo.close(verbose=False)
    os.environ.pop("GRADIO_ANALYTICS_ENABLED") if before is None else os.environ.update(GRADIO_ANALYTICS_ENABLED=before)


class Visit:
    """One listener's page, and short ways to use the first player on it."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def script(self, expression: str, player: str = "first") -> Any:
        return self.page.locator(f"#{player} .player").evaluate(
            f"element => {{ const player = element.parentElement.syncPlayer; return {expression}; }}"
        )

    def find(self, selector: str, player: str = "first") -> Any:
        return self.page.locator(f"#{player} {selector}")

    def wait(self, state: str, player: str = "first") -> None:
        self.page.wait_for_selector(f'#{player} .player[data-state="{state}"]')

    def give(self, name: str, state: str = "ready") -> None:
        self.page.click(f"#give-{name}")
        self.wait(state)

    def play(self) -> None:
        self.find(".play").click()
        self.sounds_until(0.05)

    def sounds_until(self, seconds: float) -> None:
        """Wait until it plays beyond that position."""
        self.page.wait_for_function(f"document.querySelector('#first .player').parentElement.syncPlayer.position() > {seconds}")


@pytest.fixture(scope="module")
def desktop(browser: Any) -> Iterator[Any]:
    """One for all pages, so that Gradio's scripts are fetched once; the player keeps nothing in it."""
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    context.set_default_timeout(60_000)  # for machines that are busy
    yield context
    context.close()


@pytest.fixture
def visit(app: App, desktop: Any) -> Iterator[Visit]:
    """A fresh page. Whatever a test does there, nothing may be said on the console, be executed, or be asked of another host."""
    page = desktop.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: (troubles.append(f"executed: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: troubles.append(request.url) if not request.url.startswith((app.url, "data:", "blob:")) else None)
    page.goto(app.url)
    made = Visit(page)
    made.wait("ready")
    made.wait("ready", "second")
    app.asked.clear()
    app.events.clear()
    yield made
    said = list(troubles)  # closing a page makes Gradio complain that its connection is gone
    page.close()
    assert said == []


def test_a_press_plays_and_another_pauses(visit: Visit) -> None:
    assert visit.find(".time").inner_text() == "0.0 / 4.2 s"
    assert visit.find(".status").inner_text() == "A, ready"
    visit.play()
    assert visit.find(".play").get_attribute("aria-label") == "Pause"
    assert visit.find(".status").inner_text() == "playing A"
    visit.find(".play").click()
    assert visit.script("player.playing") is False
    assert visit.find(".status").inner_text() == "A, paused"


def test_a_switch_while_it_plays_keeps_the_position_on_the_clock(visit: Visit) -> None:
    visit.play()
    measure = """(async () => {
      const { engine } = player, lag = () => engine.context.currentTime - player.position(), lags = [lag()];
      for (let k = 0; k < 6; k += 1) {
        player.choose(k % 3);
        lags.push(lag());
        await new Promise((done) => setTimeout(done, 60));
        lags.push(lag());
      }
      return lags;
    })()"""
    lags = visit.script(measure)
    assert max(lags) - min(lags) < 0.5 / RATE
    assert visit.find('.track[aria-pressed="true"]').inner_text().split() == ["x", "X"]
    clocks = "[player.engine.context.currentTime, player.position()]"  # on a busy machine the audio's clock may fall behind a wall clock
    started, position = visit.script(clocks)
    visit.page.wait_for_timeout(400)
    later, moved = visit.script(clocks)
    assert later > started
    assert moved - position == pytest.approx(later - started, abs=0.06)


def test_python_hears_what_was_chosen_and_how_long_each_track_has_sounded(visit: Visit, app: App) -> None:
    visit.play()
    visit.sounds_until(0.35)
    visit.find(".track").nth(1).click()
    visit.sounds_until(0.7)
    visit.find(".play").click()
    app.wait_for(lambda events: len(events) >= 3)
    assert ("chosen", {"token": "b"}) in app.events
    heard = {data["token"]: data["seconds"] for name, data in app.events if name == "heard"}
    assert heard.keys() == {"a", "b"}
    assert heard["a"] > 0.25
    assert heard["b"] > 0.05
    assert heard["a"] + heard["b"] == pytest.approx(visit.script("player.position()"), abs=0.15)


def test_the_end_returns_to_the_start_and_pauses(visit: Visit) -> None:
    visit.script("player.seek(3.9)")
    visit.find(".play").click()
    visit.page.wait_for_function("!document.querySelector('#first .player').parentElement.syncPlayer.playing")
    assert visit.script("player.position()") == 0
    assert visit.find(".time").inner_text() == "0.0 / 4.2 s"


def test_a_loop_set_with_its_handles_is_played(visit: Visit) -> None:
    visit.find(".loop").click()
    visit.find(".from").fill("1")
    visit.find(".from").dispatch_event("change")
    visit.find(".to").fill("1.4")
    visit.find(".to").dispatch_event("change")
    assert visit.find(".loop-text").inner_text() == "Loop 1.0–1.4 s"
    visit.find(".play").click()
    visit.page.wait_for_timeout(1300)
    assert visit.script("player.playing") is True
    assert 1.0 <= visit.script("player.position()") <= 1.4
    visit.find(".whole").click()
    assert visit.find(".loop-text").inner_text() == "Loop"


def test_keys_choose_play_and_loop(visit: Visit) -> None:
    press = visit.page.keyboard.press
    visit.find(".time").click()
    press("2")
    assert visit.script("player.chosen") == "b"
    press("x")
    assert visit.script("player.chosen") == "c"
    press("Control+1")
    press("9")
    assert visit.script("player.chosen") == "c"
    press(" ")
    assert visit.script("player.playing") is True
    press("l")
    assert visit.find(".loop").get_attribute("aria-pressed") == "true"
    press(" ")
    assert visit.script("player.playing") is False
    assert visit.script("player.playing", "second") is False


def test_keys_are_left_alone_in_a_text_field(visit: Visit) -> None:
    visit.page.click("#words textarea, #words input")
    visit.page.keyboard.type("2 l x 3")
    assert visit.page.input_value("#words textarea, #words input") == "2 l x 3"
    assert visit.script("[player.chosen, player.playing]") == ["a", False]
    assert visit.find(".loop").get_attribute("aria-pressed") == "false"


def test_space_presses_what_has_the_focus_and_never_twice(visit: Visit) -> None:
    def press(selector: str) -> list[Any]:
        visit.find(selector).focus()
        visit.page.keyboard.press(" ")
        return [visit.script("player.playing"), visit.script("player.chosen"), visit.find(".loop").get_attribute("aria-pressed")]

    assert press(".play") == [True, "a", "false"]
    assert press(".seek") == [False, "a", "false"]
    assert press(".track >> nth=1") == [False, "b", "false"]  # not chosen yet: space chooses it
    assert press(".track >> nth=1") == [True, "b", "false"]  # nothing left to choose: it plays
    assert press(".loop") == [True, "b", "true"]


def test_of_two_players_the_one_used_last_answers_and_only_one_sounds(visit: Visit) -> None:
    visit.play()
    visit.find(".time", "second").click()
    visit.page.keyboard.press("3")
    assert [visit.script("player.chosen"), visit.script("player.chosen", "second")] == ["a", "c"]
    visit.page.keyboard.press(" ")
    assert [visit.script("player.playing"), visit.script("player.playing", "second")] == [False, True]
    visit.page.get_by_role("tab", name="Two").click()  # a player out of sight stops, and leaves the keys to the other
    visit.page.wait_for_function("!document.querySelector('#second .player')?.parentElement.syncPlayer.playing")
    visit.page.keyboard.press("2")
    assert visit.script("player.chosen") == "b"


def test_hostile_labels_stay_inert(visit: Visit) -> None:
    visit.give("hostile")
    visit.page.wait_for_function("document.querySelector('#first .track-label').textContent.startsWith('$')")
    assert visit.find(".track-label").all_text_contents() == [track.label for track in HOSTILE]
    assert visit.find(".track-note").all_text_contents() == [track.note for track in HOSTILE]
    assert visit.find(":is(img, script)").count() == 0
    visit.find(".track").nth(1).click()
    assert visit.find(".status").inner_text() == f"{HOSTILE[1].label}, ready"


def test_new_names_for_the_same_clips_load_nothing_and_the_sound_goes_on(visit: Visit, app: App) -> None:
    visit.play()
    visit.page.click("#give-told")
    visit.page.wait_for_function("document.querySelector('#first .track-label').textContent === 'baseline'")
    assert visit.script("player.playing") is True
    assert visit.find(".track-note").first.inner_text() == "NFE 32"
    assert app.asked == []


def test_a_value_can_choose_a_track(visit: Visit) -> None:
    visit.give("chosen")
    visit.page.wait_for_function("document.querySelector('#first .player').parentElement.syncPlayer.chosen === 'c'")


def test_other_clips_stop_the_sound_and_only_new_ones_are_fetched(visit: Visit, app: App) -> None:
    visit.play()
    visit.give("empty", "empty")
    assert visit.find(".message-text").inner_text() == "Nothing to play yet."
    assert visit.script("[player.playing, player.duration, player.tracks]") == [False, 0, 0]
    visit.give("told")
    assert app.asked == []  # known from before
    assert visit.script("[player.duration, player.trackLength(2), player.tracks]") == [4.2, 3.0, 3]


def test_a_clip_that_cannot_be_had_is_said_with_what_to_do(visit: Visit) -> None:
    reasons = {
        "unknown": "“B” cannot be played. The server does not have this clip any more. Render it again.",
        "refused": "“A” cannot be played. The clip is being rendered. Wait a moment.",
        "noise": "“A” is not a sound that this browser can decode. Render it again, or use a current Chrome, Edge, Firefox or Safari.",
    }
    for name, reason in reasons.items():
        visit.give(name, "error")
        visit.page.wait_for_function("text => document.querySelector('#first [role=alert]')?.textContent === text", arg=reason)
        assert visit.find(".retry").is_visible()
        visit.give("empty", "empty")


def test_try_again_fetches_again(visit: Visit, app: App) -> None:
    visit.give("unknown", "error")
    app.clips["gone"] = wav(1, 700)
    visit.find(".retry").click()
    visit.wait("ready")
    del app.clips["gone"]
    assert visit.script("player.tracks") == 2


def test_a_player_that_leaves_the_page_stops_and_closes_its_sound(visit: Visit) -> None:
    visit.page.evaluate("window.kept = [...window.syncPlayers].find((player) => player.element.closest('#first'))")
    visit.play()
    visit.page.evaluate("window.sound = kept.context")
    visit.page.click("#hide")
    visit.page.wait_for_function("sound.state === 'closed'")
    assert visit.page.evaluate("[kept.engine, window.syncPlayers.has(kept)]") == [None, False]
    visit.page.keyboard.press("2")
    assert visit.script("player.chosen", "second") == "b"


def test_it_works_on_a_phone_without_scrolling_sideways(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 360, "height": 740})
    visit.find(".loop").click()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    for selector in (".track", ".play", ".pill", "input"):
        for part in visit.find(selector).all():
            if part.evaluate(SHOWN):
                box = part.bounding_box()
                assert box["height"] >= 44, selector
                assert box["width"] >= 44, selector
    for part in visit.find(":is(.track, .play, .pill, .time, .rail)").all():
        if part.evaluate(SHOWN):
            box = part.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
    visit.play()


def test_every_control_has_a_name_and_a_visible_focus(visit: Visit) -> None:
    visit.find(".loop").click()
    names = []
    visit.find(".track").first.focus()
    for _ in range(10):
        names.append(
            visit.page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText.split('\\n').pop()")
        )
        visit.page.keyboard.press("Tab")
    assert names[:9] == ["A", "B", "X", "Play", "Position", "Loop start", "Loop end", "Loop", "Volume"]
    visit.find(".track").first.focus()
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


@pytest.mark.parametrize("question", [None, "a", {}, {"token": 1}, {"token": ["a"]}, {"token": "unknown"}])
def test_a_question_that_names_no_known_clip_gets_an_error_and_no_bytes(question: object) -> None:
    player = SyncPlayer({"a": b"bytes"}.__getitem__, render=False)
    assert player.clip(question) == {"error": lab.ui.player.UNKNOWN_CLIP}
    assert player.clip({"token": "a"}) == {"wav": "Ynl0ZXM="}


def test_equal_tracks_make_an_equal_value_and_other_words_another() -> None:
    assert SyncPlayer.value_of(BLIND) == SyncPlayer.value_of(list(BLIND))
    assert json.loads(SyncPlayer.value_of(BLIND))["version"] == json.loads(SyncPlayer.value_of(BLIND, chosen="b"))["version"]
    assert json.loads(SyncPlayer.value_of(BLIND))["version"] != json.loads(SyncPlayer.value_of(TOLD))["version"]
    assert "<" not in SyncPlayer.value_of(HOSTILE)


@pytest.mark.parametrize(("tracks", "chosen"), [([Track("a", "A"), Track("a", "B")], None), ([Track("a", "A")], "b")])
def test_a_value_with_a_token_twice_or_an_unknown_choice_is_refused(tracks: list[Track], chosen: str | None) -> None:
    with pytest.raises(ValueError, match="token"):
        SyncPlayer.value_of(tracks, chosen=chosen)


def test_importing_the_player_writes_no_stub_beside_it() -> None:
    assert not list(Path(lab.ui.player.__file__).parent.glob("*.pyi"))
