"""What the modules of statistics share: an interval, its confidence, and the seed of everything that is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
ALPHA = 0.05
SEED = 20250930  # of every bootstrap and permutation: the same answers give the same figures each time

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both included."""

    low: float
    high: float

    def hull(self, *others: Interval | None) -> Interval:
        """The smallest interval that holds this one and all others."""
        there = [self, *(other for other in others if other is not None)]
        return Interval(min(one.low for one in there), max(one.high for one in there))

    def holds(self, value: float) -> bool:
        """Whether `value` lies within."""
        return self.low <= value <= self.high

    def inside(self, low: float, high: float) -> bool:
        """Whether all of it lies from `low` to `high`."""
        return low <= self.low and self.high <= high
