"""The corpus on disk: every utterance of every speaker as 16-bit samples, with its text.

A corpus folder holds `corpus.json` (what it was made from) and, per part, `NAME-NNNN.npy` (samples of all its utterances, int16 at 24 kHz, one after the
other) and `NAME-NNNN.json` (their texts, and where each begins). Parts are written whole, so that a stopped build goes on where it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import random
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
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
#: Half of the utterances are faster or slower than usual, by up to this factor: the length that upstream plans for a text is rarely the natural one.
_PACE = 1.2
FORMAT = 1


class CorpusError(LabError):
    """There is no corpus in a folder, or not the one that was asked for."""


@dataclass(frozen=True)
class Part:
    """Utterances of one speaker, consecutive in one array.

    Attributes:
        samples: (total,) int16 at 24 kHz.
        starts: (n + 1,) where each utterance begins; the last is the end.
    """

    speaker: str
    texts: list[str]
    samples: NDArray[np.int16]
    starts: NDArray[np.int64]


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
    settings = {"format": FORMAT, "utterances": utterances, "seed": seed, "speakers": [who.name for who in SPEAKERS], "pace": _PACE}
    _claim(folder, settings)
    progress("writing the texts", 0, 0)
    texts = corpus_texts(utterances * len(SPEAKERS), seed, without=without)
    jobs: list[tuple[Path, str, list[str], list[float]]] = []
    for index, who in enumerate(SPEAKERS):
        mine, draw = texts[index :: len(SPEAKERS)], random.Random(f"paces {seed} {who.name}")
        paces = [math.exp(draw.uniform(-1, 1) * math.log(_PACE)) if draw.random() < 0.5 else 1.0 for _ in mine]
        for number, start in enumerate(range(0, len(mine), PART)):
            part = slice(start, start + PART)
            jobs.append((folder / f"{who.name}-{number:04}", who.name, mine[part], paces[part]))
    jobs.sort(key=lambda job: job[0].name.rpartition("-")[2])  # the speakers by turns: a corpus can be read before it is whole
    todo = [job for job in jobs if not job[0].with_suffix(".json").is_file()]
    done = len(jobs) - len(todo)
    with ProcessPoolExecutor(workers) as pool:
        waiting = [pool.submit(_part, *job) for job in todo]
        try:
            for future in as_completed(waiting):
                future.result()
                done += 1
                progress("speaking", done, len(jobs))
                if cancel:
                    cancel.check()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    described = {**settings, "sha256": digest(folder), "hours": round(_hours(folder), 3), "synthesizers": _versions()}
    write_whole(folder / "corpus.json", json.dumps(described, indent=1).encode())
    return described


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "corpus.json"
    if file.is_file():
        there = json.loads(file.read_text())
        if any(there.get(name) != value for name, value in settings.items()):
            raise CorpusError(f"{folder} has a corpus made with other settings. Choose another folder, or delete it first.")
    else:
        write_whole(file, json.dumps(settings, indent=1).encode())


def _part(path: Path, name: str, texts: list[str], paces: list[float]) -> None:
    spoken = [(text, samples) for text, samples in zip(texts, say(speaker(name), texts, paces), strict=True) if samples is not None]
    starts = np.cumsum([0, *(len(samples) for _, samples in spoken)])
    joined = np.concatenate([(samples * 32767).astype(np.int16) for _, samples in spoken])
    buffer = io.BytesIO()
    np.save(buffer, joined)
    write_whole(path.with_suffix(".npy"), buffer.getvalue())
    index = {"speaker": name, "texts": [text for text, _ in spoken], "starts": starts.tolist()}
    write_whole(path.with_suffix(".json"), json.dumps(index).encode())  # last: its name says that the part is whole


def parts(folder: Path, most: int = 0) -> Iterator[Part]:
    """The corpus, part by part, in the order of their names; the first `most` of each speaker, 0 for all.

    Raises:
        CorpusError: there is none, or not as much.
    """
    files = sorted(file for file in folder.glob("*-*.json"))
    if not files:
        raise CorpusError(f"{folder} has no corpus. Make one with: python -m lab demo-voice corpus {folder}")
    if most:
        files = [file for file in files if int(file.stem.rpartition("-")[2]) < most]
        if len(files) != most * len({file.stem.rpartition("-")[0] for file in files}):
            raise CorpusError(f"{folder} does not have the first {most} parts of every voice. Let it grow, or ask for fewer with --parts.")
    for file in files:
        index = json.loads(file.read_text())
        samples = np.load(file.with_suffix(".npy"), mmap_mode="r")
        yield Part(index["speaker"], index["texts"], samples, np.asarray(index["starts"], np.int64))


def digest(folder: Path) -> str:
    """SHA-256 over all texts and samples: the same sources, synthesizers and seed give the same."""
    total = hashlib.sha256()
    for part in parts(folder):
        total.update("\n".join(part.texts).encode())
        total.update(np.ascontiguousarray(part.samples).tobytes())
    return total.hexdigest()


def _hours(folder: Path) -> float:
    return sum(int(part.starts[-1]) for part in parts(folder)) / SAMPLE_RATE / 3600


def _versions() -> str:
    """The installed versions of the packages, as dpkg knows them; empty where it knows none of them."""
    listed = subprocess.run(
        ["dpkg-query", "--show", *(source.package for source in SOURCES)], capture_output=True, text=True, check=False
    ).stdout
    return ", ".join(re.sub(r"\s+", " ", line) for line in listed.splitlines())
