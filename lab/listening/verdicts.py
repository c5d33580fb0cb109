"""What may be concluded from the answers about one comparison: different, equivalent within the margin, or undecided, with the figures behind it.

Pure functions over values with their listeners and texts; knows nothing about sessions. Two ways of deciding: once, when the study is over ("fixed"), or
by figures that hold however often somebody looked ("anytime"). The second shows no p-value and no interval of the first kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from lab.listening.statistics import binomial, clustered, evalues, scales
from lab.listening.statistics.common import ALPHA, Interval

Verdict = Literal["different", "equivalent", "undecided"]
Decision = Literal["fixed", "anytime"]

LEAST_RATINGS = 6  # of a mean: fewer can never reach p < .05 in a two-sided sign test (2 / 2^5)


@dataclass(frozen=True)
class Sample:
    """The answers about one comparison: values with the listener and the text of each, in the order in which they were given."""

    values: tuple[float, ...]
    listeners: tuple[int, ...]
    texts: tuple[int, ...]

    def couples(self) -> list[float]:
        """The mean of every listener's answers about every text: the two orders of a pair are one observation."""
        cells: dict[tuple[int, int], list[float]] = {}
        for value, listener, text in zip(self.values, self.listeners, self.texts, strict=True):
            cells.setdefault((listener, text), []).append(value)
        return [sum(found) / len(found) for found in cells.values()]


@dataclass(frozen=True)
class Finding:
    """A verdict and its figures; None where a figure does not exist or must not be shown."""

    verdict: Verdict
    lead: str  # what was found, as a clause without a full stop
    n: int
    estimate: float | None = None
    interval: Interval | None = None
    bound: float | None = None  # abx: the upper bound of the hit rate that is held against the margin
    p_value: float | None = None
    e_value: float | None = None
    more_trials: int | None = None
    null: float = 0.0  # the estimate if there is no difference
    figure: str = ""  # the estimate in words
    notes: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def effect(self) -> float | None:
        """How far the estimate is from no difference; of abx above chance it is more than 0."""
        return None if self.estimate is None else self.estimate - self.null


@dataclass(frozen=True)
class Scale:
    """A scale of differences between ratings."""

    least: float
    most: float
    step: float


#: ccr is a difference by itself; the others are one rating minus another.
SCALES: dict[str, Scale] = {"ccr": Scale(-3, 3, 1), "acr": Scale(-4, 4, 1), "mushra": Scale(-100, 100, 1)}


def told_apart(sample: Sample, margin: float, decision: Decision) -> Finding:
    """ABX: `sample.values` are 1 for right and 0 for wrong; the hit rate is held against 1/2 and against `margin`.

    Equivalent when the upper bound is below `margin`, also when more are right than guessing gives (the sentence says both). The bound is the larger of
    Clopper-Pearson's over trials and the bootstrap's over listeners and texts; in the other way of deciding it is that of the confidence sequence. More
    wrong answers than guessing gives mean that a difference is heard and answers are swapped, so that there is no verdict.
    """
    n, k = len(sample.values), int(sum(sample.values))
    counts = {"right": k}
    if not n:
        return Finding("undecided", "no answer yet", 0, null=0.5, counts=counts, more_trials=binomial.trials_to_bound(margin))
    rate, e_value, p_value = k / n, evalues.e_above(k, n), None
    if decision == "anytime":
        interval = evalues.anytime_interval(k, n)
        bound, different, swapped = interval.high, e_value >= evalues.ENOUGH, evalues.e_above(n - k, n) >= evalues.ENOUGH
        evidence = f"e-value {_e(e_value)}"

        def decided(right: float, trials: int) -> bool:
            return evalues.e_above(right, trials) >= evalues.ENOUGH or evalues.anytime_interval(right, trials).high < margin

    else:
        resampled = clustered.resample(sample.values, sample.listeners, sample.texts)
        over_people = clustered.upper(resampled)
        interval = binomial.clopper_pearson(k, n).hull(clustered.interval(resampled))
        bound = max(binomial.upper_bound(k, n), over_people or 0.0)
        p_value = binomial.exact_p(k, n)
        different, swapped = p_value < ALPHA, binomial.below_p(k, n) < ALPHA
        evidence = _p(p_value)

        def decided(right: float, trials: int) -> bool:
            shrunk = rate + ((over_people or rate) - rate) * math.sqrt(n / trials)
            return binomial.exact_p(right, trials) < ALPHA or max(binomial.upper_bound(right, trials), shrunk) < margin

    hits, most = f"{k} of {n} right", f"at most {bound:.1%} right with 95 % confidence, under the margin of {margin:.0%}"
    found = Finding("undecided", "", n, rate, interval, bound, p_value, e_value, null=0.5, figure=hits, counts=counts)
    if swapped:
        note = "Fewer answers are right than guessing gives: a difference may be heard and the answers swapped. Ask the listeners."
        return replace(found, lead=f"{hits}, below chance", notes=(note,))
    if bound < margin:
        heard = f", though told apart more often than by guessing ({evidence})" if different else ""
        return replace(found, verdict="equivalent", lead=f"{hits}: {most}{heard}")
    if different:
        return replace(found, verdict="different", lead=f"{hits}, more than guessing gives ({evidence})")
    more = binomial.more_trials(rate, n, decided)
    return replace(found, lead=f"{hits} ({evidence}), {_more(more)}", more_trials=more)


