"""Against published and hand-computed values, and against simulation where a rate is promised."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench.statistics import fit_line, ratio_of_medians, summarise

finite = st.floats(-2, 2, allow_nan=False)


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
