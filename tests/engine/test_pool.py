import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.config import parse, parse_list
from lab.engine.device import Device
from lab.engine.process import Cancel, Cancelled, DeadlineExceeded, EngineError, WorkerDied, worker_environment
from tests.fakes import FAKE_WORKER, request, wait_until


def pid_of(clip) -> int:
    return int(clip.result.engagement.dtypes["pid"])


def at_work(threads: ThreadPoolExecutor, pool, **settings):
    """A job that renders, and has the device, until it is cancelled."""
    begun = threading.Event()
    progress = lambda stage, *_: begun.set() if stage == "sampling" else None  # noqa: E731
    job = threads.submit(pool.render, parse("baseline"), request("sleep"), progress=progress, **settings)
    assert begun.wait(60)
    return job


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_configurations_with_the_same_patches_and_model_setting_share_a_worker(fake_pool):
    pool = fake_pool()
    clips = [pool.render(parse(spec), request()) for spec in ("upstream", "upstream-nfe7", "upstream:cfg_strength=1")]
    assert len({pid_of(clip) for clip in clips}) == 1
    assert pid_of(pool.render(parse("baseline"), request())) != pid_of(clips[0])
    assert len(pool.status()) == 2


def test_the_least_recently_used_worker_is_stopped_when_there_are_too_many(fake_pool):
    pool = fake_pool(max_workers=2)
    upstream = pid_of(pool.render(parse("upstream"), request()))
    baseline = pid_of(pool.render(parse("baseline"), request()))
    pool.render(parse("upstream"), request())
    pool.render(parse("optimized"), request())
    assert gone(baseline)
    assert not gone(upstream)
    assert pid_of(pool.render(parse("upstream"), request())) == upstream


def test_a_worker_that_dies_in_its_work_says_so_and_the_next_request_gets_a_new_one(fake_pool):
    pool = fake_pool()
    with pytest.raises(WorkerDied, match=r"baseline died .*exit code 3.*a last word"):
        pool.render(parse("baseline"), request("please die"))
    assert pool.render(parse("baseline"), request()).result.samples == 24_000


def test_a_worker_killed_while_it_was_idle_is_replaced_without_a_word(fake_pool):
    pool = fake_pool()
    first = pid_of(pool.render(parse("baseline"), request()))
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: not pool.status()[0].alive, 30)
    assert pid_of(pool.render(parse("baseline"), request())) != first


def test_cancelling_kills_the_worker_and_frees_the_device(fake_pool):
    pool = fake_pool()
    pid = pid_of(pool.render(parse("baseline"), request()))
    cancel = Cancel()
    threading.Timer(0.3, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled, match="Stopped"):
        pool.render(parse("baseline"), request("sleep"), cancel=cancel)
    assert time.monotonic() - began < 20  # it would have slept for 30 seconds
    assert gone(pid)
    assert pool.render(parse("baseline"), request()).result.samples == 24_000


def test_one_who_waits_for_the_device_can_be_cancelled_too(fake_pool):
    pool = fake_pool()
    running, waiting = Cancel(), Cancel()
    with ThreadPoolExecutor(1) as threads:
        job = at_work(threads, pool, cancel=running)
        threading.Timer(0.3, waiting.set).start()
        seen = []
        with pytest.raises(Cancelled):
            pool.render(parse("baseline"), request(), cancel=waiting, progress=lambda stage, *_: seen.append(stage))
        assert seen == ["waiting for another job on this device"]
        running.set()
        with pytest.raises(Cancelled):
            job.result()


def test_a_request_over_its_deadline_is_stopped_with_a_message(fake_pool):
    pool = fake_pool(render_seconds=1.5)
    with pytest.raises(DeadlineExceeded, match="took longer than it may"):
        pool.render(parse("baseline"), request("sleep"))
    assert pool.render(parse("baseline"), request()).result.samples == 24_000


def test_a_refusal_keeps_the_worker_and_a_failure_replaces_it(fake_pool):
    pool = fake_pool()
    first = pid_of(pool.render(parse("baseline"), request()))
    with pytest.raises(EngineError, match="cannot be said"):
        pool.render(parse("baseline"), request("refuse"))
    assert pid_of(pool.render(parse("baseline"), request())) == first
    with pytest.raises(EngineError, match="out of memory"):
        pool.render(parse("baseline"), request("fail"))
    assert pid_of(pool.render(parse("baseline"), request())) != first


def test_a_worker_that_cannot_start_says_why_each_time(fake_pool):
    pool = fake_pool()
    for _ in range(2):
        with pytest.raises(EngineError, match="incomplete"):
            pool.render(parse("upstream:nfe=99"), request())


