"""Puts the events of a benchmark together into a run, wherever they were measured and in whatever order they come."""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lab.bench.measure import Event, Failed, Job, Pinned, Sample, Started, median_step
from lab.bench.plan import Block
from lab.bench.record import (
    WARM_UP,
    ArmRecord,
    BlockRecord,
    FailureRecord,
    MachineRecord,
    PlanRecord,
    Run,
    Samples,
    StartRecord,
    TextRecord,
    VoiceRecord,
    WeightsRecord,
)
from lab.bench.run_files import run_id
from lab.engine.clip import STAGES
from lab.engine.weights import resolve


class Recorder:
    """Collects what is measured; `run` makes the document of what there is so far."""

    def __init__(self, job: Job, voice_id: str, skipped: dict[str, str], cluster: str = "", command: Sequence[str] | None = None) -> None:
        self._job = job
        self._voice_id = voice_id
        self._skipped = skipped
        self._cluster = cluster
        self._command = shlex.join(["python", "-m", "lab", *(sys.argv[1:] if command is None else command)])
        self._machines: list[MachineRecord] = []
        self._blocks: dict[int, BlockRecord] = {}
        self._starts: list[StartRecord] = []
        self._failures: list[FailureRecord] = []
        self._rows: list[dict[str, Any]] = []
        self._invalid: dict[int, list[str]] = {}
        self._samples_of: dict[int, int] = {}  # text -> samples that every utterance of it has to have
        self._seconds: dict[int, float] = {}
        self._cores: dict[int, int] = {}  # block -> core that its engines were pinned to

    @property
    def failures(self) -> list[FailureRecord]:
        """Utterances that gave no sample."""
        return self._failures

    @property
    def has_samples(self) -> bool:
        """Whether anything was measured."""
        return bool(self._rows)

    def machine(self, machine: MachineRecord) -> int:
        """The number of a machine in the run."""
        if machine not in self._machines:
            self._machines.append(machine)
        return self._machines.index(machine)

    def add(self, event: Event, device: int, block: Block) -> None:
        """Record one event of `block`, measured on the machine of that number."""
        if isinstance(event, Started):
            self._starts.append(
                StartRecord(
                    arms=list(event.arms), device=device, launch=event.launch, seconds=round(event.seconds, 3), together=event.together
                )
            )
        elif isinstance(event, Pinned):
            self._cores[block.number] = event.core
        elif isinstance(event, Failed):
            self._failures.append(FailureRecord(block=event.block, arm=event.arm, text=event.text, message=event.message))
            if event.block != WARM_UP:
                self._open_block(block, device, "")
        else:
            self._add_sample(event, device, block)

    def _open_block(self, block: Block, device: int, noise: str) -> BlockRecord:
        known = self._blocks.get(block.number)
        if known is None or (noise and not known.noise):
            self._blocks[block.number] = BlockRecord(
                number=block.number,
                round=block.round,
                launch=block.launch,
                text=block.text,
                device=device,
                seed=block.seed,
                core=self._cores.get(block.number),
                noise=noise,
            )
        return self._blocks[block.number]

    def _add_sample(self, sample: Sample, device: int, block: Block) -> None:
        result = sample.result
        reasons = list(result.invalid)
        if sample.block != WARM_UP:
            noise = result.noise_sha256[:16]
            if self._open_block(block, device, noise).noise != noise:
                reasons.append("was rendered from other noise than its block")
        expected = self._samples_of.setdefault(sample.text, result.samples)
        self._seconds.setdefault(sample.text, result.seconds)
        if result.samples != expected:
            reasons.append(f"{result.samples} samples where others of this text have {expected}")
        if reasons:
            self._invalid[len(self._rows)] = reasons
        reading = sample.reading
        self._rows.append(
            {
                "block": sample.block,
                "arm": sample.arm,
                "text": sample.text,
                "device": device,
                "at_s": round(sample.at_s, 4),
                "total_ms": round(result.total_ms, 3),
                "latency_ms": round(sample.latency_ms, 2),
                **{f"stage {name}": round(max(result.stages_ms.get(name, 0.0), 0.0), 3) for name in STAGES},
                "step_ms": round(median_step(result), 3),
                "empty_cache_ms": round(result.empty_cache_ms, 3),
                "empty_cache_calls": result.engagement.empty_cache_calls,
                "compile_ms": round(result.compile_ms, 1),
                "graphs": result.engagement.graphs,
                "memory_mb": round(result.peak_memory_mb, 1),
                "cold": int(not result.warm_engine),
                "frames": result.frames,
                "chunks": len(result.chunks),
                "audio": result.audio_sha256[:12],
                "sm_mhz": reading.sm_mhz,
                "memory_mhz": reading.memory_mhz,
                "temperature_c": reading.temperature_c,
                "power_w": None if reading.power_w is None else round(reading.power_w, 1),
                "throttle": reading.throttle,
                "load": None if reading.load is None else round(reading.load, 2),
                "busy_percent": round(reading.busy_percent, 1),
            }
        )

    def run(self, state: Literal["complete", "interrupted"] = "complete", reason: str = "") -> Run:
        """The run so far."""
        job = self._job
        weights = resolve(job.weights)
        created = datetime.fromtimestamp(job.began, UTC).replace(microsecond=0)
        names = [name for name in Samples.model_fields if name not in ("stages_ms", "invalid")]
        card = self._machines[0].device if self._machines else "no device"
        return Run(
            id=run_id(created, card, weights.name) + f"-{_short_digest(job)}",
            created=created,
            state=state,
            reason=reason,
            command=self._command,
            seconds=round(max(0.0, time.time() - job.began), 1),
            plan=PlanRecord(
                rounds=job.plan.rounds,
                warmup=job.plan.warmup,
                launches=job.plan.launches,
                concurrency=job.plan.concurrency,
                seed=job.plan.seed,
                reference_cache="cold" if job.reference_cache == "cold" else "warm",
                cluster=self._cluster,
            ),
            weights=WeightsRecord(
                name=Path(weights.name).name if weights.kind == "path" else weights.name,
                kind=weights.kind,
                architecture=weights.architecture,
            ),
            voice=VoiceRecord(id=self._voice_id, seconds=round(job.voice.seconds, 3), sha256=job.voice.sha256),
            arms=[
                ArmRecord(
                    label=arm.label, config=arm.config.name, digest=arm.config.digest, settings=arm.config.settings, instance=arm.instance
                )
                for arm in job.plan.arms
            ],
            texts=[
                TextRecord(
                    id=text.id,
                    set=text.set,
                    text=text.text,
                    seconds=round(self._seconds.get(index, 0.0), 4),
                    samples=self._samples_of.get(index, 0),
                )
                for index, text in enumerate(job.plan.texts)
            ],
            devices=list(self._machines),
            starts=list(self._starts),
            blocks=sorted(self._blocks.values(), key=lambda block: block.number),
            samples=Samples(
                **{name: [row[name] for row in self._rows] for name in names},
                stages_ms={name: [row[f"stage {name}"] for row in self._rows] for name in STAGES},
                invalid=dict(self._invalid),
            ),
            failures=list(self._failures),
            skipped=dict(self._skipped),
        )


def _short_digest(job: Job) -> str:
    """Four digits that keep two runs of the same second apart."""
    return hashlib.sha256(repr((job.began, job.plan, job.weights)).encode()).hexdigest()[:4]
