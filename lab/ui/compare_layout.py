"""Where things are on the Compare page, and which event does what. The behaviour is `compare_page`'s."""

from __future__ import annotations

import gradio as gr

from lab import texts, voices
from lab.config import DEFAULT_PAIR, REGISTRY
from lab.ui import results
from lab.ui.compare_page import MOST, STOP, ComparePage
from lab.ui.context import Context
from lab.ui.own_voice import own_voice_panel
from lab.ui.player import SyncPlayer
from lab.ui.words import plain

_FIELDS = ("nfe", "cfg_strength", "sway", "model_dtype", "vocoder_dtype", "compile", "patches", "tf32")
_PLOTS = ("Where the time goes", "Waveforms", "Mel spectrograms", "Difference of the spectrograms")


def build(app: gr.Blocks, context: Context) -> None:
    """Lay the page out inside `app`, which is the current Blocks, and wire its events."""
    page = ComparePage(context)
    weights = context.choice.weights
    gr.Markdown("# iShowTTS Lab\nThe same text through two engines: hear the difference, see the cost.", elem_id="lab-title")
    gr.Markdown(
        f"Weights **{plain(weights.name)}** on **{plain(context.pool.device.name)}**:"
        f" {plain(context.choice.reason)}. Licence: {plain(weights.licence)}.",
        elem_id="lab-engine",
    )
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            text = gr.Textbox(
                texts.sentences("en")[1].text, label="Text", lines=3, max_lines=10, elem_id="lab-text", placeholder="What shall be said?"
            )
            estimate = gr.Markdown(elem_id="length-estimate")
            _examples(text, demo=weights.architecture == "demo")
        with gr.Column(scale=2, min_width=300):
            voice = gr.Dropdown(page.voice_choices(), value=voices.default_voice(weights.kind).id, label="Voice", elem_id="lab-voice")
            configs = gr.Dropdown(
                page.config_choices(),
                value=list(DEFAULT_PAIR),
                label=f"Engine configurations: 2 to {MOST}, the first is the reference",
                multiselect=True,
                max_choices=MOST,
                allow_custom_value=True,
                elem_id="lab-configs",
            )
            notes = gr.Markdown(page.notes(list(DEFAULT_PAIR)), elem_id="config-notes")
    with gr.Row():
        seed = gr.Number(1, label="Seed", precision=0, minimum=0, elem_id="lab-seed", min_width=100, scale=1)
        cache = gr.Radio(
            [("heard before (warm)", "warm"), ("new to the process (cold)", "cold")],
            value="warm",
            label="This voice was",
            min_width=240,
            scale=3,
        )
    own_voice_panel(app, context, voice, page.voice_choices)
    with gr.Accordion("Change a field of a configuration", open=False):
        with gr.Row():
            base = gr.Dropdown(list(REGISTRY), value="optimized", label="Configuration", min_width=160)
            field = gr.Dropdown(list(_FIELDS), value="nfe", label="Field", min_width=120)
            value = gr.Textbox("6", label="Value", max_lines=1, min_width=100)
        add = gr.Button("Add to the comparison", elem_id="lab-add-variant")
    with gr.Row():
        go = gr.Button("Generate", variant="primary", elem_id="lab-generate", scale=3, min_width=140)
        halt = gr.Button(STOP, variant="stop", interactive=False, elem_id="lab-stop", scale=1, min_width=130)
    status = gr.Markdown("", elem_id="lab-status")
    player = SyncPlayer(context.clips.fetch, elem_id="lab-player")
    table = gr.Dataframe(results.table(None), interactive=False, label="Timings and differences", elem_id="lab-table", visible=False)
    with gr.Row():
        keep = gr.Button("Save", interactive=False, elem_id="lab-save", min_width=90, scale=1)
        link = gr.Textbox(label="Permalink", interactive=False, visible=False, buttons=["copy"], elem_id="lab-link", scale=3)
    plots = [
        gr.Plot(label=name, visible=False, elem_classes="lab-plot", elem_id=f"lab-plot-{number}") for number, name in enumerate(_PLOTS)
    ]
    files = gr.File(
        label="Download: clips as WAV, facts as JSON", file_count="multiple", visible=False, interactive=False, elem_id="lab-files"
    )
    state = gr.State(None, time_to_live=3600)

    outputs = [status, table, player, *plots, files, state, keep, go, halt, link]
    job = go.click(page.generate, [text, voice, configs, seed, cache], outputs, concurrency_limit=8, show_progress_on=[status])
    for over in (job.then, job.failure):
        over(page.rest, None, [go, halt], queue=False, show_progress="hidden")
    # the browser writes "Stopping…" before it asks, so that an answer cannot come too late and hide what the job has said since
    asked = halt.click(None, None, halt, js="() => 'Stopping…'", show_progress="hidden")
    asked.then(page.stop, None, halt, queue=False, show_progress="hidden")
    keep.click(page.save, state, [link, keep])
    add.click(page.variant, [base, field, value, configs], configs, show_progress="hidden")
    configs.change(page.notes, configs, notes, show_progress="hidden", queue=False)
    gr.on(
        [text.change, voice.change], page.estimate, [text, voice], estimate, show_progress="hidden", trigger_mode="always_last", queue=False
    )
    app.load(page.open, None, [*outputs, text, configs, seed, voice, cache], show_progress="hidden")
    app.load(page.estimate, [text, voice], estimate, show_progress="hidden")


def _examples(text: gr.Textbox, *, demo: bool) -> None:
    """Buttons that put an example into the text box; the demo weights speak English only."""
    sentences = [sentence for sentence in texts.sentences() if sentence.language == "en" or not demo]
    gr.Examples(
        [[sentence.text] for sentence in sentences],
        [text],
        example_labels=[sentence.label for sentence in sentences],
        label="Examples",
        cache_examples=False,
    )
