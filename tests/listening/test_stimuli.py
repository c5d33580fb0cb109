import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from lab.engine.clip import wav_bytes
from lab.listening.model import Text
from lab.listening.signals import loudness
from lab.listening.stimuli import PEAK_DBFS, TARGET_LUFS, Gate, Source, sample_hash

RATE = 24_000
TEXT = Text(id="rice", text="Rice.")


def speech(seed=1, seconds=1.0, level=0.05, before=0.0, after=0.0):
    """Noise with a silence at both edges, in seconds."""
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32) * np.float32(level)
    samples[: round(before * RATE)] = 0
    samples[len(samples) - round(after * RATE) :] = 0
    return samples


def source(samples, config="ref", role="system", seed=1, rate=RATE):
    return Source(config, role, seed, np.asarray(samples, np.float32), rate)


def gated(*clips, **settings):
    gate = Gate(**settings)
    gate.take(TEXT, clips)
    return gate.finish()


def heard(result, stimulus):
    return wavfile.read(io.BytesIO(result.wavs[stimulus.sha256]))[1]


def test_a_clean_pair_passes_and_every_check_says_so():
    result = gated(source(speech(1)), source(speech(1) + 0.005 * speech(2), "other"))
    assert {row["state"] for row in result.report.document()["checks"]} == {"ok"}
    (pair,) = result.pairs
    assert (pair.config, pair.state, pair.pair_class, pair.asked) == ("other", "ok", "rounding", True)


@settings(max_examples=30)
@given(levels=st.lists(st.floats(0.002, 0.9), min_size=2, max_size=5))
def test_all_clips_of_a_text_come_out_at_one_loudness_and_no_peak_above_the_limit(levels):
    clips = [source(speech(seed, level=level), f"c{seed}") for seed, level in enumerate(levels)]
    result = gated(*clips, anchors=("anchor 3.5 kHz", "anchor 7 kHz"))
    measured = [loudness(heard(result, stimulus), RATE) for stimulus in result.stimuli]
    assert len(measured) == len(levels) + 2
    assert max(measured) - min(measured) < 0.01
    assert max(measured) <= TARGET_LUFS + 0.001
    for stimulus in result.stimuli:
        assert 20 * np.log10(np.abs(heard(result, stimulus)).max()) <= PEAK_DBFS + 1e-4
        assert stimulus.peak_dbfs <= PEAK_DBFS + 1e-3


def test_the_bytes_that_are_heard_are_the_source_times_the_recorded_gain():
    samples = speech(1)
    (stimulus,) = gated(source(samples)).stimuli
    assert stimulus.sha256 in gated(source(samples)).wavs
    assert stimulus.source_sha256 == sample_hash(samples)
    np.testing.assert_array_equal(heard(gated(source(samples)), stimulus), samples * np.float32(10 ** (stimulus.gain_db / 20)))
    assert stimulus.lufs == pytest.approx(TARGET_LUFS - stimulus.gain_db, abs=0.001)


def test_the_target_is_lowered_for_all_clips_of_a_text_when_one_peak_would_come_too_high():
    spiky = speech(1)
    spiky[12_000] = 2.0
    result = gated(source(speech(1)), source(spiky, "spiky"))
    measured = [loudness(heard(result, stimulus), RATE) for stimulus in result.stimuli]
    assert measured[0] == pytest.approx(measured[1], abs=0.001)
    assert measured[0] < TARGET_LUFS - 1
    (finding,) = [finding for finding in result.report.findings if finding.check == "peak"]
    assert "instead of -23" in finding.words


def test_equal_samples_get_equal_gains_and_equal_bytes_and_are_no_question():
    result = gated(source(speech(1)), source(speech(1).copy(), "same"), source(speech(2), "other"))
    first, same, other = result.stimuli
    assert (first.sha256, first.gain_db, first.source_sha256) == (same.sha256, same.gain_db, same.source_sha256)
    assert other.sha256 != first.sha256
    assert [pair.pair_class for pair in result.pairs] == ["identical", "perceptual"]
    assert result.pairs[0].null_db is None
    assert "the same samples" in result.pairs[0].words


