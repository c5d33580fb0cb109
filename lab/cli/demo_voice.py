"""`demo-voice`: make the embedded demo voice from its sources, step by step."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lab.cli.output import EXIT_FAILED, console, following, plain_errors, print_json, stoppable
from lab.cli.render import DeviceKind, Json
from lab.engine.device import probe
from lab.errors import LabError

demo_voice_app = typer.Typer(
    help="Make the embedded demo voice: corpus, train, train-vocoder, export, evaluate, card, in this order. Each can be stopped and goes on where it was.",
    no_args_is_help=True,
)
Folder = Annotated[Path, typer.Argument(help="Its folder.", file_okay=False)]
Corpus = Annotated[Path, typer.Option("--corpus", help="Folder of the corpus, which may be in the making.", file_okay=False)]
Seed = Annotated[int, typer.Option("--seed", "-s", help="Decides everything that is drawn.", min=0)]
Processes = Annotated[int, typer.Option("--processes", "-p", help="Processes; one per card (0: as many as there are cards).", min=0)]
Parts = Annotated[int, typer.Option("--parts", help="Read so many parts of each voice (0: all); they may still be in the making.", min=0)]
Minutes = Annotated[float | None, typer.Option("--minutes", help="Save and stop after so many; the same command goes on later.", min=0.0)]


@demo_voice_app.command("corpus")
def corpus_command(
    folder: Folder,
    utterances: Annotated[int, typer.Option("--utterances", "-n", help="Of each voice; 20,000 are about 20 hours.", min=10)] = 20_000,
    seed: Seed = 0,
    workers: Annotated[int, typer.Option("--workers", help="Synthesizers at once (0: one per core).", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Have free synthesizers speak sentences from free sources."""
    from lab.demo_voice.corpus import build
    from lab.demo_voice.evaluation import sentences

    with plain_errors(as_json), stoppable() as cancel, following() as follow:
        without = frozenset(sentence.text for sentence in sentences())
        made = build(folder, utterances, seed, workers=workers or os.cpu_count() or 1, without=without, cancel=cancel, progress=follow)
    _facts({"folder": str(folder), **made}, as_json)


@demo_voice_app.command("train")
def train_command(
    folder: Folder,
    corpus: Corpus,
    steps: Annotated[int, typer.Option("--steps", help="All steps; the learning rate falls towards the last.", min=1)] = 60_000,
    frames: Annotated[int, typer.Option("--frames", help="Mel frames of one process' batch.", min=2_080)] = 32_768,
    rate: Annotated[float, typer.Option("--rate", help="Highest learning rate.", min=0.0)] = 1e-3,
    falling: Annotated[float, typer.Option("--falling", help="Share of the steps in which the rate falls.", min=0.0, max=1.0)] = 0.4,
    start: Annotated[
        Path | None, typer.Option("--start", help="An exported model.safetensors to begin with.", dir_okay=False, exists=True)
    ] = None,
    parts: Parts = 0,
    growing: Annotated[
        int,
        typer.Option(
            "--growing", help="After so many steps, and so many again, read one part more (0: never); wait for it if need be.", min=0
        ),
    ] = 0,
    start_steps: Annotated[int, typer.Option("--start-steps", help="Steps that it has had.", min=0)] = 0,
    early: Annotated[
        float, typer.Option("--early", help="Times of the flow are uniform ones to this power (1: as upstream).", min=0.1)
    ] = 3.0,
    listening: Annotated[
        float, typer.Option("--listening", help="Weight of naming the phone of each frame, beside the flow (0: none).", min=0)
    ] = 0.5,
    processes: Processes = 0,
    minutes: Minutes = None,
    seed: Seed = 0,
    device: DeviceKind = "auto",
    as_json: Json = False,
) -> None:
    """Train the DiT through upstream's CFM; FOLDER/model.safetensors is what is exported."""
    from lab.demo_voice.training import Settings, train

    with plain_errors(as_json):
        settings = Settings(
            corpus,
            steps,
            parts=parts,
            growing=growing,
            frames=frames,
            rate=rate,
            falling=falling,
            start=start,
            start_steps=start_steps,
            early=early,
            listening=listening,
            seed=seed,
        )
        _train(train, folder, settings, steps, processes, minutes, device, as_json)


@demo_voice_app.command("train-vocoder")
def train_vocoder_command(
    folder: Folder,
    corpus: Corpus,
    steps: Annotated[int, typer.Option("--steps", help="All steps.", min=1)] = 12_000,
    batch: Annotated[int, typer.Option("--batch", help="Segments of one process' batch.", min=1)] = 16,
    parts: Parts = 0,
    processes: Processes = 0,
    minutes: Minutes = None,
    seed: Seed = 0,
    device: DeviceKind = "auto",
    as_json: Json = False,
) -> None:
    """Train the Vocos with its own discriminators; FOLDER/vocoder.safetensors is what is exported."""
    from lab.demo_voice.vocoder_training import VocoderSettings, train

    with plain_errors(as_json):
        _train(
            train, folder, VocoderSettings(corpus, steps, parts=parts, batch=batch, seed=seed), steps, processes, minutes, device, as_json
        )


