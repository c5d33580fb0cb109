import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lab.metrics import (
    MetricError,
    _mel_weights,
    difference,
    difference_signal,
    log_mel,
    log_spectral_distance,
    mel_frequencies,
)

RATE = 24_000


def sine(hertz: float, amplitude: float = 1.0, seconds: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def noise(seed: int, n: int = 12_000, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


# --- differences of waveforms


def test_identical_clips_have_no_null_level_and_no_distance():
    found = difference(noise(1), noise(1), RATE)
    assert found.identical
    assert (found.max_abs, found.lsd_db, found.mel_l1, found.level_db) == (0, 0, 0, 0)
    assert found.null_db is found.null_relative_db is found.si_sdr_db is None


def test_four_samples_worked_out_by_hand():
    # a - b = (0, 0, 0.1, -0.1): RMS sqrt(0.02 / 4) = 0.0707, -23.01 dBFS; a and b both have RMS 0.5 and sqrt(1.02 / 4).
    found = difference(np.array([0.5, -0.5, 0.5, -0.5]), np.array([0.5, -0.5, 0.4, -0.4]), RATE)
    assert not found.identical
    assert found.max_abs == pytest.approx(0.1)
    assert found.null_db == pytest.approx(-23.0103, abs=1e-4)
    assert found.null_relative_db == pytest.approx(-23.0103 + 6.0206, abs=1e-4)
    assert found.level_db == pytest.approx(10 * math.log10((2 * 0.25 + 2 * 0.16) / 1.0), abs=1e-4)
    # <a, b> / <a, a> = 0.9, s = 0.9 a, |s|² = 0.81; b - s = (0.05, -0.05, -0.05, 0.05), |b - s|² = 0.01.
    assert found.si_sdr_db == pytest.approx(10 * math.log10(81), abs=1e-4)


def test_the_null_level_of_a_full_scale_sine_against_silence_is_minus_three_dbfs():
    found = difference(np.zeros(12_000), sine(1000), RATE)
    assert found.null_db == pytest.approx(-3.0103, abs=1e-3)
    assert found.null_relative_db is found.level_db is found.si_sdr_db is None


def test_halving_a_clip_is_minus_six_decibels_of_level_and_no_distortion():
    clip = noise(2)
    found = difference(clip, clip / 2, RATE)
    assert found.level_db == pytest.approx(-6.0206, abs=1e-4)
    assert found.null_relative_db == pytest.approx(-6.0206, abs=1e-4)
    assert found.si_sdr_db is None
    assert found.lsd_db == pytest.approx(6.0206, abs=0.02)
    assert found.mel_l1 == pytest.approx(6.0206, abs=0.02)


def test_noise_of_a_known_level_gives_a_known_signal_to_distortion_ratio():
    # Orthogonal by construction: 0.1 against 0.01 is 20 dB, whatever the scale of the estimate.
    signal = np.tile(np.array([0.1, 0.1, -0.1, -0.1], np.float32), 1000)
    disturbance = np.tile(np.array([0.01, -0.01, 0.01, -0.01], np.float32), 1000)
    for scale in (1.0, 0.25, -1.0):
        found = difference(signal, scale * (signal + disturbance), RATE)
        assert found.si_sdr_db == pytest.approx(20, abs=1e-3)


def test_a_clip_that_has_nothing_of_the_reference_has_no_signal_to_distortion_ratio():
    assert difference(np.array([1.0, 0.0]), np.array([0.0, 1.0]), RATE).si_sdr_db is None


def test_one_last_bit_is_measured_and_not_taken_for_identity():
    clip = np.full(1000, 0.5, np.float32)
    other = clip.copy()
    other[7] = np.nextafter(np.float32(0.5), np.float32(1))
    found = difference(clip, other, RATE)
    assert not found.identical
    assert found.max_abs == 2**-24
    assert found.null_db == pytest.approx(20 * math.log10(2**-24 / math.sqrt(1000)))


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.zeros(3), np.zeros(4), "3 and 4 samples"),
        (np.zeros(3), np.array([0, np.nan, np.inf]), "The second clip holds 2 of 3 samples that are not numbers"),
        (np.array([1e300]), np.zeros(1), "The first clip holds 1 of 1"),
        (np.zeros((2, 3)), np.zeros((2, 3)), "one channel"),
        (np.zeros(0), np.zeros(0), "empty"),
    ],
)
def test_clips_that_cannot_be_compared_are_refused_with_the_reason(a, b, words):
    for compare in (lambda: difference(a, b, RATE), lambda: difference_signal(a, b), lambda: log_spectral_distance(a, b)):
        with pytest.raises(MetricError, match=words):
            compare()


