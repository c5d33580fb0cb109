"""Triton kernels for the element-wise arithmetic and the position convolution: `lab.engine.turbo.arithmetic`, one pass over memory each.

Every function has the signature and the meaning of its namesake there, for tensors on a CUDA card. Sizes that change with the text are plain integers
to the kernels, so that a new length compiles nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from lab.engine.turbo.kernels_attention import attention, heads, project
from lab.engine.turbo.reading import Position

__all__ = ["attention", "convolved", "entered", "euler", "heads", "positioned", "project", "residual", "residual_last"]

# a length of 1 or a multiple of 16 would otherwise be compiled apart
_LENGTHS = ("rows", "total")


@triton.jit(do_not_specialize=_LENGTHS)
def _residual_kernel(
    x,
    change,
    gate,
    shift,
    scale,
    valid,
    out,
    inner,
    total,
    dim: tl.constexpr,
    width: tl.constexpr,
    changed: tl.constexpr,
    masked: tl.constexpr,
    ahead: tl.constexpr,
    block: tl.constexpr,
):
    """`block` rows: x + gate · change, and its affine layer norm."""
    row = tl.program_id(0) * block + tl.arange(0, block)
    lane = tl.arange(0, width)
    here, across = row < total, lane < dim
    inside = here[:, None] & across[None]
    place = row[:, None] * dim + lane[None]
    if ahead:
        tl.extra.cuda.gdc_launch_dependents()
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if changed:
        more = tl.load(change + place, mask=inside, other=0.0).to(tl.float32)
        value = (value + tl.load(gate + lane, mask=across, other=0.0)[None] * more).to(out.dtype.element_ty)
        if masked:
            value = tl.where(tl.load(valid + row, mask=here, other=0)[:, None] != 0, value, 0.0)
        tl.store(out + place, value, mask=inside)
        value = value.to(tl.float32)
    mean = tl.sum(value, axis=1) / dim
    centred = tl.where(across[None], value - mean[:, None], 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, axis=1) / dim + 1e-6)
    factor = tl.load(scale + lane, mask=across, other=0.0)
    offset = tl.load(shift + lane, mask=across, other=0.0)
    tl.store(inner + place, (centred * deviation[:, None] * factor[None] + offset[None]).to(inner.dtype.element_ty), mask=inside)


def _residual(
    x: Tensor, change: Tensor | None, gate: Tensor | None, shift: Tensor, scale: Tensor, valid: Tensor | None, ahead: bool
) -> tuple[Tensor, Tensor]:
    dim = x.shape[-1]
    out = x if change is None else torch.empty_like(x)
    inner = torch.empty_like(x)
    total, block = x.numel() // dim, 8
    sizes = (total, dim, triton.next_power_of_2(dim), change is not None, valid is not None, ahead, block)
    _residual_kernel[(triton.cdiv(total, block),)](x, change, gate, shift, scale, valid, out, inner, *sizes, num_warps=8)
    return out, inner


def residual(
    x: Tensor, change: Tensor, gate: Tensor, shift: Tensor, scale: Tensor, valid: Tensor | None, *, ahead: bool = False
) -> tuple[Tensor, Tensor]:
    """What a branch adds to `x`, and the next branch's input.

    `ahead`: the next kernel, which is made for that, gets ready meanwhile (programmatic dependent launch; Hopper cards and later).
    """
    return _residual(x, change, gate, shift, scale, valid, ahead)


residual_last = residual


@triton.jit(do_not_specialize=_LENGTHS)
def _entered_kernel(
    noise,
    weight,
    rest,
    valid,
    out,
    total,
    dim: tl.constexpr,
    inside: tl.constexpr,
    deep: tl.constexpr,
    branches: tl.constexpr,
    masked: tl.constexpr,
    ahead: tl.constexpr,
    block: tl.constexpr,
    across: tl.constexpr,
):
    """`block` rows and `across` columns of every branch, each of `total` rows: the product is the same for all."""
    if ahead:
        tl.extra.cuda.gdc_launch_dependents()
    row = tl.program_id(1) * block + tl.arange(0, block)
    lane = tl.program_id(0) * across + tl.arange(0, across)
    depth = tl.arange(0, deep)
    here, along = row < total, lane < dim
    left = tl.load(noise + row[:, None] * inside + depth[None], mask=here[:, None] & (depth < inside)[None], other=0.0)
    right = tl.load(weight + lane[None] * inside + depth[:, None], mask=along[None] & (depth < inside)[:, None], other=0.0)
    product = tl.dot(left, right)
    for branch in tl.static_range(branches):
        place = (branch * total + row)[:, None] * dim + lane[None]
        value = product + tl.load(rest + place, mask=here[:, None] & along[None], other=0.0).to(tl.float32)
        if masked:
            value = tl.where(tl.load(valid + branch * total + row, mask=here, other=0)[:, None] != 0, value, 0.0)
        tl.store(out + place, value.to(out.dtype.element_ty), mask=here[:, None] & along[None])


def entered(noise: Tensor, weight: Tensor, rest: Tensor, valid: Tensor | None, *, ahead: bool = False) -> Tensor:
    """The input embedding before its convolution; `ahead` as for `residual`."""
    dim, inside = weight.shape
    out = torch.empty_like(rest)
    total, block, across = noise.shape[0] * noise.shape[1], 64, 64
    deep = max(16, triton.next_power_of_2(inside))
    sizes = (total, dim, inside, deep, rest.shape[0] // noise.shape[0], valid is not None, ahead, block, across)
    _entered_kernel[(triton.cdiv(dim, across), triton.cdiv(total, block))](noise, weight, rest, valid, out, *sizes, num_warps=4)
    return out


@triton.jit(do_not_specialize=_LENGTHS)
def _convolution_kernel(
    x,
    weight,
    bias,
    valid,
    added,
    out,
    rows,
    dim: tl.constexpr,
    group: tl.constexpr,
    width: tl.constexpr,
    taps: tl.constexpr,
    masked: tl.constexpr,
    joined: tl.constexpr,
    described: tl.constexpr,
    block: tl.constexpr,
):
    """Mish of a grouped convolution over rows, for `block` rows of one group of one sequence; `joined`: plus `added`.

    `described`: `x` and `weight` are descriptors, by which what lies beyond the ends is zero.
    """
    first, number, line = tl.program_id(0) * block, tl.program_id(1), tl.program_id(2)
    row = first + tl.arange(0, block)
    lane = tl.arange(0, width)
    inside = lane < group
    channel = number * group + lane
    base = line * rows
    total = tl.zeros((block, width), dtype=tl.float32)
    for tap in range(taps):
        if described:
            value = tl.reshape(x.load([line, first + tap - taps // 2, number * group]), (block, width))
            total += tl.dot(value, weight.load([(tap * (dim // group) + number) * group, 0]))
        else:
            near = row + tap - taps // 2
            seen = (near >= 0) & (near < rows)
            value = tl.load(x + (base + near)[:, None] * dim + channel[None], mask=seen[:, None] & inside[None], other=0.0)
            # (taps, groups, in, out)
            place = ((tap * (dim // group) + number) * group + lane)[:, None] * group + lane[None]
            total += tl.dot(value, tl.load(weight + place, mask=inside[:, None] & inside[None], other=0.0))
    total += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)[None]
    kept = (row < rows)[:, None] & inside[None]
    if masked:
        total = tl.where(tl.load(valid + base + row, mask=row < rows, other=0)[:, None] != 0, total, 0.0)
    soft = tl.where(total > 20.0, total, tl.log(1.0 + tl.exp(tl.minimum(total, 20.0))))
    total = total * (1.0 - 2.0 / (tl.exp(2.0 * soft) + 1.0))  # tanh
    place = (base + row)[:, None] * dim + channel[None]
    if joined:
        total += tl.load(added + place, mask=kept, other=0.0).to(tl.float32)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=kept)


def convolved(x: Tensor, weight: Tensor, bias: Tensor, valid: Tensor | None, added: Tensor | None) -> Tensor:
    """Mish of a grouped convolution of (batch, rows, dim) over its rows, plus `added`; `weight` is (taps, groups, in, out)."""
    batch, rows, dim = x.shape
    taps, groups, group, _ = weight.shape
    out = torch.empty_like(x)
    block = 128
    width = max(16, triton.next_power_of_2(group))
    described = group == width and x.element_size() == 2
    tensors = (x, weight)
    if described:
        tensors = (
            TensorDescriptor(x, [batch, rows, dim], [rows * dim, dim, 1], [1, block, width]),
            TensorDescriptor(weight, [taps * dim, group], [group, 1], [width, width]),
        )
    sizes = (rows, dim, group, width, taps, valid is not None, added is not None, described, block)
    grid = (triton.cdiv(rows, block), groups, batch)
    _convolution_kernel[grid](*tensors, bias, valid, added, out, *sizes, num_warps=8, num_stages=3)
    return out


def positioned(
    hidden: Tensor,
    position: Position,
    valid: Tensor | None,
    shift: Tensor,
    scale: Tensor,
    *,
    ahead: bool = False,
    convolve: Callable[..., Tensor] = convolved,
) -> tuple[Tensor, Tensor]:
    """The input embedding with its position, and the first block's input; `ahead` as for `residual`, `convolve` does what `convolved` does."""
    (first, second), (one, other) = position.weights, position.biases
    inner = convolve(hidden, first, one, valid, None)
    return _residual(convolve(inner, second, other, valid, hidden), None, None, shift, scale, None, ahead)


