"""The Studies page without a browser: what it makes, shows, hides, hands out and deletes, and what forged values get."""

import csv
import json
import re
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pandas as pd
import plotly.graph_objects as go
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some
from markdown_it import MarkdownIt

from lab.compare import make_request
from lab.listening import design
from lab.listening.model import MARGINS, TYPES, StoredRating, StoredTrial, StudyError, Text
from lab.listening.ordering import check_order
from lab.listening.results import results
from lab.listening.summary import cell
from lab.ui import studies_page
from lab.ui.app import build_app
from lab.ui.studies_page import OUTPUTS, PLOTS, RESULTS, StudiesPage
from lab.ui.words import plain
from tests import fakes
from tests.listening.manifests import NAMES, manifest

FORM: dict[str, Any] = {
    "kind": "abx",
    "configs": ["upstream", "upstream-nfe7"],
    "texts": ["rice", "glue"],
    "voice_id": "demo-female",
    "trials": 8,
    "margin": 0.7,
    "open_until": "",
    "title": "",
    "seed": 1,
    "own_results": True,
}
HOSTILE = "<img src=x onerror=alert(1)> [x](javascript:alert(2)) ![y](z) `4` **5** ~~6~~ $7$ | <b>8"
COMMENT = "what-a-listener-wrote"
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
SHUT = {"visible": False, "value": None}


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """One lab for all tests: starting its workers is most of a study's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_WORKER_DIFFERS", "1")
        with fakes.lab_context(tmp_path_factory.mktemp("lab")) as context:
            yield context


@pytest.fixture
def page(context):
    yield StudiesPage(context)
    for study in context.studies.list():
        context.studies.delete(study.token)


def request(query: str = "") -> SimpleNamespace:
    params = dict(part.split("=", 1) for part in query.split("&") if part)
    return SimpleNamespace(session_hash="tab", headers={"origin": "http://lab.example"}, query_params=params)


def no_progress(*_args, **_settings):
    return None


def named(values: list[Any]) -> dict[str, Any]:
    """What is touched of the page's outputs, by name."""
    pairs = zip(OUTPUTS, values, strict=True)
    return {name: value for name, value in pairs if not (isinstance(value, dict) and value == gr.skip())}


def make(page, progress=no_progress, **changes) -> list[dict[str, Any]]:
    """Everything that the page shows on the way to a study."""
    return [named(values) for values in page.create(*(FORM | changes).values(), request(), progress)]


def stored(page, kind="abx", **more):
    made, clips = manifest(kind, **more)
    return page.context.studies.create(made, clips)


def listen(page, study, name="somebody", *, right=True, comment="", most=1000) -> None:
    """One listener's pass straight into the store: right, and for the comparison, or wrong, and for the reference."""
    studies, asked = page.context.studies, study.manifest
    session = studies.join(study.token, name, lambda number: design.plan(asked, number))
    for number in range(most):
        trials = studies.session(session.token).trials
        if number == len(trials):
            return
        shown = trials[number].presentation
        slots = [asked.stimuli[slot] for slot in shown.slots]
        answer: Any = "AB"[slots[0].config == asked.reference] if right else "AB"[slots[0].config != asked.reference]
        if shown.x:
            answer = shown.x if right else "AB"[shown.x == "A"]
        elif asked.type == "acr":
            answer = 4 if right else 2
        elif asked.type == "ccr":
            answer = 2 if right else -1
        elif asked.type == "mushra":
            answer = dict.fromkeys(shown.labels[1:], 95 if right else 40)
        following = None
        if asked.type == "staircase" and number == len(trials) - 1:
            rating = StoredRating(answer, {}, 4.0, "", 0, datetime.now(UTC))
            following = design.following(asked, session.number, [*trials[:-1], StoredTrial(number, shown, rating)])
        key = f"{name}-{number}"
        heard = dict.fromkeys(shown.labels, 1.0)
        assert studies.rate(session.token, number, key=key, answer=answer, heard=heard, seconds=4, comment=comment, following=following)


