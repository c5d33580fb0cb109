"""`bench`: measure configurations in paired blocks and write a run; `bench gate`: fail where a newer run is slower."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lab.bench import gate as gates
from lab.bench.measure import WORKER, Event, Failed, Job, Sample
from lab.bench.plan import Plan, make_plan
from lab.bench.recorder import Recorder
from lab.bench.run_files import find_run, runs_dir
from lab.bench.runner import Executor, Here, run_benchmark
from lab.bench.tables import run_document
from lab.bench.text_sets import choose_texts
from lab.cli.output import EXIT_FAILED, EXIT_STOPPED, console, errors, plain_errors, print_json, stoppable
from lab.cli.render import CacheState, Consent, DeviceKind, Json, Transcript, VoiceName, WeightsName, check_cache, chosen_voice, writable
from lab.cli.run_tables import print_gate, print_run
from lab.compare import make_request
from lab.config import DEFAULT_PAIR, REGISTRY, EngineConfig, parse_list
from lab.engine.device import Device, fitness, probe
from lab.engine.pool import EnginePool
from lab.engine.process import Progress as EngineProgress
from lab.engine.weights import Choice, choose
from lab.errors import LabError
from lab.voices import Voice, bundled_voice

bench_app = typer.Typer(help="Measure configurations in paired blocks, and compare runs.", invoke_without_command=True)


def _fitting(specs: str, device: Device) -> tuple[list[EngineConfig], dict[str, str]]:
    """The configurations of `specs`, and those that cannot run here with the reason; only `all` may leave some out."""
    configs = parse_list(",".join(REGISTRY) if specs == "all" else specs)
    refused = {config.name: reason for config in configs if (reason := fitness(config, device).refused)}
    if refused and specs != "all":
        name, reason = next(iter(refused.items()))
        raise LabError(f"{name} cannot run on this device: {reason}.")
    return [config for config in configs if config.name not in refused], refused


@contextmanager
def watching(plan: Plan) -> Iterator[tuple[Callable[[Event], None], EngineProgress]]:
    """A progress line on stderr with the time left; yields what to call with each event, and with what an engine is doing."""
    columns = (
        *(SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()),
        *(TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()),
    )
    # a long memory: configurations take turns, and a fast one must not promise an early end
    with Progress(*columns, console=errors, transient=True, speed_estimate_period=600) as progress:
        task = progress.add_task("starting", total=plan.renders)

        def watch(event: Event) -> None:
            if isinstance(event, Failed):
                errors.print(f"{plan.arms[event.arm].label}: {event.message}", markup=False, style="red", soft_wrap=True)
            if isinstance(event, Sample | Failed):
                where = "warming up" if event.block < 0 else f"block {event.block + 1} of {plan.rounds * len(plan.sets)}"
                progress.update(task, advance=1, description=f"{where}, {plan.arms[event.arm].label}")

        yield watch, lambda stage, _done, _total: progress.update(task, description=stage)


def make_job(plan_of: Callable[[Voice], Plan], choice: Choice, device: Device, voice: Voice, cache: str, *, pin: bool = True) -> Job:
    """Check every text against the weights, and put the job together."""
    plan = plan_of(voice)
    with EnginePool(choice.weights, device) as pool:
        for text in plan.texts:
            make_request(pool, text.text, voice, plan.seed, reference_cache=cache)
    return Job(plan, choice.weights.name, device.kind, voice, voice.path.read_bytes(), cache, time.time(), WORKER, pin)


def _executor(job: Job, cluster: str, progress: EngineProgress) -> Executor:
    if not cluster:
        return Here(job, progress)
    from lab.bench.cluster import Cluster

    return Cluster(job, cluster, progress)


def public_voice(voice: Voice) -> str:
    """What a run calls a voice: a person's own clip has no name in it."""
    return voice.id if bundled_voice(voice.id) else "own voice"


