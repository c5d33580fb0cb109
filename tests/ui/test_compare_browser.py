"""The whole lab as a person uses it: the real server, the real engine with the demo weights, a real browser."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.ui.conftest import FLAGS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.engine
TEXT = "Have you heard this voice before?"
PLAYER = "document.querySelector('#lab-player .player').parentElement.syncPlayer"


class Server:
    """`python app.py` in a process of its own."""

    def __init__(self, data: Path, *more: str) -> None:
        self.data, self.more = data, more
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "LAB_DATA_DIR": str(self.data), "PYTHONUNBUFFERED": "1"}
        environment.pop("LAB_DATABASE_URL", None)
        self.log = (self.data.parent / "app.log").open("ab")
        command = [sys.executable, "app.py", "--port", str(self.port), "--weights", "demo", "--device", "cpu", *self.more]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, Path(self.log.name).read_text()
            try:
                urllib.request.urlopen(f"{self.address}/gradio_api/info", timeout=2)
                return
            except urllib.error.HTTPError:  # it asks for a login, so it is there
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError("the app did not start")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.log.close()
        return code


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("lab") / "data")
    yield server
    if server.process.poll() is None:
        server.stop()


class Visitor:
    """A page, with everything it asked for and complained of; in a `context` that others use too, or in a browser of its own."""

    def __init__(self, browser, server: Server, context=None, **settings) -> None:
        self.shared = context is not None
        self.context = context or new_context(browser, **settings)
        self.page = self.context.new_page()
        self.server = server
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)

    def open(self, path: str = "/") -> None:
        self.page.goto(self.server.address + path)
        self.page.wait_for_selector("button#lab-generate")
        self.page.wait_for_selector("#lab-player .player")

    def generate(self, wait_for: str) -> None:
        self.page.click("button#lab-generate")
        self.status(wait_for)

    def status(self, text: str) -> None:
        self.page.wait_for_function("text => document.querySelector('#lab-status').innerText.includes(text)", arg=text, timeout=180_000)

    def player(self, expression: str):
        return self.page.evaluate(f"{PLAYER}.{expression}")

    def ready(self) -> None:
        self.page.wait_for_function("document.querySelector('#lab-player .player').dataset.state === 'ready'", timeout=60_000)

    def say(self, text: str) -> None:
        self.page.fill("#lab-text textarea", text)

    def close(self) -> None:
        (self.page if self.shared else self.context).close()


def new_context(browser, **settings):
    context = browser.new_context(viewport={"width": 1200, "height": 900}, **settings)
    context.set_default_timeout(60_000)  # for machines that are busy
    return context


@pytest.fixture(scope="module")
def desktop(browser):
    """One for all visitors who need not be alone, so that Gradio's scripts are fetched once."""
    context = new_context(browser)
    yield context
    context.close()


@pytest.fixture
def visitor(browser, desktop, server):
    visitors = []

    def visit(*, alone: bool = False) -> Visitor:
        visitors.append(Visitor(browser, server, None if alone else desktop))
        return visitors[-1]

    yield visit
    for made in visitors:
        made.close()


def test_a_text_is_rendered_heard_saved_and_found_again_after_a_restart(visitor, server):
    visit = visitor()
    visit.open()
    visit.say(TEXT)
    visit.page.wait_for_function("document.querySelector('#length-estimate').innerText.includes('About')")
    visit.generate("Rendered 2 of 2")
    visit.ready()
    assert visit.player("tracks") in (2, 3)

    # switching while it plays keeps the position, which is that of the audio clock: on a busy machine it may fall behind a wall clock
    visit.page.click("#lab-player button[aria-pressed='false']")
    visit.player("play()")
    visit.page.wait_for_timeout(400)
    order = random.Random(1)
    clocks = f"(() => {{ const p = {PLAYER}; return [p.position(), p.engine.context.currentTime]; }})()"
    compared = 0
    for _ in range(16):
        start, began = visit.page.evaluate(clocks)
        visit.player(f"choose({order.randrange(2)})")
        visit.page.wait_for_timeout(40)
        position, now = visit.page.evaluate(clocks)
        if position < start or now - began > 1:  # over the loop point, or the page was busy for so long that it may have been
            continue
        assert position - start == pytest.approx(now - began, abs=0.08)
        compared += 1
    assert compared
    visit.player("pause()")

    rows = visit.page.inner_text("#lab-table")
    assert "baseline" in rows
    assert "optimized" in rows
    visit.page.wait_for_selector("#lab-plot-1 .main-svg")
    traces = visit.page.evaluate("document.querySelector('#lab-plot-1 .js-plotly-plot').data.length")
    assert traces >= 2

    visit.page.click("button#lab-save")
    visit.page.wait_for_selector("#lab-link textarea, #lab-link input")
    link = visit.page.input_value("#lab-link textarea, #lab-link input")
    assert link.startswith(server.address + "/?c=")

    assert server.stop() == 0
    server.start()
    again = visitor(alone=True)
    again.open(link.removeprefix(server.address))
    again.status("Saved on")
    again.ready()
    assert again.page.input_value("#lab-text textarea") == TEXT
    assert "baseline" in again.page.inner_text("#lab-table")
    assert again.player("trackLength(0)") == visit.player("trackLength(0)")
    for seen in (visit, again):
        assert {url.split("/")[2] for url in seen.requests if "://" in url and not url.startswith(("data:", "blob:"))} == {
            f"127.0.0.1:{server.port}"
        }
    assert again.complaints == []


