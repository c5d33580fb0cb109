"""The statistics against published values, hand-computed ones and exact calculations, tails included."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from lab.listening import staircase
from lab.listening.statistics import binomial, bradley_terry, clustered, evalues, scales, screening, thresholds
from lab.listening.statistics.bradley_terry import Answer
from lab.listening.statistics.common import Interval

# --- exact tests of counts


def test_eight_of_ten_is_not_yet_significant() -> None:
    assert binomial.exact_p(8, 10) == pytest.approx(56 / 1024)
    assert round(binomial.exact_p(8, 10), 4) == 0.0547
    assert binomial.exact_p(9, 10) == pytest.approx(11 / 1024)


@pytest.mark.parametrize(("trials", "count"), [(10, 9), (16, 12), (20, 15), (30, 20), (50, 32), (5, 5), (4, None), (0, None)])
def test_critical_counts_are_the_tabulated_ones(trials: int, count: int | None) -> None:
    assert binomial.critical_count(trials) == count


def test_the_tails_of_the_exact_test() -> None:
    assert binomial.exact_p(0, 0) == 1
    assert binomial.exact_p(0, 20) == 1
    assert binomial.exact_p(20, 20) == pytest.approx(2.0**-20)
    assert binomial.exact_p(10_000, 10_000) == 0  # 2^-10000 is no float, and nothing overflows on the way
    assert binomial.below_p(2, 10) == pytest.approx(56 / 1024)
    assert binomial.two_sided_p(9, 10) == pytest.approx(22 / 1024)
    assert binomial.two_sided_p(1, 10) == pytest.approx(22 / 1024)
    assert binomial.two_sided_p(5, 10) == 1
    with pytest.raises(ValueError, match="11 of 10"):
        binomial.exact_p(11, 10)


@given(some.integers(0, 60).flatmap(lambda n: some.tuples(some.integers(0, n), some.just(n))))
def test_the_exact_test_counts_the_ways(count: tuple[int, int]) -> None:
    k, n = count
    ways = Fraction(sum(math.comb(n, j) for j in range(k, n + 1)), 2**n)
    assert binomial.exact_p(k, n) == pytest.approx(float(ways), rel=1e-9)


def test_clopper_pearson_gives_the_published_interval_and_the_closed_forms_of_the_tails() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 5: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for (k, n), (low, high) in {
        (81, 263): (0.2527, 0.3676),
        (15, 148): (0.0578, 0.1617),
        (0, 20): (0.0, 0.1684),
        (1, 29): (0.0009, 0.1776),
    }.items():
        found = binomial.clopper_pearson(k, n)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert binomial.clopper_pearson(20, 20) == Interval(pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert binomial.clopper_pearson(0, 0) == Interval(0.0, 1.0)
    assert binomial.upper_bound(0, 20) == pytest.approx(1 - 0.05 ** (1 / 20))
    assert binomial.upper_bound(20, 20) == 1
    assert binomial.upper_bound(0, 0) == 1


def test_the_exact_interval_excludes_one_half_exactly_when_the_two_sided_test_is_significant() -> None:
    for n in range(1, 60):
        for k in range(n + 1):
            assert (not binomial.clopper_pearson(k, n).holds(0.5)) == (binomial.two_sided_p(k, n) < 0.05), (k, n)


@pytest.mark.parametrize(("margin", "trials"), [(0.70, 17), (0.65, 29), (0.60, 67)])
def test_trials_that_bound_a_guesser(margin: float, trials: int) -> None:
    assert binomial.trials_to_bound(margin) == trials
    assert binomial.upper_bound(trials // 2, trials) < margin <= binomial.upper_bound((trials - 1) // 2, trials - 1)


def test_no_number_of_trials_bounds_a_guesser_below_one_half() -> None:
    assert binomial.trials_to_bound(0.5) is None


@pytest.mark.parametrize(("rate", "trials"), [(0.9, 11), (0.8, 18), (0.7, 42), (0.6, 169)])
def test_trials_for_eighty_per_cent_power(rate: float, trials: int) -> None:
    assert binomial.trials_for_power(rate) == trials

    def power(n: int) -> float:
        count = binomial.critical_count(n)
        return 0.0 if count is None else float(stats.binom.sf(count - 1, n, rate))

    assert power(trials - 1) < 0.8
    assert all(power(n) >= 0.8 for n in range(trials, trials + 200))


def test_guessing_has_no_power() -> None:
    assert binomial.trials_for_power(0.5) is None


def test_more_trials_finds_the_first_number_that_decides() -> None:
    def decided(_: float, n: int) -> bool:
        return n >= 57

    assert binomial.more_trials(0.6, 40, decided) == 17
    assert binomial.more_trials(0.6, 0, decided) == 57
    assert binomial.more_trials(0.6, 100, lambda k, n: False) is None
    # by the normal approximation 60 % of n is significant where n / 10 - 1/2 = 1.645 · √n / 2: at n = 78
    assert binomial.more_trials(0.6, 10, lambda k, n: binomial.exact_p(k, n) < 0.05) == pytest.approx(68, abs=1)


# --- e-values


def _by_quadrature(k: int, n: int, low: float) -> float:
    """The mixture's likelihood ratio by numerical integration."""
    p = np.linspace(low, 1, 200_001)
    return float(np.trapezoid((2 * p) ** k * (2 * (1 - p)) ** (n - k), p) / (1 - low))