CLIPS = st.integers(1, 3000).flatmap(
    lambda n: st.tuples(*[arrays(np.float32, n, elements=st.floats(-4, 4, width=32), fill=st.just(0.0))] * 2)
)


@given(CLIPS)
@settings(max_examples=40, deadline=None)
def test_distances_are_finite_json_and_symmetric_where_they_should_be(clips):
    there, back = difference(*clips, RATE), difference(*reversed(clips), RATE)
    json.dumps(asdict(there), allow_nan=False)
    assert there.identical == (there.max_abs == 0) == (there.null_db is None)
    assert there.max_abs == back.max_abs >= 0
    assert there.null_db == back.null_db
    assert there.lsd_db == pytest.approx(back.lsd_db)
    assert there.mel_l1 == pytest.approx(back.mel_l1)
    if there.level_db is not None:
        assert there.level_db == pytest.approx(-back.level_db)


# --- the difference, made audible


def test_identical_clips_have_no_difference_signal():
    assert difference_signal(noise(3), noise(3)) is None


@pytest.mark.parametrize(("peak", "gain_db", "loud"), [(0.01, 28, True), (1.0, -12, True), (1e-6, 60, False)])
def test_the_difference_signal_peaks_at_minus_twelve_decibels_or_gets_sixty(peak, gain_db, loud):
    a = np.array([0.0, peak, 0.0, -peak / 2], np.float32)
    signal = difference_signal(a, np.zeros(4))
    assert signal is not None
    assert signal.gain_db == pytest.approx(gain_db, abs=1e-4)
    assert signal.samples.dtype == np.float32
    assert np.max(np.abs(signal.samples)) == pytest.approx(10 ** (-12 / 20) if loud else 1e-3, rel=1e-5)
    np.testing.assert_allclose(signal.samples, a * 10 ** (signal.gain_db / 20), rtol=1e-5)


@given(CLIPS)
@settings(max_examples=40, deadline=None)
def test_a_difference_signal_never_clips_nor_gains_more_than_sixty_decibels(clips):
    signal = difference_signal(*clips)
    assert (signal is None) == difference(*clips, RATE).identical
    if signal is not None:
        assert np.max(np.abs(signal.samples)) <= 10 ** (-12 / 20) * (1 + 1e-6)
        assert signal.gain_db <= 60


# --- spectra


def test_log_spectral_distance_of_an_impulse_and_its_scaled_copy_by_hand():
    # One frame, whose only sample sits in the window's middle: a flat spectrum. 1.0 gives 2/512 everywhere, 0.1 is 20 dB below.
    assert log_spectral_distance(np.array([1.0]), np.array([0.1])) == pytest.approx(20, abs=1e-4)
    # -48.165 dB against the floor of -100 dB.
    assert log_spectral_distance(np.array([1.0]), np.array([0.0])) == pytest.approx(100 + 20 * math.log10(2 / 512), abs=1e-4)


