"""Starts, reuses and stops workers; one job at a time on the device, whoever asks.

A worker is keyed by patch set and model setting; the number of steps and the like go with each request. Knows nothing about pages or runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.config import EngineConfig
from lab.engine.clip import Clip, RenderRequest, RenderResult
from lab.engine.device import Device, fitness
from lab.engine.device_lock import DeviceLock
from lab.engine.patching import Overlay, PatchError, build_overlay
from lab.engine.process import Cancel, Cancelled, EngineError, Progress, WorkerProcess, ignore_progress
from lab.engine.weights import Weights

if TYPE_CHECKING:
    from lab.engine.profiling import Profile  # needs torch, which only workers import
    from lab.engine.turbo_report import TurboReport

#: Fields of a configuration that a process is started for; the others go with the request.
PROCESS_FIELDS = ("patches", "model_dtype", "vocoder_dtype", "compile", "sampler", "without", "tf32")
DEFAULT_WORKERS = 4
START_SECONDS = 900.0  # importing takes 10 s; a first download of 1.3 GB takes what it takes
RENDER_SECONDS = 600.0


@dataclass(frozen=True)
class WorkerStatus:
    """A worker, for `doctor` and the page."""

    label: str
    pid: int
    alive: bool
    idle_seconds: float


class EnginePool:
    """All workers of one set of weights on one device."""

    def __init__(
        self,
        weights: Weights,
        device: Device,
        *,
        max_workers: int = DEFAULT_WORKERS,
        render_seconds: float = RENDER_SECONDS,
        start_seconds: float = START_SECONDS,
        command: Sequence[str] = (sys.executable, "-m", "lab.engine.worker"),
    ) -> None:
        """No process is started before the first request.

        Args:
            weights: what every worker loads.
            device: where.
            max_workers: processes kept; the least recently used one is stopped for a new one.
            render_seconds: deadline of one utterance, waiting for the device not counted.
            start_seconds: deadline of starting a worker, download included.
            command: the worker program, to which the number of its socket is appended.
        """
        self.weights = weights
        self.device = device
        self.max_workers = max_workers
        self._render_seconds = render_seconds
        self._start_seconds = start_seconds
        self._command = tuple(command)
        self._workers: dict[str, WorkerProcess] = {}
        self._guard = threading.Lock()  # of the dictionary; never held while waiting
        self._device_lock = DeviceLock(device)
        self._closed = False

    def key(self, config: EngineConfig, instance: int = 0) -> str:
        """What a worker is kept under; another `instance` is another process of the same kind."""
        part = {name: getattr(config, name) for name in PROCESS_FIELDS}
        digest = hashlib.sha256(repr(sorted(part.items())).encode()).hexdigest()[:16]
        return f"{digest}-{instance}" if instance else digest

    def render(
        self,
        config: EngineConfig,
        request: RenderRequest,
        *,
        voice: str = "",
        instance: int = 0,
        cancel: Cancel | None = None,
        progress: Progress = ignore_progress,
    ) -> Clip:
        """Render one utterance, starting a worker if there is none; `instance` says which of several processes of this kind.

        Raises:
            EngineError: the device cannot run `config`, the worker refused, failed, died, ran out of time, or was cancelled.
        """
        result: RenderResult = self._ask(config, instance, cancel, progress, "render", config, request)
        audible = self.weights.audible
        return Clip(config, request, result, voice or Path(request.voice_path).stem, self.weights.name, audible, self.device.name)

    def profile(
        self,
        config: EngineConfig,
        request: RenderRequest,
        trace: Path,
        *,
        cancel: Cancel | None = None,
        progress: Progress = ignore_progress,
    ) -> Profile:
        """Render `request` under torch's profiler and write the trace. Errors as in `render`."""
        profile: Profile = self._ask(config, 0, cancel, progress, "profile", config, request, str(trace))
        return profile

    def report_turbo(
        self, config: EngineConfig, request: RenderRequest, *, cancel: Cancel | None = None, progress: Progress = ignore_progress
    ) -> TurboReport:
        """Measure turbo with the voice and text of `request`. Errors as in `render`; `RenderRefused` too where `config` does not use it."""
        report: TurboReport = self._ask(config, 0, cancel, progress, "turbo", config, request)
        return report

    def _ask(self, config: EngineConfig, instance: int, cancel: Cancel | None, progress: Progress, *message: Any) -> Any:
        """Send `message` to the worker for `config` and wait for the answer, alone on the device."""
        cancel = cancel or Cancel()
        with self._on_device(cancel, progress):
            worker = self._begin(config, instance)
            self._await_ready(config, worker, cancel, progress)
            worker.send(message)
            answer = worker.answer(time.monotonic() + self._render_seconds, cancel, progress)
            worker.warm = True
        return answer

    def prepare(
        self,
        configs: Sequence[EngineConfig],
        *,
        instances: Sequence[int] | None = None,
        cancel: Cancel | None = None,
        progress: Progress = ignore_progress,
    ) -> dict[str, str]:
        """Start the workers that `configs` (of at most `max_workers` keys) need, all at the same time, and wait until they are ready.

        `instances` says for each which of several processes of its kind. Returns the configurations that could not be started, by name, with the reason.

        Raises:
            Cancelled: `cancel` was set; workers that were not ready are gone.
        """
        cancel = cancel or Cancel()
        failed: dict[str, str] = {}
        waiting: list[tuple[EngineConfig, WorkerProcess]] = []
        with self._on_device(cancel, progress):
            for config, instance in zip(configs, instances or [0] * len(configs), strict=True):
                try:
                    waiting.append((config, self._begin(config, instance)))
                except EngineError as error:
                    failed[config.name] = str(error)
            try:
                for config, worker in waiting:
                    try:
                        self._await_ready(config, worker, cancel, progress)
                    except Cancelled:
                        raise
                    except EngineError as error:
                        failed[config.name] = str(error)
            finally:
                for _, worker in waiting:
                    if not worker.ready:
                        worker.kill()
        return failed

    def _on_device(self, cancel: Cancel, progress: Progress) -> contextlib.AbstractContextManager[None]:
        return self._device_lock.hold(cancel, progress, self._refuse_if_closed)

    def _begin(self, config: EngineConfig, instance: int) -> WorkerProcess:
        """The living worker for `config`, or a new one that has been told what to be."""
        self._refuse_if_closed()
        refused = fitness(config, self.device).refused
        if refused:
            raise EngineError(f"{config.name} cannot run on this device: {refused}.")
        key = self.key(config, instance)
        with self._guard:
            worker = self._workers.get(key)
        if worker is not None and worker.alive:
            worker.last_used = time.monotonic()
            return worker
        try:
            overlay = build_overlay(config.patches)
            self._make_room(key)
            worker = WorkerProcess(config.name, self._command)
        except (PatchError, OSError) as error:
            raise EngineError(f"{config.name} cannot be started: {error}") from None
        with self._guard:
            self._workers[key] = worker
        try:
            self._refuse_if_closed()  # again: `close` may have come in between
        except EngineError:
            worker.kill()
            raise
        worker.send(self._order(config, overlay))
        return worker

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise EngineError("The engine has been shut down.")

    def _order(self, config: EngineConfig, overlay: Overlay) -> dict[str, Any]:
        return {"config": config, "weights": self.weights.name, "device": self.device.kind, "overlay": str(overlay.root)}

    def _await_ready(self, config: EngineConfig, worker: WorkerProcess, cancel: Cancel, progress: Progress) -> None:
        if not worker.ready:
            progress(f"starting the engine of {config.name}", 0, 0)
            try:
                loaded = worker.answer(time.monotonic() + self._start_seconds, cancel, progress)
            except EngineError:
                worker.kill()  # it is ending by itself, and must not be taken for a living one until it has
                raise
            worker.start_seconds = loaded - worker.started
            worker.ready = True
        worker.label = config.name

    def _make_room(self, key: str) -> None:
        """Stop the least recently used workers until there is room for one more."""
        with self._guard:
            old = self._workers.pop(key, None)
            alive = sorted((item for item in self._workers.items() if item[1].alive), key=lambda item: item[1].last_used)
            surplus = alive[: max(0, len(alive) - self.max_workers + 1)]
            for name, _ in surplus:
                del self._workers[name]
        for worker in [old, *(worker for _, worker in surplus)]:
            if worker is not None:
                worker.kill()

    def is_warm(self, config: EngineConfig) -> bool:
        """Whether a living worker has rendered for this key before; the first utterance of a process is slower than all others."""
        with self._guard:
            worker = self._workers.get(self.key(config))
        return worker is not None and worker.alive and worker.warm

    def start_seconds(self, config: EngineConfig, instance: int = 0) -> float | None:
        """How long the living worker for `config` took from its start to the loaded model; None where there is none."""
        with self._guard:
            worker = self._workers.get(self.key(config, instance))
        return worker.start_seconds if worker is not None and worker.alive else None

    def stop_workers(self) -> None:
        """Stop all workers; the next request starts new ones."""
        with self._guard:
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.kill()

    def status(self) -> tuple[WorkerStatus, ...]:
        """The workers there are."""
        now = time.monotonic()
        with self._guard:
            return tuple(WorkerStatus(worker.label, worker.pid, worker.alive, now - worker.last_used) for worker in self._workers.values())

    def close(self) -> None:
        """Stop all workers; requests that wait are told so."""
        self._closed = True
        self.stop_workers()

    def __enter__(self) -> EnginePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def workers_from_environment() -> int:
    """`LAB_MAX_WORKERS`, or the default.

    Raises:
        EngineError: it is no whole number from 1 on.
    """
    given = os.environ.get("LAB_MAX_WORKERS", str(DEFAULT_WORKERS))
    if not given.isdecimal() or int(given) < 1:
        raise EngineError(f"LAB_MAX_WORKERS={given[:40]!r} has to be a whole number from 1 on.")
    return int(given)
