"""From noise, reference mel and text to a mel: everything that the steps share first, then Euler's loop. No step waits for the host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lab.engine.turbo import arithmetic
from lab.engine.turbo.convnext import PLAIN, Parts
from lab.engine.turbo.reading import Block, Flow
from lab.engine.turbo.schedule import Schedule, modulations
from lab.engine.turbo.switches import Switches
from lab.engine.turbo.text import embed_text

_AHEAD = 4  # numbers in front of a batch's own, of which one is used: so all of them begin at 16 bytes, which Triton compiles loads for


@dataclass(frozen=True)
class Inputs:
    """What one batch is sampled from. Rows behind a sequence's frames may hold anything."""

    noise: Tensor  # (batch, rows, mel) FP32
    reference: Tensor  # (batch, rows, mel) FP32
    numbers: Tensor  # (batch, 1 + 3 · rows) int32: the length in frames; token numbers + 1, 0 where there is none; each frame's token; 1 where given
    guidance: Tensor  # () FP32
    packed: Tensor  # int32: the memory of `guidance` and `numbers`, so that one copy fills both (`Staging`)
    table: Tensor | None  # of rotary angles, which depend on the rows alone; None: it is computed

    @classmethod
    def empty(cls, batch: int, rows: int, mel: int, device: torch.device, frequencies: Tensor | None = None) -> Inputs:
        """Room for `batch` sequences in a bucket of `rows`; they have one frame each. With the rotary `frequencies` it has their table."""
        packed = torch.zeros(_AHEAD + batch * (1 + 3 * rows), dtype=torch.int32, device=device)
        numbers, guidance = packed[_AHEAD:].view(batch, -1), packed[:1].view(torch.float32)[0]
        numbers[:, 0] = 1
        guidance.fill_(1.0)
        zeros = torch.zeros((2, batch, rows, mel), device=device)
        table = None if frequencies is None else arithmetic.rotary_table(frequencies, rows)
        return cls(zeros[0], zeros[1], numbers, guidance, packed, table)

    @property
    def frames(self) -> Tensor:
        """(batch,) length of each sequence."""
        return self.numbers[:, 0]

    def part(self, number: int) -> Tensor:
        """(batch, rows): token numbers (0), each frame's token (1), or what is given (2)."""
        part: Tensor = self.numbers[:, 1:].unflatten(1, (3, -1))[:, number]
        return part


class Staging:
    """Memory on the host from which `Inputs.packed` is filled, pinned, so that the copy does not stop the host."""

    def __init__(self, inputs: Inputs) -> None:
        """Zeros."""
        self._packed = torch.zeros(len(inputs.packed), dtype=torch.int32, pin_memory=inputs.packed.is_cuda)
        array: NDArray[np.int32] = self._packed.numpy()
        self.guidance = array[:1].view(np.float32)
        self.numbers = array[_AHEAD:].reshape(inputs.numbers.shape)
        self._sent: Any = None

    @property
    def busy(self) -> bool:
        """Whether a copy out of it is still to be made."""
        return self._sent is not None and not self._sent.query()

    def send(self, inputs: Inputs) -> None:
        """Start the copy."""
        inputs.packed.copy_(self._packed, non_blocking=True)
        if inputs.packed.is_cuda:
            self._sent = self._sent or torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._sent.record()


@dataclass(frozen=True)
class Functions:
    """The arithmetic of a step: `lab.engine.turbo.arithmetic`, or the kernels that do the same on a card."""

    project: Callable[..., Any]
    heads: Callable[..., Any]
    attention: Callable[..., Any]
    residual: Callable[..., Any]
    residual_last: Callable[..., Any]
    entered: Callable[..., Any]
    positioned: Callable[..., Any]
    euler: Callable[..., Any]

    @classmethod
    def of(cls, module: Any) -> Functions:
        """Those of a module."""
        return cls(**{name: getattr(module, name) for name in cls.__dataclass_fields__})


def _nothing(_: int) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


@dataclass(frozen=True)
class _Spans:
    """Where the sequences lie, for all branches."""

    lengths: Tensor  # (lines,) int32
    mask: Tensor | None  # (lines, 1, 1, rows)
    valid: Tensor | None  # (lines, rows, 1)
    table: Tensor  # of rotary angles