def test_stop_frees_the_engine_and_the_next_render_works(visitor):
    visit = visitor()
    visit.open()
    visit.say(
        "This is a long sentence, which takes so long to render that a person may well lose patience with it, and press the button that says stop."
    )
    visit.page.click("button#lab-generate")
    visit.page.wait_for_function("document.querySelector('button#lab-stop').disabled === false")
    visit.page.wait_for_timeout(1500)
    visit.page.click("button#lab-stop")
    visit.status("Stopped.")
    visit.say("Good day.")
    visit.generate("Rendered 2 of 2")
    assert visit.complaints == []


def test_an_engine_killed_in_its_work_gives_a_clear_message_and_the_next_render_works(visitor, server):
    visit = visitor()
    visit.open()
    visit.say("This is a long sentence, which takes so long to render that there is time to kill the engine while it is at work.")
    visit.page.click("button#lab-generate")
    visit.page.wait_for_function("document.querySelector('body').innerText.includes('baseline: sampling')", timeout=120_000)
    workers = subprocess.run(
        ["pgrep", "-P", str(server.process.pid), "-f", "lab.engine.worker"], capture_output=True, text=True, check=True
    )
    for pid in workers.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    visit.page.wait_for_function("document.querySelector('#lab-table').innerText.includes('died in the middle')", timeout=180_000)
    visit.status("Rendered")
    visit.say("Good day.")
    visit.generate("Rendered 2 of 2")


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "Type something"), ("Hello 😀", "GRINNING FACE"), ("<img src=x onerror=alert(1)>", "markup"), ("word " * 1800, "limit")],
    ids=["empty", "emoji", "markup", "ten-minutes"],
)
def test_bad_text_gets_a_clear_message_and_stays_inert(visitor, text, message):
    visit = visitor()
    visit.page.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    visit.open()
    visit.say(text)
    visit.generate(message)
    assert visit.page.is_enabled("button#lab-generate")
    assert visit.page.locator("#lab-status img").count() == 0
    assert visit.complaints == []


def own_voice(visit: Visitor, path: Path, *, consent: bool = True) -> str:
    visit.page.click("text=Use your own voice")
    visit.page.set_input_files("#own-clip input[type=file]", str(path))
    visit.page.wait_for_timeout(1500)
    visit.page.fill("#own-transcript textarea", "And all the pins of the tabernacle.")
    if consent:
        visit.page.check("#own-consent input[type=checkbox]")
    visit.page.click("button#own-use")
    visit.page.wait_for_function("document.querySelector('#own-said textarea').value.length > 5", timeout=60_000)
    return visit.page.input_value("#own-said textarea")


