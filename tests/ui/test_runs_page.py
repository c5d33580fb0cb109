"""The Runs page without a browser: what it chooses, says, exports and stores, and what a hostile file or link gets."""

import io
import json
import zipfile
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from lab.bench.record import VERSION, Run
from lab.bench.run_files import read_run, write_run
from lab.errors import LabError
from lab.ui import run_export, run_tables
from lab.ui.app import build_app
from lab.ui.run_selection import Selection, from_controls, from_query, resolve
from lab.ui.run_shelf import MOST_SHOWN, read_upload, take_from_shelf
from lab.ui.runs_page import HEADINGS, OUTPUTS, PARTS, TABS, RunsPage, link_of
from tests import fakes
from tests.runs import machine, synthetic_run

HOSTILE = "<img src=x onerror=alert(1)> [x](javascript:alert(2)) ${3} `4` \u202e|"
CARD = machine("NVIDIA H100 80GB HBM3", "cuda")
OTHER = machine("Jetson AGX Orin", "cuda")


def renamed(run: Run, name: str, days: float = 0, **changes) -> Run:
    return run.model_copy(update={"id": name, "created": run.created + timedelta(days=days), **changes})


RUN = synthetic_run("baseline,fp16-vocoder,optimized", rounds=8, on=CARD, times={"baseline": 50, "fp16-vocoder": 50, "optimized": 40})
SHORT = synthetic_run("baseline,compile", "short", rounds=8, on=OTHER, weights="random")
STORED = {
    "new-h100": renamed(RUN, "new-h100"),
    "old-h100": renamed(RUN, "old-h100", -2),
    "orin": renamed(SHORT, "orin", -1),
    "cpu": renamed(synthetic_run(rounds=3, state="interrupted"), "cpu", -3),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("LAB_RUNS_DIR", str(folder))
    return folder


@pytest.fixture
def stored(folder):
    for run in STORED.values():
        write_run(run, folder)
    return folder


@pytest.fixture
def page(tmp_path):
    made = tmp_path / "downloads"

    def new_folder() -> Path:
        made.mkdir(exist_ok=True)
        place = made / str(len(list(made.iterdir())))
        place.mkdir()
        return place

    return RunsPage(SimpleNamespace(new_folder=new_folder))


def request(query: str = "") -> SimpleNamespace:
    return SimpleNamespace(headers={"origin": "http://lab.example"}, query_params=QueryParams(query))


def _skipped(value) -> bool:
    return isinstance(value, dict) and value == gr.skip()


def final(outputs) -> dict:
    """What the page shows in the end, by output; what was never touched is missing."""
    shown: dict = {}
    for values in outputs:
        shown |= {name: value for name, value in zip(OUTPUTS, values, strict=True) if not _skipped(value)}
    return shown


def opened(page, query: str = "") -> dict:
    return final(page.open([], request(query)))


def chosen(shown: dict) -> list[str]:
    return shown["runs"]["value"]


# --- which runs


def test_the_latest_run_of_each_machine_is_shown_first(stored, page):
    shown = opened(page)
    assert chosen(shown) == ["new-h100", "orin", "cpu"]
    assert [value for _, value in shown["runs"]["choices"]] == ["new-h100", "orin", "old-h100", "cpu"]
    assert shown["body"]["visible"]
    assert "**A · NVIDIA H100 80GB HBM3**" in shown["words"]


def test_the_words_say_verdicts_what_was_left_out_and_what_was_interrupted(stored, page):
    run = STORED["new-h100"]
    invalid = run.samples.model_copy(update={"invalid": {20: ["silent"], 21: ["silent"]}})
    write_run(renamed(run, "newest", 1, samples=invalid), stored)
    words = opened(page)["words"]
    assert "Against baseline: **faster**: optimized by " in words
    assert "fp16-vocoder" in words
    assert "A/A: " in words
    assert "**2 left out** (silent)" in words
    assert "**Interrupted**: stopped." in words


def test_a_run_whose_aa_arm_fails_is_marked_in_bold(folder, page):
    write_run(renamed(synthetic_run(rounds=12, aa_shift=0.2, noise=0.01), "broken"), folder)
    assert f"**{run_tables.AA_FAILED}**" in opened(page)["words"]


def test_a_run_whose_engines_were_started_apart_is_marked_in_bold(folder, page):
    starts = [start.model_copy(update={"together": 1 if 0 in start.arms else 2}) for start in RUN.starts]
    write_run(renamed(RUN, "apart", starts=starts), folder)
    words = opened(page)["words"]
    assert "**Started otherwise than the reference" in words
    assert "nothing is decided: fp16-vocoder, optimized.**" in words


def test_an_empty_folder_gets_the_command_that_makes_a_run(folder, page):
    shown = opened(page)
    assert "`python -m lab bench`" in shown["words"]
    assert shown["body"]["visible"] is False
    folder.rmdir()
    assert "`python -m lab bench`" in opened(page)["words"]


def test_a_damaged_file_is_named_with_its_reason_and_the_others_are_shown(stored, page):
    (stored / "half.json").write_text('{"version": 1')
    (stored / "later.json").write_text(json.dumps({"version": VERSION + 1}))
    (stored / f"{'<b>x' * 3}.json").write_text("[]")
    shown = opened(page)
    assert "half.json is damaged or half written" in shown["words"]
    assert "later.json has version" in shown["words"]
    assert "<b>" not in shown["words"]
    assert chosen(shown) == ["new-h100", "orin", "cpu"]


def test_a_run_that_disappears_while_it_is_looked_at_is_said(stored, page, monkeypatch):
    listing = take_from_shelf(page.views, Selection(), []).listing
    (stored / "orin.json").unlink()
    monkeypatch.setattr("lab.ui.run_shelf.list_runs", lambda: listing)
    shown = opened(page)
    assert "orin is not shown" in shown["words"]
    assert "Jetson" not in shown["words"]


def test_what_nobody_thought_of_in_one_part_leaves_the_others(stored, page, monkeypatch):
    def broken(*_args, **_settings):
        raise ZeroDivisionError

    monkeypatch.setattr("lab.run_plots.forest", broken)
    shown = opened(page)
    assert shown["forest"] is None
    assert len(shown["pairs"]) > 3
    assert "Faster or slower: could not be made" in shown["words"]


def test_a_listing_that_fails_is_said(stored, page, monkeypatch):
    def broken():
        raise LabError("The disk is <gone>.")

    monkeypatch.setattr("lab.ui.run_shelf.list_runs", broken)
    shown = opened(page)
    assert "The disk is &lt;gone&gt;." in shown["words"]
    assert shown["body"]["visible"] is False


def test_more_runs_than_can_be_shown_are_said(folder, page):
    for number in range(MOST_SHOWN + 2):
        write_run(renamed(SHORT, f"run-{number}", -number), folder)
    everything = Selection(runs=tuple(f"run-{number}" for number in range(MOST_SHOWN + 2)))
    shelf = take_from_shelf(page.views, everything, [])
    assert len(shelf.shown) == MOST_SHOWN
    assert f"{MOST_SHOWN + 2} runs are chosen; the first {MOST_SHOWN} are shown" in shelf.troubles[0]
    assert [run.title.split(" ")[0] for run in shelf.shown] == list("ABCDEFGHIJKL")


# --- filters


def test_a_filter_narrows_the_runs_that_are_offered_and_what_is_shown_of_them(stored, page):
    shown = final(page.choose(Selection(configs=("optimized",)), [], request()))
    assert [value for _, value in shown["runs"]["choices"]] == ["new-h100", "old-h100", "cpu"]
    assert set(shown["pairs"]["Configuration"]) == {"optimized", "baseline (A/A)"}
    speed = final(page.choose(Selection(configs=("optimized",), tab="speed"), [], request()))
    assert set(speed["percentiles"]["Configuration"]) == {"optimized"}
    assert {trace.name for trace in speed["distributions"].data} == {"optimized"}


def test_filters_of_card_texts_and_weights(stored, page):
    assert chosen(opened(page, "card=Jetson+AGX+Orin")) == ["orin"]
    assert chosen(opened(page, "weights=random")) == ["orin"]
    shown = opened(page, "texts=medium")
    assert chosen(shown) == ["new-h100", "cpu"]
    assert set(shown["pairs"]["Texts"]) == {"medium"}


def test_a_chosen_run_that_a_filter_hides_is_said_and_another_is_shown(stored, page):
    shown = final(page.choose(Selection(runs=("orin",), weights=("demo",)), [], request()))
    assert chosen(shown) == ["new-h100", "cpu"]
    assert "A chosen run is hidden by the filters." in shown["words"]
    assert "Shown instead" in shown["words"]


def test_filters_that_nothing_passes_are_said(stored, page):
    shown = final(page.choose(Selection(cards=("Jetson AGX Orin",), weights=("demo",)), [], request()))
    assert "No run passes all the filters." in shown["words"]
    assert shown["body"]["visible"] is False


def test_the_reference_can_be_chosen_and_each_run_keeps_its_own_otherwise(stored, page):
    shown = opened(page, "run=new-h100&run=orin&reference=optimized")
    assert set(shown["pairs"]["Against"][shown["pairs"]["Run"] == "A"]) == {"optimized", "baseline"}  # the A/A arm keeps its own
    assert set(shown["pairs"]["Against"][shown["pairs"]["Run"] == "B"]) == {"baseline"}


# --- tabs


def test_only_the_open_tab_is_computed_and_the_others_are_emptied(stored, page):
    shown = opened(page, "tab=costs")
    assert shown["tabs"]["selected"] == "costs"
    assert {name for name in PARTS if shown[name] is not None} == set(TABS["costs"])


@pytest.mark.parametrize("tab", TABS)
def test_a_tab_that_is_opened_is_filled(stored, page, tab):
    link, _, *parts = page.look(Selection(runs=("new-h100",), tab=tab), [], request())
    assert from_query(QueryParams(link.split("?")[1]).multi_items()).tab == tab
    filled = {name: part for name, part in zip(PARTS, parts, strict=True) if not _skipped(part)}
    assert set(filled) == set(TABS[tab])
    assert all(len(part) if isinstance(part, pd.DataFrame) else part.data for part in filled.values())


def test_the_distributions_and_the_environment_can_be_made_again_alone(stored, page):
    link, said, figure = page.again("distributions", Selection(kind="ecdf"), [], request())
    assert figure.data[0].line.shape == "hv"
    assert ("kind=ecdf" in link, said) == (True, "verdict ecdf false")
    link, said, table = page.again("environment", Selection(differences=True), [], request())
    assert set(table["Differs"]) == {"≠"}
    assert ("differences=1" in link, said) == (True, "verdict violin true")


# --- tables


def test_the_percentile_table_has_every_figure_with_its_interval(stored, page):
    table = opened(page, "run=new-h100&tab=speed")["percentiles"]
    assert list(table.columns) == [*("Configuration", "Texts", "n", "Mean (95 %)", "Median", "Min", "Max", "SD", "CV", "p90", "p95", "p99")]
    row = table[(table["Configuration"] == "baseline") & (table["Texts"] == "all")].iloc[0]
    assert row["n"] == "32"
    assert row["p99"].count("(") == 1
    assert row["CV"].endswith("%")
    assert set(table["Texts"]) == {"all", "short", "medium"}


def test_environments_stand_side_by_side_with_the_differences_first(stored, page):
    table = opened(page, "run=new-h100&run=cpu&tab=environment")["environment"]
    assert list(table.columns) == ["Differs", "Fact", "A · NVIDIA H100 80GB HBM3", "B · a CPU"]
    marks = list(table["Differs"])
    assert marks[0] == "≠"
    assert "" in marks
    assert "≠" not in marks[marks.index("") :]
    alone = opened(page, "run=cpu&tab=environment")["environment"]
    assert list(alone.columns) == ["Fact", "a CPU"]


def test_tables_hold_plain_strings_in_one_line(stored, page):
    for tab in TABS:
        for part in page.look(Selection(tab=tab), [], request())[2:]:
            if isinstance(part, pd.DataFrame):
                assert all(isinstance(cell, str) and "\n" not in cell for cell in part.to_numpy().ravel())


# --- permalinks


words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30)
several = st.lists(words, max_size=4, unique=True).map(tuple)


