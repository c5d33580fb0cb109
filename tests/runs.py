"""Runs made of random numbers, in every way like measured ones: for tests of what is computed from runs, and for measuring how it grows."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from lab.bench.measure import Job, Sample, Started
from lab.bench.plan import Plan, blocks, make_plan
from lab.bench.record import WARM_UP, MachineRecord, Run
from lab.bench.recorder import Recorder
from lab.bench.telemetry import Reading
from lab.bench.text_sets import choose_texts
from lab.config import parse_list
from lab.engine.clip import Chunk, Engagement, RenderResult
from lab.voices import default_voice

BEGAN = datetime(2026, 11, 25, 6, 0, tzinfo=UTC).timestamp()


def machine(device: str = "a CPU", kind: str = "cpu", **changes) -> MachineRecord:
    facts = {
        "device": device,
        "kind": kind,
        "capability": "9.0" if kind == "cuda" else "",
        "device_memory_gb": 79.0 if kind == "cuda" else 0.0,
        "cpu": "a processor",
        "cores": 2,
        "memory_gb": 23.5,
        "os": "Linux",
        "python": "3.11.7",
        "packages": {"torch": "2.13.0"},
        "driver": "580.1" if kind == "cuda" else "",
        "cuda": "13.0" if kind == "cuda" else "",
        "cudnn": "",
        "variables": {},
        "commit": "0123456789ab",
    }
    return MachineRecord(**{**facts, **changes})


def result(
    total_ms: float, seconds: float, *, nfe: int = 7, audio: str = "audio", cold: bool = False, invalid: tuple[str, ...] = ()
) -> RenderResult:
    samples = round(seconds * 24_000)
    stages = {"reference": 0.02, "text": 0.01, "sampler": 0.9, "vocoder": 0.05, "transfer": 0.01, "other": 0.01}
    return RenderResult(
        samples=samples,
        frames=samples // 256 + 1,
        total_ms=total_ms,
        stages_ms={name: share * total_ms for name, share in stages.items()},
        steps_ms=(total_ms * 0.9 / nfe,) * nfe,
        empty_cache_ms=0.0,
        peak_memory_mb=800.0,
        memory_kind="resident",
        chunks=(Chunk("text", 200, "noise"),),
        noise_sha256=hashlib.sha256(f"{seconds}".encode()).hexdigest(),
        mel_sha256="mel",
        audio_sha256=hashlib.sha256(audio.encode()).hexdigest(),
        engagement=Engagement("overlay", 0, {}, 0, {}),
        invalid=invalid,
        warm_engine=not cold,
    )


def plan(configs: str = "baseline,optimized", texts: str = "short,medium", rounds: int = 10, **settings) -> Plan:
    voice = default_voice("demo")
    return make_plan(parse_list(configs), choose_texts(texts, voice.seconds, voice.transcript), rounds=rounds, **settings)


def job(of: Plan | None = None, weights: str = "demo", began: float = BEGAN, **changes) -> Job:
    voice = default_voice("demo")
    return Job(
        **{
            "plan": of or plan(),
            "weights": weights,
            "device": "cpu",
            "voice": voice,
            "wav": voice.path.read_bytes(),
            "reference_cache": "warm",
            "began": began,
            **changes,
        }
    )


def synthetic_run(
    configs: str = "baseline,optimized",
    texts: str = "short,medium",
    rounds: int = 10,
    *,
    times: Mapping[str, float] | None = None,
    noise: float = 0.02,
    aa_shift: float = 0.0,
    seed: int = 0,
    weights: str = "demo",
    on: MachineRecord | None = None,
    began: float = BEGAN,
    state: str = "complete",
    **settings,
) -> Run:
    """A run whose times are `times` (by configuration, ms per second of audio; 50 by default) with log-normal noise, plus 20 ms."""
    on = on or machine()
    rng = np.random.default_rng(seed)
    what = plan(configs, texts, rounds, **settings)
    recorder = Recorder(job(what, weights, began), "demo-female", {}, command=["bench"])
    device = recorder.machine(on)
    at = 10.0
    first = next(blocks(what))
    for index in range(len(what.arms)):
        recorder.add(Started((index,), 0, 4.0, len(what.arms)), device, first)

    def sample(block: int, arm: int, text: int, cold: bool) -> Sample:
        nonlocal at
        label, config = what.arms[arm].label, what.arms[arm].config
        seconds = what.texts[text].estimated_seconds
        total = (20 + (times or {}).get(config.name, 50.0) * seconds) * float(np.exp(rng.normal(0, noise))) * (3 if cold else 1)
        if label.endswith("(A/A)"):
            total *= 1 + aa_shift
        at += total / 1000
        clocks = (
            Reading(1980, 2619, 45, 310.5, 0x4 if rng.random() < 0.02 else 0, 0.4, 12.0)
            if on.kind == "cuda"
            else Reading(None, None, None, None, None, 1.2, 60.0)
        )
        return Sample(block, arm, text, at, total + 1, result(total, seconds, nfe=config.nfe, audio=f"{text} {seed}", cold=cold), clocks)

    for arm in range(len(what.arms)):
        for text in range(len(what.texts)):
            recorder.add(sample(WARM_UP, arm, text, cold=text == 0), device, first)
    for block in blocks(what):
        for arm in block.order:
            recorder.add(sample(block.number, arm, block.text, cold=False), device, block)
    return recorder.run("complete" if state == "complete" else "interrupted", "" if state == "complete" else "stopped")
