"""One loaded engine configuration that renders utterances. Runs inside a worker; everything torch happens below this module."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from lab import texts
from lab.audio import CROSS_FADE_SAMPLES, HOP
from lab.config import EngineConfig
from lab.engine import loading
from lab.engine.clip import NOT_FINITE, Chunk, Engagement, RenderRequest, RenderResult
from lab.engine.instruments import Instruments, TimeGridError, compile_ms, dtype_name, graphs_built
from lab.engine.patching import MANIFEST
from lab.engine.proof import Seen, prove
from lab.engine.turbo_run import TurboRun
from lab.engine.turbo_seen import TurboSeen
from lab.engine.weights import resolve
from lab.errors import LabError

_SILENT = 1e-4  # RMS below which a clip counts as silent (-80 dBFS)


class RenderError(LabError):
    """An utterance cannot be rendered as asked."""


class Engine:
    """Model, vocoder and instruments for one worker key; `render` is called from one thread only."""

    def __init__(self, config: EngineConfig, weights: str, device: str, overlay: Path, progress: Callable[..., None]) -> None:
        """Import f5_tts (the caller has put `overlay` first on `sys.path`), load the weights, hook the instruments in, compile if asked."""
        progress("importing f5-tts", 0, 0)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = config.tf32
        from f5_tts.infer import utils_infer
        from f5_tts.model import cfm

        self._upstream = utils_infer
        self._overlay = overlay
        self.weights = resolve(weights)
        self.device = device
        self._digest = json.loads((overlay / MANIFEST).read_text(encoding="utf-8"))["digest"]
        model, vocoder = loading.load(self.weights, config, device, progress)
        self._modules = (model, vocoder)
        self.instruments = Instruments(utils_infer, cfm, model, vocoder, device, progress)
        if config.compile == "wrapper":
            model, vocoder = torch.compile(model), torch.compile(vocoder)
        elif config.compile == "blocks":
            # dynamic shapes: every text has another length, and one graph per length would compile for ever
            model.transformer.compile(dynamic=True)
            vocoder.backbone.compile(dynamic=True)
        self.model, self.vocoder = model, vocoder
        self.turbo: TurboRun | None = None
        if config.sampler == "turbo":
            progress("preparing turbo", 0, 0)
            self.turbo = TurboRun(self.weights, config, utils_infer, model, vocoder, self.instruments)
        self._rendered = 0

    @property
    def counted_modules(self) -> tuple[Any, Any, Any]:
        """What computes: the transformer, the vocoder's backbone and its Fourier head."""
        model, vocoder = self._modules
        return model.transformer, vocoder.backbone, vocoder.head

    def _forget_references(self) -> None:
        if self.turbo:
            self.turbo.forget()
        for file in self._upstream._ref_audio_cache.values():
            Path(file).unlink(missing_ok=True)
        self._upstream._ref_audio_cache.clear()
        getattr(self._upstream, "_prepared_ref_cache", {}).clear()

    def _reference(self, request: RenderRequest) -> tuple[tuple[torch.Tensor, int], str]:
        """The reference as upstream prepares it: ((1, n) float32 in [-1, 1], Hz) and its transcript with a full stop."""
        file, text = self._upstream.preprocess_ref_audio_text(request.voice_path, request.voice_text, show_info=lambda *_: None)
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        return (torch.from_numpy(np.ascontiguousarray(samples.T)), rate), text

    def _set_references(self, request: RenderRequest, reference: tuple[torch.Tensor, int]) -> None:
        """Bring the caches of the reference into the state that the request names, so that a repeated request gives the same clip."""
        if request.reference_cache == "cold":
            self._forget_references()
            return
        if self.turbo:
            self.turbo.prepare(request)
        prepare = getattr(self._upstream, "_prepare_reference", None)
        if prepare is not None:
            prepare(reference, self._upstream.target_rms, self.device)

    def _split(self, text: str, reference: tuple[torch.Tensor, int], transcript: str, speed: float) -> list[str]:
        """Chunk as upstream's `infer_process` does."""
        samples, rate = reference
        seconds = samples.shape[-1] / rate
        return list(self._upstream.chunk_text(text, max_chars=texts.max_chars(transcript, seconds, speed)))

    def render(self, config: EngineConfig, request: RenderRequest) -> RenderResult:
        """Render one utterance through upstream's `infer_batch_process`, timed by stages.

        Raises:
            RenderError: the text gives nothing to say, or the configuration cannot run here.
        """
        self._forget_references()
        reference, transcript = self._reference(request)  # once outside the clock, to know the chunks whose noise has to be drawn
        chunks = self._split(request.text, reference, transcript, request.speed)
        if not chunks:
            raise RenderError("There is nothing to say in this text.")
        self._set_references(request, reference)
        self.instruments.prepare(request.text, len(chunks), request.seed)
        _reset_peak_memory(self.device)
        try:
            graphs, compiling = graphs_built(), compile_ms()
            audio, mel, times, turbo = self.turbo.timed(config, request) if self.turbo else (*self._timed(config, request), None)
            return self._result(config, chunks, audio, mel, times, (graphs_built() - graphs, compile_ms() - compiling), turbo)
        except TimeGridError as error:
            raise RenderError(f"{config.name} cannot run: {error}. Use another nfe, or sway=0.") from None
        finally:
            self._forget_references()  # a person's voice stays in the process no longer than it is needed

    def _timed(self, config: EngineConfig, request: RenderRequest) -> tuple[Any, Any, Any]:
        clock = self.instruments.clock
        clock.start("reference")
        reference, transcript = self._reference(request)
        clock.enter("text")
        chunks = self._split(request.text, reference, transcript, request.speed)
        clock.enter("reference")
        audio, _, mel = next(
            self._upstream.infer_batch_process(
                reference,
                transcript,
                chunks,
                self.model,
                self.vocoder,
                progress=None,
                nfe_step=config.nfe,
                cfg_strength=config.cfg_strength,
                sway_sampling_coef=config.sway,
                speed=request.speed,
                device=self.device,
            )
        )
        return audio, mel, clock.stop()

    def _result(
        self,
        config: EngineConfig,
        chunks: list[str],
        audio: Any,
        mel: Any,
        times: Any,
        compiled: tuple[int, float],
        turbo: TurboSeen | None,
    ) -> RenderResult:
        """`times` is what the clock says, `compiled` the graphs built meanwhile and the milliseconds that took."""
        total, stages, steps = times
        graphs, compiling = compiled
        audio = np.ascontiguousarray(audio, dtype=np.float32)
        mel = np.ascontiguousarray(mel, dtype=np.float32)
        seen = self.instruments
        hashes = seen.noise_hashes()
        facts = Seen(
            module=_within(Path(self._upstream.__file__), self._overlay),
            prepared=tuple(type(entry).__name__ for entry in getattr(self._upstream, "_prepared_ref_cache", {}).values()),
            parameters=dtype_name(next(self._modules[0].parameters()).dtype),
            vocoder_parameters=dtype_name(next(self._modules[1].backbone.parameters()).dtype),
            steps_per_chunk=len(steps) / len(turbo.batches if turbo else chunks),
            default_parameters=dtype_name(loading.upstream_dtype(self.device)),
            graphs_of=dict(seen.graphs_of),
            empty_cache_calls=seen.empty_cache_calls,
            dtypes=dict(seen.dtypes),
            device=self.device,
            turbo=turbo,
        )
        self._rendered += 1
        engagement = Engagement(
            self._digest, graphs_built(), dict(seen.graphs_of), seen.empty_cache_calls, dict(seen.dtypes), prove(config, facts)
        )
        invalid = [*_invalid(audio, mel.shape[-1], len(chunks)), *(f"not engaged: {failure}" for failure in engagement.failures)]
        if graphs:
            invalid.append(f"{graphs} graphs were compiled while it was timed")
        if turbo and turbo.captures:
            invalid.append(f"{turbo.captures} CUDA graphs were captured while it was timed")
            compiling += turbo.capture_ms
        audible = self.weights.audible
        return RenderResult(
            samples=len(audio),
            frames=mel.shape[-1],
            total_ms=total,
            stages_ms=stages,
            steps_ms=steps,
            empty_cache_ms=seen.empty_cache_seconds * 1000,
            compile_ms=compiling,
            peak_memory_mb=_peak_memory_mb(self.device),
            memory_kind="cuda allocated" if self.device == "cuda" else "resident",
            chunks=tuple(Chunk(text, frames, digest) for text, frames, digest in zip(chunks, seen.frames, hashes, strict=True)),
            noise_sha256=hashlib.sha256("".join(hashes).encode()).hexdigest() if len(hashes) > 1 else hashes[0],
            mel_sha256=hashlib.sha256(mel.tobytes()).hexdigest(),
            audio_sha256=hashlib.sha256(audio.tobytes()).hexdigest(),
            engagement=engagement,
            invalid=tuple(invalid),
            warm_engine=self._rendered > 1,
            audio=audio if audible else None,
            mel=mel if audible else None,
        )


def _within(file: Path, overlay: Path) -> str:
    """`file` relative to the overlay; its name alone, which proves nothing, if it lies elsewhere."""
    file, overlay = file.resolve(), overlay.resolve()
    return f"overlay/{file.relative_to(overlay)}" if file.is_relative_to(overlay) else file.name


def _invalid(audio: Any, frames: int, chunks: int) -> tuple[str, ...]:
    """Why a clip must not be counted."""
    problems = []
    expected = (frames - chunks) * HOP - (chunks - 1) * CROSS_FADE_SAMPLES  # the vocoder's centred frames give one hop less per chunk
    if len(audio) != expected:
        problems.append(f"{len(audio)} samples, expected {expected}")
    if not np.isfinite(audio).all():
        problems.append(NOT_FINITE)
    elif math.sqrt(float(np.mean(np.square(audio, dtype=np.float64)))) < _SILENT:
        problems.append("silent")
    return tuple(problems)


def _reset_peak_memory(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):  # elsewhere than on Linux the peak is that of the whole process
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb(device: str) -> float:
    if device == "cuda":
        return float(torch.cuda.max_memory_allocated()) / 2**20
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
