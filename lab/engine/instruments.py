"""What the worker adds to upstream's code while it runs: paired noise, a clock with stages, and witnesses of what really happened.

Upstream's files stay as they are (the overlay differs from the release by the patches alone); names are replaced in the imported modules instead:
the chunk pool, the solver, the tokeniser, `torch.randn` as `f5_tts.model.cfm` sees it, and `torch.cuda.empty_cache`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lab.errors import LabError

#: Rows drawn ahead of the clock. Upstream cuts at punctuation only, so a chunk can be long; its text positions end at 8,192 (`TextEmbedding`).
NOISE_ROWS = 8192


@functools.lru_cache(maxsize=16)  # a benchmark asks for the same noise again and again, and drawing it takes 10 ms
def paired_noise(text: str, chunk: int, seed: int, frames: int, channels: int = 100) -> NDArray[np.float32]:
    """The initial noise of one chunk: (frames, channels) standard normal float32, from text, chunk number and seed alone.

    NumPy's Philox generator is used because its stream does not depend on the device, on torch's version or on how many rows are drawn: the first
    rows of a longer draw are the same.
    """
    key = hashlib.sha256(json.dumps([text, chunk, seed]).encode()).digest()[:16]
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    noise = generator.standard_normal((frames, channels), dtype=np.float32)
    noise.flags.writeable = False  # it is shared
    return noise


class Clock:
    """Wall time split into stages without gaps: each moment belongs to the stage entered last.

    On CUDA the marks are events on the current stream, read after the last one, so that measuring does not stop the host; the total is host time
    from a synchronisation of the device to the arrival of the last event. Times are milliseconds.
    """

    def __init__(self, cuda: bool) -> None:
        self._cuda = cuda
        self.running = False
        self._marks: list[tuple[str, Any]] = []
        self._steps: list[tuple[Any, Any]] = []
        self._spare: list[Any] = []  # events that have been read: to make one takes longer than to record it

    def mark(self) -> Any:
        """The present moment: host time, or an event on the current stream."""
        if not self._cuda:
            return time.perf_counter()
        event = self._spare.pop() if self._spare else torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def between(self, first: Any, last: Any) -> float:
        """Milliseconds from one mark to another; on CUDA after a synchronisation."""
        return float(first.elapsed_time(last)) if self._cuda else (last - first) * 1000

    def start(self, stage: str) -> None:
        """Start from nothing, in `stage`."""
        if self._cuda:
            self._spare += [mark for _, mark in self._marks] + [mark for pair in self._steps for mark in pair]
            torch.cuda.synchronize()
        self._marks, self._steps = [], []
        self.running = True
        self._began = time.perf_counter()
        self.enter(stage)

    def enter(self, stage: str) -> None:
        """From here on time belongs to `stage`."""
        if self.running:
            self._marks.append((stage, self.mark()))

    @contextlib.contextmanager
    def inside(self, stage: str) -> Iterator[None]:
        """Time within belongs to `stage`, afterwards again to the one before."""
        before = self._marks[-1][0] if self.running else ""
        self.enter(stage)
        yield
        self.enter(before)

    def step(self, done: Callable[[], Any]) -> Any:
        """Time one solver step."""
        if not self.running:
            return done()
        first = self.mark()
        result = done()
        self._steps.append((first, self.mark()))
        return result

    def stop(self) -> tuple[float, dict[str, float], tuple[float, ...]]:
        """Total, stages and steps."""
        self.enter("end")
        if self._cuda:
            # all work is on this stream; to wait for the whole device takes up to 0.1 ms even if nothing is left to do
            self._marks[-1][1].synchronize()
        total = (time.perf_counter() - self._began) * 1000
        self.running = False
        stages: dict[str, float] = {}
        for (stage, first), (_, last) in zip(self._marks, self._marks[1:], strict=False):
            stages[stage] = stages.get(stage, 0.0) + self.between(first, last)
        return total, stages, tuple(self.between(first, last) for first, last in self._steps)


class _InOrder:
    """Stands in for the thread pool that upstream renders chunks with: one after another, in the calling thread.

    Upstream's threads race for the one device; their stage times would overlap and their order, and with it the noise, would be left to chance.
    """

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin, self._end = begin, end

    def __enter__(self) -> _InOrder:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._begin()
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
        self._end()
        return future


class _TorchWithNoise:
    """The torch module as `f5_tts.model.cfm` sees it: `randn` hands out the paired noise."""

    def __init__(self, randn: Callable[..., torch.Tensor]) -> None:
        self.randn = randn

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class Instruments:
    """The clock, the noise and the witnesses of one worker, hooked into upstream's modules once."""

    def __init__(self, utils_infer: Any, cfm: Any, model: Any, vocoder: Any, device: str, progress: Callable[..., None]) -> None:
        self.clock = Clock(device == "cuda")
        self.device = device
        self.dtypes: dict[str, str] = {}
        self.empty_cache_calls = 0
        self.empty_cache_seconds = 0.0
        self.progress = progress
        self._noise: list[NDArray[np.float32]] = []
        self._noise_on_device: list[torch.Tensor] = []
        self.frames: list[int] = []
        self._chunk = -1
        self.graphs_of = {"transformer": 0, "vocoder": 0}
        self.step_range: Callable[[], Any] | None = None  # makes a context around each solver step, for a profiler

        utils_infer.ThreadPoolExecutor = lambda: _InOrder(self._begin_chunk, lambda: self.clock.enter("other"))
        utils_infer.convert_char_to_pinyin = self._timed("text", utils_infer.convert_char_to_pinyin)
        cfm.list_str_to_idx = self._timed("text", cfm.list_str_to_idx)
        cfm.torch = _TorchWithNoise(self._randn)
        cfm.odeint = self._solver(cfm.odeint)
        model.mel_spec.forward = self._timed("reference", model.mel_spec.forward)
        model.sample = self._compiling("transformer", self._timed("sampler", model.sample))
        vocoder.decode = self._compiling("vocoder", self._decoder(vocoder.decode))
        vocoder.backbone.embed.register_forward_hook(lambda *seen: self.dtypes.update({"vocoder backbone": _name(seen[2])}))
        torch.cuda.empty_cache = self._counted(torch.cuda.empty_cache)

    def prepare(self, text: str, chunks: int, seed: int) -> None:
        """Draw the noise of `chunks` chunks and forget what the last utterance showed; not part of any time."""
        self._noise = [paired_noise(text, chunk, seed, NOISE_ROWS) for chunk in range(chunks)]
        self._noise_on_device = [torch.tensor(noise).to(self.device) for noise in self._noise]
        self.frames, self._chunk = [], -1
        self.dtypes.clear()
        self.empty_cache_calls, self.empty_cache_seconds = 0, 0.0

    def noise_hashes(self) -> list[str]:
        """SHA-256 of each chunk's noise, float32, as far as it was used."""
        return [hashlib.sha256(noise[:frames].tobytes()).hexdigest() for noise, frames in zip(self._noise, self.frames, strict=True)]

    def _begin_chunk(self) -> None:
        self._chunk += 1
        self.clock.enter("text")

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.clock.inside(stage):
                return function(*args, **kwargs)

        return timed

    def _compiling(self, module: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count the graphs that torch.compile builds while `function` runs."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            before = graphs_built()
            result = function(*args, **kwargs)
            self.graphs_of[module] += graphs_built() - before
            return result

        return counted

    def _randn(self, frames: Any, channels: int, *, device: Any, dtype: torch.dtype) -> torch.Tensor:
        rows = int(frames)
        if rows > NOISE_ROWS:
            raise ChunkTooLongError(
                f"A sentence of this text is too long for one piece: {rows} frames with the reference, and upstream's positions end at {NOISE_ROWS}."
                " Put commas or full stops in, at which it can be cut."
            )
        return self.noise(self._chunk, rows)[:, :channels].to(dtype)

    def noise(self, chunk: int, rows: int) -> torch.Tensor:
        """The first `rows` rows of a chunk's noise on the device, FP32; chunks are asked for in order."""
        self.frames.append(rows)
        return self._noise_on_device[chunk][:rows]

    def _solver(self, odeint: Callable[..., Any]) -> Callable[..., Any]:
        def solve(function: Callable[[Any, Any], Any], start: torch.Tensor, times: torch.Tensor, **kwargs: Any) -> Any:
            if not bool((times[1:] > times[:-1]).all()):
                raise TimeGridError(f"in {_name(times)} the time grid of {len(times) - 1} steps is not increasing")
            done = 0

            def step(time_: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
                nonlocal done
                with self.step_range() if self.step_range else contextlib.nullcontext():
                    flow: torch.Tensor = self.clock.step(lambda: function(time_, x))
                done += 1
                self.progress("sampling", self._chunk * (len(times) - 1) + done, len(self._noise) * (len(times) - 1))
                self.dtypes["sampler state"], self.dtypes["flow"] = _name(x), _name(flow)
                return flow

            self.dtypes["autocast"] = dtype_name(torch.get_autocast_dtype("cuda")) if torch.is_autocast_enabled("cuda") else "off"
            return odeint(step, start, times, **kwargs)

        return solve

    def _decoder(self, decode: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def timed(features: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            self.dtypes["vocoder input"] = _name(features)
            self.clock.enter("vocoder")
            audio = decode(features, **kwargs)
            self.clock.enter("transfer")
            return audio

        return timed

    def _counted(self, empty_cache: Callable[[], None]) -> Callable[[], None]:
        def counted() -> None:
            began = time.perf_counter()
            empty_cache()
            self.empty_cache_calls += 1
            self.empty_cache_seconds += time.perf_counter() - began

        return counted


class ChunkTooLongError(LabError):
    """A chunk has more frames than upstream has positions for."""


def graphs_built() -> int:
    """How many graphs torch.compile has built in this process; 0 where dynamo was never imported."""
    if "torch._dynamo" not in sys.modules:
        return 0
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def compile_ms() -> float:
    """Milliseconds that torch.compile has spent compiling in this process."""
    if "torch._dynamo" not in sys.modules:
        return 0.0
    return float(torch._dynamo.utils.calculate_time_spent()["total_wall_time"]) * 1000


class TimeGridError(ValueError):
    """The solver's time grid is not strictly increasing in the dtype it is computed in."""


def dtype_name(dtype: torch.dtype) -> str:
    """Torch's name without the prefix: "float16"."""
    return str(dtype).removeprefix("torch.")


def _name(tensor: torch.Tensor) -> str:
    return dtype_name(tensor.dtype)
