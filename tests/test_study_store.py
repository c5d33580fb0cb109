"""What is kept of listening tests: basics, refusals, durability, and many listeners at once; all of it on SQLite and on PostgreSQL."""

import hashlib
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab import database, migrations
from lab.blob_files import BlobFiles
from lab.listening.model import ConfigFacts, Manifest, Presentation, Stimulus, StoredRating, StoredSession, StoredStudy, Text, Unit
from lab.migrations.tables import blobs, comparison_clips, comparisons, metadata, ratings, sessions, studies, trials, voices
from lab.store import NotFound, Store, StoreError
from lab.study_store import Studies
from tests.storage import files_of, rows_of, url_of

pytest_plugins = ["tests.databases"]
ROOT = Path(__file__).parents[1]
CLIPS = [b"clip a", b"clip b", b"clip c"]


@pytest.fixture
def kept(store: Store) -> Studies:
    return Studies(store)


@pytest.fixture
def study(kept: Studies) -> StoredStudy:
    return kept.create(a_manifest(), CLIPS)


def sha(clip: bytes) -> str:
    return hashlib.sha256(clip).hexdigest()


def a_manifest(clips: Sequence[bytes] = CLIPS, **more: Any) -> Manifest:
    stimuli = tuple(
        Stimulus(
            sha256=sha(c),
            config="upstream",
            role="system",
            text=0,
            seed=i,
            source_sha256="0" * 64,
            gain_db=0.1,
            lufs=None,
            peak_dbfs=-3,
            seconds=1,
        )
        for i, c in enumerate(clips)
    )
    values: dict[str, Any] = {
        "type": "ab",
        "title": "A title",
        "created_at": datetime(2026, 1, 2, 3, 4, 5, 678, UTC),
        "margin": 0.7,
        "trials": 3,
        "configs": (ConfigFacts(name="upstream", digest="d", settings={"nfe": 32}), ConfigFacts(name="fast", digest="e", settings={})),
        "texts": (Text(id="t", text="Some words."),),
        "stimuli": stimuli,
        "units": (Unit(kind="main", text=0, stimuli=(0, 1), comparison="fast"),),
        "gate": {"null_dbfs": [-90.5, None]},
        "voice": "female",
        "weights": "demo",
        "device": "cpu",
        "seed": 1,
        "other_seed": 2,
        "versions": {"torch": "2"},
    }
    return Manifest(**{**values, **more})


def shown(unit: int = 0, flipped: bool = False) -> Presentation:
    return Presentation(unit=unit, kind="main", labels=("A", "B"), slots=(1, 0) if flipped else (0, 1))


def plan_of(count: int) -> Callable[[int], list[Presentation]]:
    return lambda number: [shown(unit, flipped=bool((unit + number) % 2)) for unit in range(count)]


def rate(kept: Studies, session: StoredSession, number: int, key: str, answer: Any = "A", **more: Any) -> bool:
    return kept.rate(session.token, number, key=key, answer=answer, heard={"A": 1.25, "B": 0.1}, seconds=3.5, **more)


def answers(kept: Studies, session: StoredSession) -> list[Any]:
    return [trial.rating and trial.rating.answer for trial in kept.session(session.token).trials]


def count(store: Store, table: sa.Table) -> int:
    with store.database.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


# Basics


def test_a_study_comes_back_as_it_was_made(store: Store, kept: Studies) -> None:
    until = datetime(2026, 3, 1, 18, tzinfo=UTC) + timedelta(microseconds=1)
    manifest = a_manifest(title='<b>"x"</b> \u202e\x00 ü 你好 \ud800')
    made = kept.create(manifest, CLIPS[::-1], until)
    assert (made.manifest, made.open_until, made.closed_at, made.peeked_at) == (manifest, until, None, None)
    assert made.manifest_sha256 == sha(manifest.text_json().encode())
    assert (len(made.token), len(made.secret)) == (22, 64)
    assert kept.load(made.token) == made
    assert Studies(store).load(made.token) == made
    assert [kept.clip(made.token, sha(clip)) for clip in CLIPS] == CLIPS


