"""Benchmarks through real worker processes that have no model."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lab.bench import runner as runners
from lab.bench.analysis import Analysis
from lab.bench.plan import blocks
from lab.bench.record import WARM_UP
from lab.bench.recorder import Recorder
from lab.bench.run_files import list_runs, read_run
from lab.bench.runner import Here, NothingMeasuredError, run_benchmark
from lab.engine.process import Cancel, ignore_progress
from tests import runs
from tests.fakes import wait_until


def measure(job, folder, *, cancel=None, watch=lambda _event: None, seconds=None):
    cancel = cancel or Cancel()
    recorder = Recorder(job, "demo-female", {}, command=["bench"])
    return run_benchmark(Here(job, ignore_progress), recorder, folder, cancel=cancel, watch=watch, seconds=seconds)


def with_texts(plan, change):
    """The plan with other words in its texts, which tell a fake worker how to behave."""
    import dataclasses

    return dataclasses.replace(plan, texts=tuple(dataclasses.replace(text, text=change(text)) for text in plan.texts))


def test_a_run_has_every_sample_of_the_plan_in_order_after_its_warm_ups(fake_job, tmp_path):
    plan = runs.plan("baseline,optimized", "short,birch", 3)
    run, path = measure(fake_job(plan), tmp_path)
    assert read_run(path) == run
    assert run.state == "complete"
    samples = run.samples
    measured = [(block, arm) for block, arm in zip(samples.block, samples.arm, strict=True) if block != WARM_UP]
    assert measured == [(block.number, arm) for block in blocks(plan) for arm in block.order]
    warm_ups = 1 + len(plan.arms) * len(plan.texts)  # and before them the first utterance of a process that was started alone
    assert samples.block[:warm_ups] == [WARM_UP] * warm_ups
    assert samples.block[warm_ups] == 0
    assert samples.at_s == sorted(samples.at_s)
    assert samples.invalid == {}
    assert run.failures == []


def test_the_twin_of_the_reference_has_a_process_of_its_own_and_configurations_of_one_kind_share_theirs(fake_job, tmp_path):
    run, _ = measure(fake_job(runs.plan("upstream-nfe7,upstream-nfe6,baseline", "short", 1)), tmp_path)
    assert sorted(start.arms for start in run.starts[1:]) == [[0, 2], [1], [3]]
    assert sum(run.samples.cold) == 1 + 3  # the first utterance of each process
    assert all(block == WARM_UP for block, cold in zip(run.samples.block, run.samples.cold, strict=True) if cold)
    assert all(start.seconds > 0 for start in run.starts)


def test_a_process_is_started_alone_for_an_honest_cold_start_and_then_all_arms_alike(fake_job, tmp_path):
    run, _ = measure(fake_job(runs.plan("baseline,optimized", "short", 1)), tmp_path)
    assert [(start.arms, start.together) for start in run.starts[:1]] == [([0], 1)]
    assert sorted((start.arms, start.together) for start in run.starts[1:]) == [([0], 3), ([1], 3), ([2], 3)]
    look = Analysis(run)
    assert look.started_alike("optimized", "baseline")
    assert look.first_calls()[0].together == 1
    starts = [start.model_copy(update={"together": 1}) if start.arms == [0] else start for start in run.starts]
    uneven = run.model_copy(update={"starts": starts})
    assert not Analysis(uneven).started_alike("optimized", "baseline")
    assert Analysis(uneven).started_alike("optimized", "baseline (A/A)")


def test_each_launch_starts_every_process_anew_in_another_order(fake_job, tmp_path):
    run, _ = measure(fake_job(runs.plan("baseline,optimized", "short", 12, launches=6)), tmp_path)
    assert sorted((start.launch, start.arms) for start in run.starts[1:]) == [(launch, [arm]) for launch in range(6) for arm in range(3)]
    assert sum(run.samples.cold) == 1 + 18
    ratio = Analysis(run).aa().ratio
    assert (ratio.blocks, ratio.launches) == (12, 6)
    warmed = [arm for arm, block in zip(run.samples.arm, run.samples.block, strict=True) if block == WARM_UP]
    assert len({tuple(warmed[1 + 6 * launch : 1 + 6 * launch + 6]) for launch in range(6)}) > 1


def test_noise_is_recorded_for_every_block_and_is_the_same_for_all_its_samples(fake_job, tmp_path):
    run, _ = measure(fake_job(runs.plan("baseline,optimized", "short", 2)), tmp_path)
    assert [block.noise for block in run.blocks] == ["noise", "noise"]
    assert [block.seed for block in run.blocks] == [1, 2]


def test_invalid_samples_are_kept_marked_and_left_out(fake_job, tmp_path):
    plan = with_texts(runs.plan("baseline,optimized:nfe=6", "birch", 6), lambda _text: "Please overflow.")
    run, _ = measure(fake_job(plan), tmp_path)
    look = Analysis(run)
    assert look.invalid == 12
    assert len(run.samples) == 1 + 3 + 6 * 6
    assert set(look.counted["label"]) == {"baseline", "baseline (A/A)"}
    assert look.pair("optimized:nfe=6", "baseline") is None
    assert set(look.frame.loc[~look.frame["valid"], "reason"]) == {"not finite"}


def test_a_sample_of_another_length_is_invalid(fake_job, tmp_path):
    plan = with_texts(runs.plan("baseline,optimized:nfe=6", "birch", 1), lambda _text: "A longer text.")
    run, _ = measure(fake_job(plan), tmp_path)
    assert "23000 samples where others of this text have 24000" in Analysis(run).frame["reason"].tolist()


def test_a_configuration_whose_worker_dies_is_a_failure_and_the_others_go_on(fake_job, tmp_path):
    plan = with_texts(runs.plan("upstream:nfe=2,baseline", "birch", 6), lambda _text: "Please die.")
    run, _ = measure(fake_job(plan), tmp_path)
    assert {run.arms[failure.arm].label for failure in run.failures} == {"baseline"}
    assert all("died" in failure.message for failure in run.failures)
    assert Analysis(run).invalid == 12
    assert Analysis(run).aa().ratio.blocks == 6
    # after it could not be warmed up it is not started again for each sample
    assert len([start for start in run.starts if start.arms == [2]]) == 1


def test_when_nothing_can_be_measured_no_file_is_written_and_the_reason_is_said(fake_job, tmp_path):
    plan = with_texts(runs.plan("baseline", "birch", 2), lambda _text: "Please die.")
    with pytest.raises(NothingMeasuredError, match="died in the middle"):
        measure(fake_job(plan), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_stopping_keeps_what_was_measured_and_marks_the_run(fake_job, tmp_path):
    cancel = Cancel()
    seen = []

    def watch(event):
        seen.append(event)
        if len(seen) == 12:
            cancel.set()

    run, path = measure(fake_job(runs.plan("baseline,optimized", "short", 50)), tmp_path, cancel=cancel, watch=watch)
    assert (run.state, run.reason) == ("interrupted", "stopped")
    assert 5 <= len(run.samples) <= 12
    assert read_run(path) == run
    Analysis(run).pairs()  # a block that is not whole is in no pair, and hurts nobody


def test_a_time_limit_ends_the_run_after_a_block(fake_job, tmp_path):
    run, _ = measure(fake_job(runs.plan("baseline", "short", 5000)), tmp_path, seconds=0.3)
    assert run.state == "interrupted"
    assert "time limit" in run.reason
    measured = [block for block in run.samples.block if block != WARM_UP]
    assert len(measured) % 4 == 0


def test_an_error_in_the_middle_keeps_what_was_measured(fake_job, tmp_path):
    def watch(event, seen=[]):  # noqa: B006 - a counter
        seen.append(event)
        if len(seen) == 8:
            raise RuntimeError("the terminal is gone")

    with pytest.raises(RuntimeError):
        measure(fake_job(runs.plan("baseline", "short", 50)), tmp_path / "out", watch=watch)
    run = read_run(next((tmp_path / "out").glob("*.json")))
    assert (run.state, run.reason) == ("interrupted", "RuntimeError: the terminal is gone")


def test_a_run_that_goes_on_is_kept_on_disk_from_time_to_time(fake_job, tmp_path, monkeypatch):
    monkeypatch.setattr(runners, "_KEEP_SECONDS", 0.0)
    kept = []
    measure(
        fake_job(runs.plan("baseline", "short", 3)),
        tmp_path / "out",
        watch=lambda _event: kept.append(len(list((tmp_path / "out").glob("*.partial")))),
    )
    assert 1 in kept
    assert list((tmp_path / "out").glob("*.partial")) == []


def test_requests_at_a_time_are_paired_by_the_time_of_the_burst(fake_job, tmp_path):
    run, _ = measure(fake_job(runs.plan("baseline", "short", 6, concurrency=3)), tmp_path)
    look = Analysis(run)
    assert len(look.counted) == 6 * 2 * 2 * 3
    assert look.aa().ratio.blocks == 6
    one = look.counted[(look.counted["block"] == 0) & (look.counted["label"] == "baseline")]
    assert len(one) == 6


def test_nothing_is_left_behind(fake_job, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    measure(fake_job(runs.plan("baseline", "short", 1)), tmp_path / "out")
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "out", tmp_path / "cache"}


def test_two_paired_times_give_the_ratio_they_have(fake_job, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER_MS", json.dumps({"baseline": 200.0, "optimized": 180.0}))
    run, _ = measure(fake_job(runs.plan("baseline,optimized", "short", 30)), tmp_path)
    pair = Analysis(run).pair("optimized", "baseline")
    assert pair.ratio.verdict == "faster"
    assert pair.ratio.low < pair.ratio.median < pair.ratio.high
    # an interval of 95 % misses the truth in one run of twenty; the median of 30 blocks with 1 % of noise is never this far from it
    assert pair.ratio.median == pytest.approx(0.9, abs=0.015)
    assert Analysis(run).aa().ratio.verdict == "equivalent"


PROGRAM = """
import sys
from tests.fakes import CPU, FAKE_WORKER
import lab.bench.measure, lab.cli.bench
lab.cli.bench.WORKER = FAKE_WORKER
lab.cli.bench.probe = lab.bench.measure.probe = lambda _kind: CPU
from lab.__main__ import main
sys.argv = ["lab", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_run_and_ends_with_130(tmp_path, number):
    environment = {
        **os.environ,
        "LAB_CACHE_DIR": str(tmp_path / "cache"),
        "LAB_RUNS_DIR": str(tmp_path / "runs"),
        "FAKE_WORKER_LOG": str(tmp_path / "log"),
    }
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "bench",
        "--rounds",
        "2000",
        "--texts",
        "short",
        "--weights",
        "demo",
        "--device",
        "cpu",
        "--json",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parents[2]
    ) as process:
        assert wait_until(lambda: (tmp_path / "log").exists() and len((tmp_path / "log").read_text().splitlines()) > 60, 60)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    answer = json.loads(out.splitlines()[-1])
    assert answer["state"] == "interrupted"
    run = read_run(Path(answer["run"]))
    assert (run.state, run.reason) == ("interrupted", "stopped")
    assert len(run.samples) > 20


