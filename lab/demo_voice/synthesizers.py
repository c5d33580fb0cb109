"""The synthesizers whose speech the demo voice learns: festival with the HTS voice slt (female, 32 kHz) and flite's rms (male, 16 kHz).

Both are called as the programs they are. What they say is resampled to the model's rate, cut to the speech with a little silence around it, and brought
to one level, in `prepared`.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from lab.audio import SAMPLE_RATE
from lab.demo_voice.sources import CMU_LEXICON, FESTIVAL, FLITE, PART_OF_SPEECH, SLT, Source
from lab.errors import LabError

#: RMS of every utterance of the corpus: what upstream brings a quiet reference to (`utils_infer.target_rms`).
LEVEL = 0.1
_LEAD, _TRAIL = 0.03, 0.06  # seconds of the synthesizer's own silence that stay around the speech
_SPEECH = 0.01  # of the peak; what is below is silence
_BATCH = 50  # texts per start of festival, which takes a second
_SECONDS_PER_TEXT = 30

#: The phones of both, as festival's `radio` set names them, silence first.
_RADIO = "pau aa ae ah ao aw ax axr ay b ch d dh dx eh el em en er ey f g hh hv ih iy jh k l m n ng nx ow oy p r s sh t th uh uw v w y z zh"
PHONES = tuple(_RADIO.split())

Samples = NDArray[np.float32]


class SynthesizerError(LabError):
    """A synthesizer cannot be run."""


@dataclass(frozen=True)
class Speaker:
    """One voice of the corpus.

    Attributes:
        name: As in `lab/data/demo/voices/voices.toml`, without "demo-".
        program: "festival" or "flite".
        voice: The program's name for it.
        pace: Its usual duration, 1 being the program's own; slt is fast.
    """

    name: str
    program: str
    voice: str
    pace: float
    needs: tuple[Source, ...]


@dataclass(frozen=True)
class Speech:
    """What a synthesizer said.

    Attributes:
        samples: (n,) at 24 kHz.
        phones: Of `PHONES`, in order.
        ends: Where each ends, in samples.
    """

    samples: Samples
    phones: list[str]
    ends: list[int]


SPEAKERS = (
    Speaker("female", "festival", "cmu_us_slt_arctic_hts", 1.1, (FESTIVAL, SLT, CMU_LEXICON, PART_OF_SPEECH)),
    Speaker("male", "flite", "rms", 1.0, (FLITE,)),
)


def speaker(name: str) -> Speaker:
    """The voice of that name."""
    return next(one for one in SPEAKERS if one.name == name)


def say(who: Speaker, texts: Sequence[str], pace: float = 1.0) -> list[Speech | None]:
    """Speech for each text, as `prepared` leaves it; None where the program gave none.

    `pace` stretches the durations, on top of the speaker's own.

    Raises:
        SourceError: a package is missing.
        SynthesizerError: the program does not start, or says nothing at all.
    """
    for source in who.needs:
        source.file()
    made: list[Speech | None] = []
    with tempfile.TemporaryDirectory(prefix="lab-say-") as folder:
        for start in range(0, len(texts), _BATCH):
            batch = slice(start, start + _BATCH)
            files = [Path(folder) / f"{number}.wav" for number in range(len(texts[batch]))]
            run = _festival if who.program == "festival" else _flite
            timed = run(who, who.pace * pace, list(zip(texts[batch], files, strict=True)))
            made += [_read(file, times) for file, times in zip(files, timed, strict=True)]
    if texts and all(speech is None for speech in made):
        raise SynthesizerError(f"{who.program} made no speech with the voice {who.voice}. Try it by hand; its packages may be broken.")
    return made


def _run(command: list[str], seconds: float) -> str:
    """Returns what it printed."""
    try:
        return subprocess.run(command, capture_output=True, timeout=seconds, check=False, text=True, errors="replace").stdout
    except subprocess.TimeoutExpired:
        return ""  # the texts that it had no time for have no file
    except OSError as error:
        raise SynthesizerError(f"{command[0]} cannot be run: {error.strerror}.") from None


_Job = tuple[str, Path]
_Times = list[tuple[str, float]]  # each phone, and when it ends, in seconds


def _festival(who: Speaker, pace: float, jobs: list[_Job]) -> list[_Times]:
    lines = [
        f"(voice_{who.voice})",
        f'(set! hts_engine_params (cons (list "-r" {1 / pace:.4f}) hts_engine_params))',
        "(define (say text file times)",
        "  (unwind-protect",
        "    (begin",
        "      (set! said (utt.synth (eval (list 'Utterance 'Text text))))",
        "      (utt.save.segs said times)",
        "      (utt.save.wave said file 'riff))",
        "    t))",
    ]
    for text, file in jobs:
        quoted = text.replace("\\", "").replace('"', '\\"')
        lines.append(f'(say "{quoted}" "{file}" "{file.with_suffix(".seg")}")')
    script = jobs[0][1].with_suffix(".scm")
    script.write_text("\n".join(lines), encoding="ascii")
    _run([str(FESTIVAL.file()), "-b", str(script)], _SECONDS_PER_TEXT * len(jobs))
    return [_taken(file.with_suffix(".seg")) for _, file in jobs]


def _taken(file: Path) -> _Times:
    """What festival wrote of the phones, a line for each: its end, a number for colour, its name."""
    if not file.is_file():
        return []
    found = re.findall(r"^([\d.]+) \d+ (\S+)$", file.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    file.unlink()
    return [(phone, float(end)) for end, phone in found]


def _flite(who: Speaker, pace: float, jobs: list[_Job]) -> list[_Times]:
    timed = []
    for text, file in jobs:
        settings = ["-voice", who.voice, "-psdur", "--setf", f"duration_stretch={pace:.4f}", "-t", text, "-o", str(file)]
        printed = _run([str(FLITE.file()), *settings], _SECONDS_PER_TEXT)
        timed.append([(phone, float(end)) for phone, end in re.findall(r"(\S+):([\d.]+)", printed)])
    return timed


def _read(file: Path, times: _Times) -> Speech | None:
    try:
        samples, rate = sf.read(file, dtype="float32")
    except (sf.LibsndfileError, OSError):
        return None
    finally:
        file.unlink(missing_ok=True)
    return prepared(samples, rate, times)


def prepared(samples: Samples, rate: int, times: Iterable[tuple[str, float]] = ()) -> Speech | None:
    """`samples` at 24 kHz, with little silence around them, at the corpus' level; None where there is no speech.

    `times` are each phone, and when it ends, in seconds; a name that is not in `PHONES` counts as silence.
    """
    at_rate = soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32)
    peak = float(np.abs(at_rate).max(initial=0.0))
    loud = np.flatnonzero(np.abs(at_rate) > _SPEECH * peak) if peak > 1e-3 else np.empty(0, int)
    if len(loud) < SAMPLE_RATE // 20:
        return None
    first = max(0, int(loud[0]) - int(_LEAD * SAMPLE_RATE))
    cut = at_rate[first : loud[-1] + int(_TRAIL * SAMPLE_RATE)]
    scaled = cut * (LEVEL / float(np.sqrt(np.mean(np.square(cut)))))
    ends = [(phone if phone in PHONES else PHONES[0], round(end * SAMPLE_RATE) - first) for phone, end in times]
    kept = [(phone, min(end, len(cut))) for phone, end in ends if end > 0]
    return Speech(np.asarray(np.clip(scaled, -0.99, 0.99), np.float32), [phone for phone, _ in kept], [end for _, end in kept])
