"""Against published and hand-computed values, and against simulation where a rate is promised."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from lab.bench import statistics
from lab.bench.analysis import Analysis
from lab.bench.power import blocks_to_detect, detection_rate
from lab.bench.run_files import list_runs, read_run
from lab.bench.statistics import (
    Spread,
    fit_line,
    launch_spread,
    median_interval,
    paired_ratio,
    ratio_of_medians,
    summarise,
    verdict,
)
from lab.bench.tables import resolution_words
from tests.runs import synthetic_run

finite = st.floats(-2, 2, allow_nan=False)


# --- the interval of a median


@pytest.mark.parametrize(("n", "rank"), [(5, 0), (6, 1), (8, 1), (9, 2), (10, 2), (15, 4), (20, 6), (30, 10), (50, 18), (100, 40)])
def test_the_interval_of_a_median_uses_the_published_ranks_of_the_sign_test(n, rank):
    # Dixon & Massey, "Introduction to Statistical Analysis", table A-25 (confidence at least 95 %)
    low, high = median_interval(np.arange(1, n + 1))
    assert (low, high) == ((rank, n + 1 - rank) if rank else (-math.inf, math.inf))


@pytest.mark.parametrize("n", [6, 17, 30, 90, 251])
def test_no_wider_pair_of_order_statistics_than_needed_is_taken(n):
    rank = statistics.sign_rank(n)
    assert 1 - 2 * binom.cdf(rank - 1, n, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(rank, n, 0.5) < 0.95


@given(st.lists(finite, min_size=6, max_size=60), st.randoms())
def test_the_interval_holds_the_median_and_does_not_depend_on_the_order(values, random):
    low, high = median_interval(values)
    assert low <= np.median(values) <= high
    shuffled = list(values)
    random.shuffle(shuffled)
    assert median_interval(shuffled) == (low, high)


# --- ratios and verdicts


def test_a_ratio_is_the_time_of_a_over_the_time_of_b_and_the_verdict_speaks_of_a():
    found = paired_ratio(np.log([0.9] * 20))
    assert (found.median, found.low, found.high) == pytest.approx((0.9, 0.9, 0.9))
    assert found.verdict == "faster"
    assert paired_ratio(np.log([1.1] * 20)).verdict == "slower"


@given(st.lists(finite, min_size=1, max_size=50))
def test_swapping_the_arms_turns_the_ratio_and_the_verdict_round(values):
    there, back = paired_ratio(values), paired_ratio(np.negative(values))
    assert there.median == pytest.approx(1 / back.median)
    turned = {"faster": "slower", "slower": "faster"}
    assert turned.get(there.verdict, there.verdict) == back.verdict
    assert there.more_blocks == back.more_blocks


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.01, 0.01, "equivalent"),
        (0.005, 0.015, "equivalent"),  # surely slower, and by too little to matter
        (-0.05, -0.03, "faster"),
        (-0.03, -0.005, "faster"),
        (0.001, 0.2, "slower"),
        (-0.03, 0.01, "undecided"),
        (-math.inf, math.inf, "undecided"),
    ],
)
def test_the_verdict_follows_from_the_interval(low, high, said):
    assert verdict(low, high) == said


def test_fewer_than_six_blocks_decide_nothing_however_clear_they_look():
    found = paired_ratio(np.log([0.5] * 5))
    assert found.verdict == "undecided"
    assert (found.low, found.high) == (0, math.inf)
    assert found.more_blocks == 1


def test_an_undecided_pair_says_how_many_more_blocks_would_decide_and_they_do():
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.05, 30)
    found = paired_ratio(noise)
    assert found.verdict == "undecided"
    more = paired_ratio(rng.normal(float(np.median(noise)), 0.05, 30 + 2 * found.more_blocks))
    assert more.decided
    assert paired_ratio([0.0] * 7).more_blocks is None  # decided: nothing more is needed


def test_no_blocks_is_an_error_of_the_caller():
    with pytest.raises(ValueError, match="no paired blocks"):
        paired_ratio([])


# --- false alarms, and what is found


def block_ratios(rng, blocks, effect=0.0):
    """Log-ratios of ABBA blocks on a machine that drifts, has a heavy tail, and is now and then disturbed for a while."""
    drift = np.cumsum(rng.normal(0, 0.02, blocks * 4)).reshape(blocks, 4)
    log = drift + 0.03 * rng.standard_t(3, (blocks, 4)) + np.where(rng.random((blocks, 4)) < 0.05, rng.exponential(0.4, (blocks, 4)), 0)
    first = rng.random(blocks) < 0.5
    a = np.where(first, log[:, 0] + log[:, 3], log[:, 1] + log[:, 2]) / 2
    b = np.where(first, log[:, 1] + log[:, 2], log[:, 0] + log[:, 3]) / 2
    return a - b + math.log1p(effect)


def false_alarms(blocks, experiments):
    rng = np.random.default_rng(blocks)
    return sum(paired_ratio(block_ratios(rng, blocks)).verdict in ("faster", "slower") for _ in range(experiments))


def test_an_aa_arm_of_thirty_rounds_is_called_faster_or_slower_in_at_most_five_percent_of_a_thousand_experiments():
    assert false_alarms(30, 1000) <= 50


@pytest.mark.parametrize("blocks", [6, 10, 31, 90, 200])
def test_the_rate_of_false_alarms_is_at_most_five_percent_for_any_number_of_blocks(blocks):
    # the true rate is between 2 and 5 %, so that a thousand experiments may see a little more than 50 by chance
    assert false_alarms(blocks, 1000) <= binom.ppf(0.999, 1000, 0.05)


def launches_of_arms(rng, launches, blocks, arms, between, effect=0.0):
    """(launches, blocks, arms) log times: every process has its own speed, and blocks are noisy with a heavy tail; the last arm is slower by `effect`."""
    times = 0.02 * rng.standard_t(3, (launches, blocks, arms)) + rng.normal(0, between, (launches, 1, arms))
    times[:, :, -1] += math.log1p(effect)
    return times


def judged(times):
    """Last arm against first, as a run would be judged."""
    launches, blocks, _ = times.shape
    ratios = (times[:, :, -1] - times[:, :, 0]).ravel()
    relative = times - times.mean(axis=2, keepdims=True)
    return paired_ratio(ratios, np.repeat(np.arange(launches), blocks), launch_spread(np.median(relative, axis=1)))


@pytest.mark.parametrize(("launches", "between"), [(2, 0.05), (5, 0.0), (5, 0.03), (5, 0.1), (10, 0.03)])
def test_processes_that_differ_for_life_raise_no_more_false_alarms(launches, between):
    rng = np.random.default_rng(launches)
    alarms = sum(judged(launches_of_arms(rng, launches, 6, 4, between)).verdict in ("faster", "slower") for _ in range(1000))
    assert alarms <= binom.ppf(0.999, 1000, 0.05)


def test_one_launch_of_processes_that_differ_cannot_be_trusted_which_is_why_there_are_several():
    rng = np.random.default_rng(1)
    alarms = sum(judged(launches_of_arms(rng, 1, 30, 4, 0.05)).verdict in ("faster", "slower") for _ in range(300))
    assert alarms > 100


def test_a_true_difference_is_found_through_the_differences_between_processes():
    rng = np.random.default_rng(2)
    found = sum(judged(launches_of_arms(rng, 5, 6, 4, 0.01, effect=0.05)).verdict == "slower" for _ in range(300))
    assert found > 240


def test_the_spread_of_launches_is_the_residual_of_a_two_way_layout_computed_by_hand():
    # arms 1, 2, 3 and launches +0, +10: nothing is left but the 0.3 that one cell has more
    table = np.array([[1.0, 2.0, 3.0], [11.0, 12.0, 13.3]])
    # residuals of one odd cell of size x in a 2 x 3 table: x(1-1/2)(1-1/3) = x/3, and so on; their squares sum up to x² · (1-1/2)(1-1/3)
    assert launch_spread(table) == Spread(pytest.approx(0.09 / 3 / 2), 2)
    assert launch_spread(table[:1]) is None
    assert launch_spread(table[:, :1]) is None


def test_the_interval_over_launches_is_students_t():
    # launch medians 0.01 and 0.03: mean 0.02, pooled mean square 0.0001 with 4 degrees of freedom: t = 2.776, half width 2.776 · sqrt(2 · 0.0001 / 2)
    found = paired_ratio([0.01] * 6 + [0.03] * 6, [0] * 6 + [1] * 6, Spread(0.0001, 4))
    assert math.log(found.median) == pytest.approx(0.02)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((0.02 - 0.02776, 0.02 + 0.02776), abs=1e-4)
    assert found.launches == 2
    own = paired_ratio(
        [0.01] * 6 + [0.03] * 6, [0] * 6 + [1] * 6
    )  # without a spread, from its own launches: one degree of freedom, t = 12.7
    assert math.log(own.high) == pytest.approx(0.02 + 12.706 * 0.01, abs=1e-3)


def test_the_interval_is_never_narrower_than_that_over_blocks():
    values = np.random.default_rng(3).normal(0, 0.1, 60)
    narrow = paired_ratio(values, np.repeat(np.arange(5), 12), Spread(1e-9, 20))
    low, high = median_interval(values)
    assert math.log(narrow.high / narrow.low) == pytest.approx(high - low, rel=1e-6)


def test_whole_runs_raise_no_more_false_alarms_than_their_statistics():
    verdicts = [Analysis(synthetic_run("baseline", "birch", 12, noise=0.05, seed=seed)).aa().ratio.verdict for seed in range(100)]
    assert sum(verdict in ("faster", "slower") for verdict in verdicts) <= 5


def stored_noise():
    for head in list_runs().runs:
        analysis = Analysis(read_run(head.path))
        if analysis.noise and analysis.noise.blocks >= 30:
            yield pytest.param(analysis, id=head.id)


@pytest.mark.parametrize("analysis", list(stored_noise()))
def test_three_percent_are_found_in_the_noise_that_was_measured_or_the_rounds_it_takes_are_said(analysis):
    noise = np.asarray(analysis.log_ratios(analysis.twin, analysis.reference))
    assert detection_rate(noise, 0.0, 30) <= 0.05  # 1,000 experiments
    said = resolution_words(analysis)
    assert f"{analysis.noise.detected:.0%}" in said
    if analysis.noise.detected < 0.8:
        assert analysis.noise.blocks_needed > analysis.noise.blocks
        assert f"80 % take about {math.ceil(analysis.noise.blocks_needed / len(analysis.sets))} rounds" in said


def test_the_rate_of_detection_is_that_of_experiments_done_one_by_one():
    noise = block_ratios(np.random.default_rng(1), 400)
    rng = np.random.default_rng(2)
    found = sum(paired_ratio(rng.choice(noise - np.median(noise), 30) + math.log1p(0.05)).verdict == "slower" for _ in range(600)) / 600
    assert detection_rate(noise, 0.05, 30) == pytest.approx(found, abs=0.06)


def test_the_rate_of_detection_knows_about_launches():
    noise = 0.02 * np.random.default_rng(1).standard_t(3, 2000) * math.sqrt(2)
    rng = np.random.default_rng(3)
    found = sum(judged(launches_of_arms(rng, 5, 6, 4, 0.02, effect=0.05)).verdict == "slower" for _ in range(600)) / 600
    assert detection_rate(noise, 0.05, 30, 5, 0.02, 4) == pytest.approx(found, abs=0.1)
    assert detection_rate(noise, 0.0, 30, 5, 0.05, 4) <= 0.06
    assert detection_rate(noise, 0.05, 30, 5, 0.05, 4) < detection_rate(noise, 0.05, 30, 5, 0.0, 4)


def test_more_noise_needs_more_blocks_and_hopeless_noise_says_so():
    noise = np.random.default_rng(3).normal(0, 0.02, 200)
    assert blocks_to_detect(noise) < blocks_to_detect(2 * noise) < blocks_to_detect(4 * noise)
    assert blocks_to_detect(1000 * noise, most=500) is None
    assert detection_rate([], 0.03, 30) == detection_rate(noise, 0.03, 5) == 0.0


# --- summaries


def test_a_summary_has_the_values_that_are_computed_by_hand():
    found = summarise([2, 4, 4, 4, 5, 5, 7, 9], range(8))
    assert (found.n, found.mean.value, found.median.value, found.least, found.most) == (8, 5, 4.5, 2, 9)
    assert found.deviation == pytest.approx(math.sqrt(32 / 7))
    assert found.variation.value == pytest.approx(math.sqrt(32 / 7) / 5)


def test_percentiles_are_those_of_r_type_seven():
    found = summarise(range(1, 11), range(10))
    assert [found.percentiles[q].value for q in (90, 95, 99)] == pytest.approx([9.1, 9.55, 9.91])


def test_the_standard_deviation_is_exact_where_naive_formulas_fail():
    # NIST StRD, NumAcc1: certified mean 10000002, standard deviation 1
    found = summarise([10_000_001, 10_000_003, 10_000_002], range(3))
    assert found.mean.value == 10_000_002
    assert found.deviation == 1


def test_the_interval_of_a_mean_covers_it_in_about_95_percent_of_cases():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(200):
        found = summarise(rng.normal(10, 1, 60), np.repeat(np.arange(30), 2))
        covered += found.mean.low <= 10 <= found.mean.high
    assert 180 <= covered <= 199


def test_samples_of_one_block_count_as_one_observation():
    rng = np.random.default_rng(6)
    blocks = np.repeat(np.arange(10), 6)
    shared = np.repeat(rng.normal(10, 1, 10), 6)  # all of a block alike: 10 observations, not 60
    apart = summarise(shared, np.arange(60)).mean
    together = summarise(shared, blocks).mean
    assert (together.high - together.low) > 2 * (apart.high - apart.low)


def test_the_same_samples_give_the_same_intervals_each_time():
    values = np.random.default_rng(7).normal(1, 0.1, 40)
    assert summarise(values, range(40)) == summarise(values, range(40))


def test_fewer_than_three_blocks_give_no_interval_and_one_value_no_deviation():
    assert summarise([1.0, 2.0], [0, 1]).mean.low is None
    assert summarise([1.0], [0]).deviation == 0
    with pytest.raises(ValueError, match="no samples"):
        summarise([], [])


@given(st.lists(st.floats(0.001, 1000), min_size=3, max_size=40))
def test_a_summary_is_in_order(values):
    found = summarise(values, range(len(values)))
    ordered = [found.least, found.median.value, *(found.percentiles[q].value for q in (90, 95, 99)), found.most]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(ordered))
    assert found.mean.low <= found.mean.value * (1 + 1e-9)
    assert found.mean.high >= found.mean.value * (1 - 1e-9)


def test_blocks_of_unequal_size_are_resampled_too():
    found = summarise([1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 1, 2, 2, 3])
    assert found.mean.low < 4 < found.mean.high


# --- two runs, and a line


def test_the_ratio_of_medians_of_two_runs_has_an_interval():
    rng = np.random.default_rng(8)
    before, after = rng.normal(100, 2, 60), rng.normal(110, 2, 60)
    found = ratio_of_medians(after, range(60), before, range(60))
    assert found.low < 1.1 < found.high
    assert found.value == pytest.approx(np.median(after) / np.median(before))
    assert ratio_of_medians([1], [0], [2], [0]).low is None
    with pytest.raises(ValueError, match="no samples"):
        ratio_of_medians([], [], [1], [0])


NORRIS = """0.1 0.2|338.8 337.4|118.1 118.2|888.0 884.6|9.2 10.1|228.1 226.5|668.5 666.3|998.5 996.3|449.1 448.6|778.9 777.0|559.2 558.2|0.3 0.4
|0.1 0.6|778.1 775.5|668.8 666.9|339.3 338.0|448.9 447.5|10.8 11.6|557.7 556.0|228.3 228.1|998.0 995.8|888.8 887.6|119.6 120.2|0.3 0.3|0.6 0.3
|557.6 556.8|339.3 339.1|888.0 887.2|998.5 999.0|778.9 779.0|10.2 11.1|117.6 118.3|228.9 229.2|668.4 669.1|449.2 448.9|0.2 0.5"""


def test_a_line_has_the_certified_coefficients_of_the_nist_data_set_norris():
    y, x = np.array([[float(value) for value in pair.split()] for pair in NORRIS.replace("\n", "").split("|")]).T
    line = fit_line(x, y, range(len(x)))
    assert line.fixed.value == pytest.approx(-0.262323073774029, abs=1e-9)
    assert line.slope.value == pytest.approx(1.00211681802045, abs=1e-12)
    assert line.r_squared == pytest.approx(0.999993745883712, abs=1e-12)
    assert line.slope.low < line.slope.value < line.slope.high


def test_one_length_alone_has_no_line_and_two_blocks_no_interval():
    assert fit_line([3, 3, 3], [1, 2, 3], range(3)) is None
    assert fit_line([3], [1], [0]) is None
    assert fit_line([1, 2], [10, 20], [0, 1]).slope.low is None
    assert fit_line([1, 2], [10, 20], [0, 1]).fixed.value == pytest.approx(0)


def test_texts_of_several_lengths_do_not_widen_the_interval_of_their_mean():
    rng = np.random.default_rng(9)
    lengths = np.repeat([1.0, 5.0], 30)
    values = lengths * np.exp(rng.normal(0, 0.02, 60))
    apart = summarise(values, range(60), lengths).mean
    mixed = summarise(values, range(60)).mean
    assert apart.high - apart.low < 0.2 * (mixed.high - mixed.low)
    assert apart.low < 3 < apart.high
