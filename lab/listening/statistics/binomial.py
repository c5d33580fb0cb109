"""Counts of right answers, judged once, when the number of trials was fixed beforehand: exact tests, bounds, and how many trials it takes.

Nothing here may be looked at after every trial; that is what `lab.listening.statistics.evalues` is for.
"""

from __future__ import annotations

from collections.abc import Callable

from scipy import special

from lab.listening.statistics.common import ALPHA, CONFIDENCE, Interval

MOST_TRIALS = 5_000  # no estimate of "how many more" goes beyond


def _check(successes: float, trials: int) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is not a count")


def exact_p(successes: float, trials: int) -> float:
    """P(at least `successes` of `trials` right by guessing): the one-sided exact binomial test against 1/2. 1 for no trials.

    By the incomplete beta function, P(Beta(k, n - k + 1) < 1/2), which is defined for a number that is not whole as well; planning makes use of that.
    """
    _check(successes, trials)
    return 1.0 if successes <= 0 else float(special.betainc(successes, trials - successes + 1, 0.5))


def below_p(successes: int, trials: int) -> float:
    """P(at most `successes` of `trials` right by guessing): small where answers look swapped. 1 for no trials."""
    return exact_p(trials - successes, trials)


def two_sided_p(successes: int, trials: int) -> float:
    """The two-sided exact binomial (sign) test against 1/2: twice the smaller tail, at most 1."""
    return min(1.0, 2 * min(exact_p(successes, trials), below_p(successes, trials)))


def critical_count(trials: int, alpha: float = ALPHA) -> int | None:
    """The fewest right answers of `trials` with a one-sided p below `alpha`; None where even all right would not do."""
    for successes in range(trials + 1):
        if exact_p(successes, trials) < alpha:
            return successes
    return None


def clopper_pearson(successes: float, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """The two-sided exact interval for a proportion (Clopper & Pearson 1934, by quantiles of the beta distribution); 0 to 1 for no trials.

    `successes` may hold halves, for answers without a preference. Of all answers between 0 and 1 with a given mean, those that are 0 or 1 vary most, so
    that the interval is then rather too wide than too narrow.
    """
    _check(successes, trials)
    tail = (1 - confidence) / 2
    low = 0.0 if successes <= 0 else float(special.betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes >= trials else float(special.betaincinv(successes + 1, trials - successes, 1 - tail))
    return Interval(low, high)


def upper_bound(successes: float, trials: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided exact upper bound of a proportion (Clopper & Pearson 1934); 1 for no trials."""
    _check(successes, trials)
    return 1.0 if successes >= trials else float(special.betaincinv(successes + 1, trials - successes, confidence))


def trials_to_bound(margin: float) -> int | None:
    """The fewest trials after which a listener who guesses and is right in half of them (rounded down) is bounded below `margin`.

    One-sided 95 % Clopper-Pearson. Some larger even numbers, at which half is not rounded down, miss the margin again. None beyond 5,000 trials.
    """
    return next((trials for trials in range(1, MOST_TRIALS + 1) if upper_bound(trials // 2, trials) < margin), None)


def trials_for_power(rate: float, power: float = 0.8, alpha: float = ALPHA) -> int | None:
    """The fewest trials from which on (for that number and every larger one) a true hit `rate` above 1/2 is found with probability `power`.

    Found means a one-sided exact p below `alpha`. The power of an exact test goes up as a saw does; the first number that reaches 80 % (8 for a rate of
    .9) is therefore not the one that is wanted (11). None for a rate of 1/2 or less, and beyond 5,000 trials.
    """
    if rate <= 0.5:
        return None
    count, missed = 1, 0  # the critical count never falls as trials are added
    for trials in range(1, MOST_TRIALS + 1):
        while count <= trials and exact_p(count, trials) >= alpha:
            count += 1
        if count > trials or special.betainc(count, trials - count + 1, rate) < power:
            missed = trials
        elif trials > 2 * missed + 20:  # no tooth of the saw reaches down again
            return missed + 1
    return None


def more_trials(rate: float, trials: int, decided: Callable[[float, int], bool]) -> int | None:
    """About how many trials more until `decided(successes, trials)`, should answers go on at `rate`; None beyond 5,000 in all.

    `successes` that are asked about are `rate` · trials and need not be whole. By doubling and halving, so `decided` is taken to stay true once it is.
    """
    low, high = trials, max(trials, 1)
    while not decided(rate * high, high):
        if high >= MOST_TRIALS:
            return None
        low, high = high, min(2 * high, MOST_TRIALS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(rate * middle, middle) else (middle, high)
    return max(high - trials, 1)