@pytest.mark.parametrize(("k", "n"), [(0, 0), (0, 8), (4, 8), (8, 8), (9, 10), (12, 16), (40, 60)])
def test_e_values_are_likelihood_ratios_of_a_uniform_mixture(k: int, n: int) -> None:
    assert evalues.e_above(k, n) == pytest.approx(_by_quadrature(k, n, 0.5), rel=1e-6)
    assert evalues.e_either(k, n) == pytest.approx(_by_quadrature(k, n, 0.0), rel=1e-6)


def test_e_value_by_hand() -> None:
    assert evalues.e_above(0, 0) == 1
    assert evalues.e_above(1, 1) == pytest.approx(1.5)  # 2 · ∫ 2p dp from 1/2 to 1
    assert evalues.e_above(0, 1) == pytest.approx(0.5)
    assert evalues.e_either(0, 0) == 1
    assert evalues.e_either(10, 10) == pytest.approx(1024 / 11)
    assert evalues.e_either(5, 10) == pytest.approx(1024 / 2772)  # B(6, 6) = 1 / 2772


def test_e_values_neither_overflow_nor_vanish_at_ten_thousand_trials() -> None:
    assert evalues.log_e_above(10_000, 10_000) == pytest.approx(10_001 * math.log(2) - math.log(10_001))
    assert evalues.e_above(10_000, 10_000) == pytest.approx(math.exp(690))
    assert evalues.e_above(0, 10_000) == pytest.approx(1 / 10_001)  # 2^(n+1) · 1/(n+1) · 2^-(n+1)
    assert evalues.log_e_above(5_000, 10_000) == pytest.approx(evalues.log_e_either(5_000, 10_000), abs=1e-9)
    assert math.isfinite(evalues.log_e_either(0, 10_000))
    for k in range(0, 10_001, 37):  # the two formulas meet without a step
        assert evalues.log_e_above(k + 1, 10_000) > evalues.log_e_above(k, 10_000)


def test_the_series_far_below_chance_equals_exact_counting() -> None:
    n = 3_000
    for k in (0, 1, 10, 700, 900):
        tail = Fraction(sum(math.comb(n + 1, j) for j in range(k + 1)))  # 2^(n+1) · P(Beta > 1/2)
        beta = Fraction(1, (n + 1) * math.comb(n, k))
        assert evalues.e_above(k, n) == pytest.approx(float(tail * beta), rel=1e-9)


def _false_positives(most: int, stops: Callable[[int, int], bool]) -> float:
    """The exact chance that a guesser is stopped in the first `most` trials, looked at after each: a walk with an absorbing edge."""
    alive, stopped = np.array([1.0]), 0.0
    for n in range(1, most + 1):
        alive = np.convolve(alive, [0.5, 0.5])
        edge = np.array([stops(k, n) for k in range(n + 1)])
        stopped += float(alive[edge].sum())
        alive[edge] = 0
    return stopped


def test_a_guesser_is_called_a_hearer_in_under_five_per_cent_although_one_looks_after_every_trial() -> None:
    assert _false_positives(200, lambda k, n: evalues.e_above(k, n) >= evalues.ENOUGH) < 0.05
    assert _false_positives(200, lambda k, n: evalues.e_either(k, n) >= evalues.ENOUGH) < 0.05


