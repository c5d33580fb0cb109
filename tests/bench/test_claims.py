import pytest

from lab.bench.analysis import Analysis
from lab.bench.claims import CLAIMS, remark
from lab.bench.pooling import comparing
from lab.bench.report import ledger, ledger_documents, status_markdown
from lab.bench.run_files import RUNS_DIR, Skipped, list_runs, read_run
from lab.cli.checks import STATUS
from tests.runs import BEGAN, machine, synthetic_run

PATCHES = "baseline,fp16-vocoder,no-empty-cache,optimized,upstream"
BASE = {"baseline": 50.0, "upstream": 230.0}


def measured(seed=1, rounds=30, launches=5, **times):
    named = {name.replace("_", "-"): value for name, value in times.items()}
    return Analysis(synthetic_run(PATCHES, "medium", rounds, times={**BASE, **named}, launches=launches, seed=seed, began=BEGAN + seed))


def verdicts(*analyses):
    return {claim.id: finding.verdict if finding else None for claim, _, finding in ledger(analyses)}


def test_gains_as_large_as_claimed_are_confirmed_and_larger_ones_said_to_be():
    look = measured(fp16_vocoder=46.0, no_empty_cache=48.4, optimized=40.0)
    found = verdicts(look)
    assert found["fp16-vocoder"] == found["together"] == found["mean-rtf"] == found["speed-up"] == "confirmed"
    together = next(finding for claim, _, finding in ledger([look]) if claim.id == "together")
    assert together.measured.endswith("more than claimed less time")


def test_gains_that_are_not_there_are_refuted():
    found = verdicts(measured(fp16_vocoder=50.0, no_empty_cache=50.0, optimized=50.0))
    assert [found[name] for name in ("fp16-vocoder", "no-empty-cache", "together", "mean-rtf")] == ["refuted"] * 4


def test_a_speed_up_below_the_target_is_refuted():
    assert verdicts(measured(upstream=100.0))["speed-up"] == "refuted"


def test_few_blocks_decide_nothing():
    found = verdicts(measured(rounds=3, launches=1, fp16_vocoder=46.0))
    assert found["fp16-vocoder"] == "undecided"


def test_targets_are_met_or_not_by_the_whole_interval():
    found = verdicts(measured(optimized=45.0))
    assert found["rtf-0.20"] == found["rtf-0.15"] == found["steady"] == "confirmed"
    slow = Analysis(synthetic_run("optimized", "medium", 30, times={"optimized": 400.0}, noise=0.3))
    assert verdicts(slow)["rtf-0.20"] == verdicts(slow)["steady"] == "refuted"


def test_claims_that_no_run_touches_are_not_measured_here():
    rows = ledger_documents(ledger([Analysis(synthetic_run("golden"))]))
    assert {row["claim"] for row in rows if row["verdict"] == "not measured here"} == {claim.id for claim in CLAIMS} - {"aa"}
    assert all(row["where"] is None for row in rows if row["claim"] != "aa")


def test_runs_of_one_machine_count_together_and_those_of_another_apart():
    mine = [measured(seed, fp16_vocoder=46.0) for seed in (1, 2)]
    other = Analysis(synthetic_run(PATCHES, "medium", 30, times=BASE, on=machine("NVIDIA H100", "cuda"), launches=5))
    rows = [(place, finding) for claim, place, finding in ledger([*mine, other]) if claim.id == "fp16-vocoder"]
    assert [(finding.runs, finding.blocks) for _, finding in rows] == [(1, 30), (2, 60)]
    assert rows[0][0].startswith("NVIDIA H100")
    assert [finding.verdict for _, finding in rows] == ["refuted", "confirmed"]


def test_a_run_whose_aa_arm_differs_from_itself_decides_no_pair():
    dirty = Analysis(synthetic_run(PATCHES, "medium", 30, times={**BASE, "fp16-vocoder": 46.0}, aa_shift=0.1, launches=5))
    found = verdicts(dirty)
    assert found["fp16-vocoder"] is None
    assert found["rtf-0.20"] == "confirmed"  # a level needs no pair
    assert "differs from itself" in remark(dirty)


