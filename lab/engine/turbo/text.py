"""Upstream's text encoder for sequences in padded rows: each is computed as if it were alone and as long as its own frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lab.engine.turbo.convnext import Parts
from lab.engine.turbo.reading import Shape


def spread(index: NDArray[np.int32], tokens: int) -> None:
    """Write to each frame of `index`, (frames,) zeros, the token it belongs to, as `TextEmbedding.average_upsample_text_by_mask` repeats them.

    The last ones are repeated once more than the others where it does not come out even.
    """
    if tokens:
        base, more = divmod(len(index), tokens)
        first = tokens - more
        index[: first * base] = np.arange(first, dtype=np.int32).repeat(base)
        index[first * base :] = np.arange(first, tokens, dtype=np.int32).repeat(base + 1)


def embed_text(encoder: Any, shape: Shape, ids: Tensor, index: Tensor, valid: Tensor | None, guided: bool, parts: Parts) -> Tensor:
    """Text embeddings, (2 · batch, rows, text dim): with the text, then without it; (batch, …) where there is no guidance. Rows of no sequence mean nothing.

    Args:
        encoder: upstream's `TextEmbedding`.
        shape: its switches.
        ids: (batch, rows) token numbers + 1, 0 where there is none.
        index: (batch, rows) the token of each frame, for encoders that spread their tokens over the frames.
        valid: (1 or 2 · batch, rows, 1) which rows belong to a sequence; None: all.
        guided: with the second half.
        parts: the arithmetic of its blocks.
    """
    rows = ids.shape[1]
    halves = 2 if guided else 1
    told = (ids != 0)[..., None].repeat(halves, 1, 1) if shape.mask_text else None  # where a token stands
    kept = valid if told is None else told
    if guided:
        ids = torch.cat((ids, torch.zeros_like(ids)))
    hidden = F.embedding(ids, encoder.text_embed.weight)
    if encoder.extra_modeling:
        hidden = hidden + encoder.freqs_cis[:rows]
        for block in encoder.text_blocks:
            # rows that are not kept are read as zeros by the next block, and are zeros at the end; what stands in them meanwhile does not count
            inner = parts.responded(
                F.linear(parts.depthwise(hidden, block, kept), block.pwconv1.weight, block.pwconv1.bias), block.grn, valid
            )
            hidden = hidden + block.pwconv2(inner)
        if told is not None:
            hidden = torch.where(told, hidden, 0.0)
    if shape.upsample_text:
        assert told is not None, "upstream spreads only where it masks"
        some = told.any(dim=1, keepdim=True)  # a text without tokens says nothing
        index = index.long().repeat(halves, 1)
        hidden = torch.gather(hidden, 1, index[..., None].expand(-1, -1, hidden.shape[-1])) * some
    return hidden