def test_looking_at_p_after_every_trial_is_wrong_in_about_fourteen_per_cent() -> None:
    assert _false_positives(40, lambda k, n: n >= 5 and binomial.exact_p(k, n) < 0.05) == pytest.approx(0.14, abs=0.01)


def test_simulated_guessers_agree_with_the_exact_false_positive_rates() -> None:
    rng = np.random.default_rng(5)
    hits = rng.integers(0, 2, (4000, 200)).cumsum(axis=1)
    trials = np.arange(1, 201)
    least = np.array([next((k for k in range(n + 1) if evalues.e_above(k, n) >= 20), n + 1) for n in trials])
    assert 0.005 < float((hits >= least).any(axis=1).mean()) < 0.05
    critical = np.array([binomial.critical_count(n) or n + 1 for n in trials])
    assert float((hits >= critical)[:, 4:40].any(axis=1).mean()) == pytest.approx(0.14, abs=0.02)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.95])
def test_the_confidence_sequence_covers_the_truth_at_all_times_at_once(share: float) -> None:
    rng = np.random.default_rng(11)
    interval = cache(evalues.anytime_interval)
    missed = 0
    for _ in range(300):
        hits = (rng.random(100) < share).cumsum()
        missed += any(not interval(int(k), n).holds(share) for n, k in enumerate(hits, start=1))
    assert missed / 300 < 0.05


@given(some.integers(1, 400).flatmap(lambda n: some.tuples(some.integers(0, 2 * n), some.just(n))))
def test_the_confidence_sequence_is_where_the_mixture_is_worth_less_than_twenty(count: tuple[int, int]) -> None:
    k, n = count[0] / 2, count[1]
    found = evalues.anytime_interval(k, n)
    assert 0 <= found.low <= k / n <= found.high <= 1

    def worth(p: float) -> float:
        return float(math.lgamma(k + 1) + math.lgamma(n - k + 1) - math.lgamma(n + 2) - k * math.log(p) - (n - k) * math.log1p(-p))

    for end in (found.low, found.high):
        if 1e-9 < end < 1 - 1e-9:
            assert worth(end) == pytest.approx(math.log(20), abs=1e-5)
    assert found.holds(0.5) == (evalues.e_either(k, n) < 20)


def test_the_confidence_sequence_of_no_trials_and_of_the_tails() -> None:
    assert evalues.anytime_interval(0, 0) == Interval(0.0, 1.0)
    found = evalues.anytime_interval(0, 50)
    assert found.low == 0
    assert found.high == pytest.approx(1 - (20 * 51) ** (-1 / 50))  # B(1, 51) · (1-p)^-50 = 20
    assert evalues.anytime_interval(50, 50).low == pytest.approx(1 - found.high)
    huge = evalues.anytime_interval(5_000, 10_000)
    assert 0.48 < huge.low < 0.482
    assert huge.high == pytest.approx(1 - huge.low)


def test_the_confidence_sequence_of_a_mean_holds_for_answers_between_the_ends() -> None:
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(100):
        answers = rng.choice([-3, -1, 0, 1, 3], 60, p=[0.1, 0.2, 0.3, 0.3, 0.1])
        totals = answers.cumsum()
        missed += any(not evalues.anytime_mean(float(total), n, -3, 3).holds(0.1) for n, total in enumerate(totals, start=1))
    assert missed / 100 < 0.05
    assert evalues.anytime_mean(0, 0, -3, 3) == Interval(-3.0, 3.0)
    assert evalues.anytime_mean(30, 10, -3, 3).high == 3


# --- bootstrap over listeners and texts


def _crossed(listeners: int, texts: int, who: float, what: float, noise: float, seed: int) -> tuple[np.ndarray, list[int], list[int]]:
    rng = np.random.default_rng(seed)
    table = rng.normal(0, who, (listeners, 1)) + rng.normal(0, what, (1, texts)) + rng.normal(0, noise, (listeners, texts))
    return table.ravel(), [i for i in range(listeners) for _ in range(texts)], [j for _ in range(listeners) for j in range(texts)]


def test_the_bootstrap_spreads_as_listeners_and_texts_do() -> None:
    values, listeners, texts = _crossed(40, 30, 1.0, 0.7, 0.5, 2)
    table = values.reshape(40, 30)
    expected = math.sqrt(
        table.mean(axis=1).var() / 40 + table.mean(axis=0).var() / 30
    )  # variance of the two means, over those that there are
    assert clustered.resample(values, listeners, texts).std() == pytest.approx(expected, rel=0.06)
    as_if_independent = values.std() / math.sqrt(values.size)
    assert clustered.resample(values, listeners, texts).std() > 3 * as_if_independent