@given(
    st.builds(
        Selection,
        runs=several,
        configs=several,
        cards=several,
        texts=several,
        weights=several,
        reference=st.one_of(st.just(""), words),
        kind=st.sampled_from(["violin", "box", "ecdf"]),
        differences=st.booleans(),
        tab=st.sampled_from(list(TABS)),
    )
)
def test_a_link_says_the_selection_again(selection):
    link = link_of(selection, request())
    assert link.isascii()
    again = from_query(QueryParams(link.split("?", 1)[1]).multi_items())
    stored = tuple(run for run in selection.runs if not run.startswith("upload:"))
    assert again == Selection(**{**selection.__dict__, "runs": stored})


@given(
    st.lists(
        st.tuples(st.one_of(st.sampled_from(["run", "card", "kind", "tab", "reference", "differences"]), words), st.text(max_size=300))
    )
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_link_gives_a_page(stored, page, pairs):
    there = resolve(from_query(pairs), take_from_shelf(page.views, Selection(), []).there.offered)
    assert there.chosen
    assert set(there.selection.runs) <= set(STORED)


def test_a_link_to_runs_that_are_not_here_says_so_and_shows_others(stored, page):
    shown = opened(page, f"run=gone&run={HOSTILE}&config=nothing&reference=none&kind=pie&tab=<b>")
    assert chosen(shown) == ["new-h100", "orin", "cpu"]
    assert "There is no run “gone” here." in shown["words"]
    assert "No run here has a configuration “nothing”" in shown["words"]
    assert "to compare with" in shown["words"]
    assert "<img" not in shown["words"]
    assert "](javascript" not in shown["words"]
    assert shown["kind"] == "violin"


def test_a_link_with_some_runs_shows_those(stored, page):
    shown = opened(page, "run=cpu&run=old-h100")
    assert chosen(shown) == ["cpu", "old-h100"]
    assert shown["link"] == "http://lab.example/runs?run=cpu&run=old-h100"
    assert "old-h100" not in shown["words"] or "There is no run" not in shown["words"]


@pytest.mark.parametrize(
    "values", [{}, {"runs": None, "kind": 3, "tab": []}, {"runs": "new-h100", "cards": [1, None, {}]}, {"differences": "yes"}]
)
def test_nonsense_from_a_browser_is_left_out(values):
    assert from_controls(values) == Selection()


# --- uploads


@pytest.fixture
def upload(tmp_path):
    def make(content: bytes | Run, name: str = "other.json") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.model_dump_json().encode())
        return str(path)

    return make


