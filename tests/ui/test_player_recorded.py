"""The player as it sounds in a page: recorded live, sample by sample, from the browser's own audio graph while a listener switches.

test_player_engine.py renders the same scripts offline, at moments of its choosing; here the clock runs. An AudioWorklet takes down every frame of the
player's output, from before play is pressed. All that is claimed is claimed of frames of the graph's clock, never of wall time: a busy machine may
stall that clock, but the frames that come out of the graph still follow each other.

A listener hears all of it later by the browser's output latency, alike for every clip; the graph, and so this file, lies before it. The one delay
that is left is the engine's lead: what is pressed at a frame begins to act 20 ms later.
"""

import base64
import io
import json
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from lab.ui.player import SyncPlayer, Track

RATE = 24000
FADE = 120
LEAD = 480
TRACKS = 3
SECONDS = 12  # far longer than a recording takes: no clip ends by itself
KINDS = ("sine", "numbered", "loop")
PLAYER = "document.querySelector('#player .player').parentElement.syncPlayer"
Samples = NDArray[np.float64]

# Keeps what arrives in one array on the audio thread, so that nothing is lost while the page is busy. `whole` is the frame from which on no quantum
# is missing: Chromium leaves some out while it starts the clock. Now and then it also says the frame of one quantum twice and skips the next number:
# quanta are counted therefore, and `astray` says for how many of the last ones the count did not agree with the clock.
WORKLET = """
registerProcessor('recorder', class extends AudioWorkletProcessor {
  constructor() {
    super();
    Object.assign(this, { sound: new Float32Array(60 * sampleRate), first: currentFrame, next: -1, whole: 0, astray: 0, channels: 0, open: true });
    this.port.onmessage = () => {
      this.open = false;
      const { first, whole, astray, channels } = this;
      this.port.postMessage({ first, whole, astray, channels, sound: this.sound.slice(0, this.next - first) });
    };
  }
  process([input]) {
    if (currentFrame > this.next) this.next = this.whole = currentFrame;
    this.astray = currentFrame === this.next ? 0 : this.astray + 1;
    if (input[0]) this.sound.set(input[0], this.next - this.first); // no channel comes from a graph that is silent
    this.channels = Math.max(this.channels, input.length);
    this.next += 128;
    return this.open;
  }
});
"""

# Connects the recorder to the player's output and stops the clock, as it is before the first press. Notes as well for how many frames the page stood
# still between an engine's look at the clock and the end of its planning (see `Session.late`).
TAP = """async (worklet) => {
  const { engine } = PLAYER;
  engine.build();
  const { context, soon, tell } = engine;
  if (!window.tap) await context.audioWorklet.addModule(URL.createObjectURL(new Blob([worklet], { type: 'text/javascript' })));
  const recorder = new AudioWorkletNode(context, 'recorder');
  engine.output.connect(recorder);
  recorder.connect(context.destination); // it gives silence; without a way to the loudspeaker nothing would run it
  await context.suspend();
  window.tap = { recorder, stood: 0 };
  let commanded = false;
  let asked = null;
  const planned = () => {
    if (asked !== null) tap.stood = Math.max(tap.stood, engine.now() - asked);
    asked = null;
  };
  engine.soon = () => {
    if (commanded) asked ??= engine.now();
    return soon.call(engine);
  };
  engine.tell = (...what) => {
    planned();
    tell(...what);
  };
  for (const name of ['play', 'choose', 'pause']) {
    const command = engine[name];
    engine[name] = (...args) => {
      commanded = true;
      command.apply(engine, args);
      planned();
      commanded = false;
    };
  }
}""".replace("PLAYER", PLAYER)

FETCH = """async () => {
  const answer = new Promise((done) => { tap.recorder.port.onmessage = ({ data }) => done(data); });
  tap.recorder.port.postMessage('stop');
  const { sound, ...rest } = await answer;
  const bytes = new Uint8Array(sound.buffer);
  let text = '';
  for (let k = 0; k < bytes.length; k += 32768) text += String.fromCharCode(...bytes.subarray(k, k + 32768));
  return { ...rest, sound: btoa(text), stood: tap.stood };
}"""