@bench_app.callback()
def bench_command(
    context: typer.Context,
    configs: Annotated[
        str,
        typer.Option(
            "--configs",
            "-c",
            help="Configurations, separated by commas, each NAME or NAME:field=value:…; the first is the reference; or all.",
        ),
    ] = ",".join(DEFAULT_PAIR),
    texts: Annotated[
        str,
        typer.Option(
            "--texts", "-t", help="Text sets, separated by commas: short (3 s), medium (8 s), long (25 s), extended, mixed; or ids."
        ),
    ] = "medium",
    voice: VoiceName = None,
    voice_text: Transcript = "",
    consent: Consent = False,
    rounds: Annotated[int, typer.Option("--rounds", "-r", help="Blocks for each text set; a block has every configuration twice.")] = 30,
    warmup: Annotated[int, typer.Option("--warmup", help="Utterances of each configuration and text before anything counts.")] = 1,
    launches: Annotated[
        int | None,
        typer.Option(
            "--launches",
            help="Spread the rounds over so many sets of fresh processes, because two processes of one configuration can differ for as long as they live"
            " (default: 6, at most one a round).",
        ),
    ] = None,
    weights: WeightsName = "auto",
    device: DeviceKind = "auto",
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency", help="Requests at a time; above 1 pairs compare the time of the burst, and latencies include waiting."
        ),
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", "-s", help="Decides the order of the blocks and the noise.")] = 1,
    reference_cache: CacheState = "warm",
    cluster: Annotated[
        str,
        typer.Option(
            "--cluster",
            help="Spread the blocks over the workers of a Dask cluster: the ADDRESS of its scheduler, or local:N.",
            metavar="ADDRESS|local:N",
        ),
    ] = "",
    pin: Annotated[
        bool,
        typer.Option(
            "--pin/--no-pin", help="On a GPU, keep the engines on one processor core, the quietest one, while a block is measured (Linux)."
        ),
    ] = True,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Stop after the block in which this time ends.", min=0.01)] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the run file (default: LAB_RUNS_DIR, or results/runs).", file_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure configurations against each other in randomised ABBA blocks on the same noise, with an A/A arm that is always on.

    Writes one run file and prints what it says. The ratio of a pair is the time of a over the time of b, so below 1 means that a is faster. Ctrl-C keeps what
    was measured (exit code 130). Exits with 1 when a configuration gave no sample at all.
    """
    if context.invoked_subcommand is not None:
        return
    with plain_errors(as_json):
        check_cache(reference_cache)
        folder = out or runs_dir()
        writable(folder)
        found = probe(device)
        chosen, skipped = _fitting(configs, found)
        choice = choose(weights, found)

        def plan_of(speaker: Voice) -> Plan:
            said = choose_texts(texts, speaker.seconds, speaker.transcript)
            return make_plan(
                chosen,
                said,
                rounds=rounds,
                warmup=warmup,
                launches=min(6, rounds) if launches is None else launches,
                concurrency=concurrency,
                seed=seed,
            )

        with chosen_voice((voice, voice_text, consent), choice.weights.kind) as speaker:
            job = make_job(plan_of, choice, found, speaker, reference_cache, pin=pin)
            recorder = Recorder(job, public_voice(speaker), skipped, cluster)
            for name, reason in skipped.items():
                errors.print(f"{name} is left out: {reason}.", markup=False, style="yellow", soft_wrap=True)
            with stoppable() as cancel, watching(job.plan) as (watch, progress):
                executor = _executor(job, cluster, progress)
                limit = None if minutes is None else minutes * 60
                run, path = run_benchmark(executor, recorder, folder, cancel=cancel, watch=watch, seconds=limit)
        analysis = print_run(run)
        console.print(f"Written to {path}", markup=False, soft_wrap=True)
        if as_json:
            print_json({"run": str(path), **run_document(analysis)})
        if run.state == "interrupted" and run.reason == "stopped":
            raise typer.Exit(EXIT_STOPPED)
        if len(set(run.samples.arm)) < len(run.arms):  # one gave no sample at all: its worker failed each time
            raise typer.Exit(EXIT_FAILED)


@bench_app.command("gate")
def gate_command(
    baseline: Annotated[str, typer.Option("--baseline", help="The run to hold on to: an id, the path of a file, or latest.")],
    candidate: Annotated[str, typer.Option("--candidate", help="The run to judge.")],
    max_slowdown: Annotated[str, typer.Option("--max-slowdown", help="How much slower a configuration may be, as 5% or 0.05.")] = "5%",
    strict: Annotated[bool, typer.Option("--strict", help="Fail also where the runs are too noisy to tell.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two runs of one machine, and fail (exit code 1) where a configuration has become slower than is allowed.

    It fails when the median time has grown by more than the limit and the 95 % interval leaves no doubt that it has grown; when a configuration of the
    baseline was not measured; or when more of its samples are invalid. With --strict also when the interval reaches beyond the limit.
    """
    with plain_errors(as_json):
        result = gates.judge(find_run(baseline), find_run(candidate), gates.parse_limit(max_slowdown), strict=strict)
        print_gate(result)
        if as_json:
            print_json(gates.document(result))
        if not result.passed:
            raise typer.Exit(EXIT_FAILED)
