"""Strengths of several systems from answers to pairs: Bradley & Terry's model with ties and with an advantage of the place in which a system is shown.

Davidson 1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments", JASA 65; the order effect as in Davidson &
Beaver 1977, Biometrics 33. With strengths b, an advantage c of the first place and a readiness t for ties, first i, second j:

    log weight of "first" = b_i + c/2,   of "second" = b_j - c/2,   of "tie" = t + (b_i + b_j)/2,   and P = weight / sum of weights.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from lab.listening.statistics import clustered
from lab.listening.statistics.common import Floats, Interval

#: Standard deviation of a normal prior on every parameter. Without it a system that won every time would have infinite strength. 3 on this scale is a
#: preference of 95 %; ten wins of ten become 96 % instead of 100 %, and 30 of 60 stay 50 %.
PRIOR = 3.0

Outcome = Literal["first", "second", "tie"]
_OUTCOMES = {"first": 0, "second": 1, "tie": 2}


@dataclass(frozen=True)
class Answer:
    """One answer to a pair of systems, in the order in which they were shown."""

    first: str
    second: str
    outcome: Outcome
    listener: Hashable = 0
    text: Hashable = 0


@dataclass(frozen=True)
class Preferred:
    """How often a system is preferred to the reference, with neither in the first place."""

    system: str
    strength: float  # log-strength minus that of the reference
    win: float  # P(preferred)
    tie: float
    share: float  # P(preferred) + P(tie) / 2
    interval: Interval | None  # of the share, 95 %, from a bootstrap over listeners and texts


@dataclass(frozen=True)
class Fit:
    """The model that explains the answers best."""

    systems: tuple[Preferred, ...]  # all but the reference
    first_advantage: float  # c: log-odds in favour of the first place
    readiness_for_ties: float  # t
    log_likelihood: float  # without the prior
    answers: int


def fit(answers: Sequence[Answer], reference: str, *, prior: float = PRIOR, bootstrap: bool = True) -> Fit | None:
    """Fit by maximum likelihood with a normal prior of standard deviation `prior` (`math.inf`: none); None for no answers.

    Strengths are relative to `reference`, which has 0. The intervals refit the model on every resample of listeners and texts.
    """
    if not answers:
        return None
    names = [name for name in dict.fromkeys(name for one in answers for name in (one.first, one.second)) if name != reference]
    cells, design = _cells(answers, names)
    counts = np.bincount(cells, minlength=3 * len(design)).reshape(1, len(design), 3).astype(np.float64)
    weak = 0.0 if np.isinf(prior) else 1 / prior**2

    def loss(theta: Floats) -> float:
        return -float(_derivatives(theta[None], design, counts, weak)[0][0])

    def slope(theta: Floats) -> Floats:
        return np.asarray(-_derivatives(theta[None], design, counts, weak)[1][0])

    def curvature(theta: Floats) -> Floats:
        return np.asarray(-_derivatives(theta[None], design, counts, weak)[2][0])

    start = np.zeros(len(names) + 2)
    found = optimize.minimize(loss, start, jac=slope, hess=curvature, method="trust-exact", options={"gtol": 1e-9})
    theta = np.asarray(found.x, dtype=np.float64)
    intervals: list[Interval | None] = [None] * len(names)
    listeners, texts = [one.listener for one in answers], [one.text for one in answers]
    if bootstrap and clustered.enough(listeners, texts):
        resampled = _refit(theta, design, _resampled_counts(cells, len(design), listeners, texts), weak)
        intervals = [clustered.interval(_shares(resampled[:, place], resampled[:, -1])[2]) for place in range(len(names))]
    systems = []
    for place, name in enumerate(names):
        win, tie, share = (float(value) for value in _shares(theta[place], theta[-1]))
        systems.append(Preferred(name, float(theta[place]), win, tie, share, intervals[place]))
    likelihood = float(_derivatives(theta[None], design, counts, 0.0)[0][0])
    return Fit(tuple(systems), float(theta[-2]), float(theta[-1]), likelihood, len(answers))


def _cells(answers: Sequence[Answer], names: Sequence[str]) -> tuple[NDArray[np.intp], Floats]:
    """The cell (pair · 3 + outcome) of each answer, and the log-weights as linear functions (pairs, 3, parameters) of (strengths…, c, t)."""
    places = {name: place for place, name in enumerate(names)}  # the reference is none of them: strength 0
    pairs = {pair: place for place, pair in enumerate(dict.fromkeys((one.first, one.second) for one in answers))}
    design = np.zeros((len(pairs), 3, len(names) + 2))
    for (first, second), pair in pairs.items():
        for name, outcome in ((first, 0), (second, 1)):
            if name in places:
                design[pair, outcome, places[name]] += 1
                design[pair, 2, places[name]] += 0.5
        design[pair, 0, -2], design[pair, 1, -2], design[pair, 2, -1] = 0.5, -0.5, 1
    return np.asarray([3 * pairs[one.first, one.second] + _OUTCOMES[one.outcome] for one in answers], dtype=np.intp), design


def _derivatives(theta: Floats, design: Floats, counts: Floats, weak: float) -> tuple[Floats, Floats, Floats]:
    """Log-posterior (R,), gradient (R, p) and Hessian (R, p, p) at `theta` (R, p) for `counts` (R, pairs, 3)."""
    scores = np.einsum("kop,rp->rko", design, theta)
    logs = scores - special.logsumexp(scores, axis=2, keepdims=True)
    chances, totals = np.exp(logs), counts.sum(axis=2)
    value = (counts * logs).sum(axis=(1, 2)) - weak / 2 * (theta**2).sum(axis=1)
    gradient = np.einsum("rko,kop->rp", counts - totals[:, :, None] * chances, design) - weak * theta
    mean = np.einsum("rko,kop->rkp", chances, design)
    second = np.einsum("rk,rko,kop,koq->rpq", totals, chances, design, design, optimize=True)
    hessian = np.einsum("rk,rkp,rkq->rpq", totals, mean, mean, optimize=True) - second - weak * np.eye(theta.shape[1])
    return value, gradient, hessian


def _resampled_counts(cells: NDArray[np.intp], pairs: int, listeners: Sequence[Hashable], texts: Sequence[Hashable]) -> Floats:
    """Answers per cell in each resample, (2000, pairs, 3)."""
    indicator = np.zeros((len(cells), 3 * pairs))
    indicator[np.arange(len(cells)), cells] = 1
    return np.asarray((clustered.weights(listeners, texts) @ indicator).reshape(-1, pairs, 3), dtype=np.float64)


def _refit(start: Floats, design: Floats, counts: Floats, weak: float) -> Floats:
    """Parameters (R, p) for each of `counts` (R, pairs, 3), all at once by Newton's method from `start`; the log-posterior is concave."""
    theta = np.tile(start, (len(counts), 1))
    for _ in range(60):
        _, gradient, hessian = _derivatives(theta, design, counts, max(weak, 1e-6))
        step = np.linalg.solve(-hessian, gradient[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1, keepdims=True)
        theta = theta + step / np.maximum(longest, 1.0)  # no step changes a parameter by more than 1
        if longest.max() < 1e-8:
            break
    return theta


def _shares(strength: Floats, ties: Floats) -> tuple[Floats, Floats, Floats]:
    """P(preferred), P(tie) and P(preferred) + P(tie) / 2 against a reference of strength 0, without a first place."""
    total = np.exp(strength) + 1 + np.exp(ties + strength / 2)
    win, tie = np.exp(strength) / total, np.exp(ties + strength / 2) / total
    return win, tie, win + tie / 2