def flat(value: Any) -> str:
    """Everything that an output says, in one text."""
    if isinstance(value, pd.DataFrame):
        return " ".join(map(str, [*value.columns, *value.to_numpy().ravel()]))
    if isinstance(value, go.Figure):
        return value.to_json()
    if isinstance(value, dict):
        return " ".join(f"{name}={flat(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(flat, value))
    return str(value)


def shows_nothing_found(shown: dict[str, Any]) -> None:
    """No figure, no table of results, no verdict, and no answer in any output."""
    for name in (*(f"plot {name}" for name in PLOTS), *(f"table {name}" for name in RESULTS)):
        assert SHUT.items() <= shown[name].items(), name
    assert shown["headline"] == ""
    assert shown["found"]["visible"] is False
    assert shown["locked"]["visible"]
    said = flat(shown)
    assert COMMENT not in said
    assert not re.search(r"\b(different|equivalent|undecided|e-value|p =|95 %)\b", said.replace("with the gate", ""))


def inert(words: str) -> None:
    """Rendered as Markdown, `words` are text with emphasis of the page's own alone."""
    html = MARKDOWN.render(words)
    assert not re.search(r"<(?!/?(?:p|strong|h3|ul|li|code)>)", html), html


# --- making a study


def test_a_study_is_made_from_the_forms_values_and_shown_with_its_link(page):
    shares: list[float] = []
    title = f"Ours {HOSTILE}"
    shown = make(
        page, lambda share, desc="": shares.append(share), title=f"  {title}  ", open_until="2099-01-31", seed=5.0, own_results=False
    )
    assert shown[0]["said"] == "Checking…"
    assert (shown[0]["create"]["interactive"], shown[0]["stop"]["interactive"]) == (False, True)
    assert shares
    assert all(share is None or 0 <= share < 1 for share in shares)
    (study,) = page.context.studies.list()
    asked = study.manifest
    assert (asked.type, asked.trials, asked.margin, asked.seed, asked.thanks, asked.title) == ("abx", 8, 0.7, 5, False, title)
    assert [config.name for config in asked.configs] == FORM["configs"]
    assert [text.id for text in asked.texts][:2] == FORM["texts"]
    assert study.open_until == datetime(2099, 2, 1, tzinfo=UTC)
    last = shown[-1]
    assert last["link"] == f"http://lab.example/listen?s={study.token}"
    assert last["said"].startswith("**The study is made**: ")
    assert str(len({clip.sha256 for clip in asked.stimuli})) in last["said"]
    ((label, value),) = last["studies"]["choices"]
    assert (value, last["studies"]["value"]) == (study.token, study.token)
    assert "abx · Ours <img" in label
    assert last["body"]["visible"]
    assert len(last["table checks"]["value"]) > 2
    assert set(last["table pairs"]["value"]["text"]) >= set(FORM["texts"])
    inert(last["facts"])
    shows_nothing_found(last)


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_can_be_made_with_the_margin_that_its_form_offers(page, kind):
    offered = None if kind == "staircase" else MARGINS[kind]
    last = make(page, kind=kind, configs=["upstream"] if kind == "staircase" else FORM["configs"], texts=["rice"], margin=offered)[-1]
    assert "The study is made" in last["said"]
    (study,) = page.context.studies.list()
    assert (study.manifest.type, study.manifest.margin) == (kind, MARGINS[kind])
    assert ("margin" in last["facts"]) == (kind != "staircase")


def test_identical_configurations_are_refused_because_there_is_nothing_to_hear(page):
    last = make(page, configs=["upstream-nfe7", "baseline"])[-1]
    assert last["said"].startswith("**No study was made.** ")
    assert "nothing to hear" in last["said"]
    assert page.context.studies.list() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"configs": []}, "at least 1"),
        ({"configs": ["upstream"]}, "takes 2 to 6 configurations"),
        ({"configs": ["upstream", "upstream"]}, "named twice"),
        ({"configs": ["upstream", HOSTILE]}, "There are "),
        ({"configs": ["upstream", "upstream:nfe=x"]}, "whole number"),
        ({"texts": [HOSTILE]}, "Sets are short"),
        ({"texts": ["rice", "rice"]}, "named twice"),
        ({"texts": ["short", "medium", "long"], "kind": "mushra", "margin": 10}, "Choose shorter texts"),
        ({"voice_id": HOSTILE}, "Choose one of it"),
        ({"voice_id": "own:gone"}, "no such voice"),
        ({"trials": 0}, "1 to 200"),
        ({"trials": None}, "whole number"),
        ({"seed": -1}, "from 0 to"),
        ({"seed": 1.5}, "whole number"),
        ({"margin": 0.2}, "between 0.5 and 1"),
        ({"margin": float("nan")}, "has to be a number"),
        ({"open_until": "2001-01-01"}, "Give a time in the future"),
        ({"open_until": HOSTILE}, "Write it as"),
        ({"title": "x" * 121}, "120 is the most"),
        ({"title": f"{HOSTILE}\u202e"}, "Type it again"),
        ({"kind": HOSTILE}, "There are ab, abx"),
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_refused_in_plain_words_that_say_what_to_do(page, change, message):
    shown = make(page, **change)
    said = shown[-1]["said"]
    assert said.startswith("**No study was made.** ")
    assert message in said.replace("\\", "")
    inert(said)
    assert set(shown[-1]) == {"said"}
    assert page.context.studies.list() == []


