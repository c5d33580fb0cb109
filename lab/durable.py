"""Writing a file so that under its name there is only ever a whole one, also after a power cut."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_whole(target: Path, data: bytes, unfinished: Path | None = None, *, new: bool = False, mode: int = 0o666) -> None:
    """Write `data` under another name in `unfinished` (the target's own folder by default), fsync it, and rename it onto `target`.

    With `new` a target that is there already is left alone, and `FileExistsError` raised, also where two write it at once.

    `mode` is what the process's umask takes its bits from; 0o600 makes the file this user's alone.

    Both have to be on one file system. The folder is not fsynced: call `sync_folder` where the name has to survive too. Raises `OSError`, and leaves
    nothing behind then.
    """
    folder = unfinished or target.parent
    name = folder / f".unfinished-{secrets.token_hex(8)}"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            target.hardlink_to(name)
            name.unlink()
        else:
            name.replace(target)
    except BaseException:
        with suppress(OSError):
            name.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    if os.name == "nt":  # Windows cannot open a folder, and orders renames by itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
