"""What turbo does on this machine: time per step, share of the device's limit, batches, first audio, and what a shape costs that is new to it."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lab.audio import SAMPLE_RATE
from lab.config import EngineConfig
from lab.engine.clip import RenderRequest
from lab.engine.instruments import dtype_name
from lab.engine.profiling import peak_flops
from lab.engine.turbo import Piece, Trace, first_short, joined
from lab.engine.turbo.buckets import rows_for
from lab.engine.turbo.limits import flop_per_step
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.engine.rendering import Engine

_FRAMES = {"cuda": (512, 800, 1024, 1218, 1312, 1406, 2048), "cpu": (300, 500)}
_REPEATS = {"cuda": 20, "cpu": 1}
_BATCH = {"cuda": 8, "cpu": 2}
_BATCHED = {"cuda": (512, 800, 1024, 1218, 1406), "cpu": (300,)}  # frames of a batch's longest
_RANDOM_LENGTHS = {"cuda": 50, "cpu": 2}


@dataclass(frozen=True)
class StepTime:
    """A solver step at one length."""

    frames: int
    ms: float  # median
    gflop: float
    share_of_limit: float  # MFU: against the rate of a large dense matrix product in the model's dtype, measured in the same process


@dataclass(frozen=True)
class NewShape:
    """What the first sequence of a length costs more than the second."""

    frames: int
    first_ms: float
    second_ms: float


@dataclass(frozen=True)
class BatchTime:
    """Utterances of about `frames` frames each, one after another and together: sampled, decoded and on the host."""

    utterances: int
    frames: int
    one_by_one_ms: float
    together_ms: float
    gain: float  # in throughput: the median ratio of pairs


@dataclass(frozen=True)
class TurboReport:
    """Times are milliseconds, memory is MiB."""

    dtype: str
    peak_tflops: float
    steps: tuple[StepTime, ...]
    new_shapes: tuple[NewShape, ...]
    batches: tuple[BatchTime, ...]
    first_audio_ms: float  # from the request to the first samples on the host
    first_audio_seconds: float  # how much sound they are
    streamed_ms: float  # until the last
    whole_ms: float  # the same chunks, not streamed
    lengths_tried: int  # random lengths in buckets that were used before
    captures_meanwhile: int
    replays_meanwhile: int
    captures: int  # since the engine started
    capture_ms: float
    graph_mb: float
    no_graphs: str
    no_kernels: str
    attention: str


def _timed(work: Callable[..., Any], *arguments: Any) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    work(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - began) * 1000


def report_turbo(engine: Engine, config: EngineConfig, request: RenderRequest) -> TurboReport:
    """Measure `config` with the voice and the text of `request`; everything is warmed up before it counts, but what is called new.

    Raises:
        LabError: the configuration's sampler is not turbo.
    """
    if engine.turbo is None:
        raise LabError(f"{config.name} does not use turbo: choose one with sampler=turbo, for example turbo-nfe7.")
    turbo, speaker = engine.turbo.turbo, engine.turbo.speaker
    kind = engine.device
    repeats = _REPEATS[kind]
    settings = engine.turbo.settings(config)
    generator = torch.Generator().manual_seed(request.seed)

    def noise(_: int, frames: int) -> torch.Tensor:
        return torch.randn(frames, turbo.flow.shape.mel, generator=generator).to(turbo.device)

    voice = speaker.voice(request.voice_path, request.voice_text)
    words = speaker.pieces(voice, [request.text], 1.0, noise)[0].ids

    def piece(frames: int) -> Piece:
        return Piece(voice.mel, words, max(frames, len(voice.mel) + 1), noise(0, frames))

    def sample(frames: int) -> list[float]:
        trace = Trace()
        turbo.mels([piece(frames)], settings, trace)
        if kind == "cuda":
            torch.cuda.synchronize()
        return trace.steps_ms[0]()

    def apart(pieces: list[Piece]) -> None:
        for one in pieces:
            speaker.render(voice, [one], settings)

    new_shapes, steps = [], []
    peak = peak_flops(engine)
    for frames in _FRAMES[kind]:
        first, second = (_timed(sample, frames) for _ in range(2))
        new_shapes.append(NewShape(frames, first, second))
    for frames in _FRAMES[kind]:
        ms = statistics.median(step for _ in range(repeats) for step in sample(frames))
        flop = flop_per_step(turbo.flow, frames, settings.guided)
        steps.append(StepTime(frames, ms, flop / 1e9, flop / (ms / 1000) / peak if peak else 0.0))

    batches = []
    for frames in _BATCHED[kind]:
        pieces = [piece(frames - 8 * number) for number in range(_BATCH[kind])]
        alone, together = [], []
        for _ in range(1 + repeats):
            alone.append(_timed(apart, pieces))
            together.append(_timed(speaker.render, voice, pieces, settings))
        gain = statistics.median(a / b for a, b in zip(alone[1:], together[1:], strict=True))
        batches.append(BatchTime(len(pieces), frames, statistics.median(alone[1:]), statistics.median(together[1:]), gain))

    start, rest = first_short(request.text)
    chunks = [start, *(speaker.chunks(voice, rest, 1.0) if rest else [])]
    firsts, lasts, wholes, seconds = [], [], [], 0.0
    for _ in range(2 + repeats):
        began = time.perf_counter()
        stream = speaker.stream(voice, chunks, settings, noise)
        sound = next(stream)
        firsts.append((time.perf_counter() - began) * 1000)
        seconds = len(sound) / SAMPLE_RATE
        for _ in stream:
            pass
        lasts.append((time.perf_counter() - began) * 1000)
        wholes.append(_timed(lambda: joined(speaker.render(voice, speaker.pieces(voice, chunks, 1.0, noise), settings)[0])))

    rng = random.Random(request.seed)
    lengths = [rng.randint(_FRAMES[kind][0], _FRAMES[kind][-1]) for _ in range(_RANDOM_LENGTHS[kind])]
    turbo.warmup(map(rows_for, lengths), settings, generated=[length - voice.frames for length in lengths])
    before = (turbo.counters.captures, turbo.counters.replays)
    for length in lengths:
        speaker.render(voice, [piece(length)], settings)
    counters = turbo.counters
    return TurboReport(
        dtype=dtype_name(turbo.flow.dtype),
        peak_tflops=peak / 1e12,
        steps=tuple(steps),
        new_shapes=tuple(new_shapes),
        batches=tuple(batches),
        first_audio_ms=statistics.median(firsts[2:]),
        first_audio_seconds=seconds,
        streamed_ms=statistics.median(lasts[2:]),
        whole_ms=statistics.median(wholes[2:]),
        lengths_tried=len(lengths),
        captures_meanwhile=counters.captures - before[0],
        replays_meanwhile=counters.replays - before[1],
        captures=counters.captures,
        capture_ms=counters.capture_ms,
        graph_mb=counters.graph_mb,
        no_graphs=turbo.no_graphs,
        no_kernels=turbo.no_kernels,
        attention=turbo.attention,
    )
