"""The sound of the player, rendered offline through the code that plays it: fader.js and engine.js on an OfflineAudioContext.

A clip's samples are `(track * 2**20 + position + 1) / 2**23`, exact in float32, so that an output sample says which clip it is from and where.
"""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lab.ui.player

RATE = 24000
FADE = 120
QUANTUM = 128
SCRIPTS = Path(lab.ui.player.__file__).parent
Samples = NDArray[np.float64]

# Renders clips while `steps` of [frame, method, arguments, frames late] are done to the engine at their frames, and its timer ticks in between.
RENDER = """async ({ clips, frames, steps, volume, lead }) => {
  const context = new OfflineAudioContext(1, frames, 24000);
  const decoded = clips.map((text) => {
    const samples = new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
    const buffer = context.createBuffer(1, samples.length, 24000);
    buffer.copyToChannel(samples, 0);
    return buffer;
  });
  const told = [], log = [];
  const tell = (what, detail) => told.push([what, detail]);
  const engine = new SyncEngine({ clips: decoded, open: () => context, lead, tell });
  engine.setVolume(volume);
  const clock = engine.now;
  const moments = new Map();
  for (let frame = 1280; frame < frames; frame += 1280) moments.set(frame, []);
  for (const step of steps) moments.set(step[0], [...(moments.get(step[0]) ?? []), step]);
  const act = (moment) => {
    for (const [frame, method, args, late] of moment) {
      engine.now = () => clock.call(engine) + (late ?? 0);
      engine[method](...args);
      engine.now = clock;
      log.push([frame, method, Math.round(engine.position() * 24000), engine.playing, engine.chosen]);
    }
    if (engine.playing) engine.tick();
  };
  const failures = [];
  for (const [frame, moment] of moments) {
    if (frame === 0) act(moment);
    else context.suspend(frame / 24000).then(() => act(moment)).catch((error) => failures.push(String(error))).then(() => context.resume());
  }
  const rendered = (await context.startRendering()).getChannelData(0);
  let text = '';
  const bytes = new Uint8Array(rendered.buffer);
  for (let k = 0; k < bytes.length; k += 32768) text += String.fromCharCode(...bytes.subarray(k, k + 32768));
  return { sound: btoa(text), told, log, failures, heard: engine.heard, duration: engine.duration, playing: engine.playing, position: engine.position() };
}"""


@pytest.fixture(scope="module")
def studio(browser: Any) -> Any:
    page = browser.new_page()
    source = "\n".join((SCRIPTS / name).read_text() for name in ("fader.js", "engine.js"))
    page.add_script_tag(content=f"{source}\nwindow.SyncEngine = SyncEngine;")
    return page


class Rendered:
    """What came out, and what the engine said meanwhile."""

    def __init__(self, page: Any, clips: list[Samples], seconds: float, steps: list[list[Any]], volume: float = 1, lead: float = 0) -> None:
        coded = [base64.b64encode(clip.astype("<f4").tobytes()).decode() for clip in clips]
        job = {"clips": coded, "frames": round(seconds * RATE), "steps": steps, "volume": volume, "lead": lead}
        answer = page.evaluate(RENDER, job)
        assert answer["failures"] == []
        self.sound: Samples = np.frombuffer(base64.b64decode(answer["sound"]), "<f4").astype(float)
        self.told, self.log, self.heard = answer["told"], answer["log"], answer["heard"]
        self.duration, self.playing, self.position = answer["duration"], answer["playing"], answer["position"]


def numbered(track: int, length: int) -> Samples:
    return (track * 2**20 + np.arange(length) + 1) / 2**23


def sine(phase: float, length: int, frequency: float = 1000) -> Samples:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(length) / RATE + phase)


def largest_step(sound: Samples) -> float:
    return float(np.abs(np.diff(sound, prepend=0.0)).max())