def test_an_uploaded_run_is_shown_beside_the_others_and_not_stored(stored, page, upload):
    path = upload(renamed(RUN, "from-elsewhere"))
    before = sorted(stored.iterdir())
    shown = final(page.take(path, Selection(runs=("orin",)), [], request()))
    assert "from-elsewhere is shown, and not stored" in shown["said"]
    assert chosen(shown)[0] == "orin"
    assert chosen(shown)[1].startswith("upload:")
    assert "B · not stored: NVIDIA H100 80GB HBM3" in shown["words"]
    assert next(label for label, value in shown["runs"]["choices"] if value.startswith("upload:")).startswith("not stored: ")
    assert "upload" not in shown["link"]
    assert sorted(stored.iterdir()) == before
    assert not Path(path).exists()
    assert len(shown["uploads"]) == 1
    assert shown["keep"]["interactive"]


def test_an_uploaded_run_is_stored_when_asked_and_then_like_any_other(stored, page, upload):
    shown = final(page.take(upload(renamed(RUN, "from-elsewhere")), Selection(runs=("orin",)), [], request()))
    kept = final(page.keep(Selection(runs=tuple(chosen(shown))), shown["uploads"], request()))
    assert "Stored as from-elsewhere.json." in kept["said"].replace("\\", "")
    assert read_run(stored / "from-elsewhere.json") == renamed(RUN, "from-elsewhere")
    assert chosen(kept) == ["orin", "from-elsewhere"]
    assert kept["uploads"] == []
    assert not kept["keep"]["interactive"]
    assert "from-elsewhere" in kept["link"]


