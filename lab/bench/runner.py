"""Runs a benchmark on this machine, block after block, and leaves a run file behind whatever happens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from lab.bench.measure import BlockRunner, Event, Job
from lab.bench.plan import Block, blocks
from lab.bench.record import Run
from lab.bench.recorder import Recorder
from lab.bench.run_files import write_partial, write_run
from lab.engine.process import Cancel, Cancelled, Progress
from lab.errors import LabError

#: A run that is going on is kept on disk this often, in case the process is killed.
_KEEP_SECONDS = 30.0


class NothingMeasuredError(LabError):
    """The benchmark ended before it had a sample."""


@dataclass(frozen=True)
class Measured:
    """One event of a block, and the number of the machine it comes from."""

    event: Event
    device: int
    block: Block


class Executor(Protocol):
    """Measures the blocks of a plan somewhere, and yields what happens."""

    def __call__(self, recorder: Recorder, cancel: Cancel) -> Generator[Measured, None, None]:
        """Raises `Cancelled` when stopped, after everything that was measured has been yielded."""


class Here:
    """Measures on this machine, one block after another."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self._job = job
        self._progress = progress

    def __call__(self, recorder: Recorder, cancel: Cancel) -> Generator[Measured, None, None]:
        """Measure every block of the job's plan."""
        runner = BlockRunner(self._job, cancel, self._progress)
        try:
            device = recorder.machine(runner.machine())
            for block in blocks(self._job.plan):
                for event in runner.measure(block):
                    yield Measured(event, device, block)
        finally:
            runner.close()


def run_benchmark(
    executor: Executor,
    recorder: Recorder,
    folder: Path,
    *,
    cancel: Cancel,
    watch: Callable[[Event], None] = lambda _event: None,
    seconds: float | None = None,
) -> tuple[Run, Path]:
    """Measure, and write the run to `folder`; a run that was stopped, or whose time was over, is written as interrupted.

    `seconds` is how long it may take; it ends with the block that is being measured then.

    Raises:
        NothingMeasuredError: there is no sample, so there is nothing to write.
        LabError: it cannot be measured at all.
    """
    began = kept = time.monotonic()
    state: Literal["complete", "interrupted"] = "complete"
    reason = ""
    block: int | None = None
    try:
        with contextlib.closing(executor(recorder, cancel)) as events:  # closed also by a time limit: workers end with it
            for measured in events:
                if seconds is not None and block not in (None, measured.block.number) and time.monotonic() - began > seconds:
                    state, reason = "interrupted", f"the time limit of {seconds / 60:g} min was reached"
                    break
                block = measured.block.number
                recorder.add(measured.event, measured.device, measured.block)
                watch(measured.event)
                if time.monotonic() - kept > _KEEP_SECONDS and recorder.has_samples:
                    write_partial(recorder.run("interrupted", "the process was killed"), folder)
                    kept = time.monotonic()
    except Cancelled:
        state, reason = "interrupted", "stopped"
    except BaseException as error:
        if recorder.has_samples:  # whatever went wrong, what was measured is kept
            write_run(recorder.run("interrupted", f"{type(error).__name__}: {str(error)[:200]}"), folder)
        raise
    if not recorder.has_samples:
        messages = list(dict.fromkeys(failure.message for failure in recorder.failures))
        raise NothingMeasuredError(f"Nothing was measured: {messages[0] if messages else 'it was stopped before the first sample'}")
    run = recorder.run(state, reason)
    return run, write_run(run, folder)
