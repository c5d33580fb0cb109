"""The statistics of a benchmark: pure functions over numbers, each with its source. Knows nothing about runs, configurations or plots.

Times are compared as log-ratios of pairs, so that 2 % faster and 2 % slower are equally far from nothing. Samples of one block share what the machine
did in that minute: intervals resample blocks, never samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

CONFIDENCE = 0.95
#: Two configurations are equivalent when the interval of their ratio lies within 1 / 1.02 to 1.02.
EQUIVALENCE = 0.02
RESAMPLES = 2000
PERCENTILES = (90, 95, 99)
_SEED = 20250930  # of every bootstrap: the same run gives the same figures each time

Verdict = Literal["faster", "slower", "equivalent", "undecided"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; the bounds are None where there is too little to say."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Summary:
    """What is known about the samples of one configuration."""

    n: int
    mean: Estimate
    median: Estimate
    least: float
    most: float
    deviation: float  # sample standard deviation (n - 1)
    variation: Estimate  # coefficient of variation: deviation / mean
    percentiles: dict[int, Estimate]


@dataclass(frozen=True)
class Ratio:
    """Time of a over time of b, from paired blocks."""

    median: float
    low: float  # 0 and infinity where there are too few blocks for an interval
    high: float
    verdict: Verdict
    blocks: int
    more_blocks: int | None  # about how many more would decide; None where it is decided, or where nobody can say

    @property
    def decided(self) -> bool:
        """Whether the verdict is one."""
        return self.verdict != "undecided"


@dataclass(frozen=True)
class Line:
    """time = fixed + slope · length, by least squares."""

    fixed: Estimate  # milliseconds that an utterance costs whatever its length
    slope: Estimate  # milliseconds per second of generated audio
    r_squared: float


def median_interval(values: ArrayLike) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics that covers the median with at least 95 %, for any distribution (the sign test turned round).

    Infinite for fewer than six values, which cannot give 95 %. A percentile bootstrap of the median is narrower and wrong: with 30 normal values its
    interval misses the median in about 6 % of cases. Source: Conover, "Practical Nonparametric Statistics", 3rd edition 1999, section 3.2.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    rank = _rank(len(ordered))
    if not rank:
        return -math.inf, math.inf
    return float(ordered[rank - 1]), float(ordered[-rank])


def _rank(n: int) -> int:
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


def paired_ratio(log_ratios: ArrayLike) -> Ratio:
    """The median of the paired log-ratios (one a block, time of a over time of b) as a ratio, with its interval and verdict.

    "faster" and "slower" speak of a. Raises `ValueError` without blocks.
    """
    values = np.asarray(log_ratios, dtype=np.float64)
    if not values.size:
        raise ValueError("there are no paired blocks")
    low, high = median_interval(values)
    middle = float(np.median(values))
    said = verdict(low, high)
    more = _more_blocks(len(values), middle, low, high) if said == "undecided" else None
    return Ratio(math.exp(middle), math.exp(low), math.exp(high), said, len(values), more)


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


def detection_rate(noise: ArrayLike, effect: float, blocks: int, experiments: int = 1000, seed: int = _SEED) -> float:
    """How often a true change of `effect` (0.03: 3 % slower) is found in `blocks` blocks with the noise of these log-ratios.

    Each experiment draws `blocks` log-ratios from `noise`, centred on its median, with replacement, and shifts them by the effect; found means that the
    verdict names the right direction. With `effect` 0 the rate is that of false alarms, in either direction.
    """
    values = np.asarray(noise, dtype=np.float64)
    rank = _rank(blocks)
    if not rank or not values.size:
        return 0.0
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(values - np.median(values), (experiments, blocks)) + math.log1p(effect), axis=1)
    low, high = drawn[:, rank - 1], drawn[:, -rank]
    margin = math.log1p(EQUIVALENCE)
    different = (low > 0) if effect > 0 else (high < 0) if effect < 0 else (low > 0) | (high < 0)
    return float(np.mean(different & ~((low >= -margin) & (high <= margin))))


def blocks_to_detect(noise: ArrayLike, effect: float = 0.03, rate: float = 0.8, most: int = 20_000) -> int | None:
    """The fewest blocks (in steps of about 10 %) in which `effect` is found with probability `rate`; None where `most` do not suffice."""
    blocks = 6
    while blocks <= most:
        if detection_rate(noise, effect, blocks, experiments=400) >= rate:
            return blocks
        blocks = max(blocks + 1, int(blocks * 1.1))
    return None


# --- bootstrap


def _resampled(groups: Sequence[NDArray[np.intp]], n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices (RESAMPLES, n) of samples, whole groups drawn with replacement; groups of unequal size are cut or repeated to n."""
    size = len(groups[0])
    if all(len(group) == size for group in groups):
        table = np.stack(groups)  # (groups, size)
        return table[rng.integers(0, len(groups), (RESAMPLES, len(groups)))].reshape(RESAMPLES, -1)
    rows = np.empty((RESAMPLES, n), dtype=np.intp)
    for row in rows:
        chosen = np.concatenate([groups[index] for index in rng.integers(0, len(groups), len(groups))])
        row[:] = np.resize(chosen, n)
    return rows


