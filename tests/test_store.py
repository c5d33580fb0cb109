"""The store: basics, refusals, durability, and several writers at once; on SQLite and on PostgreSQL, where the database makes a difference."""

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from lab import blob_files, durable
from lab.errors import LabError
from lab.migrations.tables import blobs, metadata
from lab.store import NewerDatabaseError, NotFound, Store, StoreError
from tests.storage import files_of, rows_of, url_of

pytest_plugins = ["tests.databases"]
ROOT = Path(__file__).parents[1]

#: Of a test that the database makes no difference to.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_DATABASE_URL", raising=False)
    monkeypatch.delenv("LAB_DATA_DIR", raising=False)


def facts_for(count: int, **more: Any) -> dict[str, Any]:
    return {"clips": [{"configuration": f"c{i}", "storable": True} for i in range(count)], **more}


def assert_promises_hold(store: Store) -> None:
    for name in files_of(store.data_dir):
        assert hashlib.sha256(store.blobs.files.path(name).read_bytes()).hexdigest() == name
    assert rows_of(store) <= files_of(store.data_dir)


# Basics


def test_a_blob_comes_back_under_the_hash_that_names_it(store: Store) -> None:
    sha256 = store.put_blob(b"some audio")
    assert sha256 == hashlib.sha256(b"some audio").hexdigest()
    assert store.get_blob(sha256) == b"some audio"
    assert (store.data_dir / "blobs" / sha256[:2] / sha256).read_bytes() == b"some audio"


def test_storing_the_same_bytes_again_changes_nothing(store: Store) -> None:
    first = store.put_blob(b"twice")
    stamp = store.blobs.files.path(first).stat().st_mtime_ns
    assert store.put_blob(b"twice") == first
    assert store.blobs.files.path(first).stat().st_mtime_ns == stamp
    assert files_of(store.data_dir) == rows_of(store) == {first}


@on_sqlite
def test_a_blob_has_a_second_name_for_readers_that_judge_by_it(store: Store) -> None:
    voice = store.save_voice("Ada", "Some words.", "en", b"wav", "yes")
    path = store.wav_path(voice.sha256)
    assert (path.suffix, path.read_bytes()) == (".wav", b"wav")
    assert store.wav_path(voice.sha256) == path
    store.delete_voice(voice.id)
    assert not path.exists()
    with pytest.raises(NotFound):
        store.wav_path(voice.sha256)


def test_a_comparison_comes_back_as_it_was_given(store: Store) -> None:
    facts = facts_for(2, text='<b>"quoted"</b> \u202e\x00 ü 你好 \ud800', rtf=[0.1, 1e-300, -0.0, 10**30], none=None, z=1, a=2)
    before = datetime.now(UTC)
    token = store.save_comparison(facts, [b"clip a", b"clip b"])
    found = store.load_comparison(token)
    assert found.facts == facts
    assert list(found.facts) == list(facts)  # the order of keys too
    assert found.clip_hashes == tuple(hashlib.sha256(clip).hexdigest() for clip in (b"clip a", b"clip b"))
    assert [store.get_blob(sha256) for sha256 in found.clip_hashes] == [b"clip a", b"clip b"]
    assert found.created_at.utcoffset() == timedelta(0)
    assert before <= found.created_at <= datetime.now(UTC)


@on_sqlite
def test_two_equal_clips_of_one_comparison_share_a_file(store: Store) -> None:
    found = store.load_comparison(store.save_comparison(facts_for(2), [b"same", b"same"]))
    assert found.clip_hashes[0] == found.clip_hashes[1]
    assert len(files_of(store.data_dir)) == 1


@on_sqlite
def test_tokens_are_long_and_never_repeat(store: Store) -> None:
    tokens = {store.save_comparison(facts_for(1), [b"clip"]) for _ in range(20)}
    assert len(tokens) == 20
    assert {len(token) for token in tokens} == {22}  # 128 bits in URL-safe base64


def test_comparisons_are_listed_newest_first_up_to_the_limit(store: Store) -> None:
    tokens = [store.save_comparison(facts_for(i + 1, number=i), [b"x", b"y", b"z"][: i + 1]) for i in range(3)]
    assert [c.token for c in store.list_comparisons(10)] == tokens[::-1]
    assert [(c.token, len(c.clip_hashes)) for c in store.list_comparisons(2)] == [(tokens[2], 3), (tokens[1], 2)]
    assert store.list_comparisons(0) == []
    assert store.list_comparisons(-1) == []


