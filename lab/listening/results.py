"""What a study found: a verdict for each comparison with its figures, and everything by which a reader can doubt it. One document for page and program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lab.listening import evidence, tables, tracks
from lab.listening.judgements import Judgement, judgements
from lab.listening.model import StoredSession, StoredStudy, StudyError
from lab.listening.scoring import Scored, ladder_of, score
from lab.listening.statistics.scales import holm
from lab.listening.verdicts import LEAST_RATINGS, SCALES, Decision, Finding, Sample, preferred, rated, told_apart

LOCKED = (
    "The results are locked while the study is open, because looking and then deciding when to stop finds differences that are not there. "
    "Close the study, or peek: then only figures that hold at any time are shown, from then on for good."
)
PEEKED = "Looked at before the study was over, so that only anytime-valid figures decide."
_SAID = {"different": "different", "equivalent": "equivalent within the margin", "undecided": "undecided"}


@dataclass(frozen=True)
class Compared:
    """One comparison with its finding."""

    name: str
    reference: str
    finding: Finding
    sample: Sample
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The verdict in words, with what limits it."""
        return " ".join([f"{self.name} against {self.reference}: {_SAID[self.finding.verdict]}: {self.finding.lead}.", *self.notes])


@dataclass(frozen=True)
class Results:
    """A study's results; `document` has all of them."""

    study: StoredStudy
    scored: Scored
    decision: Decision
    comparisons: tuple[Compared, ...]
    yardstick: Compared | None
    tracks: tuple[tracks.Track, ...]
    headline: str
    _document: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return dict(self._document)


def results(study: StoredStudy, sessions: Sequence[StoredSession], *, now: datetime, peek: bool = False) -> Results:
    """Judge a study.

    With `peek`, or if the study was peeked at while it was open, only anytime-valid figures decide and no p-values are shown.

    Raises:
        StudyError: the study is open, and `peek` is not set.
    """
    is_open = study.is_open(now)
    if is_open and not peek:
        raise StudyError(LOCKED)
    decision: Decision = "anytime" if peek or study.peeked_at is not None else "fixed"
    manifest, scored = study.manifest, score(study, sessions)
    found_tracks = _tracks(study, scored)
    compared = _staircase(study, scored, found_tracks, decision) if manifest.type == "staircase" else _compared(study, scored, decision)
    yardstick = _yardstick(study, scored, decision)
    compared = [_with_yardstick(one, yardstick) for one in compared]
    headline = _headline(study, scored, compared, decision)
    document = _document(study, sessions, scored, compared, yardstick, found_tracks, headline, decision, is_open=is_open)
    return Results(study, scored, decision, tuple(compared), yardstick, tuple(found_tracks), headline, document)


# ---- comparisons


def _judge(study: StoredStudy, sample: Sample, decision: Decision) -> Finding:
    manifest = study.manifest
    if manifest.type == "abx":
        return told_apart(sample, manifest.margin, decision)
    if manifest.type == "ab":
        return preferred(sample, manifest.margin, decision)
    unit = "answer" if manifest.type == "ccr" else "pair of ratings"
    return rated(sample, manifest.margin, decision, SCALES[manifest.type], unit=unit)


def _compared(study: StoredStudy, scored: Scored, decision: Decision) -> list[Compared]:
    made = []
    for config in study.manifest.configs[1:]:
        mine = [one for one in scored.judgements if one.comparison == config.name and one.role == "system"]
        made.append(_finished(study, config.name, mine, scored.judgements, decision))
    return made


def _yardstick(study: StoredStudy, scored: Scored, decision: Decision) -> Compared | None:
    """The reference against itself with another seed; None where the study has no such stimulus."""
    manifest = study.manifest
    if manifest.type == "staircase" or not any(clip.role == "other seed" for clip in manifest.stimuli):
        return None
    return _finished(study, "the reference with another seed", list(scored.yardsticks), scored.judgements, decision)


def _finished(study: StoredStudy, name: str, mine: list[Judgement], everything: Sequence[Judgement], decision: Decision) -> Compared:
    reference, notes = study.manifest.reference, []
    if study.manifest.type in ("acr", "mushra"):
        sample, by_text = tables.differences(everything, mine, reference)
        if not by_text and sample.values:
            notes.append("No listener rated both on one text: their means over different texts are compared.")
    else:
        sample = tables.sample_of(mine)
    finding = _judge(study, sample, decision)
    notes = [*finding.notes, *notes, *evidence.people_notes(sample)]
    if finding.verdict == "different":
        middle = finding.null
        for kind, label in evidence.carried_by(sample, lambda part: sum(part.values) / len(part.values) - middle if part.values else None):
            which = f"listener {label}" if kind == "listener" else f"the text {study.manifest.texts[label].id}"
            notes.append(f"It rests on {which} alone: without those answers two thirds of the difference or more are gone.")
    if decision == "anytime":
        notes.append(PEEKED)
    return Compared(name, reference, finding, sample, tuple(notes))


def _with_yardstick(one: Compared, yardstick: Compared | None) -> Compared:
    """Say so where the difference is smaller than what another seed makes, if there are answers enough to say it."""
    if yardstick is None or yardstick.finding.n < LEAST_RATINGS or one.finding.effect is None or yardstick.finding.effect is None:
        return one
    told = one.finding.bound is not None  # of abx only what is above chance is a difference
    mine, other = (effect if told else abs(effect) for effect in (one.finding.effect, yardstick.finding.effect))
    if other <= max(mine, 0.0):
        return one
    note = f"That is less than what another seed of the reference makes ({yardstick.finding.figure}, n = {yardstick.finding.n})."
    return Compared(one.name, one.reference, one.finding, one.sample, (*one.notes, note))


