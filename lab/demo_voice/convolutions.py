"""Upstream's convolutions as products that a card does fast.

`Conv1d` with groups as small as here took a fifth of a step on an H200 (22.8 ms, of rows of 2,080 frames; 18.8 ms without); as products of blocks of frames,
and as sums of shifted channels, which the compiler joins with what stands around them, they cost little. The values are the same but for rounding, and the
parameters stay upstream's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

_BLOCK = 16  # frames of a product; every length of rows is a multiple


def grouped(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int) -> torch.Tensor:
    """`Conv1d` with groups, an odd kernel of at most 33, and as many frames out as in.

    Args:
        x: (batch, frames, channels), frames a multiple of 16.
        weight: (channels, channels / groups, kernel), as of `Conv1d`.
        bias: (channels,).
        groups: Of channels; none sees another.

    Returns:
        (batch, frames, channels).
    """
    batch, frames, channels = x.shape
    kernel, each = weight.shape[2], channels // groups
    beside, seen = kernel // 2, _BLOCK + kernel - 1
    # what a block of frames sees: itself, and half a kernel on both sides
    blocks = F.pad(x, (0, 0, _BLOCK, _BLOCK)).view(batch, -1, _BLOCK, channels)
    window = torch.cat([blocks[:, :-2, _BLOCK - beside :], blocks[:, 1:-1], blocks[:, 2:, :beside]], dim=2)
    window = window.view(batch, -1, seen, groups, each).permute(3, 0, 1, 2, 4).reshape(groups, -1, seen * each)
    # from what is seen to each frame of the block: the kernel, one frame further down for each (rows of one more than `seen`, read as rows of `seen`)
    taps = weight.view(groups, each, each, kernel).permute(0, 3, 2, 1)  # group, tap, in, out
    taps = F.pad(taps, (0, 0, 0, 0, 0, seen + 1 - kernel))
    rows = taps[:, None].expand(-1, _BLOCK, -1, -1, -1).reshape(groups, -1, each, each)[:, : _BLOCK * seen]
    matrix = rows.view(groups, _BLOCK, seen, each, each).permute(0, 2, 3, 1, 4).reshape(groups, seen * each, _BLOCK * each)
    made = torch.bmm(window, matrix).view(groups, batch, -1, _BLOCK, each)
    return made.permute(1, 2, 3, 0, 4).reshape(batch, frames, channels) + bias


def of_each_channel(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`Conv1d` of each channel by itself, with an odd kernel: x (batch, frames, channels), weight (channels, 1, kernel), bias (channels,); as `x`."""
    kernel, frames = weight.shape[2], x.shape[1]
    padded = F.pad(x, (0, 0, kernel // 2, kernel // 2))
    made = bias.to(x.dtype)
    for tap in range(kernel):
        made = made + padded[:, tap : tap + frames] * weight[:, 0, tap].to(x.dtype)
    return made


def _of_position(self: Any, x: torch.Tensor, mask: None = None) -> Any:
    """Instead of `ConvPositionEmbedding.forward`, without a mask."""
    for layer in self.conv1d:
        is_convolution = isinstance(layer, torch.nn.Conv1d)
        x = grouped(x, layer.weight, layer.bias, layer.groups) if is_convolution else layer(x)
    return x


def _of_text(self: Any, x: torch.Tensor) -> Any:
    """Instead of `ConvNeXtV2Block.forward`."""
    made = self.norm(of_each_channel(x, self.dwconv.weight, self.dwconv.bias))
    return x + self.pwconv2(self.grn(self.act(self.pwconv1(made))))


def replace(transformer: Any) -> None:
    """Let a DiT of upstream's convolve this way."""
    position = transformer.input_embed.conv_pos_embed
    position.forward = _of_position.__get__(position)
    for block in getattr(transformer.text_embed, "text_blocks", ()):
        block.forward = _of_text.__get__(block)
