"""The arithmetic of one solver step on rows of frames: functions of tensors alone, so that a graph can hold them.

Sequences lie in (batch, rows, dim); `valid`, (batch, rows, 1), says which rows belong to one, None that all do. Rows that do not are set to zero
wherever a neighbour could see them, by selection and not by multiplication, so that nothing that stood in them can reach a result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.engine.turbo.reading import Block, Position, Shape


def rotary_table(inverse_frequencies: Tensor, rows: int) -> Tensor:
    """Cosines and sines of all positions, (2, rows, head size / 2), FP32."""
    angles = torch.outer(torch.arange(rows, device=inverse_frequencies.device, dtype=torch.float32), inverse_frequencies)
    return torch.stack((angles.cos(), angles.sin()))


def _normed(x: Tensor, weight: Tensor) -> Tensor:
    """RMS norm over the last dimension, in fewer passes than torch's on a CPU."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * torch.rsqrt(length * length / x.shape[-1] + 1e-6) * weight


def heads(qkv: Tensor, q_norm: Tensor | None, k_norm: Tensor | None, table: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Queries and keys, normalised and rotated, (batch, rows, heads, head size), from (batch, rows, 3, heads, head size)."""
    both = qkv[:, :, :2].float()
    if q_norm is not None and k_norm is not None:
        both = _normed(both, torch.stack((q_norm, k_norm)).float()[:, None])
    # neighbouring pairs are turned by their position's angle, which is a product of complex numbers
    turned, rest = both[..., : shape.rotary_heads, :], both[..., shape.rotary_heads :, :]
    turns = torch.complex(table[0], table[1])[:, None, None]
    pairs = torch.view_as_complex(turned.unflatten(-1, (-1, 2)))
    turned = torch.view_as_real(pairs * turns).flatten(-2)
    both = (torch.cat((turned, rest), dim=-2) if rest.shape[-2] else turned).to(qkv.dtype)
    return both[:, :, 0], both[:, :, 1]


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`x` normalised over its last dimension, times `scale`, plus `shift`, both (dim,): one time for all rows makes AdaLN an affine layer norm."""
    return F.layer_norm(x.float(), (x.shape[-1],), scale, shift, 1e-6).to(x.dtype)


def residual(x: Tensor, change: Tensor, gate: Tensor, shift: Tensor, scale: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """What a branch adds to `x`, and the next branch's input: both as wide as `x`."""
    x = torch.addcmul(x.float(), gate, change.float()).to(x.dtype)
    if valid is not None:
        x = torch.where(valid, x, 0.0)
    return x, modulated(x, shift, scale)


residual_last = residual  # that of a block's second branch, behind which the next block's projection comes


def entered(noise: Tensor, weight: Tensor, rest: Tensor, valid: Tensor | None) -> Tensor:
    """The input embedding before its convolution: `noise`, (batch, rows, wide), by its `weight`, plus what stays the same, (1 or 2 · batch, rows, dim)."""
    branches = rest.shape[0] // noise.shape[0]
    joined = (rest.unflatten(0, (branches, -1)) + F.linear(noise, weight)).flatten(0, 1)
    return joined if valid is None else torch.where(valid, joined, 0.0)


def positioned(hidden: Tensor, position: Position, valid: Tensor | None, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The input embedding with its position, and the first block's input."""
    x = hidden.transpose(1, 2)
    across = None if valid is None else valid.transpose(1, 2)
    for layer in position.modules:
        x = layer(x)
        x = F.mish(x if across is None else torch.where(across, x, 0.0))
    x = hidden + x.transpose(1, 2)
    return x, modulated(x, shift, scale)


def euler(x: Tensor, flow: Tensor, width: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor]:
    """One step: `x`, (batch, rows, mel) FP32, and the same as the next product wants it (`product_input`).

    `flow`, (1 or 2 · batch, rows, at least mel): with the text and, in its second half, without it; `guidance` pushes them apart.
    """
    velocity = flow[..., : x.shape[-1]].float()
    if velocity.shape[0] != x.shape[0]:
        told, untold = velocity.chunk(2)
        velocity = told + (told - untold) * guidance
    x = x + width * velocity
    return x, product_input(x, flow.dtype, flow.shape[-1])


def product_input(x: Tensor, dtype: torch.dtype, wide: int) -> Tensor:
    """`x` in `dtype`, its last dimension filled up to `wide` with zeros."""
    return F.pad(x.to(dtype), (0, wide - x.shape[-1])) if wide != x.shape[-1] else x.to(dtype)


def taken_apart(
    qkv: Tensor, block: Block, table: Tensor, shape: Shape, heads: Callable[..., tuple[Tensor, Tensor]] = heads
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (batch, rows, heads, head size), for `attention`, from a block's product, (batch, rows, 3 · heads · head size)."""
    qkv = qkv.unflatten(-1, (3, shape.heads, shape.head_dim))
    return (*heads(qkv, block.q_norm, block.k_norm, table, shape), qkv[:, :, 2])


def project(x: Tensor, block: Block, table: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values from a block's input."""
    return taken_apart(F.linear(x, block.qkv_weight, block.qkv_bias), block, table, shape)


def attention(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention of (batch, rows, heads, head size).

    Args:
        query: from `project` or `heads`.
        key: from there, too.
        value: finite everywhere.
        lengths: (batch,) how many rows of each sequence are attended to.
        mask: (batch, 1, 1, rows) the same; None: all.
    """
    found = F.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask)
    return found.transpose(1, 2)
