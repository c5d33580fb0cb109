"""Against published and hand-computed values, and against simulation where a rate is promised."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from lab.bench.analysis import Analysis
from lab.bench.power import blocks_to_detect, detection_rate
from lab.bench.ratios import Spread, launch_spread, launch_weights, median_interval, paired_ratio, sign_rank, verdict
from lab.bench.run_files import list_runs, read_run
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
    rank = sign_rank(n)
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
    launches, blocks, arms = times.shape
    return judged_blocks(times.reshape(-1, arms), np.repeat(np.arange(launches), blocks))


def judged_blocks(table, labels):
    """As `judged`, from blocks (n, arms) and the launch of each."""
    return paired_ratio(table[:, -1] - table[:, 0], labels, launch_spread(table, labels))


@pytest.mark.parametrize("between", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("sizes", [[20, 20, 20, 3], [30, 1], [30, 30, 12, 12, 60, 1]])
def test_launches_that_were_cut_short_raise_no_more_false_alarms(sizes, between):
    rng = np.random.default_rng(len(sizes))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    alarms = 0
    for _ in range(1000):
        table = launches_of_arms(rng, len(sizes), max(sizes), 4, between)
        kept = np.concatenate([launch[:size] for launch, size in zip(table, sizes, strict=True)])
        alarms += judged_blocks(kept, labels).verdict in ("faster", "slower")
    assert alarms <= binom.ppf(0.999, 1000, 0.05)


def test_launches_of_one_size_count_alike_and_one_that_was_cut_short_counts_less():
    assert launch_weights([7, 7, 7]) == pytest.approx([1 / 3] * 3)
    # mean 10: 15/25, 5/15 and their sum 14/15
    assert launch_weights([15, 5]) == pytest.approx([0.6 * 15 / 14, 15 / 14 / 3])
    found = paired_ratio([0.0] * 15 + [0.14] * 5, [0] * 15 + [1] * 5)
    assert math.log(found.median) == pytest.approx(0.05)


@pytest.mark.parametrize(("launches", "between"), [(2, 0.05), (5, 0.0), (5, 0.03), (5, 0.1), (10, 0.03)])
def test_processes_that_differ_for_life_raise_no_more_false_alarms(launches, between):
    rng = np.random.default_rng(launches)
    alarms = sum(judged(launches_of_arms(rng, launches, 6, 4, between)).verdict in ("faster", "slower") for _ in range(1000))
    assert alarms <= binom.ppf(0.999, 1000, 0.05)


@pytest.mark.parametrize(("launches", "between"), [(2, 0.05), (5, 0.0), (5, 0.03), (10, 0.03)])
def test_a_configuration_against_two_processes_of_the_reference_raises_no_more_false_alarms(launches, between):
    rng = np.random.default_rng(launches)
    labels = np.repeat(np.arange(launches), 6)
    alarms, widths = 0, []
    for _ in range(1000):
        table = launches_of_arms(rng, launches, 6, 4, between).reshape(-1, 4)
        found = paired_ratio(table[:, 3] - table[:, :2].mean(axis=1), labels, launch_spread(table, labels), 1.5)
        alarms += found.differs
        widths.append(math.log(found.high / found.low) / math.log((one := judged_blocks(table, labels)).high / one.low))
    assert alarms <= binom.ppf(0.999, 1000, 0.05)
    assert np.mean(widths) == pytest.approx(math.sqrt(1.5 / 2), abs=0.05)  # heavy tails average less well than normal ones


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
    assert launch_spread(table, [0, 1]) == Spread(pytest.approx(0.09 / 3 / 2), 2)
    assert launch_spread(table[:1], [0]) is None
    assert launch_spread(table[:, :1], [0, 1]) is None


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
    # of the sign test with 30 blocks it is 4.3 %; with a thousand experiments one run in a dozen would see more than 5 % by chance
    assert detection_rate(noise, 0.0, 30, experiments=20_000) <= 0.05
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
