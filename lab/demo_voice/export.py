"""From trained values to a folder in the form of `lab/data/demo`, which every command takes as `--weights FOLDER`."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from numpy.typing import NDArray
from safetensors import safe_open

from lab.audio import SAMPLE_RATE
from lab.demo_voice.model import CONFIG, VOCODER_CONFIG, write_vocabulary
from lab.demo_voice.sentences import readable
from lab.demo_voice.synthesizers import say, speaker
from lab.durable import write_whole
from lab.errors import LabError

_QUIET_DB = -14.0
_END_SECONDS = 0.05  # of silence, as upstream appends to a reference


class ExportError(LabError):
    """What is to be exported is not there."""


@dataclass(frozen=True)
class Reference:
    """A clip that asks the model for a voice: plain English.

    Upstream plans from its seconds per byte how long a text may take, so it is one that takes about a tenth more of them than a sentence usually does: of a
    text of two words, each letter takes longer than in a sentence, and with a usual reference it is spoken half as fast again as the synthesizer would.
    """

    speaker: str
    title: str
    transcript: str
    source: str


REFERENCES = (
    Reference(
        "female",
        "Demo, female",
        "She found a small blue box under the stairs.",
        "Synthetic: made with festival's cmu_us_slt_arctic_hts voice, which is free software.",
    ),
    Reference(
        "male",
        "Demo, male",
        "Her father grows red roses behind the house.",
        "Synthetic: made with flite's rms voice, which is free software.",
    ),
)
_HEADER = """\
# The voices that come with the lab, in the order they are offered. Made by `python -m lab demo-voice export`: mono 16-bit WAV at 24 kHz,
# 3 to 12 seconds, with the exact words. `suits` says for which weights: "demo", "full", or "any".
"""
_QUIET_NOTE = """\
# The same clip 14 dB lower. F5 raises a quiet reference before it speaks and lowers the result again; a reference cache that forgets the level
# leaves the result too loud, and this voice makes that plain.
"""


def export(model: Path, vocoder: Path, out: Path) -> dict[str, Any]:
    """Write configs, vocabulary, both sets of values and the reference clips to `out`; returns how many steps each has had.

    Raises:
        ExportError: a file with values is missing.
        SourceError: a synthesizer is missing.
    """
    for file in (model, vocoder):
        if not file.is_file():
            raise ExportError(f"{file} is not there. Train first: python -m lab demo-voice train, and train-vocoder.")
    for folder in (out / "vocos", out / "voices"):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(CONFIG, out / "config.yaml")
    shutil.copyfile(VOCODER_CONFIG, out / "vocos" / "config.yaml")
    shutil.copyfile(model, out / "model.safetensors")
    shutil.copyfile(vocoder, out / "vocos" / "model.safetensors")
    write_vocabulary(out / "vocab.txt")
    _write_voices(out / "voices")
    return steps_of(out)


def steps_of(folder: Path) -> dict[str, Any]:
    """How many steps model and vocoder of an export have had."""
    files = {"steps": folder / "model.safetensors", "vocoder_steps": folder / "vocos" / "model.safetensors"}
    return {name: int(_metadata(file).get("steps", 0)) for name, file in files.items()}


def _metadata(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as opened:
        return dict(opened.metadata() or {})


def _write_voices(folder: Path) -> None:
    described = [_HEADER]
    for reference in REFERENCES:
        who = speaker(reference.speaker)
        speech = say(who, [str(readable(reference.transcript))])[0]
        if speech is None:
            raise ExportError(f"The synthesizer of {who.name} said nothing.")
        ended = np.round(np.concatenate([speech.samples, np.zeros(int(_END_SECONDS * SAMPLE_RATE), np.float32)]) * 32767).astype(np.int16)
        _write_wav(folder / f"{who.name}.wav", ended)
        described.append(_described(f"demo-{who.name}", reference.title, f"{who.name}.wav", reference.transcript, reference.source))
        if who.name == "female":
            _write_wav(folder / "female-quiet.wav", np.round(ended * 10 ** (_QUIET_DB / 20)).astype(np.int16))
    first = REFERENCES[0]
    about = "Synthetic: the female demo voice 14 dB quieter, to show whether an engine keeps the reference's loudness."
    described.append(_QUIET_NOTE + _described("demo-female-quiet", f"{first.title}, quiet", "female-quiet.wav", first.transcript, about))
    write_whole(folder / "voices.toml", "\n".join(described).encode())


def _write_wav(file: Path, samples: NDArray[np.int16]) -> None:
    sf.write(file, samples, SAMPLE_RATE, subtype="PCM_16")


def _described(name: str, title: str, file: str, transcript: str, source: str) -> str:
    pairs = {"id": name, "name": title, "file": file, "language": "en", "transcript": transcript, "source": source, "suits": "any"}
    return "[[voice]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in pairs.items())