def test_a_clip_that_differs_in_level_alone_has_nothing_to_hear_once_the_level_is_matched_and_that_is_said():
    result = gated(source(speech(1)), source(speech(1) * np.float32(0.7), "soft"))
    (pair,) = result.pairs
    assert "3.1 dB softer than the reference" in pair.words
    assert pair.state == "noted"
    assert pair.gain_difference_db == pytest.approx(3.098, abs=0.001)
    assert pair.pair_class == "rounding"
    assert pair.null_db == pytest.approx(20 * np.log10(0.05 * 0.3), abs=0.1)
    assert pair.heard_null_db < -101
    assert "less than the rounding of 16-bit audio" in pair.words
    difference = heard(result, result.stimuli[0]) - heard(result, result.stimuli[1])
    assert np.abs(difference).max() < 1e-5


def test_a_clip_of_half_the_level_comes_out_as_the_same_bytes_and_is_no_question():
    result = gated(source(speech(1)), source(speech(1) * np.float32(0.5), "half"))
    (pair,) = result.pairs
    assert pair.identical
    assert "the same samples once the level is matched" in pair.words
    assert len(result.wavs) == 1


def test_the_null_level_is_that_of_the_difference_as_rendered():
    rng = np.random.default_rng(3)
    samples = speech(1)
    residual = (rng.standard_normal(len(samples)) * 1e-4).astype(np.float32)
    (pair,) = gated(source(samples), source(samples + residual, "fp16")).pairs
    assert pair.null_db == pytest.approx(-80, abs=0.1)
    assert pair.null_relative_db == pytest.approx(-80 + 26.0, abs=0.1)
    assert pair.pair_class == "rounding"


@pytest.mark.parametrize(("milliseconds", "state"), [(15, "ok"), (40, "left out")])
def test_a_pair_whose_silences_differ_by_more_than_20_ms_is_left_out(milliseconds, state):
    result = gated(source(speech(1)), source(speech(1, before=milliseconds / 1000), "late"))
    (pair,) = result.pairs
    assert pair.state == state
    assert pair.asked == (state == "ok")
    assert pair.leading_ms == pytest.approx(milliseconds, abs=1)
    assert len(result.stimuli) == 2


def test_a_wider_limit_keeps_the_pair_and_a_rating_of_single_clips_notes_it():
    late = source(speech(1, after=0.04), "late")
    assert gated(source(speech(1)), late, silence_ms=50).pairs[0].state == "ok"
    (pair,) = gated(source(speech(1)), late, switched=False).pairs
    assert pair.state == "noted"
    assert "after; the limit is 20 ms" in pair.words


def test_the_pace_of_another_seed_is_noted_because_it_belongs_to_the_yardstick():
    (pair,) = gated(source(speech(1)), source(speech(2, before=0.1), role="other seed", seed=2)).pairs
    assert (pair.role, pair.state, pair.asked) == ("other seed", "noted", True)


@pytest.mark.parametrize(
    ("samples", "rate", "check", "words"),
    [
        (speech(2) * np.float32("nan"), RATE, "finite", "not numbers"),
        (speech(2) * np.float32(1e-6), RATE, "sound", "silent"),
        (np.zeros(RATE), RATE, "sound", "silent"),
        (speech(2)[:-1], RATE, "length and rate", "23,999 samples"),
        (speech(2), 48_000, "length and rate", "48,000 Hz"),
    ],
)
def test_a_clip_that_cannot_be_heard_is_left_out_with_its_reason_and_the_others_stay(samples, rate, check, words):
    result = gated(source(speech(1)), source(samples, "broken", rate=rate), source(speech(3), "fine"))
    assert [stimulus.config for stimulus in result.stimuli] == ["ref", "fine"]
    (finding,) = [finding for finding in result.report.findings if finding.state == "left out"]
    assert (finding.check, finding.config) == (check, "broken")
    assert words in finding.words