# Read again if the clock has moved on meanwhile: the position belongs to the frame.
MOMENT = """(() => {
  for (;;) {
    const frame = engine.now(), position = player.position();
    if (engine.now() === frame) return [frame, position, player.chosen];
  }
})()"""


def numbered(track: int) -> Samples:
    """Exact in float32: every sample says which clip it is from, and where."""
    return (track * 2**20 + np.arange(SECONDS * RATE) + 1) / 2**23


def sine(track: int, frequency: float = 1000, phase: float = 0) -> Samples:
    return 0.5 * np.sin(2 * np.pi * (frequency * np.arange(SECONDS * RATE) / RATE + track / TRACKS) + phase)


def largest_step(sound: Samples) -> float:
    return float(np.abs(np.diff(sound, prepend=0.0)).max())


def faded(frequency: float) -> float:
    """The largest step of such a sine under a 5 ms raised cosine: its own, and the curve's steepest slope."""
    return float(2 * 0.5 * np.sin(np.pi * frequency / RATE) + 0.5 * np.pi / 2 / FADE)


OFF_BEAT = 1002  # a loop of 250 ms has half a period too many: spliced hard, the sine would turn its sign
LOOP = (RATE // 2, RATE * 3 // 4)
ROUND = LOOP[1] - LOOP[0] + 1  # one silent frame between the end and the start
CLIPS = {f"sine-{track}": sine(track) for track in range(TRACKS)}
CLIPS |= {f"numbered-{track}": numbered(track) for track in range(TRACKS)}
CLIPS |= {f"loop-{track}": sine(track, OFF_BEAT, np.pi / 2) for track in range(TRACKS)}


def wav(token: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, CLIPS[token].astype("float32"), RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


class Run(NamedTuple):
    """The frames `first` to `last` are samples of `track`, not faded, each at the position that belongs to its frame."""

    track: int
    first: int
    last: int


class Switch(NamedTuple):
    """What the engine has planned: `origin` begins to fade out at `frame`; 10 ms later `to` has faded in."""

    frame: int
    origin: int
    to: int


class Moment(NamedTuple):
    """What the player says while the clock is at `frame`, after all fades."""

    frame: int
    position: int
    chosen: str


class Session(NamedTuple):
    """One recording, and what the player said meanwhile. Every number is in frames of the graph's clock."""

    sound: Samples  # index: the frame
    start: int  # where play began
    order: list[int]  # the tracks as they were chosen, the first one included
    switches: list[Switch]
    moments: list[Moment]  # one before each switch and one before the pause
    position: int  # where the player says that it has paused
    late: bool  # The page stood still for longer than the lead while the engine was planning. No promise is made for that: see fader.js.


class Loops(NamedTuple):
    """One recording of the loop, played by each clip in turn."""

    sound: Samples
    starts: list[int]  # where each of them began
    late: bool


class Studio:
    """A page whose player is recorded."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def load(self, kind: str) -> None:
        """Gives the player clips of one kind, and connects a recorder that starts before anything sounds."""
        self.page.click("#give-empty")
        self.page.wait_for_selector('#player .player[data-state="empty"]')
        self.page.click(f"#give-{kind}")
        self.page.wait_for_selector('#player .player[data-state="ready"]')
        self.page.locator("#player .time").click()  # a browser opens the sound of no page that was not touched
        self.page.evaluate(TAP, WORKLET)
        assert self.script("[engine.context.sampleRate, engine.output.gain.value, engine.context.state]") == [RATE, 1, "suspended"]
        assert self.script("[engine.leadFrames, engine.fadeFrames]") == [LEAD, FADE]

    def script(self, expression: str) -> Any:
        return self.page.evaluate(f"(() => {{ const player = {PLAYER}, {{ engine }} = player; return {expression}; }})()")

    def wait_until(self, frame: int) -> None:
        self.page.wait_for_function(f"{PLAYER}.engine.now() >= {frame}")

    def play(self) -> int:
        """Presses play; returns the frame at which the clips begin."""
        self.page.locator("#player .play").click()
        start = int(self.script("engine.decks[0].start"))
        self.wait_until(start + FADE)
        return start

    def pause(self) -> int:
        """Presses pause and waits until the fade is over; returns the position that the player reports."""
        self.page.locator("#player .play").click()
        position, frame = self.script("[player.position(), engine.now()]")
        self.wait_until(frame + LEAD + 2 * FADE)
        return round(position * RATE)

    def switch(self, way: str, to: int) -> Switch:
        """Chooses a track: with its button, with its key, or from a script."""
        if way == "button":
            self.page.locator("#player .track").nth(to).click()
        elif way == "key":
            self.page.keyboard.press(str(to + 1))
        else:
            self.script(f"player.choose({to})")
        return Switch(*self.script("[engine.swap.frame, engine.swap.from, engine.swap.to]"))

    def moment(self) -> Moment:
        frame, position, chosen = self.script(MOMENT)
        return Moment(frame, round(position * RATE), chosen)

    def fetch(self, start: int) -> tuple[Samples, bool]:
        """Ends the recording: the samples, and whether the page stood still for too long."""
        answer = self.page.evaluate(FETCH)
        assert answer["whole"] <= start  # nothing is missing
        assert answer["astray"] <= 1
        assert answer["channels"] == 1
        sound = np.frombuffer(base64.b64decode(answer["sound"]), "<f4").astype(float)
        return np.concatenate([np.zeros(answer["first"]), sound]), answer["stood"] >= LEAD

    def listen(self, kind: str, seed: int, shortest: int, longest: int, then: str = "null") -> Session:
        """Plays, switches 20 times at random, at least `shortest` to `longest` frames after the last fade, runs the script `then`, and pauses."""
        random = np.random.default_rng(seed)
        self.load(kind)
        start = self.play()
        order, switches, moments = [0], [], []
        free = start + FADE
        for k in range(20):
            self.wait_until(free + int(random.integers(shortest, longest)))
            moments.append(self.moment())
            order.append((order[-1] + int(random.integers(1, TRACKS))) % TRACKS)
            switches.append(self.switch(("button", "key", "script")[k % 3], order[-1]))
            free = switches[-1].frame + 2 * FADE
        self.wait_until(free + shortest)
        moments.append(self.moment())
        self.script(then)
        self.wait_until(self.script("engine.swap.frame") + 2 * FADE)
        position = self.pause()
        sound, late = self.fetch(start)
        return Session(sound, start, order, switches, moments, position, late)

    def loop(self) -> Loops:
        """Sets the loop with its handles, and plays it with each clip for more than three rounds."""
        first, last = (frame / RATE for frame in LOOP)
        self.load("loop")
        if self.page.locator("#player .loop").get_attribute("aria-pressed") == "false":
            self.page.locator("#player .loop").click()
        for name, seconds in (("from", first), ("to", last)):
            self.page.locator(f"#player .{name}").fill(str(seconds))
            self.page.locator(f"#player .{name}").dispatch_event("change")
        starts = []
        for track in range(TRACKS):
            self.page.keyboard.press(str(track + 1))
            starts.append(self.play())
            self.wait_until(starts[-1] + 3 * ROUND + 1000)
            self.pause()
            self.script(f"player.seek({first})")
        sound, late = self.fetch(starts[0])
        return Loops(sound, starts, late)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A small app: one player, and buttons that give it the clips of one kind."""
    before = os.environ.get("GRADIO_ANALYTICS_ENABLED")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    values = {kind: SyncPlayer.value_of([Track(f"{kind}-{track}", "ABC"[track]) for track in range(TRACKS)]) for kind in KINDS}
    with gr.Blocks() as demo:
        player = SyncPlayer(wav, elem_id="player", loop=False)
        for name, value in {"empty": SyncPlayer.value_of([]), **values}.items():
            gr.Button(name, elem_id=f"give-{name}").click(lambda value=value: value, outputs=player)
    _, url, _ = demo.launch(prevent_thread_lock=True, ssr_mode=False, quiet=True, server_name="127.0.0.1")
    yield url
    demo.close(verbose=False)
    os.environ.pop("GRADIO_ANALYTICS_ENABLED") if before is None else os.environ.update(GRADIO_ANALYTICS_ENABLED=before)


@pytest.fixture(scope="module")
def studio(address: str, browser: Any) -> Iterator[Studio]:
    """One page for all recordings. Nothing may be said on its console."""
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    context.set_default_timeout(60_000)  # for machines that are busy
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(address)
    yield Studio(page)
    context.close()
    assert troubles == []


@pytest.fixture(scope="module")
def played(studio: Studio) -> Session:
    """Twenty switches between numbered clips, each with time to be heard."""
    return in_time(lambda: studio.listen("numbered", 12, 200, 2400))


def in_time(record: Callable[[], Any]) -> Any:
    """The first recording during which the page kept up, or the third one: it may be right none the less."""
    made = record()
    for _ in range(2):
        made = record() if made.late else made
    return made


def runs(sound: Samples, start: int) -> list[Run]:
    """All stretches in which every sample is, bit for bit, the one that some track has at the position `frame - start`."""
    track = (sound * 2**23 - 1 - (np.arange(len(sound)) - start)) / 2**20
    track[(track != np.round(track)) | (track < 0) | (track >= TRACKS)] = -1
    track[:start] = -1
    ends = np.flatnonzero(np.diff(track, prepend=-2, append=-2))
    found = [Run(int(track[first]), int(first), int(end) - 1) for first, end in pairwise(ends) if track[first] >= 0]
    return [run for run in found if run.last > run.first]  # one sample alone may have the right value by chance, within a fade


def test_live_switches_between_sines_make_no_step_larger_than_that_of_a_faded_sine(studio: Studio) -> None:
    hurry = json.dumps([[k * (k + 1) // 2 % TRACKS, pause] for k, pause in enumerate([0, 1, 4, 0, 2, 7, 3, 0, 5, 1, 12, 0])])
    burst = (
        f"(async () => {{ for (const [to, ms] of {hurry}) {{ player.choose(to); await new Promise((done) => setTimeout(done, ms)); }} }})()"
    )
    made = in_time(lambda: studio.listen("sine", 11, 0, 1200, burst))
    assert largest_step(made.sound) <= faded(1000) + 1e-6
    assert largest_step(made.sound) > 0.12  # there is a sine

    def hard(switch: Switch) -> float:
        """The step that this switch would have made without fades."""
        position = switch.frame - made.start
        return float(abs(CLIPS[f"sine-{switch.to}"][position + 1] - CLIPS[f"sine-{switch.origin}"][position]))

    assert max(hard(switch) for switch in made.switches) > 4 * faded(1000)
    assert len(made.switches) == 20


def test_through_twenty_live_switches_every_sample_is_the_chosen_clips_at_the_position_of_its_frame(played: Session) -> None:
    expected, first = [], played.start + FADE
    for track, switch in zip(played.order, played.switches, strict=False):
        expected.append(Run(track, first, switch.frame))
        first = switch.frame + 2 * FADE
    # Where the player says that it rests is the last sample that it gave in full, one lead after the press.
    end = played.start + played.position
    expected.append(Run(played.order[-1], first, end))
    assert runs(played.sound, played.start) == expected
    assert len(expected) == 21
    assert [(switch.origin, switch.to) for switch in played.switches] == list(pairwise(played.order))
    assert not played.sound[: played.start].any()
    assert not played.sound[end + FADE :].any()


def test_the_clip_and_position_that_the_player_tells_are_those_of_the_sample_at_the_same_frame(played: Session) -> None:
    assert [moment.chosen for moment in played.moments] == [f"numbered-{track}" for track in played.order]
    for moment in played.moments:
        assert played.sound[moment.frame] == CLIPS[moment.chosen][moment.position]
    assert len(played.moments) == 21


def test_a_live_loop_point_makes_no_step_larger_than_that_of_a_faded_sine(studio: Studio) -> None:
    made = in_time(studio.loop)
    first, last = LOOP
    assert largest_step(made.sound) <= faded(OFF_BEAT) + 1e-6
    assert largest_step(made.sound) > 0.12
    for track, start in enumerate(made.starts):
        clip = CLIPS[f"loop-{track}"]
        assert abs(clip[first] - clip[last - 1]) > 2 * faded(OFF_BEAT)  # what a hard splice would be
        for point in (start + ROUND, start + 2 * ROUND, start + 3 * ROUND):
            assert not made.sound[point - 1]
            settled = slice(point + FADE, point + 900)
            np.testing.assert_array_equal(made.sound[settled], clip.astype("float32")[first + FADE : first + 900])
