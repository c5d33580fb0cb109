import numpy as np
import pandas as pd
import pytest

from lab.bench import comparison, export
from lab.bench.analysis import Analysis, frames
from lab.bench.record import Run
from lab.bench.tables import fit_rows, pair_document, ratio_words, resolution_words, run_document, statistics_rows, verdict_words
from lab.errors import LabError
from tests.runs import BEGAN, machine, synthetic_run


@pytest.fixture(scope="module")
def run() -> Run:
    return synthetic_run(
        "baseline,optimized,upstream-nfe16", "short,long", 20, times={"optimized": 45.0, "upstream-nfe16": 100.0}, launches=4
    )


@pytest.fixture(scope="module")
def look(run) -> Analysis:
    return Analysis(run)


def changed(run: Run, **columns) -> Run:
    return run.model_copy(update={"samples": run.samples.model_copy(update=columns)})


def test_warm_ups_first_utterances_and_invalid_samples_do_not_count(run):
    frame = Analysis(run).frame
    cold = [1 if index == len(frame) - 1 else value for index, value in enumerate(run.samples.cold)]
    look = Analysis(changed(run, cold=cold, invalid={len(frame) - 2: ["silent"]}))
    assert not look.frame["counted"].iloc[-2:].any()
    assert len(look.counted) == len(Analysis(run).counted) - 2
    assert not look.counted["warm_up"].any()
    assert look.frame["reason"].iloc[-2] == "silent"
    assert look.invalid == 1


def test_a_block_that_lost_a_sample_of_an_arm_has_no_pair_with_it(run, look):
    last = max(index for index, (block, arm) in enumerate(zip(run.samples.block, run.samples.arm, strict=True)) if arm == 2)
    shorter = Analysis(changed(run, invalid={last: ["not finite"]}))
    assert len(shorter.log_ratios("optimized", "baseline")) == len(look.log_ratios("optimized", "baseline")) - 1
    assert len(shorter.log_ratios("upstream-nfe16", "baseline")) == len(look.log_ratios("upstream-nfe16", "baseline"))


def by_hand(look, block, *labels):
    """Mean log time of the places of `labels` in a block."""
    rows = look.counted[look.counted["block"] == block]
    return float(np.log(rows.loc[rows["label"].isin(labels), "total_ms"]).mean())


def test_the_ratio_of_a_block_is_that_of_the_geometric_means_of_its_two_places(look):
    expected = by_hand(look, 3, "optimized") - by_hand(look, 3, "upstream-nfe16")
    assert look.log_ratios("optimized", "upstream-nfe16")[3] == pytest.approx(expected)
    assert look.units("optimized", "upstream-nfe16", look.blocks.index) == 2


def test_the_reference_counts_by_both_of_its_processes_except_against_itself(look):
    expected = by_hand(look, 3, "optimized") - by_hand(look, 3, "baseline", "baseline (A/A)")
    assert look.log_ratios("optimized", "baseline")[3] == pytest.approx(expected)
    assert look.log_ratios("baseline", "optimized")[3] == pytest.approx(-expected)
    assert look.units("optimized", "baseline", look.blocks.index) == look.units("baseline", "optimized", look.blocks.index) == 1.5
    itself = by_hand(look, 3, "baseline (A/A)") - by_hand(look, 3, "baseline")
    assert look.log_ratios("baseline (A/A)", "baseline")[3] == pytest.approx(itself)
    assert look.units("baseline (A/A)", "baseline", look.blocks.index) == 2


def test_where_one_process_of_the_reference_is_missing_the_other_stands_for_it(run, look):
    twin = [index for index, (block, arm) in enumerate(zip(run.samples.block, run.samples.arm, strict=True)) if arm == 1 and block >= 0]
    alone = Analysis(changed(run, invalid={index: ["silent"] for index in twin}))
    assert alone.log_ratios("optimized", "baseline")[3] == pytest.approx(by_hand(look, 3, "optimized") - by_hand(look, 3, "baseline"))
    assert alone.units("optimized", "baseline", alone.blocks.index) == 2
    assert alone.aa() is None


def test_pairs_are_against_the_reference_or_another_and_the_twin_stands_apart(look):
    assert [(pair.a, pair.b) for pair in look.pairs()] == [("optimized", "baseline"), ("upstream-nfe16", "baseline")]
    assert [pair.a for pair in look.pairs("optimized")] == ["baseline", "upstream-nfe16"]
    assert (look.aa().a, look.aa().b) == ("baseline (A/A)", "baseline")
    assert look.pairs()[0].ratio.verdict == "faster"
    assert look.pairs()[1].ratio.verdict == "slower"
    assert look.pairs()[0].ratio.launches == 4


def test_each_text_set_can_be_looked_at_alone(look):
    both = look.log_ratios("optimized", "baseline")
    parts = [look.log_ratios("optimized", "baseline", name) for name in ("short", "long")]
    assert sorted(pd.concat(parts).index) == sorted(both.index)
    assert [row["texts"] for row in statistics_rows(look, by_text=True)] == ["short"] * 4 + ["long"] * 4


