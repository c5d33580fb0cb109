"""Where things are on the Runs page, and which event does what. The behaviour is `runs_page`'s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from lab.ui import run_export
from lab.ui.context import Context
from lab.ui.run_selection import from_controls
from lab.ui.runs_page import CONTROLS, HEADINGS, OUTPUTS, RunsPage

#: Put the link into the address bar, so that reloading, bookmarking and copying it keep the selection; the choice of a theme stays.
_ADDRESS = """(link) => {
    const next = new URL(link), theme = new URLSearchParams(location.search).get("__theme");
    if (theme) next.searchParams.set("__theme", theme);
    history.replaceState(history.state, "", location.pathname + next.search);
}"""
_ABOUT = {
    "forest": "Median ratio of paired times with its 95 % interval: left of 1 is faster, and inside the grey band (±2 %) a difference does not"
    " matter. Hollow: the reference against itself in another process (A/A), which is what the harness adds.",
    "distributions": "Seconds of work for a second of speech, of every sample that counts. Lower is faster. The targets are the project's own.",
    "stages": "Mean of the samples that count.",
    "lengths": "Where a line meets 0 s is what an utterance costs whatever its length.",
    "timeline": "Nothing is left out here: warm-ups are hollow, and what does not count is crossed.",
    "memory": "Highest of the run: allocated on a card, resident on a processor.",
    "first_calls": "Starting the process and the first utterance in it, against the same text when warm.",
}


def build(app: gr.Blocks, context: Context) -> None:
    """Lay the page out inside `app`, which is the current Blocks, and wire its events."""
    page = RunsPage(context)
    gr.Markdown("# Runs\nWhat was measured, and what it says: paired, with its uncertainty.", elem_id="lab-title")
    parts: dict[str, Any] = {"uploads": gr.State([], time_to_live=3600)}
    _controls(parts)
    parts["words"] = gr.Markdown("Reading the runs…", elem_id="runs-words")
    with gr.Column(visible=False, elem_id="runs-body") as parts["body"]:
        _results(parts)
        kinds, make, files, told = _sharing(parts)
    _upload(parts)
    _wire(app, page, parts)
    make.click(*_export(page, parts, kinds), [files, told], show_progress_on=[told], concurrency_limit=2)


def _controls(parts: dict[str, Any]) -> None:
    with gr.Row():
        parts["runs"] = _menu("Runs (empty: the latest of each machine)", "runs", scale=3, min_width=300)
        parts["reference"] = gr.Dropdown(
            [("each run's own", "")], value="", label="Compared with", allow_custom_value=True, elem_id="runs-reference", min_width=150
        )
    with gr.Row(elem_id="runs-filters"):
        for name, label in (("configs", "Configuration"), ("cards", "Card"), ("texts", "Text set"), ("weights", "Weights")):
            parts[name] = _menu(f"{label} (empty: all)", name, min_width=140)


def _menu(label: str, name: str, **settings: Any) -> gr.Dropdown:
    # values are checked by `resolve`, which says what is wrong; Gradio's own check would fail after a restart, when it has forgotten the choices
    return gr.Dropdown([], value=[], label=label, multiselect=True, allow_custom_value=True, elem_id=f"runs-{name}", **settings)


def _results(parts: dict[str, Any]) -> None:
    for name, heading in HEADINGS.items():
        gr.Markdown(f"## {heading}\n{_ABOUT[name]}", elem_classes="runs-heading")
        if name == "distributions":
            kinds = [("violins with points", "violin"), ("boxes", "box"), ("cumulative (ECDF)", "ecdf")]
            parts["percentiles"] = _table("runs-percentiles")
            parts["kind"] = gr.Radio(kinds, value="violin", label="Drawn as", elem_id="runs-kind")
        parts[name] = gr.Plot(show_label=False, elem_id=f"runs-{name}")
        if name == "forest":
            parts["pairs"] = _table("runs-pairs")
    gr.Markdown("## Environment\nWhere runs differ (≠), their times differ for that reason too.", elem_classes="runs-heading")
    parts["differences"] = gr.Checkbox(label="Only what differs", elem_id="runs-differences")
    parts["environment"] = _table("runs-environment")


def _table(name: str) -> gr.Dataframe:
    return gr.Dataframe(interactive=False, show_label=False, datatype="str", elem_id=name, elem_classes="runs-table", max_height=560)


def _sharing(parts: dict[str, Any]) -> tuple[Any, ...]:
    gr.Markdown("## Take it with you", elem_classes="runs-heading")
    parts["link"] = gr.Textbox(label="Permalink of this selection", interactive=False, buttons=["copy"], elem_id="runs-link")
    kinds = gr.CheckboxGroup(list(run_export.KINDS), value=[run_export.RUNS, run_export.CSV], label="Files", elem_id="runs-files-kinds")
    make = gr.Button("Make the files", elem_id="runs-export")
    told = gr.Markdown(elem_id="runs-export-said")
    files = gr.File(label="Download", file_count="multiple", visible=False, interactive=False, elem_id="runs-files")
    return kinds, make, files, told


def _upload(parts: dict[str, Any]) -> None:
    gr.Markdown(
        "## A run from another machine\nA run file is checked and shown beside the others. It is stored only if you keep it.",
        elem_classes="runs-heading",
    )
    parts["file"] = gr.File(label="Run file (.json, at most 10 MB)", file_types=[".json"], elem_id="runs-upload", height=110)
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

    def redraw(values: dict[Any, Any], request: gr.Request) -> tuple[Any, str]:
        return page.distributions(*chosen(values), request)

    def environments(values: dict[Any, Any], request: gr.Request) -> tuple[Any, str]:
        return page.environments(*chosen(values), request)

    menus = [parts[name].input for name in CONTROLS if name not in ("kind", "differences")]
    quiet: dict[str, Any] = {"show_progress_on": [parts["words"]], "concurrency_limit": 4, "trigger_mode": "always_last"}
    app.load(page.open, parts["uploads"], outputs, **quiet)
    events = [
        gr.on(menus, choose, inputs, outputs, **quiet),
        parts["kind"].input(redraw, inputs, [parts["distributions"], parts["link"]], **quiet),
        parts["differences"].input(environments, inputs, [parts["environment"], parts["link"]], **quiet),
        parts["file"].upload(take, inputs, outputs, **quiet),
        parts["keep"].click(keep, inputs, outputs, **quiet),
    ]
    for event in events:
        event.then(None, parts["link"], None, js=_ADDRESS)


def _export(page: RunsPage, parts: dict[str, Any], kinds: gr.CheckboxGroup) -> tuple[Any, Any]:
    def export(values: dict[Any, Any], request: gr.Request) -> tuple[Any, str]:
        selection = from_controls({name: values[parts[name]] for name in CONTROLS})
        asked = [kind for kind in values[kinds] or [] if isinstance(kind, str)]
        return page.export(asked, selection, values[parts["uploads"]], request)

    return export, {kinds, parts["uploads"], *(parts[name] for name in CONTROLS)}
