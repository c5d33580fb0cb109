"""A bootstrap that resamples listeners and texts, not answers: what would come out with other people and other sentences.

Answers of one listener are alike, and so are answers to one text; an interval that took each answer as a fresh one would be too narrow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lab.listening.statistics.common import CONFIDENCE, SEED, Floats, Interval

RESAMPLES = 2000
LEAST = 3  # listeners, and texts: fewer say nothing about how they differ
_AT_ONCE = 4_000_000  # weights held in memory


def enough(listeners: Sequence[Hashable], texts: Sequence[Hashable]) -> bool:
    """Whether there are at least three different listeners and three different texts."""
    return len(set(listeners)) >= LEAST and len(set(texts)) >= LEAST


def weights(listeners: Sequence[Hashable], texts: Sequence[Hashable]) -> Floats:
    """How often each answer occurs in each resample, (2000, n): how often its listener was drawn times how often its text was.

    Listeners and texts are drawn independently of each other, each with replacement (the "pigeonhole" bootstrap: McCullagh 2000, Owen 2007, "The
    pigeonhole bootstrap", Annals of Applied Statistics 1). It rather overstates the spread than understates it.
    """
    who, what = _codes(listeners), _codes(texts)
    drawn_who, drawn_what = _drawn(who, what)
    return np.asarray(drawn_who[:, who] * drawn_what[:, what], dtype=np.float64)


def resample(
    values: ArrayLike, listeners: Sequence[Hashable], texts: Sequence[Hashable], statistic: Literal["mean", "median"] = "mean"
) -> Floats:
    """The mean or median of `values` (n,) in each resample, (about 2000,); empty with fewer than three listeners or texts.

    Always the same for the same answers (fixed seed). A resample into which no answer fell, possible where not everybody heard everything, is left out.
    """
    data = np.asarray(values, dtype=np.float64)
    if not enough(listeners, texts):
        return np.empty(0)
    if statistic == "median":
        return _medians(data, listeners, texts)
    who, what = _codes(listeners), _codes(texts)
    drawn_who, drawn_what = _drawn(who, what)
    shape = drawn_who.shape[1], drawn_what.shape[1]
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (who, what), data)
    np.add.at(counts, (who, what), 1.0)
    total, number = (((drawn_who @ table) * drawn_what).sum(axis=1) for table in (sums, counts))
    return np.asarray(total[number > 0] / number[number > 0], dtype=np.float64)


def interval(resampled: Floats, confidence: float = CONFIDENCE) -> Interval | None:
    """The percentile interval of `resampled` (Efron & Tibshirani 1993, chapter 13); None for no resamples."""
    if not resampled.size:
        return None
    low, high = np.percentile(resampled, [50 * (1 - confidence), 50 * (1 + confidence)])
    return Interval(float(low), float(high))


def upper(resampled: Floats, confidence: float = CONFIDENCE) -> float | None:
    """The one-sided upper bound of `resampled`; None for no resamples."""
    return float(np.percentile(resampled, 100 * confidence)) if resampled.size else None


def _codes(labels: Sequence[Hashable]) -> NDArray[np.intp]:
    places = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    return np.asarray([places[label] for label in labels], dtype=np.intp)


def _drawn(who: NDArray[np.intp], what: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """How often each listener (2000, listeners) and each text (2000, texts) was drawn."""
    rng = np.random.default_rng(SEED)
    made = []
    for codes in (who, what):
        size = int(codes.max()) + 1
        made.append(rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(np.float64))
    return made[0], made[1]


def _medians(data: Floats, listeners: Sequence[Hashable], texts: Sequence[Hashable]) -> Floats:
    """Weighted medians: the value at which half of the weight is reached, or the middle between it and the next where it is reached exactly."""
    who, what = _codes(listeners), _codes(texts)
    drawn_who, drawn_what = _drawn(who, what)
    order = np.argsort(data, kind="stable")
    ordered, who, what = data[order], who[order], what[order]
    found = []
    step = max(1, _AT_ONCE // max(data.size, 1))
    for start in range(0, RESAMPLES, step):
        part = slice(start, start + step)
        reached = np.cumsum(drawn_who[part][:, who] * drawn_what[part][:, what], axis=1)
        reached = reached[reached[:, -1] > 0]
        half = reached[:, -1:] / 2
        found.append((ordered[np.argmax(reached >= half, axis=1)] + ordered[np.argmax(reached > half, axis=1)]) / 2)
    return np.concatenate(found)
