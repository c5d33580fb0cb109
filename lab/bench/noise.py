"""How noisy a benchmark was, from its A/A arm, and what it could see through that noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.bench.power import blocks_to_detect, detection_rate
from lab.bench.ratios import Spread, launch_weights

_UNITS = 1.5  # a configuration is one process against the reference's two


@dataclass(frozen=True)
class Noise:
    """What the harness can see: how the reference differs from itself."""

    deviation: float  # standard deviation of the A/A arm's log-ratios of a block
    between_processes: float | None  # standard deviation of what a process adds to all its log times; None with one launch
    detected: float  # how often a true 3 % is found in as many blocks as the run has
    blocks: int
    blocks_needed: int | None  # for 80 %


def look_at_noise(ratios: NDArray[np.float64], launches: Sequence[str], spread: Spread | None, arms: int) -> Noise:
    """Describe the A/A arm's log-ratios (n,), at least two, of a run with so many arms.

    `launches` (n,) says which set of processes measured each, `spread` how all arms vary from launch to launch.
    """
    series = pd.Series(ratios)
    grouped = series.groupby(list(launches))
    sizes = grouped.size().to_numpy()
    count = len(sizes)
    own = (series - grouped.transform("median")).to_numpy()
    inside = math.sqrt(float(np.sum(own**2)) / max(len(own) - count, 1))
    between = None
    if spread:
        # what the noise of blocks leaves in the median of a launch is no difference between processes
        left = math.pi / 2 * (inside**2 / 2) * float(launch_weights(sizes) @ (1 / sizes))
        between = math.sqrt(max(0.0, spread.mean_square - left))
    detected = detection_rate(own, 0.03, len(own), count, between or 0.0, arms, _UNITS)
    per_launch = max(1, round(len(own) / count)) if count > 1 else None
    least = len(own) if detected < 0.8 else 6
    return Noise(
        deviation=float(ratios.std(ddof=1)),
        between_processes=between,
        detected=detected,
        blocks=len(own),
        blocks_needed=blocks_to_detect(own, per_launch, between or 0.0, arms, _UNITS, least=least),
    )