def test_a_text_file_renamed_to_wav_and_a_decompression_bomb_are_refused(visitor, tmp_path):
    import numpy as np
    import soundfile

    text = tmp_path / "notes.wav"
    text.write_text("This is no sound at all, whatever its name says. " * 50)
    visit = visitor()
    visit.open()
    assert "not audio" in own_voice(visit, text)
    bomb = tmp_path / "bomb.flac"
    with soundfile.SoundFile(bomb, "w", 8000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(200):
            file.write(np.zeros(8000 * 60, np.int16))
    assert bomb.stat().st_size < 2_000_000
    other = visitor()
    other.open()
    said = own_voice(other, bomb)
    assert "15" in said
    assert other.page.locator("#lab-voice input").input_value().startswith("Demo")


def test_an_own_voice_needs_consent_is_used_and_can_be_deleted(visitor, server):
    clip = ROOT / "lab/data/demo/voices/female.wav"
    visit = visitor(alone=True)
    visit.open()
    assert "consent" in own_voice(visit, clip, consent=False)
    visit.page.check("#own-consent input[type=checkbox]")
    visit.page.click("button#own-use")
    visit.page.wait_for_function("document.querySelector('#own-said textarea').value.startsWith('Ready')", timeout=60_000)
    assert "yours" in visit.page.locator("#lab-voice input").input_value()
    visit.say("Good day.")
    visit.generate("Rendered 2 of 2")
    stranger = visitor()
    stranger.open()
    stranger.page.click("#lab-voice input")
    assert "yours" not in stranger.page.inner_text("body")
    again = visit.context.new_page()  # the same browser, another tab: the voice is still the person's to use
    again.goto(server.address)
    again.wait_for_selector("button#lab-generate")
    again.wait_for_timeout(1000)
    again.click("#lab-voice input")
    assert "yours" in again.inner_text("body")
    again.close()
    visit.page.click("button#own-delete")
    visit.page.wait_for_function("document.querySelector('#own-said textarea').value.includes('deleted')")
    assert visit.page.locator("#lab-voice input").input_value().startswith("Demo")


def test_a_voice_can_be_recorded_with_the_microphone(browser, chromium, server):
    clip = ROOT / "lab/data/demo/voices/female.wav"
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={clip}"]
    recording = browser.browser_type.launch(executable_path=chromium, args=[*FLAGS, *fake])
    try:
        visit = Visitor(recording, server, permissions=["microphone"])
        visit.open()
        visit.page.click("text=Use your own voice")
        visit.page.click("#own-clip button[aria-label='Record audio']")
        visit.page.click("#own-clip button.record-button")
        visit.page.wait_for_timeout(4500)
        visit.page.click("#own-clip button.stop-button")
        visit.page.wait_for_timeout(1500)
        visit.page.fill("#own-transcript textarea", "And all the pins of the tabernacle, and of the court.")
        visit.page.check("#own-consent input[type=checkbox]")
        visit.page.click("button#own-use")
        visit.page.wait_for_function("document.querySelector('#own-said textarea').value.startsWith('Ready')", timeout=60_000)
        assert "yours" in visit.page.locator("#lab-voice input").input_value()
    finally:
        recording.close()


def test_the_page_fits_a_phone_and_can_be_used_by_keyboard_alone(visitor):
    visit = visitor()
    visit.page.set_viewport_size({"width": 360, "height": 740})
    visit.open()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.page.focus("#lab-text textarea")
    visit.page.keyboard.press("Control+A")
    visit.page.keyboard.type("Good day.")
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        if visit.page.evaluate("document.activeElement.id") == "lab-generate":
            break
    assert visit.page.evaluate("document.activeElement.id") == "lab-generate"
    visit.page.keyboard.press("Enter")
    visit.status("Rendered 2 of 2")
    visit.ready()
    for _ in range(10):
        visit.page.keyboard.press("Tab")
        if "aria-pressed" in visit.page.evaluate("document.activeElement.outerHTML"):
            break
    visit.page.keyboard.press("2")
    assert visit.page.evaluate("document.querySelectorAll('#lab-player button[aria-pressed=true]').length") >= 1
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_downloads_are_the_clips_and_their_facts(visitor, tmp_path):
    import hashlib

    from lab.ui.results import samples_of

    visit = visitor()
    visit.open()
    visit.say("Good day.")
    visit.generate("Rendered 2 of 2")
    visit.page.wait_for_selector("#lab-files a")
    saved = {}
    for link in visit.page.locator("#lab-files a").all():
        with visit.page.expect_download() as download:
            link.click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        saved[path.name] = path
    facts = json.loads(saved["facts.json"].read_text())
    for clip in facts["clips"]:
        samples = samples_of(saved[f"{clip['config']}.wav"].read_bytes())
        assert hashlib.sha256(samples.tobytes()).hexdigest() == clip["audio_sha256"]
