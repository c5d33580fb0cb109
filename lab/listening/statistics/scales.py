"""Ratings on a scale: how they spread, the interval of a mean, means adjusted for who listened to what, permutation tests, and many tests at once."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lab.listening.statistics.common import CONFIDENCE, SEED, Floats, Interval

LEAST_CLUSTERS = 6  # sign flips of five can never give a two-sided p below .05: 2 / 2^5 = .0625
_EXACT = 16  # up to so many clusters every flip is tried
_DRAWS = 10_000


@dataclass(frozen=True)
class Spread:
    """Ratings in five figures; quartiles are type 7 of Hyndman & Fan 1996 (numpy's default)."""

    n: int
    median: float
    q1: float
    q3: float
    mean: float

    @property
    def iqr(self) -> float:
        """Interquartile range."""
        return self.q3 - self.q1


def spread(values: ArrayLike) -> Spread:
    """Describe `values` (n,). Raises `ValueError` for none."""
    data = np.asarray(values, dtype=np.float64)
    if not data.size:
        raise ValueError("there are no ratings")
    q1, median, q3 = (float(value) for value in np.percentile(data, [25, 50, 75]))
    return Spread(int(data.size), median, q1, q3, float(data.mean()))


def mean_interval(values: ArrayLike, step: float = 0.0, confidence: float = CONFIDENCE) -> Interval | None:
    """Student's t interval for the mean of `values` (n,); None for fewer than two.

    `step` is the distance between two answers of the scale. Answers that all agree do not make the interval vanish: the standard deviation is taken as at
    least that of rounding to the step, step / √12.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        return None
    deviation = max(float(data.std(ddof=1)), step / math.sqrt(12))
    half = float(stats.t.ppf((1 + confidence) / 2, data.size - 1)) * deviation / math.sqrt(data.size)
    mean = float(data.mean())
    return Interval(mean - half, mean + half)


def adjusted_means(
    values: ArrayLike, systems: Sequence[str], listeners: Sequence[Hashable], texts: Sequence[Hashable]
) -> dict[str, float | None]:
    """What each system would get from the average listener on the average text: rating = system + listener + text, by least squares.

    In order of appearance. Every listener and every text counts alike, however often they occur. None for a system that shares no listeners or texts
    with the others, directly or through further systems, so that no such figure exists (the contrast is not estimable: Searle 1971, "Linear models").
    """
    data = np.asarray(values, dtype=np.float64)
    names = list(dict.fromkeys(systems))
    if not names:
        return {}
    blocks = [_indicators(systems), _indicators(listeners), _indicators(texts)]
    design = np.concatenate(blocks, axis=1)
    inverse = np.linalg.pinv(design)
    effects, seen = inverse @ data, inverse @ design
    average = np.concatenate([np.full(block.shape[1], 1 / block.shape[1]) for block in blocks])
    made: dict[str, float | None] = {}
    for place, name in enumerate(names):
        contrast = average.copy()
        contrast[: len(names)] = np.arange(len(names)) == place
        made[name] = float(contrast @ effects) if np.allclose(contrast @ seen, contrast, atol=1e-8) else None
    return made


def _indicators(labels: Sequence[Hashable]) -> Floats:
    names = list(dict.fromkeys(labels))
    return np.asarray([[label == name for name in names] for label in labels], dtype=np.float64)


@dataclass(frozen=True)
class Permutation:
    """A p-value, and what was exchanged to get it."""

    p: float
    by: str  # "listener" or "pair"
    clusters: int
    exact: bool  # every exchange was tried


def permutation(differences: ArrayLike, listeners: Sequence[Hashable]) -> Permutation | None:
    """Two-sided test of paired `differences` (n,) against "the two could as well be exchanged"; None for none.

    Each difference is between two systems heard by one listener on one text. Under the null hypothesis its sign is a coin's (Fisher 1935, "The design of
    experiments", section 21). Signs are flipped for all differences of a listener together where there are at least six listeners, since those are not
    independent, and otherwise one by one. All flips are tried for up to 16 of them, and otherwise 10,000 drawn ones (fixed seed), the observed one counted
    (Phipson & Smyth 2010).
    """
    data = np.asarray(differences, dtype=np.float64)
    if not data.size:
        return None
    by_listener = len(set(listeners)) >= LEAST_CLUSTERS
    sums = _indicators(listeners).T @ data if by_listener else data
    observed = abs(float(sums.sum()))
    slack = 1e-9 * max(float(np.abs(sums).sum()), 1.0)  # sums of floats that are equal on paper
    if exact := sums.size <= _EXACT:
        flips = 1.0 - 2.0 * ((np.arange(2**sums.size)[:, None] >> np.arange(sums.size)) & 1)
        p = float(np.mean(np.abs(flips @ sums) >= observed - slack))
    else:
        rng = np.random.default_rng(SEED)
        extreme = 0
        for _ in range(10):
            flips = rng.integers(0, 2, (_DRAWS // 10, sums.size)) * 2.0 - 1.0
            extreme += int(np.sum(np.abs(flips @ sums) >= observed - slack))
        p = (extreme + 1) / (_DRAWS + 1)
    return Permutation(p, "listener" if by_listener else "pair", int(sums.size), exact)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for how many there are (Holm 1979, step-down); None stays None and does not count."""
    there = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    made: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(there):
        largest = max(largest, min(1.0, p * (len(there) - rank)))
        made[place] = largest
    return made
