"""What turbo is asked for, and what it tells about its work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lab.errors import LabError

Ids = Sequence[int] | NDArray[np.int32]


@dataclass(frozen=True)
class Settings:
    """How the flow is solved: what upstream's `sample` calls steps, cfg_strength, sway_sampling_coef and use_epss."""

    steps: int = 32
    guidance: float = 2.0
    sway: float | None = -1.0
    epss: bool = True

    @property
    def guided(self) -> bool:
        """Whether the model is asked without the text, too; upstream's own threshold."""
        return self.guidance >= 1e-5


@dataclass(frozen=True)
class Piece:
    """One sequence: a reference, and what is generated behind it."""

    reference: Tensor  # (its frames, mel) FP32, on the device
    ids: Ids  # token numbers of the whole text
    frames: int  # of reference and generated together
    noise: Tensor  # (frames, mel), on the device
    given: Tensor | None = None  # (frames,) bool on the CPU: the frames that stay as they are; None: those of the reference


@dataclass
class Trace:
    """How batches were computed: an empty one is handed in, and filled."""

    steps_ms: list[Callable[[], list[float]]] = field(default_factory=list)  # to be called after a synchronisation
    batches: list[tuple[int, int]] = field(default_factory=list)  # sequences, rows
    replayed: bool = True  # every batch and every vocoder pass came from a graph


class TooLongError(LabError):
    """A sequence has more frames than upstream has positions for."""
