"""The files behind the blobs: `<folder>/ab/abcdef…`, each under its own SHA-256; and the check that a data folder can be written to.

A file is written under another name, fsynced, renamed, and its folder fsynced: under its hash there is only ever a whole file, also after
a power cut. Knows nothing about the database; which files should exist is the store's business.
"""

import hashlib
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from lab.durable import sync_folder, write_whole
from lab.migrations import StoreError

_STALE_SECONDS = 24 * 3600.0  # a writer that is still alive has finished long before


def make_writable(folder: Path) -> None:
    """Create `folder` where it is missing, for this user alone: it may hold people's voices. Raises `StoreError` if it is not writable."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreError(
            f"The data folder {folder} cannot be written to: {error.strerror or error}. Give this user the right to write there, or choose "
            "another folder with LAB_DATA_DIR."
        ) from error


class BlobFiles:
    """The files under `root`. Several threads and processes may write the same blob at once: they rename equal bytes onto one name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._unfinished = root / ".unfinished"
        self._wavs = root / ".wav"

    def path(self, sha256: str) -> Path:
        """Where the blob `sha256` (64 lower-case hex digits, checked by the caller) is or would be."""
        return self.root / sha256[:2] / sha256

    def write(self, data: bytes) -> str:
        """Make `data` durable and return its hash. An altered file of that name is replaced.

        Raises `StoreError` if the disk refuses; nothing is left behind then.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        target = self.path(sha256)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not _holds(target, data):
                self._replace(target, data)
            # Also for a file that was there already: another process may have renamed it a moment ago and not yet fsynced.
            sync_folder(target.parent)
            sync_folder(self.root)
        except OSError as error:
            raise StoreError(
                f"Audio could not be written to {self.root}: {error.strerror or error}. Nothing was saved. Free some space there, "
                "or choose another folder with LAB_DATA_DIR."
            ) from error
        return sha256

    def read(self, sha256: str) -> bytes | None:
        """Return the file's bytes, unchecked, or None if it is not there. Raises `StoreError` if it cannot be read."""
        try:
            return self.path(sha256).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(
                f"The stored audio {self.path(sha256)} could not be read: {error.strerror or error}. Check the disk and the permissions."
            ) from error

    def wav(self, sha256: str, data: bytes) -> Path:
        """Return a second name of the blob's file, one that ends in .wav, which holds `data`. Raises `StoreError`. One caller at a time."""
        link = self._wavs / f"{sha256}.wav"
        try:
            self._wavs.mkdir(exist_ok=True)
            if not _holds(link, data):
                link.unlink(missing_ok=True)
                try:
                    link.hardlink_to(self.path(sha256))
                except OSError:  # some disks have no hard links
                    self._replace(link, data)
        except OSError as error:
            raise StoreError(f"The file {link} could not be made: {error.strerror or error}. Free some space there.") from error
        return link

    def remove(self, sha256: str) -> str | None:
        """Remove the blob's file and its second name, durably, if they are there. Return what went wrong, in words, or None."""
        path = self.path(sha256)
        try:
            for name in (self._wavs / f"{sha256}.wav", path):
                name.unlink(missing_ok=True)
                if name.parent.is_dir():
                    sync_folder(name.parent)
        except OSError as error:
            return f"The deleted audio {path} is still on the disk: {error.strerror or error}."
        return None

    def remove_stale(self) -> None:
        """Remove what writers that died left unfinished, once it is a day old."""
        with suppress(OSError):
            for path in self._unfinished.iterdir():
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()

    def _replace(self, target: Path, data: bytes) -> None:
        self._unfinished.mkdir(exist_ok=True)
        write_whole(target, data, self._unfinished, mode=0o600)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False
