"""CUDA graphs of whole programs, one per shape, a bounded number of them: captured at first use, the least recently used given up first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DEFAULT_GRAPHS = 64


@dataclass
class Counters:
    """What has been captured and replayed in the life of an engine; `replays` goes up with each use, the others only when a shape is new."""

    captures: int = 0
    replays: int = 0
    evictions: int = 0
    failures: int = 0
    capture_ms: float = 0.0
    graph_mb: float = 0.0  # device memory that graphs and what they compute in hold
    last_failure: str = ""


class StepEvents:
    """Events around steps; inside a graph they become part of it and are recorded anew by each replay."""

    def __init__(self, steps: int) -> None:
        self._events = [torch.cuda.Event(enable_timing=True, external=True) for _ in range(steps + 1)]  # type: ignore[no-untyped-call]

    def mark(self, number: int) -> None:
        """Step `number` begins here; the number of steps: the last one ends."""
        self._events[number].record()

    def milliseconds(self) -> list[float]:
        """Each step of the last replay, after a synchronisation."""
        pairs = zip(self._events, self._events[1:], strict=False)
        return [float(first.elapsed_time(last)) for first, last in pairs]


@dataclass
class Captured:
    """A graph with the tensors it reads and writes."""

    inputs: dict[str, Tensor]
    output: Tensor
    graph: torch.cuda.CUDAGraph
    events: StepEvents | None
    staging: Any = None  # what fills the inputs, kept for the next time


class Graphs:
    """A cache of graphs. One thread uses it, on one stream; graphs share their memory, because only one runs at a time."""

    def __init__(self, most: int = DEFAULT_GRAPHS) -> None:
        self.most = most
        self.counters = Counters()
        self._kept: OrderedDict[Hashable, Captured] = OrderedDict()
        self._pool: Any = None
        self._stream: Any = None

    @property
    def kept(self) -> int:
        """How many graphs there are."""
        return len(self._kept)

    def get(
        self,
        key: Hashable,
        make: Callable[[], dict[str, Tensor]],
        program: Callable[[dict[str, Tensor], StepEvents | None], Tensor],
        steps: int = 0,
    ) -> Captured:
        """The graph of `program` for `key`; `make` gives tensors of the right shapes for its inputs, `steps` > 0 asks for events around them.

        Raises:
            RuntimeError: the program cannot be captured (counted in `counters`, with the reason).
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        while len(self._kept) >= self.most:
            self._kept.popitem(last=False)
            self.counters.evictions += 1
        try:
            captured = self._capture(make(), program, steps)
        except RuntimeError as error:
            self.counters.failures += 1
            self.counters.last_failure = str(error).splitlines()[0][:200]
            raise
        self._kept[key] = captured
        return captured

    def _capture(self, inputs: dict[str, Tensor], program: Callable[..., Tensor], steps: int) -> Captured:
        began = time.perf_counter()
        free = torch.cuda.mem_get_info()[0]
        if self._stream is None:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()
        self._stream.wait_stream(torch.cuda.current_stream())
        events = StepEvents(steps) if steps else None
        with torch.cuda.stream(self._stream):
            program(inputs, None)  # kernels are compiled and libraries make their plans outside of the capture
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # not torch.cuda.graph, which empties the allocator's cache and collects garbage first: that costs more than the capture
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                output = program(inputs, events)
            finally:
                graph.capture_end()
        torch.cuda.synchronize()
        self.counters.captures += 1
        self.counters.capture_ms += (time.perf_counter() - began) * 1000
        self.counters.graph_mb += max(0, free - torch.cuda.mem_get_info()[0]) / 2**20
        return Captured(inputs, output, graph, events)

    def replay(self, captured: Captured) -> Tensor:
        """Run the graph on the current stream; its output is overwritten by the next replay of any graph."""
        captured.graph.replay()
        self.counters.replays += 1
        return captured.output