def test_a_killed_process_leaves_what_it_had_kept(tmp_path):
    program = PROGRAM.replace(
        "import lab.bench.measure", "import lab.bench.runner; lab.bench.runner._KEEP_SECONDS = 0.2\nimport lab.bench.measure"
    )
    environment = {**os.environ, "LAB_CACHE_DIR": str(tmp_path / "cache"), "LAB_RUNS_DIR": str(tmp_path / "runs")}
    command = [sys.executable, "-c", program, "bench", "--rounds", "2000", "--texts", "short", "--weights", "demo", "--device", "cpu"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=Path(__file__).parents[2]
    ) as process:
        assert wait_until(lambda: bool(list((tmp_path / "runs").glob("*.partial"))), 60)
        process.kill()
    (partial,) = (tmp_path / "runs").glob("*.partial")
    partial.rename(partial.with_suffix(""))
    (head,) = list_runs(tmp_path / "runs").runs
    assert head.state == "interrupted"


def test_a_worker_killed_in_the_middle_costs_its_samples_and_not_the_run(fake_job, tmp_path):
    killed = threading.Event()

    def watch(event):
        number = getattr(event, "block", WARM_UP)
        if number == 2 and not killed.is_set():
            killed.set()
            pid = int(event.result.engagement.dtypes["pid"])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    run, _ = measure(fake_job(runs.plan("baseline,optimized", "short", 6)), tmp_path, watch=watch)
    assert run.state == "complete"
    look = Analysis(run)
    assert sum(run.samples.cold) == 5  # the one that was started alone, the three first ones, and that of the process that came after
    assert look.counted["cold"].sum() == 0
    assert len(look.pairs()[0:1]) == 1
