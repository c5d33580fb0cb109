import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench import record, run_files
from lab.bench.record import Run
from lab.bench.run_files import PARTIAL, RunFileError, find_run, list_runs, parse_run, read_run, run_id, write_partial, write_run
from lab.bench.schema_text import schema_markdown
from tests.runs import BEGAN, synthetic_run


@pytest.fixture(scope="module")
def run() -> Run:
    return synthetic_run()


def document(run: Run) -> dict:
    return json.loads(run_files._as_bytes(run))


# --- the round trip


@given(
    st.sampled_from(["baseline", "baseline,optimized:nfe=6", "upstream,golden,compile"]),
    st.sampled_from(["short", "mixed"]),
    st.integers(1, 4),
    st.integers(0, 100),
)
def test_what_is_written_is_what_is_read(configs, texts, rounds, seed):
    made = synthetic_run(configs, texts, rounds, seed=seed)
    assert parse_run(run_files._as_bytes(made), "it") == made


def test_a_run_is_written_whole_and_found_again(run, tmp_path):
    path = write_run(run, tmp_path / "new")
    assert read_run(path) == run
    assert [item.name for item in path.parent.iterdir()] == [f"{run.id}.json"]
    assert [head.id for head in list_runs(path.parent).runs] == [run.id]


def test_runs_are_for_everybody_whom_the_umask_lets_read(run, tmp_path):
    before = os.umask(0o027)
    try:
        path = write_run(run, tmp_path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_thousand_samples_take_less_than_half_a_megabyte():
    made = synthetic_run("baseline,fp16-vocoder,no-empty-cache,rms-cache,optimized", "short,medium,long", 28)
    assert len(made.samples) > 1000
    assert len(run_files._as_bytes(made)) < 500_000


def test_a_column_is_a_line_so_that_a_reviewer_sees_what_a_file_holds(run):
    lines = run_files._as_bytes(run).decode().splitlines()
    assert sum(line.startswith('  "total_ms":') for line in lines) == 1
    assert len(lines) < 150


def test_a_run_is_never_overwritten(run, tmp_path):
    write_run(run, tmp_path)
    with pytest.raises(RunFileError, match="never overwritten"):
        write_run(run, tmp_path)


def test_what_was_kept_of_a_killed_run_is_named_and_becomes_a_run_by_renaming(run, tmp_path):
    write_partial(run, tmp_path)
    listing = list_runs(tmp_path)
    assert listing.runs == ()
    assert "was not finished" in listing.skipped[0].reason
    (tmp_path / f"{run.id}{PARTIAL}").rename(tmp_path / f"{run.id}.json")
    assert [head.id for head in list_runs(tmp_path).runs] == [run.id]


def test_a_finished_run_leaves_no_partial_file(run, tmp_path):
    write_partial(run, tmp_path)
    write_run(run, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_a_full_disk_leaves_nothing_half_written(run, tmp_path, monkeypatch):
    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_run(run, tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- files that are no runs


@pytest.mark.parametrize("length", [0, 1, 100, 5_000, -3])
def test_a_half_written_file_is_named_and_skipped(run, tmp_path, length):
    good = write_run(run, tmp_path)
    (tmp_path / "half.json").write_bytes(good.read_bytes()[:length])
    listing = list_runs(tmp_path)
    assert [head.id for head in listing.runs] == [run.id]
    assert [(item.path.name, "half written" in item.reason) for item in listing.skipped] == [("half.json", True)]


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_the_reader_fail_in_another_way(data):
    with pytest.raises(RunFileError):
        parse_run(data, "it")


def damaged(run, change):
    changed = document(run)
    change(changed)
    return json.dumps(changed).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["samples"]["arm"].pop(), "different lengths"),
        (lambda d: d["samples"]["arm"].__setitem__(0, 99), "arm 99 is not in the run's list"),
        (lambda d: d["samples"]["total_ms"].__setitem__(0, -1), "total_ms"),
        (lambda d: d["samples"]["total_ms"].__setitem__(0, "fast"), "total_ms"),
        (lambda d: d["samples"]["block"].__setitem__(0, 9999), "block that is not in the run"),
        (lambda d: d["samples"]["invalid"].__setitem__("99999", ["x"]), "a sample that is not there"),
        (lambda d: d["samples"]["stages_ms"].pop("sampler"), "stages"),
        (lambda d: d["blocks"].append(d["blocks"][0]), "same number"),
        (lambda d: d["arms"].append(d["arms"][0]), "same label"),
        (lambda d: d.pop("voice"), "voice"),
        (lambda d: d.__setitem__("surprise", 1), "surprise"),
        (lambda d: d.__setitem__("id", "../../etc/passwd"), "id"),
        (lambda d: d.__setitem__("arms", []), "arms"),
    ],
)
def test_a_damaged_document_is_refused_with_the_place(run, change, message):
    with pytest.raises(RunFileError, match=message):
        parse_run(damaged(run, change), "it.json")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(run, number):
    text = (
        run_files._as_bytes(run)
        .decode()
        .replace('"total_ms":[', f'"total_ms":[{number},')
        .replace('"total_ms": [', f'"total_ms": [{number},')
    )
    with pytest.raises(RunFileError):
        parse_run(text.encode(), "it")