def test_studies_are_listed_newest_first(kept: Studies) -> None:
    made = [kept.create(a_manifest(title=f"{i}"), CLIPS) for i in range(3)]
    assert kept.list() == made[::-1]
    assert len({study.secret for study in made}) == 3


def test_closing_and_peeking_keep_their_first_time(kept: Studies, study: StoredStudy) -> None:
    before = datetime.now(UTC)
    closed = kept.close(study.token)
    assert closed.closed_at is not None
    assert before <= closed.closed_at <= datetime.now(UTC)
    assert kept.close(study.token) == closed == replace(study, closed_at=closed.closed_at)
    peeked = kept.note_peek(study.token)
    assert peeked.peeked_at is not None
    assert kept.note_peek(study.token) == peeked == kept.load(study.token)


def test_a_session_comes_back_with_its_trials_ratings_and_events(kept: Studies, study: StoredStudy) -> None:
    joined = kept.join(study.token, "listener", plan_of(3))
    assert (joined.study, joined.number, joined.events) == (study.token, 0, ())
    assert [trial.presentation for trial in joined.trials] == plan_of(3)(0)
    before = datetime.now(UTC)
    assert rate(kept, joined, 0, "k0", {"A": 100, "B": 0}, comment="fine")
    kept.add_event(joined.token, "headphones", {"passed": None, "levels": [1, -2.5]})
    kept.add_event(joined.token, "finished", True)
    found = kept.session(joined.token)
    rating = found.trials[0].rating
    assert rating is not None
    assert rating == StoredRating({"A": 100, "B": 0}, {"A": 1.25, "B": 0.1}, 3.5, "fine", 0, rating.created_at)
    assert before <= rating.created_at <= datetime.now(UTC)
    assert [trial.rating for trial in found.trials[1:]] == [None, None]
    assert [(kind, value) for kind, value, _ in found.events] == [("headphones", {"passed": None, "levels": [1, -2.5]}), ("finished", True)]
    assert all(when.utcoffset() == timedelta(0) for _, _, when in found.events)


def test_the_plan_is_asked_with_the_number_of_sessions_before(kept: Studies, study: StoredStudy) -> None:
    other = kept.create(a_manifest(), CLIPS)
    kept.join(other.token, "listener 0", plan_of(1))
    asked: list[int] = []
    for i in range(4):
        assert kept.join(study.token, f"listener {i}", lambda number: [asked.append(number) or shown()]).number == i
    assert asked == [0, 1, 2, 3]


def test_all_sessions_of_a_study_come_in_order_in_few_statements(store: Store, kept: Studies, study: StoredStudy) -> None:
    def statements() -> int:
        seen: list[str] = []
        with listening(store, seen):
            kept.sessions(study.token)
        return len([text for text in seen if text.lstrip().startswith("SELECT")])

    kept.join(study.token, "first", plan_of(2))
    few = statements()
    for i in range(9):
        session = kept.join(study.token, f"listener {i}", plan_of(i))
        kept.add_event(session.token, "volume", i)
        if i:
            assert rate(kept, session, 0, "k", i)
    other = kept.create(a_manifest(), CLIPS)
    kept.join(other.token, "elsewhere", plan_of(1))
    found = kept.sessions(study.token)
    assert found == [kept.session(session.token) for session in found]
    assert [(session.number, len(session.trials)) for session in found] == [(0, 2), *((i + 1, i) for i in range(9))]
    assert statements() == few <= 3
    assert kept.sessions(kept.create(a_manifest(), CLIPS).token) == []


