"""Which answers of a study count, and for what: the catches, the exclusions, and the ledger that gives the reason of each. Knows nothing of verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lab.listening.judgements import Catch, Judgement, catches, judgements, rated_trials
from lab.listening.model import Kind, Manifest, StoredSession, StoredStudy
from lab.listening.staircase import LADDER, next_level
from lab.listening.statistics.screening import BAD_ITEMS, GOOD, screen

LEAST_CATCHES = 2  # fewer say nothing about a listener

Status = Literal["excluded", "counted apart", "kept", "unavailable"]


@dataclass(frozen=True)
class LedgerRow:
    """Why a session (`trial` None) or a trial is not counted, or is counted although one might ask."""

    listener: int
    trial: int | None
    status: Status
    reason: str


@dataclass(frozen=True)
class Listener:
    """A session as a whole."""

    number: int  # from 1
    finished: bool
    headphones: bool | None  # passed the check; None: did not take it
    minutes: float  # that trials took
    dropped: str = ""  # the reason, if its answers do not count


@dataclass(frozen=True)
class Scored:
    """All answers of a study, sorted by what they are for."""

    listeners: tuple[Listener, ...]
    judgements: tuple[Judgement, ...]  # that count, in the order in which they were given
    yardsticks: tuple[Judgement, ...]  # reference against itself with another seed
    catches: tuple[Catch, ...]  # of every listener, those dropped too
    ledger: tuple[LedgerRow, ...]
    tracks: dict[int, tuple[tuple[int, bool], ...]] = field(default_factory=dict)  # of a staircase: listener -> (level, right?)


def ladder_of(manifest: Manifest) -> tuple[int, ...]:
    """The levels of a staircase, the hardest first: the lab's ladder, unless the study has levels of its own."""
    levels = {unit.level for unit in manifest.units if unit.kind == "main"}
    return LADDER if levels <= set(LADDER) else tuple(sorted(levels, reverse=True))


def score(study: StoredStudy, sessions: Sequence[StoredSession]) -> Scored:
    """Sort and sign-correct all answers of `sessions`, and decide which listeners do not count.

    Dropped are listeners without an answer that counts, those who failed more than half of at least two catches with the 3.5 kHz anchor, and in `mushra`
    those whom the post-screening of BS.1534-3 drops. Sessions that were not finished are kept. Pairs of identical clips never drop anybody.
    """
    manifest = study.manifest
    judged = [one for session in sessions for one in judgements(manifest, session)]
    caught = [one for session in sessions for one in catches(manifest, session, judged)]
    ledger: list[LedgerRow] = []
    dropped: dict[int, str] = {}
    for session in sessions:
        rows = _trial_rows(session) if manifest.type != "mushra" else [row for row in _trial_rows(session) if row.status == "excluded"]
        ledger += rows
        if not any(one.listener == session.number + 1 and one.kind == "main" for one in judged):
            dropped[session.number + 1] = "no answer that counts"
    for row in _screened(judged, dropped, manifest.reference) if manifest.type == "mushra" else _failed(sessions, caught, dropped):
        ledger.append(row)
        if row.status == "excluded":
            dropped[row.listener] = "; ".join(filter(None, [dropped.get(row.listener, ""), row.reason]))
    ledger += [LedgerRow(number, None, "excluded", reason) for number, reason in dropped.items() if reason == "no answer that counts"]
    listeners = tuple(_listener(manifest, session, dropped.get(session.number + 1, "")) for session in sessions)
    ledger += [
        LedgerRow(one.number, None, "kept", "did not answer all trials; the answers that were given count")
        for one in listeners
        if not one.finished and not one.dropped
    ]
    ledger.sort(key=lambda row: (row.listener, -1 if row.trial is None else row.trial))
    counted = sorted((one for one in judged if one.listener not in dropped), key=lambda one: (one.at, one.listener, one.trial))
    return Scored(
        listeners=listeners,
        judgements=tuple(one for one in counted if one.kind == "main"),
        yardsticks=tuple(one for one in counted if one.kind == "yardstick"),
        catches=tuple(caught),
        ledger=tuple(ledger),
        tracks=_tracks(counted) if manifest.type == "staircase" else {},
    )


