"""Attention on Hopper cards (H100, H200), in Gluon, where a kernel says itself what waits for what.

A tile's exponentials are taken while the one before it is multiplied with its values, and the next is copied. One program takes 64 queries of one head
against all keys of their sequence, or against a part of them.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma, warpgroup_mma, warpgroup_mma_wait
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
from triton.language.extra.cuda import gdc_wait

from lab.engine.turbo.buckets import divided

SIZE = 64  # of a head: what all of upstream's configs have
_QUERIES, _KEYS, _STAGES = 64, 128, 2
_PLACES = 3  # programs that a multiprocessor holds at a time,
_REGISTERS = 168  # which is why a thread has no more than these
PARTIAL = _QUERIES * (SIZE + 2)  # floats that a part is


@gluon.jit
def _fetch(tensor, row, column, here, target, wanted):
    """Start the copy of a tile; `here` is told when it has come."""
    mbarrier.expect(here, tensor.block_type.nbytes, pred=wanted)
    tma.async_copy_global_to_shared(tensor, [row, column], here, target, pred=wanted)


@gluon.jit
def _softmax(
    score, top, weight, left, queries: gl.constexpr, keys: gl.constexpr, layout: gl.constexpr, folds: gl.constexpr, masked: gl.constexpr
):
    """A tile's exponentials against the highest score so far, that score, how earlier ones fade, and their sums."""
    if masked:
        seen = gl.arange(0, keys, layout=gl.SliceLayout(0, layout)) < left
        score = gl.where(gl.expand_dims(seen, 0), score, -float("inf"))
    # what a thread holds of a row is folded before threads are asked: short chains, and for sums none of the asking
    folded = gl.convert_layout(gl.reshape(score, (queries, keys // 8, 8)), folds)
    high = gl.maximum(top, gl.convert_layout(gl.max(gl.max(folded, axis=1), axis=1), gl.SliceLayout(1, layout)))
    part = gl.exp2(score - gl.expand_dims(high, 1))
    fade = gl.exp2(top - high)
    folded = gl.convert_layout(gl.reshape(part, (queries, keys // 8, 8)), folds)
    faded = gl.expand_dims(gl.convert_layout(fade, gl.SliceLayout(1, gl.SliceLayout(1, folds))), 1)
    return part, high, fade, weight * faded + gl.sum(folded, axis=1)


@gluon.jit
def _tile(
    query,
    key,
    value,
    key_tiles,
    value_tiles,
    here,
    tile,
    more,
    row,
    column,
    half,
    total,
    top,
    weight,
    fade,
    left,
    queries: gl.constexpr,
    keys: gl.constexpr,
    stages: gl.constexpr,
    score_layout: gl.constexpr,
    part_layout: gl.constexpr,
    total_layout: gl.constexpr,
    folds: gl.constexpr,
    masked: gl.constexpr,
):
    """Scores of tile `tile`, values of the one before, which are added while this one's exponentials are taken; `more` tiles come after it."""
    slot, old = tile % stages, (tile - 1) % stages
    mbarrier.wait(here.index(slot), (tile // stages) & 1)
    nothing = gl.zeros((queries, keys), dtype=gl.float32, layout=score_layout)
    score = warpgroup_mma(query, key_tiles.index(slot).permute((1, 0)), nothing, use_acc=False, is_async=True)
    total = total * gl.expand_dims(gl.convert_layout(fade, gl.SliceLayout(1, total_layout)), 1)
    mbarrier.wait(here.index(stages + old), ((tile - 1) // stages) & 1)
    total = warpgroup_mma(half, value_tiles.index(old), total, is_async=True)
    score = warpgroup_mma_wait(num_outstanding=1, deps=(score,))
    _fetch(key, row + stages * keys, column, here.index(slot), key_tiles.index(slot), more >= stages)
    part, top, fade, weight = _softmax(score, top, weight, left, queries, keys, score_layout, folds, masked)
    half = gl.convert_layout(part.to(key.dtype), part_layout)
    # the wait is told of `half` so that it stays behind the exponentials
    total, half = warpgroup_mma_wait(num_outstanding=0, deps=(total, half))
    _fetch(value, row + (stages - 1) * keys, column, here.index(stages + old), value_tiles.index(old), more >= stages - 1)
    return half, total, top, weight, fade


@gluon.jit(do_not_specialize=("rows", "whole", "parts"))
def _attention_kernel(
    query,
    key,
    value,
    lengths,
    out,
    partial,
    arrived,
    rows,
    whole,
    parts,
    heads: gl.constexpr,
    size: gl.constexpr,
    queries: gl.constexpr,
    keys: gl.constexpr,
    stages: gl.constexpr,
):
    """The first `whole` programs take one unit each, 64 queries of one head; the others a part of one, `parts` to a unit, in the order of keys."""
    score_layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, keys, 16])
    total_layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, size, 16])
    part_layout: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=total_layout, k_width=2)
    # (query, eight keys, key): as `score_layout`
    folds: gl.constexpr = gl.DistributedLinearLayout(
        reg_bases=[[0, 0, 1], [8, 0, 0], [0, 1, 0], [0, 2, 0], [0, 4, 0], [0, 8, 0]],
        lane_bases=[[0, 0, 2], [0, 0, 4], [1, 0, 0], [2, 0, 0], [4, 0, 0]],
        warp_bases=[[16, 0, 0], [32, 0, 0]],
        block_bases=[],
        shape=[queries, keys // 8, 8],
    )
    score_row: gl.constexpr = gl.SliceLayout(1, score_layout)
    total_row: gl.constexpr = gl.SliceLayout(1, total_layout)
    program = gl.program_id(0)
    unit, split, part_number = program, 1, 0
    if program >= whole:
        unit = whole + (program - whole) // parts
        split = parts
        part_number = (program - whole) % parts
    across = (rows + queries - 1) // queries
    line = unit // across
    first = (unit - line * across) * queries
    sequence, head = line // heads, line % heads
    length = gl.load(lengths + sequence)
    if first < length:
        tiles = (length + keys - 1) // keys
        start = part_number * tiles // split
        count = (part_number + 1) * tiles // split - start
        base = sequence * rows
        row = base + start * keys
        left = length - start * keys
        column = head * size
        query_tile = gl.allocate_shared_memory(key.dtype, [queries, size], query.layout)
        key_tiles = gl.allocate_shared_memory(key.dtype, [stages, keys, size], key.layout)
        value_tiles = gl.allocate_shared_memory(key.dtype, [stages, keys, size], value.layout)
        here = gl.allocate_shared_memory(gl.int64, [2 * stages + 1, 1], mbarrier.MBarrierLayout())
        for i in gl.static_range(2 * stages + 1):
            mbarrier.init(here.index(i), count=1)
        # what is above does not depend on the kernel before this one, and is done while that one ends
        gdc_wait()
        _fetch(query, base + first, column, here.index(2 * stages), query_tile, True)
        for i in gl.static_range(stages):
            _fetch(key, row + i * keys, column, here.index(i), key_tiles.index(i), i < count)
            _fetch(value, row + i * keys, column, here.index(stages + i), value_tiles.index(i), i < count)
        mbarrier.wait(here.index(2 * stages), 0)
        top = gl.full((queries,), -float("inf"), dtype=gl.float32, layout=score_row)
        weights = gl.zeros((queries, 8), dtype=gl.float32, layout=gl.SliceLayout(1, folds))
        total = gl.zeros((queries, size), dtype=gl.float32, layout=total_layout)
        if count > 0:
            mbarrier.wait(here.index(0), 0)
            nothing = gl.zeros((queries, keys), dtype=gl.float32, layout=score_layout)
            score = warpgroup_mma(query_tile, key_tiles.index(0).permute((1, 0)), nothing, use_acc=False, is_async=True)
            score = warpgroup_mma_wait(num_outstanding=0, deps=(score,))
            _fetch(key, row + stages * keys, column, here.index(0), key_tiles.index(0), count > stages)
            part, top, fade, weights = _softmax(score, top, weights, left, queries, keys, score_layout, folds, True)
            half = gl.convert_layout(part.to(key.dtype), part_layout)
            for tile in range(1, count - 1):
                half, total, top, weights, fade = _tile(
                    query_tile, key, value, key_tiles, value_tiles, here, tile, count - 1 - tile, row + tile * keys, column, half, total,
                    top, weights, fade, left - tile * keys, queries, keys, stages, score_layout, part_layout, total_layout, folds, False,
                )  # fmt: skip
            if count > 1:
                tile = count - 1
                half, total, top, weights, fade = _tile(
                    query_tile, key, value, key_tiles, value_tiles, here, tile, 0, row + tile * keys, column, half, total,
                    top, weights, fade, left - tile * keys, queries, keys, stages, score_layout, part_layout, total_layout, folds, True,
                )  # fmt: skip
            last = count - 1
            total = total * gl.expand_dims(gl.convert_layout(fade, total_row), 1)
            mbarrier.wait(here.index(stages + last % stages), (last // stages) & 1)
            total = warpgroup_mma(half, value_tiles.index(last % stages), total, is_async=True)
            total = warpgroup_mma_wait(num_outstanding=0, deps=(total,))
        for i in gl.static_range(2 * stages + 1):
            mbarrier.invalidate(here.index(i))
        weight = gl.convert_layout(gl.sum(weights, axis=1), score_row)
        along = gl.arange(0, queries, layout=total_row)
        lane = gl.arange(0, size, layout=gl.SliceLayout(0, total_layout))
        done = True
        if split > 1:
            inside = gl.expand_dims(along * size, 1) + gl.expand_dims(lane, 0)
            line_row = gl.arange(0, queries, layout=score_row)
            ours = partial + (unit - whole) * parts * (queries * (size + 2))
            mine = ours + part_number * (queries * (size + 2))
            gl.store(mine + inside, total)
            gl.store(mine + queries * size + line_row, top)
            gl.store(mine + queries * (size + 1) + line_row, weight)
            gl.thread_barrier()
            done = gl.atomic_add(arrived + unit - whole, 1, sem="acq_rel", scope="gpu") == split - 1
            if done:
                # the last to come joins all, in the order of keys, so that the sum has the same bits whoever that is
                gl.thread_barrier()
                gl.store(arrived + unit - whole, 0)
                top = gl.full((queries,), -1e30, dtype=gl.float32, layout=score_row)
                weight = gl.zeros((queries,), dtype=gl.float32, layout=score_row)
                total = gl.zeros((queries, size), dtype=gl.float32, layout=total_layout)
                for _ in range(split):
                    other = gl.load(ours + queries * size + line_row, cache_modifier=".cg")
                    high = gl.maximum(top, other)
                    fade, gain = gl.exp2(top - high), gl.exp2(other - high)
                    weight = weight * fade + gain * gl.load(ours + queries * (size + 1) + line_row, cache_modifier=".cg")
                    total = total * gl.expand_dims(gl.convert_layout(fade, total_row), 1)
                    total += gl.load(ours + inside, cache_modifier=".cg") * gl.expand_dims(gl.convert_layout(gain, total_row), 1)
                    top = high
                    ours += queries * (size + 2)
        if done:
            result = (total * gl.expand_dims(gl.convert_layout(1.0 / weight, total_row), 1)).to(key.dtype)
            place = out + gl.expand_dims(((base + first + along) * heads + head) * size, 1) + gl.expand_dims(lane, 0)
            gl.store(place, result, mask=gl.expand_dims(first + along < rows, 1))


def suits(query: Tensor, multiprocessors: int) -> bool:
    """Whether this is the faster way for so many rows: there are programs for every place of the card."""
    batch, rows, heads, _ = query.shape
    return bool(triton.cdiv(rows, _QUERIES) * batch * heads > _PLACES * multiprocessors)


def described(tensor: Tensor, block: int) -> TensorDescriptor:
    """(batch, rows, heads, size), each row in one piece, as tiles of `block` rows and one head."""
    batch, rows, heads, size = tensor.shape
    layout = gl.NVMMASharedLayout.get_default_for([block, size], gl.float16)
    return TensorDescriptor(tensor, [batch * rows, heads * size], [tensor.stride(1), 1], [block, size], layout)


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, partial: Tensor, arrived: Tensor, multiprocessors: int) -> Tensor:
    """Softmax attention of (batch, rows, heads, 64) over the first `lengths` rows of each sequence; rows behind a sequence's end mean nothing.

    Args:
        query: with the scale of `kernels_attention.query_scale`.
        key: keys.
        value: finite everywhere: what stands behind an end counts nothing, but is multiplied.
        lengths: (batch,) int32.
        partial: (multiprocessors, `PARTIAL`) FP32, where parts are kept until they are joined.
        arrived: (multiprocessors,) int32 zeros, and zeros again afterwards.
        multiprocessors: of the card.
    """
    batch, rows, heads, size = query.shape
    out = torch.empty((batch, rows, heads, size), device=query.device, dtype=query.dtype)
    units = triton.cdiv(rows, _QUERIES) * batch * heads
    whole, parts = divided(units, multiprocessors)
    tiles = (described(query, _QUERIES), described(key, _KEYS), described(value, _KEYS))
    sizes = (rows, whole, parts, heads, size, _QUERIES, _KEYS, _STAGES)
    grid = (whole + (units - whole) * parts,)
    _attention_kernel[grid](*tiles, lengths, out, partial, arrived, *sizes, num_warps=4, maxnreg=_REGISTERS, launch_pdl=True)
    return out