def test_a_voice_comes_back_with_its_consent_and_the_time_of_it(store: Store) -> None:
    voice = store.save_voice("Ada", "Some words.", "en", b"wav", "I am the speaker.")
    assert store.load_voice(voice.id) == voice
    assert store.list_voices() == [voice]
    assert store.get_blob(voice.sha256) == b"wav"
    assert voice.consent_text == "I am the speaker."
    assert voice.consented_at.utcoffset() == timedelta(0)


def test_everything_is_there_after_closing_and_opening_again(store: Store) -> None:
    token = store.save_comparison(facts_for(1), [b"kept"])
    saved = store.load_comparison(token)
    store.close()
    second = Store.open(store.data_dir, url_of(store))
    assert second.load_comparison(token) == saved
    second.close()


# Deleting


def test_deleting_a_comparison_removes_the_clips_that_nothing_else_uses(store: Store) -> None:
    mine = store.save_comparison(facts_for(2), [b"shared", b"mine"])
    other = store.save_comparison(facts_for(1), [b"shared"])
    shared, only_mine = store.load_comparison(mine).clip_hashes
    store.delete_comparison(mine)
    assert files_of(store.data_dir) == rows_of(store) == {shared}
    assert store.load_comparison(other).clip_hashes == (shared,)
    with pytest.raises(NotFound):
        store.load_comparison(mine)
    with pytest.raises(NotFound):
        store.get_blob(only_mine)


def test_a_clip_that_is_also_a_voice_outlives_its_comparison(store: Store) -> None:
    voice = store.save_voice("Ada", "Words.", "en", b"both", "yes")
    token = store.save_comparison(facts_for(1), [b"both"])
    store.delete_comparison(token)
    assert store.get_blob(voice.sha256) == b"both"
    store.delete_voice(voice.id)
    assert files_of(store.data_dir) == rows_of(store) == set()


@on_sqlite
def test_nothing_of_a_deleted_voice_stays_in_the_data_folder(store: Store) -> None:
    voice = store.save_voice("A name nobody else has", "A transcript nobody else has", "en", b"recording nobody else has", "consent")
    store.delete_voice(voice.id)
    store.close()
    everything = b"".join(path.read_bytes() for path in store.data_dir.rglob("*") if path.is_file())
    assert b"nobody else has" not in everything
    with pytest.raises(NotFound):
        store.load_voice(voice.id)


@on_sqlite
def test_deleting_what_is_not_there_says_so(store: Store) -> None:
    with pytest.raises(NotFound, match="no such comparison"):
        store.delete_comparison("A" * 22)
    with pytest.raises(NotFound, match="no such voice"):
        store.delete_voice("A" * 22)


def test_a_deletion_cut_short_is_finished_at_the_next_opening(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    voice = store.save_voice("Ada", "Words.", "en", b"recording", "yes")
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StoreError, match="still on the disk"):
        store.delete_voice(voice.id)
    monkeypatch.undo()
    assert files_of(store.data_dir) == {voice.sha256}
    assert rows_of(store) == set()
    Store.open(store.data_dir, url_of(store)).close()
    assert files_of(store.data_dir) == set()


def test_audio_stored_again_after_a_deletion_cut_short_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    voice = store.save_voice("Ada", "Words.", "en", b"recording", "yes")
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StoreError):
        store.delete_voice(voice.id)
    monkeypatch.undo()
    again = store.save_voice("Ada", "Words.", "en", b"recording", "yes")
    Store.open(store.data_dir, url_of(store)).close()
    assert store.get_blob(again.sha256) == b"recording"


def refuse(*_: object, **__: object) -> None:
    raise OSError(5, "Input/output error")


# Refusals


@pytest.mark.parametrize(
    "token", ["", "short", "A" * 22, "A" * 21 + "/", "../../etc/passwd", "A" * 22 + "\n", "' or 1=1 --", "\x00" * 22, "ü" * 22]
)
@on_sqlite
def test_an_unknown_or_malformed_token_is_not_found(store: Store, token: str) -> None:
    store.save_comparison(facts_for(1), [b"clip"])
    with pytest.raises(NotFound):
        store.load_comparison(token)
    with pytest.raises(NotFound):
        store.load_voice(token)


@pytest.mark.parametrize("name", ["", "0" * 64, "0" * 63, "../" * 22, "A" * 64, "0" * 64 + "\n", "\x00" * 64])
def test_an_unknown_or_malformed_hash_is_not_found(store: Store, name: str) -> None:
    with pytest.raises(NotFound):
        store.get_blob(name)


