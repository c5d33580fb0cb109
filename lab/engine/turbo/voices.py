"""A bounded cache of voices, keyed by what is in the file: level and mel of its audio are prepared together and belong together."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

DEFAULT_VOICES = 16


@dataclass(frozen=True)
class Voice:
    """A reference ready to be spoken with."""

    transcript: str  # with a full stop, as upstream prepares it
    text: str  # the same, as it stands before the text that is generated
    seconds: float
    level: float  # RMS of the audio as it was
    frames: int  # whole hops of the audio, as upstream counts them
    mel: Tensor  # (frames + 1, mel) FP32 of the audio brought up to upstream's level, on the device


class Voices:
    """The voices used last."""

    def __init__(self, prepare: Callable[[str, str], Voice], most: int = DEFAULT_VOICES) -> None:
        """`prepare(path, transcript)` makes a voice of a file."""
        self._prepare, self.most = prepare, most
        self._kept: OrderedDict[tuple[str, str], Voice] = OrderedDict()
        self._digests: dict[str, tuple[tuple[int, ...], str]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, path: str, transcript: str) -> Voice:
        """The voice in the file at `path`; another file with the same content is the same voice, a changed one is another."""
        key = (self._digest(path), transcript)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self._kept[key] = self._prepare(path, transcript)
        while len(self._kept) > self.most:
            self._kept.popitem(last=False)
        return self._kept[key]

    def _digest(self, path: str) -> str:
        """SHA-256 of the file; it is read again only if the file system knows of a change."""
        found = os.stat(path)  # noqa: PTH116  a `Path` is made in the time that the device waits
        state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if self._digests.get(path, ((), ""))[0] != state:
            if len(self._digests) >= self.most:
                self._digests.clear()
            self._digests[path] = (state, hashlib.sha256(Path(path).read_bytes()).hexdigest())
        return self._digests[path][1]

    def forget(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self._digests.clear()
