"""`validate`, `profile` and `report`: is it on, where does the time go, what do the stored runs say."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lab.bench.analysis import Analysis
from lab.bench.measure import Job
from lab.bench.plan import Plan, make_plan
from lab.bench.recorder import Recorder
from lab.bench.report import ledger, ledger_documents, status_markdown
from lab.bench.run_files import list_runs, read_run
from lab.bench.runner import Here, run_benchmark
from lab.bench.text_sets import choose_texts
from lab.bench.validate import Line, Validation, target_lines
from lab.cli.bench import make_job, public_voice, watching
from lab.cli.output import EXIT_FAILED, console, errors, following, plain_errors, print_json, stoppable
from lab.cli.render import Consent, DeviceKind, Json, Seed, Transcript, VoiceName, WeightsName, chosen_voice, one_request, writable
from lab.config import EngineConfig, parse
from lab.durable import write_whole
from lab.engine.device import Device, probe
from lab.engine.pool import EnginePool, workers_from_environment
from lab.engine.process import Cancel
from lab.engine.weights import Choice, choose
from lab.errors import LabError
from lab.voices import Voice

STATUS = Path(__file__).resolve().parents[2] / "results" / "STATUS.md"
_UNOPTIMISED = "upstream"


def validate_command(
    config: Annotated[str, typer.Option("--config", "-c", help="The configuration to check, NAME or NAME:field=value:….")] = "optimized",
    voice: VoiceName = None,
    voice_text: Transcript = "",
    consent: Consent = False,
    weights: WeightsName = "auto",
    device: DeviceKind = "auto",
    texts: Annotated[
        str, typer.Option("--texts", "-t", help="Text sets that the targets are measured with, as in `lab bench`.")
    ] = "extended",
    rounds: Annotated[
        int, typer.Option("--rounds", "-r", help="Rounds of the benchmark for the targets; 0 leaves the targets out.", min=0)
    ] = 6,
    as_json: Json = False,
) -> None:
    """Check that a configuration does what it says here, and whether it meets the targets.

    FP16 by the dtypes of tensors that were seen, torch.compile by the graphs it built, the reference cache by the level of a warm clip against a cold one, the
    sound by its distance to the FP32 render, the targets by a short benchmark. Exits with 1 when a line fails.
    """
    with plain_errors(as_json):
        found = probe(device)
        choice = choose(weights, found)
        asked = parse(config)
        with chosen_voice((voice, voice_text, consent), choice.weights.kind) as speaker, stoppable() as cancel:
            lines = _checks(choice, found, speaker, asked, cancel)
            if rounds:
                lines += _targets(choice, found, speaker, asked, texts, rounds, cancel)
        _print_lines(lines)
        failed = [line for line in lines if line.state == "fail"]
        if as_json:
            print_json(
                {
                    "passed": not failed,
                    "device": dataclasses.asdict(found),
                    "weights": choice.weights.name,
                    "lines": [dataclasses.asdict(line) for line in lines],
                }
            )
        if failed:
            raise typer.Exit(EXIT_FAILED)


def _checks(choice: Choice, device: Device, voice: Voice, config: EngineConfig, cancel: Cancel) -> list[Line]:
    with EnginePool(choice.weights, device, max_workers=workers_from_environment()) as pool, following() as follower:
        return list(Validation(pool, voice, config, cancel, follower).lines())


def _targets(choice: Choice, device: Device, voice: Voice, config: EngineConfig, texts: str, rounds: int, cancel: Cancel) -> list[Line]:
    """Measure `config` against itself and the unoptimised engine; the run is not kept."""

    def plan_of(speaker: Voice) -> Plan:
        configs = list(dict.fromkeys((config, parse(_UNOPTIMISED))))
        return make_plan(configs, choose_texts(texts, speaker.seconds, speaker.transcript), rounds=rounds)

    job: Job = make_job(plan_of, choice, device, voice, "warm")
    recorder = Recorder(job, public_voice(voice), {})
    with tempfile.TemporaryDirectory(prefix="lab-validate-") as folder, watching(job.plan) as (watch, progress):
        run, _ = run_benchmark(Here(job, progress), recorder, Path(folder), cancel=cancel, watch=watch)
    cancel.check()
    return list(target_lines(run, config.name, _UNOPTIMISED))


def _print_lines(lines: list[Line]) -> None:
    table = Table("check", "state", "figure", header_style="bold")
    colours = {"pass": "green", "fail": "bold red"}
    for line in lines:
        table.add_row(escape(line.check), f"[{colours.get(line.state, 'dim')}]{line.state}[/]", escape(line.figure))
    console.print(table)
    count = {state: sum(line.state == state for line in lines) for state in ("pass", "fail", "not applicable here")}
    console.print(", ".join(f"{number} {state}" for state, number in count.items()))


def profile_command(
    config: Annotated[str, typer.Argument(help="One configuration, NAME or NAME:field=value:….")],
    text: Annotated[str, typer.Option("--text", "-t", help="What to say.")] = "These days a chicken leg is a rare dish.",
    voice: VoiceName = None,
    voice_text: Transcript = "",
    consent: Consent = False,
    seed: Seed = 1,
    weights: WeightsName = "auto",
    device: DeviceKind = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The trace file, .json or .json.gz (default: profile-CONFIG.json.gz here).", dir_okay=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Profile one utterance: stages, hottest kernels and operators, launches per step, share of the device's limit, and a trace for Perfetto.

    The times of stages and steps come from an utterance that was not profiled. Open the trace at chrome://tracing or in Perfetto.
    """
    with plain_errors(as_json):
        asked = parse(config)
        trace = out or Path(f"profile-{''.join(letter if letter.isalnum() else '-' for letter in asked.name)}.json.gz")
        if not trace.name.endswith((".json", ".json.gz")):
            raise LabError(f"{trace.name} has to end in .json or .json.gz.")
        writable(trace.absolute().parent)
        found = probe(device)
        choice = choose(weights, found)
        with one_request(text, (voice, voice_text, consent), seed, choice.weights, found) as (pool, request, cancel, follower):
            profile = pool.profile(asked, request, trace.absolute(), cancel=cancel, progress=follower)
        document = dataclasses.asdict(profile)
        result = document.pop("result")
        document |= {name: result[name] for name in ("total_ms", "stages_ms", "steps_ms", "samples", "frames", "peak_memory_mb", "invalid")}
        _print_profile(asked.name, f"{choice.weights.name} on {found.name}", document)
        if as_json:
            print_json({"config": asked.name, "device": found.name, "weights": choice.weights.name, **document})


