"""What a staircase's track says: where the listener's threshold lies, and whether it lies on the ladder at all."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lab.listening.staircase import LADDER, TARGET, reversals
from lab.listening.statistics.binomial import exact_p, upper_bound
from lab.listening.statistics.common import ALPHA

DROPPED = 2  # first reversals, still on the way from where the track began
LEAST_REVERSALS = 6  # four are left then
_LEAST_AT_TOP = 5  # right answers that guessing gives in fewer than one of twenty cases: 1 / 2^5

State = Literal["inside", "floor", "ceiling", "too short"]


@dataclass(frozen=True)
class Threshold:
    """A listener's threshold on the ladder of NFE levels."""

    state: State
    reversals: tuple[int, ...]  # levels
    place: float | None  # on the ladder's index, 0 being the hardest level; None unless inside
    se: float | None  # standard error, in places
    nfe: float | None  # the same place as NFE, read between neighbouring levels
    right: int  # of all answers
    trials: int
    right_at_easiest: int
    trials_at_easiest: int


def threshold(history: Sequence[tuple[int, bool]], ladder: Sequence[int] = LADDER, *, over: bool = True) -> Threshold:
    """Read a track of (level, right?); `over` says whether it had ended.

    The estimate is the mean over the levels of all reversals but the first two, on the ladder's index (Levitt 1971, section IV; Wetherill & Levitt 1965),
    and converges to the level told apart in 70.7 % of trials. Its standard error is s / √n over those reversals; they are not quite independent, so it
    is rather too small.

    - "ceiling": at the hardest level at least 5 answers, more of them right than guessing gives (one-sided exact p < .05).
    - "floor": the track had ended or has six reversals, and its answers as a whole are not better than guessing (p ≥ .05), or its reversals lie at the
      easiest level on average to within half a place while the answers there are not better than guessing.
    - "too short": fewer than six reversals.
    """
    turned = reversals(history, ladder)
    places = [ladder.index(level) for level in turned[DROPPED:]]
    right = sum(correct for _, correct in history)
    top = [correct for level, correct in history if level == ladder[0]]
    bottom = [correct for level, correct in history if level == ladder[-1]]
    counts = turned, right, len(history), sum(bottom), len(bottom)
    if len(top) >= _LEAST_AT_TOP and exact_p(sum(top), len(top)) < ALPHA:
        return _made("ceiling", *counts)
    enough = len(turned) >= LEAST_REVERSALS
    mean = statistics.fmean(places) if enough else math.nan
    if history and (over or enough):
        guessed_there = exact_p(sum(bottom), len(bottom)) >= ALPHA
        if exact_p(right, len(history)) >= ALPHA or (guessed_there and mean >= len(ladder) - 1.5):
            return _made("floor", *counts)
    if not enough:
        return _made("too short", *counts)
    se = statistics.stdev(places) / math.sqrt(len(places))
    nfe = float(np.interp(mean, range(len(ladder)), ladder))
    return Threshold("inside", turned, mean, se, nfe, *counts[1:])


def _made(state: State, turned: tuple[int, ...], right: int, trials: int, right_at_easiest: int, trials_at_easiest: int) -> Threshold:
    return Threshold(state, turned, None, None, None, right, trials, right_at_easiest, trials_at_easiest)


def cannot_tell_easiest(right: int, trials: int) -> bool:
    """Whether `right` of `trials` at the easiest level show that the threshold lies beyond it: at most 70.7 % right with 95 % confidence."""
    return trials > 0 and upper_bound(right, trials) < TARGET
