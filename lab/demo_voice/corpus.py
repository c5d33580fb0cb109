"""The corpus on disk: every utterance of every speaker as 16-bit samples, with its text.

A corpus folder holds `corpus.json` (what it was made from) and, per part, `NAME-NNNN.npy` (samples of all its utterances, int16 at 24 kHz, one after the
other) and `NAME-NNNN.json` (their texts, their pace, where each begins, and when it has which phone). Parts are written whole, so that a stopped build goes
on where it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.audio import SAMPLE_RATE
from lab.demo_voice.sentences import corpus_texts
from lab.demo_voice.sources import SOURCES
from lab.demo_voice.synthesizers import SPEAKERS, say, speaker
from lab.durable import write_whole
from lab.engine.process import Cancel, Progress, ignore_progress
from lab.errors import LabError

#: Utterances of one part.
PART = 200
#: Durations of the parts, by turns, 1 being the speaker's usual ones: the length that upstream plans for a text is rarely the natural one.
_PACES = (1.0, 1.2, 1.0, 1 / 1.2, 1.0, 1.1, 1.0, 1 / 1.1)
FORMAT = 3


class CorpusError(LabError):
    """There is no corpus in a folder, or not the one that was asked for."""


@dataclass(frozen=True)
class Part:
    """Utterances of one speaker, consecutive in one array.

    Attributes:
        pace: Its durations, 1 being the speaker's usual ones.
        samples: (total,) int16 at 24 kHz.
        starts: (n + 1,) where each utterance begins; the last is the end.
        phones: Of each utterance, in order, with spaces between.
        ends: Where each of its phones ends, in samples from its beginning.
    """

    speaker: str
    pace: float
    texts: list[str]
    samples: NDArray[np.int16]
    starts: NDArray[np.int64]
    phones: list[str]
    ends: list[list[int]]


def build(
    folder: Path,
    utterances: int,
    seed: int,
    *,
    workers: int,
    without: frozenset[str] = frozenset(),
    cancel: Cancel | None = None,
    progress: Progress = ignore_progress,
) -> dict[str, Any]:
    """Make a corpus of `utterances` of each speaker, in `workers` processes; parts that are there already are kept.

    Texts differ between speakers. Returns what `corpus.json` says.

    Raises:
        CorpusError: the folder has a corpus made with other settings.
        SourceError: a package is missing.
        Cancelled: `cancel` was set; what is done stays.
    """
    for source in SOURCES:
        source.file()
    settings = {"format": FORMAT, "utterances": utterances, "seed": seed, "speakers": [who.name for who in SPEAKERS], "paces": list(_PACES)}
    _claim(folder, settings)
    progress("writing the texts", 0, 0)
    total = len(SPEAKERS) * math.ceil(utterances / PART)
    with ProcessPoolExecutor(workers) as pool:
        try:
            waiting = []
            for job in _jobs(folder, utterances, seed, without):  # the first are spoken while the last are written
                if not job[0].with_suffix(".json").is_file():
                    waiting.append(pool.submit(_part, *job))
                if cancel:
                    cancel.check()
            for done, future in enumerate(as_completed(waiting), total - len(waiting) + 1):
                future.result()
                progress("speaking", done, total)
                if cancel:
                    cancel.check()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    whole = {**settings, **_whole(folder), "synthesizers": _versions()}
    write_whole(folder / "corpus.json", json.dumps(whole, indent=1).encode())
    return whole


def _jobs(folder: Path, utterances: int, seed: int, without: frozenset[str]) -> Iterator[tuple[Path, str, list[str], float]]:
    """What each part says and at which pace, the speakers by turns: a corpus can be read before it is whole."""
    texts = corpus_texts(seed, without=without)
    for number, start in enumerate(range(0, utterances, PART)):
        chunk = list(islice(texts, min(PART, utterances - start) * len(SPEAKERS)))
        for index, who in enumerate(SPEAKERS):
            yield folder / f"{who.name}-{number:04}", who.name, chunk[index :: len(SPEAKERS)], _PACES[number % len(_PACES)]


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (there := _settings(folder)):
        write_whole(folder / "corpus.json", json.dumps(settings, indent=1).encode())
    elif any(there.get(name) != value for name, value in settings.items()):
        raise CorpusError(f"{folder} has a corpus made with other settings. Choose another folder, or delete it first.")


def _part(path: Path, name: str, texts: list[str], pace: float) -> None:
    spoken = [(text, speech) for text, speech in zip(texts, say(speaker(name), texts, pace), strict=True) if speech is not None]
    starts = np.cumsum([0, *(len(speech.samples) for _, speech in spoken)])
    joined = np.concatenate([(speech.samples * 32767).astype(np.int16) for _, speech in spoken])
    buffer = io.BytesIO()
    np.save(buffer, joined)
    write_whole(path.with_suffix(".npy"), buffer.getvalue())
    digest = hashlib.sha256(joined.tobytes()).hexdigest()
    index = {
        "speaker": name,
        "pace": pace,
        "texts": [text for text, _ in spoken],
        "starts": starts.tolist(),
        "phones": [" ".join(speech.phones) for _, speech in spoken],
        "ends": [speech.ends for _, speech in spoken],
        "sha256": digest,
    }
    write_whole(path.with_suffix(".json"), json.dumps(index).encode())  # last: its name says that the part is whole


def parts(folder: Path, most: int = 0) -> Iterator[Part]:
    """The corpus, part by part, the speakers by turns; the first `most` of each speaker, 0 for all.

    Raises:
        CorpusError: there is none, or it is not there yet.
    """
    planned = parts_planned(folder, most)
    if (there := parts_there(folder)) < (most or planned):
        raise CorpusError(f"{folder} has {there} parts of every voice as yet, not {most or planned}. Let the corpus be finished first.")
    for number in range(most or planned):
        yield from part(folder, number)


def part(folder: Path, number: int) -> Iterator[Part]:
    """What each speaker says in the part of that number, which has to be there."""
    for file in _indexes(folder, _speakers(folder), number):
        index = json.loads(file.read_text())
        samples = np.load(file.with_suffix(".npy"), mmap_mode="r")
        starts = np.asarray(index["starts"], np.int64)
        yield Part(index["speaker"], index["pace"], index["texts"], samples, starts, index["phones"], index["ends"])


def parts_there(folder: Path) -> int:
    """So many parts, from the first on, are there of every speaker; 0 where there is no corpus."""
    names = _speakers(folder)
    number = 0
    while names and all(file.is_file() for file in _indexes(folder, names, number)):
        number += 1
    return number


def has_parts(folder: Path, most: int) -> bool:
    """Whether the first `most` parts of every speaker are there."""
    return parts_there(folder) >= most


def _speakers(folder: Path) -> list[str]:
    """The names of a corpus' speakers; none where there is no corpus."""
    return list(_settings(folder).get("speakers", []))


