"""Descriptions of samples: pure functions over numbers, each with its source. Knows nothing about runs, configurations or plots.

Samples of one block share what the machine did in that minute: intervals resample blocks, never samples. Pairs are compared in `lab.bench.ratios`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000
PERCENTILES = (90, 95, 99)
SEED = 20250930  # of every bootstrap: the same run gives the same figures each time

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
class Line:
    """time = fixed + slope · length, by least squares."""

    fixed: Estimate  # milliseconds that an utterance costs whatever its length
    slope: Estimate  # milliseconds per second of generated audio
    r_squared: float


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