def of_text(monkeypatch, words):
    monkeypatch.setattr(studies_page, "choose_study_texts", lambda *_: (Text(id="typed", text=words),))


@pytest.mark.parametrize(("words", "message"), [("refuse this", "That cannot be said"), ("now die", "upstream gave no clip")])
def test_what_the_engine_cannot_do_makes_no_study_and_leaves_the_page_usable(page, monkeypatch, words, message):
    with monkeypatch.context() as patch:
        of_text(patch, words)
        said = make(page)[-1]["said"]
    assert said.startswith("**No study was made.** ")
    assert message in said
    assert page.context.studies.list() == []
    assert "The study is made" in make(page, texts=["rice"])[-1]["said"]


def test_stop_in_the_middle_stores_nothing_and_frees_the_engine(page, monkeypatch):
    with monkeypatch.context() as patch:
        of_text(patch, "sleep")
        threading.Timer(0.6, page.stop, [request()]).start()
        began = time.monotonic()
        assert make(page)[-1]["said"] == "**Stopped.** Nothing was stored, and the engine is free again."
        assert time.monotonic() - began < 8
    assert page.context.studies.list() == []
    assert "The study is made" in make(page, texts=["rice"])[-1]["said"]


def test_a_browser_that_goes_away_in_the_middle_stores_nothing(page, monkeypatch):
    with monkeypatch.context() as patch:
        of_text(patch, "sleep")
        job = page.create(*FORM.values(), request(), no_progress)
        next(job)
        assert "sampling" in named(next(job))["said"]
        job.close()
    assert "The study is made" in make(page, texts=["rice"])[-1]["said"]  # so that the engine is free, and the first job over
    assert len(page.context.studies.list()) == 1


