"""What each answer says, once sides and orders are undone. Which answers count is decided in `lab.listening.scoring`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

import pandas as pd

from lab.listening.model import Kind, Manifest, Role, StoredRating, StoredSession, StoredTrial

Order = Literal["reference first", "comparison first", ""]


@dataclass(frozen=True)
class Judgement:
    """One answer about one comparison or one clip.

    `value`: ab 1 prefers the comparison, 0 the reference, 0.5 neither; abx and staircase 1 right, 0 wrong; ccr -3…3, the comparison against the
    reference, whichever side it was on; acr and mushra the rating of the clip. `first`: 1 where the first side was favoured (ab, ccr) or "A" was answered
    (abx, staircase), 0 where the other was, 0.5 for neither; None where there are no sides.
    """

    listener: int  # from 1, in the order of arrival
    trial: int
    text: int
    unit: int
    kind: Kind
    comparison: str  # a configuration; of acr and mushra that of the clip
    role: Role
    order: Order
    value: float
    first: float | None
    level: int
    at: datetime


@dataclass(frozen=True)
class Catch:
    """A catch trial's answer. `passed` is None where it cannot be told; of a pair of identical clips it says whether "the same" was answered."""

    listener: int
    trial: int
    expects: str  # "same" or "a"
    passed: bool | None
    first: float | None


def frame(judgements: Iterable[Judgement]) -> pd.DataFrame:
    """Judgements as a tidy table, one row each."""
    columns = list(Judgement.__dataclass_fields__)
    return pd.DataFrame([asdict(one) for one in judgements], columns=columns)


# ---- answers


def rated_trials(session: StoredSession) -> Iterator[tuple[StoredTrial, StoredRating]]:
    """The trials of a session that are answered, with their answers."""
    for trial in session.trials:
        if trial.rating is not None:
            yield trial, trial.rating


def judgements(manifest: Manifest, session: StoredSession) -> Iterator[Judgement]:
    """The judgements in a session's answers; those of practice and of catches are left out."""
    for trial, rating in rated_trials(session):
        if trial.presentation.kind in ("practice", "catch"):
            continue
        if manifest.type in ("acr", "mushra"):
            yield from _ratings(manifest, session, trial, rating)
        else:
            yield _comparison(manifest, session, trial, rating)


def _comparison(manifest: Manifest, session: StoredSession, trial: StoredTrial, rating: StoredRating) -> Judgement:
    shown = trial.presentation
    unit = manifest.units[shown.unit]
    value, first = _read(manifest, trial, rating)
    return Judgement(
        listener=session.number + 1,
        trial=trial.number,
        text=unit.text,
        unit=shown.unit,
        kind=shown.kind,
        comparison=unit.comparison or manifest.stimuli[unit.stimuli[1]].config,
        role=manifest.stimuli[unit.stimuli[1]].role,
        order="reference first" if shown.slots[0] == unit.stimuli[0] else "comparison first",
        value=value,
        first=first,
        level=unit.level,
        at=rating.created_at,
    )


def _read(manifest: Manifest, trial: StoredTrial, rating: StoredRating) -> tuple[float, float | None]:
    """What an answer to a pair says of side b, and of the first side; see `Judgement`."""
    shown, answer = trial.presentation, rating.answer
    straight = shown.slots[0] == manifest.units[shown.unit].stimuli[0]  # A is side a
    if manifest.type == "ccr":
        points = float(answer) if isinstance(answer, int) else 0.0
        return points if straight else -points, 0.5 if points == 0 else float(points < 0)
    if manifest.type == "ab":
        if answer == "none":
            return 0.5, 0.5
        return float((answer == "B") == straight), float(answer == "A")
    return float(answer == shown.x), float(answer == "A")


def _ratings(manifest: Manifest, session: StoredSession, trial: StoredTrial, rating: StoredRating) -> Iterator[Judgement]:
    shown, unit = trial.presentation, manifest.units[trial.presentation.unit]
    for label, slot in zip(shown.labels, shown.slots, strict=True):
        if label == "Reference":
            continue
        clip = manifest.stimuli[slot]
        value = float(rating.answer[label] if isinstance(rating.answer, dict) else rating.answer)
        yield Judgement(
            listener=session.number + 1,
            trial=trial.number,
            text=unit.text,
            unit=shown.unit,
            kind="yardstick" if clip.role == "other seed" else shown.kind,
            comparison=clip.config,
            role=clip.role,
            order="",
            value=value,
            first=None,
            level=0,
            at=rating.created_at,
        )


# ---- catches


def catches(manifest: Manifest, session: StoredSession, judged: Sequence[Judgement]) -> Iterator[Catch]:
    """The answers to a session's catches; `judged` are all judgements, with which a rated anchor is compared.

    The anchor is recognised when side a is preferred (ab), b is the worse (ccr), X is told (abx, staircase), or the anchor is rated lower than what the
    listener gave the reference of the same text, or where there is none, the reference on average (acr).
    """
    mine = [one for one in judged if one.listener == session.number + 1 and one.role == "system" and one.comparison == manifest.reference]
    for trial, rating in rated_trials(session):
        if trial.presentation.kind != "catch":
            continue
        unit = manifest.units[trial.presentation.unit]
        if manifest.type == "acr":
            like = [one.value for one in mine if one.text == unit.text] or [one.value for one in mine]
            passed = rating.answer < sum(like) / len(like) if like and isinstance(rating.answer, int) else None
            yield Catch(session.number + 1, trial.number, unit.expects, passed, None)
            continue
        value, first = _read(manifest, trial, rating)
        if unit.expects == "same":
            same = {"ab": value == 0.5, "ccr": value == 0}.get(manifest.type)
            yield Catch(session.number + 1, trial.number, "same", same, first)
        else:
            worse = {"ab": value == 0, "ccr": value < 0}.get(manifest.type, value == 1)
            yield Catch(session.number + 1, trial.number, unit.expects, worse, first)
