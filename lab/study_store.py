"""What the lab keeps of listening tests: studies with their audio, and every answer at once, in the database and folder of a `Store`.

Ratings are append-only: nothing here changes or deletes one, except that a deleted study takes everything of it along. A corrected answer is
a new row that supersedes. What `rate` has returned True for is durable (on PostgreSQL as durable as that server's `synchronous_commit` says).
Knows no SQL for reading (that is `lab.study_rows`), no designs, no statistics, and not whether a study should still take answers.
"""

from __future__ import annotations

import builtins
import hashlib
import math
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from lab.listening.model import Answer, Manifest, Presentation, StoredSession, StoredStudy
from lab.migrations import StoreError
from lab.migrations.tables import ratings, session_events, sessions, studies, study_clips, trials
from lab.store import Store
from lab.store_values import checked_token, exact_json, new_token, not_found, now
from lab.study_rows import BrokenStudy, Manifests, parse_manifest, presentation_text, read_sessions, study_of, tell_apart

_PRINTABLE = re.compile(r"[ -~]+")  # ASCII that both databases keep as it is
_MOST_TRIALS = 2**31  # what an integer column holds


class Studies:
    """The studies of a store. Safe from several threads, and from several processes that open the same store."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self._blobs = store.blobs
        self._manifests = Manifests()

    def create(self, manifest: Manifest, clips: Sequence[bytes], open_until: datetime | None = None) -> StoredStudy:
        """Store a study and its audio, all or nothing.

        `clips` are WAV bytes in any order, among them one for the SHA-256 of each of the manifest's stimuli. `open_until` is aware. Raises
        `StoreError` if a clip is missing, if the manifest would not read back as it is, or if the audio is from random weights.
        """
        token = new_token()
        text = _checked_manifest(manifest, token)
        audio = {hashlib.sha256(clip).hexdigest(): clip for clip in clips}
        missing = {stimulus.sha256 for stimulus in manifest.stimuli} - audio.keys()
        if missing:
            raise StoreError(f"The study cannot be stored: the audio of {len(missing)} of its stimuli is missing. Create it again.")
        if open_until is not None and open_until.tzinfo is None:
            raise StoreError("The time until which a study is open needs a time zone. Give it as 2026-03-01T18:00+01:00.")
        for clip in audio.values():
            self._blobs.write(clip)
        row = {
            "token": token,
            "created_at": now(),
            "type": manifest.type,
            "title": manifest.title.replace("\0", "\ufffd").encode(errors="replace").decode(),  # for people; the manifest has it exactly
            "manifest": text,
            "manifest_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "secret": secrets.token_hex(32),
            "open_until": open_until,
        }
        with self._database.write() as connection:
            for sha256, clip in audio.items():
                self._blobs.insert(connection, sha256, clip)
            key = connection.scalar(sa.insert(studies).values(row).returning(studies.c.id))
            clip_rows = [{"study_id": key, "position": position, "sha256": sha256} for position, sha256 in enumerate(audio)]
            if clip_rows:
                connection.execute(sa.insert(study_clips), clip_rows)
            return self._study(connection, token)

    def load(self, token: str) -> StoredStudy:
        """Return the study behind `token`. Raises `NotFound`, or `StoreError` if its manifest was altered. Cheap enough for every request."""
        with self._database.read() as connection:
            return self._study(connection, checked_token(token, "study"))

    def list(self) -> builtins.list[StoredStudy]:
        """Return every study that can be used, newest first."""
        return self.survey()[0]

    def survey(self) -> tuple[builtins.list[StoredStudy], builtins.list[BrokenStudy]]:
        """Return every study, newest first; those whose manifest was altered or cannot be read are apart, with the reason."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(studies).order_by(studies.c.id.desc())).all()
        return tell_apart(rows, self._manifests)

    def close(self, token: str) -> StoredStudy:
        """Note that the study takes no more answers. A study that is closed keeps the time when it was. Raises `NotFound`."""
        return self._note_time(token, studies.c.closed_at)

    def note_peek(self, token: str) -> StoredStudy:
        """Note that somebody looked at the ratings while the study was open; the first time stays. Raises `NotFound`."""
        return self._note_time(token, studies.c.peeked_at)

    def delete(self, token: str) -> None:
        """Delete a study with everything listeners left, and its audio unless another row refers to it. Raises `NotFound`."""
        with self._database.write() as connection:
            key = _study_id(connection, token)
            hashes = connection.scalars(sa.select(study_clips.c.sha256).where(study_clips.c.study_id == key)).all()
            connection.execute(sa.delete(studies).where(studies.c.id == key))  # the foreign keys take the rest along
            self._blobs.discard_unreferenced(connection, hashes)
        self._blobs.remove_discarded_or_say()

    def clip(self, study: str, sha256: str) -> bytes:
        """Return a clip's WAV bytes, checked against their hash. Raises `NotFound` if the study is unknown or has no such clip."""
        theirs = (
            sa.select(study_clips.c.position)
            .join(studies, studies.c.id == study_clips.c.study_id)
            .where(studies.c.token == checked_token(study, "study"), study_clips.c.sha256 == sha256)
        )
        with self._database.read() as connection:
            data = self._blobs.read(connection, sha256)  # first, as it asks to be
            if connection.scalar(theirs) is None:
                raise not_found("clip in this study")
        return data

    def join(self, study: str, listener: str, plan: Callable[[int], Sequence[Presentation]]) -> StoredSession:
        """Return the session of `listener` in `study`, a new one if there is none yet; also where two threads or processes ask at once.

        `listener` is 1…64 printable ASCII characters. `plan` gives a new session's trials, from its number (how many sessions the study had
        before); the database's write lock is held meanwhile, so it must be quick and must not write to the store. What it raises is passed
        on, and nothing is stored. Raises `NotFound` for an unknown study, `StoreError` for a listener that cannot be stored.
        """
        _require_printable(listener, 64, "listener's name")
        mine = sa.and_(studies.c.token == checked_token(study, "study"), sessions.c.listener == listener)
        with self._database.read() as connection:
            if found := read_sessions(connection, mine):
                return found[0]
        with self._database.write() as connection:
            key = _study_id(connection, study)
            if found := read_sessions(connection, mine):  # somebody was faster
                return found[0]
            number = connection.scalar(sa.select(sa.func.count()).select_from(sessions).where(sessions.c.study_id == key)) or 0
            presentations = plan(number)
            row = {"token": new_token(), "study_id": key, "listener": listener, "number": number, "created_at": now()}
            session = connection.scalar(sa.insert(sessions).values(row).returning(sessions.c.id))
            if presentations:
                rows = [_trial_row(session, place, presentation) for place, presentation in enumerate(presentations)]
                connection.execute(sa.insert(trials), rows)
            return read_sessions(connection, mine)[0]

    def session(self, token: str) -> StoredSession:
        """Return a session with its trials in order, each with the rating that stands, and its events. Raises `NotFound`."""
        with self._database.read() as connection:
            found = read_sessions(connection, sessions.c.token == checked_token(token, "session"))
        if not found:
            raise not_found("session")
        return found[0]

    def rate(
        self,
        session: str,
        number: int,
        *,
        key: str,
        answer: Answer,
        heard: dict[str, float],
        seconds: float,
        comment: str = "",
        revise: bool = False,
        following: Presentation | None = None,
    ) -> bool:
        """Store the answer to trial `number`, and return True once it is durable; or change nothing and return False.

        False: a rating of this session has this `key` (1…64 printable ASCII characters, one per submission) already; the trial has a rating,
        which another tab gave, and this is not to `revise` it; an earlier trial is still unrated; or this is to `revise` and the trial is
        not the last rated one. An answer that revises supersedes those before it, which are kept.

        `following` is stored in the same transaction as the session's next trial. Raises `NotFound` for an unknown session or trial, and
        `StoreError` if a value cannot be stored, or if there is a trial where `following` is to go.
        """
        if not 0 <= number < _MOST_TRIALS:
            raise not_found("trial in this session")
        row = {
            "number": number,
            "key": _require_printable(key, 64, "key of the answer"),
            "answer": exact_json(answer, "answers"),
            "heard": exact_json(heard, "seconds that were heard"),
            "seconds": _finite(seconds),
            "comment": exact_json(comment, "comments"),
        }
        with self._database.write() as connection:
            state = connection.execute(_STATE, {"session": checked_token(session, "session"), "place": number, "submission": key}).first()
            if state is None:
                raise not_found("session")
            if state.repeated:
                return False
            if number >= state.trials:
                raise not_found("trial in this session")
            if number != state.rated - revise:  # rated trials are the first ones, so their count is the number of the next
                return False
            row |= {"session_id": state.id, "revision": state.revisions, "created_at": now()}
            connection.execute(sa.insert(ratings).values(row))
            if following is not None:
                if state.trials != number + 1:
                    raise StoreError("The next trial is drawn up already, so this answer can no longer be changed. Go on with that trial.")
                connection.execute(sa.insert(trials).values(_trial_row(state.id, number + 1, following)))
        return True

    def add_event(self, session: str, kind: str, value: Any) -> None:
        """Append something that happened in a session: `kind` is 1…32 printable ASCII characters, `value` JSON. Raises `NotFound`."""
        row = {"kind": _require_printable(kind, 32, "kind of event"), "value": exact_json(value, "facts of this event")}
        with self._database.write() as connection:
            key = connection.scalar(sa.select(sessions.c.id).where(sessions.c.token == checked_token(session, "session")))
            if key is None:
                raise not_found("session")
            connection.execute(sa.insert(session_events).values(session_id=key, created_at=now(), **row))

    def sessions(self, study: str) -> builtins.list[StoredSession]:
        """Return all sessions of a study in order of number, with trials, ratings and events, in three statements. Raises `NotFound`."""
        with self._database.read() as connection:
            return read_sessions(connection, studies.c.id == _study_id(connection, study))

    def _study(self, connection: sa.Connection, token: str) -> StoredStudy:
        row = connection.execute(sa.select(studies).where(studies.c.token == token)).first()
        if row is None:
            raise not_found("study")
        return study_of(row, self._manifests)

    def _note_time(self, token: str, column: sa.Column[datetime]) -> StoredStudy:
        with self._database.write() as connection:
            key = _study_id(connection, token)
            connection.execute(sa.update(studies).where(studies.c.id == key, column.is_(None)).values({column: now()}))
            return self._study(connection, token)