@contextmanager
def listening(store: Store, seen: list[str]) -> Iterator[None]:
    def note(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        seen.append(text)

    sa.event.listen(store.database._engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        sa.event.remove(store.database._engine, "before_cursor_execute", note)


# Rating


def test_rating_twice_with_the_same_key_is_one_rating(store: Store, kept: Studies, study: StoredStudy) -> None:
    session = kept.join(study.token, "listener", plan_of(2))
    assert rate(kept, session, 0, "key", "A")
    assert not rate(kept, session, 0, "key", "B")
    assert not rate(kept, session, 0, "key", "B", revise=True)
    assert not rate(kept, session, 1, "key", "B")  # a repeated submission that was taken for the next answer
    assert answers(kept, session) == ["A", None]
    assert count(store, ratings) == 1


def test_two_listeners_may_use_the_same_key(kept: Studies, study: StoredStudy) -> None:
    both = [kept.join(study.token, name, plan_of(1)) for name in ("one", "two")]
    assert [rate(kept, session, 0, "key") for session in both] == [True, True]


def test_of_two_answers_from_two_tabs_the_first_stands(store: Store, kept: Studies, study: StoredStudy) -> None:
    session = kept.join(study.token, "listener", plan_of(2))
    assert rate(kept, session, 0, "tab 1", "A")
    assert not rate(kept, session, 0, "tab 2", "B")
    assert answers(kept, session) == ["A", None]
    assert count(store, ratings) == 1


def test_a_revised_answer_supersedes_and_both_are_kept(store: Store, kept: Studies, study: StoredStudy) -> None:
    session = kept.join(study.token, "listener", plan_of(3))
    rate(kept, session, 0, "k0", "A")
    assert rate(kept, session, 0, "k1", "B", revise=True)
    assert rate(kept, session, 0, "k2", "none", revise=True)
    rating = kept.session(session.token).trials[0].rating
    assert rating is not None
    assert (rating.answer, rating.revision) == ("none", 2)
    with store.database.read() as connection:
        rows = connection.execute(sa.select(ratings.c.revision, ratings.c.answer).order_by(ratings.c.revision)).all()
    assert [tuple(row) for row in rows] == [(0, '"A"'), (1, '"B"'), (2, '"none"')]
    assert rate(kept, session, 1, "k3", "A")
    assert not rate(kept, session, 0, "k4", "A", revise=True)  # no longer the last
    assert not rate(kept, session, 2, "k5", "A", revise=True)  # nothing there to revise
    assert answers(kept, session) == ["none", "A", None]


def test_ratings_out_of_order_are_refused(store: Store, kept: Studies, study: StoredStudy) -> None:
    session = kept.join(study.token, "listener", plan_of(3))
    assert not rate(kept, session, 1, "k")
    assert not rate(kept, session, 2, "k")
    for nowhere in (3, -1, 2**70):
        with pytest.raises(NotFound, match="no such trial"):
            rate(kept, session, nowhere, "k")
    assert count(store, ratings) == 0
    assert [rate(kept, session, number, f"k{number}") for number in range(3)] == [True, True, True]


def test_a_following_trial_is_stored_with_the_answer_or_not_at_all(kept: Studies, study: StoredStudy) -> None:
    session = kept.join(study.token, "listener", plan_of(1))
    assert rate(kept, session, 0, "k0", "A", following=shown(7))
    assert not rate(kept, session, 0, "k0", "A", following=shown(8))  # repeated
    assert not rate(kept, session, 0, "k1", "A", following=shown(8))  # another tab
    with pytest.raises(StoreError, match="drawn up already"):
        rate(kept, session, 0, "k2", "B", revise=True, following=shown(8))
    assert answers(kept, session) == ["A", None]
    assert [trial.presentation.unit for trial in kept.session(session.token).trials] == [0, 7]
    assert rate(kept, session, 1, "k3", "B")
    assert answers(kept, session) == ["A", "B"]


def test_a_crash_between_an_answer_and_its_following_trial_leaves_neither(
    kept: Studies, study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = kept.join(study.token, "listener", plan_of(1))

    def fail(*_: object) -> None:
        raise RuntimeError("at the worst moment")

    monkeypatch.setattr("lab.study_store._trial_row", fail)
    with pytest.raises(RuntimeError):
        rate(kept, session, 0, "k0", "A", following=shown(7))
    assert answers(kept, session) == [None]


@pytest.mark.parametrize(
    "text", ["", "'; DROP TABLE ratings; --", '<script>alert("x")</script>', "a\x00b\r\n\x1b[31m", "\u202e\ud800 你好 🎧", "x" * 20_000]
)
def test_hostile_text_in_a_comment_comes_back_exactly(kept: Studies, study: StoredStudy, text: str) -> None:
    session = kept.join(study.token, "listener", plan_of(1))
    assert rate(kept, session, 0, "k", text, comment=text)
    kept.add_event(session.token, "note", {text: text})
    found = kept.session(session.token)
    rating = found.trials[0].rating
    assert rating is not None
    assert (rating.comment, rating.answer, found.events[0][1]) == (text, text, {text: text})


def test_nothing_in_the_code_changes_or_deletes_a_rating() -> None:
    written = "".join(path.read_text() for path in (ROOT / "lab").rglob("*.py") if "migrations" not in path.parts)
    assert "sa.insert(ratings)" in written
    for change in ("sa.update(ratings", "sa.delete(ratings", "sa.update(trials", "sa.delete(trials", "ratings.update(", "ratings.delete("):
        assert change not in written


# Deleting


def test_deleting_a_study_removes_the_audio_that_nothing_else_refers_to(store: Store, kept: Studies) -> None:
    token = store.save_comparison({"clips": [{"storable": True}]}, [CLIPS[0]])
    doomed, other = kept.create(a_manifest(), CLIPS), kept.create(a_manifest(CLIPS[1:2]), CLIPS[1:2])
    for made in (doomed, other):
        session = kept.join(made.token, "listener", plan_of(2))
        rate(kept, session, 0, "k")
        rate(kept, session, 0, "k2", revise=True)
        kept.add_event(session.token, "volume", 1)
    kept.delete(doomed.token)
    assert files_of(store.data_dir) == rows_of(store) == {sha(CLIPS[0]), sha(CLIPS[1])}
    assert store.get_blob(store.load_comparison(token).clip_hashes[0]) == CLIPS[0]
    assert kept.clip(other.token, sha(CLIPS[1])) == CLIPS[1]
    assert answers(kept, kept.sessions(other.token)[0]) == ["A", None]
    assert [count(store, table) for table in (studies, sessions, trials, ratings)] == [1, 1, 2, 2]
    assert kept.list() == [other]
    kept.delete(other.token)
    assert [count(store, table) for table in metadata.tables.values() if table not in (blobs, comparisons, comparison_clips)] == [0] * 8


def test_a_comparison_that_is_deleted_leaves_a_studys_audio(store: Store, kept: Studies, study: StoredStudy) -> None:
    store.delete_comparison(store.save_comparison({"clips": [{"storable": True}]}, [CLIPS[0]]))
    assert kept.clip(study.token, sha(CLIPS[0])) == CLIPS[0]


# Refusals


def test_a_clip_of_another_study_is_not_served(store: Store, kept: Studies, study: StoredStudy) -> None:
    other = kept.create(a_manifest([b"secret"]), [b"secret"])
    loose = store.put_blob(b"no study's")
    for token, name in [(study.token, sha(b"secret")), (other.token, sha(CLIPS[0])), (study.token, loose), ("A" * 22, sha(CLIPS[0]))]:
        with pytest.raises(NotFound):
            kept.clip(token, name)
    for name in ("", "../" * 22, "0" * 64, "\x00" * 64):
        with pytest.raises(NotFound):
            kept.clip(study.token, name)


@pytest.mark.parametrize("token", ["", "A" * 22, "A" * 21 + "\n", "' or 1=1 --", "\x00" * 22, "ü" * 22])
def test_an_unknown_or_malformed_token_is_not_found(kept: Studies, study: StoredStudy, token: str) -> None:
    session = kept.join(study.token, "listener", plan_of(1))
    for ask in (kept.load, kept.close, kept.note_peek, kept.delete, kept.sessions):
        with pytest.raises(NotFound, match="no such study"):
            ask(token)
    with pytest.raises(NotFound, match="no such study"):
        kept.join(token, "listener", plan_of(1))
    for ask in (kept.session, lambda token: rate(kept, replace(session, token=token), 0, "k"), lambda token: kept.add_event(token, "k", 1)):
        with pytest.raises(NotFound, match="no such session"):
            ask(token)


def test_a_study_without_all_its_audio_is_refused_and_leaves_nothing(store: Store, kept: Studies) -> None:
    with pytest.raises(StoreError, match="audio of 2 of its stimuli is missing"):
        kept.create(a_manifest(), CLIPS[:1])
    for weights in ("random", "random:F5TTS_v1_Base"):
        with pytest.raises(StoreError, match="random weights"):
            kept.create(a_manifest(weights=weights), CLIPS)
    with pytest.raises(StoreError, match="time zone"):
        kept.create(a_manifest(), CLIPS, datetime(2026, 1, 1))
    with pytest.raises(StoreError, match="read back as another"):
        kept.create(a_manifest(gate={"pairs": (1, 2)}), CLIPS)
    assert files_of(store.data_dir) == rows_of(store) == set()
    assert kept.list() == []


def test_what_cannot_be_stored_is_refused_in_words(store: Store, kept: Studies, study: StoredStudy) -> None:
    session = kept.join(study.token, "listener", plan_of(1))
    for key in ("", "x" * 65, "a\x00", "ü", "a\n"):
        with pytest.raises(StoreError, match="printable ASCII"):
            rate(kept, session, 0, key)
        with pytest.raises(StoreError, match="printable ASCII"):
            kept.join(study.token, key, plan_of(1))
        with pytest.raises(StoreError, match="printable ASCII"):
            kept.add_event(session.token, key, 1)
    for seconds in (float("nan"), float("inf")):
        with pytest.raises(StoreError, match="number of seconds"):
            kept.rate(session.token, 0, key="k", answer="A", heard={}, seconds=seconds)
        with pytest.raises(StoreError, match="not JSON"):
            kept.rate(session.token, 0, key="k", answer="A", heard={"A": seconds}, seconds=1)
    assert (count(store, ratings), count(store, sessions), answers(kept, session)) == (0, 1, [None])


@pytest.mark.parametrize(("column", "value"), [("manifest", "{}"), ("manifest_sha256", "0" * 64)])
def test_an_altered_manifest_is_refused_also_when_it_was_read_before(
    store: Store, kept: Studies, study: StoredStudy, column: str, value: str
) -> None:
    assert kept.load(study.token) == study
    with store.database.write() as connection:
        connection.execute(sa.update(studies).values({column: value}))
    for reader in (kept, Studies(store)):
        with pytest.raises(StoreError, match=f"manifest of study {study.token} was altered"):
            reader.load(study.token)
    kept.delete(study.token)  # the way out
    assert kept.list() == []


def test_an_altered_study_is_listed_apart_and_keeps_no_other_from_being_listed(store: Store, kept: Studies, study: StoredStudy) -> None:
    other = kept.create(study.manifest, CLIPS)
    unknown = kept.create(study.manifest, CLIPS)
    text = study.manifest.text_json().replace('"version":1', '"version":2')
    with store.database.write() as connection:
        connection.execute(sa.update(studies).where(studies.c.token == study.token).values(manifest="{}"))
        new = {"manifest": text, "manifest_sha256": sha(text.encode())}
        connection.execute(sa.update(studies).where(studies.c.token == unknown.token).values(new))
    whole, broken = kept.survey()
    assert whole == kept.list() == [other]
    assert [(one.token, one.type, one.title) for one in broken] == [
        (token, study.manifest.type, study.manifest.title) for token in (unknown.token, study.token)
    ]
    assert all(one.created_at.tzinfo for one in broken)
    assert "cannot be read by this version" in broken[0].reason
    assert "does not match its SHA-256" in broken[1].reason


def test_a_manifest_that_this_version_does_not_know_is_refused_in_words(store: Store, kept: Studies, study: StoredStudy) -> None:
    text = study.manifest.text_json().replace('"version":1', '"version":2')
    with store.database.write() as connection:
        connection.execute(sa.update(studies).values(manifest=text, manifest_sha256=sha(text.encode())))
    with pytest.raises(StoreError, match="cannot be read by this version"):
        kept.load(study.token)


def test_a_manifest_is_parsed_once_and_only_so_many_are_kept(kept: Studies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.study_rows._KEPT_MANIFESTS", 2)
    made = [kept.create(a_manifest(title=f"{i}"), CLIPS) for i in range(4)]
    assert kept.load(made[3].token).manifest is kept.load(made[3].token).manifest
    assert kept.list() == made[::-1]
    assert len(kept._manifests._parsed) == 2


def test_a_plan_that_fails_leaves_no_session(kept: Studies, study: StoredStudy) -> None:
    def fail(_: int) -> list[Presentation]:
        raise RuntimeError("no plan")

    with pytest.raises(RuntimeError, match="no plan"):
        kept.join(study.token, "listener", fail)
    assert kept.sessions(study.token) == []
    assert kept.join(study.token, "listener", plan_of(1)).number == 0


# Several at once


def test_many_threads_that_join_as_one_listener_get_one_session(kept: Studies, study: StoredStudy) -> None:
    with ThreadPoolExecutor(20) as threads:
        found = list(threads.map(lambda _: kept.join(study.token, "listener", plan_of(3)), range(40)))
    assert len({session.token for session in found}) == 1
    assert all(session == found[0] for session in found)
    assert len(kept.sessions(study.token)) == 1


def test_two_processes_that_join_as_the_same_listeners_get_the_same_sessions(store: Store, kept: Studies, study: StoredStudy) -> None:
    code = """
        sys.stdin.readline()  # both start together
        for i in range(25):
            print(kept.join(study, f"listener {i}", lambda number: [Presentation(unit=number, kind="main", labels=("A",), slots=(0,))]).token)
    """
    workers = [start(store, study, code) for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [(worker.returncode, err) for worker, (_, err) in zip(workers, outputs, strict=True)] == [(0, "")] * 2
    assert outputs[0][0] == outputs[1][0]
    found = kept.sessions(study.token)
    assert [session.token for session in found] == outputs[0][0].split()
    assert [(session.number, session.trials[0].presentation.unit) for session in found] == [(i, i) for i in range(25)]


def start(store: Store, study: StoredStudy, code: str) -> "subprocess.Popen[str]":
    """Run `code` in a process of its own, with `kept` and `study` (the token) at hand. It says "ready" first."""
    prelude = """
        import sys
        from pathlib import Path
        from lab.listening.model import Presentation
        from lab.store import Store
        from lab.study_store import Studies
        kept, study = Studies(Store.open(Path(sys.argv[1]), sys.argv[2])), sys.argv[3]
        print("ready", flush=True)
    """
    words = [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code), str(store.data_dir), url_of(store), study.token]
    return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_same_submission_from_many_threads_is_stored_once(store: Store, kept: Studies, study: StoredStudy) -> None:
    session = kept.join(study.token, "listener", plan_of(3))
    with ThreadPoolExecutor(16) as threads:
        stored = list(threads.map(lambda _: rate(kept, session, 0, "key", following=None), range(32)))
    assert sum(stored) == 1
    with ThreadPoolExecutor(16) as threads:
        stored = list(threads.map(lambda i: rate(kept, session, 1, f"tab {i}", i), range(32)))
    assert sum(stored) == 1
    assert answers(kept, session) == ["A", stored.index(True), None]
    assert count(store, ratings) == 2


def test_fifty_listeners_at_once_lose_nothing(kept: Studies, study: StoredStudy) -> None:
    def listen(listener: int) -> None:
        session = kept.join(study.token, f"listener {listener}", plan_of(4))
        for number in range(4):
            assert kept.load(study.token).is_open(datetime.now(UTC))
            assert rate(kept, session, number, f"k{number}", listener)
            assert kept.session(session.token).trials[number].rating is not None

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(listen, range(50)))
    found = kept.sessions(study.token)
    assert [session.number for session in found] == list(range(50))
    assert sorted(session.trials[0].rating.answer for session in found if session.trials[0].rating) == list(range(50))  # type: ignore[type-var]
    assert all(len({trial.rating and trial.rating.answer for trial in session.trials}) == 1 for session in found)


def test_a_reader_is_not_held_up_by_a_writer_that_takes_its_time(store: Store, kept: Studies, study: StoredStudy) -> None:
    session = kept.join(study.token, "listener", plan_of(1))
    writing, read = Event(), Event()

    def write() -> None:
        with store.database.write() as connection:
            connection.execute(sa.update(studies).values(title="another"))
            writing.set()
            assert read.wait(30)

    writer = Thread(target=write)
    writer.start()
    assert writing.wait(30)
    start = time.monotonic()
    assert kept.session(session.token) == session
    assert kept.load(study.token) == study
    took = time.monotonic() - start
    read.set()
    writer.join()
    assert took < 10


def test_a_database_that_another_process_keeps_busy_says_so(
    store: Store, kept: Studies, study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.3)
    with closing(Store.open(store.data_dir, url_of(store))) as impatient:
        refused = pytest.raises(StoreError, match=r"could not be used: .*lock")
        with store.database.write(), refused:
            Studies(impatient).close(study.token)
    assert kept.load(study.token).closed_at is None
    assert kept.close(study.token).closed_at is not None


# Durability


def test_no_acknowledged_rating_is_lost_when_the_process_is_killed(store: Store, kept: Studies, study: StoredStudy) -> None:
    code = """
        plan = lambda number: [Presentation(unit=i, kind="main", labels=("A",), slots=(0,)) for i in range(2000)]
        session = kept.join(study, "listener", plan).token
        for number in range(2000):
            assert kept.rate(session, number, key=f"k{number}", answer=number, heard={}, seconds=1.0)
            print(number, flush=True)
    """
    worker = start(store, study, code)
    assert worker.stdout is not None
    seen = [worker.stdout.readline() for _ in range(21)]
    worker.kill()
    seen += worker.communicate(timeout=60)[0].splitlines(keepends=True)
    assert worker.returncode == -9
    acknowledged = [int(line) for line in seen[1:] if line.endswith("\n")]
    assert len(acknowledged) >= 20
    store.close()
    with closing(Store.open(store.data_dir, url_of(store))) as again:
        (session,) = Studies(again).sessions(study.token)
        given = [trial.rating.answer for trial in session.trials if trial.rating]
        assert given[: len(acknowledged)] == acknowledged
        assert given == list(range(len(given)))
        assert len(given) <= len(acknowledged) + 1  # the last may have been stored and not yet printed
        assert rate(Studies(again), session, len(given), f"k{len(given)}")  # and it goes on


# The structure of the database


def test_the_migrations_make_exactly_the_tables_the_code_uses(store: Store) -> None:
    with store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []


def steps(url: str, to: Callable[[Config], None]) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        to(config)
    engine.dispose()


def test_a_database_of_the_first_step_keeps_its_data(tmp_path: Path, database_url: str) -> None:
    steps(database_url, lambda config: command.upgrade(config, "0001"))
    BlobFiles(tmp_path / "data" / "blobs").write(b"clip")
    when, token = datetime(2025, 1, 2, tzinfo=UTC), "A" * 22
    engine = sa.create_engine(database_url)
    assert "studies" not in sa.inspect(engine).get_table_names()
    with engine.begin() as connection:
        connection.execute(sa.insert(blobs).values(sha256=sha(b"clip"), bytes=4, created_at=when))
        connection.execute(sa.insert(comparisons).values(id=1, token=token, created_at=when, facts='{"x": 1}'))
        connection.execute(sa.insert(comparison_clips).values(comparison_id=1, position=0, sha256=sha(b"clip")))
        voice = {"name": "Ada", "transcript": "Words.", "language": "en", "created_at": when, "consent_text": "yes", "consented_at": when}
        connection.execute(sa.insert(voices).values(token=token, sha256=sha(b"clip"), **voice))
    engine.dispose()
    with closing(Store.open(tmp_path / "data", database_url)) as store:
        found = store.load_comparison(token)
        assert (found.facts, found.created_at, store.get_blob(found.clip_hashes[0])) == ({"x": 1}, when, b"clip")
        assert store.load_voice(token).transcript == "Words."
        made = Studies(store).create(a_manifest([b"clip"]), [b"clip"])
        store.delete_comparison(token)
        store.delete_voice(token)
        assert Studies(store).clip(made.token, sha(b"clip")) == b"clip"


def test_a_step_back_and_forth_leaves_the_same_tables(store: Store) -> None:
    store.close()
    for back in ("0001", "base"):
        steps(url_of(store), lambda config, back=back: command.downgrade(config, back))  # type: ignore[misc]
        Store.open(store.data_dir, url_of(store)).close()
    with store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []


def test_a_plain_postgresql_url_uses_the_driver_that_is_installed(tmp_path: Path, postgres_url: str) -> None:
    plain = sa.make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(Store.open(tmp_path, plain)) as store:
        assert store.database._engine.driver == "psycopg"
        assert store.get_blob(store.put_blob(b"x")) == b"x"


def test_a_postgresql_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="could not be used") as caught:
        Store.open(tmp_path, f"postgresql://lab:secret@/lab?host={tmp_path}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_postgresql_server_that_was_restarted_costs_no_answer(store: Store, kept: Studies, study: StoredStudy) -> None:
    session = kept.join(study.token, "listener", plan_of(1))
    other = sa.create_engine(url_of(store))
    with other.begin() as connection:  # what a restart does to the connections in the pool
        connection.execute(
            sa.text("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()")
        )
    other.dispose()
    assert rate(kept, session, 0, "k")


# Invariants

calls = st.tuples(st.integers(-1, 5), st.integers(0, 7), st.integers(0, 3), st.booleans(), st.booleans())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 4), sequence=st.lists(calls, max_size=14))
def test_whatever_is_rated_the_rated_trials_are_the_first_and_each_has_one_answer(
    store: Store, kept: Studies, count: int, sequence: list[tuple[int, int, int, bool, bool]]
) -> None:
    """Held against a model: which calls store something, what stands, what is kept."""
    study = kept.create(a_manifest(CLIPS[:1]), CLIPS[:1])
    session = kept.join(study.token, "listener", plan_of(count))
    standing: list[list[int]] = []  # of each rated trial all answers that it got
    used: set[int] = set()
    trials_now = count
    for number, key, answer, revise, follow in sequence:
        may = key not in used and number == len(standing) - revise
        clash = follow and number + 1 != trials_now
        try:
            stored = rate(kept, session, number, f"{key}", answer, revise=revise, following=shown(9) if follow else None)
        except NotFound:
            assert not 0 <= number < trials_now
            continue
        except StoreError:
            assert may
            assert clash
            continue
        assert stored == may
        assert not (stored and clash)
        if stored:
            used.add(key)
            trials_now += follow
            if revise:
                standing[number].append(answer)
            else:
                standing.append([answer])
        found = kept.session(session.token)
        given = [trial.rating for trial in found.trials]
        assert len(given) == trials_now
        assert [rating and (rating.answer, rating.revision) for rating in given] == [
            (kept_answers[-1], len(kept_answers) - 1) for kept_answers in standing
        ] + [None] * (trials_now - len(standing))
    with store.database.read() as connection:
        mine = sa.select(sa.func.count()).select_from(ratings).join(sessions, sessions.c.id == ratings.c.session_id)
        assert connection.scalar(mine.where(sessions.c.token == session.token)) == sum(len(given) for given in standing)
