"""What the pages share: the engine, the store, the clips that browsers may fetch, and the jobs that can be stopped."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.engine.pool import EnginePool
from lab.engine.process import Cancel
from lab.engine.weights import Choice
from lab.store import Store
from lab.study_store import Studies

_CACHE_BYTES = 256 * 2**20
_FOLDERS = 16


def origin_of(request: Any) -> str:
    """Where the person of this `gr.Request` reaches the lab: what a link that is shown to them begins with."""
    return request.headers.get("origin") or f"http://{request.headers.get('host', '')}"


class ClipCache:
    """WAV bytes under opaque tokens, for players to fetch; the least recently fetched go first when there are too many."""

    def __init__(self, limit: int = _CACHE_BYTES) -> None:
        self._limit = limit
        self._clips: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, wav: bytes) -> str:
        """Keep `wav`; returns its token, a new one each time, so that equal audio cannot be told by its name."""
        token = secrets.token_urlsafe(12)
        with self._lock:
            self._clips[token] = wav
            size = sum(map(len, self._clips.values()))
            while size > self._limit and len(self._clips) > 1:
                size -= len(self._clips.popitem(last=False)[1])
        return token

    def fetch(self, token: str) -> bytes:
        """The bytes of `token`.

        Raises:
            KeyError: there are none, or no longer.
        """
        with self._lock:
            self._clips.move_to_end(token)
            return self._clips[token]


class Jobs:
    """The running job of each browser tab, so that Stop finds it."""

    def __init__(self) -> None:
        self._cancels: dict[str, Cancel] = {}
        self._lock = threading.Lock()

    def begin(self, session: str) -> Cancel:
        """Register a job; one that this tab has running is stopped."""
        cancel = Cancel()
        with self._lock:
            before = self._cancels.get(session)
            self._cancels[session] = cancel
        if before is not None:
            before.set()
        return cancel

    def end(self, session: str, cancel: Cancel) -> None:
        """Forget a job that is over."""
        with self._lock:
            if self._cancels.get(session) is cancel:
                del self._cancels[session]

    def stop(self, session: str) -> bool:
        """Stop the job of `session`; False when there is none."""
        with self._lock:
            cancel = self._cancels.get(session)
        if cancel is not None:
            cancel.set()
        return cancel is not None

    def stop_all(self) -> None:
        """Stop every job, when the server ends."""
        with self._lock:
            cancels = list(self._cancels.values())
        for cancel in cancels:
            cancel.set()


@dataclass
class Context:
    """One running lab."""

    pool: EnginePool
    choice: Choice
    store: Store
    clips: ClipCache = field(default_factory=ClipCache)
    jobs: Jobs = field(default_factory=Jobs)
    scratch: tempfile.TemporaryDirectory[str] = field(default_factory=lambda: tempfile.TemporaryDirectory(prefix="lab-downloads-"))
    clock: Callable[[], float] = time.time  # seconds since the epoch, for what listeners may do when
    studies: Studies = field(init=False)

    def __post_init__(self) -> None:
        self.studies = Studies(self.store)

    def new_folder(self) -> Path:
        """An empty folder for files that Gradio copies for download; the oldest ones go, and all of them with the app."""
        folders = sorted(Path(self.scratch.name).iterdir(), key=lambda folder: folder.stat().st_mtime)
        for folder in folders[: max(0, len(folders) - _FOLDERS + 1)]:
            shutil.rmtree(folder, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self.scratch.name))
