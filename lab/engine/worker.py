"""The child process: started by the pool for one patch set and model setting, renders one request at a time.

Run as `python -m lab.engine.worker FD`, where FD is the socket to the pool. The first message says what to be; then requests come, and answers, progress
and errors go back. Upstream prints a great deal: stdout and stderr go to the log file that the pool gave. When the pool is gone, so is the worker.
"""

from __future__ import annotations

import functools
import os
import queue
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from lab.errors import LabError

_PROGRESS_SECONDS = 0.1  # not oftener: a message costs the host time that it should spend launching kernels


def _leave() -> NoReturn:
    """End, because the pool has died: nobody else would clear away the copies of a person's voice that upstream makes."""
    folder = os.environ.get("LAB_WORKER_FOLDER")
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _reader(connection: Connection, requests: queue.Queue[Any]) -> None:
    try:
        while True:
            requests.put(connection.recv())
    except (EOFError, OSError):
        _leave()


class _Progress:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last = ("", 0.0)

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        now = time.monotonic()
        if stage != self._last[0] or now - self._last[1] >= _PROGRESS_SECONDS:
            self._last = (stage, now)
            self._connection.send(("progress", stage, done, total))


def _start(order: dict[str, Any], progress: _Progress) -> Any:
    sys.path.insert(0, order["overlay"])
    from lab.engine.compat import prepare_imports

    prepare_imports()
    from lab.engine.rendering import Engine

    return Engine(order["config"], order["weights"], order["device"], Path(order["overlay"]), progress)


def _answer(connection: Connection, work: Any) -> bool:
    """Do `work` and send what came of it; False when the process must not go on."""
    try:
        connection.send(("done", work()))
    except LabError as error:
        connection.send(("refused", str(error)))
    except MemoryError:
        connection.send(("failed", "The machine ran out of memory. Use a shorter text, or stop other programs."))
        return False
    except Exception as error:
        traceback.print_exc()
        if type(error).__name__ == "OutOfMemoryError":
            connection.send(("failed", "The GPU ran out of memory. Use a shorter text, or fewer configurations at once."))
        else:
            connection.send(("failed", f"{type(error).__name__}: {str(error)[:300]}"))
        return False  # the allocator and upstream's caches are in an unknown state: the pool starts a new process
    return True


def _profile(engine: Any, *arguments: Any) -> Any:
    from lab.engine.profiling import profile_utterance

    return profile_utterance(engine, *arguments)


def _turbo(engine: Any, *arguments: Any) -> Any:
    from lab.engine.turbo_report import report_turbo

    return report_turbo(engine, *arguments)


#: What a pool may ask for.
_WORK: dict[str, Callable[..., Any]] = {
    "render": lambda engine, *arguments: engine.render(*arguments),
    "profile": _profile,
    "turbo": _turbo,
}


def main(fd: int) -> None:
    """Serve requests from the socket `fd` until it is closed."""
    connection = Connection(fd)
    try:
        _serve(connection)
    except (EOFError, OSError):
        _leave()


def _serve(connection: Connection) -> None:
    requests: queue.Queue[Any] = queue.Queue()
    order = connection.recv()
    threading.Thread(target=_reader, args=(connection, requests), daemon=True).start()
    progress = _Progress(connection)
    engine: list[Any] = []

    def start() -> float:
        engine.append(_start(order, progress))
        return time.monotonic()  # one clock for all processes of a machine: the pool knows when it started this one

    if not _answer(connection, start) or not engine:
        return
    while True:
        what, *arguments = requests.get()
        if not _answer(connection, functools.partial(_WORK[what], engine[0], *arguments)):
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
