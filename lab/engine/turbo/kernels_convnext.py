"""Triton kernels for the parts of a ConvNeXt block: `lab.engine.turbo.convnext`, without copies into other layouts."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lab.engine.turbo import convnext

_LENGTHS = ("rows", "total", "blocks")
_SINGLE, _PAIRED = (8, 4), (4, 4)  # rows of a program of the convolution, and its warps; the same where it makes pairs, which are of FP32


@triton.jit
def split(x, scale):
    """A pair in FP16 for each x · scale: it is high + low / 2048 (`lab.engine.turbo.kernels_vocoder`)."""
    x *= scale
    high = x.to(tl.float16)
    return high, ((x - high.to(tl.float32)) * 2048.0).to(tl.float16)


@triton.jit
def gelu(x):
    """The exact one in FP32, off by a third of what torch's is: x, if above 0, less |x| times the share of a normal distribution beyond |x|."""
    # the logarithm of that share, to the base 2: as smooth as it is, a polynomial comes within 8e-9 of GELU, and needs neither division nor choice
    size = tl.abs(x)
    power = -0.0002969408965 + size * (-0.0001231481451 + size * (2.659107035e-05 + size * -1.79710393e-06))
    power = -0.4591405646 + size * (-0.05266849021 + size * (0.007287594593 + size * power))
    power = -0.9999995238 + size * (-1.151116508 + size * power)
    return tl.maximum(x, 0.0) - size * tl.exp2(power)


@triton.jit
def normed(x, lane, across, weight, bias, eps: tl.constexpr, dim: tl.constexpr):
    """Layer norm of rows, which are zero where they are not `across`."""
    mean = tl.sum(x, axis=1) / dim
    centred = tl.where(across[None], x - mean[:, None], 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, axis=1) / dim + eps)
    factor = tl.load(weight + lane, mask=across, other=0.0).to(tl.float32)
    offset = tl.load(bias + lane, mask=across, other=0.0).to(tl.float32)
    return centred * deviation[:, None] * factor[None] + offset[None]


@triton.jit(do_not_specialize=_LENGTHS)
def _depthwise_kernel(
    x,
    weight,
    bias,
    norm_weight,
    norm_bias,
    kept,
    out,
    low,
    scale,
    rows,
    eps: tl.constexpr,
    dim: tl.constexpr,
    width: tl.constexpr,
    taps: tl.constexpr,
    masked: tl.constexpr,
    paired: tl.constexpr,
    block: tl.constexpr,
):
    """`block` rows of one sequence: the convolution of each channel with its own taps, and the layer norm over channels.

    `paired`: `out` takes the first, `low` the second numbers of pairs.
    """
    base = tl.program_id(1) * rows
    row = tl.program_id(0) * block + tl.arange(0, block)
    lane = tl.arange(0, width)
    across = lane < dim
    total = tl.zeros((block, width), dtype=tl.float32)
    for tap in tl.static_range(taps):
        near = row + tap - taps // 2
        seen = (near >= 0) & (near < rows)
        if masked:
            seen = seen & (tl.load(kept + base + near, mask=seen, other=0) != 0)
        value = tl.load(x + (base + near)[:, None] * dim + lane[None], mask=seen[:, None] & across[None], other=0.0).to(tl.float32)
        total += value * tl.load(weight + lane * taps + tap, mask=across, other=0.0).to(tl.float32)[None]
    total += tl.load(bias + lane, mask=across, other=0.0).to(tl.float32)[None]
    found = normed(total, lane, across, norm_weight, norm_bias, eps, dim)
    inside = (row < rows)[:, None] & across[None]
    place = (base + row)[:, None] * dim + lane[None]
    if paired:
        found, rest = split(found, scale)
        tl.store(low + place, rest, mask=inside)
    tl.store(out + place, found.to(out.dtype.element_ty), mask=inside)


def suits(block: Any, dim: int) -> bool:
    """Whether there is a kernel for a block's convolution of `dim` channels."""
    convolution = block.dwconv
    return bool(convolution.kernel_size[0] % 2 and convolution.dilation[0] == 1 and convolution.groups == dim)


