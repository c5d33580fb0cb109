"""Renders an utterance of the lab with turbo: paired noise, stage times and witnesses, as `lab.engine.rendering` has them for upstream."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lab.config import EngineConfig
from lab.engine import loading
from lab.engine.clip import RenderRequest
from lab.engine.instruments import Instruments, dtype_name
from lab.engine.turbo import Settings, Speaker, Trace, Turbo, joined
from lab.engine.turbo_seen import TurboSeen
from lab.engine.weights import Weights

_READY_FRAMES = 256  # of the sequence that compiles kernels when an engine starts


class TurboRun:
    """Turbo for one engine."""

    def __init__(self, weights: Weights, config: EngineConfig, upstream: Any, model: Any, vocoder: Any, instruments: Instruments) -> None:
        """Read the modules, and compile what is compiled, so that the first utterance does not pay for it."""
        self.turbo = Turbo(model, vocoder, without=config.without, frequencies=loading.rotary_frequencies(weights))
        self.speaker = Speaker(self.turbo, upstream)
        self._instruments = instruments
        if self.turbo.device.type == "cuda":
            self.turbo.warmup([_READY_FRAMES], self.settings(config), generated=[_READY_FRAMES])

    @staticmethod
    def settings(config: EngineConfig) -> Settings:
        """How `config` solves the flow."""
        return Settings(config.nfe, config.cfg_strength, config.sway)

    def prepare(self, request: RenderRequest) -> None:
        """Hear the voice of `request`, so that it is in the cache."""
        self.speaker.voice(request.voice_path, request.voice_text)

    def forget(self) -> None:
        """Keep no voice."""
        self.speaker.voices.forget()

    def timed(self, config: EngineConfig, request: RenderRequest) -> tuple[Any, Any, Any, TurboSeen]:
        """Audio, mel, what the clock says, and how it was done; the noise has been drawn."""
        # all of it in the thread that owns the device: to change threads takes longer than to launch a graph
        return self.turbo.owned(self._timed, config, request)

    def _timed(self, config: EngineConfig, request: RenderRequest) -> tuple[Any, Any, Any, TurboSeen]:
        seen = self._instruments
        clock, counters = seen.clock, self.turbo.counters
        before = dataclasses.replace(counters)
        trace, settings = Trace(), self.settings(config)
        clock.start("reference")
        voice = self.speaker.voice(request.voice_path, request.voice_text)
        clock.enter("text")
        chunks = self.speaker.chunks(voice, request.text, request.speed)
        pieces = self.speaker.pieces(voice, chunks, request.speed, seen.noise)
        waves, mels = self.speaker.render(
            voice, pieces, settings, trace=trace, enter=clock.enter, progress=lambda step: seen.progress("sampling", step, config.nfe)
        )
        audio, mel = joined(waves), mels[0] if len(mels) == 1 else np.concatenate(mels, axis=1)
        total, stages, _ = clock.stop()
        seen.dtypes.update(
            {"sampler state": "float32", "flow": dtype_name(self.turbo.flow.dtype), "autocast": "off", "vocoder input": "float32"}
        )
        if self.turbo.vocoder:
            seen.dtypes["vocoder backbone"] = dtype_name(self.turbo.vocoder.dtype)
        how = TurboSeen(
            batches=tuple(trace.batches),
            replayed=trace.replayed,
            no_graphs=self.turbo.no_graphs,
            no_kernels=self.turbo.no_kernels,
            attention=self.turbo.attention,
            captures=counters.captures - before.captures,
            capture_ms=counters.capture_ms - before.capture_ms,
            graphs=0 if self.turbo.graphs is None else self.turbo.graphs.kept,
            graph_mb=counters.graph_mb,
        )
        # a graph's events are those of its last replay: of two batches of one shape in one utterance, the later's times stand for both
        steps = tuple(step for times in trace.steps_ms for step in times())
        return audio, mel, (total, stages, steps), how
