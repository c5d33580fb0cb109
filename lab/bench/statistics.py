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
from scipy.stats import t as student_t

CONFIDENCE = 0.95
#: Two configurations are equivalent when the interval of their ratio lies within 1 / 1.02 to 1.02.
EQUIVALENCE = 0.02
RESAMPLES = 2000
PERCENTILES = (90, 95, 99)
SEED = 20250930  # of every bootstrap: the same run gives the same figures each time

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


def launch_spread(table: ArrayLike) -> Spread | None:
    """The residual mean square of `table` (launches, arms): log times, from which the means of launches and of arms are taken away.

    None with one launch or one arm. It is what two processes of the same configuration differ by, estimated from all arms together. Source: the
    randomised complete block design, Montgomery, "Design and Analysis of Experiments", 8th edition, section 4.1; that processes, not utterances, are
    what has to be repeated is from Kalibera & Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013.
    """
    values = np.asarray(table, dtype=np.float64)
    launches, arms = values.shape
    if launches < 2 or arms < 2:
        return None
    residual = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    freedom = (launches - 1) * (arms - 1)
    return Spread(float(np.sum(residual**2)) / freedom, freedom)


def paired_ratio(log_ratios: ArrayLike, launches: ArrayLike | None = None, spread: Spread | None = None) -> Ratio:
    """The median of the paired log-ratios (n,), one a block, time of a over time of b, as a ratio with its interval and verdict.

    `launches` (n,) says which set of processes each block was measured by. With several of them the ratio is the mean of their medians, and the interval is
    the wider of two: over blocks (`median_interval`), and over launches (Student's t with `spread`), because processes of one configuration can differ for
    as long as they live. "faster" and "slower" speak of a. Raises `ValueError` without blocks.
    """
    values = np.asarray(log_ratios, dtype=np.float64)
    if not values.size:
        raise ValueError("there are no paired blocks")
    low, high = median_interval(values)
    middle, count = float(np.median(values)), 1
    if launches is not None:
        labels = np.asarray(launches)
        medians = np.array([np.median(values[labels == label]) for label in np.unique(labels)])
        count = len(medians)
        if count > 1:
            shift = float(medians.mean()) - middle
            middle += shift
            half = launch_half_width(medians, spread)
            low, high = min(low + shift, middle - half), max(high + shift, middle + half)
    said = verdict(low, high)
    more = _more_blocks(len(values), middle, low, high) if said == "undecided" else None
    return Ratio(math.exp(middle), math.exp(low), math.exp(high), said, len(values), more, count)


def launch_half_width(medians: Floats, spread: Spread | None) -> float:
    """Half of the 95 % interval of the mean of `medians` (launches,): with the spread of all arms where it is known, otherwise with their own."""
    n = len(medians)
    if spread is None:
        spread = Spread(float(medians.var(ddof=1)) / 2, n - 1)
    return float(student_t.ppf((1 + CONFIDENCE) / 2, spread.freedom)) * math.sqrt(2 * spread.mean_square / n)


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


# --- bootstrap


def _resampled_within(strata: ArrayLike, blocks: ArrayLike, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices (RESAMPLES, about n) of samples: blocks drawn with replacement within each stratum, so that every resample has as much of each."""
    labels, numbers = np.asarray(strata), np.asarray(blocks)
    parts = []
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        parts.append(mine[_resampled(_groups(numbers[mine]), rng)])
    return np.concatenate(parts, axis=1)


def _resampled(groups: Sequence[NDArray[np.intp]], rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices (RESAMPLES, about n) of samples, whole groups drawn with replacement.

    A group that has lost samples is filled up with those it has left, so that each counts as much as any other, and all are drawn at once.
    """
    size = max(map(len, groups))
    table = np.stack([np.resize(group, size) for group in groups])  # (groups, size)
    return table[rng.integers(0, len(groups), (RESAMPLES, len(groups)))].reshape(RESAMPLES, -1)


def _groups(blocks: ArrayLike) -> list[NDArray[np.intp]]:
    labels = np.asarray(blocks)
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[order], return_index=True)
    return np.split(order, starts[1:])


def summarise(values: ArrayLike, blocks: ArrayLike, strata: ArrayLike | None = None) -> Summary:
    """Describe `values` (n,) whose `blocks` (n,) say which of them were measured together.

    `strata` (n,) says of what kind each is, where the share of each kind was chosen (texts of several lengths) and is not left to chance. Intervals are
    percentile bootstraps over blocks (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; 2,000 resamples with a fixed seed);
    percentiles are numpy's default, type 7 of Hyndman & Fan 1996. Fewer than three blocks give no interval. Raises `ValueError` for no values.
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
        drawn = data[_resampled_within(np.zeros(len(data)) if strata is None else strata, blocks, np.random.default_rng(SEED))]
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
    rng = np.random.default_rng(SEED)
    medians = [np.median(data[_resampled(group, rng)], axis=1) for data, group in zip((first, second), groups, strict=True)]
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
    rows = _resampled(groups, np.random.default_rng(SEED))
    drawn = _least_squares(x[rows], y[rows])
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]  # a resample of one length alone has no slope
    return Line(Estimate(fixed, *_bounds(drawn[0])), Estimate(slope, *_bounds(drawn[1])), r_squared)


def _least_squares(x: Floats, y: Floats) -> Floats:
    """Intercept and slope (2, rows) of each row of x and y (rows, n)."""
    x_mean, y_mean = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.sum((x - x_mean) * (y - y_mean), axis=1) / np.sum((x - x_mean) ** 2, axis=1)
    return np.stack([y_mean[:, 0] - slope * x_mean[:, 0], slope])
