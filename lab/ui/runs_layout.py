"""Where things are on the Runs page, and which event does what. The behaviour is `runs_page`'s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from lab.ui import run_export
from lab.ui.context import Context
from lab.ui.run_selection import Tab, from_controls
from lab.ui.runs_page import CONTROLS, HEADINGS, OUTPUTS, PARTS, TABS, RunsPage

#: Put the link into the address bar, so that reloading, bookmarking and copying it keep the selection; the choice of a theme stays.
_ADDRESS = """(link) => {
    const next = new URL(link), theme = new URLSearchParams(location.search).get("__theme");
    if (theme) next.searchParams.set("__theme", theme);
    history.replaceState(history.state, "", location.pathname + next.search);
}"""
#: A tab was opened: say which, and that it has to be filled; not when the page itself has opened it, and fills it already.
_OPENED = """(tab, opened) => tab === "TAB" ? [tab, opened] : ["TAB", `TAB ${Date.now()}`]"""
#: An answer has come: if meanwhile another tab was opened, or another way of drawing chosen, what it brought is not what is to be seen.
_CAUGHT_UP = """(tab, kind, differences, filled, opened) =>
    filled === `${tab} ${kind} ${Boolean(differences)}` ? opened : `${tab} ${Date.now()}`"""
_ABOUT = {
    "forest": "Median ratio of paired times with its 95 % interval: left of 1 is faster, and inside the grey band (±2 %) a difference does not"
    " matter. Hollow: the reference against itself in another process (A/A), which is what the harness adds.",
    "distributions": "Every sample that counts. The targets are those that the project set itself.",
    "stages": "Mean of the samples that count.",
    "lengths": "Where a line meets 0 s is what an utterance costs whatever its length.",
    "timeline": "Nothing is left out here: warm-ups are hollow, and what does not count is crossed.",
    "memory": "Highest of the run: allocated on a card, resident on a processor.",
    "first_calls": "Starting the process and the first utterance in it, against the same text when warm.",
}
_RTF = "Seconds of work for a second of speech: lower is faster. Intervals (95 %) resample blocks."
_TITLES: dict[Tab, str] = {"verdict": "Verdict", "speed": "Speed", "costs": "Costs", "timeline": "Timeline", "environment": "Environment"}


def build(app: gr.Blocks, context: Context) -> None:
    """Lay the page out inside `app`, which is the current Blocks, and wire its events."""
    page = RunsPage(context)
    gr.Markdown("# Runs\nWhat was measured, and what it says: paired, with its uncertainty.", elem_id="lab-title")
    parts: dict[str, Any] = {"uploads": gr.State([], time_to_live=3600)}
    # in the browser, not in a gr.State: there, of two tabs opened in quick succession, the first could be the last that the server hears of
    for name, value in (("tab", "verdict"), ("opened", ""), ("filled", "")):
        parts[name] = gr.Textbox(value, visible="hidden", elem_id=f"runs-{name}", show_label=False)
    _controls(parts)
    parts["words"] = gr.Markdown("Reading the runs…", elem_id="runs-words")
    with gr.Column(visible=False, elem_id="runs-body") as parts["body"]:
        _results(parts)
        _sharing(parts)
    _upload(parts)
    _wire(app, page, parts)


def _controls(parts: dict[str, Any]) -> None:
    with gr.Row():
        parts["runs"] = _menu("Runs (empty: the latest of each machine)", "runs", scale=3, min_width=300)
        parts["reference"] = gr.Dropdown(
            [("each run's own", "")], value="", label="Compared with", allow_custom_value=True, elem_id="runs-reference", min_width=150
        )
    with gr.Row(elem_id="runs-filters"):
        for name, label in (
            ("configs", "Only configurations"),
            ("cards", "Only cards"),
            ("texts", "Only text sets"),
            ("weights", "Only weights"),
        ):
            parts[name] = _menu(label, name, min_width=140)


def _menu(label: str, name: str, **settings: Any) -> gr.Dropdown:
    # values are checked by `resolve`, which says what is wrong; Gradio's own check would fail after a restart, when it has forgotten the choices
    return gr.Dropdown([], value=[], label=label, multiselect=True, allow_custom_value=True, elem_id=f"runs-{name}", **settings)


def _results(parts: dict[str, Any]) -> None:
    with gr.Tabs(selected="verdict", elem_id="runs-tabs") as parts["tabs"]:
        for tab, title in _TITLES.items():
            with gr.Tab(title, id=tab, elem_id=f"runs-tab-{tab}") as parts[f"tab {tab}"]:
                for name in TABS[tab]:
                    _part(parts, name)


def _part(parts: dict[str, Any], name: str) -> None:
    """A figure or a table with what stands above it."""
    if name in HEADINGS:
        gr.Markdown(f"## {HEADINGS[name]}\n{_ABOUT[name]}", elem_classes="runs-heading")
    if name == "distributions":
        kinds = [("violins with points", "violin"), ("boxes", "box"), ("cumulative (ECDF)", "ecdf")]
        parts["kind"] = gr.Radio(kinds, value="violin", label="Drawn as", show_label=False, elem_id="runs-kind")
    if name == "percentiles":
        gr.Markdown(f"## Real-time factors\n{_RTF}", elem_classes="runs-heading")
    if name == "environment":
        gr.Markdown("## Environment\nWhere runs differ (≠), their times differ for that reason too.", elem_classes="runs-heading")
        parts["differences"] = gr.Checkbox(label="Only what differs", elem_id="runs-differences")
    if name in HEADINGS:
        parts[name] = gr.Plot(show_label=False, elem_id=f"runs-{name}")
    else:
        parts[name] = _table(f"runs-{name}")


def _table(name: str) -> gr.Dataframe:
    return gr.Dataframe(interactive=False, show_label=False, datatype="str", elem_id=name, elem_classes="runs-table", max_height=560)


def _sharing(parts: dict[str, Any]) -> None:
    gr.Markdown("## Take it with you", elem_classes="runs-heading")
    parts["link"] = gr.Textbox(label="Permalink of this selection", interactive=False, buttons=["copy"], elem_id="runs-link")
    parts["kinds"] = gr.CheckboxGroup(
        list(run_export.KINDS), value=[run_export.RUNS, run_export.CSV], label="Files", elem_id="runs-files-kinds"
    )
    parts["make"] = gr.Button("Make the files", elem_id="runs-export")
    parts["made"] = gr.Markdown(elem_id="runs-export-said")
    parts["files"] = gr.File(label="Download", file_count="multiple", visible=False, interactive=False, elem_id="runs-files")


def _upload(parts: dict[str, Any]) -> None:
    gr.Markdown(
        "## A run from another machine\nA run file is checked and shown beside the others. It is stored only if you keep it.",
        elem_classes="runs-heading",
    )
    parts["file"] = gr.File(label="Run file (.json, at most 10 MB)", file_types=[".json"], elem_id="runs-upload", height=140)
    parts["said"] = gr.Markdown(elem_id="runs-upload-said")
    parts["keep"] = gr.Button("Keep this run", interactive=False, elem_id="runs-keep")


def _wire(app: gr.Blocks, page: RunsPage, parts: dict[str, Any]) -> None:
    inputs = {parts[name] for name in (*CONTROLS, "uploads", "file")}
    outputs = [parts[name] for name in OUTPUTS]

    def chosen(values: dict[Any, Any]) -> tuple[Any, Any]:
        return from_controls({name: values[parts[name]] for name in CONTROLS}), values[parts["uploads"]]

    def choose(values: dict[Any, Any], request: gr.Request) -> Iterator[list[Any]]:
        yield from page.choose(*chosen(values), request)

    def take(values: dict[Any, Any], request: gr.Request) -> Iterator[list[Any]]:
        yield from page.take(values[parts["file"]], *chosen(values), request)

    def keep(values: dict[Any, Any], request: gr.Request) -> Iterator[list[Any]]:
        yield from page.keep(*chosen(values), request)

    def again(name: str) -> Any:
        def handler(values: dict[Any, Any], request: gr.Request) -> tuple[str, str, Any]:
            return page.again(name, *chosen(values), request)

        return handler

    def look(values: dict[Any, Any], request: gr.Request) -> list[Any]:
        return page.look(*chosen(values), request)

    def export(values: dict[Any, Any], request: gr.Request) -> tuple[Any, str]:
        return page.export(values[parts["kinds"]] or [], *chosen(values), request)

    menus = [parts[name].input for name in CONTROLS if name not in ("kind", "differences", "tab")]
    quiet: dict[str, Any] = {"show_progress_on": [parts["words"]], "concurrency_limit": 4, "trigger_mode": "always_last"}
    app.load(page.open, parts["uploads"], outputs, **quiet)
    choices = [
        gr.on(menus, choose, inputs, outputs, **quiet),
        parts["file"].upload(take, inputs, outputs, **quiet),
        parts["keep"].click(keep, inputs, outputs, **quiet),
    ]
    where = [parts["link"], parts["filled"]]
    others = [
        parts["kind"].input(again("distributions"), inputs, [*where, parts["distributions"]], **quiet),
        parts["differences"].input(again("environment"), inputs, [*where, parts["environment"]], **quiet),
        parts["opened"].change(look, inputs, [*where, *(parts[name] for name in PARTS)], **quiet),
    ]
    which = [parts["tab"], parts["opened"]]
    for tab in TABS:
        parts[f"tab {tab}"].select(None, which, which, js=_OPENED.replace("TAB", tab))
    made = [parts["files"], parts["made"]]
    parts["make"].click(export, inputs | {parts["kinds"]}, made, show_progress_on=[parts["made"]], concurrency_limit=2)
    for event in (*choices, *others):  # answers may come in another order than they were asked for
        event.then(None, [parts[name] for name in ("tab", "kind", "differences", "filled", "opened")], parts["opened"], js=_CAUGHT_UP)
        event.then(None, parts["link"], None, js=_ADDRESS)
