"""One worker process as its parent sees it: start it, send a request, follow it, kill it. Knows nothing about configurations.

The only cancel that works is to kill: a kernel or a solver step cannot be interrupted, and after a kill the next request gets a clean process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lab.engine.patching import cache_dir
from lab.errors import LabError

ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.05
DOWNLOADING = "downloading"  # how a worker's report of a download begins
STALL_SECONDS = 120.0  # a download that reports nothing for so long has stalled

Progress = Callable[[str, int, int], None]  # what is being done, done, total (0: unknown)


class EngineError(LabError):
    """A worker could not do what was asked."""


class WorkerDied(EngineError):
    """The process ended in the middle of a request, or could not be started."""


class DeadlineExceeded(EngineError):
    """The request took longer than it may; its worker was killed."""


class Cancelled(EngineError):
    """The person stopped it; the worker was killed."""


class Cancel:
    """A switch that stops one job from another thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Stop the job; it ends within a fraction of a second."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Cancelled` if the switch is set."""
        if self.is_set:
            raise Cancelled("Stopped.")


def ignore_progress(stage: str, done: int, total: int) -> None:
    """Follow nothing."""


def python_path() -> str:
    """`PYTHONPATH` for a child that imports the lab from wherever it is started."""
    return os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)


def worker_environment(folder: Path) -> dict[str, str]:
    """The environment of a worker whose temporary files go to `folder`; what a person has set wins."""
    environment = {
        **os.environ,
        "PYTHONPATH": python_path(),
        "TMPDIR": str(folder),
        "LAB_WORKER_FOLDER": str(folder),  # which the worker removes when it finds itself alone
    }
    # what torch.compile makes is worth keeping: it would otherwise go where temporary files go
    environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "inductor"))
    if "OMP_WAIT_POLICY" not in environment:
        # Threads that spin while they wait for each other stand in each other's way as soon as anything else runs: by default
        # libgomp spins 300,000 times, which makes a render on two busy cores 2.4 times as long; 10,000 cost 1 % on idle ones.
        environment.setdefault("GOMP_SPINCOUNT", "10000")
    return environment


class WorkerProcess:
    """A started worker; `send` and `answer` are called by one thread at a time."""

    def __init__(self, label: str, command: Sequence[str] = (sys.executable, "-m", "lab.engine.worker")) -> None:
        """Start `command FD`. Its output and its temporary files (upstream leaves copies of the reference) go to a folder that ends with it."""
        self.label = label
        self.started = self.last_used = time.monotonic()
        self.start_seconds: float | None = None  # from here to the loaded model, once it is
        self.ready = False  # has loaded its model
        self.warm = False  # has rendered
        self._folder = Path(tempfile.mkdtemp(prefix="lab-worker-"))
        self.log = self._folder / "log"
        handle = os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        ours, theirs = socket.socketpair()
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [*command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                pass_fds=[theirs.fileno()],
                env=worker_environment(self._folder),
                start_new_session=True,  # Ctrl-C in a terminal goes to the parent, which decides
            )
        except OSError:
            ours.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        finally:
            os.close(handle)
            theirs.close()
        self._connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """Process number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def send(self, message: Any) -> None:
        """Send without waiting for an answer.

        Raises:
            WorkerDied: the process is gone.
        """
        try:
            self._connection.send(message)
        except OSError:
            raise self._death() from None

    def answer(self, deadline: float, cancel: Cancel, progress: Progress) -> Any:
        """Wait for the answer to what was sent; `deadline` is a time of `time.monotonic`.

        Raises:
            EngineError: the worker refused or failed, in its own words.
            WorkerDied, DeadlineExceeded, Cancelled: the process is gone, or has been killed.
        """
        try:
            return self._answer(deadline, cancel, progress)
        except EngineError:
            raise
        except BaseException:
            self.kill()  # its answer would be taken for that of the next request
            raise

    def _answer(self, deadline: float, cancel: Cancel, progress: Progress) -> Any:
        while True:
            # before every message, because a worker that reports often would otherwise never be stopped
            if cancel.is_set:
                self.kill()
                raise Cancelled(f"Stopped: the engine of {self.label} was ended, and starts again with the next request.")
            if time.monotonic() > deadline:
                self.kill()
                doing = "took longer than it may" if self.ready else "could not be started in time"
                raise DeadlineExceeded(f"{self.label} {doing} and was stopped. Use a shorter text, or a machine with less to do.")
            try:
                if not self._connection.poll(_POLL_SECONDS):
                    continue
                kind, *rest = self._connection.recv()
            except (EOFError, OSError):
                raise self._death() from None
            if kind == "progress":
                if str(rest[0]).startswith(DOWNLOADING):
                    deadline = max(deadline, time.monotonic() + STALL_SECONDS)  # a slow line is no dead one
                progress(*rest)
                continue
            self.last_used = time.monotonic()
            if kind == "done":
                return rest[0]
            if kind == "failed":
                self.kill()  # it is about to end by itself: its state is unknown
            raise EngineError(str(rest[0]))

    def _death(self) -> WorkerDied:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        code = self._process.poll()
        reason = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        last = next((line for line in reversed(self._log_lines()) if line.strip()), "")
        self.kill()
        return WorkerDied(
            f"The engine of {self.label} died in the middle of its work ({reason}). The next request starts a new one."
            + (f" Its last words: {last.strip()[:200]}" if last and code != -9 else "")
        )

    def _log_lines(self) -> list[str]:
        try:
            return self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []

    def kill(self) -> None:
        """End the process now; safe to call twice and from another thread."""
        if self.alive:
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        with contextlib.suppress(OSError):
            self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)
