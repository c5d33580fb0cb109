import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from lab.listening.signals import clipped, edges, loudness, low_pass, peak_dbfs

RATE = 24_000


def sine(hertz=1000.0, seconds=1.0, peak=1.0):
    return (peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_a_full_scale_sine_of_997_hertz_has_minus_three_lufs():
    """ITU-R BS.1770-4: "If a 0 dB FS 1 kHz (997 Hz to be exact) sine wave is applied to the left, centre, or right channel input", -3.01 LKFS."""
    assert loudness(sine(997, 3), RATE) == pytest.approx(-3.01, abs=0.1)  # EBU Tech 3341 allows a meter 0.1 LU


def test_loudness_is_undefined_below_400_milliseconds_and_for_what_is_below_the_gate():
    assert loudness(sine(seconds=0.399), RATE) is None
    assert loudness(sine(seconds=0.4), RATE) is not None
    assert loudness(sine(peak=1e-5), RATE) is None
    assert loudness(np.zeros(RATE, np.float32), RATE) is None


def test_silence_between_words_does_not_count_for_the_loudness():
    talk = sine(seconds=1, peak=0.1)
    with_pause = np.concatenate([talk, np.zeros(4 * RATE, np.float32), talk])
    # two thirds of it are silent, which ungated would be 4.8 dB; the blocks at the edges of the pause still count
    assert loudness(with_pause, RATE) == pytest.approx(loudness(np.concatenate([talk, talk]), RATE), abs=1)


def test_the_peak_of_half_scale_is_minus_six_decibels_and_silence_has_none():
    assert peak_dbfs(np.array([0.1, -0.5], np.float32)) == pytest.approx(-6.02, abs=0.01)
    assert peak_dbfs(np.zeros(5, np.float32)) is None


@pytest.mark.parametrize(
    ("samples", "number"),
    [([1, 1, 1, 0.5], 3), ([1, 1, 0.5, 1, 1], 0), ([0.5, -1, -1.2, 1, 1], 4), ([], 0), ([1.5], 0)],
)
def test_only_runs_of_three_samples_at_full_scale_are_clipping(samples, number):
    assert clipped(np.array(samples, np.float32)) == number


@given(before=st.integers(0, 400), after=st.integers(0, 400), gain=st.floats(-40, 20), seed=st.integers(0, 100))
def test_silence_at_the_edges_is_found_to_the_millisecond_at_any_gain(before, after, gain, seed):
    sound = np.random.default_rng(seed).standard_normal(RATE // 2).astype(np.float32) * 0.1
    clip = np.concatenate([np.zeros(24 * before, np.float32), sound, np.zeros(24 * after, np.float32)]) * np.float32(10 ** (gain / 20))
    found = edges(clip, RATE)
    assert found.leading_ms == pytest.approx(before, abs=1)
    assert found.trailing_ms == pytest.approx(after, abs=1)


def test_a_noise_floor_fifty_decibels_below_the_speech_is_silence_and_one_at_thirty_is_not():
    rng = np.random.default_rng(1)
    speech = np.concatenate([np.zeros(2400), rng.standard_normal(RATE) * 0.1]).astype(np.float32)
    floor = rng.standard_normal(len(speech)).astype(np.float32)
    assert edges(speech + floor * np.float32(0.1 * 10 ** (-50 / 20)), RATE).leading_ms == pytest.approx(100, abs=1)
    assert edges(speech + floor * np.float32(0.1 * 10 ** (-30 / 20)), RATE).leading_ms < 10


def test_digital_silence_has_no_edges_and_a_clip_shorter_than_the_window_has():
    assert edges(np.zeros(RATE, np.float32), RATE) is None
    assert edges(np.ones(10, np.float32), RATE) is not None


@pytest.mark.parametrize("hertz", [3500.0, 7000.0])
def test_the_anchors_filter_keeps_what_bs_1534_3_asks_for(hertz):
    """A pass band within 0.1 dB up to the corner; 25 dB down half a kilohertz, 50 dB down one kilohertz above it."""
    impulse = np.zeros(8192, np.float32)
    impulse[4096] = 1
    frequencies, response = signal.freqz(low_pass(impulse, RATE, hertz), worN=65_536, fs=RATE)
    decibels = 20 * np.log10(np.abs(response) + 1e-12)
    assert np.abs(decibels[frequencies <= hertz]).max() < 0.1
    assert decibels[frequencies >= hertz + 500].max() < -25
    assert decibels[frequencies >= hertz + 1000].max() < -50


def test_an_anchor_is_as_long_as_its_clip_and_not_delayed():
    clip = sine(1000, 0.5)
    made = low_pass(clip, RATE, 3500)
    assert made.shape == clip.shape
    assert made.dtype == np.float32
    middle = slice(2000, -2000)
    np.testing.assert_allclose(made[middle], clip[middle], atol=2e-3)
    assert low_pass(clip[:50], RATE, 3500).shape == (50,)
