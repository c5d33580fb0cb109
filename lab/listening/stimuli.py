"""The gate between rendered clips and listeners: what is fit to be compared, at which level, and what has to be said about it.

Of every text it takes the clips of all configurations (the first is the reference), adds anchors, matches the loudness with one gain per clip, and says of
every pair whether it can be asked. Knows nothing about engines, and nothing about trials beyond whether a pair is switched at one position.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lab import metrics
from lab.engine.clip import wav_bytes
from lab.listening.gate_report import SILENCE_MS, CheckName, GateReport, Pair, PairClass, State
from lab.listening.model import Role, Stimulus, Text, clip_name
from lab.listening.signals import SHORTEST_LOUDNESS, Edges, Samples, clipped, edges, loudness, low_pass, peak_dbfs

ANCHORS: dict[Role, float] = {"anchor 3.5 kHz": 3500.0, "anchor 7 kHz": 7000.0}
#: What every clip is brought to, or less where a peak would come too high: the level of EBU R 128.
TARGET_LUFS = -23.0
PEAK_DBFS = -1.0
_SILENT_DBFS = -60.0  # a clip whose peak is below this has no speech
_LEVEL_DB = 0.5  # a difference in level that is taken away is worth saying from here on
_SIXTEEN_BIT_DBFS = -101.1  # noise of rounding to 16 bits: one step of 2^-15, divided by the root of 12
#: A difference so far below the reference, once both have their gains, is of the size of rounding. With the demo voice an FP16 vocoder lies at -55 dB,
#: 16 steps instead of 32 at -10 to -20 dB.
ROUNDING_DB = -40.0


@dataclass(frozen=True)
class Source:
    """A rendered clip on its way into a study: `samples` (n,) float32."""

    config: str
    role: Role
    seed: int
    samples: Samples = field(repr=False)
    rate: int


@dataclass(frozen=True)
class Gated:
    """What came through: the stimuli that listeners may hear, the WAV bytes of each by SHA-256, and what was found."""

    stimuli: tuple[Stimulus, ...]
    wavs: dict[str, bytes] = field(repr=False)
    report: GateReport

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every reference with every other clip of its text, anchors left aside."""
        return self.report.pairs


class _Measured(NamedTuple):
    """A clip that may be heard, before its gain."""

    source: Source
    sha256: str
    lufs: float | None
    peak: float  # dBFS
    edges: Edges


