"""The position convolution on Hopper cards, in Gluon: rows lie in shared memory once, and each tap's product begins at another of them.

A product is (channels out, in) · (in, rows), which is wide, so that the tensor cores read little for what they compute.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma, warpgroup_mma, warpgroup_mma_wait
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

_GROUP = 64  # channels in, and out, of a group
_UNIT = 64  # rows that are copied at a time
_UNITS = 2  # of a program: three programs fit on a multiprocessor, which is faster than fewer with more rows each
_STAGES = 4  # taps' weights on their way


@gluon.jit
def _rows(tiles, row, count: gl.constexpr):
    """`count` rows from `row` on, any row, as (channels, rows): swizzles go by the address, not by where a view begins."""
    across: gl.constexpr = tiles.shape[2]
    plain: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, order=[0])
    lines = tiles._reinterpret(tiles.dtype, [tiles.shape[0] * tiles.shape[1], across], plain)
    return lines.index(row)._reinterpret(tiles.dtype, [count, across], tiles.layout).permute((1, 0))


@gluon.jit
def _copied(x, line, row, column, here, tiles, count: gl.constexpr):
    """Start the copies of `count` tiles of rows, from `row` on; `here` is told when all have come."""
    mbarrier.expect(here, count * x.block_type.nbytes)
    for i in gl.static_range(count):
        tile = tiles.index(i).reshape([1, tiles.shape[1], tiles.shape[2]])
        tma.async_copy_global_to_shared(x, [line, row + i * tiles.shape[1], column], here, tile)


@gluon.jit
def _weights(weight, tap, number, here, tiles, wanted, groups: gl.constexpr):
    """Start the copy of a tap's weights."""
    group: gl.constexpr = tiles.shape[1]
    slot = tap % tiles.shape[0]
    mbarrier.expect(here.index(slot), weight.block_type.nbytes, pred=wanted)
    tma.async_copy_global_to_shared(weight, [(tap * groups + number) * group, 0], here.index(slot), tiles.index(slot), pred=wanted)