def depthwise(x: Tensor, block: Any, kept: Tensor | None, scale: float | None = None) -> Tensor:
    """The block's convolution over rows and its norm; with a `scale` times that and as pairs, (2, batch, rows, dim) FP16."""
    convolution, norm = block.dwconv, block.norm
    batch, rows, dim = x.shape
    if not suits(block, dim):
        assert scale is None
        return convnext.depthwise(x, block, kept)
    out = torch.empty_like(x) if scale is None else torch.empty((2, *x.shape), device=x.device, dtype=torch.float16)
    low = None if scale is None else out[1]
    high, warps = _SINGLE if scale is None else _PAIRED
    vectors = (convolution.weight, convolution.bias, norm.weight, norm.bias, kept)
    sizes = (norm.eps, dim, triton.next_power_of_2(dim), convolution.kernel_size[0], kept is not None, scale is not None, high)
    _depthwise_kernel[(triton.cdiv(rows, high), batch)](x, *vectors, out, low, scale, rows, *sizes, num_warps=warps)
    return out


@triton.jit(do_not_specialize=_LENGTHS)
def _normed_kernel(x, weight, bias, out, low, scale, total, eps: tl.constexpr, dim: tl.constexpr, width: tl.constexpr, block: tl.constexpr):
    """`block` rows: the layer norm as `x`'s dtype has it, in pairs."""
    row = tl.program_id(0) * block + tl.arange(0, block)
    lane = tl.arange(0, width)
    across = lane < dim
    inside = (row < total)[:, None] & across[None]
    place = row[:, None] * dim + lane[None]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    found = normed(value, lane, across, weight, bias, eps, dim).to(x.dtype.element_ty)
    upper, lower = split(found.to(tl.float32), scale)
    tl.store(out + place, upper, mask=inside)
    tl.store(low + place, lower, mask=inside)


def normed_pairs(x: Tensor, norm: Any, scale: float) -> Tensor:
    """A layer norm in the dtype of `x`, times `scale` and as pairs, (2, batch, rows, dim) FP16."""
    x, dim = x.contiguous(), x.shape[-1]
    out = torch.empty((2, *x.shape), device=x.device, dtype=torch.float16)
    total, block = x.numel() // dim, 4
    sizes = (total, norm.eps, dim, triton.next_power_of_2(dim), block)
    _normed_kernel[(triton.cdiv(total, block),)](x, norm.weight, norm.bias, *out.unbind(), scale, *sizes, num_warps=4)
    return out


@triton.jit(do_not_specialize=_LENGTHS)
def _spread_kernel(
    x,
    valid,
    out,
    low,
    rows,
    total,
    dim: tl.constexpr,
    wide: tl.constexpr,
    width: tl.constexpr,
    edge: tl.constexpr,
    masked: tl.constexpr,
    block: tl.constexpr,
):
    """`block` of `total` rows as pairs, `wide` for `dim`, with `edge` rows before and behind each sequence: zeros where there is nothing."""
    place = tl.program_id(0) * block + tl.arange(0, block)
    line, row = place // (rows + 2 * edge), place % (rows + 2 * edge) - edge
    lane = tl.arange(0, width)
    seen = (place < total) & (row >= 0) & (row < rows)
    if masked:
        seen = seen & (tl.load(valid + line * rows + row, mask=seen, other=0) != 0)
    found = tl.load(x + (line * rows + row)[:, None] * dim + lane[None], mask=seen[:, None] & (lane < dim)[None], other=0.0)
    upper, lower = split(found, 1.0)
    inside = (place < total)[:, None] & (lane < wide)[None]
    tl.store(out + place[:, None] * wide + lane[None], upper, mask=inside)
    tl.store(low + place[:, None] * wide + lane[None], lower, mask=inside)


def spread(x: Tensor, valid: Tensor | None, edge: int, wide: int) -> Tensor:
    """Rows as pairs, (2, 1, batch · (rows + 2 · edge), wide) FP16, of (batch, rows, dim): zeros around each sequence, and where rows are not `valid`."""
    batch, rows, dim = x.shape
    total, block = batch * (rows + 2 * edge), 8
    out = torch.empty((2, 1, total, wide), device=x.device, dtype=torch.float16)
    sizes = (rows, total, dim, wide, triton.next_power_of_2(wide), edge, valid is not None, block)
    _spread_kernel[(triton.cdiv(total, block),)](x.contiguous(), valid, *out.unbind(), *sizes, num_warps=4)
    return out


