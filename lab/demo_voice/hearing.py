"""What a recogniser hears in a clip, and how much of it is wrong: pocketsphinx with the English model inside its wheel, word errors by jiwer.

pocketsphinx is deterministic, small and far from today's best, so a rate says nothing by itself: it is read beside the rate of the synthesizer that the
voice was learnt from, on the same sentences.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from lab.audio import SAMPLE_RATE
from lab.demo_voice.tools import tool

_RATE = 16_000
_PEAK = 0.7
_SILENCE = _RATE // 4  # samples around a clip: the recogniser wants to hear a beginning
#: Below the loudest frame, what is cut off at both ends: the recogniser takes the mean of a whole clip for its channel, and upstream plans three times as long
#: for a text of two words as it takes to say, so that "come in" with a second of faint silence behind it was heard as nothing.
_EDGE_DB = 50.0
_FIRST = 2

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Heard:
    """What was heard in one clip.

    Attributes:
        text: The words, lower case.
        end: Seconds of the clip at which the last word ends; 0.0 where none was heard.
    """

    text: str
    end: float


@cache
def _decoder() -> Any:
    return tool("pocketsphinx").Decoder(samprate=_RATE, loglevel="FATAL")


def hear(samples: Samples) -> Heard:
    """Recognise (n,) float32 at 24 kHz, without the silence at its ends."""
    import librosa

    if float(np.abs(samples).max(initial=0.0)) < 1e-4:
        return Heard("", 0.0)
    spoken, (start, _) = librosa.effects.trim(samples, top_db=_EDGE_DB)
    at_rate = soxr.resample(spoken, SAMPLE_RATE, _RATE)
    peak = float(np.abs(at_rate).max())
    padded = np.pad(at_rate * (_PEAK / peak), _SILENCE)
    decoder = _decoder()
    decoder.reinit_feat()  # it adapts to what it has heard; every clip is to be heard alone
    decoder.start_utt()
    decoder.process_raw((padded * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    words = [segment for segment in decoder.seg() if not segment.word.startswith(("<", "["))] if found else []
    end = start / SAMPLE_RATE + (words[-1].end_frame + 1) / 100 - _SILENCE / _RATE if words else 0.0
    return Heard(found.hypstr if found else "", max(0.0, end))


def words_of(text: str) -> str:
    """`text` as words are compared: lower case, letters and apostrophes."""
    return " ".join(re.sub(r"[^a-z']", " ", text.lower()).split())


@dataclass(frozen=True)
class WordErrors:
    """Errors (substitutions, deletions, insertions) over the words of several texts.

    Attributes:
        rate: Errors of all words, by their number.
        first, rest: Errors at the first two words of each text by their number, and of the others.
    """

    rate: float
    first: float
    rest: float
    words: int


def word_errors(texts: Sequence[str], heard: Sequence[str]) -> WordErrors:
    """Count the errors over all texts together; an insertion counts with the word before which it stands."""
    said = [words_of(text) for text in texts]
    output = tool("jiwer").process_words(said, [words_of(text) for text in heard])
    first = rest = 0
    for chunks in output.alignments:
        for chunk in chunks:
            if chunk.type == "equal":
                continue
            count = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            early = (
                max(0, min(_FIRST, chunk.ref_end_idx) - chunk.ref_start_idx)
                if chunk.type != "insert"
                else count * (chunk.ref_start_idx < _FIRST)
            )
            first, rest = first + early, rest + count - early
    lengths = [len(text.split()) for text in said]
    firsts = sum(min(_FIRST, length) for length in lengths)
    total = sum(lengths)
    return WordErrors((first + rest) / total, first / firsts, rest / max(1, total - firsts), total)