@on_sqlite
def test_audio_of_random_weights_is_never_saved(store: Store) -> None:
    for mark in ({"storable": False}, {}, {"storable": 1}, {"storable": "true"}, {"storable": None}, "storable"):
        with pytest.raises(LabError, match="random weights"):
            store.save_comparison({"clips": [{"storable": True}, mark]}, [b"fine", b"noise"])
    assert files_of(store.data_dir) == rows_of(store) == set()
    assert store.list_comparisons() == []


@pytest.mark.parametrize("facts", [{}, {"clips": []}, {"clips": None}, {"clips": {"0": {"storable": True}}}, facts_for(1), facts_for(3)])
@on_sqlite
def test_a_comparison_needs_one_description_per_clip(store: Store, facts: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="one description for each"):
        store.save_comparison(facts, [b"a", b"b"])
    with pytest.raises(StoreError):
        store.save_comparison({"clips": []}, [])


@on_sqlite
def test_facts_that_json_would_change_or_refuse_are_refused(store: Store) -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (float("nan"), float("inf"), (1, 2), {1: "a"}, b"bytes", Path("p"), {1, 2}, circle, deep):
        with pytest.raises(StoreError):
            store.save_comparison(facts_for(1, value=value), [b"clip"])
    assert files_of(store.data_dir) == set()


@pytest.mark.parametrize("field", ["name", "transcript", "language", "consent_text"])
@on_sqlite
def test_a_voice_without_consent_or_a_name_is_refused(store: Store, field: str) -> None:
    values = {"name": "Ada", "transcript": "Words.", "language": "en", "consent_text": "yes"}
    with pytest.raises(StoreError, match=field.replace("_", " ")):
        store.save_voice(**{**values, field: " \n"}, wav=b"wav")
    with pytest.raises(StoreError, match="recording"):
        store.save_voice(**values, wav=b"")
    assert files_of(store.data_dir) == set()


@on_sqlite
def test_a_missing_and_an_altered_blob_are_told_apart(store: Store) -> None:
    sha256 = store.put_blob(b"original")
    store.blobs.files.path(sha256).write_bytes(b"0riginal")
    with pytest.raises(StoreError, match="was altered"):
        store.get_blob(sha256)
    store.put_blob(b"original")  # storing it again mends it
    assert store.get_blob(sha256) == b"original"
    store.blobs.files.path(sha256).unlink()
    with pytest.raises(StoreError, match="is missing"):
        store.get_blob(sha256)
    store.put_blob(b"original")
    assert store.get_blob(sha256) == b"original"


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"file/data cannot be written to: .*LAB_DATA_DIR"):
        Store.open(tmp_path / "file" / "data")


def test_a_read_only_data_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_files.tempfile, "TemporaryFile", refuse)  # the tests may run as root, whom permissions do not stop
    with pytest.raises(StoreError, match="cannot be written to"):
        Store.open(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lab.sqlite3").write_bytes(b"certainly not a database\n" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://user:secret@host/lab", "mysql"),
        ("sqlite://", "in memory"),
        ("postgresql+nodriver://user:secret@host/lab", "nodriver"),
    ],
)
def test_a_database_url_that_cannot_work_is_refused_without_repeating_the_password(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(tmp_path, url)
    assert "secret" not in str(caught.value)


def test_a_newer_database_is_refused_and_left_alone(store: Store) -> None:
    with store.database.write() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    with pytest.raises(NewerDatabaseError, match="newer version of the lab: it is at step 9999"):
        Store.open(store.data_dir, url_of(store))
    with store.database.read() as connection:
        assert connection.scalars(sa.text("select version_num from alembic_version")).all() == ["9999"]


# Where things are


def test_the_data_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_DATA_DIR", str(tmp_path / "a folder with 100 % odd ü name?#"))
    store = Store.open()
    assert store.data_dir == tmp_path / "a folder with 100 % odd ü name?#"
    assert (store.data_dir / "lab.sqlite3").is_file()
    assert store.get_blob(store.put_blob(b"x")) == b"x"
    store.close()


def test_the_database_url_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_DATABASE_URL", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    Store.open(tmp_path / "data").close()
    assert (tmp_path / "elsewhere.db").is_file()
    assert not (tmp_path / "data" / "lab.sqlite3").exists()


# The structure of the database


def test_the_migrations_make_exactly_the_tables_the_code_uses(store: Store) -> None:
    with store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []


@on_sqlite
def test_every_connection_is_set_for_durability(store: Store) -> None:
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000, "secure_delete": 1}

    def pragmas(_: int) -> dict[str, object]:
        with store.database.read() as connection:
            return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in expected}

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(pragmas, range(4))) == [expected] * 4