@triton.jit(do_not_specialize=_LENGTHS)
def _euler_kernel(
    x,
    flow,
    step,
    guidance,
    out,
    cast,
    total,
    mel: tl.constexpr,
    wide: tl.constexpr,
    columns: tl.constexpr,
    guided: tl.constexpr,
    block: tl.constexpr,
):
    """`block` rows: the step, and the same rounded and padded to `wide` columns for the next product."""
    row = tl.program_id(0) * block + tl.arange(0, block)
    lane = tl.arange(0, columns)
    inside = (row < total)[:, None] & (lane < mel)[None]
    velocity = tl.load(flow + row[:, None] * wide + lane[None], mask=inside, other=0.0).to(tl.float32)
    if guided:
        untold = tl.load(flow + (total + row)[:, None] * wide + lane[None], mask=inside, other=0.0).to(tl.float32)
        velocity += (velocity - untold) * tl.load(guidance)
    place = row[:, None] * mel + lane[None]
    value = tl.load(x + place, mask=inside, other=0.0) + tl.load(step) * velocity
    tl.store(out + place, value, mask=inside)
    tl.store(cast + row[:, None] * wide + lane[None], value.to(cast.dtype.element_ty), mask=(row < total)[:, None] & (lane < wide)[None])


def euler(x: Tensor, flow: Tensor, width: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor]:
    """One step, and what the next product wants of it."""
    batch, rows, mel = x.shape
    wide = flow.shape[-1]
    out, cast = torch.empty_like(x), torch.empty((batch, rows, wide), device=x.device, dtype=flow.dtype)
    total, block = batch * rows, 16
    _euler_kernel[(triton.cdiv(total, block),)](
        x, flow, width, guidance, out, cast, total, mel, wide, triton.next_power_of_2(wide), flow.shape[0] != batch, block, num_warps=4
    )
    return out, cast