def test_the_harness_is_judged_by_all_aa_arms_together_also_of_runs_with_other_references():
    clean = [measured(seed, rounds=60) for seed in (1, 2)]
    other = Analysis(synthetic_run("golden,upstream", "medium", 60, launches=5))
    finding = next(finding for claim, _, finding in ledger([*clean, other]) if claim.id == "aa")
    assert (finding.verdict, finding.blocks, finding.runs) == ("confirmed", 180, 3)
    assert finding.measured.endswith("15 launches")


def test_an_aa_arm_that_differs_from_itself_is_not_left_out_where_the_harness_is_judged():
    dirty = Analysis(synthetic_run(PATCHES, "medium", 30, times=BASE, aa_shift=0.1, launches=5))
    finding = next(finding for claim, _, finding in ledger([dirty]) if claim.id == "aa")
    assert finding.verdict == "refuted"
    assert "differs from itself" in finding.measured
    few = next(finding for claim, _, finding in ledger([measured(rounds=3, launches=1)]) if claim.id == "aa")
    assert (few.verdict, few.measured.split(";")[0][-len("too few blocks") :]) == ("undecided", "too few blocks")


def test_a_run_whose_aa_arm_differs_counts_where_the_aa_arms_of_all_runs_together_do_not():
    clean = [measured(seed, rounds=60, fp16_vocoder=46.0) for seed in (1, 2, 3)]
    slightly = Analysis(
        synthetic_run(PATCHES, "medium", 30, times={**BASE, "fp16-vocoder": 46.0}, aa_shift=0.02, launches=5, noise=0.01, seed=4)
    )
    assert slightly.aa().ratio.differs
    assert len(comparing([*clean, slightly], "fp16-vocoder", "baseline")) == 4
    broken = Analysis(synthetic_run(PATCHES, "medium", 60, times={**BASE, "fp16-vocoder": 46.0}, aa_shift=0.3, launches=5))
    assert len(comparing([*clean, broken], "fp16-vocoder", "baseline")) == 3


def test_a_run_that_started_its_reference_otherwise_decides_no_pair_with_it():
    run = synthetic_run(PATCHES, "medium", 30, times={**BASE, "fp16-vocoder": 46.0}, launches=5)
    starts = [start.model_copy(update={"together": 1}) if start.arms == [0] else start for start in run.starts]
    look = Analysis(run.model_copy(update={"starts": starts}))
    assert verdicts(look)["fp16-vocoder"] is None
    assert "started otherwise" in remark(look)
    page = status_markdown([look])
    assert "| decides nothing |" in page
    assert "| faster by" not in page


def test_equal_samples_are_seen_by_their_hashes():
    run = synthetic_run(PATCHES, "medium", 4)
    assert verdicts(Analysis(run))["same-fp16"] == "confirmed"
    audio = ["other" if arm == 2 else value for arm, value in zip(run.samples.arm, run.samples.audio, strict=True)]
    other = run.model_copy(update={"samples": run.samples.model_copy(update={"audio": audio})})
    assert verdicts(Analysis(other))["same-fp16"] == "refuted"


# --- the page


def test_the_same_runs_give_the_same_page_and_it_names_what_was_skipped(tmp_path):
    looks = [measured()]
    skipped = [Skipped(tmp_path / "broken.json", "is half written")]
    page = status_markdown(looks, skipped)
    assert page == status_markdown([Analysis(looks[0].run)], skipped)
    assert "`broken.json`: is half written" in page
    assert "quoted" in page
    assert looks[0].run.id in page
    assert "| python | 3.11.7 |" in page


def test_a_page_without_runs_says_so():
    page = status_markdown([])
    assert "There is none yet." in page
    assert page.count("not measured here") == len(CLAIMS)


def test_text_from_a_run_file_cannot_break_the_table():
    run = synthetic_run("golden", "short", 2)
    hostile = run.model_copy(update={"devices": [run.devices[0].model_copy(update={"cpu": "a|b<script>\nc"})]})
    page = status_markdown([Analysis(hostile)])
    assert "<script>" not in page
    assert "a\\|b&lt;script> c" in page


@pytest.mark.skipif(not list_runs(RUNS_DIR).runs, reason="there are no stored runs in this checkout")
def test_the_stored_page_is_what_the_stored_runs_say():
    listing = list_runs(RUNS_DIR)
    page = status_markdown([Analysis(read_run(head.path)) for head in listing.runs], listing.skipped)
    assert STATUS.read_text(encoding="utf-8") == page, "run: python -m lab report"