def preferred(sample: Sample, margin: float, decision: Decision) -> Finding:
    """AB: `sample.values` are 1 for the comparison, 0 for the reference, 0.5 for no preference; their mean is held against 1/2.

    Equivalent when the interval lies within 1 - `margin` … `margin`, different when it excludes 1/2. The interval is the hull of Clopper-Pearson's over
    answers, Student's over couples (the two orders of a pair are not independent), and the bootstrap's over listeners and texts; in the other way of
    deciding it is the confidence sequence, and the difference is decided by the e-value of the answers with a preference.
    """
    n = len(sample.values)
    wins, losses = sample.values.count(1.0), sample.values.count(0.0)
    counts = {"comparison": wins, "reference": losses, "none": n - wins - losses}
    if not n:
        return Finding("undecided", "no answer yet", 0, null=0.5, counts=counts)
    total, e_value, p_value = sum(sample.values), evalues.e_either(wins, wins + losses), None
    share = total / n
    if decision == "anytime":
        interval = evalues.anytime_interval(total, n)
        different, evidence = e_value >= evalues.ENOUGH, f"e-value {_e(e_value)}"

        def decided(_: float, answers: int) -> bool:
            grown = answers / n
            either = evalues.e_either(wins * grown, (wins + losses) * grown) >= evalues.ENOUGH
            return either or evalues.anytime_interval(share * answers, answers).inside(1 - margin, margin)

        more = binomial.more_trials(share, n, decided)
    else:
        paired = scales.mean_interval(sample.couples(), step=0.5)
        resampled = clustered.resample(sample.values, sample.listeners, sample.texts)
        interval = binomial.clopper_pearson(total, n).hull(paired, clustered.interval(resampled))
        interval = Interval(max(interval.low, 0.0), min(interval.high, 1.0))
        p_value = binomial.two_sided_p(wins, wins + losses)
        different, evidence = not interval.holds(0.5), _between(interval, decision, percent=True)
        more = _until(interval, share, 0.5, margin - 0.5, n)
    shares = f"{share:.0%} prefer it, ties halved" if counts["none"] else f"{share:.0%} prefer it"
    found = Finding("undecided", "", n, share, interval, None, p_value, e_value, null=0.5, figure=shares, counts=counts)
    if interval.inside(1 - margin, margin):
        said = "" if not different else ", though not half"
        within = f"within the margin of {1 - margin:.0%} to {margin:.0%}"
        return replace(found, verdict="equivalent", lead=f"{shares}{said} ({_between(interval, decision, percent=True)}), {within}")
    if different:
        return replace(found, verdict="different", lead=f"{shares} ({evidence})")
    return replace(found, lead=f"{shares} ({evidence}), {_more(more)}", more_trials=more)


