"""What is known of turbo's work on one utterance: plain values, so that the proof can be tested without a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TurboSeen:
    """How turbo worked during one utterance."""

    batches: tuple[tuple[int, int], ...]  # sequences and rows of each
    replayed: bool  # all of it came from CUDA graphs
    no_graphs: str  # why graphs are not used at all; empty where they are
    no_kernels: str
    attention: str  # whose kernel it is
    captures: int  # graphs that were captured meanwhile
    capture_ms: float
    graphs: int  # kept, of all shapes
    graph_mb: float