def test_an_unknown_newer_version_is_refused_clearly(run):
    newer = damaged(run, lambda d: d.update(version=record.VERSION + 1, new_field=1))
    with pytest.raises(RunFileError, match=r"made by a newer lab.*Update the lab"):
        parse_run(newer, "it.json")


def test_a_run_of_the_first_version_is_read_and_says_nothing_of_cores():
    path = run_files.RUNS_DIR / "20261125T070033Z-nvidia-h100-80gb-hbm3-random-3048.json"
    assert json.loads(path.read_bytes())["version"] == 1
    read = read_run(path)
    assert read.version == record.VERSION
    assert len(read.samples) > 500
    assert {block.core for block in read.blocks} == {None}


@pytest.mark.parametrize("version", [None, "2", [1]])
def test_a_document_without_a_version_is_no_run(run, version):
    with pytest.raises(RunFileError, match="no run of this lab"):
        parse_run(damaged(run, lambda d: d.update(version=version)), "it.json")


def test_a_document_of_another_kind_is_no_run():
    with pytest.raises(RunFileError, match="no run of this lab"):
        parse_run(b'{"clips": []}', "facts.json")


def test_a_file_that_is_far_too_large_is_not_read(run, tmp_path, monkeypatch):
    monkeypatch.setattr(run_files, "MOST_BYTES", 1000)
    path = tmp_path / "large.json"
    path.write_bytes(run_files._as_bytes(run))
    with pytest.raises(RunFileError, match="larger than a run can be"):
        read_run(path)
    with pytest.raises(RunFileError, match="MiB"):
        parse_run(path.read_bytes(), "large.json")


def test_the_same_run_under_two_names_is_counted_once(run, tmp_path):
    write_run(run, tmp_path)
    (tmp_path / "z-copy.json").write_bytes((tmp_path / f"{run.id}.json").read_bytes())
    listing = list_runs(tmp_path)
    assert len(listing.runs) == 1
    assert "the same run as" in listing.skipped[0].reason


def test_a_file_that_changed_is_read_again(run, tmp_path):
    path = write_run(run, tmp_path)
    assert len(list_runs(tmp_path).runs) == 1
    path.write_text("{")
    assert len(list_runs(tmp_path).skipped) == 1


def test_a_folder_that_is_not_there_has_no_runs(tmp_path):
    assert list_runs(tmp_path / "nowhere").runs == ()


def test_many_threads_may_list_at_once(run, tmp_path):
    write_run(run, tmp_path)
    found = []
    threads = [threading.Thread(target=lambda: found.append(len(list_runs(tmp_path).runs))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 8


# --- finding


def test_a_run_is_found_by_id_beginning_path_and_as_the_latest(tmp_path):
    older, newer = synthetic_run(rounds=1), synthetic_run(rounds=1, began=BEGAN + 3600)
    paths = [write_run(run, tmp_path) for run in (older, newer)]
    assert find_run(older.id, tmp_path) == older
    assert find_run(str(paths[0])) == older
    assert find_run("latest", tmp_path) == newer
    assert find_run(newer.id[:14], tmp_path) == newer
    with pytest.raises(RunFileError, match="could be"):
        find_run(newer.id[:8], tmp_path)
    with pytest.raises(RunFileError, match="no run 'nothing'"):
        find_run("nothing", tmp_path)


def test_a_damaged_run_that_is_asked_for_says_what_is_wrong(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(RunFileError, match="half written"):
        find_run("broken", tmp_path)


def test_a_run_is_named_by_time_card_and_weights():
    from datetime import UTC, datetime

    when = datetime(2026, 11, 25, 6, 7, 8, tzinfo=UTC)
    assert run_id(when, "NVIDIA H100 80GB HBM3", "random") == "20261125T060708Z-nvidia-h100-80gb-hbm3-random"
    assert run_id(when, "???", "/home/someone/secret/weights.pt").endswith("-weights-pt")


# --- the stored runs and the page about them


def test_every_stored_run_is_readable_and_small():
    listing = list_runs(run_files.RUNS_DIR)
    assert listing.skipped == ()
    assert all(head.path.stat().st_size < 500_000 for head in listing.runs)
    assert all(head.path.stem == head.id for head in listing.runs)


def test_the_page_about_run_files_is_made_from_the_schema():
    written = (run_files.RUNS_DIR / "README.md").read_text(encoding="utf-8")
    assert written == schema_markdown(), "run: python -m lab runs schema > results/runs/README.md"
    assert "| `total_ms` | list of number |" in written
