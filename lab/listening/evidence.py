"""How far a finding can be trusted: whether one listener or one text carries it, how many there were, and how the evidence grew with every answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lab.listening.statistics import clustered, evalues
from lab.listening.verdicts import SCALES, Sample


def carried_by(sample: Sample, judge: Callable[[Sample], float | None]) -> list[tuple[str, int]]:
    """("listener" or "text", which) without whose answers the effect that `judge` measures falls to a third or less, or turns round.

    Empty when there are fewer than three of a kind, or when there is no effect.
    """
    whole = judge(sample)
    found: list[tuple[str, int]] = []
    if not whole:
        return found
    for kind, labels in (("listener", sample.listeners), ("text", sample.texts)):
        if len(set(labels)) < clustered.LEAST:
            continue
        for label in dict.fromkeys(labels):
            keep = [place for place, other in enumerate(labels) if other != label]
            rest = judge(Sample(*(tuple(column[place] for place in keep) for column in (sample.values, sample.listeners, sample.texts))))  # type: ignore[arg-type]
            if rest is not None and rest / whole <= 1 / 3:
                found.append((kind, label))
    return found


def people_notes(sample: Sample) -> list[str]:
    """What a small number of listeners or texts means for the verdict."""
    notes = []
    for word, labels in (("listener", sample.listeners), ("text", sample.texts)):
        many = len(set(labels))
        if 0 < many < clustered.LEAST:
            notes.append(
                f"Only {many} {word}{'s' * (many != 1)}: nothing is known about others, and the interval treats answers as independent."
            )
    return notes


def running(sample: Sample, kind: str, most: int = 200) -> list[dict[str, float]]:
    """How the e-value and the confidence sequence went, after at most `most` of the answers, evenly spread, the last among them.

    `kind`: "abx", "ab", or a scale in `SCALES`. Valid at every point; the figures are those of the answers in the order in which they were given.
    """
    n = len(sample.values)
    values = np.asarray(sample.values)
    middle = 0.0 if kind in SCALES else 0.5
    totals, above, below = values.cumsum(), (values > middle).cumsum(), (values < middle).cumsum()
    made = []
    for place in dict.fromkeys(np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist()):
        count, total, wins, losses = place + 1, float(totals[place]), int(above[place]), int(below[place])
        scale = SCALES.get(kind)
        interval = evalues.anytime_interval(total, count) if scale is None else evalues.anytime_mean(total, count, scale.least, scale.most)
        e_value = evalues.e_above(wins, count) if kind == "abx" else evalues.e_either(wins, wins + losses)
        made.append({"n": count, "estimate": total / count, "e_value": e_value, "low": interval.low, "high": interval.high})
    return made