def test_keeping_never_overwrites_a_stored_run(stored, page, upload):
    before = (stored / "orin.json").read_bytes()
    shown = final(page.take(upload(renamed(RUN, "orin")), Selection(), [], request()))
    assert "A run of this name is stored here." in shown["said"]
    kept = final(page.keep(Selection(runs=tuple(chosen(shown))), shown["uploads"], request()))
    assert "**Not stored:**" in kept["said"]
    assert len(kept["uploads"]) == 1
    assert (stored / "orin.json").read_bytes() == before


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_run_from_the_edge_of_the_calendar_is_shown(stored, page, upload, created):
    whole = json.loads(renamed(RUN, "edge").model_dump_json()) | {"created": created}
    shown = final(page.take(upload(json.dumps(whole).encode()), Selection(), [], request()))
    assert "edge is shown" in shown["said"]
    assert len(shown["forest"].data) > 0


def test_only_the_chosen_uploads_are_kept(stored, page, upload):
    first = final(page.take(upload(renamed(RUN, "first")), Selection(), [], request()))
    second = final(page.take(upload(renamed(RUN, "second")), Selection(), first["uploads"], request()))
    assert len(second["uploads"]) == 2
    kept = final(page.keep(Selection(runs=tuple(chosen(second))), second["uploads"], request()))
    assert (stored / "second.json").exists()
    assert not (stored / "first.json").exists()
    assert [item.run.id for item in kept["uploads"]] == ["first"]