def _tracks(counted: Sequence[Judgement]) -> dict[int, tuple[tuple[int, bool], ...]]:
    made: dict[int, list[tuple[int, bool]]] = {}
    for one in sorted(counted, key=lambda one: (one.listener, one.trial)):
        if one.kind == "main":
            made.setdefault(one.listener, []).append((one.level, one.value == 1))
    return {listener: tuple(track) for listener, track in made.items()}


def _failed(sessions: Sequence[StoredSession], caught: Sequence[Catch], dropped: dict[int, str]) -> Iterator[LedgerRow]:
    for session in sessions:
        number = session.number + 1
        told = [one.passed for one in caught if one.listener == number and one.expects == "a" and one.passed is not None]
        failed = told.count(False)
        if len(told) < LEAST_CATCHES:
            if number not in dropped:
                yield LedgerRow(
                    number, None, "unavailable", f"the check by 3.5 kHz catches needs {LEAST_CATCHES}, and {len(told)} can be judged"
                )
        elif 2 * failed > len(told):
            yield LedgerRow(number, None, "excluded", f"failed {failed} of {len(told)} catches with the 3.5 kHz anchor, more than half")


def _screened(judged: Sequence[Judgement], dropped: dict[int, str], reference: str) -> Iterator[LedgerRow]:
    """BS.1534-3; items are units."""
    hidden: dict[str, dict[Any, float]] = {}
    middle: dict[str, dict[Any, float]] = {}
    for one in judged:
        if one.kind != "main" or one.listener in dropped:
            continue
        for scores in (hidden, middle):
            scores.setdefault(str(one.listener), {})
        if one.role == "system" and one.comparison == reference:
            hidden[str(one.listener)][one.unit] = one.value
        elif one.role == "anchor 7 kHz":
            middle[str(one.listener)][one.unit] = one.value
    for found in screen(hidden, middle):
        words = "hidden reference under" if found.rule == "hidden reference" else "7 kHz anchor over"
        if not found.available:
            yield LedgerRow(int(found.listener), None, "unavailable", f"post-screening by the {found.rule}: nothing to judge by")
        elif found.dropped:
            said = f"{words} {GOOD} on {found.bad} of {found.items} items, more than {BAD_ITEMS} % (BS.1534-3)"
            yield LedgerRow(int(found.listener), None, "excluded", said)


# ---- sessions


def _trial_rows(session: StoredSession) -> list[LedgerRow]:
    reasons: dict[Kind, tuple[Status, str]] = {
        "practice": ("excluded", "practice"),
        "catch": ("counted apart", "catch trial"),
        "yardstick": ("counted apart", "yardstick: the reference against itself with another seed"),
    }
    return [
        LedgerRow(session.number + 1, trial.number, *reasons[trial.presentation.kind])
        for trial, _ in rated_trials(session)
        if trial.presentation.kind in reasons
    ]


def _listener(manifest: Manifest, session: StoredSession, dropped: str) -> Listener:
    checks = [value for kind, value, _ in session.events if kind == "headphones"]
    passed = bool(checks[-1]["passed"]) if checks and isinstance(checks[-1], dict) and "passed" in checks[-1] else None
    finished = bool(session.trials) and all(trial.rating is not None for trial in session.trials)
    if finished and manifest.type == "staircase":
        track = [(one.level, one.value == 1) for one in judgements(manifest, session) if one.kind == "main"]
        finished = next_level(track, ladder_of(manifest), most=manifest.trials) is None
    minutes = sum(rating.seconds for _, rating in rated_trials(session)) / 60
    return Listener(session.number + 1, finished, passed, minutes, dropped)