def test_the_database_itself_refuses_a_row_without_its_blob(store: Store) -> None:
    token = store.save_comparison(facts_for(1), [b"clip"])
    (sha256,) = store.load_comparison(token).clip_hashes
    with pytest.raises(sa.exc.IntegrityError), store.database.write() as connection:
        connection.execute(sa.delete(blobs).where(blobs.c.sha256 == sha256))
    assert store.get_blob(sha256) == b"clip"


# Crashes and full disks


@on_sqlite
def test_a_full_disk_leaves_no_partial_file_and_no_row(store: Store) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # the kernel refuses the write half-way
    try:
        with pytest.raises(StoreError, match="could not be written"):
            store.put_blob(bytes(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_of(store.data_dir) == rows_of(store) == set()
    assert store.get_blob(store.put_blob(bytes(1_000_000))) == bytes(1_000_000)


@on_sqlite
def test_a_blob_is_this_users_alone(store: Store) -> None:
    """It may be a person's voice."""
    sha256 = store.put_blob(b"private")
    assert store.blobs.files.path(sha256).stat().st_mode & 0o077 == 0


@on_sqlite
def test_a_failed_fsync_counts_as_not_stored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable.os, "fsync", refuse)
    with pytest.raises(StoreError, match="could not be written"):
        store.save_comparison(facts_for(1), [b"clip"])
    monkeypatch.undo()
    assert files_of(store.data_dir) == rows_of(store) == set()
    assert store.list_comparisons() == []


@on_sqlite
def test_a_blob_is_durable_before_its_row_exists(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of events: file fsynced, renamed, folders fsynced, and only then the row."""
    events: list[str] = []
    fsync, replace, insert = os.fsync, Path.replace, store.blobs.insert
    monkeypatch.setattr(
        durable.os, "fsync", lambda fd: (events.append("folder" if Path(f"/proc/self/fd/{fd}").is_dir() else "file"), fsync(fd))[1]
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: (events.append("rename"), replace(self, to))[1])
    monkeypatch.setattr(store.blobs, "insert", lambda *a: (events.append("row"), insert(*a))[1])
    store.put_blob(b"ordered")
    assert events == ["file", "rename", "folder", "folder", "row"]


def run_and_crash(store: Store, code: str) -> str:
    """Run `code` in a process of its own, which must die by SIGKILL; return what it printed."""
    prelude = """
        import os, signal, sys
        from pathlib import Path
        from lab.store import Store
        def die(*_, **__):
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        store = Store.open(Path(sys.argv[1]), sys.argv[2])
    """
    command = [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code), str(store.data_dir), url_of(store)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    return done.stdout.strip()


def test_a_crash_between_the_file_and_its_row_loses_nothing_that_was_acknowledged(store: Store) -> None:
    code = """
        print(store.save_comparison({"clips": [{"storable": True}]}, [b"acknowledged"]))
        store.blobs.insert = die
        store.save_comparison({"clips": [{"storable": True}]}, [b"not acknowledged"])
    """
    token = run_and_crash(store, code)
    assert_promises_hold(store)
    orphan = hashlib.sha256(b"not acknowledged").hexdigest()
    assert orphan in files_of(store.data_dir)  # harmless: it has no row
    with pytest.raises(NotFound):
        store.get_blob(orphan)
    assert [c.token for c in store.list_comparisons()] == [token]
    assert store.get_blob(store.load_comparison(token).clip_hashes[0]) == b"acknowledged"
    assert store.get_blob(store.put_blob(b"not acknowledged")) == b"not acknowledged"


def test_a_crash_in_the_middle_of_a_transaction_leaves_none_of_it(store: Store) -> None:
    code = """
        from sqlalchemy import event
        event.listen(store.database._engine, "commit", die)
        store.save_comparison({"clips": [{"storable": True}]}, [b"half"])
    """
    run_and_crash(store, code)
    assert_promises_hold(store)
    assert rows_of(store) == set()


@on_sqlite
def test_what_a_dead_writer_left_unfinished_is_removed_after_a_day(store: Store) -> None:
    store.put_blob(b"x")
    old, new = (store.data_dir / "blobs" / ".unfinished" / name for name in ("old", "new"))
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    Store.open(store.data_dir, url_of(store)).close()
    assert not old.exists()
    assert new.exists()  # its writer may be alive


# Several writers at once


def test_threads_that_store_and_delete_the_same_audio_never_lose_it(store: Store) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(10):
                token = store.save_comparison(facts_for(2), [b"same for all", f"of {number}".encode()])
                for sha256 in store.load_comparison(token).clip_hashes:
                    store.get_blob(sha256)
                store.delete_comparison(token)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert files_of(store.data_dir) == rows_of(store) == set()


def test_many_threads_can_ask_for_the_same_recording(store: Store) -> None:
    """More of them than the pool has connections: each may hold only one."""
    sha256 = store.put_blob(b"popular")
    with ThreadPoolExecutor(40) as threads:
        assert len(set(threads.map(store.wav_path, [sha256] * 80))) == 1


def test_processes_that_open_one_fresh_folder_at_once_share_one_blob(tmp_path: Path, database_url: str) -> None:
    program = """
        import sys
        from pathlib import Path
        from lab.store import Store
        sys.stdin.readline()  # all start together
        store = Store.open(Path(sys.argv[1]), sys.argv[2])
        for _ in range(20):
            print(store.put_blob(b"the same blob"))
            store.delete_comparison(store.save_comparison({"clips": [{"storable": True}]}, [b"coming and going"]))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "fresh"), database_url]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    workers = [subprocess.Popen(command, **pipes) for _ in range(3)]
    time.sleep(0.7)  # imports take about this long; being late only makes the race milder
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        out, err = worker.communicate(timeout=60)
        assert (worker.returncode, err) == (0, "")
        assert set(out.split()) == {hashlib.sha256(b"the same blob").hexdigest()}
    with closing(Store.open(tmp_path / "fresh", database_url)) as store:
        assert files_of(store.data_dir) == rows_of(store) == {hashlib.sha256(b"the same blob").hexdigest()}