def rated(sample: Sample, margin: float, decision: Decision, scale: Scale, *, unit: str = "answer") -> Finding:
    """CCR, ACR, MUSHRA: `sample.values` are differences between the comparison and the reference in points; their mean is held against 0.

    Equivalent when the interval lies within ± `margin`, different when it excludes 0; neither with fewer than six. The interval is the hull of Student's
    over answers, over couples, and of the bootstrap over listeners and texts; p is that of the permutation test. In the other way of deciding the interval
    is the confidence sequence of the mean, and the difference is decided by the e-value of the signs.
    """
    n = len(sample.values)
    better, worse = sum(value > 0 for value in sample.values), sum(value < 0 for value in sample.values)
    counts = {"better": better, "worse": worse, "same": n - better - worse}
    if not n:
        return Finding("undecided", "no answer yet", 0, counts=counts)
    mean, e_value, p_value = float(np.mean(sample.values)), evalues.e_either(better, better + worse), None
    interval: Interval | None
    if decision == "anytime":
        interval = evalues.anytime_mean(sum(sample.values), n, scale.least, scale.most)
        different, evidence = e_value >= evalues.ENOUGH, f"{better} better, {worse} worse, e-value of the signs {_e(e_value)}"

        def decided(_: float, answers: int) -> bool:
            grown = answers / n
            either = evalues.e_either(better * grown, (better + worse) * grown) >= evalues.ENOUGH
            return either or evalues.anytime_mean(mean * answers, answers, scale.least, scale.most).inside(-margin, margin)

        more = binomial.more_trials(0.0, n, decided)
    else:
        interval = scales.mean_interval(sample.values, scale.step)
        resampled = clustered.resample(sample.values, sample.listeners, sample.texts)
        if interval is not None:
            interval = interval.hull(scales.mean_interval(sample.couples(), scale.step), clustered.interval(resampled))
        tested = scales.permutation(sample.couples(), _couple_listeners(sample))
        p_value = tested.p if tested else None
        different = interval is not None and not interval.holds(0)
        evidence = "no interval from one answer" if interval is None else _between(interval, decision)
        more = None if interval is None else _until(interval, mean, 0.0, margin, n)
    points = f"{mean:+.2f} points".replace("-", "\u2212")
    found = Finding("undecided", "", n, mean, interval, None, p_value, e_value, figure=points, counts=counts)
    if n < LEAST_RATINGS:
        return replace(found, lead=f"{points} from {n} {unit}{'s' * (n != 1)}, too few for a verdict", more_trials=LEAST_RATINGS - n)
    if interval is not None and interval.inside(-margin, margin):
        said = ", though not zero" if different else ""
        return replace(
            found, verdict="equivalent", lead=f"{points}{said} ({_between(interval, decision)}), within the margin of ±{margin:g}"
        )
    if different:
        return replace(found, verdict="different", lead=f"{points} ({evidence})")
    return replace(found, lead=f"{points} ({evidence}), {_more(more, unit)}", more_trials=more)


def _couple_listeners(sample: Sample) -> list[int]:
    return [listener for listener, _ in dict.fromkeys(zip(sample.listeners, sample.texts, strict=True))]


def _until(interval: Interval, estimate: float, null: float, margin: float, n: int) -> int | None:
    """About how many answers more until an interval that shrinks as 1 / √n excludes `null` or lies within `margin` of it; None beyond 5,000 in all."""
    half, effect = (interval.high - interval.low) / 2, abs(estimate - null)
    room = max(effect, margin - effect)
    needed = math.inf if room <= 0 else n * (half / room) ** 2
    return max(math.ceil(needed) - n, 1) if needed <= binomial.MOST_TRIALS else None


# ---- words


def _p(value: float) -> str:
    return f"p = {value:.4f}".replace("0.", ".", 1) if value >= 0.0001 else "p < .0001"


def _e(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else "over 1,000"


def _between(interval: Interval, decision: Decision, *, percent: bool = False) -> str:
    kind = "95 % interval" if decision == "fixed" else "anytime-valid 95 % interval"
    ends = f"{interval.low:.1%} to {interval.high:.1%}" if percent else f"{interval.low:+.2f} to {interval.high:+.2f}"
    return f"{kind} " + ends.replace("-", "\u2212")


def _more(more: int | None, unit: str = "answer") -> str:
    if more is None:
        return f"more than {binomial.MOST_TRIALS:,} {unit}s would be needed at this rate"
    return f"about {more:,} more {unit}{'s' * (more != 1)} needed at this rate"
