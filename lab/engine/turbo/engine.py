"""Turbo: upstream's loaded model and vocoder, computed faster and to the same result."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lab.engine.instruments import Clock
from lab.engine.turbo.buckets import MAX_ROWS, rows_for
from lab.engine.turbo.choosing import choose
from lab.engine.turbo.graphs import DEFAULT_GRAPHS, Captured, Counters, Graphs, StepEvents
from lab.engine.turbo.loop import Inputs, Sampler, Staging
from lab.engine.turbo.pieces import Piece, Settings, TooLongError, Trace
from lab.engine.turbo.reading import read_flow
from lab.engine.turbo.schedule import Schedule, make_schedule
from lab.engine.turbo.switches import Switches
from lab.engine.turbo.text import spread
from lab.engine.turbo.vocoder import decode, read_vocoder

Result = TypeVar("Result")


class Turbo:
    """A sampler and a vocoder for one loaded model.

    Every public method may be called from any thread: one thread of its own does the work, so that graphs and their memory have one owner.
    """

    def __init__(
        self,
        model: Any,
        vocoder: Any = None,
        *,
        without: Iterable[str] = (),
        frequencies: Tensor | None = None,
        graphs: int = DEFAULT_GRAPHS,
    ) -> None:
        """Read `model`, upstream's CFM, and `vocoder`, its Vocos; both in evaluation mode on their device, in the dtypes to compute in.

        Args:
            model: the CFM.
            vocoder: the Vocos; None: only mels are made.
            without: ideas of `lab.config.TURBO_IDEAS` to leave out, for measurements.
            frequencies: the rotary frequencies of the checkpoint, for a model in half precision (see `read_flow`).
            graphs: how many CUDA graphs are kept.

        Raises:
            UnsupportedModelError: turbo would not compute the same function.
        """
        self.switches = Switches.leaving_out(without)
        self.flow = read_flow(model, frequencies)
        self.device = self.flow.device
        self.vocoder = None if vocoder is None else read_vocoder(vocoder)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="turbo")
        self._owner = self._thread.submit(threading.get_ident).result()
        chosen = self.owned(choose, self.flow, self.switches)
        self.no_kernels, self.attention = chosen.no_kernels, chosen.attention
        self.sampler = Sampler(self.flow, chosen.functions, self.switches, chosen.parts)
        self.model = model
        self.graphs = Graphs(graphs) if self.device.type == "cuda" and "graphs" in self.switches else None
        #: why nothing is replayed from graphs; empty where it is
        self.no_graphs = "" if self.graphs is not None else "left out" if self.device.type == "cuda" else "no CUDA device"
        self._schedules: dict[tuple[Any, ...], Schedule] = {}

    def owned(self, work: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """`work(*arguments, **options)` in the thread that owns the device."""
        if threading.get_ident() == self._owner:
            if torch.is_inference_mode_enabled():  # to enter it again takes longer than to ask
                return work(*arguments, **options)
            with torch.inference_mode():
                return work(*arguments, **options)
        done: Result = self._thread.submit(self.owned, work, *arguments, **options).result()
        return done

    def close(self) -> None:
        """End the thread and give the graphs' memory back."""
        self._thread.shutdown()
        if self.graphs is not None:
            self.graphs = Graphs(self.graphs.most)

    @property
    def hop(self) -> int:
        """Samples between two frames of the vocoder."""
        assert self.vocoder, "this Turbo was made without a vocoder"
        return self.vocoder.hop

    @property
    def counters(self) -> Counters:
        """What has been captured and replayed."""
        return self.graphs.counters if self.graphs is not None else Counters()

    def tokens(self, text: Tensor | list[Any]) -> list[list[int]]:
        """Token numbers of each text, without padding: of a tensor padded with -1, of texts, or of lists of symbols."""
        from f5_tts.model.utils import list_str_to_tensor

        if isinstance(text, list):
            symbols = self.model.vocab_char_map
            if symbols is not None:
                # as upstream's `list_str_to_idx`, without tensors in between
                return [[symbols.get(symbol, 0) for symbol in line] for line in text]
            read: Tensor = list_str_to_tensor(text)
            text = read
        return [[number for number in line if number != -1] for line in text.tolist()]

    def schedule(self, settings: Settings) -> Schedule:
        """The schedule of `settings`, computed at its first use."""
        key = (settings.steps, settings.sway, settings.epss)
        if key not in self._schedules:
            self._schedules[key] = self.owned(make_schedule, self.flow, *key)
        return self._schedules[key]

    def mels(
        self, pieces: Sequence[Piece], settings: Settings, trace: Trace | None = None, progress: Callable[[int], None] | None = None
    ) -> Tensor:
        """Sample `pieces` as one batch: (batch, rows, mel) FP32 on the device; each sequence lies in its first frames.

        The tensor is overwritten by the next call where graphs are used. `progress(n)` is called before each step that the host sees.

        Raises:
            TooLongError: a sequence is longer than upstream's positions.
        """
        return self.owned(self._mels, pieces, settings, trace or Trace(), progress)

    def _mels(self, pieces: Sequence[Piece], settings: Settings, trace: Trace, progress: Callable[[int], None] | None) -> Tensor:
        longest = max(piece.frames for piece in pieces)
        if longest > MAX_ROWS:
            raise TooLongError(
                f"A sentence is too long for one piece: {longest} frames with the reference, and upstream's positions end at {MAX_ROWS}."
                " Put commas or full stops in, at which it can be cut."
            )
        schedule = self.schedule(settings)
        rows = rows_for(longest) if self.device.type == "cuda" else longest
        batch = len(pieces)
        trace.batches.append((batch, rows))
        make = functools.partial(Inputs.empty, batch, rows, self.flow.shape.mel, self.device, self.flow.inverse_frequencies)
        captured = self._captured(
            ("sample", batch, rows, settings.steps, settings.sway, settings.epss, settings.guided),
            lambda: vars(make()),
            functools.partial(self._sample, schedule, settings.guided),
            settings.steps,
        )
        if captured is not None and self.graphs is not None:
            inputs = Inputs(**captured.inputs)
            if captured.staging is None or captured.staging.busy:
                captured.staging = Staging(inputs)
            self._fill(inputs, captured.staging, pieces, settings)
            out = self.graphs.replay(captured)
            if captured.events:
                trace.steps_ms.append(captured.events.milliseconds)
            return out
        trace.replayed = False
        inputs = make()
        self._fill(inputs, Staging(inputs), pieces, settings)
        padded = self.device.type == "cuda" or any(piece.frames < rows for piece in pieces)
        timer = _Timer(self.device, progress)
        out = self.sampler.sample(inputs, schedule, guided=settings.guided, padded=padded, step=timer)
        trace.steps_ms.append(timer.milliseconds)
        return out

    def _sample(self, schedule: Schedule, guided: bool, inputs: dict[str, Tensor], events: StepEvents | None) -> Tensor:
        if events is None:
            return self.sampler.sample(Inputs(**inputs), schedule, guided=guided, padded=True)

        @contextlib.contextmanager
        def step(number: int) -> Iterator[None]:
            events.mark(number)
            yield
            if number == schedule.steps - 1:
                events.mark(schedule.steps)

        return self.sampler.sample(Inputs(**inputs), schedule, guided=guided, padded=True, step=step)

    def _captured(self, key: tuple[Any, ...], make: Callable[[], dict[str, Tensor]], program: Any, steps: int = 0) -> Captured | None:
        """The graph for `key`, or None where there are none (`no_graphs` says why); a capture that fails was the last that is tried."""
        if self.graphs is None or self.no_graphs:
            return None
        try:
            return self.graphs.get(key, make, program, steps)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            self.no_graphs = f"a capture failed: {self.counters.last_failure}"
            return None

    def _fill(self, inputs: Inputs, staging: Staging, pieces: Sequence[Piece], settings: Settings) -> None:
        # by NumPy: torch takes several times as long for a few numbers, and the device waits for them
        staging.guidance[0] = settings.guidance
        staging.numbers.fill(0)
        rows = inputs.noise.shape[1]
        for line, (numbers, piece) in enumerate(zip(staging.numbers, pieces, strict=True)):
            numbers[0] = piece.frames
            tokens = numbers[1 : 1 + min(len(piece.ids), piece.frames)]
            np.add(piece.ids[: len(tokens)], 1, out=tokens, casting="unsafe")
            if self.flow.shape.upsample_text:
                spread(numbers[1 + rows : 1 + rows + piece.frames], int(np.count_nonzero(tokens)))
            given = numbers[1 + 2 * rows :]
            if piece.given is None:
                given[: len(piece.reference)] = 1
            else:
                given[: len(piece.given)] = piece.given.numpy()
            inputs.noise[line, : piece.frames].copy_(piece.noise)
            inputs.reference[line, : len(piece.reference)].copy_(piece.reference)
        staging.send(inputs)

    def audio(self, mels: Sequence[Tensor], trace: Trace | None = None) -> Tensor:
        """Decode (frames, mel) tensors on the device together: (batch, samples) FP32; (frames - 1) · hop of each are its sound.

        The tensor is overwritten by the next call where graphs are used.
        """
        return self.owned(self._audio, mels, trace or Trace())

    def _audio(self, mels: Sequence[Tensor], trace: Trace) -> Tensor:
        assert self.vocoder, "this Turbo was made without a vocoder"
        longest = max(len(mel) for mel in mels)
        rows = rows_for(longest) if self.device.type == "cuda" else longest
        make = functools.partial(self._room, len(mels), rows)
        captured = self._captured(("decode", len(mels), rows), make, lambda inputs, _: self._decode(inputs, padded=True))
        inputs = captured.inputs if captured else make()
        lengths = torch.tensor([len(mel) for mel in mels], pin_memory=self.device.type == "cuda")
        inputs["frames"].copy_(lengths, non_blocking=True)
        for line, mel in enumerate(mels):
            inputs["mel"][line, : len(mel)].copy_(mel)
        if captured is not None and self.graphs is not None:
            return self.graphs.replay(captured)
        trace.replayed = False
        return self._decode(inputs, padded=self.device.type == "cuda" or any(len(mel) < rows for mel in mels))

    def _room(self, batch: int, rows: int) -> dict[str, Tensor]:
        return {
            "mel": torch.zeros((batch, rows, self.flow.shape.mel), device=self.device),
            "frames": torch.ones(batch, dtype=torch.int64, device=self.device),
        }

    def _decode(self, inputs: dict[str, Tensor], *, padded: bool) -> Tensor:
        assert self.vocoder
        mel = inputs["mel"]
        valid = (torch.arange(mel.shape[1], device=mel.device) < inputs["frames"][:, None])[..., None] if padded else None
        return decode(self.vocoder, mel, valid, self.sampler.parts)

    def warmup(self, frames: Iterable[int], settings: Settings, *, generated: Iterable[int] = (), batch: int = 1) -> Counters:
        """Make ready for sequences of these `frames`, and for decoding these many `generated` frames: compile, capture, and say what that took."""
        nothing = torch.zeros((0, self.flow.shape.mel), device=self.device)
        for length in frames:
            noise = torch.zeros((length, self.flow.shape.mel), device=self.device)
            self.mels([Piece(nothing, (), length, noise)] * batch, settings)
        for length in generated if self.vocoder else ():
            self.audio([torch.zeros((length, self.flow.shape.mel), device=self.device)] * batch)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self.counters


class _Timer:
    """A context around each step of a loop that the host runs: its time, and a call before it."""

    def __init__(self, device: torch.device, progress: Callable[[int], None] | None) -> None:
        self._clock = Clock(device.type == "cuda")
        self._progress = progress
        self._marks: list[Any] = []

    @contextlib.contextmanager
    def __call__(self, number: int) -> Iterator[None]:
        if self._progress:
            self._progress(number)
        self._marks.append(self._clock.mark())
        yield
        self._marks.append(self._clock.mark())

    def milliseconds(self) -> list[float]:
        return [self._clock.between(first, last) for first, last in zip(self._marks[::2], self._marks[1::2], strict=True)]
