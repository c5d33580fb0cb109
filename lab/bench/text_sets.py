"""What a benchmark reads aloud: sets of texts of one length in the voice of the run. Knows nothing about engines."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab import texts
from lab.errors import LabError

TEXTS_FILE = Path(__file__).resolve().parents[1] / "data" / "bench_texts.toml"
#: Seconds of speech that the texts of a set come close to.
TARGETS = {"short": 3.0, "medium": 8.0, "long": 25.0}
#: The example sentence in the style of the one that iShowTTS timed its optimisations with.
EXTENDED = "ishowtts-extended"
SETS = (*TARGETS, "extended", "mixed")
_A_SET = 2  # texts of a set: one alone could be an odd one out


@dataclass(frozen=True)
class BenchText:
    """One text of a benchmark, and the set it was chosen for."""

    id: str
    set: str
    text: str
    estimated_seconds: float


@cache
def _pool() -> dict[str, str]:
    """All texts that can be named, by id: the benchmark's own, and the example sentences."""
    with TEXTS_FILE.open("rb") as file:
        own = {entry["id"]: entry["text"] for entry in tomllib.load(file)["text"]}
    return own | {sentence.id: sentence.text for sentence in texts.sentences()}


@cache
def _own() -> tuple[str, ...]:
    with TEXTS_FILE.open("rb") as file:
        return tuple(entry["id"] for entry in tomllib.load(file)["text"])


def choose_texts(names: str, voice_seconds: float, transcript: str) -> tuple[BenchText, ...]:
    """Read `names` (sets or ids of texts, separated by commas) and choose the texts for a voice of `voice_seconds` with `transcript`.

    `short`, `medium` and `long` take the two texts whose estimated length comes closest to 3, 8 and 25 s; `extended` is one sentence; `mixed` is all of
    them, read in turn. A single text is a set of its own name.

    Raises:
        LabError: a name is unknown or stands there twice; the message lists what there is.
    """
    wanted = [part.strip() for part in names.split(",") if part.strip()]
    if not wanted:
        raise LabError(f"Choose texts: {', '.join(SETS)}, or the id of a text.")
    twice = next((name for name in wanted if wanted.count(name) > 1), None)
    if twice:
        raise LabError(f"{twice} is named twice among the texts.")

    def made(text_id: str, set_name: str) -> BenchText:
        text = _pool()[text_id]
        return BenchText(text_id, set_name, text, round(texts.estimate_seconds(text, voice_seconds, transcript), 2))

    def nearest(seconds: float) -> list[str]:
        def distance(text_id: str) -> float:
            return abs(math.log(texts.estimate_seconds(_pool()[text_id], voice_seconds, transcript) / seconds))

        return sorted(_own(), key=distance)[:_A_SET]

    chosen: list[BenchText] = []
    for name in wanted:
        if name in TARGETS:
            chosen += [made(text_id, name) for text_id in nearest(TARGETS[name])]
        elif name == "extended":
            chosen.append(made(EXTENDED, name))
        elif name == "mixed":
            ids = [text_id for seconds in TARGETS.values() for text_id in nearest(seconds)]
            chosen += [made(text_id, name) for text_id in (*dict.fromkeys(ids), EXTENDED)]
        elif name in _pool():
            chosen.append(made(name, name))
        else:
            raise LabError(f"There is no text or set {name[:60]!r}. Sets are {', '.join(SETS)}; texts are {', '.join(_pool())}.")
    return tuple(chosen)
