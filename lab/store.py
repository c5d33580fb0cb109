"""What the lab keeps: audio under its own hash (see `lab.blobs`), and the rows that refer to it (comparisons and uploaded voices).

Every change takes the database's one write lock. One database per data folder. Studies are kept beside it, by `lab.study_store`.
Knows nothing about engines, studies, or what a clip sounds like.
"""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import platformdirs
import sqlalchemy as sa

from lab.blob_files import make_writable
from lab.blobs import Blobs
from lab.database import Database
from lab.migrations import NewerDatabaseError, StoreError
from lab.migrations.tables import comparison_clips, comparisons, voices
from lab.store_values import NotFound, checked_token, exact_json, new_token, not_found, now

__all__ = ["Comparison", "NewerDatabaseError", "NotFound", "Store", "StoreError", "StoredVoice"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """A stored comparison: its facts as they were given, and its clips' hashes in order."""

    token: str
    created_at: datetime  # aware, UTC
    facts: dict[str, Any]
    clip_hashes: tuple[str, ...]


@dataclass(frozen=True)
class StoredVoice:
    """An uploaded voice: `sha256` names its WAV, `consent_text` is what the person agreed to at `consented_at`."""

    id: str
    name: str
    transcript: str
    language: str
    sha256: str
    created_at: datetime  # aware, UTC
    consent_text: str
    consented_at: datetime  # aware, UTC


class Store:
    """One data folder and its database. Safe from several threads, and from several processes that open the same folder."""

    def __init__(self, data_dir: Path, url: str) -> None:
        make_writable(data_dir)
        self.data_dir = data_dir
        self.database = Database(url)
        self.blobs = Blobs(data_dir / "blobs", self.database)
        self.blobs.files.remove_stale()
        for problem in self.blobs.remove_discarded():
            _log.warning("%s", problem)

    @classmethod
    def open(cls, data_dir: Path | None = None, url: str | None = None) -> "Store":
        """Open the store, creating its folder and tables where they are missing and bringing older tables up to date.

        `data_dir` falls back to LAB_DATA_DIR and then to the user's data folder; `url` (SQLAlchemy's form, SQLite or PostgreSQL) to
        LAB_DATABASE_URL and then to `lab.sqlite3` in the data folder. Raises `StoreError` if either cannot be used, and its kind
        `NewerDatabaseError` if the database is ahead of this code.
        """
        folder = data_dir or Path(os.environ.get("LAB_DATA_DIR") or platformdirs.user_data_dir("ishowtts-lab", appauthor=False))
        folder = folder.expanduser().absolute()
        file = sa.URL.create("sqlite", database=str(folder / "lab.sqlite3")).render_as_string()
        return cls(folder, url or os.environ.get("LAB_DATABASE_URL") or file)

    def close(self) -> None:
        """Give the database connections back. Using the store afterwards opens new ones."""
        self.database.close()

    def put_blob(self, data: bytes) -> str:
        """Store `data` and return its SHA-256 in lower-case hex. Storing the same bytes again changes nothing."""
        sha256 = self.blobs.write(data)  # most of the work, before taking the lock
        with self.database.write() as connection:
            self.blobs.insert(connection, sha256, data)
        return sha256

    def get_blob(self, sha256: str) -> bytes:
        """Read a blob back and check it. Raises `NotFound` if it was never stored, `StoreError` if its file is missing or altered."""
        with self.database.read() as connection:
            return self.blobs.read(connection, sha256)

    def wav_path(self, sha256: str) -> Path:
        """Return a path to the blob that ends in .wav, for readers that judge by the name. Raises like `get_blob`. Never write to that file."""
        with self.database.write() as connection:  # no deletion in between, which would leave the second name behind
            return self.blobs.files.wav(sha256, self.blobs.read(connection, sha256))

    def save_comparison(self, facts: dict[str, Any], clips: Sequence[bytes]) -> str:
        """Store a comparison and return the unguessable token that finds it again.

        `facts` is JSON, kept exactly, with one entry in `facts["clips"]` for each of `clips` (WAV bytes, in order), and every entry says
        `"storable": true`: audio from random weights is never kept. Raises `StoreError` otherwise, and then nothing is stored.
        """
        _require_storable(facts, clips)
        text = exact_json(facts, "facts of this comparison")
        token = new_token()
        hashes = [self.blobs.write(clip) for clip in clips]
        with self.database.write() as connection:
            for sha256, clip in zip(hashes, clips, strict=True):
                self.blobs.insert(connection, sha256, clip)
            row = {"token": token, "created_at": now(), "facts": text}
            key = connection.scalar(sa.insert(comparisons).values(row).returning(comparisons.c.id))
            connection.execute(
                sa.insert(comparison_clips),
                [{"comparison_id": key, "position": position, "sha256": sha256} for position, sha256 in enumerate(hashes)],
            )
        return token

    def load_comparison(self, token: str) -> Comparison:
        """Return the comparison behind `token`. Raises `NotFound` for a token that is unknown or is none at all."""
        found = self._comparisons(comparisons.c.token == checked_token(token, "comparison"), 1)
        if not found:
            raise not_found("comparison")
        return found[0]

    def list_comparisons(self, limit: int = 50) -> list[Comparison]:
        """Return the newest comparisons, newest first, `limit` at most."""
        return self._comparisons(sa.true(), limit)

    def delete_comparison(self, token: str) -> None:
        """Delete a comparison, and those of its clips that nothing else refers to. Raises `NotFound` for an unknown token."""
        with self.database.write() as connection:
            key = connection.scalar(sa.select(comparisons.c.id).where(comparisons.c.token == checked_token(token, "comparison")))
            if key is None:
                raise not_found("comparison")
            mine = comparison_clips.c.comparison_id == key
            hashes = set(connection.scalars(sa.select(comparison_clips.c.sha256).where(mine)))
            connection.execute(sa.delete(comparison_clips).where(mine))
            connection.execute(sa.delete(comparisons).where(comparisons.c.id == key))
            self.blobs.discard_unreferenced(connection, hashes)
        self.blobs.remove_discarded_or_say()

    def save_voice(self, name: str, transcript: str, language: str, wav: bytes, consent_text: str) -> StoredVoice:
        """Store an uploaded voice with the text its owner agreed to. Raises `StoreError` if any of the five is blank."""
        for what, value in (("name", name), ("transcript", transcript), ("language", language), ("consent text", consent_text)):
            if not value.strip():
                raise StoreError(f"A voice is only stored with its {what}, which is missing. Fill it in and try again.")
        if not wav:
            raise StoreError("The voice's recording is empty. Record or choose it again.")
        token, time = new_token(), now()
        sha256 = self.blobs.write(wav)
        with self.database.write() as connection:
            self.blobs.insert(connection, sha256, wav)
            row = StoredVoice(token, name, transcript, language, sha256, time, consent_text, time)
            values = {"token" if key == "id" else key: value for key, value in vars(row).items()}
            connection.execute(sa.insert(voices).values(values))
        return row

    def load_voice(self, id: str) -> StoredVoice:
        """Return the uploaded voice `id`. Raises `NotFound` for an id that is unknown or is none at all."""
        with self.database.read() as connection:
            row = connection.execute(sa.select(voices).where(voices.c.token == checked_token(id, "voice"))).first()
        if row is None:
            raise not_found("voice")
        return _voice(row)

    def list_voices(self) -> list[StoredVoice]:
        """Return every uploaded voice, oldest first."""
        with self.database.read() as connection:
            return [_voice(row) for row in connection.execute(sa.select(voices).order_by(voices.c.id))]

    def delete_voice(self, id: str) -> None:
        """Delete an uploaded voice, its transcript, and its recording unless another row refers to it. Raises `NotFound` if unknown."""
        with self.database.write() as connection:
            sha256 = connection.scalar(sa.select(voices.c.sha256).where(voices.c.token == checked_token(id, "voice")))
            if sha256 is None:
                raise not_found("voice")
            connection.execute(sa.delete(voices).where(voices.c.token == id))
            self.blobs.discard_unreferenced(connection, {sha256})
        self.blobs.remove_discarded_or_say()

    def _comparisons(self, condition: sa.ColumnElement[bool], limit: int) -> list[Comparison]:
        newest = sa.select(comparisons).where(condition).order_by(comparisons.c.id.desc()).limit(max(limit, 0)).subquery()
        rows = (  # one statement, so that a deletion cannot fall between a comparison and its clips
            sa.select(newest, comparison_clips.c.sha256)
            .join(comparison_clips, comparison_clips.c.comparison_id == newest.c.id)
            .order_by(newest.c.id.desc(), comparison_clips.c.position)
        )
        with self.database.read() as connection:
            groups = [list(group) for _, group in groupby(connection.execute(rows), key=lambda row: row.id)]
        return [Comparison(g[0].token, g[0].created_at, json.loads(g[0].facts), tuple(row.sha256 for row in g)) for g in groups]


def _require_storable(facts: dict[str, Any], clips: Sequence[bytes]) -> None:
    described = facts.get("clips")
    if not clips or not isinstance(described, list) or len(described) != len(clips):
        raise StoreError("A comparison is only stored with its clips and one description for each. Run the comparison again and save that.")
    if not all(isinstance(clip, dict) and clip.get("storable") is True for clip in described):
        raise StoreError(
            "This comparison cannot be saved: audio from random weights is for timing only, never kept. Run it again with real weights."
        )
    if not all(clips):
        raise StoreError("This comparison cannot be saved: one of its clips has no audio. Run it again.")


def _voice(row: sa.Row[Any]) -> StoredVoice:
    values = row._asdict()
    values["id"] = values.pop("token")  # the row's own number stays inside
    return StoredVoice(**values)
