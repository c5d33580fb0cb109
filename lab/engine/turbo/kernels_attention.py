"""Attention on a card over rows of which only the first so many belong to a sequence: lengths stay on the device, so that one graph serves all."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

#: Queries and keys of a tile, warps, stages of the pipeline: the fastest of twelve tried on an H200 (43 µs at 2 × 16 heads of 1,408 rows; 48 without
#: the tensor memory accelerator, 83 by torch's kernel that takes lengths, 73 by cuDNN's with a mask).
BLOCKS = (64, 128, 4, 2)


def query_scale(size: int) -> float:
    """What `heads` multiplies queries by: the softmax's usual scale, in powers of two, which exponentials are made of; so it costs no rounding more."""
    return float(size**-0.5 / math.log(2))


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
    value_column: tl.constexpr,
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
    whole = length // keys * keys
    for start in range(0, whole, keys):
        score = tl.dot(q, key.load([base + start, column]).T)
        high = tl.maximum(top, tl.max(score, axis=1))
        part = tl.exp2(score - high[:, None])
        fade = tl.exp2(top - high)
        weight = weight * fade + tl.sum(part, axis=1)
        total = tl.dot(part.to(q.dtype), value.load([base + start, value_column + column]), total * fade[:, None])
        top = high
    if whole < length:
        # what stands behind the end is selected away from scores and from values: zero times NaN would be NaN
        seen = whole + tl.arange(0, keys) < length
        score = tl.where(seen[None], tl.dot(q, key.load([base + whole, column]).T), -float("inf"))
        high = tl.maximum(top, tl.max(score, axis=1))
        part = tl.exp2(score - high[:, None])
        fade = tl.exp2(top - high)
        weight = weight * fade + tl.sum(part, axis=1)
        last = tl.where(seen[:, None], value.load([base + whole, value_column + column]), 0.0)
        total = tl.dot(part.to(q.dtype), last, total * fade[:, None])
    row = first + tl.arange(0, queries)
    place = out + ((base + row) * heads + head)[:, None] * size + tl.arange(0, size)[None]
    tl.store(place, (total / weight[:, None]).to(out.dtype.element_ty), mask=(row < rows)[:, None])


def _described(tensor: Tensor, block: int, size: int) -> TensorDescriptor:
    """(batch, rows, columns) as tiles of `block` rows and one head."""
    batch, rows, columns = tensor.shape
    return TensorDescriptor(tensor, [batch * rows, columns], [columns, 1], [block, size])


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention of (batch, rows, heads, head size) over the first `lengths` keys of each sequence; rows behind a sequence's end mean nothing.

    `query` is what `heads` gives, with its scale; `value` is the last third of a (batch, rows, 3, heads, head size) tensor.
    """
    batch, rows, heads, size = query.shape
    width = heads * size
    out = torch.empty_like(query)
    queries, keys, warps, stages = BLOCKS
    whole = value.as_strided((batch, rows, 3 * width), (rows * 3 * width, 3 * width, 1), value.storage_offset() - 2 * width)
    described = (_described(query.flatten(2), queries, size), _described(key.flatten(2), keys, size), _described(whole, keys, size))
    grid = (triton.cdiv(rows, queries), batch * heads)
    _attention_kernel[grid](*described, lengths, out, rows, heads, size, 2 * width, queries, keys, num_warps=warps, num_stages=stages)
    return out


def attend_masked(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor:
    """`attend` by torch's own kernels, of queries from `heads`."""
    found = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask, scale=math.log(2)
    )
    return found.transpose(1, 2)