def test_a_study_that_is_made_but_cannot_be_shown_is_said_to_be_looked_for_in_the_menu(page, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError(HOSTILE)

    with monkeypatch.context() as patch:
        patch.setattr(studies_page, "gate_frames", broken)
        said = make(page, texts=["rice"])[-1]["said"]
    assert "Not finished" in said
    assert "it is in the menu" in said
    inert(said)
    assert len(page.context.studies.list()) == 1
    assert page.context.jobs.stop("studies tab") is False


def test_stop_without_a_job_gives_the_button_back(page):
    assert page.stop(request())["interactive"] is False
    assert [button["interactive"] for button in page.rest()] == [True, False]


# --- blind until it is over


@pytest.mark.parametrize("kind", TYPES)
def test_an_open_study_shows_the_same_whatever_listeners_answered(page, kind):
    """Nothing of an answer, a figure or a verdict can be in it: what does not change with the answers does not tell them."""
    made, clips = manifest(kind, trials=4, configs=2 if kind == "mushra" else 3, texts=2)
    told = []
    for right in (True, False):
        study = page.context.studies.create(made, clips)
        for name in ("first", "second"):
            listen(page, study, name, right=right, comment=COMMENT if right else "", most=5)
        shown = named(page.show(study.token, request()))
        assert "2 listeners" in shown["facts"]
        assert "10 ratings" in shown["facts"]
        shows_nothing_found(shown)
        shows_nothing_found(named(page.open(request(f"study={study.token}"))))
        page.context.studies.note_peek(study.token)
        again = named(page.show(study.token, request()))  # looked at once does not mean open to all
        shows_nothing_found(again)
        told.append(flat([shown, again]).replace(study.token, "token"))
        page.context.studies.delete(study.token)
    assert told[0] == told[1]


def test_peeking_is_recorded_and_shows_only_what_is_valid_at_any_time(page):
    study = stored(page)
    for name in ("first", "second"):
        listen(page, study, name)
    listen(page, study, "third", most=7)
    before = datetime.now(UTC) - timedelta(seconds=1)
    shown = named(page.peek(study.token, request()))
    peeked = page.context.studies.load(study.token)
    assert before < peeked.peeked_at
    assert peeked.closed_at is None
    document = results(peeked, page.context.studies.sessions(study.token), now=datetime.now(UTC), peek=True).document()
    assert document["decision"] == "anytime"
    assert plain(document["headline"]) in shown["headline"]
    table = shown["table comparisons"]["value"]
    assert {*table["p"], *table["Holm"]} == {""}
    assert all(table["e"])
    assert "anytime-valid 95 % intervals" in flat(shown["plot comparisons"])
    assert "Looked at while open" in shown["facts"]
    assert (shown["locked"]["visible"], shown["peek"]["visible"], shown["close"]["visible"], shown["found"]["visible"]) == (
        False,
        False,
        True,
        True,
    )
    closed = named(page.close(study.token, request()))
    assert set(closed["table comparisons"]["value"]["p"]) == {""}  # for good
    assert "anytime-valid" in closed["headline"]


def test_a_peek_that_comes_after_the_study_was_closed_is_none(page):
    """A page that stood open while somebody else closed the study must not spoil its figures for good."""
    study = stored(page)
    listen(page, study)
    page.context.studies.close(study.token)
    shown = named(page.peek(study.token, request()))
    assert page.context.studies.load(study.token).peeked_at is None
    assert shown["table comparisons"]["value"]["p"][0] != ""
    assert "anytime-valid" not in shown["headline"]


# --- results


HEADINGS = {"95 % interval": "interval", "p": "p_value", "Holm": "p_holm", "e": "e_value", "more": "more_trials"}


def rows_of(table: pd.DataFrame, found: list[dict[str, Any]]) -> None:
    """A table has the document's rows, figure by figure."""
    assert len(table) == len(found)
    for heading in table.columns:
        key = "estimate" if heading == "mean" and "mean" not in found[0] else HEADINGS.get(heading, heading.replace(" ", "_"))
        assert list(table[heading]) == [cell(row[key], key) for row in found], heading


@pytest.mark.parametrize("kind", TYPES)
def test_closing_shows_the_verdict_and_the_tables_of_the_results_document(page, kind):
    study = stored(page, kind, trials=8, configs=2 if kind == "mushra" else 3)
    for number, right in enumerate((True, True, False)):
        listen(page, study, f"listener-{number}", right=right)
    listen(page, study, "unfinished", most=3)
    shown = named(page.close(study.token, request()))
    closed = page.context.studies.load(study.token)
    assert closed.closed_at is not None
    document = results(closed, page.context.studies.sessions(study.token), now=datetime.now(UTC)).document()
    compared = [*document["comparisons"], *([document["yardstick"]] if document["yardstick"] else [])]
    assert plain(document["headline"]) in shown["headline"]
    assert all(plain(row["sentence"]) in shown["headline"] for row in compared)
    assert f"Ratings that count: {document['ratings']}, " in shown["headline"]
    inert(shown["headline"])
    assert "closed" in shown["facts"]
    assert "closed" in shown["studies"]["choices"][0][0]
    tables = {name: shown[f"table {name}"]["value"] for name in RESULTS}
    rows_of(tables["comparisons"], compared)
    rows_of(tables["per_listener"], document["per_listener"])
    for name in ("systems", "per_text"):
        rows_of(pd.DataFrame() if tables[name] is None else tables[name], document[name])
    if kind == "ab":
        rows_of(tables["bradley_terry"], document["bradley_terry"]["systems"])
    if kind == "staircase":
        rows_of(tables["tracks"], document["staircase"]["tracks"])
    ledger = Counter((row["status"], row["reason"]) for row in document["ledger"])
    assert {(row["status"], row["reason"]): row["entries"] for _, row in tables["ledger"].iterrows()} == ledger
    drawn = {name for name in PLOTS if shown[f"plot {name}"]["value"] is not None}
    rated = {"ratings"} if kind in ("acr", "ccr", "mushra") else set()
    assert drawn == ({"staircase"} if kind == "staircase" else {"comparisons", "evidence", "listeners"} | rated)
    assert all(shown[f"plot {name}"]["value"].data for name in drawn)
    for name, update in shown.items():
        if name.startswith(("plot ", "table ")):
            assert update["visible"] is (update["value"] is not None)
    assert (shown["locked"]["visible"], shown["peek"]["visible"], shown["close"]["visible"]) == (False, False, False)


@pytest.mark.parametrize("kind", TYPES)
def test_a_study_that_is_closed_without_an_answer_says_so(page, kind):
    shown = named(page.close(stored(page, kind, texts=2).token, request()))
    assert "No answer yet." in shown["headline"]
    assert not any(shown[f"plot {name}"]["visible"] for name in PLOTS)


def test_a_listener_who_only_practised_is_said_not_to_count(page):
    study = stored(page)
    listen(page, study, most=1)
    assert "No answer counts" in named(page.close(study.token, request()))["headline"]


def test_a_study_whose_time_is_over_is_closed_without_anybody_closing_it(page, monkeypatch):
    made, clips = manifest()
    study = page.context.studies.create(made, clips, datetime.now(UTC) + timedelta(hours=1))
    shows_nothing_found(named(page.show(study.token, request())))

    class Later(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + timedelta(hours=2)

    monkeypatch.setattr(studies_page, "datetime", Later)
    shown = named(page.show(study.token, request()))
    assert "No answer yet." in shown["headline"]
    assert shown["close"]["visible"] is False


def test_a_plot_that_fails_leaves_the_verdict_and_the_tables(page, monkeypatch):
    study = stored(page)
    listen(page, study)
    monkeypatch.setattr("lab.listening.plots.figures", lambda *_: 1 / 0)
    shown = named(page.close(study.token, request()))
    assert shown["headline"].startswith("### ")
    assert shown["plot comparisons"]["visible"] is False
    assert len(shown["table comparisons"]["value"]) == 2


# --- which study


def test_without_a_link_the_newest_study_is_shown_and_a_link_opens_its_own(page):
    older, newer = stored(page), stored(page, "ab")
    shown = named(page.open(request()))
    assert shown["studies"]["value"] == newer.token
    assert [value for _, value in shown["studies"]["choices"]] == [newer.token, older.token]
    linked = named(page.open(request(f"study={older.token}")))
    assert (linked["studies"]["value"], linked["link"]) == (older.token, f"http://lab.example/listen?s={older.token}")
    assert older.manifest_sha256[:16] in linked["facts"]


def test_an_empty_lab_says_how_to_begin(page):
    shown = named(page.open(request()))
    assert "No study yet" in shown["said"]
    assert shown["body"]["visible"] is False


@pytest.mark.parametrize("token", ["gone", "x" * 22, HOSTILE.replace("&", "").replace("=", ""), "\ud800", "../../etc/passwd", "0"])
def test_a_stale_link_says_so_and_offers_what_there_is(page, token):
    study = stored(page)
    shown = named(page.open(request(f"study={token}")))
    assert "no study under this link" in shown["said"]
    assert shown["body"]["visible"] is False
    assert (shown["studies"]["value"], shown["studies"]["choices"][0][1]) == (None, study.token)


def test_a_study_that_was_deleted_meanwhile_is_said_to_be_gone_whatever_is_pressed(page):
    study, token = stored(page), "x" * 22
    for press in (page.show, page.peek, page.close, lambda token, _: page.delete(token, token)):
        shown = named(press(token, request()))
        assert "no such study any more" in shown["said"]
        assert shown["body"]["visible"] is False
        assert shown["studies"]["choices"][0][1] == study.token
    with pytest.raises(gr.Error, match="no such study"):
        page.export(token, request())


# --- deleting


def test_deleting_asks_twice(context):
    """The first button only shows the second, which alone deletes."""
    app = build_app(context)
    by_id = {block.elem_id: block for block in app.blocks.values() if getattr(block, "elem_id", None)}
    first, second = by_id["studies-delete"], by_id["studies-really"]
    assert (first.visible, second.visible) == (True, False)
    clicks = {button: [fn for fn in app.fns.values() if (button._id, "click") in fn.targets] for button in (first, second)}
    (asks,), (does,) = clicks[first], clicks[second]
    assert [update.get("visible") if isinstance(update, dict) else update for update in asks.fn("token")] == [False, True, "token"]
    assert asks.outputs[:2] == [first, second]
    assert does.inputs == [by_id["studies-menu"], asks.outputs[2]]
    assert does.name == "delete"
    assert sum(fn.name == "delete" for fn in app.fns.values()) == 1


def test_a_study_that_was_altered_by_hand_is_named_and_the_others_are_shown(page):
    whole, broken = stored(page), stored(page, "ab")
    with page.context.store.database.write() as connection:
        connection.execute(sa.text("update studies set manifest = '{}' where token = :token"), {"token": broken.token})
    try:
        for query in ("", f"study={whole.token}"):
            shown = named(page.open(request(query)))
            assert f"manifest of study {plain(broken.token)} was altered" in shown["said"]
            assert "A study of engines cannot be shown" in shown["said"]
            assert shown["body"]["visible"] is True
            assert [value for _, value in shown["studies"]["choices"]] == [shown["studies"]["value"]] == [whole.token]
        shown = named(page.open(request(f"study={broken.token}")))
        assert shown["said"].startswith("**A study of engines cannot be shown.**")
        assert shown["body"]["visible"] is False
        assert "was altered" in named(page.show(broken.token, request()))["said"]
    finally:
        page.context.studies.delete(broken.token)
    assert named(page.open(request()))["said"] == ""


def test_a_deleted_study_is_gone_with_its_answers_and_audio(page):
    study, other = stored(page), stored(page, "ab", texts=1)
    listen(page, study, comment=COMMENT)
    hash_of = study.manifest.stimuli[-1].sha256
    folder = page.context.store.data_dir
    assert list(folder.rglob(f"*{hash_of}*"))
    shown = named(page.delete(study.token, study.token))
    assert "deleted" in shown["said"]
    assert shown["body"]["visible"] is False
    assert [value for _, value in shown["studies"]["choices"]] == [other.token]
    assert "no such study" in named(page.show(study.token, request()))["said"]
    with page.context.store.database.read() as connection:
        for table in ("sessions", "trials", "ratings"):
            assert connection.scalar(sa.text(f"select count(*) from {table}")) == 0, table
        assert connection.scalar(sa.text("select count(*) from blobs where sha256 = :hash"), {"hash": hash_of}) == 0
    assert not list(folder.rglob(f"*{hash_of}*"))


def test_only_the_study_that_was_asked_about_is_deleted(page):
    asked, chosen = stored(page), stored(page)
    shown = named(page.delete(chosen.token, asked.token))
    assert "Nothing was deleted" in shown["said"]
    assert (shown["delete"]["visible"], shown["really"]["visible"]) == (True, False)
    assert len(page.context.studies.list()) == 2


def test_another_study_in_the_menu_takes_the_question_back(page):
    shown = named(page.show(stored(page).token, request()))
    assert (shown["delete"]["visible"], shown["really"]["visible"]) == (True, False)


# --- exporting


def test_the_answers_of_an_open_study_are_not_handed_out(page):
    study = stored(page)
    listen(page, study)
    with pytest.raises(gr.Error, match="locked while the study is open"):
        page.export(study.token, request())
    assert page.context.studies.load(study.token).peeked_at is None


def test_a_closed_study_is_exported_as_csv_and_json(page):
    study = stored(page)
    listen(page, study, comment=f"={COMMENT}")
    page.close(study.token, request())
    update = page.export(study.token, request())
    assert update["visible"]
    table, document = map(Path, update["value"])
    assert (table.suffix, document.suffix) == (".csv", ".json")
    ratings = sum(trial.rating is not None for trial in page.context.studies.sessions(study.token)[0].trials)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == ratings > 8
    assert {row["comment"] for row in rows} == {f"'={COMMENT}"}
    read = json.loads(document.read_text())
    assert (read["study"], read["manifest_sha256"], len(read["ratings"])) == (study.token, study.manifest_sha256, ratings)
    assert read["manifest"]["configs"][0]["name"] == NAMES[0]


# --- what a browser could forge


scalars = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(),
    some.sampled_from([10**400, -(10**400), 2**63, float("nan"), float("inf"), -float("inf"), "\ud800", "\0", HOSTILE]),
    some.floats(),
    some.text(max_size=20),
)
anything = some.recursive(
    scalars, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=3), inner, max_size=2), max_leaves=5
)
quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def unrendered(page, monkeypatch):
    """The page as far as rendering: an order that passes every check ends in words of its own."""

    def checked(order, pool, _studies, voice, **_):
        check_order(order, voice, pool.weights, pool.device)
        for text in order.texts:
            make_request(pool, text.text, voice, order.seed)
        raise StudyError("It would be rendered now.")

    monkeypatch.setattr(studies_page, "create_study", checked)
    return page


@given(some.dictionaries(some.sampled_from([*FORM]), anything, min_size=1))
@example({"trials": 10**5000})
@example({"margin": 10**400})
@example({"texts": "rice"})
@example({"configs": {"upstream": 1}})
@quick
def test_a_forged_form_gets_a_message_and_nothing_else(unrendered, forged):
    said = make(unrendered, **forged)[-1]["said"]
    assert said.startswith("**No study was made.** ")
    assert not re.search(r"\b\w+Error: ", said), said
    inert(said)


@given(anything)
@quick
def test_a_forged_token_gets_a_message_and_changes_nothing(page, token):
    if not page.context.studies.list():
        stored(page, texts=1)
    for press in (page.show, page.peek, page.close, lambda token, _: page.delete(token, token)):
        shown = named(press(token, request()))
        assert set(shown) <= {"said", "studies", "body", "delete", "really"}
    with pytest.raises(gr.Error, match="no such study"):
        page.export(token, request())
    (study,) = page.context.studies.list()
    assert (study.peeked_at, study.closed_at) == (None, None)