def test_the_bootstrap_covers_a_mean_of_zero_where_one_over_answers_does_not() -> None:
    covered = plain = 0
    for seed in range(120):
        values, listeners, texts = _crossed(12, 12, 1.0, 0.6, 0.6, seed)
        found = clustered.interval(clustered.resample(values, listeners, texts))
        assert found is not None
        covered += found.holds(0)
        naive = scales.mean_interval(values)
        assert naive is not None
        plain += naive.holds(0)
    assert covered / 120 > 0.87
    assert plain / 120 < 0.6


def test_product_weights_are_counts_of_listeners_times_counts_of_texts() -> None:
    listeners, texts = ["a", "a", "b", "b", "c", "c"], [0, 1, 0, 1, 0, 2]
    drawn = clustered.weights(listeners, texts)
    assert drawn.shape == (2000, 6)
    assert np.array_equal(drawn, drawn.round())
    assert drawn.mean(axis=0) == pytest.approx(np.ones(6), abs=0.1)
    assert np.array_equal(drawn[:, 0] * drawn[:, 3], drawn[:, 1] * drawn[:, 2])  # a rank-one table in each resample


def test_resampled_means_and_medians_equal_those_of_the_repeated_answers() -> None:
    rng = np.random.default_rng(8)
    listeners, texts = list(rng.integers(0, 5, 60)), list(rng.integers(0, 6, 60))
    values = rng.integers(1, 6, 60).astype(float)
    drawn = clustered.weights(listeners, texts).astype(int)
    drawn = drawn[drawn.sum(axis=1) > 0]
    means, medians = clustered.resample(values, listeners, texts), clustered.resample(values, listeners, texts, "median")
    assert len(means) == len(medians) == len(drawn)
    for row in range(0, len(drawn), 97):
        repeated = np.repeat(values, drawn[row])
        assert means[row] == pytest.approx(repeated.mean())
        assert medians[row] == np.median(repeated)


def test_too_few_listeners_or_texts_have_no_bootstrap() -> None:
    assert clustered.resample([1, 2, 3], ["a", "b", "b"], [0, 1, 2]).size == 0
    assert clustered.resample([1, 2, 3], ["a", "b", "c"], [0, 1, 1]).size == 0
    assert clustered.resample([], [], []).size == 0
    assert clustered.interval(np.empty(0)) is None
    assert clustered.upper(np.empty(0)) is None


def test_the_bootstrap_is_the_same_each_time() -> None:
    values, listeners, texts = _crossed(4, 5, 1, 1, 1, 0)
    assert np.array_equal(clustered.resample(values, listeners, texts), clustered.resample(values, listeners, texts))


# --- Bradley-Terry

_TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
#: Agresti, "Categorical data analysis", 2nd edition 2002, table 10.11: home wins - home losses, home team in rows, visitor in columns.
_HOME = (
    "- 4-3 4-2 4-3 6-1 4-2 6-0",
    "3-3 - 4-2 4-3 6-0 6-1 4-3",
    "2-5 4-3 - 2-4 4-3 4-2 6-0",
    "3-3 5-1 2-5 - 4-3 4-2 6-1",
    "5-1 2-5 3-3 4-2 - 5-2 6-0",
    "2-5 3-3 3-4 4-3 4-2 - 2-4",
    "2-5 1-5 1-6 2-4 1-6 3-4 -",
)


def _season() -> list[Answer]:
    games = []
    for home, row in zip(_TEAMS, _HOME, strict=True):
        for visitor, cell in zip(_TEAMS, row.split(), strict=True):
            if cell != "-":
                won, lost = map(int, cell.split("-"))
                games += [Answer(home, visitor, "first")] * won + [Answer(home, visitor, "second")] * lost
    return games


def _strengths(found: bradley_terry.Fit | None) -> dict[str, float]:
    assert found is not None
    return {one.system: round(one.strength, 2) for one in found.systems}