@triton.jit(do_not_specialize=_LENGTHS)
def _activated_kernel(
    x, valid, out, squares, rows, blocks, dim: tl.constexpr, masked: tl.constexpr, high: tl.constexpr, wide: tl.constexpr
):
    """GELU of a tile, and the sum of its squares over rows: `squares` is (batch, blocks, dim)."""
    first, line = tl.program_id(1), tl.program_id(2)
    row = first * high + tl.arange(0, high)
    lane = tl.program_id(0) * wide + tl.arange(0, wide)
    inside = (row < rows)[:, None] & (lane < dim)[None]
    place = (line * rows + row)[:, None] * dim + lane[None]
    value = gelu(tl.load(x + place, mask=inside, other=0.0).to(tl.float32)).to(out.dtype.element_ty)
    if masked:
        value = tl.where(tl.load(valid + line * rows + row, mask=row < rows, other=0)[:, None] != 0, value, 0.0)
    tl.store(out + place, value, mask=inside)
    wider = value.to(tl.float32)
    tl.store(squares + (line * blocks + first) * dim + lane, tl.sum(wider * wider, axis=0), mask=lane < dim)


@triton.jit(do_not_specialize=_LENGTHS)
def _gained_kernel(x, squares, gamma, beta, rows, blocks, dim: tl.constexpr, width: tl.constexpr, high: tl.constexpr, some: tl.constexpr):
    """Rows of `x`, in place, times 1 + gamma · (norm of each channel over all rows, against the mean of these norms), plus beta.

    Each program adds up all of `squares` anew, `some` blocks at a time, while its rows are on their way: a kernel for these sums alone took 3.6 µs.
    """
    line = tl.program_id(1)
    row = tl.program_id(0) * high + tl.arange(0, high)
    lane = tl.arange(0, width)
    across = lane < dim
    inside = (row < rows)[:, None] & across[None]
    place = (line * rows + row)[:, None] * dim + lane[None]
    value = tl.load(x + place, mask=inside, other=0.0)
    factor = tl.load(gamma + lane, mask=across, other=0.0)
    offset = tl.load(beta + lane, mask=across, other=0.0)
    total = tl.zeros((width,), dtype=tl.float32)
    for first in range(0, blocks, some):
        block = first + tl.arange(0, some)
        found = squares + (line * blocks + block)[:, None] * dim + lane[None]
        total += tl.sum(tl.load(found, mask=(block < blocks)[:, None] & across[None], other=0.0), axis=0)
    norm = tl.sqrt(total)
    gain = 1.0 + factor.to(tl.float32) * norm / (tl.sum(norm, axis=0) / dim + 1e-6)
    tl.store(x + place, (value.to(tl.float32) * gain[None] + offset.to(tl.float32)[None]).to(x.dtype.element_ty), mask=inside)


def responded(x: Tensor, grn: Any, valid: Tensor | None) -> Tensor:
    """GELU and global response normalisation over the rows that are `valid`."""
    batch, rows, dim = x.shape
    x = x.contiguous()
    # tall tiles, for few sums, but enough of them: 640 for (2, 1216, 1024)
    high, wide = 128, 32
    blocks = triton.cdiv(rows, high)
    out = torch.empty_like(x)
    squares = torch.empty((batch, blocks, dim), device=x.device)
    grid = (triton.cdiv(dim, wide), blocks, batch)
    _activated_kernel[grid](x, valid, out, squares, rows, blocks, dim, valid is not None, high, wide, num_warps=4)
    high, some = 8, 16
    sizes = (rows, blocks, dim, triton.next_power_of_2(dim), high, some)
    _gained_kernel[(triton.cdiv(rows, high), batch)](out, squares, grn.gamma, grn.beta, *sizes, num_warps=8)
    return out
