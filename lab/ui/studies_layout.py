"""Where things are on the Studies page, and which event does what. The behaviour is `studies_page`'s."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lab import voices
from lab.bench.text_sets import SETS
from lab.config import REGISTRY
from lab.listening.model import MARGINS
from lab.listening.results import LOCKED
from lab.texts import sentences
from lab.ui.context import Context
from lab.ui.studies_page import OUTPUTS, PLOTS, RESULTS, STOP, StudiesPage
from lab.ui.study_frames import TABLES

_TYPES = [
    ("ABX: can it be told?", "abx"),
    ("AB: which is preferred?", "ab"),
    ("CCR (CMOS): how much better or worse?", "ccr"),
    ("ACR (MOS): how good, one by one", "acr"),
    ("MUSHRA: rated against a reference", "mushra"),
    ("Staircase: the lowest NFE that passes", "staircase"),
]
#: Of tables with long words, which would push the other columns out of sight.
_WIDTHS: dict[str, list[int | str]] = {
    "bias": ["45%", "55%"],
    "checks": ["38%", "17%", "45%"],
    "ledger": ["24%", "32%", "24%", "20%"],
}
_ADDRESS = """(token) => {
    const next = new URL(location);
    if (token) next.searchParams.set("study", token); else next.searchParams.delete("study");
    history.replaceState(history.state, "", next.pathname + next.search);
}"""


def build(app: gr.Blocks, context: Context) -> None:
    """Lay the page out inside `app`, which is the current Blocks, and wire its events."""
    page = StudiesPage(context)
    gr.Markdown("# Studies\nBlind listening tests: what ears say of two engines, and what may be concluded.", elem_id="lab-title")
    parts: dict[str, Any] = {}
    asked = _new_study(page, parts)
    parts["said"] = gr.Markdown(elem_id="studies-said")
    parts["studies"] = gr.Dropdown([], label="Study", elem_id="studies-menu", allow_custom_value=True)
    with gr.Column(visible=False, elem_id="studies-body") as parts["body"]:
        parts["facts"] = gr.Markdown(elem_id="studies-facts")
        parts["link"] = gr.Textbox(label="Link for listeners", interactive=False, buttons=["copy"], elem_id="studies-link")
        with gr.Tabs(elem_id="studies-tabs"):
            with gr.Tab("Results"):
                _results(parts)
            with gr.Tab("Stimuli"):
                for name in ("checks", "pairs"):
                    _table(parts, name)
        with gr.Row():
            export = gr.Button("Make the files (CSV, JSON)", elem_id="studies-export", min_width=160)
            parts["delete"] = gr.Button("Delete…", elem_id="studies-delete", min_width=100)
            parts["really"] = gr.Button(
                "Really delete, with all answers", variant="stop", visible=False, elem_id="studies-really", min_width=160
            )
        parts["files"] = gr.File(label="Download", file_count="multiple", visible=False, interactive=False, elem_id="studies-files")
    _wire(app, page, parts, asked, export)


def _new_study(page: StudiesPage, parts: dict[str, Any]) -> list[Any]:
    """The form; returns its inputs in the order of `StudiesPage.create`."""
    weights = page.context.choice.weights
    choices = [(f"set: {name}", name) for name in SETS] + [(sentence.label, sentence.id) for sentence in sentences("en")]
    with gr.Accordion("New study", open=False, elem_id="studies-new"):
        kind = gr.Radio(_TYPES, value="abx", label="Type", elem_id="studies-type")
        with gr.Row():
            configs = gr.Dropdown(
                list(REGISTRY),
                value=["upstream", "upstream-nfe7"],
                multiselect=True,
                allow_custom_value=True,
                label="Engine configurations, the first is the reference (a staircase takes the reference alone)",
                elem_id="studies-configs",
                min_width=300,
            )
            voice = gr.Dropdown(page.compare.voice_choices(), value=voices.default_voice(weights.kind).id, label="Voice", min_width=200)
        texts = gr.Dropdown(
            choices, value=[], multiselect=True, allow_custom_value=True, label="Texts (empty: eight short ones)", elem_id="studies-texts"
        )
        with gr.Row():
            trials = gr.Number(16, label="Questions that count, per listener", precision=0, minimum=1, maximum=200, min_width=140)
            margin = gr.Number(
                MARGINS["abx"], label="Margin: a difference that does not matter", min_width=160, elem_id="studies-margin", step=0.05
            )
            until = gr.Textbox(label="Open until (a date, or empty)", placeholder="2027-01-31", max_lines=1, min_width=160)
            seed = gr.Number(1, label="Seed", precision=0, minimum=0, min_width=90)
        title = gr.Textbox(label="Title, for your team", max_lines=1)
        own = gr.Checkbox(True, label="Listeners see their own results at the end", elem_id="studies-own")
        with gr.Row():
            parts["create"] = gr.Button(
                "Render the clips and make the study", variant="primary", elem_id="studies-create", scale=3, min_width=160
            )
            parts["stop"] = gr.Button(STOP, variant="stop", interactive=False, elem_id="studies-stop", scale=1, min_width=110)
    kind.change(
        lambda chosen: gr.update(value=None if chosen == "staircase" else MARGINS[chosen], interactive=chosen != "staircase"),
        kind,
        margin,
        show_progress="hidden",
        queue=False,
    )
    return [kind, configs, texts, voice, trials, margin, until, title, seed, own]


def _results(parts: dict[str, Any]) -> None:
    parts["locked"] = gr.Markdown(LOCKED, elem_id="studies-locked")
    with gr.Row():
        parts["close"] = gr.Button("Close the study", variant="primary", elem_id="studies-close", min_width=140)
        parts["peek"] = gr.Button("Peek, and have it recorded", elem_id="studies-peek", min_width=140)
    with gr.Column(visible=False, elem_id="studies-found") as parts["found"]:
        parts["headline"] = gr.Markdown(elem_id="studies-headline")
        for name, label in PLOTS.items():
            parts[f"plot {name}"] = gr.Plot(label=label, visible=False, elem_classes="lab-plot", elem_id=f"studies-plot-{name}")
        for name in RESULTS:
            _table(parts, name)


def _table(parts: dict[str, Any], name: str) -> None:
    heading, about = TABLES[name]
    parts[f"table {name}"] = gr.Dataframe(
        interactive=False,
        label=f"{heading}. {about}" if about else heading,
        datatype="str",
        visible=False,
        elem_id=f"studies-{name.replace('_', '-')}",
        elem_classes="runs-table",
        max_height=480,
        wrap=True,
        column_widths=_WIDTHS.get(name),
    )


def _wire(app: gr.Blocks, page: StudiesPage, parts: dict[str, Any], asked: list[Any], export: gr.Button) -> None:
    outputs = [parts[name] for name in OUTPUTS]
    quiet: dict[str, Any] = {"show_progress_on": [parts["said"]], "concurrency_limit": 4}
    app.load(page.open, None, outputs, **quiet)
    job = parts["create"].click(page.create, asked, outputs, concurrency_limit=4, show_progress_on=[parts["said"]])
    for over in (job.then, job.failure):
        over(page.rest, None, [parts["create"], parts["stop"]], queue=False, show_progress="hidden")
    halt = parts["stop"].click(None, None, parts["stop"], js="() => 'Stopping…'", show_progress="hidden")
    halt.then(page.stop, None, parts["stop"], queue=False, show_progress="hidden")
    parts["studies"].input(page.show, parts["studies"], outputs, **quiet)
    parts["studies"].change(None, parts["studies"], None, js=_ADDRESS)
    parts["peek"].click(page.peek, parts["studies"], outputs, **quiet)
    parts["close"].click(page.close, parts["studies"], outputs, **quiet)
    asked_about = gr.State("")  # what is deleted is what Delete… was pressed for, whatever the menu says a moment later
    parts["delete"].click(
        lambda token: (gr.update(visible=False), gr.update(visible=True), token),
        parts["studies"],
        [parts["delete"], parts["really"], asked_about],
        queue=False,
        show_progress="hidden",
    )
    parts["really"].click(page.delete, [parts["studies"], asked_about], outputs, **quiet)
    export.click(page.export, parts["studies"], parts["files"], show_progress_on=[parts["said"]], concurrency_limit=2)
