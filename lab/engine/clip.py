"""What is asked of a worker and what comes back: requests, clips, and the proof that a configuration was really in force.

Plain dataclasses with numpy arrays, so that a page or a script can use them without torch.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.audio import SAMPLE_RATE
from lab.config import EngineConfig
from lab.errors import LabError

NOT_FINITE = "not finite"  # in `RenderResult.invalid`: the audio has NaN or infinity
STAGES = ("reference", "text", "sampler", "vocoder", "transfer", "other")

Audio = NDArray[np.float32]


def wav_bytes(samples: Audio, rate: int = SAMPLE_RATE) -> bytes:
    """`samples` (n,) float32 as a mono 32-bit float WAV, the same bytes each time."""
    # libsndfile writes the time of day into float WAVs (the PEAK chunk), which would give equal audio different hashes
    from scipy.io import wavfile

    buffer = io.BytesIO()
    wavfile.write(buffer, rate, samples)
    return buffer.getvalue()


@dataclass(frozen=True)
class RenderRequest:
    """One utterance: a text in a voice with a seed."""

    text: str
    voice_path: str  # a mono WAV that the lab wrote or ships
    voice_text: str  # its transcript
    seed: int = 1
    reference_cache: str = "warm"  # "warm": this voice was heard before; "cold": it is new to the process
    speed: float = 1.0


@dataclass(frozen=True)
class Check:
    """One statement of a configuration, and whether it held."""

    name: str
    state: str  # "ok", "failed", "not applicable"
    detail: str


@dataclass(frozen=True)
class Engagement:
    """The proof that the configuration was in force while the clip was rendered."""

    overlay: str  # digest of the overlay that f5_tts was imported from
    graphs: int  # graphs that torch.compile has built in this process
    graphs_of: dict[str, int]  # of those, the ones built while "transformer" and "vocoder" ran
    empty_cache_calls: int  # calls of torch.cuda.empty_cache() during the utterance
    dtypes: dict[str, str]  # tensor seen -> dtype
    checks: tuple[Check, ...] = ()

    @property
    def engaged(self) -> bool:
        """True when no statement of the configuration failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """What did not hold, in words."""
        return tuple(f"{check.name}: {check.detail}" for check in self.checks if check.state == "failed")


@dataclass(frozen=True)
class Chunk:
    """One piece of a long text, as upstream splits it."""

    text: str
    frames: int  # mel frames of the whole sequence, reference included
    noise_sha256: str


@dataclass(frozen=True)
class RenderResult:
    """What a worker measured and made. Times are milliseconds, memory is MiB."""

    samples: int
    frames: int  # generated mel frames, all chunks, reference not counted
    total_ms: float  # request to float32 PCM on the host, model load excluded
    stages_ms: dict[str, float]
    steps_ms: tuple[float, ...]  # each solver step of each chunk, in order
    empty_cache_ms: float
    peak_memory_mb: float
    memory_kind: str  # "cuda allocated" or "resident"
    chunks: tuple[Chunk, ...]
    noise_sha256: str
    mel_sha256: str
    audio_sha256: str
    engagement: Engagement
    invalid: tuple[str, ...] = ()  # why the sample must not be counted; empty when it may
    warm_engine: bool = True  # False for the first utterance of a process
    compile_ms: float = 0.0  # of the total, spent in torch.compile
    audio: Audio | None = field(default=None, repr=False)  # (samples,) float32; None for random weights
    mel: NDArray[np.float32] | None = field(default=None, repr=False)  # (100, frames) float32; None for random weights
    sample_rate: int = SAMPLE_RATE

    @property
    def seconds(self) -> float:
        """Length of the generated audio."""
        return self.samples / self.sample_rate

    @property
    def rtf(self) -> float:
        """Real-time factor: wall time over generated audio; lower is faster."""
        return self.total_ms / 1000 / self.seconds


@dataclass(frozen=True)
class Clip:
    """One utterance rendered by one configuration."""

    config: EngineConfig
    request: RenderRequest
    result: RenderResult
    voice: str
    weights: str
    storable: bool  # False for random weights: never saved, shared or rated
    device: str

    @property
    def facts(self) -> dict[str, Any]:
        """Everything known about the clip but its samples, as JSON-ready values."""
        result = self.result
        return {
            "config": self.config.name,
            "config_digest": self.config.digest,
            "settings": self.config.settings,
            "text": self.request.text,
            "voice": self.voice,
            "seed": self.request.seed,
            "reference_cache": self.request.reference_cache,
            "weights": self.weights,
            "storable": self.storable,
            "device": self.device,
            "sample_rate": result.sample_rate,
            "samples": result.samples,
            "seconds": round(result.seconds, 4),
            "frames": result.frames,
            "rtf": round(result.rtf, 5),
            "total_ms": round(result.total_ms, 3),
            "stages_ms": {name: round(value, 3) for name, value in (*result.stages_ms.items(), ("total", result.total_ms))},
            "steps_ms": [round(step, 3) for step in result.steps_ms],
            "empty_cache_ms": round(result.empty_cache_ms, 3),
            "peak_memory_mb": round(result.peak_memory_mb, 1),
            "memory_kind": result.memory_kind,
            "chunks": [dataclasses.asdict(chunk) for chunk in result.chunks],
            "noise_sha256": result.noise_sha256,
            "mel_sha256": result.mel_sha256,
            "audio_sha256": result.audio_sha256,
            "engaged": result.engagement.engaged,
            "engagement": {
                **dataclasses.asdict(result.engagement),
                "checks": [dataclasses.asdict(check) for check in result.engagement.checks],
            },
            "invalid": list(result.invalid),
            "warm_engine": result.warm_engine,
        }

    def samples(self) -> Audio:
        """The audio, (n,) float32.

        Raises:
            LabError: there is none to be had: the weights are random.
        """
        if self.result.audio is None or not self.storable:
            raise LabError("The audio of random weights is noise for timing: it cannot be played, saved, shared or rated.")
        return self.result.audio

    def wav(self) -> bytes:
        """The audio as a mono 32-bit float WAV: exactly the samples that `audio_sha256` names, and the same bytes each time."""
        return wav_bytes(self.samples(), self.result.sample_rate)