def test_keeping_nothing_says_so(stored, page):
    assert final(page.keep(Selection(), [], request()))["said"] == "There is nothing to store."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or half written"),
        (b"\x00\xff" * 100, "damaged or half written"),
        (b"[" * 200_000, "damaged or half written"),
        (b"{}", "no run of this lab"),
        (json.dumps({"version": VERSION + 7}).encode(), "made by a newer lab"),
        (json.dumps({"version": VERSION, "id": HOSTILE}).encode(), "is damaged"),
        (RUN.model_dump_json().replace('"+00:00"', '""').replace("Z", "").encode(), "timezone"),
    ],
)
def test_a_file_that_is_no_run_is_refused_in_plain_words(stored, page, upload, content, message):
    shown = final(page.take(upload(content, "<b>x.json"), Selection(), [], request()))
    assert shown["said"].startswith("**Not shown.**")
    assert message in shown["said"]
    assert "<b>" not in shown["said"]
    assert set(shown) == {"said", "file"}


def test_a_run_too_large_to_be_looked_at_is_refused(upload):
    whole = json.loads(RUN.model_dump_json())
    whole["arms"] = [{**whole["arms"][0], "label": f"arm {number}"} for number in range(100)]
    with pytest.raises(LabError, match="100 arms"):
        read_upload(Path(upload(json.dumps(whole).encode())), "large.json")


def test_the_strings_of_an_uploaded_run_stay_inert_everywhere(folder, page, upload):
    whole = json.loads(renamed(RUN, "hostile").model_dump_json())
    for arm in whole["arms"]:
        arm["label"] = arm["config"] = f"{HOSTILE}{arm['label']}"
    for text in whole["texts"]:
        text["set"] = f"{HOSTILE}{text['set']}"
    for device in whole["devices"]:
        device.update(device=HOSTILE, cpu=HOSTILE, variables={HOSTILE: "=cmd|' /C calc'!A0"})
    whole.update(state="interrupted", reason=HOSTILE, command=HOSTILE)
    whole["weights"]["name"] = f"/home/me/{HOSTILE}"
    whole["samples"]["invalid"] = {"20": [HOSTILE]}
    shown = final(page.take(upload(json.dumps(whole).encode()), Selection(), [], request()))
    assert "Against" in shown["words"]
    for text in (shown["words"], shown["said"], *(note.text for note in shown["forest"].layout.annotations)):
        assert "<img" not in text
    assert "](" not in shown["words"]
    uploads = shown["uploads"]
    for tab in TABS:
        for part in page.look(Selection(runs=tuple(chosen(shown)), tab=tab), uploads, request())[2:]:
            if isinstance(part, go.Figure):
                assert "<img" not in part.to_json().replace("\\u003c", "<").replace("&lt;img", "")
    files, _ = page.export([kind for _, kind in run_export.KINDS], Selection(runs=tuple(chosen(shown))), uploads, request())
    html = next(Path(path) for path in files["value"] if path.endswith("html")).read_text()
    assert "<img src=x" not in html
    environment = next(Path(path) for path in files["value"] if path.endswith("environment.csv")).read_text()
    assert "'=cmd" in environment