def _tracks(study: StoredStudy, scored: Scored) -> list[tracks.Track]:
    finished = {one.number: one.finished for one in scored.listeners}
    return tracks.read(scored.tracks, finished, ladder_of(study.manifest))


def _staircase(study: StoredStudy, scored: Scored, found: Sequence[tracks.Track], decision: Decision) -> list[Compared]:
    ladder = ladder_of(study.manifest)
    finding = tracks.judge(found, ladder, decision)
    sample = tables.sample_of(scored.judgements)
    few = {len(found)} & {1, 2}
    notes = [*finding.notes, *(f"Only {many} listener{'s' * (many != 1)}: nothing is known about others." for many in few)]
    return [Compared(f"NFE {ladder[0]} to {ladder[-1]}", study.manifest.reference, finding, sample, tuple(notes))]


def _headline(study: StoredStudy, scored: Scored, compared: Sequence[Compared], decision: Decision) -> str:
    """One sentence over everything."""
    dropped = sum(bool(one.dropped) for one in scored.listeners)
    if not scored.judgements:
        people = f"{len(scored.listeners)} listener{'s' * (len(scored.listeners) != 1)}"
        return f"No answer counts: {people}, {dropped} of them excluded." if dropped else "No answer yet."
    looked = " (anytime-valid figures only, because the study was looked at before it was over)" if decision == "anytime" else ""
    if len(compared) == 1:
        one = compared[0]
        return f"{one.name} against {one.reference}: {_SAID[one.finding.verdict]}: {one.finding.lead}{looked}."
    parts = []
    for verdict, said in _SAID.items():
        names = [_named(one) for one in compared if one.finding.verdict == verdict]
        if names:
            parts.append(f"{said}: {', '.join(names)}")
    return f"Against {study.manifest.reference}, {'; '.join(parts)}{looked}."


def _named(one: Compared) -> str:
    more = one.finding.more_trials
    return f"{one.name} (about {more:,} more)" if one.finding.verdict == "undecided" and more else one.name


# ---- the document


def _compared_row(one: Compared, p_holm: float | None) -> dict[str, Any]:
    found = one.finding
    return {
        "comparison": one.name,
        "reference": one.reference,
        "verdict": found.verdict,
        "sentence": one.sentence,
        "n": found.n,
        "listeners": len(set(one.sample.listeners)),
        "texts": len(set(one.sample.texts)),
        "estimate": tables.rounded(found.estimate),
        "interval": tables.ends(found.interval),
        "bound": tables.rounded(found.bound),
        "p_value": tables.rounded(found.p_value),
        "p_holm": tables.rounded(p_holm),
        "e_value": found.e_value,
        "more_trials": found.more_trials,
        "counts": found.counts,
        "notes": list(one.notes),
    }


def _document(
    study: StoredStudy,
    sessions: Sequence[StoredSession],
    scored: Scored,
    compared: Sequence[Compared],
    yardstick: Compared | None,
    found_tracks: Sequence[tracks.Track],
    headline: str,
    decision: Decision,
    *,
    is_open: bool,
) -> dict[str, Any]:
    manifest, kind = study.manifest, study.manifest.type
    judged = scored.judgements
    everybody = [one for session in sessions for one in judgements(manifest, session) if one.kind == "main"]
    rated_types = kind in ("acr", "mushra")
    listener_judged = [one for one in everybody if one.role == "system"] if rated_types else everybody
    return {
        "study": study.token,
        "title": manifest.title,
        "type": kind,
        "reference": manifest.reference,
        "margin": manifest.margin,
        "open": is_open,
        "peeked": decision == "anytime",
        "decision": decision,
        "listeners": {
            "all": len(scored.listeners),
            "counted": sum(not one.dropped for one in scored.listeners),
            "finished": sum(one.finished for one in scored.listeners),
        },
        "ratings": len({(one.listener, one.trial) for one in judged}),
        "headline": headline,
        "comparisons": [_compared_row(one, p) for one, p in zip(compared, holm([one.finding.p_value for one in compared]), strict=True)],
        "yardstick": _compared_row(yardstick, None) if yardstick else None,
        "running": {one.name: evidence.running(one.sample, kind) for one in compared} if kind != "staircase" else {},
        "order": None
        if kind not in tables.ORDERED
        else {
            "all": tables.order_row(judged, kind),
            "comparisons": {one.name: tables.order_row([each for each in judged if each.comparison == one.name], kind) for one in compared},
        },
        "position_bias": tables.position_row(judged, kind, decision),
        "catches": tables.catch_rows(scored),
        "headphones": {
            "passed": sum(one.headphones is True for one in scored.listeners),
            "failed": sum(one.headphones is False for one in scored.listeners),
            "not_taken": sum(one.headphones is None for one in scored.listeners),
        },
        "per_listener": tables.listener_rows(scored, listener_judged, kind, manifest.reference),
        "per_text": tables.text_rows(manifest, [(one.name, one.sample) for one in compared]),
        "ledger": [{"listener": row.listener, "trial": row.trial, "status": row.status, "reason": row.reason} for row in scored.ledger],
        "systems": tables.system_rows([*judged, *scored.yardsticks], manifest, SCALES[kind], decision) if rated_types else [],
        "bradley_terry": tables.strengths(judged, manifest.reference, decision) if kind == "ab" else None,
        "staircase": tracks.document(found_tracks, ladder_of(manifest)) if kind == "staircase" else None,
    }
