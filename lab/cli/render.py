"""`synth` and `compare`: render a text, write WAV files, print the facts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lab import voices
from lab.cli.output import EXIT_FAILED, Follower, console, errors, following, plain_errors, print_json, stoppable
from lab.compare import Failure, compare, comparison_facts, make_request, wav_name
from lab.config import DEFAULT_PAIR, REGISTRY, parse_list
from lab.engine.clip import Clip, RenderRequest
from lab.engine.device import Device, probe
from lab.engine.pool import EnginePool, workers_from_environment
from lab.engine.process import Cancel
from lab.engine.weights import Weights, choose
from lab.errors import LabError

Text = Annotated[str | None, typer.Option("--text", "-t", help="What to say.")]
TextFile = Annotated[Path | None, typer.Option("--text-file", help="Read the text from a UTF-8 file instead.", dir_okay=False, exists=True)]
VoiceName = Annotated[str | None, typer.Option("--voice", "-v", help="A voice of `lab voices`, or the path of a clip of 1 to 15 s.")]
Transcript = Annotated[str, typer.Option("--voice-text", help="What is said in your own clip (required with a path).")]
Consent = Annotated[bool, typer.Option("--consent", help="You are the speaker of your own clip, or have their consent.")]
Seed = Annotated[int, typer.Option("--seed", "-s", help="Decides the noise, together with the text.")]
WeightsName = Annotated[
    str, typer.Option("--weights", "-w", help="auto, demo, F5TTS_v1_Base, F5TTS_Base, E2TTS_Base, random, random:ARCHITECTURE, or a path.")
]
DeviceKind = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
CacheState = Annotated[
    str, typer.Option("--reference-cache", help="warm: the process has heard this voice before; cold: it has not.", metavar="warm|cold")
]
Json = Annotated[bool, typer.Option("--json", help="Print one compact JSON document as the last line.")]


def _text(text: str | None, file: Path | None) -> str:
    if (text is None) == (file is None):
        raise LabError("Give either --text or --text-file.")
    if text is not None:
        return text
    try:
        return Path(str(file)).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise LabError(f"{file} is not UTF-8 text. Save it as plain text.") from None


def check_cache(state: str) -> None:
    """Raise `LabError` unless `state` is one of the two that `--reference-cache` takes."""
    if state not in ("warm", "cold"):
        raise LabError("--reference-cache is warm or cold.")


@contextmanager
def chosen_voice(asked: tuple[str | None, str, bool], weights_kind: str) -> Iterator[voices.Voice]:
    """The voice that `asked` (name or path, transcript, consent) means; without a name the default for such weights."""
    name, transcript, consent = asked
    if name is None:
        yield voices.default_voice(weights_kind)
        return
    with voices.open_voice(name, transcript=transcript, consent=consent) as voice:
        yield voice


@contextmanager
def one_request(
    text: str, asked: tuple[str | None, str, bool], seed: int, weights: Weights, device: Device
) -> Iterator[tuple[EnginePool, RenderRequest, Cancel, Follower]]:
    """An engine pool and a request for it, with what stops it and what follows it; `asked` as in `chosen_voice`."""
    with (
        chosen_voice(asked, weights.kind) as speaker,
        stoppable() as cancel,
        EnginePool(weights, device) as pool,
        following() as follower,
    ):
        yield pool, make_request(pool, text, speaker, seed), cancel, follower


def _print_tables(clips: list[Clip | Failure], facts: dict[str, Any]) -> None:
    """The times, and how each clip differs from the first."""
    times = Table(header_style="bold")
    times.add_column("configuration", overflow="fold")
    for name in ("RTF", "total ms", "sampler", "vocoder", "rest", "MiB"):
        times.add_column(name, justify="right", no_wrap=True, min_width=6)
    for clip in clips:
        if isinstance(clip, Failure):
            times.add_row(clip.config.name, "no clip")
            continue
        result = clip.result
        main = [result.stages_ms.get(stage, 0) for stage in ("sampler", "vocoder")]
        shown = [f"{value:.1f}" for value in (result.total_ms, *main, result.total_ms - sum(main))]
        times.add_row(clip.config.name, f"{result.rtf:.4f}", *shown, f"{result.peak_memory_mb:.0f}")
    console.print(times)
    if facts["differences"]:
        differ = Table("configuration", f"against {facts['differences'][0]['a']}", header_style="bold")
        differ.columns[0].overflow = "fold"
        for row in facts["differences"]:
            differ.add_row(row["b"], describe(row))
        console.print(differ)


def _print_notes(clips: list[Clip | Failure]) -> None:
    """What a reader of the table has to know: clips whose configuration did not hold, and clips that must not be counted."""
    for clip in clips:
        if isinstance(clip, Clip):
            for problem in clip.result.invalid:
                console.print(f"{clip.config.name}: {problem}", markup=False, style="yellow", soft_wrap=True)


def describe(row: dict[str, Any]) -> str:
    """A row of `differences` in a few words."""
    if row["identical"]:
        return "identical"
    if row.get("null_db") is None:
        return "same mel" if row["same_mel"] else "differs"
    level = "" if row["level_db"] is None else f", level {row['level_db']:+.2f} dB"  # a silent clip has none
    return f"null {row['null_db']:.1f} dBFS, LSD {row['lsd_db']:.2f} dB{level}"


def writable(folder: Path) -> None:
    """Make `folder` and try it, before minutes of rendering are spent on what cannot be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _write(clips: list[Clip | Failure], out: Path) -> dict[str, str]:
    """Write the WAV files; configurations are named in them as far as a file name can."""
    paths = {}
    for clip in clips:
        if isinstance(clip, Clip) and clip.storable:
            path = out / wav_name(clip.config.name)
            path.write_bytes(clip.wav())
            paths[clip.config.name] = str(path)
    return paths


