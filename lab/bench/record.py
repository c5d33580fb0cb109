"""The schema of a run: one immutable JSON document that holds every raw sample of a benchmark and the environment it was measured in.

Samples are columns, not objects: a thousand of them take about 200 kB, and 200 runs are read in a second. Statistics are not in it; they are computed from
the samples each time, so that an old run profits from a better method. Files are `lab.bench.run_files`' concern, meaning is `lab.bench.analysis`'.

Version history: 1 is the first; 2 adds `core` to the blocks.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from lab.engine.clip import STAGES

VERSION = 2
WARM_UP = -1  # the block number of samples that belong to no block

#: What the bits of `Samples.throttle` mean (NVML's clock event reasons); `idle` and `applications clocks` are no throttling.
THROTTLE_BITS = {
    0x1: "idle",
    0x2: "applications clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
THROTTLED = 0x4 | 0x8 | 0x20 | 0x40 | 0x80

Finite = Annotated[float, Field(allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(allow_inf_nan=False, ge=0)]
Index = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArmRecord(_Record):
    """One configuration as it took part."""

    label: str = Field(description="unique in the run: the configuration's name, with (A/A) for the reference's second process")
    config: str = Field(description="name of the configuration")
    digest: str = Field(description="digest of its settings")
    settings: dict[str, Any] = Field(description="the fields that decide how it renders")
    instance: Index = Field(description="1 for the A/A arm, which has a worker process of its own; otherwise 0")


class TextRecord(_Record):
    """One text, as it was spoken."""

    id: str = Field(description="id of the text")
    set: str = Field(description="text set it was chosen for")
    text: str = Field(description="what was said")
    seconds: Milliseconds = Field(description="length of the generated audio, 0 if none was made")
    samples: Index = Field(description="the same in samples; every sample of this text has to have so many")


class MachineRecord(_Record):
    """What a sample was measured on: the device, the host, and the software."""

    device: str = Field(description="name of the card, or of the processor")
    kind: Literal["cuda", "cpu"]
    capability: str = Field(description="CUDA compute capability, empty on a CPU")
    device_memory_gb: Milliseconds = Field(description="memory of the card, 0 on a CPU")
    cpu: str = Field(description="processor of the host")
    cores: Index = Field(description="processor cores that the lab may use")
    memory_gb: Milliseconds = Field(description="memory of the host")
    os: str = Field(description="operating system and kernel")
    python: str
    packages: dict[str, str] = Field(description="versions of what decides the speed")
    driver: str = Field(description="NVIDIA driver, empty on a CPU")
    cuda: str = Field(description="CUDA that torch was built for, empty on a CPU")
    cudnn: str = Field(description="cuDNN that torch uses, empty on a CPU")
    variables: dict[str, str] = Field(description="environment variables that decide the speed, where they are set")
    commit: str = Field(description="commit of the lab, with + where files were changed; empty outside a checkout")
    worker: str = Field(default="", description="which worker of a cluster; empty without one")

    @property
    def machine(self) -> str:
        """What a person calls the machine: runs on equal ones can be compared."""
        where = f"{self.device} · " if self.kind == "cuda" else ""
        return f"{where}{self.cores} × {self.cpu}"


class StartRecord(_Record):
    """One start of a worker process: the cold start, which is no sample."""

    arms: list[Index] = Field(description="arms that it renders for")
    device: Index
    launch: Index
    seconds: Milliseconds = Field(description="from starting the process to the loaded model")
    together: int = Field(ge=1, description="how many were starting at the same time; they slow each other down")


class BlockRecord(_Record):
    """Samples that were measured together: one text, one seed, each arm twice (A B B A)."""

    number: Index
    round: Index
    launch: Index
    text: Index
    device: Index
    seed: Index
    core: Index | None = Field(description="processor core that its engines were pinned to; null where they were not")
    noise: str = Field(description="SHA-256 of the initial noise, the same for every sample of the block (16 digits)")


class FailureRecord(_Record):
    """An utterance that gave no sample."""

    block: int = Field(ge=WARM_UP)
    arm: Index
    text: Index
    message: str


class Samples(_Record):
    """All samples in the order in which they were measured, a list per column."""

    block: list[Annotated[int, Field(ge=WARM_UP)]] = Field(description="number of the block, -1 for a warm-up")
    arm: list[Index]
    text: list[Index]
    device: list[Index]
    at_s: list[Milliseconds] = Field(description="seconds since the start of the run, when the utterance was asked for")
    total_ms: list[Milliseconds] = Field(description="request to float32 PCM on the host, vocoder included, model load excluded")
    latency_ms: list[Milliseconds] = Field(description="the same as the caller saw it: waiting for the device and transport included")
    stages_ms: dict[str, list[Milliseconds]] = Field(description="the total in stages: " + ", ".join(STAGES))
    step_ms: list[Milliseconds] = Field(description="median time of a solver step")
    empty_cache_ms: list[Milliseconds] = Field(description="of the total, spent in torch.cuda.empty_cache()")
    empty_cache_calls: list[Index]
    compile_ms: list[Milliseconds] = Field(description="of the total, spent compiling (torch.compile)")
    graphs: list[Index] = Field(description="graphs that torch.compile had built in the process by then")
    memory_mb: list[Milliseconds] = Field(description="peak memory: allocated on the card, resident on a CPU")
    cold: list[Literal[0, 1]] = Field(description="1 for the first utterance of a process")
    frames: list[Index] = Field(description="generated mel frames")
    chunks: list[Index] = Field(description="pieces that the text was cut into")
    audio: list[str] = Field(description="SHA-256 of the samples (12 digits): equal audio has equal ones")
    sm_mhz: list[Index | None] = Field(description="clock of the card's processors just after the sample; null without NVML")
    memory_mhz: list[Index | None] = Field(description="clock of the card's memory")
    temperature_c: list[int | None]
    power_w: list[Milliseconds | None]
    throttle: list[Index | None] = Field(
        description="NVML's clock event reasons, bits: " + ", ".join(f"{bit} {name}" for bit, name in THROTTLE_BITS.items())
    )
    load: list[Milliseconds | None] = Field(description="load average of the last minute; null where the system has none")
    busy_percent: list[Milliseconds] = Field(description="of all processor time since the sample before, used by anybody (100: all cores)")
    invalid: dict[Index, list[str]] = Field(description="why a sample must not be counted, by its place in the columns (from 0)")

    def __len__(self) -> int:
        return len(self.block)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        lengths = {len(value) for value in self.columns().values()}
        if len(lengths) > 1:
            raise ValueError(f"columns of {len(lengths)} different lengths")
        if set(self.stages_ms) != set(STAGES):
            raise ValueError(f"stages are {', '.join(self.stages_ms)} instead of {', '.join(STAGES)}")
        if any(index >= len(self) for index in self.invalid):
            raise ValueError("invalid names a sample that is not there")
        return self

    def columns(self) -> dict[str, list[Any]]:
        """Every column by name, the stages as `stage NAME`."""
        flat = {name: getattr(self, name) for name in type(self).model_fields if name not in ("stages_ms", "invalid")}
        return flat | {f"stage {name}": column for name, column in self.stages_ms.items()}


class PlanRecord(_Record):
    """What was asked for."""

    rounds: int = Field(ge=1)
    warmup: Index = Field(description="warm-ups for each arm and text, in each process")
    launches: int = Field(ge=1, description="sets of worker processes, each started from nothing")
    concurrency: int = Field(ge=1, description="requests at a time; above 1 a sample's pair is compared by the time of the whole burst")
    seed: Index
    reference_cache: Literal["warm", "cold"]
    cluster: str = Field(default="", description="the cluster it was spread over, empty for this machine alone")


class VoiceRecord(_Record):
    """The reference clip."""

    id: str
    seconds: Milliseconds
    sha256: str


class WeightsRecord(_Record):
    """The weights."""

    name: str
    kind: str
    architecture: str


class Run(_Record):
    """One benchmark."""

    version: Literal[2] = 2
    id: str = Field(description="name of the file without .json", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,120}$")
    created: AwareDatetime = Field(description="when it began, UTC")
    state: Literal["complete", "interrupted"]
    reason: str = Field(description="why it was interrupted, empty when complete")
    command: str = Field(description="the command line that made it")
    seconds: Milliseconds = Field(description="how long it took, starts and warm-ups included")
    plan: PlanRecord
    weights: WeightsRecord
    voice: VoiceRecord
    arms: list[ArmRecord] = Field(min_length=1, description="the first is the reference")
    texts: list[TextRecord] = Field(min_length=1)
    devices: list[MachineRecord]
    starts: list[StartRecord]
    blocks: list[BlockRecord]
    samples: Samples
    failures: list[FailureRecord]
    skipped: dict[str, str] = Field(description="configurations that cannot run on this device, with the reason")

    @model_validator(mode="after")
    def _indices_exist(self) -> Self:
        numbers = {block.number for block in self.blocks} | {WARM_UP}
        if len(numbers) != len(self.blocks) + 1:
            raise ValueError("two blocks have the same number")
        there = {"arm": len(self.arms), "text": len(self.texts), "device": len(self.devices)}
        for name, size in there.items():
            used = [max(getattr(self.samples, name), default=-1)]
            used += [getattr(item, name) for item in (*self.blocks, *self.starts, *self.failures) if hasattr(item, name)]
            if max(used) >= size:
                raise ValueError(f"{name} {max(used)} is not in the run's list of {size}")
        if not set(self.samples.block) <= numbers:
            raise ValueError("a sample belongs to a block that is not in the run")
        if len({arm.label for arm in self.arms}) != len(self.arms):
            raise ValueError("two arms have the same label")
        return self

    @property
    def machine(self) -> str:
        """The machine; of a cluster, all different ones."""
        return " + ".join(dict.fromkeys(device.machine for device in self.devices)) or "no device"

    @property
    def card(self) -> str:
        """The device's name, or names."""
        return " + ".join(dict.fromkeys(device.device for device in self.devices)) or "no device"