def test_log_spectral_distance_averages_over_frames():
    # Two frames, 256 samples apart: both see the impulse (in the window's middle, and a quarter before it), 20 dB each.
    clip = np.zeros(256, np.float32)
    clip[0] = 1
    assert len(log_mel(clip, RATE)[0]) == 2
    assert log_spectral_distance(clip, clip / 10) == pytest.approx(20, abs=1e-4)
    # Four windows away nobody sees it: those frames count 0.
    long = np.zeros(256 * 9, np.float32)
    long[256 * 4] = 1
    seen = 3  # at -256, 0, +256; at ±512 the Hann window is 0
    assert log_spectral_distance(long, long / 10) == pytest.approx(20 * seen / 10, abs=1e-3)


def test_digital_silence_is_safe():
    found = difference(np.zeros(5000), np.zeros(5000), RATE)
    assert found.identical
    assert found.lsd_db == found.mel_l1 == 0
    assert 0 < log_spectral_distance(np.zeros(5000), noise(4, 5000)) < 100
    assert np.all(log_mel(np.zeros(5000), RATE) == -80)


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1024, 24_000])
def test_a_clip_has_one_mel_frame_per_hop_and_one_more(n):
    spectrogram = log_mel(noise(5, n), RATE)
    assert spectrogram.shape == (100, n // 256 + 1)
    assert spectrogram.dtype == np.float32


def test_a_full_scale_sine_has_zero_decibels_summed_over_its_bands():
    for hertz in (984.375, 3000.0, 7001.0):
        frame = log_mel(sine(hertz), RATE)[:, 20].astype(np.float64)
        assert 10 * math.log10(np.sum(10 ** (frame[frame > -60] / 10))) == pytest.approx(0, abs=0.1)
        corners = mel_frequencies(RATE)
        band = int(np.argmax(frame))
        assert corners[band] < hertz < corners[band + 2]


def test_two_clips_share_one_reference_level():
    loud, quiet = log_mel(sine(3000), RATE), log_mel(sine(3000, 0.1), RATE)
    assert loud.max() - quiet.max() == pytest.approx(20, abs=0.01)


def test_mel_bands_are_triangles_on_the_htk_scale():
    # Written out once more, bin by bin. (Equal to librosa 0.11 with htk=True, norm=None; its import takes too long for a test.)
    assert mel_frequencies(RATE)[[0, -1]] == pytest.approx([0, 12_000])
    mels = [2595 * math.log10(1 + f / 700) for f in mel_frequencies(RATE)]
    assert np.diff(mels) == pytest.approx(2595 * math.log10(1 + 12_000 / 700) / 101)
    weights, corners = _mel_weights(RATE), mel_frequencies(RATE)
    for band in (0, 1, 50, 99):
        low, centre, high = corners[band : band + 3]
        for bin_ in range(513):
            f = bin_ * RATE / 1024
            expected = max(0.0, (f - low) / (centre - low) if f <= centre else (high - f) / (high - centre))
            assert weights[band, bin_] == pytest.approx(expected, abs=1e-5)
    assert np.all(weights.sum(axis=1) > 0)


def test_the_spectrum_is_that_of_a_plain_fourier_transform_of_each_windowed_frame():
    clip = noise(6, 2000)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    padded = np.concatenate([np.zeros(512), clip, np.zeros(512)])
    for frame in (0, 3, 7):
        spectrum = np.fft.rfft(padded[256 * frame : 256 * frame + 1024] * window)
        power = np.abs(spectrum * 2 / 512) ** 2
        expected = 10 * np.log10(np.maximum(_mel_weights(RATE) @ power / 1.5, 1e-8))
        np.testing.assert_allclose(log_mel(clip, RATE)[:, frame], expected, atol=1e-3)


def test_a_long_clip_is_transformed_in_blocks_without_a_seam():
    clip = noise(7, 256 * 1100)
    whole, part = log_mel(clip, RATE), log_mel(clip[256 * 1000 :], RATE)
    np.testing.assert_allclose(whole[:, 1010:1090], part[:, 10:90], atol=1e-3)
