"""From rows to a study and its sessions: the statements that read them, and the check that a manifest is the one that was stored.

Knows nothing of writing, of audio, or of what an answer means.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from lab.listening.model import Manifest, Presentation, StoredRating, StoredSession, StoredStudy, StoredTrial
from lab.migrations import StoreError
from lab.migrations.tables import ratings, session_events, sessions, studies, trials

_KEPT_MANIFESTS = 32


@dataclass(frozen=True)
class BrokenStudy:
    """A study that cannot be used, and why; the rest is what its row says beside the manifest, and is for people only."""

    token: str
    created_at: datetime
    type: str
    title: str
    reason: str


class Manifests:
    """Manifests that were read lately, parsed. Safe from several threads."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[str, Manifest] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, text: str, sha256: str, token: str) -> Manifest:
        """Return the manifest of the study `token` from its JSON. Raises `StoreError` if that does not hash to `sha256`, or is none.

        The hash is checked each time (a tenth of a millisecond for 100 KB), the text parsed only once.
        """
        if hashlib.sha256(text.encode()).hexdigest() != sha256:
            raise StoreError(
                f"The manifest of study {token} was altered: it does not match its SHA-256, so its ratings mean nothing any more. Restore "
                "the database from a backup, or delete the study."
            )
        with self._lock:
            if known := self._parsed.get(sha256):
                self._parsed.move_to_end(sha256)
                return known
        manifest = parse_manifest(text, token)
        with self._lock:
            self._parsed[sha256] = manifest
            while len(self._parsed) > _KEPT_MANIFESTS:
                self._parsed.popitem(last=False)
        return manifest


def parse_manifest(text: str, token: str) -> Manifest:
    """Return the manifest that `text`, its JSON, describes. Raises `StoreError` if this version of the lab cannot read it."""
    try:  # through json, because pydantic's own reader refuses half a surrogate pair, which a text may hold
        return Manifest.model_validate(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise StoreError(
            f"The manifest of study {token} cannot be read by this version of the lab: {' '.join(str(error).split())[:300]}. Update the lab."
        ) from error


def study_of(row: sa.Row[Any], manifests: Manifests) -> StoredStudy:
    """Return the study in a row of `studies`."""
    return StoredStudy(
        token=row.token,
        manifest=manifests.read(row.manifest, row.manifest_sha256, row.token),
        manifest_sha256=row.manifest_sha256,
        secret=row.secret,
        open_until=row.open_until,
        closed_at=row.closed_at,
        peeked_at=row.peeked_at,
    )


def tell_apart(rows: Sequence[sa.Row[Any]], manifests: Manifests) -> tuple[list[StoredStudy], list[BrokenStudy]]:
    """Return the studies in rows of `studies`, and those whose manifest was altered or cannot be read."""
    whole: list[StoredStudy] = []
    broken: list[BrokenStudy] = []
    for row in rows:
        try:
            whole.append(study_of(row, manifests))
        except StoreError as error:
            broken.append(BrokenStudy(row.token, row.created_at, row.type, row.title, str(error)))
    return whole, broken


def presentation_text(presentation: Presentation) -> str:
    """The presentation as it is stored: ASCII JSON."""
    return json.dumps(presentation.model_dump(mode="json"), separators=(",", ":"))


_later = ratings.alias("later")
_STANDING = ratings.c.revision == (  # of a trial's answers the one that stands
    sa.select(sa.func.max(_later.c.revision))
    .where(_later.c.session_id == trials.c.session_id, _later.c.number == trials.c.number)
    .correlate(trials)
    .scalar_subquery()
)
_TRIALS = (
    sa.select(
        sessions.c.id,
        sessions.c.token,
        studies.c.token.label("study"),
        sessions.c.number,
        sessions.c.created_at,
        trials.c.number.label("trial"),
        trials.c.presentation,
        ratings.c.revision,
        ratings.c.answer,
        ratings.c.heard,
        ratings.c.seconds,
        ratings.c.comment,
        ratings.c.created_at.label("rated_at"),
    )
    .join(studies, studies.c.id == sessions.c.study_id)
    .outerjoin(trials, trials.c.session_id == sessions.c.id)
    .outerjoin(ratings, sa.and_(ratings.c.session_id == trials.c.session_id, ratings.c.number == trials.c.number, _STANDING))
    .order_by(sessions.c.number, trials.c.number)
)
_EVENTS = (
    sa.select(session_events)
    .join(sessions, sessions.c.id == session_events.c.session_id)
    .join(studies, studies.c.id == sessions.c.study_id)
    .order_by(session_events.c.id)
)


def read_sessions(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[StoredSession]:
    """Return the sessions that meet `condition` (on `sessions` and `studies`) in order of number, in two statements.

    Their trials are in order, each with the rating that stands. Of one study, please: numbers of two studies are not told apart.
    """
    rows = connection.execute(_TRIALS.where(condition)).all()
    if not rows:
        return []
    events: defaultdict[int, list[tuple[str, Any, datetime]]] = defaultdict(list)
    for row in connection.execute(_EVENTS.where(condition)):
        events[row.session_id].append((row.kind, json.loads(row.value), row.created_at))
    return [_session(list(group), events[key]) for key, group in groupby(rows, key=lambda row: row.id)]


def _session(rows: Sequence[Any], events: Iterable[tuple[str, Any, datetime]]) -> StoredSession:
    first = rows[0]
    asked = tuple(_trial(row) for row in rows if row.trial is not None)  # a session without trials is one row of NULLs
    return StoredSession(first.token, first.study, first.number, first.created_at, asked, tuple(events))


def _trial(row: sa.Row[Any]) -> StoredTrial:
    presentation = Presentation.model_validate(json.loads(row.presentation))
    if row.revision is None:
        return StoredTrial(row.trial, presentation)
    answer, heard, comment = json.loads(row.answer), json.loads(row.heard), json.loads(row.comment)
    return StoredTrial(row.trial, presentation, StoredRating(answer, heard, row.seconds, comment, row.revision, row.rated_at))
