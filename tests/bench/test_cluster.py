"""A real Dask scheduler with real worker processes on this machine; the engines have no model."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.bench import cluster as clusters
from lab.bench.analysis import Analysis
from lab.bench.cluster import Cluster, ClusterError
from lab.bench.plan import blocks
from lab.bench.record import WARM_UP
from lab.bench.recorder import Recorder
from lab.bench.runner import run_benchmark
from lab.engine.device import Device
from lab.engine.process import Cancel, ignore_progress
from tests import runs
from tests.fakes import wait_until


def measure(job, address, folder, *, cancel=None, watch=lambda _event: None):
    recorder = Recorder(job, "demo-female", {}, cluster=address, command=["bench"])
    return run_benchmark(Cluster(job, address, ignore_progress), recorder, folder, cancel=cancel or Cancel(), watch=watch)[0]


def counts(run):
    """How often each arm was measured in each block."""
    found = {}
    for block, arm in zip(run.samples.block, run.samples.arm, strict=True):
        if block != WARM_UP:
            found[block, arm] = found.get((block, arm), 0) + 1
    return found


def expected(plan):
    return {(block.number, arm): 2 for block in blocks(plan) for arm in range(len(plan.arms))}


def test_a_worker_killed_halfway_costs_nothing_and_nothing_is_counted_twice(fake_job, tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("FAKE_WORKER_LOG", str(log))  # also slows the fake engines down to 20 ms an utterance
    plan = runs.plan("baseline,optimized", "short", 24)
    killed = []

    def watch(event):
        if getattr(event, "block", WARM_UP) >= 4 and not killed:
            worker = int(_status(int(event.result.engagement.dtypes["pid"]), "PPid"))
            assert wait_until(lambda: _killed_amid_an_utterance(worker, log), 60), "no engine of the worker was seen amid an utterance"
            killed.append(worker)

    run = measure(fake_job(plan), "local:2", tmp_path, watch=watch)
    assert killed
    assert run.state == "complete"
    assert counts(run) == expected(plan)
    assert len({block.number for block in run.blocks}) == 24
    assert Analysis(run).aa().ratio.blocks == 24
    assert run.plan.cluster == "local:2"
    # the block that was half measured when the worker died was measured again: the engines did more than what is counted
    assert log.read_text().count("begin") > len(run.samples)
    assert {device.worker for device in run.devices} == {"worker 0", "worker 1"}
    used = {block.device for block in run.blocks}
    assert used == {0, 1}
    for block in run.blocks:  # a pair is never split over two devices
        assert {device for number, device in zip(run.samples.block, run.samples.device, strict=True) if number == block.number} == {
            block.device
        }


def _killed_amid_an_utterance(worker: int, log: Path) -> bool:
    """Kill the worker if one of its engines has begun an utterance and cannot end it."""
    for engine in _speaking(log):
        if _status(engine, "PPid") != str(worker):
            continue
        os.kill(engine, signal.SIGSTOP)  # or it might end its utterance, and its block, before the worker is killed
        try:
            assert wait_until(lambda engine=engine: _status(engine, "State").startswith("T"), 30)
            if engine in _speaking(log):
                os.kill(worker, signal.SIGKILL)
                return True
        finally:
            os.kill(engine, signal.SIGCONT)
    return False


def _speaking(log: Path) -> set[int]:
    """Engines that have begun an utterance and not ended it."""
    lines = (line.split() for line in log.read_text().splitlines())
    last = {int(words[0]): words[1] for words in lines if len(words) == 3}  # a line may be half written
    return {engine for engine, word in last.items() if word == "begin"}


def _status(process: int, field: str) -> str:
    """A field of what Linux says of a process; "PPid" is the process that started it. Empty when the process is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return ""
    return next(line.split(":")[1].strip() for line in lines if line.startswith(f"{field}:"))


def test_stopping_keeps_the_blocks_that_are_whole_and_ends_the_engines(fake_job, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER_LOG", str(tmp_path / "log"))
    cancel = Cancel()
    run = measure(
        fake_job(runs.plan("baseline", "short", 200)),
        "local:1",
        tmp_path,
        cancel=cancel,
        watch=lambda event: cancel.set() if getattr(event, "block", WARM_UP) >= 3 else None,
    )
    assert (run.state, run.reason) == ("interrupted", "stopped")
    assert 4 <= len(run.blocks) < 200
    assert set(counts(run).values()) == {2}


def test_a_scheduler_elsewhere_is_used_by_its_address(fake_job, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    scheduler = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "distributed.cli.dask_scheduler",
            "--port",
            "0",
            "--no-dashboard",
            "--host",
            "127.0.0.1",
            "--scheduler-file",
            str(tmp_path / "s.json"),
        ],
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    worker = None
    try:
        address = _address(tmp_path / "s.json")
        with pytest.raises(ClusterError, match="no worker"):
            _impatient(lambda: measure(fake_job(runs.plan(rounds=1)), address, tmp_path))
        worker = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--resources", "GPU=1", "--no-dashboard"],
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        plan = runs.plan("baseline,optimized", "short", 2)
        run = measure(fake_job(plan), address, tmp_path)
        assert counts(run) == expected(plan)
    finally:
        for process in (worker, scheduler):
            if process is not None:
                process.terminate()
                process.wait(20)


def _address(file: Path) -> str:
    import json

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if file.exists() and file.read_text():
            return json.loads(file.read_text())["address"]
        time.sleep(0.1)
    raise AssertionError("the scheduler did not start")


def _impatient(work):
    patience, clusters._CONNECT_SECONDS = clusters._CONNECT_SECONDS, 1
    try:
        return work()
    finally:
        clusters._CONNECT_SECONDS = patience


@pytest.mark.parametrize(
    ("address", "message"), [("local:none", "write local:N"), ("local:0", "write local:N"), ("tcp://127.0.0.1:9", "No scheduler answers")]
)
def test_an_address_that_leads_nowhere_is_refused(fake_job, tmp_path, monkeypatch, address, message):
    monkeypatch.setattr(clusters, "_CONNECT_SECONDS", 1)
    with pytest.raises(ClusterError, match=message):
        measure(fake_job(), address, tmp_path)


def test_two_workers_on_one_card_are_refused(fake_job, monkeypatch):
    card = Device("cuda", "NVIDIA H100", "2.13.0", (9, 0), 79.0, cards=1)
    monkeypatch.setattr(clusters, "probe", lambda _kind: card)
    with pytest.raises(ClusterError, match="there are 1 cards"):
        Cluster(fake_job(device="cuda"), "local:2", ignore_progress)
