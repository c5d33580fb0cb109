"""One utterance under torch's profiler: where the time goes, how many kernels a step launches, how close it comes to the limit of the device.

Runs inside a worker. The times that are reported come from an utterance that was not profiled, because a profiler slows down what it watches.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import statistics
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from lab.config import EngineConfig
from lab.engine.clip import RenderRequest, RenderResult
from lab.engine.rendering import Engine
from lab.engine.turbo.limits import flop_per_step

TOP = 15
STEP = "lab solver step"  # how a step is called in the trace
#: What the driver's calls that start work on a card begin with, as the profiler names them.
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")


@dataclass(frozen=True)
class Hot:
    """A kernel or operator, over one utterance."""

    name: str
    calls: int
    ms: float  # its own time: on the card for kernels, on the host for operators
    share: float  # of all kernels, or of all operators


@dataclass(frozen=True)
class Profile:
    """What profiling one utterance showed."""

    result: RenderResult  # of the utterance that was not profiled, without audio
    profiled_ms: float  # the same under the profiler
    kernels: tuple[Hot, ...]  # on a CPU there are none
    operators: tuple[Hot, ...]
    launches_per_step: float  # calls to the driver that start work; on a CPU operators that compute
    kernel_ms: float  # all kernels together: what is left of the total is the host's
    step_ms: float
    flop_per_step: float
    vocoder_flop: float
    peak_flops: float  # measured with one large matrix product in the model's dtype
    share_of_limit: float  # model FLOP utilisation of a step: FLOP / time / peak
    trace: str


def profile_utterance(engine: Engine, config: EngineConfig, request: RenderRequest, trace: str) -> Profile:
    """Warm up, time, profile and count `request` with `config`; the trace goes to the file `trace` (Chrome's format, also read by Perfetto)."""
    for _ in range(2):
        engine.render(config, request)
    plain = engine.render(config, request)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if engine.device == "cuda" else [])]
    engine.instruments.step_range = lambda: torch.profiler.record_function(STEP)
    try:
        with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
            profiled = engine.render(config, request)
    finally:
        engine.instruments.step_range = None
    Path(trace).parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(trace)
    events = profiler.events()
    kernels = _hot([event for event in events if _on_card(event)])
    flop_per_step, vocoder_flop = _count_flop(engine, config, request)
    peak = peak_flops(engine)
    step_ms = statistics.median(plain.steps_ms)
    return Profile(
        result=dataclasses.replace(plain, audio=None, mel=None),
        profiled_ms=profiled.total_ms,
        kernels=kernels[:TOP],
        operators=_hot([event for event in events if not _on_card(event) and event.name.startswith("aten::")])[:TOP],
        launches_per_step=_launches_per_step(trace, engine.device == "cuda"),
        kernel_ms=sum(kernel.ms for kernel in kernels),
        step_ms=step_ms,
        flop_per_step=flop_per_step,
        vocoder_flop=vocoder_flop,
        peak_flops=peak,
        share_of_limit=flop_per_step / (step_ms / 1000) / peak if peak else 0.0,
        trace=trace,
    )


def _on_card(event: Any) -> bool:
    return event.device_type.name == "CUDA" and not event.name.startswith(STEP)


def _own_ms(event: Any) -> float:
    """Time that belongs to the event alone, in ms."""
    return float(event.self_device_time_total if _on_card(event) else event.self_cpu_time_total) / 1000


def _hot(events: Sequence[Any]) -> tuple[Hot, ...]:
    times: dict[str, list[float]] = {}
    for event in events:
        times.setdefault(event.name, []).append(_own_ms(event))
    total = sum(sum(values) for values in times.values()) or 1.0
    rows = [Hot(name, len(values), sum(values), sum(values) / total) for name, values in times.items()]
    return tuple(sorted(rows, key=lambda row: row.ms, reverse=True))


def _launches_per_step(trace: str, cuda: bool) -> float:
    """Launches that begin within a solver step, per step, read from the trace: the profiler's own list leaves most calls to the driver out.

    On a CPU, which launches nothing, operators are counted.
    """
    opened = gzip.open if trace.endswith(".gz") else open
    with opened(trace, "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    steps = sorted(
        (event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == STEP and event.get("cat") == "user_annotation"
    )
    if not steps:
        return 0.0
    starts = [start for start, _ in steps]
    count = 0
    for event in events:
        if event["name"].startswith(_LAUNCHES) if cuda else event.get("cat") == "cpu_op":
            place = bisect_right(starts, event["ts"]) - 1
            count += place >= 0 and event["ts"] < steps[place][1]
    return count / len(steps)


def _count_flop(engine: Engine, config: EngineConfig, request: RenderRequest) -> tuple[float, float]:
    """FLOP of one solver step (mean over steps and chunks) and of the vocoder, counted operator by operator in eager mode."""
    if engine.turbo is not None:
        # its products are not those of upstream's modules, and the counter does not see into graphs and kernels
        guided = engine.turbo.settings(config).guided
        frames = [chunk.frames for chunk in engine.render(config, request).chunks]
        steps = statistics.fmean(flop_per_step(engine.turbo.turbo.flow, length, guided) for length in frames)
        return steps, 0.0
    # torch's table lacks the attention kernel that a CPU uses
    cpu_attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)}
    counter = FlopCounterMode(display=False, custom_mapping=cpu_attention)
    with torch.compiler.set_stance("force_eager"), counter:
        result = engine.render(config, request)
    counts = {name: sum(by_operator.values()) for name, by_operator in counter.get_flop_counts().items()}
    transformer, backbone, head = (type(module).__name__ for module in engine.counted_modules)
    steps = max(len(result.steps_ms), 1)
    return counts.get(transformer, 0) / steps, counts.get(backbone, 0) + counts.get(head, 0)


def peak_flops(engine: Engine) -> float:
    """FLOP per second of a large matrix product on this device, in the dtype of the model: the best of ten."""
    cuda = engine.device == "cuda"
    size = 8192 if cuda else 2048
    dtype = next(engine.counted_modules[0].parameters()).dtype if cuda else torch.float32
    a, b = (torch.randn(size, size, device=engine.device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(10):
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(5 if cuda else 1):
            a @ b
        if cuda:
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 * (5 if cuda else 1) / (time.perf_counter() - began))
    return best