def _print_profile(name: str, where: str, profile: dict[str, Any]) -> None:
    console.print(
        f"{name}, {where}: {profile['total_ms']:.1f} ms ({profile['profiled_ms']:.1f} ms under the profiler)", markup=False, soft_wrap=True
    )
    stages = Table("stage", "ms", "share", header_style="bold")
    for stage, ms in profile["stages_ms"].items():
        stages.add_row(stage, f"{ms:.1f}", f"{ms / profile['total_ms']:.0%}")
    console.print(stages)
    for title, rows in (("kernel", profile["kernels"]), ("operator", profile["operators"])):
        if rows:
            table = Table(title, "calls", "ms", "share", header_style="bold")
            for row in rows:
                table.add_row(escape(row["name"][:90]), str(row["calls"]), f"{row['ms']:.2f}", f"{row['share']:.0%}")
            console.print(table)
    unit = "launches" if profile["kernels"] else "operators"
    console.print(
        f"A step: {profile['step_ms']:.2f} ms, {profile['launches_per_step']:.0f} {unit}, {profile['flop_per_step'] / 1e9:.1f} GFLOP;"
        f" the device's limit is {profile['peak_flops'] / 1e12:.1f} TFLOP/s, of which a step uses {profile['share_of_limit']:.1%}."
        + (f" All kernels together: {profile['kernel_ms']:.1f} ms." if profile["kernels"] else ""),
        soft_wrap=True,
    )
    console.print(f"Trace: {profile['trace']}", markup=False, soft_wrap=True)


def report_command(
    runs: Annotated[
        Path | None, typer.Option("--runs", help="Folder with the runs (default: LAB_RUNS_DIR, or results/runs).", file_okay=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.", dir_okay=False)] = STATUS,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 when the file is not up to date.")] = False,
    as_json: Json = False,
) -> None:
    """Write results/STATUS.md from the stored runs: which claims they confirm or refute, the targets, the runs and their environments."""
    with plain_errors(as_json):
        listing = list_runs(runs)
        analyses = [Analysis(read_run(head.path)) for head in listing.runs]
        rows = ledger(analyses)
        text = status_markdown(analyses, listing.skipped, rows)
        documents = ledger_documents(rows)
        table = Table("claim", "expected", "measured (95 %)", "where", "verdict", header_style="bold")
        for row in documents:
            table.add_row(*(escape(str(row[name] or "-")) for name in ("says", "expected", "measured", "where", "verdict")))
        console.print(table)
        current = out.read_text(encoding="utf-8") if out.is_file() else ""
        if not check:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_whole(out, text.encode())
            console.print(f"Written to {out}", markup=False, soft_wrap=True)
        elif current != text:
            errors.print(f"{out} is not up to date: run `python -m lab report`.", markup=False, style="red", soft_wrap=True)
        if as_json:
            print_json({"path": str(out), "up_to_date": not check or current == text, "claims": documents})
        if check and current != text:
            raise typer.Exit(EXIT_FAILED)