def test_the_american_league_of_1987_comes_out_as_published() -> None:
    games = _season()
    # Without an advantage at home (each game told in both orders): Agresti 2002, section 10.6.2.
    both = games + [Answer(one.second, one.first, {"first": "second", "second": "first"}[one.outcome]) for one in games]  # type: ignore[arg-type]
    found = bradley_terry.fit(both, "Baltimore", prior=math.inf)
    published = {"Milwaukee": 1.58, "Detroit": 1.44, "Toronto": 1.29, "New York": 1.25, "Boston": 1.11, "Cleveland": 0.68}
    assert _strengths(found) == published
    # With it: the logit of the home team is 0.302 higher, section 10.6.3.
    home = bradley_terry.fit(games, "Baltimore", prior=math.inf)
    assert home is not None
    assert home.first_advantage == pytest.approx(0.302, abs=0.0006)


def test_two_systems_with_ties_have_the_closed_form_of_davidson() -> None:
    # π1/π2 = (w1/w2) and ν = t / √(w1·w2) where each order occurs as often and with the same answers
    made = []
    for first, second, flip in (("a", "b", False), ("b", "a", True)):
        made += [Answer(first, second, "second" if flip else "first")] * 20 + [Answer(first, second, "first" if flip else "second")] * 5
        made += [Answer(first, second, "tie")] * 10
    found = bradley_terry.fit(made, "b", prior=math.inf)
    assert found is not None
    (one,) = found.systems
    assert one.strength == pytest.approx(math.log(4), abs=1e-5)
    assert math.exp(found.readiness_for_ties) == pytest.approx(1.0, abs=1e-5)
    assert found.first_advantage == pytest.approx(0, abs=1e-6)
    assert (one.win, one.tie, one.share) == (pytest.approx(20 / 35), pytest.approx(10 / 35), pytest.approx(25 / 35))
    assert found.log_likelihood == pytest.approx(2 * (20 * math.log(20 / 35) + 5 * math.log(5 / 35) + 10 * math.log(10 / 35)))


def test_someone_who_always_takes_the_first_shows_as_position_and_not_as_strength() -> None:
    made = [Answer("a", "b", "first")] * 20 + [Answer("b", "a", "first")] * 20
    found = bradley_terry.fit(made, "b")
    assert found is not None
    assert found.first_advantage > 2
    assert found.systems[0].share == pytest.approx(0.5, abs=1e-6)


def test_the_weak_prior_keeps_a_clean_sweep_finite_and_leaves_the_rest_nearly_alone() -> None:
    sweep = bradley_terry.fit([Answer("a", "b", "first"), Answer("b", "a", "second")] * 5, "b")
    assert sweep is not None
    assert 0.9 < sweep.systems[0].share < 0.99
    many = (
        [Answer("a", "b", "first")] * 60 + [Answer("b", "a", "second")] * 60 + [Answer("a", "b", "second"), Answer("b", "a", "first")] * 40
    )
    weak, none = bradley_terry.fit(many, "b"), bradley_terry.fit(many, "b", prior=math.inf)
    assert weak is not None
    assert none is not None
    assert weak.systems[0].share == pytest.approx(none.systems[0].share, abs=0.002)


def test_no_answers_have_no_strengths() -> None:
    assert bradley_terry.fit([], "a") is None


def test_the_interval_of_a_preference_widens_when_listeners_disagree() -> None:
    def width(tastes: list[float]) -> float:
        rng = np.random.default_rng(4)
        made = [
            Answer(*pair, "first" if (rng.random() < taste) == (pair[0] == "a") else "second", who, text)
            for who, taste in enumerate(tastes)
            for text in range(8)
            for pair in (("a", "b"), ("b", "a"))
        ]
        found = bradley_terry.fit(made, "b")
        assert found is not None
        interval = found.systems[0].interval
        assert interval is not None
        assert interval.holds(found.systems[0].share)
        return interval.high - interval.low

    assert width([0.95, 0.05] * 5) > 1.5 * width([0.5] * 10)


def test_refits_of_the_bootstrap_reach_the_maximum_that_scipy_finds() -> None:
    rng = np.random.default_rng(9)
    made = [
        Answer(*(("r", s) if flip else (s, "r")), str(rng.choice(["first", "second", "tie"])), who, text)  # type: ignore[arg-type]
        for who in range(4)
        for text in range(4)
        for s in ("a", "b")
        for flip in (False, True)
    ]
    cells, design = bradley_terry._cells(made, ["a", "b"])
    counts = np.bincount(cells, minlength=3 * len(design)).reshape(1, len(design), 3).astype(float)
    found = bradley_terry.fit(made, "r", bootstrap=False)
    assert found is not None
    refit = bradley_terry._refit(np.full(4, 0.7), design, counts, 1 / 9)[0]
    assert refit[:2] == pytest.approx([one.strength for one in found.systems], abs=1e-6)
    assert refit[2:] == pytest.approx([found.first_advantage, found.readiness_for_ties], abs=1e-6)


