"""Audio under its own hash: the files and the rows that belong to them, and what becomes of both.

Two promises. A blob's name equals its hash. No row lacks its blob: a row is inserted only after its file is durable, and a file is removed
only after its row is gone. Whoever inserts or discards holds the database's one write lock, so audio that one process stores while another
deletes it ends up whole or absent. A crash can leave a file without a row, which harms nothing.
Knows nothing about what refers to a blob except which columns do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa

from lab.blob_files import BlobFiles
from lab.database import Database
from lab.migrations import StoreError
from lab.migrations.tables import blob_references, blobs, discards
from lab.store_values import NotFound, now

_HASH = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """The blobs of one data folder and its database."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.files = BlobFiles(folder)
        self._database = database

    def write(self, data: bytes) -> str:
        """Make `data` durable and return its SHA-256: most of the work of storing it, done before the write lock is taken."""
        return self.files.write(data)

    def insert(self, connection: sa.Connection, sha256: str, data: bytes) -> None:
        """Give `data`, which `write` has written, its row. `connection` holds a write transaction, which also stores what refers to it."""
        if not self.files.path(sha256).is_file():
            self.files.write(data)  # a deletion elsewhere took the file since it was written; while we hold the lock none can
        if connection.scalar(sa.select(blobs.c.sha256).where(blobs.c.sha256 == sha256)) is None:
            connection.execute(sa.insert(blobs).values(sha256=sha256, bytes=len(data), created_at=now()))
            connection.execute(sa.delete(discards).where(discards.c.sha256 == sha256))

    def read(self, connection: sa.Connection, sha256: str) -> bytes:
        """Return the blob, checked. Raises `NotFound` if it was never stored, `StoreError` if its file is missing or altered.

        It has to be the first that `connection` is asked in its transaction: see below.
        """
        absent = NotFound("No audio is stored under that name. It may have been deleted; go back to the list and choose another.")
        if not _HASH.fullmatch(sha256):
            raise absent
        data = self.files.read(sha256)
        # The row is asked after the file: a deletion removes the row first, so a missing file with a row is a real loss.
        if connection.scalar(sa.select(blobs.c.sha256).where(blobs.c.sha256 == sha256)) is None:
            raise absent
        if data is None:
            raise StoreError(f"The stored audio {self.files.path(sha256)} is missing. Restore that file from a backup of the data folder.")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(
                f"The stored audio {self.files.path(sha256)} was altered: it does not match its name. Restore it from a backup."
            )
        return data

    def discard_unreferenced(self, connection: sa.Connection, hashes: Iterable[str]) -> None:
        """Delete the rows of those of `hashes` that no row refers to any more, and note their files for `remove_discarded`."""
        unreferenced = [~sa.exists().where(column == blobs.c.sha256) for column in blob_references()]
        gone = connection.scalars(sa.select(blobs.c.sha256).where(blobs.c.sha256.in_(set(hashes)), *unreferenced)).all()
        if gone:
            connection.execute(sa.delete(blobs).where(blobs.c.sha256.in_(gone)))
            connection.execute(sa.insert(discards), [{"sha256": sha256} for sha256 in gone])

    def remove_discarded(self) -> list[str]:
        """Remove the files whose rows are gone; return what went wrong, for another try at the next opening."""
        with self._database.read() as connection:
            if connection.scalar(sa.select(discards.c.sha256).limit(1)) is None:
                return []
        problems = []
        with self._database.write() as connection:
            for sha256 in connection.scalars(sa.select(discards.c.sha256)).all():
                if problem := self.files.remove(sha256):
                    problems.append(problem)
                else:
                    connection.execute(sa.delete(discards).where(discards.c.sha256 == sha256))
        return problems

    def remove_discarded_or_say(self) -> None:
        """Like `remove_discarded`, but raises `StoreError` with what went wrong."""
        problems = self.remove_discarded()
        if problems:
            raise StoreError(" ".join([*problems, "Check the folder's permissions; the next start tries again."]))
