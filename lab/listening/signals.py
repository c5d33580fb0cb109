"""What a clip is as a signal: its loudness, its peak, the silence at its edges, how often it clips; and the low-pass that makes anchors.

Knows nothing about studies. Clips are mono, (n,) float32, full scale = 1.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import pyloudnorm
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float32]

SHORTEST_LOUDNESS = 0.4  # seconds: one gating block of BS.1770-4; of less the integrated loudness is undefined
_WINDOW_MS = 10.0  # of the silence detector: a few periods of a low voice
_BELOW_LOUDEST_DB = 40.0
_RUN = 3  # samples at full scale in a row: two can be chance, three are a flat top
_TRANSITION_HZ = 500.0
_STOP_DB = 66.0


@dataclass(frozen=True)
class Edges:
    """Silence before the first and after the last sound of a clip, in milliseconds."""

    leading_ms: float
    trailing_ms: float


def loudness(samples: Samples, rate: int) -> float | None:
    """Integrated loudness in LUFS (ITU-R BS.1770-4, gated); None below 0.4 s, where it is undefined, and where nothing is above its gate of -70 LUFS."""
    if len(samples) < SHORTEST_LOUDNESS * rate:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        measured = float(pyloudnorm.Meter(rate).integrated_loudness(samples.astype(np.float64)))
    return measured if math.isfinite(measured) else None


def peak_dbfs(samples: Samples) -> float | None:
    """Largest absolute sample in dB below full scale; None for digital silence."""
    peak = float(np.max(np.abs(samples), initial=0.0))
    return 20 * math.log10(peak) if peak else None


def clipped(samples: Samples) -> int:
    """Samples that stand at full scale or above it in runs of three or more."""
    full = np.concatenate(([0], (np.abs(samples) >= 1.0).astype(np.int8), [0]))
    steps = np.flatnonzero(np.diff(full))
    runs = steps[1::2] - steps[::2]
    return int(runs[runs >= _RUN].sum())


def edges(samples: Samples, rate: int) -> Edges | None:
    """Silence at the edges: up to where the level of a window of 10 ms first, and from where it last, comes within 40 dB of the clip's loudest window.

    A threshold relative to the clip finds the same place whatever its gain. With the demo voice the loudest window has some -12 dBFS, weak onsets and the
    end of a breath lie 20 to 40 dB below it, and what the vocoder makes of silence 80 dB below it. The windows overlap, so the answer is to the sample.
    None for digital silence.
    """
    width = max(1, round(_WINDOW_MS / 1000 * rate))
    padded = np.pad(np.square(samples, dtype=np.float64), width - 1)
    total = np.concatenate(([0.0], np.cumsum(padded)))
    power = total[width:] - total[:-width]  # of the window that ends with sample 0, 1, …
    loudest = float(power.max(initial=0.0))
    if not loudest:
        return None
    sounding = np.flatnonzero(power >= loudest * 10 ** (-_BELOW_LOUDEST_DB / 10))
    first, last = int(sounding[0]), int(sounding[-1]) - (width - 1)  # the last window that sounds does so by its first sample
    return Edges(1000 * first / rate, 1000 * (len(samples) - 1 - last) / rate)


def low_pass(samples: Samples, rate: int, hertz: float) -> Samples:
    """`samples` without what is above `hertz`: (n,), as long as before and not delayed.

    A linear-phase FIR (Kaiser window), flat to 0.01 dB up to `hertz`, 65 dB down from `hertz` + 500 Hz on. ITU-R BS.1534-3 asks of the 3.5 kHz anchor
    a ripple of at most 0.1 dB, 25 dB at 4 kHz and 50 dB at 4.5 kHz. Raises `ValueError` where the rate is too low for such a filter.
    """
    taps = _taps(rate, hertz)
    return np.asarray(signal.oaconvolve(samples.astype(np.float64), taps, mode="full")[len(taps) // 2 :][: len(samples)], dtype=np.float32)


@functools.lru_cache(maxsize=4)
def _taps(rate: int, hertz: float) -> NDArray[np.float64]:
    count, beta = signal.kaiserord(_STOP_DB, _TRANSITION_HZ / (rate / 2))
    odd = count | 1  # its delay is a whole number of samples
    return np.asarray(signal.firwin(odd, hertz + _TRANSITION_HZ / 2, window=("kaiser", beta), fs=rate), dtype=np.float64)
