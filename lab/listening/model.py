"""What a study is: its frozen manifest, the questions it asks, and what is kept of every answer. Plain data, checked when it is read back.

A *study* is a listening test. Its *manifest* says which stimuli (audio under its SHA-256) stand in which *units* (questions that can be asked). One
listener's pass is a *session*; a unit that was put to a listener, with its sides and its order, is a *trial*; its answer is a *rating*.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from lab.errors import LabError

TestType = Literal["ab", "abx", "acr", "ccr", "mushra", "staircase"]
Kind = Literal["practice", "main", "catch", "yardstick"]
Role = Literal["system", "other seed", "anchor 3.5 kHz", "anchor 7 kHz"]
TYPES: tuple[TestType, ...] = get_args(TestType)
PAIRED: tuple[TestType, ...] = ("ab", "abx", "ccr")  # their comparisons are of two stimuli

#: What a study of each type calls a difference that does not matter, unless its maker says otherwise: a share of answers, or points of its scale.
MARGINS: dict[TestType, float] = {"ab": 0.7, "abx": 0.7, "acr": 0.5, "ccr": 0.5, "mushra": 10.0, "staircase": 0.0}


class StudyError(LabError):
    """A study cannot be made, opened or rated as asked."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(_Frozen):
    """A sentence of the study."""

    id: str
    text: str


class ConfigFacts(_Frozen):
    """An engine configuration as it was when the clips were rendered."""

    name: str
    digest: str
    settings: dict[str, Any]
    summary: str = ""


class Stimulus(_Frozen):
    """One piece of audio as listeners hear it."""

    sha256: str  # of the stored WAV, the gain applied: the bytes that are heard
    config: str  # name of the configuration that rendered it (of an anchor: that it was made from)
    role: Role
    text: int  # place in `Manifest.texts`
    seed: int
    source_sha256: str  # of the rendered samples, before filter and gain
    gain_db: float
    lufs: float | None  # integrated loudness before the gain (BS.1770-4); None below 0.4 s, where it is undefined
    peak_dbfs: float  # after the gain
    seconds: float


def clip_name(config: str, role: Role) -> str:
    """What a clip is called where clips are listed: its configuration, and what was done to it if it is no system of its own."""
    return config if role == "system" else f"{config} ({role})"


class Unit(_Frozen):
    """A question that can be asked.

    `stimuli` are places in `Manifest.stimuli`: (a, b) for `ab`, `abx` and `ccr`, a being the reference side; (clip,) for `acr`; (reference, rated…) for
    `mushra`, the rated ones including the reference once more; (reference, level) for `staircase`.
    """

    kind: Kind
    text: int
    stimuli: tuple[int, ...]
    comparison: str = ""  # which configuration is held against the reference; "" where the unit has none (acr, mushra, catches)
    expects: Literal["", "same", "a"] = ""  # of a catch: both sound the same, or side a is plainly the better (or can be told) one
    level: int = 0  # NFE of a staircase's unit


class Manifest(_Frozen):
    """Everything that a study is, fixed when it is made."""

    version: Literal[1] = 1
    type: TestType
    title: str
    created_at: datetime
    margin: float
    trials: int  # that count, per listener; practice, catches and yardsticks come on top
    configs: tuple[ConfigFacts, ...]  # the first is the reference
    texts: tuple[Text, ...]
    stimuli: tuple[Stimulus, ...]
    units: tuple[Unit, ...]
    gate: dict[str, Any]  # what `lab.listening.stimuli` found, as JSON
    voice: str
    weights: str
    device: str
    seed: int
    other_seed: int
    versions: dict[str, str]
    thanks: bool = True  # listeners may see their own results after they have finished

    @property
    def reference(self) -> str:
        """Name of the configuration that the others are compared with."""
        return self.configs[0].name

    def text_json(self) -> str:
        """The manifest as ASCII JSON, the same text each time: what is stored and hashed."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


class Presentation(_Frozen):
    """A unit as one listener gets it: `slots` are places in `Manifest.stimuli`, shown under `labels`, in that order."""

    unit: int  # place in `Manifest.units`
    kind: Kind
    labels: tuple[str, ...]  # "A", "B", "X"; "Reference", "A", …; "1"
    slots: tuple[int, ...]
    x: str = ""  # abx and staircase: the label whose clip X is


Answer = str | int | dict[str, int]
"""As it was given, under the labels that were shown: ab "A", "B" or "none"; abx and staircase "A" or "B"; acr 1…5; ccr -3…3, of B against A;
mushra {label: 0…100} for every label but Reference."""


@dataclass(frozen=True)
class StoredStudy:
    """A study as the store has it."""

    token: str
    manifest: Manifest
    manifest_sha256: str
    secret: str  # hex; signs what its listeners' browsers are handed
    open_until: datetime | None
    closed_at: datetime | None
    peeked_at: datetime | None  # when somebody first looked at ratings of the open study

    def is_open(self, now: datetime) -> bool:
        """Whether it takes ratings."""
        return self.closed_at is None and (self.open_until is None or now < self.open_until)


@dataclass(frozen=True)
class StoredRating:
    """The answer that stands for a trial (one that was corrected supersedes those before it, which are kept)."""

    answer: Answer
    heard: dict[str, float]  # label -> seconds that it sounded, as the browser said
    seconds: float  # from the trial's delivery to the answer, by the server's clock
    comment: str
    revision: int  # 0, or how many answers of this trial it has superseded
    created_at: datetime


@dataclass(frozen=True)
class StoredTrial:
    """A trial of a session, and its answer."""

    number: int  # from 0, in the order of presentation
    presentation: Presentation
    rating: StoredRating | None = None


@dataclass(frozen=True)
class StoredSession:
    """One listener's pass."""

    token: str
    study: str  # token of the study
    number: int  # from 0, in the order of arrival: what orders and sides are balanced over
    created_at: datetime
    trials: tuple[StoredTrial, ...] = ()
    events: tuple[tuple[str, Any, datetime], ...] = field(default=())  # ("headphones", {...}, when), ("volume", …), ("finished", …)
