"""Evidence that may be looked at after every answer: e-values, and the intervals that belong to them.

An e-value is a bet against the null hypothesis whose expected worth is at most 1, at any time one cares to stop (Ville 1939; Ramdas, Grünwald, Vovk &
Shafer 2023, "Game-theoretic statistics and safe anytime-valid inference"). At E ≥ 20 one may stop and be wrong in at most 5 % of cases, however often
one has looked. What this module cannot know: that answers depend on one another through their listeners and texts.
"""

from __future__ import annotations

import math

from scipy import optimize, special

from lab.listening.statistics.common import ALPHA, Interval

ENOUGH = 1 / ALPHA  # 20
_LARGEST = 690.0  # exp of it is a number yet


def log_e_above(successes: float, trials: float) -> float:
    """Natural logarithm of `e_above`; finite for any count up to millions of trials."""
    _check(successes, trials)
    k, n = successes, trials
    tail = float(special.betainc(n - k + 1, k + 1, 0.5))  # P(Beta(k + 1, n - k + 1) > 1/2)
    if tail > 1e-290:
        return float((n + 1) * math.log(2) + special.betaln(k + 1, n - k + 1) + math.log(tail))
    # Far below chance the tail is no number any more, while E itself is about 1 / n: the hypergeometric series of the incomplete beta function
    # (Abramowitz & Stegun 1964, 26.5.4), of which the powers of two and the beta function cancel. Its terms fall faster than 0.8^j here.
    total, term, j = 1.0, 1.0, 0
    while term > total * 1e-17:
        term *= (n + 2 + j) / (n - k + 2 + j) / 2
        total += term
        j += 1
    return math.log(total / 2) - math.log(n - k + 1)


def e_above(successes: float, trials: float) -> float:
    """E-value against guessing in favour of a hit rate above 1/2: E = 2^(n+1) · B(k+1, n-k+1) · P(Beta(k+1, n-k+1) > 1/2).

    The likelihood ratio of a hit rate spread evenly over 1/2 … 1 against 1/2. At most about 1e299, so that it stays a number. 1 for no trials.
    """
    return math.exp(min(log_e_above(successes, trials), _LARGEST))


def log_e_either(successes: float, trials: float) -> float:
    """Natural logarithm of `e_either`."""
    _check(successes, trials)
    return float(trials * math.log(2) + special.betaln(successes + 1, trials - successes + 1))


def e_either(successes: float, trials: float) -> float:
    """E-value against a share of 1/2 in favour of any other, larger or smaller: E = 2^n · B(k+1, n-k+1).

    The likelihood ratio of a share spread evenly over 0 … 1 against 1/2. At most about 1e299. 1 for no trials.
    """
    return math.exp(min(log_e_either(successes, trials), _LARGEST))


def anytime_interval(successes: float, trials: int, alpha: float = ALPHA) -> Interval:
    """The confidence sequence that belongs to `e_either`: all shares p against which the e-value is below 1 / `alpha`.

    Against p it is B(k+1, n-k+1) / (p^k · (1-p)^(n-k)) (Robbins 1970, "Statistical methods related to the law of the iterated logarithm"). With
    probability 1 - `alpha` the true share lies within at all times at once. `successes` may be a sum of answers x between 0 and
    1, and the share then their mean: by the inequality of arithmetic and geometric means (q/p)^x · ((1-q)/(1-p))^(1-x) is at most
    x · q/p + (1-x) · (1-q)/(1-p), which is worth 1 on average where the mean is p. It is not
    intersected with what it was before. 0 to 1 for no trials.
    """
    _check(successes, trials)
    k, rest = successes, trials - successes
    if not trials:
        return Interval(0.0, 1.0)
    worth = float(special.betaln(k + 1, rest + 1)) - math.log(1 / alpha)

    def over(share: float) -> float:
        return worth - float(special.xlogy(k, share) + special.xlog1py(rest, -share))

    middle, tiny = k / trials, 1e-12
    low = 0.0 if k <= 0 or over(tiny) < 0 else float(optimize.brentq(over, tiny, max(middle, 2 * tiny)))
    high = 1.0 if rest <= 0 or over(1 - tiny) < 0 else float(optimize.brentq(over, min(middle, 1 - 2 * tiny), 1 - tiny))
    return Interval(low, high)


def anytime_mean(total: float, count: int, least: float, most: float) -> Interval:
    """The confidence sequence of the mean of `count` answers on a scale from `least` to `most` that add up to `total`."""
    width = most - least
    share = anytime_interval(min(max((total - count * least) / width, 0.0), float(count)), count)
    return Interval(least + width * share.low, least + width * share.high)


def _check(successes: float, trials: float) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is not a count")
