"""How a clip of the model compares with the synthesizer's own: whose voice it is, and whether it is silent where that is silent.

The two speak at different paces, so their mel spectrograms are aligned by dynamic time warping first (librosa).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.audio import HOP, SAMPLE_RATE
from lab.metrics import log_mel

#: Below the loudest frames, where a frame of the synthesizer counts as silent, and where one of the model does too.
SILENT_DB, QUIET_DB = -45.0, -30.0
_FRAME = 2 * HOP
_EDGE = 3  # frames on both sides
_BAND = 0.25  # of the length, how far the alignment may leave the diagonal
_AFTER = 0.1  # seconds after the last word; what is heard later is no speech

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Likeness:
    """One clip against the synthesizers' clips of the same text.

    Attributes:
        own, other: Mean distance of aligned log-mel frames from the right voice's clip and from another's, in dB.
        silent: Frames of the clip that belong to the pauses of the right voice's synthesizer, each counted once.
        quiet: Those of them in which the clip is quiet, too.
        after_db: Level of what follows the last word, below the speech; None where nothing follows.
    """

    own: float
    other: float
    silent: int
    quiet: int
    after_db: float | None


def levels(samples: Samples) -> NDArray[np.float64]:
    """Level of each mel frame's samples below the loud ones (their 95th percentile), in dB; (n // 256 + 1,)."""
    padded = np.pad(samples.astype(np.float64), _FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::HOP]
    power = np.mean(np.square(frames), axis=1) + 1e-12
    decibels = 10 * np.log10(power)
    return np.asarray(decibels - np.percentile(decibels, 95), np.float64)[: len(samples) // HOP + 1]


def _aligned(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pairs of frames (n, 2) along the cheapest path."""
    import librosa

    _, path = librosa.sequence.dtw(a.T, b.T, metric="cityblock", global_constraints=True, band_rad=_BAND)
    return np.asarray(path[::-1])


def _mel(samples: Samples) -> NDArray[np.float64]:
    """(frames, bands) in dB, relative to the loudest, cut 60 dB below."""
    mel = np.asarray(log_mel(samples, SAMPLE_RATE), np.float64).T
    return np.asarray(np.maximum(mel - mel.max(), -60.0), np.float64)


def _pauses(level: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Frames in the middle of silence: within stops of consonants, and at the edges of words, a frame has something of its neighbours."""
    silent = level < SILENT_DB
    around = np.lib.stride_tricks.sliding_window_view(np.pad(silent, _EDGE), 2 * _EDGE + 1)
    return np.asarray(around.all(axis=1))


def likeness(clip: Samples, own: Samples, other: Samples, last_word: float) -> Likeness:
    """Compare `clip` with the same text by the right synthesizer and by another; `last_word` is when its last word ends, in seconds."""
    mel = _mel(clip)
    path = _aligned(mel, _mel(own))
    distances = [
        float(np.abs(mel[pairs[:, 0]] - _mel(samples)[pairs[:, 1]]).mean())
        for samples, pairs in ((own, path), (other, _aligned(mel, _mel(other))))
    ]
    mine, theirs = levels(clip), levels(own)
    amid = _pauses(theirs)[np.minimum(path[:, 1], len(theirs) - 1)]
    # a pause that the clip does not make is one frame of it, however often the alignment repeats that frame: it is no noise in a silence
    silent = np.unique(np.minimum(path[amid, 0], len(mine) - 1))
    after = mine[int((last_word + _AFTER) * SAMPLE_RATE / HOP) :] if last_word else mine[:0]
    return Likeness(
        distances[0],
        distances[1],
        len(silent),
        int((mine[silent] < QUIET_DB).sum()),
        float(10 * np.log10(np.mean(10 ** (after / 10)))) if len(after) > 2 else None,
    )
