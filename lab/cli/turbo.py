"""`turbo`: what the fast sampler does on this machine."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer
from rich.table import Table

from lab.bench.text_sets import EXTENDED
from lab.cli.output import console, plain_errors, print_json
from lab.cli.render import Consent, DeviceKind, Json, Seed, Transcript, VoiceName, WeightsName, one_request
from lab.config import parse
from lab.engine.device import probe
from lab.engine.weights import choose
from lab.texts import sentences

_TEXT = next(sentence.text for sentence in sentences("en") if sentence.id == EXTENDED)


def turbo_command(
    config: Annotated[str, typer.Argument(help="One configuration with sampler=turbo, NAME or NAME:field=value:….")] = "turbo-nfe7",
    text: Annotated[str, typer.Option("--text", "-t", help="What is spoken when streaming is timed.")] = _TEXT,
    voice: VoiceName = None,
    voice_text: Transcript = "",
    consent: Consent = False,
    seed: Seed = 1,
    weights: WeightsName = "auto",
    device: DeviceKind = "auto",
    as_json: Json = False,
) -> None:
    """Measure the fast sampler here: ms per step and share of the device's limit, batches, first audio, and what a new shape costs.

    For how much faster than another configuration it is, use `lab bench`, which measures pairs.
    """
    with plain_errors(as_json):
        asked = parse(config)
        found = probe(device)
        choice = choose(weights, found)
        with one_request(text, (voice, voice_text, consent), seed, choice.weights, found) as (pool, request, cancel, follower):
            report = pool.report_turbo(asked, request, cancel=cancel, progress=follower)
            started = pool.start_seconds(asked)
        document = {**dataclasses.asdict(report), "start_seconds": started}
        _print(asked.name, f"{choice.weights.name} on {found.name}", document)
        if as_json:
            print_json({"config": asked.name, "device": found.name, "weights": choice.weights.name, **document})


def _print(name: str, where: str, report: dict[str, Any]) -> None:
    console.print(
        f"{name}, {where}, {report['dtype']}; the device's limit is {report['peak_tflops']:.1f} TFLOP/s", markup=False, soft_wrap=True
    )
    table = Table("frames", "ms a step", "GFLOP", "of the limit", "first time, ms", "again, ms")
    for step, shape in zip(report["steps"], report["new_shapes"], strict=True):
        cells = (
            f"{step['ms']:.2f}",
            f"{step['gflop']:.0f}",
            f"{step['share_of_limit']:.1%}",
            f"{shape['first_ms']:.0f}",
            f"{shape['second_ms']:.1f}",
        )
        table.add_row(f"{step['frames']:,}", *cells)
    console.print(table)
    lines = [
        f"{batch['utterances']} utterances of {batch['frames']:,} frames: {batch['one_by_one_ms']:.1f} ms one by one, {batch['together_ms']:.1f} ms"
        f" together, {batch['gain']:.2f} times the throughput"
        for batch in report["batches"]
    ]
    lines += [
        f"Streaming: the first {report['first_audio_seconds']:.2f} s of sound after {report['first_audio_ms']:.1f} ms, the last after"
        f" {report['streamed_ms']:.1f} ms ({report['whole_ms']:.1f} ms when not streamed)",
        f"{report['lengths_tried']} random lengths in known buckets: {report['captures_meanwhile']} captures, {report['replays_meanwhile']} replays",
        f"Since its start ({report['start_seconds'] or 0:.1f} s until ready) the engine captured {report['captures']} graphs in"
        f" {report['capture_ms']:.0f} ms; they hold {report['graph_mb']:.0f} MiB",
    ]
    lines += [f"No CUDA graphs: {report['no_graphs']}"] if report["no_graphs"] else []
    lines.append(f"No fused kernels: {report['no_kernels']}" if report["no_kernels"] else f"Attention by {report['attention']}")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