def sample_hash(samples: Samples) -> str:
    """SHA-256 of the samples as the engine takes it: of (n,) float32, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(samples, dtype="<f4").tobytes()).hexdigest()


class Gate:
    """Takes one text after the other; `finish` says what came of it."""

    def __init__(self, *, anchors: Sequence[Role] = (), silence_ms: float = SILENCE_MS, switched: bool = True) -> None:
        """No text has passed yet.

        Args:
            anchors: which low-passed copies of the reference to make.
            silence_ms: how far apart the silences at the edges of a pair may be.
            switched: whether a listener switches between clips at one position, so that silences that differ give a clip away. Otherwise they are noted.
        """
        self._anchors = tuple(anchors)
        self._switched = switched
        self._silence_ms = silence_ms
        self._stimuli: list[Stimulus] = []
        self._wavs: dict[str, bytes] = {}
        self.report = GateReport(TARGET_LUFS, PEAK_DBFS, silence_ms)

    def take(self, text: Text, sources: Sequence[Source]) -> None:
        """Judge the clips of the next text; `sources[0]` is the reference's, rendered with the study's seed."""
        place = self.report.add_text(text.id)
        reference = sources[0]
        if not self._usable(place, reference, reference):
            self._say(place, "sound", "left out", "", f"the whole text, because {reference.config} is the reference")
            return
        kept = [reference, *(source for source in sources[1:] if self._usable(place, source, reference))]
        kept += [self._anchor(reference, role) for role in self._anchors]
        measured = self._measure(place, kept)
        gains = self._gains(place, measured)
        first = len(self._stimuli)
        heard = [self._add(place, clip, gain) for clip, gain in zip(measured, gains, strict=True)]
        for offset, clip in enumerate(measured[1:], 1):
            if clip.source.role not in ANCHORS:
                null = _null(heard[0], heard[offset])
                self.report.pairs += (self._pair(place, first, first + offset, measured[0], clip, gains[offset] - gains[0], null),)

    def finish(self) -> Gated:
        """Everything that came through."""
        return Gated(tuple(self._stimuli), dict(self._wavs), self.report)

    def _say(self, text: int, check: CheckName, state: State, config: str, words: str) -> None:
        self.report.say(text, check, state, config, words)

    # ---- one clip

    def _usable(self, text: int, source: Source, reference: Source) -> bool:
        """Whether a clip can be heard at all, and next to its reference."""
        for check, reason in _defects(source, reference):
            self._say(text, check, "left out", _named(source), reason)
            return False
        return True

    def _anchor(self, reference: Source, role: Role) -> Source:
        return Source(reference.config, role, reference.seed, low_pass(reference.samples, reference.rate, ANCHORS[role]), reference.rate)

    def _measure(self, text: int, sources: Sequence[Source]) -> list[_Measured]:
        """Level, peak and edges of each; equal samples are measured once."""
        known: dict[str, _Measured] = {}
        made = []
        for source in sources:
            sha256 = sample_hash(source.samples)
            if sha256 not in known:
                peak, edge = peak_dbfs(source.samples), edges(source.samples, source.rate)
                assert peak is not None  # `_usable` has seen to it, and an anchor keeps what is below 3.5 kHz
                assert edge is not None
                known[sha256] = _Measured(source, sha256, loudness(source.samples, source.rate), peak, edge)
            made.append(known[sha256]._replace(source=source))
            if number := clipped(source.samples):
                self._say(
                    text,
                    "clipping",
                    "noted",
                    _named(source),
                    f"{number:,} samples are at full scale or above as rendered: 16-bit audio would cut them off, the gain brings them down",
                )
        return made

    def _gains(self, text: int, clips: Sequence[_Measured]) -> list[float]:
        """One gain per clip in dB: all to one loudness, no peak above -1 dBFS. Equal samples get equal gains."""
        headroom = [PEAK_DBFS - clip.peak for clip in clips]
        undefined = [clip for clip in clips if clip.lufs is None]
        if undefined:
            common = _down(min(0.0, *headroom))
            short = any(len(clip.source.samples) < SHORTEST_LOUDNESS * clip.source.rate for clip in undefined)
            why = f"loudness is undefined below {SHORTEST_LOUDNESS:g} s" if short else "nothing is loud enough to be measured (-70 LUFS)"
            self._say(text, "loudness", "unavailable", "", f"{why}: levels are as rendered, {common:+.1f} dB for all")
            return [common] * len(clips)
        levels = [clip.lufs for clip in clips if clip.lufs is not None]
        target = min(TARGET_LUFS, *(level + room for level, room in zip(levels, headroom, strict=True)))
        if target < TARGET_LUFS:
            self._say(
                text,
                "peak",
                "noted",
                "",
                f"matched at {target:.1f} LUFS instead of {TARGET_LUFS:g}, so that no peak is above {PEAK_DBFS:g} dBFS",
            )
        return [_down(target - level) for level in levels]

    def _add(self, text: int, clip: _Measured, gain_db: float) -> Samples:
        """Make a stimulus of a clip; returns what is heard."""
        heard = (clip.source.samples * np.float32(10 ** (gain_db / 20))).astype(np.float32)
        wav = wav_bytes(heard, clip.source.rate)
        sha256 = hashlib.sha256(wav).hexdigest()
        self._wavs[sha256] = wav
        self._stimuli.append(
            Stimulus(
                sha256=sha256,
                config=clip.source.config,
                role=clip.source.role,
                text=text,
                seed=clip.source.seed,
                source_sha256=clip.sha256,
                gain_db=gain_db,
                lufs=None if clip.lufs is None else round(clip.lufs, 3),
                peak_dbfs=round(peak_dbfs(heard) or 0.0, 3),
                seconds=round(len(heard) / clip.source.rate, 4),
            )
        )
        return heard

    # ---- two clips

    def _pair(self, text: int, a: int, b: int, first: _Measured, second: _Measured, gain_db: float, null: _Null) -> Pair:
        """What there is to say about a clip next to its reference; `gain_db`: how much more gain it got, so how much softer it was."""
        distance = metrics.difference(first.source.samples, second.source.samples, first.source.rate)
        same = self._stimuli[a].sha256 == self._stimuli[b].sha256
        leading = second.edges.leading_ms - first.edges.leading_ms
        trailing = second.edges.trailing_ms - first.edges.trailing_ms
        apart = max(abs(leading), abs(trailing))
        name, seeded = _named(second.source), second.source.role == "other seed"
        state: State = "ok"
        words: list[str] = []
        if apart > self._silence_ms:
            # another seed speaks at another pace: that belongs to the distance which it is there to show
            state = "noted" if seeded or not self._switched else "left out"
            words.append(f"silence differs by {leading:+.0f} ms before and {trailing:+.0f} ms after; the limit is {self._silence_ms:g} ms")
            self._say(text, "silence at the edges", state, name, words[-1])
        if abs(gain_db) >= _LEVEL_DB:
            state = "noted" if state == "ok" else state
            words.append(
                f"it was {abs(gain_db):.1f} dB {'softer' if gain_db > 0 else 'louder'} than the reference, which the gain takes away"
            )
            self._say(text, "loudness", "noted", name, words[-1])
        if same:
            state = "noted" if state == "ok" else state
            words.append(
                "the same samples: nothing to hear" if first.sha256 == second.sha256 else "the same samples once the level is matched"
            )
            self._say(text, "difference", "noted", name, words[-1])
        elif null.dbfs is not None and null.dbfs < _SIXTEEN_BIT_DBFS:
            state = "noted" if state == "ok" else state
            words.append(f"what differs has {null.dbfs:.0f} dBFS, less than the rounding of 16-bit audio ({_SIXTEEN_BIT_DBFS:.0f} dBFS)")
            self._say(text, "difference", "noted", name, words[-1])
        return Pair(
            text=text,
            config=second.source.config,
            role=second.source.role,
            a=a,
            b=b,
            pair_class=_class(same, null.relative_db),
            state=state,
            words="; ".join(words),
            leading_ms=round(leading, 2),
            trailing_ms=round(trailing, 2),
            null_db=_rounded(distance.null_db),
            null_relative_db=_rounded(distance.null_relative_db),
            lsd_db=round(distance.lsd_db, 3),
            gain_difference_db=round(gain_db, 4),
            heard_null_db=_rounded(null.dbfs),
        )


class _Null(NamedTuple):
    """Level of the difference of two clips as they are heard; None where there is none."""

    dbfs: float | None
    relative_db: float | None  # against the first clip


def _null(first: Samples, second: Samples) -> _Null:
    a = first.astype(np.float64)
    residual, level = (float(np.sqrt(np.mean(np.square(samples)))) for samples in (a - second, a))
    return _Null(20 * math.log10(residual), 20 * math.log10(residual / level)) if residual else _Null(None, None)


def _defects(source: Source, reference: Source) -> Iterator[tuple[CheckName, str]]:
    """Why a clip cannot be heard next to its reference."""
    if not np.isfinite(source.samples).all():
        yield "finite", "it has samples that are not numbers"
        return
    peak = peak_dbfs(source.samples)
    if peak is None or peak < _SILENT_DBFS:
        yield "sound", f"it is silent: no sample is above {_SILENT_DBFS:g} dBFS"
    if (len(source.samples), source.rate) != (len(reference.samples), reference.rate):
        yield (
            "length and rate",
            f"{len(source.samples):,} samples at {source.rate:,} Hz, the reference has {len(reference.samples):,} at {reference.rate:,} Hz",
        )


def _named(source: Source) -> str:
    return clip_name(source.config, source.role)


def _class(same: bool, null_relative_db: float | None) -> PairClass:
    if same:
        return "identical"
    return "rounding" if null_relative_db is not None and null_relative_db <= ROUNDING_DB else "perceptual"


def _down(decibels: float) -> float:
    """To 0.0001 dB, downwards: what is recorded is what was applied, and no peak comes out above its limit."""
    return math.floor(decibels * 1e4) / 1e4


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