# What `rate` has to know, in one statement. Only the primary keys and the index of keys are touched.
_STATE = sa.select(
    sessions.c.id,
    sa.exists().where(ratings.c.session_id == sessions.c.id, ratings.c.key == sa.bindparam("submission")).label("repeated"),
    sa.select(sa.func.count()).where(trials.c.session_id == sessions.c.id).scalar_subquery().label("trials"),
    sa.select(sa.func.coalesce(sa.func.max(ratings.c.number) + 1, 0))
    .where(ratings.c.session_id == sessions.c.id)
    .scalar_subquery()
    .label("rated"),
    sa.select(sa.func.count())
    .where(ratings.c.session_id == sessions.c.id, ratings.c.number == sa.bindparam("place"))
    .scalar_subquery()
    .label("revisions"),
).where(sessions.c.token == sa.bindparam("session"))


def _study_id(connection: sa.Connection, token: str) -> int:
    key: int | None = connection.scalar(sa.select(studies.c.id).where(studies.c.token == checked_token(token, "study")))
    if key is None:
        raise not_found("study")
    return key


def _trial_row(session: int | None, number: int, presentation: Presentation) -> dict[str, Any]:
    return {"session_id": session, "number": number, "presentation": presentation_text(presentation)}


def _checked_manifest(manifest: Manifest, token: str) -> str:
    if manifest.weights.partition(":")[0] == "random":
        raise StoreError("The study cannot be stored: audio from random weights is for timing only, never kept. Use real weights.")
    text = manifest.text_json()
    if parse_manifest(text, token) != manifest:
        raise StoreError(
            "The study cannot be stored: its manifest would read back as another. Use plain numbers, texts, lists and objects."
        )
    return text


def _require_printable(text: str, limit: int, what: str) -> str:
    if len(text) > limit or not _PRINTABLE.fullmatch(text):
        raise StoreError(f"The {what} has to be 1 to {limit} printable ASCII characters. Reload the page and try again.")
    return text


def _finite(seconds: float) -> float:
    if not math.isfinite(seconds):
        raise StoreError("The time an answer took has to be a number of seconds. Reload the page and try again.")
    return float(seconds)