# --- scales


def test_a_spread_has_the_quartiles_of_hand() -> None:
    found = scales.spread([1, 2, 3, 4, 100])
    assert (found.n, found.median, found.q1, found.q3, found.iqr, found.mean) == (5, 3, 2, 4, 2, 22)
    with pytest.raises(ValueError, match="no ratings"):
        scales.spread([])


def test_student_s_sleep_data_have_their_published_interval() -> None:
    # Student 1908: differences of hours of sleep; R's t.test(extra ~ group, paired) gives 0.70 to 2.46
    found = scales.mean_interval([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (0.7001, 2.4599)


def test_answers_that_all_agree_leave_an_interval_of_the_scale_s_rounding() -> None:
    found = scales.mean_interval([0, 0, 0, 0, 0, 0], step=1)
    assert found is not None
    assert found.high == pytest.approx(2.5706 / math.sqrt(12 * 6), rel=1e-4)
    assert scales.mean_interval([1]) is None


def test_adjusted_means_undo_who_listened_to_what() -> None:
    # the strict listener (two points lower) heard only y, the kind one only x, both heard z; x is in truth one point worse than y
    rows = [("x", "kind", 0, 3.0), ("z", "kind", 0, 4.0), ("y", "strict", 0, 2.0), ("z", "strict", 0, 2.0)]
    systems, listeners, texts, values = zip(*rows, strict=True)
    found = scales.adjusted_means(values, systems, listeners, texts)
    assert found == {"x": pytest.approx(2.0), "z": pytest.approx(3.0), "y": pytest.approx(3.0)}


def test_adjusted_means_are_plain_means_where_everybody_heard_everything() -> None:
    values, listeners, texts = _crossed(4, 6, 1, 1, 1, 5)
    systems = ["even" if (i + j) % 2 == 0 else "odd" for i, j in zip(listeners, texts, strict=True)]
    found = scales.adjusted_means(values, systems, listeners, texts)
    for name in ("even", "odd"):
        assert found[name] == pytest.approx(float(np.mean([v for v, s in zip(values, systems, strict=True) if s == name])))


def test_a_system_without_a_link_to_the_others_has_no_adjusted_mean() -> None:
    found = scales.adjusted_means([1, 2, 3, 4], ["x", "x", "y", "y"], ["p", "q", "r", "s"], [0, 0, 1, 1])
    assert found == {"x": None, "y": None}
    assert scales.adjusted_means([], [], [], []) == {}


def test_darwin_s_maize_has_the_p_value_that_fisher_counted() -> None:
    # Fisher 1935, section 21: of 32,768 arrangements 863 have as large a total in one direction, so 1,726 in both
    heights = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    found = scales.permutation(heights, ["one"] * 15)
    assert found is not None
    assert found.p == pytest.approx(1726 / 32768)
    assert (found.by, found.exact, found.clusters) == ("pair", True, 15)
    by_listener = scales.permutation(heights, list(range(15)))
    assert by_listener is not None
    assert (by_listener.p, by_listener.by) == (found.p, "listener")


def test_many_differences_are_permuted_by_draws_and_the_observed_one_counts() -> None:
    rng = np.random.default_rng(0)
    strong = scales.permutation(rng.normal(3, 1, 40), ["one"] * 40)
    assert strong is not None
    assert strong.p == pytest.approx(1 / 10_001)
    assert not strong.exact
    nothing = scales.permutation([0.0] * 40, ["one"] * 40)
    assert nothing is not None
    assert nothing.p == 1
    assert scales.permutation([], []) is None


def test_six_listeners_are_flipped_whole_and_five_are_not() -> None:
    six = scales.permutation([5.0] * 24, [f"l{i % 6}" for i in range(24)])
    five = scales.permutation([5.0] * 20, [f"l{i % 5}" for i in range(20)])
    assert six is not None
    assert five is not None
    assert (six.by, six.clusters, six.p) == ("listener", 6, 2 / 64)
    assert (five.by, five.clusters) == ("pair", 20)


def test_permutation_has_its_level_where_listeners_differ() -> None:
    rejected = 0
    for seed in range(200):
        values, listeners, _ = _crossed(8, 6, 1.0, 0.0, 0.5, seed)
        found = scales.permutation(values, listeners)
        assert found is not None
        rejected += found.p < 0.05
    assert rejected / 200 < 0.09


def test_holm_gives_the_published_adjustment() -> None:
    assert scales.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert scales.holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])  # R: p.adjust(…, "holm")
    assert scales.holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert scales.holm([]) == []