def _indexes(folder: Path, names: list[str], number: int) -> list[Path]:
    """The file of each speaker that says that a part is whole, and what is in it."""
    return [folder / f"{name}-{number:04}.json" for name in names]


def parts_planned(folder: Path, most: int = 0) -> int:
    """So many parts of every speaker there will be when the corpus is whole.

    Raises:
        CorpusError: there is no corpus, or there will never be `most` parts.
    """
    planned = math.ceil(int(_settings(folder).get("utterances", 0)) / PART)
    if not planned:
        raise CorpusError(f"{folder} has no corpus. Make one with: python -m lab demo-voice corpus {folder}")
    if most > planned:
        raise CorpusError(f"{folder} has {planned} parts of every voice, not {most}. Ask for fewer with --parts, or make a larger corpus.")
    return planned


def described(folder: Path) -> dict[str, Any]:
    """What `corpus.json` says of a corpus that is whole.

    Raises:
        CorpusError: it is not whole, or there is none.
    """
    if "sha256" not in (said := _settings(folder)):
        raise CorpusError(f"{folder} has no whole corpus. Make or finish it with: python -m lab demo-voice corpus {folder}")
    return said


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / "corpus.json"
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def _whole(folder: Path) -> dict[str, Any]:
    """Digest over all texts and samples (the same sources, synthesizers and seed give the same), and hours of speech."""
    total, samples, names = hashlib.sha256(), 0, _speakers(folder)
    for number in range(parts_there(folder)):
        for file in _indexes(folder, names, number):
            index = json.loads(file.read_text())
            total.update("\n".join([*index["texts"], index["sha256"]]).encode())
            samples += index["starts"][-1]
    return {"sha256": total.hexdigest(), "hours": round(samples / SAMPLE_RATE / 3600, 3)}


def _versions() -> str:
    """The installed versions of the packages, as dpkg knows them; empty where it knows none of them."""
    listed = subprocess.run(
        ["dpkg-query", "--show", *(source.package for source in SOURCES)], capture_output=True, text=True, check=False
    ).stdout
    return ", ".join(re.sub(r"\s+", " ", line) for line in listed.splitlines())
