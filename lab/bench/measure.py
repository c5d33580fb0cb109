"""Measures blocks: starts the workers of every arm, warms them up, and renders what a block asks for, sample by sample.

The same object does this in the process of the command line and in each worker of a cluster. It yields what happens as it happens, so that nothing is lost
when it is stopped; putting the pieces together is `lab.bench.recorder`'s.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lab.bench.affinity import Pin, can_pin
from lab.bench.environment import card_index, describe_machine
from lab.bench.plan import Arm, Block, Plan, start_order
from lab.bench.record import WARM_UP, MachineRecord
from lab.bench.telemetry import Reading, Telemetry
from lab.compare import make_request
from lab.engine.clip import RenderRequest, RenderResult
from lab.engine.device import probe
from lab.engine.pool import EnginePool
from lab.engine.process import Cancel, Cancelled, EngineError, Progress, ignore_progress
from lab.engine.weights import resolve
from lab.voices import Voice

#: A configuration that still compiles after its warm-ups (another length, another graph) gets so many more of them.
_MORE_WARMUPS = 4
WORKER = (sys.executable, "-m", "lab.engine.worker")


@dataclass(frozen=True)
class Job:
    """A benchmark as it can be sent to another process: everything but the engines."""

    plan: Plan
    weights: str
    device: str  # "auto", "cpu" or "cuda"
    voice: Voice
    wav: bytes  # the voice's clip, because another host has not its file
    reference_cache: str
    began: float  # time.time() at the start of the run
    worker: tuple[str, ...] = WORKER
    pin: bool = False  # keep the engines on one core, the quietest, while a block is measured


@dataclass(frozen=True)
class Started:
    """A worker process was started."""

    arms: tuple[int, ...]
    launch: int
    seconds: float
    together: int


@dataclass(frozen=True)
class Pinned:
    """The engines were moved to this core for the block that follows."""

    core: int


@dataclass(frozen=True)
class Sample:
    """One utterance as it was measured. Names and units are those of `lab.bench.record.Samples`."""

    block: int
    arm: int
    text: int
    at_s: float
    latency_ms: float
    result: RenderResult
    reading: Reading


@dataclass(frozen=True)
class Failed:
    """An utterance that gave no sample."""

    block: int
    arm: int
    text: int
    message: str


Event = Started | Pinned | Sample | Failed


@dataclass
class BlockRunner:
    """Measures the blocks of one job on one device."""

    job: Job
    cancel: Cancel = field(default_factory=Cancel)
    progress: Progress = ignore_progress
    worker_name: str = ""

    def __post_init__(self) -> None:
        """Find the device; no process is started before the first block.

        Raises:
            LabError: the device or the weights are not there, or a text cannot be said with them.
        """
        self.device = probe(self.job.device)
        keys = len(self.job.plan.arms)  # each arm may need a process; a pool that is too small would stop and start them all the time
        self.pool = EnginePool(resolve(self.job.weights), self.device, max_workers=keys, command=self.job.worker)
        self._folder = tempfile.TemporaryDirectory(prefix="lab-bench-")
        path = Path(self._folder.name) / "voice.wav"
        path.write_bytes(self.job.wav)
        voice = dataclasses.replace(self.job.voice, path=path)
        try:
            self._requests = [
                make_request(self.pool, text.text, voice, 1, reference_cache=self.job.reference_cache) for text in self.job.plan.texts
            ]
        except BaseException:
            self.close()
            raise
        self._telemetry = Telemetry(self.device.kind)
        self._pin = Pin(card_index(), self._telemetry.cards) if self.job.pin and self.device.kind == "cuda" and can_pin() else None
        self._machine = describe_machine(self.device, self._telemetry.driver, self.worker_name)  # before anything is pinned
        self._launch: int | None = None
        self._dead: dict[int, str] = {}  # arms that cannot be started or warmed up: asked again in the next launch only

    def machine(self) -> MachineRecord:
        """What the samples are measured on."""
        return self._machine

    def measure(self, block: Block) -> Iterator[Event]:
        """Yield the samples of `block`, in order; before them what starting and warming up gave, where that was needed.

        Raises:
            Cancelled: the job was stopped; what was yielded holds.
        """
        if self._launch is None:
            yield from self._cold_start()
        if self._launch is None or block.launch > self._launch:  # in a cluster blocks may come out of order: never go back
            self.pool.stop_workers()
            if self._pin:
                self._pin.release()  # new processes start on all cores, in this launch as in the first
            self._launch = block.launch
            self._dead.clear()
            order = start_order(self.job.plan, block.launch)
            yield from self._start(block.launch, order)
            yield from self._warm_up(order)
        if self._pin:
            yield Pinned(self._pin.move(worker.pid for worker in self.pool.status() if worker.alive))
        for arm in block.order:
            yield from self._slot(block.number, arm, block.text, block.seed)

    def _cold_start(self) -> Iterator[Event]:
        """Start the reference alone, for an honest cold start and first utterance, and stop it again."""
        if self.job.plan.warmup:
            yield from self._start(0, [0])
            yield self._render(WARM_UP, 0, 0, self.job.plan.seed)
            self.pool.stop_workers()
            self._dead.clear()

    def _start(self, launch: int, arms: list[int]) -> Iterator[Started]:
        """Start the processes of `arms`, all at the same time: no arm may be treated otherwise than another."""
        groups: dict[str, list[int]] = {}
        for index in arms:
            arm = self.job.plan.arms[index]
            groups.setdefault(self.pool.key(arm.config, arm.instance), []).append(index)
        first = [self.job.plan.arms[group[0]] for group in groups.values()]
        failed = self.pool.prepare(
            [arm.config for arm in first], instances=[arm.instance for arm in first], cancel=self.cancel, progress=self.progress
        )
        for arm, group in zip(first, groups.values(), strict=True):
            seconds = self.pool.start_seconds(arm.config, arm.instance)
            if seconds is not None:
                yield Started(tuple(sorted(group)), launch, seconds, len(groups))
            elif message := failed.get(arm.config.name):
                self._dead.update(dict.fromkeys(group, message))

    def _warm_up(self, order: list[int]) -> Iterator[Event]:
        plan = self.job.plan
        for index in order:
            failures = []
            for text in range(len(plan.texts)):
                left, extra = plan.warmup, _MORE_WARMUPS
                while left > 0:
                    event = self._render(WARM_UP, index, text, plan.seed)
                    yield event
                    if isinstance(event, Failed):
                        failures.append(event.message)
                        break
                    left -= 1
                    if not left and extra and event.result.compile_ms > 0:
                        left, extra = 1, extra - 1
            if plan.warmup and len(failures) == len(plan.texts):
                self._dead[index] = failures[0]

    def _slot(self, block: int, arm: int, text: int, seed: int) -> Iterator[Sample | Failed]:
        """One place in a block's order: one utterance, or as many at a time as the plan's concurrency says."""
        burst = self.job.plan.concurrency
        if burst == 1:
            yield self._render(block, arm, text, seed)
            return
        with ThreadPoolExecutor(burst) as threads:
            yield from threads.map(lambda number: self._render(block, arm, text, seed), range(burst))

    def _render(self, block: int, arm: int, text: int, seed: int) -> Sample | Failed:
        if arm in self._dead:
            return Failed(block, arm, text, self._dead[arm])
        what: Arm = self.job.plan.arms[arm]
        request: RenderRequest = dataclasses.replace(self._requests[text], seed=seed)
        at = max(0.0, time.time() - self.job.began)
        clock = time.perf_counter()
        try:
            clip = self.pool.render(what.config, request, instance=what.instance, cancel=self.cancel)
        except Cancelled:
            raise
        except EngineError as error:
            return Failed(block, arm, text, str(error))
        latency = (time.perf_counter() - clock) * 1000
        return Sample(block, arm, text, at, latency, dataclasses.replace(clip.result, audio=None, mel=None), self._telemetry.read())

    def close(self) -> None:
        """Stop the workers, and remove the copy of the voice."""
        self.pool.close()
        self._folder.cleanup()
        if hasattr(self, "_telemetry"):
            self._telemetry.close()
            if self._pin:
                self._pin.release()


def median_step(result: RenderResult) -> float:
    """Median time of a solver step in milliseconds; 0 where no step was timed."""
    return float(np.median(result.steps_ms)) if result.steps_ms else 0.0