# --- BS.1534-3


@pytest.mark.parametrize(("bad", "dropped"), [(0, False), (3, False), (4, True), (20, True)])
def test_three_bad_items_of_twenty_keep_a_listener_and_four_drop_one(bad: int, dropped: bool) -> None:
    found = screening.screen({"l": {item: 89 if item < bad else 90 for item in range(20)}}, {})
    assert [(one.rule, one.dropped, one.available) for one in found] == [
        ("hidden reference", dropped, True),
        ("mid-range anchor", False, False),
    ]
    assert (found[0].bad, found[0].items) == (bad, 20)


def test_a_mid_range_anchor_over_ninety_drops_a_listener_unless_many_found_it_so() -> None:
    def middle(listeners: int, over: dict[str, int]) -> dict[str, dict[int, float]]:
        return {f"l{i}": {item: 91.0 if item < over.get(f"l{i}", 0) else 90.0 for item in range(20)} for i in range(listeners)}

    def dropped(scores: dict[str, dict[int, float]]) -> list[str]:
        return [one.listener for one in screening.screen({}, scores) if one.dropped]

    assert dropped(middle(10, {"l0": 3, "l1": 4})) == ["l1"]
    assert dropped(middle(8, {"l0": 4, "l1": 4})) == ["l0", "l1"]  # 25 % of the listeners: counted
    assert dropped(middle(8, {"l0": 4, "l1": 4, "l2": 4})) == []  # more than 25 %: the anchor did little to these items


def test_a_listener_without_ratings_cannot_be_screened_which_is_not_a_failure() -> None:
    found = screening.screen({"l": {}}, {})
    assert [(one.available, one.dropped) for one in found] == [(False, False), (False, False)]


# --- staircases


def _track(answers: str) -> list[tuple[int, bool]]:
    """Answers (r right, w wrong) to the levels that the rule asks."""
    history: list[tuple[int, bool]] = []
    for answer in answers:
        level = staircase.next_level(history)
        assert level is not None
        history.append((level, answer == "r"))
    return history


def test_a_staircase_starts_at_the_easiest_level_and_goes_up_by_two_right_and_down_by_one_wrong() -> None:
    assert [level for level, _ in _track("rrrrrwrrw")] == [4, 4, 5, 5, 6, 6, 5, 5, 6]
    assert staircase.next_level(_track("rrrrrwrrw")) == 5
    assert staircase.next_level([]) == 4


def test_reversals_are_the_levels_at_which_the_track_turns() -> None:
    history = _track("rrrrrw" + "rr" + "w" + "w" + "rr")
    assert [level for level, _ in history] == [4, 4, 5, 5, 6, 6, 5, 5, 6, 5, 4, 4]
    assert staircase.reversals(history) == (6, 5, 6, 4)


def test_a_staircase_does_not_leave_its_ladder() -> None:
    assert staircase.next_level(_track("wwww")) == 4
    up = _track("rr" * 12)
    assert up[-1][0] == 32
    assert staircase.next_level(up) == 32


def test_a_staircase_is_over_after_eight_reversals_or_the_most_trials() -> None:
    history = _track("rr" + "wrr" * 3 + "w")
    assert len(staircase.reversals(history)) == 7
    history = _track("rr" + "wrr" * 4)
    assert len(staircase.reversals(history)) == 8
    assert staircase.next_level(history) is None
    assert staircase.next_level([(4, True)] * 3, most=3) is None
    assert staircase.next_level(_track("w" * 40)) is None


def test_a_level_off_the_ladder_is_refused() -> None:
    with pytest.raises(ValueError, match="level 9"):
        staircase.next_level([(9, True)])
    with pytest.raises(ValueError, match="ladder"):
        staircase.next_level([], ())