def test_a_blob_whose_file_a_deletion_takes_at_the_last_moment_is_written_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write = store.blobs.files.write
    taken = []

    def write_then_lose(data: bytes) -> str:
        sha256 = write(data)
        if not taken:
            taken.append(sha256)
            store.blobs.files.remove(sha256)  # what another process's deletion does between our file and our row
        return sha256

    monkeypatch.setattr(store.blobs.files, "write", write_then_lose)
    assert store.get_blob(store.put_blob(b"fought over")) == b"fought over"
    assert taken


# Invariants

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values, clips=st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4))
def test_any_json_and_any_clips_come_back_exactly(store: Store, value: Any, clips: list[bytes]) -> None:
    found = store.load_comparison(store.save_comparison(facts_for(len(clips), value=value), clips))
    assert repr(found.facts["value"]) == repr(value)
    assert [store.get_blob(sha256) for sha256 in found.clip_hashes] == clips


class StoringAndDeleting(RuleBasedStateMachine):
    """Whatever is stored and deleted in whatever order, the blobs are exactly those that some row needs."""

    tokens = Bundle("tokens")
    voices = Bundle("voices")
    audio = st.sampled_from([b"one", b"two", b"three"])

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store.open(Path(self.folder.name))
        self.needed: dict[str, list[bytes]] = {}

    @rule(target=tokens, clips=st.lists(audio, min_size=1, max_size=3))
    def compare(self, clips: list[bytes]) -> str:
        token = self.store.save_comparison(facts_for(len(clips)), clips)
        self.needed[token] = clips
        return token

    @rule(target=voices, wav=audio)
    def upload(self, wav: bytes) -> str:
        voice = self.store.save_voice("n", "t", "en", wav, "yes")
        self.needed[voice.id] = [wav]
        return voice.id

    @rule(token=consumes(tokens))
    def delete(self, token: str) -> None:
        self.store.delete_comparison(token)
        del self.needed[token]

    @rule(voice=consumes(voices))
    def forget(self, voice: str) -> None:
        self.store.delete_voice(voice)
        del self.needed[voice]

    @invariant()
    def blobs_are_those_that_are_needed(self) -> None:
        names = {hashlib.sha256(clip).hexdigest() for clips in self.needed.values() for clip in clips}
        assert files_of(self.store.data_dir) == rows_of(self.store) == names

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestStoringAndDeleting = StoringAndDeleting.TestCase
TestStoringAndDeleting.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
