"""What the gate found, as it is shown, stored in a manifest, and acted upon. Plain data; measures nothing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lab.listening.model import Role

State = Literal["ok", "noted", "unavailable", "left out"]
CheckName = Literal["finite", "sound", "length and rate", "silence at the edges", "loudness", "peak", "clipping", "difference"]
PairClass = Literal["identical", "rounding", "perceptual"]
_SEVERITY: tuple[State, ...] = get_args(State)
#: How far apart the silences at the edges of a pair may be, unless its maker says otherwise. With the demo voice 16 and 7 steps stay within 10 ms of 32;
#: 4 steps begin 10 to 30 ms late and end up to 30 ms early, wherever one puts the detector's threshold.
SILENCE_MS = 20.0
#: What each check asks for, in the words of a table.
CHECKS: dict[CheckName, str] = {
    "finite": "every sample is a number",
    "sound": "no clip is silent",
    "length and rate": "the clips of a text are equally long and of one rate",
    "silence at the edges": "silences before and after are within {silence_ms:g} ms of the reference's",
    "loudness": "every clip of a text has one loudness, {target_lufs:g} LUFS if peaks allow it",
    "peak": "no peak is above {peak_dbfs:g} dBFS",
    "clipping": "no rendered clip stands at full scale",
    "difference": "a pair differs in its samples",
}


@dataclass(frozen=True)
class Finding:
    """One thing that a check found; what is as it should be is not listed."""

    check: CheckName
    state: State
    text: str  # id
    config: str  # whose clip; "" for all of the text
    words: str


@dataclass(frozen=True)
class Pair:
    """A clip next to its reference. Differences are the clip minus the reference, before any gain; levels in dB."""

    text: int  # place in the study's texts
    config: str
    role: Role
    a: int  # place of the reference's stimulus
    b: int  # place of the other's
    pair_class: PairClass  # of what is heard. identical: bit for bit; rounding: the difference is 40 dB below the clip, or more
    state: State
    words: str
    leading_ms: float
    trailing_ms: float
    null_db: float | None  # level of the difference in dBFS; None when there is none
    null_relative_db: float | None  # the same against the reference's level
    lsd_db: float
    gain_difference_db: float  # how much softer it was than the reference
    heard_null_db: float | None = None  # level of the difference in dBFS once both have their gains

    @property
    def identical(self) -> bool:
        """Whether there is nothing to hear."""
        return self.pair_class == "identical"

    @property
    def asked(self) -> bool:
        """Whether listeners may be asked about it."""
        return self.state != "left out"


@dataclass
class GateReport:
    """The gate's findings, text by text."""

    target_lufs: float
    peak_dbfs: float
    silence_ms: float
    texts: tuple[str, ...] = ()  # ids
    findings: tuple[Finding, ...] = ()
    pairs: tuple[Pair, ...] = ()
    left_out: tuple[str, ...] = ()  # configurations that the study goes without, in words

    def add_text(self, text_id: str) -> int:
        """Begin the next text; returns its place."""
        self.texts += (text_id,)
        return len(self.texts) - 1

    def say(self, text: int, check: CheckName, state: State, config: str, words: str) -> None:
        """Add what a check found."""
        self.findings += (Finding(check, state, self.texts[text], config, words),)

    def rows(self) -> list[tuple[str, State, str]]:
        """One row for each check: what it asks, the worst it found, and where."""
        limits = {"target_lufs": self.target_lufs, "peak_dbfs": self.peak_dbfs, "silence_ms": self.silence_ms}
        made: list[tuple[str, State, str]] = []
        for check, asks in CHECKS.items():
            found = [finding for finding in self.findings if finding.check == check]
            worst: State = max((finding.state for finding in found), key=_SEVERITY.index, default="ok")
            said = [f"{', '.join(filter(None, (finding.text, finding.config)))}: {finding.words}" for finding in found]
            made.append((asks.format(**limits), worst, "; ".join(said)))
        return made

    def document(self) -> dict[str, Any]:
        """As JSON: the limits, a row for each check, all findings, and every pair with its numbers."""
        return {
            "version": 1,
            "limits": {"target_lufs": self.target_lufs, "peak_dbfs": self.peak_dbfs, "silence_ms": self.silence_ms},
            "checks": [{"check": check, "state": state, "words": words} for check, state, words in self.rows()],
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "pairs": [self._pair(pair) for pair in self.pairs],
            "left_out": list(self.left_out),
        }

    def _pair(self, pair: Pair) -> dict[str, Any]:
        row = dataclasses.asdict(pair)
        row["class"] = row.pop("pair_class")
        row["text"] = self.texts[pair.text]
        del row["a"], row["b"]  # places in a table that is pruned afterwards
        return row