def test_a_broken_reference_takes_its_text_along_and_no_other():
    gate = Gate()
    gate.take(TEXT, [source(np.zeros(RATE)), source(speech(1), "other")])
    gate.take(Text(id="two", text="Two."), [source(speech(1)), source(speech(2), "other")])
    result = gate.finish()
    assert {stimulus.text for stimulus in result.stimuli} == {1}
    assert {finding.text for finding in result.report.findings} == {"rice"}


def test_loudness_that_is_undefined_is_unavailable_and_leaves_the_levels_as_they_are():
    short = [source(speech(seed, seconds=0.3), f"c{seed}") for seed in (1, 2)]
    result = gated(*short)
    assert [stimulus.gain_db for stimulus in result.stimuli] == [0, 0]
    assert [stimulus.lufs for stimulus in result.stimuli] == [None, None]
    (finding,) = result.report.findings
    assert (finding.check, finding.state) == ("loudness", "unavailable")
    assert "undefined below 0.4 s" in finding.words


def test_a_short_clip_that_would_clip_takes_all_clips_of_its_text_down():
    loud = speech(1, seconds=0.3)
    loud[100] = 1.5
    result = gated(source(loud), source(speech(2, seconds=0.3), "other"))
    first, second = (stimulus.gain_db for stimulus in result.stimuli)
    assert first == second == pytest.approx(-1 - 20 * np.log10(1.5), abs=0.001)
    assert np.abs(heard(result, result.stimuli[0])).max() <= 10 ** (PEAK_DBFS / 20)


def test_clipping_of_the_source_is_noted():
    hot = speech(1)
    hot[100:110] = 1
    result = gated(source(speech(1)), source(hot, "hot"))
    (finding,) = [finding for finding in result.report.findings if finding.check == "clipping"]
    assert (finding.config, finding.state) == ("hot", "noted")
    assert "10 samples" in finding.words


def test_anchors_are_made_of_the_reference_and_stand_in_no_pair():
    result = gated(source(speech(1)), source(speech(2), "other"), anchors=("anchor 3.5 kHz", "anchor 7 kHz"))
    assert [stimulus.role for stimulus in result.stimuli] == ["system", "system", "anchor 3.5 kHz", "anchor 7 kHz"]
    assert {stimulus.config for stimulus in result.stimuli[2:]} == {"ref"}
    assert len(result.pairs) == 1
    for stimulus, corner in zip(result.stimuli[2:], (3500, 7000), strict=True):
        spectrum = np.abs(np.fft.rfft(heard(result, stimulus))) ** 2
        above = np.fft.rfftfreq(RATE, 1 / RATE) > corner + 500
        assert spectrum[above].sum() < 1e-4 * spectrum.sum()  # the edges of a clip are cut hard


def test_the_report_is_json_and_says_everything():
    result = gated(source(speech(1)), source(speech(2, before=0.1), "late"), anchors=("anchor 3.5 kHz",))
    document = json.loads(json.dumps(result.report.document(), allow_nan=False))
    assert document["pairs"][0]["class"] == "perceptual"
    assert document["pairs"][0]["text"] == "rice"
    assert document["limits"] == {"target_lufs": -23.0, "peak_dbfs": -1.0, "silence_ms": 20.0}
    rows = {row["check"]: row for row in document["checks"]}
    (silences,) = [row for check, row in rows.items() if "silences" in check]
    assert silences["state"] == "left out"
    assert silences["words"].startswith("rice, late: silence differs by +100 ms")


def test_what_is_heard_is_a_float_wav_of_one_rate():
    samples = speech(1)
    result = gated(source(samples))
    (stimulus,) = result.stimuli
    rate, read = wavfile.read(io.BytesIO(result.wavs[stimulus.sha256]))
    assert (rate, read.dtype, len(read)) == (RATE, np.float32, len(samples))
    assert result.wavs[stimulus.sha256] == wav_bytes(read, RATE)
