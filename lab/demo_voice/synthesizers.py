"""The synthesizers whose speech the demo voice learns: festival with the HTS voice slt (female, 32 kHz) and flite's rms (male, 16 kHz).

Both are called as the programs they are. What they say is resampled to the model's rate, cut to the speech with a little silence around it, and brought
to one level, in `prepared`.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
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


SPEAKERS = (
    Speaker("female", "festival", "cmu_us_slt_arctic_hts", 1.1, (FESTIVAL, SLT, CMU_LEXICON, PART_OF_SPEECH)),
    Speaker("male", "flite", "rms", 1.0, (FLITE,)),
)


def speaker(name: str) -> Speaker:
    """The voice of that name."""
    return next(one for one in SPEAKERS if one.name == name)


def say(who: Speaker, texts: Sequence[str], paces: Sequence[float] | None = None) -> list[Samples | None]:
    """Speech for each text, (n,) float32 at 24 kHz, as `prepared` leaves it; None where the program gave none.

    `paces` stretch the durations, on top of the speaker's own.

    Raises:
        SourceError: a package is missing.
        SynthesizerError: the program does not start, or says nothing at all.
    """
    for source in who.needs:
        source.file()
    stretch = [who.pace * pace for pace in paces or [1.0] * len(texts)]
    made: list[Samples | None] = []
    with tempfile.TemporaryDirectory(prefix="lab-say-") as folder:
        for start in range(0, len(texts), _BATCH):
            batch = slice(start, start + _BATCH)
            files = [Path(folder) / f"{number}.wav" for number in range(len(texts[batch]))]
            run = _festival if who.program == "festival" else _flite
            run(who, list(zip(texts[batch], stretch[batch], files, strict=True)))
            made += [_read(file) for file in files]
    if texts and all(samples is None for samples in made):
        raise SynthesizerError(f"{who.program} made no speech with the voice {who.voice}. Try it by hand; its packages may be broken.")
    return made


def _run(command: list[str], seconds: float) -> None:
    try:
        subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        pass  # the texts that it had no time for have no file
    except OSError as error:
        raise SynthesizerError(f"{command[0]} cannot be run: {error.strerror}.") from None


def _festival(who: Speaker, jobs: list[tuple[str, float, Path]]) -> None:
    lines = [
        f"(voice_{who.voice})",
        "(define plain hts_engine_params)",
        "(define (say text pace file)",
        '  (set! hts_engine_params (cons (list "-r" pace) plain))',
        "  (unwind-protect",
        "    (utt.save.wave (utt.synth (eval (list 'Utterance 'Text text))) file 'riff)",
        "    t))",
    ]
    for text, pace, file in jobs:
        quoted = text.replace("\\", "").replace('"', '\\"')
        lines.append(f'(say "{quoted}" {1 / pace:.4f} "{file}")')
    script = jobs[0][2].with_suffix(".scm")
    script.write_text("\n".join(lines), encoding="ascii")
    _run([str(FESTIVAL.file()), "-b", str(script)], _SECONDS_PER_TEXT * len(jobs))


def _flite(who: Speaker, jobs: list[tuple[str, float, Path]]) -> None:
    for text, pace, file in jobs:
        settings = ["-voice", who.voice, "--setf", f"duration_stretch={pace:.4f}", "-t", text, "-o", str(file)]
        _run([str(FLITE.file()), *settings], _SECONDS_PER_TEXT)


def _read(file: Path) -> Samples | None:
    try:
        samples, rate = sf.read(file, dtype="float32")
    except (sf.LibsndfileError, OSError):
        return None
    finally:
        file.unlink(missing_ok=True)
    return prepared(samples, rate)


def prepared(samples: Samples, rate: int) -> Samples | None:
    """`samples` at 24 kHz, with little silence around them, at the corpus' level; None where there is no speech."""
    at_rate = soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32)
    peak = float(np.abs(at_rate).max(initial=0.0))
    loud = np.flatnonzero(np.abs(at_rate) > _SPEECH * peak) if peak > 1e-3 else np.empty(0, int)
    if len(loud) < SAMPLE_RATE // 20:
        return None
    cut = at_rate[max(0, loud[0] - int(_LEAD * SAMPLE_RATE)) : loud[-1] + int(_TRAIL * SAMPLE_RATE)]
    scaled = cut * (LEVEL / float(np.sqrt(np.mean(np.square(cut)))))
    return np.asarray(np.clip(scaled, -0.99, 0.99), np.float32)
