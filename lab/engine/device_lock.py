"""One job at a time on a device: among the threads of this process, then among all processes of this machine that share `LAB_CACHE_DIR`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from filelock import FileLock, Timeout

from lab.engine.device import Device, lock_name
from lab.engine.patching import cache_dir
from lab.engine.process import Cancel, EngineError, Progress

_POLL = 0.1  # seconds between looks at whether the wait is still wanted


class DeviceLock:
    """The right to work on `device`."""

    def __init__(self, device: Device) -> None:
        """Raises `EngineError` if the cache folder cannot be made."""
        locks = cache_dir()
        try:
            locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"The cache folder {locks} cannot be made ({error.strerror}). Set LAB_CACHE_DIR to one that can.") from None
        self._threads = threading.Lock()
        # thread_local=False: the lock belongs to this object, and any thread of the server may release it
        self._machine = FileLock(locks / f"device-{lock_name(device)}.lock", thread_local=False)

    @contextlib.contextmanager
    def hold(self, cancel: Cancel, progress: Progress, check: Callable[[], None]) -> Iterator[None]:
        """Wait for the device and keep it; `check` is called while waiting, and raises what ends the wait.

        Raises:
            Cancelled: `cancel` was set before the device was free.
        """
        waited = False

        def wait() -> None:
            nonlocal waited
            cancel.check()
            check()
            if not waited:
                progress("waiting for another job on this device", 0, 0)
            waited = True

        while not self._threads.acquire(timeout=_POLL):
            wait()
        try:
            while True:
                try:
                    self._machine.acquire(timeout=_POLL, poll_interval=0.05)
                    break
                except Timeout:
                    wait()
            try:
                cancel.check()
                yield
            finally:
                self._machine.release()
        finally:
            self._threads.release()
