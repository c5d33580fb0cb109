"""Triton kernels for the element-wise arithmetic, the position convolution and attention: `lab.engine.turbo.arithmetic`, one pass over memory each.

Every function has the signature and the meaning of its namesake there, for tensors on a CUDA card. Sizes that change with the text are plain integers
to the kernels, so that a new length compiles nothing.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lab.engine.turbo.kernels_attention import attend, attend_masked, query_scale
from lab.engine.turbo.reading import Position, Shape

__all__ = ["attend", "attend_masked", "convolved", "entered", "euler", "heads", "positioned", "query_scale", "residual"]

# a length of 1 or a multiple of 16 would otherwise be compiled apart
_LENGTHS = ("rows", "total")


@triton.jit(do_not_specialize=_LENGTHS)
def _heads_kernel(
    qkv,
    query,
    key,
    q_norm,
    k_norm,
    table,
    rows,
    total,
    heads: tl.constexpr,
    rotary: tl.constexpr,
    size: tl.constexpr,
    scale: tl.constexpr,
    normed: tl.constexpr,
    block: tl.constexpr,
):
    """`block` (row, head) pairs of queries (second grid axis 0) or keys (1): RMS norm, rotation of neighbouring pairs, the queries' scale."""
    part = tl.program_id(1)
    pair = tl.program_id(0) * block + tl.arange(0, block)
    row, head = pair // heads, pair % heads
    lane = tl.arange(0, size)
    inside = (row < total)[:, None]
    x = tl.load(qkv + ((row * 3 + part) * heads + head)[:, None] * size + lane[None], mask=inside, other=0.0).to(tl.float32)
    if normed:
        weight = tl.load((k_norm if part == 1 else q_norm) + lane).to(tl.float32)
        x = x * tl.rsqrt(tl.sum(x * x, axis=1) / size + 1e-6)[:, None] * weight[None]
    half = tl.arange(0, size // 2)
    place = (row % rows)[:, None] * (size // 2) + half[None]
    turning = inside & (head < rotary)[:, None]
    cos = tl.load(table + place, mask=turning, other=1.0)
    sin = tl.load(table + rows * (size // 2) + place, mask=turning, other=0.0)
    first, second = tl.split(tl.reshape(x, (block, size // 2, 2)))
    x = tl.reshape(tl.join(first * cos - second * sin, first * sin + second * cos), (block, size))
    if part == 0:
        x = x * scale
    target = key if part == 1 else query
    tl.store(target + pair[:, None] * size + lane[None], x.to(target.dtype.element_ty), mask=inside)


def heads(qkv: Tensor, q_norm: Tensor | None, k_norm: Tensor | None, table: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Queries and keys, normalised and rotated, the queries scaled."""
    batch, rows = qkv.shape[:2]
    query = torch.empty((batch, rows, shape.heads, shape.head_dim), device=qkv.device, dtype=qkv.dtype)
    key = torch.empty_like(query)
    total = batch * rows
    block = 64
    grid = (triton.cdiv(total * shape.heads, block), 2)
    sizes = (shape.heads, shape.rotary_heads, shape.head_dim, query_scale(shape.head_dim), q_norm is not None, block)
    _heads_kernel[grid](qkv, query, key, q_norm, k_norm, table, rows, total, *sizes, num_warps=4)
    return query, key


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
    rows,
    dim: tl.constexpr,
    width: tl.constexpr,
    changed: tl.constexpr,
    masked: tl.constexpr,
):
    """One row: x + gate · change, and its affine layer norm."""
    row = tl.program_id(0)
    lane = tl.arange(0, width)
    inside = lane < dim
    value = tl.load(x + row * dim + lane, mask=inside, other=0.0).to(tl.float32)
    if changed:
        more = tl.load(change + row * dim + lane, mask=inside, other=0.0).to(tl.float32)
        value = (value + tl.load(gate + lane, mask=inside, other=0.0) * more).to(out.dtype.element_ty)
        if masked:
            value = tl.where(tl.load(valid + row) != 0, value, 0.0)
        tl.store(out + row * dim + lane, value, mask=inside)
        value = value.to(tl.float32)
    mean = tl.sum(value, axis=0) / dim
    centred = tl.where(inside, value - mean, 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, axis=0) / dim + 1e-6)
    factor = tl.load(scale + lane, mask=inside, other=0.0)
    offset = tl.load(shift + lane, mask=inside, other=0.0)
    tl.store(inner + row * dim + lane, (centred * deviation * factor + offset).to(inner.dtype.element_ty), mask=inside)


def _residual(
    x: Tensor, change: Tensor | None, gate: Tensor | None, shift: Tensor, scale: Tensor, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    dim = x.shape[-1]
    out = x if change is None else torch.empty_like(x)
    inner = torch.empty_like(x)
    width = triton.next_power_of_2(dim)
    _residual_kernel[(x.numel() // dim,)](
        x, change, gate, shift, scale, valid, out, inner, x.shape[1], dim, width, change is not None, valid is not None, num_warps=4
    )
    return out, inner


def residual(x: Tensor, change: Tensor, gate: Tensor, shift: Tensor, scale: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """What a branch adds to `x`, and the next branch's input."""
    return _residual(x, change, gate, shift, scale, valid)


@triton.jit(do_not_specialize=_LENGTHS)
def _entered_kernel(noise, rest, valid, out, rows, total, dim: tl.constexpr, width: tl.constexpr, masked: tl.constexpr):
    """One row of one branch; `total` rows are in one branch."""
    row = tl.program_id(0)
    lane = tl.arange(0, width)
    inside = lane < dim
    value = tl.load(rest + row * dim + lane, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(noise + (row % total) * dim + lane, mask=inside, other=0.0).to(tl.float32)
    if masked:
        value = tl.where(tl.load(valid + row) != 0, value, 0.0)
    tl.store(out + row * dim + lane, value.to(out.dtype.element_ty), mask=inside)


def entered(noise: Tensor, rest: Tensor, valid: Tensor | None) -> Tensor:
    """The input embedding before its convolution."""
    dim = rest.shape[-1]
    out = torch.empty_like(rest)
    grid = (rest.shape[0] * rest.shape[1],)
    _entered_kernel[grid](
        noise,
        rest,
        valid,
        out,
        rest.shape[1],
        noise.shape[0] * noise.shape[1],
        dim,
        triton.next_power_of_2(dim),
        valid is not None,
        num_warps=4,
    )
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
    block: tl.constexpr,
):
    """Mish of a grouped convolution over rows, for `block` rows of one group of one sequence; `joined`: plus `added`."""
    first, number, line = tl.program_id(0) * block, tl.program_id(1), tl.program_id(2)
    row = first + tl.arange(0, block)
    lane = tl.arange(0, width)
    inside = lane < group
    channel = number * group + lane
    base = line * rows
    total = tl.zeros((block, width), dtype=tl.float32)
    for tap in range(taps):
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
    grid = (triton.cdiv(rows, block), groups, batch)
    width = max(16, triton.next_power_of_2(group))
    _convolution_kernel[grid](
        x,
        weight,
        bias,
        valid,
        added,
        out,
        rows,
        dim,
        group,
        width,
        taps,
        valid is not None,
        added is not None,
        block,
        num_warps=4,
        num_stages=3,
    )
    return out


def positioned(hidden: Tensor, position: Position, valid: Tensor | None, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The input embedding with its position, and the first block's input."""
    (first, second), (one, other) = position.weights, position.biases
    inner = convolved(hidden, first, one, valid, None)
    return _residual(convolved(inner, second, other, valid, hidden), None, None, shift, scale, None)


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