def _render(
    specs: str, text: str, voice_args: tuple[str | None, str, bool], seed: int, weights: str, device: str, cache: str
) -> tuple[list[Clip | Failure], dict[str, Any]]:
    """Render with every configuration of `specs`; returns clips and failures in order, and the facts."""
    check_cache(cache)
    configs = parse_list(",".join(REGISTRY) if specs == "all" else specs)
    found = probe(device)
    choice = choose(weights, found)
    clips: list[Clip | Failure] = []
    with (
        chosen_voice(voice_args, choice.weights.kind) as voice,
        stoppable() as cancel,
        EnginePool(choice.weights, found, max_workers=workers_from_environment()) as pool,
        following() as follower,
    ):
        request = make_request(pool, text, voice, seed, reference_cache=cache)
        for clip in compare(pool, configs, request, voice.id, cancel=cancel, progress=follower):
            clips.append(clip)
            if isinstance(clip, Failure):
                errors.print(f"{clip.config.name}: {clip.message}", markup=False, style="red", soft_wrap=True)
    facts = comparison_facts([clip for clip in clips if isinstance(clip, Clip)], choice.reason)
    console.print(f"{choice.weights.name} on {found.name} ({choice.reason})", markup=False, style="dim", soft_wrap=True)
    return clips, facts


def _document(clips: list[Clip | Failure], facts: dict[str, Any], paths: dict[str, str]) -> dict[str, Any]:
    failed = [{"config": item.config.name, "error": item.message} for item in clips if isinstance(item, Failure)]
    rows = [{"config": row["config"], "path": paths.get(row["config"]), **row} for row in facts["clips"]]
    return {"clips": rows, "differences": facts["differences"], "failed": failed}


def compare_command(
    text: Text = None,
    text_file: TextFile = None,
    configs: Annotated[
        str, typer.Option("--configs", "-c", help="Configurations, separated by commas, each NAME or NAME:field=value:…; or all.")
    ] = ",".join(DEFAULT_PAIR),
    voice: VoiceName = None,
    voice_text: Transcript = "",
    consent: Consent = False,
    seed: Seed = 1,
    weights: WeightsName = "auto",
    device: DeviceKind = "auto",
    reference_cache: CacheState = "warm",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the WAV files and facts.json.", file_okay=False)] = None,
    as_json: Json = False,
) -> None:
    """Render one text through several configurations on the same noise, and say how the clips differ.

    Times are of one utterance each, after a warm-up: they show an order of magnitude and prove nothing. Exits with 1 when a configuration gave no clip.
    """
    with plain_errors(as_json):
        if out:
            writable(out)
        clips, facts = _render(configs, _text(text, text_file), (voice, voice_text, consent), seed, weights, device, reference_cache)
        paths = _write(clips, out) if out else {}
        if out:
            (out / "facts.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
        _report(clips, facts, paths, out, as_json)


def _report(clips: list[Clip | Failure], facts: dict[str, Any], paths: dict[str, str], out: Path | None, as_json: bool) -> None:
    """Print what came of it, for people and with `as_json` for programs; ends the command with 1 when a configuration gave no clip."""
    _print_tables(clips, facts)
    _print_notes(clips)
    _say_where(clips, out)
    if as_json:
        print_json(_document(clips, facts, paths))
    if any(isinstance(clip, Failure) for clip in clips):
        raise typer.Exit(EXIT_FAILED)


def _say_where(clips: list[Clip | Failure], out: Path | None) -> None:
    if any(isinstance(clip, Clip) and not clip.storable for clip in clips):
        console.print("Random weights: the audio is noise for timing and was not written.", style="yellow")
    elif out:
        console.print(f"Written to {out}", markup=False)


def synth_command(
    text: Text = None,
    text_file: TextFile = None,
    config: Annotated[str, typer.Option("--config", "-c", help="One configuration, NAME or NAME:field=value:….")] = "upstream",
    voice: VoiceName = None,
    voice_text: Transcript = "",
    consent: Consent = False,
    seed: Seed = 1,
    weights: WeightsName = "auto",
    device: DeviceKind = "auto",
    reference_cache: CacheState = "warm",
    out: Annotated[Path, typer.Option("--out", "-o", help="The WAV file to write (32-bit float, 24 kHz).", dir_okay=False)] = Path(
        "speech.wav"
    ),
    as_json: Json = False,
) -> None:
    """Render one text with one configuration into a WAV file."""
    with plain_errors(as_json):
        name = parse_list([config], most=1)[0].name
        writable(out.parent)
        clips, facts = _render(name, _text(text, text_file), (voice, voice_text, consent), seed, weights, device, reference_cache)
        paths = {}
        if clips and isinstance(clips[0], Clip) and clips[0].storable:
            out.write_bytes(clips[0].wav())
            paths[clips[0].config.name] = str(out)
        _report(clips, facts, paths, out if paths else None, as_json)
