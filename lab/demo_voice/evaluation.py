"""Is the demo voice understood: every sentence of `evaluation.toml` by the synthesizers, through the vocoder alone, and by the model at several NFE.

The model speaks through the lab's own engine, in the configuration `upstream` with other step counts, so that chunks, references and lengths are those that
a user meets.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.audio import SAMPLE_RATE
from lab.compare import make_request
from lab.config import parse
from lab.demo_voice.hearing import Heard, WordErrors, hear, word_errors
from lab.demo_voice.likeness import Likeness, likeness
from lab.demo_voice.sentences import readable
from lab.demo_voice.synthesizers import SPEAKERS, say
from lab.engine.clip import Clip
from lab.engine.device import Device
from lab.engine.pool import EnginePool
from lab.engine.process import Cancel, Progress, ignore_progress
from lab.engine.weights import Weights
from lab.metrics import log_spectral_distance
from lab.voices import Voice

_FILE = Path(__file__).with_name("evaluation.toml")
SYNTHESIZER, COPY = "synthesizer", "copy"
#: What is asked of the voice: most that the word error rate may exceed the synthesizer's, by NFE.
MARGINS = {32: 0.15, 16: 0.15, 7: 0.20}
COPY_MARGIN = 0.02
MOST_RTF = 0.6  # at NFE 7, on two CPU cores

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Sentence:
    """A text of the evaluation: "plain", "question", "comma", "short" or "long"."""

    kind: str
    text: str


@cache
def sentences() -> tuple[Sentence, ...]:
    """What is said, in the order of the file."""
    with _FILE.open("rb") as file:
        return tuple(Sentence(kind, text) for kind, texts in tomllib.load(file).items() for text in texts)


@dataclass(frozen=True)
class Spoken:
    """One sentence by one speaker and source ("synthesizer", "copy", "nfe32", …)."""

    speaker: str
    source: str
    sentence: Sentence
    samples: Samples
    rtf: float | None = None
    chunks: int = 1


def speak(
    weights: Weights,
    device: Device,
    voices: dict[str, Voice],
    nfes: Sequence[int],
    chosen: Sequence[Sentence],
    *,
    seed: int = 1,
    cancel: Cancel | None = None,
    progress: Progress = ignore_progress,
) -> list[Spoken]:
    """Every sentence by everyone.

    `voices` are, by speaker, the references that ask the model for it.

    Raises:
        SourceError: a synthesizer is missing.
        LabError: the model cannot be loaded, or cannot say a sentence.
    """
    cancel = cancel or Cancel()
    made: list[Spoken] = []
    total = len(SPEAKERS) * len(chosen) * len(nfes)
    for who in SPEAKERS:
        progress(f"{who.name}: the synthesizer speaks", 0, 0)
        own = say(who, [str(readable(sentence.text)) for sentence in chosen])
        natural = [
            Spoken(who.name, SYNTHESIZER, sentence, speech.samples)
            for sentence, speech in zip(chosen, own, strict=True)
            if speech is not None
        ]
        made += [*natural, *_copies(natural, weights)]
        cancel.check()
    with EnginePool(weights, device, max_workers=1) as pool:
        done = 0
        for who in SPEAKERS:
            for nfe in nfes:
                config = parse(f"upstream:nfe={nfe}")
                for sentence in chosen:
                    request = make_request(pool, sentence.text, voices[who.name], seed)
                    clip: Clip = pool.render(config, request, cancel=cancel)
                    result = clip.result
                    made.append(Spoken(who.name, f"nfe{nfe}", sentence, clip.samples(), result.rtf, len(result.chunks)))
                    done += 1
                    progress(f"{who.name}: the model speaks at NFE {nfe}", done, total)
    return made


def _copies(natural: Iterable[Spoken], weights: Weights) -> list[Spoken]:
    """The synthesizer's clips through mel and vocoder, as an engine would turn the mel into sound."""
    from lab.engine.compat import prepare_imports

    prepare_imports()
    import torch

    from lab.engine.loading import vocoder_of

    vocoder: Any = vocoder_of(weights)
    copies = []
    for spoken in natural:
        with torch.inference_mode():
            samples = vocoder.decode(vocoder.feature_extractor(torch.from_numpy(spoken.samples)[None]))[0].numpy()
        length = min(len(samples), len(spoken.samples))
        copies.append(Spoken(spoken.speaker, COPY, spoken.sentence, samples[:length]))
    return copies


def judge(spoken: Sequence[Spoken], *, progress: Progress = ignore_progress, workers: int | None = None) -> dict[str, Any]:
    """What was heard, by speaker and source, and which demands are met; `workers` processes (as many as cores) listen. See the fields of `_row`."""
    count = workers or os.cpu_count() or 1
    with ProcessPoolExecutor(count) if count > 1 else nullcontext() as pool:
        each: Any = pool.map if pool else map
        heard: list[Heard] = []
        for index, one in enumerate(each(hear, [one.samples for one in spoken])):
            heard.append(one)
            progress("listening", index + 1, len(spoken))
        of = {(one.speaker, one.source, one.sentence): one.samples for one in spoken}
        alike: list[Likeness | None] = []
        for index, likely in enumerate(
            each(_likeness, [_with_its_models(of, one, hears) for one, hears in zip(spoken, heard, strict=True)])
        ):
            alike.append(likely)
            progress("comparing voices", index + 1, len(spoken))
    rows = []
    for speaker in dict.fromkeys(one.speaker for one in spoken):
        for source in dict.fromkeys(one.source for one in spoken):
            mine = [index for index, one in enumerate(spoken) if (one.speaker, one.source) == (speaker, source)]
            rows.append(_row(speaker, source, [(spoken[index], heard[index], alike[index]) for index in mine], of))
    return {"sentences": len({one.sentence for one in spoken}), "rows": rows, "demands": demands(rows)}


