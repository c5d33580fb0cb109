"""Keeps what launches kernels on one processor core, the quietest one at the time, while a block is measured.

With small steps the speed of a GPU render is that of the core that launches its kernels. On a virtual machine cores differ by a factor of two from one
second to the next, with what their neighbours do; processes that run on different cores would be compared by their cores. Linux only; elsewhere, and on a
CPU device, which needs all its cores, nothing is pinned.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

_LOOKS = 3
_LOOP = 20_000  # additions of one look, about a millisecond


def can_pin() -> bool:
    """Whether this system lets a process choose its cores, and has at least two."""
    return hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1 and Path("/proc/self/task").is_dir()


class Pin:
    """Moves worker processes from core to core, and this process out of their way."""

    def __init__(self, card: int = 0, cards: int = 1) -> None:
        """Card number `card` of `cards` uses every so-manyth core, so that benchmarks of several cards keep out of each other's way."""
        cores = sorted(os.sched_getaffinity(0))
        self._all = set(cores)
        self._cores = cores[card % max(cards, 1) :: max(cards, 1)] or cores

    def move(self, processes: Iterable[int]) -> int:
        """Pin all threads of `processes` to the core that is quietest now; returns its number. This process keeps to the others."""
        core = self._quietest()
        for process in processes:
            _set(process, {core})
        _set(os.getpid(), self._all - {core})
        return core

    def _quietest(self) -> int:
        """The core on which a short loop runs fastest, by the median of three looks at each."""
        times: dict[int, list[float]] = {core: [] for core in self._cores}
        for _ in range(_LOOKS):
            for core in self._cores:
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(0, {core})
                    times[core].append(_loop())
        return min(times, key=lambda core: sorted(times[core] or [float("inf")])[len(times[core]) // 2])

    def release(self) -> None:
        """Give this process all its cores back."""
        _set(os.getpid(), self._all)


def _loop() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(_LOOP):
        total += number
    return time.perf_counter() - began


def _set(process: int, cores: set[int]) -> None:
    """Let every thread of `process` run on `cores`; threads that end meanwhile, or belong to somebody else, are left alone."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task.name), cores)