def _train(task: Any, folder: Path, settings: Any, steps: int, processes: int, minutes: float | None, device: str, as_json: bool) -> None:
    from lab.demo_voice.processes import run

    found = probe(device)
    with stoppable() as cancel, following() as follow:
        last = run(
            task,
            folder,
            settings,
            processes=processes or max(1, found.cards),
            device=found.kind,
            steps=steps,
            minutes=minutes,
            cancel=cancel,
            progress=follow,
        )
    _facts({"folder": str(folder), **last}, as_json)


@demo_voice_app.command("export")
def export_command(
    out: Annotated[Path, typer.Argument(help="The folder to write, for --weights.", file_okay=False)],
    model: Annotated[Path, typer.Option("--model", help="model.safetensors of the training.", dir_okay=False)],
    vocoder: Annotated[Path, typer.Option("--vocoder", help="vocoder.safetensors of its training.", dir_okay=False)],
    as_json: Json = False,
) -> None:
    """Put model, vocoder and reference clips together in upstream's checkpoint format."""
    from lab.demo_voice.export import export

    with plain_errors(as_json):
        _facts({"folder": str(out), **export(model, vocoder, out)}, as_json)


@demo_voice_app.command("evaluate")
def evaluate_command(
    weights: Annotated[str, typer.Option("--weights", "-w", help="demo, or the folder of an export.")] = "demo",
    nfes: Annotated[str, typer.Option("--nfe", help="Step counts, separated by commas.")] = "32,16,7,4",
    most: Annotated[int, typer.Option("--most", help="At most so many sentences of each kind (0: all).", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write evaluation.json and spectrograms.png to this folder.", file_okay=False)
    ] = None,
    device: DeviceKind = "auto",
    as_json: Json = False,
) -> None:
    """Measure whether the voice is understood, beside the synthesizers that it was learnt from. Exits with 1 when a demand is not met."""
    from lab.demo_voice.card import PICTURE, spectrograms
    from lab.demo_voice.evaluation import judge, sentences, speak
    from lab.demo_voice.synthesizers import SPEAKERS
    from lab.engine.weights import resolve
    from lab.voices import bundled_voices, voices_in

    with plain_errors(as_json):
        counts = _numbers(nfes)
        found = resolve(weights)
        offered = bundled_voices() if found.kind == "demo" else voices_in(Path(found.name) / "voices")
        voices = {voice.id.removeprefix("demo-"): voice for voice in offered}
        kinds = dict.fromkeys(sentence.kind for sentence in sentences())
        chosen = [one for kind in kinds for one in [one for one in sentences() if one.kind == kind][: most or None]]
        with stoppable() as cancel, following() as follow:
            spoken = speak(found, probe(device), voices, counts, chosen, cancel=cancel, progress=follow)
            result = judge(spoken, progress=follow)
        if out:
            out.mkdir(parents=True, exist_ok=True)
            (out / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            (out / PICTURE).write_bytes(spectrograms(spoken, chosen[0], SPEAKERS[0].name))
        _print_evaluation(result)
        if as_json:
            print_json(result)
        if not all(demand["met"] for demand in result["demands"]):
            raise typer.Exit(EXIT_FAILED)


@demo_voice_app.command("card")
def card_command(
    folder: Annotated[Path, typer.Argument(help="The folder of an export.", file_okay=False, exists=True)],
    corpus: Annotated[
        list[Path],
        typer.Option("--corpus", help="Folder of a corpus that it has learnt from; give it as often as there were some.", file_okay=False),
    ],
    evaluation: Annotated[Path, typer.Option("--evaluation", help="The folder that `evaluate --out` wrote.", file_okay=False, exists=True)],
    command: Annotated[
        list[str] | None, typer.Option("--command", help="A command that made it; give it as often as there were some.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the model card of an export from what the steps have recorded."""
    from lab.demo_voice.card import PICTURE, write
    from lab.demo_voice.export import steps_of

    with plain_errors(as_json):
        path = write(folder, evaluation / "evaluation.json", corpus, steps_of(folder), command or [])
        (folder / PICTURE).write_bytes((evaluation / PICTURE).read_bytes())
        _facts({"card": str(path)}, as_json)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise LabError(f"--nfe {text[:40]!r}: write whole numbers with commas between, for example 32,16,7,4.") from None


def _print_evaluation(result: dict[str, Any]) -> None:
    table = Table("voice", "by", "WER", "first two", "rest", "right voice", "silence", "after, dB", "LSD, dB", "RTF", header_style="bold")

    def shown(row: dict[str, Any], name: str, form: str) -> str:
        return "-" if row.get(name) is None else format(row[name], form)

    columns = {
        "wer": ".3f",
        "first": ".3f",
        "rest": ".3f",
        "right_voice": ".0%",
        "silence": ".0%",
        "after_db": ".0f",
        "lsd_db": ".1f",
        "rtf": ".2f",
    }
    for row in result["rows"]:
        table.add_row(row["voice"], row["source"], *(shown(row, name, form) for name, form in columns.items()))
    console.print(table)
    asked = Table("demand", "voice", "figure", "limit", "", header_style="bold")
    for demand in result["demands"]:
        met = "met" if demand["met"] else "[red]not met[/red]"
        asked.add_row(demand["demand"], demand["voice"], f"{demand['figure']:.3f}", f"{demand['limit']:.3f}", met)
    console.print(asked)


def _facts(facts: dict[str, Any], as_json: bool) -> None:
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name, f"{value:.5g}" if isinstance(value, float) else str(value))
    console.print(table)
    if as_json:
        print_json(facts)
