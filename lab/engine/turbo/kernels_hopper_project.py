"""Queries, keys and values on Hopper cards, in Gluon: one product, whose tiles are normalised and rotated before they leave the registers."""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma, warpgroup_mma, warpgroup_mma_wait
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from lab.engine.turbo.kernels_attention import query_scale
from lab.engine.turbo.reading import Block, Shape

_HIGH, _WIDE, _DEEP, _STAGES = 128, 256, 64, 3  # rows and columns of a tile, how deep a step of its product is, steps on their way
_FULL = 0.8  # of the multiprocessors' time: below, the library's product with smaller tiles and a kernel behind it are faster


def fits(shape: Shape) -> bool:
    """Whether a model's sizes can be cut into these tiles."""
    width = shape.heads * shape.head_dim
    return shape.head_dim == _WIDE // 4 and width % _WIDE == 0 and shape.dim % _DEEP == 0 and shape.dim >= _STAGES * _DEEP


def suits(shape: Shape, rows: int, multiprocessors: int) -> bool:
    """Whether this is the faster way for so many rows: the tiles have to fill the card."""
    tiles = triton.cdiv(rows, _HIGH) * (3 * shape.heads * shape.head_dim // _WIDE)
    return fits(shape) and bool(tiles >= _FULL * multiprocessors * triton.cdiv(tiles, multiprocessors))


@gluon.jit
def _load(tensor, turn, steps, place, here, tiles, wanted, stages: gl.constexpr, deep: gl.constexpr):
    """Start the copy for step `turn` of this program's life; `place` is the tile's first row."""
    slot = turn % stages
    mbarrier.expect(here.index(slot), tensor.block_type.nbytes, pred=wanted)
    tma.async_copy_global_to_shared(tensor, [place, turn % steps * deep], here.index(slot), tiles.index(slot), pred=wanted)


@gluon.jit(do_not_specialize=("rows", "total"))
def _project_kernel(
    x,
    weight,
    out,
    bias,
    q_norm,
    k_norm,
    table,
    rows,
    total,
    width: gl.constexpr,
    rotary: gl.constexpr,
    size: gl.constexpr,
    scale: gl.constexpr,
    normed: gl.constexpr,
    high: gl.constexpr,
    wide: gl.constexpr,
    deep: gl.constexpr,
    inside: gl.constexpr,
    stages: gl.constexpr,
):
    """Every so many-th tile of the `total` rows: a program keeps its multiprocessor busy, and copies for its next tile while it ends one."""
    heads: gl.constexpr = wide // size
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[8, 1], instr_shape=[16, wide, 16])
    # (row, head, pair): what `layout` becomes when neighbours are taken apart
    pairs: gl.constexpr = gl.DistributedLinearLayout(
        reg_bases=[[8, 0, 0], [0, 0, 4], [0, 0, 8], [0, 0, 16], [0, 1, 0], [0, 2, 0]],
        lane_bases=[[0, 0, 1], [0, 0, 2], [1, 0, 0], [2, 0, 0], [4, 0, 0]],
        warp_bases=[[16, 0, 0], [32, 0, 0], [64, 0, 0]],
        block_bases=[],
        shape=[high, heads, size // 2],
    )
    across: gl.constexpr = gl.SliceLayout(1, pairs)
    x_tiles = gl.allocate_shared_memory(x.dtype, [stages, high, deep], x.layout)
    weight_tiles = gl.allocate_shared_memory(x.dtype, [stages, wide, deep], weight.layout)
    out_tile = gl.allocate_shared_memory(x.dtype, [high, wide], out.layout)
    here = gl.allocate_shared_memory(gl.int64, [stages, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(stages):
        mbarrier.init(here.index(i), count=2)
    program, programs = gl.program_id(0), gl.num_programs(0)
    down = (total + high - 1) // high
    tiles = down * (3 * width // wide)
    steps: gl.constexpr = inside // deep
    turns = (tiles - program + programs - 1) // programs * steps
    # weights do not depend on the kernel before this one: they come while that one ends
    gdc_launch_dependents()
    for i in gl.static_range(stages - 1):
        _load(weight, i, steps, program // down * wide, here, weight_tiles, i < turns, stages, deep)
    gdc_wait()
    for i in gl.static_range(stages - 1):
        _load(x, i, steps, program % down * high, here, x_tiles, i < turns, stages, deep)
    turn = 0
    for tile in range(program, tiles, programs):
        row = tile % down * high
        column = tile // down * wide
        # what the end needs is on its way while the product is made
        lane = gl.arange(0, size // 2, layout=gl.SliceLayout(0, across))
        along = (row + gl.arange(0, high, layout=gl.SliceLayout(1, across))) % rows
        place = gl.expand_dims(along * (size // 2), 1) + gl.expand_dims(lane, 0)
        turned = column < 2 * width
        cos = gl.load(table + place, mask=turned, other=1.0)
        sin = gl.load(table + rows * (size // 2) + place, mask=turned, other=0.0)
        offset = gl.load(bias + column + gl.arange(0, wide, layout=gl.SliceLayout(0, layout)))
        sum = gl.zeros((high, wide), dtype=gl.float32, layout=layout)
        for step in range(steps):
            slot = turn % stages
            mbarrier.wait(here.index(slot), (turn // stages) & 1)
            sum = warpgroup_mma(x_tiles.index(slot), weight_tiles.index(slot).permute((1, 0)), sum, use_acc=step > 0, is_async=True)
            sum = warpgroup_mma_wait(num_outstanding=1, deps=(sum,))
            ahead = turn + stages - 1
            later = program + ahead // steps * programs
            _load(x, ahead, steps, later % down * high, here, x_tiles, ahead < turns, stages, deep)
            _load(weight, ahead, steps, later // down * wide, here, weight_tiles, ahead < turns, stages, deep)
            turn += 1
        sum = warpgroup_mma_wait(num_outstanding=0, deps=(sum,))
        sum = sum + gl.expand_dims(offset.to(gl.float32), 0)
        if turned:
            first, second = gl.split(gl.reshape(sum, (high, heads, size // 2, 2)))
            first, second = gl.convert_layout(first, pairs), gl.convert_layout(second, pairs)
            if normed:
                norm = q_norm
                if column >= width:
                    norm = k_norm
                even = norm + 2 * gl.arange(0, size // 2, layout=gl.SliceLayout(0, gl.SliceLayout(0, pairs)))
                inverse = gl.expand_dims(gl.rsqrt(gl.sum(first * first + second * second, axis=2) / size + 1e-6), 2)
                first = first * inverse * gl.expand_dims(gl.expand_dims(gl.load(even).to(gl.float32), 0), 0)
                second = second * inverse * gl.expand_dims(gl.expand_dims(gl.load(even + 1).to(gl.float32), 0), 0)
            cosines, sines = gl.expand_dims(cos, 1), gl.expand_dims(sin, 1)
            if rotary * size < width:
                head = column % width // size + gl.arange(0, heads, layout=gl.SliceLayout(0, gl.SliceLayout(2, pairs)))
                turning = gl.expand_dims(gl.expand_dims(head < rotary, 0), 2)
                cosines, sines = gl.where(turning, cosines, 1.0), gl.where(turning, sines, 0.0)
            factor = scale
            if column >= width:
                factor = 1.0
            both = gl.join((first * cosines - second * sines) * factor, (first * sines + second * cosines) * factor)
            sum = gl.convert_layout(gl.reshape(both, (high, wide)), layout)
        tma.store_wait(pendings=0)
        gl.thread_barrier()
        out_tile.store(sum.to(x.dtype))
        fence_async_shared()
        tma.async_copy_shared_to_global(out, [row, column], out_tile)
    tma.store_wait(pendings=0)
    for i in gl.static_range(stages):
        mbarrier.invalidate(here.index(i))


def _described(tensor: Tensor, block: tuple[int, int]) -> TensorDescriptor:
    columns = tensor.shape[-1]
    layout = gl.NVMMASharedLayout.get_default_for(list(block), gl.float16)
    return TensorDescriptor(tensor, [tensor.numel() // columns, columns], [columns, 1], list(block), layout)


def project(x: Tensor, block: Block, table: Tensor, shape: Shape, multiprocessors: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (batch, rows, heads, 64), of `x`, (batch, rows, in): normalised and rotated, queries scaled."""
    batch, rows, inside = x.shape
    width = shape.heads * shape.head_dim
    out = torch.empty((batch, rows, 3 * width), device=x.device, dtype=x.dtype)
    total = batch * rows
    programs = min(multiprocessors, triton.cdiv(total, _HIGH) * (3 * width // _WIDE))
    tensors = (_described(x, (_HIGH, _DEEP)), _described(block.qkv_weight, (_WIDE, _DEEP)), _described(out, (_HIGH, _WIDE)))
    vectors = (block.qkv_bias, block.q_norm, block.k_norm, table)
    sizes = (width, shape.rotary_heads, shape.head_dim, query_scale(shape.head_dim), block.q_norm is not None)
    tiling = (_HIGH, _WIDE, _DEEP, inside, _STAGES)
    _project_kernel[(programs,)](*tensors, *vectors, rows, total, *sizes, *tiling, num_warps=8, launch_pdl=True)
    query, key, value = out.unflatten(-1, (3, shape.heads, shape.head_dim)).unbind(2)
    return query, key, value