@given(some.lists(some.booleans(), max_size=80), some.sampled_from([staircase.LADDER, (32, 8, 4), (7,)]))
def test_a_track_moves_by_one_step_at_most_and_ends(answers: list[bool], ladder: tuple[int, ...]) -> None:
    history: list[tuple[int, bool]] = []
    for answer in answers:
        level = staircase.next_level(history, ladder)
        if level is None:
            break
        if history:
            assert abs(ladder.index(level) - ladder.index(history[-1][0])) <= 1
        history.append((level, answer))
    assert len(history) <= staircase.MOST_TRIALS
    assert len(staircase.reversals(history, ladder)) <= staircase.MOST_REVERSALS


def _simulated(chance: Callable[[int], float], rng: np.random.Generator) -> list[tuple[int, bool]]:
    history: list[tuple[int, bool]] = []
    while (level := staircase.next_level(history)) is not None:
        history.append((level, bool(rng.random() < chance(level))))
    return history


def test_a_threshold_is_the_mean_over_reversals_after_the_first_two() -> None:
    history = _track("rrrrrw" + "rr" + "w" + "w" + "rr" + "w" + "rr" + "w" + "rr")
    assert staircase.reversals(history) == (6, 5, 6, 4, 5, 4, 5, 4)
    found = thresholds.threshold(history[:-2], over=False)  # seven reversals: 6, 4, 5, 4, 5 are left, places 6, 8, 7, 8, 7
    assert found.right == 11  # of 17: no better than guessing
    assert found.state == "floor"
    heard = _track("rr" * 4 + "w" + "rr" + "w" + "rr" + "w" + "rr" + "rr" + "w" + "rr")
    assert staircase.reversals(heard) == (8, 7, 8, 7, 8, 7, 10, 8)
    found = thresholds.threshold(heard)
    assert found.state == "inside"
    assert found.place == pytest.approx((4 + 5 + 4 + 5 + 3 + 4) / 6)
    assert found.se == pytest.approx(np.std([4, 5, 4, 5, 3, 4], ddof=1) / math.sqrt(6))
    assert found.nfe == pytest.approx(8 - 1 / 6)


def test_the_rule_comes_to_rest_at_seventy_point_seven_per_cent() -> None:
    rng = np.random.default_rng(1)

    def chance(level: int) -> float:  # 70.7 % at NFE 7, place 5
        return 0.5 + 0.5 / (1 + math.exp(2 * (5 - staircase.LADDER.index(level)) + math.log(0.5 / 0.2071 - 1)))

    found = [thresholds.threshold(_simulated(chance, rng)) for _ in range(300)]
    places = [one.place for one in found if one.place is not None]
    assert len(places) > 290
    assert float(np.mean(places)) == pytest.approx(5, abs=0.3)


def test_guessers_are_at_the_floor_and_perfect_listeners_at_the_ceiling() -> None:
    rng = np.random.default_rng(2)
    guessers = [thresholds.threshold(_simulated(lambda level: 0.5, rng)) for _ in range(300)]
    assert sum(one.state == "floor" for one in guessers) > 280
    assert sum(one.state == "inside" for one in guessers) <= 15
    assert thresholds.threshold(_simulated(lambda level: 1.0, rng)).state == "ceiling"
    assert thresholds.threshold(_simulated(lambda level: 0.0, rng)).state == "floor"


def test_a_track_that_was_broken_off_early_says_nothing() -> None:
    assert thresholds.threshold(_track("rrrrrw"), over=False).state == "too short"
    assert thresholds.threshold([], over=False).state == "too short"
    assert thresholds.threshold(_track("w"), over=False).state == "too short"


def test_the_floor_is_shown_when_the_easiest_level_is_bounded_below_the_threshold_s_own_share() -> None:
    assert not thresholds.cannot_tell_easiest(0, 0)
    assert thresholds.cannot_tell_easiest(10, 20)  # upper bound 69.8 %
    assert not thresholds.cannot_tell_easiest(11, 20)


# --- intervals


@settings(max_examples=50)
@given(some.lists(some.tuples(some.floats(-9, 9), some.floats(0, 9)), min_size=1, max_size=5))
def test_a_hull_holds_all_that_it_was_made_of(parts: list[tuple[float, float]]) -> None:
    intervals = [Interval(low, low + width) for low, width in parts]
    hull = intervals[0].hull(*intervals[1:], None)
    assert all(one.inside(hull.low, hull.high) for one in intervals)
    assert hull.low in [one.low for one in intervals]
    assert hull.high in [one.high for one in intervals]
