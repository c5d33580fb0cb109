"""Pairs compared: the ratio of two times from paired blocks, its interval, and the verdict. Pure functions over numbers, each with its source.

Times are compared as log-ratios, so that 2 % faster and 2 % slower are equally far from nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom
from scipy.stats import t as student_t

from lab.bench.statistics import CONFIDENCE, Floats

#: Two configurations are equivalent when the interval of their ratio lies within 1 / 1.02 to 1.02.
EQUIVALENCE = 0.02

Verdict = Literal["faster", "slower", "equivalent", "undecided"]


@dataclass(frozen=True)
class Ratio:
    """Time of a over time of b, from paired blocks."""

    median: float
    low: float  # 0 and infinity where there are too few blocks for an interval
    high: float
    verdict: Verdict
    blocks: int
    more_blocks: int | None  # about how many more would decide; None where it is decided, or where nobody can say
    launches: int = 1  # sets of processes that the blocks are spread over

    @property
    def decided(self) -> bool:
        """Whether the verdict is one."""
        return self.verdict != "undecided"

    @property
    def differs(self) -> bool:
        """Whether a is faster or slower than b."""
        return self.verdict in ("faster", "slower")


@dataclass(frozen=True)
class Spread:
    """How the arms of a launch lie about their own means: what processes of one configuration differ by, with what is left of the noise of blocks."""

    mean_square: float  # of log times
    freedom: int


def median_interval(values: ArrayLike) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics that covers the median with at least 95 %, for any distribution (the sign test turned round).

    Infinite for fewer than six values, which cannot give 95 %. A percentile bootstrap of the median is narrower and wrong: with 30 normal values its
    interval misses the median in about 6 % of cases. Source: Conover, "Practical Nonparametric Statistics", 3rd edition 1999, section 3.2.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    rank = sign_rank(len(ordered))
    if not rank:
        return -math.inf, math.inf
    return float(ordered[rank - 1]), float(ordered[-rank])


def sign_rank(n: int) -> int:
    """The largest k with P(Binomial(n, 1/2) < k) ≤ 2.5 %: the interval reaches from the k-th smallest value to the k-th largest. 0: there is none."""
    k = int(binom.ppf((1 - CONFIDENCE) / 2, n, 0.5))
    while k and binom.cdf(k - 1, n, 0.5) > (1 - CONFIDENCE) / 2:
        k -= 1
    return k


def verdict(low: float, high: float) -> Verdict:
    """What an interval of the log-ratio says; equivalence comes first, because a difference too small to matter is none."""
    margin = math.log1p(EQUIVALENCE)
    if -margin <= low and high <= margin:
        return "equivalent"
    if high < 0:
        return "faster"
    return "slower" if low > 0 else "undecided"


def launch_weights(sizes: ArrayLike) -> Floats:
    """How much each launch counts, from its number of blocks (launches,); the weights sum up to 1.

    n / (n + mean n): alike where launches are alike, as `--launches` plans them, and less for one that was cut short, whose median says little. They
    are the random-effects weights where processes differ by as much as the blocks of an average launch leave open (DerSimonian & Laird 1986).
    """
    blocks = np.asarray(sizes, dtype=np.float64)
    weights = blocks / (blocks + blocks.mean())
    shares: Floats = weights / weights.sum()
    return shares


def launch_spread(table: ArrayLike, launches: ArrayLike) -> Spread | None:
    """What two processes of the same configuration differ by, estimated from all arms together: `table` (blocks, arms) of log times.

    `launches` (blocks,) says which set of processes each block was measured by. It is the residual mean square of the arms' medians (launches, arms), from
    which the means of launches and of arms are taken away; None with one launch or one arm. Source: the randomised complete block design, Montgomery,
    "Design and Analysis of Experiments", 8th edition, section 4.1; that processes, not utterances, are what has to be repeated is from Kalibera & Jones,
    "Rigorous Benchmarking in Reasonable Time", ISMM 2013.
    """
    values = np.asarray(table, dtype=np.float64)
    medians, sizes = _launch_medians(values - values.mean(axis=1, keepdims=True), launches)
    n, arms = medians.shape
    if n < 2 or arms < 2:
        return None
    weights = launch_weights(sizes)
    residual = medians - medians.mean(axis=1, keepdims=True)
    residual -= weights @ residual
    return Spread(_mean_square(weights, np.sum(residual**2, axis=1) / (arms - 1)), (n - 1) * (arms - 1))


def _launch_medians(values: Floats, launches: ArrayLike) -> tuple[Floats, NDArray[np.intp]]:
    """The medians (launches, …) of `values` (blocks, …) in each launch, and how many blocks each has."""
    labels = np.asarray(launches)
    names, sizes = np.unique(labels, return_counts=True)
    return np.stack([np.median(values[labels == name], axis=0) for name in names]), sizes


def _mean_square(weights: Floats, squares: Floats) -> float:
    """What the squares (launches,) of the residuals about a weighted mean come to, so that this / launches is the variance of a weighted mean.

    With equal weights their sum over launches - 1; otherwise that of fewer launches, 1 / sum of squared weights, which is right where processes differ
    by more than blocks do, and wider than needed where they do not.
    """
    effective = 1 / float(weights @ weights)
    return len(weights) * float(weights @ squares) / (effective - 1)


def paired_ratio(log_ratios: ArrayLike, launches: ArrayLike | None = None, spread: Spread | None = None, units: float = 2.0) -> Ratio:
    """The median of the paired log-ratios (n,), one a block, time of a over time of b, as a ratio with its interval and verdict.

    `launches` (n,) says which set of processes each block was measured by. With several of them the ratio is the mean of their medians (`launch_weights`),
    and the interval is the wider of two: over blocks (`median_interval`), and over launches (Student's t with `spread`), because processes of one
    configuration can differ for as long as they live. `units` is the variance of a difference in those of one process: 2 for one against one, 1.5 for one
    against the mean of two. "faster" and "slower" speak of a. Raises `ValueError` without blocks.
    """
    values = np.asarray(log_ratios, dtype=np.float64)
    if not values.size:
        raise ValueError("there are no paired blocks")
    low, high = median_interval(values)
    middle, count = float(np.median(values)), 1
    if launches is not None:
        medians, sizes = _launch_medians(values, launches)
        count = len(medians)
        if count > 1:
            shift = float(launch_weights(sizes) @ medians) - middle
            middle += shift
            half = launch_half_width(medians, sizes, spread, units)
            low, high = min(low + shift, middle - half), max(high + shift, middle + half)
    said = verdict(low, high)
    more = _more_blocks(len(values), middle, low, high) if said == "undecided" else None
    return Ratio(math.exp(middle), math.exp(low), math.exp(high), said, len(values), more, count)


def launch_half_width(medians: Floats, sizes: ArrayLike, spread: Spread | None, units: float = 2.0) -> float:
    """Half of the 95 % interval of the mean of `medians` (launches,) of `sizes` (launches,) blocks.

    With the spread of all arms where it is known (`units` of it, as in `paired_ratio`), otherwise with their own.
    """
    n = len(medians)
    if spread is None:
        weights = launch_weights(sizes)
        spread = Spread(_mean_square(weights, (medians - weights @ medians) ** 2) / units, n - 1)
    return float(student_t.ppf((1 + CONFIDENCE) / 2, spread.freedom)) * math.sqrt(units * spread.mean_square / n)


def _more_blocks(n: int, middle: float, low: float, high: float) -> int | None:
    """How many more blocks decide, if the median stays where it is and the interval shrinks with the square root of their number."""
    if math.isinf(high):
        return max(6 - n, 1)  # six are the fewest that have an interval; then it can be said
    half = (high - low) / 2
    margin = math.log1p(EQUIVALENCE)
    wanted = max(abs(middle), margin - abs(middle))  # narrower than one of the two: away from nothing, or inside the margin
    if half <= 0:
        return None
    return max(1, math.ceil(n * (half / wanted) ** 2) - n)
