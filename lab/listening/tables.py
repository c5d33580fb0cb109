"""The tables of a study's results, as rows that are ready for JSON: orders and sides, catches, listeners, texts, systems. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lab.listening.judgements import Judgement
from lab.listening.model import Manifest, clip_name
from lab.listening.scoring import Scored
from lab.listening.statistics import binomial, bradley_terry, clustered, evalues, scales
from lab.listening.statistics.common import Interval
from lab.listening.statistics.screening import GOOD
from lab.listening.verdicts import Decision, Sample, Scale

ORDERED = ("ab", "ccr")  # types that ask each pair in both orders
SIDED = ("ab", "abx", "ccr", "staircase")

Row = dict[str, Any]


def rounded(value: float | None) -> float | None:
    """A figure for JSON: six decimals, and None for what is not a number."""
    return None if value is None or not np.isfinite(value) else round(float(value), 6)


def ends(interval: Interval | None) -> list[float | None]:
    """An interval for JSON."""
    return [None, None] if interval is None else [rounded(interval.low), rounded(interval.high)]


def sample_of(judgements: Iterable[Judgement]) -> Sample:
    """The answers as values with their listeners and texts."""
    there = list(judgements)
    return Sample(tuple(one.value for one in there), tuple(one.listener for one in there), tuple(one.text for one in there))


def differences(judgements: Sequence[Judgement], systems: Sequence[Judgement], reference: str) -> tuple[Sample, bool]:
    """What each listener gave `systems` (judgements of one system) minus what they gave the reference, text by text; and whether texts were paired.

    Several ratings of one clip by one listener are averaged. Where no listener heard both on one text, a listener's means over all texts are subtracted;
    the text of such a difference is -1.
    """
    references = [one for one in judgements if one.role == "system" and one.comparison == reference]
    for by_text in (True, False):
        theirs, ours = _means(systems, by_text=by_text), _means(references, by_text=by_text)
        both = [key for key in theirs if key in ours]
        if both or not by_text:
            values = tuple(theirs[key] - ours[key] for key in both)
            return Sample(values, tuple(listener for listener, _ in both), tuple(text for _, text in both)), by_text
    raise AssertionError("not reached")


def _means(judgements: Sequence[Judgement], *, by_text: bool) -> dict[tuple[int, int], float]:
    cells: dict[tuple[int, int], list[float]] = {}
    for one in judgements:
        cells.setdefault((one.listener, one.text if by_text else -1), []).append(one.value)
    return {key: sum(found) / len(found) for key, found in cells.items()}


def order_row(judgements: Sequence[Judgement], kind: str) -> Row | None:
    """How often the two orders of a pair contradict each other, over couples of one listener, one pair and both orders; None where orders are not asked.

    `contradicting` couples favour opposite systems, so that the answer followed the side; `half` have one answer without a preference.
    `estimate_without_contradicting` is the mean of all other answers.
    """
    if kind not in ORDERED:
        return None
    middle = 0.5 if kind == "ab" else 0.0
    couples: dict[tuple[int, int], dict[str, list[float]]] = {}
    for one in judgements:
        couples.setdefault((one.listener, one.unit), {}).setdefault(one.order, []).append(one.value - middle)
    counts = {"agreeing": 0, "contradicting": 0, "half": 0}
    kept: list[float] = []
    for orders in couples.values():
        means = [sum(found) / len(found) for found in orders.values()]
        contradicts = len(means) == 2 and means[0] * means[1] < 0
        if len(means) == 2:
            half = not contradicts and means[0] * means[1] == 0 and means != [0, 0]
            counts["contradicting" if contradicts else "half" if half else "agreeing"] += 1
        if not contradicts:
            kept += [value + middle for found in orders.values() for value in found]
    number = sum(counts.values())
    share = counts["contradicting"] / number if number else None
    without = float(np.mean(kept)) if kept else None
    return {"couples": number, **counts, "share": rounded(share), "estimate_without_contradicting": rounded(without)}


def position_row(judgements: Sequence[Judgement], kind: str, decision: Decision) -> Row | None:
    """The share of answers in favour of the first side (of abx and staircase: that say A), of those that favour a side; None where there are no sides."""
    if kind not in SIDED:
        return None
    sides = [one for one in judgements if one.first in (0.0, 1.0)]
    first, n = int(sum(one.first or 0.0 for one in sides)), len(sides)
    if decision == "anytime":
        interval = evalues.anytime_interval(first, n)
    else:
        over_people = clustered.resample([one.first or 0.0 for one in sides], [one.listener for one in sides], [one.text for one in sides])
        interval = binomial.clopper_pearson(first, n).hull(clustered.interval(over_people))
    return {"n": n, "first": first, "share": rounded(first / n) if n else None, "interval": ends(interval) if n else [None, None]}


def catch_rows(scored: Scored) -> Row:
    """How catches were answered: those with the 3.5 kHz anchor, and pairs of identical clips, which say something about bias and nothing about hearing."""
    anchors = [one for one in scored.catches if one.expects == "a" and one.passed is not None]
    same = [one for one in scored.catches if one.expects == "same"]
    told = [one for one in same if one.passed is not None]
    sided = [one.first for one in same if one.first in (0.0, 1.0)]
    passed, said_same = sum(bool(one.passed) for one in anchors), sum(bool(one.passed) for one in told)
    return {
        "anchor": {"n": len(anchors), "passed": passed, "share": rounded(passed / len(anchors)) if anchors else None},
        "same": {
            "n": len(same),
            "said_same": said_same if told else None,
            "share": rounded(said_same / len(told)) if told else None,
            "chose_first": rounded(sum(one or 0.0 for one in sided) / len(sided)) if sided else None,
        },
    }


def listener_rows(scored: Scored, all_judged: Sequence[Judgement], kind: str, reference: str) -> list[Row]:
    """A row for each session, those that do not count too; `estimate` is the mean of its answers (abx: share right; ab: share for the comparisons).

    Catches are those with the 3.5 kHz anchor; in mushra the hidden references, of which those with 90 points or more are passed.
    """
    rows = []
    for listener in scored.listeners:
        mine = [one for one in all_judged if one.listener == listener.number]
        told = [one.passed for one in scored.catches if one.listener == listener.number and one.expects == "a" and one.passed is not None]
        if kind == "mushra":
            told = [one.value >= GOOD for one in mine if one.comparison == reference]
        sides = [one.first for one in mine if one.first in (0.0, 1.0)]
        rows.append(
            {
                "listener": listener.number,
                "counts": not listener.dropped,
                "dropped": listener.dropped,
                "finished": listener.finished,
                "n": len(mine),
                "estimate": rounded(float(np.mean([one.value for one in mine]))) if mine else None,
                "catches": len(told),
                "catches_passed": sum(map(bool, told)),
                "chose_first": rounded(sum(one or 0.0 for one in sides) / len(sides)) if sides and kind in SIDED else None,
                "headphones": {True: "passed", False: "failed", None: "not taken"}[listener.headphones],
                "minutes": round(listener.minutes, 2),
            }
        )
    return rows


def text_rows(manifest: Manifest, samples: Sequence[tuple[str, Sample]]) -> list[Row]:
    """A row for each comparison and text that has answers."""
    rows = []
    for comparison, sample in samples:
        by_text: dict[int, list[float]] = {}
        for value, text in zip(sample.values, sample.texts, strict=True):
            by_text.setdefault(text, []).append(value)
        for text, values in sorted(by_text.items()):
            name = manifest.texts[text].id if text >= 0 else "all texts"
            rows.append({"comparison": comparison, "text": name, "n": len(values), "estimate": rounded(float(np.mean(values)))})
    return rows


def system_rows(judged: Sequence[Judgement], manifest: Manifest, scale: Scale, decision: Decision) -> list[Row]:
    """Ratings of every system: median and quartiles first, then the mean with its interval, and the mean adjusted for listeners and texts.

    The reference is the first; the same with another seed and the anchors come last and take no part in Holm's correction. p is that of the permutation
    test against the reference, paired within listener and text.
    """
    groups: dict[str, list[Judgement]] = {config.name: [] for config in manifest.configs}
    for one in judged:
        groups.setdefault(clip_name(one.comparison, one.role), []).append(one)
    groups = {name: group for name, group in groups.items() if group}
    named = [(name, one) for name, group in groups.items() for one in group]
    adjusted = scales.adjusted_means(
        [one.value for _, one in named], [name for name, _ in named], [one.listener for _, one in named], [one.text for _, one in named]
    )
    rows, p_values = [], []
    for name, group in groups.items():
        found, sample = scales.spread([one.value for one in group]), sample_of(group)
        means = clustered.resample(sample.values, sample.listeners, sample.texts)
        medians = clustered.resample(sample.values, sample.listeners, sample.texts, "median")
        trial = scales.mean_interval(sample.values, scale.step)
        interval = trial.hull(clustered.interval(means)) if trial else None
        fixed = decision == "fixed"
        tested = None
        if fixed and name != manifest.reference:
            paired, _ = differences(judged, group, manifest.reference)
            tested = scales.permutation(paired.values, paired.listeners)
        is_config = group[0].role == "system" and name != manifest.reference
        p_values.append(tested.p if tested and is_config else None)
        rows.append(
            {
                "system": name,
                "role": group[0].role,
                "n": found.n,
                "median": found.median,
                "median_interval": ends(clustered.interval(medians)) if fixed else [None, None],
                "q1": found.q1,
                "q3": found.q3,
                "iqr": found.iqr,
                "mean": rounded(found.mean),
                "mean_interval": ends(interval) if fixed else [None, None],
                "adjusted_mean": rounded(adjusted[name]),
                "p_value": rounded(tested.p) if tested else None,
                "permuted_by": tested.by if tested else None,
            }
        )
    for row, p in zip(rows, scales.holm(p_values), strict=True):
        row["p_holm"] = rounded(p)
    return rows


def strengths(judgements: Sequence[Judgement], reference: str, decision: Decision) -> Row | None:
    """Bradley-Terry over several comparisons, each with the reference; None with fewer than two of them."""
    if len({one.comparison for one in judgements}) < 2:
        return None
    answers = []
    for one in judgements:
        pair = (reference, one.comparison) if one.order == "reference first" else (one.comparison, reference)
        outcome: bradley_terry.Outcome = "tie" if one.value == 0.5 else "first" if one.first == 1 else "second"
        answers.append(bradley_terry.Answer(*pair, outcome, one.listener, one.text))
    found = bradley_terry.fit(answers, reference, bootstrap=decision == "fixed")
    if found is None:
        return None
    return {
        "reference": reference,
        "answers": found.answers,
        "first_advantage": rounded(found.first_advantage),
        "readiness_for_ties": rounded(found.readiness_for_ties),
        "systems": [
            {
                "system": one.system,
                "strength": rounded(one.strength),
                "preferred": rounded(one.win),
                "tie": rounded(one.tie),
                "share": rounded(one.share),
                "interval": ends(one.interval),
            }
            for one in sorted(found.systems, key=lambda one: -one.strength)
        ],
    }