@gluon.jit(do_not_specialize=("rows",))
def _convolution_kernel(
    x,
    weight,
    added,
    out,
    bias,
    valid,
    rows,
    taps: gl.constexpr,
    groups: gl.constexpr,
    units: gl.constexpr,
    stages: gl.constexpr,
    masked: gl.constexpr,
    joined: gl.constexpr,
):
    """`units` tiles of rows of one group of one sequence."""
    unit: gl.constexpr = x.block_type.shape[1]
    group: gl.constexpr = x.block_type.shape[2]
    wide: gl.constexpr = units * unit
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, wide, 16])
    x_tiles = gl.allocate_shared_memory(x.dtype, [units + 1, unit, group], weight.layout)
    weight_tiles = gl.allocate_shared_memory(x.dtype, [stages, group, group], weight.layout)
    out_tiles = gl.allocate_shared_memory(x.dtype, [units, unit, group], weight.layout)
    here = gl.allocate_shared_memory(gl.int64, [stages, 1], mbarrier.MBarrierLayout())
    come = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(stages):
        mbarrier.init(here.index(i), count=1)
    for i in gl.static_range(2):
        mbarrier.init(come.index(i), count=1)
    first, number, line = gl.program_id(0) * wide, gl.program_id(1), gl.program_id(2)
    column = number * group
    # weights do not depend on the kernel before this one: they come while that one ends
    gdc_launch_dependents()
    offset = gl.load(bias + column + gl.arange(0, group, layout=gl.SliceLayout(1, layout)))
    for i in gl.static_range(stages):
        _weights(weight, i, number, here, weight_tiles, i < taps, groups)
    gdc_wait()
    _copied(x, line, first - taps // 2, column, come.index(0), x_tiles, units + 1)
    if joined:
        _copied(added, line, first, column, come.index(1), out_tiles, units)
    row = first + gl.arange(0, wide, layout=gl.SliceLayout(0, layout))
    seen = row < rows
    if masked:
        seen = gl.load(valid + line * rows + row, mask=seen, other=0) != 0
    total = gl.zeros((group, wide), dtype=gl.float32, layout=layout)
    mbarrier.wait(come.index(0), 0)
    for tap in range(taps):
        mbarrier.wait(here.index(tap % stages), (tap // stages) & 1)
        taken = weight_tiles.index(tap % stages).permute((1, 0))
        total = warpgroup_mma(taken, _rows(x_tiles, tap, wide), total, use_acc=tap > 0, is_async=True)
        total = warpgroup_mma_wait(num_outstanding=1, deps=(total,))
        # the product before this one has ended: what it read makes room
        later = tap - 1 + stages
        _weights(weight, later, number, here, weight_tiles, (tap > 0) & (later < taps), groups)
    if joined:
        mbarrier.wait(come.index(1), 0)
    total = warpgroup_mma_wait(num_outstanding=0, deps=(total,))
    total = total + gl.expand_dims(offset.to(gl.float32), 1)
    if masked:
        total = gl.where(gl.expand_dims(seen, 0), total, 0.0)
    # Mish: tanh(ln(1 + e)), e = exp(total), is part / (part + 2)
    power = gl.exp2(gl.minimum(total, 20.0) * 1.4426950408889634)
    part = power * (power + 2.0)
    inverse = gl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [part + 2.0], dtype=gl.float32, is_pure=True, pack=1)
    total = total * (part * inverse)
    tile = _rows(out_tiles, 0, wide)
    if joined:
        total += tile.load(layout).to(gl.float32)
    tile.store(total.to(x.dtype))
    fence_async_shared()
    for i in gl.static_range(units):
        tma.async_copy_shared_to_global(out, [line, first + i * unit, column], out_tiles.index(i).reshape([1, unit, group]))
    tma.store_wait(pendings=0)
    # barriers' memory is not used for anything else, so that nothing has to invalidate them, which takes a wait for each
    here._keep_alive()
    come._keep_alive()


def suits(x: Tensor, weight: Tensor) -> bool:
    """Whether sizes are those that this is made for: groups of 64 channels, numbers of two bytes, and taps that one more tile of rows serves."""
    taps, _, inside, outside = weight.shape
    return inside == outside == _GROUP and x.element_size() == 2 and taps <= _UNIT + 1


def convolved(x: Tensor, weight: Tensor, bias: Tensor, valid: Tensor | None, added: Tensor | None) -> Tensor:
    """Mish of a grouped convolution of (batch, rows, dim) over its rows, plus `added`; `weight` is (taps, groups, 64, 64).

    Args:
        x: zero in rows that are not valid.
        weight: what `suits` has said yes to.
        bias: (dim,).
        valid: (batch, rows, 1), False where the sum is set to zero; None where all are valid.
        added: like `x`.
    """
    batch, rows, dim = x.shape
    taps, groups, group, _ = weight.shape
    out = torch.empty_like(x)
    layout = gl.NVMMASharedLayout.get_default_for([_UNIT, group], gl.float16)
    lines = gl.NVMMASharedLayout.get_default_for([1, _UNIT, group], gl.float16)
    of_x, of_added, of_out = (
        TensorDescriptor(t, [batch, rows, dim], [rows * dim, dim, 1], [1, _UNIT, group], lines)
        for t in (x, x if added is None else added, out)
    )
    of_weight = TensorDescriptor(weight, [taps * dim, group], [group, 1], [group, group], layout)
    sizes = (rows, taps, groups, _UNITS, _STAGES, valid is not None, added is not None)
    grid = (triton.cdiv(rows, _UNITS * _UNIT), groups, batch)
    _convolution_kernel[grid](of_x, of_weight, of_added, of_out, bias, valid, *sizes, num_warps=4, launch_pdl=True)
    return out
