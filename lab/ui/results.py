"""What a comparison shows, made from its facts and WAV bytes alone: a fresh one and one opened from a permalink look the same."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from lab import metrics, plots
from lab.compare import wav_name
from lab.engine.clip import STAGES, Audio, Clip, wav_bytes
from lab.ui.context import ClipCache
from lab.ui.player import Track

COLUMNS = (
    *("Configuration", "RTF", "Total ms", "Against the first", "LSD dB", "Engaged"),
    *(stage.capitalize() + " ms" for stage in STAGES),
    *("ms per step", "Memory MiB"),
)


@dataclass(frozen=True)
class Shown:
    """A comparison as the page holds it: facts as they are saved, and the WAV bytes of its clips in order (none for random weights)."""

    facts: dict[str, Any]
    wavs: tuple[bytes, ...]

    @property
    def names(self) -> list[str]:
        """The configurations, in order."""
        return [str(clip["config"]) for clip in self.facts["clips"]]

    @property
    def storable(self) -> bool:
        """Whether it may be saved: all its audio is there."""
        return (
            bool(self.facts["clips"])
            and len(self.wavs) == len(self.facts["clips"])
            and all(clip["storable"] for clip in self.facts["clips"])
        )


def samples_of(wav: bytes) -> Audio:
    """The samples of a mono WAV, (n,) float32."""
    return np.asarray(soundfile.read(io.BytesIO(wav), dtype="float32")[0], dtype=np.float32)


def against(row: dict[str, Any]) -> str:
    """How a clip differs from the first, in a few words."""
    if row["identical"]:
        return "identical samples"
    if row.get("null_db") is None:
        return "same mel, other samples" if row["same_mel"] else "different"
    level = f", {row['level_db']:+.1f} dB level" if row.get("level_db") is not None and abs(row["level_db"]) >= 0.1 else ""
    return f"null {row['null_db']:.0f} dBFS{level}"


def table(facts: dict[str, Any] | None, failures: Sequence[tuple[str, str]] = (), waiting: Sequence[str] = ()) -> pd.DataFrame:
    """One row per configuration: the clips there are, the failures with their reason, and those still to come."""
    rows: list[list[str]] = []
    facts = facts or {"clips": [], "differences": []}
    differ = {row["b"]: row for row in facts["differences"]}
    for index, clip in enumerate(facts["clips"]):
        row = differ.get(clip["config"])
        steps = clip["steps_ms"]
        lsd = row.get("lsd_db") if row else None
        rows.append(
            [
                clip["config"],
                f"{clip['rtf']:.3f}",
                f"{clip['total_ms']:.0f}",
                "the reference"
                if index == 0
                else against(row) + (", same mel" if row["same_mel"] and not row["identical"] else "")
                if row
                else "",
                "" if lsd is None else f"{lsd:.2f}",
                "yes" if clip["engaged"] else "NO: " + "; ".join(failed_checks(clip)),
                *(f"{clip['stages_ms'].get(stage, 0):.1f}" for stage in STAGES),
                f"{np.median(steps):.1f}" if steps else "",
                f"{clip['peak_memory_mb']:.0f}",
            ]
        )
    rows += [[name, "", "", f"no clip: {message}", *[""] * (len(COLUMNS) - 4)] for name, message in failures]
    rows += [[name, "…", *[""] * (len(COLUMNS) - 2)] for name in waiting]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def verdict(facts: dict[str, Any]) -> str:
    """What was found, in one sentence a configuration: the same samples, the same mel, or a difference with its size."""
    said = []
    for row in facts["differences"]:
        if row["identical"]:
            said.append(f"{row['b']} gives exactly the samples of {row['a']}")
        elif row["same_mel"]:
            said.append(f"{row['b']} has the mel of {row['a']} and another waveform ({against(row)})")
        else:
            said.append(f"{row['b']} differs from {row['a']} ({against(row)})")
    return "; ".join(said) + "." if said else ""


def failed_checks(clip: dict[str, Any]) -> list[str]:
    """The statements of a configuration that did not hold."""
    return [f"{check['name']}: {check['detail']}" for check in clip["engagement"]["checks"] if check["state"] == "failed"]


def shown(clips: Sequence[Clip], facts: dict[str, Any]) -> Shown:
    """Fresh clips as the page holds them."""
    return Shown(facts, tuple(clip.wav() for clip in clips if clip.storable))


def tracks(what: Shown, cache: ClipCache) -> list[Track]:
    """The player's tracks: each clip, and after them the difference to the first where the mels are the same."""
    if not what.wavs:
        return []
    names = what.names
    made = [Track(cache.add(wav), name, _track_note(clip)) for wav, name, clip in zip(what.wavs, names, what.facts["clips"], strict=True)]
    for row in what.facts["differences"]:
        signal = _difference(what, names.index(row["b"])) if row["same_mel"] and not row["identical"] else None
        if signal is not None:
            samples, gain = signal
            made.append(Track(cache.add(wav_bytes(samples)), f"difference: {row['b']}", f"minus {row['a']}, {gain:+.0f} dB"))
    return made


def _track_note(clip: dict[str, Any]) -> str:
    return f"NFE {clip['settings']['nfe']}, RTF {clip['rtf']:.3f}"


def _difference(what: Shown, index: int) -> tuple[Audio, float] | None:
    signal = metrics.difference_signal(samples_of(what.wavs[index]), samples_of(what.wavs[0]))
    return None if signal is None else (np.asarray(signal.samples, dtype=np.float32), signal.gain_db)


@dataclass(frozen=True)
class Figures:
    """The plots of a comparison; None where there is nothing to draw."""

    stages: Any = None
    waveforms: Any = None
    spectrograms: Any = None
    differences: Any = None


def figures(what: Shown) -> Figures:
    """Draw everything that can be drawn."""
    stages = (
        plots.stage_bars([(clip["config"], {stage: clip["stages_ms"].get(stage, 0) for stage in STAGES}) for clip in what.facts["clips"]])
        if what.facts["clips"]
        else None
    )
    if not what.wavs:
        return Figures(stages)
    rate = int(what.facts["clips"][0]["sample_rate"])
    clips = [(name, samples_of(wav)) for name, wav in zip(what.names, what.wavs, strict=True)]
    others = [clips[what.names.index(row["b"])] for row in what.facts["differences"] if not row["identical"]]
    return Figures(
        stages,
        plots.waveforms(clips, rate),
        plots.spectrograms(clips, rate),
        plots.difference_spectrograms(clips[0], others, rate) if others else None,
    )


def files(what: Shown, folder: Path) -> list[str]:
    """Write the clips and the facts to `folder`, for download; returns the paths."""
    facts = folder / "facts.json"
    facts.write_text(json.dumps(what.facts, indent=1, ensure_ascii=False), encoding="utf-8")
    paths = []
    for name, wav in zip(what.names, what.wavs, strict=False):
        path = folder / wav_name(name)
        path.write_bytes(wav)
        paths.append(str(path))
    return [*paths, str(facts)]