# --- exports


def test_everything_can_be_exported_and_read_back(stored, page):
    selection = Selection(runs=("new-h100", "orin"))
    files, told = page.export([kind for _, kind in run_export.KINDS], selection, [], request())
    paths = {Path(path).name: Path(path) for path in files["value"]}
    assert told == "Made from 2 runs."
    assert paths["new-h100.json"].read_bytes() == (stored / "new-h100.json").read_bytes()
    csv, parquet = pd.read_csv(paths["samples.csv"]), pd.read_parquet(paths["samples.parquet"])
    assert list(csv.columns) == list(parquet.columns)
    assert len(csv) == len(parquet) == len(RUN.samples) + len(SHORT.samples)
    pairs = pd.read_csv(paths["pairs.csv"])
    assert set(pairs["Run"]) == {"new-h100", "orin"}
    assert {"percentiles.csv", "fits.csv", "first-calls.csv", "environment.csv"} <= set(paths)
    page_of_figures = paths["figures.html"].read_text(encoding="utf-8")
    assert all(f"<h2>{heading}</h2>" in page_of_figures for heading in HEADINGS.values())
    assert page_of_figures.count("Plotly.newPlot") >= len(HEADINGS)
    assert 'src="https://cdn' not in page_of_figures


def test_many_runs_come_in_one_archive(folder, page):
    runs = [renamed(SHORT, f"run-{number}", -number) for number in range(6)]
    for run in runs:
        write_run(run, folder)
    files, _ = page.export(["runs", "csv"], Selection(runs=tuple(run.id for run in runs)), [], request())
    archive, samples = files["value"]
    with zipfile.ZipFile(archive) as file:
        assert sorted(file.namelist()) == [f"stored/run-{number}.json" for number in range(6)]
        assert file.read("stored/run-0.json") == (folder / "run-0.json").read_bytes()
    assert len(pd.read_csv(samples)) == 6 * len(SHORT.samples)


def test_an_export_of_an_uploaded_run_is_the_run(stored, page, upload):
    shown = final(page.take(upload(renamed(RUN, "from-elsewhere")), Selection(runs=("orin",)), [], request()))
    files, _ = page.export(["runs", "parquet"], Selection(runs=tuple(chosen(shown))), shown["uploads"], request())
    paths = {Path(path).name: path for path in files["value"]}
    assert read_run(Path(paths["from-elsewhere.json"])) == renamed(RUN, "from-elsewhere")
    table = pd.read_parquet(io.BytesIO(Path(paths["samples.parquet"]).read_bytes()))
    assert set(table["run"]) == {"orin", "from-elsewhere"}
    assert "rtf" in table.columns


@pytest.mark.parametrize(("kinds", "message"), [([], "Choose what"), (["nonsense"], "Choose what")])
def test_an_export_of_nothing_says_so(stored, page, kinds, message):
    files, told = page.export(kinds, Selection(), [], request())
    assert files["value"] is None
    assert message in told


# --- the app


def test_the_app_has_its_pages_in_its_navigation(tmp_path):
    with fakes.lab_context(tmp_path) as context:
        app = build_app(context)
        assert [(path, name) for path, name, _ in app.pages] == [("", "Home"), ("runs", "Runs"), ("studies", "Studies")]
        navbars = [block for block in app.blocks.values() if type(block).__name__ == "Navbar"]
        assert [(bar.page, bar.main_page_name) for bar in navbars] == [("", "Compare"), ("runs", "Compare"), ("studies", "Compare")]
        pages = {block.elem_id: block.page for block in app.blocks.values() if getattr(block, "elem_id", None)}
        assert pages["lab-generate"] == ""
        assert pages["runs-forest"] == "runs"
