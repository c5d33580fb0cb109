"""Objective distances between two clips of one length and one rate: numbers to show beside a listening test, never instead of one.

Waveform distances (null level, SI-SDR) see every sample and so every shift of phase; the spectral ones (log-spectral distance,
mel L1) do not see phase at all. Show both, and beside them the two yardsticks: the baseline against itself, and against another
seed.

All spectra here are made the way F5-TTS makes its own: a periodic Hann window of 1,024 samples, a hop of 256, frames centred on
their sample (n // 256 + 1 of them; the edges are padded with zeros, where torch mirrors the signal). 0 dB is a full-scale sine.

This module knows nothing about configurations, verdicts or plots, and needs numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lab.audio import HOP
from lab.errors import LabError

N_FFT = 1024
N_MELS = 100
#: What `log_mel` shows for silence, in dB below a full-scale sine.
MEL_FLOOR_DB = -80.0
#: Where the log-spectral distance stops looking, per frequency bin; the rounding noise of 16-bit audio, at about -123 dB, is not seen.
LSD_FLOOR_DB = -100.0
_PEAK_DB, _MAX_GAIN_DB = -12.0, 60.0
_BLOCK = 1024  # frames per FFT call: a two-minute clip needs some 20 MB at a time instead of 200

Samples = NDArray[np.float32]


class MetricError(LabError):
    """Clips that cannot be measured: no samples, not one channel, not numbers, or not the same length."""


@dataclass(frozen=True)
class Difference:
    """How far clip b is from clip a. Levels are RMS in dBFS: 0 dBFS is an RMS of 1.0, so a full-scale sine has -3.01 dBFS.

    A value that does not exist is None, never infinite (so that the record stays valid JSON).

    Attributes:
        identical: Every sample has the same value.
        max_abs: Largest absolute difference of two samples, 1.0 being full scale.
        null_db: Level of a - b in dBFS (the null test). None when identical.
        null_relative_db: Level of a - b relative to the level of a. None when identical or when a is silent.
        level_db: Level of b minus level of a. None when either is silent.
        si_sdr_db: Scale-invariant signal-to-distortion ratio of b with a as the reference: with s = (<a, b> / <a, a>) a it is
            10 log10(|s|² / |b - s|²); the mean is not removed. None when identical, when b is an exact multiple of a (no
            distortion), and when a or b is silent or b has nothing of a (no signal). Source: Le Roux et al., "SDR - half-baked or
            well done?", ICASSP 2019.
        lsd_db: `log_spectral_distance` in dB, 0 when the spectra are equal.
        mel_l1: Mean absolute difference of the two `log_mel` spectrograms, in dB.
    """

    identical: bool
    max_abs: float
    null_db: float | None
    null_relative_db: float | None
    level_db: float | None
    si_sdr_db: float | None
    lsd_db: float
    mel_l1: float


class DifferenceSignal(NamedTuple):
    """`samples` (n,) float32: a - b times the gain, to be played; `gain_db`: that gain in dB (say it where the signal is offered)."""

    samples: Samples
    gain_db: float


def as_clip(samples: ArrayLike, name: str = "The clip") -> Samples:
    """`samples` as float32 (n,), n > 0; anything else raises `MetricError` with `name` in its text."""
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite and is refused below
        clip = np.asarray(samples, dtype=np.float32)
    if clip.ndim != 1:
        raise MetricError(f"{name} has {clip.ndim} dimensions instead of 1. Mix it down to one channel first.")
    if not clip.size:
        raise MetricError(f"{name} is empty. Render it again.")
    if bad := int(np.count_nonzero(~np.isfinite(clip))):
        raise MetricError(
            f"{name} holds {bad:,} of {clip.size:,} samples that are not numbers (NaN or infinite). The engine that rendered it "
            "overflowed: try a wider dtype."
        )
    return clip


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Samples, Samples]:
    first, second = as_clip(a, "The first clip"), as_clip(b, "The second clip")
    if first.size != second.size:
        raise MetricError(
            f"The clips have {first.size:,} and {second.size:,} samples; only clips of one length can be compared sample by sample. "
            "Render both from the same text, voice and speed."
        )
    return first, second


def _decibels(ratio: float) -> float | None:
    """`ratio` of two amplitudes in dB; None for 0, infinity and 0/0."""
    return 20 * math.log10(ratio) if 0 < ratio < math.inf else None


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def _rms(samples: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def difference(a: ArrayLike, b: ArrayLike, rate: int) -> Difference:
    """All distances between the clips `a` and `b`, both (n,) in float32 at `rate` samples per second; `a` is the reference.

    Raises `MetricError` when the lengths differ or a sample is not finite.
    """
    a32, b32 = _pair(a, b)
    identical = bool(np.array_equal(a32, b32))  # by value: 0.0 equals -0.0
    # In double precision, because the interesting nulls lie at the last bit of float32.
    a64, b64 = a32.astype(np.float64), b32.astype(np.float64)
    residual = a64 - b64
    level_a, level_b, null = _rms(a64), _rms(b64), _rms(residual)
    return Difference(
        identical=identical,
        max_abs=float(np.max(np.abs(residual))),
        null_db=_decibels(null),
        null_relative_db=_decibels(_ratio(null, level_a)),
        level_db=_decibels(_ratio(level_b, level_a)),
        si_sdr_db=None if identical else _si_sdr(a64, b64),
        lsd_db=log_spectral_distance(a32, b32),
        mel_l1=float(np.mean(np.abs(log_mel(a32, rate) - log_mel(b32, rate)))),
    )


def _si_sdr(reference: NDArray[np.float64], estimate: NDArray[np.float64]) -> float | None:
    energy = float(reference @ reference)
    if not energy:
        return None
    target = (float(estimate @ reference) / energy) * reference
    return _decibels(_ratio(_rms(target), _rms(estimate - target)))


def difference_signal(a: ArrayLike, b: ArrayLike) -> DifferenceSignal | None:
    """What is left of the clips `a` and `b` (n,) when one is subtracted from the other, made audible; None when they are identical.

    The gain brings the peak of a - b to -12 dBFS, but raises it by 60 dB at most; a large difference is turned down. Raises
    `MetricError` as `difference` does.
    """
    first, second = _pair(a, b)
    residual = first.astype(np.float64) - second
    peak = float(np.max(np.abs(residual)))
    if not peak:
        return None
    gain_db = min(_PEAK_DB - 20 * math.log10(peak), _MAX_GAIN_DB)
    return DifferenceSignal((residual * 10 ** (gain_db / 20)).astype(np.float32), gain_db)


def _window() -> Samples:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


def _power_blocks(samples: Samples) -> Iterator[NDArray[np.float32]]:
    """|STFT|² of (n,) in blocks of (frames, 513), n // 256 + 1 frames in all; 1 is a full-scale sine at a bin's centre."""
    padded = np.pad(samples, N_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    window = _window()
    window *= 2 / window.sum()
    for start in range(0, len(frames), _BLOCK):
        yield np.square(np.abs(np.fft.rfft(frames[start : start + _BLOCK] * window))).astype(np.float32)


def log_spectral_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Log-spectral distance of two clips (n,) in dB: the mean over frames of the RMS over bins of the difference of the log power spectra.

    With L(t, k) = max(10 log10 |X(t, k)|², -100 dB) over the 513 bins from 0 to half the rate (0 dB: a full-scale sine at the bin's
    centre) it is mean_t sqrt(mean_k (L_a(t, k) - L_b(t, k))²). A bin where both clips are below -100 dB counts 0, so digital
    silence is safe; against speech, silence gives a large but finite value. Source: Rabiner & Juang, "Fundamentals of Speech
    Recognition", 1993, section 4.5, after Gray & Markel, "Distance measures for speech processing", IEEE Trans. ASSP 24(5), 1976;
    the floor is ours. Raises `MetricError` as `difference` does.
    """
    first, second = _pair(a, b)
    total, frames = 0.0, 0
    for power_a, power_b in zip(_power_blocks(first), _power_blocks(second), strict=True):
        distance = _log_power(power_a, LSD_FLOOR_DB) - _log_power(power_b, LSD_FLOOR_DB)
        total += float(np.sum(np.sqrt(np.mean(np.square(distance, dtype=np.float64), axis=1))))
        frames += len(distance)
    return total / frames


def _log_power(power: NDArray[np.float32], floor_db: float) -> NDArray[np.float32]:
    decibels: NDArray[np.float32] = 10 * np.log10(np.maximum(power, np.float32(1e-20)))
    return np.maximum(decibels, np.float32(floor_db))


def mel_frequencies(rate: int) -> NDArray[np.float64]:
    """Corners of the mel bands in Hz, (102,): band m rises from corner m, peaks at m + 1 and ends at m + 2 (HTK scale, 0 to rate / 2)."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    return np.asarray(700 * (10 ** (np.linspace(0, top, N_MELS + 2) / 2595) - 1), dtype=np.float64)


@lru_cache(maxsize=4)
def _mel_weights(rate: int) -> NDArray[np.float32]:
    """Triangles (100, 513) of peak 1, as torchaudio's MelSpectrogram (and so F5-TTS) has them: HTK scale, no normalisation."""
    corners = mel_frequencies(rate)
    bins = np.linspace(0, rate / 2, N_FFT // 2 + 1)
    width = np.diff(corners)
    slopes = corners[:, None] - bins[None, :]
    rising, falling = -slopes[:-2] / width[:-1, None], slopes[2:] / width[1:, None]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(samples: ArrayLike, rate: int) -> NDArray[np.float32]:
    """Log-mel spectrogram of a clip (n,) at `rate` Hz: (100, n // 256 + 1) float32 in dB, between -80 and about 0.

    The reference is fixed, not the clip's own maximum, so two clips can be compared: 0 dB is the power of a full-scale sine, summed
    over the bands it falls into. (F5-TTS itself uses amplitude instead of power, and the natural logarithm.) Raises `MetricError`
    for a clip that is empty or not finite.
    """
    clip = as_clip(samples)
    weights = _mel_weights(rate)
    # A Hann window spreads a sine over three bins, 1/4 + 1 + 1/4 of its peak's power: 1.5.
    bands = [weights @ (power.T / np.float32(1.5)) for power in _power_blocks(clip)]
    return _log_power(np.concatenate(bands, axis=1), MEL_FLOOR_DB).astype(np.float32)
