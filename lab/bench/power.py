"""How much a benchmark can see: the chance of finding a true difference in given noise, and how many blocks it takes.

By simulation, with the very rule that decides in `lab.bench.ratios`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student_t

from lab.bench.ratios import EQUIVALENCE, sign_rank
from lab.bench.statistics import CONFIDENCE, SEED


def detection_rate(
    noise: ArrayLike,
    effect: float,
    blocks: int,
    launches: int = 1,
    process_sd: float = 0.0,
    arms: int = 3,
    units: float = 2.0,
    *,
    experiments: int = 1000,
) -> float:
    """How often a true change of `effect` (0.03: 3 % slower) is found in `blocks` blocks, spread over `launches`, with the noise of these log-ratios.

    Each experiment draws log-ratios from `noise`, centred on its median, with replacement, shifts those of each launch by what two processes differ by
    (normal, `process_sd` each), and all by the effect. `noise` is that of one process against one; `units` is the variance of the differences that are
    looked at, 2 for such, 1.5 for one process against the mean of two. Found means that the verdict names the right direction. With `effect` 0 the rate is
    that of false alarms, in either direction.
    """
    values = np.asarray(noise, dtype=np.float64)
    rank = sign_rank(blocks)
    if not rank or not values.size:
        return 0.0
    rng = np.random.default_rng(SEED)
    drawn = rng.choice(values - np.median(values), (experiments, blocks)) * math.sqrt(units / 2) + math.log1p(effect)
    parts = np.array_split(np.arange(blocks), min(launches, blocks))
    for part in parts:
        drawn[:, part] += rng.normal(0, math.sqrt(units) * process_sd, (experiments, 1))
    ordered = np.sort(drawn, axis=1)
    low, high = ordered[:, rank - 1], ordered[:, -rank]
    if len(parts) > 1:
        medians = np.stack([np.median(drawn[:, part], axis=1) for part in parts], axis=1)
        middle = medians.mean(axis=1)
        shift = middle - np.median(drawn, axis=1)
        freedom = (len(parts) - 1) * max(arms - 1, 1)
        variance = float(medians.var(axis=1, ddof=1).mean()) * rng.chisquare(freedom, experiments) / freedom
        half = student_t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(variance / len(parts))
        low, high = np.minimum(low + shift, middle - half), np.maximum(high + shift, middle + half)
    margin = math.log1p(EQUIVALENCE)
    different = (low > 0) if effect > 0 else (high < 0) if effect < 0 else (low > 0) | (high < 0)
    return float(np.mean(different & ~((low >= -margin) & (high <= margin))))


def blocks_to_detect(
    noise: ArrayLike,
    blocks_per_launch: int | None = None,
    process_sd: float = 0.0,
    arms: int = 3,
    units: float = 2.0,
    *,
    effect: float = 0.03,
    rate: float = 0.8,
    least: int = 6,
    most: int = 5_000,
) -> int | None:
    """The fewest blocks from `least` on (in steps of about 20 %) in which `effect` is found with probability `rate`; None where `most` do not suffice.

    `blocks_per_launch` stays as it is, so that more blocks are more launches; None keeps to one.
    """
    blocks = max(least, 6)  # fewer have no interval
    while blocks <= most:
        launches = 1 if blocks_per_launch is None else max(2, round(blocks / blocks_per_launch))
        if detection_rate(noise, effect, blocks, launches, process_sd, arms, units, experiments=400) >= rate:
            return blocks
        blocks = max(blocks + 1, int(blocks * 1.2))
    return None