def _with_its_models(
    of: dict[tuple[str, str, Sentence], Samples], one: Spoken, heard: Heard
) -> tuple[Samples, Samples, Samples, float] | None:
    """A clip, the right and the other synthesizer's of the same sentence, and when its last word ends; None for a synthesizer's own."""
    if one.source == SYNTHESIZER:
        return None
    other = next(who.name for who in SPEAKERS if who.name != one.speaker)
    return one.samples, of[one.speaker, SYNTHESIZER, one.sentence], of[other, SYNTHESIZER, one.sentence], heard.end


def _likeness(clips: tuple[Samples, Samples, Samples, float] | None) -> Likeness | None:
    return likeness(*clips) if clips else None


def _row(speaker: str, source: str, found: list[tuple[Spoken, Heard, Likeness | None]], of: dict[Any, Samples]) -> dict[str, Any]:
    def errors(kind: str | None = None) -> WordErrors:
        mine = [(one.sentence.text, heard.text) for one, heard, _ in found if kind in (None, one.sentence.kind)]
        return word_errors([text for text, _ in mine], [text for _, text in mine])

    alike = [likely for _, _, likely in found if likely]
    rtfs = [(one.rtf, len(one.samples)) for one, _, _ in found if one.rtf is not None]
    whole = errors()
    row: dict[str, Any] = {
        "voice": speaker,
        "source": source,
        "words": whole.words,
        "wer": whole.rate,
        "first": whole.first,
        "rest": whole.rest,
        "kinds": {kind: errors(kind).rate for kind in dict.fromkeys(one.sentence.kind for one, _, _ in found)},
        "seconds": sum(len(one.samples) for one, _, _ in found) / SAMPLE_RATE,
        # of all clips together: a short text takes more of its own length, because the reference is rendered with it
        "rtf": sum(rtf * length for rtf, length in rtfs) / sum(length for _, length in rtfs) if rtfs else None,
        "most_chunks": max(one.chunks for one, _, _ in found),
        "heard": [heard.text for _, heard, _ in found],
    }
    if alike:
        after = [likely.after_db for likely in alike if likely.after_db is not None]
        silent = sum(likely.silent for likely in alike)
        row |= {
            "own_db": fmean(likely.own for likely in alike),
            "other_db": fmean(likely.other for likely in alike),
            "right_voice": fmean(likely.own < likely.other for likely in alike),
            "silence": sum(likely.quiet for likely in alike) / silent if silent else None,  # of all clips' frames
            "after_db": median(after) if after else None,
        }
    if source == COPY:
        pairs = [(one.samples, of[speaker, SYNTHESIZER, one.sentence]) for one, _, _ in found]
        row["lsd_db"] = fmean(log_spectral_distance(a[: len(b)], b[: len(a)]) for a, b in pairs)
    return row


def demands(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each thing that is asked of the voice, with its figure, its limit and whether it is met; only what was measured is asked."""
    by = {(row["voice"], row["source"]): row for row in rows}
    found: list[dict[str, Any]] = []

    def ask(what: str, voice: str, figure: float, limit: float, met: bool) -> None:
        found.append({"demand": what, "voice": voice, "figure": figure, "limit": limit, "met": met})

    for voice in dict.fromkeys(row["voice"] for row in rows):
        base = by[voice, SYNTHESIZER]
        for nfe, margin in MARGINS.items():
            if row := by.get((voice, f"nfe{nfe}")):
                limit = base["wer"] + margin
                ask(f"word error rate at NFE {nfe}", voice, row["wer"], limit, row["wer"] <= limit)
        if row := by.get((voice, "nfe32")):
            # as good as the rest: what the first two words have more than the rest is what the synthesizer's have more, within the margin
            more, base_more = row["first"] - row["rest"], base["first"] - base["rest"]
            ask("first two words against the rest at NFE 32", voice, more, base_more + 0.05, more <= base_more + 0.05)
            ask("clips nearer to the right voice at NFE 32", voice, row["right_voice"], 1.0, row["right_voice"] == 1.0)
            if row["silence"] is not None:
                ask("silence where the synthesizer is silent at NFE 32", voice, row["silence"], 0.9, row["silence"] >= 0.9)
            after = -99.0 if row["after_db"] is None else row["after_db"]  # nothing follows
            ask("level after the last word at NFE 32, dB", voice, after, -35.0, after <= -35.0)
        if (few := by.get((voice, "nfe4"))) and (row := by.get((voice, "nfe7"))):
            ask("word error rate at NFE 4 against 7", voice, few["wer"], row["wer"] + 0.05, few["wer"] >= row["wer"] + 0.05)
        if (row := by.get((voice, "nfe7"))) and row["rtf"] is not None:
            ask("real-time factor at NFE 7", voice, row["rtf"], MOST_RTF, row["rtf"] < MOST_RTF)
        if row := by.get((voice, COPY)):
            ask(
                "word error rate through the vocoder",
                voice,
                row["wer"],
                base["wer"] + COPY_MARGIN,
                abs(row["wer"] - base["wer"]) <= COPY_MARGIN,
            )
    return found
