"""Ratings as rows for other programs: CSV, or JSON with the manifest. Decides nothing: neither which answers count nor who may see them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.durable import write_whole
from lab.listening.judgements import catches, judgements, rated_trials
from lab.listening.model import Manifest, Role, StoredRating, StoredSession, StoredStudy, StoredTrial, StudyError, clip_name

#: What stands in a row.
COLUMNS: dict[str, str] = {
    "listener": "number of the listener, from 1, in the order of arrival",
    "trial": "number of the trial, from 0, in the order in which the listener got it",
    "kind": "practice (never counted), main, catch, yardstick",
    "text": "id of the sentence",
    "comparison": "configuration that is held against the reference; of acr and mushra the one that is rated",
    "role": "of that clip: system, other seed, anchor 3.5 kHz, anchor 7 kHz",
    "level": "NFE of a staircase's trial",
    "expects": "of a catch: same, or a (side a is plainly the better one, or can be told)",
    "shown": "what stood under which label, in the order that was shown",
    "order": "reference first or comparison first",
    "x": "the label whose clip X was",
    "answer": "as it was given",
    "value": "sign-corrected: ab 1 comparison, 0 reference, 0.5 neither; abx and staircase 1 right, 0 wrong; ccr -3 to 3 for the comparison; acr, mushra",
    "passed": "of a catch: whether it was answered as expected",
    "seconds": "from the trial's delivery to the answer",
    "heard": "seconds that each label sounded",
    "comment": "what the listener wrote",
    "revision": "how many answers of this trial were corrected before",
    "answered_at": "UTC",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def check_name(out: Path) -> None:
    """Raise `StudyError` unless the file's name says which form it is to have."""
    if out.suffix.lower() not in (".csv", ".json"):
        raise StudyError(f"{out} has to end in .csv or .json.")


def rows(study: StoredStudy, sessions: Sequence[StoredSession]) -> list[dict[str, Any]]:
    """A row for every rating that stands, with the keys of `COLUMNS`; of a mushra trial one for each clip that was rated."""
    return [row for session in sessions for row in _session_rows(study.manifest, session)]


def write(study: StoredStudy, sessions: Sequence[StoredSession], out: Path) -> int:
    """Write the rows to `out` (.csv or .json), whole or not at all; returns how many there are.

    Listeners' words begin with ' in the CSV where a spreadsheet would take them for a formula; the JSON has them exactly, and the manifest beside them.

    Raises:
        StudyError: the name ends in neither.
        OSError: the file cannot be written.
    """
    check_name(out)
    found = rows(study, sessions)
    if out.suffix.lower() == ".json":
        document = {
            "study": study.token,
            "manifest_sha256": study.manifest_sha256,
            "manifest": study.manifest.model_dump(mode="json"),
            "closed_at": study.closed_at and study.closed_at.isoformat(),
            "peeked_at": study.peeked_at and study.peeked_at.isoformat(),
            "columns": COLUMNS,
            "ratings": found,
        }
        text = json.dumps(document, indent=1)
    else:
        text = _csv(found)
    write_whole(out, text.encode())
    return len(found)


def _csv(found: Sequence[dict[str, Any]]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in found)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _session_rows(manifest: Manifest, session: StoredSession) -> Iterator[dict[str, Any]]:
    judged = list(judgements(manifest, session))
    caught = {catch.trial: catch.passed for catch in catches(manifest, session, judged)}
    values = {(one.trial, one.comparison, one.role): one for one in judged}
    for trial, rating in rated_trials(session):
        for config, role, answer in _rated_clips(manifest, trial, rating):
            one = values.get((trial.number, config, role))
            yield _row(manifest, session, trial, rating) | {
                "comparison": config,
                "role": role,
                "answer": answer,
                "value": None if one is None else one.value,
                "order": "" if one is None else one.order,
                "passed": caught.get(trial.number),
            }


def _rated_clips(manifest: Manifest, trial: StoredTrial, rating: StoredRating) -> Iterator[tuple[str, Role, Any]]:
    """Configuration and role of what was rated, and the answer: of a pair its side b, of a mushra trial every clip."""
    shown, unit = trial.presentation, manifest.units[trial.presentation.unit]
    if isinstance(rating.answer, dict):
        slots = dict(zip(shown.labels, shown.slots, strict=True))
        for label, answer in rating.answer.items():
            yield manifest.stimuli[slots[label]].config, manifest.stimuli[slots[label]].role, answer
    else:
        clip = manifest.stimuli[unit.stimuli[-1]]
        yield unit.comparison or clip.config, clip.role, rating.answer


def _row(manifest: Manifest, session: StoredSession, trial: StoredTrial, rating: StoredRating) -> dict[str, Any]:
    shown, unit = trial.presentation, manifest.units[trial.presentation.unit]
    return {
        "listener": session.number + 1,
        "trial": trial.number,
        "kind": trial.presentation.kind,
        "text": manifest.texts[unit.text].id,
        "comparison": "",
        "role": "",
        "level": unit.level or None,
        "expects": unit.expects,
        "shown": {
            label: clip_name(manifest.stimuli[slot].config, manifest.stimuli[slot].role)
            for label, slot in zip(shown.labels, shown.slots, strict=True)
        },
        "order": "",
        "x": shown.x,
        "answer": rating.answer,
        "value": None,
        "passed": None,
        "seconds": round(rating.seconds, 3),
        "heard": rating.heard,
        "comment": rating.comment,
        "revision": rating.revision,
        "answered_at": rating.created_at.isoformat(),
    }