class Sampler:
    """The flow of one model, ready to be sampled."""

    def __init__(self, flow: Flow, functions: Functions, switches: Switches, parts: Parts = PLAIN) -> None:
        self.flow, self.functions, self.switches, self.parts = flow, functions, switches, parts

    def _rest(self, inputs: Inputs, valid: Tensor | None, guided: bool) -> Tensor:
        """The input embedding's part that no step changes, (1 or 2 · batch, rows, dim): condition, text and bias.

        Rows of no sequence (`valid`: of all branches) mean nothing.
        """
        flow, reference = self.flow, inputs.reference
        batch, rows, mel = reference.shape
        text = embed_text(flow.text_embed, flow.shape, inputs.part(0), inputs.part(1), valid, guided, self.parts)
        # zeros stay where nothing is given, where the model is asked without the condition, and behind the text as far as the weight is filled up
        joined = torch.zeros((len(text), rows, flow.in_rest.shape[1]), dtype=flow.dtype, device=text.device)
        joined[:batch, :, :mel].copy_(reference).masked_fill_(inputs.part(2)[..., None] == 0, 0.0)
        joined[..., mel : mel + text.shape[-1]].copy_(text)
        return F.linear(joined, flow.in_rest, flow.in_bias)

    def sample(
        self,
        inputs: Inputs,
        schedule: Schedule,
        *,
        guided: bool,
        padded: bool,
        step: Callable[[int], contextlib.AbstractContextManager[Any]] = _nothing,
    ) -> Tensor:
        """The mel, (batch, rows, mel) FP32: the reference's frames as they were given, then what was generated.

        `padded`: some rows belong to no sequence. `step` makes a context around each step, given its number.
        """
        noise = inputs.noise
        rows = noise.shape[1]
        lengths = inputs.frames.repeat(2 if guided else 1)  # a copy: kernels read the numbers one behind the other
        inside = torch.arange(rows, device=noise.device) < lengths[:, None] if padded else None
        valid, mask = (None, None) if inside is None else (inside[..., None], inside[:, None, None])
        table = arithmetic.rotary_table(self.flow.inverse_frequencies, rows) if inputs.table is None else inputs.table
        spans = _Spans(lengths, mask, valid, table)
        rest = self._rest(inputs, valid, guided) if "hoists" in self.switches else None
        x, cast = noise, arithmetic.product_input(noise, self.flow.dtype, self.flow.wide)
        for number in range(schedule.steps):
            with step(number):
                constant = self._rest(inputs, valid, guided) if rest is None else rest
                flow = self._flow(cast, constant, schedule, number, spans)
                x, cast = self.functions.euler(x, flow, schedule.widths[number], inputs.guidance)
        return torch.where(inputs.part(2)[..., None] != 0, inputs.reference, x)

    def _flow(self, cast: Tensor, rest: Tensor, schedule: Schedule, number: int, spans: _Spans) -> Tensor:
        """The model's answer at one step: (1 or 2 · batch, rows, wide)."""
        flow, run = self.flow, self.functions
        opening, layers = schedule.opening[number], schedule.layers[number]
        if "tables" not in self.switches:
            time = torch.full((1,), schedule.times[number], device=cast.device)
            opening, layers = (part[0] for part in modulations(flow, time))
        hidden = run.entered(cast, flow.in_x, rest, spans.valid)
        x, inner = self._position(hidden, spans.valid, opening)
        for block, modulation in zip(flow.blocks, layers.unbind(), strict=True):
            x, inner = self._block(block, x, inner, modulation.unbind(), spans)
        return F.linear(inner, flow.out_weight, flow.out_bias)

    def _position(self, hidden: Tensor, valid: Tensor | None, opening: Tensor) -> tuple[Tensor, Tensor]:
        flow, run = self.flow, self.functions
        shift, scale = opening.unbind()
        if "one-convolution" in self.switches:
            x, inner = run.positioned(hidden, flow.position, valid, shift, scale)
            return x, inner
        lines = hidden.shape[0] // 2 or 1
        parts = [
            run.positioned(hidden[at : at + lines], flow.position, None if valid is None else valid[at : at + lines], shift, scale)
            for at in range(0, hidden.shape[0], lines)
        ]
        return torch.cat([x for x, _ in parts]), torch.cat([inner for _, inner in parts])

    def _block(self, block: Block, x: Tensor, inner: Tensor, modulation: Any, spans: _Spans) -> tuple[Tensor, Tensor]:
        run, shape, table = self.functions, self.flow.shape, spans.table
        gate, shift_mlp, scale_mlp, gate_mlp, shift, scale = modulation
        if "rotary-table" not in self.switches:
            table = arithmetic.rotary_table(self.flow.inverse_frequencies, x.shape[1])
        if "fused-qkv" in self.switches:
            query, key, value = run.project(inner, block, table, shape)
        else:
            pairs = zip(block.qkv_weight.chunk(3), block.qkv_bias.chunk(3), strict=True)
            qkv = torch.cat([F.linear(inner, weight, bias) for weight, bias in pairs], dim=-1)
            query, key, value = arithmetic.taken_apart(qkv, block, table, shape, run.heads)
        found = run.attention(query, key, value, spans.lengths, spans.mask).flatten(2)
        x, inner = run.residual(x, F.linear(found, block.out_weight, block.out_bias), gate, shift_mlp, scale_mlp, spans.valid)
        if inner.is_cuda and "fused-gelu" in self.switches:
            # the product's own epilogue: GELU by tanh, as upstream has it
            up = torch._addmm_activation(block.up_bias, inner.flatten(0, 1), block.up_weight.t(), use_gelu=True).unflatten(0, x.shape[:2])
        else:
            up = F.gelu(F.linear(inner, block.up_weight, block.up_bias), approximate="tanh")
        x, inner = run.residual_last(x, F.linear(up, block.down_weight, block.down_bias), gate_mlp, shift, scale, spans.valid)
        return x, inner