def test_the_fixed_cost_and_the_slope_are_found(look):
    line = look.fit("baseline")
    assert line.fixed.low < 20 < line.fixed.high
    assert line.slope.low < 50 < line.slope.high
    assert {row["configuration"] for row in fit_rows(look)} == set(look.labels)


def test_the_real_time_factor_is_wall_time_over_audio(look):
    row = look.counted.iloc[0]
    assert row["rtf"] == pytest.approx(row["total_ms"] / 1000 / row["seconds"])


def test_first_calls_say_what_the_first_utterance_cost_more(look):
    first = look.first_calls()[0]
    assert first.start_s == 4.0
    assert first.first_ms > 2 * first.warm_ms
    assert len(look.first_calls()) == 4


def test_an_arm_without_a_sample_that_counts_is_left_out_everywhere(run):
    lost = {index: ["not engaged"] for index, arm in enumerate(run.samples.arm) if arm == 2}
    look = Analysis(changed(run, invalid=lost))
    assert [pair.a for pair in look.pairs()] == ["upstream-nfe16"]
    assert "optimized" not in {row.label for row in look.described()}
    assert look.pair("optimized", "baseline") is None
    assert look.fit("optimized") is None
    assert look.aa().ratio.blocks == 40
    assert look.invalid == 80


def test_a_run_without_any_counted_sample_says_nothing_and_breaks_nothing(run):
    look = Analysis(changed(run, invalid={index: ["silent"] for index in range(len(run.samples))}))
    assert look.pairs() == []
    assert look.aa() is None
    assert look.noise is None
    assert look.described() == []
    assert "Too few blocks" in resolution_words(look)
    assert run_document(look)["aa"] is None


def test_throttled_samples_are_counted_and_stay():
    look = Analysis(synthetic_run(on=machine("NVIDIA H100", "cuda"), rounds=40))
    assert 0 < look.throttled == int(look.counted["throttled"].sum())


def test_a_shifted_aa_arm_is_noticed():
    look = Analysis(synthetic_run(aa_shift=0.1, rounds=20))
    assert look.aa().ratio.verdict == "slower"


def test_the_document_for_programs_has_the_promised_fields(look):
    document = run_document(look)
    assert {"a", "b", "median_ratio", "ci95", "verdict"} <= set(document["pairs"][0])
    assert document["pairs"][0]["by_text"][0]["texts"] == "short"
    assert {"a", "b", "median_ratio", "ci95", "verdict"} <= set(document["aa"])
    assert document["invalid"] == 0
    one = pair_document(Analysis(synthetic_run(rounds=2, texts="short")).pairs()[0])
    assert one["ci95"] == [None, None]


def test_words_say_what_the_figures_mean(look):
    faster = look.pairs()[0].ratio
    assert verdict_words(faster).startswith("faster by")
    few = Analysis(synthetic_run(rounds=2, texts="short")).pairs()[0].ratio
    assert verdict_words(few) == "undecided: at least 4 more rounds"
    assert "no interval" in ratio_words(few)
    assert "Processes of one configuration differ by" in resolution_words(look)
    assert "one set of processes" in resolution_words(Analysis(synthetic_run()))


# --- several runs


def test_the_samples_of_several_runs_are_one_table(run, tmp_path):
    other = synthetic_run("golden", "short", 2, began=BEGAN + 60)
    table = frames([Analysis(run), Analysis(other)])
    assert len(table) == len(run.samples) + len(other.samples)
    assert set(table["run"]) == {run.id, other.id}
    for name in ("samples.csv", "samples.parquet"):
        assert export.write_samples([run, other], tmp_path / name) == len(table)
    read = pd.read_csv(tmp_path / "samples.csv"), pd.read_parquet(tmp_path / "samples.parquet")
    assert all(len(part) == len(table) for part in read)
    assert np.allclose(read[0]["total_ms"], read[1]["total_ms"])
    assert read[1]["label"].tolist() == table["label"].tolist()


def test_an_export_of_nothing_or_to_a_strange_file_is_refused(run, tmp_path):
    with pytest.raises(LabError, match=r"\.csv or \.parquet"):
        export.write_samples([run], tmp_path / "samples.xls")
    with pytest.raises(LabError, match="no run"):
        export.write_samples([], tmp_path / "samples.csv")


def test_runs_side_by_side_show_times_ratios_and_what_differs_in_their_environments(run):
    slower = synthetic_run("baseline,golden", "short", 20, times={"baseline": 60.0}, on=machine(python="3.12.3"), began=BEGAN + 60)
    found = comparison.compare_runs([Analysis(run), Analysis(slower)])
    row = next(row for row in found.rows if (row.config, row.texts) == ("baseline", "short"))
    assert row.cells[0].ratio is None
    assert row.cells[1].ratio.low > 1.1
    assert {difference.name for difference in found.differences} >= {"python", "plan launches"}
    golden = next(row for row in found.rows if row.config == "golden")
    assert golden.cells[0] is None
    assert golden.cells[1].ratio is None
