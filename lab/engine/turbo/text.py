"""Upstream's text encoder for sequences in padded rows: each is computed as if it were alone and as long as its own frames."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.engine.turbo.convnext import Parts
from lab.engine.turbo.reading import Shape


def spread(tokens: int, frames: int) -> list[int]:
    """For each of `frames` frames the token it belongs to, as `TextEmbedding.average_upsample_text_by_mask` repeats them: the last ones once more."""
    if not tokens:
        return [0] * frames
    base, more = divmod(frames, tokens)
    index: list[int] = []
    for token in range(tokens):
        index += [token] * (base + (token >= tokens - more))
    return index[:frames]


def embed_text(encoder: Any, shape: Shape, ids: Tensor, index: Tensor, valid: Tensor | None, guided: bool, parts: Parts) -> Tensor:
    """Text embeddings, (2 · batch, rows, text dim): with the text, then without it; (batch, …) where there is no guidance.

    Args:
        encoder: upstream's `TextEmbedding`.
        shape: its switches.
        ids: (batch, rows) token numbers + 1, 0 where there is none.
        index: (batch, rows) the token of each frame, for encoders that spread their tokens over the frames.
        valid: (batch, rows, 1) which rows belong to a sequence; None: all.
        guided: with the second half.
        parts: the arithmetic of its blocks.
    """
    rows = ids.shape[1]
    filler = (ids == 0)[..., None]
    if guided:
        ids = torch.cat((ids, torch.zeros_like(ids)))
        filler = filler.repeat(2, 1, 1)
        index = index.repeat(2, 1)
        valid = None if valid is None else valid.repeat(2, 1, 1)
    hidden = F.embedding(ids, encoder.text_embed.weight)
    blank = filler if shape.mask_text else None if valid is None else ~valid
    if encoder.extra_modeling:
        hidden = hidden + encoder.freqs_cis[:rows]
        kept = None if blank is None else ~blank
        for block in encoder.text_blocks:
            # rows that are blank are read as zeros by the next block, and are zeros at the end; what stands in them meanwhile does not count
            inner = parts.responded(
                F.linear(parts.depthwise(hidden, block, kept), block.pwconv1.weight, block.pwconv1.bias), block.grn, valid
            )
            hidden = hidden + block.pwconv2(inner)
        if shape.mask_text:
            hidden = hidden.masked_fill(filler, 0.0)
    if shape.upsample_text:
        some = ~filler.all(dim=1, keepdim=True)  # a text without tokens says nothing
        hidden = torch.gather(hidden, 1, index[..., None].expand(-1, -1, hidden.shape[-1])) * some
    return hidden if valid is None else torch.where(valid, hidden, 0.0)