def _groups(blocks: ArrayLike) -> list[NDArray[np.intp]]:
    labels = np.asarray(blocks)
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[order], return_index=True)
    return np.split(order, starts[1:])


def summarise(values: ArrayLike, blocks: ArrayLike) -> Summary:
    """Describe `values` (n,) whose `blocks` (n,) say which of them were measured together.

    Intervals are percentile bootstraps over blocks (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; 2,000 resamples with a
    fixed seed); percentiles are numpy's default, type 7 of Hyndman & Fan 1996. Fewer than three blocks give no interval. Raises `ValueError` for no
    values.
    """
    data = np.asarray(values, dtype=np.float64)
    if not data.size:
        raise ValueError("there are no samples")
    groups = _groups(blocks)
    deviation = float(data.std(ddof=1)) if len(data) > 1 else 0.0
    point = {"mean": float(data.mean()), "median": float(np.median(data)), "cv": deviation / float(data.mean())}
    point |= {f"p{q}": float(np.percentile(data, q)) for q in PERCENTILES}
    bounds: dict[str, tuple[float, float]] = {}
    if len(groups) >= 3:
        drawn = data[_resampled(groups, len(data), np.random.default_rng(_SEED))]
        means = drawn.mean(axis=1)
        quantiles = np.percentile(drawn, [50, *PERCENTILES], axis=1)
        resampled = {"mean": means, "cv": drawn.std(axis=1, ddof=1) / means, "median": quantiles[0]}
        resampled |= {f"p{q}": quantiles[1 + index] for index, q in enumerate(PERCENTILES)}
        bounds = {name: _bounds(found) for name, found in resampled.items()}
    made = {name: Estimate(value, *bounds.get(name, (None, None))) for name, value in point.items()}
    return Summary(
        n=len(data),
        mean=made["mean"],
        median=made["median"],
        least=float(data.min()),
        most=float(data.max()),
        deviation=deviation,
        variation=made["cv"],
        percentiles={q: made[f"p{q}"] for q in PERCENTILES},
    )


def _bounds(resampled: Floats) -> tuple[float, float]:
    low, high = np.percentile(resampled, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


def ratio_of_medians(a: ArrayLike, a_blocks: ArrayLike, b: ArrayLike, b_blocks: ArrayLike) -> Estimate:
    """Median of a over median of b, samples of two runs that were not paired, with a bootstrap interval that resamples the blocks of each.

    An interval of this kind knows nothing about what changed on the machine between the runs. Raises `ValueError` for no values.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not first.size or not second.size:
        raise ValueError("there are no samples")
    value = float(np.median(first) / np.median(second))
    groups = _groups(a_blocks), _groups(b_blocks)
    if min(map(len, groups)) < 3:
        return Estimate(value)
    rng = np.random.default_rng(_SEED)
    medians = [np.median(data[_resampled(group, len(data), rng)], axis=1) for data, group in zip((first, second), groups, strict=True)]
    return Estimate(value, *_bounds(medians[0] / medians[1]))


def fit_line(lengths: ArrayLike, times: ArrayLike, blocks: ArrayLike) -> Line | None:
    """Fit time (ms) against length (s of generated audio) by ordinary least squares, with bootstrap intervals over blocks.

    None with fewer than two different lengths.
    """
    x, y = np.asarray(lengths, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if len(x) < 2 or np.ptp(x) < 1e-9:
        return None
    fixed, slope = (float(value) for value in _least_squares(x[None], y[None])[:, 0])
    left = y - fixed - slope * x
    total = float(np.sum((y - y.mean()) ** 2))
    r_squared = 1 - float(np.sum(left**2)) / total if total else 1.0
    groups = _groups(blocks)
    if len(groups) < 3:
        return Line(Estimate(fixed), Estimate(slope), r_squared)
    rows = _resampled(groups, len(x), np.random.default_rng(_SEED))
    drawn = _least_squares(x[rows], y[rows])
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]  # a resample of one length alone has no slope
    return Line(Estimate(fixed, *_bounds(drawn[0])), Estimate(slope, *_bounds(drawn[1])), r_squared)


def _least_squares(x: Floats, y: Floats) -> Floats:
    """Intercept and slope (2, rows) of each row of x and y (rows, n)."""
    x_mean, y_mean = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.sum((x - x_mean) * (y - y_mean), axis=1) / np.sum((x - x_mean) ** 2, axis=1)
    return np.stack([y_mean[:, 0] - slope * x_mean[:, 0], slope])