def grid(frame: float) -> int:
    """The next frame at which an offline render can be held."""
    return int(-(-frame // QUANTUM) * QUANTUM)


def envelope(length: int, fades: list[tuple[int, int]], value: int) -> Samples:
    """The gain that these fades, (frame, to), make of a constant."""
    gain = np.full(length, float(value))
    fall = (1 + np.cos(np.pi * np.arange(FADE + 1) / FADE)) / 2
    for frame, to in fades:
        curve = (1 - fall if to else fall)[: max(0, length - frame)]
        gain[frame : frame + len(curve)] = curve
        gain[frame + len(curve) :] = to
    return gain


# The largest step of a 1 kHz sine of amplitude 0.5 under a 5 ms raised cosine: its own, and the curve's steepest slope.
FADED_SINE = 2 * 0.5 * np.sin(np.pi * 1000 / RATE) + 0.5 * np.pi / 2 / FADE
FADED_CONSTANT = 0.5 * np.pi / 2 / FADE


def test_switches_between_sines_make_no_step_larger_than_that_of_a_faded_sine(studio: Any) -> None:
    clips = [sine(0, 3 * RATE), sine(np.pi, 3 * RATE), sine(np.pi / 2, 3 * RATE)]
    steps: list[list[Any]] = [[0, "play", []]]
    steps += [[grid(2400 + 3001 * k), "choose", [(k + 1) % 3]] for k in range(14)]
    frame = grid(2400 + 3001 * 14)
    steps += [
        [frame, "choose", [2]],
        [frame, "choose", [1], 72],
        [frame, "choose", [0], 73],
        [frame, "choose", [2], 110],
    ]  # within 3 ms and less
    out = Rendered(studio, clips, 2.5, steps)
    assert largest_step(out.sound) <= FADED_SINE + 1e-6
    assert largest_step(out.sound) > 0.12  # there is a sine
    hard = np.concatenate([clips[0][: RATE // 2 + 6], clips[1][RATE // 2 + 6 :]])
    assert largest_step(hard) > 2 * FADED_SINE  # what this test would see of a switch without fades


def test_a_switch_is_a_raised_cosine_out_and_then_one_in_at_the_same_position(studio: Any) -> None:
    clips = [numbered(0, RATE), numbered(1, RATE)]
    out = Rendered(studio, clips, 0.5, [[0, "play", []], [grid(4000), "choose", [1]]])
    at = grid(4000)
    first = envelope(RATE // 2, [(0, 1), (at, 0)], 0)
    second = envelope(RATE // 2, [(at + FADE, 1)], 0)
    expected = clips[0][: RATE // 2] * first + clips[1][: RATE // 2] * second
    np.testing.assert_allclose(out.sound, expected, atol=2e-7)


def test_after_twenty_random_switches_every_sample_is_the_chosen_clips_at_the_right_position(studio: Any) -> None:
    random = np.random.default_rng(7)
    clips = [numbered(track, 4 * RATE) for track in range(4)]
    frames = np.cumsum(random.integers(4, 40, 20)) * QUANTUM + 1280
    steps: list[list[Any]] = [[0, "play", []]]
    expected, settled, chosen = np.zeros(4 * RATE), np.ones(4 * RATE, bool), 0
    settled[: FADE + 1] = settled[-FADE - 1 :] = False
    expected[:] = clips[0]
    for frame in frames.tolist():
        chosen = (chosen + int(random.integers(1, 4))) % 4
        steps.append([frame, "choose", [chosen]])
        expected[frame:] = clips[chosen][frame:]
        settled[frame : frame + 2 * FADE + 1] = False
    out = Rendered(studio, clips, 4, steps)
    assert settled.mean() > 0.9
    np.testing.assert_array_equal(out.sound[settled], expected[settled])
    assert [entry[2] for entry in out.log] == [0, *frames.tolist()]  # the engine's own offsets
    assert out.log[-1][4] == chosen


def test_two_switches_within_three_milliseconds_end_on_the_last_choice(studio: Any) -> None:
    clips = [numbered(track, RATE) for track in range(3)]
    at = grid(4000)
    out = Rendered(studio, clips, 0.9, [[0, "play", []], [at, "choose", [1]], [at, "choose", [2], 72]])
    end = at + 4 * FADE + 8
    np.testing.assert_array_equal(out.sound[end:20000], clips[2][end:20000])
    assert largest_step(out.sound[:20000]) < clips[2].max() * np.pi / 2 / FADE * 1.05


def test_the_loop_point_is_faded_alike_for_every_clip(studio: Any) -> None:
    clips = [numbered(track, RATE) for track in range(2)]
    gains = []
    for chosen in range(2):
        steps = [[0, "choose", [chosen]], [0, "setLoop", [True, 0.25, 0.75]], [0, "play", []], [grid(30000), "pause", []]]
        out = Rendered(studio, clips, 1.4, steps)
        position = np.arange(len(out.sound)) + 6000  # a loop is set: it starts in it
        for _ in range(4):
            position[position >= 18000] -= 12001  # one silent frame between the end and the start
        gains.append(out.sound / clips[chosen][np.clip(position, 0, RATE - 1)])
    np.testing.assert_allclose(gains[0], gains[1], atol=3e-4)  # float32 of small numbers near silence
    point = 12000
    np.testing.assert_allclose(
        gains[1][: 2 * point], envelope(2 * point, [(0, 1), (point - FADE, 0), (point + 1, 1), (2 * point + 1 - FADE, 0)], 0), atol=1e-6
    )
    assert not gains[1][grid(30000) + FADE :].any()


def test_a_loop_of_the_whole_clip_goes_on_through_a_switch_at_the_loop_point(studio: Any) -> None:
    clips = [numbered(track, RATE) for track in range(2)]
    at = grid(RATE - 180)
    out = Rendered(studio, clips, 1.9, [[0, "setLoop", [True]], [0, "play", []], [at, "choose", [1]]])
    after = slice(RATE + 1 + 2 * FADE, RATE + 20000)
    np.testing.assert_array_equal(out.sound[after], clips[1][2 * FADE : 20000 - 1])
    assert largest_step(out.sound) < 2 * clips[1].max() * np.pi / 2 / FADE  # two fades at once


def test_the_longest_clip_decides_the_length_and_a_shorter_one_is_silent_after_its_end(studio: Any) -> None:
    clips = [numbered(0, RATE), numbered(1, RATE // 2)]
    out = Rendered(studio, clips, 1.2, [[0, "choose", [1]], [0, "play", []]])
    assert out.duration == 1.0
    np.testing.assert_array_equal(out.sound[FADE + 1 : RATE // 2], clips[1][FADE + 1 :])
    assert not out.sound[RATE // 2 :].any()
    assert out.heard == [0, RATE // 2]


def test_at_the_end_it_fades_stops_and_goes_back_to_the_start(studio: Any) -> None:
    clips = [numbered(0, RATE), numbered(1, RATE)]
    out = Rendered(studio, clips, 1.5, [[0, "play", []], [grid(12000), "choose", [1]]])
    assert (out.playing, out.position) == (False, 0)
    assert not out.sound[RATE:].any()
    np.testing.assert_allclose(out.sound[RATE - FADE : RATE], clips[1][RATE - FADE :] * envelope(FADE, [(0, 0)], 1), atol=1e-6)
    switch = grid(12000)
    assert out.told == [
        ["state", None],
        ["heard", {"index": 0, "seconds": switch / RATE}],
        ["heard", {"index": 1, "seconds": (RATE - switch) / RATE}],
        ["ended", None],
        ["state", None],
    ]


def test_pause_and_play_go_on_at_the_same_sample(studio: Any) -> None:
    clips = [numbered(0, RATE), numbered(1, RATE)]
    stop, go = grid(8000), grid(16000)
    out = Rendered(studio, clips, 1.2, [[0, "play", []], [stop, "pause", []], [go, "play", []]])
    assert not out.sound[stop + FADE : go].any()
    np.testing.assert_array_equal(out.sound[go + FADE + 1 : go + 9000], clips[0][stop + FADE + 1 : stop + 9000])
    assert largest_step(out.sound) < clips[0].max() * np.pi / 2 / FADE * 1.05


def test_clips_start_in_step_also_when_the_page_stands_still_while_they_are_told(studio: Any) -> None:
    clips = [numbered(track, RATE) for track in range(3)]
    slow = """() => {
        const create = OfflineAudioContext.prototype.createBufferSource;
        let made = 0;
        OfflineAudioContext.prototype.createBufferSource = function () {
            made += 1;
            if (made === 3) window.lateBy = 2560; // the clock goes on while the third clip is made
            return create.call(this);
        };
        const now = SyncEngine.prototype.now;
        SyncEngine.prototype.now = function () { return now.call(this) + (window.lateBy ?? 0); };
    }"""
    fast = "() => { delete window.lateBy; }"
    studio.evaluate("() => { window.plain = [OfflineAudioContext.prototype.createBufferSource, SyncEngine.prototype.now]; }")
    studio.evaluate(slow)
    try:
        out = Rendered(studio, clips, 0.8, [[grid(2560), "play", []], [grid(9000), "choose", [1]]])
    finally:
        studio.evaluate(fast)
        studio.evaluate("() => { [OfflineAudioContext.prototype.createBufferSource, SyncEngine.prototype.now] = window.plain; }")
    begun = int(np.flatnonzero(out.sound)[0]) - 1
    assert begun >= 2 * 2560  # after the standstill, not at the frame that was meant first
    settled = slice(begun + FADE + 1, begun + 2000)
    np.testing.assert_array_equal(out.sound[settled], clips[0][settled.start - begun : settled.stop - begun])
    later = slice(16000, 19000)
    np.testing.assert_array_equal(out.sound[later], clips[1][later.start - begun : later.stop - begun])


def test_seeking_fades_out_and_starts_all_clips_at_the_wanted_sample(studio: Any) -> None:
    clips = [numbered(0, 2 * RATE), numbered(1, 2 * RATE)]
    at, switch = grid(6000), grid(12000)
    out = Rendered(studio, clips, 1.0, [[0, "play", []], [at, "seek", [1.25]], [switch, "choose", [1]]])
    begun = at + FADE + 1
    np.testing.assert_array_equal(out.sound[begun + FADE : switch], clips[0][30000 + FADE : 30000 + switch - begun])
    settled = slice(switch + 2 * FADE + 1, RATE)
    np.testing.assert_array_equal(out.sound[settled], clips[1][30000 + settled.start - begun : 30000 + settled.stop - begun])


def test_switching_a_loop_off_just_before_its_end_goes_on_past_it(studio: Any) -> None:
    clips = [numbered(0, 2 * RATE)]
    off = grid(12000 - 3000)
    out = Rendered(studio, clips, 1.4, [[0, "setLoop", [True, 0, 0.5]], [0, "play", []], [off, "setLoop", [False, 0, 0.5]]])
    np.testing.assert_array_equal(out.sound[FADE + 1 : 30000], clips[0][FADE + 1 : 30000])


def test_nothing_counts_as_heard_at_volume_zero(studio: Any) -> None:
    out = Rendered(studio, [numbered(0, RATE)], 1.2, [[0, "play", []]], volume=0)
    assert out.heard == [0]
    assert [what for what, _ in out.told] == ["state", "ended", "state"]


def test_a_switch_while_nothing_sounds_is_heard_from_the_first_sample_on(studio: Any) -> None:
    clips = [numbered(track, RATE) for track in range(3)]
    stop, back, go = grid(4000), grid(9000), grid(16000)
    steps = [
        [0, "play", []],
        [stop, "choose", [1]],
        [stop, "pause", [], 150],
        [stop + 5120, "choose", [2]],
        [back, "seek", [0]],
        [go, "play", []],
    ]
    out = Rendered(studio, clips, 1.5, steps)
    assert not out.sound[stop + 5 * FADE : go].any()
    np.testing.assert_array_equal(out.sound[go + FADE + 1 : go + 9000], clips[2][FADE + 1 : 9000])


@pytest.mark.parametrize(("seed", "lead"), [(0, 0), (1, 0), (2, 0), (3, 0.02), (4, 0.02), (5, 0.02)])
def test_any_storm_of_commands_leaves_no_click_and_raises_nothing(studio: Any, seed: int, lead: float) -> None:
    random = np.random.default_rng(seed)
    clips = [np.full(RATE, 0.5), np.full(RATE // 2 * 2, -0.5), np.full(RATE, 0.5)]

    def command(frame: int) -> list[Any]:
        name = str(random.choice(["choose", "choose", "choose", "seek", "pause", "play", "play", "setLoop"]))
        start = float(random.uniform(-0.1, 1.1))
        args: dict[str, list[Any]] = {
            "choose": [int(random.integers(3))],
            "seek": [float(random.uniform(-0.1, 1.1))],
            "setLoop": [bool(random.integers(2)), start, start + float(random.uniform(-0.1, 0.6))],
        }
        return [frame, name, args.get(name, []), int(random.integers(QUANTUM))]

    frames = np.sort(random.integers(1, 6 * RATE // QUANTUM, 250)) * QUANTUM
    # Late commands of one quantum come in order, as the clock of a browser does.
    steps = sorted((command(int(frame)) for frame in frames), key=lambda step: (step[0], step[3]))
    out = Rendered(studio, clips, 6.5, [[0, "play", []], *steps], lead=lead)
    assert largest_step(out.sound) <= 2 * FADED_CONSTANT  # a switch and a pause may fall together
    assert np.abs(out.sound).max() == 0.5