def test_one_job_at_a_time_runs_on_the_device_under_a_flood(fake_pool, tmp_path, monkeypatch):
    log = tmp_path / "jobs"
    monkeypatch.setenv("FAKE_WORKER_LOG", str(log))
    pool = fake_pool()
    configs = parse_list("upstream,baseline,optimized")
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda number: pool.render(configs[number % 3], request()), range(24)))
    events = [line.split()[1] for line in log.read_text().splitlines()]
    assert events == ["begin", "end"] * 24


def test_two_pools_of_one_machine_share_the_device(fake_pool):
    one, other = fake_pool(), fake_pool()
    cancel = Cancel()
    with ThreadPoolExecutor(1) as threads:
        job = at_work(threads, one, cancel=cancel)
        stop = Cancel()
        threading.Timer(0.4, stop.set).start()
        with pytest.raises(Cancelled):
            other.render(parse("baseline"), request(), cancel=stop)
        cancel.set()
        with pytest.raises(Cancelled):
            job.result()
    assert other.render(parse("baseline"), request()).result.samples == 24_000


def test_workers_start_side_by_side_and_report_what_they_do(fake_pool):
    pool = fake_pool()
    seen = []
    pool.prepare(parse_list("upstream,baseline"), progress=lambda stage, *_: seen.append(stage))
    assert len(pool.status()) == 2
    assert "starting the engine of upstream" in seen
    assert "loading" in seen


def test_what_a_device_cannot_run_is_refused_with_the_reason(fake_pool):
    pool = fake_pool(device=Device("cpu", "a CPU", "2.13.0", compiler=False))
    with pytest.raises(EngineError, match=r"compile cannot run on this device: torch.compile needs a C\+\+ compiler"):
        pool.render(parse("compile"), request())


def test_closing_the_pool_ends_its_workers_and_refuses_new_work(fake_pool):
    pool = fake_pool()
    pid = pid_of(pool.render(parse("baseline"), request()))
    pool.close()
    assert gone(pid)
    with pytest.raises(EngineError, match="shut down"):
        pool.render(parse("baseline"), request())


def test_workers_end_when_their_parent_is_killed(tmp_path):
    program = f"""
import sys
from lab.engine.pool import EnginePool
from lab.engine.device import Device
from lab.engine.weights import resolve
from lab.config import parse
from tests.fakes import request
pool = EnginePool(resolve("demo"), Device("cpu", "a CPU", "2"), command=({FAKE_WORKER[0]!r}, {FAKE_WORKER[1]!r}))
print(pool.render(parse("baseline"), request()).result.engagement.dtypes["pid"], flush=True)
sys.stdin.read()
"""
    environment = {**os.environ, "LAB_CACHE_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    assert wait_until(lambda: gone(worker), 30)


def test_after_a_caller_that_broke_off_nobody_gets_its_clip(fake_pool):
    pool = fake_pool()
    pool.render(parse("baseline"), request())

    def break_off(*_):
        raise RuntimeError("the browser is gone")

    with pytest.raises(RuntimeError):
        pool.render(parse("baseline"), request("the first", seed=1), progress=break_off)
    assert pool.render(parse("baseline"), request("the second", seed=2)).result.chunks[0].text == "the second"


def test_a_download_that_goes_on_is_not_ended_by_the_deadline_of_the_start(fake_pool):
    pool = fake_pool(start_seconds=2.0)  # until the first word of the download, which takes 3
    assert pool.render(parse("upstream:nfe=98"), request()).result.samples == 24_000


def test_stopping_while_workers_start_leaves_none_of_them_behind(fake_pool):
    pool = fake_pool()
    cancel = Cancel()
    threading.Timer(0.3, cancel.set).start()
    with pytest.raises(Cancelled):
        pool.prepare(parse_list("upstream:nfe=98,baseline:nfe=98"), cancel=cancel)
    assert all(not worker.alive for worker in pool.status())


def test_waiting_threads_of_a_worker_spin_briefly_unless_a_person_chose_otherwise(tmp_path, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert worker_environment(tmp_path)["GOMP_SPINCOUNT"] == "10000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert worker_environment(tmp_path)["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert "GOMP_SPINCOUNT" not in worker_environment(tmp_path)


def test_a_worker_that_lost_its_parent_before_its_first_order_removes_its_folder(tmp_path):
    program = "from lab.engine.process import WorkerProcess; import time; print(WorkerProcess('a')._folder, flush=True); time.sleep(99)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert Path(parent.stdout.readline().strip()).is_dir()
        parent.kill()
    assert wait_until(lambda: list(tmp_path.iterdir()) == [], 30)
