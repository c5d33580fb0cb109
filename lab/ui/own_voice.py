"""The panel for a person's own voice: a clip, its transcript, consent, and a way back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from lab import voices
from lab.engine.transcribe import transcribe
from lab.errors import LabError
from lab.ui.context import Context


def _is_there(context: Context, name: str) -> bool:
    try:
        context.store.load_voice(name.removeprefix(OWN))
    except LabError:
        return False
    return True


OWN = "own:"  # prefix of the menu values of voices that a person gave
Choices = Callable[[list[tuple[str, str]] | None], list[tuple[str, str]]]


def own_voice_panel(app: gr.Blocks, context: Context, voice: gr.Dropdown, choices: Choices) -> None:
    """Lay the panel out inside `app` and wire it to the voice menu `voice`. A voice is offered to the browser that gave it, and to no other."""

    def use(path: str | None, transcript: str, language: str, consent: bool, own: list[tuple[str, str]]) -> list[Any]:
        warnings: list[str] = []
        try:
            if not path:
                raise LabError("Upload a clip or record one first.")
            made = voices.import_voice(Path(path), transcript or "", language, consent, context.store, warn=warnings.append)
        except LabError as error:
            return [str(error), gr.skip(), own, gr.skip()]
        Path(path).unlink(missing_ok=True)  # what was uploaded is not kept, only what the gate made of it
        own = [*own, (f"{made.name} (yours, {made.seconds:.1f} s)", f"{OWN}{made.id}")]
        said = " ".join(["Ready: the clip is now chosen as the voice.", *warnings])
        return [said, gr.update(choices=choices(own), value=own[-1][1]), own, None]

    def come_back(own: list[list[str]]) -> list[Any]:
        kept = [(label, name) for label, name in own if _is_there(context, name)]
        return [gr.update(choices=choices(kept)), kept]

    def forget(own: list[tuple[str, str]]) -> list[Any]:
        if not own:
            return ["There is no voice of yours here.", gr.skip(), own]
        problems = []
        for _, name in own:
            try:
                context.store.delete_voice(name.removeprefix(OWN))
            except LabError as error:
                problems.append(str(error))
        said = " ".join(["Your voice was deleted.", *problems])
        return [said, gr.update(choices=choices(None), value=voices.default_voice(context.choice.weights.kind).id), []]

    def write_down(path: str | None, language: str) -> list[Any]:
        try:
            if not path:
                raise LabError("Upload a clip or record one first.")
            checked = voices.check_clip(Path(path))
            with tempfile.NamedTemporaryFile(suffix=".wav") as file:
                file.write(voices.make_wav(checked.samples, checked.rate))
                file.flush()
                return ["Whisper wrote this down: check every word.", transcribe(Path(file.name), language)]
        except LabError as error:
            return [str(error), gr.skip()]

    # outside the accordion, which is not in the page while it is closed, and in the browser's own storage, so that a person can use and delete
    # their voice after closing the tab, also after a restart of the lab
    own = gr.BrowserState([], storage_key="ishowtts-lab-voices", secret="ishowtts-lab")
    with gr.Accordion("Use your own voice", open=False):
        gr.Markdown(
            "A clip of 1 to 15 s, one speaker, no music; best 3 to 12 s with silence at the end. Write down exactly what is said in it."
            + (" The demo weights know two voices only, and imitate no other." if context.choice.weights.architecture == "demo" else ""),
            elem_classes="lab-hint",
        )
        clip = gr.Audio(sources=["upload", "microphone"], type="filepath", format=None, label="Clip", elem_id="own-clip")
        transcript = gr.Textbox(label="What is said in the clip", max_lines=3, elem_id="own-transcript")
        language = gr.Radio([("English", "en"), ("Chinese", "zh")], value="en", label="Language")
        consent = gr.Checkbox(label=voices.CONSENT_TEXT, elem_id="own-consent")
        with gr.Row():
            go = gr.Button("Use this voice", elem_id="own-use", min_width=120)
            listen = gr.Button("Write it down for me", elem_id="own-transcribe", min_width=120, visible=voices.transcriber_available())
            away = gr.Button("Delete my voice", elem_id="own-delete", min_width=120)
        # a text box, not Markdown: what it says may quote the person's own words
        said = gr.Textbox(show_label=False, container=False, interactive=False, lines=2, elem_id="own-said", placeholder="")
        listen.click(write_down, [clip, language], [said, transcript])
        go.click(use, [clip, transcript, language, consent, own], [said, voice, own, clip])
        away.click(forget, own, [said, voice, own], show_progress="hidden")
        app.load(come_back, own, [voice, own], show_progress="hidden")
