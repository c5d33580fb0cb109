"""Attention on a card over rows of which only the first so many belong to a sequence: lengths stay on the device, so that one graph serves all."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from lab.engine.turbo.arithmetic import taken_apart
from lab.engine.turbo.reading import Block, Shape

#: Queries and keys of a tile, warps, stages of the pipeline: the fastest of twelve tried on an H200 (41 µs at 2 × 16 heads of 1,408 rows; 48 without
#: the tensor memory accelerator, 83 by torch's kernel that takes lengths, 73 by cuDNN's with a mask).
BLOCKS = (64, 128, 4, 2)


def query_scale(size: int) -> float:
    """What `heads` multiplies queries by: the softmax's usual scale, in powers of two, which exponentials are made of; so it costs no rounding more."""
    return float(size**-0.5 / math.log(2))


@triton.jit(do_not_specialize=("rows", "total"))
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
    query, key = (torch.empty((*qkv.shape[:2], shape.heads, shape.head_dim), device=qkv.device, dtype=qkv.dtype) for _ in range(2))
    total, block = qkv.shape[0] * qkv.shape[1], 32
    sizes = (shape.heads, shape.rotary_heads, shape.head_dim, query_scale(shape.head_dim), q_norm is not None, block)
    grid = (triton.cdiv(total * shape.heads, block), 2)
    _heads_kernel[grid](qkv, query, key, q_norm, k_norm, table, qkv.shape[1], total, *sizes, num_warps=2)
    return query, key


def project(x: Tensor, block: Block, table: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values from a block's input."""
    return taken_apart(F.linear(x, block.qkv_weight, block.qkv_bias), block, table, shape, heads)


@triton.jit(do_not_specialize=("rows",))
def _attention_kernel(
    query,
    key,
    value,
    lengths,
    out,
    rows,
    heads: tl.constexpr,
    size: tl.constexpr,
    queries: tl.constexpr,
    keys: tl.constexpr,
):
    """`queries` rows of one head of one sequence against its keys; `query`, `key` and `value` describe (batch · rows, columns)."""
    line = tl.program_id(1)
    sequence, head = line // heads, line % heads
    length = tl.load(lengths + sequence)
    first = tl.program_id(0) * queries
    if first >= length:
        return
    base = sequence * rows
    column = head * size
    q = query.load([base + first, column])
    top = tl.full((queries,), -float("inf"), dtype=tl.float32)
    weight = tl.zeros((queries,), dtype=tl.float32)
    total = tl.zeros((queries, size), dtype=tl.float32)
    for start in range(0, length, keys):
        score = tl.dot(q, key.load([base + start, column]).T)
        if start + keys > length:
            score = tl.where((start + tl.arange(0, keys) < length)[None], score, -float("inf"))
        high = tl.maximum(top, tl.max(score, axis=1))
        part = tl.exp2(score - high[:, None])
        fade = tl.exp2(top - high)
        weight = weight * fade + tl.sum(part, axis=1)
        total = tl.dot(part.to(q.dtype), value.load([base + start, column]), total * fade[:, None])
        top = high
    row = first + tl.arange(0, queries)
    place = out + ((base + row) * heads + head)[:, None] * size + tl.arange(0, size)[None]
    tl.store(place, (total * (1.0 / weight)[:, None]).to(out.dtype.element_ty), mask=(row < rows)[:, None])


def _described(tensor: Tensor, block: int) -> TensorDescriptor:
    """(batch, rows, heads, size), each row in one piece, as tiles of `block` rows and one head."""
    batch, rows, heads, size = tensor.shape
    return TensorDescriptor(tensor, [batch * rows, heads * size], [tensor.stride(1), 1], [block, size])


def attention(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention of (batch, rows, heads, head size) over the first `lengths` rows of each sequence; rows behind a sequence's end mean nothing.

    `query` has the scale that `heads` gives it; `value` is finite everywhere: what stands behind an end counts nothing, but is multiplied.
    """
    batch, rows, heads, size = query.shape
    out = torch.empty((batch, rows, heads, size), device=query.device, dtype=query.dtype)
    queries, keys, warps, stages = BLOCKS
    tiles = (_described(query, queries), _described(key, keys), _described(value, keys))
    grid = (triton.cdiv(rows, queries), batch * heads)
    _attention_kernel[grid](*tiles, lengths, out, rows, heads, size, queries, keys, num_warps=warps, num_stages=stages)
    return out


def attention_masked(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor:
    """`attention` by torch's own kernels, of queries from `heads`."""
    found = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask, scale=math.log(2)
    )
    return found.transpose(1, 2)
