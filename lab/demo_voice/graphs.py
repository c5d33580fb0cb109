"""CUDA graphs of the parts of a training step: models this small would wait for Python most of the time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def beside_the_default_stream(device: torch.device) -> Iterator[None]:
    """All of a training goes on in one stream of its own: the default one cannot be captured."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        yield


class Graphs:
    """Runs parts by their name: as they are the first time, which compiles and allocates what has to be, and captured from the second on.

    A part must read and write the same tensors each time, and must not wait for the card.

    Args:
        captured: False to run every part as it is, every time.
    """

    def __init__(self, captured: bool) -> None:
        self._seen: set[Hashable] = set()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle() if captured else None  # one for all: they run one after the other

    def run(self, name: Hashable, part: Callable[[], None]) -> None:
        """Once."""
        if self._pool is None or name not in self._seen:
            self._seen.add(name)
            part()
            return
        if name not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            # pinning of batches, and NCCL, go on in other threads meanwhile
            with torch.cuda.graph(graph, pool=self._pool, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
                part()
            self._graphs[name] = graph
        self._graphs[name].replay()
