"""The same benchmark spread over the workers of a Dask cluster: each block whole on one device, merged into one run.

A block is one task that needs one `GPU` (an abstract resource: `dask worker ADDRESS --nthreads 1 --resources "GPU=1"`), so that its samples share a device
and a pair is never split. A task whose worker dies is given to another; a block that was half measured then is measured again from its start, and counts
once. Every worker starts and warms up engines of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from lab.bench.measure import BlockRunner, Event, Job
from lab.bench.plan import Block, blocks
from lab.bench.record import MachineRecord
from lab.bench.recorder import Recorder
from lab.bench.runner import Measured
from lab.engine.device import probe
from lab.engine.process import Cancel, Cancelled, EngineError, Progress
from lab.errors import LabError

RESOURCE = "GPU"
_CONNECT_SECONDS = 15
_POLL_SECONDS = 0.5
#: Times that the workers of one block may die before the benchmark gives up on it.
_LIVES = 5
_START_WORKERS = f'Start some with: dask worker ADDRESS --nthreads 1 --resources "{RESOURCE}=1"'


class ClusterError(LabError):
    """The cluster cannot be reached, or cannot measure."""


@dataclass(frozen=True)
class Outcome:
    """What a task sends back: everything that happened while it measured one block."""

    machine: MachineRecord
    worker: str
    events: tuple[Event, ...]


_runners: dict[float, BlockRunner] = {}  # of this worker process, by the start of the run


def measure_block(job: Job, block: Block) -> Outcome:
    """Measure one block in this process; runs inside a Dask worker."""
    from distributed import get_worker

    if job.began not in _runners:
        close_runners()  # of an earlier run: its engines would keep the card's memory
        _runners[job.began] = BlockRunner(job)
    runner = _runners[job.began]
    events = tuple(runner.measure(block))
    return Outcome(runner.machine(), str(get_worker().name), events)


def close_runners(stop: bool = False) -> None:
    """End the engines of this worker process; `stop` also ends the block that is being measured."""
    for runner in list(_runners.values()):
        if stop:
            runner.cancel.set()
        else:
            runner.close()
    if not stop:
        _runners.clear()


class Cluster:
    """Measures on a cluster; see `lab.bench.runner.Executor`."""

    def __init__(self, job: Job, address: str, progress: Progress) -> None:
        """Check `address`: that of a scheduler, or `local:N` for N workers on this machine.

        Raises:
            ClusterError: N is no number, or there are fewer cards.
        """
        self._job = job
        self._address = address
        self._progress = progress
        self._local = _local_workers(address, job.device)

    def __call__(self, recorder: Recorder, cancel: Cancel) -> Generator[Measured, None, None]:
        """Measure every block of the job's plan, and yield each as soon as it is whole."""
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # a worker that dies is said in our own words
        names: dict[str, str] = {}
        with self._client() as client:
            self._progress(f"waiting for workers of {self._address}", 0, 0)
            _require_workers(client)
            try:
                for block, outcome in self._outcomes(client, cancel):
                    worker = names.setdefault(outcome.worker, f"worker {len(names)}")
                    device = recorder.machine(outcome.machine.model_copy(update={"worker": worker}))
                    for event in outcome.events:
                        yield Measured(event, device, block)
            finally:
                with contextlib.suppress(Exception):  # workers that are gone need no closing
                    client.run(close_runners, stop=True)
                    client.run(close_runners)

    def _outcomes(self, client: Any, cancel: Cancel) -> Iterator[tuple[Block, Outcome]]:
        from distributed import KilledWorker, wait
        from distributed import TimeoutError as DaskTimeout

        def submit(block: Block, life: int) -> Any:
            key = f"lab-{self._job.began}-block-{block.number}-{life}"
            return client.submit(
                measure_block, self._job, block, key=key, resources={RESOURCE: 1}, pure=False, priority=-block.number, retries=0
            )

        waiting = {submit(block, 0): (block, 0) for block in blocks(self._job.plan)}
        while waiting:
            cancel.check()
            try:
                ready = wait(list(waiting), timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED").done
            except (DaskTimeout, TimeoutError):
                continue
            for future in ready:
                block, life = waiting.pop(future)
                try:
                    outcome: Outcome = future.result()
                except KilledWorker:
                    if life + 1 >= _LIVES:
                        raise ClusterError(
                            f"Block {block.number} has killed {_LIVES} workers. Look at the memory of the machines."
                        ) from None
                    waiting[submit(block, life + 1)] = (block, life + 1)
                    continue
                except Cancelled:
                    raise
                except EngineError as error:
                    raise ClusterError(f"A worker cannot measure: {error}") from None
                yield block, outcome

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        import dask
        from distributed import Client

        # distributed would start a web server, and lets two workers die before it calls their task a killer
        settings = {"distributed.scheduler.allowed-failures": _LIVES * 10, "distributed.worker.daemon": False}
        with dask.config.set(settings), contextlib.ExitStack() as stack:
            address: Any = self._address
            if self._local:
                address = stack.enter_context(_local_cluster(self._local, self._job.device == "cuda"))
            try:
                client = stack.enter_context(Client(address, timeout=_CONNECT_SECONDS, set_as_default=False))
            except (OSError, TimeoutError, ValueError) as error:
                raise ClusterError(
                    f"No scheduler answers at {self._address} ({str(error)[:120]}). Start one with: dask scheduler"
                ) from None
            stack.enter_context(client.as_current())  # `wait` asks for the client of its thread
            yield client


def _local_workers(address: str, device: str) -> int:
    """N of `local:N`; 0 for another address."""
    kind, _, number = address.partition(":")
    if kind != "local":
        return 0
    if not number.isdecimal() or not 1 <= int(number) <= 64:
        raise ClusterError(f"--cluster {address[:40]!r}: write local:N with N from 1 to 64, for example local:2.")
    cards = probe(device).cards
    if device == "cuda" and int(number) > cards:
        raise ClusterError(
            f"--cluster {address}: there are {cards} cards, and two workers on one would disturb each other. Use local:{cards}."
        )
    return int(number)


def _local_cluster(workers: int, cuda: bool) -> Any:
    """A scheduler and `workers` worker processes on this machine, each with a card of its own where there are cards."""
    from distributed import Nanny, Scheduler, SpecCluster

    visible = [card for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card]

    def options(index: int) -> dict[str, Any]:
        card = visible[index] if index < len(visible) else str(index)
        environment = {"CUDA_VISIBLE_DEVICES": card} if cuda else {}
        return {"nthreads": 1, "name": index, "resources": {RESOURCE: 1}, "memory_limit": 0, "env": environment, "host": "127.0.0.1"}

    return SpecCluster(
        scheduler={"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1"}},
        workers={index: {"cls": Nanny, "options": options(index)} for index in range(workers)},
        silence_logs=logging.CRITICAL,
    )


def _require_workers(client: Any) -> None:
    """Wait for one worker with the resource.

    Raises:
        ClusterError: there is none.
    """
    try:
        client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
    except TimeoutError:
        raise ClusterError(f"The cluster has no worker. {_START_WORKERS}") from None
    described = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any(worker.get("resources", {}).get(RESOURCE) for worker in described):
        raise ClusterError(f"No worker of the cluster has the resource {RESOURCE}. {_START_WORKERS}")
